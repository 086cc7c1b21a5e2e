//! What waits to be encoded: for the rate limiter, for authentication, for restore. Without limits hardly anything ever does.
//!
//! Lanes, the most urgent first: pongs and heartbeats, what authenticates and prepares, the user's priority messages, subscriptions, the rest. Within one
//! the order is kept. A lane that a limit holds back keeps what that limit has for itself: those behind it pass if they spend nothing of
//! it. Authentication lets nothing pass.

use super::event::{SendId, SubscriptionId};
use super::limiter::{Limiter, Pressure};
use super::requests::What;
use crate::error::Error;
use crate::protocol::Ack;
use crate::ws::Kind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Instant;

/// Answers to the server's heartbeats that may wait; older ones mean nothing any more.
const MAX_REPLIES: usize = 16;

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) limiter: Limiter,
    /// The payload of the last ping that is not answered: only that one needs to be (RFC 6455 section 5.5.3).
    pub(crate) pong: Option<Vec<u8>>,
    pub(crate) ping: Option<[u8; 8]>,
    pub(crate) replies: VecDeque<(u64, String)>,
    /// A heartbeat of ours is due.
    pub(crate) beat: bool,
    /// What authenticates or prepares, as it was written when its turn came. If it was held back it is written anew when it can be sent.
    pub(crate) introduction: Option<Introduction>,
    /// It cannot be written, which ends the connection once all that arrived is told.
    pub(crate) unsaid: Option<Error>,
    /// What ends subscriptions, if it was held back.
    pub(crate) ending: Option<Ending>,
    /// Subscriptions to be made anew.
    pub(crate) renewals: VecDeque<SubscriptionId>,
    /// Of the requests that are just being made, the first one's id, and their text: if they go out at once it need not be written anew.
    pub(crate) fresh: Option<Fresh>,
    lanes: [BTreeMap<u64, Waiting>; 2],
    deadlines: BTreeSet<(Instant, Lane, u64)>,
    /// Where the requests are that wait.
    requests: BTreeMap<u64, (Lane, u64)>,
    tickets: u64,
    /// Messages and bytes in the lanes.
    waiting: usize,
    bytes: usize,
    /// When the limiter may let the next one go.
    pub(crate) ready_at: Option<Instant>,
    /// Where nothing may wait: when what was refused may be tried again.
    pub(crate) room_at: Option<Instant>,
    /// How many waited when that was looked at last.
    pub(crate) waited: usize,
    /// What the user was told last.
    pub(crate) level: Pressure,
}

/// Requests as they are just written.
pub(crate) struct Fresh {
    pub(crate) first: u64,
    pub(crate) text: String,
}

// What is said may hold secrets.
impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("first", &self.first).finish_non_exhaustive()
    }
}

/// A message that goes before all others on a connection: it authenticates or prepares it.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub(crate) id: u64,
    pub(crate) text: String,
    pub(crate) ack: Ack,
    pub(crate) what: What,
    /// When it was written: a signature does not keep.
    pub(crate) written: Instant,
}

/// The message that ends subscriptions: it has to be written to know whether there is one.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) topics: Vec<SubscriptionId>,
    pub(crate) id: u64,
    pub(crate) text: String,
    pub(crate) ack: Ack,
}

/// The user's two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Priority,
    Normal,
}

/// What waits in a lane.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) what: Waits,
    pub(crate) deadline: Option<Instant>,
}

#[derive(Debug, Clone)]
pub(crate) enum Waits {
    Message {
        id: SendId,
        kind: Kind,
        bytes: Vec<u8>,
        compress: bool,
        /// Of a notification.
        method: Option<Box<str>>,
    },
    /// What it says is with the requests.
    Request { id: u64, len: usize },
    /// Requests in one message of so many bytes.
    Batch(Vec<u64>, usize),
}

impl Waits {
    fn len(&self) -> usize {
        match self {
            Self::Message { bytes, .. } => bytes.len(),
            Self::Request { len, .. } | Self::Batch(_, len) => *len,
        }
    }

    /// The requests that it makes.
    pub(crate) fn requests(&self) -> &[u64] {
        match self {
            Self::Message { .. } => &[],
            Self::Request { id, .. } => std::slice::from_ref(id),
            Self::Batch(ids, _) => ids,
        }
    }
}

impl Outbox {
    pub(crate) fn new(limiter: Limiter) -> Self {
        Self {
            limiter,
            pong: None,
            ping: None,
            replies: VecDeque::new(),
            beat: false,
            introduction: None,
            unsaid: None,
            ending: None,
            renewals: VecDeque::new(),
            fresh: None,
            lanes: Default::default(),
            deadlines: BTreeSet::new(),
            requests: BTreeMap::new(),
            tickets: 0,
            waiting: 0,
            bytes: 0,
            ready_at: None,
            room_at: None,
            waited: 0,
            level: Pressure::None,
        }
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
            && self.pong.is_none()
            && self.ping.is_none()
            && self.replies.is_empty()
            && !self.beat
            && self.introduction.is_none()
            && self.renewals.is_empty()
    }

    /// Messages and requests of the user that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of them.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a message of `len` bytes may join those that wait.
    pub(crate) fn has_room(&self, len: usize, messages: usize, bytes: usize) -> bool {
        self.waiting < messages && self.bytes.saturating_add(len) <= bytes
    }

    pub(crate) fn reply(&mut self, id: u64, text: String) {
        if self.replies.len() == MAX_REPLIES {
            self.replies.pop_front();
        }
        self.replies.push_back((id, text));
    }

    pub(crate) fn push(&mut self, lane: Lane, what: Waits, deadline: Option<Instant>) {
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, lane, ticket));
        }
        self.requests.extend(what.requests().iter().map(|id| (*id, (lane, ticket))));
        (self.waiting, self.bytes) = (self.waiting + 1, self.bytes + what.len());
        self.lanes[lane as usize].insert(ticket, Waiting { what, deadline });
    }

    /// Whether something waits in a lane.
    pub(crate) fn has(&self, lane: Lane) -> bool {
        !self.lanes[lane as usize].is_empty()
    }

    /// The first of a lane.
    pub(crate) fn first(&self, lane: Lane) -> Option<&Waits> {
        Some(&self.lanes[lane as usize].first_key_value()?.1.what)
    }

    /// The first of a lane, and who has to let it go.
    pub(crate) fn first_limited(&mut self, lane: Lane) -> Option<(&Waits, &mut Limiter)> {
        let (_, waiting) = self.lanes[lane as usize].first_key_value()?;
        Some((&waiting.what, &mut self.limiter))
    }

    pub(crate) fn pop(&mut self, lane: Lane) -> Option<Waits> {
        let ticket = *self.lanes[lane as usize].first_key_value()?.0;
        self.take(lane, ticket)
    }

    fn take(&mut self, lane: Lane, ticket: u64) -> Option<Waits> {
        let Waiting { what, deadline } = self.lanes[lane as usize].remove(&ticket)?;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, lane, ticket));
        }
        for id in what.requests() {
            self.requests.remove(id);
        }
        (self.waiting, self.bytes) = (self.waiting - 1, self.bytes - what.len());
        Some(what)
    }

    /// Whether a message that waits makes this request, settled or not.
    pub(crate) fn names(&self, id: u64) -> bool {
        self.requests.contains_key(&id)
    }

    /// A request is settled: if it waits it gives up its place, unless it shares a message with others that are `live`.
    pub(crate) fn forget(&mut self, id: u64, live: impl Fn(u64) -> bool) {
        let Some(&(lane, ticket)) = self.requests.get(&id) else { return };
        let waiting = self.lanes[lane as usize].get(&ticket);
        if waiting.is_some_and(|waiting| !waiting.what.requests().iter().any(|id| live(*id))) {
            self.take(lane, ticket);
        }
    }

    /// Takes out the first of a lane if its time is over by now. At that very moment it is not, if it can be sent.
    pub(crate) fn take_late(&mut self, lane: Lane, now: Instant) -> Option<Waits> {
        let (ticket, waiting) = self.lanes[lane as usize].first_key_value()?;
        waiting.deadline.filter(|deadline| *deadline < now)?;
        self.take(lane, *ticket)
    }

    /// Takes out a message whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Waits> {
        let &(_, lane, ticket) = self.deadlines.first().filter(|(at, ..)| *at <= now)?;
        self.take(lane, ticket)
    }

    /// Earliest moment at which something has to be done.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.ready_at, self.room_at, self.deadlines.first().map(|(at, ..)| *at)].into_iter().flatten().min()
    }

    /// The connection is lost: what waited for it, in order. The limits of the next one begin afresh.
    pub(crate) fn lost(&mut self, now: Instant) -> Vec<Waits> {
        self.limiter.reset(now);
        (self.pong, self.ping, self.introduction, self.unsaid, self.ending) = Default::default();
        (self.beat, self.ready_at, self.room_at) = (false, None, None);
        self.replies.clear();
        self.renewals.clear();
        self.deadlines.clear();
        self.requests.clear();
        (self.waiting, self.bytes) = (0, 0);
        let [priority, normal] = std::mem::take(&mut self.lanes);
        priority.into_values().chain(normal.into_values()).map(|waiting| waiting.what).collect()
    }
}
