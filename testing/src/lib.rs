//! A WebSocket server for tests: real sockets, scripted faults, from any runtime or none.
//!
//! ```
//! use std::time::Duration;
//! use everwire_testing::{MockServer, tungstenite};
//! use serde_json::json;
//!
//! const SOON: Duration = Duration::from_secs(5);
//!
//! // A server that echoes, and refuses the first connection, as venues do when they are busy.
//! let busy = everwire_testing::HandshakeFault::status_with(503, &[("Retry-After", "1")], "busy");
//! let server = MockServer::builder()
//!     .handshake_for(1, busy)
//!     .handler(|conn, message| conn.send(message))
//!     .start();
//!
//! // The client under test; any will do.
//! assert!(tungstenite::connect(server.url()).is_err());
//! let (mut client, _) = tungstenite::connect(server.url_of("/ws?v=2"))?;
//! client.send(r#"{"method": "hello", "id": 1}"#.into())?;
//! assert!(client.read()?.is_text());
//!
//! // What the server saw of it. A wait that fails says what came instead.
//! assert_eq!((server.attempts(), server.connections()), (2, 1));
//! let conn = server.wait_connection(0, SOON)?;
//! assert_eq!(conn.path(), "/ws?v=2");
//! let hello = conn.expect_json_subset(&json!({"method": "hello"}), SOON)?;
//! assert_eq!(hello["id"], 1);
//!
//! // And now the weather: five more bytes, which end inside of the message, then a TCP reset.
//! conn.kill_after(5);
//! conn.send_text("never arrives in one piece");
//! assert!(client.read().is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is here
//!
//! - [`MockServer`] listens on a loopback port, with TLS if wanted, counts connections and waits for them.
//! - [`ConnHandle`] is one connection: sends messages or raw bytes, tells what came, closes, kills, stalls.
//! - [`HandshakeFault`] and [`TlsFault`] are the ways in which it does not come to a connection.
//! - [`venue::JsonRpcVenue`] answers as a trading venue does: subscriptions, notifications, authentication.
//! - [`sim`] runs a session in virtual time, over a simulated network, and repeats every run by its seed.
//! - [`matchers`] compares JSON and explains differences.
//!
//! # Blocking and async tests
//!
//! No method is async and no runtime is needed. Methods with a timeout block their thread; wrap them in [`unblock`] where
//! the client runs on the same thread as the test. In handlers, which run on the server's thread, they fail at once.
//!
//! # Limits
//!
//! The server side is [`tungstenite`], which answers pings and close frames by itself and knows no extensions: a frame
//! with a reserved bit ends the connection with code 1002. [`MockServerBuilder::raw_frames`] turns it off for what comes,
//! [`ConnHandle::send_raw`] goes around it for what is sent. Logs are bounded, as their methods say.

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
