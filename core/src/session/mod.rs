//! The session: what outlives a connection.
//!
//! ```text
//!           ┌───────────────────────────────── retry_at ◄───────────────────────────────┐
//!           ▼                                                                           │
//! Idle ─► Connecting ─► (Authenticating) ─► (Preparing) ─► Restoring ─► Online ──lost──► Backoff
//!           │  ▲                                               │           │
//!           └──┘ next address, redirect                        └── close() ┴─► Closing ─► Closed
//! ```
//!
//! Each file holds one concern: `attempt` the way to a connection, `inbound` what arrives on it, `restore` subscriptions, `loss` its
//! end, `driver` and `user` the two sides' calls. What they share is the struct here and three rules:
//!
//! - Work is done in `poll_output`; calls from outside only leave word.
//! - Duties go out before events, events before new bytes are parsed, and timers run only when all is parsed: a pong that has arrived
//!   counts, however late the user takes what came before it.
//! - One event is announced at a time and nothing moves behind it, so that it can borrow.

mod attempt;
mod backoff;
mod closing;
mod config;
mod cooldown;
mod driver;
mod event;
mod feed;
mod inbound;
mod introduction;
mod latency;
mod lease;
mod leaving;
mod limiter;
mod link;
mod liveness;
mod loss;
mod mutant;
mod outbox;
mod output;
mod overflow;
pub(crate) mod player;
mod policy;
mod pump;
mod query;
mod quiet;
mod refresh;
mod requests;
mod restore;
mod resync;
mod sequence;
mod stall;
mod status;
mod subscriptions;
mod tap;
mod timers;
mod topic;
mod tracker;
mod user;
mod watch;
mod watches;

pub use closing::{CloseOptions, Drain, SessionEnd};
pub use config::{
    AtExpiry, Config, ConfigError, Endpoint, Keepalive, Params, Profile, Refresh, SocketOptions, Transport,
};
pub use cooldown::Cooldown;
pub use event::{
    Epoch, Event, Gap, GapCause, Outcome, OwnedEvent, OwnedOutcome, RequestId, SendId, SubscriptionId,
    Unanswered, Unsent,
};
pub use latency::{Latency, Summary};
pub use lease::Lease;
pub use limiter::{Limit, LimitError, Pressure, Rate, SharedLimits};
#[cfg(feature = "mutants")]
#[doc(hidden)]
pub use mutant::Mutant;
#[cfg(not(feature = "mutants"))]
use mutant::Mutant;
pub use output::{AttemptId, ConnId, Output};
pub use overflow::Overflow;
pub use policy::Policy;
pub use requests::{OnDisconnect, RequestOptions};
pub use sequence::{Continuity, Sequence, SequenceRule, Tracker};
pub use status::{State, Stats, Status, Transition};
pub use topic::{SubscribeOptions, SubscriptionInfo, SubscriptionState};
pub use tracker::Sequences;
pub use user::{SendError, SendOptions};
pub use watch::{Step, Watch};

use crate::clock::Clock;
use crate::error::{Error, Notice, Recovery, Timeout};
use crate::record::{Input, What};
use crate::transport::addresses::Addresses;
use crate::ws::Kind;
use crate::ws::receiver::{Inbound, Place};
use attempt::Attempt;
use backoff::{Backoff, FlapBudget};
use closing::Ending;
use latency::Timings;
use lease::Queued;
use limiter::Limiter;
use link::Link;
use liveness::Heartbeat;
use outbox::Outbox;
use quiet::Quiet;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use refresh::Renewal;
use requests::Requests;
use resync::Storm;
use status::History;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use subscriptions::Subscriptions;
use tap::Tap;
use watch::Silence;

/// A WebSocket client that stays connected, without its I/O: see the [crate's documentation](crate) for how to drive it.
pub struct Session {
    /// Sets it apart from every other session of the process; never on the wire.
    identity: u64,
    config: Config,
    clock: Clock,
    seed: [u8; 32],
    rng: ChaCha8Rng,
    history: History,
    stats: Stats,

    /// Connections, the retired ones included: seldom more than two.
    links: Vec<Link>,
    /// Which of them, by index, is the one that the user's messages go over. It is open.
    current: Option<usize>,
    last_conn: u64,
    last_attempt: u64,
    attempt: Option<Attempt>,
    /// What became of the addresses of each host.
    addresses: Addresses,
    backoff: Backoff,
    /// Attempts that failed, one after the other.
    failures: u32,
    retry_at: Option<Instant>,
    /// When the current connection will have proved stable.
    stable_at: Option<Instant>,
    /// What the handshake of the current connection agreed on, until `Event::Online` tells it.
    upgraded: Option<Box<crate::ws::handshake::Upgraded>>,
    epoch: Epoch,
    /// What is to be renewed on the current connection.
    renewal: Renewal,
    /// When the connection of an earlier epoch was last alive, for sessions without topics.
    alive_until: Option<(Epoch, Instant)>,

    requests: Requests,
    subscriptions: Subscriptions,
    /// What waits to be encoded.
    outbox: Outbox,
    /// There are limits on what may be sent.
    limited: bool,
    /// Online, and nothing limits what is sent.
    direct: bool,
    /// Resyncs of topics, so that there are not too many at a time.
    storm: Storm,
    heartbeat: Heartbeat,
    /// Silence of the whole connection; when data came last, and when any message did, answers included.
    data: Silence,
    last_data: Instant,
    last_message: Instant,
    /// Answers of ours to the server's heartbeats that may be answered themselves.
    replies: VecDeque<u64>,
    /// One of the session's own requests was not answered, and that ends the connection once all that arrived is parsed.
    overdue: Option<Timeout>,
    /// What the server said that ends the connection, once all that arrived is told.
    notice: Option<Notice>,
    /// What the protocol wants done about the error that is coming.
    fault_recovery: Option<Recovery>,
    timings: Timings,
    /// Attempts that began, so that there are not too many in a span.
    flaps: Option<FlapBudget>,
    /// Which of the endpoints has its turn.
    turn: usize,
    /// Endpoints that refused for good, without one that did otherwise between.
    turned_down: BTreeSet<usize>,
    /// Name and port of the endpoint that was tried last.
    host: Option<String>,
    was_online: bool,
    /// Messages of the user that were taken; those of them that waited in a lane and left it to be sent; messages besides.
    last_send: u64,
    let_out: u64,
    own_sent: u64,

    /// Requests whose failure a handle wants to be told of out of order, and those that failed.
    watched: BTreeSet<RequestId>,
    watched_failed: Vec<(RequestId, OwnedOutcome)>,
    /// The user was told that the send buffer is full, and waits to hear that it is not.
    refused: bool,

    duties: VecDeque<Output>,
    events: VecDeque<Queued>,
    announced: Announced,
    /// The queued event that was taken last, for as long as it is borrowed.
    told: Option<Queued>,
    /// What was parsed already, but has to wait for events that go before it.
    postponed: Announced,
    /// Topics with a hole, to be made anew once the message that shows it is told: it belongs to the subscription that was.
    gapped: Vec<SubscriptionId>,
    /// The last `Wait`, and what was told since.
    quiet: Quiet,
    /// A message that is several, of which not all were looked at.
    batch: Option<Batch>,
    /// Scratch for encoding protocol messages.
    text: String,
    /// Topics' names are put together in it.
    name: String,
    /// Whether the protocol wants to see inbound text.
    inspects: bool,
    /// The user wants it to end.
    closing: bool,
    /// How he wants that, while there is a connection.
    ending: Option<Box<Ending>>,
    /// How it ended: nothing of what was accepted will be written any more.
    end: Option<SessionEnd>,
    /// Nothing is under way but one open connection with nothing between: its messages need not wait for anything. Whatever may change that unsets
    /// it.
    calm: bool,
    /// The user wants another connection, once all that arrived on this one is told.
    renew: bool,
    /// The way to the recorder, if there is one.
    tap: Option<Box<Tap>>,
    /// Its connections have no sockets, but what a record says of them.
    replayed: bool,
}

/// Where the next part of a message that is several begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    link: usize,
    at: Place,
    cursor: usize,
}

/// The event that `poll_output` announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    Nothing,
    /// It was taken away for a while.
    Leased,
    /// The front of the queue.
    Queued,
    Message {
        link: usize,
        kind: Kind,
        at: Place,
        subscription: Option<SubscriptionId>,
    },
    Chunk {
        link: usize,
        kind: Kind,
        at: Place,
        last: bool,
    },
    Response {
        link: usize,
        id: RequestId,
        ok: bool,
        at: Place,
    },
    Request {
        link: usize,
        id: Place,
        method: Place,
        params: Option<Place>,
    },
    Notice {
        link: usize,
        at: Place,
        recovery: Option<Recovery>,
    },
}

impl Session {
    /// A session that connects as soon as it is polled. `start` says what time it is; `seed` is the only entropy: it must be random
    /// and secret for masks to be what RFC 6455 section 10.3 wants of them, and with the same seed and the same calls the
    /// session does the same, byte for byte.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that cannot work, and what would.
    pub fn new(config: Config, start: Clock, seed: [u8; 32]) -> Result<Self, ConfigError> {
        config.validate()?;
        let limits: Vec<Limit> =
            config.protocol.limits().into_iter().chain(config.send_limits.iter().cloned()).collect();
        for limit in &limits {
            limit.validate().map_err(ConfigError::Limit)?;
        }
        let limiter = Limiter::new(limits, config.shared_limits.clone());
        let flaps = config.flap_budget.map(|(max, per)| FlapBudget::new(max, per));
        let timings = Timings::new(config.latency_buffer);
        let mut session = Self {
            identity: IDENTITIES.fetch_add(1, Ordering::Relaxed),
            inspects: config.protocol.inspects(),
            config,
            clock: start,
            seed,
            rng: ChaCha8Rng::from_seed(seed),
            history: History::new(start.instant),
            stats: Stats::default(),
            links: Vec::new(),
            current: None,
            last_conn: 0,
            last_attempt: 0,
            attempt: None,
            addresses: Addresses::default(),
            backoff: Backoff::default(),
            failures: 0,
            retry_at: Some(start.instant),
            stable_at: None,
            upgraded: None,
            epoch: Epoch(0),
            renewal: Renewal::default(),
            alive_until: None,
            requests: Requests::default(),
            subscriptions: Subscriptions::default(),
            limited: !limiter.is_empty(),
            direct: false,
            outbox: Outbox::new(limiter),
            storm: Storm::default(),
            heartbeat: Heartbeat::default(),
            data: Silence::default(),
            last_data: start.instant,
            last_message: start.instant,
            replies: VecDeque::new(),
            overdue: None,
            notice: None,
            fault_recovery: None,
            timings,
            flaps,
            turn: 0,
            turned_down: BTreeSet::new(),
            host: None,
            was_online: false,
            last_send: 0,
            let_out: 0,
            own_sent: 0,
            watched: BTreeSet::new(),
            watched_failed: Vec::new(),
            refused: false,
            duties: VecDeque::new(),
            events: VecDeque::new(),
            announced: Announced::Nothing,
            told: None,
            postponed: Announced::Nothing,
            gapped: Vec::new(),
            quiet: Quiet::default(),
            batch: None,
            text: String::new(),
            name: String::new(),
            closing: false,
            ending: None,
            end: None,
            calm: false,
            renew: false,
            tap: None,
            replayed: false,
        };
        if let Some(recorder) = session.config.recording.0.clone() {
            let mut tap = Tap::new(recorder, session.identity, start);
            session.history.note();
            tap.tell(session.epoch, What::Start { config: &session.config, seed });
            session.tap = Some(Box::new(tap));
        }
        Ok(session)
    }

    /// What to do next. The answer stays the same until its cause is dealt with, except for what [`Output`] marks as said once.
    #[inline]
    pub fn poll_output(&mut self, now: Instant) -> Output {
        // The common case first: a message that is there, and nothing that must go before it.
        if self.calm
            && matches!(self.announced, Announced::Nothing)
            && let Some(link) = self.links.first_mut()
        {
            if let Some((kind, at)) = link.receiver.poll_plain() {
                return self.announce(kind, at, now);
            }
            let inbound = if link.receiver.has_input() { link.receiver.poll() } else { Ok(None) };
            match inbound {
                Ok(None) if self.quiet.holds(now) => return self.quiet.again(),
                Ok(None) => {}
                Ok(Some(Inbound::Message(kind, at))) => return self.announce(kind, at, now),
                Ok(Some(other)) => self.inbound(0, other, now),
                Err(error) => self.failed(0, Error::Protocol(error), now),
            }
        }
        self.poll_slow(now)
    }

    /// Announces a message of the only connection.
    #[inline]
    fn announce(&mut self, kind: Kind, at: Place, now: Instant) -> Output {
        self.quiet.told(now);
        self.stats.messages_received += 1;
        (self.last_data, self.last_message) = (now, now);
        self.announced = Announced::Message { link: 0, kind, at, subscription: None };
        Output::Event
    }

    fn poll_slow(&mut self, now: Instant) -> Output {
        if self.tap.is_none() {
            return self.poll_all(now);
        }
        self.tap_poll(now);
        let output = self.poll_all(now);
        self.tap_output(output);
        output
    }

    fn poll_all(&mut self, now: Instant) -> Output {
        self.calm = false;
        self.quiet.ends();
        loop {
            if let Some(duty) = self.duties.pop_front() {
                return duty;
            }
            if self.announced != Announced::Nothing {
                // The user takes his time. What he and others send meanwhile must go out all the same.
                self.links.iter_mut().for_each(Link::encrypt);
                self.calm = self.is_calm();
                return Output::Event;
            }
            if !self.events.is_empty() {
                self.announced = Announced::Queued;
                self.quiet.told(now);
                continue;
            }
            if self.postponed != Announced::Nothing {
                self.announced = std::mem::replace(&mut self.postponed, Announced::Nothing);
                continue;
            }
            if !self.gapped.is_empty() {
                self.resync_gapped(now);
                continue;
            }
            if self.history.state == State::Closed && self.links.is_empty() {
                return Output::Closed;
            }
            if self.step_links(now) {
                continue;
            }
            self.pump(now);
            if self.close_step(now) || self.close_done(now) || !self.events.is_empty() {
                continue;
            }
            if self.current.is_some_and(|index| self.gives_up(index)) {
                continue;
            }
            self.links.iter_mut().for_each(|link| link.check_stall(now));
            match self.deadline() {
                Some(due) if due <= now => {
                    if self.tap.is_some() {
                        self.tap_timer(due, now);
                    }
                    if self.run_out(now) {
                        continue;
                    }
                    let (received, open) = (self.stats.bytes_received, self.current.is_some());
                    match self.quiet.read_first(received, open, now) {
                        Some(soon) => return Output::Wait(Some(soon)),
                        None => self.run_timers(now),
                    }
                }
                due => {
                    self.calm = self.is_calm();
                    return self.quiet.begins(due);
                }
            }
        }
    }

    /// See `calm`.
    fn is_calm(&self) -> bool {
        !self.inspects
            && !self.limited
            && !self.renew
            && self.tap.is_none()
            && self.data.told().is_none()
            && self.current == Some(0)
            && self.links.len() == 1
            && self.links[0].is_plain()
            && self.duties.is_empty()
            && self.events.is_empty()
            && self.postponed == Announced::Nothing
    }

    /// Takes one thing off each connection that has something; false if none had.
    fn step_links(&mut self, now: Instant) -> bool {
        let mut progress = false;
        let mut index = 0;
        while index < self.links.len() {
            if self.links[index].is_over() {
                self.remove_link(index);
                progress = true;
                continue;
            }
            if !self.links[index].is_paused() {
                progress |= self.step_link(index, now);
            } else if self.renew && self.current == Some(index) {
                let error = self.leaves_for();
                self.failed(index, error, now);
                progress = true;
            } else if self.gives_up(index)
                && let Some(error) = self.outbox.unsaid.take()
            {
                self.failed(index, error, now);
                progress = true;
            }
            if self.announced != Announced::Nothing || !self.duties.is_empty() || !self.events.is_empty() {
                return true;
            }
            if let Some(link) = self.links.get_mut(index) {
                link.encrypt();
            }
            index += 1;
        }
        progress
    }

    /// Takes the announced event. It borrows from the session, messages from the very buffer that they were received in.
    #[inline]
    pub fn event(&mut self) -> Option<Event<'_>> {
        if self.tap.is_some() && !matches!(self.announced, Announced::Nothing | Announced::Leased) {
            self.tap(Input::Taken { leased: false }, None);
        }
        if let Announced::Message { link, kind, at, subscription } = self.announced {
            self.announced = Announced::Nothing;
            let receiver = &self.links[link].receiver;
            let message = match kind {
                Kind::Text => crate::Message::Text(receiver.text(at)),
                Kind::Binary => crate::Message::Binary(receiver.bytes(at)),
            };
            return Some(Event::Message { message, epoch: self.epoch, subscription });
        }
        self.event_slow()
    }

    #[inline]
    fn link_index(&self, conn: ConnId) -> Option<usize> {
        if self.links.first().is_some_and(|link| link.id == conn) {
            return Some(0);
        }
        self.links.iter().position(|link| link.id == conn)
    }

    /// Forgets a connection, and has it dropped unless it is gone.
    fn remove_link(&mut self, index: usize) {
        self.drain_notes();
        let link = self.links.remove(index);
        if link.gone.is_none() {
            self.duties.push_back(Output::Disconnect(link.id));
        }
        let shift = |at: &mut usize| {
            if *at > index {
                *at -= 1;
            }
        };
        self.current.iter_mut().for_each(shift);
        // What is announced never names a link that is removed: those are retired and their bytes taken, or never were open.
        for announced in [&mut self.announced, &mut self.postponed] {
            announced.link_mut().into_iter().for_each(shift);
        }
        self.batch.iter_mut().for_each(|batch| shift(&mut batch.link));
    }
}

/// The next [`Session::identity`]: so that what was leased of one session is never given back to another.
static IDENTITIES: AtomicU64 = AtomicU64::new(0);

impl Announced {
    /// The index of the connection that it came over.
    fn link_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Message { link, .. }
            | Self::Chunk { link, .. }
            | Self::Response { link, .. }
            | Self::Request { link, .. }
            | Self::Notice { link, .. } => Some(link),
            Self::Nothing | Self::Leased | Self::Queued => None,
        }
    }
}
