//! `polyport schema`: the config as a JSON Schema.

use std::process::ExitCode;

use polyport_codecs::Registry;

use super::written;
use crate::config::schema::json;

pub(super) fn schema(registry: &Registry) -> Result<ExitCode, String> {
    let text = serde_json::to_string_pretty(&json::schema(registry));
    let text = text.map_err(|error| format!("error: {error}"))?;
    written(format!("{text}\n").as_bytes())
}
