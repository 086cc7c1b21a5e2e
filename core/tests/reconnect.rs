//! The way back: delays, refusals, redirects, timeouts, addresses, providers, and what ends it.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::ws::handshake::HandshakeError;
use everwire_core::{
    Clock, CloseCode, Config, Disconnect, Endpoint, Error, JsonRpc, Message, OnDisconnect, Output,
    OwnedEvent, OwnedOutcome, ProviderError, Request, RequestOptions, ResolveError, SendError, SendOptions,
    State, SubscribeOptions, Timeout, Unanswered,
};
use std::net::SocketAddr;
use std::time::Duration;

/// The delay that the newest `Lost` or `AttemptFailed` names; `None` if it is the end.
fn delay(h: &Harness) -> Option<Duration> {
    let retry_at = h.events.iter().rev().find_map(|event| match event {
        OwnedEvent::Lost { retry_at, .. } | OwnedEvent::AttemptFailed { retry_at, .. } => Some(*retry_at),
        _ => None,
    });
    retry_at.expect("something failed").map(|at| at - h.now)
}

/// The error of the one attempt that failed, or connection that was lost.
fn error(h: &mut Harness) -> Error {
    let errors: Vec<Error> = h
        .told()
        .into_iter()
        .filter_map(|event| match event {
            OwnedEvent::Lost { error, .. } | OwnedEvent::AttemptFailed { error, .. } => Some(error),
            _ => None,
        })
        .collect();
    let [error] = &errors[..] else { panic!("{errors:?}") };
    error.clone()
}

/// The connection is answered with this instead of a 101.
fn answer(h: &mut Harness, conn: usize, response: &str) {
    h.connect(conn);
    h.feed_silently(conn, format!("HTTP/1.1 {response}\r\n\r\n").as_bytes());
}

#[test]
fn delays_are_within_doubling_bounds_until_a_connection_is_stable() {
    let mut longest = Duration::ZERO;
    for seed in 0..20 {
        let config = config().backoff(secs(1), secs(20)).stable_after(secs(10));
        let mut h = Harness::seeded(config, [seed; 32]);
        h.run();
        for bound in [1, 2, 4, 8, 16, 20, 20] {
            h.eof(h.conns.len() - 1);
            let delay = delay(&h).unwrap();
            assert!(delay <= secs(bound), "{delay:?} over {bound} s");
            longest = longest.max(delay);
            assert_eq!(h.next_conn(), h.conns.len() - 1);
        }
        // Online, but not for long enough: the delays go on where they were.
        h.open(h.conns.len() - 1);
        h.advance(millis(9999));
        let before = h.s.status(h.now);
        assert_eq!(before.state, State::Online);
        h.eof(h.conns.len() - 1);
        longest = longest.max(delay(&h).unwrap());
        h.next_conn();
        h.open(h.conns.len() - 1);
        h.advance(secs(10));
        h.eof(h.conns.len() - 1);
        assert!(delay(&h).unwrap() <= secs(1), "it starts over");
    }
    assert!(longest > secs(15), "the range is used: {longest:?}");
}

#[test]
fn gives_up_after_so_many_attempts_in_a_row() {
    let mut h = Harness::new(config().max_attempts(3));
    h.run();
    for n in 1..=3 {
        assert_eq!(h.s.state(), State::Connecting);
        h.eof(n - 1);
        let told = h.told();
        assert!(
            matches!(told[0], OwnedEvent::AttemptFailed { failures, .. } if failures as usize == n),
            "{told:?}"
        );
        if n < 3 {
            h.next_conn();
        } else {
            assert!(
                matches!(told[1..], [OwnedEvent::Closed { error: Some(Error::Connect { .. }), .. }]),
                "{told:?}"
            );
        }
    }
    assert_eq!(h.run(), Stop::Closed);
    assert_eq!(h.run(), Stop::Closed, "repeated forever");
}

#[test]
fn a_lost_connection_or_one_left_on_demand_is_no_failed_attempt() {
    let mut h = Harness::online(config().max_attempts(1));
    h.advance(secs(60));
    h.eof(0);
    assert!(delay(&h).is_some());
    let conn = h.next_conn();
    h.open(conn);
    for n in 1..=5 {
        h.s.reconnect(h.now);
        h.run();
        assert_eq!(delay(&h), Some(Duration::ZERO));
        h.open(conn + n);
    }
    assert_eq!(h.s.state(), State::Online);
}

#[test]
fn retry_after_is_honoured() {
    // The harness's wall clock begins at 2026-01-01 00:00:00.
    for (after, least) in [("120", 120), ("Thu, 01 Jan 2026 00:02:10 GMT", 130), ("9999999999999", 24 * 3600)]
    {
        let mut h = Harness::new(config().backoff(millis(1), millis(1)));
        h.run();
        answer(&mut h, 0, &format!("503 Busy\r\nRetry-After: {after}\r\nContent-Length: 0"));
        let delay = delay(&h).unwrap();
        assert!(delay >= secs(least) && delay <= secs(least) + millis(1), "{after}: {delay:?}");
    }
    // A date in the past delays nothing; without one, "too many requests" has a delay of its own.
    let mut h = Harness::new(config().backoff(millis(1), millis(1)));
    h.run();
    answer(&mut h, 0, "503 Busy\r\nRetry-After: Thu, 01 Jan 1970 00:02:10 GMT\r\nContent-Length: 0");
    assert!(delay(&h).unwrap() <= millis(1));
    let conn = h.next_conn();
    answer(&mut h, conn, "429 Slow down\r\nContent-Length: 0");
    assert!(delay(&h).unwrap() >= secs(1));
}

#[test]
fn wrong_credentials_stop_it_unless_they_were_right_before() {
    let mut h = Harness::new(config());
    h.run();
    answer(&mut h, 0, "401 Unauthorized\r\nContent-Length: 0");
    assert_eq!(delay(&h), None);
    assert_eq!(h.run(), Stop::Closed);
    assert!(h.conns[0].dropped);
    let mut h = Harness::online(config());
    h.eof(0);
    let conn = h.next_conn();
    answer(&mut h, conn, "401 Unauthorized\r\nContent-Length: 0");
    assert!(delay(&h).is_some());
    // A provider may have better ones.
    let mut h = Harness::new(config_provided());
    provide(&mut h, "ws://127.0.0.1:9/");
    answer(&mut h, 0, "401 Unauthorized\r\nContent-Length: 0");
    assert!(delay(&h).is_some());
}

#[test]
fn redirects_are_followed_without_credentials_to_strangers() {
    let config = Config::new("ws://user:pw@127.0.0.1:9/feed").unwrap();
    let config = config.header("X-Api-Key", "k").unwrap().header("X-Plain", "p").unwrap();
    let mut h = Harness::new(config);
    h.run();
    answer(&mut h, 0, "302 Found\r\nLocation: /same");
    assert!(h.conns[0].dropped);
    h.connect(1);
    let request = &h.conns[1].written;
    assert!(request.starts_with(b"GET /same "));
    assert_eq!(header(request, "x-api-key").as_deref(), Some("k"));
    assert!(header(request, "authorization").is_some());
    h.feed_silently(1, b"HTTP/1.1 307 Moved\r\nLocation: ws://127.0.0.2:9/other\r\n\r\n");
    assert_eq!(h.conns[2].addr, "127.0.0.2:9".parse().unwrap());
    h.connect(2);
    let request = &h.conns[2].written;
    assert!(request.starts_with(b"GET /other "));
    assert_eq!(header(request, "x-api-key"), None);
    assert_eq!(header(request, "authorization"), None);
    assert_eq!(header(request, "x-plain").as_deref(), Some("p"));
    assert!(h.told().is_empty(), "all of it is one attempt");
    // The next attempt begins where the user said.
    h.eof(2);
    assert_eq!(h.next_conn(), 3);
    h.connect(3);
    assert_eq!(header(&h.conns[3].written, "x-api-key").as_deref(), Some("k"));
}

#[test]
fn redirects_are_limited() {
    let mut h = Harness::new(config().max_redirects(2));
    h.run();
    for conn in 0..3 {
        answer(&mut h, conn, "302 Found\r\nLocation: /again");
    }
    assert_eq!(h.conns.len(), 3);
    assert_eq!(error(&mut h), Error::TooManyRedirects { max: 2 });
    assert_eq!(h.run(), Stop::Closed);
}

#[test]
fn refusals_that_stay_stop_it_and_others_do_not() {
    for (response, stops) in
        [("404 Not Found", true), ("400 Bad", true), ("500 Oops", false), ("502 Bad Gateway", false)]
    {
        let mut h = Harness::new(config());
        h.run();
        answer(&mut h, 0, &format!("{response}\r\nContent-Length: 0"));
        assert_eq!(delay(&h).is_none(), stops, "{response}");
        let Error::Handshake(HandshakeError::Refused(refused)) = error(&mut h) else { panic!("refused") };
        assert!(response.starts_with(&refused.status.to_string()));
    }
}

#[test]
fn timeouts() {
    let config = config()
        .connect_timeout(secs(3))
        .handshake_timeout(secs(4))
        .ping_interval(secs(20))
        .pong_timeout(secs(7));
    let mut h = Harness::new(config.clone());
    h.run();
    h.advance(millis(2999));
    assert!(h.events.is_empty());
    h.advance(millis(1));
    assert_eq!(error(&mut h), Error::Timeout(Timeout::Connect));
    assert!(h.conns[0].dropped);
    let conn = h.next_conn();
    h.connect(conn);
    h.feed_silently(conn, b"HTTP/1.1 101 Switching");
    h.advance(millis(3999));
    assert!(h.events.is_empty() && !h.conns[conn].dropped);
    h.advance(millis(1));
    assert_eq!(error(&mut h), Error::Timeout(Timeout::Handshake));
    assert!(h.conns[conn].dropped);

    // A pong in time, then none.
    let mut h = Harness::online(config);
    h.advance(secs(20));
    h.flush(0);
    let (first, payload) = h.frames(0).pop().unwrap();
    assert_eq!(first, FIN | PING);
    h.advance(secs(2));
    h.feed(0, &frame(FIN | PONG, &payload));
    assert!(matches!(h.told()[..], [OwnedEvent::Pong { rtt, .. }] if rtt == secs(2)));
    h.advance(secs(18) + millis(6999));
    h.flush(0);
    assert_eq!(h.frames(0).len(), 2);
    assert!(h.events.is_empty());
    h.advance(millis(1));
    assert_eq!(error(&mut h), Error::Timeout(Timeout::Pong));
}

#[test]
fn a_close_that_is_not_answered() {
    ends(|| {
        let mut h = Harness::online(config().ping_interval(secs(1)).close_timeout(secs(5)));
        h.s.close(CloseCode::Normal, "done", h.now);
        h.run();
        h.flush(0);
        assert_eq!(h.close_frame(0), Some((1000, "done".into())));
        h.advance(millis(4999));
        assert_eq!(h.s.state(), State::Closing);
        h.advance(millis(1));
        assert!(matches!(h.told()[..], [OwnedEvent::Closed { error: None, .. }]));
        assert_eq!(h.run(), Stop::Closed);
        assert!(h.conns[0].dropped);
    });
}

#[test]
fn addresses_are_tried_in_turn() {
    let mut h =
        Harness::new(Config::new("ws://example.com/").unwrap().connect_timeout(secs(9)).race_delay(None));
    h.run();
    let Some(Output::Resolve(id)) = h.asked.pop() else { panic!("a name is resolved") };
    assert_eq!(h.s.host(id), Some(("example.com", 80)));
    let addrs: Vec<SocketAddr> =
        ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(|addr| addr.parse().unwrap()).to_vec();
    h.s.handle_resolved(id, Ok(&addrs), h.now);
    h.run();
    h.eof(0);
    assert_eq!(h.conns.len(), 2);
    // A silent one has only its share of the time.
    h.advance(millis(4499));
    assert_eq!(h.conns.len(), 2);
    h.advance(millis(1));
    assert!(h.conns[1].dropped);
    assert_eq!(h.conns.iter().map(|conn| conn.addr).collect::<Vec<_>>(), addrs);
    let cause = Disconnect::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    h.s.handle_disconnected(h.conns[2].id, cause.clone(), h.now);
    h.run();
    let mut retry = delay(&h).unwrap();
    assert_eq!(error(&mut h), Error::Connect { addr: addrs[2], cause });
    // Late news of any of them change nothing.
    for conn in 0..3 {
        h.s.handle_connected(h.conns[conn].id, h.now);
        assert!(h.s.transmit(h.conns[conn].id).is_empty() && h.s.recv_buffer(h.conns[conn].id).is_empty());
    }
    h.s.handle_resolved(id, Ok(&addrs), h.now);
    h.run();
    assert!(h.conns.len() == 3 && h.events.is_empty());
    assert_eq!(h.s.host(id), None);
    for result in [Ok(&[][..]), Err(ResolveError { message: "no such name".into() })] {
        h.advance(retry);
        let Some(Output::Resolve(id)) = h.asked.pop() else { panic!("resolved anew for each attempt") };
        h.s.handle_resolved(id, result, h.now);
        h.run();
        retry = delay(&h).unwrap();
        assert!(matches!(error(&mut h), Error::Resolve(_)));
    }
}

fn config_provided() -> Config {
    Config::provided().ping_interval(None).header("X-Token", "old").unwrap().connect_timeout(secs(3))
}

fn provide(h: &mut Harness, url: &str) {
    h.run();
    let Some(Output::Provide(id)) = h.asked.pop() else { panic!("it asks") };
    h.s.handle_endpoint(id, Ok(Endpoint::new(url).unwrap().header("X-Token", url).unwrap()), h.now);
    h.run();
}

#[test]
fn a_provider_is_asked_for_each_attempt() {
    let mut h = Harness::new(config_provided());
    for (n, url) in ["ws://127.0.0.1:1/a", "ws://127.0.0.1:2/b"].into_iter().enumerate() {
        provide(&mut h, url);
        h.connect(n);
        assert_eq!(usize::from(h.conns[n].addr.port()), n + 1);
        assert_eq!(
            header(&h.conns[n].written, "X-Token").as_deref(),
            Some(url),
            "in the place of the configured one"
        );
        let response = accept(&h.conns[n].written, "");
        h.feed(n, &response);
        h.eof(n);
        let retry = delay(&h).unwrap();
        h.advance(retry);
    }
    h.told();
    let Some(Output::Provide(id)) = h.asked.pop() else { panic!("it asks") };
    h.s.handle_endpoint(id, Err(ProviderError::new("no token")), h.now);
    h.run();
    let retry = delay(&h).unwrap();
    assert_eq!(error(&mut h), Error::Provider(ProviderError::new("no token")));
    // A late answer, and one that does not come.
    h.s.handle_endpoint(id, Ok(Endpoint::new("ws://127.0.0.1:3/").unwrap()), h.now);
    h.run();
    assert_eq!(h.conns.len(), 2);
    h.advance(retry);
    assert_eq!(h.asked.len(), 1);
    h.advance(secs(3));
    assert_eq!(error(&mut h), Error::Timeout(Timeout::Connect));
}

#[test]
fn reconnect_tells_first_what_had_arrived() {
    let mut h = Harness::online(config());
    h.takes = false;
    h.feed_silently(0, &[text("1"), text("2"), text("3")].concat());
    h.s.reconnect(h.now);
    h.takes = true;
    h.run();
    let told = h.told();
    let [
        OwnedEvent::Message { .. },
        OwnedEvent::Message { .. },
        OwnedEvent::Message { .. },
        OwnedEvent::Lost { error, .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(*error, Error::Reconnect);
    h.flush(0);
    assert_eq!(h.close_frame(0), Some((1000, String::new())), "the old one is closed properly");
    assert_eq!(h.conns.len(), 2, "at once");
    h.open(1);
    assert!(matches!(h.told()[..], [OwnedEvent::Gap(_), OwnedEvent::Online { resumed: true, .. }]));
    // While it waits to try again, it tries at once; while it tries, nothing.
    h.eof(1);
    h.s.reconnect(h.now);
    h.run();
    assert_eq!(h.conns.len(), 3);
    h.s.reconnect(h.now);
    h.run();
    assert_eq!(h.conns.len(), 3);
}

#[test]
fn what_was_told_unsent_is_not_sent_after_all() {
    for written in [0, 3, 8] {
        let mut h = Harness::online(config());
        for text in ["1", "2"] {
            h.s.send(Message::Text(text), SendOptions::default(), h.now).unwrap();
        }
        assert_eq!(h.flush_up_to(0, written), written);
        h.feed_silently(0, &close(1001, ""));
        let told = h.told();
        let [OwnedEvent::Lost { unsent, .. }] = &told[..] else { panic!("{told:?}") };
        let lost = unsent.count();
        let begun = 2 - (unsent.not_sent.end.as_u64() - unsent.not_sent.start.as_u64());
        assert_eq!(
            (lost, begun),
            [(2, 0), (2, 1), (1, 2)][[0, 3, 8].iter().position(|n| *n == written).unwrap()]
        );
        h.flush(0);
        assert_eq!(h.texts(0).len() as u64, begun, "{written} bytes were written");
        assert_eq!(h.close_frame(0).map(|(code, _)| code), Some(1001));
    }
}

#[test]
fn close_in_every_state() {
    // Before it is polled, connecting, shaking hands, waiting to try again, restoring, online: it ends, and tells so once.
    for stage in 0..6 {
        let mut h = Harness::new(config().protocol(JsonRpc::new()));
        if stage == 4 {
            h.s.subscribe("a", SubscribeOptions::default(), h.now);
        }
        let options = RequestOptions { on_disconnect: OnDisconnect::Hold, ..RequestOptions::default() };
        let asked = h.s.request(Request::new("m"), options, h.now).unwrap();
        if stage > 0 {
            h.run();
        }
        match stage {
            2 => h.connect(0),
            3 => _ = h.eof(0),
            4 | 5 => h.open(0),
            _ => {}
        }
        let states = [
            State::Idle,
            State::Connecting,
            State::Connecting,
            State::Backoff,
            State::Restoring,
            State::Online,
        ];
        assert_eq!(h.s.state(), states[stage]);
        h.told();
        h.s.close(CloseCode::Normal, "done", h.now);
        h.s.close(CloseCode::Away, "again", h.now);
        h.run();
        if stage >= 4 {
            h.flush(0);
            assert_eq!(h.close_frame(0), Some((1000, "done".into())));
            assert_eq!(h.s.state(), State::Closing);
            h.feed(0, &[text("still told"), close(1000, "")].concat());
            assert!(!h.conns[0].dropped, "the server ends it first");
            h.eof(0);
        }
        assert_eq!(h.run(), Stop::Closed, "stage {stage}");
        let told = h.told();
        let want = if stage == 5 {
            OwnedOutcome::SentUnknown(Unanswered::Closed)
        } else {
            OwnedOutcome::NotSent(Unanswered::Closed)
        };
        assert!(
            matches!(&told[0], OwnedEvent::Response { id, outcome } if *id == asked && *outcome == want),
            "{told:?}"
        );
        assert!(matches!(told.last(), Some(OwnedEvent::Closed { error: None, .. })));
        assert_eq!(told.len(), if stage >= 4 { 3 } else { 2 }, "{told:?}");
        assert!(matches!(stage, 0 | 3 | 4 | 5) || h.conns[0].dropped, "stage {stage}");
        assert_eq!(h.s.send(Message::Text("x"), SendOptions::default(), h.now), Err(SendError::Closed));
        h.s.reconnect(h.now);
        h.advance(secs(100));
        assert!(h.conns.len() <= 1 && h.events.is_empty());
    }
}

#[test]
fn nothing_follows_on_the_end() {
    let mut h = Harness::online(config().protocol(JsonRpc::new()));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    confirm(&mut h, 0, 0);
    h.eof(0);
    h.next_conn();
    h.open(1);
    h.told();
    // The message waits behind the gap that it ends.
    h.takes = false;
    h.feed_silently(1, &notification("a", 1));
    assert!(matches!(h.s.event(), Some(everwire_core::Event::Gap(_))));
    h.s.abort(h.now);
    h.takes = true;
    h.run();
    assert!(matches!(h.told().last(), Some(OwnedEvent::Closed { .. })));
    assert_eq!(h.run(), Stop::Closed);
}

#[test]
fn wall_time_follows_the_clock() {
    let Clock { instant, system } = start();
    assert_eq!(start().wall(instant + secs(60)), system + secs(60));
}

#[cfg(feature = "tls")]
#[test]
fn a_wss_url_speaks_tls_first() {
    let mut h = Harness::new(Config::new("wss://127.0.0.1:9/").unwrap().header("X-Api-Key", "k").unwrap());
    h.run();
    h.connect(0);
    // A ClientHello record, or, without trusted roots on this machine, nothing: never a request in the clear.
    assert!(h.conns[0].written.first().is_none_or(|byte| *byte == 22));
    assert!(!h.conns[0].written.windows(4).any(|window| window == b"GET "));
}
