//! Delays between attempts: exponential with full jitter, and a budget that holds whatever happens.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counts failures since the last stable connection, and draws delays from them.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next attempt: uniform from zero to a bound that doubles with each failure. Many clients that lost
    /// the same server then come back spread out, not at once.
    pub(crate) fn next(&mut self, initial: Duration, max: Duration, rng: &mut ChaCha8Rng) -> Duration {
        let doubled = 1u32.checked_shl(self.failures).map(|factor| initial.saturating_mul(factor));
        let bound = doubled.unwrap_or(max).min(max);
        self.failures = self.failures.saturating_add(1);
        fraction(bound, rng)
    }

    /// The connection proved stable.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random part of a time, none and all of it included.
pub(crate) fn fraction(of: Duration, rng: &mut ChaCha8Rng) -> Duration {
    of.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX))
}

/// At most so many connection attempts in any span of time: what stops a session that connects well and is thrown out at once,
/// over and over, which the delays above do not see.
#[derive(Debug)]
pub(crate) struct FlapBudget {
    max: usize,
    per: Duration,
    /// When the newest attempts began, at most `max` of them, oldest first.
    begun: VecDeque<Instant>,
}

impl FlapBudget {
    /// The most attempts that a budget can have: their times are kept.
    pub(crate) const MAX: u32 = 4096;

    /// At most `max` attempts, 1 to [`MAX`](Self::MAX), begin in any span as long as `per`. A span is without its end: the attempt
    /// that comes exactly `per` after another is in the next.
    pub(crate) fn new(max: u32, per: Duration) -> Self {
        Self { max: max.clamp(1, Self::MAX) as usize, per, begun: VecDeque::new() }
    }

    /// The first moment from `at` on at which another attempt keeps within the budget.
    pub(crate) fn earliest(&self, at: Instant) -> Instant {
        // Nothing is forgotten here: `at` may be far ahead, and an earlier moment may be asked about next.
        let Some(last) = self.begun.len().checked_sub(self.max) else { return at };
        // `per` is bounded by the configuration. If it could not be added all the same, there would be no moment to name.
        self.begun[last].checked_add(self.per).map_or(at, |free| free.max(at))
    }

    /// An attempt begins, within the budget or, if the user insists, outside of it.
    pub(crate) fn began(&mut self, at: Instant) {
        // Time does not go back; if it did, the order must stay.
        let at = self.begun.back().map_or(at, |last| at.max(*last));
        self.begun.push_back(at);
        if self.begun.len() > self.max {
            self.begun.pop_front();
        }
        while self.begun.front().is_some_and(|first| at.saturating_duration_since(*first) >= self.per) {
            self.begun.pop_front();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn bounds_double_up_to_the_cap_and_all_of_the_range_is_used() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut widest = [Duration::ZERO; 8];
        let mut narrowest = [Duration::MAX; 8];
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::from_seed([seed; 32]);
            let mut backoff = Backoff::default();
            for n in 0..8 {
                let delay = backoff.next(initial, max, &mut rng);
                let bound = (initial * 2u32.pow(n as u32)).min(max);
                assert!(delay <= bound, "{delay:?} over {bound:?}");
                widest[n] = widest[n].max(delay);
                narrowest[n] = narrowest[n].min(delay);
            }
        }
        assert!(widest[0] > Duration::from_millis(90) && widest[7] > Duration::from_millis(900));
        assert!(narrowest[7] < Duration::from_millis(100), "full jitter reaches down to zero");
    }

    #[test]
    fn never_overflows_and_resets() {
        let mut rng = ChaCha8Rng::from_seed([1; 32]);
        let mut backoff = Backoff { failures: u32::MAX };
        assert!(
            backoff.next(Duration::from_secs(1), Duration::from_secs(30), &mut rng)
                <= Duration::from_secs(30)
        );
        backoff.reset();
        assert!(
            backoff.next(Duration::from_secs(1), Duration::from_secs(30), &mut rng) <= Duration::from_secs(1)
        );
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_budget_opens_when_the_oldest_attempt_leaves_the_span() {
        let t = Instant::now();
        let mut budget = FlapBudget::new(3, 100 * MS);
        for ms in [0, 10, 20] {
            assert_eq!(budget.earliest(t + ms * MS), t + ms * MS);
            budget.began(t + ms * MS);
        }
        assert_eq!(budget.earliest(t + 30 * MS), t + 100 * MS);
        assert_eq!(budget.earliest(t + 500 * MS), t + 500 * MS);
        assert_eq!(budget.earliest(t + 30 * MS), t + 100 * MS, "to ask about later changes nothing");
        budget.began(t + 100 * MS);
        assert_eq!(budget.earliest(t + 100 * MS), t + 110 * MS);
    }

    #[test]
    fn attempts_beyond_the_budget_count() {
        let t = Instant::now();
        let mut budget = FlapBudget::new(2, 100 * MS);
        for ms in [0, 1, 2, 3] {
            budget.began(t + ms * MS);
        }
        assert_eq!(budget.earliest(t + 4 * MS), t + 102 * MS);
        // A moment that went back is taken for the last one.
        budget.began(t);
        assert_eq!(budget.earliest(t), t + 103 * MS);
    }

    #[test]
    fn odd_budgets() {
        let t = Instant::now();
        let mut none = FlapBudget::new(0, 100 * MS);
        assert_eq!(none.earliest(t), t, "none at all would never connect");
        none.began(t);
        assert_eq!(none.earliest(t), t + 100 * MS);
        let mut free = FlapBudget::new(1, Duration::ZERO);
        free.began(t);
        assert_eq!(free.earliest(t), t);
        let mut forever = FlapBudget::new(1, Duration::MAX);
        forever.began(t);
        assert_eq!(forever.earliest(t + MS), t + MS, "no overflow");
        let mut huge = FlapBudget::new(u32::MAX, Duration::from_secs(3600));
        for n in 0..10_000 {
            huge.began(t + n * MS);
        }
        assert_eq!(huge.begun.len(), FlapBudget::MAX as usize);
        huge.began(t + Duration::from_secs(7200));
        assert_eq!(huge.begun.len(), 1, "what is over is forgotten");
    }

    /// Against all attempts that ever began: no span holds too many, and no attempt was held back for nothing.
    #[test]
    fn no_span_holds_more_than_the_budget() {
        let t = Instant::now();
        for seed in 0..100 {
            let mut rng = ChaCha8Rng::from_seed([seed; 32]);
            let max = rng.next_u32() % 6 + 1;
            let per = (rng.next_u32() % 50 + 1) * MS;
            let mut budget = FlapBudget::new(max, per);
            let mut all: Vec<Instant> = Vec::new();
            let fits = |all: &[Instant], at: Instant| {
                // With `at` added, the fullest span that ends with it: it is later than all others.
                all.iter().filter(|begun| at - **begun < per).count() < max as usize
            };
            let mut now = t;
            for _ in 0..200 {
                now += rng.next_u32() % 12 * MS;
                let at = budget.earliest(now);
                assert!(at >= now && fits(&all, at), "seed {seed}: too many");
                assert!(at == now || !fits(&all, at - MS / 2), "seed {seed}: held back for nothing");
                budget.began(at);
                (now, all) = (at, [all, vec![at]].concat());
                assert!(budget.begun.len() <= max as usize);
            }
            for first in &all {
                let span = all.iter().filter(|at| *at >= first && **at - *first < per).count();
                assert!(span <= max as usize, "seed {seed}: {span} of {max} in one span");
            }
        }
    }
}
