//! What the token service answers: `POST /0/private/GetWebSocketsToken`.

use super::PRIVATE_URL;
use crate::Secret;
use everwire_core::ws::UrlError;
use everwire_core::{Endpoint, ProviderError, Recovery, Refresh};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// Where to `POST` for a token, signed as any other request to the REST interface. The key needs the permission for WebSocket.
pub const GET_TOKEN: &str = "https://api.kraken.com/0/private/GetWebSocketsToken";
/// The name of the endpoint's parameter that holds the token.
pub const TOKEN: &str = "token";

/// A token for private channels and orders. It is never shown.
///
/// It must be used within its life, 15 min, and is good for as long as the connection lives on which it was used.
///
/// ```
/// use everwire_venues::kraken::Token;
///
/// let token = Token::parse(r#"{"error":[],"result":{"token":"WW91ciBhdXRo","expires":900}}"#)?;
/// assert!(!format!("{token:?} {:?}", token.endpoint()).contains("WW91ciBhdXRo"));
/// # Ok::<(), everwire_venues::kraken::TokenError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Token {
    token: Secret,
    life: Duration,
}

/// There is no token in what the token service said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not the JSON that the service is known to send. Holds where it is wrong, without its text.
    Unreadable(String),
    /// The service refused, with these errors, such as `EAPI:Invalid key`.
    Refused(Vec<String>),
}

impl Token {
    /// Reads the body of the answer to a `POST` to [`GET_TOKEN`].
    ///
    /// # Errors
    /// [`TokenError`] says what is missing.
    pub fn parse(json: &str) -> Result<Self, TokenError> {
        // The text may hold a token: only where it is wrong is told, not what stands there.
        let Answer { error, result } = serde_json::from_str(json).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            TokenError::Unreadable(format!("{:?} error at {at}", error.classify()))
        })?;
        if !error.is_empty() {
            let said =
                error.into_iter().take(MOST_ERRORS).map(|text| text.chars().take(LONGEST_ERROR).collect());
            return Err(TokenError::Refused(said.collect()));
        }
        let Some(Given { token, expires }) = result.filter(|given| !given.token.is_empty()) else {
            return Err(TokenError::Unreadable("no token".to_owned()));
        };
        Ok(Self { token: Secret::new(token), life: Duration::from_secs(expires.max(1)) })
    }

    /// As an endpoint at [`PRIVATE_URL`]. Ahead of the token's end the provider is asked for another one, which takes its place without
    /// anything being sent, so that a topic can be subscribed to at any time.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint_at(PRIVATE_URL).expect("the constant is a URL")
    }

    /// The same elsewhere, such as at [`BETA_PRIVATE_URL`](super::BETA_PRIVATE_URL).
    ///
    /// # Errors
    /// [`UrlError`] if it is no `ws://` or `wss://` URL.
    pub fn endpoint_at(&self, url: &str) -> Result<Endpoint, UrlError> {
        let endpoint = Endpoint::new(url)?.param(TOKEN, self.token.expose());
        Ok(endpoint.expires_in(self.life).refresh(Refresh::Parameters))
    }
}

const MOST_ERRORS: usize = 8;
const LONGEST_ERROR: usize = 256;

impl TokenError {
    /// What is to be done about it: stop if the key is wrong or has not the permission; wait if too much was asked; otherwise try again after the
    /// usual delay.
    pub fn recovery(&self) -> Option<Recovery> {
        let Self::Refused(errors) = self else { return None };
        let says = |words: &[&str]| errors.iter().any(|error| words.iter().any(|word| error.contains(word)));
        if says(&["Invalid key", "Invalid signature", "Permission denied"]) {
            Some(Recovery::Stop)
        } else if says(&["Rate limit", "Temporary lockout", "Throttled"]) {
            Some(Recovery::Backoff(Duration::from_secs(30)))
        } else {
            None
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what) => write!(f, "the token service's answer has no token: {what}"),
            Self::Refused(errors) => write!(f, "the token service refused: {}", errors.join(", ")),
        }
    }
}

// No `std::error::Error`: so that `?` in a provider keeps what is to be done about it.
impl From<TokenError> for ProviderError {
    fn from(error: TokenError) -> Self {
        let told = Self::new(error.to_string());
        match error.recovery() {
            Some(recovery) => told.recovery(recovery),
            None => told,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Vec<String>,
    result: Option<Given>,
}

#[derive(Deserialize)]
struct Given {
    token: String,
    #[serde(default = "fifteen_minutes")]
    expires: u64,
}

fn fifteen_minutes() -> u64 {
    900
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_becomes_an_endpoint_that_shows_nothing() {
        let token = Token::parse(r#"{"error":[],"result":{"token":"hunter2","expires":900}}"#).unwrap();
        assert_eq!(token.life.as_secs(), 900);
        let endpoint = token.endpoint();
        assert_eq!(endpoint.target().host(), "ws-auth.kraken.com");
        let elsewhere = token.endpoint_at("ws://127.0.0.1:1/v2").unwrap();
        assert!(token.endpoint_at("http://x/").is_err());
        let shown = format!("{token:?} {endpoint:?} {elsewhere:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(Token::parse(r#"{"result":{"token":"x"}}"#).unwrap().life.as_secs(), 900);
        assert_eq!(Token::parse(r#"{"result":{"token":"x","expires":0}}"#).unwrap().life.as_secs(), 1);
    }

    #[test]
    fn what_is_no_token_says_why_and_what_to_do() {
        let refused = |text: &str| Token::parse(&format!(r#"{{"error":["{text}"]}}"#)).unwrap_err();
        let error = refused("EAPI:Invalid key");
        assert_eq!(error.to_string(), "the token service refused: EAPI:Invalid key");
        assert_eq!(ProviderError::from(error).recovery, Some(Recovery::Stop));
        let wait = Some(Recovery::Backoff(Duration::from_secs(30)));
        assert_eq!(refused("EAPI:Rate limit exceeded").recovery(), wait);
        assert_eq!(refused("EService:Unavailable").recovery(), None);
        for text in [
            "",
            "[]",
            "{}",
            r#"{"result":{}}"#,
            r#"{"result":{"token":""}}"#,
            r#"{"error":[],"result":null}"#,
        ] {
            assert!(matches!(Token::parse(text), Err(TokenError::Unreadable(_))), "{text}");
        }
        let broken = format!("{:?}", Token::parse(r#"{"result":{"token":"hunter2","expires":"hunter2"}}"#));
        assert!(!broken.contains("hunter2"), "{broken}");
    }
}
