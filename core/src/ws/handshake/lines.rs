//! Finding lines in a buffer that grows.

use std::ops::Range;

/// Cuts a growing buffer into lines, and looks at each byte once however often it is asked.
#[derive(Debug)]
pub(super) struct Lines {
    /// Where the current line begins.
    start: usize,
    /// No line feed from `start` to here.
    scanned: usize,
}

impl Lines {
    /// Lines that begin at offset `start` of the buffer.
    pub(super) fn new(start: usize) -> Self {
        Self { start, scanned: start }
    }

    /// Where the next line begins: behind the last one that was returned.
    pub(super) fn position(&self) -> usize {
        self.start
    }

    /// Moves the beginning of the next line by `len` bytes, which are no line.
    pub(super) fn skip(&mut self, len: usize) {
        *self = Self::new(self.start.saturating_add(len));
    }

    /// The next line that is complete, without its end, which is CRLF or LF (RFC 9112 section 2.2).
    pub(super) fn next(&mut self, input: &[u8]) -> Option<Range<usize>> {
        let fresh = input.get(self.scanned..)?;
        let Some(length) = fresh.iter().position(|&byte| byte == b'\n') else {
            self.scanned = input.len();
            return None;
        };
        let (start, feed) = (self.start, self.scanned + length);
        *self = Self::new(feed + 1);
        let end = if input[start..feed].ends_with(b"\r") { feed - 1 } else { feed };
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_every_cut() {
        let input = b"one\r\n\ntwo\r\r\n\r\n\rthree\nrest";
        let expected: [&[u8]; 6] = [b"one", b"", b"two\r", b"", b"\rthree", b"rest"];
        for cut in 0..=input.len() {
            let mut lines = Lines::new(0);
            let mut found: Vec<&[u8]> = Vec::new();
            for part in [&input[..cut], &input[..]] {
                while let Some(line) = lines.next(part) {
                    found.push(&input[line]);
                }
            }
            found.push(&input[lines.position()..]);
            assert_eq!(found, expected, "cut at {cut}");
        }
    }

    #[test]
    fn skips_and_survives_a_buffer_that_shrinks() {
        let mut lines = Lines::new(2);
        lines.skip(1);
        assert_eq!(lines.next(b"\n\n\nab\n"), Some(3..5));
        assert_eq!(lines.next(b"\n\n\nab\ncd"), None);
        assert_eq!(lines.next(b"\n"), None);
        assert_eq!(lines.next(b"\n\n\nab\ncd\n"), Some(6..8));
        lines.skip(usize::MAX);
        assert_eq!(lines.next(b"\n\n"), None);
    }
}
