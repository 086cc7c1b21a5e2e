//! What was said on a connection: every frame in both directions, and what the test did to it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tungstenite::Bytes;

use crate::frame::RawFrame;
use crate::matchers::{describe_bytes, quote};
use crate::splitter::Splitter;

/// The newest entries that a transcript keeps.
const ENTRIES: usize = 16_384;
/// The payload bytes that a transcript keeps, over all its entries.
const PAYLOAD_BYTES: usize = 16 << 20;
/// The bytes of one payload that are kept.
pub(crate) const FRAME_BYTES: usize = 64 << 10;

/// Entries of a transcript that stand in an error.
pub(crate) const STORY: usize = 20;

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client sent it.
    FromClient,
    /// The server sent it.
    ToClient,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromClient => "<-",
            Self::ToClient => "->",
        })
    }
}

/// A frame as it was on the wire (RFC 6455 section 5.2), its payload unmasked. `Display` has it in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedFrame {
    /// Which way it went.
    pub direction: Direction,
    /// The FIN bit: the last frame of its message.
    pub fin: bool,
    /// The reserved bits: 4 is RSV1, 2 is RSV2, 1 is RSV3.
    pub rsv: u8,
    /// The opcode: 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// Whether it was masked, as the frames of a client must be and those of a server must not (section 5.1).
    pub masked: bool,
    /// The length of the payload, in bytes, as the frame says.
    pub len: u64,
    /// The payload's first 64 KiB.
    pub payload: Bytes,
}

impl fmt::Display for LoggedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opcode {
            0x0 => f.write_str("continuation")?,
            0x1 => f.write_str("text")?,
            0x2 => f.write_str("binary")?,
            0x8 => f.write_str("close")?,
            0x9 => f.write_str("ping")?,
            0xa => f.write_str("pong")?,
            other => write!(f, "opcode {other}")?,
        }
        if !self.fin {
            f.write_str(", more to come")?;
        }
        for (bit, name) in [(4, "RSV1"), (2, "RSV2"), (1, "RSV3")] {
            if self.rsv & bit != 0 {
                write!(f, ", {name}")?;
            }
        }
        match (self.direction, self.masked) {
            (Direction::FromClient, false) => f.write_str(", not masked")?,
            (Direction::ToClient, true) => f.write_str(", masked")?,
            _ => {}
        }
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let whole = len == self.payload.len();
        match (self.opcode, std::str::from_utf8(&self.payload)) {
            (0x8, _) if self.payload.len() >= 2 => {
                let code = u16::from_be_bytes([self.payload[0], self.payload[1]]);
                write!(f, " {code}")?;
                if len > 2 {
                    write!(f, " {}", quote(&String::from_utf8_lossy(&self.payload[2..])))?;
                }
                Ok(())
            }
            (_, _) if len == 0 => f.write_str(", empty"),
            (0x0 | 0x1, Ok(text)) if whole && self.rsv == 0 => write!(f, " {}", quote(text)),
            _ => write!(f, ", {}", describe_bytes(&self.payload, len)),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// When, counted from the start of the server.
    pub at: Duration,
    /// On which connection, by [`ConnHandle::index`](crate::ConnHandle::index), in the transcript of a server; `None` for
    /// the server itself, and in the transcript of one connection.
    pub connection: Option<usize>,
    /// What.
    pub what: Logged,
}

/// What a [`LogEntry`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Logged {
    /// A whole frame. One of the server's is there as soon as it waits to be written, one of the client's when its last
    /// byte was read.
    Frame(LoggedFrame),
    /// Bytes of [`ConnHandle::send_raw`](crate::ConnHandle::send_raw), the first 64 KiB, and how many there were.
    Raw(Bytes, usize),
    /// What else happened: the handshake, what the test did to the connection, its end.
    Note(String),
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => write!(f, "{} {frame}", frame.direction),
            Self::Raw(bytes, len) => write!(f, "-> raw, {}", describe_bytes(bytes, *len)),
            Self::Note(note) => write!(f, "-- {note}"),
        }
    }
}

/// What was said on one connection, or on all of a server. `Display` has one line for each entry:
///
/// ```
/// use everwire_testing::{MockServer, tungstenite};
/// # const SOON: std::time::Duration = std::time::Duration::from_secs(5);
///
/// let server = MockServer::builder().handler(|conn, message| conn.send(message)).start();
/// let (mut client, _) = tungstenite::connect(server.url_of("/ws"))?;
/// client.send("hello".into())?;
/// client.read()?;
/// client.close(None)?;
/// while client.read().is_ok() {}
///
/// let conn = server.wait_connection(0, SOON)?;
/// conn.wait_end(SOON)?;
/// let story = conn.transcript().to_string();
/// // "    0.001204 s  <- text \"hello\"", and so on.
/// let lines: Vec<&str> = story.lines().map(|line| line.split_once(" s  ").unwrap().1).collect();
/// assert_eq!(lines, [
///     "-- GET /ws, answered with 101",
///     "<- text \"hello\"",
///     "-> text \"hello\"",
///     "<- close, empty",
///     "-> close, empty",
///     "-- closed by the client, the client's frame: close without a code",
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transcript {
    /// What happened, oldest first.
    pub entries: Vec<LogEntry>,
    /// Number of older entries that are no longer kept: there is room for 16,384 and for 16 MiB of payload.
    pub forgotten: u64,
}

impl Transcript {
    /// The frames alone, oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &LoggedFrame> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            Logged::Frame(frame) => Some(frame),
            _ => None,
        })
    }

    /// The newest entries alone, as many as `count`.
    pub(crate) fn last(mut self, count: usize) -> Self {
        let older = self.entries.len().saturating_sub(count);
        self.entries.drain(..older);
        self.forgotten += older as u64;
        self
    }

    /// Several transcripts as one, in the order of time.
    pub(crate) fn merge(parts: impl IntoIterator<Item = (Option<usize>, Self)>) -> Self {
        let mut merged = Self::default();
        for (connection, part) in parts {
            merged.forgotten += part.forgotten;
            merged.entries.extend(part.entries.into_iter().map(|entry| LogEntry { connection, ..entry }));
        }
        merged.entries.sort_by_key(|entry| entry.at);
        merged
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if self.forgotten > 0 {
            write!(f, "({} older entries left out)", self.forgotten)?;
            separator = "\n";
        }
        for entry in &self.entries {
            write!(f, "{separator}{:>12.6} s  ", entry.at.as_secs_f64())?;
            if let Some(index) = entry.connection {
                write!(f, "#{index} ")?;
            }
            write!(f, "{}", entry.what)?;
            separator = "\n";
        }
        Ok(())
    }
}

/// Where a connection's entries are collected. Its own lock, so that it can be written under any other.
#[derive(Debug)]
pub(crate) struct FrameLog {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<LogEntry>,
    payload: usize,
    forgotten: u64,
    from_client: Splitter,
    to_client: Splitter,
}

impl FrameLog {
    /// Times are counted from `started`.
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, inner: Mutex::default() }
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.push(Logged::Note(text.into()));
    }

    pub(crate) fn raw(&self, bytes: &[u8]) {
        let kept = Bytes::copy_from_slice(&bytes[..bytes.len().min(FRAME_BYTES)]);
        self.push(Logged::Raw(kept, bytes.len()));
    }

    /// A frame that may be invalid, so that its bytes would not be understood.
    pub(crate) fn sent(&self, frame: &RawFrame) {
        self.push(Logged::Frame(LoggedFrame {
            direction: Direction::ToClient,
            fin: frame.fin,
            rsv: frame.rsv,
            opcode: frame.opcode,
            masked: frame.mask.is_some(),
            len: frame.len(),
            payload: Bytes::copy_from_slice(&frame.payload[..frame.payload.len().min(FRAME_BYTES)]),
        }));
    }

    /// Bytes of frames, cut anywhere.
    pub(crate) fn bytes(&self, direction: Direction, bytes: &[u8]) {
        let mut inner = self.lock();
        // Inside of the lock, so that entries are in the order of their times.
        let at = self.started.elapsed();
        let splitter = match direction {
            Direction::FromClient => &mut inner.from_client,
            Direction::ToClient => &mut inner.to_client,
        };
        let mut frames = Vec::new();
        splitter.feed(direction, bytes, &mut frames);
        for frame in frames {
            inner.push(at, Logged::Frame(frame));
        }
    }

    /// The end of the connection; tells of a frame of the client that it cut off.
    pub(crate) fn end(&self, how: &impl fmt::Display) {
        let unfinished = self.lock().from_client.unfinished();
        if let Some(unfinished) = unfinished {
            self.note(format!("the client's last frame is not complete: {unfinished}"));
        }
        self.note(how.to_string());
    }

    pub(crate) fn transcript(&self) -> Transcript {
        let inner = self.lock();
        Transcript { entries: inner.entries.iter().cloned().collect(), forgotten: inner.forgotten }
    }

    fn push(&self, what: Logged) {
        let mut inner = self.lock();
        inner.push(self.started.elapsed(), what);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, at: Duration, what: Logged) {
        self.payload += payload(&what);
        self.entries.push_back(LogEntry { at, connection: None, what });
        while self.entries.len() > ENTRIES || (self.payload > PAYLOAD_BYTES && self.entries.len() > 1) {
            let Some(entry) = self.entries.pop_front() else { return };
            self.payload -= payload(&entry.what);
            self.forgotten += 1;
        }
    }
}

fn payload(what: &Logged) -> usize {
    match what {
        Logged::Frame(frame) => frame.payload.len(),
        Logged::Raw(bytes, _) => bytes.len(),
        Logged::Note(note) => note.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> FrameLog {
        FrameLog::new(Instant::now())
    }

    fn lines(log: &FrameLog) -> Vec<String> {
        log.transcript().entries.iter().map(|entry| entry.what.to_string()).collect()
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let frames = [
            RawFrame::text("hi").masked([1, 2, 3, 4]),
            RawFrame::binary(vec![7; 200]).unfinished().masked([0; 4]),
            RawFrame::ping("").masked([1; 4]),
            RawFrame::continuation(vec![8; 70_000]).masked([5, 6, 7, 8]),
            RawFrame::close(1001, "bye").masked([9; 4]),
            RawFrame::new(0xb, "x").reserved(5),
        ];
        let bytes = frames.map(|frame| frame.bytes()).concat();
        let mut told = Vec::new();
        for size in [1, 2, 3, 100, bytes.len()] {
            let log = log();
            bytes.chunks(size).for_each(|chunk| log.bytes(Direction::FromClient, chunk));
            let transcript = log.transcript();
            let sizes: Vec<(u64, usize)> = transcript.frames().map(|f| (f.len, f.payload.len())).collect();
            assert_eq!(sizes, [(2, 2), (200, 200), (0, 0), (70_000, 65_536), (5, 5), (1, 1)]);
            assert_eq!(transcript.frames().nth(3).map(|f| f.payload[65_535]), Some(8), "unmasked to its end");
            told.push(lines(&log));
        }
        told.dedup();
        let [lines] = &told[..] else { panic!("{told:?}") };
        assert_eq!(lines[0], "<- text \"hi\"");
        assert!(lines[1].starts_with("<- binary, more to come, 200 bytes: 07 07"), "{}", lines[1]);
        assert_eq!(lines[2], "<- ping, empty");
        assert!(lines[3].starts_with("<- continuation, 70000 bytes: 08 08"), "{}", lines[3]);
        assert_eq!(
            lines[4..],
            ["<- close 1001 \"bye\"", "<- opcode 11, RSV1, RSV3, not masked, 1 bytes: 78"]
        );
    }

    #[test]
    fn a_frame_that_is_cut_off_is_told_at_the_end() {
        for (len, told) in [(1, "1 bytes: 81"), (4, "3 of its 5 bytes are missing")] {
            let log = log();
            log.bytes(Direction::FromClient, &RawFrame::text("hello").bytes()[..len]);
            log.end(&"the end");
            let first = format!("-- the client's last frame is not complete: {told}");
            assert_eq!(lines(&log), [first.as_str(), "-- the end"]);
        }
    }

    #[test]
    fn it_is_bounded() {
        let log = log();
        for _ in 0..ENTRIES + 10 {
            log.note("");
        }
        let transcript = log.transcript();
        assert_eq!((transcript.entries.len(), transcript.forgotten), (ENTRIES, 10));
        for _ in 0..1000 {
            log.raw(&vec![0; 1 << 20]);
        }
        let transcript = log.transcript();
        assert_eq!(transcript.entries.len(), PAYLOAD_BYTES / FRAME_BYTES);
        assert_eq!(transcript.entries[0].what, Logged::Raw(vec![0; FRAME_BYTES].into(), 1 << 20));
        let text = transcript.last(2).to_string();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.starts_with("(17392 older entries left out)\n"), "{text}");
    }

    #[test]
    fn a_merged_transcript_is_in_the_order_of_time() {
        let entry = |at, text: &str| {
            let what = Logged::Note(text.into());
            LogEntry { at: Duration::from_secs(at), connection: None, what }
        };
        let part = |entries| Transcript { entries, forgotten: 1 };
        let merged = Transcript::merge([
            (Some(0), part(vec![entry(1, "a"), entry(3, "c")])),
            (None, part(vec![entry(2, "b")])),
        ]);
        assert_eq!(
            merged.to_string(),
            "(2 older entries left out)\n    1.000000 s  #0 -- a\n    2.000000 s  -- b\n    3.000000 s  #0 -- c"
        );
    }
}
