//! What an application speaks over the socket.

mod jsonrpc;
mod name;
mod plain;

pub(crate) use jsonrpc::notified;
pub use jsonrpc::{JsonRpc, OwnedRpcError, RpcError};
pub use name::Name;
pub use plain::Plain;

use crate::error::Recovery;
use crate::session::{Limit, Params, Sequence, Tracker};
use std::fmt;
use std::time::{Duration, SystemTime};

/// What is spoken on top of WebSocket messages: how to authenticate, subscribe and ask, what an inbound message is, and what the server
/// allows.
///
/// Pure: it builds text and reads text, and the session does the rest (numbering, deadlines, restoring, pacing, pairing answers
/// with requests). Methods take `&self`, so that one value serves many sessions. Whatever a protocol does not have keeps its default.
pub trait Protocol: fmt::Debug + Send + Sync {
    /// Whether inbound text means anything to this protocol. If not, [`classify`](Self::classify) is never called and messages reach
    /// the user unread.
    fn inspects(&self) -> bool {
        true
    }

    /// Says what an inbound text message is. It must not fail: what it does not know is [`Inbound::Message`].
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m>;

    /// The next part of a message that [`classify`](Self::classify) called [`Inbound::Batch`]: each part is classified by itself.
    /// `cursor` is 0 at first and belongs to the protocol. `None` is the end. The part is a slice of `text`.
    fn item<'m>(&self, text: &'m str, cursor: &mut usize) -> Option<&'m str> {
        let _ = (text, cursor);
        None
    }

    /// Whether the server speaks first: nothing of the session's or the user's is said on a new connection before an
    /// [`Inbound::Greeting`] has come. It is awaited for `Config::handshake_timeout`. Default: it does not.
    fn greets(&self) -> bool {
        false
    }

    /// Looks at the server's first word, the whole message, before anything is said on the connection: whether it is meant for this one, such as by
    /// repeating an id of its endpoint's ([`Context::params`]). Default: any is good. It is not asked about later ones.
    ///
    /// # Errors
    /// [`Unsupported`] if it is not ours: the connection ends with [`Error::Unsupported`](crate::Error::Unsupported), and another one is made after
    /// the usual delay.
    fn greeting(&self, text: &str, context: &Context<'_>) -> Result<(), Unsupported> {
        let _ = (text, context);
        Ok(())
    }

    /// Writes the message that authenticates a connection to `out`: on a new one before anything else is sent on it, and again when the
    /// session refreshes it ([`reauthenticates`](Self::reauthenticates)). An empty `out`: there is none, which is the default. With
    /// [`Ack::Separate`] the outcome is an [`Inbound::Authenticated`].
    ///
    /// # Errors
    /// [`Unsupported`] if it cannot be written, such as for want of a signature: the connection ends with
    /// [`Error::Unsupported`](crate::Error::Unsupported), which is no refusal, and another one is made after the usual delay. One that is authenticated
    /// already goes on, and it is tried again.
    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        let _ = (id, context, out);
        Ok(Ack::None)
    }

    /// Writes the message number `step`, from 0, of those that prepare a new connection to `out`: after it was authenticated, before
    /// subscriptions are restored, one after the other, each when the one before it was answered (or sent, with [`Ack::None`]). An empty `out`
    /// ends them; by default there are none. More than 32 are a fault. A response with the id answers one, whether it asks for
    /// [`Ack::Response`] or [`Ack::Separate`]. A refusal ends the connection with [`Error::Preparation`](crate::Error::Preparation). Nothing is
    /// prepared again when the connection is authenticated again.
    ///
    /// # Errors
    /// [`Unsupported`] if it cannot be written, as for [`authenticate`](Self::authenticate).
    fn prepare(
        &self,
        step: u32,
        id: u64,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let _ = (step, id, context, out);
        Ok(Ack::None)
    }

    /// For how long an authentication holds, by the server's answer to it. The connection is authenticated again after 0.8 of that (up to a tenth
    /// of that time sooner, not sooner than after 1 s), while all goes on. A refusal then ends the connection. `None`, the default: as
    /// long as the connection.
    fn authenticated(&self, result: &str) -> Option<Duration> {
        let _ = result;
        None
    }

    /// Whether a connection that is authenticated may be authenticated again, with a fresh endpoint's parameters. If not, which is the default,
    /// the session changes over to a new connection ([`Refresh::Auto`](crate::Refresh::Auto)).
    fn reauthenticates(&self) -> bool {
        false
    }

    /// Writes request `id` to `out`. The context is that of the moment at which it is made: without parameters if there is no connection. One that
    /// goes out later, because it waited for the limiter or for a connection, or that is sent again, is written anew with the context of that
    /// moment and the same id: tokens, times and signatures are always those of the connection.
    ///
    /// # Errors
    /// [`Unsupported`] if the protocol has no requests or cannot say this one. One that can be said when it is made and not when it goes out ends
    /// with [`Unanswered::Unsupported`](crate::Unanswered::Unsupported).
    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported>;

    /// Writes one message that makes several requests to `out`. Each is answered by itself, in any order. It is written anew as
    /// [`request`](Self::request) is.
    ///
    /// # Errors
    /// [`Unsupported`], which is the default.
    fn batch(
        &self,
        requests: &[(u64, Request<'_>)],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let _ = (requests, context, out);
        Err(Unsupported { reason: "this protocol has no batches: make the requests one by one".to_owned() })
    }

    /// Writes what is said like a request and never answered, such as a JSON-RPC notification (specification section 4.1), to `out`.
    ///
    /// # Errors
    /// [`Unsupported`], which is the default.
    fn notification(
        &self,
        notification: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let _ = (notification, context, out);
        Err(Unsupported {
            reason: "this protocol has no notifications: make a request, or send a message".to_owned(),
        })
    }

    /// Writes the answer to a request of the server ([`Inbound::Request`]) to `out`; `id` is as the server wrote it.
    ///
    /// # Errors
    /// [`Unsupported`], which is the default.
    fn respond(
        &self,
        id: &str,
        result: Result<&str, &OwnedRpcError>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let _ = (id, result, out);
        Err(Unsupported { reason: "this protocol has no requests of the server".to_owned() })
    }

    /// Most topics that one [`subscribe`](Self::subscribe) or [`unsubscribe`](Self::unsubscribe) may name. At least 1.
    fn topics_per_message(&self) -> usize;

    /// Most topics that may be subscribed to on one connection. Those beyond wait until others are given up or refused, the highest priority
    /// first; [`Event::Online`](crate::Event::Online) does not wait for them, and a topic that is in force gives its place to none. `None`, the
    /// default: as many as are wanted.
    fn topics_per_connection(&self) -> Option<usize> {
        None
    }

    /// Whether one message may name both topics, such as those of one channel. It must be so for any two of three if it is for the others.
    /// Default: any may go together.
    fn shares(&self, topic: &Topic, other: &Topic) -> bool {
        let _ = (topic, other);
        true
    }

    /// Writes a message that subscribes to all of `topics`, which [share](Self::shares) one, to `out`, and says how its outcome is learnt. An
    /// empty `out` means that nothing needs to be sent: they are in force.
    ///
    /// # Errors
    /// [`Unsupported`] if it cannot be written. Of several topics each is tried alone, so that one that cannot be said does not take the
    /// others with it. One is rejected with the reason, and tried again as rejected ones are.
    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported>;

    /// Writes a message that ends the subscriptions to all of `topics`, which [share](Self::shares) one. An empty `out` means that nothing needs
    /// to be sent.
    ///
    /// # Errors
    /// [`Unsupported`] if it cannot be written: nothing is sent then, and the server may go on sending messages of these topics.
    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported>;

    /// Whether the result of a subscribe message, or an [`Inbound::Confirmed`], confirms this topic of it.
    fn confirms(&self, result: &str, topic: &Topic) -> bool;

    /// Whether this error, the answer to a message that asked for several topics, is about this one of them. Only asked where each outcome comes
    /// in a message of its own ([`Ack::Separate`]): those that the error is about are rejected, and the others go on waiting for theirs. If it
    /// is about none of them, or about all, which is the default, the message is over: each topic without an outcome is tried alone.
    fn refuses(&self, error: &str, topic: &Topic) -> bool {
        let _ = (error, topic);
        true
    }

    /// Reads an error of the server, of a request or a subscription, as [`classify`](Self::classify) gave it. Default: as JSON-RPC has them, an
    /// object with `code`, `message` and `data`; else the text is the message.
    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        RpcError::parse(error)
    }

    /// Writes a heartbeat of our own to `out`, sent every `Config::heartbeat_interval`. An empty `out`: there is none, which is the default.
    /// With [`Ack::Response`] its answer is awaited.
    fn heartbeat(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        let _ = (id, context, out);
        Ack::None
    }

    /// Writes the answer to a heartbeat of the server ([`Inbound::Heartbeat`]) to `out`. An empty `out`, which is the default: none is wanted.
    fn heartbeat_reply(&self, text: &str, id: u64, out: &mut String) {
        let _ = (text, id, out);
    }

    /// Writes a last message to `out`, sent when the user closes the session, after all that he sent and before the close frame. An empty
    /// `out`, which is the default: there is none. With [`Ack::Response`] the close frame waits for the answer, or for the server to end the
    /// connection by itself, until the time for closing is over ([`CloseOptions::within`](crate::CloseOptions::within)).
    ///
    /// It is sent as well when the session leaves a connection that was online and works: for [`Session::reconnect`](crate::Session::reconnect), a
    /// change over ([`life`](Self::life), [`Refresh::Reconnect`](crate::Refresh::Reconnect)), an endpoint's expiry, or a notice with
    /// [`Recovery::Reconnect`]. What was accepted and not written by then is not sent, and told as such; if the last message of it was written in
    /// part, in several frames, there is no farewell. The next connection does not wait for any of that: with [`Ack::Response`] the old one
    /// awaits the answer, for `Config::close_timeout`, then says its close frame, all beside the new one.
    fn farewell(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        let _ = (id, context, out);
        Ack::None
    }

    /// What the server allows to be sent. Default: anything.
    fn limits(&self) -> Vec<Limit> {
        Vec::new()
    }

    /// What sending this costs under the limit of that name. Default 1.
    fn cost(&self, limit: &str, traffic: Traffic<'_>) -> u32 {
        let _ = (limit, traffic);
        1
    }

    /// What to do after the server closed the connection, or refused the authentication or a subscription with an error, if this protocol
    /// knows better than the session's [`Policy`](crate::Policy). It is asked about errors of the user's requests as well ([`Fault::Request`]);
    /// there, `None` does nothing.
    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        let _ = fault;
        None
    }

    /// Watches the sequence numbers of a topic's messages, if they have any. A new one is made for each time that the topic is in force anew.
    fn tracker(&self, topic: &Topic) -> Option<Box<dyn Tracker>> {
        let _ = topic;
        None
    }

    /// Watches all text messages of a connection, for a server that numbers them through, whatever their topic: answers and heartbeats are among
    /// them, and several messages in one ([`Inbound::Batch`]) are given as one. It sees each before [`classify`](Self::classify), and is given no
    /// sequence, only the text. A new one is made for each connection. What it finds missing may have been of any topic: one
    /// [`Event::Gap`](crate::Event::Gap) ahead of the message names all that are in force, and each of them is made anew, as often as resyncs may
    /// be. What it calls a duplicate goes no further. Messages that arrive in chunks ([`Limits::chunk`](crate::Limits)) are not
    /// given to it, nor to [`classify`](Self::classify): leave that option off where they are numbered. Default: there is none, which costs
    /// nothing.
    fn connection_tracker(&self) -> Option<Box<dyn Tracker>> {
        None
    }

    /// How long the server lets a connection live, from its handshake on; at least 1 s. After 0.95 to 0.98 of that, at random, the session changes
    /// over to a new one, told as [`Event::Lost`](crate::Event::Lost) with [`Error::Rotated`](crate::Error::Rotated); later if
    /// `Config::flap_budget` or a cool-down forbids another connection, and not with `Config::no_reconnect`. `None`, the default: for ever.
    fn life(&self) -> Option<Duration> {
        None
    }
}

/// What is known of the connection that a message is written for.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Context<'a> {
    /// The time of day, for signatures.
    pub wall: SystemTime,
    /// What its endpoint tells the protocol, such as a token ([`Endpoint::param`](crate::Endpoint::param)). After a refresh that keeps the
    /// connection these are the fresh ones.
    pub params: &'a Params,
    /// The result of the last authentication on this connection, as the protocol encodes it, such as for the refresh token that it holds. `None`
    /// before the first.
    pub authenticated: Option<&'a str>,
}

impl<'a> Context<'a> {
    /// For tests of a protocol; else it is the session that makes one.
    pub fn new(wall: SystemTime, params: &'a Params) -> Self {
        Self { wall, params, authenticated: None }
    }

    /// The connection was authenticated before, with this result.
    pub fn authenticated(self, result: Option<&'a str>) -> Self {
        Self { authenticated: result, ..self }
    }
}

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
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscribe: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unsubscribe: Option<String>,
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

// The result of an authentication holds tokens.
impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("wall", &self.wall)
            .field("params", self.params)
            .field("authenticated", &self.authenticated.is_some())
            .finish()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_connection_is_not_shown() {
        let params: Params = [("listenKey", "s3cret")].into_iter().collect();
        let context = Context::new(SystemTime::UNIX_EPOCH, &params);
        let shown = format!("{context:?} {:?}", context.authenticated(Some(r#"{"access_token":"s3cret"}"#)));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("authenticated: false") && shown.contains("authenticated: true"), "{shown}");
    }
}
