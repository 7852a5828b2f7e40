//! The contract between a protocol and everything else.

use std::any::Any;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::answer::Answer;
use crate::detect::Probe;
use crate::error::DecodeError;
use crate::frame::{Exchange, Fault, Head, Profile, ReplyTo, Step};
use crate::health::{BadOption, Beat, HealthAsk, HealthCheck, HealthWay};
use crate::interest::Interest;
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::mutation::{Change, Mutable, Unchangeable};
use crate::seam::Seam;

/// Which end of a connection wrote the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client wrote them: requests.
    Request,
    /// The server wrote them: replies.
    Reply,
}

/// A metadata key that a codec can fill; the README's tables are made from these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// The key, or the prefix of a family ending in a dot (`header.`).
    pub name: &'static str,
    /// Whether `name` is a family's prefix and any name may follow it.
    pub family: bool,
    /// One phrase on what the value is.
    pub about: &'static str,
    /// A value as it looks in a rule.
    pub example: &'static str,
}

impl KeySpec {
    /// A key of fixed name.
    pub const fn key(name: &'static str, about: &'static str, example: &'static str) -> Self {
        Self { name, family: false, about, example }
    }

    /// A family of keys: `prefix` ends in a dot.
    pub const fn family(prefix: &'static str, about: &'static str, example: &'static str) -> Self {
        Self { name: prefix, family: true, about, example }
    }
}

/// What is known of the next hop when a message is written to it.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// What is being relayed: a request (to the upstream) or a reply (to the downstream).
    pub side: Side,
    /// The correlation id to write, for [`Exchange::Correlated`].
    pub id: Option<u64>,
    /// The downstream's address.
    pub source: Option<IpAddr>,
    /// Whether the downstream came over TLS.
    pub secure: bool,
    /// The request that a reply answers (for a request: itself).
    pub request: ReplyTo,
    /// The connection written to is closed after this message, and the message should say so.
    pub close: bool,
    /// The receiver cannot read the body's framing: it is left out
    /// ([`Step::Framing`]) and the body ends with the connection. Set by the
    /// engine from [`Protocol::needs_plain_body`].
    pub plain_body: bool,
    /// Requests: what is left of the time that the sender waits ([`Head::timeout`]), in
    /// milliseconds, to be written in its place; `None`: what it says stays.
    pub timeout: Option<u32>,
}

impl Hop {
    /// A hop of which nothing is known.
    pub const fn neutral(side: Side) -> Self {
        Self {
            side,
            id: None,
            source: None,
            secure: false,
            request: ReplyTo { id: 0, token: 0 },
            close: false,
            plain_body: false,
            timeout: None,
        }
    }
}

/// Dialects that a protocol may have, at most: whoever counts by them has so many places.
pub const DIALECTS: usize = 8;

/// What becomes of the downstream connection after a local reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It goes on.
    Keep,
    /// It is closed when the reply is written.
    Close,
}

/// A protocol: stateless, shared, registered by name ([`crate::Registry`]).
///
/// To add one, implement this and [`Decoder`] in a folder of its own and add
/// one line to the registry; nothing else in Polyport names a protocol.
pub trait Protocol: Send + Sync + 'static {
    /// The value of the metadata key `protocol`, and its name in configs.
    fn name(&self) -> &'static str;

    /// What people call the ways in which it is spoken, to be counted and shown apart
    /// (`http2`, `grpc`): [`Head::dialect`] is a position in this list, of which the first is
    /// the protocol's plain form. At most [`DIALECTS`]; empty, by default: it has one form.
    fn dialects(&self) -> &'static [&'static str] {
        &[]
    }

    /// The name of the dialect at this position; the protocol's own where there is none.
    fn dialect(&self, at: u8) -> &'static str {
        self.dialects().get(usize::from(at)).copied().unwrap_or(self.name())
    }

    /// The dialect of connections that carry many streams ([`Protocol::streams`]).
    fn stream_dialect(&self) -> u8 {
        0
    }

    /// What the first bytes of a connection say. Pure; may be called again with
    /// more bytes, and must then not contradict an earlier `No` or `Yes`.
    fn probe(&self, prefix: &[u8]) -> Probe;

    /// Whether a connection that begins so carries many streams (HTTP/2): each is
    /// then a connection of its own to the engine, decoded by
    /// [`Codec::stream_decoder`]. As pure and as steady as [`Protocol::probe`].
    fn streams(&self, _prefix: &[u8]) -> Probe {
        Probe::No
    }

    /// How requests and replies pair up.
    fn exchange(&self) -> Exchange;

    /// The statuses ([`Head::status`]) that a config's word names (`503`, `5xx`);
    /// `None`: the word means nothing here.
    fn statuses(&self, _word: &str) -> Option<RangeInclusive<u32>> {
        None
    }

    /// What a config calls a status, where that is not the number itself.
    fn status_word(&self, _status: u32) -> Option<&'static str> {
        None
    }

    /// The status that [`Protocol::local_reply`] tells of a fault with; 0 where
    /// [`Head::status`] has none.
    fn fault_status(&self, _to: ReplyTo, _fault: Fault) -> u32 {
        0
    }

    /// The keys that decoders of this protocol can fill.
    fn keys(&self) -> &'static [KeySpec];

    /// The protocol made ready for one config: keys resolved to slots, limits fixed.
    fn compile(&self, limits: &Limits, interest: &Interest) -> Arc<dyn Codec>;

    /// Bits of a correlation id that survive the wire; [`Exchange::Correlated`] only.
    fn id_bits(&self) -> u32 {
        64
    }

    /// Writes `id` over the correlation id of a head in place; [`Exchange::Correlated`] only.
    fn set_correlation(&self, _head: &mut [u8], _id: u64) {}

    /// Appends a head as the next hop should see it. `bytes` are the head's
    /// [`Head::len`] bytes. By default: the same bytes, with the hop's id.
    fn relay(&self, _head: &Head, bytes: &[u8], hop: &Hop, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(bytes);
        if let (Some(id), Some(head)) = (hop.id, out.get_mut(start..)) {
            self.set_correlation(head, id);
        }
    }

    /// Whether the requester cannot read a body framed by [`Step::Framing`]
    /// bytes, so that they are left out and the connection's end ends the body
    /// (HTTP/1.0).
    fn needs_plain_body(&self, _request: ReplyTo) -> bool {
        false
    }

    /// Appends the native error reply to a request that was understood but
    /// cannot be served. May append nothing where the protocol has no such reply;
    /// it must then answer [`After::Close`].
    ///
    /// `note` holds the bytes that the request's [`Head::note`] named.
    fn local_reply(
        &self,
        to: ReplyTo,
        note: &[u8],
        fault: Fault,
        why: &str,
        out: &mut Vec<u8>,
    ) -> After;

    /// Appends the direct answer that a route gives to a request; `None`, with
    /// nothing appended, where the protocol has no such answers: configs that ask
    /// for them are refused when they load.
    fn respond(&self, _to: ReplyTo, _answer: &Answer<'_>, _out: &mut Vec<u8>) -> Option<After> {
        None
    }

    /// The same request, to be answered by [`Protocol::local_reply`] or [`Protocol::respond`]
    /// with words that say that the connection ends ([`Leave::Reply`]). By default unchanged.
    fn last(&self, to: ReplyTo) -> ReplyTo {
        to
    }

    /// [`Exchange::Session`]: appends the last words to a client whose session,
    /// opened by `opened`, the proxy has to end. By default none.
    fn farewell(&self, _opened: ReplyTo, _fault: Fault, _out: &mut Vec<u8>) {}

    /// For a session that the request `opened` has begun and whose bytes pass as they are
    /// ([`crate::Lease::Session`]): what finds the place for the proxy's last words to its
    /// client. By default nothing: only the connection's end tells.
    fn seam(&self, _opened: ReplyTo) -> Option<Box<dyn Seam>> {
        None
    }

    /// Appends the native error reply to bytes that a request decoder refused;
    /// the connection is closed after it. By default nothing.
    fn reject(&self, _error: &DecodeError, _out: &mut Vec<u8>) {}

    /// The protocol's own status that [`Protocol::reject`] tells; 0 where it has none.
    fn reject_status(&self, _error: &DecodeError) -> u32 {
        0
    }

    /// Appends the reply to a message of kind [`crate::Kind::Heartbeat`] or
    /// [`crate::Kind::Local`] (all of its bytes are given).
    fn answer(&self, _head: &Head, _message: &[u8], _out: &mut Vec<u8>) {}

    /// Appends a liveness probe for an idle upstream connection; false where
    /// the protocol has none. `id` is the correlation id to use. Its reply is
    /// decoded as [`crate::Kind::HeartbeatReply`] or [`crate::Kind::Response`].
    fn heartbeat(&self, _id: u64, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// The ways in which its servers can be asked how they are, where there are others
    /// than [`Protocol::heartbeat`], which needs no options.
    fn health_ways(&self) -> &'static [HealthWay] {
        &[]
    }

    /// A check of servers' health, as a config asks for it. By default that of the
    /// heartbeat; without one, that there is a connection.
    ///
    /// # Errors
    /// Where an option's value cannot be used.
    fn health(&self, _ask: &HealthAsk<'_>) -> Result<Arc<dyn HealthCheck>, BadOption> {
        let mut probe = Vec::new();
        self.heartbeat(1, &mut probe);
        Ok(Beat::new(probe))
    }

    /// What of this protocol's messages the proxy can change; nothing by default.
    /// Configs that ask for more are refused when they load.
    fn mutable(&self) -> &'static [Mutable] {
        &[]
    }

    /// Why a key that [`Protocol::mutable`] seems to include cannot be changed all
    /// the same, and what to do instead; `None` where it can. Configs ask when they load.
    fn immutable(&self, _key: &str) -> Option<&'static str> {
        None
    }

    /// Appends a head as [`Protocol::relay`] does, with `changes` made to it.
    /// What is not changed stays byte by byte as it was, where the format
    /// allows. On an error nothing that was appended counts.
    ///
    /// # Errors
    /// Where this one message cannot take a change: not all of it is there, or
    /// it would pass a bound of the format.
    fn rewrite(
        &self,
        _head: &Head,
        _bytes: &[u8],
        _hop: &Hop,
        _changes: &[Change<'_>],
        _out: &mut Vec<u8>,
    ) -> Result<(), Unchangeable> {
        Err(Unchangeable("the protocol has nothing that can be changed"))
    }

    /// The key whose value keeps a client on one endpoint, for clusters that
    /// name no balance of their own (MQTT's `client-id`).
    fn affinity(&self) -> Option<&'static str> {
        None
    }

    /// The key that has to be wanted ([`Interest`]) for [`Head::timeout`] to be filled, where
    /// that means looking deeper into messages than framing does; `None`: it always is, or never.
    fn deadline(&self) -> Option<&'static str> {
        None
    }

    /// The profile of a downstream after `request` ([`crate::Lease::Profile`])
    /// succeeded. By default unchanged.
    fn advance(&self, profile: &Profile, _request: &[u8]) -> Profile {
        profile.clone()
    }
}

/// How the clients of a protocol learn that they are to open no more requests on their
/// connection ([`Codec::leave`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// There are no words for it: only the connection's end tells.
    Silent,
    /// By what was appended. Clients go when they have their replies.
    Told,
    /// The next reply says it ([`Hop::close`]), and the connection ends after it.
    Reply,
    /// A session, which may end between any two messages:
    /// [`Protocol::farewell`] says what there is to say, and clients come back by themselves.
    Farewell,
}

/// A [`Protocol`] compiled for one config. Shared by all connections of it.
pub trait Codec: Send + Sync {
    /// A decoder for one direction of one connection.
    fn decoder(&self, side: Side) -> Box<dyn Decoder>;

    /// A decoder for the requests of one stream of a connection that carries
    /// many (HTTP/2), which the proxy writes as HTTP/1.1 text. By default that of
    /// any request.
    fn stream_decoder(&self) -> Box<dyn Decoder> {
        self.decoder(Side::Request)
    }

    /// Asks a client to open no more requests on its connection, between two replies: for
    /// [`Leave::Told`], and for it alone, the words are appended. `spoke` is of the client's
    /// latest message, in whose version and writing they are to be. By default there are none.
    ///
    /// Only [`Exchange::Correlated`] may answer `Told`, as what is appended has no turn.
    fn leave(&self, _spoke: ReplyTo, _out: &mut Vec<u8>) -> Leave {
        Leave::Silent
    }

    /// Has a decoder that another codec of this protocol made go on by this one's keys
    /// and limits, with all that it knows of the connection. It stands before a head that
    /// it has not reported, whose bytes are given again from its first; or inside a body,
    /// and then what changes holds from the next head on.
    ///
    /// False, by default: it cannot. A new decoder then takes its place between messages.
    fn retarget(&self, _decoder: &mut dyn Decoder) -> bool {
        false
    }
}

/// For [`Codec::retarget`]: `decoder` as what it is, if it is a `D`.
pub fn known<D: Decoder>(decoder: &mut dyn Decoder) -> Option<&mut D> {
    (decoder as &mut dyn Any).downcast_mut()
}

/// Finds messages in one direction of one connection. Owns parse state only,
/// never bytes; does no I/O, never blocks, copies nothing but computed metadata
/// values, and never panics.
///
/// The contract, which `polyport_codecs::testing` checks for any codec:
/// - The buffer starts at the first byte not consumed by earlier steps. After
///   [`Step::Need`] the same bytes come again with more behind them; state may
///   remember how far it looked, so that no byte is scanned twice.
/// - Every split of the input gives the same messages, kinds, metadata and bytes.
/// - A message of at most [`Limits::whole`] bytes whose head is not rewritten by
///   [`Protocol::relay`] is reported as one head with [`crate::Body::None`], once it is
///   all there; so shared connections carry it in one piece.
/// - `meta` is cleared by the decoder when it begins a message, and complete when
///   it returns [`Step::Head`]; its spans point into that call's buffer.
/// - After an error the decoder is not called again.
pub trait Decoder: Send + Any {
    /// Says what the bytes buffered so far are. An empty buffer gives `Need(1)`
    /// (or `End`, where a body is over).
    fn decode(&mut self, buf: &[u8], meta: &mut Metadata) -> Result<Step, DecodeError>;

    /// A message about several things (the topics of one SUBSCRIBE) is judged by
    /// each: fills `meta` for the next of them and answers true, until there are
    /// no more. Called after [`Step::Head`] with the same buffer, for messages
    /// that are routed within a session; the message goes on only where every
    /// one of them may.
    fn another(&mut self, _buf: &[u8], _meta: &mut Metadata) -> bool {
        false
    }

    /// Reply side of ordered protocols: `request` was written on this
    /// connection, and a reply to it will come after those to earlier ones.
    /// By default replies do not depend on requests.
    fn expect(&mut self, _request: ReplyTo) {}

    /// Request side: what a new decoder for this connection has to be told ([`Decoder::recall`])
    /// to go on where this one is, between two messages; the bytes of the next that were
    /// looked at come again. The client may have another process next, of another version.
    /// `None`: it is in the middle of something that only it can go on with. By default
    /// there is nothing to tell, as most protocols' messages speak for themselves.
    fn memory(&self) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    /// Takes over what another decoder remembered; false where it cannot be read.
    fn recall(&mut self, memory: &[u8]) -> bool {
        memory.is_empty()
    }

    /// Whether [`Decoder::expect`] must be told of each request.
    fn wants_requests(&self) -> bool {
        false
    }

    /// The connection ended. `Ok(true)`: that is how the current message ends.
    /// `Ok(false)`: it ended between messages. An error: inside one.
    fn eof(&mut self, unread: &[u8]) -> Result<bool, DecodeError>;
}
