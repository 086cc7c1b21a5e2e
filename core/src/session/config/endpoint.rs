//! Where to connect.

use crate::ws::{HeaderError, Headers, Target, UrlError};

/// Where to connect, and what to say there.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub(crate) target: Target,
    /// Sent besides, and in the place of, the headers of the [`Config`](super::Config).
    pub(crate) headers: Headers,
}

impl Endpoint {
    /// An endpoint by its URL.
    ///
    /// # Errors
    /// [`UrlError`] if it is no `ws://` or `wss://` URL.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self { target: Target::parse(url)?, headers: Headers::default() })
    }

    /// With this header, in the place of one of that name in the [`Config`](super::Config).
    ///
    /// # Errors
    /// [`HeaderError`] if the name or value cannot be sent.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HeaderError> {
        self.headers.append(name, value)?;
        Ok(self)
    }

    /// The URL's parts.
    pub fn target(&self) -> &Target {
        &self.target
    }
}
