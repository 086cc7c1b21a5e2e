//! A sliding window.

use super::meter::{Meter, after};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// More in flight than this is not counted, so that sums do not overflow: 2^30 messages of the highest cost.
const MOST_IN_FLIGHT: u64 = 1 << 62;

/// What was spent in the last `span`, each cost with the moment at which it was written.
///
/// A cost of moment `t` counts until `t + span`, and not at that moment any more. What is in flight counts as spent now.
#[derive(Debug)]
pub(super) struct Window {
    max: u64,
    span: Duration,
    /// Oldest first, no two of one moment, each 1 to `max`: a cost of more than `max` has no other effect than one of `max`. At most `max`
    /// of them, see `trim`.
    written: VecDeque<(Instant, u64)>,
    /// Their sum.
    total: u64,
    in_flight: u64,
    /// Time does not go back: costs that left would have to come again.
    seen: Instant,
}

impl Window {
    pub(super) fn new(max: u32, span: Duration, now: Instant) -> Self {
        Self { max: u64::from(max), span, written: VecDeque::new(), total: 0, in_flight: 0, seen: now }
    }

    /// What counts at a moment that is not before `seen`.
    fn spent(&self, now: Instant) -> u64 {
        let gone = self.written.iter().take_while(|(at, _)| after(*at, self.span) <= now);
        self.total - gone.map(|(_, cost)| cost).sum::<u64>() + self.in_flight
    }

    /// When the unit with that index, in the order in which they leave, leaves.
    fn leaves(&self, index: u64, now: Instant) -> Instant {
        let mut passed = 0;
        let mut live = self.written.iter().map(|(at, cost)| (after(*at, self.span), cost));
        let found = live.find(|(leaves, cost)| {
            passed += if *leaves > now { **cost } else { 0 };
            passed > index
        });
        found.map_or_else(|| after(now, self.span), |(leaves, _)| leaves)
    }

    /// Forgets what makes no difference: as long as the rest of it alone fills the window, the oldest cost decides nothing. Each cost
    /// is at least 1, so that no more than `max` of them stay.
    fn trim(&mut self) {
        while let Some((_, cost)) = self.written.front()
            && self.total - cost + self.in_flight >= self.max
        {
            self.total -= cost;
            self.written.pop_front();
        }
    }

    fn advance(&mut self, now: Instant) {
        self.seen = self.seen.max(now);
        while let Some((at, cost)) = self.written.front()
            && after(*at, self.span) <= self.seen
        {
            self.total -= cost;
            self.written.pop_front();
        }
    }
}

impl Meter for Window {
    fn blocked_until(&mut self, cost: u64, now: Instant) -> Option<Instant> {
        self.advance(now);
        let wanted = self.spent(self.seen) + cost.min(self.max);
        let excess = wanted.checked_sub(self.max).filter(|excess| *excess > 0)?;
        Some(self.leaves(excess - 1, self.seen)).filter(|at| *at > self.seen)
    }

    fn take(&mut self, cost: u64, now: Instant) -> u64 {
        self.advance(now);
        let cost = cost.min(self.max).min(MOST_IN_FLIGHT - self.in_flight);
        self.in_flight += cost;
        self.trim();
        cost
    }

    fn land(&mut self, cost: u64, now: Instant) {
        self.advance(now);
        if cost == 0 {
            return;
        }
        self.in_flight -= cost;
        if self.written.back().is_none_or(|(at, _)| *at != self.seen) {
            self.written.push_back((self.seen, 0));
        }
        if let Some((_, same)) = self.written.back_mut() {
            let cost = cost.min(self.max - *same);
            *same += cost;
            self.total += cost;
        }
        self.trim();
    }

    fn left(&self, now: Instant) -> u64 {
        self.max.saturating_sub(self.spent(self.seen.max(now)))
    }

    fn of(&self) -> u64 {
        self.max
    }

    /// Exact: the last of `waiting` messages goes when the unit that many places before it has left, and those of them that are sent
    /// meanwhile leave in their turn.
    fn delay(&self, waiting: u64, now: Instant) -> Duration {
        let moment = self.seen.max(now);
        let spent = self.spent(moment);
        let (free, over) = (self.max.saturating_sub(spent), spent.saturating_sub(self.max));
        if waiting <= free {
            return Duration::ZERO;
        }
        let index = over.saturating_add(waiting - free - 1);
        // Those that are free are spent now, so that the units are `spent.max(self.max)`.
        let rounds = index.checked_sub(spent.max(self.max)).map_or(0, |beyond| beyond / self.max + 1);
        let leaves = self.leaves(index - rounds * self.max, moment);
        let rounds = self.span.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        leaves.saturating_duration_since(now).saturating_add(rounds)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.spent(self.seen.max(now)) == 0
    }

    fn seen(&self) -> Instant {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]

    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_each_entry_decides_something() {
        let start = Instant::now();
        let (ms, span) = (Duration::from_millis(1), Duration::from_secs(3600));
        let mut window = Window::new(10, span, start);
        for n in 0..10_000u32 {
            let now = start + n * ms;
            // All 1 at first: those are the most.
            let cost = window.take(if n < 5000 { 1 } else { u64::from(1 + n % 3) }, now);
            window.land(cost, now);
            assert!(window.written.len() <= 10, "{window:?}");
            assert_eq!(window.total, window.written.iter().map(|(_, cost)| cost).sum::<u64>());
        }
        let newest = start + 9999 * ms;
        assert_eq!(window.blocked_until(10, newest), Some(newest + span));
        assert_eq!(window.blocked_until(1, newest + span), None);
        assert!(window.written.is_empty() && window.is_full(newest));
    }

    #[test]
    fn all_of_one_moment_is_one_entry() {
        let now = Instant::now();
        let mut window = Window::new(u32::MAX, Duration::from_secs(1), now);
        for _ in 0..1000 {
            let cost = window.take(1, now);
            window.land(cost, now);
        }
        assert_eq!(window.written, [(now, 1000)]);
        for _ in 0..3 {
            let cost = window.take(u64::MAX, now);
            window.land(cost, now);
        }
        assert_eq!(window.written, [(now, u64::from(u32::MAX))], "more than all is all");
    }
}
