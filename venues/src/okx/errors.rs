//! Errors, close codes, and what is done about them.

use super::wire::{Envelope, read_error};
use everwire_core::Recovery;
use everwire_core::protocol::Fault;
use std::time::Duration;

/// After too much of something that is counted by the second.
const PAUSE: Duration = Duration::from_secs(5);
/// After too many connections or channels.
pub(super) const LONG_PAUSE: Duration = Duration::from_secs(60);

/// Whether a code is of a login, which is answered without an id
/// (<https://www.okx.com/docs-v5/en/#error-code-websocket-public>, 2026-07).
pub(super) fn is_of_login(code: &str) -> bool {
    matches!(
        code,
        "60004"
            | "60005"
            | "60006"
            | "60007"
            | "60009"
            | "60022"
            | "60023"
            | "60024"
            | "60026"
            | "60031"
            | "60032"
            | "63999"
    )
}

/// What a code of an error means, and what to do; `None` if it is not known here. Those of orders (51xxx and
/// others) are in the venue's documents.
pub fn explain(code: i64) -> Option<&'static str> {
    Some(match code {
        50011 => "more requests than are allowed in a time",
        60004 | 60006 => "the login's time is wrong, or over 30 s old: look at this machine's clock",
        60005 | 60032 => "there is no such API key: keys of demo trading are for its address only",
        60007 => "the signature does not fit: look at the secret key",
        60009 => "the login failed",
        60024 => "the passphrase does not fit the API key",
        60031 => "the connection is logged in already",
        60011 => "the channel wants a login: Okx::credentials, and the private address",
        60008 | 60018 | 60028 | 64001 | 64002 => {
            "it is not there at this address: public, private and business ones serve different channels"
        }
        60012 | 60013 | 60019 | 60027 | 60033 | 64000 => "the message is not as the venue wants it",
        60014 | 60023 => "too many requests",
        60020 | 60025 => "too many subscriptions of this API key",
        60029 | 64003 => "the account may not have this channel",
        64004 => "the channel may not be there together with books-l2-tbt of the same instrument",
        63999 | 64007 => "an error within the venue: it is tried again",
        64008 => "the connection will be closed for an upgrade, in about 60 s",
        _ => return None,
    })
}

/// What to do about a fault.
pub(super) fn recovery(fault: Fault<'_>) -> Option<Recovery> {
    match fault {
        Fault::Closed(code, _) => of_close(code),
        Fault::Authentication(error) | Fault::Preparation(error) => of_login(read_error(error).code),
        Fault::Subscription(error) => of_subscription(error),
        _ => None,
    }
}

/// Close codes of the venue (the same page).
fn of_close(code: u16) -> Option<Recovery> {
    Some(match code {
        // Login failed; the key was changed or deleted.
        4001 | 4007 => Recovery::Reauthenticate,
        // Too many of something, which other connections may give up.
        4003 | 4008 | 4009 => Recovery::Backoff(LONG_PAUSE),
        // Invalid request; silence; a buffer that is full; something abnormal.
        4002 | 4004..=4006 => Recovery::Reconnect,
        _ => return None,
    })
}

fn of_login(code: i64) -> Option<Recovery> {
    Some(match code {
        60014 | 60023 | 50011 => Recovery::Backoff(PAUSE),
        60004 | 60006 | 63999 | 64007 => Recovery::Backoff(PAUSE),
        60005 | 60007 | 60009 | 60024 | 60032 => Recovery::Reauthenticate,
        _ => return None,
    })
}

fn of_subscription(error: &str) -> Option<Recovery> {
    Some(match read_error(error).code {
        60014 | 50011 => Recovery::Backoff(PAUSE),
        60020 | 60025 => Recovery::Backoff(LONG_PAUSE),
        60008 | 60011..=60013 | 60018 | 60019 | 60027..=60029 | 60033 | 64000..=64004 => Recovery::Stop,
        _ => return None,
    })
}

/// What a message says of the connection, if that is what it is about.
pub(super) fn notice<'m>(envelope: &Envelope<'m>, text: &'m str) -> Option<(&'m str, Option<Recovery>)> {
    let recovery = match (envelope.event?, envelope.code) {
        ("notice", Some("64008")) => Some(Recovery::Reconnect),
        ("notice", _) | ("channel-conn-count", _) => None,
        // A subscription was ended again after it was confirmed, and it does not say which of the channel.
        ("channel-conn-count-error", _) => Some(Recovery::Backoff(LONG_PAUSE)),
        _ => return None,
    };
    Some((envelope.msg.unwrap_or(text), recovery))
}
