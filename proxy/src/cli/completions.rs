//! `polyport completions`: what a shell has to know to complete our command line.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, written};

pub(super) fn completions(shell: Shell) -> Result<ExitCode, String> {
    // Into memory first: the generator panics where standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "polyport", &mut script);
    written(&script)
}
