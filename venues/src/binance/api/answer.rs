//! Answers of the WebSocket API, with all that is in them.

use everwire_core::protocol::OwnedRpcError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::time::Duration;

/// A whole answer: [`BinanceApi::rate_limits`](super::BinanceApi::rate_limits) makes these the results of
/// requests.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Answer<'a> {
    /// As in HTTP; 200 if all went well.
    pub status: u16,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow, rename = "rateLimits")]
    rate_limits: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// Reads an answer. `None`: it is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|_| text.trim_ascii_start().starts_with('{'))
    }

    /// The result, as JSON text.
    pub fn result(&self) -> Option<&'a str> {
        self.result.map(RawValue::get)
    }

    /// The result, read.
    pub fn result_as<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.result()?).ok()
    }

    /// What was used so far of the limits that the request counts under. Those that are not as documented are
    /// left out.
    pub fn rate_limits(&self) -> Vec<RateLimit> {
        read_limits(self.rate_limits)
    }
}

fn read_limits(limits: Option<&RawValue>) -> Vec<RateLimit> {
    let all: Vec<&RawValue> = limits.and_then(|all| serde_json::from_str(all.get()).ok()).unwrap_or_default();
    all.into_iter().filter_map(|limit| serde_json::from_str(limit.get()).ok()).collect()
}

/// A limit of the venue, and what was used of it in the present interval.
///
/// Intervals begin at full seconds, minutes and so on: a minute's count starts over at its beginning, not a
/// minute after the request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RateLimit {
    /// `REQUEST_WEIGHT`, of the address, or `ORDERS`, of the account.
    pub rate_limit_type: String,
    /// `SECOND`, `MINUTE`, `HOUR` or `DAY`.
    pub interval: String,
    /// How many of these.
    pub interval_num: u32,
    /// Most in one interval.
    pub limit: u32,
    /// How much of it is used.
    pub count: u32,
}

impl RateLimit {
    /// The interval; `None` if its name is not one of these.
    pub fn per(&self) -> Option<Duration> {
        let unit = match &*self.interval {
            "SECOND" => 1,
            "MINUTE" => 60,
            "HOUR" => 3600,
            "DAY" => 86_400,
            _ => return None,
        };
        Some(Duration::from_secs(unit * u64::from(self.interval_num)))
    }
}

/// What there is to an error of the WebSocket API besides its code and message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiError {
    /// As in HTTP: 400 for a request that is at fault, 409 for one that was carried out in part, 418 for a
    /// ban, 429 for too many requests, 5xx if the venue is at fault. See
    /// [`is_execution_unknown`](Self::is_execution_unknown).
    pub status: u16,
    /// When the next request may be made, since the Unix epoch: with status 418 and 429.
    pub retry_after: Option<Duration>,
    /// The time of the server, since the Unix epoch.
    pub server_time: Option<Duration>,
    /// What was used so far of the limits that the request counts under.
    pub rate_limits: Vec<RateLimit>,
    code: i64,
}

impl ApiError {
    /// Reads the error that a request of a [`BinanceApi`](super::BinanceApi) was refused with. `None`: it is
    /// none of the venue's.
    pub fn of(error: &OwnedRpcError) -> Option<Self> {
        #[derive(Deserialize)]
        struct Whole<'a> {
            status: u16,
            #[serde(borrow)]
            error: Inner<'a>,
            #[serde(borrow, rename = "rateLimits")]
            rate_limits: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Inner<'a> {
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase")]
        struct Times {
            retry_after: Option<u64>,
            server_time: Option<u64>,
        }
        let whole: Whole<'_> = serde_json::from_str(error.data.as_deref()?).ok()?;
        let times: Times =
            whole.error.data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
        Some(Self {
            status: whole.status,
            retry_after: times.retry_after.map(Duration::from_millis),
            server_time: times.server_time.map(Duration::from_millis),
            rate_limits: read_limits(whole.rate_limits),
            code: error.code,
        })
    }

    /// Whether the request may have been carried out all the same, as if it had ended as
    /// [`SentUnknown`](everwire_core::Outcome::SentUnknown): by its code, or by a status of 5xx. Ask for the
    /// order by its client order id before it is placed again.
    pub fn is_execution_unknown(&self) -> bool {
        self.status >= 500 || super::ErrorCode::new(self.code).is_some_and(|code| code.is_execution_unknown())
    }
}
