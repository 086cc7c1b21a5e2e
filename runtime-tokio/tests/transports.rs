//! Streams that are not TCP: in memory, over a unix socket, and what goes wrong with a connector.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::MockServer;
use everwire_tokio::{Client, CloseCode, Config, Driver, Duplex, Error, Event, Message, Transport};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, duplex};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::accept_async;

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

/// TLS that is not the session's: `wss://`, and the connector sees to it.
#[tokio::test]
async fn through_tls_of_the_users_own() {
    let server = MockServer::builder().tls().handler(|conn, message| conn.send(message)).start();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let addr = server.addr();
    let config = Config::new(&server.url()).unwrap().transport(Transport::SecuredConnector).no_reconnect();
    let driver = Driver::new(config).unwrap().connector(move |target| {
        let (connector, name) = (connector.clone(), ServerName::try_from(target.host().to_owned()).unwrap());
        async move { connector.connect(name, TcpStream::connect(addr).await?).await }
    });
    talk(driver).await;
}

#[tokio::test]
async fn a_connector_may_use_a_handle_and_fail() {
    let config = Config::new("ws://localhost/").unwrap().transport(Transport::Connector).max_attempts(2);
    let config = config.backoff(Duration::from_millis(1), Duration::from_millis(1));
    let handle = Arc::new(OnceLock::new());
    let theirs: Arc<OnceLock<Client>> = handle.clone();
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
    assert!(matches!(driver.next().await, Some(Event::Closed { error: Some(_), .. })));
}

/// A stream whose drop uses a handle of the session that it carries.
struct Nosy(tokio::io::DuplexStream, Arc<OnceLock<Client>>, Arc<AtomicU32>);

impl Drop for Nosy {
    fn drop(&mut self) {
        let _state = self.1.get().unwrap().state();
        self.2.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Nosy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Nosy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A lock that is held there would be waited for by the thread that holds it: hence a thread, and a limit to how long it is waited for.
#[test]
fn what_the_connector_gave_is_dropped_without_the_lock() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dropped = Arc::new(AtomicU32::new(0));
            let handle = Arc::new(OnceLock::new());
            let (theirs, count, mut calls) = (handle.clone(), dropped.clone(), 0);
            let config = config().connect_timeout(Duration::from_millis(20)).max_attempts(3);
            let config = config.backoff(Duration::from_millis(1), Duration::from_millis(1));
            let mut driver = Driver::new(config).unwrap().connector(move |_| {
                calls += 1;
                let (ours, peer) = duplex(1 << 10);
                let (stream, first) = (Nosy(ours, theirs.clone(), count.clone()), calls == 1);
                // Another end of file each time but the first, when the stream never comes.
                drop(peer);
                async move {
                    if first {
                        std::future::pending::<()>().await;
                    }
                    Ok(stream)
                }
            });
            handle.set(driver.client()).unwrap();
            while driver.next().await.is_some() {}
            assert_eq!(dropped.load(Ordering::Relaxed), 3);
        });
        done.send(()).unwrap();
    });
    finished.recv_timeout(SOON).expect("it neither hangs nor fails");
}

#[tokio::test]
async fn a_missing_connector_is_named() {
    let mut driver = Driver::new(config().max_attempts(1)).unwrap();
    let Some(Event::AttemptFailed { error, .. }) = driver.next().await else { panic!("it cannot connect") };
    assert!(error.to_string().contains("Driver::connector"), "{error}");
}
