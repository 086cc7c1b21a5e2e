//! What a server allows to be sent.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Shortest and longest time that a limit may be over.
const PER: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

/// The most that a window's default margin is.
const DEFAULT_MARGIN: Duration = Duration::from_millis(250);

/// One limit of a server on what a client sends.
///
/// ```
/// use everwire_core::Limit;
/// use std::time::Duration;
///
/// // Five messages in any second, on each connection.
/// let messages = Limit::window("messages", 5, Duration::from_secs(1));
/// // A pool of 50,000 credits, of which 10,000 come back in a second, for all connections of one account.
/// let credits = Limit::credits("credits", 50_000, 10_000, Duration::from_secs(1)).shared("main account");
/// assert!(messages.validate().is_ok() && credits.validate().is_ok());
/// ```
///
/// With serde, times are seconds, with fractions, and what is left out has its default:
///
/// ```
/// # use everwire_core::Limit;
/// # use std::time::Duration;
/// let limit: Limit = serde_json::from_str(r#"{"name": "messages", "rate": {"window": {"max": 5, "per": 1}}}"#)?;
/// assert_eq!(limit, Limit::window("messages", 5, Duration::from_secs(1)));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// What is read that way is [validated](Self::validate). The account is written as it is: do not make it a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Limit {
    name: String,
    rate: Rate,
    #[serde(with = "seconds")]
    margin: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

/// How a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Rate {
    /// Costs of at most `max` in any span of `per`: a sliding window.
    Window {
        /// Most that may be spent in one span. At least 1.
        max: u32,
        /// The span, 1 ms to 24 h.
        #[serde(with = "seconds")]
        per: Duration,
    },
    /// A pool of at most `capacity` that gets `refill` back, evenly, in each `per`.
    Credits {
        /// The pool when it is full, as it is at first. At least 1.
        capacity: u32,
        /// What comes back. At least 1.
        refill: u32,
        /// In what time, 1 ms to 24 h.
        #[serde(with = "seconds")]
        per: Duration,
    },
}

impl Limit {
    /// Costs of at most `max` in any span of `per`: a sliding window. `name` is what [`Protocol::cost`](crate::Protocol::cost) is asked with.
    pub fn window(name: impl Into<String>, max: u32, per: Duration) -> Self {
        Self::new(name.into(), Rate::Window { max, per })
    }

    /// A pool of at most `capacity`, full at first, that gets `refill` back, evenly, in each `per`.
    pub fn credits(name: impl Into<String>, capacity: u32, refill: u32, per: Duration) -> Self {
        Self::new(name.into(), Rate::Credits { capacity, refill, per })
    }

    fn new(name: String, rate: Rate) -> Self {
        Self { name, rate, margin: rate.default_margin(), account: None }
    }

    /// How much closer together than they were sent, at most, two messages may arrive: the server counts when they arrive. A window is
    /// longer by this; what is spent of a pool begins to come back so much later. 0 to 24 h. Default: for a window a tenth of its span, at
    /// most 250 ms; for credits none.
    pub fn margin(self, margin: Duration) -> Self {
        Self { margin, ..self }
    }

    /// Makes one budget of this limit for all sessions that name the same account and hold the same [`SharedLimits`](crate::SharedLimits),
    /// for limits per address or per API key. Give the account a name; the key itself is a secret and does not belong here. Default: each
    /// connection has a budget of its own.
    pub fn shared(self, account: impl Into<String>) -> Self {
        Self { account: Some(account.into()), ..self }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it counts.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// What [`margin`](Self::margin) sets.
    pub fn margin_time(&self) -> Duration {
        self.margin
    }

    /// The account whose sessions share the budget; `None` if it belongs to one connection.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Whether it can work. That no other limit has the same name is for the caller to see.
    ///
    /// # Errors
    /// [`LimitError`] names what cannot work, and what would.
    pub fn validate(&self) -> Result<(), LimitError> {
        if self.name.is_empty() {
            return Err(LimitError::NoName);
        }
        let limit = || self.name.clone();
        let (amounts, per): (&[_], _) = match self.rate {
            Rate::Window { max, per } => (&[("max", max)], per),
            Rate::Credits { capacity, refill, per } => (&[("capacity", capacity), ("refill", refill)], per),
        };
        if let Some((field, _)) = amounts.iter().find(|(_, amount)| *amount == 0) {
            return Err(LimitError::Zero { limit: limit(), field });
        }
        if !PER.contains(&per) {
            return Err(LimitError::Per { limit: limit(), per });
        }
        if self.margin > *PER.end() {
            return Err(LimitError::Margin { limit: limit(), margin: self.margin });
        }
        if self.account.as_deref() == Some("") {
            return Err(LimitError::NoAccount { limit: limit() });
        }
        Ok(())
    }
}

impl Rate {
    fn default_margin(self) -> Duration {
        match self {
            Self::Window { per, .. } => (per / 10).min(DEFAULT_MARGIN),
            Self::Credits { .. } => Duration::ZERO,
        }
    }

    /// The same within the range in which the arithmetic is exact. Changes nothing about a limit that was validated.
    pub(super) fn clamped(self) -> Self {
        let within = |per: Duration| per.clamp(*PER.start(), *PER.end());
        match self {
            Self::Window { max, per } => Self::Window { max: max.max(1), per: within(per) },
            Self::Credits { capacity, refill, per } => {
                Self::Credits { capacity: capacity.max(1), refill: refill.max(1), per: within(per) }
            }
        }
    }
}

/// The margin, held to what `validate` allows.
pub(super) fn clamped_margin(limit: &Limit) -> Duration {
    limit.margin.min(*PER.end())
}

impl fmt::Debug for Limit {
    /// Without the account, which might be a secret in spite of what we say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("name", &self.name)
            .field("rate", &self.rate)
            .field("margin", &self.margin)
            .field("shared", &self.account.is_some())
            .finish()
    }
}

/// Why a [`Limit`] cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitError {
    /// It has no name.
    NoName,
    /// With an amount of 0, nothing could ever be sent.
    Zero {
        /// The limit's name.
        limit: String,
        /// Which amount.
        field: &'static str,
    },
    /// Its time is out of range.
    Per {
        /// The limit's name.
        limit: String,
        /// The time.
        per: Duration,
    },
    /// Its margin is out of range.
    Margin {
        /// The limit's name.
        limit: String,
        /// The margin.
        margin: Duration,
    },
    /// It is shared, but the account has no name.
    NoAccount {
        /// The limit's name.
        limit: String,
    },
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => {
                f.write_str("a limit has no name: give it one, by which the protocol tells its costs")
            }
            Self::Zero { limit, field } => {
                write!(
                    f,
                    "limit {limit:?}: {field} is 0, so nothing could ever be sent: it must be at least 1"
                )
            }
            Self::Per { limit, per } => write!(f, "limit {limit:?}: per is {per:?}: it must be 1 ms to 24 h"),
            Self::Margin { limit, margin } => {
                write!(f, "limit {limit:?}: margin is {margin:?}: it must be at most 24 h")
            }
            Self::NoAccount { limit } => {
                write!(
                    f,
                    "limit {limit:?}: shared by an account without a name: give it one, or do not share it"
                )
            }
        }
    }
}

impl std::error::Error for LimitError {}

/// A limit as it is read: the default of the margin depends on the rate.
#[derive(Deserialize)]
#[serde(rename = "Limit", deny_unknown_fields)]
struct Written {
    name: String,
    rate: Rate,
    margin: Option<Seconds>,
    account: Option<String>,
}

#[derive(Deserialize)]
struct Seconds(#[serde(with = "seconds")] Duration);

impl TryFrom<Written> for Limit {
    type Error = LimitError;

    fn try_from(Written { name, rate, margin, account }: Written) -> Result<Self, LimitError> {
        let margin = margin.map_or_else(|| rate.default_margin(), |Seconds(margin)| margin);
        let limit = Self { name, rate, margin, account };
        limit.validate()?;
        Ok(limit)
    }
}

/// Durations as seconds. Up to 24 h a number of them is exact to the nanosecond.
mod seconds {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| D::Error::custom(format_args!("{seconds} is no number of seconds from 0 up")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn defaults_and_accessors() {
        let limit = Limit::window("messages", 5, SECOND);
        assert_eq!((limit.name(), limit.account()), ("messages", None));
        assert_eq!(limit.rate(), Rate::Window { max: 5, per: SECOND });
        assert_eq!(limit.margin_time(), Duration::from_millis(100));
        assert_eq!(Limit::window("m", 5, SECOND * 60).margin_time(), Duration::from_millis(250));
        let limit = Limit::credits("c", 50, 10, SECOND).shared("a");
        assert_eq!((limit.margin_time(), limit.account()), (Duration::ZERO, Some("a")));
        assert_eq!(limit.margin(SECOND).margin_time(), SECOND);
    }

    #[test]
    fn validation_names_the_limit_the_field_and_the_range() {
        let hour = SECOND * 3600;
        let bad = [
            (Limit::window("", 1, SECOND), "no name"),
            (Limit::window("w", 0, SECOND), "\"w\": max is 0"),
            (Limit::credits("c", 0, 1, SECOND), "\"c\": capacity is 0"),
            (Limit::credits("c", 1, 0, SECOND), "\"c\": refill is 0"),
            (
                Limit::window("w", 1, Duration::from_nanos(999)),
                "\"w\": per is 999ns: it must be 1 ms to 24 h",
            ),
            (Limit::credits("c", 1, 1, hour * 24 + Duration::from_nanos(1)), "\"c\": per is"),
            (
                Limit::window("w", 1, SECOND).margin(hour * 25),
                "\"w\": margin is 90000s: it must be at most 24 h",
            ),
            (Limit::window("w", 1, SECOND).shared(""), "\"w\": shared by an account without a name"),
        ];
        for (limit, text) in bad {
            let error = limit.validate().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        for per in [Duration::from_millis(1), hour * 24] {
            Limit::window("w", 1, per).shared("a").validate().unwrap();
            Limit::credits("c", u32::MAX, u32::MAX, per).margin(hour * 24).validate().unwrap();
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for limit in [
            Limit::window("w", 5, SECOND).margin(Duration::new(86_399, 999_999_999)),
            Limit::credits("c", 50_000, 10_000, Duration::from_millis(1)).shared("main"),
        ] {
            let text = serde_json::to_string(&limit).unwrap();
            assert_eq!(serde_json::from_str::<Limit>(&text).unwrap(), limit, "{text}");
        }
        let text = r#"{"name":"c","rate":{"credits":{"capacity":5,"refill":1,"per":0.1}},"margin":0.25,"account":"a"}"#;
        let limit = Limit::credits("c", 5, 1, SECOND / 10).margin(SECOND / 4).shared("a");
        assert_eq!(serde_json::from_str::<Limit>(text).unwrap(), limit);
        assert_eq!(serde_json::to_string(&limit).unwrap(), text);
    }

    #[test]
    fn what_cannot_work_is_not_read() {
        for (text, why) in [
            (r#"{"name":"","rate":{"window":{"max":5,"per":1}}}"#, "no name"),
            (r#"{"name":"w","rate":{"window":{"max":0,"per":1}}}"#, "max is 0"),
            (r#"{"name":"w","rate":{"window":{"max":5,"per":-1}}}"#, "-1 is no number of seconds"),
            (r#"{"name":"w","rate":{"window":{"max":5,"per":1e300}}}"#, "no number of seconds"),
            (r#"{"name":"w","rate":{"window":{"max":5,"per":1,"burst":2}}}"#, "burst"),
            (r#"{"name":"w","rate":{"window":{"max":5,"per":1}},"margins":1}"#, "margins"),
        ] {
            let error = serde_json::from_str::<Limit>(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_account_is_not_in_the_debug_form() {
        let text = format!("{:?}", Limit::window("w", 5, SECOND).shared("hush"));
        assert!(text.contains("\"w\"") && text.contains("shared: true") && !text.contains("hush"), "{text}");
    }
}
