//! Coinbase Advanced Trade: market data, and the account's own orders.
//!
//! ```
//! use everwire_core::ConfigError;
//! use everwire_venues::coinbase::{self, Coinbase};
//!
//! # fn main() -> Result<(), ConfigError> {
//! // Market data need nothing but the address.
//! let market = Coinbase::new().config(coinbase::MARKET_DATA)?;
//! let topics = [coinbase::level2("BTC-USD"), coinbase::market_trades("BTC-USD")];
//! assert_eq!(topics[0].name(), "level2:BTC-USD");
//!
//! // The account's orders need a token for each message, which is made with whatever signs ES256 or Ed25519.
//! # fn sign(_: std::time::SystemTime) -> Result<String, std::io::Error> { Ok(String::new()) }
//! let mine = Coinbase::new().jwt(|context| sign(context.wall).map_err(|error| error.to_string()));
//! let orders = mine.config(coinbase::USER)?;
//! # Ok(())
//! # }
//! ```
//!
//! What is done: each connection begins with a subscription to `heartbeats`, so that an idle one is not ended after 5 s and quiet channels are not
//! closed after 60 to 90 s; products of a channel share a message, and no message names two channels; each message gets a token of its own; the
//! lists that the server answers with say which topics are in force; `sequence_num`, which runs over all of a connection, and `heartbeat_counter`
//! are watched; 8 messages a second are not exceeded.
//!
//! What is not: orders, which are placed over REST.
//!
//! # What is missing
//!
//! Numbers run over a connection, not over a topic. So a hole may have swallowed messages of any topic: one
//! [`Gap`](everwire_core::Event::Gap) names all of them, and each is subscribed to anew, which brings new snapshots.
//!
//! # Messages that hold several products
//!
//! A message belongs to one topic. If it holds several products, as those of `ticker_batch` and `candles` may, it is told as one of the first
//! product's topic: a program that subscribes to several products of such a channel reads all that a message of the channel holds. Those of
//! [`status`], [`user`] and [`futures_balance_summary`] are of one topic, whatever their products are.
//!
//! Which facts this rests on, and from when they are: `docs/guides/venues.md`.

mod numbers;
mod topics;
mod wire;

#[cfg(test)]
mod tests;

pub use topics::{
    candles, futures_balance_summary, heartbeats, level2, market_trades, status, ticker, ticker_batch, user,
    user_of,
};

use everwire_core::protocol::{
    Ack, Context, Fault, Inbound, Protocol, Request, RpcError, Topic, Unsupported,
};
use everwire_core::{Config, ConfigError, Limit, Limits, Recovery, Tracker};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where market data are, and the account's own as well. Source: docs.cdp.coinbase.com, "WebSocket overview".
pub const MARKET_DATA: &str = "wss://advanced-trade-ws.coinbase.com";
/// Where the account's own are alone: `user`, `futures_balance_summary` and `heartbeats`. Source: the same.
pub const USER: &str = "wss://advanced-trade-ws-user.coinbase.com";
/// For how long a token is good at most. Source: docs.cdp.coinbase.com, "WebSocket authentication".
pub const JWT_LIFE: Duration = Duration::from_secs(120);

/// The protocol. One value serves any number of sessions.
#[derive(Debug, Clone)]
pub struct Coinbase {
    jwt: Option<Jwt>,
    messages: (u32, Duration),
    address: String,
    batch: usize,
    tell_heartbeats: bool,
    counter: bool,
}

/// Makes a token, or says why it cannot.
type MakeJwt = dyn Fn(&Context<'_>) -> Result<String, String> + Send + Sync;

#[derive(Clone)]
struct Jwt(Arc<MakeJwt>);

// What a function of the user holds may be a secret.
impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jwt(..)")
    }
}

impl Default for Coinbase {
    fn default() -> Self {
        Self {
            jwt: None,
            messages: (8, Duration::from_secs(1)),
            address: "coinbase".to_owned(),
            batch: 100,
            tell_heartbeats: false,
            counter: true,
        }
    }
}

impl Coinbase {
    /// For public market data.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a token into each message, heartbeats included: `make` is called for every one, as each wants a token of its own that is good for
    /// [`JWT_LIFE`] at most. `Context::wall` is the time of day. It is called on the session's thread: it must not take long. The venue advises
    /// tokens for market data too.
    ///
    /// An error, which must hold no secret, is told: at the beginning of a connection that ends it, and another one is made; a topic is
    /// rejected, and asked for again.
    pub fn jwt(self, make: impl Fn(&Context<'_>) -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self { jwt: Some(Jwt(Arc::new(make))), ..self }
    }

    /// How many messages may be sent in what time. Default 8 in 1 s, which the venue allows one address as long as messages have no token. What it
    /// allows with tokens is not documented, and not verified.
    pub fn messages(self, max: u32, per: Duration) -> Self {
        Self { messages: (max, per), ..self }
    }

    /// What to call the address from which it is connected: sessions that share [`SharedLimits`](everwire_core::SharedLimits) and this name share what
    /// may be sent from there. Default `coinbase`.
    pub fn address(self, name: impl Into<String>) -> Self {
        Self { address: name.into(), ..self }
    }

    /// Most products in one message, at least 1. Default 100: the documents name no limit.
    pub fn topics_per_message(self, max: usize) -> Self {
        Self { batch: max.max(1), ..self }
    }

    /// Whether heartbeats are told as data of the topic [`heartbeats`]. Default: they are not told.
    pub fn tell_heartbeats(self, tell: bool) -> Self {
        Self { tell_heartbeats: tell, ..self }
    }

    /// Whether a hole in `heartbeat_counter` is a gap, although `sequence_num` has none. Default: it is, since the documents say that the counter
    /// "verifies that no messages were missed". Not verified: that the server never leaves out a heartbeat itself.
    pub fn heartbeat_counter(self, watch: bool) -> Self {
        Self { counter: watch, ..self }
    }

    /// A session's options that fit: [`Config::financial`], and messages of up to 32 MiB, as snapshots of books are long.
    ///
    /// # Errors
    /// [`ConfigError::Url`] if it is no `ws://` or `wss://` URL.
    pub fn config(&self, url: &str) -> Result<Config, ConfigError> {
        let limits = Limits { max_frame: 32 << 20, max_message: 32 << 20, ..Limits::default() };
        Ok(Config::new(url)?.financial().protocol(self.clone()).limits(limits))
    }

    fn say(
        &self,
        verb: &str,
        channel: &str,
        products: &[&str],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let jwt = match &self.jwt {
            None if topics::is_private(channel) => {
                let reason = format!("{channel}: it is the account's own: configure Coinbase::jwt");
                return Err(Unsupported { reason });
            }
            None => None,
            Some(Jwt(make)) => Some(make(context).map_err(|reason| Unsupported {
                reason: format!("the function that makes the token for {channel} refused: {reason}"),
            })?),
        };
        wire::write(verb, channel, products, jwt.as_deref(), out);
        Ok(())
    }

    fn topics(
        &self,
        verb: &str,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let Some(first) = topics.first() else { return Ok(()) };
        let (channel, _) = topics::parts(first.name());
        let mut products: Vec<&str> = Vec::with_capacity(topics.len());
        for topic in topics {
            topics::check(topic)?;
            if topics.len() > 1 && !self.shares(first, topic) {
                let reason = format!("{:?} and {:?} share no message", first.name(), topic.name());
                return Err(Unsupported { reason });
            }
            products.extend(topics::parts(topic.name()).1);
        }
        let listed = topics::listed(first)?;
        products.extend(listed.iter().map(String::as_str));
        self.say(verb, channel, &products, context, out)
    }
}

impl Protocol for Coinbase {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        wire::classify(text, self.tell_heartbeats)
    }

    /// Heartbeats first: they keep the connection, and all channels, open.
    fn prepare(
        &self,
        step: u32,
        _id: u64,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        if step == 0 {
            self.say("subscribe", topics::HEARTBEATS, &[], context, out)?;
        }
        Ok(Ack::None)
    }

    fn request(
        &self,
        _id: u64,
        request: &Request<'_>,
        _context: &Context<'_>,
        _out: &mut String,
    ) -> Result<(), Unsupported> {
        let reason = format!("{:?}: this interface of Coinbase has no requests, use REST", request.method);
        Err(Unsupported { reason })
    }

    fn topics_per_message(&self) -> usize {
        self.batch
    }

    fn shares(&self, topic: &Topic, other: &Topic) -> bool {
        match (topics::parts(topic.name()), topics::parts(other.name())) {
            ((channel, Some(_)), (same, Some(_))) => channel == same,
            _ => false,
        }
    }

    fn subscribe(
        &self,
        _id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.topics("subscribe", topics, context, out)?;
        Ok(Ack::Separate)
    }

    /// The server's list says nothing of what it was asked to end.
    fn unsubscribe(
        &self,
        _id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        // Those are what keeps all others open.
        if topics.iter().all(|topic| topic.name() != topics::HEARTBEATS) {
            self.topics("unsubscribe", topics, context, out)?;
        }
        Ok(Ack::None)
    }

    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        let (channel, product) = topics::parts(topic.name());
        wire::lists(result, channel, product)
    }

    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        wire::read_error(error)
    }

    /// By address, whatever is sent; nothing says that pings do not count.
    fn limits(&self) -> Vec<Limit> {
        let (max, per) = self.messages;
        let limit = Limit::window("messages", max, per).margin(Duration::from_millis(250));
        vec![limit.shared(self.address.as_str())]
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        let Fault::Subscription(error) = fault else { return None };
        wire::is_about_rate(error).then_some(Recovery::Backoff(PAUSE))
    }

    fn connection_tracker(&self) -> Option<Box<dyn Tracker>> {
        Some(Box::new(numbers::Numbers::new(self.counter)))
    }
}

/// How long a topic waits that was refused because too much was sent: the server counts by the second.
const PAUSE: Duration = Duration::from_secs(2);
