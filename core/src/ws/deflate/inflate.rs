//! Decompressing messages (RFC 7692 section 7.2.2).

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::DeflateParams;

/// Output is made in steps between these, doubling within a call. A step is zeroed before it is used, so it should
/// not be much larger than what comes out; the upper one stays within the second level cache.
const STEP: std::ops::RangeInclusive<usize> = 1024..=64 * 1024;

/// What follows the payload (section 7.2.2) is length and complement of an empty stored block, whose header the
/// payload ends with. Behind it stands another empty block, to see that the first really was one: it changes
/// nothing if so, and yields output or an error from almost every other place in a stream.
const TAIL: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0xff, 0xff];

/// The same with the second block marked as final. The decoder is then at the end of a stream if and only if the
/// payload was complete; this is the better check, but the decoder cannot be used any further.
const LAST_TAIL: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// Decompresses the messages of one connection, in their order.
///
/// A message is given in any number of pieces to [`inflate`](Self::inflate), as they arrive and whichever frames
/// they came in, and then [`finish`](Self::finish)ed. An error is final: the context is lost, the connection must
/// be failed, and each further call returns the same error.
///
/// Nothing is allocated before the first byte of a compressed message. With `server_no_context_takeover` everything
/// is freed again at the end of each message, otherwise it is kept and reused.
///
/// A message may consist of several DEFLATE streams, that is, contain blocks marked as final (section 7.2.3.4). The
/// window goes on across them, as it does across messages: it belongs to the context, not to the stream. The
/// decoder forgets it there, so a copy of the last `1 << server_max_window_bits` bytes is held here.
#[derive(Debug)]
pub struct Inflater {
    context_takeover: bool,
    stream: Option<Decompress>,
    /// The last block was marked as final: the decoder must start over before it gets another byte.
    ended: bool,
    /// Bytes of this message went into the present stream, so it is to be brought to a block's end.
    open: bool,
    history: History,
    failed: Option<InflateError>,
}

impl Inflater {
    /// A decoder for what the server sends under these parameters. Allocates nothing.
    pub fn new(params: &DeflateParams) -> Self {
        Self {
            context_takeover: !params.server_no_context_takeover,
            stream: None,
            ended: false,
            open: false,
            history: History::new(1 << params.server_max_window_bits.clamp(8, 15)),
            failed: None,
        }
    }

    /// Decompresses the next piece of a message's payload and appends what comes out to `out`, which may hold the
    /// message so far, or may have been emptied in between.
    ///
    /// `out` never gets longer than `limit` bytes, nor is room for more than that reserved. Everything that can
    /// come out of `input` does.
    ///
    /// # Errors
    ///
    /// [`InflateError::TooLarge`] as soon as the message does not fit; `out` then holds the part that does.
    /// [`InflateError::Corrupt`] if the payload is not DEFLATE.
    pub fn inflate(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), InflateError> {
        self.guard(|this| this.feed(input, out, limit))
    }

    /// Ends a message: all of its payload was given to [`inflate`](Self::inflate). Appends nothing to `out`, since
    /// a complete payload has been decompressed completely.
    ///
    /// A message without any payload, and one that ends exactly with a final block, are accepted although a server
    /// should add a byte (section 7.2.3.4, 7.2.3.6): there is no doubt about what they mean.
    ///
    /// # Errors
    ///
    /// [`InflateError::Truncated`] if the payload stops short of a flush (section 7.2.1). With context takeover, a
    /// payload that stops within the code tables at the start of a block may go unnoticed until the next message.
    pub fn finish(&mut self) -> Result<(), InflateError> {
        self.guard(|this| {
            if this.open {
                this.close()?;
                this.open = false;
            }
            if !this.context_takeover {
                this.release();
            }
            Ok(())
        })
    }

    /// Makes errors final.
    fn guard(&mut self, run: impl FnOnce(&mut Self) -> Result<(), InflateError>) -> Result<(), InflateError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        run(self).inspect_err(|error| {
            self.failed = Some(*error);
            self.release();
        })
    }

    fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), InflateError> {
        let mut step = (input.len().saturating_mul(8)).clamp(*STEP.start(), *STEP.end());
        let mut unrecorded = out.len();
        while !input.is_empty() {
            // The window size is left at its maximum: a larger one decodes the same, and the memory is the same.
            let stream = self.stream.get_or_insert_with(|| Decompress::new(false));
            if self.ended {
                // A server may demand this as often as every two bytes, and it copies the window each time: about a
                // microsecond. That is slow, but no slower the longer it goes on.
                stream.reset(false);
                self.history.prime(stream)?;
                self.ended = false;
            }
            self.open = true;
            if run(stream, &mut input, out, limit, &mut step)? == Status::StreamEnd {
                self.ended = true;
                self.open = false;
                self.history.push(&out[unrecorded..]);
                unrecorded = out.len();
                // Many tiny streams must not cost a large step each.
                step = *STEP.start();
            }
        }
        self.history.push(&out[unrecorded..]);
        Ok(())
    }

    /// Completes the last block.
    fn close(&mut self) -> Result<(), InflateError> {
        // `open` implies a stream; if it were not so, nothing could be missing.
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let (tail, at_end) =
            if self.context_takeover { (&TAIL, Status::Ok) } else { (&LAST_TAIL, Status::StreamEnd) };
        // One byte of room: nothing may come out here, and this is how we see if something does.
        let step = advance(stream, tail, &mut [0]).map_err(|_| InflateError::Truncated)?;
        if step.consumed == tail.len() && step.produced == 0 && step.status == at_end {
            Ok(())
        } else {
            Err(InflateError::Truncated)
        }
    }

    fn release(&mut self) {
        self.stream = None;
        self.ended = false;
        self.open = false;
        self.history.clear();
    }
}

/// Why a message could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InflateError {
    /// The message is larger than the limit, decompressed. Calls for close code 1009.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The payload is not DEFLATE data (RFC 1951), or refers to data from before the context began.
    Corrupt,
    /// The payload ends in the middle of a block.
    Truncated,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(
                f,
                "a compressed message is larger than {limit} bytes; raise the message size limit if it should be received"
            ),
            Self::Corrupt => f.write_str(
                "a compressed message is not valid DEFLATE data; the server is at fault, connect without compression if it cannot be repaired",
            ),
            Self::Truncated => f.write_str(
                "a compressed message ends in the middle of a DEFLATE block; the server is at fault, connect without compression if it cannot be repaired",
            ),
        }
    }
}

impl std::error::Error for InflateError {}

/// Feeds `input` until it is used up and all its output is out (`Status::Ok`), or to the end of the stream.
fn run(
    stream: &mut Decompress,
    input: &mut &[u8],
    out: &mut Vec<u8>,
    limit: usize,
    step_size: &mut usize,
) -> Result<Status, InflateError> {
    loop {
        let start = out.len();
        let room = limit.saturating_sub(start).min(*step_size);
        let step = if room == 0 {
            // The limit is reached, but not exceeded if only the ends of blocks are left.
            let before = stream.total_out();
            let step = advance(stream, input, &mut [0]);
            // A byte too many comes before any fault behind it, however the input was cut.
            if stream.total_out() > before {
                return Err(InflateError::TooLarge { limit });
            }
            step?
        } else {
            reserve(out, room, limit);
            out.resize(start + room, 0);
            let before = stream.total_out();
            let step = advance(stream, input, &mut out[start..]);
            // What came out before a fault is kept: what a caller sees must not depend on how the input was cut.
            let produced = usize::try_from(stream.total_out() - before).unwrap_or(room);
            out.truncate(start + produced.min(room));
            step?
        };
        *input = &input[step.consumed..];
        if step.status == Status::StreamEnd {
            return Ok(Status::StreamEnd);
        }
        if step.produced == room && room > 0 {
            // There may be more where this came from, even without input.
            *step_size = step_size.saturating_mul(2).min(*STEP.end());
        } else if input.is_empty() {
            return Ok(Status::Ok);
        } else if step.consumed == 0 && step.produced == 0 {
            // With input and room the decoder always gets on. Should it ever not, this must not become a loop.
            return Err(InflateError::Corrupt);
        }
    }
}

struct Step {
    consumed: usize,
    produced: usize,
    status: Status,
}

fn advance(stream: &mut Decompress, input: &[u8], output: &mut [u8]) -> Result<Step, InflateError> {
    let (total_in, total_out) = (stream.total_in(), stream.total_out());
    let status = match stream.decompress(input, output, FlushDecompress::None) {
        Ok(Status::StreamEnd) => Status::StreamEnd,
        // Lack of progress shows in the counts.
        Ok(Status::Ok | Status::BufError) => Status::Ok,
        Err(_) => return Err(InflateError::Corrupt),
    };
    // Neither exceeds the length of a slice.
    let consumed = (stream.total_in() - total_in) as usize;
    let produced = (stream.total_out() - total_out) as usize;
    Ok(Step { consumed, produced, status })
}

/// Makes room for `more` bytes, doubling as `Vec` does, but not beyond `limit`.
fn reserve(out: &mut Vec<u8>, more: usize, limit: usize) {
    let needed = out.len() + more;
    if needed > out.capacity() {
        let target = out.capacity().saturating_mul(2).min(limit).max(needed);
        out.reserve_exact(target - out.len());
    }
}

/// The last bytes that were decompressed, as many as the window is large. A ring that grows as it fills.
struct History {
    window: usize,
    bytes: Vec<u8>,
    /// Where the oldest byte is, once `bytes` is full.
    oldest: usize,
}

impl History {
    fn new(window: usize) -> Self {
        Self { window, bytes: Vec::new(), oldest: 0 }
    }

    fn push(&mut self, output: &[u8]) {
        let mut output = &output[output.len().saturating_sub(self.window)..];
        let vacant = self.window - self.bytes.len();
        if vacant > 0 {
            let (fill, rest) = output.split_at(output.len().min(vacant));
            reserve(&mut self.bytes, fill.len(), self.window);
            self.bytes.extend_from_slice(fill);
            output = rest;
        }
        while !output.is_empty() {
            let run = output.len().min(self.window - self.oldest);
            self.bytes[self.oldest..self.oldest + run].copy_from_slice(&output[..run]);
            self.oldest = (self.oldest + run) % self.window;
            output = &output[run..];
        }
    }

    /// Gives a fresh decoder the window.
    fn prime(&self, stream: &mut Decompress) -> Result<(), InflateError> {
        let (newer, older) = self.bytes.split_at(self.oldest);
        for part in [older, newer] {
            // Raw streams take a dictionary at any place, and several in a row add up.
            if !part.is_empty() && stream.set_dictionary(part).is_err() {
                return Err(InflateError::Corrupt);
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.bytes = Vec::new();
        self.oldest = 0;
    }
}

impl fmt::Debug for History {
    /// Without the bytes: they are messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
