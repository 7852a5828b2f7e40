//! Where the workers' time goes: what the kernel has charged each thread over a while,
//! beside what it did in that time. No samples of the code: `perf` takes those.

use std::time::Duration;

use serde::Serialize;

use crate::worker::{Observer, Totals};

/// Ticks a second of the times in `/proc` (`USER_HZ`): fixed by Linux's interface.
const TICKS: u64 = 100;

/// What a thread did in the time that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Thread {
    name: String,
    /// Percent of one core, in the program and in the kernel.
    user_percent: f64,
    system_percent: f64,
    /// How often it went to sleep, and how often it was put aside for another.
    sleeps_per_second: f64,
    preempted_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    work: Option<Work>,
}

/// What a worker did meanwhile.
#[derive(Debug, Serialize)]
struct Work {
    requests_per_second: f64,
    connections_per_second: f64,
    /// CPU time of a request, µs; none where there was none.
    cpu_us_per_request: Option<f64>,
    /// Requests that one wake-up dealt with; none where it did not sleep.
    requests_per_wakeup: Option<f64>,
    downstreams: u64,
    upstreams: u64,
    in_flight: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Times {
    id: String,
    name: String,
    user: u64,
    system: u64,
    sleeps: u64,
    preempted: u64,
}

/// Looks for so long.
pub(super) async fn profile(observer: &Observer, lasts: Duration) -> Vec<Thread> {
    let (before, done) = (threads(), observer.each());
    let began = tokio::time::Instant::now();
    tokio::time::sleep(lasts).await;
    let (after, now) = (threads(), observer.each());
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    let mut all = Vec::new();
    for thread in after {
        let Some(had) = before.iter().find(|had| had.id == thread.id) else { continue };
        let worker: Option<usize> =
            thread.name.strip_prefix("worker-").and_then(|at| at.parse().ok());
        let work = worker.and_then(|at| Some((done.get(at)?, now.get(at)?)));
        all.push(compare(had, &thread, work, seconds));
    }
    all
}

fn compare(had: &Times, now: &Times, work: Option<(&Totals, &Totals)>, seconds: f64) -> Thread {
    let rate = |was: u64, is: u64| is.saturating_sub(was) as f64 / seconds;
    let percent = |was, is| round(rate(was, is) * 100.0 / TICKS as f64);
    let (user, system) = (percent(had.user, now.user), percent(had.system, now.system));
    let sleeps = rate(had.sleeps, now.sleeps);
    let work = work.map(|(was, is)| {
        let asked = |totals: &Totals| totals.counters.requests + totals.counters.messages;
        let requests = rate(asked(was), asked(is));
        Work {
            requests_per_second: round(requests),
            connections_per_second: round(rate(was.counters.accepted, is.counters.accepted)),
            cpu_us_per_request: (requests > 0.0)
                .then(|| round((user + system) * 10_000.0 / requests)),
            requests_per_wakeup: (sleeps > 0.0).then(|| round(requests / sleeps)),
            downstreams: is.downstreams,
            upstreams: is.upstreams,
            in_flight: is.in_flight,
        }
    });
    Thread {
        name: now.name.clone(),
        user_percent: user,
        system_percent: system,
        sleeps_per_second: round(sleeps),
        preempted_per_second: round(rate(had.preempted, now.preempted)),
        work,
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The process's threads; none where the system does not tell.
fn threads() -> Vec<Times> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let read = |task: std::io::Result<std::fs::DirEntry>| {
        let task = task.ok()?;
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        times(&task.file_name().to_string_lossy(), &stat, &status)
    };
    let mut all: Vec<Times> = tasks.filter_map(read).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    all
}

fn times(id: &str, stat: &str, status: &str) -> Option<Times> {
    // The name is in parentheses and may hold any of them.
    let (front, rest) = stat.rsplit_once(')')?;
    let (_, name) = front.split_once('(')?;
    let mut fields = rest.split_whitespace();
    // User time is the 14th field of the file; the name was the second.
    let user = fields.nth(11)?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    let count = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().parse().ok()
    };
    Some(Times {
        id: id.to_owned(),
        name: name.to_owned(),
        user,
        system,
        sleeps: count("voluntary_ctxt_switches:")?,
        preempted: count("nonvoluntary_ctxt_switches:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_s_times_are_read_whatever_its_name_is() {
        let stat = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 111 222 0 0 20 0 1 0 5 0 0";
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t8\n";
        let read = times("12", stat, status).expect("times");
        assert_eq!((read.name.as_str(), read.user, read.system), ("a (b) c", 111, 222));
        assert_eq!((read.sleeps, read.preempted), (7, 8));
        assert_eq!(times("12", "12 (x", status), None);
        assert_eq!(times("12", stat, ""), None);
    }

    #[test]
    fn work_is_set_against_time() {
        let had = Times {
            id: "1".into(),
            name: "worker-0".into(),
            user: 0,
            system: 0,
            sleeps: 0,
            preempted: 0,
        };
        let now = Times { user: 150, system: 50, sleeps: 400, ..had.clone() };
        let (was, mut is) = (Totals::default(), Totals::default());
        is.counters.requests = 4000;
        let told = compare(&had, &now, Some((&was, &is)), 2.0);
        assert_eq!((told.user_percent, told.system_percent), (75.0, 25.0));
        let work = told.work.expect("a worker's");
        assert_eq!(work.requests_per_second, 2000.0);
        assert_eq!(work.cpu_us_per_request, Some(500.0));
        assert_eq!(work.requests_per_wakeup, Some(10.0));
    }
}
