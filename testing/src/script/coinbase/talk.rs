//! What it hears, and what it says.

use super::super::kit::{Wall, at, list, parse};
use super::super::{HttpResponse, Replies, Script};
use super::market::{OF_PRODUCTS, PRIVATE, called, events, exists};
use super::{Channel, Coinbase, Conn, PRODUCTS, Task, USER_PATH};
use crate::sim::ws::Upgrade;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// How long a client may be there without subscribing.
const PATIENCE: Duration = Duration::from_secs(5);
const BEAT: Duration = Duration::from_secs(1);

impl Coinbase {
    /// Says something that is numbered, or loses it.
    fn say(&mut self, conn: u64, channel: &str, events: Value, lost: bool, now: Duration, out: &mut Replies) {
        let timestamp = self.wall.rfc3339(now, 9);
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let number = state.next;
        state.next += 1;
        if lost {
            return;
        }
        if let Some(channel) = state.channels.get_mut(channel) {
            channel.active = now;
        }
        // In the venue's order.
        let head = json!(called(channel));
        out.text(
            conn,
            format!(
                r#"{{"channel":{head},"timestamp":"{timestamp}","sequence_num":{number},"events":{events}}}"#
            ),
        );
    }

    fn error(conn: u64, said: &str, out: &mut Replies) {
        out.json(conn, &json!({"type": "error", "message": said}));
    }

    fn end(&mut self, conn: u64, reason: &str, out: &mut Replies) {
        out.close(conn, 1008, reason);
        self.conns.remove(&conn);
    }

    fn list(&mut self, conn: u64, now: Duration, out: &mut Replies) {
        let Some(state) = self.conns.get(&conn) else { return };
        let names = |(name, channel): (&String, &Channel)| {
            let list = match name.as_str() {
                // One that is of no products lists itself, or whose it is.
                "heartbeats" => vec!["heartbeats".to_owned()],
                "user" | "futures_balance_summary" => vec!["4e6c0b2a-account".to_owned()],
                _ => channel.products.iter().cloned().collect(),
            };
            (name.clone(), list)
        };
        let lists: BTreeMap<String, Vec<String>> = state.channels.iter().map(names).collect();
        self.say(conn, "subscriptions", json!([{"subscriptions": lists}]), false, now, out);
    }

    /// A message of the client: what is refused, and whether that is its fault.
    fn obey(
        &mut self,
        conn: u64,
        wish: &Value,
        now: Duration,
        out: &mut Replies,
    ) -> Result<(), &'static str> {
        let adds = match at(wish, "type") {
            "subscribe" => true,
            "unsubscribe" => false,
            _ => return Err("failure: type is not known"),
        };
        if !wish["channels"].is_null() {
            return Err("failure: one channel in a message");
        }
        let channel = at(wish, "channel").to_owned();
        let is_user = self.conns.get(&conn).is_some_and(|conn| conn.user);
        let private = PRIVATE.contains(&channel.as_str());
        // As it was seen: of a channel that does not exist it says the same as of a token that is wrong.
        if !exists(&channel) || (is_user && !private && channel != "heartbeats") {
            return Err("authentication failure");
        }
        if let Some(token) = wish["jwt"].as_str() {
            if let Err(what) = self.key.judge(token, self.wall.secs(now)) {
                out.punish(conn, what);
                return Err("authentication failure");
            }
            if !self.tokens.insert(token.to_owned()) {
                out.punish(conn, "a token that was used before");
                return Err("authentication failure");
            }
            self.counts.authenticated += 1;
        } else if private {
            return Err("authentication failure");
        }
        let products = list(&wish["product_ids"]);
        let of_products = OF_PRODUCTS.contains(&channel.as_str());
        let unknown = products.iter().any(|product| !PRODUCTS.contains(&product.as_str()));
        if unknown && !self.faults.omits {
            return Err("failure: unknown product");
        }
        if of_products && products.is_empty() && adds {
            return Err("failure: product_ids is missing");
        }
        let known: Vec<String> =
            products.into_iter().filter(|product| PRODUCTS.contains(&product.as_str())).collect();
        let Some(state) = self.conns.get_mut(&conn) else { return Ok(()) };
        if adds {
            self.counts.subscribes += 1;
            state.begun = true;
            let entry = state.channels.entry(channel.clone()).or_default();
            entry.active = now;
            entry.products.extend(known.iter().cloned());
            if of_products && entry.products.is_empty() {
                state.channels.remove(&channel);
            }
        } else {
            self.counts.unsubscribes += 1;
            let entry = state.channels.entry(channel.clone()).or_default();
            entry.products.retain(|product| !known.contains(product));
            // Without products: all of it.
            if entry.products.is_empty() || known.is_empty() {
                state.channels.remove(&channel);
            }
        }
        if self.faults.lists_first {
            self.answer(conn, now, out);
        }
        if adds && channel != "heartbeats" {
            let topics = if of_products { known } else { vec![String::new()] };
            for product in topics {
                let topic = name(&channel, &product);
                self.open(&topic, now);
                let number = self.ticker.number(&topic).max(self.slow.number(&topic));
                let stamp = self.wall.rfc3339(now, 6);
                let state = events(&channel, &product, number, true, &stamp);
                self.say(conn, &channel, state, false, now, out);
            }
        }
        if !self.faults.lists_first {
            self.answer(conn, now, out);
        }
        Ok(())
    }

    fn answer(&mut self, conn: u64, now: Duration, out: &mut Replies) {
        if self.faults.list_delay.is_zero() {
            self.list(conn, now, out);
        } else {
            self.agenda.plan(now + self.faults.list_delay, Task::List(conn));
        }
    }

    fn open(&mut self, topic: &str, now: Duration) {
        if topic.ends_with("SLOW-USD") {
            self.slow.open(topic, now);
        } else {
            self.ticker.open(topic, now);
        }
    }

    fn tell(&mut self, topic: &str, number: u64, now: Duration, out: &mut Replies) {
        let (channel, product) = topic.split_once(':').unwrap_or((topic, ""));
        let lost = self.faults.lost.remove(topic);
        if self.faults.silent.contains(topic) {
            return;
        }
        let stamp = self.wall.rfc3339(now, 6);
        for conn in self.listeners(topic) {
            let news = events(channel, product, number, false, &stamp);
            self.say(conn, channel, news, lost, now, out);
        }
    }

    /// When the first channel is closed, if nothing comes in it.
    fn idle_at(&self, conn: &Conn) -> Option<Duration> {
        if conn.channels.contains_key("heartbeats") {
            return None;
        }
        conn.channels.values().map(|channel| channel.active + self.idle).min()
    }
}

fn name(channel: &str, product: &str) -> String {
    if product.is_empty() { channel.to_owned() } else { format!("{channel}:{product}") }
}

impl Script for Coinbase {
    fn start(&mut self, wall: SystemTime) {
        self.wall = Wall::new(wall);
    }

    fn upgrade(&mut self, conn: u64, request: &Upgrade, now: Duration) -> Result<(), HttpResponse> {
        let user = request.target == USER_PATH;
        let state = Conn { born: now, user, begun: false, next: 0, channels: BTreeMap::new() };
        self.conns.insert(conn, state);
        Ok(())
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        if !self.conns.contains_key(&conn) {
            return;
        }
        let wish = parse(text);
        if wish["jwt"].is_null() && self.arrived.exceeds(1, now) {
            out.punish_timing(conn, "more than 8 messages without a token in a second");
            Self::error(conn, "rate limit exceeded", out);
            return self.end(conn, "rate limit exceeded", out);
        }
        if let Err(said) = self.obey(conn, &wish, now, out) {
            out.punish(conn, format!("{said}: {}", at(&wish, "channel")));
            Self::error(conn, said, out);
        }
    }

    fn binary(&mut self, conn: u64, _: &[u8], _: Duration, out: &mut Replies) {
        out.punish(conn, "a binary message");
    }

    fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
        self.conns.remove(&conn);
    }

    fn deadline(&self) -> Option<Duration> {
        let idle = self.conns.values().filter_map(|conn| self.idle_at(conn));
        let late = self.conns.values().filter(|conn| !conn.begun).map(|conn| conn.born + PATIENCE);
        let beat = (!self.conns.is_empty()).then_some(self.next_beat);
        let planned = [self.agenda.deadline(), self.ticker.deadline(), self.slow.deadline(), beat];
        idle.chain(late).chain(planned.into_iter().flatten()).min()
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        while let Some((_, Task::List(conn))) = self.agenda.due(now) {
            self.list(conn, now, out);
        }
        let ticks: Vec<_> = self.ticker.ticks(now).into_iter().chain(self.slow.ticks(now)).collect();
        for tick in ticks {
            self.tell(&tick.topic, tick.number, now, out);
        }
        while self.next_beat <= now {
            self.next_beat = (self.next_beat + BEAT).max(now.saturating_sub(BEAT));
            self.beats += 1;
            let secs = self.wall.secs(now);
            let beat = json!([{"current_time": format!("{secs} UTC m=+1"), "heartbeat_counter": self.beats}]);
            let conns = if self.faults.no_beats { Vec::new() } else { self.listeners("heartbeats") };
            for conn in conns {
                self.say(conn, "heartbeats", beat.clone(), false, now, out);
            }
        }
        let late =
            |conn: &&u64| self.conns.get(conn).is_some_and(|conn| !conn.begun && conn.born + PATIENCE <= now);
        let late: Vec<u64> = self.conns.keys().filter(late).copied().collect();
        for conn in late {
            out.punish_timing(conn, "no subscription in 5 s");
            self.end(conn, "", out);
        }
        let quiet: Vec<u64> = self.conns.keys().copied().collect();
        for conn in quiet {
            let idle = self.idle;
            let Some(state) = self.conns.get_mut(&conn) else { continue };
            if state.channels.contains_key("heartbeats") {
                continue;
            }
            let before = state.channels.len();
            state.channels.retain(|_, channel| channel.active + idle > now);
            let closed = before - state.channels.len();
            if closed > 0 {
                self.counts.idle += closed as u64;
                out.punish(conn, format!("{closed} channels were idle, and there are no heartbeats"));
            }
        }
    }
}
