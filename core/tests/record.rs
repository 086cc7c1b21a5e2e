//! What a recorder is told, and that nothing changes by telling it.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::record::{Entry, FrameKind, Input, Observed, Recorder, What};
use everwire_core::{
    CloseCode, Config, JsonRpc, Message, Request, RequestOptions, SendOptions, SubscribeOptions,
};
use std::sync::{Arc, Mutex};

/// Entries in a few words.
#[derive(Debug, Default)]
struct Words(Mutex<Vec<String>>);

impl Recorder for Words {
    fn record(&self, entry: &Entry<'_>) {
        let word = match entry.what {
            What::Start { seed, .. } => format!("start {}", seed[0]),
            What::Input(input) => match input {
                Input::Connected { .. } => "connected".to_owned(),
                Input::Received { len, .. } => format!("received {len}"),
                Input::Transmitted { left, .. } => format!("transmitted, {} left", left.plain),
                Input::Taken { leased } => format!("taken {leased}"),
                Input::Send { message, .. } => format!("send {:?}", message.as_text()),
                Input::Close { options } => format!("close {}", options.reason),
                Input::Disconnected { cause, .. } => format!("disconnected {cause:?}"),
                other => format!("{other:?}"),
            },
            What::Observed(observed) => match observed {
                Observed::State { to, .. } => format!("- {to:?}"),
                Observed::Inbound { frame, .. } => format!("- in {:?} {}", frame.kind, text(frame.payload)),
                Observed::Outbound { frame, .. } if frame.kind == FrameKind::Close => {
                    "- out close".to_owned()
                }
                Observed::Outbound { frame, .. } => format!("- out {:?} {}", frame.kind, text(frame.payload)),
                Observed::HandshakeRequest { bytes, .. } => format!("- request {}", bytes.len() > 100),
                Observed::HandshakeResponse { bytes, .. } => format!("- response {}", bytes.len() > 100),
                Observed::Output(output) => {
                    format!("- {}", format!("{output:?}").split('(').next().unwrap())
                }
                Observed::Timer { which, .. } => format!("- timer {which}"),
                Observed::Event(event) => {
                    format!("- event {}", format!("{event:?}").split([' ', '{', '(']).next().unwrap())
                }
                other => format!("- {other:?}"),
            },
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(format!("{} {word}", entry.at.as_millis()));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn everything_is_told_in_its_order() {
    let words = Arc::new(Words::default());
    let mut h = Harness::new(config().recorder(words.clone()));
    h.run();
    h.advance(millis(5));
    h.open(0);
    let take = || std::mem::take(&mut *words.0.lock().unwrap());
    assert_eq!(
        take()[..7],
        [
            "0 start 7",
            "0 - timer retry",
            "0 - Connecting",
            "0 - Connect",
            "0 - Wait",
            "5 connected",
            "5 - request true"
        ]
    );
    h.advance(millis(1));
    h.feed(0, &[frame(FIN | TEXT, b"hello"), frame(FIN | PING, b"?")].concat());
    h.s.send(Message::Text("answer"), SendOptions::default(), h.now).unwrap();
    h.flush(0);
    let told = take();
    let of = |word: &str| told.iter().filter(|told| told.contains(word)).count();
    assert_eq!(
        (of("6 - in Text hello"), of("6 - event Message"), of("6 taken false")),
        (1, 1, 1),
        "{told:?}"
    );
    assert_eq!((of("- in Ping ?"), of("- out Pong ?")), (1, 1), "{told:?}");
    assert_eq!((of("6 send Some(\"answer\")"), of("6 - out Text answer")), (1, 1), "{told:?}");
    h.s.close(CloseCode::Normal, "bye", h.now);
    h.run();
    h.eof(0);
    let told = take();
    for word in ["6 close bye", "- Closing", "- out close", "disconnected Eof", "- Closed", "- event Closed"]
    {
        assert_eq!(
            told.iter().filter(|told| told.ends_with(word) || *told == word).count().min(1),
            1,
            "{word}: {told:?}"
        );
    }
    assert!(told.last().unwrap().ends_with("- Closed"), "the last thing that a session says: {told:?}");
}

/// A life with messages, requests, losses and pings: all events and all bytes.
fn life(config: Config) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut h = Harness::seeded(config.ping_interval(secs(3)).fragment_size(1024), [1; 32]);
    for n in 0..5 {
        h.s.subscribe(format!("topic-{n}"), SubscribeOptions::default(), h.now);
    }
    h.run();
    for conn in 0..3 {
        h.open(conn);
        for n in 0..20 {
            let text = format!("message {n}");
            h.feed(conn, &[frame(FIN | TEXT, text.as_bytes()), frame(FIN | BINARY, &[n])].concat());
            let _offline =
                h.s.send(Message::Text(&"x".repeat(300 * usize::from(n))), SendOptions::default(), h.now);
            let _unsupported = h.s.request(Request::new("m"), RequestOptions::default(), h.now);
            h.advance(millis(400));
            h.flush(conn);
        }
        h.eof(conn);
        h.next_conn();
    }
    let events = h.events.iter().map(|event| format!("{event:?}")).collect();
    (events, h.conns.into_iter().map(|conn| conn.written).collect())
}

#[test]
fn a_session_does_the_same_whether_it_is_recorded_or_not() {
    for rpc in [false, true] {
        let config = || if rpc { config().protocol(JsonRpc::new()) } else { config() };
        let words = Arc::new(Words::default());
        let (events, bytes) = life(config());
        assert!(events.len() > 20, "{}", events.len());
        assert_eq!(life(config().recorder(words.clone())), (events, bytes), "rpc: {rpc}");
        assert!(words.0.lock().unwrap().len() > 300);
    }
}

#[test]
fn a_digest_is_of_what_was_configured_and_not_of_secrets() {
    let digest = |url: &str| Config::new(url).unwrap().digest();
    assert_eq!(digest("ws://h/?token=a"), digest("ws://h/?token=b"));
    assert_ne!(digest("ws://h/a"), digest("ws://h/b"));
    assert_ne!(config().digest(), config().protocol(JsonRpc::new()).digest());
    assert_ne!(config().digest(), config().pong_timeout(secs(9)).digest());
    let recorded = config().recorder(Arc::new(Words::default()));
    assert_eq!(config().digest(), recorded.digest());
    assert!(format!("{recorded:?}").contains("recording: Recording"));
}
