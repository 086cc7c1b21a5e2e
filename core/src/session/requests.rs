//! Requests that wait for their answers, the session's own among them. Each is settled exactly once.

use super::event::{SubscriptionId, Unanswered};
use super::output::ConnId;
use crate::ws::sender::Unwritten;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How a request is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestOptions {
    /// Time for the answer, waiting for a connection included. Default: `Config::request_timeout`.
    pub timeout: Option<Duration>,
    /// What becomes of it without a connection.
    pub on_disconnect: OnDisconnect,
}

/// What becomes of a request when there is no connection, or when that is lost before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
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
    deadlines: BTreeSet<(Instant, u64)>,
    /// Those that wait for a connection.
    held: BTreeSet<u64>,
}

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) what: What,
    deadline: Instant,
    on_disconnect: OnDisconnect,
    /// The encoded request, kept only if it may be sent again.
    text: Option<String>,
    sent: Option<Sent>,
    /// It was sent on a connection before this one.
    resent: bool,
}

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    User,
    Subscribe { topics: Vec<SubscriptionId>, restore: bool },
    Unsubscribe,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    conn: ConnId,
    /// Which data message of the connection it was.
    ordinal: u64,
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
    /// An id that no request of this session had before.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
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
        text: &str,
    ) {
        let text = (on_disconnect != OnDisconnect::Fail).then(|| text.to_owned());
        self.deadlines.insert((deadline, id));
        self.live.insert(id, Live { what, deadline, on_disconnect, text, sent: None, resent: false });
    }

    /// It goes out now, as data message `ordinal` of `conn`.
    pub(crate) fn sent(&mut self, id: u64, conn: ConnId, ordinal: u64) {
        self.held.remove(&id);
        if let Some(live) = self.live.get_mut(&id) {
            live.sent = Some(Sent { conn, ordinal });
        }
    }

    /// It waits for a connection.
    pub(crate) fn hold(&mut self, id: u64) {
        self.held.insert(id);
    }

    /// The first that waits for a connection, and its text.
    pub(crate) fn first_held(&self) -> Option<(u64, &str)> {
        let id = *self.held.first()?;
        let text = self.live.get(&id).and_then(|live| live.text.as_deref());
        Some((id, text.unwrap_or_default()))
    }

    /// Takes it out: it is answered, or cancelled.
    pub(crate) fn settle(&mut self, id: u64) -> Option<Live> {
        let live = self.live.remove(&id)?;
        self.deadlines.remove(&(live.deadline, id));
        self.held.remove(&id);
        Some(live)
    }

    pub(crate) fn is_users(&self, id: u64) -> bool {
        self.live.get(&id).is_some_and(|live| live.what == What::User)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out one whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Failed> {
        let (deadline, id) = *self.deadlines.first()?;
        if now < deadline {
            return None;
        }
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

    /// The connection is lost, with this much of its `messages` data messages unwritten: takes out those that end with it, and
    /// holds the others.
    pub(crate) fn lost(&mut self, conn: ConnId, messages: u64, unwritten: Unwritten) -> Vec<Failed> {
        let first_unsent = messages - unwritten.whole;
        let mut failed = Vec::new();
        for (&id, live) in &mut self.live {
            let Some(sent) = live.sent.take_if(|sent| sent.conn == conn) else { continue };
            let left = sent.ordinal < first_unsent;
            live.resent |= left;
            match live.on_disconnect {
                OnDisconnect::Resend => _ = self.held.insert(id),
                OnDisconnect::Hold if !left => _ = self.held.insert(id),
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
