//! What the user wants to be subscribed to, and what has become of it on this connection.
//!
//! ```text
//!             connected            asked                  answered
//!  Waiting ──────────────► asks ──────────► Pending ──────────────────► Confirmed ──► Stale (resync)
//!     ▲                     ▲                  │ refused, no answer        │             │
//!     │                     └── retry_at ── Rejected                       │             │
//!     │                     └──────────────────────────────────────────────┼─────────────┘
//!     └──────────────────────────────── connection lost ───────────────────┘
//! ```
//!
//! A topic whose last reference is given up is forgotten at once; what the server still has to be told, and still owes an answer to,
//! is in `leaving`.

use super::event::{Epoch, Gap, GapCause, SubscriptionId};
use super::resync::Damper;
use super::sequence::{SequenceRule, Tracker};
use super::watch::{Silence, Step, Watch};
use crate::protocol::Topic;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

/// State of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionState {
    /// It waits for a connection, or for its turn on it.
    Waiting,
    /// The peer was asked.
    Pending,
    /// In force.
    Confirmed,
    /// The peer refused, or did not answer in time. It is asked again, alone, after a while.
    Rejected,
    /// The last reference is gone; the peer has not confirmed yet that it ends.
    Unsubscribing,
    /// It was in force, and is made anew: messages were missing, or none came for too long.
    Stale,
}

/// How a topic is to be subscribed to.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// Topics of higher priority are asked for, and restored, first. Default 0.
    pub priority: u8,
    /// What to do when no message of it comes for long. Default `None`: silence means nothing.
    pub watch: Option<Watch>,
    /// How its messages are numbered. Default `None`: as the protocol says ([`Protocol::tracker`](crate::Protocol::tracker)).
    pub sequence: Option<SequenceRule>,
}

impl SubscribeOptions {
    /// Asked for, and restored, before those of lower priority.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// What to do when no message of it comes for long.
    pub fn watch(self, watch: Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// How its messages are numbered.
    pub fn sequence(self, rule: SequenceRule) -> Self {
        Self { sequence: Some(rule), ..self }
    }
}

/// A subscription, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionInfo<'a> {
    /// Its id.
    pub id: SubscriptionId,
    /// Its topic's name.
    pub topic: &'a str,
    /// Its state.
    pub state: SubscriptionState,
    /// Since when it has been in it.
    pub since: Instant,
    /// How often it was subscribed to and not unsubscribed from.
    pub references: u32,
    /// When its last message came, on whichever connection.
    pub last_message: Option<Instant>,
    /// Why it was rejected the last time, if it was not confirmed since.
    pub reason: Option<&'a str>,
    /// When it is asked for again, if it was rejected.
    pub retry_at: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    last_id: u64,
    all: BTreeMap<SubscriptionId, Subscription>,
    // Only looked up, never walked: hash order must decide nothing.
    by_name: HashMap<String, SubscriptionId>,
    /// What is to be asked for on this connection, in order.
    asks: BTreeSet<(Reverse<u8>, SubscriptionId)>,
    /// When what was rejected, or is to be made anew, has its turn.
    turns: BTreeSet<(Instant, SubscriptionId)>,
    /// When the silence of each watched topic is to be looked at.
    watching: BTreeSet<(Instant, SubscriptionId)>,
    leaving: BTreeMap<SubscriptionId, Leaving>,
    /// Those of them that the peer was not told of yet.
    unsaid: BTreeSet<SubscriptionId>,
    /// How many restored topics have no outcome yet.
    restoring: usize,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) topic: Topic,
    pub(crate) options: SubscribeOptions,
    pub(crate) state: SubscriptionState,
    since: Instant,
    references: u32,
    /// It was confirmed on this connection, or a message of it came.
    live: bool,
    /// It was in force until then, on the connection of that epoch, and what came since may have been missed.
    gap: Option<(Epoch, Instant, GapCause)>,
    /// `Event::Online` waits for its outcome.
    restores: bool,
    /// It is asked for in a message of its own.
    alone: bool,
    /// The request that asked for it last on this connection; 0 is none.
    asked: u64,
    refusals: u32,
    reason: Option<String>,
    turn: Option<Instant>,
    pub(crate) last_message: Option<Instant>,
    pub(crate) tracker: Option<Box<dyn Tracker>>,
    pub(crate) damper: Damper,
    silence: Silence,
    /// The watch was begun on this connection.
    watched: bool,
}

/// A topic that nobody wants any more.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) topic: Topic,
    since: Instant,
    /// The peer will still answer the message that asked for it, and does not say which one it answers.
    owed: bool,
}

impl Subscriptions {
    /// Adds a topic; true if it is a new one. One that is there already gets another reference.
    pub(crate) fn add(
        &mut self,
        topic: Topic,
        options: SubscribeOptions,
        now: Instant,
    ) -> (SubscriptionId, bool) {
        if let Some(&id) = self.by_name.get(topic.name()) {
            if let Some(subscription) = self.all.get_mut(&id) {
                subscription.references = subscription.references.saturating_add(1);
            }
            return (id, false);
        }
        self.last_id += 1;
        let id = SubscriptionId(self.last_id);
        self.by_name.insert(topic.name().to_owned(), id);
        self.all.insert(id, Subscription::new(topic, options, now));
        (id, true)
    }

    /// Gives back a reference. The subscription if it was the last; `Err` if there is no such subscription.
    pub(crate) fn release(&mut self, id: SubscriptionId) -> Result<Option<Subscription>, ()> {
        let subscription = self.all.get_mut(&id).ok_or(())?;
        subscription.references -= 1;
        if subscription.references > 0 {
            return Ok(None);
        }
        Ok(self.remove(id))
    }

    fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let subscription = self.all.remove(&id)?;
        self.by_name.remove(subscription.topic.name());
        self.asks.remove(&(Reverse(subscription.options.priority), id));
        if let Some(turn) = subscription.turn {
            self.turns.remove(&(turn, id));
        }
        self.restoring -= usize::from(subscription.restores);
        // What is in `watching` is dropped when its time comes.
        Some(subscription)
    }

    /// The peer is to be told that a topic is not wanted any more.
    pub(crate) fn leave(&mut self, id: SubscriptionId, subscription: Subscription, now: Instant) {
        let owed = subscription.state == SubscriptionState::Pending;
        self.leaving.insert(id, Leaving { topic: subscription.topic, since: now, owed });
        self.unsaid.insert(id);
    }

    /// The first topics that the peer is still to be told are not wanted any more, `max` at most.
    pub(crate) fn unsaid(&self, max: usize) -> Vec<SubscriptionId> {
        self.unsaid.iter().copied().take(max).collect()
    }

    pub(crate) fn leaving(&self, id: SubscriptionId) -> Option<&Leaving> {
        self.leaving.get(&id)
    }

    /// The peer was told; `forget` if it will not answer.
    pub(crate) fn said(&mut self, ids: &[SubscriptionId], forget: bool) {
        for id in ids {
            self.unsaid.remove(id);
            if forget {
                self.leaving.remove(id);
            }
        }
    }

    /// The peer confirmed, without saying which message it answers, that it subscribed to a topic of that name. True if that may be meant for
    /// the subscription that is there now, and not for one that was given up.
    pub(crate) fn take_owed(&mut self, name: &str) -> bool {
        let owed = self.leaving.values_mut().find(|leaving| leaving.owed && leaving.topic.name() == name);
        owed.map(|leaving| leaving.owed = false).is_none()
    }

    /// The peer confirmed that a topic of that name ended; false if nobody had asked for that.
    pub(crate) fn left(&mut self, name: &str) -> bool {
        let id = self.leaving.iter().find(|(id, l)| l.topic.name() == name && !self.unsaid.contains(id));
        let id = id.map(|(id, _)| *id);
        id.is_some_and(|id| self.leaving.remove(&id).is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.all.get_mut(&id)
    }

    pub(crate) fn named(&self, name: &str) -> Option<SubscriptionId> {
        self.by_name.get(name).copied()
    }

    /// For `Mutant::AcceptStaleAck`.
    pub(crate) fn named_in(&self, text: &str) -> Vec<SubscriptionId> {
        let named = |s: &Subscription| {
            s.state == SubscriptionState::Pending && text.contains(&format!("\"{}\"", s.topic.name()))
        };
        self.all.iter().filter(|(_, s)| named(s)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn ids(&self) -> Vec<SubscriptionId> {
        self.all.keys().copied().collect()
    }

    /// All of them, those that the peer has not let go of yet at the end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SubscriptionInfo<'_>> {
        let wanted = self.all.iter().map(|(id, s)| SubscriptionInfo {
            id: *id,
            topic: s.topic.name(),
            state: s.state,
            since: s.since,
            references: s.references,
            last_message: s.last_message,
            reason: s.reason.as_deref(),
            retry_at: s.turn.filter(|_| s.state == SubscriptionState::Rejected),
        });
        let leaving = self.leaving.iter().map(|(id, l)| SubscriptionInfo {
            id: *id,
            topic: l.topic.name(),
            state: SubscriptionState::Unsubscribing,
            since: l.since,
            references: 0,
            last_message: None,
            reason: None,
            retry_at: None,
        });
        wanted.chain(leaving)
    }

    pub(crate) fn set(&mut self, id: SubscriptionId, state: SubscriptionState, now: Instant) {
        if let Some(subscription) = self.all.get_mut(&id) {
            subscription.set(state, now);
        }
    }

    /// It is to be asked for as soon as may be.
    pub(crate) fn ask(&mut self, id: SubscriptionId, alone: bool, now: Instant) {
        let Some(subscription) = self.all.get_mut(&id) else { return };
        subscription.alone = alone;
        subscription.set(SubscriptionState::Waiting, now);
        self.asks.insert((Reverse(subscription.options.priority), id));
        if let Some(turn) = subscription.turn.take() {
            self.turns.remove(&(turn, id));
        }
    }

    /// A new connection: all are to be asked for, and `Event::Online` waits for their outcomes.
    pub(crate) fn restore(&mut self, now: Instant) {
        for id in self.ids() {
            self.ask(id, false, now);
        }
        self.all.values_mut().for_each(|subscription| subscription.restores = true);
        self.restoring = self.all.len();
    }

    /// For `Mutant::SkipRestore`.
    pub(crate) fn skip_some(&mut self) {
        for (id, subscription) in self.all.iter_mut().filter(|(id, _)| id.0 % 3 == 0) {
            self.asks.remove(&(Reverse(subscription.options.priority), *id));
            self.restoring -= usize::from(std::mem::take(&mut subscription.restores));
        }
    }

    /// How many restored topics have no outcome yet.
    pub(crate) fn restoring(&self) -> usize {
        self.restoring
    }

    /// What is to be asked for in the next message, `max` topics at most.
    pub(crate) fn next_asks(&self, max: usize) -> Vec<SubscriptionId> {
        let alone = |id: &SubscriptionId| self.all.get(id).is_none_or(|subscription| subscription.alone);
        let mut ids = self.asks.iter().map(|(_, id)| *id);
        let Some(first) = ids.next() else { return Vec::new() };
        if alone(&first) {
            return vec![first];
        }
        let more = ids.take_while(|id| !alone(id)).take(max.saturating_sub(1));
        std::iter::once(first).chain(more).collect()
    }

    pub(crate) fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    pub(crate) fn has_unsaid(&self) -> bool {
        !self.unsaid.is_empty()
    }

    /// They were asked for, by this request.
    pub(crate) fn asked(&mut self, ids: &[SubscriptionId], request: u64, now: Instant) {
        for &id in ids {
            let Some(subscription) = self.all.get_mut(&id) else { continue };
            self.asks.remove(&(Reverse(subscription.options.priority), id));
            subscription.asked = request;
            subscription.set(SubscriptionState::Pending, now);
        }
    }

    /// This request ends it, so that it can be made anew.
    pub(crate) fn renews(&mut self, id: SubscriptionId, request: u64) {
        if let Some(subscription) = self.all.get_mut(&id) {
            subscription.asked = request;
        }
    }

    /// Whether this request was to end it, and nothing else has happened to it since.
    pub(crate) fn is_renewed_by(&self, id: SubscriptionId, request: u64) -> bool {
        let renewed = |s: &Subscription| s.state == SubscriptionState::Stale && s.asked == request;
        self.all.get(&id).is_some_and(renewed)
    }

    /// Whether the outcome of this request is what a topic waits for. One that was dropped meanwhile has nobody to be told; one that was settled
    /// by another answer is settled.
    pub(crate) fn awaits(&self, id: SubscriptionId, request: u64) -> bool {
        let awaits = |s: &Subscription| s.state == SubscriptionState::Pending && s.asked == request;
        self.all.get(&id).is_some_and(awaits)
    }

    /// The request that a topic waits for the outcome of.
    pub(crate) fn pending(&self, id: SubscriptionId) -> Option<u64> {
        self.all.get(&id).filter(|s| s.state == SubscriptionState::Pending).map(|s| s.asked)
    }

    pub(crate) fn confirm(&mut self, id: SubscriptionId, now: Instant) -> Option<&mut Subscription> {
        let subscription = self.all.get_mut(&id)?;
        subscription.set(SubscriptionState::Confirmed, now);
        (subscription.refusals, subscription.reason) = (0, None);
        self.restoring -= usize::from(std::mem::take(&mut subscription.restores));
        if let Some(watch) = subscription.options.watch {
            // What it was made anew for is no new silence.
            if std::mem::replace(&mut subscription.watched, true) {
                subscription.silence.progressed(now);
            } else {
                subscription.silence.start(watch, now);
            }
            self.watching.extend(subscription.silence.deadline().map(|due| (due, id)));
        }
        Some(subscription)
    }

    /// It was refused; how often in a row.
    pub(crate) fn refuse(&mut self, id: SubscriptionId, reason: &str, now: Instant) -> u32 {
        let Some(subscription) = self.all.get_mut(&id) else { return 0 };
        subscription.set(SubscriptionState::Rejected, now);
        subscription.reason = Some(reason.to_owned());
        subscription.refusals = subscription.refusals.saturating_add(1);
        self.restoring -= usize::from(std::mem::take(&mut subscription.restores));
        subscription.refusals
    }

    /// It has its turn then: to be asked for again, or to be made anew.
    pub(crate) fn set_turn(&mut self, id: SubscriptionId, at: Option<Instant>) {
        let Some(subscription) = self.all.get_mut(&id) else { return };
        if let Some(turn) = std::mem::replace(&mut subscription.turn, at) {
            self.turns.remove(&(turn, id));
        }
        if let Some(at) = at {
            self.turns.insert((at, id));
        }
    }

    /// One that has its turn.
    pub(crate) fn take_turn(&mut self, now: Instant) -> Option<(SubscriptionId, SubscriptionState)> {
        let &(at, id) = self.turns.first().filter(|(at, _)| *at <= now)?;
        self.turns.remove(&(at, id));
        let subscription = self.all.get_mut(&id)?;
        subscription.turn = None;
        Some((id, subscription.state))
    }

    /// One whose silence has to be looked at.
    pub(crate) fn take_watched(&mut self, now: Instant) -> Option<SubscriptionId> {
        let &(at, id) = self.watching.first().filter(|(at, _)| *at <= now)?;
        self.watching.remove(&(at, id));
        Some(id)
    }

    /// Looks at a topic's silence, and says what is to be done about it.
    pub(crate) fn check_silence(&mut self, id: SubscriptionId, now: Instant) -> Option<Step> {
        let subscription = self.all.get_mut(&id)?;
        let step = subscription.silence.check(subscription.heard(), now);
        self.watching.extend(subscription.silence.deadline().map(|due| (due, id)));
        step
    }

    /// A message of it came.
    pub(crate) fn heard(&mut self, id: SubscriptionId, now: Instant) -> Option<&mut Subscription> {
        let subscription = self.all.get_mut(&id)?;
        subscription.last_message = Some(now);
        if subscription.watched && subscription.silence.heard(now) {
            self.watching.extend(subscription.silence.deadline().map(|due| (due, id)));
        }
        Some(subscription)
    }

    /// Earliest moment at which one of them has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, SubscriptionId)>| set.first().map(|(at, _)| *at);
        [first(&self.turns), first(&self.watching)].into_iter().flatten().min()
    }

    /// The connection is lost; it was alive until `since`.
    pub(crate) fn lost(&mut self, epoch: Epoch, since: Instant, now: Instant) {
        self.asks.clear();
        self.turns.clear();
        self.watching.clear();
        self.leaving.clear();
        self.unsaid.clear();
        self.restoring = 0;
        for subscription in self.all.values_mut() {
            if std::mem::take(&mut subscription.live) {
                subscription.gap.get_or_insert((epoch, since, GapCause::Reconnect));
            }
            (subscription.turn, subscription.tracker) = (None, None);
            subscription.silence.stop();
            subscription.watched = false;
            (subscription.restores, subscription.asked) = (false, 0);
            subscription.set(SubscriptionState::Waiting, now);
        }
    }

    /// Forgets all of them: nothing is restored. Those that were forgotten.
    pub(crate) fn drop_all(&mut self) -> Vec<(SubscriptionId, Subscription)> {
        let ids = self.ids();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// These topics are in force: that ends their gaps. Those that had one make up the report. Topics whose gaps began differently get
    /// reports of their own.
    pub(crate) fn close_gaps(&mut self, ids: &[SubscriptionId], after: Epoch, until: Instant) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for &id in ids {
            let Some(subscription) = self.all.get_mut(&id) else { continue };
            subscription.live = true;
            let Some((before, since, cause)) = subscription.gap.take() else { continue };
            let topic = (id, subscription.topic.name().to_owned());
            match gaps.iter_mut().find(|gap| gap.before == before && gap.since == since && gap.cause == cause)
            {
                Some(gap) => gap.topics.push(topic),
                None => gaps.push(Gap { topics: vec![topic], before, after, since, until, cause }),
            }
        }
        gaps
    }
}

impl Subscription {
    fn new(topic: Topic, options: SubscribeOptions, now: Instant) -> Self {
        Self {
            topic,
            options,
            state: SubscriptionState::Waiting,
            since: now,
            references: 1,
            live: false,
            gap: None,
            restores: false,
            alone: false,
            asked: 0,
            refusals: 0,
            reason: None,
            turn: None,
            last_message: None,
            tracker: None,
            damper: Damper::default(),
            silence: Silence::default(),
            watched: false,
        }
    }

    fn set(&mut self, state: SubscriptionState, now: Instant) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }

    /// Whether messages of it need no announcement: it is known to be in force on this connection.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Whether the peer was asked for it on this connection, and so may know it.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked != 0
    }

    /// When it was last heard of.
    pub(crate) fn heard(&self) -> Instant {
        self.last_message.unwrap_or(self.since)
    }
}
