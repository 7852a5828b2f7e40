//! What a config takes over from the one whose place it takes.
//!
//! Connections and requests outlive configs, and know clusters and endpoints by position.
//! So everything keeps its position for as long as somebody may know it: what is new goes
//! to the end, what is gone stays as `retired`. An endpoint keeps its health with its
//! address, a cluster its counts with its name.

use std::sync::Arc;

use crate::health::Health;
use crate::snapshot::{Cluster, Endpoint, Listener};

/// So many endpoints that are gone keep their positions, in any case.
const KEPT: usize = 64;

/// Lays the endpoints that a cluster has now over those that it had.
pub(crate) fn endpoints(had: &[Endpoint], found: Vec<Endpoint>) -> Vec<Endpoint> {
    let gone = |endpoint: &Endpoint| Endpoint { retired: true, ..endpoint.clone() };
    let mut all: Vec<Endpoint> = had.iter().map(gone).collect();
    let count = found.len();
    let mut new = Vec::new();
    for endpoint in found {
        // An address may be there more than once.
        let place = all.iter_mut().find(|one| one.retired && one.address == endpoint.address);
        match place {
            Some(place) => {
                let (drained, tenant) = (place.drained, place.tenant);
                *place = Endpoint { drained, tenant, ..endpoint };
            }
            None => new.push(endpoint),
        }
    }
    for endpoint in new {
        let left = all.iter().filter(|one| one.retired).count();
        // One that was gone already when the last change came.
        let free = all.iter().zip(had).position(|(now, before)| now.retired && before.retired);
        match free.filter(|_| left > count.max(KEPT)).and_then(|at| all.get_mut(at)) {
            Some(place) => *place = Endpoint { tenant: place.tenant.wrapping_add(1), ..endpoint },
            None => all.push(endpoint),
        }
    }
    all
}

/// Has a cluster that was compiled by itself go on from what it was. `same` says whether the
/// config's words for one of its keys are still the same.
pub(crate) fn cluster(had: &Cluster, new: Cluster, same: impl Fn(&str) -> bool) -> Cluster {
    let endpoints = endpoints(&had.endpoints, new.endpoints);
    let health: Arc<[Health]> = endpoints
        .iter()
        .enumerate()
        .map(|(at, endpoint)| match (had.endpoints.get(at), had.health.get(at)) {
            (Some(before), Some(health)) if before.tenant == endpoint.tenant => health.clone(),
            _ => Health::default(),
        })
        .collect();
    let as_many = endpoints.len() == had.endpoints.len();
    let breaker = match (&had.breaker, new.breaker) {
        (Some(before), Some(_)) if as_many && same("breaker") => Some(before.clone()),
        (_, breaker) => breaker.map(|breaker| Arc::new(breaker.sized(endpoints.len()))),
    };
    let outliers = match (&had.outliers, new.outliers) {
        (Some(before), Some(new)) if as_many && before.rules() == new.rules() => {
            Some(before.clone())
        }
        (before, Some(new)) => {
            let rules = new.rules().clone();
            let before = before.as_ref().unwrap_or(&new);
            Some(Arc::new(before.carried(rules, endpoints.len())))
        }
        (_, None) => None,
    };
    let transport = ["tls", "http2", "proxy-protocol", "exchange"];
    let epoch = had.epoch.wrapping_add(u32::from(!transport.into_iter().all(&same)));
    // Files that changed are read again anyway; sessions that can be resumed stay so.
    let tls = if same("tls") { had.tls.clone() } else { new.tls };
    Cluster { endpoints, health, breaker, outliers, epoch, tls, set: had.set, ..new }
}

/// A cluster that the config has no longer.
pub(crate) fn retired(had: &Cluster) -> Cluster {
    let endpoints = endpoints(&had.endpoints, Vec::new());
    Cluster { endpoints, retired: true, checks: None, ..had.clone() }
}

/// Lays the listeners of a config over those that there were, by address.
pub(crate) fn listeners(had: &[Listener], found: Vec<Listener>) -> Vec<Listener> {
    let gone = |listener: &Listener| Listener { retired: true, ..listener.clone() };
    let mut all: Vec<Listener> = had.iter().map(gone).collect();
    for listener in found {
        let place = all.iter_mut().find(|one| one.retired && one.address == listener.address);
        match place {
            Some(place) => *place = listener,
            None => all.push(listener),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Place;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint {
            address: ([127, 0, 0, 1], port).into(),
            host: "127.0.0.1".into(),
            weight: 1,
            labels: Default::default(),
            place: Place::default(),
            drained: false,
            retired: false,
            tenant: 0,
        }
    }

    fn lay(had: &[Endpoint], ports: &[u16]) -> Vec<Endpoint> {
        endpoints(had, ports.iter().copied().map(endpoint).collect())
    }

    fn shown(all: &[Endpoint]) -> Vec<(u16, bool)> {
        all.iter().map(|one| (one.address.port(), one.takes())).collect()
    }

    #[test]
    fn an_address_keeps_its_position_whatever_comes_and_goes() {
        let one = lay(&[], &[1, 2, 3]);
        let two = lay(&one, &[3, 4]);
        assert_eq!(shown(&two), [(1, false), (2, false), (3, true), (4, true)]);
        let three = lay(&two, &[2, 4]);
        assert_eq!(shown(&three), [(1, false), (2, true), (3, false), (4, true)]);
        assert!(three.iter().all(|one| one.tenant == 0));
    }

    #[test]
    fn an_address_that_is_there_twice_has_two_positions() {
        let one = lay(&[], &[1, 1, 2]);
        assert_eq!(shown(&one), [(1, true), (1, true), (2, true)]);
        assert_eq!(shown(&lay(&one, &[2, 1])), [(1, true), (1, false), (2, true)]);
    }

    #[test]
    fn one_that_was_taken_out_by_hand_stays_out() {
        let mut one = lay(&[], &[1, 2]);
        one[0].drained = true;
        assert_eq!(shown(&lay(&one, &[1, 2])), [(1, false), (2, true)]);
    }

    #[test]
    fn positions_of_those_long_gone_are_used_again_by_another_tenant() {
        let mut all = lay(&[], &[1]);
        for port in 2..200 {
            all = lay(&all, &[port]);
            assert_eq!(all.iter().filter(|one| one.takes()).count(), 1);
        }
        assert!(all.len() <= KEPT + 3, "{}", all.len());
        assert!(all.iter().any(|one| one.tenant > 0));
    }
}
