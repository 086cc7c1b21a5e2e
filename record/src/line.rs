//! A line of a record.

use crate::text::Payload;
use everwire_core::record::{EndpointRecord, FaultRecord};
use everwire_core::{
    Disconnect, Overflow, Recovery, RequestOptions, SendOptions, SequenceRule, SubscribeOptions, Topic, Watch,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

/// Version of the form of a record: another one where an older reader would not understand a newer record.
pub const VERSION: u32 = 1;

/// One line of a record, which is one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, in nanoseconds of the monotonic clock since the session was made.
    #[serde(default)]
    pub ns: u64,
    /// The same moment on the wall clock: RFC 3339, UTC, with microseconds.
    pub ts: String,
    /// The epoch of the session then; 0 before the first connection.
    #[serde(default)]
    pub epoch: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: Body,
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the server.
    In,
    /// To the server.
    Out,
}

/// Kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "named as RFC 6455 names them")]
pub enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

/// A message or control frame. Its line has all keys of ZenWebsocket's form (`ts`, `dir`, `type`, `data`, `binary`), and more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameLine {
    /// The number of the connection; 0 if the record has none.
    #[serde(default)]
    pub conn: u64,
    /// Which way.
    pub dir: Direction,
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What is in it. Of a close frame, a JSON object with `code` and `reason` as a text.
    #[serde(flatten)]
    pub payload: Payload,
    /// Of a message that is streamed, whether this is its last part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<bool>,
}

/// The head of a record, and of each further part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// See [`VERSION`].
    pub version: u32,
    /// Version of the crate that wrote it.
    pub writer: String,
    /// [`Config::digest`](everwire_core::Config::digest).
    pub digest: String,
    /// The seed, 64 hexadecimal digits.
    pub seed: String,
    /// Nanoseconds of the wall clock since 1970-01-01 UTC when the session was made.
    pub wall: u64,
    /// The number of this part, from 0.
    #[serde(default)]
    pub part: u32,
    /// The configuration, without secrets: for people. A replay is given one.
    #[serde(default)]
    pub config: Value,
}

/// What happened. `kind` says which: inputs first, then what came of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "as `everwire_core::record` has them")]
#[non_exhaustive]
pub enum Body {
    Header(Header),
    /// So many entries are missing here: the writer was behind, and its memory is bounded.
    Dropped {
        count: u64,
    },
    /// The record ends here because it was finished, not because it was cut.
    End,

    Endpoint {
        attempt: u64,
        #[serde(flatten)]
        result: Outcome<EndpointRecord>,
    },
    Resolved {
        attempt: u64,
        #[serde(flatten)]
        result: Outcome<Vec<SocketAddr>>,
    },
    Connected {
        conn: u64,
    },
    Disconnected {
        conn: u64,
        cause: Cause,
    },
    Received {
        conn: u64,
        len: usize,
    },
    Transmitted {
        conn: u64,
        len: usize,
        #[serde(flatten)]
        left: LeftLine,
    },
    Timeout,
    Taken {
        leased: bool,
    },
    GivenBack,
    Send {
        #[serde(rename = "type")]
        kind: Kind,
        #[serde(flatten)]
        payload: Payload,
        options: SendOptions,
    },
    Request {
        method: String,
        params: Option<String>,
        options: RequestOptions,
    },
    Notify {
        method: String,
        params: Option<String>,
        options: SendOptions,
    },
    Batch {
        requests: Vec<(String, Option<String>)>,
        options: RequestOptions,
    },
    Respond {
        to: u64,
        id: String,
        result: Option<String>,
        error: Option<(i64, String, Option<String>)>,
    },
    Cancel {
        id: u64,
    },
    Subscribe {
        topic: Topic,
        options: TopicOptions,
    },
    Unsubscribe {
        id: u64,
    },
    EndSubscription {
        id: u64,
    },
    Watch {
        id: u64,
    },
    Reconnect,
    Close {
        code: u16,
        reason: String,
        within: Option<Duration>,
        drain: everwire_core::Drain,
    },
    Abort,

    Output {
        does: Duty,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        addr: Option<SocketAddr>,
        /// Nanoseconds since the start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
    State {
        from: String,
        to: String,
        why: String,
    },
    Timer {
        which: String,
        due: u64,
    },
    HandshakeRequest {
        conn: u64,
        #[serde(flatten)]
        payload: Payload,
    },
    HandshakeResponse {
        conn: u64,
        #[serde(flatten)]
        payload: Payload,
    },
    Frame(FrameLine),
    Way {
        conn: u64,
        #[serde(flatten)]
        left: LeftLine,
    },
    Fault {
        conn: u64,
        fault: Option<FaultRecord>,
        text: String,
        late: bool,
    },
    /// What it is, and its fields. A message whose text is that of the last frame that arrived says `same`.
    Event {
        event: Value,
    },
    Failed {
        id: u64,
        maybe_sent: bool,
        why: String,
    },
    Refused {
        why: String,
    },
}

/// What was given, or why it was not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<T> {
    /// It was given.
    Given(T),
    /// It was not.
    Failed {
        /// Why.
        why: String,
        /// What a provider wants done about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery: Option<Recovery>,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The peer ended it.
    Eof,
    /// Reading, writing or connecting failed.
    Io {
        /// The kind, as Rust names it.
        kind: String,
        /// What the operating system said.
        message: String,
    },
}

/// What was left to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftLine {
    /// Bytes before encryption.
    pub left: usize,
    /// Nothing waits for the socket.
    pub idle: bool,
}

/// What the driver was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "as `Output` has them")]
pub enum Duty {
    Provide,
    Resolve,
    Connect,
    Open,
    Disconnect,
    Wait,
    Closed,
}

/// [`SubscribeOptions`] as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicOptions {
    /// Priority.
    pub priority: u8,
    /// What to do about silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// `plus_one`, `previous_id`, `range`, or `custom` for code of the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// What to do for a slow user.
    pub overflow: Overflow,
}

impl TopicOptions {
    pub(crate) fn of(options: &SubscribeOptions) -> Self {
        let rule = |rule: &SequenceRule| match rule {
            SequenceRule::PlusOne => "plus_one",
            SequenceRule::PreviousId => "previous_id",
            SequenceRule::Range => "range",
            _ => "custom",
        };
        Self {
            priority: options.priority,
            watch: options.watch,
            sequence: options.sequence.as_ref().map(rule).map(str::to_owned),
            overflow: options.overflow,
        }
    }

    /// The options; with `custom` for a rule that is the user's own. `None` if there is none and one is needed.
    pub(crate) fn options(&self, custom: Option<&SequenceRule>) -> Option<SubscribeOptions> {
        let mut options = SubscribeOptions::default().priority(self.priority).overflow(self.overflow);
        options.watch = self.watch;
        options.sequence = match self.sequence.as_deref() {
            None => None,
            Some("plus_one") => Some(SequenceRule::PlusOne),
            Some("previous_id") => Some(SequenceRule::PreviousId),
            Some("range") => Some(SequenceRule::Range),
            Some(_) => Some(custom?.clone()),
        };
        Some(options)
    }
}

impl Cause {
    pub(crate) fn of(cause: &Disconnect) -> Self {
        match cause {
            Disconnect::Io { kind, message } => {
                Self::Io { kind: format!("{kind:?}"), message: message.clone() }
            }
            _ => Self::Eof,
        }
    }

    /// The cause.
    pub(crate) fn disconnect(&self) -> Disconnect {
        match self {
            Self::Eof => Disconnect::Eof,
            Self::Io { kind, message } => {
                let known = IO_KINDS.iter().find(|known| format!("{known:?}") == *kind);
                let kind = known.copied().unwrap_or(ErrorKind::Other);
                Disconnect::Io { kind, message: message.clone() }
            }
        }
    }
}

/// What sockets fail with.
const IO_KINDS: [ErrorKind; 20] = [
    ErrorKind::NotFound,
    ErrorKind::PermissionDenied,
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::ConnectionAborted,
    ErrorKind::HostUnreachable,
    ErrorKind::NetworkUnreachable,
    ErrorKind::NetworkDown,
    ErrorKind::NotConnected,
    ErrorKind::AddrInUse,
    ErrorKind::AddrNotAvailable,
    ErrorKind::BrokenPipe,
    ErrorKind::AlreadyExists,
    ErrorKind::WouldBlock,
    ErrorKind::InvalidInput,
    ErrorKind::InvalidData,
    ErrorKind::TimedOut,
    ErrorKind::WriteZero,
    ErrorKind::Interrupted,
    ErrorKind::UnexpectedEof,
];

impl Body {
    /// Whether this is a call of somebody, and not what came of one.
    pub(crate) fn is_input(&self) -> bool {
        !matches!(
            self,
            Self::Header(_)
                | Self::Dropped { .. }
                | Self::End
                | Self::Output { .. }
                | Self::State { .. }
                | Self::Timer { .. }
                | Self::HandshakeRequest { .. }
                | Self::HandshakeResponse { .. }
                | Self::Frame(_)
                | Self::Way { .. }
                | Self::Fault { .. }
                | Self::Event { .. }
                | Self::Failed { .. }
                | Self::Refused { .. }
        )
    }
}

impl FrameLine {
    /// The payload as it went over the wire, but for masks and compression. `None` if the line has something else.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        if self.kind != Kind::Close || self.payload.is_binary() || self.payload.as_str().is_empty() {
            return self.payload.bytes();
        }
        let close: Value = serde_json::from_str(self.payload.as_str()).ok()?;
        let code = u16::try_from(close.get("code")?.as_u64()?).ok()?;
        let reason = close.get("reason").and_then(Value::as_str).unwrap_or_default();
        Some([&code.to_be_bytes()[..], reason.as_bytes()].concat())
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
