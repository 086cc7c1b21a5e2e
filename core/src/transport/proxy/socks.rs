//! SOCKS5 (RFC 1928), with user name and password (RFC 1929).
//!
//! ```text
//!  us     05 n methods                05 01 00 type address port
//!  proxy               05 method                                 05 reply 00 type address port
//!                        └ 02:  01 n user n password
//!                               version status ┘
//! ```

use super::{Proxy, ProxyFault};
use crate::error::Disconnect;
use std::net::IpAddr;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_PASSWORD: u8 = 2;
const NO_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// The conversation with a SOCKS5 proxy.
pub(super) struct Socks {
    state: State,
    /// Where the answer begins that is awaited.
    at: usize,
    /// User name and password, as they are sent.
    credentials: Option<Vec<u8>>,
    /// The request to connect.
    request: Vec<u8>,
}

#[derive(Debug, Clone)]
enum State {
    Method,
    Credentials,
    Reply,
    Done(Result<usize, ProxyFault>),
}

impl Socks {
    /// With what is said first.
    pub(super) fn new(proxy: &Proxy, host: &str, port: u16) -> Result<(Self, Vec<u8>), ProxyFault> {
        let request = request(host, port)?;
        let credentials = proxy.credentials.as_ref().map(|credentials| {
            let mut message = vec![1];
            for part in [&credentials.user, &credentials.password] {
                // Not longer than 255 bytes: checked when they were set.
                message.push(part.len() as u8);
                message.extend_from_slice(part);
            }
            message
        });
        let methods: &[u8] =
            if credentials.is_some() { &[NO_AUTHENTICATION, USER_PASSWORD] } else { &[NO_AUTHENTICATION] };
        let greeting = [&[VERSION, methods.len() as u8], methods].concat();
        Ok((Self { state: State::Method, at: 0, credentials, request }, greeting))
    }

    /// Length of all answers together, once the last one is a good one. `input` is all that was received; what is to be said next
    /// goes to `out`.
    pub(super) fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, ProxyFault> {
        loop {
            let answer = input.get(self.at..).unwrap_or_default();
            let next = match &self.state {
                State::Method => self.method(answer, out),
                State::Credentials => self.verdict(answer, out),
                State::Reply => reply(answer).map(|len| len.map(|len| State::Done(Ok(self.at + len)))),
                State::Done(outcome) => return outcome.clone().map(Some),
            };
            match next {
                Ok(Some(state)) => self.state = state,
                Ok(None) => return Ok(None),
                Err(fault) => self.state = State::Done(Err(fault)),
            }
        }
    }

    /// What it means that nothing follows `input`.
    pub(super) fn finish(&mut self, input: &[u8], cause: Disconnect) -> ProxyFault {
        let fault = match &self.state {
            State::Done(Err(fault)) => fault.clone(),
            _ => ProxyFault::Ended { received: input.len(), cause },
        };
        self.state = State::Done(Err(fault.clone()));
        fault
    }

    fn method(&mut self, answer: &[u8], out: &mut Vec<u8>) -> Result<Option<State>, ProxyFault> {
        check_version(answer)?;
        let Some(&method) = answer.get(1) else { return Ok(None) };
        self.at += 2;
        match (method, &self.credentials) {
            (NO_AUTHENTICATION, _) => {
                out.extend_from_slice(&self.request);
                Ok(Some(State::Reply))
            }
            (USER_PASSWORD, Some(credentials)) => {
                out.extend_from_slice(credentials);
                Ok(Some(State::Credentials))
            }
            (NO_ACCEPTABLE, credentials) => Err(ProxyFault::NoMethod { credentials: credentials.is_some() }),
            (method, _) => Err(ProxyFault::Method(method)),
        }
    }

    /// The version of this answer should be 1. Some proxies say 5, and none means anything else by it, so it does not matter.
    fn verdict(&mut self, answer: &[u8], out: &mut Vec<u8>) -> Result<Option<State>, ProxyFault> {
        match answer.get(1) {
            None => Ok(None),
            Some(0) => {
                self.at += 2;
                out.extend_from_slice(&self.request);
                Ok(Some(State::Reply))
            }
            Some(&status) => Err(ProxyFault::CredentialsRefused { status }),
        }
    }
}

impl std::fmt::Debug for Socks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socks").field("state", &self.state).finish_non_exhaustive()
    }
}

fn check_version(answer: &[u8]) -> Result<(), ProxyFault> {
    match answer.first() {
        Some(&version) if version != VERSION => Err(ProxyFault::NotSocks { version }),
        _ => Ok(()),
    }
}

/// The request to connect. An address goes as one, a name is for the proxy to resolve.
fn request(host: &str, port: u16) -> Result<Vec<u8>, ProxyFault> {
    let mut request = vec![VERSION, CONNECT, 0];
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            request.push(IPV4);
            request.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(IPV6);
            request.extend(ip.octets());
        }
        Err(_) => {
            let len = u8::try_from(host.len()).map_err(|_| ProxyFault::HostTooLong { len: host.len() })?;
            request.extend([DOMAIN, len]);
            request.extend(host.as_bytes());
        }
    }
    request.extend(port.to_be_bytes());
    Ok(request)
}

/// Length of the answer to the request, if it is complete. A refusal need not be: some proxies end in the middle of it.
fn reply(answer: &[u8]) -> Result<Option<usize>, ProxyFault> {
    check_version(answer)?;
    match answer.get(1) {
        None => return Ok(None),
        Some(0) => {}
        Some(&code) => return Err(ProxyFault::Reply(code)),
    }
    let address = match (answer.get(3), answer.get(4)) {
        (None, _) | (Some(&DOMAIN), None) => return Ok(None),
        (Some(&IPV4), _) => 4,
        (Some(&IPV6), _) => 16,
        (Some(&DOMAIN), Some(&len)) => 1 + usize::from(len),
        (Some(&kind), _) => return Err(ProxyFault::AddressType(kind)),
    };
    let len = 4 + address + 2;
    Ok((answer.len() >= len).then_some(len))
}
