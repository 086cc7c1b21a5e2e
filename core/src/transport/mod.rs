//! One connection's way to its peer: what lies between the TCP bytes and the WebSocket frames.

pub(crate) mod addresses;
pub(crate) mod race;
#[cfg(feature = "tls")]
pub mod tls;
