//! The bytes all engines get: payloads, the frames a server makes of them, and how these are cut into reads.

use std::ops::Range;

use crate::random::Random;

/// How many bytes of frames make up one [`Input`] or [`Batch`], as far as whole messages allow.
const TARGET: usize = 512 * 1024;
/// The longest read of [`Chunking::Full`], in bytes.
const FULL_READ: usize = 64 * 1024;

/// What a message carries (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8; here ASCII that looks like JSON.
    Text,
    /// Any bytes; here random ones.
    Binary,
}

/// One message to send. It borrows, as a user's message would; `'static` lets a peer that insists on owning
/// it get by without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A text message.
    Text(&'static str),
    /// A binary message.
    Binary(&'static [u8]),
}

impl Payload {
    /// The bytes of either kind.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Which kind it is.
    #[inline]
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }
}

/// How the bytes of an [`Input`] arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// A busy socket: each read returns 64 KiB, wherever that cuts a frame.
    Full,
    /// A quiet socket: each read returns exactly one frame, of whatever size.
    PerMessage,
}

/// Frames from a server, and the truth about what is in them.
#[derive(Debug)]
pub struct Input {
    kind: Kind,
    bytes: Vec<u8>,
    /// Where each message's payload lies in `bytes`.
    payloads: Vec<Range<usize>>,
    /// Where each read lies in `bytes`; they follow each other without a gap.
    reads: Vec<Range<usize>>,
}

impl Input {
    /// About half a MiB of messages of `size` bytes each, at least four.
    #[must_use]
    pub fn new(kind: Kind, size: usize, chunking: Chunking) -> Self {
        let count = (TARGET / (size + server_header(kind, size).len())).max(4);
        let mut random = Random::new(size as u64);
        Self::from_payloads(kind, (0..count).map(|_| payload(kind, size, &mut random)), chunking)
    }

    /// One unmasked, unfragmented frame for each of `payloads`, which need not be valid for `kind`.
    pub fn from_payloads(
        kind: Kind,
        payloads: impl IntoIterator<Item = Vec<u8>>,
        chunking: Chunking,
    ) -> Self {
        let mut bytes = Vec::new();
        let mut frames = Vec::new();
        let mut ranges = Vec::new();
        for payload in payloads {
            let start = bytes.len();
            bytes.extend(server_header(kind, payload.len()));
            let body = bytes.len();
            bytes.extend(payload);
            ranges.push(body..bytes.len());
            frames.push(start..bytes.len());
        }
        let reads = match chunking {
            Chunking::PerMessage => frames,
            Chunking::Full => (0..bytes.len())
                .step_by(FULL_READ)
                .map(|start| start..(start + FULL_READ).min(bytes.len()))
                .collect(),
        };
        Self { kind, bytes, payloads: ranges, reads }
    }

    /// The kind of all messages.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many messages there are.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.payloads.len()
    }

    /// The length of all payloads together, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payloads.iter().map(ExactSizeIterator::len).sum()
    }

    /// The payload of message `index`, from 0; `None` after the last.
    #[must_use]
    pub fn payload(&self, index: usize) -> Option<&[u8]> {
        Some(&self.bytes[self.payloads.get(index)?.clone()])
    }

    /// What the socket returns, read by read.
    #[inline]
    pub fn reads(&self) -> impl Iterator<Item = &[u8]> {
        self.reads.iter().map(|read| &self.bytes[read.clone()])
    }

    /// The bytes of read `index`, from 0; `None` after the last.
    #[inline]
    #[must_use]
    pub fn read(&self, index: usize) -> Option<&[u8]> {
        Some(&self.bytes[self.reads.get(index)?.clone()])
    }

    /// The length of the longest read, in bytes.
    #[must_use]
    pub fn longest_read(&self) -> usize {
        self.reads.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
    }
}

/// Messages to encode in one go.
#[derive(Debug)]
pub struct Batch {
    messages: Vec<Payload>,
    /// The length of the frames that must come out, in bytes.
    encoded: usize,
}

impl Batch {
    /// As many messages of `size` bytes as make half a MiB of frames, at least one.
    ///
    /// They take turns from up to 64 KiB of different payloads: a message just composed is in the processor's
    /// cache. The payloads live until the process ends.
    #[must_use]
    pub fn new(kind: Kind, size: usize) -> Self {
        let frame = server_header(kind, size).len() + 4 + size;
        let count = (TARGET / frame).max(1);
        let different = (64 * 1024 / size.max(1)).clamp(2, 4096).min(count);
        let mut random = Random::new(!(size as u64));
        let pool: Vec<Payload> = (0..different)
            .map(|_| {
                let bytes: &'static [u8] = Box::leak(payload(kind, size, &mut random).into_boxed_slice());
                match kind {
                    Kind::Text => Payload::Text(std::str::from_utf8(bytes).expect("text payloads are ASCII")),
                    Kind::Binary => Payload::Binary(bytes),
                }
            })
            .collect();
        let messages: Vec<Payload> = pool.into_iter().cycle().take(count).collect();
        Self { messages, encoded: count * frame }
    }

    /// The messages, in the order in which they must come out.
    #[inline]
    #[must_use]
    pub fn messages(&self) -> &[Payload] {
        &self.messages
    }

    /// The length of the frames that must come out, headers and masks included, in bytes.
    #[must_use]
    pub fn encoded(&self) -> usize {
        self.encoded
    }
}

/// The header of an unmasked, final data frame (RFC 6455 section 5.2).
#[must_use]
pub fn server_header(kind: Kind, len: usize) -> Vec<u8> {
    let mut header = vec![match kind {
        Kind::Text => 0x81,
        Kind::Binary => 0x82,
    }];
    if len < 126 {
        header.push(len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        header.push(126);
        header.extend(len.to_be_bytes());
    } else {
        header.push(127);
        header.extend((len as u64).to_be_bytes());
    }
    header
}

fn payload(kind: Kind, size: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 32);
    match kind {
        Kind::Binary => {
            while bytes.len() < size {
                bytes.extend(random.next_u64().to_le_bytes());
            }
            bytes.truncate(size);
        }
        Kind::Text => {
            bytes.push(b'{');
            while bytes.len() < size {
                let field = format!(
                    "\"{}\":{},",
                    ["bid", "ask", "qty", "seq"][random.below(4)],
                    random.below(1 << 24)
                );
                bytes.extend(field.into_bytes());
            }
            bytes.truncate(size);
            if let Some(last) = bytes.last_mut() {
                *last = b'}';
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cover_the_frames_without_gap_or_overlap() {
        for chunking in [Chunking::Full, Chunking::PerMessage] {
            for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
                let input = Input::new(Kind::Binary, size, chunking);
                let joined: Vec<u8> = input.reads().flatten().copied().collect();
                assert_eq!(joined, input.bytes);
                assert_eq!(input.payload_bytes(), size * input.messages());
                if chunking == Chunking::PerMessage {
                    assert_eq!(input.reads().count(), input.messages());
                } else {
                    assert!(input.longest_read() <= FULL_READ);
                }
            }
        }
    }

    #[test]
    fn text_is_ascii_of_the_size_asked_for() {
        for size in [1, 2, 16, 125, 4096] {
            let input = Input::new(Kind::Text, size, Chunking::Full);
            let first = input.payload(0).unwrap();
            assert_eq!(first.len(), size);
            assert!(first.is_ascii() && first.ends_with(b"}"));
            assert!(size < 16 || input.payload(1) != Some(first), "payloads must differ");
        }
    }

    #[test]
    fn batches_stay_near_their_target() {
        for size in [16, 125, 512, 4096, 65_536, 1 << 20] {
            let batch = Batch::new(Kind::Text, size);
            assert!(
                (256 * 1024..=1024 * 1024 + 14).contains(&batch.encoded()),
                "{size}: {}",
                batch.encoded()
            );
            assert!(batch.messages().iter().all(|message| message.bytes().len() == size));
        }
    }
}
