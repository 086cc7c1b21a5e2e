//! Streams that are not TCP: in memory, over a unix socket, and what goes wrong with a connector.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_tokio::{CloseCode, Config, Driver, Duplex, Error, Event, Message, Transport};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::duplex;
use tokio_tungstenite::accept_async;

use futures_util::{SinkExt, StreamExt};

const SOON: Duration = Duration::from_secs(20);

/// A server of one connection that echoes one message.
async fn echo(stream: impl Duplex) {
    let mut peer = accept_async(stream).await.unwrap();
    let message = peer.next().await.unwrap().unwrap();
    peer.send(message).await.unwrap();
    while let Some(Ok(_)) = peer.next().await {}
}

/// Sends one message over what the driver's connector gives, has it back, and closes.
async fn talk(mut driver: Driver) {
    let client = driver.client();
    let mut echoed = None;
    while let Some(event) = tokio::time::timeout(SOON, driver.next()).await.unwrap() {
        match event {
            Event::Online { .. } => drop(client.send("hello").unwrap()),
            Event::Message { message, .. } => {
                echoed = Some(message.to_owned());
                client.close(CloseCode::Normal, "");
            }
            _ => {}
        }
    }
    assert_eq!(echoed, Some(Message::Text("hello").to_owned()));
}

fn config() -> Config {
    Config::new("ws://localhost/path").unwrap().transport(Transport::Connector).no_reconnect()
}

#[tokio::test]
async fn in_memory() {
    // A pipe that holds less than a handshake: it must be filled and emptied many times.
    let (ours, theirs) = duplex(16);
    tokio::spawn(echo(theirs));
    let mut ours = Some(ours);
    let driver = Driver::new(config()).unwrap().connector(move |target| {
        assert_eq!((target.host(), target.port()), ("localhost", 80));
        let ours = ours.take();
        async move { ours.ok_or_else(|| ErrorKind::NotFound.into()) }
    });
    talk(driver).await;
}

#[tokio::test]
async fn through_a_stream_that_buffers_until_it_is_flushed() {
    let (ours, theirs) = duplex(1 << 16);
    tokio::spawn(echo(theirs));
    let mut ours = Some(tokio::io::BufStream::new(ours));
    let driver = Driver::new(config()).unwrap().connector(move |_| {
        let ours = ours.take();
        async move { ours.ok_or_else(|| ErrorKind::NotFound.into()) }
    });
    talk(driver).await;
}

#[cfg(unix)]
#[tokio::test]
async fn over_a_unix_socket() {
    let dir = std::env::temp_dir().join(format!("everwire-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("ws.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move { echo(listener.accept().await.unwrap().0).await });
    let socket = path.clone();
    let driver =
        Driver::new(config()).unwrap().connector(move |_| tokio::net::UnixStream::connect(socket.clone()));
    talk(driver).await;
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_connector_may_use_a_handle_and_fail() {
    let config = Config::new("ws://localhost/").unwrap().transport(Transport::Connector).max_attempts(2);
    let config = config.backoff(Duration::from_millis(1), Duration::from_millis(1));
    let handle = std::sync::Arc::new(std::sync::OnceLock::new());
    let theirs: std::sync::Arc<std::sync::OnceLock<everwire_tokio::Client>> = handle.clone();
    let mut driver = Driver::new(config).unwrap().connector(move |_| {
        // It runs without the lock.
        let state = theirs.get().unwrap().state();
        async move {
            assert_eq!(state, everwire_tokio::State::Connecting);
            Err::<tokio::io::DuplexStream, _>(std::io::Error::other("no tunnel today"))
        }
    });
    handle.set(driver.client()).unwrap();
    for _ in 0..2 {
        let Some(Event::AttemptFailed { error: Error::Open(error), .. }) = driver.next().await else {
            panic!("nothing can be opened")
        };
        assert!(error.to_string().contains("no tunnel today"), "{error}");
    }
    assert!(matches!(driver.next().await, Some(Event::Closed { error: Some(_) })));
}

#[tokio::test]
async fn a_missing_connector_is_named() {
    let mut driver = Driver::new(config().max_attempts(1)).unwrap();
    let Some(Event::AttemptFailed { error, .. }) = driver.next().await else { panic!("it cannot connect") };
    assert!(error.to_string().contains("Driver::connector"), "{error}");
}
