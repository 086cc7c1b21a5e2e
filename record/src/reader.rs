//! Records from files.

use crate::line::{Body, Direction, FrameLine, Header, Kind, Line};
use crate::text::{Payload, read_stamp};
use crate::writer::part_path;
use serde::Deserialize;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why a record cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line is none of a record.
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        error: String,
    },
    /// A newer form than this version knows.
    Version {
        /// The form's version.
        found: u32,
    },
    /// It is compressed, and this build has no zstd.
    Compressed {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Line { path, line, error } => {
                write!(f, "{}:{line}: it is no line of a record: {error}", path.display())
            }
            Self::Version { found } => {
                let known = crate::VERSION;
                write!(f, "the record has form {found}, and this version knows {known}: use a newer one")
            }
            Self::Compressed { path } => {
                write!(f, "{}: it is compressed: build with the feature `zstd`", path.display())
            }
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The last line of a file that was cut in the middle of it: by a crash, or because it is still being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: u64,
    /// How much of it there is, in bytes.
    pub bytes: usize,
}

/// Reads the lines of a record, all of its parts, compressed ones too (with the feature `zstd`). Empty lines are skipped.
///
/// It reads the lines of ZenWebsocket's recorder as well: `ts`, `dir`, `type`, `data`, and `binary` for base64. As those have only wall time, `ns`
/// counts from the first line there, and there is no [header](Self::header).
///
/// A last line that is not whole is no error: it is left out, and [told](Self::torn).
pub struct Reader {
    base: PathBuf,
    part: u32,
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    line: u64,
    header: Option<Header>,
    torn: Option<Torn>,
    /// When the first line of a record without a header was.
    first: Option<SystemTime>,
    over: bool,
    buffer: Vec<u8>,
    /// A line that was read to see the header.
    ahead: Option<Line>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

/// A line of ZenWebsocket's.
#[derive(Deserialize)]
struct Zen {
    ts: String,
    dir: Direction,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(flatten)]
    payload: Payload,
}

impl Reader {
    /// The longest line that is read: 256 MiB.
    const LONGEST: u64 = 256 << 20;

    /// Opens a record by its first file.
    ///
    /// # Errors
    /// The file cannot be read, or its first line is none of a record.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let base = path.as_ref().to_path_buf();
        let mut reader = Self {
            input: input(&base)?,
            path: base.clone(),
            base,
            part: 0,
            line: 0,
            header: None,
            torn: None,
            first: None,
            over: false,
            buffer: Vec::new(),
            ahead: None,
        };
        let first = reader.next_line()?;
        if let Some(Line { what: Body::Header(header), .. }) = &first {
            reader.header = Some(header.clone());
        }
        reader.ahead = first;
        Ok(reader)
    }

    /// The header, if there is one.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The line that was read last, counted from 1 in its [file](Self::path).
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The file that is being read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last line of the last file, if it was cut. Known once all lines are read.
    pub fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        if let Some(line) = self.ahead.take() {
            return Ok(Some(line));
        }
        while !self.over {
            self.buffer.clear();
            let read = self.input.by_ref().take(Self::LONGEST).read_until(b'\n', &mut self.buffer);
            // A compressed file that was cut has no end.
            let cut = matches!(&read, Err(error) if error.kind() == io::ErrorKind::UnexpectedEof);
            if let Err(error) = read
                && !cut
            {
                self.over = true;
                return Err(ReadError::Io { path: self.path.clone(), error });
            }
            if self.buffer.last() != Some(&b'\n') {
                if self.buffer.len() as u64 == Self::LONGEST {
                    self.over = true;
                    return Err(self.broken("it is longer than 256 MiB"));
                }
                // Its end may be missing, or only the end of its last line.
                let rest = std::mem::take(&mut self.buffer);
                if !rest.iter().all(u8::is_ascii_whitespace) {
                    self.line += 1;
                    if let Ok(line) = self.parse(&rest) {
                        self.buffer.clear();
                        return Ok(Some(line));
                    }
                    self.torn = Some(Torn { path: self.path.clone(), line: self.line, bytes: rest.len() });
                }
                self.go_on()?;
                continue;
            }
            self.line += 1;
            let buffer = std::mem::take(&mut self.buffer);
            if buffer.iter().all(u8::is_ascii_whitespace) {
                self.buffer = buffer;
                continue;
            }
            let line = self.parse(&buffer);
            self.buffer = buffer;
            return match line {
                Ok(line) => {
                    if let Body::Header(header) = &line.what
                        && header.part > 0
                        && self.header.is_some()
                    {
                        // The head of a further part says nothing new.
                        continue;
                    }
                    Ok(Some(line))
                }
                Err(error) => {
                    self.over = true;
                    Err(error)
                }
            };
        }
        Ok(None)
    }

    /// Goes on in the next part, if there is one.
    fn go_on(&mut self) -> Result<(), ReadError> {
        let path = part_path(&self.base, self.part + 1);
        if self.header.is_none() || !path.exists() {
            self.over = true;
            return Ok(());
        }
        self.input = input(&path)?;
        (self.path, self.part, self.line) = (path, self.part + 1, 0);
        Ok(())
    }

    fn broken(&self, error: impl Into<String>) -> ReadError {
        ReadError::Line { path: self.path.clone(), line: self.line, error: error.into() }
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<Line, ReadError> {
        let ours = match serde_json::from_slice::<Line>(bytes) {
            Ok(line) => {
                if let Body::Header(Header { version, .. }) = &line.what
                    && *version > crate::VERSION
                {
                    return Err(ReadError::Version { found: *version });
                }
                return Ok(line);
            }
            Err(error) => error,
        };
        let Ok(zen) = serde_json::from_slice::<Zen>(bytes) else { return Err(self.broken(ours.to_string())) };
        let Some(at) = read_stamp(&zen.ts) else {
            return Err(self.broken("`ts` is no time in ISO 8601, UTC"));
        };
        let first = *self.first.get_or_insert(at);
        let ns = crate::line::nanos(at.duration_since(first).unwrap_or_default());
        let frame = FrameLine { conn: 0, dir: zen.dir, kind: zen.kind, payload: zen.payload, last: None };
        Ok(Line { ns, ts: zen.ts, epoch: 0, what: Body::Frame(frame) })
    }
}

impl Iterator for Reader {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_line().transpose()
    }
}

/// What a frame of zstd begins with (RFC 8878 section 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn input(path: &Path) -> Result<Box<dyn BufRead + Send>, ReadError> {
    let named = |error| ReadError::Io { path: path.to_path_buf(), error };
    let mut file = BufReader::with_capacity(64 << 10, File::open(path).map_err(named)?);
    if file.fill_buf().map_err(named)?.starts_with(&ZSTD) {
        #[cfg(feature = "zstd")]
        {
            let decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(named)?;
            return Ok(Box::new(BufReader::with_capacity(64 << 10, decoder)));
        }
        #[cfg(not(feature = "zstd"))]
        return Err(ReadError::Compressed { path: path.to_path_buf() });
    }
    Ok(Box::new(file))
}
