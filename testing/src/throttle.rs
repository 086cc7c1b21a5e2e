//! How fast a connection's bytes may go.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// Limits of a connection's speed, in each direction on its own; for
/// [`ConnHandle::throttle`](crate::ConnHandle::throttle) and
/// [`MockServerBuilder::throttle`](crate::MockServerBuilder::throttle).
///
/// The bytes are those of the TCP stream, below TLS, in pieces of about 10 ms. A limit of 0 lets nothing through.
///
/// ```
/// use everwire_testing::{MockServer, Throttle};
///
/// // A client that is sent 2,000 bytes a second, from the response of the handshake on.
/// let server = MockServer::builder().throttle(Throttle::NONE.writes(2_000)).start();
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttle {
    pub(crate) reads: Option<u64>,
    pub(crate) writes: Option<u64>,
}

impl Throttle {
    /// No limit in either direction.
    pub const NONE: Self = Self { reads: None, writes: None };

    /// The server reads so many bytes in a second. What the client sends faster waits in the buffers of the operating
    /// system, and then the client's writes do.
    pub fn reads(mut self, bytes_per_second: u64) -> Self {
        self.reads = Some(bytes_per_second);
        self
    }

    /// The server writes so many bytes in a second.
    pub fn writes(mut self, bytes_per_second: u64) -> Self {
        self.writes = Some(bytes_per_second);
        self
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit =
            |rate: Option<u64>| rate.map_or_else(|| "no limit".to_owned(), |rate| format!("{rate} bytes/s"));
        write!(f, "reads {}, writes {}", limit(self.reads), limit(self.writes))
    }
}

/// What may go in one direction now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowance {
    Unlimited,
    /// At least one byte.
    Bytes(usize),
    /// Nothing before then.
    From(Instant),
    Never,
}

/// The accounts of one direction: what was allowed since a moment, and what has gone since.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    rate: Option<u64>,
    since: Option<Instant>,
    gone: u64,
}

impl Bucket {
    pub(crate) fn set_rate(&mut self, rate: Option<u64>) {
        *self = Self { rate, since: None, gone: 0 };
    }

    pub(crate) fn allowance(&mut self, now: Instant) -> Allowance {
        let Some(rate) = self.rate else { return Allowance::Unlimited };
        if rate == 0 {
            return Allowance::Never;
        }
        // What is gone at once: the bytes of 10 ms, which is also what is waited for.
        let piece = (rate / 100).max(1);
        let since = *self.since.get_or_insert(now);
        let earned = u128::from(rate) * now.saturating_duration_since(since).as_nanos() / 1_000_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        let left = earned.saturating_add(piece).saturating_sub(self.gone);
        if left >= piece {
            // Nobody saves up.
            (self.since, self.gone) = (Some(now), 0);
            return Allowance::Bytes(usize::try_from(piece).unwrap_or(usize::MAX));
        }
        let nanos = u128::from(self.gone) * 1_000_000_000 / u128::from(rate) + 1;
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        now.checked_add(wait.saturating_sub(now.saturating_duration_since(since)))
            .map_or(Allowance::Never, Allowance::From)
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.gone = self.gone.saturating_add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes go in a second of virtual time.
    fn speed(rate: u64) -> u64 {
        let mut bucket = Bucket::default();
        bucket.set_rate(Some(rate));
        let start = Instant::now();
        let (mut now, mut gone) = (start, 0);
        while now < start + Duration::from_secs(1) {
            match bucket.allowance(now) {
                Allowance::Bytes(bytes) => {
                    bucket.spend(bytes);
                    gone += bytes as u64;
                }
                Allowance::From(then) => {
                    assert!(then > now, "time goes on");
                    now = then;
                }
                other => panic!("{other:?}"),
            }
        }
        gone
    }

    #[test]
    fn the_rate_is_kept() {
        for rate in [1, 7, 100, 2_000, 1_000_003] {
            let speed = speed(rate);
            assert!(speed >= rate && speed <= rate + rate / 100 + 1, "{speed} at {rate}");
        }
    }

    #[test]
    fn nobody_saves_up() {
        let mut bucket = Bucket::default();
        bucket.set_rate(Some(1_000));
        let start = Instant::now();
        assert_eq!(bucket.allowance(start), Allowance::Bytes(10));
        assert_eq!(bucket.allowance(start + Duration::from_secs(60)), Allowance::Bytes(10));
        // Part of a piece does not wait for a whole one.
        bucket.spend(3);
        let then = start + Duration::from_secs(60) + Duration::from_nanos(3_000_001);
        assert_eq!(bucket.allowance(start + Duration::from_secs(60)), Allowance::From(then));
        assert_eq!(bucket.allowance(then), Allowance::Bytes(10));
    }

    #[test]
    fn none_and_nothing() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.allowance(Instant::now()), Allowance::Unlimited);
        bucket.set_rate(Some(0));
        assert_eq!(bucket.allowance(Instant::now()), Allowance::Never);
    }
}
