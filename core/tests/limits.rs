//! What a peer or a slow user can do to memory, and what the peer is told when it goes too far.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::ws::Limits;
use everwire_core::ws::deflate::DeflateConfig;
use everwire_core::{
    CloseCode, Config, Error, JsonRpc, Message, OwnedEvent, Request, RequestOptions, SendError, SendOptions,
};

/// The error that `bytes` end a connection with, and the close frame that the peer is sent for it.
fn fault(config: Config, bytes: &[u8]) -> (String, (u16, String)) {
    let mut h = Harness::online(config);
    h.feed_silently(0, bytes);
    h.flush(0);
    let lost = h.told().into_iter().find_map(|event| match event {
        OwnedEvent::Lost { error: Error::Protocol(error), .. } => Some(error),
        _ => None,
    });
    let error = lost.expect("the connection is lost");
    (format!("{error:?}"), h.close_frame(0).expect("the peer is told why"))
}

#[test]
fn faults_have_their_close_codes() {
    let limits = Limits { max_frame: 1000, max_message: 1500, max_fragments: 3, chunk: None };
    for (bytes, want, code) in [
        (frame(FIN | BINARY, &[0; 1001]), "FrameTooLarge { len: 1001, max: 1000 }", 1009),
        ([frame(BINARY, &[0; 1000]), frame(CONT, &[0; 501])].concat(), "MessageTooLarge { max: 1500 }", 1009),
        ([frame(TEXT, b"a"), frame(CONT, b"").repeat(3)].concat(), "TooManyFragments { max: 3 }", 1009),
        (frame(FIN | TEXT, b"\xff"), "InvalidUtf8", 1007),
        (frame(FIN | 7, b""), "ReservedOpcode(7)", 1002),
        (frame(FIN | CLOSE, b"\x03\xe8\xff"), "InvalidUtf8", 1007),
        (close(1006, ""), "BadCloseCode(1006)", 1002),
    ] {
        let (error, (told, reason)) = fault(config().limits(limits.clone()), &bytes);
        assert_eq!((&*error, told), (want, code));
        assert!(!reason.is_empty());
    }
    let mut h = Harness::online(config().limits(limits));
    h.feed(0, &[frame(BINARY, &[0; 1000]), frame(CONT, b""), frame(FIN | CONT, &[0; 500])].concat());
    h.feed(0, &frame(FIN | TEXT, &[b'x'; 1000]));
    assert_eq!(h.told().len(), 2, "the limits themselves are allowed");
}

#[test]
fn a_length_that_is_promised_takes_no_memory() {
    let limits = Limits { max_frame: 1 << 30, max_message: 1 << 30, ..Limits::default() };
    let mut h = Harness::online(config().limits(limits));
    h.feed(0, &[&[FIN | BINARY, 127][..], &(1u64 << 30).to_be_bytes(), &[0; 100]].concat());
    let room = h.s.recv_buffer(h.conns[0].id).len();
    assert!((1..=2 * 8192).contains(&room), "{room}");
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    // 64 MiB of zeros in 64 KiB.
    let mut zip = flate2::Compress::new(flate2::Compression::best(), false);
    let mut bomb = Vec::with_capacity(1 << 20);
    zip.compress_vec(&vec![0; 64 << 20], &mut bomb, flate2::FlushCompress::Sync).unwrap();
    assert!(bomb.len() < 100 << 10);
    for chunk in [None, Some(1024)] {
        let limits = Limits { max_message: 1 << 20, chunk, ..Limits::default() };
        let mut h = Harness::new(config().limits(limits).deflate(DeflateConfig::default()));
        h.run();
        h.connect(0);
        let response = accept(&h.conns[0].written, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
        h.feed(0, &response);
        h.told();
        h.feed_silently(0, &frame(FIN | RSV1 | BINARY, &bomb));
        h.flush(0);
        let told = h.told();
        let chunks =
            told.iter().filter(|event| matches!(event, OwnedEvent::Chunk { part, .. } if part.len() == 1024));
        assert_eq!(chunks.count(), told.len() - 1);
        assert!(told.len() <= 1 + 1024, "no more than a MiB is told");
        assert!(
            format!("{:?}", told.last()).contains("MessageTooLarge { max: 1048576 }"),
            "{:?}",
            told.last()
        );
        assert_eq!(h.close_frame(0).unwrap().0, 1009);
    }
}

#[test]
fn a_handshake_without_end() {
    for (response, want) in [
        (format!("HTTP/1.1 101 x\r\nX: {}", "x".repeat(2000)), "HeadTooLarge { limit: 1024 }"),
        (format!("HTTP/1.1 101 x\r\n{}", "X: y\r\n".repeat(60)), "TooManyHeaders { limit: 50 }"),
    ] {
        let mut h = Harness::new(config());
        h.run();
        h.connect(0);
        h.feed_silently(0, format!("{response}\r\n\r\n").as_bytes());
        let [OwnedEvent::AttemptFailed { error, .. }] = &h.told()[..] else { panic!("one event") };
        assert_eq!(format!("{error:?}"), format!("Handshake({want})"));
        assert!(h.conns[0].dropped);
    }
}

/// Pings until the session reads no more; how many bytes it took.
fn flood(h: &mut Harness) -> usize {
    let pings = frame(FIN | PING, &[7; 125]).repeat(10_000);
    let taken = h.feed_silently(0, &pings);
    assert!(taken < pings.len(), "it stops reading");
    taken
}

#[test]
fn pings_of_a_peer_that_does_not_read() {
    for protocol in [false, true] {
        let config = if protocol { config().protocol(JsonRpc::new()) } else { config() };
        let mut h = Harness::online(config);
        let before = h.frames(0).len();
        let taken = flood(&mut h);
        let waiting = h.s.transmit(h.conns[0].id).len();
        assert!(waiting <= 256 << 10, "{waiting} bytes of pongs");
        assert!(h.s.recv_buffer(h.conns[0].id).is_empty());
        // The peer reads: all that was taken is answered, and reading goes on.
        h.flush(0);
        h.feed(0, &vec![7; (127 - taken % 127) % 127]);
        assert_eq!(h.frames(0).len() - before, taken.div_ceil(127));
        h.feed(0, &text("after"));
        assert!(matches!(&h.told()[..], [OwnedEvent::Message { .. }]));
    }
}

#[test]
fn a_flood_that_ends_with_the_connection_hides_nothing() {
    for protocol in [false, true] {
        let config = if protocol { config().protocol(JsonRpc::new()) } else { config() };
        let mut h = Harness::online(config);
        // As many pings as make it pause, then a message within what it had read.
        let mut bytes = frame(FIN | PING, b"").repeat(2000);
        bytes.extend(text("last words"));
        assert_eq!(h.feed_silently(0, &bytes), bytes.len());
        h.eof(0);
        let told = h.told();
        assert!(matches!(&told[..], [OwnedEvent::Message { .. }, OwnedEvent::Lost { .. }]), "{told:?}");
    }
}

#[test]
fn reconnect_is_heard_during_a_flood() {
    let mut h = Harness::online(config().protocol(JsonRpc::new()));
    flood(&mut h);
    h.s.reconnect(h.now);
    h.run();
    assert!(matches!(&h.told()[..], [OwnedEvent::Lost { error: Error::Reconnect, .. }]));
}

#[test]
fn a_slow_user_stops_the_reads_and_nothing_grows() {
    let mut h = Harness::online(config().ping_interval(secs(5)).pong_timeout(secs(5)).max_attempts(3));
    h.takes = false;
    let bytes = text(&"x".repeat(100)).repeat(1000);
    let taken = h.feed_silently(0, &bytes);
    assert!(taken <= 8192);
    assert_eq!(h.run(), Stop::Event);
    // Hours go by, with every deadline kept as a driver does.
    for _ in 0..1000 {
        h.now += secs(10);
        h.s.handle_timeout(h.now);
        assert_eq!(h.run(), Stop::Event);
        assert!(h.s.recv_buffer(h.conns[0].id).is_empty());
        h.flush(0);
    }
    assert_eq!(
        h.s.send(Message::Text("still there"), SendOptions::default(), h.now).map(|id| id.as_u64()),
        Ok(1)
    );
    // He comes back: all of it is there, and the connection too.
    h.takes = true;
    h.run();
    let more = h.feed_silently(0, &bytes[taken..]);
    assert_eq!(taken + more, bytes.len());
    let told = h.told();
    assert_eq!(told.len(), 1000);
    assert!(told.iter().all(|event| matches!(event, OwnedEvent::Message { .. })));
}

#[test]
fn a_user_who_does_not_take_a_failure_makes_no_more_of_them() {
    let mut h = Harness::new(config().max_attempts(3));
    h.run();
    h.takes = false;
    h.eof(0);
    for _ in 0..1000 {
        h.now += secs(60);
        h.s.handle_timeout(h.now);
        assert_eq!(h.run(), Stop::Event);
    }
    h.takes = true;
    let mut failed = 0;
    while h.conns.len() < 2 && failed < 3 {
        h.run();
        failed += h.told().len();
        h.advance(secs(60));
    }
    assert_eq!(failed, 1, "no attempt fails that was never made");
}

#[test]
fn what_waits_to_be_sent_is_bounded() {
    let mut h = Harness::online(config().send_buffer(10_000).max_requests(3).protocol(JsonRpc::new()));
    let kilobyte = "x".repeat(1000);
    let send = |h: &mut Harness, text: &str| h.s.send(Message::Text(text), SendOptions::default(), h.now);
    let taken = (0..100).take_while(|_| send(&mut h, &kilobyte).is_ok()).count();
    assert_eq!(taken, 9, "of 1,008 bytes each");
    assert_eq!(send(&mut h, &kilobyte), Err(SendError::Full));
    let big = format!("[\"{kilobyte}\"]");
    let request = Request::new("m").params(&big);
    assert_eq!(h.s.request(request, RequestOptions::default(), h.now), Err(SendError::Full));
    assert!(send(&mut h, "small").is_ok(), "what fits is taken");
    h.flush(0);
    // One that is longer than all of it passes alone.
    assert!(send(&mut h, &"x".repeat(50_000)).is_ok());
    assert_eq!(send(&mut h, "x"), Err(SendError::Full));
    h.flush(0);
    assert_eq!(h.texts(0).len(), 9 + 1 + 1, "what was refused was not sent");
    for _ in 0..3 {
        h.s.request(Request::new("m"), RequestOptions::default(), h.now).unwrap();
    }
    assert_eq!(
        h.s.request(Request::new("m"), RequestOptions::default(), h.now),
        Err(SendError::TooManyRequests)
    );
    h.s.close(CloseCode::Normal, "", h.now);
    assert_eq!(send(&mut h, "x"), Err(SendError::Closed));
}
