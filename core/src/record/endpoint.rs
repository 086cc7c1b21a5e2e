//! What a provider gave, as data, without its secrets.

use crate::session::{AtExpiry, Endpoint, Refresh};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// An [`Endpoint`] as it is written to a record. The values of headers that [`Headers::is_secret`](crate::Headers::is_secret) names and of all
/// parameters are [`SECRET`](Self::SECRET), subprotocols that look like a token too. User and password of the URL are not there, its query is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as the methods of `Endpoint`")]
pub struct EndpointRecord {
    pub url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subprotocols: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
    /// The outer `None` is "as the configuration says", the inner "never".
    #[serde(default, skip_serializing_if = "Option::is_none", with = "double")]
    pub ping_interval: Option<Option<Duration>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pong_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "double")]
    pub heartbeat_interval: Option<Option<Duration>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<SystemTime>,
    pub refresh_after: f64,
    pub refresh: Refresh,
    pub at_expiry: AtExpiry,
}

impl EndpointRecord {
    /// What stands where a secret was.
    pub const SECRET: &'static str = "***";

    /// What is written of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        endpoint.recorded()
    }

    /// The endpoint, with [`SECRET`](Self::SECRET) for secrets.
    ///
    /// # Errors
    /// What of it is no endpoint.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        Endpoint::from_record(self)
    }
}

/// A pair, as JSON has only one `null`.
mod double {
    use super::Duration;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Option<Duration>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|inner| [inner]).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<Duration>>, D::Error> {
        Ok(Option::<[Option<Duration>; 1]>::deserialize(deserializer)?.map(|[inner]| inner))
    }
}
