//! Fragments, frames made by hand, violations of the protocol, ways to lose the connection, speed limits.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::*;
use everwire_testing::tungstenite::Error;
use everwire_testing::{
    ConnHandle, ConnectionEnd, Disconnect, Message, MockServer, RawFrame, Throttle, Violation,
};

fn pair() -> (MockServer, ConnHandle, Client) {
    let server = MockServer::start();
    let client = connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    (server, conn, client)
}

fn raw_pair() -> (MockServer, ConnHandle, TcpStream) {
    let server = MockServer::start();
    let stream = raw_connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    (server, conn, stream)
}

#[test]
fn fragments_with_control_frames_between_them() {
    let (_server, conn, mut client) = pair();
    conn.send_frames([
        RawFrame::text("frag").unfinished(),
        RawFrame::ping("p"),
        RawFrame::continuation("men").unfinished(),
        RawFrame::pong("unasked"),
        RawFrame::continuation("ted"),
    ]);
    assert_eq!(client.read().unwrap(), Message::Ping("p".into()));
    assert_eq!(client.read().unwrap(), Message::Pong("unasked".into()));
    assert_eq!(client.read().unwrap(), Message::text("fragmented"));

    let text = "\u{20ac}".repeat(50);
    for size in [1, 2, 7, 1000] {
        conn.send_fragmented(&Message::text(&text), size);
        assert_eq!(client.read().unwrap(), Message::text(&text), "cut inside of characters too: {size}");
    }
    conn.send_fragmented(&Message::binary(vec![1, 2, 3]), 2);
    assert_eq!(client.read().unwrap(), Message::binary(vec![1, 2, 3]));
    conn.wait_for("the pong", SOON, Message::is_pong).unwrap();
}

#[test]
fn frames_are_written_as_they_are_made() {
    let (_server, conn, mut stream) = raw_pair();
    let frames = [RawFrame::new(0x7, "abc").reserved(7).unfinished(), RawFrame::text("x").masked([9; 4])];
    let bytes = frames.clone().map(|frame| frame.bytes()).concat();
    conn.send_frames(frames);
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
    let story = without_times(&conn.transcript());
    assert!(
        story.ends_with(
            "-> opcode 7, more to come, RSV1, RSV2, RSV3, 3 bytes: 61 62 63\n-> text, masked \"x\""
        ),
        "{story}"
    );
}

/// tungstenite, which notices all of it, as the client.
#[test]
fn a_client_objects_to_every_violation() {
    for violation in Violation::ALL {
        let (_server, conn, mut client) = pair();
        conn.violate(violation);
        // Where the frame lies about its length, there is more to wait for before one can object to it.
        if violation == Violation::ImpossibleLength {
            client.get_ref().set_read_timeout(Some(SHORT)).unwrap();
        }
        let result = client.read();
        match violation {
            // It takes a close frame for the end, whatever its code.
            Violation::CloseReservedCode => assert!(result.is_err() || result.unwrap().is_close()),
            _ => {
                let error = result.unwrap_err();
                assert!(
                    matches!(error, Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_)),
                    "{violation}: {error}"
                );
            }
        }
        assert!([1002, 1007].contains(&violation.close_code()));
    }
}

#[test]
fn every_way_to_lose_a_connection() {
    for how in Disconnect::ALL {
        let (server, conn, mut stream) = raw_pair();
        conn.send_text("x");
        server.disconnect_all(how);
        let before = b"\x81\x01x";
        let close = |code: u16| [&before[..], b"\x88\x02", &code.to_be_bytes()].concat();
        let closed = match how {
            Disconnect::Normal => Some(1000),
            Disconnect::GoingAway => Some(1001),
            Disconnect::Code(code) => Some(code),
            _ => None,
        };
        if let Some(code) = closed {
            let mut read = [0; 7];
            stream.read_exact(&mut read).unwrap();
            assert_eq!(read[..], close(code));
            stream.write_all(&masked(0x88, &code.to_be_bytes())).unwrap();
            let end = conn.wait_end(SOON).unwrap();
            assert!(matches!(end, ConnectionEnd::Closed { by_server: true, frame: Some(_) }), "{how}: {end}");
            assert_eq!(read_all(&mut stream).0, b"");
            continue;
        }
        if how == Disconnect::HalfOpen {
            stream.set_read_timeout(Some(SHORT)).unwrap();
            stream.write_all(&masked(0x89, b"are you there")).unwrap();
            let (data, end) = read_all(&mut stream);
            assert_eq!(data, before);
            assert!(matches!(end.unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
            assert_eq!((conn.is_open(), conn.received_total()), (true, 0));
            continue;
        }
        let (data, end) = read_all(&mut stream);
        match how {
            Disconnect::Fin => {
                assert_eq!(data, before);
                end.unwrap();
                assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::HungUp));
            }
            Disconnect::Reset => {
                assert_eq!(data, before);
                assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
                assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Killed));
            }
            Disconnect::MidFrame => {
                let frame = &data[before.len()..];
                assert!(frame.len() > 2 && frame.len() < 2 + usize::from(frame[1]), "{frame:?}");
                assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
                assert_eq!(conn.wait_end(SOON), Ok(ConnectionEnd::Killed));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_throttled_server_writes_slowly() {
    let (_server, conn, mut client) = pair();
    conn.throttle(Throttle::NONE.writes(20_000));
    let started = Instant::now();
    conn.send_binary(vec![7; 4_000]);
    assert_eq!(client.read().unwrap(), Message::binary(vec![7; 4_000]));
    // 200 ms for all, but for the first piece.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(180), "{took:?}");

    conn.throttle(Throttle::NONE);
    let started = Instant::now();
    conn.send_binary(vec![7; 400_000]);
    assert_eq!(client.read().unwrap().len(), 400_000);
    assert!(started.elapsed() < SOON, "20 s at the old speed");
}

#[test]
fn a_throttled_server_reads_slowly() {
    let (_server, conn, mut client) = pair();
    conn.throttle(Throttle::NONE.reads(20_000));
    let started = Instant::now();
    client.send(Message::binary(vec![7; 4_000])).unwrap();
    conn.next_message(SOON).unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(180), "{took:?}");
    // The other direction is as fast as ever.
    conn.send_binary(vec![7; 400_000]);
    assert_eq!(client.read().unwrap().len(), 400_000);
    assert!(started.elapsed() < SOON);
}

#[test]
fn a_direction_can_stand_still() {
    let (_server, conn, mut client) = pair();
    conn.throttle(Throttle::NONE.reads(0));
    client.send(Message::text("unread")).unwrap();
    conn.send_text("still written");
    assert_eq!(read_text(&mut client), "still written");
    conn.expect_none_for("unread", SHORT).unwrap();
    conn.throttle(Throttle::NONE.writes(0));
    conn.expect("unread", SOON).unwrap();
    conn.send_text("held back");
    conn.flush(SHORT).unwrap_err();
    conn.throttle(Throttle::NONE);
    assert_eq!(read_text(&mut client), "held back");

    conn.throttle(Throttle::NONE.writes(0).reads(0));
    conn.send_text("lost");
    conn.kill();
    assert_eq!(conn.ended(), Some(ConnectionEnd::Killed));
}

#[test]
fn a_throttle_from_the_first_byte_slows_the_handshake_down() {
    for builder in [MockServer::builder(), MockServer::builder().tls()] {
        let server = builder.throttle(Throttle::NONE.writes(10_000)).start();
        let started = Instant::now();
        let take = |at_least| {
            let took = started.elapsed();
            assert!(took >= Duration::from_millis(at_least), "{took:?}");
        };
        if server.ca_pem().is_empty() {
            // The response is longer than the piece of 100 bytes that goes at once.
            connect(&server);
            take(2);
        } else {
            handshake(server.url(), tls(&server, None)).unwrap();
            // A certificate more.
            take(30);
        }
    }
}

#[test]
fn a_cut_is_found_under_a_throttle_too() {
    let (_server, conn, mut stream) = raw_pair();
    conn.throttle(Throttle::NONE.writes(1_000));
    conn.kill_after(25);
    conn.send_binary(vec![7; 100]);
    let (data, end) = read_all(&mut stream);
    assert_eq!(data, [&[0x82, 100][..], &[7; 23]].concat());
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
