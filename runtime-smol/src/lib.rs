//! Drives an Everwire WebSocket session on smol, or on any other executor: sockets and timers are async-io's, which needs none.

mod runtime;

pub use everwire_core::*;
pub use runtime::{Duplex, Smol, Stream};

use std::future::Future;

/// Runs a session within the task that asks it for events: see [`everwire_core::driver::Driver`]. Any executor will do, [`smol::block_on`]
/// too.
pub type Driver = driver::Driver<Smol>;

/// A session that a task of its own keeps alive, whatever the user does: a handle to act on it, and its events. The task runs on
/// smol's global executor; [`run`] leaves that to the caller.
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
pub fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
    Ok(spawn(Driver::new(config)?))
}

/// [`connect`] with a driver that was set up by hand.
pub fn spawn(driver: Driver) -> (Client, Events) {
    let (client, events, running) = run(driver);
    smol::spawn(running).detach();
    (client, events)
}

/// A session for an executor of the caller's choice: the future must be run in the background, and ends with the session. Dropping it
/// ends the session without a close handshake.
///
/// ```no_run
/// # use everwire_smol::{Config, Driver};
/// let driver = Driver::new(Config::new("wss://feed.example.com/ws")?)?;
/// let (client, mut events, running) = everwire_smol::run(driver);
/// async_std::task::spawn(running);
/// # Ok::<(), everwire_smol::ConfigError>(())
/// ```
pub fn run(driver: Driver) -> (Client, Events, impl Future<Output = ()> + Send) {
    driver.background()
}
