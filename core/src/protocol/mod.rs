//! What an application speaks over the socket.

mod jsonrpc;
mod name;
mod plain;
mod said;
mod topic;

pub(crate) use jsonrpc::notified;
pub use jsonrpc::{JsonRpc, OwnedRpcError, RpcError};
pub use name::Name;
pub use plain::Plain;
pub use said::{Ack, Fault, Inbound, Traffic};
pub use topic::{Request, Topic};

use crate::error::Recovery;
use crate::session::{Limit, Params, Tracker};
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
