//! Requests that go out later than they were made, or again: they say what holds when they do.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::Ack;
use everwire_core::{Limit, OnDisconnect, Request, RequestOptions, State};
use needs::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn granted() -> Words {
    Words { authenticates: Some(Ack::Separate), ..Words::default() }
}

/// One request in 10 s.
fn paced() -> Words {
    Words {
        limits: vec![Limit::window("requesting", 1, secs(10)).margin(secs(0))],
        lasts: Some(secs(5)),
        ..granted()
    }
}

/// It is online, authenticated with `one`.
fn online(words: Words) -> Harness {
    let mut h = opened(words);
    say(&mut h, 0, &["granted one"]);
    assert_eq!((h.s.state(), h.told().len()), (State::Online, 2));
    h
}

fn ask(h: &mut Harness, method: &str, on_disconnect: OnDisconnect) {
    let options = RequestOptions::default().on_disconnect(on_disconnect);
    h.s.request(Request::new(method).params("[1]"), options, h.now).unwrap();
    h.run();
    h.flush(0);
}

/// The connection is lost, and the next one authenticated with `two`: what is said on it then.
fn reopen(h: &mut Harness) -> Vec<String> {
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    say(h, conn, &["granted two"]);
    h.texts(conn)[1..].to_vec()
}

#[test]
fn what_is_sent_again_is_written_for_the_new_connection() {
    let mut h = online(granted());
    ask(&mut h, "m", OnDisconnect::Resend);
    ask(&mut h, "n", OnDisconnect::Fail);
    assert_eq!(h.texts(0)[1..], ["ask 2 m [1] <one>", "ask 3 n [1] <one>"]);
    assert_eq!(reopen(&mut h), ["ask 2 m [1] <two>"]);
    say(&mut h, 1, &["ok 2 done"]);
    assert_eq!(brief(&mut h).last().unwrap(), "2 = done");
}

#[test]
fn what_was_held_back_is_written_when_it_goes_out() {
    let words = paced();
    let written = Arc::clone(&words.written);
    let mut h = online(words);
    ask(&mut h, "m", OnDisconnect::Fail);
    // What goes out at once is written once.
    assert_eq!(
        (h.texts(0)[1..].to_vec(), written.load(Ordering::Relaxed)),
        (vec!["ask 2 m [1] <one>".into()], 1)
    );
    ask(&mut h, "n", OnDisconnect::Fail);
    h.s.request_batch(&[Request::new("x"), Request::new("y")], RequestOptions::default(), h.now).unwrap();
    h.advance(secs(5));
    h.flush(0);
    say(&mut h, 0, &["granted fresh"]);
    h.advance(secs(5));
    h.flush(0);
    let said = |h: &Harness| -> Vec<String> {
        h.texts(0).into_iter().filter(|text| text.starts_with("ask")).collect()
    };
    assert_eq!(said(&h), ["ask 2 m [1] <one>", "ask 3 n [1] <fresh>"]);
    // A message that costs more than there ever is goes when there is all of it.
    say(&mut h, 0, &["granted fresher"]);
    h.advance(secs(10));
    h.flush(0);
    assert_eq!(said(&h)[2..], ["asks 4 x, 5 y <fresher>"]);
}

#[test]
fn one_of_a_batch_is_written_alone_when_it_is_sent_again() {
    let mut h = online(granted());
    let options = RequestOptions::default().on_disconnect(OnDisconnect::Resend);
    h.s.request_batch(&[Request::new("x"), Request::new("y")], options, h.now).unwrap();
    h.run();
    h.flush(0);
    assert_eq!(h.texts(0)[1..], ["asks 2 x, 3 y <one>"]);
    assert_eq!(reopen(&mut h), ["ask 2 x <two>", "ask 3 y <two>"]);
}

#[test]
fn what_cannot_be_written_any_more_says_so_and_holds_up_none() {
    let words = granted();
    let unsigned = Arc::clone(&words.unsigned);
    let mut h = online(words);
    ask(&mut h, "!sent", OnDisconnect::Resend);
    h.eof(0);
    ask(&mut h, "!held", OnDisconnect::Hold);
    ask(&mut h, "n", OnDisconnect::Hold);
    let conn = h.next_conn();
    h.open(conn);
    h.told();
    unsigned.store(2, Ordering::Relaxed);
    say(&mut h, conn, &["granted two"]);
    assert_eq!(h.texts(conn)[1..], ["ask 4 n [1] <two>"]);
    let told = brief(&mut h);
    assert_eq!(told[2..], ["online true", "2 unknown: Unsupported", "3 not sent: Unsupported"]);
}

#[test]
fn what_was_held_back_and_cannot_be_written_any_more() {
    let words = paced();
    let unsigned = Arc::clone(&words.unsigned);
    let mut h = online(Words { lasts: None, ..words });
    ask(&mut h, "m", OnDisconnect::Fail);
    ask(&mut h, "!n", OnDisconnect::Fail);
    unsigned.store(1, Ordering::Relaxed);
    h.advance(secs(10));
    h.flush(0);
    assert_eq!((h.texts(0).len(), brief(&mut h)), (2, vec!["3 not sent: Unsupported".into()]));
    h.s.request_batch(&[Request::new("!x"), Request::new("y")], RequestOptions::default(), h.now).unwrap();
    h.run();
    unsigned.store(1, Ordering::Relaxed);
    h.advance(secs(19));
    h.flush(0);
    assert_eq!(brief(&mut h), ["4 not sent: Unsupported", "5 not sent: Unsupported"]);
}
