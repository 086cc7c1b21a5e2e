//! A pool of credits.

use super::meter::{Meter, after};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A pool, by what is missing from it.
///
/// It counts in units of which one credit is as many as `per` has nanoseconds, so that each nanosecond brings exactly `refill` of them:
/// nothing is rounded, and nothing drifts. What is spent is missing at once, but begins to come back only `margin` after it was written;
/// until then it is held.
#[derive(Debug, Clone)]
pub(super) struct Credits {
    capacity: u128,
    credit: u128,
    refill: u128,
    margin: Duration,
    /// What is coming back, as of `seen`.
    missing: u128,
    /// What was written and when it begins to come back, in credits, oldest first, no two of one moment.
    written: VecDeque<(Instant, u64)>,
    /// The sum of that and what is in flight.
    held: u64,
    in_flight: u64,
    /// Time does not go back.
    seen: Instant,
}

impl Credits {
    pub(super) fn new(capacity: u32, refill: u32, per: Duration, margin: Duration, now: Instant) -> Self {
        let credit = per.as_nanos();
        Self {
            capacity: u128::from(capacity) * credit,
            credit,
            refill: u128::from(refill),
            margin,
            missing: 0,
            written: VecDeque::new(),
            held: 0,
            in_flight: 0,
            seen: now,
        }
    }

    fn units(&self, credits: u64) -> u128 {
        u128::from(credits) * self.credit
    }

    /// What is missing of `missing` after a time.
    fn refilled(&self, missing: u128, time: Duration) -> u128 {
        missing.saturating_sub(time.as_nanos().saturating_mul(self.refill))
    }

    /// How long so much takes to come back, rounded up.
    fn time(&self, units: u128) -> Duration {
        nanos(units.div_ceil(self.refill))
    }

    /// All that is not there.
    fn gone(&self) -> u128 {
        self.missing + self.units(self.held)
    }

    fn at(&self, now: Instant) -> Self {
        let mut then = self.clone();
        then.advance(now);
        then
    }

    fn advance(&mut self, now: Instant) {
        let now = self.seen.max(now);
        while let Some(&(due, cost)) = self.written.front()
            && due <= now
        {
            self.missing =
                self.refilled(self.missing, due.saturating_duration_since(self.seen)) + self.units(cost);
            self.seen = self.seen.max(due);
            self.held -= cost;
            self.written.pop_front();
        }
        self.missing = self.refilled(self.missing, now.saturating_duration_since(self.seen));
        self.seen = now;
    }
}

impl Meter for Credits {
    fn blocked_until(&mut self, cost: u64, now: Instant) -> Option<Instant> {
        self.advance(now);
        let room = self.capacity - self.units(cost).min(self.capacity);
        if self.gone() <= room {
            return None;
        }
        let mut then = self.clone();
        then.land(then.in_flight, self.seen);
        // As long as what is held is too much by itself, it does not matter what comes back.
        while then.units(then.held) > room
            && let Some(&(due, _)) = then.written.front()
        {
            then.advance(due);
        }
        let ready = after(then.seen, then.time(then.gone().saturating_sub(room)));
        Some(ready).filter(|at| *at > self.seen)
    }

    /// Counts debts up to once more the capacity: whoever sends regardless must pay for it, but not for ever. So no more than twice the
    /// capacity is ever written and held.
    fn take(&mut self, cost: u64, now: Instant) -> u64 {
        self.advance(now);
        let most = (2 * self.capacity).saturating_sub(self.gone()) / self.credit;
        let cost = cost.min(self.of()).min(u64::try_from(most).unwrap_or(u64::MAX));
        self.in_flight += cost;
        self.held += cost;
        cost
    }

    fn land(&mut self, cost: u64, now: Instant) {
        self.advance(now);
        if cost == 0 {
            return;
        }
        self.in_flight -= cost;
        let due = after(self.seen, self.margin);
        match self.written.back_mut() {
            Some((at, same)) if *at == due => *same += cost,
            _ => self.written.push_back((due, cost)),
        }
        // Without a margin it begins to come back at once.
        self.advance(now);
    }

    fn left(&self, now: Instant) -> u64 {
        let left = self.capacity.saturating_sub(self.at(now).gone()) / self.credit;
        u64::try_from(left).unwrap_or(u64::MAX)
    }

    fn of(&self) -> u64 {
        u64::try_from(self.capacity / self.credit).unwrap_or(u64::MAX)
    }

    /// Without a margin exact but for the nanosecond to which each message is rounded up. With one, as if the pool, once it begins to come
    /// back, did so without a pause.
    fn delay(&self, waiting: u64, now: Instant) -> Duration {
        let then = self.at(now);
        let wanted = then.gone().saturating_add(self.units(waiting.min(u64::from(u32::MAX))));
        let short = wanted.saturating_sub(self.capacity);
        if short == 0 || waiting == 0 {
            return Duration::ZERO;
        }
        let begins = match then.written.front() {
            _ if then.missing > 0 => then.seen,
            Some((due, _)) => *due,
            None => after(then.seen, self.margin),
        };
        // What comes back in a margin, if that is more than the pool holds, cannot all be used.
        let slowest = nanos(short.saturating_mul(self.margin.as_nanos()) / self.capacity);
        begins.saturating_duration_since(now).saturating_add(self.time(short).max(slowest))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.at(now).gone() == 0
    }

    fn seen(&self) -> Instant {
        self.seen
    }
}

fn nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    u64::try_from(nanos / SECOND)
        .map_or(Duration::MAX, |seconds| Duration::new(seconds, (nanos % SECOND) as u32))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]

    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let start = Instant::now();
        let ms = Duration::from_millis(1);
        let mut pool = Credits::new(5, 1000, 1000 * ms, 3600 * 1000 * ms, start);
        for n in 0..10_000 {
            let cost = pool.take(1 + n % 3, start + n as u32 * ms);
            pool.land(cost, start + n as u32 * ms);
            assert!(pool.written.len() <= 11 && pool.gone() <= 2 * pool.capacity, "{pool:?}");
        }
        assert_eq!((pool.held, pool.left(start), pool.of()), (10, 0, 5));
        pool.advance(start + 7200 * 1000 * ms);
        assert!(pool.is_full(start) && pool.written.is_empty() && pool.held == 0);
    }
}
