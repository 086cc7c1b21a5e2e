//! Topics that are made anew: those alone that were told so, not before their end is answered, and not too often.

use super::{Common, Did, Fact, Saw, Told, Verdict};
use everwire_core::{GapCause, Step};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A topic that is made anew again within this time waits: first so long, then twice as long each time, up to this.
const CALM: Duration = Duration::from_secs(60);
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A session makes no more than so many topics anew in such a span.
const STORM: (usize, Duration) = (16, Duration::from_secs(10));
/// What waits behind a long message arrives that much later than what does not.
const QUEUED: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Resyncs {
    /// By their names; what the user ever held stays.
    topics: BTreeMap<String, Topic>,
    names: BTreeMap<u64, String>,
    /// The newest connection.
    conn: u64,
    /// When the last topics were ended to be made anew.
    recent: VecDeque<Duration>,
}

#[derive(Debug, Default)]
struct Topic {
    references: u32,
    /// How often the end of it may be the user's wish.
    given_up: u32,
    /// The user was told of a hole or of silence, and it was not ended since.
    told: bool,
    /// It was ended by this request, then, and that is not answered.
    ending: Option<(u64, Duration)>,
    spacing: Spacing,
}

/// Resyncs of a topic that followed on each other.
#[derive(Debug, Default)]
struct Spacing {
    /// When the first and the last of them came.
    first: Option<Duration>,
    last: Duration,
    /// The least time that there must be between them, and what the next adds to that.
    least: Duration,
    next: Duration,
}

impl Resyncs {
    pub(super) fn see(&mut self, fact: &Fact, common: &Common) -> Verdict {
        match fact {
            Fact::Did(Did::Subscribe { id, topic }) => {
                self.names.insert(*id, topic.clone());
                let held = self.topics.entry(topic.clone()).or_default();
                if held.references == 0 {
                    held.spacing = Spacing::default();
                }
                held.references += 1;
            }
            Fact::Did(Did::Unsubscribe { id, found: true }) => {
                if let Some(held) = self.names.get(id).and_then(|name| self.topics.get_mut(name)) {
                    held.references = held.references.saturating_sub(1);
                    if held.references == 0 {
                        // It may be being made anew at the same time.
                        held.given_up += 1 + u32::from(held.told);
                    }
                }
            }
            Fact::Told(Told::Gap { topics, cause, .. }) => {
                if matches!(cause, GapCause::Sequence { .. } | GapCause::Corrupt { .. }) {
                    for (_, name) in topics {
                        self.topics.entry(name.clone()).or_default().told = true;
                    }
                }
            }
            Fact::Told(Told::Stale { id, step: Step::Resubscribe }) => {
                let name = id.and_then(|id| self.names.get(&id));
                for (topic, held) in &mut self.topics {
                    held.told |= id.is_none() || name == Some(topic);
                }
            }
            Fact::Venue(conn, Saw::Upgraded) => {
                self.conn = *conn;
                let begins = |held: &mut Topic| (held.given_up, held.told, held.ending) = (0, false, None);
                self.topics.values_mut().for_each(begins);
            }
            Fact::Venue(conn, saw) if *conn == self.conn => return self.venue(saw, common),
            _ => {}
        }
        Ok(())
    }

    fn venue(&mut self, saw: &Saw, common: &Common) -> Verdict {
        match saw {
            Saw::Dropped { topic, by: Some(request) } => self.ended(topic, *request, common),
            Saw::Answered { id, .. } => {
                let answered = |held: &mut Topic| _ = held.ending.take_if(|(request, _)| request == id);
                self.topics.values_mut().for_each(answered);
                Ok(())
            }
            Saw::Asked { topics } => topics.iter().try_for_each(|name| self.asked(name, common)),
            _ => Ok(()),
        }
    }

    /// The client ended a topic.
    fn ended(&mut self, name: &str, request: u64, common: &Common) -> Verdict {
        let Some(held) = self.topics.get_mut(name) else { return Ok(()) };
        if held.given_up > 0 {
            held.given_up -= 1;
            return Ok(());
        }
        let told = std::mem::take(&mut held.told);
        if !told && common.awake_from(common.now.saturating_sub(common.terms.slack)) {
            return Err(format!("{name} is made anew, and nothing was wrong with it"));
        }
        held.ending = Some((request, common.now));
        // What a limit or a network held back may come together.
        if common.terms.reliable.is_none() || common.terms.limited.is_some() {
            return Ok(());
        }
        held.spacing.add(common.now).map_err(|why| format!("{name} is made anew too often: {why}"))?;
        self.recent.push_back(common.now);
        if self.recent.len() > STORM.0 {
            let span = self.recent.pop_front().map_or(STORM.1, |first| common.now.saturating_sub(first));
            if span + QUEUED < STORM.1 {
                return Err(format!("{} topics are made anew within {span:?}", STORM.0 + 1));
            }
        }
        Ok(())
    }

    fn asked(&mut self, name: &str, common: &Common) -> Verdict {
        let Some(held) = self.topics.get_mut(name) else { return Ok(()) };
        let Some((_, since)) = held.ending.take() else { return Ok(()) };
        let waited = common.now.saturating_sub(since);
        let hasty = waited + QUEUED < common.terms.request_timeout;
        if hasty && common.terms.reliable.is_some() {
            return Err(format!("{name} is asked for anew after {waited:?}, but its end was not answered"));
        }
        Ok(())
    }
}

impl Spacing {
    fn add(&mut self, now: Duration) -> Verdict {
        let first = *self.first.get_or_insert(now);
        if first == now || now.saturating_sub(self.last) + QUEUED >= CALM {
            *self = Self { first: Some(now), last: now, least: Duration::ZERO, next: FIRST };
            return Ok(());
        }
        self.last = now;
        self.least += self.next;
        self.next = (self.next * 2).min(LONGEST);
        let span = now.saturating_sub(first);
        if span + QUEUED < self.least {
            return Err(format!("what is to take {:?} took {span:?}", self.least));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Terms;
    use super::super::tests::{broken, broken_with, fine, fine_with, told, venue};
    use super::*;

    fn watched() -> Terms {
        Terms { watch: Some(Step::Resubscribe), ..Terms::default() }
    }

    fn reliable() -> Terms {
        Terms { reliable: Some(Duration::ZERO), ..watched() }
    }

    fn begun() -> Vec<Fact> {
        let subscribe = |id, topic: &str| Fact::Did(Did::Subscribe { id, topic: topic.to_owned() });
        vec![venue(1, Saw::Upgraded), subscribe(1, "a"), subscribe(2, "b")]
    }

    fn silent() -> Fact {
        told(Told::Stale { id: Some(1), step: Step::Resubscribe })
    }

    fn ended(topic: &str, by: u64) -> Fact {
        venue(1, Saw::Dropped { topic: topic.to_owned(), by: Some(by) })
    }

    fn answered(id: u64) -> Fact {
        venue(1, Saw::Answered { id, text: String::new() })
    }

    fn asked() -> Fact {
        venue(1, Saw::Asked { topics: vec!["a".to_owned()] })
    }

    fn with(more: impl IntoIterator<Item = Fact>) -> Vec<Fact> {
        begun().into_iter().chain(more).collect()
    }

    #[test]
    fn only_what_was_told() {
        fine_with(watched(), with([silent(), ended("a", 1)]));
        broken("nothing was wrong with it", with([ended("a", 1)]));
        broken_with(watched(), "nothing was wrong with it", with([silent(), ended("b", 1)]));
        broken_with(watched(), "nothing was wrong with it", with([silent(), ended("a", 1), ended("a", 2)]));
        fine(with([Fact::Did(Did::Unsubscribe { id: 1, found: true }), ended("a", 1)]));
    }

    #[test]
    fn its_end_is_awaited() {
        fine_with(reliable(), with([silent(), ended("a", 1), answered(1), asked()]));
        broken_with(reliable(), "was not answered", with([silent(), ended("a", 1), asked()]));
        broken_with(reliable(), "was not answered", with([silent(), ended("a", 1), answered(2), asked()]));
        let late = (0..28).map(|_| answered(2));
        fine_with(reliable(), with([silent(), ended("a", 1)].into_iter().chain(late).chain([asked()])));
    }

    #[test]
    fn not_too_often() {
        // Each two seconds: the waits in between are to be 1, 2, 4 and 8 seconds.
        let often = |times| with((0..times).flat_map(|n| [silent(), ended("a", n)]));
        fine_with(reliable(), often(4));
        broken_with(reliable(), "too often", often(5));
        fine_with(watched(), often(5));
    }

    #[test]
    fn waits_grow_up_to_a_minute_and_start_over() {
        let mut spacing = Spacing::default();
        let mut now = Duration::from_secs(1);
        for wait in [0, 1, 2, 4, 8, 16, 32, 60, 1, 2] {
            now += Duration::from_secs(wait);
            assert_eq!(spacing.add(now), Ok(()), "{wait}");
        }
        let soon = now + Duration::from_millis(10);
        assert_eq!(spacing.add(soon), Err("what is to take 7s took 3.01s".to_owned()));
    }

    #[test]
    fn a_storm() {
        let subscribe = |n: u64| Fact::Did(Did::Subscribe { id: n + 10, topic: format!("s{n}") });
        let all = told(Told::Stale { id: None, step: Step::Resubscribe });
        // The first of the facts in `storm` is at zero, and each is 400 ms after the one before.
        let storm = |count: u64| {
            let mut resyncs = Resyncs::default();
            let mut common = super::super::Model::new(reliable()).common;
            let facts = (0..count).map(subscribe).chain([all.clone()]);
            let facts = facts.chain((0..count).map(|n| ended(&format!("s{n}"), n)));
            facts.into_iter().try_for_each(|fact| {
                common.now += Duration::from_millis(400);
                if let Fact::Venue(conn, _) = &fact {
                    resyncs.conn = *conn;
                }
                resyncs.see(&fact, &common)
            })
        };
        assert_eq!(storm(16), Ok(()));
        assert_eq!(storm(17), Err("17 topics are made anew within 6.4s".to_owned()));
    }
}
