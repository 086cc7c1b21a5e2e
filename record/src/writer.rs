//! Entries to files, in a thread of its own.

use crate::encode::Encoder;
use crate::line::{Body, Header, Line};
use crate::redact::Redaction;
use everwire_core::record::{Entry, Recorder};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How a record is written.
///
/// ```no_run
/// use everwire_core::Config;
/// use everwire_record::Recording;
/// use std::time::Duration;
///
/// let recorder = Recording::new().rotate_size(64 << 20).rotate_after(Duration::from_secs(3600)).create("feed.jsonl")?;
/// let config = Config::new("wss://feed.example.com/ws")?.recorder(recorder.clone());
/// // ... run it with any driver; then:
/// let status = recorder.finish();
/// println!("{} lines, {} dropped", status.lines, status.dropped);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Recording {
    memory: usize,
    flush: Duration,
    size: Option<u64>,
    age: Option<Duration>,
    redaction: Redaction,
    overwrite: bool,
    #[cfg(feature = "zstd")]
    zstd: Option<i32>,
}

impl Default for Recording {
    fn default() -> Self {
        Self::new()
    }
}

impl Recording {
    /// What is written without further words: one file that grows, flushed every 200 ms, with the default [`Redaction`] and 16 MiB of memory at most
    /// for what is not written yet.
    pub fn new() -> Self {
        Self {
            memory: 16 << 20,
            flush: Duration::from_millis(200),
            size: None,
            age: None,
            redaction: Redaction::new(),
            overwrite: false,
            #[cfg(feature = "zstd")]
            zstd: None,
        }
    }

    /// Bytes of entries that may wait for the writer, 64 KiB at least. Default 16 MiB. An entry that does not fit is dropped, and the record says how
    /// many are missing where they are: the session never waits for a disk.
    pub fn memory(self, bytes: usize) -> Self {
        Self { memory: bytes.max(64 << 10), ..self }
    }

    /// How long a line may wait before it is handed to the operating system. Default 200 ms; 1 ms at least. What a crash of the process takes is not
    /// more than that. A crash of the machine may take what the operating system had not written: nothing is forced to the disk.
    pub fn flush_after(self, time: Duration) -> Self {
        Self { flush: time.max(Duration::from_millis(1)), ..self }
    }

    /// Goes on in another file when one has this many bytes of lines (before compression), 4 KiB at least. Default: never.
    pub fn rotate_size(self, bytes: u64) -> Self {
        Self { size: Some(bytes.max(4096)), ..self }
    }

    /// Goes on in another file when one is this old, 1 s at least, and there is something to be written. Default: never.
    pub fn rotate_after(self, age: Duration) -> Self {
        Self { age: Some(age.max(Duration::from_secs(1))), ..self }
    }

    /// What is taken out. Default: [`Redaction::new`].
    pub fn redaction(self, redaction: Redaction) -> Self {
        Self { redaction, ..self }
    }

    /// Whether a file of that name may be replaced. Default: no, that is an error.
    pub fn overwrite(self, overwrite: bool) -> Self {
        Self { overwrite, ..self }
    }

    /// Compresses, at this level: 1 to 19. Give the file a name that ends in `.zst`.
    #[cfg(feature = "zstd")]
    pub fn zstd(self, level: i32) -> Self {
        Self { zstd: Some(level.clamp(1, 19)), ..self }
    }

    /// Creates the file, and starts the writer. The record has more files if it is rotated: see [`part_path`].
    ///
    /// # Errors
    /// The file exists already, or cannot be made.
    pub fn create(self, path: impl AsRef<Path>) -> io::Result<Arc<FileRecorder>> {
        let path = path.as_ref().to_path_buf();
        let out = Out::create(&path, 0, &self)?;
        let (sender, receiver) = mpsc::channel();
        let shared = Arc::new(Mutex::new(State { sender: Some(sender), ..State::default() }));
        let writer = Writer {
            path,
            header: None,
            out,
            opened: Instant::now(),
            part: 0,
            bytes: 0,
            shared: shared.clone(),
            buffer: Vec::new(),
            first: None,
            failed: false,
            options: self.clone(),
        };
        let name = "everwire-record".to_owned();
        let thread = thread::Builder::new().name(name).spawn(move || writer.run(&receiver))?;
        Ok(Arc::new(FileRecorder { shared, memory: self.memory, thread: Mutex::new(Some(thread)) }))
    }
}

/// The path of a part of a record: of `feed.jsonl` the parts are `feed.jsonl`, `feed.1.jsonl`, `feed.2.jsonl`, and so on.
pub fn part_path(path: &Path, part: u32) -> PathBuf {
    if part == 0 {
        return path.to_path_buf();
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = match name.split_once('.') {
        Some((stem, ending)) if !stem.is_empty() => format!("{stem}.{part}.{ending}"),
        _ => format!("{name}.{part}"),
    };
    path.with_file_name(name)
}

/// Writes what one session does to files. It never makes that session wait.
///
/// It belongs to the first session that tells it something; what another one tells is not written, and counted.
pub struct FileRecorder {
    shared: Arc<Mutex<State>>,
    memory: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How a record stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RecordStatus {
    /// Lines that were written.
    pub lines: u64,
    /// Bytes of them, before compression.
    pub bytes: u64,
    /// Entries that did not fit into the memory that the writer may use, or came when it had failed.
    pub dropped: u64,
    /// Entries of other sessions.
    pub foreign: u64,
    /// Files.
    pub parts: u32,
    /// Why the writer gave up.
    pub error: Option<String>,
}

#[derive(Default)]
struct State {
    sender: Option<Sender<Line>>,
    encoder: Encoder,
    session: Option<u64>,
    /// Bytes that wait for the writer.
    waiting: usize,
    /// Entries that were dropped and are to be told of.
    untold: u64,
    status: RecordStatus,
}

/// What a line takes besides its texts.
const OVERHEAD: usize = 256;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Counters, whatever panicked.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(line: &Line) -> usize {
    let texts = match &line.what {
        Body::Frame(frame) => frame.payload.as_str().len(),
        Body::Send { payload, .. }
        | Body::HandshakeRequest { payload, .. }
        | Body::HandshakeResponse { payload, .. } => payload.as_str().len(),
        Body::Request { method, params, .. } | Body::Notify { method, params, .. } => {
            method.len() + params.as_ref().map_or(0, String::len)
        }
        Body::Batch { requests, .. } => requests
            .iter()
            .map(|(method, params)| 48 + method.len() + params.as_ref().map_or(0, String::len))
            .sum(),
        Body::Event { event } => ["data", "result", "params", "text"]
            .iter()
            .filter_map(|name| event.get(name)?.as_str())
            .map(str::len)
            .sum(),
        _ => 0,
    };
    texts + OVERHEAD
}

impl Recorder for FileRecorder {
    fn record(&self, entry: &Entry<'_>) {
        let mut state = lock(&self.shared);
        let session = *state.session.get_or_insert(entry.session);
        if session != entry.session {
            state.status.foreign += 1;
            return;
        }
        let Some(line) = state.encoder.line(entry) else { return };
        let size = size(&line);
        if state.status.error.is_some() || state.waiting + size + OVERHEAD > self.memory {
            (state.untold, state.status.dropped) = (state.untold + 1, state.status.dropped + 1);
            return;
        }
        let untold = std::mem::take(&mut state.untold);
        let Some(sender) = state.sender.clone() else { return };
        let mut waiting = size;
        if untold > 0 {
            let missing = Line { what: Body::Dropped { count: untold }, ..line.clone() };
            waiting += OVERHEAD;
            let _gone = sender.send(missing);
        }
        state.waiting += waiting;
        // It fails only when the writer is gone, and that is in the status.
        let _gone = sender.send(line);
    }
}

impl FileRecorder {
    /// How it stands.
    pub fn status(&self) -> RecordStatus {
        lock(&self.shared).status.clone()
    }

    /// Writes all that waits, and ends the record: what a session tells from now on is not written. It waits for the writer, so call it when the
    /// session is over.
    pub fn finish(&self) -> RecordStatus {
        drop(lock(&self.shared).sender.take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _panicked = thread.join();
        }
        self.status()
    }
}

impl Drop for FileRecorder {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for FileRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRecorder").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A file that is being written.
enum Out {
    Plain(File),
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::write::Encoder<'static, File>),
}

impl Out {
    fn create(path: &Path, part: u32, options: &Recording) -> io::Result<Self> {
        let path = part_path(path, part);
        let mut how = OpenOptions::new();
        how.write(true);
        if options.overwrite {
            how.create(true).truncate(true)
        } else {
            how.create_new(true)
        };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = how.open(&path).map_err(named)?;
        if options.overwrite {
            // A part of an older record that would follow.
            let _none = fs::remove_file(part_path(&path, part + 1)).ok();
        }
        #[cfg(feature = "zstd")]
        if let Some(level) = options.zstd {
            return Ok(Self::Zstd(zstd::stream::write::Encoder::new(file, level)?));
        }
        Ok(Self::Plain(file))
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(lines),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.write_all(lines).and_then(|()| encoder.flush()),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.finish().map(drop),
        }
    }
}

/// The thread.
struct Writer {
    path: PathBuf,
    options: Recording,
    out: Out,
    opened: Instant,
    part: u32,
    /// Of this part.
    bytes: u64,
    header: Option<Line>,
    shared: Arc<Mutex<State>>,
    /// Whole lines that are not written yet, and since when.
    buffer: Vec<u8>,
    first: Option<Instant>,
    failed: bool,
}

impl Writer {
    /// Lines of so many bytes are written without waiting for more.
    const CHUNK: usize = 64 << 10;

    fn run(mut self, lines: &Receiver<Line>) {
        let mut last = None;
        loop {
            let wait = self.first.map_or(Duration::from_secs(3600), |first| {
                self.options.flush.saturating_sub(first.elapsed())
            });
            match lines.recv_timeout(wait) {
                Ok(line) => {
                    last = Some((line.ns, line.ts.clone(), line.epoch));
                    let taken = size(&line);
                    self.put(line);
                    let mut state = lock(&self.shared);
                    state.waiting = state.waiting.saturating_sub(taken);
                    drop(state);
                    if self.buffer.len() >= Self::CHUNK
                        || self.first.is_some_and(|first| first.elapsed() >= self.options.flush)
                    {
                        self.flush();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let untold = lock(&self.shared).untold;
        if let Some((ns, ts, epoch)) = last {
            if untold > 0 {
                self.append(&Line { ns, ts: ts.clone(), epoch, what: Body::Dropped { count: untold } });
            }
            self.append(&Line { ns, ts, epoch, what: Body::End });
        }
        self.flush();
        if let Err(error) = self.out.finish() {
            lock(&self.shared).status.error.get_or_insert_with(|| error.to_string());
        }
    }

    fn put(&mut self, mut line: Line) {
        self.options.redaction.apply(&mut line);
        let full = self.options.size.is_some_and(|size| self.bytes >= size);
        let old = self.options.age.is_some_and(|age| self.opened.elapsed() >= age);
        if (full || old) && self.bytes > 0 {
            self.rotate();
        }
        if let Body::Header(_) = &line.what {
            self.header = Some(line.clone());
        }
        self.append(&line);
    }

    fn append(&mut self, line: &Line) {
        if self.failed {
            lock(&self.shared).status.dropped += 1;
            return;
        }
        let before = self.buffer.len();
        if serde_json::to_writer(&mut self.buffer, line).is_err() {
            // Nothing that a line holds can fail to be JSON; if it does, none of it may stay.
            self.buffer.truncate(before);
            return;
        }
        self.buffer.push(b'\n');
        let len = (self.buffer.len() - before) as u64;
        self.bytes += len;
        self.first.get_or_insert_with(Instant::now);
        let mut state = lock(&self.shared);
        state.status.lines += 1;
        state.status.bytes += len;
        state.status.parts = self.part + 1;
    }

    fn flush(&mut self) {
        self.first = None;
        if self.buffer.is_empty() {
            return;
        }
        let result = self.out.write(&self.buffer);
        self.buffer.clear();
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        lock(&self.shared).status.error.get_or_insert_with(|| error.to_string());
    }

    /// Goes on in the next file, which begins with the header too.
    fn rotate(&mut self) {
        self.flush();
        let part = self.part + 1;
        match Out::create(&self.path, part, &self.options) {
            Ok(out) => {
                let done = std::mem::replace(&mut self.out, out);
                if let Err(error) = done.finish() {
                    self.fail(&error);
                }
                (self.part, self.bytes, self.opened) = (part, 0, Instant::now());
                if let Some(Line { what: Body::Header(header), ns, ts, epoch }) = self.header.clone() {
                    let header = Header { part, config: serde_json::Value::Null, ..header };
                    self.append(&Line { ns, ts, epoch, what: Body::Header(header) });
                }
            }
            Err(error) => self.fail(&error),
        }
    }
}
