//! Two small things to share between tasks: a mutex that survives a panic, and a value that is
//! told once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Locks `mutex`. Every critical section of this crate leaves its data whole at each step, so
/// that what a panicking holder left behind is usable: one handler's fault must not cost the
/// other containers of the shim.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that comes later, once, and that any number may wait for.
#[derive(Debug)]
pub(crate) struct Told<T>(watch::Sender<Option<T>>);

impl<T: Clone> Told<T> {
    /// One that is still to come, or not.
    pub(crate) fn new(value: Option<T>) -> Self {
        Self(watch::Sender::new(value))
    }

    /// Tells it. Says whether it was the first; only the first counts.
    pub(crate) fn tell(&self, value: T) -> bool {
        self.0.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(value);
            }
            first
        })
    }

    /// The value, if it was told.
    pub(crate) fn get(&self) -> Option<T> {
        self.0.borrow().clone()
    }

    /// Waits for the value.
    pub(crate) async fn wait(&self) -> T {
        let mut told = self.0.subscribe();
        loop {
            if let Some(value) = told.borrow_and_update().clone() {
                return value;
            }
            // The sender is borrowed from `self`, so it cannot go away meanwhile.
            if told.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn only_the_first_value_counts_for_all_who_wait() {
        let told = Told::new(None);
        let tell = async { (told.tell(1), told.tell(2)) };
        assert_eq!(
            tokio::join!(told.wait(), told.wait(), tell),
            (1, 1, (true, false))
        );
        assert_eq!((told.get(), told.wait().await), (Some(1), 1));
    }
}
