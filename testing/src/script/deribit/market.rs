//! Channels, and what is pushed on them.

use super::orders::{ASK, BID, Order};
use super::{Answer, Deribit};
use crate::script::Replies;
use crate::script::kit::Tick;
use serde_json::{Value, json};
use std::time::Duration;

/// What a channel's name says.
#[derive(Debug, PartialEq, Eq)]
enum Channel<'c> {
    Book {
        instrument: &'c str,
    },
    Depth {
        instrument: &'c str,
    },
    Trades {
        instrument: &'c str,
    },
    Ticker {
        instrument: &'c str,
    },
    Quote {
        instrument: &'c str,
    },
    Index,
    Platform,
    /// Orders, trades or changes, of what, and how often.
    User {
        what: &'c str,
        of: Of<'c>,
        interval: &'c str,
    },
    Portfolio,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of<'c> {
    Instrument(&'c str),
    Kind(&'c str, &'c str),
}

impl Of<'_> {
    fn has(self, instrument: &str) -> bool {
        match self {
            Self::Instrument(name) => name == instrument,
            Self::Kind(kind, currency) => {
                ["any", "future"].contains(&kind)
                    && (currency == "any" || instrument.starts_with(&format!("{currency}-")))
            }
        }
    }
}

fn is_interval(part: &str) -> bool {
    ["raw", "100ms", "agg2"].contains(&part)
}

impl Deribit {
    fn channel<'c>(&self, name: &'c str) -> Option<Channel<'c>> {
        let parts: Vec<&'c str> = name.split('.').collect();
        let known = |name: &str| self.instruments.iter().any(|known| known == name);
        let kinds = ["future", "option", "spot", "any"];
        match *parts {
            ["book", instrument, every] if known(instrument) && is_interval(every) => {
                Some(Channel::Book { instrument })
            }
            ["book", instrument, _, "1" | "10" | "20", every] if known(instrument) && is_interval(every) => {
                Some(Channel::Depth { instrument })
            }
            ["trades", instrument, every] if known(instrument) && is_interval(every) => {
                Some(Channel::Trades { instrument })
            }
            ["ticker", instrument, every] if known(instrument) && is_interval(every) => {
                Some(Channel::Ticker { instrument })
            }
            ["quote", instrument] if known(instrument) => Some(Channel::Quote { instrument }),
            ["deribit_price_index", "btc_usd" | "eth_usd"] => Some(Channel::Index),
            ["platform_state"] => Some(Channel::Platform),
            ["user", what @ ("orders" | "trades" | "changes"), instrument, interval]
                if known(instrument) && is_interval(interval) =>
            {
                Some(Channel::User { what, of: Of::Instrument(instrument), interval })
            }
            ["user", what @ ("orders" | "trades" | "changes"), kind, currency, interval]
                if kinds.contains(&kind) && is_interval(interval) =>
            {
                Some(Channel::User { what, of: Of::Kind(kind, currency), interval })
            }
            ["user", "portfolio", _] => Some(Channel::Portfolio),
            _ => None,
        }
    }

    pub(super) fn subscribe(
        &mut self,
        conn: u64,
        channels: &[String],
        private: bool,
        out: &mut Replies,
    ) -> Answer {
        let mut subscribed = Vec::new();
        for name in channels {
            let raw = name.ends_with(".raw") && !name.starts_with("user.");
            if raw && !private && self.channel(name).is_some() {
                out.punish(conn, format!("{name} without authentication"));
                return Err((13778, "raw_subscriptions_not_available_for_unauthorized"));
            }
            let mine = name.starts_with("user.");
            if mine && !private {
                out.punish(conn, format!("{name} by public/subscribe"));
            } else if self.channel(name).is_some() {
                self.channels.subscribe(conn, name.as_str());
                subscribed.push(Value::from(name.as_str()));
            }
        }
        Ok(subscribed.into())
    }

    pub(super) fn unsubscribe(&mut self, conn: u64, channel: &str) -> bool {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.changes.remove(channel);
        }
        self.channels.unsubscribe(conn, channel)
    }

    /// The number of an instrument's newest change. They are the exchange's, so that an instrument's have holes.
    fn change_id(&self, instrument: &str) -> u64 {
        297_000 + self.ticker.number(instrument) * 3
    }

    /// What comes first on channels that begin.
    pub(super) fn snapshots(&mut self, conn: u64, now: Duration, out: &mut Replies) {
        let names: Vec<String> = self.channels.of(conn).map(str::to_owned).collect();
        for name in names {
            let Some(Channel::Book { instrument }) = self.channel(&name) else { continue };
            let id = self.change_id(instrument);
            let quiet = self.quiet.contains(&name);
            let at = self.wall.millis(now);
            let Some(open) = self.conns.get_mut(&conn) else { return };
            if quiet || open.changes.contains_key(&name) {
                continue;
            }
            let data = json!({"type": "snapshot", "timestamp": at, "instrument_name": instrument, "change_id": id,
                "bids": [["new", BID, 10.0], ["new", BID - 0.5, 20.0]], "asks": [["new", ASK, 10.0], ["new", ASK + 0.5, 20.0]]});
            open.changes.insert(name.clone(), id);
            out.json(conn, &notification(&name, data));
        }
    }

    /// Something happened in an instrument.
    pub(super) fn tick(&mut self, tick: &Tick, out: &mut Replies) {
        let at = self.wall.millis(tick.at);
        // What happened by then counts, not what happened since.
        let (number, id) = (tick.number, 297_000 + tick.number * 3);
        let skips = std::mem::take(&mut self.skips);
        let mut lost = Vec::new();
        let listeners: Vec<(u64, String)> = {
            let of =
                |conn: &u64| self.channels.of(*conn).map(|name| (*conn, name.to_owned())).collect::<Vec<_>>();
            self.conns.keys().flat_map(of).collect()
        };
        for (conn, name) in listeners {
            if self.quiet.contains(&name) {
                continue;
            }
            let data = match self.channel(&name) {
                Some(Channel::Book { instrument }) if instrument == tick.topic => {
                    let Some(last) = self.conns.get_mut(&conn).and_then(|open| open.changes.get_mut(&name))
                    else {
                        continue;
                    };
                    // It is in the snapshot.
                    if id <= *last {
                        continue;
                    }
                    let previous = std::mem::replace(last, id);
                    if skips.contains(&name) {
                        lost.push(name);
                        continue;
                    }
                    let amount = (number % 9 + 1) * 10;
                    json!({"type": "change", "timestamp": at, "instrument_name": instrument, "prev_change_id": previous,
                        "change_id": id, "bids": [["change", BID - 0.5, amount]], "asks": []})
                }
                Some(Channel::Depth { instrument }) if instrument == tick.topic => {
                    json!({"timestamp": at, "instrument_name": instrument, "change_id": id,
                        "bids": [[BID, 10.0]], "asks": [[ASK, 10.0]]})
                }
                Some(Channel::Trades { instrument }) if instrument == tick.topic => {
                    json!([{"trade_seq": number, "trade_id": format!("{number}"), "timestamp": at, "price": ASK,
                        "amount": 10.0, "direction": "buy", "instrument_name": instrument, "tick_direction": 1,
                        "index_price": BID, "mark_price": BID}])
                }
                Some(Channel::Ticker { instrument }) if instrument == tick.topic => {
                    json!({"timestamp": at, "instrument_name": instrument, "best_bid_price": BID, "best_ask_price": ASK,
                        "best_bid_amount": 10.0, "best_ask_amount": 10.0, "last_price": ASK, "mark_price": BID,
                        "state": "open"})
                }
                Some(Channel::Quote { instrument }) if instrument == tick.topic => {
                    json!({"timestamp": at, "instrument_name": instrument, "best_bid_price": BID, "best_ask_price": ASK,
                        "best_bid_amount": 10.0, "best_ask_amount": 10.0})
                }
                Some(Channel::Index) if tick.topic == self.instruments[0] => {
                    json!({"timestamp": at, "price": BID, "index_name": name.trim_start_matches("deribit_price_index.")})
                }
                _ => continue,
            };
            out.json(conn, &notification(&name, data));
        }
        self.skips.extend(skips.into_iter().filter(|name| !lost.contains(name)));
    }

    /// Tells what became of orders.
    pub(super) fn tell_orders(&mut self, now: Duration, out: &mut Replies) {
        let at = self.wall.millis(now);
        for (order, traded) in self.book.changes() {
            for &conn in self.conns.keys() {
                for name in self.channels.of(conn) {
                    if let Some(Channel::User { what, of, interval }) = self.channel(name)
                        && of.has(&order.instrument)
                        && !self.quiet.contains(name)
                        && let Some(data) = of_user(what, interval, &order, traded, at)
                    {
                        out.json(conn, &notification(name, data));
                    }
                }
            }
        }
    }
}

fn of_user(what: &str, interval: &str, order: &Order, traded: bool, at: u64) -> Option<Value> {
    let trades: Vec<Value> = traded.then(|| order.trade()).into_iter().collect();
    match what {
        "orders" if interval == "raw" => Some(order.to_json()),
        "orders" => Some(json!([order.to_json()])),
        "trades" => traded.then(|| trades.into()),
        _ => Some(json!({"instrument_name": order.instrument, "orders": [order.to_json()], "trades": trades,
            "positions": [], "timestamp": at})),
    }
}

fn notification(channel: &str, data: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}})
}
