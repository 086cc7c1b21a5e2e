//! Tokens.
//!
//! The venue's are signed with ES256 or Ed25519; these with HMAC-SHA256, which takes no key pair. All else is as it is there.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The longest that a token may be good for, in seconds.
const LIFE: u64 = 120;
/// How much the client's clock may be ahead, in seconds.
const AHEAD: u64 = 5;

/// An API key, which makes tokens and knows its own. Clones are the same key.
#[derive(Debug, Clone)]
pub struct Key {
    name: String,
    secret: String,
    made: Arc<AtomicU64>,
}

impl Default for Key {
    fn default() -> Self {
        Self {
            name: "organizations/1/apiKeys/2".to_owned(),
            secret: "hunter2".to_owned(),
            made: Arc::new(AtomicU64::new(0)),
        }
    }
}

impl Key {
    /// A key that the venue does not know.
    pub fn stranger() -> Self {
        Self { secret: "swordfish".to_owned(), ..Self::default() }
    }

    /// A token that is good from this time of day on for so long.
    pub fn token(&self, wall: SystemTime, life: Duration) -> String {
        let from = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let nonce = self.made.fetch_add(1, Ordering::Relaxed);
        let header = json!({"alg": "ES256", "kid": self.name, "nonce": format!("{nonce:x}"), "typ": "JWT"});
        let claims =
            json!({"sub": self.name, "iss": "cdp", "nbf": from, "exp": from.saturating_add(life.as_secs())});
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(&signed));
        format!("{signed}.{signature}")
    }

    /// What is wrong with a token at this time of day, in seconds.
    pub(super) fn judge(&self, token: &str, at: u64) -> Result<(), &'static str> {
        let (signed, signature) = token.rsplit_once('.').ok_or("no token")?;
        let (header, claims) = signed.split_once('.').ok_or("no token")?;
        let (header, claims) = (
            decode(header).ok_or("a token without a header")?,
            decode(claims).ok_or("a token without claims")?,
        );
        if header["kid"] != *self.name || claims["sub"] != *self.name || claims["iss"] != "cdp" {
            return Err("a token of another key");
        }
        if URL_SAFE_NO_PAD.decode(signature).ok().as_deref() != Some(&self.sign(signed)) {
            return Err("a token whose signature is wrong");
        }
        let (Some(from), Some(until)) = (claims["nbf"].as_u64(), claims["exp"].as_u64()) else {
            return Err("a token without times");
        };
        match (from, until) {
            _ if until.saturating_sub(from) > LIFE => Err("a token that is good for more than 120 s"),
            _ if until <= at => Err("a token that is over"),
            _ if from > at + AHEAD => Err("a token that is not good yet"),
            _ => Ok(()),
        }
    }

    fn sign(&self, text: &str) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_judged() {
        let key = Key::default();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let token = key.token(start, Duration::from_secs(120));
        assert_ne!(token, key.token(start, Duration::from_secs(120)));
        assert_eq!(key.judge(&token, 1_000_119), Ok(()));
        assert_eq!(key.judge(&token, 1_000_120), Err("a token that is over"));
        assert_eq!(key.judge(&token, 999_994), Err("a token that is not good yet"));
        let long = key.token(start, Duration::from_secs(121));
        assert_eq!(key.judge(&long, 1_000_000), Err("a token that is good for more than 120 s"));
        let strange = Key::stranger().token(start, Duration::from_secs(120));
        assert_eq!(key.judge(&strange, 1_000_000), Err("a token whose signature is wrong"));
        let changed = token.replacen("eyJ", "eyK", 1);
        assert!(key.judge(&changed, 1_000_000).is_err());
        for nonsense in ["", "a.b", "a.b.c", "..", "...."] {
            assert!(key.judge(nonsense, 1_000_000).is_err(), "{nonsense}");
        }
    }
}
