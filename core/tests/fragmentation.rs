//! Long messages go in several frames, and control frames get through between them.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{CloseCode, Message, SendOptions};
use std::io::{Cursor, Read, Write};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

/// What a server on tungstenite reads in the client's bytes: messages, until there are no more.
fn server_reads(bytes: &[u8]) -> Vec<tungstenite::Message> {
    struct Wire(Cursor<Vec<u8>>);
    impl Read for Wire {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(out)
        }
    }
    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let wire = Wire(Cursor::new(bytes.to_vec()));
    let mut server = WebSocket::from_raw_socket(wire, Role::Server, Some(WebSocketConfig::default()));
    let mut messages = vec![];
    loop {
        match server.read() {
            Ok(message) => messages.push(message),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => break,
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => panic!("{error:?} after {messages:?}"),
        }
    }
    messages
}

fn send(h: &mut Harness, message: Message<'_>) {
    h.s.send(message, SendOptions::default(), h.now).unwrap();
}

#[test]
fn lengths_around_the_border() {
    for (len, frames) in [(0, 1), (1, 1), (1023, 1), (1024, 1), (1025, 2), (2048, 2), (2049, 3), (70_000, 69)]
    {
        let mut h = Harness::online(config().fragment_size(1024));
        // Text, so that characters are cut.
        let text = "\u{2192}".repeat(len / 3) + &"x".repeat(len % 3);
        send(&mut h, Message::Text(&text));
        send(&mut h, Message::Binary(text.as_bytes()));
        h.flush(0);
        let all = h.frames(0);
        assert_eq!(all.len(), 2 * frames);
        let (first, rest) = all[..frames].split_first().unwrap();
        assert_eq!(first.0 & 0xf, TEXT);
        assert!(rest.iter().all(|frame| frame.0 & 0xf == CONT));
        assert!(all[..frames - 1].iter().all(|frame| frame.0 & FIN == 0 && frame.1.len() == 1024));
        assert!(all[frames - 1].0 & FIN != 0);
        let read = server_reads(after_head(&h.conns[0].written));
        assert_eq!(
            read,
            [tungstenite::Message::text(text.as_str()), tungstenite::Message::binary(text.into_bytes())]
        );
    }
}

#[test]
fn pongs_get_between_wherever_the_writing_stands() {
    let text: String = ('a'..='z').cycle().take(3000).collect();
    let total = 3000 + 3 * 8 + 7;
    for written in 0..total {
        let mut h = Harness::online(config().fragment_size(1024));
        send(&mut h, Message::Text(&text));
        send(&mut h, Message::Text("b"));
        let head = h.conns[0].written.len();
        assert_eq!(h.flush_up_to(0, written), written);
        assert_eq!(h.feed_silently(0, &[frame(FIN | PING, b"1"), frame(FIN | PING, b"2")].concat()), 6);
        h.flush(0);
        assert_eq!(h.conns[0].written.len() - head, total + 2 * 7);
        let pong = |payload: &'static [u8]| tungstenite::Message::Pong(payload.into());
        let mut read = server_reads(after_head(&h.conns[0].written));
        // Before the next fragment that was not begun: at most one is written before the pongs.
        let kinds: Vec<u8> = h.frames(0).iter().map(|(first, _)| first & 0xf).collect();
        let at = kinds.iter().position(|kind| *kind == PONG).unwrap();
        let whole_or_begun = written.div_ceil(1032);
        assert!(at <= whole_or_begun.max(1) + 1, "{at} frames went before it, {written} bytes were written");
        let pongs: Vec<_> = read.extract_if(.., |message| message.is_pong()).collect();
        assert_eq!(pongs, [pong(b"1"), pong(b"2")], "in order, {written} bytes were written");
        assert_eq!(read, [tungstenite::Message::text(text.as_str()), tungstenite::Message::text("b")]);
    }
}

#[test]
fn a_close_comes_after_all_that_was_sent() {
    for written in [0, 1, 500, 1032, 1033, 2000, 3024] {
        let mut h = Harness::online(config().fragment_size(1024));
        let text = "x".repeat(3000);
        send(&mut h, Message::Text(&text));
        send(&mut h, Message::Text("b"));
        h.flush_up_to(0, written);
        h.s.close(CloseCode::Normal, "", h.now);
        h.run();
        h.flush(0);
        assert_eq!(h.frames(0).last().map(|frame| frame.0), Some(FIN | CLOSE));
        let read = server_reads(after_head(&h.conns[0].written));
        assert_eq!(read[..2], [tungstenite::Message::text(text.as_str()), tungstenite::Message::text("b")]);
        assert!(read[2].is_close());
    }
}

#[test]
fn nothing_follows_on_the_close_frame() {
    // After a fault of the peer what waited still goes out; after its own close frame, only what was begun.
    for (input, all) in [(frame(FIN | 7, b""), true), (frame(FIN | CLOSE, b"\x03\xe8"), false)] {
        for written in 0..2200 {
            let mut h = Harness::online(config().fragment_size(1024));
            send(&mut h, Message::Text(&"x".repeat(3000)));
            h.flush_up_to(0, written);
            h.feed_silently(0, &input);
            h.flush(0);
            let (frames, rest) = frames(after_head(&h.conns[0].written));
            let last = frames.last().map(|frame| frame.0);
            assert_eq!((last, rest), (Some(FIN | CLOSE), 0), "{written} bytes were written");
            let data = if all { 3 } else { written.div_ceil(1032) };
            assert_eq!(frames.len(), data + 1, "{written} bytes were written");
        }
    }
}
