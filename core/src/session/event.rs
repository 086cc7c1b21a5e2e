//! What the session tells its user.

use super::config::Refresh;
use super::limiter::Pressure;
use super::watch::Step;
use crate::error::Error;
use crate::error::Recovery;
use crate::message::Message;
use crate::protocol::{OwnedRpcError, RpcError};
use crate::ws::Headers;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Counts the connections of a session that became WebSockets: the first is 1. Two items of the same epoch came over the same
/// connection; state built from an older epoch may lack what was sent between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub(crate) u64);

impl Epoch {
    /// The number itself.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// A message that was sent: counts up through the whole session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub(crate) u64);

impl SendId {
    /// The number itself.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// A request that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

impl RequestId {
    /// The number itself: the `id` on the wire.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// A subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(crate) u64);

impl SubscriptionId {
    /// The number itself.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// Something happened. Borrows from the session: messages are not copied.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Connected, and every subscription has been restored or was rejected: what the user sends now is sent.
    Online {
        /// The connection's epoch.
        epoch: Epoch,
        /// Whether there was a connection before.
        resumed: bool,
        /// Headers of the handshake's response. [`Headers::subprotocol`] is the one that the server chose.
        headers: &'a Headers,
    },
    /// A message arrived.
    Message {
        /// The message.
        message: Message<'a>,
        /// The connection's epoch.
        epoch: Epoch,
        /// The subscription that it belongs to, if the protocol tells.
        subscription: Option<SubscriptionId>,
    },
    /// A part of a message longer than `Limits::chunk` arrived. Parts of a text end between characters.
    Chunk {
        /// The part.
        part: Message<'a>,
        /// Whether it is the last.
        last: bool,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// A request is settled.
    Response {
        /// Which.
        id: RequestId,
        /// How.
        outcome: Outcome<'a>,
    },
    /// A subscription is in force.
    Subscribed {
        /// Which.
        id: SubscriptionId,
        /// Its topic's name.
        topic: &'a str,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// A subscription was rejected, or not answered in time.
    Rejected {
        /// Which.
        id: SubscriptionId,
        /// Its topic's name.
        topic: &'a str,
        /// What the server said.
        reason: &'a str,
        /// When it is asked for again on this connection; `None` if only on the next.
        retry_at: Option<Instant>,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// Messages of these topics may have been missed. It comes before the first message after the gap.
    Gap(&'a Gap),
    /// The server took our authentication: the first of a connection, or another one that was made ahead of the expiry of that.
    Authenticated {
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// The provider gave a fresh endpoint ahead of the old one's expiry. With [`Refresh::Reauthenticate`] `Authenticated` follows, or `Lost` if the
    /// server refuses; with [`Refresh::Reconnect`] `Lost` with [`Error::Renewed`].
    Refreshed {
        /// How it takes the old one's place.
        by: Refresh,
        /// When it expires; `None` if it does not.
        expires_at: Option<Instant>,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// The provider failed to give a fresh endpoint ahead of the old one's expiry; or, with [`Error::Unsupported`], the protocol could not write the
    /// authentication that was to be made again. The connection goes on.
    RefreshFailed {
        /// How many times in a row it failed, this one included.
        failures: u32,
        /// Why.
        error: &'a Error,
        /// When it is tried again; `None` if not while this connection lives ([`Recovery::Stop`]).
        retry_at: Option<Instant>,
        /// When the old endpoint expires (see [`AtExpiry`](crate::AtExpiry)), or the old authentication.
        expires_at: Option<Instant>,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// The server asks something: [`Session::respond`](crate::Session::respond) answers it.
    Request {
        /// Its id, as the server wrote it.
        id: &'a str,
        /// The method.
        method: &'a str,
        /// The parameters, as the protocol encodes them.
        params: Option<&'a str>,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// The server says something about the connection: that it will go down, that too much was sent.
    Notice {
        /// What it says.
        text: &'a str,
        /// What the session does about it.
        recovery: Option<Recovery>,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// No message came for long, on a watched topic or on the whole connection.
    Stale {
        /// Which topic; `None` for the connection.
        subscription: Option<(SubscriptionId, &'a str)>,
        /// For how long.
        silence: Duration,
        /// What is done about it.
        step: Step,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// More, or less, waits for the rate limiter than before.
    Pressure {
        /// How much.
        level: Pressure,
        /// How many messages wait.
        waiting: usize,
        /// In about what time one that is sent now will have gone out.
        delay: Duration,
    },
    /// A message that waited for the rate limiter was not sent in its time, and never will be.
    Expired {
        /// Which.
        id: SendId,
    },
    /// A ping was answered.
    Pong {
        /// Round-trip time.
        rtt: Duration,
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// After [`SendError::Full`](crate::SendError::Full): there is room again, for half of `Config::send_buffer` at least.
    Writable,
    /// The connection is lost.
    Lost {
        /// Its epoch.
        epoch: Epoch,
        /// Why.
        error: &'a Error,
        /// When the next attempt begins; `None` if there will be none.
        retry_at: Option<Instant>,
        /// What of the sent messages did not get out.
        unsent: &'a Unsent,
    },
    /// An attempt to connect failed.
    AttemptFailed {
        /// How many in a row did not get online, this one included.
        failures: u32,
        /// Why.
        error: &'a Error,
        /// When the next attempt begins; `None` if there will be none.
        retry_at: Option<Instant>,
    },
    /// The session is over; nothing follows.
    Closed {
        /// Why, if the user did not ask for it.
        error: Option<&'a Error>,
        /// What was accepted and will not be sent, besides what [`Event::Lost`] told. Once the session is closing, no `Lost` is told.
        unsent: &'a Unsent,
    },
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The peer answered: with a result (JSON text), or with an error.
    Answered(Result<&'a str, RpcError<'a>>),
    /// Not one byte of it was sent: doing it again is safe.
    NotSent(Unanswered),
    /// It was sent, at least in part, and no answer came: the peer may have acted on it.
    SentUnknown(Unanswered),
}

/// Why a request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unanswered {
    /// Its time was over.
    Timeout,
    /// The connection was lost.
    ConnectionLost,
    /// It was cancelled.
    Cancelled,
    /// The session was closed.
    Closed,
    /// It waited, or was to be sent again, and the protocol could not write it any more with what is known of the connection that there is now
    /// ([`Protocol::request`](crate::Protocol::request)), such as for want of a token.
    Unsupported,
}

/// Time in which messages may have been missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The subscriptions that it concerns; empty if the session has none, and then it concerns whatever the server pushes.
    pub topics: Vec<(SubscriptionId, String)>,
    /// The last epoch that lacks nothing before `since`.
    pub before: Epoch,
    /// The epoch that continues.
    pub after: Epoch,
    /// When bytes last arrived on the old connection; on the same one, when the topic was last heard of.
    pub since: Instant,
    /// When the new one continued.
    pub until: Instant,
    /// What made it.
    pub cause: GapCause,
}

/// What made a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapCause {
    /// The connection was lost and replaced.
    Reconnect,
    /// The sequence numbers on one connection skipped some. The topic is subscribed to anew.
    Sequence {
        /// The number that should have come.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// A message did not fit the state before it, such as by its checksum. The topic is subscribed to anew.
    Corrupt {
        /// In what way.
        reason: String,
    },
    /// The topic was subscribed to anew because of such a gap: what was sent between its end and its beginning did not come.
    Resync,
    /// Nothing came for too long, and the topic was subscribed to anew.
    Silence,
    /// The server ended the subscription, and it was made anew.
    Ended,
}

/// Messages that `send` took and a connection did not get rid of, before it was lost or the session ended. After a protocol error of the peer
/// there are none: what waited is still written, ahead of the close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// Not one byte of these was written to the connection. They are gone, and safe to send again.
    pub not_sent: Range<SendId>,
    /// These waited for the rate limiter, or went to the connection in another order than they were made. Not one byte of them was written.
    pub waiting: Vec<SendId>,
    /// This one was written in part. The rest of its frame may have followed ahead of a close frame, so that the peer may have got it.
    pub cut: Option<SendId>,
}

impl Unsent {
    /// None of those up to and with the `last`.
    pub(crate) fn none(last: u64) -> Self {
        Self { not_sent: SendId(last + 1)..SendId(last + 1), waiting: Vec::new(), cut: None }
    }

    /// How many messages were not sent, the one that was cut included.
    pub fn count(&self) -> u64 {
        self.not_sent.end.0 - self.not_sent.start.0
            + self.waiting.len() as u64
            + u64::from(self.cut.is_some())
    }

    /// Whether not one byte of this message was written.
    pub fn contains(&self, id: SendId) -> bool {
        self.not_sent.contains(&id) || self.waiting.contains(&id)
    }
}

/// [`Event`], owned: what crosses tasks and threads. Messages are tungstenite's.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[expect(missing_docs, reason = "as documented at `Event`")]
pub enum OwnedEvent {
    Online {
        epoch: Epoch,
        resumed: bool,
        headers: Headers,
    },
    Message {
        message: tungstenite::Message,
        epoch: Epoch,
        subscription: Option<SubscriptionId>,
    },
    Chunk {
        part: tungstenite::Message,
        last: bool,
        epoch: Epoch,
    },
    Response {
        id: RequestId,
        outcome: OwnedOutcome,
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
    Request {
        id: String,
        method: String,
        params: Option<String>,
        epoch: Epoch,
    },
    Notice {
        text: String,
        recovery: Option<Recovery>,
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
    Closed {
        error: Option<Error>,
        unsent: Unsent,
    },
    /// The user was too slow, and `dropped` messages of the subscription (1 at least, since the last report on it) were lost here, as
    /// [`Overflow`](crate::Overflow) says. Only [`Events`](crate::Events) tell that. `ended` is true with [`Overflow::Close`](crate::Overflow::Close): the
    /// subscription is ended, and no message of it follows. `subscription` is always there yet: other messages are never lost.
    Overflowed {
        subscription: Option<SubscriptionId>,
        dropped: u64,
        ended: bool,
    },
}

/// [`Outcome`], owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedOutcome {
    /// The peer answered.
    Answered(Result<String, OwnedRpcError>),
    /// Not one byte of it was sent.
    NotSent(Unanswered),
    /// It was sent, at least in part, and no answer came.
    SentUnknown(Unanswered),
}

impl Event<'_> {
    /// A copy that owns everything.
    pub fn to_owned(&self) -> OwnedEvent {
        match self {
            Self::Online { epoch, resumed, headers } => {
                OwnedEvent::Online { epoch: *epoch, resumed: *resumed, headers: (*headers).clone() }
            }
            Self::Message { message, epoch, subscription } => OwnedEvent::Message {
                message: message.to_owned(),
                epoch: *epoch,
                subscription: *subscription,
            },
            Self::Chunk { part, last, epoch } => {
                OwnedEvent::Chunk { part: part.to_owned(), last: *last, epoch: *epoch }
            }
            Self::Response { id, outcome } => OwnedEvent::Response { id: *id, outcome: outcome.to_owned() },
            Self::Subscribed { id, topic, epoch } => {
                OwnedEvent::Subscribed { id: *id, topic: (*topic).to_owned(), epoch: *epoch }
            }
            Self::Rejected { id, topic, reason, retry_at, epoch } => OwnedEvent::Rejected {
                id: *id,
                topic: (*topic).to_owned(),
                reason: (*reason).to_owned(),
                retry_at: *retry_at,
                epoch: *epoch,
            },
            Self::Gap(gap) => OwnedEvent::Gap((*gap).clone()),
            Self::Authenticated { epoch } => OwnedEvent::Authenticated { epoch: *epoch },
            Self::Refreshed { by, expires_at, epoch } => {
                OwnedEvent::Refreshed { by: *by, expires_at: *expires_at, epoch: *epoch }
            }
            Self::RefreshFailed { failures, error, retry_at, expires_at, epoch } => {
                OwnedEvent::RefreshFailed {
                    failures: *failures,
                    error: (*error).clone(),
                    retry_at: *retry_at,
                    expires_at: *expires_at,
                    epoch: *epoch,
                }
            }
            Self::Request { id, method, params, epoch } => OwnedEvent::Request {
                id: (*id).to_owned(),
                method: (*method).to_owned(),
                params: params.map(str::to_owned),
                epoch: *epoch,
            },
            Self::Notice { text, recovery, epoch } => {
                OwnedEvent::Notice { text: (*text).to_owned(), recovery: *recovery, epoch: *epoch }
            }
            Self::Stale { subscription, silence, step, epoch } => OwnedEvent::Stale {
                subscription: subscription.map(|(id, topic)| (id, topic.to_owned())),
                silence: *silence,
                step: *step,
                epoch: *epoch,
            },
            Self::Pressure { level, waiting, delay } => {
                OwnedEvent::Pressure { level: *level, waiting: *waiting, delay: *delay }
            }
            Self::Expired { id } => OwnedEvent::Expired { id: *id },
            Self::Pong { rtt, epoch } => OwnedEvent::Pong { rtt: *rtt, epoch: *epoch },
            Self::Writable => OwnedEvent::Writable,
            Self::Lost { epoch, error, retry_at, unsent } => OwnedEvent::Lost {
                epoch: *epoch,
                error: (*error).clone(),
                retry_at: *retry_at,
                unsent: (*unsent).clone(),
            },
            Self::AttemptFailed { failures, error, retry_at } => OwnedEvent::AttemptFailed {
                failures: *failures,
                error: (*error).clone(),
                retry_at: *retry_at,
            },
            Self::Closed { error, unsent } => {
                OwnedEvent::Closed { error: error.cloned(), unsent: (*unsent).clone() }
            }
        }
    }
}

impl Outcome<'_> {
    /// A copy that owns everything.
    pub fn to_owned(&self) -> OwnedOutcome {
        match self {
            Self::Answered(Ok(result)) => OwnedOutcome::Answered(Ok((*result).to_owned())),
            Self::Answered(Err(error)) => OwnedOutcome::Answered(Err(error.clone().into_owned())),
            Self::NotSent(why) => OwnedOutcome::NotSent(*why),
            Self::SentUnknown(why) => OwnedOutcome::SentUnknown(*why),
        }
    }
}
