//! What answers and first words say about the connection that they came over.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::Fault;
use everwire_core::{
    CloseCode, Config, Endpoint, Error, Output, OwnedEvent, Recovery, Request, RequestOptions, State,
};
use needs::*;

fn terminated(fault: Fault<'_>) -> Option<Recovery> {
    match fault {
        Fault::Request("1:too much") => Some(Recovery::Backoff(secs(100))),
        Fault::Request("2:moved") => Some(Recovery::Reconnect),
        Fault::Request("3:who are you?") => Some(Recovery::Reauthenticate),
        Fault::Request("4:never") => Some(Recovery::Stop),
        _ => None,
    }
}

/// It is online and has asked `m`, request 2.
fn asked() -> Harness {
    let mut h = opened(Words { recovery: terminated, ..Words::default() });
    assert_eq!(brief(&mut h), ["online false"]);
    h.s.request(Request::new("m"), RequestOptions::default(), h.now).unwrap();
    h.run();
    h.flush(0);
    assert_eq!(h.texts(0), ["ask 2 m"]);
    h
}

/// How long the next attempt waits.
fn wait(event: &OwnedEvent, h: &Harness) -> std::time::Duration {
    let OwnedEvent::Lost { error: Error::Notice(_), retry_at: Some(at), .. } = event else {
        panic!("{event:?}")
    };
    *at - h.now
}

#[test]
fn an_error_of_the_users_request_may_end_the_connection() {
    for (error, least, most) in [
        ("1:too much", secs(100), secs(102)),
        ("2:moved", secs(0), secs(2)),
        ("3:who are you?", secs(0), secs(2)),
    ] {
        let mut h = asked();
        // What came with it is told first.
        h.feed(0, &[text(&format!("no 2 {error}")), text("a 1")].concat());
        let told = h.told();
        let [OwnedEvent::Response { .. }, OwnedEvent::Message { .. }, lost] = &told[..] else {
            panic!("{told:?}")
        };
        let wait = wait(lost, &h);
        assert!(least <= wait && wait <= most, "{error}: {wait:?}");
        assert_eq!((h.s.state(), h.close_frame(0)), (State::Backoff, Some((1000, String::new()))));
    }
}

#[test]
fn it_is_kept_to_when_the_server_ends_the_connection_at_once() {
    let mut h = asked();
    h.feed(0, &[text("no 2 1:too much"), close(1000, "")].concat());
    let told = h.told();
    assert!(wait(told.last().unwrap(), &h) >= secs(100));
    let mut h = asked();
    h.feed_silently(0, &text("no 2 1:too much"));
    h.eof(0);
    let told = h.told();
    assert!(wait(told.last().unwrap(), &h) >= secs(100), "{told:?}");
}

#[test]
fn any_other_error_is_the_users() {
    for said in ["no 2 4:never", "no 2 9:no such thing", "ok 2 1:too much", "no 7 1:too much"] {
        let mut h = asked();
        say(&mut h, 0, &[said]);
        assert_eq!((h.told().len(), h.s.state()), (1, State::Online), "{said}");
    }
}

#[test]
fn who_closes_does_not_come_back_for_it() {
    let mut h = asked();
    h.s.close(CloseCode::Normal, "", h.now);
    h.run();
    say(&mut h, 0, &["no 2 1:too much"]);
    h.feed(0, &close(1000, ""));
    assert_eq!((brief(&mut h).last().unwrap().as_str(), h.s.state()), ("closed None", State::Closed));
}

#[test]
fn a_first_word_that_is_for_another_connection_fails_the_attempt() {
    let words = Words { greets: true, ..Words::default() };
    let mut h = Harness::new(Config::provided().protocol(words).backoff(millis(10), millis(10)));
    for (conn, id) in ["one", "two"].into_iter().enumerate() {
        let endpoint = Endpoint::new("ws://127.0.0.1:9/").unwrap().param("id", id);
        h.run();
        let Some(Output::Provide(asked)) = h.asked.pop() else { panic!("it asks") };
        h.s.handle_endpoint(asked, Ok(endpoint), h.now);
        h.run();
        h.open(conn);
        if conn == 0 {
            subscribe(&mut h, "a");
            say(&mut h, 0, &["hello zero", "hello one"]);
            let told = h.told();
            let [OwnedEvent::Lost { error: got @ Error::Unsupported(_), retry_at: Some(at), .. }] = &told[..]
            else {
                panic!("{told:?}")
            };
            assert_eq!(
                got.to_string(),
                "the protocol could not take the server's first word: it is for zero"
            );
            assert_eq!((h.texts(0), h.close_frame(0)), (vec![], Some((1000, String::new()))));
            h.advance(*at - h.now);
        }
    }
    // Only the first is looked at.
    say(&mut h, 1, &["hello two", "hello zero", "ok 2 a"]);
    assert_eq!((brief(&mut h), h.s.state()), (vec!["+a".into(), "online true".into()], State::Online));
}
