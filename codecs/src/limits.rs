//! The bounds a decoder keeps, whatever its input says.

/// Bounds on one connection's input. Every decoder takes them at construction
/// and answers [`crate::DecodeError`] with [`crate::ErrorKind::TooLarge`]
/// where one is passed, before it buffers or allocates for the excess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message that is reported in one piece. A longer one is
    /// reported as a head followed by body steps, so that no more than this is
    /// ever buffered for it. Default 64 KiB.
    pub whole: usize,
    /// Bytes that a head (all that routing may look at) may take. Default 64 KiB.
    pub head: usize,
    /// Bytes of one frame, body included. Default 512 MiB, Redis's own bulk limit;
    /// codecs lower it to what their peers allow.
    pub frame: u64,
    /// Nesting of values inside a message. Default 64.
    pub depth: usize,
    /// Elements of one message (arguments, headers, map entries). Default
    /// 1,048,576, Redis's own argument limit.
    pub elements: usize,
    /// HTTP: bytes of a declared request body. Bodies are streamed and cost no memory, so
    /// there is no bound by default, as in Envoy and HAProxy.
    pub body: u64,
    /// HTTP: bytes of the request line. Default 8 KiB, as nginx.
    pub request_line: usize,
    /// HTTP: header fields of one head. Default 100, as Apache and Envoy.
    pub headers: usize,
    /// Thrift: whether the old binary encoding, without a version word, is accepted. It
    /// cannot be detected: a listener that serves it names `thrift`. Default false.
    pub thrift_old_binary: bool,
    /// Bolt: whether clients of version 1 are sent MOSN's go-away when they are to leave.
    /// SOFABolt's own do not know it, and some break over it. Default false.
    pub bolt_go_away: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            whole: 64 << 10,
            head: 64 << 10,
            frame: 512 << 20,
            depth: 64,
            elements: 1 << 20,
            body: u64::MAX,
            request_line: 8 << 10,
            headers: 100,
            thrift_old_binary: false,
            bolt_go_away: false,
        }
    }
}
