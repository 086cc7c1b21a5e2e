//! Whether the socket takes what is to be written.

use super::liveness::TICK;
use std::time::{Duration, Instant};

/// Since when bytes wait and the socket takes none: a peer that has stopped reading, or a dead path that pings cannot tell of, because they
/// wait as well.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    since: Option<Instant>,
    slept: bool,
}

impl Stall {
    /// There are bytes to be written. Only the first call counts, until there is progress.
    pub(crate) fn waiting(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The socket took some. If there are more, they wait from now on.
    pub(crate) fn progress(&mut self, now: Instant) {
        self.slept = false;
        self.since = self.since.map(|since| since.max(now));
    }

    /// All is written.
    pub(crate) fn idle(&mut self) {
        *self = Self::default();
    }

    /// `None` if nothing waits.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.since?.checked_add(timeout.max(TICK))
    }

    /// Whether bytes have waited for all of `timeout`. A look that is late by more than `timeout` says that the process slept, and gives
    /// the socket as much time again, once.
    pub(crate) fn is_dead(&mut self, timeout: Duration, now: Instant) -> bool {
        let Some(due) = self.deadline(timeout).filter(|due| now >= *due) else { return false };
        if now.saturating_duration_since(due) > timeout && !std::mem::replace(&mut self.slept, true) {
            self.since = Some(now);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn second(start: Instant, n: u64) -> Instant {
        start + Duration::from_secs(n)
    }

    #[test]
    fn bytes_that_nobody_takes_are_death_and_progress_is_life() {
        let t0 = Instant::now();
        let mut stall = Stall::default();
        stall.progress(t0);
        assert_eq!((stall.deadline(TIMEOUT), stall.is_dead(TIMEOUT, second(t0, 99))), (None, false));
        stall.waiting(t0);
        stall.waiting(second(t0, 5));
        assert_eq!(stall.deadline(TIMEOUT), Some(second(t0, 10)), "since the first of them");
        assert!(!stall.is_dead(TIMEOUT, second(t0, 9)));
        stall.progress(second(t0, 9));
        assert!(!stall.is_dead(TIMEOUT, second(t0, 18)));
        assert!(stall.is_dead(TIMEOUT, second(t0, 19)));
        stall.idle();
        assert!(!stall.is_dead(TIMEOUT, second(t0, 19)));
        stall.waiting(second(t0, 100));
        assert!(!stall.is_dead(TIMEOUT, second(t0, 500)), "the process slept");
        assert_eq!(stall.deadline(TIMEOUT), Some(second(t0, 510)));
        assert!(stall.is_dead(TIMEOUT, second(t0, 900)), "once");
    }

    #[test]
    fn time_that_goes_back_is_harmless() {
        let t0 = Instant::now() + Duration::from_secs(1000);
        let earlier = t0 - Duration::from_secs(900);
        let mut stall = Stall::default();
        stall.waiting(t0);
        stall.progress(earlier);
        assert!(!stall.is_dead(TIMEOUT, earlier));
        assert_eq!(stall.deadline(TIMEOUT), Some(second(t0, 10)));
        assert_eq!(stall.deadline(Duration::MAX), None, "beyond the end of time");
        assert!(!stall.is_dead(Duration::MAX, second(t0, 99)));
    }
}
