//! What the network between client and server is like.

use std::ops::Range;
use std::time::Duration;

/// How the network behaves: the same for every connection, apart from what the seed decides.
///
/// All ranges are half-open; an empty one stands for its start.
#[derive(Debug, Clone)]
pub struct Net {
    pub(super) latency: Range<Duration>,
    pub(super) jitter: Duration,
    pub(super) rechunk: Range<usize>,
    pub(super) window: usize,
    pub(super) addresses: u8,
    pub(super) faults: Faults,
}

/// How often each fault comes, and what it is like then. By default none comes.
///
/// Faults are drawn anew for each connection: what goes wrong with the third connection depends on the seed and the number 3 alone.
/// Probabilities are from 0 to 1; what is outside is taken for the nearer end.
#[derive(Debug, Clone)]
pub struct Faults {
    pub(super) cut: (f64, Range<u64>),
    pub(super) lifetime: (f64, Range<Duration>),
    pub(super) half_open: (f64, Range<Duration>),
    pub(super) half_open_wholly: bool,
    pub(super) stall: (f64, Range<Duration>, Range<Duration>),
    pub(super) slow_writer: (f64, Range<usize>, Range<Duration>),
    pub(super) refuse: f64,
    pub(super) silent: f64,
    pub(super) connect_delay: (f64, Range<Duration>),
    pub(super) resolve_failure: f64,
    pub(super) resolve_delay: (f64, Range<Duration>),
    pub(super) provider_failure: f64,
    pub(super) provider_delay: (f64, Range<Duration>),
    pub(super) suspend: (f64, Range<Duration>, Range<Duration>),
    pub(super) until: Duration,
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl Net {
    /// No latency, no loss, bytes arrive as they were sent: up to 1 MiB under way in each direction.
    pub fn perfect() -> Self {
        Self {
            latency: Duration::ZERO..Duration::ZERO,
            jitter: Duration::ZERO,
            rechunk: usize::MAX..usize::MAX,
            window: 1 << 20,
            addresses: 1,
            faults: Faults::none(),
        }
    }

    /// A bad one: 5 to 150 ms of latency, 30 ms of jitter, reads from 1 to 4096 bytes, 64 KiB under way, and [`Faults::some`].
    pub fn lossy() -> Self {
        Self::perfect()
            .latency(millis(5)..millis(150))
            .jitter(millis(30))
            .rechunk(1..4097)
            .window(64 << 10)
            .faults(Faults::some())
    }

    /// One-way delay, drawn for each connection and direction.
    pub fn latency(self, latency: Range<Duration>) -> Self {
        Self { latency, ..self }
    }

    /// What each piece of bytes may take longer, drawn for each. Order stays: what was sent later never arrives earlier.
    pub fn jitter(self, most: Duration) -> Self {
        Self { jitter: most, ..self }
    }

    /// The longest piece that is read at once, drawn for each read; at least 1.
    pub fn rechunk(self, bytes: Range<usize>) -> Self {
        Self { rechunk: bytes, ..self }
    }

    /// How many bytes may be under way in each direction, those included that have arrived and were not read; at least 1. A reader that
    /// does not read thus blocks the writer.
    pub fn window(self, bytes: usize) -> Self {
        Self { window: bytes.max(1), ..self }
    }

    /// How many addresses a name resolves to: 192.0.2.1 and up, tried in that order. Default 1; 0 is a name without any.
    pub fn addresses(self, count: u8) -> Self {
        Self { addresses: count, ..self }
    }

    /// What goes wrong.
    pub fn faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        let never = Duration::ZERO..Duration::ZERO;
        Self {
            cut: (0.0, 0..0),
            lifetime: (0.0, never.clone()),
            half_open: (0.0, never.clone()),
            half_open_wholly: false,
            stall: (0.0, never.clone(), never.clone()),
            slow_writer: (0.0, 0..0, never.clone()),
            refuse: 0.0,
            silent: 0.0,
            connect_delay: (0.0, never.clone()),
            resolve_failure: 0.0,
            resolve_delay: (0.0, never.clone()),
            provider_failure: 0.0,
            provider_delay: (0.0, never.clone()),
            suspend: (0.0, never.clone(), never),
            until: Duration::MAX,
        }
    }

    /// Each fault now and then; few connections live for more than 20 minutes.
    pub fn some() -> Self {
        Self::none()
            .cut(0.2, 1..20_000)
            .lifetime(0.9, millis(10)..secs(1200))
            .half_open(0.05, millis(10)..secs(300))
            .stall(0.1, millis(10)..secs(120), millis(100)..secs(40))
            .slow_writer(0.1, 1..2000, millis(1)..millis(20))
            .refuse(0.05)
            .silent(0.03)
            .connect_delay(0.1, millis(10)..secs(12))
            .resolve_failure(0.05)
            .resolve_delay(0.1, millis(10)..secs(12))
            .provider_failure(0.05)
            .provider_delay(0.1, millis(10)..secs(12))
            .suspend(0.03, secs(1)..secs(300), secs(1)..secs(3600))
    }

    /// The connection ends after this many bytes in one direction or the other, with FIN or RST.
    pub fn cut(self, probability: f64, after_bytes: Range<u64>) -> Self {
        Self { cut: (probability, after_bytes), ..self }
    }

    /// The connection ends at this time after the connect, with FIN or RST; counted as [`Fault::Cut`](super::Fault::Cut).
    pub fn lifetime(self, probability: f64, time: Range<Duration>) -> Self {
        Self { lifetime: (probability, time), ..self }
    }

    /// From this time after the connect on, bytes vanish in one direction or in both, and nobody is told.
    pub fn half_open(self, probability: f64, after: Range<Duration>) -> Self {
        Self { half_open: (probability, after), ..self }
    }

    /// What vanishes vanishes in both directions. In one alone it can go unnoticed for as long as bytes come the other way, which with TCP, whose
    /// acknowledgements are lost as well, they do not for long.
    pub fn half_open_wholly(self) -> Self {
        Self { half_open_wholly: true, ..self }
    }

    /// From this time after the connect on, nothing moves for as long as `lasts`; then it goes on, with nothing lost.
    pub fn stall(self, probability: f64, after: Range<Duration>, lasts: Range<Duration>) -> Self {
        Self { stall: (probability, after, lasts), ..self }
    }

    /// The client's socket takes only so many bytes at a time, and the next ones only after a pause.
    pub fn slow_writer(self, probability: f64, bytes: Range<usize>, pause: Range<Duration>) -> Self {
        Self { slow_writer: (probability, bytes, pause), ..self }
    }

    /// Nobody listens.
    pub fn refuse(self, probability: f64) -> Self {
        Self { refuse: probability, ..self }
    }

    /// Connecting is never answered.
    pub fn silent(self, probability: f64) -> Self {
        Self { silent: probability, ..self }
    }

    /// Connecting takes this much longer.
    pub fn connect_delay(self, probability: f64, delay: Range<Duration>) -> Self {
        Self { connect_delay: (probability, delay), ..self }
    }

    /// The host's name is not found.
    pub fn resolve_failure(self, probability: f64) -> Self {
        Self { resolve_failure: probability, ..self }
    }

    /// The resolver takes this long.
    pub fn resolve_delay(self, probability: f64, delay: Range<Duration>) -> Self {
        Self { resolve_delay: (probability, delay), ..self }
    }

    /// The endpoint provider fails.
    pub fn provider_failure(self, probability: f64) -> Self {
        Self { provider_failure: probability, ..self }
    }

    /// The endpoint provider takes this long.
    pub fn provider_delay(self, probability: f64, delay: Range<Duration>) -> Self {
        Self { provider_delay: (probability, delay), ..self }
    }

    /// At this time after the client began to connect its whole process sleeps for as long as `lasts`: nothing of it runs, time goes on,
    /// and what arrives waits.
    pub fn suspend(self, probability: f64, after: Range<Duration>, lasts: Range<Duration>) -> Self {
        Self { suspend: (probability, after, lasts), ..self }
    }

    /// From this time after the start of the simulation on there are no new faults, and stalls, delays and suspensions are over: for
    /// runs that are to end in good order. Half-open connections stay that.
    pub fn until(self, end: Duration) -> Self {
        Self { until: end, ..self }
    }

    /// When a fault ends that comes now.
    pub(super) fn end(&self, now: Duration, lasts: Duration) -> Duration {
        now.saturating_add(lasts).min(self.until).max(now)
    }
}
