//! Subscriptions that are given up before the server has answered: its answer to them must not be taken for one to others.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::Ack;
use needs::*;

fn separate(unsubscribes: Ack) -> Words {
    Words { subscribes: Ack::Separate, unsubscribes, ..Words::default() }
}

/// Online, `a` was asked for by message 2 and given up by message 3, and then `b` was asked for by message 4.
fn given_up(unsubscribes: Ack) -> Harness {
    let mut h = opened(separate(unsubscribes));
    let a = subscribe(&mut h, "a");
    h.s.unsubscribe(a, h.now);
    h.run();
    subscribe(&mut h, "b");
    assert_eq!(h.texts(0), ["sub 2 a", "unsub 3 a", "sub 4 b"]);
    assert_eq!(brief(&mut h), ["online false"]);
    h
}

#[test]
fn a_refusal_is_for_what_was_given_up_though_no_answer_to_that_comes() {
    let mut h = given_up(Ack::None);
    say(&mut h, 0, &["refused 7:unknown"]);
    assert_eq!(brief(&mut h), [""; 0], "that was for the first");
    say(&mut h, 0, &["on b"]);
    assert_eq!(brief(&mut h), ["+b"]);
}

#[test]
fn a_list_answers_what_was_given_up() {
    for unsubscribes in [Ack::None, Ack::Separate, Ack::Response] {
        let mut h = given_up(unsubscribes);
        say(&mut h, 0, &["list a", "refused 7:unknown"]);
        assert_eq!(brief(&mut h), ["-b: unknown (code 7)"], "{unsubscribes:?}");
    }
}

#[test]
fn so_does_a_word_of_its_own() {
    for unsubscribes in [Ack::None, Ack::Separate, Ack::Response] {
        for answer in ["on a", "on a 2", "no 2 8:no a"] {
            let mut h = given_up(unsubscribes);
            say(&mut h, 0, &[answer, "refused 7:unknown"]);
            assert_eq!(brief(&mut h), ["-b: unknown (code 7)"], "{unsubscribes:?} {answer}");
        }
    }
}

/// Online, `a` was asked for by message 2, given up by message 3, and asked for again by message 4.
fn asked_again(unsubscribes: Ack) -> Harness {
    let mut h = opened(separate(unsubscribes));
    let a = subscribe(&mut h, "a");
    h.s.unsubscribe(a, h.now);
    h.run();
    subscribe(&mut h, "a");
    assert_eq!(h.texts(0), ["sub 2 a", "unsub 3 a", "sub 4 a"]);
    assert_eq!(brief(&mut h), ["online false"]);
    h
}

#[test]
fn a_topic_that_was_refused_and_given_up_is_asked_for_again() {
    for unsubscribes in [Ack::None, Ack::Separate, Ack::Response] {
        let mut h = asked_again(unsubscribes);
        say(&mut h, 0, &["no 2 8:no", "on a"]);
        assert_eq!(brief(&mut h), ["+a"], "{unsubscribes:?}");
    }
}

#[test]
fn an_answer_to_what_was_given_up_is_none_to_the_same_topic_asked_for_again() {
    for unsubscribes in [Ack::None, Ack::Separate, Ack::Response] {
        let mut h = asked_again(unsubscribes);
        say(&mut h, 0, &["on a"]);
        assert_eq!(brief(&mut h), [""; 0], "{unsubscribes:?}");
        say(&mut h, 0, &["on a"]);
        assert_eq!(brief(&mut h), ["+a"], "{unsubscribes:?}");
    }
}

#[test]
fn what_is_never_answered_is_owed_for_its_time_alone() {
    let mut h = given_up(Ack::None);
    say(&mut h, 0, &["on b"]);
    h.advance(secs(30));
    subscribe(&mut h, "a");
    say(&mut h, 0, &["on a"]);
    assert_eq!(brief(&mut h), ["+b", "+a"]);
}

#[test]
fn what_was_asked_for_twice_and_given_up_is_owed_once() {
    let mut h = Harness::new(config().protocol(separate(Ack::Separate)));
    subscribe(&mut h, "bad");
    let good = subscribe(&mut h, "good");
    h.run();
    h.open(0);
    say(&mut h, 0, &["refused 7:unknown"]);
    assert_eq!(h.texts(0), ["sub 2 bad,good", "sub 3 bad", "sub 4 good"]);
    h.s.unsubscribe(good, h.now);
    h.run();
    // That is for the bad one alone, and not for the good one, which shared its first message.
    say(&mut h, 0, &["refused 7:unknown"]);
    assert_eq!(brief(&mut h), ["-bad: unknown (code 7)", "online false"]);
}

#[test]
fn an_answer_besides_is_nobodys_business() {
    for order in [["granted t0ken", "ok 1 t0ken"], ["ok 1 t0ken", "granted t0ken"]] {
        let mut h = opened(Words { authenticates: Some(Ack::Separate), ..Words::default() });
        say(&mut h, 0, &order);
        assert_eq!(brief(&mut h), ["authenticated", "online false"], "{order:?}");
        // That is so for the time of a request.
        assert_eq!(h.advance(secs(29)), Stop::Wait(Some(h.now + secs(1))));
        assert_eq!(h.advance(secs(1)), Stop::Wait(None));
        assert_eq!(brief(&mut h), [""; 0]);
    }
    let mut h = opened(Words { authenticates: Some(Ack::Separate), ..Words::default() });
    say(&mut h, 0, &["granted t0ken", "no 1 7:you are in already"]);
    assert_eq!(brief(&mut h), ["authenticated", "online false"]);
}
