//! HTTP CONNECT (RFC 9110 section 9.3.6).

use super::{Proxy, ProxyFault, authority};
use crate::error::Disconnect;
use crate::ws::handshake::{
    BodyReader, HandshakeError, HandshakeOptions, Head, HeadReader, Refused, USER_AGENT,
};

/// The answer to a CONNECT request, as it comes.
pub(super) struct Connect {
    phase: Phase,
    max_body: usize,
    max_head: usize,
    /// What must not be shown, should the proxy repeat it.
    secrets: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Phase {
    Head(HeadReader),
    /// Reading the body of a refusal.
    Body {
        refused: Box<Refused>,
        body: BodyReader,
    },
    Done(Result<usize, ProxyFault>),
}

impl Connect {
    /// With the request.
    pub(super) fn new(proxy: &Proxy, host: &str, port: u16, options: &HandshakeOptions) -> (Self, Vec<u8>) {
        let basic = proxy.credentials.as_ref().map(super::Credentials::basic);
        let request = request(proxy, &authority(host, port), basic.as_deref(), options);
        let password = proxy.credentials.as_ref().map(|credentials| credentials.password.clone());
        let headers = proxy.headers.iter().filter(|(name, _)| crate::ws::Headers::is_secret(name));
        let secrets = basic.map(String::into_bytes).into_iter().chain(password);
        let secrets = secrets.chain(headers.map(|(_, value)| value.as_bytes().to_vec()));
        let connect = Self {
            phase: Phase::Head(HeadReader::new(options.max_head, options.max_headers)),
            max_body: options.max_body,
            max_head: options.max_head,
            secrets: secrets.filter(|secret| !secret.is_empty()).collect(),
        };
        (connect, request)
    }

    /// Length of the answer once it is a good one. `input` is all that was received.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<Option<usize>, ProxyFault> {
        loop {
            let next = match &mut self.phase {
                Phase::Head(reader) => match reader.read(input) {
                    Ok(Some(head)) => self.judge(head),
                    Ok(None) => return Ok(None),
                    Err(error) => Phase::Done(Err(fault(error))),
                },
                Phase::Body { body, .. } => {
                    if !body.read(input) {
                        return Ok(None);
                    }
                    Phase::Done(Err(self.refused()))
                }
                Phase::Done(outcome) => return outcome.clone().map(Some),
            };
            self.phase = next;
        }
    }

    /// What it means that nothing follows `input`.
    pub(super) fn finish(&mut self, input: &[u8], cause: Disconnect) -> ProxyFault {
        if let Err(fault) = self.receive(input) {
            return fault;
        }
        let ended = ProxyFault::Ended { received: input.len(), cause };
        let fault = match &self.phase {
            Phase::Head(reader) => match reader.finish_eof(input) {
                HandshakeError::ClosedEarly { .. } => ended,
                error => fault(error),
            },
            Phase::Body { .. } => self.refused(),
            Phase::Done(_) => return ended,
        };
        self.phase = Phase::Done(Err(fault.clone()));
        fault
    }

    fn judge(&self, head: Head) -> Phase {
        // Whatever length such an answer says that it has: there is none to it.
        if matches!(head.status, 200..=299) {
            return Phase::Done(Ok(head.end));
        }
        let body = BodyReader::new(&head, self.max_body, self.max_head);
        let mut refused = Refused::new(head);
        let hides = |text: &str| repeats(&self.secrets, text.as_bytes());
        if hides(&refused.reason) {
            refused.reason.clear();
        }
        refused.headers.retain(|name, value| !hides(name) && !hides(value));
        Phase::Body { refused: Box::new(refused), body }
    }

    /// The refusal, with as much of its body as was read.
    fn refused(&mut self) -> ProxyFault {
        let Phase::Body { refused, body } = &mut self.phase else {
            unreachable!("only a body that is read ends")
        };
        refused.body = body.take();
        if repeats(&self.secrets, &refused.body) {
            refused.body.clear();
        }
        ProxyFault::Refused(refused.clone())
    }
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("phase", &self.phase).finish_non_exhaustive()
    }
}

/// Whether a text of the proxy's has one of our secrets in it.
fn repeats(secrets: &[Vec<u8>], text: &[u8]) -> bool {
    secrets.iter().any(|secret| text.windows(secret.len()).any(|part| part == &secret[..]))
}

fn request(proxy: &Proxy, authority: &str, basic: Option<&str>, options: &HandshakeOptions) -> Vec<u8> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\n");
    // Nothing here has a line end in it: hosts are those of URLs, headers are checked.
    let mut line = |name: &str, value: &str| request.extend([name, ": ", value, "\r\n"]);
    line("Host", authority);
    if let Some(basic) = basic
        && !proxy.headers.contains("proxy-authorization")
    {
        line("Proxy-Authorization", &format!("Basic {basic}"));
    }
    if !proxy.headers.contains("user-agent") {
        line("User-Agent", options.headers.first("user-agent").unwrap_or(USER_AGENT));
    }
    proxy.headers.iter().for_each(|(name, value)| line(name, value));
    request.push_str("\r\n");
    request.into_bytes()
}

/// What the reader of the head says of a server, said of a proxy.
fn fault(error: HandshakeError) -> ProxyFault {
    match error {
        HandshakeError::NotHttp { first_bytes, peer } => ProxyFault::NotHttp { first_bytes, peer },
        HandshakeError::Malformed(what) => ProxyFault::Malformed(what),
        HandshakeError::HeadTooLarge { limit } => ProxyFault::HeadTooLarge { limit },
        HandshakeError::TooManyHeaders { limit } => ProxyFault::TooManyHeaders { limit },
        HandshakeError::ClosedEarly { received } => ProxyFault::Ended { received, cause: Disconnect::Eof },
        _ => ProxyFault::Malformed("it cannot be understood"),
    }
}
