//! Delays between attempts: exponential with full jitter.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::time::Duration;

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
        let fraction = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        bound.mul_f64(fraction)
    }

    /// The connection proved stable.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
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
}
