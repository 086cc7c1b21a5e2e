//! A venue in virtual time: a server that speaks JSON-RPC as trading venues do, and does wrong what they do wrong.
//!
//! It speaks the shape of [`everwire_core::JsonRpc`]: `subscribe` and `unsubscribe` with lists of channels, notifications
//! `{"channel":"a","data":{"seq":7,"t":1000,"conn":1}}`, and the methods `echo`, `add`, `fail` and `never`. Each topic's messages are numbered
//! (`seq`) through the whole run, whether anybody listens or not, so that what a client missed can be told. All that it sees and does
//! goes to a [`Witness`], which knows what the client must make of it.

mod front;
mod habits;
mod market;
mod rpc;
mod warn;

pub(in crate::sim) use rpc::{NO_CREDITS, answer};
pub(in crate::sim) use warn::{MAINTENANCE, wish};

pub use front::{Front, Snub};
pub use habits::{CLOSE_CODES, NO_SUCH};

use super::dice::Dice;
use super::model::{Blame, CONNECTION, Fact, Saw, Witness};
use super::ws::{self, Heard, Socket, Upgrade};
use super::{Accept, Action, Ended, Server};
use front::Snubbing;
use habits::Habits;
use market::Market;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long the client may take to end a connection after the closing handshake.
const LINGER: Duration = Duration::from_secs(5);

/// A scripted venue. Without options it does everything right.
#[derive(Debug)]
pub struct Venue {
    habits: Habits,
    fronts: BTreeMap<u16, Front>,
    dice: Dice,
    witness: Witness,
    now: Duration,
    conns: BTreeMap<u64, Conn>,
    market: Market,
    /// What is to be done, and when; the second number keeps the order.
    agenda: BTreeMap<(Duration, u64), Task>,
    planned: u64,
    /// Topics that have their next message on the agenda.
    ticking: BTreeSet<String>,
    /// Nobody is let in until then.
    down_until: Duration,
    actions: VecDeque<(u64, Action)>,
}

#[derive(Debug, Default)]
struct Conn {
    port: u16,
    /// It is a TLS client's, and is to fail.
    snub: Option<Snubbing>,
    socket: Socket,
    upgraded: bool,
    authenticated: bool,
    /// Topics in force; false for one that gets no data.
    topics: BTreeMap<String, bool>,
    /// When the messages of the last span arrived.
    spent: VecDeque<Duration>,
    /// What is left of the credits, and since when.
    credits: Option<(f64, Duration)>,
    /// A close frame was sent.
    closing: bool,
    frozen: bool,
    /// The heartbeat that was sent last, until it is answered.
    heartbeat: Option<u64>,
    sent: u64,
}

/// Something to be done later, on a connection unless it says otherwise.
#[derive(Debug)]
enum Task {
    Open,
    Tick(String),
    Restart,
    Say(u64, Say),
    Close(u64),
    Drop(u64),
    Freeze(u64),
    Leave(u64),
    Notice(u64),
    Warn(u64),
    Ping(u64),
    Ask(u64),
    Heartbeat(u64),
    Overdue(u64, u64),
}

/// A text to be sent, and what it is.
#[derive(Debug)]
enum Say {
    /// The answer to a request.
    Answer { id: u64, text: String },
    /// The answer to an authentication that was right.
    Admit { id: u64, text: String },
    /// The answer to a request to subscribe to these, which arrived then.
    Ack { id: u64, topics: Vec<String>, asked: Duration, text: String },
}

impl Venue {
    /// A venue that does everything right. Chance comes from `seed`.
    pub fn new(seed: u64, witness: Witness) -> Self {
        let mut venue = Self {
            habits: Habits::default(),
            fronts: BTreeMap::new(),
            dice: Dice::new(seed, 2),
            witness,
            now: Duration::ZERO,
            conns: BTreeMap::new(),
            market: Market::default(),
            agenda: BTreeMap::new(),
            planned: 0,
            ticking: BTreeSet::new(),
            down_until: Duration::ZERO,
            actions: VecDeque::new(),
        };
        venue.plan(Some(Duration::ZERO), Task::Open);
        venue
    }

    /// How many connections are WebSockets now.
    pub fn connections(&self) -> usize {
        self.conns.values().filter(|conn| conn.upgraded).count()
    }

    /// The topics that are in force on a connection.
    pub fn in_force(&self, conn: u64) -> impl Iterator<Item = &str> {
        self.conns.get(&conn).into_iter().flat_map(|conn| conn.topics.keys().map(String::as_str))
    }

    fn plan(&mut self, at: Option<Duration>, task: Task) {
        if let Some(at) = at {
            self.planned += 1;
            self.agenda.insert((at, self.planned), task);
        }
    }

    fn saw(&self, conn: u64, saw: Saw) {
        self.witness.see(self.now, Fact::Venue(conn, saw));
    }

    /// The connection, if it can be spoken on.
    fn speaker(&mut self, conn: u64) -> Option<&mut Conn> {
        self.conns.get_mut(&conn).filter(|conn| conn.upgraded && !conn.closing && !conn.frozen)
    }

    fn send(&mut self, conn: u64, bytes: Vec<u8>) {
        self.actions.push_back((conn, Action::Send(bytes)));
    }

    /// Sends a text that is not an answer.
    fn tell(&mut self, conn: u64, text: String, must: bool) {
        if self.speaker(conn).is_none() {
            return;
        }
        let bytes = if text.len() > 1000 { ws::fragments(&text, 700) } else { ws::text(&text) };
        self.saw(conn, Saw::Sent { text, must });
        self.send(conn, bytes);
    }

    /// Says it now, or after a delay of up to `late` that comes with this chance.
    fn say(&mut self, conn: u64, say: Say, (chance, late): (u32, Duration)) {
        if self.chance(chance) {
            let at = self.now + self.dice.time(Duration::ZERO, late);
            self.plan(Some(at), Task::Say(conn, say));
        } else {
            self.say_now(conn, say);
        }
    }

    fn say_now(&mut self, conn: u64, say: Say) {
        if self.speaker(conn).is_none() {
            return;
        }
        let (id, text) = match say {
            Say::Answer { id, text } => (id, text),
            Say::Admit { id, text } => {
                self.saw(conn, Saw::Admitted);
                (id, text)
            }
            Say::Ack { id, topics, asked, text } => {
                for topic in topics {
                    self.saw(conn, Saw::Acked { topic, asked });
                }
                (id, text)
            }
        };
        self.send(conn, ws::text(&text));
        self.saw(conn, Saw::Answered { id, text });
    }

    /// Sends a close frame; whatever was planned on the connection is not said any more.
    fn close(&mut self, conn: u64, code: u16, reason: &str, blame: Blame) {
        let Some(open) = self.speaker(conn) else { return };
        open.closing = true;
        self.send(conn, ws::close(code, reason));
        self.saw(conn, Saw::Closing { code, blame });
        self.plan(Some(self.now + LINGER), Task::Leave(conn));
    }

    /// Ends the TCP connection.
    fn leave(&mut self, conn: u64, how: Action) {
        if self.conns.remove(&conn).is_some() {
            self.saw(conn, Saw::Left);
            self.actions.push_back((conn, how));
        }
    }

    fn upgrade(&mut self, conn: u64, upgrade: &Upgrade) {
        let mut refused = self.turned_away(conn);
        if refused.is_none() && self.chance(self.habits.refusing) {
            refused = self.dice.one(&self.habits.refuses).copied();
        }
        if let Some((status, wait)) = refused {
            let wait_text = wait.map(|wait| wait.to_string());
            let header = wait_text.as_deref().map(|wait| ("Retry-After", wait));
            self.send(conn, ws::refusal(status, header.as_slice()));
            self.saw(conn, Saw::Refused { status, retry_after: wait.map(Duration::from_secs) });
            return self.leave(conn, Action::Fin);
        }
        if self.chance(self.habits.misleads) {
            match self.dice.below(3) {
                0 => {
                    self.send(conn, upgrade.accept_wrongly());
                    self.leave(conn, Action::Fin);
                }
                1 => self.leave(conn, Action::Reset),
                _ => {}
            }
            return;
        }
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.upgraded = true;
        open.socket.open();
        self.saw(conn, Saw::Upgraded);
        let mut answer = upgrade.accept(&[(CONNECTION, &conn.to_string())]);
        if self.habits.greets {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"hello","params":{{"conn":{conn}}}}}"#);
            answer.extend(ws::text(&text));
            self.saw(conn, Saw::Sent { text, must: true });
        }
        self.send(conn, answer);
        for (mean, task) in [
            (self.habits.closes.as_ref().map(|(mean, _)| *mean), Task::Close(conn)),
            (self.habits.drops, Task::Drop(conn)),
            (self.habits.freezes, Task::Freeze(conn)),
            (self.habits.notices, Task::Notice(conn)),
            (self.habits.warns, Task::Warn(conn)),
            (self.habits.asks, Task::Ask(conn)),
            (self.habits.pings, Task::Ping(conn)),
        ] {
            let at = self.after(mean);
            self.plan(at, task);
        }
        let heartbeat = self.habits.heartbeats.map(|(every, _)| self.now + every);
        self.plan(heartbeat, Task::Heartbeat(conn));
    }

    fn heard(&mut self, conn: u64, heard: Heard) {
        let counted = match heard {
            Heard::Ping(_) | Heard::Pong(_) => self.habits.limit.is_some_and(|(_, _, control)| control),
            Heard::Text(_) | Heard::Binary(_) => true,
            _ => false,
        };
        if counted && self.is_over_limit(conn) {
            // It has arrived all the same.
            self.close(conn, 1008, "too many messages", Blame::Limit);
        }
        match heard {
            Heard::Upgrade(upgrade) => self.upgrade(conn, &upgrade),
            Heard::Text(text) => self.text(conn, &text),
            Heard::Binary(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.saw(conn, Saw::Message { text });
            }
            Heard::Ping(payload) => {
                let answered = self.speaker(conn).is_some();
                if answered {
                    self.send(conn, ws::pong(&payload));
                }
                self.saw(conn, Saw::Ping { answered });
            }
            Heard::Pong(_) => {}
            Heard::Close(code, _) => {
                self.saw(conn, Saw::Closed { code });
                let answer = if code == 1005 { 1000 } else { code };
                self.close(conn, answer, "", Blame::Answer);
                self.leave(conn, Action::Fin);
            }
            Heard::Request(_) => {
                self.saw(conn, Saw::Fault { what: "no WebSocket upgrade".to_owned() });
                self.leave(conn, Action::Reset);
            }
            Heard::Fault(what) => {
                self.saw(conn, Saw::Fault { what });
                self.leave(conn, Action::Reset);
            }
        }
    }

    /// Counts a message under the rolling limit.
    fn is_over_limit(&mut self, conn: u64) -> bool {
        let (Some((max, per, _)), Some(open)) = (self.habits.limit, self.conns.get_mut(&conn)) else {
            return false;
        };
        let now = self.now;
        // A message that is exactly one span old is out of it.
        while open.spent.front().is_some_and(|at| now.saturating_sub(*at) >= per) {
            open.spent.pop_front();
        }
        open.spent.push_back(now);
        open.spent.len() > max
    }

    /// A topic has its next message.
    fn tick(&mut self, topic: &str) {
        let number = self.market.newest(topic, self.habits.period, self.now);
        let listeners: Vec<u64> =
            self.conns.iter().filter(|(_, c)| c.topics.contains_key(topic)).map(|(conn, _)| *conn).collect();
        if listeners.is_empty() {
            self.ticking.remove(topic);
            return;
        }
        for conn in listeners {
            let fed = self.speaker(conn).is_some_and(|open| open.topics.get(topic) == Some(&true));
            if !fed || self.habits.quiet || self.chance(self.habits.skips) {
                continue;
            }
            let pad = "x".repeat(self.dice.index(self.habits.padding + 1));
            let time = self.now.as_millis();
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{topic}","data":{{"seq":{number},"t":{time},"conn":{conn},"pad":"{pad}"}}}}}}"#
            );
            if self.chance(self.habits.duplicates) {
                self.tell(conn, text.clone(), true);
                self.tell(conn, text, false);
            } else {
                self.tell(conn, text, true);
            }
            if self.chance(self.habits.forgets)
                && let Some(open) = self.conns.get_mut(&conn)
            {
                open.topics.remove(topic);
                self.saw(conn, Saw::Dropped { topic: topic.to_owned(), by: None });
            }
        }
        if self.chance(self.habits.silences) {
            self.market.silence(topic, self.now + Duration::from_secs(600));
        }
        self.plan(self.market.next(topic), Task::Tick(topic.to_owned()));
    }

    /// Has a topic's messages sent from now on.
    fn follow(&mut self, topic: &str) {
        if self.ticking.insert(topic.to_owned()) {
            self.plan(self.market.next(topic), Task::Tick(topic.to_owned()));
        }
    }

    fn due(&mut self, task: Task) {
        match task {
            Task::Open => {
                let at = self.after(self.habits.restarts.map(|(mean, _)| mean));
                self.plan(at, Task::Restart);
            }
            Task::Tick(topic) => self.tick(&topic),
            Task::Restart => {
                let down = self.habits.restarts.map_or(Duration::ZERO, |(_, down)| down);
                self.down_until = self.now + self.dice.time(Duration::ZERO, down);
                for conn in self.conns.keys().copied().collect::<Vec<_>>() {
                    self.leave(conn, Action::Reset);
                }
                self.due(Task::Open);
            }
            Task::Say(conn, say) => self.say_now(conn, say),
            Task::Close(conn) => {
                let codes = self.habits.closes.as_ref().map_or(&[][..], |(_, codes)| codes);
                let code = self.dice.one(codes).copied().unwrap_or(1000);
                self.close(conn, code, "that is all", Blame::Venue);
            }
            Task::Drop(conn) => {
                let how = if self.dice.chance(500) { Action::Fin } else { Action::Reset };
                self.leave(conn, how);
            }
            Task::Freeze(conn) => {
                if let Some(open) = self.speaker(conn) {
                    open.frozen = true;
                    self.saw(conn, Saw::Froze);
                }
            }
            Task::Leave(conn) => self.leave(conn, Action::Fin),
            Task::Notice(conn) => {
                let n = self.count(conn);
                let text = format!(
                    r#"{{"jsonrpc":"2.0","method":"notice","params":{{"text":"all is well","n":{n},"conn":{conn}}}}}"#
                );
                self.tell(conn, text, true);
                self.again(conn, self.habits.notices, Task::Notice(conn));
            }
            Task::Warn(conn) => self.warn(conn),
            Task::Ping(conn) => {
                let n = self.count(conn);
                if self.speaker(conn).is_some() {
                    self.send(conn, ws::ping(&n.to_be_bytes()));
                }
                self.again(conn, self.habits.pings, Task::Ping(conn));
            }
            Task::Ask(conn) => {
                let n = self.count(conn);
                let text = format!(
                    r#"{{"jsonrpc":"2.0","id":"{conn}-{n}","method":"question","params":{{"n":{n},"conn":{conn}}}}}"#
                );
                // A protocol may tell it as a request, or as a message.
                self.tell(conn, text, false);
                self.again(conn, self.habits.asks, Task::Ask(conn));
            }
            Task::Heartbeat(conn) => {
                let (Some((every, within)), n) = (self.habits.heartbeats, self.count(conn)) else { return };
                let Some(open) = self.speaker(conn) else { return };
                open.heartbeat = Some(n);
                self.send(conn, ws::text(rpc::HEARTBEAT));
                // Whether the protocol answers it or the user is told, it is not a matter of the model.
                self.saw(conn, Saw::Sent { text: rpc::HEARTBEAT.to_owned(), must: false });
                self.plan(Some(self.now + within), Task::Overdue(conn, n));
                self.plan(Some(self.now + every), Task::Heartbeat(conn));
            }
            Task::Overdue(conn, n) => {
                if self.speaker(conn).is_some_and(|open| open.heartbeat == Some(n)) {
                    self.close(conn, 4001, "no heartbeat", Blame::Heartbeat);
                }
            }
        }
    }

    /// Plans it again for as long as the connection is there.
    fn again(&mut self, conn: u64, mean: Option<Duration>, task: Task) {
        if self.speaker(conn).is_some() {
            let at = self.after(mean);
            self.plan(at, task);
        }
    }

    fn count(&mut self, conn: u64) -> u64 {
        let Some(open) = self.conns.get_mut(&conn) else { return 0 };
        open.sent += 1;
        open.sent
    }
}

impl Server for Venue {
    fn accept(&mut self, conn: u64, to: SocketAddr, now: Duration) -> Accept {
        self.now = now;
        self.enter(conn, to.port())
    }

    fn received(&mut self, conn: u64, bytes: &[u8], now: Duration) {
        self.now = now;
        let Some(open) = self.conns.get_mut(&conn).filter(|open| !open.frozen) else { return };
        if open.snub.is_some() {
            return self.snub(conn, bytes);
        }
        open.socket.receive(bytes);
        // After its own close frame it says nothing more, but what the client had sent still arrives.
        while let Some(heard) = self.conns.get_mut(&conn).and_then(|open| open.socket.heard()) {
            self.heard(conn, heard);
        }
    }

    fn closed(&mut self, conn: u64, _how: Ended, now: Duration) {
        self.now = now;
        if self.conns.remove(&conn).is_some() {
            self.saw(conn, Saw::Ended);
            self.actions.push_back((conn, Action::Fin));
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    fn run(&mut self, now: Duration) {
        self.now = now;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let task = entry.remove();
            self.due(task);
        }
    }

    fn output(&mut self) -> Option<(u64, Action)> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
mod tests;
