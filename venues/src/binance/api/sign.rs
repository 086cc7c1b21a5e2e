//! What requests need before they are sent: a timestamp, a key, a signature.

use crate::Secret;
use everwire_core::protocol::Unsupported;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Makes a signature of a text.
type Sign = dyn Fn(&str) -> Result<String, String> + Send + Sync;

/// Who asks.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) key: Secret,
    sign: Arc<Sign>,
    /// Whether the connection is logged on, so that requests need no signature.
    pub(super) logs_on: bool,
}

impl Credentials {
    pub(super) fn hmac(key: Secret, secret: Secret) -> Self {
        Self { key, sign: Arc::new(move |text| Ok(secret.hmac_hex(text))), logs_on: false }
    }

    pub(super) fn signer<E: Display>(
        key: Secret,
        sign: impl Fn(&str) -> Result<String, E> + Send + Sync + 'static,
        logs_on: bool,
    ) -> Self {
        Self { key, sign: Arc::new(move |text| sign(text).map_err(|error| error.to_string())), logs_on }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("logs_on", &self.logs_on).finish_non_exhaustive()
    }
}

/// What the venue asks of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    None,
    /// The key.
    Key,
    /// The key, the time and a signature.
    Signed,
}

impl Security {
    /// By the method's name, with or without a version before it (`v2/account.status`).
    pub(super) fn of(method: &str) -> Self {
        const SIGNED: [&str; 12] = [
            "order",
            "orderList",
            "openOrders",
            "openOrderLists",
            "sor",
            "account",
            "allOrders",
            "allOrderLists",
            "myTrades",
            "myPreventedMatches",
            "myAllocations",
            "algoOrder",
        ];
        let name = method.rsplit('/').next().unwrap_or(method);
        match name {
            "session.logon" | "userDataStream.subscribe.signature" | "myFilters" => Self::Signed,
            "userDataStream.start" | "userDataStream.ping" | "userDataStream.stop" => Self::Key,
            _ if SIGNED.contains(&name.split('.').next().unwrap_or(name)) => Self::Signed,
            _ => Self::None,
        }
    }
}

/// The parameters of a request, by their names: signed in that order.
pub(super) struct Params<'a>(BTreeMap<String, Part<'a>>);

enum Part<'a> {
    /// As the user wrote it.
    Given(&'a RawValue),
    Text(&'a str),
    Number(u128),
}

impl<'a> Params<'a> {
    pub(super) fn read(method: &str, params: Option<&'a str>) -> Result<Self, Unsupported> {
        let given: BTreeMap<String, &RawValue> = match params {
            Some(params) => serde_json::from_str(params).map_err(|_| Unsupported {
                reason: format!("the parameters of {method} are not a JSON object"),
            })?,
            None => BTreeMap::new(),
        };
        Ok(Self(given.into_iter().map(|(name, value)| (name, Part::Given(value))).collect()))
    }

    /// Adds what is asked for and not there. What was signed by somebody else stays as it is.
    pub(super) fn authorise(
        &mut self,
        security: Security,
        credentials: Option<&'a Credentials>,
        window: Option<Duration>,
        wall: SystemTime,
        logon: bool,
    ) -> Result<(), Unsupported> {
        if security == Security::None || self.0.contains_key("signature") {
            return Ok(());
        }
        let Some(credentials) = credentials else {
            let reason = "this needs an API key: BinanceApi::hmac, signer or ed25519".to_owned();
            return Err(Unsupported { reason });
        };
        if security == Security::Signed {
            // A clock before 1970 is told by the venue.
            let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.add("timestamp", Part::Number(now.as_millis()));
            if let Some(window) = window {
                self.add("recvWindow", Part::Number(window.as_millis()));
            }
            if credentials.logs_on && !logon {
                return Ok(());
            }
        }
        self.add("apiKey", Part::Text(credentials.key.expose()));
        Ok(())
    }

    /// Adds a signature of all that is there.
    pub(super) fn sign(&self, credentials: &Credentials) -> Result<String, Unsupported> {
        let mut text = String::new();
        for (name, part) in &self.0 {
            if !text.is_empty() {
                text.push('&');
            }
            let _ = write!(text, "{name}=");
            match part {
                Part::Text(value) => text.push_str(value),
                Part::Number(number) => drop(write!(text, "{number}")),
                Part::Given(value) => match serde_json::from_str::<String>(value.get()) {
                    Ok(value) => text.push_str(&value),
                    // The documents do not say how a list is signed.
                    Err(_) if value.get().starts_with(['[', '{']) => {
                        let reason = format!("{name} is a list or an object, which cannot be signed");
                        return Err(Unsupported { reason });
                    }
                    Err(_) => text.push_str(value.get()),
                },
            }
        }
        (credentials.sign)(&text)
            .map_err(|error| Unsupported { reason: format!("it cannot be signed: {error}") })
    }

    /// Whether the user, or nobody, signed it.
    pub(super) fn wants_signature(&self, security: Security) -> bool {
        security == Security::Signed && !self.0.contains_key("signature")
    }

    fn add(&mut self, name: &str, part: Part<'a>) {
        self.0.entry(name.to_owned()).or_insert(part);
    }

    /// As JSON, with the signature behind them.
    pub(super) fn write(&self, signature: Option<&str>, out: &mut String) {
        out.push('{');
        let mut first = true;
        let mut member = |name: &str, out: &mut String| {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            super::quote(name, out);
            out.push(':');
        };
        for (name, part) in &self.0 {
            member(name, out);
            match part {
                Part::Given(value) => out.push_str(value.get()),
                Part::Text(value) => super::quote(value, out),
                Part::Number(number) => drop(write!(out, "{number}")),
            }
        }
        if let Some(signature) = signature {
            member("signature", out);
            super::quote(signature, out);
        }
        out.push('}');
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
