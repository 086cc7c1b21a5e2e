//! Topics of several channels, lists of what is in force, and refusals that do not say what they refuse.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::{Ack, Fault};
use everwire_core::{Limit, Recovery, State, SubscribeOptions, SubscriptionState};
use needs::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn separate() -> Words {
    Words { subscribes: Ack::Separate, ..Words::default() }
}

/// A session that has these topics before it connects.
fn with_topics(words: Words, topics: &[(&str, u8)]) -> Harness {
    let mut h = Harness::new(config().protocol(words));
    for (topic, priority) in topics {
        subscribe_at(&mut h, topic, *priority);
    }
    h.run();
    h.open(0);
    h
}

#[test]
fn a_message_names_topics_of_one_channel() {
    let words = Words { subscribes: Ack::None, unsubscribes: Ack::None, per_message: 3, ..Words::default() };
    let names = ["book:a", "trade:a", "book:b", "tick", "trade:b", "book:c", "book:d", "tock", "trade:c"];
    let mut h = with_topics(words, &names.map(|name| (name, 0)));
    let want = ["book:a,book:b,book:c", "trade:a,trade:b,trade:c", "tick,tock", "book:d"];
    let said = |verb: &str, at: u64| -> Vec<String> {
        want.iter().zip(at..).map(|(names, id)| format!("{verb} {id} {names}")).collect()
    };
    assert_eq!(h.texts(0), said("sub", 2));
    assert_eq!(brief(&mut h).last().unwrap(), "online false");
    // So do those that end them. All are asked for in one call, for a message goes out with each.
    let ids: Vec<_> = h.s.subscriptions().map(|s| s.id).collect();
    for id in ids {
        h.s.unsubscribe(id, h.now);
    }
    h.run();
    h.flush(0);
    assert_eq!(h.texts(0).len(), 4 + 9);
}

#[test]
fn endings_that_were_held_back_share_messages_too() {
    let words =
        Words { subscribes: Ack::None, unsubscribes: Ack::Separate, per_message: 3, ..Words::default() };
    let limits = vec![Limit::window("topics", 4, secs(10)).margin(secs(0))];
    let mut h = Harness::new(config().protocol(Words { limits, ..words }));
    let names = ["book:a", "trade:a", "book:b", "tick", "trade:b", "book:c", "book:d", "tock", "trade:c"];
    let ids: Vec<_> = names.iter().map(|name| subscribe(&mut h, name)).collect();
    h.run();
    h.open(0);
    assert_eq!(h.texts(0).len(), 4);
    for id in ids {
        h.s.unsubscribe(id, h.now);
    }
    h.advance(secs(10));
    h.flush(0);
    let want = [
        "unsub 6 book:a,book:b,book:c",
        "unsub 7 trade:a,trade:b,trade:c",
        "unsub 8 tick,tock",
        "unsub 9 book:d",
    ];
    assert_eq!(h.texts(0)[4..], want);
}

#[test]
fn no_topic_passes_one_of_a_higher_priority() {
    let words = Words { subscribes: Ack::None, ..Words::default() };
    let topics = [("book:a", 9), ("trade:a", 9), ("book:b", 9), ("book:c", 5), ("trade:b", 5), ("book:d", 0)];
    let h = with_topics(words, &topics);
    // `book:c` would have to pass `trade:a`.
    let want = ["sub 2 book:a,book:b", "sub 3 trade:a,trade:b", "sub 4 book:c,book:d"];
    assert_eq!(h.texts(0), want);
}

#[test]
fn a_thousand_topics_of_thirty_channels() {
    let words = Words { subscribes: Ack::None, per_message: 100, ..Words::default() };
    let mut h = Harness::new(config().protocol(words));
    let mut topics = BTreeMap::new();
    for n in 0..1000 {
        let channel = n % 30;
        topics.entry(channel).or_insert_with(Vec::new).push(format!("c{channel}:{n}"));
        subscribe(&mut h, &format!("c{channel}:{n}"));
    }
    h.run();
    h.open(0);
    let want: Vec<String> = topics.values().map(|names| names.join(",")).collect();
    let said: Vec<String> =
        h.texts(0).iter().map(|text| text.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(said, want, "as few messages as may be, in order");
}

#[test]
fn topics_that_share_with_none_cost_no_square_of_their_number() {
    ends(|| {
        let words = Words {
            subscribes: Ack::None,
            unsubscribes: Ack::Separate,
            per_message: 100,
            ..Words::default()
        };
        let mut h = Harness::new(config().protocol(words));
        let topic = |n: u32| format!("c{n}:x");
        let ids: Vec<_> =
            (0..2000).map(|n| h.s.subscribe(topic(n), SubscribeOptions::default(), h.now)).collect();
        h.run();
        h.open(0);
        assert_eq!(h.texts(0).len(), 2000);
        for id in ids {
            h.s.unsubscribe(id, h.now);
        }
        h.run();
        h.flush(0);
        assert_eq!(h.texts(0).len(), 4000);
    });
}

#[test]
fn a_list_confirms_what_it_names() {
    let mut h = with_topics(separate(), &[("a", 0), ("b", 0), ("x:c", 0)]);
    assert_eq!(h.texts(0), ["sub 2 a,b", "sub 3 x:c"]);
    say(&mut h, 0, &["list a", "list a,nobody", "ok 2"]);
    assert_eq!((brief(&mut h), h.s.state()), (vec!["+a".into()], State::Restoring));
    // One list may confirm what several messages asked for; what it does not name stays as it is.
    say(&mut h, 0, &["list b,x:c"]);
    assert_eq!(brief(&mut h), ["+b", "+x:c", "online false"]);
    say(&mut h, 0, &["list ", "list a"]);
    assert_eq!(brief(&mut h), [""; 0]);
    assert!(h.s.subscriptions().all(|s| s.state == SubscriptionState::Confirmed));
}

#[test]
fn what_no_list_names_is_rejected_in_time() {
    let mut h = with_topics(separate(), &[("a", 0), ("b", 0)]);
    say(&mut h, 0, &["list a"]);
    h.advance(secs(30));
    h.flush(0);
    assert_eq!(brief(&mut h), ["+a", "-b: no answer in 30s", "online false"]);
    // Asked for again, alone, a list that comes late confirms it.
    h.advance(secs(10));
    h.flush(0);
    assert_eq!(h.texts(0)[1..], ["sub 3 b"]);
    say(&mut h, 0, &["list a,b"]);
    assert_eq!(brief(&mut h), ["+b"]);
}

#[test]
fn a_list_says_nothing_of_topics_that_nobody_asked_for_yet() {
    let limits = vec![Limit::window("asking", 1, secs(10)).margin(secs(0))];
    let mut h = with_topics(Words { limits, ..separate() }, &[("a", 0), ("x:b", 0)]);
    assert_eq!(h.texts(0), ["sub 2 a"]);
    say(&mut h, 0, &["list a,x:b"]);
    assert_eq!(brief(&mut h), ["+a"]);
    h.advance(secs(10));
    h.flush(0);
    say(&mut h, 0, &["list a,x:b"]);
    assert_eq!(brief(&mut h), ["+x:b", "online false"]);
}

#[test]
fn a_refusal_without_an_id_is_for_the_first_message_without_an_answer() {
    let mut h = with_topics(separate(), &[("a", 0), ("b", 0), ("x:c", 0)]);
    say(&mut h, 0, &["on a"]);
    // `b` is left of the first message, which had two topics: it is tried alone.
    say(&mut h, 0, &["refused 7:unknown"]);
    assert_eq!((brief(&mut h), h.texts(0)[2..].to_vec()), (vec!["+a".into()], vec!["sub 4 b".into()]));
    // Now `x:c` is the oldest, then `b`.
    say(&mut h, 0, &["refused 8:no x"]);
    assert_eq!(brief(&mut h), ["-x:c: no x (code 8)"]);
    say(&mut h, 0, &["refused 9:no b"]);
    assert_eq!(brief(&mut h), ["-b: no b (code 9)", "online false"]);
    // And then there is nobody.
    say(&mut h, 0, &["refused 10:of what?"]);
    let told = brief(&mut h);
    assert!(
        told.len() == 1 && told[0].starts_with(r#"Notice { text: "10:of what?", recovery: None, "#),
        "{told:?}"
    );
    assert_eq!(h.s.state(), State::Online);
}

#[test]
fn an_error_that_names_topics_rejects_only_those() {
    let words = Words { names_refused: true, ..separate() };
    let mut h = with_topics(words, &[("a", 0), ("b", 0), ("c", 0)]);
    assert_eq!(h.texts(0), ["sub 2 a,b,c"]);
    say(&mut h, 0, &["no 2 7:b/not here"]);
    assert_eq!((brief(&mut h), h.texts(0).len()), (vec!["-b: b/not here (code 7)".into()], 1));
    // Said again it is nobody's business, and the others still have their outcomes to come: one by one, of either kind.
    say(&mut h, 0, &["no 2 7:b/not here", "on a", "no 2 7:c/nor here", "no 2 7:c/nor here"]);
    assert_eq!(brief(&mut h), ["+a", "-c: c/nor here (code 7)", "online false"]);
    // What was confirmed stays so; and each is tried again by itself, where an error is about it whatever it names.
    say(&mut h, 0, &["no 2 7:a/late"]);
    h.advance(secs(1));
    h.flush(0);
    assert_eq!((brief(&mut h), h.texts(0)[1..].to_vec()), (vec![], vec!["sub 3 b".into(), "sub 4 c".into()]));
    say(&mut h, 0, &["no 3 7:z/what?", "on c"]);
    assert_eq!(brief(&mut h), ["-b: z/what? (code 7)", "+c"]);
}

#[test]
fn an_error_about_none_or_all_has_each_tried_alone() {
    for error in ["no 2 7:unknown", "no 2 7:z/unknown", "no 2 7:a,b/unknown"] {
        let mut h = with_topics(Words { names_refused: true, ..separate() }, &[("a", 0), ("b", 0)]);
        say(&mut h, 0, &[error]);
        assert_eq!(
            (brief(&mut h), h.texts(0)[1..].to_vec()),
            (vec![], vec!["sub 3 a".into(), "sub 4 b".into()])
        );
    }
    // So is all that is left, where no other answer will come.
    let mut h = with_topics(Words { names_refused: true, ..Words::default() }, &[("a", 0), ("b", 0)]);
    say(&mut h, 0, &["no 2 7:a/unknown"]);
    assert_eq!((brief(&mut h), h.texts(0)[1..].to_vec()), (vec![], vec!["sub 3 a".into(), "sub 4 b".into()]));
}

#[test]
fn of_those_that_are_left_the_silent_are_rejected_in_time() {
    let mut h = with_topics(Words { names_refused: true, ..separate() }, &[("a", 0), ("b", 0)]);
    say(&mut h, 0, &["no 2 7:a/unknown"]);
    h.advance(secs(29));
    assert_eq!(brief(&mut h), ["-a: a/unknown (code 7)"]);
    h.advance(secs(1));
    assert_eq!(brief(&mut h), ["-b: no answer in 30s", "online false"]);
}

#[test]
fn a_refusal_without_an_id_is_for_the_first_message_with_a_topic_that_it_names() {
    let mut h = with_topics(
        Words { names_refused: true, ..separate() },
        &[("a", 0), ("b", 0), ("x:c", 0), ("x:d", 0)],
    );
    assert_eq!(h.texts(0), ["sub 2 a,b", "sub 3 x:c,x:d"]);
    say(&mut h, 0, &["refused 7:x:d/unknown"]);
    assert_eq!((brief(&mut h), h.texts(0).len()), (vec!["-x:d: x:d/unknown (code 7)".into()], 2));
    // One that names none of them is for the first, as ever.
    say(&mut h, 0, &["refused 8:unknown", "on x:c"]);
    assert_eq!(
        (brief(&mut h), h.texts(0)[2..].to_vec()),
        (vec!["+x:c".into()], vec!["sub 4 a".into(), "sub 5 b".into()])
    );
}

#[test]
fn an_error_about_a_topic_that_was_given_up_is_of_no_concern_to_the_others() {
    let words = Words { names_refused: true, unsubscribes: Ack::Separate, ..separate() };
    let mut h = with_topics(words, &[("a", 0), ("b", 0)]);
    let a = h.s.subscriptions().next().unwrap().id;
    h.s.unsubscribe(a, h.now);
    h.run();
    h.flush(0);
    say(&mut h, 0, &["refused 7:a/unknown"]);
    assert_eq!((brief(&mut h), h.texts(0)), (vec![], vec!["sub 2 a,b".into(), "unsub 3 a".into()]));
    say(&mut h, 0, &["on b"]);
    assert_eq!(brief(&mut h), ["+b", "online false"]);
}

#[test]
fn a_refusal_may_be_for_a_topic_that_was_given_up() {
    let mut h = opened(Words { unsubscribes: Ack::Separate, ..separate() });
    assert_eq!(brief(&mut h), ["online false"]);
    let bad = subscribe(&mut h, "bad");
    h.s.unsubscribe(bad, h.now);
    h.run();
    subscribe(&mut h, "good");
    assert_eq!(h.texts(0), ["sub 2 bad", "unsub 3 bad", "sub 4 good"]);
    say(&mut h, 0, &["refused 7:unknown"]);
    assert_eq!(brief(&mut h), [""; 0], "that was for the bad one");
    say(&mut h, 0, &["refused 7:that too"]);
    assert_eq!(brief(&mut h), ["-good: that too (code 7)"]);
}

#[test]
fn a_refusal_of_what_was_asked_by_response_is_a_notice() {
    let mut h = with_topics(Words::default(), &[("a", 0)]);
    say(&mut h, 0, &["refused 7:what?"]);
    let told = brief(&mut h);
    assert!(told.len() == 1 && told[0].starts_with("Notice"), "{told:?}");
    say(&mut h, 0, &["ok 2 a"]);
    assert_eq!(brief(&mut h), ["+a", "online false"]);
}

#[test]
fn the_protocol_says_what_is_done_about_a_refusal() {
    let recovery = |fault: Fault<'_>| match fault {
        Fault::Subscription("1:slow down") => Some(Recovery::Backoff(secs(100))),
        Fault::Subscription("2:who are you?") => Some(Recovery::Reconnect),
        Fault::Subscription("3:never") => Some(Recovery::Stop),
        _ => None,
    };
    let words = Words { recovery, ..separate() };
    // Too much was asked: none of the topics is to blame, and none is tried alone at once.
    let mut h = with_topics(words.clone(), &[("a", 0), ("b", 0)]);
    say(&mut h, 0, &["refused 1:slow down"]);
    assert_eq!(brief(&mut h), ["-a: slow down (code 1)", "-b: slow down (code 1)", "online false"]);
    assert!(h.s.subscriptions().all(|s| s.retry_at.unwrap() >= h.now + secs(100)));
    let mut h = with_topics(words.clone(), &[("a", 0)]);
    say(&mut h, 0, &["refused 2:who are you?"]);
    assert_eq!(brief(&mut h).last().unwrap(), r#"lost: the server gave notice ("who are you? (code 2)")"#);
    let mut h = with_topics(words, &[("a", 0)]);
    say(&mut h, 0, &["refused 3:never"]);
    assert_eq!(h.s.subscriptions().next().unwrap().retry_at, None);
}

#[test]
fn errors_are_read_by_the_protocol_wherever_they_are_told() {
    let mut h = with_topics(Words::default(), &[("a", 0)]);
    say(&mut h, 0, &["no 2 7:bad"]);
    let id =
        h.s.request(everwire_core::Request::new("m"), everwire_core::RequestOptions::default(), h.now)
            .unwrap();
    h.run();
    h.flush(0);
    say(&mut h, 0, &[&format!("no {} 8:worse", id.as_u64())]);
    let want = [
        "-a: bad (code 7)".to_owned(),
        "online false".into(),
        format!("{} refused: worse (code 8)", id.as_u64()),
    ];
    assert_eq!(brief(&mut h), want);
    // Taken away from the session, it is the same.
    let id =
        h.s.request(everwire_core::Request::new("m"), everwire_core::RequestOptions::default(), h.now)
            .unwrap();
    h.run();
    h.flush(0);
    h.takes = false;
    h.feed_silently(0, &text(&format!("no {} 9:worst", id.as_u64())));
    let lease = h.s.lease().unwrap();
    assert_eq!(in_short(&lease.event().to_owned()), format!("{} refused: worst (code 9)", id.as_u64()));
    h.s.give_back(lease);
}

#[test]
fn a_topic_that_cannot_be_said_does_not_take_the_others_with_it() {
    let unsigned = Arc::new(AtomicU32::new(2));
    let words = Words { unsigned, ..Words::default() };
    let mut h = with_topics(words, &[("a", 0), ("!b", 0), ("c", 0)]);
    // Not together, and not alone either, for now.
    assert_eq!(h.texts(0), ["sub 3 a", "sub 5 c"]);
    assert_eq!(brief(&mut h), ["-!b: the signer does not answer"]);
    say(&mut h, 0, &["ok 3 a", "ok 5 c"]);
    assert_eq!(brief(&mut h), ["+a", "+c", "online false"]);
    let refused = h.s.subscriptions().find(|s| s.topic == "!b").unwrap();
    assert_eq!(refused.state, SubscriptionState::Rejected);
    assert_eq!(refused.reason.as_deref(), Some("the signer does not answer"));
    h.advance(refused.retry_at.unwrap() - h.now);
    h.flush(0);
    assert_eq!(h.texts(0)[2..], ["sub 6 !b"]);
    say(&mut h, 0, &["ok 6 !b"]);
    assert_eq!(brief(&mut h), ["+!b"]);
}

#[test]
fn what_cannot_be_said_has_nothing_to_be_taken_back() {
    let unsigned = Arc::new(AtomicU32::new(u32::MAX));
    let words = Words { unsigned: unsigned.clone(), ..Words::default() };
    let mut h = with_topics(words, &[("!a", 0)]);
    assert_eq!(brief(&mut h), ["-!a: the signer does not answer", "online false"]);
    for _ in 0..3 {
        h.advance(secs(100));
        h.flush(0);
    }
    assert!(brief(&mut h).iter().all(|told| told == "-!a: the signer does not answer"));
    let id = h.s.subscriptions().next().unwrap().id;
    unsigned.store(0, Ordering::Relaxed);
    h.s.unsubscribe(id, h.now);
    h.run();
    h.flush(0);
    assert_eq!((h.texts(0).len(), h.s.subscriptions().count()), (0, 0), "the server never heard of it");
}

#[test]
fn what_cannot_be_ended_is_given_up_all_the_same() {
    let unsigned = Arc::new(AtomicU32::new(0));
    let words = Words { unsigned: unsigned.clone(), ..Words::default() };
    let mut h = with_topics(words, &[("!a", 0)]);
    say(&mut h, 0, &["ok 2 !a"]);
    unsigned.store(1, Ordering::Relaxed);
    let id = h.s.subscriptions().next().unwrap().id;
    h.s.unsubscribe(id, h.now);
    h.run();
    h.flush(0);
    assert_eq!((h.texts(0).len(), h.s.subscriptions().count()), (1, 0));
    say(&mut h, 0, &["!a 1"]);
    assert_eq!(brief(&mut h), ["+!a", "online false", "message !a 1"]);
}
