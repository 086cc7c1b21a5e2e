//! Names of topics.

use super::{At, OPTIONS, SYMBOLS};

/// Depth and symbol of a book's topic.
pub(super) fn book(topic: &str) -> Option<(&str, &str)> {
    topic.strip_prefix("orderbook.")?.split_once('.')
}

pub(super) fn is_categorised(topic: &str) -> bool {
    ["order.", "execution.", "position."].iter().any(|name| topic.starts_with(name))
}

/// Whether there is such a topic at this endpoint.
pub(super) fn is_topic(at: At, topic: &str) -> bool {
    let symbols: &[&str] = if at == At::Option { &OPTIONS } else { &SYMBOLS };
    let parts: Vec<&str> = topic.splitn(3, '.').collect();
    match (at, &*parts) {
        (At::Private, ["order" | "execution" | "position" | "wallet" | "greeks"]) => true,
        (At::Private, ["order" | "execution" | "position", "spot" | "linear" | "inverse" | "option"]) => true,
        (At::Private, ["dcp", "future" | "spot" | "option"]) => true,
        (At::Private | At::Trade, _) => false,
        (At::Option, ["orderbook", "25" | "100", symbol]) => symbols.contains(symbol),
        (At::Option, ["publicTrade", coin]) => *coin == "BTC",
        (_, ["orderbook", "1" | "50" | "200" | "1000", symbol]) => symbols.contains(symbol),
        (_, ["publicTrade" | "tickers" | "allLiquidation", symbol]) => symbols.contains(symbol),
        (_, ["kline", _, symbol]) => symbols.contains(symbol),
        _ => false,
    }
}
