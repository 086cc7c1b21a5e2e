//! What may be sent, and what it costs.
//!
//! Sources: support.deribit.com article 25944617523357 and docs.deribit.com/articles/rate-limits (stored copies read 2026-11-21); the list of
//! matching engine requests is that of the older page asia.deribit.com/pages/information/rate-limits, with the methods of the same families
//! that came since.

use everwire_core::Limit;
use everwire_core::protocol::Traffic;
use std::time::Duration;

/// Requests that are no orders: credits of the pool.
const REQUESTS: &str = "requests";
/// Orders: one each.
const MATCHING: &str = "matching";
/// Subscribing: credits of a pool of its own.
const SUBSCRIBE: &str = "subscribe";
/// `public/get_instruments`: one each.
const INSTRUMENTS: &str = "instruments";

const SECOND: Duration = Duration::from_secs(1);
/// Messages that were sent some time apart may arrive closer together: the server's pool then has got back less than ours.
const MARGIN: Duration = Duration::from_millis(250);

/// How many requests to the matching engine an account may make, by its trading volume of the last seven days.
///
/// `private/get_account_summary` tells the account's own (`limits`), which Deribit looks at anew each hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tier {
    /// Over USD 25 million: 30 a second, bursts of 100.
    One,
    /// Over USD 5 million: 20 a second, bursts of 50.
    Two,
    /// What everybody has: 5 a second, bursts of 20. The default.
    Standard,
    /// What the account's summary says.
    Custom {
        /// Requests in a second, at least 1.
        rate: u32,
        /// Requests at once, at least 1.
        burst: u32,
    },
}

impl Tier {
    fn limit(self) -> Limit {
        let (rate, burst) = match self {
            Self::One => (30, 100),
            Self::Two => (20, 50),
            Self::Standard => (5, 20),
            Self::Custom { rate, burst } => (rate.max(1), burst.max(1)),
        };
        Limit::credits(MATCHING, burst, rate, SECOND)
    }
}

/// All of them, shared by those who share the account.
pub(super) fn limits(tier: Tier, account: &str) -> Vec<Limit> {
    let limits = [
        Limit::credits(REQUESTS, 50_000, 10_000, SECOND),
        Limit::credits(SUBSCRIBE, 30_000, 10_000, SECOND),
        Limit::credits(INSTRUMENTS, 50, 1, SECOND),
        tier.limit(),
    ];
    limits.into_iter().map(|limit| limit.margin(MARGIN).shared(account)).collect()
}

/// What it costs under the limit of this name.
pub(super) fn cost(limit: &str, traffic: Traffic<'_>) -> u32 {
    let (name, cost) = match traffic {
        // Frames of WebSocket are no requests.
        Traffic::Ping | Traffic::Pong | Traffic::Close => return 0,
        Traffic::Subscribe(_) => (SUBSCRIBE, 3_000),
        Traffic::Request(method) => match method {
            "public/subscribe" | "private/subscribe" => (SUBSCRIBE, 3_000),
            "public/get_instruments" => (INSTRUMENTS, 1),
            // They have rules of their own, per account.
            "private/mass_quote" | "private/cancel_quotes" => return 0,
            method if is_matching(method) => (MATCHING, 1),
            _ => (REQUESTS, 500),
        },
        _ => (REQUESTS, 500),
    };
    if limit == name { cost } else { 0 }
}

fn is_matching(method: &str) -> bool {
    let Some(name) = method.strip_prefix("private/") else { return false };
    let families = ["buy", "sell", "edit", "cancel", "close_position"];
    let member = |family: &&str| {
        name.strip_prefix(*family)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("_all") || rest.starts_with("_by"))
    };
    families.iter().any(member)
        || matches!(name, "verify_block_trade" | "execute_block_trade" | "move_positions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_costs_what_the_venue_counts() {
        fn costs(traffic: Traffic<'_>) -> [u32; 4] {
            [REQUESTS, MATCHING, SUBSCRIBE, INSTRUMENTS].map(|limit| cost(limit, traffic))
        }
        for traffic in [Traffic::Ping, Traffic::Pong, Traffic::Close, Traffic::Request("private/mass_quote")]
        {
            assert_eq!(costs(traffic), [0; 4], "{traffic:?}");
        }
        for traffic in [
            Traffic::Authenticate,
            Traffic::Prepare,
            Traffic::Heartbeat,
            Traffic::Unsubscribe(3),
            Traffic::Farewell,
            Traffic::Message(10),
            Traffic::Request("private/get_open_orders"),
            Traffic::Request("private/enable_cancel_on_disconnect"),
            Traffic::Request("public/buy"),
            Traffic::Request("private/sellx"),
        ] {
            assert_eq!(costs(traffic), [500, 0, 0, 0], "{traffic:?}");
        }
        for method in [
            "buy",
            "sell",
            "edit",
            "edit_by_label",
            "cancel",
            "cancel_all",
            "cancel_all_by_instrument",
            "cancel_by_label",
            "close_position",
            "execute_block_trade",
        ] {
            let method = format!("private/{method}");
            assert_eq!(costs(Traffic::Request(&method)), [0, 1, 0, 0], "{method}");
        }
        assert_eq!(costs(Traffic::Subscribe(100)), [0, 0, 3_000, 0]);
        assert_eq!(costs(Traffic::Request("public/subscribe")), [0, 0, 3_000, 0]);
        assert_eq!(costs(Traffic::Request("public/get_instruments")), [0, 0, 0, 1]);
    }

    #[test]
    fn they_are_valid_and_of_the_account() {
        for tier in [Tier::One, Tier::Two, Tier::Standard, Tier::Custom { rate: 0, burst: 0 }] {
            let all = limits(tier, "main");
            assert!(
                all.iter().all(|limit| limit.validate().is_ok() && limit.account() == Some("main")),
                "{all:?}"
            );
        }
    }
}
