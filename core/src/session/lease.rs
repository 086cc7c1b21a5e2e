//! Events as they wait to be told, and events taken away from the session for a while.

use super::closing::SessionEnd;
use super::config::Refresh;
use super::event::{Epoch, Event, Gap, Outcome, RequestId, SendId, SubscriptionId, Unanswered, Unsent};
use super::limiter::Pressure;
use super::output::ConnId;
use super::watch::Step;
use super::{Announced, Session};
use crate::error::Error;
use crate::message::Message;
use crate::protocol::{Protocol, RpcError};
use crate::record::Input;
use crate::ws::Kind;
use crate::ws::handshake::Upgraded;
use crate::ws::receiver::Place;
use crate::ws::utf8;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An event that does not borrow, waiting its turn.
#[derive(Debug)]
pub(crate) enum Queued {
    Online {
        epoch: Epoch,
        resumed: bool,
        upgraded: Box<Upgraded>,
    },
    Unanswered {
        id: RequestId,
        maybe_sent: bool,
        why: Unanswered,
    },
    Subscribed {
        id: SubscriptionId,
        topic: String,
        epoch: Epoch,
    },
    Rejected {
        id: SubscriptionId,
        topic: String,
        reason: String,
        retry_at: Option<Instant>,
        epoch: Epoch,
    },
    Gap(Gap),
    Authenticated {
        epoch: Epoch,
    },
    Refreshed {
        by: Refresh,
        expires_at: Option<Instant>,
        epoch: Epoch,
    },
    RefreshFailed {
        failures: u32,
        error: Error,
        retry_at: Option<Instant>,
        expires_at: Option<Instant>,
        epoch: Epoch,
    },
    Stale {
        subscription: Option<(SubscriptionId, String)>,
        silence: Duration,
        step: Step,
        epoch: Epoch,
    },
    Pressure {
        level: Pressure,
        waiting: usize,
        delay: Duration,
    },
    Expired {
        id: SendId,
    },
    Pong {
        rtt: Duration,
        epoch: Epoch,
    },
    Writable,
    Lost {
        epoch: Epoch,
        error: Error,
        retry_at: Option<Instant>,
        unsent: Unsent,
    },
    AttemptFailed {
        failures: u32,
        error: Error,
        retry_at: Option<Instant>,
    },
    Closed(SessionEnd),
}

/// The announced event, taken out of the session together with the bytes that it borrows from: so that a driver that shares the
/// session behind a lock can let go of the lock while its user looks at a message, and still copy nothing.
///
/// Until it is given back ([`Session::give_back`]), `poll_output` says [`Output::Event`](super::Output::Event), `event` is `None`, and `recv_buffer` is
/// empty. Everything else about the session may be used meanwhile.
pub struct Lease {
    session: u64,
    announced: Announced,
    conn: Option<ConnId>,
    bytes: Vec<u8>,
    queued: Option<Queued>,
    epoch: Epoch,
    /// Of an error, for it knows how to read that.
    protocol: Option<Arc<dyn Protocol>>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Lease {
    /// The event.
    #[inline]
    pub fn event(&self) -> Event<'_> {
        let protocol = self.protocol.as_deref();
        match view(self.announced, &self.bytes, self.queued.as_ref(), self.epoch, protocol) {
            Some(event) => event,
            None => unreachable!("a lease is made of an event"),
        }
    }
}

/// The event that `announced` stands for: `bytes` is what its place lies in, `queued` what was taken off the queue for it.
pub(super) fn view<'a>(
    announced: Announced,
    bytes: &'a [u8],
    queued: Option<&'a Queued>,
    epoch: Epoch,
    protocol: Option<&dyn Protocol>,
) -> Option<Event<'a>> {
    let message = |kind, at: Place| match kind {
        Kind::Text => Message::Text(utf8::checked_text(at.of(bytes))),
        Kind::Binary => Message::Binary(at.of(bytes)),
    };
    Some(match announced {
        Announced::Message { kind, at, subscription, .. } => {
            Event::Message { message: message(kind, at), epoch, subscription }
        }
        Announced::Chunk { kind, at, last, .. } => Event::Chunk { part: message(kind, at), last, epoch },
        Announced::Response { id, ok, at, .. } => {
            let text = utf8::checked_text(at.of(bytes));
            let error = || protocol.map_or_else(|| RpcError::parse(text), |protocol| protocol.error(text));
            Event::Response { id, outcome: Outcome::Answered(if ok { Ok(text) } else { Err(error()) }) }
        }
        Announced::Request { id, method, params, .. } => {
            let text = |at: Place| utf8::checked_text(at.of(bytes));
            Event::Request { id: text(id), method: text(method), params: params.map(text), epoch }
        }
        Announced::Notice { at, recovery, .. } => {
            Event::Notice { text: utf8::checked_text(at.of(bytes)), recovery, epoch }
        }
        Announced::Queued => queued?.event(),
        Announced::Nothing | Announced::Leased => return None,
    })
}

impl Session {
    /// Takes the announced event out of the session, for as long as the [`Lease`] says. `None` if none is announced.
    pub fn lease(&mut self) -> Option<Lease> {
        let announced = self.announced;
        if self.tap.is_some() && !matches!(announced, Announced::Nothing | Announced::Leased) {
            self.tap(Input::Taken { leased: true }, None);
        }
        let (mut conn, mut bytes, mut queued) = (None, Vec::new(), None);
        match announced {
            Announced::Nothing | Announced::Leased => return None,
            Announced::Queued => queued = Some(self.events.pop_front()?),
            Announced::Message { link, at, .. }
            | Announced::Chunk { link, at, .. }
            | Announced::Response { link, at, .. }
            | Announced::Request { link, id: at, .. }
            | Announced::Notice { link, at, .. } => {
                conn = Some(self.links[link].id);
                bytes = self.links[link].receiver.lend(at);
            }
        }
        self.announced = Announced::Leased;
        let refused = matches!(announced, Announced::Response { ok: false, .. });
        let protocol = refused.then(|| self.config.protocol.clone());
        Some(Lease { session: self.identity, announced, conn, bytes, queued, epoch: self.epoch, protocol })
    }

    /// Gives back what [`lease`](Self::lease) took. What another session lent is dropped.
    pub fn give_back(&mut self, lease: Lease) {
        if lease.session != self.identity || self.announced != Announced::Leased {
            return;
        }
        if self.tap.is_some() {
            self.tap(Input::GivenBack, None);
        }
        self.announced = Announced::Nothing;
        match lease.announced {
            Announced::Nothing | Announced::Queued | Announced::Leased => {}
            Announced::Message { at, .. }
            | Announced::Chunk { at, .. }
            | Announced::Response { at, .. }
            | Announced::Request { id: at, .. }
            | Announced::Notice { at, .. } => {
                if let Some(index) = lease.conn.and_then(|conn| self.link_index(conn)) {
                    self.links[index].receiver.restore(at, lease.bytes);
                }
            }
        }
    }

    pub(super) fn event_slow(&mut self) -> Option<Event<'_>> {
        let announced = self.announced;
        let bytes = match announced {
            Announced::Leased => return None,
            Announced::Nothing => &[],
            Announced::Queued => {
                self.told = self.events.pop_front();
                &[]
            }
            Announced::Message { link, at, .. }
            | Announced::Chunk { link, at, .. }
            | Announced::Response { link, at, .. }
            | Announced::Request { link, id: at, .. }
            | Announced::Notice { link, at, .. } => self.links[link].receiver.storage(at),
        };
        self.announced = Announced::Nothing;
        view(announced, bytes, self.told.as_ref(), self.epoch, Some(&*self.config.protocol))
    }
}

impl Queued {
    pub(super) fn event(&self) -> Event<'_> {
        match self {
            Self::Online { epoch, resumed, upgraded } => {
                Event::Online { epoch: *epoch, resumed: *resumed, headers: &upgraded.headers }
            }
            Self::Unanswered { id, maybe_sent, why } => Event::Response {
                id: *id,
                outcome: if *maybe_sent { Outcome::SentUnknown(*why) } else { Outcome::NotSent(*why) },
            },
            Self::Subscribed { id, topic, epoch } => Event::Subscribed { id: *id, topic, epoch: *epoch },
            Self::Rejected { id, topic, reason, retry_at, epoch } => {
                Event::Rejected { id: *id, topic, reason, retry_at: *retry_at, epoch: *epoch }
            }
            Self::Gap(gap) => Event::Gap(gap),
            Self::Authenticated { epoch } => Event::Authenticated { epoch: *epoch },
            Self::Refreshed { by, expires_at, epoch } => {
                Event::Refreshed { by: *by, expires_at: *expires_at, epoch: *epoch }
            }
            Self::RefreshFailed { failures, error, retry_at, expires_at, epoch } => Event::RefreshFailed {
                failures: *failures,
                error,
                retry_at: *retry_at,
                expires_at: *expires_at,
                epoch: *epoch,
            },
            Self::Stale { subscription, silence, step, epoch } => Event::Stale {
                subscription: subscription.as_ref().map(|(id, topic)| (*id, &**topic)),
                silence: *silence,
                step: *step,
                epoch: *epoch,
            },
            Self::Pressure { level, waiting, delay } => {
                Event::Pressure { level: *level, waiting: *waiting, delay: *delay }
            }
            Self::Expired { id } => Event::Expired { id: *id },
            Self::Pong { rtt, epoch } => Event::Pong { rtt: *rtt, epoch: *epoch },
            Self::Writable => Event::Writable,
            Self::Lost { epoch, error, retry_at, unsent } => {
                Event::Lost { epoch: *epoch, error, retry_at: *retry_at, unsent }
            }
            Self::AttemptFailed { failures, error, retry_at } => {
                Event::AttemptFailed { failures: *failures, error, retry_at: *retry_at }
            }
            Self::Closed(end) => Event::Closed { error: end.error.as_ref(), unsent: &end.unsent },
        }
    }
}
