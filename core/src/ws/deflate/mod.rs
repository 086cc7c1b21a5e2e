//! Compression: the `permessage-deflate` extension (RFC 7692).
//!
//! [`DeflateConfig`] makes the offer and reads the answer; the [`DeflateParams`] they agree on are what an
//! [`Inflater`] for received messages and a [`Deflater`] for sent ones are made from. Both work on payloads only:
//! which message is compressed is said by the RSV1 bit of its first frame (section 6), which is framing.

mod compress;
mod inflate;
mod negotiation;

pub use compress::Deflater;
pub use inflate::{InflateError, Inflater};
pub use negotiation::{DeflateConfig, DeflateConfigError, DeflateParams, NegotiationError};

#[cfg(test)]
mod reference {
    //! A decoder that is as simple and as strict as possible, to hold the real one against and to see what the
    //! encoder does: RFC 1951 one bit at a time, with the window that was agreed on and not a byte more.

    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Decoded {
        pub(super) output: Vec<u8>,
        /// The longest distance that was referred to.
        pub(super) farthest: usize,
    }

    /// Why there is nothing decoded.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum Fault {
        /// The data ends within the code tables at the start of a block.
        EndsInTables,
        Other,
    }

    /// Decodes one message's payload after `history`. The rules for its end are the ones of `Inflater::finish`.
    pub(super) fn inflate(payload: &[u8], history: &[u8], window: usize) -> Result<Decoded, Fault> {
        let bits = [payload, &[0x00, 0x00, 0xff, 0xff]].concat();
        let mut decoder = Decoder {
            bits: &bits,
            at: 0,
            payload_bits: payload.len() * 8,
            bytes: history.to_vec(),
            window,
            farthest: 0,
            in_tables: false,
        };
        match decoder.message() {
            Some(()) => {
                Ok(Decoded { output: decoder.bytes.split_off(history.len()), farthest: decoder.farthest })
            }
            None if decoder.in_tables && decoder.at == decoder.bits.len() * 8 => Err(Fault::EndsInTables),
            None => Err(Fault::Other),
        }
    }

    struct Decoder<'a> {
        bits: &'a [u8],
        at: usize,
        payload_bits: usize,
        bytes: Vec<u8>,
        window: usize,
        farthest: usize,
        in_tables: bool,
    }

    impl Decoder<'_> {
        fn message(&mut self) -> Option<()> {
            let mut at_end_of_stream = true;
            while self.at < self.bits.len() * 8 {
                if at_end_of_stream && self.at == self.payload_bits {
                    break;
                }
                at_end_of_stream = self.block()?;
                if at_end_of_stream {
                    self.align();
                    if self.at > self.payload_bits {
                        return None;
                    }
                }
            }
            Some(())
        }

        /// Returns whether the block was marked as final.
        fn block(&mut self) -> Option<bool> {
            let last = self.take(1)? == 1;
            match self.take(2)? {
                0 => self.stored()?,
                1 => {
                    let mut lengths = [8; 288];
                    lengths[144..256].fill(9);
                    lengths[256..280].fill(7);
                    self.compressed(&Code::new(&lengths, true)?, &Code::new(&[5; 30], true)?)?;
                }
                2 => {
                    self.in_tables = true;
                    let (literals, distances) = self.tables()?;
                    self.in_tables = false;
                    self.compressed(&literals, &distances)?;
                }
                _ => return None,
            }
            Some(last)
        }

        fn stored(&mut self) -> Option<()> {
            self.align();
            let len = self.take(16)?;
            if self.take(16)? != !len & 0xffff {
                return None;
            }
            for _ in 0..len {
                let byte = self.take(8)? as u8;
                self.push(byte)?;
            }
            Some(())
        }

        fn tables(&mut self) -> Option<(Code, Code)> {
            let (literals, distances, lengths) = (self.take(5)? + 257, self.take(5)? + 1, self.take(4)? + 4);
            if literals > 286 || distances > 30 {
                return None;
            }
            let mut meta = [0; 19];
            const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
            for &symbol in &ORDER[..lengths] {
                meta[symbol] = self.take(3)? as u8;
            }
            if meta == [0; 19] {
                // There is no way on from here, but zlib reads a bit for each length before it says so.
                self.take(literals + distances)?;
                return None;
            }
            let meta = Code::new(&meta, false)?;
            let mut all = Vec::new();
            while all.len() < literals + distances {
                let (length, repeat) = match self.symbol(&meta)? {
                    16 => (*all.last()?, 3 + self.take(2)?),
                    17 => (0, 3 + self.take(3)?),
                    18 => (0, 11 + self.take(7)?),
                    length => (length as u8, 1),
                };
                all.extend(std::iter::repeat_n(length, repeat));
            }
            if all.len() > literals + distances || all[256] == 0 {
                return None;
            }
            Some((Code::new(&all[..literals], true)?, Code::new(&all[literals..], true)?))
        }

        fn compressed(&mut self, literals: &Code, distances: &Code) -> Option<()> {
            loop {
                let symbol = self.symbol(literals)?;
                let length = match symbol {
                    0..=255 => {
                        self.push(symbol as u8)?;
                        continue;
                    }
                    256 => return Some(()),
                    257..=264 => symbol - 254,
                    265..=284 => {
                        let extra = (symbol - 261) / 4;
                        3 + ((4 + (symbol - 261) % 4) << extra) + self.take(extra)?
                    }
                    285 => 258,
                    _ => return None,
                };
                let symbol = self.symbol(distances)?;
                let distance = match symbol {
                    0..=3 => symbol + 1,
                    4..=29 => {
                        let extra = symbol / 2 - 1;
                        1 + ((2 + symbol % 2) << extra) + self.take(extra)?
                    }
                    _ => return None,
                };
                if distance > self.window || distance > self.bytes.len() {
                    return None;
                }
                self.farthest = self.farthest.max(distance);
                for _ in 0..length {
                    self.push(self.bytes[self.bytes.len() - distance])?;
                }
            }
        }

        fn symbol(&mut self, code: &Code) -> Option<usize> {
            let mut word = 0;
            for length in 1..=15 {
                word = word << 1 | self.take(1)?;
                if let Ok(at) = code.words.binary_search_by_key(&(length, word), |entry| entry.0) {
                    return Some(code.words[at].1);
                }
            }
            None
        }

        /// Nothing may come out once the payload is used up.
        fn push(&mut self, byte: u8) -> Option<()> {
            self.bytes.push(byte);
            (self.at <= self.payload_bits).then_some(())
        }

        fn align(&mut self) {
            self.at = self.at.next_multiple_of(8);
        }

        fn take(&mut self, count: usize) -> Option<usize> {
            let mut value = 0;
            for shift in 0..count as u32 {
                let byte = *self.bits.get(self.at / 8)?;
                value |= usize::from(byte >> (self.at % 8) & 1).unbounded_shl(shift);
                self.at += 1;
            }
            Some(value)
        }
    }

    /// Code words with their lengths, sorted, and the symbols they stand for.
    struct Code {
        words: Vec<((usize, usize), usize)>,
    }

    impl Code {
        /// RFC 1951 section 3.2.2. As in zlib, a code must be complete, but one of literals or distances may be a
        /// single word of one bit, or none.
        fn new(lengths: &[u8], single_allowed: bool) -> Option<Self> {
            let mut words = Vec::new();
            let (mut word, mut vacant) = (0usize, 1isize);
            for length in 1..=15 {
                word <<= 1;
                vacant *= 2;
                for (symbol, _) in lengths.iter().enumerate().filter(|(_, l)| usize::from(**l) == length) {
                    words.push(((length, word), symbol));
                    word += 1;
                    vacant -= 1;
                }
                if vacant < 0 {
                    return None;
                }
            }
            let single = words.is_empty() || (words.len() == 1 && words[0].0.0 == 1);
            // The fixed distance code has two words less than it could have.
            let fixed_distances = lengths == [5; 30];
            (vacant == 0 || (single && single_allowed) || fixed_distances).then_some(Self { words })
        }
    }
}
