//! Servers that allow no more than so many topics on a connection.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::Ack;
use everwire_core::{Continuity, SequenceRule, Sequences, State, SubscribeOptions, SubscriptionState};
use needs::*;

fn places(most: usize) -> Words {
    Words { per_connection: Some(most), ..Words::default() }
}

/// States and reasons in short, in the order in which topics were made.
fn states(h: &Harness) -> Vec<String> {
    let short = |s: everwire_core::SubscriptionInfo| match (s.state, s.reason) {
        (SubscriptionState::Confirmed, None) => s.topic,
        (state, reason) => format!("{} {state:?} {}", s.topic, reason.unwrap_or_default()),
    };
    h.s.subscriptions().map(short).collect()
}

const WAITS: &str = "Waiting the server allows no more than 2 topics on a connection";

#[test]
fn topics_beyond_wait_until_others_are_given_up() {
    let mut h = Harness::new(config().protocol(places(2)));
    let ids: Vec<_> = [("a", 0), ("b", 5), ("c", 0), ("d", 7)]
        .iter()
        .map(|(name, of)| subscribe_at(&mut h, name, *of))
        .collect();
    h.run();
    h.open(0);
    assert_eq!(h.texts(0), ["sub 2 d,b"], "the highest priority first");
    assert_eq!(states(&h)[0], format!("a {WAITS}"));
    say(&mut h, 0, &["ok 2 d,b"]);
    assert_eq!(brief(&mut h), ["+d", "+b", "online false"], "nobody waits for the others");
    assert_eq!(states(&h), [format!("a {WAITS}"), "b".into(), format!("c {WAITS}"), "d".into()]);
    // A place is free when the server has let go.
    h.s.unsubscribe(ids[1], h.now);
    h.run();
    h.flush(0);
    assert_eq!(h.texts(0)[1..], ["unsub 3 b"]);
    say(&mut h, 0, &["ok 3"]);
    assert_eq!(h.texts(0)[2..], ["sub 4 a"]);
    say(&mut h, 0, &["ok 4 a"]);
    assert_eq!(states(&h), ["a".into(), format!("c {WAITS}"), "d".into()]);
    // One that waits is given up without a word.
    h.s.unsubscribe(ids[2], h.now);
    h.run();
    h.flush(0);
    assert_eq!((h.texts(0).len(), states(&h)), (3, vec!["a".into(), "d".into()]));
    assert_eq!(h.advance(secs(600)), Stop::Wait(None), "nothing is left to be done");
}

#[test]
fn a_topic_in_force_gives_its_place_to_none() {
    let mut h = Harness::new(config().protocol(places(2)));
    subscribe(&mut h, "a");
    subscribe(&mut h, "b");
    h.run();
    h.open(0);
    say(&mut h, 0, &["ok 2 a,b"]);
    let first = subscribe_at(&mut h, "first", 9);
    assert_eq!(states(&h), ["a".into(), "b".into(), format!("first {WAITS}")]);
    // Not on the next connection.
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(h.texts(conn), ["sub 4 first,a"]);
    say(&mut h, conn, &["ok 4 first,a"]);
    let told = brief(&mut h);
    assert_eq!(told[told.len() - 4..], ["gap a Reconnect", "+first", "+a", "online true"]);
    h.s.unsubscribe(first, h.now);
    h.run();
    h.flush(conn);
    say(&mut h, conn, &["ok 5"]);
    say(&mut h, conn, &["ok 6 b"]);
    assert_eq!(brief(&mut h), ["gap b Reconnect", "+b"], "what it missed since is told then");
}

#[test]
fn one_that_is_made_anew_keeps_its_place() {
    let mut h = Harness::new(config().protocol(places(1)));
    let rule = SequenceRule::custom(|| {
        Sequences::hook(|_, text| match text {
            "a bad" => Continuity::Corrupt { reason: "bad".into() },
            _ => Continuity::Continues,
        })
    });
    h.s.subscribe("a", SubscribeOptions::default().sequence(rule), h.now);
    subscribe_at(&mut h, "b", 9);
    let b = h.s.subscriptions().nth(1).unwrap().id;
    h.s.unsubscribe(b, h.now);
    h.run();
    h.open(0);
    say(&mut h, 0, &["ok 2 a"]);
    subscribe_at(&mut h, "c", 9);
    say(&mut h, 0, &["a bad", "ok 3"]);
    assert_eq!(h.texts(0), ["sub 2 a", "unsub 3 a", "sub 4 a"]);
    say(&mut h, 0, &["ok 4 a"]);
    assert_eq!(h.texts(0).len(), 3);
    assert_eq!(brief(&mut h).last().unwrap(), "+a");
}

#[test]
fn a_refused_topic_frees_its_place() {
    let mut h =
        Harness::new(config().protocol(Words { per_message: 1, subscribes: Ack::Separate, ..places(2) }));
    for name in ["a", "b", "c", "d"] {
        subscribe(&mut h, name);
    }
    h.run();
    h.open(0);
    assert_eq!(h.texts(0), ["sub 2 a", "sub 3 b"]);
    say(&mut h, 0, &["on a", "refused 7:no"]);
    // Whoever takes its place was not waited for.
    assert_eq!(brief(&mut h), ["+a", "-b: no (code 7)", "online false"]);
    assert_eq!(h.texts(0)[2..], ["sub 4 c"]);
    say(&mut h, 0, &["on c"]);
    // It has its turn again, and no place any more.
    h.advance(secs(100));
    h.flush(0);
    assert_eq!(h.texts(0).len(), 3);
    assert_eq!(states(&h), ["a".into(), format!("b {WAITS}"), "c".into(), format!("d {WAITS}")]);
    let c = h.s.subscriptions().nth(2).unwrap().id;
    h.s.unsubscribe(c, h.now);
    h.run();
    h.flush(0);
    say(&mut h, 0, &["off c"]);
    assert_eq!(h.texts(0)[3..], ["unsub 5 c", "sub 6 b"]);
}

#[test]
fn who_is_pushed_out_while_it_restores_is_not_waited_for() {
    let limits = vec![everwire_core::Limit::window("asking", 1, secs(10)).margin(secs(0))];
    let mut h = Harness::new(config().protocol(Words { per_message: 1, limits, ..places(2) }));
    subscribe(&mut h, "a");
    subscribe(&mut h, "b");
    h.run();
    h.open(0);
    say(&mut h, 0, &["ok 2 a"]);
    assert_eq!((h.texts(0).len(), h.s.state()), (1, State::Restoring));
    subscribe_at(&mut h, "first", 9);
    assert_eq!((brief(&mut h), h.s.state()), (vec!["+a".into(), "online false".into()], State::Online));
    h.advance(secs(10));
    h.flush(0);
    assert_eq!(h.texts(0)[1..], ["sub 3 first"]);
}

#[test]
fn there_may_be_no_place_at_all() {
    let mut h = Harness::new(config().protocol(places(0)));
    subscribe(&mut h, "a");
    h.run();
    h.open(0);
    assert_eq!((h.texts(0).len(), brief(&mut h)), (0, vec!["online false".into()]));
    assert_eq!(states(&h), ["a Waiting the server allows no more than 0 topics on a connection"]);
}

#[test]
fn thousands_beyond_cost_little() {
    ends(|| {
        let mut h = Harness::new(config().protocol(Words { subscribes: Ack::None, ..places(100) }));
        h.run();
        h.open(0);
        for n in 0..20_000 {
            h.s.subscribe(format!("t{n}"), SubscribeOptions::default(), h.now);
        }
        h.run();
        h.flush(0);
        let shown = h.s.subscriptions().filter(|s| s.state == SubscriptionState::Confirmed).count();
        assert_eq!((shown, h.s.subscriptions().count()), (100, 20_000));
        let ids: Vec<_> = h.s.subscriptions().map(|s| s.id).collect();
        for id in ids.into_iter().rev() {
            h.s.unsubscribe(id, h.now);
        }
    });
}
