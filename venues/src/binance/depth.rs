//! Joins the snapshot of an order book with the stream of its changes.

use super::wire::Envelope;
use everwire_core::Sequence;
use std::collections::VecDeque;

/// Joins a snapshot, which REST or the WebSocket API's `depth` gives, with the events of a diff depth stream,
/// as Binance asks for it (<https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams>,
/// "How to manage a local order book correctly", and the page of that name for each kind of futures):
///
/// 1. Subscribe, and [`push`](Self::push) each event. They are kept until there is a snapshot.
/// 2. Fetch a snapshot, and give its `lastUpdateId` to [`snapshot`](Self::snapshot). It gives back the events
///    that come after it: apply them to it, in their order. Is the snapshot older than the first event, fetch
///    another one.
/// 3. Apply each further event that `push` gives back.
/// 4. On [`Depth::Gap`], and after [`Event::Gap`](everwire_core::Event::Gap) for the topic
///    ([`clear`](Self::clear)), go to 2.
///
/// An event holds absolute quantities: what is there twice does no harm, and one that removes a level that is
/// not there is normal. A snapshot has the best levels only: one beyond them that does not change is never
/// seen.
///
/// It knows nothing of prices: `T` is whatever an event is to the user.
///
/// ```
/// use everwire_core::Sequence;
/// use everwire_venues::binance::{Depth, DepthSync, Joined};
///
/// let mut book = DepthSync::spot();
/// // The stream is ahead of the snapshot.
/// assert_eq!(book.push(Sequence::range(8, 10), "a"), Depth::Kept);
/// assert_eq!(book.push(Sequence::range(11, 15), "b"), Depth::Kept);
/// assert_eq!(book.snapshot(6), Joined::TooOld { first: 8 });
/// assert_eq!(book.snapshot(12), Joined::Apply(vec!["b"]));
/// assert_eq!(book.push(Sequence::range(16, 16), "c"), Depth::Apply("c"));
/// assert_eq!(book.push(Sequence::range(18, 20), "e"), Depth::Gap { expected: 17, got: 18 });
/// ```
#[derive(Debug, Clone)]
pub struct DepthSync<T> {
    rule: Rule,
    /// The last number that the book has; `None` before it has a snapshot.
    book: Option<Place>,
    /// Events without a snapshot: each follows on the one before it.
    kept: VecDeque<(Sequence, T)>,
    most: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Each event begins after the number that the one before it ended with.
    Spot,
    /// Each event names the number that the one before it ended with, `pu`.
    Futures,
}

/// How far a book is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is as the snapshot with this number.
    Snapshot(u64),
    /// It has the event that ended with this number.
    Event(u64),
}

/// What is to be done with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Depth<T> {
    /// Apply it to the book.
    Apply(T),
    /// The book has it already.
    Old,
    /// It was kept: there is no snapshot yet.
    Kept,
    /// Events between are missing: the book is wrong from here on. Fetch a snapshot, and go on with
    /// [`DepthSync::snapshot`]. The event was kept.
    Gap {
        /// The number that should have come. Of futures, the one that should have been named as the previous.
        expected: u64,
        /// The one that came, or was named.
        got: u64,
    },
}

/// What a snapshot does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Joined<T> {
    /// The book is the snapshot with these events applied to it, in this order. There may be none.
    Apply(Vec<T>),
    /// The snapshot is older than the first event that was kept, and those between are missing: fetch another
    /// one. What was kept stays.
    TooOld {
        /// The number with which the first event that was kept begins.
        first: u64,
    },
}

impl<T> DepthSync<T> {
    /// Most events that are kept while there is no snapshot, unless [`keep`](Self::keep) says otherwise: a
    /// quarter of an hour of the fastest stream.
    pub const KEPT: usize = 10_000;

    /// By the rule of spot: `U` follows on the `u` before it.
    pub fn spot() -> Self {
        Self { rule: Rule::Spot, book: None, kept: VecDeque::new(), most: Self::KEPT }
    }

    /// By the rule of futures, both USD-M and COIN-M: `pu` is the `u` before it.
    pub fn futures() -> Self {
        Self { rule: Rule::Futures, ..Self::spot() }
    }

    /// Keeps at most so many events, at least 1, while there is no snapshot; beyond, the oldest are dropped,
    /// and the snapshot must be newer than these. Default [`KEPT`](Self::KEPT).
    pub fn keep(self, most: usize) -> Self {
        Self { most: most.max(1), ..self }
    }

    /// The number of the newest change that the book has; `None` if there is no book.
    pub fn last(&self) -> Option<u64> {
        match self.book? {
            Place::Snapshot(last) | Place::Event(last) => Some(last),
        }
    }

    /// There is no book any more, and nothing kept of its stream: another connection, or the topic was
    /// subscribed to anew.
    pub fn clear(&mut self) {
        self.book = None;
        self.kept.clear();
    }

    /// An event came, with the numbers that [`depth_numbers`] reads.
    pub fn push(&mut self, numbers: Sequence, event: T) -> Depth<T> {
        let Some(book) = self.book else {
            self.keep_event(numbers, event);
            return Depth::Kept;
        };
        match self.rule.judge(book, numbers) {
            Verdict::Follows => {
                self.book = Some(Place::Event(numbers.last));
                Depth::Apply(event)
            }
            Verdict::Old => Depth::Old,
            Verdict::Gap { expected, got } => {
                self.clear();
                self.keep_event(numbers, event);
                Depth::Gap { expected, got }
            }
        }
    }

    /// A snapshot came, with this `lastUpdateId`. One that comes while there is a book takes its place, if it
    /// is not older: then there is nothing to apply. An older one is [`Joined::TooOld`], and the book stays.
    pub fn snapshot(&mut self, last_update_id: u64) -> Joined<T> {
        if let Some(have) = self.last()
            && last_update_id < have
        {
            return Joined::TooOld { first: have };
        }
        let mut book = Place::Snapshot(last_update_id);
        // What is kept hangs together, so only the first that is not old can be too far ahead.
        let verdicts = self.kept.iter().map(|(numbers, _)| self.rule.judge(book, *numbers));
        let old = verdicts.take_while(|verdict| *verdict == Verdict::Old).count();
        if let Some((next, _)) = self.kept.get(old)
            && matches!(self.rule.judge(book, *next), Verdict::Gap { .. })
        {
            return Joined::TooOld { first: next.first };
        }
        if let Some((newest, _)) = self.kept.back().filter(|_| old < self.kept.len()) {
            book = Place::Event(newest.last);
        }
        self.book = Some(book);
        Joined::Apply(self.kept.drain(..).skip(old).map(|(_, event)| event).collect())
    }

    fn keep_event(&mut self, numbers: Sequence, event: T) {
        if let Some((newest, _)) = self.kept.back() {
            match self.rule.judge(Place::Event(newest.last), numbers) {
                Verdict::Follows => {}
                Verdict::Old => return,
                // No snapshot makes a book of what came before.
                Verdict::Gap { .. } => self.kept.clear(),
            }
        }
        if self.kept.len() == self.most {
            self.kept.pop_front();
        }
        self.kept.push_back((numbers, event));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Follows,
    Old,
    Gap { expected: u64, got: u64 },
}

impl Rule {
    /// Whether a book goes on with an event of these numbers.
    fn judge(self, book: Place, Sequence { first, last, previous, .. }: Sequence) -> Verdict {
        match (self, book) {
            // One that begins before the end of the book and ends after it has all that is new, whether the
            // book is a snapshot or not.
            (Self::Spot, Place::Snapshot(seen) | Place::Event(seen)) => {
                let expected = seen.saturating_add(1);
                match () {
                    () if last <= seen => Verdict::Old,
                    () if first <= expected => Verdict::Follows,
                    () => Verdict::Gap { expected, got: first },
                }
            }
            // The numbers of futures have holes. Of the first event after a snapshot the documents ask for U
            // <= lastUpdateId <= u; one that names the snapshot as what it follows on is as good.
            (Self::Futures, Place::Snapshot(seen)) => match () {
                () if last < seen => Verdict::Old,
                () if first <= seen || previous == Some(seen) => Verdict::Follows,
                () => Verdict::Gap { expected: seen, got: previous.unwrap_or(first) },
            },
            (Self::Futures, Place::Event(seen)) => match previous {
                Some(previous) if previous == seen => Verdict::Follows,
                _ if last <= seen => Verdict::Old,
                previous => Verdict::Gap { expected: seen, got: previous.unwrap_or(first) },
            },
        }
    }
}

/// The numbers of a diff depth event, `U`, `u` and `pu`, of a combined stream or a raw one. `None`: it has
/// none.
///
/// ```
/// use everwire_core::Sequence;
/// use everwire_venues::binance::depth_numbers;
///
/// let text = r#"{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":157,"u":160,"pu":149,"b":[],"a":[]}}"#;
/// assert_eq!(depth_numbers(text), Some(Sequence::range(157, 160).previous(149)));
/// ```
pub fn depth_numbers(text: &str) -> Option<Sequence> {
    let envelope = Envelope::read(text)?;
    envelope.data.sequence().or_else(|| envelope.own.sequence())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Dice;
    use super::*;
    use std::collections::BTreeMap;

    fn of(first: u64, last: u64) -> Sequence {
        Sequence::range(first, last)
    }

    #[test]
    fn spot_joins_as_the_documents_say() {
        let mut book = DepthSync::spot();
        // A snapshot before any event: the next one must straddle it.
        assert_eq!(book.snapshot(10), Joined::Apply(Vec::<u32>::new()));
        assert_eq!((book.last(), book.push(of(5, 10), 1)), (Some(10), Depth::Old));
        assert_eq!(book.push(of(9, 12), 2), Depth::Apply(2));
        assert_eq!(book.push(of(13, 13), 3), Depth::Apply(3));
        assert_eq!(book.push(of(13, 13), 3), Depth::Old);
        assert_eq!(book.push(of(15, 16), 4), Depth::Gap { expected: 14, got: 15 });
        assert_eq!(book.last(), None);
        assert_eq!(book.push(of(17, 18), 5), Depth::Kept);
        assert_eq!(book.snapshot(13), Joined::TooOld { first: 15 });
        assert_eq!(book.snapshot(14), Joined::Apply(vec![4, 5]));
        assert_eq!(book.last(), Some(18));
        // A newer snapshot takes the place of the book, an older one does not.
        assert_eq!(book.snapshot(17), Joined::TooOld { first: 18 });
        assert_eq!((book.snapshot(25), book.last()), (Joined::Apply(vec![]), Some(25)));
        assert_eq!(book.push(of(20, 25), 6), Depth::Old);
        // All that is kept is older than the snapshot.
        book.clear();
        let _ = (book.push(of(1, 2), 7), book.push(of(3, 4), 8));
        assert_eq!((book.snapshot(4), book.last()), (Joined::Apply(vec![]), Some(4)));
        assert_eq!(book.push(of(5, u64::MAX), 9), Depth::Apply(9));
        assert_eq!(book.push(of(u64::MAX, u64::MAX), 10), Depth::Old);
    }

    #[test]
    fn futures_join_as_the_documents_say() {
        let of = |previous, first, last| of(first, last).previous(previous);
        let mut book = DepthSync::futures();
        let _ =
            (book.push(of(90, 95, 99), 1), book.push(of(99, 105, 110), 2), book.push(of(110, 120, 121), 3));
        // Between two events: none of them straddles it, but one follows on it.
        assert_eq!(book.clone().snapshot(99), Joined::Apply(vec![1, 2, 3]));
        assert_eq!(book.clone().snapshot(95), Joined::Apply(vec![1, 2, 3]));
        assert_eq!(book.clone().snapshot(90), Joined::Apply(vec![1, 2, 3]), "it names what it follows on");
        assert_eq!(book.clone().snapshot(91), Joined::TooOld { first: 95 });
        assert_eq!(book.clone().snapshot(107), Joined::Apply(vec![2, 3]));
        assert_eq!(book.clone().snapshot(130), Joined::Apply(vec![]));
        assert_eq!(book.snapshot(110), Joined::Apply(vec![2, 3]));
        assert_eq!(book.push(of(121, 130, 140), 4), Depth::Apply(4));
        assert_eq!(book.push(of(121, 130, 140), 4), Depth::Old);
        assert_eq!(book.push(of(145, 150, 160), 6), Depth::Gap { expected: 140, got: 145 });
        assert_eq!(book.push(Sequence::range(170, 171), 7), Depth::Kept, "no previous: it begins anew");
        assert_eq!(book.snapshot(171), Joined::Apply(vec![7]));
        assert_eq!(book.push(Sequence::range(172, 173), 8), Depth::Gap { expected: 171, got: 172 });
    }

    #[test]
    fn what_is_kept_is_bounded_and_hangs_together() {
        let mut book = DepthSync::spot().keep(2);
        for number in 1..=5 {
            assert_eq!(book.push(of(number, number), number), Depth::Kept);
        }
        assert_eq!(book.snapshot(2), Joined::TooOld { first: 4 });
        // A hole: only what comes behind it is of use.
        assert_eq!(book.push(of(7, 7), 7), Depth::Kept);
        assert_eq!(book.push(of(7, 7), 7), Depth::Kept);
        assert_eq!(book.snapshot(5), Joined::TooOld { first: 7 });
        assert_eq!(book.snapshot(6), Joined::Apply(vec![7]));
    }

    /// Prices and quantities.
    type Book = BTreeMap<u64, u64>;

    /// A venue that changes one level at a time, and tells of some at once with what they are then.
    struct Venue {
        futures: bool,
        books: Vec<Book>,
        told: u64,
        /// The number that the last event ended with.
        last: u64,
    }

    impl Venue {
        fn new(futures: bool) -> Self {
            Self { futures, books: vec![Book::new()], told: 0, last: 0 }
        }

        /// What change `n` is numbered with: of futures, there are holes.
        fn number(&self, n: usize) -> u64 {
            n as u64 * if self.futures { 3 } else { 1 }
        }

        fn event(&mut self, dice: &mut Dice) -> (Sequence, Vec<(u64, u64)>) {
            let mut changed = BTreeMap::new();
            let first = self.number(self.books.len());
            for _ in 0..=dice.below(4) {
                let mut book = self.books.last().cloned().unwrap_or_default();
                let (price, quantity) = (dice.below(6), dice.below(4));
                changed.insert(price, quantity);
                if quantity == 0 {
                    book.remove(&price)
                } else {
                    book.insert(price, quantity)
                };
                self.books.push(book);
            }
            let last = self.number(self.books.len() - 1);
            let numbers = of(first, last);
            let numbers = if self.futures { numbers.previous(self.last) } else { numbers };
            (self.last, self.told) = (last, self.told + 1);
            (numbers, changed.into_iter().collect())
        }
    }

    fn apply(book: &mut Book, event: &[(u64, u64)]) {
        for &(price, quantity) in event {
            if quantity == 0 {
                book.remove(&price)
            } else {
                book.insert(price, quantity)
            };
        }
    }

    /// Whatever is lost, repeated or late: a book that is there is the venue's, each gap is told, and it
    /// comes back with the next good snapshot.
    #[test]
    fn a_book_that_is_there_is_right() {
        let (mut compared, mut gaps, mut old_snapshots) = (0, 0, 0);
        for seed in 0..400 {
            let dice = &mut Dice::new(seed);
            let mut venue = Venue::new(seed % 2 == 1);
            let mut sync = if venue.futures { DepthSync::futures() } else { DepthSync::spot() };
            let mut book = Book::new();
            let mut previous = None;
            for _ in 0..60 {
                let (numbers, event) = venue.event(dice);
                let mut arrive = vec![(numbers, event)];
                match dice.below(20) {
                    0 => drop(arrive.pop()),
                    1 => arrive.extend(previous.clone()),
                    _ => {}
                }
                previous = arrive.first().cloned().or(previous);
                let arrived = arrive.len();
                for (numbers, event) in arrive {
                    match sync.push(numbers, event) {
                        Depth::Apply(event) => apply(&mut book, &event),
                        Depth::Gap { .. } => gaps += 1,
                        Depth::Old | Depth::Kept => {}
                    }
                }
                if sync.last().is_none() && dice.below(4) == 0 {
                    // Of any moment of late, even in the middle of an event.
                    let now = venue.books.len() - 1;
                    let at = now - (dice.below(12) as usize).min(now);
                    match sync.snapshot(venue.number(at)) {
                        Joined::Apply(events) => {
                            book = venue.books[at].clone();
                            events.iter().for_each(|event| apply(&mut book, event));
                        }
                        Joined::TooOld { .. } => old_snapshots += 1,
                    }
                }
                // A snapshot may be ahead of what came, and an event be lost behind it.
                if let Some(last) = sync.last() {
                    let n = (last / venue.number(1)) as usize;
                    assert_eq!(book, venue.books[n], "seed {seed}");
                    compared += 1;
                    assert!(arrived == 0 || last >= venue.last, "seed {seed}: it stays behind");
                }
            }
        }
        assert!(compared > 10_000 && gaps > 200 && old_snapshots > 200, "{compared} {gaps} {old_snapshots}");
    }
}
