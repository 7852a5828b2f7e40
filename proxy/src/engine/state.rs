//! What the engine remembers of each connection and each request in flight.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use polyport_codecs::{Decoder, Head, Kind, Lease, Metadata, Outcome, ReplyTo, Seam};

use super::buffer::OutBuffer;
use super::fault::Fate;
use super::launch::Kept;
use super::leave::Leaving;
use super::pace::Pace;
use super::patience::SessionTimes;
use super::peer::Peer;
use super::pending::Waiting;
use super::report::{Joined, Track};
use super::slab::Key;
use crate::observe::access_log::Line;
use crate::observe::metrics::series::Port;

/// Names a downstream connection.
pub type DownId = Key<Box<Downstream>>;
/// Names an upstream connection.
pub type UpId = Key<Box<Upstream>>;
/// Names a request in flight.
pub type FlightId = Key<Box<Flight>>;

/// Either sort of connection, as the shell around the engine knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnId {
    /// A connection that a listener accepted.
    Down(DownId),
    /// A connection that the engine asked for.
    Up(UpId),
}

/// Index into the snapshot's protocols.
pub type ProtocolIndex = usize;

/// What a downstream connection is in the middle of.
pub enum DownState {
    /// Its protocol is not yet known.
    Detecting,
    /// Between messages.
    Idle,
    /// So many bytes of a message's body are still to come.
    Body {
        /// Bytes to come.
        left: u64,
        /// Who gets them; nobody, where the request is already answered.
        to: Option<UpId>,
        /// The request they belong to.
        flight: Option<FlightId>,
    },
    /// The decoder says step by step what belongs to the body.
    Steps {
        /// Who gets it; nobody, where the request is already answered.
        to: Option<UpId>,
        /// The request it belongs to.
        flight: Option<FlightId>,
    },
    /// Joined to an upstream; bytes pass as they are.
    Session(UpId),
    /// No more messages are read; what is still owed is written, then the
    /// connection ends. What comes is thrown away, so that the peer can read our
    /// last words before it sees a reset.
    Closing {
        /// Our end is already shut.
        shut: bool,
    },
}

/// A reply's turn on an ordered downstream, or a reply that waits behind one
/// that is being streamed.
pub struct Lane {
    /// The request that it answers; its buffer is all there is once it has ended.
    pub flight: Option<FlightId>,
    /// What came before its turn.
    pub bytes: Vec<u8>,
    /// The connection ends after it.
    pub last: bool,
}

/// A session whose messages are looked at one by one.
pub struct Dialogue {
    /// The message that opened it.
    pub opened: ReplyTo,
    /// So many bytes of the client's message are still to come.
    pub left: u64,
    /// The decoder says step by step what belongs to the client's message.
    pub steps: bool,
    /// They are of a message that may not pass.
    pub dropping: bool,
    /// How fast both its ends are read, bytes a second; 0: as fast as they come.
    pub pace: u64,
    /// The client ends it by being silent for longer, ms; 0: never.
    pub patience: u64,
    /// Our own words, which wait for the end of the message that the server is sending.
    pub waiting: Vec<u8>,
    /// The server has said something.
    pub begun: bool,
    /// The server has said that it is over.
    pub over: bool,
}

/// A connection from a client.
pub struct Downstream {
    /// Index into the snapshot's listeners.
    pub listener: usize,
    /// The engine's, when its latest message began: what its metadata, its decoder and the
    /// routes for that message belong to.
    pub generation: u32,
    /// The client.
    pub peer: Rc<Peer>,
    /// What it speaks; unknown while detecting, and for opaque TCP.
    pub protocol: Option<ProtocolIndex>,
    /// Taken out while it is running.
    pub decoder: Option<Box<dyn Decoder>>,
    /// The current message's metadata, beside facts about the connection.
    pub metadata: Option<Box<Metadata>>,
    /// What it is in the middle of.
    pub state: DownState,
    /// Bytes read and not yet consumed.
    pub input: Vec<u8>,
    /// The decoder has nothing to say before there are so many of them.
    pub need: usize,
    /// A head that was decoded but could not yet be sent on; its bytes begin `input`.
    pub parked_head: Option<Head>,
    /// The request of the parked head stands in a queue for a connection.
    pub waiting: Option<Box<Waiting>>,
    /// How long the current request stood there, ms.
    pub waited: u64,
    /// When the current message's head was all there, ms.
    pub arrived: u64,
    /// The route, by position, that lets all messages of this connection in, as far as
    /// its `only` goes.
    pub let_in: Option<usize>,
    /// The same message, for those who are told how it ends.
    pub track: Track,
    /// The session that it is in, for them too.
    pub joined: Option<Box<Joined>>,
    /// What was decided of that message.
    pub fate: Option<Fate>,
    /// How fast it is read.
    pub pace: Pace,
    /// Input is not looked at, nor read, until something in flight moves.
    pub parked: bool,
    /// It waits in the engine's queue to be looked at again.
    pub resuming: bool,
    /// Not read because the upstream its body goes to is slow.
    pub read_paused: bool,
    /// The client will send no more.
    pub eof: bool,
    /// Bytes to write.
    pub out: OutBuffer,
    /// The socket takes no more for now.
    pub blocked: bool,
    /// It waits in the engine's queue to be written.
    pub dirty: bool,
    /// Replies that are owed, in order (ordered protocols); or a reply being
    /// streamed and those behind it.
    pub lanes: VecDeque<Lane>,
    /// How many lanes have left the front, so that a flight finds its own.
    pub lanes_gone: u64,
    /// Requests in flight.
    pub in_flight: usize,
    /// The id of the latest request, as the client wrote it.
    pub latest_id: u64,
    /// What is kept of the latest message, so that others can be written as it was.
    pub spoke: Option<ReplyTo>,
    /// It is to end, and how.
    pub leaving: Option<Box<Leaving>>,
    /// The latest request in flight travels on a connection of its own, so
    /// that those after it must wait to stay in order.
    pub alone: bool,
    /// A request in flight gives the held connection back.
    pub releasing: bool,
    /// The upstream connection kept for this client alone.
    pub held: Option<UpId>,
    /// Index into the engine's profiles.
    pub profile: usize,
    /// How long the session that it is in may last.
    pub session: SessionTimes,
    /// A session whose messages are looked at.
    pub dialogue: Option<Box<Dialogue>>,
    /// One that passes as it is, where its client can be told that it ends.
    pub seam: Option<Box<dyn Seam>>,
    /// Its bytes are carried as they are, whatever they say.
    pub opaque: bool,
    /// Where its bytes are counted.
    pub port: Option<Arc<Port>>,
    /// It is one of many streams on a connection, and may be silent for long.
    pub stream: bool,
    /// Upstreams not read because this client does not read what they sent.
    pub holding_back: Vec<UpId>,
    /// One of them may have other clients' requests on it.
    pub holds_shared: bool,
    /// When it was accepted, ms.
    pub opened: u64,
    /// When bytes last came, ms.
    pub last_read: u64,
    /// When the message now incomplete began, ms.
    pub message_since: u64,
    /// When the socket first took no more, ms.
    pub blocked_since: u64,
}

/// What an upstream connection may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpMode {
    /// Requests of many downstreams.
    Shared,
    /// In the pool, for whoever needs one alone.
    Idle,
    /// One downstream's alone, for one exchange or as long as it is held.
    Leased(DownId),
    /// Joined to a downstream for good.
    Session(DownId),
}

/// How far an upstream connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpPhase {
    /// Being set up, until this time (ms).
    Connecting(u64),
    /// Set up.
    Ready,
}

/// What the bytes an upstream sends belong to.
#[derive(Clone, Copy)]
pub enum UpState {
    /// Between messages.
    Idle,
    /// So many bytes of a body are still to come.
    Body {
        /// Bytes to come.
        left: u64,
        /// The request they answer; nobody's where it has ended.
        to: Option<FlightId>,
    },
    /// The decoder says step by step what belongs to the body.
    Steps {
        /// The request it answers; nobody's where it has ended.
        to: Option<FlightId>,
    },
}

/// Whose reply comes next on an ordered upstream.
#[derive(Clone, Copy)]
pub enum Expected {
    /// A downstream's request; it may have ended meanwhile.
    Flight(FlightId),
    /// Our own probe.
    Probe,
}

/// A connection to an endpoint.
pub struct Upstream {
    /// Index into the snapshot's clusters.
    pub cluster: usize,
    /// Index into the cluster's endpoints.
    pub endpoint: usize,
    /// What is spoken on it; `None` for opaque TCP.
    pub protocol: Option<ProtocolIndex>,
    /// The client's address and the one it connected to, where the endpoint was told.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// The state that was set up on it.
    pub profile: usize,
    /// What it may be used for.
    pub mode: UpMode,
    /// Its seat among the shared connections of its pool.
    pub seat: usize,
    /// How far it has come.
    pub phase: UpPhase,
    /// Taken out while it is running.
    pub decoder: Option<Box<dyn Decoder>>,
    /// Whether the decoder must be told of requests.
    pub tell_decoder: bool,
    /// What it is in the middle of.
    pub state: UpState,
    /// Bytes read and not yet consumed.
    pub input: Vec<u8>,
    /// The decoder has nothing to say before there are so many of them.
    pub need: usize,
    /// Bytes to write.
    pub out: OutBuffer,
    /// The socket takes no more for now.
    pub blocked: bool,
    /// It waits in the engine's queue to be written.
    pub dirty: bool,
    /// Not read because a downstream does not read what it sent.
    pub paused: bool,
    /// How fast it is read.
    pub pace: Pace,
    /// Downstreams not read because this upstream is slow.
    pub holding_back: Vec<DownId>,
    /// Replies come in request order, by the protocol or by the cluster's word.
    pub ordered: bool,
    /// Whose replies come next, where they are ordered.
    pub expected: VecDeque<Expected>,
    /// Requests in flight on it.
    pub in_flight: usize,
    /// Replies to the preamble that are still to come.
    pub preamble_left: usize,
    /// It takes no new requests; it closes when those in flight have ended.
    pub draining: bool,
    /// Any endpoint of its cluster would do for all that waits on it.
    pub any_endpoint: bool,
    /// How many endpoints refused it already.
    pub attempts: usize,
    /// It has carried an exchange before.
    pub used: bool,
    /// Our end is shut for writing, once `out` is empty.
    pub shut: bool,
    /// The endpoint will send no more (sessions).
    pub eof: bool,
    /// When bytes last came or went, ms.
    pub last_active: u64,
    /// When bytes last came, ms.
    pub last_read: u64,
    /// When the socket first took no more, ms.
    pub blocked_since: u64,
    /// When our latest unanswered probe went out, ms; 0: none.
    pub probed: u64,
    /// It has sent a reply to no request in flight, and that was said.
    pub strayed: bool,
    /// Nothing of the requests in flight has been written to the socket.
    pub unwritten: bool,
}

/// A request between its head and its end. Whatever ends it passes through
/// [`super::Engine::finish`], which removes it, so it ends once.
pub struct Flight {
    /// Who asked; may have gone meanwhile.
    pub down: DownId,
    /// Who was asked.
    pub up: UpId,
    /// What a reply needs to know of the request.
    pub reply_to: ReplyTo,
    /// Its protocol.
    pub protocol: ProtocolIndex,
    /// Its lane's number on the downstream, counted from the connection's start.
    pub lane: u64,
    /// When it began, ms.
    pub started: u64,
    /// When it was last given to an upstream connection, µs.
    pub began: u64,
    /// When it times out, or its present try does, ms; `u64::MAX`: never.
    pub deadline: u64,
    /// When it times out in whatever try it is, ms.
    pub total: u64,
    /// How long each try may take, ms; 0: as long as the request.
    pub per_try: u64,
    /// How long it may take, ms, once all of it is there.
    pub timeout: u64,
    /// How long nothing of a body may move, ms.
    pub stream: u64,
    /// Past this nobody waits for it, ms; its sender said so. `u64::MAX`: it did not.
    pub limit: u64,
    /// What it asked of the upstream connection.
    pub lease: Lease,
    /// Expects no reply.
    pub oneway: bool,
    /// All of it was handed to the upstream connection.
    pub sent: bool,
    /// Bytes a second of its body and its reply; 0: as fast as they come.
    pub pace: u64,
    /// The upstream's final reply has begun to go to the downstream.
    pub replying: bool,
    /// The downstream asked for its connection to end after the reply.
    pub last: bool,
    /// The upstream connection ends after the reply.
    pub upstream_last: bool,
    /// How the upstream's final reply says that it fared.
    pub outcome: Option<Outcome>,
    /// Bytes that frame the body are left out of the reply.
    pub plain_body: bool,
    /// A message that changes the profile; or one that may be sent again, as it
    /// was written, if a reused connection turns out dead.
    pub copy: Vec<u8>,
    /// The values that the route's changes to the reply have.
    pub edits: Vec<u8>,
    /// What the codec wants to be told again for a local reply.
    pub note: Vec<u8>,
    /// The engine's, when its message began.
    pub generation: u32,
    /// The route's position, in the config of that generation.
    pub route: usize,
    /// Which of the route's targets it goes to.
    pub arm: usize,
    /// What it takes to send it again, where its route wants that.
    pub kept: Option<Box<Kept>>,
    /// It is a copy: nobody gets its reply.
    pub mirror: bool,
    /// Where its client connected: index into the snapshot's listeners.
    pub listener: usize,
    /// For those who are told how it ends.
    pub track: Track,
    /// What they want to know of its metadata then.
    pub told: Vec<u8>,
    /// What is remembered of it for its line in access logs.
    pub line: Option<Box<Line>>,
}

impl Flight {
    /// A request that has begun and is on no connection yet: nothing of it is bounded.
    pub fn begun(head: &Head, down: DownId, protocol: ProtocolIndex, plain_body: bool) -> Self {
        Self {
            down,
            up: Key::nobody(),
            reply_to: head.reply_to,
            protocol,
            lane: u64::MAX,
            started: 0,
            began: 0,
            deadline: u64::MAX,
            total: u64::MAX,
            per_try: 0,
            timeout: u64::MAX,
            stream: u64::MAX,
            limit: u64::MAX,
            lease: head.lease,
            oneway: head.kind == Kind::Oneway,
            sent: false,
            replying: false,
            last: head.last,
            upstream_last: false,
            outcome: None,
            plain_body,
            pace: 0,
            copy: Vec::new(),
            edits: Vec::new(),
            note: Vec::new(),
            generation: 0,
            route: usize::MAX,
            arm: 0,
            kept: None,
            mirror: false,
            listener: 0,
            track: Track::since(0),
            told: Vec::new(),
            line: None,
        }
    }

    /// Whether the reply's outcome is one that moves the profile on.
    pub fn succeeded(&self) -> bool {
        self.outcome == Some(Outcome::Ok)
    }
}
