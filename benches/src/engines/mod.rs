//! The engines, one adapter each.

mod everwire;
mod fastwebsockets;
mod nago_wss;
mod nexus_web;
mod plain_copy;
mod sockudo_ws;
mod tokio_websockets;
mod tungstenite;
mod yawc;

use bytes::BytesMut;

use crate::engine::Engine;

/// The largest message and frame any engine accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 << 20;

/// Our engine, once `everwire.rs` has one.
#[must_use]
pub fn everwire() -> Option<Engine> {
    everwire::ENGINE
}

/// The engine that only copies.
#[must_use]
pub fn plain_copy() -> Engine {
    plain_copy::ENGINE
}

/// Ours if there is one, the peers, the floor.
#[must_use]
pub fn all() -> Vec<Engine> {
    let peers = [
        tungstenite::ENGINE,
        fastwebsockets::ENGINE,
        tokio_websockets::ENGINE,
        yawc::ENGINE,
        sockudo_ws::ENGINE,
        nexus_web::ENGINE,
        nago_wss::ENGINE,
    ];
    everwire().into_iter().chain(peers).chain([plain_copy()]).collect()
}

/// A receive buffer as most peers keep it, for those whose interface leaves that to the caller.
#[derive(Debug)]
struct ReceiveBuffer {
    bytes: BytesMut,
    /// How many bytes are reserved at a time; `None` for as many as a read has.
    room: Option<usize>,
}

impl ReceiveBuffer {
    fn new(room: Option<usize>) -> Self {
        Self { bytes: BytesMut::with_capacity(room.unwrap_or(128 * 1024)), room }
    }

    /// Copies what there is room for, after making some if little is left, and returns the rest of `read`.
    #[inline]
    fn receive<'a>(&mut self, read: &'a [u8]) -> &'a [u8] {
        const LITTLE: usize = 4096;
        let spare = self.bytes.capacity() - self.bytes.len();
        match self.room {
            None => self.bytes.reserve(read.len()),
            Some(room) if spare < read.len().min(LITTLE) => self.bytes.reserve(room),
            Some(_) => {}
        }
        let (now, later) = read.split_at(read.len().min(self.bytes.capacity() - self.bytes.len()));
        self.bytes.extend_from_slice(now);
        later
    }
}

/// The error of an adapter that got something the inputs do not contain.
fn unexpected(what: &str) -> String {
    format!("got {what}, which was never sent")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Role;

    #[test]
    fn ours_has_one_setting_and_every_engine_has_some() {
        for engine in all() {
            assert!(!engine.decoders.is_empty() && !engine.encoders.is_empty(), "{}", engine.name);
            if engine.role == Role::Ours {
                assert_eq!(
                    (engine.decoders.len(), engine.encoders.len()),
                    (1, 1),
                    "no tuning per line for us"
                );
            }
        }
        assert_eq!(all().iter().filter(|engine| engine.role == Role::Peer).count(), 7);
    }
}
