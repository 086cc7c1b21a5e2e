//! What there is to subscribe to: each topic's messages are numbered, whether anybody listens or not.

use std::collections::BTreeMap;
use std::time::Duration;

/// All topics that anybody ever asked for.
#[derive(Debug, Default)]
pub(super) struct Market {
    feeds: BTreeMap<String, Feed>,
}

#[derive(Debug)]
struct Feed {
    period: Duration,
    /// The newest message's number.
    number: u64,
    /// When the next message comes.
    next: Duration,
}

impl Market {
    /// Sets how often a topic has a message. Without that it is the venue's usual period.
    pub(super) fn set(&mut self, topic: &str, period: Duration) {
        let period = period.max(Duration::from_millis(1));
        self.feeds.insert(topic.to_owned(), Feed { period, number: 0, next: period });
    }

    /// Makes sure that a topic is there, and says which message was its newest.
    pub(super) fn newest(&mut self, topic: &str, usual: Duration, now: Duration) -> u64 {
        if !self.feeds.contains_key(topic) {
            self.set(topic, usual);
        }
        self.feeds.get_mut(topic).map_or(0, |feed| feed.catch_up(now))
    }

    /// When a topic's next message comes.
    pub(super) fn next(&self, topic: &str) -> Option<Duration> {
        self.feeds.get(topic).map(|feed| feed.next)
    }

    /// Nothing happens in this topic before then.
    pub(super) fn silence(&mut self, topic: &str, until: Duration) {
        if let Some(feed) = self.feeds.get_mut(topic) {
            feed.next = feed.next.max(until);
        }
    }
}

impl Feed {
    fn catch_up(&mut self, now: Duration) -> u64 {
        if let Some(late) = now.checked_sub(self.next) {
            let missed = late.as_nanos() / self.period.as_nanos() + 1;
            let missed = u32::try_from(missed).unwrap_or(u32::MAX);
            self.number += u64::from(missed);
            self.next = self.next.saturating_add(self.period.saturating_mul(missed));
        }
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn numbers_go_on_without_listeners() {
        let mut market = Market::default();
        assert_eq!(market.newest("a", SECOND, Duration::ZERO), 0);
        assert_eq!(market.next("a"), Some(SECOND));
        assert_eq!(market.newest("a", SECOND, SECOND), 1);
        assert_eq!(market.newest("a", SECOND, SECOND * 7 + SECOND / 2), 7);
        assert_eq!(market.next("a"), Some(SECOND * 8));
        market.silence("a", SECOND * 20);
        assert_eq!(market.newest("a", SECOND, SECOND * 19), 7);
        assert_eq!(market.newest("a", SECOND, SECOND * 20), 8);
    }
}
