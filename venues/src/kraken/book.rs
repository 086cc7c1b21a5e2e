//! The checksum of a book: CRC32 over the ten best levels of each side, with the digits that the server wrote.

use everwire_core::{Continuity, Sequence, Tracker};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::cmp::Ordering;

/// Keeps a book, as far as its subscription reaches, and compares its checksum with that of each message.
///
/// What comes before the first snapshot cannot be compared, nor what comes after a checksum that was wrong: for both it continues until
/// there is a snapshot. So does a book with a number that is no plain decimal, of which nobody knows how the server counts it.
#[derive(Debug)]
pub(super) struct Checksums {
    symbol: String,
    depth: usize,
    /// `None`: not known.
    book: Option<Book>,
    /// Room for what is summed up.
    digits: String,
}

/// Most levels of a side that are kept: the deepest subscription that there is.
pub(super) const DEEPEST: usize = 1000;

impl Checksums {
    pub(super) fn new(symbol: &str, depth: usize) -> Self {
        Self { symbol: symbol.to_owned(), depth: depth.clamp(1, DEEPEST), book: None, digits: String::new() }
    }
}

impl Tracker for Checksums {
    fn check(&mut self, _: Option<Sequence>, text: &str) -> Continuity {
        let Ok(Message { kind, data }) = serde_json::from_str(text) else { return Continuity::Continues };
        for Change { symbol, bids, asks, checksum } in data {
            if symbol != self.symbol {
                continue;
            }
            if kind == "snapshot" {
                self.book = Some(Book::default());
            }
            let Some(book) = &mut self.book else { continue };
            let depth = self.depth;
            let read = book.bids.apply(&bids, Side::Bid, depth);
            if read.and_then(|()| book.asks.apply(&asks, Side::Ask, depth)).is_none() {
                self.book = None;
                continue;
            }
            let ours = book.checksum(&mut self.digits);
            if checksum.is_some_and(|theirs| theirs != ours) {
                self.book = None;
                let theirs = checksum.unwrap_or_default();
                return Continuity::Corrupt {
                    reason: format!(
                        "the checksum of {} is {theirs}, that of the book is {ours}",
                        self.symbol
                    ),
                };
            }
        }
        Continuity::Continues
    }
}

#[derive(Deserialize)]
struct Message<'m> {
    #[serde(borrow, rename = "type")]
    kind: std::borrow::Cow<'m, str>,
    #[serde(borrow)]
    data: Vec<Change<'m>>,
}

#[derive(Deserialize)]
struct Change<'m> {
    #[serde(borrow)]
    symbol: std::borrow::Cow<'m, str>,
    #[serde(borrow, default)]
    bids: Vec<Wire<'m>>,
    #[serde(borrow, default)]
    asks: Vec<Wire<'m>>,
    checksum: Option<u32>,
}

#[derive(Deserialize)]
struct Wire<'m> {
    #[serde(borrow)]
    price: &'m RawValue,
    #[serde(borrow)]
    qty: &'m RawValue,
}

#[derive(Debug, Default)]
struct Book {
    bids: Levels,
    asks: Levels,
}

/// The best comes first.
#[derive(Debug, Default)]
struct Levels(Vec<Level>);

#[derive(Debug, Clone, Copy)]
struct Level {
    price: Decimal,
    qty: Decimal,
}

#[derive(Clone, Copy)]
enum Side {
    Bid,
    Ask,
}

impl Book {
    /// How many levels of each side count.
    const BEST: usize = 10;

    /// `digits`: room for them.
    fn checksum(&self, digits: &mut String) -> u32 {
        digits.clear();
        for Level { price, qty } in
            self.asks.0.iter().take(Self::BEST).chain(self.bids.0.iter().take(Self::BEST))
        {
            price.write(digits);
            qty.write(digits);
        }
        crc32fast::hash(digits.as_bytes())
    }
}

impl Levels {
    /// Applies all changes of a message, and only then forgets what is beyond the depth: what is worse than the last level is within it when a better one is
    /// taken away behind it. `None` if a number is not a plain one.
    fn apply(&mut self, changes: &[Wire<'_>], side: Side, depth: usize) -> Option<()> {
        // However long the message is.
        let most = 4 * depth + 100;
        for Wire { price, qty } in changes {
            let (price, qty) = (Decimal::read(price.get())?, Decimal::read(qty.get())?);
            let place = self.0.binary_search_by(|level| match side {
                Side::Bid => price.compare(level.price),
                Side::Ask => level.price.compare(price),
            });
            match place {
                Ok(at) if qty.digits == 0 => drop(self.0.remove(at)),
                Ok(at) => self.0[at] = Level { price, qty },
                Err(at) if qty.digits == 0 || at >= most => {}
                Err(at) => {
                    self.0.insert(at, Level { price, qty });
                    self.0.truncate(most);
                }
            }
        }
        self.0.truncate(depth);
        Some(())
    }
}

/// A number as it is written: all its digits, without the point and without zeros in front, and how many of them are behind the point.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    digits: u128,
    scale: u32,
}

impl Decimal {
    /// No plain number: a sign, an exponent, more digits than fit.
    fn read(text: &str) -> Option<Self> {
        // Documents have them in quotes, the server has not.
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
        let mut digits: u128 = 0;
        for byte in whole.bytes().chain(rest.bytes()) {
            let digit = byte.is_ascii_digit().then(|| u128::from(byte - b'0'))?;
            digits = digits.checked_mul(10)?.checked_add(digit)?;
        }
        let scale = u32::try_from(rest.len()).ok()?;
        (!whole.is_empty()).then_some(Self { digits, scale })
    }

    /// By value: `1.50` is as much as `1.5`.
    fn compare(self, other: Self) -> Ordering {
        let scale = self.scale.max(other.scale);
        let at =
            |n: Self| 10u128.checked_pow(scale - n.scale).and_then(|factor| n.digits.checked_mul(factor));
        match (at(self), at(other)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // Too large for both at the same scale. It cannot be both equal and so far apart in what is written.
            #[expect(
                clippy::cast_precision_loss,
                reason = "numbers of different length are told apart by far less"
            )]
            _ => {
                let size = |n: Self| n.digits as f64 / 10f64.powi(i32::try_from(n.scale).unwrap_or(i32::MAX));
                size(self).total_cmp(&size(other))
            }
        }
    }

    fn write(self, out: &mut String) {
        use std::fmt::Write;
        if self.digits > 0 {
            // Writing to a string does not fail.
            let _ = write!(out, "{}", self.digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Continuity::Continues;

    /// The example of the vendor's guide to checksums [docs.kraken.com/exchange/guides/websockets/book-checksum-v2].
    const GUIDE: &str = r#"{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":45283.5,"qty":0.10000000},{"price":45283.4,"qty":1.54582015},{"price":45282.1,"qty":0.10000000},{"price":45281.0,"qty":0.10000000},{"price":45280.3,"qty":1.54592586},{"price":45279.0,"qty":0.07990000},{"price":45277.6,"qty":0.03310103},{"price":45277.5,"qty":0.30000000},{"price":45277.3,"qty":1.54602737},{"price":45276.6,"qty":0.15445238}],"asks":[{"price":45285.2,"qty":0.00100000},{"price":45286.4,"qty":1.54571953},{"price":45286.6,"qty":1.54571109},{"price":45289.6,"qty":1.54560911},{"price":45290.2,"qty":0.15890660},{"price":45291.8,"qty":1.54553491},{"price":45294.7,"qty":0.04454749},{"price":45296.1,"qty":0.35380000},{"price":45297.5,"qty":0.09945542},{"price":45299.5,"qty":0.18772827}],"checksum":3310070434}]}"#;

    fn update(bids: &str, asks: &str, checksum: u32) -> String {
        format!(
            r#"{{"channel":"book","type":"update","data":[{{"symbol":"BTC/USD","bids":[{bids}],"asks":[{asks}],"checksum":{checksum},"timestamp":"2023-10-06T17:35:55.440295Z"}}]}}"#
        )
    }

    #[test]
    fn the_example_of_the_guide() {
        let mut book = Checksums::new("BTC/USD", 10);
        assert_eq!(book.check(None, GUIDE), Continues);
        assert!(book.book.is_some());
        // With its numbers in quotes, as the guide shows them.
        let quoted = GUIDE
            .replace("\"price\":", "\"price\":\"")
            .replace(",\"qty\":", "\",\"qty\":\"")
            .replace("},{\"price", "\"},{\"price");
        let quoted = quoted.replace("}],\"asks", "\"}],\"asks").replace("}],\"checksum", "\"}],\"checksum");
        assert_eq!(book.check(None, &quoted), Continues);
        assert!(book.book.is_some());
        let wrong = GUIDE.replace("3310070434", "3310070435");
        let Continuity::Corrupt { reason } = book.check(None, &wrong) else { panic!("it must not fit") };
        assert_eq!(reason, "the checksum of BTC/USD is 3310070435, that of the book is 3310070434");
        // It is told once: until the next snapshot there is nothing to compare with.
        assert_eq!(book.check(None, &update("", "", 1)), Continues);
        assert_eq!(book.check(None, GUIDE), Continues);
        assert!(matches!(book.check(None, &update("", "", 1)), Continuity::Corrupt { .. }));
    }

    #[test]
    fn changes_are_applied_and_what_is_beyond_the_depth_is_forgotten() {
        let level = |price: &str, qty: &str| format!(r#"{{"price":{price},"qty":{qty}}}"#);
        let mut book = Checksums::new("BTC/USD", 10);
        let digest = |text: &str| crc32fast::hash(text.as_bytes());
        let snapshot = |text: String| text.replace("update", "snapshot");
        // Leading zeros and points vanish, trailing zeros stay; asks come first.
        let first =
            snapshot(update(&level("0.0990", "2.50"), &level("0.1000", "0.00300"), digest("1000300990250")));
        assert_eq!(book.check(None, &first), Continues);
        let second = update(&level("0.0991", "1.00"), "", digest("1000300991100990250"));
        assert_eq!(book.check(None, &second), Continues);
        // The same price, written with fewer zeros.
        let third = update(&level("0.099", "0"), &level("0.1", "0.1"), digest("11991100"));
        assert_eq!(book.check(None, &third), Continues);
        let gone = update(&level("0.0991", "0.00"), &level("5", "0"), digest("11"));
        assert_eq!(book.check(None, &gone), Continues);
        // Twelve asks at a depth of ten: the worst two are not there any more.
        let many: Vec<String> = (1..=12).rev().map(|n| level(&format!("{n}.0"), "7")).collect();
        let all: String = (1..=9).map(|n| format!("{n}07")).collect();
        let filled = update("", &many.join(","), digest(&format!("11{all}")));
        assert_eq!(book.check(None, &filled), Continues);
        // One that is better and one that goes, in one message: the tenth stays.
        let swap = [level("0.2", "7"), level("9.0", "0")].join(",");
        let mut swapped = Checksums { book: book.book.take(), ..Checksums::new("BTC/USD", 10) };
        let rest: String = (1..=8).map(|n| format!("{n}07")).collect();
        assert_eq!(swapped.check(None, &update("", &swap, digest(&format!("1127{rest}")))), Continues);
        let back = [level("9.0", "7"), level("0.2", "0")].join(",");
        assert_eq!(swapped.check(None, &update("", &back, digest(&format!("11{all}")))), Continues);
        book.book = swapped.book;
        // When the best goes nine are left: the eleventh was forgotten and does not come back by itself.
        assert_eq!(book.check(None, &update("", &level("0.1", "0"), digest(&all))), Continues);
    }

    #[test]
    fn what_cannot_be_compared_continues() {
        let mut book = Checksums::new("BTC/USD", 10);
        // A change before there is a snapshot, another symbol, no JSON.
        assert_eq!(book.check(None, &update("", "", 1)), Continues);
        assert_eq!(
            book.check(None, &GUIDE.replace("BTC/USD", "ETH/USD").replace("3310070434", "1")),
            Continues
        );
        assert_eq!(book.check(None, "what?"), Continues);
        for number in ["1e-7", "-1", "null", "{}", "1e999", &"9".repeat(60)] {
            assert_eq!(book.check(None, GUIDE), Continues);
            let odd = update(&format!(r#"{{"price":{number},"qty":1}}"#), "", 1);
            assert_eq!(book.check(None, &odd), Continues, "{number}");
            assert_eq!(
                book.check(None, &update("", "", 1)),
                Continues,
                "{number}: not known until the next snapshot"
            );
        }
        // No checksum: nothing to compare with, and the book goes on.
        let silent = GUIDE.replace(",\"checksum\":3310070434", "");
        assert_eq!(book.check(None, &silent), Continues);
        assert_eq!(book.check(None, &update("", "", 3_310_070_434)), Continues);
    }

    #[test]
    fn a_side_never_has_more_levels_than_were_asked_for() {
        let levels: Vec<String> = (1..5000).map(|n| format!(r#"{{"price":{n},"qty":1}}"#)).collect();
        let text = update(&levels.join(","), &levels.join(","), 0).replace("update", "snapshot");
        let mut book = Checksums::new("BTC/USD", usize::MAX);
        let mut shallow = Checksums::new("BTC/USD", 25);
        let _ = (
            shallow.check(None, &text.replace(",\"checksum\":0", "")),
            book.check(None, &text.replace(",\"checksum\":0", "")),
        );
        let sides = |book: &Checksums| book.book.as_ref().map(|book| (book.bids.0.len(), book.asks.0.len()));
        assert_eq!((sides(&shallow), sides(&book)), (Some((25, 25)), Some((DEEPEST, DEEPEST))));
        let best = |levels: &Levels| levels.0[0].price.digits;
        assert_eq!(shallow.book.as_ref().map(|book| (best(&book.bids), best(&book.asks))), Some((4999, 1)));
    }

    #[test]
    fn numbers_are_compared_by_what_they_are_worth() {
        let read = |text| Decimal::read(text).unwrap();
        for (a, b, order) in [
            ("1.50", "1.5", Ordering::Equal),
            ("0.0999", "0.1", Ordering::Less),
            ("10", "9.99999999", Ordering::Greater),
            ("00.1", "0.10", Ordering::Equal),
            ("340282366920938463463374607431768211455", "0.000000000000000001", Ordering::Greater),
        ] {
            assert_eq!(read(a).compare(read(b)), order, "{a} {b}");
            assert_eq!(read(b).compare(read(a)), order.reverse(), "{b} {a}");
        }
        for bad in ["", ".", ".5", "1.2.3", "+1", "-0", " 1", "1e5", "\"\""] {
            assert!(Decimal::read(bad).is_none(), "{bad:?}");
        }
    }
}
