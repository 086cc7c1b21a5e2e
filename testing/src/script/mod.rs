//! Scripted venues: what a server says, as a plain state machine over messages, which is run over real sockets and in virtual time alike.
//!
//! A [`Script`] is called with what a client does, says what it does itself through [`Replies`], and punishes what the real venue punishes.

pub mod binance;
pub mod bybit;
pub mod coinbase;
pub mod deribit;
pub mod kraken;
pub mod kucoin;
pub mod okx;

use crate::sim::ws::Upgrade;
use std::fmt::Debug;
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
pub struct Punishment {
    /// On which connection.
    pub conn: u64,
    /// What it did.
    pub why: String,
}

/// An HTTP request that asks for no WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The answer to an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code, such as 200.
    pub status: u16,
    /// Headers besides `Content-Length` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
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
        self.punished.push(Punishment { conn, why: why.into() });
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
