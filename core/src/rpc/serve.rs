//! What the server says and asks, typed.

use super::error::Unreadable;
use crate::handle::Client;
use crate::message::Message;
use crate::protocol::{OwnedRpcError, notified};
use crate::session::{Epoch, Event, OwnedEvent, SendError, SendId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;

/// What an event says, as far as a table of the server's methods is about it: [`Event`] and [`OwnedEvent`] turn into it by reference.
#[derive(Clone, Copy)]
pub struct Told<'e>(Is<'e>);

#[derive(Clone, Copy)]
enum Is<'e> {
    Request {
        id: &'e str,
        method: &'e str,
        params: Option<&'e str>,
        epoch: Epoch,
    },
    Notification {
        method: &'e str,
        params: Option<&'e str>,
    },
    /// Nothing that a table is about.
    Other,
}

impl<'e> Told<'e> {
    /// A notification is told as a message, whole.
    fn message(text: Option<&'e str>) -> Self {
        let notified = text.and_then(notified);
        Self(notified.map_or(Is::Other, |(method, params)| Is::Notification { method, params }))
    }
}

impl<'e> From<&'e OwnedEvent> for Told<'e> {
    fn from(event: &'e OwnedEvent) -> Self {
        match event {
            OwnedEvent::Message { message: tungstenite::Message::Text(text), .. } => {
                Self::message(Some(text))
            }
            OwnedEvent::Request { id, method, params, epoch } => {
                Self(Is::Request { id, method, params: params.as_deref(), epoch: *epoch })
            }
            _ => Self(Is::Other),
        }
    }
}

impl<'e> From<&'e Event<'_>> for Told<'e> {
    fn from(event: &'e Event<'_>) -> Self {
        match event {
            Event::Message { message: Message::Text(text), .. } => Self::message(Some(text)),
            Event::Request { id, method, params, epoch } => {
                Self(Is::Request { id, method, params: *params, epoch: *epoch })
            }
            _ => Self(Is::Other),
        }
    }
}

// What is said may hold secrets.
impl fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, method) = match self.0 {
            Is::Request { method, .. } => ("Request", Some(method)),
            Is::Notification { method, .. } => ("Notification", Some(method)),
            Is::Other => ("Other", None),
        };
        f.debug_struct("Told").field("kind", &kind).field("method", &method).finish_non_exhaustive()
    }
}

// For the macro.
#[doc(hidden)]
impl<'e> Told<'e> {
    /// The parameters, if it is a notification of this method.
    pub fn notification(&self, of: &str) -> Option<Option<&'e str>> {
        match self.0 {
            Is::Notification { method, params } if method == of => Some(params),
            _ => None,
        }
    }

    /// It, if it is a request of this method.
    pub fn request(&self, of: &'static str) -> Option<Asked<'e>> {
        match self.0 {
            Is::Request { id, method, params, epoch } if method == of => {
                Some(Asked { id, method: of, params, epoch })
            }
            _ => None,
        }
    }

    /// No table has it: a request is answered all the same.
    pub fn unknown<T>(&self, client: &Client) -> Option<Result<T, ServerError>> {
        let Is::Request { id, method, epoch, .. } = self.0 else { return None };
        let refusal = OwnedRpcError::new(OwnedRpcError::METHOD_NOT_FOUND, "Method not found");
        let answered = client.respond(epoch, id, Err(&refusal));
        Some(Err(ServerError::UnknownMethod { method: method.to_owned(), answered }))
    }
}

/// A request of the server whose method is known.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Asked<'e> {
    id: &'e str,
    method: &'static str,
    params: Option<&'e str>,
    epoch: Epoch,
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("method", &self.method).finish_non_exhaustive()
    }
}

#[doc(hidden)]
impl Asked<'_> {
    /// Its parameters, and what answers it. If they cannot be read it is answered with that.
    pub fn read<P: DeserializeOwned, R: ?Sized>(self, client: &Client) -> Result<(P, Reply<R>), ServerError> {
        match read(self.params) {
            Ok(params) => Ok((params, self.reply(client))),
            Err(error) => {
                let message = format!("Invalid params: {error}");
                let refusal = OwnedRpcError::new(OwnedRpcError::INVALID_PARAMS, message);
                let answered = client.respond(self.epoch, self.id, Err(&refusal));
                Err(ServerError::Params { method: self.method, error, answered: Some(answered) })
            }
        }
    }

    pub fn reply<R: ?Sized>(self, client: &Client) -> Reply<R> {
        let open = Open { client: client.clone(), epoch: self.epoch, id: self.id.to_owned() };
        Reply { method: self.method, open: Some(open), result: PhantomData }
    }
}

/// The parameters of a notification.
///
/// # Errors
/// They are not of this type.
#[doc(hidden)]
pub fn notified_params<P: DeserializeOwned>(
    method: &'static str,
    params: Option<&str>,
) -> Result<P, ServerError> {
    read(params).map_err(|error| ServerError::Params { method, error, answered: None })
}

/// None are none, or an object without members: a struct whose fields may all be missing.
fn read<P: DeserializeOwned>(params: Option<&str>) -> Result<P, Unreadable> {
    let text = params.unwrap_or("null");
    serde_json::from_str(text).or_else(|error| {
        let empty = params.is_none().then(|| serde_json::from_str("{}").ok()).flatten();
        empty.ok_or_else(|| Unreadable::new(text.to_owned(), &error))
    })
}

/// Answers one request of the server, with a result that is an `R` or with an error. One that is dropped without an answer answers with
/// [`OwnedRpcError::INTERNAL_ERROR`], as the server waits for it.
///
/// Like any [`Client`] it keeps the session alive.
#[must_use = "the server waits for the answer"]
pub struct Reply<R: ?Sized> {
    method: &'static str,
    /// `None`: it is answered.
    open: Option<Open>,
    result: PhantomData<fn(&R)>,
}

struct Open {
    client: Client,
    epoch: Epoch,
    id: String,
}

impl Open {
    fn respond(&self, result: Result<&str, &OwnedRpcError>) -> Result<SendId, ReplyError> {
        self.client.respond(self.epoch, &self.id, result).map_err(ReplyError::NotTaken)
    }
}

impl<R: ?Sized> Reply<R> {
    /// The method that was asked for.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Answers with a result.
    ///
    /// # Errors
    /// [`ReplyError`]. If the result cannot be written the server is told of an internal error.
    pub fn ok(mut self, result: &R) -> Result<SendId, ReplyError>
    where
        R: Serialize,
    {
        // If it cannot be written, the drop answers.
        let text = serde_json::to_string(result).map_err(|error| ReplyError::Result(error.to_string()))?;
        match self.open.take() {
            Some(open) => open.respond(Ok(&text)),
            None => Err(ReplyError::NotTaken(SendError::Gone)),
        }
    }

    /// Answers with an error.
    ///
    /// # Errors
    /// [`ReplyError::NotTaken`].
    pub fn error(mut self, error: impl Into<OwnedRpcError>) -> Result<SendId, ReplyError> {
        let error = error.into();
        match self.open.take() {
            Some(open) => open.respond(Err(&error)),
            None => Err(ReplyError::NotTaken(SendError::Gone)),
        }
    }

    /// Answers with one or the other.
    ///
    /// # Errors
    /// As [`ok`](Self::ok).
    pub fn send<E: Into<OwnedRpcError>>(self, result: Result<&R, E>) -> Result<SendId, ReplyError>
    where
        R: Serialize,
    {
        match result {
            Ok(result) => self.ok(result),
            Err(error) => self.error(error),
        }
    }

    /// Answers nothing: for who does that by other means, or who knows that the server does not wait.
    pub fn ignore(mut self) {
        self.open = None;
    }
}

impl<R: ?Sized> Drop for Reply<R> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let error = OwnedRpcError::new(OwnedRpcError::INTERNAL_ERROR, "Internal error");
            // If the connection is gone, so is who asked.
            let _ = open.respond(Err(&error));
        }
    }
}

impl<R: ?Sized> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("method", &self.method).finish_non_exhaustive()
    }
}

/// A request of the server could not be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// The result does not serialise: this is why. The server was told of an internal error.
    Result(String),
    /// The answer was not taken. [`SendError::Gone`]: the connection that it belongs to is lost.
    NotTaken(SendError),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Result(why) => write!(f, "the result cannot be written: {why}"),
            Self::NotTaken(error) => write!(f, "the answer was not taken: {error}"),
        }
    }
}

impl std::error::Error for ReplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Result(_) => None,
            Self::NotTaken(error) => Some(error),
        }
    }
}

/// What the server says or asks does not fit the table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerError {
    /// A request of a method that the table does not have. It was answered with [`OwnedRpcError::METHOD_NOT_FOUND`].
    UnknownMethod {
        /// The method.
        method: String,
        /// Whether that answer was taken.
        answered: Result<SendId, SendError>,
    },
    /// Parameters that are not of the type that the table says.
    Params {
        /// The method.
        method: &'static str,
        /// What is wrong with them.
        error: Unreadable,
        /// Whether the answer with [`OwnedRpcError::INVALID_PARAMS`] was taken; `None` for a notification, which has no answer.
        answered: Option<Result<SendId, SendError>>,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = match self {
            // As long as the server likes.
            Self::UnknownMethod { method, answered } => {
                write!(f, "the server asks for {method:.100}, which the table does not have")?;
                Some(answered)
            }
            Self::Params { method, error, answered } => {
                write!(f, "{method}: the server's parameters are not as the table says: {error}")?;
                answered.as_ref()
            }
        };
        match answered {
            Some(Err(error)) => write!(f, "; to tell it so was not taken: {error}"),
            Some(Ok(_)) => f.write_str("; it was told so"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::UnknownMethod { .. } => None,
            Self::Params { error, .. } => Some(error),
        }
    }
}
