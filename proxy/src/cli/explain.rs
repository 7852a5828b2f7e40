//! `polyport explain`: which route, and why.

use std::io::Write;
use std::process::ExitCode;

use polyport_codecs::{
    Detection, Interest, KeySpec, Metadata, Probe, Registry, Side, Step, View, detect,
};
use polyport_router::Verdict;
use serde_json::json;

use super::decode::STREAMS;
use super::{Explain, load};
use crate::config::FACTS;
use crate::edit::Edit;
use crate::guard::Guard;
use crate::snapshot::{Action, Snapshot};

/// Routes that are shown before the one that matches, at most.
const SHOWN: usize = 20;

pub(super) fn explain(options: &Explain, registry: &Registry) -> Result<ExitCode, String> {
    let snapshot = load(&options.config, registry)?;
    let mut metadata = Metadata::new(&snapshot.interest);
    let bytes = match &options.frame {
        Some(path) => std::fs::read(path)
            .map_err(|error| format!("error: cannot read {}: {error}", path.display()))?,
        None => Vec::new(),
    };
    if options.frame.is_some() {
        frame(options, &bytes, &snapshot, &mut metadata)?;
    } else {
        facts(options, &snapshot, registry, &mut metadata)?;
    }
    let view = metadata.view(&bytes);
    let verdicts = snapshot.routes.explain(&view);
    let matched = verdicts.last().filter(|last| last.failed.is_none());
    let text = if options.json {
        as_json(&snapshot, &verdicts, &view)
    } else {
        as_text(&snapshot, &verdicts, &view)
    };
    writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())?;
    Ok(if matched.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn facts(
    options: &Explain,
    snapshot: &Snapshot,
    registry: &Registry,
    metadata: &mut Metadata,
) -> Result<(), String> {
    for fact in &options.facts {
        let (key, value) =
            fact.split_once('=').ok_or_else(|| format!("error: `{fact}` is not key=value"))?;
        let fills = |spec: &KeySpec| spec.name == key || spec.family && key.starts_with(spec.name);
        let known = FACTS.iter().chain(registry.keys()).any(fills);
        if !known {
            return Err(format!("error: no protocol has a key `{key}`"));
        }
        // A key that no rule asks for changes nothing.
        if let Some(slot) = snapshot.interest.slot(key) {
            metadata.set_text(slot, value.as_bytes());
        }
    }
    Ok(())
}

fn frame(
    options: &Explain,
    bytes: &[u8],
    snapshot: &Snapshot,
    metadata: &mut Metadata,
) -> Result<(), String> {
    let protocols: Vec<_> = snapshot.protocols.iter().map(|enabled| enabled.protocol).collect();
    let name = match (&options.protocol, detect(&protocols, bytes)) {
        (Some(name), _) => name.as_str(),
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
        Ok(Step::Head(_)) => Ok(()),
        Ok(_) => Err("error: the file ends before the message's head does".into()),
        Err(error) => Err(format!("error: {error}")),
    }
}

fn key(interest: &Interest, slot: polyport_codecs::Slot) -> &str {
    interest.names().nth(usize::from(slot.0)).unwrap_or("?")
}

fn value(view: &View<'_>, slot: polyport_codecs::Slot) -> String {
    view.get(slot).map_or("absent".to_owned(), |value| format!("\"{}\"", value.escape_ascii()))
}

fn as_text(snapshot: &Snapshot, verdicts: &[Verdict], view: &View<'_>) -> String {
    let mut lines: Vec<String> = Vec::new();
    let routes = snapshot.routes.routes();
    let matched = verdicts.last().filter(|last| last.failed.is_none());
    match matched.and_then(|last| routes.get(last.route)) {
        None if snapshot.access.deny => {
            lines.push("no route matches: denied, as [access] default is \"deny\"".into());
        }
        None => lines.push("no route matches: the message is answered with an error".into()),
        Some(route) => {
            lines.push(format!("route \"{}\"", route.name));
            for predicate in &route.when {
                let (slot, matcher) = (predicate.slot, &predicate.matcher);
                let key = key(&snapshot.interest, slot);
                lines.push(format!("  as {key} = {} is {matcher}", value(view, slot)));
            }
            if route.when.is_empty() {
                lines.push("  as it matches everything".into());
            }
            match &route.then {
                Action::Deny => lines.push("  denied".into()),
                Action::Respond(reply) => {
                    lines.push(format!("  answered here, with status {}", reply.status));
                }
                Action::Forward(forward) => {
                    let timeout = forward.timeout.unwrap_or(snapshot.timeouts.request);
                    for (at, target) in forward.targets.iter().enumerate() {
                        let Some(cluster) = snapshot.clusters.get(target.cluster) else { continue };
                        let endpoints: Vec<String> = target
                            .endpoints
                            .iter()
                            .filter_map(|at| cluster.endpoints.get(*at))
                            .map(|endpoint| endpoint.address.to_string())
                            .collect();
                        let share = forward.split.share(at) * 100.0;
                        lines.push(format!(
                            "  {share:.0}% to cluster \"{}\" ({}; {}): {}",
                            cluster.name,
                            cluster.balance,
                            cluster.eligibility,
                            endpoints.join(", ")
                        ));
                        if let Some(breaker) = &cluster.breaker {
                            lines.push(format!("    breaker: {breaker}"));
                        }
                        if let Some(checks) = &cluster.checks {
                            lines.push(format!("    health: {checks}"));
                        }
                        if let Some(outliers) = &cluster.outliers {
                            lines.push(format!("    outliers: {outliers}"));
                        }
                    }
                    let times = forward.times.or(&snapshot.timeouts);
                    lines.push(format!("  timeout {timeout:?}, {times}"));
                    if let Some(guard) = &forward.guard {
                        lines.extend(guarded(guard, view));
                    }
                    if let Some(retry) = &forward.retry {
                        lines.push(format!("  retry {retry}"));
                    }
                    if let Some(mirror) = &forward.mirror {
                        lines.push(format!("  mirror {mirror}"));
                    }
                    if let Some(edits) = &forward.edits {
                        let show = |edits: &[Edit]| {
                            edits.iter().map(|edit| &*edit.key).collect::<Vec<_>>().join(", ")
                        };
                        for (word, edits) in
                            [("request", &edits.request), ("response", &edits.response)]
                        {
                            if !edits.is_empty() {
                                lines.push(format!("  changed in the {word}: {}", show(edits)));
                            }
                        }
                    }
                }
            }
        }
    }
    let failed: Vec<&Verdict> =
        verdicts.iter().filter(|verdict| verdict.failed.is_some()).collect();
    if !failed.is_empty() {
        lines.push("not chosen:".into());
    }
    for verdict in failed.iter().take(SHOWN) {
        let Some(route) = routes.get(verdict.route) else { continue };
        let Some(predicate) = verdict.failed.and_then(|at| route.when.get(at)) else { continue };
        let key = key(&snapshot.interest, predicate.slot);
        let value = value(view, predicate.slot);
        lines.push(format!("  \"{}\": {key} = {value} is not {}", route.name, predicate.matcher));
    }
    if failed.len() > SHOWN {
        lines.push(format!("  and {} more", failed.len() - SHOWN));
    }
    lines.join("\n")
}

/// Whether the route's own rule lets the message pass.
fn let_in(guard: &Guard, view: &View<'_>) -> bool {
    let mut asked = guard.only.iter().flat_map(|only| &only.predicates);
    asked.all(|predicate| predicate.holds(view))
}

/// What stands before a route's clusters, a line each.
fn guarded(guard: &Guard, view: &View<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(only) = &guard.only {
        let verdict = if let_in(guard, view) { "it is" } else { "it is not: denied" };
        lines.push(format!("  only where {only}: {verdict}"));
    }
    lines.extend(guard.limits.0.iter().map(|limit| format!("  limit {limit}")));
    lines.extend(guard.faults.iter().map(|fault| format!("  fault: {fault}")));
    lines
}

fn as_json(snapshot: &Snapshot, verdicts: &[Verdict], view: &View<'_>) -> String {
    let routes = snapshot.routes.routes();
    let matched = verdicts.last().filter(|last| last.failed.is_none());
    let route = matched.and_then(|last| routes.get(last.route));
    let targets: Vec<_> = match route.map(|route| &route.then) {
        Some(Action::Forward(forward)) => forward
            .targets
            .iter()
            .enumerate()
            .filter_map(|(at, target)| {
                let cluster = snapshot.clusters.get(target.cluster)?;
                let endpoints = target.endpoints.iter().filter_map(|at| cluster.endpoints.get(*at));
                let endpoints: Vec<_> = endpoints.map(|e| e.address.to_string()).collect();
                let share = forward.split.share(at);
                let breaker = cluster.breaker.as_ref().map(ToString::to_string);
                Some(json!({
                    "cluster": cluster.name,
                    "share": share,
                    "endpoints": endpoints,
                    "breaker": breaker,
                    "balance": cluster.balance.to_string(),
                    "eligibility": cluster.eligibility.to_string(),
                    "health": cluster.checks.as_ref().map(ToString::to_string),
                    "outliers": cluster.outliers.as_ref().map(ToString::to_string),
                }))
            })
            .collect(),
        _ => Vec::new(),
    };
    let why: Vec<_> = route
        .map(|route| &route.when[..])
        .unwrap_or_default()
        .iter()
        .map(|predicate| {
            let value = view.get(predicate.slot).map(|value| value.escape_ascii().to_string());
            json!({
                "key": key(&snapshot.interest, predicate.slot),
                "value": value,
                "matcher": predicate.matcher.to_string(),
            })
        })
        .collect();
    let forward = route.and_then(|route| match &route.then {
        Action::Forward(forward) => Some(forward),
        _ => None,
    });
    let guard = forward.and_then(|forward| forward.guard.as_deref());
    let edits = forward.and_then(|forward| forward.edits.as_deref());
    let keys =
        |edits: &[Edit]| -> Vec<String> { edits.iter().map(|edit| edit.key.to_string()).collect() };
    json!({
        "route": route.map(|route| &route.name),
        "denied": match route.map(|route| &route.then) {
            None => snapshot.access.deny,
            Some(Action::Deny) => true,
            Some(Action::Respond(_)) => false,
            Some(Action::Forward(_)) => guard.is_some_and(|guard| !let_in(guard, view)),
        },
        "only": guard.and_then(|guard| guard.only.as_ref()).map(ToString::to_string),
        "faults": guard.map_or(&[][..], |guard| &guard.faults).iter().map(ToString::to_string)
            .collect::<Vec<_>>(),
        "answered": route.and_then(|route| match &route.then {
            Action::Respond(reply) => Some(reply.status),
            _ => None,
        }),
        "request": edits.map(|edits| keys(&edits.request)).unwrap_or_default(),
        "response": edits.map(|edits| keys(&edits.response)).unwrap_or_default(),
        "limit": guard.filter(|guard| !guard.limits.0.is_empty())
            .map(|guard| guard.limits.to_string()),
        "retry": forward.and_then(|forward| forward.retry.as_ref()).map(ToString::to_string),
        "mirror": forward.and_then(|forward| forward.mirror.as_ref()).map(ToString::to_string),
        "timeout": forward.map(|forward| {
            format!("{:?}", forward.timeout.unwrap_or(snapshot.timeouts.request))
        }),
        "times": forward.map(|forward| forward.times.or(&snapshot.timeouts).to_string()),
        "why": why,
        "targets": targets,
    })
    .to_string()
}
