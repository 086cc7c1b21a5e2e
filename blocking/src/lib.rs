//! Drives an Everwire WebSocket session from plain threads: scripts, tools, programs without a runtime.
//!
//! ```no_run
//! # use everwire_blocking::{Config, Driver, OwnedEvent};
//! let mut driver = Driver::new(Config::new("wss://feed.example.com/ws")?)?;
//! for event in &mut driver {
//!     let OwnedEvent::Message { message, .. } = event else { continue };
//!     println!("{message}");
//! }
//! # Ok::<(), everwire_blocking::ConfigError>(())
//! ```

mod background;
mod inline;
mod reactor;
mod runtime;

pub use everwire_core::*;
pub use inline::{Driver, Iter};
pub use runtime::{Duplex, Std, Stream};

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::thread;

/// A session that a thread of its own keeps alive, whatever the user does: a handle to act on it, and its events
/// ([`Events::blocking`] iterates over them).
///
/// What must be asked for before the first connection is there, such as subscriptions, is best asked for on a [`Driver`]'s
/// [`client`](Driver::client) before it is [`spawn`]ed; after `connect` it may come just after `Event::Online`. An answer that arrives behind events
/// that nobody takes comes after them: take events in another thread than the one that waits for requests.
///
/// It is closed when every [`Client`] and the [`Events`] are dropped. When events are not taken, the connection is not read any further, so
/// that nothing piles up; for messages of a subscription, [`SubscribeOptions::overflow`] may say otherwise. Whoever drops [`Events`] and keeps a
/// [`Client`] wants none, and they are thrown away.
///
/// # Errors
/// [`ConfigError`] names the option that cannot work, or says that there is no thread to be had.
pub fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
    spawn(Driver::new(config)?)
}

/// [`connect`] with a driver that was set up by hand.
///
/// # Errors
/// [`ConfigError::System`] if there is no thread to be had.
pub fn spawn(driver: Driver) -> Result<(Client, Events), ConfigError> {
    let (mut waiting, inner) = driver.into_parts();
    let (client, events, running) = inner.background();
    let run = move || {
        let mut running = pin!(running);
        let waker = waiting.waker();
        while running.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            waiting.wait(None);
        }
    };
    let started = thread::Builder::new().name("everwire".to_owned()).spawn(run);
    started.map_err(|error| ConfigError::System(error.to_string()))?;
    Ok((client, events))
}
