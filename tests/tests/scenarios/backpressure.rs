//! A user who is slow, or gone: memory stays bounded, what is sent still goes out, and nothing is lost.

use everwire_core::{CloseCode, OwnedEvent, State};
use everwire_testing::{ConnHandle, ConnectionEnd, Message, MockServer, WaitError};
use everwire_tests::{Runtime, SOON, Scene, closed, config_for, holds, next, online, scenarios};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

scenarios! {
    a_slow_user_over_tcp,
    a_slow_user_over_tls,
    who_drops_the_events_wants_none,
    dropping_all_handles_closes,
    dropping_all_handles_closes_while_events_wait,
    closing_while_events_wait_loses_none,
}

const LEN: usize = 1 << 10;
/// 40 MiB of them: more than sockets hold.
const COUNT: usize = 40 << 10;

/// Message number `n`.
fn numbered(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    bytes
}

/// Sends all the messages on a thread of its own, as fast as the client takes them. The receiver gets how many were handed to the
/// operating system when, for the first time, no more were for a whole second.
fn flood(conn: ConnHandle) -> (JoinHandle<()>, mpsc::Receiver<usize>) {
    const BATCH: usize = 256;
    let (blocked, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        for start in (0..COUNT).step_by(BATCH) {
            for n in start..start + BATCH {
                conn.send_binary(numbered(n));
            }
            match conn.flush(Duration::from_secs(1)) {
                Ok(()) => {}
                Err(WaitError::TimedOut { .. }) => {
                    // Nobody is interested in the second time.
                    let _ = blocked.send(start);
                    conn.flush(SOON).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(conn.discarded(), 0);
    });
    (thread, receiver)
}

async fn a_slow_user(scene: &Scene<impl Runtime>, server: MockServer) {
    // Pings of its own, so that a peer that is not read would seem dead if that were judged wrongly.
    let config = config_for(&server);
    let config = config.ping_interval(Duration::from_millis(100)).pong_timeout(Duration::from_millis(100));
    let (client, mut events) = scene.connect(config);
    online(&mut events).await;
    let conn = server.last().unwrap();
    let (flood, blocked) = flood(conn.clone());
    let written = blocked.recv_timeout(SOON).expect("the server is held up");

    // What the session and the events hold of it: 1,024 events, one read, and what TLS has not decrypted.
    let held = client.stats().bytes_received;
    assert!(held < 2 << 20, "{held} bytes were taken of {} that were sent", written * LEN);
    assert!(held > 1 << 20, "only {held} bytes were taken");

    // The other direction is not held up.
    for n in 0..200 {
        client.send(&format!("sent meanwhile {n}")).unwrap();
        conn.expect_text(&format!("sent meanwhile {n}"), SOON).unwrap();
    }
    assert_eq!(client.stats().bytes_received, held, "nothing was read meanwhile");
    assert_eq!(client.state(), State::Online);

    let mut n = 0;
    while n < COUNT {
        match next(&mut events).await {
            OwnedEvent::Message { message: Message::Binary(bytes), epoch, .. } => {
                assert_eq!((bytes.len(), epoch.as_u64()), (LEN, 1));
                assert_eq!(&bytes[..8], (n as u64).to_be_bytes(), "message {n}");
                n += 1;
            }
            OwnedEvent::Pong { .. } => {}
            event => panic!("after {n} messages: {event:?}"),
        }
    }
    flood.join().unwrap();
    conn.send_text("the end");
    loop {
        match next(&mut events).await {
            OwnedEvent::Message { message, .. } => break assert_eq!(message, Message::text("the end")),
            OwnedEvent::Pong { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(client.stats().messages_received, COUNT as u64 + 1);
}

async fn a_slow_user_over_tcp(scene: &Scene<impl Runtime>) {
    a_slow_user(scene, MockServer::start()).await;
}

async fn a_slow_user_over_tls(scene: &Scene<impl Runtime>) {
    a_slow_user(scene, MockServer::builder().tls().start()).await;
}

async fn who_drops_the_events_wants_none(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (client, mut events) = scene.connect(config_for(&server));
    online(&mut events).await;
    let conn = server.last().unwrap();
    let (flood, blocked) = flood(conn.clone());
    blocked.recv_timeout(SOON).expect("the server is held up by events that nobody takes");
    drop(events);
    flood.join().expect("and is not any more");
    client.send("still here").unwrap();
    conn.expect_text("still here", SOON).unwrap();
    assert_eq!((client.state(), server.connections()), (State::Online, 1));

    // The same again on another connection.
    conn.kill();
    let conn = server.wait_connection(1, SOON).unwrap();
    holds("Online", || client.state() == State::Online).await;
    client.send("back again").unwrap();
    conn.expect_text("back again", SOON).unwrap();
    client.close(CloseCode::Away, "");
    assert_eq!(code(&conn), CloseCode::Away);
}

/// The code of the client's close frame, with which it began the end.
fn code(conn: &ConnHandle) -> CloseCode {
    match conn.wait_end(SOON).unwrap() {
        ConnectionEnd::Closed { by_server: false, frame: Some(frame) } => frame.code,
        end => panic!("{end}"),
    }
}

async fn dropping_all_handles_closes(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    for events_first in [true, false] {
        let (client, mut events) = scene.connect(config_for(&server));
        online(&mut events).await;
        let conn = server.last().unwrap();
        let clone = client.clone();
        drop(client);
        if events_first {
            drop(events);
            clone.send("the last word").unwrap();
            drop(clone);
        } else {
            clone.send("the last word").unwrap();
            drop(clone);
            conn.send_text("still told");
            assert!(matches!(next(&mut events).await, OwnedEvent::Message { .. }));
            drop(events);
        }
        conn.expect_text("the last word", SOON).unwrap();
        assert_eq!(code(&conn), CloseCode::Normal, "events first: {events_first}");
    }
}

async fn dropping_all_handles_closes_while_events_wait(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (client, mut events) = scene.connect(config_for(&server));
    online(&mut events).await;
    let conn = server.last().unwrap();
    for n in 0..5_000 {
        conn.send_binary(numbered(n));
    }
    drop((client, events));
    assert_eq!(code(&conn), CloseCode::Normal);
}

async fn closing_while_events_wait_loses_none(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (client, mut events) = scene.connect(config_for(&server));
    online(&mut events).await;
    let conn = server.last().unwrap();
    // More than the events' buffer, and little enough that sockets hold the rest: a server writes nothing after a close frame.
    const WAITING: usize = 1_300;
    for n in 0..WAITING {
        conn.send_binary(numbered(n));
    }
    conn.flush(SOON).unwrap();
    client.close(CloseCode::Normal, "");
    conn.wait_for("the close frame", SOON, Message::is_close).unwrap();
    for n in 0..WAITING as u64 {
        match next(&mut events).await {
            OwnedEvent::Message { message: Message::Binary(bytes), .. } => {
                assert_eq!(bytes[..8], n.to_be_bytes());
            }
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(closed(&mut events).await, None);
    assert_eq!(code(&conn), CloseCode::Normal);
}
