//! What the server says and what is said to it, as a protocol tells them apart.

use super::Name;
#[cfg(doc)]
use super::Protocol;
use crate::error::Recovery;
use crate::session::Sequence;
use std::time::Duration;

/// What an inbound text message is. The texts are parts of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inbound<'m> {
    /// Data for the user, of this topic if the message names one.
    Message {
        /// The topic's name as the message has it.
        topic: Option<Name<'m>>,
        /// Its place in the topic's order, if the message tells.
        sequence: Option<Sequence>,
        /// When the server sent it, since the Unix epoch, if the message tells.
        sent: Option<Duration>,
    },
    /// The answer to request `id`.
    Response {
        /// The number that the request was sent with.
        id: u64,
        /// The result, or the error, as the protocol encodes it.
        result: Result<&'m str, &'m str>,
    },
    /// Several messages in one: see [`Protocol::item`].
    Batch,
    /// The server says of one topic that it is subscribed to, or that it will not be.
    Subscribed {
        /// The topic's name.
        topic: Name<'m>,
        /// The id of the message that asked for it, if the server repeats it.
        id: Option<u64>,
        /// The error if it will not be, as the protocol encodes it.
        result: Result<(), &'m str>,
    },
    /// The server says of one topic that it is not subscribed to any more, whether that was asked for or not.
    Unsubscribed {
        /// The topic's name.
        topic: Name<'m>,
    },
    /// The server lists what is subscribed to: of the topics that it was asked for and that have no outcome yet, those are in force that
    /// [`Protocol::confirms`] finds in the text. It says nothing of those that it does not name: they may be in the next list. Nor does
    /// it answer an unsubscribe message; where nothing else does, that is [`Ack::None`]. A topic that was given up and asked for again is
    /// confirmed by a list that names it from before: where the server says of each topic what became of it, prefer [`Inbound::Subscribed`].
    Confirmed(&'m str),
    /// The server refuses what it was asked, without an id. It is meant for the first subscribe message with [`Ack::Separate`] that has topics
    /// without an outcome, those that were given up meanwhile included, and of those one that it is about ([`Protocol::refuses`]) if there is
    /// any; it is then what an error response to that would be. If there is none, the user is told, as by a notice.
    Refused(&'m str),
    /// The outcome of an authentication, without an id: the result, or the error, as the protocol encodes it. If none is awaited, the user is
    /// told of an error as by a notice.
    Authenticated(Result<&'m str, &'m str>),
    /// The server asks something of the client.
    Request {
        /// Its id, as the server wrote it.
        id: &'m str,
        /// The method.
        method: &'m str,
        /// The parameters, as the protocol encodes them.
        params: Option<&'m str>,
    },
    /// The server's first word, if it speaks first ([`Protocol::greets`]), for [`Protocol::greeting`] to look at; later ones mean nothing. The user
    /// is not told.
    Greeting,
    /// A heartbeat of the server: [`Protocol::heartbeat_reply`] answers it. The user is not told.
    Heartbeat,
    /// The answer to a heartbeat of ours that has no id. The user is not told.
    HeartbeatAnswer,
    /// The server says something about the connection: that it will go down, that too much was sent.
    Notice {
        /// What it says.
        text: &'m str,
        /// What the session is to do about it.
        recovery: Option<Recovery>,
    },
}

impl<'m> Inbound<'m> {
    /// Data for the user, with nothing known but its topic.
    pub fn data(topic: Option<impl Into<Name<'m>>>) -> Self {
        Self::Message { topic: topic.map(Into::into), sequence: None, sent: None }
    }

    /// Data for the user that is of no topic.
    pub fn other() -> Self {
        Self::Message { topic: None, sequence: None, sent: None }
    }
}

/// How the outcome of a message is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// From the response with its id.
    Response,
    /// From messages of its own: an [`Inbound::Subscribed`] or [`Inbound::Unsubscribed`] for each topic, an [`Inbound::Confirmed`], an
    /// [`Inbound::Authenticated`].
    Separate,
    /// Not at all: sent is done.
    None,
}

/// What is sent, for [`Protocol::cost`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Traffic<'a> {
    /// A ping (RFC 6455 section 5.5.2).
    Ping,
    /// A pong.
    Pong,
    /// A heartbeat of the protocol, ours or an answer.
    Heartbeat,
    /// Authentication.
    Authenticate,
    /// What prepares a connection ([`Protocol::prepare`]).
    Prepare,
    /// A message that subscribes to so many topics.
    Subscribe(usize),
    /// A message that unsubscribes from so many topics.
    Unsubscribe(usize),
    /// A request with this method, or a notification.
    Request(&'a str),
    /// A message of the user, or an answer of his, of so many bytes.
    Message(usize),
    /// The message before the close frame. It is sent whatever it costs.
    Farewell,
    /// A close frame. It is sent whatever it costs.
    Close,
}

/// What the server holds against the client, for [`Protocol::recovery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault<'a> {
    /// It closed the connection with this code and reason.
    Closed(u16, &'a str),
    /// It refused the authentication with this error, as the protocol encodes it.
    Authentication(&'a str),
    /// It refused what prepares a connection ([`Protocol::prepare`]) with this error.
    Preparation(&'a str),
    /// It refused a subscription with this error.
    Subscription(&'a str),
    /// It answered a request of the user's with this error, which is his to deal with. If that says something about the connection as well, such as
    /// that the server will end it, `Some` has the session do the same as after a notice ([`Inbound::Notice`]), once the answer is told.
    /// [`Recovery::Stop`] does nothing here: a request that is refused ends no session.
    Request(&'a str),
}
