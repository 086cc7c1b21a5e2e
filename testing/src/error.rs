//! Why a wait ended without what it waited for.

use std::fmt;
use std::time::Duration;

use crate::ConnectionEnd;

/// A wait on a [`MockServer`](crate::MockServer), a [`ConnHandle`](crate::ConnHandle) or a
/// [`JsonRpcVenue`](crate::venue::JsonRpcVenue) did not get what it waited for.
///
/// `Debug` prints the same text as `Display`, so that the `unwrap()` of a failed test says what was expected and what
/// arrived instead.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The time ran out.
    TimedOut {
        /// What did not come.
        waited_for: String,
        /// The timeout that was given.
        timeout: Duration,
        /// What came instead, in words, how it differs, and what was said before.
        arrived: String,
    },
    /// The connection ended, so that nothing more can come.
    Ended {
        /// What did not come.
        waited_for: String,
        /// How the connection ended.
        end: ConnectionEnd,
        /// What came before the end, in words, how it differs, and what was said before.
        arrived: String,
    },
    /// What was not to come has come.
    Unexpected {
        /// What was not to come.
        unwanted: String,
        /// The message, with its number among those of its connection, and what was said before.
        arrived: String,
    },
    /// The wait was called from a handler, on the thread that would have to bring about what it waits for.
    OnServerThread {
        /// What was to be waited for.
        waited_for: String,
    },
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { waited_for, timeout, arrived } => {
                write!(f, "waited {timeout:?} in vain for {waited_for}; {arrived}")
            }
            Self::Ended { waited_for, end, arrived } => {
                write!(f, "the connection ended ({end}) before {waited_for}; {arrived}")
            }
            Self::Unexpected { unwanted, arrived } => {
                write!(f, "{unwanted} was not to come, but it did, as {arrived}")
            }
            Self::OnServerThread { waited_for } => write!(
                f,
                "a handler cannot wait for {waited_for}: it runs on the server's own thread, which would never get to \
                 it; wait in the test instead"
            ),
        }
    }
}

impl fmt::Debug for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for WaitError {}
