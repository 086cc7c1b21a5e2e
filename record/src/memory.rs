//! Records in memory.

use crate::encode::Encoder;
use crate::line::Line;
use everwire_core::record::{Entry, Recorder};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Keeps lines in memory, without bound and with all secrets: for tests. It belongs to the first session that tells it something.
#[derive(Debug, Default)]
pub struct MemoryRecorder(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    encoder: Encoder,
    session: Option<u64>,
    lines: Vec<Line>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}

impl MemoryRecorder {
    /// The lines since the last call.
    pub fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).lines)
    }
}

impl Recorder for MemoryRecorder {
    fn record(&self, entry: &Entry<'_>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept.session.get_or_insert(entry.session) == entry.session {
            let line = kept.encoder.line(entry);
            kept.lines.extend(line);
        }
    }
}
