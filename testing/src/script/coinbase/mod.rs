//! Coinbase Advanced Trade, scripted: as its documents and what was seen of it say (`docs/guides/venues.md`).
//!
//! What it punishes: no subscription in the first 5 s; what is no JSON, or no message that it knows; a list of channels; a token that is missing where
//! one is needed, that is not signed by the key, that is over, that is good for more than 120 s, or that was used before; more than 8 messages without
//! a token in a second, over all connections; channels that it closes because nothing came in them for 90 s and no heartbeats were
//! asked for; products that there are not; market data where only the account's own are.

mod jwt;
mod market;
mod talk;

pub use jwt::Key;

use super::kit::{Agenda, Ticker, Wall, Window};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where market data are, and the account's own too.
pub const PATH: &str = "/";
/// Where the account's own are alone. (The venue has another host for that.)
pub const USER_PATH: &str = "/user";

/// Products that there are; `SLOW-USD` has a message every 10 minutes.
pub const PRODUCTS: [&str; 5] = ["BTC-USD", "ETH-USD", "SOL-USD", "XLM-USD", "SLOW-USD"];

/// A scripted Coinbase. As it is made it does everything right.
#[derive(Debug)]
pub struct Coinbase {
    key: Key,
    wall: Wall,
    conns: BTreeMap<u64, Conn>,
    ticker: Ticker,
    slow: Ticker,
    arrived: Window,
    tokens: BTreeSet<String>,
    agenda: Agenda<Task>,
    next_beat: Duration,
    beats: u64,
    faults: Faults,
    counts: Counts,
    idle: Duration,
}

/// What it does wrong, or in the other of two ways.
#[derive(Debug, Default)]
struct Faults {
    omits: bool,
    lists_first: bool,
    silent: BTreeSet<String>,
    lost: BTreeSet<String>,
    list_delay: Duration,
    no_beats: bool,
}

#[derive(Debug)]
enum Task {
    /// The list of what a connection is subscribed to.
    List(u64),
}

#[derive(Debug)]
struct Conn {
    born: Duration,
    /// Of the account's own data alone.
    user: bool,
    /// It has subscribed to something.
    begun: bool,
    /// The number of the next message.
    next: u64,
    /// Channels, their products, and when something last came in each.
    channels: BTreeMap<String, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    products: BTreeSet<String>,
    active: Duration,
}

/// What happened so far, for tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Messages that subscribe.
    pub subscribes: u64,
    /// Messages that unsubscribe.
    pub unsubscribes: u64,
    /// Messages with a token that is good.
    pub authenticated: u64,
    /// Channels that were closed because nothing came in them.
    pub idle: u64,
}

impl Default for Coinbase {
    fn default() -> Self {
        Self::new()
    }
}

impl Coinbase {
    /// With the limits that are documented, a message of each topic every 100 ms.
    pub fn new() -> Self {
        Self {
            key: Key::default(),
            wall: Wall::default(),
            conns: BTreeMap::new(),
            ticker: Ticker::new(Duration::from_millis(100)),
            slow: Ticker::new(Duration::from_secs(600)),
            arrived: Window::new(8, Duration::from_secs(1)),
            tokens: BTreeSet::new(),
            agenda: Agenda::new(),
            next_beat: Duration::ZERO,
            // Servers count from their own start.
            beats: 139_650,
            faults: Faults::default(),
            counts: Counts::default(),
            idle: Duration::from_secs(90),
        }
    }

    /// How often each topic has a message. Default every 100 ms.
    pub fn tick_every(mut self, every: Duration) -> Self {
        self.ticker = Ticker::new(every);
        self
    }

    /// After what time without a message a channel is closed. Default 90 s.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// The key whose tokens are good.
    pub fn key(&self) -> Key {
        self.key.clone()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Leaves products that there are not out of its list, as it was seen to, instead of refusing the message.
    pub fn omit_unknown(&mut self, omit: bool) {
        self.faults.omits = omit;
    }

    /// Says the list before the snapshots, and not behind them, as it was seen to.
    pub fn list_first(&mut self, first: bool) {
        self.faults.lists_first = first;
    }

    /// Says the list so much later.
    pub fn delay_lists(&mut self, by: Duration) {
        self.faults.list_delay = by;
    }

    /// Says nothing more in this topic (`level2:BTC-USD`), though it is subscribed to; or does again.
    pub fn silence(&mut self, topic: &str, silent: bool) {
        if silent {
            self.faults.silent.insert(topic.to_owned());
        } else {
            self.faults.silent.remove(topic);
        }
    }

    /// Loses the next message of this topic on each connection: its number is used up.
    pub fn lose(&mut self, topic: &str) {
        self.faults.lost.insert(topic.to_owned());
    }

    /// Sends no heartbeats for a while, though they count.
    pub fn hold_heartbeats(&mut self, hold: bool) {
        self.faults.no_beats = hold;
    }

    /// The connections that are subscribed to a topic (`level2:BTC-USD`, `user`).
    pub fn listeners(&self, topic: &str) -> Vec<u64> {
        let (channel, product) =
            topic.split_once(':').map_or((topic, None), |(channel, product)| (channel, Some(product)));
        let listens = |conn: &Conn| {
            let found = conn.channels.get(channel);
            found.is_some_and(|found| product.is_none_or(|product| found.products.contains(product)))
        };
        self.conns.iter().filter(|(_, conn)| listens(conn)).map(|(id, _)| *id).collect()
    }
}
