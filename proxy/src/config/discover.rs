//! `discover` of a cluster: endpoints that change while the proxy runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use toml::de::DeValue;

use super::reader::Reader;
use crate::control::discovery::{Discover, Empty, Origin, Usual, file};

/// What is there to be asked.
const SOURCES: [&str; 3] = ["dns", "srv", "file"];

/// Bounds of `every`.
const EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(300);

/// The least pause between two questions, where nothing is said: of many proxies, each
/// asks a server of names that change quickly no more than that.
const ASK: Duration = Duration::from_secs(5);

/// The pause between two looks at a file, where nothing is said.
const LOOK: Duration = Duration::from_millis(500);

/// What `discover` says; `None` where it is not there, or wrong. `zone` is ours.
pub(super) fn read(cluster: &Reader<'_, '_>, zone: Option<&str>) -> Option<Discover> {
    let section = cluster.section("discover", "discover")?;
    section.finish(&[
        "dns", "srv", "file", "every", "resolver", "empty", "weight", "labels", "zone", "priority",
    ]);
    if let Some(value) = cluster.get("endpoints") {
        let help = "remove one of them; endpoints that stay may stand in a file, too".to_owned();
        let message = "both `endpoints` and `discover`".to_owned();
        cluster.source.error(value.span(), message, Some(help));
    }
    let from = source(&section)?;
    let is_file = matches!(from, Origin::File(_));
    let every = match section.duration("every") {
        None if is_file => LOOK,
        None => ASK,
        Some(every) if EVERY.contains(&every) => every,
        Some(every) => {
            complain(&section, "every", "expected a duration from 100ms to 5m".into(), None);
            every
        }
    };
    let empty = match section.string("empty") {
        None | Some(("keep", _)) => Empty::Keep,
        Some(("believe", _)) => Empty::Believe,
        Some((other, span)) => {
            let help = "there are \"keep\" (the last endpoints stay) and \"believe\"".to_owned();
            section.source.error(span, format!("unknown empty `{other}`"), Some(help));
            Empty::Keep
        }
    };
    if let Origin::Srv { .. } = from {
        for key in ["weight", "priority"] {
            if section.get(key).is_some() {
                let help = Some(format!("remove {key}"));
                complain(&section, key, format!("SRV records tell the {key}"), help);
            }
        }
    }
    let usual = Usual {
        weight: section.integer("weight", 1..=10_000).unwrap_or(1) as u32,
        labels: labels(&section),
        zone: section.string("zone").map(|(zone, _)| zone.to_owned()),
        priority: section.integer("priority", 0..=255).unwrap_or(0) as u8,
        ours: zone.map(str::to_owned),
    };
    Some(Discover { from, every, empty, usual })
}

fn complain(section: &Reader<'_, '_>, key: &str, message: String, help: Option<String>) {
    let span = section.get(key).map_or(section.span.clone(), |value| value.span());
    section.source.error(span, message, help);
}

fn source(section: &Reader<'_, '_>) -> Option<Origin> {
    let named: Vec<&str> = SOURCES.into_iter().filter(|key| section.get(key).is_some()).collect();
    match named[..] {
        [only] => {
            let (text, span) = section.string(only)?;
            match only {
                "file" => file(section, text, span),
                "srv" => {
                    let name = name(section, text, span.clone())?;
                    if !text.starts_with('_') {
                        let help = "write \"_service._tcp.name\"".to_owned();
                        let message = format!("`{text}` is no name of a service");
                        section.source.error(span, message, Some(help));
                    }
                    Some(Origin::Srv { name, resolver: resolver(section) })
                }
                _ => host(section, text, span),
            }
        }
        [] => {
            let help = "add dns = \"host:port\", srv = \"_service._tcp.name\" or file = \"endpoints.toml\"";
            let message = "discover without `dns`, `srv` or `file`".to_owned();
            section.source.error(section.span.clone(), message, Some(help.into()));
            None
        }
        [first, second, ..] => {
            let message = format!("both `{first}` and `{second}`");
            let help = "a cluster has one source".to_owned();
            complain(section, second, message, Some(help));
            None
        }
    }
}

fn host(section: &Reader<'_, '_>, text: &str, span: Range<usize>) -> Option<Origin> {
    if text.parse::<SocketAddr>().is_ok() {
        let help = format!("write endpoints = [\"{text}\"]");
        let message = format!("`{text}` is an address, and no name");
        section.source.error(span, message, Some(help));
        return None;
    }
    let port = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = port else {
        let help = Some(format!("write \"{}:PORT\"", text.trim_end_matches(':')));
        section.source.error(span, format!("`{text}` has no port"), help);
        return None;
    };
    let host = name(section, host, span)?;
    Some(Origin::Dns { host, port, resolver: resolver(section) })
}

fn name(section: &Reader<'_, '_>, text: &str, span: Range<usize>) -> Option<String> {
    match Name::from_utf8(text) {
        Ok(_) if !text.trim_matches('.').is_empty() => Some(text.to_owned()),
        Ok(_) => {
            section.source.error(span, "there is no name".into(), None);
            None
        }
        Err(error) => {
            section.source.error(span, format!("`{text}` is no name: {error}"), None);
            None
        }
    }
}

fn file(section: &Reader<'_, '_>, text: &str, span: Range<usize>) -> Option<Origin> {
    if section.get("resolver").is_some() {
        complain(section, "resolver", "a file asks no resolver".into(), None);
    }
    let path = section.source.folder().join(text);
    if let Err(error) = file::check(&path) {
        let help = "the proxy starts without its endpoints and takes them up when it is fine";
        let message = format!("{}: {error}", path.display());
        section.source.warn(span, message, Some(help.into()));
    }
    Some(Origin::File(path))
}

fn resolver(section: &Reader<'_, '_>) -> Vec<SocketAddr> {
    let Some(value) = section.get("resolver") else { return Vec::new() };
    let want = "an array of addresses: [\"127.0.0.1:53\"]";
    let DeValue::Array(array) = value.get_ref() else {
        section.wrong(value, want);
        return Vec::new();
    };
    if array.is_empty() {
        let help = "remove it, and the system's are asked".to_owned();
        section.source.error(value.span(), "nobody to ask".into(), Some(help));
    }
    let mut all = Vec::new();
    for value in array {
        let DeValue::String(text) = value.get_ref() else {
            section.wrong(value, "an address: \"127.0.0.1:53\"");
            continue;
        };
        match text.parse() {
            Ok(address) => all.push(address),
            Err(_) => {
                let help = "write an IP address with its port: \"127.0.0.1:53\"".to_owned();
                let message = format!("`{text}` is no address");
                section.source.error(value.span(), message, Some(help));
            }
        }
    }
    all
}

fn labels(section: &Reader<'_, '_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if let Some(section) = section.section("labels", "labels") {
        for (key, _, value) in section.entries() {
            match value.get_ref() {
                DeValue::String(text) => {
                    labels.insert(key.to_owned(), text.to_string());
                }
                _ => section.wrong(value, "a string"),
            }
        }
    }
    labels
}
