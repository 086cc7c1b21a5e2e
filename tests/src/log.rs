//! What is compared between runtimes: everything that is told, without times, ports and what else is up to chance.

use everwire_core::{OwnedEvent, SubscriptionId};
use everwire_testing::Message;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What happened in a scenario: each session for itself, because what happens first in which of them is up to chance.
#[derive(Debug)]
pub(crate) struct Log {
    notes: Vec<String>,
    sessions: Vec<Vec<Entry>>,
    /// How events of the sessions to come are described; `None` leaves one out.
    pub(crate) describe: fn(&OwnedEvent) -> Option<String>,
}

#[derive(Debug)]
enum Entry {
    Line(String),
    /// Messages in a row: what they have in common, the first, how many, and a hash of them all.
    Messages {
        of: String,
        first: String,
        count: u64,
        hash: u64,
    },
}

impl Log {
    pub(crate) fn new(describe: fn(&OwnedEvent) -> Option<String>) -> Self {
        Self { notes: Vec::new(), sessions: Vec::new(), describe }
    }

    /// Begins a session's part; its number.
    pub(crate) fn session(&mut self) -> usize {
        self.sessions.push(Vec::new());
        self.sessions.len() - 1
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(without_chance(&note));
    }

    pub(crate) fn end(&mut self, session: usize) {
        self.sessions[session].push(Entry::Line("the end".to_owned()));
    }

    pub(crate) fn event(&mut self, session: usize, event: &OwnedEvent, line: String) {
        let entries = &mut self.sessions[session];
        let OwnedEvent::Message { message, .. } = event else {
            entries.push(Entry::Line(without_chance(&line)));
            return;
        };
        if let Some(Entry::Messages { of, count, hash, .. }) = entries.last_mut()
            && *of == line
        {
            *count += 1;
            *hash = digest(*hash, message);
            return;
        }
        let first = excerpt(message);
        entries.push(Entry::Messages { of: line, first, count: 1, hash: digest(0, message) });
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, entries) in self.sessions.iter().enumerate() {
            writeln!(f, "session {}", n + 1)?;
            for entry in entries {
                match entry {
                    Entry::Line(line) => writeln!(f, "  {line}")?,
                    Entry::Messages { of, first, count, hash } => {
                        writeln!(f, "  {of}: {count} from {first}, hash {hash:016x}")?;
                    }
                }
            }
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

fn digest(before: u64, message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    (before, message.is_text()).hash(&mut hasher);
    message.clone().into_data().hash(&mut hasher);
    hasher.finish()
}

fn excerpt(message: &Message) -> String {
    match message {
        Message::Text(text) if text.len() <= 60 => format!("{:?}", text.as_str()),
        message => format!("{} bytes", message.len()),
    }
}

/// An event in the log, but no message: for [`Scene::log_as`](crate::Scene::log_as), where it is up to chance which messages come.
pub fn no_messages(event: &OwnedEvent) -> Option<String> {
    if matches!(event, OwnedEvent::Message { .. }) { None } else { describe(event) }
}

/// An event in the log. Pongs are left out: how many there are is a matter of time.
pub fn describe(event: &OwnedEvent) -> Option<String> {
    let id = |id: Option<SubscriptionId>| id.map_or(0, SubscriptionId::as_u64);
    Some(match event {
        OwnedEvent::Pong { .. } => return None,
        OwnedEvent::Online { epoch, resumed, headers } => {
            format!("Online {} resumed={resumed} subprotocol={:?}", epoch.as_u64(), headers.subprotocol())
        }
        OwnedEvent::Message { epoch, subscription, .. } => {
            format!("Message {} of {}", epoch.as_u64(), id(*subscription))
        }
        OwnedEvent::Rejected { id, topic, reason, retry_at, epoch } => {
            let again = retry_at.is_some();
            format!("Rejected {} {topic} {reason:?} again={again} {}", id.as_u64(), epoch.as_u64())
        }
        OwnedEvent::Gap(gap) => {
            let (before, after) = (gap.before.as_u64(), gap.after.as_u64());
            format!("Gap {before} to {after} {:?} {:?}", gap.topics, gap.cause)
        }
        OwnedEvent::Refreshed { by, epoch, .. } => format!("Refreshed {by:?} {}", epoch.as_u64()),
        OwnedEvent::RefreshFailed { failures, error, retry_at, epoch, .. } => {
            format!("RefreshFailed {failures} {error:?} again={} {}", retry_at.is_some(), epoch.as_u64())
        }
        OwnedEvent::Stale { subscription, step, epoch, .. } => {
            format!("Stale {subscription:?} {step:?} {}", epoch.as_u64())
        }
        OwnedEvent::Pressure { level, .. } => format!("Pressure {level:?}"),
        OwnedEvent::Lost { epoch, error, retry_at, unsent } => {
            let again = retry_at.is_some();
            format!("Lost {} {error:?} again={again} unsent={}", epoch.as_u64(), unsent.count())
        }
        OwnedEvent::AttemptFailed { failures, error, retry_at } => {
            format!("AttemptFailed {failures} {error:?} again={}", retry_at.is_some())
        }
        OwnedEvent::Closed { error, .. } => format!("Closed {error:?}"),
        // The others have nothing in them that is up to chance.
        event => format!("{event:?}"),
    })
}

/// Servers have another port each time, and certificates are looked at at another time.
fn without_chance(line: &str) -> String {
    let mut line = line.to_owned();
    for before in ["127.0.0.1:", "now: Some("] {
        let mut parts = line.split(before);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str(before);
            out.push('*');
            out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        line = out;
    }
    line
}
