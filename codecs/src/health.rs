//! Health checks: what a server is asked, and whether its answer shows it well.
//!
//! A check is a talk of rounds. In each the prober has the protocol say something
//! ([`HealthCheck::say`]), reads the answer with the protocol's own decoder, and has it
//! judged ([`HealthCheck::judge`]), until the protocol says that it is over. When to
//! check, how long to wait and what follows from it is the prober's business.

use std::sync::Arc;

use crate::frame::{Head, Outcome, ReplyTo};

/// A way in which servers of a protocol can be asked how they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthWay {
    /// Its name in configs; mostly the protocol's own.
    pub name: &'static str,
    /// What it may be told.
    pub options: &'static [HealthOption],
    /// It works only on connections that carry many streams (HTTP/2).
    pub streams: bool,
}

/// Something that a config may say of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthOption {
    /// The key.
    pub name: &'static str,
    /// One phrase on what it does.
    pub about: &'static str,
    /// A value as it looks in a config.
    pub example: &'static str,
}

impl HealthOption {
    /// An option of that name.
    pub const fn new(name: &'static str, about: &'static str, example: &'static str) -> Self {
        Self { name, about, example }
    }
}

/// What a config says of a check.
#[derive(Debug, Clone, Copy)]
pub struct HealthAsk<'a> {
    /// The name of one of [`crate::Protocol::health_ways`].
    pub way: &'a str,
    /// Options of that way, each with its values, of which there is at least one.
    pub options: &'a [(String, Vec<String>)],
}

impl<'a> HealthAsk<'a> {
    /// All values of `option`; empty where it is not said.
    pub fn all(&self, option: &str) -> &'a [String] {
        let found = self.options.iter().find(|(name, _)| name == option);
        found.map(|(_, values)| &values[..]).unwrap_or_default()
    }

    /// The one value of `option`; `None` where it is not said.
    ///
    /// # Errors
    /// Where there are several, or what is said could end a line or a word of a protocol.
    pub fn word(&self, option: &'static str) -> Result<Option<&'a str>, BadOption> {
        match self.all(option) {
            [] => Ok(None),
            [one] if one.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(one)),
            [_] => Err(BadOption::new(option, "only ASCII without blanks can stand here")),
            _ => Err(BadOption::new(option, "one value can stand here, not several")),
        }
    }
}

/// An option that cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {why}")]
pub struct BadOption {
    /// Its name.
    pub option: &'static str,
    /// What is wrong with its value, and what would not be.
    pub why: String,
}

impl BadOption {
    /// An error about `option`.
    pub fn new(option: &'static str, why: impl Into<String>) -> Self {
        Self { option, why: why.into() }
    }
}

/// What comes next in a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// An answer to what was appended; the reply decoder is told of this
    /// ([`crate::Decoder::expect`]).
    Ask(ReplyTo),
    /// Nothing: all was well. What was appended are last words.
    Over {
        /// Whether the next check may use the same connection.
        keep: bool,
    },
}

/// An answer: a message of kind `Response`, `HeartbeatReply` or `Control`.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// Its head.
    pub head: &'a Head,
    /// The head's bytes.
    pub bytes: &'a [u8],
    /// What follows them, without framing; empty unless [`HealthCheck::wants_body`],
    /// and cut after a few KiB.
    pub body: &'a [u8],
}

/// What an answer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server is well so far: the next round.
    Well,
    /// The server is well, and no more can be asked of it.
    Enough,
    /// It is not, and why.
    Ill(String),
}

/// A protocol's check, made ready for one config. It keeps no state: one value serves
/// all endpoints at once.
pub trait HealthCheck: Send + Sync {
    /// Appends what is said in `round` (0 first) to the server called `host`.
    fn say(&self, round: usize, host: &str, out: &mut Vec<u8>) -> Say;

    /// Judges the answer to what was said in `round`. By default by its outcome alone.
    fn judge(&self, _round: usize, answer: &Answered<'_>) -> Verdict {
        by_outcome(answer.head.outcome)
    }

    /// Whether [`Answered::body`] is needed. By default not: an answer is judged as soon
    /// as its head is there.
    fn wants_body(&self) -> bool {
        false
    }
}

/// A server that refuses a request has understood it, and so is well; one that fails it
/// or cannot serve at all is not.
pub fn by_outcome(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Ok | Outcome::AppError => Verdict::Well,
        outcome => Verdict::Ill(format!("its answer says {}", outcome.as_str())),
    }
}

/// The check of a protocol that has a liveness probe: these bytes, and any answer. The
/// connection is kept. Without bytes, that there is a connection is all that is asked.
pub struct Beat(Vec<u8>);

impl Beat {
    /// A check that sends `probe`.
    pub fn new(probe: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(probe))
    }
}

impl HealthCheck for Beat {
    fn say(&self, round: usize, _: &str, out: &mut Vec<u8>) -> Say {
        if self.0.is_empty() {
            return Say::Over { keep: false };
        }
        if round > 0 {
            return Say::Over { keep: true };
        }
        out.extend_from_slice(&self.0);
        Say::Ask(ReplyTo::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interest, Limits, Metadata, Protocol, Side, Step};

    #[test]
    fn a_redis_that_wants_a_password_is_well_and_one_that_loads_is_not() {
        let codec = crate::redis::Redis.compile(&Limits::default(), &Interest::nothing());
        let verdict = |reply: &[u8]| {
            let step = codec.decoder(Side::Reply).decode(reply, &mut Metadata::default());
            let Ok(Step::Head(head)) = step else { panic!("{step:?}") };
            Beat(Vec::new()).judge(0, &Answered { head: &head, bytes: reply, body: &[] })
        };
        for well in ["+PONG\r\n", "-NOAUTH Authentication required.\r\n", "-ERR no\r\n"] {
            assert_eq!(verdict(well.as_bytes()), Verdict::Well, "{well}");
        }
        for ill in ["-LOADING Redis is loading\r\n", "-MASTERDOWN Link is down\r\n"] {
            assert!(matches!(verdict(ill.as_bytes()), Verdict::Ill(_)), "{ill}");
        }
    }

    #[test]
    fn without_a_probe_a_connection_is_all() {
        let (beat, mut out) = (Beat::new(Vec::new()), Vec::new());
        assert_eq!(beat.say(0, "", &mut out), Say::Over { keep: false });
        let beat = Beat::new(b"ping".to_vec());
        assert_eq!(beat.say(0, "", &mut out), Say::Ask(ReplyTo::default()));
        assert_eq!(beat.say(1, "", &mut out), Say::Over { keep: true });
        assert_eq!(out, b"ping");
    }
}
