//! A WebSocket session that stays connected, as a pure state machine.

mod clock;
mod error;
pub mod handle;
mod message;
pub mod protocol;
mod session;
#[allow(unreachable_pub)]
pub mod transport;
#[allow(unreachable_pub)]
pub mod ws;

pub use clock::Clock;
pub use error::{
    Closed, Disconnect, Error, Explanation, ProviderError, Recovery, ResolveError, Timeout,
};
pub use handle::{Client, RequestError, ResponseFuture};
pub use message::{Message, NotData};
pub use protocol::{JsonRpc, Plain, Protocol, Request, Topic};
pub use session::*;
pub use ws::CloseCode;
