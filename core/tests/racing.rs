//! The way to a connection: addresses that are raced (RFC 8305), what is remembered of them, and streams of the user's own.

mod common;

use common::*;
use everwire_core::{
    CloseCode, Config, Disconnect, Error, OnDisconnect, Output, OwnedEvent, Request, RequestOptions,
    ResolveError, SocketOptions, State, Timeout, Transport,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
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
                OwnedEvent::Closed { error: Some(Error::Connect { .. }) }
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
fn what_worked_goes_first_and_what_did_not_goes_last() {
    let mut h = racing(named(), "6a 6b 4a 4b");
    h.advance(DELAY);
    h.open(1);
    h.eof(1);
    assert!(matches!(h.told()[..], [OwnedEvent::Online { .. }, OwnedEvent::Lost { .. }]));

    // The address that worked comes first; its family, too.
    let from = again(&mut h, "6a 6b 4a 4b");
    h.advance(3 * DELAY);
    let order: Vec<_> = h.conns[from..].iter().map(|conn| short(conn.addr)).collect();
    assert_eq!(order, ["4a", "6a", "4b", "6b"]);

    // Behind it, there is a server that is not well.
    h.connect(from);
    h.feed(from, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    assert!(matches!(failure(&mut h), Error::Handshake(_)));
    let from = again(&mut h, "6a 6b 4a 4b");
    h.advance(3 * DELAY);
    let order: Vec<_> = h.conns[from..].iter().map(|conn| short(conn.addr)).collect();
    assert_eq!(order, ["6a", "4b", "6b", "4a"]);

    // One that says nothing at all after TCP.
    h.connect(from);
    h.advance(secs(10));
    assert_eq!(failure(&mut h), Error::Timeout(Timeout::Handshake));
    // And one that hangs up.
    let from = again(&mut h, "6a 6b 4a 4b");
    assert_eq!(short(h.conns[from].addr), "6b");
    h.connect(from);
    h.eof(from);
    assert!(matches!(failure(&mut h), Error::Handshake(_)));
    let from = again(&mut h, "6a 6b 4a 4b");
    h.advance(3 * DELAY);
    let order: Vec<_> = h.conns[from..].iter().map(|conn| short(conn.addr)).collect();
    assert_eq!(order, ["4b", "4a", "6a", "6b"], "those that failed, the latest last");

    // One that refuses TCP is not held against it: another is started beside it anyway.
    fail(&mut h, from);
    h.open(from + 1);
    assert_eq!(brief(&mut h), ["gap  Reconnect", "online true"]);
    h.eof(from + 1);
    h.told();
    let from = again(&mut h, "6a 6b 4a 4b");
    assert_eq!(short(h.conns[from].addr), "4a");
}

#[test]
fn what_the_user_ends_is_held_against_nobody() {
    let mut h = racing(named(), "4a 4b");
    h.open(0);
    h.s.reconnect(h.now);
    let from = again(&mut h, "4b 4a");
    assert_eq!(short(h.conns[from].addr), "4a", "it had worked");
}

#[test]
fn a_name_that_leads_elsewhere_is_believed() {
    let mut h = racing(named(), "4a 4b");
    h.open(0);
    h.eof(0);
    let from = again(&mut h, "4c 4d");
    assert_eq!(h.conns.len(), from + 1);
    assert_eq!(short(h.conns[from].addr), "4c");
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
fn a_redirect_starts_over() {
    let mut h = racing(named(), "6a 4a");
    h.advance(DELAY);
    h.connect(1);
    h.advance(secs(9));
    h.feed(1, b"HTTP/1.1 302 Found\r\nLocation: ws://other.example/feed\r\nContent-Length: 0\r\n\r\n");
    h.run();
    let Some(Output::Resolve(id)) = h.asked.last() else { panic!("the other name is looked up") };
    assert_eq!(h.s.host(*id), Some(("other.example", 80)));
    resolve(&mut h, "6c 4c");
    // With all of the time once more.
    h.advance(DELAY);
    assert_eq!(connects(&h, 2), ["6c 9250", "4c 9500"]);
    waits_until(&mut h, 19_250);
    h.open(3);
    assert_eq!(brief(&mut h), ["online false"]);
    assert_eq!(dropped(&h), [0, 1, 2]);

    // Both hosts' addresses are remembered.
    h.eof(3);
    let from = again(&mut h, "6a 4a");
    assert_eq!(short(h.conns[from].addr), "4a");
    h.connect(from);
    h.feed(from, b"HTTP/1.1 302 Found\r\nLocation: ws://other.example/feed\r\nContent-Length: 0\r\n\r\n");
    resolve(&mut h, "6c 4c");
    assert_eq!(short(h.conns[from + 1].addr), "4c");
}

#[test]
fn a_circle_of_redirects_is_held_against_the_address() {
    let mut h = racing(named().max_redirects(0).max_attempts(None), "4a 4b");
    h.connect(0);
    h.feed(0, b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
    let told = h.told();
    assert!(
        matches!(told[0], OwnedEvent::AttemptFailed { error: Error::TooManyRedirects { .. }, .. }),
        "{told:?}"
    );
}

#[test]
fn close_during_a_race() {
    let mut h = racing(named(), "6a 4a 6b");
    h.advance(DELAY);
    h.s.close(CloseCode::Normal, "", h.now);
    assert_eq!(h.run(), Stop::Closed);
    assert!(matches!(h.told()[..], [OwnedEvent::Closed { error: None }]));
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

/// What an address does, in milliseconds after it was begun.
#[derive(Debug, Clone, Copy)]
enum Does {
    Connect(u64),
    Refuse(u64),
    Nothing,
}

/// Random races, against a reckoning that looks at the whole race at once.
#[test]
fn any_race_is_run_as_reckoned() {
    for seed in 0..500_u64 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |n: u64| rng.next_u64() % n;
        let delay = 10 + below(200);
        let timeout = 200 + below(1200);
        let names = ["4a", "4b", "4c", "4d", "4e", "4f"];
        let count = 1 + below(6) as usize;
        let plan: Vec<Does> = (0..count)
            .map(|_| match below(4) {
                0 => Does::Connect(below(500)),
                1 | 2 => Does::Refuse(below(300)),
                _ => Does::Nothing,
            })
            .collect();

        // When each is begun, if nothing ends the race.
        let mut begins = vec![0];
        for n in 1..count {
            let patience = begins[n - 1] + delay;
            begins.push(match plan[n - 1] {
                Does::Refuse(after) => patience.min(begins[n - 1] + after),
                _ => patience,
            });
        }
        let wins = (0..count).filter_map(|n| match plan[n] {
            Does::Connect(after) if begins[n] + after < timeout => Some((begins[n] + after, n)),
            _ => None,
        });
        let won = wins.min();
        let all_refuse = plan.iter().all(|does| matches!(does, Does::Refuse(_)));
        let last = (0..count).filter_map(|n| match plan[n] {
            Does::Refuse(after) => Some(begins[n] + after),
            _ => None,
        });
        let lost = last.max().filter(|at| all_refuse && *at < timeout);
        let end = won.map(|(at, _)| at).or(lost).unwrap_or(timeout);

        let config = named().race_delay(millis(delay)).connect_timeout(millis(timeout));
        let mut h = racing(config, &names[..count].join(" "));
        let mut gone = vec![];
        'race: for ms in 0..=timeout {
            h.now = start().instant + millis(ms);
            // What the network says at a moment is heard before the timers of that moment are run.
            loop {
                let due = (0..h.conns.len()).find(|n| {
                    let at = h.conns[*n].at.duration_since(start().instant).as_millis() as u64;
                    let after = match plan[*n] {
                        Does::Connect(after) | Does::Refuse(after) => at + after,
                        Does::Nothing => u64::MAX,
                    };
                    after == ms && ms < timeout && !gone.contains(n)
                });
                let Some(n) = due else {
                    let begun = h.conns.len();
                    h.run();
                    if h.conns.len() == begun {
                        break;
                    }
                    continue;
                };
                gone.push(n);
                if let Does::Connect(_) = plan[n] {
                    h.s.handle_connected(h.conns[n].id, h.now);
                    h.run();
                    break 'race;
                }
                fail(&mut h, n);
                if !h.events.is_empty() {
                    break 'race;
                }
            }
            h.run();
            if !h.events.is_empty() {
                break;
            }
        }
        let told = h.told();
        let context = format!("seed {seed}: {plan:?}, delay {delay}, timeout {timeout}: {told:?}");
        assert_eq!(h.now.duration_since(start().instant), millis(end), "{context}");
        for (n, conn) in h.conns.iter().enumerate() {
            assert_eq!(conn.at.duration_since(start().instant), millis(begins[n]), "{n} {context}");
            let winner = won.is_some_and(|(_, winner)| winner == n);
            let refused = gone.contains(&n) && matches!(plan[n], Does::Refuse(_));
            assert_eq!(conn.dropped, !winner && !refused, "{n} {context}");
        }
        assert!(begins.get(h.conns.len()).is_none_or(|next| *next >= end), "{context}");
        match (won, lost) {
            (Some((_, winner)), _) => {
                assert!(told.is_empty(), "{context}");
                h.flush(winner);
                let response = accept(&h.conns[winner].written, "");
                h.feed(winner, &response);
                assert_eq!(brief(&mut h), ["online false"], "{context}");
            }
            (None, Some(_)) => assert!(
                matches!(told[..], [OwnedEvent::AttemptFailed { error: Error::Connect { .. }, .. }]),
                "{context}"
            ),
            (None, None) => assert!(
                matches!(
                    told[..],
                    [OwnedEvent::AttemptFailed { error: Error::Timeout(Timeout::Connect), .. }]
                ),
                "{context}"
            ),
        }
    }
}

// ---- Streams of the user's connector.

fn own(url: &str, transport: Transport) -> Harness {
    let mut h = Harness::new(Config::new(url).expect("a URL").ping_interval(None).transport(transport));
    h.run();
    h
}

/// That the connector was asked for the latest connection, and for nothing else.
fn asked(h: &mut Harness) -> usize {
    let last = h.conns.len() - 1;
    assert_eq!(std::mem::take(&mut h.asked), [Output::Open(h.conns[last].id)]);
    last
}

#[test]
fn a_connector_is_asked_and_nothing_is_resolved_or_connected() {
    for url in ["ws://feed.invalid:7/x", "ws://192.0.2.1:7/x"] {
        for transport in [Transport::Connector, Transport::SecuredConnector] {
            let mut h = own(url, transport);
            assert_eq!(asked(&mut h), 0);
            let id = h.conns[0].id;
            let target = h.s.target(id).expect("what is to be reached");
            assert_eq!((target.port(), target.resource()), (7, "/x"));
            waits_until(&mut h, 10_000);
            h.open(0);
            assert!(h.conns[0].written.starts_with(b"GET /x HTTP/1.1\r\n"));
            assert_eq!((brief(&mut h), h.s.target(id)), (vec!["online false".to_owned()], None));
            assert!(h.asked.is_empty());
        }
    }
}

#[test]
fn a_connector_fails_and_is_asked_again() {
    let mut h = own("ws://feed.invalid/", Transport::Connector);
    asked(&mut h);
    let cause = Disconnect::from(std::io::Error::other("no such socket file"));
    h.s.handle_disconnected(h.conns[0].id, cause.clone(), h.now);
    h.run();
    let error = failure(&mut h);
    assert_eq!(error, Error::Open(cause));
    assert_eq!(error.to_string(), "the connector opened no stream: no such socket file");
    assert_eq!(h.next_conn(), 1);
    assert_eq!((asked(&mut h), dropped(&h)), (1, vec![]));
    // Of the first, nothing more is heard.
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    assert!(h.s.transmit(h.conns[0].id).is_empty());
    h.open(1);
    assert_eq!(brief(&mut h), ["online false"]);
}

#[test]
fn a_connector_that_is_late_comes_too_late() {
    let mut h = own("ws://feed.invalid/", Transport::Connector);
    h.advance(secs(10));
    assert_eq!((failure(&mut h), dropped(&h)), (Error::Timeout(Timeout::Connect), vec![0]));
    assert_eq!(h.s.target(h.conns[0].id), None);
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    fail(&mut h, 0);
    assert!(h.events.is_empty() && h.s.transmit(h.conns[0].id).is_empty());
}

#[test]
fn a_connector_and_the_end() {
    let mut h = own("ws://feed.invalid/", Transport::Connector);
    h.s.close(CloseCode::Normal, "", h.now);
    assert_eq!((h.run(), dropped(&h)), (Stop::Closed, vec![0]));
}

#[test]
fn a_redirect_asks_the_connector_again() {
    let mut h = own("ws://feed.invalid/", Transport::Connector);
    asked(&mut h);
    h.connect(0);
    h.feed(0, b"HTTP/1.1 302 Found\r\nLocation: ws://other.invalid/y\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((asked(&mut h), dropped(&h)), (1, vec![0]));
    let target = h.s.target(h.conns[1].id).expect("what is to be reached");
    assert_eq!((target.host(), target.resource()), ("other.invalid", "/y"));
    h.open(1);
    assert_eq!(brief(&mut h), ["online false"]);
}

#[test]
fn a_secured_stream_is_not_secured_again() {
    let mut h = own("wss://feed.invalid/x", Transport::SecuredConnector);
    h.open(0);
    assert!(h.conns[0].written.starts_with(b"GET /x HTTP/1.1\r\nHost: feed.invalid\r\n"));
    assert_eq!(brief(&mut h), ["online false"]);
}

#[cfg(feature = "tls")]
#[test]
fn tls_goes_over_a_connectors_stream() {
    let mut h = own("wss://feed.invalid/x", Transport::Connector);
    h.connect(0);
    // A handshake record (RFC 8446 section 5.1) with a ClientHello that names the host.
    let hello = &h.conns[0].written;
    assert_eq!((hello[0], hello[5]), (22, 1));
    assert!(hello.windows(12).any(|window| window == b"feed.invalid"));
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_so() {
    let mut h = own("wss://feed.invalid/x", Transport::Connector);
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    assert_eq!(dropped(&h), [0]);
    let told = h.told();
    assert!(matches!(told[0], OwnedEvent::AttemptFailed { error: Error::TlsNotBuilt, .. }), "{told:?}");
}
