//! What routes and clusters may ask of the engine beyond sending a message on.

pub mod mirror;
pub mod retry;
