//! The server's side of one WebSocket connection (RFC 6455), without I/O: what arrives becomes [`Heard`], what is to be said becomes
//! bytes.
//!
//! It is strict with the client: whatever RFC 6455 does not allow is [`Heard::Fault`]. Extensions are not negotiated. A request that asks for
//! no WebSocket is heard too ([`Heard::Request`]), and is the last on its connection.

use crate::script::HttpRequest;
use std::fmt;
use tungstenite::handshake::derive_accept_key;

/// Opcodes of frames (RFC 6455 section 5.2).
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The longest request and the longest message that are read.
const MAX_HEAD: usize = 16 << 10;
const MAX_MESSAGE: usize = 16 << 20;

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The opening handshake. Answer it with [`Upgrade::accept`] or a [`refusal`], and then call [`Socket::open`] if it was accepted.
    Upgrade(Upgrade),
    /// An HTTP request without an `Upgrade` header, with its body. Answer it with an [`HttpResponse`](crate::script::HttpResponse::encode) and end the
    /// connection: nothing follows.
    Request(HttpRequest),
    /// A text message, whole.
    Text(String),
    /// A binary message, whole.
    Binary(Vec<u8>),
    /// A ping with its payload.
    Ping(Vec<u8>),
    /// A pong with its payload.
    Pong(Vec<u8>),
    /// A close frame: its code, 1005 if it has none, and its reason. Nothing follows.
    Close(u16, String),
    /// The client broke the protocol, in this way. Nothing follows.
    Fault(String),
}

/// A client's opening handshake (RFC 6455 section 4.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Path and query.
    pub target: String,
    /// The client's key.
    pub key: String,
    /// All headers, in their order.
    pub headers: Vec<(String, String)>,
}

/// One connection: give it what arrives, and ask what was said.
#[derive(Debug, Default)]
pub struct Socket {
    input: Vec<u8>,
    stage: Stage,
    /// The request whose body has not come, and how long that is.
    request: Option<(HttpRequest, usize)>,
    /// The message whose last frame has not come: its opcode and payload.
    partial: Option<(u8, Vec<u8>)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    /// The head of a request was read that asks for no WebSocket.
    Body,
    /// The request was heard and has no answer yet.
    Asked,
    Open,
    Over,
}

impl Socket {
    /// A connection on which nothing was said.
    pub fn new() -> Self {
        Self::default()
    }

    /// These bytes arrived.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.stage != Stage::Over {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The handshake was accepted: what follows is frames.
    pub fn open(&mut self) {
        if self.stage == Stage::Asked {
            self.stage = Stage::Open;
        }
    }

    /// The next thing that was said; `None` until more arrives.
    pub fn heard(&mut self) -> Option<Heard> {
        let heard = match self.stage {
            Stage::Head => self.head(),
            Stage::Body => self.body(),
            Stage::Open => self.message(),
            Stage::Asked | Stage::Over => return None,
        };
        let heard = heard.unwrap_or_else(|fault| Some(Heard::Fault(fault)));
        if matches!(heard, Some(Heard::Close(..) | Heard::Fault(_) | Heard::Request(_))) {
            self.stage = Stage::Over;
            self.input.clear();
        }
        heard
    }

    fn head(&mut self) -> Result<Option<Heard>, String> {
        let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") else {
            let fits = self.input.len() <= MAX_HEAD;
            return if fits { Ok(None) } else { Err("the request has no end".to_owned()) };
        };
        let head: Vec<u8> = self.input.drain(..end + 4).collect();
        let request = HttpRequest::parse(&head)?;
        if request.header("Upgrade").is_none() {
            let len = request.content_length()?;
            (self.stage, self.request) = (Stage::Body, Some((request, len)));
            return self.body();
        }
        self.stage = Stage::Asked;
        if !self.input.is_empty() {
            return Err("bytes before the handshake was answered".to_owned());
        }
        Upgrade::parse(request).map(Heard::Upgrade).map(Some)
    }

    fn body(&mut self) -> Result<Option<Heard>, String> {
        let whole = |(_, len): &mut (HttpRequest, usize)| self.input.len() >= *len;
        let Some((mut request, len)) = self.request.take_if(whole) else { return Ok(None) };
        request.body = self.input.drain(..len).collect();
        Ok(Some(Heard::Request(request)))
    }

    fn message(&mut self) -> Result<Option<Heard>, String> {
        loop {
            let Some((first, payload, size)) = client_frame(&self.input)? else { return Ok(None) };
            self.input.drain(..size);
            let (last, opcode) = (first & FIN != 0, first & 0x0f);
            if first & 0x70 != 0 {
                return Err(format!("reserved bits in frame {first:#04x}"));
            }
            if opcode >= CLOSE {
                if !last || payload.len() > 125 {
                    return Err(format!("control frame {first:#04x} of {} bytes", payload.len()));
                }
                return control(opcode, payload).map(Some);
            }
            let (kind, message) = match (opcode, self.partial.take()) {
                (CONTINUATION, Some((kind, mut message))) => {
                    message.extend_from_slice(&payload);
                    (kind, message)
                }
                (TEXT | BINARY, None) => (opcode, payload),
                (CONTINUATION, None) => return Err("a continuation of nothing".to_owned()),
                (TEXT | BINARY, Some(_)) => return Err("a message inside of a message".to_owned()),
                _ => return Err(format!("opcode {opcode:#x}")),
            };
            if message.len() > MAX_MESSAGE {
                return Err("a message without end".to_owned());
            }
            if !last {
                self.partial = Some((kind, message));
                continue;
            }
            return Ok(Some(if kind == TEXT { Heard::Text(utf8(message)?) } else { Heard::Binary(message) }));
        }
    }
}

impl HttpRequest {
    fn parse(head: &[u8]) -> Result<Self, String> {
        let head = std::str::from_utf8(head).map_err(|_| "the request is not ASCII".to_owned())?;
        let mut lines = head.split("\r\n");
        let (method, target) = match lines.next().map(|line| line.split(' ').collect::<Vec<_>>()).as_deref() {
            Some([method, target, "HTTP/1.1"]) => ((*method).to_owned(), (*target).to_owned()),
            other => return Err(format!("request line {other:?}")),
        };
        let mut headers = Vec::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("header line {line:?}"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self { method, target, headers, body: Vec::new() })
    }

    /// How long its body is (RFC 9112 section 6).
    fn content_length(&self) -> Result<usize, String> {
        if self.header("Transfer-Encoding").is_some() {
            return Err("a body in chunks, which is not read here: send Content-Length".to_owned());
        }
        let Some(len) = self.header("Content-Length") else { return Ok(0) };
        let len = len.parse().ok().filter(|len| *len <= MAX_MESSAGE);
        len.ok_or_else(|| "a Content-Length that is none or too much".to_owned())
    }
}

impl Upgrade {
    fn parse(request: HttpRequest) -> Result<Self, String> {
        if request.method != "GET" {
            return Err(format!("a handshake by {}", request.method));
        }
        let mut upgrade = Self { target: request.target, key: String::new(), headers: request.headers };
        let wants = |name: &str, token: &str| {
            let value = upgrade.header(name).unwrap_or_default();
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
        };
        if !wants("Upgrade", "websocket")
            || !wants("Connection", "Upgrade")
            || !wants("Sec-WebSocket-Version", "13")
        {
            return Err("no WebSocket upgrade of version 13".to_owned());
        }
        if upgrade.header("Host").is_none() {
            return Err("no Host".to_owned());
        }
        match upgrade.header("Sec-WebSocket-Key") {
            // 16 bytes in base64.
            Some(key) if key.len() == 24 => upgrade.key = key.to_owned(),
            other => return Err(format!("Sec-WebSocket-Key {other:?}")),
        }
        Ok(upgrade)
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The answer that accepts it, with more headers.
    pub fn accept(&self, headers: &[(&str, &str)]) -> Vec<u8> {
        Self::switching(&derive_accept_key(self.key.as_bytes()), headers)
    }

    /// A 101 whose `Sec-WebSocket-Accept` belongs to another key: a client must not take it (RFC 6455 section 4.1).
    pub fn accept_wrongly(&self) -> Vec<u8> {
        Self::switching(&derive_accept_key(b"the key of somebody else"), &[])
    }

    fn switching(accept: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n"
        );
        push_headers(&mut answer, headers);
        answer.push_str("\r\n");
        answer.into_bytes()
    }
}

// A key or a token is nobody's business.
impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Upgrade")
            .field("target", &self.target)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

pub(crate) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// An answer that refuses a handshake, after which the connection is to be ended.
pub fn refusal(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n");
    push_headers(&mut answer, headers);
    answer.push_str("\r\n");
    answer.into_bytes()
}

fn push_headers(answer: &mut String, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
}

/// A text message in one frame.
pub fn text(text: &str) -> Vec<u8> {
    frame(TEXT, text.as_bytes())
}

/// A text message in several frames of at most `size` bytes each.
pub fn fragments(text: &str, size: usize) -> Vec<u8> {
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(size.max(1)).collect();
    let mut bytes = Vec::new();
    for (i, chunk) in chunks.iter().enumerate() {
        let opcode = if i == 0 { TEXT } else { CONTINUATION };
        let mut one = frame(opcode, chunk);
        if i + 1 < chunks.len() {
            one[0] &= !FIN;
        }
        bytes.append(&mut one);
    }
    if chunks.is_empty() { frame(TEXT, b"") } else { bytes }
}

/// A binary message in one frame.
pub fn binary(payload: &[u8]) -> Vec<u8> {
    frame(BINARY, payload)
}

/// A ping. Of the payload at most 125 bytes are sent.
pub fn ping(payload: &[u8]) -> Vec<u8> {
    frame(PING, &payload[..payload.len().min(125)])
}

/// A pong. Of the payload at most 125 bytes are sent.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    frame(PONG, &payload[..payload.len().min(125)])
}

/// A close frame. Of the reason at most 100 bytes are sent. Code 1005 stands for one without a code (RFC 6455 section 7.1.5).
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    if code == 1005 {
        return frame(CLOSE, b"");
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend(reason.bytes().take(100));
    frame(CLOSE, &payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FIN | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..126), _) => frame.push(len),
        (_, Ok(len)) => {
            frame.push(126);
            frame.extend(len.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn control(opcode: u8, payload: Vec<u8>) -> Result<Heard, String> {
    match opcode {
        PING => Ok(Heard::Ping(payload)),
        PONG => Ok(Heard::Pong(payload)),
        CLOSE => match payload.split_first_chunk() {
            None if payload.is_empty() => Ok(Heard::Close(1005, String::new())),
            None => Err("a close frame of one byte".to_owned()),
            Some((code, reason)) => {
                let code = u16::from_be_bytes(*code);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(format!("close code {code}"));
                }
                Ok(Heard::Close(code, utf8(reason.to_vec())?))
            }
        },
        _ => Err(format!("opcode {opcode:#x}")),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_owned())
}

/// A client's frame: first byte, unmasked payload, bytes it takes.
fn client_frame(input: &[u8]) -> Result<Option<(u8, Vec<u8>, usize)>, String> {
    let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else { return Ok(None) };
    if second & MASKED == 0 {
        return Err("a frame without a mask".to_owned());
    }
    let parsed = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(len, rest)| (u64::from(u16::from_be_bytes(*len)), 126, rest)),
        127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), 0x1_0000, rest)),
        short => Some((u64::from(short), 0, rest)),
    };
    let Some((len, least, rest)) = parsed else { return Ok(None) };
    if len < least {
        return Err("a length that is longer than it must be".to_owned());
    }
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_MESSAGE).ok_or("a frame without end")?;
    let Some((key, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some(masked) = rest.get(..len) else { return Ok(None) };
    let payload = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Ok(Some((first, payload, input.len() - rest.len() + len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /ws?v=1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: t\r\n\r\n";

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = frame(0, payload);
        frame[0] = first;
        frame[1] |= MASKED;
        let at = frame.len() - payload.len();
        let key = [1, 2, 3, 4];
        frame.iter_mut().skip(at).zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        frame.splice(at..at, key);
        frame
    }

    fn opened() -> Socket {
        let mut socket = Socket::new();
        socket.receive(REQUEST.as_bytes());
        assert!(matches!(socket.heard(), Some(Heard::Upgrade(_))));
        socket.open();
        socket
    }

    fn fault(bytes: &[u8]) -> String {
        let mut socket = opened();
        socket.receive(bytes);
        match socket.heard() {
            Some(Heard::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn handshake_byte_by_byte() {
        let mut socket = Socket::new();
        for byte in REQUEST.bytes() {
            assert_eq!(socket.heard(), None);
            socket.receive(&[byte]);
        }
        let Some(Heard::Upgrade(upgrade)) = socket.heard() else { panic!("no upgrade") };
        assert_eq!((upgrade.target.as_str(), upgrade.header("authorization")), ("/ws?v=1", Some("t")));
        // The example of RFC 6455 section 1.3.
        let answer = String::from_utf8(upgrade.accept(&[("X-A", "b")])).unwrap();
        assert!(
            answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-A: b\r\n\r\n"),
            "{answer}"
        );
        let wrong = String::from_utf8(upgrade.accept_wrongly()).unwrap();
        assert!(!wrong.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!format!("{upgrade:?}").contains("dGhl"), "keys are not shown");
        let refused = String::from_utf8(refusal(429, &[("Retry-After", "3")])).unwrap();
        assert!(
            refused.starts_with("HTTP/1.1 429 ") && refused.ends_with("Retry-After: 3\r\n\r\n"),
            "{refused}"
        );
    }

    #[test]
    fn bad_requests_are_faults() {
        for bad in [
            REQUEST.replace("GET", "POST"),
            REQUEST.replace("Upgrade: websocket", "Upgrade: h2c"),
            REQUEST.replace("Version: 13", "Version: 8"),
            REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
            REQUEST.replace("Host: a\r\n", ""),
            format!("{REQUEST}early"),
        ] {
            let mut socket = Socket::new();
            socket.receive(bad.as_bytes());
            assert!(matches!(socket.heard(), Some(Heard::Fault(_))), "{bad}");
            assert_eq!(socket.heard(), None, "nothing follows a fault");
        }
    }

    #[test]
    fn requests_that_ask_for_no_websocket() {
        let request = "POST /token?a=b HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\nhello";
        let mut socket = Socket::new();
        for byte in request.bytes() {
            assert_eq!(socket.heard(), None);
            socket.receive(&[byte]);
        }
        let Some(Heard::Request(heard)) = socket.heard() else { panic!("no request") };
        assert_eq!((heard.method.as_str(), heard.target.as_str()), ("POST", "/token?a=b"));
        assert_eq!((heard.header("Content-Length"), heard.body.as_slice()), (Some("5"), b"hello".as_slice()));
        socket.receive(request.as_bytes());
        assert_eq!(socket.heard(), None, "nothing follows a request");

        let mut socket = Socket::new();
        socket.receive(b"GET / HTTP/1.1\r\n\r\n");
        assert!(matches!(socket.heard(), Some(Heard::Request(request)) if request.body.is_empty()));
        for bad in ["Content-Length: -1", "Content-Length: 99999999999", "Transfer-Encoding: chunked"] {
            let mut socket = Socket::new();
            socket.receive(format!("POST / HTTP/1.1\r\n{bad}\r\n\r\n").as_bytes());
            assert!(matches!(socket.heard(), Some(Heard::Fault(_))), "{bad}");
        }
    }

    #[test]
    fn messages_control_frames_and_fragments() {
        let mut socket = opened();
        let long = "x".repeat(70_000);
        let mut bytes = masked(FIN | TEXT, "h\u{e9}".as_bytes());
        bytes.extend(masked(BINARY, &[1]));
        bytes.extend(masked(FIN | PING, b"now"));
        bytes.extend(masked(FIN | CONTINUATION, &[2]));
        bytes.extend(masked(FIN | TEXT, long.as_bytes()));
        bytes.extend(masked(FIN | PONG, b""));
        bytes.extend(masked(FIN | CLOSE, b"\x03\xe8bye"));
        bytes.extend(masked(FIN | TEXT, b"after the end"));
        for byte in bytes {
            socket.receive(&[byte]);
        }
        let heard: Vec<Heard> = std::iter::from_fn(|| socket.heard()).collect();
        let want = [
            Heard::Text("h\u{e9}".to_owned()),
            Heard::Ping(b"now".to_vec()),
            Heard::Binary(vec![1, 2]),
            Heard::Text(long),
            Heard::Pong(Vec::new()),
            Heard::Close(1000, "bye".to_owned()),
        ];
        assert_eq!(heard, want);
    }

    #[test]
    fn what_a_client_must_not_do() {
        assert_eq!(fault(&frame(TEXT, b"a")), "a frame without a mask");
        assert_eq!(fault(&masked(FIN | CONTINUATION, b"a")), "a continuation of nothing");
        assert_eq!(fault(&masked(FIN | 0x40 | TEXT, b"a")), "reserved bits in frame 0xc1");
        assert_eq!(fault(&masked(FIN | 3, b"a")), "opcode 0x3");
        assert_eq!(fault(&masked(FIN | 11, b"a")), "opcode 0xb");
        assert_eq!(fault(&masked(PING, b"a")), "control frame 0x09 of 1 bytes");
        assert_eq!(fault(&masked(FIN | PING, &[0; 126])), "control frame 0x89 of 126 bytes");
        assert_eq!(fault(&masked(FIN | CLOSE, &[3])), "a close frame of one byte");
        assert_eq!(fault(&masked(FIN | CLOSE, &1006u16.to_be_bytes())), "close code 1006");
        assert_eq!(fault(&masked(FIN | TEXT, &[0xff])), "text that is not UTF-8");
        assert_eq!(fault(&[0x81, 0x80 | 126, 0, 5]), "a length that is longer than it must be");
        assert_eq!(fault(&[0x81, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]), "a frame without end");
        let mut twice = masked(TEXT, b"a");
        twice.extend(masked(TEXT, b"b"));
        assert_eq!(fault(&twice), "a message inside of a message");
    }

    #[test]
    fn what_a_server_says() {
        assert_eq!(text("hi"), b"\x81\x02hi");
        assert_eq!(fragments("hello", 2), b"\x01\x02he\x00\x02ll\x80\x01o");
        assert_eq!(fragments("", 2), b"\x81\x00");
        assert_eq!(binary(&[0; 200])[..4], [0x82, 126, 0, 200]);
        assert_eq!(binary(&vec![0; 70_000])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        assert_eq!((ping(b"a"), pong(b"b")), (b"\x89\x01a".to_vec(), b"\x8a\x01b".to_vec()));
        assert_eq!(close(1001, "bye"), b"\x88\x05\x03\xe9bye");
        assert_eq!(ping(&[0; 300]).len(), 127);
        assert_eq!(close(1005, ""), b"\x88\x00");
    }
}
