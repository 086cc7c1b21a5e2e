//! Every fault of the opening handshake.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use common::*;
use everwire_testing::tungstenite::Error;
use everwire_testing::tungstenite::error::ProtocolError;
use everwire_testing::{HandshakeFault, MockServer};

fn with(fault: HandshakeFault) -> MockServer {
    MockServer::builder().handshake(fault).start()
}

fn raw_response(server: &MockServer) -> (Vec<u8>, std::io::Result<()>) {
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/", "")).unwrap();
    read_all(&mut stream)
}

#[test]
fn status() {
    let server = with(HandshakeFault::status_with(429, &[("Retry-After", "7")], "slow down"));
    let (data, end) = raw_response(&server);
    assert_eq!(
        String::from_utf8(data).unwrap(),
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 9\r\nConnection: close\r\n\r\nslow down"
    );
    end.unwrap();
    match try_connect(&server) {
        Err(Error::Http(response)) => assert_eq!(response.status(), 429),
        other => panic!("{other:?}"),
    }
    assert_eq!((server.attempts(), server.connections(), server.requests().len()), (2, 0, 2));
    assert!(server.failures()[0].starts_with("fault: Status"), "{:?}", server.failures());
}

#[test]
fn any_status_number() {
    let (data, _) = raw_response(&with(HandshakeFault::status(7)));
    assert!(data.starts_with(b"HTTP/1.1 7 Unknown\r\n"));
}

#[test]
fn redirect() {
    let server = with(HandshakeFault::Redirect { status: 307, location: "wss://elsewhere.invalid/".into() });
    let (data, end) = raw_response(&server);
    assert!(
        data.starts_with(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: wss://elsewhere.invalid/\r\n"),
        "{:?}",
        String::from_utf8_lossy(&data)
    );
    end.unwrap();
}

#[test]
fn raw_bytes() {
    let server = with(HandshakeFault::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()));
    let (data, end) = raw_response(&server);
    assert_eq!(data, b"SSH-2.0-OpenSSH\r\n");
    end.unwrap();
    let (data, end) = raw_response(&with(HandshakeFault::Raw(Vec::new())));
    assert_eq!(data, b"");
    end.unwrap();
}

#[test]
fn wrong_accept() {
    let server = with(HandshakeFault::WrongAccept);
    let error = try_connect(&server).unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::SecWebSocketAcceptKeyMismatch)), "{error}");
    assert_eq!(server.connections(), 0);
}

#[test]
fn bad_extension() {
    let server = with(HandshakeFault::BadExtension("x-unheard-of; q=1".into()));
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/", "")).unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Extensions: x-unheard-of; q=1\r\n"), "{head}");
    // The server waits for the client to end it.
    stream.set_read_timeout(Some(SHORT)).unwrap();
    assert!(matches!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert_eq!(server.connections(), 0);
}

#[test]
fn silent() {
    for builder in [MockServer::builder(), MockServer::builder().tls()] {
        let server = builder.handshake(HandshakeFault::Silent).start();
        let mut stream = tcp(server.addr());
        stream.write_all(&upgrade_request("/", "")).unwrap();
        stream.set_read_timeout(Some(SHORT)).unwrap();
        assert!(matches!(
            stream.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
        server.wait_attempts(1, SOON).unwrap();
        assert_eq!(server.connections(), 0);
        assert!(server.requests().is_empty());
    }
}

#[test]
fn reset() {
    let (data, end) = raw_response(&with(HandshakeFault::Reset));
    assert_eq!(data, b"");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn delay() {
    let delay = Duration::from_millis(50);
    let server = with(HandshakeFault::Delay(delay));
    let started = Instant::now();
    connect(&server);
    assert!(started.elapsed() >= delay);
    assert_eq!(server.connections(), 1);
}

#[test]
fn faults_for_some_connections_only() {
    let server = MockServer::builder()
        .handshake_for(2, HandshakeFault::status(503))
        .handshake_for(0, HandshakeFault::status(500))
        .handshake_for(1, HandshakeFault::status(401))
        .start();
    let status = |server: &MockServer| match try_connect(server) {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    };
    let got: Vec<u16> = (0..5).map(|_| status(&server)).collect();
    assert_eq!(got, [503, 503, 401, 101, 101]);
    assert_eq!((server.attempts(), server.connections()), (5, 2));

    server.handshake_for(1, HandshakeFault::status(500));
    assert_eq!([status(&server), status(&server)], [500, 101]);
    server.handshake_for(1, HandshakeFault::status(500));
    server.set_handshake(Some(HandshakeFault::status(502)));
    assert_eq!([status(&server), status(&server)], [502, 502]);
    server.set_handshake(None);
    assert_eq!(status(&server), 101);
}

#[test]
fn bad_subprotocol() {
    let server = with(HandshakeFault::BadSubprotocol("v9.unasked".into()));
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/", "Sec-WebSocket-Protocol: v1\r\n")).unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.ends_with("\r\nSec-WebSocket-Protocol: v9.unasked\r\n\r\n"), "{head}");
    assert_eq!(server.connections(), 0);
}
