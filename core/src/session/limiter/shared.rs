//! Budgets that several sessions share.

use super::limit::Limit;
use super::meter::{Meter, meter};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// So many budgets are kept before those that are full again are looked for.
const SWEEP_AT: usize = 64;

/// The budgets of limits that are [shared](Limit::shared): give a clone of it to each session that is to share them.
///
/// A budget is known by its account and the name of its limit. Sessions should define it alike; as long as it is in use, it stays as
/// the first of them defined it. A budget that is full again is forgotten sooner or later, so that what is kept does not grow with the
/// accounts that there once were.
#[derive(Clone, Default)]
pub struct SharedLimits {
    budgets: Arc<Mutex<Budgets>>,
}

impl SharedLimits {
    /// Budgets of which nothing is spent.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Budgets> {
        // Nothing is called under the lock that could leave it half done.
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedLimits {
    /// Without the accounts, which might be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimits").field("budgets", &self.lock().meters.len()).finish_non_exhaustive()
    }
}

/// Of what account, and of what name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    account: Arc<str>,
    name: Arc<str>,
}

impl Key {
    /// `None` if the limit is not shared.
    pub(super) fn of(limit: &Limit) -> Option<Self> {
        Some(Self { account: limit.account()?.into(), name: limit.name().into() })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(super) struct Budgets {
    meters: BTreeMap<Key, Box<dyn Meter>>,
    /// At how many the next sweep is: twice what the last one left, so that sweeping costs little however many are in use.
    sweep_at: usize,
}

impl Budgets {
    /// The budget, if anything may be spent of it.
    pub(super) fn find(&self, key: &Key) -> Option<&dyn Meter> {
        self.meters.get(key).map(|meter| &**meter)
    }

    /// The same, to change it.
    pub(super) fn find_mut(&mut self, key: &Key) -> Option<&mut Box<dyn Meter>> {
        self.meters.get_mut(key)
    }

    /// The budget; it is made if it is not there.
    pub(super) fn budget(&mut self, key: &Key, limit: &Limit, now: Instant) -> &mut dyn Meter {
        if self.meters.len() >= self.sweep_at.max(SWEEP_AT) && !self.meters.contains_key(key) {
            self.meters.retain(|_, meter| !meter.is_full(now));
            self.sweep_at = self.meters.len().saturating_mul(2);
        }
        &mut **self.meters.entry(key.clone()).or_insert_with(|| meter(limit, now))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.meters.len()
    }
}
