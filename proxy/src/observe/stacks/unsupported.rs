//! Where nothing can be sampled.

use super::{Refused, Stacks};

/// A profile that is being taken.
#[derive(Debug)]
pub struct Sampling(std::convert::Infallible);

impl Sampling {
    /// Begins one.
    ///
    /// # Errors
    /// Always.
    pub fn begin() -> Result<Self, Refused> {
        Err(Refused::Unable("only Linux with glibc, on x86-64 and AArch64, is known".into()))
    }

    /// Ends it.
    ///
    /// # Errors
    /// Never comes to it.
    pub fn end(self) -> Result<Stacks, Refused> {
        match self.0 {}
    }
}

/// Keeps the sampler's signal from threads; there is none.
pub fn hold_back() {}

/// Lets the sampler's signal reach this thread; there is none.
pub fn admit() {}
