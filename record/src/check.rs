//! A record, replayed into a session: whether it does the same.

use crate::line::{Body, Header, Line};
use crate::memory::MemoryRecorder;
use crate::reader::{ReadError, Reader, Torn};
use crate::redact::Redaction;
use crate::run::Run;
use everwire_core::record::Player;
use everwire_core::{Clock, Config, ConfigError, SequenceRule};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Replays a record into a session: its inputs are given to a new [`Session`](everwire_core::Session) at the moments at which they came, and all that
/// this does must be what the record says, line by line.
///
/// A bug that was recorded is a test in two lines, which fails as long as the session does something else than what is right:
///
/// ```no_run
/// # fn config() -> everwire_core::Config { everwire_core::Config::provided() }
/// use everwire_record::Replay;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// Replay::open("tests/records/reconnect.jsonl")?.check(config())?;
/// # Ok(())
/// # }
/// ```
///
/// # What is compared
///
/// All that a session decides: what the driver was told to do and for how long to wait, states, timers, requests of handshakes, frames that were
/// sent, events with their fields, requests that failed, calls that were refused. Where the record has [`MARK`](crate::MARK), anything is right.
///
/// What is not: bytes of TLS and of proxies, which are left out; compression of what arrives; the texts of faults of TLS and proxies; counters.
/// What comes from elsewhere must be as it was: code in the configuration (a protocol of your own, trackers), and what sessions share (`Cooldown`,
/// `SharedLimits`), which is new here.
#[derive(Debug)]
pub struct Replay {
    pub(crate) path: PathBuf,
    header: Header,
    start: u64,
    pub(crate) lines: Vec<(u64, Line)>,
    pub(crate) torn: Option<Torn>,
    pub(crate) redaction: Redaction,
    pub(crate) custom: Option<SequenceRule>,
    pub(crate) change: bool,
}

/// How a replay went that found no difference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Lines that were compared.
    pub compared: u64,
    /// Calls that were made.
    pub inputs: u64,
    /// Whether that was all of the session: false if the record is torn, was not finished, or has a hole.
    pub complete: bool,
    /// The line at which entries are missing that the writer dropped. Nothing behind it could be compared.
    pub hole: Option<u64>,
}

/// Why a replay did not come to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// The record cannot be read.
    Read(ReadError),
    /// It does not begin with a header, such as one of ZenWebsocket's, or it was made by rotation and its first part is missing.
    NoHeader(PathBuf),
    /// The configuration is not that of the record. [`Replay::allow_config_change`] replays all the same.
    ConfigChanged {
        /// The digest in the record.
        recorded: String,
        /// That of the configuration which was given.
        given: String,
    },
    /// The configuration cannot be used.
    Config(ConfigError),
    /// A line says what cannot be done.
    Line {
        /// Which, counted from 1.
        line: u64,
        /// Why.
        why: String,
    },
    /// The session does something else.
    Difference(Box<Difference>),
}

/// Where a session and its record part.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1 over all parts.
    pub line: u64,
    /// When, since the session was made.
    pub at: Duration,
    /// What the record has; `None` if it ends there.
    pub recorded: Option<Line>,
    /// What the session did; `None` if nothing.
    pub replayed: Option<Line>,
    /// The first field that is not the same, if both are of the same kind.
    pub field: Option<String>,
    /// The lines before, at most [`CONTEXT`](Self::CONTEXT), with their numbers.
    pub before: Vec<(u64, Line)>,
}

impl Difference {
    /// So many lines before it are shown.
    pub const CONTEXT: usize = 5;
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        writeln!(f, "{}:{}: at {at:.6} s the session does something else", self.path.display(), self.line)?;
        let shown = |line: &Option<Line>| line.as_ref().map_or_else(|| "nothing".to_owned(), brief);
        for (number, line) in &self.before {
            writeln!(f, "  {number:>8}  {}", brief(line))?;
        }
        writeln!(f, "  recorded: {}", shown(&self.recorded))?;
        write!(f, "  replayed: {}", shown(&self.replayed))?;
        if let Some(field) = &self.field {
            write!(f, "\n  differs:  {field}")?;
        }
        Ok(())
    }
}

/// A line as it is in the file, cut where it is long.
fn brief(line: &Line) -> String {
    const MAX: usize = 400;
    let mut text = serde_json::to_string(line).unwrap_or_default();
    if text.len() > MAX {
        let end = (0..=MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::NoHeader(path) => write!(
                f,
                "{}: it has no header, so that nobody knows what made it: replay its messages to a callback instead",
                path.display()
            ),
            Self::ConfigChanged { recorded, given } => write!(
                f,
                "the record was made with another configuration (digest {recorded}, and this one is {given}): \
                 use that one, or Replay::allow_config_change"
            ),
            Self::Config(error) => write!(f, "{error}"),
            Self::Line { line, why } => write!(f, "line {line} cannot be replayed: {why}"),
            Self::Difference(difference) => write!(f, "{difference}"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<ReadError> for ReplayError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Replay {
    /// Reads all of a record.
    ///
    /// # Errors
    /// It cannot be read, or has no header.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReplayError> {
        let path = path.as_ref().to_path_buf();
        let mut reader = Reader::open(&path)?;
        let lines = reader.by_ref().collect::<Result<Vec<Line>, ReadError>>()?;
        let mut replay = Self::new(lines, &path)?;
        replay.torn = reader.torn().cloned();
        Ok(replay)
    }

    /// A record that is in memory, such as that of a [`MemoryRecorder`](crate::MemoryRecorder).
    ///
    /// # Errors
    /// It has no header.
    pub fn of(lines: impl IntoIterator<Item = Line>) -> Result<Self, ReplayError> {
        Self::new(lines.into_iter().collect(), Path::new("record"))
    }

    fn new(lines: Vec<Line>, path: &Path) -> Result<Self, ReplayError> {
        let mut numbered = lines.into_iter().zip(1..).map(|(line, number)| (number, line));
        let Some((start, Line { what: Body::Header(header), .. })) = numbered.next() else {
            return Err(ReplayError::NoHeader(path.to_path_buf()));
        };
        if header.part != 0 {
            return Err(ReplayError::NoHeader(path.to_path_buf()));
        }
        Ok(Self {
            path: path.to_path_buf(),
            header,
            start,
            lines: numbered.collect(),
            torn: None,
            redaction: Redaction::new(),
            custom: None,
            change: false,
        })
    }

    /// The rules that the record was made with, if they were not the default ones: what the session does is shown and compared without what they hide.
    pub fn redaction(self, redaction: Redaction) -> Self {
        Self { redaction, ..self }
    }

    /// The rule for the topics that were subscribed to with one of the user's own, which no record can hold.
    pub fn sequence_rule(self, rule: SequenceRule) -> Self {
        Self { custom: Some(rule), ..self }
    }

    /// Whether a configuration is taken that is not that of the record: to see what comes of a change. Default: no.
    pub fn allow_config_change(self, allow: bool) -> Self {
        Self { change: allow, ..self }
    }

    /// The head of the record.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Replays it into a session of this configuration. Its recorder is not used, its secrets may be others.
    ///
    /// # Errors
    /// [`ReplayError::Difference`] at the first one, or why it cannot be replayed.
    pub fn check(&self, config: Config) -> Result<Report, ReplayError> {
        let given = config.digest();
        if given != self.header.digest && !self.change {
            return Err(ReplayError::ConfigChanged { recorded: self.header.digest.clone(), given });
        }
        let wrong = |why: &str| ReplayError::Line { line: self.start, why: why.to_owned() };
        let seed = seed(&self.header.seed).ok_or_else(|| wrong("its seed is not 64 hexadecimal digits"))?;
        let system = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_nanos(self.header.wall))
            .ok_or_else(|| wrong("its time is none"))?;
        let clock = Clock { instant: Instant::now(), system };
        let told = Arc::new(MemoryRecorder::default());
        let player = Player::new(config.recorder(told.clone()), clock, seed).map_err(ReplayError::Config)?;
        told.take();
        Run::new(self, player, told, clock).all()
    }
}

fn seed(text: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(seed)
}
