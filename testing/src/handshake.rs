//! Answering the upgrade request, well or badly (RFC 6455 section 4.2).

use std::time::Duration;

use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::server::{Request, create_response};
use tungstenite::http::StatusCode;

use crate::shared::Config;

/// What goes wrong in the opening handshake.
///
/// Except for [`Delay`](Self::Delay), a connection with a fault does not count as accepted. Except for
/// [`Silent`](Self::Silent), the fault comes after the request has been read, and inside TLS where there is TLS. On a
/// server with [`http`](crate::MockServerBuilder::http) handlers faults are for upgrade requests alone, and `Silent` too
/// comes after the request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeFault {
    /// Answer with this HTTP status and end the connection.
    Status {
        /// The status code, such as 503; any number is sent.
        code: u16,
        /// Headers besides `Content-Length` and `Connection`, such as `Retry-After`.
        headers: Vec<(String, String)>,
        /// The response's body.
        body: Vec<u8>,
    },
    /// Answer well, but only after this time.
    Delay(Duration),
    /// Answer 101 with a `Sec-WebSocket-Accept` that does not belong to the client's key.
    WrongAccept,
    /// Answer 101 with this `Sec-WebSocket-Extensions`, whether the client offered it or not. To negotiate one that it
    /// offered use [`response_header`](crate::MockServerBuilder::response_header).
    BadExtension(String),
    /// Answer 101 with this `Sec-WebSocket-Protocol`, whether the client asked for it or not.
    BadSubprotocol(String),
    /// Accept the TCP connection and never send a byte, not even for TLS.
    Silent,
    /// Answer with these bytes and end the connection.
    Raw(Vec<u8>),
    /// Answer with a redirect and end the connection.
    Redirect {
        /// The status code, such as 302 or 307.
        status: u16,
        /// The `Location` header.
        location: String,
    },
    /// End the TCP connection with a RST instead of answering.
    Reset,
}

impl HandshakeFault {
    /// A [`Status`](Self::Status) without headers and body.
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new(), body: Vec::new() }
    }

    /// A [`Status`](Self::Status) with headers and a body.
    ///
    /// ```
    /// use everwire_testing::{HandshakeFault, MockServer};
    ///
    /// let busy = HandshakeFault::status_with(429, &[("Retry-After", "2")], "slow down");
    /// let server = MockServer::builder().handshake_for(3, busy).start();
    /// ```
    pub fn status_with(code: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::Status { code, headers, body: body.into() }
    }
}

/// The good answer. An error is the reason and the bad answer.
pub(crate) fn accept(request: &Request, config: &Config) -> Result<Vec<u8>, (String, Vec<u8>)> {
    if let Err(error) = create_response(request) {
        let why = error.to_string();
        return Err((format!("not an upgrade request: {why}"), refusal(400, &[], why.as_bytes())));
    }
    let mut response = switching_protocols(&accept_key(request));
    if let Some(subprotocol) = choose_subprotocol(request, &config.subprotocols) {
        push_header(&mut response, "Sec-WebSocket-Protocol", subprotocol);
    }
    for (name, value) in &config.response_headers {
        push_header(&mut response, name, value);
    }
    response.extend_from_slice(b"\r\n");
    Ok(response)
}

/// The answer that the fault asks for; `None` for a fault that is not an answer.
pub(crate) fn bad_answer(fault: &HandshakeFault, request: &Request) -> Option<Vec<u8>> {
    Some(match fault {
        HandshakeFault::Status { code, headers, body } => {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            refusal(*code, &headers, body)
        }
        HandshakeFault::Redirect { status, location } => refusal(*status, &[("Location", location)], b""),
        HandshakeFault::Raw(bytes) => bytes.clone(),
        HandshakeFault::WrongAccept => {
            let mut response = switching_protocols(&derive_accept_key(b"not the key of the client"));
            response.extend_from_slice(b"\r\n");
            response
        }
        HandshakeFault::BadExtension(extension) => {
            switching_protocols_with(request, "Sec-WebSocket-Extensions", extension)
        }
        HandshakeFault::BadSubprotocol(protocol) => {
            switching_protocols_with(request, "Sec-WebSocket-Protocol", protocol)
        }
        HandshakeFault::Delay(_) | HandshakeFault::Silent | HandshakeFault::Reset => return None,
    })
}

/// A complete response after which the connection ends.
pub(crate) fn refusal(code: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let reason =
        StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or("Unknown");
    let mut response = format!("HTTP/1.1 {code} {reason}\r\n").into_bytes();
    for (name, value) in headers {
        push_header(&mut response, name, value);
    }
    push_header(&mut response, "Content-Length", &body.len().to_string());
    push_header(&mut response, "Connection", "close");
    response.extend_from_slice(b"\r\n");
    response.extend_from_slice(body);
    response
}

fn switching_protocols(accept: &str) -> Vec<u8> {
    let mut response = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    push_header(&mut response, "Connection", "Upgrade");
    push_header(&mut response, "Upgrade", "websocket");
    push_header(&mut response, "Sec-WebSocket-Accept", accept);
    response
}

/// The good answer to the client's key, with one header that it did not ask for.
fn switching_protocols_with(request: &Request, name: &str, value: &str) -> Vec<u8> {
    let mut response = switching_protocols(&accept_key(request));
    push_header(&mut response, name, value);
    response.extend_from_slice(b"\r\n");
    response
}

fn accept_key(request: &Request) -> String {
    derive_accept_key(request.headers().get("Sec-WebSocket-Key").map_or(&[][..], |key| key.as_bytes()))
}

fn push_header(response: &mut Vec<u8>, name: &str, value: &str) {
    response.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
}

/// The first of the server's subprotocols that the client asks for (RFC 6455 section 4.2.2).
fn choose_subprotocol<'a>(request: &Request, ours: &'a [String]) -> Option<&'a str> {
    let theirs: Vec<&str> = request
        .headers()
        .get_all("Sec-WebSocket-Protocol")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    ours.iter().map(String::as_str).find(|our| theirs.contains(our))
}
