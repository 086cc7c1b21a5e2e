//! Several requests in one message, and what a batch that arrives holds: whatever is done while it is told.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{
    CloseCode, Disconnect, JsonRpc, Message, OnDisconnect, OwnedEvent, Request, RequestId, RequestOptions,
    SendError, SendOptions, SubscribeOptions,
};

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

/// Whichever part of a batch is with the user when the connection is to end, all of it is told, and then this.
fn ends_behind_a_batch(end: impl Fn(&mut Harness), last: &str) {
    for cut in 0..5 {
        let mut h = rpc();
        let (bytes, want) = mixed(&mut h);
        h.takes = false;
        h.feed_silently(0, &bytes);
        let told = leased(&mut h, |h, n| {
            if n == cut {
                end(h);
            }
        });
        assert_eq!(told, [want, vec![last.into()]].concat());
    }
}

#[test]
fn a_loss_in_the_middle_of_a_batch_comes_behind_it() {
    let end = |h: &mut Harness| h.s.handle_disconnected(h.conns[0].id, Disconnect::Eof, h.now);
    ends_behind_a_batch(end, "lost: the connection ended without a close frame");
}

#[test]
fn a_new_connection_is_made_once_the_batch_is_told() {
    ends_behind_a_batch(|h| h.s.reconnect(h.now), "lost: a new connection was asked for");
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
