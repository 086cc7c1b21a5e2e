//! What can go wrong with proxies.

use crate::error::{Category, Disconnect, Recovery, ResolveError};
#[cfg(feature = "tls")]
use crate::transport::tls::TlsError;
use crate::ws::handshake::{PeerProtocol, Refused, excerpt};
use crate::ws::{HeaderError, UrlError};
use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

/// Why a connection by way of a proxy failed: the fault is with the proxy, or on the way to it, or it says why the server cannot be
/// reached.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyError {
    /// The URL of the proxy, without credentials.
    pub proxy: String,
    /// What went wrong.
    pub fault: ProxyFault,
}

/// What went wrong with a proxy.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ProxyFault {
    /// The name of the proxy could not be resolved.
    Resolve(ResolveError),
    /// TCP to the proxy could not connect.
    Connect {
        /// The address that was tried last.
        addr: SocketAddr,
        /// What the operating system said.
        cause: Disconnect,
    },
    /// TLS to an `https://` proxy failed.
    #[cfg(feature = "tls")]
    Tls(TlsError),
    /// The connection ended before the proxy had connected us.
    Ended {
        /// How many bytes it had sent.
        received: usize,
        /// How it ended.
        cause: Disconnect,
    },
    /// The proxy did not answer within `Config::handshake_timeout`.
    Timeout,
    /// HTTP: the proxy refused, with a status that is not 2xx.
    Refused(Box<Refused>),
    /// HTTP: the proxy does not answer in HTTP/1.
    NotHttp {
        /// The first bytes of the answer, at most 16, escaped; none if they may repeat a secret.
        first_bytes: String,
        /// What it looks like instead.
        peer: PeerProtocol,
    },
    /// HTTP: the answer is not valid, for the reason given.
    Malformed(&'static str),
    /// HTTP: the head of the answer is longer than the limit (`Config::handshake_limits`).
    HeadTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// HTTP: the answer has more headers than the limit (`Config::handshake_limits`).
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// SOCKS5: the answer has another version.
    NotSocks {
        /// The version, which is the first byte of an answer. It should be 5.
        version: u8,
    },
    /// SOCKS5: the proxy takes none of the methods of authentication that were offered (RFC 1928 section 3).
    NoMethod {
        /// Whether credentials were offered.
        credentials: bool,
    },
    /// SOCKS5: the proxy chose a method of authentication that was not offered.
    Method(u8),
    /// SOCKS5: the proxy refused user name and password (RFC 1929 section 2).
    CredentialsRefused {
        /// Its status, which is not 0.
        status: u8,
    },
    /// SOCKS5: the proxy did not connect (RFC 1928 section 6).
    Reply(u8),
    /// SOCKS5: the answer has an address of an unknown type.
    AddressType(u8),
    /// SOCKS5: the name of the server is longer than the 255 bytes that SOCKS5 has for it.
    HostTooLong {
        /// Its length in bytes.
        len: usize,
    },
}

impl ProxyFault {
    pub(crate) fn category(&self) -> Category {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => Category::Tls,
            Self::Timeout => Category::Timeout,
            // 401 is what tinyproxy says to a wrong password.
            Self::Refused(refused) if matches!(refused.status, 401 | 407) => Category::Authentication,
            Self::NoMethod { .. } | Self::CredentialsRefused { .. } => Category::Authentication,
            Self::HeadTooLarge { .. } | Self::TooManyHeaders { .. } => Category::Capacity,
            Self::HostTooLong { .. } => Category::Config,
            _ => Category::Connection,
        }
    }

    /// What is done about it. No provider has other credentials for a proxy, so that it stops where others reauthenticate.
    pub(crate) fn recovery(&self, wall: SystemTime) -> Recovery {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(error) if error.is_fatal_config() => Recovery::Stop,
            Self::HostTooLong { .. } => Recovery::Stop,
            _ if self.is_authentication() => Recovery::Stop,
            Self::Refused(refused) => match refused.retry_after {
                Some(after) => Recovery::Backoff(after.delay(wall)).bounded(),
                None => Recovery::Reconnect,
            },
            _ => Recovery::Reconnect,
        }
    }

    /// Whether the proxy wants credentials, or others.
    pub(crate) fn is_authentication(&self) -> bool {
        self.category() == Category::Authentication
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}: {}", self.proxy, self.fault)
    }
}

impl std::error::Error for ProxyError {}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => write!(f, "its name could not be resolved: {}", error.message),
            Self::Connect { addr, cause } => write!(f, "could not connect to {addr}: {cause}"),
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Ended { received: 0, cause } => write!(
                f,
                "the connection ended without an answer ({cause}); check the port and the scheme (http, https or socks5)"
            ),
            Self::Ended { received, cause } => {
                write!(
                    f,
                    "the connection ended after {received} bytes, in the middle of the answer ({cause})"
                )
            }
            Self::Timeout => f.write_str("it did not answer in time; it may wait for the server"),
            Self::Refused(refused) => {
                write!(f, "it refused to connect with status {}", refused.status)?;
                if !refused.reason.is_empty() {
                    write!(f, " {:?}", excerpt(&refused.reason))?;
                }
                if let Some(text) = gist(refused) {
                    write!(f, " ({text:?})")?;
                }
                write!(f, "; {}", hint(refused.status))
            }
            Self::NotHttp { first_bytes, peer } => {
                let hint = match peer {
                    PeerProtocol::Tls => "that is a TLS alert: use https:// for this proxy",
                    _ => "check host, port and scheme of the proxy",
                };
                write!(f, "its answer is not HTTP/1, it begins with \"{first_bytes}\"; {hint}")
            }
            Self::Malformed(what) => write!(f, "its answer is not valid HTTP: {what}"),
            Self::HeadTooLarge { limit } => {
                write!(
                    f,
                    "the head of its answer is longer than {limit} bytes; raise Config::handshake_limits"
                )
            }
            Self::TooManyHeaders { limit } => {
                write!(f, "its answer has more than {limit} headers; raise Config::handshake_limits")
            }
            Self::NotSocks { version: b'H' } => f.write_str(
                "it does not speak SOCKS5, its answer looks like HTTP: use http:// for this proxy",
            ),
            Self::NotSocks { version } => {
                write!(f, "it does not speak SOCKS5: the version of its answer is {version}")
            }
            Self::NoMethod { credentials: false } => f.write_str(
                "it wants credentials: give them with Proxy::credentials or in the URL of the proxy",
            ),
            Self::NoMethod { credentials: true } => {
                f.write_str("it takes neither user name and password nor a connection without")
            }
            Self::Method(method) => {
                write!(f, "it chose authentication method {method}, which was not offered")
            }
            Self::CredentialsRefused { status } => {
                write!(f, "it refused user name and password, with status {status}")
            }
            Self::Reply(code) => write!(f, "it did not connect: {}", reply(*code)),
            Self::AddressType(kind) => write!(f, "its answer has an address of the unknown type {kind}"),
            Self::HostTooLong { len } => {
                write!(
                    f,
                    "the name of the server has {len} bytes; SOCKS5 has room for 255: use an HTTP proxy"
                )
            }
        }
    }
}

/// RFC 1928 section 6.
fn reply(code: u8) -> String {
    let text = match code {
        1 => "general failure of the proxy",
        2 => "not allowed by the rules of the proxy",
        3 => "network unreachable from the proxy",
        4 => "host unreachable from the proxy, or its name is unknown there",
        5 => "the server refused the connection of the proxy",
        6 => "time to live expired on the way from the proxy",
        7 => "the proxy does not know the command to connect",
        8 => "the proxy does not know this type of address",
        _ => "for an unknown reason",
    };
    format!("{text} (reply {code})")
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 407 => "give the right credentials with Proxy::credentials or in the URL of the proxy",
        403 | 405 => "its rules do not allow this server or port",
        404 | 500..=599 => "it cannot reach the server, or is in trouble itself",
        300..=399 => "it answers with a page: it may want a login",
        _ => "check what it is configured for",
    }
}

/// What the body of a refusal says, if that can be told in a line: the title of a page, or the first line of a plain text. What we
/// sent is not in it, see `connect`.
fn gist(refused: &Refused) -> Option<String> {
    let text = String::from_utf8_lossy(&refused.body);
    let text = text.trim_start();
    let line = if text.starts_with('<') {
        let lower = text.to_ascii_lowercase();
        let from = lower.find("<title>")? + "<title>".len();
        &text[from..from + lower[from..].find("</title>")?]
    } else {
        text.lines().next()?
    };
    let line = line.trim();
    (!line.is_empty()).then(|| excerpt(line))
}

/// Why something is not a usable proxy, or not a usable rule for one.
///
/// No URL is repeated: there may be a password in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyConfigError {
    /// The URL is not of the form `scheme://host`.
    NoScheme,
    /// The scheme (lower case) is none that proxies have here.
    Scheme(String),
    /// The URL has a path, a query or a fragment.
    Extra,
    /// Host or port of the URL are not valid.
    Url(UrlError),
    /// User name or password cannot be sent.
    Credentials,
    /// A header cannot be sent.
    Header(HeaderError),
    /// Headers for a SOCKS5 proxy.
    NoHeaders,
    /// `https://`, but this build has no TLS.
    TlsNotBuilt,
    /// An entry of the list of hosts that are reached directly is not valid.
    Bypass {
        /// Which, from 0.
        index: usize,
    },
    /// A variable of the environment has a proxy that cannot be used.
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        error: Box<Self>,
    },
}

impl fmt::Display for ProxyConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme => f.write_str("not a complete URL; use http://, https:// or socks5://"),
            Self::Scheme(scheme) => write!(f, "there are no {scheme}:// proxies here; use http://, https:// or socks5://"),
            Self::Extra => f.write_str(
                "the URL of a proxy has no path, query or fragment; write / as %2F, ? as %3F and # as %23 in a password",
            ),
            Self::Url(error) => error.fmt(f),
            Self::Credentials => f.write_str(
                "user name or password cannot be sent: HTTP has no control characters and no colon in the user name, SOCKS5 has \
                 1 to 255 bytes for the user name and at most 255 for the password",
            ),
            Self::Header(error) => error.fmt(f),
            Self::NoHeaders => f.write_str("a SOCKS5 proxy takes no headers"),
            Self::TlsNotBuilt => f.write_str("https:// proxies need the feature `tls` of everwire-core"),
            Self::Bypass { index } => write!(
                f,
                "entry {index} (from 0) is neither a name, an address, a block of addresses, nor *; write example.com, \
                 192.0.2.1, 10.0.0.0/8 or [::1], each with :port if only that is meant"
            ),
            Self::Variable { name, error } => write!(f, "{name}: {error}"),
        }
    }
}

impl std::error::Error for ProxyConfigError {}
