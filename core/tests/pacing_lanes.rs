//! The rate limiter where things get in each other's way: lanes, lost connections, stalled sockets, other sessions.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod venue;

use common::*;
use everwire_core::protocol::Traffic;
use everwire_core::{CloseOptions, Drain, Limit, OnDisconnect, RequestOptions, SendOptions, SharedLimits};
use std::sync::atomic::Ordering;
use venue::*;

/// Orders are priority messages that begin with "order": two limits hold for them, one for all else.
fn orders(limit: &str, traffic: Traffic<'_>) -> u32 {
    match (limit, traffic) {
        ("orders", Traffic::Request("order")) => 1,
        ("orders", _) => 0,
        _ => 1,
    }
}

fn order(w: &mut Wire) {
    let timeout = Some(secs(200));
    w.request("order", |options| RequestOptions { priority: true, timeout, ..options });
}

#[test]
fn a_lane_that_is_held_back_lets_those_pass_that_need_nothing_of_its_limit() {
    let limits = [exact("orders", 1, secs(100)), exact("all", 2, secs(1))];
    let mut w = Wire::online(Venue::new(limits).costs(orders));
    order(&mut w);
    order(&mut w);
    w.subscribe("a", 0);
    w.send("x");
    w.send("y");
    w.pass(secs(5));
    assert_eq!(w.log(), ["0 req 2 order", "0 sub 4 a", "1000 x", "1000 y"]);
    w.say("ok 4");
    // When its turn comes, what it shares with the others is kept for it.
    w.pass(millis(94_500));
    (0..4).for_each(|n| _ = w.send(&format!("n{n}")));
    w.pass(secs(3));
    assert_eq!(w.log()[4..], ["99500 n0", "99500 n1", "100500 req 3 order", "100500 n2", "101500 n3"]);
}

#[test]
fn nothing_is_taken_from_what_a_more_urgent_message_waits_for() {
    // An order costs three of `all`: cheap messages must not eat the budget up one by one as it comes back.
    let costs = |_: &str, traffic: Traffic<'_>| match traffic {
        Traffic::Request("order") => 3,
        _ => 1,
    };
    let mut w = Wire::online(Venue::new([Limit::credits("all", 3, 1, secs(1))]).costs(costs));
    w.send("a");
    order(&mut w);
    (0..3).for_each(|n| _ = w.send(&format!("n{n}")));
    w.pass(secs(10));
    assert_eq!(w.log(), ["0 a", "1000 req 2 order", "2000 n0", "3000 n1", "4000 n2"]);
}

#[test]
fn within_a_lane_nothing_passes() {
    let costs = |limit: &str, traffic: Traffic<'_>| {
        u32::from(match traffic {
            Traffic::Unsubscribe(_) => limit == "leaves",
            Traffic::Message(5) => limit == "fives",
            _ => false,
        })
    };
    let limits = [exact("leaves", 1, secs(10)), exact("fives", 1, secs(30))];
    let mut w = Wire::online(Venue::new(limits).costs(costs));
    let (a, b) = (w.subscribe("a", 0), w.subscribe("b", 0));
    w.say("ok 2");
    w.say("ok 3");
    w.h.s.unsubscribe(a, w.h.now);
    w.h.s.unsubscribe(b, w.h.now);
    // Were it to pass, the server would end what it has just begun.
    w.subscribe("b", 0);
    for text in ["12345", "67890", "x"] {
        w.send(text);
    }
    w.pass(secs(40));
    let want = [
        "0 sub 2 a",
        "0 sub 3 b",
        "0 unsub 4 a",
        "0 12345",
        "10000 unsub 5 b",
        "10000 sub 6 b",
        "30000 67890",
        "30000 x",
    ];
    assert_eq!(w.log(), want);
}

#[test]
fn nothing_passes_authentication() {
    let costs = |_: &str, traffic: Traffic<'_>| u32::from(matches!(traffic, Traffic::Authenticate));
    let limit = exact("logins", 1, secs(60)).shared("me");
    let venue = Venue::new([limit]).costs(costs).authenticated();
    let shared = SharedLimits::new();
    let share = |config: everwire_core::Config| config.shared_limits(shared.clone());
    let mut first = Wire::new(venue.clone(), share);
    first.note();
    let mut second = Wire::new(venue, share);
    second.subscribe("a", 0);
    second.h.feed(0, &frame(FIN | PING, b"?"));
    second.pass(secs(59));
    assert_eq!((first.log(), second.log()), (&["0 auth 1".to_owned()][..], &["0 PONG ?".to_owned()][..]));
    second.pass(secs(2));
    assert_eq!(second.log()[1..], ["60000 auth 1"]);
    second.say("ok 1");
    assert_eq!(second.told(), ["authenticated"]);
    assert_eq!(second.log()[2..], ["61000 sub 2 a"]);
}

#[test]
fn how_often_it_was_polled_does_not_show() {
    let venue = Venue::new([exact("all", 2, secs(10))]);
    let endings = venue.endings.clone();
    let mut w = Wire::online(venue);
    let (a, b) = (w.subscribe("a", 0), w.subscribe("b", 0));
    w.say("ok 2");
    w.say("ok 3");
    w.h.s.unsubscribe(a, w.h.now);
    for _ in 0..100 {
        w.h.now += millis(1);
        w.note();
    }
    assert_eq!(endings.load(Ordering::Relaxed), 1, "it is written once");
    // What is to be said changes: another topic goes with it.
    w.h.s.unsubscribe(b, w.h.now);
    w.pass(secs(10));
    assert_eq!(w.log(), ["0 sub 2 a", "0 sub 3 b", "10000 unsub 4 a,b"]);
    assert_eq!(endings.load(Ordering::Relaxed), 2);
}

#[test]
fn what_waits_when_the_connection_is_lost() {
    let mut w = Wire::online(Venue::new([exact("all", 2, secs(10))]));
    w.send("1");
    w.request("sent", |options| RequestOptions { on_disconnect: OnDisconnect::Resend, ..options });
    w.send("2");
    w.request("fails", |options| options);
    w.send_with("3", |options| options.priority = true);
    w.request("held", |options| RequestOptions { on_disconnect: OnDisconnect::Hold, ..options });
    w.batch(2, RequestOptions { on_disconnect: OnDisconnect::Hold, ..RequestOptions::default() });
    w.h.feed(0, &frame(FIN | PING, b"?"));
    w.note();
    w.told();
    w.h.eof(0);
    w.note();
    let told = w.told();
    assert_eq!(told, ["lost 4..4 [2, 3] cut None", "RequestId(3) NotSent(ConnectionLost)"]);
    w.reopen();
    assert_eq!(w.told(), ["gap", "online"]);
    let log = w.log().len();
    w.pass(secs(11));
    w.send("4");
    w.pass(secs(100));
    let begun = w.log()[2].split(' ').next().unwrap().to_owned();
    let at: u64 = begun.parse().unwrap();
    assert_eq!(log, 4, "limits begin afresh");
    let want = [
        format!("{at} req 2 sent"),
        format!("{at} req 4 held"),
        format!("{} req 5 m0", at + 10_000),
        format!("{} req 6 m1", at + 10_000),
        format!("{} 4", at + 20_000),
    ];
    assert_eq!(w.log()[2..], want, "nothing twice, and no pong for a ping of the old connection");
}

#[test]
fn a_message_that_was_cut() {
    let mut w = Wire::online(Venue::new([exact("all", 4, secs(10))]));
    w.send("whole");
    w.takes = false;
    w.send("cut");
    w.request("behind", |options| RequestOptions { on_disconnect: OnDisconnect::Hold, ..options });
    w.send_with("urgent", |options| options.priority = true);
    w.send("waits");
    w.write(3);
    w.told();
    w.h.eof(0);
    w.note();
    assert_eq!(w.told(), ["lost 5..5 [3, 4] cut Some(2)"]);
    w.takes = true;
    w.reopen();
    assert_eq!(
        w.log()[1..].iter().map(|line| line.split_once(' ').unwrap().1).collect::<Vec<_>>(),
        ["req 2 behind"]
    );
}

#[test]
fn a_buffer_that_is_never_empty() {
    // These cost nothing, so nothing waits but in the buffer: what was written of it is forgotten now and then.
    let venue = Venue::new([exact("all", 1, secs(10))]).costs(|_, _| 0);
    let mut w = Wire::online(venue);
    w.takes = false;
    for round in 1..=10 {
        (0..400).for_each(|_| _ = w.send("x"));
        // Seven bytes each.
        w.write(7 * 390);
        assert_eq!(w.log().len(), 390 * round);
    }
    w.write(3);
    w.h.eof(0);
    w.note();
    let waiting: Vec<u64> = (3902..=4000).collect();
    assert_eq!(w.told(), [format!("lost 4001..4001 {waiting:?} cut Some(3901)")]);
}

#[test]
fn closing_ends_what_waits() {
    let mut w = Wire::online(Venue::new([exact("all", 1, secs(10))]));
    w.send("1");
    w.send("2");
    w.request("r", |options| options);
    w.send_with("3", |options| options.priority = true);
    w.h.feed(0, &frame(FIN | PING, b"?"));
    w.note();
    w.told();
    w.close(CloseOptions::new().drain(Drain::Nothing));
    assert_eq!(w.told(), ["RequestId(2) NotSent(Closed)"]);
    assert_eq!(w.log(), ["0 1", "0 CLOSE"]);
    w.pass(millis(1));
    w.h.feed_silently(0, &close(1000, ""));
    w.note();
    assert_eq!(w.told(), ["closed unsent 2 3"]);
    assert_eq!(w.log().len(), 2);
}

#[test]
fn an_event_that_nobody_takes_does_not_stop_the_limiter() {
    let mut w = Wire::online(Venue::new([exact("all", 1, secs(10))]));
    for text in ["1", "2", "3"] {
        w.send_with(text, |options| options.timeout = Some(secs(15)));
    }
    w.request("r", |options| RequestOptions { timeout: Some(secs(12)), ..options });
    w.note();
    w.told();
    w.h.takes = false;
    w.h.feed_silently(0, &text("data"));
    assert_eq!(w.h.run(), Stop::Event);
    let begun = w.h.now;
    let mut wakes = vec![];
    while let Some(due) = w.h.s.timeout() {
        assert!(due > w.h.now, "it spins");
        w.h.now = due;
        w.h.s.handle_timeout(due);
        w.h.flush(0);
        wakes.push((due - begun).as_secs());
    }
    assert_eq!(wakes, [10, 12, 15]);
    assert_eq!(w.h.texts(0), ["1", "2"]);
    w.h.takes = true;
    w.note();
    let told: Vec<String> = w.told().into_iter().filter(|told| !told.starts_with("pressure")).collect();
    assert_eq!(told, ["message data", "RequestId(2) NotSent(Timeout)", "expired SendId(3)"]);
}

#[test]
fn sessions_share_the_limits_of_an_account() {
    let venue = Venue::new([exact("account", 3, secs(10)).shared("me"), exact("own", 2, secs(10))]);
    let shared = SharedLimits::new();
    let share = |config: everwire_core::Config| config.shared_limits(shared.clone());
    let mut a = Wire::with(venue.clone(), share);
    let mut b = Wire::with(venue.clone(), share);
    let mut other = Wire::online(venue);
    (0..3).for_each(|n| _ = a.send(&format!("a{n}")));
    (0..3).for_each(|n| _ = b.send(&format!("b{n}")));
    (0..2).for_each(|n| _ = other.send(&format!("o{n}")));
    assert_eq!(other.log(), ["0 o0", "0 o1"], "another configuration has its own");
    // A loss does not give back what is shared; the close frame counts as well.
    b.h.feed(0, &close(1001, ""));
    b.note();
    b.told();
    let (mut left, next) = (a.h.s.budget(a.h.now), ("account", 0, 3));
    assert_eq!(left.next(), Some(next));
    drop(left);
    a.pass(secs(9));
    assert_eq!(a.log(), ["0 a0", "0 a1"]);
    a.pass(secs(1));
    assert_eq!(a.log()[2..], ["10000 a2"]);
    let mut left = a.h.s.budget(a.h.now);
    assert_eq!((left.next(), left.next()), (Some(("account", 2, 3)), Some(("own", 1, 2))));
}

#[test]
fn a_stalled_socket_leads_to_no_burst() {
    let mut w = Wire::online(Venue::new([exact("all", 2, secs(1))]));
    w.takes = false;
    (0..6).for_each(|n| _ = w.send(&n.to_string()));
    w.pass(millis(10_500));
    assert!(w.log().is_empty());
    // The first frame alone counts for nothing yet: the others are on their way as well.
    w.write(7);
    w.pass(secs(2));
    w.takes = true;
    w.pass(secs(10));
    assert_eq!(w.log(), ["10500 0", "12500 1", "13500 2", "13500 3", "14500 4", "14500 5"]);
}

#[test]
fn a_ping_that_waits_is_not_held_against_the_peer() {
    let venue = Venue::new([exact("all", 1, secs(60))]);
    let mut w = Wire::with(venue, |config| config.ping_interval(secs(20)).pong_timeout(secs(10)));
    w.send("x");
    w.pass(secs(65));
    assert_eq!(w.log(), ["0 x", "60000 PING"]);
    assert!(w.told().is_empty(), "it lives");
    w.pass(millis(4999));
    assert!(w.told().is_empty());
    w.pass(millis(1));
    assert_eq!(w.told_when(), ["70000 lost 2..2 [] cut None"], "now it has had its time");
    assert_eq!(w.h.s.status(w.h.now).why, "nothing arrived after a ping");
}

#[test]
fn many_pings_have_one_answer_when_it_may_go() {
    let mut w = Wire::online(Venue::new([exact("all", 1, secs(10))]));
    w.send("x");
    for n in 0..50 {
        w.h.feed(0, &frame(FIN | PING, n.to_string().as_bytes()));
        w.pass(millis(100));
    }
    w.pass(secs(30));
    assert_eq!(w.log(), ["0 x", "10000 PONG 49"]);
}

#[test]
fn a_heartbeat_that_waits_is_not_held_against_the_peer() {
    let venue = Venue::new([exact("all", 1, secs(60))]);
    let mut w = Wire::with(venue, |config| config.heartbeat_interval(secs(10)).heartbeat_timeout(secs(5)));
    w.send("x");
    w.pass(secs(62));
    assert_eq!(w.log(), ["0 x", "60000 beat 2"], "one of those that were due is enough");
    assert!(w.told().is_empty(), "it lives");
    w.pass(secs(3));
    assert_eq!(w.told_when(), ["65000 lost 2..2 [] cut None"]);
    assert_eq!(w.h.s.status(w.h.now).why, "the server did not answer a heartbeat in time");
}

/// Costs that differ by kind and limit; some cost nothing.
fn various(limit: &str, traffic: Traffic<'_>) -> u32 {
    match (limit, traffic) {
        ("frames", _) => 1,
        ("orders", Traffic::Request("order")) => 1,
        ("topics", Traffic::Subscribe(topics) | Traffic::Unsubscribe(topics)) => topics as u32,
        ("credits", Traffic::Message(len)) => len as u32,
        ("credits", Traffic::Request(_)) => 3,
        ("credits", Traffic::Heartbeat) => 2,
        _ => 0,
    }
}

/// What a frame costs at a server that has `various` limits, as it reads it.
fn read(frame: &str) -> [u32; 4] {
    let words: Vec<&str> = frame.split(' ').collect();
    let traffic = match words[0] {
        "PING" => Traffic::Ping,
        "PONG" => Traffic::Pong,
        "CLOSE" => Traffic::Close,
        "sub" => Traffic::Subscribe(words[2].split(',').count()),
        "unsub" => Traffic::Unsubscribe(words[2].split(',').count()),
        "alive" | "beat" => Traffic::Heartbeat,
        "req" => Traffic::Request(words[2]),
        _ => Traffic::Message(frame.len()),
    };
    ["frames", "orders", "topics", "credits"].map(|limit| various(limit, traffic))
}

#[test]
fn a_server_that_counts_never_sees_too_much() {
    const MOST: [u32; 3] = [5, 2, 4];
    const PER: [u64; 3] = [1000, 7000, 3000];
    let mut all = 0;
    for seed in 0..40u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let limits = ["frames", "orders", "topics"].iter().zip(MOST).zip(PER);
        let mut limits: Vec<Limit> = limits.map(|((name, max), per)| exact(name, max, millis(per))).collect();
        limits.push(Limit::credits("credits", 30, 10, secs(1)));
        let mut w = Wire::with(Venue::new(limits).costs(various).batches(3), |config| {
            let config = config.ping_interval(secs(5)).pong_timeout(secs(1000)).queue(50, 500);
            config.heartbeat_interval(secs(4)).heartbeat_timeout(secs(1000)).request_timeout(secs(9))
        });
        let mut topics = vec![];
        for step in 0..1500 {
            match below(16) {
                0..4 => {
                    let mut options = SendOptions::default();
                    options.priority = below(4) == 0;
                    options.timeout = (below(2) == 0).then(|| millis(below(5000)));
                    let text = format!("m{}{}", step % 9, "x".repeat(below(9) as usize));
                    let _ = w.h.s.send(everwire_core::Message::Text(&text), options, w.h.now);
                }
                4..6 => {
                    let method = ["order", "other"][below(2) as usize];
                    let options = RequestOptions { priority: below(2) == 0, ..RequestOptions::default() };
                    let _ = w.h.s.request(everwire_core::Request::new(method), options, w.h.now);
                }
                6 => topics.push(w.subscribe(&below(20).to_string(), below(3) as u8)),
                7 if !topics.is_empty() => {
                    let at = below(topics.len() as u64) as usize;
                    w.h.s.unsubscribe(topics.swap_remove(at), w.h.now);
                }
                8 => w.say("hb"),
                9 => _ = w.h.feed_silently(0, &frame(FIN | PING, b"")),
                10 => w.takes = !w.takes,
                11 => w.write(below(30) as usize),
                12 => w.h.s.handle_timeout(w.h.now),
                _ => w.pass(millis(below(1500))),
            }
            if !w.h.takes || below(3) == 0 {
                w.note();
            }
        }
        w.takes = true;
        w.pass(secs(60));
        let seen: Vec<(u64, [u32; 4])> = w
            .log()
            .iter()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(at, frame)| (at.parse().unwrap(), read(frame)))
            .collect();
        all += seen.len();
        let (mut pool, mut last) = (30_000u64, 0);
        for (index, (at, costs)) in seen.iter().enumerate() {
            for limit in 0..3 {
                let recent = seen[..=index].iter().rev().take_while(|(then, _)| then + PER[limit] > *at);
                let spent: u32 = recent.map(|(_, costs)| costs[limit]).sum();
                assert!(
                    spent <= MOST[limit],
                    "seed {seed}: {spent} of limit {limit} by {:?}",
                    w.log()[index]
                );
            }
            // Milliseconds are cut off: a pool may have a little more than is counted here.
            pool = (pool + (at - last) * 10 + 10).min(30_000);
            last = *at;
            let cost = u64::from(costs[3]) * 1000;
            assert!(cost <= pool, "seed {seed}: {cost} of {pool} by {:?}", w.log()[index]);
            pool -= cost;
        }
        assert_eq!(w.h.s.pressure(), everwire_core::Pressure::None, "all that waited is sent or dropped");
    }
    assert!(all > 40 * 500, "{all} frames are too few to prove anything");
}
