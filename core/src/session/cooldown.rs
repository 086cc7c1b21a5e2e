//! Which hosts are left alone for now, by all sessions together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Hosts that asked to be left alone, until when. Sessions that share one (clones are the same) wait together: a server that
/// said 429 to one of them is not asked by the next.
///
/// It knows no clock: times are those of the sessions, which must come from the same one.
#[derive(Clone, Default)]
pub struct Cooldown {
    hosts: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Cooldown {
    /// The most hosts that are remembered. Beyond, what would end first is forgotten first.
    pub const MAX_HOSTS: usize = 1024;

    /// No host is held.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves `host` alone until then. It never shortens what was said before. `host` is a name and a port, `example.com:443`, in
    /// lower case.
    pub fn hold(&self, host: &str, until: Instant) {
        let mut hosts = self.lock();
        if let Some(held) = hosts.get_mut(host) {
            *held = until.max(*held);
            return;
        }
        hosts.insert(host.to_owned(), until);
        if hosts.len() > Self::MAX_HOSTS {
            let first = hosts.iter().min_by_key(|(_, until)| **until).map(|(host, _)| host.clone());
            if let Some(first) = first {
                hosts.remove(&first);
            }
        }
    }

    /// Until when `host` is to be left alone, which is later than `now`; `None` if it is not. Whatever is over by `now` is forgotten.
    pub fn until(&self, host: &str, now: Instant) -> Option<Instant> {
        let mut hosts = self.lock();
        hosts.retain(|_, until| *until > now);
        hosts.get(host).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        // Nothing panics while it is locked, and a map of times has no state that could be half made.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cooldown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cooldown").field("hosts", &self.lock().len()).finish()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn holds_for_all_clones_and_never_shortens() {
        let t = Instant::now();
        let one = Cooldown::new();
        let other = one.clone();
        one.hold("a:443", t + 10 * SECOND);
        assert_eq!(other.until("a:443", t), Some(t + 10 * SECOND));
        other.hold("a:443", t + 5 * SECOND);
        assert_eq!(one.until("a:443", t), Some(t + 10 * SECOND));
        other.hold("a:443", t + 20 * SECOND);
        assert_eq!(one.until("a:443", t), Some(t + 20 * SECOND));
        assert_eq!(one.until("a:80", t), None, "another port is another server");
        assert_eq!(Cooldown::new().until("a:443", t), None);
    }

    #[test]
    fn ends_at_its_moment_and_is_forgotten() {
        let t = Instant::now();
        let cooldown = Cooldown::new();
        cooldown.hold("a:1", t + SECOND);
        cooldown.hold("b:1", t + 2 * SECOND);
        assert_eq!(cooldown.until("a:1", t + SECOND - Duration::from_nanos(1)), Some(t + SECOND));
        assert_eq!(cooldown.until("a:1", t + SECOND), None);
        assert_eq!(format!("{cooldown:?}"), "Cooldown { hosts: 1 }");
        assert_eq!(cooldown.until("c:1", t + 2 * SECOND), None);
        assert_eq!(format!("{cooldown:?}"), "Cooldown { hosts: 0 }");
    }

    #[test]
    fn remembers_so_many_and_forgets_what_ends_first() {
        let t = Instant::now();
        let cooldown = Cooldown::new();
        // Those that end last are told first, so that neither order of names nor of calls decides.
        for n in (1..=Cooldown::MAX_HOSTS as u32 + 10).rev() {
            cooldown.hold(&format!("host{}:443", n % 97 * 10_000 + n), t + n * SECOND);
        }
        assert_eq!(format!("{cooldown:?}"), "Cooldown { hosts: 1024 }");
        for n in 1..=Cooldown::MAX_HOSTS as u32 + 10 {
            let held = cooldown.until(&format!("host{}:443", n % 97 * 10_000 + n), t);
            assert_eq!(held, (n > 10).then_some(t + n * SECOND), "{n}");
        }
        cooldown.hold("late:443", t + 100_000 * SECOND);
        assert_eq!(cooldown.until("late:443", t), Some(t + 100_000 * SECOND));
        assert_eq!(format!("{cooldown:?}"), "Cooldown { hosts: 1024 }");
    }

    #[test]
    fn a_panic_elsewhere_does_not_end_it() {
        let t = Instant::now();
        let cooldown = Cooldown::new();
        let other = cooldown.clone();
        let panicked = std::panic::catch_unwind(move || {
            let _guard = other.hosts.lock().unwrap();
            panic!("poisons the lock");
        });
        assert!(panicked.is_err() && cooldown.hosts.is_poisoned());
        cooldown.hold("a:1", t + SECOND);
        assert_eq!(cooldown.until("a:1", t), Some(t + SECOND));
    }
}
