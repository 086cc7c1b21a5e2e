//! What is done about each way in which a server ends or refuses a connection, and how sessions leave a host alone together.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::protocol::Fault;
use everwire_core::{
    Config, Cooldown, Endpoint, Error, Message, Notice, Output, OwnedEvent, Policy, Recovery, SendOptions,
    State, SubscribeOptions,
};
use std::time::{Duration, Instant};

const MINUTE: Recovery = Recovery::Backoff(secs(60));

/// Delays are a second at most, unless something says otherwise.
fn quick() -> Config {
    config().backoff(millis(1000), millis(1000))
}

/// What an online session does about a close code: in what time it comes back, or that it ends.
fn after_close(config: Config, code: u16) -> Option<Duration> {
    let mut h = Harness::online(config);
    h.feed(0, &close(code, "why"));
    let delay = retry_in(&h);
    let told = h.told();
    let OwnedEvent::Lost { error: Error::Closed(closed), .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!((u16::from(closed.code), &*closed.reason), (code, "why"));
    match delay {
        Some(_) => assert_eq!((told.len(), h.s.state()), (1, State::Backoff)),
        None => {
            let [_, OwnedEvent::Closed { error: Some(Error::Closed(end)), .. }] = &told[..] else {
                panic!("{told:?}")
            };
            assert_eq!(end, closed);
            // The answer to the close frame still goes out.
            h.flush(0);
            assert_eq!(h.close_frame(0), Some((code, String::new())));
            h.eof(0);
            assert_eq!((h.s.state(), h.run()), (State::Closed, Stop::Closed));
        }
    }
    delay
}

/// What a session that never was online does about a status.
fn after_status(config: Config, status: u16) -> Option<Duration> {
    let mut h = Harness::new(config);
    h.run();
    refuse(&mut h, 0, &format!("{status} No"));
    let delay = retry_in(&h);
    let told = h.told();
    assert!(matches!(told[0], OwnedEvent::AttemptFailed { failures: 1, .. }), "{told:?}");
    assert_eq!(told.len(), if delay.is_some() { 1 } else { 2 }, "{told:?}");
    assert_eq!(h.s.state(), if delay.is_some() { State::Backoff } else { State::Closed });
    delay
}

#[test]
fn each_recovery_by_close_code() {
    let policy = Policy::default()
        .on_close(4000..=4099, MINUTE)
        .unwrap()
        .on_close(4001..=4001, Recovery::Stop)
        .unwrap()
        .on_close(4002..=4002, Recovery::Reauthenticate)
        .unwrap()
        .on_close(1001..=1001, Recovery::Stop)
        .unwrap();
    let with = || quick().policy(policy.clone());
    for code in [4000, 4003, 4099] {
        let delay = after_close(with(), code).unwrap();
        assert!(delay >= secs(60) && delay <= secs(61), "{code}: {delay:?}");
    }
    for code in [4001, 1001] {
        assert_eq!(after_close(with(), code), None, "{code}");
    }
    // It was online, so that the credentials were right.
    for code in [4002, 4100, 1000, 1012] {
        assert!(after_close(with(), code).unwrap() <= secs(1), "{code}");
    }
    // The default: limits wait, the rest comes back.
    for code in [1008, 1013] {
        let delay = after_close(quick(), code).unwrap();
        assert!(delay >= secs(10) && delay <= secs(11), "{code}: {delay:?}");
    }
    for code in [1000, 1001, 1011, 3000, 3003, 4999] {
        assert!(after_close(quick(), code).unwrap() <= secs(1), "{code}");
    }
}

#[test]
fn each_recovery_by_status() {
    let policy = Policy::default()
        .on_status(500..=599, MINUTE)
        .unwrap()
        .on_status(503..=503, Recovery::Stop)
        .unwrap()
        .on_status(404..=404, Recovery::Reconnect)
        .unwrap()
        .on_status(418..=418, Recovery::Reauthenticate)
        .unwrap();
    let with = || quick().policy(policy.clone());
    for status in [500, 502, 599] {
        let delay = after_status(with(), status).unwrap();
        assert!(delay >= secs(60) && delay <= secs(61), "{status}: {delay:?}");
    }
    // The same credentials on a server that never took them would be refused again.
    for status in [503, 418, 401] {
        assert_eq!(after_status(with(), status), None, "{status}");
    }
    for status in [404, 402] {
        assert!(after_status(with(), status).unwrap() <= secs(1), "{status}");
    }
    assert_eq!(after_status(quick(), 404), None);
    assert!(after_status(quick(), 503).unwrap() <= secs(1));
}

#[test]
fn the_protocol_knows_better_than_the_policy() {
    fn recovery(fault: Fault<'_>) -> Option<Recovery> {
        match fault {
            Fault::Closed(4000, "why") => Some(Recovery::Stop),
            Fault::Closed(4001, _) => Some(MINUTE),
            Fault::Closed(1008, _) => Some(Recovery::Reconnect),
            // More than any server may ask for.
            Fault::Closed(4002, _) => Some(Recovery::Backoff(Duration::MAX)),
            _ => None,
        }
    }
    let policy = Policy::new().on_close(4000..=4003, Recovery::Backoff(secs(5))).unwrap();
    let with = || quick().policy(policy.clone()).protocol(Lines { recovery, ..Lines::default() });
    assert_eq!(after_close(with(), 4000), None);
    let delay = after_close(with(), 4001).unwrap();
    assert!(delay >= secs(60) && delay <= secs(61), "{delay:?}");
    assert!(after_close(with(), 1008).unwrap() <= secs(1));
    let delay = after_close(with(), 4002).unwrap();
    assert!(delay >= Recovery::MAX_BACKOFF && delay <= Recovery::MAX_BACKOFF + secs(1), "{delay:?}");
    let delay = after_close(with(), 4003).unwrap();
    assert!(delay >= secs(5) && delay <= secs(6), "it says nothing of this one: {delay:?}");
}

#[test]
fn retry_after_in_seconds_or_as_a_date_whatever_the_status() {
    // The wall clock of the harness begins at 2026-01-01 00:00:00, and is 30 s later by then.
    let stops = Policy::default().on_status(503..=503, Recovery::Stop).unwrap();
    for (status, after, least) in [
        (503, "7", 7),
        (429, "7", 7),
        (404, "7", 7),
        (503, "Thu, 01 Jan 2026 00:00:37 GMT", 7),
        (503, "Thursday, 01-Jan-26 00:00:37 GMT", 7),
        (503, "Thu Jan  1 00:00:37 2026", 7),
        (429, "Thu, 01 Jan 2026 00:00:30 GMT", 0),
        (429, "Wed, 31 Dec 2025 00:00:00 GMT", 0),
        (503, "99999999999999999999", 24 * 3600),
        (503, "Thu, 01 Jan 2099 00:00:00 GMT", 24 * 3600),
    ] {
        let mut h = Harness::new(quick().policy(stops.clone()));
        h.now += secs(30);
        h.run();
        refuse(&mut h, 0, &format!("{status} No\r\nRetry-After: {after}"));
        let delay = retry_in(&h).unwrap_or_else(|| panic!("{status} {after}: it is over"));
        assert!(delay >= secs(least) && delay <= secs(least) + secs(1), "{status} {after}: {delay:?}");
        // And that is when it comes.
        h.advance(delay - Duration::from_nanos(1));
        assert_eq!(h.conns.len(), 1);
        h.advance(Duration::from_nanos(1));
        assert_eq!(h.conns.len(), 2);
    }
    // What is no time is none: the policy decides.
    let mut h = Harness::new(quick().policy(stops));
    h.run();
    refuse(&mut h, 0, "503 No\r\nRetry-After: soon");
    assert_eq!(retry_in(&h), None);
}

/// One session is told to stay away at its start; the other one is online, and loses its connection a second later for reasons of its own.
struct Pair {
    other: Harness,
    /// Until when the first was told to stay away.
    until: Instant,
    /// When the other one would come back.
    retry_at: Instant,
}

fn pair(first: Config, other: Config, told: impl FnOnce(&mut Harness)) -> Pair {
    let mut other = Harness::online(other);
    let mut first = Harness::new(first);
    first.run();
    told(&mut first);
    let until = first.now + secs(60);
    other.advance(secs(1));
    other.eof(0);
    let retry_at = other.now + retry_in(&other).unwrap();
    assert!(retry_at <= other.now + secs(1));
    Pair { other, until, retry_at }
}

/// A minute by `Retry-After`, by the default's 429 and 1008, and by the protocol.
type Telling = (&'static str, fn(&mut Harness));

fn tellings() -> [Telling; 4] {
    [
        ("Retry-After", |h| refuse(h, 0, "503 Busy\r\nRetry-After: 60")),
        ("429", |h| refuse(h, 0, "429 Slow down")),
        ("1008", |h| {
            h.open(0);
            h.feed(0, &close(1008, "slow down"));
        }),
        ("protocol", |h| {
            h.open(0);
            h.feed(0, &close(4001, ""));
        }),
    ]
}

/// 429 and 1008 wait for a minute, and so does what the protocol makes of 4001.
fn shy() -> Config {
    fn recovery(fault: Fault<'_>) -> Option<Recovery> {
        matches!(fault, Fault::Closed(4001, _)).then_some(MINUTE)
    }
    let policy = Policy::default().on_close(1008..=1008, MINUTE).unwrap();
    quick()
        .policy(policy.on_status(429..=429, MINUTE).unwrap())
        .protocol(Lines { recovery, ..Lines::default() })
}

#[test]
fn sessions_of_one_configuration_leave_a_host_alone_together() {
    for (name, told) in tellings() {
        let config = shy();
        // Not even one that gives up at once does so: being held is no failure.
        let Pair { mut other, until, retry_at } = pair(config.clone(), config.clone().max_attempts(1), told);
        other.now = retry_at;
        let Stop::Wait(Some(due)) = other.run() else { panic!("{name}: it waits") };
        assert!(
            due >= until && due <= until + secs(1),
            "{name}: {:?} after",
            due.checked_duration_since(until)
        );
        let status = other.s.status(other.now);
        assert_eq!(
            (status.state, status.failures, status.retry_at),
            (State::Backoff, 0, Some(due)),
            "{name}"
        );
        assert_eq!(status.why, "127.0.0.1:9 wants to be left alone for a while");
        assert_eq!((other.conns.len(), other.s.stats().failed_attempts), (1, 0), "{name}");
        assert_eq!(other.told().len(), 1, "{name}: the loss, and nothing since");
        other.advance(due - other.now - Duration::from_nanos(1));
        assert_eq!(other.conns.len(), 1, "{name}");
        other.advance(Duration::from_nanos(1));
        assert_eq!(other.conns.len(), 2, "{name}");
        other.open(1);
        assert_eq!(other.s.state(), State::Online);

        // One with a cool-down of its own knows nothing of it, and another port is another server.
        let config = shy();
        let own = config.clone().cooldown(Cooldown::new());
        let Pair { mut other, retry_at, .. } = pair(config, own, told);
        other.now = retry_at;
        other.run();
        assert_eq!(other.conns.len(), 2, "{name}: it is not held");
        let cooldown = Cooldown::new();
        let first = shy().cooldown(cooldown.clone());
        let host = Config::new("ws://127.0.0.1:10/").unwrap().ping_interval(None).backoff(secs(1), secs(1));
        let Pair { mut other, until, retry_at } = pair(first, host.cooldown(cooldown.clone()), told);
        other.now = retry_at;
        other.run();
        assert_eq!(other.conns.len(), 2, "{name}: another port");
        assert_eq!(cooldown.until("127.0.0.1:9", retry_at), Some(until), "{name}");
        assert_eq!(cooldown.until("127.0.0.1:10", retry_at), None);
    }
}

#[test]
fn what_is_no_complaint_holds_nobody() {
    let complaints: [fn(&mut Harness); 3] = [
        |h| refuse(h, 0, "503 Busy"),
        |h| {
            h.open(0);
            h.feed(0, &close(1001, ""));
        },
        // A backoff by the policy, of what is not about the rate, concerns the one session.
        |h| {
            h.open(0);
            h.feed(0, &close(4000, ""));
        },
    ];
    for told in complaints {
        let config = quick().policy(Policy::default().on_close(4000..=4000, MINUTE).unwrap());
        let Pair { mut other, retry_at, .. } = pair(config.clone(), config, told);
        other.now = retry_at;
        other.run();
        assert_eq!(other.conns.len(), 2);
    }
    // Whoever says that 1008 means something else on this server is not held by it.
    let config = quick().policy(Policy::default().on_close(1008..=1008, Recovery::Reconnect).unwrap());
    let Pair { mut other, retry_at, .. } = pair(config.clone(), config, |h| {
        h.open(0);
        h.feed(0, &close(1008, ""));
    });
    other.now = retry_at;
    other.run();
    assert_eq!(other.conns.len(), 2);
}

#[test]
fn a_new_session_is_held_from_its_start_and_by_each_further_complaint() {
    let config = quick();
    let cooldown = Cooldown::new();
    let mut h = Harness::new(config.cooldown(cooldown.clone()));
    let first = h.now + secs(5);
    cooldown.hold("127.0.0.1:9", first);
    let Stop::Wait(Some(due)) = h.run() else { panic!("it waits") };
    assert!(due >= first && due <= first + secs(1));
    assert!(h.conns.is_empty() && h.events.is_empty());
    let why = "127.0.0.1:9 wants to be left alone for a while";
    let status = h.s.status(h.now);
    let [transition] = &status.transitions[..] else { panic!("{status:?}") };
    assert_eq!((transition.from, transition.to, &*transition.why), (State::Idle, State::Backoff, why));
    // Somebody is told more while it waits: it sees that when it would begin.
    let second = first + secs(30);
    cooldown.hold("127.0.0.1:9", second);
    h.now = due;
    let Stop::Wait(Some(due)) = h.run() else { panic!("it waits") };
    assert!(due >= second && due <= second + secs(1));
    assert_eq!(h.s.status(h.now).transitions.len(), 1);
    // On demand it is held all the same.
    h.s.reconnect(h.now);
    h.run();
    assert!(h.conns.is_empty());
    h.advance(secs(32));
    assert_eq!(h.conns.len(), 1);
}

#[test]
fn those_that_were_held_spread_out() {
    let cooldown = Cooldown::new();
    let end = start().instant + secs(60);
    cooldown.hold("127.0.0.1:9", end);
    let late: Vec<Duration> = (0..200)
        .map(|seed| {
            let mut h = Harness::seeded(quick().cooldown(cooldown.clone()), [seed; 32]);
            let Stop::Wait(Some(due)) = h.run() else { panic!("it waits") };
            due.checked_duration_since(end).expect("not before the end")
        })
        .collect();
    for quarter in 0..4 {
        let part = millis(250 * quarter)..=millis(250 * (quarter + 1));
        let count = late.iter().filter(|late| part.contains(late)).count();
        assert!((25..=75).contains(&count), "{count} of 200 in quarter {quarter}");
    }
    // And so does the one that was told itself.
    let told: Vec<Duration> = (0..50)
        .map(|seed| {
            let mut h = Harness::seeded(quick(), [seed; 32]);
            h.run();
            refuse(&mut h, 0, "429 No\r\nRetry-After: 60");
            retry_in(&h).unwrap()
        })
        .collect();
    assert!(told.iter().all(|delay| *delay >= secs(60) && *delay <= secs(61)));
    assert!(told.iter().max().unwrap().saturating_sub(*told.iter().min().unwrap()) > millis(500));
}

#[test]
fn where_a_provider_or_a_redirect_leads_to_is_left_alone_too() {
    let cooldown = Cooldown::new();
    let until = start().instant + secs(60);
    cooldown.hold("127.0.0.2:9", until);
    // A provider is asked again at the end, for what it gave may have run out.
    let config = Config::provided().ping_interval(None).backoff(secs(1), secs(1)).cooldown(cooldown);
    let mut h = Harness::new(config);
    h.run();
    let Some(Output::Provide(id)) = h.asked.pop() else { panic!("it asks") };
    h.s.handle_endpoint(id, Ok(Endpoint::new("ws://127.0.0.2:9/").unwrap()), h.now);
    let Stop::Wait(Some(due)) = h.run() else { panic!("it waits") };
    assert!(due >= until && due <= until + secs(1));
    assert!(h.conns.is_empty() && h.events.is_empty() && h.s.status(h.now).failures == 0);
    h.now = due;
    h.run();
    let Some(Output::Provide(id)) = h.asked.pop() else { panic!("it asks again") };
    h.s.handle_endpoint(id, Ok(Endpoint::new("ws://127.0.0.2:9/").unwrap()), h.now);
    h.run();
    assert_eq!(h.conns.len(), 1);

    let cooldown = Cooldown::new();
    cooldown.hold("127.0.0.2:9", until);
    let mut h = Harness::new(quick().cooldown(cooldown));
    h.run();
    h.connect(0);
    h.feed_silently(0, b"HTTP/1.1 307 There\r\nLocation: ws://127.0.0.2:9/\r\n\r\n");
    let Stop::Wait(Some(due)) = h.run() else { panic!("it waits") };
    assert!(due >= until && due <= until + secs(1));
    assert!(h.conns.len() == 1 && h.conns[0].dropped && h.events.is_empty());
    // From the start then: the redirect may lead elsewhere.
    h.now = due;
    h.run();
    assert_eq!(h.conns[1].addr, "127.0.0.1:9".parse().unwrap());
}

#[test]
fn an_endpoint_that_leads_to_a_host_that_is_left_alone_gives_its_turn_to_the_next() {
    let cooldown = Cooldown::new();
    cooldown.hold("127.0.0.2:9", start().instant + secs(3600));
    let config =
        quick().cooldown(cooldown).backoff(secs(1), secs(4)).endpoints(["ws://127.0.0.3:9/"]).unwrap();
    let mut h = Harness::new(config);
    let there = b"HTTP/1.1 307 There\r\nLocation: ws://127.0.0.2:9/\r\n\r\n";
    for (conn, addr) in ["127.0.0.1:9", "127.0.0.3:9", "127.0.0.1:9", "127.0.0.3:9"].into_iter().enumerate() {
        h.run();
        assert_eq!((h.conns.len(), h.conns[conn].addr), (conn + 1, addr.parse().unwrap()));
        h.connect(conn);
        if conn == 3 {
            break;
        }
        h.feed_silently(conn, there);
        let Stop::Wait(Some(due)) = h.run() else { panic!("it waits") };
        // As after a failure, so that they are not asked all the time.
        assert!(due - h.now <= secs(1 << conn), "{:?}", due - h.now);
        assert!(h.events.is_empty() && h.s.status(h.now).failures == 0);
        h.now = due;
    }
    let head = h.conns[3].written.clone();
    h.feed(3, &accept(&head, ""));
    assert_eq!(h.s.state(), State::Online);
}

fn lines() -> Config {
    quick().protocol(Lines::default())
}

/// The names of what was told, and what the session left with.
fn brief(told: &[OwnedEvent]) -> (Vec<&'static str>, Option<Error>) {
    let mut left = None;
    let names = told.iter().map(|event| match event {
        OwnedEvent::Notice { .. } => "notice",
        OwnedEvent::Message { .. } => "message",
        OwnedEvent::Lost { error, .. } => {
            left = Some(error.clone());
            "lost"
        }
        OwnedEvent::Closed { error, .. } => {
            assert_eq!(*error, left, "why it ended is why it left");
            "closed"
        }
        other => panic!("{other:?}"),
    });
    (names.collect(), left)
}

#[test]
fn a_notice_is_told_then_all_that_came_with_it_then_the_session_leaves() {
    let cases = [
        ("reconnect", Recovery::Reconnect, Some(0)),
        ("reauthenticate", Recovery::Reauthenticate, Some(0)),
        ("wait 60", MINUTE, Some(60)),
        ("wait 9999999", Recovery::Backoff(Recovery::MAX_BACKOFF), Some(24 * 3600)),
        ("stop", Recovery::Stop, None),
    ];
    for (said, recovery, least) in cases {
        let mut h = Harness::online(lines());
        let bytes = [text("1"), text(&format!("notice {said}")), text("2"), text("3")].concat();
        h.feed(0, &bytes);
        let delay = retry_in(&h);
        let told = h.told();
        let OwnedEvent::Notice { text, recovery: told_recovery, epoch } = &told[1] else {
            panic!("{told:?}")
        };
        assert_eq!((&**text, epoch.as_u64()), (said, 1));
        assert_eq!(told_recovery.map(|told| Notice::new("", told).recovery()), Some(recovery));
        let mut names = vec!["message", "notice", "message", "message", "lost"];
        names.extend(least.is_none().then_some("closed"));
        assert_eq!(brief(&told), (names, Some(Error::Notice(Notice::new(said, recovery)))));
        assert_eq!(h.close_frame(0), Some((1000, String::new())), "it leaves in good order");
        match least {
            None => {
                assert_eq!(delay, None);
                h.eof(0);
                assert_eq!(h.run(), Stop::Closed);
            }
            Some(least) => {
                assert!(delay.unwrap() >= secs(least) && delay.unwrap() <= secs(least) + secs(1), "{said}");
            }
        }
    }
    // One that wants nothing done is told, and that is all; it does not take back what another wanted.
    let mut h = Harness::online(lines());
    h.feed(0, &text("notice hello"));
    assert_eq!(brief(&h.told()), (vec!["notice"], None));
    assert_eq!(h.s.state(), State::Online);
    h.feed(0, &[text("notice wait 60"), text("notice hello")].concat());
    assert_eq!(
        brief(&h.told()),
        (vec!["notice", "notice", "lost"], Some(Error::Notice(Notice::new("wait 60", MINUTE))))
    );
}

#[test]
fn a_notice_is_why_the_connection_ended_however_the_bytes_are_cut() {
    for end in [close(1000, "bye"), close(1008, ""), frame(FIN | 3, b""), vec![]] {
        let bytes = [text("notice wait 60"), end].concat();
        let mut all = vec![];
        for cut in [bytes.len(), text("notice wait 60").len(), 5] {
            let mut h = Harness::online(lines());
            // The socket takes nothing until the connection is lost.
            h.s.send(Message::Text("waits"), SendOptions::default(), h.now).unwrap();
            for part in bytes.chunks(cut) {
                h.feed_silently(0, part);
            }
            if !h.conns[0].dropped {
                h.flush(0);
                h.eof(0);
            }
            let delay = retry_in(&h).unwrap();
            assert!(delay >= secs(60) && delay <= secs(61), "{delay:?}");
            let told = h.told();
            let Some(OwnedEvent::Lost { unsent, .. }) = told.last() else { panic!("{told:?}") };
            assert_eq!((unsent.not_sent.start.as_u64(), unsent.count()), (1, 1), "it is told unsent");
            assert_eq!(h.texts(0), [""; 0], "and is not sent after all");
            all.push(format!("{:?}", brief(&told)));
        }
        assert!(all.iter().all(|told| *told == all[0]), "{all:#?}");
        assert!(all[0].starts_with(r#"(["notice", "lost"], Some(Notice("#), "{all:#?}");
    }
}

#[test]
fn a_notice_that_waits_holds_the_other_sessions_too() {
    let config = lines();
    let Pair { mut other, until, retry_at } = pair(config.clone(), config, |h| {
        h.open(0);
        h.feed(0, &text("notice wait 60"));
    });
    other.now = retry_at;
    let Stop::Wait(Some(due)) = other.run() else { panic!("it waits") };
    assert!(due >= until && due <= until + secs(1) && other.conns.len() == 1);
}

#[test]
fn a_notice_does_not_cut_the_users_own_goodbye_short() {
    let mut h = Harness::online(lines());
    h.s.close(everwire_core::CloseCode::Normal, "done", h.now);
    h.run();
    h.flush(0);
    h.feed(0, &text("notice stop"));
    assert_eq!(h.s.state(), State::Closing);
    h.feed(0, &text("still told"));
    h.feed(0, &close(1000, ""));
    h.eof(0);
    assert_eq!(h.run(), Stop::Closed);
    assert_eq!(brief(&h.told()), (vec!["notice", "message", "closed"], None));
}

#[test]
fn a_notice_while_subscriptions_are_restored() {
    let mut h = Harness::online(lines());
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    grant(&mut h, 0);
    assert!(matches!(h.told()[..], [OwnedEvent::Subscribed { .. }]));
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(h.s.state(), State::Restoring);
    h.told();
    h.feed(conn, &text("notice reconnect"));
    assert_eq!(brief(&h.told()).0, ["notice", "lost"]);
    let conn = h.next_conn();
    h.open(conn);
    grant(&mut h, conn);
    let told = h.told();
    let [OwnedEvent::Gap(_), OwnedEvent::Subscribed { .. }, OwnedEvent::Online { .. }] = &told[..] else {
        panic!("{told:?}")
    };
}
