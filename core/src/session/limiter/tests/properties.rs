//! Random schedules, against a reference that looks at all that was ever sent.

use super::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// What a limit allows, looked up in the whole history.
struct Reference {
    rate: Rate,
    margin: Duration,
    /// When it was written, and what it cost.
    written: Vec<(Instant, u64)>,
    in_flight: u64,
}

impl Reference {
    fn of(limit: &Limit) -> Self {
        Self { rate: limit.rate(), margin: limit.margin_time(), written: Vec::new(), in_flight: 0 }
    }

    fn allows(&self, cost: u64, now: Instant) -> bool {
        let wanted = self.in_flight + cost.min(self.most());
        match self.rate {
            Rate::Window { max, per } => {
                let counts = |(at, _): &&(Instant, u64)| now - *at < per + self.margin;
                let spent: u64 = self.written.iter().filter(counts).map(|(_, cost)| cost).sum();
                spent + wanted <= u64::from(max)
            }
            // Since any moment: no more than the pool and what has come back meanwhile, less the margin. Times `per`, in nanoseconds.
            Rate::Credits { capacity, refill, per } => {
                let per = per.as_nanos();
                let mut sum = u128::from(wanted);
                let mut ok = sum <= u128::from(capacity);
                for (at, cost) in self.written.iter().rev() {
                    sum += u128::from(*cost);
                    let back = (now - *at).saturating_sub(self.margin).as_nanos() * u128::from(refill);
                    ok &= sum * per <= u128::from(capacity) * per + back;
                }
                ok
            }
        }
    }

    fn most(&self) -> u64 {
        match self.rate {
            Rate::Window { max, .. } => u64::from(max),
            Rate::Credits { capacity, .. } => u64::from(capacity),
        }
    }

    fn spend(&mut self, cost: u64) {
        self.in_flight += cost.min(self.most());
    }

    fn flushed(&mut self, now: Instant) {
        let cost = mem::take(&mut self.in_flight);
        self.written.extend((cost > 0).then_some((now, cost)));
    }
}

fn random_limit(rng: &mut ChaCha8Rng, windows: bool) -> Limit {
    let per = [MS, 7 * MS, SECOND, Duration::new(1, 1)][below(rng, 4) as usize];
    let most = 1 + below(rng, 12) as u32;
    let limit = match windows {
        true => Limit::window("w", most, per),
        false => Limit::credits("c", most, 1 + below(rng, 9) as u32, per),
    };
    match below(rng, 3) {
        0 => limit,
        1 => limit.margin(Duration::ZERO),
        _ => limit.margin(per.mul_f64(below(rng, 200) as f64 / 100.0)),
    }
}

/// A step that is often nothing, and seldom longer than the limit's time.
fn random_step(rng: &mut ChaCha8Rng, rate: Rate) -> Duration {
    let (Rate::Window { per, max: most } | Rate::Credits { per, refill: most, .. }) = rate;
    match below(rng, 8) {
        0 | 1 => Duration::ZERO,
        2 => NS,
        3 => per,
        _ => (per / most).mul_f64(below(rng, 300) as f64 / 100.0),
    }
}

/// Runs random schedules against the reference: a limiter is not more lenient and not stricter, and what it says of the first moment
/// that works is true to the nanosecond. Returns what was written, when.
fn compare(seed: u64, windows: bool, lag: bool) -> (Limit, Vec<(Instant, u64)>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let limit = random_limit(&mut rng, windows);
    let mut reference = Reference::of(&limit);
    let mut limiter = of_one(limit.clone());
    let mut now = Instant::now();
    let mut refused = 0;
    for step in 0..150 {
        now += random_step(&mut rng, limit.rate());
        let most = if below(&mut rng, 20) == 0 { 30 } else { 4 };
        let cost = below(&mut rng, most) as u32;
        let told = format!("seed {seed}, step {step}, {limit:?}, cost {cost}");
        let (_, left, of) = limiter.budget(now).next().unwrap();
        assert_eq!(of, reference.most());
        assert!(left == 0 || reference.allows(left, now), "{told}: not so much is left");
        assert!(left == of || !reference.allows(left + 1, now), "{told}: more is left");
        match spend(&mut limiter, cost, now) {
            Ok(()) => {
                assert!(cost == 0 || reference.allows(u64::from(cost), now), "{told}: too lenient");
                reference.spend(u64::from(cost));
            }
            Err(at) => {
                refused += 1;
                assert!(at > now, "{told}: would spin");
                assert!(!reference.allows(u64::from(cost), now), "{told}: too strict");
                // It may only say so of what is in flight if that is written now.
                limiter.flushed(now);
                reference.flushed(now);
                assert!(!reference.allows(u64::from(cost), at - NS), "{told}: could have gone before");
                assert!(reference.allows(u64::from(cost), at), "{told}: cannot go then");
                if below(&mut rng, 2) == 0 {
                    assert_eq!(spend(&mut limiter, cost, at - NS), Err(at), "{told}: it changed its mind");
                    now = at;
                    assert_eq!(spend(&mut limiter, cost, now), Ok(()), "{told}");
                    reference.spend(u64::from(cost));
                }
            }
        }
        if !lag || below(&mut rng, 4) == 0 {
            limiter.flushed(now);
            reference.flushed(now);
        }
    }
    limiter.flushed(now);
    reference.flushed(now);
    assert!(refused > 0, "seed {seed}: {limit:?} was never reached");
    (limit, reference.written)
}

/// As the server sees it: each message is late by up to the margin, and no message overtakes another.
fn arrivals(rng: &mut ChaCha8Rng, limit: &Limit, written: &[(Instant, u64)]) -> Vec<(Instant, u64)> {
    let margin = limit.margin_time();
    let mut last = None;
    let late = |&(at, cost): &(Instant, u64)| {
        let late = [Duration::ZERO, margin, margin.mul_f64(0.5)][below(rng, 3) as usize];
        let at = last.map_or(at + late, |last: Instant| last.max(at + late));
        last = Some(at);
        (at, cost)
    };
    written.iter().map(late).collect()
}

#[test]
fn a_window_is_exact_and_never_holds_more_than_its_maximum() {
    for seed in 0..400 {
        let (limit, written) = compare(seed, true, seed % 2 == 1);
        let Rate::Window { max, per } = limit.rate() else { unreachable!() };
        let arrived = arrivals(&mut ChaCha8Rng::seed_from_u64(seed), &limit, &written);
        for (first, (from, _)) in arrived.iter().enumerate() {
            let span = arrived[first..].iter().take_while(|(at, _)| *at - *from < per);
            let sum: u64 = span.map(|(_, cost)| cost).sum();
            assert!(sum <= u64::from(max), "seed {seed}: {limit:?}: {sum} in one span");
        }
    }
}

#[test]
fn credits_are_exact_and_a_server_that_counts_them_never_runs_dry() {
    for seed in 0..400 {
        let (limit, written) = compare(seed, false, seed % 2 == 1);
        let Rate::Credits { capacity, refill, per } = limit.rate() else { unreachable!() };
        // The server's own pool, in credits times `per`.
        let full = u128::from(capacity) * per.as_nanos();
        let (mut pool, mut last) = (full, None);
        for (at, cost) in arrivals(&mut ChaCha8Rng::seed_from_u64(seed), &limit, &written) {
            let back = (at - last.unwrap_or(at)).as_nanos() * u128::from(refill);
            pool = full.min(pool + back);
            let cost = u128::from(cost) * per.as_nanos();
            assert!(cost <= pool, "seed {seed}: {limit:?} ran dry");
            (pool, last) = (pool - cost, Some(at));
        }
    }
}

#[test]
fn the_suggested_delay_is_when_the_last_could_go() {
    for seed in 0..400 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let limits: Vec<_> = (0..=seed % 2)
            .map(|n| match random_limit(&mut rng, (seed + n) % 3 != 0) {
                limit if matches!(limit.rate(), Rate::Credits { .. }) => limit.margin(Duration::ZERO),
                limit => limit,
            })
            .collect();
        let mut limiter = Limiter::new(limits.clone(), SharedLimits::new());
        let mut now = Instant::now();
        for _ in 0..below(&mut rng, 20) {
            now += random_step(&mut rng, limits[0].rate());
            let cost = below(&mut rng, 4) as u32;
            if below(&mut rng, 8) == 0 {
                limiter.spend_anyway(&mut |_| cost, now);
            } else {
                let _ = spend(&mut limiter, cost, now);
            }
            if below(&mut rng, 4) != 0 {
                limiter.flushed(now);
            }
        }
        let asked = now;
        let delays: Vec<_> = (0..60).map(|waiting| limiter.suggested_delay(waiting, asked)).collect();
        limiter.flushed(now);
        for (sent, delay) in delays.iter().enumerate() {
            let gone = now - asked;
            // Each message rounds up what comes back. Limits that hold one another up take longer than each alone.
            let ok = match limits[..] {
                [ref limit] if matches!(limit.rate(), Rate::Window { .. }) => *delay == gone,
                [_] => *delay <= gone && gone - *delay <= NS * sent as u32,
                _ => *delay <= gone,
            };
            assert!(ok, "seed {seed}, {sent}: {delay:?}, {gone:?}, {limits:?}");
            while let Err(at) = spend(&mut limiter, 1, now) {
                now = at;
            }
            limiter.flushed(now);
        }
    }
}

#[test]
fn no_numbers_panic_or_spin() {
    let amounts = [0, 1, 3, u32::MAX - 1, u32::MAX];
    let times = [Duration::ZERO, NS, MS, SECOND, 24 * 3600 * SECOND, Duration::MAX];
    for seed in 0..2000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let shared = SharedLimits::new();
        let pick = |rng: &mut ChaCha8Rng| amounts[below(rng, 5) as usize];
        let time = |rng: &mut ChaCha8Rng| times[below(rng, 6) as usize];
        let limit = |rng: &mut ChaCha8Rng| {
            // Not validated.
            let limit = match below(rng, 2) {
                0 => Limit::window("", pick(rng), time(rng)),
                _ => Limit::credits("", pick(rng), pick(rng), time(rng)),
            };
            let limit = limit.margin(time(rng));
            if below(rng, 2) == 0 { limit.shared("") } else { limit }
        };
        let limits: Vec<_> = (0..3).map(|_| limit(&mut rng)).collect();
        let mut limiters = [0; 2].map(|_| Limiter::new(limits.clone(), shared.clone()));
        let start = Instant::now();
        let mut now = start;
        for _ in 0..60 {
            now = match below(&mut rng, 8) {
                0 => start,
                1 => now.checked_add(Duration::from_secs(1 << below(&mut rng, 63))).unwrap_or(now),
                _ => now.checked_add(time(&mut rng)).unwrap_or(now),
            };
            let limiter = &mut limiters[below(&mut rng, 2) as usize];
            let cost = pick(&mut rng);
            match below(&mut rng, 6) {
                0 => limiter.flushed(now),
                1 => limiter.reset(now),
                2 => limiter.spend_anyway(&mut |_| cost, now),
                3 => {
                    let _ = limiter.suggested_delay(pick(&mut rng) as usize, now);
                    let _ = limiter.suggested_delay(usize::MAX, now);
                    assert!(limiter.budget(now).all(|(_, left, of)| left <= of));
                }
                _ => assert!(spend(limiter, cost, now).map_or_else(|at| at > now, |()| true)),
            }
        }
    }
}
