//! UTF-8 as bytes arrive (RFC 6455 section 8.1): a text message fails at its first impossible byte, however it is cut.

/// Checks text that arrives in pieces. Each piece is looked at once.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Utf8Checker {
    /// The beginning of a character whose other bytes have not arrived.
    partial: [u8; 4],
    len: u8,
}

/// The text is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidUtf8;

impl Utf8Checker {
    /// Checks the next piece. A character cut in two is remembered; one that can no longer become valid fails now.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), InvalidUtf8> {
        while self.len > 0 {
            let Some((&next, rest)) = bytes.split_first() else { return Ok(()) };
            self.partial[usize::from(self.len)] = next;
            self.len += 1;
            match std::str::from_utf8(&self.partial[..usize::from(self.len)]) {
                Ok(_) => self.len = 0,
                // A character has at most four bytes, so `partial` never overflows: four are valid or an error.
                Err(e) if e.error_len().is_none() => {}
                Err(_) => return Err(InvalidUtf8),
            }
            bytes = rest;
        }
        let whole = boundary(bytes);
        if !is_utf8(&bytes[..whole]) {
            return Err(InvalidUtf8);
        }
        let tail = &bytes[whole..];
        if let Err(e) = std::str::from_utf8(tail)
            && e.error_len().is_some()
        {
            return Err(InvalidUtf8);
        }
        self.partial[..tail.len()].copy_from_slice(tail);
        self.len = tail.len() as u8;
        Ok(())
    }

    /// The message is over: nothing may be left half done.
    pub(crate) fn finish(&mut self) -> Result<(), InvalidUtf8> {
        let whole = self.len == 0;
        *self = Self::default();
        if whole { Ok(()) } else { Err(InvalidUtf8) }
    }
}

/// Whether `bytes` is UTF-8 as a whole. Short ASCII, which is most of what feeds carry, is settled before simdutf8 would have begun.
#[inline]
pub(crate) fn is_utf8(bytes: &[u8]) -> bool {
    (bytes.len() <= 256 && is_ascii(bytes)) || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Whether all bytes are below 0x80. `<[u8]>::is_ascii` of the standard library goes byte by byte where a length is no multiple of
/// a word; this reads the last bytes twice instead, and the loop becomes vector code.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const HIGH_WIDE: u128 = (HIGH as u128) << 64 | HIGH as u128;
    if let Some(last) = bytes.last_chunk::<32>() {
        return is_ascii_32(last, bytes);
    }
    // The two ends of what is shorter than both together: they overlap in the middle.
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u128::from_ne_bytes(*first) | u128::from_ne_bytes(*last)) & HIGH_WIDE == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last)) & HIGH == 0;
    }
    bytes.iter().fold(0, |seen, byte| seen | byte) < 0x80
}

/// [`is_ascii`] of 32 bytes and more. Not inlined: in the midst of other code the compiler makes single bytes of the loop.
#[inline(never)]
fn is_ascii_32(last: &[u8; 32], bytes: &[u8]) -> bool {
    let mut seen = *last;
    for block in bytes.as_chunks::<32>().0 {
        // This form becomes vector code, zipped iterators do not.
        for i in 0..32 {
            seen[i] |= block[i];
        }
    }
    seen.iter().fold(0, |seen, byte| seen | byte) < 0x80
}

/// How many bytes of `bytes` are whole characters, taking for granted that they are UTF-8: all but up to three bytes
/// of a character that is cut at the end.
pub(crate) fn boundary(bytes: &[u8]) -> usize {
    let n = bytes.len();
    for back in 1..=n.min(3) {
        let byte = bytes[n - back];
        if byte & 0xc0 != 0x80 {
            let width = match byte {
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xff => 4,
                _ => 1,
            };
            return if width > back { n - back } else { n };
        }
    }
    n
}

/// Views bytes as text without looking at them again.
///
/// The one `unsafe` of this crate. The bytes of a text message are checked when they arrive, and handed to the user
/// as `&str` when he asks for the event; a second check there would double the cost of receiving text.
///
/// The caller vouches that exactly these bytes passed [`is_utf8`] or a finished [`Utf8Checker`] and were not written to since.
/// Debug builds (and the fuzzers) check it again.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn checked_text(bytes: &[u8]) -> &str {
    debug_assert!(std::str::from_utf8(bytes).is_ok(), "text was handed out unchecked");
    // SAFETY: checked on arrival, and both buffers that messages live in are private to their modules, which write to
    // them only behind the ranges they handed out.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed(pieces: &[&[u8]]) -> Result<(), usize> {
        let mut checker = Utf8Checker::default();
        let mut seen = 0;
        for piece in pieces {
            for byte in *piece {
                checker.push(&[*byte]).map_err(|_| seen)?;
                seen += 1;
            }
        }
        checker.finish().map_err(|_| seen)
    }

    #[test]
    fn fails_at_the_first_impossible_byte() {
        // Autobahn 6.4.x: the byte that makes it impossible is found before the message ends.
        assert_eq!(fed(&[&[0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xf4, 0x90, 0x80, 0x80]]), Err(6));
        assert_eq!(fed(&[&[0xc0]]), Err(0));
        assert_eq!(fed(&[&[0xf5]]), Err(0));
        assert_eq!(fed(&[&[0xed, 0xa0, 0x80]]), Err(1), "surrogates");
        assert_eq!(fed(&[&[0xe2, 0x82]]), Err(2), "cut at the end");
        assert_eq!(fed(&["κόσμε 🦀".as_bytes()]), Ok(()));
    }

    #[test]
    fn ascii_of_every_length() {
        for len in (0..300).chain([4095, 4096, 4097]) {
            let mut text = vec![b'x'; len];
            assert!(is_utf8(&text));
            for at in (0..len).step_by(1 + len / 500) {
                text[at] = 0xff;
                assert!(!is_utf8(&text), "length {len}, bad byte at {at}");
                text[at] = b'x';
            }
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_what_std_gives(bytes in bytes_near_utf8(), cuts in prop::collection::vec(0usize..80, 0..6)) {
            let mut checker = Utf8Checker::default();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut at = 0;
            let mut result = Ok(());
            for cut in cuts {
                result = result.and_then(|()| checker.push(&bytes[at..cut]));
                at = cut;
            }
            let result = result.and_then(|()| checker.finish());
            prop_assert_eq!(result.is_ok(), std::str::from_utf8(&bytes).is_ok());
        }
    }

    fn bytes_near_utf8() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "\\PC{0,24}".prop_map(String::into_bytes),
            ("\\PC{0,24}", any::<prop::sample::Index>(), any::<u8>()).prop_map(|(s, i, b)| {
                let mut bytes = s.into_bytes();
                if !bytes.is_empty() {
                    let i = i.index(bytes.len());
                    bytes[i] = b;
                }
                bytes
            }),
            prop::collection::vec(any::<u8>(), 0..40),
        ]
    }
}
