//! One WebSocket connection: RFC 6455 and its compression extension, RFC 7692.
//!
//! Pure functions of bytes: nothing here knows of sockets, time, or what outlives a connection.

pub(crate) mod buffer;
pub(crate) mod close;
pub mod deflate;
pub(crate) mod error;
pub(crate) mod frame;
pub mod handshake;
pub(crate) mod headers;
pub(crate) mod mask;
pub(crate) mod receiver;
pub(crate) mod sender;
pub(crate) mod target;
pub(crate) mod utf8;

pub use close::CloseCode;
pub use error::ProtocolError;
pub use headers::{HeaderError, Headers};
pub use receiver::{Kind, Limits};
pub use target::{Target, UrlError};
