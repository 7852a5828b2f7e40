//! The file that names the process now in charge, and the one beside it that tells what
//! came of the latest upgrade.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// What came of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The process that was asked.
    pub from: u32,
    /// The one that took over; `None`: none did.
    pub to: Option<u32>,
    /// Why none did; empty where one did.
    pub why: String,
    /// When, µs since 1970: no two outcomes are the same.
    pub at: u128,
    /// When the new process was started, µs since 1970. 0: older processes do not say.
    #[serde(default)]
    pub begun: u128,
}

impl Outcome {
    /// The time now, µs since 1970.
    pub(crate) fn clock() -> u128 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_micros())
    }

    /// Whether it may be what came of an upgrade that was asked for at this time. One that
    /// was under way then did not start the binary that is there now.
    pub fn answers(&self, asked: u128) -> bool {
        self.begun == 0 || self.begun >= asked
    }

    /// What came of the upgrade of this process just now, `begun` then.
    pub(super) fn now(came: &Result<u32, String>, begun: u128) -> Self {
        Self {
            from: std::process::id(),
            to: came.as_ref().ok().copied(),
            why: came.as_ref().err().cloned().unwrap_or_default(),
            at: Self::clock(),
            begun,
        }
    }

    /// The latest outcome, beside the pid file `of`.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn read(of: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(beside(of, "upgrade"))?)?)
    }

    pub(super) fn write(&self, of: &Path) -> io::Result<()> {
        replace(&beside(of, "upgrade"), &serde_json::to_vec(self)?)
    }
}

/// Names `pid` as the process in charge.
///
/// # Errors
/// Where the file cannot be written, or not be put in place.
pub fn write(path: &Path, pid: u32) -> io::Result<()> {
    replace(path, format!("{pid}\n").as_bytes())
}

/// The process in charge.
///
/// # Errors
/// Where the file cannot be read or has no number in it.
pub fn read(path: &Path) -> io::Result<u32> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no process id"))
}

/// Takes the file away, if it still names this process.
pub fn remove(path: &Path) {
    if read(path).is_ok_and(|pid| pid == std::process::id()) {
        // Where that fails, whoever reads it finds that the process has ended.
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(beside(path, "upgrade"));
    }
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// Readers see the old content or the new, never half of either.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = beside(path, "new");
    std::fs::write(&new, content)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_answers_who_asked_before_it_began() {
        let asked = Outcome::clock();
        let outcome = Outcome::now(&Ok(7), Outcome::clock().max(asked));
        assert!(outcome.answers(asked));
        assert!(!outcome.answers(outcome.begun + 1), "another upgrade was meant");
        let text = serde_json::to_string(&outcome).expect("JSON");
        assert_eq!(serde_json::from_str::<Outcome>(&text).expect("an outcome"), outcome);
        // From a process that does not say when it began.
        let old: Outcome =
            serde_json::from_str(r#"{"from":1,"to":2,"why":"","at":5}"#).expect("one");
        assert!(old.answers(asked));
    }
}
