//! The route table: the first route in file order whose predicates all hold.

use polyport_codecs::View;

use crate::index::Index;
use crate::matcher::Predicate;

/// A named rule: where every predicate holds, `then`.
#[derive(Debug, Clone)]
pub struct Route<T> {
    /// Its name in the config.
    pub name: String,
    /// All must hold; none at all match everything.
    pub when: Vec<Predicate>,
    /// What it decides.
    pub then: T,
}

impl<T> Route<T> {
    /// Whether every predicate holds.
    pub fn matches(&self, view: &View<'_>) -> bool {
        self.when.iter().all(|predicate| predicate.holds(view))
    }
}

/// Routes in file order, indexed so that choosing among many costs about what
/// choosing among few does.
#[derive(Debug, Clone)]
pub struct Table<T> {
    routes: Vec<Route<T>>,
    index: Index,
}

/// A route that can never be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// The position of the route that is never chosen.
    pub route: usize,
    /// The position of the earlier one that matches whenever it would.
    pub by: usize,
}

/// Why a route was not chosen, or that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The route's position.
    pub route: usize,
    /// The first of its predicates that does not hold; none: it matches.
    pub failed: Option<usize>,
}

impl<T> Table<T> {
    /// Compiles routes.
    pub fn compile(routes: Vec<Route<T>>) -> Self {
        let index = Index::new(&routes);
        Self { routes, index }
    }

    /// The first route that matches, and its position.
    pub fn choose(&self, view: &View<'_>) -> Option<(usize, &Route<T>)> {
        let at = self
            .index
            .first(view, |at| self.routes.get(at).is_some_and(|route| route.matches(view)))?;
        Some((at, self.routes.get(at)?))
    }

    /// What [`Table::choose`] means, one route after the other. For tests and
    /// benches; it must always agree.
    pub fn choose_naive(&self, view: &View<'_>) -> Option<(usize, &Route<T>)> {
        self.routes.iter().enumerate().find(|(_, route)| route.matches(view))
    }

    /// All routes, in file order.
    pub fn routes(&self) -> &[Route<T>] {
        &self.routes
    }

    /// Each route up to the first that matches, with the reason.
    pub fn explain(&self, view: &View<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (at, route) in self.routes.iter().enumerate() {
            let failed = route.when.iter().position(|predicate| !predicate.holds(view));
            verdicts.push(Verdict { route: at, failed });
            if failed.is_none() {
                break;
            }
        }
        verdicts
    }

    /// Routes that can never be chosen, as an earlier one matches whenever they
    /// would. Sound, not complete. Compares each route with at most `SCAN` earlier ones, so
    /// that large tables load quickly.
    pub fn shadowed(&self) -> Vec<Shadow> {
        const SCAN: usize = 500;
        let mut shadows = Vec::new();
        let catch_all = self.routes.iter().position(|route| route.when.is_empty());
        for (at, route) in self.routes.iter().enumerate() {
            let near = self.routes.iter().enumerate().take(at).skip(at.saturating_sub(SCAN));
            let mut earlier = near.filter(|(_, earlier)| {
                earlier.when.iter().all(|want| {
                    route
                        .when
                        .iter()
                        .any(|have| have.slot == want.slot && have.matcher.implies(&want.matcher))
                })
            });
            let by = catch_all.filter(|first| *first < at);
            if let Some(by) = by.or_else(|| earlier.next().map(|(by, _)| by)) {
                shadows.push(Shadow { route: at, by });
            }
        }
        shadows
    }
}
