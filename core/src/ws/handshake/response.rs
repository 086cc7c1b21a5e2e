//! Reading the head of the response.

use httparse::EMPTY_HEADER;

use super::error::{HandshakeError, PeerProtocol};
use super::lines::Lines;
use crate::ws::headers::Headers;

/// A complete response head.
#[derive(Debug)]
pub(crate) struct Head {
    /// 100 to 999.
    pub(crate) status: u16,
    /// The reason phrase, empty if there is none or it is not ASCII.
    pub(crate) reason: String,
    /// Whether the version is HTTP/1.1 and not HTTP/1.0.
    pub(crate) http_1_1: bool,
    pub(crate) headers: Headers,
    /// Where in the input the head ends and the body, or the first frame, begins.
    pub(crate) end: usize,
}

/// Waits for the head of the final response, and skips interim ones.
#[derive(Debug)]
pub(crate) struct HeadReader {
    max_head: usize,
    max_headers: usize,
    /// Where the head begins that is being read.
    start: usize,
    lines: Lines,
}

impl HeadReader {
    pub(crate) fn new(max_head: usize, max_headers: usize) -> Self {
        Self { max_head, max_headers, start: 0, lines: Lines::new(0) }
    }

    /// The head of the final response, or `None` as long as it is incomplete. `input` is all that was received.
    pub(crate) fn read(&mut self, input: &[u8]) -> Result<Option<Head>, HandshakeError> {
        // All decisions are made on this part and nothing behind it, so that they do not depend on how much has
        // arrived beyond.
        let window = &input[..input.len().min(self.max_head)];
        let incomplete = || {
            let full = window.len() == self.max_head;
            if full { Err(HandshakeError::HeadTooLarge { limit: self.max_head }) } else { Ok(None) }
        };
        loop {
            match inspect_start(window.get(self.start..).unwrap_or_default()) {
                Start::Http => {}
                Start::Unclear { .. } => return incomplete(),
                Start::Other(error) => return Err(error),
            }
            loop {
                match self.lines.next(window) {
                    Some(line) if line.is_empty() => break,
                    Some(_) => {}
                    None => return incomplete(),
                }
            }
            let end = self.lines.position();
            let head = parse(&window[self.start..end], end, self.max_headers)?;
            self.start = end;
            // 101 is final for us. RFC 9110 section 15.2 wants all other 1xx to be skipped, known or not.
            if head.status == 101 || head.status >= 200 {
                return Ok(Some(head));
            }
        }
    }

    /// The error if nothing follows `input`, for which [`read`](Self::read) needed more.
    pub(crate) fn finish_eof(&self, input: &[u8]) -> HandshakeError {
        match inspect_start(input.get(self.start..).unwrap_or_default()) {
            Start::Unclear { sample } if !sample.is_empty() => not_http(sample),
            _ => HandshakeError::ClosedEarly { received: input.len() },
        }
    }
}

/// What the beginning of a head looks like.
enum Start<'a> {
    /// HTTP/1, as far as can be seen.
    Http,
    /// Not HTTP/1. Waits for what completes the `sample` that is shown to the user.
    Unclear { sample: &'a [u8] },
    /// Not HTTP/1.
    Other(HandshakeError),
}

/// How many bytes of an answer that is not HTTP are shown.
const SAMPLE: usize = 16;

/// Recognises an answer that is not HTTP as soon as its first line or [`SAMPLE`] bytes have arrived. At the first
/// wrong byte would be sooner, but then what the user gets to see would depend on how the bytes were cut into reads.
fn inspect_start(bytes: &[u8]) -> Start<'_> {
    let expected = b"HTTP/1.";
    let length = bytes.len().min(expected.len());
    if bytes[..length] == expected[..length] {
        return Start::Http;
    }
    // A TLS alert is 7 bytes long, the first two say enough.
    if bytes.starts_with(&TLS_ALERT) {
        return Start::Other(not_http(&TLS_ALERT));
    }
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    match sample.iter().position(|&byte| byte == b'\n') {
        Some(feed) => Start::Other(not_http(&sample[..=feed])),
        None if sample.len() == SAMPLE => Start::Other(not_http(sample)),
        None => Start::Unclear { sample },
    }
}

/// Record type "alert" and the major version that all of SSL 3.0 to TLS 1.3 have (RFC 8446 section 5.1).
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

fn not_http(sample: &[u8]) -> HandshakeError {
    let peer = if sample.starts_with(&TLS_ALERT) {
        PeerProtocol::Tls
    } else if sample.starts_with(b"SSH-") {
        PeerProtocol::Ssh
    } else if sample.starts_with(b"HTTP/2") || matches!(sample, [0, 0, _, 4, 0, 0, 0, 0, 0, ..]) {
        // A server that knows HTTP/2 only begins with a SETTINGS frame on stream 0 (RFC 9113 sections 3.4, 6.5).
        PeerProtocol::Http2
    } else {
        PeerProtocol::Unknown
    };
    HandshakeError::NotHttp { first_bytes: sample.escape_ascii().to_string(), peer }
}

/// Parses a head that is complete, with its empty line. It ends at offset `end` of the input.
fn parse(head: &[u8], end: usize, max_headers: usize) -> Result<Head, HandshakeError> {
    // The shortest header is `a:` and a line feed. No more slots than that makes possible, whatever the limit is.
    let mut slots = vec![EMPTY_HEADER; max_headers.min(head.len() / 3)];
    let mut response = httparse::Response::new(&mut slots);
    let complete = response.parse(head).map_err(|error| explain(error, head, max_headers))?.is_complete();
    let (true, Some(minor), Some(status @ 100..)) = (complete, response.version, response.code) else {
        return Err(HandshakeError::Malformed("the status line is invalid"));
    };
    let mut headers = Headers::new();
    for header in response.headers.iter() {
        headers.append_received(header.name, header.value);
    }
    let reason = response.reason.unwrap_or_default().to_owned();
    Ok(Head { status, reason, http_1_1: minor == 1, headers, end })
}

fn explain(error: httparse::Error, head: &[u8], max_headers: usize) -> HandshakeError {
    use httparse::Error as E;
    let folded = || head.windows(2).any(|pair| matches!(pair, b"\n " | b"\n\t"));
    match error {
        E::TooManyHeaders => HandshakeError::TooManyHeaders { limit: max_headers },
        E::Version => HandshakeError::Malformed("its version is neither HTTP/1.0 nor HTTP/1.1"),
        E::Status => HandshakeError::Malformed("the status line is invalid"),
        // Folding was a way around checks of header values, and RFC 9112 section 5.2 has abolished it.
        E::HeaderName if folded() => HandshakeError::Malformed("a header is folded over several lines"),
        E::HeaderName => HandshakeError::Malformed("a header name is invalid"),
        E::HeaderValue => HandshakeError::Malformed("a header value has control characters"),
        _ => HandshakeError::Malformed("a line end is invalid"),
    }
}
