//! What topics say.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Which channels there are: spot or futures, whether a symbol follows, whether it is the account's own.
const CHANNELS: [(&str, bool, Market, bool); 19] = [
    ("/market/ticker", true, Market::Spot, false),
    ("/market/snapshot", true, Market::Spot, false),
    ("/spotMarket/level1", true, Market::Spot, false),
    ("/spotMarket/level2Depth5", true, Market::Spot, false),
    ("/spotMarket/level2Depth50", true, Market::Spot, false),
    ("/market/level2", true, Market::Spot, false),
    ("/market/match", true, Market::Spot, false),
    ("/market/candles", true, Market::Spot, false),
    ("/spotMarket/tradeOrdersV2", false, Market::Spot, true),
    ("/account/balance", false, Market::Spot, true),
    ("/contractMarket/tickerV2", true, Market::Futures, false),
    ("/contractMarket/level2", true, Market::Futures, false),
    ("/contractMarket/level2Depth5", true, Market::Futures, false),
    ("/contractMarket/level2Depth50", true, Market::Futures, false),
    ("/contractMarket/execution", true, Market::Futures, false),
    ("/contract/instrument", true, Market::Futures, false),
    ("/contractMarket/tradeOrders", false, Market::Futures, true),
    ("/contractAccount/wallet", false, Market::Futures, true),
    ("/contract/position", true, Market::Futures, true),
];

/// What is traded: tokens of one are none of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Market {
    /// Spot and margin: symbols such as `BTC-USDT`.
    #[default]
    Spot,
    /// Futures: symbols such as `XBTUSDTM`.
    Futures,
}

/// Whether the channel is the account's own; `None` if there is none of that name, or not with (or without) symbols.
pub(super) fn channel(path: &str, symbols: bool, market: Market) -> Option<bool> {
    let known = |(name, with, of, _): &&(&str, bool, Market, bool)| {
        *name == path && *with == symbols && *of == market
    };
    CHANNELS.iter().find(known).map(|(_, _, _, private)| *private)
}

/// Whether anything is ever said of a symbol. One that does not exist is confirmed like any other.
pub(super) fn exists(symbol: &str, market: Market) -> bool {
    let name = symbol.split('_').next().unwrap_or_default();
    symbol == "all"
        || match market {
            Market::Spot => !name.contains("NOPE"),
            Market::Futures => name.ends_with('M') && !name.contains("NOPE"),
        }
}

/// The books' numbers, and how many messages each topic has had.
#[derive(Debug, Default)]
pub(super) struct Feed {
    count: BTreeMap<String, u64>,
    /// Numbers that the next message of a topic leaves out.
    skips: BTreeMap<String, u64>,
}

impl Feed {
    /// How much the numbers of a book are ahead of how many messages it had.
    const FIRST: u64 = 14_701_689_783;

    pub(super) fn skip(&mut self, topic: &str, numbers: u64) {
        *self.skips.entry(topic.to_owned()).or_default() += numbers;
    }

    /// The next message of a topic.
    pub(super) fn next(&mut self, topic: &str, private: bool, ms: u64) -> Value {
        let skipped = self.skips.remove(topic).unwrap_or_default();
        let count = self.count.entry(topic.to_owned()).or_default();
        let (path, symbol) = topic.split_once(':').unwrap_or((topic, ""));
        let first = Self::FIRST + *count + skipped + 1;
        // A message of a spot book stands for one to three numbers.
        let last = if path == "/market/level2" { first + first % 3 } else { first };
        *count = last - Self::FIRST;
        let price = format!("{}.{}", 60_000 + last % 500, last % 10);
        let (subject, data) = match path {
            "/market/level2" => (
                "trade.l2update",
                json!({
                    "changes": {"asks": [[price, "0.5", last.to_string()]], "bids": []},
                    "sequenceEnd": last, "sequenceStart": first, "symbol": symbol, "time": ms,
                }),
            ),
            "/contractMarket/level2" => {
                ("level2", json!({"sequence": last, "change": format!("{price},sell,2"), "timestamp": ms}))
            }
            "/market/ticker" => (
                if symbol == "all" { "KCS-BTC" } else { "trade.ticker" },
                json!({"sequence": last.to_string(), "price": price, "size": "0.1", "bestAsk": price, "time": ms}),
            ),
            "/market/match" => (
                "trade.l3match",
                json!({"sequence": last.to_string(), "symbol": symbol, "price": price, "size": "0.1", "side": "buy",
                    "time": (ms * 1_000_000).to_string(), "type": "match"}),
            ),
            "/market/candles" => (
                "trade.candles.update",
                json!({"symbol": symbol, "candles": ["1729839600", price], "time": ms * 1_000_000}),
            ),
            _ => ("update", json!({"price": price, "timestamp": ms})),
        };
        let mut message = json!({"topic": topic, "type": "message", "subject": subject, "data": data});
        if path.starts_with("/contractMarket/") {
            message["sn"] = json!(last);
        }
        if private {
            message["userId"] = json!("633559791e1cbc0001f319bc");
            message["channelType"] = json!("private");
        }
        message
    }
}
