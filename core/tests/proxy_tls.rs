//! By way of a proxy with TLS: to the proxy, to the server, and one within the other, over pipes in memory and in any pieces.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::transport::proxy::ProxyFault;
use everwire_core::transport::tls::TlsError;
use everwire_core::{
    Category, CloseCode, Config, Disconnect, Error, Message, OwnedEvent, Proxy, ProxyError, SendOptions,
    TlsConfig,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

/// A certificate that is its own authority, and the server that shows it.
struct Identity {
    pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    fn new(name: &str) -> Self {
        let identity = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.der().clone()], key)
            .unwrap();
        Self { pem: identity.cert.pem(), config: Arc::new(config) }
    }

    fn trusted(&self) -> TlsConfig {
        TlsConfig::with_ca_pem(self.pem.as_bytes()).unwrap()
    }

    fn accept(&self) -> ServerConnection {
        let mut connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        connection.set_buffer_limit(None);
        connection
    }
}

static PROXY: LazyLock<Identity> = LazyLock::new(|| Identity::new("proxy.example"));
static SERVER: LazyLock<Identity> = LazyLock::new(|| Identity::new("server.example"));

/// Which of the three layers there are.
#[derive(Debug, Clone, Copy)]
struct Layers {
    proxy: &'static str,
    outer: bool,
    inner: bool,
}

const ALL: [Layers; 5] = [
    Layers { proxy: "https", outer: true, inner: false },
    Layers { proxy: "https", outer: true, inner: true },
    Layers { proxy: "http", outer: false, inner: true },
    Layers { proxy: "socks5", outer: false, inner: true },
    Layers { proxy: "http", outer: false, inner: false },
];

/// Both far ends, and the pieces that bytes travel in.
struct World {
    h: Harness,
    outer: Option<ServerConnection>,
    inner: Option<ServerConnection>,
    proxy: &'static str,
    /// What came to the proxy in the clear, how often it answered, and whether it has connected.
    asked: Vec<u8>,
    answered: usize,
    connected: bool,
    /// What came to the server in the clear, and what it has to say.
    got: Vec<u8>,
    says: Vec<u8>,
    /// How much of what the client wrote has arrived; what is under way to it.
    seen: usize,
    in_flight: Vec<u8>,
    random: u64,
    /// Largest piece.
    most: usize,
}

impl World {
    fn new(layers: Layers, most: usize, seed: u64) -> Self {
        let proxy = Proxy::new(&format!("{}://proxy.example:3128", layers.proxy)).unwrap();
        Self::with(layers, proxy.tls(PROXY.trusted()), most, seed)
    }

    fn with(layers: Layers, proxy: Proxy, most: usize, seed: u64) -> Self {
        let scheme = if layers.inner { "wss" } else { "ws" };
        let config = Config::new(&format!("{scheme}://server.example/feed")).unwrap();
        let config = config.ping_interval(None).tls(SERVER.trusted()).proxy(proxy).recv_buffer(8192);
        let mut h = Harness::new(config);
        h.run();
        let [everwire_core::Output::Resolve(id)] = h.asked[..] else { panic!("{:?}", h.asked) };
        assert_eq!(h.s.host(id), Some(("proxy.example", 3128)));
        h.s.handle_resolved(id, Ok(&[([127, 0, 0, 9], 3128).into()]), h.now);
        h.run();
        h.s.handle_connected(h.conns[0].id, h.now);
        h.run();
        Self {
            h,
            outer: layers.outer.then(|| PROXY.accept()),
            inner: layers.inner.then(|| SERVER.accept()),
            proxy: layers.proxy,
            asked: vec![],
            answered: 0,
            connected: false,
            got: vec![],
            says: vec![],
            seen: 0,
            in_flight: vec![],
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            most,
        }
    }

    fn piece(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + self.random as usize % self.most
    }

    /// Moves everything, in pieces, until nothing moves.
    fn exchange(&mut self) {
        loop {
            let (up, down) = (self.piece(), self.piece());
            let sent = self.h.flush_up_to(0, up);
            let arrived = self.h.conns[0].written[self.seen..].to_vec();
            self.seen += arrived.len();
            let clear = match &mut self.outer {
                Some(tls) => decrypt(tls, &arrived),
                None => arrived,
            };
            self.at_proxy(&clear);
            self.answer();
            let len = self.in_flight.len().min(down);
            let taken = self.h.feed_silently(0, &self.in_flight[..len]);
            self.in_flight.drain(..taken);
            if sent + taken == 0 {
                return;
            }
        }
    }

    fn at_proxy(&mut self, clear: &[u8]) {
        if self.connected {
            return self.at_server(clear);
        }
        self.asked.extend_from_slice(clear);
        let answers: &[(usize, &[u8])] = match self.proxy {
            "socks5" => &[(3, &[5, 0]), (24, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])],
            _ => &[(usize::MAX, b"HTTP/1.1 200 OK\r\n\r\n")],
        };
        while let Some((len, answer)) = answers.get(self.answered) {
            let head = self.asked.windows(4).position(|part| part == b"\r\n\r\n").map(|at| at + 4);
            let len = if *len == usize::MAX { head.unwrap_or(usize::MAX) } else { *len };
            if self.asked.len() < len {
                return;
            }
            self.answered += 1;
            self.send_by_proxy(answer);
        }
        self.connected = true;
        let (request, rest) = match self.proxy {
            "socks5" => self.asked.split_at(24),
            _ => self.asked.split_at(self.asked.len() - after_head(&self.asked).len()),
        };
        assert!(rest.is_empty(), "nothing is sent before the proxy has connected");
        match self.proxy {
            "socks5" => assert!(request.windows(14).any(|part| part == b"server.example")),
            _ => assert!(request.starts_with(b"CONNECT server.example:")),
        }
    }

    fn at_server(&mut self, bytes: &[u8]) {
        match &mut self.inner {
            Some(tls) => self.got.extend(decrypt(tls, bytes)),
            None => self.got.extend_from_slice(bytes),
        }
    }

    /// What the server has to say goes on its way.
    fn answer(&mut self) {
        let says = std::mem::take(&mut self.says);
        let bytes = match &mut self.inner {
            Some(tls) => {
                tls.writer().write_all(&says).unwrap();
                written(tls)
            }
            None => says,
        };
        self.send_by_proxy(&bytes);
    }

    fn send_by_proxy(&mut self, bytes: &[u8]) {
        match &mut self.outer {
            Some(tls) => {
                tls.writer().write_all(bytes).unwrap();
                self.in_flight.extend(written(tls));
            }
            None => self.in_flight.extend_from_slice(bytes),
        }
    }

    /// Until the session is online.
    fn upgrade(&mut self) {
        self.exchange();
        self.says = accept(&self.got, "");
        self.got.clear();
        self.exchange();
        assert_eq!(brief(&mut self.h), ["online false"]);
    }

    /// Why the newest connection or attempt was lost.
    fn error(&self) -> Error {
        let error = self.h.events.iter().rev().find_map(|event| match event {
            OwnedEvent::Lost { error, .. } | OwnedEvent::AttemptFailed { error, .. } => Some(error.clone()),
            _ => None,
        });
        error.unwrap_or_else(|| panic!("nothing failed: {:?}", self.h.events))
    }
}

fn decrypt(tls: &mut ServerConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut clear = vec![];
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes).unwrap();
        if tls.process_new_packets().is_err() {
            break;
        }
        let _ = tls.reader().read_to_end(&mut clear);
    }
    clear
}

fn written(tls: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = vec![];
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn messages_go_both_ways_in_any_pieces() {
    for layers in ALL {
        for (seed, most) in
            [(1, 1), (2, 7), (3, 300), (4, 5000), (5, 40_000), (6, 1 << 20), (7, 17), (8, 2000)]
        {
            let mut world = World::new(layers, most, seed);
            world.upgrade();
            let large = "gr\u{fc}\u{df}e".repeat(if most < 100 { 500 } else { 30_000 });
            world.says = [text("small"), text(&large), text("behind")].concat();
            world.exchange();
            let told: Vec<String> = brief(&mut world.h);
            let expected = ["message small", &format!("message {large}"), "message behind"];
            assert!(told == expected, "{layers:?} in pieces of {most}");
            for message in ["small", &large, "behind"] {
                world.h.s.send(Message::Text(message), SendOptions::default(), world.h.now).unwrap();
            }
            world.h.run();
            world.exchange();
            let frames = frames(&world.got).0;
            let sent: Vec<&[u8]> = frames.iter().map(|(_, payload)| &payload[..]).collect();
            assert!(sent == [b"small", large.as_bytes(), b"behind"], "{layers:?} in pieces of {most}");
            // The server closes, and the layers end in order.
            world.got.clear();
            world.h.s.close(CloseCode::Normal, "done", world.h.now);
            world.h.run();
            world.exchange();
            assert_eq!(self::frames(&world.got).0, [(FIN | CLOSE, b"\x03\xe8done".to_vec())]);
            world.says = close(1000, "done");
            world.exchange();
            assert_eq!(world.h.eof(0), Stop::Closed, "{layers:?}");
            assert_eq!(brief(&mut world.h), ["closed None"]);
        }
    }
}

#[test]
fn many_bytes_against_a_user_who_takes_nothing_for_a_while() {
    for layers in ALL {
        let mut world = World::new(layers, 30_000, 9);
        world.upgrade();
        world.h.takes = false;
        let messages: Vec<String> = (0..500).map(|n| format!("{n} {}", "x".repeat(1000))).collect();
        world.says = messages.iter().flat_map(|message| text(message)).collect();
        world.exchange();
        assert!(world.in_flight.len() > 200_000, "{layers:?}: {} bytes wait", world.in_flight.len());
        world.h.takes = true;
        world.h.run();
        world.exchange();
        let told = brief(&mut world.h);
        assert!(told.iter().zip(&messages).all(|(told, message)| told[8..] == **message));
        assert_eq!(told.len(), messages.len(), "{layers:?}");
    }
}

#[test]
fn a_certificate_of_the_proxy_that_is_not_trusted_stops() {
    let layers = ALL[1];
    let proxy = Proxy::new("https://proxy.example:3128").unwrap().tls(SERVER.trusted());
    let mut world = World::with(layers, proxy, 5000, 1);
    world.exchange();
    let error = world.error();
    assert_eq!(error.category(), Category::Tls);
    assert!(
        matches!(&error, Error::Proxy(ProxyError { fault: ProxyFault::Tls(TlsError::Certificate(_)), .. })),
        "{error}"
    );
    assert!(
        matches!(world.h.events.last(), Some(OwnedEvent::Closed { error: Some(_), .. })),
        "{:?}",
        world.h.events
    );
    assert!(
        error.to_string().starts_with("proxy https://proxy.example:3128: TLS: certificate is not "),
        "{error}"
    );
    // The server's is judged by what the session trusts, not by what it trusts of proxies.
    let mut world = World::new(layers, 5000, 1);
    world.inner = Some(PROXY.accept());
    world.exchange();
    assert!(matches!(world.error(), Error::Tls(TlsError::Certificate(_))), "{:?}", world.error());
}

#[test]
fn ends_are_the_fault_of_the_layer_that_ends() {
    let of = |layers: Layers, open: bool, end: &dyn Fn(&mut World)| {
        let mut world = World::new(layers, 5000, 3);
        if open {
            world.upgrade();
        }
        end(&mut world);
        world.h.run();
        world.error()
    };
    let eof = |world: &mut World| {
        world.h.eof(0);
    };
    let proxy_closes = |world: &mut World| {
        world.outer.as_mut().unwrap().send_close_notify();
        world.exchange();
    };
    let server_closes = |world: &mut World| {
        world.inner.as_mut().unwrap().send_close_notify();
        world.exchange();
    };
    let [outer, both, inner, ..] = ALL;
    let is_proxy = |error: &Error, fault: ProxyFault| {
        assert!(matches!(error, Error::Proxy(error) if error.fault == fault), "{error:?}, not {fault:?}");
    };
    // Before a byte came.
    is_proxy(&of(outer, false, &eof), ProxyFault::Tls(TlsError::HandshakeEof));
    is_proxy(&of(both, false, &eof), ProxyFault::Tls(TlsError::HandshakeEof));
    is_proxy(&of(inner, false, &eof), ProxyFault::Ended { received: 0, cause: Disconnect::Eof });
    // Once it was open: cut, or ended well.
    is_proxy(&of(outer, true, &eof), ProxyFault::Tls(TlsError::Truncated));
    assert_eq!(of(outer, true, &proxy_closes), Error::Disconnected(Disconnect::Eof));
    for layers in [both, inner] {
        assert_eq!(of(layers, true, &eof), Error::Tls(TlsError::Truncated), "{layers:?}");
        assert_eq!(of(layers, true, &server_closes), Error::Disconnected(Disconnect::Eof), "{layers:?}");
    }
    assert_eq!(of(both, true, &proxy_closes), Error::Tls(TlsError::Truncated));
    // The proxy ends between its TLS and its answer.
    let silent = |world: &mut World| {
        world.answered = 9;
        world.connected = true;
        world.inner = None;
        world.exchange();
        proxy_closes(world);
    };
    is_proxy(&of(outer, false, &silent), ProxyFault::Ended { received: 0, cause: Disconnect::Eof });
}
