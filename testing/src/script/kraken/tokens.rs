//! The token service: `POST /0/private/GetWebSocketsToken`.

use super::super::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The token service of a scripted Kraken. Clones are the same service, so that a provider in a simulation, which cannot ask over HTTP, can
/// ask it directly.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    issued: u64,
    /// Until when each must be used first.
    known: BTreeMap<String, Duration>,
    /// In seconds; 0 is 900.
    life: u64,
    stale: u32,
    down: bool,
    key: Option<String>,
}

impl Tokens {
    /// What every token begins with, so that a test finds one that is shown.
    pub const MARK: &str = "hunter2";
    const PATH: &str = "/0/private/GetWebSocketsToken";

    /// The body of the answer to a `POST`.
    pub fn issue(&self, now: Duration) -> String {
        let mut state = self.lock();
        state.issued += 1;
        let token = format!("{}/{}+\"", Self::MARK, state.issued);
        let life = if state.life == 0 { 900 } else { state.life };
        let stale = state.stale > 0;
        state.stale -= u32::from(stale);
        let until = if stale { Duration::ZERO } else { now + Duration::from_secs(life) };
        state.known.insert(token.clone(), until);
        json!({"error": [], "result": {"token": token, "expires": life}}).to_string()
    }

    /// How many tokens were issued.
    pub fn issued(&self) -> u64 {
        self.lock().issued
    }

    /// Says that the service is not available, or is again.
    pub fn down(&self, down: bool) {
        self.lock().down = down;
    }

    /// The next so many tokens are over when they are issued.
    pub fn stale(&self, tokens: u32) {
        self.lock().stale = tokens;
    }

    pub(super) fn life(&self, seconds: u64) {
        self.lock().life = seconds;
    }

    pub(super) fn key(&self, key: String) {
        self.lock().key = Some(key);
    }

    /// Whether a token may be used for the first time.
    pub(super) fn is_good(&self, token: &str, now: Duration) -> bool {
        self.lock().known.get(token).is_some_and(|until| *until > now)
    }

    /// Whether it was over when it was issued, which is not the client's fault.
    pub(super) fn was_stale(&self, token: &str) -> bool {
        self.lock().known.get(token).is_some_and(Duration::is_zero)
    }

    pub(super) fn http(&self, request: &HttpRequest, now: Duration) -> HttpResponse {
        let error = |text: &str| HttpResponse::json(&json!({"error": [text]}));
        if request.method != "POST" || request.path() != Self::PATH {
            return HttpResponse { status: 404, ..error("EGeneral:Unknown method") };
        }
        if self.lock().down {
            return error("EService:Unavailable");
        }
        let key = self.lock().key.clone();
        match (request.header("API-Key"), request.header("API-Sign")) {
            (Some(given), Some(_)) if key.is_none_or(|key| key == given) => {
                let body: Value = serde_json::from_str(&self.issue(now)).unwrap_or_default();
                HttpResponse::json(&body)
            }
            (Some(_), Some(_)) => error("EAPI:Invalid key"),
            _ => error("EGeneral:Permission denied"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
