//! What Bybit's errors mean.
//!
//! Source: the list of error codes in the API's documentation (bybit-exchange.github.io/docs/v5/error, stored copy read 2026-11-21).

use Remedy::{Permanent, Reauthenticate, SlowDown, Wait};
use everwire_core::Recovery;
use std::fmt;
use std::time::Duration;

/// A code of Bybit's, what it means and what to do about it: from [`ErrorCode::of`]. Those of single orders (110001 and on) are told by their message.
///
/// ```
/// use everwire_venues::bybit::{ErrorCode, Remedy};
///
/// assert_eq!(ErrorCode::of(10006).unwrap().remedy, Remedy::SlowDown);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorCode {
    /// The number.
    pub code: i64,
    /// Whether the same may be tried again.
    pub remedy: Remedy,
    /// What happened and how to mend it.
    pub advice: &'static str,
}

/// Whether what was refused may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// After some time: too much was sent.
    SlowDown,
    /// Soon, on another connection if this one goes on refusing: the service restarts or fails.
    Wait,
    /// After authenticating anew.
    Reauthenticate,
    /// Not as it is: it would be refused again.
    Permanent,
}

impl ErrorCode {
    /// What is known of this code.
    pub fn of(code: i64) -> Option<Self> {
        let (code, remedy, advice) = *ERRORS.iter().find(|(known, ..)| *known == code)?;
        Some(Self { code, remedy, advice })
    }

    /// All that are known.
    pub fn all() -> impl Iterator<Item = Self> {
        ERRORS.iter().map(|&(code, remedy, advice)| Self { code, remedy, advice })
    }

    /// What the session does when it is refused in this way what is its own.
    pub(super) fn recovery(&self) -> Recovery {
        match self.remedy {
            SlowDown => Recovery::Backoff(Duration::from_secs(10)),
            Wait => Recovery::Backoff(Duration::from_secs(2)),
            Reauthenticate => Recovery::Reauthenticate,
            Permanent => Recovery::Stop,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.advice)
    }
}

/// The service behind the connection restarts.
pub(super) const RESTARTING: i64 = 10019;

const LOGIN: &str = "check key and secret, and whether they are of this environment (mainnet or testnet)";
const RATE: &str = "more was sent than is allowed; let the session's limits pace it";

#[rustfmt::skip]
const ERRORS: &[(i64, Remedy, &str)] = &[
    (429, Wait, "the trading service is overloaded; try again"),
    (10000, Wait, "the server took too long; whether an order took effect must be asked"),
    (10001, Permanent, "a parameter is wrong; compare the call with the documentation"),
    (10002, Permanent, "it arrived too late, or this machine's clock is off; set the clock, or take a longer recv_window"),
    (10003, Reauthenticate, LOGIN),
    (10004, Reauthenticate, "the signature is wrong; check the secret"),
    (10005, Permanent, "the key has no right to do this"),
    (10006, SlowDown, RATE),
    (10007, Reauthenticate, LOGIN),
    (10008, Permanent, "the account is banned; check its mode"),
    (10009, Permanent, "the address is banned"),
    (10010, Reauthenticate, "the key is bound to other addresses"),
    (10014, Permanent, "the request is a duplicate"),
    (10016, Wait, "the server failed or restarts; whether an order took effect must be asked"),
    (10017, Permanent, "there is no such path"),
    (10018, SlowDown, "the address sent more than is allowed"),
    (RESTARTING, Wait, "the service restarts and takes nothing new on this connection; the session makes another"),
    (10024, Permanent, "not served from this address"),
    (10027, Permanent, "the account may not trade"),
    (10029, Permanent, "the symbol is not on the key's list"),
    (10403, SlowDown, RATE),
    (10404, Permanent, "there is no such operation, or not in this category"),
    (10429, SlowDown, "the whole system is too busy; try later"),
    (20001, Permanent, "the connection is authenticated already"),
    (20003, SlowDown, RATE),
    (20006, Permanent, "the reqId was used before"),
    (33004, Reauthenticate, "the key has expired"),
    (110_001, Permanent, "there is no such order"),
    (110_004, Permanent, "the account cannot pay for it"),
    (110_007, Permanent, "the account cannot pay for it"),
    (110_008, Permanent, "the order is finished"),
    (110_010, Permanent, "the order is cancelled"),
    (110_072, Permanent, "the orderLinkId was used before"),
    (110_079, Wait, "the order is being dealt with"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_there_once_and_says_something() {
        let codes: Vec<i64> = ErrorCode::all().map(|error| error.code).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "in order, and each once");
        assert!(ErrorCode::all().all(|error| !error.advice.is_empty()));
        assert_eq!(ErrorCode::of(10004).unwrap().recovery(), Recovery::Reauthenticate);
        assert_eq!(ErrorCode::of(10006).unwrap().recovery(), Recovery::Backoff(Duration::from_secs(10)));
        assert_eq!(ErrorCode::of(1), None);
    }
}
