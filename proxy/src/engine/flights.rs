//! Requests in flight. Each lies in a box of its own, which is used again: so whoever ends one
//! takes hold of it without moving all that is remembered of it.

use std::ops::{Deref, DerefMut};

use super::slab::Slab;
use super::state::{Flight, FlightId};

/// Boxes kept for reuse, and how many bytes of notes each keeps room for: at most 3 MiB.
const SPARE: usize = 4096;
const NOTE: usize = 256;

/// All requests in flight of a worker.
#[derive(Default)]
pub(super) struct Flights {
    slab: Slab<Box<Flight>>,
    #[expect(clippy::vec_box, reason = "it is the boxes that are kept")]
    spare: Vec<Box<Flight>>,
}

impl Flights {
    /// Gives a request a place; of `note` it gets a copy.
    #[inline]
    pub(super) fn insert(&mut self, flight: Flight, note: &[u8]) -> FlightId {
        let mut place = match self.spare.pop() {
            Some(mut place) => {
                let room = std::mem::take(&mut place.note);
                *place = flight;
                place.note = room;
                place
            }
            None => Box::new(flight),
        };
        if !note.is_empty() {
            place.note.extend_from_slice(note);
        }
        self.slab.insert(place)
    }

    /// Takes a box back. The request in it has ended.
    #[inline]
    pub(super) fn recycle(&mut self, mut flight: Box<Flight>) {
        if self.spare.len() < SPARE {
            flight.note.clear();
            flight.note.shrink_to(NOTE);
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
