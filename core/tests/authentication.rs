//! Authentication: before anything else on each connection, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{
    Config, Error, JsonRpc, Limit, Message, OnDisconnect, OwnedEvent, Policy, Recovery, Request,
    RequestOptions, SendError, SendOptions, SharedLimits, State, SubscribeOptions, SubscriptionState,
    Timeout,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime};

/// A venue that wants a fresh number and the time with each authentication.
fn venue() -> JsonRpc {
    let made = AtomicU32::new(0);
    JsonRpc::new().authenticate("auth", move |context| {
        let n = made.fetch_add(1, Ordering::Relaxed) + 1;
        let at = context.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        format!(r#"{{"secret":"s{n}","at":{at}}}"#)
    })
}

fn hold() -> RequestOptions {
    RequestOptions { on_disconnect: OnDisconnect::Hold, ..RequestOptions::default() }
}

/// A first connection is open, and was asked to authenticate.
fn opened(config: Config) -> Harness {
    let mut h = Harness::new(config);
    h.run();
    h.open(0);
    h
}

fn accept_auth(h: &mut Harness, conn: usize) {
    let id = last_id(h, conn, "auth");
    h.feed(conn, &result(id, r#""welcome""#));
}

fn refuse_auth(h: &mut Harness, conn: usize) {
    let id = last_id(h, conn, "auth");
    h.feed(conn, &rpc_error(id, "wrong key"));
}

/// When the loss that was told last is to be followed by an attempt.
fn retry_at(h: &mut Harness) -> Option<Instant> {
    let lost = h.told().into_iter().rev().find_map(|event| match event {
        OwnedEvent::Lost { retry_at, error: Error::Authentication(_), .. } => Some(retry_at),
        _ => None,
    });
    lost.expect("the connection is lost for want of authentication")
}

#[test]
fn authentication_then_topics_then_held_requests_then_the_user() {
    let mut h = Harness::new(config().protocol(venue()));
    h.s.subscribe("early", SubscribeOptions::default(), h.now);
    let held = h.s.request(Request::new("held"), hold(), h.now).unwrap();
    h.run();
    h.connect(0);
    h.advance(millis(250));
    let response = accept(&h.conns[0].written, "");
    h.feed(0, &response);
    assert_eq!(wire(&h, 0), ["auth"]);
    let text = &h.texts(0)[0];
    assert!(text.ends_with(r#""params":{"secret":"s1","at":1767225600250}}"#), "{text}");
    assert_eq!(h.s.state(), State::Authenticating);

    // Whatever is wanted meanwhile waits or is refused; whatever arrives is told.
    h.s.subscribe("meanwhile", SubscribeOptions::default(), h.now);
    let late = h.s.request(Request::new("late"), hold(), h.now).unwrap();
    let refused = h.s.request(Request::new("now"), RequestOptions::default(), h.now);
    assert_eq!(refused, Err(SendError::Offline));
    let sent = h.s.send(Message::Text("now"), SendOptions::default(), h.now);
    assert_eq!(sent, Err(SendError::Offline));
    h.feed(0, &notification("system", 1));
    assert_eq!(brief(&mut h), ["?system:1"]);
    assert_eq!(wire(&h, 0), ["auth"]);
    assert!(h.s.subscriptions().all(|s| s.state == SubscriptionState::Waiting));

    accept_auth(&mut h, 0);
    assert_eq!(brief(&mut h), ["authenticated"]);
    assert_eq!(
        (h.s.state(), wire(&h, 0)),
        (State::Restoring, vec!["auth".into(), "subscribe early,meanwhile".into()])
    );
    confirm(&mut h, 0, 0);
    assert_eq!(brief(&mut h), ["+early", "+meanwhile", "online false"]);
    h.s.send(Message::Text("user"), SendOptions::default(), h.now).unwrap();
    h.flush(0);
    assert_eq!(wire(&h, 0), ["auth", "subscribe early,meanwhile", "held", "late", "user"]);
    h.feed(0, &[result(late.as_u64(), "2"), result(held.as_u64(), "1")].concat());
    assert_eq!(brief(&mut h), [format!("{} = 2", late.as_u64()), format!("{} = 1", held.as_u64())]);
}

#[test]
fn wrong_credentials_end_a_session_that_never_was_online() {
    let mut h = Harness::new(config().protocol(venue()));
    let held = h.s.request(Request::new("held"), hold(), h.now).unwrap().as_u64();
    h.run();
    h.open(0);
    refuse_auth(&mut h, 0);
    let error = r#"the server refused the authentication with code 7 ("wrong key")"#;
    let want =
        [format!("lost: {error}"), format!("{held} not sent: Closed"), format!("closed Some({error:?})")];
    assert_eq!(brief(&mut h), want);
    assert_eq!(h.close_frame(0), Some((1000, String::new())));
    assert_eq!(h.eof(0), Stop::Closed);
    assert_eq!((h.s.state(), h.conns.len()), (State::Closed, 1));
}

#[test]
fn once_it_was_online_the_credentials_are_tried_again() {
    let mut h = opened(config().protocol(venue()));
    accept_auth(&mut h, 0);
    assert_eq!(brief(&mut h), ["authenticated", "online false"]);
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    refuse_auth(&mut h, conn);
    assert!(retry_at(&mut h).is_some());
    let conn = h.next_conn();
    h.open(conn);
    assert!(h.texts(conn)[0].contains(r#""secret":"s3""#), "made anew for each connection");
    accept_auth(&mut h, conn);
    assert_eq!(brief(&mut h), ["authenticated", "gap  Reconnect", "online true"]);
}

#[test]
fn a_policy_may_stop_even_then() {
    let policy = Policy::default().on_authentication(Recovery::Stop).unwrap();
    let mut h = opened(config().protocol(venue()).policy(policy));
    accept_auth(&mut h, 0);
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    refuse_auth(&mut h, conn);
    assert_eq!(retry_at(&mut h), None);
    assert_eq!(h.s.state(), State::Closed);
}

#[test]
fn the_protocol_knows_better_than_the_policy() {
    let judge = |recovery| {
        let protocol = venue().recovery(move |_, error| (error?.code == 7).then_some(recovery));
        let mut h = opened(config().protocol(protocol).backoff(secs(1), secs(60)));
        refuse_auth(&mut h, 0);
        (h.now, retry_at(&mut h), h)
    };
    let (_, at, h) = judge(Recovery::Stop);
    assert_eq!((at, h.s.state()), (None, State::Closed));

    let (now, at, mut h) = judge(Recovery::Reconnect);
    assert!(at.unwrap() <= now + secs(1), "the usual delay");
    let conn = h.next_conn();
    assert_eq!(h.now, at.unwrap());
    h.open(conn);
    accept_auth(&mut h, conn);
    assert_eq!(brief(&mut h), ["authenticated", "gap  Reconnect", "online true"]);

    let (now, at, mut h) = judge(Recovery::Backoff(secs(30)));
    let at = at.unwrap();
    assert!(now + secs(30) <= at && at <= now + secs(31), "{:?}", at - now);
    assert_eq!(h.advance(at - now - millis(1)), Stop::Wait(Some(at)));
    assert_eq!(h.conns.len(), 1);

    // It is asked about this refusal only: what it said is forgotten with the next error.
    let conn = h.next_conn();
    let before = h.now;
    h.open(conn);
    h.eof(conn);
    let lost = h.told().pop();
    let Some(OwnedEvent::Lost { retry_at: Some(at), .. }) = lost else { panic!("{lost:?}") };
    assert!(at <= before + secs(4), "{:?}", at - before);
}

#[test]
fn no_answer_is_a_timeout_and_the_next_connection_is_asked_anew() {
    let mut h = opened(config().protocol(venue()).request_timeout(secs(3)));
    h.advance(millis(2999));
    assert_eq!(brief(&mut h), [""; 0]);
    h.advance(millis(1));
    h.flush(0);
    let told = h.told();
    let [OwnedEvent::Lost { error: Error::Timeout(Timeout::Authentication), retry_at: Some(_), .. }] =
        &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(h.close_frame(0), Some((1001, String::new())));
    let old = last_id(&h, 0, "auth");
    let conn = h.next_conn();
    h.open(conn);
    assert_ne!(last_id(&h, conn, "auth"), old);
    // The answer to the old one is no answer to this one.
    h.feed(conn, &result(old, "1"));
    assert_eq!((brief(&mut h).len(), h.s.state()), (1, State::Authenticating));
    accept_auth(&mut h, conn);
    assert_eq!(brief(&mut h), ["authenticated", "gap  Reconnect", "online true"]);
    // And one that comes twice is nobody's.
    accept_auth(&mut h, conn);
    assert!(brief(&mut h)[0].starts_with("message "));
    assert_eq!(h.s.state(), State::Online);
}

#[test]
fn an_answer_that_arrived_counts_however_late_the_user_takes_what_came_before() {
    let mut h = opened(config().protocol(venue()).request_timeout(secs(3)));
    h.takes = false;
    h.advance(millis(2999));
    let id = last_id(&h, 0, "auth");
    h.feed_silently(0, &[notification("x", 1), result(id, "1")].concat());
    assert_eq!(h.advance(secs(60)), Stop::Event);
    h.takes = true;
    h.run();
    assert_eq!(brief(&mut h), ["?x:1", "authenticated", "online false"]);
}

#[test]
fn a_loss_in_the_middle_keeps_what_waits() {
    let mut h = Harness::new(config().protocol(venue()));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    let held = h.s.request(Request::new("held"), hold(), h.now).unwrap().as_u64();
    h.run();
    h.open(0);
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(wire(&h, conn), ["auth"]);
    // By the user as well.
    h.s.reconnect(h.now);
    h.run();
    let conn = h.conns.len() - 1;
    h.open(conn);
    accept_auth(&mut h, conn);
    confirm(&mut h, conn, 0);
    h.feed(conn, &result(held, "1"));
    let want = [
        "lost: the connection ended without a close frame",
        "lost: a new connection was asked for",
        "authenticated",
        "+a",
        "online true",
        &format!("{held} = 1"),
    ];
    assert_eq!(brief(&mut h), want);
    assert_eq!(wire(&h, conn), ["auth", "subscribe a", "held"]);
}

#[test]
fn closing_in_the_middle_settles_all() {
    let mut h = Harness::new(config().protocol(venue()));
    let held = h.s.request(Request::new("held"), hold(), h.now).unwrap().as_u64();
    h.run();
    h.open(0);
    h.s.close(everwire_core::CloseCode::Normal, "bye", h.now);
    h.run();
    h.flush(0);
    accept_auth_after_close(&mut h);
    assert_eq!(h.close_frame(0), Some((1000, "bye".into())));
    h.feed(0, &close(1000, ""));
    let told = brief(&mut h);
    assert_eq!(told.first(), Some(&format!("{held} not sent: Closed")));
    assert_eq!(told.last(), Some(&"closed None".to_owned()));
    assert!(!told.iter().any(|event| event == "authenticated" || event.starts_with("online")), "{told:?}");
}

/// The answer that crosses the close frame.
fn accept_auth_after_close(h: &mut Harness) {
    let id = last_id(h, 0, "auth");
    h.feed(0, &result(id, "1"));
}

#[test]
fn authentication_that_waited_for_the_limiter_ends_with_its_connection() {
    ends(|| {
        let shared = SharedLimits::new();
        let limit = || Limit::window("calls", 1, secs(100)).shared("account");
        // Another session on the account spends the whole budget.
        let spender = || config().protocol(JsonRpc::new()).send_limit(limit()).shared_limits(shared.clone());
        let mut other = Harness::online(spender());
        other.s.send(Message::Text("spent"), SendOptions::default(), other.now).unwrap();
        other.flush(0);

        let mine = config().protocol(venue()).send_limit(limit()).shared_limits(shared.clone());
        let mut h =
            opened(mine.request_timeout(secs(30)).connect_timeout(secs(1000)).backoff(millis(1), millis(1)));
        assert_eq!((wire(&h, 0), h.s.state()), (vec![], State::Authenticating));
        h.eof(0);
        let conn = h.next_conn();
        h.advance(secs(20));
        // TCP takes its time: there is no connection when the time of the first call is over.
        h.advance(secs(20));
        h.open(conn);
        h.advance(secs(1));
        assert_eq!(h.s.state(), State::Authenticating, "{:?}", h.told());
        h.advance(secs(28));
        assert_eq!(h.s.state(), State::Authenticating);
        assert_eq!(brief(&mut h), ["lost: the connection ended without a close frame"]);
    });
}

#[test]
fn what_it_authenticates_with_is_never_shown() {
    let protocol = JsonRpc::new().authenticate("auth", |_| r#"{"key":"hunter2"}"#.to_owned());
    let config = config().protocol(protocol);
    let shown = format!("{config:?}");
    let mut h = opened(config);
    assert!(h.texts(0)[0].contains("hunter2"));
    refuse_auth(&mut h, 0);
    let status = h.s.status(h.now);
    let told = h.told();
    let shown = format!("{shown} {:?} {status:?} {told:?}", h.s);
    assert!(!shown.contains("hunter2"), "{shown}");
}
