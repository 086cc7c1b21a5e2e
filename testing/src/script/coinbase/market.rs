//! What channels say.

use serde_json::{Value, json};

/// Channels of products, and how their events name the products.
pub(super) const OF_PRODUCTS: [&str; 5] = ["level2", "ticker", "ticker_batch", "market_trades", "candles"];
/// The account's own.
pub(super) const PRIVATE: [&str; 2] = ["user", "futures_balance_summary"];

pub(super) fn exists(channel: &str) -> bool {
    OF_PRODUCTS.contains(&channel) || PRIVATE.contains(&channel) || matches!(channel, "status" | "heartbeats")
}

/// What the data of a channel are called.
pub(super) fn called(channel: &str) -> &str {
    if channel == "level2" { "l2_data" } else { channel }
}

/// The events of a message: what happened as the `number`th in a topic, or how things stand after that.
pub(super) fn events(channel: &str, product: &str, number: u64, snapshot: bool, at: &str) -> Value {
    let kind = if snapshot { "snapshot" } else { "update" };
    let price = format!("{}.{:02}", 60_000 + number % 1000, number % 100);
    let number = number.to_string();
    let event = match channel {
        "level2" => json!({"type": kind, "product_id": product, "updates": [
            {"side": "bid", "event_time": at, "price_level": price, "new_quantity": number},
            {"side": "offer", "event_time": at, "price_level": "70000", "new_quantity": "0.5"},
        ]}),
        "ticker" | "ticker_batch" => json!({"type": kind, "tickers": [
            {"type": "ticker", "product_id": product, "price": price, "volume_24_h": number},
        ]}),
        "market_trades" => json!({"type": kind, "trades": [
            {"product_id": product, "trade_id": number, "price": price, "size": "0.1", "time": at, "side": "BUY"},
        ]}),
        "candles" => json!({"type": kind, "candles": [
            {"start": "1775521800", "high": price, "low": price, "open": price, "close": price, "volume": number,
                "product_id": product},
        ]}),
        "status" => json!({"type": kind, "products": [
            {"product_type": "SPOT", "id": "BTC-USD", "status": "online"},
            {"product_type": "SPOT", "id": "ETH-USD", "status": "online", "status_message": number},
        ]}),
        "user" => json!({"type": kind, "orders": [
            {"order_id": "a1b2", "cumulative_quantity": number, "product_id": "BTC-USD", "status": "OPEN"},
        ], "positions": {"perpetual_futures_positions": [], "expiring_futures_positions": []}}),
        _ => json!({"type": kind, "fcm_balance_summary": {"total_usd_balance": number}}),
    };
    json!([event])
}
