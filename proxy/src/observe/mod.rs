//! What the outside can see of the traffic.

pub mod metrics;
