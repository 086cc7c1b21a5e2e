//! Everwire and seven other WebSocket crates, decoding and encoding the same bytes in one run.
//!
//! `cargo run --release` runs `compare`; `cargo bench` times our engine alone. There is no socket, no runtime
//! and no TLS here: what is compared is what a crate does between the bytes of a socket and the messages of
//! its user.
//!
//! # What is measured
//!
//! *Decode*: unmasked frames from a server, one frame per message, arrive in reads of 64 KiB (`64K/read`) or
//! of one frame (`1/read`). An engine copies each read once into a buffer of its own, as a read from a socket
//! would, then takes every complete message out and shows it to a [`Sink`].
//!
//! *Encode*: messages become masked client frames, about half a MiB of them per batch, and are shown to an
//! [`Out`].
//!
//! A result is the median over the rounds, in nanoseconds of processor time per message. All engines take
//! their turn in each round, in an order shuffled from a fixed seed, so that a busy machine slows all of them
//! alike.
//!
//! # What makes it fair
//!
//! * A peer is driven through the fastest interface it offers to a client, and its settings are tried on each
//!   line: the best one counts. Our engine has one setting for all lines, its default.
//! * Engines that read from a stream draw their reads from one that is always ready. They are never charged
//!   for finding it empty, and may take a read in several pieces for free; a socket would charge a system
//!   call.
//! * The transport takes what is encoded without copying it, in pieces of any size. So a peer that hands over
//!   each frame on its own pays nothing for that here; a socket would charge a system call.
//! * Payloads to encode are borrowed. Where a peer's interface wants ownership it gets `Bytes::from_static`,
//!   which neither allocates nor counts references.
//! * All engines check the UTF-8 of text, draw a new mask for every frame, and refuse messages beyond 64 MiB.
//!   Masks come from each peer's default or fastest source: that is a generator without cryptographic
//!   strength for sockudo-ws, tokio-websockets and nago-wss, a ChaCha stream for the others.
//! * Adapters written on a peer's frames instead of its messages refuse fragments, of which the inputs have
//!   none, and so never pay for joining them.
//!
//! Every setting of every engine is [verified](verify) before it is timed, and each timed run is counted: a
//! lost or altered message, or invalid UTF-8 that passes, ends the run with an error.

pub mod engine;
pub mod engines;
pub mod input;
pub mod line;
pub mod measure;
pub mod memory;
pub mod random;
pub mod verify;

pub use engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
pub use input::{Batch, Chunking, Input, Kind, Payload};
pub use line::Line;
