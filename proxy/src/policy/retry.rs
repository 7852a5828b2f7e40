//! When a request is tried again, and how often.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use polyport_codecs::{Body, Head, Kind, Lease, Outcome};

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// No connection came about: nothing was sent.
    Unconnected,
    /// The connection was lost before a reply.
    Reset,
    /// No reply came in the time of a try.
    Timeout,
    /// A reply, with its outcome and the protocol's own status.
    Reply(Outcome, u32),
}

/// Sorts of failure that a route may name, with their names in configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// `connect-failure`: always safe, as nothing was sent.
    ConnectFailure = 1,
    /// `reset`: the connection was lost before a reply.
    Reset = 2,
    /// `timeout`: a try, or a server behind the server, took too long.
    Timeout = 4,
    /// `unavailable`: the server says that it cannot be used now.
    Unavailable = 8,
    /// `overloaded`: the server sheds load.
    Overloaded = 16,
    /// `server-error`: the server failed.
    ServerError = 32,
}

impl Condition {
    /// All of them.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::ConnectFailure, "connect-failure"),
        (Self::Reset, "reset"),
        (Self::Timeout, "timeout"),
        (Self::Unavailable, "unavailable"),
        (Self::Overloaded, "overloaded"),
        (Self::ServerError, "server-error"),
    ];
}

/// A route's word on trying again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Further tries after the first. Default 1.
    pub attempts: u32,
    /// Which failures: bits of [`Condition`]. Default: connect failure, reset, unavailable.
    pub on: u8,
    /// Statuses of a protocol that are tried again too.
    pub statuses: Vec<(&'static str, RangeInclusive<u32>)>,
    /// How long each try may take; `None`: as long as the request.
    pub per_try: Option<Duration>,
    /// The wait before the first retry is up to this long, and doubles. Default 25 ms.
    pub backoff: Duration,
    /// It is never longer. Default 250 ms.
    pub max_backoff: Duration,
    /// Every request of the route may be sent twice; else only those of which the
    /// codec says so.
    pub idempotent: bool,
    /// Bytes of a request above which it is not kept, and so not tried again. Default 64 KiB.
    pub buffer: usize,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            on: Condition::ConnectFailure as u8
                | Condition::Reset as u8
                | Condition::Unavailable as u8,
            statuses: Vec::new(),
            per_try: None,
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            idempotent: false,
            buffer: 64 << 10,
        }
    }
}

impl Retry {
    /// Whether such an end is a reason to try again, for a request of this protocol.
    pub fn covers(&self, ended: Ended, protocol: &str) -> bool {
        let condition = match ended {
            Ended::Unconnected => Condition::ConnectFailure,
            Ended::Reset => Condition::Reset,
            Ended::Timeout | Ended::Reply(Outcome::Timeout, _) => Condition::Timeout,
            Ended::Reply(Outcome::Unavailable, _) => Condition::Unavailable,
            Ended::Reply(Outcome::Overloaded, _) => Condition::Overloaded,
            Ended::Reply(Outcome::ServerError, _) => Condition::ServerError,
            Ended::Reply(Outcome::Ok | Outcome::AppError, status) => {
                return self.names(status, protocol);
            }
        };
        if self.on & condition as u8 != 0 {
            return true;
        }
        matches!(ended, Ended::Reply(_, status) if self.names(status, protocol))
    }

    fn names(&self, status: u32, protocol: &str) -> bool {
        self.statuses.iter().any(|(of, range)| *of == protocol && range.contains(&status))
    }

    /// How long to wait before retry number `nth` (from 1), ms: drawn from nothing to twice
    /// as much as before, so that those who failed together do not come back together.
    /// A retry because no connection came about waits not at all the first time: nobody was burdened.
    pub fn wait(&self, nth: u32, ended: Ended, draw: u64) -> u64 {
        if nth <= 1 && matches!(ended, Ended::Unconnected | Ended::Reset) {
            return 0;
        }
        let base = self.backoff.as_millis() as u64;
        let most = base
            .saturating_mul(1 << nth.saturating_sub(1).min(20))
            .min(self.max_backoff.as_millis() as u64);
        ((u128::from(draw) * u128::from(most + 1)) >> 64) as u64
    }
}

impl Retry {
    /// What may become of a request of which `size` bytes are known to come; `lease`: what
    /// it asks of its connection.
    pub fn again(&self, head: &Head, lease: Lease, size: u64) -> Again {
        if head.kind == Kind::Oneway {
            Again::Oneway
        } else if !keepable(lease) {
            Again::Stateful
        } else if size > self.buffer as u64 {
            Again::Large
        } else if self.idempotent || head.idempotent {
            Again::Any
        } else {
            Again::Unsent
        }
    }
}

/// Whether a request that asks this of its connection can be sent once more elsewhere.
pub fn keepable(lease: Lease) -> bool {
    matches!(lease, Lease::Shared | Lease::Once)
}

/// The bytes of a request that are known to come, given those of its head.
pub fn size(head: &Head) -> u64 {
    head.len as u64 + if let Body::Length(left) = head.body { left } else { 0 }
}

/// Whether a request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// After any failure that its route names.
    Any,
    /// Only where no connection came about: sending it twice may do something twice.
    Unsent,
    /// Never: nobody learns how it fared.
    Oneway,
    /// Never: it opens a session, or its connection keeps state.
    Stateful,
    /// Never: it is too large to be kept.
    Large,
}

impl Again {
    /// Whether it may be at all.
    pub fn ever(self) -> bool {
        matches!(self, Self::Any | Self::Unsent)
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "this message may be",
            Self::Unsent => "this message only where no connection came about",
            Self::Oneway => "never this message, as it has no reply",
            Self::Stateful => "never this message, as it has a session or state of its own",
            Self::Large => "never this message, as it is too large to be kept",
        })
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Condition::ALL.iter().filter(|(bit, _)| self.on & *bit as u8 != 0);
        let mut words: Vec<String> = named.map(|(_, name)| (*name).to_owned()).collect();
        for (protocol, range) in &self.statuses {
            words.push(format!("{protocol} status {} to {}", range.start(), range.end()));
        }
        let tries = if self.attempts == 1 { "try" } else { "tries" };
        write!(f, "{} more {tries} on {}", self.attempts, words.join(", "))?;
        if let Some(each) = self.per_try {
            write!(f, ", {each:?} each")?;
        }
        let whom = if self.idempotent { "every request" } else { "idempotent requests" };
        write!(
            f,
            ", after {:?} to {:?}, {whom} of up to {} bytes",
            self.backoff, self.max_backoff, self.buffer
        )
    }
}

/// How many retries a cluster bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Retries per 100 requests. Default 20.
    pub percent: u32,
    /// Retries saved up at most, by each worker: what a server's sudden death may cost. Default 1000.
    pub burst: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, burst: 1000 }
    }
}

impl fmt::Display for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} retries per 100 requests, {} saved up", self.percent, self.burst)
    }
}

/// What is left of a [`RetryBudget`]: requests pay in, retries take out.
#[derive(Debug, Clone, Copy)]
pub struct Purse {
    budget: RetryBudget,
    /// Hundredths of a retry.
    left: u64,
}

impl Purse {
    /// A full one.
    pub fn new(budget: RetryBudget) -> Self {
        Self { budget, left: u64::from(budget.burst) * 100 }
    }

    /// A request was sent.
    pub fn earn(&mut self) {
        let most = u64::from(self.budget.burst) * 100;
        self.left = (self.left + u64::from(self.budget.percent)).min(most);
    }

    /// Takes a retry out; false where there is none.
    pub fn spend(&mut self) -> bool {
        match self.left.checked_sub(100) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_names_what_it_tries_again() {
        let mut retry = Retry::default();
        assert!(retry.covers(Ended::Unconnected, "http"));
        assert!(retry.covers(Ended::Reset, "http"));
        assert!(retry.covers(Ended::Reply(Outcome::Unavailable, 503), "http"));
        assert!(!retry.covers(Ended::Timeout, "http"));
        assert!(!retry.covers(Ended::Reply(Outcome::ServerError, 500), "http"));
        assert!(!retry.covers(Ended::Reply(Outcome::Ok, 200), "http"));
        retry.statuses.push(("http", 409..=409));
        assert!(retry.covers(Ended::Reply(Outcome::AppError, 409), "http"));
        assert!(!retry.covers(Ended::Reply(Outcome::AppError, 409), "dubbo"));
        retry.statuses.push(("http", 500..=599));
        assert!(retry.covers(Ended::Reply(Outcome::ServerError, 500), "http"));
    }

    #[test]
    fn what_is_sent_twice_is_small_whole_and_safe() {
        let careful = Retry { buffer: 100, ..Retry::default() };
        let bold = Retry { idempotent: true, ..careful.clone() };
        let head = Head::whole(Kind::Request, 10);
        let read = Head { idempotent: true, ..head };
        let long = Head { body: Body::Length(91), ..read };
        let oneway = Head { kind: Kind::Oneway, ..read };
        for (retry, head, lease, due) in [
            (&careful, head, Lease::Shared, Again::Unsent),
            (&careful, read, Lease::Once, Again::Any),
            (&bold, head, Lease::Shared, Again::Any),
            (&bold, long, Lease::Once, Again::Large),
            (&bold, oneway, Lease::Shared, Again::Oneway),
            (&bold, head, Lease::Hold, Again::Stateful),
            (&bold, head, Lease::Session, Again::Stateful),
        ] {
            let again = retry.again(&head, lease, size(&head));
            assert_eq!(again, due, "{head:?} {lease:?}");
            assert_eq!(again.ever(), matches!(due, Again::Any | Again::Unsent));
        }
    }

    #[test]
    fn waits_double_up_to_a_bound_and_are_drawn() {
        let retry = Retry::default();
        let reply = Ended::Reply(Outcome::Unavailable, 0);
        assert_eq!(retry.wait(1, Ended::Reset, u64::MAX), 0);
        assert_eq!(retry.wait(1, reply, u64::MAX), 25);
        assert_eq!(retry.wait(1, reply, 0), 0);
        assert_eq!(retry.wait(2, Ended::Reset, u64::MAX), 50);
        assert_eq!(retry.wait(3, reply, u64::MAX), 100);
        assert_eq!(retry.wait(40, reply, u64::MAX), 250);
    }

    #[test]
    fn a_purse_lasts_for_a_burst_and_then_for_its_share() {
        let mut purse = Purse::new(RetryBudget { percent: 20, burst: 10 });
        assert_eq!((0..50).filter(|_| purse.spend()).count(), 10);
        let mut tried = 0;
        for _ in 0..100 {
            purse.earn();
            tried += usize::from(purse.spend());
        }
        assert_eq!(tried, 20);
    }
}
