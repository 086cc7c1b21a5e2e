//! How much may be sent, and when.

use std::time::Duration;

/// One limit of a server on what a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub(crate) name: String,
    pub(crate) rate: Rate,
    pub(crate) margin: Duration,
    pub(crate) account: Option<String>,
}

/// How a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Costs of at most `max` in any span of `per`: a sliding window.
    Window {
        /// Most that may be spent in one span.
        max: u32,
        /// The span.
        per: Duration,
    },
    /// A pool of at most `capacity` that gets `refill` back, evenly, in each `per`.
    Credits {
        /// The pool when it is full, as it is at first.
        capacity: u32,
        /// What comes back.
        refill: u32,
        /// In what time.
        per: Duration,
    },
}
