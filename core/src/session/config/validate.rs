//! What may be set.

use super::Config;
use super::units::{Size, Time};
use crate::session::LimitError;
use crate::ws::{HeaderError, UrlError};
use std::fmt;
use std::time::Duration;

/// Longest time that can be set: far enough for anybody, near enough that adding it to a clock cannot overflow.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// A configuration that cannot work: what, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL cannot be connected to.
    Url(UrlError),
    /// One of the further URLs cannot be connected to.
    Endpoint {
        /// Which of those given to [`Config::endpoints`], from 0.
        index: usize,
        /// What is wrong with it.
        error: UrlError,
    },
    /// A header or subprotocol cannot be sent.
    Header(HeaderError),
    /// A limit on what is sent cannot work.
    Limit(LimitError),
    /// The operating system refused what a driver cannot do without, such as random bytes for the seed. Said by drivers.
    System(String),
    /// An option is out of its range, or at odds with another one.
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
            Self::Endpoint { index, error } => write!(f, "endpoints[{index}]: {error}"),
            Self::Header(error) => write!(f, "handshake: {error}"),
            Self::Limit(error) => write!(f, "send_limit: {error}"),
            Self::System(error) => write!(f, "the operating system refused what a driver needs: {error}"),
            Self::Range { field, value, allowed } => write!(f, "{field} is {value}: it may be {allowed}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Url(error) | Self::Endpoint { error, .. } => Some(error),
            Self::Header(error) => Some(error),
            Self::Limit(error) => Some(error),
            Self::System(_) | Self::Range { .. } => None,
        }
    }
}

impl Config {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.handshake.validate().map_err(ConfigError::Header)?;
        endpoint_count(self.fallbacks.len())?;
        if self.endpoint.is_none() && !self.fallbacks.is_empty() {
            return Err(ConfigError::Range {
                field: "endpoints",
                value: format!("{} URLs", self.fallbacks.len()),
                allowed: "set only beside a url: without one, a provider names each endpoint".to_owned(),
            });
        }
        for range in RANGES {
            range.check(self)?;
        }
        self.sockets.validate()?;
        at_least("backoff.max", self.backoff_max, "backoff.initial", self.backoff_initial)?;
        let (initial, max) = (self.resubscribe_initial, self.resubscribe_max);
        at_least("resubscribe_backoff.max", max, "resubscribe_backoff.initial", initial)
    }
}

/// That there are not too many of `Config::endpoints`.
pub(super) fn endpoint_count(count: usize) -> Result<(), ConfigError> {
    if count <= 256 {
        return Ok(());
    }
    let (value, allowed) = (format!("{count} URLs or more"), "0 to 256 URLs".to_owned());
    Err(ConfigError::Range { field: "endpoints", value, allowed })
}

fn at_least(
    field: &'static str,
    value: Duration,
    other: &'static str,
    least: Duration,
) -> Result<(), ConfigError> {
    if value >= least {
        return Ok(());
    }
    let allowed = format!("{} ({other}) to {}", Time(least), Time(MAX_TIME));
    Err(ConfigError::Range { field, value: Time(value).to_string(), allowed })
}

/// What an option's number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Nanoseconds,
    Bytes,
    /// Things: messages, attempts, samples, or a plain number.
    One,
}

/// The range of one option. Numbers of all kinds are `u64` here: [`MAX_TIME`] in nanoseconds is a fraction of that.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) field: &'static str,
    pub(super) unit: Unit,
    pub(super) min: u64,
    pub(super) max: u64,
    /// Whether it may be `None` as well.
    pub(super) off: bool,
    /// `None` if it is off.
    pub(super) read: fn(&Config) -> Option<u64>,
}

impl Range {
    const fn new(
        field: &'static str,
        unit: Unit,
        min: u64,
        max: u64,
        read: fn(&Config) -> Option<u64>,
    ) -> Self {
        Self { field, unit, min, max, off: false, read }
    }

    const fn or_off(self) -> Self {
        Self { off: true, ..self }
    }

    /// The range of the option of this name.
    pub(super) fn of(field: &str) -> Option<&'static Self> {
        RANGES.iter().find(|range| range.field == field)
    }

    /// `1ms to 365d`, as errors and the guide have it.
    pub(super) fn allowed(&self) -> String {
        let off = if self.off { ", or None" } else { "" };
        format!("{} to {}{off}", self.show(self.min), self.show(self.max))
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        self.check_value((self.read)(config))
    }

    /// Whether the option of this name could have this time.
    pub(super) fn check_time(field: &str, time: Duration) -> Result<(), ConfigError> {
        Self::of(field).map_or(Ok(()), |range| range.check_value(Some(nanos(time))))
    }

    fn check_value(&self, value: Option<u64>) -> Result<(), ConfigError> {
        match value {
            Some(value) if !(self.min..=self.max).contains(&value) => {
                let (value, allowed) = (self.show(value), self.allowed());
                Err(ConfigError::Range { field: self.field, value, allowed })
            }
            _ => Ok(()),
        }
    }

    fn show(&self, value: u64) -> String {
        match self.unit {
            Unit::Nanoseconds if value == u64::MAX => "more than 584 years".to_owned(),
            Unit::Nanoseconds => Time(Duration::from_nanos(value)).to_string(),
            Unit::Bytes => Size(value).to_string(),
            Unit::One => value.to_string(),
        }
    }
}

/// A time of more than 584 years is out of any range here, and need not be told from another one.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// `usize` has at most 64 bits on any platform that Rust has.
fn wide(number: usize) -> u64 {
    number as u64
}

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const DAYS_365: u64 = MAX_TIME.as_secs() * SECOND;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The range of each option that is a number.
#[rustfmt::skip]
pub(super) const RANGES: &[Range] = {
    use Unit::{Bytes, Nanoseconds, One};
    &[
        Range::new("keepalive.time", Nanoseconds, SECOND, 32_767 * SECOND, |c| Some(nanos(c.sockets.keepalive?.time))),
        Range::new("keepalive.interval", Nanoseconds, SECOND, 32_767 * SECOND, |c| Some(nanos(c.sockets.keepalive?.interval))),
        Range::new("keepalive.retries", One, 1, 127, |c| Some(u64::from(c.sockets.keepalive?.retries))),
        Range::new("sockets.send_buffer", Bytes, KIB, GIB, |c| c.sockets.send_buffer.map(wide)).or_off(),
        Range::new("sockets.recv_buffer", Bytes, KIB, GIB, |c| c.sockets.recv_buffer.map(wide)).or_off(),
        Range::new("race_delay", Nanoseconds, 10 * MILLI, 2 * SECOND, |c| c.race_delay.map(nanos)).or_off(),
        Range::new("connect_timeout", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.connect_timeout))),
        Range::new("handshake_timeout", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.handshake_timeout))),
        Range::new("request_timeout", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.request_timeout))),
        Range::new("write_timeout", Nanoseconds, MILLI, DAYS_365, |c| c.write_timeout.map(nanos)).or_off(),
        Range::new("close_timeout", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.close_timeout))),
        Range::new("ping_interval", Nanoseconds, MILLI, DAYS_365, |c| c.ping_interval.map(nanos)).or_off(),
        Range::new("pong_timeout", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.pong_timeout))),
        Range::new("heartbeat_interval", Nanoseconds, MILLI, DAYS_365, |c| c.heartbeat_interval.map(nanos)).or_off(),
        Range::new("heartbeat_timeout", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.heartbeat_timeout))),
        Range::new("max_attempts", One, 1, 1_000_000, |c| c.max_attempts.map(u64::from)).or_off(),
        Range::new("max_redirects", One, 0, 100, |c| Some(u64::from(c.max_redirects))),
        Range::new("backoff.initial", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.backoff_initial))),
        Range::new("backoff.max", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.backoff_max))),
        Range::new("stable_after", Nanoseconds, 0, DAYS_365, |c| Some(nanos(c.stable_after))),
        Range::new("flap_budget.attempts", One, 1, 4096, |c| c.flap_budget.map(|(n, _)| u64::from(n))),
        Range::new("flap_budget.span", Nanoseconds, SECOND, 86_400 * SECOND, |c| c.flap_budget.map(|(_, t)| nanos(t))),
        Range::new("resubscribe_backoff.initial", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.resubscribe_initial))),
        Range::new("resubscribe_backoff.max", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.resubscribe_max))),
        Range::new("recv_buffer", Bytes, 4 * KIB, GIB, |c| Some(wide(c.recv_buffer))),
        Range::new("send_buffer", Bytes, KIB, GIB, |c| Some(wide(c.send_buffer))),
        Range::new("fragment_size", Bytes, KIB, GIB, |c| Some(wide(c.fragment))),
        Range::new("limits.max_frame", Bytes, 125, GIB, |c| Some(wide(c.limits.max_frame))),
        Range::new("limits.max_message", Bytes, 125, KIB * GIB, |c| Some(wide(c.limits.max_message))),
        Range::new("limits.max_fragments", One, 1, 1 << 24, |c| Some(u64::from(c.limits.max_fragments))),
        Range::new("limits.chunk", Bytes, KIB, GIB, |c| c.limits.chunk.map(wide)).or_off(),
        Range::new("handshake_limits.max_head", Bytes, 256, MIB, |c| Some(wide(c.handshake.max_head))),
        Range::new("handshake_limits.max_headers", One, 1, 10_000, |c| Some(wide(c.handshake.max_headers))),
        Range::new("deflate.server_max_window_bits", One, 8, 15, |c| Some(c.handshake.deflate.as_ref()?.server_max_window_bits.into())),
        Range::new("deflate.client_max_window_bits", One, 9, 15, |c| Some(c.handshake.deflate.as_ref()?.client_max_window_bits.into())),
        Range::new("deflate.level", One, 0, 9, |c| Some(c.handshake.deflate.as_ref()?.level.into())),
        Range::new("deflate.threshold", Bytes, 0, GIB, |c| Some(wide(c.handshake.deflate.as_ref()?.threshold))),
        Range::new("max_requests", One, 1, 10_000_000, |c| Some(wide(c.max_requests))),
        Range::new("queue.messages", One, 0, 1_000_000, |c| Some(wide(c.queue_messages))),
        Range::new("queue.bytes", Bytes, 0, GIB, |c| Some(wide(c.queue_bytes))),
        Range::new("queue_timeout", Nanoseconds, MILLI, DAYS_365, |c| Some(nanos(c.queue_timeout))),
        Range::new("latency_buffer", One, 1, 65_536, |c| Some(wide(c.latency_buffer))),
        Range::new("event_buffer", One, 1, 1 << 20, |c| Some(wide(c.event_buffer))),
    ]
};
