//! Taking samples: `pprof`'s timer and handler, with its own unwinder (`framehop`).
//!
//! That unwinder locks and allocates nothing once it knows the program's tables, but reads
//! them within the first signal that it handles. Whoever is hit by that one must be in the
//! middle of nothing. So the signal is blocked in the first thread before there is another,
//! hence in all; the first profile lets it reach one thread, which does nothing but wait
//! for it; and only then do others ask for it, by [`admit`].

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SigSet, Signal};
use nix::time::{ClockId, clock_gettime};
use pprof::{ProfilerGuard, ProfilerGuardBuilder, UnresolvedReport};

use super::{HERTZ, Place, Refused, Stack, Stacks};

/// Threads that nobody has admitted do not get the signal.
static HELD_BACK: AtomicBool = AtomicBool::new(false);

/// The unwinder has its tables.
static READY: AtomicBool = AtomicBool::new(false);

/// There is one timer in a process.
static BUSY: AtomicBool = AtomicBool::new(false);

/// While getting ready: how often it is tried, and for how long each time. The kernel looks
/// at the timer every ten milliseconds at worst.
const TRIES: usize = 50;
const TRY: Duration = Duration::from_millis(25);

/// The function that the standard library has below all that is its own.
const BEGINS: &str = "__rust_begin_short_backtrace";

fn signal() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGPROF);
    set
}

/// Keeps the sampler's signal from this thread and from those that it will start; to be
/// called before there is another, or nothing can be sampled.
pub fn hold_back() {
    if signal().thread_block().is_ok() {
        HELD_BACK.store(true, Ordering::SeqCst);
    }
}

/// Lets the sampler's signal reach this thread; to be called once a sampling has begun.
pub fn admit() {
    // Where it fails, this thread is not seen.
    let _ = signal().thread_unblock();
}

/// The timer, taken.
#[derive(Debug)]
struct Turn;

impl Turn {
    fn take() -> Result<Self, Refused> {
        match BUSY.swap(true, Ordering::SeqCst) {
            true => Err(Refused::Busy),
            false => Ok(Self),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::SeqCst);
    }
}

/// A profile that is being taken; nothing is sampled any more once it is dropped.
pub struct Sampling {
    // The timer stops before another may start it.
    guard: ProfilerGuard<'static>,
    began: (SystemTime, Instant),
    _turn: Turn,
}

impl Sampling {
    /// Starts the timer. It may take a second, and must not be called by a thread that has
    /// been admitted.
    ///
    /// # Errors
    /// Where another profile is being taken, or the system does not let this one.
    pub fn begin() -> Result<Self, Refused> {
        let turn = Turn::take()?;
        if !HELD_BACK.load(Ordering::SeqCst) {
            return Err(Refused::Unable("the process has not been made ready for it".into()));
        }
        if !READY.load(Ordering::SeqCst) {
            get_ready()?;
            READY.store(true, Ordering::SeqCst);
        }
        let began = (SystemTime::now(), Instant::now());
        Ok(Self { guard: timer(HERTZ)?, began, _turn: turn })
    }

    /// Stops it, and puts names to what was seen: seconds of work, for a thread that has time.
    ///
    /// # Errors
    /// Where the samples were lost.
    pub fn end(self) -> Result<Stacks, Refused> {
        let report = self.guard.report().build_unresolved().map_err(unable)?;
        let (began, since) = self.began;
        let lasted = since.elapsed();
        drop(self);
        Ok(named(&report, began, lasted))
    }
}

fn unable(error: pprof::Error) -> Refused {
    Refused::Unable(error.to_string())
}

fn timer(hertz: u32) -> Result<ProfilerGuard<'static>, Refused> {
    let hertz = i32::try_from(hertz).unwrap_or(i32::MAX);
    ProfilerGuardBuilder::default().frequency(hertz).build().map_err(unable)
}

/// Has the first signal come to this thread while it does nothing.
fn get_ready() -> Result<(), Refused> {
    let guard = timer(1000)?;
    for _ in 0..TRIES {
        admit();
        spend(TRY);
        // Looking allocates, which the first signal must not interrupt.
        signal().thread_block().map_err(|error| Refused::Unable(error.to_string()))?;
        if guard.report().build_unresolved().is_ok_and(|report| !report.data.is_empty()) {
            return Ok(());
        }
    }
    Err(Refused::Unable("the timer's signal does not come".into()))
}

/// Uses so much CPU time, without a lock or an allocation.
fn spend(time: Duration) {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(time, Duration::from);
    let until = now() + time;
    while now() < until {}
}

fn named(report: &UnresolvedReport, began: SystemTime, lasted: Duration) -> Stacks {
    let mut places = Places::default();
    let mut stacks: HashMap<(String, Vec<usize>), u64> = HashMap::new();
    for (seen, samples) in &report.data {
        let name = seen.thread_name.get(..seen.thread_name_length).unwrap_or_default();
        let thread = String::from_utf8_lossy(name).into_owned();
        let mut calls = Vec::new();
        for (depth, frame) in seen.frames.iter().enumerate() {
            // A caller stands at the instruction after its call, which may be another's.
            let address = if depth == 0 { frame.ip } else { frame.ip.saturating_sub(1) };
            calls.extend_from_slice(places.at(address));
        }
        calls.reverse();
        // What every thread of every program begins with tells nothing.
        let begun = calls
            .iter()
            .rposition(|at| places.all.get(*at).is_some_and(|place| place.name.contains(BEGINS)));
        calls.drain(..begun.map_or(0, |begun| begun + 1));
        *stacks.entry((thread, calls)).or_default() += u64::try_from(*samples).unwrap_or(0);
    }
    let stack = |((thread, calls), samples)| Stack { thread, calls, samples };
    let mut stacks: Vec<Stack> = stacks.into_iter().map(stack).collect();
    stacks.sort_unstable();
    Stacks { began, lasted, places: places.all, stacks }
}

/// Functions by the addresses in them.
#[derive(Default)]
struct Places {
    all: Vec<Place>,
    known: HashMap<String, usize>,
    /// The innermost first: one address is in several where calls were inlined.
    by_address: HashMap<usize, Vec<usize>>,
}

impl Places {
    fn at(&mut self, address: usize) -> &[usize] {
        let Self { all, known, by_address } = self;
        by_address.entry(address).or_insert_with(|| {
            let mut found = Vec::new();
            let mut add = |name: String, file: String| {
                let next = all.len();
                let at = *known.entry(name.clone()).or_insert(next);
                if at == next {
                    all.push(Place { name, file });
                }
                found.push(at);
            };
            backtrace::resolve(address as *mut c_void, |symbol| {
                let Some(name) = symbol.name() else { return };
                let file = symbol.filename().map(|file| file.display().to_string());
                // `#` leaves the compiler's suffix away.
                add(format!("{name:#}"), file.unwrap_or_default());
            });
            if found.is_empty() {
                let next = all.len();
                let name = format!("{address:#x}");
                let at = *known.entry(name.clone()).or_insert(next);
                if at == next {
                    all.push(Place { name, file: String::new() });
                }
                found.push(at);
            }
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_function_with_a_name() {
        let mut places = Places::default();
        let address = spend as fn(Duration) as usize + 1;
        let found = places.at(address).to_vec();
        assert!(!found.is_empty());
        let outermost = found.last().and_then(|at| places.all.get(*at)).expect("a place");
        assert!(outermost.name.contains("stacks::sample"), "{outermost:?}");
        assert_eq!(places.at(address), found);
        let nowhere = places.at(1).to_vec();
        assert_eq!(nowhere.first().and_then(|at| places.all.get(*at)).expect("one").name, "0x1");
    }

    #[test]
    fn a_process_that_was_not_made_ready_is_not_sampled() {
        // Other tests' threads are there already, and may be anywhere.
        assert!(matches!(Sampling::begin(), Err(Refused::Unable(_))));
        assert!(matches!(Sampling::begin(), Err(Refused::Unable(_))));
    }

    #[test]
    fn there_is_one_timer() {
        let turn = Turn::take();
        let second = Turn::take();
        assert!(turn.is_err() || second.is_err());
    }
}
