//! Connecting to the addresses of a name, several at a time (RFC 8305 section 5).

use crate::error::Disconnect;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Addresses that are connected to until one is connected. `Id` tells the connections apart.
///
/// The next address is started when the last one failed, or has not answered for the delay; all that were started go on. Without a
/// delay the last one is given up when its share of the time is over.
#[derive(Debug)]
pub(crate) struct Race<Id> {
    waiting: VecDeque<SocketAddr>,
    /// As they were started. While some are waiting, the last of these is the one that was started last.
    running: Vec<(Id, SocketAddr)>,
    delay: Option<Duration>,
    /// When all must be over.
    end: Instant,
    /// When the next is started; `None` if none is waiting.
    due: Option<Instant>,
    failure: Option<(SocketAddr, Disconnect)>,
}

impl<Id: Copy + PartialEq> Race<Id> {
    /// A race of these addresses, the first of which is due now.
    pub(crate) fn new(
        addrs: VecDeque<SocketAddr>,
        delay: Option<Duration>,
        end: Instant,
        now: Instant,
    ) -> Self {
        let due = (!addrs.is_empty()).then_some(now);
        Self { waiting: addrs, running: Vec::new(), delay, end, due, failure: None }
    }

    /// When [`expire`](Self::expire) and [`start`](Self::start) have something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The connection whose share of the time is over, if addresses are tried one after the other. It is to be dropped.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Id> {
        let over = self.delay.is_none() && self.due.is_some_and(|due| due <= now);
        let (id, _) = self.running.pop_if(|_| over)?;
        Some(id)
    }

    /// The address that is to be connected to now, as `id`, if it is time for another.
    pub(crate) fn start(&mut self, id: Id, now: Instant) -> Option<SocketAddr> {
        self.due.take_if(|due| *due <= now)?;
        let left = self.waiting.len() as u32;
        let addr = self.waiting.pop_front()?;
        self.running.push((id, addr));
        if !self.waiting.is_empty() {
            // What time is left is shared, so that a silent address does not use up that of the others.
            let share = || self.end.saturating_duration_since(now) / left;
            self.due = Some(now + self.delay.unwrap_or_else(share));
        }
        Some(addr)
    }

    /// A connection failed: false if it is none of these.
    pub(crate) fn failed(&mut self, id: Id, cause: Disconnect, now: Instant) -> bool {
        let Some(index) = self.running.iter().position(|(running, _)| *running == id) else { return false };
        let (_, addr) = self.running.remove(index);
        if index == self.running.len() && self.due.is_some() {
            self.due = Some(now);
        }
        // A family that this machine has no way to says nothing about the peer.
        if self.failure.is_none() || !is_local(&cause) {
            self.failure = Some((addr, cause));
        }
        true
    }

    /// If every address failed: one that did, and why. The last one, unless this machine had no way to it and to another it had.
    pub(crate) fn lost(&self) -> Option<&(SocketAddr, Disconnect)> {
        self.failure.as_ref().filter(|_| self.waiting.is_empty() && self.running.is_empty())
    }

    /// The address of a connection that is under way.
    pub(crate) fn address(&self, id: Id) -> Option<SocketAddr> {
        self.running.iter().find(|(running, _)| *running == id).map(|(_, addr)| *addr)
    }

    /// The connections under way, as they were started.
    pub(crate) fn running(&self) -> impl Iterator<Item = Id> {
        self.running.iter().map(|(id, _)| *id)
    }
}

/// Whether the operating system did not even try: no route, or no address of its own to come from.
fn is_local(cause: &Disconnect) -> bool {
    let kind = match cause {
        Disconnect::Io { kind, .. } => *kind,
        Disconnect::Eof => return false,
    };
    matches!(kind, ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]

    use super::*;

    const DELAY: Duration = Duration::from_millis(250);

    fn addr(n: u8) -> SocketAddr {
        ([192, 0, 2, n], 443).into()
    }

    fn refused() -> Disconnect {
        Disconnect::from(std::io::Error::from(ErrorKind::ConnectionRefused))
    }

    fn unreachable() -> Disconnect {
        Disconnect::from(std::io::Error::from(ErrorKind::NetworkUnreachable))
    }

    /// A race of `n` addresses with ten seconds, and the moment at which it began.
    fn race(n: u8, delay: Option<Duration>) -> (Race<u8>, Instant) {
        let start = Instant::now();
        (Race::new((0..n).map(addr).collect(), delay, start + Duration::from_secs(10), start), start)
    }

    #[test]
    fn one_after_the_delay_of_the_one_before() {
        let (mut race, start) = race(3, Some(DELAY));
        assert_eq!(race.due(), Some(start));
        assert_eq!(race.start(0, start), Some(addr(0)));
        assert_eq!((race.due(), race.start(1, start)), (Some(start + DELAY), None));
        // Whoever is late does not start all that would have been due at once.
        let late = start + 5 * DELAY;
        assert_eq!(race.start(1, late), Some(addr(1)));
        assert_eq!((race.due(), race.start(2, late)), (Some(late + DELAY), None));
        assert_eq!(race.start(2, late + DELAY), Some(addr(2)));
        assert_eq!((race.due(), race.start(3, late + 9 * DELAY)), (None, None));
        assert_eq!(race.running().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(race.address(1), Some(addr(1)));
        assert_eq!((race.expire(late + 9 * DELAY), race.lost()), (None, None));
    }

    #[test]
    fn at_once_when_the_last_one_failed() {
        let (mut race, start) = race(4, Some(DELAY));
        let now = start + DELAY / 2;
        assert_eq!(race.start(0, start), Some(addr(0)));
        assert!(race.failed(0, refused(), now) && !race.failed(0, refused(), now));
        assert_eq!((race.due(), race.start(1, now)), (Some(now), Some(addr(1))));
        // The delay counts from then.
        assert_eq!((race.due(), race.start(2, now)), (Some(now + DELAY), None));
        assert_eq!(race.start(2, now + DELAY), Some(addr(2)));
        // One that was started before fails: its successor has its time all the same.
        assert!(race.failed(1, refused(), now + DELAY));
        assert_eq!(race.due(), Some(now + 2 * DELAY));
        assert!(race.failed(2, refused(), now + DELAY));
        assert_eq!(race.start(3, now + DELAY), Some(addr(3)));
        assert_eq!(race.lost(), None);
        assert!(race.failed(3, refused(), now + DELAY));
        assert_eq!(race.lost(), Some(&(addr(3), refused())));
        assert_eq!(race.due(), None);
    }

    #[test]
    fn without_a_delay_each_has_its_share() {
        let (mut race, start) = race(3, None);
        assert_eq!(race.start(0, start), Some(addr(0)));
        let share = start + Duration::from_secs(10) / 3;
        assert_eq!((race.due(), race.expire(share - Duration::from_nanos(1))), (Some(share), None));
        assert_eq!(race.expire(share), Some(0));
        assert_eq!(race.start(1, share), Some(addr(1)));
        assert!(race.failed(1, refused(), share) && !race.failed(0, refused(), share));
        assert_eq!((race.expire(share), race.start(2, share)), (None, Some(addr(2))));
        // The last one has all that is left, which is for the whole attempt to bound.
        assert_eq!((race.due(), race.expire(start + Duration::from_secs(99))), (None, None));
    }

    #[test]
    fn the_failure_that_says_something_of_the_peer_is_told() {
        let (mut race, now) = race(3, Some(DELAY));
        for (id, cause) in [(0, unreachable()), (1, refused()), (2, unreachable())] {
            race.start(id, now);
            race.failed(id, cause, now);
        }
        assert_eq!(race.lost(), Some(&(addr(1), refused())));
        let (mut race, now) = self::race(1, Some(DELAY));
        race.start(0, now);
        race.failed(0, unreachable(), now);
        assert_eq!(race.lost(), Some(&(addr(0), unreachable())));
    }

    #[test]
    fn of_nothing_nothing_is_due() {
        let (mut race, now) = race(0, Some(DELAY));
        assert_eq!((race.due(), race.start(0, now), race.lost()), (None, None, None));
    }
}
