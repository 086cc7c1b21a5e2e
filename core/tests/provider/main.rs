//! The endpoint provider: what an endpoint says, what becomes of bad ones, and how it is kept fresh while a connection lives.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod feed;
mod refresh;

use common::*;
use everwire_core::protocol::Context;
use everwire_core::{
    Endpoint, Error, OwnedEvent, Params, ProviderError, Recovery, State, SubscribeOptions, Timeout,
};
use feed::*;
use std::time::Duration;

#[test]
fn what_the_endpoint_says_goes_before_the_configuration() {
    let config = base(AUTH).ping_interval(secs(60)).pong_timeout(secs(50)).heartbeat_interval(secs(70));
    let config = config.subprotocols(["v1"]).unwrap().header("X-Client", "old").unwrap();
    let mut h = Harness::new(config.backoff(millis(1), millis(1)));
    let given = endpoint("t1").ping_interval(secs(3)).pong_timeout(secs(2)).heartbeat_interval(None);
    provide(&mut h, given.subprotocols(["v2", "t1"]).header("x-client", "new").unwrap());
    h.connect(0);
    let head = h.conns[0].written.clone();
    assert_eq!(header(&head, "Sec-WebSocket-Protocol").as_deref(), Some("v2, t1"));
    assert_eq!(header(&head, "X-Client").as_deref(), Some("new"));
    h.feed(0, &accept(&head, "Sec-WebSocket-Protocol: v2\r\n"));
    answer(&mut h, 0, "ok", "");
    assert_eq!(told(&mut h), ["authenticated", "online false"]);
    let opened = h.now;
    assert_eq!(h.run(), Stop::Wait(Some(opened + secs(3))), "its ping");
    h.advance(secs(3));
    h.flush(0);
    assert_eq!(h.frames(0).last().unwrap().0, FIN | PING);
    assert_eq!(h.advance(millis(1999)), Stop::Wait(Some(opened + secs(5))));
    h.advance(millis(1));
    assert_eq!(told(&mut h), ["lost: nothing arrived after a ping"]);

    // Another one says nothing of it.
    h.advance(millis(1));
    provide(&mut h, endpoint("t2"));
    h.open(1);
    assert_eq!(header(&h.conns[1].written, "Sec-WebSocket-Protocol").as_deref(), Some("v1"));
    assert_eq!(header(&h.conns[1].written, "X-Client").as_deref(), Some("old"));
    answer(&mut h, 1, "ok", "");
    let opened = h.now;
    // The backoff is reset after 10 s; then there is the ping.
    h.advance(secs(10));
    assert_eq!(h.run(), Stop::Wait(Some(opened + secs(60))));
    h.advance(secs(50));
    h.feed(1, &text("data"));
    h.advance(secs(10));
    h.flush(1);
    assert_eq!(h.texts(1).last().unwrap().split(' ').next(), Some("beat"));
}

#[test]
fn heartbeats_come_as_the_token_service_says() {
    let config = base(AUTH).heartbeat_interval(secs(1)).heartbeat_timeout(secs(1));
    let mut h = online(config, endpoint("t1").heartbeat_interval(secs(18)).heartbeat_timeout(secs(7)));
    let opened = h.now;
    h.advance(millis(17_999));
    assert_eq!(h.texts(0), ["auth 1 t1"]);
    h.advance(millis(1));
    h.flush(0);
    assert_eq!(h.texts(0)[1], "beat 2 t1");
    h.advance(millis(6_999));
    assert_eq!(told(&mut h), [""; 0]);
    h.advance(millis(1));
    assert_eq!(h.now, opened + secs(25));
    assert_eq!(told(&mut h), ["lost: the server did not answer a heartbeat in time"]);
}

#[test]
fn the_protocol_sees_the_parameters_of_its_connection() {
    let mut h = Harness::new(base(AUTH).heartbeat_interval(secs(5)).backoff(millis(1), millis(1)));
    let topic = h.s.subscribe("a", SubscribeOptions::default(), h.now);
    for (conn, token) in ["t1", "t2"].into_iter().enumerate() {
        provide(&mut h, endpoint("old").param("token", token));
        h.open(conn);
        answer(&mut h, conn, "ok", "");
        answer(&mut h, conn, "ok", "");
        h.advance(secs(5));
        h.flush(conn);
        let verbs: Vec<String> =
            h.texts(conn).iter().map(|text| text.replace(char::is_numeric, "")).collect();
        assert_eq!(verbs, ["auth  t", "sub  t a", "beat  t"]);
        assert!(
            h.texts(conn).iter().all(|text| text.split(' ').nth(2) == Some(token)),
            "{:?}",
            h.texts(conn)
        );
        if conn == 1 {
            h.s.unsubscribe(topic, h.now);
            h.run();
            h.flush(1);
            assert!(h.texts(1).last().unwrap().ends_with(" t2 a"));
        }
        h.eof(conn);
        h.advance(millis(1));
    }
}

#[test]
fn a_bad_endpoint_fails_its_attempt_and_says_which_part_is_bad() {
    let ok = || endpoint("hunter2");
    let many = (0..65).fold(ok(), |endpoint, n| endpoint.param(format!("p{n}"), "hunter2"));
    let over = start().system - secs(1);
    let year = secs(366 * 86_400);
    let rows: Vec<(Endpoint, &str)> = vec![
        (ok().ping_interval(Duration::ZERO), "ping_interval is 0s: it may be 1ms to 365d, or None"),
        (ok().ping_interval(year), "ping_interval is 366d: it may be 1ms to 365d, or None"),
        (ok().pong_timeout(Duration::ZERO), "pong_timeout is 0s: it may be 1ms to 365d"),
        (ok().pong_timeout(Duration::MAX), "pong_timeout is more than 584 years: it may be 1ms to 365d"),
        (ok().heartbeat_interval(millis(0)), "heartbeat_interval is 0s: it may be 1ms to 365d, or None"),
        (ok().heartbeat_timeout(year), "heartbeat_timeout is 366d: it may be 1ms to 365d"),
        (ok().expires_in(millis(999)), "expires_in is 999ms: it may be 1s or more"),
        (
            ok().expires_at(over),
            "expires_at is over: it may be 1s ahead or more, by the clock of this machine",
        ),
        (ok().refresh_after(0.96), "refresh_after is 0.96: it may be 0.05 to 0.95"),
        (ok().refresh_after(f64::NAN), "refresh_after is NaN: it may be 0.05 to 0.95"),
        (many, "param is 66 pairs: it may be 0 to 64 pairs"),
        (ok().param("k", "hunter2".repeat(10_000)), "param is 70013 bytes: it may be 0B to 64KiB in all"),
        (ok().subprotocols(["a", "a"]), "handshake: subprotocol number 1"),
        (ok().subprotocols(["no token hunter2"]), "handshake: subprotocol number 0"),
        (
            ok().header("Upgrade", "hunter2").unwrap(),
            "handshake: header \"Upgrade\" belongs to the handshake",
        ),
    ];
    let mut h = Harness::new(base(AUTH).flap_budget(None));
    for (n, (bad, what)) in rows.into_iter().enumerate() {
        provide(&mut h, bad);
        let retry = retry_in(&h).unwrap();
        let [OwnedEvent::AttemptFailed { failures, error, .. }] = &h.told()[..] else { panic!("{what}") };
        assert_eq!(*failures, n as u32 + 1);
        let shown = format!("{error} {error:?} {}", error.explain());
        assert!(error.to_string().starts_with("the provider's endpoint cannot be used: "), "{shown}");
        assert!(shown.contains(what) && !shown.contains("hunter2"), "{shown}");
        assert_eq!((h.s.state(), h.conns.len()), (State::Backoff, 0), "{what}");
        h.advance(retry);
    }
    // And then all is well.
    provide(&mut h, ok().expires_in(Duration::MAX));
    assert_eq!(h.conns.len(), 1);
}

#[test]
fn a_provider_says_what_is_to_be_done_about_its_failure() {
    let io = || -> Result<Endpoint, ProviderError> {
        Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "token service down"))?
    };
    let mut h = Harness::new(base(AUTH));
    fail(&mut h, io().unwrap_err());
    assert!(retry_in(&h).unwrap() <= secs(1));
    assert_eq!(told(&mut h), ["failed: the endpoint provider failed: token service down"]);
    h.advance(secs(1));
    fail(&mut h, ProviderError::new("slow down").recovery(Recovery::Backoff(secs(60))));
    let wait = retry_in(&h).unwrap();
    assert!((secs(60)..=secs(61)).contains(&wait), "{wait:?}");
    h.advance(wait - millis(1));
    assert_eq!(h.asked, []);
    h.advance(millis(1));
    // Nobody else is to leave that host alone: it was not the host that said so.
    provide(&mut h, endpoint("t1"));
    h.open(0);
    answer(&mut h, 0, "ok", "");
    h.eof(0);
    h.told();
    let wait = h.s.status(h.now).retry_at.unwrap() - h.now;
    h.advance(wait);
    fail(&mut h, ProviderError::new("revoked").recovery(Recovery::Stop));
    let error = "the endpoint provider failed: revoked";
    assert_eq!(told(&mut h), [format!("gave up: {error}"), format!("closed Some({error:?})")]);
    assert_eq!(h.run(), Stop::Closed);
}

#[test]
fn a_long_message_of_a_provider_is_cut_and_causes_are_told() {
    let error = ProviderError::new("\u{20ac}".repeat(1000));
    assert_eq!(error.message.len(), 1023);
    let answer = serde_json::from_str::<u8>("<html>").unwrap_err();
    let text = answer.to_string();
    // It tells its cause itself.
    assert_eq!(ProviderError::from(std::io::Error::other(answer)).message, text);
    // This one does not.
    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("pingInterval")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let outer = Outer("x".parse::<u8>().unwrap_err());
    assert_eq!(ProviderError::from(outer).message, "pingInterval: invalid digit found in string");
    let day = Error::Provider(ProviderError::new("x").recovery(Recovery::Backoff(Duration::MAX)));
    assert_eq!(day.recovery(start().system), Recovery::Backoff(Recovery::MAX_BACKOFF));
}

#[test]
fn a_provider_that_never_answers_has_the_time_for_connecting() {
    let mut h = Harness::new(base(AUTH).connect_timeout(secs(7)));
    let id = asked(&mut h);
    assert_eq!(h.run(), Stop::Wait(Some(h.now + secs(7))));
    h.advance(secs(7));
    let told = h.told();
    assert!(
        matches!(&told[..], [OwnedEvent::AttemptFailed { error: Error::Timeout(Timeout::Connect), .. }]),
        "{told:?}"
    );
    h.s.handle_endpoint(id, Ok(endpoint("late")), h.now);
    h.run();
    assert!(h.conns.is_empty() && h.events.is_empty());
}

#[test]
fn a_server_that_speaks_first_is_waited_for() {
    let feed = Feed { greets: true, ..AUTH };
    let mut h = Harness::new(base(feed));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    provide(&mut h, endpoint("t1"));
    h.open(0);
    assert_eq!((h.s.state(), h.texts(0).len()), (State::Authenticating, 0));
    assert_eq!(h.s.status(h.now).why, "connected, waits for the server's first word");
    // What is said before is told, pings are answered.
    h.feed(0, &[text("early"), frame(FIN | PING, b"x")].concat());
    assert_eq!(
        (told(&mut h), h.frames(0)),
        (vec!["message early".into()], vec![(FIN | PONG, b"x".to_vec())])
    );
    h.advance(secs(9));
    h.feed(0, &text("hello"));
    assert_eq!(h.texts(0), ["auth 1 t1"]);
    answer(&mut h, 0, "ok", "");
    answer(&mut h, 0, "ok", "");
    // A second one means nothing.
    h.feed(0, &text("hello"));
    h.advance(secs(100));
    assert_eq!(told(&mut h), ["authenticated", "+a", "online false"]);
    assert_eq!(h.texts(0).len(), 2);

    // It does not speak.
    h.eof(0);
    let conn = {
        until_attempt(&mut h);
        provide(&mut h, endpoint("t2"));
        1
    };
    h.told();
    h.open(conn);
    let opened = h.now;
    assert_eq!(h.run(), Stop::Wait(Some(opened + secs(10))));
    h.advance(secs(10));
    assert_eq!(told(&mut h), ["lost: the server did not say its first word in time"]);

    // In one packet with the response to the handshake.
    until_attempt(&mut h);
    provide(&mut h, endpoint("t3"));
    h.connect(2);
    let response = [accept(&h.conns[2].written, ""), text("hello")].concat();
    h.feed(2, &response);
    assert_eq!(h.texts(2).len(), 1);
    // Without one that greets, a greeting is nothing.
    let mut h = online(base(Feed::default()), endpoint("t1"));
    h.feed(0, &text("hello"));
    assert_eq!((told(&mut h).len(), h.texts(0).len()), (0, 0));
}

#[test]
fn parameters_are_for_one_origin() {
    for (location, token) in [("ws://127.0.0.1:8/", "-"), ("/other", "t1")] {
        let mut h = Harness::new(base(AUTH));
        provide(&mut h, endpoint("t1"));
        h.connect(0);
        let redirect = format!("HTTP/1.1 307 Elsewhere\r\nLocation: {location}\r\n\r\n");
        h.feed_silently(0, redirect.as_bytes());
        h.open(1);
        assert_eq!(h.texts(1), [format!("auth 1 {token}")]);
    }
}

#[test]
fn nothing_secret_is_shown() {
    let secret = |n: u32| {
        let endpoint =
            Endpoint::new(&format!("ws://me:hunter2-{n}@127.0.0.1:9/feed?token=hunter2-{n}")).unwrap();
        let endpoint = endpoint.header("Authorization", &format!("Bearer hunter2-{n}")).unwrap();
        let endpoint = endpoint.subprotocols([format!("bearer.hunter2-{n}")]);
        endpoint.param("token", format!("hunter2-{n}")).param("hunter2", "x").expires_in(secs(100))
    };
    let mut shown = format!("{:?} {:#?}", secret(0), secret(0));
    let mut h = Harness::new(base(AGAIN));
    let mut look = |h: &mut Harness| {
        let told = h.told();
        shown += &format!("{told:?} {:?} {:?} {:?}", h.s, h.s.status(h.now), h.s.stats());
        for event in told {
            if let OwnedEvent::Lost { error, .. }
            | OwnedEvent::AttemptFailed { error, .. }
            | OwnedEvent::RefreshFailed { error, .. } = event
            {
                shown += &format!("{error} {}", error.explain());
            }
        }
    };
    provide(&mut h, secret(1));
    refuse(&mut h, 0, "401 Unauthorized");
    look(&mut h);
    until_attempt(&mut h);
    provide(&mut h, secret(2).pong_timeout(Duration::ZERO));
    look(&mut h);
    until_attempt(&mut h);
    provide(&mut h, secret(3));
    h.open(1);
    answer(&mut h, 1, "ok", "");
    until_asked(&mut h);
    provide(&mut h, secret(4).ping_interval(Duration::ZERO));
    look(&mut h);
    until_asked(&mut h);
    provide(&mut h, secret(5));
    h.flush(1);
    assert!(h.texts(1).last().unwrap().contains("hunter2-5"));
    look(&mut h);
    answer(&mut h, 1, "no", " refused");
    look(&mut h);
    let params: Params = [("token", "hunter2")].into_iter().collect();
    let context = Context::new(start().system, &params);
    shown += &format!("{params:?} {context:?} {:?}", base(AGAIN));
    assert!(shown.len() > 3000 && !shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("Params { count: 2, .. }") && shown.contains("RefreshFailed"), "{shown}");
}
