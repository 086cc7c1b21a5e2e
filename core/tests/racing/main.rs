//! The way to a connection: addresses that are raced (RFC 8305), what is remembered of them, and streams of the user's own.

#[path = "../common/mod.rs"]
mod common;
mod memory;
mod model;
mod own;

use common::*;
use everwire_core::{
    CloseCode, Config, Disconnect, Error, OnDisconnect, Output, OwnedEvent, Request, RequestOptions,
    ResolveError, SocketOptions, State, Timeout,
};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const DELAY: Duration = millis(250);

fn named() -> Config {
    Config::new("ws://example.com/feed").expect("a URL").ping_interval(None)
}

/// `4a` is the first IPv4 address, `6b` the second IPv6 address.
fn addr(name: &str) -> SocketAddr {
    let (family, letter) = name.split_at(1);
    let last = letter.as_bytes()[0] - b'a' + 1;
    match family {
        "4" => ([192, 0, 2, last], 80).into(),
        _ => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)], 80).into(),
    }
}

fn addrs(names: &str) -> Vec<SocketAddr> {
    names.split_whitespace().map(addr).collect()
}

/// The short name of an address.
fn short(addr: SocketAddr) -> String {
    let (family, last) = match addr.ip() {
        IpAddr::V4(ip) => (4, ip.octets()[3]),
        IpAddr::V6(ip) => (6, ip.octets()[15]),
    };
    format!("{family}{}", char::from(b'a' + last - 1))
}

/// Answers the question for a name, which must be the last that was asked.
fn resolve(h: &mut Harness, names: &str) {
    h.run();
    let Some(Output::Resolve(id)) = h.asked.pop() else { panic!("no name is asked for: {:?}", h.asked) };
    h.s.handle_resolved(id, Ok(&addrs(names)), h.now);
    h.run();
}

/// A harness whose first attempt races these addresses.
fn racing(config: Config, names: &str) -> Harness {
    let mut h = Harness::new(config);
    resolve(&mut h, names);
    h
}

/// What was connected to, from a connection on, with the milliseconds since the start.
fn connects(h: &Harness, from: usize) -> Vec<String> {
    let since = |at: std::time::Instant| at.duration_since(start().instant).as_millis();
    h.conns[from..].iter().map(|conn| format!("{} {}", short(conn.addr), since(conn.at))).collect()
}

/// Which connections the session wants dropped.
fn dropped(h: &Harness) -> Vec<usize> {
    (0..h.conns.len()).filter(|n| h.conns[*n].dropped).collect()
}

fn refused() -> Disconnect {
    Disconnect::from(std::io::Error::from(ErrorKind::ConnectionRefused))
}

fn fail(h: &mut Harness, conn: usize) -> Stop {
    h.s.handle_disconnected(h.conns[conn].id, refused(), h.now);
    h.run()
}

/// The error of the one attempt that failed.
fn failure(h: &mut Harness) -> Error {
    match &h.told()[..] {
        [OwnedEvent::AttemptFailed { error, .. }] => error.clone(),
        other => panic!("no failed attempt: {other:?}"),
    }
}

/// Time passes until the next attempt asks for the name, and is told these addresses.
fn again(h: &mut Harness, names: &str) -> usize {
    for _ in 0..1000 {
        let Stop::Wait(Some(due)) = h.run() else { panic!("no attempt is to come") };
        if matches!(h.asked.last(), Some(Output::Resolve(_))) {
            let from = h.conns.len();
            resolve(h, names);
            return from;
        }
        h.now = due;
    }
    panic!("no attempt is made");
}

/// The harness waits for this moment, in milliseconds since the start, and for nothing before it.
fn waits_until(h: &mut Harness, at: u64) {
    assert_eq!(h.run(), Stop::Wait(Some(start().instant + millis(at))));
    assert_eq!(h.s.timeout(), Some(start().instant + millis(at)));
    // The same question, the same answer.
    assert_eq!(h.s.poll_output(h.now), Output::Wait(Some(start().instant + millis(at))));
}

#[test]
fn families_take_turns_every_250_ms_and_the_whole_has_its_time() {
    let mut h = racing(named(), "6a 6b 4a 4b");
    for (n, next) in [250, 500, 750, 10_000].into_iter().enumerate() {
        assert_eq!(h.conns.len(), n + 1);
        waits_until(&mut h, next);
        h.advance(millis(next) - (h.now - start().instant) - Duration::from_nanos(1));
        assert_eq!(h.conns.len(), n + 1, "not before its time");
        h.advance(Duration::from_nanos(1));
    }
    assert_eq!(connects(&h, 0), ["6a 0", "4a 250", "6b 500", "4b 750"]);
    assert_eq!(failure(&mut h), Error::Timeout(Timeout::Connect));
    assert_eq!(dropped(&h), [0, 1, 2, 3]);
    assert_eq!(h.s.state(), State::Backoff);
}

#[test]
fn a_black_hole_costs_250_ms() {
    let mut h = racing(named(), "6a 4a");
    h.advance(DELAY);
    h.connect(1);
    assert_eq!(dropped(&h), [0], "the loser is dropped as soon as there is a winner");
    // Whatever comes of the loser changes nothing.
    h.s.handle_connected(h.conns[0].id, h.now);
    assert!(h.s.transmit(h.conns[0].id).is_empty() && h.s.recv_buffer(h.conns[0].id).is_empty());
    fail(&mut h, 0);
    let response = accept(&h.conns[1].written, "");
    h.feed(1, &response);
    assert_eq!(brief(&mut h), ["online false"]);
    assert_eq!(h.now - start().instant, DELAY);
    fail(&mut h, 0);
    assert_eq!((h.events.len(), dropped(&h)), (0, vec![0]));
}

#[test]
fn the_first_address_has_won_when_nothing_was_slow() {
    let mut h = racing(named(), "6a 4a 4b");
    h.advance(DELAY - Duration::from_nanos(1));
    h.open(0);
    assert_eq!(brief(&mut h), ["online false"]);
    h.advance(secs(60));
    assert_eq!((connects(&h, 0), dropped(&h)), (vec!["6a 0".to_owned()], vec![]));
}

#[test]
fn when_all_refuse_each_is_tried_at_once_and_the_attempt_fails_once() {
    let mut h = racing(named(), "6a 6b 4a");
    for n in 0..3 {
        assert_eq!(h.conns.len(), n + 1);
        fail(&mut h, n);
    }
    assert_eq!(connects(&h, 0), ["6a 0", "4a 0", "6b 0"]);
    let told = h.told();
    let [OwnedEvent::AttemptFailed { failures: 1, error, retry_at: Some(_) }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*error, Error::Connect { addr: addr("6b"), cause: refused() });
    assert_eq!((h.s.stats().failed_attempts, h.s.status(h.now).failures), (1, 1));
    assert!(dropped(&h).is_empty(), "they are gone");
}

#[test]
fn attempts_are_counted_and_not_addresses() {
    let mut h = racing(named().max_attempts(2).flap_budget((2, secs(600))), "4a 4b 4c");
    for n in 0..3 {
        fail(&mut h, n);
    }
    let from = again(&mut h, "4a 4b 4c");
    assert_eq!(from, 3);
    for n in 3..6 {
        fail(&mut h, n);
    }
    let told = h.told();
    assert!(
        matches!(
            told[..],
            [
                OwnedEvent::AttemptFailed { failures: 1, .. },
                OwnedEvent::AttemptFailed { failures: 2, .. },
                OwnedEvent::Closed { error: Some(Error::Connect { .. }), .. }
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn a_failure_hurries_the_next_and_only_the_next() {
    let mut h = racing(named(), "4a 4b 4c 4d");
    h.advance(millis(100));
    fail(&mut h, 0);
    waits_until(&mut h, 350);
    h.advance(millis(250));
    // The one before the last fails: the last has its time all the same.
    fail(&mut h, 1);
    waits_until(&mut h, 600);
    h.advance(millis(300));
    assert_eq!(connects(&h, 0), ["4a 0", "4b 100", "4c 350", "4d 600"]);
    // All are started: the rest is waited for.
    fail(&mut h, 3);
    waits_until(&mut h, 10_000);
    fail(&mut h, 2);
    assert_eq!(failure(&mut h), Error::Connect { addr: addr("4c"), cause: refused() });
}

#[test]
fn a_machine_without_a_family_tells_of_the_other() {
    let unreachable = Disconnect::from(std::io::Error::from(ErrorKind::NetworkUnreachable));
    let mut h = racing(named(), "4a 6a");
    fail(&mut h, 0);
    h.s.handle_disconnected(h.conns[1].id, unreachable, h.now);
    h.run();
    assert_eq!(failure(&mut h), Error::Connect { addr: addr("4a"), cause: refused() });
}

#[test]
fn a_loser_connects_before_it_is_dropped() {
    let mut h = racing(named(), "6a 4a");
    h.advance(DELAY);
    // Both are told before the session is polled again.
    h.s.handle_connected(h.conns[1].id, h.now);
    h.s.handle_connected(h.conns[0].id, h.now);
    assert!(h.s.transmit(h.conns[0].id).is_empty());
    h.run();
    assert_eq!(dropped(&h), [0]);
    h.flush(1);
    let response = accept(&h.conns[1].written, "");
    h.feed(1, &response);
    assert_eq!(brief(&mut h), ["online false"]);
}

#[test]
fn a_loser_that_is_gone_is_not_dropped() {
    let mut h = racing(named(), "6a 4a");
    h.advance(DELAY);
    h.s.handle_connected(h.conns[1].id, h.now);
    h.s.handle_disconnected(h.conns[0].id, refused(), h.now);
    h.run();
    assert!(dropped(&h).is_empty());
}

#[test]
fn losers_are_dropped_although_an_event_is_not_taken() {
    let mut h = racing(named().protocol(Lines::default()), "6a 4a 6b");
    let on_disconnect = OnDisconnect::Hold;
    let options = RequestOptions { timeout: Some(millis(300)), on_disconnect, ..Default::default() };
    h.s.request(Request::new("any"), options, h.now).unwrap();
    h.takes = false;
    assert_eq!(h.advance(millis(300)), Stop::Event);
    // An address fails: the next is connected to. It succeeds: the others are dropped.
    assert_eq!(fail(&mut h, 1), Stop::Event);
    assert_eq!(connects(&h, 0), ["6a 0", "4a 250", "6b 300"]);
    h.s.handle_connected(h.conns[2].id, h.now);
    assert_eq!((h.run(), dropped(&h)), (Stop::Event, vec![0]));
    h.takes = true;
    h.flush(2);
    let response = accept(&h.conns[2].written, "");
    h.feed(2, &response);
    assert_eq!(brief(&mut h), ["1 not sent: Timeout", "online false"]);
}

#[test]
fn the_time_counts_from_the_beginning_of_the_attempt() {
    let mut h = Harness::new(named());
    h.advance(millis(9_700));
    resolve(&mut h, "6a 4a 6b");
    waits_until(&mut h, 9_950);
    h.advance(millis(250));
    assert_eq!(connects(&h, 0), ["6a 9700", "4a 9950"]);
    waits_until(&mut h, 10_000);
    h.advance(millis(50));
    assert_eq!((failure(&mut h), dropped(&h)), (Error::Timeout(Timeout::Connect), vec![0, 1]));
    // The third was not worth beginning.
    assert_eq!(h.conns.len(), 2);
}

#[test]
fn a_driver_that_comes_late_starts_one_at_a_time() {
    let mut h = racing(named(), "4a 4b 4c 4d");
    h.now += millis(900);
    h.run();
    assert_eq!(connects(&h, 0), ["4a 0", "4b 900"]);
    waits_until(&mut h, 1_150);
}

#[test]
fn one_after_the_other_each_with_its_share() {
    let mut h = racing(named().race_delay(None).connect_timeout(secs(9)), "6a 6b 4a");
    h.advance(secs(3));
    assert_eq!((connects(&h, 0), dropped(&h)), (vec!["6a 0".to_owned(), "4a 3000".to_owned()], vec![0]));
    // It has left it: late news change nothing.
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    fail(&mut h, 1);
    waits_until(&mut h, 9_000);
    h.open(2);
    assert_eq!((brief(&mut h), dropped(&h)), (vec!["online false".to_owned()], vec![0]));
}

#[test]
fn the_delay_may_be_another() {
    let mut h = racing(named().race_delay(millis(10)), "4a 4b 4c");
    h.advance(secs(1));
    assert_eq!(connects(&h, 0), ["4a 0", "4b 10", "4c 20"]);
}

#[test]
fn close_during_a_race() {
    let mut h = racing(named(), "6a 4a 6b");
    h.advance(DELAY);
    h.s.close(CloseCode::Normal, "", h.now);
    assert_eq!(h.run(), Stop::Closed);
    assert!(matches!(h.told()[..], [OwnedEvent::Closed { error: None, .. }]));
    assert_eq!((h.conns.len(), dropped(&h)), (2, vec![0, 1]));
    for n in 0..2 {
        h.s.handle_connected(h.conns[n].id, h.now);
        fail(&mut h, n);
    }
    assert_eq!((h.run(), h.events.len()), (Stop::Closed, 0));
}

#[test]
fn abort_during_a_race() {
    let mut h = racing(named(), "6a 4a 6b");
    h.advance(DELAY);
    h.s.abort(h.now);
    assert_eq!((h.run(), dropped(&h)), (Stop::Closed, vec![0, 1]));
}

#[test]
fn reconnect_during_a_race_does_nothing() {
    let mut h = racing(named(), "6a 4a");
    h.advance(millis(100));
    h.s.reconnect(h.now);
    waits_until(&mut h, 250);
    h.advance(DELAY);
    h.open(1);
    assert_eq!((connects(&h, 0).len(), brief(&mut h)), (2, vec!["online false".to_owned()]));
}

#[test]
fn late_answers_of_the_resolver_change_nothing() {
    let mut h = Harness::new(named());
    h.run();
    let Some(Output::Resolve(id)) = h.asked.pop() else { panic!("a name is asked for") };
    for _ in 0..3 {
        h.s.handle_resolved(id, Ok(&addrs("4a 4b")), h.now);
    }
    h.s.handle_resolved(id, Err(ResolveError { message: "late".into() }), h.now);
    h.run();
    assert_eq!((connects(&h, 0), h.events.len()), (vec!["4a 0".to_owned()], 0));
}

#[test]
fn with_a_local_address_only_its_family_is_connected_to() {
    let sockets = SocketOptions::default().local_address(Ipv4Addr::new(192, 0, 2, 99));
    let mut h = racing(named().sockets(sockets.clone()), "6a 4a 6b 4b");
    h.advance(secs(2));
    assert_eq!(connects(&h, 0), ["4a 0", "4b 250"]);
    let local = h.s.socket_options().local_for(h.conns[0].addr);
    assert_eq!(local, Some("192.0.2.99:0".parse().unwrap()));
    assert_eq!(h.s.socket_options().local_for(addr("6a")), None);

    // None of that family: the attempt says so.
    let mut h = racing(named().sockets(sockets.clone()), "6a 6b");
    let Error::Resolve(ResolveError { message }) = failure(&mut h) else { panic!("nothing to connect to") };
    assert!(message.contains("Config::sockets"), "{message}");
    assert!(h.conns.is_empty());
    let mut h = Harness::new(Config::new("ws://[2001:db8::1]/").unwrap().sockets(sockets.clone()));
    h.run();
    assert!(matches!(failure(&mut h), Error::Resolve(_)) && h.conns.is_empty());

    // One of each: both are connected to.
    let both = sockets.local_address(Ipv6Addr::LOCALHOST);
    let mut h = racing(named().sockets(both), "6a 4a");
    h.advance(secs(2));
    assert_eq!(connects(&h, 0), ["6a 0", "4a 250"]);
    assert_eq!(h.s.socket_options().local_for(addr("6a")), Some("[::1]:0".parse().unwrap()));
}
