//! MQTT 3.1, 3.1.1 and 5.0. A session: CONNECT's route pairs the client with a broker.
//!
//! [`decoder`] reads the client's packets strictly, since rules judge them:
//! [`connect`] opens the session, [`publish`] and [`subscribe`] name topics,
//! [`session`] remembers what later packets lean on. [`broker`] only frames what
//! comes back. [`reply`] speaks for the proxy, [`rewrite`] changes user properties.

mod broker;
mod connect;
mod decoder;
mod health;
mod keys;
mod packet;
mod properties;
mod publish;
mod reply;
mod rewrite;
mod session;
mod subscribe;
mod wire;

use std::sync::Arc;

use crate::codec::{After, Codec, Decoder, Hop, KeySpec, Leave, Protocol, Side, known};
use crate::detect::{CERTAIN, Probe};
use crate::error::DecodeError;
use crate::frame::{Exchange, Fault, Head, ReplyTo};
use crate::health::{BadOption, HealthAsk, HealthCheck, HealthWay};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::mutation::{Change, Mutable, Unchangeable};

/// The name in configs and metadata.
const NAME: &str = "mqtt";

/// The protocol.
pub struct Mqtt;

const MUTABLE: &[Mutable] = &[Mutable {
    // Replies do not tell their version.
    reply: false,
    append: true,
    ..Mutable::family(keys::USER)
}];

impl Protocol for Mqtt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, prefix: &[u8]) -> Probe {
        let need = Probe::Maybe { need: prefix.len() + 1 };
        match prefix {
            [] => return need,
            [0x10, ..] => {}
            _ => return Probe::No,
        }
        let name = match wire::varint(prefix.get(1..).unwrap_or_default()) {
            // The shortest CONNECT: name, level, flags, keep-alive, empty client-id.
            wire::Varint::Is { value, len } if value >= 12 => prefix.get(1 + len..),
            wire::Varint::Short => return need,
            wire::Varint::Is { .. } | wire::Varint::Endless => return Probe::No,
        };
        let name = name.unwrap_or_default();
        let names: [&[u8]; 2] = [b"\0\x04MQTT", b"\0\x06MQIsdp"];
        match () {
            () if names.iter().any(|whole| name.starts_with(whole)) => {
                Probe::Yes { confidence: CERTAIN }
            }
            () if names.iter().any(|whole| whole.starts_with(name)) => need,
            () => Probe::No,
        }
    }

    fn exchange(&self) -> Exchange {
        Exchange::Session
    }

    fn keys(&self) -> &'static [KeySpec] {
        keys::KEYS
    }

    fn compile(&self, limits: &Limits, interest: &Interest) -> Arc<dyn Codec> {
        Arc::new(Compiled(Arc::new(decoder::Plan::new(limits, interest))))
    }

    /// Answers CONNECT with CONNACK and the end; PUBLISH, SUBSCRIBE and
    /// UNSUBSCRIBE with their acknowledgement, which refuses where the version has
    /// a way to, and nothing for QoS 0; both without an end, except that a PUBLISH
    /// which defines a topic alias cannot be left out.
    fn local_reply(
        &self,
        to: ReplyTo,
        _: &[u8],
        fault: Fault,
        why: &str,
        out: &mut Vec<u8>,
    ) -> After {
        reply::local(to, fault, why, out)
    }

    /// DISCONNECT with a reason in 5.0; nothing before.
    fn farewell(&self, opened: ReplyTo, fault: Fault, out: &mut Vec<u8>) {
        reply::farewell(opened, fault, out);
    }

    fn reject(&self, error: &DecodeError, out: &mut Vec<u8>) {
        reply::reject(error, out);
    }

    fn health_ways(&self) -> &'static [HealthWay] {
        const { &[HealthWay { name: NAME, options: &[], streams: false }] }
    }

    fn health(&self, _: &HealthAsk<'_>) -> Result<Arc<dyn HealthCheck>, BadOption> {
        Ok(Arc::new(health::Greeting))
    }

    fn mutable(&self) -> &'static [Mutable] {
        MUTABLE
    }

    /// Packets of 5.0 only. What a name is set to comes last.
    fn rewrite(
        &self,
        head: &Head,
        bytes: &[u8],
        _: &Hop,
        changes: &[Change<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Unchangeable> {
        rewrite::rewrite(head, bytes, changes, out)
    }

    /// Sessions live where the client was before.
    fn affinity(&self) -> Option<&'static str> {
        Some("client-id")
    }
}

struct Compiled(Arc<decoder::Plan>);

impl Codec for Compiled {
    fn decoder(&self, side: Side) -> Box<dyn Decoder> {
        match side {
            Side::Request => Box::new(decoder::ClientDecoder::new(self.0.clone())),
            Side::Reply => Box::new(broker::BrokerDecoder::new(self.0.clone())),
        }
    }

    fn retarget(&self, decoder: &mut dyn Decoder) -> bool {
        let Some(decoder) = known::<decoder::ClientDecoder>(decoder) else { return false };
        decoder.retarget(self.0.clone());
        true
    }

    /// Clients come back by themselves, and brokers keep what a session is owed.
    fn leave(&self, _: ReplyTo, _: &mut Vec<u8>) -> Leave {
        Leave::Farewell
    }
}

#[cfg(test)]
mod tests;
