//! The opening handshake of a client (RFC 6455 section 4), without I/O.
//!
//! ```text
//!   Handshake::new ---- request() ---> peer
//!        |
//!        v                 1xx: skipped
//!   response head <---------------------------+
//!        |                                    |
//!        +-- not HTTP, malformed, too large --|--> Err
//!        +-- 100, 102, 103 -------------------+
//!        +-- 101 --> checks of section 4.1 ------> Accepted, or Err
//!        +-- 301, 302, 303, 307, 308 ------------> Redirect, or Err
//!        +-- any other --> response body --------> Err(Refused)
//! ```
//!
//! The outcome depends on the bytes alone, never on how they were cut into reads. Each byte is looked at once, and no
//! peer can make it keep more than [`HandshakeOptions::max_head`] and [`HandshakeOptions::max_body`] allow.

mod body;
mod error;
mod lines;
mod request;
mod response;
mod retry_after;
mod upgrade;

#[cfg(test)]
mod tests;

use std::fmt;

use tungstenite::handshake::derive_accept_key;

pub(crate) use self::body::BodyReader;
pub(crate) use self::error::excerpt;
pub use self::error::{HandshakeError, PeerProtocol, Refused};
pub use self::request::HandshakeOptions;
pub(crate) use self::request::{USER_AGENT, may_be_token};
pub(crate) use self::response::{Head, HeadReader};
pub use self::retry_after::RetryAfter;
use crate::ws::deflate::DeflateParams;
use crate::ws::headers::{HeaderError, Headers};
use crate::ws::target::Target;

/// One attempt to turn a connection into a WebSocket.
///
/// Send [`request`](Self::request), then pass what arrives to [`receive`](Self::receive) until it answers something
/// other than [`Progress::NeedMore`].
pub struct Handshake {
    target: Target,
    options: HandshakeOptions,
    request: Vec<u8>,
    /// The only right value of `Sec-WebSocket-Accept`.
    accept: String,
    phase: Phase,
    upgraded: Option<Upgraded>,
}

impl Handshake {
    /// Prepares a request for `target`. `nonce` must be random and must not be used for another connection (RFC 6455
    /// section 4.1); everything else follows from the arguments.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] as [`HandshakeOptions::validate`] has it.
    pub fn new(target: &Target, options: &HandshakeOptions, nonce: [u8; 16]) -> Result<Self, HeaderError> {
        let key = request::encode_key(nonce);
        Ok(Self {
            request: request::encode(target, options, &key)?,
            accept: derive_accept_key(key.as_bytes()),
            target: target.clone(),
            options: options.clone(),
            phase: Phase::Head(HeadReader::new(options.max_head, options.max_headers)),
            upgraded: None,
        })
    }

    /// The bytes to send. They hold the credentials and tokens of the request: do not log them.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes note of what has arrived.
    ///
    /// `input` is all that was received on this connection so far: each call passes what the one before passed, and
    /// more. Once the answer is not [`Progress::NeedMore`] it is final, and further calls repeat it.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; the connection is of no further use then.
    pub fn receive(&mut self, input: &[u8]) -> Result<Progress, HandshakeError> {
        loop {
            let next = match &mut self.phase {
                Phase::Head(reader) => match reader.read(input) {
                    Ok(Some(head)) => self.judge(head),
                    Ok(None) => return Ok(Progress::NeedMore),
                    Err(error) => Phase::Done(Err(error)),
                },
                Phase::Body { refused, body } => {
                    if !body.read(input) {
                        return Ok(Progress::NeedMore);
                    }
                    refused.body = body.take();
                    Phase::Done(Err(HandshakeError::Refused(refused.clone())))
                }
                Phase::Done(outcome) => return outcome.clone(),
            };
            self.phase = next;
        }
    }

    /// Says what it means that the connection ended after `input`, which is all that was received on it.
    ///
    /// For a connection that ends while [`receive`](Self::receive) still needs more. If a refusal had begun to arrive,
    /// this is the refusal with as much of its body as there is. A caller that runs out of patience may ask as well:
    /// an answer other than [`HandshakeError::ClosedEarly`] tells more than "timed out".
    pub fn finish_eof(&mut self, input: &[u8]) -> HandshakeError {
        if let Err(error) = self.receive(input) {
            return error;
        }
        let error = match &mut self.phase {
            Phase::Head(reader) => reader.finish_eof(input),
            Phase::Body { refused, body } => {
                refused.body = body.take();
                HandshakeError::Refused(refused.clone())
            }
            Phase::Done(_) => return HandshakeError::ClosedEarly { received: input.len() },
        };
        self.phase = Phase::Done(Err(error.clone()));
        error
    }

    /// What was agreed on. `None` unless [`receive`](Self::receive) has answered [`Progress::Accepted`].
    #[must_use]
    pub fn into_upgraded(self) -> Option<Upgraded> {
        self.upgraded
    }

    /// What follows from a complete response head.
    fn judge(&mut self, head: Head) -> Phase {
        match head.status {
            101 => {
                let upgraded = upgrade::check(&head, &self.accept, &self.options);
                Phase::Done(upgraded.map(|upgraded| {
                    self.upgraded = Some(upgraded);
                    Progress::Accepted { consumed: head.end }
                }))
            }
            301 | 302 | 303 | 307 | 308 => {
                Phase::Done(self.redirect(&head).map(|location| Progress::Redirect { location }))
            }
            _ => {
                let body = BodyReader::new(&head, self.options.max_body, self.options.max_head);
                Phase::Body { refused: Box::new(Refused::new(head)), body }
            }
        }
    }

    fn redirect(&self, head: &Head) -> Result<Target, HandshakeError> {
        let status = head.status;
        let location = head.headers.first("location").ok_or(HandshakeError::MissingLocation { status })?;
        let location =
            self.target.join(location).map_err(|error| HandshakeError::BadLocation { status, error })?;
        if self.target.secure() && !location.secure() {
            return Err(HandshakeError::InsecureRedirect { location: Box::new(location) });
        }
        Ok(location)
    }
}

/// Shows where to and how far, not the request, which holds secrets.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("target", &self.target)
            .field("options", &self.options)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// How far a handshake has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing can be said before more bytes arrive.
    NeedMore,
    /// The connection is a WebSocket now.
    Accepted {
        /// Length of the response in bytes. What was received beyond it are the first frames.
        consumed: usize,
    },
    /// The server wants the handshake to be made elsewhere, on a new connection.
    ///
    /// The caller counts redirects, and makes the options of the next handshake with
    /// [`HandshakeOptions::for_redirect`], so that no secret goes to another origin.
    Redirect {
        /// Where to. Never `ws` if this handshake was `wss`.
        location: Target,
    },
}

/// What a successful handshake has agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upgraded {
    /// All headers of the response.
    pub headers: Headers,
    /// The subprotocol that the server chose. `None` if it chose none, be it that none was offered; whether the
    /// session can do without is for the caller to decide.
    pub subprotocol: Option<String>,
    /// The parameters of permessage-deflate, if it was offered and accepted (RFC 7692).
    pub deflate: Option<DeflateParams>,
}

#[derive(Debug)]
enum Phase {
    /// Reading a response head.
    Head(HeadReader),
    /// Reading the body of a refusal.
    Body { refused: Box<Refused>, body: BodyReader },
    /// Settled.
    Done(Result<Progress, HandshakeError>),
}
