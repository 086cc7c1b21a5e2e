//! Much at once: long messages both ways, many requests, many sessions, many connections one after the other.

use everwire_core::tungstenite::handshake::derive_accept_key;
use everwire_core::{
    CloseCode, Error, JsonRpc, OwnedEvent, Request, RequestError, SendError, State, Unanswered,
};
use everwire_testing::{Message, MockServer, MockServerBuilder};
use everwire_tests::{
    Runtime, SOON, Scene, bounded, closed, config, config_for, describe, holds, lost, message, next_inline,
    noise, online, scenarios,
};
use serde_json::{Value, json};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::task::Poll;
use std::thread;

scenarios! {
    a_peer_that_reads_nothing_before_it_has_written_all,
    long_messages_both_ways_at_once,
    a_thousand_requests_in_flight,
    a_thousand_requests_are_lost_with_their_connection,
    many_sessions_in_one_thread,
    many_sessions_in_the_background,
    many_connections_one_after_the_other,
}

const LONG: usize = 1 << 20;

fn echo() -> MockServerBuilder {
    MockServer::builder().handler(|conn, message| conn.send(message))
}

/// Much more than the sockets of both sides hold: whoever writes must read meanwhile.
const COUNT: u64 = 16;

/// Message number `n` of one side: noise, the same in each but for its beginning.
struct Long(Vec<u8>);

impl Long {
    fn new() -> Self {
        Self(noise(1, LONG))
    }

    fn number(&mut self, n: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&n.to_be_bytes());
        &self.0
    }
}

/// A WebSocket server of its own, that does one thing after the other.
fn stubborn(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(read::<1>(&mut stream)[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
    });
    let accept = derive_accept_key(key.unwrap().as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(response.as_bytes()).unwrap();
    let mut long = Long::new();
    for n in 0..COUNT {
        stream.write_all(&[0x82, 127]).unwrap();
        stream.write_all(&(LONG as u64).to_be_bytes()).unwrap();
        stream.write_all(long.number(n)).unwrap();
    }
    for n in 0..COUNT {
        assert!(message_of(&mut stream) == long.number(n), "message {n}");
    }
}

fn read<const LEN: usize>(stream: &mut TcpStream) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The payload of the client's next message, which may come in fragments.
fn message_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = Vec::new();
    loop {
        let [first, second] = read::<2>(stream);
        let len = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(read(stream))),
            127 => u64::from_be_bytes(read(stream)),
            len => u64::from(len),
        };
        let mask = read::<4>(stream);
        let begin = message.len();
        message.resize(begin + usize::try_from(len).unwrap(), 0);
        stream.read_exact(&mut message[begin..]).unwrap();
        // In words, because tests are not optimised; the last may be short of bytes, and then only those count.
        let mask = u32::from_ne_bytes(mask);
        for word in message[begin..].chunks_mut(4) {
            let mut whole = [0; 4];
            whole[..word.len()].copy_from_slice(word);
            let whole = (u32::from_ne_bytes(whole) ^ mask).to_ne_bytes();
            word.copy_from_slice(&whole[..word.len()]);
        }
        if first & 0x80 != 0 {
            return message;
        }
    }
}

async fn a_peer_that_reads_nothing_before_it_has_written_all(scene: &Scene<impl Runtime>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || stubborn(&listener));
    let mut driver = scene.driver(config(&url).no_reconnect().send_buffer(64 << 20).ping_interval(None));
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let client = driver.client();
    let mut long = Long::new();
    for n in 0..COUNT {
        client.send(long.number(n)).unwrap();
    }
    for n in 0..COUNT {
        let event = next_inline(&mut driver).await;
        let OwnedEvent::Message { message, .. } = event else { panic!("{event:?}") };
        assert!(message.into_data() == long.number(n), "message {n}");
    }
    // The server ends when it has read everything.
    let event = next_inline(&mut driver).await;
    assert!(matches!(event, OwnedEvent::Lost { .. }), "{event:?}");
    server.join().unwrap();
}

async fn long_messages_both_ways_at_once(scene: &Scene<impl Runtime>) {
    // Neither side's order says anything about the other's.
    scene.log_as(|event| if matches!(event, OwnedEvent::Writable) { None } else { describe(event) });
    for builder in [MockServer::builder(), MockServer::builder().tls()] {
        let mut long = Long::new();
        let server = builder
            .on_connect(|conn, _| {
                let mut long = Long::new();
                (0..COUNT).for_each(|n| conn.send_binary(long.number(n).to_vec()));
            })
            .start();
        let (client, mut events) = scene.connect(config_for(&server).send_buffer(4 << 20));
        online(&mut events).await;
        let conn = server.last().unwrap();
        let (mut sent, mut received) = (0, 0);
        while received < COUNT {
            while sent < COUNT {
                match client.send(long.number(sent)) {
                    Ok(_) => sent += 1,
                    Err(SendError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(message(&mut events).await.into_data() == long.number(received), "message {received}");
            received += 1;
        }
        while sent < COUNT {
            match client.send(long.number(sent)) {
                Ok(_) => sent += 1,
                Err(SendError::Full) => bounded("room", client.writable()).await,
                Err(error) => panic!("{error}"),
            }
        }
        client.close(CloseCode::Normal, "");
        assert_eq!(closed(&mut events).await, None);
        for n in 0..COUNT {
            assert!(conn.next_message(SOON).unwrap().into_data() == long.number(n), "message {n}");
        }
    }
}

const REQUESTS: u64 = 1_000;

/// A server that answers when it has all the requests, the last one first.
fn patient() -> MockServer {
    let mut waiting = Vec::new();
    MockServer::builder()
        .handler(move |conn, message| {
            let request: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            waiting.push(json!({"jsonrpc": "2.0", "id": request["id"], "result": request["params"]["n"]}));
            if waiting.len() as u64 == REQUESTS {
                waiting.drain(..).rev().for_each(|answer| conn.send_text(answer.to_string()));
            }
        })
        .start()
}

fn ask(client: &everwire_core::Client, n: u64) -> everwire_core::ResponseFuture {
    client.request(Request::new("n").params(&json!({ "n": n }).to_string()))
}

async fn a_thousand_requests_in_flight(scene: &Scene<impl Runtime>) {
    let server = patient();
    let (client, mut events) = scene.connect(config_for(&server).protocol(JsonRpc::new()));
    online(&mut events).await;
    let answers: Vec<_> = (0..REQUESTS).map(|n| ask(&client, n)).collect();
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(bounded("an answer", answer).await.unwrap(), n.to_string());
    }
    assert_eq!(client.stats().messages_sent, REQUESTS);
}

async fn a_thousand_requests_are_lost_with_their_connection(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (client, mut events) = scene.connect(config_for(&server).protocol(JsonRpc::new()));
    online(&mut events).await;
    let answers: Vec<_> = (0..REQUESTS).map(|n| ask(&client, n)).collect();
    let conn = server.last().unwrap();
    holds("all requests to arrive", || conn.received_total() == REQUESTS).await;
    conn.kill();
    for answer in answers {
        let outcome = bounded("an end", answer).await;
        assert_eq!(outcome, Err(RequestError::SentUnknown(Unanswered::ConnectionLost)));
    }
    lost(&mut events).await;
    online(&mut events).await;
}

/// Waits for all of them, in one task.
async fn all(futures: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    poll_fn(|cx| {
        for future in &mut futures {
            if future.as_mut().is_some_and(|future| future.as_mut().poll(cx).is_ready()) {
                *future = None;
            }
        }
        if futures.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

const SESSIONS: usize = 40;
const EACH: usize = 25;

async fn many_sessions_in_one_thread(scene: &Scene<impl Runtime>) {
    let server = echo().start();
    let sessions = (0..SESSIONS).map(|session| -> Pin<Box<dyn Future<Output = ()>>> {
        let mut driver = scene.driver(config_for(&server));
        Box::pin(async move {
            assert!(matches!(driver.next().await, Some(OwnedEvent::Online { .. })));
            let client = driver.client();
            for n in 0..EACH {
                let text = format!("{session} {n}");
                client.send(&text).unwrap();
                let event = driver.next().await;
                let Some(OwnedEvent::Message { message, .. }) = event else { panic!("{event:?}") };
                assert_eq!(message, Message::text(text));
            }
            client.close(CloseCode::Normal, "");
            assert!(matches!(driver.next().await, Some(OwnedEvent::Closed { error: None, .. })));
        })
    });
    bounded("all sessions", all(sessions.collect())).await;
    assert_eq!(server.connections(), SESSIONS);
}

async fn many_sessions_in_the_background(scene: &Scene<impl Runtime>) {
    let server = echo().start();
    let sessions = (0..SESSIONS).map(|session| -> Pin<Box<dyn Future<Output = ()>>> {
        let (client, mut events) = scene.connect(config_for(&server));
        Box::pin(async move {
            online(&mut events).await;
            for n in 0..EACH {
                client.send(&format!("{session} {n}")).unwrap();
            }
            for n in 0..EACH {
                assert_eq!(message(&mut events).await, Message::text(format!("{session} {n}")));
            }
            client.close(CloseCode::Normal, "");
            assert_eq!(closed(&mut events).await, None);
            assert_eq!(client.state(), State::Closed);
        })
    });
    all(sessions.collect()).await;
    assert_eq!(server.connections(), SESSIONS);
    holds("the end of the connections", || server.live() == 0).await;
}

/// Each of them is closed, and the session goes on.
async fn many_connections_one_after_the_other(scene: &Scene<impl Runtime>) {
    const CONNECTIONS: u64 = 60;
    let server = echo().start();
    let config = config_for(&server).flap_budget(None);
    let (client, mut events) = scene.connect(config);
    for n in 1..=CONNECTIONS {
        assert_eq!(online(&mut events).await.as_u64(), n);
        client.send(&n.to_string()).unwrap();
        assert_eq!(message(&mut events).await, Message::text(n.to_string()));
        if n < CONNECTIONS {
            client.reconnect();
            assert_eq!(lost(&mut events).await, Error::Reconnect);
        }
    }
    holds("the end of the others", || server.live() == 1).await;
    assert_eq!(server.connections() as u64, CONNECTIONS);
}
