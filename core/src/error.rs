//! Everything that can go wrong with a connection: what it was, of which kind, and in words. What is done about it says
//! [`Policy`].

mod category;
mod explain;

pub use category::Category;
pub use explain::Explanation;

use crate::protocol::Unsupported;
use crate::session::{ConfigError, Policy};
use crate::transport::proxy::ProxyError;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsError;
use crate::ws::handshake::HandshakeError;
use crate::ws::utf8;
use crate::ws::{CloseCode, HeaderError, ProtocolError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// Why an attempt failed, or a connection was lost.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint provider failed.
    Provider(ProviderError),
    /// The endpoint provider gave an endpoint that cannot be used: which part of it, and what it may be.
    Endpoint(ConfigError),
    /// The host's name could not be resolved.
    Resolve(ResolveError),
    /// TCP could not connect.
    Connect {
        /// The address that failed last; one that this machine has no way to only if there was no other.
        addr: SocketAddr,
        /// What the operating system said.
        cause: Disconnect,
    },
    /// The user's connector opened no stream.
    Open(Disconnect),
    /// The proxy could not be reached, refused, or could not reach the server.
    Proxy(ProxyError),
    /// TLS failed.
    #[cfg(feature = "tls")]
    Tls(TlsError),
    /// `wss://`, but this build has no TLS.
    TlsNotBuilt,
    /// The WebSocket handshake failed.
    Handshake(HandshakeError),
    /// More redirects than `Config::max_redirects`.
    TooManyRedirects {
        /// The limit.
        max: u32,
    },
    /// A header of the endpoint or the configuration cannot be sent.
    Request(HeaderError),
    /// The peer broke the WebSocket protocol, or passed a limit.
    Protocol(ProtocolError),
    /// The peer closed the connection with a close frame.
    Closed(Closed),
    /// The connection ended without a close frame.
    Disconnected(Disconnect),
    /// Something took too long.
    Timeout(Timeout),
    /// The server refused the protocol's authentication.
    Authentication(Refusal),
    /// The server refused what prepares a connection ([`Protocol::prepare`](crate::Protocol::prepare)).
    Preparation(Refusal),
    /// The protocol could not write what authenticates or prepares a connection, such as for want of a signature; or the server's first word was
    /// not meant for this connection ([`Protocol::greeting`](crate::Protocol::greeting)).
    Unsupported(Unsupported),
    /// The server said that it goes down, or that too much was sent, and the session left.
    Notice(Notice),
    /// The endpoint of the connection expired before the provider gave a fresh one ([`AtExpiry::Disconnect`](crate::AtExpiry::Disconnect)).
    Expired,
    /// The session changed over to another connection, as the provider gave a fresh endpoint ahead of the old one's expiry.
    Renewed,
    /// The session changed over to another connection, as the server would soon have ended this one ([`Protocol::life`](crate::Protocol::life)).
    Rotated,
    /// The user asked for another connection (`Session::reconnect`).
    Reconnect,
}

/// The close frame that ended a connection (RFC 6455 section 5.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Its code; `CloseCode::Status` (1005) if the frame had none.
    pub code: CloseCode,
    /// Its reason, written by the peer.
    pub reason: String,
}

/// Why a TCP connection or an attempt at one ended: what the driver saw.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// The peer ended the connection: a read returned 0 bytes.
    Eof,
    /// Connecting, reading or writing failed.
    Io {
        /// Its kind.
        kind: io::ErrorKind,
        /// What the operating system said.
        message: String,
    },
}

impl From<io::Error> for Disconnect {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Eof,
            kind => Self::Io { kind, message: error.to_string() },
        }
    }
}

/// What took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// Endpoint, name and TCP: `Config::connect_timeout`.
    Connect,
    /// Proxy, TLS and the WebSocket handshake: `Config::handshake_timeout`. A proxy that does not answer is
    /// [`ProxyFault::Timeout`](crate::transport::proxy::ProxyFault::Timeout).
    Handshake,
    /// The protocol's server said no first word ([`Protocol::greets`](crate::Protocol::greets)): `Config::handshake_timeout`.
    Greeting,
    /// Nothing arrived after a ping: `Config::pong_timeout`.
    Pong,
    /// The peer did not answer the close frame: `Config::close_timeout`.
    Close,
    /// The server did not answer the protocol's authentication: `Config::request_timeout`.
    Authentication,
    /// The server did not answer what prepares a connection ([`Protocol::prepare`](crate::Protocol::prepare)): `Config::request_timeout`.
    Preparation,
    /// The server did not answer a heartbeat of the protocol: `Config::heartbeat_timeout`.
    Heartbeat,
    /// The peer took nothing of what waits to be written: `Config::write_timeout`.
    Write,
    /// No data arrived, although the connection answers: `Config::data_watch`.
    Data,
}

impl Timeout {
    /// The option of [`Config`](crate::Config) that sets the limit.
    pub fn option(self) -> &'static str {
        match self {
            Self::Connect => "connect_timeout",
            Self::Handshake | Self::Greeting => "handshake_timeout",
            Self::Pong => "pong_timeout",
            Self::Close => "close_timeout",
            Self::Authentication | Self::Preparation => "request_timeout",
            Self::Heartbeat => "heartbeat_timeout",
            Self::Write => "write_timeout",
            Self::Data => "data_watch",
        }
    }
}

/// The server's answer to an authentication, or to what prepares a connection, that it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    text: String,
    code: Option<i64>,
}

impl Refusal {
    /// The longest text that is kept, in bytes: 1 KiB.
    pub const MAX_TEXT: usize = 1024;

    /// What the server said, cut to [`MAX_TEXT`](Self::MAX_TEXT) bytes at a character's end, and the protocol's number for it.
    pub fn new(text: &str, code: impl Into<Option<i64>>) -> Self {
        Self { text: cut(text, Self::MAX_TEXT), code: code.into() }
    }

    /// What the server said, at most [`MAX_TEXT`](Self::MAX_TEXT) bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The protocol's number for it, if it has one.
    pub fn code(&self) -> Option<i64> {
        self.code
    }

    fn tell(&self, f: &mut fmt::Formatter<'_>, refused: &str) -> fmt::Result {
        write!(f, "the server refused {refused}")?;
        if let Some(code) = self.code {
            write!(f, " with code {code}")?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " ({:?})", self.text) }
    }
}

/// What the server said about the connection, and what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    text: String,
    recovery: Recovery,
}

impl Notice {
    /// The longest text that is kept, in bytes: 1 KiB.
    pub const MAX_TEXT: usize = 1024;

    /// What the server said, cut to [`MAX_TEXT`](Self::MAX_TEXT) bytes at a character's end, and the recovery that the protocol reads
    /// from it. A [`Recovery::Backoff`] is cut to [`Recovery::MAX_BACKOFF`], for the server may have chosen it.
    pub fn new(text: &str, recovery: Recovery) -> Self {
        Self { text: cut(text, Self::MAX_TEXT), recovery: recovery.bounded() }
    }

    /// What the server said, at most [`MAX_TEXT`](Self::MAX_TEXT) bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is to be done about it.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }
}

/// The beginning of a text that a peer chose, ending with a whole character.
fn cut(text: &str, max: usize) -> String {
    let beginning = &text.as_bytes()[..text.len().min(max)];
    text[..utf8::boundary(beginning)].to_owned()
}

/// The host's name could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveError {
    /// What the resolver said.
    pub message: String,
}

impl From<io::Error> for ResolveError {
    fn from(error: io::Error) -> Self {
        Self { message: error.to_string() }
    }
}

/// The endpoint provider failed: the attempt failed with it, and the session tries again after the usual delay, or as `recovery` says.
///
/// Any error becomes one with `?`. For that to be possible it is no [`std::error::Error`] itself, like the catch-all errors of other
/// crates. Look at what the text of that error is: HTTP clients like to put the URL into theirs, query included.
///
/// ```
/// use everwire_core::{Endpoint, ProviderError, Recovery};
///
/// fn provide(answer: &str) -> Result<Endpoint, ProviderError> {
///     if answer == "revoked" {
///         return Err(ProviderError::new("the key is revoked").recovery(Recovery::Stop));
///     }
///     let answer: serde_json::Value = serde_json::from_str(answer)?;
///     let url = answer["url"].as_str().ok_or_else(|| ProviderError::new("the answer names no URL"))?;
///     Ok(Endpoint::new(url)?.header("X-Client", "recorder")?)
/// }
/// assert!(provide(r#"{"url":"wss://example.com/"}"#).is_ok());
/// assert!(provide("<html>").unwrap_err().message.starts_with("expected value"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderError {
    /// What it said, at most [`MAX_MESSAGE`](Self::MAX_MESSAGE) bytes of it. It must hold no secrets: it is logged.
    pub message: String,
    /// What is to be done about it; `None`, the default, is to try again after the usual delay. [`Recovery::Stop`], for credentials that are
    /// revoked, ends the session, or only the asking while a connection still lives. [`Recovery::Backoff`] is for a service that counts.
    pub recovery: Option<Recovery>,
}

impl ProviderError {
    /// The longest message that is kept, in bytes: 1 KiB.
    pub const MAX_MESSAGE: usize = 1024;

    /// With this message, cut to [`MAX_MESSAGE`](Self::MAX_MESSAGE) bytes at a character's end.
    pub fn new(message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.len() > Self::MAX_MESSAGE {
            message = cut(&message, Self::MAX_MESSAGE);
        }
        Self { message, recovery: None }
    }

    /// With this done about it. A [`Recovery::Backoff`] is cut to [`Recovery::MAX_BACKOFF`].
    pub fn recovery(self, recovery: Recovery) -> Self {
        Self { recovery: Some(recovery), ..self }
    }
}

/// Its text, and those of its causes.
impl<E: std::error::Error> From<E> for ProviderError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        // Nobody needs more of them, and they could be a ring.
        for _ in 0..16 {
            let Some(error) = cause.filter(|_| message.len() < Self::MAX_MESSAGE) else { break };
            let text = error.to_string();
            // Some tell their cause themselves.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::new(message)
    }
}

/// What the session does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Connects again, after the usual delay.
    Reconnect,
    /// Connects again if a provider can give other credentials; otherwise stops, unless it had been online before.
    Reauthenticate,
    /// Connects again, not before this time has passed. Serialised as a number of seconds.
    Backoff(#[serde(with = "seconds")] Duration),
    /// Stops: trying again would fail in the same way. A handshake that was refused, or credentials that a proxy refused, stop only a session
    /// that never was online.
    Stop,
}

impl Recovery {
    /// The longest [`Backoff`](Self::Backoff) that a [`Policy`] or a server may ask for: 24 hours.
    pub const MAX_BACKOFF: Duration = Duration::from_secs(24 * 3600);

    /// With a `Backoff` of at most [`MAX_BACKOFF`](Self::MAX_BACKOFF).
    pub(crate) fn bounded(self) -> Self {
        match self {
            Self::Backoff(wait) => Self::Backoff(wait.min(Self::MAX_BACKOFF)),
            Self::Reconnect | Self::Reauthenticate | Self::Stop => self,
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reconnect => f.write_str("reconnect"),
            Self::Reauthenticate => f.write_str("reauthenticate"),
            Self::Backoff(wait) => write!(f, "back off {wait:?}"),
            Self::Stop => f.write_str("stop"),
        }
    }
}

/// Durations as numbers of seconds. Up to a day, not even a nanosecond is lost on the way.
mod seconds {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| D::Error::custom(format_args!("{seconds} is no number of seconds: {error}")))
    }
}

impl Error {
    /// What a session with [`Policy::default`] does about it; with another policy ask [`Policy::recovery`]. `wall` is the wall time,
    /// for a `Retry-After` that is a date.
    pub fn recovery(&self, wall: SystemTime) -> Recovery {
        Policy::default().recovery(self, wall)
    }

    /// Whether the session wanted the end of the connection itself, to make another one at once.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(self, Self::Reconnect | Self::Renewed | Self::Rotated)
    }

    /// Whether the session left a connection that worked, of its own will or because the server asked for that.
    pub(crate) fn is_parting(&self) -> bool {
        match self {
            Self::Notice(notice) => notice.recovery() == Recovery::Reconnect,
            Self::Expired => true,
            _ => self.is_wanted(),
        }
    }

    /// Whether it is a refusal that does not end a session that was online before: what served once will serve again.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Handshake(_) => true,
            Self::Proxy(error) => error.fault.is_authentication(),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(error) => write!(f, "the endpoint provider failed: {}", error.message),
            Self::Endpoint(error) => write!(f, "the provider's endpoint cannot be used: {error}"),
            Self::Resolve(error) => write!(f, "the host name could not be resolved: {}", error.message),
            Self::Connect { addr, cause } => write!(f, "could not connect to {addr}: {cause}"),
            Self::Open(cause) => write!(f, "the connector opened no stream: {cause}"),
            Self::Proxy(error) => write!(f, "{error}"),
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::TlsNotBuilt => f.write_str("the URL is wss://, but this build has no TLS"),
            Self::Handshake(error) => write!(f, "{error}"),
            Self::TooManyRedirects { max } => write!(f, "more than {max} redirects"),
            Self::Request(error) => write!(f, "the request cannot be sent: {error}"),
            Self::Protocol(error) => write!(f, "the peer broke the protocol: {error}"),
            Self::Closed(closed) => {
                write!(f, "the peer closed the connection with code {}", u16::from(closed.code))?;
                if closed.reason.is_empty() { Ok(()) } else { write!(f, " ({:?})", closed.reason) }
            }
            Self::Disconnected(Disconnect::Eof) => f.write_str("the connection ended without a close frame"),
            Self::Disconnected(cause) => write!(f, "the connection broke: {cause}"),
            Self::Timeout(timeout) => write!(f, "{timeout}"),
            Self::Authentication(refusal) => refusal.tell(f, "the authentication"),
            Self::Preparation(refusal) => refusal.tell(f, "what prepares a connection"),
            Self::Unsupported(unsaid) => write!(f, "the protocol could not {unsaid}"),
            Self::Notice(notice) => write!(f, "the server gave notice ({:?})", notice.text),
            Self::Expired => f.write_str("the endpoint expired, and there was no fresh one"),
            Self::Renewed => f.write_str("the session changes over to a connection with a fresh endpoint"),
            Self::Rotated => {
                f.write_str("the session changes over to a new connection before the server ends this one")
            }
            Self::Reconnect => f.write_str("a new connection was asked for"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting took too long",
            Self::Handshake => "the handshake took too long",
            Self::Greeting => "the server did not say its first word in time",
            Self::Pong => "nothing arrived after a ping",
            Self::Close => "the peer did not answer the close frame",
            Self::Authentication => "the server did not answer the authentication in time",
            Self::Preparation => "the server did not answer what prepares a connection in time",
            Self::Heartbeat => "the server did not answer a heartbeat in time",
            Self::Write => "the peer took nothing of what waits to be written",
            Self::Data => "no data arrived for too long, although the connection answers",
        })
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("the peer ended it"),
            Self::Io { message, .. } => f.write_str(message),
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
pub(crate) mod tests;
