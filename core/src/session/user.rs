//! The user's side of the session: what he wants.

use super::Session;
use super::event::{RequestId, SendId, SubscriptionId, Unanswered};
use super::link::Stage;
use super::requests::{OnDisconnect, RequestOptions, What};
use super::status::State;
use super::subscriptions::SubscriptionState;
use crate::message::Message;
use crate::protocol::{Request, Topic, Unsupported};
use crate::ws::CloseCode;
use std::fmt;
use std::time::Instant;

/// How a message is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOptions {
    /// Whether it may be compressed, if compression was agreed on. Default true; false for what is compressed already.
    pub compress: bool,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self { compress: true }
    }
}

/// A message or request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection that is online. Wait for `Event::Online`, or make requests with [`OnDisconnect::Hold`].
    Offline,
    /// Too much waits to be written (`Config::send_buffer`): try again after `Event::Writable`. Or too many requests are unsettled
    /// (`Config::max_requests`).
    Full,
    /// The session is closed, or closing.
    Closed,
    /// The protocol cannot say it.
    Unsupported(Unsupported),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("not online: wait for Event::Online"),
            Self::Full => f.write_str("too much waits already: the peer takes it slower than it is sent"),
            Self::Closed => f.write_str("the session is closed"),
            Self::Unsupported(unsupported) => write!(f, "{unsupported}"),
        }
    }
}

impl std::error::Error for SendError {}

impl Session {
    /// Sends a message over the current connection: it is encoded at once, and written when the driver can.
    ///
    /// # Errors
    /// [`SendError::Offline`], [`SendError::Full`], [`SendError::Closed`]. A message that was refused has no effect.
    #[inline]
    pub fn send(
        &mut self,
        message: Message<'_>,
        options: SendOptions,
        _now: Instant,
    ) -> Result<SendId, SendError> {
        let (State::Online, Some(index)) = (self.history.state, self.current) else {
            return Err(self.refusal());
        };
        let link = &mut self.links[index];
        if link.sender.queued() + message.len() > self.config.send_buffer
            && link.is_full(message.len(), self.config.send_buffer)
        {
            self.refused = true;
            return Err(SendError::Full);
        }
        link.sender.message(message.kind(), message.as_bytes(), options.compress);
        self.last_send += 1;
        Ok(SendId(self.last_send))
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
    /// Those of [`send`](Self::send), and [`SendError::Unsupported`]. A request that may wait for a connection is not refused for want of one.
    pub fn request(
        &mut self,
        request: Request<'_>,
        options: RequestOptions,
        now: Instant,
    ) -> Result<RequestId, SendError> {
        self.calm = false;
        let online = self.current.filter(|_| self.history.state == State::Online);
        let may_wait = options.on_disconnect != OnDisconnect::Fail;
        let refusal = self.refusal();
        if refusal == SendError::Closed || (online.is_none() && !may_wait) {
            return Err(refusal);
        }
        if self.requests.len() >= self.config.max_requests {
            return Err(SendError::Full);
        }
        let id = self.requests.next_id();
        self.text.clear();
        self.config.protocol.request(id, &request, &mut self.text).map_err(SendError::Unsupported)?;
        if online.is_some_and(|index| self.links[index].is_full(self.text.len(), self.config.send_buffer)) {
            self.refused = true;
            return Err(SendError::Full);
        }
        let timeout = options.timeout.unwrap_or(self.config.request_timeout).min(super::config::MAX_TIME);
        self.requests.insert(id, What::User, now + timeout, options.on_disconnect, &self.text);
        match online {
            Some(index) => {
                let link = &mut self.links[index];
                let ordinal = link.send_own(&self.text);
                self.own_sent += 1;
                self.requests.sent(id, link.id, ordinal);
            }
            None => self.requests.hold(id),
        }
        Ok(RequestId(id))
    }

    /// Stops waiting for an answer: the request is settled as cancelled. False if it is settled already.
    pub fn cancel(&mut self, id: RequestId, now: Instant) -> bool {
        self.calm = false;
        if !self.requests.is_users(id.0) {
            return false;
        }
        match self.requests.fail(id.0, Unanswered::Cancelled) {
            Some(failed) => {
                self.request_failed(failed, now);
                true
            }
            None => false,
        }
    }

    /// Subscribes, now and after every reconnect. It is never refused: `Config::send_buffer` does not bound it. A topic that is subscribed to already gets another reference and keeps its
    /// id.
    pub fn subscribe(&mut self, topic: impl Into<Topic>, now: Instant) -> SubscriptionId {
        self.calm = false;
        let (id, new) = self.subscriptions.add(topic.into());
        if new && matches!(self.history.state, State::Online | State::Restoring) {
            self.ask_for(&[id], false, now);
        }
        id
    }

    /// Gives up one reference to a subscription; the last one ends it. False if there is no such subscription.
    pub fn unsubscribe(&mut self, id: SubscriptionId, now: Instant) -> bool {
        self.calm = false;
        match self.subscriptions.release(id) {
            Ok(Some(subscription)) => {
                // Asked for and not answered counts too: the peer handles messages in order. What it did not answer in time it may
                // have done all the same.
                let known = subscription.state != SubscriptionState::Waiting;
                if known && matches!(self.history.state, State::Online | State::Restoring) {
                    self.ask_no_more(&subscription.topic, now);
                }
                true
            }
            Ok(None) => true,
            Err(()) => false,
        }
    }

    /// Drops the current connection, if there is one, and makes another at once. Subscriptions are restored on it. What had arrived is
    /// told first. Does nothing while an attempt is under way.
    pub fn reconnect(&mut self, now: Instant) {
        self.calm = false;
        if self.closing || self.history.state == State::Closed {
            return;
        }
        if self.current.is_some() {
            self.renew = true;
        } else if self.retry_at.is_some() {
            self.retry_at = Some(now);
        }
    }

    /// Ends the session with a close handshake (RFC 6455 section 7.1.2). What was sent goes out first; messages that arrive until
    /// the peer answers are still told; requests without an answer are settled now. The reason is cut to 123 bytes. Calling it again does nothing.
    pub fn close(&mut self, code: CloseCode, reason: &str, now: Instant) {
        self.calm = false;
        if self.closing || self.history.state == State::Closed {
            return;
        }
        (self.closing, self.renew) = (true, false);
        self.settle_all(now);
        self.retry_at = None;
        match self.current {
            Some(index) if matches!(self.links[index].stage, Stage::Open) => {
                let deadline = now + self.config.close_timeout;
                self.links[index].close(code, reason, deadline);
                self.history.set(State::Closing, "closed by the user", now);
            }
            _ => self.finish(None, now),
        }
    }
}
