//! What is noticed when nothing comes, and what is done about it: heartbeats, silence, gaps in the numbers.

use super::event::{Gap, GapCause, SubscriptionId};
use super::lease::Queued;
use super::link::Stage;
use super::liveness::Beat;
use super::requests::{OnDisconnect, What};
use super::status::State;
use super::topic::SubscriptionState;
use super::watch::Step;
use super::{Mutant, Session};
use crate::error::{Error, Recovery, Timeout};
use std::time::Instant;

/// Answers of ours to heartbeats whose own answers are awaited; whatever they are, nobody is told.
const MAX_REPLIES: usize = 16;

impl Session {
    /// A connection is there.
    pub(super) fn start_watches(&mut self, index: usize, now: Instant) {
        self.heartbeat.start(self.links[index].terms.heartbeat_interval, now);
        (self.last_data, self.last_message) = (now, now);
        if let Some(watch) = self.config.data_watch {
            self.data.start(watch, now);
        }
    }

    pub(super) fn stop_watches(&mut self, now: Instant) {
        self.heartbeat.start(None, now);
        self.data.stop();
        self.replies.clear();
        self.overdue = None;
    }

    /// The connection that is watched: one that is being closed may be as silent as it likes.
    pub(super) fn watched(&self) -> Option<usize> {
        self.current.filter(|index| matches!(self.links[*index].stage, Stage::Open))
    }

    /// Earliest moment at which one of them has something to do.
    pub(super) fn watches_deadline(&self) -> Option<Instant> {
        let deadlines = [self.heartbeat.deadline(), self.data.deadline(), self.subscriptions.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Deals with what is due.
    pub(super) fn run_watches(&mut self, now: Instant) {
        let Some(index) = self.watched() else { return };
        if let Some(timeout) = self.overdue.take() {
            return self.failed(index, Error::Timeout(timeout), now);
        }
        let timeout = self.links[index].terms.heartbeat_timeout;
        match self.heartbeat.check(timeout, Some(self.last_message), now) {
            Beat::Wait => {}
            Beat::Send => self.send_heartbeat(now),
            Beat::Dead => return self.failed(index, Error::Timeout(Timeout::Heartbeat), now),
        }
        if let Some(step) = self.data.check(self.last_data, now) {
            let silence = now.saturating_duration_since(self.last_data);
            self.events.push_back(Queued::Stale { subscription: None, silence, step, epoch: self.epoch });
            match step {
                Step::Probe => self.probe(now),
                Step::Resubscribe => {
                    for id in self.subscriptions.ids() {
                        self.resync(id, GapCause::Silence, now);
                    }
                }
                Step::Reconnect => return self.failed(index, Error::Timeout(Timeout::Data), now),
            }
        }
        while let Some(id) = self.subscriptions.take_watched(now) {
            if self.topic_silent(id, index, now) {
                return;
            }
        }
        self.take_turns(now);
    }

    /// True if the connection was given up.
    fn topic_silent(&mut self, id: SubscriptionId, index: usize, now: Instant) -> bool {
        if self.closing {
            return false;
        }
        // Where messages do not tell their topic, each may be of any.
        let any = if self.inspects { None } else { Some(self.last_data) };
        let Some(step) = self.subscriptions.check_silence(id, any, now) else { return false };
        let Some(subscription) = self.subscriptions.get(id) else { return false };
        let silence = now.saturating_duration_since(subscription.heard());
        let subscription = Some((id, subscription.topic.name().to_owned()));
        self.events.push_back(Queued::Stale { subscription, silence, step, epoch: self.epoch });
        match step {
            Step::Probe => self.probe(now),
            Step::Resubscribe => self.resync(id, GapCause::Silence, now),
            Step::Reconnect => self.failed(index, Error::Timeout(Timeout::Data), now),
        }
        step == Step::Reconnect
    }

    /// A ping out of turn: if it is not answered, the connection is dead.
    fn probe(&mut self, now: Instant) {
        let Some(index) = self.current else { return };
        let link = &mut self.links[index];
        if let Some(payload) = link.liveness.probe(link.terms.pong_timeout, now) {
            self.outbox.ping = Some(payload);
            link.liveness.hold();
            self.pump(now);
        }
    }

    /// A topic is to be made anew, as soon as that is not too often.
    pub(super) fn resync(&mut self, id: SubscriptionId, cause: GapCause, now: Instant) {
        let Some(subscription) = self.subscriptions.get_mut(id) else { return };
        if subscription.state != SubscriptionState::Confirmed {
            // It is being asked for anyway.
            return;
        }
        subscription.renewal = Some(cause);
        let at = subscription.damper.resync_at(now);
        let at = if self.is(Mutant::Undamped) { now } else { at };
        self.subscriptions.set(id, SubscriptionState::Stale, now);
        self.subscriptions.set_turn(id, Some(at));
        self.take_turns(now);
    }

    /// Those whose turn it is are asked for again, or made anew.
    fn take_turns(&mut self, now: Instant) {
        while let Some((id, state)) = self.subscriptions.take_turn(now) {
            match state {
                SubscriptionState::Rejected => self.subscriptions.ask(id, true, now),
                SubscriptionState::Stale => match self.storm.take(now) {
                    Ok(()) => self.outbox.renewals.push_back(id),
                    Err(at) if !self.is(Mutant::Undamped) => self.subscriptions.set_turn(id, Some(at)),
                    Err(_) => self.outbox.renewals.push_back(id),
                },
                _ => {}
            }
        }
        self.pump(now);
    }

    /// When a topic is asked for again that was refused so often in a row; `None` if not on this connection.
    pub(super) fn retry_topic_at(
        &mut self,
        refusals: u32,
        recovery: Option<Recovery>,
        now: Instant,
    ) -> Option<Instant> {
        let (initial, max) = (self.config.resubscribe_initial, self.config.resubscribe_max);
        let bound =
            1u32.checked_shl(refusals.saturating_sub(1)).map_or(max, |n| initial.saturating_mul(n)).min(max);
        // Half of it is random, so that many that were refused together do not come back together.
        let delay = bound / 2 + super::backoff::fraction(bound / 2, &mut self.rng);
        match recovery.map(Recovery::bounded) {
            Some(Recovery::Stop) => None,
            Some(Recovery::Backoff(least)) => Some(now + delay.max(least)),
            _ => Some(now + delay),
        }
    }

    /// A topic's numbers have a hole, or its state is wrong: told before the message that shows it, which then waits (see
    /// `postponed`). The topic is made anew.
    pub(super) fn gap_found(&mut self, id: SubscriptionId, since: Instant, cause: GapCause, now: Instant) {
        let Some(subscription) = self.subscriptions.get(id) else { return };
        let topics = vec![(id, subscription.topic.name().to_owned())];
        let gap = Gap { topics, before: self.epoch, after: self.epoch, since, until: now, cause };
        self.events.push_back(Queued::Gap(gap));
        self.gapped.push(id);
        if self.is(Mutant::ResyncAll) {
            self.gapped.extend(self.subscriptions.ids());
        }
    }

    /// What the connection's numbers have a hole for may have been of any topic that is in force: all are told of it, and made anew.
    pub(super) fn connection_gap_found(&mut self, since: Instant, cause: GapCause, now: Instant) {
        let topics = self.subscriptions.in_force();
        // Those that are being made anew have a gap of their own, which ends later than this one.
        if topics.is_empty() && !self.subscriptions.is_empty() {
            return;
        }
        let ids: Vec<SubscriptionId> = topics.iter().map(|(id, _)| *id).collect();
        let gap = Gap { topics, before: self.epoch, after: self.epoch, since, until: now, cause };
        self.events.push_back(Queued::Gap(gap));
        self.gapped.extend(ids);
    }

    /// The messages that showed holes are told.
    pub(super) fn resync_gapped(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.gapped) {
            match self.subscriptions.get_mut(id) {
                // It has messages already, and its answer is on its way: it is made anew then, for what was missed is behind the asking.
                Some(pending) if pending.state == SubscriptionState::Pending => {
                    pending.renewal = Some(GapCause::Resync);
                }
                _ => self.resync(id, GapCause::Resync, now),
            }
        }
    }

    fn send_heartbeat(&mut self, now: Instant) {
        let Some(index) = self.current else { return };
        if !matches!(self.history.state, State::Online | State::Restoring) {
            return;
        }
        let mut text = String::new();
        let context = self.links[index].context(self.clock.wall(now));
        self.config.protocol.heartbeat(self.requests.peek_id(), &context, &mut text);
        // One that still waits for the limiter is enough.
        self.outbox.beat = !text.is_empty();
        self.pump(now);
    }

    /// A heartbeat of ours was answered.
    pub(super) fn heartbeat_answered(&mut self, id: Option<u64>, now: Instant) {
        if let Some(rtt) = self.heartbeat.answered(id, now) {
            self.timings.ping.record(rtt);
        }
    }

    /// The server wants to know whether we are there.
    pub(super) fn answer_heartbeat(&mut self, text: String, id: u64, now: Instant) {
        if text.is_empty() {
            return;
        }
        if self.replies.len() == MAX_REPLIES
            && let Some(oldest) = self.replies.pop_front()
        {
            self.requests.settle_reply(oldest);
        }
        self.replies.push_back(id);
        let deadline = now + self.config.request_timeout;
        self.requests.insert(id, What::HeartbeatReply, deadline, OnDisconnect::Fail, None);
        self.outbox.reply(id, text);
        self.pump(now);
    }
}
