//! The session leaves a connection that works: what it says there, and that nothing waits for it.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::{Ack, Fault};
use everwire_core::ws::deflate::DeflateConfig;
use everwire_core::{
    AtExpiry, CloseCode, Config, Endpoint, Limit, Message, Output, OwnedEvent, Recovery, Refresh, Request,
    RequestOptions, SendOptions, State,
};
use needs::*;

const NORMAL: Option<(u16, String)> = Some((1000, String::new()));

fn parting(ack: Ack) -> Words {
    Words { farewell: Some(ack), subscribes: Ack::None, ..Words::default() }
}

/// It is online, and the close timeout is 5 s.
fn online(ack: Ack) -> Harness {
    let mut h = opened_with(parting(ack), |config| config.close_timeout(secs(5)));
    assert_eq!(brief(&mut h), ["online false"]);
    h
}

/// The user wants another connection; what was written on the first.
fn leave(h: &mut Harness) -> Vec<String> {
    h.s.reconnect(h.now);
    h.run();
    h.flush(0);
    h.texts(0)
}

#[test]
fn an_answer_is_awaited_beside_the_next_connection() {
    let mut h = online(Ack::Response);
    subscribe(&mut h, "a");
    assert_eq!(leave(&mut h), ["sub 2 a", "bye 3"]);
    assert_eq!((h.close_frame(0), h.conns.len()), (None, 2), "the next attempt begins at once");
    h.open(1);
    let told = brief(&mut h);
    assert_eq!(told[1..], ["lost: a new connection was asked for", "gap a Reconnect", "+a", "online true"]);
    assert_eq!(h.texts(1), ["sub 5 a"]);
    // Whatever else comes there is nobody's, cut as it may be.
    h.feed(0, &text("a 1"));
    h.feed(0, &text("ok 2 a")[..3]);
    h.feed(0, &[&text("ok 2 a")[3..], &frame(0x89, b"ping"), &text("granted x"), &text("off a")].concat());
    assert_eq!((brief(&mut h), h.close_frame(0)), (vec![], None));
    h.feed(0, &[text("ok 3"), text("a 2")].concat());
    h.flush(0);
    assert_eq!((brief(&mut h), h.close_frame(0), h.conns[0].dropped), (vec![], NORMAL, false));
    // The peer ends it, and the other goes on.
    h.eof(0);
    say(&mut h, 1, &["a 3"]);
    assert_eq!((brief(&mut h), h.s.state()), (vec!["message a 3".into()], State::Online));
    assert_eq!(h.texts(0), ["sub 2 a", "bye 3"]);
}

#[test]
fn a_refusal_is_an_answer_as_well() {
    let mut h = online(Ack::Response);
    leave(&mut h);
    say(&mut h, 0, &["no 2 7:bye what?"]);
    h.flush(0);
    assert_eq!(h.close_frame(0), NORMAL);
}

#[test]
fn the_end_of_the_connection_is_one_too() {
    let mut h = online(Ack::Response);
    assert_eq!(leave(&mut h), ["bye 2"]);
    h.eof(0);
    h.flush(0);
    assert_eq!((h.close_frame(0), h.texts(0).len()), (None, 1));
    // So is a close frame, which is answered.
    let mut h = online(Ack::Response);
    leave(&mut h);
    h.feed(0, &close(1001, "bye"));
    h.flush(0);
    assert_eq!(h.close_frame(0), NORMAL);
    // And what is no WebSocket at all.
    let mut h = online(Ack::Response);
    leave(&mut h);
    h.feed(0, &[0xff; 10]);
    h.flush(0);
    assert_eq!(h.close_frame(0), NORMAL);
}

#[test]
fn it_is_not_awaited_for_longer_than_a_close() {
    let mut h = online(Ack::Response);
    leave(&mut h);
    h.advance(millis(4999));
    h.flush(0);
    assert_eq!((h.close_frame(0), h.conns[0].dropped), (None, false));
    h.advance(millis(1));
    h.flush(0);
    h.run();
    assert_eq!((h.close_frame(0), h.conns[0].dropped), (NORMAL, true), "and then for nothing");
    // A socket that takes nothing has no more than that time again.
    let mut h = online(Ack::Response);
    h.s.reconnect(h.now);
    h.advance(millis(9999));
    assert!(!h.conns[0].dropped);
    h.advance(millis(1));
    assert!(h.conns[0].dropped);
}

#[test]
fn a_user_who_takes_no_events_holds_up_no_end() {
    let mut h = online(Ack::Response);
    h.takes = false;
    leave(&mut h);
    for _ in 0..4 {
        h.now += secs(5);
        h.s.handle_timeout(h.now);
        h.run();
        h.flush(0);
    }
    assert_eq!((h.close_frame(0), h.conns[0].dropped), (NORMAL, true));
}

#[test]
fn without_an_answer_the_close_frame_follows() {
    let mut h = online(Ack::None);
    assert_eq!((leave(&mut h), h.close_frame(0), h.conns.len()), (vec!["bye 2".into()], NORMAL, 2));
    assert_eq!(h.frames(0).last().unwrap().0, 0x88);
}

#[test]
fn whatever_it_leaves_for() {
    // The server's word that it should.
    let recovery = |fault: Fault<'_>| match fault {
        Fault::Request("1:go away") => Some(Recovery::Reconnect),
        Fault::Request("2:slow down") => Some(Recovery::Backoff(secs(9))),
        _ => None,
    };
    for (error, says) in [("1:go away", true), ("2:slow down", false)] {
        let mut h = opened(Words { recovery, ..parting(Ack::None) });
        h.s.request(Request::new("m"), RequestOptions::default(), h.now).unwrap();
        h.run();
        h.flush(0);
        say(&mut h, 0, &[&format!("no 2 {error}")]);
        h.flush(0);
        assert_eq!((h.texts(0).len() == 2, h.close_frame(0)), (says, NORMAL), "{error}");
        // The server ended it by itself: there is nobody to be told anything.
        let mut h = opened(Words { recovery, ..parting(Ack::None) });
        h.s.request(Request::new("m"), RequestOptions::default(), h.now).unwrap();
        h.run();
        h.flush(0);
        h.feed(0, &[text(&format!("no 2 {error}")), close(1001, "")].concat());
        h.flush(0);
        assert_eq!(h.texts(0), ["ask 2 m"]);
    }
    // A connection's life.
    let mut h = opened(Words { life: Some(secs(1000)), ..parting(Ack::None) });
    let due = h.s.status(h.now).refresh_at.unwrap();
    h.advance(due - h.now);
    h.flush(0);
    assert_eq!((h.texts(0), h.close_frame(0), h.conns.len()), (vec!["bye 2".into()], NORMAL, 2));
}

#[test]
fn an_endpoint_that_ends() {
    for (refresh, at_expiry) in [(Refresh::Reconnect, AtExpiry::Keep), (Refresh::Off, AtExpiry::Disconnect)] {
        let mut h = Harness::new(Config::provided().protocol(parting(Ack::None)).ping_interval(None));
        let provide = |h: &mut Harness| {
            h.run();
            let Some(Output::Provide(asked)) = h.asked.pop() else { return false };
            let endpoint = Endpoint::new("ws://127.0.0.1:9/").unwrap().expires_in(secs(100));
            h.s.handle_endpoint(asked, Ok(endpoint.refresh(refresh).at_expiry(at_expiry)), h.now);
            h.run();
            true
        };
        assert!(provide(&mut h));
        h.open(0);
        let status = h.s.status(h.now);
        let due = status.refresh_at.or(status.expires_at).unwrap();
        h.advance(due - h.now);
        // One is left for a fresh one, the other whatever comes.
        assert_eq!(provide(&mut h), refresh == Refresh::Reconnect);
        h.flush(0);
        assert_eq!((h.texts(0), h.close_frame(0)), (vec!["bye 2".into()], NORMAL), "{refresh:?}");
    }
}

#[test]
fn who_was_never_online_or_is_lost_says_nothing() {
    let mut h = opened(Words { subscribes: Ack::Response, ..parting(Ack::Response) });
    h.s.reconnect(h.now);
    h.run();
    assert_eq!(h.s.state(), State::Connecting, "it was online");
    let mut h =
        Harness::new(config().protocol(Words { subscribes: Ack::Response, ..parting(Ack::Response) }));
    subscribe(&mut h, "a");
    h.open(0);
    assert_eq!((h.s.state(), leave(&mut h)), (State::Restoring, vec!["sub 2 a".into()]));
    assert_eq!(h.close_frame(0), NORMAL);
    for end in [close(1001, ""), vec![0xff; 10]] {
        let mut h = online(Ack::Response);
        h.feed(0, &end);
        h.flush(0);
        assert_eq!(h.texts(0), [""; 0]);
    }
}

#[test]
fn what_was_not_written_is_not_sent_before_it() {
    let mut h = online(Ack::None);
    for n in 0..3 {
        h.s.send(Message::Text(&n.to_string().repeat(300)), SendOptions::default(), h.now).unwrap();
    }
    h.flush_up_to(0, 400);
    h.s.reconnect(h.now);
    h.run();
    let told = h.told();
    let [OwnedEvent::Lost { unsent, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(unsent_in_short(unsent), " unsent ~2 3");
    h.flush(0);
    assert_eq!(h.texts(0), ["0".repeat(300), "1".repeat(300), "bye 2".to_owned()]);
    assert_eq!(h.close_frame(0), NORMAL);
}

#[test]
fn nothing_is_said_in_the_middle_of_a_message() {
    for (written, says) in [(1100, false), (5000, true)] {
        let mut h = opened_with(parting(Ack::Response), |config| config.fragment_size(1024));
        h.told();
        h.s.send(Message::Text(&"x".repeat(4000)), SendOptions::default(), h.now).unwrap();
        h.flush_up_to(0, written);
        h.s.reconnect(h.now);
        h.run();
        h.flush(0);
        let said = h.frames(0).iter().any(|(_, payload)| payload == b"bye 2");
        assert_eq!((said, h.close_frame(0).is_some()), (says, !says), "{written}");
    }
}

#[test]
fn it_needs_nothing_of_what_was_compressed_and_not_sent() {
    let deflate = DeflateConfig { threshold: 0, ..DeflateConfig::default() };
    let mut h = Harness::new(config().protocol(parting(Ack::None)).deflate(deflate));
    h.run();
    h.connect(0);
    let response = accept(&h.conns[0].written, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    h.feed(0, &response);
    h.s.send(Message::Text("bye 2 bye 2 bye 2"), SendOptions::default(), h.now).unwrap();
    h.s.reconnect(h.now);
    h.run();
    h.flush(0);
    assert_eq!(h.frames(0)[0], (0x81, b"bye 2".to_vec()), "plain");
}

#[test]
fn it_goes_whatever_it_costs_and_counts() {
    let limits = vec![Limit::window("farewells", 1, secs(10)).margin(secs(0))];
    let mut h = opened(Words { limits, ..parting(Ack::None) });
    assert_eq!(leave(&mut h), ["bye 2"]);
}

#[test]
fn closing_and_giving_up_wait_for_no_answer_of_the_old_one() {
    let mut h = online(Ack::Response);
    leave(&mut h);
    h.told();
    // There is no connection: the end is now, and the old one has its time.
    h.s.close(CloseCode::Normal, "", h.now);
    h.run();
    assert_eq!((h.s.state(), h.conns[0].dropped), (State::Closed, false));
    say(&mut h, 0, &["ok 2"]);
    h.flush(0);
    h.eof(0);
    assert_eq!((h.close_frame(0), h.run()), (NORMAL, Stop::Closed));
    let mut h = online(Ack::Response);
    leave(&mut h);
    h.s.abort(h.now);
    h.run();
    assert!(h.conns[0].dropped);
}
