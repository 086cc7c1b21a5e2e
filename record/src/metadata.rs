//! A record in numbers.

use crate::line::{Body, Direction, FrameLine, Kind, Line};
use crate::reader::{ReadError, Reader};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What is in a record. Messages are counted, not control frames; bytes are those of payloads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metadata {
    /// Messages both ways.
    pub count: u64,
    /// Messages that arrived.
    pub inbound: Traffic,
    /// Messages that were sent.
    pub outbound: Traffic,
    /// Pings, pongs and close frames, both ways.
    pub controls: u64,
    /// From the first line to the last, by the monotonic clock where there is one.
    pub duration: Duration,
    /// When the first line was.
    pub first: Option<String>,
    /// When the last line was.
    pub last: Option<String>,
    /// Lines.
    pub lines: u64,
    /// Connections that were there.
    pub connections: u64,
    /// The last epoch.
    pub epochs: u64,
    /// Connections that were lost, as the session told it.
    pub losses: u64,
    /// Gaps, as the session told them.
    pub gaps: u64,
    /// Messages that arrived, by topic. There are at most [`MAX_TOPICS`](Self::MAX_TOPICS) of them; the others are under an empty name.
    pub topics: BTreeMap<String, u64>,
    /// Entries that are missing because the writer was behind.
    pub dropped: u64,
    /// Whether it was finished, or is cut.
    pub complete: bool,
    /// Whether its last line is torn.
    pub torn: bool,
}

/// Messages one way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Traffic {
    /// How many; of one that was streamed, each part counts.
    pub count: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes of the shortest.
    pub min: u64,
    /// Bytes of the longest.
    pub max: u64,
}

impl Traffic {
    fn add(&mut self, bytes: u64) {
        self.min = if self.count == 0 { bytes } else { self.min.min(bytes) };
        self.max = self.max.max(bytes);
        (self.count, self.bytes) = (self.count + 1, self.bytes + bytes);
    }

    /// Bytes of one, on average; 0 if there are none.
    pub fn mean(&self) -> u64 {
        self.bytes.checked_div(self.count).unwrap_or(0)
    }
}

impl Metadata {
    /// Most topics that are counted one by one.
    pub const MAX_TOPICS: usize = 10_000;

    /// Counts a whole record. The topic of a message is what [`topic_of`] finds in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Self::with(path, topic_of)
    }

    /// The same, with your own idea of what the topic of a message is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn with(
        path: impl AsRef<Path>,
        mut topic: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, ReadError> {
        let mut reader = Reader::open(path)?;
        let mut metadata = Self::default();
        let (mut first, mut last) = (None, 0);
        for line in reader.by_ref() {
            let line = line?;
            first.get_or_insert(line.ns);
            last = line.ns.max(last);
            metadata.add(&line, &mut topic);
        }
        metadata.duration = Duration::from_nanos(last.saturating_sub(first.unwrap_or(0)));
        metadata.torn = reader.torn().is_some();
        Ok(metadata)
    }

    fn add(&mut self, line: &Line, topic: &mut impl FnMut(&str) -> Option<String>) {
        self.lines += 1;
        self.first.get_or_insert_with(|| line.ts.clone());
        self.last = Some(line.ts.clone());
        self.epochs = self.epochs.max(line.epoch);
        match &line.what {
            Body::Frame(frame) if matches!(frame.kind, Kind::Text | Kind::Binary) => {
                self.message(frame, topic);
            }
            Body::Frame(_) => self.controls += 1,
            Body::Connected { .. } => self.connections += 1,
            Body::Dropped { count } => self.dropped += count,
            Body::End => self.complete = true,
            Body::Event { event } => match event.get("is").and_then(Value::as_str) {
                Some("lost") => self.losses += 1,
                Some("gap") => self.gaps += 1,
                _ => {}
            },
            _ => {}
        }
    }

    fn message(&mut self, frame: &FrameLine, topic: &mut impl FnMut(&str) -> Option<String>) {
        self.count += 1;
        let bytes = if frame.payload.is_binary() {
            frame.payload.bytes().map_or(0, |bytes| bytes.len())
        } else {
            frame.payload.as_str().len()
        } as u64;
        if frame.dir == Direction::Out {
            return self.outbound.add(bytes);
        }
        self.inbound.add(bytes);
        if frame.kind == Kind::Text
            && let Some(topic) = topic(frame.payload.as_str())
        {
            let full = self.topics.len() >= Self::MAX_TOPICS && !self.topics.contains_key(&topic);
            *self.topics.entry(if full { String::new() } else { topic }).or_default() += 1;
        }
    }
}

/// The topic of a message, where common venues have it: `params.channel`, `arg.channel` with `arg.instId`, `stream`, `topic`, `channel`, `ch`.
pub fn topic_of(text: &str) -> Option<String> {
    if !text.starts_with('{') {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(params) = value.get("params")
        && let Some(topic) = text(params, "channel")
    {
        return Some(topic);
    }
    if let Some(arg) = value.get("arg")
        && let Some(channel) = text(arg, "channel")
    {
        return Some(match text(arg, "instId") {
            Some(id) => format!("{channel}.{id}"),
            None => channel,
        });
    }
    ["stream", "topic", "channel", "ch"].iter().find_map(|name| text(&value, name))
}
