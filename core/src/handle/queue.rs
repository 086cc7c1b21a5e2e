//! The line of events between a driver and its user, and what is lost of it.
//!
//! One line, first in, first out. Events are of two kinds:
//!
//! - *Firm*: all but the messages of subscriptions with an overflow policy. They are never lost. While `capacity` of them wait, or [`BYTES`],
//!   the next one has no room: the driver holds it, reads no further, and all that comes behind it stays in the socket.
//! - *Loose*: messages of a subscription with another policy than [`Overflow::Block`]. They never wait for room and never make a firm
//!   event wait. When `capacity` of them wait, or [`BYTES`], every topic is held to its fair share: as much as everyone would have if
//!   all the topics in the line had the same. A topic that has its share loses a message for each that comes, as its policy says; one that
//!   has less may still grow to it. So a flood on one topic takes no message from a quiet one, and a line full of firm events does not keep
//!   loose ones from being told. A topic always has room for one message.
//!
//! What that comes to: of `n` topics with a policy the one that waits in rank `k` by length has at most `max(1, capacity / k)` messages in the
//! line, which makes at most `capacity * (1 + ln n) + n`, and `capacity` firm events. Bytes are counted of what a peer can make long, and
//! may exceed the bound by the last message.
//!
//! Who loses what:
//!
//! - `DropOldest`: the topic's oldest message leaves the line, the new one goes to its end. Where it is long, several leave.
//! - `DropNewest`: the new message is thrown away.
//! - `Conflate`: a message that still waits is replaced by the new one, in its place: going to the end each time, a busy topic would never
//!   have its turn among others. If an event that is no message came between (`Gap`, `Lost`, `Online`), it goes to the end all the same, as it must not
//!   overtake that. This is the one exception to first in, first out. It does not ask whether there is room.
//! - `Close`: the new message is thrown away, and the subscription is to be ended.
//!
//! Every loss is told once, where it is: `DropOldest` and `Conflate` before the topic's next message that is told, `DropNewest` and `Close` in a place
//! of its own behind the topic's last one. Losses side by side are told as one. Told losses take no room.

use crate::session::{Overflow, OwnedEvent, OwnedOutcome, SubscriptionId};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of firm events that may wait, and of loose ones: 16 MiB each. Few messages of ordinary length come near it; it is there so that a
/// buffer for a thousand messages is not one for a thousand of the longest. A user need not set it: who has long messages has few.
pub(super) const BYTES: usize = 16 << 20;

/// Whose message an event is, and what becomes of it: `None` is firm.
pub(super) type Loose = Option<(SubscriptionId, Overflow)>;

/// Whether an event can be put in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room.
    Free,
    /// It can, but something is lost for it.
    Loses,
    /// It must wait.
    Full,
}

#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    bytes: usize,
    /// By place; places count up and are never used twice.
    line: BTreeMap<u64, Entry>,
    next: u64,
    /// The place of the last firm event that is no message.
    barrier: u64,
    firm: Load,
    loose: Load,
    /// The topics that have something in the line.
    topics: BTreeMap<SubscriptionId, Topic>,
    dropped: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    events: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    Firm(OwnedEvent),
    Loose {
        id: SubscriptionId,
        /// How many messages of the topic are missing before this one.
        missing: u64,
        /// `None`: it stands only for what is missing.
        message: Option<OwnedEvent>,
        /// The subscription ends here.
        ended: bool,
    },
}

#[derive(Debug, Default)]
struct Topic {
    /// Its places in the line, in order.
    places: VecDeque<u64>,
    load: Load,
}

impl Queue {
    /// `capacity` in events, and `bytes`: of firm events, and of loose ones.
    pub(super) fn new(capacity: usize, bytes: usize) -> Self {
        Self {
            capacity,
            bytes,
            line: BTreeMap::new(),
            next: 1,
            barrier: 0,
            firm: Load::default(),
            loose: Load::default(),
            topics: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Whether there is room for an event of this kind.
    pub(super) fn room(&self, kind: Loose) -> Room {
        let loses = match kind {
            None | Some((_, Overflow::Block)) => {
                let full = self.firm.events >= self.capacity || self.firm.bytes >= self.bytes;
                return if full { Room::Full } else { Room::Free };
            }
            Some((id, Overflow::Conflate)) => self.topics.get(&id).is_some_and(|topic| topic.load.events > 0),
            Some((id, _)) => self.has_its_share(id),
        };
        if loses { Room::Loses } else { Room::Free }
    }

    /// Whether the line is full and this topic has as much in it as it may.
    fn has_its_share(&self, id: SubscriptionId) -> bool {
        let Some(own) = self.topics.get(&id).map(|topic| topic.load).filter(|own| own.events > 0) else {
            return false;
        };
        let count = self.topics.len();
        let events = self.loose.events >= self.capacity && own.events >= (self.capacity / count).max(1);
        let bytes = self.loose.bytes >= self.bytes && own.bytes >= self.bytes / count;
        events || bytes
    }

    /// Half of the events that may wait.
    pub(super) fn half(&self) -> usize {
        self.capacity / 2
    }

    /// Whether there is so much room for an event of this kind that nothing need be lost for a while.
    pub(super) fn eases(&self, kind: Loose) -> bool {
        let conflates = matches!(kind, Some((_, Overflow::Conflate)));
        let half_empty = self.loose.events <= self.half() && self.loose.bytes <= self.bytes / 2;
        self.room(kind) == Room::Free && (conflates || half_empty)
    }

    /// Puts an event in the line; what is firm is put there whether there is room or not. True if its subscription is to be ended.
    pub(super) fn push(&mut self, event: OwnedEvent, kind: Loose) -> bool {
        let room = self.room(kind);
        match kind {
            None | Some((_, Overflow::Block)) => self.push_firm(event),
            Some((id, _)) if room == Room::Free => self.push_loose(id, 0, event),
            Some((id, Overflow::Conflate)) => self.conflate(id, event),
            Some((id, Overflow::DropOldest)) => {
                let missing = self.drop_oldest(id, size(&event));
                self.push_loose(id, missing, event);
            }
            Some((id, Overflow::DropNewest)) => self.mark(id, false),
            Some((id, Overflow::Close)) => {
                self.mark(id, true);
                return true;
            }
        }
        false
    }

    /// The next event.
    pub(super) fn pop(&mut self) -> Option<OwnedEvent> {
        let mut first = self.line.first_entry()?;
        match first.get_mut() {
            // A message that has a loss to tell stays for the next call.
            Entry::Loose { id, missing: missing @ 1.., message: Some(_), .. } => {
                let dropped = std::mem::take(missing);
                Some(OwnedEvent::Overflowed { subscription: Some(*id), dropped, ended: false })
            }
            _ => match first.remove() {
                Entry::Firm(event) => {
                    self.firm.remove(&event);
                    Some(event)
                }
                Entry::Loose { id, missing, message, ended } => {
                    if let Some(topic) = self.topics.get_mut(&id) {
                        topic.places.pop_front();
                    }
                    self.left(id, message.as_ref());
                    let told = || OwnedEvent::Overflowed { subscription: Some(id), dropped: missing, ended };
                    Some(message.unwrap_or_else(told))
                }
            },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Forgets all that waits. It is not counted as lost: nobody wants it any more.
    pub(super) fn clear(&mut self) {
        self.line.clear();
        self.topics.clear();
        (self.firm, self.loose) = (Load::default(), Load::default());
    }

    /// How many messages were lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn place(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn push_firm(&mut self, event: OwnedEvent) {
        let place = self.place();
        if !matches!(event, OwnedEvent::Message { .. } | OwnedEvent::Chunk { .. }) {
            self.barrier = place;
        }
        self.firm.add(&event);
        self.line.insert(place, Entry::Firm(event));
    }

    fn push_loose(&mut self, id: SubscriptionId, missing: u64, event: OwnedEvent) {
        let place = self.place();
        let topic = self.topics.entry(id).or_default();
        topic.places.push_back(place);
        topic.load.add(&event);
        self.loose.add(&event);
        self.line.insert(place, Entry::Loose { id, missing, message: Some(event), ended: false });
    }

    /// Takes the topic's oldest message away, and more as long as they are shorter than what comes and the line has too many bytes. What is then
    /// missing before the message that comes.
    fn drop_oldest(&mut self, id: SubscriptionId, coming: usize) -> u64 {
        let (mut missing, mut freed) = (0, 0);
        while let Some(place) = self.topics.get_mut(&id).and_then(|topic| topic.places.pop_front()) {
            let Some(Entry::Loose { missing: before, message, .. }) = self.line.remove(&place) else { break };
            missing += before + u64::from(message.is_some());
            freed += message.as_ref().map_or(0, size);
            self.dropped += u64::from(message.is_some());
            self.left(id, message.as_ref());
            if self.loose.bytes < self.bytes || freed >= coming {
                break;
            }
        }
        let next = self.topics.get(&id).and_then(|topic| topic.places.front());
        match next.and_then(|place| self.line.get_mut(place)) {
            Some(Entry::Loose { missing: before, .. }) => {
                *before += missing;
                0
            }
            _ => missing,
        }
    }

    /// Replaces the topic's message by a newer one.
    fn conflate(&mut self, id: SubscriptionId, event: OwnedEvent) {
        let place = self.topics.get(&id).and_then(|topic| topic.places.back().copied()).unwrap_or(0);
        if place < self.barrier {
            let missing = self.drop_oldest(id, 0);
            return self.push_loose(id, missing, event);
        }
        if let Some(Entry::Loose { missing, message: Some(message), .. }) = self.line.get_mut(&place)
            && let Some(topic) = self.topics.get_mut(&id)
        {
            *missing += 1;
            self.dropped += 1;
            for load in [&mut topic.load, &mut self.loose] {
                load.remove(message);
                load.add(&event);
            }
            *message = event;
        }
    }

    /// Notes a loss behind the topic's last message.
    fn mark(&mut self, id: SubscriptionId, end: bool) {
        self.dropped += 1;
        let topic = self.topics.entry(id).or_default();
        let last = topic.places.back().copied().unwrap_or(0);
        if last > self.barrier
            && let Some(Entry::Loose { missing, message: None, ended, .. }) = self.line.get_mut(&last)
        {
            *missing += 1;
            *ended |= end;
            return;
        }
        let place = self.next;
        self.next += 1;
        topic.places.push_back(place);
        self.line.insert(place, Entry::Loose { id, missing: 1, message: None, ended: end });
    }

    /// This left one of the topic's places.
    fn left(&mut self, id: SubscriptionId, message: Option<&OwnedEvent>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        if let Some(message) = message {
            topic.load.remove(message);
            self.loose.remove(message);
        }
        if topic.places.is_empty() {
            self.topics.remove(&id);
        }
    }
}

impl Load {
    fn add(&mut self, event: &OwnedEvent) {
        self.events += 1;
        self.bytes = self.bytes.saturating_add(size(event));
    }

    fn remove(&mut self, event: &OwnedEvent) {
        self.events -= 1;
        self.bytes = self.bytes.saturating_sub(size(event));
    }
}

/// Bytes of what a peer can make long.
fn size(event: &OwnedEvent) -> usize {
    match event {
        OwnedEvent::Message { message, .. } | OwnedEvent::Chunk { part: message, .. } => message.len(),
        OwnedEvent::Response { outcome: OwnedOutcome::Answered(answer), .. } => match answer {
            Ok(result) => result.len(),
            Err(error) => error.message.len() + error.data.as_ref().map_or(0, String::len),
        },
        OwnedEvent::Request { id, method, params, .. } => {
            id.len() + method.len() + params.as_ref().map_or(0, String::len)
        }
        OwnedEvent::Notice { text, .. } => text.len(),
        OwnedEvent::Rejected { reason, .. } => reason.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
