//! What the tests of endpoints share: a small protocol, a provider, and short forms of events.

use crate::common::*;
use everwire_core::protocol::{Ack, Context, Fault, Inbound, Unsupported};
use everwire_core::{
    AttemptId, Config, Endpoint, Output, OwnedEvent, Protocol, ProviderError, Recovery, Request, State, Topic,
};
use std::time::{Duration, Instant};

/// The client says `auth 1 TOKEN`, `sub 2 TOKEN a`, `unsub 3 TOKEN a`, `beat 4 TOKEN`, `bye 5 TOKEN`; the server `hello`, `ok 1`, `no 1`, `ok 1 900`: good for so
/// many seconds, and `wait 60`: gives notice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Feed {
    pub(crate) greets: bool,
    pub(crate) auth: bool,
    pub(crate) again: bool,
    pub(crate) farewell: bool,
    pub(crate) refused: Option<Recovery>,
}

pub(crate) const AUTH: Feed =
    Feed { greets: false, auth: true, again: false, farewell: false, refused: None };
pub(crate) const AGAIN: Feed = Feed { again: true, ..AUTH };

impl Feed {
    fn say(verb: &str, id: u64, context: &Context<'_>, rest: &str, out: &mut String) -> Ack {
        let token = context.params.get("token").unwrap_or("-");
        *out = format!("{verb} {id} {token}{rest}");
        Ack::Response
    }
}

pub(crate) fn names(topics: &[&Topic]) -> String {
    topics.iter().map(|topic| format!(" {}", topic.name())).collect()
}

impl Protocol for Feed {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        let mut words = text.splitn(3, ' ');
        let verb = words.next().unwrap_or_default();
        let (id, rest) = (words.next().and_then(|id| id.parse().ok()), words.next().unwrap_or_default());
        match (verb, id) {
            ("hello", _) => Inbound::Greeting,
            ("wait", Some(seconds)) => {
                Inbound::Notice { text, recovery: Some(Recovery::Backoff(secs(seconds))) }
            }
            ("ok", Some(id)) => Inbound::Response { id, result: Ok(rest) },
            ("no", Some(id)) => Inbound::Response { id, result: Err(rest) },
            _ => Inbound::other(),
        }
    }
    fn greets(&self) -> bool {
        self.greets
    }
    fn authenticate(&self, id: u64, context: &Context<'_>, out: &mut String) -> Result<Ack, Unsupported> {
        Ok(if self.auth { Self::say("auth", id, context, "", out) } else { Ack::None })
    }
    fn authenticated(&self, result: &str) -> Option<Duration> {
        result.parse().ok().map(secs)
    }
    fn reauthenticates(&self) -> bool {
        self.again
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
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        Ok(Self::say("sub", id, context, &names(topics), out))
    }
    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        Ok(Self::say("unsub", id, context, &names(topics), out))
    }
    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }
    fn heartbeat(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        Self::say("beat", id, context, "", out)
    }
    fn farewell(&self, id: u64, context: &Context<'_>, out: &mut String) -> Ack {
        if self.farewell { Self::say("bye", id, context, "", out) } else { Ack::None }
    }
    fn recovery(&self, fault: Fault<'_>) -> Option<Recovery> {
        self.refused.filter(|_| matches!(fault, Fault::Authentication(_)))
    }
}

pub(crate) fn base(feed: Feed) -> Config {
    Config::provided().ping_interval(None).backoff(secs(1), secs(30)).protocol(feed)
}

pub(crate) fn endpoint(token: &str) -> Endpoint {
    Endpoint::new("ws://127.0.0.1:9/").unwrap().param("token", token)
}

/// Good for 100 s: asked for anew after 72 s to 80 s.
pub(crate) fn short(token: &str) -> Endpoint {
    endpoint(token).expires_in(secs(100))
}

pub(crate) fn asked(h: &mut Harness) -> AttemptId {
    h.run();
    let [Output::Provide(id)] = h.asked[..] else { panic!("it asks once, not {:?}", h.asked) };
    h.asked.clear();
    id
}

pub(crate) fn provide(h: &mut Harness, endpoint: Endpoint) {
    let id = asked(h);
    h.s.handle_endpoint(id, Ok(endpoint), h.now);
    h.run();
}

pub(crate) fn fail(h: &mut Harness, error: ProviderError) {
    let id = asked(h);
    h.s.handle_endpoint(id, Err(error), h.now);
    h.run();
}

/// Says what is to be said to the client's last message.
pub(crate) fn answer(h: &mut Harness, conn: usize, verb: &str, rest: &str) {
    let last = h.texts(conn).pop().expect("it asked");
    let id = last.split(' ').nth(1).unwrap();
    h.feed(conn, &text(&format!("{verb} {id}{rest}")));
}

/// Online on a first connection that was made with this endpoint.
pub(crate) fn online(config: Config, endpoint: Endpoint) -> Harness {
    let mut h = Harness::new(config);
    provide(&mut h, endpoint);
    h.open(0);
    if h.s.state() == State::Authenticating {
        answer(&mut h, 0, "ok", "");
    }
    assert_eq!(h.s.state(), State::Online, "{:?}", h.events);
    h.told();
    h
}

/// Time passes until the provider is asked.
pub(crate) fn until_asked(h: &mut Harness) -> Instant {
    let at = h.s.status(h.now).refresh_at.expect("something is to be renewed");
    h.advance((at - h.now).saturating_sub(millis(1)));
    assert_eq!(h.asked, [], "not before its time");
    h.advance(at - h.now);
    assert_eq!(h.asked.len(), 1, "{:?}", h.s.status(h.now));
    at
}

pub(crate) fn told(h: &mut Harness) -> Vec<String> {
    let now = h.now;
    let within = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now));
    let short = |event: &OwnedEvent| match event {
        OwnedEvent::Refreshed { by, .. } => format!("refreshed {by:?}"),
        OwnedEvent::RefreshFailed { failures, error, .. } => format!("refresh failed {failures}: {error}"),
        OwnedEvent::AttemptFailed { error, retry_at, .. } if retry_at.is_none() => {
            format!("gave up: {error}")
        }
        OwnedEvent::AttemptFailed { error, .. } => format!("failed: {error}"),
        OwnedEvent::Lost { error, retry_at, .. } if within(*retry_at) == Some(Duration::ZERO) => {
            format!("left: {error}")
        }
        other => in_short(other),
    };
    h.told().iter().map(short).collect()
}

pub(crate) fn until_attempt(h: &mut Harness) {
    let wait = h.s.status(h.now).retry_at.expect("it tries again") - h.now;
    h.advance(wait);
}
