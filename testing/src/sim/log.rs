//! What happened in a run: the last steps to read, all of them as a number to compare.

use super::{Accept, Ended, since_start};
use everwire_core::tungstenite::Message;
use everwire_core::{Error, OwnedEvent};
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Steps that are kept.
const KEPT: usize = 200;
/// The longest text of an event that is shown, in bytes.
const SHOWN: usize = 300;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "as documented at the methods of `Faults`")]
pub enum Fault {
    Cut,
    HalfOpen,
    Stall,
    SlowWriter,
    Refuse,
    Silent,
    ConnectDelay,
    ResolveFailure,
    ResolveDelay,
    ProviderFailure,
    ProviderDelay,
    Suspend,
}

impl Fault {
    /// Each of them.
    pub const ALL: [Self; 12] = [
        Self::Cut,
        Self::HalfOpen,
        Self::Stall,
        Self::SlowWriter,
        Self::Refuse,
        Self::Silent,
        Self::ConnectDelay,
        Self::ResolveFailure,
        Self::ResolveDelay,
        Self::ProviderFailure,
        Self::ProviderDelay,
        Self::Suspend,
    ];
}

/// The last 200 steps of a run, by its `Display`, one to a line; the seed comes first.
pub struct Log {
    seed: u64,
    steps: VecDeque<(Duration, Step)>,
    dropped: u64,
    digest: Digest,
    faults: [u64; Fault::ALL.len()],
}

/// One thing that happened. Numbers are those of connections.
#[derive(Debug)]
pub(super) enum Step {
    Provide,
    Resolve,
    Looked(Option<String>),
    Connect(u64, SocketAddr),
    Accept(u64, Accept),
    Connected(u64),
    Fault(Option<u64>, Fault, Option<Duration>),
    Wrote(u64, usize),
    Arrived(u64, usize),
    Sent(u64, usize),
    Read(u64, usize),
    ServerFin(u64),
    ServerReset(u64),
    ServerTold(u64, Ended),
    ClientTold(u64, String),
    Dropped(u64),
    Event(OwnedEvent),
    Held,
    Timeout,
    Act,
    Run,
    Awake,
    Closed,
}

impl Log {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: VecDeque::with_capacity(KEPT),
            dropped: 0,
            digest: Digest::default(),
            faults: [0; Fault::ALL.len()],
        }
    }

    /// How often a fault has come.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// A hash of every step, with its time and its bytes, since the start. The same seed, config, server and user give the same one, in
    /// every process.
    pub fn digest(&self) -> u64 {
        self.digest.0
    }

    /// Notes a step.
    pub(super) fn note(&mut self, now: Duration, step: Step) {
        self.digest.number(now.as_nanos() as u64);
        self.digest.step(&step);
        // The parts of what moves at one moment are one line.
        if let Some((at, last)) = self.steps.back_mut()
            && *at == now
        {
            match (last, &step) {
                (Step::Wrote(a, n), Step::Wrote(b, m))
                | (Step::Arrived(a, n), Step::Arrived(b, m))
                | (Step::Sent(a, n), Step::Sent(b, m))
                | (Step::Read(a, n), Step::Read(b, m))
                    if a == b =>
                {
                    *n += m;
                    return;
                }
                _ => {}
            }
        }
        if self.steps.len() == KEPT {
            self.steps.pop_front();
            self.dropped += 1;
        }
        self.steps.push_back((now, step));
    }

    /// Notes that a fault came, to which connection, and until when it lasts.
    pub(super) fn fault(&mut self, now: Duration, conn: Option<u64>, fault: Fault, until: Option<Duration>) {
        self.faults[fault as usize] += 1;
        self.note(now, Step::Fault(conn, fault, until));
    }

    /// Bytes that moved, for the digest alone.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.digest.bytes(bytes);
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}; {} earlier steps are not shown", self.seed, self.dropped)?;
        for (at, step) in &self.steps {
            writeln!(f, "{:>14.6} {step}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("seed", &self.seed)
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provide => f.write_str("session: provide"),
            Self::Resolve => f.write_str("session: resolve"),
            Self::Looked(None) => f.write_str("driver: answered"),
            Self::Looked(Some(error)) => write!(f, "driver: answered: {error}"),
            Self::Connect(id, addr) => write!(f, "#{id} session: connect to {addr}"),
            Self::Accept(id, how) => write!(f, "#{id} server: {how:?}"),
            Self::Connected(id) => write!(f, "#{id} client: connected"),
            Self::Fault(id, fault, until) => {
                if let Some(id) = id {
                    write!(f, "#{id} ")?;
                }
                write!(f, "fault: {fault:?}")?;
                until.map_or(Ok(()), |until| write!(f, " until {:.6}", until.as_secs_f64()))
            }
            Self::Wrote(id, len) => write!(f, "#{id} client: wrote {len} bytes"),
            Self::Arrived(id, len) => write!(f, "#{id} server: received {len} bytes"),
            Self::Sent(id, len) => write!(f, "#{id} server: sends {len} bytes"),
            Self::Read(id, len) => write!(f, "#{id} client: read {len} bytes"),
            Self::ServerFin(id) => write!(f, "#{id} server: sends FIN"),
            Self::ServerReset(id) => write!(f, "#{id} server: sends RST"),
            Self::ServerTold(id, how) => write!(f, "#{id} server: told of the end, {how:?}"),
            Self::ClientTold(id, cause) => write!(f, "#{id} client: told of the end, {cause}"),
            Self::Dropped(id) => write!(f, "#{id} session: drop it"),
            Self::Event(event) => Elided::new(f, SHOWN).event(event),
            Self::Held => f.write_str("user: does not take the event"),
            Self::Timeout => f.write_str("driver: timeout"),
            Self::Act => f.write_str("user: acts"),
            Self::Run => f.write_str("server: runs"),
            Self::Awake => f.write_str("client: awake again"),
            Self::Closed => f.write_str("session: closed"),
        }
    }
}

/// Writes no more than so many bytes.
struct Elided<'a, W> {
    to: &'a mut W,
    left: usize,
}

impl<'a, W: Write> Elided<'a, W> {
    fn new(to: &'a mut W, left: usize) -> Self {
        Self { to, left }
    }

    /// The event with its moments as virtual time: what `Debug` says of an `Instant` is another thing in each process.
    fn event(&mut self, event: &OwnedEvent) -> fmt::Result {
        self.write_str("event: ")?;
        match event {
            OwnedEvent::Lost { epoch, error, retry_at, unsent } => {
                write!(self, "Lost {epoch:?} ")?;
                self.retry(error, *retry_at)?;
                write!(self, ", {unsent:?}")
            }
            OwnedEvent::AttemptFailed { failures, error, retry_at } => {
                write!(self, "AttemptFailed {failures} ")?;
                self.retry(error, *retry_at)
            }
            OwnedEvent::Gap(gap) => {
                let (since, until) =
                    (since_start(gap.since).as_secs_f64(), since_start(gap.until).as_secs_f64());
                write!(
                    self,
                    "Gap {:?} to {:?}, {since:.6} to {until:.6}: {:?}",
                    gap.before, gap.after, gap.topics
                )
            }
            event => write!(self, "{event:?}"),
        }
    }

    fn retry(&mut self, error: &Error, at: Option<Instant>) -> fmt::Result {
        match at {
            Some(at) => write!(self, "({error}), again at {:.6}", since_start(at).as_secs_f64()),
            None => write!(self, "({error}), not again"),
        }
    }
}

impl<W: Write> Write for Elided<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.left == 0 {
            return Ok(());
        }
        if text.len() <= self.left {
            self.left -= text.len();
            return self.to.write_str(text);
        }
        let end = (0..=self.left).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.left = 0;
        self.to.write_str(&text[..end])?;
        self.to.write_str(" ...")
    }
}

/// FNV-1a in words of eight bytes.
#[derive(Debug, Clone, Copy)]
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x100_0000_01b3).rotate_left(29);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
        self.number(bytes.len() as u64);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wrote(id, len) => self.numbers([1, *id, *len as u64]),
            Step::Arrived(id, len) => self.numbers([2, *id, *len as u64]),
            Step::Sent(id, len) => self.numbers([3, *id, *len as u64]),
            Step::Read(id, len) => self.numbers([4, *id, *len as u64]),
            Step::Event(OwnedEvent::Message { message: Message::Text(text), epoch, .. }) => {
                self.numbers([5, epoch.as_u64(), 0]);
                self.bytes(text.as_bytes());
            }
            Step::Event(OwnedEvent::Message { message, epoch, .. }) => {
                self.numbers([6, epoch.as_u64(), message.len() as u64]);
            }
            Step::Event(event) => {
                self.number(7);
                // Hashing cannot fail, and what else `Debug` says is not lost on the log.
                let _ = Elided::new(self, usize::MAX).event(event);
            }
            other => {
                self.number(8);
                let _ = write!(self, "{other}");
            }
        }
    }

    fn numbers(&mut self, numbers: [u64; 3]) {
        numbers.into_iter().for_each(|number| self.number(number));
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_one_moment_are_joined_and_old_ones_forgotten() {
        let mut log = Log::new(7);
        let at = Duration::from_millis(1500);
        log.note(at, Step::Read(3, 10));
        log.note(at, Step::Read(3, 5));
        log.note(at, Step::Read(4, 1));
        assert_eq!(log.to_string().lines().count(), 3, "{log}");
        assert!(log.to_string().contains("1.500000 #3 client: read 15 bytes"), "{log}");
        for _ in 0..KEPT {
            log.note(at, Step::Act);
        }
        assert_eq!(log.to_string().lines().count(), KEPT + 1);
        assert!(log.to_string().starts_with("seed 7; 2 earlier"), "{log}");
    }

    #[test]
    fn a_digest_tells_times_lengths_and_bytes_apart() {
        let digest = |at: u64, len, bytes: &[u8]| {
            let mut log = Log::new(0);
            log.note(Duration::from_nanos(at), Step::Read(1, len));
            log.bytes(bytes);
            log.digest()
        };
        let all = [
            digest(0, 1, b"a"),
            digest(1, 1, b"a"),
            digest(0, 2, b"a"),
            digest(0, 1, b"b"),
            digest(0, 1, b"a\0"),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other != one), "{all:?}");
        }
        assert_eq!(digest(5, 6, b"seven"), digest(5, 6, b"seven"));
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let mut text = String::new();
        write!(Elided::new(&mut text, 4), "aaaé and more, {}", 1).unwrap();
        assert_eq!(text, "aaa ...");
    }
}
