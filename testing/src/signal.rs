//! Waiting for something to change.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::conn_state::wait_until;

/// Says that something has come on some connection, for waits on all of a server's.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    pub(crate) fn raise(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// How often it was raised.
    pub(crate) fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has been raised more than `seen` times; `false` when the time is up.
    pub(crate) fn wait(&self, seen: u64, deadline: Option<Instant>) -> bool {
        wait_until(&self.count, &self.changed, deadline, |count| (*count != seen).then_some(())).is_some()
    }
}
