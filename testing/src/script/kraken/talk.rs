//! What it hears, and what it says.

use super::super::kit::{Wall, Window, at, list};
use super::super::{HttpRequest, HttpResponse, Replies, Script};
use super::{Book, Conn, Kraken, Subscription};
use crate::sim::ws::Upgrade;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// Channels with symbols, and those without.
const PUBLIC: [&str; 5] = ["book", "ticker", "trade", "ohlc", "instrument"];
const PRIVATE: [&str; 3] = ["executions", "balances", "level3"];
const WITH_SYMBOLS: [&str; 5] = ["book", "ticker", "trade", "ohlc", "level3"];
const INVALID_SESSION: &str = "ESession:Invalid session";

impl Kraken {
    /// Says something, unless it says nothing at all. A connection that has missed something is told nothing any more: nobody could know.
    fn tell(&mut self, conn: u64, text: impl Into<String>, now: Duration, out: &mut Replies) {
        let deaf = self.faults.deaf;
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.deaf |= deaf;
        if !state.deaf {
            state.told = now;
            out.text(conn, text);
        }
    }

    fn refuse_with(
        &mut self,
        conn: u64,
        message: &Value,
        error: &str,
        symbol: Option<&str>,
        now: Duration,
        out: &mut Replies,
    ) {
        let stamp = self.wall.rfc3339(now, 6);
        let mut answer = json!({
            "error": error, "method": message["method"], "success": false, "time_in": stamp, "time_out": stamp,
        });
        if !message["req_id"].is_null() {
            answer["req_id"] = message["req_id"].clone();
        }
        if let Some(symbol) = symbol {
            answer["symbol"] = json!(symbol);
        }
        self.tell(conn, answer.to_string(), now, out);
    }

    fn accept(&mut self, conn: u64, message: &Value, result: &Value, now: Duration, out: &mut Replies) {
        let stamp = self.wall.rfc3339(now, 6);
        let mut answer = json!({
            "method": message["method"], "result": result, "success": true, "time_in": stamp, "time_out": stamp,
        });
        if !message["req_id"].is_null() {
            answer["req_id"] = message["req_id"].clone();
        }
        if self.faults.ack_delay.is_zero() {
            self.tell(conn, answer.to_string(), now, out);
        } else {
            self.agenda.plan(now + self.faults.ack_delay, (conn, answer.to_string()));
        }
    }

    /// Whether the message has a token that is good here; if not, it is refused.
    fn admits(&mut self, conn: u64, message: &Value, now: Duration, out: &mut Replies) -> bool {
        let token = at(message, "params.token").to_owned();
        let used = self.conns.get(&conn).is_some_and(|state| state.tokens.contains(&token));
        if used || self.tokens.is_good(&token, now) {
            if let Some(state) = self.conns.get_mut(&conn) {
                state.tokens.insert(token);
            }
            return true;
        }
        if !self.tokens.was_stale(&token) {
            out.punish(
                conn,
                if token.is_empty() { "no token" } else { "a token that is over, or not known" },
            );
        }
        self.refuse_with(conn, message, INVALID_SESSION, None, now, out);
        false
    }

    fn subscribe(&mut self, conn: u64, message: &Value, now: Duration, out: &mut Replies) {
        let adds = message["method"] == "subscribe";
        let counter = if adds { &mut self.counts.subscribes } else { &mut self.counts.unsubscribes };
        *counter += 1;
        let channel = at(message, "params.channel").to_owned();
        let (public, private) = (PUBLIC.contains(&&*channel), PRIVATE.contains(&&*channel));
        let elsewhere = match self.rules.private {
            false if private => {
                Some("Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com")
            }
            true if public => {
                Some("Public market data subscriptions are unavailable on this endpoint. Try ws.kraken.com")
            }
            _ => None,
        };
        if let Some(error) = elsewhere {
            out.punish(conn, error);
            return self.refuse_with(conn, message, error, None, now, out);
        }
        let symbols = list(&message["params"]["symbol"]);
        let with_symbols = WITH_SYMBOLS.contains(&&*channel);
        if !(public || private) || with_symbols == symbols.is_empty() {
            out.punish(conn, format!("a subscription that is none: {message}"));
            return self.refuse_with(conn, message, "EGeneral:Invalid arguments", None, now, out);
        }
        if private && !self.admits(conn, message, now, out) {
            return;
        }
        let symbols: Vec<Option<String>> =
            if with_symbols { symbols.into_iter().map(Some).collect() } else { vec![None] };
        for symbol in symbols {
            self.one(conn, message, &channel, symbol.as_deref(), now, out);
        }
        self.notice_loneliness(conn, now);
    }

    /// One symbol of a message that subscribes or unsubscribes.
    fn one(
        &mut self,
        conn: u64,
        message: &Value,
        channel: &str,
        symbol: Option<&str>,
        now: Duration,
        out: &mut Replies,
    ) {
        let params = &message["params"];
        let (depth, interval) =
            (params["depth"].as_u64().unwrap_or(10), params["interval"].as_u64().unwrap_or(1));
        let name = match (channel, symbol) {
            ("ohlc", Some(symbol)) => format!("ohlc:{symbol}:{interval}"),
            (_, Some(symbol)) => format!("{channel}:{symbol}"),
            (_, None) => channel.to_owned(),
        };
        let mut result = json!({"channel": channel});
        if let Some(symbol) = symbol {
            result["symbol"] = json!(symbol);
        }
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if message["method"] == "unsubscribe" {
            if state.topics.remove(&name).is_none() {
                return self.refuse_with(conn, message, "Subscription Not Found", symbol, now, out);
            }
            return self.accept(conn, message, &result, now, out);
        }
        let there = state.topics.contains_key(&name);
        let refused = symbol.and_then(|symbol| self.faults.refused.get(symbol)).cloned();
        let unknown = symbol.filter(|symbol| symbol.contains("NOPE") || !symbol.contains('/'));
        let error = match (refused, unknown) {
            (Some(error), _) => Some(error),
            (None, Some(symbol)) => Some(format!("Currency pair not supported {symbol}")),
            (None, None) if there => Some("Already subscribed".to_owned()),
            (None, None) => None,
        };
        if let Some(error) = error {
            return self.refuse_with(conn, message, &error, symbol, now, out);
        }
        result["snapshot"] = json!(true);
        if channel == "book" {
            if ![10, 25, 100, 500, 1000].contains(&depth) {
                out.punish(conn, format!("a depth of {depth}"));
                return self.refuse_with(conn, message, "Subscription depth not supported", symbol, now, out);
            }
            result["depth"] = json!(depth);
        }
        if channel == "ohlc" {
            result["interval"] = json!(interval);
        }
        self.accept(conn, message, &result, now, out);
        let subscription = Subscription {
            channel: channel.to_owned(),
            symbol: symbol.map(str::to_owned),
            depth: usize::try_from(depth).unwrap_or(10),
            interval,
            sequence: 0,
        };
        if let Some(state) = self.conns.get_mut(&conn) {
            state.topics.insert(name.clone(), subscription);
        }
        self.snapshot(conn, &name, now, out);
    }

    /// The state of a topic, which follows its confirmation, unless that is late.
    fn snapshot(&mut self, conn: u64, name: &str, now: Duration, out: &mut Replies) {
        let Some(Subscription { channel, symbol, depth, .. }) =
            self.conns.get(&conn).and_then(|state| state.topics.get(name))
        else {
            return;
        };
        let text = match (channel.as_str(), symbol.as_deref()) {
            ("book", Some(symbol)) => {
                let (symbol, depth) = (symbol.to_owned(), *depth);
                let book = self.book(&symbol);
                let view = book.view(depth);
                let (bids, asks) = book.all(&view);
                let checksum = book.checksum(&view);
                self.counts.books += 1;
                book_message("snapshot", &symbol, &bids, &asks, checksum, &self.wall.rfc3339(now, 6))
            }
            ("executions" | "balances", _) => return self.account(conn, name, "snapshot", &json!([]), now, out),
            ("instrument", _) => {
                json!({"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [{"symbol": "BTC/USD"}]}})
                    .to_string()
            }
            _ => return,
        };
        self.tell(conn, text, now, out);
    }

    /// A message of the account's own.
    fn account(&mut self, conn: u64, name: &str, kind: &str, data: &Value, now: Duration, out: &mut Replies) {
        let skipped = if kind == "update" { self.faults.skip_executions } else { 0 };
        let Some(topic) = self.conns.get_mut(&conn).and_then(|state| state.topics.get_mut(name)) else {
            return;
        };
        topic.sequence += 1 + skipped;
        let message = json!({"channel": name, "type": kind, "data": data, "sequence": topic.sequence});
        self.tell(conn, message.to_string(), now, out);
    }

    fn all_accounts(&mut self, name: &str, data: &Value, now: Duration, out: &mut Replies) {
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.account(conn, name, "update", data, now, out));
        self.faults.skip_executions = 0;
    }

    fn book(&mut self, symbol: &str) -> &mut Book {
        let seed = symbol
            .bytes()
            .fold(self.rules.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        self.books.entry(symbol.to_owned()).or_insert_with(|| Book::new(seed))
    }

    /// Everything that anybody is subscribed to changes.
    fn change(&mut self, now: Duration, out: &mut Replies) {
        self.count += 1;
        let stamp = self.wall.rfc3339(now, 6);
        let mut depths: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let mut rest: Vec<(u64, String)> = Vec::new();
        for (id, conn) in &self.conns {
            for (name, topic) in &conn.topics {
                match &topic.symbol {
                    Some(symbol) if topic.channel == "book" => {
                        depths.entry(symbol.clone()).or_default().insert(topic.depth);
                    }
                    _ => rest.push((*id, name.clone())),
                }
            }
        }
        for (symbol, depths) in depths {
            let book = self.book(&symbol);
            let before: Vec<_> = depths.iter().map(|depth| book.view(*depth)).collect();
            book.change();
            let changes: Vec<_> = before
                .iter()
                .zip(&depths)
                .filter_map(|(before, depth)| {
                    let after = book.view(*depth);
                    let (bids, asks) = book.difference(before, &after)?;
                    Some((*depth, bids, asks, book.checksum(&after)))
                })
                .collect();
            if !changes.is_empty() && self.faults.lost.remove(&symbol) {
                continue;
            }
            for (depth, bids, asks, checksum) in changes {
                let wrong = self.faults.wrong.remove(&symbol);
                let text = book_message("update", &symbol, &bids, &asks, checksum ^ u32::from(wrong), &stamp);
                self.tell_book(&symbol, depth, &text, now, out);
            }
        }
        for (conn, name) in rest {
            self.tell_news(conn, &name, &stamp, now, out);
        }
        if self.rules.private {
            // An order of another session of the account.
            let order = format!("OBBBBB-BBBBB-{:06}", self.count);
            let report = json!([{"order_id": order, "symbol": "BTC/USD", "exec_type": "trade", "order_status": "filled"}]);
            self.all_accounts("executions", &report, now, out);
        }
    }

    fn tell_book(&mut self, symbol: &str, depth: usize, text: &str, now: Duration, out: &mut Replies) {
        let name = format!("book:{symbol}");
        if self.faults.silent.contains(&name) {
            return;
        }
        let has = |conn: &Conn| conn.topics.get(&name).is_some_and(|topic| topic.depth == depth);
        let conns: Vec<u64> = self.conns.iter().filter(|(_, conn)| has(conn)).map(|(id, _)| *id).collect();
        self.counts.books += conns.len() as u64;
        conns.into_iter().for_each(|conn| self.tell(conn, text, now, out));
    }

    fn tell_news(&mut self, conn: u64, name: &str, stamp: &str, now: Duration, out: &mut Replies) {
        let Some(topic) = self.conns.get(&conn).and_then(|state| state.topics.get(name)) else { return };
        let price = 26_000 + self.count % 100;
        let data = match topic.channel.as_str() {
            "ticker" => json!({"symbol": topic.symbol, "bid": price, "ask": price + 1, "last": price}),
            "trade" => {
                json!({"symbol": topic.symbol, "side": "buy", "price": price, "qty": 1, "trade_id": self.count,
                "timestamp": stamp})
            }
            "ohlc" => {
                json!({"symbol": topic.symbol, "close": price, "interval": topic.interval, "timestamp": stamp})
            }
            _ => return,
        };
        if !self.faults.silent.contains(name) {
            let message = json!({"channel": topic.channel, "type": "update", "data": [data]});
            self.tell(conn, message.to_string(), now, out);
        }
    }

    fn order(&mut self, conn: u64, method: &str, message: &Value, now: Duration, out: &mut Replies) {
        if !self.rules.private {
            let error = "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com";
            out.punish(conn, error);
            return self.refuse_with(conn, message, error, None, now, out);
        }
        if !self.admits(conn, message, now, out) {
            return;
        }
        let params = &message["params"];
        match method {
            "add_order" => {
                let needed = ["order_type", "side", "symbol", "order_qty"];
                if needed.iter().any(|key| params[*key].is_null()) {
                    return self.refuse_with(conn, message, "EGeneral:Invalid arguments", None, now, out);
                }
                self.count += 1;
                let id = format!("OAAAAA-AAAAA-{:06}", self.count);
                let fills = params["order_type"] == "market";
                if !fills {
                    self.orders.insert(id.clone(), params["symbol"].as_str().unwrap_or_default().to_owned());
                }
                self.accept(conn, message, &json!({"order_id": id}), now, out);
                let state = if fills { "filled" } else { "new" };
                let report = json!([{"order_id": id, "symbol": params["symbol"], "exec_type": state, "order_status": state}]);
                self.all_accounts("executions", &report, now, out);
                if fills {
                    self.all_accounts("balances", &json!([{"asset": "USD", "balance": 1}]), now, out);
                }
            }
            _ => {
                for id in list(&params["order_id"]) {
                    let Some(symbol) = self.orders.remove(&id) else {
                        self.refuse_with(conn, message, "EOrder:Unknown order", None, now, out);
                        continue;
                    };
                    self.accept(conn, message, &json!({"order_id": id}), now, out);
                    let report = json!([{"order_id": id, "symbol": symbol, "exec_type": "canceled", "order_status": "canceled"}]);
                    self.all_accounts("executions", &report, now, out);
                }
            }
        }
    }

    fn notice_loneliness(&mut self, conn: u64, now: Duration) {
        if let Some(state) = self.conns.get_mut(&conn).filter(|state| state.topics.is_empty()) {
            state.lonely = now;
        }
    }

    fn lonely_until(&self, conn: &Conn) -> Option<Duration> {
        conn.topics.is_empty().then(|| conn.lonely.saturating_add(self.rules.lonely))
    }

    fn beats_at(&self, conn: &Conn) -> Option<Duration> {
        let beats = !conn.topics.is_empty() && !self.faults.deaf && !conn.deaf;
        beats.then(|| conn.told.saturating_add(self.rules.heartbeat))
    }
}

fn book_message(kind: &str, symbol: &str, bids: &str, asks: &str, checksum: u32, stamp: &str) -> String {
    format!(
        r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":{bids},"asks":{asks},"checksum":{checksum},"timestamp":"{stamp}"}}]}}"#
    )
}

impl Script for Kraken {
    fn start(&mut self, wall: SystemTime) {
        self.wall = Wall::new(wall);
    }

    fn upgrade(&mut self, conn: u64, _: &Upgrade, now: Duration) -> Result<(), HttpResponse> {
        let state = Conn {
            arrived: Window::new(self.rules.messages, self.rules.span),
            lonely: now,
            told: now,
            deaf: false,
            topics: BTreeMap::new(),
            tokens: BTreeSet::new(),
        };
        self.conns.insert(conn, state);
        Ok(())
    }

    fn opened(&mut self, conn: u64, now: Duration, out: &mut Replies) {
        let status =
            json!({"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": conn});
        let message = json!({"channel": "status", "type": "update", "data": [status]});
        self.tell(conn, message.to_string(), now, out);
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if state.arrived.exceeds(1, now) {
            self.counts.excess += 1;
            out.punish_timing(conn, "too many messages");
            return self.tell(conn, json!({"Error": "Exceeded msg rate"}).to_string(), now, out);
        }
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        match at(&message, "method") {
            "ping" => {
                self.counts.pings += 1;
                let stamp = self.wall.rfc3339(now, 6);
                let pong = json!({"method": "pong", "req_id": message["req_id"], "time_in": stamp, "time_out": stamp});
                self.tell(conn, pong.to_string(), now, out);
            }
            "subscribe" | "unsubscribe" => self.subscribe(conn, &message, now, out),
            method @ ("add_order" | "cancel_order") => self.order(conn, method, &message, now, out),
            _ => {
                out.punish(conn, format!("a message that it does not know: {text}"));
                self.tell(conn, json!({"error": "Unsupported event"}).to_string(), now, out);
            }
        }
    }

    fn binary(&mut self, conn: u64, _: &[u8], _: Duration, out: &mut Replies) {
        out.punish(conn, "a binary message");
    }

    fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
        self.conns.remove(&conn);
    }

    fn http(&mut self, request: &HttpRequest, now: Duration) -> HttpResponse {
        self.tokens.http(request, now)
    }

    fn deadline(&self) -> Option<Duration> {
        let changes = self.conns.values().any(|conn| !conn.topics.is_empty()).then_some(self.next_tick);
        let lonely = self.conns.values().filter_map(|conn| self.lonely_until(conn));
        let beats = self.conns.values().filter_map(|conn| self.beats_at(conn));
        lonely.chain(beats).chain(changes).chain(self.agenda.deadline()).min()
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        while let Some((_, (conn, text))) = self.agenda.due(now) {
            self.tell(conn, text, now, out);
        }
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let lonely: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| due(self.lonely_until(conn))).map(|(id, _)| *id).collect();
        for conn in lonely {
            out.punish_timing(conn, "no subscription for too long");
            out.close(conn, 1000, "");
            self.conns.remove(&conn);
        }
        if self.next_tick <= now {
            self.change(now, out);
            self.next_tick = now + self.rules.tick;
        }
        let beats: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| due(self.beats_at(conn))).map(|(id, _)| *id).collect();
        for conn in beats {
            self.tell(conn, json!({"channel": "heartbeat"}).to_string(), now, out);
        }
    }
}
