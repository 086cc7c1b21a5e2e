//! What a loop needs beside its reads and writes: names looked up, and a deadline.

use everwire_core::{AttemptId, ResolveError, Session};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

type Found = (AttemptId, Result<Vec<SocketAddr>, ResolveError>);

/// Looks names up, each in a thread of its own: the system's resolver blocks, and a loop must not.
#[derive(Debug)]
pub struct Lookups {
    sender: Sender<Found>,
    found: Receiver<Found>,
}

impl Default for Lookups {
    fn default() -> Self {
        let (sender, found) = channel();
        Self { sender, found }
    }
}

impl Lookups {
    /// Begins to look up the name that this attempt is about. `wake` is called from the other thread when there is an answer, and has to
    /// end the loop's sleep.
    pub fn start(&self, id: AttemptId, session: &Session, wake: impl FnOnce() + Send + 'static) {
        // None: the attempt is over already.
        let Some((host, port)) = session.host(id) else { return };
        let (host, sender) = (host.to_owned(), self.sender.clone());
        thread::spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect).map_err(Into::into);
            // An error: the loop is over, and there is nobody to wake.
            if sender.send((id, found)).is_ok() {
                wake();
            }
        });
    }

    /// Gives the session the answers that there are; true if there were any.
    pub fn finish(&self, session: &mut Session, now: Instant) -> bool {
        let mut any = false;
        for (id, found) in self.found.try_iter() {
            session.handle_resolved(id, found.as_deref().map_err(Clone::clone), now);
            any = true;
        }
        any
    }
}

/// The earlier of two deadlines; `None` is never.
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
