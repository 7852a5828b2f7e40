//! What a process may use, and what gives way when it is nearly used up.
//!
//! Two budgets, descriptors and memory, are watched for the whole process. How much of
//! each is used makes a [`Level`], which all workers read once a turn; the higher one
//! counts. Beside them stands a bound on the connections of one source ([`sources`]).
//!
//! Descriptors are counted by the workers as they open and close connections, so nothing
//! is late. Memory is what the kernel says of the process ([`memory`]).

pub mod memory;
pub mod sources;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::task::Waker;

use ipnet::IpNet;

use sources::{Admission, Sources};

use crate::lock::lock;

/// A level is left only when so many percent less are used than led to it, so that
/// nothing is turned on and off all the time.
const HYSTERESIS: u64 = 5;

/// Config section `[overload]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of memory; `None`: what the control group allows, or no bound.
    pub memory: Option<u64>,
    /// Descriptors for connections; `None`: what the system allows.
    pub descriptors: Option<usize>,
    /// Percent of a budget from which idle connections are closed. Default 85.
    pub close_idle: u8,
    /// Percent from which no connections are accepted. Default 95.
    pub stop_accepting: u8,
    /// Percent of the memory from which new requests are refused. Default 98.
    pub shed: u8,
    /// Connections of one source at once; `None`: any.
    pub per_source: Option<u32>,
    /// How many bits of an IPv6 address make a source. Default 64.
    pub per_source_prefix: u8,
    /// Whose connections are not counted.
    pub trusted: Vec<IpNet>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory: None,
            descriptors: None,
            close_idle: 85,
            stop_accepting: 95,
            shed: 98,
            per_source: None,
            per_source_prefix: 64,
            trusted: Vec::new(),
        }
    }
}

/// What is done about a budget that is nearly used up. Each includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    Calm,
    /// Idle connections are closed, the longest idle first.
    CloseIdle,
    /// New connections wait in the kernel.
    StopAccepting,
    /// New requests are refused in their protocol's words.
    Shed,
}

impl Level {
    const ALL: [Self; 4] = [Self::Calm, Self::CloseIdle, Self::StopAccepting, Self::Shed];

    fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Shed)
    }

    /// What is done at it, for the log.
    pub fn action(self) -> &'static str {
        match self {
            Self::Calm => "nothing gives way any more",
            Self::CloseIdle => "idle connections are closed",
            Self::StopAccepting => "no connections are accepted",
            Self::Shed => "new requests are refused",
        }
    }
}

/// From what percentage on each level holds.
#[derive(Debug, Default)]
struct Thresholds([AtomicU8; 3]);

impl Thresholds {
    fn set(&self, settings: &Settings) {
        let percents = [settings.close_idle, settings.stop_accepting, settings.shed];
        for (place, percent) in self.0.iter().zip(percents) {
            place.store(percent, Ordering::Relaxed);
        }
    }

    /// The level at so many of so many, coming from `before`.
    fn level(&self, used: u64, budget: u64, before: Level) -> Level {
        let mut level = Level::Calm;
        for (place, next) in self.0.iter().zip(Level::ALL.into_iter().skip(1)) {
            let percent = u64::from(place.load(Ordering::Relaxed));
            let from = if before >= next { percent.saturating_sub(HYSTERESIS) } else { percent };
            if u128::from(used) * 100 >= u128::from(budget) * u128::from(from) {
                level = next;
            }
        }
        level
    }
}

/// The state of the whole process; shared by all workers, and kept over reloads.
#[derive(Debug, Default)]
pub struct Overload {
    thresholds: Thresholds,
    memory_level: AtomicU8,
    descriptor_level: AtomicU8,
    /// Descriptors of the workers' connections.
    open: AtomicUsize,
    /// As many of them as there may be; 0: any number.
    descriptors: AtomicUsize,
    /// As many as the system has for connections.
    system: AtomicUsize,
    /// Bytes; 0: no bound.
    memory: AtomicU64,
    /// What the memory's level was taken from, bytes.
    memory_used: AtomicU64,
    /// Whether workers tell what they hold.
    weighing: AtomicU8,
    /// What they hold in buffers, bytes.
    held: AtomicU64,
    sources: OnceLock<Sources>,
    /// How often connections were no longer accepted.
    pauses: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

impl Overload {
    /// Begins; the system has `spare` descriptors for connections.
    pub fn start(&self, settings: &Settings, spare: usize) {
        self.system.store(spare, Ordering::Relaxed);
        self.apply(settings);
    }

    /// Takes up what a config says. What is counted stays.
    pub fn apply(&self, settings: &Settings) {
        self.thresholds.set(settings);
        let spare = self.system.load(Ordering::Relaxed);
        if let Some(wanted) = settings.descriptors
            && wanted > spare
        {
            tracing::warn!(wanted, spare, "fewer descriptors than the config says");
        }
        let descriptors = settings.descriptors.map_or(spare, |wanted| wanted.min(spare)).max(1);
        self.descriptors.store(descriptors, Ordering::Relaxed);
        let memory = settings.memory.or_else(memory::allowed).unwrap_or(0);
        self.memory.store(memory, Ordering::Relaxed);
        if settings.per_source.is_some() {
            self.sources.get_or_init(Sources::default);
        }
        self.judge_descriptors();
    }

    /// What gives way now.
    pub fn level(&self) -> Level {
        let memory = self.memory_level.load(Ordering::Relaxed);
        Level::of(memory.max(self.descriptor_level.load(Ordering::Relaxed)))
    }

    /// A worker has so many descriptors, and had so many when it last said so.
    pub(crate) fn count(&self, before: usize, now: usize) {
        if now == before {
            return;
        }
        if now > before {
            self.open.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.open.fetch_sub(before - now, Ordering::Relaxed);
        }
        self.judge_descriptors();
    }

    /// How many more connections may be opened.
    pub fn spare(&self) -> usize {
        match self.descriptors.load(Ordering::Relaxed) {
            0 => usize::MAX,
            most => most.saturating_sub(self.open.load(Ordering::Relaxed)),
        }
    }

    /// How many of a worker's `mine` descriptors have to be given back for calm.
    pub(crate) fn excess(&self, mine: usize) -> usize {
        let most = self.descriptors.load(Ordering::Relaxed);
        let open = self.open.load(Ordering::Relaxed);
        let percent = self.thresholds.0.first().map_or(0, |place| place.load(Ordering::Relaxed));
        let calm = most * usize::from(percent).saturating_sub(HYSTERESIS as usize) / 100;
        if most == 0 || self.descriptor_level.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        // Each worker its share.
        ((open + 1).saturating_sub(calm) * mine).div_ceil(open.max(1))
    }

    fn judge_descriptors(&self) {
        let (open, most) =
            (self.open.load(Ordering::Relaxed), self.descriptors.load(Ordering::Relaxed));
        let before = Level::of(self.descriptor_level.load(Ordering::Relaxed));
        let level = match most {
            0 => Level::Calm,
            // Requests need at least one for an endpoint's connection.
            _ if open + 1 >= most => Level::StopAccepting,
            // A request that is refused gives back no descriptor.
            _ => self.thresholds.level(open as u64, most as u64, before).min(Level::StopAccepting),
        };
        if level != before
            && self.descriptor_level.swap(level as u8, Ordering::Relaxed) == before as u8
        {
            self.tell("descriptors", before, level, open as u64, most as u64);
        }
    }

    /// Memory in use, in bytes, is so much.
    pub(crate) fn weigh(&self, used: u64) {
        self.memory_used.store(used, Ordering::Relaxed);
        let budget = self.memory.load(Ordering::Relaxed);
        let before = Level::of(self.memory_level.load(Ordering::Relaxed));
        let level = match budget {
            0 => Level::Calm,
            _ => self.thresholds.level(used, budget, before),
        };
        self.weighing.store(u8::from(budget > 0 && used > budget / 2), Ordering::Relaxed);
        if level != before {
            self.memory_level.store(level as u8, Ordering::Relaxed);
            self.tell("memory", before, level, used, budget);
        }
    }

    fn tell(&self, what: &'static str, before: Level, level: Level, used: u64, budget: u64) {
        if before < Level::StopAccepting && level >= Level::StopAccepting {
            self.pauses.fetch_add(1, Ordering::Relaxed);
        }
        if level > before {
            tracing::warn!(what, used, budget, "overload: {}", level.action());
        } else {
            tracing::info!(what, used, budget, "less load: {}", level.action());
        }
        // A worker that has nothing to do would not look.
        for waker in lock(&self.wakers).iter() {
            waker.wake_by_ref();
        }
    }

    /// Has `waker` woken when the level changes.
    pub(crate) fn wake_on_change(&self, waker: Waker) {
        lock(&self.wakers).push(waker);
    }

    /// Whether workers are to tell what they hold.
    pub(crate) fn is_weighing(&self) -> bool {
        self.weighing.load(Ordering::Relaxed) > 0
    }

    /// A worker holds so many bytes in buffers, and held so many when it last said so.
    pub(crate) fn hold(&self, before: u64, now: u64) {
        self.held.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Lets a connection of `source` in; `None` where it has too many.
    pub(crate) fn admit(&self, settings: &Settings, source: IpAddr) -> Option<Admission> {
        let (Some(most), Some(sources)) = (settings.per_source, self.sources.get()) else {
            return Some(Admission::default());
        };
        let source = source.to_canonical();
        if settings.trusted.iter().any(|network| network.contains(&source)) {
            return Some(Admission::default());
        }
        sources.admit(source, settings.per_source_prefix, most)
    }

    /// Its figures for `/stats`: name and value.
    pub fn figures(&self) -> [(&'static str, u64); 8] {
        let get = |place: &AtomicU64| place.load(Ordering::Relaxed);
        let refused = self.sources.get().map_or(0, Sources::refused);
        [
            ("overload_level", self.level() as u64),
            ("overload_descriptors", self.open.load(Ordering::Relaxed) as u64),
            ("overload_descriptors_budget", self.descriptors.load(Ordering::Relaxed) as u64),
            ("overload_memory_bytes", get(&self.memory_used)),
            ("overload_memory_budget_bytes", get(&self.memory)),
            ("overload_buffered_bytes", get(&self.held)),
            ("overload_accept_pauses_total", get(&self.pauses)),
            ("connections_refused_by_source_total", refused),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overload(descriptors: usize, memory: u64) -> Overload {
        let overload = Overload::default();
        let settings = Settings {
            memory: Some(memory),
            descriptors: Some(descriptors),
            ..Settings::default()
        };
        overload.start(&settings, usize::MAX);
        overload
    }

    #[test]
    fn levels_come_with_what_is_used_and_go_later_than_they_came() {
        let overload = overload(100, 0);
        let steps = [
            (84, Level::Calm),
            (85, Level::CloseIdle),
            (81, Level::CloseIdle),
            (79, Level::Calm),
            (95, Level::StopAccepting),
            (91, Level::StopAccepting),
            (89, Level::CloseIdle),
            // However few are left: what is refused gives none back.
            (100, Level::StopAccepting),
            (0, Level::Calm),
        ];
        let mut before = 0;
        for (now, level) in steps {
            overload.count(before, now);
            before = now;
            assert_eq!(overload.level(), level, "at {now}");
        }
        assert_eq!(overload.pauses.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn memory_sheds_and_the_higher_level_counts() {
        let overload = overload(100, 1000);
        overload.weigh(990);
        assert_eq!(overload.level(), Level::Shed);
        overload.weigh(940);
        assert_eq!(overload.level(), Level::Shed);
        overload.weigh(920);
        assert_eq!(overload.level(), Level::StopAccepting);
        overload.count(0, 86);
        overload.weigh(0);
        assert_eq!(overload.level(), Level::CloseIdle);
        overload.count(86, 0);
        assert_eq!(overload.level(), Level::Calm);
    }

    #[test]
    fn workers_give_back_their_shares_of_the_excess() {
        let overload = overload(100, 0);
        assert_eq!(overload.excess(50), 0);
        overload.count(0, 90);
        let shares = overload.excess(60) + overload.excess(30);
        assert!((11..=12).contains(&shares), "{shares}");
        assert_eq!(overload.spare(), 10);
    }

    #[test]
    fn a_budget_is_no_more_than_the_system_gives() {
        let overload = Overload::default();
        let settings = Settings { descriptors: Some(1000), ..Settings::default() };
        overload.start(&settings, 40);
        assert_eq!(overload.spare(), 40);
    }

    #[test]
    fn a_waker_is_woken_when_the_level_changes() {
        struct Woken(AtomicUsize);
        impl std::task::Wake for Woken {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let woken = std::sync::Arc::new(Woken(AtomicUsize::new(0)));
        let overload = overload(100, 1000);
        overload.wake_on_change(Waker::from(woken.clone()));
        overload.weigh(500);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        overload.weigh(900);
        overload.weigh(901);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
