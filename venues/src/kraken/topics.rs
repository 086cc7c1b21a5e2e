//! Topics by name. Any other: [`topic`].

use everwire_core::Topic;

/// A topic: a channel, the symbol if the channel has symbols, and what is said of the subscription besides, as a JSON object such as
/// `{"event_trigger":"bbo"}` (empty: nothing).
pub fn topic(channel: &str, symbol: Option<&str>, params: &str) -> Topic {
    let topic = Topic::new(symbol.map_or_else(|| channel.to_owned(), |symbol| format!("{channel}:{symbol}")));
    if params.is_empty() { topic } else { topic.with_params(params) }
}

/// How many levels of each side of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Ten, which is what the checksum covers.
    #[default]
    Ten,
    /// 25.
    TwentyFive,
    /// 100.
    Hundred,
    /// 500.
    FiveHundred,
    /// 1000.
    Thousand,
}

impl Depth {
    /// In numbers.
    pub fn levels(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::TwentyFive => 25,
            Self::Hundred => 100,
            Self::FiveHundred => 500,
            Self::Thousand => 1000,
        }
    }
}

/// A book: a snapshot, then changes, each with a checksum, which is watched. A symbol, such as `BTC/USD`, has one depth on a connection.
pub fn book(symbol: &str, depth: Depth) -> Topic {
    topic("book", Some(symbol), &format!(r#"{{"depth":{}}}"#, depth.levels()))
}

/// Best prices and statistics, at each trade.
pub fn ticker(symbol: &str) -> Topic {
    topic("ticker", Some(symbol), "")
}

/// Every trade.
pub fn trades(symbol: &str) -> Topic {
    topic("trade", Some(symbol), "")
}

/// Candles of so many minutes: 1, 5, 15, 30, 60, 240, 1440, 10080 or 21600. The interval is a part of the name, such as `ohlc:BTC/USD:5`.
pub fn ohlc(symbol: &str, minutes: u32) -> Topic {
    topic("ohlc", Some(&format!("{symbol}:{minutes}")), &format!(r#"{{"interval":{minutes}}}"#))
}

/// All assets and pairs.
pub fn instruments() -> Topic {
    topic("instrument", None, "")
}

/// Orders of the account, and what becomes of them. It needs a token.
pub fn executions() -> Topic {
    topic("executions", None, "")
}

/// Balances of the account. It needs a token.
pub fn balances() -> Topic {
    topic("balances", None, "")
}

/// Whether a channel is one of the private interface, which wants a token.
pub(super) fn is_private(channel: &str) -> bool {
    matches!(channel, "executions" | "balances" | "level3")
}

/// The parts of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) channel: &'a str,
    pub(super) symbol: Option<&'a str>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        let Some((channel, rest)) = name.split_once(':') else { return Self { channel: name, symbol: None } };
        let symbol = match rest.rsplit_once(':') {
            Some((symbol, _)) if channel == "ohlc" => symbol,
            _ => rest,
        };
        Self { channel, symbol: Some(symbol) }
    }
}
