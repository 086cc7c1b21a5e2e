//! A user who takes his time is not taken for a dead peer: what came meanwhile is read before anybody is given up for silence.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{JsonRpc, Limits, OwnedEvent, State};
use std::time::Duration;

/// The user does not take the event that is announced, for so long; then he does, and nothing is due before something was read.
fn pause(h: &mut Harness, time: Duration) {
    h.takes = false;
    h.advance(time);
    h.takes = true;
    let Stop::Wait(Some(due)) = h.run() else { panic!("it waits for what can be read now") };
    assert_eq!(due, h.now + millis(1));
    assert_eq!(h.run(), Stop::Wait(Some(due)), "the same question, the same answer");
}

#[test]
fn a_pong_that_waits_in_the_socket_counts() {
    for read in [true, false] {
        let mut h = Harness::online(config().ping_interval(secs(20)).pong_timeout(secs(10)));
        h.advance(secs(20));
        h.flush(0);
        let (first, payload) = h.frames(0).pop().unwrap();
        assert_eq!(first, FIN | PING);
        h.takes = false;
        h.feed_silently(0, &text("look at this"));
        pause(&mut h, secs(15));
        if read {
            h.feed(0, &frame(FIN | PONG, &payload));
        }
        h.advance(millis(1));
        let last = if read { "pong 15s" } else { "lost: nothing arrived after a ping" };
        assert_eq!(brief(&mut h), ["message look at this", last]);
        h.advance(secs(1));
        assert_eq!(h.s.state() == State::Online, read);
    }
}

#[test]
fn an_authentication_that_was_answered_counts() {
    for read in [true, false] {
        let protocol = JsonRpc::new().authenticate("auth", |_| "{}".to_owned());
        let mut h = Harness::new(config().protocol(protocol).request_timeout(secs(10)));
        h.run();
        h.open(0);
        h.takes = false;
        h.feed_silently(0, &text("hello"));
        pause(&mut h, secs(15));
        if read {
            h.feed(0, &result(1, "{}"));
        }
        h.advance(millis(2));
        assert_eq!(h.s.state() == State::Online, read, "{:?}", h.s.state());
    }
}

#[test]
fn a_part_of_a_message_that_is_taken_at_once_delays_nothing() {
    let limits = Limits { chunk: Some(1024), ..Limits::default() };
    let mut h = Harness::online(config().limits(limits).ping_interval(secs(20)).pong_timeout(secs(10)));
    h.now += secs(20);
    // The ping is due when the part arrives.
    h.feed(0, &frame(TEXT, &[b'x'; 2000]));
    assert!(matches!(h.told()[..], [OwnedEvent::Chunk { .. }, ..]));
    assert_eq!(h.frames(0).last().map(|(first, _)| *first), Some(FIN | PING));
}
