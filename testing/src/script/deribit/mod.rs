//! Deribit, as its documentation describes it: who is let in, what is answered, what is pushed, and what ends a connection.
//!
//! Sources: docs.deribit.com (API v2.1.1) and support.deribit.com, stored copies read 2026-11-21. What they do not say, and is decided here:
//! a connection that the venue ends gets no close frame; of heartbeats, each interval brings a `heartbeat` and a `test_request`, and the answer has
//! [`PATIENCE`]; orders fill against a top of the book that never moves, whole or not at all.

mod auth;
mod market;
mod orders;
#[cfg(test)]
mod tests;

use super::kit::{self, Agenda, Channels, Credits, Ticker, Wall};
use super::{HttpResponse, Replies, Reply, Script};
use crate::sim::ws::Upgrade;
use auth::Accounts;
use orders::Book;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// Where it is found.
pub const PATH: &str = "/ws/api/v2";
/// A key of its only account.
pub const CLIENT_ID: &str = "client-1";
/// The secret of that.
pub const CLIENT_SECRET: &str = "correct horse battery staple";
/// The time for an answer to a test request.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Most connections from one address.
const MAX_CONNECTIONS: usize = 32;
/// The longest message.
const MAX_REQUEST: usize = 32 << 10;
/// After so long without a request a connection is ended.
const INACTIVITY: Duration = Duration::from_secs(600);

/// An error: code and message.
type Refused = (i64, &'static str);
type Answer = Result<Value, Refused>;

const UNAUTHORIZED: Refused = (13009, "unauthorized");
const INVALID_PARAMS: Refused = (-32602, "Invalid params");

/// The venue.
#[derive(Debug)]
pub struct Deribit {
    wall: Wall,
    accounts: Accounts,
    book: Book,
    conns: BTreeMap<u64, Conn>,
    channels: Channels,
    ticker: Ticker,
    instruments: Vec<String>,
    /// Those of the address, for who is not logged in, and those of the account.
    pools: [Pools; 2],
    /// Orders of connections that are opened from now on are cancelled at their end.
    cancel_by_default: bool,
    later: Agenda<(u64, Value)>,
    ack_delay: Duration,
    quiet: BTreeSet<String>,
    skips: BTreeSet<String>,
    said: Vec<(u64, String)>,
}

#[derive(Debug, Default)]
struct Conn {
    last_request: Duration,
    ids: BTreeSet<String>,
    cancel: bool,
    /// How often, and when the next is due.
    heartbeat: Option<(Duration, Duration)>,
    /// By when a test request must be answered.
    test_by: Option<Duration>,
    /// The change that each book's channel told last.
    changes: BTreeMap<String, u64>,
}

/// What may be asked.
#[derive(Debug, Clone)]
struct Pools {
    requests: Credits,
    subscribe: Credits,
    instruments: Credits,
    matching: Credits,
}

impl Default for Pools {
    fn default() -> Self {
        Self {
            requests: Credits::new(50_000, 10_000),
            subscribe: Credits::new(30_000, 10_000),
            instruments: Credits::new(50, 1),
            matching: Credits::new(20, 5),
        }
    }
}

impl Pools {
    fn take(&mut self, method: &str, now: Duration) -> bool {
        match method {
            "public/subscribe" | "private/subscribe" => self.subscribe.take(3_000, now),
            "public/get_instruments" => self.instruments.take(1, now),
            method if MATCHING.contains(&method) => self.matching.take(1, now),
            _ => self.requests.take(500, now),
        }
    }
}

/// The list of the page on rate limits.
const MATCHING: &[&str] = &[
    "private/buy",
    "private/sell",
    "private/edit",
    "private/edit_by_label",
    "private/cancel",
    "private/cancel_by_label",
    "private/cancel_all",
    "private/cancel_all_by_currency",
    "private/cancel_all_by_instrument",
    "private/close_position",
];

impl Default for Deribit {
    fn default() -> Self {
        Self {
            wall: Wall::default(),
            accounts: Accounts::new(CLIENT_ID, CLIENT_SECRET),
            book: Book::default(),
            conns: BTreeMap::new(),
            channels: Channels::new(),
            ticker: Ticker::new(Duration::from_millis(100)),
            instruments: ["BTC-PERPETUAL", "ETH-PERPETUAL"].map(str::to_owned).to_vec(),
            pools: [Pools::default(), Pools::default()],
            cancel_by_default: false,
            later: Agenda::new(),
            ack_delay: Duration::ZERO,
            quiet: BTreeSet::new(),
            skips: BTreeSet::new(),
            said: Vec::new(),
        }
    }
}

impl Deribit {
    /// With `BTC-PERPETUAL` and `ETH-PERPETUAL`, in which something happens ten times a second, and tokens that hold for 900 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something happens in each instrument so often.
    pub fn tick_every(self, every: Duration) -> Self {
        Self { ticker: Ticker::new(every), ..self }
    }

    /// Tokens hold for so long, in whole seconds.
    pub fn expires_in(mut self, life: Duration) -> Self {
        self.accounts.life = Duration::from_secs(life.as_secs().max(1));
        self
    }

    /// Answers to subscriptions come so late, while the data already come.
    pub fn ack_delay(self, delay: Duration) -> Self {
        Self { ack_delay: delay, ..self }
    }

    /// Takes private requests without a token on a connection that is authenticated, also if its scope is `connection`.
    pub fn lenient(mut self) -> Self {
        self.accounts.lenient = true;
        self
    }

    /// Acknowledges this channel and pushes nothing on it, or does again.
    pub fn set_quiet(&mut self, channel: &str, quiet: bool) {
        if quiet {
            self.quiet.insert(channel.to_owned());
        } else {
            self.quiet.remove(channel);
        }
    }

    /// The next change of this book's channel is lost, for everybody.
    pub fn skip(&mut self, channel: &str) {
        self.skips.insert(channel.to_owned());
    }

    /// All tokens are over.
    pub fn expire_tokens(&mut self) {
        self.accounts.expire();
    }

    /// All credits for requests are used up, as if another program had done it.
    pub fn drain(&mut self, now: Duration) {
        for pools in &mut self.pools {
            let left = pools.requests.left(now);
            let _ = pools.requests.take(left, now);
        }
    }

    /// The orders that are open, as clients see them, oldest first.
    pub fn open_orders(&self) -> Vec<Value> {
        self.book.open().map(|order| order.to_json()).collect()
    }

    /// The state of an order: `open`, `filled` or `cancelled`; empty if there is none.
    pub fn order_state(&self, id: &str) -> &str {
        self.book.get(id).map_or("", |order| order.state)
    }

    /// The connections that are subscribed to a channel.
    pub fn listeners(&self, channel: &str) -> Vec<u64> {
        self.channels.listeners(channel)
    }

    /// All methods that were called, and on which connection, oldest first; the first 100,000.
    pub fn called(&self) -> &[(u64, String)] {
        &self.said
    }

    /// Ends a connection as the venue does when it is restarted.
    pub fn hang_up(&mut self, conn: u64, now: Duration, out: &mut Replies) {
        out.push(conn, Reply::Fin);
        self.over(conn, true, now, out);
    }

    fn request(&mut self, conn: u64, request: &Value, now: Duration, out: &mut Replies) {
        let id = request["id"].clone();
        let method = kit::at(request, "method").to_owned();
        if !id.is_u64() && !id.is_string() {
            out.punish(conn, format!("a request without an id: {method}"));
            return out.json(conn, &failure(&id, (-32600, "Invalid Request")));
        }
        if self.said.len() < 100_000 {
            self.said.push((conn, method.clone()));
        }
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.last_request = now;
        if !open.ids.insert(id.to_string()) {
            out.punish(conn, format!("the id {id} is used twice"));
        }
        let known = usize::from(self.accounts.is_known(conn));
        if !self.pools[known].take(&method, now) {
            out.punish_timing(conn, format!("too many requests: {method}"));
            out.json(conn, &failure(&id, (10028, "too_many_requests")));
            return self.hang_up(conn, now, out);
        }
        let params = match &request["params"] {
            Value::Null => json!({}),
            params if params.is_object() => params.clone(),
            // By position is not supported.
            _ => return out.json(conn, &failure(&id, INVALID_PARAMS)),
        };
        if method.starts_with("private/")
            && let Err(refused) = self.accounts.authorize(conn, &method, &params, now)
        {
            // What was on its way for long may have had a good token when it was sent.
            if self.accounts.names_expired(conn, &params, now) {
                out.punish_timing(conn, format!("{method} is refused: its token has expired"));
            } else {
                out.punish(conn, format!("{method} is refused: {}", refused.1));
            }
            return out.json(conn, &failure(&id, refused));
        }
        if method == "private/logout" {
            self.accounts.log_out(conn, params["invalidate_token"] != false);
            out.push(conn, Reply::Fin);
            return self.over(conn, false, now, out);
        }
        let subscribes = method.ends_with("/subscribe");
        let answer = self.answer(conn, &method, &params, now, out);
        let text = match answer {
            Ok(result) => {
                let us = self.wall.micros(now);
                json!({"jsonrpc": "2.0", "id": id, "result": result, "usIn": us, "usOut": us, "usDiff": 0, "testnet": true})
            }
            Err(refused) => failure(&id, refused),
        };
        if subscribes && !self.ack_delay.is_zero() {
            self.later.plan(now.saturating_add(self.ack_delay), (conn, text));
        } else {
            out.json(conn, &text);
        }
        if subscribes {
            self.snapshots(conn, now, out);
        }
        self.tell_orders(now, out);
    }

    fn answer(
        &mut self,
        conn: u64,
        method: &str,
        params: &Value,
        now: Duration,
        out: &mut Replies,
    ) -> Answer {
        match method {
            "public/auth" => self.log_in(conn, params, now, out),
            "public/test" => {
                if let Some(open) = self.conns.get_mut(&conn) {
                    open.test_by = None;
                }
                Ok(json!({"version": "1.2.26"}))
            }
            "public/hello" => Ok(json!({"version": "1.2.26"})),
            "public/get_time" => Ok(self.wall.millis(now).into()),
            "public/get_instruments" => {
                let one = |name: &String| json!({"instrument_name": name, "kind": "future", "tick_size": 0.5, "contract_size": 10.0});
                Ok(self.instruments.iter().map(one).collect())
            }
            "public/set_heartbeat" => self.set_heartbeat(conn, params, now),
            "public/disable_heartbeat" => {
                if let Some(open) = self.conns.get_mut(&conn) {
                    (open.heartbeat, open.test_by) = (None, None);
                }
                Ok("ok".into())
            }
            "private/enable_cancel_on_disconnect" => self.set_cancel(conn, params, true),
            "private/disable_cancel_on_disconnect" => self.set_cancel(conn, params, false),
            "private/get_cancel_on_disconnect" => {
                let enabled = self.conns.get(&conn).is_some_and(|open| open.cancel);
                Ok(json!({"scope": "connection", "enabled": enabled}))
            }
            "public/subscribe" | "private/subscribe" => {
                let private = method.starts_with("private/");
                let channels = channels_of(params)?;
                self.subscribe(conn, &channels, private, out)
            }
            "public/unsubscribe" | "private/unsubscribe" => {
                let channels = channels_of(params)?;
                let left = channels.into_iter().filter(|channel| self.unsubscribe(conn, channel));
                Ok(left.collect())
            }
            "public/unsubscribe_all" | "private/unsubscribe_all" => {
                let all: Vec<String> = self.channels.of(conn).map(str::to_owned).collect();
                all.iter().for_each(|channel| _ = self.unsubscribe(conn, channel));
                Ok("ok".into())
            }
            _ => {
                let at = self.wall.millis(now);
                let known = |name: &str| self.instruments.iter().any(|known| known == name);
                self.book.call(conn, method, params, at, &known)
            }
        }
    }

    fn set_heartbeat(&mut self, conn: u64, params: &Value, now: Duration) -> Answer {
        let every = params["interval"].as_f64().filter(|every| *every >= 10.0).ok_or(INVALID_PARAMS)?;
        let every = Duration::try_from_secs_f64(every).map_err(|_| INVALID_PARAMS)?;
        if let Some(open) = self.conns.get_mut(&conn) {
            open.heartbeat = Some((every, now.saturating_add(every)));
        }
        Ok("ok".into())
    }

    fn set_cancel(&mut self, conn: u64, params: &Value, cancel: bool) -> Answer {
        match params["scope"].as_str() {
            None | Some("connection") => {
                if let Some(open) = self.conns.get_mut(&conn) {
                    open.cancel = cancel;
                }
            }
            Some("account") => self.cancel_by_default = cancel,
            Some(_) => return Err(INVALID_PARAMS),
        }
        Ok("ok".into())
    }

    fn log_in(&mut self, conn: u64, params: &Value, now: Duration, out: &mut Replies) -> Answer {
        let at = self.wall.millis(now);
        let answer = self.accounts.log_in(conn, params, at, now);
        if let Err(refused) = answer {
            out.punish(conn, format!("the authentication is refused: {}", refused.1));
        }
        answer
    }

    /// The connection is no more.
    fn over(&mut self, conn: u64, cancels: bool, now: Duration, out: &mut Replies) {
        let Some(open) = self.conns.remove(&conn) else { return };
        self.channels.leave(conn);
        self.accounts.leave(conn);
        self.later.retain(|(other, _)| *other != conn);
        if cancels && open.cancel {
            let at = self.wall.millis(now);
            self.book.cancel_all(at, |order| order.conn == conn);
            self.tell_orders(now, out);
        }
    }

    fn beat(&mut self, now: Duration, out: &mut Replies) {
        let mut dead = Vec::new();
        for (&conn, open) in &mut self.conns {
            if open.test_by.is_some_and(|by| by <= now) {
                out.punish_timing(conn, "a test request was not answered");
                dead.push(conn);
            } else if now.saturating_sub(open.last_request) >= INACTIVITY {
                out.punish_timing(conn, "nothing was heard of it for ten minutes");
                dead.push(conn);
            } else if let Some((every, due)) = &mut open.heartbeat
                && *due <= now
            {
                *due = now.saturating_add(*every);
                open.test_by.get_or_insert_with(|| now.saturating_add(PATIENCE));
                for kind in ["heartbeat", "test_request"] {
                    out.json(
                        conn,
                        &json!({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": kind}}),
                    );
                }
            }
        }
        dead.into_iter().for_each(|conn| self.hang_up(conn, now, out));
    }
}

impl Script for Deribit {
    fn start(&mut self, wall: SystemTime) {
        self.wall = Wall::new(wall);
        for instrument in &self.instruments {
            self.ticker.open(instrument, Duration::ZERO);
        }
    }

    fn upgrade(&mut self, _: u64, request: &Upgrade, _: Duration) -> Result<(), HttpResponse> {
        if request.target != PATH {
            return Err(HttpResponse::status(404));
        }
        if self.conns.len() >= MAX_CONNECTIONS {
            return Err(HttpResponse::status(429));
        }
        Ok(())
    }

    fn opened(&mut self, conn: u64, now: Duration, _: &mut Replies) {
        let open = Conn { last_request: now, cancel: self.cancel_by_default, ..Conn::default() };
        self.conns.insert(conn, open);
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        if text.len() > MAX_REQUEST {
            out.punish(conn, "a message of more than 32 kB");
            return out.json(conn, &failure(&Value::Null, (-32600, "request entity too large")));
        }
        match kit::parse(text) {
            request if request.is_object() => self.request(conn, &request, now, out),
            Value::Null => {
                out.punish(conn, "a message that is no JSON");
                out.json(conn, &failure(&Value::Null, (-32700, "Parse error")));
            }
            _ => {
                out.punish(conn, "a message that is no request; batches are not supported");
                out.json(conn, &failure(&Value::Null, (-32600, "Invalid Request")));
            }
        }
    }

    fn binary(&mut self, conn: u64, _: &[u8], _: Duration, out: &mut Replies) {
        out.punish(conn, "a binary message");
        out.close(conn, 1003, "");
    }

    fn closed(&mut self, conn: u64, _: Option<u16>, now: Duration, out: &mut Replies) {
        self.over(conn, true, now, out);
    }

    fn deadline(&self) -> Option<Duration> {
        let beats = self.conns.values().flat_map(|open| {
            let quiet = open.last_request.saturating_add(INACTIVITY);
            [open.test_by, open.heartbeat.map(|(_, due)| due), Some(quiet)].into_iter().flatten()
        });
        beats.chain(self.ticker.deadline()).chain(self.later.deadline()).min()
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        while let Some((_, (conn, text))) = self.later.due(now) {
            out.json(conn, &text);
        }
        self.beat(now, out);
        for tick in self.ticker.ticks(now) {
            self.tick(&tick, out);
        }
    }
}

fn failure(id: &Value, (code, message): Refused) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}, "testnet": true})
}

fn channels_of(params: &Value) -> Result<Vec<String>, Refused> {
    if !params["channels"].is_array() {
        return Err(INVALID_PARAMS);
    }
    Ok(kit::list(&params["channels"]))
}
