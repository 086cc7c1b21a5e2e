//! The user's side of the session: what he wants.

use super::Session;
use super::config::Params;
use super::event::{Epoch, RequestId, SendId, SubscriptionId, Unanswered};
use super::outbox::{Fresh, Lane, Waits};
use super::overflow::Overflow;
use super::requests::{Kept, OnDisconnect, RequestOptions, What};
use super::status::State;
use super::subscriptions::Subscription;
use super::topic::SubscribeOptions;
use crate::message::Message;
use crate::protocol::{Context, OwnedRpcError, Request, Topic, Unsupported};
use crate::record::Input;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, Instant};

/// How a message is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SendOptions {
    /// Whether it may be compressed, if compression was agreed on. Default true; false for what is compressed already.
    pub compress: bool,
    /// Where the rate limiter holds messages back, it goes before those without priority, and before subscriptions. Default false.
    pub priority: bool,
    /// Where the rate limiter holds it back for longer than this, it is dropped ([`Event::Expired`](crate::Event::Expired)). Default:
    /// `Config::queue_timeout`.
    pub timeout: Option<Duration>,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self { compress: true, priority: false, timeout: None }
    }
}

impl RequestOptions {
    /// Time for the answer.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// What becomes of it without a connection.
    pub fn on_disconnect(self, on_disconnect: OnDisconnect) -> Self {
        Self { on_disconnect, ..self }
    }

    /// Whether it goes before those without priority.
    pub fn priority(self, priority: bool) -> Self {
        Self { priority, ..self }
    }

    /// The id to send it with.
    pub fn id(self, id: u64) -> Self {
        Self { id: Some(id), ..self }
    }

    fn lane(&self) -> Lane {
        if self.priority { Lane::Priority } else { Lane::Normal }
    }
}

impl SendOptions {
    /// Whether it may be compressed.
    pub fn compress(self, compress: bool) -> Self {
        Self { compress, ..self }
    }

    /// Whether it goes before those without priority.
    pub fn priority(self, priority: bool) -> Self {
        Self { priority, ..self }
    }

    /// Dropped when the rate limiter holds it back for longer than this.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    fn lane(&self) -> Lane {
        if self.priority { Lane::Priority } else { Lane::Normal }
    }
}

/// A message or request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection that is online. Wait for `Event::Online`, or make requests with [`OnDisconnect::Hold`].
    Offline,
    /// Too much waits to be written (`Config::send_buffer`), or for the rate limiter (`Config::queue`): try again after `Event::Writable`.
    Full,
    /// Too many requests are unsettled (`Config::max_requests`): try again after an answer.
    TooManyRequests,
    /// The session is closed, or closing.
    Closed,
    /// The protocol cannot say it.
    Unsupported(Unsupported),
    /// The connection that it belongs to is lost.
    Gone,
    /// A request with the id that was asked for is unsettled.
    DuplicateId(u64),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("not online: wait for Event::Online"),
            Self::Full => f.write_str("too much waits already: the peer takes it slower than it is sent"),
            Self::TooManyRequests => {
                f.write_str("too many requests are unsettled: wait for an answer to one of them")
            }
            Self::Closed => f.write_str("the session is closed"),
            Self::Unsupported(unsupported) => write!(f, "{unsupported}"),
            Self::Gone => {
                f.write_str("the connection that it belongs to is lost: the server asks again if it has to")
            }
            Self::DuplicateId(id) => {
                write!(f, "request {id} is not settled yet: use another id, or leave it to the session")
            }
        }
    }
}

impl std::error::Error for SendError {}

impl Session {
    /// Sends a message over the current connection: it is encoded at once, and written when the driver can. Where the rate limiter does not allow
    /// that, it waits for its turn, with others that wait.
    ///
    /// # Errors
    /// [`SendError::Offline`], [`SendError::Full`], [`SendError::Closed`]. A message that was refused has no effect.
    #[inline]
    pub fn send(
        &mut self,
        message: Message<'_>,
        options: SendOptions,
        now: Instant,
    ) -> Result<SendId, SendError> {
        if self.tap.is_some() {
            return self.send_recorded(message, options, now);
        }
        self.send_now(message, options, now)
    }

    #[cold]
    fn send_recorded(
        &mut self,
        message: Message<'_>,
        options: SendOptions,
        now: Instant,
    ) -> Result<SendId, SendError> {
        self.tap(Input::Send { message, options: &options }, now);
        let result = self.send_now(message, options, now);
        self.tap_refused(&result);
        result
    }

    #[inline]
    fn send_now(
        &mut self,
        message: Message<'_>,
        options: SendOptions,
        now: Instant,
    ) -> Result<SendId, SendError> {
        let (true, Some(index)) = (self.direct, self.current) else {
            return self.send_limited(message, None, &options, now);
        };
        let link = &mut self.links[index];
        if link.sender.queued() + message.len() > self.config.send_buffer
            && link.is_full(message.len(), self.config.send_buffer)
        {
            self.refused = true;
            return Err(SendError::Full);
        }
        // The socket may take nothing: the time of that is to be counted, also where nothing else is to be waited for.
        if link.sender.queued() == 0 {
            self.quiet.ends();
        }
        link.sender.message(message.kind(), message.as_bytes(), options.compress);
        self.last_send += 1;
        Ok(SendId(self.last_send))
    }

    /// What is not sent at once: it waits for its turn, or is refused.
    #[cold]
    fn send_limited(
        &mut self,
        message: Message<'_>,
        method: Option<&str>,
        options: &SendOptions,
        now: Instant,
    ) -> Result<SendId, SendError> {
        let (State::Online, Some(index)) = (self.history.state, self.current) else {
            return Err(self.refusal());
        };
        self.check_queue(index, message.len())?;
        self.last_send += 1;
        let id = SendId(self.last_send);
        let waits = Waits::Message {
            id,
            kind: message.kind(),
            bytes: message.as_bytes().to_vec(),
            compress: options.compress,
            method: method.map(Box::from),
        };
        let timeout = options.timeout.unwrap_or(self.config.queue_timeout).min(super::config::MAX_TIME);
        self.outbox.push(options.lane(), waits, Some(now + timeout));
        if self.has_to_wait(options.lane(), now) {
            self.last_send -= 1;
            return Err(SendError::Full);
        }
        Ok(id)
    }

    /// Sends what was just put in a lane. True if it has to wait there and nothing may: then it is taken back.
    fn has_to_wait(&mut self, lane: Lane, now: Instant) -> bool {
        self.let_all_out(now);
        let none = self.config.queue_messages == 0 || self.config.queue_bytes == 0;
        let waits = none && self.outbox.pop(lane).is_some();
        if waits {
            (self.refused, self.outbox.room_at) = (true, self.outbox.ready_at);
        }
        self.tell_pressure(now);
        waits
    }

    /// Whether another message may be taken, of `len` bytes.
    fn check_queue(&mut self, index: usize, len: usize) -> Result<(), SendError> {
        let (messages, bytes) = (self.config.queue_messages, self.config.queue_bytes);
        // One that nothing is ahead of is taken, however little may wait.
        let alone = self.outbox.waiting() == 0;
        let full = !alone && self.limited && !self.outbox.has_room(len, messages, bytes);
        if full || self.links[index].is_full(len, self.config.send_buffer) {
            self.refused = true;
            return Err(SendError::Full);
        }
        Ok(())
    }

    #[cold]
    fn refusal(&self) -> SendError {
        if self.closing || self.history.state == State::Closed {
            SendError::Closed
        } else {
            SendError::Offline
        }
    }

    /// Makes a request. It is settled by one `Event::Response`, whatever happens.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), [`SendError::Unsupported`], and [`SendError::DuplicateId`]. A request that may wait for a connection is not
    /// refused for want of one.
    pub fn request(
        &mut self,
        request: Request<'_>,
        options: RequestOptions,
        now: Instant,
    ) -> Result<RequestId, SendError> {
        if self.tap.is_some() {
            self.tap(Input::Request { request, options: &options }, now);
        }
        let result = self.request_now(request, options, now);
        self.tap_refused(&result);
        result
    }

    fn request_now(
        &mut self,
        request: Request<'_>,
        options: RequestOptions,
        now: Instant,
    ) -> Result<RequestId, SendError> {
        let online = self.may_request(1, &options)?;
        let id = match options.id {
            Some(id) if self.requests.is_live(id) || self.outbox.names(id) => {
                return Err(SendError::DuplicateId(id));
            }
            Some(id) => id,
            None => self.requests.next_id(),
        };
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let context = self.context(now);
        let written =
            self.config.protocol.request(id, &request, &context, &mut text).map_err(SendError::Unsupported);
        let mut taken =
            written.and_then(|()| online.map_or(Ok(()), |index| self.check_queue(index, text.len())));
        if taken.is_ok() {
            self.insert_request(id, &request, text.len(), &options, now);
            match online {
                None => self.requests.hold(id),
                Some(_) if self.limited => {
                    self.outbox.push(options.lane(), Waits::Request { id, len: text.len() }, None);
                    self.outbox.fresh = Some(Fresh { first: id, text: std::mem::take(&mut text) });
                    if self.has_to_wait(options.lane(), now) {
                        self.requests.settle(id);
                        taken = Err(SendError::Full);
                    }
                    self.outbox.fresh = None;
                }
                Some(index) => {
                    let sent = self.send_own(index, &text);
                    self.requests.sent(id, sent, now);
                }
            }
        }
        self.text = text;
        taken.map(|()| RequestId(id))
    }

    /// What is known of the connection, if there is one, for what is written now.
    fn context(&self, now: Instant) -> Context<'_> {
        let wall = self.clock.wall(now);
        self.current.map_or_else(|| Context::new(wall, Params::NONE), |index| self.links[index].context(wall))
    }

    /// Makes several requests in one message, such as a JSON-RPC 2.0 batch (specification section 6). Each is settled by itself, as if it had been made
    /// alone; [`RequestOptions::id`] does not apply. One that has to be sent again is sent alone.
    ///
    /// # Errors
    /// Those of [`request`](Self::request). None of them is made then.
    pub fn request_batch(
        &mut self,
        requests: &[Request<'_>],
        options: RequestOptions,
        now: Instant,
    ) -> Result<Vec<RequestId>, SendError> {
        if self.tap.is_some() {
            self.tap(Input::Batch { requests, options: &options }, now);
        }
        let result = self.request_batch_now(requests, options, now);
        self.tap_refused(&result);
        result
    }

    fn request_batch_now(
        &mut self,
        requests: &[Request<'_>],
        options: RequestOptions,
        now: Instant,
    ) -> Result<Vec<RequestId>, SendError> {
        let online = self.may_request(requests.len(), &options)?;
        let numbered: Vec<(u64, Request<'_>)> =
            requests.iter().map(|request| (self.requests.next_id(), *request)).collect();
        let protocol = self.config.protocol.clone();
        let mut batch = String::new();
        let context = self.context(now);
        protocol.batch(&numbered, &context, &mut batch).map_err(SendError::Unsupported)?;
        // Each may have to be sent alone.
        let mut lens = Vec::with_capacity(numbered.len());
        for (id, request) in &numbered {
            let mut text = String::new();
            protocol.request(*id, request, &context, &mut text).map_err(SendError::Unsupported)?;
            lens.push(text.len());
        }
        if let Some(index) = online {
            self.check_queue(index, batch.len())?;
        }
        for ((id, request), len) in numbered.iter().zip(lens) {
            self.insert_request(*id, request, len, &options, now);
        }
        let ids: Vec<u64> = numbered.iter().map(|(id, _)| *id).collect();
        match online {
            None => ids.iter().for_each(|id| self.requests.hold(*id)),
            Some(_) if self.limited => {
                self.outbox.push(options.lane(), Waits::Batch(ids.clone(), batch.len()), None);
                self.outbox.fresh = ids.first().map(|first| Fresh { first: *first, text: batch });
                let waits = self.has_to_wait(options.lane(), now);
                self.outbox.fresh = None;
                if waits {
                    ids.iter().for_each(|id| _ = self.requests.settle(*id));
                    return Err(SendError::Full);
                }
            }
            Some(index) => {
                let sent = self.send_own(index, &batch);
                ids.iter().for_each(|id| self.requests.sent(*id, sent, now));
            }
        }
        Ok(ids.into_iter().map(RequestId).collect())
    }

    /// Whether so many requests may be made now, and over which connection.
    fn may_request(&mut self, count: usize, options: &RequestOptions) -> Result<Option<usize>, SendError> {
        self.calm = false;
        let online = self.current.filter(|_| self.history.state == State::Online);
        let may_wait = options.on_disconnect != OnDisconnect::Fail;
        let refusal = self.refusal();
        if refusal == SendError::Closed || (online.is_none() && !may_wait) {
            return Err(refusal);
        }
        if self.requests.users().saturating_add(count) > self.config.max_requests {
            return Err(SendError::TooManyRequests);
        }
        Ok(online)
    }

    fn insert_request(
        &mut self,
        id: u64,
        request: &Request<'_>,
        len: usize,
        options: &RequestOptions,
        now: Instant,
    ) {
        let timeout = options.timeout.unwrap_or(self.config.request_timeout).min(super::config::MAX_TIME);
        let keep = self.limited || options.on_disconnect != OnDisconnect::Fail;
        let (method, params) = (request.method, request.params);
        let kept = || Kept {
            method: method.to_owned(),
            params: params.map(str::to_owned),
            lane: options.lane(),
            len,
        };
        let kept = keep.then(kept);
        self.requests.insert(id, What::User, now + timeout, options.on_disconnect, kept);
    }

    /// Answers a request of the server ([`Event::Request`](crate::Event::Request)); `epoch` and `id` are as that has them.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), [`SendError::Unsupported`], and [`SendError::Gone`]: an answer belongs to the connection that the request came
    /// over.
    pub fn respond(
        &mut self,
        epoch: Epoch,
        id: &str,
        result: Result<&str, &OwnedRpcError>,
        now: Instant,
    ) -> Result<SendId, SendError> {
        if self.tap.is_some() {
            self.tap(Input::Respond { epoch, id, result }, now);
        }
        let result = self.respond_now(epoch, id, result, now);
        self.tap_refused(&result);
        result
    }

    fn respond_now(
        &mut self,
        epoch: Epoch,
        id: &str,
        result: Result<&str, &OwnedRpcError>,
        now: Instant,
    ) -> Result<SendId, SendError> {
        if epoch != self.epoch {
            return Err(SendError::Gone);
        }
        let mut text = String::new();
        self.config.protocol.respond(id, result, &mut text).map_err(SendError::Unsupported)?;
        self.calm = false;
        self.send_now(Message::Text(&text), SendOptions::default(), now)
    }

    /// Sends a request that is never answered, such as a JSON-RPC notification (specification section 4.1). It is sent as a message is: over the
    /// current connection or not at all. Where there are limits it counts as a request.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`SendError::Unsupported`].
    pub fn notify(
        &mut self,
        notification: Request<'_>,
        options: SendOptions,
        now: Instant,
    ) -> Result<SendId, SendError> {
        if self.tap.is_some() {
            self.tap(Input::Notify { request: notification, options: &options }, now);
        }
        let result = self.notify_now(notification, options, now);
        self.tap_refused(&result);
        result
    }

    fn notify_now(
        &mut self,
        notification: Request<'_>,
        options: SendOptions,
        now: Instant,
    ) -> Result<SendId, SendError> {
        self.calm = false;
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let written = self.config.protocol.notification(&notification, &self.context(now), &mut text);
        let sent = written.map_err(SendError::Unsupported).and_then(|()| {
            let message = Message::Text(&text);
            if self.limited {
                self.send_limited(message, Some(notification.method), &options, now)
            } else {
                self.send_now(message, options, now)
            }
        });
        self.text = text;
        sent
    }

    /// Stops waiting for an answer: the request is settled as cancelled. False if it is settled already.
    pub fn cancel(&mut self, id: RequestId, now: Instant) -> bool {
        if self.tap.is_some() {
            self.tap(Input::Cancel { id }, now);
        }
        self.calm = false;
        if !self.requests.is_users(id.0) {
            return false;
        }
        match self.requests.fail(id.0, Unanswered::Cancelled) {
            Some(failed) => {
                self.request_failed(failed, now);
                // If it waited for the limiter, those behind it may go.
                self.pump(now);
                true
            }
            None => false,
        }
    }

    /// Subscribes, now and after every reconnect. It is never refused: `Config::send_buffer` does not bound it. A topic that is subscribed
    /// to already gets another reference and keeps its id and its options.
    pub fn subscribe(
        &mut self,
        topic: impl Into<Topic>,
        options: SubscribeOptions,
        now: Instant,
    ) -> SubscriptionId {
        let topic = topic.into();
        if self.tap.is_some() {
            self.tap(Input::Subscribe { topic: &topic, options: &options }, now);
        }
        self.calm = false;
        let (id, new) = self.subscriptions.add(topic, options, now);
        if new && self.may_ask() {
            self.subscriptions.ask(id, false, now);
            self.pump(now);
        }
        id
    }

    /// Gives up one reference to a subscription; the last one ends it. False if there is no such subscription.
    pub fn unsubscribe(&mut self, id: SubscriptionId, now: Instant) -> bool {
        if self.tap.is_some() {
            self.tap(Input::Unsubscribe { id }, now);
        }
        self.calm = false;
        match self.subscriptions.release(id) {
            Ok(Some(subscription)) => {
                self.leave(id, subscription, now);
                true
            }
            Ok(None) => true,
            Err(()) => false,
        }
    }

    /// What to do with messages of this subscription when the user is too slow.
    pub(crate) fn overflow(&self, id: SubscriptionId) -> Overflow {
        self.subscriptions.get(id).map_or(Overflow::Block, |subscription| subscription.options.overflow)
    }

    /// Ends a subscription, whoever holds references to it: messages of it that still come on this connection are thrown away.
    pub(crate) fn end_subscription(&mut self, id: SubscriptionId, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::EndSubscription { id }, now);
        }
        self.calm = false;
        if let Some(subscription) = self.subscriptions.end(id) {
            self.leave(id, subscription, now);
        }
    }

    /// Has the peer told that a topic is not wanted any more, if it may know of it.
    fn leave(&mut self, id: SubscriptionId, subscription: Subscription, now: Instant) {
        // Asked for and not answered counts too: the peer handles messages in order. What it did not answer in time it may have done all
        // the same.
        if subscription.was_asked() && self.may_ask() {
            self.subscriptions.leave(id, subscription, now);
            self.pump(now);
        }
        self.check_restored(now);
    }

    /// How many events may wait for the user of a spawned session.
    pub(crate) fn event_buffer(&self) -> usize {
        self.config.event_buffer
    }

    /// Whether there is a connection that subscriptions can be asked for on.
    fn may_ask(&self) -> bool {
        self.current.is_some() && matches!(self.history.state, State::Online | State::Restoring)
    }

    /// Drops the current connection, if there is one, and makes another at once, or as soon as `Config::flap_budget` and `Config::cooldown`
    /// allow it. Subscriptions are restored on it. What had arrived is told first. Does nothing while an attempt is under way.
    pub fn reconnect(&mut self, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::Reconnect, now);
        }
        self.calm = false;
        if self.closing || self.history.state == State::Closed {
            return;
        }
        if self.current.is_some() {
            self.renew = true;
        } else if self.retry_at.is_some() {
            self.retry_at = Some(self.flaps.as_ref().map_or(now, |flaps| flaps.earliest(now)));
        }
    }
}
