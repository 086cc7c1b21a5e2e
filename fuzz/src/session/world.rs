//! The session with all that is around it, and what must always hold when it is polled.

use super::peer::Peer;
use super::setup::{CLOSE_TIMEOUT, SECRET, Setup};
use crate::{Input, epoch, hash, wall};
use everwire_core::{
    AttemptId, Clock, ConnId, Epoch, Lease, Output, RequestId, SequenceRule, Session, SubscriptionId,
    SubscriptionState,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// The default of `Config::connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// When the user took his time, what has arrived is read before timers run, for so long at most.
pub(super) const CATCH_UP: Duration = Duration::from_secs(1);
/// Outputs between two operations: an operation brings some hundred messages at most.
const MAX_OUTPUTS: usize = 20_000;
const MAX_QUEUED: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct World {
    pub(super) session: Session,
    pub(super) setup: Setup,
    pub(super) start: Instant,
    pub(super) now: Instant,
    /// The latest moment that there was: time may go back.
    pub(super) latest: Instant,
    pub(super) jumps: u32,
    /// What `Wait` said last.
    pub(super) until: Option<Instant>,
    pub(super) sockets: Vec<Socket>,
    pub(super) provides: Vec<AttemptId>,
    pub(super) resolves: Vec<AttemptId>,
    pub(super) takes: Takes,
    pub(super) lease: Option<Lease>,
    /// Requests that were made under each id, and not told to be settled: the oldest first.
    pub(super) requests: BTreeMap<RequestId, VecDeque<Made>>,
    /// How many requests were made: each bears its number.
    pub(super) last_request: u64,
    pub(super) topics: BTreeMap<SubscriptionId, Topic>,
    pub(super) unsubscribed: usize,
    /// What the server asked: epoch and id.
    pub(super) asked: Vec<(Epoch, String)>,
    pub(super) last_send: u64,
    /// Messages that `send` took, by epoch.
    pub(super) sent: BTreeMap<Epoch, Vec<u64>>,
    /// Messages and requests that reached a server whole.
    pub(super) messages_read: BTreeSet<u64>,
    pub(super) requests_read: BTreeSet<u64>,
    /// What was said not to have been sent: it must never be.
    pub(super) messages_unsent: BTreeSet<u64>,
    pub(super) requests_unsent: BTreeSet<u64>,
    /// Requests that may be sent again.
    pub(super) resend: BTreeSet<u64>,
    /// The epoch whose end was told.
    pub(super) lost: Option<Epoch>,
    pub(super) last_epoch: Epoch,
    pub(super) online: Option<Epoch>,
    pub(super) authenticated: Option<Epoch>,
    /// The event that is the end was told; the output that is the end was said.
    pub(super) over: bool,
    pub(super) closed: bool,
    /// How often something was refused as too much, less the times that it was said that there is room again.
    pub(super) refused: u32,
    pub(super) digest: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) id: ConnId,
    /// The session has neither dropped it nor been told that it is gone.
    pub(super) alive: bool,
    pub(super) connected: bool,
    asked: Instant,
    /// When the session asked for another one, although this was connected.
    superseded: Option<Instant>,
    pub(super) peer: Peer,
    /// When the peer read what limits count.
    pub(super) counted: Vec<Instant>,
}

/// A request of the user.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) serial: u64,
    pub(super) deadline: Instant,
}

/// What was told of a subscription.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) rule: Option<SequenceRule>,
    /// The last epoch in which it was told to be in force, or a message of it came.
    pub(super) live: Option<Epoch>,
    /// Its last gap was told to be before this epoch.
    pub(super) gap: Option<Epoch>,
    pub(super) numbers: Numbers,
}

/// What the numbers of a topic's messages must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Nobody looks at them until the topic is confirmed anew.
    Unwatched,
    /// The next one may be any.
    Any,
    After(u64),
}

/// What becomes of announced events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    All,
    /// The user is busy.
    Nothing,
    /// The user looks at each for one operation.
    Leases,
}

impl World {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        let (setup, config) = Setup::new(input);
        assert!(!format!("{config:?}").contains(SECRET), "a secret is shown: {config:?}");
        let clock = Clock { instant: epoch(), system: wall() };
        Self {
            session: Session::new(config, clock, [setup.seed; 32]).expect("all in range"),
            start: clock.instant,
            now: clock.instant,
            latest: clock.instant,
            jumps: 0,
            until: None,
            sockets: Vec::new(),
            provides: Vec::new(),
            resolves: Vec::new(),
            takes: Takes::All,
            lease: None,
            requests: BTreeMap::new(),
            last_request: 0,
            topics: BTreeMap::new(),
            unsubscribed: 0,
            asked: Vec::new(),
            last_send: 0,
            sent: BTreeMap::new(),
            messages_read: BTreeSet::new(),
            requests_read: BTreeSet::new(),
            messages_unsent: BTreeSet::new(),
            requests_unsent: BTreeSet::new(),
            resend: BTreeSet::new(),
            lost: None,
            last_epoch: Epoch::default(),
            online: None,
            authenticated: None,
            over: false,
            closed: false,
            refused: 0,
            digest: setup.digests.then_some(0),
            setup,
        }
    }

    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.latest = self.latest.max(now);
    }

    pub(super) fn take_one(&mut self) {
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
                Output::Connect(id, _) | Output::Open(id) => self.connect(id),
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
                    self.check_requests();
                    return self.check();
                }
                Output::Closed => {
                    self.closed = true;
                    self.until = None;
                    assert!(self.over, "closed without a word");
                    assert!(self.sockets.iter().all(|socket| !socket.alive), "closed with a socket open");
                    let open = self.requests.iter().find(|(_, made)| !made.is_empty());
                    assert!(open.is_none(), "closed with a request open: {open:?}");
                    return self.check();
                }
            }
        }
        panic!("{MAX_OUTPUTS} outputs, and it still has something to do");
    }

    fn connect(&mut self, id: ConnId) {
        assert!(self.sockets.last().is_none_or(|last| last.id < id), "{id:?} is not new");
        for socket in self.sockets.iter_mut().filter(|socket| socket.alive && socket.connected) {
            socket.superseded.get_or_insert(self.latest);
        }
        let mut peer = Peer::new(
            self.setup.per_topic,
            self.setup.authenticates,
            self.setup.json && self.setup.manner.greets(),
        );
        peer.separate = self.setup.manner.authenticates_separately();
        let counted = Vec::new();
        let (asked, superseded) = (self.latest, None);
        self.sockets.push(Socket { id, alive: true, connected: false, asked, superseded, peer, counted });
    }

    /// Sockets that were given up are dropped in time, those that lost a race at once.
    fn check_sockets(&self) {
        let alive = || self.sockets.iter().filter(|socket| socket.alive);
        let current = alive().find(|socket| socket.connected && socket.superseded.is_none());
        let newest = alive().rfind(|socket| socket.connected);
        for socket in alive() {
            let left = match socket.superseded {
                // The farewell is awaited for that long, and then as long again for the close frame to be written.
                Some(at) => self.now < at + 2 * CLOSE_TIMEOUT + CATCH_UP,
                None if socket.connected => true,
                None => current.is_none() && self.now < socket.asked + CONNECT_TIMEOUT,
            };
            assert!(left, "{:?} should have been dropped", socket.id);
            let lost = !socket.connected && newest.is_some_and(|newest| socket.id < newest.id);
            assert!(!lost, "{:?} lost a race and was not dropped", socket.id);
        }
    }

    /// What is out of time is settled, and told.
    fn check_requests(&self) {
        for (id, made) in &self.requests {
            let late = made.iter().find(|made| made.deadline <= self.now);
            assert!(late.is_none(), "{id:?} is out of time: {late:?}, now {:?}", self.now);
        }
    }

    fn check(&self) {
        assert!(self.session.queued() <= MAX_QUEUED, "{} bytes queued", self.session.queued());
        if let Some(socket) = self.sockets.last() {
            let len = self.session.transmit(socket.id).len();
            assert!(len <= MAX_QUEUED, "{len} bytes to transmit");
        }
        let wanted = |state: SubscriptionState| state != SubscriptionState::Unsubscribing;
        let (wanted, leaving): (Vec<_>, Vec<_>) = self.session.subscriptions().partition(|s| wanted(s.state));
        // `t0` to `t7`, and the one that is asked for at the end.
        assert!(wanted.len() <= 9, "{wanted:?}");
        assert!(leaving.len() <= self.unsubscribed, "{leaving:?}");
    }

    pub(super) fn note(&mut self, bytes: &[u8]) {
        if let Some(digest) = &mut self.digest {
            *digest = digest.rotate_left(5) ^ hash(bytes);
        }
    }

    /// The peer of a socket read something: it was not more than the limits allow.
    pub(super) fn check_limits(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        // A server's clock does not go back.
        let now = socket.counted.last().map_or(self.now, |last| self.now.max(*last));
        socket.counted.resize(socket.peer.counted.max(socket.counted.len()), now);
        for &(max, span) in &self.setup.windows {
            let Some(before) = socket.counted.len().checked_sub(max + 1) else { continue };
            let passed: Duration = now.saturating_duration_since(socket.counted[before]);
            assert!(passed >= span, "{} messages in {passed:?}, allowed are {max} in {span:?}", max + 1);
        }
    }
}
