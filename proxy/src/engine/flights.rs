//! Requests in flight. Each lies in a box of its own, which is used again: so whoever ends one
//! takes hold of it without moving all that is remembered of it.

use std::ops::{Deref, DerefMut};

use super::slab::Slab;
use super::state::{Flight, FlightId};

/// Boxes kept for reuse: at most 2 MiB.
const SPARE: usize = 4096;

/// All requests in flight of a worker.
#[derive(Default)]
pub(super) struct Flights {
    slab: Slab<Box<Flight>>,
    #[expect(clippy::vec_box, reason = "it is the boxes that are kept")]
    spare: Vec<Box<Flight>>,
}

impl Flights {
    /// Gives a request a place.
    #[inline]
    pub(super) fn insert(&mut self, flight: Flight) -> FlightId {
        let place = match self.spare.pop() {
            Some(mut place) => {
                *place = flight;
                place
            }
            None => Box::new(flight),
        };
        self.slab.insert(place)
    }

    /// Takes a box back. The request in it has ended.
    #[inline]
    pub(super) fn recycle(&mut self, flight: Box<Flight>) {
        if self.spare.len() < SPARE {
            self.spare.push(flight);
        }
    }

    /// Gives back the memory that is kept for reuse.
    pub(super) fn trim(&mut self) {
        self.spare = Vec::new();
    }
}

impl Deref for Flights {
    type Target = Slab<Box<Flight>>;

    fn deref(&self) -> &Self::Target {
        &self.slab
    }
}

impl DerefMut for Flights {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.slab
    }
}
