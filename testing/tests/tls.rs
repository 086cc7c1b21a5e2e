//! TLS, well and badly.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, ErrorKind, Read, Write};

use common::*;
use everwire_testing::tungstenite::Error;
use everwire_testing::{ConnectionEnd, HandshakeFault, Message, MockServer, TlsFault};
use rustls::{AlertDescription, CertificateError};

fn with(fault: TlsFault) -> MockServer {
    MockServer::builder().tls_with(fault).start()
}

/// The error of the TLS handshake, which there must be.
fn tls_error(server: &MockServer) -> rustls::Error {
    let mut stream = tls(server, None);
    let io = stream.conn.complete_io(&mut stream.sock).unwrap_err();
    inner(io)
}

fn inner(error: io::Error) -> rustls::Error {
    let text = error.to_string();
    *error.into_inner().unwrap_or_else(|| panic!("{text}")).downcast().unwrap()
}

#[test]
fn all_is_well() {
    let server = MockServer::builder().tls().handler(|conn, message| conn.send(message)).start();
    assert_eq!(server.url(), format!("wss://localhost:{}/", server.addr().port()));
    let (mut client, _) = handshake(server.url(), tls(&server, None)).unwrap();
    let big = "x".repeat(200_000);
    client.send(Message::text(&big)).unwrap();
    assert_eq!(read_text(&mut client), big);
    client.close(None).unwrap();
    assert!(client.read().unwrap().is_close());
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
    let conn = server.last().unwrap();
    assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Closed { by_server: false, frame: None }));
}

#[test]
fn the_certificate_is_wrong() {
    type Check = fn(&CertificateError) -> bool;
    let cases: [(TlsFault, Check); 5] = [
        (TlsFault::UnknownIssuer, |e| matches!(e, CertificateError::UnknownIssuer)),
        (TlsFault::SelfSigned, |e| matches!(e, CertificateError::UnknownIssuer)),
        (TlsFault::Expired, |e| {
            matches!(e, CertificateError::Expired | CertificateError::ExpiredContext { .. })
        }),
        (TlsFault::NotYetValid, |e| {
            matches!(e, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })
        }),
        (TlsFault::WrongName, |e| {
            matches!(e, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
        }),
    ];
    for (fault, check) in cases {
        let server = with(fault);
        let error = tls_error(&server);
        assert!(matches!(&error, rustls::Error::InvalidCertificate(e) if check(e)), "{fault:?}: {error}");
        server.wait_attempts(1, SOON).unwrap();
        assert_eq!(server.connections(), 0);
    }
}

#[test]
fn the_server_wants_to_know_the_client() {
    let server = with(TlsFault::ClientCertificateRequired);
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    let mut stream = tls(&server, None);
    let mut read = || {
        stream.write_all(&upgrade_request("/", ""))?;
        stream.read(&mut [0])
    };
    let error = inner(read().unwrap_err());
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
    assert_eq!(server.connections(), 0);

    let identity = server.client_identity().unwrap();
    assert!(!format!("{identity:?}").contains("PRIVATE"));
    handshake(server.url(), tls(&server, Some(identity))).unwrap();
    assert_eq!(server.connections(), 1);
}

#[test]
fn the_server_does_not_speak_tls() {
    let server = with(TlsFault::PlainHttp);
    let error = tls_error(&server);
    assert!(matches!(error, rustls::Error::InvalidMessage(_)), "{error}");

    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/", "")).unwrap();
    let (data, end) = read_all(&mut stream);
    assert!(data.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
    end.unwrap();
}

#[test]
fn the_end_is_marked_or_not() {
    for (server, marked) in
        [(MockServer::builder().tls().start(), true), (with(TlsFault::NoCloseNotify), false)]
    {
        let mut stream = tls(&server, None);
        stream.write_all(&upgrade_request("/", "")).unwrap();
        read_head(&mut stream);
        let conn = server.wait_connection(0, SOON).unwrap();
        conn.send_text("x");
        conn.hang_up();
        let (data, end) = read_all(&mut stream);
        assert_eq!(data, b"\x81\x01x");
        match end {
            Ok(()) => assert!(marked),
            Err(error) => {
                assert!(!marked, "{error}");
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            }
        }
    }
}

#[test]
fn a_cut_falls_into_a_record() {
    let server = MockServer::builder().tls().start();
    let mut stream = tls(&server, None);
    stream.write_all(&upgrade_request("/", "")).unwrap();
    read_head(&mut stream);
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.send_text("whole");
    // A record has a head of 5 bytes and a tag of 16: nothing of this text can be read.
    conn.kill_after(12);
    conn.send_text("torn");
    assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Killed));
    let (data, end) = read_all(&mut stream);
    assert_eq!(data, b"\x81\x05whole");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn faults_of_the_upgrade_are_inside_of_tls() {
    let server = MockServer::builder()
        .tls()
        .handshake_for(1, HandshakeFault::status(503))
        .handshake_for(1, HandshakeFault::Reset)
        .start();
    match handshake(server.url(), tls(&server, None)) {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
    match handshake(server.url(), tls(&server, None)) {
        Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests().len(), 2);
    handshake(server.url(), tls(&server, None)).unwrap();
}

#[test]
fn faults_for_some_connections_only() {
    let server = MockServer::builder().tls_for(1, TlsFault::Expired).tls_for(1, TlsFault::WrongName).start();
    assert!(matches!(tls_error(&server), rustls::Error::InvalidCertificate(_)));
    assert!(matches!(tls_error(&server), rustls::Error::InvalidCertificate(_)));
    handshake(server.url(), tls(&server, None)).unwrap();
    assert_eq!((server.attempts(), server.connections()), (3, 1));
}

#[test]
fn the_client_ends_without_close_notify() {
    let server = MockServer::builder().tls().start();
    let (client, _) = handshake(server.url(), tls(&server, None)).unwrap();
    let conn = server.wait_connection(0, SOON).unwrap();
    client.get_ref().sock.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Eof));
}
