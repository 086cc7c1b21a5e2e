//! Streams of the user's connector.

use super::common::*;
use super::*;
use everwire_core::Transport;

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
