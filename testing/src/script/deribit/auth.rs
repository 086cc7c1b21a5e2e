//! Who is who, and for how long.

use super::{Answer, Refused, UNAUTHORIZED};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The time of a signature may be so many milliseconds old.
const SIGNATURE_AGE: u64 = 60_000;

/// The keys and tokens of an account.
#[derive(Debug)]
pub(super) struct Accounts {
    client_id: String,
    secret: String,
    pub(super) life: Duration,
    pub(super) lenient: bool,
    access: BTreeMap<String, Token>,
    refresh: BTreeMap<String, Token>,
    nonces: BTreeSet<String>,
    /// The token by which each connection is known.
    known: BTreeMap<u64, String>,
    count: u64,
}

#[derive(Debug, Clone)]
struct Token {
    /// The connection that it is of; `None` if it is of a session.
    conn: Option<u64>,
    scope: String,
    until: Duration,
}

impl Accounts {
    pub(super) fn new(client_id: &str, secret: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            secret: secret.to_owned(),
            life: Duration::from_secs(900),
            lenient: false,
            access: BTreeMap::new(),
            refresh: BTreeMap::new(),
            nonces: BTreeSet::new(),
            known: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn is_known(&self, conn: u64) -> bool {
        self.known.contains_key(&conn)
    }

    pub(super) fn expire(&mut self) {
        self.access.values_mut().for_each(|token| token.until = Duration::ZERO);
        self.refresh.clear();
    }

    /// Tokens of a connection end with it.
    pub(super) fn leave(&mut self, conn: u64) {
        self.known.remove(&conn);
        self.access.retain(|_, token| token.conn != Some(conn));
        self.refresh.retain(|_, token| token.conn != Some(conn));
    }

    pub(super) fn log_out(&mut self, conn: u64, invalidates: bool) {
        let Some(scope) =
            self.known.get(&conn).and_then(|name| self.access.get(name)).map(|token| token.scope.clone())
        else {
            return;
        };
        if invalidates {
            self.access.retain(|_, token| token.scope != scope);
            self.refresh.retain(|_, token| token.scope != scope);
        }
    }

    /// `public/auth`. `at` is the time of day in milliseconds.
    pub(super) fn log_in(&mut self, conn: u64, params: &Value, at: u64, now: Duration) -> Answer {
        let text = |name: &str| params[name].as_str().unwrap_or_default().to_owned();
        let asked = text("scope");
        let scope = match text("grant_type").as_str() {
            "client_credentials" => {
                if text("client_id") != self.client_id || text("client_secret") != self.secret {
                    return Err((13004, "invalid_credentials"));
                }
                asked
            }
            "client_signature" => {
                if text("client_id") != self.client_id {
                    return Err((13004, "invalid_credentials"));
                }
                let timestamp = params["timestamp"].as_u64().unwrap_or_default();
                let nonce = text("nonce");
                let signed = format!("{timestamp}\n{nonce}\n{}", text("data"));
                let fresh = at.abs_diff(timestamp) <= SIGNATURE_AGE && !nonce.is_empty();
                if !fresh || !self.signs(&signed, &text("signature")) || !self.nonces.insert(nonce) {
                    return Err(UNAUTHORIZED);
                }
                asked
            }
            "refresh_token" => {
                let known = self.refresh.get(&text("refresh_token"));
                known
                    .filter(|token| token.conn.is_none_or(|of| of == conn))
                    .ok_or(UNAUTHORIZED)?
                    .scope
                    .clone()
            }
            _ => return Err((11050, "bad_request")),
        };
        self.count += 1;
        let session = scope.split(' ').any(|part| part.starts_with("session:"));
        let scope =
            if session || scope.contains("connection") { scope } else { format!("connection {scope}") };
        let until = now.saturating_add(self.life);
        let token = Token { conn: (!session).then_some(conn), scope: scope.clone(), until };
        let names = [format!("{at}.access-{}", self.count), format!("{at}.refresh-{}", self.count)];
        let [access, refresh] = names;
        self.access.insert(access.clone(), token.clone());
        self.refresh.insert(refresh.clone(), token);
        self.known.insert(conn, access.clone());
        Ok(json!({
            "access_token": access,
            "expires_in": self.life.as_secs(),
            "refresh_token": refresh,
            "scope": format!("{} mainaccount", scope.trim()),
            "enabled_features": [],
            "token_type": "bearer",
        }))
    }

    fn signs(&self, text: &str, signature: &str) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else { return false };
        mac.update(text.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        hex == signature
    }

    /// The token that a call names, or that the connection is known by.
    fn token(&self, conn: u64, params: &Value) -> Option<&Token> {
        match params["access_token"].as_str() {
            Some(named) => self.access.get(named),
            // Only a session makes it needless.
            None => {
                let known = self.known.get(&conn).and_then(|name| self.access.get(name));
                known.filter(|token| self.lenient || token.conn.is_none())
            }
        }
    }

    /// Whether the token was good until some time ago.
    pub(super) fn names_expired(&self, conn: u64, params: &Value, now: Duration) -> bool {
        self.token(conn, params).is_some_and(|token| token.until <= now)
    }

    /// Whether this connection may call a private method.
    pub(super) fn authorize(
        &self,
        conn: u64,
        method: &str,
        params: &Value,
        now: Duration,
    ) -> Result<(), Refused> {
        let valid = |token: &&Token| token.until > now && token.conn.is_none_or(|of| of == conn);
        let token = self.token(conn, params).filter(valid).ok_or(UNAUTHORIZED)?;
        let orders = ["buy", "sell", "edit", "cancel", "close_position"];
        let trades = method
            .strip_prefix("private/")
            .is_some_and(|name| orders.iter().any(|verb| name.starts_with(verb)));
        let limited = token.scope.split(' ').any(|part| part == "trade:read" || part == "trade:none");
        if trades && limited { Err((13021, "forbidden")) } else { Ok(()) }
    }
}
