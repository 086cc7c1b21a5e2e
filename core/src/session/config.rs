//! What a session is told before it starts.

use crate::protocol::{Plain, Protocol};
#[cfg(feature = "tls")]
use crate::transport::tls::TlsConfig;
use crate::ws::deflate::DeflateConfig;
use crate::ws::handshake::HandshakeOptions;
use crate::ws::{HeaderError, Headers, Limits, Target, UrlError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Everything about a session that is decided beforehand. Every default is right for a client that lives for months.
///
/// ```
/// use everwire_core::{Config, JsonRpc};
/// use std::time::Duration;
///
/// let config = Config::new("wss://example.com/ws")?
///     .header("X-Client", "recorder")?
///     .protocol(JsonRpc::new().methods("public/subscribe", "public/unsubscribe"))
///     .ping_interval(Some(Duration::from_secs(10)));
/// # Ok::<(), everwire_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) handshake: HandshakeOptions,
    #[cfg(feature = "tls")]
    pub(crate) tls: TlsConfig,
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) limits: Limits,
    pub(crate) recv_buffer: usize,
    pub(crate) send_buffer: usize,
    pub(crate) fragment: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong_timeout: Duration,
    pub(crate) backoff_initial: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) stable_after: Duration,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) max_redirects: u32,
    pub(crate) max_requests: usize,
}

/// Where to connect, and what to say there.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub(crate) target: Target,
    /// Sent besides, and in the place of, the headers of the [`Config`].
    pub(crate) headers: Headers,
}

impl Endpoint {
    /// An endpoint by its URL.
    ///
    /// # Errors
    /// [`UrlError`] if it is no `ws://` or `wss://` URL.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self { target: Target::parse(url)?, headers: Headers::default() })
    }

    /// With this header, in the place of one of that name in the [`Config`].
    ///
    /// # Errors
    /// [`HeaderError`] if the name or value cannot be sent.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HeaderError> {
        self.headers.append(name, value)?;
        Ok(self)
    }

    /// The URL's parts.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

impl Config {
    /// A session that connects to `url`.
    ///
    /// # Errors
    /// [`ConfigError::Url`] if it is no `ws://` or `wss://` URL.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::new(url).map_err(ConfigError::Url)?;
        Ok(Self { endpoint: Some(endpoint), ..Self::provided() })
    }

    /// A session that asks before each attempt where to connect ([`Output::Provide`](crate::Output::Provide)): for URLs and tokens that
    /// must be fresh.
    pub fn provided() -> Self {
        Self {
            endpoint: None,
            handshake: HandshakeOptions::default(),
            #[cfg(feature = "tls")]
            tls: TlsConfig::default(),
            protocol: Arc::new(Plain),
            limits: Limits::default(),
            recv_buffer: 16 << 10,
            send_buffer: 4 << 20,
            fragment: 1 << 20,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            ping_interval: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(10),
            backoff_initial: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
            max_attempts: None,
            max_redirects: 5,
            max_requests: 1_000_000,
        }
    }

    /// Sends this header with the handshake; a name may be given several times. `Host`, `Origin` and `User-Agent` replace what would be sent.
    ///
    /// # Errors
    /// [`ConfigError::Header`] if the name or value cannot be sent, or the name is the handshake's own (`Upgrade`, `Connection`,
    /// `Sec-WebSocket-*`, ...).
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, ConfigError> {
        self.handshake.headers.append(name, value).map_err(ConfigError::Header)?;
        self.handshake.validate().map_err(ConfigError::Header)?;
        Ok(self)
    }

    /// Offers these subprotocols, the most wanted first (RFC 6455 section 1.9). Default none.
    ///
    /// # Errors
    /// [`ConfigError::Header`] if one is no token or is named twice.
    pub fn subprotocols<S: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Self, ConfigError> {
        self.handshake.subprotocols = names.into_iter().map(Into::into).collect();
        self.handshake.validate().map_err(ConfigError::Header)?;
        Ok(self)
    }

    /// What is spoken on top. Default [`Plain`].
    pub fn protocol(self, protocol: impl Protocol + 'static) -> Self {
        Self { protocol: Arc::new(protocol), ..self }
    }

    /// Offers permessage-deflate (RFC 7692). Default `None`: for small messages it costs more time than it saves.
    pub fn deflate(mut self, deflate: impl Into<Option<DeflateConfig>>) -> Self {
        self.handshake.deflate = deflate.into();
        self
    }

    /// How `wss://` is secured. Default: what the operating system trusts.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: TlsConfig) -> Self {
        Self { tls, ..self }
    }

    /// Bounds on what the peer may send.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Bounds on the response to the handshake: bytes of its head (default 16 KiB) and number of header fields (default 100).
    pub fn handshake_limits(mut self, max_head: usize, max_headers: usize) -> Self {
        (self.handshake.max_head, self.handshake.max_headers) = (max_head, max_headers);
        self
    }

    /// Bytes of the receive buffer of each connection: 4 KiB to 1 GiB, default 16 KiB, which stays in a
    /// processor's first cache beside what it is copied from. It grows for single frames that are longer.
    pub fn recv_buffer(self, bytes: usize) -> Self {
        Self { recv_buffer: bytes, ..self }
    }

    /// Bytes that may wait to be written before [`SendError::Full`](crate::SendError::Full): 1 KiB to 1 GiB, default 4 MiB. A single message that is longer is
    /// taken when nothing waits.
    pub fn send_buffer(self, bytes: usize) -> Self {
        Self { send_buffer: bytes, ..self }
    }

    /// Messages longer than this are sent in several frames, so that pings and pongs get through between them: 1 KiB to 1 GiB,
    /// default 1 MiB.
    pub fn fragment_size(self, bytes: usize) -> Self {
        Self { fragment: bytes, ..self }
    }

    /// Time for an attempt to find and reach the peer: endpoint, name, TCP. Default 10 s.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self { connect_timeout: timeout, ..self }
    }

    /// Time for TLS and the WebSocket handshake. Default 10 s.
    pub fn handshake_timeout(self, timeout: Duration) -> Self {
        Self { handshake_timeout: timeout, ..self }
    }

    /// Time for the peer to answer a close frame, and to end the connection after it. Default 5 s.
    pub fn close_timeout(self, timeout: Duration) -> Self {
        Self { close_timeout: timeout, ..self }
    }

    /// Time for an answer, to requests that name none of their own and to subscriptions. Default 30 s.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        Self { request_timeout: timeout, ..self }
    }

    /// Sends a ping this often (RFC 6455 section 5.5.2); `None` never. Default 20 s.
    pub fn ping_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        Self { ping_interval: interval.into(), ..self }
    }

    /// A connection on which nothing at all arrives for this long after a ping is dead. Default 10 s.
    pub fn pong_timeout(self, timeout: Duration) -> Self {
        Self { pong_timeout: timeout, ..self }
    }

    /// Delays between attempts: uniformly random from 0 to a bound that starts at `initial` (default 500 ms), doubles, and ends
    /// at `max` (default 30 s).
    pub fn backoff(self, initial: Duration, max: Duration) -> Self {
        Self { backoff_initial: initial, backoff_max: max, ..self }
    }

    /// A connection must have been online for this long before delays start over. Default 10 s.
    pub fn stable_after(self, time: Duration) -> Self {
        Self { stable_after: time, ..self }
    }

    /// Gives up after this many attempts in a row that did not get online; `None` never. Default `None`.
    pub fn max_attempts(self, attempts: impl Into<Option<u32>>) -> Self {
        Self { max_attempts: attempts.into(), ..self }
    }

    /// Redirects followed in one attempt; 0 follows none. Default 5.
    pub fn max_redirects(self, redirects: u32) -> Self {
        Self { max_redirects: redirects, ..self }
    }

    /// Requests that may be unsettled at a time, before [`SendError::Full`](crate::SendError::Full). Default 1,000,000.
    pub fn max_requests(self, requests: usize) -> Self {
        Self { max_requests: requests, ..self }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.handshake.validate().map_err(ConfigError::Header)?;
        if let Some(deflate) = &self.handshake.deflate {
            deflate.validate().map_err(|e| ConfigError::Deflate(e.to_string()))?;
        }
        let bytes = |field, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(ConfigError::Range {
                field,
                value: format!("{value} B"),
                allowed: format!("{min} to {max} B"),
            })
        };
        const GIB: usize = 1 << 30;
        bytes("recv_buffer", self.recv_buffer, 4096, GIB)?;
        bytes("send_buffer", self.send_buffer, 1024, GIB)?;
        bytes("fragment_size", self.fragment, 1024, GIB)?;
        bytes("limits.max_frame", self.limits.max_frame, 125, usize::MAX)?;
        bytes("limits.max_message", self.limits.max_message, 125, usize::MAX)?;
        if let Some(chunk) = self.limits.chunk {
            bytes("limits.chunk", chunk, 1024, GIB)?;
        }
        bytes("handshake_limits.max_head", self.handshake.max_head, 256, GIB)?;
        if self.limits.max_fragments == 0 {
            return Err(ConfigError::Range {
                field: "limits.max_fragments",
                value: "0".into(),
                allowed: "1 or more".into(),
            });
        }
        let time = |field, value: Duration, min: Duration| {
            if (min..=MAX_TIME).contains(&value) {
                return Ok(());
            }
            let allowed = format!("{min:?} to {MAX_TIME:?}");
            Err(ConfigError::Range { field, value: format!("{value:?}"), allowed })
        };
        const MILLI: Duration = Duration::from_millis(1);
        time("connect_timeout", self.connect_timeout, MILLI)?;
        time("handshake_timeout", self.handshake_timeout, MILLI)?;
        time("close_timeout", self.close_timeout, MILLI)?;
        time("request_timeout", self.request_timeout, MILLI)?;
        time("ping_interval", self.ping_interval.unwrap_or(MILLI), MILLI)?;
        time("pong_timeout", self.pong_timeout, MILLI)?;
        time("backoff.initial", self.backoff_initial, MILLI)?;
        time("backoff.max", self.backoff_max, self.backoff_initial)?;
        time("stable_after", self.stable_after, Duration::ZERO)?;
        if self.max_attempts == Some(0) {
            return Err(ConfigError::Range {
                field: "max_attempts",
                value: "0".into(),
                allowed: "1 or more, or None".into(),
            });
        }
        Ok(())
    }
}

/// Longest time that can be set: far enough for anybody, near enough that adding it to a clock cannot overflow.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// A configuration that cannot work: what, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL cannot be connected to.
    Url(UrlError),
    /// A header or subprotocol cannot be sent.
    Header(HeaderError),
    /// A compression parameter is out of range.
    Deflate(String),
    /// The operating system gave no random bytes for the seed. Said by drivers.
    Entropy(String),
    /// A number is out of range.
    Range {
        /// The option's name.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be set to.
        allowed: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(error) => write!(f, "url: {error}"),
            Self::Header(error) => write!(f, "handshake: {error}"),
            Self::Deflate(error) => write!(f, "deflate: {error}"),
            Self::Entropy(error) => write!(f, "no random bytes from the operating system: {error}"),
            Self::Range { field, value, allowed } => write!(f, "{field} is {value}: it may be {allowed}"),
        }
    }
}

impl std::error::Error for ConfigError {}
