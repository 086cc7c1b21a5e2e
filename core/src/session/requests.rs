//! Requests that wait for their answers, the session's own among them. Each is settled exactly once.

use super::event::{SubscriptionId, Unanswered};
use super::outbox::Lane;
use super::output::ConnId;
use crate::protocol::Request;
use crate::ws::sender::Unwritten;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// How a request is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestOptions {
    /// Time for the answer, waiting for a connection and for the rate limiter included. Default: `Config::request_timeout`.
    pub timeout: Option<Duration>,
    /// What becomes of it without a connection.
    pub on_disconnect: OnDisconnect,
    /// Where the rate limiter holds messages back, it goes before those without priority, and before subscriptions. Default false.
    pub priority: bool,
    /// The id to send it with. Default `None`: one that the session never used. One of your own must not be that of a request that is unsettled.
    pub id: Option<u64>,
}

/// What becomes of a request when there is no connection, or when that is lost before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It fails at once, and says whether it was sent.
    #[default]
    Fail,
    /// It waits for the next connection as long as not one byte of it was sent; otherwise it fails as
    /// [`SentUnknown`](super::Outcome::SentUnknown).
    Hold,
    /// It is sent again on the next connection, even if it was sent before: only for what is safe to do twice.
    Resend,
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    last_id: u64,
    live: BTreeMap<u64, Live>,
    /// Those of the session's own requests, and those of the user's.
    deadlines: [BTreeSet<(Instant, u64)>; 2],
    /// Those that wait for a connection, in the order in which they were made, which is not that of ids that the user chose.
    held: BTreeSet<(u64, u64)>,
    /// How many were made.
    made: u64,
    /// Those that authenticate, and those that subscribe. Ids of the session's own only grow, so that the first was asked first.
    authentications: BTreeSet<u64>,
    subscribes: BTreeSet<u64>,
}

/// Ids of the user's below this are left out by the session for good: it counts on from the largest. It never counts this far, so that
/// larger ones are out of its way.
const COUNTED: u64 = 1 << 52;

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) what: What,
    /// Its number among all that were made.
    made: u64,
    deadline: Instant,
    on_disconnect: OnDisconnect,
    /// Kept only if it may be sent later, or again.
    kept: Option<Box<Kept>>,
    pub(crate) sent: Option<Sent>,
    /// It was sent on a connection before this one.
    resent: bool,
    /// Its outcome comes in messages of their own: that it was understood is no answer.
    separate: bool,
}

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    User,
    Authenticate,
    /// This step of what prepares a connection.
    Prepare(u32),
    Subscribe {
        topics: Vec<SubscriptionId>,
    },
    Unsubscribe(Vec<SubscriptionId>),
    /// Ends a subscription that is then made anew.
    Renew(SubscriptionId),
    /// The protocol's last message before the close frame.
    Farewell,
    /// A heartbeat of ours.
    Heartbeat,
    /// An answer of ours to one of the server's: whether that is answered in turn does not matter.
    HeartbeatReply,
    /// Its outcome came in a message of its own: an answer that comes besides is nobody's business.
    Told,
}

/// What a request says: it is encoded when it goes out, with what is known of that connection.
pub(crate) struct Kept {
    pub(crate) method: String,
    pub(crate) params: Option<String>,
    pub(crate) lane: Lane,
    /// Bytes of it as it was encoded when it was made: what counts for the room that it takes while it waits.
    pub(crate) len: usize,
}

impl Kept {
    pub(crate) fn request(&self) -> Request<'_> {
        Request { method: &self.method, params: self.params.as_deref() }
    }
}

// What is said may hold secrets.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("method", &self.method).field("lane", &self.lane).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    conn: ConnId,
    /// Which data message of the connection it was.
    ordinal: u64,
    pub(crate) at: Instant,
}

/// A request that ended without an answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) id: u64,
    pub(crate) what: What,
    pub(crate) maybe_sent: bool,
    pub(crate) why: Unanswered,
}

impl Requests {
    /// An id that no request of this session had before, those that the user named included: a late answer to one of them must not be
    /// taken for an answer to another.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id = self.peek_id();
        self.last_id
    }

    /// The one that [`next_id`](Self::next_id) would give.
    pub(crate) fn peek_id(&self) -> u64 {
        let mut id = self.last_id + 1;
        while self.live.contains_key(&id) {
            id += 1;
        }
        id
    }

    /// Whether a request with this id is unsettled.
    pub(crate) fn is_live(&self, id: u64) -> bool {
        self.live.contains_key(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn insert(
        &mut self,
        id: u64,
        what: What,
        deadline: Instant,
        on_disconnect: OnDisconnect,
        kept: Option<Kept>,
    ) {
        let kept = kept.map(Box::new);
        if id < COUNTED {
            self.last_id = self.last_id.max(id);
        }
        self.made += 1;
        let made = self.made;
        self.deadlines[usize::from(what == What::User)].insert((deadline, id));
        match what {
            What::Authenticate => _ = self.authentications.insert(id),
            What::Subscribe { .. } => _ = self.subscribes.insert(id),
            _ => {}
        }
        self.live.insert(
            id,
            Live { what, made, deadline, on_disconnect, kept, sent: None, resent: false, separate: false },
        );
    }

    /// It goes out now, as this data message of that connection.
    pub(crate) fn sent(&mut self, id: u64, (conn, ordinal): (ConnId, u64), now: Instant) {
        if let Some(live) = self.live.get_mut(&id) {
            self.held.remove(&(live.made, id));
            live.sent = Some(Sent { conn, ordinal, at: now });
        }
    }

    /// Its outcome comes in messages of their own.
    pub(crate) fn set_separate(&mut self, id: u64) {
        if let Some(live) = self.live.get_mut(&id) {
            live.separate = true;
        }
    }

    pub(crate) fn is_separate(&self, id: u64) -> bool {
        self.live.get(&id).is_some_and(|live| live.separate)
    }

    /// Whether the time of an unsettled one is over.
    pub(crate) fn is_late(&self, id: u64, now: Instant) -> bool {
        self.live.get(&id).is_some_and(|live| live.deadline <= now)
    }

    /// What is kept of one.
    pub(crate) fn kept(&self, id: u64) -> Option<&Kept> {
        self.live.get(&id)?.kept.as_deref()
    }

    /// The method of one that is kept.
    pub(crate) fn method(&self, id: u64) -> Option<&str> {
        Some(&self.kept(id)?.method)
    }

    /// What was kept of one that is to be sent.
    pub(crate) fn take_kept(&mut self, id: u64) -> Option<Box<Kept>> {
        self.live.get_mut(&id)?.kept.take()
    }

    /// It was sent: this is kept only if it may have to be sent again.
    pub(crate) fn keep(&mut self, id: u64, kept: Box<Kept>) {
        if let Some(live) = self.live.get_mut(&id).filter(|live| live.on_disconnect != OnDisconnect::Fail) {
            live.kept = Some(kept);
        }
    }

    /// What becomes of an unsettled one without a connection.
    pub(crate) fn on_disconnect(&self, id: u64) -> Option<OnDisconnect> {
        self.live.get(&id).map(|live| live.on_disconnect)
    }

    /// It waits for a connection.
    pub(crate) fn hold(&mut self, id: u64) {
        self.held.extend(self.live.get(&id).map(|live| (live.made, id)));
    }

    /// The first that waits for a connection; it does not any more.
    pub(crate) fn take_held(&mut self) -> Option<u64> {
        self.held.pop_first().map(|(_, id)| id)
    }

    /// Takes out an answer of ours to a heartbeat. The user may have named its id since it was settled.
    pub(crate) fn settle_reply(&mut self, id: u64) {
        if self.is_reply(id) {
            self.settle(id);
        }
    }

    pub(crate) fn is_reply(&self, id: u64) -> bool {
        self.live.get(&id).is_some_and(|live| live.what == What::HeartbeatReply)
    }

    /// Takes it out: it is answered, or cancelled.
    pub(crate) fn settle(&mut self, id: u64) -> Option<Live> {
        let live = self.live.remove(&id)?;
        self.deadlines[usize::from(live.what == What::User)].remove(&(live.deadline, id));
        self.held.remove(&(live.made, id));
        match live.what {
            What::Authenticate => _ = self.authentications.remove(&id),
            What::Subscribe { .. } => _ = self.subscribes.remove(&id),
            _ => {}
        }
        Some(live)
    }

    /// The outcome of the authentication that was sent first and has none was told. When it was sent.
    pub(crate) fn told_authentication(&mut self) -> Option<Option<Sent>> {
        let live = self.live.get_mut(&self.authentications.pop_first()?)?;
        live.what = What::Told;
        Some(live.sent)
    }

    /// Unsettled requests that subscribe, the first that was sent first: each with its topics, and whether its outcome comes in messages of
    /// their own. All of these topics may have their outcome already.
    pub(crate) fn subscribes(&self) -> impl Iterator<Item = (u64, &[SubscriptionId], bool)> {
        self.subscribes.iter().filter_map(|id| match self.live.get(id)? {
            Live { what: What::Subscribe { topics }, separate, .. } => Some((*id, &**topics, *separate)),
            _ => None,
        })
    }

    /// The topics of an unsettled one that subscribes, if their outcomes come in messages of their own.
    pub(crate) fn separate_topics(&self, id: u64) -> Option<&[SubscriptionId]> {
        match self.live.get(&id)? {
            Live { what: What::Subscribe { topics }, separate: true, .. } => Some(topics),
            _ => None,
        }
    }

    pub(crate) fn is_users(&self, id: u64) -> bool {
        self.live.get(&id).is_some_and(|live| live.what == What::User)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.iter().filter_map(|set| set.first()).map(|(deadline, _)| *deadline).min()
    }

    /// How many of the user's are unsettled.
    pub(crate) fn users(&self) -> usize {
        self.deadlines[1].len()
    }

    /// The same for the user's alone.
    pub(crate) fn users_deadline(&self) -> Option<Instant> {
        self.deadlines[1].first().map(|(deadline, _)| *deadline)
    }

    /// The same of one of them.
    pub(crate) fn users_deadline_of(&self, id: u64) -> Option<Instant> {
        self.live.get(&id).filter(|live| live.what == What::User).map(|live| live.deadline)
    }

    /// Takes out one of the user's whose time is over.
    pub(crate) fn expire_users(&mut self, now: Instant) -> Option<Failed> {
        self.expire(1, now)
    }

    /// Takes out one of the session's own whose time is over. Only when all that arrived is parsed: the answer may be among it.
    pub(crate) fn expire_own(&mut self, now: Instant) -> Option<Failed> {
        self.expire(0, now)
    }

    fn expire(&mut self, whose: usize, now: Instant) -> Option<Failed> {
        let (_, id) = *self.deadlines[whose].first().filter(|(deadline, _)| *deadline <= now)?;
        self.fail(id, Unanswered::Timeout)
    }

    /// Takes out any one, in order of their ids.
    pub(crate) fn fail_first(&mut self, why: Unanswered) -> Option<Failed> {
        let id = *self.live.first_key_value()?.0;
        self.fail(id, why)
    }

    pub(crate) fn fail(&mut self, id: u64, why: Unanswered) -> Option<Failed> {
        let live = self.settle(id)?;
        Some(Failed { id, maybe_sent: live.maybe_sent(), what: live.what, why })
    }

    /// Nothing is sent any more: takes out all but those of the user's that are encoded for this connection and not written, not even in part.
    /// What becomes of these is not known yet.
    pub(crate) fn no_more(&mut self, conn: ConnId, messages: u64, unwritten: Unwritten) -> Vec<Failed> {
        let first_unsent = messages - unwritten.whole;
        let open = |live: &Live| {
            live.what == What::User
                && live.sent.is_some_and(|sent| sent.conn == conn && sent.ordinal >= first_unsent)
        };
        let ids: Vec<u64> = self.live.iter().filter(|(_, live)| !open(live)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.fail(id, Unanswered::Closed)).collect()
    }

    /// The connection is lost, with this much of its `messages` data messages unwritten: takes out those that end with it, and
    /// holds the others.
    pub(crate) fn lost(&mut self, conn: ConnId, messages: u64, unwritten: Unwritten) -> Vec<Failed> {
        let first_unsent = messages - unwritten.whole;
        let mut failed = Vec::new();
        for (&id, live) in &mut self.live {
            if live.what != What::User && live.sent.is_none() {
                // It waited for the limiter, and was for this connection alone.
                failed.push(id);
                continue;
            }
            let Some(sent) = live.sent.take_if(|sent| sent.conn == conn) else { continue };
            let left = sent.ordinal < first_unsent;
            live.resent |= left;
            match live.on_disconnect {
                OnDisconnect::Resend => _ = self.held.insert((live.made, id)),
                OnDisconnect::Hold if !left => _ = self.held.insert((live.made, id)),
                _ => failed.push(id),
            }
        }
        failed.into_iter().filter_map(|id| self.fail(id, Unanswered::ConnectionLost)).collect()
    }
}

impl Live {
    pub(crate) fn maybe_sent(&self) -> bool {
        self.sent.is_some() || self.resent
    }
}
