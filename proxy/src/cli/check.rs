//! `polyport check`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use polyport_codecs::Registry;

use super::{ConfigFile, load};
use crate::control::Changes;

/// Reads a config; with `against`, says how it differs from that one: what a reload from
/// there to here would change.
pub(super) fn check(
    file: &ConfigFile,
    against: Option<PathBuf>,
    registry: &Registry,
) -> Result<ExitCode, String> {
    let snapshot = load(file, registry)?;
    if let Some(old) = against {
        let old = load(&ConfigFile { config: old }, registry)?;
        let changes = Changes::between(&old.outline, &snapshot.outline);
        let mut out = std::io::stdout().lock();
        for line in &changes.lines {
            let _ = writeln!(out, "{line}");
        }
        for line in &changes.later {
            let _ = writeln!(out, "{line}");
        }
        let _ = writeln!(out, "{}: fine. {changes}", file.config.display());
        return Ok(ExitCode::SUCCESS);
    }
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
