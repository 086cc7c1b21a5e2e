//! The server's handle: addresses, counting, waiting, broadcasting, going away and coming back.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use common::*;
use everwire_testing::{HandshakeFault, Message, MockServer, WaitError};

#[test]
fn it_counts_and_finds_connections() {
    let server = MockServer::start();
    assert_eq!(server.url(), format!("ws://{}/", server.addr()));
    assert_eq!(server.url_of("/a"), server.url_of("a"));
    assert!(server.addr().ip().is_loopback());
    assert_eq!((server.attempts(), server.connections(), server.live()), (0, 0, 0));
    assert_eq!(server.ca_pem(), "");
    assert!(server.client_identity().is_none() && server.last().is_none() && server.connection(0).is_none());

    let (first, _) = handshake(server.url_of("/first"), tcp(server.addr())).unwrap();
    let (_second, _) = handshake(server.url_of("/second"), tcp(server.addr())).unwrap();
    server.wait_connections(2, SOON).unwrap();
    assert_eq!((server.attempts(), server.connections(), server.live()), (2, 2, 2));
    assert_eq!(server.connection(0).unwrap().path(), "/first");
    assert_eq!(server.last().unwrap().path(), "/second");
    let [a, b] = [0, 1].map(|i| server.connection(i).unwrap());
    assert!(a.id() < b.id());
    assert_eq!((a.index(), b.index()), (0, 1));
    assert_eq!(a.peer_addr(), first.get_ref().local_addr().unwrap());

    drop(first);
    server.wait_live(1, SOON).unwrap();
    assert_eq!(server.connections(), 2);
    let live: Vec<usize> = server.live_connections().iter().map(|conn| conn.index()).collect();
    assert_eq!(live, [1]);
    assert_eq!(
        format!("{server:?}"),
        format!(
            "MockServer {{ addr: {}, tls: false, attempts: 2, accepted: 2, live: 1, .. }}",
            server.addr()
        )
    );
}

#[test]
fn waits_for_the_server_fail_with_its_state() {
    let server = MockServer::start();
    let mut stream = tcp(server.addr());
    stream.write_all(b"GARBAGE\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 400 Bad Request\r\n"));
    read_all(&mut stream).1.unwrap();
    drop(stream);
    let error = server.wait_connections(1, SHORT).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(
            "waited 100ms in vain for 1 WebSocket connections; there were 1 TCP connections, 0 accepted, 0 of them \
             live; the last failure: bad request: "
        ),
        "{text}"
    );
    assert!(
        text.contains("\nthe server's transcript:\n") && text.contains(" s  -- no connection: bad request: "),
        "{text}"
    );
    assert!(matches!(error, WaitError::TimedOut { timeout: SHORT, .. }));
    server.wait_attempts(2, SHORT).unwrap_err();
    server.wait_attempts(1, SHORT).unwrap();
    server.wait_live(1, SHORT).unwrap_err();
    server.wait_connection(0, SHORT).unwrap_err();
}

#[test]
fn the_upgrade_request_can_be_seen() {
    let server = MockServer::start();
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/api/v2?x=1", "Authorization: Bearer t\r\nX: \u{fc}\r\n")).unwrap();
    read_head(&mut stream);
    let conn = server.wait_connection(0, SOON).unwrap();
    assert_eq!(conn.path(), "/api/v2?x=1");
    assert_eq!(conn.request().uri().path(), "/api/v2");
    assert_eq!(conn.header("authorization"), Some("Bearer t"));
    assert_eq!(conn.header("Host"), Some("localhost"));
    assert_eq!((conn.header("x"), conn.header("no such")), (None, None));
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.requests()[0].headers()["authorization"], "Bearer t");
}

#[test]
fn what_is_no_upgrade_is_refused() {
    let server = MockServer::start();
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(70_000)).into_bytes();
    let bad: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x00\xff\x01\r\n\r\n",
        &long,
    ];
    for (i, request) in bad.into_iter().enumerate() {
        let mut stream = tcp(server.addr());
        stream.write_all(request).unwrap();
        let (response, _) = read_all(&mut stream);
        assert!(response.starts_with(b"HTTP/1.1 400 Bad Request\r\n"), "{i}");
    }
    // One that leaves in the middle.
    let mut stream = tcp(server.addr());
    stream.write_all(b"GET / HT").unwrap();
    drop(stream);
    server.wait_attempts(5, SOON).unwrap();
    assert_eq!(server.connections(), 0);
}

#[test]
fn it_speaks_to_all_connections_at_once() {
    let server = MockServer::start();
    let mut clients = [(); 3].map(|()| connect(&server));
    server.wait_connections(3, SOON).unwrap();
    server.send_text_all("to everybody");
    server.send_all(&Message::binary(vec![1]));
    for client in &mut clients {
        assert_eq!(read_text(client), "to everybody");
        assert_eq!(client.read().unwrap(), Message::binary(vec![1]));
    }
    server.close_all(1012, "restart");
    assert!(clients[0].read().unwrap().is_close());
    clients[0].read().unwrap_err();
    server.wait_live(2, SOON).unwrap();
    server.kill_all();
    assert_eq!(server.live(), 0);
}

#[test]
fn subprotocols_are_negotiated_in_the_servers_order() {
    let server = MockServer::builder().subprotocol("b").subprotocol("a").start();
    for (asked, got) in [
        ("Sec-WebSocket-Protocol: a, b\r\n", Some("b")),
        ("Sec-WebSocket-Protocol: c\r\nSec-WebSocket-Protocol: x,a\r\n", Some("a")),
        ("Sec-WebSocket-Protocol: c\r\n", None),
        ("", None),
    ] {
        let mut stream = tcp(server.addr());
        stream.write_all(&upgrade_request("/", asked)).unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        let protocol = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(protocol, got, "{asked}");
    }
}

#[test]
fn first_frames_come_with_the_response() {
    let server = MockServer::builder()
        .first_frames_with_response(vec![Message::text("one"), Message::Ping(b"2".to_vec().into())])
        .on_connect(|conn, _| conn.send_text("three"))
        .start();
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/", "")).unwrap();
    // One write of the server is one segment on loopback, which one read takes.
    let mut buffer = vec![0; 4096];
    let len = stream.read(&mut buffer).unwrap();
    buffer.truncate(len);
    let frames = b"\r\n\r\n\x81\x03one\x89\x012";
    assert!(buffer.starts_with(b"HTTP/1.1 101 "));
    assert!(
        buffer.windows(frames.len()).any(|window| window == frames),
        "{:?}",
        String::from_utf8_lossy(&buffer)
    );
    // What the handler sends may or may not be in the same read.
    while !buffer.ends_with(b"\x81\x05three") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        buffer.push(byte[0]);
    }
}

#[test]
fn frames_that_come_with_the_request_are_not_lost() {
    let server = MockServer::start();
    let mut stream = tcp(server.addr());
    let request = upgrade_request("/", "");
    stream.write_all(&[request, masked(0x81, b"eager")].concat()).unwrap();
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.expect_text("eager", SOON).unwrap();
}

#[test]
fn a_request_in_single_bytes_is_understood() {
    let server = MockServer::start();
    let mut stream = tcp(server.addr());
    for byte in upgrade_request("/slow", "") {
        stream.write_all(&[byte]).unwrap();
    }
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    assert_eq!(server.wait_connection(0, SOON).unwrap().path(), "/slow");
}

#[test]
fn it_refuses_connections_and_comes_back() {
    let server = MockServer::start();
    let mut before = connect(&server);
    server.refuse_connections(true).unwrap();
    server.refuse_connections(true).unwrap();
    let refused = std::net::TcpStream::connect(server.addr()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    server.send_text_all("open connections stay");
    assert_eq!(read_text(&mut before), "open connections stay");

    server.refuse_connections(false).unwrap();
    server.refuse_connections(false).unwrap();
    connect(&server);
    assert_eq!(server.connections(), 2);
}

#[test]
fn another_server_can_take_its_port() {
    let server = MockServer::start();
    let addr = server.addr();
    let error = MockServer::builder().port(addr.port()).try_start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let client = connect(&server);
    drop(server);
    let server = MockServer::builder().port(addr.port()).start();
    assert_eq!(server.addr(), addr);
    connect(&server);
    drop(client);
}

#[test]
fn it_may_be_used_from_many_threads() {
    let server = MockServer::builder().handler(|conn, message| conn.send(message)).start();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = connect(server);
                for j in 0..50 {
                    let text = format!("{i}-{j}");
                    client.send(Message::text(&text)).unwrap();
                    assert_eq!(read_text(&mut client), text);
                }
            });
        }
    });
    assert_eq!(server.connections(), 8);
    server.wait_live(0, Duration::from_secs(10)).unwrap();
}

#[test]
fn a_judge_sees_each_upgrade_request_and_may_refuse_it() {
    let good = |request: &everwire_testing::Request| request.uri().query() == Some("token=good");
    let judge = move |request: &everwire_testing::Request| {
        assert!(request.uri().path() != "/panic", "out of order");
        (!good(request)).then(|| HandshakeFault::status(401))
    };
    let server = MockServer::builder().handshake_for(1, HandshakeFault::status(503)).admit(judge).start();
    let answers = [
        ("/?token=good", &b"HTTP/1.1 503 "[..]),
        ("/?token=bad", b"HTTP/1.1 401 "),
        ("/panic", b""),
        ("/?token=bad", b"HTTP/1.1 401 "),
    ];
    for (path, answer) in answers {
        let mut stream = tcp(server.addr());
        stream.write_all(&upgrade_request(path, "")).unwrap();
        let (response, _) = read_all(&mut stream);
        assert!(response.starts_with(answer) && response.is_empty() == answer.is_empty(), "{path}");
    }
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/?token=good", "")).unwrap();
    read_head(&mut stream);
    assert_eq!((server.attempts(), server.connections()), (5, 1));
    assert!(server.failures().iter().any(|failure| failure == "judge panicked: out of order"));
}
