//! A venue by itself: what is said to it, and what it says.

use super::super::model::{Model, Terms};
use super::*;
use std::net::{IpAddr, Ipv4Addr};

const SECOND: Duration = Duration::from_secs(1);
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// A venue with one connection that is a WebSocket.
struct Room {
    venue: Venue,
    witness: Witness,
    now: Duration,
}

impl Room {
    fn new(make: impl FnOnce(Venue) -> Venue) -> Self {
        let witness = Witness::new(Model::new(Terms::default()).keep(10_000));
        let venue = make(Venue::new(1, witness.clone()));
        Self { venue, witness, now: Duration::ZERO }
    }

    fn open(make: impl FnOnce(Venue) -> Venue) -> Self {
        let mut room = Self::new(make);
        let answer = room.connect(1);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        room
    }

    fn connect(&mut self, conn: u64) -> String {
        assert_eq!(self.venue.accept(conn, HERE, self.now), Accept::Open);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        self.venue.received(conn, request.as_bytes(), self.now);
        self.said()
    }

    /// What the venue does, as text; frame headers are left as they are.
    fn said(&mut self) -> String {
        let mut all = String::new();
        while let Some((_, action)) = self.venue.output() {
            match action {
                Action::Send(bytes) => all.push_str(&String::from_utf8_lossy(&bytes)),
                other => all.push_str(&format!("<{other:?}>")),
            }
        }
        all
    }

    fn frame(&mut self, first: u8, payload: &[u8]) -> String {
        let mut bytes = vec![first];
        match u8::try_from(payload.len()) {
            Ok(len @ 0..126) => bytes.push(0x80 | len),
            _ => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.venue.received(1, &bytes, self.now);
        self.said()
    }

    fn call(&mut self, id: u64, method: &str, params: &str) -> String {
        self.frame(
            0x81,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#).as_bytes(),
        )
    }

    fn wait(&mut self, time: Duration) -> String {
        let end = self.now + time;
        while let Some(due) = self.venue.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.venue.run(self.now);
        }
        self.now = end;
        self.said()
    }

    fn saw(&self, what: &Saw) -> usize {
        self.witness.with(|model| {
            let same = |(_, fact): &&(Duration, Fact)| matches!(fact, Fact::Venue(1, saw) if saw == what);
            model.recent().filter(same).count()
        })
    }
}

const A: &str = r#"{"channels":["a"]}"#;
const AB: &str = r#"{"channels":["a","b"]}"#;

#[test]
fn methods() {
    let mut room = Room::open(|venue| venue);
    assert!(room.call(1, "echo", "[1,{}]").contains(r#""id":1,"result":[1,{}]}"#));
    assert!(room.call(2, "add", "[1,2,3]").contains(r#""id":2,"result":6}"#));
    assert!(room.call(3, "fail", "[]").contains(r#""id":3,"error":{"code":7"#));
    assert_eq!(room.call(4, "never", "[]"), "");
    assert_eq!(room.frame(0x81, b"hello"), "");
    assert_eq!(room.saw(&Saw::Message { text: "hello".to_owned() }), 1);
    assert!(room.frame(0x89, b"?").ends_with('?'), "a pong");
    assert_eq!(room.saw(&Saw::Ping { answered: true }), 1);
    let batch = br#"[{"jsonrpc":"2.0","id":8,"method":"add","params":[1]},{"jsonrpc":"2.0","id":9,"method":"add","params":[2]}]"#;
    let said = room.frame(0x81, batch);
    assert!(
        said.ends_with(r#"[{"jsonrpc":"2.0","id":9,"result":2},{"jsonrpc":"2.0","id":8,"result":1}]"#),
        "{said}"
    );
    assert!(room.frame(0x88, &1000u16.to_be_bytes()).ends_with("<Fin>"));
}

#[test]
fn data_are_numbered_whether_anybody_listens() {
    let mut room = Room::open(|venue| venue);
    room.wait(SECOND / 2);
    assert!(room.call(1, "subscribe", A).contains(r#""result":["a"]"#));
    let said = room.wait(SECOND * 2);
    assert!(
        said.contains(r#""channel":"a","data":{"seq":1,"t":1000,"conn":1"#) && said.contains(r#""seq":2,"#),
        "{said}"
    );
    assert!(room.call(2, "unsubscribe", A).contains(r#""result":["a"]"#));
    assert!(!room.wait(SECOND * 3).contains("seq"));
    room.call(3, "subscribe", A);
    assert!(room.wait(SECOND).contains(r#""seq":6,"#));
    assert_eq!(room.venue.in_force(1).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn authentication() {
    let mut room = Room::open(|venue| venue.auth("login", "s3"));
    assert!(room.call(1, "login", r#"{"token":"s3"}"#).contains("expires_in"));
    assert!(room.call(2, "echo", "[]").contains("result"));
    let mut room = Room::open(|venue| venue.auth("login", "s3"));
    let said = room.call(1, "subscribe", A);
    assert!(said.contains("unauthorized") && said.contains("authenticate first"), "{said}");
    let mut room = Room::open(|venue| venue.auth("login", "s3"));
    assert!(room.call(1, "login", "[]").contains("bad credentials"));
    assert_eq!(room.saw(&Saw::Closing { code: 4001, blame: Blame::Authentication }), 1);
}

#[test]
fn rolling_limit() {
    let mut room = Room::open(|venue| venue.limit(5, SECOND, true));
    for _ in 0..4 {
        assert!(!room.frame(0x81, b"x").contains("too many"));
        room.wait(SECOND / 10);
    }
    assert!(!room.frame(0x89, b"").contains("too many"));
    room.wait(SECOND * 6 / 10);
    // The first is one second old by now, and the others are not.
    assert!(!room.frame(0x81, b"x").contains("too many"));
    assert!(room.frame(0x8a, b"").contains("too many"));
    assert_eq!(room.saw(&Saw::Closing { code: 1008, blame: Blame::Limit }), 1);
    let mut room = Room::open(|venue| venue.limit(1, SECOND, false));
    assert!(!(0..9).any(|_| room.frame(0x89, b"").contains("too many")), "pings are free");
}

#[test]
fn credits() {
    let mut room = Room::open(|venue| venue.credits(3, SECOND * 3));
    assert!((1..=3).all(|id| room.call(id, "echo", "[]").contains("result")));
    room.wait(SECOND);
    assert!(room.call(4, "echo", "[]").contains("result"));
    let said = room.call(5, "echo", "[]");
    assert!(said.contains("10028") && said.contains("no credits"), "{said}");
}

#[test]
fn subscriptions_that_go_wrong() {
    let always = 1000;
    let mut room = Room::open(|venue| venue.dataless_acks(always));
    assert!(room.call(1, "subscribe", A).contains(r#"["a"]"#));
    assert!(!room.wait(SECOND * 5).contains("seq"));
    let mut room = Room::open(|venue| venue.partial(always));
    assert!(room.call(1, "subscribe", AB).contains("bad_channel"));
    assert!(room.call(2, "subscribe", A).contains(r#"["a"]"#));
    let mut room = Room::open(|venue| venue.refuses_batches(always));
    assert!(room.call(1, "subscribe", AB).contains("bad_channel"));
    let mut room = Room::open(|venue| venue.rejects("a", Some(SECOND)).rejects("b", None));
    assert!(room.call(1, "subscribe", AB).contains("bad_channel"));
    room.wait(SECOND);
    assert!(room.call(2, "subscribe", AB).contains(r#""result":["a"]"#));
    assert!(room.call(3, "subscribe", r#"{"channels":["nosuch.x"]}"#).contains("bad_channel"));
    let mut room = Room::open(|venue| venue.lost_acks(always));
    assert_eq!(room.call(1, "subscribe", A), "");
    assert!(room.wait(SECOND * 2).contains("seq"));
    let mut room = Room::open(|venue| venue.late_acks(always, SECOND / 2));
    assert_eq!(room.call(1, "subscribe", A), "");
    assert_eq!(room.saw(&Saw::Acked { topic: "a".to_owned(), asked: Duration::ZERO }), 0);
    assert!(room.wait(SECOND / 2).contains(r#"["a"]"#));
    assert_eq!(room.saw(&Saw::Acked { topic: "a".to_owned(), asked: Duration::ZERO }), 1);
}

#[test]
fn streams_that_go_wrong() {
    let run = |make: fn(Venue) -> Venue| {
        let mut room = Room::open(make);
        room.call(1, "subscribe", A);
        room.wait(SECOND * 20)
    };
    assert!(!run(|venue| venue.skips(1000)).contains("seq"));
    assert!(!run(Venue::quiet).contains("seq"));
    assert_eq!(run(|venue| venue.duplicates(1000)).matches("\"seq\":7,").count(), 2);
    assert_eq!(run(|venue| venue.silences(1000)).matches("seq").count(), 1);
    assert_eq!(run(|venue| venue.forgets(1000)).matches("seq").count(), 1);
    assert_eq!(run(|venue| venue.skips(1000).calm_after(SECOND * 10)).matches("seq").count(), 11);
    assert!(run(|venue| venue.notices(SECOND)).contains("all is well"));
    assert!(run(|venue| venue.asks(SECOND)).contains("question"));
    assert!(run(|venue| venue.padding(9000)).len() > 20_000);
    let said = run(|venue| venue.closes(SECOND, &[1012]));
    assert!(said.contains("that is all") && said.ends_with("<Fin>"), "{said}");
    assert!(run(|venue| venue.drops(SECOND)).contains("<"));
    assert!(run(|venue| venue.freezes(SECOND * 4)).matches("seq").count() < 7);
    assert!(run(|venue| venue.restarts(SECOND * 4, SECOND)).contains("<Reset>"));
}

#[test]
fn heartbeats_must_be_answered() {
    let mut room = Room::open(|venue| venue.heartbeats(SECOND * 5, SECOND));
    assert!(room.wait(SECOND * 5).contains("test_request"));
    assert!(room.call(1, "test", "{}").contains("ok"));
    assert!(!room.wait(SECOND * 5).contains("no heartbeat"));
    assert!(room.wait(SECOND).contains("no heartbeat"));
    assert_eq!(room.saw(&Saw::Closing { code: 4001, blame: Blame::Heartbeat }), 1);
}

#[test]
fn handshakes_that_go_wrong() {
    let mut room = Room::new(|venue| venue.refuses(1000, &[(429, Some(7))]));
    let answer = room.connect(1);
    assert!(
        answer.contains(" 429 ") && answer.contains("Retry-After: 7") && answer.ends_with("<Fin>"),
        "{answer}"
    );
    let mut room = Room::new(|venue| venue.misleads(1000));
    let answers: Vec<String> = (1..30).map(|conn| room.connect(conn)).collect();
    for one in ["101", "<Reset>", ""] {
        assert!(answers.iter().any(|answer| if one.is_empty() {
            answer.is_empty()
        } else {
            answer.contains(one)
        }));
    }
    assert!(!answers.iter().any(|answer| answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    let mut room = Room::new(Venue::greets);
    assert!(room.connect(1).contains("hello"));
    let mut room = Room::new(|venue| venue.restarts(SECOND * 2, SECOND * 1000));
    room.wait(SECOND * 3);
    assert_eq!(room.venue.accept(1, HERE, room.now), Accept::Refuse);
}
