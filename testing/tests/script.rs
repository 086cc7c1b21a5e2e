//! Scripts, run by `Host` and by `Live`.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::script::{Host, HttpRequest, HttpResponse, Live, Replies, Reply, Script};
use everwire_testing::sim::ws::Upgrade;
use everwire_testing::sim::{Accept, Action, Ended, Server};
use everwire_testing::tungstenite::{self, Message, client::IntoClientRequest, stream::MaybeTlsStream};
use everwire_testing::{CloseFrame, ConnectionEnd, WaitError};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Does as it is told, and remembers what it was called with.
#[derive(Debug, Default)]
struct Echo {
    calls: Vec<String>,
    alarm: Option<Duration>,
    stuck: bool,
}

impl Script for Echo {
    fn upgrade(&mut self, conn: u64, request: &Upgrade, _: Duration) -> Result<(), HttpResponse> {
        self.calls.push(format!("{conn} upgrade {}", request.target));
        match request.target.as_str() {
            "/busy" => Err(HttpResponse::status(429).header("Retry-After", "3")),
            _ => Ok(()),
        }
    }

    fn opened(&mut self, conn: u64, _: Duration, out: &mut Replies) {
        out.text(conn, "welcome");
    }

    fn text(&mut self, conn: u64, text: &str, now: Duration, out: &mut Replies) {
        match text {
            "panic" => panic!("as asked"),
            "fin" => out.push(conn, Reply::Fin),
            "reset" => out.push(conn, Reply::Reset),
            "close" => out.close(conn, 4000, "as asked"),
            "ping" => out.push(conn, Reply::Ping(b"p".to_vec())),
            "punish" => out.punish(conn, "asked for it"),
            "late" => out.punish_timing(conn, "late"),
            "alarm" => self.alarm = Some(now + Duration::from_millis(20)),
            "flood" => (0..70).for_each(|_| out.push(conn, Reply::Binary(vec![0; 1 << 20]))),
            text => out.text(conn, text),
        }
    }

    fn binary(&mut self, conn: u64, bytes: &[u8], _: Duration, out: &mut Replies) {
        out.push(conn, Reply::Binary(bytes.to_vec()));
    }

    fn ping(&mut self, conn: u64, payload: &[u8], _: Duration, _: &mut Replies) {
        self.calls.push(format!("{conn} ping {payload:?}"));
    }

    fn pong(&mut self, conn: u64, payload: &[u8], _: Duration, _: &mut Replies) {
        self.calls.push(format!("{conn} pong {payload:?}"));
    }

    fn closed(&mut self, conn: u64, code: Option<u16>, _: Duration, _: &mut Replies) {
        self.calls.push(format!("{conn} closed {code:?}"));
    }

    fn http(&mut self, request: &HttpRequest, _: Duration) -> HttpResponse {
        self.calls.push(format!("{} {}", request.method, request.target));
        let body = String::from_utf8_lossy(&request.body).into_owned();
        HttpResponse::json(&serde_json::json!({"you": body}))
    }

    fn deadline(&self) -> Option<Duration> {
        if self.stuck { Some(Duration::ZERO) } else { self.alarm }
    }

    fn run(&mut self, now: Duration, _: &mut Replies) {
        if self.alarm.take_if(|at| *at <= now).is_some() {
            self.calls.push("alarm".to_owned());
        }
    }
}

type Client = tungstenite::WebSocket<MaybeTlsStream<TcpStream>>;

fn connect(live: &Live<Echo>) -> Client {
    let (mut client, _) = tungstenite::connect(live.url("/ws")).unwrap();
    if let MaybeTlsStream::Plain(tcp) = client.get_mut() {
        tcp.set_read_timeout(Some(SOON)).unwrap();
    }
    assert_eq!(client.read().unwrap(), "welcome".into());
    client
}

// ---- Host, by hand.

const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client's frame, whose mask changes nothing.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![0x80 | first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn actions(host: &mut Host<Echo>) -> Vec<(u64, Action)> {
    std::iter::from_fn(|| host.output()).collect()
}

/// A host with one WebSocket, number 1.
fn hosting() -> Host<Echo> {
    let mut host = Host::new(Echo::default());
    let addr = ([192, 0, 2, 1], 80).into();
    assert_eq!(host.accept(1, addr, ms(0)), Accept::Open);
    host.received(1, REQUEST.as_bytes(), ms(0));
    let said = actions(&mut host);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[1], (1, Action::Send(b"\x81\x07welcome".to_vec())));
    host
}

#[test]
fn a_host_answers_pings_and_close_frames_by_itself() {
    let mut host = hosting();
    host.received(1, &masked(9, b"x"), ms(1));
    host.received(1, &masked(10, b"y"), ms(2));
    host.received(1, &masked(1, b"hi"), ms(3));
    let mut close = masked(8, b"\x03\xe9bye");
    close.extend(masked(1, b"after the end"));
    host.received(1, &close, ms(4));
    let want = [
        (1, Action::Send(b"\x8a\x01x".to_vec())),
        (1, Action::Send(b"\x81\x02hi".to_vec())),
        (1, Action::Send(b"\x88\x02\x03\xe9".to_vec())),
        (1, Action::Fin),
    ];
    assert_eq!(actions(&mut host), want);
    host.closed(1, Ended::Fin, ms(5));
    assert_eq!(actions(&mut host), []);
    let calls = ["1 upgrade /ws", "1 ping [120]", "1 pong [121]", "1 closed Some(1001)"];
    assert_eq!((host.script().calls.as_slice(), host.connections()), (calls.map(String::from).as_slice(), 1));
    assert!(host.violation().is_none() && host.punishments().is_empty());
}

#[test]
fn a_close_of_the_script_is_answered_or_times_out() {
    for answered in [true, false] {
        let mut host = hosting();
        host.received(1, &masked(1, b"close"), ms(10));
        assert_eq!(actions(&mut host), [(1, Action::Send(b"\x88\x0a\x0f\xa0as asked".to_vec()))]);
        assert_eq!((host.deadline(), host.open().count()), (Some(ms(5010)), 0));
        // Nothing is said or heard any more.
        host.act(ms(20), |_, out| out.text(1, "more"));
        host.received(1, &masked(1, b"hello?"), ms(20));
        host.run(ms(5009));
        assert_eq!(actions(&mut host), []);
        if answered {
            host.received(1, &masked(8, b"\x0f\xa0"), ms(5009));
        }
        host.run(ms(5010));
        assert_eq!((actions(&mut host), host.deadline()), (vec![(1, Action::Fin)], None));
        host.closed(1, Ended::Reset, ms(5011));
        assert_eq!(host.script().calls.len(), 1, "it is not told of what it did itself");
    }
}

#[test]
fn a_host_punishes_who_breaks_the_protocol_and_what_the_script_punishes() {
    let mut host = hosting();
    host.received(1, b"\x81\x01a", ms(1));
    let said = actions(&mut host);
    assert!(matches!(&said[0], (1, Action::Send(frame)) if frame[2..4] == 1002u16.to_be_bytes()), "{said:?}");
    assert_eq!(said[1], (1, Action::Fin));
    let violation = "connection 1 was punished: the client broke the protocol: a frame without a mask";
    assert_eq!(host.violation().as_deref(), Some(violation));
    assert_eq!(host.script().calls.last().unwrap(), "1 closed None");
    assert!(host.transcript().contains("a frame without a mask"), "{}", host.transcript());

    for (says, strict, patient) in [("punish", true, true), ("late", true, false)] {
        for (make, violates) in [
            (Box::new(|host| host) as Box<dyn Fn(Host<Echo>) -> Host<Echo>>, strict),
            (Box::new(Host::patient), patient),
            (Box::new(Host::tolerant), false),
        ] {
            let mut host = make(hosting());
            host.received(1, &masked(1, says.as_bytes()), ms(1));
            assert_eq!((host.violation().is_some(), host.punishments().len()), (violates, 1), "{says}");
        }
    }

    let mut host = Host::new(Echo::default());
    host.accept(7, ([192, 0, 2, 1], 80).into(), ms(0));
    host.received(7, b"GET / HTTP/1.0\r\n\r\n", ms(0));
    let said = actions(&mut host);
    assert!(
        matches!(&said[0], (7, Action::Send(answer)) if answer.starts_with(b"HTTP/1.1 400 ")),
        "{said:?}"
    );
    assert!(host.violation().is_some() && host.connections() == 0);
}

// ---- Live.

#[test]
fn a_live_script_hears_and_says_all_kinds_of_messages() {
    let live = Live::start(Echo::default());
    let mut client = connect(&live);
    let large = "x".repeat(9 << 20);
    for message in [Message::from("hi"), Message::from(vec![0, 1, 2]), Message::from(large)] {
        client.send(message.clone()).unwrap();
        assert_eq!(client.read().unwrap(), message);
    }
    // The client answers when it is about to say something else.
    client.send("ping".into()).unwrap();
    assert_eq!(client.read().unwrap(), Message::Ping(b"p".as_slice().into()));
    client.send(Message::Ping(b"q".as_slice().into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong(b"q".as_slice().into()));
    client.send("alarm".into()).unwrap();
    live.wait_for(SOON, |script| script.calls.iter().any(|call| call == "alarm")).unwrap();
    assert_eq!(
        live.with(|script| script.calls.clone()),
        ["1 upgrade /ws", "1 ping [113]", "1 pong [112]", "alarm"]
    );
    client.close(Some(CloseFrame { code: 1001.into(), reason: "bye".into() })).unwrap();
    live.wait_for(SOON, |script| script.calls.last().unwrap() == "1 closed Some(1001)").unwrap();
    assert!(matches!(client.read(), Ok(Message::Close(Some(frame))) if frame.code == 1001.into()));
    assert!(live.open().is_empty() && live.punishments().is_empty());
}

#[test]
fn the_ends_that_a_script_and_a_test_can_make() {
    let live = Live::start(Echo::default());
    let mut client = connect(&live);
    client.send("close".into()).unwrap();
    assert!(matches!(client.read(), Ok(Message::Close(Some(frame))) if frame.code == 4000.into()));

    let reset = |client: &mut Client| match client.read() {
        Err(tungstenite::Error::Io(error)) => error.kind() == std::io::ErrorKind::ConnectionReset,
        other => panic!("{other:?}"),
    };
    let ended = |client: &mut Client| match client.read() {
        Err(tungstenite::Error::Protocol(error)) => error.to_string().contains("without closing handshake"),
        other => panic!("{other:?}"),
    };
    let mut client = connect(&live);
    client.send("reset".into()).unwrap();
    assert!(reset(&mut client));
    let mut client = connect(&live);
    client.send("fin".into()).unwrap();
    assert!(ended(&mut client));
    let (mut one, mut two) = (connect(&live), connect(&live));
    let open = live.open();
    live.cut(open[0]);
    assert!(reset(&mut one));
    live.fin_all();
    assert!(ended(&mut two));
    live.cut_all();
    let told = live.with(|script| script.calls.clone());
    let told: Vec<&String> = told.iter().filter(|call| call.contains("closed")).collect();
    assert_eq!(told, ["4 closed None", "5 closed None"], "only of what it did not do itself");
    assert_eq!((live.connections(), live.open()), (5, vec![]));
}

#[test]
fn refusals_requests_and_a_closed_port() {
    let live = Live::start(Echo::default());
    match tungstenite::connect(live.url("/busy")) {
        Err(tungstenite::Error::Http(answer)) => {
            assert_eq!(
                (answer.status().as_u16(), answer.headers()["Retry-After"].as_bytes()),
                (429, b"3".as_slice())
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(live.http_url("/token?a=b"), format!("http://{}/token?a=b", live.addr()));
    let mut tcp = TcpStream::connect(live.addr()).unwrap();
    let body = "x".repeat(100_000);
    write!(tcp, "POST /token?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{{\"you\":\"{body}\"}}")), "{answer}");
    assert_eq!(live.with(|script| script.calls[1].clone()), "POST /token?a=b");

    live.refuse(true);
    assert!(TcpStream::connect(live.addr()).is_err());
    live.refuse(false);
    connect(&live);
    assert_eq!((live.connections(), live.attempts()), (1, 3));
}

#[test]
fn a_script_that_panics_is_reported_and_does_not_hang() {
    let live = Live::start(Echo::default());
    let mut client = connect(&live);
    client.send("panic".into()).unwrap();
    match live.wait_for(SOON, |_| false) {
        Err(WaitError::Ended { end: ConnectionEnd::HandlerPanicked(text), .. }) => {
            assert_eq!(text, "as asked");
        }
        other => panic!("{other:?}"),
    }
    assert!(client.read().is_err(), "its connections are reset");
    let with = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live.with(|_| ())));
    assert!(with.unwrap_err().downcast_ref::<String>().unwrap().contains("as asked"));
    assert!(tungstenite::connect(live.url("/")).is_err());

    // A deadline that is not moved on would go round in circles.
    let live = Live::start(Echo::default());
    live.with(|script| script.stuck = true);
    let error = live.wait_for(SOON, |_| false).unwrap_err().to_string();
    assert!(error.contains("does not move Script::deadline on"), "{error}");
}

#[test]
fn a_wait_in_vain_says_what_there_was_instead() {
    let live = Live::start(Echo::default());
    let mut client = connect(&live);
    client.send("punish".into()).unwrap();
    client.send("x".into()).unwrap();
    client.read().unwrap();
    let error = live.wait_for(ms(10), |_| false).unwrap_err().to_string();
    assert!(
        error.contains("1 connections; punished: asked for it; Echo { calls: [\"1 upgrade /ws\"]"),
        "{error}"
    );
    live.wait_connections(1, SOON).unwrap();
    // A test that panics in `with` does not take the script with it.
    let mine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live.with(|_| panic!("mine"))));
    assert!(mine.is_err() && live.punishments().len() == 1);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_then_reset() {
    let live = Live::start(Echo::default());
    let mut client = connect(&live);
    client.send("flood".into()).unwrap();
    live.wait_for(SOON, |script| script.calls.iter().any(|call| call == "1 closed None")).unwrap();
    let error = loop {
        match client.read() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, tungstenite::Error::Io(_)), "{error:?}");

    // Up to there all arrives, however slowly it is read.
    let mut client = connect(&live);
    let message = Message::from(vec![7; 6 << 20]);
    let mut writer = match client.get_ref() {
        MaybeTlsStream::Plain(tcp) => tcp.try_clone().unwrap(),
        _ => unreachable!("no TLS"),
    };
    let sends = std::thread::spawn(move || {
        let mut frame = vec![0x82, 0xff];
        frame.extend((6u64 << 20).to_be_bytes());
        frame.extend([0; 4]);
        frame.resize(frame.len() + (6 << 20), 7);
        (0..20).for_each(|_| writer.write_all(&frame).unwrap());
    });
    for _ in 0..20 {
        assert_eq!(client.read().unwrap(), message);
    }
    sends.join().unwrap();
}

#[test]
fn tls() {
    let live = Live::builder(Echo::default()).tls().start();
    assert!(live.url("ws").starts_with("wss://localhost:") && live.ca_pem().contains("BEGIN CERTIFICATE"));
    let tcp = TcpStream::connect(live.addr()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    roots.add(CertificateDer::from_pem_slice(live.ca_pem().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = rustls::ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
    let stream = rustls::StreamOwned::new(session, tcp);
    let request = live.url("/ws").into_client_request().unwrap();
    let (mut client, _) = tungstenite::client(request, stream).unwrap();
    assert_eq!(client.read().unwrap(), "welcome".into());
    let large = Message::from("x".repeat(1 << 20));
    client.send(large.clone()).unwrap();
    assert_eq!(client.read().unwrap(), large);
    live.fin_all();
    assert!(client.read().is_err());
}
