//! Access logs: a line for each request that has ended.
//!
//! When a message's route is known, each log's conditions and its share decide whether the
//! request may get a line; only then are the values that a line may show copied, into a
//! [`Line`] that travels with the request. When the request ends, each log asks how it ended,
//! and the line is written into the worker's own buffer, which goes to the writing thread
//! ([`super::output`]) every 100 ms or 32 KiB. A worker never waits for that thread: what it
//! cannot take is dropped and counted.
//!
//! Read on: [`format`] (fields and their writing), [`words`] (what they call an end),
//! [`line`](mod@line) (what is remembered).

pub mod format;
pub mod line;
pub mod words;

use std::io;
use std::sync::OnceLock;

use polyport_codecs::Slot;
use polyport_router::{Matcher, Predicate};

pub use format::{Field, Format};
pub use line::Line;

use super::output::{Output, Outputs, Target};

/// Logs of one config, at most: one bit each in a line.
pub const MOST: usize = 32;

/// Bytes of a key's value that a line shows, at most.
pub const VALUE: usize = 1024;

/// One `[[access-log]]`.
#[derive(Debug)]
pub struct AccessLog {
    /// Where its lines go.
    pub target: Target,
    /// How they look.
    pub format: Format,
    /// What must hold of the request.
    pub when: Box<[Predicate]>,
    /// What must hold of its end, too; durations are matched in µs.
    pub ends: Box<[(Field, Matcher)]>,
    /// The share of requests that get a line; `u64::MAX`: all.
    pub share: u64,
    /// Those that end badly get a line whatever the share.
    pub errors: bool,
    /// Messages within sessions get lines, too.
    pub messages: bool,
    /// Bytes that may wait to be written.
    pub buffer: usize,
}

/// A metadata key that some log shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: Box<str>,
    /// Where a message's value is.
    pub slot: Slot,
    /// What is shown of it.
    pub show: Show,
    /// The logs that show it, a bit each.
    pub logs: u32,
}

/// What is shown of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// That there is one.
    Hidden,
    /// It, unless it looks like a credential.
    Checked,
    /// It, whatever it is.
    Revealed,
}

/// All logs of a config.
#[derive(Default)]
pub struct AccessLogs {
    /// In file order; at most [`MOST`].
    pub list: Vec<AccessLog>,
    /// What they show beside fields.
    pub keys: Vec<Key>,
    outputs: OnceLock<Vec<Output>>,
}

impl AccessLogs {
    /// Opens where the lines go, unless that is done.
    ///
    /// # Errors
    /// Where a file cannot be opened: which one, and what the system says.
    pub fn open(&self, outputs: &Outputs) -> Result<(), (Target, io::Error)> {
        if self.outputs.get().is_some() {
            return Ok(());
        }
        let open = |log: &AccessLog| {
            let opened = outputs.open(&log.target, log.buffer);
            opened.map_err(|error| (log.target.clone(), error))
        };
        let opened = self.list.iter().map(open).collect::<Result<_, _>>()?;
        // Whoever was faster has opened the same.
        let _ = self.outputs.set(opened);
        Ok(())
    }

    /// Where the lines go, by the position of a log; nowhere before they are opened.
    pub(crate) fn outputs(&self) -> &[Output] {
        self.outputs.get().map_or(&[], |outputs| outputs)
    }

    /// Has the lines go there.
    #[cfg(test)]
    pub(crate) fn set_outputs(&self, outputs: Vec<Output>) {
        let _ = self.outputs.set(outputs);
    }
}
