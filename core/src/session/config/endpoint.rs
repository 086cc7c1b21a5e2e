//! Where to connect, and what holds for the connections that are made there.

use super::validate::Range;
use super::{Config, ConfigError};
use crate::clock::Clock;
use crate::record::EndpointRecord;
use crate::session::backoff;
use crate::ws::handshake::{HandshakeOptions, may_be_token};
use crate::ws::{HeaderError, Headers, Target, UrlError};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// Where to connect, what to say there, and for how long that is good. What an endpoint says goes before the [`Config`].
///
/// Its numbers are looked at when a session gets it: one that is out of range fails the attempt with
/// [`Error::Endpoint`](crate::Error::Endpoint), which names it.
///
/// ```
/// use everwire_core::Endpoint;
/// use std::time::Duration;
///
/// // What a token service answered.
/// let (token, interval) = ("a-secret", Duration::from_secs(18));
/// let endpoint = Endpoint::new(&format!("wss://feed.example.com/?token={token}"))?
///     .param("token", token)
///     .heartbeat_interval(interval)
///     .expires_in(Duration::from_secs(24 * 3600));
/// assert!(!format!("{endpoint:?}").contains(token));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) target: Target,
    /// Sent besides, and in the place of, the headers of the [`Config`].
    headers: Headers,
    subprotocols: Option<Vec<String>>,
    params: Params,
    ping_interval: Option<Option<Duration>>,
    pong_timeout: Option<Duration>,
    heartbeat_interval: Option<Option<Duration>>,
    heartbeat_timeout: Option<Duration>,
    expiry: Option<Expiry>,
    refresh_after: f64,
    refresh: Refresh,
    at_expiry: AtExpiry,
    /// Known once a session has it.
    life: Option<Life>,
}

/// What is done with a fresh endpoint that the provider gives ahead of the old one's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refresh {
    /// As [`Reauthenticate`](Self::Reauthenticate) if the protocol can ([`Protocol::reauthenticates`](crate::Protocol::reauthenticates)),
    /// otherwise as [`Reconnect`](Self::Reconnect).
    #[default]
    Auto,
    /// The live connection is authenticated again, with the fresh parameters.
    Reauthenticate,
    /// The session changes over to a new connection, made with the fresh endpoint, as soon as [`Config::cooldown`] and
    /// [`Config::flap_budget`] allow one: until then the old one goes on.
    Reconnect,
    /// The fresh parameters take the place of the old ones on the live connection, and nothing is sent: for a token that is only needed to
    /// subscribe.
    Parameters,
    /// Nothing: the provider is not asked before the next attempt. For a token that is only needed to open a connection.
    Off,
}

/// What becomes of a connection whose endpoint has expired, if no fresh one was to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AtExpiry {
    /// It is kept until the server ends it, and the provider is asked on: as long as data comes, giving it up would only make an
    /// outage of a token service one of the feed.
    #[default]
    Keep,
    /// It is given up, with [`Error::Expired`](crate::Error::Expired): for servers that leave a connection open and silent.
    Disconnect,
}

/// What an endpoint tells the protocol: pairs of texts, such as a token. The protocol finds them in
/// [`Context`](crate::protocol::Context). Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// None at all.
    pub(crate) const NONE: &Self = &Self(Vec::new());
    /// Most pairs.
    pub const MAX: usize = 64;
    /// Most bytes of all names and values together.
    pub const MAX_BYTES: usize = 64 << 10;

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Name and value of each, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn set(&mut self, name: String, value: String) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }
}

/// For the tests of a protocol. Of two values of a name, the last one counts.
impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut params = Self::default();
        pairs.into_iter().for_each(|(name, value)| params.set(name.into(), value.into()));
        params
    }
}

// They are secrets; names too, in case somebody exchanged them.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params").field("count", &self.0.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
enum Expiry {
    In(Duration),
    At(SystemTime),
}

/// When an endpoint is to be refreshed, and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) refresh_at: Instant,
    pub(crate) expires_at: Instant,
}

impl Life {
    /// The part of a life after which it is renewed, unless somebody says otherwise.
    pub(crate) const RENEWED_AFTER: f64 = 0.8;
    /// Nothing is renewed more often than this: a server, or a provider, may say that a life is next to nothing.
    pub(crate) const SHORTEST: Duration = Duration::from_secs(1);

    /// What was given `now` ends in a time of `life` and is renewed `after` this part of it at the latest, up to a tenth of that sooner:
    /// many sessions that began at the same time must not all come at once.
    pub(crate) fn new(life: Duration, after: f64, rng: &mut ChaCha8Rng, now: Instant) -> Self {
        let life = life.clamp(Self::SHORTEST, super::MAX_TIME);
        let latest = life.mul_f64(after.clamp(0.0, 1.0));
        let renewed = latest - backoff::fraction(latest / 10, rng);
        Self { refresh_at: now + renewed.max(Self::SHORTEST), expires_at: now + life }
    }
}

impl Endpoint {
    /// An endpoint by its URL.
    ///
    /// # Errors
    /// [`UrlError`] if it is no `ws://` or `wss://` URL.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self {
            target: Target::parse(url)?,
            headers: Headers::default(),
            subprotocols: None,
            params: Params::default(),
            ping_interval: None,
            pong_timeout: None,
            heartbeat_interval: None,
            heartbeat_timeout: None,
            expiry: None,
            refresh_after: Life::RENEWED_AFTER,
            refresh: Refresh::default(),
            at_expiry: AtExpiry::default(),
            life: None,
        })
    }

    /// With this header, in the place of one of that name in the [`Config`].
    ///
    /// # Errors
    /// [`HeaderError`] if the name or value cannot be sent.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HeaderError> {
        self.headers.append(name, value)?;
        Ok(self)
    }

    /// Offers these subprotocols, the most wanted first, in the place of those of [`Config::subprotocols`]: for servers that take a token as
    /// one. None may be empty or named twice.
    pub fn subprotocols<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        Self { subprotocols: Some(names.into_iter().map(Into::into).collect()), ..self }
    }

    /// Tells the protocol this, in the place of what had that name before: it finds it in [`Context`](crate::protocol::Context) when it
    /// authenticates, subscribes, makes heartbeats and says farewell. At most [`Params::MAX`] of [`Params::MAX_BYTES`] together. Not shown anywhere.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.set(name.into(), value.into());
        self
    }

    /// As [`Config::ping_interval`], on connections of this endpoint: 1 ms to 365 days, or `None`.
    pub fn ping_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        Self { ping_interval: Some(interval.into()), ..self }
    }

    /// As [`Config::pong_timeout`]: 1 ms to 365 days.
    pub fn pong_timeout(self, timeout: Duration) -> Self {
        Self { pong_timeout: Some(timeout), ..self }
    }

    /// As [`Config::heartbeat_interval`]: 1 ms to 365 days, or `None`.
    pub fn heartbeat_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        Self { heartbeat_interval: Some(interval.into()), ..self }
    }

    /// As [`Config::heartbeat_timeout`]: 1 ms to 365 days.
    pub fn heartbeat_timeout(self, timeout: Duration) -> Self {
        Self { heartbeat_timeout: Some(timeout), ..self }
    }

    /// It is good for so long, counted from when the session gets it: at least 1 s; more than 365 days counts as that. Default: for ever.
    ///
    /// Ahead of that the provider is asked for a fresh one while the connection goes on: see [`refresh_after`](Self::refresh_after),
    /// [`refresh`](Self::refresh), and for what happens without one [`at_expiry`](Self::at_expiry).
    pub fn expires_in(self, life: Duration) -> Self {
        Self { expiry: Some(Expiry::In(life)), ..self }
    }

    /// The same for whoever knows a time of day, such as the `exp` of a JSON Web Token. It must lie at least 1 s ahead by this machine's clock.
    pub fn expires_at(self, end: SystemTime) -> Self {
        Self { expiry: Some(Expiry::At(end)), ..self }
    }

    /// The part of its life after which the provider is asked for a fresh one: 0.05 to 0.95, default 0.8. Up to a tenth of that time sooner, at
    /// random, and not sooner than after 1 s.
    pub fn refresh_after(self, part: f64) -> Self {
        Self { refresh_after: part, ..self }
    }

    /// What is done with a fresh endpoint while the connection that was made with this one lives. Default [`Refresh::Auto`].
    pub fn refresh(self, refresh: Refresh) -> Self {
        Self { refresh, ..self }
    }

    /// What becomes of the connection when this expires and no fresh one was to be had. Default [`AtExpiry::Keep`].
    pub fn at_expiry(self, at_expiry: AtExpiry) -> Self {
        Self { at_expiry, ..self }
    }

    /// The URL's parts.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Checks what a provider gave, and notes when it ends. What was accepted already stays as it is.
    pub(crate) fn accept(
        mut self,
        config: &Config,
        clock: &Clock,
        rng: &mut ChaCha8Rng,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        if self.life.is_some() {
            return Ok(self);
        }
        self.handshake(&config.handshake).map_err(ConfigError::Header)?;
        self.check_params()?;
        let times = [
            ("ping_interval", self.ping_interval.flatten()),
            ("pong_timeout", self.pong_timeout),
            ("heartbeat_interval", self.heartbeat_interval.flatten()),
            ("heartbeat_timeout", self.heartbeat_timeout),
        ];
        for (field, time) in times {
            time.map_or(Ok(()), |time| Range::check_time(field, time))?;
        }
        if !(0.05..=0.95).contains(&self.refresh_after) {
            return Err(out_of_range("refresh_after", &self.refresh_after, "0.05 to 0.95"));
        }
        let life = match self.expiry {
            None => return Ok(self),
            Some(Expiry::In(life)) if life < Life::SHORTEST => {
                return Err(out_of_range("expires_in", &format_args!("{life:?}"), "1s or more"));
            }
            Some(Expiry::In(life)) => life,
            Some(Expiry::At(end)) => match end.duration_since(clock.wall(now)) {
                Ok(life) if life >= Life::SHORTEST => life,
                _ => {
                    let allowed = "1s ahead or more, by the clock of this machine, which may be wrong";
                    return Err(out_of_range("expires_at", &"over", allowed));
                }
            },
        };
        self.life = Some(Life::new(life, self.refresh_after, rng, now));
        Ok(self)
    }

    fn check_params(&self) -> Result<(), ConfigError> {
        let Params(pairs) = &self.params;
        let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if pairs.len() > Params::MAX {
            return Err(out_of_range("param", &format_args!("{} pairs", pairs.len()), "0 to 64 pairs"));
        }
        if bytes > Params::MAX_BYTES {
            return Err(out_of_range("param", &format_args!("{bytes} bytes"), "0B to 64KiB in all"));
        }
        Ok(())
    }

    /// What its handshake says: each header that it names replaces all of that name in the configuration.
    pub(crate) fn handshake(&self, config: &HandshakeOptions) -> Result<HandshakeOptions, HeaderError> {
        let mut options = config.clone();
        for (name, _) in self.headers.iter() {
            options.headers.remove(name);
        }
        self.headers.iter().try_for_each(|(name, value)| options.headers.append(name, value))?;
        if let Some(names) = &self.subprotocols {
            options.subprotocols.clone_from(names);
        }
        options.validate()?;
        Ok(options)
    }

    /// A redirect leads elsewhere. Secrets for one origin are not for another one, as in [`HandshakeOptions::for_redirect`].
    pub(crate) fn redirect(&mut self, to: Target) {
        if !self.target.same_origin(&to) {
            self.params = Params::default();
        }
        self.target = to;
    }

    /// What is written to a record.
    pub(crate) fn recorded(&self) -> EndpointRecord {
        let secret = || EndpointRecord::SECRET.to_owned();
        let header = |(name, value): (&str, &str)| {
            let value = if Headers::is_secret(name) { secret() } else { value.to_owned() };
            (name.to_owned(), value)
        };
        let protocol = |name: &String| if may_be_token(name) { secret() } else { name.clone() };
        let scheme = if self.target.secure() { "wss" } else { "ws" };
        EndpointRecord {
            url: format!("{scheme}://{}{}", self.target.authority(), self.target.resource()),
            headers: self.headers.iter().map(header).collect(),
            subprotocols: self.subprotocols.as_ref().map(|names| names.iter().map(protocol).collect()),
            params: self.params.iter().map(|(name, _)| (name.to_owned(), secret())).collect(),
            ping_interval: self.ping_interval,
            pong_timeout: self.pong_timeout,
            heartbeat_interval: self.heartbeat_interval,
            heartbeat_timeout: self.heartbeat_timeout,
            expires_in: match self.expiry {
                Some(Expiry::In(life)) => Some(life),
                _ => None,
            },
            expires_at: match self.expiry {
                Some(Expiry::At(end)) => Some(end),
                _ => None,
            },
            refresh_after: self.refresh_after,
            refresh: self.refresh,
            at_expiry: self.at_expiry,
        }
    }

    /// What [`recorded`](Self::recorded) wrote.
    pub(crate) fn from_record(record: &EndpointRecord) -> Result<Self, String> {
        let mut endpoint = Self::new(&record.url).map_err(|error| error.to_string())?;
        for (name, value) in &record.headers {
            endpoint = endpoint.header(name, value).map_err(|error| error.to_string())?;
        }
        for (name, value) in &record.params {
            endpoint = endpoint.param(name, value);
        }
        Ok(Self {
            subprotocols: record.subprotocols.clone(),
            ping_interval: record.ping_interval,
            pong_timeout: record.pong_timeout,
            heartbeat_interval: record.heartbeat_interval,
            heartbeat_timeout: record.heartbeat_timeout,
            expiry: record.expires_in.map(Expiry::In).or_else(|| record.expires_at.map(Expiry::At)),
            refresh_after: record.refresh_after,
            refresh: record.refresh,
            at_expiry: record.at_expiry,
            ..endpoint
        })
    }

    /// Whether its time is over.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.life.is_some_and(|life| life.expires_at <= now)
    }
}

// Headers and target show what is no secret. Subprotocols may be tokens.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("target", &self.target)
            .field("headers", &self.headers)
            .field("params", &self.params)
            .field("refresh", &self.refresh)
            .finish_non_exhaustive()
    }
}

fn out_of_range(field: &'static str, value: &dyn fmt::Display, allowed: &str) -> ConfigError {
    ConfigError::Range { field, value: value.to_string(), allowed: allowed.to_owned() }
}

/// What holds on one connection: what its endpoint says, and the configuration where that says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) params: Params,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong_timeout: Duration,
    pub(crate) heartbeat_interval: Option<Duration>,
    pub(crate) heartbeat_timeout: Duration,
    pub(crate) refresh: Refresh,
    pub(crate) at_expiry: AtExpiry,
    pub(crate) life: Option<Life>,
}

impl Terms {
    pub(crate) fn new(config: &Config, endpoint: &Endpoint) -> Self {
        Self {
            params: endpoint.params.clone(),
            ping_interval: endpoint.ping_interval.unwrap_or(config.ping_interval),
            pong_timeout: endpoint.pong_timeout.unwrap_or(config.pong_timeout),
            heartbeat_interval: endpoint.heartbeat_interval.unwrap_or(config.heartbeat_interval),
            heartbeat_timeout: endpoint.heartbeat_timeout.unwrap_or(config.heartbeat_timeout),
            refresh: endpoint.refresh,
            at_expiry: endpoint.at_expiry,
            life: endpoint.life,
        }
    }
}
