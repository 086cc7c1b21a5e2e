//! What an application speaks over the socket.

mod jsonrpc;
mod plain;

pub use jsonrpc::{JsonRpc, OwnedRpcError, RpcError};
pub use plain::Plain;

use std::fmt;

/// What is spoken on top of WebSocket messages: how to subscribe, how to ask, and what an inbound message is.
///
/// Pure: it builds text and reads text, and the session does the rest (numbering, deadlines, restoring, pairing answers
/// with requests). Methods take `&self`, so that one value serves many sessions.
pub trait Protocol: fmt::Debug + Send + Sync {
    /// Whether inbound text means anything to this protocol. If not, [`classify`](Self::classify) is never called and messages reach
    /// the user unread.
    fn inspects(&self) -> bool {
        true
    }

    /// Says what an inbound text message is. It must not fail: what it does not know is [`Inbound::Message`].
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m>;

    /// Writes request `id` to `out`.
    ///
    /// # Errors
    /// [`Unsupported`] if the protocol has no requests or cannot say this one.
    fn request(&self, id: u64, request: &Request<'_>, out: &mut String) -> Result<(), Unsupported>;

    /// Most topics that one [`subscribe`](Self::subscribe) or [`unsubscribe`](Self::unsubscribe) may name. At least 1.
    fn topics_per_message(&self) -> usize;

    /// Writes a message that subscribes to all of `topics` to `out`, and says how its outcome is learnt.
    fn subscribe(&self, id: u64, topics: &[&Topic], out: &mut String) -> Ack;

    /// Writes a message that ends the subscriptions to all of `topics`. An empty `out` means that nothing needs to be sent.
    fn unsubscribe(&self, id: u64, topics: &[&Topic], out: &mut String) -> Ack;

    /// Whether the result of a subscribe message confirms this topic of it.
    fn confirms(&self, result: &str, topic: &Topic) -> bool;
}

/// What an inbound text message is. The texts are parts of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inbound<'m> {
    /// Data for the user, of this topic if the message names one.
    Message {
        /// The topic's name as the message has it.
        topic: Option<&'m str>,
    },
    /// The answer to request `id`.
    Response {
        /// The number that the request was sent with.
        id: u64,
        /// The result, or the error, as the protocol encodes it.
        result: Result<&'m str, &'m str>,
    },
}

/// How the outcome of a message is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// From the response with its id.
    Response,
    /// Not at all: sent is done.
    None,
}

/// The protocol cannot say that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// What it cannot say, and what to do instead.
    pub reason: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unsupported {}

/// A call that expects an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    name: String,
    subscribe: Option<String>,
    unsubscribe: Option<String>,
}

impl Topic {
    /// A topic that the protocol knows how to subscribe to. Under [`Plain`] the name itself is the message that is sent.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), subscribe: None, unsubscribe: None }
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
