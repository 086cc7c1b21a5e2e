//! What the fuzz targets do with their bytes. Each module's `run` takes one input and panics if it found a bug.
//!
//! Inputs are read from the front, field by field, without `arbitrary`: so a mutation of one byte changes one decision, and seeds
//! can be written by hand (`examples/seeds.rs`).

pub mod deflate;
pub mod frames;
pub mod handshake;
pub mod proxy;
pub mod record;
pub mod session;
pub mod venues;

mod memory;

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

/// An input, read from the front. At its end it gives zeros.
#[derive(Debug, Clone)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// Up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A list of up to 31 bytes, its length in front.
    pub fn list(&mut self) -> &'a [u8] {
        let len = usize::from(self.u8()) % 32;
        self.bytes(len)
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Lengths of the pieces that something is cut into: those that the list says, over and over; an empty list does not cut.
#[derive(Debug, Clone)]
pub struct Cuts<'a> {
    list: &'a [u8],
    at: usize,
}

impl<'a> Cuts<'a> {
    pub fn new(list: &'a [u8]) -> Self {
        Self { list, at: 0 }
    }

    /// Length of the next piece: 1 or more.
    pub fn piece(&mut self) -> usize {
        let Some(&piece) = self.list.get(self.at) else { return usize::MAX };
        self.at = (self.at + 1) % self.list.len();
        match piece {
            0..=199 => usize::from(piece) + 1,
            // Few long ones, so that long streams are not cut into crumbs only.
            200.. => (usize::from(piece) - 199) * 97,
        }
    }
}

/// A moment to count from. It is the only thing in a run that the input does not decide, and only differences to it are looked at.
pub fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// 2023-11-14: `Retry-After` dates in seeds are near it.
pub fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)
}

/// FNV-1a, to compare contents without keeping them.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    /// The committed corpus passes on a stable toolchain too: `cargo test --manifest-path fuzz/Cargo.toml --lib`.
    #[test]
    fn corpus() {
        type Run = fn(&[u8]);
        let targets: [(&str, Run); 7] = [
            ("frames", super::frames::run),
            ("handshake", super::handshake::run),
            ("deflate", super::deflate::run),
            ("proxy", super::proxy::run),
            ("session", super::session::run),
            ("venues", super::venues::run),
            ("record", super::record::run),
        ];
        for (name, run) in targets {
            let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let mut seeds = 0;
            for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
            {
                let path = entry.expect("a directory that can be opened can be listed").path();
                println!("{}", path.display());
                run(&std::fs::read(&path).expect("a seed is a readable file"));
                seeds += 1;
            }
            assert!(seeds >= 10, "{name}: only {seeds} seeds");
        }
    }
}
