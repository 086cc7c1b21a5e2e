//! Masking of client frames (RFC 6455 section 5.3).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fmt;

/// Masking keys from a seeded ChaCha8 stream: unpredictable to whoever does not know the seed, as RFC 6455
/// section 5.3 asks, and the same in every run that has the same seed.
pub(crate) struct MaskKeys {
    rng: ChaCha8Rng,
    // Drawn in bulk: one call per key costs more than the key itself.
    keys: [[u8; 4]; Self::BATCH],
    next: usize,
}

impl MaskKeys {
    const BATCH: usize = 128;

    /// `stream` sets connections of one session apart: they share the seed, never a key stream.
    pub(crate) fn new(seed: [u8; 32], stream: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_stream(stream);
        Self { rng, keys: [[0; 4]; Self::BATCH], next: Self::BATCH }
    }

    #[inline]
    pub(crate) fn next_key(&mut self) -> [u8; 4] {
        if let Some(key) = self.keys.get(self.next) {
            self.next += 1;
            return *key;
        }
        self.refill()
    }

    #[cold]
    fn refill(&mut self) -> [u8; 4] {
        self.rng.fill_bytes(self.keys.as_flattened_mut());
        self.next = 1;
        self.keys[0]
    }
}

impl fmt::Debug for MaskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskKeys").finish_non_exhaustive()
    }
}

/// Copies `src` into `dst` and masks it in the same pass.
///
/// Plain words: the compiler turns the blocks into vector code that already runs at the speed of a copy, so that
/// intrinsics (and the `unsafe` they need) would buy nothing. What is no multiple of a block is done with the last block once more,
/// overlapping what is done already: cheaper than going on in ever smaller steps.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub(crate) fn copy_masked(dst: &mut [u8], src: &[u8], key: [u8; 4]) {
    let len = src.len();
    assert_eq!(dst.len(), len);
    let half = u64::from(u32::from_le_bytes(key));
    let key = half << 32 | half;
    if len >= 32 {
        let mut to = dst.chunks_exact_mut(32);
        for (d, s) in (&mut to).zip(src.chunks_exact(32)) {
            xor_block(d, s, key);
        }
        xor_block(&mut dst[len - 32..], &src[len - 32..], turned(key, len - 32));
    } else if len >= 16 {
        for at in [0, 8, len - 16, len - 8] {
            xor_word(&mut dst[at..], &src[at..], turned(key, at));
        }
    } else if len >= 8 {
        for at in [0, len - 8] {
            xor_word(&mut dst[at..], &src[at..], turned(key, at));
        }
    } else {
        let key = key.to_le_bytes();
        for (i, (d, s)) in dst.iter_mut().zip(src).enumerate() {
            *d = s ^ key[i & 3];
        }
    }
}

/// The key for a word that begins at byte `at`: it repeats every four bytes.
#[inline(always)]
fn turned(key: u64, at: usize) -> u64 {
    key.rotate_right((at as u32 & 3) * 8)
}

#[inline(always)]
fn xor_block(dst: &mut [u8], src: &[u8], key: u64) {
    for (d, s) in dst.as_chunks_mut::<8>().0.iter_mut().zip(src.as_chunks::<8>().0) {
        *d = (u64::from_le_bytes(*s) ^ key).to_le_bytes();
    }
}

#[inline(always)]
fn xor_word(dst: &mut [u8], src: &[u8], key: u64) {
    if let (Some(d), Some(s)) = (dst.first_chunk_mut::<8>(), src.first_chunk::<8>()) {
        *d = (u64::from_le_bytes(*s) ^ key).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_equals_the_definition() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let src: Vec<u8> = (0..200).map(|i| (i * 7 + 3) as u8).collect();
        for len in 0..src.len() {
            let mut dst = vec![0; len];
            copy_masked(&mut dst, &src[..len], key);
            let want: Vec<u8> = src[..len].iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
            assert_eq!(dst, want, "length {len}");
        }
    }

    #[test]
    fn rfc_example() {
        // RFC 6455 section 5.7, "a single-frame masked text message".
        let mut dst = [0; 5];
        copy_masked(&mut dst, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(dst, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn keys_repeat_with_the_seed_and_differ_between_streams() {
        let draw = |seed, stream| {
            let mut keys = MaskKeys::new([seed; 32], stream);
            (0..1000).map(|_| keys.next_key()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
        let mut seen = draw(1, 0);
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 990, "keys must not repeat within a stream");
    }
}
