//! What is remembered of addresses from one attempt to the next, and redirects.

use super::common::*;
use super::*;

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
