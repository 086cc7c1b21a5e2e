//! The WebSocket API.

use super::{Kind, Reply, Venue, market};
use crate::script::Replies;
use crate::script::kit::at;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// What a connection has.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Those that it subscribed to, data of which come or not.
    pub(super) streams: BTreeSet<String>,
    /// The key that it was logged on with.
    key: Option<String>,
    pub(super) user_data: bool,
    /// Of which nothing comes for now.
    pub(super) muted: bool,
    pub(super) hides_limits: bool,
}

/// Keys, and what was done with them.
pub(super) struct Keys {
    known: BTreeMap<String, How>,
    orders: Vec<Order>,
    /// The minute, and the weight that was used in it.
    used: (u64, u64),
    most: u64,
    /// Whether it was told that it is too much.
    told: bool,
    pub(super) time_out: bool,
    pub(super) revoked: bool,
}

pub(super) enum How {
    Hmac(String),
    Ed25519(fn(&str, &str) -> bool),
}

#[derive(Debug, Clone)]
struct Order {
    symbol: String,
    id: u64,
    name: String,
    open: bool,
}

/// Status, code and message.
type Refusal = (u16, i64, String);

impl Keys {
    pub(super) fn new(kind: Kind) -> Self {
        let most = if kind == Kind::Spot { 6000 } else { 2400 };
        let (known, orders, used) = (BTreeMap::new(), Vec::new(), (0, 0));
        Self { known, orders, used, most, told: false, time_out: false, revoked: false }
    }

    pub(super) fn hmac(&mut self, key: &str, secret: &str) {
        self.known.insert(key.to_owned(), How::Hmac(secret.to_owned()));
    }

    pub(super) fn ed25519(&mut self, key: &str, verify: fn(&str, &str) -> bool) {
        self.known.insert(key.to_owned(), How::Ed25519(verify));
    }

    pub(super) fn knows(&self, key: &str) -> bool {
        self.known.contains_key(key)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("orders", &self.orders).field("used", &self.used).finish_non_exhaustive()
    }
}

impl Venue {
    /// How many orders are open.
    pub fn open_orders(&self) -> usize {
        self.keys.orders.iter().filter(|order| order.open).count()
    }

    /// Most weight in a minute. Default 6,000 on spot, 2,400 on futures.
    pub fn weight(mut self, most: u64) -> Self {
        self.keys.most = most;
        self
    }

    pub(super) fn api_text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        let said: Value = serde_json::from_str(text).unwrap_or_default();
        let (Some(method), Value::Object(params)) =
            (said["method"].as_str(), said.get("params").cloned().unwrap_or_else(|| json!({})))
        else {
            out.punish(conn, format!("no request: {text:?}"));
            let error =
                json!({"code": -1135, "msg": "Invalid 'params' in JSON request; expected an object."});
            return out.json(conn, &json!({"id": null, "status": 400, "error": error}));
        };
        let id = &said["id"];
        if let Some(refused) = self.weighs(conn, method, now, out) {
            return self.answer(conn, id, Err(refused), now, out);
        }
        let answered = match self.refuses.pop_front() {
            Some((code, msg)) => Err((400, code, msg)),
            None => self.carry_out(conn, method, &params, now, out),
        };
        if let Err((401, ..)) = answered
            && self.keys.revoked
            && method != "session.logon"
        {
            return self.answer(conn, &Value::Null, answered, now, out);
        }
        self.answer(conn, id, answered, now, out);
    }

    fn answer(
        &self,
        conn: u64,
        id: &Value,
        result: Result<Value, Refusal>,
        now: Duration,
        out: &mut Replies,
    ) {
        let mut answer = match result {
            Ok(result) => json!({"id": id, "status": 200, "result": result}),
            Err((status, code, msg)) => {
                let mut error = json!({"code": code, "msg": msg});
                if matches!(status, 418 | 429) {
                    let (server, retry) =
                        (self.wall.millis(now), self.wall.millis(now + Duration::from_secs(60)));
                    error["data"] = json!({"serverTime": server, "retryAfter": retry});
                }
                json!({"id": id, "status": status, "error": error})
            }
        };
        if self.conns.get(&conn).is_some_and(|open| !open.session.hides_limits) {
            answer["rateLimits"] = json!([{
                "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1,
                "limit": self.keys.most, "count": self.keys.used.1,
            }]);
        }
        out.json(conn, &answer);
    }

    /// Counts by full minutes, as the venue does.
    fn weighs(&mut self, conn: u64, method: &str, now: Duration, out: &mut Replies) -> Option<Refusal> {
        let minute = self.wall.secs(now) / 60;
        if self.keys.used.0 != minute {
            (self.keys.used, self.keys.told) = ((minute, 0), false);
        }
        self.keys.used.1 += match method {
            "depth" => 5,
            "exchangeInfo" | "account.status" => 20,
            "order.status" => 4,
            "session.logon" | "userDataStream.subscribe" | "userDataStream.subscribe.signature" => 2,
            _ => 1,
        };
        if self.keys.used.1 <= self.keys.most {
            return None;
        }
        out.punish_timing(conn, "too much weight in a minute");
        if std::mem::replace(&mut self.keys.told, true) {
            self.ban(now);
            self.end(conn, Reply::Close(1008, String::new()), out);
        }
        Some((429, -1003, "Too much request weight used".to_owned()))
    }

    fn carry_out(
        &mut self,
        conn: u64,
        method: &str,
        params: &Map<String, Value>,
        now: Duration,
        out: &mut Replies,
    ) -> Result<Value, Refusal> {
        let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match method {
            "ping" => Ok(json!({})),
            "time" => Ok(json!({"serverTime": self.wall.millis(now)})),
            "depth" => {
                let symbol = text("symbol").to_lowercase();
                Ok(market::snapshot(self.kind, self.newest(&symbol)))
            }
            "session.logon" => {
                let key = self.signed(conn, params, true, now, out)?;
                if let Some(open) = self.conns.get_mut(&conn) {
                    open.session.key = Some(key.clone());
                }
                Ok(json!({"apiKey": key, "authorizedSince": self.wall.millis(now)}))
            }
            "userDataStream.subscribe" | "userDataStream.subscribe.signature" if self.kind == Kind::Spot => {
                if method == "userDataStream.subscribe" {
                    if self.conns.get(&conn).is_none_or(|open| open.session.key.is_none()) {
                        out.punish(conn, "user data without being logged on");
                        return Err((
                            401,
                            -2015,
                            "Invalid API-key, IP, or permissions for action.".to_owned(),
                        ));
                    }
                } else {
                    self.signed(conn, params, false, now, out)?;
                }
                if let Some(open) = self.conns.get_mut(&conn) {
                    (open.session.user_data, open.session.muted) = (true, self.silent);
                }
                Ok(json!({"subscriptionId": 0}))
            }
            "userDataStream.unsubscribe" => {
                if let Some(open) = self.conns.get_mut(&conn) {
                    open.session.user_data = false;
                }
                Ok(json!({}))
            }
            "order.test" => self.signed(conn, params, false, now, out).map(|_| json!({})),
            "order.place" => {
                self.signed(conn, params, false, now, out)?;
                self.place(params, now, out)
            }
            "order.cancel" | "order.status" => {
                self.signed(conn, params, false, now, out)?;
                let (symbol, name) = (text("symbol"), text("origClientOrderId"));
                let id = params.get("orderId").and_then(Value::as_u64);
                let known = self.keys.orders.iter_mut().find(|order| {
                    order.symbol == symbol && (Some(order.id) == id || (id.is_none() && order.name == name))
                });
                match known {
                    Some(order) if method == "order.status" => Ok(order.told()),
                    Some(order) if order.open => {
                        order.open = false;
                        let told = order.told();
                        self.report(&told, now, out);
                        Ok(told)
                    }
                    _ => Err((400, -2011, "Unknown order sent.".to_owned())),
                }
            }
            _ => {
                out.punish(conn, format!("there is no {method}"));
                Err((400, -1020, "This operation is not supported.".to_owned()))
            }
        }
    }

    fn place(
        &mut self,
        params: &Map<String, Value>,
        now: Duration,
        out: &mut Replies,
    ) -> Result<Value, Refusal> {
        let params = Value::Object(params.clone());
        for name in ["symbol", "side", "type", "quantity"] {
            if at(&params, name).is_empty() {
                let msg = format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed.");
                return Err((400, -1102, msg));
            }
        }
        let id = self.keys.orders.len() as u64 + 1;
        let name = at(&params, "newClientOrderId");
        let name = if name.is_empty() { format!("order{id}") } else { name.to_owned() };
        let order = Order { symbol: at(&params, "symbol").to_owned(), id, name, open: true };
        let told = order.told();
        self.keys.orders.push(order);
        self.report(&told, now, out);
        if std::mem::take(&mut self.keys.time_out) {
            let msg = "Timeout waiting for response from backend server. Send status unknown; execution status unknown.";
            return Err((500, -1007, msg.to_owned()));
        }
        Ok(told)
    }

    fn report(&mut self, order: &Value, now: Duration, out: &mut Replies) {
        let event = json!({
            "e": "executionReport", "E": self.wall.millis(now), "s": order["symbol"], "c": order["clientOrderId"],
            "i": order["orderId"], "X": order["status"],
        });
        self.user_event(&event, out);
    }

    /// The key that a request is made with.
    fn signed(
        &self,
        conn: u64,
        params: &Map<String, Value>,
        logon: bool,
        now: Duration,
        out: &mut Replies,
    ) -> Result<String, Refusal> {
        let no_key = || (401, -2015, "Invalid API-key, IP, or permissions for action.".to_owned());
        if self.keys.revoked {
            return Err(no_key());
        }
        let logged_on = self.conns.get(&conn).and_then(|open| open.session.key.clone());
        let key = match params.get("apiKey").and_then(Value::as_str) {
            Some(key) => key.to_owned(),
            None if !logon => match &logged_on {
                Some(key) => key.clone(),
                None => {
                    out.punish(conn, "a request without a key, on a connection that is not logged on");
                    return Err((400, -1102, "Mandatory parameter 'apiKey' was not sent.".to_owned()));
                }
            },
            None => return Err((400, -1102, "Mandatory parameter 'apiKey' was not sent.".to_owned())),
        };
        let how = self.keys.known.get(&key).ok_or_else(no_key)?;
        let time = params.get("timestamp").and_then(Value::as_u64).unwrap_or(0);
        let window = params.get("recvWindow").and_then(Value::as_u64).unwrap_or(5000);
        let server = self.wall.millis(now);
        if time >= server + 1000 || server.saturating_sub(time) > window {
            let msg = "Timestamp for this request is outside of the recvWindow.";
            return Err((400, -1021, msg.to_owned()));
        }
        let signature = params.get("signature").and_then(Value::as_str);
        let (signature, how) = match (signature, how) {
            (None, _) if logged_on.is_some() && !logon => return Ok(key),
            (Some(_), How::Hmac(_)) if logon => {
                out.punish(conn, "only Ed25519 keys may log on");
                return Err(no_key());
            }
            (signature, how) => (signature.unwrap_or_default(), how),
        };
        if how.verifies(&payload(params), signature) {
            Ok(key)
        } else {
            out.punish(conn, "a signature is wrong");
            Err((400, -1022, "Signature for this request is not valid.".to_owned()))
        }
    }
}

/// What is signed: all parameters but the signature, sorted by name.
fn payload(params: &Map<String, Value>) -> String {
    let mut pairs: Vec<(&String, &Value)> = params.iter().filter(|(name, _)| *name != "signature").collect();
    pairs.sort_by_key(|(name, _)| *name);
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect();
    pairs.join("&")
}

impl How {
    pub(super) fn verifies(&self, text: &str, signature: &str) -> bool {
        match self {
            Self::Ed25519(verify) => verify(text, signature),
            Self::Hmac(secret) => {
                let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
                mac.update(text.as_bytes());
                let hex: String =
                    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                hex.eq_ignore_ascii_case(signature)
            }
        }
    }
}

impl Order {
    fn told(&self) -> Value {
        json!({
            "symbol": self.symbol, "orderId": self.id, "orderListId": -1, "clientOrderId": self.name,
            "status": if self.open { "NEW" } else { "CANCELED" }, "executedQty": "0.00000000",
        })
    }
}
