//! What it hears, and what it says.

use super::super::kit::{Wall, Window, query};
use super::super::{HttpRequest, HttpResponse, Replies, Script};
use super::{Conn, Kucoin, Rules, Task, feed};
use crate::sim::ws::Upgrade;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

impl Kucoin {
    /// Ends a connection as it does, whatever the reason.
    fn bye(&mut self, conn: u64, out: &mut Replies) {
        out.close(conn, 1000, "Bye");
        self.conns.remove(&conn);
    }

    fn complain(&self, conn: u64, id: &str, code: u16, said: &str, out: &mut Replies) {
        out.json(conn, &json!({"id": id, "type": "error", "code": code, "data": said}));
    }

    /// The code and the words with which it refuses what subscribes, and whether that is the client's fault.
    fn judge(&self, conn: u64, message: &Value) -> Result<Vec<String>, (u16, String, bool)> {
        let fault = |code, said: &str| Err((code, said.to_owned(), true));
        let Some(topic) = message["topic"].as_str().filter(|topic| !topic.is_empty()) else {
            return fault(406, "topic is required");
        };
        let (path, list) = match topic.split_once(':') {
            Some((path, list)) => (path, Some(list)),
            None => (topic, None),
        };
        let symbols: Vec<&str> = list.map(|list| list.split(',').collect()).unwrap_or_default();
        if symbols.iter().any(|symbol| symbol.is_empty() || symbol.contains(':'))
            || symbols.len() > 1 && symbols.contains(&"all")
        {
            return fault(400, "topic is invalid");
        }
        if symbols.len() > self.rules.topics_per_message {
            return fault(509, "exceed max subscription count limitation of 100 per time");
        }
        let names: Vec<String> = match list {
            Some(_) => symbols.iter().map(|symbol| format!("{path}:{symbol}")).collect(),
            None => vec![path.to_owned()],
        };
        if let Some(code) = names.iter().find_map(|name| self.faults.refused.get(name)) {
            return Err((*code, format!("topic {topic} is refused"), false));
        }
        let Some(private) = feed::channel(path, list.is_some(), self.rules.market) else {
            return Err((404, "topic does not exist".to_owned(), false));
        };
        let Some(state) = self.conns.get(&conn) else { return fault(500, "system error") };
        if private && !state.private {
            return fault(403, "login is required");
        }
        Ok(names)
    }

    fn subscribe(&mut self, conn: u64, message: &Value, names: Vec<String>) -> Result<(), String> {
        let private = message["privateChannel"].as_bool().unwrap_or(false);
        let (most, ignores) = (self.rules.topics, self.faults.ignores_excess);
        let Some(state) = self.conns.get_mut(&conn) else { return Ok(()) };
        let new = names.iter().filter(|name| !state.topics.contains_key(*name)).count();
        if state.topics.len() + new > most && !ignores {
            return Err(format!("exceed max subscription count limitation of {most} per session"));
        }
        for name in names {
            if state.topics.len() < most {
                state.topics.insert(name, private);
            }
        }
        Ok(())
    }

    /// A message with a type and an id.
    fn command(
        &mut self,
        conn: u64,
        kind: &str,
        id: &str,
        message: &Value,
        now: Duration,
        out: &mut Replies,
    ) {
        let answer = |kind: &str| json!({"id": id, "type": kind}).to_string();
        match kind {
            "ping" => {
                self.counts.pings += 1;
                if !self.faults.deaf {
                    let micros = self.wall.micros(now);
                    out.json(conn, &json!({"id": id, "type": "pong", "timestamp": micros}));
                }
            }
            "subscribe" | "unsubscribe" => {
                let adds = kind == "subscribe";
                let counter = if adds { &mut self.counts.subscribes } else { &mut self.counts.unsubscribes };
                *counter += 1;
                let names = match self.judge(conn, message) {
                    Ok(names) => names,
                    Err((code, said, guilty)) => {
                        if guilty {
                            out.punish(conn, format!("{code} {said}: {message}"));
                        }
                        return self.complain(conn, id, code, &said, out);
                    }
                };
                if adds {
                    if let Err(said) = self.subscribe(conn, message, names) {
                        out.punish(conn, format!("509 {said}"));
                        return self.complain(conn, id, 509, &said, out);
                    }
                } else if let Some(state) = self.conns.get_mut(&conn) {
                    state.topics.retain(|topic, _| !names.contains(topic));
                }
                if message["response"] == true {
                    if self.faults.ack_delay.is_zero() {
                        out.text(conn, answer("ack"));
                    } else {
                        self.agenda.plan(now + self.faults.ack_delay, Task::Say(conn, answer("ack")));
                    }
                }
            }
            other => {
                out.punish(conn, format!("a message of type {other:?}"));
                self.complain(conn, id, 415, "command type is invalid", out);
            }
        }
    }

    /// Messages of all topics that anybody has.
    fn say_news(&mut self, now: Duration, out: &mut Replies) {
        let ms = self.wall.millis(now);
        let mut wanted: BTreeMap<(String, bool), Vec<u64>> = BTreeMap::new();
        for (id, conn) in &self.conns {
            for (topic, private) in &conn.topics {
                wanted.entry((topic.clone(), *private)).or_default().push(*id);
            }
        }
        for ((topic, said_private), conns) in wanted {
            let (path, symbol) =
                topic.split_once(':').map_or((&*topic, None), |(path, symbol)| (path, Some(symbol)));
            let private = feed::channel(path, symbol.is_some(), self.rules.market).unwrap_or(false);
            let silent = symbol.is_some_and(|symbol| !feed::exists(symbol, self.rules.market));
            if silent || said_private != private || self.faults.silent.contains(&topic) {
                continue;
            }
            let message = self.feed.next(&topic, private, ms).to_string();
            self.counts.data += conns.len() as u64;
            conns.iter().for_each(|conn| out.text(*conn, message.clone()));
        }
    }

    fn is_silent_at(&self, conn: &Conn) -> Duration {
        conn.heard.saturating_add(self.tokens.patience())
    }
}

impl Script for Kucoin {
    fn start(&mut self, wall: SystemTime) {
        self.wall = Wall::new(wall);
    }

    fn upgrade(&mut self, conn: u64, request: &Upgrade, now: Duration) -> Result<(), HttpResponse> {
        let token = self.tokens.find(&query(&request.target, "token").unwrap_or_default());
        let good = token.filter(|token| token.expires > now);
        if token.is_none_or(|token| token.expires <= now && !token.stale) {
            let what =
                if token.is_some() { "a token that is over" } else { "no token, or one that is not known" };
            self.agenda.plan(now, Task::Punish(conn, what));
        }
        if good.is_none() && !self.faults.in_band {
            return Err(HttpResponse::status(401));
        }
        let id = query(&request.target, "connectId").unwrap_or_default();
        let private = good.is_some_and(|token| token.private);
        let Rules { messages, span, .. } = self.rules;
        let state = Conn {
            id,
            private,
            good: good.is_some(),
            greeted: false,
            born: now,
            heard: now,
            arrived: Window::new(messages, span),
            ids: BTreeSet::new(),
            topics: BTreeMap::new(),
        };
        self.conns.insert(conn, state);
        Ok(())
    }

    fn opened(&mut self, conn: u64, now: Duration, out: &mut Replies) {
        let Some(id) = self.conns.get(&conn).map(|state| state.id.clone()) else { return };
        let twin = self.conns.iter().any(|(other, state)| *other != conn && state.id == id);
        if twin && !id.is_empty() {
            out.punish(conn, format!("the connectId {id:?} is in use"));
        }
        if self.faults.busy > 0 {
            self.faults.busy -= 1;
            self.complain(conn, &id, 509, "service busy, please retry later", out);
            return self.bye(conn, out);
        }
        if !self.faults.no_welcome {
            self.agenda.plan(now + self.rules.greets_after, Task::Welcome(conn));
        }
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        let Rules { messages, span, .. } = self.rules;
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.heard = now;
        if state.arrived.exceeds(1, now) {
            out.punish_timing(conn, format!("more than {messages} messages in {span:?}"));
            // The id is one of its own.
            self.complain(conn, "695cb272a02344126eb870a6", 509, "exceed max permits per second", out);
            return self.bye(conn, out);
        }
        if !state.greeted {
            out.punish(conn, "spoke before the welcome");
            return self.bye(conn, out);
        }
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            out.punish(conn, "a message that is no JSON");
            return self.complain(conn, "695cb272a02344126eb870a7", 400, "Unrecognized token", out);
        };
        let id = match &message["id"] {
            Value::String(id) if !id.is_empty() => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return out.punish(conn, format!("a message without id: {message}")),
        };
        if !state.ids.insert(id.clone()) {
            out.punish(conn, format!("the id {id:?} was used before"));
        }
        let kind = message["type"].as_str().unwrap_or_default().to_owned();
        self.command(conn, &kind, &id, &message, now, out);
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
        let ticks = self.conns.values().any(|conn| !conn.topics.is_empty()).then_some(self.next_tick);
        let silent = self.conns.values().map(|conn| self.is_silent_at(conn));
        let old = self.conns.values().map(|conn| conn.born.saturating_add(self.rules.life));
        let planned = self.agenda.deadline();
        silent.chain(old).chain(ticks).chain(planned).min()
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        while let Some((_, task)) = self.agenda.due(now) {
            match task {
                Task::Say(conn, text) => out.text(conn, text),
                Task::Punish(conn, why) => {
                    self.counts.bad_tokens += 1;
                    out.punish(conn, why);
                }
                Task::Welcome(conn) => {
                    let (in_band, wrong) = (self.faults.in_band, self.faults.wrong_welcome);
                    let Some(state) = self.conns.get_mut(&conn) else { continue };
                    let id = if wrong { "hQvf8jkno".to_owned() } else { state.id.clone() };
                    state.greeted = true;
                    if in_band && !state.good {
                        self.complain(conn, &id, 401, "token is invalid", out);
                        self.bye(conn, out);
                    } else {
                        out.json(conn, &json!({"id": id, "type": "welcome"}));
                    }
                }
            }
        }
        let old: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.born + self.rules.life <= now)
            .map(|(id, _)| *id)
            .collect();
        for conn in old {
            self.counts.aged += 1;
            self.bye(conn, out);
        }
        let silent: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| self.is_silent_at(conn) <= now).map(|(id, _)| *id).collect();
        for conn in silent {
            out.punish_timing(conn, "was silent for too long");
            out.json(conn, &json!({"type": "error", "code": 400, "data": "ping timeout"}));
            self.bye(conn, out);
        }
        if self.next_tick <= now {
            self.say_news(now, out);
            self.next_tick = now + self.rules.tick;
        }
    }
}
