//! A WebSocket client that stays connected, as a pure state machine.
//!
//! A [`Session`] takes bytes and the time, and says what to do next. It opens no socket, reads no clock and starts no thread: a
//! [driver] does that, in a loop that is the same for every runtime. `everwire-tokio`, `everwire-smol` and `everwire-blocking` have
//! one ready. This page is for those who write their own, put the session into an event loop that they have, simulate it, or
//! test it.
//!
//! # The loop
//!
//! All of a driver, against a server that is a closure:
//!
//! ```
//! use everwire_core::{Clock, Config, ConnId, Event, Message, Output, SendOptions, Session};
//! use std::time::{Duration, Instant, SystemTime};
//!
//! let mut now = Instant::now();
//! let config = Config::new("ws://192.0.2.1/feed")?;
//! // Real drivers take the seed from the operating system.
//! let mut session = Session::new(config, Clock { instant: now, system: SystemTime::now() }, [7; 32])?;
//!
//! let mut server = server();
//! let mut socket: Option<ConnId> = None;
//! let mut inbox = Vec::new();
//! let mut seen = Vec::new();
//! loop {
//!     match session.poll_output(now) {
//!         Output::Connect(conn, _addr) => {
//!             socket = Some(conn); // Open TCP here.
//!             session.handle_connected(conn, now);
//!         }
//!         Output::Disconnect(_) => socket = None,
//!         Output::Event => match session.event() {
//!             Some(Event::Online { .. }) => {
//!                 session.send(Message::Text("hello"), SendOptions::default(), now)?;
//!             }
//!             Some(Event::Message { message: Message::Text(text), .. }) => {
//!                 seen.push(text.to_owned());
//!                 session.close(everwire_core::CloseCode::Normal, "", now);
//!             }
//!             _ => {}
//!         },
//!         Output::Wait(deadline) => {
//!             let Some(conn) = socket else { break };
//!             // Write what is to be written, and say how much of it went out.
//!             let bytes = session.transmit(conn).to_vec();
//!             session.handle_transmitted(conn, bytes.len(), now);
//!             inbox.extend(server(&bytes));
//!             // Read into the session's own buffer. Empty means: do not read.
//!             let room = session.recv_buffer(conn);
//!             let len = room.len().min(inbox.len());
//!             room[..len].copy_from_slice(&inbox[..len]);
//!             inbox.drain(..len);
//!             session.handle_received(conn, len, now);
//!             // Sleep until a socket is ready, or until then.
//!             if bytes.is_empty() && len == 0 {
//!                 now = deadline.unwrap_or(now + Duration::from_secs(1));
//!             }
//!         }
//!         // Only with a host name that is not an address, or without a fixed endpoint.
//!         Output::Resolve(_) | Output::Provide(_) => unreachable!(),
//!         Output::Open(_) => unreachable!(), // With `Config::transport` alone.
//!         Output::Closed => break,
//!     }
//! }
//! assert_eq!(seen, ["echo: hello"]);
//!
//! // The server: answers the handshake, the message, and the close frame.
//! fn server() -> impl FnMut(&[u8]) -> Vec<u8> {
//!     let mut upgraded = false;
//!     move |bytes| {
//!         if !upgraded && !bytes.is_empty() {
//!             upgraded = true;
//!             let request = std::str::from_utf8(bytes).unwrap();
//!             let key = request.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
//!             let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
//!             return format!(
//!                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!                  Sec-WebSocket-Accept: {accept}\r\n\r\n"
//!             )
//!             .into_bytes();
//!         }
//!         match bytes.first() {
//!             Some(0x81) => b"\x81\x0becho: hello".to_vec(),
//!             Some(0x88) => b"\x88\x02\x03\xe8".to_vec(),
//!             _ => Vec::new(),
//!         }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing about the order of calls needs to be known: every call is legal in every state, late or needless ones do nothing, and what
//! is sent need not be drained before the next is. [`Output`] is exhaustive, so that a driver that misses a duty does not compile.
//!
//! # Backpressure
//!
//! `handle_received` only counts bytes. `poll_output` parses one message at a time and stops at the first event; an event that
//! nobody takes stops the parsing, [`Session::recv_buffer`] runs empty, the driver stops reading, and TCP holds the peer back. No queue
//! grows. Outbound, [`SendError::Full`] says when too much waits, and [`Event::Writable`] when it does not any more.
//!
//! # What is promised
//!
//! - The same seed and the same calls give the same outputs, byte for byte (TLS excepted: rustls draws its own entropy).
//! - However the bytes are cut into reads, the events are the same.
//! - Every request is settled exactly once, and says whether it was answered, not sent, or sent with an unknown outcome.
//! - After a loss, subscriptions are restored before the user may send, and [`Event::Gap`] says what may have been missed before the
//!   first message that follows it.
//! - No input panics, spins, or makes anything grow without bound.
//!
//! # Features
//!
//! - `tls` (default): `wss://` through rustls and ring.
//! - `tls-platform-verifier` (default): trusts what the operating system trusts.
//! - `tls-webpki-roots`: trusts Mozilla's roots, compiled in.
//! - `tls-aws-lc-rs`: aws-lc-rs in the place of ring.

mod clock;
pub mod driver;
mod error;
pub mod handle;
mod message;
pub mod protocol;
pub mod record;
pub mod rpc;
mod session;
pub mod transport;
pub mod ws;

pub use clock::Clock;
pub use error::{
    Category, Closed, Disconnect, Error, Explanation, Notice, ProviderError, Recovery, Refusal, ResolveError,
    Timeout,
};
pub use handle::{Client, Events, IntoBlocking, RequestError, ResponseFuture, TimedOut};
pub use message::{Message, NotData};
pub use protocol::{JsonRpc, Plain, Protocol, Request, Topic};
pub use session::*;
pub use transport::proxy::{Proxy, ProxyError, ProxyRules};
#[cfg(feature = "tls")]
pub use transport::tls::TlsConfig;
pub use tungstenite;
pub use ws::deflate::DeflateConfig;
pub use ws::{CloseCode, Headers, Kind, Limits, ProtocolError};
