//! The driver on smol's executor and on async-std's, and over streams that are not TCP.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_smol::{
    Client, CloseCode, Config, Driver, Event, Events, Message, OwnedEvent, State, Transport, connect, run,
};
use everwire_testing::MockServer;
use std::thread;

fn echo() -> MockServer {
    MockServer::builder().handler(|conn, message| conn.send(message)).start()
}

/// Sends one message, has it echoed over a second connection, and closes.
async fn talk(server: &MockServer, client: Client, mut events: Events) {
    let mut connections = 0;
    let mut messages = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            OwnedEvent::Online { .. } => {
                connections += 1;
                match connections {
                    1 => server.last().unwrap().kill(),
                    _ => drop(client.send("hello").unwrap()),
                }
            }
            OwnedEvent::Message { message, .. } => {
                messages.push(message);
                client.close(CloseCode::Normal, "");
            }
            _ => {}
        }
    }
    assert_eq!((connections, messages), (2, vec!["hello".into()]));
    assert_eq!(client.state(), State::Closed);
}

fn config(server: &MockServer) -> Config {
    let soon = std::time::Duration::from_millis(5);
    Config::new(&server.url()).unwrap().backoff(soon, soon)
}

#[test]
fn on_smols_executor() {
    let server = echo();
    smol::block_on(async {
        let (client, events) = connect(config(&server)).unwrap();
        talk(&server, client, events).await;
    });
}

#[test]
fn on_async_stds_executor() {
    let server = echo();
    async_std::task::block_on(async {
        let (client, events, running) = run(Driver::new(config(&server)).unwrap());
        let task = async_std::task::spawn(running);
        talk(&server, client, events).await;
        task.await;
    });
}

#[test]
fn inline_within_any_executor() {
    let server = echo();
    smol::block_on(async {
        let mut driver = Driver::new(config(&server)).unwrap();
        let client = driver.client();
        while let Some(event) = driver.next().await {
            match event {
                Event::Online { .. } => drop(client.send("hello").unwrap()),
                Event::Message { message, .. } => {
                    assert_eq!(message, Message::Text("hello"));
                    client.close(CloseCode::Normal, "");
                }
                _ => {}
            }
        }
    });
}

#[cfg(unix)]
#[test]
fn websocket_over_a_unix_socket() {
    use smol::net::unix::UnixStream;

    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let peer = thread::spawn(move || {
        let mut peer = tungstenite::accept(theirs).unwrap();
        let message = peer.read().unwrap();
        peer.send(message).unwrap();
        while peer.read().is_ok() {}
    });
    smol::block_on(async {
        let mut stream = Some(ours);
        let config = Config::new("ws://localhost/").unwrap().transport(Transport::Connector).no_reconnect();
        let mut driver = Driver::new(config).unwrap().connector(move |_| {
            let stream = stream.take();
            async move { UnixStream::try_from(stream.unwrap()) }
        });
        let client = driver.client();
        let mut echoed = false;
        while let Some(event) = driver.next().await {
            match event {
                Event::Online { .. } => drop(client.send("over unix").unwrap()),
                Event::Message { message, .. } => {
                    assert_eq!(message, Message::Text("over unix"));
                    echoed = true;
                    client.close(CloseCode::Normal, "");
                }
                _ => {}
            }
        }
        assert!(echoed);
    });
    peer.join().unwrap();
}
