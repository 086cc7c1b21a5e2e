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
//! A topic whose last reference is given up is forgotten at once; what the server still has to be told of it is in `leaving`. Which topics have their
//! turn is in `plan`.

mod plan;

pub(crate) use plan::LOOKAHEAD;

use super::event::{Epoch, Gap, GapCause, SubscriptionId};
use super::leaving::Leaving;
use super::resync::Damper;
use super::sequence::Tracker;
use super::topic::{SubscribeOptions, SubscriptionInfo, SubscriptionState};
use super::watch::{Silence, Step};
use crate::protocol::Topic;
use plan::Plan;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    last_id: u64,
    all: BTreeMap<SubscriptionId, Subscription>,
    // Only looked up, never walked: hash order must decide nothing.
    by_name: HashMap<String, SubscriptionId>,
    /// What is to be asked for on this connection, in order.
    asks: BTreeSet<(Reverse<u8>, SubscriptionId)>,
    /// Which of them have their turn.
    plan: Plan,
    /// How many topics have their place on this connection, if the server counts them.
    placed: usize,
    /// When what was rejected, or is to be made anew, has its turn.
    turns: BTreeSet<(Instant, SubscriptionId)>,
    /// When the silence of each watched topic is to be looked at.
    watching: BTreeSet<(Instant, SubscriptionId)>,
    /// Topics that nobody wants any more.
    pub(crate) leaving: Leaving,
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
    /// It is one of the topics that the server counts on this connection, though it may be about to be asked for anew.
    placed: bool,
    /// The request that asked for it last on this connection; 0 is none.
    asked: u64,
    refusals: u32,
    reason: Option<String>,
    turn: Option<Instant>,
    pub(crate) last_message: Option<Instant>,
    pub(crate) tracker: Option<Box<dyn Tracker>>,
    pub(crate) damper: Damper,
    /// Why it is to be made anew.
    pub(crate) renewal: Option<GapCause>,
    added: Instant,
    /// When it came in force on this connection.
    confirmed: Option<Instant>,
    silence: Silence,
    /// The watch was begun on this connection.
    watched: bool,
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
        self.leaving.wanted(topic.name());
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

    /// Gives back all references: no message of it is told any more, though some may still come. `None` if there is no such subscription.
    pub(crate) fn end(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let subscription = self.remove(id)?;
        if subscription.was_asked() {
            self.leaving.mute(subscription.topic.name());
        }
        Some(subscription)
    }

    fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let subscription = self.all.remove(&id)?;
        self.plan.changed(subscription.placed);
        self.by_name.remove(subscription.topic.name());
        self.asks.remove(&(Reverse(subscription.options.priority), id));
        if let Some(turn) = subscription.turn {
            self.turns.remove(&(turn, id));
        }
        self.restoring -= usize::from(subscription.restores);
        self.placed -= usize::from(subscription.placed);
        if let Some(due) = subscription.silence.deadline() {
            self.watching.remove(&(due, id));
        }
        Some(subscription)
    }

    /// The peer is to be told that a topic is not wanted any more.
    pub(crate) fn leave(&mut self, id: SubscriptionId, subscription: Subscription, now: Instant) {
        let owed = (subscription.state == SubscriptionState::Pending).then_some(subscription.asked);
        self.leaving.add(id, subscription.topic, owed, now);
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
    pub(crate) fn iter(&self) -> impl Iterator<Item = SubscriptionInfo> {
        let beyond = self.beyond();
        let wanted = self.all.iter().map(move |(id, s)| SubscriptionInfo {
            id: *id,
            topic: s.topic.name().to_owned(),
            state: s.state,
            since: s.since,
            references: s.references,
            last_message: s.last_message,
            reason: beyond.why(*id).or_else(|| s.reason.clone()),
            retry_at: s.turn.filter(|_| s.state == SubscriptionState::Rejected),
        });
        wanted.chain(self.leaving.iter())
    }

    pub(crate) fn set(&mut self, id: SubscriptionId, state: SubscriptionState, now: Instant) {
        if let Some(subscription) = self.all.get_mut(&id) {
            subscription.set(state, now);
        }
    }

    /// It is to be asked for as soon as may be.
    pub(crate) fn ask(&mut self, id: SubscriptionId, alone: bool, now: Instant) {
        let Some(subscription) = self.all.get_mut(&id) else { return };
        self.plan.changed(subscription.placed);
        subscription.alone = alone;
        subscription.set(SubscriptionState::Waiting, now);
        self.asks.insert((Reverse(subscription.options.priority), id));
        if let Some(turn) = subscription.turn.take() {
            self.turns.remove(&(turn, id));
        }
    }

    /// They were asked for, by this request.
    pub(crate) fn asked(&mut self, ids: &[SubscriptionId], request: u64, now: Instant) {
        self.plan.changed(true);
        for &id in ids {
            let Some(subscription) = self.all.get_mut(&id) else { continue };
            self.asks.remove(&(Reverse(subscription.options.priority), id));
            subscription.asked = request;
            subscription.renewal = None;
            self.placed += usize::from(!std::mem::replace(&mut subscription.placed, true));
            if subscription.gap.is_some() {
                // What comes from here on is the new one's, and behind the gap.
                subscription.live = false;
            }
            subscription.set(SubscriptionState::Pending, now);
        }
    }

    /// They are not to be asked for any more, until they have their turn again.
    pub(crate) fn unasked(&mut self, ids: &[SubscriptionId]) {
        self.plan.changed(true);
        for id in ids {
            if let Some(subscription) = self.all.get(id) {
                self.asks.remove(&(Reverse(subscription.options.priority), *id));
            }
        }
    }

    /// This request ends it, so that it can be made anew.
    pub(crate) fn renews(&mut self, id: SubscriptionId, request: u64) {
        if let Some(subscription) = self.all.get_mut(&id) {
            subscription.asked = request;
        }
    }

    /// The peer is told to end it, so that it can be made anew: what comes until then is still its own, what comes afterwards is missed.
    pub(crate) fn renewal(&mut self, id: SubscriptionId, epoch: Epoch, now: Instant) {
        if let Some(subscription) = self.all.get_mut(&id) {
            let cause = subscription.renewal.take().unwrap_or(GapCause::Resync);
            // Silence is its own measure: what was sent meanwhile did not come.
            let since = if cause == GapCause::Silence { subscription.heard() } else { now };
            subscription.gap.get_or_insert((epoch, since, cause));
            subscription.tracker = None;
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
        subscription.confirmed.get_or_insert(now);
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
        if std::mem::take(&mut subscription.placed) {
            self.placed -= 1;
            self.plan.changed(true);
        }
        if let Some(due) = subscription.silence.deadline() {
            self.watching.remove(&(due, id));
        }
        subscription.silence.stop();
        subscription.watched = false;
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
    pub(crate) fn check_silence(
        &mut self,
        id: SubscriptionId,
        any: Option<Instant>,
        now: Instant,
    ) -> Option<Step> {
        let subscription = self.all.get_mut(&id)?;
        if subscription.state != SubscriptionState::Confirmed {
            // What is being done about it has its time first.
            subscription.silence.progressed(now);
        }
        let step =
            subscription.silence.check(any.or(subscription.last_message).unwrap_or(subscription.added), now);
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
        self.plan.changed(true);
        self.asks.clear();
        self.turns.clear();
        self.watching.clear();
        self.leaving = Leaving::default();
        (self.restoring, self.placed, self.plan) = (0, 0, Plan::default());
        for subscription in self.all.values_mut() {
            if std::mem::take(&mut subscription.live) {
                subscription.gap.get_or_insert((epoch, since, GapCause::Reconnect));
            }
            if let Some((.., cause)) = &mut subscription.gap {
                // Whatever it began with, another connection is what ends it.
                *cause = GapCause::Reconnect;
            }
            (subscription.turn, subscription.tracker, subscription.renewal) = (None, None, None);
            subscription.confirmed = None;
            subscription.silence.stop();
            subscription.watched = false;
            (subscription.restores, subscription.placed, subscription.asked) = (false, false, 0);
            subscription.set(SubscriptionState::Waiting, now);
        }
    }

    /// It was in force, and is to be made anew: what the server sends from the last message on until then may be missed. That is told once
    /// it is in force again.
    pub(crate) fn missed(&mut self, id: SubscriptionId, epoch: Epoch, cause: GapCause) {
        let Some(subscription) = self.all.get_mut(&id) else { return };
        if subscription.state == SubscriptionState::Confirmed {
            let since = subscription.heard();
            subscription.gap.get_or_insert((epoch, since, cause));
            subscription.live = false;
        }
    }

    /// Those that the peer was asked for on this connection.
    pub(crate) fn asked_for(&self) -> Vec<SubscriptionId> {
        self.all.iter().filter(|(_, s)| s.was_asked()).map(|(id, _)| *id).collect()
    }

    /// Forgets these: they are not restored.
    pub(crate) fn forget(&mut self, ids: Vec<SubscriptionId>) -> Vec<(SubscriptionId, Subscription)> {
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Those that are in force, and miss nothing that they will be told of later.
    pub(crate) fn in_force(&self) -> Vec<(SubscriptionId, String)> {
        let live = self.all.iter().filter(|(_, s)| s.live && s.gap.is_none());
        live.map(|(id, s)| (*id, s.topic.name().to_owned())).collect()
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
            placed: false,
            asked: 0,
            refusals: 0,
            reason: None,
            turn: None,
            last_message: None,
            tracker: None,
            damper: Damper::default(),
            renewal: None,
            added: now,
            confirmed: None,
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

    /// When it was last heard of, on this connection if it was in force on it.
    pub(crate) fn heard(&self) -> Instant {
        let confirmed = self.confirmed.unwrap_or(self.since);
        self.last_message.map_or(confirmed, |at| self.confirmed.map_or(at, |confirmed| at.max(confirmed)))
    }
}
