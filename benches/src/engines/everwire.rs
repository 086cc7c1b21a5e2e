//! Everwire itself: to be filled when `everwire-core` has a session.
//!
//! Put `everwire-core = { path = "../core" }` into Cargo.toml, implement [`Decoder`] and [`Encoder`] over a
//! session that is past its handshake, and name them in [`ENGINE`] with [`Role::Ours`]; nothing else in this
//! crate changes.
//!
//! * Decode: for each of `input.reads()`, while bytes of it are left: copy as many as fit into
//!   `session.recv_buffer(conn)`, report them with `handle_received`, then take events until `poll_output`
//!   says `Wait` and show each `Event::Message` to the sink.
//! * Encode: `session.send` each of `batch.messages()`, then show `session.transmit(conn)` to the `Out` and
//!   report it with `handle_transmitted` until it is empty. If the send buffer's limit is below
//!   [`Batch::encoded`], do so whenever `send` says `Full`; raising the limit for this would be tuning.
//!
//! [`Batch::encoded`]: crate::Batch::encoded
//! [`Decoder`]: crate::Decoder
//! [`Encoder`]: crate::Encoder
//! [`Role::Ours`]: crate::Role::Ours

use crate::engine::Engine;

/// Ours, when it is there.
pub(super) const ENGINE: Option<Engine> = None;
