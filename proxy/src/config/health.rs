//! A cluster's `health` and `outlier`.

use std::time::Duration;

use polyport_codecs::health::{HealthAsk, HealthOption, HealthWay};
use polyport_codecs::{Interest, Limits, Probe, Protocol, Registry};
use toml::de::DeValue;

use super::diagnostic::suggest;
use super::reader::{Reader, Value, integer};
use crate::health::checks::{Checks, Question};
use crate::health::outlier::{Rules, SuccessRate};

/// What every `health` has, whatever it asks.
const COMMON: &[&str] = &["every", "timeout", "unhealthy", "healthy", "jitter", "protocol"];

/// Bytes of an answer, beyond which it is not that of a server that is well.
const ANSWER: usize = 64 << 10;

/// A cluster's `health`: a duration, or a table.
pub(super) fn checks(cluster: &Reader<'_, '_>, registry: &Registry, http2: bool) -> Option<Checks> {
    let value = cluster.get("health")?;
    let mut checks = Checks {
        every: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        unhealthy: 3,
        healthy: 2,
        jitter: 10,
        question: None,
    };
    if let DeValue::String(_) = value.get_ref() {
        checks.every = cluster.duration("health")?;
        checks.timeout = checks.timeout.min(checks.every);
        return Some(checks);
    }
    let DeValue::Table(table) = value.get_ref() else {
        cluster.wrong(value, "\"5s\", or { every = \"5s\", protocol = \"redis\" }");
        return None;
    };
    let section = Reader::new(cluster.source, table, value.span(), "health");
    checks.every = section.duration("every").unwrap_or(checks.every);
    let timeout = section.duration("timeout");
    if let (Some(timeout), Some(value)) = (timeout, section.get("timeout"))
        && timeout > checks.every
    {
        let message =
            format!("a check may take {timeout:?}, and there is one every {:?}", checks.every);
        section.source.error(value.span(), message, Some("lower timeout, or raise every".into()));
    }
    checks.timeout = timeout.unwrap_or(checks.timeout.min(checks.every));
    let number = |key: &str, range, default: u32| {
        section.integer(key, range).map_or(default, |number| number as u32)
    };
    checks.unhealthy = number("unhealthy", 1..=1000, checks.unhealthy);
    checks.healthy = number("healthy", 1..=1000, checks.healthy);
    checks.jitter = number("jitter", 0..=100, checks.jitter);
    checks.question = question(&section, registry, http2);
    Some(checks)
}

/// A protocol's way to be asked, where it is called `name`.
fn ways(protocol: &'static dyn Protocol) -> Vec<HealthWay> {
    let ways = protocol.health_ways();
    if ways.is_empty() && protocol.heartbeat(0, &mut Vec::new()) {
        return vec![HealthWay { name: protocol.name(), options: &[], streams: false }];
    }
    ways.to_vec()
}

/// What may stand at `protocol`.
pub(super) fn names(registry: &Registry) -> Vec<&'static str> {
    registry.protocols().iter().flat_map(|&known| ways(known)).map(|way| way.name).collect()
}

fn question(section: &Reader<'_, '_>, registry: &Registry, http2: bool) -> Option<Question> {
    let all: Vec<(&'static dyn Protocol, HealthWay)> = registry
        .protocols()
        .iter()
        .flat_map(|&protocol| ways(protocol).into_iter().map(move |way| (protocol, way)))
        .collect();
    let named = section.string("protocol");
    let found = named.as_ref().and_then(|(name, _)| all.iter().find(|(_, way)| way.name == *name));
    if let (None, Some((name, span))) = (found, &named) {
        let names = all.iter().map(|(_, way)| way.name);
        let (message, help) = match registry.get(name) {
            Some(_) => {
                let help = "without `protocol`, a connection is all that is asked for";
                (format!("servers of {name} cannot be asked how they are"), help.to_owned())
            }
            None => {
                let names: Vec<&str> = names.collect();
                let help = suggest(name, names.iter().copied());
                let help = help.unwrap_or_else(|| format!("there are {}", names.join(", ")));
                (format!("no health check is called `{name}`"), help)
            }
        };
        section.source.error(span.clone(), message, Some(help));
        return None;
    }
    if section.get("protocol").is_some() && named.is_none() {
        return None;
    }
    let options = options(section, &all, found.map(|(_, way)| way));
    let ((protocol, way), (name, span)) = (*found?, named?);
    if way.streams && !http2 {
        let message = format!("{name} goes over HTTP/2 only");
        let help = "add http2 = true to the cluster, or ask another way".to_owned();
        section.source.error(span, message, Some(help));
        return None;
    }
    let streams = http2 && protocol.streams(b"") != Probe::No;
    let limits = Limits { frame: ANSWER as u64, ..Limits::default() };
    match protocol.health(&HealthAsk { way: way.name, options: &options }) {
        Ok(check) => {
            let mut words = vec![name.to_owned()];
            words
                .extend(options.iter().map(|(key, values)| format!("{key} {}", values.join(", "))));
            Some(Question {
                name: words.join(" "),
                protocol,
                codec: protocol.compile(&limits, &Interest::nothing()),
                check,
                streams,
            })
        }
        Err(error) => {
            let value = section.get(error.option);
            let span = value.map_or(section.span.clone(), |value| value.span());
            section.source.error(span, format!("{name}: {error}"), None);
            None
        }
    }
}

/// What is said beside [`COMMON`]; complains of what the check does not know.
fn options(
    section: &Reader<'_, '_>,
    all: &[(&'static dyn Protocol, HealthWay)],
    way: Option<&HealthWay>,
) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let has = |way: &HealthWay, key: &str| way.options.iter().any(|option| option.name == key);
    for (key, span, value) in section.entries() {
        if COMMON.contains(&key) {
            continue;
        }
        if way.is_some_and(|way| has(way, key)) {
            found.extend(texts(section, value).map(|texts| (key.to_owned(), texts)));
            continue;
        }
        let others = all.iter().filter(|(_, way)| has(way, key));
        let others: Vec<&str> = others.map(|(_, way)| way.name).collect();
        if others.is_empty() {
            let own = way.map_or(&[][..], |way| way.options).iter().map(|option| option.name);
            let known: Vec<&str> = COMMON.iter().copied().chain(own).collect();
            let help = suggest(key, known.iter().copied());
            let help = help.unwrap_or_else(|| format!("health has {}", known.join(", ")));
            section.source.error(span, format!("unknown key `{key}`"), Some(help));
            continue;
        }
        let (message, help) = match way {
            Some(way) => {
                let mine: Vec<String> = way.options.iter().map(told).collect();
                let mine = if mine.is_empty() { "nothing".to_owned() } else { mine.join("; ") };
                (format!("`{key}` means nothing to {}", way.name), format!("it can be told {mine}"))
            }
            None => {
                let other = others.first().copied().unwrap_or_default();
                let message = format!("`{key}` means nothing where only a connection is asked for");
                (message, format!("add protocol = \"{other}\""))
            }
        };
        section.source.error(span, message, Some(help));
    }
    found
}

fn told(option: &HealthOption) -> String {
    format!("{}, {}", option.name, option.about)
}

/// A string, a number, or an array of these, as texts.
fn texts(section: &Reader<'_, '_>, value: &Value<'_>) -> Option<Vec<String>> {
    let text = |value: &Value<'_>| match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        other => integer(other).map(|number| number.to_string()),
    };
    let found = match value.get_ref() {
        DeValue::Array(array) if !array.is_empty() => array.iter().map(text).collect(),
        _ => text(value).map(|one| vec![one]),
    };
    if found.is_none() {
        section.wrong(value, "a string, a number, or an array of these");
    }
    found
}

/// A cluster's `outlier`: `true`, or a table.
pub(super) fn outlier(cluster: &Reader<'_, '_>) -> Option<Rules> {
    let value = cluster.get("outlier")?;
    let mut rules = Rules {
        consecutive: 5,
        success_rate: None,
        latency: None,
        every: Duration::from_secs(10),
        base: Duration::from_secs(30),
        max: Duration::from_secs(300),
        cap: 50,
        min_requests: 50,
        min_endpoints: 3,
    };
    match value.get_ref() {
        DeValue::Boolean(on) => return on.then_some(rules),
        DeValue::Table(_) => {}
        _ => {
            cluster.wrong(value, "true, or { consecutive = 5 }");
            return None;
        }
    }
    let section = cluster.section("outlier", "outlier")?;
    section.finish(&[
        "consecutive",
        "success-rate",
        "latency",
        "every",
        "base",
        "max",
        "cap",
        "min-requests",
        "min-endpoints",
    ]);
    let number = |key: &str, range, default: u64| section.integer(key, range).unwrap_or(default);
    rules.consecutive = number("consecutive", 0..=1_000_000, 5) as u32;
    rules.cap = number("cap", 1..=100, 50) as u32;
    rules.min_requests = number("min-requests", 1..=1_000_000_000, 50);
    rules.min_endpoints = number("min-endpoints", 2..=1 << 20, 3) as usize;
    rules.every = section.duration("every").unwrap_or(rules.every);
    rules.base = section.duration("base").unwrap_or(rules.base);
    rules.max = section.duration("max").unwrap_or(rules.max.max(rules.base));
    rules.latency = fraction(&section, "latency", 1.1, 1000.0);
    rules.success_rate = success_rate(&section);
    if rules.max < rules.base {
        let span = section.get("max").map_or(section.span.clone(), |value| value.span());
        let message = "the longest ejection is shorter than the first one".to_owned();
        section.source.error(span, message, Some("raise max, or lower base".into()));
    }
    if rules.consecutive == 0 && section.get("success-rate").or(section.get("latency")).is_none() {
        let help = "add success-rate = 90 or latency = 3, or leave outlier away";
        let message = "an outlier that never ejects".to_owned();
        section.source.error(section.span.clone(), message, Some(help.into()));
    }
    Some(rules)
}

/// `90`, or `{ deviation = 1.9 }`.
fn success_rate(section: &Reader<'_, '_>) -> Option<SuccessRate> {
    let value = section.get("success-rate")?;
    if let DeValue::Table(table) = value.get_ref() {
        let table = Reader::new(section.source, table, value.span(), "success-rate");
        table.finish(&["deviation"]);
        if table.get("deviation").is_none() {
            let help = "write { deviation = 1.9 }, or a percentage";
            let message = "success-rate without `deviation`".to_owned();
            section.source.error(value.span(), message, Some(help.into()));
        }
        return fraction(&table, "deviation", 0.1, 10.0).map(SuccessRate::Deviation);
    }
    fraction(section, "success-rate", 1.0, 100.0).map(SuccessRate::Below)
}

/// A number, whole or not.
fn fraction(section: &Reader<'_, '_>, key: &str, least: f64, most: f64) -> Option<f64> {
    let value = section.get(key)?;
    let found = match value.get_ref() {
        DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().ok(),
        other => integer(other).map(|number| number as f64),
    };
    match found {
        Some(number) if (least..=most).contains(&number) => Some(number),
        Some(_) => {
            let message = format!("expected a number from {least} to {most}");
            section.source.error(value.span(), message, None);
            None
        }
        None => {
            section.wrong(value, &format!("a number from {least} to {most}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::compile_with;
    use crate::snapshot::{Cluster, Snapshot};
    use polyport_codecs::Registry;

    fn compile(lines: &str) -> Result<Snapshot, Vec<String>> {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:7000\"\n[[route]]\nto = \"a\"\n[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n{lines}\n"
        );
        let resolve = |_: &str| Err(std::io::Error::other("no such host"));
        match compile_with(&text, "p.toml", &Registry::builtin(), &resolve) {
            Ok((snapshot, _)) => Ok(snapshot),
            Err(found) => Err(found.iter().map(ToString::to_string).collect()),
        }
    }

    fn cluster(lines: &str) -> Cluster {
        match compile(lines) {
            Ok(snapshot) => snapshot.clusters[0].clone(),
            Err(errors) => panic!("{lines}\n{errors:#?}"),
        }
    }

    #[test]
    fn checks_are_read_and_said_in_words() {
        let cases = [
            (
                "health = \"2s\"",
                "connection every 2s (±10%) within 1s; unusable after 3 failed, usable after 2 passed",
            ),
            (
                "health = { protocol = \"redis\", every = \"500ms\", unhealthy = 1, healthy = 4, jitter = 0 }",
                "redis every 500ms (±0%) within 500ms; unusable after 1 failed, usable after 4 passed",
            ),
            (
                "health = { protocol = \"http\", path = \"/ok\", status = [200, \"300-399\"], timeout = \"3s\" }",
                "http path /ok status 200, 300-399 every 5s (±10%) within 3s; unusable after 3 failed, usable after 2 passed",
            ),
            (
                "http2 = true\nhealth = { protocol = \"grpc\", service = \"shop.Orders\" }",
                "grpc service shop.Orders every 5s (±10%) within 1s; unusable after 3 failed, usable after 2 passed",
            ),
        ];
        for (lines, words) in cases {
            let checks = cluster(lines).checks.expect("checks");
            assert_eq!(checks.to_string(), words);
        }
        for (way, streams) in [("redis", false), ("http", true), ("mqtt", false)] {
            let lines = format!("http2 = true\nhealth = {{ protocol = \"{way}\" }}");
            let question = cluster(&lines).checks.and_then(|checks| checks.question);
            assert_eq!(question.expect("a question").streams, streams, "{way}");
        }
        assert!(cluster("").checks.is_none() && cluster("").outliers.is_none());
    }

    #[test]
    fn outliers_are_read() {
        let rules = |lines: &str| cluster(lines).outliers.expect("outliers").to_string();
        assert_eq!(
            rules("outlier = true"),
            "ejected after 5 failures in a row, for 30s to 300s, at most 50% at once"
        );
        assert_eq!(
            rules(
                "outlier = { consecutive = 0, success-rate = 99.5, latency = 3, base = \"1s\", max = \"9s\", cap = 10 }"
            ),
            "ejected after a success rate below 99.5%, or a latency above 3 times the others', for 1s to 9s, at most 10% at once"
        );
        assert!(rules("outlier = { success-rate = { deviation = 1.9 } }").contains("1.9 standard"));
        assert!(cluster("outlier = false").outliers.is_none());
    }

    #[test]
    fn mistakes_are_told_with_what_would_work() {
        let cases = [
            ("health = 5", "expected \"5s\", or { every"),
            ("health = { every = \"1s\", timeout = \"2s\" }", "a check may take 2s"),
            ("health = { unhealthy = 0 }", "a whole number from 1 to 1000"),
            ("health = { jitter = 101 }", "a whole number from 0 to 100"),
            ("health = { protocol = \"reddis\" }", "did you mean `redis`?"),
            ("health = { protocol = \"tls\" }", "servers of tls cannot be asked how they are"),
            ("health = { protocol = \"grpc\" }", "add http2 = true"),
            ("health = { path = \"/\" }", "add protocol = \"http\""),
            ("health = { protocol = \"redis\", path = \"/\" }", "`path` means nothing to redis"),
            ("health = { protocol = \"thrift\", path = \"/\" }", "method, what is called"),
            ("health = { protocol = \"http\", pth = \"/\" }", "did you mean `path`?"),
            ("health = { protocol = \"http\", path = \"x\" }", "a path begins with /"),
            ("health = { protocol = \"http\", status = 99 }", "`99` is no status"),
            ("health = { protocol = \"http\", status = true }", "expected a string, a number"),
            ("outlier = 5", "expected true, or"),
            ("outlier = { consecutive = 0 }", "an outlier that never ejects"),
            ("outlier = { base = \"10s\", max = \"5s\" }", "raise max, or lower base"),
            ("outlier = { success-rate = 101 }", "a number from 1 to 100"),
            ("outlier = { success-rate = {} }", "success-rate without `deviation`"),
            ("outlier = { latency = \"3\" }", "expected a number from 1.1 to 1000, found a string"),
            ("outlier = { capp = 5 }", "did you mean `cap`?"),
        ];
        for (lines, expected) in cases {
            let found = compile(lines).err().unwrap_or_default();
            assert!(found.iter().any(|line| line.contains(expected)), "{lines}\n{found:#?}");
            assert!(found.iter().all(|line| line.contains("p.toml:8:")), "{lines}\n{found:#?}");
        }
    }
}
