//! JSON-RPC with what it does not have by itself: notices, answers to heartbeats without an id, and the other things that venues need.

use super::manner::Manner;
use everwire_core::protocol::{Ack, Context, Fault, Inbound, OwnedRpcError, Traffic, Unsupported};
use everwire_core::{Continuity, Limit, Protocol, Recovery, Request, Sequences, Topic, Tracker};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Venue {
    /// A `JsonRpc`.
    pub(super) rpc: Box<dyn Protocol>,
    /// Subscriptions are not answered at all.
    pub(super) silent: bool,
    pub(super) manner: Manner,
    /// How often something was to be signed.
    pub(super) signed: AtomicU32,
}

impl Venue {
    fn ack(&self, ack: Ack) -> Ack {
        if self.silent { Ack::None } else { ack }
    }

    /// Every third signature fails at first, if they do. It is not for ever: what is signed may come in threes.
    fn sign(&self) -> Result<(), Unsupported> {
        let made = self.signed.fetch_add(1, Ordering::Relaxed);
        let fails = made < 40 && made % 3 == 1;
        if fails && self.manner.signs_badly() {
            return Err(Unsupported { reason: "no signature".to_owned() });
        }
        Ok(())
    }
}

/// What `Peer::say_more` means by its notices.
fn notice(text: &str) -> Option<Recovery> {
    match text.strip_prefix('n')?.parse::<u8>().ok()? % 6 {
        0 => Some(Recovery::Reconnect),
        1 => Some(Recovery::Backoff(Duration::from_secs(20))),
        2 => Some(Recovery::Reauthenticate),
        3 => Some(Recovery::Stop),
        _ => None,
    }
}

impl Protocol for Venue {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        if let Some(said) = text.strip_prefix(r#"{"notice":""#).and_then(|rest| rest.strip_suffix("\"}")) {
            return Inbound::Notice { text: said, recovery: notice(said) };
        }
        let after = |start: &str| text.strip_prefix(start).and_then(|rest| rest.strip_suffix('}'));
        if let Some(list) = after(r#"{"list":"#) {
            return Inbound::Confirmed(list);
        }
        if let Some(error) = after(r#"{"refused":"#) {
            return Inbound::Refused(error);
        }
        if let Some(token) = after(r#"{"granted":"#) {
            return Inbound::Authenticated(Ok(token));
        }
        if let Some(error) = after(r#"{"denied":"#) {
            return Inbound::Authenticated(Err(error));
        }
        if text == r#"{"pong":1}"# {
            return Inbound::HeartbeatAnswer;
        }
        if text == r#"{"greeting":1}"# {
            return Inbound::Greeting;
        }
        self.rpc.classify(text)
    }

    fn greets(&self) -> bool {
        self.manner.greets()
    }

    fn reauthenticates(&self) -> bool {
        self.rpc.reauthenticates()
    }

    fn authenticated(&self, result: &str) -> Option<Duration> {
        self.rpc.authenticated(result)
    }

    fn farewell(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        let ack = self.rpc.farewell(id, context, out);
        if self.manner.awaits_farewell() { ack } else { Ack::None }
    }

    fn item<'m>(&self, text: &'m str, cursor: &mut usize) -> Option<&'m str> {
        self.rpc.item(text, cursor)
    }

    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        let ack = self.rpc.authenticate(id, context, out)?;
        if !out.is_empty() {
            self.sign()?;
        }
        Ok(if self.manner.authenticates_separately() { Ack::Separate } else { ack })
    }

    fn prepare(&self, step: u32, id: u64, _: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        let Some(ack) = self.manner.steps().get(step as usize) else { return Ok(Ack::None) };
        self.sign()?;
        out.push_str(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"private/prepare","params":[{step}]}}"#
        ));
        Ok(*ack)
    }

    fn topics_per_connection(&self) -> Option<usize> {
        self.manner.topics_per_connection()
    }

    fn shares(&self, topic: &Topic, other: &Topic) -> bool {
        let kind = |topic: &Topic| topic.name().bytes().last().unwrap_or(0) % 3;
        self.manner.shares_all() || kind(topic) == kind(other)
    }

    fn connection_tracker(&self) -> Option<Box<dyn Tracker>> {
        let check = |_, text: &str| match text.split_once(r#""data":["#).map(|(_, data)| data.as_bytes()) {
            Some([b'3', ..]) => Continuity::Gap { expected: 1, got: 3 },
            Some([b'5', ..]) => Continuity::Duplicate,
            Some([b'7', ..]) => Continuity::Corrupt { reason: "7".to_owned() },
            _ => Continuity::Continues,
        };
        self.manner.tracks().then(|| Sequences::hook(check))
    }

    fn life(&self) -> Option<Duration> {
        self.manner.life()
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        self.rpc.request(id, request, context, out)
    }

    fn batch(
        &self,
        requests: &[(u64, Request<'_>)],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        self.rpc.batch(requests, context, out)
    }

    fn respond(
        &self,
        id: &str,
        result: Result<&str, &OwnedRpcError>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        self.rpc.respond(id, result, out)
    }

    fn topics_per_message(&self) -> usize {
        self.rpc.topics_per_message()
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let ack = self.rpc.subscribe(id, topics, context, out)?;
        self.sign()?;
        Ok(self.ack(ack))
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        let ack = self.rpc.unsubscribe(id, topics, context, out)?;
        Ok(self.ack(ack))
    }

    fn confirms(&self, result: &str, topic: &Topic) -> bool {
        self.rpc.confirms(result, topic)
    }

    fn heartbeat(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        self.rpc.heartbeat(id, context, out)
    }

    fn heartbeat_reply(&self, text: &str, id: u64, out: &mut String) {
        self.rpc.heartbeat_reply(text, id, out);
    }

    fn limits(&self) -> Vec<Limit> {
        self.rpc.limits()
    }

    fn cost(&self, limit: &str, traffic: Traffic<'_>) -> u32 {
        self.rpc.cost(limit, traffic)
    }

    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        self.rpc.recovery(fault)
    }

    fn tracker(&self, topic: &Topic) -> Option<Box<dyn Tracker>> {
        self.rpc.tracker(topic)
    }
}
