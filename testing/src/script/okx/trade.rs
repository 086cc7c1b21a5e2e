//! Orders.

use super::talk::with_id;
use super::{Path, Venue};
use crate::script::Replies;
use crate::script::kit::at;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Order {
    id: u64,
    name: String,
    code: u64,
    open: bool,
}

impl Venue {
    /// How many orders are open.
    pub fn open_orders(&self) -> usize {
        self.orders.iter().filter(|order| order.open).count()
    }

    pub(super) fn trade(
        &mut self,
        conn: u64,
        op: &str,
        id: Option<&Value>,
        args: &[Value],
        now: Duration,
        out: &mut Replies,
    ) {
        let Some(open) = self.conns.get(&conn) else { return };
        let (data, code, msg) = match args {
            _ if open.path != Path::Private => {
                (json!([]), "60028", "The current operation is not supported by this URL.")
            }
            _ if !open.logged_in => {
                out.punish(conn, "an order without a login");
                (json!([]), "60011", "Please log in")
            }
            [arg] if op == "order" => self.place(arg),
            [arg] => self.cancel(arg),
            _ => (json!([]), "60013", "Invalid args"),
        };
        let told = data[0]["ordId"].as_str().unwrap_or_default();
        if code == "0" && !told.is_empty() {
            self.report(told, now, out);
        }
        let answer = json!({"op": op, "data": data, "code": code, "msg": msg, "inTime": "1", "outTime": "2"});
        self.say(conn, &with_id(answer, id), now, out);
    }

    fn place(&mut self, arg: &Value) -> (Value, &'static str, &'static str) {
        // The id of an instrument is not looked at any more.
        let code = arg["instIdCode"].as_u64();
        let complete = ["tdMode", "side", "ordType", "sz"].into_iter().all(|key| !at(arg, key).is_empty());
        let Some(code) = code.filter(|_| complete) else {
            return (refused("51000", "Parameter error"), "1", "");
        };
        if at(arg, "sz") == "0" {
            return (refused("51008", "Order failed. Insufficient balance."), "1", "");
        }
        let id = 1000 + self.orders.len() as u64;
        let name = at(arg, "clOrdId").to_owned();
        self.orders.push(Order { id, name: name.clone(), code, open: true });
        (json!([{"ordId": id.to_string(), "clOrdId": name, "tag": "", "sCode": "0", "sMsg": ""}]), "0", "")
    }

    fn cancel(&mut self, arg: &Value) -> (Value, &'static str, &'static str) {
        let (id, name) = (at(arg, "ordId"), at(arg, "clOrdId"));
        let wanted = |order: &&mut Order| {
            arg["instIdCode"] == order.code
                && (order.id.to_string() == id || (id.is_empty() && order.name == name))
        };
        match self.orders.iter_mut().filter(|order| order.open).find(wanted) {
            Some(order) => {
                order.open = false;
                (
                    json!([{"ordId": order.id.to_string(), "clOrdId": order.name, "sCode": "0", "sMsg": ""}]),
                    "0",
                    "",
                )
            }
            None => (refused("51400", "Cancellation failed as the order does not exist."), "1", ""),
        }
    }

    fn report(&mut self, id: &str, now: Duration, out: &mut Replies) {
        let listens = |(conn, open): (&u64, &super::Conn)| -> Option<(u64, Value)> {
            let arg = open.topics.values().find(|arg| at(arg, "channel") == "orders")?;
            Some((*conn, arg.clone()))
        };
        let all: Vec<(u64, Value)> = self.conns.iter().filter_map(listens).collect();
        let state = self.orders.iter().find(|order| order.id.to_string() == id).map(|order| order.open);
        let state = if state == Some(true) { "live" } else { "canceled" };
        for (conn, arg) in all {
            let said = json!({"arg": arg, "data": [{"ordId": id, "state": state}]});
            self.say(conn, &said, now, out);
        }
    }
}

fn refused(code: &str, msg: &str) -> Value {
    json!([{"ordId": "", "clOrdId": "", "tag": "", "sCode": code, "sMsg": msg}])
}
