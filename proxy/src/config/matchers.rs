//! `match`: keys, and what is asked of their values.

use std::ops::Range;

use ipnet::IpNet;
use polyport_codecs::{Interest, KeySpec, Registry};
use polyport_router::{Matcher, Predicate};
use toml::de::DeValue;

use super::FACTS;
use super::diagnostic::suggest;
use super::reader::{Reader, Source, Value, integer};

/// The words that say how a value is matched.
const WAYS: &[&str] =
    &["prefix", "suffix", "contains", "regex", "present", "in", "min", "max", "cidr", "not", "any"];

/// The predicates of one `match` table.
pub(super) fn predicates(
    section: &Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
) -> Vec<Predicate> {
    predicates_but(section, &[], registry, interest)
}

/// The same of a table in which some names, `skip`, mean something else.
pub(super) fn predicates_but(
    section: &Reader<'_, '_>,
    skip: &[&str],
    registry: &Registry,
    interest: &mut Interest,
) -> Vec<Predicate> {
    let value = section.get("protocol");
    let protocol = match value.map(|value| value.get_ref()) {
        Some(DeValue::String(name)) => Some(name.as_ref()),
        _ => None,
    };
    match value.map(|value| (value, value.get_ref())) {
        Some((value, DeValue::String(_))) => known_protocol(section.source, registry, value),
        Some((_, DeValue::Array(array))) => {
            array.iter().for_each(|value| known_protocol(section.source, registry, value));
        }
        _ => {}
    }
    let mut all = Vec::new();
    walk(section, "", skip, registry, protocol, interest, &mut all);
    all
}

/// Complains of a name that no protocol has.
fn known_protocol(source: &Source<'_>, registry: &Registry, value: &Value<'_>) {
    if let DeValue::String(name) = value.get_ref()
        && registry.get(name).is_none()
        && name != super::TCP
    {
        let names: Vec<&str> = registry.protocols().iter().map(|known| known.name()).collect();
        let help = suggest(name, names.iter().copied())
            .unwrap_or_else(|| format!("there are {}", names.join(", ")));
        source.error(value.span(), format!("unknown protocol `{name}`"), Some(help));
    }
}

fn walk(
    section: &Reader<'_, '_>,
    prefix: &str,
    skip: &[&str],
    registry: &Registry,
    protocol: Option<&str>,
    interest: &mut Interest,
    all: &mut Vec<Predicate>,
) {
    for (key, span, value) in section.entries() {
        if prefix.is_empty() && skip.contains(&key) {
            continue;
        }
        let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        // A bare dotted key arrives as tables in tables.
        if let DeValue::Table(table) = value.get_ref()
            && !table.iter().any(|(way, _)| WAYS.contains(&way.get_ref().as_ref()))
            && !table.is_empty()
            && !specs(registry)
                .any(|spec| !spec.family && spec.name == name && !is_parent(registry, &name))
        {
            let inner = Reader::new(section.source, table, value.span(), "match");
            walk(&inner, &name, skip, registry, protocol, interest, all);
            continue;
        }
        if !known_key(section.source, registry, protocol, &name, span) {
            continue;
        }
        let slot = interest.add(&name);
        for matcher in matchers(section, &name, value) {
            let matcher = if name == LIST { one_of_list(matcher) } else { matcher };
            all.push(Predicate { slot, matcher });
        }
    }
}

/// The key whose value is a list, joined by commas: exact rules ask for one of its members.
const LIST: &str = "tls.client.san";

fn one_of_list(matcher: Matcher) -> Matcher {
    let joined = |parts: [&[u8]; 3]| -> Box<[u8]> { parts.concat().into() };
    let member = |value: Box<[u8]>| {
        let within = [
            Matcher::Prefix(joined([&value, b",", b""])),
            Matcher::Suffix(joined([b",", &value, b""])),
            Matcher::Contains(joined([b",", &value, b","])),
        ];
        Matcher::Any([Matcher::Exact(value)].into_iter().chain(within).collect())
    };
    match matcher {
        Matcher::Exact(value) => member(value),
        Matcher::In(values) => Matcher::Any(values.into_iter().map(member).collect()),
        Matcher::Not(inner) => Matcher::Not(Box::new(one_of_list(*inner))),
        Matcher::Any(options) => Matcher::Any(options.into_iter().map(one_of_list).collect()),
        other => other,
    }
}

fn specs(registry: &Registry) -> impl Iterator<Item = &'static KeySpec> {
    registry.keys().into_iter().chain(FACTS)
}

fn is_parent(registry: &Registry, name: &str) -> bool {
    specs(registry)
        .any(|spec| spec.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn fills(spec: &KeySpec, key: &str) -> bool {
    if spec.family {
        key.len() > spec.name.len()
            && key.get(..spec.name.len()).is_some_and(|start| start.eq_ignore_ascii_case(spec.name))
    } else {
        spec.name.eq_ignore_ascii_case(key)
    }
}

/// Whether some codec (that of `protocol`, where it is given) or the proxy fills `key`.
pub(super) fn known_key(
    source: &Source<'_>,
    registry: &Registry,
    protocol: Option<&str>,
    key: &str,
    span: Range<usize>,
) -> bool {
    if FACTS.iter().any(|spec| fills(spec, key)) || key == "protocol" {
        return true;
    }
    let named = protocol.and_then(|name| registry.get(name));
    let show = |specs: &mut dyn Iterator<Item = &'static KeySpec>| {
        let names: Vec<String> = specs
            .map(|spec| if spec.family { format!("{}NAME", spec.name) } else { spec.name.into() })
            .collect();
        names.join(", ")
    };
    if let Some(named) = named {
        if named.keys().iter().any(|spec| fills(spec, key)) {
            return true;
        }
        let help = suggest(key, named.keys().iter().map(|spec| spec.name))
            .unwrap_or_else(|| format!("it has {}", show(&mut named.keys().iter())));
        source.error(span, format!("{} has no key `{key}`", named.name()), Some(help));
        return false;
    }
    if specs(registry).any(|spec| fills(spec, key)) {
        return true;
    }
    let help = suggest(key, specs(registry).map(|spec| spec.name))
        .unwrap_or_else(|| format!("there are {}", show(&mut specs(registry))));
    source.error(span, format!("no protocol has a key `{key}`"), Some(help));
    false
}

/// Everything that must hold of one key.
pub(super) fn matchers(section: &Reader<'_, '_>, key: &str, value: &Value<'_>) -> Vec<Matcher> {
    let DeValue::Table(table) = value.get_ref() else {
        return simple(section, key, value).into_iter().collect();
    };
    let ways = Reader::new(section.source, table, value.span(), "a matcher");
    ways.finish(WAYS);
    let text = |way: &str| ways.string(way).map(|(text, _)| text.as_bytes().into());
    let mut all = Vec::new();
    all.extend(text("prefix").map(Matcher::Prefix));
    all.extend(text("suffix").map(Matcher::Suffix));
    all.extend(text("contains").map(Matcher::Contains));
    if let Some((expression, span)) = ways.string("regex") {
        match Matcher::regex(expression) {
            Ok(matcher) => all.push(matcher),
            Err(error) => {
                let message = format!("this is no regular expression: {error}");
                ways.source.error(span, message, None);
            }
        }
    }
    if let Some(present) = ways.boolean("present") {
        all.push(if present { Matcher::Present } else { Matcher::Absent });
    }
    if let Some(values) = ways.get("in") {
        all.extend(simple(&ways, key, values));
    }
    let (min, max) = (bound(&ways, "min"), bound(&ways, "max"));
    if min.is_some() || max.is_some() {
        all.push(Matcher::Range { min, max });
    }
    if let Some(values) = ways.get("cidr") {
        all.extend(networks(&ways, values));
    }
    if let Some(inner) = ways.get("not") {
        let mut inner = matchers(&ways, key, inner);
        match (inner.pop(), inner.is_empty()) {
            (Some(only), true) => all.push(Matcher::Not(Box::new(only))),
            (Some(last), false) => {
                // Not all of several: one of them does not hold.
                inner.push(last);
                let each = inner.into_iter().map(|matcher| Matcher::Not(Box::new(matcher)));
                all.push(Matcher::Any(each.collect()));
            }
            (None, _) => {}
        }
    }
    if let Some(values) = ways.get("any") {
        match values.get_ref() {
            DeValue::Array(array) => {
                let options = array.iter().filter_map(|value| {
                    let mut inner = matchers(&ways, key, value);
                    let first = inner.pop();
                    if !inner.is_empty() {
                        let message = "one matcher for each option, please".to_owned();
                        ways.source.error(value.span(), message, None);
                    }
                    first
                });
                all.push(Matcher::Any(options.collect()));
            }
            _ => ways.wrong(values, "an array of matchers"),
        }
    }
    if all.is_empty() && !ways.source.failed() {
        let help = format!("there are {}", WAYS.join(", "));
        ways.source.error(value.span(), "this asks nothing".into(), Some(help));
    }
    all
}

/// A value that is not a table: exact, one of several, present or absent.
fn simple(section: &Reader<'_, '_>, key: &str, value: &Value<'_>) -> Option<Matcher> {
    if key == "source.ip" && matches!(value.get_ref(), DeValue::String(_) | DeValue::Array(_)) {
        return networks(section, value);
    }
    match value.get_ref() {
        DeValue::Boolean(true) => Some(Matcher::Present),
        DeValue::Boolean(false) => Some(Matcher::Absent),
        DeValue::Array(array) => {
            let values: Vec<String> =
                array.iter().filter_map(|value| scalar(section, value)).collect();
            if array.is_empty() {
                let message = "none of no values: this never matches".to_owned();
                section.source.error(value.span(), message, None);
            }
            Some(Matcher::one_of(values))
        }
        _ => Some(Matcher::Exact(scalar(section, value)?.into_bytes().into())),
    }
}

fn scalar(section: &Reader<'_, '_>, value: &Value<'_>) -> Option<String> {
    match (value.get_ref(), integer(value.get_ref())) {
        (DeValue::String(text), _) => Some(text.to_string()),
        (_, Some(number)) => Some(number.to_string()),
        _ => {
            section.wrong(value, "a string or a whole number");
            None
        }
    }
}

fn bound(ways: &Reader<'_, '_>, key: &str) -> Option<f64> {
    let value = ways.get(key)?;
    let number = match value.get_ref() {
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
        other => integer(other).map(|number| number as f64),
    };
    if number.is_none() {
        ways.wrong(value, "a number");
    }
    number
}

fn networks(section: &Reader<'_, '_>, value: &Value<'_>) -> Option<Matcher> {
    let one = [value];
    let values: Vec<&Value<'_>> = match value.get_ref() {
        DeValue::Array(array) => array.iter().collect(),
        _ => one.to_vec(),
    };
    let mut all = Vec::new();
    for value in values {
        let text = scalar(section, value)?;
        let network: Option<IpNet> =
            text.parse().ok().or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| ip.into()));
        match network {
            Some(network) => all.push(network),
            None => {
                let help = "write an address or a network: \"10.0.0.7\" or \"10.0.0.0/8\"";
                let message = format!("`{text}` is no network");
                section.source.error(value.span(), message, Some(help.into()));
                return None;
            }
        }
    }
    Some(Matcher::Cidr(all))
}
