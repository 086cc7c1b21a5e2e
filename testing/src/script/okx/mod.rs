//! OKX version 5, scripted: public, private and business addresses.
//!
//! Written from <https://www.okx.com/docs-v5/en/> ("WebSocket", "Error Code", 2026-07). What these do not say
//! and is guessed is told where it is done.
//!
//! What a client must not do, and what happens then:
//!
//! | what | what happens |
//! | --- | --- |
//! | more than 3 connections in a second | HTTP 429 |
//! | nothing said for 30 s to a client that does not ping | close 4004 |
//! | more than 480 logins, subscriptions and the opposite in an hour | error 60014 |
//! | arguments of more than 64 KB | close 1009 |
//! | a login that is wrong, late or repeated | error 60004 to 60032 |
//! | a private channel without a login | error 60011 |
//! | a channel at the wrong address, or that does not exist | error 60018 |
//! | a message that is none | error 60012 |
//!
//! What is the client's fault for certain is punished besides.

mod talk;
#[cfg(test)]
mod tests;
mod trade;

use super::kit::{Agenda, Channels, Tick, Ticker, Wall, Window, at};
use super::{HttpResponse, Replies, Reply, Script};
use crate::sim::ws::Upgrade;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};
use trade::Order;

const HOUR: Duration = Duration::from_secs(3600);
const SILENCE: Duration = Duration::from_secs(30);
/// Ticks of a book in which nothing changes: it is told all the same, with the number of before.
const QUIET: u64 = 5;
/// What an account's channels tell of, among the channels.
const ACCOUNT: &str = "account";

/// The venue.
#[derive(Debug)]
pub struct Venue {
    wall: Wall,
    ticker: Ticker,
    channels: Channels,
    conns: BTreeMap<u64, Conn>,
    agenda: Agenda<Task>,
    attempts: Window,
    keys: BTreeMap<String, Key>,
    /// Subscriptions that wait for their first message, which is a snapshot.
    fresh: BTreeSet<(u64, String)>,
    /// Books whose numbers began anew.
    reset: BTreeMap<String, Reset>,
    orders: Vec<Order>,
    // What is wrong with it for now.
    silent: bool,
    late: Duration,
    refuses: VecDeque<(u64, String)>,
    full: bool,
}

#[derive(Debug)]
struct Conn {
    path: Path,
    requests: Window,
    logged_in: bool,
    /// When something was last said to it.
    said: Duration,
    /// All that it subscribed to, by name, with the arguments.
    topics: BTreeMap<String, Value>,
}

/// From where the numbers of a book began anew.
#[derive(Debug, Clone, Copy, Default)]
struct Reset {
    /// After this tick, which was told with this number.
    tick: u64,
    told: u64,
    /// What is taken off since.
    base: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Public,
    Private,
    Business,
}

/// A key is not shown.
struct Key {
    secret: String,
    passphrase: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

#[derive(Debug)]
enum Task {
    /// Whether the connection has been silent for too long.
    Look(u64),
    End(u64),
    Say(u64, Value),
}

/// Code and message, and whether it is the client's fault for certain.
type Refusal = (u64, String, bool);

impl Default for Venue {
    fn default() -> Self {
        Self::new()
    }
}

impl Venue {
    /// A venue in which something happens every 250 ms in each channel.
    pub fn new() -> Self {
        Self {
            wall: Wall::default(),
            ticker: Ticker::new(Duration::from_millis(250)),
            channels: Channels::new(),
            conns: BTreeMap::new(),
            agenda: Agenda::new(),
            attempts: Window::new(3, Duration::from_secs(1)),
            keys: BTreeMap::new(),
            fresh: BTreeSet::new(),
            reset: BTreeMap::new(),
            orders: Vec::new(),
            silent: false,
            late: Duration::ZERO,
            refuses: VecDeque::new(),
            full: false,
        }
    }

    /// How often something happens in each channel.
    pub fn every(self, time: Duration) -> Self {
        Self { ticker: Ticker::new(time), ..self }
    }

    /// An API key.
    pub fn key(mut self, key: &str, secret: &str, passphrase: &str) -> Self {
        let known = Key { secret: secret.to_owned(), passphrase: passphrase.to_owned() };
        self.keys.insert(key.to_owned(), known);
        self
    }

    // ---- Faults.

    /// A change of a channel, such as `books:BTC-USDT`, is lost.
    pub fn skip(&mut self, topic: &str) {
        // One in which nothing changes would not be missed.
        self.ticker.skip(topic);
        if self.ticker.number(topic).is_multiple_of(QUIET) {
            self.ticker.skip(topic);
        }
    }

    /// The numbers of a book begin anew, as after maintenance.
    pub fn reset(&mut self, topic: &str) {
        let tick = self.ticker.number(topic);
        let last = seq_id(tick);
        let told = last - self.reset.get(topic).map_or(0, |reset| reset.base);
        self.reset.insert(topic.to_owned(), Reset { tick, told, base: last - 1 });
    }

    /// Subscriptions from now on are confirmed, and nothing comes of them; or it does, of those of before
    /// too.
    pub fn silent(&mut self, silent: bool) {
        self.silent = silent;
        if silent {
            return;
        }
        for (conn, open) in &self.conns {
            for topic in open.topics.keys() {
                if self.channels.subscribe(*conn, topic.clone()) {
                    self.fresh.insert((*conn, topic.clone()));
                }
            }
        }
    }

    /// Answers to subscriptions come so much later.
    pub fn late(&mut self, late: Duration) {
        self.late = late;
    }

    /// The next subscription is refused with this.
    pub fn refuse_next(&mut self, code: u64, message: &str) {
        self.refuses.push_back((code, message.to_owned()));
    }

    /// There are too many connections with a private channel: the next subscription to one is ended when it
    /// was confirmed.
    pub fn too_many_connections(&mut self) {
        self.full = true;
    }

    /// All connections are told that there is an upgrade, and end in this time. The real venue says so 60 s
    /// before.
    pub fn upgrade_in(&mut self, time: Duration, now: Duration, out: &mut Replies) {
        let said = json!({
            "event": "notice", "code": "64008", "connId": "a4d3ae55",
            "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
        });
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        for conn in conns {
            self.say(conn, &said, now, out);
            self.agenda.plan(now.saturating_add(time), Task::End(conn));
        }
    }

    // ---- Connections.

    fn say(&mut self, conn: u64, what: &Value, now: Duration, out: &mut Replies) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.said = now;
            out.json(conn, what);
        }
    }

    fn end(&mut self, conn: u64, how: Reply, out: &mut Replies) {
        self.forget(conn);
        out.push(conn, how);
    }

    fn forget(&mut self, conn: u64) {
        self.conns.remove(&conn);
        self.channels.leave(conn);
        self.fresh.retain(|(of, _)| *of != conn);
    }

    fn due(&mut self, task: Task, now: Duration, out: &mut Replies) {
        match task {
            Task::Look(conn) => {
                let Some(open) = self.conns.get(&conn) else { return };
                let end = open.said.saturating_add(SILENCE);
                if end > now {
                    return self.agenda.plan(end, Task::Look(conn));
                }
                out.punish_timing(conn, "no ping in 30 s in which nothing came");
                self.end(conn, Reply::Close(4004, "No data received in 30s".to_owned()), out);
            }
            // By a close frame without a word, as far as is known.
            Task::End(conn) if self.conns.contains_key(&conn) => {
                self.end(conn, Reply::Close(1001, String::new()), out);
            }
            Task::End(_) => {}
            Task::Say(conn, what) => self.say(conn, &what, now, out),
        }
    }

    // ---- What happens.

    fn tell(&mut self, tick: &Tick, now: Duration, out: &mut Replies) {
        for conn in self.channels.listeners(&tick.topic) {
            let Some(arg) = self.conns.get(&conn).and_then(|open| open.topics.get(&tick.topic)) else {
                continue;
            };
            let (channel, fresh) = (at(arg, "channel"), self.fresh.contains(&(conn, tick.topic.clone())));
            let mut said = json!({"arg": arg});
            if is_private(channel) {
                said["arg"]["uid"] = json!("614488474791936");
            }
            let ts = self.wall.millis(tick.at).to_string();
            let reset = self.reset.get(&tick.topic).copied().unwrap_or_default();
            let n = tick.number;
            said["data"] = match channel {
                "books" | "books-l2-tbt" | "books50-l2-tbt" => {
                    said["action"] = json!(if fresh { "snapshot" } else { "update" });
                    let (before, last) = (seq_id(n - 1), seq_id(n));
                    let seq = last - reset.base;
                    let prev = match (fresh, n - 1 == reset.tick && reset.base > 0) {
                        (true, _) => json!(-1),
                        // The one after a reset names what was before it.
                        (false, true) => json!(reset.told),
                        (false, false) => json!(before - reset.base),
                    };
                    let bids = if last == before && !fresh {
                        json!([])
                    } else {
                        json!([[format!("{}", 60_000 + n % 100), "1", "0", "1"]])
                    };
                    json!([{"asks": [], "bids": bids, "ts": ts, "prevSeqId": prev, "seqId": seq}])
                }
                "trades" | "trades-all" => {
                    let trade = at(arg, "instId");
                    json!([{"instId": trade, "tradeId": n.to_string(), "px": "60000.1", "sz": "0.1", "side": "buy", "ts": ts}])
                }
                _ => json!([{"instId": at(arg, "instId"), "last": "60000.1", "n": n, "ts": ts}]),
            };
            self.fresh.remove(&(conn, tick.topic.clone()));
            self.say(conn, &said, now, out);
        }
    }
}

impl Script for Venue {
    fn start(&mut self, wall: SystemTime) {
        self.wall = Wall::new(wall);
    }

    fn upgrade(&mut self, conn: u64, request: &Upgrade, now: Duration) -> Result<(), HttpResponse> {
        // That it is this status is a guess.
        if self.attempts.exceeds(1, now) {
            return Err(HttpResponse::status(429));
        }
        let path = match request.target.split('?').next().unwrap_or_default() {
            "/ws/v5/public" => Path::Public,
            "/ws/v5/private" => Path::Private,
            "/ws/v5/business" => Path::Business,
            _ => return Err(HttpResponse::status(404)),
        };
        let requests = Window::new(480, HOUR);
        let open = Conn { path, requests, logged_in: false, said: now, topics: BTreeMap::new() };
        self.conns.insert(conn, open);
        self.agenda.plan(now.saturating_add(SILENCE), Task::Look(conn));
        Ok(())
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        if !self.conns.contains_key(&conn) {
            return;
        }
        if text == "ping" {
            if let Some(open) = self.conns.get_mut(&conn) {
                open.said = now;
            }
            return out.text(conn, "pong");
        }
        if text.len() > 64 << 10 {
            out.punish(conn, "more than 64 KB");
            let reason = "Request message exceeds the maximum frame length";
            return self.end(conn, Reply::Close(1009, reason.to_owned()), out);
        }
        match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(said) => self.hear(conn, &Value::from(said), now, out),
            Err(_) => {
                out.punish(conn, format!("no JSON: {text:?}"));
                self.refuse(conn, None, 60012, &format!("Invalid request: {text}"), now, out);
            }
        }
    }

    fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
        self.forget(conn);
    }

    fn deadline(&self) -> Option<Duration> {
        [self.ticker.deadline(), self.agenda.deadline()].into_iter().flatten().min()
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        for tick in self.ticker.ticks(now) {
            self.tell(&tick, now, out);
        }
        while let Some((_, task)) = self.agenda.due(now) {
            self.due(task, now, out);
        }
    }
}

impl Key {
    fn sign(&self, text: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else {
            return String::new();
        };
        mac.update(text.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// The number of a book after so many ticks: in each fifth nothing changes.
fn seq_id(n: u64) -> u64 {
    1000 + 10 * (n - n / QUIET)
}

fn is_private(channel: &str) -> bool {
    matches!(channel, ACCOUNT | "orders" | "positions" | "balance_and_position" | "fills")
}
