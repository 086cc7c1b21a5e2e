//! The token service: `POST /api/v1/bullet-public` and `bullet-private`.

use super::super::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The token service of a scripted KuCoin. Clones are the same service, so that a provider in a simulation, which cannot ask over HTTP, can ask
/// it directly.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    issued: u64,
    known: BTreeMap<String, Token>,
    ping_interval: Duration,
    ping_timeout: Duration,
    life: Duration,
    key: Option<String>,
    down: bool,
    stale: u32,
    servers: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) private: bool,
    /// Counted from the start of the script.
    pub(super) expires: Duration,
    /// It was over when it was issued, which is not the client's fault.
    pub(super) stale: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            issued: 0,
            known: BTreeMap::new(),
            ping_interval: Duration::from_secs(18),
            ping_timeout: Duration::from_secs(10),
            life: Duration::from_secs(24 * 3600),
            key: None,
            down: false,
            stale: 0,
            servers: 1,
        }
    }
}

impl Tokens {
    /// What every token begins with, so that a test finds one that is shown.
    pub const MARK: &str = "hunter2";

    /// The body of the answer to a `POST` to this path, for a client that reached the venue by this name and port.
    pub fn issue(&self, path: &str, host: &str, now: Duration) -> String {
        self.answer(path, host, now).1.to_string()
    }

    /// How many tokens were issued.
    pub fn issued(&self) -> u64 {
        self.lock().issued
    }

    /// Answers 503, or does not any more.
    pub fn down(&self, down: bool) {
        self.lock().down = down;
    }

    /// The next so many tokens are over when they are issued.
    pub fn stale(&self, tokens: u32) {
        self.lock().stale = tokens;
    }

    /// What tokens say of pings from now on, in whole milliseconds.
    pub fn pings(&self, interval: Duration, timeout: Duration) {
        let mut state = self.lock();
        (state.ping_interval, state.ping_timeout) = (interval, timeout);
    }

    pub(super) fn life(&self, life: Duration) {
        self.lock().life = life;
    }

    pub(super) fn key(&self, key: String) {
        self.lock().key = Some(key);
    }

    pub(super) fn servers(&self, servers: usize) {
        self.lock().servers = servers.max(1);
    }

    /// For how long a client may be silent.
    pub(super) fn patience(&self) -> Duration {
        let state = self.lock();
        state.ping_interval + state.ping_timeout
    }

    pub(super) fn find(&self, token: &str) -> Option<Token> {
        self.lock().known.get(token).copied()
    }

    pub(super) fn http(&self, request: &HttpRequest, now: Duration) -> HttpResponse {
        let (path, header) = (request.path(), |name: &str| request.header(name));
        if request.method != "POST" || !path.starts_with("/api/v1/bullet-") {
            return refused(404, "404000", "Url Not Found");
        }
        if path.ends_with("-private") {
            let key = self.lock().key.clone();
            let rest = ["KC-API-SIGN", "KC-API-TIMESTAMP", "KC-API-PASSPHRASE"];
            match header("KC-API-KEY") {
                Some(given) if rest.iter().all(|name| header(name).is_some()) => {
                    if key.is_some_and(|key| key != given) {
                        return refused(401, "400003", "KC-API-KEY not exists");
                    }
                }
                _ => return refused(401, "400001", "Any of KC-API-KEY, KC-API-SIGN is missing"),
            }
        }
        let (status, body) = self.answer(path, header("Host").unwrap_or("localhost"), now);
        HttpResponse { status, ..HttpResponse::json(&body) }
    }

    fn answer(&self, path: &str, host: &str, now: Duration) -> (u16, Value) {
        let mut state = self.lock();
        if state.down {
            return (503, json!({"code": "503000", "msg": "Server is busy. Please retry later."}));
        }
        state.issued += 1;
        let stale = state.stale > 0;
        state.stale -= u32::from(stale);
        // With what a query must escape.
        let text = format!("{}-{}+/&==.x", Self::MARK, state.issued);
        let expires = if stale { Duration::ZERO } else { now.saturating_add(state.life) };
        let token = Token { private: path.ends_with("-private"), expires, stale };
        state.known.insert(text.clone(), token);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let server = |n: usize| {
            json!({
                "endpoint": format!("ws://{host}/endpoint{n}"), "encrypt": false, "protocol": "websocket",
                "pingInterval": ms(state.ping_interval), "pingTimeout": ms(state.ping_timeout),
            })
        };
        let servers: Vec<Value> = (0..state.servers).map(server).collect();
        (200, json!({"code": "200000", "data": {"token": text, "instanceServers": servers}}))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(status: u16, code: &str, message: &str) -> HttpResponse {
    HttpResponse { status, ..HttpResponse::json(&json!({"code": code, "msg": message})) }
}
