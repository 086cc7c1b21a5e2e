//! A WebSocket server for tests: real sockets, scripted faults, from any runtime or none.
//!
//! ```
//! use std::time::Duration;
//! use everwire_testing::matchers::closing;
//! use everwire_testing::{Disconnect, MockServer, WaitError, tungstenite};
//! use serde_json::json;
//!
//! const SOON: Duration = Duration::from_secs(5);
//!
//! // The client under test; any will do. This one subscribes, and comes back once.
//! fn bot(url: &str) {
//!     for _ in 0..2 {
//!         let (mut client, _) = tungstenite::connect(url).unwrap();
//!         client.send(r#"{"id": 1, "op": "subscribe", "topic": "btc"}"#.into()).unwrap();
//!         while client.read().is_ok() {}
//!     }
//! }
//!
//! let server = MockServer::start();
//! let url = server.url_of("/ws?v=2");
//! let running = std::thread::spawn(move || bot(&url));
//!
//! // What the server sees of it, and does to it: in the order in which it is to happen, without a sleep.
//! let conn = server.wait_connection(0, SOON)?;
//! assert_eq!(conn.path(), "/ws?v=2");
//! let request = conn.expect(json!({"op": "subscribe"}), SOON)?;
//! assert_eq!(request["topic"], "btc");
//! conn.send_text(r#"{"id": 1, "ok": true}"#);
//! conn.expect_none(json!({"op": "unsubscribe"}), SOON)?;
//! conn.disconnect(Disconnect::MidFrame);
//!
//! let conn = server.wait_connection(1, SOON)?;
//! conn.expect(json!({"op": "subscribe", "topic": "btc"}), SOON)?;
//! conn.disconnect(Disconnect::GoingAway);
//! conn.expect(closing(1001), SOON)?;
//! running.join().unwrap();
//!
//! // A wait that fails says what came instead, how it differs, and what was said before.
//! let error = conn.expect(json!({"op": "subscribe", "topic": "eth"}), SOON).unwrap_err();
//! assert!(matches!(error, WaitError::Ended { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is here
//!
//! | wanted | found |
//! | --- | --- |
//! | a server on a loopback port | [`MockServer`], [`MockServerBuilder`]; with [`tls`](MockServerBuilder::tls), at a given [`port`](MockServerBuilder::port) |
//! | one of its connections | [`ConnHandle`], from [`wait_connection`](MockServer::wait_connection), [`wait_connection_to`](MockServer::wait_connection_to), handlers |
//! | answers | [`handler`](MockServerBuilder::handler), [`on`](MockServerBuilder::on) for some messages, [`on_connect`](MockServerBuilder::on_connect), [`venue::JsonRpcVenue`] |
//! | expectations | [`expect`](ConnHandle::expect) with any of the [`matchers`]: text, bytes, pattern, part of a JSON, closure |
//! | of several clients | [`MockServer::expect`], [`expect_each`](MockServer::expect_each), [`wait_live`](MockServer::wait_live), [`send_all`](MockServer::send_all) |
//! | that nothing came | [`expect_none`](ConnHandle::expect_none), [`expect_none_until`](ConnHandle::expect_none_until), [`fence`](ConnHandle::fence), [`expect_none_for`](ConnHandle::expect_none_for) |
//! | messages, fragments, any bits | [`send_text`](ConnHandle::send_text), [`send_binary`](ConnHandle::send_binary), [`send_fragmented`](ConnHandle::send_fragmented), [`send_frames`](ConnHandle::send_frames) with [`RawFrame`], [`send_raw`](ConnHandle::send_raw) |
//! | a server that breaks the protocol | [`violate`](ConnHandle::violate) with each [`Violation`] |
//! | a connection that is lost | [`disconnect`](ConnHandle::disconnect) in each [`Disconnect`] way; [`close`](ConnHandle::close), [`hang_up`](ConnHandle::hang_up), [`kill`](ConnHandle::kill), [`kill_after`](ConnHandle::kill_after) so many bytes |
//! | one that is there and useless | [`stall`](ConnHandle::stall), [`throttle`](ConnHandle::throttle) |
//! | one that does not come about | [`HandshakeFault`], [`TlsFault`], [`admit`](MockServerBuilder::admit), [`refuse_connections`](MockServer::refuse_connections) |
//! | HTTP on the same port | [`http`](MockServerBuilder::http), [`http_url`](MockServer::http_url), [`http_requests`](MockServer::http_requests) |
//! | what was said | [`transcript`](ConnHandle::transcript): each frame both ways; [`received`](ConnHandle::received) messages |
//! | a venue as a state machine, over sockets and in virtual time | [`script`] |
//! | virtual time | [`sim`]: a session over a simulated network, repeated by its seed |
//! | a venue that behaves and punishes as the real one does | [`script`]: a [`Script`](script::Script) run by [`Live`](script::Live) over sockets, by [`Host`](script::Host) and [`Trial`](script::trial::Trial) in virtual time |
//!
//! # Blocking and async tests
//!
//! No method is async and no runtime is needed. Methods with a timeout block their thread; where the client runs on the
//! same thread as the test, put them into [`MockServer::unblock`], one by one or the whole story of a server in one
//! closure. In handlers, which run on the server's thread, they fail at once.
//!
//! # Limits
//!
//! The server side is [`tungstenite`], which answers pings and close frames by itself and knows no extensions: a frame
//! with a reserved bit ends the connection with code 1002. [`MockServerBuilder::raw_frames`] turns it off for what comes,
//! [`ConnHandle::send_raw`] and [`ConnHandle::send_frames`] go around it for what is sent. Logs are bounded, as their
//! methods say.

mod blocking;
mod builder;
mod conn;
mod conn_state;
mod disconnect;
mod error;
mod expect;
mod fault_stream;
mod frame;
mod handshake;
mod http;
mod listen;
pub mod matchers;
mod pump;
mod server;
mod shared;
mod signal;
mod splitter;
mod throttle;
mod tls;
mod transcript;
mod transport;

pub mod script;
pub mod sim;
pub mod venue;

pub use tungstenite;
pub use tungstenite::handshake::server::Request;
pub use tungstenite::protocol::CloseFrame;
pub use tungstenite::protocol::frame::coding::CloseCode;
pub use tungstenite::{Bytes, Message, Utf8Bytes};

pub use blocking::{Unblocked, unblock};
pub use builder::MockServerBuilder;
pub use conn::{ConnHandle, ConnectionEnd};
pub use disconnect::Disconnect;
pub use error::WaitError;
pub use frame::{RawFrame, Violation};
pub use handshake::HandshakeFault;
pub use http::{HttpRequest, HttpResponse};
pub use server::MockServer;
pub use throttle::Throttle;
pub use tls::{ClientIdentity, TlsFault};
pub use transcript::{Direction, LogEntry, Logged, LoggedFrame, Transcript};
