//! The kinds of errors.

use super::{Error, Notice, Recovery};
use crate::ws::ProtocolError;
use crate::ws::handshake::HandshakeError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an error is about: for counting, alerting, and routing to whoever can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Category {
    /// The way to the peer: names, TCP, connections that ended, servers that go down.
    Connection,
    /// Encryption and certificates.
    Tls,
    /// The HTTP request that opens a WebSocket.
    Handshake,
    /// One side broke the WebSocket protocol, or the other says so.
    Protocol,
    /// Credentials that are missing, wrong or expired.
    Authentication,
    /// Too much was asked: the server wants to be left alone for some time.
    Rate,
    /// What runs on top, here or there: the endpoint provider, the server's own close codes and failures.
    Application,
    /// Something took longer than an option allows.
    Timeout,
    /// Something was larger than a limit: what the peer sent than ours, or what we sent than the peer's.
    Capacity,
    /// The configuration, the URL or the build asks for what cannot be done.
    Config,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection",
            Self::Tls => "TLS",
            Self::Handshake => "handshake",
            Self::Protocol => "protocol",
            Self::Authentication => "authentication",
            Self::Rate => "rate",
            Self::Application => "application",
            Self::Timeout => "timeout",
            Self::Capacity => "capacity",
            Self::Config => "config",
        })
    }
}

impl Error {
    /// What it is about.
    pub fn category(&self) -> Category {
        match self {
            Self::Provider(_) | Self::Endpoint(_) | Self::Preparation(_) | Self::Unsupported(_) => {
                Category::Application
            }
            Self::Resolve(_)
            | Self::Connect { .. }
            | Self::Open(_)
            | Self::Disconnected(_)
            | Self::Renewed
            | Self::Rotated
            | Self::Reconnect => Category::Connection,
            Self::Proxy(error) => error.fault.category(),
            #[cfg(feature = "tls")]
            Self::Tls(_) => Category::Tls,
            Self::TlsNotBuilt | Self::TooManyRedirects { .. } | Self::Request(_) => Category::Config,
            Self::Handshake(error) => handshake(error),
            Self::Protocol(error) => protocol(error),
            Self::Closed(closed) => close(closed.code.into()),
            Self::Timeout(_) => Category::Timeout,
            Self::Authentication(_) | Self::Expired => Category::Authentication,
            Self::Notice(notice) => self::notice(notice),
        }
    }
}

fn handshake(error: &HandshakeError) -> Category {
    match error {
        HandshakeError::Refused(refused) => match refused.status {
            401 | 403 | 407 => Category::Authentication,
            429 => Category::Rate,
            _ => Category::Handshake,
        },
        HandshakeError::HeadTooLarge { .. } | HandshakeError::TooManyHeaders { .. } => Category::Capacity,
        HandshakeError::ClosedEarly { .. }
        | HandshakeError::NotHttp { .. }
        | HandshakeError::Malformed(_)
        | HandshakeError::HttpVersion
        | HandshakeError::UpgradeHeader
        | HandshakeError::ConnectionHeader
        | HandshakeError::AcceptMissing
        | HandshakeError::AcceptRepeated
        | HandshakeError::AcceptMismatch
        | HandshakeError::SubprotocolRepeated
        | HandshakeError::SubprotocolNotOffered { .. }
        | HandshakeError::ExtensionNotOffered { .. }
        | HandshakeError::Extension(_)
        | HandshakeError::MissingLocation { .. }
        | HandshakeError::BadLocation { .. }
        | HandshakeError::InsecureRedirect { .. } => Category::Handshake,
    }
}

fn protocol(error: &ProtocolError) -> Category {
    match error {
        ProtocolError::FrameTooLarge { .. }
        | ProtocolError::MessageTooLarge { .. }
        | ProtocolError::TooManyFragments { .. } => Category::Capacity,
        ProtocolError::ReservedBits(_)
        | ProtocolError::ReservedOpcode(_)
        | ProtocolError::MaskedFrame
        | ProtocolError::FragmentedControl
        | ProtocolError::OversizedControl
        | ProtocolError::BadLength
        | ProtocolError::UnexpectedContinuation
        | ProtocolError::UnfinishedMessage
        | ProtocolError::InvalidUtf8
        | ProtocolError::BadCloseFrame
        | ProtocolError::BadCloseCode(_)
        | ProtocolError::Deflate => Category::Protocol,
    }
}

/// By IANA's registry of close codes, which since RFC 6455 got 1012 to 1014, 3000 (unauthorized) and 3003 (forbidden).
fn close(code: u16) -> Category {
    match code {
        1002 | 1003 | 1007 | 1010 => Category::Protocol,
        1008 => Category::Rate,
        1009 => Category::Capacity,
        3000 | 3003 => Category::Authentication,
        1011 | 3001..=4999 => Category::Application,
        _ => Category::Connection,
    }
}

/// A notice is text that only the protocol understands. What it wants done about it tells what it is about.
fn notice(notice: &Notice) -> Category {
    match notice.recovery {
        Recovery::Backoff(_) => Category::Rate,
        Recovery::Reauthenticate => Category::Authentication,
        Recovery::Stop => Category::Application,
        Recovery::Reconnect => Category::Connection,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{closed, every, refused};
    use super::*;
    use crate::error::Timeout;
    use std::time::Duration;

    #[test]
    fn by_variant() {
        let expect = |error: &Error| match error {
            Error::Provider(_) | Error::Endpoint(_) | Error::Preparation(_) | Error::Unsupported(_) => {
                "application"
            }
            Error::Resolve(_)
            | Error::Connect { .. }
            | Error::Open(_)
            | Error::Disconnected(_)
            | Error::Renewed
            | Error::Rotated
            | Error::Reconnect => "connection",
            #[cfg(feature = "tls")]
            Error::Tls(_) => "TLS",
            Error::TlsNotBuilt | Error::TooManyRedirects { .. } | Error::Request(_) => "config",
            Error::Timeout(_) => "timeout",
            Error::Authentication(_) | Error::Expired => "authentication",
            // Those have tables of their own below.
            Error::Handshake(_)
            | Error::Protocol(_)
            | Error::Closed(_)
            | Error::Notice(_)
            | Error::Proxy(_) => "",
        };
        for error in every() {
            let expected = expect(&error);
            if !expected.is_empty() {
                assert_eq!(error.category().to_string(), expected, "{error:?}");
            }
        }
        assert_eq!(Error::Timeout(Timeout::Authentication).category(), Category::Timeout);
    }

    #[test]
    fn by_status() {
        let rows = [
            (401, Category::Authentication),
            (403, Category::Authentication),
            (407, Category::Authentication),
            (429, Category::Rate),
            (404, Category::Handshake),
            (503, Category::Handshake),
            (999, Category::Handshake),
        ];
        for (status, category) in rows {
            assert_eq!(refused(status, None).category(), category, "{status}");
        }
        let large = [HandshakeError::HeadTooLarge { limit: 1 }, HandshakeError::TooManyHeaders { limit: 1 }];
        for error in large {
            assert_eq!(Error::Handshake(error).category(), Category::Capacity);
        }
        assert_eq!(Error::Handshake(HandshakeError::UpgradeHeader).category(), Category::Handshake);
    }

    #[test]
    fn by_close_code() {
        for code in 0..=u16::MAX {
            let expected = match code {
                1002 | 1003 | 1007 | 1010 => Category::Protocol,
                1008 => Category::Rate,
                1009 => Category::Capacity,
                1011 => Category::Application,
                3000 | 3003 => Category::Authentication,
                3001 | 3002 | 3004..=4999 => Category::Application,
                _ => Category::Connection,
            };
            assert_eq!(closed(code).category(), expected, "{code}");
        }
    }

    #[test]
    fn limits_of_ours_are_capacity() {
        let of = |error: ProtocolError| Error::Protocol(error).category();
        assert_eq!(of(ProtocolError::FrameTooLarge { len: 2, max: 1 }), Category::Capacity);
        assert_eq!(of(ProtocolError::MessageTooLarge { max: 1 }), Category::Capacity);
        assert_eq!(of(ProtocolError::TooManyFragments { max: 1 }), Category::Capacity);
        assert_eq!(of(ProtocolError::MaskedFrame), Category::Protocol);
        assert_eq!(of(ProtocolError::Deflate), Category::Protocol);
    }

    #[test]
    fn a_notice_is_what_it_asks_for() {
        let of = |recovery| Error::Notice(Notice::new("slow down", recovery)).category();
        assert_eq!(of(Recovery::Backoff(Duration::from_secs(1))), Category::Rate);
        assert_eq!(of(Recovery::Reconnect), Category::Connection);
        assert_eq!(of(Recovery::Reauthenticate), Category::Authentication);
        assert_eq!(of(Recovery::Stop), Category::Application);
    }
}
