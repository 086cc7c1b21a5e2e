//! The log of frames in both directions, with what the server answers by itself.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};

use common::*;
use everwire_testing::{Direction, Logged, LoggedFrame, Message, MockServer, RawFrame};

#[test]
fn every_frame_of_both_sides_is_in_it() {
    let server = MockServer::builder()
        .first_frames_with_response(vec![Message::text("welcome")])
        .handler(|conn, message| conn.send(message))
        .start();
    let mut stream = tcp(server.addr());
    // The first frame comes with the request, the next in two parts.
    stream.write_all(&[upgrade_request("/a", ""), masked(0x81, b"echo")].concat()).unwrap();
    read_head(&mut stream);
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.expect("echo", SOON).unwrap();
    let fragments = [masked(0x02, &[1, 2]), masked(0x89, b"ping"), masked(0x80, &[3])].concat();
    stream.write_all(&fragments[..3]).unwrap();
    stream.write_all(&fragments[3..]).unwrap();
    conn.expect(&[1, 2, 3], SOON).unwrap();
    // Both echoes are here, the welcome before them and the pong between them.
    stream.read_exact(&mut [0; 9 + 6 + 6 + 5]).unwrap();
    conn.send_raw(*b"\xff\x00");
    conn.send_frames([RawFrame::pong("unasked")]);
    conn.close(1001, "bye");
    conn.flush(SOON).unwrap();
    stream.write_all(&masked(0x88, &[0x03, 0xe9])).unwrap();
    conn.wait_end(SOON).unwrap();
    drop(stream);

    let transcript = conn.transcript();
    assert_eq!(
        without_times(&transcript),
        "-- GET /a, answered with 101\n\
         <- text \"echo\"\n\
         -> text \"welcome\"\n\
         -> text \"echo\"\n\
         <- binary, more to come, 2 bytes: 01 02\n\
         <- ping, 4 bytes: 70 69 6e 67\n\
         <- continuation \"\\u{3}\"\n\
         -> pong, 4 bytes: 70 69 6e 67\n\
         -> binary, 3 bytes: 01 02 03\n\
         -> raw, 2 bytes: ff 00\n\
         -> pong, 7 bytes: 75 6e 61 73 6b 65 64\n\
         -> close 1001 \"bye\"\n\
         <- close 1001\n\
         -- closed by the server, the client's frame: close 1001 \"\""
    );
    let times: Vec<_> = transcript.entries.iter().map(|entry| entry.at).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(transcript.forgotten, 0);
    let frame: &LoggedFrame = transcript.frames().nth(3).unwrap();
    assert_eq!(
        (frame.direction, frame.fin, frame.rsv, frame.opcode, frame.len, &frame.payload[..]),
        (Direction::FromClient, false, 0, 2, 2, &[1, 2][..])
    );
    assert!(
        transcript
            .entries
            .iter()
            .any(|entry| matches!(&entry.what, Logged::Raw(bytes, 2) if bytes[..] == [0xff, 0]))
    );
}

#[test]
fn what_the_test_does_to_the_connection_is_in_it() {
    let server = MockServer::start();
    let mut stream = raw_connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.stall(true);
    conn.stall(false);
    conn.throttle(everwire_testing::Throttle::NONE.reads(1_000_000));
    conn.kill_after(2);
    conn.send_text("abc");
    read_all(&mut stream).1.unwrap_err();
    conn.wait_end(SOON).unwrap();
    assert_eq!(
        without_times(&conn.transcript()),
        "-- GET /, answered with 101\n\
         -- stalled\n\
         -- not stalled any more\n\
         -- throttled: reads 1000000 bytes/s, writes no limit\n\
         -- to be cut after 2 more bytes\n\
         -> text \"abc\"\n\
         -- killed by the test"
    );
}

#[test]
fn a_bad_frame_of_the_client_and_the_answer_to_it_are_in_it() {
    let server = MockServer::start();
    let mut stream = raw_connect(&server);
    stream.write_all(&masked(0xc1, b"x")).unwrap();
    read_all(&mut stream).1.unwrap();
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.wait_end(SOON).unwrap();
    let story = without_times(&conn.transcript());
    let lines: Vec<&str> = story.lines().collect();
    assert_eq!(lines[1..3], ["<- text, RSV1, 1 bytes: 78", "-> close 1002"]);
    assert!(lines[3].starts_with("-- the client broke the protocol: "), "{story}");
}

#[test]
fn a_frame_that_the_client_did_not_finish_is_in_it() {
    let server = MockServer::start();
    let mut stream = raw_connect(&server);
    let frame = masked(0x81, b"half of it");
    stream.write_all(&frame[..frame.len() / 2]).unwrap();
    drop(stream);
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.wait_end(SOON).unwrap();
    let story = without_times(&conn.transcript());
    assert!(
        story.contains("-- the client's last frame is not complete: 8 of its 10 bytes are missing"),
        "{story}"
    );
}

#[test]
fn raw_frames_are_understood_all_the_same() {
    let server = MockServer::builder().raw_frames().start();
    let mut stream = tcp(server.addr());
    stream.write_all(&[upgrade_request("/", ""), masked(0xc1, b"x")].concat()).unwrap();
    read_head(&mut stream);
    stream.write_all(&masked(0x89, b"")).unwrap();
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.expect_raw(13, SOON).unwrap();
    let story = without_times(&conn.transcript());
    assert!(story.ends_with("<- text, RSV1, 1 bytes: 78\n<- ping, empty"), "{story}");
    stream.set_read_timeout(Some(SHORT)).unwrap();
    stream.read(&mut [0]).unwrap_err();
}
