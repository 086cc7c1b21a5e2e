//! What a user asks for, once or for as long as he likes.

#[cfg(doc)]
use super::Plain;
use std::fmt;

/// A call that expects an answer; to [`Client::notify`](crate::Client::notify), one that does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method's name.
    pub method: &'a str,
    /// Its parameters as JSON text; `None` sends none.
    pub params: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// A request without parameters.
    pub fn new(method: &'a str) -> Self {
        Self { method, params: None }
    }

    /// With parameters, as JSON text (`serde_json::to_string` makes it).
    pub fn params(self, json: &'a str) -> Self {
        Self { params: Some(json), ..self }
    }
}

/// What can be subscribed to: a name, which also finds the topic in inbound messages, and, for protocols that have no
/// subscribe message of their own, the messages to send.
/// It is written, to a record, with all that is said.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Topic {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subscribe: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unsubscribe: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    params: Option<String>,
}

impl Topic {
    /// A topic that the protocol knows how to subscribe to. Under [`Plain`] the name itself is the message that is sent.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), subscribe: None, unsubscribe: None, params: None }
    }

    /// What the protocol is to say of the subscription besides its name, in its own terms, such as JSON with the depth of a book.
    pub fn with_params(self, params: impl Into<String>) -> Self {
        Self { params: Some(params.into()), ..self }
    }

    /// What [`with_params`](Self::with_params) set.
    pub fn params(&self) -> Option<&str> {
        self.params.as_deref()
    }

    /// Sends `text` to subscribe, on each connection anew, instead of what the protocol would send. Used by [`Plain`].
    pub fn subscribe_with(self, text: impl Into<String>) -> Self {
        Self { subscribe: Some(text.into()), ..self }
    }

    /// Sends `text` to unsubscribe. Used by [`Plain`].
    pub fn unsubscribe_with(self, text: impl Into<String>) -> Self {
        Self { unsubscribe: Some(text.into()), ..self }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T: Into<String>> From<T> for Topic {
    fn from(name: T) -> Self {
        Self::new(name)
    }
}

// What is said may hold secrets.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

// What is said may hold secrets.
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.subscribe.is_some() || self.unsubscribe.is_some();
        f.debug_struct("Topic").field("name", &self.name).field("own_messages", &known).finish()
    }
}
