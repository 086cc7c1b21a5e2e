//! Records of Everwire sessions: written as they happen, read again, counted, and replayed into a session to see whether it does the same.
#![doc = ""]
#![doc = include_str!("../../docs/guides/recording.md")]

mod check;
mod event;
mod line;
mod metadata;
mod play;
mod reader;
mod redact;
mod text;
mod writer;

pub use check::{Difference, MemoryRecorder, Replay, ReplayError, Report};
pub use line::{
    Body, Cause, Direction, Duty, Encoder, FrameLine, Header, Kind, LeftLine, Line, Outcome, TopicOptions,
    VERSION,
};
pub use metadata::{Metadata, Traffic, topic_of};
pub use play::{Speed, replay};
pub use reader::{ReadError, Reader, Torn};
pub use redact::{MARK, Redaction};
pub use text::Payload;
pub use writer::{FileRecorder, RecordStatus, Recording, part_path};
