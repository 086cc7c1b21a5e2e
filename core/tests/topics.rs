//! Subscriptions that do not go well: refused, given up, answered late, twice, in part, or by notifications of their own.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{
    Config, JsonRpc, OwnedEvent, Recovery, SubscribeOptions, SubscriptionId, SubscriptionState,
};
use std::time::Instant;

/// A venue that tells each topic's outcome by a notification of its own.
fn by_topic() -> JsonRpc {
    JsonRpc::new().acks("subscribed", "unsubscribed", "refused")
}

fn told_of(method: &str, channel: &str) -> Vec<u8> {
    text(&format!(r#"{{"method":"{method}","params":{{"channel":"{channel}","code":9,"message":"no"}}}}"#))
}

fn add(h: &mut Harness, topic: &str) -> SubscriptionId {
    let id = h.s.subscribe(topic, SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    id
}

fn states(h: &Harness) -> Vec<(String, SubscriptionState)> {
    h.s.subscriptions().map(|s| (s.topic.to_owned(), s.state)).collect()
}

fn state(h: &Harness, name: &str) -> Option<SubscriptionState> {
    h.s.subscriptions().find(|s| s.topic == name).map(|s| s.state)
}

fn online(config: Config, protocol: JsonRpc) -> Harness {
    Harness::online(config.protocol(protocol))
}

/// Refuses the last subscribe call; when it is tried again.
fn refuse(h: &mut Harness, conn: usize) -> Option<Instant> {
    let id = last_id(h, conn, "subscribe");
    h.feed(conn, &rpc_error(id, "no"));
    let told = h.told();
    let refused = told.iter().find(|event| matches!(event, OwnedEvent::Rejected { .. }));
    let Some(OwnedEvent::Rejected { retry_at, .. }) = refused else { panic!("{told:?}") };
    assert_eq!(h.s.subscriptions().next().unwrap().retry_at, *retry_at);
    *retry_at
}

#[test]
fn what_is_refused_is_asked_for_again_less_and_less_often() {
    let mut h = online(config().resubscribe_backoff(secs(1), secs(8)), JsonRpc::new());
    add(&mut h, "a");
    for bound in [1, 2, 4, 8, 8, 8, 1, 2] {
        let calls = wire(&h, 0).len();
        let at = refuse(&mut h, 0).unwrap();
        let wait = at - h.now;
        assert!(secs(bound) / 2 <= wait && wait <= secs(bound), "{wait:?} of {bound} s");
        h.advance(wait - millis(1));
        h.flush(0);
        assert_eq!((wire(&h, 0).len(), state(&h, "a")), (calls, Some(SubscriptionState::Rejected)));
        h.advance(millis(1));
        h.flush(0);
        assert_eq!((wire(&h, 0).len(), state(&h, "a")), (calls + 1, Some(SubscriptionState::Pending)));
        if calls == 6 {
            // Confirmed, and refused by the next connection: that begins anew.
            let id = last_id(&h, 0, "subscribe");
            h.feed(0, &result(id, r#"["a"]"#));
            let info = h.s.subscriptions().next().unwrap();
            assert_eq!((info.state, info.reason, info.retry_at), (SubscriptionState::Confirmed, None, None));
            return after_confirmation(h);
        }
    }
    panic!("it is confirmed on the way");
}

fn after_confirmation(mut h: Harness) {
    h.told();
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    let at = refuse(&mut h, conn).unwrap();
    assert!((millis(500)..=secs(1)).contains(&(at - h.now)));
    assert_eq!(h.s.subscriptions().next().unwrap().reason.as_deref(), Some("no (code 7)"));
}

#[test]
fn the_protocol_says_whether_and_when_a_topic_is_tried_again() {
    let judged = |recovery| JsonRpc::new().recovery(move |_, error| (error?.code == 7).then_some(recovery));
    let mut h = online(config(), judged(Recovery::Backoff(secs(45))));
    add(&mut h, "a");
    assert_eq!(refuse(&mut h, 0), Some(h.now + secs(45)));
    assert_eq!(h.conns.len(), 1);

    let mut h = online(config(), judged(Recovery::Stop));
    add(&mut h, "a");
    assert_eq!(refuse(&mut h, 0), None);
    h.advance(secs(100_000));
    h.flush(0);
    assert_eq!((wire(&h, 0).len(), state(&h, "a")), (1, Some(SubscriptionState::Rejected)));
    // The next connection tries it again.
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(wire(&h, conn), ["subscribe a"]);
}

#[test]
fn refused_ones_are_tried_alone_and_do_not_hold_up_the_others() {
    let mut h = Harness::new(config().protocol(JsonRpc::new()));
    for topic in ["a", "b", "c"] {
        h.s.subscribe(topic, SubscribeOptions::default(), h.now);
    }
    h.run();
    h.open(0);
    let id = last_id(&h, 0, "subscribe");
    h.feed(0, &result(id, r#"["b"]"#));
    let why = "the server's answer does not name it";
    assert_eq!(
        brief(&mut h),
        ["+b".into(), format!("-a: {why}"), format!("-c: {why}"), "online false".into()]
    );
    h.advance(secs(1));
    h.flush(0);
    let mut again = wire(&h, 0).split_off(1);
    again.sort();
    assert_eq!(again, ["subscribe a", "subscribe c"], "on the same connection, each by itself");
    confirm(&mut h, 0, 1);
    let mut told = brief(&mut h);
    told.sort();
    assert_eq!(told, ["+a", "+c"]);
}

#[test]
fn what_is_given_up_is_listed_until_the_server_lets_go() {
    let mut h = online(config(), JsonRpc::new());
    let (a, b) = (add(&mut h, "a"), add(&mut h, "b"));
    confirm(&mut h, 0, 0);
    h.told();
    h.advance(secs(3));
    assert!(h.s.unsubscribe(a, h.now));
    h.run();
    h.flush(0);
    let infos: Vec<_> = h.s.subscriptions().collect();
    assert_eq!(
        (infos[0].id, infos[0].state),
        (b, SubscriptionState::Confirmed),
        "those first that are wanted"
    );
    let gone = &infos[1];
    assert_eq!((gone.id, &*gone.topic, gone.state), (a, "a", SubscriptionState::Unsubscribing));
    assert_eq!((gone.since, gone.references, gone.retry_at), (h.now, 0, None));
    // What comes of it still is of no subscription.
    h.feed(0, &notification("a", 1));
    assert_eq!(brief(&mut h), ["?a:1"]);
    // Refused or not, that is the end of it.
    let id = last_id(&h, 0, "unsubscribe");
    h.feed(0, &rpc_error(id, "unknown"));
    assert_eq!(states(&h), [("b".to_owned(), SubscriptionState::Confirmed)]);
    // So is no answer at all, and a loss.
    assert!(h.s.unsubscribe(b, h.now));
    h.run();
    h.flush(0);
    h.advance(secs(30));
    assert_eq!(states(&h), []);
    let c = add(&mut h, "c");
    assert!(h.s.unsubscribe(c, h.now) && h.s.subscriptions().count() == 1);
    h.eof(0);
    assert_eq!(h.s.subscriptions().count(), 0);
    assert_eq!(brief(&mut h), ["lost: the connection ended without a close frame"]);
}

#[test]
fn the_most_important_are_asked_for_first() {
    let mut h = Harness::new(config().protocol(JsonRpc::new().topics_per_message(2)));
    for (topic, priority) in [("low", 1), ("none", 0), ("high", 200), ("also high", 200), ("middle", 100)] {
        let mut options = SubscribeOptions::default();
        options.priority = priority;
        h.s.subscribe(topic, options, h.now);
    }
    h.run();
    h.open(0);
    assert_eq!(wire(&h, 0), ["subscribe high,also high", "subscribe middle,low", "subscribe none"]);
}

#[test]
fn listed_as_it_stands() {
    let mut h = online(config(), JsonRpc::new());
    let begun = h.now;
    let id = add(&mut h, "a");
    assert_eq!(add(&mut h, "a"), id);
    let of = |h: &Harness| {
        let s = h.s.subscriptions().next().unwrap();
        (s.state, s.since, s.references, s.last_message)
    };
    assert_eq!(of(&h), (SubscriptionState::Pending, begun, 2, None));
    h.advance(secs(1));
    confirm(&mut h, 0, 0);
    assert_eq!(of(&h), (SubscriptionState::Confirmed, begun + secs(1), 2, None));
    h.advance(secs(1));
    h.feed(0, &notification("a", 1));
    h.s.unsubscribe(id, h.now);
    let heard = Some(begun + secs(2));
    assert_eq!(of(&h), (SubscriptionState::Confirmed, begun + secs(1), 1, heard));
    h.advance(secs(1));
    h.eof(0);
    assert_eq!(of(&h), (SubscriptionState::Waiting, begun + secs(3), 1, heard), "on whichever connection");
}

#[test]
fn without_restore_each_is_told_to_be_gone() {
    let mut h = online(config().restore(false), JsonRpc::new());
    let a = add(&mut h, "a");
    add(&mut h, "b");
    confirm(&mut h, 0, 0);
    h.told();
    h.eof(0);
    let why = "the connection was lost, and Config::restore is off";
    let lost = "lost: the connection ended without a close frame".to_owned();
    assert_eq!(brief(&mut h), [lost, format!("-a: {why}"), format!("-b: {why}")]);
    assert_eq!(h.s.subscriptions().count(), 0);
    assert!(!h.s.unsubscribe(a, h.now));
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(wire(&h, conn), [""; 0]);
    assert_eq!(brief(&mut h).last().map(|event| &**event), Some("online true"));
}

#[test]
fn wishes_that_change_while_it_restores() {
    let mut h = Harness::new(config().protocol(JsonRpc::new().topics_per_message(1)));
    let a = h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.s.subscribe("b", SubscribeOptions::default(), h.now);
    h.run();
    h.open(0);
    // Another is asked for at once, and not waited for.
    add(&mut h, "c");
    assert_eq!(wire(&h, 0), ["subscribe a", "subscribe b", "subscribe c"]);
    let ids = calls(&h.texts(0), "subscribe");
    h.feed(0, &result(ids[1].0, "1"));
    assert_eq!(brief(&mut h), ["+b"]);
    // What is given up is not waited for either.
    assert!(h.s.unsubscribe(a, h.now));
    h.run();
    h.flush(0);
    assert_eq!(brief(&mut h), ["online false"]);
    h.feed(0, &[result(ids[0].0, "1"), result(ids[2].0, "1")].concat());
    assert_eq!(brief(&mut h), ["+c"], "a late answer to what was given up");
    assert_eq!(wire(&h, 0)[3..], ["unsubscribe a"]);
}

#[test]
fn outcomes_topic_by_topic() {
    let mut h = Harness::new(config().protocol(by_topic()));
    for topic in ["a", "b", "c"] {
        h.s.subscribe(topic, SubscribeOptions::default(), h.now);
    }
    h.run();
    h.open(0);
    let id = last_id(&h, 0, "subscribe");
    // That the call was understood says nothing yet.
    h.feed(0, &result(id, r#"["a","b","c"]"#));
    assert_eq!(brief(&mut h), [""; 0]);
    h.feed(
        0,
        &[told_of("subscribed", "b"), told_of("subscribed", "nobody's"), told_of("subscribed", "b")].concat(),
    );
    assert_eq!(brief(&mut h), ["+b"], "once");
    h.feed(0, &told_of("refused", "a"));
    assert_eq!(brief(&mut h), ["-a: no (code 9)"]);
    h.advance(secs(1));
    h.flush(0);
    h.feed(0, &told_of("subscribed", "a"));
    assert_eq!(brief(&mut h), ["+a"]);
    h.feed(0, &told_of("refused", "b"));
    assert_eq!(brief(&mut h), ["-b: no (code 9)"], "it was in force, and is taken back");
    h.advance(secs(1));
    h.flush(0);
    h.feed(0, &told_of("subscribed", "b"));
    assert_eq!(brief(&mut h), ["gap b Ended", "+b"]);
    // No word about the third.
    h.advance(secs(28));
    assert_eq!(brief(&mut h), ["-c: no answer in 30s", "online false"]);
    // A late word is nobody's: it is asked for again.
    assert_eq!(state(&h, "c"), Some(SubscriptionState::Rejected));
    h.feed(0, &told_of("subscribed", "c"));
    assert_eq!((brief(&mut h).len(), state(&h, "c")), (0, Some(SubscriptionState::Rejected)));
    h.advance(secs(1));
    h.flush(0);
    h.feed(0, &told_of("subscribed", "c"));
    assert_eq!(brief(&mut h), ["+c"]);
    assert!(states(&h).iter().all(|(_, state)| *state == SubscriptionState::Confirmed));
}

#[test]
fn a_call_that_is_refused_as_a_whole_is_tried_topic_by_topic() {
    let mut h = Harness::new(config().protocol(by_topic()));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.s.subscribe("b", SubscribeOptions::default(), h.now);
    h.run();
    h.open(0);
    let id = last_id(&h, 0, "subscribe");
    h.feed(0, &told_of("subscribed", "a"));
    h.feed(0, &rpc_error(id, "too many"));
    assert_eq!(wire(&h, 0), ["subscribe a,b", "subscribe b"], "what is in force stays so");
    h.feed(0, &told_of("subscribed", "b"));
    assert_eq!(brief(&mut h), ["+a", "+b", "online false"]);
}

#[test]
fn late_words_about_what_was_given_up() {
    let mut h = online(config(), by_topic());
    let old = add(&mut h, "a");
    h.s.unsubscribe(old, h.now);
    let new = add(&mut h, "a");
    assert_eq!(wire(&h, 0), ["subscribe a", "unsubscribe a", "subscribe a"]);
    // The three answers come in the order of the calls.
    h.feed(0, &told_of("subscribed", "a"));
    assert_eq!((brief(&mut h).len(), state(&h, "a")), (0, Some(SubscriptionState::Pending)));
    h.feed(0, &told_of("unsubscribed", "a"));
    assert_eq!((brief(&mut h).len(), h.s.subscriptions().count()), (0, 1), "the old one is let go");
    h.feed(0, &told_of("subscribed", "a"));
    assert_eq!(brief(&mut h), ["+a"]);
    assert_eq!(h.s.subscriptions().next().map(|s| s.id), Some(new));
    h.advance(secs(1000));
    assert_eq!(brief(&mut h), [""; 0]);
}

#[test]
fn the_server_ends_a_subscription() {
    let mut h = online(config(), by_topic());
    add(&mut h, "a");
    h.feed(0, &told_of("subscribed", "a"));
    h.advance(secs(5));
    h.feed(0, &notification("a", 1));
    let since = h.now;
    h.advance(secs(5));
    h.told();
    h.feed(0, &told_of("unsubscribed", "a"));
    assert_eq!(brief(&mut h), ["-a: the server ended it"]);
    h.feed(0, &told_of("unsubscribed", "a"));
    assert_eq!(brief(&mut h), [""; 0], "once");
    h.advance(secs(1));
    h.flush(0);
    assert_eq!(wire(&h, 0), ["subscribe a", "subscribe a"]);
    h.feed(0, &told_of("subscribed", "a"));
    let told = h.told();
    assert_eq!(told.iter().map(in_short).collect::<Vec<_>>(), ["gap a Ended", "+a"]);
    let OwnedEvent::Gap(gap) = &told[0] else { panic!() };
    assert_eq!((gap.since, gap.until, gap.before, gap.after), (since, h.now, gap.after, gap.before));
    h.feed(0, &notification("a", 2));
    assert_eq!(brief(&mut h), ["a:2"], "told once");
}
