//! Drives an Everwire WebSocket session on tokio.

mod driver;

pub use driver::Driver;
pub use everwire_core::*;

use everwire_core::handle::Alive;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events that may wait for the user before the connection is not read any further.
const EVENT_BUFFER: usize = 1024;

/// A session that a task of its own keeps alive, whatever the user does: a handle to act on it, and its events.
///
/// What must be asked for before the first connection is there, such as subscriptions, is best asked for on a [`Driver`]'s
/// [`client`](Driver::client) before it is [`spawn`]ed; after `connect` it may come just after `Event::Online`. An answer that arrives behind events
/// that nobody takes comes after them: take events in another task than the one that awaits requests.
///
/// It is closed when every [`Client`] and the [`Events`] are dropped. When events are not taken, the connection is not read any further, so
/// that nothing piles up; whoever drops [`Events`] and keeps a [`Client`] wants none, and they are thrown away.
///
/// # Errors
/// [`ConfigError`] names the option that cannot work.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
    Ok(spawn(Driver::new(config)?))
}

/// [`connect`] with a driver that was set up by hand.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn spawn(driver: Driver) -> (Client, Events) {
    let (client, alive) = Client::keeping(driver.shared.clone());
    let (events, receiver) = mpsc::channel(EVENT_BUFFER);
    tokio::spawn(run(driver, events));
    (client, Events { receiver, _alive: alive })
}

async fn run(mut driver: Driver, events: mpsc::Sender<OwnedEvent>) {
    while let Some(event) = driver.next().await {
        if events.is_closed() {
            continue;
        }
        let event = event.to_owned();
        let permit = match events.try_reserve() {
            Err(mpsc::error::TrySendError::Full(())) => tokio::select! {
                permit = events.reserve() => permit.ok(),
                () = driver.keep_going() => None,
            },
            permit => permit.ok(),
        };
        if let Some(permit) = permit {
            permit.send(event);
        }
    }
}

/// The events of a session that [`connect`] made.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<OwnedEvent>,
    _alive: Arc<Alive>,
}

impl Events {
    /// The next event; `None` once the session is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<OwnedEvent> {
        self.receiver.recv().await
    }
}

// The README's examples are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
