//! Names of channels. A name that is not here is a [`Topic::new`].

use everwire_core::Topic;
use std::fmt;

/// How often a channel tells. Allowed values of most channels; source: the channels' pages, such as docs.deribit.com/subscriptions/orderbook/bookinstrument_nameinterval
/// (read 2026-11-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interval {
    /// Each event by itself. Market data that are raw need an authenticated connection.
    Raw,
    /// Events of 100 ms together.
    Ms100,
    /// Aggregated by the server in a way of its own.
    Agg2,
}

impl Interval {
    /// As it stands in a channel's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Ms100 => "100ms",
            Self::Agg2 => "agg2",
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Changes of an order book, after one notification that holds all of it. Its notifications are chained by `prev_change_id`, which is watched.
pub fn book(instrument: &str, interval: Interval) -> Topic {
    Topic::new(format!("book.{instrument}.{interval}"))
}

/// A book of so many levels on each side (1, 10 or 20), with prices rounded by `group` (`none`, or a step such as `5`). Each notification is whole.
pub fn book_depth(instrument: &str, group: &str, depth: u32, interval: Interval) -> Topic {
    Topic::new(format!("book.{instrument}.{group}.{depth}.{interval}"))
}

/// Trades of an instrument.
pub fn trades(instrument: &str, interval: Interval) -> Topic {
    Topic::new(format!("trades.{instrument}.{interval}"))
}

/// Trades of all instruments of a kind (`future`, `option`, `spot`, `any`) and currency (`BTC`, `any`).
pub fn trades_of(kind: &str, currency: &str, interval: Interval) -> Topic {
    Topic::new(format!("trades.{kind}.{currency}.{interval}"))
}

/// Best prices, the last one, statistics.
pub fn ticker(instrument: &str, interval: Interval) -> Topic {
    Topic::new(format!("ticker.{instrument}.{interval}"))
}

/// Best bid and ask.
pub fn quote(instrument: &str) -> Topic {
    Topic::new(format!("quote.{instrument}"))
}

/// An index, such as `btc_usd`.
pub fn price_index(index: &str) -> Topic {
    Topic::new(format!("deribit_price_index.{index}"))
}

/// Whether the platform, or one of its price indices, is locked.
pub fn platform_state() -> Topic {
    Topic::new("platform_state")
}

/// Orders of ours in an instrument. With [`Interval::Raw`] each notification is one order, else a list.
pub fn user_orders(instrument: &str, interval: Interval) -> Topic {
    Topic::new(format!("user.orders.{instrument}.{interval}"))
}

/// Orders of ours in all instruments of a kind and currency (`any` is all).
pub fn user_orders_of(kind: &str, currency: &str, interval: Interval) -> Topic {
    Topic::new(format!("user.orders.{kind}.{currency}.{interval}"))
}

/// Trades of ours in an instrument.
pub fn user_trades(instrument: &str, interval: Interval) -> Topic {
    Topic::new(format!("user.trades.{instrument}.{interval}"))
}

/// Orders, trades and positions of ours in an instrument.
pub fn user_changes(instrument: &str, interval: Interval) -> Topic {
    Topic::new(format!("user.changes.{instrument}.{interval}"))
}

/// Our balances in a currency, such as `btc`.
pub fn user_portfolio(currency: &str) -> Topic {
    Topic::new(format!("user.portfolio.{currency}"))
}

/// Whether only an authenticated connection gets it: what is the user's, and market data that are raw.
pub(super) fn is_private(channel: &str) -> bool {
    channel.starts_with("user.") || channel.ends_with(".raw")
}

/// Whether its notifications are a chain: `book.{instrument}.{interval}`, as opposed to books of some levels, which are whole each time.
pub(super) fn is_chained(channel: &str) -> bool {
    channel.strip_prefix("book.").is_some_and(|rest| rest.split('.').count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        let names = [
            book("BTC-PERPETUAL", Interval::Raw),
            book_depth("BTC-PERPETUAL", "none", 10, Interval::Ms100),
            trades("BTC-PERPETUAL", Interval::Agg2),
            trades_of("future", "BTC", Interval::Ms100),
            ticker("BTC-PERPETUAL", Interval::Ms100),
            quote("BTC-PERPETUAL"),
            price_index("btc_usd"),
            platform_state(),
            user_orders("BTC-PERPETUAL", Interval::Raw),
            user_orders_of("any", "any", Interval::Raw),
            user_trades("BTC-PERPETUAL", Interval::Raw),
            user_changes("BTC-PERPETUAL", Interval::Ms100),
            user_portfolio("btc"),
        ];
        let names: Vec<_> = names.iter().map(Topic::name).collect();
        let expected = [
            "book.BTC-PERPETUAL.raw",
            "book.BTC-PERPETUAL.none.10.100ms",
            "trades.BTC-PERPETUAL.agg2",
            "trades.future.BTC.100ms",
            "ticker.BTC-PERPETUAL.100ms",
            "quote.BTC-PERPETUAL",
            "deribit_price_index.btc_usd",
            "platform_state",
            "user.orders.BTC-PERPETUAL.raw",
            "user.orders.any.any.raw",
            "user.trades.BTC-PERPETUAL.raw",
            "user.changes.BTC-PERPETUAL.100ms",
            "user.portfolio.btc",
        ];
        assert_eq!(names, expected);
        let private: Vec<_> = expected.iter().filter(|name| is_private(name)).collect();
        assert_eq!(private.len(), 6, "{private:?}");
        let chained: Vec<_> = expected.iter().filter(|name| is_chained(name)).collect();
        assert_eq!(chained, [&"book.BTC-PERPETUAL.raw"]);
    }
}
