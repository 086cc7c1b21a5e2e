//! Errors in words: what happened, why it mostly does, what to do.

use super::{Category, Disconnect, Error, Recovery, Timeout};
use crate::transport::proxy::ProxyFault;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsError;
use crate::ws::handshake::HandshakeError;
use std::fmt;

/// A section of the guide. A test checks that it exists.
macro_rules! link {
    ($anchor:literal) => {
        concat!("docs/guides/errors.md#", $anchor)
    };
}

/// An error in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What happened.
    pub what: String,
    /// What most likely caused it.
    pub cause: &'static str,
    /// What to do about it.
    pub advice: &'static str,
    /// Where more is written: a section of the guide on errors.
    pub link: &'static str,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Likely cause: {}. {}. See {}", self.what, self.cause, self.advice, self.link)
    }
}

impl Error {
    /// What happened, why it mostly does, what to do about it, and where more is written.
    pub fn explain(&self) -> Explanation {
        let Words { cause, advice, link } = self.words();
        Explanation { what: self.to_string(), cause, advice, link }
    }

    fn words(&self) -> Words {
        match self {
            Self::Provider(_) => Words {
                cause: "the service that issues the endpoint or token is down, or refuses the credentials",
                advice: "Check that service; its own message is above",
                link: link!("provider"),
            },
            Self::Endpoint(_) => Words {
                cause: "the service that issues the endpoint answered something unexpected, such as milliseconds for seconds",
                advice: "Mend the provider, so that the part that is named above is in its range",
                link: link!("provider"),
            },
            Self::Resolve(_) => Words {
                cause: "the name is misspelt or known in another network only, or DNS does not work here",
                advice: "Check the host name and this machine's DNS",
                link: link!("resolve"),
            },
            Self::Connect { .. } => Words {
                cause: "the server does not run, listens on another port, or is behind a firewall",
                advice: "Check that the server runs, the port, and firewalls between",
                link: link!("connect"),
            },
            Self::Open(_) => Words {
                cause: "what the connector opens is not there, or the driver has no connector",
                advice: "Check what the connector opens, and that the driver was given one",
                link: link!("open"),
            },
            Self::Proxy(error) => proxy(&error.fault),
            #[cfg(feature = "tls")]
            Self::Tls(error) => tls(error),
            Self::TlsNotBuilt => Words {
                cause: "everwire-core was built without its default features",
                advice: "Enable the feature `tls` of everwire-core",
                link: link!("tls"),
            },
            Self::Handshake(error) => handshake(error),
            Self::TooManyRedirects { .. } => Words {
                cause: "the redirects lead in a circle",
                advice: "Use the URL of the endpoint itself, or raise Config::max_redirects",
                link: link!("handshake"),
            },
            Self::Request(_) => Words {
                cause: "a provider gave a header with characters that HTTP does not allow",
                advice: "Mend the header that is named above",
                link: link!("handshake"),
            },
            Self::Protocol(_) => protocol(self.category()),
            Self::Closed(_) => close(self.category()),
            Self::Disconnected(Disconnect::Eof) => Words {
                cause: "the server's process ended, or a proxy closed an idle connection",
                advice: "Nothing: the session connects again. If it is regular, ping more often (Config::ping_interval)",
                link: link!("disconnected"),
            },
            Self::Disconnected(Disconnect::Io { .. }) => Words {
                cause: "the network failed, or something between forgot the connection",
                advice: "Nothing: the session connects again",
                link: link!("disconnected"),
            },
            Self::Timeout(timeout) => self::timeout(*timeout),
            Self::Authentication(_) => Words {
                cause: "the credentials are wrong, expired or revoked, or the clock that signed them is wrong",
                advice: "Check the credentials and this machine's clock; let a provider or the protocol fetch fresh ones",
                link: link!("authentication"),
            },
            Self::Preparation(_) => Words {
                cause: "the protocol asks for what this account or this server does not have",
                advice: "Check the protocol's options and what the account may do; the session tries again",
                link: link!("preparation"),
            },
            Self::Unsupported(_) => Words {
                cause: "the service or device that signs is out of reach, or a parameter of the endpoint is missing",
                advice: "Check what the protocol needs, which is named above; the session tries again",
                link: link!("preparation"),
            },
            Self::Notice(notice) => match notice.recovery {
                Recovery::Backoff(_) => Words {
                    cause: "more was sent than the server allows",
                    advice: "Nothing now: the session waits. Set the protocol's limits, so that it does not happen again",
                    link: link!("notice"),
                },
                Recovery::Reconnect | Recovery::Reauthenticate | Recovery::Stop => Words {
                    cause: "the server restarts, is maintained, or ends the client's session",
                    advice: "Look the notice up in the server's documentation if it comes often",
                    link: link!("notice"),
                },
            },
            Self::Expired => Words {
                cause: "the provider failed each time it was asked, or its endpoints expire within seconds",
                advice: "Check the service that issues them; or keep such connections (AtExpiry::Keep)",
                link: link!("expired"),
            },
            Self::Renewed => Words {
                cause: "the endpoint would have expired soon, and the protocol cannot authenticate twice on one connection",
                advice: "Nothing: it was planned (Endpoint::expires_in)",
                link: link!("expired"),
            },
            Self::Rotated => Words {
                cause: "the server ends each connection after a time, and the protocol knows that time",
                advice: "Nothing: it was planned (Protocol::life)",
                link: link!("expired"),
            },
            Self::Reconnect => Words {
                cause: "Session::reconnect or Client::reconnect was called",
                advice: "Nothing: it was asked for",
                link: link!("reconnect"),
            },
        }
    }
}

/// Advice where the server does not like who asks.
const FRESH_CREDENTIALS: &str = "Check the credentials; use a provider (Config::provided) if they expire";

/// What an explanation says besides what happened.
struct Words {
    cause: &'static str,
    advice: &'static str,
    link: &'static str,
}

fn proxy(fault: &ProxyFault) -> Words {
    let (cause, advice) = match fault {
        ProxyFault::Resolve(_) | ProxyFault::Connect { .. } => (
            "the proxy does not run, listens elsewhere, or its name is wrong",
            "Check the URL of the proxy, and that it runs",
        ),
        #[cfg(feature = "tls")]
        ProxyFault::Tls(_) => (
            "the certificate of the proxy is not trusted or for another name, or its port has no TLS",
            "Check the URL of the proxy (http or https), and what Proxy::tls trusts",
        ),
        fault if fault.is_authentication() => (
            "the credentials for the proxy are missing, wrong or expired",
            "Check those in the URL of the proxy or in Proxy::credentials",
        ),
        ProxyFault::Refused(_) | ProxyFault::Reply(_) => (
            "the rules of the proxy do not allow this server or port, or the server cannot be reached from there",
            "Ask the operator of the proxy, or leave the server out of it with ProxyRules::bypass",
        ),
        ProxyFault::Timeout => (
            "an overloaded proxy, or one that waits for a server that does not answer",
            "Check the server from the proxy's side, or raise Config::handshake_timeout",
        ),
        ProxyFault::HostTooLong { .. } => {
            ("the name in the URL is longer than SOCKS5 can carry", "Check the URL, or use an HTTP proxy")
        }
        _ => (
            "something else than this kind of proxy listens there, or it restarts",
            "Check scheme and port of the URL of the proxy",
        ),
    };
    Words { cause, advice, link: link!("proxy") }
}

#[cfg(feature = "tls")]
fn tls(error: &TlsError) -> Words {
    let (cause, advice) = match error {
        TlsError::Certificate(_) | TlsError::InvalidServerName(_) => (
            "an authority that is not trusted here, a certificate for another name, or one that is out of date",
            "Check the certificate, the host name, the trusted roots and this machine's clock",
        ),
        TlsError::NoPlatformVerifier(_) | TlsError::NoTrustRoots | TlsError::Config(_) => (
            "this machine or build has no roots to trust, or the TLS configuration contradicts itself",
            "Install the system's CA certificates, or name the roots in TlsConfig",
        ),
        TlsError::Alert(_) | TlsError::Incompatible(_) => (
            "the server wants a client certificate, another name, or another version of TLS",
            "Check TlsConfig::client_certificate_pem, the host name, and what the server supports",
        ),
        TlsError::NotTls { .. } => {
            ("the port is one for ws://, or a proxy answered", "Check the port and the scheme of the URL")
        }
        TlsError::Local(_) => (
            "this machine has no random bytes or no time of day",
            "Check the system; the session connects again",
        ),
        TlsError::Protocol(_) | TlsError::KeysExhausted | TlsError::HandshakeEof | TlsError::Truncated => (
            "the connection was cut, bytes were damaged on the way, or the server restarted",
            "Nothing: the session connects again. If it repeats, check proxies between",
        ),
    };
    Words { cause, advice, link: link!("tls") }
}

fn handshake(error: &HandshakeError) -> Words {
    match error {
        HandshakeError::Refused(refused) => match refused.status {
            401 | 403 | 407 => Words {
                cause: "the credentials are missing, wrong or expired, or the server does not admit this address or origin",
                advice: FRESH_CREDENTIALS,
                link: link!("authentication"),
            },
            429 => Words {
                cause: "too many connections or attempts from this address or account",
                advice: "Nothing now: the session waits. Open fewer connections, and let sessions share a Cooldown",
                link: link!("rate"),
            },
            500..=599 => Words {
                cause: "the server is overloaded or restarts, or a proxy has lost its server",
                advice: "Nothing: the session connects again. If it lasts, ask the server's operator",
                link: link!("handshake"),
            },
            _ => Words {
                cause: "the URL is not that of a WebSocket endpoint, or the server misses a header",
                advice: "Check the URL's path and the headers",
                link: link!("handshake"),
            },
        },
        HandshakeError::HeadTooLarge { .. } | HandshakeError::TooManyHeaders { .. } => Words {
            cause: "the server sets many cookies or policy headers, or is no WebSocket server",
            advice: "Raise Config::handshake_limits if that is to be expected",
            link: link!("capacity"),
        },
        HandshakeError::ClosedEarly { .. } => Words {
            cause: "a load balancer without a server, a server that limits connections, or one that expects TLS",
            advice: "Check the port and the scheme if it repeats",
            link: link!("handshake"),
        },
        HandshakeError::SubprotocolRepeated
        | HandshakeError::SubprotocolNotOffered { .. }
        | HandshakeError::ExtensionNotOffered { .. }
        | HandshakeError::Extension(_) => Words {
            cause: "the server and the configuration disagree on subprotocols or compression",
            advice: "Check Config::subprotocols and Config::deflate",
            link: link!("handshake"),
        },
        HandshakeError::MissingLocation { .. }
        | HandshakeError::BadLocation { .. }
        | HandshakeError::InsecureRedirect { .. } => Words {
            cause: "the endpoint has moved, and the server's redirect is of no use",
            advice: "Use the URL of the endpoint itself",
            link: link!("handshake"),
        },
        HandshakeError::NotHttp { .. }
        | HandshakeError::Malformed(_)
        | HandshakeError::HttpVersion
        | HandshakeError::UpgradeHeader
        | HandshakeError::ConnectionHeader
        | HandshakeError::AcceptMissing
        | HandshakeError::AcceptRepeated
        | HandshakeError::AcceptMismatch => Words {
            cause: "something else than a WebSocket server answered, or a proxy between spoils the upgrade",
            advice: "Check host, port and path, and that proxies pass the Upgrade header on",
            link: link!("handshake"),
        },
    }
}

fn protocol(category: Category) -> Words {
    match category {
        Category::Capacity => Words {
            cause: "the server sends longer messages than the configuration admits",
            advice: "Raise the limit in Config::limits, or take long messages in parts (Limits::chunk)",
            link: link!("capacity"),
        },
        _ => Words {
            cause: "a fault of the server, or of a proxy between",
            advice: "Report it to the server's operator; if Config::deflate is on, try without",
            link: link!("protocol"),
        },
    }
}

/// By what the code is about: [`Error::category`] knows the codes.
fn close(category: Category) -> Words {
    match category {
        Category::Rate => Words {
            cause: "more was sent than the server allows, or it does not accept the credentials",
            advice: "Nothing now: the session waits. Set the protocol's limits, or check the credentials; the reason may tell which",
            link: link!("rate"),
        },
        Category::Authentication => Words {
            cause: "the credentials are missing, wrong or expired",
            advice: FRESH_CREDENTIALS,
            link: link!("authentication"),
        },
        Category::Protocol | Category::Capacity => Words {
            cause: "the server did not understand, or did not want, what was sent",
            advice: "Check the messages that are sent, their kind (text or binary) and their size",
            link: link!("closed"),
        },
        Category::Application => Words {
            cause: "the server's own reason, or a fault in it",
            advice: "Look the code and the reason up in the server's documentation",
            link: link!("closed"),
        },
        _ => Words {
            cause: "the server restarts, is deployed, is overloaded, or ends long sessions",
            advice: "Nothing: the session connects again",
            link: link!("closed"),
        },
    }
}

fn timeout(timeout: Timeout) -> Words {
    let (cause, advice) = match timeout {
        Timeout::Connect => (
            "a firewall that drops packets, or a provider or resolver that hangs",
            "Check the network, or raise Config::connect_timeout",
        ),
        Timeout::Handshake => (
            "an overloaded server, or a port that speaks something else",
            "Check the port, or raise Config::handshake_timeout",
        ),
        Timeout::Greeting => (
            "an overloaded server, or one that does not speak first after all",
            "Check the protocol's first message, or raise Config::handshake_timeout",
        ),
        Timeout::Pong => (
            "the network broke without a word, or the peer hangs",
            "Nothing: the session connects again. If it repeats, raise Config::pong_timeout",
        ),
        Timeout::Close => (
            "the peer does not answer close frames",
            "Nothing is lost by it; Config::close_timeout says how long to wait",
        ),
        Timeout::Authentication => (
            "an overloaded server, or one whose answer the protocol does not recognise",
            "Check the protocol's authentication, or raise Config::request_timeout",
        ),
        Timeout::Preparation => (
            "an overloaded server, or one whose answer the protocol does not recognise",
            "Check what the protocol prepares a connection with, or raise Config::request_timeout",
        ),
        Timeout::Heartbeat => (
            "the server hangs, or does not know this heartbeat",
            "Check the protocol's heartbeat, or raise Config::heartbeat_timeout",
        ),
        Timeout::Write => (
            "the peer reads too slowly, or the network broke without a word",
            "Send less, or raise Config::write_timeout",
        ),
        Timeout::Data => (
            "the server forgot the subscriptions, or there is nothing to tell",
            "Nothing: the session connects again. For quiet sources raise Config::data_watch",
        ),
    };
    Words { cause, advice, link: link!("timeout") }
}
