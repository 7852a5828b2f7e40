//! The audit log: one line of JSON for each message that was denied.
//!
//! Workers hand lines over without waiting; a thread of its own writes them to the file
//! ([`crate::observe::output`]).
//! What it cannot keep up with is counted and told, never waited for.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::observe::output::{Outputs, Target};
use crate::observe::text::{self, Calendar};

/// Bytes that may wait for the file.
const WAITING: usize = 4 << 20;

/// Bytes of a key's value that are told, at most.
const VALUE: usize = 256;

/// Takes a line without waiting; false where it could not.
pub type Sink = Arc<dyn Fn(Line) -> bool + Send + Sync>;

/// One line, but for the time.
#[derive(Debug, Clone, PartialEq)]
pub struct Line(pub Map<String, Value>);

impl Line {
    /// Adds a field; a value of bytes that are no text is escaped, and a long one cut.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let value = value.get(..VALUE).unwrap_or(value);
        let text = match std::str::from_utf8(value) {
            Ok(text) => text.to_owned(),
            Err(_) => value.escape_ascii().to_string(),
        };
        self.0.insert(name.to_owned(), Value::String(text));
    }

    /// That so many denials were not told one by one.
    pub fn suppressed(count: u64) -> Self {
        let mut line = Map::new();
        line.insert("suppressed".into(), json!(count));
        Self(line)
    }
}

/// To the log.
pub fn log() -> Sink {
    Arc::new(|line| {
        let line = Value::Object(line.0);
        tracing::info!(target: "polyport::audit", denied = %line);
        true
    })
}

/// To a file, one of `outputs`.
///
/// # Errors
/// Where the file cannot be opened or the thread that writes it not started.
pub fn file(path: &Path, outputs: &Outputs) -> io::Result<Sink> {
    let output = outputs.open(&Target::File(path.to_owned()), WAITING)?;
    Ok(Arc::new(move |line| {
        let mut time = Vec::new();
        Calendar::default().write(text::now(), &mut time);
        let mut all = Map::new();
        all.insert("time".into(), Value::String(String::from_utf8_lossy(&time).into_owned()));
        all.extend(line.0);
        let mut line = format!("{}\n", Value::Object(all)).into_bytes();
        output.give_in_turn(&mut line)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_and_escaped() {
        let mut line = Line(Map::new());
        line.set("a", [b'x'; 1000]);
        line.set("b", b"\xff\"");
        assert_eq!(line.0.get("a"), Some(&json!("x".repeat(VALUE))));
        assert_eq!(line.0.get("b"), Some(&json!("\\xff\\\"")));
    }

    #[test]
    fn lines_are_in_the_file_when_its_sink_is_gone() {
        let path = std::env::temp_dir().join(format!("polyport-audit-{}", std::process::id()));
        let outputs = Outputs::default();
        let sink = file(&path, &outputs).expect("a file");
        for n in 0..100 {
            let mut line = Line(Map::new());
            line.set("route", format!("r{n}"));
            assert!(sink(line));
        }
        drop(sink);
        outputs.finish(std::time::Duration::from_secs(30));
        let text = std::fs::read_to_string(&path).expect("lines");
        std::fs::remove_file(&path).expect("removing it");
        assert_eq!(text.lines().count(), 100);
        assert!(text.lines().all(|line| line.starts_with('{') && line.contains("\"time\":\"2")));
    }
}
