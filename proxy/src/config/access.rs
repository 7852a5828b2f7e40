//! `[access]`, and `only` of a route: who may come.

use polyport_codecs::{Interest, Registry, Slot};
use toml::de::DeValue;

use super::FACTS;
use super::matchers::predicates;
use super::reader::Reader;
use crate::guard::{Access, Audit, Guard, When};
use crate::snapshot::Action;
use polyport_router::Route;

/// The predicates of a table, and their words.
pub(super) fn when(
    table: &Reader<'_, '_>,
    key: &'static str,
    registry: &Registry,
    interest: &mut Interest,
) -> Option<When> {
    let predicates = predicates(&table.section(key, key)?, registry, interest);
    let names: Vec<&str> = interest.names().collect();
    let words: Vec<String> = predicates
        .iter()
        .map(|asked| {
            let name = names.get(usize::from(asked.slot.0)).copied().unwrap_or("?");
            format!("{name} is {}", asked.matcher)
        })
        .collect();
    let fact = |slot: Slot| FACTS.iter().any(|fact| interest.slot(fact.name) == Some(slot));
    let fixed = predicates.iter().all(|predicate| fact(predicate.slot));
    Some(When { predicates: predicates.into(), words: words.join(" and "), fixed })
}

/// All that stands before a route's clusters; none where there is nothing.
pub(super) fn guard(
    route: &Reader<'_, '_>,
    registry: &Registry,
    interest: &mut Interest,
) -> Option<Guard> {
    let guard = Guard {
        only: when(route, "only", registry, interest),
        limits: super::limits::read(route, registry, interest),
        faults: super::faults::read(route, registry, interest),
    };
    let any = guard.only.is_some() || !guard.limits.0.is_empty() || !guard.faults.is_empty();
    any.then_some(guard)
}

/// `[access]`, and what the routes add to it.
pub(super) fn read(root: &mut Reader<'_, '_>, routes: &[Route<Action>], silent: &[bool]) -> Access {
    let (mut deny, mut audit) = (false, Audit::Log);
    if let Some(section) = root.section("access", "[access]") {
        section.finish(&["default", "audit"]);
        match section.string("default") {
            None | Some(("allow", _)) => {}
            Some(("deny", _)) => deny = true,
            Some((other, span)) => {
                let help = "there are \"allow\" and \"deny\"".to_owned();
                section.source.error(span, format!("unknown default `{other}`"), Some(help));
            }
        }
        audit = match section.get("audit").map(|value| (value, value.get_ref())) {
            None | Some((_, DeValue::Boolean(true))) => Audit::Log,
            Some((_, DeValue::Boolean(false))) => Audit::Off,
            Some((_, DeValue::String(file))) if !file.is_empty() => {
                Audit::File(section.source.folder().join(file.as_ref()))
            }
            Some((value, _)) => {
                section.wrong(value, "a file, or true or false");
                Audit::Log
            }
        };
    }
    let denies = |route: &Route<Action>| match &route.then {
        Action::Deny => true,
        Action::Respond(_) => false,
        Action::Forward(forward) => forward
            .guard
            .as_ref()
            .is_some_and(|guard| guard.only.is_some() || !guard.limits.0.is_empty()),
    };
    Access { deny, strict: deny || routes.iter().any(denies), audit, silent: silent.into() }
}
