//! Locks that a panic elsewhere does not take with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it, also where somebody panicked who held it: whatever is behind a lock here is
/// changed by single assignments, so it is whole at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
