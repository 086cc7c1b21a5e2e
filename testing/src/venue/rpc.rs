//! Requests and responses (JSON-RPC 2.0).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tungstenite::Message;

use super::JsonRpcVenue;
use super::state::State;
use crate::ConnHandle;

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
// Deribit's own.
const INVALID_CREDENTIALS: i64 = 13004;
const UNAUTHORIZED: i64 = 13009;

type Outcome = Result<Value, (i64, String)>;

/// What a request leads to.
enum Action {
    Answer(Outcome),
    /// After the venue's delay, a change of the subscriptions whose result is the answer.
    Change(Change, Vec<String>),
    Silence,
}

#[derive(Clone, Copy)]
enum Change {
    Subscribe,
    Unsubscribe,
    UnsubscribeAll,
}

/// Whom to answer, about what.
struct Caller {
    /// `None`: nobody wants to know.
    id: Option<Value>,
    /// Microseconds since 1970.
    arrived: u64,
}

pub(super) fn handle(venue: &JsonRpcVenue, conn: &ConnHandle, message: &Message) {
    let data: &[u8] = match message {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(data) => data,
        _ => return,
    };
    let arrived = unix_micros();
    let answer = match serde_json::from_slice(data) {
        // Section 6: what is answered at once is answered in one message.
        Ok(Value::Array(requests)) if !requests.is_empty() => {
            let answers = requests.into_iter().filter_map(|request| carry_out(venue, conn, request, arrived));
            Some(Value::Array(answers.collect())).filter(|answers| answers != &json!([]))
        }
        Ok(request) => carry_out(venue, conn, request, arrived),
        Err(error) => Caller::nobody(arrived).response(Err((PARSE_ERROR, format!("Parse error: {error}")))),
    };
    if let Some(answer) = answer {
        conn.send_text(answer.to_string());
    }
}

/// The answer to a request, if there is one at once.
fn carry_out(venue: &JsonRpcVenue, conn: &ConnHandle, request: Value, arrived: u64) -> Option<Value> {
    let id = request.get("id").cloned();
    let valid_id = matches!(id, None | Some(Value::Null | Value::Number(_) | Value::String(_)));
    let method = match request["method"].as_str() {
        Some(method) if request["jsonrpc"] == "2.0" && valid_id => method.to_owned(),
        _ => {
            let invalid = (INVALID_REQUEST, "Invalid Request".to_owned());
            return Caller::nobody(arrived).response(Err(invalid));
        }
    };
    let params = request["params"].clone();
    venue.change(|state| state.log(conn, request));

    let caller = Caller { id, arrived };
    match dispatch(venue, conn, &method, &params) {
        Action::Answer(outcome) => return caller.response(outcome),
        Action::Silence => {}
        Action::Change(change, channels) => match venue.inner.config.ack_delay {
            None => apply(venue, conn, change, channels, &caller),
            Some(delay) => {
                let venue = venue.clone();
                conn.after(delay, move |conn| apply(&venue, conn, change, channels, &caller));
            }
        },
    }
    None
}

fn dispatch(venue: &JsonRpcVenue, conn: &ConnHandle, method: &str, params: &Value) -> Action {
    let config = &venue.inner.config;
    let private = method.starts_with("private/");
    if private && config.credentials.is_some() && !venue.state().is_authenticated(conn) {
        return Action::Answer(Err((UNAUTHORIZED, "unauthorized".to_owned())));
    }
    if let Some(custom) = config.methods.get(method) {
        return Action::Answer(custom(params));
    }
    match method {
        "public/subscribe" | "private/subscribe" => match channels(params) {
            Ok(channels) if venue.state().leaves_unanswered(&channels) => Action::Silence,
            Ok(channels) => Action::Change(Change::Subscribe, channels),
            Err(error) => Action::Answer(Err(error)),
        },
        "public/unsubscribe" | "private/unsubscribe" => match channels(params) {
            Ok(channels) => Action::Change(Change::Unsubscribe, channels),
            Err(error) => Action::Answer(Err(error)),
        },
        "public/unsubscribe_all" | "private/unsubscribe_all" => {
            Action::Change(Change::UnsubscribeAll, Vec::new())
        }
        "public/auth" => Action::Answer(authenticate(venue, conn, params)),
        "public/test" => Action::Answer(Ok(json!({"version": "1.2.26"}))),
        _ => Action::Answer(Err((METHOD_NOT_FOUND, "Method not found".to_owned()))),
    }
}

/// Changes and answers under one lock, so that no notification of a channel goes before its acknowledgement.
fn apply(venue: &JsonRpcVenue, conn: &ConnHandle, change: Change, channels: Vec<String>, caller: &Caller) {
    if !conn.is_open() {
        return;
    }
    venue.change(|state: &mut State| {
        let result = match change {
            Change::Subscribe => json!(state.subscribe(conn, channels)),
            Change::Unsubscribe => json!(state.unsubscribe(conn, channels)),
            Change::UnsubscribeAll => {
                state.unsubscribe_all(conn);
                json!("ok")
            }
        };
        caller.answer(conn, Ok(result));
    });
}

fn authenticate(venue: &JsonRpcVenue, conn: &ConnHandle, params: &Value) -> Outcome {
    let text = |name: &str| params[name].as_str().unwrap_or_default();
    let mut state = venue.state();
    let valid = match text("grant_type") {
        "client_credentials" => match &venue.inner.config.credentials {
            Some((id, secret)) => text("client_id") == id && text("client_secret") == secret,
            None => true,
        },
        "refresh_token" => state.is_refresh_token(text("refresh_token")),
        _ => return Err((INVALID_PARAMS, "Invalid params: unsupported grant_type".to_owned())),
    };
    if !valid {
        return Err((INVALID_CREDENTIALS, "invalid_credentials".to_owned()));
    }
    state.authenticate(conn);
    let (access, refresh) = state.issue_tokens();
    Ok(json!({
        "access_token": access,
        "expires_in": 31_536_000,
        "refresh_token": refresh,
        "scope": "connection",
        "token_type": "bearer",
    }))
}

fn channels(params: &Value) -> Result<Vec<String>, (i64, String)> {
    let names = params["channels"].as_array().map(|channels| {
        channels.iter().map(|channel| channel.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    names.flatten().ok_or_else(|| {
        (INVALID_PARAMS, "Invalid params: \"channels\" must be an array of strings".to_owned())
    })
}

impl Caller {
    /// Who cannot be told from his message.
    fn nobody(arrived: u64) -> Self {
        Self { id: Some(Value::Null), arrived }
    }

    fn answer(&self, conn: &ConnHandle, outcome: Outcome) {
        if let Some(response) = self.response(outcome) {
            conn.send_text(response.to_string());
        }
    }

    fn response(&self, outcome: Outcome) -> Option<Value> {
        let id = self.id.as_ref()?;
        let now = unix_micros();
        let mut response = json!({
            "jsonrpc": "2.0",
            "id": id,
            "usIn": self.arrived,
            "usOut": now,
            "usDiff": now.saturating_sub(self.arrived),
            "testnet": true,
        });
        match outcome {
            Ok(result) => response["result"] = result,
            Err((code, message)) => response["error"] = json!({"code": code, "message": message}),
        }
        Some(response)
    }
}

/// Microseconds since 1970.
pub(super) fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
