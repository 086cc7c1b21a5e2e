//! What the session tells, against what has happened.

use super::setup::{SECRET, sequence};
use super::world::{Numbers, World};
use everwire_core::{
    Epoch, Error, Gap, GapCause, OwnedEvent, OwnedOutcome, RequestId, SequenceRule, SubscriptionId, Unsent,
    tungstenite,
};

impl World {
    /// An event is told.
    pub(super) fn told(&mut self, event: &OwnedEvent) {
        if self.digest.is_some() {
            self.note(format!("{event:?}").as_bytes());
        }
        if !matches!(event, OwnedEvent::Message { .. } | OwnedEvent::Chunk { .. }) {
            let shown = format!("{event:?}");
            assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
        }
        assert!(!self.over, "{event:?} after the end");
        match event {
            OwnedEvent::Online { epoch, resumed, .. } => {
                self.in_epoch(*epoch);
                assert!(self.online.is_none_or(|last| last < *epoch), "online twice in {epoch:?}");
                assert_eq!(*resumed, epoch.as_u64() > 1);
                self.is_authenticated(*epoch);
                self.online = Some(*epoch);
            }
            OwnedEvent::Message { message, epoch, subscription } => {
                self.in_epoch(*epoch);
                if let Some(id) = subscription {
                    self.topic_message(*id, message, *epoch);
                }
            }
            OwnedEvent::Chunk { epoch, .. } | OwnedEvent::Pong { epoch, .. } => self.in_epoch(*epoch),
            OwnedEvent::Refreshed { epoch, .. } | OwnedEvent::RefreshFailed { epoch, .. } => {
                self.in_epoch(*epoch);
                assert_eq!(self.online, Some(*epoch), "refreshed before it was online");
            }
            OwnedEvent::Authenticated { epoch } => {
                self.in_epoch(*epoch);
                assert!(self.setup.authenticates, "nobody asked for that");
                // Again only when the endpoint was refreshed, which is after the session was online.
                let again = self.online == Some(*epoch);
                assert!(again || self.authenticated.is_none_or(|last| last < *epoch), "authenticated twice");
                self.authenticated = Some(*epoch);
            }
            OwnedEvent::Subscribed { epoch, id, .. } => {
                self.in_epoch(*epoch);
                self.is_authenticated(*epoch);
                self.continues(*id, *epoch);
                // What nobody confirms may begin anew between two messages of the old stream.
                let silent = self.setup.silent || !self.setup.numbered;
                self.topic(*id).numbers = if silent { Numbers::Unwatched } else { Numbers::Any };
            }
            OwnedEvent::Rejected { epoch, id, retry_at, reason, .. } => {
                self.in_epoch(*epoch);
                let may_stop = self.setup.stops_topics || !self.setup.restore;
                assert!(retry_at.is_some() || may_stop, "{id:?} is never asked for again: {reason}");
                assert!(self.topics.contains_key(id), "{id:?} was never made");
            }
            OwnedEvent::Gap(gap) => self.gap(gap),
            OwnedEvent::Request { id, epoch, .. } => {
                self.in_epoch(*epoch);
                self.asked.push((*epoch, id.clone()));
            }
            OwnedEvent::Notice { epoch, .. } => self.in_epoch(*epoch),
            OwnedEvent::Stale { epoch, subscription, .. } => {
                self.in_epoch(*epoch);
                if let Some((id, _)) = subscription {
                    self.topic(*id).numbers = Numbers::Unwatched;
                } else {
                    self.topics.values_mut().for_each(|topic| topic.numbers = Numbers::Unwatched);
                }
            }
            OwnedEvent::Pressure { waiting, .. } => {
                // Requests that were held while there was no connection come on top.
                let most = self.setup.queue_messages + 1 + 16;
                assert!(self.setup.limited && *waiting <= most, "{waiting} wait, {most} may");
            }
            OwnedEvent::Expired { id } => {
                let id = id.as_u64();
                assert!(self.setup.limited && id <= self.last_send, "message {id} expired");
                assert!(!self.messages_read.contains(&id), "the server has message {id}, which expired");
                assert!(self.messages_unsent.insert(id), "message {id} expired after it was given up");
            }
            OwnedEvent::Response { id, outcome } => self.settled(*id, outcome),
            OwnedEvent::Lost { epoch, unsent, error, .. } => {
                self.in_epoch(*epoch);
                self.lost = Some(*epoch);
                self.topics.values_mut().for_each(|topic| topic.numbers = Numbers::Unwatched);
                if !self.setup.deflate {
                    // After a fault of the server what waits is still on its way to it.
                    let flushed = matches!(error, Error::Protocol(_));
                    self.check_unsent(*epoch, unsent, flushed);
                }
            }
            OwnedEvent::Writable => {
                assert!(self.refused > 0, "nobody was told to wait");
                self.refused -= 1;
            }
            OwnedEvent::AttemptFailed { failures, .. } => assert!(*failures > 0),
            OwnedEvent::Closed { unsent, .. } => {
                self.over = true;
                assert_eq!(self.session.end().map(|end| &end.unsent), Some(unsent));
                if !self.setup.deflate {
                    self.check_end(unsent);
                }
            }
            other => panic!("unknown event {other:?}"),
        }
    }

    fn in_epoch(&mut self, epoch: Epoch) {
        assert!(epoch >= self.last_epoch, "{epoch:?} after {:?}", self.last_epoch);
        self.last_epoch = epoch;
    }

    fn is_authenticated(&self, epoch: Epoch) {
        let authenticated = !self.setup.authenticates || self.authenticated == Some(epoch);
        assert!(authenticated, "not authenticated in {epoch:?}");
    }

    fn topic(&mut self, id: SubscriptionId) -> &mut super::world::Topic {
        self.topics.get_mut(&id).expect("only what was made is told of")
    }

    /// A topic is in force: what it may have missed was told before.
    fn continues(&mut self, id: SubscriptionId, epoch: Epoch) {
        let topic = self.topic(id);
        let missed = topic.live.is_some_and(|live| live < epoch) && topic.gap != Some(epoch);
        assert!(!missed, "{id:?} goes on in {epoch:?} without a word of its gap: {topic:?}");
        topic.live = Some(epoch);
    }

    fn gap(&mut self, gap: &Gap) {
        self.in_epoch(gap.after);
        let reconnect = gap.cause == GapCause::Reconnect;
        assert!(gap.before <= gap.after && (gap.before < gap.after) == reconnect, "{gap:?}");
        // Time that went back is not what this is about.
        assert!(gap.since <= gap.until || self.now < self.latest || self.jumps > 0, "{gap:?}");
        for (id, _) in &gap.topics {
            let topic = self.topic(*id);
            if reconnect {
                assert!(topic.gap.is_none_or(|last| last < gap.after), "told twice: {gap:?}");
                topic.gap = Some(gap.after);
            } else {
                topic.numbers = Numbers::Unwatched;
            }
        }
    }

    /// A message of a topic: it follows on the one before it.
    fn topic_message(&mut self, id: SubscriptionId, message: &tungstenite::Message, epoch: Epoch) {
        self.continues(id, epoch);
        let tungstenite::Message::Text(text) = message else { panic!("{id:?} has no text") };
        let Some(sequence) = sequence(text) else { return };
        let topic = self.topic(id);
        if topic.rule != Some(SequenceRule::PlusOne) {
            return;
        }
        if let Numbers::After(last) = topic.numbers
            && !sequence.snapshot
        {
            assert_eq!(sequence.first, last + 1, "{id:?} misses messages, and nobody says so");
        }
        if topic.numbers != Numbers::Unwatched {
            topic.numbers = Numbers::After(sequence.last);
        }
    }

    fn settled(&mut self, id: RequestId, outcome: &OwnedOutcome) {
        let made = self.requests.get_mut(&id).expect("a request that was made").pop_front();
        let made = made.unwrap_or_else(|| panic!("{id:?} is settled twice"));
        if let OwnedOutcome::NotSent(why) = outcome {
            let read = self.requests_read.contains(&made.serial);
            assert!(!read, "the server has {id:?}, which was not sent: {why:?}");
            self.requests_unsent.insert(made.serial);
        }
    }

    /// What is said not to have been sent is what the server does not have.
    fn check_unsent(&mut self, epoch: Epoch, unsent: &Unsent, flushed: bool) {
        let ids = self.sent.get(&epoch).map_or(&[][..], |ids| ids);
        for &id in ids {
            let whole = (unsent.not_sent.start.as_u64() <= id && id < unsent.not_sent.end.as_u64())
                || unsent.waiting.iter().any(|waiting| waiting.as_u64() == id);
            let cut = unsent.cut.is_some_and(|cut| cut.as_u64() == id);
            let read = self.messages_read.contains(&id);
            let expired = self.messages_unsent.contains(&id);
            assert!(!whole || !expired, "message {id} was given up before: {unsent:?}");
            // The rest of one that was cut may have followed before this was told.
            assert!(!read || !whole, "the server has message {id} of {ids:?}: {unsent:?}");
            let accounted = read || whole || cut || flushed || expired;
            assert!(accounted, "the server lacks message {id} of {ids:?}: {unsent:?}");
        }
        let first = ids.first().copied().unwrap_or(self.last_send + 1);
        let (start, end) = (unsent.not_sent.start.as_u64(), unsent.not_sent.end.as_u64());
        assert!(start >= first && end == self.last_send + 1, "{unsent:?}");
        assert!(unsent.waiting.iter().all(|id| ids.contains(&id.as_u64())), "{unsent:?} of {ids:?}");
        assert!(unsent.cut.is_none_or(|cut| cut.as_u64() >= first));
        self.messages_unsent.extend(start..end);
        self.messages_unsent.extend(unsent.waiting.iter().map(|id| id.as_u64()));
    }

    /// What the end says not to have been sent was sent for the last connection, no loss told it, and the server does not have it.
    fn check_end(&mut self, unsent: &Unsent) {
        let (start, end) = (unsent.not_sent.start.as_u64(), unsent.not_sent.end.as_u64());
        assert!(start <= end && end == self.last_send + 1, "{unsent:?}");
        let last = self.sent.last_key_value().map_or(&[][..], |(_, ids)| ids);
        let lost = self.sent.last_key_value().is_none_or(|(epoch, _)| self.lost >= Some(*epoch));
        // What a server that breaks the protocol is owed is still on its way to it.
        let spoilt = self.sockets.iter().any(|socket| socket.peer.spoilt);
        if !lost && !spoilt {
            let told =
                |id: u64| (start..end).contains(&id) || unsent.waiting.iter().any(|one| one.as_u64() == id);
            let cut = |id: u64| unsent.cut.is_some_and(|cut| cut.as_u64() == id);
            let known = |id: u64| self.messages_read.contains(&id) || self.messages_unsent.contains(&id);
            let lacks = last.iter().find(|id| !told(**id) && !cut(**id) && !known(**id));
            assert!(lacks.is_none(), "the server lacks message {lacks:?} of {last:?}: {unsent:?}");
        }
        for id in (start..end).chain(unsent.waiting.iter().map(|id| id.as_u64())) {
            assert!(last.contains(&id), "message {id} is none of {last:?}: {unsent:?}");
            assert!(!self.messages_read.contains(&id), "the server has message {id}: {unsent:?}");
            assert!(self.messages_unsent.insert(id), "message {id} was given up before: {unsent:?}");
        }
        if let Some(cut) = unsent.cut {
            assert!(last.contains(&cut.as_u64()), "{cut:?} is none of {last:?}");
        }
    }
}
