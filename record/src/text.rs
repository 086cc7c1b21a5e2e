//! Bytes and times as texts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// Text, or bytes as base64.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Payload {
    /// The text, or base64.
    pub(crate) data: String,
    #[serde(default, skip_serializing_if = "is_false")]
    binary: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Payload {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { data: text.into(), binary: false }
    }

    /// Bytes.
    pub fn binary(bytes: &[u8]) -> Self {
        Self { data: STANDARD.encode(bytes), binary: true }
    }

    /// A text if it is one, otherwise bytes.
    pub fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::binary(bytes), Self::text)
    }

    /// The text, or base64.
    pub fn as_str(&self) -> &str {
        &self.data
    }

    /// Whether it is base64.
    pub fn is_binary(&self) -> bool {
        self.binary
    }

    /// What it stands for; `None` if it is no base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        if self.binary { STANDARD.decode(&self.data).ok() } else { Some(self.data.clone().into_bytes()) }
    }
}

/// RFC 3339 in UTC with microseconds.
pub(crate) fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// Reads what [`stamp`] writes, with any number of decimals and `+00:00` for `Z` too. `None` for anything else.
pub(crate) fn read_stamp(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// Days since 1970-01-01 as a date of the Gregorian calendar: eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// The reverse of [`civil`].
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(stamp(time), text);
            assert_eq!(read_stamp(text), Some(time));
        }
        // Each day of four centuries is one after the day before.
        for day in 0..146_097 {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
        let elixir = read_stamp("2024-01-02T03:04:05.678901Z").expect("as DateTime.to_iso8601 writes it");
        assert_eq!(stamp(elixir), "2024-01-02T03:04:05.678901Z");
        let text = "2024-01-02T03:04:05.6+00:00";
        assert_eq!(read_stamp(text).map(stamp).as_deref(), Some("2024-01-02T03:04:05.600000Z"));
        for wrong in ["", "Z", "2024-01-02", "2024-13-02T03:04:05Z", "2024-01-02T03:04:05.xZ", "1-1-1T0:0:0Z"]
        {
            assert_eq!(read_stamp(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn bytes_survive() {
        for bytes in [&b""[..], b"text", &[0xff, 0, 1], "\u{e9}".as_bytes()] {
            assert_eq!(Payload::of(bytes).bytes().as_deref(), Some(bytes));
            assert_eq!(Payload::binary(bytes).bytes().as_deref(), Some(bytes));
        }
        let wrong = Payload { data: "***".to_owned(), binary: true };
        assert_eq!(wrong.bytes(), None);
    }
}
