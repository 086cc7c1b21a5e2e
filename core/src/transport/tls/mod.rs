//! TLS for one connection, without I/O: ciphertext in, plaintext out, and the other way round.
//!
//! ```text
//!  socket --recv_buffer/handle_received--> [ciphertext] --rustls--> read_plaintext --> WebSocket
//!  socket <--transmit/handle_transmitted-- [ciphertext] <--rustls-- write_plaintext <-- WebSocket
//! ```
//!
//! A connection goes through these states, in this order:
//!
//! 1. Handshaking: [`TlsStream::new`] queues the ClientHello. Bytes go both ways; [`TlsStream::read_plaintext`] moves
//!    the handshake on and [`TlsStream::write_plaintext`] accepts nothing yet.
//! 2. Open: plaintext goes both ways. Key updates, session tickets and alerts are handled along the way.
//! 3. Closing: [`TlsStream::close_notify`] was called, the peer has sent it ([`TlsStream::peer_closed`]), or both.
//! 4. Failed: [`TlsStream::read_plaintext`] returns the error, after the plaintext that came before it. The alert that
//!    tells the peer is in [`TlsStream::transmit`].
//!
//! This is the one part of the crate whose bytes a seed does not decide: rustls takes random bytes and the time of day
//! (certificates expire, tickets age) from the operating system. Which plaintext comes out does not depend on them.
//!
//! Why rustls' buffered interface: its unbuffered one saves a copy of the ciphertext, which costs little next to
//! decrypting it, but writing there has to wait until everything received has been taken, which is the opposite of
//! what a client under backpressure needs.

use std::fmt;
use std::io::{BufRead, Read, Write};

use rustls::pki_types::ServerName;
use rustls::{
    ClientConnection, ContentType, Error as RustlsError, HandshakeKind, InvalidMessage, ProtocolVersion,
};

mod config;
mod error;

pub use self::config::{TlsConfig, TlsConfigError};
pub use self::error::{CertificateProblem, TlsAlert, TlsError};

/// Room for ciphertext that was received and not decrypted, in bytes.
const RECV_CAPACITY: usize = 32 * 1024;

/// The largest record on the wire (RFC 5246 section 6.2.3, which allows more than TLS 1.3): header and 2^14 + 2048.
const MAX_RECORD: usize = 5 + 16_384 + 2_048;

/// While so much ciphertext waits to be written, no more plaintext is accepted, in bytes. What is accepted below that
/// may exceed it by one record.
const TRANSMIT_LIMIT: usize = 64 * 1024;

/// The most plaintext that goes into one record (RFC 8446 section 5.1), in bytes.
const MAX_FRAGMENT: usize = 16_384;

/// The client's side of one TLS connection, over whatever carries its bytes.
///
/// Nothing here blocks, reads a socket or panics on what a peer sends. Memory is bounded: about 32 KiB for received
/// ciphertext, 64 KiB for a handshake message in pieces, and 160 KiB for ciphertext to be written.
pub struct TlsStream {
    connection: ClientConnection,
    /// Received ciphertext; `recv[recv_head..recv_tail]` has not been given to rustls. Initialised once.
    recv: Box<[u8]>,
    recv_head: usize,
    recv_tail: usize,
    /// The first bytes of the connection, to tell HTTP from TLS, and how many of them have come.
    greeting: [u8; 5],
    greeting_len: usize,
    /// Plaintext moved out of rustls' way at the end of the connection; `spill[spill_head..]` has not been taken.
    spill: Vec<u8>,
    spill_head: usize,
    /// Ciphertext to be written; `out[out_head..]` has not been.
    out: Vec<u8>,
    out_head: usize,
    close_notify_sent: bool,
    peer_closed: bool,
    /// The first fatal error. Nothing is decrypted or encrypted after it.
    failure: Option<TlsError>,
}

/// What the TLS handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeInfo {
    /// The protocol version: `TLS 1.3` or `TLS 1.2`.
    pub protocol: &'static str,
    /// The cipher suite by its name in the IANA registry, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The application protocol (ALPN, RFC 7301) the server chose, usually `http/1.1`; `None` if it chose none.
    pub alpn: Option<String>,
    /// Whether an earlier session was resumed, which saves the server's proof of identity (it was checked then).
    pub resumed: bool,
}

impl TlsStream {
    /// Begins a connection to `server_name`: a DNS name (international names in their `xn--` form) or an IP address,
    /// IPv6 without brackets. The ClientHello is in [`transmit`](Self::transmit) at once.
    ///
    /// # Errors
    /// [`TlsError::InvalidServerName`], what [`TlsConfig::client_config`] returns, [`TlsError::Config`] and
    /// [`TlsError::Local`].
    pub fn new(config: &TlsConfig, server_name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(server_name)
            .map_err(|_| TlsError::InvalidServerName(error::clip(server_name)))?
            .to_owned();
        let connection =
            ClientConnection::new(config.client_config()?, name).map_err(TlsError::from_rustls)?;
        let mut stream = Self {
            connection,
            recv: vec![0; RECV_CAPACITY].into_boxed_slice(),
            recv_head: 0,
            recv_tail: 0,
            greeting: [0; 5],
            greeting_len: 0,
            spill: Vec::new(),
            spill_head: 0,
            out: Vec::new(),
            out_head: 0,
            close_notify_sent: false,
            peer_closed: false,
            failure: None,
        };
        stream.collect_ciphertext();
        Ok(stream)
    }

    /// Where the next ciphertext goes: at least one full record (18 KiB) of room, or nothing while what was received
    /// before still waits to be taken with [`read_plaintext`](Self::read_plaintext). Then do not read: that is how a
    /// slow consumer slows the peer down.
    ///
    /// After the peer's `close_notify` or a failure there is room again; what comes then is dropped (RFC 8446
    /// section 6.1), so that a driver that waits for the end of the connection sees it.
    pub fn recv_buffer(&mut self) -> &mut [u8] {
        if self.plaintext_waits() || RECV_CAPACITY - self.recv_tail < MAX_RECORD {
            return &mut [];
        }
        &mut self.recv[self.recv_tail..]
    }

    /// Says that `len` bytes were read into [`recv_buffer`](Self::recv_buffer). Only counts;
    /// [`read_plaintext`](Self::read_plaintext) does the work.
    pub fn handle_received(&mut self, len: usize) {
        if self.is_over() {
            return;
        }
        let end = self.recv_tail.saturating_add(len).min(RECV_CAPACITY);
        let fresh = &self.recv[self.recv_tail..end];
        if self.greeting_len < self.greeting.len() {
            let wanted = fresh.len().min(self.greeting.len() - self.greeting_len);
            self.greeting[self.greeting_len..self.greeting_len + wanted].copy_from_slice(&fresh[..wanted]);
            self.greeting_len += wanted;
        }
        self.recv_tail = end;
    }

    /// Decrypts what was received and moves as much plaintext as fits into `into`; returns how much that was.
    ///
    /// `Ok(0)` means that there is nothing more now (or that `into` is empty): more must be received first, or the
    /// peer has closed ([`peer_closed`](Self::peer_closed)). Call it after everything received, during the handshake
    /// too, and look at [`transmit`](Self::transmit) after it: it may have answered.
    ///
    /// # Errors
    /// Why the connection failed, once all plaintext that came before has been taken; then always the same.
    pub fn read_plaintext(&mut self, into: &mut [u8]) -> Result<usize, TlsError> {
        let mut filled = 0;
        loop {
            filled += self.take_plaintext(&mut into[filled..]);
            if self.plaintext_waits() {
                return Ok(filled);
            }
            if let Some(failure) = &self.failure {
                return if filled == 0 { Err(failure.clone()) } else { Ok(filled) };
            }
            if !self.ciphertext_waits() {
                return Ok(filled);
            }
            self.decrypt_some();
        }
    }

    /// Encrypts `data` and queues it; returns how much of it was accepted.
    ///
    /// Accepts nothing before the handshake is complete, after [`close_notify`](Self::close_notify), after a failure,
    /// and while 64 KiB of ciphertext are waiting: so a slow socket backs up into the caller's buffer. Small pieces
    /// make small records; hand over together what is to be sent together.
    pub fn write_plaintext(&mut self, data: &[u8]) -> usize {
        if self.connection.is_handshaking() || self.close_notify_sent || self.failure.is_some() {
            return 0;
        }
        let mut accepted = 0;
        while accepted < data.len() && self.transmit().len() < TRANSMIT_LIMIT {
            let end = data.len().min(accepted + MAX_FRAGMENT);
            let before = self.transmit().len();
            let Ok(written) = self.connection.writer().write(&data[accepted..end]) else {
                // Only a connection that failed refuses, and then `failure` says so at the next read.
                break;
            };
            self.collect_ciphertext();
            // When the keys of TLS 1.2 are used up, rustls drops the data, sends close_notify and says nothing. The
            // record's type is in the clear there.
            if self.transmit().get(before).copied() == Some(u8::from(ContentType::Alert)) {
                self.close_notify_sent = true;
                // What the peer has sent is still good.
                self.decrypt_all();
                self.fail(TlsError::KeysExhausted);
                break;
            }
            if written == 0 {
                break;
            }
            accepted += written;
        }
        accepted
    }

    /// Ciphertext to be written to the socket: handshake, data, alerts. Empty means that there is nothing to write.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        &self.out[self.out_head..]
    }

    /// Says that the first `len` bytes of [`transmit`](Self::transmit) were written.
    pub fn handle_transmitted(&mut self, len: usize) {
        self.out_head = self.out_head.saturating_add(len).min(self.out.len());
        if self.out_head == self.out.len() {
            self.out.clear();
            self.out_head = 0;
        }
    }

    /// Whether the TLS handshake is not complete yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What the handshake agreed on; `None` until it is complete.
    #[must_use]
    pub fn handshake_info(&self) -> Option<HandshakeInfo> {
        if self.connection.is_handshaking() {
            return None;
        }
        let suite = self.connection.negotiated_cipher_suite()?.suite();
        Some(HandshakeInfo {
            protocol: match self.connection.protocol_version()? {
                ProtocolVersion::TLSv1_3 => "TLS 1.3",
                ProtocolVersion::TLSv1_2 => "TLS 1.2",
                _ => "TLS",
            },
            // rustls' name for what the registry calls TLS_AES_128_GCM_SHA256 is TLS13_AES_128_GCM_SHA256.
            cipher_suite: suite.as_str().unwrap_or("unknown").replacen("TLS13_", "TLS_", 1),
            alpn: self.connection.alpn_protocol().map(|name| error::clip(&String::from_utf8_lossy(name))),
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    /// Queues `close_notify`: we shall send no more (RFC 8446 section 6.1). Reading goes on. Calling it again, or after
    /// a fatal alert, does nothing.
    pub fn close_notify(&mut self) {
        self.close_notify_sent = true;
        self.connection.send_close_notify();
        self.collect_ciphertext();
    }

    /// Says that the socket delivers no more. Plaintext received before can still be taken.
    ///
    /// # Errors
    /// [`TlsError::HandshakeEof`] during the handshake, [`TlsError::Truncated`] if the peer had not sent
    /// `close_notify`, or why the connection had failed already. Many servers close without `close_notify` after the
    /// WebSocket close frames; whether that matters is for the caller to say.
    pub fn handle_eof(&mut self) -> Result<(), TlsError> {
        // The verdict may lie behind plaintext that nobody has taken yet.
        self.decrypt_all();
        if self.failure.is_none() && !self.peer_closed {
            let handshaking = self.connection.is_handshaking();
            self.fail(if handshaking { TlsError::HandshakeEof } else { TlsError::Truncated });
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Whether the peer's `close_notify` has come: nothing will follow the plaintext that is still to be taken.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Nothing that is received from now on counts.
    fn is_over(&self) -> bool {
        self.peer_closed || self.failure.is_some()
    }

    fn ciphertext_waits(&self) -> bool {
        self.recv_head < self.recv_tail
    }

    fn plaintext_waits(&mut self) -> bool {
        self.spill_head < self.spill.len() || matches!(self.connection.reader().fill_buf(), Ok([_, ..]))
    }

    /// Moves decrypted bytes into `into`, the older ones first.
    fn take_plaintext(&mut self, into: &mut [u8]) -> usize {
        let spilled = &self.spill[self.spill_head..];
        let from_spill = spilled.len().min(into.len());
        into[..from_spill].copy_from_slice(&spilled[..from_spill]);
        self.spill_head += from_spill;
        if self.spill_head < self.spill.len() {
            return from_spill;
        }
        if self.spill_head > 0 {
            (self.spill, self.spill_head) = (Vec::new(), 0);
        }
        // An error here is "nothing yet" (WouldBlock).
        from_spill + self.connection.reader().read(&mut into[from_spill..]).unwrap_or(0)
    }

    /// Gives rustls the next ciphertext and lets it work. Each call makes progress or ends the connection. Must not be
    /// called while plaintext waits in rustls, which then refuses ("received plaintext buffer full").
    fn decrypt_some(&mut self) {
        let mut ciphertext = &self.recv[self.recv_head..self.recv_tail];
        // rustls takes about 4 KiB at a time.
        let taken = match self.connection.read_tls(&mut ciphertext) {
            Ok(0) => Err("rustls takes no more".to_owned()),
            Ok(taken) => Ok(taken),
            // Its limit for a handshake message in pieces, 64 KiB: "message buffer full".
            Err(error) => Err(error.to_string()),
        };
        match taken {
            Ok(taken) => self.recv_head += taken,
            Err(why) => return self.fail(TlsError::Protocol(error::clip(&why))),
        }
        let result = self.connection.process_new_packets();
        // Handshake messages and, after an error, the alert that explains it.
        self.collect_ciphertext();
        match result {
            Ok(state) if state.peer_has_closed() => {
                self.peer_closed = true;
                self.discard_ciphertext();
            }
            Ok(_) => {}
            Err(error) => return self.fail(self.explain(error)),
        }
        if !self.ciphertext_waits() {
            self.discard_ciphertext();
        }
    }

    /// Decrypts everything received, setting the plaintext aside: at most what was buffered, so only for the end of a
    /// connection, after which nothing is received.
    fn decrypt_all(&mut self) {
        while self.ciphertext_waits() {
            // Takes what there is; the error at its end is "nothing yet" (WouldBlock).
            let _ = self.connection.reader().read_to_end(&mut self.spill);
            self.decrypt_some();
        }
    }

    /// Moves what rustls has queued to the end of `out`.
    fn collect_ciphertext(&mut self) {
        // Bytes written already are dropped when they are at least as many as those that have to move for it, so each
        // byte moves at most once.
        if self.connection.wants_write() && self.out_head >= self.out.len() - self.out_head {
            self.out.drain(..self.out_head);
            self.out_head = 0;
        }
        while self.connection.wants_write() {
            // A Vec takes everything and never fails; an error would repeat for ever.
            if self.connection.write_tls(&mut self.out).is_err() {
                break;
            }
        }
    }

    fn discard_ciphertext(&mut self) {
        self.recv_head = 0;
        self.recv_tail = 0;
    }

    /// Ends the connection; the first reason stays. Ciphertext to be written stays: it may explain to the peer.
    fn fail(&mut self, error: TlsError) {
        self.discard_ciphertext();
        self.failure.get_or_insert(error);
    }

    fn explain(&self, error: RustlsError) -> TlsError {
        let foreign = matches!(
            error,
            RustlsError::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion
            )
        );
        // Before the ServerHello nothing shows that the peer knows TLS; after it, such a record is damage.
        if foreign && self.connection.protocol_version().is_none() {
            // Its first byte alone may be what shows it.
            return TlsError::NotTls { http: b"HTTP/".starts_with(&self.greeting[..self.greeting_len]) };
        }
        TlsError::from_rustls(error)
    }
}

impl fmt::Debug for TlsStream {
    /// Shows states and numbers, no bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("handshaking", &self.is_handshaking())
            .field("undecrypted", &(self.recv_tail - self.recv_head))
            .field("transmit", &self.transmit().len())
            .field("close_notify_sent", &self.close_notify_sent)
            .field("peer_closed", &self.peer_closed)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
