//! What Deribit's errors mean.
//!
//! Source: the table of RPC error codes in the API's documentation (v2.1.1, docs.deribit.com, stored copy read 2026-11-21). Which of them are
//! worth another try is told there for some, and follows from what they say for the others.

use Remedy::{Permanent, Reauthenticate, Retry, SlowDown, Wait};
use everwire_core::Recovery;
use std::fmt;
use std::time::Duration;

/// A code of Deribit's, what it means and what to do about it: from [`ErrorCode::of`].
///
/// ```
/// use everwire_venues::deribit::{ErrorCode, Remedy};
///
/// let error = ErrorCode::of(10047).unwrap();
/// assert_eq!((error.name, error.remedy), ("matching_engine_queue_full", Remedy::Retry));
/// println!("{error}: {}", error.advice);
/// assert_eq!(ErrorCode::of(1), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorCode {
    /// The number.
    pub code: i64,
    /// Deribit's short message, without the details that may follow it.
    pub name: &'static str,
    /// Whether the same may be tried again.
    pub remedy: Remedy,
    /// What happened and how to mend it.
    pub advice: &'static str,
}

/// Whether what was refused may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// Soon: nothing is wrong with it.
    Retry,
    /// After some time without requests: too much was sent.
    SlowDown,
    /// After some time: the platform, or a part of it, is out of service.
    Wait,
    /// After authenticating anew.
    Reauthenticate,
    /// Not as it is: it would be refused again.
    Permanent,
}

impl ErrorCode {
    /// What is known of this code.
    pub fn of(code: i64) -> Option<Self> {
        let (code, name, remedy, advice) = *ERRORS.iter().find(|(known, ..)| *known == code)?;
        Some(Self { code, name, remedy, advice })
    }

    /// All that are known.
    pub fn all() -> impl Iterator<Item = Self> {
        ERRORS.iter().map(|&(code, name, remedy, advice)| Self { code, name, remedy, advice })
    }

    /// Whether the same may be tried again, at once or later.
    pub fn is_retryable(&self) -> bool {
        self.remedy != Permanent
    }

    /// What the session does when it is refused in this way what is its own.
    pub(super) fn recovery(&self) -> Recovery {
        match self.remedy {
            Retry => Recovery::Backoff(RETRY),
            SlowDown => Recovery::Backoff(SLOW_DOWN),
            Wait => Recovery::Backoff(WAIT),
            Reauthenticate => Recovery::Reauthenticate,
            Permanent => Recovery::Stop,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.name)
    }
}

const RETRY: Duration = Duration::from_secs(1);
/// The pool of requests is full again after this time: 50,000 credits at 10,000 a second.
pub(super) const SLOW_DOWN: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(30);

/// Too much was sent: the server ends the connection.
pub(super) const TOO_MANY_REQUESTS: i64 = 10028;

const LIMIT: &str = "a limit of the account is reached; close or cancel something first";
const PRICE: &str = "the price is outside of what is allowed now; look at the instrument's limits";
const ARGUMENT: &str = "an argument is wrong; compare the call with the documentation";
const ORDER: &str = "no open order of that kind is there; ask for the open orders";
const LOGIN: &str = "check key and secret, and whether they are of this environment (production or test)";
const RIGHTS: &str = "the key has no right to do this; give it the scope, or use another";
const LATER: &str = "out of service for a while; try later";

#[rustfmt::skip]
const ERRORS: &[(i64, &str, Remedy, &str)] = &[
    (-32700, "parse_error", Permanent, "the message is no JSON"),
    (-32602, "invalid_params", Permanent, ARGUMENT),
    (-32601, "method_not_found", Permanent, "there is no such method; mind public/ and private/"),
    (-32600, "request_entity_too_large", Permanent, "a message must be a request of at most 32 kB; name fewer channels in one"),
    (-32000, "missing_params", Permanent, ARGUMENT),
    (10000, "authorization_required", Reauthenticate, "nobody is logged in, or the signature is wrong; configure credentials"),
    (10001, "error", Retry, "a failure of which nothing more is told"),
    (10002, "qty_too_low", Permanent, "the amount is below the instrument's least"),
    (10003, "order_overlap", Permanent, "it would trade with an order of your own"),
    (10004, "order_not_found", Permanent, ORDER),
    (10005, "price_too_low", Permanent, PRICE),
    (10006, "price_too_low4idx", Permanent, PRICE),
    (10007, "price_too_high", Permanent, PRICE),
    (10009, "not_enough_funds", Permanent, "the account cannot pay for it"),
    (10010, "already_closed", Permanent, ORDER),
    (10011, "price_not_allowed", Permanent, PRICE),
    (10012, "book_closed", Permanent, "the instrument is not traded any more"),
    (10013, "pme_max_total_open_orders", Permanent, LIMIT),
    (10014, "pme_max_future_open_orders", Permanent, LIMIT),
    (10015, "pme_max_option_open_orders", Permanent, LIMIT),
    (10016, "pme_max_future_open_orders_size", Permanent, LIMIT),
    (10017, "pme_max_option_open_orders_size", Permanent, LIMIT),
    (10018, "non_pme_max_future_position_size", Permanent, LIMIT),
    (10019, "locked_by_admin", Wait, "trading is locked for a while"),
    (10020, "invalid_or_unsupported_instrument", Permanent, "there is no such instrument"),
    (10021, "invalid_amount", Permanent, "the amount is no multiple of the contract's size"),
    (10023, "invalid_price", Permanent, "the price is no number"),
    (10024, "invalid_max_show", Permanent, ARGUMENT),
    (10025, "invalid_order_id", Permanent, "the order's id is missing or has not its form"),
    (10026, "price_precision_exceeded", Permanent, "round the price to the instrument's tick size"),
    (10027, "non_integer_contract_amount", Permanent, "the amount must be whole contracts"),
    (10028, "too_many_requests", SlowDown, "the credits are used up and the server ends the connection; let the session's limits pace what is sent, and do not share the account with a program that they do not know of"),
    (10029, "not_owner_of_order", Permanent, "the order is somebody else's"),
    (10030, "must_be_websocket_request", Permanent, "the method is for WebSockets alone"),
    (10031, "invalid_args_for_instrument", Permanent, ARGUMENT),
    (10032, "whole_cost_too_low", Permanent, "the order is too small as a whole"),
    (10033, "not_implemented", Permanent, "the method does not exist yet"),
    (10034, "trigger_price_too_high", Permanent, PRICE),
    (10035, "trigger_price_too_low", Permanent, PRICE),
    (10036, "invalid_max_show_amount", Permanent, ARGUMENT),
    (10037, "non_pme_total_short_options_positions_size", Permanent, LIMIT),
    (10038, "pme_max_risk_reducing_orders", Permanent, LIMIT),
    (10039, "not_enough_funds_in_currency", Permanent, "the account cannot pay for it in this currency"),
    (10040, "retry", Retry, "it could not be dealt with now"),
    (10041, "settlement_in_progress", Retry, "trading pauses for some seconds at the daily settlement"),
    (10043, "price_wrong_tick", Permanent, "round the price to the instrument's tick size"),
    (10044, "trigger_price_wrong_tick", Permanent, "round the trigger price to the instrument's tick size"),
    (10045, "can_not_cancel_liquidation_order", Permanent, "the order belongs to a liquidation"),
    (10046, "can_not_edit_liquidation_order", Permanent, "the order belongs to a liquidation"),
    (10047, "matching_engine_queue_full", Retry, "too many of your orders wait for the matching engine; await answers before you send more"),
    (10048, "not_on_this_server", Permanent, "this server does not do it; use the other environment"),
    (10049, "cancel_on_disconnect_failed", Retry, "cancel-on-disconnect could not be switched on"),
    (10066, "too_many_concurrent_requests", Retry, "too many public requests are unanswered; await answers before you send more"),
    (10072, "disabled_while_position_lock", Permanent, "the account may only reduce positions"),
    (11008, "already_filled", Permanent, "the order is filled"),
    (11013, "max_spot_open_orders", Permanent, LIMIT),
    (11021, "post_only_price_modification_not_possible", Permanent, "the price of this order cannot be changed"),
    (11022, "max_spot_order_quantity", Permanent, LIMIT),
    (11029, "invalid_arguments", Permanent, ARGUMENT),
    (11030, "other_reject", Permanent, "its message says why"),
    (11031, "other_error", Permanent, "its message says what"),
    (11035, "no_more_triggers", Permanent, LIMIT),
    (11036, "invalid_trigger_price", Permanent, PRICE),
    (11037, "outdated_instrument_for_iv_order", Permanent, "the instrument is not traded any more"),
    (11042, "permission_denied", Permanent, RIGHTS),
    (11043, "bad_argument", Permanent, ARGUMENT),
    (11044, "not_open_order", Permanent, ORDER),
    (11045, "invalid_event", Permanent, "there is no such channel"),
    (11046, "outdated_instrument", Permanent, "the instrument is about to expire"),
    (11047, "unsupported_arg_combination", Permanent, ARGUMENT),
    (11048, "wrong_max_show_for_option", Permanent, ARGUMENT),
    (11049, "bad_arguments", Permanent, ARGUMENT),
    (11050, "bad_request", Permanent, "the message could not be read"),
    (11051, "system_maintenance", Wait, LATER),
    (11052, "subscribe_error_unsubscribed", Permanent, "a channel cannot be subscribed to: its name is wrong or the key has no right to it"),
    (11054, "post_only_reject", Permanent, "the order would have traded at once, and it was not to"),
    (11055, "post_only_not_allowed", Permanent, "orders of this kind cannot be post-only"),
    (11056, "unauthenticated_public_requests_temporarily_disabled", Wait, "configure credentials, or try later"),
    (11094, "internal_server_error", Retry, "the server failed; whether an order took effect must be asked"),
    (11098, "account_locked", Permanent, "the account is locked; ask the support"),
    (12003, "login_over_limit", Wait, "logging in failed too often; check the credentials before the next try"),
    (12005, "country_is_banned", Permanent, "not served from this address"),
    (12998, "security_key_authorization_over_limit", Wait, "a second factor failed too often"),
    (13004, "invalid_credentials", Reauthenticate, LOGIN),
    (13006, "security_error", Permanent, LOGIN),
    (13007, "user_not_found", Permanent, LOGIN),
    (13008, "request_failed", Permanent, "wrong input, or a failure within"),
    (13009, "unauthorized", Reauthenticate, "the token is wrong, expired, or of another connection, or the signature is bad; check this machine's clock: a signature's time may be 60 s old at most"),
    (13010, "value_required", Permanent, ARGUMENT),
    (13011, "value_too_short", Permanent, ARGUMENT),
    (13012, "unavailable_in_subaccount", Permanent, "not for subaccounts"),
    (13016, "invalid_input", Permanent, ARGUMENT),
    (13019, "orderbook_closed", Permanent, "the instrument is not traded any more"),
    (13020, "not_found", Permanent, "there is no such instrument"),
    (13021, "forbidden", Permanent, RIGHTS),
    (13025, "method_switched_off_by_admin", Wait, LATER),
    (13028, "temporarily_unavailable", Wait, LATER),
    (13030, "mmp_trigger", Permanent, "market maker protection stopped it; reset it first"),
    (13031, "verification_required", Permanent, "only for verified users"),
    (13032, "non_unique_order_label", Permanent, "several orders have this label; use the order's id"),
    (13035, "active_combo_limit_reached", Wait, LIMIT),
    (13036, "unavailable_for_combo_books", Wait, LATER),
    (13042, "cod_not_enabled", Permanent, "cancel-on-disconnect is off on this connection"),
    (13043, "quotes_frozen", Retry, "quotes are frozen for a moment after a cancel"),
    (13403, "scope_exceeded", Permanent, RIGHTS),
    (13503, "unavailable", Wait, LATER),
    (13666, "request_cancelled_by_user", Permanent, "another request of yours cancelled it"),
    (13668, "security_key_authorization_error", Permanent, "a second factor is asked for, which a program cannot give; use a key that needs none"),
    (13777, "replaced", Permanent, "another edit took its place"),
    (13778, "raw_subscriptions_not_available_for_unauthorized", Permanent, "raw market data need an authenticated connection; configure credentials, or take 100ms"),
    (13780, "move_positions_over_limit", Wait, LIMIT),
    (13888, "timed_out", Retry, "it was not dealt with before its valid_until"),
    (13901, "no_more_oto_orders", Permanent, LIMIT),
    (13902, "mass_quotes_disabled", Permanent, RIGHTS),
    (13903, "too_many_quotes", SlowDown, "too many quotes in one second"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_there_once_and_says_something() {
        let codes: Vec<i64> = ErrorCode::all().map(|error| error.code).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "in order, and each once");
        for error in ErrorCode::all() {
            assert_eq!(ErrorCode::of(error.code), Some(error));
            assert!(
                !error.advice.is_empty() && error.name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
            );
        }
        assert_eq!(ErrorCode::of(13009).unwrap().to_string(), "13009 unauthorized");
    }

    /// The list of the reference: which codes others found worth another try.
    #[test]
    fn what_is_retryable_is_as_others_found_it() {
        for code in [10028, 10040, 10041, 10047, 10066, 11051, 11094, 13028, 13888] {
            assert!(ErrorCode::of(code).unwrap().is_retryable(), "{code}");
        }
        for code in [10004, 10009, 10020, 10029, 11029, 11050, 11054, 13020, 13021, 13668, 13778] {
            assert!(!ErrorCode::of(code).unwrap().is_retryable(), "{code}");
        }
        for code in [10000, 13004, 13009] {
            assert_eq!(ErrorCode::of(code).unwrap().recovery(), Recovery::Reauthenticate, "{code}");
        }
        assert_eq!(ErrorCode::of(10028).unwrap().recovery(), Recovery::Backoff(SLOW_DOWN));
    }
}
