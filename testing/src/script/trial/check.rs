//! What the user of a trial must be told.

use super::{Read, Total};
use everwire_core::GapCause;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Check {
    /// Data are to be told after this, of all that is wanted, and of nothing else.
    fresh: Duration,
    /// The numbers that are read are those that the protocol watches.
    own_numbers: bool,
    held: BTreeMap<u64, Held>,
    /// Names of what was given up, and when something was last told of it.
    left: BTreeMap<String, Duration>,
    /// What was given up since a message was last told: one may be announced already.
    late: BTreeSet<u64>,
    /// Requests without an answer, and those that must have one.
    open: BTreeSet<u64>,
    must: BTreeSet<u64>,
    pub(super) closing: bool,
    ended: bool,
    pub(super) total: Total,
    pub(super) wrong: Option<String>,
}

#[derive(Debug, Default)]
struct Held {
    topic: String,
    /// Epoch and number that were told last, and when.
    reached: Option<(u64, u64)>,
    last: Duration,
    /// A gap was told since.
    gap: Gaps,
    force: Force,
    /// It is to be made anew, as its numbers had a gap, and was not told yet what was missed meanwhile.
    owes: bool,
}

/// Whether a topic's numbers mean something.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Force {
    /// It never was in force: data are left over from an earlier subscription.
    #[default]
    Never,
    /// It is not in force now, or is made anew: nobody watches the numbers.
    No,
    /// It is in force. Its first message may have any number.
    Begins,
    Yes,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Gaps {
    #[default]
    None,
    /// Only this one, by the numbers: the number that should have come next did not.
    Numbers {
        expected: u64,
    },
    Some,
}

impl Check {
    pub(super) fn new(fresh: Duration, own_numbers: bool) -> Self {
        Self {
            fresh,
            own_numbers,
            held: BTreeMap::new(),
            left: BTreeMap::new(),
            late: BTreeSet::new(),
            open: BTreeSet::new(),
            must: BTreeSet::new(),
            closing: false,
            ended: false,
            total: Total::default(),
            wrong: None,
        }
    }

    /// Notes what went wrong, if it is the first.
    pub(super) fn fail(&mut self, wrong: String) {
        self.wrong.get_or_insert(wrong);
    }

    // ---- What the user does.

    pub(super) fn subscribed(&mut self, id: u64, topic: &str) {
        self.left.remove(topic);
        let held = Held { topic: topic.to_owned(), ..Held::default() };
        if self.held.insert(id, held).is_some() {
            self.fail(format!("subscription {id} was there before {topic} was subscribed to"));
        }
    }

    pub(super) fn unsubscribed(&mut self, id: u64, found: bool) {
        if !found {
            self.fail(format!("subscription {id} was not there to be ended"));
        }
        if let Some(held) = self.held.remove(&id) {
            self.left.insert(held.topic, Duration::ZERO);
            self.late.insert(id);
        }
    }

    pub(super) fn asked(&mut self, id: u64, must: bool) {
        self.total.requests.0 += 1;
        if !self.open.insert(id) {
            self.fail(format!("request {id} is made while another of that number is open"));
        }
        if must {
            self.must.insert(id);
        }
    }

    // ---- What he is told.

    pub(super) fn message(&mut self, read: Read, epoch: u64, subscription: Option<u64>, now: Duration) {
        self.total.messages += 1;
        let late = std::mem::take(&mut self.late);
        let Some(id) = subscription else {
            if let Some(last) = self.left.get_mut(&read.topic) {
                *last = now;
            }
            return;
        };
        let Some(held) = self.held.get_mut(&id) else {
            if late.contains(&id) {
                return;
            }
            return self.fail(format!("data of subscription {id}, which was given up: {read:?}"));
        };
        if let Err(wrong) = held.message(&read, epoch, now) {
            self.fail(wrong);
        }
    }

    pub(super) fn confirmed(&mut self, id: u64) {
        self.total.confirmed += 1;
        let Some(held) = self.held.get_mut(&id) else { return };
        held.force = Force::Begins;
        if std::mem::take(&mut held.owes) {
            let wrong = format!("made anew, and what was missed meanwhile was not told: {held:?}");
            self.fail(wrong);
        }
    }

    /// A subscription is not in force any more, or is to be made anew; `None` is all.
    pub(super) fn ceased(&mut self, id: Option<u64>) {
        for (of, held) in &mut self.held {
            if id.is_none_or(|id| id == *of) && held.force != Force::Never {
                held.force = Force::No;
            }
        }
    }

    /// The connection is lost.
    pub(super) fn lost(&mut self) {
        self.ceased(None);
        self.held.values_mut().for_each(|held| held.owes = false);
    }

    pub(super) fn gap(&mut self, topics: &[u64], before: u64, after: u64, cause: &GapCause) {
        self.total.gaps += topics.len() as u64;
        let reconnected = *cause == GapCause::Reconnect;
        if (before == after) == reconnected || before > after {
            self.fail(format!("a gap from epoch {before} to {after} because of {cause:?}"));
        }
        let alone = topics.len() == 1 && self.own_numbers;
        for id in topics {
            // One that was given up while the gap waited to be taken is not there any more.
            let Some(held) = self.held.get_mut(id) else { continue };
            if let Err(wrong) = held.gap(after, cause, alone) {
                self.fail(wrong);
            }
        }
    }

    pub(super) fn settled(&mut self, id: u64, answered: bool) {
        if !self.open.remove(&id) {
            self.fail(format!("request {id} was settled, and is not open"));
        }
        self.total.requests.1 += u64::from(answered);
        if self.must.remove(&id) && !answered {
            self.fail(format!("request {id}, which was made in the calm, was not answered"));
        }
    }

    pub(super) fn ended(&mut self, error: Option<String>) {
        match error {
            _ if std::mem::replace(&mut self.ended, true) => self.fail("told closed twice".to_owned()),
            Some(error) => self.fail(format!("the session ended by itself: {error}")),
            None if !self.closing => self.fail("the session ended by itself, without an error".to_owned()),
            None => {}
        }
    }

    // ---- The end.

    /// At the end of the calm.
    pub(super) fn calm(&self) -> Result<(), String> {
        if let Some(held) = self.held.values().find(|held| held.last < self.fresh) {
            return Err(format!("no data of a topic in the calm: {held:?}"));
        }
        if let Some((topic, last)) = self.left.iter().find(|(_, last)| **last >= self.fresh) {
            return Err(format!("{topic} was given up, and data of it came at {last:?}"));
        }
        if let Some(id) = self.must.first() {
            return Err(format!("request {id}, which was made in the calm, has no answer"));
        }
        Ok(())
    }

    /// After the close.
    pub(super) fn closed(&self) -> Result<(), String> {
        if !self.ended {
            return Err("the end was not told".to_owned());
        }
        self.open.first().map_or(Ok(()), |id| Err(format!("request {id} was never settled")))
    }
}

impl Held {
    fn message(&mut self, read: &Read, epoch: u64, now: Duration) -> Result<(), String> {
        if read.topic != self.topic {
            return Err(format!("{read:?} was told as of {self:?}"));
        }
        self.last = now;
        let force = self.force;
        match force {
            Force::Never => return Ok(()),
            Force::Begins => self.force = Force::Yes,
            Force::No | Force::Yes => {}
        }
        let (first, last) = read.numbers;
        let before = self.reached.replace((epoch, last));
        let gap = std::mem::take(&mut self.gap);
        let Some((reached, number)) = before else { return Ok(()) };
        let what = |wrong: &str| {
            let topic = &self.topic;
            format!(
                "{wrong}: {topic} went from number {number} (epoch {reached}) to {first}..={last} (epoch {epoch}), {gap:?}"
            )
        };
        if last < number || (last == number && !read.snapshot) {
            return Err(what("told twice, or out of order"));
        }
        let follows = first <= number.saturating_add(1);
        if reached != epoch && gap == Gaps::None {
            return Err(what("another connection, and no gap"));
        }
        if !follows && gap == Gaps::None && force == Force::Yes {
            return Err(what("a silent gap"));
        }
        if gap == (Gaps::Numbers { expected: number.saturating_add(1) }) && follows && !read.snapshot {
            return Err(what("a gap where nothing is missing"));
        }
        Ok(())
    }

    fn gap(&mut self, epoch: u64, cause: &GapCause, alone: bool) -> Result<(), String> {
        let known = self.reached.filter(|(reached, _)| *reached == epoch);
        let by_numbers = matches!(cause, GapCause::Sequence { .. } | GapCause::Corrupt { .. });
        if by_numbers && self.force != Force::Never {
            self.force = Force::No;
        }
        self.owes = by_numbers;
        self.gap = match (cause, &self.gap) {
            (GapCause::Sequence { expected, got }, _) if expected == got => {
                return Err(format!("a gap of nothing, {cause:?}: {self:?}"));
            }
            // Numbers of all of a connection may miss nothing of this topic.
            (GapCause::Sequence { expected, .. }, Gaps::None) if alone && known.is_some() => {
                Gaps::Numbers { expected: *expected }
            }
            _ => Gaps::Some,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: GapCause = GapCause::Sequence { expected: 4, got: 6 };

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Subscription 1 of topic `a`, which has told number 3 in epoch 1.
    fn check() -> Check {
        let mut check = Check::new(at(100), true);
        check.subscribed(1, "a");
        // Left over from before.
        check.message(Read::new("a", 9), 1, Some(1), at(1));
        check.confirmed(1);
        check.message(Read::new("a", 3), 1, Some(1), at(1));
        check
    }

    fn wrong(what: &str, with: impl FnOnce(&mut Check)) {
        let mut check = check();
        with(&mut check);
        let wrong = check.wrong.as_deref().unwrap_or("nothing");
        assert!(wrong.contains(what), "{wrong}");
    }

    fn fine(with: impl FnOnce(&mut Check)) {
        let mut check = check();
        with(&mut check);
        assert_eq!(check.wrong, None);
    }

    #[test]
    fn numbers_follow_on_each_other() {
        let tell = |number, epoch| {
            move |check: &mut Check| check.message(Read::new("a", number), epoch, Some(1), at(2))
        };
        fine(tell(4, 1));
        wrong("silent gap", tell(5, 1));
        wrong("told twice", tell(3, 1));
        wrong("out of order", tell(2, 1));
        wrong("another connection, and no gap", tell(4, 2));
        let range = |first, last| {
            move |check: &mut Check| check.message(Read::range("a", first, last), 1, Some(1), at(2))
        };
        fine(range(2, 7));
        wrong("silent gap", range(5, 7));
        wrong("told twice", range(1, 3));
        let snapshot = |number| {
            move |check: &mut Check| check.message(Read::new("a", number).snapshot(), 1, Some(1), at(2))
        };
        fine(snapshot(3));
        fine(snapshot(4));
        wrong("silent gap", snapshot(5));
        wrong("out of order", snapshot(2));
    }

    #[test]
    fn a_gap_is_told_for_a_reason() {
        let with = |cause: GapCause, after, number| {
            move |check: &mut Check| {
                check.gap(&[1], 1, after, &cause);
                check.message(Read::new("a", number), after, Some(1), at(2));
            }
        };
        fine(with(GapCause::Reconnect, 2, 4));
        fine(with(GapCause::Reconnect, 2, 9));
        wrong("out of order", with(GapCause::Reconnect, 2, 3));
        wrong("a gap from epoch 1 to 1", with(GapCause::Reconnect, 1, 9));
        wrong("a gap from epoch 1 to 2", with(NUMBERS, 2, 6));
        fine(with(NUMBERS, 1, 6));
        wrong("where nothing is missing", with(NUMBERS, 1, 4));
        wrong("a gap of nothing", with(GapCause::Sequence { expected: 4, got: 4 }, 1, 6));
        // It holds once, and then what is missed until the topic is made anew is owed.
        fine(|check| {
            with(NUMBERS, 1, 6)(check);
            check.message(Read::new("a", 8), 1, Some(1), at(3));
            check.gap(&[1], 1, 1, &GapCause::Resync);
            check.confirmed(1);
            check.message(Read::new("a", 12), 1, Some(1), at(3));
        });
        wrong("what was missed meanwhile was not told", |check| {
            with(NUMBERS, 1, 6)(check);
            check.confirmed(1);
        });
        wrong("silent gap", |check| {
            check.gap(&[1], 1, 1, &GapCause::Silence);
            check.confirmed(1);
            check.message(Read::new("a", 6), 1, Some(1), at(3));
            check.message(Read::new("a", 9), 1, Some(1), at(3));
        });
        // And for the topics that it names.
        wrong("silent gap", |check| {
            check.gap(&[2], 1, 1, &NUMBERS);
            check.message(Read::new("a", 6), 1, Some(1), at(3));
        });
        fine(|check| {
            check.own_numbers = false;
            with(NUMBERS, 1, 4)(check);
        });
        fine(|check| {
            check.gap(&[1, 2], 1, 1, &NUMBERS);
            check.message(Read::new("a", 4), 1, Some(1), at(3));
        });
    }

    #[test]
    fn what_is_not_in_force_is_not_watched() {
        let later = |check: &mut Check| check.message(Read::new("a", 9), 1, Some(1), at(2));
        fine(|check| {
            check.ceased(Some(1));
            later(check);
        });
        wrong("silent gap", |check| {
            check.ceased(Some(2));
            later(check);
        });
        fine(|check| {
            check.ceased(None);
            check.confirmed(1);
            later(check);
        });
        wrong("another connection, and no gap", |check| {
            check.lost();
            check.confirmed(1);
            check.message(Read::new("a", 4), 2, Some(1), at(2));
        });
        fine(|check| {
            check.gap(&[1], 1, 1, &NUMBERS);
            check.lost();
            check.gap(&[1], 1, 2, &GapCause::Reconnect);
            check.confirmed(1);
            check.message(Read::new("a", 9), 2, Some(1), at(2));
        });
    }

    #[test]
    fn data_belong_to_what_is_held() {
        wrong("was told as of", |check| check.message(Read::new("b", 1), 1, Some(1), at(2)));
        let given_up = |messages: u64| {
            move |check: &mut Check| {
                check.unsubscribed(1, true);
                (4..4 + messages).for_each(|number| check.message(Read::new("a", number), 1, Some(1), at(2)));
            }
        };
        fine(given_up(1));
        wrong("given up", given_up(2));
        wrong("not there to be ended", |check| check.unsubscribed(1, false));
        wrong("was there before", |check| check.subscribed(1, "b"));

        assert!(check().calm().unwrap_err().contains("no data"));
        let mut check = check();
        check.message(Read::new("a", 4), 1, Some(1), at(100));
        assert_eq!(check.calm(), Ok(()));
        check.unsubscribed(1, true);
        assert_eq!(check.calm(), Ok(()));
        check.message(Read::new("a", 5), 1, None, at(101));
        assert!(check.calm().unwrap_err().contains("a was given up"));
    }

    #[test]
    fn each_request_is_settled_once() {
        wrong("is not open", |check| check.settled(7, true));
        wrong("is not open", |check| {
            check.asked(7, false);
            check.settled(7, false);
            check.settled(7, false);
        });
        wrong("not answered", |check| {
            check.asked(7, true);
            check.settled(7, false);
        });
        wrong("another of that number", |check| (0..2).for_each(|_| check.asked(7, false)));
        let mut check = Check::new(at(1), true);
        check.closing = true;
        check.asked(7, true);
        assert!(check.calm().unwrap_err().contains("request 7"));
        assert!(check.closed().unwrap_err().contains("the end was not told"));
        check.ended(None);
        assert!(check.closed().unwrap_err().contains("never settled"));
        check.settled(7, true);
        assert_eq!((check.calm(), check.closed(), check.total.requests), (Ok(()), Ok(()), (1, 1)));
    }

    #[test]
    fn an_end_that_nobody_asked_for() {
        wrong("ended by itself, without", |check| check.ended(None));
        wrong("ended by itself: no", |check| check.ended(Some("no".to_owned())));
        wrong("closed twice", |check| {
            check.closing = true;
            (0..2).for_each(|_| check.ended(None));
        });
    }
}
