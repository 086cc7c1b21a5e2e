//! JSON-RPC 2.0 with subscriptions by channel name.

mod envelope;
mod error;
mod hook;
#[cfg(test)]
mod tests;
mod write;

pub use error::{OwnedRpcError, RpcError};

use super::{Ack, Context, Fault, Inbound, Protocol, Request, Topic, Traffic, Unsupported};
use crate::error::Recovery;
use crate::session::{Limit, Sequence, Sequences, Tracker};
use envelope::Envelope;
use hook::Hook;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>), with subscriptions in the shape that is most common on it:
///
/// ```json
/// {"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"channels":["a","b"]}}
/// {"jsonrpc":"2.0","id":1,"result":["a","b"]}
/// {"jsonrpc":"2.0","method":"subscription","params":{"channel":"a","data":1}}
/// ```
///
/// A result that is a list of names confirms the channels that it names; any other result confirms all of them.
///
/// The rest is off until it is asked for: authentication, heartbeats, limits, what errors mean, sequence numbers. A venue that has them all:
///
/// ```
/// use everwire_core::{JsonRpc, Recovery, Sequence, SequenceRule, protocol::Fault};
/// use std::time::Duration;
///
/// let token = "from a safe place";
/// let protocol = JsonRpc::new()
///     .methods("public/subscribe", "public/unsubscribe")
///     .authenticate("public/auth", move |_context| format!(r#"{{"grant_type":"refresh_token","refresh_token":"{token}"}}"#))
///     .heartbeat_reply("heartbeat", |params| params.contains("test_request"), "public/test")
///     .recovery(|fault, error| match (fault, error) {
///         (Fault::Closed(1001, _), _) => Some(Recovery::Backoff(Duration::from_secs(30))),
///         (_, Some(error)) if error.code == 13009 => Some(Recovery::Reauthenticate),
///         _ => None,
///     })
///     .notice("maintenance", |_params| Some(Recovery::Reconnect))
///     .sequence(|topic, params| {
///         if !topic.starts_with("book.") {
///             return None;
///         }
///         let number = |key: &str| params.split_once(key)?.1.split([',', '}']).next()?.trim().parse().ok();
///         let id = number("\"change_id\":")?;
///         let snapshot = params.contains("\"snapshot\"");
///         Some(Sequence { first: id, last: id, previous: number("\"prev_change_id\":"), snapshot })
///     })
///     .tracker(|topic| topic.name().starts_with("book.").then(|| SequenceRule::PreviousId.tracker()));
/// assert!(!format!("{protocol:?}").contains("safe place"));
/// ```
///
/// # What a message is taken for
///
/// * An answer: it has a `result` or an `error`, and an id that is a number as this side counts them. If it has both, the error counts.
///   `"error":null` is no error, with a result or without one.
/// * A request of the server: it has a method and an id that is not null.
/// * A notification: it has a method and no id. Its topic is `channel` in the parameters.
/// * A batch (specification section 6): an array that begins with an object. An array that has arrays in it is data.
/// * Anything else, and what is not JSON, is data of no topic.
///
/// Of a key that is there twice, the last one counts. Names are compared as the message has them: a channel or method that the server
/// writes with escapes (`"a\/b"`, `"a\u0062"`) is not recognised, and its message is data of no topic.
#[derive(Debug, Clone)]
pub struct JsonRpc {
    subscribe: String,
    unsubscribe: String,
    batch: usize,
    acks: Option<Acks>,
    authentication: Option<Authentication>,
    reauthenticates: bool,
    authenticated: Option<Hook<Lasts>>,
    heartbeat: Option<Call>,
    farewell: Option<Call>,
    server_heartbeat: Option<ServerHeartbeat>,
    notice: Option<Notices>,
    limits: Vec<Limit>,
    cost: Option<Hook<Cost>>,
    recovery: Option<Hook<Judge>>,
    sequence: Option<Hook<Number>>,
    sent: Option<Hook<Sent>>,
    tracker: Option<Hook<Watch>>,
}

impl Default for JsonRpc {
    fn default() -> Self {
        Self {
            subscribe: "subscribe".into(),
            unsubscribe: "unsubscribe".into(),
            batch: 100,
            acks: None,
            authentication: None,
            reauthenticates: false,
            authenticated: None,
            heartbeat: None,
            farewell: None,
            server_heartbeat: None,
            notice: None,
            limits: Vec::new(),
            cost: None,
            recovery: None,
            sequence: None,
            sent: None,
            tracker: None,
        }
    }
}

impl JsonRpc {
    /// With methods named `subscribe` and `unsubscribe`, up to 100 channels in each call, and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the methods that subscribe and unsubscribe, such as `public/subscribe` and `public/unsubscribe`.
    pub fn methods(self, subscribe: impl Into<String>, unsubscribe: impl Into<String>) -> Self {
        Self { subscribe: subscribe.into(), unsubscribe: unsubscribe.into(), ..self }
    }

    /// Most channels in one call; at least 1. Default 100.
    pub fn topics_per_message(self, max: usize) -> Self {
        Self { batch: max.max(1), ..self }
    }

    /// The server tells the outcome for each channel by a notification of its own, and not by the answer to the call: these are their
    /// methods. `channel` in their parameters names the channel; the parameters of `refused` are read as an error object. Default: the
    /// answer tells.
    pub fn acks(
        self,
        subscribed: impl Into<String>,
        unsubscribed: impl Into<String>,
        refused: impl Into<String>,
    ) -> Self {
        let acks = Acks {
            subscribed: subscribed.into(),
            unsubscribed: unsubscribed.into(),
            refused: refused.into(),
        };
        Self { acks: Some(acks), ..self }
    }

    /// Calls `method` on each new connection before anything else. `params` makes its parameters, each time anew: a JSON object or array, or
    /// nothing if there are none. It is given the time of day, for signatures, and what the endpoint's provider tells the protocol, such as a
    /// token. Default: no authentication.
    ///
    /// Parameters that are not an object or array are left out, so that the server says what it misses. They are never shown by `Debug`.
    pub fn authenticate(
        self,
        method: impl Into<String>,
        params: impl Fn(&Context<'_>) -> String + Send + Sync + 'static,
    ) -> Self {
        let authentication = Authentication { method: method.into(), params: Hook::new(Arc::new(params)) };
        Self { authentication: Some(authentication), ..self }
    }

    /// Whether that may be called again on the same connection when the endpoint's parameters are fresh. Default: not, and the session changes
    /// over to a new connection.
    pub fn reauthenticates(self, can: bool) -> Self {
        Self { reauthenticates: can, ..self }
    }

    /// Reads from the result of that call for how long it holds, such as `expires_in`: ahead of that it is called again on the same
    /// connection ([`Protocol::authenticated`]). Default: it holds as long as the connection.
    pub fn authenticated(self, life: impl Fn(&str) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { authenticated: Some(Hook::new(Arc::new(life))), ..self }
    }

    /// Calls `method` every `Config::heartbeat_interval`; its answer, whichever, shows that the server lives. Default: nothing is called.
    ///
    /// # Errors
    /// [`Unsupported`] if `params` are neither a JSON object nor an array.
    pub fn heartbeat(self, method: impl Into<String>, params: Option<&str>) -> Result<Self, Unsupported> {
        Ok(Self { heartbeat: Some(Call::new(method, params)?), ..self })
    }

    /// Calls `method` before a session that is online is closed ([`Session::close_with`](crate::Session::close_with)), and awaits its answer, or that
    /// the server ends the connection: for a venue where a close frame alone has effects of its own, as on Deribit, where it cancels orders
    /// and `private/logout` does not. Default: nothing is called.
    ///
    /// # Errors
    /// [`Unsupported`] if `params` are neither a JSON object nor an array.
    pub fn farewell(self, method: impl Into<String>, params: Option<&str>) -> Result<Self, Unsupported> {
        Ok(Self { farewell: Some(Call::new(method, params)?), ..self })
    }

    /// Takes notifications of `server_method` for heartbeats. Those whose parameters (JSON text, empty if there are none) satisfy `matches`
    /// are answered by calling `reply_method`. The user is told of none of them. Default: there are no heartbeats.
    ///
    /// What the server asks with an id is a request to the user, not a heartbeat.
    pub fn heartbeat_reply(
        self,
        server_method: impl Into<String>,
        matches: impl Fn(&str) -> bool + Send + Sync + 'static,
        reply_method: impl Into<String>,
    ) -> Self {
        let server_heartbeat = ServerHeartbeat {
            method: server_method.into(),
            matches: Hook::new(Arc::new(matches)),
            reply: reply_method.into(),
        };
        Self { server_heartbeat: Some(server_heartbeat), ..self }
    }

    /// Adds a limit of the server on what is sent. Default: none.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Takes notifications with this method for what the server says about the connection, such as that it will go down: they are told as
    /// [`Event::Notice`](crate::Event::Notice). `judge` is given their parameters as JSON text (empty if there are none) and says what the session is to
    /// do then; `None` is nothing. Default: there are none.
    pub fn notice(
        self,
        method: impl Into<String>,
        judge: impl Fn(&str) -> Option<Recovery> + Send + Sync + 'static,
    ) -> Self {
        Self { notice: Some(Notices { method: method.into(), judge: Hook::new(Arc::new(judge)) }), ..self }
    }

    /// What sending something costs under the limit of that name. Default 1 each.
    pub fn cost(self, cost: impl Fn(&str, Traffic<'_>) -> u32 + Send + Sync + 'static) -> Self {
        Self { cost: Some(Hook::new(Arc::new(cost))), ..self }
    }

    /// What to do about a [`Fault`], or `None` to leave it to the session's policy, as by default. The error object is there if the fault has one.
    pub fn recovery(
        self,
        recovery: impl Fn(Fault<'_>, Option<&RpcError<'_>>) -> Option<Recovery> + Send + Sync + 'static,
    ) -> Self {
        Self { recovery: Some(Hook::new(Arc::new(recovery))), ..self }
    }

    /// Reads the sequence number of a notification: `extract` is given its topic and its parameters as JSON text. Default: there are none. Each number must
    /// be the one before plus one, unless [`tracker`](Self::tracker) or [`SubscribeOptions::sequence`](crate::SubscribeOptions::sequence) says otherwise.
    pub fn sequence(self, extract: impl Fn(&str, &str) -> Option<Sequence> + Send + Sync + 'static) -> Self {
        Self { sequence: Some(Hook::new(Arc::new(extract))), ..self }
    }

    /// Reads when the server sent a notification, since the Unix epoch: `extract` is given its topic and its parameters as JSON text.
    /// Default: it does not tell.
    pub fn sent(self, extract: impl Fn(&str, &str) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { sent: Some(Hook::new(Arc::new(extract))), ..self }
    }

    /// Makes what watches a topic's sequence numbers; `None` for a topic that has none. Default: no topic has.
    pub fn tracker(
        self,
        tracker: impl Fn(&Topic) -> Option<Box<dyn Tracker>> + Send + Sync + 'static,
    ) -> Self {
        Self { tracker: Some(Hook::new(Arc::new(tracker))), ..self }
    }

    fn outcome(&self) -> Ack {
        if self.acks.is_some() { Ack::Separate } else { Ack::Response }
    }

    fn notification<'m>(&self, text: &'m str, envelope: &Envelope<'m>) -> Inbound<'m> {
        let Envelope { topic, params, .. } = *envelope;
        if self.server_heartbeat.is_some() || self.acks.is_some() || self.notice.is_some() {
            let name = envelope.method.flatten();
            if let Some(Notices { method, judge }) = &self.notice
                && name == Some(&**method)
            {
                let said =
                    Envelope::with_params(text).and_then(|envelope| envelope.params).unwrap_or_default();
                return Inbound::Notice { text: said, recovery: judge(said) };
            }
            if self.server_heartbeat.as_ref().is_some_and(|beat| name == Some(&*beat.method)) {
                return Inbound::Heartbeat;
            }
            if let Some(outcome) = self.acks.as_ref().and_then(|acks| acks.outcome(text, name?, topic?)) {
                return outcome;
            }
        }
        let Some(topic) = topic else { return Inbound::other() };
        let params = params.unwrap_or_default();
        Inbound::Message {
            topic: Some(topic.into()),
            sequence: self.sequence.as_ref().and_then(|extract| extract(topic, params)),
            sent: self.sent.as_ref().and_then(|extract| extract(topic, params)),
        }
    }
}

impl Protocol for JsonRpc {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let nothing = Inbound::other();
        if envelope::trim(text).starts_with('[') {
            return if envelope::is_batch(text) { Inbound::Batch } else { nothing };
        }
        let reads_params = self.sequence.is_some() || self.sent.is_some();
        let read = if reads_params { Envelope::with_params(text) } else { Envelope::read(text) };
        let Some(envelope) = read else { return nothing };
        match envelope.id {
            Some(id) => match envelope.answer() {
                // Ids of ours are numbers; whatever else it is, somebody else asked.
                Some(result) => id.parse().map_or(nothing, |id| Inbound::Response { id, result }),
                None => server_request(text, id, &envelope).unwrap_or(nothing),
            },
            None if envelope.method.is_some() => self.notification(text, &envelope),
            None => nothing,
        }
    }

    fn item<'m>(&self, text: &'m str, cursor: &mut usize) -> Option<&'m str> {
        envelope::next_item(text, cursor)
    }

    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        let Some(Authentication { method, params }) = &self.authentication else { return Ok(Ack::None) };
        write::call(id, method, write::structured(method, &params(context)).ok(), out);
        Ok(Ack::Response)
    }

    fn authenticated(&self, result: &str) -> Option<Duration> {
        self.authenticated.as_ref().and_then(|life| life(result))
    }

    fn reauthenticates(&self) -> bool {
        self.reauthenticates
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        write::request(id, request, out)
    }

    fn batch(
        &self,
        requests: &[(u64, Request<'_>)],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        if requests.is_empty() {
            let reason = "a batch of no requests: JSON-RPC has no answer to it, make at least one";
            return Err(Unsupported { reason: reason.to_owned() });
        }
        let start = out.len();
        for (i, (id, request)) in requests.iter().enumerate() {
            out.push(if i == 0 { '[' } else { ',' });
            if let Err(refused) = write::request(*id, request, out) {
                out.truncate(start);
                return Err(refused);
            }
        }
        out.push(']');
        Ok(())
    }

    fn notification(
        &self,
        notification: &Request<'_>,
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        write::notification(notification, out)
    }

    fn respond(
        &self,
        id: &str,
        result: Result<&str, &OwnedRpcError>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        write::response(id, result, out)
    }

    fn topics_per_message(&self) -> usize {
        self.batch
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        write::channels(id, &self.subscribe, topics.iter().map(|topic| topic.name()), out);
        Ok(self.outcome())
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        write::channels(id, &self.unsubscribe, topics.iter().map(|topic| topic.name()), out);
        Ok(self.outcome())
    }

    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        envelope::names(result, topic.name()).unwrap_or(true)
    }

    fn heartbeat(&self, id: u64, _: &Context<'_>, out: &mut String) -> Ack {
        self.heartbeat.as_ref().map_or(Ack::None, |call| call.write(id, out))
    }

    fn farewell(&self, id: u64, _: &Context<'_>, out: &mut String) -> Ack {
        self.farewell.as_ref().map_or(Ack::None, |call| call.write(id, out))
    }

    fn heartbeat_reply(&self, text: &str, id: u64, out: &mut String) {
        let Some(ServerHeartbeat { matches, reply, .. }) = &self.server_heartbeat else { return };
        let params = Envelope::with_params(text).and_then(|envelope| envelope.params).unwrap_or_default();
        if matches(params) {
            write::call(id, reply, None, out);
        }
    }

    fn limits(&self) -> Vec<Limit> {
        self.limits.clone()
    }

    fn cost(&self, limit: &str, traffic: Traffic<'_>) -> u32 {
        self.cost.as_ref().map_or(1, |cost| cost(limit, traffic))
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        let recovery = self.recovery.as_ref()?;
        let error = match fault {
            Fault::Authentication(error)
            | Fault::Preparation(error)
            | Fault::Subscription(error)
            | Fault::Request(error) => Some(RpcError::parse(error)),
            Fault::Closed(..) => None,
        };
        recovery(fault, error.as_ref())
    }

    fn tracker(&self, topic: &Topic) -> Option<Box<dyn Tracker>> {
        match (&self.tracker, &self.sequence) {
            (Some(tracker), _) => tracker(topic),
            (None, Some(_)) => Some(Box::new(Sequences::plus_one())),
            (None, None) => None,
        }
    }
}

/// Method and parameters of a notification; `None` if the text is none, or its method is written with escapes.
pub(crate) fn notified(text: &str) -> Option<(&str, Option<&str>)> {
    let envelope = Envelope::with_params(text)?;
    if envelope.id.is_some() || envelope.answer().is_some() {
        return None;
    }
    Some((envelope.method.flatten()?, envelope.params))
}

/// The server asks something, if it can be told from its message what.
fn server_request<'m>(text: &'m str, id: &'m str, envelope: &Envelope<'m>) -> Option<Inbound<'m>> {
    // An id is a string or a number (specification section 4): neither list nor object can be told from what is no JSON-RPC at all.
    if id.starts_with(['{', '[']) {
        return None;
    }
    let method = envelope.method.flatten()?;
    Some(Inbound::Request { id, method, params: Envelope::with_params(text)?.params })
}

/// The methods of notifications that tell what became of a channel.
#[derive(Debug, Clone)]
struct Acks {
    subscribed: String,
    unsubscribed: String,
    refused: String,
}

impl Acks {
    fn outcome<'m>(&self, text: &'m str, method: &str, topic: &'m str) -> Option<Inbound<'m>> {
        if method == self.subscribed {
            Some(Inbound::Subscribed { topic: topic.into(), id: None, result: Ok(()) })
        } else if method == self.unsubscribed {
            Some(Inbound::Unsubscribed { topic: topic.into() })
        } else if method == self.refused {
            Some(Inbound::Subscribed {
                topic: topic.into(),
                id: None,
                result: Err(Envelope::with_params(text)?.params?),
            })
        } else {
            None
        }
    }
}

/// Given the result of authentication.
type Lasts = dyn Fn(&str) -> Option<Duration> + Send + Sync;
type Heed = dyn Fn(&str) -> Option<Recovery> + Send + Sync;
type Cost = dyn Fn(&str, Traffic<'_>) -> u32 + Send + Sync;
type Judge = dyn Fn(Fault<'_>, Option<&RpcError<'_>>) -> Option<Recovery> + Send + Sync;
/// Given the topic and the parameters.
type Number = dyn Fn(&str, &str) -> Option<Sequence> + Send + Sync;
/// Given the same.
type Sent = dyn Fn(&str, &str) -> Option<Duration> + Send + Sync;
type Watch = dyn Fn(&Topic) -> Option<Box<dyn Tracker>> + Send + Sync;

#[derive(Debug, Clone)]
struct Authentication {
    method: String,
    params: Hook<dyn Fn(&Context<'_>) -> String + Send + Sync>,
}

#[derive(Debug, Clone)]
struct Notices {
    method: String,
    judge: Hook<Heed>,
}

#[derive(Debug, Clone)]
struct ServerHeartbeat {
    method: String,
    matches: Hook<dyn Fn(&str) -> bool + Send + Sync>,
    reply: String,
}

#[derive(Clone)]
struct Call {
    method: String,
    params: Option<String>,
}

impl Call {
    fn new(method: impl Into<String>, params: Option<&str>) -> Result<Self, Unsupported> {
        let method = method.into();
        let params = params.map(|params| write::structured(&method, params)).transpose()?.map(str::to_owned);
        Ok(Self { method, params })
    }

    fn write(&self, id: u64, out: &mut String) -> Ack {
        write::call(id, &self.method, self.params.as_deref(), out);
        Ack::Response
    }
}

impl fmt::Debug for Call {
    // Without the parameters: they may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).finish_non_exhaustive()
    }
}
