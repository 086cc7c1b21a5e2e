//! What a connection is told before anything else: authentication whose outcome has no id, what later messages know of it, and what prepares a
//! connection.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::{Ack, Fault};
use everwire_core::{
    CloseCode, Error, Limit, OwnedEvent, Policy, Recovery, Request, RequestOptions, State, Timeout,
};
use needs::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn separate() -> Words {
    Words { authenticates: Some(Ack::Separate), ..Words::default() }
}

fn prepared(steps: &[Ack]) -> Words {
    Words { steps: steps.to_vec(), ..Words::default() }
}

#[test]
fn an_authentication_may_be_answered_without_its_id() {
    let mut h = opened(separate());
    subscribe(&mut h, "a");
    assert_eq!((h.texts(0), h.s.state()), (vec!["auth 1".into()], State::Authenticating));
    // That it was understood is no answer yet.
    say(&mut h, 0, &["ok 1 queued"]);
    assert_eq!((brief(&mut h).len(), h.s.state()), (0, State::Authenticating));
    h.now += millis(40);
    say(&mut h, 0, &["granted token-1"]);
    assert_eq!(brief(&mut h), ["authenticated"]);
    assert_eq!(h.s.latency().request.unwrap().last, millis(40));
    assert_eq!(h.texts(0)[1..], ["sub 2 a <token-1>"]);
    // Neither a late response nor another grant means anything any more.
    say(&mut h, 0, &["granted token-2", "ok 2 a"]);
    assert_eq!(brief(&mut h), ["+a", "online false"]);
    h.advance(secs(60));
    assert_eq!((brief(&mut h).len(), h.s.state()), (0, State::Online), "it is no timeout either");
}

#[test]
fn it_may_be_refused_without_its_id_or_with_it() {
    for refusal in ["denied 7:wrong key", "no 1 7:wrong key"] {
        let mut h = opened(separate());
        say(&mut h, 0, &[refusal]);
        let error = r#"the server refused the authentication with code 7 ("wrong key")"#;
        assert_eq!(brief(&mut h), [format!("lost: {error}"), format!("closed Some({error:?})")]);
        assert_eq!(h.close_frame(0), Some((1000, String::new())));
    }
}

#[test]
fn no_answer_at_all_is_a_timeout() {
    let mut h = opened_with(separate(), |config| config.request_timeout(secs(3)));
    h.advance(secs(3));
    let told = h.told();
    assert!(
        matches!(&told[..], [OwnedEvent::Lost { error: Error::Timeout(Timeout::Authentication), .. }]),
        "{told:?}"
    );
    // What comes late on the next connection is for its own authentication, and what is unasked for is nobody's.
    let conn = h.next_conn();
    h.open(conn);
    say(&mut h, conn, &["granted x", "granted y", "denied 1:too late"]);
    let want = [
        "authenticated",
        "gap  Reconnect",
        "online true",
        r#"Notice { text: "1:too late", recovery: None, "#,
    ];
    let told = brief(&mut h);
    assert_eq!(told[..3], want[..3]);
    assert!(told[3].starts_with(want[3]), "{told:?}");
    assert_eq!((told.len(), h.s.state()), (4, State::Online));
}

#[test]
fn one_that_need_not_be_separate_may_be_answered_so_too() {
    let mut h = opened(Words { authenticates: Some(Ack::Response), ..Words::default() });
    say(&mut h, 0, &["granted t"]);
    assert_eq!(brief(&mut h), ["authenticated", "online false"]);
    // Its response comes behind that: it may hold a token, and is nobody's business.
    say(&mut h, 0, &["ok 1 t"]);
    assert_eq!(brief(&mut h), [""; 0]);
}

#[test]
fn every_message_knows_what_was_granted_last_on_its_connection() {
    let words =
        Words { lasts: Some(secs(100)), unsubscribes: Ack::None, farewell: Some(Ack::None), ..separate() };
    let mut h = opened_with(words, |config| config.heartbeat_interval(secs(50)));
    say(&mut h, 0, &["granted tok-1"]);
    let a = subscribe(&mut h, "a");
    h.s.request(Request::new("m"), RequestOptions::default(), h.now).unwrap();
    h.run();
    h.s.unsubscribe(a, h.now);
    h.run();
    h.flush(0);
    h.advance(secs(50));
    h.flush(0);
    let sent = h.texts(0);
    assert_eq!(sent[1..], ["sub 2 a <tok-1>", "ask 3 m <tok-1>", "unsub 4 a <tok-1>", "beat 5 <tok-1>"]);
    // It is made again with what it was granted before.
    h.advance(secs(32));
    h.flush(0);
    assert_eq!(h.texts(0)[5..], ["auth 6 <tok-1>"]);
    say(&mut h, 0, &["granted tok-2"]);
    h.s.request(Request::new("n"), RequestOptions::default(), h.now).unwrap();
    h.run();
    h.flush(0);
    assert_eq!(h.texts(0)[6..], ["ask 7 n <tok-2>"]);
    h.s.close(CloseCode::Normal, "", h.now);
    h.run();
    h.flush(0);
    assert_eq!(h.texts(0)[7..], ["bye 8 <tok-2>"]);

    let told = h.told();
    let shown = format!("{:?} {:?} {told:?}", h.s, h.s.status(h.now));
    assert!(!shown.contains("tok-"), "{shown}");
}

#[test]
fn the_next_connection_knows_nothing_of_it() {
    let mut h = opened(separate());
    say(&mut h, 0, &["granted tok-1"]);
    h.eof(0);
    // Nor does what is written between two connections; when it goes out it is written anew.
    let held =
        RequestOptions { on_disconnect: everwire_core::OnDisconnect::Hold, ..RequestOptions::default() };
    h.s.request(Request::new("m"), held, h.now).unwrap();
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(h.texts(conn), ["auth 3"]);
    say(&mut h, conn, &["granted other"]);
    assert_eq!(h.texts(conn), ["auth 3", "ask 2 m <other>"]);
}

#[test]
fn authentications_that_are_made_again_are_granted_in_their_order() {
    let words = Words { lasts: Some(secs(10)), ..separate() };
    let mut h = opened(words);
    say(&mut h, 0, &["granted tok-1"]);
    for n in 2..5 {
        h.advance(secs(8));
        h.flush(0);
        assert_eq!(h.texts(0).len(), n, "{:?}", h.texts(0));
        say(&mut h, 0, &[&format!("granted {n}")]);
    }
    assert_eq!(h.texts(0), ["auth 1", "auth 2 <tok-1>", "auth 3 <2>", "auth 4 <3>"]);
    assert_eq!(h.s.state(), State::Online);
}

#[test]
fn a_connection_is_prepared_step_by_step_before_topics() {
    let words = Words { authenticates: Some(Ack::Response), greets: true, ..prepared(&[Ack::Response; 3]) };
    let mut h = opened(words);
    subscribe(&mut h, "a");
    assert_eq!((h.texts(0).len(), h.s.state()), (0, State::Authenticating));
    say(&mut h, 0, &["hello"]);
    assert_eq!((h.texts(0), h.s.state()), (vec!["auth 1".into()], State::Authenticating));
    say(&mut h, 0, &["ok 1 t"]);
    assert_eq!((h.texts(0)[1..].to_vec(), h.s.state()), (vec!["prep 2 0 <t>".into()], State::Preparing));
    // Data is told meanwhile, and the answer to the authentication that comes twice is nobody's.
    say(&mut h, 0, &["news", "ok 1 t"]);
    say(&mut h, 0, &["ok 2"]);
    say(&mut h, 0, &["ok 3 whatever"]);
    assert_eq!((h.texts(0)[3..].to_vec(), h.s.state()), (vec!["prep 4 2 <t>".into()], State::Preparing));
    say(&mut h, 0, &["ok 4"]);
    assert_eq!((h.texts(0)[4..].to_vec(), h.s.state()), (vec!["sub 5 a <t>".into()], State::Restoring));
    say(&mut h, 0, &["ok 5 a"]);
    assert_eq!(brief(&mut h), ["authenticated", "message news", "message ok 1 t", "+a", "online false"]);
    // Anew on each connection.
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    say(&mut h, conn, &["hello"]);
    say(&mut h, conn, &["ok 6 u"]);
    assert_eq!(h.texts(conn), ["auth 6", "prep 7 0 <u>"]);
}

#[test]
fn steps_that_are_not_answered_follow_on_each_other() {
    let mut h = opened(prepared(&[Ack::None, Ack::None, Ack::Separate, Ack::None]));
    assert_eq!(
        (h.texts(0), h.s.state()),
        (vec!["prep 2 0".into(), "prep 3 1".into(), "prep 4 2".into()], State::Preparing)
    );
    // Nothing but a response answers a step, whatever the protocol says.
    say(&mut h, 0, &["granted x", "ok 4"]);
    assert_eq!((h.texts(0)[3..].to_vec(), h.s.state()), (vec!["prep 5 3".into()], State::Online));
    assert_eq!(brief(&mut h), ["online false"]);
}

#[test]
fn reauthentication_prepares_nothing() {
    let words = Words { lasts: Some(secs(10)), ..separate() };
    let mut h = opened(Words { steps: vec![Ack::None], ..words });
    say(&mut h, 0, &["granted a"]);
    h.advance(secs(8));
    h.flush(0);
    say(&mut h, 0, &["granted b"]);
    assert_eq!(h.texts(0), ["auth 1", "prep 2 0 <a>", "auth 3 <a>"]);
    assert_eq!(brief(&mut h), ["authenticated", "online false", "authenticated"]);
}

#[test]
fn a_refused_step_ends_the_connection() {
    let mut h = opened(prepared(&[Ack::Response; 2]));
    say(&mut h, 0, &["ok 2", "no 3 13:no such scope"]);
    let error = r#"the server refused what prepares a connection with code 13 ("no such scope")"#;
    assert_eq!(brief(&mut h), [format!("lost: {error}")]);
    assert_eq!(h.close_frame(0), Some((1000, String::new())));
    // It is tried again: never online, with a fixed URL and whatever the policy says of authentication.
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(h.texts(conn), ["prep 5 0"]);

    let stop = |fault: Fault<'_>| matches!(fault, Fault::Preparation("13:x")).then_some(Recovery::Stop);
    let mut h = opened(Words { recovery: stop, ..prepared(&[Ack::Response]) });
    say(&mut h, 0, &["no 2 13:x"]);
    assert_eq!(h.s.state(), State::Closed, "the protocol knows better");
}

#[test]
fn a_step_without_an_answer_is_a_timeout() {
    let mut h = opened_with(prepared(&[Ack::Response; 2]), |config| config.request_timeout(secs(3)));
    h.advance(secs(2));
    say(&mut h, 0, &["ok 2"]);
    h.advance(millis(2999));
    assert_eq!(brief(&mut h), [""; 0]);
    h.advance(millis(1));
    h.flush(0);
    assert_eq!(brief(&mut h), ["lost: the server did not answer what prepares a connection in time"]);
    assert_eq!(h.close_frame(0), Some((1001, String::new())));
}

#[test]
fn steps_are_limited_and_wait_for_the_limiter() {
    let limits = vec![Limit::window("preparing", 1, secs(10)).margin(secs(0))];
    let mut h = opened(Words { limits, ..prepared(&[Ack::None; 3]) });
    assert_eq!((h.texts(0).len(), h.s.state()), (1, State::Preparing));
    h.advance(secs(10));
    h.flush(0);
    assert_eq!((h.texts(0).len(), h.s.state()), (2, State::Preparing));
    h.advance(secs(10));
    h.flush(0);
    assert_eq!(
        (h.texts(0), h.s.state()),
        (vec!["prep 2 0".into(), "prep 3 1".into(), "prep 4 2".into()], State::Online)
    );
}

#[test]
fn a_protocol_that_never_ends_its_steps_is_stopped() {
    ends(|| {
        let h = opened(prepared(&[Ack::None; 32]));
        assert_eq!((h.texts(0).len(), h.s.state()), (32, State::Online));
        let mut h = opened(prepared(&[Ack::None; 33]));
        let error =
            "the protocol could not write what prepares the connection: more than 32 messages are too many";
        assert_eq!(brief(&mut h), [format!("lost: {error}")]);
        assert!(h.s.status(h.now).retry_at.is_some());
        h.next_conn();
    });
}

#[test]
fn closing_in_the_middle_of_it_ends_it() {
    let mut h = opened(prepared(&[Ack::Response; 2]));
    h.s.close(CloseCode::Normal, "bye", h.now);
    h.run();
    h.flush(0);
    say(&mut h, 0, &["ok 2"]);
    assert_eq!(h.texts(0), ["prep 2 0"]);
    assert_eq!(h.close_frame(0), Some((1000, "bye".into())));
    h.feed(0, &close(1000, ""));
    assert_eq!(brief(&mut h).last().unwrap(), "closed None");
}

#[test]
fn a_signer_that_fails_is_no_refusal() {
    for words in [separate(), prepared(&[Ack::Response])] {
        let unsigned = Arc::new(AtomicU32::new(2));
        let prepares = !words.steps.is_empty();
        let policy = Policy::default().on_authentication(Recovery::Stop).unwrap();
        let mut h =
            opened_with(Words { unsigned: unsigned.clone(), ..words }, |config| config.policy(policy));
        let what = if prepares { "what prepares the connection" } else { "the authentication" };
        let error = format!("lost: the protocol could not write {what}: the signer does not answer");
        assert_eq!(brief(&mut h), std::slice::from_ref(&error), "tried again, though the URL is fixed");
        assert_eq!(h.close_frame(0), Some((1000, String::new())));
        let conn = h.next_conn();
        h.open(conn);
        assert_eq!(brief(&mut h), [error]);
        assert_eq!(h.s.status(h.now).failures, 2);
        let conn = h.next_conn();
        h.open(conn);
        assert_eq!(h.texts(conn).len(), 1);
        assert!(matches!(h.s.state(), State::Authenticating | State::Preparing));
    }
}

#[test]
fn a_signer_that_fails_later_costs_no_connection() {
    let unsigned = Arc::new(AtomicU32::new(0));
    let words = Words { lasts: Some(secs(100)), unsigned: unsigned.clone(), ..separate() };
    let mut h = opened_with(words, |config| config.backoff(secs(1), secs(4)));
    say(&mut h, 0, &["granted a"]);
    assert_eq!(brief(&mut h), ["authenticated", "online false"]);
    let expires_at = h.now + secs(100);
    unsigned.store(3, Ordering::Relaxed);
    h.advance(secs(95));
    h.flush(0);
    let told = h.told();
    let mut last = h.now - secs(95) + secs(72);
    for (n, event) in told.iter().enumerate() {
        let OwnedEvent::RefreshFailed { failures, error, retry_at, expires_at: until, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!((*failures as usize, *until), (n + 1, Some(expires_at)));
        assert_eq!(
            error.to_string(),
            "the protocol could not write the authentication: the signer does not answer"
        );
        assert!(retry_at.unwrap() > last, "later each time");
        last = retry_at.unwrap();
    }
    assert_eq!(told.len(), 3);
    assert_eq!(h.texts(0)[1..].len(), 1, "then it could");
    say(&mut h, 0, &["granted b"]);
    assert_eq!((brief(&mut h), h.s.state()), (vec!["authenticated".into()], State::Online));
}
