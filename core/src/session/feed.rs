//! What a record has of a connection's bytes, in the place of a socket and of what lies between.

use super::link::Link;
use crate::error::{Disconnect, Error};
use crate::record::Left;
use crate::ws::receiver::Receiver;
use std::collections::VecDeque;
use std::time::Instant;

/// The bytes of a WebSocket that are still to be read, and what comes behind them.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    bytes: Vec<u8>,
    /// So many of them were read.
    at: usize,
    /// Behind them, one after the other.
    faults: VecDeque<Error>,
    /// What is found when time is over.
    late: Option<Error>,
    /// TLS or a proxy lay between, and had something for the socket.
    between: bool,
    busy: bool,
}

impl Feed {
    /// These bytes came of a read, and then this.
    pub(crate) fn put(&mut self, bytes: &[u8], faults: Vec<Error>, late: Option<Error>) {
        self.bytes.drain(..std::mem::take(&mut self.at));
        self.bytes.extend_from_slice(bytes);
        self.faults.extend(faults);
        self.late = self.late.take().or(late);
    }

    /// The same as a socket and what lies between would have it.
    pub(crate) fn read(&mut self, receiver: &mut Receiver, deaf: bool) -> Result<bool, Error> {
        let mut any = false;
        while self.at < self.bytes.len() {
            let room = receiver.recv_buffer();
            let len = room.len().min(self.bytes.len() - self.at);
            if len == 0 {
                break;
            }
            room[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
            self.at += len;
            receiver.received(len);
            any = true;
            if deaf {
                receiver.discard();
            }
        }
        if any || self.at < self.bytes.len() {
            return Ok(any);
        }
        if self.has_ended() {
            return Ok(false);
        }
        self.faults.pop_front().map_or(Ok(false), Err)
    }

    /// Whether TLS said that nothing more comes.
    pub(crate) fn has_ended(&self) -> bool {
        self.faults.front().is_some_and(is_end)
    }

    pub(crate) fn overdue(&mut self) -> Option<Error> {
        self.late.take()
    }

    /// Whether the socket has all that there is for it, if nothing `plain` waits.
    pub(crate) fn is_idle(&self, plain: bool) -> bool {
        if self.between { !self.busy } else { plain }
    }

    /// A write, or what lay `between` took something.
    pub(crate) fn wrote(&mut self, idle: bool, between: bool) {
        self.between |= between;
        self.busy = !idle;
    }
}

impl Link {
    /// Whether the socket would have all that there is for it.
    #[cold]
    pub(super) fn is_idle_in_replay(&self) -> bool {
        let plain = self.plaintext().is_empty();
        self.gone.is_some() || self.feed.as_ref().is_none_or(|feed| feed.is_idle(plain))
    }

    /// In a replay, what came of the bytes of a read.
    pub(crate) fn feed(&mut self) -> Option<&mut Feed> {
        self.feed.as_deref_mut()
    }

    /// In a replay, a write: what is left must be what was left.
    pub(crate) fn replay_written(&mut self, len: usize, left: Left, now: Instant) {
        if self.gone.is_some() {
            return;
        }
        if let Some(feed) = &mut self.feed {
            feed.wrote(left.idle, len == 0);
        }
        // The request goes first, and what is left of it at the end of a write is no frame's.
        let mut taken = (self.left().plain).saturating_sub(left.plain);
        while taken > 0 {
            let part = taken.min(self.plaintext().len());
            if part == 0 {
                break;
            }
            self.plaintext_written(part);
            taken -= part;
        }
        if len > 0 {
            if self.is_idle() {
                self.stall.idle();
            } else {
                self.stall.progress(now);
            }
        }
    }
}

fn is_end(fault: &Error) -> bool {
    matches!(fault, Error::Disconnected(Disconnect::Eof))
}
