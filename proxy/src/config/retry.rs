//! `retry` and `mirror` of routes, `retry-budget` of clusters.

use polyport_codecs::Registry;
use toml::de::DeValue;

use super::clusters::Clusters;
use super::diagnostic::suggest;
use super::reader::Reader;
use super::routes;
use crate::policy::mirror::Mirror;
use crate::policy::retry::{Condition, Retry, RetryBudget};

/// `retry = { attempts = 2, on = ["reset"] }`.
pub(super) fn retry(route: &Reader<'_, '_>, registry: &Registry) -> Option<Retry> {
    let section = route.section("retry", "retry")?;
    section.finish(&[
        "attempts",
        "on",
        "per-try",
        "backoff",
        "max-backoff",
        "idempotent",
        "buffer",
    ]);
    let mut retry = Retry::default();
    if let Some(attempts) = section.integer("attempts", 1..=10) {
        retry.attempts = attempts as u32;
    }
    if section.get("on").is_some() {
        conditions(&section, registry, &mut retry);
    }
    retry.per_try = section.duration("per-try");
    retry.backoff = section.duration("backoff").unwrap_or(retry.backoff);
    retry.max_backoff =
        section.duration("max-backoff").unwrap_or(retry.max_backoff.max(retry.backoff));
    if retry.max_backoff < retry.backoff
        && let Some((_, span)) = section.string("max-backoff")
    {
        let help = Some("write a longer one, or a shorter backoff".into());
        section.source.error(span, "max-backoff is shorter than backoff".into(), help);
    }
    retry.idempotent = section.boolean("idempotent").unwrap_or(false);
    if let Some(size) = buffer(&section) {
        retry.buffer = size;
    }
    Some(retry)
}

fn conditions(section: &Reader<'_, '_>, registry: &Registry, retry: &mut Retry) {
    retry.on = 0;
    let Some(value) = section.get("on") else { return };
    let DeValue::Array(words) = value.get_ref() else {
        section.wrong(value, "an array: [\"reset\"]");
        return;
    };
    for word in words {
        let span = word.span();
        let DeValue::String(word) = word.get_ref() else {
            section.wrong(word, "a string");
            continue;
        };
        let word = word.as_ref();
        if let Some((bit, _)) = Condition::ALL.iter().find(|(_, name)| *name == word) {
            retry.on |= *bit as u8;
            continue;
        }
        let before = retry.statuses.len();
        for protocol in registry.protocols() {
            if let Some(range) = protocol.statuses(word) {
                retry.statuses.push((protocol.name(), range));
            }
        }
        if retry.statuses.len() == before {
            let names = Condition::ALL.map(|(_, name)| name);
            let help = suggest(word, names).unwrap_or_else(|| {
                format!(
                    "there are {}, and statuses: \"503\", \"5xx\", \"grpc-aborted\"",
                    names.join(", ")
                )
            });
            section.source.error(span, format!("unknown condition `{word}`"), Some(help));
        }
    }
    if retry.on == 0 && retry.statuses.is_empty() {
        let help = "name one, \"reset\" say, or remove `on`";
        section.source.error(section.span.clone(), "retry on nothing".into(), Some(help.into()));
    }
}

/// Bytes that may be kept of one request, at most 16 MiB.
pub(super) fn buffer(section: &Reader<'_, '_>) -> Option<usize> {
    let size = section.size("buffer")?;
    if size > 16 << 20 {
        let span = section.get("buffer").map_or(section.span.clone(), |value| value.span());
        let help = "each request in flight may take so much memory".to_owned();
        section.source.error(span, "more than 16MiB".into(), Some(help));
        return None;
    }
    usize::try_from(size).ok()
}

/// `retry-budget = { percent = 20, burst = 1000 }`.
pub(super) fn budget(cluster: &Reader<'_, '_>) -> RetryBudget {
    let mut budget = RetryBudget::default();
    let Some(section) = cluster.section("retry-budget", "retry-budget") else { return budget };
    section.finish(&["percent", "burst"]);
    if let Some(percent) = section.integer("percent", 0..=1000) {
        budget.percent = percent as u32;
    }
    if let Some(burst) = section.integer("burst", 0..=1_000_000) {
        budget.burst = burst as u32;
    }
    budget
}

/// `mirror = { cluster = "shadow", percent = 10 }`, or the cluster's name for all of it.
pub(super) fn mirror(route: &Reader<'_, '_>, clusters: &Clusters, keyed: bool) -> Option<Mirror> {
    let value = route.get("mirror")?;
    let keys = ["cluster", "labels", "percent", "requests", "buffer"];
    let (_, target) = routes::arm(route, value, clusters, keyed, &keys)?;
    let cluster = clusters.list.get(target.cluster).map_or(String::new(), |c| c.name.clone());
    let (share, requests, buffer) = (u64::MAX, 100, 64 << 10);
    let mut mirror = Mirror { target, cluster, share, requests, buffer };
    if let DeValue::Table(table) = value.get_ref() {
        let section = Reader::new(route.source, table, value.span(), "a mirror");
        mirror.share = percent(&section, "percent").unwrap_or(mirror.share);
        if let Some(most) = section.integer("requests", 1..=1_000_000) {
            mirror.requests = most as usize;
        }
        mirror.buffer = self::buffer(&section).unwrap_or(mirror.buffer);
    }
    Some(mirror)
}

/// A number from 0 to 100, perhaps with a fraction, as a share of `u64::MAX`.
pub(super) fn percent(section: &Reader<'_, '_>, key: &str) -> Option<u64> {
    let value = section.get(key)?;
    let number = match value.get_ref() {
        DeValue::Float(number) => number.as_str().replace('_', "").parse::<f64>().ok(),
        other => super::reader::integer(other).map(|number| number as f64),
    };
    match number {
        Some(number) if (0.0..=100.0).contains(&number) => {
            // Casts from floats end at the bounds of what they are cast to.
            Some((number / 100.0 * u64::MAX as f64) as u64)
        }
        _ => {
            section.wrong(value, "a number from 0 to 100");
            None
        }
    }
}
