//! Servers that number all messages of a connection through.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::Ack;
use everwire_core::{
    Continuity, Gap, GapCause, OwnedEvent, Sequence, Sequences, State, SubscriptionState, Tracker,
};
use needs::*;

/// Each message ends with `#` and its number; one without is corrupt.
fn numbered() -> Box<dyn Tracker> {
    let mut numbers = everwire_core::SequenceRule::PlusOne.tracker();
    Sequences::hook(move |given, text| {
        assert_eq!(given, None, "nobody but the tracker reads it");
        match text.rsplit_once('#').and_then(|(_, number)| number.parse().ok()) {
            Some(number) => numbers.check(Some(Sequence::new(number)), text),
            None => Continuity::Corrupt { reason: format!("no number in {text:?}") },
        }
    })
}

fn words() -> Words {
    Words { tracker: Some(numbered), subscribes: Ack::None, unsubscribes: Ack::None, ..Words::default() }
}

/// Online with these topics.
fn with_topics(words: Words, topics: &[&str]) -> Harness {
    let mut h = Harness::new(config().protocol(words));
    for topic in topics {
        subscribe(&mut h, topic);
    }
    h.run();
    h.open(0);
    h.told();
    h
}

fn gaps(told: &[OwnedEvent]) -> Vec<&Gap> {
    let gaps = told.iter().filter_map(|event| match event {
        OwnedEvent::Gap(gap) => Some(gap),
        _ => None,
    });
    gaps.collect()
}

#[test]
fn a_hole_is_told_once_for_all_topics_ahead_of_the_message() {
    let mut h = with_topics(words(), &["a", "b", "x:c"]);
    let start = h.now;
    say(&mut h, 0, &["a #1", "nobody #2"]);
    h.now += secs(2);
    say(&mut h, 0, &["b #3"]);
    assert_eq!(brief(&mut h), ["message a #1", "message nobody #2", "message b #3"]);
    h.now += secs(5);
    say(&mut h, 0, &["b #7"]);
    let told = h.told();
    let gap = gaps(&told)[0].clone();
    assert_eq!(gap.topics.iter().map(|(_, name)| &**name).collect::<Vec<_>>(), ["a", "b", "x:c"]);
    assert_eq!((gap.since, gap.until), (start + secs(2), start + secs(7)), "since the message before it");
    assert_eq!(gap.cause, GapCause::Sequence { expected: 4, got: 7 });
    // All of them are made anew, each with what it missed meanwhile.
    let told: Vec<String> = told.iter().map(in_short).collect();
    assert_eq!(told[..2], ["gap a,b,x:c Sequence { expected: 4, got: 7 }", "message b #7"]);
    let mut rest = told[2..].to_vec();
    rest.sort();
    assert_eq!(rest, ["+a", "+b", "+x:c", "gap a Resync", "gap b Resync", "gap x:c Resync"]);
    assert_eq!(h.texts(0)[2..].len(), 6, "{:?}", h.texts(0));
    assert!(h.s.subscriptions().all(|s| s.state == SubscriptionState::Confirmed));
    // It goes on from there.
    say(&mut h, 0, &["a #8", "a #9"]);
    assert_eq!(brief(&mut h), ["message a #8", "message a #9"]);
}

#[test]
fn answers_and_heartbeats_are_counted_too() {
    let words = Words { subscribes: Ack::Response, authenticates: Some(Ack::Response), ..words() };
    let mut h = opened(words);
    say(&mut h, 0, &["ok 1 t #1"]);
    subscribe(&mut h, "a");
    say(&mut h, 0, &["list #2", "ok 2 a,#3"]);
    assert_eq!(brief(&mut h), ["authenticated", "online false", "+a"]);
    // An answer behind a hole: the gap goes before what it settles.
    subscribe(&mut h, "b");
    say(&mut h, 0, &["ok 3 b,#5"]);
    let told = brief(&mut h);
    assert_eq!(told[..2], ["gap a Sequence { expected: 4, got: 5 }", "+b"], "{told:?}");
}

#[test]
fn a_duplicate_goes_no_further() {
    let mut h = with_topics(Words { subscribes: Ack::Response, ..words() }, &["a"]);
    say(&mut h, 0, &["a #1", "a #1", "ok 2 a,#1", "refused 7:x#1"]);
    assert_eq!((brief(&mut h), h.s.stats().duplicates), (vec!["message a #1".into()], 3));
    assert_eq!(h.s.state(), State::Restoring, "not even as an answer");
    say(&mut h, 0, &["ok 2 a,#2"]);
    assert_eq!(brief(&mut h), ["+a", "online false"]);
}

#[test]
fn what_is_corrupt_is_a_gap_and_is_told() {
    let mut h = with_topics(words(), &["a"]);
    say(&mut h, 0, &["a 17"]);
    let told = brief(&mut h);
    assert_eq!(told[..2], [r#"gap a Corrupt { reason: "no number in \"a 17\"" }"#, "message a 17"]);
}

#[test]
fn each_connection_counts_anew_and_without_topics_all_is_meant() {
    let mut h = with_topics(words(), &[]);
    say(&mut h, 0, &["x #1", "x #3"]);
    assert_eq!(brief(&mut h), ["message x #1", "gap  Sequence { expected: 2, got: 3 }", "message x #3"]);
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    h.told();
    say(&mut h, conn, &["x #1", "x #2"]);
    assert_eq!(brief(&mut h), ["message x #1", "message x #2"]);
}

#[test]
fn topics_that_are_not_in_force_missed_nothing() {
    let mut h = with_topics(Words { subscribes: Ack::Response, ..words() }, &["a", "x:b"]);
    say(&mut h, 0, &["y #1", "y #3"]);
    assert_eq!(brief(&mut h), ["message y #1", "message y #3"]);
    say(&mut h, 0, &["ok 2 a,#4", "y #6"]);
    let told = brief(&mut h);
    assert_eq!(told[..3], ["+a", "gap a Sequence { expected: 5, got: 6 }", "message y #6"], "{told:?}");
}

#[test]
fn hole_after_hole_makes_no_storm() {
    let names: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
    let mut h = with_topics(words(), &names.iter().map(|name| &**name).collect::<Vec<_>>());
    let before = h.texts(0).len();
    for n in 0..50 {
        say(&mut h, 0, &[&format!("t1 #{}", n * 2)]);
    }
    let told = h.told();
    let holes = gaps(&told).into_iter().filter(|gap| gap.cause != GapCause::Resync).count();
    assert_eq!(holes, 49, "each is told");
    assert_eq!(h.texts(0).len() - before, 32, "16 topics are ended and made anew in 10 s, not more");
}

#[test]
fn it_makes_no_difference_how_the_bytes_are_cut() {
    let stream: Vec<u8> =
        ["a #1", "b #2", "a #5", "a #5", "x #6", "b", "b #7"].iter().flat_map(|said| text(said)).collect();
    let play = |cuts: &[usize]| {
        let mut h = with_topics(words(), &["a", "b"]);
        let mut at = 0;
        for cut in cuts.iter().copied().chain([stream.len()]) {
            h.feed_silently(0, &stream[at..cut]);
            at = cut;
        }
        h.flush(0);
        (brief(&mut h), h.texts(0))
    };
    let whole = play(&[]);
    assert!(whole.0.len() > 10, "{whole:?}");
    for cut in 1..stream.len() {
        assert_eq!(play(&[cut]), whole, "cut at {cut}");
    }
    assert_eq!(play(&(1..stream.len()).collect::<Vec<_>>()), whole, "byte by byte");
}

/// A snapshot may come ahead of the answer: what is lost between the two is lost to that topic.
#[test]
fn a_topic_whose_answer_is_late_is_made_anew_when_it_comes() {
    let words = Words { subscribes: Ack::Separate, ..words() };
    let mut h = with_topics(words, &["a"]);
    say(&mut h, 0, &["a #1"]);
    assert_eq!(brief(&mut h), ["message a #1"]);
    say(&mut h, 0, &["a #3"]);
    assert_eq!(brief(&mut h), ["gap a Sequence { expected: 2, got: 3 }", "message a #3"]);
    let before = h.texts(0).len();
    say(&mut h, 0, &["list a,#4"]);
    assert_eq!(brief(&mut h)[0], "+a");
    let asked = h.texts(0)[before..].to_vec();
    assert!(asked[0].starts_with("unsub ") && asked[1].starts_with("sub "), "{asked:?}");
    // Once.
    say(&mut h, 0, &["list a,#5"]);
    assert!(brief(&mut h).contains(&"+a".to_owned()));
    say(&mut h, 0, &["a #6"]);
    assert_eq!(brief(&mut h), ["message a #6"]);
    assert_eq!(h.texts(0).len(), before + 2);
}
