//! Sessions over real sockets, recorded and replayed.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

use everwire_core::{
    Client, CloseCode, Config, DeflateConfig, JsonRpc, Limits, Mutant, OwnedEvent, Request, TlsConfig,
};
use everwire_record::{
    Body, FileRecorder, Line, Metadata, Reader, Recording, Replay, ReplayError, Report, part_path,
};
use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{ConnHandle, HandshakeFault, Message, MockServer, unblock};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// A file that is there as long as its test.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("everwire-replay-{name}-{}.jsonl", std::process::id()));
        let _none = fs::remove_file(&path).ok();
        Self(path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        for part in 0..100 {
            let _none = fs::remove_file(part_path(&self.0, part)).ok();
        }
    }
}

fn lines(path: &Path) -> Vec<Line> {
    Reader::open(path).unwrap().map(Result::unwrap).collect()
}

fn base(url: &str) -> Config {
    let millis = Duration::from_millis;
    Config::new(url)
        .unwrap()
        .protocol(JsonRpc::new().methods("public/subscribe", "public/unsubscribe"))
        .backoff(millis(5), millis(50))
        .ping_interval(Some(millis(300)))
}

/// A venue that ticks, and a server that cuts the connection once.
fn venue() -> MockServer {
    MockServer::builder()
        .venue(&JsonRpcVenue::builder().tick_every(Duration::from_millis(20)).build())
        .start()
}

/// What happens next, given what was told.
struct Story {
    server: MockServer,
    client: Client,
    messages: u32,
    online: u32,
}

impl Story {
    fn told(&mut self, event: &OwnedEvent) {
        match event {
            OwnedEvent::Online { .. } => self.online += 1,
            OwnedEvent::Message { .. } => {
                self.messages += 1;
                match self.messages {
                    // In the middle of a frame.
                    5 => self.server.last().unwrap().kill_after(7),
                    25 => self.client.close(CloseCode::Normal, "enough"),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// Runs a session under tokio, spawned, to its end.
async fn spawned(server: MockServer, config: Config, recorder: &Arc<FileRecorder>) -> (u32, u32) {
    let (client, mut events) = everwire_tokio::connect(config.recorder(recorder.clone())).unwrap();
    client.subscribe("ticker.BTC");
    client.subscribe("ticker.ETH");
    let mut story = Story { server, client: client.clone(), messages: 0, online: 0 };
    let asks = tokio::spawn(async move {
        // An answer that a handle awaits, whenever that is.
        let _any = client.request(Request::new("public/test")).await;
    });
    while let Some(event) = tokio::time::timeout(SOON, events.next()).await.unwrap() {
        story.told(&event);
    }
    asks.await.unwrap();
    (story.messages, story.online)
}

fn replayed(path: &Path, config: Config) -> Report {
    let replay = Replay::open(path).unwrap();
    match replay.check(config) {
        Ok(report) => report,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_session_that_lost_its_connection_does_the_same_again() {
    let temp = Temp::new("tokio");
    let server = venue();
    let config = base(&server.url());
    let recorder = Recording::new().create(&temp.0).unwrap();
    let (messages, online) = spawned(server, config.clone(), &recorder).await;
    let status = recorder.finish();
    assert_eq!((online, status.dropped, &status.error), (2, 0, &None));
    let report = replayed(&temp.0, config.clone());
    assert!(report.complete, "{report:?}");
    assert!(report.compared > 200 && report.compared + 3 > status.lines, "{report:?} {status:?}");
    let metadata = Metadata::of(&temp.0).unwrap();
    assert_eq!((metadata.connections, metadata.epochs, metadata.losses, metadata.gaps), (2, 2, 1, 1));
    let ticks: u64 = metadata.topics.values().sum();
    assert!(ticks >= u64::from(messages), "{metadata:?}");
    assert_eq!(metadata.topics.keys().collect::<Vec<_>>(), ["ticker.BTC", "ticker.ETH"]);
    // Another configuration is no surprise.
    let other = config.clone().ping_interval(None);
    let Err(ReplayError::ConfigChanged { .. }) = Replay::open(&temp.0).unwrap().check(other.clone()) else {
        panic!("it has another digest")
    };
    let replay = Replay::open(&temp.0).unwrap().allow_config_change(true);
    let Err(ReplayError::Difference(difference)) = replay.check(other) else { panic!("it does not ping") };
    assert!(difference.line > 10, "{difference}");
}

#[test]
fn so_does_one_in_a_thread_with_borrowed_events() {
    let temp = Temp::new("blocking");
    let server = venue();
    let config = base(&server.url());
    let recorder = Recording::new().rotate_size(20_000).create(&temp.0).unwrap();
    let mut driver = everwire_blocking::Driver::new(config.clone().recorder(recorder.clone())).unwrap();
    let client = driver.client();
    client.subscribe("ticker.BTC");
    let mut story = Story { server, client, messages: 0, online: 0 };
    while let Some(event) = driver.next(SOON).unwrap() {
        let event = event.to_owned();
        story.told(&event);
    }
    drop(driver);
    let status = recorder.finish();
    assert!(status.parts > 1, "{status:?}");
    assert!(replayed(&temp.0, config).complete);
}

#[tokio::test]
async fn so_does_one_over_tls() {
    let temp = Temp::new("tls");
    let venue = JsonRpcVenue::builder().tick_every(Duration::from_millis(20)).build();
    let server = MockServer::builder().venue(&venue).tls().start();
    let config = base(&server.url()).tls(TlsConfig::with_ca_pem(server.ca_pem().as_bytes()).unwrap());
    let recorder = Recording::new().create(&temp.0).unwrap();
    let (_, online) = spawned(server, config.clone(), &recorder).await;
    recorder.finish();
    assert_eq!(online, 2);
    assert!(lines(&temp.0).iter().any(|line| matches!(line.what, Body::Way { .. })));
    assert!(replayed(&temp.0, config).complete);
}

#[tokio::test]
async fn certificates_that_are_not_trusted_are_refused_again() {
    let temp = Temp::new("untrusted");
    let server = MockServer::builder().tls().start();
    let other = MockServer::builder().tls().start();
    let config = base(&server.url()).tls(TlsConfig::with_ca_pem(other.ca_pem().as_bytes()).unwrap());
    let recorder = Recording::new().create(&temp.0).unwrap();
    let (_client, mut events) = everwire_tokio::connect(config.clone().recorder(recorder.clone())).unwrap();
    while tokio::time::timeout(SOON, events.next()).await.unwrap().is_some() {}
    recorder.finish();
    let lines = lines(&temp.0);
    assert!(
        lines
            .iter()
            .any(|line| matches!(&line.what, Body::Fault { text, .. } if text.contains("certificate")))
    );
    assert!(replayed(&temp.0, config).complete);
}

/// Does this to a connection.
type Deed = fn(&ConnHandle);

/// What a server does to its first connection, and what becomes of that is done again.
#[tokio::test]
async fn faults_of_servers_are_replayed() {
    let deeds: [(&str, Deed); 7] = [
        ("reserved", |conn| conn.send_raw([0xf1, 0])),
        ("utf8", |conn| conn.send_raw([0x81, 2, 0xff, 0xff])),
        ("half", |conn| {
            // The first fragment of a message, then one that begins another.
            conn.send_raw([0x01, 3, b'a', b'b', b'c']);
            conn.send_raw([0x81, 1, b'd']);
        }),
        ("close", |conn| conn.close(1012, "restart")),
        ("code", |conn| conn.send_raw([0x88, 2, 0x03, 0xed])),
        ("fin", ConnHandle::hang_up),
        ("ping", |conn| {
            conn.ping("are you there?");
            conn.send_raw([0x01, 1, b'a', 0x00, 1, b'b', 0x80, 1, b'c']);
            conn.kill_after(40);
            conn.send_text("x".repeat(1000));
        }),
    ];
    for (name, deed) in deeds {
        let temp = Temp::new(name);
        let server = MockServer::builder()
            .on_connect(move |conn, _| {
                conn.send_text("welcome");
                conn.send_binary(vec![0, 1, 255]);
                if conn.index() == 0 {
                    deed(conn);
                }
            })
            .start();
        let config = Config::new(&server.url())
            .unwrap()
            .deflate(DeflateConfig::default())
            .backoff(Duration::from_millis(1), Duration::from_millis(2));
        let recorder = Recording::new().create(&temp.0).unwrap();
        let (client, mut events) =
            everwire_tokio::connect(config.clone().recorder(recorder.clone())).unwrap();
        let mut online = 0;
        while let Some(event) = tokio::time::timeout(SOON, events.next()).await.unwrap() {
            match event {
                OwnedEvent::Online { .. } => online += 1,
                OwnedEvent::Message { message, .. } if message.is_binary() && online == 2 => {
                    client.close(CloseCode::Normal, "");
                }
                _ => {}
            }
        }
        recorder.finish();
        assert_eq!(online, 2, "{name}");
        assert!(replayed(&temp.0, config).complete, "{name}");
    }
}

#[tokio::test]
async fn handshakes_that_fail_are_replayed() {
    let temp = Temp::new("handshakes");
    let headers = [("Retry-After", "0"), ("Set-Cookie", "s3cret")];
    let busy = HandshakeFault::status_with(503, &headers, r#"{"token":"s3cret","why":"busy"}"#);
    let server = MockServer::builder().handshake_for(1, busy).start();
    let config =
        Config::new(&server.url()).unwrap().backoff(Duration::from_millis(1), Duration::from_millis(2));
    let recorder = Recording::new().create(&temp.0).unwrap();
    let (client, mut events) = everwire_tokio::connect(config.clone().recorder(recorder.clone())).unwrap();
    let mut failed = 0;
    while let Some(event) = tokio::time::timeout(SOON, events.next()).await.unwrap() {
        match event {
            OwnedEvent::AttemptFailed { .. } => failed += 1,
            OwnedEvent::Online { .. } => client.close(CloseCode::Normal, ""),
            _ => {}
        }
    }
    recorder.finish();
    assert_eq!(failed, 1);
    let text = fs::read_to_string(&temp.0).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    assert!(text.contains("busy"), "{text}");
    assert!(replayed(&temp.0, config).complete);
}

#[tokio::test]
async fn messages_that_are_streamed_are_replayed() {
    let temp = Temp::new("chunks");
    let server = MockServer::builder()
        .on_connect(|conn, _| {
            conn.send_text("\u{e9}".repeat(5000));
            conn.send_binary(vec![7; 4096]);
            conn.send_binary(vec![7; 2048 * 3]);
            conn.send_text("the end");
        })
        .start();
    let limits = Limits { chunk: Some(2048), ..Limits::default() };
    let config = Config::new(&server.url()).unwrap().limits(limits);
    let recorder = Recording::new().create(&temp.0).unwrap();
    let (client, mut events) = everwire_tokio::connect(config.clone().recorder(recorder.clone())).unwrap();
    let mut chunks = 0;
    while let Some(event) = tokio::time::timeout(SOON, events.next()).await.unwrap() {
        match event {
            OwnedEvent::Chunk { .. } => chunks += 1,
            OwnedEvent::Message { .. } => client.close(CloseCode::Normal, ""),
            _ => {}
        }
    }
    recorder.finish();
    assert!(chunks >= 10, "{chunks}");
    assert!(replayed(&temp.0, config).complete);
}

#[tokio::test]
async fn a_record_that_is_cut_or_has_a_hole_is_replayed_so_far() {
    let temp = Temp::new("cut");
    let server = venue();
    let config = base(&server.url());
    let recorder = Recording::new().create(&temp.0).unwrap();
    spawned(server, config.clone(), &recorder).await;
    recorder.finish();
    let whole = fs::read_to_string(&temp.0).unwrap();
    for cut in [whole.len() / 3, whole.len() / 2, whole.len() - 30] {
        fs::write(&temp.0, &whole[..cut]).unwrap();
        let report = replayed(&temp.0, config.clone());
        assert!(!report.complete && report.compared > 30, "{report:?}");
    }
    let mut lines: Vec<&str> = whole.lines().collect();
    let hole = lines.len() / 2;
    lines[hole] = r#"{"ns":1,"ts":"2026-01-01T00:00:00.000000Z","kind":"dropped","count":3}"#;
    fs::write(&temp.0, lines.join("\n")).unwrap();
    let report = replayed(&temp.0, config.clone());
    assert_eq!((report.hole, report.complete), (Some(hole as u64 + 1), false));
    // A frame that was not sent, and one that was sent too much.
    let at = whole.lines().position(|line| line.contains(r#""dir":"out""#)).unwrap();
    let without: Vec<&str> =
        whole.lines().enumerate().filter(|(index, _)| *index != at).map(|(_, line)| line).collect();
    fs::write(&temp.0, without.join("\n")).unwrap();
    let Err(ReplayError::Difference(difference)) = Replay::open(&temp.0).unwrap().check(config.clone())
    else {
        panic!("a frame is missing")
    };
    assert_eq!(difference.line, at as u64 + 1, "{difference}");
    let sent = whole.lines().find(|line| line.contains(r#""dir":"out""#)).unwrap();
    fs::write(&temp.0, whole.replacen(sent, &sent.replacen("public/sub", "public/pub", 1), 1)).unwrap();
    let Err(ReplayError::Difference(difference)) = Replay::open(&temp.0).unwrap().check(config) else {
        panic!("a frame is another")
    };
    assert_eq!(difference.field.as_deref(), Some(".data"));
}

// ---- A recorded bug is a test in two lines.

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/records/reconnect.jsonl");

/// What the session of the record was made with.
fn config() -> Config {
    base("ws://127.0.0.1:28181/feed?token=s3cret")
}

#[test]
fn a_recorded_loss_is_told_with_its_gap() -> Result<(), ReplayError> {
    Replay::open(RECORD)?.check(config())?;
    Ok(())
}

#[test]
fn a_session_with_a_bug_does_not_do_the_same() {
    for (mutant, recorded, replayed) in [
        (Mutant::HideGap, r#""is":"gap""#, r#""is":"message""#),
        (Mutant::SkipRestore, "subscribe", "subscribe"),
    ] {
        let error = Replay::open(RECORD).unwrap().check(config().mutant(Some(mutant))).unwrap_err();
        let ReplayError::Difference(difference) = &error else { panic!("{error}") };
        let text = error.to_string();
        println!("{text}");
        assert_eq!(difference.before.len(), 5);
        let line = |name| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
        assert!(line("recorded:").contains(recorded), "{mutant:?}: {text}");
        assert!(line("replayed:").contains(replayed), "{mutant:?}: {text}");
    }
}

/// Writes the record that the tests above replay: `cargo test -p everwire-record --test replay -- --ignored`.
#[tokio::test]
#[ignore = "it is written, and looked at, only when the form of records changes"]
async fn write_the_record() {
    let venue = JsonRpcVenue::builder().tick_every(Duration::from_millis(20)).build();
    let server = MockServer::builder().port(28181).venue(&venue).start();
    let recorder = Recording::new().overwrite(true).create(RECORD).unwrap();
    spawned(server, config(), &recorder).await;
    assert_eq!(recorder.finish().dropped, 0);
}

#[tokio::test]
async fn a_driver_that_is_dropped_leaves_a_record_that_is_whole() {
    let temp = Temp::new("dropped");
    let server = MockServer::start();
    let config = Config::new(&server.url()).unwrap();
    let recorder = Recording::new().create(&temp.0).unwrap();
    let mut driver = everwire_tokio::Driver::new(config.clone().recorder(recorder.clone())).unwrap();
    let first = tokio::time::timeout(SOON, driver.next()).await.unwrap().map(|event| event.to_owned());
    assert!(matches!(first, Some(OwnedEvent::Online { .. })));
    server.last().unwrap().send(Message::text("unread"));
    drop(driver);
    let ended = server.last().unwrap();
    unblock(move || ended.wait_end(SOON)).await.unwrap();
    recorder.finish();
    assert!(replayed(&temp.0, config).complete);
}
