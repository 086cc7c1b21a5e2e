//! The account: its key, and its orders.

use crate::script::kit::{self, Window};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeSet;
use std::time::Duration;

/// The best prices, at which others would trade without end.
const BID: f64 = 16_493.5;
const ASK: f64 = 16_611.0;

#[derive(Debug)]
pub(super) struct Account {
    key: String,
    secret: String,
    orders: Vec<Value>,
    /// What changed and was not told.
    changed: Vec<Value>,
    ids: BTreeSet<String>,
    rate: Window,
}

/// Why an order is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: i64,
    pub(super) message: &'static str,
    /// It is a fault that no client should have.
    pub(super) punished: bool,
    /// The network may be the cause.
    pub(super) timing: bool,
}

impl Refused {
    /// No fault of the client's.
    pub(super) fn new(code: i64, message: &'static str) -> Self {
        Self { code, message, punished: false, timing: false }
    }
}

fn refused(code: i64, message: &'static str) -> Refused {
    Refused::new(code, message)
}

impl Account {
    pub(super) fn new(key: &str, secret: &str) -> Self {
        Self {
            key: key.to_owned(),
            secret: secret.to_owned(),
            orders: Vec::new(),
            changed: Vec::new(),
            ids: BTreeSet::new(),
            rate: Window::new(10, Duration::from_secs(1)),
        }
    }

    pub(super) fn order_state(&self, id: &str) -> &str {
        self.orders
            .iter()
            .find(|order| order["orderId"] == id)
            .map_or("", |order| kit::at(order, "orderStatus"))
    }

    pub(super) fn changes(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.changed)
    }

    /// Whether the arguments of `auth` prove who it is, at this time of day in milliseconds.
    pub(super) fn judge(&self, args: &Value, wall: u64) -> Result<(), (i64, &'static str)> {
        let (Some(key), Some(expires), Some(signature)) =
            (args[0].as_str(), args[1].as_u64(), args[2].as_str())
        else {
            return Err((10001, "Params Error"));
        };
        if key != self.key {
            return Err((10003, "API key is invalid."));
        }
        if expires <= wall {
            return Err((10001, "Params Error: expired"));
        }
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else {
            return Err((10004, "error sign"));
        };
        mac.update(format!("GET/realtime{expires}").as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        if hex == signature { Ok(()) } else { Err((10004, "error sign")) }
    }

    /// An operation of the endpoint of orders.
    pub(super) fn call(
        &mut self,
        op: &str,
        request: &Value,
        id: &Value,
        authenticated: bool,
        wall: u64,
        now: Duration,
    ) -> Result<Value, Refused> {
        if !authenticated {
            return Err(Refused { punished: true, ..refused(10007, "User authentication failed.") });
        }
        if let Some(id) = id.as_str()
            && (id.len() > 36 || !self.ids.insert(id.to_owned()))
        {
            return Err(Refused { punished: true, ..refused(20006, "reqId is duplicated") });
        }
        let number = |path: &str| request["header"][path].as_str().and_then(|text| text.parse::<u64>().ok());
        let window = number("X-BAPI-RECV-WINDOW").unwrap_or(5000);
        let Some(at) = number("X-BAPI-TIMESTAMP") else {
            return Err(Refused { punished: true, ..refused(10001, "X-BAPI-TIMESTAMP is missing") });
        };
        if at.saturating_add(window) < wall || at >= wall + 1000 {
            return Err(Refused {
                timing: true,
                ..refused(10002, "The request time exceeds the time window range.")
            });
        }
        if self.rate.exceeds(1, now) {
            return Err(Refused { timing: true, ..refused(10429, "System level frequency protection") });
        }
        let args = request["args"].as_array().filter(|args| args.len() == 1);
        let Some(order) = args.map(|args| &args[0]) else {
            return Err(Refused { punished: true, ..refused(10001, "args must be one order") });
        };
        if !["spot", "linear", "inverse", "option"].contains(&kit::at(order, "category")) {
            return Err(refused(10404, "category is not correct"));
        }
        match op {
            "order.create" => self.create(order, wall),
            "order.amend" => self.change(order, wall, |known, change| {
                for name in ["qty", "price"] {
                    if change[name].is_string() {
                        known[name] = change[name].clone();
                    }
                }
            }),
            "order.cancel" => self.change(order, wall, |known, _| known["orderStatus"] = "Cancelled".into()),
            _ => Err(refused(10404, "op type is not found")),
        }
    }

    fn create(&mut self, order: &Value, wall: u64) -> Result<Value, Refused> {
        let text = |name: &str| kit::at(order, name).to_owned();
        if !super::SYMBOLS.contains(&kit::at(order, "symbol")) {
            return Err(refused(10001, "params error: symbol invalid"));
        }
        let link = text("orderLinkId");
        if !link.is_empty() && self.orders.iter().any(|known| known["orderLinkId"] == link.as_str()) {
            return Err(refused(110_072, "OrderLinkedID is duplicate"));
        }
        let amount: f64 = text("qty").parse().unwrap_or(0.0);
        if amount <= 0.0 || !["Buy", "Sell"].contains(&kit::at(order, "side")) {
            return Err(refused(10001, "Request parameter error."));
        }
        let market = kit::at(order, "orderType") == "Market";
        let price: f64 = text("price").parse().unwrap_or(0.0);
        if !market && price <= 0.0 {
            return Err(refused(10001, "Request parameter error."));
        }
        let crosses = if kit::at(order, "side") == "Buy" { price >= ASK } else { price <= BID };
        let state = match (market || crosses, kit::at(order, "timeInForce")) {
            (true, "PostOnly") => "Cancelled",
            (true, _) => "Filled",
            _ => "New",
        };
        let id = format!("a4c1718e-{:04}", self.orders.len() + 1);
        let order = json!({
            "category": order["category"], "symbol": order["symbol"], "orderId": id, "orderLinkId": link,
            "side": order["side"], "orderType": order["orderType"], "price": text("price"), "qty": text("qty"),
            "timeInForce": if market { "IOC" } else { "GTC" }, "orderStatus": state, "rejectReason": "EC_NoError",
            "createdTime": wall.to_string(), "updatedTime": wall.to_string(),
        });
        self.changed.push(order.clone());
        self.orders.push(order);
        Ok(json!({"orderId": id, "orderLinkId": link}))
    }

    fn change(
        &mut self,
        asked: &Value,
        wall: u64,
        change: impl Fn(&mut Value, &Value),
    ) -> Result<Value, Refused> {
        let names = |known: &&mut Value| {
            ["orderId", "orderLinkId"]
                .iter()
                .any(|name| asked[name].is_string() && asked[name] == known[name])
        };
        let known =
            self.orders.iter_mut().find(names).ok_or_else(|| refused(110_001, "Order does not exist"))?;
        match kit::at(known, "orderStatus") {
            "New" => {}
            "Cancelled" => return Err(refused(110_010, "The order has been cancelled")),
            _ => return Err(refused(110_008, "The order has been completed or cancelled.")),
        }
        change(known, asked);
        known["updatedTime"] = wall.to_string().into();
        self.changed.push(known.clone());
        Ok(json!({"orderId": known["orderId"], "orderLinkId": known["orderLinkId"]}))
    }
}
