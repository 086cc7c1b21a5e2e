//! OKX, version 5: market data, private channels, orders.
//!
//! ```no_run
//! use everwire_venues::okx::{self, Okx};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // Market data.
//! let (public, mut market) = everwire_tokio::connect(Okx::new().config(okx::PUBLIC)?)?;
//! public.subscribe(okx::books("BTC-USDT"));
//!
//! // What is the account's own is at another address, and wants a login.
//! let okx = Okx::new().credentials("the API key", "the secret key", "the passphrase");
//! let (private, mut account) = everwire_tokio::connect(okx.config(okx::PRIVATE)?)?;
//! private.subscribe(okx::orders("ANY"));
//! while let Some(event) = account.next().await {
//!     println!("{event:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Facts are from <https://www.okx.com/docs-v5/en/> ("Overview", "WebSocket", "Error Code"), as copies of
//! 2026-07 have them. Shapes of messages that these describe in words are as other clients read them, and
//! what is not understood reaches the user.

mod errors;
#[cfg(test)]
mod tests;
mod topics;
mod trading;
mod wire;

pub use errors::explain;
pub use topics::{
    Channel, account, bbo, books, books5, candles, channel, orders, positions, tickers, trades,
};
pub use trading::{CancelOrder, NewOrder, OrderAck, Side, Trading};

use crate::Secret;
use everwire_core::protocol::{
    Ack, Context, Fault, Inbound, Protocol, Request, RpcError, Topic, Traffic, Unsupported,
};
use everwire_core::{Config, ConfigError, Limit, Limits, Recovery, SequenceRule, Tracker, Watch};
use serde_json::{Value, json};
use std::fmt::{self, Display, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use wire::{Envelope, is_book, read_error};

/// Market data.
pub const PUBLIC: &str = "wss://ws.okx.com:8443/ws/v5/public";
/// Orders, account, positions.
pub const PRIVATE: &str = "wss://ws.okx.com:8443/ws/v5/private";
/// Candles, trades one by one, algorithmic orders.
pub const BUSINESS: &str = "wss://ws.okx.com:8443/ws/v5/business";
/// [`PUBLIC`] of demo trading.
pub const DEMO_PUBLIC: &str = "wss://wspap.okx.com:8443/ws/v5/public";
/// [`PRIVATE`] of demo trading.
pub const DEMO_PRIVATE: &str = "wss://wspap.okx.com:8443/ws/v5/private";

/// Most bytes of the arguments of one message.
const MAX_ARGS: usize = 64 << 10;
const HOUR: Duration = Duration::from_secs(3600);

/// What OKX speaks. See the [module](self) for an example; topics are made by [`books`] and its like, or by
/// [`Channel`].
///
/// - Text `ping` goes out every 15 s, as a connection ends on which nothing came for 30 s.
/// - Logins and subscriptions are held to 480 in an hour on each connection.
/// - Changes of books are checked for completeness by `prevSeqId` and `seqId`, with the resets and
///   repetitions that the venue describes. Checksums are not looked at: the venue gives them up.
/// - A notice of an upgrade (64008) changes the connection at once.
/// - An error that names no channel is that of its message: its topics are asked for alone.
///
/// [`Client::request`](everwire_core::Client::request) takes operations on orders: its method is the `op`,
/// its parameters are the `args`, a list or one of them. A result is the `data`. If only a part of a batch
/// was carried out (code 2) that is a result, and each `sCode` in it is to be looked at.
#[derive(Debug, Clone)]
pub struct Okx {
    credentials: Option<Credentials>,
    per_message: usize,
    orders: (u32, Duration),
}

type Sign = dyn Fn(&str) -> Result<String, String> + Send + Sync;

#[derive(Clone)]
struct Credentials {
    key: Secret,
    passphrase: Secret,
    sign: Arc<Sign>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Default for Okx {
    fn default() -> Self {
        Self::new()
    }
}

impl Okx {
    /// Without a login.
    pub fn new() -> Self {
        Self { credentials: None, per_message: 100, orders: (60, Duration::from_secs(2)) }
    }

    /// Logs each connection in.
    pub fn credentials(
        self,
        api_key: impl Into<Secret>,
        secret_key: impl Into<Secret>,
        passphrase: impl Into<Secret>,
    ) -> Self {
        let secret: Secret = secret_key.into();
        self.signer(api_key, passphrase, move |text| Ok::<_, String>(secret.hmac_base64(text)))
    }

    /// The same with a function that signs, for keys that live elsewhere: it is given the text, such as
    /// `1704876947GET/users/self/verify`, and gives its HMAC-SHA256 in base64. It must be quick: nothing else
    /// happens meanwhile.
    pub fn signer<E: Display>(
        self,
        api_key: impl Into<Secret>,
        passphrase: impl Into<Secret>,
        sign: impl Fn(&str) -> Result<String, E> + Send + Sync + 'static,
    ) -> Self {
        let sign = move |text: &str| sign(text).map_err(|error| error.to_string());
        let credentials =
            Credentials { key: api_key.into(), passphrase: passphrase.into(), sign: Arc::new(sign) };
        Self { credentials: Some(credentials), ..self }
    }

    /// Most topics in one message, at least 1. Default 100: of the venue's own bound, 64 KB, that is a part.
    /// A message that is longer all the same is not sent, and its topics are asked for alone.
    pub fn topics_per_message(self, most: usize) -> Self {
        Self { per_message: most.max(1), ..self }
    }

    /// Most operations on orders in so much time; at least 1. Default 60 in 2 s. The venue counts them by
    /// instrument and kind of operation, which is more: not verified.
    pub fn orders(self, most: u32, per: Duration) -> Self {
        Self { orders: (most.max(1), per), ..self }
    }

    /// A configuration for an address such as [`PUBLIC`]: [`Config::financial`], and
    ///
    /// - text `ping` every 15 s, and no pings of WebSocket, which the documents do not mention; what does not
    ///   answer within 10 s is given up;
    /// - 3 attempts in 1.25 s at most, as 3 in a second are allowed from one address: of several sessions
    ///   that start at once, each counts;
    /// - messages of at most 16 MiB;
    /// - without a login, a [`Watch`] over the connection: without data for a minute it is pinged, and after
    ///   another one the topics are subscribed to anew.
    ///
    /// # Errors
    /// [`ConfigError::Url`] if it is no `ws://` or `wss://` URL.
    pub fn config(&self, url: &str) -> Result<Config, ConfigError> {
        let watch = Watch::after(Duration::from_secs(60));
        Ok(Config::new(url)?
            .financial()
            .protocol(self.clone())
            .ping_interval(None)
            .heartbeat_interval(Duration::from_secs(15))
            .heartbeat_timeout(Duration::from_secs(10))
            .flap_budget((3, Duration::from_millis(1250)))
            .limits(Limits { max_message: 16 << 20, ..Limits::default() })
            // A quiet account is no fault.
            .data_watch(self.credentials.is_none().then_some(watch)))
    }

    fn ask(op: &str, id: u64, topics: &[&Topic], out: &mut String) -> Result<Ack, Unsupported> {
        // Writing to a string does not fail.
        let _ = write!(out, "{{\"id\":\"{id}\",\"op\":\"{op}\",\"args\":[");
        for (i, topic) in topics.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&topics::arg(topic));
        }
        out.push_str("]}");
        if out.len() > MAX_ARGS {
            out.clear();
            return Err(Unsupported { reason: "the topics of one message are longer than 64 KB".to_owned() });
        }
        Ok(Ack::Separate)
    }
}

impl Protocol for Okx {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        if text == "pong" {
            return Inbound::HeartbeatAnswer;
        }
        let Some(envelope) = Envelope::read(text) else { return Inbound::other() };
        let topic = envelope.arg.and_then(|arg| arg.name());
        let Some(event) = envelope.event else {
            return match (envelope.own_id(), envelope.op, topic) {
                (Some(id), Some(_), _) => Inbound::Response { id, result: answer(&envelope, text) },
                (_, _, Some(topic)) => {
                    let numbered = envelope.arg.is_some_and(|arg| arg.is_book());
                    let sequence = numbered.then(|| envelope.data.sequence()).flatten();
                    Inbound::Message { topic: Some(topic), sequence, sent: envelope.data.sent() }
                }
                _ => Inbound::other(),
            };
        };
        if let Some((text, recovery)) = errors::notice(&envelope, text) {
            return Inbound::Notice { text, recovery };
        }
        match (event, topic) {
            ("subscribe", Some(topic)) => {
                Inbound::Subscribed { topic, id: envelope.own_id(), result: Ok(()) }
            }
            ("unsubscribe", Some(topic)) => Inbound::Unsubscribed { topic },
            ("login", _) if envelope.code.is_none_or(|code| code == "0") => Inbound::Authenticated(Ok(text)),
            ("login", _) => Inbound::Authenticated(Err(text)),
            ("error", Some(topic)) => Inbound::Subscribed { topic, id: envelope.own_id(), result: Err(text) },
            ("error", None) => match envelope.own_id() {
                Some(id) => Inbound::Response { id, result: Err(text) },
                None if envelope.code.is_some_and(errors::is_of_login) => Inbound::Authenticated(Err(text)),
                None => Inbound::Refused(text),
            },
            _ => Inbound::other(),
        }
    }

    fn authenticate(&self, _id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        let Some(Credentials { key, passphrase, sign }) = &self.credentials else { return Ok(Ack::None) };
        // A clock before 1970 is told by the venue.
        let time = context.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let sign = sign(&format!("{time}GET/users/self/verify"))
            .map_err(|error| Unsupported { reason: format!("it cannot be signed: {error}") })?;
        let arg = json!({
            "apiKey": key.expose(), "passphrase": passphrase.expose(), "timestamp": time.to_string(), "sign": sign,
        });
        let _ = write!(out, "{{\"op\":\"login\",\"args\":[{arg}]}}");
        Ok(Ack::Separate)
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        _context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let args = request.params.unwrap_or("[]").trim();
        let _ = write!(out, "{{\"id\":\"{id}\",\"op\":{},\"args\":", Value::from(request.method));
        match args.as_bytes().first() {
            Some(b'[') => out.push_str(args),
            Some(b'{') => drop(write!(out, "[{args}]")),
            _ => {
                out.clear();
                let reason = format!("the parameters of {} are neither a list nor an object", request.method);
                return Err(Unsupported { reason });
            }
        }
        out.push('}');
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        self.per_message
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        Self::ask("subscribe", id, topics, out)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        Self::ask("unsubscribe", id, topics, out)
    }

    fn confirms(&self, _result: &str, _topic: &Topic) -> bool {
        false
    }

    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        read_error(error)
    }

    fn heartbeat(&self, _id: u64, _context: &Context<'_>, out: &mut String) -> Ack {
        out.push_str("ping");
        Ack::Response
    }

    fn limits(&self) -> Vec<Limit> {
        let (most, per) = self.orders;
        vec![Limit::window("requests", 480, HOUR), Limit::window("orders", most, per)]
    }

    fn cost(&self, limit: &str, traffic: Traffic<'_>) -> u32 {
        u32::from(matches!(
            (limit, traffic),
            ("requests", Traffic::Authenticate | Traffic::Subscribe(_) | Traffic::Unsubscribe(_))
                | ("orders", Traffic::Request(_))
        ))
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        errors::recovery(fault)
    }

    fn tracker(&self, topic: &Topic) -> Option<Box<dyn Tracker>> {
        let channel = topic.name().split(':').next().unwrap_or_default();
        is_book(channel).then(|| SequenceRule::PreviousId.tracker())
    }
}

/// The answer to an operation on orders: its data, or the whole for an error.
fn answer<'m>(envelope: &Envelope<'m>, text: &'m str) -> Result<&'m str, &'m str> {
    #[derive(serde::Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        data: &'a serde_json::value::RawValue,
    }
    // In part: each order tells its own.
    if !matches!(envelope.code, Some("0" | "2")) {
        return Err(text);
    }
    serde_json::from_str::<Whole<'_>>(text).map(|whole| whole.data.get()).map_err(|_| text)
}
