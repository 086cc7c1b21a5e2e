//! The streams.

use super::{Kind, Path, Route, Task, Venue, market};
use crate::script::Replies;
use crate::script::kit::{Tick, list, query};
use serde_json::{Value, json};
use std::time::Duration;

const METHODS: &str =
    "expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`";

impl Venue {
    /// Streams that the address names.
    pub(super) fn begin_with(&mut self, conn: u64, target: &str, now: Duration) {
        let path = target.split('?').next().unwrap_or_default();
        let named = match path.split_once("/ws/") {
            Some((_, names)) => names.to_owned(),
            None => query(target, "streams").unwrap_or_default(),
        };
        for name in named.split('/').filter(|name| !name.is_empty()) {
            if self.listen_keys.contains_key(name)
                && let Some(open) = self.conns.get_mut(&conn)
            {
                open.listen_key = Some(name.to_owned());
                continue;
            }
            self.add(conn, name, now);
        }
    }

    /// Whether data of a stream come on this connection at all.
    fn is_served(&self, conn: u64, stream: &str) -> bool {
        let what = stream.split('@').nth(1).unwrap_or_default();
        let book = what.contains("epth") || what.contains("bookTicker");
        let served = match self.conns.get(&conn).map(|open| open.path) {
            Some(Path::Streams { route: Route::All, .. }) => true,
            Some(Path::Streams { route: Route::Public, .. }) => book,
            Some(Path::Streams { route: Route::Market, .. }) => !book,
            _ => false,
        };
        let symbol = stream.split('@').next().unwrap_or_default();
        let upper = !symbol.starts_with('!') && symbol.chars().any(char::is_uppercase);
        served && !upper && self.is_known(stream)
    }

    fn add(&mut self, conn: u64, stream: &str, now: Duration) {
        self.ticker.open(stream, now);
        if !self.silent && self.is_served(conn, stream) {
            self.channels.subscribe(conn, stream);
        }
        // What is silent takes a place too.
        if let Some(open) = self.conns.get_mut(&conn) {
            open.session.streams.insert(stream.to_owned());
        }
    }

    /// What was silent has data again.
    pub(super) fn wake(&mut self) {
        let wanted = |(conn, open): (&u64, &super::Conn)| -> Vec<(u64, String)> {
            open.session.streams.iter().map(|stream| (*conn, stream.clone())).collect()
        };
        let all: Vec<(u64, String)> = self.conns.iter().flat_map(wanted).collect();
        for (conn, stream) in all {
            if self.is_served(conn, &stream) {
                self.channels.subscribe(conn, stream);
            }
        }
        self.conns.values_mut().for_each(|open| open.session.muted = false);
    }

    pub(super) fn stream_text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        let said: Value = match serde_json::from_str(text) {
            Ok(said) => said,
            Err(error) => {
                out.punish(conn, format!("no JSON: {text:?}"));
                let at = format!("at line {} column {}", error.line(), error.column());
                let msg = format!("Invalid JSON: expected value {at}");
                return out.json(conn, &json!({"code": 3, "msg": msg}));
            }
        };
        let id = &said["id"];
        let answered = self.judge_id(id).and_then(|()| match self.refused(&said) {
            Some((code, msg)) => Err((code, msg, false)),
            None => self.wish(conn, &said, now),
        });
        let answer = match answered {
            Ok(result) => json!({"result": result, "id": id}),
            Err((code, msg, fault)) => {
                if fault {
                    out.punish(conn, format!("{msg}: {text}"));
                }
                // Older servers answer with an `error` in it, newer ones without; both are seen.
                if self.kind == Kind::Spot {
                    json!({"code": code, "msg": msg, "id": id})
                } else {
                    json!({"error": {"code": code, "msg": msg}, "id": id})
                }
            }
        };
        if self.late.is_zero() {
            out.json(conn, &answer);
        } else {
            self.agenda.plan(now.saturating_add(self.late), Task::Say(conn, answer.to_string()));
        }
    }

    /// Only what asks for something is refused.
    fn refused(&mut self, said: &Value) -> Option<(i64, String)> {
        if said["method"] == "SUBSCRIBE" { self.refuses.pop_front() } else { None }
    }

    fn judge_id(&self, id: &Value) -> Result<(), (i64, String, bool)> {
        let good = match id {
            Value::Number(number) => number.is_u64() || (number.is_i64() && self.kind == Kind::Spot),
            Value::String(text) => {
                let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
                self.kind == Kind::Spot && text.len() <= 36 && plain
            }
            Value::Null => self.kind == Kind::Spot,
            _ => false,
        };
        let msg = "Invalid request: request ID must be an unsigned integer";
        if good { Ok(()) } else { Err((2, msg.to_owned(), true)) }
    }

    /// The result, or code and message of the error, and whether it is the client's fault for certain.
    fn wish(&mut self, conn: u64, said: &Value, now: Duration) -> Result<Value, (i64, String, bool)> {
        let fault = |msg: &str| Err((2, format!("Invalid request: {msg}"), true));
        let Some(method) = said["method"].as_str() else {
            return fault("missing field `method` at line 1 column 73");
        };
        let params = &said["params"];
        match method {
            "SUBSCRIBE" | "UNSUBSCRIBE" => {
                let streams = list(params);
                if streams.is_empty() || params.as_array().is_none_or(|all| all.len() != streams.len()) {
                    return fault("invalid params");
                }
                if streams.iter().any(|stream| stream.contains(char::is_whitespace) || !is_name(stream)) {
                    return Err((2, "Invalid request: invalid stream".to_owned(), false));
                }
                if let Some(upper) = streams.iter().find(|stream| {
                    let symbol = stream.split('@').next().unwrap_or_default();
                    stream.contains('@') && !symbol.starts_with('!') && symbol.chars().any(char::is_uppercase)
                }) {
                    return fault(&format!("a symbol in upper case, {upper}"));
                }
                for stream in &streams {
                    if method == "SUBSCRIBE" {
                        self.add(conn, stream, now);
                    } else {
                        self.channels.unsubscribe(conn, stream);
                        self.conns.get_mut(&conn).map(|open| open.session.streams.remove(stream));
                    }
                }
                let count = self.conns.get(&conn).map_or(0, |open| open.session.streams.len());
                if count > self.kind.streams() {
                    for stream in &streams {
                        self.channels.unsubscribe(conn, stream);
                        self.conns.get_mut(&conn).map(|open| open.session.streams.remove(stream));
                    }
                    // How the venue says so is not documented.
                    return fault(&format!("more than {} streams", self.kind.streams()));
                }
                Ok(Value::Null)
            }
            "LIST_SUBSCRIPTIONS" => Ok(json!(self.conns.get(&conn).map(|open| &open.session.streams))),
            "SET_PROPERTY" | "GET_PROPERTY" => match (params[0].as_str(), &params[1]) {
                (None, _) => fault("property name must be a string"),
                (Some("combined"), value) => self.property(conn, method == "SET_PROPERTY", value),
                (Some(_), _) => Err((0, "Unknown property".to_owned(), true)),
            },
            _ => fault(&format!("unknown variant `{method}`, {METHODS} at line 1 column 28")),
        }
    }

    fn property(&mut self, conn: u64, set: bool, value: &Value) -> Result<Value, (i64, String, bool)> {
        let Some(Path::Streams { combined, .. }) = self.conns.get_mut(&conn).map(|open| &mut open.path)
        else {
            return Ok(Value::Null);
        };
        match value.as_bool() {
            _ if !set => Ok(json!(*combined)),
            Some(value) => {
                *combined = value;
                Ok(Value::Null)
            }
            None => Err((1, "Invalid value type: expected Boolean".to_owned(), true)),
        }
    }

    /// Something happened: who listens is told.
    pub(super) fn tell(&self, tick: &Tick, out: &mut Replies) {
        for conn in self.channels.listeners(&tick.topic) {
            let Some(open) = self.conns.get(&conn) else { continue };
            let payload = market::payload(self.kind, tick, self.wall, open.micros);
            let combined = matches!(open.path, Path::Streams { combined: true, .. });
            let said = if combined { json!({"stream": tick.topic, "data": payload}) } else { payload };
            out.json(conn, &said);
        }
    }

    /// How many changes the book of a symbol had, by the stream that had most.
    pub(super) fn newest(&self, symbol: &str) -> u64 {
        ["depth", "depth@100ms", "depth@500ms"]
            .into_iter()
            .map(|what| self.ticker.number(&format!("{symbol}@{what}")))
            .max()
            .unwrap_or(0)
    }
}

/// `symbol@what`, `!what@arr`, `!what`, or a listen key.
fn is_name(stream: &str) -> bool {
    let name = stream.strip_prefix('!').unwrap_or(stream);
    !name.is_empty() && !name.starts_with('@') && !name.ends_with('@') && !name.contains('"')
}
