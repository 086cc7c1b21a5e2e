//! Errors of the venue.

use super::wire::read_error;
use everwire_core::Recovery;
use everwire_core::protocol::Fault;
use std::fmt;
use std::time::Duration;

/// After a disconnect for too many messages: a rolling second is over long before, but addresses that come
/// back and do it again are banned.
pub(super) const RATE_PAUSE: Duration = Duration::from_secs(10);
/// The shortest ban of an address
/// (<https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/rate-limits>: "from 2 minutes to
/// 3 days").
pub(super) const BAN: Duration = Duration::from_secs(120);
/// After an error of the venue's own.
const PAUSE: Duration = Duration::from_secs(1);

macro_rules! codes {
    ($($name:ident = $code:literal, $official:literal, $explain:literal;)*) => {
        /// An error that the venue answers with, as far as it has a meaning for a client that lives long
        /// (<https://developers.binance.com/docs/binance-spot-api-docs/errors>; those of the streams are in
        /// "Error Messages" of the page on streams).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = concat!($official, ": ", $explain)] $name,)*
        }

        impl ErrorCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The one of this number, if it is known.
            pub fn new(code: i64) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its number.
            pub fn code(self) -> i64 {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// What it means, and what to do.
            pub fn explain(self) -> &'static str {
                match self {
                    $(Self::$name => $explain,)*
                }
            }
        }

        impl fmt::Display for ErrorCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => concat!($official, " (", $code, "): ", $explain),)*
                })
            }
        }
    };
}

codes! {
    UnknownProperty = 0, "streams: Unknown property", "SET_PROPERTY and GET_PROPERTY know only \"combined\"";
    InvalidValue = 1, "streams: Invalid value type", "a property is set to true or false";
    InvalidRequest = 2, "streams: Invalid request", "the message is not as the venue wants it, or it names a stream that cannot be";
    InvalidStreamJson = 3, "streams: Invalid JSON", "the message is no JSON";
    Unknown = -1000, "UNKNOWN", "something failed at the venue; whether the request was carried out is to be asked";
    Disconnected = -1001, "DISCONNECTED", "an internal error of the venue: try again";
    Unauthorized = -1002, "UNAUTHORIZED", "the key may not do this: look at its permissions";
    TooManyRequests = -1003, "TOO_MANY_REQUESTS", "too much weight was used; further requests lead to a ban of the address: wait until retryAfter";
    UnexpectedResponse = -1006, "UNEXPECTED_RESP", "whether the request was carried out is NOT known: ask for the order before placing it again";
    Timeout = -1007, "TIMEOUT", "whether the request was carried out is NOT known: ask for the order before placing it again";
    ServerBusy = -1008, "SERVER_BUSY", "the venue is overloaded: try again in a while";
    InvalidMessage = -1013, "INVALID_MESSAGE", "refused before it reached the matching engine, such as by a filter of the symbol";
    TooManyOrders = -1015, "TOO_MANY_ORDERS", "more orders than are allowed in a time: wait for the next interval";
    ShuttingDown = -1016, "SERVICE_SHUTTING_DOWN", "this service is no longer available";
    UnsupportedOperation = -1020, "UNSUPPORTED_OPERATION", "the venue does not do this";
    InvalidTimestamp = -1021, "INVALID_TIMESTAMP", "the timestamp is outside of recvWindow: this machine's clock is wrong, or the request waited for too long";
    InvalidSignature = -1022, "INVALID_SIGNATURE", "the signature does not fit: look at the secret, and at what was signed";
    IllegalCharacters = -1100, "ILLEGAL_CHARS", "a parameter has characters that it must not have";
    MissingParameter = -1102, "MANDATORY_PARAM_EMPTY_OR_MALFORMED", "a parameter is missing, empty, or not as it must be";
    BadSymbol = -1121, "BAD_SYMBOL", "there is no such symbol";
    InvalidListenKey = -1125, "INVALID_LISTEN_KEY", "the listen key has expired: fetch another one";
    InvalidJson = -1135, "INVALID_JSON", "the request is no JSON, or its parameters are no object";
    NewOrderRejected = -2010, "NEW_ORDER_REJECTED", "the order was refused, such as for want of a balance";
    CancelRejected = -2011, "CANCEL_REJECTED", "there is no such order to cancel, or no longer";
    NoSuchOrder = -2013, "NO_SUCH_ORDER", "there is no such order";
    BadKeyFormat = -2014, "BAD_API_KEY_FMT", "the API key is not one";
    RejectedKey = -2015, "REJECTED_MBX_KEY", "the key is not valid, or not for this address, or may not do this";
}

impl ErrorCode {
    /// Whether the request may have been carried out all the same: ask before it is repeated. It is then as
    /// [`Outcome::SentUnknown`](everwire_core::Outcome::SentUnknown) is.
    pub fn is_execution_unknown(self) -> bool {
        matches!(self, Self::Unknown | Self::UnexpectedResponse | Self::Timeout)
    }

    /// What the session does when it is refused its authentication or a subscription with this. `None`: the
    /// connection is not to blame.
    pub fn recovery(self) -> Option<Recovery> {
        match self {
            Self::TooManyRequests => Some(Recovery::Backoff(BAN)),
            Self::TooManyOrders => Some(Recovery::Backoff(RATE_PAUSE)),
            Self::Unknown
            | Self::Disconnected
            | Self::UnexpectedResponse
            | Self::Timeout
            | Self::ServerBusy
            | Self::InvalidTimestamp => Some(Recovery::Backoff(PAUSE)),
            Self::ShuttingDown => Some(Recovery::Reconnect),
            Self::Unauthorized
            | Self::InvalidSignature
            | Self::InvalidListenKey
            | Self::BadKeyFormat
            | Self::RejectedKey => Some(Recovery::Reauthenticate),
            Self::UnknownProperty
            | Self::InvalidValue
            | Self::InvalidRequest
            | Self::InvalidStreamJson
            | Self::InvalidMessage
            | Self::UnsupportedOperation
            | Self::IllegalCharacters
            | Self::MissingParameter
            | Self::BadSymbol
            | Self::InvalidJson
            | Self::NewOrderRejected
            | Self::CancelRejected
            | Self::NoSuchOrder => None,
        }
    }
}

/// What to do about a fault, of the streams and of the WebSocket API.
pub(super) fn recovery(fault: Fault<'_>) -> Option<Recovery> {
    let code = |error| ErrorCode::new(read_error(error).code);
    match fault {
        // "Too many requests", as seen in the field (nautilus_trader issue 5012, 2026); the documents name no
        // code.
        Fault::Closed(1008, _) => Some(Recovery::Backoff(RATE_PAUSE)),
        Fault::Authentication(error) | Fault::Preparation(error) => code(error)?.recovery(),
        // A stream that cannot be is refused for as long as it is asked for; those in one message with it are
        // asked for alone.
        Fault::Subscription(error) => code(error)?.recovery().or(Some(Recovery::Stop)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_hangs_together() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::new(code.code()), Some(code));
            let told = code.to_string();
            assert!(told.contains(&code.code().to_string()) && told.ends_with(code.explain()), "{told}");
        }
        assert_eq!(ErrorCode::new(-9999), None);
        assert_eq!(
            ErrorCode::Timeout.to_string(),
            "TIMEOUT (-1007): whether the request was carried out is NOT known: ask for the order before placing it again"
        );
    }

    #[test]
    fn what_is_done_about_them() {
        let error = |code: i64| format!(r#"{{"id":1,"status":400,"error":{{"code":{code},"msg":"m"}}}}"#);
        let pause = |seconds| Some(Recovery::Backoff(Duration::from_secs(seconds)));
        let cases = [
            (-2015, Some(Recovery::Reauthenticate), Some(Recovery::Reauthenticate)),
            (-1021, pause(1), pause(1)),
            (-1003, pause(120), pause(120)),
            (-1121, None, Some(Recovery::Stop)),
            (-4242, None, None),
        ];
        for (code, logon, subscription) in cases {
            assert_eq!(recovery(Fault::Authentication(&error(code))), logon, "{code}");
            assert_eq!(recovery(Fault::Subscription(&error(code))), subscription, "{code}");
        }
        let invalid = r#"{"code":2,"msg":"Invalid request: invalid stream"}"#;
        assert_eq!(recovery(Fault::Subscription(invalid)), Some(Recovery::Stop));
        assert_eq!(recovery(Fault::Closed(1008, "Too many requests")), pause(10));
        assert_eq!(recovery(Fault::Closed(1000, "")), None);
        for &code in ErrorCode::ALL {
            assert!(!code.is_execution_unknown() || matches!(code.code(), -1000 | -1006 | -1007));
        }
    }
}
