//! What is done when nothing comes, or nothing goes: heartbeats, watches, probes, the time to write.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::protocol::{Ack, Context, Inbound, Unsupported};
use everwire_core::{
    Config, JsonRpc, Message, OwnedEvent, Protocol, Request, SendOptions, State, Step, SubscribeOptions,
    SubscriptionState, Topic, Watch,
};
use std::time::Duration;

/// A protocol of words: `tick` wants a `tock`, `beat` is answered by `ok` without a number.
#[derive(Debug)]
struct Words;

impl Protocol for Words {
    fn classify<'m>(&self, text: &'m str) -> Inbound<'m> {
        match text {
            "tick" => Inbound::Heartbeat,
            "ok" => Inbound::HeartbeatAnswer,
            _ => Inbound::data(text.split_once(' ').map(|(topic, _)| topic)),
        }
    }

    fn request(&self, _: u64, _: &Request<'_>, _: &Context<'_>, _: &mut String) -> Result<(), Unsupported> {
        Err(Unsupported { reason: "words only".into() })
    }

    fn topics_per_message(&self) -> usize {
        1
    }

    fn subscribe(
        &self,
        _: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        out.push_str(&format!("+{}", topics[0].name()));
        Ok(Ack::None)
    }

    fn unsubscribe(
        &self,
        _: u64,
        topics: &[&Topic],
        _: &Context<'_>,
        out: &mut String,
    ) -> Result<Ack, Unsupported> {
        out.push_str(&format!("-{}", topics[0].name()));
        Ok(Ack::None)
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }

    fn heartbeat(&self, _: u64, _: &Context<'_>, out: &mut String) -> Ack {
        out.push_str("beat");
        Ack::Response
    }

    fn heartbeat_reply(&self, _: &str, _: u64, out: &mut String) {
        out.push_str("tock");
    }
}

fn watched(watch: Watch) -> SubscribeOptions {
    let mut options = SubscribeOptions::default();
    options.watch = Some(watch);
    options
}

fn words(config: Config) -> Harness {
    Harness::online(config.protocol(Words))
}

/// Time passes; every ping on the way is answered at once, and every call confirmed.
fn advance_answered(h: &mut Harness, conn: usize, by: Duration) {
    let end = h.now + by;
    let mut seen = h.frames(conn).len();
    while h.now < end {
        let step = match h.run() {
            Stop::Wait(Some(due)) if due <= end => due - h.now,
            _ => end - h.now,
        };
        h.advance(step);
        h.flush(conn);
        while let Some((first, payload)) = h.frames(conn).get(seen).cloned() {
            seen += 1;
            if first == FIN | PING {
                h.feed(conn, &frame(FIN | PONG, &payload));
            }
            let text = String::from_utf8(payload).unwrap_or_default();
            let call: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(id) = call["id"].as_u64() {
                h.feed(conn, &result(id, r#""ok""#));
            }
        }
    }
}

#[test]
fn heartbeats_are_answered_by_their_number() {
    let protocol = JsonRpc::new().heartbeat("ping", Some(r#"{"n":1}"#)).unwrap();
    let config = config().protocol(protocol).heartbeat_interval(secs(10)).heartbeat_timeout(secs(4));
    let mut h = Harness::online(config);
    h.advance(millis(9999));
    h.flush(0);
    assert_eq!(wire(&h, 0), [""; 0]);
    h.advance(millis(1));
    h.flush(0);
    assert!(h.texts(0)[0].ends_with(r#""method":"ping","params":{"n":1}}"#));
    h.advance(secs(3));
    let first = last_id(&h, 0, "ping");
    h.feed(0, &result(first, "{}"));
    assert_eq!(h.s.latency().ping.map(|ping| (ping.count, ping.last)), Some((1, secs(3))));
    // An error is an answer as well; the next is due an interval after the last was sent.
    h.advance(secs(7));
    h.flush(0);
    let second = last_id(&h, 0, "ping");
    assert_ne!(first, second);
    h.feed(0, &rpc_error(second, "busy"));
    assert_eq!(h.s.latency().ping.map(|ping| (ping.count, ping.last)), Some((2, secs(0))));
    h.advance(secs(10));
    h.flush(0);
    // The answer to an older one is none to this one, and nothing from a stranger is either, but it is data: the server does its work.
    h.feed(0, &result(first, "{}"));
    assert!(matches!(&h.told()[..], [OwnedEvent::Message { .. }]));
    assert_eq!(h.s.state(), State::Online);
}

#[test]
fn a_heartbeat_that_is_missed_ends_the_connection() {
    let protocol = JsonRpc::new().heartbeat("ping", None).unwrap();
    let config = config().protocol(protocol).heartbeat_interval(secs(10)).heartbeat_timeout(secs(4));
    let mut h = Harness::online(config.ping_interval(secs(3)).pong_timeout(secs(2)));
    // Pings are answered all along: the server's front lives, what is behind it does not.
    let mut seen = 0;
    while h.now < start().instant + millis(13_999) {
        h.advance(millis(500).min(start().instant + millis(13_999) - h.now));
        h.flush(0);
        for (first, payload) in h.frames(0).split_off(seen) {
            seen += 1;
            if first == FIN | PING {
                h.feed(0, &frame(FIN | PONG, &payload));
            }
        }
    }
    assert!(brief(&mut h).iter().all(|event| event.starts_with("pong ")));
    h.advance(millis(1));
    h.flush(0);
    assert_eq!(brief(&mut h), ["lost: the server did not answer a heartbeat in time"]);
    assert_eq!(h.close_frame(0), Some((1001, String::new())));
    // It begins anew with the next connection.
    let conn = h.next_conn();
    h.open(conn);
    advance_answered(&mut h, conn, secs(10));
    assert_eq!(wire(&h, conn), ["ping"]);
}

#[test]
fn data_in_place_of_the_answer_is_life() {
    let protocol = JsonRpc::new().heartbeat("ping", None).unwrap();
    let config = config().protocol(protocol).heartbeat_interval(secs(10)).heartbeat_timeout(secs(4));
    let mut h = Harness::online(config);
    h.advance(secs(12));
    h.feed(0, &notification("a", 1));
    h.advance(secs(7));
    h.flush(0);
    assert_eq!((wire(&h, 0).len(), brief(&mut h)), (1, vec!["?a:1".to_owned()]));
    h.advance(secs(1));
    h.flush(0);
    assert_eq!(wire(&h, 0), ["ping", "ping"]);
    h.advance(millis(3999));
    assert_eq!(h.s.state(), State::Online);
    h.advance(millis(1));
    assert_eq!(brief(&mut h), ["lost: the server did not answer a heartbeat in time"]);
}

#[test]
fn heartbeats_without_numbers() {
    let mut h = words(config().heartbeat_interval(secs(10)).heartbeat_timeout(secs(4)));
    for round in 1..=5 {
        h.advance(secs(if round == 1 { 10 } else { 9 }));
        h.flush(0);
        assert_eq!(h.texts(0).len(), round);
        h.advance(secs(1));
        h.feed(0, &text("ok"));
        assert_eq!(h.s.latency().ping.map(|ping| (ping.count, ping.last)), Some((round as u64, secs(1))));
    }
    // One that nobody waits for means nothing.
    h.feed(0, &text("ok"));
    assert_eq!(h.s.latency().ping.map(|ping| ping.count), Some(5));
    h.advance(secs(13));
    assert_eq!(brief(&mut h), ["lost: the server did not answer a heartbeat in time"]);
}

#[test]
fn heartbeats_of_the_server_are_answered_and_not_told() {
    let matches = |params: &str| params.contains("test_request");
    let protocol = JsonRpc::new().heartbeat_reply("heartbeat", matches, "public/test");
    let mut h = Harness::online(config().protocol(protocol));
    let beat = |kind: &str| text(&format!(r#"{{"method":"heartbeat","params":{{"type":"{kind}"}}}}"#));
    h.feed(0, &[beat("heartbeat"), beat("test_request")].concat());
    assert_eq!(wire(&h, 0), ["public/test"]);
    let id = last_id(&h, 0, "public/test");
    h.feed(0, &result(id, r#"{"version":"1"}"#));
    assert_eq!(brief(&mut h), [""; 0], "nor is the answer to ours");
    assert_eq!(h.s.latency().request.map(|request| request.count), Some(1));
    // Also while it is not online yet, and while the user does not take what is there.
    h.takes = false;
    h.feed_silently(0, &[notification("x", 1), beat("test_request")].concat());
    h.flush(0);
    assert_eq!(wire(&h, 0), ["public/test"], "what is behind an event is not parsed");
    h.takes = true;
    h.run();
    h.flush(0);
    assert_eq!(wire(&h, 0), ["public/test", "public/test"]);
}

#[test]
fn a_flood_of_heartbeats_takes_no_memory() {
    let mut h = words(config());
    let flood = text("tick").repeat(100_000);
    let fed = h.feed_silently(0, &flood);
    assert!(fed < flood.len() / 2, "it stops reading: {fed}");
    assert!(h.s.queued() < 64 * 1024, "{} bytes wait", h.s.queued());
    assert!(h.s.recv_buffer(h.conns[0].id).is_empty());
    // The user is not held back by it.
    h.s.send(Message::Text("mine"), SendOptions::default(), h.now).unwrap();
    let mut rest = &flood[fed..];
    while !rest.is_empty() {
        h.flush(0);
        let fed = h.feed_silently(0, rest);
        assert!(fed > 0, "read on once the answers are written");
        rest = &rest[fed..];
    }
    h.flush(0);
    let texts = h.texts(0);
    assert_eq!(texts.iter().filter(|text| *text == "tock").count(), 100_000);
    assert_eq!(texts.iter().filter(|text| *text == "mine").count(), 1);
    assert_eq!(brief(&mut h), [""; 0]);
}

#[test]
fn silence_of_the_connection_is_probed_then_resubscribed_then_left() {
    let watch = Watch::after(secs(10)).up_to(Step::Reconnect);
    let mut h = Harness::online(config().protocol(JsonRpc::new()).data_watch(watch).pong_timeout(secs(3)));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    confirm(&mut h, 0, 0);
    h.told();
    advance_answered(&mut h, 0, millis(9999));
    assert_eq!(brief(&mut h), [""; 0]);
    advance_answered(&mut h, 0, millis(1));
    assert_eq!(brief(&mut h), ["stale - 10s Probe", "pong 0ns"]);
    assert_eq!(h.frames(0).last().map(|(first, _)| *first), Some(FIN | PING));
    h.advance(secs(10));
    h.flush(0);
    assert_eq!(brief(&mut h), ["stale - 20s Resubscribe"]);
    assert_eq!(wire(&h, 0), ["subscribe a", "unsubscribe a"]);
    h.advance(millis(9999));
    assert_eq!(brief(&mut h), [""; 0]);
    h.advance(millis(1));
    h.flush(0);
    let lost = "lost: no data arrived for too long, although the connection answers";
    assert_eq!(brief(&mut h), ["stale - 30s Reconnect", lost]);
    assert_eq!(h.close_frame(0), Some((1001, String::new())));
    // A quiet market is left once, not for ever.
    let conn = h.next_conn();
    h.open(conn);
    confirm(&mut h, conn, 0);
    assert_eq!(brief(&mut h), ["gap a Reconnect", "+a", "online true"]);
    h.advance(secs(10_000));
    assert_eq!((brief(&mut h).len(), h.s.state()), (0, State::Online));
    // Any message arms it again.
    h.feed(conn, &notification("b", 1));
    h.advance(secs(10));
    assert_eq!(brief(&mut h), ["?b:1", "stale - 10s Probe"]);
}

#[test]
fn answers_are_no_data() {
    let protocol = JsonRpc::new().heartbeat("beat", None).unwrap();
    let watch = Watch::after(secs(10)).up_to(Step::Reconnect);
    let config = config().protocol(protocol).heartbeat_interval(secs(3)).data_watch(watch);
    let mut h = Harness::online(config.ping_interval(secs(4)));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    advance_answered(&mut h, 0, secs(30));
    let told: Vec<String> = brief(&mut h).into_iter().filter(|event| !event.starts_with("pong")).collect();
    let want = [
        "+a",
        "stale - 10s Probe",
        "stale - 20s Resubscribe",
        "gap a Silence",
        "+a",
        "stale - 30s Reconnect",
        "lost: no data arrived for too long, although the connection answers",
    ];
    assert_eq!(told, want, "a feed that is dead behind a server that lives");
}

#[test]
fn a_probe_without_an_answer_ends_the_connection() {
    let watch = Watch::after(secs(10)).up_to(Step::Probe);
    let mut h = Harness::online(config().data_watch(watch).pong_timeout(secs(3)));
    h.advance(millis(12_999));
    assert_eq!(brief(&mut h), ["stale - 10s Probe"]);
    h.advance(millis(1));
    assert_eq!(brief(&mut h), ["lost: nothing arrived after a ping"]);
}

#[test]
fn a_silent_topic_is_made_anew_by_itself() {
    let mut h = Harness::online(config().protocol(JsonRpc::new()));
    let a = h.s.subscribe("a", watched(Watch::after(secs(10)).up_to(Step::Reconnect)), h.now);
    h.s.subscribe("b", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    confirm(&mut h, 0, 0);
    h.told();
    let begun = h.now;
    let mut n = 0;
    let busy = |h: &mut Harness, until: u64, n: &mut u32| {
        while h.now < begun + secs(until) {
            advance_answered_pings(h, secs(1));
            *n += 1;
            h.feed(0, &notification("b", *n));
        }
        h.told().iter().map(in_short).filter(|event| !event.starts_with("b:")).collect::<Vec<_>>()
    };
    h.feed(0, &notification("a", 1));
    assert_eq!(busy(&mut h, 9, &mut n), ["a:1"]);
    assert_eq!(busy(&mut h, 10, &mut n), ["stale a 10s Probe", "pong 0ns"]);
    assert_eq!(busy(&mut h, 19, &mut n), [""; 0]);
    assert_eq!(busy(&mut h, 20, &mut n), ["stale a 20s Resubscribe"]);
    assert_eq!(wire(&h, 0), ["subscribe a", "subscribe b", "unsubscribe a"]);
    let state = |h: &Harness| h.s.subscriptions().next().map(|s| (s.id, s.state));
    assert_eq!(state(&h), Some((a, SubscriptionState::Stale)));
    let id = last_id(&h, 0, "unsubscribe");
    h.feed(0, &result(id, r#"["a"]"#));
    assert_eq!(wire(&h, 0)[3..], ["subscribe a"]);
    assert_eq!(state(&h), Some((a, SubscriptionState::Pending)));
    assert_eq!(busy(&mut h, 25, &mut n), [""; 0]);
    let id = last_id(&h, 0, "subscribe");
    h.feed(0, &result(id, r#"["a"]"#));
    assert_eq!(busy(&mut h, 26, &mut n), ["gap a Silence", "+a"], "what may have been missed is told");
    // It is in force since 25 s: the next step has its full time from there.
    assert_eq!(busy(&mut h, 34, &mut n), [""; 0]);
    let lost = "lost: no data arrived for too long, although the connection answers";
    assert_eq!(busy(&mut h, 35, &mut n), ["stale a 35s Reconnect", lost]);
}

/// The same, but only pings are answered.
fn advance_answered_pings(h: &mut Harness, by: Duration) {
    let seen = h.frames(0).len();
    h.advance(by);
    h.flush(0);
    for (first, payload) in h.frames(0).split_off(seen) {
        if first == FIN | PING {
            h.feed(0, &frame(FIN | PONG, &payload));
        }
    }
}

#[test]
fn data_of_a_topic_calms_its_watch() {
    let mut h = words(config());
    h.s.subscribe("a", watched(Watch::after(secs(10))), h.now);
    for n in 0..50 {
        h.advance(millis(9999));
        h.feed(0, &text(&format!("a {n}")));
    }
    h.flush(0);
    assert_eq!(h.told().len(), 51, "confirmed, and 50 messages");
    assert_eq!(h.texts(0), ["+a"]);
    // The default goes as far as to subscribe anew, and then rests.
    h.feed(0, &text("a 50"));
    advance_answered(&mut h, 0, secs(10_000));
    let want =
        ["message a 50", "stale a 10s Probe", "pong 0ns", "stale a 20s Resubscribe", "gap a Silence", "+a"];
    assert_eq!(brief(&mut h), want);
    assert_eq!(h.texts(0), ["+a", "-a", "+a"]);
}

#[test]
fn a_quiet_market_with_answered_probes_never_reconnects() {
    let config = config().protocol(JsonRpc::new()).data_watch(Watch::after(secs(60)));
    let mut h = Harness::online(config.ping_interval(secs(20)).pong_timeout(secs(10)));
    h.s.subscribe("a", watched(Watch::after(secs(30))), h.now);
    h.run();
    h.flush(0);
    confirm(&mut h, 0, 0);
    advance_answered(&mut h, 0, secs(4 * 3600));
    assert_eq!((h.conns.len(), h.s.state(), h.s.status(h.now).epoch.as_u64()), (1, State::Online, 1));
    let stale = |event: &String| event.starts_with("stale");
    let told: Vec<String> = brief(&mut h).into_iter().filter(stale).collect();
    let want =
        ["stale a 30s Probe", "stale - 60s Probe", "stale a 60s Resubscribe", "stale - 120s Resubscribe"];
    assert_eq!(told.iter().map(|event| &**event).collect::<std::collections::BTreeSet<_>>(), want.into());
    assert_eq!(told.len(), 4, "each step once: {told:?}");
}

/// A session with pings, heartbeats, and watches over its topic and over all that end the connection.
fn watched_in_every_way() -> Harness {
    let protocol = JsonRpc::new().heartbeat("beat", None).unwrap();
    let config = config().protocol(protocol).heartbeat_interval(secs(10)).heartbeat_timeout(secs(4));
    let watch = Watch::after(secs(30)).up_to(Step::Reconnect);
    let mut h = Harness::online(config.ping_interval(secs(20)).pong_timeout(secs(10)).data_watch(watch));
    h.s.subscribe("a", watched(watch), h.now);
    h.run();
    h.flush(0);
    confirm(&mut h, 0, 0);
    h
}

#[test]
fn a_process_that_slept_finds_its_connection_alive() {
    let mut h = watched_in_every_way();
    // With a ping, a heartbeat and bytes to be written on their way.
    for asleep in [secs(19), secs(21), secs(3600), secs(86_400)] {
        h.s.send(Message::Text("x"), SendOptions::default(), h.now).unwrap();
        h.run();
        h.now += asleep;
        h.run();
        h.flush(0);
        h.now += millis(100);
        h.run();
        let mut pings = h.frames(0).into_iter().filter(|(first, _)| *first == FIN | PING);
        if let Some((_, payload)) = pings.next_back() {
            h.feed(0, &frame(FIN | PONG, &payload));
        }
        if wire(&h, 0).iter().any(|text| text == "beat") {
            let id = last_id(&h, 0, "beat");
            h.feed(0, &result(id, "1"));
        }
        h.feed(0, &notification("a", 1));
        advance_answered(&mut h, 0, secs(9));
        assert_eq!((h.s.state(), h.conns.len()), (State::Online, 1), "{:?}", brief(&mut h));
    }
}

#[test]
fn a_clock_that_goes_back_is_harmless() {
    let mut h = watched_in_every_way();
    for n in 0..50 {
        advance_answered(&mut h, 0, secs(20));
        h.feed(0, &notification("a", n));
    }
    h.now -= secs(900);
    for n in 0..100 {
        advance_answered(&mut h, 0, secs(20));
        h.feed(0, &notification("a", n));
        assert_eq!(h.conns.len(), 1, "{:?}", brief(&mut h));
    }
    assert_eq!(h.s.state(), State::Online);
}

#[test]
fn a_socket_that_takes_nothing_is_given_up() {
    // `config()` alone is the fast path: one open connection and nothing to read into messages.
    for protocol in [false, true] {
        let config = config().write_timeout(secs(30));
        let mut h = Harness::online(if protocol { config.protocol(Words) } else { config });
        h.advance(secs(5));
        let id = h.s.send(Message::Text("stuck"), SendOptions::default(), h.now).unwrap();
        h.run();
        h.advance(millis(29_999));
        assert_eq!(brief(&mut h), [""; 0]);
        h.advance(millis(1));
        let told = h.told();
        let [OwnedEvent::Lost { error, unsent, .. }] = &told[..] else { panic!("{protocol}: {told:?}") };
        assert_eq!(error.to_string(), "the peer took nothing of what waits to be written");
        assert!(unsent.contains(id) && unsent.count() == 1);
    }
}

#[test]
fn each_byte_that_the_socket_takes_is_progress() {
    for protocol in [false, true] {
        let config = config().write_timeout(secs(30));
        let mut h = Harness::online(if protocol { config.protocol(Words) } else { config });
        h.s.send(Message::Text("slowly but surely"), SendOptions::default(), h.now).unwrap();
        for _ in 0..5 {
            h.advance(millis(29_999));
            assert_eq!(h.flush_up_to(0, 2), 2);
        }
        assert_eq!(brief(&mut h), [""; 0]);
        h.advance(millis(29_999));
        assert_eq!(brief(&mut h), [""; 0]);
        h.advance(millis(1));
        assert_eq!(brief(&mut h), ["lost: the peer took nothing of what waits to be written"]);

        // All that is written ends the wait.
        let conn = h.next_conn();
        h.open(conn);
        for _ in 0..5 {
            h.s.send(Message::Text("x"), SendOptions::default(), h.now).unwrap();
            h.advance(secs(29));
            h.flush(conn);
        }
        h.advance(secs(1000));
        assert_eq!(h.s.state(), State::Online, "{protocol}");
    }
}

#[test]
fn watches_do_not_outlive_the_users_close() {
    ends(|| {
        let watch = Watch::after(secs(1)).up_to(Step::Reconnect);
        let config = config().protocol(Words).data_watch(watch).pong_timeout(secs(1)).close_timeout(secs(60));
        let mut h = Harness::online(config.heartbeat_interval(secs(1)).heartbeat_timeout(secs(1)));
        h.s.subscribe("a", watched(watch), h.now);
        h.run();
        h.flush(0);
        h.told();
        h.s.close(everwire_core::CloseCode::Normal, "", h.now);
        h.run();
        h.flush(0);
        h.advance(millis(59_999));
        assert_eq!((brief(&mut h), h.s.state()), (vec![], State::Closing));
        h.advance(millis(1));
        assert_eq!(brief(&mut h), ["closed None"]);
    });
}
