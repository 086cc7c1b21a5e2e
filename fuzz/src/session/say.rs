//! What the server says: right, wrong, and nonsense.

use super::peer::{Asked, Peer};
use super::wire::{encode, text};
use crate::Input;

/// A server that writes more than this without being read is not this server.
const MAX_WIRE: usize = 512 << 10;

impl Peer {
    /// Says something over the WebSocket.
    pub(super) fn say(&mut self, what: u8, input: &mut Input<'_>) {
        if !self.upgraded {
            return;
        }
        let arg = what >> 4;
        let bytes = match what & 0x0f {
            0 => self.asked.pop_front().map_or(Vec::new(), |asked| self.answer(&asked)),
            1 => self.asked.pop_front().map_or(Vec::new(), |asked| text(&error(asked.id, arg))),
            2 => match self.asked.pop_back() {
                Some(asked) => {
                    self.authenticated |= is_authentication(&asked);
                    text(&format!(r#"{{"id":{},"result":[]}}"#, asked.id))
                }
                None => Vec::new(),
            },
            3 => {
                // It may be the answer to anything.
                self.authenticated = true;
                let id = (self.last_asked + 2).saturating_sub(u64::from(arg));
                text(&format!(r#"{{"id":{id},"result":{{"a":[1,2]}}}}"#))
            }
            4 => text(&format!(r#"{{"method":"n","params":{{"channel":"t{}","data":[{arg}]}}}}"#, arg % 4)),
            5 => encode(0x81, &b"plain text "[..usize::from(arg % 12)]),
            6 => encode(0x82, &vec![arg; usize::from(arg) * 40]),
            7 => encode(0x89, &vec![b'p'; usize::from(arg) * 8]),
            8 => self.last_ping.take().map_or(Vec::new(), |payload| encode(0x8a, &payload)),
            9 => encode(0x8a, b"bogus"),
            10 => {
                self.spoilt = true;
                match arg {
                    0 => encode(0x88, b""),
                    1 => encode(0x88, b"\x03"),
                    2 => encode(0x88, b"\x03\xed"),
                    3 => encode(0x88, b"\x03\xf0policy"),
                    4 => encode(0x88, b"\x03\xf5again"),
                    5 => encode(0x88, b"\x03\xe8\xff\xff"),
                    6 => encode(0x88, b"\x0f\xa0venue"),
                    _ => encode(0x88, b"\x03\xe8bye"),
                }
            }
            11 => [encode(0x01, b"frag"), encode(0x89, b""), encode(0x00, b"men"), encode(0x80, b"ted")]
                .concat(),
            12 => encode(0x81, "long ".repeat(400 + usize::from(arg) * 16).as_bytes()),
            13 => {
                (self.spoilt, self.authenticated, self.owes_greeting) = (true, true, false);
                input.bytes(usize::from(arg) + 1).to_vec()
            }
            14 => encode(0x89, &[b'q'; 100]).repeat(100 * usize::from(arg)),
            _ => self.answer_all(),
        };
        self.write(bytes);
    }

    /// Says something that the protocol has a meaning for.
    pub(super) fn say_more(&mut self, what: u8) {
        if !self.upgraded {
            return;
        }
        let arg = what >> 4;
        let topic = format!("t{}", arg % 8);
        let said = match what & 0x0f {
            0 => {
                let asked = std::mem::take(&mut self.asked);
                self.authenticated |= asked.iter().any(is_authentication);
                let answers: Vec<String> = asked.iter().rev().map(result).collect();
                format!("[{}]", answers.join(" ,\n"))
            }
            1 => {
                self.authenticated = true;
                let id = self.last_asked;
                let answer = format!(r#"{{"id":{id},"result":"nested"}}"#);
                format!(r#"[{{"method":"n"}},[{answer}],{answer},{{"method":"n","params":[[{answer}]]}}]"#)
            }
            2 => {
                let garbage =
                    ["[", "[{", "[{}", "[{},", "[{},1,\"x\",null]", "[ {\"id\":1,\"error\":{}},]", "[{}]]"];
                garbage[usize::from(arg) % garbage.len()].to_owned()
            }
            3 => {
                self.requests += 1;
                let id = [format!("\"q{}\"", self.requests), self.requests.to_string()];
                let id = &id[usize::from(arg & 1)];
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"who","params":[{arg}]}}"#)
            }
            4 => r#"{"method":"heartbeat","params":{"type":"test_request"}}"#.to_owned(),
            5 => r#"{"method":"heartbeat","params":{"type":"heartbeat"}}"#.to_owned(),
            6 => format!(r#"{{"notice":"n{arg}"}}"#),
            7 => format!(r#"{{"method":"subscribed","params":{{"channel":"{topic}"}}}}"#),
            8 => format!(
                r#"{{"method":"refused","params":{{"channel":"{topic}","code":{arg},"message":"no"}}}}"#
            ),
            9 => format!(r#"{{"method":"unsubscribed","params":{{"channel":"{topic}"}}}}"#),
            10 => self.numbered(arg, 1),
            11 => self.numbered(arg, 1 + u64::from(arg)),
            12 => self.numbered(arg, 0),
            13 => {
                let parts: Vec<String> = (0..4).map(|n| self.numbered(arg, 1 + (n & 2))).collect();
                format!("[{}]", parts.join(","))
            }
            14 => match self.asked.iter().position(is_authentication) {
                Some(at) => {
                    let asked = self.asked.remove(at).expect("it is there");
                    error(asked.id, arg)
                }
                None => return,
            },
            _ if arg & 1 != 0 && self.owes_greeting => return self.greet(),
            _ if arg & 6 == 2 => {
                let asked = self.asked.iter().flat_map(|asked| &asked.channels);
                let names: Vec<String> = asked.map(|name| format!("{name:?}")).collect();
                format!(r#"{{"list":[{}]}}"#, names.join(","))
            }
            _ if arg & 6 == 4 => format!(r#"{{"refused":{{"code":{},"message":"no"}}}}"#, arg >> 3),
            _ if arg & 6 == 6 && arg & 8 != 0 => r#"{"denied":{"code":1,"message":"no"}}"#.to_owned(),
            _ if arg & 6 == 6 => {
                self.authenticated = true;
                r#"{"granted":"let-me-in"}"#.to_owned()
            }
            _ => r#"{"pong":1}"#.to_owned(),
        };
        self.write(text(&said));
    }

    /// The next message of a topic whose messages are numbered, so much further on.
    fn numbered(&mut self, arg: u8, step: u64) -> String {
        let number = &mut self.numbers[usize::from(arg % 4)];
        let before = *number;
        *number += step;
        let snapshot = if arg & 8 != 0 && step == 1 { r#","snap":1"# } else { "" };
        format!(
            r#"{{"method":"n","params":{{"channel":"t{}","s":{number},"p":{before}{snapshot}}}}}"#,
            arg % 4
        )
    }

    fn answer_all(&mut self) -> Vec<u8> {
        let asked = std::mem::take(&mut self.asked);
        asked.iter().flat_map(|asked| self.answer(asked)).collect()
    }

    /// The right answer.
    fn answer(&mut self, asked: &Asked) -> Vec<u8> {
        self.authenticated |= is_authentication(asked);
        let mut bytes = text(&result(asked));
        if self.separate && is_authentication(asked) {
            bytes.extend(text(r#"{"granted":"let-me-in"}"#));
        }
        if self.per_topic && !asked.channels.is_empty() {
            let outcome = if asked.method.ends_with("unsubscribe") { "unsubscribed" } else { "subscribed" };
            for channel in &asked.channels {
                bytes
                    .extend(text(&format!(r#"{{"method":"{outcome}","params":{{"channel":"{channel}"}}}}"#)));
            }
        }
        bytes
    }

    /// Says the first word, if it has not yet.
    pub(super) fn greet(&mut self) {
        if std::mem::take(&mut self.owes_greeting) {
            self.write(text(r#"{"greeting":1}"#));
        }
    }

    /// Does all that a good server does: true if there was anything.
    pub(super) fn behave(&mut self) -> bool {
        let before = self.wire.len();
        if !self.upgraded {
            self.answer_http(0);
        } else if !self.spoilt {
            self.greet();
            let answers = self.answer_all();
            self.write(answers);
            if let Some(payload) = self.last_ping.take() {
                self.write(encode(0x8a, &payload));
            }
        }
        self.wire.len() > before
    }

    fn write(&mut self, bytes: Vec<u8>) {
        if self.wire.len() < MAX_WIRE {
            self.wire.extend(bytes);
        } else {
            self.spoilt = true;
        }
    }
}

fn is_authentication(asked: &Asked) -> bool {
    asked.method == "public/auth"
}

fn error(id: u64, code: u8) -> String {
    format!(r#"{{"id":{id},"error":{{"code":{code},"message":"no"}}}}"#)
}

fn result(asked: &Asked) -> String {
    let id = asked.id;
    if asked.channels.is_empty() {
        return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"ok"}}"#);
    }
    let list: Vec<String> = asked.channels.iter().map(|name| format!("{name:?}")).collect();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":[{}]}}"#, list.join(","))
}
