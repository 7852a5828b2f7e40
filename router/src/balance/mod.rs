//! Choosing one endpoint of a set.
//!
//! Two steps, so that the one made for each message is short. [`levels`] says once per
//! change of anyone's health who may be chosen and with what share: an [`Eligible`] set.
//! Each message then asks that set in its balance's way: [`Smooth`] (in turn),
//! [`Eligible::draw`] (by chance), [`less_busy`] (the better of two drawn, by requests
//! in flight or by [`Pace`]), or a [`Keyed`] table by a key's hash.
//!
//! Nothing here allocates once a set stands; no clock, no randomness: both are arguments.
//! Members are known by their position in the set that they were given in.

pub mod eligible;
pub mod keyed;
pub mod levels;
pub mod maglev;
pub mod pace;
pub mod smooth;

pub use eligible::{Eligible, less_busy};
pub use keyed::{Bound, Keyed};
pub use levels::{Member, Rules};
pub use maglev::Maglev;
pub use pace::Pace;
pub use smooth::Smooth;
