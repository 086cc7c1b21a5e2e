//! Everything between the bytes of a socket and those of a WebSocket.
//!
//! ```text
//!  socket ─► TLS to the proxy ─► the proxy's handshake, then nothing ─► TLS to the server ─► WebSocket
//!             https:// proxy      any proxy                              wss://
//! ```
//!
//! Each may be missing; if all are, there is no [`Way`]. The outermost that is there has the socket's bytes, the innermost gives the
//! WebSocket's. When the proxy's handshake is done it is dropped, and a way that then has no TLS left [is done](Way::is_done): the
//! socket's bytes are the WebSocket's own.
//!
//! Each part is as lazy as [`TlsStream`]: what nobody takes stays in the innermost, then in the next, and then the socket is not read.

#![cfg_attr(
    not(feature = "tls"),
    expect(
        clippy::needless_return,
        clippy::never_loop,
        clippy::needless_pass_by_ref_mut,
        reason = "what these look at has more to do with TLS"
    )
)]

use super::proxy::{Proxy, ProxyError, ProxyFault, ProxyHandshake};
#[cfg(feature = "tls")]
use super::tls::{TlsConfig, TlsStream};
use crate::error::{Disconnect, Error};
use crate::ws::Target;
use crate::ws::handshake::HandshakeOptions;
use std::fmt;

/// What lies between a socket and a WebSocket.
#[derive(Debug)]
pub(crate) struct Way {
    #[cfg(feature = "tls")]
    outer: Option<Box<TlsStream>>,
    tunnel: Option<Box<Tunnel>>,
    #[cfg(feature = "tls")]
    inner: Option<Box<TlsStream>>,
    /// The URL of the proxy, for errors; empty if there is none.
    proxy: String,
    /// The first error. Nothing is read after it.
    failure: Option<Error>,
}

impl Way {
    /// The way to `target`, by way of `proxy` if there is one and with TLS to the server if it is to be `secure`; `None` if nothing lies
    /// between.
    ///
    /// # Errors
    /// What is known before a byte is sent: [`Error::Tls`], [`Error::TlsNotBuilt`] and [`Error::Proxy`].
    pub(crate) fn new(
        target: &Target,
        secure: bool,
        proxy: Option<&Proxy>,
        options: &HandshakeOptions,
        #[cfg(feature = "tls")] tls: &TlsConfig,
    ) -> Result<Option<Self>, Error> {
        #[cfg(not(feature = "tls"))]
        if secure {
            return Err(Error::TlsNotBuilt);
        }
        if proxy.is_none() && !secure {
            return Ok(None);
        }
        let label = proxy.map(Proxy::to_string).unwrap_or_default();
        let tunnel = match proxy {
            Some(proxy) => {
                let handshake = ProxyHandshake::new(proxy, target.host(), target.port(), options)
                    .map_err(|fault| blame(&label, fault))?;
                Some(Box::new(Tunnel::new(handshake, options)))
            }
            None => None,
        };
        let mut way = Self {
            #[cfg(feature = "tls")]
            outer: match proxy.filter(|proxy| proxy.secure()) {
                Some(proxy) => {
                    let stream = TlsStream::new(proxy.tls_config(), proxy.host());
                    Some(Box::new(stream.map_err(|error| blame(&label, ProxyFault::Tls(error)))?))
                }
                None => None,
            },
            tunnel,
            #[cfg(feature = "tls")]
            inner: match secure.then(|| TlsStream::new(tls, target.host())) {
                Some(stream) => Some(Box::new(stream.map_err(Error::Tls)?)),
                None => None,
            },
            proxy: label,
            failure: None,
        };
        way.push();
        Ok(Some(way))
    }

    /// Where the next bytes of the socket go. Empty: do not read.
    #[inline]
    pub(crate) fn recv_buffer(&mut self) -> &mut [u8] {
        #[cfg(feature = "tls")]
        if let Some(outer) = &mut self.outer {
            return outer.recv_buffer();
        }
        if let Some(tunnel) = &mut self.tunnel {
            return tunnel.recv_buffer();
        }
        #[cfg(feature = "tls")]
        if let Some(inner) = &mut self.inner {
            return inner.recv_buffer();
        }
        &mut []
    }

    /// `len` bytes were read into [`recv_buffer`](Self::recv_buffer). It is only counted.
    #[inline]
    pub(crate) fn handle_received(&mut self, len: usize) {
        #[cfg(feature = "tls")]
        if let Some(outer) = &mut self.outer {
            return outer.handle_received(len);
        }
        if let Some(tunnel) = &mut self.tunnel {
            return tunnel.handle_received(len);
        }
        #[cfg(feature = "tls")]
        if let Some(inner) = &mut self.inner {
            inner.handle_received(len);
        }
    }

    /// Moves bytes of the WebSocket into `into`, as many as fit; 0 if there are none now. Call it after everything received, and look at
    /// [`transmit`](Self::transmit) after it.
    ///
    /// # Errors
    /// Why the way failed, once all bytes that came before have been taken; then always the same.
    pub(crate) fn read_plaintext(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.read(into);
        self.failure = result.as_ref().err().cloned();
        self.push();
        result
    }

    /// Takes bytes of the WebSocket; returns how many. None before the way is open, and none while too much waits for the socket.
    pub(crate) fn write_plaintext(&mut self, data: &[u8]) -> usize {
        if self.tunnel.is_some() {
            return 0;
        }
        #[cfg(feature = "tls")]
        if let Some(stream) = self.inner.as_mut().or(self.outer.as_mut()) {
            let accepted = stream.write_plaintext(data);
            self.push();
            return accepted;
        }
        let _ = data;
        0
    }

    /// Bytes for the socket.
    pub(crate) fn transmit(&self) -> &[u8] {
        #[cfg(feature = "tls")]
        if let Some(outer) = &self.outer {
            return outer.transmit();
        }
        if let Some(tunnel) = &self.tunnel {
            return tunnel.handshake.transmit();
        }
        #[cfg(feature = "tls")]
        if let Some(inner) = &self.inner {
            return inner.transmit();
        }
        &[]
    }

    /// The first `len` bytes of [`transmit`](Self::transmit) were written.
    pub(crate) fn handle_transmitted(&mut self, len: usize) {
        #[cfg(feature = "tls")]
        if let Some(outer) = &mut self.outer {
            outer.handle_transmitted(len);
            return self.push();
        }
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.handshake.handle_transmitted(len);
            return self.push();
        }
        #[cfg(feature = "tls")]
        if let Some(inner) = &mut self.inner {
            inner.handle_transmitted(len);
        }
    }

    /// Whether it is not open yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        #[cfg(feature = "tls")]
        if [&self.outer, &self.inner].into_iter().flatten().any(|stream| stream.is_handshaking()) {
            return true;
        }
        !self.stands()
    }

    /// Whether nothing is left of it: from here on the socket's bytes are the WebSocket's.
    pub(crate) fn is_done(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.outer.is_some() || self.inner.is_some() {
            return false;
        }
        self.tunnel.is_none()
    }

    /// Says goodbye where that is done: we shall send no more.
    pub(crate) fn close_notify(&mut self) {
        if let Some(tunnel) = self.tunnel.as_mut().filter(|tunnel| !tunnel.stands) {
            tunnel.handshake.silence();
        }
        #[cfg(feature = "tls")]
        {
            // From the inside out. What the server is to read comes before what the proxy is to read.
            if let Some(inner) = self.inner.as_mut().filter(|_| self.tunnel.is_none()) {
                inner.close_notify();
            }
            self.push();
            let rest = self.tunnel.is_none()
                && self.inner.as_ref().is_some_and(|inner| !inner.transmit().is_empty());
            if let Some(outer) = self.outer.as_mut().filter(|_| !rest) {
                outer.close_notify();
            }
        }
    }

    /// Whether the server, or the proxy, has said that nothing follows.
    pub(crate) fn peer_closed(&self) -> bool {
        #[cfg(feature = "tls")]
        if [&self.outer, &self.inner].into_iter().flatten().any(|stream| stream.peer_closed()) {
            return true;
        }
        false
    }

    /// Says that the socket ended, all that it delivered being taken. That is no error where the way need not end before the socket does.
    ///
    /// # Errors
    /// [`Error::Proxy`] if the proxy had not connected us yet, [`Error::Tls`] or that of the proxy for TLS that was cut.
    pub(crate) fn handle_end(&mut self, cause: &Disconnect) -> Result<(), Error> {
        if !self.stands() {
            #[cfg(feature = "tls")]
            if let Some(outer) = self.outer.as_mut().filter(|outer| outer.is_handshaking())
                && *cause == Disconnect::Eof
            {
                outer.handle_eof().map_err(|error| blame(&self.proxy, ProxyFault::Tls(error)))?;
            }
            return Err(self.ended(cause.clone()));
        }
        if *cause != Disconnect::Eof {
            return Ok(());
        }
        #[cfg(feature = "tls")]
        match (&mut self.inner, &mut self.outer) {
            (Some(inner), _) => inner.handle_eof().map_err(Error::Tls)?,
            (None, Some(outer)) => {
                outer.handle_eof().map_err(|error| blame(&self.proxy, ProxyFault::Tls(error)))?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Says that there is no more time. An error if that is the proxy's fault, or an answer of it lacks only its end.
    pub(crate) fn overdue(&mut self) -> Option<Error> {
        if self.stands() {
            return None;
        }
        Some(match self.ended(Disconnect::Eof) {
            Error::Proxy(ProxyError { proxy, fault: ProxyFault::Ended { .. } }) => {
                Error::Proxy(ProxyError { proxy, fault: ProxyFault::Timeout })
            }
            error => error,
        })
    }

    /// Whether the proxy has connected us, if there is one.
    fn stands(&self) -> bool {
        self.tunnel.as_ref().is_none_or(|tunnel| tunnel.stands)
    }

    fn ended(&mut self, cause: Disconnect) -> Error {
        let fault = match &mut self.tunnel {
            Some(tunnel) => tunnel.handshake.finish(&tunnel.input[..tunnel.tail], cause),
            None => ProxyFault::Ended { received: 0, cause },
        };
        blame(&self.proxy, fault)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if !self.stands() && !self.negotiate()? {
            return Ok(0);
        }
        #[cfg(feature = "tls")]
        if let Some(mut inner) = self.inner.take() {
            let result = self.decrypt(&mut inner, into);
            self.inner = Some(inner);
            return result;
        }
        self.pull(into)
    }

    /// Goes on with the proxy's handshake; whether it is done.
    fn negotiate(&mut self) -> Result<bool, Error> {
        let Some(tunnel) = &mut self.tunnel else { return Ok(true) };
        loop {
            let input = &tunnel.input[..tunnel.tail];
            if let Some(len) = tunnel.handshake.receive(input).map_err(|fault| blame(&self.proxy, fault))? {
                (tunnel.stands, tunnel.head) = (true, len);
                return Ok(true);
            }
            #[cfg(feature = "tls")]
            if let Some(outer) = &mut self.outer {
                let read = outer.read_plaintext(tunnel.recv_buffer());
                let len = read.map_err(|error| blame(&self.proxy, ProxyFault::Tls(error)))?;
                tunnel.handle_received(len);
                if len > 0 {
                    continue;
                }
            }
            return Ok(false);
        }
    }

    /// What the server's TLS gives, from all that there is for it.
    #[cfg(feature = "tls")]
    fn decrypt(&mut self, inner: &mut TlsStream, into: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        loop {
            let step = inner.read_plaintext(&mut into[filled..]).map_err(Error::Tls).and_then(|len| {
                filled += len;
                // It has no room as long as it has plaintext.
                let moved = self.pull(inner.recv_buffer())?;
                inner.handle_received(moved);
                Ok(moved)
            });
            match step {
                Ok(0) => return Ok(filled),
                Ok(_) => {}
                // What came before goes first; the error comes again.
                Err(_) if filled > 0 => return Ok(filled),
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves what comes out of the proxy's connection: first what came right behind its answer.
    fn pull(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if let Some(tunnel) = &mut self.tunnel {
            let len = tunnel.take(into);
            self.retire_tunnel();
            if len > 0 || self.tunnel.as_ref().is_some_and(|tunnel| tunnel.head < tunnel.tail) {
                return Ok(len);
            }
        }
        #[cfg(feature = "tls")]
        if let Some(outer) = &mut self.outer {
            return outer.read_plaintext(into).map_err(|error| blame(&self.proxy, ProxyFault::Tls(error)));
        }
        Ok(0)
    }

    /// Moves what is to be sent outwards, as far as it goes.
    fn push(&mut self) {
        #[cfg(feature = "tls")]
        if let Some(outer) = &mut self.outer {
            if let Some(tunnel) = &mut self.tunnel {
                let taken = outer.write_plaintext(tunnel.handshake.transmit());
                tunnel.handshake.handle_transmitted(taken);
            }
            if self.tunnel.as_ref().is_none_or(|tunnel| tunnel.is_silent())
                && let Some(inner) = &mut self.inner
            {
                loop {
                    let taken = outer.write_plaintext(inner.transmit());
                    if taken == 0 {
                        break;
                    }
                    inner.handle_transmitted(taken);
                }
            }
        }
        self.retire_tunnel();
    }

    /// Drops the proxy's handshake once all of it is done, and its bytes are passed on.
    fn retire_tunnel(&mut self) {
        self.tunnel.take_if(|tunnel| tunnel.is_silent() && tunnel.head == tunnel.tail);
    }
}

fn blame(proxy: &str, fault: ProxyFault) -> Error {
    Error::Proxy(ProxyError { proxy: proxy.to_owned(), fault })
}

/// The proxy's handshake, and what was received of it.
struct Tunnel {
    handshake: ProxyHandshake,
    /// All that was received until it was done. `input[head..tail]` is then what came behind it.
    input: Vec<u8>,
    head: usize,
    tail: usize,
    /// The proxy has connected us.
    stands: bool,
    /// The handshake needs no more than this many bytes to be settled.
    max: usize,
}

impl Tunnel {
    /// Room grows by so many bytes.
    const STEP: usize = 4096;

    fn new(handshake: ProxyHandshake, options: &HandshakeOptions) -> Self {
        let max = capacity(options);
        Self { handshake, input: Vec::new(), head: 0, tail: 0, stands: false, max }
    }

    fn recv_buffer(&mut self) -> &mut [u8] {
        if self.stands {
            // Until the rest of what we have to say to it is written, it passes on what comes.
            if self.head < self.tail {
                return &mut [];
            }
            (self.head, self.tail) = (0, 0);
        }
        if self.tail == self.input.len() {
            self.input.resize((self.tail + Self::STEP).min(self.max), 0);
        }
        &mut self.input[self.tail..]
    }

    fn handle_received(&mut self, len: usize) {
        self.tail = self.tail.saturating_add(len).min(self.input.len());
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let rest = &self.input[self.head..self.tail];
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        self.head += len;
        len
    }

    /// Whether it is done, and all of it was sent.
    fn is_silent(&self) -> bool {
        self.stands && self.handshake.transmit().is_empty()
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("handshake", &self.handshake)
            .field("stands", &self.stands)
            .field("behind", &(self.tail - self.head))
            .finish_non_exhaustive()
    }
}

/// How many bytes of answer settle any handshake: a head, the part of a body that is kept, and its framing, which may be as long as a head.
pub(crate) fn capacity(options: &HandshakeOptions) -> usize {
    (2 * options.max_head + options.max_body + 64).max(512)
}
