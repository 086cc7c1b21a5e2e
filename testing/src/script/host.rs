//! A script as a server: the protocol of WebSockets and of HTTP around it.

use super::{HttpResponse, Punishment, Replies, Reply, Script};
use crate::sim::ws::{self, Heard, Socket, Upgrade};
use crate::sim::{self, Accept, Action, Ended, Server};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// How long the client may take to answer a close frame.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// Punishments that are kept.
const KEPT: usize = 1000;
/// Lines of the transcript that tell what a client did, and that tell what the script said.
const DONE: usize = 200;
const SAID: usize = 100;
/// The longest text that the transcript shows, in bytes.
const SHOWN: usize = 400;

/// Runs a [`Script`]: a [`Server`] without I/O, for a [`Simulation`](crate::sim::Simulation).
///
/// Handshakes, pings and close frames are answered by themselves. A client that breaks RFC 6455 is punished, and its connection is closed with code
/// 1002. The first punishment is the simulation's violation, unless [`tolerant`](Self::tolerant) was called.
#[derive(Debug)]
pub struct Host<S> {
    script: S,
    conns: BTreeMap<u64, Conn>,
    actions: VecDeque<(u64, Action)>,
    punished: Vec<Punishment>,
    judge: Judge,
    upgraded: usize,
    /// By their numbers.
    done: VecDeque<(u64, String)>,
    said: VecDeque<(u64, String)>,
    lines: u64,
}

/// What a simulation ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    Strict,
    /// With all but what is a matter of timing.
    Patient,
    Tolerant,
}

#[derive(Debug, Default)]
struct Conn {
    socket: Socket,
    stage: Stage,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is no WebSocket yet.
    #[default]
    Asking,
    Open,
    /// A close frame was sent, and is to be answered by then.
    Closing(Duration),
}

impl<S: Script> Host<S> {
    /// Starts the script, at the time of day that a simulation starts with: 2026-01-01 00:00:00 UTC.
    pub fn new(script: S) -> Self {
        Self::at(script, sim::start().system)
    }

    /// Starts the script at this time of day.
    pub fn at(mut script: S, wall: SystemTime) -> Self {
        script.start(wall);
        Self {
            script,
            conns: BTreeMap::new(),
            actions: VecDeque::new(),
            punished: Vec::new(),
            judge: Judge::Strict,
            upgraded: 0,
            done: VecDeque::new(),
            said: VecDeque::new(),
            lines: 0,
        }
    }

    /// A simulation does not end with punishments.
    pub fn tolerant(self) -> Self {
        Self { judge: Judge::Tolerant, ..self }
    }

    /// A simulation ends with punishments but for those that are a matter of timing, for networks that bunch messages up.
    pub fn patient(self) -> Self {
        Self { judge: Judge::Patient, ..self }
    }

    /// The script.
    pub fn script(&self) -> &S {
        &self.script
    }

    /// The script, to change it. For it to say something use [`act`](Self::act).
    pub fn script_mut(&mut self) -> &mut S {
        &mut self.script
    }

    /// Lets the script do something out of its turn.
    pub fn act<R>(&mut self, now: Duration, act: impl FnOnce(&mut S, &mut Replies) -> R) -> R {
        let mut out = Replies::new();
        let result = act(&mut self.script, &mut out);
        self.obey(out, now);
        result
    }

    /// What was punished, oldest first; the first 1,000.
    pub fn punishments(&self) -> &[Punishment] {
        &self.punished
    }

    /// How many WebSockets there were so far.
    pub fn connections(&self) -> usize {
        self.upgraded
    }

    /// The WebSockets that are open now.
    pub fn open(&self) -> impl Iterator<Item = u64> {
        self.conns.iter().filter(|(_, conn)| conn.stage == Stage::Open).map(|(id, _)| *id)
    }

    /// What clients did last, and what the script said last (200 lines and 100 lines, cut to 400 bytes): for whoever looks for a fault.
    pub fn transcript(&self) -> String {
        let mut lines: Vec<&(u64, String)> = self.done.iter().chain(&self.said).collect();
        lines.sort_unstable_by_key(|(number, _)| *number);
        lines.into_iter().flat_map(|(_, line)| [line.as_str(), "\n"]).collect()
    }

    fn line(&mut self, now: Duration, conn: u64, what: &str, text: &str) {
        let (lines, most) = match what {
            "->" => (&mut self.said, SAID),
            _ => (&mut self.done, DONE),
        };
        if lines.len() == most {
            lines.pop_front();
        }
        let end = (0..=text.len().min(SHOWN)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.lines += 1;
        lines.push_back((self.lines, format!("{:>14.6} #{conn} {what} {}", now.as_secs_f64(), &text[..end])));
    }

    fn punish(&mut self, punishment: Punishment, now: Duration) {
        self.line(now, punishment.conn, "punished:", &punishment.why);
        if self.punished.len() < KEPT {
            self.punished.push(punishment);
        }
    }

    fn send(&mut self, conn: u64, bytes: Vec<u8>) {
        self.actions.push_back((conn, Action::Send(bytes)));
    }

    fn leave(&mut self, conn: u64, how: Action) {
        if self.conns.remove(&conn).is_some() {
            self.actions.push_back((conn, how));
        }
    }

    /// Does what the script said.
    fn obey(&mut self, mut out: Replies, now: Duration) {
        for punishment in out.take_punished() {
            self.punish(punishment, now);
        }
        for (id, reply) in out.take() {
            let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.stage == Stage::Open) else {
                continue;
            };
            let bytes = match reply {
                Reply::Text(text) => {
                    self.line(now, id, "->", &text);
                    ws::text(&text)
                }
                Reply::Binary(bytes) => {
                    self.line(now, id, "->", &format!("{} bytes", bytes.len()));
                    ws::binary(&bytes)
                }
                Reply::Ping(payload) => ws::ping(&payload),
                Reply::Close(code, reason) => {
                    conn.stage = Stage::Closing(now.saturating_add(CLOSE_TIME));
                    self.line(now, id, "-> close", &format!("{code} {reason}"));
                    ws::close(code, &reason)
                }
                Reply::Fin => {
                    self.line(now, id, "->", "FIN");
                    self.leave(id, Action::Fin);
                    continue;
                }
                Reply::Reset => {
                    self.line(now, id, "->", "RST");
                    self.leave(id, Action::Reset);
                    continue;
                }
            };
            self.send(id, bytes);
        }
    }

    fn upgrade(&mut self, conn: u64, upgrade: &Upgrade, now: Duration) {
        if let Err(refused) = self.script.upgrade(conn, upgrade, now) {
            return self.answer(conn, &refused, now);
        }
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.socket.open();
        open.stage = Stage::Open;
        self.upgraded += 1;
        self.line(now, conn, "upgraded", "");
        self.send(conn, upgrade.accept(&[]));
        self.act(now, |script, out| script.opened(conn, now, out));
    }

    fn answer(&mut self, conn: u64, answer: &HttpResponse, now: Duration) {
        self.line(now, conn, "->", &format!("HTTP {}", answer.status));
        self.send(conn, answer.encode());
        self.leave(conn, Action::Fin);
    }

    fn heard(&mut self, conn: u64, heard: Heard, now: Duration) {
        let Some(stage) = self.conns.get(&conn).map(|conn| conn.stage) else { return };
        match (heard, stage) {
            (Heard::Upgrade(upgrade), _) => self.upgrade(conn, &upgrade, now),
            (Heard::Request(request), _) => {
                self.line(now, conn, "<-", &format!("{} {}", request.method, request.path()));
                let answer = self.script.http(&request, now);
                self.answer(conn, &answer, now);
            }
            (Heard::Fault(why), _) => {
                let why = format!("the client broke the protocol: {why}");
                self.punish(Punishment { conn, why, timing: false }, now);
                match stage {
                    Stage::Asking => return self.answer(conn, &HttpResponse::status(400), now),
                    Stage::Open => self.send(conn, ws::close(1002, "protocol error")),
                    Stage::Closing(_) => {}
                }
                self.over(conn, None, now);
            }
            (Heard::Close(code, reason), _) => {
                self.line(now, conn, "<- close", &format!("{code} {reason}"));
                if stage == Stage::Open {
                    self.send(conn, ws::close(code, ""));
                }
                self.over(conn, Some(code), now);
            }
            // What comes behind a close frame of ours is not read (RFC 6455 section 1.4).
            (_, Stage::Asking | Stage::Closing(_)) => {}
            (Heard::Text(text), _) => {
                self.line(now, conn, "<-", &text);
                self.act(now, |script, out| script.text(conn, &text, now, out));
            }
            (Heard::Binary(bytes), _) => {
                self.line(now, conn, "<-", &format!("{} bytes", bytes.len()));
                self.act(now, |script, out| script.binary(conn, &bytes, now, out));
            }
            (Heard::Ping(payload), _) => {
                self.send(conn, ws::pong(&payload));
                self.act(now, |script, out| script.ping(conn, &payload, now, out));
            }
            (Heard::Pong(payload), _) => self.act(now, |script, out| script.pong(conn, &payload, now, out)),
        }
    }

    /// The client ended the connection.
    fn over(&mut self, conn: u64, code: Option<u16>, now: Duration) {
        let Some(Conn { stage, .. }) = self.conns.remove(&conn) else { return };
        self.actions.push_back((conn, Action::Fin));
        if stage == Stage::Open {
            self.act(now, |script, out| script.closed(conn, code, now, out));
        }
    }
}

impl<S: Script> Server for Host<S> {
    fn accept(&mut self, conn: u64, _: SocketAddr, _: Duration) -> Accept {
        self.conns.insert(conn, Conn::default());
        Accept::Open
    }

    fn received(&mut self, conn: u64, bytes: &[u8], now: Duration) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.socket.receive(bytes);
        // Asked for anew each time: what it said may have ended the connection.
        while let Some(heard) = self.conns.get_mut(&conn).and_then(|open| open.socket.heard()) {
            self.heard(conn, heard, now);
        }
    }

    fn closed(&mut self, conn: u64, how: Ended, now: Duration) {
        if self.conns.contains_key(&conn) {
            self.line(now, conn, "<-", &format!("{how:?}"));
        }
        self.over(conn, None, now);
    }

    fn deadline(&self) -> Option<Duration> {
        let closing = self.conns.values().filter_map(|conn| match conn.stage {
            Stage::Closing(until) => Some(until),
            Stage::Asking | Stage::Open => None,
        });
        closing.chain(self.script.deadline()).min()
    }

    fn run(&mut self, now: Duration) {
        let late = |conn: &Conn| matches!(conn.stage, Stage::Closing(until) if until <= now);
        let late: Vec<u64> = self.conns.iter().filter(|(_, conn)| late(conn)).map(|(id, _)| *id).collect();
        for conn in late {
            self.leave(conn, Action::Fin);
        }
        self.act(now, |script, out| script.run(now, out));
    }

    fn output(&mut self) -> Option<(u64, Action)> {
        self.actions.pop_front()
    }

    fn violation(&self) -> Option<String> {
        let counts = |punishment: &&Punishment| match self.judge {
            Judge::Strict => true,
            Judge::Patient => !punishment.timing,
            Judge::Tolerant => false,
        };
        let first = self.punished.iter().find(counts)?;
        Some(format!("connection {} was punished: {}", first.conn, first.why))
    }
}
