//! Several endpoints, giving up, and leaving on demand.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{
    CloseCode, Config, Disconnect, Endpoint, Error, Message, Output, OwnedEvent, SendError, SendOptions,
    State, SubscribeOptions,
};

/// Three endpoints, by their ports.
fn three() -> Config {
    config().endpoints(["ws://127.0.0.1:10/b", "ws://127.0.0.1:11/c"]).unwrap().flap_budget(None)
}

/// The ports that were tried, in order.
fn ports(h: &Harness) -> Vec<u16> {
    h.conns.iter().map(|conn| conn.addr.port()).collect()
}

/// The newest connection.
fn newest(h: &Harness) -> usize {
    h.conns.len() - 1
}

#[test]
fn each_has_its_turn_and_then_the_first_again() {
    let mut h = Harness::new(three());
    h.run();
    for _ in 0..6 {
        h.eof(newest(&h));
        h.next_conn();
    }
    assert_eq!(ports(&h), [9, 10, 11, 9, 10, 11, 9]);
    // However an attempt fails: TCP, silence, the handshake, a connection that never gets online.
    let mut h = Harness::new(three().protocol(Lines { auth: true, ..Lines::default() }));
    h.run();
    h.advance(secs(10));
    let conn = h.next_conn();
    refuse(&mut h, conn, "503 No");
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(h.s.state(), State::Authenticating);
    h.eof(conn);
    h.next_conn();
    assert_eq!(ports(&h), [9, 10, 11, 9]);
    assert_eq!(h.s.status(h.now).failures, 3);
}

#[test]
fn one_that_works_is_kept_when_its_connection_is_lost() {
    let mut h = Harness::new(three());
    h.run();
    h.eof(0);
    h.next_conn();
    for conn in 1..5 {
        h.open(conn);
        assert_eq!(h.s.state(), State::Online);
        match conn {
            1 => _ = h.eof(conn),
            2 => h.feed(conn, &close(1001, "")),
            3 => h.s.reconnect(h.now),
            _ => h.feed(conn, &frame(FIN | 3, b"")),
        }
        if conn < 4 {
            assert_eq!(h.next_conn(), conn + 1);
        }
    }
    h.next_conn();
    assert_eq!(ports(&h), [9, 10, 10, 10, 10, 10]);
    // When it does not work any more, the next one has its turn.
    h.eof(newest(&h));
    h.next_conn();
    h.open(newest(&h));
    h.eof(newest(&h));
    h.next_conn();
    assert_eq!(ports(&h)[5..], [10, 11, 11]);
}

#[test]
fn what_the_configuration_says_goes_to_each() {
    let config = Config::new("ws://ann:pw@127.0.0.1:9/a?token=1").unwrap().ping_interval(None);
    let config = config.header("X-Api-Key", "k").unwrap().header("Cookie", "c=1").unwrap();
    let config = config.subprotocols(["v1"]).unwrap();
    let config = config.endpoints(["ws://127.0.0.1:10/b", "ws://bob:no@127.0.0.1:11/c"]).unwrap();
    let mut h = Harness::new(config);
    h.run();
    let authorization = [Some("Basic YW5uOnB3"), None, Some("Basic Ym9iOm5v")];
    let first = ["GET /a?token=1 HTTP/1.1", "GET /b HTTP/1.1", "GET /c HTTP/1.1"];
    for conn in 0..3 {
        h.connect(conn);
        let request = &h.conns[conn].written;
        assert!(request.starts_with(first[conn].as_bytes()));
        let host = format!("127.0.0.1:{}", 9 + conn);
        for (name, want) in [
            ("Host", Some(&*host)),
            ("X-Api-Key", Some("k")),
            ("Cookie", Some("c=1")),
            ("Sec-WebSocket-Protocol", Some("v1")),
            // What stands in a URL is of that endpoint alone.
            ("Authorization", authorization[conn]),
        ] {
            assert_eq!(header(request, name).as_deref(), want, "{name} of endpoint {conn}");
        }
        h.eof(conn);
        h.next_conn();
    }
}

#[test]
fn a_redirect_is_no_failure_and_the_next_attempt_is_at_the_endpoint_itself() {
    let mut h = Harness::new(three());
    h.run();
    h.connect(0);
    h.feed_silently(0, b"HTTP/1.1 307 There\r\nLocation: ws://127.0.0.9:99/\r\n\r\n");
    assert_eq!(ports(&h), [9, 99]);
    assert_eq!(h.s.status(h.now).failures, 0);
    // It works, and is lost: the endpoint that led to it is asked again.
    h.open(1);
    h.eof(1);
    assert_eq!(h.next_conn(), 2);
    h.connect(2);
    h.feed_silently(2, b"HTTP/1.1 307 There\r\nLocation: ws://127.0.0.9:99/\r\n\r\n");
    // Where it leads to does not work: the next endpoint has its turn.
    h.eof(3);
    assert_eq!(h.next_conn(), 4);
    assert_eq!(ports(&h), [9, 99, 9, 99, 10]);
    assert_eq!(h.s.status(h.now).failures, 1);
}

#[test]
fn a_provider_decides_alone() {
    let mut h = Harness::new(Config::provided().ping_interval(None));
    for n in 0..4 {
        let stop = h.run();
        let Some(Output::Provide(id)) = h.asked.pop() else { panic!("it asks: {stop:?}") };
        let url = format!("ws://127.0.0.1:{}/", 100 + n % 2);
        h.s.handle_endpoint(id, Ok(Endpoint::new(&url).unwrap()), h.now);
        h.run();
        h.eof(n);
        let delay = retry_in(&h).unwrap();
        h.advance(delay);
    }
    assert_eq!(ports(&h), [100, 101, 100, 101]);
    assert_eq!(h.s.status(h.now).failures, 4);
}

#[test]
fn attempts_are_counted_over_all_endpoints_and_the_end_is_told_once() {
    let mut h = Harness::new(three().max_attempts(4));
    h.run();
    for n in 1..=4 {
        let cause = Disconnect::from(std::io::Error::other(format!("no route {n}")));
        h.s.handle_disconnected(h.conns[newest(&h)].id, cause, h.now);
        h.run();
        if n < 4 {
            h.next_conn();
        }
    }
    assert_eq!(ports(&h), [9, 10, 11, 9]);
    assert_eq!(h.run(), Stop::Closed);
    let told = h.told();
    let failures: Vec<u32> = told
        .iter()
        .filter_map(|event| match event {
            OwnedEvent::AttemptFailed { failures, retry_at, .. } => {
                assert_eq!(retry_at.is_none(), *failures == 4);
                Some(*failures)
            }
            _ => None,
        })
        .collect();
    assert_eq!((told.len(), failures), (5, vec![1, 2, 3, 4]));
    let Some(OwnedEvent::Closed { error: Some(Error::Connect { addr, cause }), .. }) = told.last() else {
        panic!("{told:?}")
    };
    assert_eq!((addr.port(), &*cause.to_string()), (9, "no route 4"));
    let status = h.s.status(h.now);
    assert_eq!((status.state, status.retry_at), (State::Closed, None));
    assert_eq!(status.why, "could not connect to 127.0.0.1:9: no route 4");
    // Nothing wakes it.
    h.s.reconnect(h.now);
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    assert_eq!(h.s.send(Message::Text("x"), SendOptions::default(), h.now), Err(SendError::Closed));
    h.s.close(CloseCode::Normal, "", h.now);
    h.s.abort(h.now);
    assert_eq!(h.advance(secs(1_000_000)), Stop::Closed);
    assert!(h.events.is_empty() && h.conns.len() == 4 && h.s.timeout().is_none());
}

#[test]
fn being_online_starts_the_count_again() {
    let mut h = Harness::new(three().max_attempts(2));
    h.run();
    for _ in 0..5 {
        h.eof(newest(&h));
        h.next_conn();
        h.open(newest(&h));
        h.eof(newest(&h));
        h.next_conn();
    }
    h.told();
    h.eof(newest(&h));
    h.next_conn();
    h.eof(newest(&h));
    let told = h.told();
    let [
        OwnedEvent::AttemptFailed { failures: 1, .. },
        OwnedEvent::AttemptFailed { failures: 2, retry_at: None, .. },
        OwnedEvent::Closed { error: Some(_), .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
}

#[test]
fn without_reconnect_the_first_loss_is_the_end() {
    // The first connection may take attempts.
    let mut h = Harness::new(three().no_reconnect());
    h.run();
    h.eof(0);
    assert_eq!(h.next_conn(), 1);
    h.open(1);
    // Another on demand is no loss.
    h.s.reconnect(h.now);
    h.run();
    h.flush(1);
    h.open(2);
    assert_eq!(h.s.state(), State::Online);
    h.told();
    h.eof(2);
    let told = h.told();
    let [
        OwnedEvent::Lost { error: Error::Disconnected(Disconnect::Eof), retry_at: None, .. },
        OwnedEvent::Closed { error: Some(Error::Disconnected(Disconnect::Eof)), .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    h.eof(1);
    assert_eq!(h.run(), Stop::Closed);
}

#[test]
fn reconnect_in_each_state() {
    let lines = || three().protocol(Lines { auth: true, ..Lines::default() });
    for state in [
        State::Idle,
        State::Connecting,
        State::Authenticating,
        State::Restoring,
        State::Online,
        State::Backoff,
        State::Closing,
        State::Closed,
    ] {
        let mut h = Harness::new(lines());
        let a = h.s.subscribe("a", SubscribeOptions::default(), h.now);
        if state != State::Idle {
            h.run();
        }
        if !matches!(state, State::Idle | State::Connecting) {
            h.open(0);
            match state {
                State::Restoring => h.feed(0, &text("ok 1")),
                State::Authenticating => {}
                _ => grant(&mut h, 0),
            }
        }
        match state {
            State::Backoff => _ = h.eof(0),
            State::Closing => {
                h.s.close(CloseCode::Normal, "", h.now);
                h.run();
            }
            State::Closed => h.s.abort(h.now),
            _ => {}
        }
        h.run();
        assert!(h.s.state() == state || state == State::Idle, "{state:?}: {:?}", h.s.state());
        h.told();
        h.s.reconnect(h.now);
        h.s.reconnect(h.now);
        h.run();
        let told = h.told();
        match state {
            // There is nothing to leave; the attempt that is under way is not begun again.
            State::Idle | State::Connecting | State::Backoff => assert!(told.is_empty(), "{told:?}"),
            State::Authenticating | State::Restoring | State::Online => {
                let [OwnedEvent::Lost { error: Error::Reconnect, retry_at: Some(at), .. }] = &told[..] else {
                    panic!("{told:?}")
                };
                assert_eq!(*at, h.now, "at once");
                h.flush(0);
                assert_eq!(h.close_frame(0), Some((1000, String::new())));
                assert_eq!(h.s.status(h.now).failures, 0, "{state:?}: it was asked for");
            }
            _ => {
                assert!(told.is_empty(), "{told:?}");
                assert_eq!((h.s.state(), h.conns.len()), (state, 1));
                assert_eq!(h.s.subscriptions().count(), 1);
                continue;
            }
        }
        let new = newest(&h);
        assert_eq!(new, usize::from(!matches!(state, State::Idle | State::Connecting)), "{state:?}");
        assert_eq!(ports(&h)[new], 9, "{state:?}: the same endpoint");
        h.open(new);
        grant(&mut h, new);
        assert_eq!(h.texts(new).len(), 2, "authenticated, and asked for the topic");
        assert!(h.texts(new)[1].ends_with(" a"));
        assert_eq!(h.s.state(), State::Online, "{state:?}");
        let Some(OwnedEvent::Subscribed { id, topic, epoch }) =
            h.told().into_iter().find(|event| matches!(event, OwnedEvent::Subscribed { .. }))
        else {
            panic!("{state:?}: the subscription is kept")
        };
        assert_eq!((id, &*topic, epoch), (a, "a", h.s.status(h.now).epoch));
    }
}

#[test]
fn status_tells_how_it_came_there() {
    use State::{Authenticating, Backoff, Closing, Connecting, Idle, Online, Restoring};
    let mut h =
        Harness::new(three().protocol(Lines { auth: true, ..Lines::default() }).backoff(secs(1), secs(1)));
    let zero = h.now;
    let fresh = h.s.status(h.now);
    assert_eq!((fresh.state, &*fresh.why, fresh.transitions.len()), (Idle, "not polled yet", 0));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.advance(secs(10));
    let first = retry_in(&h).unwrap();
    h.advance(first);
    h.open(1);
    h.advance(secs(2));
    h.feed(1, &text("ok 1"));
    h.advance(secs(3));
    grant(&mut h, 1);
    h.advance(secs(4));
    let status = h.s.status(h.now);
    assert_eq!((status.state, &*status.why, status.age), (Online, "restored", secs(4)));
    h.feed(1, &close(1012, "deploy"));
    let second = retry_in(&h).unwrap();
    let status = h.s.status(h.now);
    assert_eq!((status.state, status.retry_at, status.epoch.as_u64()), (Backoff, Some(h.now + second), 1));
    h.advance(second);
    h.open(2);
    grant(&mut h, 2);
    h.s.close(CloseCode::Normal, "", h.now);
    h.run();
    let seen: Vec<_> = h.s.status(h.now).transitions;
    let up = secs(10) + first;
    let down = up + secs(9);
    let again = down + second;
    let closed = "the peer closed the connection with code 1012 (\"deploy\")";
    let want = [
        (secs(0), Idle, Connecting, "attempt 1"),
        (secs(10), Connecting, Backoff, "connecting took too long"),
        (up, Backoff, Connecting, "attempt 2"),
        (up, Connecting, Authenticating, "connected"),
        (up + secs(2), Authenticating, Restoring, "authenticated"),
        (up + secs(5), Restoring, Online, "restored"),
        (down, Online, Backoff, closed),
        (again, Backoff, Connecting, "attempt 3"),
        (again, Connecting, Authenticating, "connected"),
        (again, Authenticating, Restoring, "authenticated"),
        (again, Restoring, Online, "restored"),
        (again, Online, Closing, "closed by the user"),
    ];
    let told: Vec<_> = seen.iter().map(|t| (t.at - zero, t.from, t.to, &*t.why)).collect();
    assert_eq!(told, want);
}

#[test]
fn status_keeps_the_last_32_transitions() {
    let mut h = Harness::new(three());
    h.run();
    for n in 1..=40 {
        h.eof(newest(&h));
        h.next_conn();
        let status = h.s.status(h.now);
        assert_eq!(status.transitions.len(), (2 * n + 1).min(32));
        assert_eq!(status.transitions.last().unwrap().why, format!("attempt {}", n + 1));
        // They follow on each other.
        for pair in status.transitions.windows(2) {
            assert!(pair[0].to == pair[1].from && pair[0].at <= pair[1].at);
        }
    }
}

#[test]
fn what_one_refuses_for_good_another_may_grant() {
    let mut h = Harness::new(three());
    h.run();
    for status in ["404 Not Found", "401 Unauthorized"] {
        let conn = newest(&h);
        refuse(&mut h, conn, status);
        assert!(retry_in(&h).is_some(), "{status}");
        h.next_conn();
    }
    let last = newest(&h);
    h.open(last);
    assert_eq!((ports(&h), h.s.state()), (vec![9, 10, 11], State::Online));
    // All of them.
    let mut h = Harness::new(three());
    h.run();
    for _ in 0..2 {
        let conn = newest(&h);
        refuse(&mut h, conn, "404 Not Found");
        h.next_conn();
    }
    refuse(&mut h, 2, "404 Not Found");
    assert!(matches!(&h.told()[..], [.., OwnedEvent::Closed { error: Some(Error::Handshake(_)), .. }]));
    // One that failed otherwise between may be tried again.
    let mut h = Harness::new(three());
    h.run();
    refuse(&mut h, 0, "404 Not Found");
    h.next_conn();
    h.eof(1);
    h.next_conn();
    refuse(&mut h, 2, "404 Not Found");
    assert!(retry_in(&h).is_some());
}

#[test]
fn a_host_that_is_to_be_left_alone_is_passed_over() {
    let mut h = Harness::new(three());
    h.run();
    h.connect(0);
    h.feed_silently(0, b"HTTP/1.1 429 Slow down\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n");
    assert!(retry_in(&h).unwrap() <= millis(500), "the others do not wait");
    for _ in 0..4 {
        h.next_conn();
        h.eof(newest(&h));
    }
    assert_eq!(ports(&h), [9, 10, 11, 10, 11]);
    h.advance(secs(660));
    assert!(ports(&h)[5..].contains(&9), "{:?}", ports(&h));
    // A single endpoint has nothing to turn to.
    let mut h = Harness::new(config());
    h.run();
    h.connect(0);
    h.feed_silently(0, b"HTTP/1.1 429 Slow down\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n");
    assert!(retry_in(&h).unwrap() >= secs(600));
}

#[test]
fn if_all_are_to_be_left_alone_the_first_that_may_be_asked_again_is() {
    let mut h = Harness::new(three());
    for (conn, seconds) in [600, 20, 300].into_iter().enumerate() {
        h.next_conn();
        h.connect(conn);
        let answer = format!("HTTP/1.1 429 Slow down\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n");
        h.feed_silently(conn, answer.as_bytes());
    }
    assert_eq!(ports(&h), [9, 10, 11]);
    let now = h.now;
    h.next_conn();
    assert_eq!(ports(&h)[3..], [10]);
    assert!((secs(19)..secs(21)).contains(&(h.now - now)), "{:?}", h.now - now);
}

#[test]
fn what_served_before_has_not_refused_for_good() {
    let mut h = Harness::new(three());
    h.run();
    h.open(0);
    h.eof(0);
    let conn = h.next_conn();
    refuse(&mut h, conn, "401 Unauthorized");
    for _ in 0..6 {
        let conn = h.next_conn();
        refuse(&mut h, conn, "404 Not Found");
        assert!(retry_in(&h).is_some());
    }
    assert_eq!(ports(&h), [9, 9, 10, 11, 9, 10, 11, 9]);
}
