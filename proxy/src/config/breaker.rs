//! `breaker` of a cluster.

use super::reader::Reader;
use crate::breaker::{Bounds, Breaker};

/// Most that a bound can be.
const MOST: u64 = 1 << 30;

/// Requests that may wait for a connection, where nothing is said.
pub(super) const PENDING: usize = 1024;

/// What `breaker` says; `None` where there is none.
pub(super) fn read(cluster: &Reader<'_, '_>, endpoints: usize) -> Option<Breaker> {
    let section = cluster.section("breaker", "breaker")?;
    section.finish(&["connections", "pending", "requests", "endpoint"]);
    let pending = section.integer("pending", 0..=MOST).map_or(PENDING, |most| most as usize);
    let endpoint = section.section("endpoint", "breaker.endpoint").map(|section| {
        section.finish(&["connections", "requests"]);
        bounds(&section)
    });
    Some(Breaker::new(bounds(&section), pending, endpoint.unwrap_or_default(), endpoints))
}

fn bounds(section: &Reader<'_, '_>) -> Bounds {
    let most = |key: &str| section.integer(key, 1..=MOST).map(|most| most as usize);
    Bounds { connections: most("connections"), requests: most("requests") }
}
