//! Bybit, version 5: market data, the account's streams, and orders, each at an endpoint of its own.
//!
//! ```
//! use everwire_core::ConfigError;
//! use everwire_venues::bybit::{self, Bybit, Category};
//!
//! # fn main() -> Result<(), ConfigError> {
//! let market = Bybit::public(Category::Linear).config(bybit::MAINNET)?;
//! let account = Bybit::private("key", "secret").config(bybit::TESTNET)?;
//! let trading = Bybit::trade("key", "secret").config(bybit::TESTNET)?;
//! assert_eq!(bybit::orderbook(50, "BTCUSDT").name(), "orderbook.50.BTCUSDT");
//! # Ok(())
//! # }
//! ```
//!
//! An order is placed on the session of [`Bybit::trade`], whose answer says that the request was taken; what becomes of it is told on the session of
//! [`Bybit::private`]. A closed connection cancels nothing, but for what the venue's disconnection protection does (topics `dcp.*`).

mod errors;
mod orders;
mod topics;
mod wire;

#[cfg(test)]
mod tests;

pub use errors::{ErrorCode, Remedy};
pub use orders::{Amend, BybitError, Category, NewOrder, OrderRef, Taken, Trading};
pub use topics::{executions, kline, liquidations, orderbook, orders, positions, tickers, trades, wallet};

use crate::Secret;
use everwire_core::protocol::{
    Ack, Context, Fault, Inbound, Protocol, Request, RpcError, Topic, Traffic, Unsupported,
};
use everwire_core::{Config, ConfigError, Limit, Limits, Policy, Recovery, Sequence, SequenceRule, Tracker};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use wire::{Envelope, Lists, Refusal};

/// Where it is. Source of all that is said here unless something else is: bybit-exchange.github.io/docs/v5/ws/connect (stored copy read 2026-11-21).
pub const MAINNET: &str = "wss://stream.bybit.com";
/// Where it is tried out: other accounts, other keys.
pub const TESTNET: &str = "wss://stream-testnet.bybit.com";

/// Most connections that may be made to a domain in [`CONNECTIONS_PER`].
pub const CONNECTIONS: u32 = 500;
/// The time for these.
pub const CONNECTIONS_PER: Duration = Duration::from_secs(300);
/// Most topics in one message on spot.
pub const SPOT_TOPICS_PER_MESSAGE: usize = 10;
/// Most characters of all topics of a public connection.
pub const TOPIC_CHARACTERS: usize = 21_000;

/// Orders in a second, unless somebody knows better: what the documentation's example shows (`X-Bapi-Limit`).
const ORDERS: u32 = 10;
/// For so long a signature is good. The venue wants it to be ahead of its clock.
const EXPIRES: Duration = Duration::from_secs(10);

/// The protocol, at one of its endpoints.
#[derive(Debug, Clone)]
pub struct Bybit {
    endpoint: Endpoint,
    max_active_time: Option<Duration>,
    per_message: Option<usize>,
    per_connection: Option<usize>,
    watches_books: bool,
    acks_without_id: bool,
    recv_window: Option<Duration>,
    orders_per_second: u32,
    account: String,
}

#[derive(Debug, Clone)]
enum Endpoint {
    Public(Category),
    Private(Key),
    Trade(Key),
}

#[derive(Clone)]
struct Key {
    name: String,
    signer: Signer,
}

#[derive(Clone)]
enum Signer {
    Secret(Secret),
    Callback(Arc<Sign>),
}

type Sign = dyn Fn(&str) -> Result<String, String> + Send + Sync;

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bybit {
    /// Market data.
    pub fn public(category: Category) -> Self {
        Self::at(Endpoint::Public(category))
    }

    /// The account's streams: orders, executions, positions, wallet.
    pub fn private(key: impl Into<String>, secret: impl Into<Secret>) -> Self {
        Self::at(Endpoint::Private(Key { name: key.into(), signer: Signer::Secret(secret.into()) }))
    }

    /// Orders: see [`Trading`].
    pub fn trade(key: impl Into<String>, secret: impl Into<Secret>) -> Self {
        Self::at(Endpoint::Trade(Key { name: key.into(), signer: Signer::Secret(secret.into()) }))
    }

    fn at(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            max_active_time: None,
            per_message: None,
            per_connection: None,
            watches_books: false,
            acks_without_id: false,
            recv_window: None,
            orders_per_second: ORDERS,
            account: "bybit".to_owned(),
        }
    }

    /// Has this function sign, in the place of the secret: it is given `GET/realtime` and a time in milliseconds, and returns HMAC-SHA256 of it in
    /// hexadecimal. It is called on the session's thread: it must not take long. An error, which must hold no secret, fails the attempt to
    /// connect, and another one is made. It changes nothing about a session of market data.
    pub fn signed_by(
        mut self,
        sign: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        if let Endpoint::Private(key) | Endpoint::Trade(key) = &mut self.endpoint {
            key.signer = Signer::Callback(Arc::new(sign));
        }
        self
    }

    /// After how long without a ping and without data the server ends a connection of [`private`](Self::private) or [`trade`](Self::trade)
    /// (`max_active_time`): 30 s to 10 minutes, which other times are brought into. It looks each 30 s. Default: the server's 10 minutes.
    pub fn max_active_time(self, time: Duration) -> Self {
        let time = time.clamp(Duration::from_secs(30), Duration::from_secs(600));
        Self { max_active_time: Some(time), ..self }
    }

    /// Most topics in one message; at least 1. Default 10 on spot, which the venue demands; 100 elsewhere, where it names no number.
    pub fn topics_per_message(self, max: usize) -> Self {
        Self { per_message: Some(max.max(1)), ..self }
    }

    /// Most topics on one connection; at least 1. The venue allows [`TOPIC_CHARACTERS`] in all, and 2,000 topics of options. Default 500 for
    /// market data, which with 42 characters each are as many; elsewhere any.
    pub fn topics_per_connection(self, max: usize) -> Self {
        Self { per_connection: Some(max.max(1)), ..self }
    }

    /// Whether the update ids (`u`) of a book must follow on each other, or else it is subscribed to anew. Not verified: the documentation of
    /// version 3 says that they do as a rule, that of version 5 does not say so. Default `false`; a single subscription may be watched by
    /// [`SubscribeOptions::sequence`](everwire_core::SubscribeOptions::sequence) too. Books of depth 1 are snapshots and are never watched.
    pub fn watch_books(self, watched: bool) -> Self {
        Self { watches_books: watched, ..self }
    }

    /// Takes an answer that names no request for one to all topics that were asked for and not answered yet. Not verified: that the venue ever
    /// leaves the id out of an answer to a request that has one. Default `false`: such an answer confirms nothing, unless it lists topics, as those
    /// of options do.
    pub fn acks_without_id(self, taken: bool) -> Self {
        Self { acks_without_id: taken, ..self }
    }

    /// How late an order may arrive (`X-BAPI-RECV-WINDOW`); later ones are refused with 10002. Default: the server's 5 s.
    pub fn recv_window(self, window: Duration) -> Self {
        Self { recv_window: Some(window), ..self }
    }

    /// Orders in a second, by [`trade`](Self::trade); at least 1. The venue's answers tell it (`X-Bapi-Limit`). Default 10.
    pub fn orders_per_second(self, orders: u32) -> Self {
        Self { orders_per_second: orders.max(1), ..self }
    }

    /// What to call the account: sessions that share [`SharedLimits`](everwire_core::SharedLimits) and this name share its orders per second. A
    /// name, no secret. Default `bybit`.
    pub fn account(self, name: impl Into<String>) -> Self {
        Self { account: name.into(), ..self }
    }

    /// The path of the endpoint, with its query.
    pub fn path(&self) -> String {
        let path = match &self.endpoint {
            Endpoint::Public(category) => return format!("/v5/public/{}", category.as_str()),
            Endpoint::Private(_) => "/v5/private",
            Endpoint::Trade(_) => "/v5/trade",
        };
        let time = self.max_active_time.map(|time| format!("?max_active_time={}s", time.as_secs()));
        format!("{path}{}", time.unwrap_or_default())
    }

    /// A session's options that fit, at this host, such as [`MAINNET`]: [`Config::financial`] with the protocol's pings every 20 s, as the venue
    /// recommends. A 403, which it answers to too many connections, is waited out for five minutes.
    ///
    /// # Errors
    /// [`ConfigError::Url`] if it is no `ws://` or `wss://` URL.
    pub fn config(&self, host: &str) -> Result<Config, ConfigError> {
        let url = format!("{}{}", host.trim_end_matches('/'), self.path());
        let policy = Policy::default().on_status(403..=403, Recovery::Backoff(CONNECTIONS_PER))?;
        Ok(Config::new(&url)?
            .financial()
            .protocol(self.clone())
            .policy(policy)
            .heartbeat_interval(Duration::from_secs(20))
            .ping_interval(Duration::from_secs(10))
            .limits(Limits { max_frame: 16 << 20, max_message: 16 << 20, ..Limits::default() }))
    }

    fn is_trade(&self) -> bool {
        matches!(self.endpoint, Endpoint::Trade(_))
    }

    /// Writes a message about topics.
    fn args(&self, id: u64, op: &str, topics: &[&Topic], out: &mut String) -> Result<Ack, Unsupported> {
        if self.is_trade() {
            let reason =
                "the endpoint of orders has no topics: subscribe on a session of Bybit::private or public";
            return Err(Unsupported { reason: reason.to_owned() });
        }
        let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        out.push_str(&json!({"req_id": id.to_string(), "op": op, "args": names}).to_string());
        Ok(Ack::Response)
    }

    /// The answer to something of ours that is no order.
    fn answer<'m>(&self, text: &'m str, is: &Envelope<'m>) -> Inbound<'m> {
        // Asked for twice is in force.
        let known = is.says.is_some_and(|says| says.contains("already subscribed"));
        let good = is.success != Some(false) && is.code.is_none_or(|code| code == 0) || known;
        let result = if good { Ok(text) } else { Err(text) };
        match (is.id.and_then(number), is.op) {
            (_, Some("auth")) => Inbound::Authenticated(result),
            (Some(id), _) => Inbound::Response { id, result },
            _ if is.kind == Some("COMMAND_RESP") && good => Inbound::Confirmed(text),
            _ if !good => Inbound::Refused(text),
            (None, Some("subscribe")) if self.acks_without_id => Inbound::Confirmed(text),
            _ => Inbound::other(),
        }
    }
}

impl Protocol for Bybit {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let Some(is) = Envelope::read(text) else { return Inbound::other() };
        if let Some(topic) = is.topic {
            let sequence = is
                .update
                .filter(|_| topic.starts_with("orderbook."))
                .map(|update| Sequence { snapshot: is.kind == Some("snapshot"), ..Sequence::new(update) });
            return Inbound::Message {
                topic: Some(topic.into()),
                sequence,
                sent: is.sent.map(Duration::from_millis),
            };
        }
        let pong = is.op == Some("pong") || is.op == Some("ping") || is.says == Some("pong");
        match is.id.and_then(number) {
            Some(id) if pong => Inbound::Response { id, result: Ok(text) },
            None if pong => Inbound::HeartbeatAnswer,
            Some(id) if self.is_trade() && is.op != Some("auth") => order_answer(text, id, &is),
            _ if is.op.is_some() || is.kind == Some("COMMAND_RESP") || is.success.is_some() => {
                self.answer(text, &is)
            }
            _ => Inbound::other(),
        }
    }

    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        let (Endpoint::Private(key) | Endpoint::Trade(key)) = &self.endpoint else { return Ok(Ack::None) };
        let wall = context.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = millis(wall.saturating_add(EXPIRES));
        let text = format!("GET/realtime{expires}");
        let signature = match &key.signer {
            Signer::Secret(secret) => secret.hmac_hex(&text),
            Signer::Callback(sign) => sign(&text).map_err(|reason| Unsupported {
                reason: format!("the signature for auth was refused by the function that makes it: {reason}"),
            })?,
        };
        let name = if self.is_trade() { "reqId" } else { "req_id" };
        let args = json!([key.name, expires, signature]);
        out.push_str(&json!({name: id.to_string(), "op": "auth", "args": args}).to_string());
        Ok(Ack::Separate)
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let refuse =
            |what: &str| Err(Unsupported { reason: format!("request {:?}: {what}", request.method) });
        if !self.is_trade() {
            return refuse("only the endpoint of orders takes requests: make a session of Bybit::trade");
        }
        let args = match serde_json::from_str(request.params.unwrap_or("[]")) {
            Ok(Value::Array(args)) => Value::Array(args),
            Ok(object @ Value::Object(_)) => json!([object]),
            _ => return refuse("params must be a JSON object, or a list of such"),
        };
        let now = context.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut header = json!({"X-BAPI-TIMESTAMP": millis(now).to_string()});
        if let Some(window) = self.recv_window {
            header["X-BAPI-RECV-WINDOW"] = millis(window).to_string().into();
        }
        // The venue takes no id twice, from whatever session of the account: ours begin with 1 on each. No more than 36 characters.
        let id = format!("{:x}-{id:x}", now.as_nanos());
        out.push_str(&json!({"reqId": id, "header": header, "op": request.method, "args": args}).to_string());
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        let spot = matches!(self.endpoint, Endpoint::Public(Category::Spot));
        self.per_message.unwrap_or(if spot { SPOT_TOPICS_PER_MESSAGE } else { 100 })
    }

    fn topics_per_connection(&self) -> Option<usize> {
        let public = matches!(self.endpoint, Endpoint::Public(_));
        self.per_connection.or_else(|| public.then_some(500))
    }

    // Source: the page of the topic `order`: one of all categories and one of a single category may not be in one message.
    fn shares(&self, topic: &Topic, other: &Topic) -> bool {
        let whole = |topic: &Topic| !topic.name().contains('.');
        !matches!(self.endpoint, Endpoint::Private(_)) || whole(topic) == whole(other)
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.args(id, "subscribe", topics, out)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.args(id, "unsubscribe", topics, out)
    }

    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        let data = Envelope::with_data(result).and_then(|is| is.data);
        let lists = data
            .filter(|data| data.contains("Topics"))
            .and_then(|data| serde_json::from_str::<Lists<'_>>(data).ok());
        lists.is_none_or(|lists| lists.success_topics.iter().any(|name| name == topic.name()))
    }

    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        let Refusal { ret_msg, ret_code, data } = serde_json::from_str(error).unwrap_or_default();
        let message = ret_msg.filter(|message| !message.is_empty()).unwrap_or(Cow::Borrowed(error));
        RpcError { code: ret_code.unwrap_or(0), message, data: data.map(|data| data.get()) }
    }

    fn heartbeat(&self, id: u64, _: &Context<'_>, out: &mut String) -> Ack {
        let name = if self.is_trade() { "reqId" } else { "req_id" };
        out.push_str(&json!({name: id.to_string(), "op": "ping"}).to_string());
        Ack::Response
    }

    fn limits(&self) -> Vec<Limit> {
        if !self.is_trade() {
            return Vec::new();
        }
        let orders = Limit::window("orders", self.orders_per_second, Duration::from_secs(1));
        vec![orders.shared(&self.account)]
    }

    fn cost(&self, _: &str, traffic: Traffic<'_>) -> u32 {
        u32::from(matches!(traffic, Traffic::Request(_) | Traffic::Message(_)))
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        match fault {
            Fault::Authentication(error) | Fault::Subscription(error) => {
                let code = self.error(error).code;
                Some(ErrorCode::of(code)?.recovery())
            }
            // The service behind this connection takes no more orders; another connection leads to one that does.
            Fault::Request(error) => {
                (self.error(error).code == errors::RESTARTING).then_some(Recovery::Reconnect)
            }
            _ => None,
        }
    }

    fn tracker(&self, topic: &Topic) -> Option<Box<dyn Tracker>> {
        let name = topic.name();
        let watched =
            self.watches_books && name.starts_with("orderbook.") && !name.starts_with("orderbook.1.");
        watched.then(|| SequenceRule::PlusOne.tracker())
    }
}

/// The answer to an order: its data, or all of an answer that refuses, and of one to several orders, which says beside the data what
/// became of each.
fn order_answer<'m>(text: &'m str, id: u64, is: &Envelope<'m>) -> Inbound<'m> {
    let result = match is.code {
        Some(0) if is.op.is_some_and(|op| op.ends_with("-batch")) => Ok(text),
        // What is told is a part of the message.
        Some(0) => Ok(Envelope::with_data(text).and_then(|is| is.data).unwrap_or(text)),
        _ => Err(text),
    };
    Inbound::Response { id, result }
}

/// An id of ours, which the venue has as a text: of an order it is behind the time at which that was made.
fn number(id: &str) -> Option<u64> {
    match id.split_once('-') {
        Some((_, hex)) => u64::from_str_radix(hex, 16).ok(),
        None => id.parse().ok(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
