//! Kraken, spot, WebSocket interface version 2: market data, the account's own, orders.
//!
//! ```no_run
//! use everwire_tokio::{OwnedEvent, connect};
//! use everwire_venues::kraken::{self, Depth, Kraken};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (client, mut events) = connect(Kraken::new().config(kraken::URL)?)?;
//! client.subscribe(kraken::book("BTC/USD", Depth::Ten));
//! client.subscribe(kraken::trades("BTC/USD"));
//! while let Some(event) = events.next().await {
//!     match event {
//!         OwnedEvent::Message { message, .. } => println!("{message}"),
//!         // A checksum that did not fit, or a connection that was lost: a snapshot follows.
//!         OwnedEvent::Gap(gap) => println!("{:?}", gap.cause),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The account's own is at another URL, and needs a token, which is fetched over HTTP: that is the caller's part. One session for each.
//!
//! ```no_run
//! use everwire_core::{ProviderError, Request};
//! use everwire_tokio::{Driver, spawn};
//! use everwire_venues::kraken::{self, Kraken, Token};
//!
//! # async fn signed_post(url: &str) -> std::io::Result<String> { Ok(url.to_owned()) }
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let driver = Driver::new(Kraken::new().private_config())?.provider(|| async {
//!     let answer = signed_post(kraken::GET_TOKEN).await?;
//!     Ok::<_, ProviderError>(Token::parse(&answer)?.endpoint())
//! });
//! let (client, events) = spawn(driver);
//! client.subscribe(kraken::executions());
//! // The token goes in by itself.
//! let order = r#"{"order_type":"limit","side":"buy","symbol":"BTC/USD","limit_price":26500.4,"order_qty":1.2}"#;
//! let answer = client.request(Request::new("add_order").params(order)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What is done: symbols of a channel share a message, each is confirmed by itself; checksums of books are compared and a book that does not fit is
//! subscribed to anew, alone; tokens go into what needs them; pings notice a dead connection within 5 s; messages are paced; refusals are
//! read ([`Complaint`]).
//!
//! What is not: the book itself (the text of each message is the caller's), the request for a token, checksums of `level3`. Which facts this
//! rests on: `docs/guides/venues.md`.

mod book;
mod message;
mod token;
mod topics;

pub use message::Complaint;
pub use token::{GET_TOKEN, TOKEN, Token, TokenError};
pub use topics::{Depth, balances, book, executions, instruments, ohlc, ticker, topic, trades};

use book::Checksums;
use everwire_core::protocol::{Ack, Context, Fault, Inbound, RpcError, Unsupported};
use everwire_core::{Config, ConfigError, Limit, Protocol, Recovery, Request, Sequences, Topic, Tracker};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;
use topics::Parts;

/// Market data.
pub const URL: &str = "wss://ws.kraken.com/v2";
/// The account's own, and orders.
pub const PRIVATE_URL: &str = "wss://ws-auth.kraken.com/v2";
/// Market data, where new features come first; it trades on the same engine.
pub const BETA_URL: &str = "wss://beta-ws.kraken.com/v2";
/// The account's own, where new features come first.
pub const BETA_PRIVATE_URL: &str = "wss://beta-ws-auth.kraken.com/v2";

/// Kraken's protocol. One value serves any number of sessions.
#[derive(Debug, Clone)]
pub struct Kraken {
    messages: (u32, Duration),
    topics_per_message: usize,
    checksums: bool,
    numbers: bool,
}

impl Default for Kraken {
    fn default() -> Self {
        Self {
            messages: (10, Duration::from_secs(1)),
            topics_per_message: 100,
            checksums: true,
            numbers: true,
        }
    }
}

impl Kraken {
    /// As Kraken's documents have it.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many messages a connection may send in what time. Default 10 in 1 s: Kraken names no number, it depends on its load. Not verified.
    pub fn messages(self, max: u32, per: Duration) -> Self {
        Self { messages: (max, per), ..self }
    }

    /// Most symbols that are named in one message, at least 1. Default 100: Kraken names no limit. Not verified.
    pub fn topics_per_message(self, max: usize) -> Self {
        Self { topics_per_message: max.max(1), ..self }
    }

    /// Whether checksums of books are compared. Default: they are, which takes reading each message of a book as a whole.
    pub fn checksums(self, compare: bool) -> Self {
        Self { checksums: compare, ..self }
    }

    /// Whether `sequence` of executions and balances counts one by one, so that a hole is told and the topic subscribed to anew. Default: it
    /// does, as in the documents' examples. Not verified.
    pub fn numbers(self, watch: bool) -> Self {
        Self { numbers: watch, ..self }
    }

    /// A configuration for sessions at [`URL`], or elsewhere: financial profile, this protocol, a ping every 3 s that must be answered within 2 s
    /// unless data comes (Kraken's advice is to leave a connection that was silent for 5 s), and fewer attempts to connect than Kraken's
    /// front allows (150 in 10 min).
    ///
    /// # Errors
    /// [`ConfigError`] if it is no URL of a WebSocket.
    pub fn config(&self, url: &str) -> Result<Config, ConfigError> {
        Ok(self.fit(Config::new(url)?))
    }

    /// The same for [`PRIVATE_URL`]. The session needs a provider (`Driver::provider`), which gives what [`Token::endpoint`] makes.
    pub fn private_config(&self) -> Config {
        self.fit(Config::provided())
    }

    fn fit(&self, config: Config) -> Config {
        let config = config.financial().protocol(self.clone()).ping_interval(None);
        let config =
            config.heartbeat_interval(Duration::from_secs(3)).heartbeat_timeout(Duration::from_secs(2));
        config.flap_budget((120, Duration::from_secs(600)))
    }
}

/// A message with these parameters (texts of JSON, in this order), and a token if it needs one.
fn write(method: &str, id: u64, params: &[(&str, &str)], token: Option<&str>, out: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(out, r#"{{"method":"{method}","params":{{"#);
    let token = token.map(|token| serde_json::Value::from(token).to_string());
    let all = params.iter().copied().chain(token.as_deref().map(|token| ("token", token)));
    for (n, (key, value)) in all.enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{}:{value}", serde_json::Value::from(key));
    }
    let _ = write!(out, r#"}},"req_id":{id}}}"#);
}

/// The keys of an object and their values.
fn object(json: &str) -> Result<BTreeMap<String, &RawValue>, Unsupported> {
    #[derive(Deserialize)]
    struct Object<'m>(#[serde(borrow)] BTreeMap<String, &'m RawValue>);

    // They may hold a token: only where they are wrong is told, not what stands there.
    let Object(all) = serde_json::from_str(json).map_err(|error| Unsupported {
        reason: format!(
            "parameters must be a JSON object: {:?} error at line {}, column {}",
            error.classify(),
            error.line(),
            error.column()
        ),
    })?;
    Ok(all)
}

/// What needs a token gets it from the endpoint.
fn token<'a>(what: &str, context: &Context<'a>) -> Result<&'a str, Unsupported> {
    context.params.get(TOKEN).ok_or_else(|| Unsupported {
        reason: format!(
            "{what} needs a token: use Kraken::private_config and a provider that gives Token::endpoint"
        ),
    })
}

impl Kraken {
    fn say(
        &self,
        method: &str,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let Some(first) = topics.first() else { return Ok(Ack::None) };
        if let Some(other) = topics.iter().find(|topic| !self.alike(first, topic)) {
            let reason = format!("{:?} and {:?} share no message", first.name(), other.name());
            return Err(Unsupported { reason });
        }
        let channel = Parts::of(first.name()).channel;
        let symbols: Vec<&str> = topics.iter().filter_map(|topic| Parts::of(topic.name()).symbol).collect();
        let (name, list) = (serde_json::Value::from(channel).to_string(), serde_json::Value::from(symbols));
        let (has_symbols, list) = (list != serde_json::json!([]), list.to_string());
        let given = first.params().map(object).transpose()?.unwrap_or_default();
        // What a subscription is to be like does not matter to its end; a candle's interval says which it is.
        let wanted = |key: &str| method == "subscribe" || key == "interval";
        let mut params = vec![("channel", name.as_str())];
        params.extend(has_symbols.then_some(("symbol", list.as_str())));
        params.extend(
            given.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.as_str(), value.get())),
        );
        let token = topics::is_private(channel).then(|| token(channel, context)).transpose()?;
        write(method, id, &params, token, out);
        Ok(Ack::Separate)
    }

    fn alike(&self, topic: &Topic, other: &Topic) -> bool {
        let (one, two) = (Parts::of(topic.name()), Parts::of(other.name()));
        let same = one.channel == two.channel && topic.params() == other.params();
        topic.name() == other.name() || same && one.symbol.is_some() && two.symbol.is_some()
    }
}

impl Protocol for Kraken {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        message::classify(text, self.numbers)
    }

    /// Any method with its parameters, a JSON object; the endpoint's token is added unless they have one. Without a connection there is no token,
    /// and the request is not taken: await `Online`. `cancel_order` with several orders is answered once for each: the first is the
    /// answer, the others come as messages.
    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let given = request.params.map(object).transpose()?.unwrap_or_default();
        let params: Vec<(&str, &str)> =
            given.iter().map(|(key, value)| (key.as_str(), value.get())).collect();
        let method = serde_json::Value::from(request.method).to_string();
        let method = method.trim_matches('"');
        let needs = request.method != "ping" && !given.contains_key("token");
        let token = needs.then(|| token(request.method, context)).transpose()?;
        write(method, id, &params, token, out);
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        self.topics_per_message
    }

    fn shares(&self, topic: &Topic, other: &Topic) -> bool {
        self.alike(topic, other)
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.say("subscribe", id, topics, context, out)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.say("unsubscribe", id, topics, context, out)
    }

    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        message::names(result, Parts::of(topic.name()).symbol)
    }

    /// A complaint names its symbol, and not its channel: one message is about one channel.
    fn refuses(&self, error: &str, topic: &Topic) -> bool {
        message::names(error, Parts::of(topic.name()).symbol)
    }

    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        message::read_error(error)
    }

    fn heartbeat(&self, id: u64, _: &Context<'_>, out: &mut String) -> Ack {
        let _ = write!(out, r#"{{"method":"ping","req_id":{id}}}"#);
        Ack::Response
    }

    fn limits(&self) -> Vec<Limit> {
        let (max, per) = self.messages;
        vec![Limit::window("messages", max, per)]
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        message::recovery(fault)
    }

    fn tracker(&self, topic: &Topic) -> Option<Box<dyn Tracker>> {
        let Parts { channel, symbol } = Parts::of(topic.name());
        match (channel, symbol) {
            ("book", Some(symbol)) if self.checksums => {
                let params = topic.params().and_then(|params| object(params).ok()).unwrap_or_default();
                let says = |key: &str| params.get(key).map(|value| value.get());
                if says("snapshot") == Some("false") {
                    return None;
                }
                let depth = says("depth").and_then(|depth| depth.parse().ok()).unwrap_or(10);
                Some(Box::new(Checksums::new(symbol, depth)))
            }
            ("executions" | "balances", _) if self.numbers => Some(Box::new(Sequences::plus_one())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
