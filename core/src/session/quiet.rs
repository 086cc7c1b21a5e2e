//! The last `Wait`: what it said, and what was told since.

use super::Output;
use std::time::{Duration, Instant};

/// From one `Wait` to the next.
///
/// - What a `Wait` said holds until its time has come or anything but new bytes comes: who moves a deadline, and leaves the session
///   calm, calls [`ends`](Self::ends).
/// - Between two of them, if events are told, the time of the first is known. As long as an event is not taken nothing is read. So if
///   time has passed since, more may have arrived than was read, and is to be read before anybody is judged by the time.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// When the first event since then was told.
    told_at: Option<Instant>,
    /// What it said, and whether that still holds.
    due: Option<Instant>,
    holds: bool,
    /// Somebody took his time with an event, and more may have arrived than was read.
    backlog: Option<Backlog>,
}

/// Reading goes before timers.
#[derive(Debug, Clone, Copy)]
struct Backlog {
    /// No longer than until then.
    until: Instant,
    /// How many bytes had been received when that was asked for last, and when it is asked for again.
    received: u64,
    again: Instant,
}

impl Quiet {
    /// There is nothing to do before `due`.
    pub(crate) fn begins(&mut self, due: Option<Instant>) -> Output {
        (self.due, self.holds) = (due, true);
        self.again()
    }

    /// There may be something to do earlier than was said.
    #[inline]
    pub(crate) fn ends(&mut self) {
        self.holds = false;
    }

    /// Whether what the last `Wait` said can be said again.
    #[inline]
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.holds && self.due.is_none_or(|due| due > now)
    }

    /// Says it again.
    #[inline]
    pub(crate) fn again(&mut self) -> Output {
        self.told_at = None;
        Output::Wait(self.due)
    }

    /// An event is told.
    #[inline]
    pub(crate) fn told(&mut self, now: Instant) {
        self.told_at.get_or_insert(now);
    }

    /// Nobody is judged by the time while his answer may lie in the socket: if an event was looked at for long, what arrived meanwhile is to
    /// be read before timers run. When to look again; `None` if all is read, or was tried for long enough.
    ///
    /// `received` counts bytes; `open` is whether there is a connection that they may come over.
    pub(crate) fn read_first(&mut self, received: u64, open: bool, now: Instant) -> Option<Instant> {
        let slow = self.told_at.take().is_some_and(|told| now > told);
        // One at a time: who is always slow must not hold up timers for ever.
        if slow && open && self.backlog.is_none() {
            self.backlog = Some(Backlog { until: now + Self::CATCH_UP, received: u64::MAX, again: now });
        }
        let backlog = self.backlog?;
        if now < backlog.again {
            return Some(backlog.again);
        }
        if now >= backlog.until || received == backlog.received {
            self.backlog = None;
            return None;
        }
        let again = now + Self::STEP;
        self.backlog = Some(Backlog { received, again, ..backlog });
        Some(again)
    }

    /// Timers do not wait for longer than this for a peer that sends all the time.
    const CATCH_UP: Duration = Duration::from_secs(1);

    /// In this time what lies in a socket is read.
    const STEP: Duration = Duration::from_millis(1);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]

    use super::*;

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn what_was_said_holds_until_its_time_or_until_it_ends() {
        let now = Instant::now();
        let mut quiet = Quiet::default();
        assert!(!quiet.holds(now), "nothing was said");
        assert_eq!(quiet.begins(Some(now + millis(5))), Output::Wait(Some(now + millis(5))));
        assert!(quiet.holds(now + millis(4)));
        assert_eq!(quiet.again(), Output::Wait(Some(now + millis(5))));
        assert!(!quiet.holds(now + millis(5)));
        assert_eq!(quiet.begins(None), Output::Wait(None));
        assert!(quiet.holds(now + millis(1_000_000)));
        quiet.ends();
        assert!(!quiet.holds(now));
    }

    #[test]
    fn only_a_user_who_takes_his_time_delays_timers() {
        let now = Instant::now();
        let mut quiet = Quiet::default();
        assert_eq!(quiet.read_first(0, true, now), None, "nothing was told");
        quiet.told(now);
        assert_eq!(quiet.read_first(0, true, now), None, "it was taken at once");
        quiet.told(now);
        let _wait = quiet.begins(None);
        assert_eq!(quiet.read_first(0, true, now + millis(9)), None, "all was read before the wait");
        quiet.told(now);
        assert_eq!(quiet.read_first(0, false, now + millis(9)), None, "there is nothing to read from");
        // The first event counts, not the last.
        quiet.told(now);
        quiet.told(now + millis(9));
        assert_eq!(quiet.read_first(0, true, now + millis(9)), Some(now + millis(10)));
        assert_eq!(quiet.read_first(0, true, now + millis(9)), Some(now + millis(10)), "the same until then");
        assert_eq!(quiet.read_first(0, true, now + millis(10)), None, "nothing came");
        assert_eq!(quiet.read_first(0, true, now + millis(11)), None, "once");
    }

    #[test]
    fn timers_wait_for_bytes_that_come_but_not_for_ever() {
        let begin = Instant::now();
        let mut quiet = Quiet::default();
        let (mut now, mut received, mut looked) = (begin + millis(7), 0, 0);
        quiet.told(begin);
        while let Some(again) = quiet.read_first(received, true, now) {
            assert_eq!(again, now + millis(1));
            // One who is slow each time gets no more time for it.
            quiet.told(now);
            (now, received, looked) = (again, received + 1, looked + 1);
        }
        assert_eq!((now, looked), (begin + millis(7) + Quiet::CATCH_UP, 1000));
    }
}
