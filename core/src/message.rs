//! Messages, borrowed; their owned form is tungstenite's [`tungstenite::Message`].

use crate::ws::Kind;

/// A text or binary message, borrowed from whoever holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8 text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The payload as bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text of a text message; `None` for a binary one.
    pub fn as_text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Payload length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Text or binary.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }

    /// A copy that owns its payload.
    pub fn to_owned(&self) -> tungstenite::Message {
        match self {
            Self::Text(text) => tungstenite::Message::text(*text),
            Self::Binary(bytes) => tungstenite::Message::binary(bytes.to_vec()),
        }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

/// An owned message is a data message or it cannot be sent: control frames are the session's own.
impl<'a> TryFrom<&'a tungstenite::Message> for Message<'a> {
    type Error = NotData;

    fn try_from(message: &'a tungstenite::Message) -> Result<Self, NotData> {
        match message {
            tungstenite::Message::Text(text) => Ok(Self::Text(text)),
            tungstenite::Message::Binary(bytes) => Ok(Self::Binary(bytes)),
            _ => Err(NotData),
        }
    }
}

/// The message is a close, ping, pong or raw frame: those are the session's to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotData;

impl std::fmt::Display for NotData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "only text and binary messages can be sent; pings and closes are the session's (use `close`)",
        )
    }
}

impl std::error::Error for NotData {}
