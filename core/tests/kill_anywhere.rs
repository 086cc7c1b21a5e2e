//! A connection may be cut after any byte of either side: whatever was lost with it is told exactly, and the next one starts clean.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::{
    Config, Disconnect, Error, JsonRpc, Message, OwnedEvent, OwnedOutcome, Request, RequestId,
    RequestOptions, SendOptions, SubscribeOptions, Unanswered,
};
use std::collections::BTreeSet;

const TOPICS: [&str; 3] = ["a", "b", "c"];
/// The data frames that hold what the user sends, in the order of the wire, after two subscribe calls.
const ONE: [usize; 2] = [2, 3];
const ASKED: usize = 4;
const LONG: (usize, usize) = (5, 7);
const UNANSWERED: usize = 8;

/// The server's side: answers what it reads, byte for byte the same each time.
#[derive(Default)]
struct Peer {
    read: usize,
    out: Vec<u8>,
    /// Where, in `out`, what the user is to see ends, and the text.
    messages: Vec<(usize, String)>,
    head: usize,
    answer: Option<usize>,
    topics: Vec<String>,
}

impl Peer {
    fn serve(&mut self, written: &[u8]) {
        let body = after_head(written);
        if self.head == 0 && (!body.is_empty() || written.ends_with(b"\r\n\r\n")) {
            assert!(written.starts_with(b"GET /feed HTTP/1.1\r\n"), "it begins with a handshake");
            assert_eq!(written.windows(4).filter(|window| window == b"GET ").count(), 1);
            self.out = accept(written, "");
            self.head = self.out.len();
        }
        let (frames, _) = frames(body);
        for (first, payload) in &frames[self.read.min(frames.len())..] {
            self.read += 1;
            if *first != FIN | TEXT {
                continue;
            }
            let call: serde_json::Value = serde_json::from_slice(payload).expect("all texts are JSON");
            match call["method"].as_str() {
                Some("subscribe") => {
                    let channels = call["params"]["channels"].as_array().unwrap();
                    self.topics.extend(channels.iter().map(|channel| channel.as_str().unwrap().to_owned()));
                    self.out.extend(result(
                        call["id"].as_u64().unwrap(),
                        &call["params"]["channels"].to_string(),
                    ));
                    if self.topics.len() == TOPICS.len() {
                        self.publish();
                    }
                }
                Some("ask") => {
                    self.out.extend(result(call["id"].as_u64().unwrap(), "\"answer\""));
                    self.answer = Some(self.out.len());
                }
                Some("silence") | None => {}
                Some(other) => panic!("{other}"),
            }
        }
    }

    fn publish(&mut self) {
        for (n, topic) in TOPICS.iter().enumerate() {
            let bytes = notification(topic, n as u32);
            self.say(&bytes, &String::from_utf8_lossy(&bytes[2..]));
        }
        self.say(
            &[frame(TEXT, b"in "), frame(FIN | PING, b"x"), frame(FIN | CONT, b"parts")].concat(),
            "in parts",
        );
    }

    fn say(&mut self, bytes: &[u8], text: &str) {
        self.out.extend_from_slice(bytes);
        self.messages.push((self.out.len(), text.to_owned()));
    }
}

/// Where the connection is cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Server(usize),
    Client(usize),
    Never,
}

struct Play {
    h: Harness,
    asked: Vec<RequestId>,
    long: String,
}

impl Play {
    fn new() -> Self {
        let config: Config = config().protocol(JsonRpc::new().topics_per_message(2)).fragment_size(1024);
        let mut h = Harness::new(config);
        for topic in TOPICS {
            h.s.subscribe(topic, SubscribeOptions::default(), h.now);
        }
        h.run();
        Self { h, asked: vec![], long: format!("\"{}\"", "l".repeat(2500)) }
    }

    /// Talks over a connection until nobody has anything to say, or it is to be cut. The peer, and how much of what it said arrived.
    fn talk(&mut self, conn: usize, cut: Cut, sends: bool) -> (Peer, usize) {
        let (most_out, most_in) = match cut {
            Cut::Server(bytes) => (usize::MAX, bytes),
            Cut::Client(bytes) => (bytes, usize::MAX),
            Cut::Never => (usize::MAX, usize::MAX),
        };
        let h = &mut self.h;
        let (mut peer, mut fed, mut sent) = (Peer::default(), 0, 0);
        h.s.handle_connected(h.conns[conn].id, h.now);
        h.run();
        loop {
            let (sent_before, fed_before) = (sent, fed);
            sent += h.flush_up_to(conn, most_out - sent);
            peer.serve(&h.conns[conn].written);
            let end = peer.out.len().min(most_in);
            let bytes = peer.out[fed..end].to_vec();
            assert_eq!(h.feed_silently(conn, &bytes), bytes.len());
            fed = end;
            let online = h.events.iter().any(|event| matches!(event, OwnedEvent::Online { .. }));
            if sends && online && self.asked.is_empty() {
                for text in ["1", "2"] {
                    h.s.send(Message::Text(text), SendOptions::default(), h.now).unwrap();
                }
                let ask = |h: &mut Harness, method| {
                    h.s.request(Request::new(method), RequestOptions::default(), h.now)
                };
                self.asked.push(ask(h, "ask").unwrap());
                h.s.send(Message::Text(&self.long), SendOptions::default(), h.now).unwrap();
                self.asked.push(ask(h, "silence").unwrap());
            } else if (sent, fed) == (sent_before, fed_before) || sent == most_out || fed == most_in {
                return (peer, fed);
            }
        }
    }
}

fn messages(events: &[OwnedEvent]) -> Vec<String> {
    let texts = events.iter().filter_map(|event| match event {
        OwnedEvent::Message { message, .. } => Some(message.to_text().unwrap().to_owned()),
        _ => None,
    });
    texts.collect()
}

fn subscribed(events: &[OwnedEvent]) -> BTreeSet<String> {
    let topics = events.iter().filter_map(|event| match event {
        OwnedEvent::Subscribed { topic, .. } => Some(topic.clone()),
        _ => None,
    });
    topics.collect()
}

fn outcomes(events: &[OwnedEvent], asked: RequestId) -> Vec<OwnedOutcome> {
    let outcomes = events.iter().filter_map(|event| match event {
        OwnedEvent::Response { id, outcome } if *id == asked => Some(outcome.clone()),
        _ => None,
    });
    outcomes.collect()
}

fn kill(cut: Cut) {
    let mut play = Play::new();
    let (peer, fed) = play.talk(0, cut, true);
    let cause = match cut {
        Cut::Client(_) => Disconnect::Io { kind: std::io::ErrorKind::BrokenPipe, message: "broken".into() },
        _ => Disconnect::Eof,
    };
    play.h.s.handle_disconnected(play.h.conns[0].id, cause.clone(), play.h.now);
    play.h.run();
    assert!(!play.h.conns[0].dropped, "it is gone already");
    assert!(play.h.s.transmit(play.h.conns[0].id).is_empty());

    // What the peer got is all that counts.
    let old = play.h.told();
    let body = after_head(&play.h.conns[0].written);
    let (mut whole, rest) = frames(body);
    whole.retain(|(first, _)| first & 0x8 == 0);
    let cut_data = body[body.len() - rest..].first().is_some_and(|first| first & 0x8 == 0);
    let begun = whole.len() + usize::from(cut_data);
    let connected = peer.head > 0 && fed >= peer.head;
    let losses: Vec<_> = old.iter().filter(|event| matches!(event, OwnedEvent::Lost { .. })).collect();
    let failures = old.iter().filter(|event| matches!(event, OwnedEvent::AttemptFailed { .. })).count();
    assert_eq!((losses.len(), failures), if connected { (1, 0) } else { (0, 1) }, "{old:?}");
    if let [OwnedEvent::Lost { epoch, error, retry_at, unsent }] = &*losses {
        assert_eq!((epoch.as_u64(), error), (1, &Error::Disconnected(cause)));
        assert!(retry_at.is_some());
        let (mut not_sent, mut cut) = (vec![], None);
        for (id, first, last) in [(1, ONE[0], ONE[0]), (2, ONE[1], ONE[1]), (3, LONG.0, LONG.1)] {
            if !play.asked.is_empty() && first >= begun {
                not_sent.push(id);
            } else if !play.asked.is_empty() && last >= whole.len() {
                cut = Some(id);
            }
        }
        let told: Vec<u64> = (unsent.not_sent.start.as_u64()..unsent.not_sent.end.as_u64()).collect();
        assert_eq!(
            (told, unsent.cut.map(|id| id.as_u64())),
            (not_sent, cut),
            "{begun} frames begun, {} whole",
            whole.len()
        );
    }
    let arrived: Vec<String> =
        peer.messages.iter().filter(|(end, _)| *end <= fed).map(|(_, text)| text.clone()).collect();
    assert_eq!(messages(&old), arrived, "what arrived whole is told, once");
    for (n, &asked) in play.asked.iter().enumerate() {
        let frame = [ASKED, UNANSWERED][n];
        let answered = n == 0 && peer.answer.is_some_and(|end| end <= fed);
        let want = match (answered, frame >= begun) {
            (true, _) => OwnedOutcome::Answered(Ok("\"answer\"".into())),
            (false, true) => OwnedOutcome::NotSent(Unanswered::ConnectionLost),
            (false, false) => OwnedOutcome::SentUnknown(Unanswered::ConnectionLost),
        };
        assert_eq!(outcomes(&old, asked), [want]);
    }

    // The next connection.
    let next = play.h.next_conn();
    let (peer, fed) = play.talk(next, Cut::Never, false);
    assert_eq!(fed, peer.out.len());
    assert_eq!(peer.topics, TOPICS, "each topic once, in order");
    let frames = play.h.frames(next);
    let kinds: Vec<u8> = frames.iter().map(|(first, _)| *first).collect();
    assert_eq!(kinds, [FIN | TEXT, FIN | TEXT, FIN | PONG], "nothing of the old connection: {frames:?}");
    let new = play.h.told();
    let resumed: Vec<bool> = new
        .iter()
        .filter_map(|event| match event {
            OwnedEvent::Online { resumed, .. } => Some(*resumed),
            _ => None,
        })
        .collect();
    assert_eq!(resumed, [connected]);
    let gaps = new.iter().filter_map(|event| match event {
        OwnedEvent::Gap(gap) => Some(gap),
        _ => None,
    });
    let mut covered = BTreeSet::new();
    for gap in gaps {
        assert_eq!((gap.before.as_u64(), gap.after.as_u64()), (1, 2));
        assert!(!gap.topics.is_empty());
        for (_, topic) in &gap.topics {
            assert!(covered.insert(topic.clone()), "{topic} has two gaps");
        }
    }
    assert_eq!(covered, subscribed(&old), "gaps are of what had been in force");
    assert_eq!(subscribed(&new).len(), TOPICS.len());
    let all: Vec<String> = peer.messages.into_iter().map(|(_, text)| text).collect();
    assert_eq!(messages(&new), all);
    for &asked in &play.asked {
        assert!(outcomes(&new, asked).is_empty(), "settled once");
    }
}

#[test]
fn after_every_byte_of_the_server() {
    let len = Play::new().talk(0, Cut::Never, true).1;
    assert!(len > 500);
    for cut in 0..=len {
        kill(Cut::Server(cut));
    }
}

#[test]
fn after_every_byte_of_the_client() {
    let mut play = Play::new();
    play.talk(0, Cut::Never, true);
    let len = play.h.conns[0].written.len();
    assert!(len > 2900);
    for cut in 0..=len {
        kill(Cut::Client(cut));
    }
}
