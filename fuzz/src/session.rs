//! A whole session: everything that a user, a driver, a network and a server can do, in any order.
//!
//! Input: flags, then operations of two bytes (some take more). After each the session is polled until it waits, and what must always
//! hold is checked. The peer is a small server that reads what the session writes, so that answers can be right. In the end driver, network and
//! server do what they should: everything that was wanted must come to be then.

mod finale;
mod gate;
mod manner;
mod net;
mod ops;
mod peer;
mod say;
mod setup;
mod told;
mod venue;
mod wire;
mod world;

pub use wire::accept;
use world::World;

use crate::Input;

/// Operations looked at; what comes behind them is ignored.
const MAX_OPS: usize = 400;

pub fn run(data: &[u8]) {
    let first = play(data);
    if data.first().is_some_and(|flags| flags & 128 != 0) {
        assert_eq!(first, play(data), "the same calls did not do the same");
    }
}

/// Plays it all; a digest of everything that the session said and wrote.
fn play(data: &[u8]) -> u64 {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    world.settle();
    for _ in 0..MAX_OPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.settle();
    }
    world.end()
}
