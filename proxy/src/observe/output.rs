//! Where lines for people go: files, standard output, standard error.
//!
//! Each has a thread of its own, so that one that is stuck (a full disk, a pipe that nobody
//! reads) holds up no other, and whoever hands lines over never waits: what is handed over is
//! bounded, and refused beyond that. Only whole lines are handed over, so only whole ones are
//! written, also across [`Outputs::reopen`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Buffers kept for reuse, and the largest worth keeping.
const SPARES: usize = 64;
const SPARE_CAPACITY: usize = 256 << 10;

/// How long a place that takes nothing is left alone.
const REST: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file, or written to this named pipe.
    File(PathBuf),
}

/// A way to hand lines over; copies lead to the same place. When the last one is gone, what
/// was handed over is written and the place closed.
#[derive(Clone)]
pub struct Output(Arc<Handle>);

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    ended: Condvar,
    /// Bytes that may wait.
    bound: usize,
}

#[derive(Default)]
struct State {
    full: Vec<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    /// Bytes handed over and not yet written.
    bytes: usize,
    /// How many of `full` go to the file as it is, before it is opened anew.
    reopen: Option<usize>,
    closed: bool,
    ended: bool,
}

impl Shared {
    fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            ended: Condvar::new(),
            bound,
        })
    }

    /// Nothing that is done under this lock takes long, or can leave it half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    fn reopen(&self) {
        let mut state = self.lock();
        state.reopen = Some(state.full.len());
        drop(state);
        self.wake.notify_all();
    }
}

impl Output {
    /// Hands `lines` over, whole ones, and leaves an empty buffer in their place. False, with
    /// nothing changed, where that would mean waiting or too many wait already.
    pub fn give(&self, lines: &mut Vec<u8>) -> bool {
        let state = match self.0.0.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        self.give_to(state, lines)
    }

    /// The same, waiting for its turn, which comes at once: nobody holds it while writing.
    pub fn give_in_turn(&self, lines: &mut Vec<u8>) -> bool {
        self.give_to(self.0.0.lock(), lines)
    }

    fn give_to(&self, mut state: MutexGuard<'_, State>, lines: &mut Vec<u8>) -> bool {
        if lines.is_empty() {
            return true;
        }
        if state.bytes + lines.len() > self.0.0.bound {
            return false;
        }
        state.bytes += lines.len();
        let next = state.spare.pop().unwrap_or_default();
        state.full.push(std::mem::replace(lines, next));
        drop(state);
        self.0.0.wake.notify_one();
        true
    }

    /// What was handed over, where no thread writes it.
    #[cfg(test)]
    pub(crate) fn held(bound: usize) -> Self {
        Self(Arc::new(Handle(Shared::new(bound))))
    }

    /// Takes what was handed over; see `held`.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut state = self.0.0.lock();
        state.bytes = 0;
        std::mem::take(&mut state.full).concat()
    }
}

/// All places that are open.
#[derive(Default)]
pub struct Outputs(Mutex<Vec<Place>>);

struct Place {
    target: Target,
    handle: Weak<Handle>,
    shared: Arc<Shared>,
}

impl Outputs {
    fn list(&self) -> MutexGuard<'_, Vec<Place>> {
        lock(&self.0)
    }

    /// Opens a place, or finds it open. `bound`: bytes that may wait to be written there.
    ///
    /// # Errors
    /// Where a file cannot be opened or a thread not started.
    pub fn open(&self, target: &Target, bound: usize) -> io::Result<Output> {
        let mut list = self.list();
        // A place that still writes what it was given last stays known until it has ended.
        list.retain(|place| place.handle.strong_count() > 0 || !place.shared.lock().ended);
        let mut known = list.iter().filter(|place| place.target == *target);
        if let Some(handle) = known.find_map(|place| place.handle.upgrade()) {
            return Ok(Output(handle));
        }
        let file = open(target)?;
        let shared = Shared::new(bound);
        let (of_thread, to) = (shared.clone(), target.clone());
        std::thread::Builder::new().name("lines".into()).spawn(move || {
            Writer { shared: &of_thread, target: to, file, told: false }.run();
            of_thread.lock().ended = true;
            of_thread.ended.notify_all();
        })?;
        let handle = Arc::new(Handle(shared.clone()));
        list.push(Place { target: target.clone(), handle: Arc::downgrade(&handle), shared });
        Ok(Output(handle))
    }

    /// Opens all files anew by their names: those that were moved away are left to whoever
    /// moved them, with every line that was handed over before.
    pub fn reopen(&self) {
        for place in self.list().iter() {
            place.shared.reopen();
        }
    }

    /// Writes what was handed over and closes all places; returns then, or when `patience`
    /// is over, as one of them may take nothing.
    pub fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let list = self.list();
        list.iter().for_each(|place| place.shared.close());
        for Place { target, shared, .. } in list.iter() {
            let left = until.saturating_duration_since(Instant::now());
            let waited = shared.ended.wait_timeout_while(shared.lock(), left, |s| !s.ended);
            let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if !state.ended {
                tracing::warn!(?target, bytes = state.bytes, "lines were not written in time");
            }
        }
    }
}

/// `None`: not before somebody reads it.
fn open(target: &Target) -> io::Result<Option<File>> {
    let standard = match target {
        Target::Stdout => io::stdout().as_fd().try_clone_to_owned(),
        Target::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        Target::File(path) => {
            if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
                return Ok(None);
            }
            return open_file(path).map(Some);
        }
    };
    Ok(Some(standard?.into()))
}

fn open_file(path: &std::path::Path) -> io::Result<File> {
    // Who called whom is not for everybody.
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

struct Writer<'a> {
    shared: &'a Shared,
    target: Target,
    file: Option<File>,
    /// The present trouble is in the log.
    told: bool,
}

impl Writer<'_> {
    fn run(mut self) {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut state = self.shared.lock();
            while state.full.is_empty() && state.reopen.is_none() && !state.closed {
                let waited = self.shared.wake.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut batch, &mut state.full);
            let (reopen, closed) = (std::mem::take(&mut state.reopen), state.closed);
            drop(state);
            if closed && batch.is_empty() {
                return;
            }
            if reopen == Some(0) {
                self.reopen();
            }
            for (at, mut lines) in batch.drain(..).enumerate() {
                self.write(&lines);
                let mut state = self.shared.lock();
                state.bytes = state.bytes.saturating_sub(lines.len());
                if state.spare.len() < SPARES && lines.capacity() <= SPARE_CAPACITY {
                    lines.clear();
                    state.spare.push(lines);
                }
                drop(state);
                if reopen == Some(at + 1) {
                    self.reopen();
                }
            }
        }
    }

    /// Writes all of them, however long it takes; once closed, what goes at the first try.
    fn write(&mut self, lines: &[u8]) {
        let mut at = 0;
        while at < lines.len() {
            let rest = lines.get(at..).unwrap_or_default();
            let error = match self.file() {
                Ok(file) => match file.write(rest) {
                    Ok(0) => io::ErrorKind::WriteZero.into(),
                    Ok(count) => {
                        at += count;
                        self.told = false;
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::Interrupted => continue,
                // Of a named pipe: whoever reads it next begins with a whole line.
                io::ErrorKind::BrokenPipe if matches!(self.target, Target::File(_)) => {
                    self.file = None;
                    at = line_start(lines, at);
                    continue;
                }
                _ => {}
            }
            if !std::mem::replace(&mut self.told, true) {
                tracing::error!(target = ?self.target, %error, "lines cannot be written");
            }
            let mut state = self.shared.lock();
            if !state.closed && state.reopen.is_none() {
                let waited = self.shared.wake.wait_timeout_while(state, REST, |state| {
                    !state.closed && state.reopen.is_none()
                });
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let (reopen, closed) = (std::mem::take(&mut state.reopen), state.closed);
            drop(state);
            if reopen.is_some() {
                self.reopen();
                // Half a line may be in the old file; the new one gets it whole.
                at = line_start(lines, at);
            }
            if closed && reopen.is_none() {
                return;
            }
        }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none()
            && let Target::File(path) = &self.target
        {
            self.file = Some(open_file(path)?);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn reopen(&mut self) {
        if !matches!(self.target, Target::File(_)) {
            return;
        }
        match open(&self.target) {
            Ok(file) => (self.file, self.told) = (file, false),
            // The old one is better than none.
            Err(error) => tracing::error!(target = ?self.target, %error, "cannot be reopened"),
        }
    }
}

/// Where the line begins that the byte at `at` belongs to.
fn line_start(lines: &[u8], at: usize) -> usize {
    let before = lines.get(..at).unwrap_or_default();
    before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("polyport-output-{name}-{}", std::process::id()))
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn what_is_handed_over_is_in_the_file_when_it_is_closed() {
        let path = place("close");
        let outputs = Outputs::default();
        let output = outputs.open(&Target::File(path.clone()), 1 << 20).expect("a file");
        for n in 0..100 {
            assert!(output.give_in_turn(&mut format!("{n}\n").into_bytes()));
        }
        outputs.finish(LONG);
        let text = std::fs::read_to_string(&path).expect("lines");
        std::fs::remove_file(&path).expect("removing it");
        let want: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(text, want);
    }

    #[test]
    fn a_file_that_was_moved_away_keeps_its_lines_and_a_new_one_gets_the_rest() {
        let (path, moved) = (place("moved"), place("away"));
        let outputs = Outputs::default();
        let output = outputs.open(&Target::File(path.clone()), 1 << 20).expect("a file");
        for n in 0..2000 {
            if n == 1000 {
                std::fs::rename(&path, &moved).expect("moving it");
                outputs.reopen();
            }
            assert!(output.give_in_turn(&mut format!("{n}\n").into_bytes()));
        }
        outputs.finish(LONG);
        let read = |path| std::fs::read_to_string(path).expect("lines");
        let (old, new) = (read(&moved), read(&path));
        let _ = (std::fs::remove_file(&path), std::fs::remove_file(&moved));
        assert!(!new.is_empty());
        let want: String = (0..2000).map(|n| format!("{n}\n")).collect();
        assert_eq!(old + &new, want);
    }

    #[test]
    fn the_same_place_is_opened_once() {
        let path = place("same");
        let outputs = Outputs::default();
        let open = || outputs.open(&Target::File(path.clone()), 1 << 20).expect("a file");
        let (one, two) = (open(), open());
        assert!(Arc::ptr_eq(&one.0, &two.0));
        drop((one, two));
        outputs.finish(LONG);
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn a_place_that_takes_nothing_refuses_what_is_too_much_and_is_not_waited_for() {
        let outputs = Outputs::default();
        let output = outputs.open(&Target::File("/dev/full".into()), 1000).expect("it opens");
        let given = (0..100).filter(|_| output.give_in_turn(&mut vec![b'\n'; 100])).count();
        assert_eq!(given, 10);
        let mut refused = vec![b'\n'; 100];
        assert!(!output.give_in_turn(&mut refused) && refused.len() == 100);
        outputs.finish(LONG);
    }

    #[test]
    fn a_line_begins_behind_the_end_of_the_one_before() {
        for (at, start) in [(0, 0), (1, 0), (2, 2), (3, 2), (6, 6)] {
            assert_eq!(line_start(b"a\nbcd\ne", at), start, "{at}");
        }
    }
}
