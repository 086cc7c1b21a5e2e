//! The reader of records, on any lines.
//!
//! Input: the file. What is read can be written, and is read again, line by line; reading ends, with what is left told.

use everwire_record::{Line, Reader};
use std::path::PathBuf;

pub fn run(data: &[u8]) {
    let first = read(data);
    let written: String = first
        .iter()
        .map(|line| serde_json::to_string(line).expect("a line that was read can be written") + "\n")
        .collect();
    let again = read(written.as_bytes());
    // Not all of it: numbers with a fraction, such as in a header's configuration, are read to the last digit but one.
    let places = |lines: &[Line]| -> Vec<(u64, String, u64)> {
        lines.iter().map(|line| (line.ns, line.ts.clone(), line.epoch)).collect()
    };
    assert_eq!(places(&first), places(&again), "written: {written}");
}

/// All lines up to the first that is none.
fn read(data: &[u8]) -> Vec<Line> {
    let path = path();
    std::fs::write(&path, data).expect("a file in memory can be written");
    let Ok(mut reader) = Reader::open(&path) else { return Vec::new() };
    let mut lines = Vec::new();
    for line in &mut reader {
        match line {
            Ok(line) => lines.push(line),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
        assert!(lines.len() <= data.len(), "more lines than bytes");
    }
    if let Some(torn) = reader.torn() {
        assert!(torn.bytes > 0 && torn.bytes <= data.len(), "{torn:?}");
    }
    lines
}

/// One file for a thread, in memory if there is such a place.
fn path() -> PathBuf {
    let place = PathBuf::from("/dev/shm");
    let place = if place.is_dir() { place } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id());
    let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
    place.join(format!("everwire-fuzz-{}-{digits}.jsonl", std::process::id()))
}
