//! Bybit, version 5, as its documentation describes it: the public endpoints, the account's and that of orders, in one script, told apart by the path.
//!
//! Sources: bybit-exchange.github.io/docs/v5 (stored copies read 2026-11-21). What they do not say, and is decided here: connections that the venue
//! ends get no close frame; a message with one topic that is not to be had is refused whole, but for options, whose answer lists them; orders fill
//! against prices that never move, whole or not at all.

mod account;
#[cfg(test)]
mod tests;
mod topics;

use super::kit::{self, Channels, Tick, Ticker, Wall, Window};
use super::{HttpResponse, Replies, Reply, Script};
use crate::sim::ws::Upgrade;
use account::{Account, Refused};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};
use topics::{book, is_categorised, is_topic};

/// A key of its only account.
pub const KEY: &str = "key-1";
/// The secret of that.
pub const SECRET: &str = "correct horse battery staple";

/// How often it looks for connections that are idle.
const SCAN: Duration = Duration::from_secs(30);
const SYMBOLS: [&str; 2] = ["BTCUSDT", "ETHUSDT"];
const OPTIONS: [&str; 2] = ["BTC-30DEC22-18000-C", "BTC-30DEC22-18000-P"];

/// The venue.
#[derive(Debug)]
pub struct Bybit {
    wall: Wall,
    account: Account,
    conns: BTreeMap<u64, Conn>,
    /// What was asked for a WebSocket and is none yet.
    asked: BTreeMap<u64, Conn>,
    channels: Channels,
    ticker: Ticker,
    upgrades: Window,
    next_scan: Duration,
    quiet: BTreeSet<String>,
    skips: BTreeSet<String>,
    ids_in_acks: bool,
    said: Vec<(u64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Spot,
    /// Linear and inverse.
    Futures,
    Option,
    Private,
    Trade,
}

#[derive(Debug, Clone)]
struct Conn {
    at: At,
    /// It takes no new orders.
    restarting: bool,
    authenticated: bool,
    /// Of all topics.
    characters: usize,
    max_active: Duration,
    /// When a ping came or data went.
    active: Duration,
    /// The update that each book told last.
    updates: BTreeMap<String, u64>,
}

impl Default for Bybit {
    fn default() -> Self {
        Self {
            wall: Wall::default(),
            account: Account::new(KEY, SECRET),
            conns: BTreeMap::new(),
            asked: BTreeMap::new(),
            channels: Channels::new(),
            ticker: Ticker::new(Duration::from_millis(100)),
            upgrades: Window::new(500, Duration::from_secs(300)),
            next_scan: SCAN,
            quiet: BTreeSet::new(),
            skips: BTreeSet::new(),
            ids_in_acks: true,
            said: Vec::new(),
        }
    }
}

impl Bybit {
    /// With `BTCUSDT`, `ETHUSDT` and two options, in which something happens ten times a second.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something happens in each symbol so often.
    pub fn tick_every(self, every: Duration) -> Self {
        Self { ticker: Ticker::new(every), ..self }
    }

    /// Answers to subscriptions repeat no `req_id`.
    pub fn without_ids(self) -> Self {
        Self { ids_in_acks: false, ..self }
    }

    /// Acknowledges this topic and pushes nothing on it, or does again.
    pub fn set_quiet(&mut self, topic: &str, quiet: bool) {
        if quiet {
            self.quiet.insert(topic.to_owned());
        } else {
            self.quiet.remove(topic);
        }
    }

    /// The next change of this book is lost, for everybody.
    pub fn skip(&mut self, topic: &str) {
        self.skips.insert(topic.to_owned());
    }

    /// The service behind the books is restarted: updates are counted from 1 again, after a new snapshot.
    pub fn restart(&mut self, now: Duration, out: &mut Replies) {
        let books: Vec<(u64, String)> = self
            .conns
            .iter()
            .flat_map(|(conn, open)| open.updates.keys().map(|name| (*conn, name.clone())))
            .collect();
        for (conn, name) in books {
            self.snapshot(conn, &name, 1, now, out);
        }
    }

    /// The service behind the connections that are open restarts: they take no new orders, and those that come later do.
    pub fn restart_orders(&mut self) {
        self.conns.values_mut().for_each(|open| open.restarting = true);
    }

    /// The state of an order: `New`, `Filled`, `Cancelled`; empty if there is none.
    pub fn order_state(&self, id: &str) -> &str {
        self.account.order_state(id)
    }

    /// The connections that are subscribed to a topic.
    pub fn listeners(&self, topic: &str) -> Vec<u64> {
        self.channels.listeners(topic)
    }

    /// All operations that were asked for, and on which connection, oldest first; the first 100,000.
    pub fn called(&self) -> &[(u64, String)] {
        &self.said
    }

    /// Ends a connection as the venue does when it is restarted.
    pub fn hang_up(&mut self, conn: u64, out: &mut Replies) {
        out.push(conn, Reply::Fin);
        self.over(conn);
    }

    fn over(&mut self, conn: u64) {
        self.conns.remove(&conn);
        self.channels.leave(conn);
    }

    fn request(&mut self, conn: u64, request: &Value, now: Duration, out: &mut Replies) {
        let Some(at) = self.conns.get(&conn).map(|open| open.at) else { return };
        let op = kit::at(request, "op").to_owned();
        if self.said.len() < 100_000 {
            self.said.push((conn, op.clone()));
        }
        let id = request[if at == At::Trade { "reqId" } else { "req_id" }].clone();
        match op.as_str() {
            "ping" => self.ping(conn, at, &id, now, out),
            "auth" => self.auth(conn, at, request, &id, now, out),
            "subscribe" if at != At::Trade => self.subscribe(conn, request, &id, now, out),
            "unsubscribe" if at != At::Trade => {
                let topics = kit::list(&request["args"]);
                for topic in &topics {
                    if self.channels.unsubscribe(conn, topic)
                        && let Some(open) = self.conns.get_mut(&conn)
                    {
                        open.characters -= topic.len();
                        open.updates.remove(topic);
                    }
                }
                self.ack(conn, at, "unsubscribe", &id, Ok(&topics), out);
            }
            _ if at == At::Trade => self.order(conn, request, &op, &id, now, out),
            _ => {
                out.punish(conn, format!("the operation {op:?} is not known"));
                self.ack(conn, at, &op, &id, Err("error:request op is invalid"), out);
            }
        }
    }

    fn ping(&mut self, conn: u64, at: At, id: &Value, now: Duration, out: &mut Replies) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.active = now;
        }
        let stamp = self.wall.millis(now).to_string();
        let conn_id = format!("conn-{conn}");
        out.json(conn, &match at {
            At::Spot => json!({"success": true, "ret_msg": "pong", "conn_id": conn_id, "op": "ping"}),
            At::Futures => json!({"success": true, "ret_msg": "pong", "conn_id": conn_id, "req_id": id, "op": "ping"}),
            At::Option => json!({"args": [stamp], "op": "pong"}),
            At::Private => json!({"req_id": id, "op": "pong", "args": [stamp], "conn_id": conn_id}),
            At::Trade => json!({"retCode": 0, "retMsg": "OK", "op": "pong", "data": [stamp], "connId": conn_id}),
        });
    }

    fn auth(&mut self, conn: u64, at: At, request: &Value, id: &Value, now: Duration, out: &mut Replies) {
        let wall = self.wall.millis(now);
        let judged = match at {
            At::Private | At::Trade => self.account.judge(&request["args"], wall),
            _ => Err((10404, "error:request op is invalid")),
        };
        if let Err((_, why)) = judged {
            out.punish(conn, format!("the authentication is refused: {why}"));
        } else if let Some(open) = self.conns.get_mut(&conn) {
            open.authenticated = true;
        }
        let conn_id = format!("conn-{conn}");
        let (code, message) = judged.err().unwrap_or((0, "OK"));
        if at == At::Trade {
            return out.json(
                conn,
                &json!({"reqId": id, "retCode": code, "retMsg": message, "op": "auth", "connId": conn_id}),
            );
        }
        let message = if code == 0 { "" } else { message };
        out.json(conn, &json!({"success": code == 0, "ret_msg": message, "op": "auth", "conn_id": conn_id}));
    }

    fn subscribe(&mut self, conn: u64, request: &Value, id: &Value, now: Duration, out: &mut Replies) {
        let topics = kit::list(&request["args"]);
        let Some(open) = self.conns.get(&conn) else { return };
        let (at, authenticated, characters) = (open.at, open.authenticated, open.characters);
        let length: usize = topics.iter().map(String::len).sum();
        let whole = topics.iter().filter(|topic| !topic.contains('.')).count();
        let fault = if at == At::Private && !authenticated {
            Some("Request not authorized")
        } else if topics.is_empty() {
            Some("error:request args is empty")
        } else if at == At::Spot && topics.len() > 10 {
            Some("error:args size >10")
        } else if at == At::Option && self.channels.count(conn) + topics.len() > 2000 {
            Some("error:args size >2000")
        } else if at != At::Private && characters + length > 21_000 {
            Some("error:args length >21000")
        } else if at == At::Private
            && whole > 0
            && whole < topics.len()
            && topics.iter().any(|topic| is_categorised(topic))
        {
            Some("error:all-in-one and categorised topics in one request")
        } else {
            None
        };
        if let Some(fault) = fault {
            out.punish(conn, format!("subscribe: {fault}"));
            return self.ack(conn, at, "subscribe", id, Err(fault), out);
        }
        let (good, bad): (Vec<String>, Vec<String>) =
            topics.into_iter().partition(|topic| is_topic(at, topic) && !self.channels.has(conn, topic));
        if let Some(first) = bad.first().filter(|_| at != At::Option) {
            let known = self.channels.has(conn, first);
            let why = if known {
                format!("error:already subscribed,topic:{first}")
            } else {
                format!("Invalid symbol :[{first}]")
            };
            return self.ack(conn, at, "subscribe", id, Err(&why), out);
        }
        for topic in &good {
            self.channels.subscribe(conn, topic.as_str());
            if let Some(open) = self.conns.get_mut(&conn) {
                open.characters += topic.len();
            }
        }
        if at == At::Option {
            let data = json!({"failTopics": bad, "successTopics": good});
            let ack = json!({"success": true, "conn_id": format!("conn-{conn}"), "data": data, "type": "COMMAND_RESP"});
            out.json(conn, &ack);
        } else {
            self.ack(conn, at, "subscribe", id, Ok(&good), out);
        }
        for topic in good {
            if let Some((_, symbol)) = book(&topic) {
                let update = 18_521_288 + self.ticker.number(symbol);
                self.snapshot(conn, &topic, update, now, out);
            }
        }
    }

    fn ack(
        &self,
        conn: u64,
        at: At,
        op: &str,
        id: &Value,
        result: Result<&[String], &str>,
        out: &mut Replies,
    ) {
        let says = match result {
            Ok(_) if at == At::Spot => op,
            Ok(_) => "",
            Err(why) => why,
        };
        let mut ack =
            json!({"success": result.is_ok(), "ret_msg": says, "conn_id": format!("conn-{conn}"), "op": op});
        if self.ids_in_acks && !id.is_null() {
            ack["req_id"] = id.clone();
        }
        out.json(conn, &ack);
    }

    fn order(&mut self, conn: u64, request: &Value, op: &str, id: &Value, now: Duration, out: &mut Replies) {
        let Some(open) = self.conns.get(&conn) else { return };
        let (authenticated, restarting) = (open.authenticated, open.restarting);
        let wall = self.wall.millis(now);
        let answer = if restarting {
            Err(Refused::new(10019, "ws trade service is restarting"))
        } else {
            self.account.call(op, request, id, authenticated, wall, now)
        };
        let (code, message, data) = match answer {
            Ok(data) => (0, "OK", data),
            Err(refused) => {
                if refused.timing {
                    out.punish_timing(conn, format!("{op} is refused: {}", refused.message));
                } else if refused.punished {
                    out.punish(conn, format!("{op} is refused: {}", refused.message));
                }
                (refused.code, refused.message, json!({}))
            }
        };
        let header = json!({"Traceid": "t", "Timenow": wall.to_string(), "X-Bapi-Limit": "10"});
        let mut text = json!({"retCode": code, "retMsg": message, "op": op, "data": data, "retExtInfo": {},
            "header": header, "connId": format!("conn-{conn}")});
        if !id.is_null() {
            text["reqId"] = id.clone();
        }
        out.json(conn, &text);
        for order in self.account.changes() {
            for (&listener, open) in self.conns.iter_mut().filter(|(_, open)| open.at == At::Private) {
                for topic in self.channels.of(listener) {
                    let (name, category) = topic.split_once('.').unwrap_or((topic, ""));
                    let fits = category.is_empty() || order["category"] == category;
                    let executed = order["orderStatus"] == "Filled";
                    if !fits
                        || !(name == "order" || name == "execution" && executed)
                        || self.quiet.contains(topic)
                    {
                        continue;
                    }
                    open.active = now;
                    out.json(listener, &json!({"id": format!("{wall}"), "topic": topic, "creationTime": wall, "data": [order]}));
                }
            }
        }
    }

    fn snapshot(&mut self, conn: u64, topic: &str, update: u64, now: Duration, out: &mut Replies) {
        let (Some((_, symbol)), at) = (book(topic), self.wall.millis(now)) else { return };
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.updates.insert(topic.to_owned(), update);
        if self.quiet.contains(topic) {
            return;
        }
        open.active = now;
        let data = json!({"s": symbol, "b": [["16493.50", "0.006"]], "a": [["16611.00", "0.029"]], "u": update, "seq": at});
        out.json(conn, &json!({"topic": topic, "type": "snapshot", "ts": at, "data": data, "cts": at}));
    }

    /// Something happened in a symbol.
    fn tick(&mut self, tick: &Tick, out: &mut Replies) {
        let at = self.wall.millis(tick.at);
        let mut lost = BTreeSet::new();
        for (&conn, open) in &mut self.conns {
            for topic in self.channels.of(conn) {
                let symbol = topic.rsplit('.').next().unwrap_or_default();
                let of_coin = open.at == At::Option && tick.topic.starts_with(&format!("{symbol}-"));
                if symbol != tick.topic && !of_coin {
                    continue;
                }
                let (kind, data) = if let Some((depth, symbol)) = book(topic) {
                    let Some(update) = open.updates.get_mut(topic) else { continue };
                    *update += 1;
                    if self.skips.contains(topic) {
                        lost.insert(topic.to_owned());
                        continue;
                    }
                    let kind = if depth == "1" { "snapshot" } else { "delta" };
                    (kind, json!({"s": symbol, "b": [["16493.50", "0.1"]], "a": [], "u": *update, "seq": at}))
                } else if topic.starts_with("publicTrade.") {
                    let trade = json!({"T": at, "s": tick.topic, "S": "Buy", "v": "0.001", "p": "16578.50",
                        "i": format!("{}", tick.number), "BT": false, "seq": tick.number});
                    ("snapshot", json!([trade]))
                } else if topic.starts_with("tickers.") {
                    ("snapshot", json!({"symbol": symbol, "lastPrice": "16578.50"}))
                } else {
                    continue;
                };
                if !self.quiet.contains(topic) {
                    open.active = tick.at;
                    out.json(conn, &json!({"topic": topic, "type": kind, "ts": at, "data": data}));
                }
            }
        }
        self.skips.retain(|topic| !lost.contains(topic));
    }

    fn scan(&mut self, now: Duration, out: &mut Replies) {
        while self.next_scan <= now {
            self.next_scan += SCAN;
        }
        let idle: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, open)| now.saturating_sub(open.active) >= open.max_active)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in idle {
            out.punish_timing(conn, "neither a ping nor data for too long");
            self.hang_up(conn, out);
        }
    }
}

impl Script for Bybit {
    fn start(&mut self, wall: SystemTime) {
        self.wall = Wall::new(wall);
        SYMBOLS.iter().chain(&OPTIONS).for_each(|symbol| self.ticker.open(symbol, Duration::ZERO));
    }

    fn upgrade(&mut self, conn: u64, request: &Upgrade, now: Duration) -> Result<(), HttpResponse> {
        if self.upgrades.exceeds(1, now) {
            return Err(HttpResponse::status(403));
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let at = match path {
            "/v5/public/spot" => At::Spot,
            "/v5/public/linear" | "/v5/public/inverse" => At::Futures,
            "/v5/public/option" => At::Option,
            "/v5/private" => At::Private,
            "/v5/trade" => At::Trade,
            _ => return Err(HttpResponse::status(404)),
        };
        let wanted =
            kit::query(&request.target, "max_active_time").filter(|_| matches!(at, At::Private | At::Trade));
        let max_active = match wanted {
            None => Duration::from_secs(600),
            Some(time) => {
                let (number, scale) = match (time.strip_suffix('s'), time.strip_suffix('m')) {
                    (Some(number), _) => (number, 1),
                    (_, Some(number)) => (number, 60),
                    _ => return Err(HttpResponse::status(400)),
                };
                let secs = number.parse::<u64>().unwrap_or(0).saturating_mul(scale);
                if !(30..=600).contains(&secs) {
                    return Err(HttpResponse::status(400));
                }
                Duration::from_secs(secs)
            }
        };
        let (characters, updates) = (0, BTreeMap::new());
        self.asked.insert(
            conn,
            Conn {
                at,
                restarting: false,
                authenticated: false,
                characters,
                max_active,
                active: now,
                updates,
            },
        );
        Ok(())
    }

    fn opened(&mut self, conn: u64, now: Duration, _: &mut Replies) {
        if let Some(open) = self.asked.remove(&conn) {
            self.conns.insert(conn, Conn { active: now, ..open });
        }
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        match kit::parse(text) {
            request if request["op"].is_string() => self.request(conn, &request, now, out),
            _ => {
                out.punish(conn, "a message that is no request");
                out.json(conn, &json!({"success": false, "ret_msg": "error:invalid request", "conn_id": format!("conn-{conn}")}));
            }
        }
    }

    fn binary(&mut self, conn: u64, _: &[u8], _: Duration, out: &mut Replies) {
        out.punish(conn, "a binary message");
    }

    fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
        self.over(conn);
    }

    fn deadline(&self) -> Option<Duration> {
        let scan = (!self.conns.is_empty()).then_some(self.next_scan);
        [scan, self.ticker.deadline()].into_iter().flatten().min()
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        if now >= self.next_scan {
            self.scan(now, out);
        }
        for tick in self.ticker.ticks(now) {
            self.tick(&tick, out);
        }
    }
}
