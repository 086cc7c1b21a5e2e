//! No server is hammered, whatever goes wrong; and no session gets stuck.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{
    Config, Disconnect, Endpoint, Error, Output, OwnedEvent, Policy, ProviderError, Recovery, ResolveError,
    State, SubscribeOptions, Timeout,
};
use std::io;
use std::time::{Duration, Instant};

/// A generator of numbers that are random enough (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Notes when attempts began: each opens one connection, as the endpoints are addresses.
fn note(h: &mut Harness, begun: &mut Vec<Instant>) -> Stop {
    let stop = h.run();
    assert!(h.conns.len() <= begun.len() + 1, "one at a time");
    if h.conns.len() > begun.len() {
        begun.push(h.now);
    }
    stop
}

/// The first moment at which the budget allows another attempt.
fn free(begun: &[Instant], max: usize, per: Duration, now: Instant) -> Instant {
    begun.len().checked_sub(max).map_or(now, |at| (begun[at] + per).max(now))
}

#[test]
fn the_flap_budget_is_exact_over_long_runs() {
    let mut full = 0;
    for seed in 0..60_u8 {
        let mut rng = Rng(seed.into());
        let (max, per) = (1 + rng.below(6) as usize, secs(1 + rng.below(60)));
        let config = config().backoff(millis(1), millis(2)).stable_after(Duration::ZERO);
        let mut h = Harness::seeded(config.flap_budget((max as u32, per)), [seed; 32]);
        let mut begun = vec![];
        note(&mut h, &mut begun);
        for _ in 0..400 {
            let conn = h.conns.len() - 1;
            let state = h.s.state();
            match rng.below(6) {
                // It is lost, or the attempt fails; online, it comes up first.
                0 | 1 if !h.conns[conn].dropped && state != State::Backoff => {
                    if rng.below(2) == 0 && state == State::Connecting {
                        h.open(conn);
                    }
                    h.told();
                    h.s.handle_disconnected(h.conns[conn].id, Disconnect::Eof, h.now);
                    note(&mut h, &mut begun);
                    let delay = retry_in(&h).unwrap();
                    let allowed = free(&begun, max, per, h.now);
                    let at = h.now + delay;
                    assert!(at >= allowed, "seed {seed}: told a moment that is too early");
                    assert!(at <= h.now + millis(2) || at == allowed, "seed {seed}: held for nothing");
                }
                // Another on demand: at once, or as soon as that is allowed.
                2 | 3 => {
                    let under_way = state == State::Connecting;
                    let allowed = free(&begun, max, per, h.now);
                    let count = begun.len();
                    h.told();
                    h.s.reconnect(h.now);
                    note(&mut h, &mut begun);
                    if under_way {
                        assert_eq!(begun.len(), count);
                    } else if allowed > h.now {
                        assert_eq!((begun.len(), h.s.status(h.now).retry_at), (count, Some(allowed)));
                        full += 1;
                    } else {
                        assert_eq!(begun.len(), count + 1, "seed {seed}: at once");
                    }
                }
                _ => {
                    // Time passes, mostly to the next deadline.
                    let most = h.now + millis(rng.below(20_000));
                    match note(&mut h, &mut begun) {
                        Stop::Wait(Some(due)) => h.now = due.min(most),
                        Stop::Wait(None) => h.now = most,
                        stop => panic!("{stop:?}"),
                    }
                    note(&mut h, &mut begun);
                }
            }
        }
        assert!(begun.len() > max);
        for (at, first) in begun.iter().enumerate() {
            let span = begun[at..].iter().filter(|begun| **begun - *first < per).count();
            assert!(span <= max, "seed {seed}: {span} attempts in {per:?}, of {max}");
        }
    }
    assert!(full > 100, "the budget was the bound only {full} times");
}

/// When attempts began in `span`, at a server that lets `act` happen to each connection.
fn attempts(config: Config, seed: u8, span: Duration, act: impl Fn(&mut Harness, usize)) -> Vec<Instant> {
    let mut h = Harness::seeded(config, [seed; 32]);
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    let end = h.now + span;
    h.run();
    let mut begun = vec![];
    while h.now < end {
        begun.push(h.now);
        act(&mut h, begun.len() - 1);
        h.told();
        h.next_conn();
    }
    begun
}

/// Online, and dropped at once.
fn accept_and_drop(h: &mut Harness, conn: usize) {
    h.open(conn);
    grant(h, conn);
    assert_eq!(h.s.state(), State::Online);
    h.eof(conn);
}

fn lines() -> Config {
    config()
        .protocol(Lines { auth: true, ..Lines::default() })
        .backoff(secs(1), secs(30))
        .stable_after(secs(10))
}

#[test]
fn a_server_that_accepts_and_drops_is_never_hammered() {
    /// What a server does to a connection.
    type Act = fn(&mut Harness, usize);
    let servers: [(&str, Act); 5] = [
        ("drops once online", accept_and_drop),
        ("drops while restoring", |h, conn| {
            h.open(conn);
            let auth = h.texts(conn)[0].clone();
            h.feed(conn, &text(&auth.replace("auth", "ok")));
            assert_eq!(h.s.state(), State::Restoring);
            h.eof(conn);
        }),
        ("drops while authenticating", |h, conn| {
            h.open(conn);
            assert_eq!(h.s.state(), State::Authenticating);
            h.feed(conn, &close(1000, ""));
        }),
        ("drops after the TCP connect", |h, conn| {
            h.connect(conn);
            h.eof(conn);
        }),
        ("refuses TCP", |h, conn| _ = h.eof(conn)),
    ];
    for (name, act) in servers {
        for seed in 0..4 {
            let begun = attempts(lines().flap_budget(None), seed, secs(4 * 3600), act);
            // The bound of the delays is 30 s soon, and half of it the mean: 960 in four hours.
            assert!((800..1150).contains(&begun.len()), "{name}: {} attempts in four hours", begun.len());
            let delays: Vec<Duration> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
            for (n, delay) in delays.iter().enumerate() {
                let bound = secs(1 << n.min(5)).min(secs(30));
                assert!(*delay <= bound, "{name}: delay {n} is {delay:?}");
            }
        }
    }
    // Delays of next to nothing are held by the default's flap budget.
    let quick = lines().backoff(millis(1), millis(1)).flap_budget((60, secs(600)));
    let begun = attempts(quick, 1, secs(24 * 3600), accept_and_drop);
    assert!((8640 - 60..=8640 + 60).contains(&begun.len()), "{} attempts in a day", begun.len());
    assert!(begun.windows(61).all(|span| span[60] - span[0] >= secs(600)));
}

#[test]
fn only_a_connection_that_was_restored_and_stable_resets_the_delays() {
    /// The longest delay after a loss at the end of `act`, over seeds, when many attempts had failed before.
    fn longest(act: impl Fn(&mut Harness, usize)) -> Duration {
        (0..40)
            .map(|seed| {
                let mut h = Harness::seeded(lines().flap_budget(None).request_timeout(secs(300)), [seed; 32]);
                h.s.subscribe("a", SubscribeOptions::default(), h.now);
                h.run();
                for _ in 0..8 {
                    h.eof(h.conns.len() - 1);
                    h.next_conn();
                }
                let conn = h.conns.len() - 1;
                h.open(conn);
                act(&mut h, conn);
                h.eof(conn);
                retry_in(&h).unwrap()
            })
            .max()
            .unwrap()
    }
    let waits = |h: &mut Harness, time| _ = h.advance(time);
    let kept = [
        longest(|h, _| waits(h, secs(100))),
        longest(|h, conn| {
            h.feed(conn, &text("ok 1"));
            waits(h, secs(100));
            assert_eq!(h.s.state(), State::Restoring);
        }),
        // Restored late: the time counts from then.
        longest(|h, conn| {
            waits(h, secs(100));
            grant(h, conn);
            waits(h, secs(10) - millis(1));
            assert_eq!(h.s.state(), State::Online);
        }),
    ];
    assert!(kept.iter().all(|delay| *delay > secs(25)), "{kept:?}");
    let reset = longest(|h, conn| {
        grant(h, conn);
        waits(h, secs(10));
    });
    assert!(reset <= secs(1) && reset > millis(800), "{reset:?}");
}

#[test]
fn delays_are_spread_over_all_of_their_range() {
    let delays: Vec<Duration> = (0..=255)
        .map(|seed| {
            let mut h = Harness::seeded(config().backoff(secs(1), secs(8)), [seed; 32]);
            h.run();
            for _ in 0..4 {
                h.eof(h.conns.len() - 1);
                h.next_conn();
            }
            h.eof(h.conns.len() - 1);
            retry_in(&h).unwrap()
        })
        .collect();
    for eighth in 0..8 {
        let count = delays.iter().filter(|delay| delay.as_secs().min(7) == eighth).count();
        assert!((12..=56).contains(&count), "{count} of 256 within second {eighth}");
    }
    assert!(delays.iter().all(|delay| *delay <= secs(8)));
}

const KINDS: [io::ErrorKind; 6] = [
    io::ErrorKind::ConnectionRefused,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::TimedOut,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::Other,
    io::ErrorKind::UnexpectedEof,
];

/// Does something that a driver, a network, a server or a user may do.
fn mischief(h: &mut Harness, rng: &mut Rng) {
    while let Some(asked) = h.asked.pop() {
        match asked {
            Output::Provide(id) => match rng.below(4) {
                0 => h.s.handle_endpoint(id, Err(ProviderError::new("down")), h.now),
                1 => h.s.handle_endpoint(id, Ok(Endpoint::new("ws://name.example/").unwrap()), h.now),
                2 => h.s.handle_endpoint(id, Ok(Endpoint::new("ws://127.0.0.1:9/").unwrap()), h.now),
                // No answer.
                _ => {}
            },
            Output::Resolve(id) => match rng.below(4) {
                0 => h.s.handle_resolved(id, Err(ResolveError { message: "down".into() }), h.now),
                1 => h.s.handle_resolved(id, Ok(&[]), h.now),
                2 => h.s.handle_resolved(
                    id,
                    Ok(&["10.0.0.1:1", "10.0.0.2:1"].map(|a| a.parse().unwrap())),
                    h.now,
                ),
                _ => {}
            },
            other => panic!("{other:?}"),
        }
        h.run();
    }
    let Some(conn) = h.conns.iter().rposition(|conn| !conn.dropped) else { return };
    let shaken = h.conns[conn].written.starts_with(b"GET ");
    match rng.below(14) {
        0 | 1 if !shaken => h.connect(conn),
        2..=5
            if shaken
                && after_head(&h.conns[conn].written).is_empty()
                && h.s.state() == State::Connecting =>
        {
            let response = match rng.below(8) {
                0 => b"HTTP/1.1 503 No\r\nRetry-After: 100\r\n\r\n".to_vec(),
                1 => b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
                2 => b"HTTP/1.1 302 There\r\nLocation: ws://127.0.0.3:1/\r\n\r\n".to_vec(),
                3 => b"\x15\x03\x01\0".to_vec(),
                _ => accept(&h.conns[conn].written, ""),
            };
            h.feed_silently(conn, &response);
        }
        6 | 7 if shaken => {
            let id = h.s.state() == State::Authenticating;
            h.feed_silently(conn, &text(if id { "no 1" } else { "data" }));
            h.flush(conn);
        }
        8 if shaken => {
            // Whatever it asked is granted.
            for n in 1..40 {
                h.feed_silently(conn, &text(&format!("ok {n}")));
                h.flush(conn);
            }
        }
        9 if shaken => {
            let said = ["reconnect", "wait 1000", "wait 1", "hello"][rng.below(4) as usize];
            h.feed_silently(conn, &text(&format!("notice {said}")));
        }
        10 if shaken => {
            let code = [1000, 1001, 1008, 1013, 3000, 4999][rng.below(6) as usize];
            h.feed_silently(conn, &close(code, ""));
        }
        11 => {
            let kind = KINDS[rng.below(6) as usize];
            h.s.handle_disconnected(h.conns[conn].id, io::Error::from(kind).into(), h.now);
            h.run();
        }
        12 => h.s.reconnect(h.now),
        13 if shaken => _ = h.feed_silently(conn, &frame(FIN | 3, b"")),
        _ => h.flush(conn),
    }
}

/// Lets all go well for a while: a session that is not stuck gets online.
fn recovers(h: &mut Harness) -> bool {
    let end = h.now + secs(2 * 24 * 3600);
    // What hung before hangs still, and has its deadline.
    h.asked.clear();
    let hung = h.conns.len();
    while h.now < end && h.s.state() != State::Online {
        let Stop::Wait(due) = h.run() else { return false };
        let asked: Vec<Output> = h.asked.drain(..).collect();
        for asked in &asked {
            match *asked {
                Output::Provide(id) => {
                    h.s.handle_endpoint(id, Ok(Endpoint::new("ws://127.0.0.1:9/").unwrap()), h.now);
                }
                Output::Resolve(id) => h.s.handle_resolved(id, Ok(&["10.0.0.1:1".parse().unwrap()]), h.now),
                _ => {}
            }
        }
        let fresh = h.conns[hung..].iter().position(|conn| !conn.dropped && conn.written.is_empty());
        if let Some(conn) = fresh {
            h.open(hung + conn);
            grant(h, hung + conn);
        } else if asked.is_empty() {
            h.now = due.expect("it waits for something");
        }
    }
    h.s.state() == State::Online
}

#[test]
fn it_is_never_stuck() {
    let (mut online, mut states) = (0, std::collections::BTreeMap::new());
    for seed in 0..120_u8 {
        let mut rng = Rng(1000 + u64::from(seed));
        let config = match seed % 3 {
            0 => config().endpoints(["ws://127.0.0.1:10/", "ws://name.example/"]).unwrap(),
            1 => Config::provided().handshake_limits(1024, 50),
            _ => config(),
        };
        let pings = (seed % 2 == 0).then_some(secs(20));
        let policy = Policy::default().on_authentication(Recovery::Reconnect).unwrap();
        let policy =
            policy.on_status(.., Recovery::Reconnect).unwrap().on_close(3000.., Recovery::Reconnect).unwrap();
        let config = config.policy(policy).ping_interval(pings).recv_buffer(8192);
        let lines = Lines { auth: seed % 4 < 2, recovery: |_| None };
        let mut h = Harness::seeded(config.protocol(lines), [seed; 32]);
        h.s.subscribe("a", SubscribeOptions::default(), h.now);
        let begin = h.now;
        for _ in 0..1500 {
            mischief(&mut h, &mut rng);
            *states.entry(format!("{:?}", h.s.state())).or_insert(0) += 1;
            let stop = h.run();
            h.told();
            match stop {
                Stop::Closed => panic!("seed {seed}: nothing here is terminal: {:?}", h.s.status(h.now)),
                Stop::Wait(None) => {
                    assert_eq!(h.s.state(), State::Online, "seed {seed}: it waits for nothing");
                    h.now += secs(1 + rng.below(600));
                }
                Stop::Wait(Some(due)) if rng.below(3) > 0 => {
                    // In time, or late by a suspended laptop.
                    h.now = due + if rng.below(50) == 0 { secs(3600) } else { Duration::ZERO };
                }
                _ => h.now += millis(rng.below(100)),
            }
        }
        assert!(h.now - begin > secs(3600), "seed {seed}: only {:?}", h.now - begin);
        assert!(recovers(&mut h), "seed {seed}: {:?}", h.s.status(h.now));
        online += 1;
    }
    assert_eq!(online, 120);
    for state in ["Connecting", "Authenticating", "Restoring", "Online", "Backoff"] {
        assert!(states.get(state).is_some_and(|count| *count > 500), "{state} was hardly seen: {states:?}");
    }
}

#[test]
fn unknown_errors_of_the_network_are_tried_again() {
    for kind in KINDS {
        let fail = |h: &mut Harness, conn: usize| {
            let cause = Disconnect::from(io::Error::new(kind, "something odd"));
            h.s.handle_disconnected(h.conns[conn].id, cause, h.now);
            h.run();
            let told = h.told();
            let [
                OwnedEvent::AttemptFailed { error, retry_at, .. } | OwnedEvent::Lost { error, retry_at, .. },
            ] = &told[..]
            else {
                panic!("{kind:?}: {told:?}")
            };
            assert!(retry_at.is_some(), "{kind:?}");
            error.clone()
        };
        let mut h = Harness::new(config());
        h.run();
        assert!(matches!(fail(&mut h, 0), Error::Connect { .. }));
        let conn = h.next_conn();
        h.connect(conn);
        assert!(matches!(fail(&mut h, conn), Error::Disconnected(_) | Error::Handshake(_)));
        let conn = h.next_conn();
        h.open(conn);
        h.told();
        assert!(matches!(fail(&mut h, conn), Error::Disconnected(_)));
    }
}

#[test]
fn bytes_that_wait_on_a_connection_that_was_left_or_is_not_open_are_no_endless_loop() {
    ends(|| {
        // The close frame of a connection that was left is not taken, and the time for writing is over before that for closing. A fault is
        // answered with such a frame.
        let reconnect = |h: &mut Harness| h.s.reconnect(h.now);
        let fault = |h: &mut Harness| _ = h.feed_silently(0, &frame(0x83, b"reserved"));
        for leave in [reconnect as fn(&mut Harness), fault] {
            let config = config().write_timeout(secs(6)).close_timeout(secs(10)).backoff(secs(60), secs(60));
            let mut h = Harness::online(config);
            leave(&mut h);
            h.advance(secs(10) - millis(1));
            assert!(!h.conns[0].dropped);
            h.advance(millis(1));
            assert!(h.conns[0].dropped);
        }
        // The request is not taken.
        let mut h = Harness::new(config().write_timeout(secs(1)).handshake_timeout(secs(5)));
        h.run();
        h.s.handle_connected(h.conns[0].id, h.now);
        assert_eq!(h.run(), Stop::Wait(Some(h.now + secs(5))));
        h.advance(millis(4999));
        assert_eq!((h.s.state(), h.events.len()), (State::Connecting, 0));
        h.advance(millis(1));
        let [OwnedEvent::AttemptFailed { error, .. }] = &h.told()[..] else { panic!("{:?}", h.events) };
        assert_eq!(*error, Error::Timeout(Timeout::Handshake));
    });
}
