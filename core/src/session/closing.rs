//! How a session ends when its user wants that: what was accepted goes out, then the protocol's farewell, then the close frame.

use super::Session;
use super::event::{SendId, Unsent};
use super::link::{Stage, Step};
use super::requests::What;
use super::status::State;
use crate::error::Error;
use crate::protocol::{self, Ack, Traffic};
use crate::record::Input;
use crate::ws::receiver::Inbound;
use crate::ws::{CloseCode, Kind};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How to close a session: [`Session::close_with`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseOptions {
    /// Code of the close frame. Default [`CloseCode::Normal`].
    pub code: CloseCode,
    /// Its reason; what is longer than 123 bytes (RFC 6455 section 5.5) is cut. Default empty.
    pub reason: String,
    /// Time for all of it: what is to go out, what is awaited, and the peer's close frame. At most 365 days. Default: `Config::close_timeout`.
    pub within: Option<Duration>,
    /// What is waited for before the close frame. Default [`Drain::Accepted`].
    pub drain: Drain,
}

impl CloseOptions {
    /// [`CloseCode::Normal`], no reason, within `Config::close_timeout`, and what was accepted goes out.
    pub fn new() -> Self {
        Self { code: CloseCode::Normal, reason: String::new(), within: None, drain: Drain::Accepted }
    }

    /// Code of the close frame.
    pub fn code(self, code: CloseCode) -> Self {
        Self { code, ..self }
    }

    /// Reason in the close frame.
    pub fn reason(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// Time for all of it.
    pub fn within(self, within: Duration) -> Self {
        Self { within: Some(within), ..self }
    }

    /// What is waited for before the close frame.
    pub fn drain(self, drain: Drain) -> Self {
        Self { drain, ..self }
    }
}

impl Default for CloseOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What is waited for before the close frame, as long as the time for closing allows. What cannot be had without a connection that is online is
/// not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Drain {
    /// Nothing. What waits for the rate limiter is not sent.
    Nothing,
    /// What the rate limiter holds back, messages and requests.
    #[default]
    Accepted,
    /// And the answers to all requests.
    Answers,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SessionEnd {
    /// Why, if the user did not ask for it.
    pub error: Option<Error>,
    /// What was accepted and will not be sent, besides what [`Event::Lost`](crate::Event::Lost) told. Once the session is closing, no `Lost` is told.
    pub unsent: Unsent,
}

/// A close that is under way.
#[derive(Debug)]
pub(crate) struct Ending {
    options: CloseOptions,
    deadline: Instant,
    farewell: Farewell,
    /// Messages that waited for the limiter and will not be sent.
    pub(crate) waiting: Vec<SendId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    Due,
    /// The answer to it is awaited.
    Sent(u64),
    Done,
}

impl Session {
    /// Ends the session with a close handshake (RFC 6455 section 7.1.2): [`close_with`](Self::close_with) with this code and reason.
    pub fn close(&mut self, code: CloseCode, reason: &str, now: Instant) {
        self.close_with(CloseOptions::new().code(code).reason(reason), now);
    }

    /// Ends the session. If it is online, what was accepted goes out as [`CloseOptions::drain`] says, then [`Protocol::farewell`] if there is
    /// one, then the close frame, and then the peer's is awaited (RFC 6455 section 7.1.2). All of that takes [`CloseOptions::within`] at most.
    /// Messages that arrive until then are still told. Nothing can be sent any more, and no connection is made: without one, the end is now.
    ///
    /// `Event::Closed` names the messages that were not sent. A request without an answer is settled when the close frame is made, or as
    /// soon after that as it is certain whether it was written.
    ///
    /// Calling it again can only bring the end nearer: what counts is the earlier of the deadlines and the lesser [`Drain`].
    ///
    /// [`Protocol::farewell`]: crate::Protocol::farewell
    pub fn close_with(&mut self, options: CloseOptions, now: Instant) {
        if self.tap.is_some() {
            self.tap(Input::Close { options: &options }, now);
        }
        self.calm = false;
        let within = options.within.unwrap_or(self.config.close_timeout).min(super::config::MAX_TIME);
        let deadline = now + within;
        if let Some(ending) = &mut self.ending {
            ending.deadline = ending.deadline.min(deadline);
            ending.options.drain = ending.options.drain.min(options.drain);
            if let Some(index) = self.current
                && matches!(self.links[index].stage, Stage::Closing)
            {
                let link = &mut self.links[index];
                link.deadline = link.deadline.map(|at| at.min(deadline));
            }
        }
        if self.history.state == State::Closed || (self.closing && self.ending.is_none()) {
            return;
        }
        if !self.closing {
            let online = self.history.state == State::Online;
            (self.closing, self.renew, self.notice, self.direct) = (true, false, None, false);
            self.end_renewal();
            self.retry_at = None;
            // A feed that is left may be as silent as it likes.
            self.data.stop();
            let open = self.current.is_some_and(|index| matches!(self.links[index].stage, Stage::Open));
            if !open {
                return self.finish(None, now);
            }
            // What was accepted before that waits for what will not come.
            let (farewell, drain) =
                if online { (Farewell::Due, options.drain) } else { (Farewell::Done, Drain::Nothing) };
            let options = CloseOptions { drain, ..options };
            self.ending = Some(Box::new(Ending { options, deadline, farewell, waiting: Vec::new() }));
            self.history.set(State::Closing, "closed by the user", now);
        }
        self.pump(now);
        self.close_step(now);
    }

    /// Whether what waits in the user's lanes goes out, though the session is closing.
    pub(super) fn is_draining(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.options.drain != Drain::Nothing)
    }

    /// The next step to the end, if what it waits for is there; false if there was none.
    pub(super) fn close_step(&mut self, now: Instant) -> bool {
        let (Some(ending), Some(index)) = (&mut self.ending, self.current) else { return false };
        if self.end.is_some() {
            return false;
        }
        if !matches!(self.links[index].stage, Stage::Open) {
            return self.links[index].sender.queued() == 0 && self.settle_sent(index, now);
        }
        let answers = ending.options.drain == Drain::Answers && self.requests.users() > 0;
        let accepted = ending.options.drain != Drain::Nothing && self.outbox.waiting() > 0;
        if answers || accepted {
            return false;
        }
        match ending.farewell {
            Farewell::Due => {
                let id = self.requests.next_id();
                self.text.clear();
                let context = self.links[index].context(self.clock.wall(now));
                let ack = self.config.protocol.farewell(id, &context, &mut self.text);
                let awaited = !self.text.is_empty() && ack != Ack::None;
                ending.farewell = if awaited { Farewell::Sent(id) } else { Farewell::Done };
                if !self.text.is_empty() {
                    self.spend_anyway(Traffic::Farewell, now);
                    self.send_text(index, id, ack, What::Farewell, now);
                    self.links[index].encrypt();
                }
                self.close_step(now);
            }
            Farewell::Sent(id) if self.requests.is_live(id) => return false,
            Farewell::Sent(_) | Farewell::Done => {
                let deadline = ending.deadline;
                self.say_close(index, deadline, now);
            }
        }
        true
    }

    /// The session leaves a connection that works: the protocol's farewell, if it was online. Its id if an answer is awaited.
    pub(super) fn say_farewell(&mut self, index: usize, now: Instant) -> Option<u64> {
        if self.closing || self.history.state != State::Online {
            return None;
        }
        let id = self.requests.peek_id();
        self.text.clear();
        let context = self.links[index].context(self.clock.wall(now));
        let ack = self.config.protocol.farewell(id, &context, &mut self.text);
        if self.text.is_empty() {
            return None;
        }
        self.requests.next_id();
        self.spend_anyway(Traffic::Farewell, now);
        self.own_sent += 1;
        // What was taken back of messages that were not written is in the compression's window: this one must not refer to it.
        self.links[index].sender.message(Kind::Text, self.text.as_bytes(), false);
        (ack != Ack::None).then_some(id)
    }

    /// Takes one thing off a connection that was left and whose `farewell` has no answer yet: nothing but that answer matters. False if there
    /// was nothing.
    pub(super) fn step_parting(&mut self, index: usize, farewell: u64) -> bool {
        let parts = match self.links[index].poll() {
            Step::Idle => return false,
            Step::Inbound(inbound) => {
                self.tap_inbound(index, inbound);
                match inbound {
                    Inbound::Message(Kind::Text, at) if self.inspects => {
                        self.is_answer(self.links[index].receiver.text(at), farewell)
                    }
                    Inbound::Close(_) => true,
                    _ => false,
                }
            }
            Step::Failed(_) | Step::Upgraded(_) | Step::Redirect(_) => true,
        };
        if parts {
            self.links[index].part();
        }
        true
    }

    /// Whether this message, or a part of it, is the answer to this request.
    fn is_answer(&self, text: &str, request: u64) -> bool {
        let protocol = &self.config.protocol;
        let answers =
            |text| matches!(protocol.classify(text), protocol::Inbound::Response { id, .. } if id == request);
        if protocol.classify(text) != protocol::Inbound::Batch {
            return answers(text);
        }
        let mut cursor = 0;
        loop {
            let before = cursor;
            match protocol.item(text, &mut cursor).filter(|_| cursor > before) {
                Some(item) if answers(item) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Sends the close frame.
    fn say_close(&mut self, index: usize, deadline: Instant, now: Instant) {
        self.settle_sent(index, now);
        let (waiting, _) = self.empty_outbox(now);
        self.spend_close(now);
        if let Some(ending) = &mut self.ending {
            ending.waiting.extend(waiting);
            self.links[index].close(ending.options.code, &ending.options.reason, deadline);
            self.links[index].encrypt();
        }
    }

    /// Settles requests, but for those of which it is not certain yet whether they are written; false if there were none.
    fn settle_sent(&mut self, index: usize, now: Instant) -> bool {
        let link = &self.links[index];
        let failed = self.requests.no_more(link.id, link.sender.messages(), link.sender.unwritten());
        let any = !failed.is_empty();
        failed.into_iter().for_each(|failed| self.request_failed(failed, now));
        any
    }

    /// The end, once the time for closing is over and all that arrived is told; false if that is not so.
    pub(super) fn close_done(&mut self, now: Instant) -> bool {
        let (Some(_), Some(_), Some(index)) = (&self.ending, &self.end, self.current) else { return false };
        let until = now + self.config.close_timeout;
        self.links[index].retire(None, until, false);
        self.finish(None, now);
        true
    }

    /// When the time for closing is over.
    pub(crate) fn close_deadline(&self) -> Option<Instant> {
        let ending = self.ending.as_ref().filter(|_| self.end.is_none())?;
        Some(ending.deadline)
    }

    /// Ends the close if its time is over: what is not out by now is not sent. However late the user takes what arrived, that is certain now.
    pub(super) fn close_overdue(&mut self, now: Instant) {
        if self.close_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.seal(None, now);
        if let Some(index) = self.current
            && matches!(self.links[index].stage, Stage::Open)
        {
            // The peer has not been told yet. Nobody waits for its answer.
            self.say_close(index, now + self.config.close_timeout, now);
        }
    }
}
