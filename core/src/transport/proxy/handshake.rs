//! What is said to a proxy, and what it answers, until its connection is ours.

use super::connect::Connect;
use super::socks::Socks;
use super::{Proxy, ProxyFault};
use crate::error::Disconnect;
use crate::ws::handshake::HandshakeOptions;

/// The conversation with a proxy, without I/O.
///
/// Write [`transmit`](Self::transmit), pass what arrives to [`receive`](Self::receive), and again, until that says where the server's bytes
/// begin. The outcome depends on the bytes alone, never on how they were cut into reads. No more is needed than twice
/// `max_head`, `max_body` and 64 bytes together (RFC 1928's answers have at most 266).
#[derive(Debug)]
pub struct ProxyHandshake {
    kind: Kind,
    out: Out,
}

#[derive(Debug)]
enum Kind {
    Connect(Connect),
    Socks(Socks),
}

/// Bytes to be written; `bytes[written..]` have not been.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    written: usize,
}

impl ProxyHandshake {
    /// Asks `proxy` for a connection to `host` (an IPv6 address without brackets) and `port`. Of the options it takes the limits and the
    /// `User-Agent`.
    ///
    /// # Errors
    /// [`ProxyFault::HostTooLong`] for a name of more than 255 bytes and a SOCKS5 proxy.
    pub fn new(proxy: &Proxy, host: &str, port: u16, options: &HandshakeOptions) -> Result<Self, ProxyFault> {
        let (kind, bytes) = if proxy.scheme.is_socks() {
            let (socks, bytes) = Socks::new(proxy, host, port)?;
            (Kind::Socks(socks), bytes)
        } else {
            let (connect, bytes) = Connect::new(proxy, host, port, options);
            (Kind::Connect(connect), bytes)
        };
        Ok(Self { kind, out: Out { bytes, written: 0 } })
    }

    /// Bytes for the proxy. They hold credentials: do not log them.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        &self.out.bytes[self.out.written..]
    }

    /// Says that the first `len` bytes of [`transmit`](Self::transmit) were written.
    pub fn handle_transmitted(&mut self, len: usize) {
        self.out.written = self.out.written.saturating_add(len).min(self.out.bytes.len());
        if self.out.written == self.out.bytes.len() {
            self.out = Out::default();
        }
    }

    /// Takes note of what has arrived. `input` is all of it so far: each call passes what the one before passed, and more. Says how
    /// many of its bytes were the proxy's once the connection stands; what comes behind them is the server's. That is final, as is an
    /// error.
    ///
    /// # Errors
    /// [`ProxyFault`]: the connection is of no further use then.
    pub fn receive(&mut self, input: &[u8]) -> Result<Option<usize>, ProxyFault> {
        match &mut self.kind {
            Kind::Connect(connect) => connect.receive(input),
            Kind::Socks(socks) => socks.receive(input, &mut self.out.bytes),
        }
    }

    /// Says what it means that the connection ended, for this cause, after `input`. If a refusal had begun to arrive, it is that.
    pub fn finish(&mut self, input: &[u8], cause: Disconnect) -> ProxyFault {
        match &mut self.kind {
            Kind::Connect(connect) => connect.finish(input, cause),
            Kind::Socks(socks) => socks.finish(input, cause),
        }
    }

    /// Sends nothing more.
    pub(crate) fn silence(&mut self) {
        self.out = Out::default();
    }
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} bytes>", self.bytes.len() - self.written)
    }
}
