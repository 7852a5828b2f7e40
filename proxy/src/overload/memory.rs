//! How much memory the process uses, and how much it may.
//!
//! The kernel's figure (resident pages) is the truth that a bound is about: it counts
//! TLS, HTTP/2 and whatever else no books are kept of. It has one fault: an allocator
//! keeps pages that nobody uses any more, and a proxy that went by it alone could shed
//! for ever after one bad moment. So what the engines have given back since they held
//! most, and the kernel has not got back, is taken off.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Overload;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Bytes that the control group of this process may use; `None`: no bound is known.
pub fn allowed() -> Option<u64> {
    // Second line: the first version of control groups.
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|path| bound(&std::fs::read_to_string(path).ok()?))
}

/// The bound in a control group's file. Numbers beyond any machine mean that there is none.
fn bound(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| (1 << 20..1 << 50).contains(bytes))
}

/// Resident bytes of this process.
fn resident(page: u64) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page)
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// Tells what is used from what the kernel and the engines say.
#[derive(Debug, Default)]
struct Scale {
    /// The latest resident size.
    resident: u64,
    /// What the engines held at most of what is still resident.
    peak: u64,
}

impl Scale {
    fn used(&mut self, resident: u64, held: u64) -> u64 {
        // What the kernel got back is not kept by the allocator any more.
        self.peak = self.peak.saturating_sub(self.resident.saturating_sub(resident)).max(held);
        self.resident = resident;
        resident.saturating_sub(self.peak - held)
    }
}

/// Looks at the memory until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins, on a thread of its own.
    pub(crate) fn start(overload: Arc<Overload>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let page = page_size();
        let thread = std::thread::Builder::new().name("memory".into()).spawn(move || {
            let mut scale = Scale::default();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK) {
                if let Some(resident) = resident(page) {
                    let held = overload.held.load(std::sync::atomic::Ordering::Relaxed);
                    overload.weigh(scale.used(resident, held));
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_allocator_keeps_is_not_in_use() {
        let mut scale = Scale::default();
        assert_eq!(scale.used(100, 10), 100);
        assert_eq!(scale.used(500, 400), 500);
        // Given back by the engines, not by the allocator.
        assert_eq!(scale.used(500, 50), 150);
        // Used again.
        assert_eq!(scale.used(500, 300), 400);
        // The allocator gives 200 back: all that is kept is 50.
        assert_eq!(scale.used(300, 150), 250);
        assert_eq!(scale.used(300, 200), 300);
        // What grows for reasons that no engine knows counts in full.
        assert_eq!(scale.used(900, 200), 900);
    }

    #[test]
    fn a_control_group_may_have_no_bound() {
        assert_eq!(bound("max\n"), None);
        assert_eq!(bound("9223372036854771712\n"), None);
        assert_eq!(bound("268435456\n"), Some(256 << 20));
    }

    #[test]
    fn this_process_has_a_size() {
        assert!(resident(page_size()).is_some_and(|bytes| bytes > 1 << 20));
    }
}
