//! The pools of one endpoint, by what their connections have in common.

use std::collections::HashMap;

use super::pool::{Pool, PoolKey};

/// Pools by key. One after the other most messages ask for the same pool, so that one is
/// found without hashing.
#[derive(Default)]
pub(super) struct Pools {
    list: Vec<(PoolKey, Pool)>,
    /// The place that was asked for last.
    latest: usize,
    /// By key: the place in the list. Keys have clients' addresses in them, so the hash is one
    /// that nobody can find collisions for.
    places: HashMap<PoolKey, usize>,
}

impl Pools {
    #[inline]
    fn place(&self, key: &PoolKey) -> Option<usize> {
        match self.list.get(self.latest) {
            Some((had, _)) if had == key => Some(self.latest),
            _ => self.places.get(key).copied(),
        }
    }

    /// The pool of this key, if there is one.
    #[inline]
    pub(super) fn get(&self, key: &PoolKey) -> Option<&Pool> {
        self.list.get(self.place(key)?).map(|(_, pool)| pool)
    }

    /// The same, to change it.
    #[inline]
    pub(super) fn get_mut(&mut self, key: &PoolKey) -> Option<&mut Pool> {
        let place = self.place(key)?;
        self.latest = place;
        self.list.get_mut(place).map(|(_, pool)| pool)
    }

    /// The pool of this key, made where there was none; so there always is one.
    #[inline]
    pub(super) fn of(&mut self, key: PoolKey) -> Option<&mut Pool> {
        let place = match self.place(&key) {
            Some(place) => place,
            None => self.add(key),
        };
        self.latest = place;
        self.list.get_mut(place).map(|(_, pool)| pool)
    }

    #[cold]
    fn add(&mut self, key: PoolKey) -> usize {
        self.places.insert(key, self.list.len());
        self.list.push((key, Pool::default()));
        self.list.len() - 1
    }

    /// Forgets the pool of this key.
    pub(super) fn remove(&mut self, key: &PoolKey) {
        let Some(place) = self.places.remove(key) else { return };
        self.list.swap_remove(place);
        if let Some((moved, _)) = self.list.get(place) {
            self.places.insert(*moved, place);
        }
    }

    /// All of them.
    pub(super) fn values(&self) -> impl Iterator<Item = &Pool> {
        self.list.iter().map(|(_, pool)| pool)
    }
}

#[cfg(test)]
mod tests {
    use super::super::slab::Key;
    use super::*;

    #[test]
    fn each_pool_is_found_by_its_key_while_others_come_and_go() {
        let key = |profile| (Some(1), profile, None);
        let mut pools = Pools::default();
        for profile in 0..9 {
            let pool = pools.of(key(profile));
            pool.expect("it is made").shared.resize(profile + 1, Some(Key::nobody()));
        }
        for gone in [8, 0, 3, 3] {
            pools.remove(&key(gone));
            assert!(pools.get(&key(gone)).is_none());
        }
        for profile in [1, 2, 4, 5, 6, 7, 4, 1] {
            assert_eq!(
                pools.get_mut(&key(profile)).map(|pool| pool.shared.len()),
                Some(profile + 1)
            );
            let found = pools.of(key(profile)).map(|pool| pool.shared.len());
            assert_eq!(found, Some(profile + 1));
        }
        assert_eq!(pools.values().count(), 6);
        assert!(pools.of(key(3)).is_some_and(|pool| pool.shared.is_empty()));
    }
}
