//! Timestamps as venues write them, and what a client wrote.

use crate::sim;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// The time of day at a script's start, from which that of any moment follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wall(Duration);

/// That of a simulation.
impl Default for Wall {
    fn default() -> Self {
        Self::new(sim::start().system)
    }
}

impl Wall {
    /// From what [`Script::start`](crate::script::Script::start) is told.
    pub fn new(start: SystemTime) -> Self {
        Self(start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// Since the Unix epoch.
    pub fn since_epoch(&self, now: Duration) -> Duration {
        self.0.saturating_add(now)
    }

    /// Seconds since the Unix epoch.
    pub fn secs(&self, now: Duration) -> u64 {
        self.since_epoch(now).as_secs()
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(&self, now: Duration) -> u64 {
        u64::try_from(self.since_epoch(now).as_millis()).unwrap_or(u64::MAX)
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(&self, now: Duration) -> u64 {
        u64::try_from(self.since_epoch(now).as_micros()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds since the Unix epoch.
    pub fn nanos(&self, now: Duration) -> u64 {
        u64::try_from(self.since_epoch(now).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Such as `2026-01-01T00:00:00.000000Z` (RFC 3339), with so many digits of the second, up to 9.
    pub fn rfc3339(&self, now: Duration, digits: usize) -> String {
        let since = self.since_epoch(now);
        let (days, secs) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if digits > 0 {
            let fraction = format!("{:09}", since.subsec_nanos());
            text.push('.');
            text.push_str(&fraction[..digits.min(9)]);
        }
        text.push('Z');
        text
    }
}

/// The date of a day since 1970-01-01: year, month, day.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // Whole periods of the calendar first.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    loop {
        let len = if leap(year) { 366 } else { 365 };
        if days < len {
            break;
        }
        days -= len;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < len {
            break;
        }
        days -= len;
        month += 1;
    }
    (year, month, days + 1)
}

/// What a client wrote; `Null` if it is no JSON.
pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// The text at this place, such as `params.channel`; empty if there is none.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a str {
    let place = path.split('.').try_fold(value, |value, name| value.get(name));
    place.and_then(Value::as_str).unwrap_or_default()
}

/// The texts of a list; what is no text is left out.
pub fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A parameter in the query of a request's target, decoded (percent and plus).
pub fn query(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| decode(key) == name).map(|(_, value)| decode(value))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|hex| first == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = if escaped.is_some() { &after[2..] } else { after };
        bytes.push(escaped.unwrap_or(if first == b'+' { b' ' } else { first }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_time_of_day() {
        let wall = Wall::default();
        let now = Duration::new(3_723, 45_678_901);
        assert_eq!(wall.rfc3339(now, 6), "2026-01-01T01:02:03.045678Z");
        assert_eq!(wall.rfc3339(now, 0), "2026-01-01T01:02:03Z");
        assert_eq!((wall.millis(now), wall.secs(now)), (1_767_229_323_045, 1_767_229_323));
        assert_eq!((wall.micros(now), wall.nanos(now)), (1_767_229_323_045_678, 1_767_229_323_045_678_901));
        let day =
            |days: u64| Wall::new(SystemTime::UNIX_EPOCH).rfc3339(Duration::from_secs(days * 86_400), 0);
        let days = [(0, "1970-01-01"), (58, "1970-02-28"), (59, "1970-03-01"), (11_016, "2000-02-29")];
        let later =
            [(11_017, "2000-03-01"), (11_322, "2000-12-31"), (47_540, "2100-02-28"), (47_541, "2100-03-01")];
        for (days, date) in days.into_iter().chain(later) {
            assert_eq!(day(days), format!("{date}T00:00:00Z"));
        }
        assert_eq!(day(146_097), "2370-01-01T00:00:00Z");
    }

    #[test]
    fn what_a_client_wrote() {
        let value = parse(r#"{"a":{"b":"c","d":[1,"x","y"]}}"#);
        assert_eq!(
            (at(&value, "a.b"), at(&value, "a.x"), at(&value, "a.b.c"), at(&value, "a")),
            ("c", "", "", "")
        );
        assert_eq!((list(&value["a"]["d"]), list(&value["a"]["b"])), (vec!["x".into(), "y".into()], vec![]));
        assert_eq!((parse("{"), parse("1")), (Value::Null, json!(1)));
        let target = "/ws?token=a%2Fb%3D+c&flag&streams=x@y/z&bad=%zz%";
        assert_eq!(query(target, "token").as_deref(), Some("a/b= c"));
        assert_eq!(query(target, "streams").as_deref(), Some("x@y/z"));
        assert_eq!(
            (query(target, "flag").as_deref(), query(target, "bad").as_deref()),
            (Some(""), Some("%zz%"))
        );
        assert_eq!((query(target, "x"), query("/ws", "x")), (None, None));
    }
}
