//! How the network cuts the bytes makes no difference: not to what is told, not to what is sent.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::ws::Limits;
use everwire_core::ws::deflate::DeflateConfig;
use everwire_core::{Config, JsonRpc};
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

/// What can be seen of a session from outside.
#[derive(Debug, PartialEq)]
struct Seen {
    events: Vec<String>,
    sent: Vec<u8>,
}

/// Lets `stream` arrive after the handshake's response, which is cut as well, with reads that end at each of `cuts`.
///
/// All is written at the end: a peer's fault takes back what was not written, so that it matters when that is done.
fn play(config: &Config, extension: &str, stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> Seen {
    let mut h = Harness::new(config.clone());
    h.run();
    h.connect(0);
    let bytes = [&accept(&h.conns[0].written, extension), stream].concat();
    let mut at = 0;
    for cut in cuts.into_iter().chain([bytes.len()]) {
        let cut = cut.clamp(at, bytes.len());
        h.feed_silently(0, &bytes[at..cut]);
        at = cut;
    }
    h.flush(0);
    h.eof(0);
    let events = h.told().iter().map(|event| format!("{event:?}")).collect();
    Seen { events, sent: h.conns.swap_remove(0).written }
}

/// Compares, and says in few words where they differ.
fn assert_same(seen: &Seen, whole: &Seen, how: &str) {
    for (seen, whole) in seen.events.iter().zip(&whole.events) {
        assert!(seen == whole, "{how}: {seen:.300}\ninstead of {whole:.300}");
    }
    assert_eq!(seen.events.len(), whole.events.len(), "{how}");
    let sent = |seen: &Seen| frames(after_head(&seen.sent));
    assert_eq!(sent(seen), sent(whole), "{how}");
    assert!(seen.sent == whole.sent, "{how}: masks differ");
}

/// Every single cut, and all of them at once.
fn is_the_same_however_cut(config: &Config, extension: &str, stream: &[u8]) -> Seen {
    let whole = play(config, extension, stream, []);
    let len = stream.len() + 400;
    assert_same(&play(config, extension, stream, 0..len), &whole, "byte by byte");
    for cut in 0..len {
        assert_same(&play(config, extension, stream, [cut]), &whole, &format!("cut at {cut}"));
    }
    whole
}

struct Zip(Compress, bool);

impl Zip {
    /// A server's compressor, with its context kept from message to message or not.
    fn new(takeover: bool) -> Self {
        Self(Compress::new(Compression::default(), false), takeover)
    }

    fn deflate(&mut self, text: &str) -> Vec<u8> {
        if !self.1 {
            self.0.reset();
        }
        let mut out = Vec::with_capacity(text.len() + 1000);
        self.0.compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync).unwrap();
        match out.strip_suffix(&[0, 0, 0xff, 0xff]) {
            Some(body) => body.to_vec(),
            // Nothing to flush: an empty block.
            None => vec![0],
        }
    }
}

/// Every kind of frame that is right.
fn all_kinds() -> Vec<u8> {
    let umlauts = "häß→🦀".as_bytes();
    [
        text("hello"),
        text(""),
        frame(FIN | BINARY, &[0, 255, 128]),
        frame(FIN | BINARY, &[]),
        frame(FIN | PING, b"are you there"),
        frame(FIN | PONG, b"unasked"),
        // A text cut inside of characters, with control frames and empty fragments between.
        frame(TEXT, &umlauts[..2]),
        frame(FIN | PING, b""),
        frame(CONT, &[]),
        frame(CONT, &umlauts[2..6]),
        frame(FIN | PING, b"between"),
        frame(FIN | CONT, &umlauts[6..]),
        frame(BINARY, b"a"),
        frame(FIN | CONT, b""),
        // Lengths at their borders.
        text(&"x".repeat(125)),
        text(&"y".repeat(126)),
        notification("a", 1),
    ]
    .concat()
}

/// What a connection can end with.
fn endings() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("Eof", vec![]),
        ("Closed(Closed { code: Normal, reason: \"bye\" })", close(1000, "bye")),
        ("Closed(Closed { code: Status, reason: \"\" })", frame(FIN | CLOSE, &[])),
        ("ReservedBits(2)", frame(FIN | 0x20 | TEXT, b"x")),
        ("ReservedBits(4)", frame(FIN | RSV1 | TEXT, b"x")),
        ("ReservedOpcode(3)", frame(FIN | 3, b"x")),
        ("ReservedOpcode(11)", frame(FIN | 11, b"x")),
        ("MaskedFrame", vec![FIN | TEXT, 0x81, 0, 0, 0, 0, 0]),
        ("FragmentedControl", frame(PING, b"x")),
        ("OversizedControl", frame(FIN | PING, &[0; 126])),
        ("BadLength", vec![FIN | TEXT, 126, 0, 5, 0, 0, 0, 0, 0]),
        ("BadLength", vec![FIN | TEXT, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ("UnexpectedContinuation", frame(FIN | CONT, b"x")),
        ("UnfinishedMessage", [frame(TEXT, b"x"), text("y")].concat()),
        ("InvalidUtf8", frame(FIN | TEXT, b"right so far \xff and more")),
        ("InvalidUtf8", frame(FIN | TEXT, b"cut \xe2\x86")),
        ("InvalidUtf8", [frame(TEXT, b"cut \xe2\x86"), frame(FIN | CONT, b"?")].concat()),
        ("BadCloseFrame", frame(FIN | CLOSE, &[3])),
        ("BadCloseCode(1005)", close(1005, "")),
        ("InvalidUtf8", frame(FIN | CLOSE, b"\x03\xe8\xff")),
        ("FrameTooLarge", vec![FIN | BINARY, 127, 0, 0, 0, 0, 1, 0, 0, 1]),
        ("TooManyFragments", [frame(TEXT, b"x"), frame(CONT, b"y").repeat(20)].concat()),
    ]
}

#[test]
fn every_cut_of_every_ending() {
    let limits = Limits { max_fragments: 16, ..Limits::default() };
    let config = config().limits(limits).protocol(JsonRpc::new());
    let kinds = all_kinds();
    for (want, ending) in endings() {
        let seen = is_the_same_however_cut(&config, "", &[&*kinds, &*ending].concat());
        assert_eq!(seen.events.iter().filter(|event| event.starts_with("Message")).count(), 9, "{seen:?}");
        let last = seen.events.last().unwrap();
        assert!(last.starts_with("Lost") && last.contains(want), "{want}: {last}");
    }
}

#[test]
fn bigger_than_the_buffer() {
    let stream = [text("before"), text(&"ö".repeat(4500)), frame(FIN | PING, b"p"), text("after")].concat();
    let seen = is_the_same_however_cut(&config(), "", &stream);
    assert_eq!(seen.events.len(), 1 + 3 + 1);
}

#[test]
fn compressed_with_every_takeover() {
    for (takeover, extension) in [
        (true, "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        (false, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"),
    ] {
        let mut zip = Zip::new(takeover);
        let mut stream = vec![];
        for data in ["the same words, ünd the same words", "the same words, ünd the same words", "", "short"]
        {
            stream.extend(frame(FIN | RSV1 | TEXT, &zip.deflate(data)));
        }
        let long = zip.deflate(&"repeated → ".repeat(300));
        let (front, back) = long.split_at(long.len() / 2);
        stream.extend(
            [frame(RSV1 | TEXT, front), frame(FIN | PING, b"p"), frame(CONT, b""), frame(FIN | CONT, back)]
                .concat(),
        );
        stream.extend(text("not compressed"));
        for chunk in [None, Some(1024)] {
            let limits = Limits { chunk, ..Limits::default() };
            let config = config().deflate(DeflateConfig::default()).limits(limits);
            let seen = is_the_same_however_cut(&config, extension, &stream);
            let chunks = seen.events.iter().filter(|event| event.starts_with("Chunk")).count();
            assert_eq!(chunks, if chunk.is_some() { 4 } else { 0 }, "3,900 bytes");
            // No data comes out of what is no DEFLATE stream (a block of the reserved type).
            let bad = [&*stream, &frame(FIN | RSV1 | TEXT, &[0xff; 8])].concat();
            let seen = is_the_same_however_cut(&config, extension, &bad);
            assert!(seen.events.last().unwrap().contains("Deflate"), "{:?}", seen.events.last());
        }
    }
}

#[test]
fn chunks_are_the_same_however_cut() {
    let limits = Limits { chunk: Some(1024), ..Limits::default() };
    let long = "→".repeat(1000);
    let stream = [
        text(&long[..1023]),
        text(&long),
        frame(BINARY, &[1; 700]),
        frame(FIN | PING, b"p"),
        frame(CONT, &[2; 324]),
        frame(FIN | CONT, &[3; 1]),
    ]
    .concat();
    let seen = is_the_same_however_cut(&config().limits(limits), "", &stream);
    assert_eq!(seen.events.iter().filter(|event| event.starts_with("Chunk")).count(), 3 + 2);
}

#[test]
fn a_fault_in_a_streamed_message_comes_after_the_same_chunks() {
    let limits = Limits { chunk: Some(1024), ..Limits::default() };
    let config = config().limits(limits);
    let mut bad = vec![b'x'; 3000];
    bad[2500] = 0xff;
    let seen = is_the_same_however_cut(&config, "", &frame(FIN | TEXT, &bad));
    assert!(seen.events.last().unwrap().contains("InvalidUtf8"));
}

#[test]
fn the_first_fault_of_a_compressed_text_is_told_not_the_worst() {
    let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let limits = Limits { max_message: 2000, ..Limits::default() };
    let config = config().deflate(DeflateConfig::default()).limits(limits);
    // Stored blocks: a byte that is not UTF-8, then more than the limit or a block that cannot be.
    let stored = |bytes: &[u8]| {
        let len = bytes.len() as u16;
        [&[0][..], &len.to_le_bytes(), &(!len).to_le_bytes(), bytes].concat()
    };
    for second in [stored(&[b'x'; 3000]), vec![0xff; 8]] {
        let stream = frame(FIN | RSV1 | TEXT, &[stored(b"\xff"), second].concat());
        is_the_same_however_cut(&config, extension, &stream);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_cuts(mut cuts in prop::collection::vec(0usize..14_000, 0..40), ending in 0usize..22, chunk in any::<bool>()) {
        let stream = [all_kinds(), text(&"ö".repeat(6000)), endings().swap_remove(ending).1].concat();
        let limits = Limits { chunk: chunk.then_some(1024), max_fragments: 16, ..Limits::default() };
        let config = config().limits(limits).protocol(JsonRpc::new());
        cuts.sort_unstable();
        assert_same(&play(&config, "", &stream, cuts), &play(&config, "", &stream, []), "random");
    }
}
