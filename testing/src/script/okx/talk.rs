//! Logins and subscriptions.

use super::{Path, Refusal, Task, Venue, is_private};
use crate::script::Replies;
use crate::script::kit::at;
use serde_json::{Value, json};
use std::time::Duration;

impl Venue {
    pub(super) fn hear(&mut self, conn: u64, said: &Value, now: Duration, out: &mut Replies) {
        let id = said.get("id").cloned();
        let (op, args) = (at(said, "op"), said["args"].as_array().cloned());
        let Some(args) = args.filter(|_| is_id(id.as_ref())) else {
            out.punish(conn, format!("no request: {said}"));
            return self.refuse(conn, id.as_ref(), 60012, &format!("Invalid request: {said}"), now, out);
        };
        if matches!(op, "login" | "subscribe" | "unsubscribe") {
            let Some(open) = self.conns.get_mut(&conn) else { return };
            if !open.requests.allows(1, now) {
                out.punish_timing(conn, "more than 480 logins and subscriptions in an hour");
                return self.refuse(conn, id.as_ref(), 60014, "Requests too frequent", now, out);
            }
        }
        match op {
            "login" => {
                let answer = match self.log_in(conn, &args[..], now) {
                    Ok(()) => json!({"event": "login", "code": "0", "msg": "", "connId": "a4d3ae55"}),
                    Err((code, msg, fault)) => {
                        if fault {
                            out.punish(conn, msg.clone());
                        }
                        json!({"event": "error", "code": code.to_string(), "msg": msg, "connId": "a4d3ae55"})
                    }
                };
                self.say(conn, &answer, now, out);
            }
            "subscribe" | "unsubscribe" => {
                for arg in &args {
                    self.subscription(conn, op == "subscribe", id.as_ref(), arg, now, out);
                }
            }
            "order" | "cancel-order" => self.trade(conn, op, id.as_ref(), &args, now, out),
            _ => {
                out.punish(conn, format!("there is no {op}"));
                self.refuse(conn, id.as_ref(), 60019, &format!("Invalid op: {op}"), now, out);
            }
        }
    }

    pub(super) fn refuse(
        &mut self,
        conn: u64,
        id: Option<&Value>,
        code: u64,
        msg: &str,
        now: Duration,
        out: &mut Replies,
    ) {
        let answer = json!({"event": "error", "code": code.to_string(), "msg": msg, "connId": "a4d3ae55"});
        self.say(conn, &with_id(answer, id), now, out);
    }

    fn log_in(&mut self, conn: u64, args: &[Value], now: Duration) -> Result<(), Refusal> {
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        let refusal = |code, msg: &str, fault| Err((code, msg.to_owned(), fault));
        if open.logged_in {
            return refusal(
                60031,
                "The WebSocket endpoint does not allow multiple or repeated logins.",
                true,
            );
        }
        let [arg] = args else { return refusal(60013, "Invalid args", true) };
        let time = at(arg, "timestamp");
        let Ok(secs) = time.parse::<u64>() else { return refusal(60004, "Invalid timestamp", true) };
        if secs.abs_diff(self.wall.secs(now)) > 30 {
            return refusal(60006, "Timestamp request expired", false);
        }
        let Some(key) = self.keys.get(at(arg, "apiKey")) else {
            return refusal(60032, "API key doesn't exist.", false);
        };
        if at(arg, "passphrase") != key.passphrase {
            return refusal(60024, "Wrong passphrase", false);
        }
        if at(arg, "sign") != key.sign(&format!("{time}GET/users/self/verify")) {
            return refusal(60007, "Invalid sign", true);
        }
        open.logged_in = true;
        Ok(())
    }

    fn subscription(
        &mut self,
        conn: u64,
        begins: bool,
        id: Option<&Value>,
        arg: &Value,
        now: Duration,
        out: &mut Replies,
    ) {
        let event = if begins { "subscribe" } else { "unsubscribe" };
        let refused = if begins { self.refuses.pop_front() } else { None };
        let judged = match refused {
            Some((code, msg)) => Err((code, msg, false)),
            None => self.judge(conn, arg),
        };
        let answer = match &judged {
            Ok(_) => json!({"event": event, "arg": arg, "connId": "a4d3ae55"}),
            Err((code, msg, fault)) => {
                if *fault {
                    out.punish(conn, msg.clone());
                }
                json!({"event": "error", "code": code.to_string(), "msg": msg, "connId": "a4d3ae55"})
            }
        };
        let answer = with_id(answer, id);
        if self.late.is_zero() {
            self.say(conn, &answer, now, out);
        } else {
            self.agenda.plan(now.saturating_add(self.late), Task::Say(conn, answer));
        }
        let (Ok(topic), Some(open)) = (judged, self.conns.get_mut(&conn)) else { return };
        if !begins {
            open.topics.remove(&topic);
            self.channels.unsubscribe(conn, &topic);
            self.fresh.remove(&(conn, topic));
            return;
        }
        let channel = at(arg, "channel").to_owned();
        if is_private(&channel) && std::mem::take(&mut self.full) {
            let error = json!({"event": "channel-conn-count-error", "channel": channel, "connCount": "30", "connId": "a4d3ae55"});
            return self.say(conn, &error, now, out);
        }
        open.topics.insert(topic.clone(), arg.clone());
        self.ticker.open(&topic, now);
        if !self.silent {
            self.channels.subscribe(conn, topic.clone());
            self.fresh.insert((conn, topic));
        }
        if is_private(&channel) {
            let count = json!({"event": "channel-conn-count", "channel": channel, "connCount": "2", "connId": "a4d3ae55"});
            self.say(conn, &count, now, out);
        }
    }

    /// The name of what an argument asks for.
    fn judge(&self, conn: u64, arg: &Value) -> Result<String, Refusal> {
        let Some(open) = self.conns.get(&conn) else { return Err((64007, String::new(), false)) };
        let channel = at(arg, "channel");
        if channel.is_empty() {
            return Err((60012, format!("Invalid request: {arg}"), true));
        }
        let place = match channel {
            _ if is_private(channel) => Path::Private,
            _ if channel.starts_with("candle") || channel == "trades-all" => Path::Business,
            "books" | "books5" | "books-l2-tbt" | "books50-l2-tbt" | "bbo-tbt" | "tickers" | "trades" => {
                Path::Public
            }
            "mark-price" | "funding-rate" | "instruments" | "status" => Path::Public,
            _ => return Err((60018, doesnt_exist(arg), false)),
        };
        if place != open.path {
            return Err((60018, doesnt_exist(arg), false));
        }
        if is_private(channel) && !open.logged_in {
            return Err((60011, "Please log in".to_owned(), true));
        }
        if !is_private(channel)
            && channel != "status"
            && channel != "instruments"
            && at(arg, "instId").is_empty()
        {
            return Err((60018, doesnt_exist(arg), false));
        }
        let parts = ["channel", "instType", "instFamily", "instId"].map(|key| at(arg, key));
        Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(":"))
    }
}

/// Letters and digits, up to 32.
fn is_id(id: Option<&Value>) -> bool {
    id.is_none_or(|id| {
        let good =
            |id: &str| (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        id.as_str().is_some_and(good)
    })
}

pub(super) fn with_id(mut answer: Value, id: Option<&Value>) -> Value {
    if let Some(id) = id {
        answer["id"] = id.clone();
    }
    answer
}

fn doesnt_exist(arg: &Value) -> String {
    let parts: Vec<String> = ["channel", "instType", "instId"]
        .into_iter()
        .filter(|key| !at(arg, key).is_empty())
        .map(|key| format!("{key}:{}", at(arg, key)))
        .collect();
    format!(
        "Wrong URL or {} doesn't exist. Please use the correct URL, channel and parameters referring to API document.",
        parts.join(",")
    )
}
