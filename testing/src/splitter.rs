//! From bytes to the frames in them, for logs (RFC 6455 section 5.2).

use tungstenite::Bytes;

use crate::matchers::describe_bytes;
use crate::transcript::{Direction, FRAME_BYTES, LoggedFrame};

/// Finds the frames in a stream of bytes. It believes every length and objects to nothing.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// The head of the next frame, as far as it came: up to 14 bytes.
    head: Vec<u8>,
    frame: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    frame: LoggedFrame,
    mask: [u8; 4],
    /// What is kept of the payload, still masked.
    payload: Vec<u8>,
    remaining: u64,
}

impl Splitter {
    pub(crate) fn feed(&mut self, direction: Direction, mut bytes: &[u8], frames: &mut Vec<LoggedFrame>) {
        loop {
            if self.frame.is_none() {
                let Some((&byte, rest)) = bytes.split_first() else { return };
                bytes = rest;
                self.head.push(byte);
                self.frame = parse_head(direction, &self.head);
            }
            let Some(partial) = &mut self.frame else { continue };
            let take = usize::try_from(partial.remaining).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(take);
            let keep = FRAME_BYTES.saturating_sub(partial.payload.len()).min(take);
            partial.payload.extend_from_slice(&payload[..keep]);
            partial.remaining -= take as u64;
            bytes = rest;
            if partial.remaining > 0 {
                return;
            }
            self.head.clear();
            frames.extend(self.frame.take().map(Partial::finish));
        }
    }

    /// What came of a frame that is not complete, in words; forgets it.
    pub(crate) fn unfinished(&mut self) -> Option<String> {
        let head = std::mem::take(&mut self.head);
        if head.is_empty() {
            return None;
        }
        let Some(partial) = self.frame.take() else { return Some(describe_bytes(&head, head.len())) };
        let (len, missing) = (partial.frame.len, partial.remaining);
        Some(format!("{missing} of its {len} bytes are missing"))
    }
}

impl Partial {
    fn finish(mut self) -> LoggedFrame {
        if self.mask != [0; 4] {
            self.payload.iter_mut().zip(self.mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        self.frame.payload = self.payload.into();
        self.frame
    }
}

/// The head of a frame once it is complete.
fn parse_head(direction: Direction, head: &[u8]) -> Option<Partial> {
    let (&[first, second], rest) = head.split_first_chunk::<2>()?;
    let (len, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(len, rest)| (u64::from(u16::from_be_bytes(*len)), rest))?,
        127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), rest))?,
        short => (u64::from(short), rest),
    };
    let mask = if second & 0x80 == 0 { [0; 4] } else { *rest.first_chunk()? };
    let frame = LoggedFrame {
        direction,
        fin: first & 0x80 != 0,
        rsv: first >> 4 & 0x7,
        opcode: first & 0x0f,
        masked: second & 0x80 != 0,
        len,
        payload: Bytes::new(),
    };
    Some(Partial { frame, mask, payload: Vec::new(), remaining: len })
}
