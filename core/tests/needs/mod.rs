//! A protocol with all that venues need besides, in words, and what is said in it.
//!
//! The client says `auth 1`, `prep 2 0`, `sub 3 a,b`, `unsub 4 a`, `ask 5 method`, `beat 6`, `bye 7`; what it was granted last stands behind that in
//! angle brackets. The server says `ok 1 text`, `no 1 7:text` (an error with its code), `granted text`, `denied 7:text`, `list a,b`,
//! `refused 7:text`, `on a`, `on a 3` (the id of the message that asked), `off a`, `hello` or `hello id`, and `a 17`, which is data of the topic `a`.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

use crate::common::*;
use everwire_core::protocol::{Ack, Context, Fault, Inbound, Name, RpcError, Traffic, Unsupported};
use everwire_core::{
    Config, Limit, Protocol, Recovery, Request, SubscribeOptions, SubscriptionId, Topic, Tracker,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How it is spoken.
#[derive(Clone)]
pub struct Words {
    pub authenticates: Option<Ack>,
    /// How long an authentication lasts.
    pub lasts: Option<Duration>,
    pub greets: bool,
    /// How each step of the preparation is answered.
    pub steps: Vec<Ack>,
    pub subscribes: Ack,
    pub unsubscribes: Ack,
    pub per_message: usize,
    pub per_connection: Option<usize>,
    pub life: Option<Duration>,
    /// It says `bye 7` before it leaves.
    pub farewell: Option<Ack>,
    pub tracker: Option<fn() -> Box<dyn Tracker>>,
    pub limits: Vec<Limit>,
    pub recovery: fn(Fault<'_>) -> Option<Recovery>,
    /// Errors of subscriptions name those that they are about before the text: `no 3 7:a,b/not here`. Without a name they are about all.
    pub names_refused: bool,
    /// So many messages cannot be written: authentications, steps, or topics and requests that begin with `!`.
    pub unsigned: Arc<AtomicU32>,
    /// How often a request was written.
    pub written: Arc<AtomicU32>,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Words")
    }
}

impl Default for Words {
    fn default() -> Self {
        Self {
            authenticates: None,
            lasts: None,
            greets: false,
            steps: vec![],
            subscribes: Ack::Response,
            unsubscribes: Ack::Response,
            per_message: 10,
            per_connection: None,
            life: None,
            farewell: None,
            tracker: None,
            limits: vec![],
            recovery: |_| None,
            names_refused: false,
            unsigned: Arc::default(),
            written: Arc::default(),
        }
    }
}

fn said(out: &mut String, text: String, context: &Context<'_>) {
    *out = text;
    if let Some(granted) = context.authenticated {
        out.push_str(&format!(" <{granted}>"));
    }
}

fn names(topics: &[&Topic]) -> String {
    topics.iter().map(|topic| topic.name()).collect::<Vec<_>>().join(",")
}

impl Words {
    fn sign(&self) -> Result<(), Unsupported> {
        let less = |left: u32| left.checked_sub(1);
        match self.unsigned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Err(Unsupported { reason: "the signer does not answer".into() }),
            Err(_) => Ok(()),
        }
    }
}

impl Protocol for Words {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match verb {
            "ok" | "no" => {
                let (id, said) = rest.split_once(' ').unwrap_or((rest, ""));
                let result = if verb == "ok" { Ok(said) } else { Err(said) };
                id.parse().map_or_else(|_| Inbound::other(), |id| Inbound::Response { id, result })
            }
            "granted" => Inbound::Authenticated(Ok(rest)),
            "denied" => Inbound::Authenticated(Err(rest)),
            "list" => Inbound::Confirmed(rest),
            "refused" => Inbound::Refused(rest),
            "on" => {
                let (topic, id) = rest.split_once(' ').unwrap_or((rest, ""));
                Inbound::Subscribed { topic: Name::from(topic), id: id.parse().ok(), result: Ok(()) }
            }
            "off" => Inbound::Unsubscribed { topic: Name::from(rest) },
            "hello" => Inbound::Greeting,
            _ => Inbound::data(Some(Name::from(verb))),
        }
    }

    fn greets(&self) -> bool {
        self.greets
    }

    fn greeting(&self, text: &str, context: &Context<'_>) -> Result<(), Unsupported> {
        let own = context.params.get("id");
        match text.split_once(' ') {
            Some((_, id)) if own.is_some_and(|own| own != id) => {
                Err(Unsupported { reason: format!("it is for {id}") })
            }
            _ => Ok(()),
        }
    }

    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        let Some(ack) = self.authenticates else { return Ok(Ack::None) };
        self.sign()?;
        said(out, format!("auth {id}"), context);
        Ok(ack)
    }

    fn authenticated(&self, _: &str) -> Option<Duration> {
        self.lasts
    }

    fn prepare(
        &self,
        step: u32,
        id: u64,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let Some(ack) = self.steps.get(step as usize) else { return Ok(Ack::None) };
        self.sign()?;
        said(out, format!("prep {id} {step}"), context);
        Ok(*ack)
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        self.written.fetch_add(1, Ordering::Relaxed);
        if request.method.starts_with('!') {
            self.sign()?;
        }
        let params = request.params.map_or(String::new(), |params| format!(" {params}"));
        said(out, format!("ask {id} {}{params}", request.method), context);
        Ok(())
    }

    fn batch(
        &self,
        requests: &[(u64, Request<'_>)],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        if requests.iter().any(|(_, request)| request.method.starts_with('!')) {
            self.sign()?;
        }
        let asks: Vec<String> =
            requests.iter().map(|(id, request)| format!("{id} {}", request.method)).collect();
        said(out, format!("asks {}", asks.join(", ")), context);
        Ok(())
    }

    fn topics_per_message(&self) -> usize {
        self.per_message
    }

    fn topics_per_connection(&self) -> Option<usize> {
        self.per_connection
    }

    fn shares(&self, topic: &Topic, other: &Topic) -> bool {
        fn channel(topic: &Topic) -> Option<&str> {
            Some(topic.name().split_once(':')?.0)
        }
        channel(topic) == channel(other)
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        if topics.iter().any(|topic| topic.name().starts_with('!')) {
            self.sign()?;
        }
        said(out, format!("sub {id} {}", names(topics)), context);
        Ok(self.subscribes)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        if topics.iter().any(|topic| topic.name().starts_with('!')) {
            self.sign()?;
        }
        said(out, format!("unsub {id} {}", names(topics)), context);
        Ok(self.unsubscribes)
    }

    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        result.split(',').any(|name| name == topic.name())
    }

    fn refuses(&self, error: &str, topic: &Topic) -> bool {
        let named = error.split_once(':').and_then(|(_, text)| text.split_once('/'));
        let named = named.filter(|_| self.names_refused);
        named.is_none_or(|(names, _)| names.split(',').any(|name| name == topic.name()))
    }

    fn error<'m>(&self, error: &'m str) -> RpcError<'m> {
        let (code, message) = error.split_once(':').unwrap_or(("0", error));
        RpcError { code: code.parse().unwrap_or(0), message: Cow::Borrowed(message), data: None }
    }

    fn heartbeat(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        said(out, format!("beat {id}"), context);
        Ack::None
    }

    fn farewell(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        let Some(ack) = self.farewell else { return Ack::None };
        said(out, format!("bye {id}"), context);
        ack
    }

    fn limits(&self) -> Vec<Limit> {
        self.limits.clone()
    }

    fn cost(&self, limit: &str, traffic: Traffic<'_>) -> u32 {
        match (limit, traffic) {
            ("preparing", Traffic::Prepare) | ("authenticating", Traffic::Authenticate) => 1,
            ("subscribing", Traffic::Subscribe(topics)) => topics as u32,
            ("asking", Traffic::Subscribe(_)) | ("requesting", Traffic::Request(_)) => 1,
            ("topics", Traffic::Subscribe(_) | Traffic::Unsubscribe(_)) => 1,
            _ => 0,
        }
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        (self.recovery)(fault)
    }

    fn connection_tracker(&self) -> Option<Box<dyn Tracker>> {
        self.tracker.map(|tracker| tracker())
    }

    fn life(&self) -> Option<Duration> {
        self.life
    }
}

/// A session that speaks it, whose first connection is open.
pub fn opened(words: Words) -> Harness {
    opened_with(words, |config| config)
}

pub fn opened_with(words: Words, more: impl FnOnce(Config) -> Config) -> Harness {
    let mut h = Harness::new(more(config().protocol(words)));
    h.run();
    h.open(0);
    h
}

/// The server says each of these.
pub fn say(h: &mut Harness, conn: usize, said: &[&str]) {
    for said in said {
        h.feed(conn, &text(said));
    }
}

pub fn subscribe(h: &mut Harness, topic: &str) -> SubscriptionId {
    subscribe_at(h, topic, 0)
}

pub fn subscribe_at(h: &mut Harness, topic: &str, priority: u8) -> SubscriptionId {
    let id = h.s.subscribe(topic, SubscribeOptions::default().priority(priority), h.now);
    h.run();
    for conn in 0..h.conns.len() {
        h.flush(conn);
    }
    id
}
