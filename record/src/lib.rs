//! Records of Everwire sessions: written as they happen, read again, counted, and replayed into a session to see whether it does the same.
#![doc = ""]
#![doc = include_str!("../../docs/guides/recording.md")]

mod check;
mod compare;
mod encode;
mod event;
mod line;
mod memory;
mod metadata;
mod play;
mod reader;
mod redact;
mod run;
mod text;
mod writer;

pub use check::{Difference, Replay, ReplayError, Report};
pub use encode::Encoder;
pub use line::{
    Body, Cause, Direction, Duty, FrameLine, Header, Kind, LeftLine, Line, Outcome, TopicOptions, VERSION,
};
pub use memory::MemoryRecorder;
pub use metadata::{Metadata, Traffic, topic_of};
pub use play::{Speed, replay};
pub use reader::{ReadError, Reader, Torn};
pub use redact::{MARK, Redaction};
pub use text::Payload;
pub use writer::{FileRecorder, RecordStatus, Recording, part_path};
