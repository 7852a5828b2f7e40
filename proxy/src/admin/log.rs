//! What the log says, while the proxy runs.

use std::fmt;
use std::sync::{Arc, Mutex};

use tracing_subscriber::EnvFilter;

use crate::lock::lock;

/// Longest filter that is taken.
const LONGEST: usize = 1024;

type Change = Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Changes which lines the log has.
#[derive(Clone)]
pub struct LogLevel {
    current: Arc<Mutex<String>>,
    change: Change,
}

impl LogLevel {
    /// A log that begins with `current`, and how it is changed.
    pub fn new(
        current: String,
        change: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { current: Arc::new(Mutex::new(current)), change: Arc::new(change) }
    }

    /// A log that is somebody else's.
    pub fn fixed() -> Self {
        Self::new("unknown".into(), |_| Err("the log is not the proxy's own".into()))
    }

    /// What it is now, as it was written: `info`, `info,polyport::engine=debug`.
    pub fn current(&self) -> String {
        lock(&self.current).clone()
    }

    /// Takes another filter, as `POLYPORT_LOG` has them.
    ///
    /// # Errors
    /// What is wrong with it; the log stays as it is.
    pub fn set(&self, wanted: &str) -> Result<(), String> {
        let wanted = wanted.trim();
        if wanted.is_empty() || wanted.len() > LONGEST {
            return Err(HELP.into());
        }
        let filter = EnvFilter::try_new(wanted).map_err(|error| format!("{error}; {HELP}"))?;
        (self.change)(filter)?;
        *lock(&self.current) = wanted.to_owned();
        Ok(())
    }
}

const HELP: &str = "write error, warn, info, debug, trace, or a filter such as \
                    `info,polyport::health=debug`";

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogLevel({})", self.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_changes_nothing() {
        let level = LogLevel::new("info".into(), |_| Ok(()));
        assert!(level.set("info,polyport=loud").is_err());
        assert!(level.set("").is_err());
        assert_eq!(level.current(), "info");
        level.set(" debug ").expect("a filter");
        assert_eq!(level.current(), "debug");
    }
}
