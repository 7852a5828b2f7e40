//! `[[access-log]]`.

use std::ops::Range;

use polyport_codecs::{Interest, Registry};
use polyport_router::Matcher;
use toml::de::DeValue;

use super::diagnostic::suggest;
use super::matchers::{known_key, matchers, predicates_but};
use super::reader::Reader;
use super::retry::percent;
use crate::observe::access_log::format::{FIELDS, field};
use crate::observe::access_log::{AccessLog, AccessLogs, Field, Format, Key, MOST, Show};
use crate::observe::output::Target;
use crate::observe::redact::Redaction;

/// What may wait to be written, where a log says nothing else.
const BUFFER: usize = 8 << 20;

/// Fields that only the end of a request has: conditions on them are asked then.
fn end_fields() -> impl Iterator<Item = (&'static str, Field)> {
    FIELDS.iter().copied().filter(|(_, field)| field.is_of_end())
}

/// Their names, and whether each is a time.
pub(super) fn ends() -> impl Iterator<Item = (&'static str, bool)> {
    end_fields().map(|(name, field)| (name, field.is_time()))
}

pub(super) fn read(
    root: &mut Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
) -> AccessLogs {
    let mut all = AccessLogs::default();
    for section in root.sections("access-log", "[[access-log]]") {
        if all.list.len() == MOST {
            let message = format!("more than {MOST} access logs");
            section.source.error(section.span.clone(), message, None);
            break;
        }
        let log = one(&section, registry, interest, all.list.len(), &mut all.keys);
        all.list.extend(log);
    }
    all
}

fn one(
    section: &Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
    at: usize,
    keys: &mut Vec<Key>,
) -> Option<AccessLog> {
    section.finish(&[
        "to", "format", "keys", "match", "sample", "errors", "messages", "reveal", "buffer",
    ]);
    let to = section.required("to", "\"stdout\", or a file's name");
    let reveal = names(section, "reveal");
    for (name, span) in &reveal {
        known_key(section.source, registry, None, name, span.clone());
    }
    let redaction = Redaction::revealing(reveal.iter().map(|(name, _)| *name));
    let mut find = |name: &str, span: Range<usize>, interest: &mut Interest| {
        if let Some(field) = field(name) {
            return Some(field);
        }
        let names = FIELDS.iter().map(|(known, _)| *known);
        if let Some(help) = suggest(name, names)
            && !spelled(registry, name)
        {
            section.source.error(span, format!("no field is called `{name}`"), Some(help));
            return None;
        }
        if !known_key(section.source, registry, None, name, span) {
            return None;
        }
        let show = match () {
            () if redaction.reveals(name) => Show::Revealed,
            () if redaction.hides(name) => Show::Hidden,
            () => Show::Checked,
        };
        let slot = interest.add(name);
        let place = keys.iter().position(|had| had.slot == slot && had.show == show);
        let place = place.unwrap_or_else(|| {
            keys.push(Key { name: name.into(), slot, show, logs: 0 });
            keys.len() - 1
        });
        if let Some(key) = keys.get_mut(place) {
            key.logs |= 1 << at;
        }
        Some(Field::Key(place))
    };
    let asked = names(section, "keys");
    let format = match section.string("format") {
        None | Some(("json", _)) => {
            let mut fields = FIELDS.to_vec();
            for (name, span) in &asked {
                let found = find(name, span.clone(), interest);
                if let Some(found @ Field::Key(_)) = found {
                    fields.push((*name, found));
                }
            }
            Format::json(fields)
        }
        Some((text, span)) => {
            if let Some((_, at)) = asked.first() {
                let message = "`keys` are added to JSON lines; a template names its own".to_owned();
                section.source.error(at.clone(), message, Some("write {KEY} into `format`".into()));
            }
            template(section, text, &span, |name| find(name, span.clone(), interest))
        }
    };
    let shown = |name: &str| keys.iter().any(|key| key.logs & 1 << at != 0 && *key.name == *name);
    for (name, span) in &reveal {
        if !section.source.failed() && !shown(name) {
            let message = format!("`{name}` is revealed, and not in the lines");
            section.source.warn(span.clone(), message, None);
        }
    }
    let mut ends = Vec::new();
    let mut when = Vec::new();
    if let Some(conditions) = section.section("match", "match") {
        let later: Vec<&str> = end_fields().map(|(name, _)| name).collect();
        when = predicates_but(&conditions, &later, registry, interest);
        for (name, field) in end_fields() {
            let Some(value) = conditions.get(name) else { continue };
            if field.is_time() {
                ends.extend(times(&conditions, name).map(|matcher| (field, matcher)));
            } else {
                let asked = matchers(&conditions, name, value);
                ends.extend(asked.into_iter().map(|matcher| (field, matcher)));
            }
        }
    }
    let share = percent(section, "sample").unwrap_or(u64::MAX);
    let errors = match section.string("errors") {
        None | Some(("all", _)) => true,
        Some(("sampled", _)) => false,
        Some((other, span)) => {
            let help = "there are \"all\" and \"sampled\"".to_owned();
            let message = format!("`{other}` is no way to log errors");
            section.source.error(span, message, Some(help));
            true
        }
    };
    let buffer = section.size("buffer").map_or(BUFFER, |size| size as usize);
    let target = match to? {
        ("stdout", _) => Target::Stdout,
        ("stderr", _) => Target::Stderr,
        ("", span) => {
            let help = "write \"stdout\", \"stderr\" or a file's name".to_owned();
            section.source.error(span, "lines have to go somewhere".into(), Some(help));
            return None;
        }
        (path, _) => Target::File(section.source.folder().join(path)),
    };
    Some(AccessLog {
        target,
        format,
        when: when.into(),
        ends: ends.into(),
        share,
        errors,
        messages: section.boolean("messages").unwrap_or(false),
        buffer,
    })
}

/// Whether some protocol, or the proxy, has a key that is spelled so.
fn spelled(registry: &Registry, name: &str) -> bool {
    registry.keys().into_iter().chain(super::FACTS).any(|spec| match spec.family {
        true => name.len() > spec.name.len() && name.starts_with(spec.name),
        false => spec.name == name,
    })
}

fn template(
    section: &Reader<'_, '_>,
    text: &str,
    span: &Range<usize>,
    find: impl FnMut(&str) -> Option<Field>,
) -> Format {
    if text.contains(char::is_control) {
        let help = "a line ends by itself; write what stands on it".to_owned();
        let message = "a format of more than one line".to_owned();
        section.source.error(span.clone(), message, Some(help));
    }
    let read = Format::template(text, find);
    read.unwrap_or_else(|wrong| {
        section.source.error(span.clone(), wrong.to_owned(), None);
        Format::json([])
    })
}

/// The texts of a list, with their places.
fn names<'t>(section: &Reader<'_, 't>, key: &str) -> Vec<(&'t str, Range<usize>)> {
    let Some(value) = section.get(key) else { return Vec::new() };
    let DeValue::Array(list) = value.get_ref() else {
        section.wrong(value, "a list of keys");
        return Vec::new();
    };
    let text = |value: &'t super::reader::Value<'t>| match value.get_ref() {
        DeValue::String(text) => Some((text.as_ref(), value.span())),
        _ => {
            section.wrong(value, "a key");
            None
        }
    };
    list.iter().filter_map(text).collect()
}

/// `{ min = "100ms", max = "2s" }`, in µs.
fn times(conditions: &Reader<'_, '_>, name: &'static str) -> Option<Matcher> {
    let bounds = conditions.section(name, "a time")?;
    bounds.finish(&["min", "max"]);
    let micros = |key| bounds.duration(key).map(|time| time.as_micros() as f64);
    let (min, max) = (micros("min"), micros("max"));
    if min.is_none() && max.is_none() && !bounds.source.failed() {
        let help = format!("write {name} = {{ min = \"100ms\" }}");
        bounds.source.error(bounds.span.clone(), "no bound".into(), Some(help));
    }
    Some(Matcher::Range { min, max })
}
