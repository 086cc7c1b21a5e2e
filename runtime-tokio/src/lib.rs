//! Drives an Everwire WebSocket session on tokio.

mod runtime;

pub use everwire_core::*;
pub use runtime::{Duplex, Stream, Tokio};

/// Runs a session within the task that asks it for events: see [`everwire_core::driver::Driver`]. It must be used within a tokio
/// runtime that has I/O and time enabled (`Builder::enable_all`), and panics without them.
pub type Driver = driver::Driver<Tokio>;

/// A session that a task of its own keeps alive, whatever the user does: a handle to act on it, and its events.
///
/// What must be asked for before the first connection is there, such as subscriptions, is best asked for on a [`Driver`]'s
/// [`client`](Driver::client) before it is [`spawn`]ed; after `connect` it may come just after `Event::Online`. An answer that arrives behind events
/// that nobody takes comes after them: take events in another task than the one that awaits requests.
///
/// It is closed when every [`Client`] and the [`Events`] are dropped. When events are not taken, the connection is not read any further, so
/// that nothing piles up; for messages of a subscription, [`SubscribeOptions::overflow`] may say otherwise. Whoever drops [`Events`] and keeps a
/// [`Client`] wants none, and they are thrown away.
///
/// # Errors
/// [`ConfigError`] names the option that cannot work.
///
/// # Panics
/// Outside of a tokio runtime. In one without I/O and time the task panics, which ends the session and its events.
pub fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
    Ok(spawn(Driver::new(config)?))
}

/// [`connect`] with a driver that was set up by hand.
///
/// # Panics
/// Outside of a tokio runtime. In one without I/O and time the task panics, which ends the session and its events.
pub fn spawn(driver: Driver) -> (Client, Events) {
    let (client, events, running) = driver.background();
    tokio::spawn(running);
    (client, events)
}

// The README's examples are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

// So are those of the guide to sessions.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guides/sessions.md")]
struct Sessions;

// And those of the guide to testing.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guides/testing.md")]
struct Testing;

// And those of the guide to typed JSON-RPC.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guides/json-rpc.md")]
struct TypedJsonRpc;
