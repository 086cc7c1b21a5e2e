//! What happens in the middle of a refresh.

use crate::common::*;
use crate::feed::*;
use everwire_core::{
    AtExpiry, CloseCode, Disconnect, Error, Limit, Message, Output, OwnedEvent, ProviderError, Refresh,
    SendOptions, State,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// Where a refresh can be when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The moment has come, and nobody polled.
    Due,
    /// The provider is at work.
    Asked,
    /// It failed, and is asked again later.
    Failed,
    /// The server has the fresh credentials, and did not answer yet.
    Reauthenticates,
    /// A fresh endpoint is there, and the old connection not left yet.
    Ready,
    /// Waits for the server's first word on a first connection.
    Greeting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Eof,
    Reset,
    CloseFrame,
    Reconnect,
    Close,
    Abort,
}

#[test]
fn whatever_happens_during_a_refresh_the_session_comes_back_or_ends() {
    use Stage::{Asked, Due, Failed, Greeting, Ready, Reauthenticates};
    for stage in [Due, Asked, Failed, Reauthenticates, Ready, Greeting] {
        for blow in [Blow::Eof, Blow::Reset, Blow::CloseFrame, Blow::Reconnect, Blow::Close, Blow::Abort] {
            ends(move || strike(stage, blow));
        }
    }
}

fn strike(stage: Stage, blow: Blow) {
    let feed = Feed { again: stage != Stage::Ready, greets: stage == Stage::Greeting, ..AUTH };
    let mut h = Harness::new(base(feed));
    provide(&mut h, short("t1"));
    h.open(0);
    let mut old = None;
    if stage != Stage::Greeting {
        answer(&mut h, 0, "ok", "");
        let at = h.s.status(h.now).refresh_at.unwrap();
        h.advance(at - h.now - millis(1));
        h.now = at;
    }
    if !matches!(stage, Stage::Due | Stage::Greeting) {
        let id = asked(&mut h);
        old = Some(id);
        match stage {
            Stage::Failed => h.s.handle_endpoint(id, Err(ProviderError::new("down")), h.now),
            Stage::Reauthenticates | Stage::Ready => h.s.handle_endpoint(id, Ok(short("t2")), h.now),
            _ => {}
        }
        if stage == Stage::Reauthenticates {
            h.run();
            h.flush(0);
            assert_eq!(h.texts(0).last().unwrap().split(' ').nth(2), Some("t2"));
        }
    }
    h.asked.clear();
    match blow {
        Blow::Eof => _ = h.eof(0),
        Blow::Reset => {
            let cause = Disconnect::Io { kind: std::io::ErrorKind::ConnectionReset, message: "reset".into() };
            h.s.handle_disconnected(h.conns[0].id, cause, h.now);
        }
        Blow::CloseFrame => _ = h.feed_silently(0, &close(1000, "")),
        Blow::Reconnect => h.s.reconnect(h.now),
        Blow::Close => h.s.close(CloseCode::Normal, "", h.now),
        Blow::Abort => h.s.abort(h.now),
    }
    h.run();
    let ended = matches!(blow, Blow::Close | Blow::Abort);
    // A late answer does nothing.
    if let Some(id) = old {
        let (conns, state) = (h.conns.len(), h.s.state());
        h.s.handle_endpoint(id, Ok(endpoint("late")), h.now);
        h.s.handle_endpoint(id, Err(ProviderError::new("late")), h.now);
        h.run();
        assert_eq!((h.conns.len(), h.s.state()), (conns, state), "{stage:?} {blow:?}");
    }
    let status = h.s.status(h.now);
    assert_eq!((status.refresh_at, status.expires_at, status.refresh_failures), (None, None, 0));
    if ended {
        h.advance(secs(1000));
        assert_eq!((h.s.state(), h.asked.len()), (State::Closed, 0), "{stage:?} {blow:?}");
        return assert_eq!(h.run(), Stop::Closed);
    }
    // Back, having asked once for the attempt; not at all if an endpoint was there for it.
    if let Some(at) = status.retry_at {
        h.asked.clear();
        h.advance(at - h.now);
    }
    if stage == Stage::Ready {
        assert_eq!(h.asked, [], "{blow:?}");
    } else {
        h.asked.drain(..h.asked.len().saturating_sub(1));
        provide(&mut h, short("t3"));
    }
    let conn = h.conns.len() - 1;
    assert_eq!(conn, 1, "{stage:?} {blow:?}");
    h.open(conn);
    if stage == Stage::Greeting {
        h.feed(conn, &text("hello"));
    }
    let token = if stage == Stage::Ready { "t2" } else { "t3" };
    assert_eq!(h.texts(conn)[0].split(' ').nth(2), Some(token), "{stage:?} {blow:?}");
    answer(&mut h, conn, "ok", "");
    assert_eq!(h.s.state(), State::Online, "{stage:?} {blow:?}");
    until_asked(&mut h);
}

#[test]
fn a_reauthentication_waits_for_the_limiter_like_the_first() {
    let config = base(AGAIN).send_limit(Limit::window("messages", 2, secs(200)).margin(Duration::ZERO));
    let mut h = online(config, short("t1"));
    let begun = h.now;
    h.s.send(Message::Text("spent"), SendOptions::default(), h.now).unwrap();
    h.run();
    h.flush(0);
    until_asked(&mut h);
    provide(&mut h, short("t2").refresh(Refresh::Off));
    h.s.send(Message::Text("behind it"), SendOptions::default().timeout(secs(1000)), h.now).unwrap();
    h.advance(begun + secs(200) - h.now - millis(1));
    h.flush(0);
    assert_eq!(h.texts(0), ["auth 1 t1", "spent"]);
    h.advance(millis(1));
    h.flush(0);
    assert_eq!(h.texts(0)[2..], ["auth 2 t2", "behind it"]);
    answer_to(&mut h, 0, 2, "ok");
    assert_eq!(h.told().iter().filter(|event| matches!(event, OwnedEvent::Authenticated { .. })).count(), 1);
    assert_eq!((h.s.state(), h.conns.len()), (State::Online, 1));
}

fn answer_to(h: &mut Harness, conn: usize, id: u64, verb: &str) {
    h.feed(conn, &text(&format!("{verb} {id}")));
}

/// Whatever providers, servers and networks do, in whatever order: nobody is asked twice at a time, and all is well once they behave.
#[test]
fn random_weather() {
    for seed in 0..300 {
        ends(move || weather(seed));
    }
    let seen = SEEN.lock().unwrap();
    assert_eq!(seen.get("refreshed Auto"), None, "what is done is told");
    for what in [
        "refreshed Reauthenticate",
        "refreshed Reconnect",
        "refreshed Parameters",
        "failed",
        "Expired",
        "Renewed",
    ] {
        assert!(seen.get(what).is_some_and(|times| *times > 50), "{what} is seldom: {seen:?}");
    }
}

/// How often what happened, in all weathers.
static SEEN: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// Steps before all behave.
const WILD: usize = 300;

fn weather(seed: u64) {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut roll = move |sides: u32| dice.next_u32() % sides;
    let feed = Feed { greets: roll(2) == 0, auth: roll(3) > 0, again: roll(2) == 0, ..Feed::default() };
    let config = base(feed).flap_budget(None).connect_timeout(secs(3)).request_timeout(secs(5));
    let mut h = Harness::seeded(config, [seed as u8; 32]);
    let (mut answered, mut token) = (0, 0);
    for step in 0..WILD + 300 {
        h.run();
        // Of all that was asked, only the last question counts.
        let last = h.asked.last().copied();
        let conn = h.conns.len().checked_sub(1);
        let online = h.s.state() == State::Online;
        // Mostly it comes online, so that there is something to refresh.
        let deal = if step >= WILD || (!online && roll(8) > 0) { 10 } else { roll(10) };
        match (deal, last) {
            (0 | 1 | 8 | 10, Some(Output::Provide(id))) if answered < h.asked.len() => {
                answered = h.asked.len();
                token += 1;
                let [refresh, later] = [roll(4), roll(3)].map(|n| n as usize);
                let refresh =
                    [Refresh::Auto, Refresh::Reauthenticate, Refresh::Reconnect, Refresh::Parameters]
                        [refresh];
                let at_expiry = [AtExpiry::Keep, AtExpiry::Disconnect][roll(2) as usize];
                let fresh = endpoint(&format!("t{token}"));
                let fresh = if step < WILD { fresh.expires_in(secs([1, 20, 300][later])) } else { fresh };
                h.s.handle_endpoint(id, Ok(fresh.refresh(refresh).at_expiry(at_expiry)), h.now);
            }
            (2, Some(Output::Provide(id))) => {
                answered = h.asked.len();
                h.s.handle_endpoint(id, Err(ProviderError::new("down")), h.now);
            }
            (3, Some(Output::Provide(id))) => {
                answered = h.asked.len();
                h.s.handle_endpoint(id, Ok(endpoint("bad").pong_timeout(Duration::ZERO)), h.now);
            }
            // An old question's answer.
            (4, Some(_)) if h.asked.len() > 1 => {
                let Output::Provide(id) = h.asked[h.asked.len() - 2] else { panic!() };
                let before = h.s.status(h.now);
                h.s.handle_endpoint(id, Ok(endpoint("late")), h.now);
                h.run();
                assert_eq!(h.s.status(h.now), before);
            }
            (5, _) if roll(4) == 0 && conn.is_some_and(|conn| !h.conns[conn].dropped) => {
                _ = h.eof(conn.unwrap());
            }
            (6, _) if roll(4) == 0 => h.s.reconnect(h.now),
            (7, _) => {
                let most = [300, 2_000, 2_000, 30_000][roll(4) as usize];
                h.advance(millis(u64::from(roll(most))));
            }
            _ => {
                // The server does its part.
                let Some(conn) = conn.filter(|conn| !h.conns[*conn].dropped) else {
                    h.advance(secs(1));
                    continue;
                };
                if h.conns[conn].written.is_empty() {
                    h.s.handle_connected(h.conns[conn].id, h.now);
                    h.run();
                    h.flush(conn);
                    if !h.conns[conn].written.is_empty() {
                        let response = [accept(&h.conns[conn].written, ""), text("hello")].concat();
                        h.feed_silently(conn, &response);
                        h.flush(conn);
                    }
                }
                for said in h.texts(conn) {
                    let id: u64 = said.split(' ').nth(1).unwrap().parse().unwrap();
                    let verb = if deal == 9 && online { "no" } else { "ok" };
                    h.feed_silently(conn, &text(&format!("{verb} {id}")));
                }
                h.run();
                h.advance(millis(100));
            }
        }
        let status = h.s.status(h.now);
        assert!(online || h.s.state() != State::Closed, "{seed}: {status:?}");
        assert!(
            h.s.state() == State::Online || status.refresh_at.is_none_or(|at| at > h.now),
            "{seed}: {status:?}"
        );
    }
    assert_eq!(h.s.state(), State::Online, "{seed}: {:?}", h.s.status(h.now));
    let told = h.told();
    assert!(!format!("{told:?}").contains("late"), "{seed}");
    for event in told {
        let what = match event {
            OwnedEvent::Refreshed { by, .. } => format!("refreshed {by:?}"),
            OwnedEvent::RefreshFailed { .. } => "failed".to_owned(),
            OwnedEvent::Lost { error: error @ (Error::Expired | Error::Renewed), .. } => format!("{error:?}"),
            _ => continue,
        };
        *SEEN.lock().unwrap().entry(what).or_default() += 1;
    }
}
