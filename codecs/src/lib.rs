//! Sans-I/O codecs: bytes in, frames and key/value metadata out.
//!
//! A [`Protocol`] is one static value in the [`Registry`]. Compiled against the
//! [`Interest`] of a config (the keys somebody will look at) it is a [`Codec`],
//! which makes one [`Decoder`] per connection and direction. A decoder looks at
//! the bytes buffered so far and answers with a [`Step`]: how many more it
//! needs, the [`Head`] of a message with its [`Metadata`], a piece of its body, or
//! its end. Writing goes the other way: [`Protocol::relay`] passes a head on,
//! [`Protocol::local_reply`] and [`Protocol::reject`] speak for the proxy.
//!
//! Nothing here reads a socket, a clock or a random number, and no decoder
//! holds bytes; so the same code runs in the proxy, in a fuzz target and in
//! your own program (see [`tokio_codec`] for `tokio_util`'s framed streams).
//!
//! Read on: [`codec`] (the contract), [`frame`] (the vocabulary), [`detect`],
//! then one protocol's folder, say [`dubbo`].

pub mod answer;
pub mod codec;
pub mod detect;
pub mod error;
pub mod frame;
pub mod health;
pub mod interest;
pub mod limits;
pub mod metadata;
pub mod mutation;
pub mod registry;
pub mod seam;
pub mod shared;
pub mod testing;
pub mod tokio_codec;

pub mod bolt;
pub mod dubbo;
pub mod hessian;
pub mod http;
pub mod mqtt;
pub mod proxy_protocol;
pub mod redis;
pub mod thrift;
pub mod tls;

pub use answer::Answer;
pub use codec::{After, Codec, DIALECTS, Decoder, Hop, KeySpec, Leave, Protocol, Side, known};
pub use detect::{CERTAIN, Detection, Probe, detect};
pub use error::{DecodeError, ErrorKind};
pub use frame::{Body, Exchange, Fault, Head, Kind, Lease, Outcome, Profile, ReplyTo, Step};
pub use health::{HealthAsk, HealthCheck, HealthWay};
pub use interest::{Interest, Slot};
pub use limits::Limits;
pub use metadata::{Metadata, View};
pub use mutation::{Change, Mutable, To, Unchangeable};
pub use registry::Registry;
pub use seam::Seam;
