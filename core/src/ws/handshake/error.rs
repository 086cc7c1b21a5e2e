//! Why a handshake failed.

use std::fmt;

use super::response::Head;
use super::retry_after::RetryAfter;
use crate::ws::deflate::NegotiationError;
use crate::ws::headers::Headers;
use crate::ws::target::{Target, UrlError};

/// Why a connection did not become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server answered with a status that is neither an upgrade nor a redirect.
    Refused(Box<Refused>),
    /// The connection ended before there was a complete response.
    ClosedEarly {
        /// How many bytes had been received.
        received: usize,
    },
    /// The peer does not answer in HTTP/1.
    NotHttp {
        /// The first bytes of the answer, at most 16, escaped.
        first_bytes: String,
        /// What it looks like instead.
        peer: PeerProtocol,
    },
    /// The response is not valid HTTP/1, for the reason given.
    Malformed(&'static str),
    /// The head of the response is longer than [`HandshakeOptions::max_head`](super::HandshakeOptions::max_head).
    HeadTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The response has more headers than [`HandshakeOptions::max_headers`](super::HandshakeOptions::max_headers).
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// The upgrade was made in HTTP/1.0, which has none.
    HttpVersion,
    /// Status 101 without `Upgrade: websocket`.
    UpgradeHeader,
    /// Status 101 without `Connection: Upgrade`.
    ConnectionHeader,
    /// Status 101 without `Sec-WebSocket-Accept`.
    AcceptMissing,
    /// Several `Sec-WebSocket-Accept`.
    AcceptRepeated,
    /// `Sec-WebSocket-Accept` does not fit the key of the request.
    AcceptMismatch,
    /// Several `Sec-WebSocket-Protocol`.
    SubprotocolRepeated,
    /// The server chose a subprotocol that was not offered.
    SubprotocolNotOffered {
        /// What it chose, at most 64 characters of it; `<redacted>` if that repeats an offer that looks like a token.
        selected: String,
    },
    /// The server accepted an extension although none was offered.
    ExtensionNotOffered {
        /// What it accepted, at most 64 characters of it.
        value: String,
    },
    /// The server's answer to the offer of compression is invalid.
    Extension(NegotiationError),
    /// A redirect that does not say where to.
    MissingLocation {
        /// The status of the response.
        status: u16,
    },
    /// A redirect to something that is not a usable URL.
    BadLocation {
        /// The status of the response.
        status: u16,
        /// What is wrong with it.
        error: UrlError,
    },
    /// A redirect from `wss` to `ws`, which would send in the clear what was meant to be encrypted.
    InsecureRedirect {
        /// Where it leads.
        location: Box<Target>,
    },
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::ClosedEarly { received: 0 } => f.write_str(
                "the server closed the connection without an answer; check port and scheme (ws:// or wss://), and \
                 whether the server limits connections",
            ),
            Self::ClosedEarly { received } => write!(
                f,
                "the connection ended after {received} bytes, in the middle of the response; try again, and if it \
                 happens always, check the server and the proxies in front of it"
            ),
            Self::NotHttp { first_bytes, peer } => {
                write!(f, "the answer is not HTTP/1, it begins with \"{first_bytes}\"; {}", peer.hint())
            }
            Self::Malformed(what) => write!(
                f,
                "the response is not valid HTTP: {what}; check the server and the proxies in front of it"
            ),
            Self::HeadTooLarge { limit } => {
                write!(f, "the response head is longer than {limit} bytes; raise max_head if that is to be expected")
            }
            Self::TooManyHeaders { limit } => {
                write!(f, "the response has more than {limit} headers; raise max_headers if that is to be expected")
            }
            Self::HttpVersion => f.write_str(
                "the server upgrades in HTTP/1.0, which has no upgrades; set the proxy in front of it to HTTP/1.1",
            ),
            Self::UpgradeHeader => {
                f.write_str("the response lacks \"Upgrade: websocket\"; let the proxy in front of the server pass it on")
            }
            Self::ConnectionHeader => {
                f.write_str("the response lacks \"Connection: Upgrade\"; let the proxy in front of the server pass it on")
            }
            Self::AcceptMissing => f.write_str(
                "the response lacks Sec-WebSocket-Accept; what answers at this URL is probably not a WebSocket server",
            ),
            Self::AcceptRepeated => f.write_str(
                "the response has Sec-WebSocket-Accept more than once; check the proxies in front of the server",
            ),
            Self::AcceptMismatch => f.write_str(
                "Sec-WebSocket-Accept does not fit our key: the response belongs to another request, or the server \
                 computes it wrongly; check for a cache or proxy in between",
            ),
            Self::SubprotocolRepeated => {
                f.write_str("the server chose more than one subprotocol, it must choose one; the server needs mending")
            }
            Self::SubprotocolNotOffered { selected } => write!(
                f,
                "the server chose subprotocol {selected:?}, which was not offered; offer it if you can speak it"
            ),
            Self::ExtensionNotOffered { value } => write!(
                f,
                "the server accepted extension {value:?}, which was not offered; turn compression on if that is what \
                 it is, else the server needs mending"
            ),
            Self::Extension(error) => {
                write!(f, "compression could not be negotiated: {error}; turn compression off to do without")
            }
            Self::MissingLocation { status } => {
                write!(f, "status {status} is a redirect but has no Location; ask for the right URL and use it")
            }
            Self::BadLocation { status, error } => {
                write!(f, "status {status} redirects to a Location that cannot be used: {error}")
            }
            Self::InsecureRedirect { location } => write!(
                f,
                "the server redirects from wss:// to {location}, which is not encrypted; if that is wanted, connect \
                 there directly"
            ),
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Extension(error) => Some(error),
            Self::BadLocation { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// What a peer seems to speak that does not answer in HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerProtocol {
    /// TLS: `ws://` was used where `wss://` is needed.
    Tls,
    /// SSH: the port is that of another service.
    Ssh,
    /// HTTP/2 and nothing else.
    Http2,
    /// Nothing that we know.
    Unknown,
}

impl PeerProtocol {
    fn hint(self) -> &'static str {
        match self {
            Self::Tls => "that is a TLS alert, the port expects TLS: use wss://",
            Self::Ssh => "that is an SSH server: check the port",
            Self::Http2 => "the server speaks HTTP/2 only: use a port on which it speaks HTTP/1.1",
            Self::Unknown => "check host and port",
        }
    }
}

/// A response that refuses the upgrade, or that of a proxy that refuses to pass it on.
///
/// The body can contain what was sent (servers like to repeat the URL), so that [`Debug`] and
/// [`Display`](fmt::Display) leave it out.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The HTTP status: of a server 200 to 999, but none of the redirects that can be followed; of a proxy 101 or 300 to 999.
    pub status: u16,
    /// The reason phrase; often empty.
    pub reason: String,
    /// All headers of the response.
    pub headers: Headers,
    /// The beginning of the body, at most [`HandshakeOptions::max_body`](super::HandshakeOptions::max_body) bytes.
    pub body: Vec<u8>,
    /// When to try again, if the server says so.
    pub retry_after: Option<RetryAfter>,
}

impl Refused {
    /// Without a body as yet.
    pub(crate) fn new(head: Head) -> Self {
        let retry_after = head.headers.first("retry-after").and_then(RetryAfter::parse);
        Self {
            status: head.status,
            reason: head.reason,
            headers: head.headers,
            body: Vec::new(),
            retry_after,
        }
    }

    fn hint(&self) -> &'static str {
        match self.status {
            200..=299 => "what answers at this URL is no WebSocket endpoint: check the path",
            300..=399 => "this kind of redirect cannot be followed: use the URL of the endpoint itself",
            400 => "check scheme, path, subprotocols and headers, the body may say which",
            401 | 403 => {
                "check the credentials, and whether the server wants an Origin or admits this address"
            }
            404 | 405 | 410 => "check the path",
            407 => "a proxy wants credentials",
            426 => "check the path and that proxies pass the Upgrade header on",
            408 | 429 | 503 => "wait before trying again",
            500.. => "the server or a proxy in front of it is in trouble: try again later",
            _ => "the body may say why",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server refused the WebSocket handshake with status {}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, " {:?}", excerpt(&self.reason))?;
        }
        write!(f, "; {}", self.hint())
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("headers", &self.headers)
            .field("body", &format_args!("<{} bytes>", self.body.len()))
            .field("retry_after", &self.retry_after)
            .finish()
    }
}

/// The beginning of a text that a peer chose.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}
