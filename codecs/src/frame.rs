//! What a decoder reports about the bytes it was shown.

/// One observation of a decoder. Offsets and lengths count from the first byte
/// of the buffer given to `decode`, which is the first byte not yet consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Call again when the buffer holds at least so many bytes (always more
    /// than it held). Nothing is consumed.
    Need(usize),
    /// A message begins here; [`Head::len`] bytes are consumed.
    Head(Head),
    /// So many bytes (at least 1) of the current message's body are consumed.
    Body(usize),
    /// So many bytes (at least 1) that frame the body but are not of it (an HTTP
    /// chunk's size line, say) are consumed.
    Framing(usize),
    /// The current message is over; nothing is consumed.
    End,
}

/// The routing-relevant start of a message, or all of a small one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the message is for.
    pub kind: Kind,
    /// Bytes the head takes, from the start of the buffer.
    pub len: usize,
    /// What follows the head.
    pub body: Body,
    /// All that is needed to answer this message, now or later.
    pub reply_to: ReplyTo,
    /// What the message asks of the connection that carries it upstream.
    pub lease: Lease,
    /// Replies only: how the request fared.
    pub outcome: Outcome,
    /// The sender's connection ends after this message (HTTP `Connection: close`,
    /// Redis `QUIT`).
    pub last: bool,
    /// Requests only: sending it twice has the effect of sending it once.
    pub idempotent: bool,
    /// Bytes of the head, as (start, length), that a local reply repeats
    /// (Thrift's method name); `(0, 0)`: none. Kept until the request ends.
    pub note: (u32, u32),
    /// From this message on, silence of its sender for longer than so many
    /// milliseconds ends the connection (MQTT's keep-alive); 0: as before.
    pub patience: u32,
    /// Requests only: the sender waits for so many milliseconds and no longer, as the
    /// message says; 0: it does not say.
    pub timeout: u32,
    /// Replies only: the protocol's own status, in the numbers of
    /// [`crate::Protocol::statuses`]; 0 where it has none.
    pub status: u32,
    /// Messages from clients only: in which of [`crate::Protocol::dialects`] it is.
    pub dialect: u8,
}

impl Head {
    /// The bytes that [`Head::note`] names, of those of this head.
    pub fn noted<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        let (start, len) = (self.note.0 as usize, self.note.1 as usize);
        message.get(start..start.saturating_add(len)).unwrap_or_default()
    }

    /// A head of `len` bytes that is the whole message; the rest is neutral.
    pub const fn whole(kind: Kind, len: usize) -> Self {
        Self {
            kind,
            len,
            body: Body::None,
            reply_to: ReplyTo { id: 0, token: 0 },
            lease: Lease::Shared,
            outcome: Outcome::Ok,
            last: false,
            idempotent: false,
            note: (0, 0),
            patience: 0,
            timeout: 0,
            status: 0,
            dialect: 0,
        }
    }
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Expects exactly one final reply.
    Request,
    /// A request that expects no reply.
    Oneway,
    /// The final reply to a request.
    Response,
    /// A reply that another reply to the same request follows (HTTP 1xx).
    Interim,
    /// A liveness probe that expects a reply, which the receiver gives itself
    /// ([`crate::Protocol::answer`]).
    Heartbeat,
    /// The reply to a liveness probe.
    HeartbeatReply,
    /// A request that the proxy answers itself ([`crate::Protocol::answer`]), in
    /// its turn, and never forwards.
    Local,
    /// Sent by the server without a request (RESP3 push, a one-way event).
    Push,
    /// Belongs to the session it is in (an acknowledgement, a ping of the
    /// session's own): passes as it is, by no route. [`Exchange::Session`] only.
    Control,
    /// The sender takes no new requests: finish what is in flight, go elsewhere.
    GoAway,
}

impl Kind {
    /// The value of the metadata key `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Oneway => "oneway",
            Self::Response => "response",
            Self::Interim => "interim",
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatReply => "heartbeat-reply",
            Self::Local => "local",
            Self::Push => "push",
            Self::Control => "control",
            Self::GoAway => "go-away",
        }
    }
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing: the head is the whole message.
    None,
    /// Exactly so many bytes (never 0). The caller takes them itself; the decoder is next
    /// called with the byte after them and answers with the next message's step, no `End` between.
    Length(u64),
    /// The decoder is called for [`Step::Body`], [`Step::Framing`] and [`Step::End`].
    Steps,
}

/// What is kept of a request so that it can be answered: by a local reply, or by
/// the upstream's after its id is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ReplyTo {
    /// The correlation id as the sender wrote it; 0 where the protocol has none.
    pub id: u64,
    /// The codec's own notes (version, serialization, method, …); opaque to all others.
    pub token: u64,
}

/// What a request asks of the upstream connection that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lease {
    /// Any connection will do, shared with others.
    Shared,
    /// A connection of its own until its reply is over (a blocking command, an HTTP exchange).
    Once,
    /// A connection of its own, kept for the requests after it (`WATCH`, `MULTI`).
    Hold,
    /// Runs on the held connection, which is clean and free after the reply
    /// (`EXEC`, `DISCARD`, `UNWATCH`). Without one held, the same as `Once`.
    Release,
    /// A connection of its own; where the reply's outcome is `Ok` the downstream's
    /// [`Profile`] moves on by [`crate::Protocol::advance`]. (`AUTH`, `SELECT`, `HELLO`.)
    Profile,
    /// From here on replies no longer pair with requests: downstream and
    /// upstream are joined until one of them ends (`SUBSCRIBE`, `MONITOR`). On
    /// a reply: the exchange becomes a session after it (HTTP 101, 2xx to CONNECT).
    Session,
}

/// How a request fared, as its reply tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// It succeeded.
    #[default]
    Ok,
    /// The application refused or failed it; the server is well (`-ERR`, HTTP 4xx, a declared exception).
    AppError,
    /// The server failed (HTTP 500, Dubbo 70/80).
    ServerError,
    /// The server cannot be used now (HTTP 503, `-LOADING`).
    Unavailable,
    /// The server sheds load (HTTP 429, `-BUSY`, Dubbo 100).
    Overloaded,
    /// A timeout behind the server (HTTP 504, Dubbo 31).
    Timeout,
}

impl Outcome {
    /// The value in rules, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AppError => "app-error",
            Self::ServerError => "server-error",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
        }
    }
}

/// Why the proxy answers a request itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No route matches.
    NoRoute,
    /// The cluster has no endpoint to send to.
    NoHealthyEndpoint,
    /// No connection to the endpoint came about.
    ConnectFailed,
    /// The upstream connection ended before the reply did.
    UpstreamReset,
    /// The request's deadline passed.
    Timeout,
    /// The message passes a limit.
    TooLarge,
    /// The message, or the upstream's reply to it, breaks the protocol.
    Malformed,
    /// A limit on connections or requests is reached.
    Overloaded,
    /// A rule denies the request.
    Denied,
    /// The protocol or the proxy cannot do what the message asks.
    Unsupported,
    /// The proxy is stopping.
    ShuttingDown,
    /// The session has lasted as long as it may, or nothing has moved in it for too long.
    Expired,
}

impl Fault {
    /// A short sentence for error replies and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no route matches",
            Self::NoHealthyEndpoint => "no healthy endpoint",
            Self::ConnectFailed => "upstream connect failed",
            Self::UpstreamReset => "upstream connection lost",
            Self::Timeout => "upstream request timed out",
            Self::TooLarge => "message too large",
            Self::Malformed => "malformed message",
            Self::Overloaded => "overloaded",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::ShuttingDown => "shutting down",
            Self::Expired => "session expired",
        }
    }
}

/// How messages of a protocol pair up; all that the engine knows of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// Replies carry their request's id: many downstreams share an upstream connection.
    Correlated,
    /// Replies come in request order. Shared: requests of many downstreams are
    /// pipelined on one upstream connection. Not shared: a pooled connection
    /// carries one exchange at a time.
    Ordered {
        /// Whether requests of several downstreams may be pipelined together.
        shared: bool,
    },
    /// The connection has state of its own: the first message is a
    /// [`Kind::Request`] whose route pairs downstream and upstream for good. Later
    /// messages from the client of kind `Request` or `Oneway` are routed too, but only
    /// to see whether they may pass; all others pass as they are. Messages that
    /// may not are answered by [`crate::Protocol::local_reply`] and left out.
    Session,
}

/// Connection state that a downstream has built up and that every upstream
/// connection carrying its requests must be given first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Profile {
    /// Messages to send on a fresh upstream connection. May hold secrets: never logged.
    pub preamble: Vec<u8>,
    /// How many replies the preamble earns; each must have [`Outcome::Ok`].
    pub replies: usize,
}
