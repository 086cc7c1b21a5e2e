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
    secrets: Secrets,
}

/// What must not be shown, should the proxy repeat it. None is empty.
struct Secrets(Vec<Vec<u8>>);

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
        // Without the padding they are the same credentials.
        let basic = basic.map(|basic| basic.trim_end_matches('=').as_bytes().to_vec());
        let secrets = basic.into_iter().chain(password);
        let secrets = secrets.chain(headers.map(|(_, value)| value.as_bytes().to_vec()));
        let connect = Self {
            phase: Phase::Head(HeadReader::new(options.max_head, options.max_headers)),
            max_body: options.max_body,
            max_head: options.max_head,
            secrets: Secrets(secrets.filter(|secret| !secret.is_empty()).collect()),
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
                    Err(error) => Phase::Done(Err(self.secrets.fault(error))),
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
                error => self.secrets.fault(error),
            },
            Phase::Body { .. } => self.refused(),
            Phase::Done(_) => return ended,
        };
        self.phase = Phase::Done(Err(fault.clone()));
        fault
    }

    fn judge(&self, mut head: Head) -> Phase {
        // Whatever length such an answer says that it has: there is none to it.
        if matches!(head.status, 200..=299) {
            return Phase::Done(Ok(head.end));
        }
        let body = BodyReader::new(&head, self.max_body, self.max_head);
        if self.secrets.are_in(head.reason.as_bytes()) {
            head.reason.clear();
        }
        let shown = |part: &str| !self.secrets.are_in(part.as_bytes());
        head.headers.retain(|name, value| shown(name) && shown(value));
        Phase::Body { refused: Box::new(Refused::new(head)), body }
    }

    /// The refusal, with as much of its body as was read.
    fn refused(&mut self) -> ProxyFault {
        let Phase::Body { refused, body } = &mut self.phase else {
            unreachable!("only a body that is read ends")
        };
        refused.body = body.take();
        if self.secrets.are_in(&refused.body) {
            refused.body.clear();
        }
        ProxyFault::Refused(refused.clone())
    }
}

impl Secrets {
    /// Whether one of them is in `text`, or what is the beginning of one is its end, as it may have been cut there.
    fn are_in(&self, text: &[u8]) -> bool {
        self.0.iter().any(|secret| {
            let cut = SHORTEST.min(secret.len())..secret.len();
            text.windows(secret.len()).any(|part| part == &secret[..])
                || cut.into_iter().any(|len| text.ends_with(&secret[..len]))
        })
    }

    /// What the reader of the head says of a server, said of a proxy.
    fn fault(&self, error: HandshakeError) -> ProxyFault {
        match error {
            HandshakeError::NotHttp { mut first_bytes, peer } => {
                if self.share_a_part_with(&first_bytes) {
                    first_bytes.clear();
                }
                ProxyFault::NotHttp { first_bytes, peer }
            }
            HandshakeError::Malformed(what) => ProxyFault::Malformed(what),
            HandshakeError::HeadTooLarge { limit } => ProxyFault::HeadTooLarge { limit },
            HandshakeError::TooManyHeaders { limit } => ProxyFault::TooManyHeaders { limit },
            HandshakeError::ClosedEarly { received } => {
                ProxyFault::Ended { received, cause: Disconnect::Eof }
            }
            _ => ProxyFault::Malformed("it cannot be understood"),
        }
    }

    /// Whether a part of one, escaped as `sample` is, is in that: it is so short that it may have been cut on both sides.
    fn share_a_part_with(&self, sample: &str) -> bool {
        self.0.iter().any(|secret| {
            let secret = secret.escape_ascii().to_string();
            let mut parts = secret.as_bytes().windows(SHORTEST.min(secret.len()));
            parts.any(|part| sample.as_bytes().windows(part.len()).any(|shown| shown == part))
        })
    }
}

/// Bytes of a secret that are taken for a part of it: what is shorter than that may be anything.
const SHORTEST: usize = 4;

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("phase", &self.phase).finish_non_exhaustive()
    }
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
