//! Books that change at random, and their checksums, counted in whole ticks and lots: nothing of how a client counts them.

use crate::sim::Dice;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A book of one symbol.
#[derive(Debug)]
pub(super) struct Book {
    dice: Dice,
    /// Digits behind the point, of prices and of quantities.
    decimals: (usize, usize),
    /// Lots by ticks.
    bids: BTreeMap<u64, u64>,
    asks: BTreeMap<u64, u64>,
    /// Between the sides.
    middle: u64,
}

/// What a subscription of some depth sees: ticks and lots, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    bids: Vec<(u64, u64)>,
    asks: Vec<(u64, u64)>,
    depth: usize,
}

impl Book {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 0);
        let decimals = (dice.between(0, 5) as usize, dice.between(0, 8) as usize);
        let middle = dice.between(50, 2_000_000);
        let mut book = Self { dice, decimals, bids: BTreeMap::new(), asks: BTreeMap::new(), middle };
        for _ in 0..60 {
            book.change();
        }
        book
    }

    /// Something happens.
    pub(super) fn change(&mut self) {
        for _ in 0..self.dice.between(1, 4) {
            if self.dice.chance(20) {
                // The market moves: what is on the wrong side of it is gone.
                self.middle = (self.middle + self.dice.below(15)).saturating_sub(7).max(20);
                self.bids.retain(|price, _| *price < self.middle);
                self.asks.retain(|price, _| *price > self.middle);
            }
            let away = 1 + self.dice.below(30);
            let bid = self.dice.chance(500) && away < self.middle;
            let (side, price) =
                if bid { (&mut self.bids, self.middle - away) } else { (&mut self.asks, self.middle + away) };
            if self.dice.chance(350) {
                side.remove(&price);
            } else {
                // Many of them end with zeros.
                let lots = self.dice.between(1, 3_000_000) * [1, 10, 1000][self.dice.index(3)];
                side.insert(price, lots);
            }
        }
    }

    pub(super) fn view(&self, depth: usize) -> View {
        let bids = self.bids.iter().rev().take(depth).map(|(price, lots)| (*price, *lots)).collect();
        let asks = self.asks.iter().take(depth).map(|(price, lots)| (*price, *lots)).collect();
        View { bids, asks, depth }
    }

    /// All of a view, as `bids` and `asks` of a snapshot.
    pub(super) fn all(&self, view: &View) -> (String, String) {
        (self.levels(&view.bids), self.levels(&view.asks))
    }

    /// What makes the second view of the first, as `bids` and `asks` of an update; `None` if nothing does.
    pub(super) fn difference(&self, from: &View, to: &View) -> Option<(String, String)> {
        let bids = difference(&from.bids, &to.bids, from.depth, |price, worst| price < worst);
        let asks = difference(&from.asks, &to.asks, from.depth, |price, worst| price > worst);
        (!bids.is_empty() || !asks.is_empty()).then(|| (self.levels(&bids), self.levels(&asks)))
    }

    /// As the vendor's guide has it: asks from the lowest, then bids from the highest, ten of each, price and quantity as they are written but
    /// without the point and without zeros in front.
    pub(super) fn checksum(&self, view: &View) -> u32 {
        let mut text = String::new();
        for (price, lots) in view.asks.iter().take(10).chain(view.bids.iter().take(10)) {
            for number in [decimal(*price, self.decimals.0), decimal(*lots, self.decimals.1)] {
                text.push_str(number.replace('.', "").trim_start_matches('0'));
            }
        }
        crc32(text.as_bytes())
    }

    fn levels(&self, levels: &[(u64, u64)]) -> String {
        let mut text = String::from("[");
        for (n, (price, lots)) in levels.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let (price, qty) = (decimal(*price, self.decimals.0), decimal(*lots, self.decimals.1));
            // Writing to a string does not fail.
            let _ = write!(text, r#"{comma}{{"price":{price},"qty":{qty}}}"#);
        }
        text + "]"
    }
}

/// New and changed levels, and those that are gone with a quantity of zero: but not those that are only too far away now.
fn difference(
    from: &[(u64, u64)],
    to: &[(u64, u64)],
    depth: usize,
    beyond: impl Fn(u64, u64) -> bool,
) -> Vec<(u64, u64)> {
    let full = to.len() == depth;
    let worst = to.last().map(|(price, _)| *price);
    let changed = to.iter().filter(|level| !from.contains(level)).copied();
    let gone = from.iter().filter(|(price, _)| to.iter().all(|(other, _)| other != price));
    let gone = gone.filter(|(price, _)| !(full && worst.is_some_and(|worst| beyond(*price, worst))));
    changed.chain(gone.map(|(price, _)| (*price, 0))).collect()
}

/// A whole number with a point so many digits from its end.
fn decimal(number: u64, decimals: usize) -> String {
    let digits = format!("{number:0>width$}", width = decimals + 1);
    match digits.split_at(digits.len() - decimals) {
        (whole, "") => whole.to_owned(),
        (whole, rest) => format!("{whole}.{rest}"),
    }
}

/// CRC-32 (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_checksums() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(
            (decimal(5, 2), decimal(12_345, 2), decimal(7, 0)),
            ("0.05".into(), "123.45".into(), "7".into())
        );
    }

    #[test]
    fn what_is_only_too_far_away_is_not_told() {
        let below = |price: u64, worst: u64| price < worst;
        let from = [(9, 1), (8, 1), (7, 1)];
        assert_eq!(difference(&from, &[(10, 2), (9, 1), (8, 1)], 3, below), [(10, 2)]);
        assert_eq!(difference(&from, &[(9, 3), (8, 1)], 3, below), [(9, 3), (7, 0)]);
        assert_eq!(difference(&from, &[(9, 1), (7, 1), (5, 4)], 3, below), [(5, 4), (8, 0)]);
        assert_eq!(difference(&from, &from, 3, below), []);
    }
}
