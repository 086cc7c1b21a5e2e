//! A record, line by line, at the speed that it had or another one.

use crate::line::Line;
use crate::reader::{ReadError, Reader};
use std::time::{Duration, Instant};

/// How fast a record is told again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// Without waiting.
    AsFast,
    /// So many times as fast as it was: 1 is as it was. What is not more than 0 counts as 1.
    Times(f64),
}

/// Tells each line of a record, at its time. `told` says whether to go on. How many lines were told.
///
/// ```
/// use everwire_record::{Body, Reader, Speed, replay};
///
/// let record = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/records/reconnect.jsonl");
/// let mut texts = 0;
/// replay(Reader::open(record)?, Speed::AsFast, |line| {
///     texts += usize::from(matches!(&line.what, Body::Frame(_)));
///     true
/// })?;
/// assert!(texts > 5);
/// # Ok::<(), everwire_record::ReadError>(())
/// ```
///
/// # Errors
/// The record cannot be read further. What was before that was told.
pub fn replay(reader: Reader, speed: Speed, told: impl FnMut(&Line) -> bool) -> Result<u64, ReadError> {
    let start = Instant::now();
    paced(reader, speed, told, |at| {
        let elapsed = start.elapsed();
        if at > elapsed {
            std::thread::sleep(at - elapsed);
        }
    })
}

/// The same, with a `wait` until so much time has passed since the start.
pub(crate) fn paced(
    reader: Reader,
    speed: Speed,
    mut told: impl FnMut(&Line) -> bool,
    mut wait: impl FnMut(Duration),
) -> Result<u64, ReadError> {
    let (mut first, mut count) = (None, 0);
    for line in reader {
        let line = line?;
        if let Speed::Times(times) = speed {
            let times = if times > 0.0 { times } else { 1.0 };
            let since = line.ns.saturating_sub(*first.get_or_insert(line.ns));
            // A record may say anything: what is not a time is no time.
            wait(Duration::try_from_secs_f64(since as f64 / 1e9 / times).unwrap_or_default());
        }
        count += 1;
        if !told(&line) {
            break;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_as_fast_as_it_should() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/records/zen.jsonl");
        for (speed, expected) in [
            (Speed::Times(1.0), &[0, 250, 1000, 2500][..]),
            (Speed::Times(10.0), &[0, 25, 100, 250]),
            (Speed::Times(0.5), &[0, 500, 2000, 5000]),
            (Speed::Times(-1.0), &[0, 250, 1000, 2500]),
            (Speed::AsFast, &[]),
        ] {
            let mut waits = Vec::new();
            let reader = Reader::open(path).expect("it is there");
            let count = paced(reader, speed, |_| true, |at| waits.push(at.as_millis())).expect("it is whole");
            assert_eq!((count, &waits[..]), (4, expected), "{speed:?}");
        }
        let reader = Reader::open(path).expect("it is there");
        assert_eq!(replay(reader, Speed::AsFast, |_| false).expect("it is whole"), 1, "stops when told to");
    }
}
