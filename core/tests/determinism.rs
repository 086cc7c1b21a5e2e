//! The seed is the only chance there is.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{JsonRpc, Message, OnDisconnect, Request, RequestOptions, SendOptions, SubscribeOptions};

/// A life with losses, requests and pings: all events and all bytes.
fn life(seed: [u8; 32]) -> (Vec<String>, Vec<Vec<u8>>) {
    let config =
        config().protocol(JsonRpc::new().topics_per_message(2)).ping_interval(secs(3)).fragment_size(1024);
    let mut h = Harness::seeded(config, seed);
    for n in 0..20 {
        h.s.subscribe(format!("topic-{n}"), SubscribeOptions::default(), h.now);
    }
    h.run();
    for conn in 0..4 {
        if conn == 2 {
            h.eof(conn);
        } else {
            h.open(conn);
            confirm(&mut h, conn, 0);
            h.s.send(Message::Text(&"x".repeat(3000)), SendOptions::default(), h.now).unwrap();
            for _ in 0..10 {
                let options =
                    RequestOptions { on_disconnect: OnDisconnect::Resend, ..RequestOptions::default() };
                h.s.request(Request::new("m"), options, h.now).unwrap();
            }
            h.feed(conn, &[notification("topic-3", 1), frame(FIN | PING, b"x")].concat());
            h.advance(secs(4));
            h.flush(conn);
            h.eof(conn);
        }
        assert_eq!(h.next_conn(), conn + 1);
    }
    let events = h.events.iter().map(|event| format!("{event:?}")).collect();
    (events, h.conns.into_iter().map(|conn| conn.written).collect())
}

#[test]
fn the_same_seed_does_the_same() {
    let (events, bytes) = life([1; 32]);
    assert!(events.len() > 60, "{}", events.len());
    assert_eq!(bytes.iter().filter(|bytes| bytes.len() > 4000).count(), 3);
    for _ in 0..3 {
        assert_eq!(life([1; 32]), (events.clone(), bytes.clone()));
    }
}

#[test]
fn another_seed_masks_otherwise_and_says_the_same() {
    let ((events, bytes), (other_events, other_bytes)) = (life([1; 32]), life([2; 32]));
    assert_ne!(bytes[0], other_bytes[0]);
    assert_ne!(header(&bytes[0], "Sec-WebSocket-Key"), header(&other_bytes[0], "Sec-WebSocket-Key"));
    assert_eq!(
        frames(after_head(&bytes[0])),
        frames(after_head(&other_bytes[0])),
        "without masks it is the same"
    );
    assert_ne!(events, other_events, "delays differ");
}

#[test]
fn connections_of_one_session_share_no_masks() {
    let (_, bytes) = life([1; 32]);
    let mask = |bytes: &[u8]| -> [u8; 4] { after_head(bytes)[4..8].try_into().unwrap() };
    let masks = [mask(&bytes[0]), mask(&bytes[1]), mask(&bytes[3])];
    assert!(masks[0] != masks[1] && masks[1] != masks[2] && masks[0] != masks[2]);
    assert_ne!(header(&bytes[0], "Sec-WebSocket-Key"), header(&bytes[1], "Sec-WebSocket-Key"));
}
