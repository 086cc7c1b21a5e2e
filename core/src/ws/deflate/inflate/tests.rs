//! Payloads by the RFC, cut, damaged and random, against the encoder and a decoder that is as simple as possible.

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::super::{DeflateConfig, Deflater, reference};
use super::*;

const NO_LIMIT: usize = usize::MAX;

fn params(no_takeover: bool) -> DeflateParams {
    DeflateParams {
        server_no_context_takeover: no_takeover,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    }
}

fn inflater() -> Inflater {
    Inflater::new(&params(false))
}

fn whole(inflater: &mut Inflater, payload: &[u8]) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    inflater.inflate(payload, &mut out, NO_LIMIT)?;
    inflater.finish()?;
    Ok(out)
}

/// What an encoder makes of `pieces` if it ends its stream after each, as section 7.2.3.4 allows, but refers to
/// `history` and the pieces before all the same.
fn streams(level: u32, history: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    let mut window = history.to_vec();
    let mut payload = Vec::new();
    for piece in pieces {
        let mut encoder = Compress::new(Compression::new(level), false);
        if !window.is_empty() {
            encoder.set_dictionary(&window[window.len().saturating_sub(32768)..]).unwrap();
        }
        let mut out = vec![0; piece.len() * 2 + 64];
        let status = encoder.compress(piece, &mut out, FlushCompress::Finish).unwrap();
        assert_eq!(status, Status::StreamEnd);
        payload.extend_from_slice(&out[..encoder.total_out() as usize]);
        window.extend_from_slice(piece);
    }
    payload
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

#[test]
fn examples_of_the_rfc() {
    let shared: &[&[u8]] = &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &[0xf2, 0x00, 0x11, 0x00, 0x00]];
    let alone: &[&[u8]] = &[
        // Section 7.2.3.3: a block with no compression.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        // Section 7.2.3.4: a block marked as final.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        // Section 7.2.3.5: two blocks in one message.
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ];
    for cut in 0..14 {
        let mut sharing = inflater();
        // Section 7.2.3.1 and 7.2.3.2, and each other example in the context of all before.
        for payload in shared.iter().chain(alone).chain([&shared[1]]) {
            let (head, tail) = payload.split_at(cut.min(payload.len()));
            let mut out = Vec::new();
            sharing.inflate(head, &mut out, 5).unwrap();
            sharing.inflate(tail, &mut out, 5).unwrap();
            sharing.finish().unwrap();
            assert_eq!(out, b"Hello");
        }
    }
    let mut separate = Inflater::new(&params(true));
    for payload in alone.iter().chain([&shared[0]]) {
        assert_eq!(whole(&mut separate, payload).unwrap(), b"Hello");
    }
    // Section 7.2.3.6: an empty message.
    assert_eq!(whole(&mut separate, &[0x00]).unwrap(), b"");
    assert_eq!(whole(&mut separate, shared[1]), Err(InflateError::Corrupt));
}

#[test]
fn messages_that_lack_what_nobody_needs() {
    for no_takeover in [false, true] {
        let mut inflater = Inflater::new(&params(no_takeover));
        for _ in 0..3 {
            // No payload at all, and a final block without the byte behind it.
            assert_eq!(whole(&mut inflater, &[]).unwrap(), b"");
            let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
            assert_eq!(whole(&mut inflater, &hello).unwrap(), b"Hello");
            let twice = [hello, hello].concat();
            assert_eq!(whole(&mut inflater, &twice).unwrap(), b"HelloHello");
            // The same behind a message as it should be.
            assert_eq!(whole(&mut inflater, &[0xf2, 0x48, 0x05, 0x00]).unwrap(), b"He");
        }
    }
}

#[test]
fn truncated_messages() {
    let payloads: &[&[u8]] = &[
        // The last byte is missing, which holds the flush.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07],
        &[0xf2, 0x48],
        // The tail was not removed.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff],
        &[0x00, 0x00, 0x00, 0xff, 0xff],
        // Within a stored block and its header.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48],
        &[0x00, 0x05, 0x00, 0xfa, 0xff],
        &[0x00, 0xff],
        &[0x00, 0x05, 0x00],
        // A final stored block whose length the tail would be.
        &[0x01],
    ];
    for payload in payloads {
        for no_takeover in [false, true] {
            let mut inflater = Inflater::new(&params(no_takeover));
            assert_eq!(whole(&mut inflater, payload), Err(InflateError::Truncated), "{payload:02x?}");
            // For good, and with the memory freed.
            assert_eq!(inflater.finish(), Err(InflateError::Truncated));
            assert_eq!(inflater.inflate(&[0], &mut Vec::new(), 9), Err(InflateError::Truncated));
            assert!(inflater.stream.is_none());
        }
    }
}

#[test]
fn corrupt_messages() {
    let payloads: &[&[u8]] = &[
        // Known to hang others: a distance that nothing is at.
        &[0x02, 0x03, 0x80],
        &[0x02, 0x03, 0x80, 0x00],
        // A reserved block type, at once and after a final block.
        &[0x06],
        &[0x07],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06],
        // Length and complement differ.
        &[0x00, 0x05, 0x00, 0xfa, 0xfe],
        // More literal codes than there are.
        &[0xfc, 0xff, 0xff],
    ];
    for payload in payloads {
        for no_takeover in [false, true] {
            let mut inflater = Inflater::new(&params(no_takeover));
            let error = whole(&mut inflater, payload).unwrap_err();
            assert!(matches!(error, InflateError::Corrupt | InflateError::Truncated), "{payload:02x?}");
            assert_eq!(whole(&mut inflater, b"\xf2\x48\xcd\xc9\xc9\x07\x00"), Err(error));
        }
    }
}

#[test]
fn the_window_outlives_final_blocks() {
    let (first, second) = (noise(20_000), noise(32_768).split_off(20_000));
    for level in [1, 6, 9] {
        let mut inflater = inflater();
        let mut history = Vec::new();
        // A window that is not full, that is just full, and that has wrapped, within and across messages.
        for pieces in [[&first[..5_000], &first[..]], [&second, &first], [&second[9..], &second[..7_000]]] {
            let payload = streams(level, &history, &pieces);
            assert_eq!(whole(&mut inflater, &payload).unwrap(), pieces.concat());
            history.extend_from_slice(&pieces.concat());
            // Then a stream that is not ended, which refers to the beginning of the window.
            let far = &history[history.len().saturating_sub(32_000)..][..300].to_vec();
            let mut payload = streams(level, &history, &[far]);
            assert!(payload.len() < 100);
            payload.push(0);
            assert_eq!(whole(&mut inflater, &payload).unwrap(), *far);
            history.extend_from_slice(far);
        }
    }
    // Without takeover it lasts for the message.
    let mut inflater = Inflater::new(&params(true));
    let payload = streams(6, &[], &[&first, &first]);
    assert!(payload.len() < 21_000);
    assert_eq!(whole(&mut inflater, &payload).unwrap(), [&first[..], &first].concat());
    let beyond = streams(6, &first, &[&first]);
    assert_eq!(whole(&mut inflater, &beyond), Err(InflateError::Corrupt));
}

#[test]
fn limits_are_exact() {
    let message = b"abcdefghij".repeat(1000);
    let mut flushed = Vec::new();
    Deflater::new(&DeflateConfig::default(), &params(false)).deflate(&message, &mut flushed, true);
    let mut final_block = streams(6, &[], &[&message]);
    final_block.push(0);
    // Empty blocks behind the limit are no excess.
    let padded = [&flushed[..], &[0x00, 0x00, 0xff, 0xff, 0x00]].concat();
    for payload in [flushed, final_block, padded] {
        for limit in [0, 1, 9, 1023, 1024, 1025, 9_999, 10_000, 10_001, 20_000] {
            for step in [1, 7, payload.len()] {
                let mut inflater = inflater();
                let mut out = Vec::new();
                let result = payload
                    .chunks(step)
                    .try_for_each(|piece| inflater.inflate(piece, &mut out, limit))
                    .and_then(|()| inflater.finish());
                if limit < 10_000 {
                    assert_eq!(result, Err(InflateError::TooLarge { limit }));
                    assert_eq!(out, message[..limit]);
                } else {
                    assert_eq!(result, Ok(()));
                    assert_eq!(out, message);
                }
            }
        }
    }
}

#[test]
fn everything_comes_out_at_once() {
    // Four of the longest matches in a byte of input, which is more than a step of output.
    let message = vec![b'0'; 1 << 20];
    let payload = streams(9, &[], &[&message]);
    assert!(payload.len() < message.len() / *STEP.start() + 50);
    let mut bytewise = inflater();
    let (mut out, mut expected) = (Vec::new(), Vec::new());
    for end in 1..=payload.len() {
        bytewise.inflate(&payload[end - 1..end], &mut out, NO_LIMIT).unwrap();
        if end % 64 == 0 {
            // All that a decoder with more room than it can need makes of the input so far.
            expected.resize(message.len() + 1, 0);
            let made = advance(&mut Decompress::new(false), &payload[..end], &mut expected).unwrap().produced;
            assert!(made > 0 && out.len() == made, "{} of {made} at {end}", out.len());
        }
    }
    bytewise.finish().unwrap();
    assert!(out == message);
}

#[test]
fn a_bomb_is_stopped_with_little_memory() {
    // 1000 to 1 over and over: a gigabyte from a megabyte, if it were let.
    let mut encoder = Compress::new(Compression::best(), false);
    let mut unit = vec![0; 4096];
    encoder.compress(&[b'0'; 1 << 20], &mut unit, FlushCompress::Sync).unwrap();
    unit.truncate(encoder.total_out() as usize);
    let bomb = unit.repeat(1000);
    for limit in [1, 1000, 100_000, 3_000_000] {
        let mut inflater = inflater();
        let mut out = Vec::new();
        assert_eq!(inflater.inflate(&bomb, &mut out, limit), Err(InflateError::TooLarge { limit }));
        assert_eq!(out.len(), limit);
        assert!(out.capacity() <= limit, "{} bytes reserved for {limit}", out.capacity());
        // The decoder saw no more of it than it had to: it is gone, and so is the window.
        assert!(inflater.stream.is_none() && inflater.history.bytes.capacity() == 0);
    }
    // Room is reserved as it is needed.
    let mut out = Vec::new();
    inflater().inflate(&unit[..unit.len() / 2], &mut out, NO_LIMIT).unwrap();
    assert!(out.capacity() < 4 * out.len());
}

#[test]
fn memory_is_allocated_late_and_freed_without_takeover() {
    for no_takeover in [false, true] {
        let mut inflater = Inflater::new(&params(no_takeover));
        inflater.inflate(&[], &mut Vec::new(), 0).unwrap();
        inflater.finish().unwrap();
        assert!(inflater.stream.is_none());
        for payload in [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &[0xf3, 0x48, 0x05, 0x00]] {
            inflater.inflate(payload, &mut Vec::new(), 100).unwrap();
            assert!(inflater.stream.is_some());
            inflater.finish().unwrap();
            assert_eq!(inflater.stream.is_none(), no_takeover);
            assert_eq!(inflater.history.bytes.capacity() == 0, no_takeover);
        }
    }
    // The history is no larger than the window that was agreed on.
    let mut small = Inflater::new(&DeflateParams { server_max_window_bits: 8, ..params(false) });
    let stored = [&b"\x00\x20\x4e\xdf\xb1"[..], &noise(20_000), &[0]].concat();
    assert_eq!(whole(&mut small, &stored).unwrap().len(), 20_000);
    assert_eq!(small.history.bytes.capacity(), 256);
}

#[test]
fn secrets_are_not_in_debug() {
    let mut inflater = inflater();
    whole(&mut inflater, b"\x00\x05\x00\xfa\xffHello\x00").unwrap();
    let debug = format!("{inflater:?}");
    assert!(!debug.contains("Hello") && !debug.contains("72, 101") && debug.contains("len: 5"), "{debug}");
}

proptest! {
    #[test]
    fn history_is_the_end_of_what_was_pushed(
        bits in 0u32..7,
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
    ) {
        let mut history = History::new(1 << bits);
        for piece in &pieces {
            history.push(piece);
        }
        let all = pieces.concat();
        let (newer, older) = history.bytes.split_at(history.oldest);
        prop_assert_eq!([older, newer].concat(), &all[all.len().saturating_sub(1 << bits)..]);
        prop_assert!(history.bytes.capacity() <= 1 << bits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Messages of all kinds that an encoder can make, cut anywhere, through one context.
    #[test]
    fn round_trips(
        no_takeover: bool, bits in 9u8..=15, level in 0u8..=9, drain: bool,
        messages in proptest::collection::vec(
            (
                proptest::collection::vec(
                    prop_oneof![
                        "[a-f]{0,60}".prop_map(String::into_bytes),
                        (0usize..9000).prop_map(noise),
                        (any::<u8>(), 0usize..5000).prop_map(|(byte, len)| vec![byte; len]),
                    ],
                    0..4,
                ),
                any::<bool>(),
                prop_oneof![1usize..9, 1usize..20_000],
            ),
            1..12,
        ),
    ) {
        let params = DeflateParams {
            server_no_context_takeover: no_takeover,
            client_no_context_takeover: no_takeover,
            server_max_window_bits: bits,
            client_max_window_bits: bits,
        };
        let mut deflater = Deflater::new(&DeflateConfig { level, ..DeflateConfig::default() }, &params);
        let mut inflater = Inflater::new(&params);
        for (pieces, ended, cut) in messages {
            let message = pieces.concat();
            let payload = if ended {
                // This one knows nothing of the context, but the context must know it.
                let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                let mut payload = streams(level.into(), &[], &[&pieces.concat()]);
                // Header of an empty stored block, alone or behind an empty block with fixed codes.
                let flush: &[u8] = if message.len() % 2 == 0 { &[0x00] } else { &[0x02, 0x00] };
                payload.extend_from_slice(flush);
                payload
            } else {
                let mut payload = Vec::new();
                for piece in &pieces {
                    deflater.deflate(piece, &mut payload, false);
                }
                deflater.deflate(&[], &mut payload, true);
                payload
            };
            if ended && !no_takeover {
                // The encoder's context is without this message, so it must start anew as well.
                deflater = Deflater::new(&DeflateConfig { level, ..DeflateConfig::default() }, &params);
            }
            let (mut out, mut taken) = (Vec::new(), Vec::new());
            for piece in payload.chunks(cut) {
                inflater.inflate(piece, &mut out, message.len()).unwrap();
                if drain {
                    taken.append(&mut out);
                }
            }
            inflater.finish().unwrap();
            taken.append(&mut out);
            prop_assert_eq!(taken, message);
        }
    }

    /// Whatever is sent: no panic, no end of time, and nothing is taken for a message that is none.
    #[test]
    fn garbage_is_judged_as_the_reference_does(
        no_takeover: bool,
        messages in proptest::collection::vec(
            (
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..20),
                    // What starts as a block with fixed codes is valid for longer.
                    proptest::collection::vec(any::<u8>(), 1..60)
                        .prop_map(|mut bytes| { bytes[0] = bytes[0] & 0xf8 | 2; bytes }),
                    "[a-c]{0,200}".prop_map(|text| streams(6, &[], &[text.as_bytes()])),
                    "[a-p]{100,900}".prop_map(|text| {
                        let mut payload = Vec::new();
                        let config = DeflateConfig { level: 9, ..DeflateConfig::default() };
                        Deflater::new(&config, &params(false)).deflate(text.as_bytes(), &mut payload, true);
                        payload
                    }),
                ],
                proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
                proptest::option::of(any::<proptest::sample::Index>()),
                1usize..100,
            ),
            1..6,
        ),
    ) {
        let mut inflater = Inflater::new(&params(no_takeover));
        let mut history = Vec::new();
        for (mut payload, edits, end, cut) in messages {
            for (at, byte) in edits {
                if !payload.is_empty() {
                    let at = at.index(payload.len());
                    payload[at] = byte;
                }
            }
            if let Some(end) = end {
                payload.truncate(end.index(payload.len() + 1));
            }
            let expected = reference::inflate(&payload, &history, 32_768);
            let mut out = Vec::new();
            let result = payload
                .chunks(cut)
                .try_for_each(|piece| inflater.inflate(piece, &mut out, 1_000_000))
                .and_then(|()| inflater.finish());
            match (&expected, result) {
                (Ok(decoded), Ok(())) => prop_assert_eq!(&decoded.output, &out),
                (Err(_), Err(_)) => break,
                // The one case that is documented to go unnoticed.
                (Err(reference::Fault::EndsInTables), Ok(())) if !no_takeover => break,
                (expected, result) => prop_assert!(false, "{expected:?}, {result:?}: {payload:02x?}"),
            }
            if !no_takeover {
                history.extend_from_slice(&out);
            }
        }
    }
}
