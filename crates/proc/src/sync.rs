//! A mutex that survives a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. Every critical section of this crate leaves its data whole at each step, so
/// that what a panicking holder left behind is usable: one handler's fault must not cost the
/// other containers of the shim.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
