//! A connection is there: subscriptions are restored, then the user may send. What goes before that is in `introduction`.

use super::event::{Gap, GapCause, OwnedOutcome, Unanswered};
use super::lease::Queued;
use super::link::Link;
use super::outbox::Waits;
use super::requests::{Failed, Live, What};
use super::status::State;
use super::topic::SubscriptionState;
use super::{Epoch, Mutant, RequestId, Session, SubscriptionId};
use crate::error::{Notice, Recovery, Refusal, Timeout};
use crate::protocol::{Fault, Topic};
use crate::record::Input;
use crate::ws::Kind;
use crate::ws::deflate::{Deflater, Inflater};
use crate::ws::handshake::Upgraded;
use crate::ws::receiver::Place;
use std::time::Instant;

impl Session {
    pub(super) fn upgraded(&mut self, index: usize, upgraded: Box<Upgraded>, now: Instant) {
        self.attempt_succeeded();
        self.stats.connections += 1;
        self.epoch = Epoch(self.stats.connections);
        self.current = Some(index);
        self.begin_renewal(index, now);
        let link = &mut self.links[index];
        link.liveness.start(link.terms.ping_interval, now);
        link.tracker = self.config.protocol.connection_tracker();
        if let (Some(params), Some(config)) = (&upgraded.deflate, &self.config.handshake.deflate) {
            link.compress(Inflater::new(params), Deflater::new(config, params));
        }
        self.upgraded = Some(upgraded);
        #[cfg(feature = "mutants")]
        self.hang();
        if self.is(Mutant::ResetBackoffOnConnect) {
            self.backoff.reset();
        }
        self.start_watches(index, now);
        if self.config.protocol.greets() {
            self.history.set(State::Authenticating, "connected, waits for the server's first word", now);
            return self.await_greeting(now);
        }
        self.begin_authentication("connected", now);
    }

    pub(super) fn begin_restore(&mut self, why: &str, now: Instant) {
        if self.closing {
            return;
        }
        self.history.set(State::Restoring, why, now);
        self.subscriptions.restore(now);
        if self.is(Mutant::SkipRestore) {
            self.subscriptions.skip_some();
        }
        if self.is(Mutant::SendBeforeRestore) {
            self.send_held(now);
        }
        self.pump(now);
        self.check_restored(now);
    }

    /// Goes online once every restored subscription has its outcome.
    pub(super) fn check_restored(&mut self, now: Instant) {
        if self.history.state != State::Restoring || self.subscriptions.restoring() > 0 {
            return;
        }
        let Some(upgraded) = self.upgraded.take() else { return };
        self.history.set(State::Online, "restored", now);
        (self.failures, self.was_online, self.direct) = (0, true, !self.limited);
        self.stable_at = Some(now + self.config.stable_after);
        self.turned_down.clear();
        let resumed = self.stats.connections > 1;
        let lost = self.alive_until.take();
        if let Some((before, since)) = lost.filter(|_| self.subscriptions.is_empty()) {
            let cause = GapCause::Reconnect;
            let gap = Gap { topics: Vec::new(), before, after: self.epoch, since, until: now, cause };
            self.events.push_back(Queued::Gap(gap));
        }
        self.events.push_back(Queued::Online { epoch: self.epoch, resumed, upgraded });
        self.send_held(now);
    }

    /// Requests that waited for a connection go out, the oldest first.
    fn send_held(&mut self, now: Instant) {
        let Some(index) = self.current else { return };
        while let Some(id) = self.requests.take_held() {
            if self.limited {
                let kept = self.requests.kept(id).map(|kept| (kept.lane, kept.len));
                let Some((lane, len)) = kept else { continue };
                self.outbox.push(lane, Waits::Request { id, len }, None);
            } else {
                self.send_request(index, id, now);
            }
        }
        self.pump(now);
    }

    /// The peer answered one of the session's own requests.
    pub(super) fn own_response(
        &mut self,
        id: u64,
        live: Live,
        index: usize,
        at: Place,
        ok: bool,
        now: Instant,
    ) {
        match live.what {
            What::Authenticate => self.authentication_answered(index, at, ok, now),
            What::Prepare(step) => self.preparation_answered(step, index, at, ok, now),
            What::Subscribe { topics } => {
                self.subscriptions.leaving.forgive(&topics, id);
                if ok {
                    self.subscribe_answered(id, &topics, index, at, now);
                } else {
                    self.subscribe_failed(id, &topics, index, at, now);
                }
            }
            What::Unsubscribe(topics) => self.subscriptions.leaving.let_go(&topics),
            // Refused or not: what counts is the answer to the next one.
            What::Renew(topic) => self.renewed(topic, id, now),
            What::Heartbeat => self.heartbeat_answered(Some(id), now),
            What::HeartbeatReply | What::User | What::Farewell | What::Told => {}
        }
    }

    /// The server's result names the topics that are in force.
    fn subscribe_answered(
        &mut self,
        request: u64,
        topics: &[SubscriptionId],
        index: usize,
        at: Place,
        now: Instant,
    ) {
        let text = self.links[index].receiver.text(at);
        let awaited = topics.iter().copied().filter(|topic| self.subscriptions.awaits(*topic, request));
        let (good, bad): (Vec<_>, Vec<_>) = awaited.partition(|topic| self.is_confirmed_by(text, *topic));
        self.confirmed(&good, now);
        self.rejected(&bad, "the server's answer does not name it", None, now);
        self.check_restored(now);
    }

    fn is_confirmed_by(&self, text: &str, topic: SubscriptionId) -> bool {
        self.subscriptions.get(topic).is_some_and(|s| self.config.protocol.confirms(text, &s.topic))
    }

    /// The server refused to subscribe to these topics.
    fn subscribe_failed(
        &mut self,
        request: u64,
        topics: &[SubscriptionId],
        index: usize,
        at: Place,
        now: Instant,
    ) {
        let alone = topics.len() == 1;
        let awaits = |topic: &SubscriptionId| self.subscriptions.awaits(*topic, request);
        let awaited: Vec<SubscriptionId> = topics.iter().copied().filter(awaits).collect();
        if !alone && !self.refused_for_all(index, at) {
            // One bad topic must not take the others with it: each is tried alone.
            awaited.into_iter().for_each(|id| self.subscriptions.ask(id, true, now));
            self.pump(now);
        } else {
            let error = self.links[index].receiver.text(at).to_owned();
            let reason = self.config.protocol.error(&error).to_string();
            self.rejected(&awaited, &reason, Some(&error), now);
        }
        self.check_restored(now);
    }

    /// The server refused, without an id, what it was asked: that is meant for the subscriptions that were asked for first and have no outcome
    /// yet, those that were given up meanwhile included. False if there are none.
    pub(super) fn subscribe_refused(&mut self, index: usize, at: Place, now: Instant) -> bool {
        let text = self.links[index].receiver.text(at);
        let waits = |request, topic: &SubscriptionId| {
            self.subscriptions.awaits(*topic, request) || self.subscriptions.leaving.owes(*topic, request)
        };
        let asked = || self.requests.subscribes().filter(|(.., separate)| *separate);
        let waiting = |about: bool| {
            asked().find(|(request, topics, _)| {
                topics.iter().any(|topic| waits(*request, topic) && (!about || self.is_about(text, *topic)))
            })
        };
        let Some((request, topics, _)) = waiting(true).or_else(|| waiting(false)) else { return false };
        let topics = topics.to_vec();
        if self.refused_in_part(request, index, at, now) {
            return true;
        }
        self.subscriptions.leaving.forgive(&topics, request);
        self.subscribe_failed(request, &topics, index, at, now);
        true
    }

    /// Whether the protocol says that this error is about the topic, be it that nobody wants it any more.
    fn is_about(&self, error: &str, topic: SubscriptionId) -> bool {
        let topic = self.known_topic(topic);
        topic.is_some_and(|topic| self.config.protocol.refuses(error, topic))
    }

    fn known_topic(&self, id: SubscriptionId) -> Option<&Topic> {
        let wanted = self.subscriptions.get(id).map(|subscription| &subscription.topic);
        wanted.or_else(|| self.subscriptions.leaving.topic(id))
    }

    /// An error is the answer to a message that asked for topics: those that it is about are refused, and the others go on waiting for theirs.
    /// False, and nothing is done, if it is about none or all of them, or if no other answer will come.
    pub(super) fn refused_in_part(&mut self, request: u64, index: usize, at: Place, now: Instant) -> bool {
        let Some(topics @ [_, _, ..]) = self.requests.separate_topics(request) else { return false };
        let text = self.links[index].receiver.text(at);
        let known = topics.iter().copied().filter(|topic| self.known_topic(*topic).is_some());
        let (about, others): (Vec<_>, Vec<_>) = known.partition(|topic| self.is_about(text, *topic));
        if about.is_empty() || others.is_empty() {
            return false;
        }
        let error = text.to_owned();
        self.subscriptions.leaving.forgive(&about, request);
        let awaits = |topic: &SubscriptionId| self.subscriptions.awaits(*topic, request);
        let refused: Vec<SubscriptionId> = about.into_iter().filter(awaits).collect();
        let reason = self.config.protocol.error(&error).to_string();
        self.rejected(&refused, &reason, Some(&error), now);
        // As in `topic_answered`, the request stays for its time.
        self.check_restored(now);
        true
    }

    /// The server lists what is subscribed to: those of the topics that were asked for are in force which it names. What it does not name may
    /// still come, and what was in force stays so.
    pub(super) fn topics_listed(&mut self, index: usize, at: Place, now: Instant) {
        let text = self.links[index].receiver.text(at);
        self.subscriptions.leaving.listed(|topic| self.config.protocol.confirms(text, topic));
        let mut named: Vec<SubscriptionId> = Vec::new();
        for (request, topics, _) in self.requests.subscribes() {
            let awaited = topics.iter().filter(|topic| self.subscriptions.awaits(**topic, request));
            named.extend(awaited.filter(|topic| self.is_confirmed_by(text, **topic)));
        }
        if !named.is_empty() {
            self.confirmed(&named, now);
            self.check_restored(now);
        }
    }

    /// Whether a refusal is none of the topics' fault: too much was asked, or who asks is not known any more.
    fn refused_for_all(&self, index: usize, at: Place) -> bool {
        let fault = Fault::Subscription(self.links[index].receiver.text(at));
        self.config.protocol.recovery(fault).is_some_and(|recovery| recovery != Recovery::Stop)
    }

    /// A subscription that is made anew has ended, by this request.
    fn renewed(&mut self, id: SubscriptionId, request: u64, now: Instant) {
        if self.subscriptions.is_renewed_by(id, request) {
            self.subscriptions.ask(id, true, now);
            self.pump(now);
        }
    }

    /// The peer said of one topic that it is subscribed to, or will not be.
    pub(super) fn topic_answered(
        &mut self,
        topic: SubscriptionId,
        request: Option<u64>,
        error: Option<&str>,
        now: Instant,
    ) {
        let pending = self.subscriptions.pending(topic).filter(|id| request.is_none_or(|r| r == *id));
        if pending.is_none() {
            let state = self.subscriptions.get(topic).map(|s| s.state);
            // It was in force, and the server takes that back.
            if let (Some(SubscriptionState::Confirmed), Some(error), None) = (state, error, request) {
                let reason = self.config.protocol.error(error).to_string();
                self.subscriptions.missed(topic, self.epoch, GapCause::Ended);
                self.rejected(&[topic], &reason, Some(error), now);
            }
            return;
        }
        match error {
            None => self.confirmed(&[topic], now),
            Some(error) => {
                let reason = self.config.protocol.error(error).to_string();
                self.rejected(&[topic], &reason, Some(error), now);
            }
        }
        // The request stays for its time: it may still be answered as well, and that is nobody's business.
        self.check_restored(now);
    }

    pub(super) fn confirmed(&mut self, ids: &[SubscriptionId], now: Instant) {
        self.report_gaps(ids, now);
        for &id in ids {
            let Some(subscription) = self.subscriptions.confirm(id, now) else { continue };
            let rule = subscription.options.sequence.as_ref().map(super::sequence::SequenceRule::tracker);
            subscription.tracker = rule.or_else(|| self.config.protocol.tracker(&subscription.topic));
            let topic = subscription.topic.name().to_owned();
            let renewal = subscription.renewal.take();
            self.events.push_back(Queued::Subscribed { id, topic, epoch: self.epoch });
            if let Some(cause) = renewal {
                self.resync(id, cause, now);
            }
        }
    }

    /// `error` is what the server said, as the protocol encodes it.
    pub(super) fn rejected(
        &mut self,
        ids: &[SubscriptionId],
        reason: &str,
        error: Option<&str>,
        now: Instant,
    ) {
        let recovery = error.and_then(|error| self.config.protocol.recovery(Fault::Subscription(error)));
        // A server may say as much as a message holds.
        let refusal = Refusal::new(reason, None);
        let reason = refusal.text();
        if let Some(recovery @ (Recovery::Reconnect | Recovery::Reauthenticate)) = recovery
            && !self.closing
        {
            // The connection is of no more use, once all that arrived is told.
            self.notice = Some(Notice::new(reason, recovery));
        }
        for &id in ids {
            let Some(subscription) = self.subscriptions.get(id) else { continue };
            let topic = subscription.topic.name().to_owned();
            let refusals = self.subscriptions.refuse(id, reason, now);
            let retry_at = self.retry_topic_at(refusals, recovery, now);
            self.subscriptions.set_turn(id, retry_at);
            let reason = reason.to_owned();
            self.events.push_back(Queued::Rejected { id, topic, reason, retry_at, epoch: self.epoch });
        }
    }

    /// These topics are in force: says what they may have missed; true if that was anything.
    pub(super) fn report_gaps(&mut self, ids: &[SubscriptionId], now: Instant) -> bool {
        let gaps = self.subscriptions.close_gaps(ids, self.epoch, now);
        let any = !gaps.is_empty();
        if self.is(Mutant::HideGap) {
            return false;
        }
        self.events.extend(gaps.into_iter().map(Queued::Gap));
        any
    }

    /// If this request fails, that is told by [`take_failed`](Self::take_failed) at once and not by an event in its turn: whoever
    /// awaits it must not hang on events that he does not take.
    pub(crate) fn watch(&mut self, id: RequestId) {
        if self.tap.is_some() {
            self.tap(Input::Watch { id }, None);
        }
        // It may have failed already, and then that is an event.
        if self.requests.is_users(id.0) {
            self.watched.insert(id);
        }
    }

    /// A watched request that failed.
    pub(crate) fn take_failed(&mut self) -> Option<(RequestId, OwnedOutcome)> {
        self.watched_failed.pop()
    }

    /// A request ended without an answer.
    pub(super) fn request_failed(&mut self, failed: Failed, now: Instant) {
        let Failed { id, what, maybe_sent, why } = failed;
        let late = why == Unanswered::Timeout;
        self.outbox.forget(id, |id| self.requests.is_users(id));
        match what {
            What::User if self.watched.remove(&RequestId(id)) => {
                let outcome =
                    if maybe_sent { OwnedOutcome::SentUnknown(why) } else { OwnedOutcome::NotSent(why) };
                self.watched_failed.push((RequestId(id), outcome));
                self.tap_failed(RequestId(id), maybe_sent, why);
            }
            What::User => self.events.push_back(Queued::Unanswered { id: RequestId(id), maybe_sent, why }),
            What::Authenticate if late => self.overdue = Some(Timeout::Authentication),
            What::Prepare(_) if late => self.overdue = Some(Timeout::Preparation),
            What::Subscribe { topics } if late => {
                self.subscriptions.leaving.forgive(&topics, id);
                let awaits = |topic: &SubscriptionId| self.subscriptions.awaits(*topic, id);
                let topics: Vec<SubscriptionId> = topics.into_iter().filter(awaits).collect();
                let reason = format!("no answer in {:?}", self.config.request_timeout);
                self.rejected(&topics, &reason, None, now);
                self.check_restored(now);
            }
            What::Unsubscribe(topics) if late => self.subscriptions.leaving.said(&topics, true),
            What::Renew(topic) if late => self.renewed(topic, id, now),
            // They wait for the next connection, or end with this one.
            _ => {}
        }
    }
}

impl Link {
    /// Sends a message that is not the user's; its ordinal among the connection's data messages.
    pub(crate) fn send_own(&mut self, text: &str) -> u64 {
        debug_assert!(self.is_open());
        if self.sender.queued() == 0 {
            self.own.clear();
        } else if self.own.len() >= 1024 && self.own.len().is_power_of_two() {
            // Something always waits: find out what does not any more.
            let first = self.sender.messages() - self.sender.unwritten().whole;
            self.own.retain(|ordinal| *ordinal + 1 >= first);
        }
        let ordinal = self.sender.messages();
        self.own.push_back(ordinal);
        self.sender.message(Kind::Text, text.as_bytes(), true);
        ordinal
    }
}
