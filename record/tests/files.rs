//! Files: what is in them, what is not, and what becomes of them when something goes wrong.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

use everwire_core::record::{Entry, Observed, Recorder, What};
use everwire_core::{Clock, Config, Message, Output, SendOptions, Session, SubscribeOptions};
use everwire_record::{Body, FileRecorder, Metadata, ReadError, Reader, Recording, Redaction, part_path};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A directory that is there as long as its test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("everwire-record-{name}-{}", std::process::id()));
        let _none = fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0).ok();
    }
}

/// A session that is told much and connects to nobody.
struct Life {
    session: Session,
    now: Instant,
}

impl Life {
    fn new(recorder: Arc<FileRecorder>) -> Self {
        let now = Instant::now();
        let clock =
            Clock { instant: now, system: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600) };
        let config = Config::new("ws://192.0.2.1/feed?token=hunter2").unwrap().recorder(recorder);
        Self { session: Session::new(config, clock, [7; 32]).unwrap(), now }
    }

    /// Subscribes to so many topics of so many bytes each.
    fn subscribe(&mut self, topics: usize, bytes: usize) {
        for n in 0..topics {
            self.now += Duration::from_millis(1);
            let topic = format!("{n:06}{}", "x".repeat(bytes));
            self.session.subscribe(topic, SubscribeOptions::default(), self.now);
        }
    }
}

fn topics(path: &Path) -> Vec<String> {
    let lines = Reader::open(path).unwrap().map(Result::unwrap);
    lines
        .filter_map(|line| match line.what {
            Body::Subscribe { topic, .. } => Some(topic.name()[..6].to_owned()),
            _ => None,
        })
        .collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:06}")).collect()
}

#[test]
fn a_record_has_a_header_lines_and_an_end() {
    let dir = Dir::new("plain");
    let path = dir.file("feed.jsonl");
    let recorder = Recording::new().create(&path).unwrap();
    let mut life = Life::new(recorder.clone());
    life.subscribe(3, 0);
    let Output::Connect(conn, _) = life.session.poll_output(life.now) else { panic!() };
    life.session.handle_connected(conn, life.now);
    life.session.abort(life.now);
    let status = recorder.finish();
    assert_eq!((status.dropped, status.foreign, status.parts, &status.error), (0, 0, 1, &None));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count() as u64, status.lines);
    assert_eq!(text.len() as u64, status.bytes);
    assert!(text.ends_with("\n"));
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = values.iter().map(|value| value["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "header",
            "subscribe",
            "subscribe",
            "subscribe",
            "timer",
            "state",
            "output",
            "connected",
            "handshake_request",
            "abort",
            "end"
        ]
    );
    let header = &values[0];
    assert_eq!(header["version"], 1);
    assert_eq!(header["seed"], "07".repeat(32));
    assert_eq!(header["ts"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(header["digest"].as_str().unwrap().len(), 16);
    assert_eq!(header["config"]["url"], "ws://192.0.2.1/feed?***");
    assert_eq!(
        (values[2]["ns"].as_u64(), &values[2]["ts"]),
        (Some(2_000_000), &Value::from("2026-01-01T00:00:00.002000Z"))
    );
    assert_eq!(values[6]["addr"], "192.0.2.1:80");
    // The key is not secret once it is said; what is in the query is.
    let request = values[8]["data"].as_str().unwrap();
    assert!(request.starts_with("GET /feed?token=*** HTTP/1.1\r\n"), "{request}");
    assert!(!text.contains("hunter2"), "{text}");
    let metadata = Metadata::of(&path).unwrap();
    assert!(metadata.complete && !metadata.torn);
    assert_eq!((metadata.lines, metadata.connections, metadata.count), (status.lines, 1, 0));
}

#[test]
fn a_file_that_is_there_is_not_replaced_unless_told_so() {
    let dir = Dir::new("exists");
    let path = dir.file("feed.jsonl");
    fs::write(&path, "precious").unwrap();
    let error = Recording::new().create(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("feed.jsonl"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::write(part_path(&path, 1), "of an older record").unwrap();
    let recorder = Recording::new().overwrite(true).create(&path).unwrap();
    Life::new(recorder.clone()).subscribe(1, 0);
    recorder.finish();
    assert_eq!(topics(&path), numbers(1));
}

#[test]
fn it_goes_on_in_another_file_by_size() {
    let dir = Dir::new("size");
    let path = dir.file("feed.jsonl");
    let recorder = Recording::new().rotate_size(4096).create(&path).unwrap();
    Life::new(recorder.clone()).subscribe(100, 300);
    let status = recorder.finish();
    assert!(status.parts >= 8, "{status:?}");
    let mut lines = 0;
    for part in 0..status.parts {
        let text = fs::read_to_string(part_path(&path, part)).unwrap();
        assert!(text.len() < 4096 + 5000, "part {part} has {} bytes", text.len());
        let header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&header["kind"], &header["part"]), (&Value::from("header"), &Value::from(part)));
        lines += text.lines().count() as u64;
    }
    assert_eq!(lines, status.lines);
    assert!(!part_path(&path, status.parts).exists());
    assert_eq!(topics(&path), numbers(100), "all parts are read as one");
}

#[test]
fn it_goes_on_in_another_file_by_time() {
    let dir = Dir::new("time");
    let path = dir.file("feed.jsonl");
    let start = Instant::now();
    let recorder = Recording::new().rotate_after(Duration::from_secs(1)).create(&path).unwrap();
    let mut life = Life::new(recorder.clone());
    while recorder.status().parts < 3 {
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", recorder.status());
        life.subscribe(1, 0);
        std::thread::yield_now();
    }
    assert!(start.elapsed() >= Duration::from_secs(2));
    drop(life);
    let status = recorder.finish();
    assert!(part_path(&path, 2).exists(), "{status:?}");
}

#[test]
fn what_was_flushed_survives_and_a_torn_line_is_told() {
    let dir = Dir::new("torn");
    let path = dir.file("feed.jsonl");
    let recorder = Recording::new().flush_after(Duration::from_millis(1)).create(&path).unwrap();
    let mut life = Life::new(recorder.clone());
    life.subscribe(50, 20);
    // Not finished: as it is while it goes on, or after a crash.
    let start = Instant::now();
    while topics(&path).len() < 50 {
        assert!(start.elapsed() < Duration::from_secs(20), "it is flushed soon");
        std::thread::yield_now();
    }
    let whole = fs::read(&path).unwrap();
    assert!(whole.ends_with(b"\n"));
    assert!(!Metadata::of(&path).unwrap().complete);
    recorder.finish();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for cut in last..whole.len() {
        let path = dir.file("cut.jsonl");
        fs::write(&path, &whole[..cut]).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let count = reader.by_ref().map(Result::unwrap).count();
        // All but the line's end is a whole line.
        let torn = (cut > last && cut < whole.len() - 1).then_some(cut - last);
        assert_eq!(reader.torn().map(|torn| torn.bytes), torn, "at {cut}");
        assert_eq!(count, 50 + usize::from(cut == whole.len() - 1), "at {cut}");
    }
}

#[test]
fn a_line_that_is_none_is_named() {
    let dir = Dir::new("wrong");
    let path = dir.file("feed.jsonl");
    for (text, line, what) in [
        ("hello\n", 1, "expected value"),
        ("{\"ts\":\"yesterday\",\"dir\":\"in\",\"type\":\"text\",\"data\":\"\"}\n", 1, "ISO 8601"),
        ("\n\n{\"kind\":\"no such\",\"ts\":\"\"}\n", 3, "unknown variant"),
    ] {
        fs::write(&path, text).unwrap();
        let Err(ReadError::Line { line: at, error, .. }) = Reader::open(&path) else { panic!("{text}") };
        assert_eq!(at, line, "{text}");
        assert!(error.contains(what), "{error}");
    }
    fs::write(&path, "").unwrap();
    assert_eq!(Reader::open(&path).unwrap().count(), 0);
    let Err(ReadError::Io { .. }) = Reader::open(dir.file("none")) else { panic!() };
}

#[test]
fn what_does_not_fit_is_dropped_and_counted_where_it_is_missing() {
    let dir = Dir::new("memory");
    let path = dir.file("feed.jsonl");
    // A rule that holds the writer up until it may go on.
    let gate = Arc::new(std::sync::Mutex::new(()));
    let held = gate.lock().unwrap();
    let rule = {
        let gate = gate.clone();
        Redaction::new().text(move |_| {
            drop(gate.lock().unwrap());
            None
        })
    };
    let recorder = Recording::new().memory(64 << 10).redaction(rule).create(&path).unwrap();
    let mut life = Life::new(recorder.clone());
    life.subscribe(1000, 500);
    let dropped = recorder.status().dropped;
    assert!((600..1000).contains(&dropped), "memory is bounded: {dropped}");
    drop(held);
    let start = Instant::now();
    while recorder.status().lines < 1000 - dropped {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    life.subscribe(1, 0);
    let status = recorder.finish();
    assert_eq!(status.dropped, dropped, "there is room again");
    let lines: Vec<Body> = Reader::open(&path).unwrap().map(|line| line.unwrap().what).collect();
    // What the writer had taken before it was held up made room for a few.
    let hole = lines.iter().rposition(|line| matches!(line, Body::Dropped { .. })).unwrap();
    assert!(matches!(lines[hole + 1], Body::Subscribe { .. }));
    assert_eq!(lines[hole + 2], Body::End);
    assert_eq!(Metadata::of(&path).unwrap().dropped, dropped);
}

#[test]
fn a_recorder_is_of_one_session() {
    let dir = Dir::new("foreign");
    let path = dir.file("feed.jsonl");
    let recorder = Recording::new().create(&path).unwrap();
    let (mut one, mut two) = (Life::new(recorder.clone()), Life::new(recorder.clone()));
    one.subscribe(2, 0);
    two.subscribe(3, 0);
    let status = recorder.finish();
    assert_eq!(status.foreign, 4, "a start and three calls");
    assert_eq!(topics(&path), numbers(2));
    one.subscribe(1, 0);
    assert_eq!(topics(&path), numbers(2), "it is finished");
}

#[test]
fn refusals_are_recorded_and_bytes_are_base64() {
    let dir = Dir::new("bytes");
    let path = dir.file("feed.jsonl");
    let recorder = Recording::new().create(&path).unwrap();
    let mut life = Life::new(recorder.clone());
    let sent = life.session.send(Message::Binary(&[0, 1, 255]), SendOptions::default(), life.now);
    assert!(sent.is_err());
    drop(life);
    recorder.finish();
    let lines: Vec<Body> = Reader::open(&path).unwrap().map(|line| line.unwrap().what).collect();
    let Body::Send { payload, .. } = &lines[1] else { panic!("{lines:?}") };
    assert_eq!((payload.as_str(), payload.bytes()), ("AAH/", Some(vec![0, 1, 255])));
    assert_eq!(lines[2], Body::Refused { why: "not online: wait for Event::Online".to_owned() });
}

#[test]
fn the_form_of_zen_websocket_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/records/zen.jsonl");
    let metadata = Metadata::of(path).unwrap();
    assert_eq!((metadata.count, metadata.inbound.count, metadata.outbound.count), (3, 2, 1));
    assert_eq!((metadata.inbound.bytes, metadata.inbound.min, metadata.inbound.max), (96, 3, 93));
    assert_eq!((metadata.controls, metadata.duration), (1, Duration::from_millis(2500)));
    assert_eq!(metadata.first.as_deref(), Some("2024-01-02T03:04:05.000000Z"));
    assert_eq!(metadata.last.as_deref(), Some("2024-01-02T03:04:07.500000Z"));
    assert_eq!(metadata.topics.into_iter().collect::<Vec<_>>(), [("ticker.BTC".to_owned(), 1)]);
    assert!(!metadata.complete);
    let frames: Vec<_> = Reader::open(path)
        .unwrap()
        .map(|line| match line.unwrap().what {
            Body::Frame(frame) => frame.bytes().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((&frames[2][..], &frames[3][..]), (&[0, 1, 255][..], &b"\x03\xe8bye"[..]));
}

#[cfg(feature = "zstd")]
#[test]
fn compressed_records_are_read_whole_and_cut() {
    let dir = Dir::new("zstd");
    let path = dir.file("feed.jsonl.zst");
    let recorder = Recording::new()
        .zstd(3)
        .flush_after(Duration::from_millis(1))
        .rotate_size(100_000)
        .create(&path)
        .unwrap();
    let mut life = Life::new(recorder.clone());
    life.subscribe(100, 100);
    let start = Instant::now();
    while topics(&path).len() < 100 {
        assert!(start.elapsed() < Duration::from_secs(20), "what was flushed can be read");
        std::thread::yield_now();
    }
    let early = fs::metadata(&path).unwrap().len();
    for n in 100..1000 {
        let topic = format!("{n:06}{}", "x".repeat(100));
        life.session.subscribe(topic, SubscribeOptions::default(), life.now);
    }
    let status = recorder.finish();
    assert!(status.parts > 1);
    assert_eq!(topics(&path), numbers(1000));
    let size = fs::metadata(&path).unwrap().len();
    assert!(size < 50_000, "{size}");
    let cut = dir.file("cut.zst");
    fs::write(&cut, &fs::read(&path).unwrap()[..early as usize + 1]).unwrap();
    let some = topics(&cut);
    assert!((100..1000).contains(&some.len()), "{}", some.len());
    assert_eq!(some, numbers(some.len()));
}

/// What a record must not have in it, wherever it was.
#[test]
fn secrets_are_hidden_by_rule() {
    let rules = Redaction::new();
    for (text, hidden) in [
        (r#"{"access_token": "s3cret", "expires_in": 900}"#, r#"{"access_token": "***", "expires_in": 900}"#),
        (
            r#"{"method":"public/auth","params":{"client_id":"s3cret","client_secret":"s3cret\"x"}}"#,
            r#"{"method":"public/auth","params":{"client_id":"***","client_secret":"***"}}"#,
        ),
        (
            r#"{"op":"auth","args":["s3cret",1662350400000,"s3cret"]}"#,
            r#"{"op":"auth","args":["***","***","***"]}"#,
        ),
        (
            r#"{"args":[{"passphrase":"s3cret","sign":"s3cret","timestamp":"1"}],"op":"login"}"#,
            r#"{"args":[{"passphrase":"***","sign":"***","timestamp":"***"}],"op":"login"}"#,
        ),
        (r#"[{"a":[{"JWT":"s3cret"}]}]"#, r#"[{"a":[{"JWT":"***"}]}]"#),
        (r#"{"listenKey":"s3cret","n":1}"#, r#"{"listenKey":"***","n":1}"#),
        (r#"{"secret":{"a":"s3cret","b":[1,"s3cret",null]},"c":"d"}"#, r#"{"secret":{"***":"***"#),
        (r#"{"api-key":-12.5e3,"token":null}"#, r#"{"api-key":"***","token":null}"#),
        ("not JSON with a token", "not JSON with a token"),
        (r#"{"token":"s3cret"#, r#"{"token":"***"#),
    ] {
        let shown = rules.apply_text(text);
        assert!(!shown.contains("s3cret"), "{shown}");
        if !hidden.starts_with(r#"{"secret"#) {
            assert_eq!(shown, hidden);
            assert_eq!(rules.apply_text(&shown), shown, "twice is once");
        }
    }
    assert_eq!(
        rules.apply_text(r#"{"secret":{"a":"s3cret","b":[1,"s3cret",null]},"c":"d"}"#),
        r#"{"secret":{"a":"***","b":["***","***",null]},"c":"d"}"#
    );
    assert_eq!(Redaction::new().show_key("token").apply_text(r#"{"token":"SOL"}"#), r#"{"token":"SOL"}"#);
    assert_eq!(Redaction::off().apply_text(r#"{"token":"x"}"#), r#"{"token":"x"}"#);
}

/// Takes what is told, and nothing else.
#[derive(Debug, Default)]
struct Seen(std::sync::Mutex<Vec<String>>);

impl Recorder for Seen {
    fn record(&self, entry: &Entry<'_>) {
        if let What::Observed(Observed::State { to, .. }) = entry.what {
            self.0.lock().unwrap().push(format!("{to:?}"));
        }
    }
}

#[test]
fn a_recorder_of_ones_own() {
    let seen = Arc::new(Seen::default());
    let config = Config::new("ws://192.0.2.1/").unwrap().recorder(seen.clone());
    let clock = Clock { instant: Instant::now(), system: SystemTime::now() };
    let mut session = Session::new(config, clock, [1; 32]).unwrap();
    let _connect = session.poll_output(clock.instant);
    session.abort(clock.instant);
    let _closed = session.poll_output(clock.instant);
    assert_eq!(*seen.0.lock().unwrap(), ["Connecting", "Closed"]);
}
