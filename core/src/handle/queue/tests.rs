//! The line against a model that is slow and plain, and against what must hold whatever the model says.

use super::*;
use crate::session::Epoch;
use std::collections::BTreeSet;
use std::time::Duration;

const LONGEST: usize = 40;
const POLICIES: [Overflow; 5] =
    [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest, Overflow::Conflate, Overflow::Close];

fn message(id: Option<u64>, n: u64, len: usize) -> OwnedEvent {
    let bytes = [&n.to_be_bytes()[..], &vec![0; len - 8]].concat();
    let subscription = id.map(SubscriptionId);
    OwnedEvent::Message { message: tungstenite::Message::binary(bytes), epoch: Epoch(1), subscription }
}

/// An event that is no message.
fn other(n: u64) -> OwnedEvent {
    OwnedEvent::Pong { rtt: Duration::from_nanos(n), epoch: Epoch(1) }
}

/// What is told, as tests can compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Other(u64),
    Message(Option<u64>, u64),
    Lost(u64, u64),
    Ended(u64, u64),
}

fn told(event: OwnedEvent) -> Told {
    match event {
        OwnedEvent::Pong { rtt, .. } => Told::Other(rtt.as_nanos() as u64),
        OwnedEvent::Message { message, subscription, .. } => {
            let n = message.into_data()[..8].try_into().map(u64::from_be_bytes);
            Told::Message(subscription.map(|id| id.0), n.unwrap())
        }
        OwnedEvent::Overflowed { subscription: Some(id), dropped, ended: false } => Told::Lost(id.0, dropped),
        OwnedEvent::Overflowed { subscription: Some(id), dropped, ended: true } => Told::Ended(id.0, dropped),
        event => panic!("{event:?}"),
    }
}

fn drain(queue: &mut Queue) -> Vec<Told> {
    std::iter::from_fn(|| queue.pop()).map(told).collect()
}

/// Puts messages of topic 1 with these numbers in, one byte longer than their number.
fn push(queue: &mut Queue, overflow: Overflow, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        queue.push(message(Some(1), n, 8), Some((SubscriptionId(1), overflow)));
    }
}

const fn topic(id: u64, overflow: Overflow) -> Loose {
    Some((SubscriptionId(id), overflow))
}

#[test]
fn block_waits_and_loses_nothing() {
    let mut queue = Queue::new(3, BYTES);
    push(&mut queue, Overflow::Block, 0..3);
    assert_eq!(queue.room(topic(1, Overflow::Block)), Room::Full);
    assert_eq!(queue.room(None), Room::Full);
    assert_eq!(queue.pop().map(told), Some(Told::Message(Some(1), 0)));
    assert_eq!(queue.room(None), Room::Free);
    queue.push(other(9), None);
    assert_eq!(drain(&mut queue), [Told::Message(Some(1), 1), Told::Message(Some(1), 2), Told::Other(9)]);
    assert_eq!((queue.dropped(), queue.is_empty()), (0, true));
}

#[test]
fn drop_oldest_keeps_the_newest_and_tells_first() {
    let mut queue = Queue::new(3, BYTES);
    push(&mut queue, Overflow::DropOldest, 0..10);
    let [seven, eight, nine] = [7, 8, 9].map(|n| Told::Message(Some(1), n));
    assert_eq!(drain(&mut queue), [Told::Lost(1, 7), seven, eight, nine]);
    assert_eq!(queue.dropped(), 7);
}

#[test]
fn drop_newest_keeps_the_oldest_and_tells_last() {
    let mut queue = Queue::new(2, BYTES);
    push(&mut queue, Overflow::DropNewest, 0..5);
    assert_eq!(queue.pop().map(told), Some(Told::Message(Some(1), 0)));
    push(&mut queue, Overflow::DropNewest, 5..8);
    let [one, five] = [1, 5].map(|n| Told::Message(Some(1), n));
    assert_eq!(drain(&mut queue), [one, Told::Lost(1, 3), five, Told::Lost(1, 2)]);
    assert_eq!(queue.dropped(), 5);
}

#[test]
fn conflate_holds_one_however_much_room_there_is() {
    let mut queue = Queue::new(100, BYTES);
    push(&mut queue, Overflow::Conflate, 0..1);
    queue.push(message(None, 50, 8), None);
    push(&mut queue, Overflow::Conflate, 1..4);
    let rest = Told::Message(None, 50);
    assert_eq!(drain(&mut queue), [Told::Lost(1, 3), Told::Message(Some(1), 3), rest], "it keeps its place");

    push(&mut queue, Overflow::Conflate, 4..6);
    queue.push(other(50), None);
    push(&mut queue, Overflow::Conflate, 6..8);
    let want = [Told::Other(50), Told::Lost(1, 3), Told::Message(Some(1), 7)];
    assert_eq!(drain(&mut queue), want, "but does not overtake what is no message");
}

#[test]
fn close_tells_that_it_ends_behind_what_still_came() {
    let mut queue = Queue::new(2, BYTES);
    let kind = topic(1, Overflow::Close);
    let ends: Vec<bool> = (0..3).map(|n| queue.push(message(Some(1), n, 8), kind)).collect();
    assert_eq!(ends, [false, false, true]);
    let [zero, one] = [0, 1].map(|n| Told::Message(Some(1), n));
    assert_eq!(drain(&mut queue), [zero, one, Told::Ended(1, 1)]);
}

#[test]
fn a_line_full_of_firm_events_still_takes_loose_ones() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Conflate, Overflow::Close] {
        let mut queue = Queue::new(2, BYTES);
        (0..2).for_each(|n| _ = queue.push(other(n), None));
        assert_eq!(queue.room(None), Room::Full);
        assert_eq!(queue.room(topic(1, overflow)), Room::Free, "{overflow:?}");
        push(&mut queue, overflow, 0..1);
        let want = [Told::Other(0), Told::Other(1), Told::Message(Some(1), 0)];
        assert_eq!(drain(&mut queue), want);
    }
}

#[test]
fn a_line_full_of_loose_messages_still_takes_firm_events() {
    let mut queue = Queue::new(2, BYTES);
    push(&mut queue, Overflow::DropOldest, 0..50);
    assert_eq!(queue.room(None), Room::Free);
    queue.push(other(0), None);
    push(&mut queue, Overflow::DropOldest, 50..51);
    let [old, new] = [49, 50].map(|n| Told::Message(Some(1), n));
    assert_eq!(drain(&mut queue), [Told::Lost(1, 49), old, Told::Other(0), new]);
}

#[test]
fn a_flood_takes_nothing_from_a_quiet_topic() {
    let mut queue = Queue::new(8, BYTES);
    push(&mut queue, Overflow::DropOldest, 0..100);
    let quiet = topic(2, Overflow::Close);
    for n in 0..4 {
        assert!(!queue.push(message(Some(2), n, 8), quiet), "half of the line is its own");
        push(&mut queue, Overflow::DropOldest, [100 + n]);
    }
    assert!(queue.push(message(Some(2), 4, 8), quiet));
}

#[test]
fn bytes_are_bounded_too() {
    let mut queue = Queue::new(100, 1000);
    assert_eq!(queue.room(None), Room::Free);
    queue.push(message(None, 0, 5000), None);
    assert_eq!(queue.room(None), Room::Full, "one may be longer than the bound");
    let kind = topic(1, Overflow::DropOldest);
    for n in 0..10 {
        queue.push(message(Some(1), n, 300), kind);
    }
    // Three fit, and one that the bound is exceeded by: 6 to 9. Room for a longer one is what one of them leaves.
    queue.push(message(Some(1), 10, 600), kind);
    assert_eq!((queue.loose, queue.dropped()), (Load { events: 4, bytes: 1500 }, 7));
    // Now two must go for one.
    queue.push(message(Some(1), 11, 600), kind);
    let [nine, ten, eleven] = [9, 10, 11].map(|n| Told::Message(Some(1), n));
    assert_eq!(drain(&mut queue), [Told::Message(None, 0), Told::Lost(1, 9), nine, ten, eleven]);
    assert_eq!((queue.firm, queue.loose, queue.dropped()), (Load::default(), Load::default(), 9));
    assert!(queue.topics.is_empty());
}

#[test]
fn cleared_is_as_new_but_for_what_was_lost() {
    let mut queue = Queue::new(2, BYTES);
    push(&mut queue, Overflow::DropNewest, 0..5);
    queue.push(other(0), None);
    queue.clear();
    assert!(queue.is_empty() && queue.pop().is_none());
    push(&mut queue, Overflow::DropNewest, 5..7);
    assert_eq!(drain(&mut queue), [5, 6].map(|n| Told::Message(Some(1), n)));
    assert_eq!(queue.dropped(), 3);
}

/// The line as a list, everything counted by looking at all of it.
#[derive(Debug)]
struct Model {
    capacity: usize,
    bytes: usize,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
enum Item {
    Firm { told: Told, len: usize },
    Loose { id: u64, n: u64, len: usize, missing: u64 },
    Lost { id: u64, count: u64, ended: bool },
}

impl Item {
    fn topic(&self) -> Option<u64> {
        match self {
            Self::Firm { .. } => None,
            Self::Loose { id, .. } | Self::Lost { id, .. } => Some(*id),
        }
    }

    fn is_barrier(&self) -> bool {
        matches!(self, Self::Firm { told: Told::Other(_), .. })
    }
}

impl Model {
    /// Messages and bytes of a topic, or of all of them.
    fn load(&self, topic: Option<u64>) -> (usize, usize) {
        let loads = self.items.iter().filter_map(|item| match item {
            Item::Loose { id, len, .. } if topic.is_none_or(|topic| topic == *id) => Some(*len),
            _ => None,
        });
        loads.fold((0, 0), |(events, bytes), len| (events + 1, bytes + len))
    }

    fn firm(&self) -> (usize, usize) {
        let firm = self.items.iter().filter_map(|item| match item {
            Item::Firm { len, .. } => Some(*len),
            _ => None,
        });
        firm.fold((0, 0), |(events, bytes), len| (events + 1, bytes + len))
    }

    fn topics(&self) -> BTreeSet<u64> {
        self.items.iter().filter_map(Item::topic).collect()
    }

    fn is_firmly_full(&self) -> bool {
        let (events, bytes) = self.firm();
        events >= self.capacity || bytes >= self.bytes
    }

    /// Puts a message in that may be lost. True if its topic ends.
    fn push(&mut self, id: u64, n: u64, len: usize, overflow: Overflow) -> bool {
        let (events, bytes) = self.load(None);
        let (own_events, own_bytes) = self.load(Some(id));
        let topics = self.topics().len().max(1);
        let over = (events >= self.capacity && own_events >= (self.capacity / topics).max(1))
            || (bytes >= self.bytes && own_bytes >= self.bytes / topics);
        let loses = own_events > 0 && (over || overflow == Overflow::Conflate);
        let mut missing = 0;
        if loses {
            match overflow {
                Overflow::DropNewest | Overflow::Close => {
                    let ended = overflow == Overflow::Close;
                    let last = self.items.iter().rposition(|item| item.topic() == Some(id)).unwrap();
                    let barred = self.items[last..].iter().any(Item::is_barrier);
                    match &mut self.items[last] {
                        Item::Lost { count, .. } if !barred => *count += 1,
                        _ => self.items.push(Item::Lost { id, count: 1, ended }),
                    }
                    return ended;
                }
                Overflow::Conflate => {
                    let last = self.items.iter().rposition(|item| item.topic() == Some(id)).unwrap();
                    let Item::Loose { missing, .. } = self.items[last] else {
                        panic!("it holds one message")
                    };
                    let item = Item::Loose { id, n, len, missing: missing + 1 };
                    if self.items[last..].iter().any(Item::is_barrier) {
                        self.items.remove(last);
                        self.items.push(item);
                    } else {
                        self.items[last] = item;
                    }
                    return false;
                }
                Overflow::DropOldest => {
                    let mut freed = 0;
                    let oldest = |item: &Item| matches!(item, Item::Loose { id: own, .. } if *own == id);
                    while let Some(at) = self.items.iter().position(oldest) {
                        let Item::Loose { len: own, missing: before, .. } = self.items.remove(at) else {
                            panic!()
                        };
                        missing += before + 1;
                        freed += own;
                        if freed >= len || self.load(None).1 < self.bytes {
                            break;
                        }
                    }
                }
                Overflow::Block => panic!("it is firm"),
            }
        }
        // What is missing goes before the next one.
        let next = self.items.iter_mut().find(|item| item.topic() == Some(id));
        if let Some(Item::Loose { missing: before, .. }) = next {
            *before += std::mem::take(&mut missing);
        }
        self.items.push(Item::Loose { id, n, len, missing });
        false
    }

    fn pop(&mut self) -> Option<Told> {
        if let Some(Item::Loose { id, missing: missing @ 1.., .. }) = self.items.first_mut() {
            return Some(Told::Lost(*id, std::mem::take(missing)));
        }
        if self.items.is_empty() {
            return None;
        }
        Some(match self.items.remove(0) {
            Item::Firm { told, .. } => told,
            Item::Loose { id, n, .. } => Told::Message(Some(id), n),
            Item::Lost { id, count, ended: false } => Told::Lost(id, count),
            Item::Lost { id, count, ended: true } => Told::Ended(id, count),
        })
    }
}

/// What has been put in and told of a topic.
#[derive(Debug, Clone, Copy, Default)]
struct Ledger {
    put: u64,
    /// Messages that were told or said to be lost.
    accounted: u64,
    last: Option<u64>,
    /// It was said to end, and nothing is put in any more.
    closed: bool,
    /// The end was told.
    ended: bool,
}

/// What must hold of whatever is told, by whichever rule.
struct Checks {
    policies: Vec<Overflow>,
    ledgers: Vec<Ledger>,
    /// For each message, how many other events went in before it.
    after: BTreeMap<(u64, u64), u64>,
    others: (u64, u64),
    /// In which order things went in, for those that never change places.
    order: BTreeMap<(Option<u64>, u64), u64>,
    last: u64,
    lost: u64,
}

impl Checks {
    fn told(&mut self, told: Told) {
        match told {
            Told::Other(n) => {
                assert_eq!(n, self.others.1, "no other event is lost, and they keep their order");
                self.others.1 += 1;
            }
            Told::Lost(id, count) | Told::Ended(id, count) => {
                assert!(count > 0);
                assert!(!matches!(self.policies[id as usize], Overflow::Block));
                let ledger = &mut self.ledgers[id as usize];
                assert!(!ledger.ended, "nothing follows the end");
                ledger.accounted += count;
                ledger.ended = matches!(told, Told::Ended(..));
                self.lost += count;
            }
            Told::Message(id, n) => {
                let topic = id.unwrap_or(0) as usize;
                let ledger = &mut self.ledgers[topic];
                assert!(!ledger.ended, "nothing follows the end");
                assert_eq!(n, ledger.accounted, "what is missing of {topic} was told exactly here");
                ledger.accounted += 1;
                ledger.last = Some(n);
                assert!(self.after[&(topic as u64, n)] <= self.others.1, "it overtook nothing but messages");
                if self.policies[topic] != Overflow::Conflate {
                    let place = self.order[&(id, n)];
                    assert!(place > self.last, "first in, first out");
                    self.last = place;
                }
            }
        }
    }
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 8
}

/// One run: topic 0 stands for messages without a subscription, the others have policies by turns.
fn run(seed: u64, only: Option<Overflow>) -> u64 {
    let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = |below: u64| random(&mut dice) % below;
    let capacity = [1, 2, 3, 7, 16, 50][roll(6) as usize];
    let bytes = [BYTES, 100, 500][roll(3) as usize];
    let topics = 1 + roll(8);
    let mut policies = vec![Overflow::Block];
    policies.extend((0..topics).map(|_| only.unwrap_or(POLICIES[roll(5) as usize])));
    let mut queue = Queue::new(capacity, bytes);
    let mut model = Model { capacity, bytes, items: Vec::new() };
    let mut checks = Checks {
        ledgers: vec![Ledger::default(); policies.len()],
        policies,
        after: BTreeMap::new(),
        others: (0, 0),
        order: BTreeMap::new(),
        last: 0,
        lost: 0,
    };
    for step in 1..600 {
        // Bursts, and times of calm.
        let busy = (step / 60) % 2 == 0;
        if roll(10) < if busy { 8 } else { 3 } {
            let topic = if roll(2) == 0 { roll(topics + 1) } else { topics };
            let overflow = checks.policies[topic as usize];
            let len = 8 + roll(LONGEST as u64 - 7) as usize;
            let ledger = &mut checks.ledgers[topic as usize];
            let n = ledger.put;
            let other = roll(12) == 0;
            let kind = if other || topic == 0 { None } else { self::topic(topic, overflow) };
            let firm = kind.is_none() || overflow == Overflow::Block;
            assert_eq!(queue.room(kind) == Room::Full, firm && model.is_firmly_full());
            if queue.room(kind) == Room::Full || (!other && ledger.closed) {
                continue;
            }
            if other {
                queue.push(self::other(checks.others.0), None);
                model.items.push(Item::Firm { told: Told::Other(checks.others.0), len: 0 });
                checks.others.0 += 1;
                continue;
            }
            ledger.put += 1;
            let id = (topic > 0).then_some(topic);
            checks.order.insert((id, n), step);
            checks.after.insert((topic, n), checks.others.0);
            let before = queue.dropped();
            let loses = queue.room(kind) == Room::Loses;
            let ended = queue.push(message(id, n, len), kind);
            assert_eq!(loses, queue.dropped() > before, "a loss is foreseen");
            if firm {
                model.items.push(Item::Firm { told: Told::Message(id, n), len });
            } else {
                assert_eq!(ended, model.push(topic, n, len, overflow));
            }
            // The session has no more of it then. What was put in stays.
            checks.ledgers[topic as usize].closed = ended;
        } else {
            let next = queue.pop().map(told);
            assert_eq!(next, model.pop(), "seed {seed}");
            next.into_iter().for_each(|told| checks.told(told));
        }
        bounded(&model, &queue);
    }
    while let Some(event) = queue.pop() {
        let told = told(event);
        assert_eq!(Some(told), model.pop(), "seed {seed}");
        checks.told(told);
    }
    assert_eq!(model.pop(), None);
    assert!(checks.ledgers.iter().all(|ledger| ledger.closed == ledger.ended), "each end is told");
    assert_eq!(checks.others.0, checks.others.1, "all other events came");
    assert_eq!(checks.lost, queue.dropped(), "each loss was told once");
    for (ledger, policy) in checks.ledgers.iter().zip(&checks.policies) {
        assert_eq!(
            ledger.put, ledger.accounted,
            "{policy:?}: all that was put in is told or said to be lost"
        );
        if matches!(policy, Overflow::Conflate | Overflow::DropOldest) {
            assert_eq!(ledger.last, ledger.put.checked_sub(1), "{policy:?}: the newest is kept");
        }
    }
    checks.lost
}

/// The bounds that the module promises, and that nothing is left behind in the books.
fn bounded(model: &Model, queue: &Queue) {
    let (events, bytes) = model.firm();
    assert!(events <= model.capacity && bytes < model.bytes + LONGEST);
    assert_eq!(queue.firm, Load { events, bytes });
    let (events, bytes) = model.load(None);
    assert_eq!(queue.loose, Load { events, bytes });
    assert_eq!((queue.line.len(), queue.topics.len()), (model.items.len(), model.topics().len()));
    let mut loads: Vec<_> = model.topics().into_iter().map(|id| model.load(Some(id))).collect();
    loads.sort_by(|a, b| b.cmp(a));
    for (rank, (events, _)) in (1..).zip(&loads) {
        assert!(*events <= (model.capacity / rank).max(1), "{loads:?} of {}", model.capacity);
    }
    loads.sort_by(|a, b| b.1.cmp(&a.1));
    for (rank, (_, bytes)) in (1..).zip(&loads) {
        assert!(*bytes <= model.bytes / rank + LONGEST, "{loads:?} of {}", model.bytes);
    }
}

#[test]
fn every_policy_alone_is_as_the_model() {
    for policy in POLICIES {
        let lost: u64 = (1..150).map(|seed| run(seed, Some(policy))).sum();
        assert_eq!(lost > 0, policy != Overflow::Block, "{policy:?}: the runs come to its point");
    }
}

#[test]
fn all_policies_together_are_as_the_model() {
    let lost: u64 = (1000..1500).map(|seed| run(seed, None)).sum();
    assert!(lost > 5_000, "{lost}");
}
