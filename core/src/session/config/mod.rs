//! What a session is told before it starts.
//!
//! `endpoint` says where to, `proxy` by what way, `validate` what may be set, `serde` and `settings` write and read it as data,
//! `profiles` sets much of it at once, `transport` is about sockets, and `units` are the times and sizes in all of these.

mod endpoint;
mod profiles;
mod proxy;
mod rules;
mod serde;
mod settings;
mod transport;
mod units;
mod validate;

#[cfg(test)]
mod guide;
#[cfg(test)]
mod tests;

pub use endpoint::{AtExpiry, Endpoint, Params, Refresh};
pub(crate) use endpoint::{Life, Terms};
pub use profiles::Profile;
pub use transport::{Keepalive, SocketOptions, Transport};
pub use validate::ConfigError;
pub(crate) use validate::MAX_TIME;

use super::{Cooldown, Limit, Policy, SharedLimits, Watch};
use crate::protocol::{Plain, Protocol};
use crate::record::{Recorder, Recording};
use crate::transport::proxy::ProxyRules;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsConfig;
use crate::ws::Limits;
use crate::ws::deflate::DeflateConfig;
use crate::ws::handshake::HandshakeOptions;
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
///
/// It is checked when a session is made of it: [`ConfigError`] names the option, its value, and what is allowed.
///
/// # As data
///
/// With serde it is read from, and written to, any format that describes itself (JSON, TOML, YAML). Options have the names of the
/// methods here, those with several parts are objects. What is not named has its default. Times are `"500ms"`, `"10s"`, `"5m"`, `"1h"`
/// or a number of seconds; sizes are `"16KiB"`, `"4MiB"` or a number of bytes; what is off is `null`, or `"off"` where there is no null.
/// A [profile](Profile) applies first, wherever it stands. Unknown names, wrong values and combinations are errors that name
/// the option.
///
/// ```
/// use everwire_core::Config;
///
/// let config: Config = serde_json::from_str(r#"{
///     "profile": "financial",
///     "url": "wss://example.com/ws",
///     "endpoints": ["wss://backup.example.com/ws"],
///     "ping_interval": "3s",
///     "backoff": { "initial": "50ms", "max": "5s" },
///     "limits": { "max_message": "1MiB" }
/// }"#)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Protocol and TLS are code, not data: they are not written, and have their defaults when read. Secrets are not written either: the
/// values of headers that [`Headers::is_secret`](crate::Headers::is_secret) names, subprotocols that look like a token, and user,
/// password and query of a URL, that of a proxy too, are written as `***`. Reading that is an error, so that no session runs with it.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) endpoint: Option<Endpoint>,
    /// Tried in turn after a failure, `endpoint` being the first.
    pub(crate) fallbacks: Vec<Endpoint>,
    pub(crate) handshake: HandshakeOptions,
    pub(crate) proxy: ProxyRules,
    #[cfg(feature = "tls")]
    pub(crate) tls: TlsConfig,
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) limits: Limits,
    pub(crate) recv_buffer: usize,
    pub(crate) send_buffer: usize,
    pub(crate) fragment: usize,
    pub(crate) transport: Transport,
    pub(crate) sockets: SocketOptions,
    pub(crate) race_delay: Option<Duration>,
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
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) heartbeat_interval: Option<Duration>,
    pub(crate) heartbeat_timeout: Duration,
    /// Whether a lost connection is followed by another.
    pub(crate) reconnects: bool,
    /// Most attempts, and in what time.
    pub(crate) flap_budget: Option<(u32, Duration)>,
    /// Whether subscriptions outlive their connection.
    pub(crate) restore: bool,
    pub(crate) resubscribe_initial: Duration,
    pub(crate) resubscribe_max: Duration,
    pub(crate) queue_messages: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) queue_timeout: Duration,
    pub(crate) latency_buffer: usize,
    pub(crate) event_buffer: usize,
    pub(crate) data_watch: Option<Watch>,
    pub(crate) policy: Policy,
    pub(crate) cooldown: Cooldown,
    pub(crate) send_limits: Vec<Limit>,
    pub(crate) shared_limits: SharedLimits,
    pub(crate) recording: Recording,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<crate::session::Mutant>,
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
            fallbacks: Vec::new(),
            handshake: HandshakeOptions::default(),
            proxy: ProxyRules::default(),
            #[cfg(feature = "tls")]
            tls: TlsConfig::default(),
            protocol: Arc::new(Plain),
            limits: Limits::default(),
            recv_buffer: 16 << 10,
            send_buffer: 4 << 20,
            fragment: 1 << 20,
            transport: Transport::Tcp,
            sockets: SocketOptions::default(),
            race_delay: Some(Duration::from_millis(250)),
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
            write_timeout: Some(Duration::from_secs(30)),
            heartbeat_interval: None,
            heartbeat_timeout: Duration::from_secs(10),
            reconnects: true,
            flap_budget: Some((60, Duration::from_secs(600))),
            restore: true,
            resubscribe_initial: Duration::from_secs(1),
            resubscribe_max: Duration::from_secs(60),
            queue_messages: 1024,
            queue_bytes: 1 << 20,
            queue_timeout: Duration::from_secs(30),
            latency_buffer: 1024,
            event_buffer: 1024,
            data_watch: None,
            policy: Policy::default(),
            cooldown: Cooldown::default(),
            send_limits: Vec::new(),
            shared_limits: SharedLimits::default(),
            recording: Recording::default(),
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// Further URLs that serve the same, at most 256: tried in turn after a failure, the one given to [`new`](Self::new) being the
    /// first, and back to that after the last. Takes the place of those given before. Default none.
    ///
    /// # Errors
    /// [`ConfigError::Endpoint`] says which of them is no `ws://` or `wss://` URL, counted from 0; [`ConfigError::Range`] if they are
    /// too many.
    pub fn endpoints<S: AsRef<str>>(self, urls: impl IntoIterator<Item = S>) -> Result<Self, ConfigError> {
        let mut fallbacks = Vec::new();
        for (index, url) in urls.into_iter().enumerate() {
            validate::endpoint_count(index + 1)?;
            let endpoint = Endpoint::new(url.as_ref());
            fallbacks.push(endpoint.map_err(|error| ConfigError::Endpoint { index, error })?);
        }
        Ok(Self { fallbacks, ..self })
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

    /// By way of which proxy each target is reached: a [`Proxy`](crate::Proxy) for all of them, [`ProxyRules`] for some, `None` for none, which is
    /// the default. Not with a [`transport`](Self::transport) other than TCP. Names of targets are resolved by the proxy, and [`handshake_timeout`](Self::handshake_timeout) is for its answer too.
    pub fn proxy(self, proxy: impl Into<ProxyRules>) -> Self {
        Self { proxy: proxy.into(), ..self }
    }

    /// How `wss://` is secured. Default: what the operating system trusts.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: TlsConfig) -> Self {
        Self { tls, ..self }
    }

    /// Tells everything that happens to a recorder, such as that of `everwire-record`. It is no part of the configuration as data. Default none.
    pub fn recorder(self, recorder: Arc<dyn Recorder>) -> Self {
        Self { recording: Recording(Some(recorder)), ..self }
    }

    /// A number, in 16 hexadecimal digits, that is another one for another configuration: what it is as data and what its protocol shows of itself.
    /// Secrets, TLS and the recorder have no part in it.
    pub fn digest(&self) -> String {
        let data = serde_json::to_string(self).unwrap_or_default();
        let text = format!("{data}\n{:?}", self.protocol);
        // FNV-1a: it is to find changes that nobody meant, not those that somebody hides.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }

    /// Bounds on what the peer may send: `max_frame` 125 bytes to 1 GiB (default 16 MiB), `max_message` 125 bytes to 1 TiB (default
    /// 64 MiB), `max_fragments` 1 to 16,777,216 frames (default 65,536), `chunk` 1 KiB to 1 GiB or `None`, the default.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Bounds on the response to the handshake: bytes of its head (256 B to 1 MiB, default 16 KiB) and
    /// number of header fields (1 to 10,000, default 100).
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

    /// Time for an attempt to find and reach the peer: endpoint, name, TCP. 1 ms to 365 days, default 10 s.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self { connect_timeout: timeout, ..self }
    }

    /// Time for the proxy, TLS and the WebSocket handshake: 1 ms to 365 days, default 10 s.
    pub fn handshake_timeout(self, timeout: Duration) -> Self {
        Self { handshake_timeout: timeout, ..self }
    }

    /// Time for the peer to answer a close frame, and to end the connection after it: 1 ms to 365 days, default 5 s.
    pub fn close_timeout(self, timeout: Duration) -> Self {
        Self { close_timeout: timeout, ..self }
    }

    /// A connection whose socket takes not one byte for this long, while some wait to be written, is dead: 1 ms to 365 days, default
    /// 30 s; `None` waits forever.
    pub fn write_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { write_timeout: timeout.into(), ..self }
    }

    /// Time for an answer, to requests that name none of their own and to subscriptions: 1 ms to 365 days, default 30 s.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        Self { request_timeout: timeout, ..self }
    }

    /// Sends a ping this often (RFC 6455 section 5.5.2): 1 ms to 365 days, default 20 s; `None` never.
    pub fn ping_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        Self { ping_interval: interval.into(), ..self }
    }

    /// A connection on which nothing at all arrives for this long after a ping is dead: 1 ms to 365 days, default 10 s.
    pub fn pong_timeout(self, timeout: Duration) -> Self {
        Self { pong_timeout: timeout, ..self }
    }

    /// Sends a heartbeat of the [protocol](Self::protocol) this often, beside the pings of WebSocket: 1 ms to 365 days; `None`, the
    /// default, never does. A protocol without one of its own ([`Protocol::heartbeat`]) sends nothing. Heartbeats that the server asks for
    /// are answered in any case.
    pub fn heartbeat_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        Self { heartbeat_interval: interval.into(), ..self }
    }

    /// A connection on which a heartbeat is not answered for this long is dead, if the protocol says that it will be answered: 1 ms
    /// to 365 days, default 10 s.
    pub fn heartbeat_timeout(self, timeout: Duration) -> Self {
        Self { heartbeat_timeout: timeout, ..self }
    }

    /// Ends the session when its connection is lost. How often the first one is attempted is for [`max_attempts`](Self::max_attempts)
    /// to say. Default: a lost connection is followed by another.
    pub fn no_reconnect(self) -> Self {
        Self { reconnects: false, ..self }
    }

    /// Most attempts to connect in a span of time: 1 to 4,096 in 1 s to 24 h, default 60 in 10 minutes; `None` for no such bound.
    /// Further ones wait, however short the delay of [`backoff`](Self::backoff): it is what bounds a connection that comes up and goes
    /// down again and again.
    pub fn flap_budget(self, attempts_in: impl Into<Option<(u32, Duration)>>) -> Self {
        Self { flap_budget: attempts_in.into(), ..self }
    }

    /// Whether subscriptions are restored after a reconnect. If not, they are dropped with their connection, and that is told for each.
    /// Default `true`.
    pub fn restore(self, restore: bool) -> Self {
        Self { restore, ..self }
    }

    /// Delays before a topic that the server rejected is asked for again: from `initial` (default 1 s) on, doubling, to `max` (default
    /// 60 s). Both 1 ms to 365 days, and `max` no less than `initial`.
    pub fn resubscribe_backoff(self, initial: Duration, max: Duration) -> Self {
        Self { resubscribe_initial: initial, resubscribe_max: max, ..self }
    }

    /// Delays between attempts: uniformly random from 0 to a bound that starts at `initial` (default 500 ms), doubles, and ends
    /// at `max` (default 30 s). Both 1 ms to 365 days, and `max` no less than `initial`.
    pub fn backoff(self, initial: Duration, max: Duration) -> Self {
        Self { backoff_initial: initial, backoff_max: max, ..self }
    }

    /// A connection must have been online for this long before delays start over: 0 to 365 days, default 10 s.
    pub fn stable_after(self, time: Duration) -> Self {
        Self { stable_after: time, ..self }
    }

    /// Gives up after this many attempts in a row that did not get online: 1 to 1,000,000; `None`, the
    /// default, never does.
    pub fn max_attempts(self, attempts: impl Into<Option<u32>>) -> Self {
        Self { max_attempts: attempts.into(), ..self }
    }

    /// Redirects followed in one attempt; 0 to 100, default 5. 0 follows none.
    pub fn max_redirects(self, redirects: u32) -> Self {
        Self { max_redirects: redirects, ..self }
    }

    /// Requests that may be unsettled at a time, before [`SendError::Full`](crate::SendError::Full). 1 to 10,000,000,
    /// default 1,000,000.
    pub fn max_requests(self, requests: usize) -> Self {
        Self { max_requests: requests, ..self }
    }

    /// What may wait for the limiter before [`SendError::Full`](crate::SendError::Full): `messages` from 0 to 1,000,000, default 1024,
    /// that together have `bytes` from 0 to 1 GiB, default 1 MiB. With 0 of either, nothing waits.
    pub fn queue(self, messages: usize, bytes: usize) -> Self {
        Self { queue_messages: messages, queue_bytes: bytes, ..self }
    }

    /// Messages that waited this long for the limiter are not sent any more, and that is told: 1 ms to 365 days, default 30 s.
    pub fn queue_timeout(self, timeout: Duration) -> Self {
        Self { queue_timeout: timeout, ..self }
    }

    /// Round-trip times that are kept, the newest, for the percentiles in [`Latency`](crate::Latency): 1 to 65,536, default 1024.
    pub fn latency_buffer(self, samples: usize) -> Self {
        Self { latency_buffer: samples, ..self }
    }

    /// Events that may wait for the user of a spawned session (`connect` of the drivers): 1 to 1,048,576, default 1024. When so many
    /// wait, or 16 MiB of them, the connection is not read until one is taken. For messages of a subscription, [`Overflow`](crate::Overflow) may say
    /// otherwise: then so many more of those may wait. One read may bring hundreds of short messages: a buffer that is smaller than such a burst makes
    /// a busy user a slow one.
    pub fn event_buffer(self, events: usize) -> Self {
        Self { event_buffer: events, ..self }
    }
}

/// The examples in the guide compile.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guides/configuration.md")]
struct GuideExamples;
