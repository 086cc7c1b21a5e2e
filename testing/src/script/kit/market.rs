//! Who listens to what, what happens in a market, and what is to be done later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Which connection is subscribed to which topic.
#[derive(Debug, Clone, Default)]
pub struct Channels {
    topics: BTreeMap<u64, BTreeSet<String>>,
}

impl Channels {
    /// Nobody is subscribed to anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Subscribes; false if it was before.
    pub fn subscribe(&mut self, conn: u64, topic: impl Into<String>) -> bool {
        self.topics.entry(conn).or_default().insert(topic.into())
    }

    /// Unsubscribes; false if it was not subscribed.
    pub fn unsubscribe(&mut self, conn: u64, topic: &str) -> bool {
        self.topics.get_mut(&conn).is_some_and(|topics| topics.remove(topic))
    }

    /// The connection is over.
    pub fn leave(&mut self, conn: u64) {
        self.topics.remove(&conn);
    }

    /// Whether a connection is subscribed to a topic.
    pub fn has(&self, conn: u64, topic: &str) -> bool {
        self.topics.get(&conn).is_some_and(|topics| topics.contains(topic))
    }

    /// The topics of a connection.
    pub fn of(&self, conn: u64) -> impl Iterator<Item = &str> {
        self.topics.get(&conn).into_iter().flatten().map(String::as_str)
    }

    /// How many topics a connection has.
    pub fn count(&self, conn: u64) -> usize {
        self.topics.get(&conn).map_or(0, BTreeSet::len)
    }

    /// The connections that are subscribed to a topic, oldest first.
    pub fn listeners(&self, topic: &str) -> Vec<u64> {
        self.topics.iter().filter(|(_, topics)| topics.contains(topic)).map(|(conn, _)| *conn).collect()
    }
}

/// A market: for each topic something happens again and again, and is numbered, whether anybody listens or not. So what a client missed can be told
/// by the numbers.
#[derive(Debug, Clone)]
pub struct Ticker {
    every: Duration,
    /// The number that was told last, and when the next one is due.
    topics: BTreeMap<String, (u64, Duration)>,
}

/// Something happened in a market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// In which topic.
    pub topic: String,
    /// The how many-eth, from 1.
    pub number: u64,
    /// When.
    pub at: Duration,
}

impl Ticker {
    /// A market without topics; in each something happens so often (at most every millisecond).
    pub fn new(every: Duration) -> Self {
        Self { every: every.max(Duration::from_millis(1)), topics: BTreeMap::new() }
    }

    /// Opens a topic, if it is not open. Topics tick at different moments.
    pub fn open(&mut self, topic: &str, now: Duration) {
        if !self.topics.contains_key(topic) {
            let steps = u32::try_from(self.topics.len() % 16).unwrap_or(0);
            let first = now.saturating_add(self.every).saturating_add(self.every / 16 * steps);
            self.topics.insert(topic.to_owned(), (0, first));
        }
    }

    /// The number that something had last in this topic; 0 if nothing happened.
    pub fn number(&self, topic: &str) -> u64 {
        self.topics.get(topic).map_or(0, |(number, _)| *number)
    }

    /// One number is used up, and nobody is told: a fault of the venue.
    pub fn skip(&mut self, topic: &str) {
        if let Some((number, _)) = self.topics.get_mut(topic) {
            *number += 1;
        }
    }

    /// When something happens next.
    pub fn deadline(&self) -> Option<Duration> {
        self.topics.values().map(|(_, due)| *due).min()
    }

    /// What happened by now, oldest first. What was missed by more than 1,000 ticks of a topic did not happen.
    pub fn ticks(&mut self, now: Duration) -> Vec<Tick> {
        let mut ticks = Vec::new();
        for (topic, (number, due)) in &mut self.topics {
            *due = (*due).max(now.saturating_sub(self.every.saturating_mul(1000)));
            while *due <= now {
                *number += 1;
                ticks.push(Tick { topic: topic.clone(), number: *number, at: *due });
                *due += self.every;
            }
        }
        ticks.sort_by_key(|tick| tick.at);
        ticks
    }
}

/// What is to be done later, in the order of time.
#[derive(Debug, Clone)]
pub struct Agenda<T> {
    tasks: BTreeMap<(Duration, u64), T>,
    count: u64,
}

impl<T> Agenda<T> {
    /// Nothing is to be done.
    pub fn new() -> Self {
        Self { tasks: BTreeMap::new(), count: 0 }
    }

    /// To be done then; behind what was planned for that moment before.
    pub fn plan(&mut self, at: Duration, task: T) {
        self.count += 1;
        self.tasks.insert((at, self.count), task);
    }

    /// Forgets what is not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.tasks.retain(|_, task| keep(task));
    }

    /// When the next is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.tasks.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next that is due, and when it was.
    pub fn due(&mut self, now: Duration) -> Option<(Duration, T)> {
        let next = self.tasks.first_entry().filter(|next| next.key().0 <= now)?;
        let ((at, _), task) = next.remove_entry();
        Some((at, task))
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn channels_know_who_listens() {
        let mut channels = Channels::new();
        assert!(channels.subscribe(2, "a") && channels.subscribe(1, "a") && channels.subscribe(1, "b"));
        assert!(!channels.subscribe(1, "b"));
        assert_eq!((channels.listeners("a"), channels.count(1)), (vec![1, 2], 2));
        assert_eq!(channels.of(1).collect::<Vec<_>>(), ["a", "b"]);
        assert!(
            channels.unsubscribe(1, "a") && !channels.unsubscribe(1, "a") && !channels.unsubscribe(3, "a")
        );
        channels.leave(2);
        assert!(channels.listeners("a").is_empty() && channels.has(1, "b") && !channels.has(2, "a"));
    }

    #[test]
    fn numbers_go_on() {
        let mut ticker = Ticker::new(ms(160));
        assert_eq!(ticker.deadline(), None);
        ticker.open("b", ms(0));
        ticker.open("a", ms(0));
        ticker.open("b", ms(100));
        assert_eq!(ticker.deadline(), Some(ms(160)));
        let all: Vec<_> =
            ticker.ticks(ms(330)).into_iter().map(|tick| (tick.topic, tick.number, tick.at)).collect();
        let want = [("b", 1, 160), ("a", 1, 170), ("b", 2, 320), ("a", 2, 330)];
        assert_eq!(all, want.map(|(topic, number, at)| (topic.to_owned(), number, ms(at))));
        ticker.skip("a");
        assert_eq!((ticker.number("a"), ticker.number("b"), ticker.number("c")), (3, 2, 0));
        assert_eq!(ticker.ticks(ms(500)).last().unwrap().number, 4);
        assert_eq!(
            ticker.ticks(Duration::from_secs(1_000_000)).len(),
            2002,
            "a long sleep is not made up for"
        );
    }

    #[test]
    fn an_agenda_keeps_the_order() {
        let mut agenda = Agenda::new();
        agenda.plan(ms(2), 'c');
        agenda.plan(ms(1), 'a');
        agenda.plan(ms(1), 'b');
        agenda.plan(ms(9), 'x');
        agenda.retain(|task| *task != 'x');
        assert_eq!((agenda.deadline(), agenda.due(ms(0))), (Some(ms(1)), None));
        let all: Vec<_> = std::iter::from_fn(|| agenda.due(ms(5))).collect();
        assert_eq!((all, agenda.deadline()), (vec![(ms(1), 'a'), (ms(1), 'b'), (ms(2), 'c')], None));
    }
}
