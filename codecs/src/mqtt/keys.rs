//! Which keys somebody wants, and filling them.

use super::NAME;
use super::connect::Connect;
use super::packet::{Fixed, Packet};
use super::properties::Properties;
use super::session::Session;
use super::subscribe::Filter;
use super::wire::Text;
use crate::codec::KeySpec;
use crate::frame::Kind;
use crate::interest::{Interest, Slot};
use crate::metadata::Metadata;
use crate::shared::{self, SharedSlots};

/// The family of user properties.
pub(super) const USER: &str = "user-property.";

pub(super) const KEYS: &[KeySpec] = &[
    shared::PROTOCOL,
    shared::KIND,
    shared::METHOD,
    shared::SIZE,
    KeySpec::key("packet", "the type of packet: connect, publish, subscribe, …", "publish"),
    KeySpec::key("version", "the version of MQTT: 3.1, 3.1.1 or 5.0; of any packet", "3.1.1"),
    KeySpec::key(
        "client-id",
        "the client's identifier, as CONNECT has it; of any packet",
        "pump-7",
    ),
    KeySpec::key("username", "the user that CONNECT names; of any packet", "sensor"),
    KeySpec::key("clean-start", "connect: present where no old session is wanted", "true"),
    KeySpec::key("keep-alive", "connect: seconds, 0 for none", "60"),
    KeySpec::key("will.topic", "connect: where a lost client's will is published", "pumps/7/lost"),
    KeySpec::key("will.qos", "connect: the will's QoS", "1"),
    KeySpec::key("will.retain", "connect: present where the will is retained", "true"),
    KeySpec::key(
        "topic",
        "publish: the topic, aliases resolved; subscribe, unsubscribe: each filter, without $share",
        "pumps/7/state",
    ),
    KeySpec::key("share-name", "subscribe, unsubscribe: who shares the subscription", "workers"),
    KeySpec::key("qos", "publish: the QoS; subscribe: the highest wanted", "1"),
    KeySpec::key("retain", "publish: present where it is retained", "true"),
    KeySpec::key("dup", "publish: present where it was sent before", "true"),
    KeySpec::family(
        USER,
        "connect, publish, subscribe, unsubscribe of 5.0: repeated ones joined by commas",
        "user-property.tenant",
    ),
];

/// Slots, resolved once per config.
pub(super) struct Keys {
    shared: SharedSlots,
    /// `packet` and `method` are one value.
    packets: Vec<Slot>,
    version: Option<Slot>,
    pub(super) client_id: Option<Slot>,
    pub(super) username: Option<Slot>,
    clean_start: Option<Slot>,
    keep_alive: Option<Slot>,
    will_topic: Option<Slot>,
    will_qos: Option<Slot>,
    will_retain: Option<Slot>,
    topic: Option<Slot>,
    share_name: Option<Slot>,
    qos: Option<Slot>,
    retain: Option<Slot>,
    dup: Option<Slot>,
    users: Vec<(Box<str>, Slot)>,
    everything: bool,
}

impl Keys {
    pub(super) fn new(interest: &Interest) -> Self {
        let shared = SharedSlots::new(interest);
        Self {
            packets: interest.slot("packet").into_iter().chain(shared.method).collect(),
            shared,
            version: interest.slot("version"),
            client_id: interest.slot("client-id"),
            username: interest.slot("username"),
            clean_start: interest.slot("clean-start"),
            keep_alive: interest.slot("keep-alive"),
            will_topic: interest.slot("will.topic"),
            will_qos: interest.slot("will.qos"),
            will_retain: interest.slot("will.retain"),
            topic: interest.slot("topic"),
            share_name: interest.slot("share-name"),
            qos: interest.slot("qos"),
            retain: interest.slot("retain"),
            dup: interest.slot("dup"),
            users: interest.family(USER),
            everything: interest.wants_everything(),
        }
    }

    /// What is known of any packet, whoever wrote it.
    pub(super) fn fill(&self, fixed: &Fixed, kind: Kind, meta: &mut Metadata) {
        self.shared.fill(meta, NAME, kind, Some(fixed.total as u64));
        for slot in &self.packets {
            meta.set_static(*slot, fixed.packet.as_str());
        }
        if fixed.packet == Packet::Publish {
            number(self.qos, fixed.qos().into(), meta);
            flag(self.retain, fixed.retain(), meta);
            flag(self.dup, fixed.dup(), meta);
        }
    }

    /// What CONNECT said of the client, for the packets after it.
    pub(super) fn fill_session(&self, session: &Session, meta: &mut Metadata) {
        if let Some(slot) = self.version {
            meta.set_static(slot, session.version.as_str());
        }
        for (slot, value) in
            [(self.client_id, &session.client_id), (self.username, &session.username)]
        {
            if let (Some(slot), Some(value)) = (slot, value) {
                meta.set_text(slot, value);
            }
        }
    }

    pub(super) fn fill_connect(&self, connect: &Connect<'_>, meta: &mut Metadata) {
        if let Some(slot) = self.version {
            meta.set_static(slot, connect.version.as_str());
        }
        if !connect.client_id.bytes.is_empty() {
            span(self.client_id, connect.client_id, meta);
        }
        if let Some(username) = connect.username {
            span(self.username, username, meta);
        }
        flag(self.clean_start, connect.clean_start, meta);
        number(self.keep_alive, connect.keep_alive, meta);
        if let Some(will) = connect.will {
            span(self.will_topic, will.topic, meta);
            number(self.will_qos, will.qos.into(), meta);
            flag(self.will_retain, will.retain, meta);
        }
    }

    /// A topic's name, where it stands in the packet.
    pub(super) fn fill_topic(&self, topic: Text<'_>, meta: &mut Metadata) {
        span(self.topic, topic, meta);
    }

    /// A topic's name that an alias stands for.
    pub(super) fn fill_alias(&self, topic: &[u8], meta: &mut Metadata) {
        if let Some(slot) = self.topic {
            meta.set_text(slot, topic);
        }
    }

    /// One filter, in the place of the one before it.
    pub(super) fn fill_filter(&self, packet: Packet, filter: &Filter<'_>, meta: &mut Metadata) {
        span(self.topic, filter.topic, meta);
        match (self.share_name, filter.share) {
            (Some(slot), None) => meta.unset(slot),
            (_, Some(share)) => span(self.share_name, share, meta),
            (None, None) => {}
        }
        if let (Some(slot), Packet::Subscribe) = (self.qos, packet) {
            meta.set_static(slot, ["0", "1", "2"].get(usize::from(filter.qos)).unwrap_or(&"2"));
        }
    }

    /// `joined` is for values of repeated names; what it holds does not matter.
    pub(super) fn fill_users(
        &self,
        properties: &Properties,
        packet: &[u8],
        joined: &mut Vec<u8>,
        meta: &mut Metadata,
    ) {
        for (wanted, slot) in &self.users {
            let is = |name: Text<'_>| name.bytes.eq_ignore_ascii_case(wanted.as_bytes());
            let mut values =
                properties.users(packet).filter_map(|(name, value)| is(name).then_some(value));
            let Some(first) = values.next() else { continue };
            let Some(second) = values.next() else {
                span(Some(*slot), first, meta);
                continue;
            };
            joined.clear();
            joined.extend_from_slice(first.bytes);
            for value in std::iter::once(second).chain(values) {
                joined.push(b',');
                joined.extend_from_slice(value.bytes);
            }
            meta.set_text(*slot, joined);
        }
        if !self.everything {
            return;
        }
        for (name, value) in properties.users(packet) {
            let name = String::from_utf8_lossy(name.bytes);
            if !self.users.iter().any(|(wanted, _)| wanted.eq_ignore_ascii_case(&name)) {
                meta.push_extra(&format!("{USER}{name}"), value.bytes);
            }
        }
    }
}

fn span(slot: Option<Slot>, text: Text<'_>, meta: &mut Metadata) {
    if let Some(slot) = slot {
        meta.set_span(slot, text.at, text.bytes.len());
    }
}

fn number(slot: Option<Slot>, number: u16, meta: &mut Metadata) {
    if let Some(slot) = slot {
        meta.set_number(slot, number.into());
    }
}

/// Present where it is set, so that `retain = true` and `retain = false` are rules.
fn flag(slot: Option<Slot>, set: bool, meta: &mut Metadata) {
    if let (Some(slot), true) = (slot, set) {
        meta.set_static(slot, "true");
    }
}
