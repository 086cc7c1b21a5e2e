//! Times and sizes as text.

use std::fmt;
use std::time::Duration;

/// Longest first. A year has no fixed length, so that the day is the longest.
const TIMES: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Largest first.
const SIZES: [(&str, u128); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A time in the longest unit that gives a whole number: `10s`, `1500ms`. [`parse_time`] reads it back.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        write(f, self.0.as_nanos(), &TIMES)
    }
}

/// A size in the largest unit that gives a whole number: `16KiB`, `1000B`. [`parse_size`] reads it back.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        write(f, u128::from(self.0), &SIZES)
    }
}

/// Reads `500ms`, `1.5s`, `10 s`. A number without a unit is none: seconds and milliseconds are confused too easily.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    let nanos = parse(text, &TIMES)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    // A remainder of a division by a billion fits.
    Some(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// Reads `16KiB`, `1.5MiB`, `1000B`, `1000`. `KB` and `MB` are refused: to some they are 1000, to others 1024.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let bytes = match text.trim().parse() {
        Ok(bytes) => bytes,
        Err(_) => parse(text, &SIZES)?,
    };
    u64::try_from(bytes).ok()
}

fn write(f: &mut fmt::Formatter<'_>, amount: u128, units: &[(&str, u128)]) -> fmt::Result {
    match units.iter().find(|(_, size)| amount.is_multiple_of(*size)) {
        Some((unit, size)) => write!(f, "{}{unit}", amount / size),
        // The last unit is 1.
        None => write!(f, "{amount}"),
    }
}

/// Digits, perhaps a fraction, a unit. `None` for anything else, for parts of the smallest unit, and for what is too large to compute.
fn parse(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
    let (_, size) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let whole: u128 = whole.parse().ok()?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let fraction = fraction.checked_mul(*size)?;
    if !fraction.is_multiple_of(scale) {
        return None;
    }
    whole.checked_mul(*size)?.checked_add(fraction / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let ms = Duration::from_millis;
        let rows = [
            ("500ms", Some(ms(500))),
            ("10s", Some(ms(10_000))),
            (" 10 s ", Some(ms(10_000))),
            ("1.5s", Some(ms(1500))),
            ("0s", Some(ms(0))),
            ("5m", Some(ms(300_000))),
            ("1h", Some(ms(3_600_000))),
            ("2d", Some(ms(2 * 86_400_000))),
            ("7us", Some(Duration::from_micros(7))),
            ("7ns", Some(Duration::from_nanos(7))),
            ("0.5ns", None),
            ("10", None),
            ("", None),
            ("s", None),
            (".5s", None),
            ("5.s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("+1s", None),
            ("1e3s", None),
            ("10 parsecs", None),
            ("1m30s", None),
            ("10S", None),
            ("1\u{b5}s", None),
            ("340282366920938463463374607431768211455s", None),
            ("18446744073709551616s", None),
            ("1.00000000000000000000000000000000000000000s", None),
        ];
        for (text, time) in rows {
            assert_eq!(parse_time(text), time, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        let rows = [
            ("16KiB", Some(16 << 10)),
            ("4 MiB", Some(4 << 20)),
            ("1.5KiB", Some(1536)),
            ("1GiB", Some(1 << 30)),
            ("2TiB", Some(2 << 40)),
            ("1000B", Some(1000)),
            ("1000", Some(1000)),
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1.5B", None),
            ("16KB", None),
            ("16kib", None),
            ("-1", None),
            ("", None),
            ("99999999999999999999999999TiB", None),
        ];
        for (text, size) in rows {
            assert_eq!(parse_size(text), size, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let shown = [
            (0, "0s"),
            (1, "1ns"),
            (1_500_000_000, "1500ms"),
            (90_000_000_000, "90s"),
            (86_400_000_000_000, "1d"),
        ];
        for (nanos, text) in shown {
            assert_eq!(Time(Duration::from_nanos(nanos)).to_string(), text);
        }
        for (bytes, text) in
            [(0, "0B"), (1, "1B"), (1000, "1000B"), (1024, "1KiB"), (5 << 20, "5MiB"), (1 << 40, "1TiB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
        }
        let mut number = 1u64;
        for step in 0..500u64 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step | 1);
            let number = number >> (step % 64);
            assert_eq!(parse_size(&Size(number).to_string()), Some(number));
            let time = Duration::from_nanos(number);
            assert_eq!(parse_time(&Time(time).to_string()), Some(time));
        }
        assert_eq!(parse_time(&Time(Duration::MAX).to_string()), Some(Duration::MAX));
    }
}
