//! Sequence numbers: whether a topic's messages follow on each other.

use super::tracker::Sequences;
use std::fmt;
use std::sync::Arc;

/// A message's place in its topic's order, as the server numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// The first number that the message stands for.
    pub first: u64,
    /// The last; the same as `first` unless a message stands for several.
    pub last: u64,
    /// The number that the message before it had, if the server tells.
    pub previous: Option<u64>,
    /// It holds the whole state: what came before does not matter.
    pub snapshot: bool,
}

impl Sequence {
    /// A message with one number, and nothing else known.
    pub fn new(number: u64) -> Self {
        Self::range(number, number)
    }

    /// A message that stands for all numbers from `first` to `last`.
    pub fn range(first: u64, last: u64) -> Self {
        Self { first, last, previous: None, snapshot: false }
    }

    /// It names the number of the message before it.
    pub fn previous(self, number: u64) -> Self {
        Self { previous: Some(number), ..self }
    }

    /// It holds the whole state.
    pub fn snapshot(self) -> Self {
        Self { snapshot: true, ..self }
    }
}

/// Watches one topic's messages on one connection.
pub trait Tracker: fmt::Debug + Send + Sync {
    /// Looks at the next message. `text` is all of it, for checksums.
    fn check(&mut self, sequence: Option<Sequence>, text: &str) -> Continuity;
}

/// What a [`Tracker`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Continuity {
    /// It follows on what came before.
    Continues,
    /// It was there already: the user is not told again.
    Duplicate,
    /// Messages between are missing.
    Gap {
        /// The number that should have come. Of a [`SequenceRule::PreviousId`], the one that should have been named as the previous.
        expected: u64,
        /// The one that came, or was named.
        got: u64,
    },
    /// It does not fit the state that was built from what came before, such as by its checksum.
    Corrupt {
        /// In what way.
        reason: String,
    },
}

/// How the messages of a topic are numbered: what a user picks for a subscription.
///
/// With all of them the first message of a connection starts without complaint, whether it is a snapshot or not: on many venues the
/// snapshot comes another way, and what was missed between connections is told as a [`Gap`](crate::Gap) of its own. A snapshot starts
/// anew at any time. A message without a number tells nothing, and continues.
#[derive(Clone)]
#[non_exhaustive]
pub enum SequenceRule {
    /// See [`Sequences::plus_one`].
    PlusOne,
    /// See [`Sequences::previous_id`].
    PreviousId,
    /// See [`Sequences::range`].
    Range,
    /// Makes a tracker of the user's own, each time that the topic is in force anew. [`SequenceRule::custom`] wraps a closure.
    Custom(Arc<dyn Fn() -> Box<dyn Tracker> + Send + Sync>),
}

impl SequenceRule {
    /// A rule of the user's own: `make` is called each time that the topic is in force anew. See [`Sequences::hook`].
    pub fn custom(make: impl Fn() -> Box<dyn Tracker> + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(make))
    }

    /// A new tracker, to which nothing has come yet.
    pub fn tracker(&self) -> Box<dyn Tracker> {
        match self {
            Self::PlusOne => Box::new(Sequences::plus_one()),
            Self::PreviousId => Box::new(Sequences::previous_id()),
            Self::Range => Box::new(Sequences::range()),
            Self::Custom(make) => make(),
        }
    }
}

impl fmt::Debug for SequenceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PlusOne => "PlusOne",
            Self::PreviousId => "PreviousId",
            Self::Range => "Range",
            Self::Custom(_) => "Custom(..)",
        })
    }
}

/// Custom rules are equal if they are clones of one.
impl PartialEq for SequenceRule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::PlusOne, Self::PlusOne)
            | (Self::PreviousId, Self::PreviousId)
            | (Self::Range, Self::Range) => true,
            (Self::Custom(a), Self::Custom(b)) => std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)),
            _ => false,
        }
    }
}

impl Eq for SequenceRule {}

#[cfg(test)]
mod tests {
    use super::Continuity::Continues;
    use super::*;

    #[test]
    fn rules_make_fresh_trackers_and_compare_by_kind() {
        let custom = SequenceRule::custom(|| {
            Sequences::hook(|_, text| match text {
                "bad" => Continuity::Corrupt { reason: "checksum".to_owned() },
                _ => Continues,
            })
        });
        let mut tracker = custom.tracker();
        assert_eq!(tracker.check(Some(Sequence::new(9)), "good"), Continues);
        assert!(matches!(tracker.check(None, "bad"), Continuity::Corrupt { .. }));
        assert_eq!(custom, custom.clone());
        assert_ne!(custom, SequenceRule::custom(|| Box::new(Sequences::range())));
        assert_ne!(SequenceRule::PlusOne, SequenceRule::Range);
        assert_eq!(
            format!("{custom:?} {:?} {tracker:?}", SequenceRule::PreviousId),
            "Custom(..) PreviousId Hook(..)"
        );
        let mut one = SequenceRule::PlusOne.tracker();
        assert_eq!(one.check(Some(Sequence::new(1)), ""), Continues);
        assert_eq!(SequenceRule::PlusOne.tracker().check(Some(Sequence::new(5)), ""), Continues, "a new one");
    }
}
