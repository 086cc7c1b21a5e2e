//! Scripted venues: what a server says, as a plain state machine over messages, which is run over real sockets and in virtual time alike.
//!
//! A [`Script`] is called with what a client does, says what it does itself through [`Replies`], and punishes what the real venue punishes.
//! [`Host`] makes a [`sim::Server`](crate::sim::Server) of it, [`Live`] a server on a loopback port,
//! [`trial`] tries a session against it in simulations by the hundred, and [`kit`] has what scripts share.
//!
//! A venue with one channel, which numbers what it says in it:
//!
//! ```
//! use everwire_testing::script::{Host, Live, Replies, Script};
//! use everwire_testing::tungstenite;
//! use serde_json::{Value, json};
//! use std::collections::BTreeSet;
//! use std::time::Duration;
//!
//! /// One tick a second for whoever asks for ticks; more than one wish on a connection is not allowed.
//! #[derive(Debug, Default)]
//! struct Ticks {
//!     listeners: BTreeSet<u64>,
//!     said: u64,
//! }
//!
//! impl Script for Ticks {
//!     fn text(&mut self, conn: u64, text: &str, _: Duration, out: &mut Replies) {
//!         let wish: Value = serde_json::from_str(text).unwrap_or_default();
//!         if wish["op"] != "subscribe" {
//!             out.json(conn, &json!({"error": "what?"}));
//!         } else if self.listeners.insert(conn) {
//!             out.json(conn, &json!({"ok": true}));
//!         } else {
//!             out.punish(conn, "subscribed twice");
//!             out.close(conn, 1008, "policy");
//!         }
//!     }
//!
//!     fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
//!         self.listeners.remove(&conn);
//!     }
//!
//!     fn deadline(&self) -> Option<Duration> {
//!         Some(Duration::from_secs(self.said + 1))
//!     }
//!
//!     fn run(&mut self, now: Duration, out: &mut Replies) {
//!         while now.as_secs() > self.said {
//!             self.said += 1;
//!             self.listeners.iter().for_each(|conn| out.json(*conn, &json!({"tick": self.said})));
//!         }
//!     }
//! }
//!
//! // Over real sockets, in real time.
//! let live = Live::start(Ticks::default());
//! let (mut client, _) = tungstenite::connect(live.url("/"))?;
//! client.send(r#"{"op":"subscribe"}"#.into())?;
//! assert_eq!(client.read()?, r#"{"ok":true}"#.into());
//! assert_eq!(client.read()?, r#"{"tick":1}"#.into());
//!
//! // In virtual time, which costs none.
//! use everwire_core::{Config, OwnedEvent, Session, SubscribeOptions, Topic};
//! use everwire_testing::sim::{Net, Outcome, Simulation, User, instant};
//!
//! #[derive(Debug, Default)]
//! struct Counts(usize);
//!
//! impl User for Counts {
//!     fn event(&mut self, event: &OwnedEvent, _: &mut Session, _: Duration) {
//!         self.0 += usize::from(matches!(event, OwnedEvent::Message { .. }));
//!     }
//!     fn deadline(&self) -> Option<Duration> {
//!         None
//!     }
//!     fn act(&mut self, _: &mut Session, _: Duration) {}
//! }
//!
//! let config = Config::new("ws://192.0.2.1/")?;
//! let mut simulation = Simulation::new(config, 1, Net::perfect(), Host::new(Ticks::default()), Counts::default())?;
//! let topic = Topic::new("ticks").subscribe_with(r#"{"op":"subscribe"}"#);
//! simulation.session_mut().subscribe(topic, SubscribeOptions::default(), instant(Duration::ZERO));
//! assert_eq!(simulation.run_until(Duration::from_secs(3600)), Outcome::Limit, "{}", simulation.log());
//! assert!(simulation.user().0 > 3590);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod binance;
pub mod bybit;
pub mod coinbase;
pub mod deribit;
mod host;
pub mod kit;
pub mod kraken;
pub mod kucoin;
mod live;
pub mod okx;
pub mod trial;

pub use host::Host;
pub use live::{Live, LiveBuilder};

use crate::handshake;
use crate::sim::ws::{self, Upgrade};
use std::fmt::{self, Debug};
use std::time::{Duration, SystemTime};

/// A venue. Every `now` counts from its start.
pub trait Script: Debug + Send {
    /// It starts, when the wall clock shows this: for timestamps and for judging signatures. Default: it does not matter.
    fn start(&mut self, wall: SystemTime) {
        let _ = wall;
    }

    /// A client asks for a WebSocket. Ids of connections count up and are never used twice. Default: it gets it.
    ///
    /// # Errors
    /// The HTTP response that it gets instead.
    fn upgrade(&mut self, conn: u64, request: &Upgrade, now: Duration) -> Result<(), HttpResponse> {
        let _ = (conn, request, now);
        Ok(())
    }

    /// The connection is a WebSocket now. Default: nothing is said.
    fn opened(&mut self, conn: u64, now: Duration, out: &mut Replies) {
        let _ = (conn, now, out);
    }

    /// A text message came.
    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies);

    /// A binary message came. Default: it means nothing.
    fn binary(&mut self, conn: u64, bytes: &[u8], now: Duration, out: &mut Replies) {
        let _ = (conn, bytes, now, out);
    }

    /// A ping came; it is answered by itself. Default: it means nothing.
    fn ping(&mut self, conn: u64, payload: &[u8], now: Duration, out: &mut Replies) {
        let _ = (conn, payload, now, out);
    }

    /// A pong came. Default: it means nothing.
    fn pong(&mut self, conn: u64, payload: &[u8], now: Duration, out: &mut Replies) {
        let _ = (conn, payload, now, out);
    }

    /// The connection is over: by a close frame of the client (its code; answered by itself), or without. Not said of one that the script ended
    /// itself. Default: it does not matter.
    fn closed(&mut self, conn: u64, code: Option<u16>, now: Duration, out: &mut Replies) {
        let _ = (conn, code, now, out);
    }

    /// A request came that asks for no WebSocket, such as for a token. Default: 404.
    fn http(&mut self, request: &HttpRequest, now: Duration) -> HttpResponse {
        let _ = (request, now);
        HttpResponse::status(404)
    }

    /// When [`run`](Self::run) is to be called; `None` is never. A moment that is over means now.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Time has come: deal with all that is due. Early and needless calls are possible.
    fn run(&mut self, now: Duration, out: &mut Replies) {
        let _ = (now, out);
    }
}

/// What a script does, in order.
#[derive(Debug, Default)]
pub struct Replies {
    all: Vec<(u64, Reply)>,
    punished: Vec<Punishment>,
}

/// One thing that a script does to a connection. Those to a connection that is over are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Sends a text message.
    Text(String),
    /// Sends a binary message.
    Binary(Vec<u8>),
    /// Sends a ping.
    Ping(Vec<u8>),
    /// Sends a close frame with this code and reason, and ends the connection when it is answered, or some seconds later.
    Close(u16, String),
    /// Ends the connection, without a close frame.
    Fin,
    /// Drops the connection with a TCP RST.
    Reset,
}

/// The client did what the venue does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Punishment {
    /// On which connection.
    pub conn: u64,
    /// What it did.
    pub why: String,
    /// Whether a network that is slow, or bunches up what was sent apart, can be the cause instead of the client.
    pub timing: bool,
}

/// An HTTP request that asks for no WebSocket. Its `Debug` shows no values: they may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The answer to an HTTP request. Its `Debug` shows neither values of headers nor the body: tokens are there.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code, such as 200.
    pub status: u16,
    /// Headers besides `Content-Length` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// A request such as a client would make, for whoever asks a script by hand.
    pub fn new(method: impl Into<String>, target: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: body.into() }
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        ws::header(&self.headers, name)
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("headers", &names)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("headers", &names)
            .field("body", &self.body.len())
            .finish()
    }
}

impl HttpResponse {
    /// A status and nothing else.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A 200 with JSON.
    pub fn json(value: &serde_json::Value) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status: 200, headers, body: value.to_string().into_bytes() }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// As it is sent, after which the connection is to be ended.
    pub fn encode(&self) -> Vec<u8> {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        handshake::refusal(self.status, &headers, &self.body)
    }
}

impl Replies {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a text message.
    pub fn text(&mut self, conn: u64, text: impl Into<String>) {
        self.all.push((conn, Reply::Text(text.into())));
    }

    /// Sends a text message that is JSON.
    pub fn json(&mut self, conn: u64, value: &serde_json::Value) {
        self.text(conn, value.to_string());
    }

    /// Does this.
    pub fn push(&mut self, conn: u64, reply: Reply) {
        self.all.push((conn, reply));
    }

    /// Sends a close frame and ends the connection.
    pub fn close(&mut self, conn: u64, code: u16, reason: impl Into<String>) {
        self.all.push((conn, Reply::Close(code, reason.into())));
    }

    /// Notes that the client did what the venue does not allow; what the venue does about it is said as any other thing is. Tests see it, and a
    /// simulation ends with it.
    pub fn punish(&mut self, conn: u64, why: impl Into<String>) {
        self.punished.push(Punishment { conn, why: why.into(), timing: false });
    }

    /// The same, for what depends on when the client's messages arrive: a rate limit, an answer that is late. A simulation whose network stalls and
    /// bunches messages up does not hold that against the client.
    pub fn punish_timing(&mut self, conn: u64, why: impl Into<String>) {
        self.punished.push(Punishment { conn, why: why.into(), timing: true });
    }

    /// Takes what was said to be done, oldest first.
    pub fn take(&mut self) -> Vec<(u64, Reply)> {
        std::mem::take(&mut self.all)
    }

    /// Takes what was punished.
    pub fn take_punished(&mut self) -> Vec<Punishment> {
        std::mem::take(&mut self.punished)
    }
}
