//! What a recorder is told.
//!
//! A call from outside is told at its beginning, what came of it at the next call or at the end of `poll_output`, with the time of the call
//! that it came of. What the pieces below do (frames, handshakes, states) they only note, as they know neither recorder nor time.

use super::event::{Epoch, RequestId, Unanswered};
use super::link::{Link, Note};
use super::output::Output;
use super::user::SendError;
use super::{Announced, ConnId, Session, lease};
use crate::clock::Clock;
use crate::error::Error;
use crate::record::{Entry, Frame, FrameKind, Input, Left, Observed, Recorder, What};
use crate::ws::Kind;
use crate::ws::frame::{BINARY, PING, PONG, TEXT};
use crate::ws::receiver::Inbound;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The way to a recorder.
pub(crate) struct Tap {
    recorder: Arc<dyn Recorder>,
    session: u64,
    clock: Clock,
    /// The moment of the call that is under way.
    now: Instant,
    /// Anything was told since the last `Wait`, and which that was.
    news: bool,
    waits: Option<Output>,
    /// The event that is announced was told.
    announced: bool,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl Tap {
    pub(crate) fn new(recorder: Arc<dyn Recorder>, session: u64, clock: Clock) -> Self {
        Self { recorder, session, clock, now: clock.instant, news: true, waits: None, announced: false }
    }

    pub(crate) fn tell(&mut self, epoch: Epoch, what: What<'_>) {
        self.news = true;
        let at = self.now.saturating_duration_since(self.clock.instant);
        let (start, wall) = (self.clock.instant, self.clock.wall(self.now));
        self.recorder.record(&Entry { session: self.session, start, at, wall, epoch, what });
    }
}

impl Session {
    /// Somebody calls. Without a `now` of its own a call has that of the one before.
    #[cold]
    pub(super) fn tap(&mut self, input: Input<'_>, now: impl Into<Option<Instant>>) {
        self.drain_notes();
        let Some(tap) = &mut self.tap else { return };
        tap.now = now.into().unwrap_or(tap.now);
        if let Input::Taken { .. } = input {
            tap.announced = false;
        }
        tap.tell(self.epoch, What::Input(input));
    }

    /// What came of the call that is under way.
    #[cold]
    pub(super) fn observe(&mut self, observed: Observed<'_>) {
        self.drain_notes();
        if let Some(tap) = &mut self.tap {
            tap.tell(self.epoch, What::Observed(observed));
        }
    }

    /// The user's wish was not granted.
    #[cold]
    pub(super) fn tap_refused<T>(&mut self, result: &Result<T, SendError>) {
        if let Err(error) = result {
            self.observe(Observed::Refused(error));
        }
    }

    /// A request that a handle awaits failed, and that is no event.
    pub(super) fn tap_failed(&mut self, id: RequestId, maybe_sent: bool, why: Unanswered) {
        if self.tap.is_some() {
            self.observe(Observed::Failed { id, maybe_sent, why });
        }
    }

    /// What is parsed.
    pub(super) fn tap_inbound(&mut self, index: usize, inbound: Inbound) {
        if self.tap.is_none() {
            return;
        }
        self.drain_notes();
        let (kind, at, last) = match inbound {
            Inbound::Message(kind, at) => (data_kind(kind), at, None),
            Inbound::Chunk { kind, at, last } => (data_kind(kind), at, Some(last)),
            Inbound::Ping(at) => (FrameKind::Ping, at, None),
            Inbound::Pong(at) => (FrameKind::Pong, at, None),
            Inbound::Close(at) => (FrameKind::Close, at, None),
        };
        let link = &self.links[index];
        let frame = Frame { kind, payload: link.receiver.bytes(at), last };
        if let Some(tap) = &mut self.tap {
            tap.tell(self.epoch, What::Observed(Observed::Inbound { conn: link.id, frame }));
        }
    }

    /// `poll_output` is called.
    pub(super) fn tap_poll(&mut self, now: Instant) {
        self.drain_notes();
        if let Some(tap) = &mut self.tap {
            tap.now = now;
        }
    }

    /// What `poll_output` says: each thing once.
    pub(super) fn tap_output(&mut self, output: Output) {
        self.drain_notes();
        let Some(tap) = &mut self.tap else { return };
        match output {
            Output::Event => {
                if std::mem::replace(&mut tap.announced, true) || self.announced == Announced::Leased {
                    return;
                }
                let told = match self.announced {
                    Announced::Queued => self.events.front().map(lease::Queued::event),
                    announced => {
                        let bytes = storage(announced, &self.links);
                        lease::view(announced, bytes, None, self.epoch, Some(&*self.config.protocol))
                    }
                };
                let Some(event) = told else { return };
                tap.tell(self.epoch, What::Observed(Observed::Event(&event)));
            }
            Output::Wait(_) | Output::Closed => {
                if !tap.news && tap.waits == Some(output) {
                    return;
                }
                tap.tell(self.epoch, What::Observed(Observed::Output(output)));
                (tap.news, tap.waits) = (false, Some(output));
            }
            duty => tap.tell(self.epoch, What::Observed(Observed::Output(duty))),
        }
    }

    /// A deadline has passed, and what hung on it is about to be done.
    #[cold]
    pub(super) fn tap_timer(&mut self, due: Instant, now: Instant) {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let links = |of: fn(&Link) -> Option<Instant>| self.links.iter().any(|link| passed(of(link)));
        let classes = [
            ("retry", passed(self.retry_at)),
            ("stable", passed(self.stable_at)),
            ("attempt", passed(self.attempt.as_ref().and_then(super::attempt::Attempt::due))),
            ("close", passed(self.close_deadline())),
            ("request", passed(self.requests.deadline())),
            ("limiter", passed(self.outbox.deadline())),
            ("watch", passed(self.watches_deadline())),
            ("renewal", passed(self.renewal_deadline())),
            ("connection", links(|link| link.deadline)),
            ("ping", links(|link| link.liveness.deadline())),
        ];
        let mut which: Vec<&str> =
            classes.iter().filter(|(_, passed)| *passed).map(|(name, _)| *name).collect();
        if which.is_empty() {
            // What is not in the list: how long a socket takes nothing.
            which.push("write");
        }
        self.observe(Observed::Timer { which: &which.join("+"), due });
    }

    /// Tells what the pieces have noted.
    pub(super) fn drain_notes(&mut self) {
        let Some(tap) = &mut self.tap else { return };
        let epoch = self.epoch;
        for link in &mut self.links {
            let conn = link.id;
            for note in link.notes() {
                let observed = match &note {
                    Note::Request(bytes) => Observed::HandshakeRequest { conn, bytes },
                    Note::Response(bytes) => Observed::HandshakeResponse { conn, bytes },
                    Note::Fault { error, late } => Observed::Fault { conn, error, late: *late },
                };
                tap.tell(epoch, What::Observed(observed));
            }
        }
        for change in self.history.noted() {
            let (from, to) = (change.from, change.to);
            tap.tell(epoch, What::Observed(Observed::State { from, to, why: &change.why }));
        }
        for link in &mut self.links {
            let conn = link.id;
            for (opcode, payload) in link.sender.noted() {
                let frame = Frame { kind: sent_kind(opcode), payload: &payload, last: None };
                tap.tell(epoch, What::Observed(Observed::Outbound { conn, frame }));
            }
            if let Some(left) = link.way_moved() {
                tap.tell(epoch, What::Observed(Observed::Way { conn, left }));
            }
        }
    }

    /// What a connection has to write, once a write is done.
    pub(super) fn left(&self, conn: ConnId) -> Left {
        self.link_index(conn).map(|index| self.links[index].left()).unwrap_or_default()
    }
}

impl Link {
    /// Notes the first bytes of what answered the handshake, for a recorder.
    pub(super) fn note_response(&mut self, len: usize) {
        let Some(notes) = &mut self.notes else { return };
        let bytes = self.receiver.peek();
        if !bytes.is_empty() {
            notes.push(Note::Response(bytes[..len.min(bytes.len())].to_vec()));
        }
    }

    pub(super) fn note_fault(&mut self, error: &Error, late: bool) {
        if let Some(notes) = &mut self.notes {
            notes.push(Note::Fault { error: error.clone(), late });
        }
    }

    /// What is to be told to a recorder since the last call.
    pub(crate) fn notes(&mut self) -> Vec<Note> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What is to be written.
    pub(crate) fn left(&self) -> Left {
        let plain = self.request.len() - self.written + self.sender.queued();
        Left { plain, idle: self.is_idle() }
    }

    /// What is to be written, if something lies between that has moved some of it since the last call.
    pub(crate) fn way_moved(&mut self) -> Option<Left> {
        self.way.as_ref()?;
        let left = self.left();
        (std::mem::replace(&mut self.told, left) != left).then_some(left)
    }
}

fn data_kind(kind: Kind) -> FrameKind {
    match kind {
        Kind::Text => FrameKind::Text,
        Kind::Binary => FrameKind::Binary,
    }
}

fn sent_kind(opcode: u8) -> FrameKind {
    match opcode {
        TEXT => FrameKind::Text,
        BINARY => FrameKind::Binary,
        PING => FrameKind::Ping,
        PONG => FrameKind::Pong,
        _ => FrameKind::Close,
    }
}

/// The bytes that an announced event borrows from.
fn storage(announced: Announced, links: &[Link]) -> &[u8] {
    match announced {
        Announced::Message { link, at, .. }
        | Announced::Chunk { link, at, .. }
        | Announced::Response { link, at, .. }
        | Announced::Request { link, id: at, .. }
        | Announced::Notice { link, at, .. } => links[link].receiver.storage(at),
        Announced::Nothing | Announced::Leased | Announced::Queued => &[],
    }
}
