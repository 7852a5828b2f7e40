//! Finding candidates without asking every route.
//!
//! Each route is filed under the rarest of its exact values, else under its
//! longest prefix, else under nothing. A message is looked up once per key that
//! any route is filed by (and once per length of prefix), which gives a few
//! ascending lists of candidates; they are merged, so the first that matches is found
//! in file order.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use polyport_codecs::{Slot, View};

use crate::hash::hash_key;
use crate::matcher::Matcher;
use crate::table::Route;

/// Lists that are merged on the stack; a message with more candidates' lists is scanned.
const LISTS: usize = 24;

/// Hashes keys with the crate's own hash: the table is compiled from a config,
/// not from strangers' input, so it needs no defence against collisions.
#[derive(Debug, Clone, Copy, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(5) ^ hash_key(bytes);
    }
    fn write_usize(&mut self, value: usize) {
        self.0 = self.0.rotate_left(5) ^ value as u64;
    }
}

/// So many values are compared one after the other.
const FEW: usize = 8;

type Filed = HashMap<Box<[u8]>, Vec<u32>, BuildHasherDefault<KeyHasher>>;

#[derive(Debug, Clone)]
struct Key {
    slot: Slot,
    exact: Filed,
    /// The same as `exact` where that has at most [`FEW`], which are sooner compared than hashed.
    few: Vec<(Box<[u8]>, Vec<u32>)>,
    /// By length, shortest first.
    prefixes: Vec<(usize, Filed)>,
}

/// Candidates by value.
#[derive(Debug, Clone, Default)]
pub struct Index {
    keys: Vec<Key>,
    /// Routes that no value finds.
    always: Vec<u32>,
    /// By route: whatever finds it is all that it asks for.
    certain: Vec<bool>,
}

impl Index {
    /// Files `routes`.
    pub fn new<T>(routes: &[Route<T>]) -> Self {
        // How many routes ask for each exact value: the rarer, the better it tells them apart.
        let mut asked: HashMap<(Slot, &[u8]), usize> = HashMap::new();
        for (slot, value) in routes.iter().flat_map(exact_values) {
            *asked.entry((slot, value)).or_default() += 1;
        }
        let mut index = Self { certain: vec![false; routes.len()], ..Self::default() };
        for (at, route) in routes.iter().enumerate() {
            let Ok(at) = u32::try_from(at) else { break };
            let rarest = route
                .when
                .iter()
                .filter_map(|predicate| {
                    let values = values_of(&predicate.matcher)?;
                    let worst = values
                        .iter()
                        .map(|value| asked.get(&(predicate.slot, *value)).copied().unwrap_or(0))
                        .max()?;
                    Some((worst, predicate.slot, values))
                })
                .min_by_key(|(worst, ..)| *worst);
            let prefix = route.when.iter().filter_map(|predicate| match &predicate.matcher {
                Matcher::Prefix(prefix) if !prefix.is_empty() => Some((predicate.slot, prefix)),
                _ => None,
            });
            let prefix = prefix.max_by_key(|(_, prefix)| prefix.len());
            // A value that many routes share tells less than a prefix.
            let shared = rarest.as_ref().is_some_and(|(worst, ..)| *worst > 4);
            match (rarest, prefix) {
                (Some((_, slot, values)), None) => {
                    index.file_exact(slot, &values, at);
                    if let Some(certain) = index.certain.get_mut(at as usize) {
                        *certain = route.when.len() == 1;
                    }
                }
                (Some((_, slot, values)), Some(_)) if !shared => {
                    index.file_exact(slot, &values, at);
                }
                (_, Some((slot, prefix))) => index.file_prefix(slot, prefix, at),
                (None, None) => index.always.push(at),
            }
        }
        for key in index.keys.iter_mut().filter(|key| key.exact.len() <= FEW) {
            key.few = key.exact.iter().map(|(value, list)| (value.clone(), list.clone())).collect();
            key.few.sort();
        }
        index
    }

    fn key(&mut self, slot: Slot) -> Option<&mut Key> {
        let at = match self.keys.iter().position(|key| key.slot == slot) {
            Some(at) => at,
            None => {
                let (exact, few, prefixes) = Default::default();
                self.keys.push(Key { slot, exact, few, prefixes });
                self.keys.len() - 1
            }
        };
        self.keys.get_mut(at)
    }

    fn file_exact(&mut self, slot: Slot, values: &[&[u8]], at: u32) {
        let Some(key) = self.key(slot) else { return };
        for value in values.iter().collect::<BTreeSet<_>>() {
            key.exact.entry((*value).into()).or_default().push(at);
        }
    }

    fn file_prefix(&mut self, slot: Slot, prefix: &[u8], at: u32) {
        let Some(key) = self.key(slot) else { return };
        let place = match key.prefixes.binary_search_by_key(&prefix.len(), |(len, _)| *len) {
            Ok(place) => place,
            Err(place) => {
                key.prefixes.insert(place, (prefix.len(), Filed::default()));
                place
            }
        };
        if let Some((_, filed)) = key.prefixes.get_mut(place) {
            filed.entry(prefix.into()).or_default().push(at);
        }
    }

    /// The first position for which `matches` holds.
    pub fn first(&self, view: &View<'_>, matches: impl Fn(usize) -> bool) -> Option<usize> {
        let mut lists: [&[u32]; LISTS] = [&[]; LISTS];
        let mut count = 0;
        let mut overflow = false;
        let mut add = |list| match lists.get_mut(count) {
            Some(place) => {
                *place = list;
                count += 1;
            }
            None => overflow = true,
        };
        if !self.always.is_empty() {
            add(&self.always);
        }
        for key in &self.keys {
            let Some(value) = view.get(key.slot) else { continue };
            let list = if key.exact.len() <= FEW {
                let mut few = key.few.iter();
                few.find(|(known, _)| **known == *value).map(|(_, list)| list)
            } else {
                key.exact.get(value)
            };
            if let Some(list) = list {
                add(list);
            }
            for (len, filed) in &key.prefixes {
                let Some(prefix) = value.get(..*len) else { break };
                if let Some(list) = filed.get(prefix) {
                    add(list);
                }
            }
        }
        if overflow {
            return (0..self.certain.len()).find(|at| matches(*at));
        }
        let matches = |at: &usize| self.certain.get(*at).is_some_and(|c| *c) || matches(*at);
        if let (1, Some(list)) = (count, lists.first()) {
            return list.iter().map(|at| *at as usize).find(matches);
        }
        // One candidate at a time, the smallest first.
        loop {
            let mut smallest: Option<(usize, u32)> = None;
            for (which, list) in lists.iter().enumerate().take(count) {
                if let Some(head) = list.first()
                    && smallest.is_none_or(|(_, least)| *head < least)
                {
                    smallest = Some((which, *head));
                }
            }
            let (which, at) = smallest?;
            if matches(&(at as usize)) {
                return Some(at as usize);
            }
            if let Some(list) = lists.get_mut(which) {
                *list = list.get(1..).unwrap_or_default();
            }
        }
    }
}

fn values_of(matcher: &Matcher) -> Option<Vec<&[u8]>> {
    match matcher {
        Matcher::Exact(value) => Some(vec![value]),
        Matcher::In(values) if !values.is_empty() => {
            Some(values.iter().map(AsRef::as_ref).collect())
        }
        _ => None,
    }
}

fn exact_values<T>(route: &Route<T>) -> impl Iterator<Item = (Slot, &[u8])> {
    route.when.iter().flat_map(|predicate| {
        let values = values_of(&predicate.matcher).unwrap_or_default();
        values.into_iter().map(|value| (predicate.slot, value))
    })
}
