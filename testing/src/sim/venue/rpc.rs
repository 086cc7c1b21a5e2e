//! What a venue makes of the texts that a client sends.

use super::super::model::{Blame, Saw};
use super::{NO_SUCH, Say, Venue, ws};
use serde_json::{Value, json};
use std::time::Duration;

/// The heartbeat that is to be answered with the method `test`, as on Deribit.
pub(super) const HEARTBEAT: &str =
    r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#;

/// The error of a call that there were no credits for.
pub(in crate::sim) const NO_CREDITS: i64 = 10028;

/// A call of the client.
struct Call {
    id: u64,
    method: String,
    params: Value,
}

impl Venue {
    /// A text arrived.
    pub(super) fn text(&mut self, conn: u64, text: &str) {
        match serde_json::from_str(text) {
            Ok(Value::Array(calls)) if calls.iter().all(Value::is_object) && !calls.is_empty() => {
                self.batch(conn, calls);
            }
            Ok(Value::Object(object)) if object.contains_key("jsonrpc") => {
                let value = Value::Object(object);
                match Call::parse(&value) {
                    Some(call) => {
                        if let Some(answer) = self.call(conn, call, text) {
                            self.say(conn, answer, self.habits.slow_answers);
                        }
                    }
                    // An answer to a request of ours, or a notification: the user's message.
                    None => self.message(conn, text),
                }
            }
            _ => self.message(conn, text),
        }
    }

    fn message(&mut self, conn: u64, text: &str) {
        self.saw(conn, Saw::Message { text: text.to_owned() });
        if self.is_stranger(conn) {
            self.close(conn, 4001, "who are you", Blame::Authentication);
        }
    }

    /// Several calls in one message. The answers come in one message too, the last first.
    fn batch(&mut self, conn: u64, calls: Vec<Value>) {
        let mut answers = Vec::new();
        for value in &calls {
            let Some(call) = Call::parse(value) else { continue };
            match self.call(conn, call, &value.to_string()) {
                Some(Say::Answer { id, text }) => answers.push((id, text)),
                Some(other) => self.say_now(conn, other),
                None => {}
            }
        }
        answers.reverse();
        if answers.is_empty() || self.speaker(conn).is_none() {
            return;
        }
        let texts: Vec<&str> = answers.iter().map(|(_, text)| text.as_str()).collect();
        self.send(conn, ws::text(&format!("[{}]", texts.join(","))));
        for (id, text) in answers {
            self.saw(conn, Saw::Answered { id, text });
        }
    }

    fn is_stranger(&self, conn: u64) -> bool {
        self.habits.token.is_some() && !self.conns.get(&conn).is_some_and(|open| open.authenticated)
    }

    /// What a call is answered with, if it is.
    fn call(&mut self, conn: u64, call: Call, text: &str) -> Option<Say> {
        let Call { id, method, params } = call;
        let own =
            ["subscribe", "unsubscribe", "test", self.habits.method_auth.as_str()].contains(&method.as_str());
        if !own {
            let params = params.to_string();
            self.saw(conn, Saw::Request { id, method: method.clone(), params });
        }
        if method == self.habits.method_auth {
            self.authenticate(conn, id, text);
            return None;
        }
        // A heartbeat may come, and be answered, before anybody knows who it is.
        if method == "test" {
            if let Some(open) = self.conns.get_mut(&conn) {
                open.heartbeat = None;
            }
            self.pays(conn);
            self.say_now(conn, result(id, &json!("ok")));
            return None;
        }
        if self.is_stranger(conn) {
            self.say_now(conn, error(id, 13009, "unauthorized"));
            self.close(conn, 4001, "authenticate first", Blame::Authentication);
            return None;
        }
        if !self.pays(conn) {
            self.say_now(conn, error(id, NO_CREDITS, "too_many_requests"));
            self.close(conn, 1008, "no credits", Blame::Limit);
            return None;
        }
        match method.as_str() {
            "subscribe" => {
                self.subscribe(conn, id, channels(&params));
                None
            }
            "unsubscribe" => Some(self.unsubscribe(conn, id, channels(&params))),
            "never" => None,
            _ => Some(match answer(&method, &params) {
                Ok(value) => result(id, &value),
                Err(code) => error(id, code, "as you like it"),
            }),
        }
    }

    fn authenticate(&mut self, conn: u64, id: u64, text: &str) {
        let rightly = self.habits.token.as_ref().is_none_or(|token| text.contains(token.as_str()));
        self.saw(conn, Saw::Authenticated { rightly });
        if let Some(open) = self.conns.get_mut(&conn) {
            open.authenticated = rightly;
        }
        if rightly {
            let text = result_text(id, &json!({"expires_in": 900}));
            return self.say(conn, Say::Admit { id, text }, self.habits.slow_auth);
        }
        self.say_now(conn, error(id, 13004, "invalid_credentials"));
        self.close(conn, 4001, "bad credentials", Blame::Authentication);
    }

    /// Takes a credit; false if there is none.
    fn pays(&mut self, conn: u64) -> bool {
        let (Some((capacity, per)), now) = (self.habits.credits, self.now) else { return true };
        let Some(open) = self.conns.get_mut(&conn) else { return true };
        let (left, since) = open.credits.unwrap_or_else(|| (f64::from(capacity), now));
        let back =
            f64::from(capacity) * now.saturating_sub(since).as_secs_f64() / per.as_secs_f64().max(1e-9);
        // What arithmetic rounds off must not cost a client its connection.
        let left = (left + back).min(f64::from(capacity)) - 1.0;
        open.credits = Some((left, now));
        left > -1e-6
    }

    fn rejects_topic(&self, topic: &str) -> bool {
        let rejected = |(name, until): &(String, Option<Duration>)| {
            name == topic && until.is_none_or(|until| self.now < until)
        };
        topic.starts_with(NO_SUCH) || self.habits.rejects.iter().any(rejected)
    }

    fn subscribe(&mut self, conn: u64, id: u64, topics: Vec<String>) {
        self.saw(conn, Saw::Asked { topics: topics.clone() });
        let several = topics.len() > 1;
        let (mut granted, mut denied) = (Vec::new(), Vec::new());
        let refused = several && self.chance(self.habits.refuses_batches);
        for topic in topics {
            let bad = refused || self.rejects_topic(&topic) || (several && self.chance(self.habits.partial));
            if bad { denied.push(topic) } else { granted.push(topic) }
        }
        for topic in &denied {
            self.saw(conn, Saw::Denied { topic: topic.clone() });
        }
        for topic in &granted {
            let fed = !self.chance(self.habits.dataless_acks);
            let after = self.market.newest(topic, self.habits.period, self.now);
            if let Some(open) = self.conns.get_mut(&conn) {
                open.topics.insert(topic.clone(), fed);
            }
            self.follow(topic);
            self.saw(conn, Saw::Granted { topic: topic.clone(), after });
        }
        let say = if granted.is_empty() {
            error(id, 11050, "bad_channel")
        } else {
            let text = result_text(id, &json!(granted));
            Say::Ack { id, topics: granted, asked: self.now, text }
        };
        if !self.chance(self.habits.lost_acks) {
            self.say(conn, say, self.habits.late_acks);
        }
    }

    fn unsubscribe(&mut self, conn: u64, id: u64, topics: Vec<String>) -> Say {
        let mut ended = Vec::new();
        for topic in topics {
            let Some(open) = self.conns.get_mut(&conn) else { break };
            if open.topics.remove(&topic).is_some() {
                ended.push(topic.clone());
            }
            self.saw(conn, Saw::Dropped { topic, by: Some(id) });
        }
        result(id, &json!(ended))
    }
}

impl Call {
    /// A call with a number as its id.
    fn parse(value: &Value) -> Option<Self> {
        let (id, method) = (value.get("id")?.as_u64()?, value.get("method")?.as_str()?);
        let params = value.get("params").cloned().unwrap_or(Value::Null);
        Some(Self { id, method: method.to_owned(), params })
    }
}

/// What the venue answers to a method: `echo` gives the parameters back, `add` adds the numbers in a list, and everything else fails with
/// code 7.
pub(in crate::sim) fn answer(method: &str, params: &Value) -> Result<Value, i64> {
    match method {
        "echo" => Ok(params.clone()),
        "add" => {
            let numbers = params.as_array().into_iter().flatten();
            Ok(json!(numbers.filter_map(Value::as_u64).fold(0, u64::wrapping_add)))
        }
        _ => Err(7),
    }
}

fn channels(params: &Value) -> Vec<String> {
    let list = params.get("channels").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn result_text(id: u64, result: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn result(id: u64, result: &Value) -> Say {
    Say::Answer { id, text: result_text(id, result) }
}

fn error(id: u64, code: i64, message: &str) -> Say {
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#);
    Say::Answer { id, text }
}
