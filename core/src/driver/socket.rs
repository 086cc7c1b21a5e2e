//! One socket of a driver.

use super::{BoxFuture, Runtime};
use crate::error::Disconnect;
use crate::session::{ConnId, Session};
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

pub(super) enum Socket<R: Runtime> {
    Connecting(BoxFuture<io::Result<R::Stream>>),
    Open {
        stream: R::Stream,
        /// Something was written that may still be in the stream's own buffer.
        unflushed: bool,
        /// The error of a write: what has arrived is read before it is told.
        broken: Option<Disconnect>,
    },
}

impl<R: Runtime> Socket<R> {
    pub(super) fn open(stream: R::Stream) -> Self {
        Self::Open { stream, unflushed: false, broken: None }
    }

    /// True if anything moved; an error is the end of the connection.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
        session: &mut Session,
        now: Instant,
    ) -> Result<bool, Disconnect> {
        let mut moved = false;
        if let Self::Connecting(connecting) = self {
            let Poll::Ready(stream) = connecting.as_mut().poll(cx) else { return Ok(false) };
            *self = Self::open(stream?);
            session.handle_connected(id, now);
            moved = true;
        }
        let Self::Open { stream, unflushed, broken } = self else { return Ok(moved) };
        while broken.is_none() && !session.transmit(id).is_empty() {
            match R::poll_write(stream, cx, session.transmit(id)) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => *broken = Some(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(len)) => session.handle_transmitted(id, len, now),
                Poll::Ready(Err(error)) => *broken = Some(error.into()),
            }
            (moved, *unflushed) = (true, true);
        }
        if *unflushed
            && broken.is_none()
            && let Poll::Ready(flushed) = R::poll_flush(stream, cx)
        {
            *unflushed = false;
            *broken = flushed.err().map(Disconnect::from);
        }
        let room = session.recv_buffer(id);
        if !room.is_empty()
            && let Poll::Ready(read) = R::poll_read(stream, cx, room)
        {
            match read {
                Ok(0) => return Err(broken.take().unwrap_or(Disconnect::Eof)),
                Ok(len) => session.handle_received(id, len, now),
                Err(error) => return Err(broken.take().unwrap_or_else(|| error.into())),
            }
            moved = true;
        }
        Ok(moved)
    }
}
