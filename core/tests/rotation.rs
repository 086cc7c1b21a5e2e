//! Servers that end each connection after a time: the session leaves before that.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;
mod needs;

use common::*;
use everwire_core::protocol::Ack;
use everwire_core::{Config, Endpoint, Error, Output, OwnedEvent, State};
use needs::*;
use std::time::Duration;

fn mortal(life: Duration) -> Words {
    Words { life: Some(life), subscribes: Ack::None, ..Words::default() }
}

/// Lives a life that is not disturbed, and says how long it took.
fn live(h: &mut Harness, conn: usize) -> Duration {
    let begun = h.now;
    let next = h.next_conn();
    h.flush(conn);
    assert_eq!(h.close_frame(conn), Some((1000, String::new())), "it says good-bye");
    let lived = h.now - begun;
    h.open(next);
    lived
}

#[test]
fn it_leaves_ahead_of_the_end_and_is_not_late_for_the_next() {
    let mut h = opened_with(mortal(secs(1000)), |config| config.backoff(secs(100), secs(100)));
    subscribe(&mut h, "a");
    assert_eq!(brief(&mut h), ["online false", "+a"]);
    let due = h.s.status(h.now).refresh_at.unwrap() - h.now;
    assert!(secs(950) <= due && due <= secs(980), "{due:?}");
    h.advance(due - millis(1));
    h.flush(0);
    assert_eq!((brief(&mut h).len(), h.conns.len()), (0, 1));
    h.advance(millis(1));
    h.flush(0);
    let told = h.told();
    let [OwnedEvent::Lost { error: Error::Rotated, retry_at, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*retry_at, h.conns.len()), (Some(h.now), 2), "at once");
    assert_eq!(h.close_frame(0), Some((1000, String::new())));
    h.open(1);
    assert_eq!(brief(&mut h), ["gap a Reconnect", "+a", "online true"]);
    assert_eq!((h.s.status(h.now).failures, h.s.stats().failed_attempts), (0, 0));
}

#[test]
fn no_two_lives_are_the_same() {
    let mut h = opened(mortal(secs(24 * 3600)));
    let mut lives: Vec<Duration> = (0..20).map(|conn| live(&mut h, conn)).collect();
    let range = secs(82_080)..=secs(84_672);
    assert!(lives.iter().all(|life| range.contains(life)), "{lives:?}");
    lives.sort_unstable();
    lives.dedup();
    assert_eq!(lives.len(), 20);
    assert!(lives[19] - lives[0] > secs(500), "{lives:?}");
}

#[test]
fn a_life_has_bounds() {
    let mut h = opened(mortal(Duration::ZERO));
    let lived = live(&mut h, 0);
    assert!(millis(950) <= lived && lived <= millis(980), "{lived:?}");
    let h = opened(mortal(Duration::MAX));
    assert!(h.s.status(h.now).refresh_at.unwrap() > h.now + secs(300 * 24 * 3600));
}

#[test]
fn as_long_as_no_other_may_be_made_the_old_one_goes_on() {
    let mut h = opened_with(mortal(secs(10)), |config| config.flap_budget((2, secs(100))));
    let start = h.now;
    h.advance(secs(10));
    h.open(1);
    assert_eq!(h.conns.len(), 2);
    h.told();
    h.advance(secs(80));
    assert_eq!((h.conns.len(), h.s.state(), h.told().len()), (2, State::Online, 0));
    let next = h.next_conn();
    assert_eq!(h.now, start + secs(100));
    h.open(next);
}

#[test]
fn a_connection_that_is_not_online_yet_is_not_left() {
    let mut h = opened_with(Words { steps: vec![Ack::Response], ..mortal(secs(10)) }, |config| {
        config.request_timeout(secs(60))
    });
    h.advance(secs(50));
    assert_eq!((h.conns.len(), h.s.state()), (1, State::Preparing));
    say(&mut h, 0, &["ok 2"]);
    h.advance(millis(1));
    assert_eq!(
        brief(&mut h)[..2],
        [
            "online false",
            "lost: the session changes over to a new connection before the server ends this one"
        ]
    );
}

#[test]
fn a_provider_is_asked_for_the_next_endpoint() {
    let config = Config::provided().ping_interval(None).protocol(mortal(secs(100)));
    let mut h = Harness::new(config);
    h.run();
    for conn in 0..3 {
        let Some(Output::Provide(id)) = h.asked.pop() else { panic!("{:?}", h.asked) };
        h.s.handle_endpoint(id, Ok(Endpoint::new("ws://127.0.0.1:9/").unwrap()), h.now);
        h.run();
        h.open(conn);
        h.advance(secs(99));
        h.flush(conn);
    }
    assert_eq!(h.s.stats().connections, 3);
}

#[test]
fn a_session_of_one_connection_stays_on_it_to_the_end() {
    let mut h = opened_with(mortal(secs(10)), |config| config.no_reconnect());
    assert_eq!((h.s.status(h.now).refresh_at, h.advance(secs(3600))), (None, Stop::Wait(None)));
    assert_eq!(h.s.state(), State::Online);
}
