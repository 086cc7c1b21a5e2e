//! How much may be sent, and when.
//!
//! `limit` is what a server allows; `window` and `credits` count what was spent of it, behind the `Meter` that `meter` describes; `shared`
//! keeps the budgets that belong to several sessions. The `Limiter` here asks all of a session's limits at once.
mod credits;
mod limit;
mod meter;
mod pressure;
mod shared;
mod window;

pub use limit::{Limit, LimitError, Rate};
pub use pressure::Pressure;
pub use shared::SharedLimits;

use meter::{Meter, meter};
use shared::{Budgets, Key};
use std::mem;
use std::time::{Duration, Instant};

/// All limits that hold for one connection after the other.
///
/// What is spent is in flight until `flushed` says that it was written: the server counts when it arrives, which cannot be before. While
/// in flight it counts as spent now.
#[derive(Debug)]
pub(crate) struct Limiter {
    slots: Vec<Slot>,
    shared: SharedLimits,
    /// Whether any limit is.
    shares: bool,
}

/// One limit.
#[derive(Debug)]
struct Slot {
    limit: Limit,
    /// Where its budget is, if it is shared.
    key: Option<Key>,
    /// The budget if it is not shared. None: nothing was spent of it.
    own: Option<Box<dyn Meter>>,
    /// Which part of what is in flight is ours.
    in_flight: u64,
    /// Of the message that is to be sent.
    cost: u32,
}

impl Slot {
    fn meter<'a>(&'a mut self, shared: Option<&'a mut Budgets>, now: Instant) -> &'a mut dyn Meter {
        match (&self.key, shared) {
            (Some(key), Some(budgets)) => budgets.budget(key, &self.limit, now),
            _ => &mut **self.own.get_or_insert_with(|| meter(&self.limit, now)),
        }
    }
}

impl Limiter {
    /// Holds to these limits. What cannot work about one (see [`Limit::validate`]) is taken as the nearest that can.
    pub(crate) fn new(limits: Vec<Limit>, shared: SharedLimits) -> Self {
        let slot = |limit| Slot { key: Key::of(&limit), limit, own: None, in_flight: 0, cost: 0 };
        let slots: Vec<_> = limits.into_iter().map(slot).collect();
        Self { shares: slots.iter().any(|slot| slot.key.is_some()), slots, shared }
    }

    /// Whether there is nothing to hold to.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Spends `cost` of each limit by its name, or nothing at all. A cost above what there can ever be is taken as all of it.
    ///
    /// # Errors
    /// The first moment at which it may succeed, later than `now`. It does then if nothing else was spent and what is in flight was
    /// written by `now`; later if not.
    pub(crate) fn try_spend(
        &mut self,
        cost: &mut dyn FnMut(&str) -> u32,
        now: Instant,
    ) -> Result<(), Instant> {
        // Before the lock is held: it is not our code.
        self.slots.iter_mut().for_each(|slot| slot.cost = cost(slot.limit.name()));
        let mut shared = self.shares.then(|| self.shared.lock());
        let spends = self.slots.iter_mut().filter(|slot| slot.cost > 0);
        // Once a limit allows it, it goes on to: all do when the last does.
        let blocked = spends.filter_map(|slot| {
            let cost = u64::from(slot.cost);
            slot.meter(shared.as_deref_mut(), now).blocked_until(cost, now)
        });
        blocked.max().map_or(Ok(()), Err)?;
        spend(&mut self.slots, shared.as_deref_mut(), now);
        Ok(())
    }

    /// Counts what is sent whether it may be or not, such as a close frame.
    pub(crate) fn spend_anyway(&mut self, cost: &mut dyn FnMut(&str) -> u32, now: Instant) {
        self.slots.iter_mut().for_each(|slot| slot.cost = cost(slot.limit.name()));
        let mut shared = self.shares.then(|| self.shared.lock());
        spend(&mut self.slots, shared.as_deref_mut(), now);
    }

    /// All that was spent is written.
    pub(crate) fn flushed(&mut self, now: Instant) {
        self.land(Some(now));
    }

    /// A new connection: its own budgets are full. What was spent of shared ones stays spent, at `now` if it was in flight.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.land(Some(now));
        self.slots.iter_mut().for_each(|slot| slot.own = None);
    }

    /// How long until about so many messages of cost 1 could have gone. The tightest limit decides, if nothing else is sent
    /// and what is in flight is written by `now`. For a window it is exact, for credits without a margin to a nanosecond per message; with
    /// a margin, or where several limits hold one another up, it may be longer.
    pub(crate) fn suggested_delay(&self, waiting: usize, now: Instant) -> Duration {
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        let delays = self.slots.iter().map(|slot| self.look(slot, now, |meter| meter.delay(waiting, now)));
        delays.max().unwrap_or_default()
    }

    /// What is left of each limit, and of how much: name, left, of.
    pub(crate) fn budget(&self, now: Instant) -> impl Iterator<Item = (&str, u64, u64)> {
        self.slots.iter().map(move |slot| {
            let (left, of) = self.look(slot, now, |meter| (meter.left(now), meter.of()));
            (slot.limit.name(), left, of)
        })
    }

    /// Asks a budget without making it.
    fn look<T>(&self, slot: &Slot, now: Instant, ask: impl Fn(&dyn Meter) -> T) -> T {
        let asked = match &slot.key {
            Some(key) => self.shared.lock().find(key).map(&ask),
            None => slot.own.as_deref().map(&ask),
        };
        asked.unwrap_or_else(|| ask(&*meter(&slot.limit, now)))
    }

    /// What is in flight was written: at `now`, or as late as its budget knows.
    fn land(&mut self, now: Option<Instant>) {
        for slot in self.slots.iter_mut().filter(|slot| slot.in_flight > 0) {
            let cost = mem::take(&mut slot.in_flight);
            let land = |meter: &mut Box<dyn Meter>| meter.land(cost, now.unwrap_or_else(|| meter.seen()));
            // It is there: as long as something is in flight, a budget is not forgotten.
            match &slot.key {
                Some(key) => drop(self.shared.lock().find_mut(key).map(land)),
                None => drop(slot.own.as_mut().map(land)),
            }
        }
    }
}

/// Takes each slot's cost from its budget.
fn spend(slots: &mut [Slot], mut shared: Option<&mut Budgets>, now: Instant) {
    for slot in slots.iter_mut().filter(|slot| slot.cost > 0) {
        let cost = u64::from(slot.cost);
        slot.in_flight += slot.meter(shared.as_deref_mut(), now).take(cost, now);
    }
}

impl Drop for Limiter {
    /// What others share must not stay in flight for ever.
    fn drop(&mut self) {
        self.land(None);
    }
}

#[cfg(test)]
mod tests;
