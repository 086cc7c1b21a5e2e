//! Requests: each is settled exactly once, whatever happens; requests of the server; very many of them.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::protocol::{Ack, Context, Inbound, OwnedRpcError, Unsupported};
use everwire_core::{
    CloseCode, Event, JsonRpc, Limit, OnDisconnect, Output, OwnedEvent, OwnedOutcome, Protocol, Request,
    RequestId, RequestOptions, SendError, State, SubscribeOptions, Topic, Unanswered,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn named(id: u64) -> RequestOptions {
    RequestOptions { id: Some(id), ..RequestOptions::default() }
}

#[test]
fn an_id_that_is_unsettled_is_refused() {
    let mut h = rpc();
    assert_eq!(request(&mut h, "a", named(7)).as_u64(), 7);
    assert_eq!(h.s.request(Request::new("b"), named(7), h.now), Err(SendError::DuplicateId(7)));
    h.flush(0);
    assert_eq!(wire(&h, 0), ["a"], "what is refused is not sent");
    h.feed(0, &result(7, "1"));
    assert_eq!(brief(&mut h), ["7 = 1"]);
    // Settled, in whatever way, it may be used again.
    request(&mut h, "c", named(7));
    let eighth = request(&mut h, "d", named(8));
    assert!(h.s.cancel(eighth, h.now));
    request(&mut h, "e", named(8));
    // One that waits for a connection is unsettled as well.
    h.eof(0);
    h.told();
    let held = RequestOptions { id: Some(9), ..options(OnDisconnect::Hold) };
    request(&mut h, "f", held.clone());
    assert_eq!(h.s.request(Request::new("g"), held, h.now), Err(SendError::DuplicateId(9)));
}

#[test]
fn ids_of_the_user_and_of_the_session_never_meet() {
    let mut h = rpc();
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    let own = last_id(&h, 0, "subscribe");
    assert_eq!(h.s.request(Request::new("x"), named(own), h.now), Err(SendError::DuplicateId(own)));
    // The numbers that come next are the user's: the session goes around them, also once they are settled.
    for id in own + 1..own + 4 {
        request(&mut h, "mine", RequestOptions { timeout: Some(secs(1)), ..named(id) });
    }
    h.advance(secs(1));
    h.told();
    h.s.subscribe("b", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    let next = last_id(&h, 0, "subscribe");
    assert!(next > own + 3, "{next}: a late answer to the user's would confirm this");
    for id in own + 1..own + 4 {
        h.feed(0, &result(id, "1"));
    }
    assert!(h.told().iter().all(|event| matches!(event, OwnedEvent::Message { .. })));
    confirm(&mut h, 0, 0);
    assert_eq!(brief(&mut h), ["+a", "+b"]);
    // The largest are as good as any.
    for id in [u64::MAX, u64::MAX - 1, 0] {
        assert_eq!(request(&mut h, "edge", named(id)).as_u64(), id);
    }
    let after = request(&mut h, "after", RequestOptions::default()).as_u64();
    assert_eq!(after, next + 1);
    for id in [0, u64::MAX - 1, u64::MAX, after] {
        h.feed(0, &result(id, "1"));
        assert_eq!(brief(&mut h), [format!("{id} = 1")]);
    }
}

#[test]
fn errors_come_with_their_data() {
    let mut h = rpc();
    let id = request(&mut h, "order", RequestOptions::default());
    let answer =
        r#"{"code":-32602,"message":"Invalid params","data":{"param":"amount","reason":"too small"}}"#;
    h.feed(0, &text(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{answer}}}"#, id.as_u64())));
    let told = h.told();
    let [OwnedEvent::Response { id: told, outcome: OwnedOutcome::Answered(Err(error)) }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((*told, error.code, &*error.message), (id, -32602, "Invalid params"));
    assert_eq!(error.data.as_deref(), Some(r#"{"param":"amount","reason":"too small"}"#));
}

#[test]
fn cancelled_and_late() {
    let mut h = rpc();
    let id = request(&mut h, "slow", RequestOptions::default());
    assert!(h.s.cancel(id, h.now));
    assert!(!h.s.cancel(id, h.now), "once");
    h.run();
    assert_eq!(brief(&mut h), [format!("{} unknown: Cancelled", id.as_u64())]);
    h.feed(0, &result(id.as_u64(), "1"));
    assert!(matches!(&h.told()[..], [OwnedEvent::Message { .. }]), "nobody waits for it");
    // One that waits for a connection never was sent, and never will be.
    h.eof(0);
    h.told();
    let held = request(&mut h, "held", options(OnDisconnect::Resend));
    assert!(h.s.cancel(held, h.now));
    h.run();
    assert_eq!(brief(&mut h), [format!("{} not sent: Cancelled", held.as_u64())]);
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(wire(&h, conn), [""; 0]);
    // What the session asked is not the user's to cancel.
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(conn);
    let own = last_id(&h, conn, "subscribe");
    let mine = request(&mut h, "x", RequestOptions::default());
    assert_eq!(mine.as_u64(), own + 1);
    h.told();
    h.feed(conn, &result(own, "1"));
    assert_eq!(brief(&mut h), ["+a"]);
}

#[test]
fn held_requests_go_out_in_the_order_in_which_they_were_made() {
    let mut h = Harness::new(config().protocol(JsonRpc::new()));
    for (id, method) in [(Some(900), "first"), (None, "second"), (Some(5), "third"), (None, "fourth")] {
        request(&mut h, method, RequestOptions { id, ..options(OnDisconnect::Hold) });
    }
    h.run();
    h.open(0);
    assert_eq!(wire(&h, 0), ["first", "second", "third", "fourth"]);
    // Sent again, too, and before what was made later.
    let mut h = Harness::new(config().protocol(JsonRpc::new()));
    h.run();
    h.open(0);
    request(&mut h, "first", RequestOptions { id: Some(900), ..options(OnDisconnect::Resend) });
    h.flush(0);
    h.eof(0);
    request(&mut h, "second", RequestOptions { id: Some(2), ..options(OnDisconnect::Hold) });
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(wire(&h, conn), ["first", "second"]);
}

#[test]
fn requests_of_the_server_are_told_and_answered() {
    let mut h = rpc();
    h.feed(0, &text(r#"{"jsonrpc":"2.0","id":"x-1","method":"confirm","params":{"n":1}}"#));
    h.feed(0, &text(r#"{"jsonrpc":"2.0","id":4,"method":"version"}"#));
    h.feed(0, &text(r#"{"jsonrpc":"2.0","method":"bulletin","params":{"n":2}}"#));
    let told = brief(&mut h);
    assert_eq!(told[..2], [r#"asked "x-1" confirm Some("{\"n\":1}")"#, "asked 4 version None"]);
    assert!(told[2].starts_with("message "), "a notification asks nothing");
    h.s.respond(h.s.status(h.now).epoch, r#""x-1""#, Ok("true"), h.now).unwrap();
    let error = OwnedRpcError { code: -32601, message: "no such method".into(), data: Some("[1]".into()) };
    h.s.respond(h.s.status(h.now).epoch, "4", Err(&error), h.now).unwrap();
    assert!(matches!(
        h.s.respond(h.s.status(h.now).epoch, "{}", Ok("1"), h.now),
        Err(SendError::Unsupported(_))
    ));
    assert!(matches!(
        h.s.respond(h.s.status(h.now).epoch, "1", Ok("no JSON"), h.now),
        Err(SendError::Unsupported(_))
    ));
    h.run();
    h.flush(0);
    let want = [
        r#"{"jsonrpc":"2.0","id":"x-1","result":true}"#,
        r#"{"jsonrpc":"2.0","id":4,"error":{"code":-32601,"message":"no such method","data":[1]}}"#,
    ];
    assert_eq!(h.texts(0), want);
    // A number that the server chose is not one of ours, even if it is the same.
    let mine = request(&mut h, "mine", RequestOptions::default()).as_u64();
    h.feed(0, &text(&format!(r#"{{"id":{mine},"method":"version"}}"#)));
    h.feed(0, &result(mine, "1"));
    assert_eq!(brief(&mut h), [format!("asked {mine} version None"), format!("{mine} = 1")]);
    h.eof(0);
    assert_eq!(h.s.respond(h.s.status(h.now).epoch, "4", Ok("1"), h.now), Err(SendError::Offline));
}

const MANY: usize = 100_000;

#[test]
fn very_many_are_settled_once_each_when_the_connection_is_lost() {
    let config = config().protocol(JsonRpc::new()).max_requests(MANY).send_buffer(64 << 20);
    let mut h = Harness::online(config);
    let mut expected = BTreeMap::new();
    for n in 0..MANY {
        let on_disconnect = [OnDisconnect::Fail, OnDisconnect::Hold, OnDisconnect::Resend][n % 3];
        let made = h.s.request(Request::new("m"), options(on_disconnect), h.now).unwrap();
        expected.insert(made, on_disconnect);
    }
    assert_eq!(
        h.s.request(Request::new("m"), RequestOptions::default(), h.now),
        Err(SendError::TooManyRequests)
    );
    // The first half is written, a tenth of it answered.
    let half = h.s.queued() / 2;
    let id = h.conns[0].id;
    h.s.handle_transmitted(id, half, h.now);
    let answered: Vec<RequestId> = expected.keys().take(MANY / 20).copied().collect();
    h.takes = false;
    let mut outcomes: BTreeMap<RequestId, OwnedOutcome> = BTreeMap::new();
    let mut take = |h: &mut Harness| {
        let mut others = vec![];
        while h.run() == Stop::Event {
            match h.s.event().unwrap() {
                Event::Response { id, outcome } => {
                    assert!(outcomes.insert(id, outcome.to_owned()).is_none(), "{id:?} is settled twice");
                }
                other => others.push(other.to_owned()),
            }
        }
        others
    };
    for id in &answered {
        assert!(h.feed_silently(0, &result(id.as_u64(), "1")) > 0);
        take(&mut h);
    }
    h.eof(0);
    assert_eq!(take(&mut h).len(), 1, "the loss");
    // What is held ends with the session.
    h.s.close(CloseCode::Normal, "", h.now);
    assert_eq!(take(&mut h).len(), 1, "the end");
    assert_eq!(outcomes.len(), MANY);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (id, on_disconnect) in &expected {
        let kind = match &outcomes[id] {
            OwnedOutcome::Answered(_) => "answered".to_owned(),
            other => format!("{on_disconnect:?} {other:?}"),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    assert_eq!(kinds["answered"], MANY / 20);
    let names: Vec<&str> = kinds.keys().map(|kind| &**kind).collect();
    let want = [
        "Fail NotSent(ConnectionLost)",
        "Fail SentUnknown(ConnectionLost)",
        "Hold NotSent(Closed)",
        "Hold SentUnknown(ConnectionLost)",
        "Resend NotSent(Closed)",
        "Resend SentUnknown(Closed)",
        "answered",
    ];
    assert_eq!(names, want);
}

/// JSON-RPC that counts how often it is asked for anything.
#[derive(Debug)]
struct Counting(JsonRpc, Arc<AtomicU64>);

impl Counting {
    fn count(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

impl Protocol for Counting {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        self.count();
        self.0.classify(text)
    }

    fn request(
        &self,
        id: u64,
        request: &Request<'_>,
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<(), Unsupported> {
        self.count();
        self.0.request(id, request, context, out)
    }

    fn topics_per_message(&self) -> usize {
        self.count();
        1
    }

    fn subscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.count();
        self.0.subscribe(id, topics, context, out)
    }

    fn unsubscribe(
        &self,
        id: u64,
        topics: &[&Topic],
        context: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        self.count();
        self.0.unsubscribe(id, topics, context, out)
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        self.count();
        true
    }

    fn cost(&self, _: &str, _: everwire_core::protocol::Traffic<'_>) -> u32 {
        self.count();
        1
    }
}

#[test]
fn an_idle_poll_looks_at_one_of_very_many() {
    // All of them wait for the limiter, so that looking at one means asking the protocol for its cost.
    let asked = Arc::new(AtomicU64::new(0));
    let config = config().protocol(Counting(JsonRpc::new(), asked.clone())).max_requests(MANY);
    let config = config.queue(MANY, 64 << 20).send_limit(Limit::window("calls", 1, secs(10)));
    let mut h = Harness::online(config.request_timeout(secs(3600)));
    let mut order = vec![];
    for n in 0..MANY {
        // Deadlines in another order than the requests.
        let timeout = Some(secs(3600) + millis((n * 7919 % MANY) as u64));
        let options = RequestOptions { timeout, ..options(OnDisconnect::Hold) };
        order.push(h.s.request(Request::new("m"), options, h.now).unwrap());
    }
    h.told();
    h.run();
    h.flush(0);
    let before = asked.load(Ordering::Relaxed);
    for _ in 0..1000 {
        h.now += millis(1);
        assert!(
            matches!(h.s.poll_output(h.now), Output::Wait(Some(due)) if due == start().instant + secs(10))
        );
    }
    let calls = asked.load(Ordering::Relaxed) - before;
    assert!(calls <= 2000, "{calls} calls in 1000 idle polls");
    // An answer finds its request without looking at the others.
    let before = asked.load(Ordering::Relaxed);
    h.feed(0, &result(order[0].as_u64(), "1"));
    assert!(asked.load(Ordering::Relaxed) - before <= 10);
    assert_eq!(h.told().iter().filter(|event| matches!(event, OwnedEvent::Response { .. })).count(), 1);
    // The deadlines are kept one by one, in their order.
    h.s.reconnect(h.now);
    h.run();
    h.told();
    h.takes = false;
    h.now = start().instant + secs(3600) + millis(500);
    h.s.handle_timeout(h.now);
    let mut over = 0;
    while h.run() == Stop::Event {
        if let Event::Response { outcome, .. } = h.s.event().unwrap() {
            assert_eq!(outcome, everwire_core::Outcome::NotSent(Unanswered::Timeout));
            over += 1;
        }
    }
    assert!((500..=501).contains(&over), "{over}");
    assert_ne!(h.s.state(), State::Closed);
}
