//! Endpoints and authentications that are renewed while the connection goes on.

use crate::common::*;
use crate::feed::*;
use everwire_core::{
    AtExpiry, CloseCode, Config, Cooldown, Endpoint, Error, Message, OwnedEvent, ProviderError, Recovery,
    Refresh, Refusal, SendOptions, State, SubscribeOptions, Timeout,
};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn refresh_comes_at_four_fifths_of_the_life_and_not_for_all_at_once() {
    let mut moments = BTreeSet::new();
    for seed in 0..200 {
        let mut h = Harness::seeded(base(Feed::default()), [seed; 32]);
        provide(&mut h, short("t1"));
        let given = h.now;
        h.advance(secs(5));
        h.open(0);
        let status = h.s.status(h.now);
        assert_eq!(status.expires_at, Some(given + secs(100)), "counted from the answer");
        let at = until_asked(&mut h) - given;
        assert!((secs(72)..=secs(80)).contains(&at), "{at:?}");
        moments.insert(at);
        assert_eq!(h.s.status(h.now).refresh_at, None, "under way");
    }
    assert!(moments.len() > 190 && moments.first() < Some(&secs(73)) && moments.last() > Some(&secs(79)));

    let rows = [
        (short("t").refresh_after(0.5), 45, 50),
        (endpoint("t").expires_at(start().system + secs(1000)), 720, 800),
        // Not sooner than after a second.
        (endpoint("t").expires_in(secs(1)).refresh_after(0.05), 1, 1),
        // A year is enough.
        (endpoint("t").expires_in(Duration::MAX), 262 * 86_400, 292 * 86_400),
    ];
    for (endpoint, earliest, latest) in rows {
        let mut h = online(base(Feed::default()), endpoint);
        let at = h.s.status(h.now).refresh_at.unwrap() - h.now;
        assert!((secs(earliest)..=secs(latest)).contains(&at), "{at:?}");
        until_asked(&mut h);
    }
    for lasting in [endpoint("t"), short("t").refresh(Refresh::Off)] {
        let mut h = online(base(Feed::default()), lasting);
        assert_eq!(h.s.status(h.now).refresh_at, None);
        h.advance(secs(1000));
        assert_eq!((h.asked.len(), h.s.state()), (0, State::Online));
    }
}

#[test]
fn the_session_changes_over_to_a_connection_with_the_fresh_endpoint() {
    let mut h = online(base(AUTH), short("t1"));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    answer(&mut h, 0, "ok", "");
    until_asked(&mut h);
    // It goes on meanwhile.
    h.s.send(Message::Text("meanwhile"), SendOptions::default(), h.now).unwrap();
    h.feed(0, &text("data"));
    h.told();
    let fresh = Endpoint::new("ws://127.0.0.1:7/").unwrap().param("token", "t2").expires_in(secs(1000));
    provide(&mut h, fresh);
    assert_eq!(
        told(&mut h),
        ["refreshed Reconnect", "left: the session changes over to a connection with a fresh endpoint"]
    );
    h.flush(0);
    assert_eq!((h.close_frame(0), h.conns.len(), h.asked.len()), (Some((1000, String::new())), 2, 0));
    assert_eq!((h.conns[1].addr.port(), h.s.status(h.now).failures), (7, 0));
    h.open(1);
    answer(&mut h, 1, "ok", "");
    answer(&mut h, 1, "ok", "");
    assert_eq!(told(&mut h), ["authenticated", "gap a Reconnect", "+a", "online true"]);
    assert!(h.texts(1).iter().all(|text| text.contains(" t2")), "{:?}", h.texts(1));
    // Its life counts from when it was given, and the next time it is asked again.
    let at = h.s.status(h.now).refresh_at.unwrap() - h.now;
    assert!((secs(720)..=secs(800)).contains(&at), "{at:?}");
    // What was lost asks for itself.
    h.eof(1);
    let wait = h.s.status(h.now).retry_at.unwrap() - h.now;
    h.advance(wait);
    asked(&mut h);
}

#[test]
fn a_live_connection_is_authenticated_again() {
    let mut h = online(base(AGAIN), short("t1"));
    let at = until_asked(&mut h);
    h.advance(secs(1));
    provide(&mut h, short("t2"));
    assert_eq!(told(&mut h), ["refreshed Reauthenticate"]);
    h.flush(0);
    assert_eq!(h.texts(0), ["auth 1 t1", "auth 2 t2"]);
    // All goes on, what is new with the fresh token.
    assert_eq!(h.s.state(), State::Online);
    h.s.send(Message::Text("meanwhile"), SendOptions::default(), h.now).unwrap();
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.feed(0, &text("ok 2"));
    assert_eq!(told(&mut h), ["authenticated"]);
    assert_eq!(h.texts(0)[2..], ["meanwhile", "sub 3 t2 a"]);
    answer(&mut h, 0, "ok", "");
    assert_eq!(told(&mut h), ["+a"]);
    let status = h.s.status(h.now);
    assert_eq!((status.expires_at, status.state), (Some(at + secs(101)), State::Online));
    // And again, with the same connection.
    until_asked(&mut h);
    provide(&mut h, endpoint("t3"));
    h.flush(0);
    answer(&mut h, 0, "ok", "");
    assert_eq!(told(&mut h), ["refreshed Reauthenticate", "authenticated"]);
    assert_eq!((h.s.status(h.now).refresh_at, h.s.status(h.now).expires_at), (None, None));
    h.advance(secs(10_000));
    assert_eq!((h.conns.len(), h.asked.len(), h.s.state()), (1, 0, State::Online));
}

#[test]
fn a_refused_or_unanswered_reauthentication_changes_the_connection() {
    for refused in [true, false] {
        let mut h = online(base(AGAIN), short("t1"));
        until_asked(&mut h);
        provide(&mut h, short("t2"));
        h.flush(0);
        h.told();
        let error = if refused {
            answer(&mut h, 0, "no", " wrong");
            Error::Authentication(Refusal::new("wrong", None))
        } else {
            h.advance(secs(30) - millis(1));
            assert_eq!(told(&mut h), [""; 0]);
            h.advance(millis(1));
            Error::Timeout(Timeout::Authentication)
        };
        let lost = h.told();
        let [OwnedEvent::Lost { error: why, retry_at: Some(at), .. }] = &lost[..] else { panic!("{lost:?}") };
        assert_eq!(why.category(), error.category());
        // The token that was refused is not used again.
        h.advance(*at - h.now);
        provide(&mut h, short("t3"));
        h.open(1);
        assert!(h.texts(1)[0].ends_with(" t3"));
    }
    // The protocol may know that it is of no use.
    let mut h = online(base(Feed { refused: Some(Recovery::Stop), ..AGAIN }), short("t1"));
    until_asked(&mut h);
    provide(&mut h, short("t2"));
    h.flush(0);
    answer(&mut h, 0, "no", " revoked");
    assert_eq!(h.s.state(), State::Closed);
}

#[test]
fn fresh_parameters_may_just_take_the_place_of_the_old_ones() {
    let config = base(AGAIN).heartbeat_interval(secs(1000));
    let mut h = online(config, short("t1").refresh(Refresh::Parameters));
    until_asked(&mut h);
    h.flush(0);
    let before = h.texts(0).len();
    provide(&mut h, short("t2").refresh(Refresh::Parameters).heartbeat_interval(secs(3)));
    assert_eq!((told(&mut h), h.texts(0).len()), (vec!["refreshed Parameters".into()], before));
    h.s.subscribe("a", SubscribeOptions::default(), h.now);
    h.run();
    h.flush(0);
    assert!(h.texts(0).last().unwrap().ends_with(" t2 a"));
    h.advance(secs(3));
    h.flush(0);
    assert!(h.texts(0).last().unwrap().starts_with("beat"), "what else it says holds as well");
}

#[test]
fn a_provider_that_fails_while_online_costs_no_connection() {
    let mut h = online(base(AGAIN).connect_timeout(secs(2)), short("t1").at_expiry(AtExpiry::Disconnect));
    let begun = h.now;
    until_asked(&mut h);
    fail(&mut h, ProviderError::new("down"));
    let failed = h.told();
    let [OwnedEvent::RefreshFailed { failures: 1, retry_at: Some(at), expires_at, .. }] = failed[..] else {
        panic!("{failed:?}")
    };
    assert!(at <= h.now + secs(1) && expires_at == Some(begun + secs(100)));
    assert_eq!((h.s.status(h.now).refresh_at, h.s.status(h.now).refresh_failures), (Some(at), 1));
    h.s.send(Message::Text("meanwhile"), SendOptions::default(), h.now).unwrap();
    // The next time it does not answer at all, and then too late.
    until_asked(&mut h);
    let late = asked(&mut h);
    h.advance(secs(2) - millis(1));
    assert_eq!(told(&mut h), [""; 0]);
    h.advance(millis(1));
    assert_eq!(
        told(&mut h),
        ["refresh failed 2: the endpoint provider failed: no answer in 2s (Config::connect_timeout)"]
    );
    h.s.handle_endpoint(late, Ok(short("late")), h.now);
    h.run();
    assert_eq!(told(&mut h), [""; 0]);
    // A bad endpoint is a failure as well.
    until_asked(&mut h);
    provide(&mut h, endpoint("t2").pong_timeout(Duration::ZERO));
    let [OwnedEvent::RefreshFailed { failures: 3, error: Error::Endpoint(_), .. }] = h.told()[..] else {
        panic!()
    };
    until_asked(&mut h);
    provide(&mut h, short("t2").at_expiry(AtExpiry::Disconnect));
    h.flush(0);
    answer(&mut h, 0, "ok", "");
    assert_eq!(told(&mut h), ["refreshed Reauthenticate", "authenticated"]);
    let status = h.s.status(h.now);
    assert_eq!((status.refresh_failures, status.failures, h.conns.len()), (0, 0, 1));

    // Down for good: at its expiry, and not sooner, the connection is given up.
    let ends = status.expires_at.unwrap();
    while h.now < ends - millis(1) {
        if !h.asked.is_empty() {
            fail(&mut h, ProviderError::new("down"));
        }
        let Stop::Wait(Some(at)) = h.run() else { panic!() };
        h.now = at.min(ends - millis(1));
        h.run();
    }
    let failures = told(&mut h);
    assert!(
        failures.len() >= 3 && failures.iter().all(|told| told.starts_with("refresh failed")),
        "{failures:?}"
    );
    h.asked.clear();
    h.advance(millis(1));
    assert_eq!(told(&mut h), ["lost: the endpoint expired, and there was no fresh one"]);
    assert_eq!(h.now, ends);
    h.flush(0);
    assert_eq!(h.close_frame(0), Some((1000, String::new())));
    let wait = h.s.status(h.now).retry_at.unwrap() - h.now;
    h.asked.clear();
    h.advance(wait);
    provide(&mut h, short("t3"));
    assert_eq!(h.conns.len(), 2);
}

#[test]
fn a_connection_outlives_its_endpoint_unless_that_is_not_wanted() {
    let mut h = online(base(Feed::default()), short("t1"));
    let ends = h.s.status(h.now).expires_at.unwrap();
    until_asked(&mut h);
    let mut failures = 0;
    while h.now < ends + secs(1000) {
        fail(&mut h, ProviderError::new("down"));
        failures += 1;
        assert_eq!((h.s.state(), h.s.status(h.now).refresh_failures), (State::Online, failures));
        until_asked(&mut h);
    }
    // With delays up to 30 s, and not without end at once.
    assert!((30..200).contains(&failures), "{failures}");
    h.told();
    provide(&mut h, short("t2"));
    assert_eq!(told(&mut h).first().map(String::as_str), Some("refreshed Reconnect"));
}

#[test]
fn a_provider_that_will_not_refresh_is_not_asked_again_on_that_connection() {
    let mut h = online(base(Feed::default()), short("t1"));
    until_asked(&mut h);
    fail(&mut h, ProviderError::new("revoked").recovery(Recovery::Stop));
    let told = h.told();
    assert!(matches!(told[..], [OwnedEvent::RefreshFailed { retry_at: None, .. }]), "{told:?}");
    h.advance(secs(10_000));
    assert_eq!((h.asked.len(), h.s.state()), (0, State::Online));
    // One that counts is left alone for so long.
    let mut h = online(base(Feed::default()), short("t1"));
    until_asked(&mut h);
    fail(&mut h, ProviderError::new("429").recovery(Recovery::Backoff(secs(300))));
    let wait = h.s.status(h.now).refresh_at.unwrap() - h.now;
    assert!((secs(300)..=secs(301)).contains(&wait), "{wait:?}");
    until_asked(&mut h);
}

#[test]
fn an_authentication_that_ends_is_made_again() {
    let mut h = Harness::new(base(AUTH));
    provide(&mut h, endpoint("t1"));
    h.open(0);
    answer(&mut h, 0, "ok", " 900");
    assert_eq!(told(&mut h), ["authenticated", "online false"]);
    for n in 1..=3 {
        let (begun, status) = (h.now, h.s.status(h.now));
        assert_eq!(status.expires_at, Some(begun + secs(900)));
        let at = status.refresh_at.unwrap();
        assert!((secs(648)..=secs(720)).contains(&(at - begun)), "{:?}", at - begun);
        h.advance(at - begun - millis(1));
        h.flush(0);
        assert_eq!(h.texts(0).len(), n);
        h.advance(millis(1));
        h.flush(0);
        assert_eq!(h.texts(0).last(), Some(&format!("auth {} t1", n + 1)));
        // Asked once, however long it takes.
        h.advance(secs(20));
        assert_eq!((h.texts(0).len(), h.asked.len()), (n + 1, 0));
        answer(&mut h, 0, "ok", " 900");
        assert_eq!(told(&mut h), ["authenticated"]);
    }
    // A server that says that it lasts for no time at all is not stormed.
    h.advance(secs(720));
    h.flush(0);
    for _ in 0..5 {
        let before = h.texts(0).len();
        answer(&mut h, 0, "ok", " 0");
        h.advance(millis(999));
        h.flush(0);
        assert_eq!(h.texts(0).len(), before);
        h.advance(millis(1));
        h.flush(0);
        assert_eq!(h.texts(0).len(), before + 1);
    }
    h.told();
    answer(&mut h, 0, "no", " revoked");
    assert!(told(&mut h)[0].starts_with("lost: the server refused the authentication"));
    assert_eq!(h.s.status(h.now).refresh_at, None);
}

#[test]
fn a_fresh_endpoint_that_had_to_wait_for_too_long_is_not_used() {
    // Two attempts in 1000 s: the third has to wait.
    let config = base(Feed::default()).flap_budget((2, secs(1000)));
    let mut h = online(config, short("t1"));
    until_asked(&mut h);
    provide(&mut h, short("t2"));
    h.open(1);
    h.told();
    until_asked(&mut h);
    provide(&mut h, short("t3"));
    h.eof(1);
    let lost = h.told();
    let Some(OwnedEvent::Lost { error: Error::Disconnected(_), retry_at: Some(at), .. }) = lost.last() else {
        panic!("{lost:?}")
    };
    assert!(*at > h.now + secs(100), "the flap budget");
    h.advance(*at - h.now);
    assert_eq!((h.conns.len(), h.asked.len()), (2, 1), "it expired meanwhile, and is asked for anew");
}

#[test]
fn the_farewell_is_said_with_the_fresh_parameters() {
    let mut h = online(base(Feed { farewell: true, ..AGAIN }), short("t1"));
    until_asked(&mut h);
    provide(&mut h, short("t2").refresh(Refresh::Parameters));
    // By the rule of the endpoint that it takes the place of.
    h.flush(0);
    answer(&mut h, 0, "ok", "");
    h.s.close(CloseCode::Normal, "", h.now);
    h.run();
    h.flush(0);
    assert_eq!(h.texts(0), ["auth 1 t1", "auth 2 t2", "bye 3 t2"]);
    assert_eq!(h.close_frame(0), None, "the answer is awaited");
    answer(&mut h, 0, "ok", "");
    h.flush(0);
    assert_eq!(h.close_frame(0), Some((1000, String::new())));
}

/// What is not to be left for nothing: the connection would be gone, and no other could be made.
#[test]
fn a_connection_is_kept_as_long_as_no_other_may_be_made() {
    for by_budget in [false, true] {
        let cooldown = Cooldown::new();
        let config = base(AUTH).cooldown(cooldown.clone());
        // The first attempt is all that there may be in 200 s.
        let config = if by_budget { config.flap_budget((1, secs(200))) } else { config };
        let mut h = online(config, short("t1"));
        let begun = h.now;
        if !by_budget {
            cooldown.hold("127.0.0.1:9", begun + secs(200));
        }
        until_asked(&mut h);
        provide(&mut h, endpoint("t2").expires_in(secs(1000)));
        assert_eq!(told(&mut h), ["refreshed Reconnect"]);
        assert_eq!(h.s.state(), State::Online);
        let at = h.s.status(h.now).refresh_at.expect("it changes over then");
        assert!((begun + secs(200)..=begun + secs(201)).contains(&at), "{by_budget} {:?}", at - begun);
        h.feed(0, &text("data"));
        assert_eq!(told(&mut h), ["message data"]);
        h.advance(at - h.now - millis(1));
        assert_eq!((told(&mut h).len(), h.s.state()), (0, State::Online));
        h.advance(millis(1));
        assert_eq!(told(&mut h), ["left: the session changes over to a connection with a fresh endpoint"]);
        assert_eq!((h.conns.len(), h.asked.len()), (2, 0), "with what was fetched");
        h.open(1);
        h.flush(1);
        assert_eq!(h.texts(1), ["auth 2 t2"]);
    }
}

#[test]
fn what_was_fetched_and_waits_for_too_long_is_fetched_again() {
    let cooldown = Cooldown::new();
    let mut h = online(base(AUTH).cooldown(cooldown.clone()), short("t1"));
    let begun = h.now;
    cooldown.hold("127.0.0.1:9", begun + secs(300));
    until_asked(&mut h);
    provide(&mut h, short("t2"));
    let at = until_asked(&mut h);
    assert!((begun + secs(300)..=begun + secs(301)).contains(&at), "{:?}", at - begun);
    assert_eq!((told(&mut h), h.s.state()), (vec!["refreshed Reconnect".to_owned()], State::Online));
    provide(&mut h, short("t3"));
    assert_eq!(
        told(&mut h),
        ["refreshed Reconnect", "left: the session changes over to a connection with a fresh endpoint"]
    );
    h.open(1);
    h.flush(1);
    assert_eq!(h.texts(1), ["auth 2 t3"]);
}

#[test]
fn one_that_waits_is_used_if_the_connection_ends_before() {
    let cooldown = Cooldown::new();
    let mut h = online(base(AUTH).cooldown(cooldown.clone()), short("t1"));
    cooldown.hold("127.0.0.1:9", h.now + secs(90));
    until_asked(&mut h);
    provide(&mut h, endpoint("t2").expires_in(secs(1000)));
    h.told();
    h.s.reconnect(h.now);
    h.run();
    assert_eq!(told(&mut h), ["left: a new connection was asked for"]);
    // No attempt, no question: the host is to be left alone.
    let wait = h.s.status(h.now).retry_at.expect("it tries again") - h.now;
    assert!(wait > secs(5), "{wait:?}");
    assert_eq!((h.conns.len(), h.asked.len()), (1, 0));
    h.advance(wait);
    assert_eq!((h.conns.len(), h.asked.len()), (2, 0), "with what was fetched");
}

#[test]
fn who_was_told_to_wait_does_not_come_at_once_because_there_is_a_fresh_endpoint() {
    let mut h = online(base(AUTH), short("t1"));
    until_asked(&mut h);
    // The notice is told, and before the session has left there is an answer.
    let id = asked(&mut h);
    h.takes = false;
    h.feed_silently(0, &text("wait 60"));
    h.s.handle_endpoint(id, Ok(endpoint("t2").expires_in(secs(1000))), h.now);
    h.takes = true;
    h.run();
    let told = h.told();
    let Some(OwnedEvent::Lost { error: Error::Notice(_), retry_at: Some(at), .. }) = told.last() else {
        panic!("{told:?}")
    };
    assert!(*at >= h.now + secs(60), "{:?}", *at - h.now);
    let wait = *at - h.now;
    h.advance(wait);
    assert_eq!((h.conns.len(), h.asked.len()), (2, 0), "with what was fetched");
}

/// A protocol that reads nothing lets `poll_output` take its short way, message after message.
#[test]
fn all_is_in_time_while_messages_come_that_nobody_reads() {
    let config = Config::provided().ping_interval(None).backoff(secs(40), secs(40)).connect_timeout(secs(5));
    let mut h = online(config, short("t1").at_expiry(AtExpiry::Disconnect));
    let end = h.now + secs(100);
    let mut due = h.s.status(h.now).refresh_at.expect("it has a life");
    let mut told_at = Vec::new();
    h.advance(secs(11));
    while h.s.state() == State::Online {
        assert_eq!(h.run(), Stop::Wait(Some(due)), "{:?}", h.s.status(h.now));
        h.feed(0, &text("data"));
        assert_eq!(told(&mut h), ["message data"]);
        assert_eq!(h.run(), Stop::Wait(Some(due)));
        h.advance(millis(333).min(due - h.now));
        if !h.asked.is_empty() {
            assert_eq!(h.now, due);
            h.asked.clear();
            due = (h.now + secs(5)).min(end);
        }
        for event in h.told() {
            told_at.push(h.now);
            due = match event {
                OwnedEvent::RefreshFailed { retry_at: Some(at), .. } => at.min(end),
                OwnedEvent::Lost { error: Error::Expired, .. } => end,
                other => panic!("{other:?}"),
            };
        }
    }
    assert_eq!((told_at.last(), h.now), (Some(&end), end));
    assert!(told_at.len() > 1, "the provider did not answer");
}
