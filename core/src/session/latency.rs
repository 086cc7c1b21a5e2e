//! How long things take: of the newest samples, the middle and the worst, in bounded memory.

use std::fmt;
use std::time::{Duration, SystemTime};

/// How long the network and the server take. Each part is `None` until it was measured once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Round trips of pings: from asking for the ping to be sent until its pong is read.
    pub ping: Option<Summary>,
    /// Round trips of requests: from sending until the answer is read, answers with an error included.
    pub request: Option<Summary>,
    /// Receive lag: from the time that the server put into a message until that message is read. It compares two clocks that differ, so that it is
    /// off by their difference: look at how it changes, not at what it is. Less than nothing counts as zero. Only measured if the
    /// protocol reads the server's time.
    pub lag: Option<Summary>,
}

/// As `ping p50 12 ms, p99 30 ms, max 41 ms, n 1024; lag ...`, or `nothing measured`.
impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("ping", self.ping), ("request", self.request), ("lag", self.lag)];
        let mut between = "";
        for (name, summary) in parts.into_iter().filter_map(|(name, part)| Some((name, part?))) {
            write!(f, "{between}{name} {summary}")?;
            between = "; ";
        }
        if between.is_empty() { f.write_str("nothing measured") } else { Ok(()) }
    }
}

/// Durations in short. All but `count` are of the newest samples, which are kept; percentiles are by nearest rank, so that each is
/// one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Samples ever taken.
    pub count: u64,
    /// Samples kept, from which the rest is computed. At least 1.
    pub kept: usize,
    /// The shortest.
    pub min: Duration,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 in 100 took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
    /// The newest.
    pub last: Duration,
}

/// As `p50 12 ms, p99 30 ms, max 41 ms, n 1024`; once more were taken than are kept, `n 1024 of 5000`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, max) = (Short(self.p50), Short(self.p99), Short(self.max));
        write!(f, "p50 {p50}, p99 {p99}, max {max}, n {}", self.kept)?;
        if self.count > self.kept as u64 { write!(f, " of {}", self.count) } else { Ok(()) }
    }
}

/// A duration as people say it: two digits at least, in us, ms or s.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = match nanos {
            0..1_000_000 => (1_000, "us"),
            1_000_000..10_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let tenths = (nanos * 10 + unit / 2) / unit;
        match tenths % 10 {
            part @ 1.. if tenths < 100 => write!(f, "{}.{part} {name}", tenths / 10),
            _ => write!(f, "{} {name}", (nanos + unit / 2) / unit),
        }
    }
}

/// The newest samples of one kind. Recording takes the same short time always; memory is taken at the first sample, and never again.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    capacity: usize,
    /// In nanoseconds. A ring once it is full.
    kept: Vec<u64>,
    /// Where the newest is.
    newest: usize,
    count: u64,
}

impl Samples {
    /// Samples kept by default.
    pub(crate) const DEFAULT: usize = 1024;
    /// Most that may be kept.
    pub(crate) const MOST: usize = 65_536;

    /// Keeps the newest `capacity` samples, brought into 1 to [`Self::MOST`].
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.clamp(1, Self::MOST), kept: Vec::new(), newest: 0, count: 0 }
    }

    pub(crate) fn record(&mut self, sample: Duration) {
        let nanos = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        self.count = self.count.saturating_add(1);
        if self.kept.len() < self.capacity {
            if self.kept.is_empty() {
                self.kept.reserve_exact(self.capacity);
            }
            self.newest = self.kept.len();
            self.kept.push(nanos);
        } else {
            self.newest = (self.newest + 1) % self.capacity;
            self.kept[self.newest] = nanos;
        }
    }

    /// `None` before the first sample. Copies what is kept: for those who ask, not for each message.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let last = *self.kept.get(self.newest)?;
        let mut sorted = self.kept.clone();
        let kept = sorted.len();
        let (below, &mut p99, above) = sorted.select_nth_unstable(rank(99, kept));
        let max = above.iter().copied().max().unwrap_or(p99);
        let middle = rank(50, kept);
        let p50 = if middle < below.len() { *below.select_nth_unstable(middle).1 } else { p99 };
        let min = below.iter().copied().min().unwrap_or(p99);
        let [min, p50, p99, max, last] = [min, p50, p99, max, last].map(Duration::from_nanos);
        Some(Summary { count: self.count, kept, min, p50, p99, max, last })
    }
}

impl Default for Samples {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

/// Index of a percentile by nearest rank among `n` sorted samples; `n` is at least 1.
fn rank(percent: usize, n: usize) -> usize {
    (n * percent).div_ceil(100).saturating_sub(1)
}

/// What [`Latency`] is made from.
#[derive(Debug, Clone)]
pub(crate) struct Timings {
    pub(crate) ping: Samples,
    pub(crate) request: Samples,
    pub(crate) lag: Samples,
}

impl Timings {
    pub(crate) fn new(capacity: usize) -> Self {
        let samples = Samples::new(capacity);
        Self { ping: samples.clone(), request: samples.clone(), lag: samples }
    }

    /// A message that the server sent at `sent` since the Unix epoch was read at `wall`.
    pub(crate) fn received(&mut self, sent: Duration, wall: SystemTime) {
        let since_epoch = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.lag.record(since_epoch.saturating_sub(sent));
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency { ping: self.ping.summary(), request: self.request.summary(), lag: self.lag.summary() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use std::collections::VecDeque;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_hundred_samples_have_the_ranks_of_the_book() {
        let mut samples = Samples::new(100);
        assert_eq!(samples.summary(), None);
        (1..=100).rev().for_each(|n| samples.record(ms(n)));
        let expected = Summary {
            count: 100,
            kept: 100,
            min: ms(1),
            p50: ms(50),
            p99: ms(99),
            max: ms(100),
            last: ms(1),
        };
        assert_eq!(samples.summary(), Some(expected));
        samples.record(ms(500));
        let summary = samples.summary().unwrap();
        assert_eq!((summary.count, summary.kept, summary.max, summary.last), (101, 100, ms(500), ms(500)));
        assert_eq!(summary.p99, ms(99), "100 ms was the oldest and is forgotten");
    }

    #[test]
    fn one_sample_is_all_of_them() {
        let mut samples = Samples::new(1);
        for n in [3, 9] {
            samples.record(ms(n));
            let s = samples.summary().unwrap();
            assert_eq!([s.min, s.p50, s.p99, s.max, s.last], [ms(n); 5]);
        }
        assert_eq!(samples.summary().unwrap().count, 2);
    }

    #[test]
    fn agrees_with_sorting_the_newest() {
        for seed in 0..120 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let capacity = 1 + rng.next_u32() as usize % 300;
            let spread = 1 + rng.next_u64() % 1000;
            let mut samples = Samples::new(capacity);
            let mut newest: VecDeque<Duration> = VecDeque::new();
            for n in 1..=700u64 {
                let sample = Duration::from_nanos(rng.next_u64() % spread);
                samples.record(sample);
                newest.push_back(sample);
                if newest.len() > capacity {
                    newest.pop_front();
                }
                if n > 5 && !rng.next_u32().is_multiple_of(16) {
                    continue;
                }
                let mut sorted: Vec<Duration> = newest.iter().copied().collect();
                sorted.sort_unstable();
                // Nearest rank by its definition: the first of which enough samples are no longer.
                let percentile = |p: usize| {
                    let enough =
                        |at: &&Duration| sorted.iter().filter(|x| x <= at).count() * 100 >= p * sorted.len();
                    *sorted.iter().find(enough).unwrap()
                };
                let expected = Summary {
                    count: n,
                    kept: sorted.len(),
                    min: sorted[0],
                    p50: percentile(50),
                    p99: percentile(99),
                    max: sorted[sorted.len() - 1],
                    last: sample,
                };
                assert_eq!(samples.summary(), Some(expected), "seed {seed}, sample {n}");
            }
        }
    }

    #[test]
    fn memory_is_taken_once_and_bounded() {
        assert_eq!(Samples::new(0).capacity, 1);
        assert_eq!(Samples::default().capacity, 1024);
        let mut samples = Samples::new(usize::MAX);
        assert_eq!(samples.kept.capacity(), 0, "nothing before the first sample");
        samples.record(Duration::MAX);
        let at = samples.kept.as_ptr();
        assert_eq!(samples.kept.capacity(), Samples::MOST);
        (0..Samples::MOST + 10).for_each(|_| samples.record(ms(1)));
        assert_eq!((samples.kept.as_ptr(), samples.kept.len()), (at, Samples::MOST));
        assert_eq!(
            samples.summary().unwrap().max,
            ms(1),
            "what does not fit a u64 of nanoseconds was cut, then forgotten"
        );
    }

    #[test]
    fn lag_is_never_less_than_nothing() {
        let mut timings = Timings::new(8);
        assert_eq!(timings.latency(), Latency::default());
        let wall = SystemTime::UNIX_EPOCH + ms(1_700_000_000_500);
        for sent in [ms(1_700_000_000_480), ms(1_700_000_000_900), Duration::MAX] {
            timings.received(sent, wall);
        }
        timings.received(Duration::ZERO, SystemTime::UNIX_EPOCH - ms(5));
        let lag = timings.latency().lag.unwrap();
        assert_eq!((lag.count, lag.min, lag.max, lag.last), (4, ms(0), ms(20), ms(0)));
        assert_eq!((timings.latency().ping, timings.latency().request), (None, None));
    }

    #[test]
    fn shown_as_people_say_it() {
        let mut timings = Timings::new(1024);
        assert_eq!(timings.latency().to_string(), "nothing measured");
        for _ in 0..1000 {
            timings.ping.record(ms(12));
        }
        (0..24).for_each(|_| timings.ping.record(ms(30)));
        timings.ping.record(ms(41));
        assert_eq!(timings.latency().to_string(), "ping p50 12 ms, p99 30 ms, max 41 ms, n 1024 of 1025");
        timings.lag.record(ms(7));
        assert_eq!(
            timings.latency().to_string().split_once("; ").unwrap().1,
            "lag p50 7 ms, p99 7 ms, max 7 ms, n 1"
        );
        let shown = |nanos| Short(Duration::from_nanos(nanos)).to_string();
        let cases = [
            (0, "0 us"),
            (340, "0.3 us"),
            (1_500, "1.5 us"),
            (850_400, "850 us"),
            (1_040_000, "1 ms"),
            (1_450_000, "1.5 ms"),
            (9_960_000, "10 ms"),
            (12_499_999, "12 ms"),
            (2_000_000_000, "2000 ms"),
            (61_400_000_000, "61 s"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(shown(nanos), expected);
        }
        assert_eq!(Short(Duration::MAX).to_string(), "18446744073709551616 s");
    }
}
