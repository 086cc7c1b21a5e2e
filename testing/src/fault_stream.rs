//! The lowest layer of a connection: a `TcpStream` that can be cut, stalled or slowed down from outside.
//!
//! It sits below TLS and below the WebSocket framing, so a cut falls wherever it falls: in the middle of a frame, of a
//! TLS record, of the handshake.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::throttle::{Allowance, Bucket, Throttle};

/// Bytes that a slowed down read takes at most.
const SLOW_READ: usize = 4 << 10;

/// What the test wants from the socket; shared by the handle and the stream.
#[derive(Debug, Default)]
pub(crate) struct FaultState {
    inner: Mutex<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    stalled: bool,
    /// Bytes that may still be written before the connection is cut.
    remaining: Option<u64>,
    cut: bool,
    reads: Lane,
    writes: Lane,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    bucket: Bucket,
    task: Option<Waker>,
}

impl FaultState {
    pub(crate) fn stalled(&self) -> bool {
        self.lock().stalled
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        let wakers = {
            let mut wanted = self.lock();
            wanted.stalled = stalled;
            wanted.tasks()
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    pub(crate) fn set_throttle(&self, throttle: Throttle) {
        let wakers = {
            let mut wanted = self.lock();
            wanted.reads.bucket.set_rate(throttle.reads);
            wanted.writes.bucket.set_rate(throttle.writes);
            wanted.tasks()
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    pub(crate) fn cut_after(&self, bytes: u64) {
        self.lock().remaining = Some(bytes);
    }

    pub(crate) fn was_cut(&self) -> bool {
        self.lock().cut
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    /// Whoever waits for a change.
    fn tasks(&mut self) -> [Option<Waker>; 2] {
        [self.reads.task.take(), self.writes.task.take()]
    }

    /// What may go now; `Never` during a stall. The task is woken by a change, unless all may go.
    fn allowance(&mut self, lane: fn(&mut Self) -> &mut Lane, cx: &Context<'_>) -> Allowance {
        let stalled = self.stalled;
        let lane = lane(self);
        let allowance = if stalled { Allowance::Never } else { lane.bucket.allowance(Instant::now()) };
        if allowance != Allowance::Unlimited {
            lane.task = Some(cx.waker().clone());
        }
        allowance
    }
}

/// A TCP connection under the control of a [`FaultState`].
#[derive(Debug)]
pub(crate) struct FaultStream {
    /// `None` once cut.
    tcp: Option<TcpStream>,
    state: Arc<FaultState>,
    /// When a slow direction may go on: of reads and of writes.
    timers: [Option<Pin<Box<Sleep>>>; 2],
}

impl FaultStream {
    pub(crate) fn new(tcp: TcpStream, state: Arc<FaultState>) -> Self {
        Self { tcp: Some(tcp), state, timers: [None, None] }
    }

    /// Ends the connection with a TCP RST (`SO_LINGER` of zero, then close).
    pub(crate) fn cut(&mut self) {
        self.state.lock().cut = true;
        if let Some(tcp) = self.tcp.take() {
            // Only fails on a socket that is already dead, where there is nothing left to reset.
            let _ = tcp.set_zero_linger();
        }
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.tcp.as_mut().map(Pin::new).ok_or_else(cut_error)
    }

    /// How many bytes may be read now.
    fn poll_reads(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        poll_lane(&self.state, |wanted| &mut wanted.reads, &mut self.timers[0], cx)
    }

    /// How many bytes may be written now.
    fn poll_writes(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        poll_lane(&self.state, |wanted| &mut wanted.writes, &mut self.timers[1], cx)
    }
}

fn poll_lane(
    state: &FaultState,
    lane: fn(&mut Wanted) -> &mut Lane,
    timer: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<usize> {
    loop {
        // Its own statement: the lock is not held while the timer is set.
        let allowance = state.lock().allowance(lane, cx);
        match allowance {
            Allowance::Unlimited => return Poll::Ready(usize::MAX),
            Allowance::Bytes(bytes) => return Poll::Ready(bytes),
            Allowance::Never => return Poll::Pending,
            Allowance::From(then) => {
                let sleep = timer.insert(Box::pin(sleep_until(then)));
                ready!(sleep.as_mut().poll(cx));
            }
        }
    }
}

impl AsyncRead for FaultStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let allowed = ready!(self.poll_reads(cx));
        if allowed >= buf.remaining() {
            let before = buf.filled().len();
            ready!(self.tcp()?.poll_read(cx, buf))?;
            self.state.lock().reads.bucket.spend(buf.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        let mut piece = [0; SLOW_READ];
        let mut piece = ReadBuf::new(&mut piece[..allowed.min(SLOW_READ)]);
        ready!(self.tcp()?.poll_read(cx, &mut piece))?;
        buf.put_slice(piece.filled());
        self.state.lock().reads.bucket.spend(piece.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FaultStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let paced = ready!(self.poll_writes(cx));
        let remaining = self.state.lock().remaining;
        let until_cut = remaining.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let allowed = until_cut.min(paced).min(buf.len());
        let written = if allowed == 0 && !buf.is_empty() {
            0
        } else {
            ready!(self.tcp()?.poll_write(cx, &buf[..allowed]))?
        };
        let mut wanted = self.state.lock();
        wanted.writes.bucket.spend(written);
        // `kill_after` may not be called between the two locks: it comes from the task that writes.
        if let Some(remaining) = remaining {
            let remaining = remaining - written as u64;
            wanted.remaining = Some(remaining);
            drop(wanted);
            if remaining == 0 {
                self.cut();
                return Poll::Ready(Err(cut_error()));
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut wanted = self.state.lock();
            if wanted.stalled {
                wanted.writes.task = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.tcp()?.poll_shutdown(cx)
    }
}

fn cut_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the test cut this connection")
}
