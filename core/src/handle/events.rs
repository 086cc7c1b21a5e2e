//! Both ends of the events of a spawned session: the driver's, and the user's. The line between them is in `queue`.

use super::Shared;
use super::client::Alive;
use super::queue::{BYTES, Loose, Queue, Room};
use crate::session::{OwnedEvent, SubscriptionId};
use futures_core::Stream;
use futures_core::stream::FusedStream;
use std::fmt;
use std::future::poll_fn;
use std::iter::FusedIterator;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// So many events in a row are told before other tasks on the same thread have their turn, however fast more come.
const TURN: u32 = 128;

/// The events of a session that a driver keeps in the background. They wait here for their user, at most
/// [`Config::event_buffer`](crate::Config::event_buffer) of them; what happens then is up to [`Overflow`](crate::Overflow), for each subscription.
///
/// A [`Stream`](futures_core::Stream), and an iterator for a thread that may block. It knows no runtime and may be moved between tasks and threads: no event is lost by that, nor by dropping what [`next`](Self::next) returns.
/// Dropping it throws away what waits and what is still to come; the session goes on while there is a [`Client`](crate::Client).
pub struct Events {
    channel: Arc<Channel>,
    /// Events told since the last pause.
    streak: u32,
    // Dropped after the channel is told that nobody reads.
    _alive: Arc<Alive>,
}

impl Events {
    /// The next event; `None` once the session is closed, and from then on. Cancel-safe.
    pub async fn next(&mut self) -> Option<OwnedEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) for a hand-written future or stream. Now and then it is pending though events wait, and wakes its task at once, so that
    /// other tasks have their turn.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<OwnedEvent>> {
        if self.streak == TURN {
            self.streak = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut state = self.channel.lock();
        let event = state.queue.pop();
        if event.is_none() {
            self.streak = 0;
            if state.over {
                return Poll::Ready(None);
            }
            state.caught_up();
            let unused = match &state.reader {
                Some(known) if known.will_wake(cx.waker()) => None,
                _ => state.reader.replace(cx.waker().clone()),
            };
            drop(state);
            // It is the runtime's code.
            drop(unused);
            return Poll::Pending;
        }
        self.streak += 1;
        self.channel.wake_driver(state);
        Poll::Ready(event)
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<OwnedEvent> {
        let mut state = self.channel.lock();
        let Some(event) = state.queue.pop() else {
            state.caught_up();
            return None;
        };
        self.channel.wake_driver(state);
        Some(event)
    }

    /// The next event, for a thread that may block: it sleeps until there is one, for `timeout` at most, or forever; `Ok(None)` once the session
    /// is closed. Not for the thread that an asynchronous driver runs on: nothing would come.
    ///
    /// # Errors
    /// [`TimedOut`].
    pub fn next_blocking(&mut self, timeout: Option<Duration>) -> Result<Option<OwnedEvent>, TimedOut> {
        let mut state = self.channel.lock();
        if state.queue.is_empty() {
            state.caught_up();
        }
        state.parked = true;
        let idle = |state: &mut State| state.queue.is_empty() && !state.over;
        let came = &self.channel.came;
        state = match timeout {
            None => came.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                came.wait_timeout_while(state, timeout, idle).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.parked = false;
        match state.queue.pop() {
            Some(event) => {
                self.channel.wake_driver(state);
                Ok(Some(event))
            }
            None if state.over => Ok(None),
            None => Err(TimedOut),
        }
    }

    /// The events as an iterator that blocks and ends with the session: [`next_blocking`](Self::next_blocking) without a timeout.
    pub fn blocking(&mut self) -> Blocking<'_> {
        Blocking(self)
    }

    /// How many messages were lost because they were not taken in time. Each of them was told by an `OwnedEvent::Overflowed`, or will be.
    pub fn dropped(&self) -> u64 {
        self.channel.lock().queue.dropped()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.channel.unread.store(true, Ordering::Relaxed);
        let mut state = self.channel.lock();
        state.queue.clear();
        let reader = state.reader.take();
        self.channel.wake_driver(state);
        // It is the runtime's code.
        drop(reader);
    }
}

impl Stream for Events {
    type Item = OwnedEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<OwnedEvent>> {
        self.get_mut().poll_next(cx)
    }
}

/// Terminated once the last event is taken: then it says `None` for ever.
impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        let state = self.channel.lock();
        state.over && state.queue.is_empty()
    }
}

/// Blocks the thread, as [`Events::blocking`] does: in a script, `for event in events`. In a task, use [`Events::next`].
impl IntoIterator for Events {
    type Item = OwnedEvent;
    type IntoIter = IntoBlocking;

    fn into_iter(self) -> IntoBlocking {
        IntoBlocking(self)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

/// What [`Events::blocking`] returns.
#[derive(Debug)]
pub struct Blocking<'a>(&'a mut Events);

impl Iterator for Blocking<'_> {
    type Item = OwnedEvent;

    fn next(&mut self) -> Option<OwnedEvent> {
        // Without a timeout there is no error.
        self.0.next_blocking(None).ok().flatten()
    }
}

impl FusedIterator for Blocking<'_> {}

/// [`Events`] as an iterator that blocks.
#[derive(Debug)]
pub struct IntoBlocking(Events);

impl Iterator for IntoBlocking {
    type Item = OwnedEvent;

    fn next(&mut self) -> Option<OwnedEvent> {
        self.0.blocking().next()
    }
}

impl FusedIterator for IntoBlocking {}

/// What was waited for did not come in time. It may come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it did not come in time: wait longer, or ask Client::status what the session is doing")
    }
}

impl std::error::Error for TimedOut {}

/// What became of an event that was [offered](EventSender::offer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It is in the line. Or nobody reads, and it is thrown away.
    Taken,
    /// There is no room for it, and it must not be lost.
    Full,
    /// Something would be lost for it, and the user has not had the time to prevent that: offer it again when the task is woken, or about a
    /// millisecond later.
    Loses,
}

/// The driver's end. When it is dropped, the events end.
pub struct EventSender {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
    /// What the user had taken when he last was given time before something is lost.
    waited_at: Option<u64>,
}

impl EventSender {
    /// Whether nobody reads any more: what is offered is thrown away.
    pub fn is_closed(&self) -> bool {
        self.channel.unread.load(Ordering::Relaxed)
    }

    /// Puts an event in the line, if that can be now. If it cannot the task is woken when it is worth to offer it again; the driver keeps the
    /// connection going meanwhile, and takes no other event.
    ///
    /// One read may bring more than the line holds, and a user who is not slow may only have had no turn since then. So before something is lost he
    /// is waited for, until he has taken half of what waits or the driver says that his time is `over`: about a millisecond, in which other tasks can
    /// run. That is done once, and again when he has caught up, or has taken as much as one turn of his comes to. A user who is slow gets no more time
    /// than that, so that what he is told stays current.
    pub fn offer(&mut self, cx: &Context<'_>, event: &mut Option<OwnedEvent>, over: bool) -> Offered {
        let Some(kind) = event.as_ref().map(|event| self.kind(event)) else { return Offered::Taken };
        let mut state = self.channel.lock();
        let room = if self.is_closed() { Room::Free } else { state.queue.room(kind) };
        // He is in the middle of taking what waits.
        let waits = matches!(state.driver, Some((_, Wish::Ease(_)))) && !state.queue.eases(kind);
        let (offered, wish) = match room {
            Room::Full => (Offered::Full, Wish::Room(kind)),
            _ if !over && !self.is_closed() && waits => (Offered::Loses, Wish::Ease(kind)),
            Room::Loses if !over && state.is_to_wait(&mut self.waited_at) => {
                (Offered::Loses, Wish::Ease(kind))
            }
            Room::Free | Room::Loses => {
                let unused = state.driver.take();
                drop(state);
                drop(unused);
                if let Some(event) = event.take() {
                    self.push(event, kind);
                }
                return Offered::Taken;
            }
        };
        let unused = state.driver.replace((cx.waker().clone(), wish));
        drop(state);
        // It is the runtime's code.
        drop(unused);
        offered
    }

    /// Whose message it is, if messages of that may be lost.
    fn kind(&self, event: &OwnedEvent) -> Loose {
        let &OwnedEvent::Message { subscription: Some(id), .. } = event else { return None };
        Some((id, self.shared.lock().session.overflow(id)))
    }

    fn push(&self, event: OwnedEvent, kind: Loose) {
        let mut state = self.channel.lock();
        if self.is_closed() {
            return;
        }
        let ends = state.queue.push(event, kind);
        self.channel.wake_reader(state);
        if let Some((id, _)) = kind.filter(|_| ends) {
            self.end(id);
        }
    }

    fn end(&self, id: SubscriptionId) {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        inner.session.end_subscription(id, now);
        inner.acted();
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        state.over = true;
        self.channel.wake_reader(state);
    }
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSender").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// Two ends of one line.
pub(super) fn channel(shared: Arc<Shared>, alive: Arc<Alive>) -> (Events, EventSender) {
    let state = State {
        queue: Queue::new(shared.lock().session.event_buffer(), BYTES),
        reader: None,
        parked: false,
        driver: None,
        over: false,
        taken: 0,
    };
    let channel =
        Arc::new(Channel { state: Mutex::new(state), came: Condvar::new(), unread: AtomicBool::new(false) });
    let events = Events { channel: channel.clone(), streak: 0, _alive: alive };
    (events, EventSender { shared, channel, waited_at: None })
}

struct Channel {
    state: Mutex<State>,
    /// For a reader that blocks its thread.
    came: Condvar,
    /// `Events` are dropped.
    unread: AtomicBool,
}

struct State {
    queue: Queue,
    /// The user's task, while it waits.
    reader: Option<Waker>,
    /// Or his thread waits.
    parked: bool,
    /// The driver's task, while it waits, and what for.
    driver: Option<(Waker, Wish)>,
    /// No more will come.
    over: bool,
    /// Events that were taken; having caught up counts as a turn.
    taken: u64,
}

/// What a driver waits for.
#[derive(Debug, Clone, Copy)]
enum Wish {
    /// Room for an event of this kind.
    Room(Loose),
    /// That there is so much room that nothing need be lost for a while.
    Ease(Loose),
}

impl State {
    /// What a user takes in a row who has his turn.
    fn turn(&self) -> u64 {
        u64::from(TURN).max(self.queue.half() as u64)
    }

    /// The user asked for more than there was.
    fn caught_up(&mut self) {
        self.taken = self.taken.wrapping_add(self.turn());
    }

    /// Whether the user is to be waited for before something is lost: not again before he has used his time.
    fn is_to_wait(&self, waited_at: &mut Option<u64>) -> bool {
        let waits = waited_at.is_none_or(|at| self.taken.wrapping_sub(at) >= self.turn());
        if waits {
            *waited_at = Some(self.taken);
        }
        waits
    }
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the driver that something was taken. Wakers are the runtime's code: they run without the lock.
    fn wake_driver(&self, mut state: MutexGuard<'_, State>) {
        state.taken = state.taken.wrapping_add(1);
        let State { queue, driver, .. } = &mut *state;
        let driver = driver.take_if(|(_, wish)| match *wish {
            Wish::Room(kind) => queue.room(kind) != Room::Full,
            Wish::Ease(kind) => queue.eases(kind),
        });
        drop(state);
        if let Some((driver, _)) = driver {
            driver.wake();
        }
    }

    /// Tells whoever reads that there is something to read, or the end.
    fn wake_reader(&self, mut state: MutexGuard<'_, State>) {
        let (reader, parked) = (state.reader.take(), state.parked);
        drop(state);
        if parked {
            self.came.notify_one();
        }
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests;
