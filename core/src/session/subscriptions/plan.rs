//! Which topics the next message asks for: in order of their priorities, together with those that may share it, and no more than the server allows on
//! a connection.

use super::{Subscription, Subscriptions};
use crate::protocol::Protocol;
use crate::session::SubscriptionId;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Instant;

/// How far a message looks for topics that share it: those that are further away come with later ones.
pub(crate) const LOOKAHEAD: usize = 1024;

/// What the next message asks for, kept until something changes: as long as the limiter holds it back it is asked for over and over.
#[derive(Debug, Default)]
pub(super) struct Plan {
    next: Vec<SubscriptionId>,
    /// It has to be made anew.
    stale: bool,
    /// Most topics on the connection, and how many were leaving it.
    most: Option<usize>,
    leaving: usize,
    /// There was no room for more of them.
    full: bool,
}

impl Plan {
    /// Something changed about a topic. One that had no place among those that are there, and gets none, changes nothing.
    pub(super) fn changed(&mut self, placed: bool) {
        self.stale |= placed || !self.full;
    }
}

/// Topics that wait until others are given up.
#[derive(Debug)]
pub(super) struct Beyond {
    most: usize,
    ids: BTreeSet<SubscriptionId>,
}

impl Beyond {
    /// Why this one waits, if it is one of them.
    pub(super) fn why(&self, id: SubscriptionId) -> Option<String> {
        let why = || format!("the server allows no more than {} topics on a connection", self.most);
        self.ids.contains(&id).then(why)
    }
}

impl Subscriptions {
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
        self.plan.changed(true);
        for (id, subscription) in self.all.iter_mut().filter(|(id, _)| id.0 % 3 == 0) {
            self.asks.remove(&(Reverse(subscription.options.priority), *id));
            self.restoring -= usize::from(std::mem::take(&mut subscription.restores));
        }
    }

    /// How many restored topics have no outcome yet.
    pub(crate) fn restoring(&self) -> usize {
        self.restoring
    }

    /// Finds what the next message asks for: the first topic that has its turn and a place on the connection, and those that share a message
    /// with it. These pass others of their priority, which keep their turn, and none of a higher one. True if `Event::Online` waits for
    /// fewer topics than before.
    pub(crate) fn plan(&mut self, protocol: &dyn Protocol) -> bool {
        let (plan, leaving) = (&mut self.plan, self.leaving.len());
        if !std::mem::take(&mut plan.stale) && (plan.most.is_none() || plan.leaving == leaving) {
            return false;
        }
        plan.next.clear();
        (plan.most, plan.leaving) = (protocol.topics_per_connection(), leaving);
        let mut room = plan.most.map_or(usize::MAX, |most| most.saturating_sub(self.placed + leaving));
        plan.full = room == 0;
        let max = protocol.topics_per_message();
        let (mut first, mut passed, mut looked): (Option<&Subscription>, _, _) = (None, None, 0);
        for (priority, id) in &self.asks {
            let Some(subscription) = self.all.get(id).filter(|s| s.placed || room > 0) else { continue };
            if let Some(first) = first {
                looked += 1;
                let passes = passed.is_none_or(|passed| passed == priority);
                if plan.next.len() >= max || first.alone || looked > LOOKAHEAD || !passes {
                    break;
                }
                if subscription.alone || !protocol.shares(&first.topic, &subscription.topic) {
                    passed = Some(priority);
                    continue;
                }
            }
            first.get_or_insert(subscription);
            plan.next.push(*id);
            room -= usize::from(!subscription.placed);
        }
        self.release_beyond()
    }

    /// What [`plan`](Self::plan) found.
    pub(crate) fn next_asks(&self) -> &[SubscriptionId] {
        &self.plan.next
    }

    /// Topics for which the connection has no place do not keep `Event::Online` waiting. True if there were some.
    fn release_beyond(&mut self) -> bool {
        let before = self.restoring;
        if before > 0 {
            for id in self.beyond().ids {
                if let Some(subscription) = self.all.get_mut(&id) {
                    self.restoring -= usize::from(std::mem::take(&mut subscription.restores));
                }
            }
        }
        self.restoring < before
    }

    /// Topics for which there would be no place even if those that are leaving had left.
    pub(super) fn beyond(&self) -> Beyond {
        let Some(most) = self.plan.most else { return Beyond { most: 0, ids: BTreeSet::new() } };
        let unplaced =
            |id: &SubscriptionId| self.all.get(id).is_some_and(|subscription| !subscription.placed);
        let waiting = self.asks.iter().map(|(_, id)| *id).filter(unplaced);
        Beyond { most, ids: waiting.skip(most.saturating_sub(self.placed)).collect() }
    }
}
