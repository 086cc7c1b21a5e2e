//! The server's end of one socket.

use crate::Input;
use std::collections::VecDeque;

/// The answer that accepts a handshake; `None` if the request is not complete.
pub fn accept(request: &str, extra: &str) -> Option<Vec<u8>> {
    let (head, _) = request.split_once("\r\n\r\n")?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    Some(format!("{head}Sec-WebSocket-Accept: {accept}\r\n{extra}\r\n").into_bytes())
}

/// A server on one connection: what it has read, and what it wants to write.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Read and not parsed.
    read: Vec<u8>,
    /// Written and not delivered.
    pub(super) wire: VecDeque<u8>,
    upgraded: bool,
    /// It answered with something that is no upgrade.
    refused: bool,
    /// The client's message that is not complete.
    partial: Option<Vec<u8>>,
    client_closed: bool,
    last_ping: Option<Vec<u8>>,
    /// Requests without an answer: the id, and the channels that it names.
    pub(super) asked: VecDeque<(u64, Vec<String>)>,
    last_asked: u64,
}

/// What the server read to its end.
#[derive(Debug)]
pub(super) enum Read {
    /// A message of the user, by the number that it bears.
    Message(u64),
    Request(u64),
}

impl Peer {
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
            }
            0xa => assert!(payload.len() <= 125 && first & 0x80 != 0),
            opcode => {
                assert_eq!(opcode == 0, self.partial.is_some(), "fragments in disorder");
                let mut message = self.partial.take().unwrap_or_default();
                message.extend_from_slice(&payload);
                if first & 0x80 == 0 {
                    self.partial = Some(message);
                } else if !compressed {
                    complete.extend(self.message(&message));
                }
            }
        }
    }

    fn message(&mut self, message: &[u8]) -> Option<Read> {
        let number = |text: &[u8]| {
            let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
        };
        if let Some(rest) = message.strip_prefix(b"S") {
            return number(rest).map(Read::Message);
        }
        let rest = message.strip_prefix(br#"{"jsonrpc":"2.0","id":"#)?;
        let id = number(rest)?;
        let text = String::from_utf8_lossy(rest);
        let channels = text.split_once(r#""channels":["#).and_then(|(_, rest)| rest.split_once(']'));
        let channels = channels.map_or(Vec::new(), |(list, _)| {
            list.split(',').map(|name| name.trim_matches('"').to_owned()).collect()
        });
        self.asked.push_back((id, channels));
        self.last_asked = id;
        Some(Read::Request(id))
    }

    /// Answers the HTTP request in one of many ways. The right one only once it is complete, as any server does.
    pub(super) fn answer_http(&mut self, how: u8) {
        let request = String::from_utf8_lossy(&self.read).into_owned();
        if self.upgraded || self.refused || !request.contains("\r\n\r\n") {
            return;
        }
        let redirect = |status: u16, to: &str| {
            format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        };
        let response = match how % 16 {
            0 | 1 | 2 => self.upgrade(&request, ""),
            3 => {
                let offered = request.contains("permessage-deflate");
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
        let response = accept(request, extra).expect("a complete request has a key");
        let (head, _) = request.split_once("\r\n\r\n").expect("looked for before");
        self.read.drain(..head.len() + 4);
        self.upgraded = true;
        response
    }

    /// Says something over the WebSocket.
    pub(super) fn say(&mut self, what: u8, input: &mut Input<'_>) {
        if !self.upgraded {
            return;
        }
        let arg = what >> 4;
        let bytes = match what & 0x0f {
            0 => match self.asked.pop_front() {
                Some((id, channels)) => encode(0x81, answer(id, &channels).as_bytes()),
                None => Vec::new(),
            },
            1 => match self.asked.pop_front() {
                Some((id, _)) => encode(
                    0x81,
                    format!(r#"{{"id":{id},"error":{{"code":{arg},"message":"no"}}}}"#).as_bytes(),
                ),
                None => Vec::new(),
            },
            2 => match self.asked.pop_back() {
                Some((id, _)) => encode(0x81, format!(r#"{{"id":{id},"result":[]}}"#).as_bytes()),
                None => Vec::new(),
            },
            3 => {
                let id = (self.last_asked + 2).saturating_sub(u64::from(arg));
                encode(0x81, format!(r#"{{"id":{id},"result":{{"a":[1,2]}}}}"#).as_bytes())
            }
            4 => {
                let text =
                    format!(r#"{{"method":"n","params":{{"channel":"t{}","data":[{arg}]}}}}"#, arg % 4);
                encode(0x81, text.as_bytes())
            }
            5 => encode(0x81, &b"plain text "[..usize::from(arg % 12)]),
            6 => encode(0x82, &vec![arg; usize::from(arg) * 40]),
            7 => encode(0x89, &vec![b'p'; usize::from(arg) * 8]),
            8 => self.last_ping.take().map_or(Vec::new(), |payload| encode(0x8a, &payload)),
            9 => encode(0x8a, b"bogus"),
            10 => match arg {
                0 => encode(0x88, b""),
                1 => encode(0x88, b"\x03"),
                2 => encode(0x88, b"\x03\xed"),
                3 => encode(0x88, b"\x03\xf0policy"),
                4 => encode(0x88, b"\x03\xf5again"),
                5 => encode(0x88, b"\x03\xe8\xff\xff"),
                _ => encode(0x88, b"\x03\xe8bye"),
            },
            11 => [encode(0x01, b"frag"), encode(0x89, b""), encode(0x00, b"men"), encode(0x80, b"ted")]
                .concat(),
            12 => encode(0x81, "long ".repeat(400 + usize::from(arg) * 16).as_bytes()),
            13 => {
                let len = usize::from(arg) + 1;
                input.bytes(len).to_vec()
            }
            14 => encode(0x89, &[b'q'; 100]).repeat(100 * usize::from(arg)),
            _ => {
                let asked = std::mem::take(&mut self.asked);
                asked
                    .iter()
                    .flat_map(|(id, channels)| encode(0x81, answer(*id, channels).as_bytes()))
                    .collect()
            }
        };
        // A server that writes more than this without being read is not this server.
        if self.wire.len() < 512 << 10 {
            self.wire.extend(bytes);
        }
    }
}

fn answer(id: u64, channels: &[String]) -> String {
    if channels.is_empty() {
        return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"ok"}}"#);
    }
    let list: Vec<String> = channels.iter().map(|name| format!("{name:?}")).collect();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":[{}]}}"#, list.join(","))
}

fn encode(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(len as u8),
        len @ 126..65_536 => {
            bytes.push(126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// A client's frame at the front: first byte, payload unmasked, size in all.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let &[first, second, ..] = bytes else { return None };
    assert!(second & 0x80 != 0, "a frame without a mask");
    let (len, at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        len => (usize::from(len), 2),
    };
    let key = bytes.get(at..at + 4)?;
    let payload = bytes.get(at + 4..at + 4 + len)?;
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((first, payload, at + 4 + len))
}
