//! The session with all that is around it, and what must always hold.

use super::peer::{Peer, Read};
use crate::{Input, epoch, hash, wall};
use everwire_core::ws::Limits;
use everwire_core::ws::deflate::DeflateConfig;
use everwire_core::{
    AttemptId, Clock, CloseCode, Config, ConnId, Disconnect, Endpoint, Epoch, JsonRpc, Lease, Message,
    OnDisconnect, Output, OwnedEvent, OwnedOutcome, ProviderError, Request, RequestId, RequestOptions,
    ResolveError, SendError, SendOptions, Session, State, SubscribeOptions, SubscriptionId, Topic,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Outputs between two operations: an operation brings some hundred messages at most.
const MAX_OUTPUTS: usize = 20_000;
const MAX_QUEUED: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct World {
    session: Session,
    now: Instant,
    /// What `Wait` said last.
    until: Option<Instant>,
    sockets: Vec<Socket>,
    provides: Vec<AttemptId>,
    resolves: Vec<AttemptId>,
    takes: Takes,
    lease: Option<Lease>,
    requests: BTreeMap<RequestId, bool>,
    subscriptions: Vec<SubscriptionId>,
    deflate: bool,
    last_send: u64,
    /// Messages that `send` took, by epoch.
    sent: BTreeMap<Epoch, Vec<u64>>,
    /// Messages and requests that reached a server whole.
    messages_read: BTreeSet<u64>,
    requests_read: BTreeSet<u64>,
    /// What was said not to have been sent: it must never be.
    messages_unsent: BTreeSet<u64>,
    requests_unsent: BTreeSet<u64>,
    /// Requests that may be sent again.
    resend: BTreeSet<u64>,
    last_epoch: Epoch,
    online: Option<Epoch>,
    /// The event that is the end was told; the output that is the end was said.
    over: bool,
    closed: bool,
    /// How often something was refused as too much, less the times that it was said that there is room again.
    refused: u32,
    by_abort: bool,
    digest: Option<u64>,
}

#[derive(Debug)]
struct Socket {
    id: ConnId,
    /// The session has neither dropped it nor been told that it is gone.
    alive: bool,
    connected: bool,
    /// When the session asked for another one.
    superseded: Option<Instant>,
    peer: Peer,
}

/// What becomes of announced events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    All,
    /// The user is busy.
    Nothing,
    /// The user looks at each for one operation.
    Leases,
}

impl World {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        let (flags, more) = (input.u8(), input.u8());
        let has = |bit: u8| flags & bit != 0;
        let config = match (has(1), has(2)) {
            (true, _) => Config::provided(),
            (_, true) => Config::new("ws://user:secret@example.test/feed").expect("a fixed URL"),
            _ => Config::new("ws://127.0.0.1:9/feed").expect("a fixed URL"),
        };
        let limits =
            Limits { max_frame: 4000, max_message: 10_000, max_fragments: 10, chunk: has(4).then_some(1024) };
        let mut config = config
            .handshake_limits(1024, 20)
            .recv_buffer(8192)
            .send_buffer(4096)
            .fragment_size(1024)
            .limits(limits)
            .close_timeout(CLOSE_TIMEOUT)
            .ping_interval((!has(8)).then_some(Duration::from_secs(20)))
            .max_requests(16)
            .max_redirects(2)
            .deflate(has(16).then(DeflateConfig::default));
        if has(32) {
            config = config.protocol(JsonRpc::new().topics_per_message(usize::from(more & 3) + 1));
        }
        if has(64) {
            config = config.max_attempts(3);
        }
        let clock = Clock { instant: epoch(), system: wall() };
        Self {
            session: Session::new(config, clock, [more; 32]).expect("all in range"),
            now: clock.instant,
            until: None,
            sockets: Vec::new(),
            provides: Vec::new(),
            resolves: Vec::new(),
            takes: Takes::All,
            lease: None,
            requests: BTreeMap::new(),
            subscriptions: Vec::new(),
            deflate: has(16),
            last_send: 0,
            sent: BTreeMap::new(),
            messages_read: BTreeSet::new(),
            requests_read: BTreeSet::new(),
            messages_unsent: BTreeSet::new(),
            requests_unsent: BTreeSet::new(),
            resend: BTreeSet::new(),
            last_epoch: Epoch::default(),
            online: None,
            over: false,
            closed: false,
            refused: 0,
            by_abort: more & 128 != 0,
            digest: has(128).then_some(0),
        }
    }

    /// One operation.
    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        let (op, arg) = (input.u8() % 32, input.u8());
        let now = self.now;
        match op {
            0 => self.all_goes_well(),
            1 => self.with_socket(arg, |world, index| world.connected(index)),
            2 => self.with_socket(arg, |world, index| world.disconnected(index, arg)),
            3 => self.resolved(arg),
            4 => self.provided(arg),
            5 => self.with_newest(|world, index| world.transmit(index, usize::from(arg))),
            6 => self.with_socket(arg, |world, index| world.transmit(index, usize::MAX)),
            7 => self.with_newest(|world, index| world.sockets[index].peer.answer_http(arg)),
            8..=10 => self.with_newest(|world, index| world.sockets[index].peer.say(arg, input)),
            11 => self.with_socket(arg, |world, index| world.sockets[index].peer.say(arg, input)),
            12 => self.with_newest(|world, index| world.deliver(index, usize::from(arg))),
            13 => self.with_newest(|world, index| world.deliver(index, usize::MAX)),
            14 => self.with_socket(arg, |world, index| world.deliver(index, usize::MAX)),
            15 => {
                self.now +=
                    Duration::from_millis([1, 30, 700, 10_000][usize::from(arg & 3)] * u64::from(arg >> 2))
            }
            // Time does not go back.
            16 => self.now = self.until.map_or(now, |until| until.max(now)),
            17 => self.session.handle_timeout(now),
            18 => self.takes = [Takes::All, Takes::Nothing, Takes::Leases][usize::from(arg % 3)],
            19 => self.give_back(),
            20 => self.send(arg),
            21 | 22 => self.request(arg),
            23 => {
                if let Some((&id, &settled)) = self.requests.iter().nth(usize::from(arg)) {
                    let cancelled = self.session.cancel(id, now);
                    assert!(!(settled && cancelled), "{id:?} was settled before");
                }
            }
            24 => self.subscribe(arg),
            25 => {
                if let Some(&id) = self.subscriptions.get(usize::from(arg)) {
                    self.session.unsubscribe(id, now);
                }
            }
            26 => self.session.reconnect(now),
            // Ends are rare, so that something comes before them.
            27 if arg >= 0xe0 => self.session.close(CloseCode::Normal, &"bye ".repeat(usize::from(arg)), now),
            28 if arg >= 0xf0 => self.session.abort(now),
            29 => self.misuse(arg),
            30 => self.queries(),
            _ => {
                self.give_back();
                self.take_one();
            }
        }
    }

    /// Everything that is asked for happens, in the best way: the short way to a session that is online.
    fn all_goes_well(&mut self) {
        for _ in 0..4 {
            self.provided(0);
            self.resolved(1);
            self.settle();
            self.with_newest(|world, index| {
                world.connected(index);
                world.settle();
                world.transmit(index, usize::MAX);
                world.sockets[index].peer.answer_http(0);
                world.deliver(index, usize::MAX);
                world.settle();
                world.transmit(index, usize::MAX);
                world.sockets[index].peer.say(15, &mut Input::new(&[]));
                world.deliver(index, usize::MAX);
                world.settle();
            });
        }
    }

    fn with_newest(&mut self, then: impl FnOnce(&mut Self, usize)) {
        if let Some(index) = self.sockets.len().checked_sub(1) {
            then(self, index);
        }
    }

    /// Any socket that there ever was, the newest first.
    fn with_socket(&mut self, arg: u8, then: impl FnOnce(&mut Self, usize)) {
        if !self.sockets.is_empty() {
            let back = usize::from(arg & 7) % self.sockets.len();
            then(self, self.sockets.len() - 1 - back);
        }
    }

    fn connected(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        // News of what the session has dropped already come late, not twice.
        if socket.alive {
            socket.connected = true;
        }
        self.session.handle_connected(socket.id, self.now);
    }

    fn disconnected(&mut self, index: usize, how: u8) {
        let socket = &mut self.sockets[index];
        let cause = if how & 8 != 0 {
            Disconnect::Eof
        } else {
            Disconnect::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
        };
        self.session.handle_disconnected(socket.id, cause, self.now);
        socket.alive = false;
    }

    fn resolved(&mut self, arg: u8) {
        let Some(&id) = self.resolves.iter().nth_back(usize::from(arg >> 5)) else { return };
        let addrs: Vec<SocketAddr> = (0..arg % 8).map(|n| SocketAddr::from(([127, 0, 0, n], 80))).collect();
        let result = match arg & 16 {
            0 => Ok(&*addrs),
            _ => Err(ResolveError { message: "no such name".into() }),
        };
        self.session.handle_resolved(id, result, self.now);
    }

    fn provided(&mut self, arg: u8) {
        let Some(&id) = self.provides.iter().nth_back(usize::from(arg >> 5)) else { return };
        let url = ["ws://127.0.0.1:9/a", "ws://example.test/b", "wss://127.0.0.1/c"][usize::from(arg % 3)];
        let endpoint = Endpoint::new(url).expect("a fixed URL");
        let result = match arg >> 2 & 3 {
            0 => Ok(endpoint),
            1 => Ok(endpoint.header("Authorization", "Bearer x").expect("a fixed header")),
            // One that only the session can see to be wrong.
            2 => Ok(endpoint.header("Upgrade", "h2c").expect("a fixed header")),
            _ => Err(ProviderError { message: "no token".into() }),
        };
        self.session.handle_endpoint(id, result, self.now);
    }

    /// The socket takes up to `most` bytes.
    fn transmit(&mut self, index: usize, most: usize) {
        let socket = &mut self.sockets[index];
        let bytes = self.session.transmit(socket.id);
        if !socket.alive || !socket.connected {
            assert!(bytes.is_empty(), "something to write to a socket that is not there");
            return;
        }
        let bytes = bytes[..bytes.len().min(most)].to_vec();
        self.session.handle_transmitted(socket.id, bytes.len(), self.now);
        let read = socket.peer.read(&bytes);
        self.note(&bytes);
        for read in read {
            let (new, unsent) = match read {
                Read::Message(id) => (self.messages_read.insert(id), self.messages_unsent.contains(&id)),
                Read::Request(id) => {
                    let new = self.requests_read.insert(id) || self.resend.contains(&id);
                    (new, self.requests_unsent.contains(&id))
                }
            };
            assert!(new, "{read:?} was sent twice");
            assert!(!unsent, "{read:?} was sent although it was said not to be");
        }
    }

    /// The socket gives up to `most` bytes.
    fn deliver(&mut self, index: usize, most: usize) {
        let socket = &mut self.sockets[index];
        let room = self.session.recv_buffer(socket.id);
        if !socket.alive || !socket.connected {
            assert!(room.is_empty(), "room for bytes of a socket that is not there");
            return;
        }
        let len = room.len().min(most).min(socket.peer.wire.len());
        for (to, from) in room.iter_mut().zip(socket.peer.wire.drain(..len)) {
            *to = from;
        }
        if len > 0 {
            self.session.handle_received(socket.id, len, self.now);
        }
    }

    fn send(&mut self, arg: u8) {
        let id = self.last_send + 1;
        let mut text = format!("S{id} ");
        text.extend(std::iter::repeat_n('x', usize::from(arg) * 24));
        let message = if arg & 1 == 0 { Message::Text(&text) } else { Message::Binary(text.as_bytes()) };
        let epoch = self.session.status(self.now).epoch;
        match self.session.send(message, SendOptions::default(), self.now) {
            Ok(given) => {
                assert!(given.as_u64() > self.last_send, "{given:?} after {}", self.last_send);
                assert_eq!(given.as_u64(), id);
                self.last_send = id;
                self.sent.entry(epoch).or_default().push(id);
            }
            Err(SendError::Full) => self.refused += 1,
            Err(SendError::Unsupported(_)) => panic!("every message can be sent"),
            Err(_) => {}
        }
    }

    fn request(&mut self, arg: u8) {
        let options = RequestOptions {
            timeout: [None, Some(Duration::ZERO), Some(Duration::from_millis(50)), Some(Duration::MAX)]
                [usize::from(arg & 3)],
            on_disconnect: [OnDisconnect::Fail, OnDisconnect::Hold, OnDisconnect::Resend]
                [usize::from(arg >> 2) % 3],
        };
        let resend = options.on_disconnect == OnDisconnect::Resend;
        let params = format!("[\"{}\"]", "y".repeat(usize::from(arg >> 4) * 100));
        let request = Request::new("ask").params(&params);
        let result = self.session.request(request, options, self.now);
        self.refused += u32::from(result == Err(SendError::Full));
        if let Ok(id) = result {
            assert!(self.requests.last_key_value().is_none_or(|(last, _)| *last < id), "{id:?} is not new");
            self.requests.insert(id, false);
            if resend {
                self.resend.insert(id.as_u64());
            }
        }
    }

    fn subscribe(&mut self, arg: u8) {
        let topic = Topic::new(format!("t{}", arg % 8));
        let topic =
            if arg & 8 != 0 { topic.subscribe_with("please").unsubscribe_with("enough") } else { topic };
        let id = self.session.subscribe(topic, SubscribeOptions::default(), self.now);
        if !self.subscriptions.contains(&id) {
            self.subscriptions.push(id);
        }
    }

    /// What a driver should not do, and a session survives.
    fn misuse(&mut self, arg: u8) {
        let now = self.now;
        if let Some(socket) = self.sockets.get_mut(usize::from(arg >> 3)) {
            let id = socket.id;
            match arg & 7 {
                // Counts of what was neither offered nor there. Of a socket that is there they would be lies about its bytes.
                0 if !socket.alive => self.session.handle_received(id, 100_000, now),
                1 if !socket.alive => self.session.handle_transmitted(id, 100_000, now),
                2 => self.session.handle_received(id, 0, now),
                3 => self.session.handle_transmitted(id, 0, now),
                4 => self.session.handle_connected(id, now),
                _ if !socket.alive => self.session.handle_disconnected(id, Disconnect::Eof, now),
                _ => {}
            }
            if arg & 7 == 4 && socket.alive {
                socket.connected = true;
            }
        }
    }

    fn queries(&mut self) {
        let status = self.session.status(self.now);
        assert_eq!(status.state, self.session.state());
        assert!(status.transitions.len() <= 32);
        // It may be due already: while an event is not taken, no attempt begins.
        assert_eq!(status.retry_at.is_some(), status.state == State::Backoff, "{status:?}");
        assert!(self.session.subscriptions().count() <= 8);
        for id in &self.resolves {
            let _ = self.session.host(*id);
        }
        let _ = (self.session.timeout(), format!("{:?}", self.session));
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            let _ = lease.event();
            self.session.give_back(lease);
        }
    }

    fn take_one(&mut self) {
        if let Some(event) = self.session.event().map(|event| event.to_owned()) {
            self.told(&event);
        }
    }

    /// Polls until the session waits, or until its event is not taken.
    pub(super) fn settle(&mut self) {
        for _ in 0..MAX_OUTPUTS {
            let output = self.session.poll_output(self.now);
            if self.digest.is_some() {
                self.note(format!("{output:?}").as_bytes());
            }
            assert!(!self.closed || output == Output::Closed, "{output:?} after the end");
            match output {
                Output::Event => {
                    assert_eq!(self.session.poll_output(self.now), Output::Event, "an announced event stays");
                    if self.lease.is_some() {
                        assert!(self.session.event().is_none() && self.session.lease().is_none());
                        return self.check();
                    }
                    match self.takes {
                        Takes::All => {
                            let event = self.session.event().expect("it was announced").to_owned();
                            self.told(&event);
                        }
                        Takes::Leases => {
                            let lease = self.session.lease().expect("it was announced");
                            let event = lease.event().to_owned();
                            self.lease = Some(lease);
                            self.told(&event);
                        }
                        Takes::Nothing => return self.check(),
                    }
                }
                Output::Provide(id) => self.provides.push(id),
                Output::Resolve(id) => self.resolves.push(id),
                Output::Connect(id, _) => {
                    assert!(self.sockets.last().is_none_or(|last| last.id < id), "{id:?} is not new");
                    if let Some(last) = self.sockets.last_mut() {
                        last.superseded = Some(self.now);
                    }
                    let peer = Peer::default();
                    self.sockets.push(Socket { id, alive: true, connected: false, superseded: None, peer });
                }
                Output::Disconnect(id) => {
                    let socket = self.sockets.iter_mut().find(|socket| socket.id == id);
                    // It may be gone meanwhile.
                    socket.expect("only what was connected is dropped").alive = false;
                }
                Output::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now), "waits for what is due");
                    assert_eq!(
                        self.session.poll_output(self.now),
                        output,
                        "the same question, another answer"
                    );
                    self.until = until;
                    let alive = self.sockets.iter().any(|socket| socket.alive);
                    assert!(until.is_some() || alive, "waits forever, and for nothing");
                    self.check_sockets();
                    return self.check();
                }
                Output::Closed => {
                    self.closed = true;
                    self.until = None;
                    assert!(self.over, "closed without a word");
                    assert!(self.sockets.iter().all(|socket| !socket.alive), "closed with a socket open");
                    let unsettled = self.requests.iter().find(|(_, settled)| !**settled);
                    assert_eq!(unsettled, None, "closed with a request open");
                    return self.check();
                }
            }
        }
        panic!("{MAX_OUTPUTS} outputs, and it still has something to do");
    }

    /// Sockets that were given up are dropped in time.
    fn check_sockets(&self) {
        for socket in self.sockets.iter().filter(|socket| socket.alive) {
            let left = socket.superseded.is_none_or(|at| self.now < at + CLOSE_TIMEOUT);
            assert!(left, "{:?} should have been dropped", socket.id);
        }
    }

    fn check(&self) {
        assert!(self.session.queued() <= MAX_QUEUED, "{} bytes queued", self.session.queued());
        if let Some(socket) = self.sockets.last() {
            let len = self.session.transmit(socket.id).len();
            assert!(len <= MAX_QUEUED, "{len} bytes to transmit");
        }
    }

    /// An event is told.
    fn told(&mut self, event: &OwnedEvent) {
        if self.digest.is_some() {
            self.note(format!("{event:?}").as_bytes());
        }
        assert!(!self.over, "{event:?} after the end");
        match event {
            OwnedEvent::Online { epoch, resumed, .. } => {
                self.in_epoch(*epoch);
                assert!(self.online.is_none_or(|last| last < *epoch), "online twice in {epoch:?}");
                assert_eq!(*resumed, epoch.as_u64() > 1);
                self.online = Some(*epoch);
            }
            OwnedEvent::Message { epoch, subscription, .. } => {
                self.in_epoch(*epoch);
                assert!(subscription.is_none_or(|id| self.subscriptions.contains(&id)));
            }
            OwnedEvent::Chunk { epoch, .. } | OwnedEvent::Pong { epoch, .. } => self.in_epoch(*epoch),
            OwnedEvent::Subscribed { epoch, id, .. } | OwnedEvent::Rejected { epoch, id, .. } => {
                self.in_epoch(*epoch);
                assert!(self.subscriptions.contains(id));
            }
            OwnedEvent::Gap(gap) => {
                assert!(gap.before < gap.after && gap.since <= gap.until, "{gap:?}");
                self.in_epoch(gap.after);
            }
            OwnedEvent::Response { id, outcome } => {
                let settled = self.requests.get_mut(id).expect("a request that was made");
                assert!(!*settled, "{id:?} is settled twice");
                *settled = true;
                if let OwnedOutcome::NotSent(why) = outcome {
                    let read = self.requests_read.contains(&id.as_u64());
                    assert!(!read, "the server has {id:?}, which was not sent: {why:?}");
                    self.requests_unsent.insert(id.as_u64());
                }
            }
            OwnedEvent::Lost { epoch, unsent, error, .. } => {
                self.in_epoch(*epoch);
                if !self.deflate {
                    // After a fault of the server what waits is still on its way to it.
                    let flushed = matches!(error, everwire_core::Error::Protocol(_));
                    self.check_unsent(*epoch, unsent, flushed);
                }
            }
            OwnedEvent::Writable => {
                assert!(self.refused > 0, "nobody was told to wait");
                self.refused -= 1;
            }
            OwnedEvent::AttemptFailed { failures, .. } => assert!(*failures > 0),
            OwnedEvent::Closed { .. } => self.over = true,
            other => panic!("unknown event {other:?}"),
        }
    }

    fn in_epoch(&mut self, epoch: Epoch) {
        assert!(epoch >= self.last_epoch, "{epoch:?} after {:?}", self.last_epoch);
        self.last_epoch = epoch;
    }

    /// What is said not to have been sent is what the server does not have.
    fn check_unsent(&mut self, epoch: Epoch, unsent: &everwire_core::Unsent, flushed: bool) {
        let ids = self.sent.get(&epoch).map_or(&[][..], |ids| ids);
        for &id in ids {
            let whole = unsent.not_sent.start.as_u64() <= id && id < unsent.not_sent.end.as_u64();
            let cut = unsent.cut.is_some_and(|cut| cut.as_u64() == id);
            let read = self.messages_read.contains(&id);
            // The rest of one that was cut may have followed before this was told.
            assert!(!read || !whole, "the server has message {id} of {ids:?}: {unsent:?}");
            assert!(read || whole || cut || flushed, "the server lacks message {id} of {ids:?}: {unsent:?}");
        }
        let first = ids.first().copied().unwrap_or(self.last_send + 1);
        assert!(
            unsent.not_sent.start.as_u64() >= first && unsent.not_sent.end.as_u64() == self.last_send + 1
        );
        assert!(unsent.cut.is_none_or(|cut| cut.as_u64() >= first));
        self.messages_unsent.extend(unsent.not_sent.start.as_u64()..unsent.not_sent.end.as_u64());
    }

    fn note(&mut self, bytes: &[u8]) {
        if let Some(digest) = &mut self.digest {
            *digest = digest.rotate_left(5) ^ hash(bytes);
        }
    }

    /// The end: whatever came before, the session gets there by itself.
    pub(super) fn end(mut self) -> u64 {
        self.takes = Takes::All;
        self.give_back();
        self.settle();
        if self.by_abort {
            self.session.abort(self.now);
        } else {
            self.session.close(CloseCode::Away, "the end", self.now);
        }
        self.settle();
        for _ in 0..64 {
            if self.closed {
                break;
            }
            assert!(!self.by_abort, "it does not end at once");
            self.now = self.until.expect("nobody else ends it");
            self.settle();
        }
        assert!(self.closed, "it does not end");
        let refused = self.session.send(Message::Text("late"), SendOptions::default(), self.now);
        assert_eq!(refused, Err(SendError::Closed));
        self.session.subscribe("late", SubscribeOptions::default(), self.now);
        self.session.reconnect(self.now);
        self.session.handle_timeout(self.now);
        self.settle();
        self.digest.unwrap_or_default()
    }
}
