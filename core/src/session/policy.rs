//! What is done about errors, as data: close codes and HTTP statuses foremost.

use super::ConfigError;
use crate::error::{Category, Error, Recovery};
use crate::ws::handshake::{HandshakeError, Refused};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::time::{Duration, SystemTime};

/// What the session does after each close code (RFC 6455 section 7.4) and each HTTP status of a refused handshake.
///
/// It is a complete table: each code from 1000 to 4999 and each status from 100 to 599 has its [`Recovery`]. What is set later
/// replaces what was set before for the same numbers, be it for one or for a range. Two policies are equal if they do the same,
/// however they were made. Printed, it is a list of ranges. Serialised, it is two lists of
/// `{ "first": 4000, "last": 4099, "then": "stop" }`, where `last` may be left out for a single number; what a list that is
/// read does not mention is as in [`Policy::default`].
///
/// ```
/// use everwire_core::{Policy, Recovery};
/// use std::time::Duration;
///
/// let policy = Policy::default()
///     .on_close(4000..=4099, Recovery::Backoff(Duration::from_secs(30)))?
///     .on_close(4003..=4003, Recovery::Reauthenticate)?
///     .on_status(404..=404, Recovery::Reconnect)?;
/// assert_eq!(policy.close(4003), Recovery::Reauthenticate);
/// assert_eq!(policy.close(4004), Recovery::Backoff(Duration::from_secs(30)));
/// # Ok::<(), everwire_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Data", try_from = "Data")]
pub struct Policy {
    close: Table,
    status: Table,
    authentication: Recovery,
}

impl Policy {
    /// Reconnects whatever the code or status is.
    pub fn new() -> Self {
        let table = |name, first, last| Table {
            name,
            rules: vec![Rule { first, last: Some(last), then: Recovery::Reconnect }],
        };
        Self {
            close: table("policy.close", 1000, 4999),
            status: table("policy.status", 100, 599),
            authentication: Recovery::Reconnect,
        }
    }

    /// With this done about these close codes. An end that is left open is that of the table: `4000..` ends at 4999.
    ///
    /// # Errors
    /// [`ConfigError::Range`] if a code is not within 1000 to 4999, if there is none, or if a [`Recovery::Backoff`] is longer than 24
    /// hours.
    pub fn on_close(mut self, codes: impl RangeBounds<u16>, recovery: Recovery) -> Result<Self, ConfigError> {
        self.close.set(&codes, recovery)?;
        Ok(self)
    }

    /// With this done about these statuses of a refused handshake. An end that is left open is that of the table.
    ///
    /// A response with `Retry-After` is another matter: its time is kept to, whatever the status.
    ///
    /// # Errors
    /// [`ConfigError::Range`] if a status is not within 100 to 599, if there is none, or if a [`Recovery::Backoff`] is longer than 24
    /// hours.
    pub fn on_status(
        mut self,
        statuses: impl RangeBounds<u16>,
        recovery: Recovery,
    ) -> Result<Self, ConfigError> {
        self.status.set(&statuses, recovery)?;
        Ok(self)
    }

    /// With this done when the server refuses the protocol's authentication. Default [`Recovery::Reauthenticate`].
    ///
    /// # Errors
    /// [`ConfigError::Range`] if a [`Recovery::Backoff`] is longer than 24 hours.
    pub fn on_authentication(self, recovery: Recovery) -> Result<Self, ConfigError> {
        check("policy.authentication", recovery)?;
        Ok(Self { authentication: recovery, ..self })
    }

    /// What is done after this close code. One that is not in the table, which no frame may carry, reconnects.
    pub fn close(&self, code: u16) -> Recovery {
        self.close.find(code)
    }

    /// What is done after a handshake was refused with this status and without `Retry-After`. One that is not in the table reconnects.
    pub fn status(&self, status: u16) -> Recovery {
        self.status.find(status)
    }

    /// What is done after the server refused the protocol's authentication.
    pub fn authentication(&self) -> Recovery {
        self.authentication
    }

    /// The table of close codes, in order and without holes.
    pub fn closes(&self) -> impl Iterator<Item = (RangeInclusive<u16>, Recovery)> {
        self.close.rules.iter().map(|rule| (rule.first..=rule.last(), rule.then))
    }

    /// The table of statuses, in order and without holes.
    pub fn statuses(&self) -> impl Iterator<Item = (RangeInclusive<u16>, Recovery)> {
        self.status.rules.iter().map(|rule| (rule.first..=rule.last(), rule.then))
    }

    /// What the session does about an error. `wall` is the wall time, for a `Retry-After` that is a date.
    ///
    /// A [`Recovery::Backoff`] that comes out is 24 hours at most, whatever the server said.
    pub fn recovery(&self, error: &Error, wall: SystemTime) -> Recovery {
        match error {
            Error::Proxy(error) => error.fault.recovery(wall),
            #[cfg(feature = "tls")]
            Error::Tls(error) if error.is_fatal_config() => Recovery::Stop,
            #[cfg(feature = "tls")]
            Error::Tls(_) => Recovery::Reconnect,
            Error::TlsNotBuilt | Error::TooManyRedirects { .. } | Error::Request(_) => Recovery::Stop,
            Error::Handshake(HandshakeError::Refused(refused)) => self.refused(refused, wall),
            Error::Handshake(HandshakeError::InsecureRedirect { .. }) => Recovery::Stop,
            // A load balancer's error page, a restarting server: nothing that must stay.
            Error::Handshake(_) => Recovery::Reconnect,
            Error::Closed(closed) => self.close(closed.code.into()),
            Error::Authentication(_) => self.authentication,
            Error::Notice(notice) => notice.recovery(),
            Error::Provider(error) => error.recovery.unwrap_or(Recovery::Reconnect).bounded(),
            // What is known of none of these says that it will stay so; unknown errors of the network are among them.
            // A provider may do better the next time.
            Error::Endpoint(_)
            | Error::Resolve(_)
            | Error::Connect { .. }
            | Error::Open(_)
            | Error::Protocol(_)
            | Error::Disconnected(_)
            | Error::Timeout(_)
            | Error::Preparation(_)
            | Error::Unsupported(_)
            | Error::Expired
            | Error::Renewed
            | Error::Rotated
            | Error::Reconnect => Recovery::Reconnect,
        }
    }

    /// Whether an error must hold back every session to the host: the server said `Retry-After`, or it complains about the rate
    /// ([`Category::Rate`]: status 429, close code 1008, a notice) and this policy has a [`Recovery::Backoff`] for that. Whoever
    /// sets 1008 to something else, because that server means something else by it, does not stop other sessions with it.
    pub fn cools_down(&self, error: &Error) -> bool {
        if let Error::Handshake(HandshakeError::Refused(refused)) = error
            && refused.retry_after.is_some()
        {
            return true;
        }
        // Without `Retry-After`, no time of day matters.
        error.category() == Category::Rate
            && matches!(self.recovery(error, SystemTime::UNIX_EPOCH), Recovery::Backoff(_))
    }

    fn refused(&self, refused: &Refused, wall: SystemTime) -> Recovery {
        match refused.retry_after {
            Some(after) => Recovery::Backoff(after.delay(wall)).bounded(),
            None => self.status(refused.status),
        }
    }
}

/// What a server that says 429 or closes with 1008 or 1013, and names no time, is left alone for.
const COOL_DOWN: Recovery = Recovery::Backoff(Duration::from_secs(10));

impl Default for Policy {
    /// What fits most servers: limits (429, 1008, 1013) wait for 10 s; refused credentials (401, 403, 407, 3000, 3003)
    /// reauthenticate; what would be refused again (400, 404, 405, 410, 414, 426, 431, 501, 505) stops; all else reconnects.
    fn default() -> Self {
        let mut policy = Self { authentication: Recovery::Reauthenticate, ..Self::new() };
        for code in [1008, 1013] {
            policy.close.put(code, code, COOL_DOWN);
        }
        // Unauthorized and forbidden in IANA's registry.
        for code in [3000, 3003] {
            policy.close.put(code, code, Recovery::Reauthenticate);
        }
        for status in [401, 403, 407] {
            policy.status.put(status, status, Recovery::Reauthenticate);
        }
        for status in [400, 404, 405, 410, 414, 426, 431, 501, 505] {
            policy.status.put(status, status, Recovery::Stop);
        }
        policy.status.put(429, 429, COOL_DOWN);
        policy
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, table) in [("close", &self.close), ("status", &self.status)] {
            for rule in &table.rules {
                write!(f, "{name} {}", rule.first)?;
                if rule.last() != rule.first {
                    write!(f, "-{}", rule.last())?;
                }
                writeln!(f, ": {}", rule.then)?;
            }
        }
        write!(f, "authentication: {}", self.authentication)
    }
}

/// A recovery for each number of a range: rules in order, without holes, and no two neighbours alike. So equal tables are equal rules.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    /// Of the option, for errors.
    name: &'static str,
    rules: Vec<Rule>,
}

/// A recovery for each number from `first` to `last`; in a [`Table`], `last` is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    first: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<u16>,
    then: Recovery,
}

impl Rule {
    fn last(&self) -> u16 {
        self.last.unwrap_or(self.first)
    }
}

impl Table {
    fn find(&self, number: u16) -> Recovery {
        let after = self.rules.partition_point(|rule| rule.first <= number);
        match after.checked_sub(1).map(|at| self.rules[at]) {
            Some(rule) if number <= rule.last() => rule.then,
            _ => Recovery::Reconnect,
        }
    }

    fn set(&mut self, range: &impl RangeBounds<u16>, then: Recovery) -> Result<(), ConfigError> {
        check(self.name, then)?;
        let (min, max) = self.bounds();
        // In wider numbers, so that excluded ends do not overflow.
        let first = match range.start_bound() {
            Bound::Included(first) => i32::from(*first),
            Bound::Excluded(before) => i32::from(*before) + 1,
            Bound::Unbounded => i32::from(min),
        };
        let last = match range.end_bound() {
            Bound::Included(last) => i32::from(*last),
            Bound::Excluded(after) => i32::from(*after) - 1,
            Bound::Unbounded => i32::from(max),
        };
        match (u16::try_from(first), u16::try_from(last)) {
            (Ok(first), Ok(last)) if min <= first && first <= last && last <= max => {
                self.put(first, last, then);
                Ok(())
            }
            _ => Err(ConfigError::Range {
                field: self.name,
                value: match first.cmp(&last) {
                    std::cmp::Ordering::Less => format!("{first} to {last}"),
                    std::cmp::Ordering::Equal => first.to_string(),
                    std::cmp::Ordering::Greater => format!("an empty range at {first}"),
                },
                allowed: format!("{min} to {max}"),
            }),
        }
    }

    /// The numbers that it has.
    fn bounds(&self) -> (u16, u16) {
        let (first, last) = (self.rules.first(), self.rules.last());
        (first.map_or(0, |rule| rule.first), last.map_or(0, Rule::last))
    }

    /// `first` to `last` must be within the bounds and not empty.
    fn put(&mut self, first: u16, last: u16, then: Recovery) {
        let before = self.rules.iter().filter(|rule| rule.first < first);
        let before = before.map(|rule| Rule { last: Some(rule.last().min(first - 1)), ..*rule });
        let after = self.rules.iter().filter(|rule| rule.last() > last);
        let after = after.map(|rule| Rule { first: rule.first.max(last + 1), ..*rule });
        let new = Rule { first, last: Some(last), then };
        let mut rules: Vec<Rule> = before.chain([new]).chain(after).collect();
        rules.dedup_by(|next, rule| {
            let alike = rule.then == next.then;
            if alike {
                rule.last = next.last;
            }
            alike
        });
        self.rules = rules;
    }
}

fn check(field: &'static str, recovery: Recovery) -> Result<(), ConfigError> {
    match recovery {
        Recovery::Backoff(wait) if wait > Recovery::MAX_BACKOFF => Err(ConfigError::Range {
            field,
            value: format!("a backoff of {wait:?}"),
            allowed: "a backoff of 0 s to 24 h".into(),
        }),
        Recovery::Backoff(_) | Recovery::Reconnect | Recovery::Reauthenticate | Recovery::Stop => Ok(()),
    }
}

/// A policy as it is serialised. Read, it is a list of changes to the default, so that order does not get lost; written, it is complete.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Data {
    close: Vec<Rule>,
    status: Vec<Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<Recovery>,
}

impl From<Policy> for Data {
    fn from(policy: Policy) -> Self {
        Self {
            close: policy.close.rules,
            status: policy.status.rules,
            authentication: Some(policy.authentication),
        }
    }
}

impl TryFrom<Data> for Policy {
    type Error = ConfigError;

    fn try_from(data: Data) -> Result<Self, ConfigError> {
        let mut policy = Self::default();
        for rule in data.close {
            policy.close.set(&(rule.first..=rule.last()), rule.then)?;
        }
        for rule in data.status {
            policy.status.set(&(rule.first..=rule.last()), rule.then)?;
        }
        match data.authentication {
            Some(recovery) => policy.on_authentication(recovery),
            None => Ok(policy),
        }
    }
}

#[cfg(test)]
mod tests;
