//! Sequence numbers: whether a topic's messages follow on each other.

use std::fmt;

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
        /// The number that should have come.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// It does not fit the state that was built from what came before, such as by its checksum.
    Corrupt {
        /// In what way.
        reason: String,
    },
}
