//! The WebSocket API: requests, orders, and the user data of spot.

mod answer;
mod sign;
#[cfg(test)]
mod tests;
mod trading;

pub use answer::{Answer, ApiError, RateLimit};
pub use trading::{CancelOrder, NewOrder, OrderAck, Refused, Side, Trading};

use super::ErrorCode;
use super::errors;
use super::streams::{base, notice, quote};
use super::wire::{Envelope, read_error};
use super::{LIFE, Market};
use crate::Secret;
use everwire_core::protocol::{
    Ack, Context, Fault, Inbound, Protocol, Request, RpcError, Topic, Traffic, Unsupported,
};
use everwire_core::{Config, ConfigError, Limit, Recovery};
use sign::{Credentials, Params, Security};
use std::fmt::{Display, Write};
use std::time::Duration;

/// The topic of [`user_data`].
const USER_DATA: &str = "userDataStream";

/// The user data of spot: orders, balances. Messages are
/// `{"subscriptionId":0,"event":{"e":"executionReport",...}}`.
pub fn user_data() -> Topic {
    Topic::new(USER_DATA)
}

/// Binance's WebSocket API: [`SPOT_API`](super::SPOT_API) and its like.
///
/// Requests go by [`Client::request`](everwire_core::Client::request), or typed by [`Trading`]. Those that
/// need it get a timestamp, the API key and a signature as they are made. That is also why one that is resent
/// after a reconnect, or waits for long, may be refused with -1021: give orders a time
/// ([`RequestOptions::timeout`](everwire_core::RequestOptions::timeout)) below
/// [`recv_window`](Self::recv_window), and do not resend them.
///
/// - With [`ed25519`](Self::ed25519) each connection is logged on (`session.logon`), and requests need no
///   signature of their own. With [`hmac`](Self::hmac) or [`signer`](Self::signer) each request is signed.
/// - Requests are held to the weight of the address, and orders to the number that an account may place: as
///   documented, without what the venue told meanwhile and without what other programs use.
///   [`weight`](Self::weight) and [`orders`](Self::orders) set other numbers.
/// - A refusal is an [`OwnedRpcError`](everwire_core::protocol::OwnedRpcError) with the whole answer as its
///   data: see [`ApiError::of`]. That an order's outcome is not known (-1007, a status of 5xx) is told by
///   [`ApiError::is_execution_unknown`].
/// - [`user_data`] is a topic, of spot only. If the venue ends it (`eventStreamTerminated`) it is subscribed
///   to anew.
#[derive(Debug, Clone)]
pub struct BinanceApi {
    market: Market,
    credentials: Option<Credentials>,
    window: Option<Duration>,
    rate_limits: bool,
    weight: u32,
    orders: (u32, Duration),
    account: Option<String>,
}

impl BinanceApi {
    /// Spot.
    pub fn spot() -> Self {
        Self::new(Market::Spot, 6000, 50)
    }

    /// USD-margined futures.
    pub fn usd_futures() -> Self {
        Self::new(Market::UsdFutures, 2400, 300)
    }

    /// Coin-margined futures.
    pub fn coin_futures() -> Self {
        Self::new(Market::CoinFutures, 2400, 300)
    }

    fn new(market: Market, weight: u32, orders: u32) -> Self {
        Self {
            market,
            credentials: None,
            window: None,
            rate_limits: false,
            weight,
            orders: (orders, Duration::from_secs(10)),
            account: None,
        }
    }

    /// Signs each request that wants it with HMAC-SHA256.
    pub fn hmac(self, api_key: impl Into<Secret>, secret: impl Into<Secret>) -> Self {
        Self { credentials: Some(Credentials::hmac(api_key.into(), secret.into())), ..self }
    }

    /// Signs each request that wants it by a function: for keys that live elsewhere. It is given the text to
    /// be signed, `a=1&b=2`, and gives the signature: of RSA (PKCS1 v1.5, SHA-256) and Ed25519 in base64, of
    /// HMAC in hexadecimal. It must be quick: nothing else happens meanwhile.
    pub fn signer<E: Display>(
        self,
        api_key: impl Into<Secret>,
        sign: impl Fn(&str) -> Result<String, E> + Send + Sync + 'static,
    ) -> Self {
        Self { credentials: Some(Credentials::signer(api_key.into(), sign, false)), ..self }
    }

    /// Logs each connection on, which only Ed25519 keys may. `sign` is as in [`signer`](Self::signer), and is
    /// called once for each connection.
    pub fn ed25519<E: Display>(
        self,
        api_key: impl Into<Secret>,
        sign: impl Fn(&str) -> Result<String, E> + Send + Sync + 'static,
    ) -> Self {
        Self { credentials: Some(Credentials::signer(api_key.into(), sign, true)), ..self }
    }

    /// For how long after its timestamp a request may be carried out: up to 60 s, in milliseconds. Default:
    /// what the venue has, 5 s.
    pub fn recv_window(self, window: Duration) -> Self {
        Self { window: Some(window.min(Duration::from_secs(60))), ..self }
    }

    /// Makes the result of each request the whole answer, for [`Answer::parse`], with what was used of the
    /// venue's limits. Default: the venue is asked to leave that out ([`config`](Self::config)), and the
    /// result is the result.
    pub fn rate_limits(self, on: bool) -> Self {
        Self { rate_limits: on, ..self }
    }

    /// Most weight of requests in a minute; at least 1. Sessions that hold the same
    /// [`SharedLimits`](everwire_core::SharedLimits) share it, as it is of the address. Default 6,000 on
    /// spot, 2,400 on futures.
    pub fn weight(self, per_minute: u32) -> Self {
        Self { weight: per_minute.max(1), ..self }
    }

    /// Most orders in so much time; at least 1. Default 50 in 10 s on spot, 300 in 10 s on futures.
    pub fn orders(self, most: u32, per: Duration) -> Self {
        Self { orders: (most.max(1), per), ..self }
    }

    /// A name for the account, no secret: sessions of one account that hold the same
    /// [`SharedLimits`](everwire_core::SharedLimits) share its limit on orders. Default: each connection has
    /// its own.
    pub fn account(self, name: impl Into<String>) -> Self {
        Self { account: Some(name.into()), ..self }
    }

    /// A configuration for an address such as [`SPOT_API`](super::SPOT_API): as
    /// [`Binance::config`](super::Binance::config), but that silence means nothing.
    ///
    /// # Errors
    /// [`ConfigError::Url`] if it is no `ws://` or `wss://` URL.
    pub fn config(&self, url: &str) -> Result<Config, ConfigError> {
        let mut url = url.to_owned();
        if !self.rate_limits && self.market == Market::Spot {
            url.push_str(if url.contains('?') { "&" } else { "?" });
            url.push_str("returnRateLimits=false");
        }
        Ok(base(Config::new(&url)?, self.clone())?.data_watch(None))
    }

    fn write(
        &self,
        id: u64,
        method: &str,
        params: Option<&str>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let security = Security::of(method);
        let mut params = Params::read(method, params)?;
        // Logging on is what makes signatures needless, so it has one.
        let logon = method == "session.logon";
        let credentials = self.credentials.as_ref();
        let wants = params.wants_signature(security);
        let signs = wants && credentials.is_some_and(|credentials| logon || !credentials.logs_on);
        params.authorise(security, credentials, self.window, context.wall, logon)?;
        let signature = match credentials.filter(|_| signs) {
            Some(credentials) => Some(params.sign(credentials)?),
            None => None,
        };
        // Writing to a string does not fail.
        let _ = write!(out, "{{\"id\":{id},\"method\":");
        quote(method, out);
        if !params.is_empty() {
            out.push_str(",\"params\":");
            params.write(signature.as_deref(), out);
        }
        out.push('}');
        Ok(())
    }

    /// Only the market of spot has user data here.
    fn of_user_data(&self, topics: &[&Topic]) -> Result<(), Unsupported> {
        if self.market != Market::Spot {
            let reason = "futures have no user data here: Binance::user_data makes a session of a listen key";
            return Err(Unsupported { reason: reason.to_owned() });
        }
        match topics.iter().find(|topic| topic.name() != USER_DATA) {
            Some(topic) => {
                let reason =
                    format!("{:?} is no topic of the WebSocket API: streams are Binance's", topic.name());
                Err(Unsupported { reason })
            }
            None => Ok(()),
        }
    }
}

impl Protocol for BinanceApi {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let Some(envelope) = Envelope::read(text) else { return Inbound::other() };
        if let Some(event) = envelope.event {
            return match (notice(event), event.kind) {
                (Some(notice), _) => notice,
                (None, Some("eventStreamTerminated")) => Inbound::Unsubscribed { topic: USER_DATA.into() },
                (None, _) => {
                    Inbound::Message { topic: Some(USER_DATA.into()), sequence: None, sent: event.sent() }
                }
            };
        }
        // Futures say it without an envelope.
        if let Some(notice) = notice(envelope.own) {
            return notice;
        }
        match (envelope.own_id(), envelope.error, envelope.result) {
            // The whole: status, limits and when to come again are besides the error.
            (Some(id), Some(_), _) => Inbound::Response { id, result: Err(text) },
            (Some(id), None, Some(_)) if self.rate_limits => Inbound::Response { id, result: Ok(text) },
            (Some(id), None, Some(result)) => Inbound::Response { id, result: Ok(result) },
            // The key that the connection was logged on with is not valid any more.
            (None, Some(error), _) if envelope.status == Some(401) => {
                Inbound::Notice { text: error, recovery: Some(Recovery::Reauthenticate) }
            }
            (None, Some(_), _) => Inbound::Refused(text),
            _ => Inbound::other(),
        }
    }

    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        if self.credentials.as_ref().is_none_or(|credentials| !credentials.logs_on) {
            return Ok(Ack::None);
        }
        self.write(id, "session.logon", None, context, out)?;
        Ok(Ack::Response)
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        self.write(id, request.method, request.params, context, out)
    }

    /// Each subscribes to all there is.
    fn topics_per_message(&self) -> usize {
        1
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.of_user_data(topics)?;
        let logs_on = self.credentials.as_ref().is_some_and(|credentials| credentials.logs_on);
        let method = if logs_on { "userDataStream.subscribe" } else { "userDataStream.subscribe.signature" };
        self.write(id, method, None, context, out)?;
        Ok(Ack::Response)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.of_user_data(topics)?;
        self.write(id, "userDataStream.unsubscribe", None, context, out)?;
        Ok(Ack::Response)
    }

    fn confirms(&self, _result: &str, _topic: &Topic) -> bool {
        true
    }

    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        read_error(error)
    }

    fn limits(&self) -> Vec<Limit> {
        let (most, per) = self.orders;
        let orders = Limit::window("orders", most, per);
        vec![
            Limit::window("weight", self.weight, Duration::from_secs(60)).shared("binance"),
            match &self.account {
                Some(account) => orders.shared(format!("binance {account}")),
                None => orders,
            },
        ]
    }

    fn cost(&self, limit: &str, traffic: Traffic<'_>) -> u32 {
        let method = match traffic {
            Traffic::Request(method) => method.rsplit('/').next().unwrap_or(method),
            Traffic::Authenticate => "session.logon",
            Traffic::Subscribe(_) | Traffic::Unsubscribe(_) => "userDataStream.subscribe",
            _ => return 0,
        };
        match limit {
            "orders" => orders_of(method),
            "weight" => weight_of(method),
            _ => 1,
        }
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        errors::recovery(fault)
    }

    fn life(&self) -> Option<Duration> {
        Some(LIFE)
    }
}

/// How many orders a request counts as.
fn orders_of(method: &str) -> u32 {
    match method {
        "order.place" | "order.cancelReplace" | "sor.order.place" => 1,
        "orderList.place" | "orderList.place.oco" | "orderList.place.oto" => 2,
        "orderList.place.otoco" => 3,
        _ => 0,
    }
}

/// What a request weighs on spot, at most, as far as that can be told from its method. Parameters change it
/// for some: the depth of a book of more than 100 levels, and lists of all symbols, weigh more.
fn weight_of(method: &str) -> u32 {
    match method {
        "depth" => 5,
        "exchangeInfo" | "account.status" | "allOrders" | "allOrderLists" | "myTrades" => 20,
        "account.commission" | "myPreventedMatches" | "myAllocations" => 20,
        "trades.recent" | "trades.historical" => 25,
        "account.rateLimits.orders" => 40,
        "openOrders.status" | "openOrderLists.status" => 6,
        "order.status" | "trades.aggregate" | "orderList.status" | "order.amend.keepPriority" => 4,
        "klines" | "uiKlines" | "avgPrice" | "ticker.24hr" | "ticker.price" | "ticker.book" => 4,
        "session.logon" | "session.status" | "session.logout" => 2,
        "userDataStream.subscribe" | "userDataStream.subscribe.signature" | "userDataStream.unsubscribe" => 2,
        _ => 1,
    }
}
