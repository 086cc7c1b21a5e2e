//! One connection's way to its peer: what lies between the TCP bytes and the WebSocket frames.

#[cfg(feature = "tls")]
pub mod tls;
