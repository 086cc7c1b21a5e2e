//! Streams without a socket behind them, for engines that insist on a stream.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::engine::Out;
use crate::input::Input;

/// The reading end: an input's reads, one per call, always ready until the last one is used up.
///
/// A caller with less room than the read needs gets the rest on its next calls. What is written here
/// vanishes.
#[derive(Clone, Debug)]
pub struct Reads(Rc<Position>);

#[derive(Debug)]
struct Position {
    input: Rc<Input>,
    read: Cell<usize>,
    offset: Cell<usize>,
}

impl Reads {
    /// At the first read of `input`. Clones share one position.
    #[must_use]
    pub fn new(input: &Rc<Input>) -> Self {
        Self(Rc::new(Position { input: Rc::clone(input), read: Cell::new(0), offset: Cell::new(0) }))
    }

    /// Back to the first read.
    pub fn rewind(&self) {
        self.0.read.set(0);
        self.0.offset.set(0);
    }

    /// Up to `room` bytes, never from two reads; `None` after the last.
    #[inline]
    fn next_bytes(&self, room: usize) -> Option<&[u8]> {
        let (read, offset) = (self.0.read.get(), self.0.offset.get());
        let rest = &self.0.input.read(read)?[offset..];
        if room < rest.len() {
            self.0.offset.set(offset + room);
            Some(&rest[..room])
        } else {
            self.0.read.set(read + 1);
            self.0.offset.set(0);
            Some(rest)
        }
    }
}

impl Read for Reads {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next_bytes(buf.len()).ok_or(io::ErrorKind::WouldBlock)?;
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl AsyncRead for Reads {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(bytes) = self.next_bytes(buf.remaining()) else {
            return Poll::Pending;
        };
        buf.put_slice(bytes);
        Poll::Ready(Ok(()))
    }
}

impl Write for Reads {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncWrite for Reads {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The writing end: an [`Out`] that takes all it is given at once. Nothing ever arrives here.
#[derive(Clone, Debug)]
pub struct Writes(pub Out);

impl Read for Writes {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl AsyncRead for Writes {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl Write for Writes {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.accept(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncWrite for Writes {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.accept(buf);
        Poll::Ready(Ok(buf.len()))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut total = 0;
        for buf in bufs {
            self.0.accept(buf);
            total += buf.len();
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls `future` a single time and drops it; `None` if it was not ready. That is all the runtime these
/// streams need.
#[inline]
pub fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Chunking, Kind};

    #[test]
    fn a_call_never_joins_two_reads_and_never_loses_a_byte() {
        let input = Rc::new(Input::new(Kind::Binary, 100, Chunking::PerMessage));
        let mut reads = Reads::new(&input);
        let mut buf = [0; 64];
        for expected in input.reads() {
            assert_eq!(reads.read(&mut buf).unwrap(), 64);
            assert_eq!(buf, expected[..64]);
            assert_eq!(reads.read(&mut buf).unwrap(), 38);
            assert_eq!(buf[..38], expected[64..]);
        }
        assert_eq!(reads.read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        reads.rewind();
        assert_eq!(reads.read(&mut buf).unwrap(), 64);
    }
}
