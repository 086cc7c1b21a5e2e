//! Compressing messages (RFC 7692 section 7.2.1).

use flate2::{Compress, Compression, FlushCompress};

use super::{DeflateConfig, DeflateParams};

/// What a flush ends with, and a payload does not (section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// An empty message (section 7.2.3.6): the header of a stored block whose length is in the removed tail.
const EMPTY: u8 = 0x00;

/// Room for a piece's output beyond the size of its input: block headers, the flush, and codes that were held back
/// from the piece before.
const SLACK: usize = 64;

/// Output is made in steps of at most this size, which are zeroed before they are used.
const STEP: usize = 64 * 1024;

/// The smallest window that the compressor can work with, as a power of two.
const MIN_WINDOW_BITS: u8 = 9;

/// Compresses the messages of one connection, in their order.
///
/// Nothing is allocated before the first message. With [`DeflateConfig::client_no_context_takeover`] everything is
/// freed again at the end of each message. Otherwise it is kept and reused, also if the server demands
/// `client_no_context_takeover`: that is for the sake of its memory, and clearing ours takes a fraction of the time
/// of allocating it again (3 instead of 15 microseconds, where compressing a small message takes less than 1).
///
/// A server may limit the window to 8 bits. DEFLATE encoders of the zlib family cannot work with so small a window,
/// so [`wants`](Self::wants) then says that messages are to be sent uncompressed, which is allowed for any message
/// (section 6.1). [`deflate`](Self::deflate) works nevertheless, but all it does is to wrap the bytes.
#[derive(Debug)]
pub struct Deflater {
    after_message: AfterMessage,
    window_bits: u8,
    level: Compression,
    threshold: usize,
    stream: Option<Compress>,
    /// Bytes of this message went into the stream, so it is to be flushed at the end.
    open: bool,
}

impl Deflater {
    /// An encoder for what this client sends under these parameters. Allocates nothing.
    pub fn new(config: &DeflateConfig, params: &DeflateParams) -> Self {
        let window_bits = params.client_max_window_bits.min(15);
        // Stored blocks do not refer to a window, so these are right for any.
        let level = if window_bits < MIN_WINDOW_BITS { 0 } else { config.level.min(9) };
        Self {
            after_message: match (config, params) {
                (DeflateConfig { client_no_context_takeover: true, .. }, _) => AfterMessage::Free,
                (_, DeflateParams { client_no_context_takeover: true, .. }) => AfterMessage::Reset,
                _ => AfterMessage::Keep,
            },
            window_bits: window_bits.max(MIN_WINDOW_BITS),
            level: Compression::new(level.into()),
            threshold: config.threshold,
            stream: None,
            open: false,
        }
    }

    /// Whether a message of `len` bytes should be compressed: it is not below the threshold, and compression is
    /// neither switched off (level 0) nor made impossible by the server's window limit.
    pub fn wants(&self, len: usize) -> bool {
        self.level != Compression::none() && len >= self.threshold
    }

    /// Compresses the next piece of a message and appends it to `out`; `last` ends the message. What a piece
    /// appends is the payload of a fragment; some or all of it may be held back until the last piece.
    ///
    /// With `last`, the tail that the payload must not contain is removed from `out` (section 7.2.1).
    pub fn deflate(&mut self, input: &[u8], out: &mut Vec<u8>, last: bool) {
        if !input.is_empty() || (last && self.open) {
            self.open = true;
            let (level, window_bits) = (self.level, self.window_bits);
            let stream =
                self.stream.get_or_insert_with(|| Compress::new_with_window_bits(level, false, window_bits));
            // Bits are held back without a flush, so the tail comes out of this call as a whole.
            run(stream, input, out, if last { FlushCompress::Sync } else { FlushCompress::None });
        }
        if !last {
            return;
        }
        if self.open {
            debug_assert!(out.ends_with(&TAIL), "a completed flush ends with an empty stored block");
            if out.ends_with(&TAIL) {
                out.truncate(out.len() - TAIL.len());
            }
        } else {
            // A second flush in a row does nothing, so nothing is what the encoder would make of this.
            out.push(EMPTY);
        }
        self.open = false;
        match (self.after_message, &mut self.stream) {
            (AfterMessage::Reset, Some(stream)) => stream.reset(),
            (AfterMessage::Free, _) => self.stream = None,
            (AfterMessage::Keep, _) | (_, None) => {}
        }
    }
}

/// What becomes of the context.
#[derive(Clone, Copy, Debug)]
enum AfterMessage {
    Keep,
    Reset,
    Free,
}

/// Feeds `input` until it is used up and everything that `flush` calls for is out.
fn run(stream: &mut Compress, mut input: &[u8], out: &mut Vec<u8>, flush: FlushCompress) {
    loop {
        let start = out.len();
        let room = input.len().saturating_add(SLACK).min(STEP);
        out.resize(start + room, 0);
        let (total_in, total_out) = (stream.total_in(), stream.total_out());
        let result = stream.compress(input, &mut out[start..], flush);
        // Neither exceeds the length of a slice.
        let consumed = (stream.total_in() - total_in) as usize;
        let produced = (stream.total_out() - total_out) as usize;
        out.truncate(start + produced);
        result
            .expect("the encoder refuses nothing but input behind the end of a stream, and we never end it");
        input = &input[consumed..];
        // With room left, all there was to write is written; the encoder then has used up the input, too.
        if produced < room {
            debug_assert!(input.is_empty());
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Inflater, reference};
    use super::*;

    fn config(level: u8) -> DeflateConfig {
        DeflateConfig { level, ..DeflateConfig::default() }
    }

    fn params(no_takeover: bool, bits: u8) -> DeflateParams {
        DeflateParams {
            server_no_context_takeover: false,
            client_no_context_takeover: no_takeover,
            server_max_window_bits: 15,
            client_max_window_bits: bits,
        }
    }

    fn whole(deflater: &mut Deflater, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        deflater.deflate(message, &mut out, true);
        out
    }

    /// Bytes without repetitions that a compressor could use.
    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
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
        // Section 7.2.3.1 and 7.2.3.2. (Level 1 does better than the RFC on the second: 02 13 00 00.)
        let mut deflater = Deflater::new(&config(6), &params(false, 15));
        assert_eq!(whole(&mut deflater, b"Hello"), [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        assert_eq!(whole(&mut deflater, b"Hello"), [0xf2, 0x00, 0x11, 0x00, 0x00]);
        // Without the context the second is the same as the first, however that came about.
        let demanded = Deflater::new(&config(1), &params(true, 15));
        let wished = DeflateConfig { client_no_context_takeover: true, ..config(1) };
        for mut deflater in [demanded, Deflater::new(&wished, &params(true, 15))] {
            for _ in 0..2 {
                assert_eq!(whole(&mut deflater, b"Hello"), [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
            }
        }
        // Section 7.2.3.3: with no compression.
        let mut deflater = Deflater::new(&config(0), &params(false, 15));
        assert_eq!(whole(&mut deflater, b"Hello"), *b"\x00\x05\x00\xfa\xffHello\x00");
        // Section 7.2.3.6, at the start of a context, within it, and in pieces.
        let mut deflater = Deflater::new(&config(6), &params(false, 15));
        assert_eq!(whole(&mut deflater, b""), [0x00]);
        whole(&mut deflater, b"Hello");
        assert_eq!(whole(&mut deflater, b""), [0x00]);
        let mut out = Vec::new();
        deflater.deflate(b"", &mut out, false);
        deflater.deflate(b"", &mut out, true);
        assert_eq!(out, [0x00]);
        assert_eq!(whole(&mut deflater, b"Hello"), [0xf2, 0x00, 0x11, 0x00, 0x00]);
    }

    #[test]
    fn memory_is_allocated_late_and_freed_when_wished() {
        for (wished, demanded, kept) in [(false, false, true), (false, true, true), (true, true, false)] {
            let config = DeflateConfig { client_no_context_takeover: wished, ..config(1) };
            let mut deflater = Deflater::new(&config, &params(demanded, 15));
            let mut out = Vec::new();
            deflater.deflate(b"", &mut out, false);
            deflater.deflate(b"", &mut out, true);
            assert!(deflater.stream.is_none());
            deflater.deflate(b"Hello", &mut out, false);
            assert!(deflater.stream.is_some());
            deflater.deflate(b"", &mut out, true);
            assert_eq!(deflater.stream.is_some(), kept);
        }
    }

    #[test]
    fn what_is_worth_compressing() {
        let config = DeflateConfig { threshold: 100, ..config(1) };
        for bits in 8..=15 {
            let deflater = Deflater::new(&config, &params(false, bits));
            assert!(!deflater.wants(99));
            assert_eq!(deflater.wants(100), bits > 8);
        }
        let off = DeflateConfig { level: 0, ..config };
        assert!(!Deflater::new(&off, &params(false, 15)).wants(1_000_000));
    }

    #[test]
    fn configuration_that_was_not_validated_is_survived() {
        let config = DeflateConfig { level: 255, ..config(1) };
        for bits in [0, 7, 16, 255] {
            let mut deflater = Deflater::new(&config, &params(false, bits));
            let out = whole(&mut deflater, &b"Hello".repeat(100));
            assert_eq!(reference::inflate(&out, &[], 32768).unwrap().output, b"Hello".repeat(100));
        }
    }

    #[test]
    fn no_window_is_exceeded() {
        // Repetitions at each distance around each window size are bait for references that are too long. The
        // levels stand for the five algorithms there are.
        for bits in 8..=15u8 {
            let window = 1usize << bits;
            for level in [0, 1, 2, 6, 9] {
                let mut deflater = Deflater::new(&config(level), &params(false, bits));
                let mut history = Vec::new();
                let mut farthest = 0;
                for distance in [window / 2, window.saturating_sub(300), window - 1, window, window + 1] {
                    let message = noise(distance, distance as u64).repeat(2);
                    let payload = whole(&mut deflater, &message);
                    let decoded = reference::inflate(&payload, &history, window).unwrap();
                    assert_eq!(decoded.output, message);
                    farthest = farthest.max(decoded.farthest);
                    history = message;
                }
                // The bait is taken where it is within reach.
                if bits > 9 && level > 0 {
                    assert!(farthest >= window / 2, "bits {bits}, level {level}: {farthest}");
                }
            }
        }
    }

    #[test]
    fn output_of_any_size_fits_the_steps() {
        // Noise is stored, so the output grows byte by byte through the ends of one and of several steps.
        for level in [0, 1, 6] {
            let mut deflater = Deflater::new(&config(level), &params(false, 15));
            let mut inflater = Inflater::new(&params(false, 15));
            for len in (STEP - 2 * SLACK..STEP + 8).chain([3 * STEP - 21, 5 * STEP]) {
                let message = noise(len, len as u64);
                let (payload, mut out) = (whole(&mut deflater, &message), Vec::new());
                inflater.inflate(&payload, &mut out, len).unwrap();
                inflater.finish().unwrap();
                assert!(out == message, "level {level}, {len} bytes");
            }
        }
    }

    #[test]
    fn a_cleared_context_is_as_a_new_one() {
        for level in 1..=9 {
            for bits in [9, 15] {
                let mut old = Deflater::new(&config(level), &params(true, bits));
                for seed in 1..20 {
                    let mut message = noise(900 * seed, 5);
                    message.extend_from_within(..400);
                    let mut new = Deflater::new(&config(level), &params(true, bits));
                    assert_eq!(whole(&mut old, &message), whole(&mut new, &message));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_conforming_decoder_understands(
            level in 0u8..=9, no_takeover: bool, wished: bool, bits in 8u8..=15,
            messages in proptest::collection::vec(
                proptest::collection::vec(
                    prop_oneof![
                        "[a-d]{0,40}".prop_map(String::into_bytes),
                        (0usize..3000, 0u64..4).prop_map(|(len, seed)| noise(len, seed)),
                        (any::<u8>(), 0usize..2000).prop_map(|(byte, len)| vec![byte; len]),
                        Just(vec![0x00, 0x00, 0xff, 0xff]),
                    ],
                    0..5,
                ),
                1..12,
            ),
        ) {
            let config = DeflateConfig { client_no_context_takeover: wished, ..config(level) };
            let no_takeover = no_takeover || wished;
            let mut deflater = Deflater::new(&config, &params(no_takeover, bits));
            let mut history = Vec::new();
            for pieces in messages {
                let (mut payload, mut fragment) = (Vec::new(), Vec::new());
                for (at, piece) in pieces.iter().enumerate() {
                    // Fragments may be taken away as they are made.
                    fragment.clear();
                    deflater.deflate(piece, &mut fragment, at + 1 == pieces.len());
                    payload.extend_from_slice(&fragment);
                }
                if pieces.is_empty() {
                    deflater.deflate(&[], &mut payload, true);
                }
                prop_assert!(!payload.is_empty());
                let message = pieces.concat();
                let decoded = reference::inflate(&payload, &history, 1 << bits);
                prop_assert_eq!(decoded.unwrap().output, &message[..]);
                if !no_takeover {
                    history.extend_from_slice(&message);
                }
            }
        }
    }
}
