//! Names of topics. A name that is not here is a [`Topic::new`].

use super::Category;
use everwire_core::Topic;

/// The order book of a symbol, so many levels deep: 1, 50, 200 or 1000 (options: 25 or 100). After a snapshot come changes; depth 1 brings
/// snapshots only.
pub fn orderbook(depth: u32, symbol: &str) -> Topic {
    Topic::new(format!("orderbook.{depth}.{symbol}"))
}

/// Trades of a symbol; of options, of a coin such as `BTC`.
pub fn trades(symbol: &str) -> Topic {
    Topic::new(format!("publicTrade.{symbol}"))
}

/// Best prices, the last one, statistics.
pub fn tickers(symbol: &str) -> Topic {
    Topic::new(format!("tickers.{symbol}"))
}

/// Candles of this interval: minutes (`1`, `5`, `60`, ...), or `D`, `W`, `M`.
pub fn kline(interval: &str, symbol: &str) -> Topic {
    Topic::new(format!("kline.{interval}.{symbol}"))
}

/// All liquidations of a symbol.
pub fn liquidations(symbol: &str) -> Topic {
    Topic::new(format!("allLiquidation.{symbol}"))
}

/// Orders of ours: of one category, or of all.
pub fn orders(category: impl Into<Option<Category>>) -> Topic {
    of("order", category.into())
}

/// Executions of ours: of one category, or of all.
pub fn executions(category: impl Into<Option<Category>>) -> Topic {
    of("execution", category.into())
}

/// Positions of ours: of one category, or of all.
pub fn positions(category: impl Into<Option<Category>>) -> Topic {
    of("position", category.into())
}

/// The wallet.
pub fn wallet() -> Topic {
    Topic::new("wallet")
}

fn of(name: &str, category: Option<Category>) -> Topic {
    match category {
        Some(category) => Topic::new(format!("{name}.{}", category.as_str())),
        None => Topic::new(name),
    }
}
