//! The `Retry-After` header (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime};

/// When a server that refused wants to be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// So many seconds after the response.
    Seconds(u64),
    /// Not before this point of wall time.
    At(SystemTime),
}

impl RetryAfter {
    /// The longest that [`delay`](Self::delay) returns: 366 days. A peer chooses the number, and sums with it must
    /// not overflow.
    pub const MAX_DELAY: Duration = Duration::from_secs(366 * 24 * 60 * 60);

    /// Parses the value of the header: a number of seconds, or a date in one of the three forms of RFC 9110 section
    /// 5.6.7. `None` if it is neither.
    ///
    /// The two-digit years of the RFC 850 form are those from 1970 to 2069.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim_matches([' ', '\t']);
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::Seconds(value.parse().unwrap_or(u64::MAX)));
        }
        let seconds = imf_fixdate(value).or_else(|| rfc850_date(value)).or_else(|| asctime_date(value))?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map(Self::At)
    }

    /// How long to wait if it is `wall_now` now: zero if the time has passed, at most
    /// [`MAX_DELAY`](Self::MAX_DELAY).
    #[must_use]
    pub fn delay(self, wall_now: SystemTime) -> Duration {
        let delay = match self {
            Self::Seconds(seconds) => Duration::from_secs(seconds),
            Self::At(time) => time.duration_since(wall_now).unwrap_or_default(),
        };
        delay.min(Self::MAX_DELAY)
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// The three forms, in seconds since 1970. Whether the day of the week fits the date is not checked: it says nothing
// that the date does not say.

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &str) -> Option<u64> {
    let (day_name, rest) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let [day, month, year, time] = exactly(rest.split(' '))?;
    DAYS.contains(&day_name).then_some(())?;
    seconds(number(year, 4)?, month, number(day, 2)?, time)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850_date(text: &str) -> Option<u64> {
    let (day_name, rest) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let [date, time] = exactly(rest.split(' '))?;
    let [day, month, year] = exactly(date.split('-'))?;
    LONG_DAYS.contains(&day_name).then_some(())?;
    // The standard would have us compare with the current year; a fixed window needs no clock and is right until 2069.
    let year = number(year, 2)?;
    let century = if year < 70 { 2000 } else { 1900 };
    seconds(century + year, month, number(day, 2)?, time)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime_date(text: &str) -> Option<u64> {
    let (day_name, rest) = text.split_once(' ')?;
    let (month, rest) = rest.split_once(' ')?;
    let (day, rest) = (rest.get(..2)?, rest.get(2..)?.strip_prefix(' ')?);
    let (time, year) = rest.split_once(' ')?;
    DAYS.contains(&day_name).then_some(())?;
    let day = match day.strip_prefix(' ') {
        Some(digit) => number(digit, 1)?,
        None => number(day, 2)?,
    };
    seconds(number(year, 4)?, month, day, time)
}

/// Seconds from the beginning of 1970 to a date in it or later; `None` if there is no such date.
fn seconds(year: u64, month: &str, day: u64, time: &str) -> Option<u64> {
    let month = MONTHS.iter().position(|&name| name == month)?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if year < 1970 || !(1..=lengths[month]).contains(&day) {
        return None;
    }
    // All years before this one have 365 days, and those that are leap years one more. 477 were so before 1970.
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 - 477;
    let days = (year - 1970) * 365 + leap_days + lengths[..month].iter().sum::<u64>() + day - 1;

    let [hour, minute, second] = exactly(time.split(':'))?;
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    // 60 is a leap second.
    (hour < 24 && minute < 60 && second <= 60)
        .then(|| days * 24 * 60 * 60 + hour * 60 * 60 + minute * 60 + second)
}

/// A decimal number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The parts, if there are exactly so many.
fn exactly<'a, const N: usize>(mut parts: impl Iterator<Item = &'a str>) -> Option<[&'a str; N]> {
    let mut array = [""; N];
    for part in &mut array {
        *part = parts.next()?;
    }
    parts.next().is_none().then_some(array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Option<RetryAfter> {
        Some(RetryAfter::At(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    #[test]
    fn seconds_and_dates() {
        // Expected values from `date -u -d ... +%s`.
        #[rustfmt::skip]
        let rows = [
            ("0", Some(RetryAfter::Seconds(0))),
            (" 120\t", Some(RetryAfter::Seconds(120))),
            ("18446744073709551615", Some(RetryAfter::Seconds(u64::MAX))),
            ("99999999999999999999999", Some(RetryAfter::Seconds(u64::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", at(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", at(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", at(784_111_777)),
            ("Wed Nov 16 08:49:37 1994", at(784_975_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", at(0)),
            ("Thu, 31 Dec 1970 23:59:59 GMT", at(31_535_999)),
            ("Tue, 29 Feb 2000 12:00:00 GMT", at(951_825_600)),
            ("Wed, 01 Mar 2000 00:00:00 GMT", at(951_868_800)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", at(1_709_251_199)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", at(1_709_251_200)),
            ("Wed, 01 Jan 2025 00:00:00 GMT", at(1_735_689_600)),
            ("Sat, 31 Dec 2016 23:59:60 GMT", at(1_483_228_800)),
            ("Mon, 01 Mar 2100 00:00:00 GMT", at(4_107_542_400)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", at(253_402_300_799)),
            ("Thursday, 01-Jan-70 00:00:00 GMT", at(0)),
            ("Tuesday, 31-Dec-69 23:59:59 GMT", at(3_155_759_999)),
        ];
        for (text, expected) in rows {
            assert_eq!(RetryAfter::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn neither_seconds_nor_dates() {
        #[rustfmt::skip]
        let rows = [
            "", " ", "-1", "+1", "1.5", "1s", "soon", "\u{661}",
            "Mon, 29 Feb 2100 00:00:00 GMT", "Wed, 29 Feb 2023 00:00:00 GMT", "Sun, 31 Apr 2023 00:00:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 32 Jan 1994 08:49:37 GMT", "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Nov 1994 08:49:37:00 GMT", "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT", "Son, 06 Nov 1994 08:49:37 GMT", "sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT", "Sun, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994", "Sun Nov  6 08:49:37 1994 GMT", "Sun Nov 06 08:49:37 94", "Sun Nov \u{e9}6",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT", "Sun,  06 Nov 1994 08:49:37 GMT", "Sun, +6 Nov 1994 08:49:37 GMT",
        ];
        for text in rows {
            assert_eq!(RetryAfter::parse(text), None, "{text:?}");
        }
    }

    /// Counts the days one by one, through every leap year rule.
    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..=2410 {
            for month in MONTHS {
                for day in 1..=31 {
                    if let Some(found) = seconds(year, month, day, "00:00:00") {
                        assert_eq!(found, expected, "{year} {month} {day}");
                        expected += 86_400;
                    }
                }
            }
        }
        // 441 years with 107 leap days: 110 multiples of 4, of which 2100, 2200 and 2300 are none.
        assert_eq!(expected, (441 * 365 + 107) * 86_400);
    }

    #[test]
    fn delays() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds| RetryAfter::At(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(RetryAfter::Seconds(7).delay(now), Duration::from_secs(7));
        assert_eq!(RetryAfter::Seconds(u64::MAX).delay(now), RetryAfter::MAX_DELAY);
        assert_eq!(at(1_000_090).delay(now), Duration::from_secs(90));
        assert_eq!(at(1_000_000).delay(now), Duration::ZERO);
        assert_eq!(at(999_999).delay(now), Duration::ZERO);
        assert_eq!(at(253_402_300_799).delay(now), RetryAfter::MAX_DELAY);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|(Sun|Sunday),? [0-9 :-]*(Nov)?[0-9 :-]*( GMT)?") {
            let _ = RetryAfter::parse(&text).map(|after| after.delay(SystemTime::UNIX_EPOCH));
        }
    }
}
