//! Messages that a protocol has no words for when their turn comes.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::protocol::{Ack, Context, Inbound, Request, Topic, Traffic, Unsupported};
use everwire_core::{Limit, Protocol, RequestOptions, SubscribeOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
