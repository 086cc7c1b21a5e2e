//! Pings and heartbeats that the rate limiter holds back: a peer that was not asked owes no answer.

mod common;

use common::*;
use everwire_core::{Error, JsonRpc, Limit, Message, OwnedEvent, SendOptions, Timeout};

fn limit() -> Limit {
    Limit::window("messages", 1, secs(60)).margin(millis(0))
}

#[test]
fn the_time_of_a_ping_begins_when_it_is_sent() {
    let config = config().ping_interval(secs(20)).pong_timeout(secs(10)).send_limit(limit());
    let mut h = Harness::online(config);
    h.s.send(Message::Text("{}"), SendOptions::default(), h.now).unwrap();
    h.flush(0);
    h.advance(secs(60));
    h.flush(0);
    assert!(h.told().is_empty());
    assert_eq!(h.frames(0).len(), 2, "the message, and the ping as soon as it may go");
    h.advance(secs(10) - millis(1));
    assert!(h.told().is_empty());
    h.advance(millis(1));
    assert!(matches!(&h.told()[..], [OwnedEvent::Lost { error: Error::Timeout(Timeout::Pong), .. }]));
}

#[test]
fn the_time_of_a_heartbeat_begins_when_it_is_sent() {
    let rpc = JsonRpc::new().heartbeat("public/ping", None).unwrap();
    let config = config().protocol(rpc).heartbeat_interval(secs(20)).heartbeat_timeout(secs(10));
    let mut h = Harness::online(config.send_limit(limit()));
    h.s.send(Message::Text("{}"), SendOptions::default(), h.now).unwrap();
    h.flush(0);
    h.advance(secs(60));
    h.flush(0);
    assert!(h.told().is_empty());
    let texts = h.texts(0);
    assert!(texts.len() == 2 && texts[1].contains("\"public/ping\""), "{texts:?}");
    h.advance(secs(10) - millis(1));
    assert!(h.told().is_empty());
    h.advance(millis(1));
    assert!(matches!(&h.told()[..], [OwnedEvent::Lost { error: Error::Timeout(Timeout::Heartbeat), .. }]));
}
