//! From messages to bytes: the sending half of an open connection (RFC 6455 sections 5.3, 5.4 and 6.1).
//!
//! Frames are encoded into one buffer as soon as they are sent; the driver writes it out from the front. A message
//! longer than `fragment` goes in several frames, and a control frame that comes up meanwhile is put between two of
//! them, so that a pong need not wait for megabytes of data.

use super::deflate::Deflater;
use super::frame::{self, BINARY, CLOSE, CONTINUATION, FIN, RSV1, TEXT};
use super::mask::{self, MaskKeys};
use super::receiver::Kind;
use std::collections::VecDeque;

/// The sending half of an open connection.
#[derive(Debug)]
pub(crate) struct Sender {
    /// `bytes[head..tail]` is to be written; before it, what was written already, back to the start of a frame; behind
    /// it, initialised room.
    bytes: Vec<u8>,
    head: usize,
    tail: usize,
    keys: MaskKeys,
    fragment: usize,
    deflater: Option<Deflater>,
    deflated: Vec<u8>,
    /// Where, in `bytes`, fragments end that more fragments of the same message follow.
    seams: VecDeque<usize>,
    messages: u64,
    /// Longest message that needs neither several frames nor a look at compression.
    simple: usize,
    calm: u32,
    /// What is sent, for a recorder: opcode and payload.
    notes: Option<Vec<(u8, Vec<u8>)>>,
}

/// What was not written of the messages of a lost connection, counted from the newest back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unwritten {
    /// Messages of which not one byte was written.
    pub(crate) whole: u64,
    /// Whether one before them was written in part.
    pub(crate) partial: bool,
}

impl Sender {
    /// Room that is kept in any case, in bytes.
    const KEEP: usize = 256 << 10;
    /// Times that the buffer ran empty without need of more than that, before the rest is given back.
    const CALM: u32 = 256;

    /// `fragment`: most payload bytes in one frame.
    pub(crate) fn new(keys: MaskKeys, fragment: usize) -> Self {
        Self {
            bytes: Vec::new(),
            head: 0,
            tail: 0,
            keys,
            fragment,
            deflater: None,
            deflated: Vec::new(),
            seams: VecDeque::new(),
            messages: 0,
            simple: fragment,
            calm: 0,
            notes: None,
        }
    }

    /// Keeps what is sent until [`noted`](Self::noted) takes it.
    pub(crate) fn note(&mut self) {
        self.notes = Some(Vec::new());
    }

    /// What was sent since the last call: opcode and payload of each.
    pub(crate) fn noted(&mut self) -> Vec<(u8, Vec<u8>)> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Messages are compressed from here on, as the deflater's threshold says.
    pub(crate) fn compress(&mut self, deflater: Deflater) {
        self.deflater = Some(deflater);
        self.simple = 0;
    }

    /// Data messages sent on this connection so far: the ordinal of the next one.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes to be written.
    #[inline]
    pub(crate) fn transmit(&self) -> &[u8] {
        &self.bytes[self.head..self.tail]
    }

    /// Bytes that wait to be written.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.tail - self.head
    }

    /// `len` bytes of [`transmit`](Self::transmit) were written. More than there are cannot have been.
    pub(crate) fn transmitted(&mut self, len: usize) {
        self.head += len.min(self.queued());
        if self.tail > Self::KEEP {
            self.calm = 0;
        }
        if self.head == self.tail {
            (self.head, self.tail) = (0, 0);
            self.seams.clear();
            self.calm = self.calm.saturating_add(1);
            if self.bytes.len() > Self::KEEP && self.calm > Self::CALM {
                self.bytes.truncate(Self::KEEP);
                self.bytes.shrink_to(Self::KEEP);
            }
        }
        while self.seams.front().is_some_and(|seam| *seam < self.head) {
            self.seams.pop_front();
        }
    }

    /// Encodes a message, compressed if it may be and that was agreed on.
    #[inline]
    pub(crate) fn message(&mut self, kind: Kind, payload: &[u8], compress: bool) {
        let opcode = if kind == Kind::Text { TEXT } else { BINARY };
        self.messages += 1;
        if let Some(notes) = &mut self.notes {
            notes.push((opcode, payload.to_vec()));
        }
        if payload.len() > self.simple.min(125) || !self.short_frame(FIN | opcode, payload) {
            self.message_slow(opcode, payload, compress);
        }
    }

    /// Encodes a frame of up to 125 bytes at the end, if there is room: what most messages come to.
    #[inline]
    fn short_frame(&mut self, first: u8, payload: &[u8]) -> bool {
        let Some((header, rest)) = self.bytes[self.tail..].split_first_chunk_mut::<6>() else { return false };
        let Some(body) = rest.get_mut(..payload.len()) else { return false };
        let key = self.keys.next_key();
        *header = frame::short_header(first, payload.len() as u8, key);
        mask::copy_masked(body, payload, key);
        self.tail += 6 + payload.len();
        true
    }

    #[inline(never)]
    fn message_slow(&mut self, opcode: u8, payload: &[u8], compress: bool) {
        if payload.len() <= self.simple {
            return self.frame(FIN | opcode, payload);
        }
        let mut deflated = std::mem::take(&mut self.deflated);
        match &mut self.deflater {
            Some(deflater) if compress && deflater.wants(payload.len()) => {
                deflated.clear();
                deflater.deflate(payload, &mut deflated, true);
                self.fragments(RSV1 | opcode, &deflated);
                if deflated.capacity() > Self::KEEP {
                    deflated = Vec::new();
                }
            }
            _ => self.fragments(opcode, payload),
        }
        self.deflated = deflated;
    }

    fn fragments(&mut self, first: u8, mut payload: &[u8]) {
        let mut first = first;
        while payload.len() > self.fragment {
            let (now, rest) = payload.split_at(self.fragment);
            self.frame(first, now);
            self.seams.push_back(self.tail);
            (first, payload) = (CONTINUATION, rest);
        }
        self.frame(FIN | first, payload);
    }

    /// Encodes a ping or pong frame. It goes in front of the rest of a fragmented message that is still being written.
    ///
    /// # Panics
    /// If the payload is longer than the 125 bytes that RFC 6455 section 5.5 allows: callers build or received it.
    pub(crate) fn control(&mut self, opcode: u8, payload: &[u8]) {
        assert!(payload.len() <= 125, "control frames hold at most 125 bytes");
        if let Some(notes) = &mut self.notes {
            notes.push((opcode, payload.to_vec()));
        }
        self.frame(FIN | opcode, payload);
        // A seam at the very front counts unless the frame before it was never begun there: all before `head` is out.
        if let Some(&seam) = self.seams.front() {
            let size = frame::masked_header_len(payload.len()) + payload.len();
            self.bytes[seam..self.tail].rotate_right(size);
            for seam in &mut self.seams {
                *seam += size;
            }
        }
    }

    /// Encodes a close frame, after all that was sent: nothing may follow it (RFC 6455 section 5.5.1).
    pub(crate) fn close(&mut self, payload: &[u8]) {
        self.seams.clear();
        if let Some(notes) = &mut self.notes {
            notes.push((CLOSE, payload.to_vec()));
        }
        self.frame(FIN | CLOSE, payload);
    }

    /// Whether another message may follow if all that was not begun to be written is taken back: not in the middle of one that goes in several frames.
    pub(crate) fn is_between_messages(&self) -> bool {
        let rest = frames(&self.bytes[..self.tail]).filter(|(at, _)| *at >= self.head);
        let first = rest.map(|(at, _)| self.bytes[at]).find(|first| first & 0x8 == 0);
        first.is_none_or(|first| first & 0x0f != CONTINUATION)
    }

    /// Takes back all frames that were not begun to be written.
    pub(crate) fn cut(&mut self) {
        let begun =
            frames(&self.bytes[..self.tail]).find(|(at, size)| *at < self.head && self.head < at + size);
        self.tail = begun.map_or(self.head, |(at, size)| at + size);
        self.seams.clear();
    }

    /// The same, but a close frame stays.
    pub(crate) fn cut_messages(&mut self) {
        let close = frames(&self.bytes[..self.tail])
            .find(|(at, _)| *at >= self.head && self.bytes[*at] & 0x0f == CLOSE);
        self.cut();
        if let Some((at, size)) = close {
            self.bytes.copy_within(at..at + size, self.tail);
            self.tail += size;
        }
    }

    /// Encodes one frame at the end.
    fn frame(&mut self, first: u8, payload: &[u8]) {
        let key = self.keys.next_key();
        let size = frame::masked_header_len(payload.len());
        if self.bytes.len() - self.tail < size + payload.len() {
            self.make_room(size + payload.len());
        }
        let end = self.tail + size + payload.len();
        let out = &mut self.bytes[self.tail..end];
        // Headers of known length, each written in one go.
        let body = match size {
            6 => split_header::<6>(out, frame::short_header(first, payload.len() as u8, key)),
            8 => split_header::<8>(out, frame::medium_header(first, payload.len() as u16, key)),
            _ => split_header::<14>(out, frame::long_header(first, payload.len() as u64, key)),
        };
        mask::copy_masked(body, payload, key);
        self.tail = end;
    }

    #[cold]
    fn make_room(&mut self, len: usize) {
        // Whole frames before `head` are of no more use; the one that `head` is in must keep its beginning, for `unwritten`.
        let mut start = 0;
        for (at, size) in frames(&self.bytes[..self.tail]) {
            if at + size > self.head {
                break;
            }
            start = at + size;
        }
        // Move only what is little against what it frees.
        if start > 0 && self.tail - start <= start {
            self.bytes.copy_within(start..self.tail, 0);
            self.head -= start;
            self.tail -= start;
            for seam in &mut self.seams {
                *seam -= start;
            }
        }
        if self.tail + len > self.bytes.len() {
            let len = (self.tail + len).max(2 * self.bytes.len()).max(4096);
            self.bytes.resize(len, 0);
        }
    }

    /// What of the messages was never written, now that the connection is lost.
    pub(crate) fn unwritten(&self) -> Unwritten {
        let mut unwritten = Unwritten::default();
        // Fragments before the first that is still here are out.
        let mut begun_before_head = true;
        for (at, size) in frames(&self.bytes[..self.tail]) {
            let first = self.bytes[at];
            if first & 0x8 != 0 {
                continue;
            }
            if first & 0x0f != CONTINUATION {
                begun_before_head = at < self.head;
            }
            if first & FIN != 0 && at + size > self.head {
                if begun_before_head {
                    unwritten.partial = true;
                } else {
                    unwritten.whole += 1;
                }
            }
        }
        unwritten
    }
}

/// Writes a header to the front of a frame, and gives the place of its payload.
#[inline(always)]
fn split_header<const N: usize>(frame: &mut [u8], header: [u8; N]) -> &mut [u8] {
    match frame.split_first_chunk_mut() {
        Some((front, body)) => {
            *front = header;
            body
        }
        None => unreachable!("room was made for header and payload"),
    }
}

/// Start and size of each of our own frames in `bytes`, which begins with one.
fn frames(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (_, size) = frame::own_frame(bytes.get(at..)?)?;
        at += size;
        Some((at - size, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sender(fragment: usize) -> Sender {
        Sender::new(MaskKeys::new([3; 32], 1), fragment)
    }

    #[test]
    fn a_pong_that_makes_the_buffer_compact_itself_still_gets_between_two_fragments() {
        let mut sender = sender(1 << 20);
        sender.message(Kind::Binary, &vec![0; 4 << 20], true);
        sender.transmitted((2 << 20) + 100_000);
        sender.control(frame::PING, &[1; 8]);
        let opcodes: Vec<u8> =
            frames(&sender.bytes[..sender.tail]).map(|(at, _)| sender.bytes[at] & 0x0f).collect();
        assert_eq!(opcodes, [CONTINUATION, frame::PING, CONTINUATION]);
    }

    #[test]
    fn a_cut_leaves_what_was_begun_and_the_close_frame() {
        let whole = |sender: &mut Sender| {
            // Three fragments, one frame, and the close frame.
            sender.message(Kind::Binary, &[1; 40], true);
            sender.message(Kind::Binary, &[2; 5], true);
            sender.close(&[3, 232]);
            sender.queued()
        };
        let all = whole(&mut sender(16));
        for taken in 0..=all {
            let mut sender = sender(16);
            whole(&mut sender);
            let mut out = sender.transmit()[..taken].to_vec();
            sender.transmitted(taken);
            let unwritten = sender.unwritten();
            sender.cut_messages();
            out.extend_from_slice(sender.transmit());
            let opcodes: Vec<u8> = frames(&out).map(|(at, _)| out[at] & 0x0f).collect();
            let size: usize = frames(&out).map(|(_, size)| size).sum();
            assert_eq!((size, opcodes.last()), (out.len(), Some(&CLOSE)), "{taken}");
            let begun = opcodes.iter().filter(|opcode| **opcode == BINARY).count() as u64;
            assert_eq!(begun, 2 - unwritten.whole, "{taken}: {opcodes:?}");
        }
    }

    proptest! {
        /// Whatever is sent and written in whatever order: what comes out are whole frames, all of them, and control frames are
        /// never within another frame.
        #[test]
        fn the_bytes_are_always_whole_frames(
            steps in prop::collection::vec((0..3u8, 0..9000usize), 1..60),
        ) {
            let mut sender = sender(1024);
            let (mut out, mut data, mut control) = (Vec::new(), 0, 0);
            for (what, amount) in steps {
                match what {
                    0 => {
                        sender.message(Kind::Binary, &vec![7; amount], true);
                        data += 1;
                    }
                    1 => {
                        sender.control(frame::PONG, &[9; 125][..amount % 126]);
                        control += 1;
                    }
                    _ => {
                        let len = amount.min(sender.queued());
                        out.extend_from_slice(&sender.transmit()[..len]);
                        sender.transmitted(len);
                    }
                }
            }
            out.extend_from_slice(sender.transmit());
            let all: Vec<(usize, usize)> = frames(&out).collect();
            prop_assert_eq!(all.last().map_or(0, |(at, size)| at + size), out.len(), "whole frames");
            let ends = all.iter().filter(|(at, _)| out[*at] & 0x88 == FIN).count();
            prop_assert_eq!(ends, data);
            prop_assert_eq!(all.iter().filter(|(at, _)| out[*at] & 0x08 != 0).count(), control);
        }
    }
}
