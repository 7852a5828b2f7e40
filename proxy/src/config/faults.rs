//! `fault` of a route.

use std::sync::Arc;

use polyport_codecs::{Answer, Interest, Protocol, Registry, ReplyTo};
use toml::de::DeValue;

use super::access::when;
use super::diagnostic::suggest;
use super::edits::protocols;
use super::reader::{Reader, Value, integer};
use crate::edit::Reply;
use crate::guard::{FAULTS, Injected, Wrong};

/// The kinds of fault.
const KINDS: [&str; 4] = ["delay", "abort", "reset", "bandwidth"];

/// Faults of one route, at most: each message draws for them all.
const MOST: usize = 16;

/// A table, or an array of them.
pub(super) fn read(
    route: &Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
) -> Box<[Injected]> {
    let Some(value) = route.get("fault") else { return Box::default() };
    let one = [value];
    let values: Vec<&Value<'_>> = match value.get_ref() {
        DeValue::Array(array) => array.iter().collect(),
        _ => one.to_vec(),
    };
    if values.len() > MOST || values.is_empty() {
        let message = format!("expected 1 to {MOST} faults, found {}", values.len());
        route.source.error(value.span(), message, None);
    }
    values.into_iter().filter_map(|value| fault(route, value, registry, interest)).collect()
}

fn fault(
    route: &Reader<'_, '_>,
    value: &Value<'_>,
    registry: &Registry,
    interest: &mut Interest,
) -> Option<Injected> {
    let DeValue::Table(table) = value.get_ref() else {
        route.wrong(value, "a fault: { delay = \"100ms\", percent = 10 }");
        return None;
    };
    let table = Reader::new(route.source, table, value.span(), "a fault");
    table.finish(&["delay", "abort", "reset", "bandwidth", "percent", "match"]);
    let named: Vec<&str> = KINDS.into_iter().filter(|kind| table.get(kind).is_some()).collect();
    let [kind] = named[..] else {
        let message = match named.is_empty() {
            true => "a fault that does nothing".to_owned(),
            false => format!("one fault is {}", named.join(" and ")),
        };
        let help = format!("a fault is one of {}; an array may hold several", KINDS.join(", "));
        table.source.error(value.span(), message, Some(help));
        return None;
    };
    let what = match kind {
        "delay" => Wrong::Delay(table.duration("delay")?),
        "bandwidth" => Wrong::Bandwidth(bandwidth(&table)?),
        "reset" => {
            if !table.boolean("reset")? {
                let message = "a fault that does nothing".to_owned();
                table.source.error(value.span(), message, Some("write reset = true".into()));
            }
            Wrong::Reset
        }
        _ => abort(route, &table, registry)?,
    };
    Some(Injected {
        what,
        per_million: per_million(&table),
        when: when(&table, "match", registry, interest),
    })
}

/// `"100KiB/s"`.
fn bandwidth(table: &Reader<'_, '_>) -> Option<u64> {
    let (text, span) = table.string("bandwidth")?;
    let rate = text.strip_suffix("/s").and_then(super::values::size);
    if rate.is_none_or(|rate| !(64..1 << 40).contains(&rate)) {
        let help = "write a size a second, 64B/s at least: \"100KiB/s\"";
        table.source.error(span, format!("`{text}` is no bandwidth"), Some(help.into()));
    }
    rate
}

/// The name of a fault, or a status of a protocol in which routes can answer.
fn abort(route: &Reader<'_, '_>, table: &Reader<'_, '_>, registry: &Registry) -> Option<Wrong> {
    let value = table.get("abort")?;
    if let DeValue::String(name) = value.get_ref() {
        let names = FAULTS.map(|(name, _)| name);
        let found = FAULTS.iter().find(|(had, _)| had == name).map(|(_, fault)| *fault);
        if found.is_none() {
            let help = suggest(name, names).unwrap_or_else(|| {
                let answering = answering(registry).join(", ");
                format!(
                    "there are {}; for {answering} also a status, such as 503",
                    names.join(", ")
                )
            });
            table.source.error(value.span(), format!("unknown fault `{name}`"), Some(help));
        }
        return found.map(Wrong::Abort);
    }
    let Some(status) = integer(value.get_ref()) else {
        table.wrong(value, "the name of a fault, or a status");
        return None;
    };
    let Some(status) = u16::try_from(status).ok().filter(|status| (200..=599).contains(status))
    else {
        table.source.error(value.span(), "expected a status from 200 to 599".into(), None);
        return None;
    };
    let named = protocols(route, registry).unwrap_or_default();
    if named.is_empty() || !named.into_iter().all(answers) {
        let message = "not every protocol of this route can answer with a status".to_owned();
        let help = format!(
            "let its match say protocol = \"{}\", or name a fault: {}",
            answering(registry).join("\" or \""),
            FAULTS.map(|(name, _)| name).join(", ")
        );
        table.source.error(value.span(), message, Some(help));
        return None;
    }
    Some(Wrong::Respond(Arc::new(Reply { status, headers: Vec::new(), body: Box::default() })))
}

/// Whether routes can answer with a status of the protocol's own.
fn answers(protocol: &dyn Protocol) -> bool {
    let answer = Answer { status: 503, headers: &[], body: b"" };
    protocol.respond(ReplyTo::default(), &answer, &mut Vec::new()).is_some()
}

fn answering(registry: &Registry) -> Vec<&'static str> {
    let able = registry.protocols().iter().filter(|known| answers(**known));
    able.map(|known| known.name()).collect()
}

/// Of a hundred messages, with fractions; all where nothing is said.
fn per_million(table: &Reader<'_, '_>) -> u32 {
    let Some(value) = table.get("percent") else { return 1_000_000 };
    let percent = match value.get_ref() {
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
        other => integer(other).map(|number| number as f64),
    };
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => (percent * 10_000.0).round() as u32,
        Some(_) => {
            table.source.error(value.span(), "expected a number from 0 to 100".into(), None);
            0
        }
        None => {
            table.wrong(value, "a number from 0 to 100");
            0
        }
    }
}
