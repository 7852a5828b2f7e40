//! `polyport explain`: what becomes of a message, and why.
//!
//! All that is shown is gathered first ([`Decision`]), by the same functions that the
//! engine decides with; text and JSON are two ways to write that down.

mod decision;
mod target;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write;
use std::process::ExitCode;

use polyport_codecs::{
    Detection, Head, KeySpec, Metadata, Probe, Registry, Side, Slot, Step, View, detect,
};

use self::decision::Decision;
use super::decode::STREAMS;
use super::{Explain, load};
use crate::config::FACTS;
use crate::engine::effective_lease;
use crate::snapshot::{Enabled, Snapshot};

pub(super) fn explain(options: &Explain, registry: &Registry) -> Result<ExitCode, String> {
    let snapshot = load(&options.config, registry)?;
    let mut metadata = Metadata::new(&snapshot.interest);
    let bytes = match &options.frame {
        Some(path) => std::fs::read(path)
            .map_err(|error| format!("error: cannot read {}: {error}", path.display()))?,
        None => Vec::new(),
    };
    let (protocol, head) = if options.frame.is_some() {
        let (protocol, head) =
            frame(options.protocol.as_deref(), &bytes, &snapshot, &mut metadata)?;
        (Some(protocol), Some(head))
    } else {
        (facts(&options.facts, &snapshot, registry, &mut metadata)?, None)
    };
    let view = metadata.view(&bytes);
    let decision = Decision::of(&Message { snapshot: &snapshot, view, protocol, head });
    let text = if options.json {
        serde_json::to_string(&decision).map_err(|error| error.to_string())?
    } else {
        decision.to_string()
    };
    writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())?;
    Ok(if decision.route.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is asked of a running proxy about a message: what it says, or its bytes.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// `key=value`.
    #[serde(default)]
    pub(crate) facts: Vec<String>,
    /// The bytes of a message instead, in base64.
    pub(crate) frame: Option<String>,
    /// The protocol of the bytes, where they do not tell.
    pub(crate) protocol: Option<String>,
}

/// The decision as JSON, and the same as text; what secrets are compared with is hidden.
///
/// # Errors
/// Why the message cannot be understood.
pub(crate) fn answer(
    question: &Question,
    snapshot: &Snapshot,
    registry: &Registry,
) -> Result<(serde_json::Value, String), String> {
    use base64::Engine as _;
    let mut metadata = Metadata::new(&snapshot.interest);
    let bytes = match &question.frame {
        Some(text) => base64::prelude::BASE64_STANDARD
            .decode(text)
            .map_err(|error| format!("error: `frame` is no base64: {error}"))?,
        None => Vec::new(),
    };
    let (protocol, head) = if question.frame.is_some() {
        let (protocol, head) =
            frame(question.protocol.as_deref(), &bytes, snapshot, &mut metadata)?;
        (Some(protocol), Some(head))
    } else {
        (facts(&question.facts, snapshot, registry, &mut metadata)?, None)
    };
    let mut decision =
        Decision::of(&Message { snapshot, view: metadata.view(&bytes), protocol, head });
    decision.hide_secrets(snapshot);
    let json = serde_json::to_value(&decision).map_err(|error| error.to_string())?;
    Ok((json, decision.to_string()))
}

/// What is known of the message that is asked about.
struct Message<'a> {
    snapshot: &'a Snapshot,
    view: View<'a>,
    /// Its protocol.
    protocol: Option<&'a Enabled>,
    /// Its head, where its bytes are given.
    head: Option<Head>,
}

impl Message<'_> {
    fn key(&self, slot: Slot) -> String {
        self.snapshot.interest.names().nth(usize::from(slot.0)).unwrap_or("?").to_owned()
    }

    fn value(&self, slot: Slot) -> Option<String> {
        self.view.get(slot).map(|value| value.escape_ascii().to_string())
    }

    /// The key that its protocol keeps its clients apart by.
    fn affinity(&self) -> Option<Slot> {
        self.protocol.and_then(|enabled| enabled.affinity)
    }

    /// Its head and what it asks of its connection, where its bytes are given.
    fn asks(&self) -> Option<(Head, polyport_codecs::Exchange, polyport_codecs::Lease)> {
        let (head, exchange) = (self.head?, self.protocol?.protocol.exchange());
        Some((head, exchange, effective_lease(&head, exchange)))
    }
}

/// Fills in what was said of the message; its protocol, where that was.
fn facts<'a>(
    facts: &[String],
    snapshot: &'a Snapshot,
    registry: &Registry,
    metadata: &mut Metadata,
) -> Result<Option<&'a Enabled>, String> {
    let mut protocol = None;
    for fact in facts {
        let (key, value) =
            fact.split_once('=').ok_or_else(|| format!("error: `{fact}` is not key=value"))?;
        let fills = |spec: &KeySpec| spec.name == key || spec.family && key.starts_with(spec.name);
        let known = FACTS.iter().chain(registry.keys()).any(fills);
        if !known {
            return Err(format!("error: no protocol has a key `{key}`"));
        }
        if key == "protocol" {
            protocol = snapshot.protocols.iter().find(|enabled| enabled.protocol.name() == value);
        }
        // A key that no rule asks for changes nothing.
        if let Some(slot) = snapshot.interest.slot(key) {
            metadata.set_text(slot, value.as_bytes());
        }
    }
    Ok(protocol)
}

/// Decodes the first message of the bytes.
fn frame<'a>(
    protocol: Option<&str>,
    bytes: &[u8],
    snapshot: &'a Snapshot,
    metadata: &mut Metadata,
) -> Result<(&'a Enabled, Head), String> {
    let protocols: Vec<_> = snapshot.protocols.iter().map(|enabled| enabled.protocol).collect();
    let name = match (protocol, detect(&protocols, bytes)) {
        (Some(name), _) => name,
        (None, Detection::Matched(protocol)) => protocol.name(),
        (None, _) => {
            return Err("error: the bytes tell no protocol; name it with --protocol".into());
        }
    };
    let enabled = snapshot
        .protocols
        .iter()
        .find(|enabled| enabled.protocol.name() == name)
        .ok_or_else(|| format!("error: unknown protocol `{name}`"))?;
    if matches!(enabled.protocol.streams(bytes), Probe::Yes { .. }) {
        return Err(STREAMS.to_owned());
    }
    if let Some(slot) = snapshot.facts.protocol {
        metadata.keep(slot, name.as_bytes());
    }
    match enabled.codec.decoder(Side::Request).decode(bytes, metadata) {
        Ok(Step::Head(head)) => Ok((enabled, head)),
        Ok(_) => Err("error: the file ends before the message's head does".into()),
        Err(error) => Err(format!("error: {error}")),
    }
}
