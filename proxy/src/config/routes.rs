//! `[[route]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use polyport_codecs::{Interest, Registry};
use polyport_router::{Route, Split};
use toml::de::DeValue;

use super::balance::Sets;
use super::clusters::Clusters;
use super::diagnostic::suggest;
use super::edits::{Context, names};
use super::matchers::{known_key, predicates};
use super::outline::{Outline, said};
use super::reader::{Reader, Value};
use super::retry;
use crate::edit::Edits;
use crate::limit::Limits;
use crate::snapshot::{Action, Endpoint, Forward, RouteTimes, Snapshot, Target};

/// The routes, where each stands, and the clusters that some route sends to.
pub(super) struct Routes {
    pub(super) routes: Vec<Route<Action>>,
    pub(super) spans: Vec<Range<usize>>,
    pub(super) used: BTreeSet<usize>,
    /// By route: its denials are told to nobody.
    pub(super) silent: Vec<bool>,
}

pub(super) fn read(
    root: &mut Reader<'_, '_>,
    registry: &Registry,
    clusters: &Clusters,
    sets: &mut Sets,
    interest: &mut Interest,
    outline: &mut Outline,
    before: Option<&Snapshot>,
) -> Routes {
    let mut all =
        Routes { routes: Vec::new(), spans: Vec::new(), used: BTreeSet::new(), silent: Vec::new() };
    let mut names = BTreeSet::new();
    let had: BTreeMap<&str, &Action> = before.map_or_else(BTreeMap::new, |before| {
        before.routes.routes().iter().map(|had| (had.name.as_str(), &had.then)).collect()
    });
    for section in root.sections("route", "[[route]]") {
        section.finish(&[
            "name",
            "match",
            "to",
            "timeout",
            "session-timeout",
            "stream-timeout",
            "idle-timeout",
            "sticky",
            "deny",
            "limit",
            "request",
            "response",
            "redirect",
            "respond",
            "fault",
            "only",
            "audit",
            "retry",
            "mirror",
        ]);
        let name = section.string("name");
        let span = name.as_ref().map_or(section.span.clone(), |(_, span)| span.clone());
        if let Some((name, span)) = &name
            && !names.insert(*name)
        {
            section.source.error(span.clone(), format!("two routes are called `{name}`"), None);
        }
        let called =
            name.as_ref().map_or_else(|| format!("route {}", all.routes.len() + 1), |n| n.0.into());
        outline.order.push(called.clone());
        outline.routes.insert(called.clone(), said(&section));
        let when = section
            .section("match", "match")
            .map(|section| predicates(&section, registry, interest))
            .unwrap_or_default();
        let deny = section.boolean("deny").unwrap_or(false);
        let shown = name.as_ref().map_or("", |(name, _)| *name);
        let mut context = Context { route: &section, name: shown, registry, interest };
        let edits = context.edits();
        let answers = section.get("redirect").or(section.get("respond")).is_some();
        let reply = context.reply();
        if answers {
            if let Some(other) = section.get("to").or(section.get("deny")) {
                let message = "a route that answers itself sends nowhere".to_owned();
                section.source.error(other.span(), message, Some("remove this".into()));
            }
            let Some(reply) = reply else { continue };
            useless(&section, "a route that answers itself");
            all.routes.push(Route { name: called, when, then: Action::Respond(Arc::new(reply)) });
            all.spans.push(span);
            all.silent.push(section.boolean("audit") == Some(false));
            continue;
        }
        if deny {
            useless(&section, "a route that denies");
        }
        let then = match (section.get("to"), deny) {
            (Some(value), true) => {
                let message = "a route that denies sends nowhere".to_owned();
                section.source.error(value.span(), message, Some("remove `to` or `deny`".into()));
                Some(Action::Deny)
            }
            (None, true) => Some(Action::Deny),
            (None, false) => {
                let help = "add to = \"CLUSTER\", or deny = true";
                let message = "[[route]] without `to`".to_owned();
                section.source.error(span.clone(), message, Some(help.into()));
                None
            }
            (Some(value), false) => {
                let same = before.is_some_and(|before| {
                    before.outline.of_route(&called, "limit") == outline.of_route(&called, "limit")
                });
                let limits = had.get(called.as_str()).filter(|_| same).and_then(|had| match had {
                    Action::Forward(forward) => Some(&forward.guard.as_ref()?.limits),
                    _ => None,
                });
                forward(&section, value, registry, clusters, sets, interest, &mut all.used, limits)
                    .map(|mut forward| {
                        if edits != Edits::default() {
                            forward.edits = Some(Arc::new(edits));
                        }
                        Action::Forward(forward)
                    })
            }
        };
        if let Some(then) = then {
            all.routes.push(Route { name: called, when, then });
            all.spans.push(span);
            all.silent.push(section.boolean("audit") == Some(false));
        }
    }
    all
}

/// Complains of what only routes that send somewhere have.
fn useless(section: &Reader<'_, '_>, what: &str) {
    let forwards = [
        "request",
        "response",
        "timeout",
        "session-timeout",
        "stream-timeout",
        "idle-timeout",
        "sticky",
        "limit",
        "fault",
        "only",
        "retry",
        "mirror",
    ];
    for key in forwards {
        if let Some(value) = section.get(key) {
            let message = format!("{what} has no use for `{key}`");
            section.source.error(value.span(), message, Some("remove this".into()));
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "all that a config has, for one of its lines")]
fn forward(
    section: &Reader<'_, '_>,
    to: &Value<'_>,
    registry: &Registry,
    clusters: &Clusters,
    sets: &mut Sets,
    interest: &mut Interest,
    used: &mut BTreeSet<usize>,
    limits: Option<&Limits>,
) -> Option<Forward> {
    let one = [to];
    let arms: Vec<&Value<'_>> = match to.get_ref() {
        DeValue::Array(array) => array.iter().collect(),
        _ => one.to_vec(),
    };
    // Whether a message with a key of its protocol's own may come this way.
    let affine = |name: &&str| registry.get(name).is_some_and(|named| named.affinity().is_some());
    let keyed = match names(section) {
        Some(named) => named.iter().any(affine),
        None => registry.protocols().iter().any(|known| known.affinity().is_some()),
    };
    let (mut weights, mut targets) = (Vec::new(), Vec::new());
    for value in arms {
        let keys = ["cluster", "labels", "weight"];
        let (weight, target) = arm(section, value, clusters, sets, keyed, &keys)?;
        used.insert(target.cluster);
        weights.push(weight);
        targets.push(target);
    }
    let Some(split) = Split::new(weights) else {
        let message = "no share of this route is above 0".to_owned();
        section.source.error(to.span(), message, Some("give a weight of at least 1".into()));
        return None;
    };
    let sticky = section.string("sticky").and_then(|(key, span)| {
        known_key(section.source, registry, None, key, span).then(|| interest.add(key))
    });
    let timeout = section.duration("timeout");
    let guard = super::access::guard(section, registry, interest).map(|mut guard| {
        if let Some(had) = limits {
            guard.limits.carry(had);
        }
        Arc::new(guard)
    });
    let retry = retry::retry(section, registry).map(Arc::new);
    let mirror = retry::mirror(section, clusters, sets, keyed).map(Arc::new);
    if let Some(mirror) = &mirror {
        used.insert(mirror.target.cluster);
    }
    let times = RouteTimes {
        session: section.duration("session-timeout"),
        stream: section.duration("stream-timeout"),
        idle: section.duration("idle-timeout"),
    };
    Some(Forward { split, targets, sticky, timeout, times, edits: None, guard, retry, mirror })
}

/// A cluster, perhaps only some endpoints of it, and its weight. `keys`: what a table may
/// hold beside these.
pub(super) fn arm(
    section: &Reader<'_, '_>,
    value: &Value<'_>,
    clusters: &Clusters,
    sets: &mut Sets,
    keyed: bool,
    keys: &[&str],
) -> Option<(u32, Target)> {
    let mut weight = 1;
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let mut labels_span = value.span();
    let (name, span) = match value.get_ref() {
        DeValue::String(name) => (name.as_ref(), value.span()),
        DeValue::Table(table) => {
            let arm = Reader::new(section.source, table, value.span(), "a target");
            arm.finish(keys);
            weight = arm.integer("weight", 0..=1_000_000).unwrap_or(1) as u32;
            if let Some(wanted) = arm.section("labels", "labels") {
                labels_span = wanted.span.clone();
                for (key, _, value) in wanted.entries() {
                    match value.get_ref() {
                        DeValue::String(text) => {
                            labels.insert(key.to_owned(), text.to_string());
                        }
                        _ => wanted.wrong(value, "a string"),
                    }
                }
            }
            arm.required("cluster", "\"orders\"")?
        }
        _ => {
            section.wrong(value, "a cluster's name, or { cluster = \"name\" }");
            return None;
        }
    };
    let Some(cluster) = clusters.find(name) else {
        let names = clusters.names();
        let help = suggest(name, names.clone()).or_else(|| {
            let names: Vec<&str> = names.collect();
            Some(if names.is_empty() {
                "there are no clusters".into()
            } else {
                format!("there are {}", names.join(", "))
            })
        });
        section.source.error(span, format!("no cluster is called `{name}`"), help);
        return None;
    };
    let settings = clusters.list.get(cluster)?;
    let fits = |endpoint: &Endpoint| {
        !endpoint.retired && labels.iter().all(|(key, want)| endpoint.labels.get(key) == Some(want))
    };
    // Those that are found while the proxy runs may have them then.
    let any =
        settings.discover.is_none() && settings.endpoints.iter().any(|endpoint| !endpoint.retired);
    if any && !settings.endpoints.iter().any(fits) {
        let message = format!("no endpoint of `{name}` has these labels");
        section.source.error(labels_span, message, None);
        return None;
    }
    let set = sets.of(&clusters.list, cluster, &labels, keyed);
    Some((weight, Target { cluster, set }))
}
