//! One TCP connection, from the first byte to the last.
//!
//! ```text
//! Handshake ──► Open ──► Closing ──► Retired ──► (dropped)
//!     │           │         │            ▲
//!     └───────────┴─────────┴── failed ──┘
//! ```
//!
//! - `Handshake`: a proxy if there is one and TLS if the URL asks for it (together the `Way`), then HTTP.
//! - `Open`: frames both ways.
//! - `Closing`: our close frame is on its way, the peer's is awaited; messages still arrive.
//! - `Retired`: nothing more is expected from it, except the answer to a farewell, before our close frame; what is queued (a close frame,
//!   mostly) is flushed, input is thrown away, and the peer has until the deadline to end the connection. The session has long moved on.

use super::config::Terms;
use super::event::SendId;
use super::feed::Feed;
use super::liveness::Liveness;
use super::output::ConnId;
use super::sequence::Tracker;
use super::stall::Stall;
use super::{Config, Endpoint, Transport};
use crate::error::{Disconnect, Error, Timeout};
use crate::protocol::Context;
use crate::record::Left;
use crate::transport::proxy::Proxy;
use crate::transport::way::{self, Way};
use crate::ws::deflate::{Deflater, Inflater};
use crate::ws::frame::{PING, PONG};
use crate::ws::handshake::{self, Handshake, HandshakeError, HandshakeOptions, Upgraded};
use crate::ws::mask::MaskKeys;
use crate::ws::receiver::{Inbound, Place, Receiver};
use crate::ws::sender::Sender;
use crate::ws::{CloseCode, Target, close};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: ConnId,
    pub(crate) stage: Stage,
    pub(crate) receiver: Receiver,
    pub(crate) sender: Sender,
    pub(crate) liveness: Liveness,
    /// What its endpoint says of it.
    pub(crate) terms: Terms,
    /// Watches the numbers of all its messages, if the server numbers them through.
    pub(crate) tracker: Option<Box<dyn Tracker>>,
    /// What the server answered to the last authentication on it.
    pub(crate) granted: Granted,
    /// Which of the messages that wait to be written are not the user's, by their ordinals.
    pub(crate) own: VecDeque<u64>,
    /// The user's that were held back before, and may have overtaken each other: ordinal and id.
    pub(crate) users: VecDeque<(u64, SendId)>,
    /// When bytes last arrived.
    pub(crate) last_received: Instant,
    /// Since when the socket takes nothing.
    pub(crate) stall: Stall,
    /// What this stage must be over by; for `Open` see `liveness`.
    pub(crate) deadline: Option<Instant>,
    /// The TCP connection is gone; what had arrived is still to be taken.
    pub(crate) gone: Option<Disconnect>,
    /// What lies between the socket and the WebSocket, if anything does.
    pub(super) way: Option<Box<Way>>,
    /// The handshake's request, and how much of it was written.
    pub(super) request: Vec<u8>,
    pub(super) written: usize,
    /// Bytes of frames written so far.
    sent: u64,
    /// Pongs that wait to be written: how many bytes will have been written once each is out.
    pongs: VecDeque<u64>,
    lingers: bool,
    /// It is retired, and the answer to this farewell comes before our close frame.
    farewell: Option<u64>,
    /// What is to be told to a recorder, if there is one, and what was told last of what is left to be written.
    pub(super) notes: Option<Vec<Note>>,
    pub(super) told: Left,
    /// In a replay, what takes the place of a socket's bytes.
    pub(super) feed: Option<Box<Feed>>,
}

/// Something to be told to a recorder.
#[derive(Debug)]
pub(crate) enum Note {
    Request(Vec<u8>),
    Response(Vec<u8>),
    Fault { error: Error, late: bool },
}

/// Pongs that may wait, besides what the user may send.
const MAX_PONGS: usize = 500;
/// Bytes of the longest pong.
const MAX_PONG: usize = 131;

/// The result of an authentication: it may hold tokens.
pub(crate) struct Granted(pub(crate) Option<String>);

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Granted").field(&self.0.is_some()).finish()
    }
}

#[derive(Debug)]
pub(crate) enum Stage {
    Handshake(Box<Handshake>),
    Open,
    Closing,
    Retired,
}

/// What came of a step.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing, until more bytes arrive.
    Idle,
    /// The handshake is complete.
    Upgraded(Box<Upgraded>),
    Redirect(Box<Target>),
    Inbound(Inbound),
    /// The connection is of no more use. It is retired already.
    Failed(Error),
}

/// What a connection is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// By way of which the endpoint is reached.
    pub(crate) proxy: Option<&'a Proxy>,
    pub(crate) options: &'a HandshakeOptions,
    /// It is recorded.
    pub(crate) noted: bool,
    /// It is a replay: nothing lies between, and bytes come from the record.
    pub(crate) replayed: bool,
}

impl Link {
    /// TCP to the endpoint, or to the proxy, is connected, or the user's stream is there: the way and the handshake begin.
    ///
    /// # Errors
    /// What is known before a byte is sent.
    pub(crate) fn new(
        id: ConnId,
        purpose: Purpose<'_>,
        config: &Config,
        seed: [u8; 32],
        nonce: [u8; 16],
        now: Instant,
    ) -> Result<Self, Error> {
        let Purpose { endpoint, proxy, options, noted, replayed } = purpose;
        let secure = endpoint.target.secure() && config.transport != Transport::SecuredConnector && !replayed;
        let proxy = proxy.filter(|_| !replayed);
        #[cfg(feature = "tls")]
        let way = Way::new(&endpoint.target, secure, proxy, options, &config.tls)?;
        #[cfg(not(feature = "tls"))]
        let way = Way::new(&endpoint.target, secure, proxy, options)?;
        let handshake = Handshake::new(&endpoint.target, options, nonce).map_err(Error::Request)?;
        let mut receiver = Receiver::new(config.recv_buffer, config.limits.clone());
        receiver.want(way::capacity(options));
        // Stream 0 is the session's own.
        let keys = MaskKeys::new(seed, id.0 + 1);
        let mut sender = Sender::new(keys, config.fragment);
        if noted {
            sender.note();
        }
        Ok(Self {
            id,
            notes: noted.then(|| vec![Note::Request(handshake.request().to_vec())]),
            request: handshake.request().to_vec(),
            stage: Stage::Handshake(Box::new(handshake)),
            receiver,
            sender,
            liveness: Liveness::default(),
            terms: Terms::new(config, endpoint),
            tracker: None,
            granted: Granted(None),
            own: VecDeque::new(),
            users: VecDeque::new(),
            stall: Stall::default(),
            last_received: now,
            deadline: Some(now + config.handshake_timeout),
            gone: None,
            way: way.map(Box::new),
            written: 0,
            sent: 0,
            pongs: VecDeque::new(),
            lingers: false,
            farewell: None,
            told: Left::default(),
            feed: replayed.then(Box::default),
        })
    }

    /// What a protocol is told of it when it writes a message.
    pub(crate) fn context(&self, wall: SystemTime) -> Context<'_> {
        Context::new(wall, &self.terms.params).authenticated(self.granted.0.as_deref())
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Closing)
    }

    /// Open, with nothing between, and still there: what arrives goes to the receiver as it is.
    pub(crate) fn is_plain(&self) -> bool {
        self.way.is_none() && self.is_open() && self.gone.is_none() && !self.is_paused()
    }

    pub(crate) fn is_retired(&self) -> bool {
        matches!(self.stage, Stage::Retired)
    }

    #[inline]
    pub(crate) fn recv_buffer(&mut self) -> &mut [u8] {
        if self.gone.is_some() {
            return &mut [];
        }
        if let Some(way) = &mut self.way {
            return way.recv_buffer();
        }
        self.receiver.recv_buffer()
    }

    #[inline]
    pub(crate) fn received(&mut self, len: usize, now: Instant) {
        if len == 0 || self.gone.is_some() {
            return;
        }
        self.last_received = now;
        if self.feed.is_some() {
            return;
        }
        if let Some(way) = &mut self.way {
            return way.handle_received(len);
        }
        self.receiver.received(len);
        if self.is_deaf() {
            self.receiver.discard();
        }
    }

    /// Bytes for the socket.
    #[inline]
    pub(crate) fn transmit(&self) -> &[u8] {
        if self.gone.is_some() {
            return &[];
        }
        match &self.way {
            Some(way) => way.transmit(),
            None => self.plaintext(),
        }
    }

    pub(crate) fn transmitted(&mut self, len: usize, now: Instant) {
        if self.gone.is_some() {
            return;
        }
        self.write(len);
        if self.is_idle() {
            self.stall.idle();
        } else {
            self.stall.progress(now);
        }
    }

    /// Notes whether bytes wait for the socket. Before it is open and after it was left, it has a deadline of its own.
    pub(crate) fn check_stall(&mut self, now: Instant) {
        if !self.is_open() || self.is_idle() {
            self.stall.idle();
        } else {
            self.stall.waiting(now);
        }
    }

    /// Whether the socket has taken all that was sent, what waits to be encrypted and what is encrypted included.
    pub(crate) fn is_flushed(&self) -> bool {
        self.sender.queued() == 0 && self.is_idle()
    }

    /// Whether the socket has all that there is for it now.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        if self.feed.is_some() { self.is_idle_in_replay() } else { self.transmit().is_empty() }
    }

    fn write(&mut self, len: usize) {
        let Some(way) = &mut self.way else { return self.plaintext_written(len) };
        way.handle_transmitted(len);
        self.way.take_if(|way| way.is_done());
    }

    pub(super) fn plaintext(&self) -> &[u8] {
        let request = &self.request[self.written..];
        if request.is_empty() { self.sender.transmit() } else { request }
    }

    pub(super) fn plaintext_written(&mut self, len: usize) {
        if self.written < self.request.len() {
            self.written = (self.written + len).min(self.request.len());
        } else {
            self.sender.transmitted(len);
            self.sent += len as u64;
            while self.pongs.front().is_some_and(|at| *at <= self.sent) {
                self.pongs.pop_front();
            }
        }
    }

    /// Encrypts what waits, as far as the way takes it. A plain connection has nothing to do here.
    pub(crate) fn encrypt(&mut self) {
        if let Some(mut way) = self.way.take() {
            loop {
                let taken = way.write_plaintext(self.plaintext());
                if taken == 0 {
                    break;
                }
                self.plaintext_written(taken);
            }
            if self.is_deaf() && self.plaintext().is_empty() {
                way.close_notify();
            }
            self.way = Some(way);
        }
    }

    /// Moves what can be decrypted to the receiver; false if that was nothing.
    fn decrypt(&mut self) -> Result<bool, Error> {
        if let Some(feed) = &mut self.feed {
            let deaf = matches!(self.stage, Stage::Retired) && self.farewell.is_none();
            return feed.read(&mut self.receiver, deaf);
        }
        let Some(way) = &mut self.way else { return Ok(false) };
        let mut any = false;
        loop {
            let len = way.read_plaintext(self.receiver.recv_buffer())?;
            if len == 0 {
                break;
            }
            self.receiver.received(len);
            any = true;
            if matches!(self.stage, Stage::Retired) && self.farewell.is_none() {
                self.receiver.discard();
            }
        }
        self.way.take_if(|way| way.is_done());
        Ok(any)
    }

    /// Takes the next thing that arrived.
    pub(crate) fn poll(&mut self) -> Step {
        loop {
            let step = match &mut self.stage {
                Stage::Handshake(handshake) => match handshake.receive(self.receiver.peek()) {
                    Ok(handshake::Progress::NeedMore) => Ok(Step::Idle),
                    Ok(handshake::Progress::Redirect { location }) => {
                        self.note_response(usize::MAX);
                        return Step::Redirect(Box::new(location));
                    }
                    Ok(handshake::Progress::Accepted { consumed }) => return self.upgraded(consumed),
                    Err(error) => {
                        self.note_response(usize::MAX);
                        return Step::Failed(Error::Handshake(error));
                    }
                },
                Stage::Retired if self.farewell.is_none() => {
                    // Only TLS has anything to read here, so that it sees the peer's end.
                    if self.decrypt().is_err() || self.peer_closed() {
                        // What is queued goes out if it can; nobody waits for more.
                        if std::mem::take(&mut self.lingers) {
                            self.note_fault(&Error::Disconnected(Disconnect::Eof), false);
                        }
                    }
                    return Step::Idle;
                }
                Stage::Open | Stage::Closing | Stage::Retired => match self.receiver.poll() {
                    Ok(Some(inbound)) => return Step::Inbound(inbound),
                    Ok(None) => Ok(Step::Idle),
                    Err(error) => Err(Error::Protocol(error)),
                },
            };
            match step.and_then(|_| self.decrypt()) {
                Ok(true) => {}
                Ok(false) => return self.at_end(),
                Err(error) => {
                    self.note_fault(&error, false);
                    return Step::Failed(error);
                }
            }
        }
    }

    /// Whether TLS said that nothing follows.
    fn peer_closed(&self) -> bool {
        self.way.as_ref().is_some_and(|way| way.peer_closed())
            || self.feed.as_ref().is_some_and(|feed| feed.has_ended())
    }

    /// All that arrived is taken: if the connection is gone, this is its end.
    fn at_end(&mut self) -> Step {
        let cause = match &self.gone {
            Some(cause) => cause.clone(),
            // The peer ended TLS: nothing more comes, whether it ends TCP now or waits for us to do so.
            None if self.peer_closed() => {
                self.note_fault(&Error::Disconnected(Disconnect::Eof), false);
                Disconnect::Eof
            }
            None => return Step::Idle,
        };
        if matches!(self.stage, Stage::Handshake(_)) {
            self.note_response(usize::MAX);
        }
        let handshake = match &mut self.stage {
            Stage::Handshake(handshake) => Some(handshake),
            _ => None,
        };
        // TLS that is cut once it stands does not matter as long as there is no WebSocket: then the answer is what is missing.
        if let Some(way) = &mut self.way
            && (handshake.is_none() || way.is_handshaking())
            && let Err(error) = way.handle_end(&cause)
        {
            self.note_fault(&error, false);
            return Step::Failed(error);
        }
        Step::Failed(match (handshake, cause) {
            (Some(handshake), Disconnect::Eof) => {
                Error::Handshake(handshake.finish_eof(self.receiver.peek()))
            }
            (_, cause) => Error::Disconnected(cause),
        })
    }

    fn upgraded(&mut self, consumed: usize) -> Step {
        let Stage::Handshake(handshake) = std::mem::replace(&mut self.stage, Stage::Open) else {
            unreachable!("only a handshake is accepted")
        };
        self.deadline = None;
        self.note_response(consumed);
        self.receiver.consume(consumed);
        match handshake.into_upgraded() {
            Some(upgraded) => Step::Upgraded(Box::new(upgraded)),
            None => unreachable!("an accepted handshake has its outcome"),
        }
    }

    /// The compression that was agreed on.
    pub(crate) fn compress(&mut self, inflater: Inflater, deflater: Deflater) {
        self.receiver.compress(inflater);
        self.sender.compress(deflater);
    }

    /// Sends our close frame and awaits the peer's (RFC 6455 section 7.1.2).
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str, deadline: Instant) {
        let (payload, len) = close::payload(code, reason);
        self.sender.close(&payload[..len]);
        self.stage = Stage::Closing;
        self.liveness = Liveness::default();
        self.deadline = Some(deadline);
    }

    /// Nothing more is expected from it. `reply` is a close frame to be sent before the end; one that `lingers` gives the peer
    /// until the deadline to end the connection, so that the reply is not lost to a reset.
    pub(crate) fn retire(&mut self, reply: Option<(CloseCode, &str)>, deadline: Instant, lingers: bool) {
        if matches!(self.stage, Stage::Open)
            && let Some((code, reason)) = reply
        {
            let (payload, len) = close::payload(code, reason);
            self.sender.close(&payload[..len]);
        }
        if !self.is_open() {
            // What is left of the request would only confuse the peer.
            self.written = self.request.len();
        }
        self.receiver.discard();
        self.retired(deadline, lingers);
        self.farewell = None;
    }

    /// The same after a farewell, if its answer is awaited: our close frame follows on that ([`part`](Self::part)), so that what is read still matters.
    pub(crate) fn retire_awaiting(&mut self, farewell: u64, deadline: Instant) {
        self.retired(deadline, true);
        self.farewell = Some(farewell);
    }

    fn retired(&mut self, deadline: Instant, lingers: bool) {
        self.stage = Stage::Retired;
        self.deadline = Some(deadline);
        self.liveness = Liveness::default();
        self.lingers = lingers;
        self.granted = Granted(None);
    }

    /// The farewell whose answer is awaited.
    pub(crate) fn farewell(&self) -> Option<u64> {
        self.farewell
    }

    /// It is not awaited any more: our close frame, and the peer has the time that is left to end the connection.
    pub(crate) fn part(&mut self) {
        if self.farewell.take().is_some() {
            let (payload, len) = close::payload(CloseCode::Normal, "");
            self.sender.close(&payload[..len]);
            self.receiver.discard();
        }
    }

    /// Its time is over. True if it has a deadline no more; one that was still to say that it closes gets so much `more` for that, from when it was
    /// due: a driver that comes late does not make it longer.
    pub(crate) fn run_out(&mut self, more: Duration, now: Instant) -> bool {
        let parts = self.farewell.is_some();
        self.part();
        self.lingers &= !parts;
        let then = self.deadline.and_then(|due| due.checked_add(more));
        self.deadline = then.filter(|then| parts && *then > now);
        self.deadline.is_none()
    }

    /// Nothing that comes on it matters.
    fn is_deaf(&self) -> bool {
        self.is_retired() && self.farewell.is_none()
    }

    /// Whether its end has a time, whatever the user does: our close frame is out, or nothing more is expected of it.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Retired) && self.gone.is_none()
    }

    /// Whether it may be dropped: the peer ended it, its time is over, or nobody waits for it and all is sent.
    pub(crate) fn is_over(&self) -> bool {
        let idle = self.is_idle() && self.plaintext().is_empty();
        self.is_retired() && (self.gone.is_some() || self.deadline.is_none() || (!self.lingers && idle))
    }

    /// Answers a ping (RFC 6455 section 5.5.2), unless our close frame is out already.
    pub(crate) fn pong(&mut self, ping: Place) {
        if matches!(self.stage, Stage::Open) {
            self.sender.control(PONG, self.receiver.bytes(ping));
            self.pongs.push_back(self.sent + self.sender.queued() as u64);
        }
    }

    /// The same with a payload that was kept.
    pub(crate) fn answer_ping(&mut self, payload: &[u8]) {
        self.sender.control(PONG, payload);
        self.pongs.push_back(self.sent + self.sender.queued() as u64);
    }

    /// A heartbeat of the server was answered: like a pong, to be written before too many more are asked for.
    pub(crate) fn replied(&mut self) {
        self.pongs.push_back(self.sent + self.sender.queued() as u64);
    }

    /// Whether a message of `len` bytes must not join what waits to be written. Pongs do not count: they have room of their own.
    pub(crate) fn is_full(&self, len: usize, limit: usize) -> bool {
        let queued = self.sender.queued().saturating_sub(self.pongs.len() * MAX_PONG);
        queued > 0 && queued + len > limit
    }

    pub(crate) fn ping(&mut self, payload: [u8; 8]) {
        self.sender.control(PING, &payload);
    }

    /// Whether it must not be parsed further: a peer that sends pings and takes no pongs would fill our memory with them.
    pub(crate) fn is_paused(&self) -> bool {
        self.pongs.len() > MAX_PONGS && self.gone.is_none()
    }

    /// The error that running past `deadline` is.
    pub(crate) fn overdue(&mut self) -> Error {
        if let Stage::Handshake(handshake) = &mut self.stage {
            let fault = self.way.as_mut().and_then(|way| way.overdue());
            if let Some(error) = fault.or_else(|| self.feed.as_mut().and_then(|feed| feed.overdue())) {
                self.note_fault(&error, true);
                return error;
            }
            // An answer that only lacks its end says more than that time is over.
            match handshake.finish_eof(self.receiver.peek()) {
                HandshakeError::ClosedEarly { .. } => {}
                error => {
                    self.note_response(usize::MAX);
                    return Error::Handshake(error);
                }
            }
        }
        Error::Timeout(match self.stage {
            Stage::Handshake(_) => Timeout::Handshake,
            Stage::Open => Timeout::Pong,
            Stage::Closing | Stage::Retired => Timeout::Close,
        })
    }
}
