//! Binance, scripted: streams and the WebSocket API of one kind of market, at the paths that the real one
//! has.
//!
//! Written from <https://developers.binance.com/docs/binance-spot-api-docs> and
//! <https://developers.binance.com/docs/derivatives> (read 2026-11). What these do not say and is guessed is
//! told where it is done.
//!
//! What a client must not do, and what happens then:
//!
//! | what | what happens |
//! | --- | --- |
//! | more than 5 (futures: 10) messages in any second, pings and pongs included | close 1008 "Too many requests"; the second time in 5 minutes also a ban |
//! | a ban | 2 minutes of HTTP 418 with `Retry-After`; whoever comes all the same has 2 more |
//! | more than 300 attempts in 5 minutes | HTTP 429 |
//! | a ping without its pong for a minute (futures: 10 minutes) | the connection ends |
//! | more streams than a connection may have, a message that is none, an id that may not be | an error |
//! | a symbol in upper case, a stream at the wrong address | a confirmation, and no data |
//! | a key, signature or timestamp that is wrong | an error |
//! | more weight than a minute allows | an error with status 429, then a ban |
//!
//! What is the client's fault for certain is punished besides.

mod api;
mod faults;
mod market;
mod streams;
#[cfg(test)]
mod tests;

use super::kit::{Agenda, Channels, Ticker, Wall, Window, query};
use super::{HttpRequest, HttpResponse, Replies, Reply, Script};
use crate::sim::ws::Upgrade;
use api::Keys;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

const SECOND: Duration = Duration::from_secs(1);
const BAN: Duration = Duration::from_secs(120);
const FIVE_MINUTES: Duration = Duration::from_secs(300);
/// What happens to the account, among the streams.
const ACCOUNT: &str = "account";
/// How long a listen key lives.
const KEY_LIFE: Duration = Duration::from_secs(3600);

/// The venue.
#[derive(Debug)]
pub struct Venue {
    kind: Kind,
    wall: Wall,
    life: Duration,
    ticker: Ticker,
    channels: Channels,
    conns: BTreeMap<u64, Conn>,
    agenda: Agenda<Task>,
    /// Symbols that exist; all do if there are none.
    symbols: Vec<String>,
    attempts: Window,
    /// Connections that were ended for too many messages.
    offences: Window,
    banned: Option<Duration>,
    keys: Keys,
    listen_keys: BTreeMap<String, Duration>,
    pings: u64,
    // What is wrong with it for now.
    silent: bool,
    late: Duration,
    refuses: VecDeque<(i64, String)>,
}

/// Which kind of market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Spot,
    UsdFutures,
    CoinFutures,
}

#[derive(Debug)]
struct Conn {
    path: Path,
    /// Messages of the client.
    frames: Window,
    /// Those that were not answered.
    pings: VecDeque<Vec<u8>>,
    micros: bool,
    /// Of user data.
    listen_key: Option<String>,
    session: api::Session,
}

/// Where a client connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// Streams; whether messages name theirs, and what is served.
    Streams {
        combined: bool,
        route: Route,
    },
    Api,
}

/// Of USD-M futures: each stream is served at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    All,
    /// Books.
    Public,
    /// All but books.
    Market,
    /// User data.
    Private,
    /// Nothing any more.
    Retired,
}

#[derive(Debug)]
enum Task {
    Ping(u64),
    /// Its pong must be there.
    Pong(u64, Vec<u8>),
    /// The connection is as old as it may become, or the server shuts down.
    End(u64),
    Say(u64, String),
    KeyExpires(String),
}

impl Venue {
    /// Spot.
    pub fn spot() -> Self {
        Self::new(Kind::Spot)
    }

    /// USD-margined futures.
    pub fn usd_futures() -> Self {
        Self::new(Kind::UsdFutures)
    }

    /// Coin-margined futures.
    pub fn coin_futures() -> Self {
        Self::new(Kind::CoinFutures)
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            wall: Wall::default(),
            life: Duration::from_secs(24 * 3600),
            ticker: Ticker::new(Duration::from_millis(250)),
            channels: Channels::new(),
            conns: BTreeMap::new(),
            agenda: Agenda::new(),
            symbols: Vec::new(),
            attempts: Window::new(300, FIVE_MINUTES),
            offences: Window::new(1, FIVE_MINUTES),
            banned: None,
            keys: Keys::new(kind),
            listen_keys: BTreeMap::new(),
            pings: 0,
            silent: false,
            late: Duration::ZERO,
            refuses: VecDeque::new(),
        }
    }

    /// How often something happens in each stream. Default 250 ms.
    pub fn every(self, time: Duration) -> Self {
        Self { ticker: Ticker::new(time), ..self }
    }

    /// How long a connection may live. Default 24 h.
    pub fn life(self, life: Duration) -> Self {
        Self { life, ..self }
    }

    /// The symbols that exist, in lower case; streams of others are confirmed and silent, which the documents
    /// do not say. Default: all exist.
    pub fn symbols<S: Into<String>>(self, symbols: impl IntoIterator<Item = S>) -> Self {
        Self { symbols: symbols.into_iter().map(Into::into).collect(), ..self }
    }

    /// An API key whose requests are signed with HMAC-SHA256.
    pub fn hmac_key(mut self, key: &str, secret: &str) -> Self {
        self.keys.hmac(key, secret);
        self
    }

    /// An API key that may log on. `verify` judges a text and its signature.
    pub fn ed25519_key(mut self, key: &str, verify: fn(&str, &str) -> bool) -> Self {
        self.keys.ed25519(key, verify);
        self
    }

    /// Something happens to the account as often as in each stream: whoever has user data is told
    /// `{"e":"balanceUpdate","n":<number>,...}`. Default: only what orders do.
    pub fn busy_account(mut self) -> Self {
        self.ticker.open(ACCOUNT, Duration::ZERO);
        self
    }

    /// The number of the newest change of a symbol's book, by the stream that is named.
    pub fn last_update_id(&self, stream: &str) -> u64 {
        market::last_update_id(self.kind, self.ticker.number(stream))
    }

    /// How many streams a connection has.
    pub fn streams(&self, conn: u64) -> usize {
        self.channels.count(conn)
    }

    // ---- Connections.

    /// A message of the client came; false if it was one too many.
    fn counts(&mut self, conn: u64, now: Duration, out: &mut Replies) -> bool {
        let Some(open) = self.conns.get_mut(&conn) else { return false };
        let too_many = open.frames.exceeds(1, now) && matches!(open.path, Path::Streams { .. });
        if too_many {
            out.punish_timing(conn, format!("more than {} messages in a second", self.kind.messages()));
            self.end(conn, Reply::Close(1008, "Too many requests".to_owned()), out);
            if self.offences.exceeds(1, now) {
                self.ban(now);
            }
        }
        !too_many
    }

    fn ban(&mut self, now: Duration) {
        self.banned = Some(now.saturating_add(BAN));
    }

    fn end(&mut self, conn: u64, how: Reply, out: &mut Replies) {
        self.conns.remove(&conn);
        self.channels.leave(conn);
        out.push(conn, how);
    }

    fn is_known(&self, stream: &str) -> bool {
        let symbol = stream.split('@').next().unwrap_or_default();
        self.symbols.is_empty() || symbol.starts_with('!') || self.symbols.iter().any(|known| known == symbol)
    }

    fn due(&mut self, task: Task, now: Duration, out: &mut Replies) {
        match task {
            Task::Ping(conn) => {
                let Some(open) = self.conns.get_mut(&conn) else { return };
                self.pings += 1;
                let payload = format!("{}{:04}", self.wall.millis(now), self.pings % 10_000).into_bytes();
                open.pings.push_back(payload.clone());
                let (every, patience) = self.kind.pings();
                self.agenda.plan(now.saturating_add(every), Task::Ping(conn));
                self.agenda.plan(now.saturating_add(patience), Task::Pong(conn, payload.clone()));
                out.push(conn, Reply::Ping(payload));
            }
            Task::Pong(conn, payload) => {
                if self.conns.get(&conn).is_some_and(|open| open.pings.contains(&payload)) {
                    out.punish_timing(conn, "a ping has no pong");
                    self.end(conn, Reply::Fin, out);
                }
            }
            Task::End(conn) if self.conns.contains_key(&conn) => {
                self.end(conn, Reply::Close(1001, String::new()), out);
            }
            Task::End(_) => {}
            Task::Say(conn, text) if self.conns.contains_key(&conn) => out.text(conn, text),
            Task::Say(..) => {}
            Task::KeyExpires(key) => match self.listen_keys.get(&key) {
                Some(until) if *until > now => self.agenda.plan(*until, Task::KeyExpires(key)),
                Some(_) => self.expire(&key, now, out),
                None => {}
            },
        }
    }

    /// A listen key ends: now, whatever its time is.
    pub fn expire(&mut self, key: &str, now: Duration, out: &mut Replies) {
        self.listen_keys.remove(key);
        let event = json!({"e": "listenKeyExpired", "E": self.wall.millis(now), "listenKey": key});
        for (conn, open) in &self.conns {
            if open.listen_key.as_deref() == Some(key) {
                let Path::Streams { combined, .. } = open.path else { continue };
                let said = if combined { json!({"stream": key, "data": event}) } else { event.clone() };
                out.json(*conn, &said);
            }
        }
    }

    /// The listen keys that are valid.
    pub fn listen_keys(&self) -> impl Iterator<Item = &str> {
        self.listen_keys.keys().map(String::as_str)
    }
}

impl Script for Venue {
    fn start(&mut self, wall: SystemTime) {
        self.wall = Wall::new(wall);
    }

    fn upgrade(&mut self, conn: u64, request: &Upgrade, now: Duration) -> Result<(), HttpResponse> {
        if let Some(until) = self.banned {
            if now < until {
                self.ban(now);
                let wait = BAN.as_secs().to_string();
                return Err(HttpResponse::status(418).header("Retry-After", wait));
            }
            self.banned = None;
        }
        if self.attempts.exceeds(1, now) {
            return Err(HttpResponse::status(429));
        }
        let target = &request.target;
        let Some(path) = self.kind.path(target.split('?').next().unwrap_or_default()) else {
            return Err(HttpResponse::status(404));
        };
        let mut session = api::Session::default();
        session.hides_limits = query(target, "returnRateLimits").is_some_and(|shows| shows == "false");
        let open = Conn {
            path,
            frames: Window::new(self.kind.messages(), SECOND),
            pings: VecDeque::new(),
            micros: self.kind == Kind::Spot
                && query(target, "timeUnit").is_some_and(|unit| unit.eq_ignore_ascii_case("microsecond")),
            // With one that is not valid nothing ever comes, which is what is seen: the documents do not say.
            listen_key: query(target, "listenKey").filter(|key| self.listen_keys.contains_key(key)),
            session,
        };
        self.conns.insert(conn, open);
        let (every, _) = self.kind.pings();
        self.agenda.plan(now.saturating_add(every), Task::Ping(conn));
        self.agenda.plan(now.saturating_add(self.life), Task::End(conn));
        self.begin_with(conn, target, now);
        Ok(())
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        if !self.counts(conn, now, out) {
            return;
        }
        match self.conns.get(&conn).map(|open| open.path) {
            Some(Path::Streams { .. }) => self.stream_text(conn, text, now, out),
            Some(Path::Api) => self.api_text(conn, text, now, out),
            None => {}
        }
    }

    fn binary(&mut self, conn: u64, _: &[u8], now: Duration, out: &mut Replies) {
        out.punish(conn, "binary messages mean nothing here");
        self.counts(conn, now, out);
    }

    fn ping(&mut self, conn: u64, _: &[u8], now: Duration, out: &mut Replies) {
        self.counts(conn, now, out);
    }

    fn pong(&mut self, conn: u64, payload: &[u8], now: Duration, out: &mut Replies) {
        if !self.counts(conn, now, out) {
            return;
        }
        let Some(open) = self.conns.get_mut(&conn) else { return };
        // One that answers no ping is allowed, and changes nothing.
        if let Some(at) = open.pings.iter().position(|ping| ping == payload) {
            open.pings.drain(..=at);
        }
    }

    fn closed(&mut self, conn: u64, _: Option<u16>, _: Duration, _: &mut Replies) {
        self.conns.remove(&conn);
        self.channels.leave(conn);
    }

    /// Books by REST, and listen keys of futures. Spot has none of these any more.
    fn http(&mut self, request: &HttpRequest, now: Duration) -> HttpResponse {
        let prefix = match self.kind {
            Kind::Spot => "/api/v3",
            Kind::UsdFutures => "/fapi/v1",
            Kind::CoinFutures => "/dapi/v1",
        };
        let Some(what) = request.path().strip_prefix(prefix) else { return HttpResponse::status(404) };
        match (request.method.as_str(), what) {
            ("GET", "/depth") => {
                let symbol = query(&request.target, "symbol").unwrap_or_default().to_lowercase();
                HttpResponse::json(&market::snapshot(self.kind, self.newest(&symbol)))
            }
            (_, "/userDataStream") => HttpResponse::status(410),
            (method, "/listenKey") if self.kind != Kind::Spot => {
                match request.header("X-MBX-APIKEY") {
                    Some(key) if self.keys.knows(key) => {}
                    _ => return HttpResponse::status(401),
                }
                let key = match self.listen_keys.keys().next() {
                    Some(key) => key.clone(),
                    None => format!("listenkey{:020}", self.wall.nanos(now)),
                };
                match method {
                    "POST" => {
                        self.listen_keys.insert(key.clone(), now.saturating_add(KEY_LIFE));
                        self.agenda.plan(now.saturating_add(KEY_LIFE), Task::KeyExpires(key.clone()));
                        HttpResponse::json(&json!({"listenKey": key}))
                    }
                    "PUT" if self.listen_keys.contains_key(&key) => {
                        self.listen_keys.insert(key, now.saturating_add(KEY_LIFE));
                        HttpResponse::json(&json!({}))
                    }
                    "DELETE" => {
                        self.listen_keys.remove(&key);
                        HttpResponse::json(&json!({}))
                    }
                    _ => HttpResponse::status(400),
                }
            }
            _ => HttpResponse::status(404),
        }
    }

    fn deadline(&self) -> Option<Duration> {
        [self.ticker.deadline(), self.agenda.deadline()].into_iter().flatten().min()
    }

    fn run(&mut self, now: Duration, out: &mut Replies) {
        while let Some((_, task)) = self.agenda.due(now) {
            self.due(task, now, out);
        }
        for tick in self.ticker.ticks(now) {
            if tick.topic == ACCOUNT {
                let time = self.wall.millis(tick.at);
                let event =
                    json!({"e": "balanceUpdate", "E": time, "a": "BTC", "d": "1.0", "n": tick.number});
                self.user_event(&event, out);
            } else {
                self.tell(&tick, out);
            }
        }
    }
}

impl Kind {
    /// Most messages in a second.
    fn messages(self) -> u64 {
        if self == Self::Spot { 5 } else { 10 }
    }

    /// Most streams on a connection.
    fn streams(self) -> usize {
        if self == Self::Spot { 1024 } else { 200 }
    }

    /// How often it pings, and how long it waits for the answer.
    fn pings(self) -> (Duration, Duration) {
        match self {
            Self::Spot => (Duration::from_secs(20), Duration::from_secs(60)),
            Self::UsdFutures | Self::CoinFutures => (Duration::from_secs(180), Duration::from_secs(600)),
        }
    }

    fn path(self, path: &str) -> Option<Path> {
        let api = match self {
            Self::Spot => "/ws-api/v3",
            Self::UsdFutures => "/ws-fapi/v1",
            Self::CoinFutures => "/ws-dapi/v1",
        };
        if path == api {
            return Some(Path::Api);
        }
        let (route, rest) = match (self, path) {
            (Self::UsdFutures, _) => [
                ("/public", Route::Public),
                ("/market", Route::Market),
                ("/private", Route::Private),
                ("", Route::Retired),
            ]
            .into_iter()
            .find_map(|(prefix, route)| Some((route, path.strip_prefix(prefix)?)))?,
            _ => (Route::All, path),
        };
        match rest {
            "/stream" => Some(Path::Streams { combined: true, route }),
            "/ws" => Some(Path::Streams { combined: false, route }),
            _ if rest.starts_with("/ws/") => Some(Path::Streams { combined: false, route }),
            _ => None,
        }
    }
}
