//! Numbered places whose numbers go stale when their tenant leaves.

use std::marker::PhantomData;

/// A place in a [`Slab`] and which of its tenants is meant. Stale keys find nothing.
pub struct Key<T> {
    index: u32,
    generation: u32,
    tenant: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The key that never finds anybody.
    pub fn nobody() -> Self {
        Self { index: u32::MAX, generation: u32::MAX, tenant: PhantomData }
    }

    /// The place's number; small, reused.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The key as a correlation id of `bits` bits (at least 32): the low bits name
    /// the place, the others the tenant, so that a stale reply finds nobody.
    pub fn to_wire(self, bits: u32) -> u64 {
        let place = place_bits(bits);
        let wire = u64::from(self.generation) << place | u64::from(self.index);
        if bits >= 64 { wire } else { wire & ((1 << bits) - 1) }
    }
}

/// Bits of a correlation id that name the place: with 64-bit ids all of `u32`,
/// with 32-bit ids a million requests in flight and 4,096 generations.
fn place_bits(bits: u32) -> u32 {
    if bits >= 64 { 32 } else { 20 }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}
impl<T> Eq for Key<T> {}
impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}
impl<T> std::hash::Hash for Key<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.index, self.generation).hash(state);
    }
}
impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}v{}", self.index, self.generation)
    }
}

struct Place<T> {
    generation: u32,
    tenant: Option<T>,
}

/// Tenants in numbered places, found in constant time, without hashing.
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Gives `tenant` a place.
    pub fn insert(&mut self, tenant: T) -> Key<T> {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.tenant = Some(tenant);
            return Key { index, generation: place.generation, tenant: PhantomData };
        }
        // Four billion places would not fit in memory.
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Place { generation: 0, tenant: Some(tenant) });
        Key { index, generation: 0, tenant: PhantomData }
    }

    /// The tenant that `key` names, if it is still there.
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation { place.tenant.as_ref() } else { None }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.tenant.as_mut() } else { None }
    }

    /// Ends the tenancy.
    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let tenant = place.tenant.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(tenant)
    }

    /// The key whose [`Key::to_wire`] is `wire`, if its tenant is still there.
    pub fn from_wire(&self, wire: u64, bits: u32) -> Option<Key<T>> {
        let index = (wire & ((1 << place_bits(bits)) - 1)) as u32;
        let place = self.places.get(index as usize)?;
        place.tenant.as_ref()?;
        let key = Key { index, generation: place.generation, tenant: PhantomData };
        (key.to_wire(bits) == wire).then_some(key)
    }

    /// Every tenant with its key.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let index = u32::try_from(index).ok()?;
            let key = Key { index, generation: place.generation, tenant: PhantomData };
            Some((key, place.tenant.as_ref()?))
        })
    }

    /// How many tenants there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nobody() {
        let mut slab = Slab::default();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get(second), Some(&"b"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_wire_id_names_one_tenant_even_in_32_bits() {
        for bits in [32, 64] {
            let mut slab = Slab::default();
            for _ in 0..5000 {
                let key = slab.insert(());
                slab.remove(key);
            }
            let key = slab.insert(());
            let wire = key.to_wire(bits);
            assert!(bits == 64 || wire <= u64::from(u32::MAX));
            assert_eq!(slab.from_wire(wire, bits), Some(key));
            slab.remove(key);
            assert_eq!(slab.from_wire(wire, bits), None);
            slab.insert(());
            assert_eq!(slab.from_wire(wire, bits), None);
        }
    }
}
