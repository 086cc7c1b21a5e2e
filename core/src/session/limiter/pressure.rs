//! How much waits to be sent.

use std::fmt;

/// How full a queue is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// Less than a quarter.
    #[default]
    None,
    /// A quarter or more.
    Low,
    /// Half or more.
    Medium,
    /// Three quarters or more.
    High,
}

impl Pressure {
    /// The pressure of `queued` where `max` are allowed. Where none is allowed, any is high.
    pub fn of(queued: usize, max: usize) -> Self {
        // Wide enough for four times anything.
        let (four, max) = (queued as u128 * 4, max as u128);
        match queued {
            0 => Self::None,
            _ if four >= max * 3 => Self::High,
            _ if four >= max * 2 => Self::Medium,
            _ if four >= max => Self::Low,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Pressure::{self, High, Low, Medium, None};

    #[test]
    fn levels_begin_at_each_quarter() {
        let expected = [None, Low, Medium, High, High, High];
        for (queued, pressure) in expected.into_iter().enumerate() {
            assert_eq!(Pressure::of(queued, 4), pressure, "{queued}");
        }
        for (queued, pressure) in [(24, None), (25, Low), (49, Low), (50, Medium), (74, Medium), (75, High)] {
            assert_eq!(Pressure::of(queued, 100), pressure, "{queued}");
        }
        assert!(None < Low && Low < Medium && Medium < High);
    }

    #[test]
    fn extremes() {
        assert_eq!((Pressure::of(0, 0), Pressure::of(1, 0), Pressure::of(1, 1)), (None, High, High));
        assert_eq!(Pressure::of(usize::MAX / 4, usize::MAX), None);
        assert_eq!(Pressure::of(usize::MAX / 4 + 1, usize::MAX), Low);
        assert_eq!(Pressure::of(usize::MAX, usize::MAX), High);
        assert_eq!(format!("{Medium:>8}|{None}"), "  medium|none");
    }
}
