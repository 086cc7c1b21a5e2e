//! Requests: each is settled exactly once, whatever happens; batches; requests of the server; very many of them.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::protocol::{Ack, Context, Inbound, OwnedRpcError, Unsupported};
use everwire_core::{
    CloseCode, Event, JsonRpc, Limit, Message, OnDisconnect, Output, OwnedEvent, OwnedOutcome, Protocol,
    Request, RequestId, RequestOptions, SendError, SendOptions, State, SubscribeOptions, Topic, Unanswered,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn rpc() -> Harness {
    Harness::online(config().protocol(JsonRpc::new()))
}

fn options(on_disconnect: OnDisconnect) -> RequestOptions {
    RequestOptions { on_disconnect, ..RequestOptions::default() }
}

fn named(id: u64) -> RequestOptions {
    RequestOptions { id: Some(id), ..RequestOptions::default() }
}

fn request(h: &mut Harness, method: &str, options: RequestOptions) -> RequestId {
    let id = h.s.request(Request::new(method), options, h.now).unwrap();
    h.run();
    id
}

fn batch(h: &mut Harness, methods: &[&str], on_disconnect: OnDisconnect) -> Vec<u64> {
    let requests: Vec<Request<'_>> = methods.iter().map(|method| Request::new(method)).collect();
    let ids = h.s.request_batch(&requests, options(on_disconnect), h.now).unwrap();
    h.run();
    ids.into_iter().map(RequestId::as_u64).collect()
}

/// A JSON-RPC batch of these messages.
fn several(parts: &[String]) -> Vec<u8> {
    text(&format!("[{}]", parts.join(",")))
}

fn ok(id: u64, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn news(channel: &str, data: u32) -> String {
    String::from_utf8(notification(channel, data)[2..].to_vec()).unwrap()
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
fn batches_are_answered_in_any_order_and_form() {
    let mut h = rpc();
    let [a, b, c, d] = batch(&mut h, &["a", "b", "c", "d"], OnDisconnect::Fail)[..] else { panic!() };
    h.flush(0);
    assert_eq!(wire(&h, 0), ["[a b c d]"], "one message");
    h.feed(0, &result(c, "3"));
    assert_eq!(brief(&mut h), [format!("{c} = 3")]);
    // With a notification, an answer that nobody waits for, what is no JSON-RPC, and a heartbeat of nobody between.
    let parts = [
        ok(d, "4"),
        news("x", 1),
        ok(999, "0"),
        r#"{"hello":1}"#.into(),
        "17".into(),
        format!(r#"{{"id":{a},"error":{{"code":1,"message":"no"}}}}"#),
        ok(c, "33"),
        ok(b, "2"),
    ];
    h.feed(0, &several(&parts));
    let want = [
        format!("{d} = 4"),
        "?x:1".into(),
        format!("message {}", ok(999, "0")),
        r#"message {"hello":1}"#.into(),
        "message 17".into(),
        format!("{a} refused: no (code 1)"),
        format!("message {}", ok(c, "33")),
        format!("{b} = 2"),
    ];
    assert_eq!(brief(&mut h), want);
    h.advance(secs(60));
    assert_eq!(brief(&mut h), [""; 0], "all are settled");
}

#[test]
fn a_batch_may_answer_the_session_and_the_user_at_once() {
    let mut h = rpc();
    let topic = h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    let (own, mine) = (last_id(&h, 0, "subscribe"), request(&mut h, "m", RequestOptions::default()).as_u64());
    let ask = r#"{"id":"s1","method":"who","params":[1]}"#.to_owned();
    h.feed(0, &several(&[news("a", 0), ok(own, r#"["a"]"#), news("a", 1), ask, ok(mine, "5")]));
    assert_eq!(brief(&mut h), ["a:0", "+a", "a:1", r#"asked "s1" who Some("[1]")"#, &format!("{mine} = 5")]);
    assert!(h.s.subscriptions().any(|s| s.id == topic && s.last_message == Some(h.now)));
    // An empty one is data, one in another is not taken apart.
    h.feed(0, &text("[]"));
    h.feed(0, &text(&format!("[{},[{}]]", news("b", 1), news("b", 2))));
    let told = brief(&mut h);
    assert_eq!(told[0], "message []");
    assert!(told.len() == 2 || told[1] == "?b:1", "{told:?}");
}

#[test]
fn a_batch_cannot_be_made_of_what_cannot_be_said() {
    let mut h = rpc();
    let good = Request::new("good");
    assert!(matches!(
        h.s.request_batch(&[good, Request::new("bad").params("{")], RequestOptions::default(), h.now),
        Err(SendError::Unsupported(_))
    ));
    assert!(matches!(
        h.s.request_batch(&[], RequestOptions::default(), h.now),
        Err(SendError::Unsupported(_))
    ));
    h.run();
    h.flush(0);
    h.advance(secs(60));
    assert_eq!((wire(&h, 0).len(), h.told().len()), (0, 0), "none of them was made");
    let mut h = Harness::online(config().protocol(JsonRpc::new()).max_requests(3));
    assert_eq!(
        h.s.request_batch(&[good; 4], RequestOptions::default(), h.now),
        Err(SendError::TooManyRequests)
    );
    assert_eq!(batch(&mut h, &["a", "b", "c"], OnDisconnect::Fail).len(), 3);
    assert_eq!(h.s.request(good, RequestOptions::default(), h.now), Err(SendError::TooManyRequests));
}

#[test]
fn a_batch_that_a_loss_cuts_settles_each_of_it() {
    for (written, outcome) in [(0, "not sent"), (1, "unknown"), (usize::MAX, "unknown")] {
        let mut h = rpc();
        let ids = batch(&mut h, &["a", "b", "c"], OnDisconnect::Fail);
        h.flush_up_to(0, written);
        h.eof(0);
        let told = brief(&mut h);
        let want: Vec<String> = ids.iter().map(|id| format!("{id} {outcome}: ConnectionLost")).collect();
        assert_eq!(told[1..], want, "{written} bytes");
        let conn = h.next_conn();
        h.open(conn);
        assert_eq!(wire(&h, conn), [""; 0]);
    }
}

#[test]
fn members_of_a_batch_are_held_or_sent_again_each_by_itself() {
    // Not one byte of it was written: held for the next connection.
    let mut h = rpc();
    let ids = batch(&mut h, &["a", "b", "c"], OnDisconnect::Hold);
    h.eof(0);
    assert_eq!(brief(&mut h).len(), 1, "none of them failed");
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(wire(&h, conn), ["a", "b", "c"]);
    h.told();
    h.feed(conn, &several(&[ok(ids[1], "2"), ok(ids[0], "1")]));
    assert_eq!(brief(&mut h), [format!("{} = 2", ids[1]), format!("{} = 1", ids[0])]);
    // This time it was: it may have been done.
    h.eof(conn);
    assert_eq!(brief(&mut h)[1..], [format!("{} unknown: ConnectionLost", ids[2])]);

    // Answered, cancelled and unanswered ones of one that is sent again.
    let mut h = rpc();
    let ids = batch(&mut h, &["a", "b", "c", "d"], OnDisconnect::Resend);
    h.flush(0);
    h.feed(0, &result(ids[0], "1"));
    let cancelled = h.told();
    assert_eq!(cancelled.len(), 1);
    let OwnedEvent::Response { id: first, .. } = cancelled[0] else { panic!() };
    assert!(!h.s.cancel(first, h.now));
    h.eof(0);
    let conn = h.next_conn();
    h.open(conn);
    assert_eq!(wire(&h, conn), ["b", "c", "d"]);
    h.told();
    for id in &ids[1..] {
        h.feed(conn, &result(*id, "2"));
    }
    assert_eq!(brief(&mut h), ids[1..].iter().map(|id| format!("{id} = 2")).collect::<Vec<_>>());
}

#[test]
fn a_batch_made_without_a_connection_waits_for_one() {
    let mut h = Harness::new(config().protocol(JsonRpc::new()));
    let two = [Request::new("a"), Request::new("b")];
    assert_eq!(h.s.request_batch(&two, RequestOptions::default(), h.now), Err(SendError::Offline));
    let ids = batch(&mut h, &["a", "b"], OnDisconnect::Hold);
    h.open(0);
    assert_eq!(wire(&h, 0), ["a", "b"]);
    h.told();
    h.feed(0, &several(&[ok(ids[0], "1"), ok(ids[1], "2")]));
    assert_eq!(brief(&mut h), [format!("{} = 1", ids[0]), format!("{} = 2", ids[1])]);
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

/// Takes events as a slow user does: away from the session, for a while, with all else going on. What was told, in short.
fn leased(h: &mut Harness, mut between: impl FnMut(&mut Harness, usize)) -> Vec<String> {
    h.takes = false;
    let mut told = vec![];
    for n in 0.. {
        if h.run() != Stop::Event {
            break;
        }
        let lease = h.s.lease().expect("an event is announced");
        assert_eq!(h.run(), Stop::Event, "nothing moves behind it");
        assert!(h.s.event().is_none() && h.s.lease().is_none());
        for conn in &h.conns {
            assert!(h.s.recv_buffer(conn.id).is_empty(), "its bytes are away");
        }
        between(h, n);
        told.push(in_short(&lease.event().to_owned()));
        h.s.give_back(lease);
    }
    h.takes = true;
    told
}

/// A batch of answers and news, of which some are long, and what is told of it.
fn mixed(h: &mut Harness) -> (Vec<u8>, Vec<String>) {
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    confirm(h, 0, 0);
    h.told();
    let ids = batch(h, &["x", "y"], OnDisconnect::Fail);
    h.flush(0);
    let long = format!("\"{}\"", "z".repeat(3000));
    let parts = [news("a", 1), ok(ids[0], &long), news("b", 2), ok(ids[1], "1"), news("a", 3)];
    let want = [
        "a:1".into(),
        format!("{} = {long}", ids[0]),
        "?b:2".into(),
        format!("{} = 1", ids[1]),
        "a:3".into(),
    ];
    (several(&parts), want.into())
}

#[test]
fn a_batch_waits_for_a_slow_user() {
    // In one frame, and put together from two.
    for whole in [true, false] {
        let mut h = rpc();
        let (bytes, want) = mixed(&mut h);
        h.takes = false;
        if whole {
            h.feed_silently(0, &[bytes, frame(FIN | PING, b"now"), notification("a", 4)].concat());
        } else {
            let payload = &bytes[4..];
            let (front, back) = payload.split_at(100);
            // A ping may come between the frames of a message.
            let frames = [frame(TEXT, front), frame(FIN | PING, b"now"), frame(FIN | CONT, back)];
            h.feed_silently(0, &[frames.concat(), notification("a", 4)].concat());
        }
        let sent = h.texts(0).len();
        let told = leased(&mut h, |h, n| {
            h.now += secs(1);
            h.s.send(Message::Text(&format!("mine {n}")), SendOptions::default(), h.now).unwrap();
            h.flush(0);
        });
        assert_eq!(told, [want, vec!["a:4".into()]].concat());
        let mine: Vec<String> = (0..6).map(|n| format!("mine {n}")).collect();
        assert_eq!(h.texts(0)[sent..], mine, "what he sends goes out meanwhile");
        h.flush(0);
        assert!(h.frames(0).contains(&(FIN | PONG, b"now".to_vec())));
        assert!(!h.s.recv_buffer(h.conns[0].id).is_empty());
    }
}

#[test]
fn a_loss_in_the_middle_of_a_batch_comes_behind_it() {
    for cut in 0..5 {
        let mut h = rpc();
        let (bytes, want) = mixed(&mut h);
        h.takes = false;
        h.feed_silently(0, &bytes);
        let told = leased(&mut h, |h, n| {
            if n == cut {
                h.s.handle_disconnected(h.conns[0].id, everwire_core::Disconnect::Eof, h.now);
            }
        });
        assert_eq!(told[..5], want);
        assert_eq!(told[5..], ["lost: the connection ended without a close frame"]);
    }
}

#[test]
fn a_new_connection_is_made_once_the_batch_is_told() {
    for cut in 0..5 {
        let mut h = rpc();
        let (bytes, want) = mixed(&mut h);
        h.takes = false;
        h.feed_silently(0, &bytes);
        let told = leased(&mut h, |h, n| {
            if n == cut {
                h.s.reconnect(h.now);
            }
        });
        assert_eq!(told[..5], want);
        assert_eq!(told[5..], ["lost: a new connection was asked for"]);
    }
}

#[test]
fn closing_in_the_middle_of_a_batch() {
    for cut in 0..5 {
        let mut h = rpc();
        let (bytes, want) = mixed(&mut h);
        h.takes = false;
        h.feed_silently(0, &bytes);
        let mut told = leased(&mut h, |h, n| {
            if n == cut {
                h.s.close(CloseCode::Normal, "", h.now);
            }
        });
        h.flush(0);
        h.feed(0, &close(1000, ""));
        told.extend(brief(&mut h));
        // Answers that come after the requests were settled are data.
        let data = |line: &String| !line.contains(" = ") && !line.starts_with("message {");
        let data: Vec<&String> = told.iter().filter(|line| data(line)).collect();
        let settled = |id: &str| told.iter().filter(|line| line.starts_with(id)).count();
        for line in want.iter().filter_map(|line| line.split_once(" = ")) {
            assert_eq!(settled(&format!("{} ", line.0)), 1, "{told:?}");
        }
        let news: Vec<&str> =
            data.iter().filter(|line| line.contains(':') && line.len() < 5).map(|line| &***line).collect();
        assert!(news.iter().eq(&["a:1", "?b:2", "a:3"]), "what had arrived is told: {news:?}");
        assert_eq!(told.last().map(|line| &**line), Some("closed None"));
    }
}

#[test]
fn aborting_in_the_middle_of_a_batch() {
    for cut in 0..5 {
        for lease in [true, false] {
            let mut h = rpc();
            let (bytes, _) = mixed(&mut h);
            h.takes = false;
            h.feed_silently(0, &bytes);
            let mut settled = vec![];
            for n in 0.. {
                if h.run() != Stop::Event {
                    break;
                }
                let event = if lease {
                    let lease = h.s.lease().unwrap();
                    if n == cut {
                        h.s.abort(h.now);
                    }
                    let event = lease.event().to_owned();
                    h.s.give_back(lease);
                    event
                } else {
                    // The event that was announced is still there to be taken.
                    if n == cut {
                        h.s.abort(h.now);
                    }
                    h.s.event().unwrap().to_owned()
                };
                settled.push(in_short(&event));
            }
            assert_eq!(h.run(), Stop::Closed);
            let of = |id: u64| settled.iter().filter(|line| line.starts_with(&format!("{id} "))).count();
            let ids: Vec<u64> = (1..10).filter(|id| of(*id) > 0).collect();
            assert_eq!(ids.len(), 2, "{settled:?}");
            assert!(ids.iter().all(|id| of(*id) == 1), "{settled:?}");
            assert_eq!(settled.last().map(|line| &**line), Some("closed None"));
        }
    }
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

    fn request(&self, id: u64, request: &Request<'_>, out: &mut String) -> Result<(), Unsupported> {
        self.count();
        self.0.request(id, request, out)
    }

    fn topics_per_message(&self) -> usize {
        self.count();
        1
    }

    fn subscribe(&self, id: u64, topics: &[&Topic], context: &Context<'_>, out: &mut String) -> Ack {
        self.count();
        self.0.subscribe(id, topics, context, out)
    }

    fn unsubscribe(&self, id: u64, topics: &[&Topic], context: &Context<'_>, out: &mut String) -> Ack {
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
