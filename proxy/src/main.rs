//! The `polyport` binary: the command line over every protocol of the registry.

use std::process::ExitCode;

use polyport_codecs::Registry;

fn main() -> ExitCode {
    polyport::cli::main(&Registry::builtin())
}
