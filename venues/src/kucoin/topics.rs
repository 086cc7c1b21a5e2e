//! Topics by name. Any other: [`public`] and [`private`].

use everwire_core::Topic;

/// What marks a private topic.
pub(super) const PRIVATE: &str = "private";

/// A public topic by its name, such as `/indicator/markPrice:USDT-BTC`: one channel and at most one symbol.
pub fn public(name: impl Into<String>) -> Topic {
    Topic::new(name)
}

/// A private topic by its name. Its messages are those of the account alone (`privateChannel`), and it needs a token of
/// [`BULLET_PRIVATE`](super::BULLET_PRIVATE).
pub fn private(name: impl Into<String>) -> Topic {
    Topic::new(name).with_params(PRIVATE)
}

/// Best prices and the last trade of a symbol, such as `BTC-USDT`, every 100 ms.
pub fn ticker(symbol: &str) -> Topic {
    public(format!("/market/ticker:{symbol}"))
}

/// Those of all symbols. The symbol is the message's `subject`.
pub fn all_tickers() -> Topic {
    ticker(ALL)
}

/// Stands for all symbols of a channel. It stands alone: a list with it in it is refused (Kucoin/kucoin-universal-sdk#25).
pub(super) const ALL: &str = "all";

/// Statistics of a symbol (`BTC-USDT`) or of a market (`BTC`), every 2 s.
pub fn snapshot(symbol: &str) -> Topic {
    public(format!("/market/snapshot:{symbol}"))
}

/// Best bid and ask.
pub fn level1(symbol: &str) -> Topic {
    public(format!("/spotMarket/level1:{symbol}"))
}

/// The five best on each side, every 100 ms. Each message replaces the one before.
pub fn depth5(symbol: &str) -> Topic {
    public(format!("/spotMarket/level2Depth5:{symbol}"))
}

/// The fifty best on each side, every 100 ms. Each message replaces the one before.
pub fn depth50(symbol: &str) -> Topic {
    public(format!("/spotMarket/level2Depth50:{symbol}"))
}

/// Every change of a book, with numbers that follow on each other. The book itself comes from the REST interface: take it after
/// `Subscribed`, drop changes up to its `sequence`, and take it anew after the next `Subscribed` that follows a gap.
pub fn level2(symbol: &str) -> Topic {
    public(format!("/market/level2:{symbol}"))
}

/// Every trade.
pub fn matches(symbol: &str) -> Topic {
    public(format!("/market/match:{symbol}"))
}

/// Candles; the interval is one of `1min`, `3min`, `15min`, `30min`, `1hour`, `2hour`, `4hour`, `6hour`, `8hour`, `12hour`, `1day`, `1week`.
pub fn candles(symbol: &str, interval: &str) -> Topic {
    public(format!("/market/candles:{symbol}_{interval}"))
}

/// Orders of the account.
pub fn orders() -> Topic {
    private("/spotMarket/tradeOrdersV2")
}

/// Balances of the account.
pub fn balances() -> Topic {
    private("/account/balance")
}

/// Topics of futures. They need tokens of [`FUTURES`](super::FUTURES).
pub mod futures {
    use super::{private, public};
    use everwire_core::Topic;

    /// Best bid and ask of a contract, such as `XBTUSDTM`.
    pub fn ticker(contract: &str) -> Topic {
        public(format!("/contractMarket/tickerV2:{contract}"))
    }

    /// Every change of a book, numbered one by one. The book itself comes from the REST interface, as for [`level2`](super::level2).
    pub fn level2(contract: &str) -> Topic {
        public(format!("/contractMarket/level2:{contract}"))
    }

    /// The five best on each side, every 100 ms.
    pub fn depth5(contract: &str) -> Topic {
        public(format!("/contractMarket/level2Depth5:{contract}"))
    }

    /// The fifty best on each side, every 100 ms.
    pub fn depth50(contract: &str) -> Topic {
        public(format!("/contractMarket/level2Depth50:{contract}"))
    }

    /// Every trade.
    pub fn matches(contract: &str) -> Topic {
        public(format!("/contractMarket/execution:{contract}"))
    }

    /// Mark price and funding rate.
    pub fn instrument(contract: &str) -> Topic {
        public(format!("/contract/instrument:{contract}"))
    }

    /// Orders of the account.
    pub fn orders() -> Topic {
        private("/contractMarket/tradeOrders")
    }

    /// Balances of the account.
    pub fn balances() -> Topic {
        private("/contractAccount/wallet")
    }

    /// The position in one contract.
    pub fn position(contract: &str) -> Topic {
        private(format!("/contract/position:{contract}"))
    }
}

/// The channel and the symbol of a name, if it has one.
pub(super) fn parts(name: &str) -> (&str, Option<&str>) {
    name.split_once(':').map_or((name, None), |(channel, symbol)| (channel, Some(symbol)))
}

pub(super) fn is_private(topic: &Topic) -> bool {
    topic.params() == Some(PRIVATE)
}
