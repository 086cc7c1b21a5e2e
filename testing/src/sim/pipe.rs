//! One direction of a connection, and how chance decides.

use super::Ended;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// A generator of its own for each connection and each question, so that what one does is no matter to the others.
pub(super) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

pub(super) fn chance(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    f64::from(rng.next_u32()) < probability * 4_294_967_296.0
}

/// A number of the range, or its start if it is empty.
pub(super) fn uniform(rng: &mut ChaCha8Rng, range: Range<u64>) -> u64 {
    let span = range.end.saturating_sub(range.start);
    range.start + ((u128::from(rng.next_u64()) * u128::from(span)) >> 64) as u64
}

pub(super) fn duration(rng: &mut ChaCha8Rng, range: &Range<Duration>) -> Duration {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(uniform(rng, nanos(range.start)..nanos(range.end)))
}

pub(super) fn length(rng: &mut ChaCha8Rng, range: &Range<usize>) -> usize {
    (uniform(rng, range.start as u64..range.end as u64) as usize).max(1)
}

/// Bytes in a row: added at the end, taken at the front.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    data: Vec<u8>,
    start: usize,
}

impl Bytes {
    pub(super) fn len(&self) -> usize {
        self.data.len() - self.start
    }

    pub(super) fn front(&self, len: usize) -> &[u8] {
        &self.data[self.start..][..len]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Each byte is moved at most as often as others were taken before it.
        if self.start >= self.data.len() / 2 {
            self.data.drain(..self.start);
            self.start = 0;
        }
        self.data.extend_from_slice(bytes);
    }

    pub(super) fn take(&mut self, len: usize) {
        self.start += len;
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.data) = (0, Vec::new());
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) latency: Duration,
    pub(super) bytes: Bytes,
    /// When pieces of it arrive, oldest first; what is ahead of them has arrived.
    pub(super) pieces: VecDeque<(Duration, usize)>,
    /// Bytes that have arrived.
    pub(super) ready: usize,
    /// Bytes that vanished, which the writer waits for.
    pub(super) vanished: usize,
    /// When the last one arrives: what follows is never earlier.
    pub(super) last: Duration,
    pub(super) end: Option<(Duration, Ended)>,
    /// The end has arrived, behind all bytes.
    pub(super) ended: Option<Ended>,
    /// Nothing more is taken in.
    pub(super) shut: bool,
}

impl Pipe {
    pub(super) fn room(&self, window: usize) -> usize {
        window.saturating_sub(self.bytes.len() + self.vanished)
    }

    /// Brings up to date what has arrived.
    pub(super) fn refresh(&mut self, now: Duration) {
        while let Some((at, len)) = self.pieces.front()
            && *at <= now
        {
            self.ready += len;
            self.pieces.pop_front();
        }
        if self.pieces.is_empty()
            && let Some((_, how)) = self.end.take_if(|(at, _)| *at <= now)
        {
            self.ended = Some(how);
        }
    }

    /// When the next piece or the end arrives that `refresh` has not seen.
    pub(super) fn next(&self) -> Option<Duration> {
        self.pieces.front().map(|(at, _)| *at).or_else(|| self.end.map(|(at, _)| at))
    }

    pub(super) fn push(&mut self, bytes: &[u8], at: Duration) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.push(bytes);
        match self.pieces.back_mut() {
            Some((last, len)) if *last == at => *len += bytes.len(),
            _ => self.pieces.push_back((at, bytes.len())),
        }
    }

    pub(super) fn take(&mut self, len: usize) {
        self.bytes.take(len);
        self.ready -= len;
    }

    pub(super) fn shut(&mut self, end: Option<(Duration, Ended)>) {
        self.shut = true;
        self.end = self.end.or(end);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
        self.ready = 0;
        (self.end, self.shut) = (None, true);
    }
}
