//! Everything that can go wrong with a connection, and what the session does about it.

#[cfg(feature = "tls")]
use crate::transport::tls::TlsError;
use crate::ws::handshake::{HandshakeError, RetryAfter};
use crate::ws::{CloseCode, ProtocolError, UrlError};
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
    /// The host's name could not be resolved.
    Resolve(ResolveError),
    /// TCP could not connect.
    Connect {
        /// The address that was tried last.
        addr: SocketAddr,
        /// What the operating system said.
        cause: Disconnect,
    },
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
    Request(crate::ws::HeaderError),
    /// The peer broke the WebSocket protocol, or passed a limit.
    Protocol(ProtocolError),
    /// The peer closed the connection with a close frame.
    Closed(Closed),
    /// The connection ended without a close frame.
    Disconnected(Disconnect),
    /// Something took too long.
    Timeout(Timeout),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// Endpoint, name and TCP: `Config::connect_timeout`.
    Connect,
    /// TLS and the WebSocket handshake: `Config::handshake_timeout`.
    Handshake,
    /// Nothing arrived after a ping: `Config::pong_timeout`.
    Pong,
    /// The peer did not answer the close frame: `Config::close_timeout`.
    Close,
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

/// The endpoint provider failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderError {
    /// What it said. It must hold no secrets: it is logged.
    pub message: String,
}

/// What the session does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Connects again, after the usual delay.
    Reconnect,
    /// Connects again if a provider can give other credentials; otherwise stops, unless it had been online before.
    Reauthenticate,
    /// Connects again, not before this time has passed.
    Backoff(Duration),
    /// Stops: trying again would fail in the same way. A handshake that was refused stops only a session that never was online.
    Stop,
}

/// An error in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What happened.
    pub what: String,
    /// What to do about it.
    pub advice: &'static str,
    /// Where more is written.
    pub link: &'static str,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}. See {}", self.what, self.advice, self.link)
    }
}

/// What a server that says 429 or closes with 1008 or 1013, and names no time, is left alone for.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// A `Retry-After` is honoured up to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

impl Error {
    /// What the session does about it. `wall` is the wall time, for a `Retry-After` that is a date.
    pub fn recovery(&self, wall: SystemTime) -> Recovery {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(error) if error.is_fatal_config() => Recovery::Stop,
            Self::TlsNotBuilt | Self::TooManyRedirects { .. } | Self::Request(_) => Recovery::Stop,
            Self::Handshake(error) => handshake_recovery(error, wall),
            Self::Closed(closed) => match closed.code {
                CloseCode::Policy | CloseCode::Again => Recovery::Backoff(COOL_DOWN),
                _ => Recovery::Reconnect,
            },
            _ => Recovery::Reconnect,
        }
    }

    /// What happened, what to do about it, and where more is written.
    pub fn explain(&self) -> Explanation {
        let (advice, link) = match self {
            Self::Provider(_) => {
                ("Check the service that issues the endpoint or token", "docs/guides/errors.md#provider")
            }
            Self::Resolve(_) => {
                ("Check the host name and this machine's DNS", "docs/guides/errors.md#resolve")
            }
            Self::Connect { .. } => (
                "Check that the server runs, the port, and firewalls between",
                "docs/guides/errors.md#connect",
            ),
            #[cfg(feature = "tls")]
            Self::Tls(_) => {
                ("Check the certificate, the host name and the trusted roots", "docs/guides/errors.md#tls")
            }
            Self::TlsNotBuilt => ("Enable the feature `tls` of everwire-core", "docs/guides/errors.md#tls"),
            Self::Handshake(_) | Self::TooManyRedirects { .. } | Self::Request(_) => {
                ("Check the URL's path, the headers and the credentials", "docs/guides/errors.md#handshake")
            }
            Self::Protocol(_) => (
                "Raise the limit if it is one; otherwise report it to the server's operator",
                "docs/guides/errors.md#protocol",
            ),
            Self::Closed(_) => (
                "Look the code and the reason up in the server's documentation",
                "docs/guides/errors.md#closed",
            ),
            Self::Disconnected(_) => {
                ("None is needed: the session connects again", "docs/guides/errors.md#disconnected")
            }
            Self::Timeout(_) => ("Check the network, or raise the timeout", "docs/guides/errors.md#timeout"),
            Self::Reconnect => ("None is needed: it was asked for", "docs/guides/errors.md#reconnect"),
        };
        Explanation { what: self.to_string(), advice, link }
    }
}

fn handshake_recovery(error: &HandshakeError, wall: SystemTime) -> Recovery {
    let HandshakeError::Refused(refused) = error else {
        return match error {
            HandshakeError::ClosedEarly { .. } => Recovery::Reconnect,
            HandshakeError::InsecureRedirect { .. } => Recovery::Stop,
            // A load balancer's error page, a restarting server: nothing that must stay.
            _ => Recovery::Reconnect,
        };
    };
    let wait = refused.retry_after.map(|after: RetryAfter| after.delay(wall).min(MAX_RETRY_AFTER));
    match (refused.status, wait) {
        (_, Some(wait)) => Recovery::Backoff(wait),
        (401 | 403 | 407, None) => Recovery::Reauthenticate,
        (429, None) => Recovery::Backoff(COOL_DOWN),
        (400 | 404 | 405 | 410 | 414 | 426 | 431 | 501 | 505, None) => Recovery::Stop,
        _ => Recovery::Reconnect,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(error) => write!(f, "the endpoint provider failed: {}", error.message),
            Self::Resolve(error) => write!(f, "the host name could not be resolved: {}", error.message),
            Self::Connect { addr, cause } => write!(f, "could not connect to {addr}: {cause}"),
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
            Self::Timeout(Timeout::Connect) => f.write_str("connecting took too long"),
            Self::Timeout(Timeout::Handshake) => f.write_str("the handshake took too long"),
            Self::Timeout(Timeout::Pong) => f.write_str("nothing arrived after a ping"),
            Self::Timeout(Timeout::Close) => f.write_str("the peer did not answer the close frame"),
            Self::Reconnect => f.write_str("a new connection was asked for"),
        }
    }
}

impl std::error::Error for Error {}

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

impl std::error::Error for ProviderError {}

impl From<UrlError> for ProviderError {
    fn from(error: UrlError) -> Self {
        Self { message: error.to_string() }
    }
}
