//! From bytes to messages: the receiving half of an open connection (RFC 6455 sections 5 and 6.2).
//!
//! ```text
//!  recv_buffer/received            poll
//!  ───────────────────►  buf  ─────────────►  whole plain message: a range of `buf`, no copy
//!                         │
//!                         └── body of a fragmented, compressed or streamed message,
//!                             consumed as it arrives ──►  `message`  ──► a range of it
//! ```
//!
//! One call of `poll` takes one thing off the buffer. A message that comes in one uncompressed frame stays where the
//! socket wrote it; `buf` grows for it as its bytes arrive, never because a header promises them. Every other body is
//! moved to `message` bytewise, inflated and checked on the way, so that `buf` need not hold it.

use super::buffer::RecvBuffer;
use super::deflate::Inflater;
use super::error::ProtocolError;
use super::frame::{self, CLOSE, CONTINUATION, Header, PING, PONG, TEXT};
use super::utf8::{self, Utf8Checker};
use std::ops::Range;

/// Bounds on what a peer may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame, in bytes of payload. Default 16 MiB. Frames of streamed messages are not bound by it.
    pub max_frame: usize,
    /// Longest message, in bytes after inflating; of a streamed message, its sum. Default 64 MiB.
    pub max_message: usize,
    /// Most frames in one message. Default 65,536.
    pub max_fragments: u32,
    /// Streams messages longer than this many bytes: they arrive as chunks of this size, and memory stays bounded by it.
    /// Default `None`: messages arrive whole. At least 1,024.
    pub chunk: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_frame: 16 << 20, max_message: 64 << 20, max_fragments: 65_536, chunk: None }
    }
}

/// What a data message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

/// Where bytes of an [`Inbound`] are: see [`Receiver::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    assembled: bool,
    start: usize,
    end: usize,
}

impl Place {
    /// The bytes themselves, in the storage that they lie in.
    #[inline]
    pub(crate) fn of(self, storage: &[u8]) -> &[u8] {
        &storage[self.start..self.end]
    }

    /// The part `range` of it, as offsets from its start.
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        debug_assert!(self.start + range.end <= self.end);
        Self { start: self.start + range.start, end: self.start + range.end, ..self }
    }
}

/// One thing that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inbound {
    Message(Kind, Place),
    /// A part of a message longer than `Limits::chunk`.
    Chunk {
        kind: Kind,
        at: Place,
        last: bool,
    },
    Ping(Place),
    Pong(Place),
    Close(Place),
}

/// The receiving half of an open connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    buf: RecvBuffer,
    limits: Limits,
    /// Longest message that may stay in `buf`: all limits in one number.
    inline_max: usize,
    inflater: Option<Inflater>,
    /// Nothing is half done: the next byte begins a frame that begins a message, and none of it was looked at.
    fresh: bool,
    /// Payload bytes of the incomplete text frame at the head of `buf` that `utf8` has seen.
    checked: usize,
    utf8: Utf8Checker,
    /// Payload bytes still to come of the frame whose body is being moved to `message`, and whether it is the last.
    body: Option<Body>,
    assembly: Option<Assembly>,
    message: Vec<u8>,
    /// Bytes of `message` that `utf8` has seen.
    vetted: usize,
    /// Bytes at the front of `message` that were handed out already.
    delivered: usize,
    /// What stopped the inflater. What it made before is vetted and delivered first.
    fault: Option<ProtocolError>,
}

#[derive(Debug, Clone, Copy)]
struct Body {
    remaining: u64,
    fin: bool,
}

/// A message that is being put together in `message`.
#[derive(Debug, Clone, Copy)]
struct Assembly {
    kind: Kind,
    compressed: bool,
    fragments: u32,
    /// Bytes so far, inflated, those handed out as chunks included.
    total: u64,
    streamed: bool,
}

impl Receiver {
    pub(crate) fn new(buffer: usize, limits: Limits) -> Self {
        // Far enough from the end of all numbers for a header to be added.
        let inline_max = limits
            .max_frame
            .min(limits.max_message)
            .min(limits.chunk.unwrap_or(usize::MAX))
            .min(usize::MAX / 2);
        Self {
            buf: RecvBuffer::new(buffer),
            limits,
            inline_max,
            inflater: None,
            fresh: true,
            checked: 0,
            utf8: Utf8Checker::default(),
            body: None,
            assembly: None,
            message: Vec::new(),
            vetted: 0,
            delivered: 0,
            fault: None,
        }
    }

    /// Messages may be compressed from here on.
    pub(crate) fn compress(&mut self, inflater: Inflater) {
        self.inflater = Some(inflater);
    }

    /// Room for a response of this many bytes: the buffer may grow to it.
    pub(crate) fn want(&mut self, len: usize) {
        self.buf.want(len);
    }

    /// All that arrived and was not taken; during the handshake, its response so far.
    pub(crate) fn peek(&self) -> &[u8] {
        self.buf.unread()
    }

    /// Takes the first `len` bytes off: what they were is somebody else's to know.
    pub(crate) fn consume(&mut self, len: usize) {
        self.buf.advance_head(len);
    }

    /// Throws away all that arrived.
    pub(crate) fn discard(&mut self) {
        self.buf.clear();
    }

    /// Where the next bytes of the connection go.
    #[inline]
    pub(crate) fn recv_buffer(&mut self) -> &mut [u8] {
        self.buf.writable()
    }

    /// `len` bytes were written to the front of [`recv_buffer`](Self::recv_buffer).
    #[inline]
    pub(crate) fn received(&mut self, len: usize) {
        self.buf.advance_tail(len);
    }

    /// Whether bytes wait that were not taken.
    #[inline]
    pub(crate) fn has_input(&self) -> bool {
        !self.buf.unread().is_empty()
    }

    /// The bytes of an inbound; valid until the next `recv_buffer` or `poll`.
    #[inline]
    pub(crate) fn bytes(&self, at: Place) -> &[u8] {
        at.of(self.storage(at))
    }

    /// What the bytes of an inbound lie in.
    #[inline]
    pub(crate) fn storage(&self, at: Place) -> &[u8] {
        if at.assembled { &self.message } else { self.buf.all() }
    }

    /// Gives that storage away until it is [restored](Self::restore); nothing may be polled or received meanwhile.
    pub(crate) fn lend(&mut self, at: Place) -> Vec<u8> {
        if at.assembled { std::mem::take(&mut self.message) } else { self.buf.lend() }
    }

    pub(crate) fn restore(&mut self, at: Place, storage: Vec<u8>) {
        if at.assembled { self.message = storage } else { self.buf.restore(storage) }
    }

    /// The bytes of an inbound that is known to be text.
    #[inline]
    pub(crate) fn text(&self, at: Place) -> &str {
        utf8::checked_text(self.bytes(at))
    }

    /// Takes a message off the buffer if it is the common case: whole, in one uncompressed frame. Whatever else there is, faults
    /// included, is for [`poll`](Self::poll).
    #[inline]
    pub(crate) fn poll_plain(&mut self) -> Option<(Kind, Place)> {
        let [first @ (0x81 | 0x82), second, rest @ ..] = self.buf.unread() else { return None };
        let (size, len) = match *second {
            len @ 0..126 => (2, usize::from(len)),
            126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
            _ => return None,
        };
        // Limits first: a sum with a length within them does not overflow.
        if !self.fresh || len > self.inline_max || (size == 4 && len < 126) || (size == 10 && len < 65_536) {
            return None;
        }
        let payload = rest.get(size - 2..size - 2 + len)?;
        let kind = if *first == 0x81 { Kind::Text } else { Kind::Binary };
        if kind == Kind::Text && !utf8::is_utf8(payload) {
            return None;
        }
        let start = self.buf.head() + size;
        self.buf.advance_head(size + len);
        self.buf.saw_header(if kind == Kind::Text { size } else { 0 });
        Some((kind, Place { assembled: false, start, end: start + len }))
    }

    /// Takes the next thing off the buffer; `None` if more bytes are needed first.
    pub(crate) fn poll(&mut self) -> Result<Option<Inbound>, ProtocolError> {
        if self.delivered > 0 {
            self.message.drain(..self.delivered);
            self.delivered = 0;
        }
        loop {
            if let Some(chunk) = self.vet()? {
                return Ok(Some(chunk));
            }
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if let Some(body) = self.body {
                match self.poll_body(body)? {
                    Step::Done(inbound) => return Ok(Some(inbound)),
                    Step::Again => continue,
                    Step::NeedMore => return Ok(None),
                }
            }
            let Some(header) = frame::parse(self.buf.unread())? else { return Ok(None) };
            self.check(&header)?;
            if header.is_control() {
                return Ok(self.take_whole(&header).map(|at| match header.opcode {
                    CLOSE => Inbound::Close(at),
                    PING => Inbound::Ping(at),
                    // `check` refused every other opcode.
                    _ => Inbound::Pong(at),
                }));
            }
            if self.stays_in_buffer(&header) {
                return self.poll_inline(&header);
            }
            self.begin_body(&header)?;
        }
    }

    /// What RFC 6455 section 5.4 and the limits say of a frame, before any of its payload is there.
    fn check(&self, header: &Header) -> Result<(), ProtocolError> {
        debug_assert!(matches!(header.opcode, 0..=2 | CLOSE | PING | PONG));
        if header.is_control() {
            return Ok(());
        }
        if header.rsv1 && self.inflater.is_none() {
            return Err(ProtocolError::ReservedBits(4));
        }
        match (header.opcode, &self.assembly) {
            (CONTINUATION, None) => return Err(ProtocolError::UnexpectedContinuation),
            (CONTINUATION, Some(assembly)) if assembly.fragments >= self.limits.max_fragments => {
                return Err(ProtocolError::TooManyFragments { max: self.limits.max_fragments });
            }
            (CONTINUATION, Some(_)) | (_, None) => {}
            (_, Some(_)) => return Err(ProtocolError::UnfinishedMessage),
        }
        let max = self.limits.max_frame as u64;
        if header.len > max && self.limits.chunk.is_none() {
            return Err(ProtocolError::FrameTooLarge { len: header.len, max });
        }
        let compressed = header.rsv1 || self.assembly.is_some_and(|a| a.compressed);
        let sofar = self.assembly.map_or(0, |a| a.total);
        let max = self.limits.max_message as u64;
        // Compressed bodies are measured while they are inflated.
        if !compressed && sofar.saturating_add(header.len) > max {
            return Err(ProtocolError::MessageTooLarge { max });
        }
        Ok(())
    }

    fn stays_in_buffer(&self, header: &Header) -> bool {
        header.fin && !header.rsv1 && header.opcode != CONTINUATION && header.len <= self.inline_max as u64
    }

    /// Takes a frame that is all there; otherwise asks the buffer for room.
    fn take_whole(&mut self, header: &Header) -> Option<Place> {
        // At most `inline_max` or 125: fits in usize.
        let total = header.size + header.len as usize;
        if self.buf.unread().len() < total {
            self.buf.want(total);
            return None;
        }
        let start = self.buf.head() + header.size;
        let end = self.buf.head() + total;
        self.buf.advance_head(total);
        Some(Place { assembled: false, start, end })
    }

    /// A message in one frame, delivered from the buffer. Its text is checked as it arrives.
    fn poll_inline(&mut self, header: &Header) -> Result<Option<Inbound>, ProtocolError> {
        let kind = if header.opcode == TEXT { Kind::Text } else { Kind::Binary };
        if kind == Kind::Text {
            let payload = &self.buf.unread()[header.size..];
            let there = payload.len().min(header.len as usize);
            self.utf8.push(&payload[self.checked..there]).map_err(|_| ProtocolError::InvalidUtf8)?;
            self.checked = there;
        }
        let Some(at) = self.take_whole(header) else {
            self.fresh = self.checked == 0;
            return Ok(None);
        };
        self.buf.saw_header(if kind == Kind::Text { header.size } else { 0 });
        self.checked = 0;
        self.fresh = true;
        self.utf8.finish().map_err(|_| ProtocolError::InvalidUtf8)?;
        Ok(Some(Inbound::Message(kind, at)))
    }

    fn begin_body(&mut self, header: &Header) -> Result<(), ProtocolError> {
        let assembly = self.assembly.get_or_insert_with(|| {
            let kind = if header.opcode == TEXT { Kind::Text } else { Kind::Binary };
            Assembly { kind, compressed: header.rsv1, fragments: 0, total: 0, streamed: false }
        });
        if header.opcode != CONTINUATION {
            recycle(&mut self.message, self.buf.base());
            (self.vetted, self.utf8) = (0, Utf8Checker::default());
        }
        assembly.fragments += 1;
        self.buf.advance_head(header.size);
        self.body = Some(Body { remaining: header.len, fin: header.fin });
        self.fresh = false;
        Ok(())
    }

    /// Moves what is there of a body to `message`.
    fn poll_body(&mut self, body: Body) -> Result<Step, ProtocolError> {
        let Some(assembly) = self.assembly.as_mut() else {
            unreachable!("a body is begun together with its assembly")
        };
        if body.remaining == 0 {
            if !body.fin {
                self.body = None;
                return Ok(Step::Again);
            }
            return self.end_message();
        }
        let unread = self.buf.unread();
        let mut take = usize::try_from(body.remaining).unwrap_or(usize::MAX).min(unread.len());
        if let Some(chunk) = self.limits.chunk {
            // DEFLATE grows at most 1,032-fold, so that this step makes no more than about one chunk.
            take = take.min(if assembly.compressed { (chunk / 1032).max(16) } else { chunk });
        }
        if take == 0 {
            return Ok(Step::NeedMore);
        }
        let before = self.message.len();
        match (&mut self.inflater, assembly.compressed) {
            (Some(inflater), true) => {
                let max = self.limits.max_message as u64;
                let room = (max - assembly.total.min(max)) as usize;
                let inflated = inflater.inflate(&unread[..take], &mut self.message, before + room);
                self.fault = inflated.err().map(|e| ProtocolError::inflate(&e, max));
            }
            _ => self.message.extend_from_slice(&unread[..take]),
        }
        assembly.total += (self.message.len() - before) as u64;
        self.buf.advance_head(take);
        self.body = Some(Body { remaining: body.remaining - take as u64, ..body });
        Ok(Step::Again)
    }

    /// All of a message is in `message` and vetted.
    fn end_message(&mut self) -> Result<Step, ProtocolError> {
        self.body = None;
        self.fresh = true;
        let Some(Assembly { kind, compressed, streamed, .. }) = self.assembly.take() else {
            unreachable!("only an assembly ends")
        };
        if let (Some(inflater), true) = (&mut self.inflater, compressed) {
            inflater.finish().map_err(|e| ProtocolError::inflate(&e, self.limits.max_message as u64))?;
        }
        self.utf8.finish().map_err(|_| ProtocolError::InvalidUtf8)?;
        let at = Place { assembled: true, start: 0, end: self.message.len() };
        Ok(Step::Done(if streamed {
            Inbound::Chunk { kind, at, last: true }
        } else {
            Inbound::Message(kind, at)
        }))
    }

    /// Checks what is new in `message`, and hands out a chunk once there is more than one. It goes from one possible chunk to the
    /// next, so that chunks and faults come in the same order however the bytes were cut.
    fn vet(&mut self) -> Result<Option<Inbound>, ProtocolError> {
        let Some(assembly) = self.assembly.as_mut() else { return Ok(None) };
        loop {
            let mut end = self.message.len();
            if let Some(chunk) = self.limits.chunk {
                if self.vetted > chunk {
                    let end = match assembly.kind {
                        Kind::Text => utf8::boundary(&self.message[..chunk]),
                        Kind::Binary => chunk,
                    };
                    assembly.streamed = true;
                    self.delivered = end;
                    self.vetted -= end;
                    let at = Place { assembled: true, start: 0, end };
                    return Ok(Some(Inbound::Chunk { kind: assembly.kind, at, last: false }));
                }
                end = end.min(chunk + 1);
            }
            if self.vetted == end {
                return Ok(None);
            }
            if assembly.kind == Kind::Text {
                self.utf8.push(&self.message[self.vetted..end]).map_err(|_| ProtocolError::InvalidUtf8)?;
            }
            self.vetted = end;
        }
    }
}

enum Step {
    Done(Inbound),
    Again,
    NeedMore,
}

/// Empties `message` for its next use, giving back what a rare huge message left behind.
fn recycle(message: &mut Vec<u8>, base: usize) {
    let used = message.len();
    message.clear();
    if message.capacity() > 4 * base.max(used) {
        message.shrink_to(2 * base.max(used));
    }
}
