//! What a new connection is told before anything else: who we are ([`Protocol::authenticate`](crate::Protocol::authenticate)), and what prepares
//! it ([`Protocol::prepare`](crate::Protocol::prepare)). An authentication is made again in the same way when it ends.
//!
//! ```text
//! connected, greeted ──► authenticate ──answered──► prepare(0) ──answered──► prepare(1) ... ──empty──► restore
//! ```

use super::Session;
use super::lease::Queued;
use super::link::Granted;
use super::outbox::Introduction;
use super::requests::What;
use super::status::State;
use crate::error::{Error, Refusal};
use crate::protocol::{Ack, Fault, Unsupported};
use crate::ws::receiver::Place;
use std::time::Instant;

/// Messages that may prepare a connection: a protocol that never says that it is done must not go on for ever.
const MAX_STEPS: u32 = 32;

impl Session {
    /// Authenticates a new connection, if the protocol wants that.
    pub(super) fn begin_authentication(&mut self, why: &str, now: Instant) {
        let id = self.requests.next_id();
        match self.introduce(What::Authenticate, id, now) {
            Ok(true) => {
                self.history.set(State::Authenticating, why, now);
                self.pump(now);
            }
            Ok(false) => self.prepare(0, why, now),
            Err(unsaid) => self.cannot_introduce(&What::Authenticate, unsaid, now),
        }
    }

    /// Goes on with what prepares the connection, or with what comes after it.
    fn prepare(&mut self, step: u32, why: &str, now: Instant) {
        if self.closing {
            return;
        }
        let id = self.requests.peek_id();
        match self.introduce(What::Prepare(step), id, now) {
            Ok(true) if step >= MAX_STEPS => {
                let reason = format!("more than {MAX_STEPS} messages are too many");
                self.cannot_introduce(&What::Prepare(step), Unsupported { reason }, now);
            }
            Ok(true) => {
                self.requests.next_id();
                self.history.set(State::Preparing, why, now);
                self.pump(now);
            }
            Ok(false) => self.begin_restore(why, now),
            Err(unsaid) => self.cannot_introduce(&What::Prepare(step), unsaid, now),
        }
    }

    /// Has the protocol write such a message, to go out ahead of all that waits. False if there is none.
    pub(super) fn introduce(&mut self, what: What, id: u64, now: Instant) -> Result<bool, Unsupported> {
        let mut text = String::new();
        let Some(ack) = self.write_introduction(&what, id, &mut text, now)? else { return Ok(false) };
        self.outbox.introduction = Some(Introduction { id, text, ack, what, written: now });
        Ok(true)
    }

    /// `None`: there is none.
    fn write_introduction(
        &self,
        what: &What,
        id: u64,
        out: &mut String,
        now: Instant,
    ) -> Result<Option<Ack>, Unsupported> {
        let Some(index) = self.current else { return Ok(None) };
        let (protocol, context) = (&self.config.protocol, self.links[index].context(self.clock.wall(now)));
        let ack = match what {
            What::Prepare(step) => protocol.prepare(*step, id, &context, out)?,
            _ => protocol.authenticate(id, &context, out)?,
        };
        Ok((!out.is_empty()).then_some(ack))
    }

    /// It can go out now.
    pub(super) fn let_introduction_out(&mut self, index: usize, now: Instant) {
        let Some(introduction) = self.outbox.introduction.take() else { return };
        let Introduction { mut id, mut text, mut ack, what, written } = introduction;
        let taken = self.requests.is_live(id);
        // The limiter held it back, and a signature does not keep; or the user has named that id since.
        if written != now || taken {
            id = if taken { self.requests.next_id() } else { id };
            text.clear();
            ack = match self.write_introduction(&what, id, &mut text, now) {
                Ok(again) => again.unwrap_or(Ack::None),
                Err(unsaid) => return self.cannot_introduce(&what, unsaid, now),
            };
        }
        // What prepares a connection has no message of its own that would answer it.
        if matches!((&what, ack), (What::Prepare(_), Ack::Separate)) {
            ack = Ack::Response;
        }
        self.text = text;
        let said = !self.text.is_empty();
        if said {
            self.send_text(index, id, ack, what.clone(), now);
        }
        match what {
            _ if ack != Ack::None => {}
            What::Prepare(step) if said => self.prepared(step, now),
            What::Prepare(_) => self.begin_restore("prepared", now),
            _ => self.authentication_done("authentication sent", now),
        }
    }

    /// The protocol cannot write what the connection is of no use without. One that works already goes on for as long as it can.
    pub(super) fn cannot_introduce(&mut self, what: &What, unsaid: Unsupported, now: Instant) {
        self.outbox.introduction = None;
        let what = match what {
            What::Prepare(_) => "what prepares the connection",
            _ => "the authentication",
        };
        let error = Error::Unsupported(Unsupported { reason: format!("write {what}: {}", unsaid.reason) });
        match self.history.state {
            State::Online => self.cannot_reauthenticate(error, now),
            // The user leaves anyway.
            State::Closing => {}
            // Whatever has come is told first, be it that the limiter held this back until a user had to be waited for.
            _ => self.outbox.unsaid = Some(error),
        }
    }

    /// The server answered our authentication, the first on the connection or another one.
    pub(super) fn authentication_answered(&mut self, index: usize, at: Place, ok: bool, now: Instant) {
        let text = self.links[index].receiver.text(at);
        if !ok {
            self.fault_recovery = self.config.protocol.recovery(Fault::Authentication(text));
            let error = Error::Authentication(self.server_refusal(text));
            return self.failed(index, error, now);
        }
        let life = self.config.protocol.authenticated(text);
        self.links[index].granted = Granted(Some(text.to_owned()));
        self.authentication_lasts(life, now);
        self.events.push_back(Queued::Authenticated { epoch: self.epoch });
        self.authentication_done("authenticated", now);
    }

    /// The server told the outcome of an authentication without an id. False if none is awaited.
    pub(super) fn authentication_told(&mut self, index: usize, at: Place, ok: bool, now: Instant) -> bool {
        let Some(sent) = self.requests.told_authentication() else { return false };
        if let Some(sent) = sent {
            self.timings.request.record(now.saturating_duration_since(sent.at));
        }
        self.authentication_answered(index, at, ok, now);
        true
    }

    /// Nothing more is to be waited for, be it that the server answered or that it never does.
    pub(super) fn authentication_done(&mut self, why: &str, now: Instant) {
        self.reauthenticated();
        if self.history.state == State::Authenticating {
            self.prepare(0, why, now);
        }
    }

    /// The server answered what prepares the connection.
    pub(super) fn preparation_answered(
        &mut self,
        step: u32,
        index: usize,
        at: Place,
        ok: bool,
        now: Instant,
    ) {
        if ok {
            return self.prepared(step, now);
        }
        let text = self.links[index].receiver.text(at);
        self.fault_recovery = self.config.protocol.recovery(Fault::Preparation(text));
        let error = Error::Preparation(self.server_refusal(text));
        self.failed(index, error, now);
    }

    /// This step is done.
    fn prepared(&mut self, step: u32, now: Instant) {
        if self.history.state == State::Preparing {
            self.prepare(step + 1, "prepared", now);
        }
    }

    /// What the server said, for an error.
    fn server_refusal(&self, text: &str) -> Refusal {
        let error = self.config.protocol.error(text);
        Refusal::new(&error.message, (error.code != 0).then_some(error.code))
    }
}
