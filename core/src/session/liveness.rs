//! Whether a connection still lives: pings of our own, and pongs that match them (RFC 6455 section 5.5.2).

use std::time::{Duration, Instant};

/// The pings of one connection.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// When the next ping is due, or by when its answer is.
    due: Option<Instant>,
    awaited: Option<Ping>,
    sent: u64,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    payload: [u8; 8],
    at: Instant,
}

/// What is to be done when a deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Wait,
    /// Send a ping with this payload.
    Ping([u8; 8]),
    /// Nothing arrived for all the time that a pong was given.
    Dead,
}

impl Liveness {
    pub(crate) fn start(&mut self, interval: Option<Duration>, now: Instant) {
        self.due = interval.map(|interval| now + interval);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// To be called once all that arrived is taken: a pong may be among it.
    pub(crate) fn check(&mut self, timeout: Duration, last_received: Instant, now: Instant) -> Verdict {
        if self.due.is_none_or(|due| now < due) {
            return Verdict::Wait;
        }
        if let Some(ping) = self.awaited.take()
            && last_received <= ping.at
        {
            self.due = None;
            return Verdict::Dead;
        }
        // No ping was out, or the peer owes the pong but sends other things: it lives.
        self.sent += 1;
        let payload = self.sent.to_be_bytes();
        self.awaited = Some(Ping { payload, at: now });
        self.due = Some(now + timeout);
        Verdict::Ping(payload)
    }

    /// The round-trip time, if the pong answers the last ping. Others mean nothing (RFC 6455 section 5.5.3).
    pub(crate) fn pong(
        &mut self,
        payload: &[u8],
        interval: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let ping = self.awaited.take_if(|ping| ping.payload == payload)?;
        self.due = interval.map(|interval| (ping.at + interval).max(now + Duration::from_millis(1)));
        Some(now.saturating_duration_since(ping.at))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(20);
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn second(start: Instant, n: u64) -> Instant {
        start + Duration::from_secs(n)
    }

    #[test]
    fn silence_after_a_ping_is_death() {
        let t0 = Instant::now();
        let mut live = Liveness::default();
        live.start(Some(INTERVAL), t0);
        assert_eq!(live.check(TIMEOUT, t0, second(t0, 19)), Verdict::Wait);
        assert!(matches!(live.check(TIMEOUT, t0, second(t0, 20)), Verdict::Ping(_)));
        assert_eq!(live.check(TIMEOUT, t0, second(t0, 29)), Verdict::Wait);
        assert_eq!(live.check(TIMEOUT, t0, second(t0, 30)), Verdict::Dead);
        assert_eq!(live.deadline(), None);
    }

    #[test]
    fn only_the_matching_pong_counts_and_any_bytes_are_life() {
        let t0 = Instant::now();
        let mut live = Liveness::default();
        live.start(Some(INTERVAL), t0);
        let Verdict::Ping(payload) = live.check(TIMEOUT, t0, second(t0, 20)) else { panic!("due") };
        assert_eq!(live.pong(b"other", Some(INTERVAL), second(t0, 21)), None);
        assert_eq!(live.pong(&payload, Some(INTERVAL), second(t0, 21)), Some(Duration::from_secs(1)));
        assert_eq!(live.pong(&payload, Some(INTERVAL), second(t0, 22)), None, "a pong counts once");
        assert_eq!(live.deadline(), Some(second(t0, 40)));
        assert!(matches!(live.check(TIMEOUT, t0, second(t0, 40)), Verdict::Ping(_)));
        // Data, but no pong: pinged again, not dead.
        assert!(matches!(live.check(TIMEOUT, second(t0, 45), second(t0, 50)), Verdict::Ping(_)));
    }
}
