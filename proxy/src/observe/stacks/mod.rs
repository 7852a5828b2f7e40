//! Where the program's time goes, by function: stacks that are looked at 99 times for each
//! second of CPU time, for as long as somebody asks.
//!
//! A timer's signal stops a thread wherever it happens to be, and what runs then must take
//! no lock that the thread may hold. So the unwinder is not the system's, which takes some,
//! but one that reads tables made ready before (`sample`), and no thread is sent the
//! signal until they are. A process that is never asked pays one system call when it starts.

mod flame;
mod pprof;
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod sample;
#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
#[path = "unsupported.rs"]
mod sample;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

pub use sample::{Sampling, admit, hold_back};

/// Samples a second of CPU time. Not 100: what the program does a hundred times a second
/// would be seen always, or never.
pub const HERTZ: u32 = 99;

/// Why nothing is sampled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is one timer, and somebody has it.
    #[error("a profile is being taken; ask again when it is done")]
    Busy,
    /// Not on this system, or not in this process.
    #[error("stacks cannot be sampled here: {0}")]
    Unable(String),
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its path, without the compiler's suffix; an address where nothing is known.
    pub name: String,
    /// Its source; empty where nothing is known.
    pub file: String,
}

/// A thread that was seen at the end of these calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stack {
    /// Its name.
    pub thread: String,
    /// Places of [`Stacks::places`], from the thread's first function to the one it was in.
    pub calls: Vec<usize>,
    /// How often.
    pub samples: u64,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stacks {
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub lasted: Duration,
    /// All functions that were seen.
    pub places: Vec<Place>,
    /// The stacks, each once.
    pub stacks: Vec<Stack>,
}

impl Stacks {
    /// As `profile.proto` has it, not compressed: what `pprof` and its like read.
    pub fn pprof(&self) -> Vec<u8> {
        pprof::encode(self)
    }

    /// A picture, which needs no script.
    pub fn svg(&self) -> String {
        flame::draw(self)
    }

    /// A line a stack, `thread;function;function 12`: what flame graphs are made from.
    pub fn folded(&self) -> String {
        let mut text = String::new();
        for stack in &self.stacks {
            text.push_str(&stack.thread.replace([';', '\n'], ":"));
            for place in stack.calls.iter().filter_map(|at| self.places.get(*at)) {
                text.push(';');
                text.push_str(&place.name.replace([';', '\n'], ":"));
            }
            let _ = writeln!(text, " {}", stack.samples);
        }
        text
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.samples).sum()
    }
}

#[cfg(test)]
fn example() -> Stacks {
    let place = |name: &str| Place { name: name.into(), file: "src/a.rs".into() };
    let stack = |thread: &str, calls: &[usize], samples| Stack {
        thread: thread.into(),
        calls: calls.to_vec(),
        samples,
    };
    Stacks {
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        lasted: Duration::from_secs(2),
        places: vec![place("a::main"), place("a::read<&str>"), place("b::write; all")],
        stacks: vec![
            stack("worker-0", &[0, 1], 30),
            stack("worker-0", &[0, 2], 10),
            stack("worker-1", &[0], 2),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_fold_to_a_line_each() {
        let text = "worker-0;a::main;a::read<&str> 30\nworker-0;a::main;b::write: all 10\n\
                    worker-1;a::main 2\n";
        assert_eq!(example().folded(), text);
        assert_eq!(example().samples(), 42);
    }
}
