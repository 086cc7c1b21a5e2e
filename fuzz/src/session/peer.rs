//! The server's end of one socket: what it reads. What it says is in `say`.

use super::gate::Gate;
use super::wire::{encode, frame};
use std::collections::VecDeque;

/// A server on one connection: what it has read, and what it wants to write.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Read and not parsed.
    pub(super) read: Vec<u8>,
    pub(super) gate: Gate,
    /// Written and not delivered.
    pub(super) wire: VecDeque<u8>,
    pub(super) upgraded: bool,
    /// It answered with something that is no upgrade.
    pub(super) refused: bool,
    /// It wrote what may be no frame, a close frame, or something that was dropped: no good server from here on.
    pub(super) spoilt: bool,
    /// The client's message that is not complete.
    partial: Option<Vec<u8>>,
    pub(super) client_closed: bool,
    pub(super) last_ping: Option<Vec<u8>>,
    /// Requests without an answer.
    pub(super) asked: VecDeque<Asked>,
    pub(super) last_asked: u64,
    /// Messages, pings and pongs that it has read: what limits count.
    pub(super) counted: usize,
    /// Outcomes of topics are told one by one.
    pub(super) per_topic: bool,
    /// It wants to be authenticated, and was: something was written that may be taken for its consent.
    pub(super) wants_authentication: bool,
    pub(super) authenticated: bool,
    /// It tells the outcome of an authentication without its id.
    pub(super) separate: bool,
    /// It speaks first, and has not yet.
    pub(super) owes_greeting: bool,
    /// The client said that it will leave.
    pub(super) farewell: bool,
    /// Numbers of the newest message of each topic.
    pub(super) numbers: [u64; 4],
    /// Its own requests so far.
    pub(super) requests: u64,
}

/// A request that the server read.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) method: String,
    pub(super) channels: Vec<String>,
}

/// What the server read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A message of the user, by the number that it bears.
    Message(u64),
    /// A request of the user, by the number that it bears.
    Request(u64),
    /// A request of the session's own.
    Own,
}

impl Peer {
    pub(super) fn new(per_topic: bool, wants_authentication: bool, owes_greeting: bool) -> Self {
        Self { per_topic, wants_authentication, owes_greeting, ..Self::default() }
    }

    /// Reads what the client wrote.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Read> {
        self.read.extend_from_slice(bytes);
        let mut complete = Vec::new();
        while self.upgraded {
            let Some((first, payload, size)) = frame(&self.read) else { break };
            self.read.drain(..size);
            self.frame(first, payload, &mut complete);
        }
        complete
    }

    fn frame(&mut self, first: u8, payload: Vec<u8>, complete: &mut Vec<Read>) {
        assert!(!self.client_closed, "a frame {first:#x} after the close frame");
        let compressed = first & 0x40 != 0;
        assert_eq!(first & 0x30, 0, "reserved bits");
        match first & 0x0f {
            0x8 => {
                assert!(payload.len() != 1 && payload.len() <= 125 && first & 0x80 != 0);
                self.client_closed = true;
            }
            0x9 => {
                assert!(payload.len() <= 125 && first & 0x80 != 0);
                self.last_ping = Some(payload);
                self.counted += 1;
            }
            0xa => {
                assert!(payload.len() <= 125 && first & 0x80 != 0);
                self.counted += 1;
            }
            opcode => {
                assert_eq!(opcode == 0, self.partial.is_some(), "fragments in disorder");
                let mut message = self.partial.take().unwrap_or_default();
                message.extend_from_slice(&payload);
                if first & 0x80 == 0 {
                    self.partial = Some(message);
                    return;
                }
                let before = self.farewell;
                if !compressed {
                    self.message(&String::from_utf8_lossy(&message), complete);
                }
                // That one is sent whatever it costs.
                self.counted += usize::from(before == self.farewell);
            }
        }
    }

    fn message(&mut self, message: &str, complete: &mut Vec<Read>) {
        assert!(!self.owes_greeting, "{message} was sent before the server's first word");
        let before = complete.len();
        let over = self.farewell;
        if let Some(rest) = message.strip_prefix('S') {
            complete.extend(number(rest).map(Read::Message));
        }
        for part in message.split(r#"{"jsonrpc":"2.0","id":"#).skip(1) {
            // An answer of the user.
            if let Some((_, answer)) = part.split_once(r#""result":"S"#) {
                complete.extend(number(answer).map(Read::Message));
                continue;
            }
            let Some(id) = number(part) else { continue };
            let method = between(part, r#""method":""#, "\"").unwrap_or_default().to_owned();
            let channels = between(part, r#""channels":["#, "]").map_or(Vec::new(), |list| {
                list.split(',').map(|name| name.trim_matches('"').to_owned()).collect()
            });
            let serial = between(part, "[\"r", " ").and_then(number);
            complete.push(serial.map_or(Read::Own, Read::Request));
            // What is written to it before it has let the client in is not for it to read.
            if self.wants_authentication && !self.authenticated && !method.starts_with("public/") {
                panic!("{method} was sent before the server let anybody in");
            }
            self.farewell |= method == "private/bye";
            self.asked.push_back(Asked { id, method, channels });
            self.last_asked = id;
        }
        let late = complete[before..].iter().any(|read| *read != Read::Own);
        assert!(!over || !late, "{message} was sent after the farewell");
    }

    /// Answers the HTTP request in one of many ways. The right one only once it is complete, as any server does.
    pub(super) fn answer_http(&mut self, how: u8) {
        if self.at_gate() && !self.refused {
            return self.answer_gate(how);
        }
        let request = String::from_utf8_lossy(&self.read).into_owned();
        if self.upgraded || self.refused || !request.contains("\r\n\r\n") {
            return;
        }
        let redirect = |status: u16, to: &str| {
            format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        };
        let response = match how % 16 {
            0..=2 => self.upgrade(&request, ""),
            3 => {
                let offered = request.contains("permessage-deflate");
                // It does not read what is compressed.
                self.spoilt = offered;
                let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
                self.upgrade(&request, if offered { extension } else { "" })
            }
            4 => {
                let mut response = self.upgrade(&request, "X-More: yes\r\n");
                response.extend(encode(0x81, br#"{"method":"m","params":{"channel":"t1"}}"#));
                response
            }
            5 => [b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), self.upgrade(&request, "")].concat(),
            6 => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno".to_vec(),
            7 => b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n".to_vec(),
            8 => b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: Tue, 14 Nov 2023 22:20:00 GMT\r\n\r\nlater".to_vec(),
            9 => redirect(302, "http://127.0.0.2:81/x"),
            10 => redirect(307, "ws://other.test/y"),
            11 => redirect(301, "wss://127.0.0.3/z"),
            12 => redirect(308, "/same?again"),
            13 => b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n".to_vec(),
            14 => b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec(),
            _ => b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
        };
        self.refused = !self.upgraded;
        self.wire.extend(response);
    }

    fn upgrade(&mut self, request: &str, extra: &str) -> Vec<u8> {
        let response = super::wire::accept(request, extra).expect("a complete request has a key");
        let (head, _) = request.split_once("\r\n\r\n").expect("looked for before");
        self.read.drain(..head.len() + 4);
        self.upgraded = true;
        response
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().ok()
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}
