//! Names of topics, as messages have them.

use std::fmt;

/// A topic's name as a message has it: in one piece, or in parts that stand in different places of it, such as a channel and an
/// instrument. The parts are joined by `:` to the name of a [`Topic`](super::Topic).
///
/// ```
/// use everwire_core::protocol::Name;
///
/// let (channel, symbol) = ("book", "BTC/USD");
/// assert_eq!(Name::of(&[channel, symbol]).to_string(), "book:BTC/USD");
/// assert_eq!(Name::from("trades.BTC").to_string(), "trades.BTC");
/// ```
#[derive(Clone, Copy)]
pub struct Name<'m> {
    parts: [&'m str; PARTS],
    count: usize,
}

const PARTS: usize = 4;

impl<'m> Name<'m> {
    /// Most parts that a name has.
    pub const PARTS: usize = PARTS;
    /// What stands between two parts.
    const JOINT: &'static str = ":";

    /// A name in parts.
    ///
    /// # Panics
    /// If there is no part, or more than [`PARTS`](Self::PARTS).
    pub fn of(parts: &[&'m str]) -> Self {
        assert!((1..=Self::PARTS).contains(&parts.len()), "a name has 1 to {} parts", Self::PARTS);
        let mut all = [""; Self::PARTS];
        all[..parts.len()].copy_from_slice(parts);
        Self { parts: all, count: parts.len() }
    }

    /// The name in one piece: itself if it is in one, else put together in `space`.
    pub(crate) fn whole<'a>(&self, space: &'a mut String) -> &'a str
    where
        'm: 'a,
    {
        let parts = self.parts();
        if let [whole] = parts {
            return whole;
        }
        space.clear();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                space.push_str(Self::JOINT);
            }
            space.push_str(part);
        }
        space
    }

    fn parts(&self) -> &[&'m str] {
        &self.parts[..self.count]
    }
}

impl<'m> From<&'m str> for Name<'m> {
    fn from(name: &'m str) -> Self {
        Self::of(&[name])
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts().iter().enumerate() {
            if i > 0 {
                f.write_str(Self::JOINT)?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Equal if they name the same topic, however they are divided.
impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.whole(&mut String::new()) == other.whole(&mut String::new())
    }
}

impl Eq for Name<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined() {
        let mut space = "left over".to_owned();
        let whole = Name::from("a:b");
        assert_eq!(whole.whole(&mut space), "a:b");
        let parts = Name::of(&["a", "b"]);
        assert_eq!(parts.whole(&mut space), "a:b");
        assert_eq!(parts, whole);
        assert_ne!(parts, Name::of(&["a", "b", ""]));
        assert_eq!(format!("{:?} {parts}", Name::of(&["a", "b", "c", "d"])), "\"a:b:c:d\" a:b");
    }

    #[test]
    #[should_panic(expected = "a name has 1 to 4 parts")]
    fn a_name_has_parts() {
        let _ = Name::of(&[]);
    }
}
