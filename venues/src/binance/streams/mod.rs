//! The streams: market data, and user data by listen key.

#[cfg(test)]
mod tests;

use super::errors::{self, BAN};
use super::wire::{Envelope, Payload, read_error};
use super::{Market, topics};
use crate::Secret;
use everwire_core::protocol::{
    Ack, Context, Fault, Inbound, Protocol, Request, RpcError, Topic, Traffic, Unsupported,
};
use everwire_core::ws::UrlError;
use everwire_core::{
    Config, ConfigError, Endpoint, Limit, Limits, Policy, Recovery, SequenceRule, Tracker, Watch,
};
use std::fmt::Write;
use std::time::Duration;

/// What Binance's streams speak: market data of one kind of market.
///
/// A topic is the name of a stream, as in [`trade`](super::trade) and [`depth`](super::depth). What comes is
/// told as it came, `{"stream":"<name>","data":{...}}`.
///
/// - Messages are held to 5 (spot) or 10 (futures) in a second, pings and pongs included.
/// - The connection is changed ahead of its 24 hours, and at once when the server says that it shuts down
///   (`serverShutdown`, told as a notice).
/// - Changes of books are checked for completeness, by `U` and `u` on spot and by `pu` on futures.
/// - Names with symbols in upper case are refused here: the venue takes them for streams of which there are
///   no data.
///
/// [`Client::request`](everwire_core::Client::request) takes `LIST_SUBSCRIPTIONS`, `GET_PROPERTY` and
/// `SET_PROPERTY`.
///
/// The documents say of the limits: "A connection that goes beyond the limit will be disconnected; IPs that
/// are repeatedly disconnected may be banned." And 300 connections may be tried in 5 minutes from one
/// address: give the same [`Cooldown`](everwire_core::Cooldown) to all sessions, and leave
/// [`Config::flap_budget`] on, which allows each 30 in that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binance {
    market: Market,
    microseconds: bool,
    per_message: usize,
    per_connection: usize,
    combine: bool,
}

impl Binance {
    /// Spot, margin included.
    pub fn spot() -> Self {
        Self::new(Market::Spot)
    }

    /// USD-margined futures. Each stream is served by one of two addresses: see
    /// [`USD_FUTURES_PUBLIC`](super::USD_FUTURES_PUBLIC).
    pub fn usd_futures() -> Self {
        Self::new(Market::UsdFutures)
    }

    /// Coin-margined futures.
    pub fn coin_futures() -> Self {
        Self::new(Market::CoinFutures)
    }

    fn new(market: Market) -> Self {
        Self {
            market,
            microseconds: false,
            per_message: 100,
            per_connection: market.streams(),
            combine: false,
        }
    }

    /// Asks for times in microseconds, which only spot has. It is a parameter of the URL:
    /// [`config`](Self::config) sets it. Default: milliseconds.
    pub fn microseconds(self) -> Self {
        Self { microseconds: true, ..self }
    }

    /// Most streams in one message, at least 1. Default 100: the documents name no limit.
    pub fn topics_per_message(self, most: usize) -> Self {
        Self { per_message: most.max(1), ..self }
    }

    /// Most streams on one connection, at least 1. Default 1,024 on spot, and 200 on futures, which is what
    /// other clients keep to and what the page on options says; the pages on futures themselves say 1,024
    /// (read 2026-11).
    pub fn topics_per_connection(self, most: usize) -> Self {
        Self { per_connection: most.max(1), ..self }
    }

    /// Asks on each new connection that messages name their stream, which they do by themselves at `/stream`
    /// but not at `/ws`: for connections that begin with a [listen key](Self::user_data) and have market data
    /// too. It costs one message. Default: not.
    pub fn combine(self) -> Self {
        Self { combine: true, ..self }
    }

    /// A configuration for an address such as [`SPOT`](super::SPOT): [`Config::financial`], and
    ///
    /// - messages of at most 16 MiB, which is several times those of all tickers;
    /// - a [`Watch`] over the connection: if no data come for a minute it is pinged, after another one the
    ///   streams are subscribed to anew, as streams may be confirmed and stay silent (a wrong address, a name
    ///   that does not exist). [`Config::data_watch`] changes that;
    /// - status 418, a ban, and 403, of the firewall in front of the venue, wait for two minutes, the
    ///   shortest time of a ban. Without that, 403 would be taken for credentials that were refused.
    ///
    /// # Errors
    /// [`ConfigError::Url`] if it is no `ws://` or `wss://` URL.
    pub fn config(&self, url: &str) -> Result<Config, ConfigError> {
        let mut url = url.to_owned();
        if self.microseconds {
            url.push_str(if url.contains('?') { "&" } else { "?" });
            url.push_str("timeUnit=microsecond");
        }
        base(Config::new(&url)?, self.clone())
    }

    /// A configuration for user data: the provider makes an [`Endpoint`] by [`user_data`](Self::user_data)
    /// from a listen key that is fresh, before each attempt. As [`config`](Self::config), but that silence
    /// means nothing.
    ///
    /// # Errors
    /// None at present.
    pub fn user_config(&self) -> Result<Config, ConfigError> {
        Ok(base(Config::provided(), self.clone())?.data_watch(None))
    }

    /// Where the user data of a listen key are, which is a secret: it is put where it is shown nowhere.
    /// `base` is an address without a path, such as `wss://fstream.binance.com/private` or
    /// `wss://dstream.binance.com`.
    ///
    /// A key lives for 60 minutes, and is kept alive by REST (`PUT`, or `userDataStream.ping` of the
    /// WebSocket API): that is the user's to do, as is fetching it. When it expires all the same, the session
    /// is told (`listenKeyExpired`), and connects again with what the provider gives then.
    ///
    /// Spot has no listen keys any more (they were answered with status 410 from 2026-02-20): use
    /// [`BinanceApi`](super::BinanceApi) and [`user_data`](super::user_data) there. USD-M futures have
    /// `/ws?listenKey=` at their private address, since 2026-04; COIN-M futures have the key as the name of a
    /// stream.
    ///
    /// # Errors
    /// [`UrlError`] if that is no URL; of spot too.
    pub fn user_data(&self, base: &str, listen_key: &Secret) -> Result<Endpoint, UrlError> {
        let base = base.trim_end_matches('/');
        let place = match self.market {
            Market::Spot | Market::CoinFutures => "stream?streams",
            Market::UsdFutures => "ws?listenKey",
        };
        Endpoint::new(&format!("{base}/{place}={}", listen_key.expose()))
    }

    fn call(method: &str, id: u64, params: impl FnOnce(&mut String), out: &mut String) {
        out.push_str("{\"method\":");
        quote(method, out);
        params(out);
        // Writing to a string does not fail.
        let _ = write!(out, ",\"id\":{id}}}");
    }

    fn names(&self, method: &str, id: u64, topics: &[&Topic], out: &mut String) -> Result<Ack, Unsupported> {
        if let Some(reason) = topics.iter().find_map(|topic| topics::fault(topic.name())) {
            return Err(Unsupported { reason });
        }
        let list = |out: &mut String| {
            out.push_str(",\"params\":[");
            for (i, topic) in topics.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                quote(topic.name(), out);
            }
            out.push(']');
        };
        Self::call(method, id, list, out);
        Ok(Ack::Response)
    }
}

impl Protocol for Binance {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let Some(envelope) = Envelope::read(text) else { return Inbound::other() };
        let event = if envelope.stream.is_some() { envelope.data } else { envelope.own };
        if let Some(notice) = notice(event) {
            return notice;
        }
        if let Some(stream) = envelope.stream {
            let sequence = topics::is_diff_depth(stream).then(|| event.sequence()).flatten();
            return Inbound::Message { topic: Some(stream.into()), sequence, sent: event.sent() };
        }
        let error = envelope.error.or_else(|| (envelope.code && envelope.msg).then_some(text));
        match (envelope.own_id(), error, envelope.result) {
            (Some(id), Some(error), _) => Inbound::Response { id, result: Err(error) },
            (Some(id), None, Some(result)) => Inbound::Response { id, result: Ok(result) },
            (None, Some(error), _) => Inbound::Refused(error),
            _ => Inbound::Message { topic: None, sequence: None, sent: event.sent() },
        }
    }

    fn prepare(
        &self,
        step: u32,
        id: u64,
        _context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        if !self.combine || step > 0 {
            return Ok(Ack::None);
        }
        Self::call("SET_PROPERTY", id, |out| out.push_str(",\"params\":[\"combined\",true]"), out);
        Ok(Ack::Response)
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        _context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let params = match request.params {
            Some(params) if !params.trim_start().starts_with('[') => {
                let reason = format!("the parameters of {} are a list", request.method);
                return Err(Unsupported { reason });
            }
            params => params,
        };
        let list = |out: &mut String| {
            if let Some(params) = params {
                out.push_str(",\"params\":");
                out.push_str(params);
            }
        };
        Self::call(request.method, id, list, out);
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        self.per_message
    }

    fn topics_per_connection(&self) -> Option<usize> {
        Some(self.per_connection)
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.names("SUBSCRIBE", id, topics, out)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.names("UNSUBSCRIBE", id, topics, out)
    }

    /// The answer names no streams: it is for all of them.
    fn confirms(&self, _result: &str, _topic: &Topic) -> bool {
        true
    }

    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        read_error(error)
    }

    fn limits(&self) -> Vec<Limit> {
        let limit = Limit::window("messages", self.market.messages(), Duration::from_secs(1));
        vec![limit.margin(Duration::from_millis(250))]
    }

    /// Pings, pongs and JSON messages count alike; close frames are not named.
    fn cost(&self, _limit: &str, traffic: Traffic<'_>) -> u32 {
        u32::from(!matches!(traffic, Traffic::Close))
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        errors::recovery(fault)
    }

    fn tracker(&self, topic: &Topic) -> Option<Box<dyn Tracker>> {
        let rule = match self.market {
            Market::Spot => SequenceRule::Range,
            Market::UsdFutures | Market::CoinFutures => SequenceRule::PreviousId,
        };
        topics::is_diff_depth(topic.name()).then(|| rule.tracker())
    }

    fn life(&self) -> Option<Duration> {
        Some(super::LIFE)
    }
}

/// What an event says of the connection, if that is what it is about.
pub(super) fn notice(event: Payload<'_>) -> Option<Inbound<'_>> {
    let text = event.kind?;
    let recovery = match text {
        "serverShutdown" => Recovery::Reconnect,
        // Its message holds the key, and is not told.
        "listenKeyExpired" => Recovery::Reauthenticate,
        _ => return None,
    };
    Some(Inbound::Notice { text, recovery: Some(recovery) })
}

/// What fits both the streams and the WebSocket API.
pub(super) fn base(config: Config, protocol: impl Protocol + 'static) -> Result<Config, ConfigError> {
    let policy = Policy::default()
        .on_status(418..=418, Recovery::Backoff(BAN))?
        .on_status(403..=403, Recovery::Backoff(BAN))?;
    let limits = Limits { max_message: 16 << 20, ..Limits::default() };
    Ok(config
        .financial()
        .protocol(protocol)
        .policy(policy)
        .limits(limits)
        .data_watch(Watch::after(Duration::from_secs(60))))
}

pub(super) fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
