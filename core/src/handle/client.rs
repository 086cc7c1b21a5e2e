//! The user's handle.

use super::wait::{self, Until};
use super::{EventSender, Events, Inner, Shared, TimedOut};
use crate::message::Message;
use crate::protocol::{OwnedRpcError, Request, Topic};
use crate::session::{
    CloseOptions, Drain, Epoch, Latency, OwnedOutcome, Pressure, RequestId, RequestOptions, SendError,
    SendId, SendOptions, SessionEnd, State, Stats, Status, SubscribeOptions, SubscriptionId,
    SubscriptionInfo, Unanswered,
};
use crate::ws::CloseCode;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A handle to a session that a driver keeps: cheap to clone, `Send + Sync`, the same type for every runtime. No call waits for the
/// network: it is encoded at once, or refused at once.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Closes the session when the last handle that holds it is gone.
    alive: Option<Arc<Alive>>,
}

/// Closes the session on drop.
#[derive(Debug)]
pub(super) struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        let now = self.0.now();
        let mut inner = self.0.lock();
        // Whoever still awaits an answer has no handle, but wants it.
        let drain = if inner.slots.is_empty() { Drain::Accepted } else { Drain::Answers };
        inner.session.close_with(CloseOptions::new().drain(drain), now);
        inner.acted();
    }
}

impl Client {
    /// A handle whose clones do not keep the session: its driver's owner does.
    pub fn of_driver(shared: Arc<Shared>) -> Self {
        Self { shared, alive: None }
    }

    /// A handle and the events, which together keep the session: when the events and all clones of the handle are gone it is closed. For drivers, with
    /// the end of the events that they put them in.
    pub fn spawned(shared: Arc<Shared>) -> (Self, Events, EventSender) {
        let alive = Arc::new(Alive(shared.clone()));
        let (events, sender) = super::events::channel(shared.clone(), alive.clone());
        (Self { shared, alive: Some(alive) }, events, sender)
    }

    /// Whether it keeps the session alive, or only its driver's owner does.
    pub fn keeps_alive(&self) -> bool {
        self.alive.is_some()
    }

    /// Sends a message: [`Session::send`](crate::Session::send).
    ///
    /// # Errors
    /// At once, if it is not taken.
    pub fn send<'m>(&self, message: impl Into<Message<'m>>) -> Result<SendId, SendError> {
        self.send_with(message, SendOptions::default())
    }

    /// Sends a message with options.
    ///
    /// # Errors
    /// At once, if it is not taken.
    pub fn send_with<'m>(
        &self,
        message: impl Into<Message<'m>>,
        options: SendOptions,
    ) -> Result<SendId, SendError> {
        // The user's code, and what it does is unknown: not under the lock.
        let message = message.into();
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let sent = inner.session.send(message, options, now);
        inner.acted();
        sent
    }

    /// Waits, after [`SendError::Full`] for want of room in the send buffer, until at most half of it waits to be written, or the session is
    /// not online (then the next `send` says so). What is longer than the room then may be refused again.
    pub async fn writable(&self) {
        self.until_writable().await;
    }

    /// [`writable`](Self::writable) for a thread that may block, for `timeout` at most, or forever. Not for the thread that an asynchronous
    /// driver runs on: nothing would be written.
    ///
    /// # Errors
    /// [`TimedOut`].
    pub fn writable_blocking(&self, timeout: Option<Duration>) -> Result<(), TimedOut> {
        self.block(self.until_writable(), timeout)
    }

    fn until_writable(&self) -> Until<'_, ()> {
        Until::new(&self.shared, Inner::has_room, |inner| &mut inner.room)
    }

    fn block<T>(&self, future: Until<'_, T>, timeout: Option<Duration>) -> Result<T, TimedOut> {
        let deadline = timeout.and_then(|timeout| self.shared.now().checked_add(timeout));
        wait::block_until(&self.shared, future, deadline).ok_or(TimedOut)
    }

    /// Makes a request with the default options; await the answer.
    pub fn request(&self, request: Request<'_>) -> ResponseFuture {
        self.request_with(request, RequestOptions::default())
    }

    /// Makes a request: [`Session::request`](crate::Session::request). It is on its way when this returns; dropping the future
    /// cancels it. The future always ends.
    pub fn request_with(&self, request: Request<'_>, options: RequestOptions) -> ResponseFuture {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let slot = Arc::new(Slot::default());
        let made = inner.session.request(request, options, now);
        if let Ok(id) = made {
            inner.slots.insert(id, slot.clone());
            inner.session.watch(id);
        }
        inner.acted();
        drop(inner);
        ResponseFuture { shared: self.shared.clone(), made, slot }
    }

    /// Makes a request and sleeps until it is settled, which the request's own deadline sees to: [`ResponseFuture::wait`].
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn request_blocking(&self, request: Request<'_>) -> Result<String, RequestError> {
        self.request(request).wait()
    }

    /// Makes several requests in one message ([`Session::request_batch`](crate::Session::request_batch)); await the answers, which come in any
    /// order. If it is refused, each of them says so.
    pub fn request_batch(&self, requests: &[Request<'_>], options: RequestOptions) -> Vec<ResponseFuture> {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let made: Vec<Result<RequestId, SendError>> =
            match inner.session.request_batch(requests, options, now) {
                Ok(ids) => ids.into_iter().map(Ok).collect(),
                Err(error) => requests.iter().map(|_| Err(error.clone())).collect(),
            };
        let futures = made.into_iter().map(|made| {
            let slot = Arc::new(Slot::default());
            if let Ok(id) = made {
                inner.slots.insert(id, slot.clone());
                inner.session.watch(id);
            }
            ResponseFuture { shared: self.shared.clone(), made, slot }
        });
        let futures = futures.collect();
        inner.acted();
        futures
    }

    /// Sends a request that is never answered: [`Session::notify`](crate::Session::notify).
    ///
    /// # Errors
    /// At once, if it is not taken.
    pub fn notify(&self, notification: Request<'_>, options: SendOptions) -> Result<SendId, SendError> {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let sent = inner.session.notify(notification, options, now);
        inner.acted();
        sent
    }

    /// Answers a request of the server: [`Session::respond`](crate::Session::respond).
    ///
    /// # Errors
    /// At once, if it is not taken.
    pub fn respond(
        &self,
        epoch: Epoch,
        id: &str,
        result: Result<&str, &OwnedRpcError>,
    ) -> Result<SendId, SendError> {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let sent = inner.session.respond(epoch, id, result, now);
        inner.acted();
        sent
    }

    /// Subscribes with the default options.
    pub fn subscribe(&self, topic: impl Into<Topic>) -> SubscriptionId {
        self.subscribe_with(topic, SubscribeOptions::default())
    }

    /// Subscribes, now and after every reconnect: [`Session::subscribe`](crate::Session::subscribe). What became of it is told by
    /// events.
    pub fn subscribe_with(&self, topic: impl Into<Topic>, options: SubscribeOptions) -> SubscriptionId {
        let topic = topic.into();
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let id = inner.session.subscribe(topic, options, now);
        inner.acted();
        id
    }

    /// Gives up one reference to a subscription: [`Session::unsubscribe`](crate::Session::unsubscribe).
    pub fn unsubscribe(&self, id: SubscriptionId) -> bool {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let known = inner.session.unsubscribe(id, now);
        inner.acted();
        known
    }

    /// Makes another connection: [`Session::reconnect`](crate::Session::reconnect).
    pub fn reconnect(&self) {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        inner.session.reconnect(now);
        inner.acted();
    }

    /// Ends the session with a close handshake: [`Session::close`](crate::Session::close).
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.close_with(CloseOptions::new().code(code).reason(reason));
    }

    /// Ends the session: [`Session::close_with`](crate::Session::close_with). It has begun when this returns; [`closed`](Self::closed) awaits the
    /// end.
    pub fn close_with(&self, options: CloseOptions) {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        inner.session.close_with(options, now);
        inner.acted();
    }

    /// Waits until the session is over, for whatever reason, and says how it ended: what `Event::Closed` tells, without waiting for anybody to
    /// take events. Any number of tasks may wait. It does not end the session: see [`shutdown`](Self::shutdown).
    pub async fn closed(&self) -> SessionEnd {
        self.until_closed().await
    }

    /// [`closed`](Self::closed) for a thread that may block, for `timeout` at most, or forever. Not for the thread that an asynchronous driver
    /// runs on.
    ///
    /// # Errors
    /// [`TimedOut`].
    pub fn closed_blocking(&self, timeout: Option<Duration>) -> Result<SessionEnd, TimedOut> {
        self.block(self.until_closed(), timeout)
    }

    fn until_closed(&self) -> Until<'_, SessionEnd> {
        Until::new(&self.shared, |inner| inner.session.end().cloned(), |inner| &mut inner.over)
    }

    /// [`close_with`](Self::close_with), then [`closed`](Self::closed): takes no longer than [`CloseOptions::within`], and needs nobody who takes
    /// events. It has begun when this returns.
    ///
    /// A driver that is run inline must go on being run meanwhile: in its own task use `close_with`, and take events until there are no more.
    pub fn shutdown(&self, options: CloseOptions) -> impl Future<Output = SessionEnd> + use<'_> {
        self.close_with(options);
        self.until_closed()
    }

    /// [`shutdown`](Self::shutdown) for a thread that may block. Not for the thread that an asynchronous driver runs on: what was accepted would not
    /// go out.
    pub fn shutdown_blocking(&self, options: CloseOptions) -> SessionEnd {
        self.close_with(options);
        wait::block_on(&self.shared, self.until_closed(), |inner| inner.session.close_deadline())
    }

    /// State of the session.
    pub fn state(&self) -> State {
        self.shared.lock().session.state()
    }

    /// Where the session stands, and how it came there.
    pub fn status(&self) -> Status {
        let now = self.shared.now();
        self.shared.lock().session.status(now)
    }

    /// Counters of the session.
    pub fn stats(&self) -> Stats {
        self.shared.lock().session.stats()
    }

    /// The subscriptions as they stand: [`Session::subscriptions`](crate::Session::subscriptions).
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        self.shared.lock().session.subscriptions().collect()
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.shared.lock().session.queued()
    }

    /// What is left of each limit on sending: name, what is left, of how much.
    pub fn budget(&self) -> Vec<(String, u64, u64)> {
        let now = self.shared.now();
        let inner = self.shared.lock();
        inner.session.budget(now).map(|(name, left, of)| (name.to_owned(), left, of)).collect()
    }

    /// How long things take.
    pub fn latency(&self) -> Latency {
        self.shared.lock().session.latency()
    }

    /// How hard the rate limiter holds back what is sent.
    pub fn pressure(&self) -> Pressure {
        self.shared.lock().session.pressure()
    }
}

/// Where an answer is put for whoever awaits it.
#[derive(Default)]
pub(super) struct Slot(Mutex<(Option<OwnedOutcome>, Option<Waker>)>);

// An answer may hold secrets.
impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Slot {
    /// Who is to be woken for it.
    pub(super) fn fill(&self, outcome: OwnedOutcome) -> Option<Waker> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.0 = Some(outcome);
        slot.1.take()
    }
}

/// The answer to come. Dropping it cancels the request.
#[derive(Debug)]
#[must_use = "a request whose future is dropped is cancelled"]
pub struct ResponseFuture {
    shared: Arc<Shared>,
    made: Result<RequestId, SendError>,
    slot: Arc<Slot>,
}

impl ResponseFuture {
    /// The request's id, if it was taken.
    pub fn id(&self) -> Option<RequestId> {
        self.made.as_ref().ok().copied()
    }

    /// Why it was refused at once, if it was.
    pub fn refused(&self) -> Option<&SendError> {
        self.made.as_ref().err()
    }

    /// The answer, for a thread that may block: sleeps until the request is settled. That is by its deadline
    /// ([`RequestOptions::timeout`]) at the latest, and also if the driver is dropped or does nothing. Not for the thread that an asynchronous
    /// driver runs on: no answer would come.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn wait(self) -> Result<String, RequestError> {
        let (shared, id) = (self.shared.clone(), self.id());
        wait::block_on(&shared, self, |inner| inner.session.request_deadline(id?))
    }
}

impl Future for ResponseFuture {
    type Output = Result<String, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(error) = &self.made {
            return Poll::Ready(Err(RequestError::NotTaken(error.clone())));
        }
        let mut slot = self.slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &slot.0 {
            Some(OwnedOutcome::Answered(Ok(result))) => Poll::Ready(Ok(result.clone())),
            Some(OwnedOutcome::Answered(Err(error))) => Poll::Ready(Err(RequestError::Rpc(error.clone()))),
            Some(OwnedOutcome::NotSent(why)) => Poll::Ready(Err(RequestError::NotSent(*why))),
            Some(OwnedOutcome::SentUnknown(why)) => Poll::Ready(Err(RequestError::SentUnknown(*why))),
            None => {
                let before = slot.1.replace(cx.waker().clone());
                // Its drop is the runtime's code.
                drop(slot);
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl Drop for ResponseFuture {
    fn drop(&mut self) {
        let Ok(id) = self.made else { return };
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        // Still there means: neither answered nor failed.
        // And it is this one: the user may have named the id again.
        if inner.slots.get(&id).is_some_and(|slot| Arc::ptr_eq(slot, &self.slot)) {
            inner.session.cancel(id, now);
            inner.acted();
        }
    }
}

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// It was refused at once.
    NotTaken(SendError),
    /// The peer answered with an error.
    Rpc(OwnedRpcError),
    /// Not one byte of it was sent: doing it again is safe.
    NotSent(Unanswered),
    /// It was sent, at least in part: the peer may have acted on it.
    SentUnknown(Unanswered),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTaken(error) => write!(f, "{error}"),
            Self::Rpc(error) => write!(f, "the peer answered with an error: {error}"),
            Self::NotSent(why) => write!(f, "it was not sent: {why}"),
            Self::SentUnknown(why) => write!(f, "it was sent, but whether it took effect is unknown: {why}"),
        }
    }
}

impl std::error::Error for RequestError {}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "its time was over",
            Self::ConnectionLost => "the connection was lost",
            Self::Cancelled => "it was cancelled",
            Self::Closed => "the session was closed",
            Self::Unsupported => "the protocol could not write it for the connection that there was then",
        })
    }
}
