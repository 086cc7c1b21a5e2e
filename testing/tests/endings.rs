//! All the ways in which a connection or the server ends.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use common::*;
use everwire_testing::tungstenite::Error;
use everwire_testing::{CloseCode, CloseFrame, ConnHandle, ConnectionEnd, Message, MockServer, WaitError};

fn raw_pair() -> (MockServer, ConnHandle, std::net::TcpStream) {
    let server = MockServer::start();
    let stream = raw_connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    (server, conn, stream)
}

fn frame(code: CloseCode, reason: &str) -> CloseFrame {
    CloseFrame { code, reason: reason.into() }
}

#[test]
fn the_server_closes() {
    let server = MockServer::start();
    let mut client = connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.send_text("first this");
    conn.close(4001, "because");
    assert_eq!(read_text(&mut client), "first this");
    let because = frame(CloseCode::Library(4001), "because");
    assert_eq!(client.read().unwrap(), Message::Close(Some(because.clone())));
    assert!(conn.is_open(), "the client has not answered");
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));

    let end = ConnectionEnd::Closed { by_server: true, frame: Some(because.clone()) };
    assert_eq!(conn.wait_end(SOON), Ok(end));
    assert_eq!(conn.received(), [Message::Close(Some(because))]);
    assert!(!conn.is_open());
    assert_eq!(server.live(), 0);
}

#[test]
fn the_server_closes_without_a_code() {
    let (_server, conn, mut stream) = raw_pair();
    conn.close_without_code();
    let mut close = [0; 2];
    stream.read_exact(&mut close).unwrap();
    assert_eq!(close, *b"\x88\x00");
    stream.write_all(&masked(0x88, b"")).unwrap();
    let (rest, end) = read_all(&mut stream);
    assert_eq!(rest, b"");
    end.unwrap();
    assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Closed { by_server: true, frame: None }));
}

#[test]
fn the_client_closes() {
    let server = MockServer::start();
    let mut client = connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    let bye = frame(CloseCode::Away, "bye");
    client.close(Some(bye.clone())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Close(Some(bye.clone())), "echoed");
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
    let end = ConnectionEnd::Closed { by_server: false, frame: Some(bye) };
    assert_eq!(conn.wait_end(SOON), Ok(end));
}

#[test]
fn the_server_hangs_up() {
    let (_server, conn, mut stream) = raw_pair();
    conn.send_text("x");
    conn.hang_up();
    let (data, end) = read_all(&mut stream);
    assert_eq!(data, b"\x81\x01x");
    end.unwrap();
    assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::HungUp));
}

#[test]
fn the_client_hangs_up() {
    let (_server, conn, stream) = raw_pair();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Eof));
}

#[test]
fn a_broken_protocol_is_answered_with_the_right_code() {
    for (bytes, code) in [
        (b"\x81\x01x".to_vec(), 1002_u16), // not masked
        (masked(0xc1, b"x"), 1002),        // reserved bit
        (masked(0x81, b"\xff"), 1007),     // not UTF-8
        (masked(0x80, b"x"), 1002),        // continues nothing
    ] {
        let (_server, conn, mut stream) = raw_pair();
        stream.write_all(&bytes).unwrap();
        let (data, end) = read_all(&mut stream);
        assert_eq!(data, [&b"\x88\x02"[..], &code.to_be_bytes()].concat(), "{bytes:?}");
        end.unwrap();
        let end = conn.wait_end(SOON).unwrap();
        assert!(matches!(end, ConnectionEnd::Protocol(_)), "{end}");
    }
}

#[test]
fn kill_resets_after_what_was_sent_before() {
    let (server, conn, mut stream) = raw_pair();
    conn.send_text("x");
    conn.kill();
    assert_eq!(conn.ended(), Some(ConnectionEnd::Killed), "it has happened already");
    assert_eq!(server.live(), 0);
    let mut read = [0; 3];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, *b"\x81\x01x");
    assert_eq!(stream.read(&mut read).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn kill_works_in_a_handler() {
    let server = MockServer::builder()
        .handler(|conn, _| {
            conn.send_text("bye");
            conn.kill();
        })
        .start();
    let mut client = connect(&server);
    // In one write: after the reset there is no second.
    client.write(Message::text("x")).unwrap();
    client.write(Message::text("y")).unwrap();
    client.flush().unwrap();
    assert_eq!(read_text(&mut client), "bye");
    match client.read() {
        Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
    let conn = server.last().unwrap();
    assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Killed));
    assert_eq!(conn.received_total(), 1, "nothing is read after it");
}

#[test]
fn kill_does_not_wait_for_a_client_that_does_not_read() {
    let (_server, conn, stream) = raw_pair();
    conn.send_binary(vec![0; 32 << 20]);
    let error = conn.flush(SHORT).unwrap_err().to_string();
    assert!(error.contains("the client may not be reading"), "{error}");
    let started = Instant::now();
    conn.kill();
    assert!(started.elapsed() < Duration::from_secs(4), "waited for the client");
    assert_eq!(conn.ended(), Some(ConnectionEnd::Killed));
    drop(stream);
}

#[test]
fn kill_after_cuts_at_the_byte() {
    for cut in 1..=7 {
        let (_server, conn, mut stream) = raw_pair();
        conn.send_text("before");
        conn.kill_after(cut);
        assert!(conn.is_open());
        conn.send_text("hello");
        assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Killed));
        let (data, end) = read_all(&mut stream);
        assert_eq!(data, [b"\x81\x06before", &b"\x81\x05hello"[..cut as usize]].concat());
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn kill_after_counts_over_several_messages_and_pongs() {
    let (_server, conn, mut stream) = raw_pair();
    conn.kill_after(3 + 3 + 1);
    conn.send_text("x");
    conn.flush(SOON).unwrap();
    stream.write_all(&masked(0x89, b"p")).unwrap();
    conn.wait_for("the ping", SOON, Message::is_ping).unwrap();
    let mut read = [0; 6];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, *b"\x81\x01x\x8a\x01p");
    assert!(conn.is_open());
    conn.send_text("y");
    let (data, end) = read_all(&mut stream);
    assert_eq!(data, b"\x81");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn kill_after_nothing_is_kill() {
    let (_server, conn, mut stream) = raw_pair();
    conn.kill_after(0);
    assert_eq!(conn.ended(), Some(ConnectionEnd::Killed));
    assert_eq!(read_all(&mut stream).1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_stalled_connection_is_silent_until_it_goes_on() {
    let server = MockServer::start();
    let mut client = connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.send_text("before");
    conn.stall(true);
    assert_eq!(read_text(&mut client), "before");

    conn.send_text("during");
    client.send(Message::Ping(b"p".to_vec().into())).unwrap();
    client.get_ref().set_read_timeout(Some(SHORT)).unwrap();
    match client.read() {
        Err(Error::Io(error)) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        other => panic!("{other:?}"),
    }
    assert_eq!(conn.received(), [], "nothing is read");
    assert!(matches!(conn.flush(SHORT), Err(WaitError::TimedOut { .. })), "nothing is written");

    conn.stall(false);
    client.get_ref().set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(read_text(&mut client), "during");
    assert_eq!(client.read().unwrap(), Message::Pong(b"p".to_vec().into()));

    conn.stall(true);
    conn.stall(true);
    conn.stall(false);
    client.send(Message::text("again")).unwrap();
    conn.expect_text("again", SOON).unwrap();
}

#[test]
fn a_stall_does_not_notice_that_the_client_has_gone() {
    let (server, conn, stream) = raw_pair();
    conn.stall(true);
    drop(stream);
    conn.wait_end(SHORT).unwrap_err();
    assert_eq!(server.live(), 1);
    conn.stall(false);
    assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Eof));
    server.wait_live(0, SOON).unwrap();
}

#[test]
fn a_stalled_connection_can_be_killed_or_hung_up() {
    let (_server, conn, mut stream) = raw_pair();
    conn.stall(true);
    conn.send_text("lost");
    conn.kill();
    let (data, end) = read_all(&mut stream);
    assert_eq!(data, b"");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (_server, conn, mut stream) = raw_pair();
    conn.stall(true);
    conn.hang_up();
    let (data, end) = read_all(&mut stream);
    assert_eq!(data, b"");
    end.unwrap();
}

#[test]
fn a_stall_in_a_handler_comes_before_the_next_message() {
    let server = MockServer::builder().handler(|conn, _| conn.stall(true)).start();
    let mut client = connect(&server);
    client.write(Message::text("1")).unwrap();
    client.write(Message::text("2")).unwrap();
    client.flush().unwrap();
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.expect_text("1", SOON).unwrap();
    conn.expect_text("2", SHORT).unwrap_err();
    conn.stall(false);
    conn.expect_text("2", SOON).unwrap();
}

#[test]
fn a_stall_that_is_lifted_before_it_began_never_begins() {
    let server = MockServer::builder()
        .handler(|conn, _| {
            conn.stall(true);
            conn.stall(false);
        })
        .start();
    let mut client = connect(&server);
    client.send(Message::text("1")).unwrap();
    client.send(Message::text("2")).unwrap();
    server.wait_connection(0, SOON).unwrap().expect_text("2", SOON).unwrap();
}

#[test]
fn dropping_the_server_ends_everything() {
    let server = MockServer::start();
    let mut client = raw_connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    let addr = server.addr();
    let started = Instant::now();
    drop(server);
    assert!(started.elapsed() < Duration::from_secs(4), "the thread was waited for in vain");
    assert_eq!(conn.ended(), Some(ConnectionEnd::ServerStopped));
    assert_eq!(read_all(&mut client).0, b"");
    assert_eq!(std::net::TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);

    // The handle stays usable.
    conn.send_text("into the void");
    conn.kill();
    conn.stall(true);
    conn.stall(false);
    conn.after(Duration::ZERO, |_| panic!("there is no thread to run it"));
    assert_eq!(conn.discarded(), 1);
    assert!(matches!(conn.flush(SOON), Err(WaitError::Ended { .. })));
    assert_eq!(
        format!("{conn:?}"),
        "ConnHandle { index: 0, path: \"/\", received: 0, ended: Some(ServerStopped), .. }"
    );
}
