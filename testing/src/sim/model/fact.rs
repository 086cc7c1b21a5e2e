//! What a run is made of: what the venue saw and did, what the user did, and what the session told him.

use super::super::since_start;
use super::super::venue::Snub;
use everwire_core::transport::tls::TlsError;
use everwire_core::ws::handshake::HandshakeError;
use everwire_core::{
    Error, GapCause, OnDisconnect, OwnedEvent, OwnedOutcome, Session, State, Step, SubscriptionState,
    Timeout, Unanswered,
};
use std::time::{Duration, Instant, SystemTime};

/// One thing that happened. The order of facts is that of the run.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// At the venue, on this connection.
    Venue(u64, Saw),
    /// The user called the session.
    Did(Did),
    /// The session told its user.
    Told(Told),
    /// The session began to connect.
    Dialed {
        /// The connection.
        conn: u64,
        /// To this port.
        port: u16,
    },
    /// A look at the session from outside.
    Look(Look),
}

/// What the venue saw a client do, or did itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are as the texts of the variants say")]
pub enum Saw {
    /// It answered the handshake with this status. `retry_after` is what it said of when to come again.
    Refused { status: u16, retry_after: Option<Duration> },
    /// It failed a TLS client in this way, as soon as that said anything.
    Snubbed { how: Snub },
    /// It accepted the handshake.
    Upgraded,
    /// The client authenticated, rightly or not.
    Authenticated { rightly: bool },
    /// It told the client that it is authenticated.
    Admitted,
    /// The client asked to subscribe to these, in one message.
    Asked { topics: Vec<String> },
    /// It said that this topic is subscribed to, to who asked at `asked`.
    Acked { topic: String, asked: Duration },
    /// This topic is in force from now on; data begins behind number `after`.
    Granted { topic: String, after: u64 },
    /// This topic will not be in force, and the client is told so.
    Denied { topic: String },
    /// This topic is in force no more. The client asked for that, or it is the venue's own doing.
    Dropped { topic: String, asked: bool },
    /// It sent a message that is not the answer to a request. One that is not `must` may be kept from the user: a duplicate.
    Sent { text: String, must: bool },
    /// It sent the answer to a request: nobody's message, unless nobody waits for it any more.
    Answered { id: u64, text: String },
    /// The client's message arrived.
    Message { text: String },
    /// The client's request arrived.
    Request { id: u64, method: String, params: String },
    /// A ping of the client arrived, and was answered or, by a venue that is frozen, not.
    Ping { answered: bool },
    /// It went on strike: it reads and says nothing any more.
    Froze,
    /// It sent a close frame, for this reason.
    Closing { code: u16, blame: Blame },
    /// The client's close frame arrived.
    Closed { code: u16 },
    /// The client broke a protocol.
    Fault { what: String },
    /// The venue ended the TCP connection.
    Left,
    /// The TCP connection ended without its doing.
    Ended,
}

/// Why a venue closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client did nothing wrong.
    Venue,
    /// The client closed first.
    Answer,
    /// More was sent than its limit allows.
    Limit,
    /// Something was asked without authentication, or that was wrong.
    Authentication,
    /// A heartbeat was not answered in time.
    Heartbeat,
}

/// What the user did, with what the session answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are as the texts of the variants say")]
pub enum Did {
    /// Sent a message that no other has the text of, while `epoch` was online.
    ///
    /// It may wait for a limit until `expires`; one that is `urgent` goes before those that are not.
    Send { id: u64, text: String, epoch: u64, urgent: bool, expires: Duration },
    /// Made a request. `epoch` is the connection that it went out on at once; `None` if it has to wait for one.
    Request {
        id: u64,
        method: String,
        params: String,
        on_disconnect: OnDisconnect,
        deadline: Duration,
        epoch: Option<u64>,
        urgent: bool,
    },
    /// Cancelled a request; `found` if it was unsettled.
    Cancel { id: u64, found: bool },
    /// Subscribed.
    Subscribe { id: u64, topic: String },
    /// Gave up a reference; `found` if the subscription was there.
    Unsubscribe { id: u64, found: bool },
    /// Asked for another connection.
    Reconnect,
    /// Closed the session.
    Close,
    /// Took no events from then on, or began to do so again.
    Pause { paused: bool },
    /// Was not run at all since this time: his process slept.
    Slept { since: Duration },
}

/// An event of the session: its `OwnedEvent`, in plain numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as at `everwire_core::Event`")]
pub enum Told {
    /// `conn` is the connection that the venue named in the handshake.
    Online {
        epoch: u64,
        resumed: bool,
        conn: Option<u64>,
    },
    Message {
        epoch: u64,
        text: String,
        subscription: Option<u64>,
    },
    Response {
        id: u64,
        answer: Answer,
    },
    Subscribed {
        id: u64,
        topic: String,
        epoch: u64,
    },
    Rejected {
        id: u64,
        topic: String,
        epoch: u64,
    },
    Gap {
        topics: Vec<(u64, String)>,
        before: u64,
        after: u64,
        since: Duration,
        until: Duration,
        cause: GapCause,
    },
    Authenticated {
        epoch: u64,
    },
    Expired {
        id: u64,
    },
    Pressure {
        waiting: usize,
    },
    /// `id` is `None` for the whole connection.
    Stale {
        id: Option<u64>,
        step: Step,
    },
    Request {
        epoch: u64,
        id: String,
    },
    Pong {
        rtt: Duration,
    },
    Writable,
    Lost {
        epoch: u64,
        cause: Cause,
        retry_at: Option<Duration>,
        not_sent: (u64, u64),
        waiting: Vec<u64>,
        cut: Option<u64>,
    },
    AttemptFailed {
        failures: u32,
        cause: Cause,
        retry_at: Option<Duration>,
    },
    Closed {
        cause: Option<Cause>,
        not_sent: (u64, u64),
        waiting: Vec<u64>,
        cut: Option<u64>,
    },
    /// An event that the model has no rule for.
    Other {
        name: String,
    },
}

/// How a request was settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With this result.
    Result(String),
    /// With an error of this code.
    Error(i64),
    /// Not sent.
    NotSent(Unanswered),
    /// Sent, perhaps.
    SentUnknown(Unanswered),
}

/// Why a connection or an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The handshake was refused with this status, and this time to wait.
    Refused(u16, Option<Duration>),
    /// The peer's close frame.
    Closed(u16),
    /// TCP ended.
    Disconnected,
    /// Something took too long.
    Timeout(Timeout),
    /// The user asked for it.
    Reconnect,
    /// The peer broke the protocol.
    Protocol,
    /// TLS failed.
    Tls(TlsCause),
    /// The venue refused the authentication.
    Authentication,
    /// Anything else.
    Other,
}

/// Why TLS failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsCause {
    /// The server's certificate is not to be trusted.
    Certificate,
    /// The server does not speak TLS.
    NotTls,
    /// The server's alert, of this number.
    Alert(u8),
    /// The connection ended before the handshake did.
    Ended,
    /// Anything else: what is wrong may not stay so.
    Broken,
}

/// The session, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its state.
    pub state: State,
    /// Its last changes of state: when, from and to.
    pub transitions: Vec<(Duration, State, State)>,
    /// Bytes that it received in all its life.
    pub received: u64,
    /// Its subscriptions.
    pub subscriptions: Vec<(u64, String, SubscriptionState)>,
}

impl Look {
    /// Looks at a session.
    pub fn at(session: &Session, now: Instant) -> Self {
        let status = session.status(now);
        Self {
            state: status.state,
            transitions: status.transitions.iter().map(|t| (since_start(t.at), t.from, t.to)).collect(),
            received: session.stats().bytes_received,
            subscriptions: session
                .subscriptions()
                .map(|one| (one.id.as_u64(), one.topic.to_owned(), one.state))
                .collect(),
        }
    }
}

/// The header by which the venue tells the client, in the handshake, which connection it is.
pub(crate) const CONNECTION: &str = "X-Connection";

impl From<&OwnedEvent> for Told {
    fn from(event: &OwnedEvent) -> Self {
        match event {
            OwnedEvent::Online { epoch, resumed, headers, .. } => Self::Online {
                epoch: epoch.as_u64(),
                resumed: *resumed,
                conn: headers.first(CONNECTION).and_then(|conn| conn.parse().ok()),
            },
            OwnedEvent::Message { message, epoch, subscription } => Self::Message {
                epoch: epoch.as_u64(),
                text: message.to_text().unwrap_or_default().to_owned(),
                subscription: subscription.map(|id| id.as_u64()),
            },
            OwnedEvent::Response { id, outcome } => {
                let answer = match outcome {
                    OwnedOutcome::Answered(Ok(result)) => Answer::Result(result.clone()),
                    OwnedOutcome::Answered(Err(error)) => Answer::Error(error.code),
                    OwnedOutcome::NotSent(why) => Answer::NotSent(*why),
                    OwnedOutcome::SentUnknown(why) => Answer::SentUnknown(*why),
                };
                Self::Response { id: id.as_u64(), answer }
            }
            OwnedEvent::Subscribed { id, topic, epoch } => {
                Self::Subscribed { id: id.as_u64(), topic: topic.clone(), epoch: epoch.as_u64() }
            }
            OwnedEvent::Rejected { id, topic, epoch, .. } => {
                Self::Rejected { id: id.as_u64(), topic: topic.clone(), epoch: epoch.as_u64() }
            }
            OwnedEvent::Gap(gap) => Self::Gap {
                topics: gap.topics.iter().map(|(id, topic)| (id.as_u64(), topic.clone())).collect(),
                before: gap.before.as_u64(),
                after: gap.after.as_u64(),
                since: since_start(gap.since),
                until: since_start(gap.until),
                cause: gap.cause.clone(),
            },
            OwnedEvent::Authenticated { epoch } => Self::Authenticated { epoch: epoch.as_u64() },
            OwnedEvent::Stale { subscription, step, .. } => {
                Self::Stale { id: subscription.as_ref().map(|(id, _)| id.as_u64()), step: *step }
            }
            OwnedEvent::Request { epoch, id, .. } => Self::Request { epoch: epoch.as_u64(), id: id.clone() },
            OwnedEvent::Expired { id } => Self::Expired { id: id.as_u64() },
            OwnedEvent::Pressure { waiting, .. } => Self::Pressure { waiting: *waiting },
            OwnedEvent::Pong { rtt, .. } => Self::Pong { rtt: *rtt },
            OwnedEvent::Writable => Self::Writable,
            OwnedEvent::Lost { epoch, error, retry_at, unsent } => Self::Lost {
                epoch: epoch.as_u64(),
                cause: error.into(),
                retry_at: retry_at.map(since_start),
                not_sent: (unsent.not_sent.start.as_u64(), unsent.not_sent.end.as_u64()),
                waiting: unsent.waiting.iter().map(|id| id.as_u64()).collect(),
                cut: unsent.cut.map(|id| id.as_u64()),
            },
            OwnedEvent::AttemptFailed { failures, error, retry_at } => Self::AttemptFailed {
                failures: *failures,
                cause: error.into(),
                retry_at: retry_at.map(since_start),
            },
            OwnedEvent::Closed { error, unsent } => Self::Closed {
                cause: error.as_ref().map(Cause::from),
                not_sent: (unsent.not_sent.start.as_u64(), unsent.not_sent.end.as_u64()),
                waiting: unsent.waiting.iter().map(|id| id.as_u64()).collect(),
                cut: unsent.cut.map(|id| id.as_u64()),
            },
            other => {
                let name = format!("{other:?}");
                Self::Other { name: name.split([' ', '(']).next().unwrap_or_default().to_owned() }
            }
        }
    }
}

impl From<&Error> for Cause {
    fn from(error: &Error) -> Self {
        match error {
            Error::Handshake(HandshakeError::Refused(refused)) => {
                // The venue speaks in seconds, not in dates.
                let wait = refused.retry_after.map(|after| after.delay(SystemTime::UNIX_EPOCH));
                Self::Refused(refused.status, wait)
            }
            Error::Closed(closed) => Self::Closed(closed.code.into()),
            Error::Disconnected(_) => Self::Disconnected,
            Error::Timeout(timeout) => Self::Timeout(*timeout),
            Error::Reconnect => Self::Reconnect,
            Error::Protocol(_) => Self::Protocol,
            Error::Tls(error) => Self::Tls(error.into()),
            Error::Authentication(_) => Self::Authentication,
            _ => Self::Other,
        }
    }
}

impl From<&TlsError> for TlsCause {
    fn from(error: &TlsError) -> Self {
        match error {
            TlsError::Certificate(_) => Self::Certificate,
            TlsError::NotTls { .. } => Self::NotTls,
            TlsError::Alert(alert) => Self::Alert(alert.code()),
            TlsError::HandshakeEof => Self::Ended,
            _ => Self::Broken,
        }
    }
}
