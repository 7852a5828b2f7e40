//! `polyport upgrade`: has a running proxy hand over to the binary that is now in place of
//! its own, and waits until it is known what came of it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::control::upgrade::pid_file::{self, Outcome};

/// Asks the process of this id, or the one that the pid file names. At most `patience` is
/// waited for what comes of it.
///
/// # Errors
/// Where there is no such process, it did not say what came of it, or another did not take over.
pub(super) fn upgrade(
    pid: Option<u32>,
    file: Option<PathBuf>,
    patience: Duration,
) -> Result<ExitCode, String> {
    let (pid, file) = match (pid, file) {
        (Some(pid), Some(file)) => (pid, file),
        (Some(pid), None) => (pid, pid_file_of(pid)?),
        (None, Some(file)) => {
            let pid = pid_file::read(&file);
            (pid.map_err(|error| format!("cannot read {}: {error}", file.display()))?, file)
        }
        (None, None) => return Err("say which process: --pid or --pid-file".to_owned()),
    };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| format!("{pid} is no process id"))?;
    let (before, asked) = (Outcome::read(&file).ok(), Outcome::clock());
    kill_process(process, Signal::USR2).map_err(|error| format!("process {pid}: {error}"))?;
    let until = Instant::now() + patience;
    loop {
        let outcome = Outcome::read(&file).ok().filter(|now| Some(now) != before.as_ref());
        if let Some(outcome) = outcome.filter(|outcome| outcome.from == pid) {
            return match outcome.to {
                _ if !outcome.answers(asked) => {
                    let came =
                        outcome.to.map_or(outcome.why, |to| format!("process {to} has taken over"));
                    Err(format!(
                        "another upgrade was under way, so this one was not begun: {came}; ask again"
                    ))
                }
                Some(to) => {
                    let _ = writeln!(std::io::stdout(), "process {to} has taken over from {pid}");
                    Ok(ExitCode::SUCCESS)
                }
                None => Err(format!("process {pid} goes on: {}", outcome.why)),
            };
        }
        if test_kill_process(process).is_err() {
            return Err(format!("process {pid} has ended, and did not say who follows it"));
        }
        if Instant::now() >= until {
            return Err(format!("process {pid} did not say what came of it within {patience:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The pid file that a process was told to keep.
fn pid_file_of(pid: u32) -> Result<PathBuf, String> {
    let of = |what: &str| format!("/proc/{pid}/{what}");
    let said = std::fs::read(of("cmdline")).map_err(|error| format!("process {pid}: {error}"))?;
    let words: Vec<_> = said.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let follows = words.iter().skip_while(|word| *word != "--pid-file").nth(1);
    let named = words.iter().find_map(|word| word.strip_prefix("--pid-file="));
    let file = follows.map(AsRef::as_ref).or(named).ok_or_else(|| {
        format!(
            "process {pid} was started without --pid-file, so it cannot say what came of it; \
             SIGUSR2 has it upgraded all the same"
        )
    })?;
    let folder =
        std::fs::read_link(of("cwd")).map_err(|error| format!("process {pid}: {error}"))?;
    Ok(folder.join(Path::new(file)))
}
