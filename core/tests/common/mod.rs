//! A session under test: virtual time, connections in memory, and a peer that is nothing but functions of bytes.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod rpc;

#[allow(unused_imports, reason = "each test binary uses its own part of this")]
pub use rpc::*;

use everwire_core::protocol::{Ack, Context, Fault, Inbound, Unsupported};
use everwire_core::{
    Clock, Config, ConnId, Disconnect, Output, OwnedEvent, Protocol, Recovery, Request, Session, Topic,
    Unsent,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;
pub const CONT: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Outputs in a row after which a session is taken to go in circles.
const LIVELOCK: usize = 10_000;

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The one moment that all virtual time is counted from; the wall clock then shows 2026-01-01 00:00:00.
#[expect(clippy::disallowed_methods, reason = "virtual time needs some moment to count from")]
pub fn start() -> Clock {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let instant = *START.get_or_init(Instant::now);
    Clock { instant, system: SystemTime::UNIX_EPOCH + secs(1_767_225_600) }
}

/// A configuration without pings, and with buffers small enough that tests reach their ends.
pub fn config() -> Config {
    Config::new("ws://127.0.0.1:9/feed")
        .unwrap()
        .ping_interval(None)
        .handshake_limits(1024, 50)
        .recv_buffer(8192)
}

/// Why polling stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// There is nothing to do before then.
    Wait(Option<Instant>),
    /// An event is there that is not to be taken.
    Event,
    /// It is over.
    Closed,
}

/// One connection as the driver has it.
#[derive(Debug)]
pub struct Conn {
    pub id: ConnId,
    /// Of a stream of the user's connector: `0.0.0.0:0`.
    pub addr: SocketAddr,
    /// When it was asked for.
    pub at: Instant,
    /// All that the client wrote.
    pub written: Vec<u8>,
    /// The session wants it dropped.
    pub dropped: bool,
}

/// A driver that does nothing by itself except obey.
#[derive(Debug)]
pub struct Harness {
    pub s: Session,
    pub now: Instant,
    pub conns: Vec<Conn>,
    pub events: Vec<OwnedEvent>,
    /// `Provide`, `Resolve` and `Open`, as they came.
    pub asked: Vec<Output>,
    /// Whether events are taken as soon as they are announced.
    pub takes: bool,
}

impl Harness {
    pub fn new(config: Config) -> Self {
        Self::seeded(config, [7; 32])
    }

    pub fn seeded(config: Config, seed: [u8; 32]) -> Self {
        let s = Session::new(config, start(), seed).unwrap();
        Self { s, now: start().instant, conns: vec![], events: vec![], asked: vec![], takes: true }
    }

    /// A harness whose first connection is online, its events forgotten.
    pub fn online(config: Config) -> Self {
        let mut h = Self::new(config);
        h.run();
        h.open(0);
        assert!(matches!(h.events.pop(), Some(OwnedEvent::Online { .. })), "{:?}", h.events);
        assert!(h.events.is_empty());
        h
    }

    /// Polls until there is nothing left to do but wait, and says what for.
    pub fn run(&mut self) -> Stop {
        for _ in 0..LIVELOCK {
            match self.s.poll_output(self.now) {
                Output::Connect(id, addr) => {
                    assert!(self.conns.iter().all(|conn| conn.id < id), "ids count up");
                    self.conns.push(Conn { id, addr, at: self.now, written: vec![], dropped: false });
                }
                Output::Disconnect(id) => {
                    let conn = self.conns.iter_mut().find(|conn| conn.id == id).expect("a known connection");
                    assert!(!conn.dropped, "dropped twice");
                    conn.dropped = true;
                }
                asked @ (Output::Provide(_) | Output::Resolve(_)) => self.asked.push(asked),
                Output::Open(id) => {
                    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
                    self.conns.push(Conn {
                        id,
                        addr: nowhere,
                        at: self.now,
                        written: vec![],
                        dropped: false,
                    });
                    self.asked.push(Output::Open(id));
                }
                Output::Event if self.takes => {
                    let event = self.s.event().expect("an announced event is there").to_owned();
                    self.events.push(event);
                }
                Output::Event => return Stop::Event,
                Output::Wait(due) => {
                    assert!(due.is_none_or(|due| due > self.now), "waits for what is over");
                    return Stop::Wait(due);
                }
                Output::Closed => return Stop::Closed,
            }
        }
        panic!("livelock: {LIVELOCK} outputs without a wait; {:?}", self.s.status(self.now));
    }

    /// TCP is connected, the handshake made.
    pub fn open(&mut self, conn: usize) {
        self.connect(conn);
        let response = accept(&self.conns[conn].written, "");
        self.feed(conn, &response);
    }

    /// TCP is connected, the request written.
    pub fn connect(&mut self, conn: usize) {
        self.s.handle_connected(self.conns[conn].id, self.now);
        self.run();
        self.flush(conn);
    }

    /// Writes all that is to be written.
    pub fn flush(&mut self, conn: usize) {
        self.flush_up_to(conn, usize::MAX);
    }

    /// Writes at most `max` bytes; how many it were.
    pub fn flush_up_to(&mut self, conn: usize, max: usize) -> usize {
        let mut left = max;
        for _ in 0..LIVELOCK {
            let Conn { id, written, .. } = &mut self.conns[conn];
            let bytes = self.s.transmit(*id);
            let len = bytes.len().min(left);
            if len == 0 {
                return max - left;
            }
            written.extend_from_slice(&bytes[..len]);
            self.s.handle_transmitted(*id, len, self.now);
            left -= len;
            self.run();
        }
        panic!("livelock: there is always more to write");
    }

    /// Lets these bytes arrive, in reads as long as the session takes them; what the client has to say to it is written.
    pub fn feed(&mut self, conn: usize, bytes: &[u8]) {
        let fed = self.feed_silently(conn, bytes);
        assert!(fed == bytes.len() || self.conns[conn].dropped, "it stopped reading at byte {fed}");
        self.flush(conn);
    }

    /// The same without writing: how many bytes the session took.
    pub fn feed_silently(&mut self, conn: usize, mut bytes: &[u8]) -> usize {
        let (id, all) = (self.conns[conn].id, bytes.len());
        while !bytes.is_empty() {
            let room = self.s.recv_buffer(id);
            let len = room.len().min(bytes.len());
            if len == 0 {
                break;
            }
            room[..len].copy_from_slice(&bytes[..len]);
            self.s.handle_received(id, len, self.now);
            bytes = &bytes[len..];
            self.run();
        }
        all - bytes.len()
    }

    pub fn eof(&mut self, conn: usize) -> Stop {
        self.s.handle_disconnected(self.conns[conn].id, Disconnect::Eof, self.now);
        self.run()
    }

    /// Time passes, with every deadline on the way kept.
    pub fn advance(&mut self, by: Duration) -> Stop {
        let end = self.now + by;
        for _ in 0..LIVELOCK {
            match self.run() {
                Stop::Wait(Some(due)) if due <= end => self.now = due,
                _ => {
                    self.now = end;
                    return self.run();
                }
            }
        }
        panic!("livelock: {LIVELOCK} deadlines in {by:?}");
    }

    /// Time passes until there is another connection to be opened; its index.
    pub fn next_conn(&mut self) -> usize {
        let before = self.conns.len();
        for _ in 0..LIVELOCK {
            let stop = self.run();
            if self.conns.len() > before {
                return before;
            }
            let Stop::Wait(Some(due)) = stop else { panic!("no attempt is to come: {stop:?}") };
            self.now = due;
        }
        panic!("livelock: no attempt is made");
    }

    /// The events since the last call.
    pub fn told(&mut self) -> Vec<OwnedEvent> {
        std::mem::take(&mut self.events)
    }

    /// The client's whole frames on a connection: first byte and unmasked payload.
    pub fn frames(&self, conn: usize) -> Vec<(u8, Vec<u8>)> {
        frames(after_head(&self.conns[conn].written)).0
    }

    /// The whole texts among them.
    pub fn texts(&self, conn: usize) -> Vec<String> {
        let texts = self.frames(conn).into_iter().filter(|(first, _)| *first == FIN | TEXT);
        texts.map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
    }

    /// Code and reason of the close frame that the client's side of a connection ends with.
    pub fn close_frame(&self, conn: usize) -> Option<(u16, String)> {
        let (first, payload) = self.frames(conn).pop()?;
        let (code, reason) = payload.split_first_chunk().filter(|_| first == FIN | CLOSE)?;
        Some((u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap()))
    }
}

/// The response that accepts `request`, with more header lines (each ending in a line end).
pub fn accept(request: &[u8], more: &str) -> Vec<u8> {
    let key = header(request, "Sec-WebSocket-Key").expect("a handshake");
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
    .into_bytes()
}

/// The value of a header of a request.
pub fn header(request: &[u8], name: &str) -> Option<String> {
    let head = &request[..request.len() - after_head(request).len()];
    let head = std::str::from_utf8(head).expect("a head is ASCII");
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

/// What follows on an HTTP head; nothing as long as that is not complete.
pub fn after_head(bytes: &[u8]) -> &[u8] {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(&[], |at| &bytes[at + 4..])
}

/// A server's frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8),
        len @ 126..0x1_0000 => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

pub fn text(text: &str) -> Vec<u8> {
    frame(FIN | TEXT, text.as_bytes())
}

/// A server's close frame.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// The whole client frames that `bytes` begins with, unmasked, and how many bytes are left of one that is not.
pub fn frames(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
    let mut frames = vec![];
    while let Some((first, payload, size)) = client_frame(bytes) {
        frames.push((first, payload));
        bytes = &bytes[size..];
    }
    (frames, bytes.len())
}

fn client_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    assert!(second & 0x80 != 0, "a client masks");
    assert!(matches!(first & 0xf, CONT | TEXT | BINARY | CLOSE | PING | PONG), "opcode {first:#x}");
    let (len, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len) as usize, rest))?,
        127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len) as usize, rest))?,
        short => (short as usize, rest),
    };
    let (key, rest) = rest.split_first_chunk::<4>()?;
    let masked = rest.get(..len)?;
    let payload = masked.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
    Some((first, payload, bytes.len() - rest.len() + len))
}

/// Runs `test` on a thread of its own, and fails when it has not ended in time: for what would never end if it were wrong.
#[expect(clippy::disallowed_methods, reason = "an endless loop is only seen from outside it")]
pub fn ends(test: impl FnOnce() + Send + 'static) {
    let (done, waits) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match waits.recv_timeout(secs(20)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it does not end"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// In what time the newest `Lost` or `AttemptFailed` says that the next attempt begins; `None` if there is none.
pub fn retry_in(h: &Harness) -> Option<Duration> {
    let retry_at = h.events.iter().rev().find_map(|event| match event {
        OwnedEvent::Lost { retry_at, .. } | OwnedEvent::AttemptFailed { retry_at, .. } => Some(*retry_at),
        _ => None,
    });
    retry_at.expect("something failed").map(|at| at - h.now)
}

/// The handshake is refused: status line, and headers if there are any.
pub fn refuse(h: &mut Harness, conn: usize, status: &str) {
    h.connect(conn);
    h.feed_silently(conn, format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
}

/// A protocol in lines. The client says `auth 1`, `sub 2 a,b`, `unsub 3 a`; the server `ok 1`, `no 1`, and
/// `notice reconnect`, `notice reauthenticate`, `notice stop`, `notice wait 60`, `notice hello`; the rest is data.
#[derive(Debug, Clone)]
pub struct Lines {
    /// Whether it authenticates.
    pub auth: bool,
    pub recovery: fn(Fault<'_>) -> Option<Recovery>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { auth: false, recovery: |_| None }
    }
}

impl Protocol for Lines {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match (verb, rest.parse()) {
            ("ok", Ok(id)) => Inbound::Response { id, result: Ok(rest) },
            ("no", Ok(id)) => Inbound::Response { id, result: Err(rest) },
            ("notice", _) => {
                let recovery = match rest.split_once(' ').unwrap_or((rest, "")) {
                    ("reconnect", _) => Some(Recovery::Reconnect),
                    ("reauthenticate", _) => Some(Recovery::Reauthenticate),
                    ("stop", _) => Some(Recovery::Stop),
                    ("wait", time) => Some(Recovery::Backoff(secs(time.parse().unwrap()))),
                    _ => None,
                };
                Inbound::Notice { text: rest, recovery }
            }
            _ => Inbound::other(),
        }
    }

    fn authenticate(&self, id: u64, _: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        if self.auth {
            *out = format!("auth {id}");
        }
        Ok(Ack::Response)
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        *out = format!("ask {id} {}", request.method);
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        10
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        *out = format!("sub {id} {}", topics.iter().map(|topic| topic.name()).collect::<Vec<_>>().join(","));
        Ok(Ack::Response)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        *out =
            format!("unsub {id} {}", topics.iter().map(|topic| topic.name()).collect::<Vec<_>>().join(","));
        Ok(Ack::Response)
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        (self.recovery)(fault)
    }
}

/// Answers all that a client of [`Lines`] asked on a connection with `ok`.
pub fn grant(h: &mut Harness, conn: usize) {
    let mut seen = 0;
    // The answer to one may lead to the next.
    while let Some(text) = h.texts(conn).get(seen) {
        let id = text.split(' ').nth(1).expect("an id").to_owned();
        h.feed(conn, &self::text(&format!("ok {id}")));
        seen += 1;
    }
}

/// The events since the last call, in short: one line each.
pub fn brief(h: &mut Harness) -> Vec<String> {
    h.told().iter().map(in_short).collect()
}

/// An event in short. A notification is `channel:data`, with a `?` before it if it belongs to no subscription.
pub fn in_short(event: &OwnedEvent) -> String {
    use everwire_core::OwnedOutcome::{Answered, NotSent, SentUnknown};
    match event {
        OwnedEvent::Online { resumed, .. } => format!("online {resumed}"),
        OwnedEvent::Message { message, subscription, .. } => {
            let text = message.to_text().unwrap();
            let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            let Some(channel) = json["params"]["channel"].as_str() else { return format!("message {text}") };
            let stray = if subscription.is_none() { "?" } else { "" };
            format!("{stray}{channel}:{}", json["params"]["data"])
        }
        OwnedEvent::Response { id, outcome } => match outcome {
            Answered(Ok(result)) => format!("{} = {result}", id.as_u64()),
            Answered(Err(error)) => format!("{} refused: {error}", id.as_u64()),
            NotSent(why) => format!("{} not sent: {why:?}", id.as_u64()),
            SentUnknown(why) => format!("{} unknown: {why:?}", id.as_u64()),
        },
        OwnedEvent::Subscribed { topic, .. } => format!("+{topic}"),
        OwnedEvent::Rejected { topic, reason, .. } => format!("-{topic}: {reason}"),
        OwnedEvent::Gap(gap) => {
            let names: Vec<&str> = gap.topics.iter().map(|(_, name)| &**name).collect();
            format!("gap {} {:?}", names.join(","), gap.cause)
        }
        OwnedEvent::Authenticated { .. } => "authenticated".to_owned(),
        OwnedEvent::Request { id, method, params, .. } => format!("asked {id} {method} {params:?}"),
        OwnedEvent::Stale { subscription, silence, step, .. } => {
            let topic = subscription.as_ref().map_or("-", |(_, topic)| topic);
            format!("stale {topic} {silence:?} {step:?}")
        }
        OwnedEvent::Pong { rtt, .. } => format!("pong {rtt:?}"),
        OwnedEvent::Lost { error, .. } => format!("lost: {error}"),
        OwnedEvent::Closed { error, unsent } => {
            let error = error.as_ref().map(ToString::to_string);
            let unsent = unsent_in_short(unsent);
            format!("closed {error:?}{unsent}")
        }
        other => format!("{other:?}"),
    }
}

/// What was not sent, in short: nothing, or ` unsent ` and the ids; the one that was cut has a `~`.
pub fn unsent_in_short(unsent: &Unsent) -> String {
    let ids = (unsent.not_sent.start.as_u64()..unsent.not_sent.end.as_u64())
        .chain(unsent.waiting.iter().map(|id| id.as_u64()));
    let ids: Vec<String> =
        unsent.cut.iter().map(|id| format!("~{}", id.as_u64())).chain(ids.map(|id| id.to_string())).collect();
    if ids.is_empty() { String::new() } else { format!(" unsent {}", ids.join(" ")) }
}
