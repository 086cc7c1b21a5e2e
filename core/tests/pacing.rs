//! The rate limiter, as who uses a session sees it: what goes out when, what waits, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod venue;

use common::*;
use everwire_core::protocol::Traffic;
use everwire_core::{
    CloseCode, Limit, Message, OnDisconnect, OwnedOutcome, Pressure, Request, RequestOptions, SendError,
    SendOptions, State, SubscribeOptions, Unanswered,
};
use std::time::Duration;
use venue::*;

fn budget(w: &Wire) -> Vec<(String, u64, u64)> {
    w.h.s.budget(w.h.now).map(|(name, left, of)| (name.to_owned(), left, of)).collect()
}

#[test]
fn a_window_lets_so_many_go_in_any_span() {
    // One of the protocol; the margin of 100 ms is the default for a second.
    let mut w = Wire::online(Venue::new([Limit::window("messages", 3, secs(1))]));
    w.send("a");
    w.pass(millis(300));
    (1..=5).for_each(|n| _ = w.send(&format!("m{n}")));
    w.pass(secs(5));
    assert_eq!(w.log(), ["0 a", "300 m1", "300 m2", "1100 m3", "1400 m4", "1400 m5"]);
}

#[test]
fn all_limits_hold_at_once() {
    let credits = Limit::credits("credits", 4, 1, secs(2));
    let venue = Venue::new([exact("messages", 2, secs(1))]);
    let mut w = Wire::with(venue, |config| config.send_limit(credits));
    (1..=8).for_each(|n| _ = w.send(&format!("m{n}")));
    assert_eq!(budget(&w), [("messages".to_owned(), 0, 2), ("credits".to_owned(), 2, 4)]);
    w.pass(secs(20));
    let want = ["0 m1", "0 m2", "1000 m3", "1000 m4", "2000 m5", "4000 m6", "6000 m7", "8000 m8"];
    assert_eq!(w.log(), want);
    assert_eq!(budget(&w), [("messages".to_owned(), 2, 2), ("credits".to_owned(), 4, 4)]);
}

#[test]
fn what_costs_more_than_there_is_takes_all_of_it() {
    let by_length = |_: &str, traffic: Traffic<'_>| match traffic {
        Traffic::Message(len) => len as u32,
        _ => 0,
    };
    let mut w = Wire::online(Venue::new([exact("bytes", 10, secs(1))]).costs(by_length));
    for text in ["1234", "1234567", "0123456789abcdef", "12", "1"] {
        w.send(text);
    }
    w.pass(secs(10));
    assert_eq!(w.log(), ["0 1234", "1000 1234567", "2000 0123456789abcdef", "3000 12", "3000 1"]);
}

#[test]
fn each_kind_of_traffic_costs_what_the_protocol_says() {
    let costs = |_: &str, traffic: Traffic<'_>| match traffic {
        Traffic::Ping => 1,
        Traffic::Pong => 2,
        Traffic::Heartbeat => 4,
        Traffic::Authenticate => 8,
        Traffic::Subscribe(topics) => 16 * topics as u32,
        Traffic::Unsubscribe(topics) => 128 * topics as u32,
        Traffic::Request("cheap") => 512,
        Traffic::Request(_) => 1024,
        Traffic::Message(len) => 2048 * len as u32,
        Traffic::Close => 16384,
        _ => unreachable!("there are no others"),
    };
    // Of an account, so that the end of the connection does not give it back.
    let limit = exact("all", 1 << 20, secs(3600)).shared("me");
    let venue = Venue::new([limit]).costs(costs).authenticated();
    let mut w = Wire::new(venue, |config| config.ping_interval(secs(50)).pong_timeout(secs(5)));
    let mut before = 1 << 20;
    let mut spent = |w: &Wire| {
        let left = budget(w)[0].1;
        std::mem::replace(&mut before, left) - left
    };
    w.note();
    assert_eq!(spent(&w), 8);
    w.say("ok 1");
    let a = w.subscribe("a", 0);
    assert_eq!(spent(&w), 16);
    w.say("ok 2");
    let b = w.subscribe("b", 0);
    w.say("ok 3");
    assert_eq!(spent(&w), 16);
    w.h.feed(0, &frame(FIN | PING, b"?"));
    assert_eq!(spent(&w), 2);
    w.say("hb");
    assert_eq!(spent(&w), 4);
    w.request("cheap", |options| options);
    w.request("dear", |options| options);
    assert_eq!(spent(&w), 512 + 1024);
    let now = w.h.now;
    w.h.s
        .request_batch(&[Request::new("cheap"), Request::new("dear")], RequestOptions::default(), now)
        .unwrap();
    assert_eq!(spent(&w), 512 + 1024);
    w.send("abc");
    assert_eq!(spent(&w), 3 * 2048);
    w.h.s.unsubscribe(a, w.h.now);
    w.h.s.unsubscribe(b, w.h.now);
    assert_eq!(spent(&w), 2 * 128);
    w.pass(secs(50));
    assert_eq!(spent(&w), 1);
    w.h.s.close(CloseCode::Normal, "", w.h.now);
    assert_eq!(spent(&w), 16384);
}

#[test]
fn the_most_urgent_goes_first_when_all_wait() {
    let venue = Venue::new([exact("all", 1, secs(1))]);
    let mut w = Wire::with(venue, |config| config.ping_interval(millis(500)).pong_timeout(secs(60)));
    let topic = w.subscribe("gone", 0);
    w.pass(millis(100));
    w.say("ok 2");
    w.send("u1");
    w.request("u2", |options| options);
    w.subscribe("low", 0);
    w.h.s.unsubscribe(topic, w.h.now);
    w.subscribe("high", 9);
    w.send_with("p1", |options| options.priority = true);
    w.request("p2", |options| RequestOptions { priority: true, ..options });
    w.say("hb");
    w.h.feed(0, &frame(FIN | PING, b"old"));
    w.h.feed(0, &frame(FIN | PING, b"new"));
    w.pass(secs(30));
    let want = [
        "0 sub 2 gone",
        "1000 PONG new",
        "2000 alive 5",
        "3000 PING",
        "4000 p1",
        "5000 req 4 p2",
        "6000 unsub 6 gone",
        "7000 sub 7 high,low",
        "8000 u1",
        "9000 req 3 u2",
    ];
    assert_eq!(w.log(), want);
}

#[test]
fn restore_is_paced_and_comes_before_the_user() {
    let venue = Venue::new([exact("all", 2, secs(1))]).authenticated().batches(2);
    let mut w = Wire::new(venue, |config| config);
    w.note();
    for (topic, priority) in [("a", 1), ("b", 0), ("c", 5), ("d", 5), ("e", 0)] {
        let mut options = SubscribeOptions::default();
        options.priority = priority;
        w.h.s.subscribe(topic, options, w.h.now);
    }
    w.request("held", |options| RequestOptions { on_disconnect: OnDisconnect::Hold, ..options });
    let first = |options| RequestOptions { on_disconnect: OnDisconnect::Resend, priority: true, ..options };
    w.request("first", first);
    w.say("ok 1");
    w.pass(millis(1500));
    assert_eq!(w.h.s.state(), State::Restoring);
    assert_eq!(w.log(), ["0 auth 1", "0 sub 4 c,d", "1000 sub 5 a,b", "1000 sub 6 e"]);
    w.say("ok 4");
    w.say("ok 5");
    assert_eq!(w.h.s.send(Message::Text("no"), SendOptions::default(), w.h.now), Err(SendError::Offline));
    assert!(!w.told().contains(&"online".to_owned()));
    w.say("ok 6");
    assert_eq!(w.told(), ["+e", "online"]);
    w.send("user");
    w.pass(secs(5));
    assert_eq!(w.log()[4..], ["2000 req 3 first", "2000 req 2 held", "3000 user"]);
}

#[test]
fn what_waits_too_long_is_not_sent() {
    let mut w = Wire::with(Venue::new([exact("all", 1, secs(10))]), |config| config.queue_timeout(secs(15)));
    w.send("now");
    let late = w.send_with("late", |options| options.timeout = Some(millis(9999)));
    let exact = w.send_with("exact", |options| options.timeout = Some(secs(10)));
    let default = w.send("default");
    let never = w.send_with("never", |options| options.timeout = Some(Duration::ZERO));
    w.pass(secs(60));
    assert_eq!(w.log(), ["0 now", "10000 exact"]);
    let want = [(0, never), (9999, late), (15000, default)].map(|(at, id)| format!("{at} expired {id:?}"));
    assert_eq!(w.told_when(), want);
    let nothing = w.send_with("at once or never", |options| options.timeout = Some(Duration::ZERO));
    w.pass(secs(60));
    assert_eq!(w.log()[2..], ["60000 at once or never"], "{exact:?} {nothing:?}");
    assert!(w.told().is_empty());
}

#[test]
fn what_is_late_is_not_sent_because_the_process_slept() {
    // The driver comes back after both the limit and the deadline: an order that is late is worse than none.
    for through_timeout in [false, true] {
        let mut w = Wire::online(Venue::new([exact("all", 1, secs(10))]));
        w.send("now");
        let late = w.send_with("late", |options| options.timeout = Some(secs(15)));
        let request = w.request("late", |options| RequestOptions { timeout: Some(secs(15)), ..options });
        let batch = w.batch(2, RequestOptions { timeout: Some(secs(15)), ..RequestOptions::default() });
        let last = w.send_with("in time", |options| options.timeout = Some(secs(3000)));
        w.note();
        w.h.now += secs(1000);
        if through_timeout {
            w.h.s.handle_timeout(w.h.now);
        }
        w.note();
        assert_eq!(w.log(), ["0 now", "1000000 in time"], "{last:?}");
        let mut told = w.told();
        told.sort();
        let mut want = vec![format!("expired {late:?}")];
        want.extend([request, batch[0], batch[1]].map(|id| format!("{id:?} NotSent(Timeout)")));
        want.sort();
        assert_eq!(told, want);
    }
}

#[test]
fn requests_that_end_while_they_wait_cost_nothing_and_give_up_their_places() {
    let mut w = Wire::with(Venue::new([exact("all", 1, secs(10))]), |config| config.queue(3, 1000));
    w.send("now");
    let first = w.send("head");
    let cancelled = w.request("cancelled", |options| options);
    let expired = w.request("expired", |options| RequestOptions { timeout: Some(secs(2)), ..options });
    w.note();
    assert_eq!(w.told().pop().unwrap(), "pressure High 3 30s");
    assert_eq!(w.h.s.pressure(), Pressure::High);
    assert_eq!(w.h.s.send(Message::Text("x"), SendOptions::default(), w.h.now), Err(SendError::Full));
    assert!(w.h.s.cancel(cancelled, w.h.now));
    assert!(!w.h.s.cancel(cancelled, w.h.now));
    w.note();
    assert_eq!(w.told(), [format!("{cancelled:?} NotSent(Cancelled)"), "pressure Medium 2 20s".to_owned()]);
    w.pass(secs(2));
    let want =
        [format!("{expired:?} NotSent(Timeout)"), "writable".to_owned(), "pressure Low 1 8s".to_owned()];
    assert_eq!(w.told(), want);
    let last = w.request("last", |options| options);
    w.pass(secs(60));
    assert_eq!(w.log(), ["0 now", "10000 head", "20000 req 4 last"], "{first:?} {last:?}");
}

#[test]
fn the_bytes_of_requests_count_in_the_queue() {
    let mut w = Wire::with(Venue::new([exact("all", 1, secs(10))]), |config| config.queue(100, 30));
    w.send("now");
    // "req 2 0123456789" are 16 bytes.
    w.request("0123456789", |options| options);
    let now = w.h.now;
    let refused = w.h.s.request(Request::new("0123456789"), RequestOptions::default(), now);
    assert_eq!(refused, Err(SendError::Full));
    assert_eq!(w.h.s.send(Message::Text(&"x".repeat(15)), SendOptions::default(), now), Err(SendError::Full));
    w.send(&"x".repeat(14));
}

#[test]
fn a_batch_of_which_one_is_cancelled_is_sent_without_it() {
    let mut w = Wire::online(Venue::new([exact("all", 3, secs(10))]));
    (0..2).for_each(|_| _ = w.send("x"));
    let ids = w.batch(3, RequestOptions::default());
    let whole = w.batch(2, RequestOptions::default());
    let dead = w.batch(2, RequestOptions::default());
    assert!(w.h.s.cancel(ids[1], w.h.now));
    assert!(dead.iter().all(|id| w.h.s.cancel(*id, w.h.now)));
    w.note();
    let again = RequestOptions { id: Some(ids[1].as_u64()), ..RequestOptions::default() };
    let refused = w.h.s.request(Request::new("again"), again, w.h.now);
    assert_eq!(refused, Err(SendError::DuplicateId(ids[1].as_u64())), "its message is still to go");
    assert_eq!(w.h.s.budget(w.h.now).next(), Some(("all", 1, 3)));
    w.send("last");
    w.pass(secs(60));
    let want = ["0 x", "0 x", "10000 req 2 m0", "10000 req 4 m2", "20000 batch 5 6", "20000 last"];
    assert_eq!(w.log(), want, "{whole:?}");
}

#[test]
fn a_full_queue_refuses_and_says_when_there_is_room() {
    let mut w = Wire::with(Venue::new([exact("all", 1, secs(1))]), |config| config.queue(4, 1000));
    (0..5).for_each(|n| _ = w.send(&n.to_string()));
    w.note();
    // Levels that nobody took meanwhile are out of date. Three of four are high, and four are no other level.
    assert_eq!(w.told(), ["pressure High 3 3s"]);
    let refused = w.h.s.send(Message::Text("refused"), SendOptions::default(), w.h.now);
    assert_eq!(refused, Err(SendError::Full));
    let refused = w.h.s.request(Request::new("refused"), RequestOptions::default(), w.h.now);
    assert_eq!(refused, Err(SendError::Full));
    w.pass(secs(10));
    let want =
        ["2000 writable", "2000 pressure Medium 2 2s", "3000 pressure Low 1 1s", "4000 pressure None 0 0ns"];
    assert_eq!(w.told_when(), want);
    assert_eq!(w.log(), ["0 0", "1000 1", "2000 2", "3000 3", "4000 4"]);
    assert_eq!(w.h.s.pressure(), Pressure::None);
}

#[test]
fn with_a_queue_of_nothing_what_cannot_go_now_is_refused() {
    for (messages, bytes) in [(0, 0), (0, 1000), (1000, 0)] {
        let mut w =
            Wire::with(Venue::new([exact("all", 2, secs(1))]), |config| config.queue(messages, bytes));
        assert_eq!(w.send("1").as_u64(), 1);
        let now = w.h.now;
        w.request("2", |options| options);
        for priority in [false, true] {
            let mut options = SendOptions::default();
            options.priority = priority;
            assert_eq!(w.h.s.send(Message::Text("no"), options, now), Err(SendError::Full));
            let options = RequestOptions { priority, ..RequestOptions::default() };
            assert_eq!(w.h.s.request(Request::new("no"), options.clone(), now), Err(SendError::Full));
            let batch = w.h.s.request_batch(&[Request::new("no"); 2], options, now);
            assert_eq!(batch, Err(SendError::Full));
        }
        w.note();
        assert!(w.told().is_empty(), "nothing waits, so there is no pressure, and there is no room yet");
        w.pass(secs(1));
        assert_eq!(w.told_when(), ["1000 writable"], "once, when there is");
        assert_eq!(w.send("3").as_u64(), 2, "a refused message has taken no id");
        w.pass(secs(100));
        assert_eq!(w.log()[..2], ["0 1", "0 req 2 2"]);
        assert_eq!(w.log()[2..], ["1000 3"]);
        let OwnedOutcome::SentUnknown(Unanswered::Timeout) = w.outcomes()[0].1 else {
            panic!("only one request")
        };
        assert_eq!(w.outcomes().len(), 1);
    }
}
