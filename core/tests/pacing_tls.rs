//! The rate limiter over TLS, where what was encrypted has not gone anywhere yet.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{Config, Limit, Message, SendOptions, TlsConfig};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// Rustls' own server.
struct Server {
    tls: rustls::ServerConnection,
    /// How much of what the client wrote has arrived.
    seen: usize,
    got: Vec<u8>,
}

impl Server {
    /// All that the client has to write arrives, and is answered as far as TLS does so by itself.
    fn exchange(&mut self, h: &mut Harness) {
        loop {
            h.flush(0);
            let mut arrived = &h.conns[0].written[self.seen..];
            self.seen += arrived.len();
            while !arrived.is_empty() {
                self.tls.read_tls(&mut arrived).unwrap();
                self.tls.process_new_packets().unwrap();
                let _ = self.tls.reader().read_to_end(&mut self.got);
            }
            let mut answer = vec![];
            while self.tls.wants_write() {
                self.tls.write_tls(&mut answer).unwrap();
            }
            if answer.is_empty() {
                return;
            }
            h.feed_silently(0, &answer);
        }
    }
}

#[test]
fn what_waits_encrypted_leads_to_no_burst() {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key)
        .unwrap();
    let tls = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    let mut server = Server { tls, seen: 0, got: vec![] };
    let config = Config::new("wss://127.0.0.1:9/feed")
        .unwrap()
        .ping_interval(None)
        .tls(TlsConfig::with_ca_pem(identity.cert.pem().as_bytes()).unwrap())
        .send_limit(Limit::window("all", 2, secs(1)).margin(Duration::ZERO));
    let mut h = Harness::new(config);
    h.run();
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    server.exchange(&mut h);
    let response = accept(&server.got, "");
    server.tls.writer().write_all(&response).unwrap();
    server.exchange(&mut h);
    assert_eq!(h.told().len(), 1, "online");
    server.got.clear();

    for n in 0..6 {
        h.s.send(Message::Text(&n.to_string()), SendOptions::default(), h.now).unwrap();
    }
    // The socket takes nothing for long.
    h.advance(millis(10_500));
    for (at, count) in [(10_500, 2), (11_499, 2), (11_500, 4), (12_499, 4), (12_500, 6)] {
        h.advance(start().instant + millis(at) - h.now);
        server.exchange(&mut h);
        assert_eq!(frames(&server.got).0.len(), count, "at {at} ms");
    }
}
