//! One connection's way to its peer: what lies between the TCP bytes and the WebSocket frames.

pub mod proxy;
#[cfg(feature = "tls")]
pub mod tls;
pub(crate) mod way;
