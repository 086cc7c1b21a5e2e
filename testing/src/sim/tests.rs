//! The network and the driver, with an echo server and a user who counts.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

use super::*;
use everwire_core::tungstenite::Message as Owned;
use everwire_core::tungstenite::handshake::derive_accept_key;
use everwire_core::{CloseCode, Config, Endpoint, Epoch, Message, SendError, SendOptions, State};
use std::collections::{BTreeMap, VecDeque};

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Accepts the handshake, sends every frame back, answers pings and close frames.
#[derive(Debug, Default)]
struct Echo {
    conns: BTreeMap<u64, (bool, Vec<u8>)>,
    actions: VecDeque<(u64, Action)>,
    ended: Vec<(u64, Ended)>,
    /// The lengths in which bytes came.
    pieces: Vec<usize>,
    /// When it received anything.
    times: Vec<Duration>,
    received: usize,
    /// It does not read before.
    deaf_until: Duration,
    /// What it sends once a connection is open.
    greeting: Vec<u8>,
    refuses: bool,
}

impl Server for Echo {
    fn accept(&mut self, conn: u64, _: SocketAddr, _: Duration) -> Accept {
        if self.refuses {
            return Accept::Refuse;
        }
        assert!(self.conns.last_key_value().is_none_or(|(last, _)| *last < conn), "ids count up");
        self.conns.insert(conn, (false, vec![]));
        Accept::Open
    }

    fn received(&mut self, conn: u64, bytes: &[u8], now: Duration) {
        assert!(!bytes.is_empty());
        self.pieces.push(bytes.len());
        self.times.push(now);
        self.received += bytes.len();
        let (upgraded, buffer) = self.conns.get_mut(&conn).expect("open");
        buffer.extend_from_slice(bytes);
        if !*upgraded {
            let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
            let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
            let accept = derive_accept_key(key.as_bytes());
            let response = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            *upgraded = true;
            self.actions.push_back((conn, Action::Send([response.as_bytes(), &self.greeting].concat())));
        }
        while let Some((opcode, payload, len)) = frame(buffer) {
            buffer.drain(..len);
            let opcode = if opcode == 9 { 10 } else { opcode };
            if opcode != 10 || !payload.is_empty() {
                self.actions.push_back((conn, Action::Send(server_frame(opcode, &payload))));
            }
            if opcode == 8 {
                self.actions.push_back((conn, Action::Fin));
            }
        }
    }

    fn closed(&mut self, conn: u64, how: Ended, _: Duration) {
        assert!(self.conns.remove(&conn).is_some(), "closed twice");
        self.ended.push((conn, how));
    }

    fn deadline(&self) -> Option<Duration> {
        Some(self.deaf_until).filter(|_| self.deaf_until > Duration::ZERO)
    }

    fn run(&mut self, _: Duration) {
        self.deaf_until = Duration::ZERO;
    }

    fn output(&mut self) -> Option<(u64, Action)> {
        self.actions.pop_front()
    }

    fn reads(&self, conn: u64, now: Duration) -> bool {
        now >= self.deaf_until || !self.conns.get(&conn).is_some_and(|(upgraded, _)| *upgraded)
    }
}

/// The first client frame of `bytes`: opcode, payload, length of all.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len) as usize, rest))?,
        127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len) as usize, rest))?,
        short => (short as usize, rest),
    };
    let (mask, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..len)?.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((first & 0xf, payload, bytes.len() - rest.len() + len))
}

fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8),
        len => {
            frame.push(126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Sends a number every so often, and takes note of what comes back.
#[derive(Debug)]
struct Counter {
    every: Duration,
    next: Option<Duration>,
    /// Closes the session then.
    ends: Option<Duration>,
    sent: u64,
    last_echo: Option<(Epoch, u64)>,
    echoes: u64,
    last_echo_at: Duration,
    events: Vec<&'static str>,
    closed: bool,
    /// Takes nothing before.
    busy_until: Duration,
    refused: u64,
    writable: u64,
    size: usize,
    wrong: Option<String>,
    acted: Vec<Duration>,
}

impl Counter {
    fn new(every: Duration) -> Self {
        Self {
            every,
            next: Some(every),
            ends: None,
            sent: 0,
            last_echo: None,
            echoes: 0,
            last_echo_at: Duration::ZERO,
            events: vec![],
            closed: false,
            busy_until: Duration::ZERO,
            refused: 0,
            writable: 0,
            size: 0,
            wrong: None,
            acted: vec![],
        }
    }

    fn told(&self, event: &str) -> usize {
        self.events.iter().filter(|told| **told == event).count()
    }
}

impl User for Counter {
    fn event(&mut self, event: &OwnedEvent, _: &mut Session, now: Duration) {
        assert!(now >= self.busy_until);
        self.events.push(match event {
            OwnedEvent::Online { .. } => "online",
            OwnedEvent::Lost { .. } => "lost",
            OwnedEvent::AttemptFailed { .. } => "failed",
            OwnedEvent::Closed { .. } => "closed",
            _ => "other",
        });
        match event {
            OwnedEvent::Message { message: Owned::Text(text), epoch, .. } => {
                let number: u64 = text.trim_end().parse().unwrap();
                let fits = self.last_echo.is_none_or(|(last, before)| match last == *epoch {
                    true => number == before + 1,
                    false => last < *epoch && number > before,
                });
                if !fits {
                    self.wrong = Some(format!("{number} in {epoch:?} after {:?}", self.last_echo));
                }
                self.last_echo = Some((*epoch, number));
                self.last_echo_at = now;
                self.echoes += 1;
            }
            OwnedEvent::Closed { .. } => self.closed = true,
            OwnedEvent::Writable => self.writable += 1,
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        let busy = Some(self.busy_until).filter(|_| self.busy_until > Duration::ZERO);
        self.next.into_iter().chain(self.ends).chain(busy).min()
    }

    fn act(&mut self, session: &mut Session, now: Duration) {
        if now >= self.busy_until {
            self.busy_until = Duration::ZERO;
        }
        if self.ends.take_if(|end| *end <= now).is_some() {
            self.next = None;
            session.close(CloseCode::Normal, "", instant(now));
        }
        if self.next.is_some_and(|next| next <= now) {
            self.acted.push(now);
            self.next = Some(now + self.every);
            let text = format!("{:<1$}", self.sent + 1, self.size);
            match session.send(Message::Text(&text), SendOptions::default(), instant(now)) {
                Ok(_) => self.sent += 1,
                Err(SendError::Full) => self.refused += 1,
                Err(_) => {}
            }
        }
    }

    fn takes(&mut self, now: Duration) -> bool {
        now >= self.busy_until
    }

    fn violation(&self) -> Option<String> {
        self.wrong.clone()
    }
}

fn config() -> Config {
    Config::new("ws://example.test/feed").unwrap()
}

fn simulation(seed: u64, net: Net) -> Simulation<Echo, Counter> {
    Simulation::new(config(), seed, net, Echo::default(), Counter::new(secs(1))).unwrap()
}

fn run(simulation: &mut Simulation<Echo, Counter>, until: Duration) {
    let outcome = simulation.run_until(until);
    assert_eq!(outcome, Outcome::Limit, "{}", simulation.log());
    assert_eq!(simulation.now(), until);
}

#[test]
fn echoes_over_a_perfect_net_all_come_back() {
    let mut simulation = simulation(1, Net::perfect());
    run(&mut simulation, secs(3600));
    assert_eq!((simulation.user().sent, simulation.user().echoes), (3600, 3600));
    assert_eq!((simulation.stats().connections, simulation.stats().reconnects), (1, 0));
    assert!(Fault::ALL.iter().all(|fault| simulation.log().faults(*fault) == 0));
}

#[test]
fn over_a_lossy_net_it_always_comes_back_and_ends_in_order() {
    let (mut reconnects, mut echoes, mut faults) = (0, 0, [0; Fault::ALL.len()]);
    for seed in 0..150 {
        let net = Net::lossy().faults(Faults::some().until(secs(3600)));
        let mut simulation = simulation(seed, net);
        simulation.user_mut().ends = Some(secs(4500));
        run(&mut simulation, secs(4400));
        assert_eq!(simulation.session().state(), State::Online, "{}", simulation.log());
        let user = simulation.user();
        assert!(user.last_echo_at > secs(4398), "{:?}\n{}", user.last_echo_at, simulation.log());
        echoes += user.echoes;
        reconnects += simulation.stats().reconnects;
        for (count, fault) in faults.iter_mut().zip(Fault::ALL) {
            *count += simulation.log().faults(fault);
        }
        let outcome = simulation.run_until(secs(5000));
        assert_eq!(outcome, Outcome::Closed, "{}", simulation.log());
        assert!(simulation.user().closed);
        assert_eq!(simulation.run_until(secs(6000)), Outcome::Closed, "it stays that");
    }
    assert!(reconnects > 500 && echoes > 150 * 2000, "{reconnects} reconnects, {echoes} echoes");
    // Providers are not asked with a fixed URL.
    for (count, fault) in faults.into_iter().zip(Fault::ALL) {
        let asked = !matches!(fault, Fault::ProviderFailure | Fault::ProviderDelay);
        assert_eq!(count > 0, asked, "{fault:?}: {count}");
    }
}

#[test]
fn a_seed_decides_everything() {
    let run = |seed| {
        let mut simulation = simulation(seed, Net::lossy());
        run(&mut simulation, secs(1800));
        (simulation.log().digest(), simulation.log().to_string(), simulation.stats())
    };
    for seed in 0..20 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.0, run(seed + 1).0);
    }
}

#[test]
fn pausing_a_run_changes_nothing() {
    let mut whole = simulation(5, Net::lossy());
    run(&mut whole, secs(600));
    let mut parts = simulation(5, Net::lossy());
    for part in 1..=600 {
        run(&mut parts, secs(part));
    }
    assert_eq!(whole.log().digest(), parts.log().digest());
}

/// What only the faults up to a time do; afterwards it recovers. The user's events before that.
fn suffers(fault: Fault, faults: Faults) -> Simulation<Echo, Counter> {
    let net = Net::perfect().latency(millis(10)..millis(20)).faults(faults.until(secs(600)));
    let config = Config::provided();
    let mut simulation = Simulation::new(config, 3, net, Echo::default(), Counter::new(secs(1)))
        .unwrap()
        .provider(|_| Ok(Endpoint::new("ws://example.test/feed").unwrap()));
    run(&mut simulation, secs(600));
    assert!(simulation.log().faults(fault) > 0, "{}", simulation.log());
    for other in Fault::ALL {
        assert!(other == fault || simulation.log().faults(other) == 0, "{other:?}");
    }
    run(&mut simulation, secs(1200));
    assert_eq!(simulation.session().state(), State::Online);
    assert!(simulation.user().last_echo_at > secs(1198), "{}", simulation.log());
    simulation
}

#[test]
fn cut_connections_are_made_again() {
    let simulation = suffers(Fault::Cut, Faults::none().cut(1.0, 500..1000));
    assert!(simulation.user().told("lost") > 5, "{:?}", simulation.user().events);
    let ended = &simulation.server().ended;
    assert!(ended.iter().any(|(_, how)| *how == Ended::Fin), "{ended:?}");
    assert!(ended.iter().any(|(_, how)| *how == Ended::Reset), "{ended:?}");
}

#[test]
fn connections_that_say_nothing_end_too() {
    let simulation = suffers(Fault::Cut, Faults::none().lifetime(1.0, secs(1)..secs(30)));
    assert!(simulation.user().told("lost") > 20, "{:?}", simulation.user().events);
}

#[test]
fn half_open_connections_are_found_out() {
    let simulation = suffers(Fault::HalfOpen, Faults::none().half_open(1.0, secs(5)..secs(30)));
    assert!(simulation.user().told("lost") > 5, "{:?}", simulation.user().events);
    // Those whose client vanished without a word.
    assert!(simulation.server().conns.len() > 2, "{:?}", simulation.server().conns);
}

#[test]
fn stalled_connections_go_on_or_are_given_up() {
    let short = suffers(Fault::Stall, Faults::none().stall(1.0, secs(5)..secs(60), secs(4)..secs(8)));
    assert_eq!((short.user().told("lost"), short.user().echoes >= 1199), (0, true), "{}", short.log());
    let long = suffers(Fault::Stall, Faults::none().stall(1.0, secs(5)..secs(60), secs(60)..secs(90)));
    assert!(long.user().told("lost") > 2);
}

#[test]
fn slow_writers_write_all() {
    let slow = Faults::none().slow_writer(1.0, 1..5, millis(1)..millis(9));
    let simulation = suffers(Fault::SlowWriter, slow);
    assert_eq!((simulation.user().told("lost"), simulation.user().echoes >= 1199), (0, true));
    assert!(simulation.server().pieces.iter().filter(|len| **len < 5).count() > 600);
}

#[test]
fn refused_and_silent_connects_are_tried_again() {
    let refused = suffers(Fault::Refuse, Faults::none().refuse(1.0));
    assert!(refused.user().told("failed") > 10);
    let silent = suffers(Fault::Silent, Faults::none().silent(1.0));
    assert!(silent.user().told("failed") > 10);
    let delay = suffers(Fault::ConnectDelay, Faults::none().connect_delay(1.0, secs(5)..secs(15)));
    assert!(delay.user().told("online") > 0);
}

#[test]
fn names_and_endpoints_are_asked_for_again() {
    let failed = suffers(Fault::ResolveFailure, Faults::none().resolve_failure(1.0));
    assert!(failed.user().told("failed") > 10);
    suffers(Fault::ResolveDelay, Faults::none().resolve_delay(1.0, secs(5)..secs(15)));
    let failed = suffers(Fault::ProviderFailure, Faults::none().provider_failure(1.0));
    assert!(failed.user().told("failed") > 10);
    suffers(Fault::ProviderDelay, Faults::none().provider_delay(1.0, secs(5)..secs(15)));
}

#[test]
fn a_suspended_client_does_nothing_and_then_goes_on() {
    let simulation = suffers(
        Fault::Suspend,
        Faults::none().suspend(1.0, millis(60_500)..millis(60_600), secs(90)..secs(91)),
    );
    let acted = &simulation.user().acted;
    let pause = acted.windows(2).map(|two| two[1] - two[0]).max();
    assert!(pause.is_some_and(|pause| pause >= secs(89)), "{pause:?}");
    let silent = simulation.server().times.windows(2).map(|two| two[1] - two[0]).max();
    assert!(silent.is_some_and(|silent| silent >= secs(89)), "{silent:?}");
}

#[test]
fn several_addresses_are_tried_in_turn() {
    let net = Net::perfect().addresses(3);
    let config = config().max_attempts(1);
    let server = Echo { refuses: true, ..Echo::default() };
    let mut simulation = Simulation::new(config, 1, net, server, Counter::new(secs(1))).unwrap();
    assert_eq!(simulation.run_until(secs(600)), Outcome::Closed);
    let log = simulation.log().to_string();
    for addr in ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"] {
        assert_eq!(log.matches(&format!("connect to {addr}\n")).count(), 1, "{log}");
    }
    assert_eq!(simulation.user().told("failed"), 1);
}

#[test]
fn reads_are_cut_as_the_net_says() {
    let mut simulation = simulation(2, Net::perfect().rechunk(1..2));
    run(&mut simulation, secs(60));
    assert_eq!(simulation.user().echoes, 60);
    assert!(simulation.server().pieces.iter().all(|len| *len == 1));
}

#[test]
fn a_user_who_takes_nothing_holds_the_server_back() {
    let greeting: Vec<u8> =
        (1..=20_000u32).flat_map(|n| server_frame(1, format!("{n:<100}").as_bytes())).collect();
    let all = greeting.len() as u64;
    let server = Echo { greeting, ..Echo::default() };
    let net = Net::lossy().faults(Faults::none());
    let mut user = Counter::new(secs(1_000_000));
    user.busy_until = secs(60);
    let mut simulation = Simulation::new(config().ping_interval(None), 1, net, server, user).unwrap();
    run(&mut simulation, secs(59));
    // What fits into the session's buffer, and not all that fits into the network.
    assert!(simulation.stats().bytes < 20_000, "{:?}", simulation.stats());
    assert_eq!(simulation.user().echoes, 0);
    // 64 KiB at a time, and then the way of the next ones.
    run(&mut simulation, secs(200));
    assert_eq!(simulation.user().echoes, 20_000, "{}", simulation.log());
    assert!(simulation.stats().bytes > all);
}

#[test]
fn a_server_that_does_not_read_holds_the_user_back() {
    let net = Net::perfect().latency(millis(5)..millis(6)).window(10_000);
    let server = Echo { deaf_until: secs(600), ..Echo::default() };
    let user = Counter { size: 1000, ..Counter::new(secs(1)) };
    let config = config().send_buffer(50_000).ping_interval(None).write_timeout(None);
    let mut simulation = Simulation::new(config, 1, net, server, user).unwrap();
    run(&mut simulation, secs(599));
    let user = simulation.user();
    assert!((50..65).contains(&user.sent), "{}", user.sent);
    assert!(user.refused > 500 && user.writable == 0);
    assert!(simulation.server().received < 1000, "the handshake");
    // Half a second after the last one was sent.
    run(&mut simulation, millis(700_500));
    let user = simulation.user();
    assert_eq!((user.writable, user.echoes), (1, user.sent));
    assert!(user.sent > 150);
}

#[test]
fn what_server_and_user_find_wrong_ends_the_run() {
    let mut simulation = simulation(1, Net::perfect());
    simulation.user_mut().wrong = Some("this is not right".into());
    let outcome = simulation.run_until(secs(10));
    assert_eq!(outcome, Outcome::Violation("at 0.000000 s: this is not right".into()));
    simulation.user_mut().wrong = None;
    assert_eq!(simulation.run_until(secs(10)), outcome, "it stays that");
}

#[test]
fn deadlines_that_do_not_move_on_are_told() {
    let mut simulation = simulation(1, Net::perfect());
    simulation.user_mut().every = Duration::ZERO;
    let Outcome::Violation(text) = simulation.run_until(secs(10)) else { panic!("it ended") };
    assert!(text.contains("User::act"), "{text}");
}
