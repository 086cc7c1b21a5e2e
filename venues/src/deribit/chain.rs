//! Whether the notifications of a book follow on each other.

use everwire_core::{Continuity, Sequence, Sequences, Tracker};

/// The notifications of a book: each names the one before it, and the first is a snapshot.
#[derive(Debug)]
pub(super) struct Chain {
    numbers: Sequences,
    /// Whether the first is there, or may be anything.
    begun: bool,
}

impl Chain {
    /// Nothing has come yet. Whether the first must be a snapshot.
    pub(super) fn new(snapshot_first: bool) -> Self {
        Self { numbers: Sequences::previous_id(), begun: !snapshot_first }
    }
}

impl Tracker for Chain {
    fn check(&mut self, sequence: Option<Sequence>, text: &str) -> Continuity {
        let Some(sequence) = sequence else {
            return Continuity::Corrupt { reason: "a notification of a book has no change_id".to_owned() };
        };
        let begins = std::mem::replace(&mut self.begun, true);
        let found = self.numbers.check(Some(sequence), text);
        if !begins && !sequence.snapshot {
            return Continuity::Corrupt {
                reason: "the first notification of a book is no snapshot".to_owned(),
            };
        }
        found
    }
}
