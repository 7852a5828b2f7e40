//! A router that sees only metadata.
//!
//! In: a [`View`](polyport_codecs::View) of one message's key/value facts. Out: the
//! first [`Route`] in file order whose predicates all hold ([`Table::choose`]), and
//! with it whatever the route carries. No I/O, no clock, no randomness: a weighted
//! [`Split`] is given its random number, a consistent choice its hash.
//!
//! Read on: `matcher` (what a predicate can ask), `table` and `index` (how 10,000
//! routes cost what 10 do), `split`, `balance` (one of several endpoints).

pub mod balance;
pub mod hash;
pub mod index;
pub mod matcher;
pub mod split;
pub mod table;

pub use hash::{Ring, hash_key, hash_seeded};
pub use matcher::{Matcher, Predicate};
pub use split::Split;
pub use table::{Route, Shadow, Table, Verdict};
