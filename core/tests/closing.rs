//! The end that the user wants: what was accepted goes out in the time that there is, and what did not is told.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod venue;

use common::*;
use everwire_core::protocol::{Ack, Traffic};
use everwire_core::{
    CloseCode, CloseOptions, Drain, JsonRpc, Message, OnDisconnect, OwnedEvent, OwnedOutcome, Request,
    RequestOptions, SendError, SendOptions, State, Unanswered, Unsent,
};
use std::time::Duration;
use venue::*;

/// One message a second.
fn slow() -> Venue {
    Venue::new([exact("all", 1, secs(1))])
}

fn within(time: Duration, drain: Drain) -> CloseOptions {
    CloseOptions::new().within(time).drain(drain)
}

fn send(h: &mut Harness, text: &str) -> u64 {
    h.s.send(Message::Text(text), SendOptions::default(), h.now).unwrap().as_u64()
}

fn ids(unsent: &Unsent) -> String {
    unsent_in_short(unsent)
}

#[test]
fn what_was_accepted_goes_out_first() {
    let mut w = Wire::online(slow());
    ["1", "2", "3"].iter().for_each(|text| _ = w.send(text));
    w.request("r", |options| options);
    w.told();
    w.close(within(secs(10), Drain::Accepted));
    assert_eq!((w.h.s.state(), w.h.s.end()), (State::Closing, None));
    assert_eq!(w.h.s.send(Message::Text("4"), SendOptions::default(), w.h.now), Err(SendError::Closed));
    w.pass(secs(5));
    // The request's answer is not waited for: it was sent, and that is all that is known.
    assert_eq!(w.log(), ["0 1", "1000 2", "2000 3", "3000 req 2 r", "3000 CLOSE"]);
    let settled = [OwnedOutcome::SentUnknown(Unanswered::Closed)];
    assert_eq!(w.outcomes().iter().map(|(_, outcome)| outcome.clone()).collect::<Vec<_>>(), settled);
    assert_eq!(w.told(), ["RequestId(2) SentUnknown(Closed)"], "the peer has not answered yet");
    w.hang_up();
    assert_eq!(w.told(), ["closed"]);
    assert_eq!(w.h.s.end().map(|end| (end.error.clone(), ids(&end.unsent))), Some((None, String::new())));
    assert_eq!(w.h.s.stats().messages_sent, 4);
}

#[test]
fn what_does_not_get_out_in_time_is_told() {
    let mut w = Wire::online(slow());
    ["1", "2", "3", "4"].iter().for_each(|text| _ = w.send(text));
    w.request("r", |options| options);
    w.request("priority", |options| options.priority(true));
    w.told();
    w.close(within(millis(1500), Drain::Accepted));
    w.pass(millis(1499));
    assert_eq!(w.log(), ["0 1", "1000 req 3 priority"]);
    assert_eq!((w.told(), w.h.s.end()), (vec![], None));
    w.pass(millis(1));
    // The close frame is the last that the peer hears, and the session does not wait for its answer any more.
    assert_eq!(w.log()[2..], ["1500 CLOSE"]);
    let want = ["RequestId(3) SentUnknown(Closed)", "RequestId(2) NotSent(Closed)", "closed unsent 2 3 4"];
    assert_eq!(w.told(), want);
    assert_eq!((w.h.s.state(), w.h.s.stats().messages_sent), (State::Closed, 2));
    assert_eq!(w.h.run(), Stop::Closed);
}

#[test]
fn answers_are_awaited_when_that_is_wanted() {
    let mut w = Wire::online(slow());
    w.request("a", |options| options);
    w.request("b", |options| options);
    w.told();
    w.close(within(secs(10), Drain::Answers));
    w.pass(secs(3));
    assert_eq!(w.log(), ["0 req 2 a", "1000 req 3 b"]);
    w.say("ok 3");
    assert_eq!(w.told(), [r#"RequestId(3) Answered(Ok("3"))"#]);
    w.say("ok 2");
    assert_eq!(w.told(), [r#"RequestId(2) Answered(Ok("2"))"#]);
    assert_eq!(w.log()[2..], ["3000 CLOSE"]);
    w.hang_up();
    assert_eq!(w.told(), ["closed"]);

    // Not for longer than there is time, nor than each of them has.
    let mut w = Wire::online(slow());
    w.request("a", |options| options.timeout(secs(2)));
    w.request("b", |options| options);
    w.told();
    w.close(within(secs(4), Drain::Answers));
    w.pass(secs(4));
    assert_eq!(w.log(), ["0 req 2 a", "1000 req 3 b", "4000 CLOSE"]);
    let want =
        ["2000 RequestId(2) SentUnknown(Timeout)", "4000 RequestId(3) SentUnknown(Closed)", "4000 closed"];
    assert_eq!(w.told_when(), want);
}

#[test]
fn a_second_close_brings_the_end_nearer_and_never_farther() {
    let mut w = Wire::online(slow());
    ["1", "2", "3"].iter().for_each(|text| _ = w.send(text));
    w.request("r", |options| options);
    w.told();
    w.close(within(secs(100), Drain::Answers).reason("first"));
    w.close(within(secs(200), Drain::Answers).reason("second"));
    w.close(within(secs(50), Drain::Accepted).code(CloseCode::Away));
    w.pass(secs(4));
    assert_eq!(w.log(), ["0 1", "1000 2", "2000 3", "3000 req 2 r", "3000 CLOSE"]);
    assert_eq!(w.h.close_frame(0), Some((1000, "first".into())));
    w.pass(secs(40));
    assert_eq!(w.told(), ["RequestId(2) SentUnknown(Closed)"]);
    // The peer does not answer: then not even so long.
    w.close(within(secs(1), Drain::Nothing));
    w.pass(secs(1));
    assert_eq!(w.told(), ["closed"]);
    assert_eq!(w.h.s.state(), State::Closed);
}

#[test]
fn a_connection_that_is_lost_meanwhile_is_the_end() {
    for (how, cut) in [("eof", ""), ("close", ""), ("bad", "")] {
        let mut w = Wire::online(slow());
        ["1", "2", "3"].iter().for_each(|text| _ = w.send(text));
        w.request("r", |options| options.on_disconnect(OnDisconnect::Resend));
        w.told();
        w.close(within(secs(10), Drain::Accepted));
        w.pass(millis(1100));
        match how {
            "eof" => _ = w.h.eof(0),
            "close" => _ = w.h.feed_silently(0, &close(1012, "restart")),
            _ => _ = w.h.feed_silently(0, &frame(FIN | RSV1 | TEXT, b"?")),
        }
        w.note();
        let want = ["RequestId(2) NotSent(Closed)".to_owned(), format!("closed unsent {cut}3")];
        assert_eq!(w.told(), want, "{how}");
        let status = w.h.s.status(w.h.now);
        assert_eq!((status.state, w.h.conns.len()), (State::Closed, 1), "no other connection is made");
        assert!(status.why.contains("the connection was lost before its end"), "{}", status.why);
    }
}

#[test]
fn without_a_connection_nothing_is_waited_for() {
    let hold = RequestOptions::default().on_disconnect(OnDisconnect::Hold);
    for stage in 0..4 {
        let mut h = Harness::new(config().protocol(JsonRpc::new()).backoff(secs(100), secs(100)));
        let held = h.s.request(Request::new("held"), hold.clone(), h.now).unwrap();
        if stage > 0 {
            h.run();
        }
        match stage {
            2 => h.connect(0),
            3 => _ = h.eof(0),
            _ => {}
        }
        h.told();
        h.s.close_with(within(secs(60), Drain::Answers), h.now);
        assert_eq!((h.s.state(), h.s.end().is_some()), (State::Closed, true), "stage {stage}");
        h.run();
        let want = [format!("{} not sent: Closed", held.as_u64()), "closed None".to_owned()];
        assert_eq!(brief(&mut h), want, "stage {stage}");
    }
}

/// Whatever the socket took of what was sent, each message and each request is told as what became of it.
#[test]
fn to_the_byte() {
    let all = {
        let mut h = Harness::online(config().protocol(JsonRpc::new()));
        fill(&mut h);
        let before = h.conns[0].written.len();
        h.flush(0);
        h.conns[0].written.len() - before
    };
    for taken in 0..=all {
        let mut h = Harness::online(config().protocol(JsonRpc::new()));
        let (messages, requests) = fill(&mut h);
        h.flush_up_to(0, taken);
        h.s.close_with(within(secs(1), Drain::Accepted), h.now);
        // What is written in part is known at once, the rest when the time is over.
        h.run();
        let early = brief(&mut h);
        h.advance(secs(1));
        let mut told = h.told();
        h.flush(0);
        let (got, rest) = frames(after_head(&h.conns[0].written));
        assert_eq!(rest, 0, "whole frames, and the last is the close frame");
        assert_eq!(got.last().map(|(first, _)| *first), Some(FIN | CLOSE));
        let texts = h.texts(0);
        let Some(OwnedEvent::Closed { error: None, unsent }) = told.pop() else { panic!("{told:?}") };
        for (id, text) in messages {
            let arrived = texts.contains(&text);
            let cut = unsent.cut.is_some_and(|cut| cut.as_u64() == id);
            let not_sent = (unsent.not_sent.start.as_u64()..unsent.not_sent.end.as_u64()).contains(&id);
            assert!(arrived != not_sent && (!cut || arrived), "{taken}: {id} {unsent:?} {texts:?}");
        }
        assert!(unsent.waiting.is_empty());
        let late: Vec<String> = told.iter().map(in_short).collect();
        for id in requests {
            let arrived = texts.iter().any(|text| text.contains(&format!(r#""id":{id}"#)));
            let want = format!("{id} {}: Closed", if arrived { "unknown" } else { "not sent" });
            assert_eq!(
                early.iter().chain(&late).filter(|line| line.starts_with(&format!("{id} "))).count(),
                1
            );
            assert!(early.iter().chain(&late).any(|line| *line == want), "{taken}: {early:?} {late:?}");
            assert!(!arrived || early.contains(&want) || late.contains(&want));
        }
    }
}

/// Messages and requests by turns: ids and texts of the messages, ids of the requests.
fn fill(h: &mut Harness) -> (Vec<(u64, String)>, Vec<u64>) {
    let (mut messages, mut requests) = (vec![], vec![]);
    for n in 0..3 {
        let text = format!("message {n}");
        messages.push((send(h, &text), text));
        requests.push(h.s.request(Request::new("r"), RequestOptions::default(), h.now).unwrap().as_u64());
    }
    (messages, requests)
}

#[test]
fn who_takes_no_events_is_told_the_end_in_time_all_the_same() {
    let mut w = Wire::online(slow());
    w.send("1");
    w.send("2");
    w.request("r", |options| options);
    w.told();
    w.h.takes = false;
    w.h.feed_silently(0, &text("not taken"));
    assert_eq!(w.h.run(), Stop::Event);
    w.close(within(millis(500), Drain::Answers));
    w.h.feed_silently(0, &[]);
    let due = w.h.s.timeout().unwrap();
    assert_eq!(due, w.h.now + millis(500));
    w.h.now = due;
    w.h.s.handle_timeout(w.h.now);
    assert_eq!(w.h.s.end().map(|end| ids(&end.unsent)), Some(" unsent 2".to_owned()));
    w.note();
    assert_eq!(w.log(), ["0 1", "500 CLOSE"], "the peer is told in time");
    assert_eq!(w.h.s.state(), State::Closing);
    // Later he takes what there is: all of it, in order.
    w.h.now += secs(60);
    w.h.takes = true;
    w.note();
    assert_eq!(w.told(), ["message not taken", "RequestId(2) NotSent(Closed)", "closed unsent 2"]);
    assert_eq!(w.h.run(), Stop::Closed);

    // The same when only the answer to the close frame is missing.
    let mut h = Harness::online(config());
    let sent = send(&mut h, "stuck");
    h.takes = false;
    h.feed_silently(0, &text("not taken"));
    h.s.close_with(within(secs(3), Drain::Accepted), h.now);
    assert_eq!(h.s.end(), None);
    h.now = h.s.timeout().unwrap();
    h.s.handle_timeout(h.now);
    assert_eq!(h.s.end().map(|end| ids(&end.unsent)), Some(format!(" unsent {sent}")));
    h.takes = true;
    h.run();
    assert_eq!(brief(&mut h), ["message not taken".to_owned(), format!("closed None unsent {sent}")]);
}

#[test]
fn a_request_is_settled_when_it_is_written_though_nobody_takes_events() {
    let mut h = Harness::online(config().protocol(JsonRpc::new()));
    h.takes = false;
    h.feed_silently(0, &text("not taken"));
    let asked = h.s.request(Request::new("r"), RequestOptions::default(), h.now).unwrap().as_u64();
    h.s.close_with(within(secs(3), Drain::Accepted), h.now);
    h.flush(0);
    h.takes = true;
    h.run();
    assert_eq!(brief(&mut h), ["message not taken".to_owned(), format!("{asked} unknown: Closed")]);
    assert_eq!((h.s.state(), h.s.end()), (State::Closing, None));
}

#[test]
fn the_protocol_says_farewell_before_the_close_frame() {
    // Nothing comes of it: the close frame follows at once.
    let mut w = Wire::online(slow().farewell(Ack::None));
    w.send("1");
    w.send("2");
    w.close(within(secs(10), Drain::Accepted));
    w.pass(secs(2));
    assert_eq!(w.log(), ["0 1", "1000 2", "1000 bye 2", "1000 CLOSE"]);

    // It is answered.
    let mut w = Wire::online(slow().farewell(Ack::Response));
    w.close(within(secs(10), Drain::Accepted));
    w.pass(secs(2));
    assert_eq!(w.log(), ["0 bye 2"]);
    w.say("ok 2");
    assert_eq!(w.log()[1..], ["2000 CLOSE"]);
    w.hang_up();
    assert_eq!(w.told(), ["closed"]);

    // The server ends the connection in the place of an answer, with or without a close frame.
    for polite in [true, false] {
        let mut w = Wire::online(slow().farewell(Ack::Response));
        w.close(within(secs(10), Drain::Accepted));
        if polite {
            w.hang_up();
        } else {
            w.h.eof(0);
            w.note();
        }
        assert_eq!((w.told(), w.h.s.state()), (vec!["closed".to_owned()], State::Closed), "{polite}");
    }

    // It is not answered, and the server goes when it is told to.
    let mut w = Wire::online(slow().farewell(Ack::Response));
    w.close(within(secs(3), Drain::Answers));
    w.pass(secs(3));
    assert_eq!(w.log(), ["0 bye 2", "3000 CLOSE"]);
    assert_eq!(w.told(), ["closed"]);

    // Who was not online has nothing to take leave of.
    let mut w = Wire::new(slow().authenticated().farewell(Ack::Response), |config| config);
    w.note();
    w.close(CloseOptions::new());
    assert_eq!(w.log(), ["0 auth 1", "0 CLOSE"]);
}

#[test]
fn farewell_and_close_frame_go_whatever_they_cost() {
    let costs = |_: &str, traffic: Traffic<'_>| match traffic {
        Traffic::Farewell | Traffic::Close => 1000,
        _ => 1,
    };
    let mut w = Wire::online(slow().costs(costs).farewell(Ack::None));
    w.send("1");
    w.close(CloseOptions::new());
    assert_eq!(w.log(), ["0 1", "0 bye 2", "0 CLOSE"]);
}

#[test]
fn pings_are_answered_and_messages_told_while_it_drains() {
    let mut w = Wire::online(slow());
    w.send("1");
    w.send("2");
    w.told();
    w.close(within(secs(10), Drain::Accepted));
    w.h.feed_silently(0, &[frame(FIN | PING, b"?"), text("news"), text("hb")].concat());
    w.pass(secs(4));
    assert_eq!(w.log(), ["0 1", "1000 PONG ?", "2000 alive 2", "3000 2", "3000 CLOSE"]);
    assert_eq!(w.told(), ["message news"]);
    // No topic is asked for any more.
    assert_eq!(w.h.s.subscribe("late", Default::default(), w.h.now).as_u64(), 1);
    w.hang_up();
    assert_eq!(w.log().len(), 5);
}

#[test]
fn abort_says_what_was_not_sent() {
    let mut w = Wire::online(slow());
    ["1", "2", "3"].iter().for_each(|text| _ = w.send(text));
    w.request("r", |options| options);
    w.told();
    w.h.s.abort(w.h.now);
    w.note();
    assert_eq!(w.told(), ["RequestId(2) NotSent(Closed)", "closed unsent 2 3"]);

    let mut h = Harness::online(config());
    let first = send(&mut h, "out");
    h.flush(0);
    send(&mut h, "in part");
    send(&mut h, "not at all");
    h.flush_up_to(0, 3);
    h.s.abort(h.now);
    h.run();
    let want = format!("closed None unsent ~{} {}", first + 1, first + 2);
    assert_eq!(brief(&mut h), [want]);
}

#[test]
fn giving_up_says_nothing_twice() {
    let mut h = Harness::online(config().no_reconnect());
    let sent = send(&mut h, "stuck");
    h.eof(0);
    let [
        OwnedEvent::Lost { unsent: lost, retry_at: None, .. },
        OwnedEvent::Closed { error: Some(_), unsent },
    ] = &h.told()[..]
    else {
        panic!()
    };
    assert_eq!((ids(lost), ids(unsent)), (format!(" unsent {sent}"), String::new()));
    let end = h.s.end().unwrap();
    assert!(end.error.is_some() && end.unsent.count() == 0);
}

#[test]
fn what_expired_was_not_sent() {
    let mut w = Wire::online(slow());
    ["1", "2", "3"]
        .iter()
        .for_each(|text| _ = w.send_with(text, |options| options.timeout = Some(millis(1500))));
    assert_eq!(w.h.s.stats().messages_sent, 1);
    w.pass(secs(3));
    assert_eq!((w.log().len(), w.h.s.stats().messages_sent), (2, 2));
    let outcome = OwnedOutcome::NotSent(Unanswered::Closed);
    w.request("r", |options| options);
    w.request("s", |options| options);
    w.close(within(Duration::ZERO, Drain::Answers));
    assert_eq!(w.outcomes().last().map(|(_, outcome)| outcome.clone()), Some(outcome));
    assert_eq!(w.log()[2..], ["3000 req 2 r", "3000 CLOSE"]);
}
