//! KuCoin, classic WebSocket interface: spot, margin and futures, market data and the account's own.
//!
//! Each connection begins with a token, which is fetched over HTTP with whatever client there is: that is the caller's part. What it
//! answers becomes an endpoint ([`Bullet`]); the session does the rest.
//!
//! ```no_run
//! use everwire_core::ProviderError;
//! use everwire_tokio::{Driver, OwnedEvent, spawn};
//! use everwire_venues::kucoin::{self, Bullet, Kucoin};
//!
//! # async fn post(url: &str) -> std::io::Result<String> { Ok(url.to_owned()) }
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let driver = Driver::new(Kucoin::new().config())?.provider(|| async {
//!     // Asked before each attempt, and after 0.8 of the token's 24 h.
//!     let answer = post(&format!("{}{}", kucoin::SPOT, kucoin::BULLET_PUBLIC)).await?;
//!     Ok::<_, ProviderError>(Bullet::parse(&answer)?.endpoint())
//! });
//! let (client, mut events) = spawn(driver);
//! client.subscribe(kucoin::ticker("BTC-USDT"));
//! while let Some(event) = events.next().await {
//!     if let OwnedEvent::Message { message, .. } = event {
//!         println!("{message}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What is done: the welcome is awaited; pings go out as often as the token's answer says and must be answered in its time; topics
//! of one channel share a message (at most 100), as many as a connection may have; 100 messages in 10 s are not exceeded; the numbers of
//! books are watched ([`level2`], [`futures::level2`]), and a book with a hole is subscribed to anew; a fresh token takes the place of
//! one that expires; refusals are read ([`Complaint`]).
//!
//! What is not: orders (another interface), the REST snapshot of a book, the signature of a request for a private token.
//!
//! A symbol that KuCoin does not know is confirmed all the same, and stays silent: give topics that must not be silent a
//! [`Watch`](everwire_core::Watch). Which facts this rests on, and from when they are: `docs/guides/venues.md`.

mod bullet;
mod message;
mod topics;

pub use bullet::{
    BULLET_PRIVATE, BULLET_PUBLIC, Bullet, BulletError, CONNECT_ID, FUTURES, SPOT, Server, TOKEN, TOKEN_LIFE,
};
pub use message::Complaint;
pub use topics::{
    all_tickers, balances, candles, depth5, depth50, futures, level1, level2, matches, orders, private,
    public, snapshot, ticker,
};

use everwire_core::protocol::{Ack, Context, Fault, Inbound, RpcError, Unsupported};
use everwire_core::{Config, Limit, Protocol, Recovery, Request, Sequences, Topic, Tracker};
use message::Channel;
use std::fmt::Write;
use std::time::Duration;

/// KuCoin's protocol. One value serves any number of sessions.
#[derive(Debug, Clone)]
pub struct Kucoin {
    messages: (u32, Duration),
    topics_per_message: usize,
    topics_per_connection: Option<usize>,
    books: bool,
    consecutive: Vec<String>,
}

impl Default for Kucoin {
    fn default() -> Self {
        Self {
            messages: (100, Duration::from_secs(10)),
            topics_per_message: Self::MAX_TOPICS_PER_MESSAGE,
            topics_per_connection: Some(300),
            books: true,
            consecutive: Vec::new(),
        }
    }
}

impl Kucoin {
    /// Most topics that one message may name.
    pub const MAX_TOPICS_PER_MESSAGE: usize = 100;

    /// As KuCoin's documents have it.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many messages a connection may send in what time. Default 100 in 10 s, whatever they are: pings are counted too.
    pub fn messages(self, max: u32, per: Duration) -> Self {
        Self { messages: (max, per), ..self }
    }

    /// Most topics that are named in one message, 1 to 100. Default 100. A message with one that is refused is refused as a whole; each is then
    /// asked for alone.
    pub fn topics_per_message(self, max: usize) -> Self {
        Self { topics_per_message: max.clamp(1, Self::MAX_TOPICS_PER_MESSAGE), ..self }
    }

    /// Most topics on a connection; those beyond wait. Default 300, which is what the list of errors says; 400 was seen for spot, and the page on
    /// limits sets none for futures: `None`. Not verified.
    pub fn topics_per_connection(self, max: impl Into<Option<usize>>) -> Self {
        Self { topics_per_connection: max.into(), ..self }
    }

    /// Whether the numbers of books are watched. Default: they are. The server was seen to leave out numbers now and then
    /// (Kucoin/kucoin-api-docs#44, 2019); each hole has a book made anew, more and more seldom if they keep coming.
    pub fn watch_books(self, watch: bool) -> Self {
        Self { books: watch, ..self }
    }

    /// Takes the `sn` of the messages of this channel, such as `/contractMarket/execution`, for numbers that follow on each other. Default: of
    /// none, since nothing says so of any but those of books, which are watched anyway.
    pub fn consecutive(mut self, channel: impl Into<String>) -> Self {
        self.consecutive.push(channel.into());
        self
    }

    /// A configuration for sessions: financial profile, this protocol, and no pings of WebSocket's own, since the protocol has its own. The session
    /// needs a provider (`Driver::provider`), which gives what [`Bullet::endpoint`] makes.
    pub fn config(&self) -> Config {
        Config::provided().financial().protocol(self.clone()).ping_interval(None)
    }

    fn counts(&self, topic: &str) -> bool {
        let channel = topics::parts(topic).0;
        self.consecutive.iter().any(|counted| counted == channel)
    }

    fn say(&self, verb: &str, id: u64, topics: &[&Topic], out: &mut String) -> Result<Ack, Unsupported> {
        let Some(first) = topics.first() else { return Ok(Ack::None) };
        let mut list = first.name().to_owned();
        for topic in &topics[1..] {
            if !self.shares(first, topic) {
                let reason = format!("{:?} and {:?} share no message", first.name(), topic.name());
                return Err(Unsupported { reason });
            }
            list.push(',');
            list.push_str(topics::parts(topic.name()).1.unwrap_or_default());
        }
        for topic in topics {
            check(topic.name())?;
        }
        let (private, list) = (topics::is_private(first), serde_json::Value::from(list));
        // Writing to a string does not fail.
        let _ = write!(
            out,
            r#"{{"id":"{id}","type":"{verb}","topic":{list},"privateChannel":{private},"response":true}}"#
        );
        Ok(Ack::Response)
    }
}

/// A list would be answered for, but its messages name one symbol each, so that none would be found to be of it.
fn check(name: &str) -> Result<(), Unsupported> {
    let wrong = if name.contains(',') {
        "subscribe to each symbol by itself: those of a channel are put into one message anyway"
    } else if !name.starts_with('/') {
        "topics of KuCoin begin with a slash, such as /market/ticker:BTC-USDT"
    } else {
        return Ok(());
    };
    Err(Unsupported { reason: format!("{name:?}: {wrong}") })
}

impl Protocol for Kucoin {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        message::classify(text, |topic| self.counts(topic))
    }

    fn greets(&self) -> bool {
        true
    }

    /// A welcome that names another connection's id is not ours: what follows would not be either.
    fn greeting(&self, text: &str, context: &Context<'_>) -> Result<(), Unsupported> {
        match (context.params.get(CONNECT_ID), message::welcomed(text)) {
            (Some(own), Some(other)) if own != other => {
                Err(Unsupported { reason: "the welcome has another connectId than the endpoint".to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn request(
        &self,
        _: u64,
        request: &Request<'_>,
        _: &Context<'_>,
        _: &mut String,
    ) -> Result<(), Unsupported> {
        let reason = format!("{:?}: this interface of KuCoin has no requests, use REST", request.method);
        Err(Unsupported { reason })
    }

    fn topics_per_message(&self) -> usize {
        self.topics_per_message
    }

    fn topics_per_connection(&self) -> Option<usize> {
        self.topics_per_connection
    }

    fn shares(&self, topic: &Topic, other: &Topic) -> bool {
        let kind = |topic: &Topic| topics::is_private(topic);
        match (topics::parts(topic.name()), topics::parts(other.name())) {
            ((_, Some(topics::ALL)), _) | (_, (_, Some(topics::ALL))) => false,
            ((channel, Some(_)), (same, Some(_))) => channel == same && kind(topic) == kind(other),
            _ => false,
        }
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.say("subscribe", id, topics, out)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.say("unsubscribe", id, topics, out)
    }

    /// Its answer names none: it is for all that were asked for.
    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }

    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        message::read_error(error)
    }

    fn heartbeat(&self, id: u64, _: &Context<'_>, out: &mut String) -> Ack {
        let _ = write!(out, r#"{{"id":"{id}","type":"ping"}}"#);
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
        let name = topic.name();
        match Channel::of(name) {
            Channel::Spot if self.books => Some(Box::new(Sequences::range())),
            Channel::Futures if self.books => Some(Box::new(Sequences::plus_one())),
            Channel::Other if self.counts(name) => Some(Box::new(Sequences::plus_one())),
            _ => None,
        }
    }

    fn life(&self) -> Option<Duration> {
        Some(TOKEN_LIFE)
    }
}

#[cfg(test)]
mod tests;
