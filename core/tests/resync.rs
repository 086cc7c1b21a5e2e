//! Numbers that skip: the gap is told before the message that shows it, and only that topic is made anew.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{
    Continuity, GapCause, JsonRpc, OwnedEvent, Sequence, SequenceRule, Sequences, SubscribeOptions,
    SubscriptionId, SubscriptionState,
};
use std::time::Duration;

fn number(params: &str) -> Option<u64> {
    params.split_once("\"data\":")?.1.trim_end_matches('}').parse().ok()
}

/// A venue that numbers its messages by their data.
fn venue() -> JsonRpc {
    JsonRpc::new()
        .sequence(|_, params| number(params).map(Sequence::new))
        .tracker(|_| Some(Box::new(Sequences::plus_one())))
}

fn subscribe(h: &mut Harness, conn: usize, topic: &str) -> SubscriptionId {
    let id = h.s.subscribe(topic, SubscribeOptions::default(), h.now);
    h.run();
    h.flush(conn);
    let call = last_id(h, conn, "subscribe");
    h.feed(conn, &result(call, r#""ok""#));
    id
}

fn with_topics(protocol: JsonRpc, topics: &[&str]) -> Harness {
    let mut h = Harness::online(config().protocol(protocol));
    topics.iter().for_each(|topic| _ = subscribe(&mut h, 0, topic));
    h.told();
    h
}

fn answer(h: &mut Harness, method: &str) {
    let id = last_id(h, 0, method);
    h.feed(0, &result(id, r#""ok""#));
}

fn state(h: &Harness, name: &str) -> Option<SubscriptionState> {
    h.s.subscriptions().find(|s| s.topic == name).map(|s| s.state)
}

fn count(h: &Harness, call: &str) -> usize {
    wire(h, 0).iter().filter(|text| *text == call).count()
}

#[test]
fn only_the_topic_that_skipped_is_made_anew() {
    let mut h = with_topics(venue(), &["a", "b"]);
    h.feed(0, &[notification("a", 5), notification("b", 1)].concat());
    h.advance(secs(2));
    let since = h.now;
    h.feed(0, &notification("a", 6));
    h.advance(secs(3));
    h.told();
    h.feed(0, &[notification("a", 9), notification("a", 12), notification("b", 2)].concat());
    let told = h.told();
    let OwnedEvent::Gap(gap) = &told[0] else { panic!("{told:?}") };
    assert_eq!(gap.cause, GapCause::Sequence { expected: 7, got: 9 });
    assert_eq!((gap.since, gap.until, gap.before, gap.after), (since, h.now, gap.after, gap.before));
    let names: Vec<&str> = gap.topics.iter().map(|(_, name)| &**name).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(told[1..].iter().map(in_short).collect::<Vec<_>>(), ["a:9", "a:12", "b:2"], "told once");
    assert_eq!(wire(&h, 0), ["subscribe a", "subscribe b", "unsubscribe a"]);
    assert_eq!(state(&h, "a"), Some(SubscriptionState::Stale));
    assert_eq!(state(&h, "b"), Some(SubscriptionState::Confirmed));
    // It is asked for again only when it is known to have ended.
    h.advance(secs(5));
    h.flush(0);
    assert_eq!(wire(&h, 0).len(), 3);
    answer(&mut h, "unsubscribe");
    assert_eq!(wire(&h, 0)[3..], ["subscribe a"]);
    assert_eq!(state(&h, "a"), Some(SubscriptionState::Pending));
    answer(&mut h, "subscribe");
    h.feed(0, &[notification("a", 100), notification("a", 101), notification("b", 3)].concat());
    assert_eq!(brief(&mut h), ["gap a Resync", "+a", "a:100", "a:101", "b:3"], "its numbers begin anew");
    h.advance(secs(1000));
    h.flush(0);
    assert_eq!((wire(&h, 0).len(), h.told().len()), (4, 0));
}

#[test]
fn what_was_there_already_is_counted_and_not_told() {
    let mut h = with_topics(venue(), &["a", "b"]);
    for n in [1, 2, 2, 1, 3, 3] {
        h.feed(0, &notification("a", n));
    }
    h.feed(0, &[notification("b", 2), notification("c", 2), notification("c", 2)].concat());
    assert_eq!(brief(&mut h), ["a:1", "a:2", "a:3", "b:2", "?c:2", "?c:2"]);
    assert_eq!(h.s.stats().duplicates, 3);
    assert_eq!(wire(&h, 0).len(), 2);
}

#[test]
fn a_rule_of_the_subscription_goes_before_the_protocols() {
    let mut h = Harness::online(config().protocol(venue()));
    let mut options = SubscribeOptions::default();
    options.sequence = Some(SequenceRule::custom(|| {
        Sequences::hook(|_, text| match text.contains("666") {
            true => Continuity::Corrupt { reason: "checksum".to_owned() },
            false => Continuity::Continues,
        })
    }));
    h.s.subscribe("a", options, h.now);
    h.run();
    h.flush(0);
    answer(&mut h, "subscribe");
    h.feed(0, &[notification("a", 1), notification("a", 9), notification("a", 666)].concat());
    let gap = r#"gap a Corrupt { reason: "checksum" }"#;
    assert_eq!(brief(&mut h), ["+a", "a:1", "a:9", gap, "a:666"]);
    assert_eq!(count(&h, "unsubscribe a"), 1);
}

#[test]
fn a_topic_that_skips_again_and_again_is_damped() {
    let mut h = with_topics(venue(), &["a"]);
    let mut n = 0;
    // Gaps as soon as it is in force again: at once, then after 1, 2, 4, ... seconds, never more than a minute.
    for wait in [0, 1, 2, 4, 8, 16, 32, 60, 60, 60] {
        let resyncs = count(&h, "unsubscribe a");
        n += 10;
        h.feed(0, &notification("a", n));
        h.feed(0, &notification("a", n + 5));
        let gap = format!("gap a Sequence {{ expected: {}, got: {} }}", n + 1, n + 5);
        assert_eq!(brief(&mut h).split_off(1), [gap, format!("a:{}", n + 5)]);
        if wait > 0 {
            h.advance(secs(wait) - millis(1));
            h.flush(0);
            assert_eq!(count(&h, "unsubscribe a"), resyncs, "not before {wait} s");
            // Further ones meanwhile are told, and change nothing.
            h.feed(0, &notification("a", n + 9));
            let gap = format!("gap a Sequence {{ expected: {}, got: {} }}", n + 6, n + 9);
            assert_eq!(brief(&mut h), [gap, format!("a:{}", n + 9)]);
            h.advance(millis(1));
            h.flush(0);
        }
        assert_eq!(count(&h, "unsubscribe a"), resyncs + 1);
        answer(&mut h, "unsubscribe");
        answer(&mut h, "subscribe");
        assert_eq!(brief(&mut h), ["gap a Resync", "+a"]);
    }
    // After a minute of calm, at once.
    h.advance(secs(60));
    let resyncs = count(&h, "unsubscribe a");
    h.feed(0, &[notification("a", 1000), notification("a", 1002)].concat());
    assert_eq!(count(&h, "unsubscribe a"), resyncs + 1);
}

#[test]
fn many_topics_that_skip_at_once_are_no_storm() {
    let names: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    let mut h = with_topics(venue(), &names.iter().map(|name| &**name).collect::<Vec<_>>());
    let begun = h.now;
    for name in &names {
        h.feed(0, &[notification(name, 1), notification(name, 3)].concat());
    }
    let resyncs = |h: &Harness| wire(h, 0).iter().filter(|text| text.starts_with("unsubscribe")).count();
    assert_eq!(resyncs(&h), 16, "in ten seconds");
    let gaps = h.told().iter().filter(|event| matches!(event, OwnedEvent::Gap(_))).count();
    assert_eq!(gaps, 40, "all of them are told at once");
    for (at, want) in
        [(millis(9999), 16), (secs(10), 32), (millis(19_999), 32), (secs(20), 40), (secs(99), 40)]
    {
        h.advance(begun + at - h.now);
        h.flush(0);
        assert_eq!(resyncs(&h), want, "at {at:?}");
    }
}

#[test]
fn an_unsubscribe_that_is_refused_or_not_answered_stops_nothing() {
    for answered in [true, false] {
        let protocol = venue();
        let mut h = Harness::online(config().protocol(protocol).request_timeout(secs(7)));
        subscribe(&mut h, 0, "a");
        h.feed(0, &[notification("a", 1), notification("a", 3)].concat());
        let id = last_id(&h, 0, "unsubscribe");
        if answered {
            h.feed(0, &rpc_error(id, "not subscribed"));
        } else {
            h.advance(millis(6999));
            h.flush(0);
            assert_eq!(count(&h, "subscribe a"), 1);
            h.advance(millis(1));
            h.flush(0);
        }
        assert_eq!(count(&h, "subscribe a"), 2);
        h.told();
        answer(&mut h, "subscribe");
        assert_eq!(brief(&mut h), ["gap a Resync", "+a"]);
        // A late answer changes nothing.
        h.feed(0, &result(id, "1"));
        assert_eq!((count(&h, "subscribe a"), state(&h, "a")), (2, Some(SubscriptionState::Confirmed)));
    }
}

/// A topic whose resync is under way: its unsubscribe is out.
fn resyncing() -> Harness {
    let mut h = with_topics(venue(), &["a"]);
    h.feed(0, &[notification("a", 1), notification("a", 3)].concat());
    h.told();
    h
}

#[test]
fn a_loss_in_the_middle_restores_it_like_any_other() {
    for answered in [false, true] {
        let mut h = resyncing();
        if answered {
            answer(&mut h, "unsubscribe");
        }
        h.eof(0);
        let conn = h.next_conn();
        h.open(conn);
        assert_eq!(wire(&h, conn), ["subscribe a"]);
        confirm(&mut h, conn, 0);
        let lost = "lost: the connection ended without a close frame";
        assert_eq!(brief(&mut h), [lost, "gap a Reconnect", "+a", "online true"]);
        h.feed(conn, &[notification("a", 9), notification("a", 10)].concat());
        assert_eq!(brief(&mut h), ["a:9", "a:10"]);
        h.advance(secs(1000));
        h.flush(conn);
        assert_eq!(wire(&h, conn).len(), 1);
    }
}

#[test]
fn given_up_in_the_middle() {
    for answered in [false, true] {
        let mut h = resyncing();
        if answered {
            answer(&mut h, "unsubscribe");
        }
        let id = h.s.subscriptions().next().unwrap().id;
        let first = last_id(&h, 0, "unsubscribe");
        assert!(h.s.unsubscribe(id, h.now));
        h.run();
        h.flush(0);
        let second = last_id(&h, 0, "unsubscribe");
        assert_ne!(first, second, "the last word is that it is not wanted");
        h.feed(0, &[result(first, "1"), result(second, "1")].concat());
        assert_eq!(h.s.subscriptions().count(), 0);
        let subscribes = count(&h, "subscribe a");
        h.advance(secs(1000));
        h.flush(0);
        assert_eq!(count(&h, "subscribe a"), subscribes);
        // What is wanted anew is another.
        let new = subscribe(&mut h, 0, "a");
        assert_ne!(new, id);
        assert_eq!(state(&h, "a"), Some(SubscriptionState::Confirmed));
    }
}

#[test]
fn refused_in_the_middle() {
    let mut h = resyncing();
    answer(&mut h, "unsubscribe");
    let id = last_id(&h, 0, "subscribe");
    h.feed(0, &rpc_error(id, "gone"));
    assert_eq!(brief(&mut h), ["-a: gone (code 7)"]);
    let retry_at = h.s.subscriptions().next().unwrap().retry_at.unwrap();
    assert!((millis(500)..=secs(1)).contains(&(retry_at - h.now)), "{:?}", retry_at - h.now);
    h.advance(retry_at - h.now);
    h.flush(0);
    answer(&mut h, "subscribe");
    assert_eq!(brief(&mut h), ["gap a Resync", "+a"]);
    h.feed(0, &[notification("a", 50), notification("a", 51)].concat());
    assert_eq!(brief(&mut h), ["a:50", "a:51"]);
}

#[test]
fn latency_is_measured_where_it_is() {
    // The server's time is in milliseconds since 2026 began, which is when virtual time does.
    let sent = |_: &str, params: &str| Some(secs(1_767_225_600) + Duration::from_millis(number(params)?));
    let config = config().protocol(JsonRpc::new().sent(sent)).ping_interval(secs(20));
    let mut h = Harness::online(config);
    assert_eq!(h.s.latency(), everwire_core::Latency::default());
    let id = h.s.request(everwire_core::Request::new("x"), Default::default(), h.now).unwrap();
    h.run();
    h.flush(0);
    h.advance(millis(120));
    h.feed(0, &rpc_error(id.as_u64(), "no"));
    h.advance(millis(380));
    // At 500 ms: sent 100 ms ago, and in the future.
    h.feed(0, &[notification("a", 400), notification("b", 600)].concat());
    h.advance(millis(19_500));
    h.flush(0);
    let (_, payload) = h.frames(0).pop().unwrap();
    h.advance(millis(30));
    h.feed(0, &frame(FIN | PONG, b"another"));
    assert_eq!(h.s.latency().ping, None, "an answer to no ping of ours");
    h.feed(0, &frame(FIN | PONG, &payload));
    let latency = h.s.latency();
    let (ping, request, lag) = (latency.ping.unwrap(), latency.request.unwrap(), latency.lag.unwrap());
    assert_eq!((ping.count, ping.last), (1, millis(30)));
    assert_eq!((request.count, request.last), (1, millis(120)));
    assert_eq!((lag.count, lag.min, lag.max, lag.last), (2, millis(0), millis(100), millis(0)));
}

#[test]
fn what_is_missed_while_it_is_made_anew_is_told() {
    let mut h = with_topics(venue(), &["a"]);
    h.feed(0, &[notification("a", 1), notification("a", 3)].concat());
    assert_eq!(brief(&mut h)[1], "gap a Sequence { expected: 2, got: 3 }");
    h.flush(0);
    // Until the server has read the end of it, it goes on: holes in that are told no more than once more, with the rest.
    h.feed(0, &[notification("a", 4), notification("a", 9)].concat());
    assert_eq!(brief(&mut h), ["a:4", "a:9"]);
    answer(&mut h, "unsubscribe");
    h.flush(0);
    // Data that overtakes the answer comes behind the gap.
    h.feed(0, &notification("a", 20));
    assert_eq!(brief(&mut h), ["gap a Resync", "a:20"]);
    answer(&mut h, "subscribe");
    assert_eq!(brief(&mut h), ["+a"], "told once");
}
