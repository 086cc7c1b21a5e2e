//! The orders of the account.

use super::{Answer, INVALID_PARAMS, Refused};
use serde_json::{Value, json};

/// The best prices, at which others would trade without end.
pub(super) const BID: f64 = 50_000.0;
pub(super) const ASK: f64 = 50_000.5;
/// What an amount is a multiple of.
const CONTRACT: f64 = 10.0;
const TICK: f64 = 0.5;

#[derive(Debug, Default)]
pub(super) struct Book {
    orders: Vec<Order>,
    /// What changed and was not told: which order, and whether it traded.
    changed: Vec<(usize, bool)>,
}

#[derive(Debug, Clone)]
pub(super) struct Order {
    id: String,
    /// Which connection placed it.
    pub(super) conn: u64,
    pub(super) instrument: String,
    direction: &'static str,
    kind: String,
    label: String,
    price: f64,
    amount: f64,
    filled: f64,
    pub(super) state: &'static str,
    created: u64,
    updated: u64,
    replaced: bool,
    post_only: bool,
    reduce_only: bool,
}

impl Order {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "order_id": self.id, "instrument_name": self.instrument, "direction": self.direction,
            "order_type": self.kind, "order_state": self.state, "label": self.label, "price": self.price,
            "amount": self.amount, "filled_amount": self.filled, "max_show": self.amount,
            "average_price": if self.filled > 0.0 { self.price } else { 0.0 },
            "time_in_force": "good_til_cancelled", "post_only": self.post_only, "reduce_only": self.reduce_only,
            "replaced": self.replaced, "api": true, "web": false, "is_liquidation": false, "is_rebalance": false,
            "creation_timestamp": self.created, "last_update_timestamp": self.updated,
        })
    }

    pub(super) fn trade(&self) -> Value {
        json!({
            "trade_id": format!("t-{}", self.id), "order_id": self.id, "instrument_name": self.instrument,
            "direction": self.direction, "price": self.price, "amount": self.filled, "timestamp": self.updated,
            "liquidity": "T", "fee": 0.0, "fee_currency": "BTC", "label": self.label, "state": self.state,
        })
    }

    /// Whether it trades at once.
    fn crosses(&self) -> bool {
        if self.direction == "buy" { self.price >= ASK } else { self.price <= BID }
    }
}

impl Book {
    pub(super) fn get(&self, id: &str) -> Option<&Order> {
        self.orders.iter().find(|order| order.id == id)
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(|order| order.state == "open")
    }

    /// What changed since this was asked last, and whether it traded.
    pub(super) fn changes(&mut self) -> Vec<(Order, bool)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|(index, traded)| (self.orders[index].clone(), traded)).collect()
    }

    /// Cancels all open orders of this kind, and says how many.
    pub(super) fn cancel_all(&mut self, at: u64, which: impl Fn(&Order) -> bool) -> u64 {
        let mut count = 0;
        for (index, order) in self.orders.iter_mut().enumerate() {
            if order.state == "open" && which(order) {
                (order.state, order.updated) = ("cancelled", at);
                self.changed.push((index, false));
                count += 1;
            }
        }
        count
    }

    /// A private method. `at` is the time of day in milliseconds.
    pub(super) fn call(
        &mut self,
        conn: u64,
        method: &str,
        params: &Value,
        at: u64,
        known: &dyn Fn(&str) -> bool,
    ) -> Answer {
        let text = |name: &str| params[name].as_str().unwrap_or_default();
        match method {
            "private/buy" => self.place(conn, "buy", params, at, known),
            "private/sell" => self.place(conn, "sell", params, at, known),
            "private/edit" => self.edit(params, at),
            "private/cancel" => {
                let index = self.find_open(text("order_id"))?;
                let order = &mut self.orders[index];
                (order.state, order.updated) = ("cancelled", at);
                self.changed.push((index, false));
                Ok(self.orders[index].to_json())
            }
            "private/cancel_all" => Ok(self.cancel_all(at, |_| true).into()),
            "private/cancel_all_by_instrument" => {
                let instrument = instrument(params, known)?;
                Ok(self.cancel_all(at, |order| order.instrument == instrument).into())
            }
            "private/cancel_by_label" => {
                let label = text("label");
                Ok(self.cancel_all(at, |order| order.label == label).into())
            }
            "private/get_open_orders" => Ok(self.open().map(Order::to_json).collect()),
            "private/get_open_orders_by_instrument" => {
                let instrument = instrument(params, known)?;
                Ok(self.open().filter(|order| order.instrument == instrument).map(Order::to_json).collect())
            }
            "private/get_order_state" => {
                self.get(text("order_id")).map(Order::to_json).ok_or((10004, "order_not_found"))
            }
            _ => Err((-32601, "Method not found")),
        }
    }

    fn find_open(&self, id: &str) -> Result<usize, Refused> {
        let index = self.orders.iter().position(|order| order.id == id).ok_or((10004, "order_not_found"))?;
        match self.orders[index].state {
            "open" => Ok(index),
            "filled" => Err((11008, "already_filled")),
            _ => Err((11044, "not_open_order")),
        }
    }

    fn place(
        &mut self,
        conn: u64,
        direction: &'static str,
        params: &Value,
        at: u64,
        known: &dyn Fn(&str) -> bool,
    ) -> Answer {
        let instrument = instrument(params, known)?;
        let amount = amount(&params["amount"])?;
        let kind = params["type"].as_str().unwrap_or("limit");
        let price = match kind {
            "limit" => price(&params["price"])?,
            "market" if direction == "buy" => ASK,
            "market" => BID,
            _ => return Err(INVALID_PARAMS),
        };
        let order = Order {
            id: format!("{}", 1000 + self.orders.len()),
            conn,
            instrument,
            direction,
            kind: kind.to_owned(),
            label: params["label"].as_str().unwrap_or_default().to_owned(),
            price,
            amount,
            filled: 0.0,
            state: "open",
            created: at,
            updated: at,
            replaced: false,
            post_only: params["post_only"] == true,
            reduce_only: params["reduce_only"] == true,
        };
        if order.post_only && order.crosses() && params["reject_post_only"] == true {
            return Err((11054, "post_only_reject"));
        }
        self.orders.push(order);
        Ok(self.settle(self.orders.len() - 1))
    }

    fn edit(&mut self, params: &Value, at: u64) -> Answer {
        let index = self.find_open(params["order_id"].as_str().unwrap_or_default())?;
        let (amount, price) = (amount(&params["amount"])?, price(&params["price"])?);
        let order = &mut self.orders[index];
        (order.amount, order.price, order.updated, order.replaced) = (amount, price, at, true);
        Ok(self.settle(index))
    }

    /// Trades it if it does, and gives what is answered.
    fn settle(&mut self, index: usize) -> Value {
        let order = &mut self.orders[index];
        let trades = order.crosses() && !order.post_only;
        if trades {
            (order.state, order.filled) = ("filled", order.amount);
        } else if order.crosses() {
            // Beside the best price of the other side.
            order.price = if order.direction == "buy" { ASK - TICK } else { BID + TICK };
        }
        self.changed.push((index, trades));
        let order = &self.orders[index];
        let list: Vec<Value> = trades.then(|| order.trade()).into_iter().collect();
        json!({"order": order.to_json(), "trades": list})
    }
}

fn instrument(params: &Value, known: &dyn Fn(&str) -> bool) -> Result<String, Refused> {
    let name = params["instrument_name"].as_str().ok_or(INVALID_PARAMS)?;
    if known(name) { Ok(name.to_owned()) } else { Err((10020, "invalid_or_unsupported_instrument")) }
}

fn amount(value: &Value) -> Result<f64, Refused> {
    let amount = value.as_f64().filter(|amount| *amount > 0.0 && amount % CONTRACT == 0.0);
    amount.ok_or((10021, "invalid_amount"))
}

fn price(value: &Value) -> Result<f64, Refused> {
    let price = value.as_f64().filter(|price| *price > 0.0).ok_or((10023, "invalid_price"))?;
    if price % TICK == 0.0 { Ok(price) } else { Err((10043, "price_wrong_tick")) }
}
