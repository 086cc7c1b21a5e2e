//! Counters that say when a client does too much.

use std::collections::VecDeque;
use std::time::Duration;

/// So much in any span of time: a sliding window.
///
/// `most` within `per` is allowed, and one more is too much. What is exactly `per` old does not count any more.
#[derive(Debug, Clone)]
pub struct Window {
    most: u64,
    per: Duration,
    spent: VecDeque<(Duration, u64)>,
    sum: u64,
}

impl Window {
    /// Nothing was counted.
    pub fn new(most: u64, per: Duration) -> Self {
        Self { most, per, spent: VecDeque::new(), sum: 0 }
    }

    /// Counts something that costs so much, and says whether that is too much. What is too much counts too.
    #[must_use = "whether it is too much is the question"]
    pub fn exceeds(&mut self, cost: u64, now: Duration) -> bool {
        let used = self.used(now);
        self.spent.push_back((now, cost));
        self.sum = used.saturating_add(cost);
        self.sum > self.most
    }

    /// Counts something that costs so much unless that would be too much. Whether it was counted.
    #[must_use = "whether it was allowed is the question"]
    pub fn allows(&mut self, cost: u64, now: Duration) -> bool {
        let allows = self.used(now).saturating_add(cost) <= self.most;
        allows && !self.exceeds(cost, now)
    }

    /// What counts now.
    pub fn used(&mut self, now: Duration) -> u64 {
        while let Some((at, cost)) = self.spent.front().copied()
            && now.saturating_sub(at) >= self.per
        {
            self.spent.pop_front();
            self.sum = self.sum.saturating_sub(cost);
        }
        self.sum
    }
}

/// A pool of credits that fills up again by and by.
#[derive(Debug, Clone)]
pub struct Credits {
    /// In billionths, so that what comes in a nanosecond is a whole number.
    capacity: u128,
    left: u128,
    per_second: u64,
    since: Duration,
}

const WHOLE: u128 = 1_000_000_000;

impl Credits {
    /// A full pool of this capacity, to which so many credits come in a second.
    pub fn new(capacity: u64, per_second: u64) -> Self {
        let capacity = u128::from(capacity) * WHOLE;
        Self { capacity, left: capacity, per_second, since: Duration::ZERO }
    }

    /// Takes so many, or none if there are not that many. Whether they were there.
    #[must_use = "whether they were there is the question"]
    pub fn take(&mut self, cost: u64, now: Duration) -> bool {
        self.fill(now);
        let cost = u128::from(cost) * WHOLE;
        let there = cost <= self.left;
        if there {
            self.left -= cost;
        }
        there
    }

    /// How many whole credits are there.
    pub fn left(&mut self, now: Duration) -> u64 {
        self.fill(now);
        u64::try_from(self.left / WHOLE).unwrap_or(u64::MAX)
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since).as_nanos();
        self.since = self.since.max(now);
        let came = passed.saturating_mul(u128::from(self.per_second));
        self.left = self.left.saturating_add(came).min(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_window_slides() {
        let mut window = Window::new(3, ms(1000));
        assert!(!window.exceeds(1, ms(0)) && !window.exceeds(1, ms(500)) && !window.exceeds(1, ms(999)));
        // The first is exactly one span old.
        assert!(!window.exceeds(1, ms(1000)));
        assert!(window.exceeds(1, ms(1499)), "four in 999 ms");
        assert_eq!((window.used(ms(1500)), window.used(ms(5000))), (3, 0));
        assert!(window.exceeds(4, ms(5000)));
        assert!(!Window::new(3, ms(1000)).exceeds(3, ms(0)));
    }

    #[test]
    fn what_is_not_allowed_does_not_count() {
        let mut window = Window::new(2, ms(1000));
        assert!(window.allows(1, ms(0)) && window.allows(1, ms(600)));
        assert!(!window.allows(1, ms(700)) && !window.allows(1, ms(999)));
        assert!(window.allows(1, ms(1000)) && !window.allows(1, ms(1000)));
    }

    #[test]
    fn credits_come_by_and_by() {
        let mut credits = Credits::new(10, 4);
        assert!(credits.take(10, ms(100)) && !credits.take(1, ms(349)));
        assert!(credits.take(1, ms(350)), "one comes in 250 ms");
        assert_eq!((credits.left(ms(599)), credits.left(ms(600)), credits.left(ms(600_000))), (0, 1, 10));
        assert!(!credits.take(11, ms(600_000)) && credits.take(10, ms(600_000)));
        assert!(!credits.take(1, ms(0)), "time does not go back");
    }
}
