//! The beginning of the body of a refused response: it often says why.

use super::lines::Lines;
use super::response::Head;
use crate::ws::headers::Headers;

/// Reads a body up to its end or a limit.
///
/// This is for a person to read and the connection is given up afterwards, so that a malformed body is no error: what
/// came before is kept.
#[derive(Debug)]
pub(crate) struct BodyReader {
    kept: Vec<u8>,
    max_body: usize,
    /// How many bytes the framing of a chunked body may still take.
    max_framing: usize,
    /// Its position is how far the input has been read.
    lines: Lines,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Within data of which `left` bytes are to come; [`u64::MAX`] if only the end of the connection ends it.
    Data { left: u64, chunked: bool },
    /// Before the size of a chunk.
    ChunkSize,
    /// Before the line end that follows the data of a chunk.
    ChunkEnd,
    /// Nothing more to read.
    Done,
}

impl BodyReader {
    /// A reader for the body that follows `head`; keeps up to `max_body` bytes and reads up to `max_framing` bytes of
    /// chunk sizes and the like.
    pub(crate) fn new(head: &Head, max_body: usize, max_framing: usize) -> Self {
        let state = if matches!(head.status, 204 | 304) { State::Done } else { framing(&head.headers) };
        Self { kept: Vec::new(), max_body, max_framing, lines: Lines::new(head.end), state }
    }

    /// Reads on. `input` is all that was received on the connection. Says whether there is nothing more to wait for.
    pub(crate) fn read(&mut self, input: &[u8]) -> bool {
        while self.kept.len() < self.max_body {
            let next = match self.state {
                State::Done => return true,
                State::Data { left: 0, chunked } => Some(if chunked { State::ChunkEnd } else { State::Done }),
                State::Data { left, chunked } => self.read_data(input, left, chunked),
                State::ChunkSize => self.read_line(input, |line| match chunk_size(line) {
                    None | Some(0) => State::Done,
                    Some(left) => State::Data { left, chunked: true },
                }),
                State::ChunkEnd => {
                    self.read_line(input, |line| if line.is_empty() { State::ChunkSize } else { State::Done })
                }
            };
            match next {
                Some(state) => self.state = state,
                None => return false,
            }
        }
        true
    }

    /// Gives away what has been kept.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    fn read_data(&mut self, input: &[u8], left: u64, chunked: bool) -> Option<State> {
        let fresh = input.get(self.lines.position()..).unwrap_or_default();
        if fresh.is_empty() {
            return None;
        }
        let room = self.max_body - self.kept.len();
        let length = fresh.len().min(room).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.kept.extend_from_slice(&fresh[..length]);
        self.lines.skip(length);
        Some(State::Data { left: left - length as u64, chunked })
    }

    /// Reads a line of the framing, and what follows from it. The limit counts the bytes of the line as they come, so
    /// that it strikes for the same lines however they are cut.
    fn read_line(&mut self, input: &[u8], then: impl FnOnce(&[u8]) -> State) -> Option<State> {
        let start = self.lines.position();
        let line = self.lines.next(input);
        let end = if line.is_some() { self.lines.position() } else { input.len() };
        if end.saturating_sub(start) > self.max_framing {
            return Some(State::Done);
        }
        let line = line?;
        self.max_framing -= end - start;
        Some(then(&input[line]))
    }
}

/// How the end of the body is found (RFC 9112 section 6.3).
fn framing(headers: &Headers) -> State {
    let until_eof = State::Data { left: u64::MAX, chunked: false };
    if let Some(codings) = headers.all("transfer-encoding").last() {
        let last = codings.rsplit(',').next().unwrap_or_default();
        return if last.trim().eq_ignore_ascii_case("chunked") { State::ChunkSize } else { until_eof };
    }
    let Some(length) = headers.first("content-length") else { return until_eof };
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return until_eof;
    }
    // A length beyond all numbers is beyond all limits too.
    State::Data { left: length.parse().unwrap_or(u64::MAX), chunked: false }
}

/// The size in front of a chunk; extensions behind it do not matter (RFC 9112 section 7.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    // Up to 16 digits cannot overflow, and no honest chunk has more.
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |size, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(size * 16 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body that is kept and whether it was complete, the same for every cut.
    fn read(headers: &[(&str, &str)], max_body: usize, max_framing: usize, input: &[u8]) -> (String, bool) {
        let mut list = Headers::new();
        for &(name, value) in headers {
            list.append(name, value).unwrap();
        }
        let head = Head { status: 403, reason: String::new(), http_1_1: true, headers: list, end: 3 };
        let input = [b"...", input].concat();
        let mut results = (3..=input.len()).map(|cut| {
            let mut reader = BodyReader::new(&head, max_body, max_framing);
            let early = reader.read(&input[..cut]);
            let done = reader.read(&input);
            assert!(done || !early);
            (String::from_utf8(reader.take()).unwrap(), done)
        });
        let result = results.next().unwrap();
        for other in results {
            assert_eq!(other, result);
        }
        result
    }

    #[test]
    fn chunked() {
        let chunked = &[("Transfer-Encoding", "gzip, Chunked")];
        #[rustfmt::skip]
        let rows: [(&str, &str, bool); 15] = [
            ("3\r\nabc\r\n0\r\n\r\n", "abc", true),
            ("3\r\nabc\r\n0A\r\n0123456789\r\n000\r\n", "abc0123456789", true),
            ("3;name=value;x=\"y\"\r\nabc\r\n2 \t;\r\nde\r\n0\r\n", "abcde", true),
            ("3\nabc\n0\n", "abc", true),
            ("3\r\nabc\r\n", "abc", false),
            ("3\r\nab", "ab", false),
            ("ff", "", false),
            ("", "", false),
            ("3\r\nabcX\r\n1\r\nd\r\n", "abc", true),
            ("xyz\r\nabc", "", true),
            ("\r\nabc", "", true),
            ("-3\r\nabc", "", true),
            ("+3\r\nabc", "", true),
            ("fffffffffffffffff\r\nabc", "", true),
            ("ffffffffffffffff\r\nabc", "abc", false),
        ];
        for (input, body, complete) in rows {
            assert_eq!(read(chunked, 100, 100, input.as_bytes()), (body.to_owned(), complete), "{input:?}");
        }
        assert_eq!(read(chunked, 4, 100, b"3\r\nabc\r\n3\r\ndef\r\n"), ("abcd".to_owned(), true));
        assert_eq!(read(chunked, 3, 3, b"3\r\nabc"), ("abc".to_owned(), true));
        // One byte at a time, with a framing that is five times as long.
        let stingy = b"1\r\nx\r\n".repeat(50);
        assert_eq!(read(chunked, 100, 25, &stingy), ("xxxxx".to_owned(), true));
        assert_eq!(
            read(chunked, 100, 25, format!("1;{}", "x".repeat(100)).as_bytes()),
            (String::new(), true)
        );
        assert_eq!(read(chunked, 100, 25, format!("1;{}\r\nabc", "x".repeat(22)).as_bytes()).0, "");
        assert_eq!(read(chunked, 100, 25, format!("1;{}\r\nabc", "x".repeat(21)).as_bytes()).0, "a");
    }

    #[test]
    fn other_framings() {
        type Row = (&'static [(&'static str, &'static str)], &'static str, &'static str, bool);
        #[rustfmt::skip]
        let rows: [Row; 11] = [
            (&[("Content-Length", "3")], "abcdef", "abc", true),
            (&[("Content-Length", "3")], "ab", "ab", false),
            (&[("Content-Length", "0")], "abc", "", true),
            (&[("Content-Length", "100")], "0123456789", "01234567", true),
            (&[("Content-Length", "99999999999999999999999")], "0123456789", "01234567", true),
            (&[("Content-Length", "-1")], "abc", "abc", false),
            (&[("Content-Length", "+1")], "abc", "abc", false),
            (&[("Content-Length", "")], "abc", "abc", false),
            (&[("Content-Length", "1"), ("Transfer-Encoding", "gzip")], "abc", "abc", false),
            (&[("Content-Length", "9"), ("Transfer-Encoding", "chunked")], "1\r\na\r\n0\r\n", "a", true),
            (&[], "0123456789", "01234567", true),
        ];
        for (headers, input, body, complete) in rows {
            assert_eq!(read(headers, 8, 100, input.as_bytes()), (body.to_owned(), complete), "{headers:?}");
        }
        assert_eq!(read(&[], 0, 0, b""), (String::new(), true));
    }

    #[test]
    fn statuses_without_a_body() {
        for status in [204, 304] {
            let head =
                Head { status, reason: String::new(), http_1_1: true, headers: Headers::new(), end: 0 };
            assert!(BodyReader::new(&head, 8, 8).read(b""));
        }
    }
}
