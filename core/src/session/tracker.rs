//! The built-in trackers of sequence numbers.
//!
//! ```text
//!           first message, snapshot               follows
//! (nothing) -----------------------> at number n --------> at its last number: Continues
//!                                       |
//!                                       +-- old (up to n) --> stays: Duplicate
//!                                       +-- beyond n + 1 ---> at its last number: Gap
//!                                       +-- makes no sense -> Corrupt
//! ```
//!
//! A gap is told once: the tracker goes on from the message that came, so that what follows on that is not another gap.

use super::sequence::{Continuity, Sequence, Tracker};
use std::fmt;

/// The built-in trackers.
#[derive(Debug, Clone)]
pub struct Sequences {
    kind: Numbering,
    /// The number of the newest message; `None` before the first.
    last: Option<u64>,
    /// Old messages since the last new one.
    repeats: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    PlusOne,
    PreviousId,
    Range,
}

/// So many old messages in a row are no repetition: the server has begun to count anew. Swallowing them for as long as it takes the
/// numbers to catch up would be silence without end.
const MAX_REPEATS: u32 = 1024;

impl Sequences {
    /// Each message has the number after that of the one before it; `u64::MAX` is followed by 0. A message that stands for several
    /// numbers must begin with that number; one that begins before it and ends after it is corrupt.
    pub fn plus_one() -> Self {
        Self::new(Numbering::PlusOne)
    }

    /// Each message names the number of the one before it ([`Sequence::previous`]), such as Deribit's `prev_change_id` or OKX's `prevSeqId`. The
    /// numbers themselves may jump, stay or go back, as long as the chain holds. A message that names no previous one begins
    /// the chain, as a snapshot does: that is what the first notification of a Deribit book and a `prevSeqId` of -1 mean.
    /// [`Sequence::first`] does not matter.
    pub fn previous_id() -> Self {
        Self::new(Numbering::PreviousId)
    }

    /// Each message stands for the numbers from `first` to `last`. It must bring something new (`last` beyond what was seen) and leave
    /// nothing out (`first` at most one beyond); it may overlap with what was seen, as the first update of Binance's depth stream
    /// after a snapshot does.
    pub fn range() -> Self {
        Self::new(Numbering::Range)
    }

    /// Asks a closure about each message: for checksums, and for numbering of another kind. It may keep a built-in tracker and ask
    /// that first.
    ///
    /// ```
    /// use everwire_core::{Continuity, Sequence, SequenceRule, Sequences, Tracker};
    ///
    /// let rule = SequenceRule::custom(|| {
    ///     let mut numbers = Sequences::plus_one();
    ///     Sequences::hook(move |sequence, text| match numbers.check(sequence, text) {
    ///         Continuity::Continues if text.contains("crossed") => {
    ///             Continuity::Corrupt { reason: "the book is crossed".to_owned() }
    ///         }
    ///         other => other,
    ///     })
    /// });
    /// let mut tracker = rule.tracker();
    /// assert_eq!(tracker.check(Some(Sequence::new(1)), "{}"), Continuity::Continues);
    /// assert_eq!(tracker.check(Some(Sequence::new(3)), "{}"), Continuity::Gap { expected: 2, got: 3 });
    /// assert!(matches!(tracker.check(Some(Sequence::new(4)), "crossed"), Continuity::Corrupt { .. }));
    /// ```
    pub fn hook<F>(check: F) -> Box<dyn Tracker>
    where
        F: FnMut(Option<Sequence>, &str) -> Continuity + Send + Sync + 'static,
    {
        Box::new(Hook(check))
    }

    fn new(kind: Numbering) -> Self {
        Self { kind, last: None, repeats: 0 }
    }

    fn judge(&mut self, message: Sequence) -> Continuity {
        let Sequence { first, last, previous, snapshot } = message;
        let chained = self.kind == Numbering::PreviousId;
        if first > last && !snapshot && !chained {
            return Continuity::Corrupt {
                reason: format!("it stands for the numbers from {first} to {last}"),
            };
        }
        let seen = match self.last {
            Some(seen) if !(snapshot || chained && previous.is_none()) => seen,
            _ => return self.go_on(last, Continuity::Continues),
        };
        let next = seen.wrapping_add(1);
        let follows = match self.kind {
            Numbering::PreviousId => previous == Some(seen),
            Numbering::PlusOne => first == next && last != seen,
            Numbering::Range => first == next && last != seen || first <= seen && last > seen,
        };
        if follows {
            return self.go_on(last, Continuity::Continues);
        }
        // That what it follows on is not here yet is no repetition, even where numbers go back.
        if last <= seen && !(chained && previous > Some(seen)) {
            return self.old(last, seen);
        }
        let found = match previous {
            Some(got) if chained => Continuity::Gap { expected: seen, got },
            _ if first > seen => Continuity::Gap { expected: next, got: first },
            _ => Continuity::Corrupt {
                reason: format!(
                    "it stands for the numbers from {first} to {last}, of which {seen} was there"
                ),
            },
        };
        self.go_on(last, found)
    }

    fn go_on(&mut self, last: u64, found: Continuity) -> Continuity {
        (self.last, self.repeats) = (Some(last), 0);
        found
    }

    fn old(&mut self, number: u64, seen: u64) -> Continuity {
        self.repeats += 1;
        if self.repeats < MAX_REPEATS {
            return Continuity::Duplicate;
        }
        let reason = format!(
            "{MAX_REPEATS} messages in a row have old numbers, up to {number} after {seen}: the server counts anew"
        );
        self.go_on(number, Continuity::Corrupt { reason })
    }
}

impl Tracker for Sequences {
    fn check(&mut self, sequence: Option<Sequence>, _text: &str) -> Continuity {
        sequence.map_or(Continuity::Continues, |message| self.judge(message))
    }
}

struct Hook<F>(F);

impl<F> Tracker for Hook<F>
where
    F: FnMut(Option<Sequence>, &str) -> Continuity + Send + Sync,
{
    fn check(&mut self, sequence: Option<Sequence>, text: &str) -> Continuity {
        (self.0)(sequence, text)
    }
}

impl<F> fmt::Debug for Hook<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequence::SequenceRule;
    use super::Continuity::{Continues, Duplicate};
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn gap(expected: u64, got: u64) -> Continuity {
        Continuity::Gap { expected, got }
    }

    fn is_corrupt(found: &Continuity) -> bool {
        matches!(found, Continuity::Corrupt { .. })
    }

    /// Checks each message against what is expected of it.
    fn run(tracker: &mut dyn Tracker, messages: &[(Sequence, Continuity)]) {
        for (at, (message, expected)) in messages.iter().enumerate() {
            assert_eq!(tracker.check(Some(*message), ""), *expected, "message {at}: {message:?}");
        }
    }

    #[test]
    fn plus_one_counts_tells_a_gap_once_and_restarts_at_snapshots() {
        let n = Sequence::new;
        let mut tracker = SequenceRule::PlusOne.tracker();
        run(
            &mut *tracker,
            &[
                (n(7), Continues),
                (n(8), Continues),
                (n(8), Duplicate),
                (n(3), Duplicate),
                (n(11), gap(9, 11)),
                (n(12), Continues),
                (n(10), Duplicate),
                (Sequence::range(13, 15), Continues),
                (n(16), Continues),
                (n(2).snapshot(), Continues),
                (n(3), Continues),
                (n(16), gap(4, 16)),
            ],
        );
        assert_eq!(tracker.check(None, "no number"), Continues);
        run(&mut *tracker, &[(n(17), Continues)]);
        assert!(is_corrupt(&tracker.check(Some(Sequence::range(15, 19)), "")), "half of it was there");
        assert!(is_corrupt(&tracker.check(Some(Sequence::range(30, 29)), "")), "backwards");
        run(&mut *tracker, &[(n(20), Continues)]);
    }

    #[test]
    fn a_chain_may_jump_stay_and_go_back_as_long_as_it_holds() {
        let link = |previous, number| Sequence::new(number).previous(previous);
        let mut tracker = Sequences::previous_id();
        run(
            &mut tracker,
            &[
                (Sequence::new(10).snapshot(), Continues),
                (link(10, 15), Continues),
                (link(15, 15), Continues), // OKX: nothing changed for a while.
                (link(10, 15), Duplicate),
                (link(15, 3), Continues), // OKX: numbers begin anew after maintenance.
                (link(3, 5), Continues),
                (link(6, 9), gap(5, 6)),
                (link(9, 10), Continues),
                (Sequence::new(4), Continues), // Names none: the chain begins.
                (link(4, 6), Continues),
                (link(6, u64::MAX), Continues),
                (link(u64::MAX, 0), Continues),
                (link(0, 9), Continues),
                (link(12, 2), gap(9, 12)), // Numbers begin anew, and what it follows on is missing.
                (link(2, 3), Continues),
            ],
        );
        let mut unbegun = Sequences::previous_id();
        run(&mut unbegun, &[(link(10, 15), Continues), (link(15, 16), Continues)]);
    }

    #[test]
    fn ranges_may_overlap_and_must_not_leave_anything_out() {
        let r = Sequence::range;
        let mut tracker = SequenceRule::Range.tracker();
        run(
            &mut *tracker,
            &[
                (Sequence::new(100).snapshot(), Continues),
                (r(90, 99), Duplicate),
                (r(91, 100), Duplicate),
                (r(95, 103), Continues), // Begins before the snapshot's number, ends after it.
                (r(104, 104), Continues),
                (r(106, 108), gap(105, 106)),
                (r(109, 110), Continues),
                (r(105, 105), Duplicate),
            ],
        );
        assert!(is_corrupt(&tracker.check(Some(r(112, 111)), "")));
        run(
            &mut *tracker,
            &[(r(111, 111), Continues), (r(9, 5).snapshot(), Continues), (r(4, 6), Continues)],
        );
    }

    #[test]
    fn numbers_wrap_and_the_last_number_is_not_the_end() {
        let n = Sequence::new;
        for rule in [SequenceRule::PlusOne, SequenceRule::Range] {
            let mut tracker = rule.tracker();
            run(
                &mut *tracker,
                &[
                    (n(u64::MAX - 1), Continues),
                    (n(u64::MAX), Continues),
                    (n(u64::MAX), Duplicate),
                    (n(u64::MAX - 1), Duplicate),
                    (n(0), Continues),
                    (n(0), Duplicate),
                    (n(1), Continues),
                    (n(u64::MAX), gap(2, u64::MAX)),
                    (Sequence::range(0, u64::MAX), Duplicate),
                    (Sequence::range(0, 3), Continues),
                ],
            );
        }
    }

    #[test]
    fn a_server_that_counts_anew_is_not_silence_without_end() {
        for kind in [Numbering::PlusOne, Numbering::Range, Numbering::PreviousId] {
            let mut tracker = Sequences::new(kind);
            let message = |number: u64| Sequence::new(number).previous(number - 1);
            run(&mut tracker, &[(message(1_000_000), Continues)]);
            for number in 1..u64::from(MAX_REPEATS) {
                assert_eq!(tracker.check(Some(message(number)), ""), Duplicate);
            }
            run(&mut tracker, &[(message(1_000_001), Continues)]); // What is new in between: they were repetitions.
            for number in 1..u64::from(MAX_REPEATS) {
                assert_eq!(tracker.check(Some(message(number)), ""), Duplicate);
            }
            let found = tracker.check(Some(message(1024)), "");
            let Continuity::Corrupt { reason } = found else { panic!("{found:?}") };
            assert!(reason.contains("1024 after 1000001"), "{reason}");
            let after = Sequence::new(1025).previous(1024);
            assert_eq!(tracker.check(Some(after), ""), Continues, "it goes on from there");
        }
    }

    /// Against a set of everything that was seen: no message is swallowed that brings something new, no hole goes untold.
    #[test]
    fn agrees_with_a_set_of_all_numbers_seen() {
        use std::collections::BTreeSet;
        for seed in 0..300 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let ranges = seed % 2 == 1;
            let mut tracker = if ranges { Sequences::range() } else { Sequences::plus_one() };
            let mut seen: BTreeSet<u64> = BTreeSet::new();
            let mut gaps = 0;
            for _ in 0..200 {
                let newest = seen.last().copied();
                let around = newest.unwrap_or(50);
                let first = (around + 1 + u64::from(rng.next_u32() % 3))
                    .saturating_sub(u64::from(rng.next_u32() % 3));
                let last = if ranges { first + u64::from(rng.next_u32() % 4) } else { first };
                let found = tracker.check(Some(Sequence::range(first, last)), "");
                let brings = newest.is_none_or(|newest| last > newest);
                let missing = newest.filter(|newest| first > newest + 1);
                match found {
                    Duplicate => assert!(!brings, "{first}..={last} after {newest:?}"),
                    Continues => assert!(brings && missing.is_none(), "{first}..={last} after {newest:?}"),
                    Continuity::Gap { expected, got } => {
                        gaps += 1;
                        assert_eq!((missing.map(|newest| newest + 1), got), (Some(expected), first));
                        assert!(!seen.contains(&expected));
                    }
                    Continuity::Corrupt { reason } => panic!("{reason}"),
                }
                seen.extend(first..=last);
            }
            assert!(gaps > 5, "the walk must have holes to find");
        }
    }

    /// Any numbers whatever: nothing panics, and the same message twice in a row never counts as new in a rule without chain.
    #[test]
    fn any_numbers_are_safe() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let edges = [0, 1, 2, u64::MAX - 1, u64::MAX, 1 << 63];
        let mut pick = move || match rng.next_u32() % 8 {
            7 => rng.next_u64(),
            n => edges[n as usize % edges.len()],
        };
        for kind in [Numbering::PlusOne, Numbering::PreviousId, Numbering::Range] {
            let mut tracker = Sequences::new(kind);
            for _ in 0..20_000 {
                let mut message = Sequence::range(pick(), pick());
                message.previous = (pick() % 3 > 0).then(&mut pick);
                message.snapshot = pick() == 2;
                let found = tracker.check(Some(message), "");
                if message.first <= message.last && !message.snapshot && kind != Numbering::PreviousId {
                    let again = tracker.check(Some(message), "");
                    assert!(
                        !matches!(again, Continues | Continuity::Gap { .. }),
                        "{found:?}, then {again:?}"
                    );
                }
            }
        }
    }
}
