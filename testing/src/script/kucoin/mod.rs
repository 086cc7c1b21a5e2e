//! KuCoin, scripted: the token service and the classic WebSocket interface, as its documents and what was seen of it say (`docs/guides/venues.md`).
//!
//! What it punishes: no token, or one that it does not know or that is over; a word before its welcome; a message that is no JSON, has no id or
//! one that was used; more than 100 messages in 10 s; a list of more than 100 topics, or with `all` in it; more topics than a connection may
//! have; private topics with a public token; silence for longer than a ping's interval and timeout; a `connectId` that is in use.

mod feed;
mod talk;
mod tokens;

pub use feed::Market;
pub use tokens::Tokens;

use super::kit::{Agenda, Wall, Window};
use feed::Feed;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A scripted KuCoin. As it is made it does everything right.
#[derive(Debug)]
pub struct Kucoin {
    tokens: Tokens,
    rules: Rules,
    faults: Faults,
    feed: Feed,
    conns: BTreeMap<u64, Conn>,
    agenda: Agenda<Task>,
    next_tick: Duration,
    wall: Wall,
    counts: Counts,
}

#[derive(Debug)]
struct Rules {
    market: Market,
    messages: u64,
    span: Duration,
    topics_per_message: usize,
    topics: usize,
    life: Duration,
    tick: Duration,
    greets_after: Duration,
}

/// What it does wrong, or in the other of two ways.
#[derive(Debug, Default)]
struct Faults {
    silent: BTreeSet<String>,
    refused: BTreeMap<String, u16>,
    ack_delay: Duration,
    deaf: bool,
    wrong_welcome: bool,
    no_welcome: bool,
    in_band: bool,
    ignores_excess: bool,
    busy: u32,
}

#[derive(Debug)]
enum Task {
    Welcome(u64),
    Say(u64, String),
    Punish(u64, &'static str),
}

#[derive(Debug)]
struct Conn {
    id: String,
    private: bool,
    /// Its token is.
    good: bool,
    greeted: bool,
    born: Duration,
    heard: Duration,
    arrived: Window,
    ids: BTreeSet<String>,
    /// Whether each is said to be a private one.
    topics: BTreeMap<String, bool>,
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
    /// Messages of topics that were sent.
    pub data: u64,
    /// Connections that were ended because they had lived for long enough.
    pub aged: u64,
    /// Tokens that were missing, unknown or over.
    pub bad_tokens: u64,
}

impl Default for Kucoin {
    fn default() -> Self {
        Self::new()
    }
}

impl Kucoin {
    /// Spot, with the limits that are documented, a message of each topic every 100 ms.
    pub fn new() -> Self {
        let rules = Rules {
            market: Market::Spot,
            messages: 100,
            span: Duration::from_secs(10),
            topics_per_message: 100,
            topics: 300,
            life: Duration::from_secs(24 * 3600),
            tick: Duration::from_millis(100),
            greets_after: Duration::from_millis(20),
        };
        Self {
            tokens: Tokens::default(),
            rules,
            faults: Faults::default(),
            feed: Feed::default(),
            conns: BTreeMap::new(),
            agenda: Agenda::new(),
            next_tick: Duration::ZERO,
            wall: Wall::default(),
            counts: Counts::default(),
        }
    }

    /// Trades this.
    pub fn market(mut self, market: Market) -> Self {
        self.rules.market = market;
        self
    }

    /// What tokens say of pings; a client may be silent for as long as both together. Default 18 s and 10 s. (A client that sent nothing at all was
    /// seen to be ended after 60 s.)
    pub fn pings(self, interval: Duration, timeout: Duration) -> Self {
        self.tokens.pings(interval, timeout);
        self
    }

    /// How long a token is good. Default 24 h.
    pub fn token_life(self, life: Duration) -> Self {
        self.tokens.life(life);
        self
    }

    /// How long a connection lives. Default 24 h.
    pub fn life(mut self, life: Duration) -> Self {
        self.rules.life = life;
        self
    }

    /// Private tokens are for this key alone. Default: for any. Signatures are not looked at.
    pub fn key(self, key: impl Into<String>) -> Self {
        self.tokens.key(key.into());
        self
    }

    /// How many servers a token names; all are this one, by different paths. Default 1.
    pub fn servers(self, servers: usize) -> Self {
        self.tokens.servers(servers);
        self
    }

    /// Most messages in 10 s. Default 100.
    pub fn messages(mut self, messages: u64) -> Self {
        self.rules.messages = messages;
        self
    }

    /// Most topics on a connection. Default 300.
    pub fn topics(mut self, topics: usize) -> Self {
        self.rules.topics = topics;
        self
    }

    /// How often each topic has a message. Default every 100 ms.
    pub fn tick(mut self, every: Duration) -> Self {
        self.rules.tick = every.max(Duration::from_millis(1));
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

    /// Says nothing of this topic, though it is confirmed; or does again.
    pub fn silence(&mut self, topic: &str, silent: bool) {
        if silent {
            self.faults.silent.insert(topic.to_owned());
        } else {
            self.faults.silent.remove(topic);
        }
    }

    /// Refuses every message with this topic in it with this code, until it is called with `None`.
    pub fn refuse(&mut self, topic: &str, code: impl Into<Option<u16>>) {
        match code.into() {
            Some(code) => self.faults.refused.insert(topic.to_owned(), code),
            None => self.faults.refused.remove(topic),
        };
    }

    /// Answers what subscribes and unsubscribes so much later.
    pub fn delay_acks(&mut self, by: Duration) {
        self.faults.ack_delay = by;
    }

    /// Answers no ping.
    pub fn deaf(&mut self, deaf: bool) {
        self.faults.deaf = deaf;
    }

    /// Welcomes with another id than the client's.
    pub fn wrong_welcome(&mut self, wrong: bool) {
        self.faults.wrong_welcome = wrong;
    }

    /// Does not welcome.
    pub fn no_welcome(&mut self, none: bool) {
        self.faults.no_welcome = none;
    }

    /// Refuses tokens by a message on an open connection and not by HTTP 401.
    pub fn refuse_in_band(&mut self, in_band: bool) {
        self.faults.in_band = in_band;
    }

    /// Ignores topics beyond those that a connection may have, as older documents say, and does not refuse them.
    pub fn ignore_excess(&mut self, ignore: bool) {
        self.faults.ignores_excess = ignore;
    }

    /// Says to the next so many connections that it is busy.
    pub fn busy(&mut self, connections: u32) {
        self.faults.busy = connections;
    }

    /// Leaves out so many numbers of a book.
    pub fn skip(&mut self, topic: &str, numbers: u64) {
        self.feed.skip(topic, numbers);
    }

    /// The topics of a connection.
    pub fn subscribed(&self, conn: u64) -> Vec<String> {
        self.conns.get(&conn).map(|conn| conn.topics.keys().cloned().collect()).unwrap_or_default()
    }
}
