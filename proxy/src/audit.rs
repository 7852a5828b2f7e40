//! The audit log: one line of JSON for each message that was denied.
//!
//! Workers hand lines over without waiting; a thread of its own writes them to the file.
//! What it cannot keep up with is counted and told, never waited for.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// Lines that may wait for the file.
const WAITING: usize = 4096;

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

/// To a file, and the thread that writes it; it ends when the sink and its copies are dropped.
///
/// # Errors
/// Where the file cannot be opened or the thread not started.
pub fn file(path: &Path) -> io::Result<(Sink, JoinHandle<()>)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let (give, take): (SyncSender<Line>, _) = sync_channel(WAITING);
    let writer = std::thread::Builder::new().name("audit".into()).spawn(move || {
        let mut told = false;
        let mut out = BufWriter::new(file);
        while let Err(error) = write(&take, &mut out) {
            // A full disk may have room again later.
            if !told {
                tracing::error!(%error, "the audit file takes no more");
            }
            told = true;
            std::thread::sleep(Duration::from_secs(1));
        }
    })?;
    Ok((Arc::new(move |line| give.try_send(line).is_ok()), writer))
}

/// Writes lines until there can be no more.
fn write(lines: &Receiver<Line>, out: &mut BufWriter<File>) -> io::Result<()> {
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => {
                // There is no later to try again.
                let _ = out.flush();
                return Ok(());
            }
            Err(TryRecvError::Empty) => {
                // Nothing stays in the buffer while nothing comes.
                out.flush()?;
                match lines.recv() {
                    Ok(line) => line,
                    Err(_) => return Ok(()),
                }
            }
        };
        let mut all = Map::new();
        all.insert("time".into(), Value::String(time(SystemTime::now())));
        all.extend(line.0);
        writeln!(out, "{}", Value::Object(all))?;
    }
}

/// As RFC 3339 has it, in UTC, to the millisecond.
fn time(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days are counted from 1 March of the year 0, so that the leap day comes last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    format!(
        "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        year + era * 400,
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_rfc_3339_has_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(time(UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }

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
        let (sink, writer) = file(&path).expect("a file");
        for n in 0..100 {
            let mut line = Line(Map::new());
            line.set("route", format!("r{n}"));
            assert!(sink(line));
        }
        drop(sink);
        writer.join().expect("a writer");
        let text = std::fs::read_to_string(&path).expect("lines");
        std::fs::remove_file(&path).expect("removing it");
        assert_eq!(text.lines().count(), 100);
        assert!(text.lines().all(|line| line.starts_with('{') && line.contains("\"time\":\"2")));
    }
}
