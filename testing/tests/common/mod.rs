//! Blocking clients for the tests. Nothing here waits longer than `SOON`.

// Not every test file needs all of it.
#![allow(dead_code, unreachable_pub)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use everwire_testing::tungstenite::client::IntoClientRequest;
use everwire_testing::tungstenite::{self, WebSocket};
use everwire_testing::{ClientIdentity, Message, MockServer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Longer than anything takes that happens at all.
pub const SOON: Duration = Duration::from_secs(10);
/// How long is waited for what must not happen.
pub const SHORT: Duration = Duration::from_millis(100);

pub type Client = WebSocket<TcpStream>;
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

pub fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, SOON).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn connect(server: &MockServer) -> Client {
    try_connect(server).unwrap().0
}

pub fn try_connect(
    server: &MockServer,
) -> Result<(Client, tungstenite::handshake::client::Response), tungstenite::Error> {
    handshake(server.url(), tcp(server.addr()))
}

pub fn handshake<S: Read + Write>(
    request: impl IntoClientRequest,
    stream: S,
) -> Result<(WebSocket<S>, tungstenite::handshake::client::Response), tungstenite::Error> {
    tungstenite::client(request, stream).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(error) => error,
        tungstenite::HandshakeError::Interrupted(_) => io::Error::from(io::ErrorKind::TimedOut).into(),
    })
}

/// A raw connection right behind the handshake: the bytes that come are those of the frames.
pub fn raw_connect(server: &MockServer) -> TcpStream {
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/", "")).unwrap();
    read_head(&mut stream);
    stream
}

pub fn upgrade_request(path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// Reads up to the end of the response's head and not a byte further.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Everything up to the end of the stream, and how it ended.
pub fn read_all(stream: &mut impl Read) -> (Vec<u8>, io::Result<()>) {
    let mut data = Vec::new();
    let result = stream.read_to_end(&mut data).map(drop);
    (data, result)
}

/// A client's frame with a mask of zeros, which leaves the payload readable.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

pub fn read_text<S: Read + Write>(client: &mut WebSocket<S>) -> String {
    match client.read().unwrap() {
        Message::Text(text) => text.as_str().to_owned(),
        other => panic!("expected a text message, got {other:?}"),
    }
}

/// A TLS stream that trusts the server's CA; the TLS handshake happens with the first byte.
pub fn tls(server: &MockServer, identity: Option<&ClientIdentity>) -> TlsStream {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let cert = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp(server.addr()))
}

/// A text whose transcript lines have lost their times.
pub fn without_times(text: &impl ToString) -> String {
    let line = |line: &str| match line.split_once(" s  ") {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.to_string().lines().map(line).collect::<Vec<_>>().join("\n")
}
