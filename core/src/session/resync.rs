//! How often topics are resynced after gaps: a busy topic that gaps again and again must not become a storm of subscribing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The resyncs of one topic: the first is at once; each that follows within `calm` of the one before waits, at first a second, then twice as
/// long each time, up to a minute.
#[derive(Debug, Clone)]
pub(crate) struct Damper {
    calm: Duration,
    /// When the last resync goes, or went.
    last: Option<Instant>,
    /// What the next one waits if it follows too soon.
    wait: Duration,
}

impl Damper {
    pub(crate) const CALM: Duration = Duration::from_secs(60);
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    pub(crate) fn new(calm: Duration) -> Self {
        Self { calm, last: None, wait: Self::FIRST }
    }

    /// A gap was found `now`: when to resync. While a resync waits for its moment, further gaps get that moment: it mends them too.
    pub(crate) fn resync_at(&mut self, now: Instant) -> Instant {
        let Some(last) = self.last else { return self.go(now) };
        if now < last {
            return last;
        }
        if now.saturating_duration_since(last) >= self.calm {
            self.wait = Self::FIRST;
            return self.go(now);
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(Self::LONGEST);
        self.go(now.checked_add(wait).unwrap_or(now))
    }

    fn go(&mut self, at: Instant) -> Instant {
        self.last = Some(at);
        at
    }
}

impl Default for Damper {
    fn default() -> Self {
        Self::new(Self::CALM)
    }
}

/// The resyncs of a whole session: at most so many in any span of time, whatever its topics want.
#[derive(Debug, Clone)]
pub(crate) struct Storm {
    most: usize,
    span: Duration,
    /// When the last `most` of them went, oldest first.
    went: VecDeque<Instant>,
}

impl Storm {
    pub(crate) const MOST: usize = 16;
    pub(crate) const SPAN: Duration = Duration::from_secs(10);

    /// At least one may go in a span.
    pub(crate) fn new(most: usize, span: Duration) -> Self {
        Self { most: most.max(1), span, went: VecDeque::new() }
    }

    /// The earliest moment from `now` on at which one may go.
    pub(crate) fn next_at(&self, now: Instant) -> Instant {
        if self.went.len() < self.most {
            return now;
        }
        let free = self.went.front().and_then(|oldest| oldest.checked_add(self.span));
        free.map_or(now, |free| free.max(now))
    }

    /// Has one go `now`; if it may not, says when the next may.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let at = self.next_at(now);
        if at > now {
            return Err(at);
        }
        if self.went.len() == self.most {
            self.went.pop_front();
        }
        // A clock that goes back must not put an earlier moment behind a later one.
        self.went.push_back(self.went.back().map_or(now, |&last| last.max(now)));
        Ok(())
    }
}

impl Default for Storm {
    fn default() -> Self {
        Self::new(Self::MOST, Self::SPAN)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_first_is_at_once_and_each_that_follows_waits_twice_as_long() {
        let t0 = Instant::now();
        let mut damper = Damper::default();
        let mut now = t0;
        let mut waits = Vec::new();
        for _ in 0..10 {
            let at = damper.resync_at(now);
            waits.push(at.duration_since(now).as_secs());
            if at > now {
                assert_eq!(damper.resync_at(now), at, "mended by the one that waits");
                assert_eq!(damper.resync_at(at - ms(1)), at);
            }
            now = at;
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn it_calms_down_to_the_millisecond_and_then_begins_anew() {
        let t0 = Instant::now();
        let mut damper = Damper::default();
        assert_eq!(damper.resync_at(t0), t0);
        let soon = t0 + ms(59_999);
        assert_eq!(damper.resync_at(soon), soon + ms(1000), "one millisecond too soon");
        assert_eq!(damper.resync_at(soon + ms(999)), soon + ms(1000), "mended by the one that waits");
        let calm = soon + ms(1000) + ms(60_000);
        assert_eq!(damper.resync_at(calm), calm);
        assert_eq!(damper.resync_at(calm), calm + ms(1000), "from one second again");
        assert_eq!(damper.resync_at(t0), calm + ms(1000), "a clock that goes back changes nothing");
    }

    #[test]
    fn a_storm_is_never_more_than_its_most_in_any_span() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (most, span) = if seed == 0 {
                (Storm::MOST, Storm::SPAN)
            } else {
                (1 + rng.next_u32() as usize % 20, ms(u64::from(rng.next_u32() % 12_000)))
            };
            let mut storm = Storm::new(most, span);
            let mut now = Instant::now();
            let mut went: Vec<Instant> = Vec::new();
            for _ in 0..400 {
                if rng.next_u32().is_multiple_of(3) {
                    now += ms(u64::from(rng.next_u32() % 3000));
                }
                // The naive count of those in the span that ends now.
                let recent = went.iter().filter(|&&at| now.duration_since(at) < span).count();
                match storm.take(now) {
                    Ok(()) => {
                        assert!(recent < most, "seed {seed}");
                        went.push(now);
                    }
                    Err(at) => {
                        assert!(recent >= most && at > now, "seed {seed}: refused for nothing");
                        let just_before = at - Duration::from_nanos(1);
                        let then =
                            |when: Instant| went.iter().filter(|&&at| when.duration_since(at) < span).count();
                        assert!(then(just_before) >= most && then(at) < most, "seed {seed}: not exact");
                        assert_eq!(storm.next_at(now), at);
                        if rng.next_u32().is_multiple_of(2) {
                            now = at;
                        }
                    }
                }
                assert!(storm.went.len() <= most);
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_frees_nothing() {
        let t0 = Instant::now() + ms(100_000);
        let mut storm = Storm::new(2, ms(1000));
        assert_eq!(storm.take(t0), Ok(()));
        assert_eq!(storm.take(t0 - ms(500)), Ok(()));
        assert_eq!(storm.take(t0 - ms(500)), Err(t0 + ms(1000)));
        assert_eq!(storm.take(t0 + ms(1000)), Ok(()));
        assert_eq!(storm.take(t0 + ms(600)), Err(t0 + ms(1000)), "the second counts from t0 as well");
        assert_eq!(storm.take(t0 + ms(1000)), Ok(()));
        assert_eq!(storm.take(t0 + ms(1000)), Err(t0 + ms(2000)));
        assert_eq!(Storm::new(0, ms(1)).take(t0), Ok(()), "never none at all");
    }
}
