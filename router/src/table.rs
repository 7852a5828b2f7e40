//! The route table. (Skeleton: the router is being written.)
use crate::matcher::Predicate;
use polyport_codecs::View;

/// A named rule: if every predicate holds, `then`.
#[derive(Debug, Clone)]
pub struct Route<T> {
    /// Its name in the config.
    pub name: String,
    /// All must hold; none at all matches everything.
    pub when: Vec<Predicate>,
    /// What it decides.
    pub then: T,
}

/// Routes in file order, compiled for choosing.
#[derive(Debug, Clone)]
pub struct Table<T> {
    routes: Vec<Route<T>>,
}

impl<T> Table<T> {
    /// Compiles routes.
    pub fn compile(routes: Vec<Route<T>>) -> Self {
        Self { routes }
    }
    /// The first route that matches, and its position.
    pub fn choose(&self, view: &View<'_>) -> Option<(usize, &Route<T>)> {
        self.routes.iter().enumerate().find(|(_, route)| route.when.iter().all(|p| p.holds(view)))
    }
    /// All routes, in file order.
    pub fn routes(&self) -> &[Route<T>] {
        &self.routes
    }
}
