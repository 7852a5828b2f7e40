//! `polyport check`.

use std::io::Write;
use std::process::ExitCode;

use polyport_codecs::Registry;

use super::{ConfigFile, load};

pub(super) fn check(file: &ConfigFile, registry: &Registry) -> Result<ExitCode, String> {
    let snapshot = load(file, registry)?;
    let keys: Vec<&str> = snapshot.interest.names().collect();
    let _ = writeln!(
        std::io::stdout(),
        "{}: fine. {} listeners, {} clusters, {} routes; keys in use: {}",
        file.config.display(),
        snapshot.listeners.len(),
        snapshot.clusters.len(),
        snapshot.routes.routes().len(),
        if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
    );
    Ok(ExitCode::SUCCESS)
}
