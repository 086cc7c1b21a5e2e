//! Who we are, and how that is proved.

use super::wire::Tokens;
use crate::Secret;
use everwire_core::protocol::{Context, Unsupported};
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// How a connection is authenticated.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) client_id: String,
    pub(super) proof: Proof,
}

#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// `client_credentials`: the secret itself is sent.
    Secret(Secret),
    /// `client_signature`: something is signed with it.
    Signature { signer: Signer, data: String },
}

#[derive(Clone)]
pub(super) enum Signer {
    Key(Secret),
    Callback(Arc<Sign>),
}

pub(super) type Sign = dyn Fn(&str) -> Result<String, String> + Send + Sync;

// What a function of the user holds may be a secret.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Key(..)",
            Self::Callback(_) => "Callback(..)",
        })
    }
}

impl Credentials {
    /// The parameters of `public/auth`: by the refresh token of the connection's last authentication, if there was one, else from the
    /// credentials.
    pub(super) fn params(&self, id: u64, scope: &str, context: &Context<'_>) -> Result<Value, Unsupported> {
        let tokens = context.authenticated.and_then(Tokens::read);
        if let Some(refresh) = tokens.and_then(|tokens| tokens.refresh_token) {
            return Ok(json!({"grant_type": "refresh_token", "refresh_token": refresh}));
        }
        let mut params = match &self.proof {
            Proof::Secret(secret) => json!({
                "grant_type": "client_credentials",
                "client_id": self.client_id,
                "client_secret": secret.expose(),
            }),
            Proof::Signature { signer, data } => self.signed(id, signer, data, context)?,
        };
        if let Some(params) = params.as_object_mut()
            && !scope.is_empty()
        {
            params.insert("scope".to_owned(), scope.into());
        }
        Ok(params)
    }

    fn signed(
        &self,
        id: u64,
        signer: &Signer,
        data: &str,
        context: &Context<'_>,
    ) -> Result<Value, Unsupported> {
        let wall = context.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        // Each is used once: no request has the id of another on this session, and sessions do not begin at the same nanosecond.
        let nonce = format!("{:x}{id:x}", wall.as_nanos());
        let text = format!("{timestamp}\n{nonce}\n{data}");
        let signature = match signer {
            Signer::Key(secret) => secret.hmac_hex(&text),
            Signer::Callback(sign) => sign(&text).map_err(|reason| Unsupported {
                reason: format!(
                    "the signature for public/auth was refused by the function that makes it: {reason}"
                ),
            })?,
        };
        let mut params = Map::new();
        params.insert("grant_type".to_owned(), "client_signature".into());
        params.insert("client_id".to_owned(), self.client_id.as_str().into());
        params.insert("timestamp".to_owned(), timestamp.into());
        params.insert("signature".to_owned(), signature.into());
        params.insert("nonce".to_owned(), nonce.into());
        params.insert("data".to_owned(), data.into());
        Ok(params.into())
    }
}
