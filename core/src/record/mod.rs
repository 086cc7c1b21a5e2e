//! What a session was told and what it said, for a [`Recorder`]: one [`Entry`] for each.
//!
//! Every entry is an [`Input`], a call that somebody made, or an [`Observed`], what came of it. A session is a function of its seed and its
//! inputs, so that a record is enough to have it all again: [`Player`] gives a session the inputs of a record, and the entries that its own
//! recorder gets must be the same. `everwire-record` writes entries to files and does that.
//!
//! Entries hold what was sent and received as it is, **secrets included**. Whoever keeps them must take those out; `everwire-record` does.

mod endpoint;
mod fault;

pub use crate::session::player::{Fed, Player};
pub use endpoint::EndpointRecord;
pub use fault::{FaultRecord, ProtocolRecord};

use crate::error::{Disconnect, Error, ProviderError, ResolveError};
use crate::message::Message;
use crate::protocol::{OwnedRpcError, Request, Topic};
use crate::session::{
    AttemptId, CloseOptions, Config, ConnId, Epoch, Event, Output, RequestId, RequestOptions, SendError,
    SendOptions, State, SubscribeOptions, SubscriptionId,
};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Gets every entry of a session, as it happens: [`Config::recorder`].
///
/// It is called with the session locked, in the middle of its work: it must not wait, and must not use a handle of the session.
pub trait Recorder: fmt::Debug + Send + Sync {
    /// Takes note of an entry.
    fn record(&self, entry: &Entry<'_>);
}

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The session that it belongs to: unique in this process.
    pub session: u64,
    /// When its session was made, on the monotonic clock: what [`Instant`]s within the entry count from.
    pub start: Instant,
    /// When, counted from the start. It is the `now` of the call that is under way.
    pub at: Duration,
    /// The same moment on the wall clock, as the clock that the session was made with has it.
    pub wall: SystemTime,
    /// The epoch of the session: that of the connection that is in force, or was last.
    pub epoch: Epoch,
    /// What happened.
    pub what: What<'a>,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum What<'a> {
    /// A session was made.
    Start {
        /// Its configuration.
        config: &'a Config,
        /// All of its entropy. Who knows it knows the masks of its frames.
        seed: [u8; 32],
    },
    /// Somebody called.
    Input(Input<'a>),
    /// What came of it.
    Observed(Observed<'a>),
}

/// A call of the driver or of the user.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
#[expect(missing_docs, reason = "named as the calls of `Session` and their arguments")]
pub enum Input<'a> {
    Endpoint {
        attempt: AttemptId,
        result: Result<&'a crate::Endpoint, &'a ProviderError>,
    },
    Resolved {
        attempt: AttemptId,
        result: Result<&'a [SocketAddr], &'a ResolveError>,
    },
    Connected {
        conn: ConnId,
    },
    Disconnected {
        conn: ConnId,
        cause: &'a Disconnect,
    },
    /// So many bytes came off the socket. What they were is observed when it is parsed.
    Received {
        conn: ConnId,
        len: usize,
    },
    /// So many bytes were written.
    Transmitted {
        conn: ConnId,
        len: usize,
        left: Left,
    },
    Timeout,
    /// The announced event was taken, for a while if it was leased.
    Taken {
        leased: bool,
    },
    GivenBack,
    Send {
        message: Message<'a>,
        options: &'a SendOptions,
    },
    Request {
        request: Request<'a>,
        options: &'a RequestOptions,
    },
    Notify {
        request: Request<'a>,
        options: &'a SendOptions,
    },
    Batch {
        requests: &'a [Request<'a>],
        options: &'a RequestOptions,
    },
    Respond {
        epoch: Epoch,
        id: &'a str,
        result: Result<&'a str, &'a OwnedRpcError>,
    },
    Cancel {
        id: RequestId,
    },
    Subscribe {
        topic: &'a Topic,
        options: &'a SubscribeOptions,
    },
    Unsubscribe {
        id: SubscriptionId,
    },
    /// A reader was too slow, and its subscription is ended: [`Overflow::Close`](crate::Overflow::Close).
    EndSubscription {
        id: SubscriptionId,
    },
    /// A handle awaits this request: its failure is told at once.
    Watch {
        id: RequestId,
    },
    Reconnect,
    Close {
        options: &'a CloseOptions,
    },
    Abort,
}

/// What a connection still has to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Bytes of the handshake's request and of frames that were not written, or not encrypted yet.
    pub plain: usize,
    /// Whether the socket has all that there is for it, be it encrypted or not.
    pub idle: bool,
}

/// What came of calls.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Observed<'a> {
    /// What `poll_output` said. An event is told by [`Event`](Self::Event), and what was said already is not told again.
    Output(Output),
    /// The session is in another state.
    State {
        /// The state before.
        from: State,
        /// The state now.
        to: State,
        /// Why.
        why: &'a str,
    },
    /// A deadline has passed.
    Timer {
        /// Which: names of deadlines, with `+` between if there are several.
        which: &'a str,
        /// When the first of them was.
        due: Instant,
    },
    /// The request of a handshake, once it is made.
    HandshakeRequest {
        /// The connection.
        conn: ConnId,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// What answered a handshake, once that has an outcome.
    HandshakeResponse {
        /// The connection.
        conn: ConnId,
        /// Its bytes, as many as had arrived.
        bytes: &'a [u8],
    },
    /// A message, a part of one, or a control frame that arrived, once it is parsed.
    Inbound {
        /// The connection.
        conn: ConnId,
        /// What arrived.
        frame: Frame<'a>,
    },
    /// A message or control frame that is on its way out: encoded, and behind what was encoded before.
    Outbound {
        /// The connection.
        conn: ConnId,
        /// What goes out.
        frame: Frame<'a>,
    },
    /// TLS or a proxy took something of what is to be written, or has something for the socket.
    Way {
        /// The connection.
        conn: ConnId,
        /// What is left.
        left: Left,
    },
    /// Bytes that arrived made an end of a connection: a broken frame, TLS, a proxy. It is not what the session made of it, which is an event.
    Fault {
        /// The connection.
        conn: ConnId,
        /// What it was.
        error: &'a Error,
        /// It was found when time was over, not when bytes came.
        late: bool,
    },
    /// An event is announced.
    Event(&'a Event<'a>),
    /// The outcome of a request that a handle awaits, told to that out of order.
    Failed {
        /// Which.
        id: RequestId,
        /// Whether some of it was sent.
        maybe_sent: bool,
        /// Why.
        why: crate::Unanswered,
    },
    /// What a user asked for was not taken.
    Refused(&'a SendError),
}

/// A message or control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which.
    pub kind: FrameKind,
    /// Its payload, unmasked and inflated. Text is valid UTF-8 if it is whole.
    pub payload: &'a [u8],
    /// Of a message that is streamed ([`Limits::chunk`](crate::Limits::chunk)), whether this is the last part; `None` if it is whole.
    pub last: Option<bool>,
}

/// Kinds of frames (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the standard names them")]
pub enum FrameKind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

/// The recorder of a [`Config`], if it has one.
#[derive(Clone, Default)]
pub(crate) struct Recording(pub(crate) Option<Arc<dyn Recorder>>);

// What a recorder shows of itself is not the configuration's.
impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Recording" } else { "None" })
    }
}
