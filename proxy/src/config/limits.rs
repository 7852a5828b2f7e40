//! `limit` of a route.

use polyport_codecs::{Interest, Registry, Slot};
use toml::de::DeValue;

use super::edits::names;
use super::matchers::known_key;
use super::reader::{Reader, Value};
use super::values::rate;
use crate::limit::{Limit, Limits, Rate};

/// Values that a limit has room for where the config does not say.
const VALUES: usize = 10_000;

/// Limits of one route, at most: each message asks them all.
const MOST: usize = 8;

/// `"100/s"`, `{ rate = "100/s", burst = 20, by = "KEY" }`, or an array of them.
pub(super) fn read(route: &Reader<'_, '_>, registry: &Registry, interest: &mut Interest) -> Limits {
    let Some(value) = route.get("limit") else { return Limits::default() };
    let one = [value];
    let values: Vec<&Value<'_>> = match value.get_ref() {
        DeValue::Array(array) => array.iter().collect(),
        _ => one.to_vec(),
    };
    if values.len() > MOST || values.is_empty() {
        let message = format!("expected 1 to {MOST} limits, found {}", values.len());
        route.source.error(value.span(), message, None);
    }
    let protocol = match names(route).as_deref() {
        Some([only]) => Some(*only),
        _ => None,
    };
    let all = values.into_iter();
    Limits(all.filter_map(|value| limit(route, value, registry, protocol, interest)).collect())
}

fn limit(
    route: &Reader<'_, '_>,
    value: &Value<'_>,
    registry: &Registry,
    protocol: Option<&str>,
    interest: &mut Interest,
) -> Option<Limit> {
    let table = match value.get_ref() {
        DeValue::String(text) => {
            let (count, per) = known_rate(route, text, value.span())?;
            return Some(Limit::new(Rate::new(count, per, count)));
        }
        DeValue::Table(table) => Reader::new(route.source, table, value.span(), "a limit"),
        _ => {
            route.wrong(value, "\"100/s\", or a table");
            return None;
        }
    };
    table.finish(&["rate", "burst", "by", "values"]);
    let (text, span) = table.required("rate", "\"100/s\"")?;
    let (count, per) = known_rate(&table, text, span)?;
    let rate = Rate::new(count, per, table.integer("burst", 1..=1 << 32).unwrap_or(count));
    let Some(by) = table.get("by") else {
        if let Some(values) = table.get("values") {
            let help = Some("add by = \"KEY\", or remove this".into());
            table.source.error(values.span(), "`values` of no key".into(), help);
        }
        return Some(Limit::new(rate));
    };
    let one = [by];
    let names: Vec<&Value<'_>> = match by.get_ref() {
        DeValue::Array(array) => array.iter().collect(),
        _ => one.to_vec(),
    };
    if names.is_empty() {
        table.source.error(by.span(), "a limit by no key".into(), Some("remove `by`".into()));
    }
    let mut keys: Vec<(&str, Slot)> = Vec::new();
    for name in names {
        let DeValue::String(key) = name.get_ref() else {
            table.wrong(name, "a key, or an array of keys");
            return None;
        };
        if !known_key(table.source, registry, protocol, key, name.span()) {
            return None;
        }
        keys.push((key, interest.add(key)));
    }
    let values = table.integer("values", 1..=1 << 20).map_or(VALUES, |values| values as usize);
    Some(Limit::by(rate, &keys, values))
}

fn known_rate(
    section: &Reader<'_, '_>,
    text: &str,
    span: std::ops::Range<usize>,
) -> Option<(u64, u64)> {
    let found = rate(text);
    if found.is_none() {
        let help = "write a number and a time: \"100/s\", \"5/m\" or \"1000/h\"";
        section.source.error(span, format!("`{text}` is no rate"), Some(help.into()));
    }
    found
}
