//! What the system says of this process.

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};

use super::text::{Family, Sort, Value};

/// The families that every client library of Prometheus has; what the system does not tell
/// is left out.
pub(super) fn families() -> Vec<Family> {
    let mut families = Vec::new();
    let mut put = |name, help, sort, value| {
        families.push(Family { name, help, sort, samples: vec![(Vec::new(), value)] });
    };
    let Ok(process) = Process::myself() else { return families };
    let ticks = procfs::ticks_per_second() as f64;
    if let Ok(stat) = process.stat() {
        let busy = Value::Real((stat.utime + stat.stime) as f64 / ticks);
        let help = "Total user and system CPU time spent in seconds.";
        put("process_cpu_seconds", help, Sort::Counter, busy);
        if let Ok(boot) = procfs::boot_time_secs() {
            let help = "Start time of the process since unix epoch in seconds.";
            let start = Value::Real(boot as f64 + stat.starttime as f64 / ticks);
            put("process_start_time_seconds", help, Sort::Gauge, start);
        }
        let help = "Resident memory size in bytes.";
        let resident = Value::Whole(stat.rss_bytes().get());
        put("process_resident_memory_bytes", help, Sort::Gauge, resident);
        let help = "Virtual memory size in bytes.";
        put("process_virtual_memory_bytes", help, Sort::Gauge, Value::Whole(stat.vsize));
        let help = "Number of OS threads in the process.";
        let threads = u64::try_from(stat.num_threads).unwrap_or_default();
        put("process_threads", help, Sort::Gauge, Value::Whole(threads));
    }
    if let Ok(open) = process.fd_count() {
        let help = "Number of open file descriptors.";
        put("process_open_fds", help, Sort::Gauge, Value::Whole(open as u64));
    }
    if let Ok(limits) = process.limits()
        && let LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        let help = "Maximum number of open file descriptors.";
        put("process_max_fds", help, Sort::Gauge, Value::Whole(most));
    }
    families
}
