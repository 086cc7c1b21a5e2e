//! One TCP connection: two directions, and what goes wrong with them.

use super::log::{Fault, Log};
use super::pipe::{Bytes, Pipe, Way, chance, duration, length, stream, uniform};
use super::{Accept, Ended, Net};
use everwire_core::ConnId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::net::SocketAddr;
use std::time::Duration;

/// The type of the record that a TLS client begins with (RFC 8446 section 5.1). An HTTP request begins with a letter.
const TLS_HANDSHAKE: u8 = 22;

/// What the seed has in store for a connection. Times are since the start of the simulation.
#[derive(Debug)]
struct Plan {
    cut: Option<(Way, u64, Ended)>,
    expires: Option<(Duration, Ended)>,
    half_open: Option<(Duration, [Way; 2])>,
    half_open_told: bool,
    stall: Option<(Duration, Duration)>,
    stall_told: bool,
    slow: bool,
    slow_told: bool,
    refuse: bool,
    silent: bool,
}

/// How far the way to a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The client's wish is under way, and arrives then.
    Asked(Duration),
    /// Nobody will answer.
    Silent,
    /// The answer is under way: whether it is open.
    Answered(Duration, bool),
    Open,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) addr: SocketAddr,
    pub(super) stage: Stage,
    /// The client has it: neither dropped it nor was told of its end.
    pub(super) client: bool,
    /// The same for the server.
    pub(super) server: bool,
    rng: ChaCha8Rng,
    plan: Plan,
    up: Pipe,
    down: Pipe,
    /// What the server sent and the network did not take yet, and what follows on it.
    backlog: Bytes,
    fin: bool,
    /// The client's socket takes nothing before.
    pause: Duration,
    /// Whether it is encrypted, by the first byte that the client wrote.
    encrypted: Option<bool>,
}

impl Conn {
    /// A connection that is asked for now, and when the client's process is to sleep, for how long.
    pub(super) fn new(
        id: ConnId,
        addr: SocketAddr,
        seed: u64,
        net: &Net,
        now: Duration,
        log: &mut Log,
    ) -> (Self, Option<(Duration, Duration)>) {
        // Everything is drawn, wanted or not, so that a change of one probability changes nothing else.
        let mut rng = stream(seed, id.as_u64() + 1);
        let rng_mut = &mut rng;
        let faults = &net.faults;
        let on = now < faults.until;
        let comes = |rng: &mut ChaCha8Rng, probability| chance(rng, probability) && on;
        let latency = [duration(rng_mut, &net.latency), duration(rng_mut, &net.latency)];
        let cut = (comes(rng_mut, faults.cut.0), rng_mut.next_u32(), uniform(rng_mut, faults.cut.1.clone()));
        let way = if cut.1 & 1 == 0 { Way::Up } else { Way::Down };
        let how = if cut.1 & 2 == 0 { Ended::Fin } else { Ended::Reset };
        let lifetime = (comes(rng_mut, faults.lifetime.0), duration(rng_mut, &faults.lifetime.1));
        let half_open = (
            comes(rng_mut, faults.half_open.0),
            rng_mut.next_u32() % 3,
            duration(rng_mut, &faults.half_open.1),
        );
        let which = if faults.half_open_wholly { 2 } else { half_open.1 as usize };
        let ways = [[Way::Up, Way::Up], [Way::Down, Way::Down], [Way::Up, Way::Down]][which];
        let stall = (
            comes(rng_mut, faults.stall.0),
            duration(rng_mut, &faults.stall.1),
            duration(rng_mut, &faults.stall.2),
        );
        let slow = comes(rng_mut, faults.slow_writer.0);
        let refuse = comes(rng_mut, faults.refuse);
        let silent = comes(rng_mut, faults.silent);
        let delay = (comes(rng_mut, faults.connect_delay.0), duration(rng_mut, &faults.connect_delay.1));
        let sleep = (
            comes(rng_mut, faults.suspend.0),
            duration(rng_mut, &faults.suspend.1),
            duration(rng_mut, &faults.suspend.2),
        );
        let begin = if delay.0 { faults.end(now, delay.1) } else { now };
        if delay.0 {
            log.fault(now, Some(id.as_u64()), Fault::ConnectDelay, Some(begin));
        }
        let mut conn = Self {
            id,
            addr,
            stage: Stage::Asked(Duration::ZERO),
            client: true,
            server: false,
            plan: Plan {
                cut: cut.0.then_some((way, cut.2, how)),
                expires: lifetime.0.then_some((lifetime.1, how)),
                half_open: half_open.0.then_some((half_open.2, ways)),
                half_open_told: false,
                stall: stall.0.then_some((stall.1, stall.2)),
                stall_told: false,
                slow,
                slow_told: false,
                refuse,
                silent,
            },
            rng,
            up: Pipe { latency: latency[0], ..Pipe::default() },
            down: Pipe { latency: latency[1], ..Pipe::default() },
            backlog: Bytes::default(),
            fin: false,
            pause: Duration::ZERO,
            encrypted: None,
        };
        conn.stage = Stage::Asked(conn.arrival(Way::Up, net, begin, log));
        let sleep = sleep.0.then(|| (now.saturating_add(sleep.1), sleep.2));
        (conn, sleep.filter(|(at, _)| *at < faults.until))
    }

    pub(super) fn number(&self) -> u64 {
        self.id.as_u64()
    }

    /// Notes bytes that the client writes or reads. What is encrypted differs from run to run in all but its length.
    pub(super) fn digest(&mut self, bytes: &[u8], log: &mut Log) {
        if !*self.encrypted.get_or_insert_with(|| bytes.first() == Some(&TLS_HANDSHAKE)) {
            log.bytes(bytes);
        }
    }

    /// Whether anybody still has it.
    pub(super) fn is_alive(&self) -> bool {
        self.client || self.server
    }

    /// The network's own answer to the wish to connect, if it does not come to the server.
    pub(super) fn intercept(&self, now: Duration, log: &mut Log) -> Option<Accept> {
        let (answer, fault) = match (self.plan.refuse, self.plan.silent) {
            (true, _) => (Accept::Refuse, Fault::Refuse),
            (_, true) => (Accept::Silent, Fault::Silent),
            _ => return None,
        };
        log.fault(now, Some(self.number()), fault, None);
        Some(answer)
    }

    /// The server, or the network, answers the wish to connect.
    pub(super) fn answer(&mut self, answer: Accept, net: &Net, now: Duration, log: &mut Log) {
        let open = match answer {
            Accept::Silent => return self.stage = Stage::Silent,
            Accept::Open => true,
            Accept::Refuse => false,
        };
        let at = self.arrival(Way::Down, net, now, log);
        self.stage = Stage::Answered(at, open);
        self.server = open;
        // From here on these count from the start of the simulation.
        let until = net.faults.until;
        let began = |after: Duration| Some(at.saturating_add(after)).filter(|start| *start < until);
        self.plan.expires = self.plan.expires.and_then(|(after, how)| Some((began(after)?, how)));
        self.plan.half_open = self.plan.half_open.and_then(|(after, ways)| Some((began(after)?, ways)));
        self.plan.stall = self.plan.stall.and_then(|(after, lasts)| {
            let start = began(after)?;
            Some((start, net.faults.end(start, lasts)))
        });
    }

    // ---- The client's end.

    /// How many bytes the client's socket takes now.
    pub(super) fn writable(&self, net: &Net, now: Duration) -> usize {
        if self.stage != Stage::Open || !self.client || now < self.pause {
            return 0;
        }
        // What is written into a connection that was cut is lost, and nobody is told yet.
        if self.up.shut { usize::MAX } else { self.up.room(net.window) }
    }

    /// The client writes, no more than is `writable`; how many bytes were taken.
    pub(super) fn write(&mut self, bytes: &[u8], net: &Net, now: Duration, log: &mut Log) -> usize {
        let mut len = bytes.len();
        if self.plan.slow && now < net.faults.until {
            let most = length(&mut self.rng, &net.faults.slow_writer.1);
            if len > most {
                len = most;
                self.pause = now.saturating_add(duration(&mut self.rng, &net.faults.slow_writer.2));
                if !std::mem::replace(&mut self.plan.slow_told, true) {
                    log.fault(now, Some(self.number()), Fault::SlowWriter, None);
                }
            }
        }
        self.push(Way::Up, &bytes[..len], net, now, log);
        len
    }

    /// When the client may write again, if it has to wait for a time.
    pub(super) fn paused(&self, now: Duration) -> Option<Duration> {
        Some(self.pause).filter(|pause| *pause > now && self.client)
    }

    /// Takes note of what has arrived at the client.
    pub(super) fn refresh(&mut self, now: Duration) {
        self.down.refresh(now);
    }

    /// What the client's next read gives, at most `most` bytes; empty is nothing yet, an error the end.
    pub(super) fn readable(&mut self, most: usize, net: &Net) -> Result<&[u8], Ended> {
        match (self.down.ready, self.down.ended) {
            (0, Some(how)) => Err(how),
            (0, None) => Ok(&[]),
            (ready, _) => {
                let len = length(&mut self.rng, &net.rechunk).min(most).min(ready);
                Ok(self.down.bytes.front(len))
            }
        }
    }

    /// The client has read so much.
    pub(super) fn read(&mut self, len: usize, net: &Net, now: Duration, log: &mut Log) {
        self.down.take(len);
        self.flush(net, now, log);
    }

    /// When something arrives at the client.
    pub(super) fn client_next(&self) -> Option<Duration> {
        match self.stage {
            _ if !self.client => None,
            Stage::Asked(_) | Stage::Silent => None,
            Stage::Answered(at, _) => Some(at),
            Stage::Open => self.down.next(),
        }
    }

    /// The client's socket is dropped.
    pub(super) fn drop_client(&mut self, net: &Net, now: Duration, log: &mut Log) {
        self.client = false;
        if !self.server {
            return;
        }
        let unread = self.down.bytes.len() + self.backlog.len() > 0;
        let how = match self.stage {
            Stage::Open if !unread => Ended::Fin,
            _ => Ended::Reset,
        };
        self.down.clear();
        self.backlog.clear();
        if self.vanishes(Way::Up, now, log) {
            // The server never learns of it, and what it does with it from now on has no effect.
            self.server = false;
        } else {
            let at = self.arrival(Way::Up, net, now, log);
            self.up.shut(Some((at, how)));
        }
    }

    // ---- The server's end.

    /// What arrived at the server: empty is nothing yet, an error the end.
    pub(super) fn arrived(&mut self, net: &Net, now: Duration) -> Result<&[u8], Ended> {
        self.up.refresh(now);
        match (self.up.ready, self.up.ended) {
            (0, Some(how)) => Err(how),
            (0, None) => Ok(&[]),
            (ready, _) => {
                let len = length(&mut self.rng, &net.rechunk).min(ready);
                Ok(self.up.bytes.front(len))
            }
        }
    }

    /// The server has read so much.
    pub(super) fn delivered(&mut self, len: usize) {
        self.up.take(len);
    }

    /// When something arrives at the server.
    pub(super) fn server_next(&self) -> Option<Duration> {
        match self.stage {
            Stage::Asked(at) => Some(at),
            _ if self.server => self.up.next(),
            _ => None,
        }
    }

    /// The server sends.
    pub(super) fn send(&mut self, bytes: &[u8], net: &Net, now: Duration, log: &mut Log) {
        if !self.client || self.down.shut || self.fin || bytes.is_empty() {
            return;
        }
        // What vanishes is not kept for later: there is none.
        if self.vanishes(Way::Down, now, log) {
            return self.backlog.clear();
        }
        let room = if self.backlog.len() == 0 { self.down.room(net.window) } else { 0 };
        let (direct, rest) = bytes.split_at(room.min(bytes.len()));
        self.push(Way::Down, direct, net, now, log);
        if !self.down.shut {
            self.backlog.push(rest);
        }
    }

    /// The server sends no more.
    pub(super) fn finish(&mut self, net: &Net, now: Duration, log: &mut Log) {
        self.fin = true;
        self.flush(net, now, log);
    }

    /// The server drops it.
    pub(super) fn reset(&mut self, net: &Net, now: Duration, log: &mut Log) {
        self.server = false;
        self.up.clear();
        self.backlog.clear();
        if !self.vanishes(Way::Down, now, log) {
            let at = self.arrival(Way::Down, net, now, log);
            self.down.shut(Some((at, Ended::Reset)));
        }
    }

    /// Gives the network of the server's backlog what it takes.
    fn flush(&mut self, net: &Net, now: Duration, log: &mut Log) {
        if self.backlog.len() > 0 {
            let len = self.backlog.len().min(self.down.room(net.window));
            if len > 0 {
                let mut backlog = std::mem::take(&mut self.backlog);
                self.push(Way::Down, backlog.front(len), net, now, log);
                backlog.take(len);
                if !self.down.shut {
                    self.backlog = backlog;
                }
            }
        }
        if self.fin && self.backlog.len() == 0 && !self.down.shut && !self.vanishes(Way::Down, now, log) {
            let at = self.arrival(Way::Down, net, now, log);
            self.down.shut(Some((at, Ended::Fin)));
        }
    }

    // ---- The network.

    fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// Bytes begin their way.
    fn push(&mut self, way: Way, bytes: &[u8], net: &Net, now: Duration, log: &mut Log) {
        if self.pipe(way).shut || bytes.is_empty() {
            return;
        }
        if self.vanishes(way, now, log) {
            self.pipe(way).vanished += bytes.len();
            return;
        }
        let mut through = bytes.len();
        let mut cut = None;
        if let Some((cut_way, left, how)) = &mut self.plan.cut
            && *cut_way == way
            && now < net.faults.until
        {
            if bytes.len() as u64 >= *left {
                (through, cut) = (*left as usize, Some(*how));
            } else {
                *left -= bytes.len() as u64;
            }
        }
        let at = self.arrival(way, net, now, log);
        self.pipe(way).push(&bytes[..through], at);
        if let Some(how) = cut {
            self.cut(how, net, now, log);
        }
    }

    /// When the network ends the connection.
    pub(super) fn expires(&self) -> Option<Duration> {
        let (at, _) = self.plan.expires?;
        (self.client && matches!(self.stage, Stage::Answered(..) | Stage::Open)).then_some(at)
    }

    /// Ends the connection if it is time for that; whether it was.
    pub(super) fn expire(&mut self, net: &Net, now: Duration, log: &mut Log) -> bool {
        if self.expires().is_none_or(|at| at > now) {
            return false;
        }
        if let Some((_, how)) = self.plan.expires.take() {
            self.cut(how, net, now, log);
        }
        true
    }

    /// The connection ends, for both.
    fn cut(&mut self, how: Ended, net: &Net, now: Duration, log: &mut Log) {
        log.fault(now, Some(self.number()), Fault::Cut, None);
        (self.plan.cut, self.plan.expires) = (None, None);
        self.backlog.clear();
        for way in [Way::Up, Way::Down] {
            let at = self.arrival(way, net, now, log);
            self.pipe(way).shut(Some((at, how)));
        }
    }

    /// When what begins its way now arrives.
    fn arrival(&mut self, way: Way, net: &Net, now: Duration, log: &mut Log) -> Duration {
        let jitter = match net.jitter {
            Duration::ZERO => Duration::ZERO,
            most => duration(&mut self.rng, &(Duration::ZERO..most)),
        };
        let pipe = self.pipe(way);
        let mut at = now.saturating_add(pipe.latency).saturating_add(jitter).max(pipe.last);
        if matches!(self.stage, Stage::Open | Stage::Answered(..))
            && let Some((start, end)) = self.plan.stall
            && (start..end).contains(&at)
        {
            if !std::mem::replace(&mut self.plan.stall_told, true) {
                log.fault(now, Some(self.number()), Fault::Stall, Some(end));
            }
            at = end;
        }
        self.pipe(way).last = at;
        at
    }

    /// Whether what begins its way now never arrives.
    fn vanishes(&mut self, way: Way, now: Duration, log: &mut Log) -> bool {
        let Some((start, ways)) = self.plan.half_open else { return false };
        let vanishes = matches!(self.stage, Stage::Open) && now >= start && ways.contains(&way);
        if vanishes && !std::mem::replace(&mut self.plan.half_open_told, true) {
            log.fault(now, Some(self.number()), Fault::HalfOpen, None);
        }
        vanishes
    }
}
