#![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]

mod properties;

use super::*;

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);

fn of_one(limit: Limit) -> Limiter {
    Limiter::new(vec![limit], SharedLimits::new())
}

/// The same cost under every limit.
fn spend(limiter: &mut Limiter, cost: u32, now: Instant) -> Result<(), Instant> {
    limiter.try_spend(&mut |_| cost, now)
}

fn left(limiter: &Limiter, now: Instant) -> Vec<u64> {
    limiter.budget(now).map(|(_, left, _)| left).collect()
}

#[test]
fn five_in_any_second_not_five_and_five_back() {
    // The mistake of a token bucket: a burst, and then what came back within the same second.
    let start = Instant::now();
    let mut limiter = of_one(Limit::window("messages", 5, SECOND).margin(Duration::ZERO));
    for n in 0..5 {
        assert_eq!(spend(&mut limiter, 1, start + n * 10 * MS), Ok(()));
        limiter.flushed(start + n * 10 * MS);
    }
    assert_eq!(spend(&mut limiter, 1, start + 999 * MS), Err(start + SECOND));
    assert_eq!(spend(&mut limiter, 3, start + 999 * MS), Err(start + SECOND + 20 * MS));
    assert_eq!(spend(&mut limiter, 1, start + SECOND), Ok(()));
    assert_eq!(spend(&mut limiter, 1, start + SECOND), Err(start + SECOND + 10 * MS));
}

#[test]
fn credits_do_not_drift() {
    // A third of a credit in each millisecond, spent as it comes for a while: to the nanosecond.
    let start = Instant::now();
    let mut limiter = of_one(Limit::credits("c", 1, 1, Duration::from_nanos(3_000_001)));
    let mut now = start;
    for n in 0..10_000u32 {
        assert_eq!(spend(&mut limiter, 1, now), Ok(()), "{n}");
        limiter.flushed(now);
        // Asking often changes nothing.
        for at in [now, now + MS / 3, now + MS] {
            assert_eq!(spend(&mut limiter, 1, at), Err(start + (n + 1) * Duration::from_nanos(3_000_001)));
        }
        now = start + (n + 1) * Duration::from_nanos(3_000_001);
    }
    // Seven credits in a second: each is due at the first nanosecond at which all of it is there.
    let mut limiter = of_one(Limit::credits("c", 7, 7, SECOND));
    spend(&mut limiter, 7, start).unwrap();
    limiter.flushed(start);
    for n in 1..=700u64 {
        let at = start + Duration::from_nanos((n * 1_000_000_000).div_ceil(7));
        assert_eq!(spend(&mut limiter, 1, at - NS), Err(at), "{n}");
        assert_eq!(spend(&mut limiter, 1, at), Ok(()), "{n}");
        limiter.flushed(at);
    }
}

#[test]
fn a_cost_that_is_more_than_all_takes_all() {
    let now = Instant::now();
    for limit in [Limit::window("l", 5, SECOND), Limit::credits("l", 5, 5, SECOND)] {
        let limit = limit.margin(Duration::ZERO);
        let mut limiter = of_one(limit);
        assert_eq!(spend(&mut limiter, 0, now), Ok(()));
        assert_eq!(left(&limiter, now), [5]);
        assert_eq!(spend(&mut limiter, u32::MAX, now), Ok(()));
        limiter.flushed(now);
        assert_eq!(left(&limiter, now), [0]);
        assert_eq!(spend(&mut limiter, 0, now), Ok(()), "what costs nothing always goes");
        assert_eq!(spend(&mut limiter, 100, now + MS), Err(now + SECOND));
        assert_eq!(spend(&mut limiter, 100, now + SECOND), Ok(()));
    }
}

#[test]
fn several_limits_all_or_nothing() {
    let start = Instant::now();
    let limits = vec![
        Limit::window("second", 3, SECOND).margin(Duration::ZERO),
        Limit::window("minute", 5, 60 * SECOND).margin(Duration::ZERO),
        Limit::credits("credits", 20, 2, SECOND),
    ];
    let mut limiter = Limiter::new(limits, SharedLimits::new());
    let mut cost = |name: &str| if name == "credits" { 4 } else { 1 };
    for _ in 0..3 {
        assert_eq!(limiter.try_spend(&mut cost, start), Ok(()));
    }
    limiter.flushed(start);
    assert_eq!(left(&limiter, start), [0, 2, 8]);
    assert_eq!(limiter.try_spend(&mut cost, start), Err(start + SECOND));
    assert_eq!(left(&limiter, start), [0, 2, 8], "nothing was spent of any");
    for _ in 0..2 {
        assert_eq!(limiter.try_spend(&mut cost, start + SECOND), Ok(()));
    }
    limiter.flushed(start + SECOND);
    assert_eq!(limiter.try_spend(&mut cost, start + SECOND), Err(start + 60 * SECOND), "the latest decides");
    assert_eq!(limiter.try_spend(&mut |name| u32::from(name == "second"), start + SECOND), Ok(()));
    let names: Vec<_> = limiter.budget(start).map(|(name, _, of)| (name.to_owned(), of)).collect();
    assert_eq!(names, [("second".into(), 3), ("minute".into(), 5), ("credits".into(), 20)]);
}

#[test]
fn no_limits() {
    fn goes_anywhere<T: Send + Sync>(_: &T) {}
    let now = Instant::now();
    let mut limiter = Limiter::new(Vec::new(), SharedLimits::new());
    assert!(limiter.is_empty() && !of_one(Limit::window("w", 1, SECOND)).is_empty());
    assert_eq!(spend(&mut limiter, u32::MAX, now), Ok(()));
    limiter.spend_anyway(&mut |_| u32::MAX, now);
    limiter.flushed(now);
    limiter.reset(now);
    goes_anywhere(&limiter);
    assert_eq!((limiter.suggested_delay(usize::MAX, now), limiter.budget(now).count()), (Duration::ZERO, 0));
}

#[test]
fn what_is_in_flight_counts_from_when_it_is_written() {
    let start = Instant::now();
    for limit in [Limit::window("l", 2, SECOND), Limit::credits("l", 2, 2, SECOND)] {
        let mut limiter = of_one(limit.margin(Duration::ZERO));
        spend(&mut limiter, 2, start).unwrap();
        // The socket is stuck for a minute: nothing comes back.
        let late = start + 60 * SECOND;
        assert_eq!(left(&limiter, late), [0]);
        assert_eq!(spend(&mut limiter, 2, late), Err(late + SECOND), "as if spent now");
        limiter.flushed(late);
        limiter.flushed(late + SECOND / 2);
        assert_eq!(spend(&mut limiter, 2, late + MS), Err(late + SECOND), "what was written stays written");
        assert_eq!(spend(&mut limiter, 2, late + SECOND), Ok(()));
    }
}

#[test]
fn what_is_sent_regardless_counts() {
    let start = Instant::now();
    let mut window = of_one(Limit::window("w", 2, SECOND).margin(Duration::ZERO));
    for n in 0..4 {
        window.spend_anyway(&mut |_| 1, start + n * 100 * MS);
        window.flushed(start + n * 100 * MS);
    }
    // The newest two fill it.
    assert_eq!(spend(&mut window, 1, start + 300 * MS), Err(start + 1200 * MS));
    assert_eq!(spend(&mut window, 2, start + 300 * MS), Err(start + 1300 * MS));

    let mut credits = of_one(Limit::credits("c", 2, 1, SECOND));
    credits.spend_anyway(&mut |_| 1, start);
    assert_eq!(left(&credits, start), [1]);
    credits.spend_anyway(&mut |_| 2, start);
    credits.flushed(start);
    assert_eq!(spend(&mut credits, 1, start), Err(start + 2 * SECOND), "a debt of one is paid first");
    for _ in 0..1000 {
        credits.spend_anyway(&mut |_| u32::MAX, start);
    }
    credits.flushed(start);
    assert_eq!(spend(&mut credits, 2, start), Err(start + 4 * SECOND), "a debt ends at the capacity");
}

#[test]
fn sessions_of_one_account_share() {
    let start = Instant::now();
    let shared = SharedLimits::new();
    let limits = |account: &str| {
        let window = Limit::window("ip", 3, SECOND).margin(Duration::ZERO).shared(account);
        vec![window, Limit::window("own", 100, SECOND)]
    };
    let mut a = Limiter::new(limits("x"), shared.clone());
    let mut b = Limiter::new(limits("x"), shared.clone());
    let mut other = Limiter::new(limits("y"), shared.clone());
    let mut stranger = Limiter::new(limits("x"), SharedLimits::new());
    spend(&mut a, 2, start).unwrap();
    assert_eq!(left(&b, start), [1, 100], "only what is shared");
    assert_eq!((left(&other, start), left(&stranger, start)), (vec![3, 100], vec![3, 100]));
    spend(&mut b, 1, start + 100 * MS).unwrap();
    assert!(spend(&mut other, 3, start).is_ok() && spend(&mut stranger, 3, start).is_ok());
    // What `b` wrote, it wrote; what `a` did not write counts on.
    b.flushed(start + 100 * MS);
    assert_eq!(spend(&mut b, 1, start + 500 * MS), Err(start + 1100 * MS));
    assert_eq!(spend(&mut b, 3, start + 500 * MS), Err(start + 1500 * MS));
    a.flushed(start + 600 * MS);
    assert_eq!(spend(&mut b, 2, start + 600 * MS), Err(start + 1600 * MS));
    assert_eq!(spend(&mut a, 1, start + 1100 * MS), Ok(()));
    assert_eq!(format!("{shared:?}"), "SharedLimits { budgets: 2, .. }");
    assert!(!format!("{:?}", Limiter::new(limits("hush"), shared)).contains("hush"));
}

#[test]
fn a_session_that_goes_leaves_nothing_in_flight() {
    let start = Instant::now();
    let shared = SharedLimits::new();
    let limit = Limit::credits("c", 2, 2, SECOND).shared("x");
    let mut gone = Limiter::new(vec![limit.clone()], shared.clone());
    let mut stays = Limiter::new(vec![limit], shared);
    spend(&mut gone, 2, start).unwrap();
    drop(gone);
    assert_eq!(spend(&mut stays, 2, start + SECOND - NS), Err(start + SECOND));
    assert_eq!(spend(&mut stays, 2, start + SECOND), Ok(()));
}

#[test]
fn a_shared_budget_is_as_it_was_first_defined() {
    let start = Instant::now();
    let shared = SharedLimits::new();
    let limit = |max| Limit::window("ip", max, SECOND).margin(Duration::ZERO).shared("x");
    let mut a = Limiter::new(vec![limit(2)], shared.clone());
    let mut b = Limiter::new(vec![limit(9)], shared);
    spend(&mut a, 1, start).unwrap();
    a.flushed(start);
    assert_eq!(b.budget(start).next(), Some(("ip", 1, 2)));
    assert_eq!(spend(&mut b, 9, start), Err(start + SECOND), "clamped to the two that there are");
    assert_eq!(spend(&mut b, 9, start + SECOND), Ok(()));
}

#[test]
fn shared_budgets_that_are_full_are_forgotten() {
    let start = Instant::now();
    let shared = SharedLimits::new();
    let (mut now, mut busy) = (start, Vec::new());
    for n in 0..10_000u32 {
        now += 100 * MS;
        let limit =
            if n % 2 == 0 { Limit::window("l", 1, SECOND) } else { Limit::credits("l", 1, 1, SECOND) };
        let mut limiter = Limiter::new(vec![limit.shared(n.to_string())], shared.clone());
        spend(&mut limiter, 1, now).unwrap();
        if n < 100 {
            // In flight for ever.
            busy.push(limiter);
        }
    }
    let kept = shared.lock().len();
    assert!((100..=300).contains(&kept), "{kept}");
    for limiter in &busy {
        assert_eq!(left(limiter, now), [0], "what is in use is kept");
    }
}

#[test]
fn a_new_connection_starts_afresh_but_accounts_remember() {
    let start = Instant::now();
    let shared = SharedLimits::new();
    let limits = vec![
        Limit::window("own", 2, SECOND),
        Limit::window("ip", 3, SECOND).margin(Duration::ZERO).shared("x"),
        Limit::credits("pool", 4, 1, SECOND),
    ];
    let mut limiter = Limiter::new(limits, shared);
    spend(&mut limiter, 2, start).unwrap();
    let later = start + SECOND / 2;
    limiter.reset(later);
    assert_eq!(left(&limiter, later), [2, 1, 4]);
    assert_eq!(left(&limiter, later + SECOND - NS), [2, 1, 4], "written at the reset at the latest");
    assert_eq!(left(&limiter, later + SECOND), [2, 3, 4]);
    limiter.flushed(later + SECOND);
    assert_eq!(left(&limiter, later + SECOND), [2, 3, 4], "nothing was in flight any more");
    assert_eq!(spend(&mut limiter, 2, later + SECOND), Ok(()));
}

#[test]
fn a_margin_delays_what_comes_back() {
    let start = Instant::now();
    let mut limiter = of_one(Limit::credits("c", 2, 1, SECOND).margin(SECOND / 2));
    assert_eq!(limiter.suggested_delay(3, start), SECOND * 3 / 2);
    spend(&mut limiter, 2, start).unwrap();
    limiter.flushed(start);
    assert_eq!(spend(&mut limiter, 1, start), Err(start + SECOND * 3 / 2));
    assert_eq!(limiter.suggested_delay(2, start), SECOND * 5 / 2);
    assert_eq!(limiter.suggested_delay(2, start + SECOND), SECOND * 3 / 2);
}

#[test]
fn time_that_goes_back_is_harmless() {
    let start = Instant::now();
    for limit in [Limit::window("l", 2, SECOND), Limit::credits("l", 2, 2, SECOND)] {
        let mut limiter = of_one(limit.margin(Duration::ZERO));
        let late = start + 10 * SECOND;
        spend(&mut limiter, 1, late).unwrap();
        limiter.flushed(start);
        assert_eq!(left(&limiter, start), [1]);
        assert_eq!(spend(&mut limiter, 1, start), Ok(()), "what is left can go");
        limiter.flushed(start);
        let at = spend(&mut limiter, 2, start).unwrap_err();
        assert_eq!(at, late + SECOND, "as if it were as late as before");
        assert_eq!(limiter.suggested_delay(2, start), 11 * SECOND);
        limiter.reset(start);
        assert_eq!(spend(&mut limiter, 2, start), Ok(()));
    }
}
