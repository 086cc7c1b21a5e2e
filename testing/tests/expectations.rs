//! Expectations by every kind of matcher, of one client and of several, of presence and of absence.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::*;
use everwire_testing::matchers::{closing, json_where, pick, regex, that};
use everwire_testing::{ConnHandle, Message, MockServer, WaitError};
use serde_json::json;

fn pair() -> (MockServer, ConnHandle, Client) {
    let server = MockServer::start();
    let client = connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    (server, conn, client)
}

/// A client that sends these texts and then reads, so that it answers pings, until the connection ends.
fn talker(server: &MockServer, texts: &[&str]) -> JoinHandle<()> {
    let mut client = connect(server);
    let texts: Vec<Message> = texts.iter().map(|text| Message::text(*text)).collect();
    thread::spawn(move || {
        for text in texts {
            client.send(text).unwrap();
        }
        while client.read().is_ok() {}
    })
}

#[test]
fn every_matcher_takes_its_message() {
    let (_server, conn, mut client) = pair();
    client.send(Message::text("plain")).unwrap();
    client.send(Message::binary(vec![1, 2, 3])).unwrap();
    client.send(Message::text(r#"{"id": 7, "params": {"amount": 3, "side": "buy"}}"#)).unwrap();
    client.send(Message::text(r#"{"id": 8, "params": {"amount": 30}}"#)).unwrap();
    client.send(Message::text("order 66 of 99")).unwrap();
    client.send(Message::Ping("p".into())).unwrap();
    client.send(Message::text("12")).unwrap();
    client.close(None).unwrap();

    conn.expect("plain", SOON).unwrap();
    conn.expect(&[1, 2, 3], SOON).unwrap();
    assert_eq!(conn.expect(json!({"params": {"amount": 3}}), SOON).unwrap()["id"], 7);
    let large = json_where("a large order", |order| order["params"]["amount"].as_u64() > Some(10));
    assert_eq!(conn.expect(large, SOON).unwrap()["id"], 8);
    assert_eq!(conn.expect(regex(r"order (\d+)( never)?"), SOON).unwrap(), ["order 66", "66", ""]);
    assert!(conn.expect(that("a ping", Message::is_ping), SOON).unwrap().is_ping());
    let number = pick("a number", |message| message.to_text().ok()?.parse::<u32>().ok());
    assert_eq!(conn.expect(number, SOON).unwrap(), 12);
    assert_eq!(conn.expect(closing(1005), SOON).unwrap(), "");
}

#[test]
fn a_failure_tells_the_whole_difference_of_the_nearest_message() {
    let (_server, conn, mut client) = pair();
    client.send(Message::text(r#"{"method": "hello", "id": 1}"#)).unwrap();
    client
        .send(Message::text(r#"{"method": "buy", "id": 2, "params": {"amount": 4, "tags": ["a", "c"]}}"#))
        .unwrap();
    drop(client);
    conn.wait_end(SOON).unwrap();
    let wanted = json!({"method": "buy", "params": {"amount": 3, "tags": ["a", "b"], "x": 1}});
    let text = without_times(&conn.expect(wanted, SOON).unwrap_err());
    let (_, text) = text.split_once("2 arrived instead:\n").unwrap();
    let (text, story) = text.split_once("\nthe connection's transcript:\n").unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            r##"#0: text "{\"method\": \"hello\", \"id\": 1}""##,
            r##"$.method: expected "buy", got "hello" (and 3 lines more)"##,
            r##"#1: text "{\"method\": \"buy\", \"id\": 2, \"params\": {\"amount\": 4, \"tags\": [\"a\", \"c\"]}}""##,
            r##"$.params.amount: expected 3, got 4"##,
            r##"$.params.tags[1]: expected "b", got "c""##,
            r##"$.params.x: expected 1, but there is no such member"##,
        ]
    );
    assert_eq!(story.lines().count(), 4, "{story}");

    let text = conn.expect("{\"method\": \"hallo\"}", SOON).unwrap_err().to_string();
    assert!(text.contains("\n      differs from character 13 on:\n      expected \"{\\\"method"), "{text}");
    assert!(matches!(conn.expect(b"x", SOON), Err(WaitError::Ended { .. })));
}

#[test]
fn a_fence_makes_sure_that_everything_is_here() {
    let server = MockServer::builder().handler(|conn, message| conn.send(message)).start();
    let talking = talker(&server, &["a", "b", "c"]);
    let conn = server.wait_connection(0, SOON).unwrap();
    conn.expect("a", SOON).unwrap();
    conn.fence(SOON).unwrap();
    conn.fence(SOON).unwrap();
    assert_eq!(conn.received(), ["a", "b", "c"].map(Message::text), "no pong of a fence");
    // Its frames are no secret.
    let story = without_times(&conn.transcript());
    assert!(
        story.ends_with(
            "-> ping, 24 bytes: 65 76 65 72 77 69 72 65 2d 74 65 73 74 69 6e 67 20 66 65 6e 63 65 20 32\n\
        <- pong, 24 bytes: 65 76 65 72 77 69 72 65 2d 74 65 73 74 69 6e 67 20 66 65 6e 63 65 20 32"
        ),
        "{story}"
    );

    conn.expect_none("d", SOON).unwrap();
    conn.expect_none("a", SOON).unwrap();
    assert_eq!(conn.expect("b", SOON), Ok(()), "nothing was taken");
    let error = conn.expect_none(regex("^[cd]$"), SOON).unwrap_err();
    assert!(
        matches!(&error, WaitError::Unexpected { unwanted, .. } if unwanted == "a text with /^[cd]$/"),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.starts_with("a text with /^[cd]$/ was not to come, but it did, as #2: text \"c\"\nthe "),
        "{text}"
    );

    conn.kill();
    talking.join().unwrap();
    conn.expect_none("d", SOON).unwrap();
    conn.expect_none("c", SOON).unwrap_err();
    assert!(matches!(conn.fence(SOON), Err(WaitError::Ended { .. })));
}

#[test]
fn a_client_that_does_not_read_passes_no_fence() {
    let (_server, conn, client) = pair();
    let error = conn.expect_none("x", SHORT).unwrap_err();
    assert!(error.to_string().starts_with("waited 100ms in vain for the client to answer a ping"), "{error}");
    drop(client);
}

#[test]
fn pongs_that_answer_no_fence_are_messages() {
    let (_server, conn, mut client) = pair();
    for payload in ["everwire-testing fence 1", "everwire-testing fence", "x"] {
        client.send(Message::Pong(payload.into())).unwrap();
    }
    conn.wait_for("the last pong", SOON, |message| *message == Message::Pong("x".into())).unwrap();
    assert_eq!(conn.received_total(), 3);
}

#[test]
fn nothing_for_a_time() {
    let (_server, conn, mut client) = pair();
    let started = Instant::now();
    conn.expect_none_for("x", SHORT).unwrap();
    assert!(started.elapsed() >= SHORT);
    client.send(Message::text("y")).unwrap();
    client.send(Message::text("x")).unwrap();
    let started = Instant::now();
    let error = conn.expect_none_for("x", SOON).unwrap_err();
    assert!(started.elapsed() < SOON);
    assert!(error.to_string().contains("as #1: text \"x\""), "{error}");
    conn.expect("x", SOON).unwrap();
    drop(client);
    conn.expect_none_for("x", Duration::MAX).unwrap();
}

/// A client that said it and left has said it.
#[test]
fn absence_on_all_connections_counts_those_that_ended() {
    let (server, conn, mut client) = pair();
    client.send(Message::text("x")).unwrap();
    drop(client);
    conn.wait_end(SOON).unwrap();
    server.expect_none("y", SOON).unwrap();
    let error = server.expect_none("x", SOON).unwrap_err();
    assert!(matches!(error, WaitError::Unexpected { .. }), "{error}");
    conn.expect("x", SOON).unwrap();
    server.expect_none("x", SOON).unwrap();
}

#[test]
fn nothing_before_something_else() {
    let (_server, conn, mut client) = pair();
    for text in ["a", "b", "c", "d"] {
        client.send(Message::text(text)).unwrap();
    }
    assert_eq!(conn.expect_none_until("c", regex("(b)"), SOON).unwrap(), ["b", "b"]);
    let error = conn.expect_none_until("c", "d", SOON).unwrap_err();
    assert!(
        error.to_string().starts_with("text \"c\" was not to come, but it did, as #2: text \"c\""),
        "{error}"
    );
    conn.expect_none_until("b", "c", SOON).unwrap();
    drop(client);
    assert!(matches!(conn.expect_none_until("x", "y", SOON), Err(WaitError::Ended { .. })));
}

#[test]
fn several_clients_are_expected_together() {
    let server = MockServer::start();
    let talking =
        [talker(&server, &["hello", "a"]), talker(&server, &["hello", "b"]), talker(&server, &["c"])];
    let hellos = server.expect_each(2, "hello", SOON).unwrap();
    let indices: Vec<usize> = hellos.iter().map(|(conn, ())| conn.index()).collect();
    assert_eq!(indices.len(), 2);
    assert!(indices[0] < indices[1], "in the order of the connections");

    let (conn, ()) = server.expect("b", SOON).unwrap();
    assert!(indices.contains(&conn.index()));
    let (silent, ()) = server.expect("c", SOON).unwrap();
    assert!(!indices.contains(&silent.index()));
    assert_eq!(silent.received_total(), 1);

    server.expect_none("d", SOON).unwrap();
    let error = server.expect_none("a", SOON).unwrap_err();
    assert!(
        error.to_string().starts_with("text \"a\" was not to come, but it did, as #1: text \"a\""),
        "{error}"
    );
    // One has it, two were wanted: nothing is taken.
    let error = server.expect_each(2, "a", SHORT).unwrap_err().to_string();
    assert!(
        error
            .starts_with("waited 100ms in vain for text \"a\" on 2 connections; of 3 connections only those"),
        "{error}"
    );
    assert!(error.contains("\nthe server's transcript:\n"), "{error}");
    server.expect("a", SOON).unwrap();
    let error = server.expect("a", SHORT).unwrap_err().to_string();
    assert!(
        error.contains("a\" on any connection; none of 3 connections had it\n#0 /: nothing arrived"),
        "{error}"
    );
    assert_eq!(server.expect_each(0, "x", SHORT).unwrap().len(), 0);

    server.kill_all();
    talking.into_iter().for_each(|talker| talker.join().unwrap());
}

#[test]
fn two_that_expect_on_all_connections_do_not_get_the_same_message() {
    let server = MockServer::start();
    let count = 200;
    let texts: Vec<String> = (0..count).map(|i| format!("{i:03}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let talking = talker(&server, &texts);
    let text = || pick("any text", |message| Some(message.to_text().ok()?.to_owned()));
    let mut taken: Vec<String> = thread::scope(|scope| {
        let takers = [(); 4].map(|()| {
            scope.spawn(|| -> Vec<String> {
                (0..count / 4).map(|_| server.expect(text(), SOON).unwrap().1).collect()
            })
        });
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    taken.sort();
    assert_eq!(taken, texts);
    server.kill_all();
    talking.join().unwrap();
}

#[test]
fn expectations_in_a_handler_fail_at_once() {
    let (sender, results) = std::sync::mpsc::channel();
    let server = MockServer::builder()
        .handler(move |conn, _| {
            sender.send(conn.expect("x", SOON).unwrap_err()).unwrap();
            sender.send(conn.fence(SOON).unwrap_err()).unwrap();
            sender.send(conn.expect_none("x", SOON).unwrap_err()).unwrap();
            sender.send(conn.expect_none_for("x", SOON).unwrap_err()).unwrap();
        })
        .start();
    let mut client = connect(&server);
    client.send(Message::text("go")).unwrap();
    for _ in 0..4 {
        let error = results.recv_timeout(SOON).unwrap();
        assert!(matches!(error, WaitError::OnServerThread { .. }), "{error}");
    }
}

#[test]
fn rules_come_before_the_handler_and_the_first_that_fits_answers() {
    let server = MockServer::builder()
        .on("a", |conn, ()| conn.send_text("first"))
        .on(that("any text", Message::is_text), |conn, text| conn.send_text(format!("second: {text}")))
        .handler(|conn, message| conn.send_text(format!("rest: {} bytes", message.len())))
        .start();
    let mut client = connect(&server);
    for (said, answer) in [
        (Message::text("a"), "first"),
        (Message::text("b"), "second: b"),
        (Message::binary(vec![1]), "rest: 1 bytes"),
    ] {
        client.send(said).unwrap();
        assert_eq!(read_text(&mut client), answer);
    }
}

#[test]
fn a_connection_is_found_by_its_path() {
    let server = MockServer::start();
    let (_public, _) = handshake(server.url_of("/public"), tcp(server.addr())).unwrap();
    let (_private, _) = handshake(server.url_of("/private?token=t"), tcp(server.addr())).unwrap();
    assert_eq!(server.wait_connection_to("/private", SOON).unwrap().path(), "/private?token=t");
    let error = server.wait_connection_to("/other", SHORT).unwrap_err().to_string();
    assert!(
        error.starts_with("waited 100ms in vain for a WebSocket connection to /other; there were 2 "),
        "{error}"
    );
}

#[test]
fn the_waits_of_a_test_that_shares_its_thread_with_the_client() {
    let server = MockServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let addr = server.addr();
    runtime.block_on(async {
        let client = tokio::spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
            let bytes = [upgrade_request("/", ""), masked(0x81, b"hello")].concat();
            tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.unwrap();
            stream
        });
        let conn = server.unblock(|server| server.wait_connection(0, SOON)).await.unwrap();
        conn.unblock(|conn| conn.expect("hello", SOON)).await.unwrap();
        assert!(conn.is_open(), "the server is not dropped by the wait");
        drop(client.await.unwrap());
    });
    let clone = server.clone();
    drop(server);
    connect(&clone);
    assert_eq!(clone.connections(), 2, "the last handle keeps it");
}
