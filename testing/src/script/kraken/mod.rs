//! Kraken, scripted: the spot WebSocket interface version 2 and the token service, as its documents and what was seen of it say
//! (`docs/guides/venues.md`).
//!
//! What it punishes: too many messages; no subscription for 60 s; a message that is no JSON, or none that it knows; private topics and orders
//! without a token, with one that it does not know or that is over; private topics at the public URL, and the other way round.

mod book;
mod talk;
mod tokens;

pub use tokens::Tokens;

use super::kit::{Agenda, Wall, Window};
use book::Book;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A scripted Kraken. As it is made it does everything right.
#[derive(Debug)]
pub struct Kraken {
    tokens: Tokens,
    rules: Rules,
    faults: Faults,
    books: BTreeMap<String, Book>,
    orders: BTreeMap<String, String>,
    conns: BTreeMap<u64, Conn>,
    agenda: Agenda<(u64, String)>,
    next_tick: Duration,
    wall: Wall,
    /// How often something was said, for ids and prices.
    count: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Rules {
    private: bool,
    messages: u64,
    span: Duration,
    lonely: Duration,
    tick: Duration,
    heartbeat: Duration,
    seed: u64,
}

/// What it does wrong.
#[derive(Debug, Default)]
struct Faults {
    /// Symbols whose next change has a wrong checksum.
    wrong: BTreeSet<String>,
    /// Symbols whose next change is not told.
    lost: BTreeSet<String>,
    silent: BTreeSet<String>,
    refused: BTreeMap<String, String>,
    ack_delay: Duration,
    deaf: bool,
    skip_executions: u64,
}

#[derive(Debug)]
struct Conn {
    arrived: Window,
    /// Since when it has had no subscription.
    lonely: Duration,
    /// When it was told something last.
    told: Duration,
    /// It is told nothing any more.
    deaf: bool,
    topics: BTreeMap<String, Subscription>,
    /// Tokens that were used on it: they are good for as long as it lives.
    tokens: BTreeSet<String>,
}

#[derive(Debug)]
struct Subscription {
    channel: String,
    symbol: Option<String>,
    depth: usize,
    interval: u64,
    /// The number of its last message.
    sequence: u64,
}

/// What happened so far, for tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Pings that came.
    pub pings: u64,
    /// Messages that subscribe.
    pub subscribes: u64,
    /// Messages that unsubscribe.
    pub unsubscribes: u64,
    /// Messages of books that were sent, snapshots included.
    pub books: u64,
    /// Messages that were more than allowed.
    pub excess: u64,
}

impl Default for Kraken {
    fn default() -> Self {
        Self::new()
    }
}

impl Kraken {
    /// The public interface: a change of each book every 100 ms, 20 messages in a second, a heartbeat after a second of silence.
    pub fn new() -> Self {
        let rules = Rules {
            private: false,
            messages: 20,
            span: Duration::from_secs(1),
            lonely: Duration::from_secs(60),
            tick: Duration::from_millis(100),
            heartbeat: Duration::from_secs(1),
            seed: 0,
        };
        Self {
            tokens: Tokens::default(),
            rules,
            faults: Faults::default(),
            books: BTreeMap::new(),
            orders: BTreeMap::new(),
            conns: BTreeMap::new(),
            agenda: Agenda::new(),
            next_tick: Duration::ZERO,
            wall: Wall::default(),
            count: 0,
            counts: Counts::default(),
        }
    }

    /// The private interface: the account's own and orders. At each tick an order of another session is executed.
    pub fn private() -> Self {
        let mut kraken = Self::new();
        kraken.rules.private = true;
        kraken
    }

    /// What the books are made of.
    pub fn seed(mut self, seed: u64) -> Self {
        self.rules.seed = seed;
        self
    }

    /// Most messages of a client in what time. Kraken names no number. Default 20 in 1 s.
    pub fn messages(mut self, messages: u64, span: Duration) -> Self {
        (self.rules.messages, self.rules.span) = (messages, span);
        self
    }

    /// How often everything changes. Default every 100 ms.
    pub fn tick(mut self, every: Duration) -> Self {
        self.rules.tick = every.max(Duration::from_millis(1));
        self
    }

    /// How long a connection may have no subscription. Default 60 s.
    pub fn lonely(mut self, time: Duration) -> Self {
        self.rules.lonely = time;
        self
    }

    /// In how many seconds a token must be used. Default 900.
    pub fn token_life(self, seconds: u64) -> Self {
        self.tokens.life(seconds);
        self
    }

    /// Tokens are for this key alone. Default: for any. Signatures are not looked at.
    pub fn key(self, key: impl Into<String>) -> Self {
        self.tokens.key(key.into());
        self
    }

    /// The token service, which is the same in all clones.
    pub fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next change of this symbol's book has a wrong checksum.
    pub fn wrong_checksum(&mut self, symbol: &str) {
        self.faults.wrong.insert(symbol.to_owned());
    }

    /// The next change of this symbol's book is not told.
    pub fn lose_change(&mut self, symbol: &str) {
        self.faults.lost.insert(symbol.to_owned());
    }

    /// Says nothing of this topic (`book:BTC/USD`), though it is confirmed; or does again.
    pub fn silence(&mut self, topic: &str, silent: bool) {
        if silent {
            self.faults.silent.insert(topic.to_owned());
        } else {
            self.faults.silent.remove(topic);
        }
    }

    /// Refuses this symbol with this error, until it is called with `None`.
    pub fn refuse(&mut self, symbol: &str, error: Option<&str>) {
        match error {
            Some(error) => self.faults.refused.insert(symbol.to_owned(), error.to_owned()),
            None => self.faults.refused.remove(symbol),
        };
    }

    /// Confirms so much later.
    pub fn delay_acks(&mut self, by: Duration) {
        self.faults.ack_delay = by;
    }

    /// Says nothing at all: no data, no heartbeat, no answer. A connection that missed something by that is never told anything again.
    pub fn deaf(&mut self, deaf: bool) {
        self.faults.deaf = deaf;
    }

    /// Leaves out so many numbers of executions, on all connections.
    pub fn skip_executions(&mut self, numbers: u64) {
        self.faults.skip_executions += numbers;
    }

    /// The topics of a connection.
    pub fn subscribed(&self, conn: u64) -> Vec<String> {
        self.conns.get(&conn).map(|conn| conn.topics.keys().cloned().collect()).unwrap_or_default()
    }

    /// Orders that are open, by their ids.
    pub fn orders(&self) -> impl Iterator<Item = &str> {
        self.orders.keys().map(String::as_str)
    }
}
