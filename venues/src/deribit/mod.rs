//! Deribit: futures, options and spot, over JSON-RPC 2.0.
//!
//! ```
//! use everwire_core::{Config, ConfigError};
//! use everwire_venues::deribit::{self, CancelOnDisconnect, Deribit, Interval};
//!
//! # fn main() -> Result<(), ConfigError> {
//! // Market data need nothing but the address.
//! let market: Config = Deribit::new().config(deribit::PRODUCTION)?;
//!
//! // Orders need credentials. If the connection is lost, the orders that were placed on it are to be cancelled.
//! let trader = Deribit::new()
//!     .signature("client-id", "client-secret")
//!     .scope("trade:read_write account:read")
//!     .cancel_on_disconnect(CancelOnDisconnect::Connection);
//! assert!(!format!("{trader:?}").contains("secret\""));
//! let config = trader.config(deribit::TESTNET)?;
//!
//! let topics = [
//!     deribit::book("BTC-PERPETUAL", Interval::Raw),
//!     deribit::user_orders("BTC-PERPETUAL", Interval::Raw),
//! ];
//! assert_eq!(topics[0].name(), "book.BTC-PERPETUAL.raw");
//! # Ok(())
//! # }
//! ```
//!
//! # What becomes of orders when a connection ends
//!
//! | the end | with cancel-on-disconnect | without |
//! | --- | --- | --- |
//! | the session is closed (`Client::close`, `shutdown`), or leaves a connection that works (`Client::reconnect`), while it is authenticated: `private/logout` is sent, the server ends the connection | orders stay | orders stay |
//! | the connection is lost, or ended by a close frame: the server is silent for too long, a session without credentials | orders of the connection are cancelled | orders stay |
//! | nothing is heard of us: no answer to a test request, or nothing for 10 minutes | orders of the connection are cancelled | orders stay |
//! | the machine is gone without a word (half-open) | orders are cancelled when the server notices, at the next test request | orders stay |
//!
//! So a program that wants its orders cancelled at its end cancels them (`private/cancel_all`) before it closes the session, or drops the session
//! without closing it. After a loss (`Event::Online` with `resumed`) what is open must be asked for (`private/get_open_orders`).
//!
//! # Access tokens
//!
//! By the documentation a private request on a connection whose scope is `connection`, as it is without
//! [`session`](Deribit::session), names its access token, so all do here ([`access_tokens`](Deribit::access_tokens)). A request keeps the
//! token that it was made with: one that is to outlive its connection ([`OnDisconnect::Hold`](everwire_core::OnDisconnect)) is refused at once if
//! there is none yet, and by the next one with 13009 if there was. Who wants that takes a session, where no token is needed.

mod auth;
mod chain;
mod errors;
mod limits;
mod orders;
mod topics;
mod wire;

#[cfg(test)]
mod tests;

pub use errors::{ErrorCode, Remedy};
pub use limits::Tier;
pub use orders::{
    DeribitError, EditOrder, Instrument, Label, NewOrder, Order, OrderId, Placed, Trade, Trading,
};
pub use topics::{
    Interval, book, book_depth, platform_state, price_index, quote, ticker, trades, trades_of, user_changes,
    user_orders, user_orders_of, user_portfolio, user_trades,
};

use crate::Secret;
use auth::{Credentials, Proof, Signer};
use chain::Chain;
use everwire_core::protocol::{
    Ack, Context, Fault, Inbound, Protocol, Request, RpcError, Topic, Traffic, Unsupported,
};
use everwire_core::{Config, ConfigError, Limit, Limits, Recovery, Sequence, Tracker};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use wire::{Envelope, Tokens};

/// Where it is. Source: docs.deribit.com.
pub const PRODUCTION: &str = "wss://www.deribit.com/ws/api/v2";
/// Where it is tried out: other accounts, other keys.
pub const TESTNET: &str = "wss://test.deribit.com/ws/api/v2";

/// Most connections from one address, HTTP requests among them; the next gets status 429. Source:
/// docs.deribit.com/articles/connection-management-best-practices.
pub const CONNECTIONS_PER_ADDRESS: u32 = 32;
/// Most sessions ([`Deribit::session`]) of one key. Source: the same.
pub const SESSIONS_PER_KEY: u32 = 16;
/// The least that [`Deribit::heartbeat`] may be. Source: docs.deribit.com, `public/set_heartbeat`.
pub const MIN_HEARTBEAT: Duration = Duration::from_secs(10);
/// The longest message that the server takes, in bytes. Source: error -32600 in its table.
pub const MAX_REQUEST: usize = 32 << 10;

/// Which connections' orders are cancelled when they end. Source: docs.deribit.com, `private/enable_cancel_on_disconnect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CancelOnDisconnect {
    /// Those of each connection of this session.
    Connection,
    /// Those of every connection that is opened for the account from now on, also by others. It stays so.
    Account,
}

impl CancelOnDisconnect {
    fn scope(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Account => "account",
        }
    }
}

/// The protocol.
#[derive(Debug, Clone)]
pub struct Deribit {
    credentials: Option<Credentials>,
    scope: String,
    session: Option<String>,
    access_tokens: Option<bool>,
    invalidate_tokens: bool,
    heartbeat: Option<Duration>,
    cancel_on_disconnect: Option<CancelOnDisconnect>,
    tier: Tier,
    account: String,
    batch: usize,
    snapshot_first: bool,
}

impl Default for Deribit {
    fn default() -> Self {
        Self {
            credentials: None,
            scope: String::new(),
            session: None,
            access_tokens: None,
            invalidate_tokens: true,
            heartbeat: Some(Duration::from_secs(30)),
            cancel_on_disconnect: None,
            tier: Tier::Standard,
            account: "deribit".to_owned(),
            batch: 200,
            snapshot_first: false,
        }
    }
}

impl Deribit {
    /// For public market data, with heartbeats every 30 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// Authenticates each connection with key and secret (`client_credentials`), which sends the secret.
    pub fn credentials(self, client_id: impl Into<String>, client_secret: impl Into<Secret>) -> Self {
        self.proved(client_id, Proof::Secret(client_secret.into()))
    }

    /// Authenticates each connection with a signature (`client_signature`: HMAC-SHA256 over time, nonce and data), which keeps the secret here. Its
    /// time is this machine's, and may be 60 s off at most.
    pub fn signature(self, client_id: impl Into<String>, client_secret: impl Into<Secret>) -> Self {
        let signer = Signer::Key(client_secret.into());
        self.proved(client_id, Proof::Signature { signer, data: String::new() })
    }

    /// The same with a key that lives elsewhere: `sign` is given what is to be signed (time, nonce and data, a line each) and returns the signature
    /// as the venue wants it: HMAC-SHA256 in hexadecimal, or for a key pair what its kind asks for. It is called on the session's thread: it must
    /// not take long. An error, which must hold no secret, fails the attempt to connect, and another one is made.
    pub fn signed_by(
        self,
        client_id: impl Into<String>,
        sign: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        let signer = Signer::Callback(Arc::new(sign));
        self.proved(client_id, Proof::Signature { signer, data: String::new() })
    }

    /// Has this signed as well (`data`). Only with a signature. Default empty.
    pub fn signed_data(mut self, text: impl Into<String>) -> Self {
        if let Some(Credentials { proof: Proof::Signature { data, .. }, .. }) = &mut self.credentials {
            *data = text.into();
        }
        self
    }

    fn proved(self, client_id: impl Into<String>, proof: Proof) -> Self {
        Self { credentials: Some(Credentials { client_id: client_id.into(), proof }), ..self }
    }

    /// The rights that are asked for, divided by spaces, such as `trade:read_write account:read`; also `expires:NUMBER` (seconds) and `ip:ADDR`. The
    /// server may grant less. Default: what the key has.
    pub fn scope(self, scope: impl Into<String>) -> Self {
        Self { scope: scope.into(), ..self }
    }

    /// Makes tokens of a session of this name (scope `session:name`), which outlive the connection and need not be named in requests: at most
    /// [`SESSIONS_PER_KEY`]. Programs that run at the same time take names of their own: logging out ends all tokens of a session
    /// ([`invalidate_tokens`](Self::invalidate_tokens)). Default: tokens of the connection.
    pub fn session(self, name: impl Into<String>) -> Self {
        Self { session: Some(name.into()), ..self }
    }

    /// Whether private requests name the access token. Default: with tokens of the connection they do, as documented; with those of a session
    /// they do not. Not verified: that the venue takes them without on a connection of its own, as other clients rely on.
    pub fn access_tokens(self, named: bool) -> Self {
        Self { access_tokens: Some(named), ..self }
    }

    /// Whether `private/logout` ends the tokens of the session. Default `true`, as it is the venue's.
    pub fn invalidate_tokens(self, invalidate: bool) -> Self {
        Self { invalidate_tokens: invalidate, ..self }
    }

    /// Has the server send heartbeats, and ask for answers, this often (`public/set_heartbeat`): at least [`MIN_HEARTBEAT`], which less counts as. It
    /// closes a connection that does not answer, and cancels its orders if that is on. Default 30 s; `None` for none: then the server ends a
    /// connection on which it heard nothing for 10 minutes.
    pub fn heartbeat(self, every: impl Into<Option<Duration>>) -> Self {
        Self { heartbeat: every.into().map(|every| every.max(MIN_HEARTBEAT)), ..self }
    }

    /// Switches cancel-on-disconnect on, on each connection before anything is restored. Needs credentials. Default: as the account has it.
    pub fn cancel_on_disconnect(self, cod: impl Into<Option<CancelOnDisconnect>>) -> Self {
        Self { cancel_on_disconnect: cod.into(), ..self }
    }

    /// How many orders a second the account may send. Default [`Tier::Standard`].
    pub fn tier(self, tier: Tier) -> Self {
        Self { tier, ..self }
    }

    /// What to call the account (a subaccount has limits of its own): sessions that share
    /// [`SharedLimits`](everwire_core::SharedLimits) and this name share its credits, which a new connection does not refill either. A name, no
    /// secret. Default `deribit`.
    pub fn account(self, name: impl Into<String>) -> Self {
        Self { account: name.into(), ..self }
    }

    /// Most channels in one message: 1 to 500, which other numbers are brought into. Default 200. A message must not be longer than
    /// [`MAX_REQUEST`].
    pub fn topics_per_message(self, max: usize) -> Self {
        Self { batch: max.clamp(1, 500), ..self }
    }

    /// Takes a book whose first notification is no snapshot for corrupt, so that it is subscribed to anew. Default `false`, since it is not
    /// verified that the snapshot never comes before the answer to the subscription: until then nothing is watched.
    pub fn snapshot_first(self, demanded: bool) -> Self {
        Self { snapshot_first: demanded, ..self }
    }

    /// A session's options that fit: [`Config::financial`] with pings every 10 s, and messages of up to 32 MiB, as lists of instruments are
    /// long.
    ///
    /// # Errors
    /// [`ConfigError::Url`] if it is no `ws://` or `wss://` URL.
    pub fn config(&self, url: &str) -> Result<Config, ConfigError> {
        let config = Config::new(url)?.financial().protocol(self.clone());
        Ok(config.ping_interval(Duration::from_secs(10)).limits(Limits {
            max_frame: 32 << 20,
            max_message: 32 << 20,
            ..Limits::default()
        }))
    }

    /// The scope of `public/auth`.
    fn full_scope(&self) -> String {
        match &self.session {
            Some(name) if self.scope.is_empty() => format!("session:{name}"),
            Some(name) => format!("session:{name} {}", self.scope),
            None => self.scope.clone(),
        }
    }

    /// Whether private requests name a token.
    fn names_tokens(&self) -> bool {
        self.credentials.is_some() && self.access_tokens.unwrap_or_else(|| self.session.is_none())
    }

    /// The token that they name.
    fn token<'c>(&self, context: &Context<'c>) -> Option<Tokens<'c>> {
        context.authenticated.filter(|_| self.names_tokens()).and_then(Tokens::read)
    }

    /// Writes a private call with the token.
    fn private(&self, id: u64, method: &str, mut params: Value, context: &Context<'_>, out: &mut String) {
        if let (Some(params), Some(tokens)) = (params.as_object_mut(), self.token(context)) {
            params.insert("access_token".to_owned(), tokens.access_token.into());
        }
        call(id, method, &params.to_string(), out);
    }

    /// Writes a message about channels.
    fn channels(
        &self,
        id: u64,
        verb: &str,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        let params = json!({"channels": names});
        if self.credentials.is_some() {
            self.private(id, &format!("private/{verb}"), params, context, out);
            return Ok(Ack::Response);
        }
        if let Some(name) = names.iter().find(|name| topics::is_private(name)) {
            let reason = format!(
                "{name}: only authenticated connections get it: configure Deribit::credentials or signature, or take another interval"
            );
            return Err(Unsupported { reason });
        }
        call(id, &format!("public/{verb}"), &params.to_string(), out);
        Ok(Ack::Response)
    }
}

impl Protocol for Deribit {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let Some(Envelope { id, method, params, result, error }) = Envelope::read(text) else {
            return Inbound::other();
        };
        match (id, method, error) {
            (Some(id), _, _) => match (id.parse(), error.map(Err).or_else(|| result.map(Ok))) {
                (Ok(id), Some(result)) => Inbound::Response { id, result },
                _ => Inbound::other(),
            },
            // What it says of no request in particular.
            (None, None, Some(error)) => {
                let code = ErrorCode::of(RpcError::parse(error).code);
                let recovery = code.filter(ErrorCode::is_retryable).map(|code| code.recovery());
                Inbound::Notice { text: error, recovery }
            }
            (None, Some("subscription"), _) => {
                let data = params.data;
                let sequence = data.change_id.map(|number| Sequence {
                    previous: data.prev_change_id,
                    snapshot: data.kind == Some("snapshot"),
                    ..Sequence::new(number)
                });
                let sent = data.timestamp.map(Duration::from_millis);
                Inbound::Message { topic: params.channel.map(Into::into), sequence, sent }
            }
            (None, Some("heartbeat"), _) => Inbound::Heartbeat,
            _ => Inbound::other(),
        }
    }

    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        let Some(credentials) = &self.credentials else { return Ok(Ack::None) };
        let params = credentials.params(id, &self.full_scope(), context)?;
        call(id, "public/auth", &params.to_string(), out);
        Ok(Ack::Response)
    }

    fn authenticated(&self, result: &str) -> Option<Duration> {
        Tokens::read(result)?.expires_in.map(Duration::from_secs)
    }

    fn reauthenticates(&self) -> bool {
        self.credentials.is_some()
    }

    fn prepare(
        &self,
        step: u32,
        id: u64,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let cod = self.cancel_on_disconnect;
        if cod.is_some() && self.credentials.is_none() {
            let reason = "cancel_on_disconnect is for authenticated connections: configure Deribit::credentials or signature";
            return Err(Unsupported { reason: reason.to_owned() });
        }
        match (step, self.heartbeat, cod) {
            (0, Some(every), _) => {
                call(id, "public/set_heartbeat", &json!({"interval": every.as_secs()}).to_string(), out);
            }
            (0, None, Some(cod)) | (1, Some(_), Some(cod)) => {
                let params = json!({"scope": cod.scope()});
                self.private(id, "private/enable_cancel_on_disconnect", params, context, out);
            }
            _ => return Ok(Ack::None),
        }
        Ok(Ack::Response)
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        let Request { method, params } = *request;
        let refuse = |what: &str| Err(Unsupported { reason: format!("request {method:?}: {what}") });
        let object = params.unwrap_or("{}").trim_matches([' ', '\t', '\n', '\r']);
        let Some((has_token, has_any)) = wire::keys(object, "access_token") else {
            return refuse("params must be a JSON object: Deribit takes no others");
        };
        let start = out.len();
        if method.starts_with("private/") && self.names_tokens() && !has_token {
            let Some(tokens) = self.token(context) else {
                return refuse(
                    "the access token that it must name is that of a connection, and there is none: wait until the session is online, or \
                     configure Deribit::session",
                );
            };
            let token = Value::from(&*tokens.access_token);
            let comma = if has_any { "," } else { "" };
            call(id, method, &format!(r#"{{"access_token":{token}{comma}{}"#, &object[1..]), out);
        } else {
            call(id, method, object, out);
        }
        if out.len() - start > MAX_REQUEST {
            out.truncate(start);
            return refuse("Deribit takes no message of more than 32 kB: divide it");
        }
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        self.batch
    }

    // Without credentials a message with a private topic is not sent at all.
    fn shares(&self, topic: &Topic, other: &Topic) -> bool {
        self.credentials.is_some() || topics::is_private(topic.name()) == topics::is_private(other.name())
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.channels(id, "subscribe", topics, context, out)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.channels(id, "unsubscribe", topics, context, out)
    }

    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        wire::names(result, topic.name())
    }

    fn heartbeat_reply(&self, text: &str, id: u64, out: &mut String) {
        if Envelope::read(text).is_some_and(|envelope| envelope.params.kind == Some("test_request")) {
            call(id, "public/test", "{}", out);
        }
    }

    fn farewell(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        if context.authenticated.is_none() {
            return Ack::None;
        }
        let params = json!({"invalidate_token": self.invalidate_tokens});
        self.private(id, "private/logout", params, context, out);
        // There is none, but the end of the connection is awaited like one: a close frame on its heels would be one that cancels orders.
        Ack::Response
    }

    fn limits(&self) -> Vec<Limit> {
        limits::limits(self.tier, &self.account)
    }

    fn cost(&self, limit: &str, traffic: Traffic<'_>) -> u32 {
        limits::cost(limit, traffic)
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        match fault {
            Fault::Authentication(error) | Fault::Preparation(error) | Fault::Subscription(error) => {
                Some(ErrorCode::of(RpcError::parse(error).code)?.recovery())
            }
            // That, alone, says that the session is terminated. Anything else is the user's.
            Fault::Request(error) if RpcError::parse(error).code == errors::TOO_MANY_REQUESTS => {
                Some(Recovery::Backoff(errors::SLOW_DOWN))
            }
            // Not verified: whether the session that is terminated for want of credits is told so in a close frame.
            Fault::Closed(_, reason) => {
                let known = reason.contains("too_many_requests")
                    || reason.contains(&errors::TOO_MANY_REQUESTS.to_string());
                known.then_some(Recovery::Backoff(errors::SLOW_DOWN))
            }
            _ => None,
        }
    }

    fn tracker(&self, topic: &Topic) -> Option<Box<dyn Tracker>> {
        topics::is_chained(topic.name()).then(|| Box::new(Chain::new(self.snapshot_first)) as _)
    }
}

/// Writes a request. The parameters are JSON.
fn call(id: u64, method: &str, params: &str, out: &mut String) {
    // A string takes every write.
    let _ =
        write!(out, r#"{{"jsonrpc":"2.0","id":{id},"method":{},"params":{params}}}"#, Value::from(method));
}
