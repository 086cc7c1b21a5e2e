//! Names of streams.

use everwire_core::Topic;
use std::fmt;

/// How often the changes of a book are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Speed {
    /// What the venue does unless asked otherwise: each second on spot, every 250 ms on futures.
    #[default]
    Default,
    /// Every 100 ms.
    Ms100,
    /// Every 500 ms, of futures only.
    Ms500,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "",
            Self::Ms100 => "@100ms",
            Self::Ms500 => "@500ms",
        })
    }
}

/// How many levels of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Levels {
    /// 5.
    Five = 5,
    /// 10.
    Ten = 10,
    /// 20.
    Twenty = 20,
}

/// Trades, one by one: `<symbol>@trade`.
pub fn trade(symbol: &str) -> Topic {
    stream(symbol, "trade")
}

/// Trades, those of one taker order at one price together: `<symbol>@aggTrade`.
pub fn agg_trade(symbol: &str) -> Topic {
    stream(symbol, "aggTrade")
}

/// Candles of an interval such as `1m`, `4h`, `1d`, `1M`: `<symbol>@kline_<interval>`.
pub fn kline(symbol: &str, interval: &str) -> Topic {
    stream(symbol, format_args!("kline_{interval}"))
}

/// The last 24 hours of a symbol: `<symbol>@ticker`.
pub fn ticker(symbol: &str) -> Topic {
    stream(symbol, "ticker")
}

/// The same, with less in it: `<symbol>@miniTicker`.
pub fn mini_ticker(symbol: &str) -> Topic {
    stream(symbol, "miniTicker")
}

/// Best bid and ask, at each change: `<symbol>@bookTicker`.
pub fn book_ticker(symbol: &str) -> Topic {
    stream(symbol, "bookTicker")
}

/// The changes of a book: `<symbol>@depth`. They are of use with a snapshot: see
/// [`DepthSync`](super::DepthSync).
pub fn depth(symbol: &str, speed: Speed) -> Topic {
    stream(symbol, format_args!("depth{speed}"))
}

/// The best levels of a book, all of them each time: `<symbol>@depth<levels>`.
pub fn partial_depth(symbol: &str, levels: Levels, speed: Speed) -> Topic {
    stream(symbol, format_args!("depth{}{speed}", levels as u8))
}

/// Mark price and funding rate, of futures, every 3 s: `<symbol>@markPrice`, or each second:
/// `<symbol>@markPrice@1s`.
pub fn mark_price(symbol: &str, each_second: bool) -> Topic {
    stream(symbol, if each_second { "markPrice@1s" } else { "markPrice" })
}

/// Orders of a symbol that were liquidated, of futures: `<symbol>@forceOrder`.
pub fn force_order(symbol: &str) -> Topic {
    stream(symbol, "forceOrder")
}

/// The last 24 hours of all symbols that changed: `!miniTicker@arr`.
pub fn all_mini_tickers() -> Topic {
    Topic::new("!miniTicker@arr")
}

/// Any stream of a symbol, such as `ticker_4h` or `avgPrice`. In names of streams symbols are in lower case,
/// whatever they are elsewhere.
pub fn stream(symbol: &str, what: impl fmt::Display) -> Topic {
    Topic::new(format!("{}@{what}", symbol.to_lowercase()))
}

/// Whether this is a stream of changes of a book, whose events are numbered in a row: `btcusdt@depth`,
/// `btcusdt@depth@100ms`, `btcusdt@rpiDepth@500ms`; not `btcusdt@depth20@100ms`, whose events hold all there
/// is to say.
pub(super) fn is_diff_depth(name: &str) -> bool {
    let Some((_, what)) = name.split_once('@') else { return false };
    let kind = what.split('@').next().unwrap_or_default();
    kind == "depth" || kind == "rpiDepth"
}

/// Why the venue would not know a name: it says nothing of its own, and data never come.
pub(super) fn fault(name: &str) -> Option<String> {
    let symbol = name.split_once('@').map_or("", |(symbol, _)| symbol);
    // Listen keys, which are streams too, have no @; streams of all symbols begin with an exclamation mark.
    (!symbol.starts_with('!') && symbol.chars().any(char::is_uppercase)).then(|| {
        format!(
            "{name:?} is no stream: symbols in names of streams are in lower case, {:?}",
            symbol.to_lowercase()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        for (topic, name) in [
            (trade("BNBBTC"), "bnbbtc@trade"),
            (agg_trade("bnbbtc"), "bnbbtc@aggTrade"),
            (kline("BNBBTC", "1M"), "bnbbtc@kline_1M"),
            (ticker("BNBBTC"), "bnbbtc@ticker"),
            (mini_ticker("BNBBTC"), "bnbbtc@miniTicker"),
            (book_ticker("BNBBTC"), "bnbbtc@bookTicker"),
            (depth("BNBBTC", Speed::Default), "bnbbtc@depth"),
            (depth("BNBBTC", Speed::Ms100), "bnbbtc@depth@100ms"),
            (partial_depth("BNBBTC", Levels::Twenty, Speed::Ms500), "bnbbtc@depth20@500ms"),
            (partial_depth("BNBBTC", Levels::Five, Speed::Default), "bnbbtc@depth5"),
            (mark_price("BTCUSD_200925", true), "btcusd_200925@markPrice@1s"),
            (force_order("BTCUSDT"), "btcusdt@forceOrder"),
            (all_mini_tickers(), "!miniTicker@arr"),
            (stream("BTCUSDT", "avgPrice"), "btcusdt@avgPrice"),
        ] {
            assert_eq!(topic.name(), name);
            assert_eq!(fault(name), None);
        }
    }

    #[test]
    fn only_changes_of_books_are_numbered() {
        for name in ["a@depth", "a@depth@100ms", "a@depth@500ms", "btcusd_200925@depth", "a@rpiDepth@500ms"] {
            assert!(is_diff_depth(name), "{name}");
        }
        for name in ["a@depth5", "a@depth20@100ms", "depth", "a@aggTrade", "!ticker@arr", "", "@", "a@depthx"]
        {
            assert!(!is_diff_depth(name), "{name}");
        }
    }

    #[test]
    fn a_symbol_in_upper_case_is_told() {
        let told = fault("BTCUSDT@trade").unwrap();
        assert_eq!(
            told,
            r#""BTCUSDT@trade" is no stream: symbols in names of streams are in lower case, "btcusdt""#
        );
        assert_eq!(fault("pqia91ma19a5s61cV6A81va65sdf19v8a65a1"), None, "a listen key");
    }
}
