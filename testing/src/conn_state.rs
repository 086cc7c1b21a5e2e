//! What a connection's handle and its task on the server thread share.
//!
//! The handle queues commands; the task executes them in order, and counts those executed and those whose bytes have
//! been written, which is what the handle's blocking calls wait for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use tungstenite::Message;
use tungstenite::handshake::server::Request;
use tungstenite::protocol::CloseFrame;

use crate::ConnectionEnd;
use crate::fault_stream::FaultState;
use crate::frame::RawFrame;
use crate::signal::Signal;
use crate::transcript::FrameLog;

/// The newest messages that a connection's log keeps.
pub(crate) const LOG_MESSAGES: usize = 16_384;
/// The payload bytes that a connection's log, and a raw connection's record, keep.
pub(crate) const LOG_BYTES: usize = 64 << 20;
/// Bytes that may wait to be written on one connection.
pub(crate) const BACKLOG_BYTES: usize = 64 << 20;

/// Numbers connections over all servers of the process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub(crate) enum Command {
    Send(Message),
    Raw(Vec<u8>),
    Frames(Vec<RawFrame>),
    Close(Option<CloseFrame>),
    HangUp,
    Kill,
    KillAfter(u64),
    Stall,
}

impl Command {
    /// What it takes of the backlog. Not only its payload: empty messages need memory too.
    fn weight(&self) -> usize {
        let payload = match self {
            Self::Send(message) => message.len(),
            Self::Raw(bytes) => bytes.len(),
            Self::Frames(frames) => {
                frames.iter().map(|frame| frame.payload.len() + size_of::<RawFrame>()).sum()
            }
            _ => 0,
        };
        payload.saturating_add(size_of::<Self>())
    }

    fn is_payload(&self) -> bool {
        matches!(self, Self::Send(_) | Self::Raw(_) | Self::Frames(_))
    }
}

/// How far the connection's output has got.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// There is room for more in the output buffer.
    pub(crate) room: bool,
    /// All output is with the operating system.
    pub(crate) flushed: bool,
}

#[derive(Debug)]
pub(crate) struct ConnState {
    pub(crate) id: u64,
    pub(crate) index: usize,
    pub(crate) peer: SocketAddr,
    pub(crate) request: Arc<Request>,
    pub(crate) fault: Arc<FaultState>,
    pub(crate) log: Arc<FrameLog>,
    /// Raised when something comes on any connection of the server.
    signal: Arc<Signal>,
    pub(crate) runtime: tokio::runtime::Handle,
    server_thread: ThreadId,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Command>,
    backlog: usize,
    discarded: u64,
    /// Commands queued, executed, and executed with all their bytes written, so far.
    pushed: u64,
    executed: u64,
    flushed: u64,
    kill_wanted: bool,
    /// Stalls up to this command number have been lifted, even if they are still queued.
    lifted: u64,
    log: VecDeque<Message>,
    log_bytes: usize,
    /// Number of the oldest message in the log.
    log_start: u64,
    /// Number of the first message that no wait has taken.
    cursor: u64,
    raw: Vec<u8>,
    /// Fences set up and answered, so far.
    fences: u64,
    fences_answered: u64,
    end: Option<ConnectionEnd>,
    task: Option<Waker>,
}

impl ConnState {
    /// To be called on the server thread, inside its runtime.
    pub(crate) fn new(
        index: usize,
        peer: SocketAddr,
        request: Arc<Request>,
        fault: Arc<FaultState>,
        log: Arc<FrameLog>,
        signal: Arc<Signal>,
    ) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            index,
            peer,
            request,
            fault,
            log,
            signal,
            runtime: tokio::runtime::Handle::current(),
            server_thread: thread::current().id(),
            inner: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    // The handle's side.

    pub(crate) fn on_server_thread(&self) -> bool {
        thread::current().id() == self.server_thread
    }

    /// Queues a command and returns its number.
    pub(crate) fn push(&self, command: Command) -> u64 {
        let mut inner = self.lock();
        let full = command.is_payload() && inner.backlog.saturating_add(command.weight()) > BACKLOG_BYTES;
        if inner.end.is_some() || full {
            inner.discarded += u64::from(command.is_payload());
            return inner.pushed;
        }
        inner.kill_wanted |= matches!(command, Command::Kill);
        inner.backlog += command.weight();
        inner.queue.push_back(command);
        inner.pushed += 1;
        let (number, task) = (inner.pushed, inner.task.take());
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
        number
    }

    /// Waits until the command has been executed; not on the server thread, where it is executed next anyway.
    pub(crate) fn wait_executed(&self, number: u64, timeout: Duration) {
        if !self.on_server_thread() {
            self.wait(timeout, |inner| (inner.executed >= number || inner.end.is_some()).then_some(()));
        }
    }

    /// Waits until all commands up to now have been executed and their bytes written: `None` when the time is up.
    pub(crate) fn wait_flushed(&self, timeout: Duration) -> Option<Result<(), ConnectionEnd>> {
        let number = self.lock().pushed;
        self.wait(timeout, |inner| match &inner.end {
            Some(end) if inner.flushed < number || inner.discarded > 0 => Some(Err(end.clone())),
            _ => (inner.flushed >= number).then_some(Ok(())),
        })
    }

    pub(crate) fn wait_end(&self, timeout: Duration) -> Option<ConnectionEnd> {
        self.wait(timeout, |inner| inner.end.clone())
    }

    /// Waits for `len` raw bytes and takes them.
    pub(crate) fn wait_raw(&self, len: usize, timeout: Duration) -> Option<Result<Vec<u8>, ConnectionEnd>> {
        self.wait(timeout, |inner| {
            if inner.raw.len() >= len {
                Some(Ok(inner.raw.drain(..len).collect()))
            } else {
                inner.end.clone().map(Err)
            }
        })
    }

    /// Waits for message number `at` or the first kept one after it, with its number. `None` when the time is up.
    pub(crate) fn wait_message(
        &self,
        at: u64,
        deadline: Option<Instant>,
    ) -> Option<Result<(u64, Message), ConnectionEnd>> {
        self.wait_deadline(deadline, |inner| {
            let at = at.max(inner.log_start);
            let position = usize::try_from(at - inner.log_start).unwrap_or(usize::MAX);
            match inner.log.get(position) {
                Some(message) => Some(Ok((at, message.clone()))),
                None => inner.end.clone().map(Err),
            }
        })
    }

    /// Sends a ping and waits for its pong, which no log of messages has: what the client had sent when it answered has
    /// come by then.
    pub(crate) fn fence(&self, deadline: Option<Instant>) -> Option<Result<(), ConnectionEnd>> {
        let number = {
            let mut inner = self.lock();
            inner.fences += 1;
            inner.fences
        };
        self.push(Command::Send(Message::Ping(fence_payload(number).into())));
        self.wait_deadline(deadline, |inner| {
            if inner.fences_answered >= number {
                return Some(Ok(()));
            }
            inner.end.clone().map(Err)
        })
    }

    /// Takes message number `at` and all before it. `false` if another wait was first.
    pub(crate) fn take(&self, at: u64) -> bool {
        let mut inner = self.lock();
        let free = inner.cursor <= at;
        if free {
            inner.cursor = at + 1;
        }
        free
    }

    /// The number of the first message that no wait has taken.
    pub(crate) fn cursor(&self) -> u64 {
        let inner = self.lock();
        inner.cursor.max(inner.log_start)
    }

    /// The messages from number `from`, with the number of the first of them.
    pub(crate) fn log_from(&self, from: u64) -> (u64, Vec<Message>) {
        let inner = self.lock();
        let skip = usize::try_from(from.saturating_sub(inner.log_start)).unwrap_or(usize::MAX);
        (from.max(inner.log_start), inner.log.iter().skip(skip).cloned().collect())
    }

    pub(crate) fn received_total(&self) -> u64 {
        let inner = self.lock();
        inner.log_start + inner.log.len() as u64
    }

    pub(crate) fn raw(&self) -> Vec<u8> {
        self.lock().raw.clone()
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.lock().discarded
    }

    pub(crate) fn end(&self) -> Option<ConnectionEnd> {
        self.lock().end.clone()
    }

    /// Lifts all stalls called for until now.
    pub(crate) fn lift_stall(&self) {
        let mut inner = self.lock();
        inner.lifted = inner.pushed;
        self.fault.set_stalled(false);
        let task = inner.task.take();
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
    }

    // The task's side.

    pub(crate) fn register(&self, task: &Waker) {
        self.lock().task = Some(task.clone());
    }

    pub(crate) fn kill_wanted(&self) -> bool {
        self.lock().kill_wanted
    }

    /// The next command, if the output has got far enough for it. To be followed by `executed`.
    pub(crate) fn next_command(&self, output: Output) -> Option<Command> {
        let mut inner = self.lock();
        let ready = match inner.queue.front()? {
            Command::Send(_) | Command::Raw(_) | Command::Frames(_) | Command::Close(_) => output.room,
            Command::HangUp | Command::KillAfter(_) => output.flushed,
            // What could be written without waiting has been written.
            Command::Kill | Command::Stall => true,
        };
        if !ready {
            return None;
        }
        let command = inner.queue.pop_front()?;
        inner.backlog = inner.backlog.saturating_sub(command.weight());
        Some(command)
    }

    pub(crate) fn executed(&self) {
        self.lock().executed += 1;
        self.changed.notify_all();
    }

    pub(crate) fn flushed(&self) {
        let mut inner = self.lock();
        if inner.flushed != inner.executed {
            inner.flushed = inner.executed;
            drop(inner);
            self.changed.notify_all();
        }
    }

    /// Executes a stall, unless it was lifted while it was queued.
    pub(crate) fn stall(&self) {
        let inner = self.lock();
        if inner.executed + 1 > inner.lifted {
            self.fault.set_stalled(true);
        }
    }

    pub(crate) fn count_discarded(&self) {
        self.lock().discarded += 1;
    }

    pub(crate) fn push_received(&self, message: Message) {
        let mut inner = self.lock();
        if let Some(fence) = fence_of(&message).filter(|fence| *fence <= inner.fences) {
            // A client may answer the newest of several pings alone (RFC 6455 section 5.5.3).
            inner.fences_answered = inner.fences_answered.max(fence);
            drop(inner);
            self.changed.notify_all();
            return;
        }
        inner.log_bytes += message.len();
        inner.log.push_back(message);
        while inner.log.len() > LOG_MESSAGES || (inner.log_bytes > LOG_BYTES && inner.log.len() > 1) {
            let dropped = inner.log.pop_front().map_or(0, |message| message.len());
            inner.log_bytes -= dropped;
            inner.log_start += 1;
        }
        drop(inner);
        self.changed.notify_all();
        self.signal.raise();
    }

    pub(crate) fn push_raw(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        let room = LOG_BYTES.saturating_sub(inner.raw.len()).min(bytes.len());
        inner.raw.extend_from_slice(&bytes[..room]);
        drop(inner);
        self.changed.notify_all();
    }

    /// Notes how the connection ended; `false` if that was known already.
    pub(crate) fn set_end(&self, end: ConnectionEnd) -> bool {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return false;
        }
        self.log.end(&end);
        inner.end = Some(end);
        inner.discarded += inner.queue.iter().filter(|command| command.is_payload()).count() as u64;
        inner.queue.clear();
        inner.backlog = 0;
        inner.task = None;
        drop(inner);
        self.changed.notify_all();
        self.signal.raise();
        true
    }

    fn wait<T>(&self, timeout: Duration, ready: impl FnMut(&mut Inner) -> Option<T>) -> Option<T> {
        self.wait_deadline(Instant::now().checked_add(timeout), ready)
    }

    fn wait_deadline<T>(
        &self,
        deadline: Option<Instant>,
        ready: impl FnMut(&mut Inner) -> Option<T>,
    ) -> Option<T> {
        wait_until(&self.inner, &self.changed, deadline, ready)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks until `ready` gives something or the deadline has passed; `None` as a deadline is never.
pub(crate) fn wait_until<S, T>(
    state: &Mutex<S>,
    changed: &Condvar,
    deadline: Option<Instant>,
    mut ready: impl FnMut(&mut S) -> Option<T>,
) -> Option<T> {
    let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(value) = ready(&mut guard) {
            return Some(value);
        }
        guard = match deadline {
            None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}

/// What the pings of a fence carry.
const FENCE: &str = "everwire-testing fence ";

fn fence_payload(number: u64) -> Vec<u8> {
    format!("{FENCE}{number}").into_bytes()
}

/// Which fence this message answers.
fn fence_of(message: &Message) -> Option<u64> {
    let Message::Pong(payload) = message else { return None };
    std::str::from_utf8(payload).ok()?.strip_prefix(FENCE)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> ConnState {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let request = Arc::new(Request::new(()));
        let log = Arc::new(FrameLog::new(Instant::now()));
        ConnState::new(0, SocketAddr::from(([127, 0, 0, 1], 1)), request, Arc::default(), log, Arc::default())
    }

    #[test]
    fn the_log_is_bounded_in_bytes_but_keeps_the_newest() {
        let state = state();
        let megabyte = Message::binary(vec![0; 1 << 20]);
        for _ in 0..70 {
            state.push_received(megabyte.clone());
        }
        assert_eq!(state.log_from(0), (6, vec![megabyte; 64]));
        let huge = Message::binary(vec![0; LOG_BYTES + 1]);
        state.push_received(huge.clone());
        assert_eq!(state.log_from(0), (70, vec![huge]));
        assert_eq!((state.received_total(), state.cursor()), (71, 70));
    }

    #[test]
    fn raw_bytes_are_bounded() {
        let state = state();
        for _ in 0..65 {
            state.push_raw(&vec![1; 1 << 20]);
        }
        assert_eq!(state.raw().len(), LOG_BYTES);
    }

    #[test]
    fn empty_messages_fill_the_backlog_too() {
        let state = state();
        let most = BACKLOG_BYTES / size_of::<Command>();
        for _ in 0..most + 3 {
            state.push(Command::Send(Message::text("")));
        }
        assert_eq!(state.discarded(), 3);
        assert_eq!(state.push(Command::Kill), most as u64 + 1, "payload only: a kill is always taken");
    }

    #[test]
    fn a_message_is_taken_once() {
        let state = state();
        state.push_received(Message::text("a"));
        assert!(state.take(0));
        assert!(!state.take(0));
        assert_eq!(state.cursor(), 1);
    }
}
