//! What stands before a route's clusters: who may come, how often, and what goes wrong
//! on purpose.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use polyport_codecs::{Fault, View};
use polyport_router::Predicate;

use crate::edit::Reply;
use crate::limit::Limits;

/// What a message that takes a route has to pass, in this order.
#[derive(Debug, Default)]
pub struct Guard {
    /// Who may come; everybody where there is none.
    pub only: Option<When>,
    /// How often.
    pub limits: Limits,
    /// What goes wrong on purpose.
    pub faults: Box<[Injected]>,
}

/// Predicates that all must hold.
#[derive(Debug)]
pub struct When {
    /// What is asked.
    pub predicates: Box<[Predicate]>,
    /// The same in words, as `polyport explain` shows it.
    pub words: String,
    /// It asks only for facts about the connection, so one answer holds for all its messages.
    pub fixed: bool,
}

/// A fault that some messages of a route meet.
#[derive(Debug)]
pub struct Injected {
    /// What goes wrong.
    pub what: Wrong,
    /// How many messages in a million meet it.
    pub per_million: u32,
    /// Which messages may meet it; all where there is none.
    pub when: Option<When>,
}

/// What goes wrong on purpose.
#[derive(Debug, Clone)]
pub enum Wrong {
    /// It waits for so long before it is sent on.
    Delay(Duration),
    /// It is answered with the protocol's own words for this.
    Abort(Fault),
    /// It is answered with this.
    Respond(Arc<Reply>),
    /// Its connection is reset.
    Reset,
    /// Its body and its reply move at so many bytes a second each.
    Bandwidth(u64),
}

/// Config section `[access]`.
#[derive(Debug, Default)]
pub struct Access {
    /// What no route matches is denied, within sessions too.
    pub deny: bool,
    /// Some message may be denied, so that also those on a connection held for one client are
    /// looked at.
    pub strict: bool,
    /// Where denials are told.
    pub audit: Audit,
    /// By the position of a route: its denials are told to nobody.
    pub silent: Box<[bool]>,
}

/// Where denials are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Audit {
    /// To the log, target `polyport::audit`.
    #[default]
    Log,
    /// Appended to this file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// The names of the faults that a route may answer with.
pub const FAULTS: [(&str, Fault); 9] = [
    ("unavailable", Fault::NoHealthyEndpoint),
    ("overloaded", Fault::Overloaded),
    ("denied", Fault::Denied),
    ("timeout", Fault::Timeout),
    ("connect-failed", Fault::ConnectFailed),
    ("upstream-reset", Fault::UpstreamReset),
    ("no-route", Fault::NoRoute),
    ("unsupported", Fault::Unsupported),
    ("shutting-down", Fault::ShuttingDown),
];

impl When {
    /// Whether all that is asked holds.
    pub fn holds(&self, view: &View<'_>) -> bool {
        self.predicates.iter().all(|predicate| predicate.holds(view))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Wrong::Delay(time) => write!(f, "delay {time:?}")?,
            Wrong::Abort(fault) => {
                let name = FAULTS.iter().find(|(_, had)| had == fault).map_or("", |had| had.0);
                write!(f, "abort with {name}")?;
            }
            Wrong::Respond(reply) => write!(f, "abort with status {}", reply.status)?,
            Wrong::Reset => f.write_str("reset of the connection")?,
            Wrong::Bandwidth(rate) => write!(f, "bandwidth of {rate} bytes a second")?,
        }
        write!(f, " for {}%", f64::from(self.per_million) / 10_000.0)?;
        match &self.when {
            Some(when) => write!(f, " where {when}"),
            None => Ok(()),
        }
    }
}
