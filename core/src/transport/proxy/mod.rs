//! Proxies: how a connection reaches its server by way of another host.
//!
//! ```text
//!  Proxy           one proxy: scheme, address, credentials, headers
//!  ProxyRules      which one for which target, and which targets go directly
//!  ProxyHandshake  what is said to it before its connection is ours
//!    connect         HTTP CONNECT (RFC 9110 section 9.3.6)
//!    socks           SOCKS5 (RFC 1928, RFC 1929)
//! ```
//!
//! The name of the server is always resolved by the proxy: who has to use one often cannot resolve it himself, and lookups would tell
//! others where the connection goes.

mod bypass;
mod connect;
mod error;
mod handshake;
mod rules;
mod socks;

#[cfg(test)]
mod tests;

pub use error::{ProxyConfigError, ProxyError, ProxyFault};
pub use handshake::ProxyHandshake;
pub use rules::ProxyRules;

use crate::error::Error;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsConfig;
use crate::ws::{Headers, Target, UrlError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// A proxy: where it is, what it speaks, and what it wants to know of us.
///
/// | URL | what it speaks | port if none is named |
/// | --- | --- | --- |
/// | `http://host` | HTTP CONNECT (RFC 9110 section 9.3.6), for `ws` and `wss` alike | 80 |
/// | `https://host` | the same over TLS | 443 |
/// | `socks5://host`, `socks5h://host`, `socks://host` | SOCKS5 (RFC 1928). All three are the same here: names are resolved by the proxy | 1080 |
///
/// [`Debug`] and [`Display`](fmt::Display) show neither credentials nor secret headers.
///
/// ```
/// use everwire_core::{Config, Proxy};
///
/// let proxy = Proxy::new("http://proxy.example:3128")?.credentials("alice", "open sesame")?;
/// let config = Config::new("wss://example.com/ws")?.proxy(proxy);
/// # Ok::<(), everwire_core::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    scheme: Scheme,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    headers: Headers,
    #[cfg(feature = "tls")]
    tls: TlsConfig,
}

impl Proxy {
    /// A proxy by its URL. User name and password in it are percent-decoded, and used as those of [`credentials`](Self::credentials).
    ///
    /// # Errors
    /// [`ProxyConfigError`] if it is no URL of the table above, has a path, query or fragment, names no host or port 0, or has credentials
    /// that cannot be sent. It never repeats the URL. `https` needs the feature `tls`.
    pub fn new(url: &str) -> Result<Self, ProxyConfigError> {
        let (scheme, rest) = url.split_once("://").ok_or(ProxyConfigError::NoScheme)?;
        let offset = scheme.len() + 3;
        let scheme = Scheme::parse(scheme)?;
        if cfg!(not(feature = "tls")) && scheme == Scheme::Https {
            return Err(ProxyConfigError::TlsNotBuilt);
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, extra) = rest.split_at(end);
        if !matches!(extra, "" | "/") {
            return Err(ProxyConfigError::Extra);
        }
        // The rules for hosts, ports and user info are those of the WebSocket URL.
        let target = Target::parse(&format!("ws://{authority}/")).map_err(|error| match error {
            UrlError::Credentials => ProxyConfigError::Credentials,
            UrlError::Character { at } => {
                ProxyConfigError::Url(UrlError::Character { at: (at + offset).saturating_sub("ws://".len()) })
            }
            error => ProxyConfigError::Url(error),
        })?;
        // Port 80 of `ws` is as good as none there.
        let address = authority.rsplit('@').next().unwrap_or_default();
        let explicit = |(_, port): (&str, &str)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = if address.rsplit_once(':').is_some_and(explicit) { target.port() } else { scheme.port() };
        let proxy = Self {
            scheme,
            host: target.host().to_owned(),
            port,
            credentials: None,
            headers: Headers::new(),
            #[cfg(feature = "tls")]
            tls: TlsConfig::default(),
        };
        match target.credentials() {
            Some((user, password)) => proxy.credentials(user, password),
            None => Ok(proxy),
        }
    }

    /// With this user name and password: `Proxy-Authorization: Basic` (RFC 7617) for HTTP, RFC 1929 for SOCKS5. They take the place
    /// of those of the URL.
    ///
    /// # Errors
    /// [`ProxyConfigError::Credentials`]: Basic has no colon in the user name and no control characters; SOCKS5 has 1 to 255 bytes for the
    /// user name and 0 to 255 for the password.
    pub fn credentials(
        mut self,
        user: impl Into<Vec<u8>>,
        password: impl Into<Vec<u8>>,
    ) -> Result<Self, ProxyConfigError> {
        let (user, password) = (user.into(), password.into());
        let valid = if self.scheme.is_socks() {
            matches!(user.len(), 1..=255) && password.len() <= 255
        } else {
            !user.contains(&b':') && !user.iter().chain(&password).any(u8::is_ascii_control)
        };
        if !valid {
            return Err(ProxyConfigError::Credentials);
        }
        self.credentials = Some(Credentials { user, password });
        Ok(self)
    }

    /// With this header in the CONNECT request; a name may be given several times. `User-Agent` and `Proxy-Authorization` replace what
    /// would be sent.
    ///
    /// # Errors
    /// [`ProxyConfigError::Header`] if the name or value cannot be sent, or the name is the request's own (`Host`, `Connection`, `Upgrade`,
    /// `Content-Length`, `Transfer-Encoding`); [`ProxyConfigError::NoHeaders`] for a SOCKS5 proxy, which has none.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, ProxyConfigError> {
        if self.scheme.is_socks() {
            return Err(ProxyConfigError::NoHeaders);
        }
        if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
            let error = crate::ws::HeaderError::Reserved { name: name.to_owned() };
            return Err(ProxyConfigError::Header(error));
        }
        self.headers.append(name, value).map_err(ProxyConfigError::Header)?;
        Ok(self)
    }

    /// How the connection to an `https://` proxy is secured; the others have no use for it. Default: what the operating system trusts, whatever
    /// [`Config::tls`](crate::Config::tls) says of servers.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(self, tls: TlsConfig) -> Self {
        Self { tls, ..self }
    }

    /// The host to connect to: a lower-case domain name, an IPv4 address, or an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port. Never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection to it is encrypted (`https`).
    pub fn secure(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// An error of an attempt by way of this proxy: names and addresses are those of the proxy.
    pub(crate) fn blame(&self, error: Error) -> Error {
        let fault = match error {
            Error::Resolve(error) => ProxyFault::Resolve(error),
            Error::Connect { addr, cause } => ProxyFault::Connect { addr, cause },
            error => return error,
        };
        Error::Proxy(ProxyError { proxy: self.to_string(), fault })
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls_config(&self) -> &TlsConfig {
        &self.tls
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    pub(crate) fn headers(&self) -> &Headers {
        &self.headers
    }
}

/// The URL without credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("url", &format_args!("{self}"))
            .field("credentials", &self.has_credentials())
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl std::str::FromStr for Proxy {
    type Err = ProxyConfigError;

    fn from_str(url: &str) -> Result<Self, ProxyConfigError> {
        Self::new(url)
    }
}

/// Headers that are not for the user to set.
const RESERVED: [&str; 5] = ["Host", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding"];

/// `host:port`, an IPv6 address in brackets (RFC 9110 section 7.2, with the port in any case).
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Socks5,
    Socks5h,
}

impl Scheme {
    fn parse(scheme: &str) -> Result<Self, ProxyConfigError> {
        match scheme.to_ascii_lowercase().as_str() {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            // What desktops set for a SOCKS proxy.
            "socks5" | "socks" => Ok(Self::Socks5),
            "socks5h" => Ok(Self::Socks5h),
            // What is no scheme may be a secret.
            other if other.len() <= 16 && other.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Err(ProxyConfigError::Scheme(other.to_owned()))
            }
            _ => Err(ProxyConfigError::NoScheme),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 | Self::Socks5h => 1080,
        }
    }

    fn is_socks(self) -> bool {
        matches!(self, Self::Socks5 | Self::Socks5h)
    }
}

/// User name and password. No `Debug`: nothing may print them.
#[derive(Clone)]
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// As `Basic` has them (RFC 7617 section 2).
    fn basic(&self) -> String {
        STANDARD.encode([&self.user[..], b":", &self.password].concat())
    }
}
