//! Topics by name: `channel:product`, or the channel alone.

use everwire_core::Topic;
use everwire_core::protocol::Unsupported;

/// The channel that keeps all others open.
pub(super) const HEARTBEATS: &str = "heartbeats";

/// The channels whose topics are of one product each.
const OF_PRODUCTS: [&str; 5] = ["level2", "ticker", "ticker_batch", "market_trades", "candles"];

/// All of a product's book, such as `BTC-USD`: a snapshot, then every change. Products in USDC have the data of those in USD: the venue has them
/// under the latter's names.
pub fn level2(product: &str) -> Topic {
    of("level2", product)
}

/// The price, at every trade.
pub fn ticker(product: &str) -> Topic {
    of("ticker", product)
}

/// The price, every 5 s.
pub fn ticker_batch(product: &str) -> Topic {
    of("ticker_batch", product)
}

/// Trades, collected for up to 250 ms.
pub fn market_trades(product: &str) -> Topic {
    of("market_trades", product)
}

/// Candles of 5 minutes, told every second.
pub fn candles(product: &str) -> Topic {
    of("candles", product)
}

/// The state of these products and of currencies; of all products if none is named. All of it is one topic.
pub fn status(products: &[&str]) -> Topic {
    with("status", products)
}

/// The account's orders, of all products. It needs [`Coinbase::jwt`](super::Coinbase::jwt).
pub fn user() -> Topic {
    Topic::new("user")
}

/// The account's orders of these products alone, all as one topic. It needs [`Coinbase::jwt`](super::Coinbase::jwt).
pub fn user_of(products: &[&str]) -> Topic {
    with("user", products)
}

/// The account's futures balance. It needs [`Coinbase::jwt`](super::Coinbase::jwt).
pub fn futures_balance_summary() -> Topic {
    Topic::new("futures_balance_summary")
}

/// Heartbeats, for a program that wants to see them: [`Coinbase::tell_heartbeats`](super::Coinbase::tell_heartbeats). They are subscribed to anyway.
pub fn heartbeats() -> Topic {
    Topic::new(HEARTBEATS)
}

fn of(channel: &str, product: &str) -> Topic {
    Topic::new(format!("{channel}:{product}"))
}

fn with(channel: &str, products: &[&str]) -> Topic {
    let topic = Topic::new(channel);
    if products.is_empty() { topic } else { topic.with_params(serde_json::Value::from(products).to_string()) }
}

pub(super) fn is_of_products(channel: &str) -> bool {
    OF_PRODUCTS.contains(&channel)
}

/// Whether it is the account's own, which needs a token.
pub(super) fn is_private(channel: &str) -> bool {
    matches!(channel, "user" | "futures_balance_summary")
}

/// The channel, and the product if there is one.
pub(super) fn parts(name: &str) -> (&str, Option<&str>) {
    name.split_once(':').map_or((name, None), |(channel, product)| (channel, Some(product)))
}

/// The data of a topic are found by its name: one that no message has would stay silent.
pub(super) fn check(topic: &Topic) -> Result<(), Unsupported> {
    let name = topic.name();
    let wrong = match parts(name) {
        ("l2_data", _) => "that is what its data are called: subscribe to level2",
        (channel, None | Some("")) if is_of_products(channel) => "name the product, such as level2:BTC-USD",
        (_, Some(products)) if products.contains([',', ':']) => "subscribe to each product by itself",
        (channel, Some(_)) if !is_of_products(channel) => {
            "this channel's data are of one topic, without a product: see status, user_of"
        }
        _ => return Ok(()),
    };
    Err(Unsupported { reason: format!("{name:?}: {wrong}") })
}

/// The products that the topic's parameters list.
pub(super) fn listed(topic: &Topic) -> Result<Vec<String>, Unsupported> {
    let Some(params) = topic.params() else { return Ok(Vec::new()) };
    serde_json::from_str(params).map_err(|_| Unsupported {
        reason: format!("{:?}: the parameters of a topic are a JSON list of products", topic.name()),
    })
}
