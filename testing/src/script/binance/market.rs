//! What happens in Binance's markets, as its streams tell it.

use super::Kind;
use crate::script::kit::{Tick, Wall};
use serde_json::{Value, json};

/// The number with which the event `n` of a row of changes of a book ends. On spot the numbers have no holes,
/// on futures they have.
pub(super) fn last_update_id(kind: Kind, n: u64) -> u64 {
    match kind {
        Kind::Spot => 1000 + 3 * n + n % 2,
        Kind::UsdFutures | Kind::CoinFutures => 1000 + 10 * n + n % 3,
    }
}

/// What a stream tells of something that happened.
pub(super) fn payload(kind: Kind, tick: &Tick, wall: Wall, micros: bool) -> Value {
    let time = if micros { wall.micros(tick.at) } else { wall.millis(tick.at) };
    let (symbol, what) = tick.topic.split_once('@').unwrap_or(("", &tick.topic));
    let (symbol, n) = (symbol.to_uppercase(), tick.number);
    let price = format!("{}.50", 60_000 + n % 100);
    let name = what.split(['@', '_']).next().unwrap_or_default();
    match name {
        "depth" | "rpiDepth" => {
            let (before, last) = (last_update_id(kind, n.saturating_sub(1)), last_update_id(kind, n));
            let mut event = json!({
                "e": "depthUpdate", "E": time, "s": symbol, "U": before + 1, "u": last,
                "b": [[price, format!("{}.0", n % 7)]], "a": [],
            });
            if kind != Kind::Spot {
                event["U"] = json!(last - 2);
                event["pu"] = json!(before);
                event["T"] = json!(time);
            }
            event
        }
        _ if name.starts_with("depth") && kind == Kind::Spot => {
            json!({"lastUpdateId": last_update_id(kind, n), "bids": [[price, "1.0"]], "asks": []})
        }
        _ if name.starts_with("depth") => json!({
            "e": "depthUpdate", "E": time, "T": time, "s": symbol, "U": n, "u": n, "pu": n - 1, "b": [[price, "1.0"]], "a": [],
        }),
        "trade" => json!({
            "e": "trade", "E": time, "s": symbol, "t": n, "p": price, "q": "0.1", "T": time, "m": n.is_multiple_of(2), "M": true,
        }),
        "aggTrade" => json!({
            "e": "aggTrade", "E": time, "s": symbol, "a": n, "p": price, "q": "0.1", "f": n, "l": n, "T": time, "m": false,
        }),
        "bookTicker" if kind == Kind::Spot => {
            json!({"u": n, "s": symbol, "b": price, "B": "1.0", "a": "70000.0", "A": "1.0"})
        }
        _ if symbol.is_empty() || symbol.starts_with('!') => {
            json!([{"e": "24hrMiniTicker", "E": time, "s": "BTCUSDT", "c": price}])
        }
        name => json!({"e": name, "E": time, "s": symbol, "n": n, "c": price}),
    }
}

/// The book of a symbol, as REST and the WebSocket API give it.
pub(super) fn snapshot(kind: Kind, n: u64) -> Value {
    json!({"lastUpdateId": last_update_id(kind, n), "bids": [["60000.50", "1.0"]], "asks": [["70000.0", "1.0"]]})
}
