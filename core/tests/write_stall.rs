//! A write timeout that is shorter than the other deadlines of a connection.

mod common;

use common::*;
use everwire_core::{Error, OwnedEvent, Timeout};

#[test]
fn a_handshake_that_is_not_written_ends_at_its_own_deadline() {
    let mut h = Harness::new(config().write_timeout(secs(1)).handshake_timeout(secs(4)));
    h.run();
    h.s.handle_connected(h.conns[0].id, h.now);
    assert_eq!(h.run(), Stop::Wait(Some(h.now + secs(4))));
    h.advance(secs(4));
    let [OwnedEvent::AttemptFailed { error, .. }] = &h.told()[..] else { panic!("{:?}", h.events) };
    assert_eq!(*error, Error::Timeout(Timeout::Handshake));
}

#[test]
fn a_close_frame_that_is_not_written_is_given_up_after_the_close_timeout() {
    let config = config().write_timeout(secs(1)).close_timeout(secs(5)).backoff(secs(60), secs(60));
    let mut h = Harness::online(config);
    // The fault is answered with a close frame, which the socket does not take.
    h.feed_silently(0, &frame(0x83, b"reserved"));
    assert!(matches!(h.told()[..], [OwnedEvent::Lost { error: Error::Protocol(_), .. }]));
    h.advance(secs(5) - millis(1));
    assert!(!h.conns[0].dropped);
    h.advance(millis(1));
    assert!(h.conns[0].dropped);
}
