//! Messages in both directions, the log, waits and their failure texts.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::*;
use everwire_testing::tungstenite::protocol::frame::Frame;
use everwire_testing::tungstenite::protocol::frame::coding::{Data, OpCode};
use everwire_testing::{ConnHandle, ConnectionEnd, Message, MockServer, WaitError, unblock};
use serde_json::json;

fn pair() -> (MockServer, ConnHandle, Client) {
    let server = MockServer::start();
    let client = connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    (server, conn, client)
}

#[test]
fn every_kind_of_message_reaches_the_client_in_order() {
    let (_server, conn, mut client) = pair();
    conn.send_text("text");
    conn.send_binary(vec![1, 2, 3]);
    conn.ping(b"payload".to_vec());
    conn.send(Message::Frame(Frame::message("frag", OpCode::Data(Data::Text), false)));
    conn.send(Message::Frame(Frame::message("mented", OpCode::Data(Data::Continue), true)));
    conn.send_raw(*b"\x81\x03raw");
    for expected in [
        Message::text("text"),
        Message::binary(vec![1, 2, 3]),
        Message::Ping(b"payload".to_vec().into()),
        Message::text("fragmented"),
        Message::text("raw"),
    ] {
        assert_eq!(client.read().unwrap(), expected);
    }
    assert_eq!(conn.discarded(), 0);
}

#[test]
fn raw_bytes_come_out_exactly_as_they_went_in() {
    let server = MockServer::start();
    let mut stream = raw_connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    // A frame with all reserved bits and a reserved opcode, which tungstenite would never write.
    let bytes = *b"\xff\x01x";
    conn.send_text("before");
    conn.send_raw(bytes);
    conn.send_text("after");
    let mut read = vec![0; 8 + 3 + 7];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, [&b"\x81\x06before"[..], &bytes, b"\x81\x05after"].concat());
}

#[test]
fn the_log_has_everything_and_waits_take_from_it() {
    let (_server, conn, mut client) = pair();
    client.send(Message::text("one")).unwrap();
    client.send(Message::Ping(b"p".to_vec().into())).unwrap();
    client.send(Message::binary(vec![2])).unwrap();
    client.send(Message::text("three")).unwrap();

    assert_eq!(conn.next_message(SOON).unwrap(), Message::text("one"));
    assert_eq!(conn.next_message(SOON).unwrap(), Message::binary(vec![2]), "pings are passed over");
    conn.expect_text("three", SOON).unwrap();
    let expected = [
        Message::text("one"),
        Message::Ping(b"p".to_vec().into()),
        Message::binary(vec![2]),
        Message::text("three"),
    ];
    assert_eq!(conn.received(), expected, "waiting removes nothing");
    assert_eq!(conn.received_total(), 4);
    assert_eq!(client.read().unwrap(), Message::Pong(b"p".to_vec().into()), "pings are answered");
}

#[test]
fn a_wait_passes_over_what_it_does_not_want_and_takes_nothing_if_it_fails() {
    let (_server, conn, mut client) = pair();
    for text in ["a", "b", "c"] {
        client.send(Message::text(text)).unwrap();
    }
    conn.wait_for("c", SOON, |m| *m == Message::text("c")).unwrap();
    client.send(Message::text("d")).unwrap();

    conn.expect_text("b", SHORT).unwrap_err();
    conn.expect_text("d", SOON).unwrap();
}

#[test]
fn two_that_wait_do_not_get_the_same_message() {
    let (_server, conn, mut client) = pair();
    let count = 400;
    let mut taken: Vec<String> = std::thread::scope(|scope| {
        let takers = [(); 4].map(|()| {
            scope.spawn(|| -> Vec<String> {
                (0..count / 4).map(|_| conn.next_message(SOON).unwrap().to_string()).collect()
            })
        });
        for i in 0..count {
            client.send(Message::text(format!("{i:03}"))).unwrap();
        }
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    taken.sort();
    assert_eq!(taken, (0..count).map(|i| format!("{i:03}")).collect::<Vec<_>>());
}

#[test]
fn pongs_can_be_waited_for() {
    let (_server, conn, mut client) = pair();
    conn.ping(b"are you there".to_vec());
    assert!(client.read().unwrap().is_ping());
    client.flush().unwrap();
    let pong = Message::Pong(b"are you there".to_vec().into());
    assert_eq!(conn.wait_for("the pong", SOON, Message::is_pong).unwrap(), pong);
}

#[test]
fn a_timeout_tells_what_was_expected_and_what_came() {
    let (_server, conn, mut client) = pair();
    client.send(Message::text("something else")).unwrap();
    client.send(Message::binary(vec![0xab, 0xcd])).unwrap();
    conn.wait_for("the second", SOON, Message::is_binary).unwrap();
    client.send(Message::text("third")).unwrap();
    client.send(Message::binary(vec![0xef])).unwrap();
    let error = conn.expect_text("hello", SHORT).unwrap_err();
    assert_eq!(
        without_times(&error),
        "waited 100ms in vain for text \"hello\"; 2 arrived instead:\n  \
         #2: text \"third\"\n  #3: binary, 1 bytes: ef\n\
         the connection's transcript:\n\
         -- GET /, answered with 101\n\
         <- text \"something else\"\n\
         <- binary, 2 bytes: ab cd\n\
         <- text \"third\"\n\
         <- binary, 1 bytes: ef"
    );
    assert_eq!(format!("{error:?}"), error.to_string(), "this is what unwrap prints");

    let error = conn.wait_for("a pong", SHORT, Message::is_pong).unwrap_err();
    assert!(matches!(&error, WaitError::TimedOut { waited_for, .. } if waited_for == "a pong"), "{error}");
}

#[test]
fn json_is_matched_by_its_parts_and_the_difference_told() {
    let (_server, conn, mut client) = pair();
    client.send(Message::text("no json")).unwrap();
    client.send(Message::text(r#"{"id": 1, "method": "a", "params": {"x": [1, 2]}}"#)).unwrap();
    client.send(Message::text(r#"{"id": 2, "method": "b", "params": {"x": [1, 3]}}"#)).unwrap();

    let found = conn.expect_json_subset(&json!({"params": {"x": [1, 3]}}), SOON).unwrap();
    assert_eq!(found["id"], 2);

    client.send(Message::text("no json")).unwrap();
    client.send(Message::text(r#"{"id": 3, "method": "c"}"#)).unwrap();
    // So that both are there when the next wait starts to fail.
    conn.flush(SOON).unwrap();
    client.send(Message::Ping(Vec::new().into())).unwrap();
    assert!(client.read().unwrap().is_pong());
    let error = conn.expect_json_subset(&json!({"method": "d"}), SHORT).unwrap_err().to_string();
    for part in [
        "waited 100ms in vain for JSON with {\"method\":\"d\"}; 3 arrived instead:",
        "#3: text \"no json\"\n      not JSON: ",
        "$.method: expected \"d\", got \"c\"",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_wait_ends_with_the_connection_and_not_with_its_time() {
    let (_server, conn, mut client) = pair();
    client.send(Message::text("last words")).unwrap();
    drop(client);
    let started = Instant::now();
    let error = conn.expect_text("more", Duration::MAX).unwrap_err();
    assert!(started.elapsed() < SOON);
    assert_eq!(
        without_times(&error),
        "the connection ended (the client ended the stream without a closing handshake) before text \"more\"; \
         1 arrived instead:\n  #0: text \"last words\"\n\
         the connection's transcript:\n\
         -- GET /, answered with 101\n\
         <- text \"last words\"\n\
         -- the client ended the stream without a closing handshake"
    );
    assert!(matches!(error, WaitError::Ended { end: ConnectionEnd::Eof, .. }), "{error}");
}

#[test]
fn waits_in_a_handler_fail_at_once() {
    let (sender, results) = std::sync::mpsc::channel();
    let server = MockServer::builder()
        .handler(move |conn, _| {
            sender.send(conn.next_message(SOON).unwrap_err()).unwrap();
            sender.send(conn.flush(SOON).unwrap_err()).unwrap();
            sender.send(conn.wait_end(SOON).unwrap_err()).unwrap();
            sender.send(conn.expect_raw(1, SOON).unwrap_err()).unwrap();
        })
        .start();
    let mut client = connect(&server);
    client.send(Message::text("go")).unwrap();
    for _ in 0..4 {
        let error = results.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(matches!(error, WaitError::OnServerThread { .. }), "{error}");
    }
}

#[test]
fn handlers_may_keep_state_and_answer() {
    let mut count = 0;
    let server = MockServer::builder()
        .handler(move |conn, message| {
            count += 1;
            conn.send_text(format!("{count}: {message}"));
        })
        .on_connect(|conn, request| conn.send_text(format!("hello, you asked for {}", request.uri())))
        .start();
    let (mut a, _) = handshake(server.url_of("a?b=c"), tcp(server.addr())).unwrap();
    let mut b = connect(&server);
    assert_eq!(read_text(&mut a), "hello, you asked for /a?b=c");
    assert_eq!(read_text(&mut b), "hello, you asked for /");
    a.send(Message::text("x")).unwrap();
    assert_eq!(read_text(&mut a), "1: x");
    b.send(Message::binary(b"y".to_vec())).unwrap();
    assert_eq!(read_text(&mut b), "2: y");
}

#[test]
fn a_panic_in_a_handler_ends_its_connection_only() {
    let server = MockServer::builder()
        .on_connect(|conn, _| assert_ne!(conn.index(), 1, "not the second"))
        .handler(|conn, message| {
            assert_ne!(message, Message::text("bad"), "a bad message");
            conn.send(message);
        })
        .start();
    let mut client = connect(&server);
    let mut second = connect_raw_head(&server);
    assert_eq!(read_all(&mut second).0, b"");
    client.send(Message::text("good")).unwrap();
    assert_eq!(read_text(&mut client), "good");
    client.send(Message::text("bad")).unwrap();
    client.read().unwrap_err();
    for (index, part) in [(0, "a bad message"), (1, "not the second")] {
        let end = server.connection(index).unwrap().wait_end(SOON).unwrap();
        assert!(matches!(&end, ConnectionEnd::HandlerPanicked(text) if text.contains(part)), "{end}");
    }
    assert_eq!(server.live(), 0);
    connect(&server);
}

/// Only sends the request: there will be no response.
fn connect_raw_head(server: &MockServer) -> std::net::TcpStream {
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/", "")).unwrap();
    stream
}

#[test]
fn after_acts_later_on_the_server_thread() {
    let (_server, conn, mut client) = pair();
    let delay = Duration::from_millis(30);
    let started = Instant::now();
    conn.after(delay, |conn| {
        let on_server = matches!(conn.next_message(SOON), Err(WaitError::OnServerThread { .. }));
        conn.send_text(format!("on the server thread: {on_server}"));
    });
    assert_eq!(read_text(&mut client), "on the server thread: true");
    assert!(started.elapsed() >= delay);
}

#[test]
fn the_log_is_bounded() {
    let (_server, conn, mut client) = pair();
    let count = 17_000;
    for i in 0..count {
        client.write(Message::text(i.to_string())).unwrap();
    }
    client.flush().unwrap();
    conn.expect_text(&(count - 1).to_string(), SOON).unwrap();
    let log = conn.received();
    assert_eq!(conn.received_total(), count);
    assert_eq!(log.len(), 16_384);
    assert_eq!(log[0], Message::text((count - 16_384).to_string()));
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let (server, conn, mut client) = pair();
    conn.stall(true);
    // 64 MiB of backlog, of which the stalled output takes some.
    for _ in 0..70 {
        conn.send_binary(vec![0; 1 << 20]);
    }
    let overflow = conn.discarded();
    assert!((5..=7).contains(&overflow), "{overflow}");
    conn.kill();
    assert!(conn.discarded() >= overflow + 60, "the backlog is lost with the connection");
    let lost = conn.discarded();
    conn.send_text("too late");
    assert_eq!(conn.discarded(), lost + 1);
    client.read().unwrap_err();

    let mut client = connect(&server);
    let conn = server.wait_connection(1, SOON).unwrap();
    conn.close(1000, "");
    conn.send_text("after the close frame");
    assert!(client.read().unwrap().is_close());
    client.read().unwrap_err();
    conn.wait_end(SOON).unwrap();
    assert_eq!(conn.discarded(), 1);
}

#[test]
fn raw_frames_are_left_alone() {
    let server = MockServer::builder()
        .raw_frames()
        .handler(|_, message| panic!("called with {message}"))
        .response_header("Sec-WebSocket-Extensions", "permessage-deflate")
        .start();
    let mut stream = tcp(server.addr());
    // The first frame comes with the request.
    let compressed = masked(0xc1, b"not really compressed");
    let ping = masked(0x89, b"ping");
    stream.write_all(&[upgrade_request("/", ""), compressed.clone()].concat()).unwrap();
    assert!(read_head(&mut stream).contains("\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"));
    stream.write_all(&ping).unwrap();

    let conn = server.wait_connection(0, SOON).unwrap();
    assert_eq!(conn.expect_raw(compressed.len(), SOON).unwrap(), compressed);
    assert_eq!(conn.expect_raw(ping.len(), SOON).unwrap(), ping);
    assert_eq!(conn.received_raw(), b"");
    let error = conn.expect_raw(1, SHORT).unwrap_err().to_string();
    assert_eq!(error, "waited 100ms in vain for 1 raw bytes; 0 arrived");
    assert_eq!(conn.received(), []);

    conn.send_text("the only frame, no pong before it");
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x81);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(conn.wait_end(SOON).unwrap(), ConnectionEnd::Eof);
}

#[test]
fn unblock_lets_a_single_threaded_runtime_go_on() {
    let server = MockServer::start();
    let addr = server.addr();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let path = runtime.block_on(async {
        // This client needs the thread that the wait would block.
        let client = tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, &upgrade_request("/from-tokio", ""))
                .await
                .unwrap();
            stream
        });
        let conn = unblock(move || server.wait_connection(0, SOON)).await.unwrap();
        drop(client.await.unwrap());
        conn.path().to_owned()
    });
    assert_eq!(path, "/from-tokio");
}

#[test]
#[should_panic(expected = "the panic of the wait")]
fn unblock_passes_a_panic_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(unblock(|| panic!("the panic of the wait")));
}
