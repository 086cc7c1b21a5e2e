//! The endpoint provider: what an endpoint says, what becomes of bad ones, and how it is kept fresh while a connection lives.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::protocol::{Ack, Context, Fault, Inbound, Unsupported};
use everwire_core::{
    AtExpiry, AttemptId, CloseCode, Config, Disconnect, Endpoint, Error, Message, Output, OwnedEvent, Params,
    Protocol, ProviderError, Recovery, Refresh, Request, SendOptions, State, SubscribeOptions, Timeout,
    Topic,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The client says `auth 1 TOKEN`, `sub 2 TOKEN a`, `unsub 3 TOKEN a`, `beat 4 TOKEN`; the server `hello`, `ok 1`, `no 1`, and `ok 1 900`: good
/// for so many seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Feed {
    greets: bool,
    auth: bool,
    again: bool,
    refused: Option<Recovery>,
}

const AUTH: Feed = Feed { greets: false, auth: true, again: false, refused: None };
const AGAIN: Feed = Feed { again: true, ..AUTH };

impl Feed {
    fn say(verb: &str, id: u64, context: &Context<'_>, rest: &str, out: &mut String) -> Ack {
        let token = context.params.get("token").unwrap_or("-");
        *out = format!("{verb} {id} {token}{rest}");
        Ack::Response
    }
}

fn names(topics: &[&Topic]) -> String {
    topics.iter().map(|topic| format!(" {}", topic.name())).collect()
}

impl Protocol for Feed {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let mut words = text.splitn(3, ' ');
        let verb = words.next().unwrap_or_default();
        let (id, rest) = (words.next().and_then(|id| id.parse().ok()), words.next().unwrap_or_default());
        match (verb, id) {
            ("hello", _) => Inbound::Greeting,
            ("ok", Some(id)) => Inbound::Response { id, result: Ok(rest) },
            ("no", Some(id)) => Inbound::Response { id, result: Err(rest) },
            _ => Inbound::data(None),
        }
    }
    fn greets(&self) -> bool {
        self.greets
    }
    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        if self.auth { Self::say("auth", id, context, "", out) } else { Ack::None }
    }
    fn authenticated(&self, result: &str) -> Option<Duration> {
        result.parse().ok().map(secs)
    }
    fn reauthenticates(&self) -> bool {
        self.again
    }
    fn request(&self, id: u64, request: &Request<'_>, out: &mut String) -> Result<(), Unsupported> {
        *out = format!("ask {id} {}", request.method);
        Ok(())
    }
    fn topics_per_message(&self) -> usize {
        10
    }
    fn subscribe(&self, id: u64, topics: &[&Topic], context: &Context<'_>, out: &mut String) -> Ack {
        Self::say("sub", id, context, &names(topics), out)
    }
    fn unsubscribe(&self, id: u64, topics: &[&Topic], context: &Context<'_>, out: &mut String) -> Ack {
        Self::say("unsub", id, context, &names(topics), out)
    }
    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }
    fn heartbeat(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        Self::say("beat", id, context, "", out)
    }
    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        self.refused.filter(|_| matches!(fault, Fault::Authentication(_)))
    }
}

fn base(feed: Feed) -> Config {
    Config::provided().ping_interval(None).backoff(secs(1), secs(30)).protocol(feed)
}

fn endpoint(token: &str) -> Endpoint {
    Endpoint::new("ws://127.0.0.1:9/").unwrap().param("token", token)
}

/// Good for 100 s: asked for anew after 72 s to 80 s.
fn short(token: &str) -> Endpoint {
    endpoint(token).expires_in(secs(100))
}

fn asked(h: &mut Harness) -> AttemptId {
    h.run();
    let [Output::Provide(id)] = h.asked[..] else { panic!("it asks once, not {:?}", h.asked) };
    h.asked.clear();
    id
}

fn provide(h: &mut Harness, endpoint: Endpoint) {
    let id = asked(h);
    h.s.handle_endpoint(id, Ok(endpoint), h.now);
    h.run();
}

fn fail(h: &mut Harness, error: ProviderError) {
    let id = asked(h);
    h.s.handle_endpoint(id, Err(error), h.now);
    h.run();
}

/// Says what is to be said to the client's last message.
fn answer(h: &mut Harness, conn: usize, verb: &str, rest: &str) {
    let last = h.texts(conn).pop().expect("it asked");
    let id = last.split(' ').nth(1).unwrap();
    h.feed(conn, &text(&format!("{verb} {id}{rest}")));
}

/// Online on a first connection that was made with this endpoint.
fn online(config: Config, endpoint: Endpoint) -> Harness {
    let mut h = Harness::new(config);
    provide(&mut h, endpoint);
    h.open(0);
    if h.s.state() == State::Authenticating {
        answer(&mut h, 0, "ok", "");
    }
    assert_eq!(h.s.state(), State::Online, "{:?}", h.events);
    h.told();
    h
}

/// Time passes until the provider is asked.
fn until_asked(h: &mut Harness) -> Instant {
    let at = h.s.status(h.now).refresh_at.expect("something is to be renewed");
    h.advance((at - h.now).saturating_sub(millis(1)));
    assert_eq!(h.asked, [], "not before its time");
    h.advance(at - h.now);
    assert_eq!(h.asked.len(), 1, "{:?}", h.s.status(h.now));
    at
}

fn told(h: &mut Harness) -> Vec<String> {
    let now = h.now;
    let within = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now));
    let short = |event: &OwnedEvent| match event {
        OwnedEvent::Refreshed { by, .. } => format!("refreshed {by:?}"),
        OwnedEvent::RefreshFailed { failures, error, .. } => format!("refresh failed {failures}: {error}"),
        OwnedEvent::AttemptFailed { error, retry_at, .. } if retry_at.is_none() => {
            format!("gave up: {error}")
        }
        OwnedEvent::AttemptFailed { error, .. } => format!("failed: {error}"),
        OwnedEvent::Lost { error, retry_at, .. } if within(*retry_at) == Some(Duration::ZERO) => {
            format!("left: {error}")
        }
        other => in_short(other),
    };
    h.told().iter().map(short).collect()
}

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
fn refresh_comes_at_four_fifths_of_the_life_and_not_for_all_at_once() {
    let mut moments = BTreeSet::new();
    for seed in 0..200 {
        let mut h = Harness::seeded(base(Feed::default()), [seed; 32]);
        provide(&mut h, short("t1"));
        let given = h.now;
        h.advance(secs(5));
        h.open(0);
        let status = h.s.status(h.now);
        assert_eq!(status.expires_at, Some(given + secs(100)), "counted from the answer");
        let at = until_asked(&mut h) - given;
        assert!((secs(72)..=secs(80)).contains(&at), "{at:?}");
        moments.insert(at);
        assert_eq!(h.s.status(h.now).refresh_at, None, "under way");
    }
    assert!(moments.len() > 190 && moments.first() < Some(&secs(73)) && moments.last() > Some(&secs(79)));

    let rows = [
        (short("t").refresh_after(0.5), 45, 50),
        (endpoint("t").expires_at(start().system + secs(1000)), 720, 800),
        // Not sooner than after a second.
        (endpoint("t").expires_in(secs(1)).refresh_after(0.05), 1, 1),
        // A year is enough.
        (endpoint("t").expires_in(Duration::MAX), 262 * 86_400, 292 * 86_400),
    ];
    for (endpoint, earliest, latest) in rows {
        let mut h = online(base(Feed::default()), endpoint);
        let at = h.s.status(h.now).refresh_at.unwrap() - h.now;
        assert!((secs(earliest)..=secs(latest)).contains(&at), "{at:?}");
        until_asked(&mut h);
    }
    for lasting in [endpoint("t"), short("t").refresh(Refresh::Off)] {
        let mut h = online(base(Feed::default()), lasting);
        assert_eq!(h.s.status(h.now).refresh_at, None);
        h.advance(secs(1000));
        assert_eq!((h.asked.len(), h.s.state()), (0, State::Online));
    }
}

#[test]
fn the_session_changes_over_to_a_connection_with_the_fresh_endpoint() {
    let mut h = online(base(AUTH), short("t1"));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    answer(&mut h, 0, "ok", "");
    until_asked(&mut h);
    // It goes on meanwhile.
    h.s.send(Message::Text("meanwhile"), SendOptions::default(), h.now).unwrap();
    h.feed(0, &text("data"));
    h.told();
    let fresh = Endpoint::new("ws://127.0.0.1:7/").unwrap().param("token", "t2").expires_in(secs(1000));
    provide(&mut h, fresh);
    assert_eq!(
        told(&mut h),
        ["refreshed Reconnect", "left: the session changes over to a connection with a fresh endpoint"]
    );
    h.flush(0);
    assert_eq!((h.close_frame(0), h.conns.len(), h.asked.len()), (Some((1000, String::new())), 2, 0));
    assert_eq!((h.conns[1].addr.port(), h.s.status(h.now).failures), (7, 0));
    h.open(1);
    answer(&mut h, 1, "ok", "");
    answer(&mut h, 1, "ok", "");
    assert_eq!(told(&mut h), ["authenticated", "gap a Reconnect", "+a", "online true"]);
    assert!(h.texts(1).iter().all(|text| text.contains(" t2")), "{:?}", h.texts(1));
    // Its life counts from when it was given, and the next time it is asked again.
    let at = h.s.status(h.now).refresh_at.unwrap() - h.now;
    assert!((secs(720)..=secs(800)).contains(&at), "{at:?}");
    // What was lost asks for itself.
    h.eof(1);
    let wait = h.s.status(h.now).retry_at.unwrap() - h.now;
    h.advance(wait);
    asked(&mut h);
}

#[test]
fn a_live_connection_is_authenticated_again() {
    let mut h = online(base(AGAIN), short("t1"));
    let at = until_asked(&mut h);
    h.advance(secs(1));
    provide(&mut h, short("t2"));
    assert_eq!(told(&mut h), ["refreshed Reauthenticate"]);
    h.flush(0);
    assert_eq!(h.texts(0), ["auth 1 t1", "auth 2 t2"]);
    // All goes on, what is new with the fresh token.
    assert_eq!(h.s.state(), State::Online);
    h.s.send(Message::Text("meanwhile"), SendOptions::default(), h.now).unwrap();
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.feed(0, &text("ok 2"));
    assert_eq!(told(&mut h), ["authenticated"]);
    assert_eq!(h.texts(0)[2..], ["meanwhile", "sub 3 t2 a"]);
    answer(&mut h, 0, "ok", "");
    assert_eq!(told(&mut h), ["+a"]);
    let status = h.s.status(h.now);
    assert_eq!((status.expires_at, status.state), (Some(at + secs(101)), State::Online));
    // And again, with the same connection.
    until_asked(&mut h);
    provide(&mut h, endpoint("t3"));
    h.flush(0);
    answer(&mut h, 0, "ok", "");
    assert_eq!(told(&mut h), ["refreshed Reauthenticate", "authenticated"]);
    assert_eq!((h.s.status(h.now).refresh_at, h.s.status(h.now).expires_at), (None, None));
    h.advance(secs(10_000));
    assert_eq!((h.conns.len(), h.asked.len(), h.s.state()), (1, 0, State::Online));
}

#[test]
fn a_refused_or_unanswered_reauthentication_changes_the_connection() {
    for refused in [true, false] {
        let mut h = online(base(AGAIN), short("t1"));
        until_asked(&mut h);
        provide(&mut h, short("t2"));
        h.flush(0);
        h.told();
        let error = if refused {
            answer(&mut h, 0, "no", " wrong");
            Error::Authentication(everwire_core::Refusal::new("wrong", None))
        } else {
            h.advance(secs(30) - millis(1));
            assert_eq!(told(&mut h), [""; 0]);
            h.advance(millis(1));
            Error::Timeout(Timeout::Authentication)
        };
        let lost = h.told();
        let [OwnedEvent::Lost { error: why, retry_at: Some(at), .. }] = &lost[..] else { panic!("{lost:?}") };
        assert_eq!(why.category(), error.category());
        // The token that was refused is not used again.
        h.advance(*at - h.now);
        provide(&mut h, short("t3"));
        h.open(1);
        assert!(h.texts(1)[0].ends_with(" t3"));
    }
    // The protocol may know that it is of no use.
    let mut h = online(base(Feed { refused: Some(Recovery::Stop), ..AGAIN }), short("t1"));
    until_asked(&mut h);
    provide(&mut h, short("t2"));
    h.flush(0);
    answer(&mut h, 0, "no", " revoked");
    assert_eq!(h.s.state(), State::Closed);
}

#[test]
fn fresh_parameters_may_just_take_the_place_of_the_old_ones() {
    let config = base(AGAIN).heartbeat_interval(secs(1000));
    let mut h = online(config, short("t1").refresh(Refresh::Parameters));
    until_asked(&mut h);
    h.flush(0);
    let before = h.texts(0).len();
    provide(&mut h, short("t2").refresh(Refresh::Parameters).heartbeat_interval(secs(3)));
    assert_eq!((told(&mut h), h.texts(0).len()), (vec!["refreshed Parameters".into()], before));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    assert!(h.texts(0).last().unwrap().ends_with(" t2 a"));
    h.advance(secs(3));
    h.flush(0);
    assert!(h.texts(0).last().unwrap().starts_with("beat"), "what else it says holds as well");
}

#[test]
fn a_provider_that_fails_while_online_costs_no_connection() {
    let mut h = online(base(AGAIN).connect_timeout(secs(2)), short("t1").at_expiry(AtExpiry::Disconnect));
    let begun = h.now;
    until_asked(&mut h);
    fail(&mut h, ProviderError::new("down"));
    let failed = h.told();
    let [OwnedEvent::RefreshFailed { failures: 1, retry_at: Some(at), expires_at, .. }] = failed[..] else {
        panic!("{failed:?}")
    };
    assert!(at <= h.now + secs(1) && expires_at == Some(begun + secs(100)));
    assert_eq!((h.s.status(h.now).refresh_at, h.s.status(h.now).refresh_failures), (Some(at), 1));
    h.s.send(Message::Text("meanwhile"), SendOptions::default(), h.now).unwrap();
    // The next time it does not answer at all, and then too late.
    until_asked(&mut h);
    let late = asked(&mut h);
    h.advance(secs(2) - millis(1));
    assert_eq!(told(&mut h), [""; 0]);
    h.advance(millis(1));
    assert_eq!(
        told(&mut h),
        ["refresh failed 2: the endpoint provider failed: no answer in 2s (Config::connect_timeout)"]
    );
    h.s.handle_endpoint(late, Ok(short("late")), h.now);
    h.run();
    assert_eq!(told(&mut h), [""; 0]);
    // A bad endpoint is a failure as well.
    until_asked(&mut h);
    provide(&mut h, endpoint("t2").pong_timeout(Duration::ZERO));
    let [OwnedEvent::RefreshFailed { failures: 3, error: Error::Endpoint(_), .. }] = h.told()[..] else {
        panic!()
    };
    until_asked(&mut h);
    provide(&mut h, short("t2").at_expiry(AtExpiry::Disconnect));
    h.flush(0);
    answer(&mut h, 0, "ok", "");
    assert_eq!(told(&mut h), ["refreshed Reauthenticate", "authenticated"]);
    let status = h.s.status(h.now);
    assert_eq!((status.refresh_failures, status.failures, h.conns.len()), (0, 0, 1));

    // Down for good: at its expiry, and not sooner, the connection is given up.
    let ends = status.expires_at.unwrap();
    while h.now < ends - millis(1) {
        if !h.asked.is_empty() {
            fail(&mut h, ProviderError::new("down"));
        }
        let Stop::Wait(Some(at)) = h.run() else { panic!() };
        h.now = at.min(ends - millis(1));
        h.run();
    }
    let failures = told(&mut h);
    assert!(
        failures.len() >= 3 && failures.iter().all(|told| told.starts_with("refresh failed")),
        "{failures:?}"
    );
    h.asked.clear();
    h.advance(millis(1));
    assert_eq!(told(&mut h), ["lost: the endpoint expired, and there was no fresh one"]);
    assert_eq!(h.now, ends);
    h.flush(0);
    assert_eq!(h.close_frame(0), Some((1000, String::new())));
    let wait = h.s.status(h.now).retry_at.unwrap() - h.now;
    h.asked.clear();
    h.advance(wait);
    provide(&mut h, short("t3"));
    assert_eq!(h.conns.len(), 2);
}

#[test]
fn a_connection_outlives_its_endpoint_unless_that_is_not_wanted() {
    let mut h = online(base(Feed::default()), short("t1"));
    let ends = h.s.status(h.now).expires_at.unwrap();
    until_asked(&mut h);
    let mut failures = 0;
    while h.now < ends + secs(1000) {
        fail(&mut h, ProviderError::new("down"));
        failures += 1;
        assert_eq!((h.s.state(), h.s.status(h.now).refresh_failures), (State::Online, failures));
        until_asked(&mut h);
    }
    // With delays up to 30 s, and not without end at once.
    assert!((30..200).contains(&failures), "{failures}");
    h.told();
    provide(&mut h, short("t2"));
    assert_eq!(told(&mut h).first().map(String::as_str), Some("refreshed Reconnect"));
}

#[test]
fn a_provider_that_will_not_refresh_is_not_asked_again_on_that_connection() {
    let mut h = online(base(Feed::default()), short("t1"));
    until_asked(&mut h);
    fail(&mut h, ProviderError::new("revoked").recovery(Recovery::Stop));
    let told = h.told();
    assert!(matches!(told[..], [OwnedEvent::RefreshFailed { retry_at: None, .. }]), "{told:?}");
    h.advance(secs(10_000));
    assert_eq!((h.asked.len(), h.s.state()), (0, State::Online));
    // One that counts is left alone for so long.
    let mut h = online(base(Feed::default()), short("t1"));
    until_asked(&mut h);
    fail(&mut h, ProviderError::new("429").recovery(Recovery::Backoff(secs(300))));
    let wait = h.s.status(h.now).refresh_at.unwrap() - h.now;
    assert!((secs(300)..=secs(301)).contains(&wait), "{wait:?}");
    until_asked(&mut h);
}

#[test]
fn an_authentication_that_ends_is_made_again() {
    let mut h = Harness::new(base(AUTH));
    provide(&mut h, endpoint("t1"));
    h.open(0);
    answer(&mut h, 0, "ok", " 900");
    assert_eq!(told(&mut h), ["authenticated", "online false"]);
    for n in 1..=3 {
        let (begun, status) = (h.now, h.s.status(h.now));
        assert_eq!(status.expires_at, Some(begun + secs(900)));
        let at = status.refresh_at.unwrap();
        assert!((secs(648)..=secs(720)).contains(&(at - begun)), "{:?}", at - begun);
        h.advance(at - begun - millis(1));
        h.flush(0);
        assert_eq!(h.texts(0).len(), n);
        h.advance(millis(1));
        h.flush(0);
        assert_eq!(h.texts(0).last(), Some(&format!("auth {} t1", n + 1)));
        // Asked once, however long it takes.
        h.advance(secs(20));
        assert_eq!((h.texts(0).len(), h.asked.len()), (n + 1, 0));
        answer(&mut h, 0, "ok", " 900");
        assert_eq!(told(&mut h), ["authenticated"]);
    }
    // A server that says that it lasts for no time at all is not stormed.
    h.advance(secs(720));
    h.flush(0);
    for _ in 0..5 {
        let before = h.texts(0).len();
        answer(&mut h, 0, "ok", " 0");
        h.advance(millis(999));
        h.flush(0);
        assert_eq!(h.texts(0).len(), before);
        h.advance(millis(1));
        h.flush(0);
        assert_eq!(h.texts(0).len(), before + 1);
    }
    h.told();
    answer(&mut h, 0, "no", " revoked");
    assert!(told(&mut h)[0].starts_with("lost: the server refused the authentication"));
    assert_eq!(h.s.status(h.now).refresh_at, None);
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

fn until_attempt(h: &mut Harness) {
    let wait = h.s.status(h.now).retry_at.expect("it tries again") - h.now;
    h.advance(wait);
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
fn a_fresh_endpoint_that_had_to_wait_for_too_long_is_not_used() {
    // Two attempts in 1000 s: the third has to wait.
    let config = base(Feed::default()).flap_budget((2, secs(1000)));
    let mut h = online(config, short("t1"));
    until_asked(&mut h);
    provide(&mut h, short("t2"));
    h.open(1);
    h.told();
    until_asked(&mut h);
    provide(&mut h, short("t3"));
    let lost = h.told();
    let Some(OwnedEvent::Lost { error: Error::Renewed, retry_at: Some(at), .. }) = lost.last() else {
        panic!("{lost:?}")
    };
    assert!(*at > h.now + secs(100), "the flap budget");
    h.advance(*at - h.now);
    assert_eq!((h.conns.len(), h.asked.len()), (2, 1), "it expired meanwhile, and is asked for anew");
}

/// Where a refresh can be when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The moment has come, and nobody polled.
    Due,
    /// The provider is at work.
    Asked,
    /// It failed, and is asked again later.
    Failed,
    /// The server has the fresh credentials, and did not answer yet.
    Reauthenticates,
    /// A fresh endpoint is there, and the old connection not left yet.
    Ready,
    /// Waits for the server's first word on a first connection.
    Greeting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Eof,
    Reset,
    CloseFrame,
    Reconnect,
    Close,
    Abort,
}

#[test]
fn whatever_happens_during_a_refresh_the_session_comes_back_or_ends() {
    use Stage::{Asked, Due, Failed, Greeting, Ready, Reauthenticates};
    for stage in [Due, Asked, Failed, Reauthenticates, Ready, Greeting] {
        for blow in [Blow::Eof, Blow::Reset, Blow::CloseFrame, Blow::Reconnect, Blow::Close, Blow::Abort] {
            ends(move || strike(stage, blow));
        }
    }
}

fn strike(stage: Stage, blow: Blow) {
    let feed = Feed { again: stage != Stage::Ready, greets: stage == Stage::Greeting, ..AUTH };
    let mut h = Harness::new(base(feed));
    provide(&mut h, short("t1"));
    h.open(0);
    let mut old = None;
    if stage != Stage::Greeting {
        answer(&mut h, 0, "ok", "");
        let at = h.s.status(h.now).refresh_at.unwrap();
        h.advance(at - h.now - millis(1));
        h.now = at;
    }
    if !matches!(stage, Stage::Due | Stage::Greeting) {
        let id = asked(&mut h);
        old = Some(id);
        match stage {
            Stage::Failed => h.s.handle_endpoint(id, Err(ProviderError::new("down")), h.now),
            Stage::Reauthenticates | Stage::Ready => h.s.handle_endpoint(id, Ok(short("t2")), h.now),
            _ => {}
        }
        if stage == Stage::Reauthenticates {
            h.run();
            h.flush(0);
            assert_eq!(h.texts(0).last().unwrap().split(' ').nth(2), Some("t2"));
        }
    }
    h.asked.clear();
    match blow {
        Blow::Eof => _ = h.eof(0),
        Blow::Reset => {
            let cause = Disconnect::Io { kind: std::io::ErrorKind::ConnectionReset, message: "reset".into() };
            h.s.handle_disconnected(h.conns[0].id, cause, h.now);
        }
        Blow::CloseFrame => _ = h.feed_silently(0, &close(1000, "")),
        Blow::Reconnect => h.s.reconnect(h.now),
        Blow::Close => h.s.close(CloseCode::Normal, "", h.now),
        Blow::Abort => h.s.abort(h.now),
    }
    h.run();
    let ended = matches!(blow, Blow::Close | Blow::Abort);
    // A late answer does nothing.
    if let Some(id) = old {
        let (conns, state) = (h.conns.len(), h.s.state());
        h.s.handle_endpoint(id, Ok(endpoint("late")), h.now);
        h.s.handle_endpoint(id, Err(ProviderError::new("late")), h.now);
        h.run();
        assert_eq!((h.conns.len(), h.s.state()), (conns, state), "{stage:?} {blow:?}");
    }
    let status = h.s.status(h.now);
    assert_eq!((status.refresh_at, status.expires_at, status.refresh_failures), (None, None, 0));
    if ended {
        h.advance(secs(1000));
        assert_eq!((h.s.state(), h.asked.len()), (State::Closed, 0), "{stage:?} {blow:?}");
        return assert_eq!(h.run(), Stop::Closed);
    }
    // Back, having asked once for the attempt; not at all if an endpoint was there for it.
    if let Some(at) = status.retry_at {
        h.asked.clear();
        h.advance(at - h.now);
    }
    if stage == Stage::Ready {
        assert_eq!(h.asked, [], "{blow:?}");
    } else {
        h.asked.drain(..h.asked.len().saturating_sub(1));
        provide(&mut h, short("t3"));
    }
    let conn = h.conns.len() - 1;
    assert_eq!(conn, 1, "{stage:?} {blow:?}");
    h.open(conn);
    if stage == Stage::Greeting {
        h.feed(conn, &text("hello"));
    }
    let token = if stage == Stage::Ready { "t2" } else { "t3" };
    assert_eq!(h.texts(conn)[0].split(' ').nth(2), Some(token), "{stage:?} {blow:?}");
    answer(&mut h, conn, "ok", "");
    assert_eq!(h.s.state(), State::Online, "{stage:?} {blow:?}");
    until_asked(&mut h);
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
