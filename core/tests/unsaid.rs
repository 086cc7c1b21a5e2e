//! Messages that a protocol has no words for when their turn comes.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::{Ack, Context, Inbound, Request, Topic, Traffic, Unsupported};
use everwire_core::{Continuity, Sequence, SequenceRule, Sequences, State, Tracker};
use everwire_core::{Limit, Protocol, RequestOptions, SubscribeOptions};
use needs::{Words, opened, say};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Beats as long as that is wanted, and has no message that subscribes.
#[derive(Debug)]
struct Sometimes(Arc<AtomicBool>);

impl Protocol for Sometimes {
    fn classify<'m>(&self, _: &'m str) -> Inbound<'m> {
        Inbound::other()
    }

    fn request(&self, _: u64, _: &Request<'_>, _: &Context<'_>, out: &mut String) -> Result<(), Unsupported> {
        out.push_str("ask");
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        1
    }

    fn subscribe(&self, _: u64, _: &[&Topic], _: &Context<'_>, _: &mut String) -> Result<Ack, Unsupported> {
        Ok(Ack::Response)
    }

    fn unsubscribe(&self, _: u64, _: &[&Topic], _: &Context<'_>, _: &mut String) -> Result<Ack, Unsupported> {
        Ok(Ack::Response)
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }

    fn heartbeat(&self, _: u64, _: &Context<'_>, out: &mut String) -> Ack {
        if self.0.load(Ordering::Relaxed) {
            out.push_str("beat");
        }
        Ack::Response
    }

    fn limits(&self) -> Vec<Limit> {
        vec![Limit::window("beats", 1, secs(5)).margin(secs(0))]
    }

    fn cost(&self, _: &str, traffic: Traffic<'_>) -> u32 {
        u32::from(matches!(traffic, Traffic::Heartbeat | Traffic::Request(_)))
    }
}

#[test]
fn a_heartbeat_that_there_is_none_of_any_more_is_not_sent_and_not_awaited() {
    let beats = Arc::new(AtomicBool::new(true));
    let config = config().protocol(Sometimes(beats.clone()));
    let mut h = Harness::online(config.heartbeat_interval(secs(10)).heartbeat_timeout(secs(5)));
    h.advance(secs(9));
    let options = RequestOptions::default().timeout(secs(600));
    h.s.request(Request::new("m"), options, h.now).unwrap();
    h.advance(secs(2));
    h.flush(0);
    assert_eq!(h.texts(0), ["ask"], "the limit holds the heartbeat back");
    beats.store(false, Ordering::Relaxed);
    h.advance(secs(60));
    h.flush(0);
    assert_eq!((h.texts(0), brief(&mut h)), (vec!["ask".to_owned()], vec![]));
    beats.store(true, Ordering::Relaxed);
    h.advance(secs(15));
    h.flush(0);
    assert_eq!(h.texts(0), ["ask", "beat"]);
}

#[test]
fn what_needs_no_message_is_in_force() {
    let mut h = Harness::online(config().protocol(Sometimes(Arc::default())));
    let id = h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.s.unsubscribe(id, h.now);
    h.run();
    h.flush(0);
    assert_eq!((h.texts(0).len(), brief(&mut h)), (0, vec!["+a".to_owned()]));
    assert_eq!(h.s.subscriptions().count(), 0);
}

/// Messages end with their numbers, if they have any.
fn numbered() -> Box<dyn Tracker> {
    let mut numbers = SequenceRule::PlusOne.tracker();
    Sequences::hook(move |_, text| match text.rsplit_once('#').and_then(|(_, number)| number.parse().ok()) {
        Some(number) => numbers.check(Some(Sequence::new(number)), text),
        None => Continuity::Continues,
    })
}

/// The second step of the preparation cannot be written when the limiter lets it go, while the user does not take what came.
fn unprepared(more: &[&str]) -> Harness {
    let unsigned = Arc::new(AtomicU32::new(0));
    let limits = vec![Limit::window("preparing", 1, secs(10)).margin(secs(0))];
    let steps = vec![Ack::Response; 2];
    let mut h = opened(Words {
        steps,
        limits,
        tracker: Some(numbered),
        unsigned: unsigned.clone(),
        ..Words::default()
    });
    say(&mut h, 0, &["m #1", "ok 2"]);
    assert_eq!((brief(&mut h), h.s.state()), (vec!["message m #1".to_owned()], State::Preparing));
    h.takes = false;
    h.feed_silently(0, &more.iter().flat_map(|said| text(said)).collect::<Vec<_>>());
    unsigned.store(1, Ordering::Relaxed);
    h.now += secs(10);
    h.s.handle_timeout(h.now);
    h.run();
    h
}

#[test]
fn what_came_is_told_before_the_connection_is_given_up_for_want_of_words() {
    let lost = "lost: the protocol could not write what prepares the connection: the signer does not answer";
    let mut h = unprepared(&["m #5", "m #6"]);
    h.takes = true;
    h.run();
    let want = ["gap  Sequence { expected: 2, got: 5 }", "message m #5", "message m #6", lost];
    assert_eq!(brief(&mut h), want);
    assert_eq!(h.s.state(), State::Backoff);
    // With nothing to be told, it is at once.
    let mut h = unprepared(&[]);
    h.takes = true;
    h.run();
    assert_eq!(brief(&mut h), [lost]);
}

#[test]
fn who_leaves_meanwhile_is_not_told_of_it() {
    let mut h = unprepared(&["m #2"]);
    h.s.close(everwire_core::CloseCode::Normal, "bye", h.now);
    h.takes = true;
    h.run();
    h.flush(0);
    assert_eq!(h.close_frame(0), Some((1000, "bye".to_owned())));
    h.feed(0, &close(1000, "bye"));
    assert_eq!(brief(&mut h), ["message m #2", "closed None"]);
}

#[test]
fn a_peer_that_takes_no_pongs_does_not_keep_it() {
    ends(|| {
        let mut h = unprepared(&["m #2"]);
        h.takes = true;
        let pings: Vec<u8> = (0..600).flat_map(|_| frame(FIN | PING, b"")).collect();
        h.feed_silently(0, &pings);
        h.advance(secs(60));
        assert!(brief(&mut h).iter().any(|told| told.starts_with("lost: the protocol could not")));
    });
}
