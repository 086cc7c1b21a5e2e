//! What a budget is to those who use it.

use super::credits::Credits;
use super::limit::{Limit, Rate, clamped_margin};
use super::window::Window;
use std::fmt;
use std::time::{Duration, Instant};

/// One budget: how much was spent of it, and what is on its way.
///
/// What is spent is in flight until it lands, that is, was written. While in flight it counts as spent now. The time of a budget does
/// not go back: an earlier `now` is taken as the latest that it knows.
pub(super) trait Meter: fmt::Debug + Send + Sync {
    /// When so much can be spent if nothing else is, and what is in flight lands at once: `None` is now, and any other moment is later
    /// than `now`. More than there can ever be is taken as all of it.
    fn blocked_until(&mut self, cost: u64, now: Instant) -> Option<Instant>;

    /// Spends it, whether it may or not, and says how much of it counts and has to land.
    fn take(&mut self, cost: u64, now: Instant) -> u64;

    /// So much of what is in flight was written.
    fn land(&mut self, cost: u64, now: Instant);

    /// How much can be spent.
    fn left(&self, now: Instant) -> u64;

    /// How much that is at most.
    fn of(&self) -> u64;

    /// How long until so many messages of cost 1 could have gone.
    fn delay(&self, waiting: u64, now: Instant) -> Duration;

    /// Whether it is as if it were new.
    fn is_full(&self, now: Instant) -> bool;

    /// The latest moment that it knows.
    fn seen(&self) -> Instant;
}

/// A budget of which nothing is spent.
pub(super) fn meter(limit: &Limit, now: Instant) -> Box<dyn Meter> {
    let margin = clamped_margin(limit);
    match limit.rate().clamped() {
        Rate::Window { max, per } => Box::new(Window::new(max, per + margin, now)),
        Rate::Credits { capacity, refill, per } => Box::new(Credits::new(capacity, refill, per, margin, now)),
    }
}

/// A moment later. Where the clock ends it is the same moment, and whoever waits for it need not wait.
pub(super) fn after(at: Instant, time: Duration) -> Instant {
    at.checked_add(time).unwrap_or(at)
}
