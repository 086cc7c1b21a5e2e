//! A server with limits, and the wire to it: what went over it, and when.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

use crate::common::*;
use everwire_core::protocol::{Ack, Context, Inbound, OwnedRpcError, Traffic, Unsupported};
use everwire_core::{
    CloseOptions, Config, Limit, Message, OwnedEvent, OwnedOutcome, Protocol, Request, RequestId,
    RequestOptions, SendId, SendOptions, SubscribeOptions, SubscriptionId, Topic,
};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Costs = fn(&str, Traffic<'_>) -> u32;

/// It is spoken to in words: `sub 1 a,b`, and answers `ok 1`; `hb` is its heartbeat.
#[derive(Debug, Clone)]
pub struct Venue {
    limits: Vec<Limit>,
    costs: Costs,
    authenticated: bool,
    batch: usize,
    /// How often it was asked how to end subscriptions.
    pub endings: Arc<AtomicU64>,
    farewell: Option<Ack>,
}

/// A window without a margin.
pub fn exact(name: &str, max: u32, per: Duration) -> Limit {
    Limit::window(name, max, per).margin(Duration::ZERO)
}

impl Venue {
    pub fn new(limits: impl Into<Vec<Limit>>) -> Self {
        Self {
            limits: limits.into(),
            costs: |_, _| 1,
            authenticated: false,
            batch: 100,
            endings: Arc::default(),
            farewell: None,
        }
    }

    pub fn costs(self, costs: Costs) -> Self {
        Self { costs, ..self }
    }

    pub fn authenticated(self) -> Self {
        Self { authenticated: true, ..self }
    }

    /// It says `bye 1` before it closes.
    pub fn farewell(self, ack: Ack) -> Self {
        Self { farewell: Some(ack), ..self }
    }

    pub fn batches(self, batch: usize) -> Self {
        Self { batch, ..self }
    }
}

fn names(topics: &[&Topic]) -> String {
    topics.iter().map(|topic| topic.name()).collect::<Vec<_>>().join(",")
}

impl Protocol for Venue {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        match text.split_once(' ') {
            Some(("ok", id)) => Inbound::Response { id: id.parse().unwrap(), result: Ok(id) },
            _ if text == "hb" => Inbound::Heartbeat,
            _ => Inbound::other(),
        }
    }

    fn authenticate(&self, id: u64, _: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        if self.authenticated {
            write!(out, "auth {id}").unwrap();
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
        write!(out, "req {id} {}", request.method).unwrap();
        Ok(())
    }

    fn batch(
        &self,
        requests: &[(u64, Request<'_>)],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        out.push_str("batch");
        requests.iter().for_each(|(id, _)| write!(out, " {id}").unwrap());
        Ok(())
    }

    fn respond(
        &self,
        id: &str,
        result: Result<&str, &OwnedRpcError>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        write!(out, "answer {id} {result:?}").unwrap();
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        self.batch
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        write!(out, "sub {id} {}", names(topics)).unwrap();
        Ok(Ack::Response)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.endings.fetch_add(1, Ordering::Relaxed);
        write!(out, "unsub {id} {}", names(topics)).unwrap();
        Ok(Ack::Response)
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }

    fn heartbeat(&self, id: u64, _: &Context<'_>, out: &mut String) -> Ack {
        write!(out, "beat {id}").unwrap();
        Ack::Response
    }

    fn heartbeat_reply(&self, _: &str, id: u64, out: &mut String) {
        write!(out, "alive {id}").unwrap();
    }

    fn farewell(&self, id: u64, _: &Context<'_>, out: &mut String) -> Ack {
        let Some(ack) = self.farewell else { return Ack::None };
        write!(out, "bye {id}").unwrap();
        ack
    }

    fn limits(&self) -> Vec<Limit> {
        self.limits.clone()
    }

    fn cost(&self, limit: &str, traffic: Traffic<'_>) -> u32 {
        (self.costs)(limit, traffic)
    }
}

/// A session under test whose driver writes whenever there is something to be written, as long as the socket takes it.
#[derive(Debug)]
pub struct Wire {
    pub h: Harness,
    pub conn: usize,
    /// Whether the socket takes anything.
    pub takes: bool,
    begun: Instant,
    parsed: usize,
    log: Vec<String>,
    told: Vec<(u64, String)>,
    outcomes: Vec<(RequestId, OwnedOutcome)>,
}

impl Wire {
    /// Its handshake is made; nothing after that is written yet.
    pub fn new(venue: Venue, more: impl FnOnce(Config) -> Config) -> Self {
        let mut h = Harness::new(more(config().protocol(venue)));
        h.run();
        h.connect(0);
        let response = accept(&h.conns[0].written, "");
        h.feed_silently(0, &response);
        let begun = h.now;
        let parsed = h.conns[0].written.len();
        let (log, told, outcomes) = Default::default();
        Self { h, conn: 0, takes: true, begun, parsed, log, told, outcomes }
    }

    /// It is online, and what was told by then forgotten.
    pub fn with(venue: Venue, more: impl FnOnce(Config) -> Config) -> Self {
        let mut wire = Self::new(venue, more);
        wire.note();
        assert_eq!(wire.told(), ["online"]);
        wire
    }

    pub fn online(venue: Venue) -> Self {
        Self::with(venue, |config| config)
    }

    /// Goes on to the next connection: opens it.
    pub fn reopen(&mut self) {
        self.note();
        self.conn = self.h.next_conn();
        self.h.connect(self.conn);
        let response = accept(&self.h.conns[self.conn].written, "");
        self.parsed = self.h.conns[self.conn].written.len();
        self.h.feed_silently(self.conn, &response);
        self.note();
    }

    fn since(&self) -> u64 {
        (self.h.now - self.begun).as_millis() as u64
    }

    /// Writes what is to be written, and notes what that was and what was told.
    pub fn note(&mut self) {
        self.h.run();
        if self.takes {
            self.h.flush(self.conn);
        }
        self.read();
    }

    fn read(&mut self) {
        let at = self.since();
        let written = &self.h.conns[self.conn].written[self.parsed..];
        let (frames, rest) = frames(written);
        self.parsed += written.len() - rest;
        self.log.extend(frames.into_iter().map(|frame| format!("{at} {}", name(frame))));
        for event in self.h.told() {
            if let OwnedEvent::Response { id, outcome } = &event {
                self.outcomes.push((*id, outcome.clone()));
            }
            self.told.push((at, brief(event)));
        }
    }

    /// Writes so many bytes and no more.
    pub fn write(&mut self, max: usize) {
        self.h.flush_up_to(self.conn, max);
        self.read();
    }

    /// Time passes, with every deadline on the way kept.
    pub fn pass(&mut self, by: Duration) {
        let end = self.h.now + by;
        for _ in 0..10_000 {
            self.note();
            match self.h.run() {
                Stop::Wait(Some(due)) if due <= end => self.h.now = due,
                _ if self.h.now == end => return,
                _ => self.h.now = end,
            }
        }
        panic!("livelock: it never rests");
    }

    /// What was written since the beginning of the connection: milliseconds since the first was open, and what.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// The events since the last call.
    pub fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told).into_iter().map(|(_, event)| event).collect()
    }

    /// The same with milliseconds since the beginning.
    pub fn told_when(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told).into_iter().map(|(at, event)| format!("{at} {event}")).collect()
    }

    /// How requests ended, all of them.
    pub fn outcomes(&self) -> &[(RequestId, OwnedOutcome)] {
        &self.outcomes
    }

    /// The user closes.
    pub fn close(&mut self, options: CloseOptions) {
        self.h.s.close_with(options, self.h.now);
        self.note();
    }

    /// The server closes, or answers the client's close frame; then it ends the connection.
    pub fn hang_up(&mut self) {
        self.h.feed_silently(self.conn, &close(1000, ""));
        self.note();
        self.h.eof(self.conn);
        self.note();
    }

    /// The server says something.
    pub fn say(&mut self, said: &str) {
        self.h.feed_silently(self.conn, &text(said));
        self.note();
    }

    pub fn send(&mut self, text: &str) -> SendId {
        self.send_with(text, |_| {})
    }

    pub fn send_with(&mut self, text: &str, set: impl FnOnce(&mut SendOptions)) -> SendId {
        let mut options = SendOptions::default();
        set(&mut options);
        let id = self.h.s.send(Message::Text(text), options, self.h.now).unwrap();
        if self.takes {
            self.h.flush(self.conn);
        }
        self.read();
        id
    }

    pub fn request(&mut self, method: &str, set: impl FnOnce(RequestOptions) -> RequestOptions) -> RequestId {
        let options = set(RequestOptions::default());
        let id = self.h.s.request(Request::new(method), options, self.h.now).unwrap();
        self.note();
        id
    }

    /// A batch of requests `m0`, `m1` and so on.
    pub fn batch(&mut self, count: usize, options: RequestOptions) -> Vec<RequestId> {
        let methods: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
        let requests: Vec<Request<'_>> = methods.iter().map(|method| Request::new(method)).collect();
        let ids = self.h.s.request_batch(&requests, options, self.h.now).unwrap();
        self.note();
        ids
    }

    pub fn subscribe(&mut self, topic: &str, priority: u8) -> SubscriptionId {
        let mut options = SubscribeOptions::default();
        options.priority = priority;
        let id = self.h.s.subscribe(topic, options, self.h.now);
        self.note();
        id
    }
}

/// A client's frame in words.
pub fn name((first, payload): (u8, Vec<u8>)) -> String {
    let text = String::from_utf8_lossy(&payload);
    match first & 0xf {
        TEXT => text.into_owned(),
        PING => "PING".to_owned(),
        PONG => format!("PONG {text}"),
        CLOSE => "CLOSE".to_owned(),
        other => panic!("opcode {other}"),
    }
}

fn brief(event: OwnedEvent) -> String {
    match event {
        OwnedEvent::Online { .. } => "online".to_owned(),
        OwnedEvent::Authenticated { .. } => "authenticated".to_owned(),
        OwnedEvent::Subscribed { topic, .. } => format!("+{topic}"),
        OwnedEvent::Response { id, outcome } => format!("{id:?} {outcome:?}"),
        OwnedEvent::Expired { id } => format!("expired {id:?}"),
        OwnedEvent::Pressure { level, waiting, delay } => format!("pressure {level:?} {waiting} {delay:?}"),
        OwnedEvent::Writable => "writable".to_owned(),
        OwnedEvent::Pong { .. } => "pong".to_owned(),
        OwnedEvent::Lost { unsent, .. } => {
            let not_sent = unsent.not_sent.start.as_u64()..unsent.not_sent.end.as_u64();
            let waiting: Vec<u64> = unsent.waiting.iter().map(|id| id.as_u64()).collect();
            format!("lost {not_sent:?} {waiting:?} cut {:?}", unsent.cut.map(|id| id.as_u64()))
        }
        OwnedEvent::Gap(_) => "gap".to_owned(),
        OwnedEvent::Closed { error: None, unsent } => format!("closed{}", unsent_in_short(&unsent)),
        OwnedEvent::Message { message, .. } => format!("message {message}"),
        other => format!("{other:?}"),
    }
}
