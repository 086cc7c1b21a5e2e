//! The thread that makes the channels tick.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rpc::unix_micros;
use super::{Inner, JsonRpcVenue};

/// Ticks until the venue, which holds the other end of `alive`, is gone.
///
/// A thread, and not a task of a server, because a venue may outlive servers and serve several.
pub(super) fn start(inner: &Arc<Inner>, interval: Duration, alive: Receiver<()>) {
    let inner = Arc::downgrade(inner);
    thread::Builder::new()
        .name("everwire-venue".to_owned())
        .spawn(move || run(&inner, interval, &alive))
        .expect("the operating system starts a thread, as `build` demands in its documentation");
}

fn run(inner: &Weak<Inner>, interval: Duration, alive: &Receiver<()>) {
    let mut next = Instant::now();
    loop {
        // Late ticks are left out, not made up for.
        let now = Instant::now();
        next = next.checked_add(interval).unwrap_or(now).max(now);
        let wait = next.saturating_duration_since(now);
        if alive.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let Some(inner) = inner.upgrade() else { return };
        let venue = JsonRpcVenue { inner };
        venue.change(|state| {
            state.tick(|channel, sequence| match &venue.inner.config.tick_data {
                Some(data) => data(channel, sequence),
                None => default_data(sequence),
            });
        });
    }
}

fn default_data(sequence: u64) -> Value {
    json!({"seq": sequence, "timestamp": unix_micros() / 1000})
}
