//! Whole handshakes: a table of responses, each for every way to cut it in two and byte by byte, and random ones.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::ws::deflate::DeflateConfig;
use crate::ws::target::UrlError;

/// The nonce of RFC 6455 section 1.3.
const NONCE: [u8; 16] = *b"the sample nonce";

/// The beginning of a response that accepts, up to where headers can be added.
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// What is offered, and which limits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    /// Nothing is offered.
    Plain,
    /// Subprotocols `chat` and `superchat`, and compression.
    Offering,
    /// At most 200 bytes of head, 5 headers and 6 bytes of body.
    Tight,
}

impl Setup {
    fn handshake(self, url: &str) -> Handshake {
        let mut options = HandshakeOptions::default();
        match self {
            Self::Plain => {}
            Self::Offering => {
                options.subprotocols = vec!["chat".into(), "superchat".into()];
                options.deflate = Some(DeflateConfig::default());
            }
            Self::Tight => (options.max_head, options.max_headers, options.max_body) = (200, 5, 6),
        }
        Handshake::new(&Target::parse(url).unwrap(), &options, NONCE).unwrap()
    }
}

/// How a handshake ends, for a peer that sends what it sends.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Accepted {
        consumed: usize,
        upgraded: Upgraded,
    },
    Redirect(Target),
    /// An error that did not need the connection to end.
    Failed(HandshakeError),
    /// An error that came when the connection ended.
    AtEof(HandshakeError),
}

/// Feeds `input` in steps that end at `cuts`, and then the rest and the end of the connection.
fn run(mut handshake: Handshake, input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Outcome {
    for end in cuts.into_iter().chain([input.len()]) {
        match handshake.receive(&input[..end]) {
            Ok(Progress::NeedMore) => {}
            Ok(Progress::Redirect { location }) => return Outcome::Redirect(location),
            Ok(Progress::Accepted { consumed }) => {
                // The answer is final, whatever comes later.
                assert_eq!(handshake.receive(input), Ok(Progress::Accepted { consumed }));
                return Outcome::Accepted { consumed, upgraded: handshake.into_upgraded().unwrap() };
            }
            Err(error) => {
                assert_eq!(handshake.receive(input), Err(error.clone()));
                assert_eq!(handshake.finish_eof(input), error);
                assert_eq!(handshake.into_upgraded(), None);
                return Outcome::Failed(error);
            }
        }
    }
    let error = handshake.finish_eof(input);
    assert_eq!(handshake.finish_eof(input), error);
    Outcome::AtEof(error)
}

/// The outcome for `input`, after making sure that it is the same for every cut.
fn outcome(setup: Setup, url: &str, input: &[u8]) -> Outcome {
    let whole = run(setup.handshake(url), input, []);
    for cut in 0..input.len() {
        assert_eq!(run(setup.handshake(url), input, [cut]), whole, "cut at {cut}");
    }
    assert_eq!(run(setup.handshake(url), input, 0..input.len()), whole, "byte by byte");
    whole
}

/// What a row of the table expects.
enum Expect {
    /// Accepted, with this subprotocol, and with compression or not; what follows the head is left over.
    Accept(Option<&'static str>, bool),
    /// Fails with this error at once.
    Fail(HandshakeError),
    /// Fails with this error when the connection ends.
    Eof(HandshakeError),
    /// Refused at once with this status and body.
    Refuse(u16, &'static str),
    /// Refused with this status and body when the connection ends.
    RefuseAtEof(u16, &'static str),
}

fn not_http(first_bytes: &str, peer: PeerProtocol) -> HandshakeError {
    HandshakeError::NotHttp { first_bytes: first_bytes.into(), peer }
}

#[test]
fn responses() {
    use Expect::{Accept, Eof, Fail, Refuse, RefuseAtEof};
    use HandshakeError as E;
    use Setup::{Offering, Plain, Tight};

    // `{A}` stands for `ACCEPTED`, `{K}` for the accept header alone.
    let key = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    #[rustfmt::skip]
    let rows = [
        // Good ones.
        (Plain, "{A}\r\n", Accept(None, false)),
        (Plain, "{A}\r\n\x01\x02frames", Accept(None, false)),
        (Plain, "{A}\r\n\r\n\r\n", Accept(None, false)),
        (Plain, "{A}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nframe", Accept(None, false)),
        (Plain, "HTTP/1.1 101\r\nUpgrade: WebSocket\r\nConnection: keep-alive, UPGRADE\r\n{K}\r\n", Accept(None, false)),
        (Plain, "HTTP/1.1 101 \r\nupgrade:\twebsocket \r\nCONNECTION:upgrade\r\n{K}\r\n", Accept(None, false)),
        (Plain, "HTTP/1.1 101 caf\u{e9}\r\nUpgrade: websocket\r\nConnection: upgrade\r\n{K}\r\n", Accept(None, false)),
        (Plain, "HTTP/1.1 101 x\r\nConnection: keep-alive\r\nConnection: ,Upgrade ,\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n{K}\r\n",
         Accept(None, false)),
        (Plain, "HTTP/1.1 101 bare\nUpgrade: websocket\nConnection: Upgrade\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n\nframe", Accept(None, false)),
        (Plain, "{A}\n\n", Accept(None, false)),
        (Plain, "{A}X-Empty:\r\nX-Latin: \u{e9}\r\n\r\n", Accept(None, false)),
        (Plain, "{A}Sec-WebSocket-Extensions: ,\r\nSec-WebSocket-Extensions:\r\n\r\n", Accept(None, false)),
        (Plain, "HTTP/1.1 100 Continue\r\n\r\n{A}\r\n", Accept(None, false)),
        (Plain, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 199\r\n\r\n{A}\r\nframe", Accept(None, false)),
        (Offering, "{A}\r\n", Accept(None, false)),
        (Offering, "{A}Sec-WebSocket-Protocol: superchat\r\n\r\n", Accept(Some("superchat"), false)),
        (Offering, "{A}sec-websocket-protocol:chat \r\n\r\nx", Accept(Some("chat"), false)),
        (Offering, "{A}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", Accept(None, true)),
        (Offering, "{A}Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
         Accept(Some("chat"), true)),
        (Tight, "{A}X: 1\r\nY: 2\r\n\r\n", Accept(None, false)),

        // 101, but not to our request.
        (Plain, "HTTP/1.0 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{K}\r\n", Fail(E::HttpVersion)),
        (Plain, "HTTP/1.1 101 x\r\nConnection: Upgrade\r\n{K}\r\n", Fail(E::UpgradeHeader)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n{K}\r\n", Fail(E::UpgradeHeader)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: websockets\r\nConnection: Upgrade\r\n{K}\r\n", Fail(E::UpgradeHeader)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n{K}\r\n", Fail(E::ConnectionHeader)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: close\r\n{K}\r\n", Fail(E::ConnectionHeader)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: keep-alive Upgrade\r\n{K}\r\n", Fail(E::ConnectionHeader)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", Fail(E::AcceptMissing)),
        (Plain, "HTTP/1.1 101 x\r\n\r\n", Fail(E::UpgradeHeader)),
        (Plain, "{A}{K}\r\n", Fail(E::AcceptRepeated)),
        (Plain, "{A}Sec-WebSocket-Accept: x\r\n\r\n", Fail(E::AcceptRepeated)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", Fail(E::AcceptMismatch)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo\r\n\r\n", Fail(E::AcceptMismatch)),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept:\r\n\r\n",
         Fail(E::AcceptMismatch)),
        (Plain, "{A}Sec-WebSocket-Protocol: chat\r\n\r\n", Fail(E::SubprotocolNotOffered { selected: "chat".into() })),
        (Plain, "{A}Sec-WebSocket-Protocol:\r\n\r\n", Fail(E::SubprotocolNotOffered { selected: "".into() })),
        (Offering, "{A}Sec-WebSocket-Protocol: Chat\r\n\r\n", Fail(E::SubprotocolNotOffered { selected: "Chat".into() })),
        (Offering, "{A}Sec-WebSocket-Protocol: chat, superchat\r\n\r\n",
         Fail(E::SubprotocolNotOffered { selected: "chat, superchat".into() })),
        (Offering, "{A}Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n\r\n", Fail(E::SubprotocolRepeated)),
        (Plain, "{A}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
         Fail(E::ExtensionNotOffered { value: "permessage-deflate".into() })),
        (Plain, "{A}Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions: ,x\r\n\r\n",
         Fail(E::ExtensionNotOffered { value: ",x".into() })),
        (Offering, "{A}Sec-WebSocket-Extensions: x-unknown\r\n\r\n",
         Fail(E::Extension(DeflateConfig::default().accept(&["x-unknown"]).unwrap_err()))),

        // Not valid HTTP.
        (Plain, "HTTP/1.2 101 x\r\n\r\n", Fail(E::Malformed("its version is neither HTTP/1.0 nor HTTP/1.1"))),
        (Plain, "HTTP/1.1 1o1 x\r\n\r\n", Fail(E::Malformed("the status line is invalid"))),
        (Plain, "HTTP/1.1 099 x\r\n\r\n", Fail(E::Malformed("the status line is invalid"))),
        (Plain, "HTTP/1.1 1011 x\r\n\r\n", Fail(E::Malformed("the status line is invalid"))),
        (Plain, "HTTP/1.1 101 x\0\r\n\r\n", Fail(E::Malformed("the status line is invalid"))),
        (Plain, "HTTP/1.1\r\n\r\n", Fail(E::Malformed("its version is neither HTTP/1.0 nor HTTP/1.1"))),
        (Plain, "{A}X-Folded: a\r\n b\r\n\r\n", Fail(E::Malformed("a header is folded over several lines"))),
        (Plain, "{A}X-Folded: a\n\tb\r\n\r\n", Fail(E::Malformed("a header is folded over several lines"))),
        (Plain, "{A}X Name: a\r\n\r\n", Fail(E::Malformed("a header name is invalid"))),
        (Plain, "{A}X-Name : a\r\n\r\n", Fail(E::Malformed("a header name is invalid"))),
        (Plain, "{A}no colon\r\n\r\n", Fail(E::Malformed("a header name is invalid"))),
        (Plain, "{A}: value\r\n\r\n", Fail(E::Malformed("a header name is invalid"))),
        (Plain, "{A}X: a\rSet-Cookie: b\r\n\r\n", Fail(E::Malformed("a header value has control characters"))),
        (Plain, "{A}X: \0\r\n\r\n", Fail(E::Malformed("a header value has control characters"))),
        (Plain, "{A}\r\r\n\r\n", Fail(E::Malformed("a line end is invalid"))),
        (Plain, "HTTP/1.1 100 x\r\n: bad\r\n\r\n{A}\r\n", Fail(E::Malformed("a header name is invalid"))),

        // Not HTTP at all.
        (Plain, "\x15\x03\x03\0\x02\x02\x28", Fail(not_http("\\x15\\x03", PeerProtocol::Tls))),
        (Plain, "SSH-2.0-OpenSSH_9.6\r\n", Fail(not_http("SSH-2.0-OpenSSH_", PeerProtocol::Ssh))),
        (Plain, "SSH-2.0-x\r\n", Fail(not_http("SSH-2.0-x\\r\\n", PeerProtocol::Ssh))),
        (Plain, "220 mail.example ESMTP\r\n", Fail(not_http("220 mail.example", PeerProtocol::Unknown))),
        (Plain, "HTTP/2 200\r\n", Fail(not_http("HTTP/2 200\\r\\n", PeerProtocol::Http2))),
        (Plain, "\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0\0\0",
         Fail(not_http("\\x00\\x00\\x06\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x05\\x00\\x00@\\x00\\x00", PeerProtocol::Http2))),
        (Plain, "http/1.1 101 x\r\n", Fail(not_http("http/1.1 101 x\\r\\n", PeerProtocol::Unknown))),
        (Plain, "\r\n{A}\r\n", Fail(not_http("\\r\\n", PeerProtocol::Unknown))),
        (Plain, "short", Eof(not_http("short", PeerProtocol::Unknown))),
        (Plain, "\x15", Eof(not_http("\\x15", PeerProtocol::Unknown))),
        (Plain, "HTTP/1.1 100 x\r\n\r\njunk\n", Fail(not_http("junk\\n", PeerProtocol::Unknown))),
        (Plain, "HTTP/1.1 100 x\r\n\r\njunk", Eof(not_http("junk", PeerProtocol::Unknown))),

        // Ends too early.
        (Plain, "", Eof(E::ClosedEarly { received: 0 })),
        (Plain, "HTT", Eof(E::ClosedEarly { received: 3 })),
        (Plain, "HTTP/1.1 101 x\r\nUpgrade: web", Eof(E::ClosedEarly { received: 28 })),
        (Plain, "HTTP/1.1 100 x\r\n\r\n", Eof(E::ClosedEarly { received: 18 })),

        // Beyond the limits.
        (Tight, "{A}X: 1\r\nY: 2\r\nZ: 3\r\n\r\n", Fail(E::TooManyHeaders { limit: 5 })),
        // 200 bytes, and 201.
        (Tight, "{A}X: 012345678901234567890123456789012345678901234567890123456789012345\r\n\r\n", Accept(None, false)),
        (Tight, "{A}X: 0123456789012345678901234567890123456789012345678901234567890123456\r\n\r\n",
         Fail(E::HeadTooLarge { limit: 200 })),
        (Tight, "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 100 x\r\n\r\n{A}\r\n",
         Fail(E::HeadTooLarge { limit: 200 })),

        // Refused.
        (Plain, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnopeand more", Refuse(404, "nope")),
        (Plain, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nno", RefuseAtEof(404, "no")),
        (Plain, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Refuse(200, "")),
        (Plain, "HTTP/1.1 204\r\n\r\n", Refuse(204, "")),
        (Plain, "HTTP/1.0 502 Bad Gateway\r\n\r\n<html>", RefuseAtEof(502, "<html>")),
        (Plain, "HTTP/1.1 401 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n2\r\n?!\r\n0\r\n\r\n", Refuse(401, "who?!")),
        (Plain, "HTTP/1.1 401 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n", RefuseAtEof(401, "who")),
        (Plain, "HTTP/1.1 429\r\n\r\n", RefuseAtEof(429, "")),
        (Plain, "HTTP/1.1 300 x\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", Refuse(300, "")),
        (Plain, "HTTP/1.1 304 x\r\n\r\n", Refuse(304, "")),
        (Plain, "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", Refuse(999, "")),
        (Plain, "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 500 x\r\nContent-Length: 1\r\n\r\n!", Refuse(500, "!")),
        (Tight, "HTTP/1.1 403 x\r\nContent-Length: 400\r\n\r\nabcdefgh", Refuse(403, "abcdef")),
        (Tight, "HTTP/1.1 403 x\r\n\r\nabcdef", Refuse(403, "abcdef")),
        (Tight, "HTTP/1.1 403 x\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabcdefgh\r\n", Refuse(403, "abcdef")),

        // Redirects that lead nowhere.
        (Plain, "HTTP/1.1 302 x\r\n\r\n", Fail(E::MissingLocation { status: 302 })),
        (Plain, "HTTP/1.1 301 x\r\nLocation: ftp://h/\r\n\r\n",
         Fail(E::BadLocation { status: 301, error: UrlError::Scheme("ftp".into()) })),
        (Plain, "HTTP/1.1 303 x\r\nLocation: //h:0/\r\n\r\n", Fail(E::BadLocation { status: 303, error: UrlError::Port })),
        (Plain, "HTTP/1.1 307 x\r\nLocation: /a\tb\r\n\r\n",
         Fail(E::BadLocation { status: 307, error: UrlError::Character { at: 2 } })),
        (Plain, "HTTP/1.1 308 x\r\nLocation: ws://other.example/?token=t\r\n\r\n",
         Fail(E::InsecureRedirect { location: Box::new(Target::parse("ws://other.example/?token=t").unwrap()) })),
    ];
    assert!(rows.len() >= 50);

    for (setup, template, expected) in rows {
        let text = template.replace("{A}", ACCEPTED).replace("{K}", key);
        let found = outcome(setup, "wss://example.com/chat", text.as_bytes());
        let refused = |error: &HandshakeError| match error {
            HandshakeError::Refused(refused) => {
                (refused.status, String::from_utf8(refused.body.clone()).unwrap())
            }
            other => panic!("{template:?}: {other}"),
        };
        match (expected, found) {
            (Accept(subprotocol, deflate), Outcome::Accepted { consumed, upgraded }) => {
                // What is left over are the first frames: the rows end their heads in different ways, but none of
                // the frames has an empty line in front.
                let end = text.find(key.trim_end()).unwrap();
                let head = ["\r\n\r\n", "\n\n", "\r\n\n"]
                    .iter()
                    .filter_map(|blank| Some(text[end..].find(blank)? + blank.len()));
                assert_eq!(consumed, end + head.min().unwrap(), "{template:?}");
                assert_eq!(upgraded.subprotocol.as_deref(), subprotocol, "{template:?}");
                assert_eq!(upgraded.deflate.is_some(), deflate, "{template:?}");
                assert!(upgraded.headers.len() >= 3);
                assert_eq!(
                    upgraded.headers.first("sec-websocket-accept"),
                    Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                );
            }
            (Fail(expected), Outcome::Failed(error)) | (Eof(expected), Outcome::AtEof(error)) => {
                assert_eq!(error, expected, "{template:?}");
            }
            (Refuse(status, body), Outcome::Failed(error))
            | (RefuseAtEof(status, body), Outcome::AtEof(error)) => {
                assert_eq!(refused(&error), (status, body.to_owned()), "{template:?}");
            }
            (_, found) => panic!("{template:?}: {found:?}"),
        }
    }
}

#[test]
fn header_values_that_are_not_utf8() {
    let input = [ACCEPTED.as_bytes(), b"X-Latin: caf\xe9\r\n\r\n"].concat();
    let Outcome::Accepted { upgraded, .. } = outcome(Setup::Plain, "ws://h", &input) else { panic!() };
    assert_eq!(upgraded.headers.first("x-latin"), Some("caf\u{e9}"));
}

#[test]
fn redirects() {
    let redirect = |url: &str, status: u16, location: &str| {
        let input = format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 9\r\n\r\n");
        match outcome(Setup::Plain, url, input.as_bytes()) {
            Outcome::Redirect(target) => target,
            other => panic!("{location}: {other:?}"),
        }
    };
    for status in [301, 302, 303, 307, 308] {
        let to = redirect("wss://u:p@h/a/b?x", status, "../c?y=1");
        assert_eq!(to, Target::parse("wss://u:p@h/c?y=1").unwrap());
    }
    // Up to wss is fine; credentials stay with their origin.
    assert_eq!(redirect("ws://u:p@h/a", 301, "https://h/a"), Target::parse("wss://h/a").unwrap());
    assert_eq!(redirect("ws://u:p@h/a", 301, "http://h/b"), Target::parse("ws://u:p@h/b").unwrap());
    assert_eq!(redirect("ws://u:p@h/a", 301, "http://g/b"), Target::parse("ws://g/b").unwrap());
}

#[test]
fn redirected_request_has_no_secrets_of_the_first() {
    let from = Target::parse("wss://u:p@a.example/").unwrap();
    let mut options = HandshakeOptions::default();
    options.headers.append("Cookie", "hunter2").unwrap();
    let mut first = Handshake::new(&from, &options, NONCE).unwrap();
    assert!(
        String::from_utf8_lossy(first.request()).contains("Authorization: Basic dTpw\r\nCookie: hunter2\r\n")
    );

    let response = b"HTTP/1.1 302 Found\r\nLocation: https://b.example/\r\n\r\n";
    let Ok(Progress::Redirect { location }) = first.receive(response) else { panic!() };
    let second = Handshake::new(&location, &options.for_redirect(&from, &location), NONCE).unwrap();
    let request = String::from_utf8_lossy(second.request());
    assert!(request.contains("Host: b.example\r\n"), "{request}");
    assert!(!request.contains("Authorization") && !request.contains("Cookie"), "{request}");
}

#[test]
fn refusals_carry_what_the_server_said() {
    let input = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 120\r\nX-Limit: 5\r\nContent-Length: 9\r\n\r\nslow down";
    let Outcome::Failed(HandshakeError::Refused(refused)) = outcome(Setup::Plain, "ws://h", input) else {
        panic!()
    };
    assert_eq!((refused.status, refused.reason.as_str()), (429, "Too Many Requests"));
    assert_eq!(refused.headers.first("x-limit"), Some("5"));
    assert_eq!(refused.body, b"slow down");
    assert_eq!(refused.retry_after, Some(RetryAfter::Seconds(120)));
    assert_eq!(refused.retry_after.unwrap().delay(SystemTime::UNIX_EPOCH), Duration::from_secs(120));

    let input = b"HTTP/1.1 503 x\r\nRetry-After: Thu, 01 Jan 1970 00:01:00 GMT\r\nContent-Length: 0\r\n\r\n";
    let Outcome::Failed(HandshakeError::Refused(refused)) = outcome(Setup::Plain, "ws://h", input) else {
        panic!()
    };
    assert_eq!(refused.retry_after.unwrap().delay(SystemTime::UNIX_EPOCH), Duration::from_secs(60));

    let input = b"HTTP/1.1 503 x\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n";
    let Outcome::Failed(HandshakeError::Refused(refused)) = outcome(Setup::Plain, "ws://h", input) else {
        panic!()
    };
    assert_eq!(refused.retry_after, None);
}

#[test]
fn errors_say_how_to_mend_and_keep_secrets() {
    let fail = |url: &str, input: &str| match outcome(Setup::Plain, url, input.as_bytes()) {
        Outcome::Failed(error) | Outcome::AtEof(error) => format!("{error}\n{error:?}\n{error:#?}"),
        other => panic!("{other:?}"),
    };
    let url = "wss://user:hunter2@h/?token=hunter2";
    for (input, expected) in [
        ("\x15\x03\x01", "use wss://"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 23\r\n\r\nCannot GET /?t=hunter2\r\n", "check the path"),
        ("HTTP/1.1 401 x\r\nSet-Cookie: hunter2\r\nContent-Length: 0\r\n\r\n", "check the credentials"),
        ("HTTP/1.1 300 x\r\nLocation: /?hunter2\r\nContent-Length: 0\r\n\r\n", "status 300"),
        (
            "HTTP/1.1 301 x\r\nLocation: http://u:hunter2@h/?hunter2\r\n\r\n",
            "ws://h/, which is not encrypted",
        ),
        ("HTTP/1.1 301 x\r\nLocation: https://u:hunter2@/\r\n\r\n", "names no host"),
        ("", "check port and scheme"),
    ] {
        let shown = fail(url, input);
        assert!(shown.contains(expected), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let long = format!("{ACCEPTED}Sec-WebSocket-Protocol: {}\r\n\r\n", "\u{9b}x".repeat(1000));
    let shown = fail(url, &long);
    assert!(shown.len() < 2000 && !shown.contains('\u{9b}'), "{shown}");
}

#[test]
fn debug_of_a_handshake_shows_no_secret() {
    let mut options = HandshakeOptions::default();
    options.headers.append("X-Api-Key", "hunter2").unwrap();
    let target = Target::parse("wss://hunter2:hunter2@h/?hunter2").unwrap();
    let mut handshake = Handshake::new(&target, &options, NONCE).unwrap();
    assert!(String::from_utf8_lossy(handshake.request()).contains("hunter2"));
    assert!(!format!("{handshake:?}").contains("hunter2"));
    // Neither while the body of a refusal is read.
    let refusal = b"HTTP/1.1 404 x\r\nSet-Cookie: hunter2\r\n\r\n/?hunter2";
    assert_eq!(handshake.receive(refusal), Ok(Progress::NeedMore));
    assert!(!format!("{handshake:?}").contains("hunter2"), "{handshake:?}");
}

#[test]
fn a_server_that_repeats_all_offers_does_not_have_us_show_a_token() {
    let options = HandshakeOptions {
        subprotocols: vec!["v1".into(), "bearer.hunter2".into()],
        ..HandshakeOptions::default()
    };
    let target = Target::parse("ws://h").unwrap();
    for (chosen, shown) in [("v1, bearer.hunter2", "<redacted>"), ("v1, v2", "v1, v2")] {
        let mut handshake = Handshake::new(&target, &options, NONCE).unwrap();
        let answer = format!(
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n"
        );
        let error = handshake.receive(answer.as_bytes()).unwrap_err();
        assert_eq!(error, HandshakeError::SubprotocolNotOffered { selected: shown.into() });
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[test]
fn options_are_checked() {
    let target = Target::parse("ws://h").unwrap();
    let mut options = HandshakeOptions::default();
    options.headers.append("Connection", "close").unwrap();
    let error = HeaderError::Reserved { name: "Connection".into() };
    assert_eq!(Handshake::new(&target, &options, NONCE).unwrap_err(), error);
    let options = HandshakeOptions { subprotocols: vec!["a\r\nX: b".into()], ..HandshakeOptions::default() };
    let error = HeaderError::Subprotocol { index: 0 };
    assert_eq!(Handshake::new(&target, &options, NONCE).unwrap_err(), error);
}

#[test]
fn limits_may_be_anything() {
    for limit in [0, 1, 7, 8, usize::MAX] {
        let limits = HandshakeOptions {
            max_head: limit,
            max_headers: limit,
            max_body: limit,
            ..HandshakeOptions::default()
        };
        for response in ["HTTP/1.1 403 x\r\nA: b\r\n\r\nbody", "garbage\n", &format!("{ACCEPTED}\r\n")] {
            let handshake = || Handshake::new(&Target::parse("ws://h").unwrap(), &limits, NONCE).unwrap();
            let whole = run(handshake(), response.as_bytes(), []);
            assert_eq!(run(handshake(), response.as_bytes(), 0..response.len()), whole);
            if limit < 8 {
                assert!(matches!(whole, Outcome::Failed(_)), "{whole:?}");
            }
        }
    }
}

#[test]
fn end_without_receive_and_a_buffer_that_shrinks() {
    let refusal = b"HTTP/1.1 403 x\r\n\r\nbody";
    let HandshakeError::Refused(refused) = Setup::Plain.handshake("ws://h").finish_eof(refusal) else {
        panic!()
    };
    assert_eq!(refused.body, b"body");

    for full in [&refusal[..], b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 1", b"HTTP/1.1 101 x\r\nUp", b"HT"] {
        for shorter in 0..full.len() {
            let mut handshake = Setup::Plain.handshake("ws://h");
            assert_eq!(handshake.receive(full), Ok(Progress::NeedMore));
            assert_eq!(handshake.receive(&full[..shorter]), Ok(Progress::NeedMore));
            let _ = handshake.finish_eof(&full[..shorter]);
        }
    }
}

/// Pieces of responses, so that random input gets further than the first byte.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            ACCEPTED, "\r\n", "\r\n\r\n", "\n", "\r", " ", "\t", ":", ",", "\0", "HTTP/1.1 ", "HTTP/1.0 200 x\r\n",
            "101 Switching Protocols\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n",
            "HTTP/1.1 302 Found\r\n", "Location: /x\r\n", "Location: http://h/\r\n", "Upgrade: websocket\r\n",
            "Connection: Upgrade\r\n", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "Sec-WebSocket-Protocol: chat\r\n", "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            "Content-Length: 3\r\n", "Content-Length: 99999999999999999999\r\n", "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n", "0\r\n\r\n", "ff", "Retry-After: 5\r\n", "\x15\x03", "SSH-",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_any_cuts(
        input in prop_oneof![3 => pieces(), 1 => prop::collection::vec(any::<u8>(), 0..300)],
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        setup in prop::sample::select(vec![Setup::Plain, Setup::Offering, Setup::Tight]),
        url in prop::sample::select(vec!["ws://h/a", "wss://u:p@h/a"]),
    ) {
        cuts.sort_by_key(|cut| cut.index(input.len() + 1));
        let cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        let whole = run(setup.handshake(url), &input, []);
        prop_assert_eq!(&run(setup.handshake(url), &input, cuts), &whole);
        prop_assert_eq!(&run(setup.handshake(url), &input, 0..input.len()), &whole);

        match whole {
            Outcome::Accepted { consumed, .. } => prop_assert!(consumed <= input.len()),
            Outcome::Redirect(location) => prop_assert!(location.secure() || url.starts_with("ws:")),
            Outcome::Failed(HandshakeError::Refused(refused)) | Outcome::AtEof(HandshakeError::Refused(refused)) => {
                let limit = if setup == Setup::Tight { 6 } else { 4096 };
                prop_assert!(refused.body.len() <= limit);
            }
            Outcome::Failed(error) | Outcome::AtEof(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
