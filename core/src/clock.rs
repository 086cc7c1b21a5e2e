//! Time is an input.

use std::time::{Duration, Instant, SystemTime};

/// One moment, on both clocks: the monotonic one that every `now` is on, and wall time, for what is told in wall time
/// (a `Retry-After` date, records, signatures). The driver reads both once, when it makes the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The moment on the monotonic clock.
    pub instant: Instant,
    /// The same moment on the wall clock.
    pub system: SystemTime,
}

impl Clock {
    /// Wall time at `now`.
    pub fn wall(&self, now: Instant) -> SystemTime {
        let since: Duration = now.saturating_duration_since(self.instant);
        self.system.checked_add(since).unwrap_or(self.system)
    }
}
