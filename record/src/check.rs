//! A record, replayed into a session: whether it does the same.

use crate::line::{Body, Encoder, FrameLine, Header, Kind, Line, Outcome};
use crate::reader::{ReadError, Reader, Torn};
use crate::redact::{MARK, Redaction};
use everwire_core::protocol::OwnedRpcError;
use everwire_core::record::{Entry, Fed, Left, Player, Recorder};
use everwire_core::tungstenite::handshake::derive_accept_key;
use everwire_core::{
    Clock, CloseCode, CloseOptions, Config, ConfigError, Message, ProviderError, Request, ResolveError,
    SequenceRule,
};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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
/// sent, events with their fields, requests that failed, calls that were refused. Where the record has [`MARK`], anything is right.
///
/// What is not: bytes of TLS and of proxies, which are left out; compression of what arrives; the texts of faults of TLS and proxies; counters.
/// What comes from elsewhere must be as it was: code in the configuration (a protocol of your own, trackers), and what sessions share (`Cooldown`,
/// `SharedLimits`), which is new here.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    header: Header,
    start: u64,
    lines: Vec<(u64, Line)>,
    torn: Option<Torn>,
    redaction: Redaction,
    custom: Option<SequenceRule>,
    change: bool,
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
        let shown = |line: &Option<Line>| line.as_ref().map_or("nothing".to_owned(), brief);
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
        let mut run = Run {
            replay: self,
            player,
            told,
            clock,
            queue: VecDeque::new(),
            texts: Vec::new(),
            keys: BTreeMap::new(),
            chunks: BTreeMap::new(),
            report: Report::default(),
        };
        run.all()
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

/// Keeps lines in memory, without bound and with all secrets: for tests. It belongs to the first session that tells it something.
#[derive(Debug, Default)]
pub struct MemoryRecorder(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    encoder: Encoder,
    session: Option<u64>,
    lines: Vec<Line>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}

impl MemoryRecorder {
    /// The lines since the last call.
    pub fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).lines)
    }
}

impl Recorder for MemoryRecorder {
    fn record(&self, entry: &Entry<'_>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept.session.get_or_insert(entry.session) == entry.session {
            let line = kept.encoder.line(entry);
            kept.lines.extend(line);
        }
    }
}

/// A replay that is under way.
struct Run<'a> {
    replay: &'a Replay,
    player: Player,
    told: Arc<MemoryRecorder>,
    clock: Clock,
    /// What the session did and the record was not asked for yet.
    queue: VecDeque<Line>,
    /// Texts of faults, as they are here and as they were.
    texts: Vec<(String, String)>,
    /// The keys of the handshakes here, by connection.
    keys: BTreeMap<u64, String>,
    /// Messages that are streamed, by connection.
    chunks: BTreeMap<u64, Chunk>,
    report: Report,
}

/// A message that is streamed.
#[derive(Default)]
struct Chunk {
    /// Some of it was sent.
    begun: bool,
    /// Bytes of its frame that are still to come, and whether that is its last.
    left: usize,
    fin: bool,
    /// Bytes of its next part that were given with the last one.
    ahead: usize,
}

/// The header of a frame with a payload of `len` bytes.
fn head(out: &mut Vec<u8>, first: u8, len: usize) {
    out.push(first);
    match len {
        0..126 => out.push(len as u8),
        126..65_536 => {
            out.push(126);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

/// The next part of a message on this connection.
fn next_part(lines: &[(u64, Line)], conn: u64) -> Option<Vec<u8>> {
    lines
        .iter()
        .find_map(|(_, line)| match &line.what {
            Body::Frame(frame) if frame.conn == conn && frame.dir == crate::Direction::In => Some(frame),
            _ => None,
        })?
        .bytes()
}

/// Bytes of the parts of a message from here on that follow on each other, and whether the last is one of them. If it is not there, the message was
/// never whole.
fn parts(lines: &[(u64, Line)], conn: u64) -> (usize, bool) {
    let mut sum = 0;
    for (_, line) in lines {
        let Body::Frame(frame) = &line.what else { continue };
        if frame.conn != conn || frame.dir != crate::Direction::In {
            continue;
        }
        let Some(last) = frame.last else { return (sum, false) };
        sum += frame.bytes().map_or(0, |bytes| bytes.len());
        if last {
            return (sum, true);
        }
    }
    (sum + 1, true)
}

impl Run<'_> {
    fn all(&mut self) -> Result<Report, ReplayError> {
        let lines = &self.replay.lines;
        for (index, (number, line)) in lines.iter().enumerate() {
            match &line.what {
                Body::Dropped { .. } => {
                    self.report.hole = Some(*number);
                    return Ok(std::mem::take(&mut self.report));
                }
                Body::End => {
                    if let Some(more) = self.queue.front() {
                        return Err(self.difference(index, None, Some(more.clone())));
                    }
                    self.report.complete = self.replay.torn.is_none();
                    break;
                }
                // What lies between is left out here.
                Body::Way { conn, left } => {
                    let left = Left { plain: left.left, idle: left.idle };
                    self.player.way(*conn, left, self.moment(line.ns));
                    continue;
                }
                _ => {}
            }
            if self.queue.is_empty() {
                self.player.flush();
                self.collect();
            }
            if self.queue.is_empty() {
                let now = self.moment(line.ns);
                if line.what.is_input() {
                    self.report.inputs += 1;
                    self.input(index, now)?;
                } else {
                    let _told = self.player.poll_output(now);
                }
                self.collect();
            }
            let Some(mut replayed) = self.queue.pop_front() else {
                return Err(self.difference(index, Some(line), None));
            };
            self.note(line, &replayed);
            self.replay.redaction.apply(&mut replayed);
            self.translate(&mut replayed);
            if let Some(field) = differs(line, &replayed) {
                let mut difference = self.difference(index, Some(line), Some(replayed));
                if let ReplayError::Difference(difference) = &mut difference {
                    difference.field = field;
                }
                return Err(difference);
            }
            self.report.compared += 1;
        }
        Ok(std::mem::take(&mut self.report))
    }

    fn moment(&self, ns: u64) -> Instant {
        self.clock.instant.checked_add(Duration::from_nanos(ns)).unwrap_or(self.clock.instant)
    }

    fn collect(&mut self) {
        self.queue.extend(self.told.take());
    }

    fn difference(&self, index: usize, recorded: Option<&Line>, replayed: Option<Line>) -> ReplayError {
        let lines = &self.replay.lines;
        let (line, ns) = lines.get(index).map_or((0, 0), |(number, line)| (*number, line.ns));
        ReplayError::Difference(Box::new(Difference {
            path: self.replay.path.clone(),
            line,
            at: Duration::from_nanos(ns),
            recorded: recorded.cloned(),
            replayed,
            field: None,
            before: lines[index.saturating_sub(Difference::CONTEXT)..index].to_vec(),
        }))
    }

    /// What is known here alone: keys of handshakes, and texts of faults.
    fn note(&mut self, recorded: &Line, replayed: &Line) {
        match (&recorded.what, &replayed.what) {
            (_, Body::HandshakeRequest { conn, payload }) => {
                let key = payload.as_str().lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
                self.keys.extend(key.map(|key| (*conn, key.trim().to_owned())));
            }
            (Body::Fault { text: then, .. }, Body::Fault { text: now, .. }) if then != now => {
                self.texts.retain(|(known, _)| known != now);
                self.texts.push((now.clone(), then.clone()));
            }
            _ => {}
        }
    }

    /// Puts the texts of faults that were in the place of those that are.
    fn translate(&self, line: &mut Line) {
        let put = |text: &mut String| {
            for (now, then) in &self.texts {
                if text.contains(now.as_str()) {
                    *text = text.replace(now.as_str(), then);
                }
            }
        };
        match &mut line.what {
            Body::Fault { text, .. } | Body::State { why: text, .. } => put(text),
            Body::Event { event } => {
                if let Some(Value::String(text)) = event.get_mut("error") {
                    put(text);
                }
            }
            _ => {}
        }
    }

    /// What was parsed of this connection from here to its next read or its end.
    fn fed(&mut self, index: usize, conn: u64) -> Result<Fed, ReplayError> {
        let mut fed = Fed::default();
        for (at, (number, line)) in self.replay.lines.iter().enumerate().skip(index + 1) {
            let wrong =
                || ReplayError::Line { line: *number, why: "its data is not what it says".to_owned() };
            match &line.what {
                Body::Received { conn: other, .. } | Body::Disconnected { conn: other, .. }
                    if *other == conn =>
                {
                    break;
                }
                // Nobody knows which reads are missing.
                Body::Dropped { .. } => break,
                Body::HandshakeResponse { conn: other, payload } if *other == conn => {
                    let bytes = payload.bytes().ok_or_else(wrong)?;
                    fed.bytes.extend(self.response(conn, bytes));
                }
                Body::Frame(frame) if frame.conn == conn && frame.dir == crate::Direction::In => {
                    let bytes = frame.bytes().ok_or_else(wrong)?;
                    self.frame(at, frame, &bytes, &mut fed.bytes);
                }
                Body::Fault { conn: other, fault, late, .. } if *other == conn => {
                    let unknown = || ReplayError::Line {
                        line: *number,
                        why: "it is a fault that this version does not know".to_owned(),
                    };
                    let error = fault.as_ref().ok_or_else(unknown)?.error(&format!("[line {number}]"));
                    if *late {
                        fed.late.get_or_insert(error);
                    } else {
                        fed.faults.push(error);
                    }
                }
                _ => {}
            }
        }
        Ok(fed)
    }

    /// The response to a handshake. Where the key is another one than it was, so is what answers it.
    fn response(&self, conn: u64, bytes: Vec<u8>) -> Vec<u8> {
        let Ok(text) = String::from_utf8(bytes.clone()) else { return bytes };
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return bytes };
        let accept = self.keys.get(&conn).map(|key| derive_accept_key(key.as_bytes()));
        let line = |line: &str| match (line.split_once(':'), &accept) {
            (Some((name, _)), Some(accept))
                if self.replay.change && name.eq_ignore_ascii_case("sec-websocket-accept") =>
            {
                format!("{name}: {accept}")
            }
            _ => line.to_owned(),
        };
        let head = head.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n");
        format!("{head}\r\n\r\n{body}").into_bytes()
    }

    /// A frame as a server sends it (RFC 6455 section 5.2): not masked, not compressed.
    ///
    /// A message that is streamed is one frame, whose length says that it will be: control frames between its parts divide it.
    fn frame(&mut self, at: usize, frame: &FrameLine, payload: &[u8], out: &mut Vec<u8>) {
        let opcode = match frame.kind {
            Kind::Text => 1,
            Kind::Binary => 2,
            Kind::Close => 8,
            Kind::Ping => 9,
            Kind::Pong => 10,
        };
        match frame.last {
            None => {
                head(out, 0x80 | opcode, payload.len());
                out.extend_from_slice(payload);
            }
            Some(last) => {
                let chunk = self.chunks.entry(frame.conn).or_default();
                let (opcode, begins) = (if chunk.begun { 0 } else { opcode }, chunk.left == 0);
                if begins {
                    (chunk.left, chunk.fin) = parts(&self.replay.lines[at..], frame.conn);
                }
                chunk.left = chunk.left.saturating_sub(payload.len());
                chunk.begun = !last;
                let payload = &payload[std::mem::take(&mut chunk.ahead).min(payload.len())..];
                // A part is told once more than it is there. If it was told before the next read, some of the next part had come.
                let next =
                    if chunk.left > 0 { next_part(&self.replay.lines[at + 1..], frame.conn) } else { None };
                let next = next.unwrap_or_default();
                let ahead = &next[..next.len().saturating_sub(1).min(4)];
                chunk.ahead = ahead.len();
                if !begins {
                    out.extend([payload, ahead].concat());
                    return;
                }
                head(out, if chunk.fin { 0x80 | opcode } else { opcode }, chunk.left + payload.len());
                out.extend([payload, ahead].concat());
            }
        }
    }

    /// Makes the call that a line stands for.
    fn input(&mut self, index: usize, now: Instant) -> Result<(), ReplayError> {
        let (number, line) = &self.replay.lines[index];
        let wrong = |why: &str| ReplayError::Line { line: *number, why: why.to_owned() };
        match &line.what {
            Body::Endpoint { attempt, result } => {
                let result = match result {
                    Outcome::Given(record) => Ok(record.endpoint().map_err(|why| wrong(&why))?),
                    Outcome::Failed { why, recovery } => {
                        let mut error = ProviderError::new(why.clone());
                        error.recovery = *recovery;
                        Err(error)
                    }
                };
                self.player.endpoint(*attempt, result, now);
            }
            Body::Resolved { attempt, result } => {
                let result = match result {
                    Outcome::Given(addrs) => Ok(&addrs[..]),
                    Outcome::Failed { why, .. } => Err(ResolveError { message: why.clone() }),
                };
                self.player.resolved(*attempt, result, now);
            }
            Body::Connected { conn } => self.player.connected(*conn, now),
            Body::Disconnected { conn, cause } => {
                let fed = self.fed(index, *conn)?;
                self.player.disconnected(*conn, cause.disconnect(), fed, now);
            }
            Body::Received { conn, len } => {
                let fed = self.fed(index, *conn)?;
                self.player.received(*conn, *len, fed, now);
            }
            Body::Transmitted { conn, len, left } => {
                let left = Left { plain: left.left, idle: left.idle };
                self.player.transmitted(*conn, *len, left, now);
            }
            Body::Timeout => self.player.session().handle_timeout(now),
            Body::Taken { leased } => {
                let _missing = self.player.take(*leased, now);
            }
            Body::GivenBack => self.player.give_back(now),
            Body::Send { kind, payload, options } => {
                let bytes = payload.bytes().ok_or_else(|| wrong("its data is no base64"))?;
                let message = match kind {
                    Kind::Binary => Message::Binary(&bytes),
                    _ => Message::Text(payload.as_str()),
                };
                // What is refused is told to the recorder, here and below.
                let _told = self.player.session().send(message, options.clone(), now);
            }
            Body::Request { method, params, options } => {
                let request = Request { method, params: params.as_deref() };
                let _told = self.player.session().request(request, options.clone(), now);
            }
            Body::Batch { requests, options } => {
                let requests: Vec<Request<'_>> = requests
                    .iter()
                    .map(|(method, params)| Request { method, params: params.as_deref() })
                    .collect();
                let _told = self.player.session().request_batch(&requests, options.clone(), now);
            }
            Body::Respond { to, id, result, error } => {
                let error = error.clone().map(|(code, message, data)| OwnedRpcError { code, message, data });
                let result = match (result, &error) {
                    (_, Some(error)) => Err(error),
                    (result, None) => Ok(result.as_deref().unwrap_or("null")),
                };
                self.player.respond(*to, id, result, now);
            }
            Body::Cancel { id } => self.player.cancel(*id, now),
            Body::Subscribe { topic, options } => {
                let options = options
                    .options(self.replay.custom.as_ref())
                    .ok_or_else(|| wrong("its sequence rule is code: give it with Replay::sequence_rule"))?;
                self.player.session().subscribe(topic.clone(), options, now);
            }
            Body::Unsubscribe { id } => self.player.unsubscribe(*id, now),
            Body::EndSubscription { id } => self.player.end_subscription(*id, now),
            Body::Watch { id } => self.player.watch(*id, now),
            Body::Reconnect => self.player.session().reconnect(now),
            Body::Close { code, reason, within, drain } => {
                let mut options =
                    CloseOptions::new().code(CloseCode::from(*code)).reason(reason.clone()).drain(*drain);
                options.within = *within;
                self.player.session().close_with(options, now);
            }
            Body::Abort => self.player.session().abort(now),
            _ => return Err(wrong("it is no call")),
        }
        Ok(())
    }
}

/// Whether what was done is not what was recorded; with the field, if only one is another.
#[expect(clippy::option_option, reason = "whether, and where")]
fn differs(recorded: &Line, replayed: &Line) -> Option<Option<String>> {
    if recorded == replayed {
        return None;
    }
    let value = |line: &Line| serde_json::to_value(&line.what).unwrap_or_default();
    let (mut then, mut now) = (value(recorded), value(replayed));
    if let Body::Transmitted { .. } = recorded.what {
        // Where something was hidden, or TLS lay between, other lengths are written.
        for line in [&mut then, &mut now] {
            if let Value::Object(fields) = line {
                fields.retain(|name, _| matches!(&**name, "kind" | "conn"));
            }
        }
    }
    if (recorded.ns, recorded.epoch) != (replayed.ns, replayed.epoch) {
        let field = format!(
            "ns {} and epoch {}, instead of ns {} and epoch {}",
            replayed.ns, replayed.epoch, recorded.ns, recorded.epoch
        );
        let same = then.get("kind") == now.get("kind");
        return Some(same.then_some(field));
    }
    let mut path = String::new();
    if fits(&then, &now, &mut path) {
        return None;
    }
    let same = then.get("kind") == now.get("kind");
    Some((same && !path.is_empty()).then_some(path))
}

/// Whether `now` is what `then` says, up to what is hidden. `path` is where it is not.
fn fits(then: &Value, now: &Value, path: &mut String) -> bool {
    match (then, now) {
        (Value::String(then), Value::String(now)) => matches(then, now),
        (Value::Array(then), Value::Array(now)) => {
            then.len() == now.len()
                && then.iter().zip(now).enumerate().all(|(index, (then, now))| {
                    let before = path.len();
                    path.push_str(&format!("[{index}]"));
                    let fit = fits(then, now, path);
                    if fit {
                        path.truncate(before);
                    }
                    fit
                })
        }
        (Value::Object(then), Value::Object(now)) => {
            let names = then.keys().chain(now.keys().filter(|name| !then.contains_key(*name)));
            for name in names {
                let before = path.len();
                path.push('.');
                path.push_str(name);
                let absent = Value::Null;
                let fit = fits(then.get(name).unwrap_or(&absent), now.get(name).unwrap_or(&absent), path);
                if !fit {
                    return false;
                }
                path.truncate(before);
            }
            true
        }
        (then, now) => then == now,
    }
}

/// Whether a text is what was recorded, with anything in the place of each [`MARK`].
fn matches(then: &str, now: &str) -> bool {
    let mut parts = then.split(MARK);
    let Some(first) = parts.next() else { return then == now };
    let Some(mut rest) = now.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            match rest.find(before) {
                Some(at) => rest = &rest[at + before.len()..],
                None => return false,
            }
        }
    }
    match last {
        None => rest.is_empty(),
        Some(last) => rest.ends_with(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_may_be_anything() {
        for (then, now, fits) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a***c", "abbbc", true),
            ("a***c", "ac", true),
            ("a***c", "abbbd", false),
            ("***", "", true),
            ("x***y***z", "x1y2z", true),
            ("x***y***z", "x12z", false),
            ("***z", "1z2z", true),
        ] {
            assert_eq!(matches(then, now), fits, "{then:?} {now:?}");
        }
    }
}
