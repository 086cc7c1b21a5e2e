//! Silence of what should bring data: a connection, or one topic. It may mean that the peer is dead, that it forgot the subscription, or that
//! nothing happens in the market. What is done about it goes from cheap to dear, and ends.
//!
//! ```text
//!                  silent for `after`        again                 again
//! Off --start--> Calm -----------> Probe told -----> Resubscribe told -----> Reconnect told
//!                 ^                    |                    |                      |
//!                 |                    v                    v                      v
//!                 +------ data --------+------ data --------+         Resting: no deadline, until data
//!
//! `up_to` told:     rests until data, like after Reconnect
//! stop (from any):  Off. Only a Reconnect that was told is remembered, with the rest after it
//! ```
//!
//! - A step is told when it is due, once. Each has its own full `after` since the step before, however late the session wakes up.
//! - `Probe` is a ping out of turn: if the peer is dead, [`Liveness`](super::liveness::Liveness) finds out. If it answers, the market may be quiet.
//! - After the last allowed step the watch rests until data comes. A quiet market is told once: neither the confirmation of
//!   the resubscribe that the watch asked for, nor the start on the connection that it asked for, begins it all anew.

use super::config::MAX_TIME;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What to do when no data comes: opt-in, for a connection or for a topic.
///
/// Only data counts, not pings, pongs or heartbeats. `after` should be well above the longest pause of a quiet hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    pub(crate) after: Duration,
    pub(crate) up_to: Step,
}

impl Watch {
    /// Acts when there was no data for `after`, and again after each further `after`: [`Step::Probe`], then [`Step::Resubscribe`], and no
    /// more. `after` is between a millisecond and a year; what is not is brought into that.
    pub fn after(after: Duration) -> Self {
        Self { after: after.clamp(Duration::from_millis(1), MAX_TIME), up_to: Step::Resubscribe }
    }

    /// Goes no further than this step. Default [`Step::Resubscribe`].
    pub fn up_to(self, step: Step) -> Self {
        Self { up_to: step, ..self }
    }
}

/// What is done about silence, from cheap to dear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A ping. If it is not answered in time, the connection is dead.
    Probe,
    /// The silent topics are unsubscribed and subscribed to anew.
    Resubscribe,
    /// Another connection.
    Reconnect,
}

impl Step {
    fn next(self) -> Option<Self> {
        match self {
            Self::Probe => Some(Self::Resubscribe),
            Self::Resubscribe => Some(Self::Reconnect),
            Self::Reconnect => None,
        }
    }
}

/// The watch over one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Silence {
    on: Option<On>,
    /// The last step that was told. Data may have come since, if `On::fresh` says so.
    told: Option<Step>,
}

#[derive(Debug, Clone, Copy)]
struct On {
    watch: Watch,
    /// When the silence began that is measured now: the start, the newest data that was looked at, or the last step.
    since: Instant,
    /// The newest data, and whether there was any since the last step.
    heard: Instant,
    fresh: bool,
    /// When to look again. Data does not move it, so that a message costs no search: the look finds that it was too early.
    due: Option<Instant>,
}

impl Silence {
    /// Begins to watch, as of `now`: the connection is up, or the topic is in force. What was told and led to no data stays told, so
    /// that this may be called again after each step: the next step has its full time from here, and a watch that rests goes on resting.
    pub(crate) fn start(&mut self, watch: Watch, now: Instant) {
        self.told = self.told();
        let rests = self.told.is_some_and(|step| step >= watch.up_to);
        let due = if rests { None } else { later(now, watch) };
        self.on = Some(On { watch, since: now, heard: now, fresh: false, due });
    }

    /// The connection is lost, or the topic is not wanted. The next start is from the first step, unless this watch asked for the
    /// reconnect and no data came since.
    pub(crate) fn stop(&mut self) {
        self.told = self.told().filter(|step| *step == Step::Reconnect);
        self.on = None;
    }

    /// Data came. True if there is a [`deadline`](Self::deadline) now and there was none before; otherwise nothing but a note is taken.
    #[inline]
    pub(crate) fn heard(&mut self, now: Instant) -> bool {
        let Some(on) = &mut self.on else { return false };
        on.heard = on.heard.max(now);
        on.fresh = true;
        if on.due.is_some() || self.told.is_none() {
            return false;
        }
        self.told = None;
        on.due = later(on.heard, on.watch);
        on.since = on.heard;
        on.fresh = false;
        on.due.is_some()
    }

    /// When to call [`check`](Self::check); it may turn out to be too early. `None`: off or resting.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.on?.due
    }

    /// The step that was told last and has not led to data.
    pub(crate) fn told(&self) -> Option<Step> {
        self.told.filter(|_| self.on.is_none_or(|on| !on.fresh))
    }

    /// The step that was told is done only `now`, having waited for its turn: the next has its full time from here.
    pub(crate) fn progressed(&mut self, now: Instant) {
        if let Some(on) = &mut self.on
            && self.told.is_some()
        {
            on.since = on.since.max(now);
        }
    }

    /// The step to be taken, if it is time for one: at most one, and then there is a later deadline or none. To be called once all that
    /// arrived is taken. `last_data` is for who keeps that anyway and spares the [`heard`](Self::heard) of each message (a watch that
    /// rests needs it); anything not after the last step does nothing.
    pub(crate) fn check(&mut self, last_data: Instant, now: Instant) -> Option<Step> {
        let on = self.on.as_mut()?;
        if on.due.is_none_or(|due| now < due) {
            return None;
        }
        // What claims to come from the future would be silence without end.
        let heard = on.heard.max(last_data).min(now);
        if on.fresh || heard > on.since {
            self.told = None;
            on.since = heard;
        }
        on.fresh = false;
        on.due = later(on.since, on.watch);
        if on.due.is_none_or(|due| now < due) {
            return None;
        }
        let step = self.told.map_or(Some(Step::Probe), Step::next).filter(|step| *step <= on.watch.up_to);
        on.since = now;
        on.due = later(now, on.watch).filter(|_| step.is_some_and(|step| step < on.watch.up_to));
        self.told = step.or(self.told);
        step
    }
}

/// `None` beyond the end of time.
fn later(from: Instant, watch: Watch) -> Option<Instant> {
    from.checked_add(watch.after)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    use super::Step::{Probe, Reconnect, Resubscribe};
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    const AFTER: Duration = Duration::from_secs(10);

    fn started(up_to: Step) -> (Silence, Instant) {
        let mut silence = Silence::default();
        let t0 = Instant::now();
        silence.start(Watch::after(AFTER).up_to(up_to), t0);
        (silence, t0)
    }

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn escalates_step_by_step_and_then_rests() {
        for (up_to, steps) in [
            (Probe, &[Probe][..]),
            (Resubscribe, &[Probe, Resubscribe]),
            (Reconnect, &[Probe, Resubscribe, Reconnect]),
        ] {
            let (mut silence, t0) = started(up_to);
            let mut now = t0;
            for (n, step) in steps.iter().enumerate() {
                let due = silence.deadline().unwrap();
                assert_eq!(due, t0 + AFTER * (n as u32 + 1));
                assert_eq!(silence.check(t0, due - Duration::from_nanos(1)), None);
                assert_eq!(silence.check(t0, due), Some(*step));
                assert_eq!(silence.check(t0, due), None, "told once");
                assert_eq!(silence.told(), Some(*step));
                now = due;
            }
            assert_eq!(silence.deadline(), None);
            assert_eq!(silence.check(t0, now + s(100_000)), None);
            assert!(silence.heard(now + s(100_001)), "armed again");
            assert_eq!((silence.deadline(), silence.told()), (Some(now + s(100_011)), None));
            assert_eq!(silence.check(t0, now + s(100_011)), Some(Probe), "from the first step");
        }
        assert_eq!(Watch::after(AFTER).up_to, Resubscribe);
    }

    #[test]
    fn data_at_any_point_is_calm_again() {
        let (mut silence, t0) = started(Reconnect);
        assert!(!silence.heard(t0 + s(7)));
        assert_eq!(silence.deadline(), Some(t0 + s(10)), "not moved by data");
        assert_eq!(silence.check(t0, t0 + s(10)), None);
        assert_eq!(silence.deadline(), Some(t0 + s(17)), "but found out by the look");
        assert_eq!(silence.check(t0, t0 + s(17)), Some(Probe));
        // Data in the same moment, but after the step.
        silence.heard(t0 + s(17));
        assert_eq!(silence.check(t0, t0 + s(27)), Some(Probe));
        // By `last_data` as well as by `heard`.
        assert_eq!(silence.check(t0 + s(30), t0 + s(37)), None);
        assert_eq!(silence.deadline(), Some(t0 + s(40)));
        assert_eq!(silence.check(t0 + s(30), t0 + s(40)), Some(Probe));
        assert_eq!(silence.check(t0 + s(30), t0 + s(50)), Some(Resubscribe), "old data is no data");
    }

    #[test]
    fn late_wake_ups_skip_nothing() {
        let (mut silence, t0) = started(Reconnect);
        let day = s(86_400);
        assert_eq!(silence.check(t0, t0 + day), Some(Probe));
        assert_eq!(silence.deadline(), Some(t0 + day + AFTER), "its own full time");
        assert_eq!(silence.check(t0, t0 + day + s(9)), None);
        assert_eq!(silence.check(t0, t0 + day * 2), Some(Resubscribe));
        assert_eq!(silence.check(t0, t0 + day * 2 + s(9)), None);
        assert_eq!(silence.check(t0, t0 + day * 2 + s(10)), Some(Reconnect));
    }

    #[test]
    fn a_step_that_waited_for_its_turn_gives_the_next_its_full_time() {
        let (mut silence, t0) = started(Reconnect);
        silence.progressed(t0 + s(9));
        assert_eq!(silence.check(t0, t0 + s(10)), Some(Probe), "nothing was told that could progress");
        assert_eq!(silence.check(t0, t0 + s(20)), Some(Resubscribe));
        silence.progressed(t0 + s(26));
        assert_eq!(silence.check(t0, t0 + s(30)), None);
        assert_eq!(silence.deadline(), Some(t0 + s(36)));
        assert_eq!(silence.check(t0, t0 + s(36)), Some(Reconnect));
    }

    #[test]
    fn a_quiet_market_reconnects_once() {
        let (mut silence, t0) = started(Reconnect);
        let watch = Watch::after(AFTER).up_to(Reconnect);
        for (at, step) in [(10, Probe), (20, Resubscribe), (30, Reconnect)] {
            assert_eq!(silence.check(t0, t0 + s(at)), Some(step));
        }
        for round in 1..10 {
            let now = t0 + s(100 * round);
            silence.stop();
            assert!(!silence.heard(now), "off hears nothing");
            silence.start(watch, now);
            assert_eq!((silence.deadline(), silence.check(t0, now + s(99))), (None, None));
        }
        assert!(silence.heard(t0 + s(2000)));
        assert_eq!(silence.check(t0, t0 + s(2010)), Some(Probe));
        // A connection that was lost for another reason: from the first step.
        silence.stop();
        assert_eq!((silence.deadline(), silence.check(t0, t0 + s(9000))), (None, None));
        silence.start(watch, t0 + s(9000));
        assert_eq!(silence.told(), None);
        assert_eq!(silence.check(t0, t0 + s(9010)), Some(Probe));
    }

    #[test]
    fn a_resubscribe_that_is_confirmed_does_not_begin_anew() {
        let watch = Watch::after(AFTER);
        let (mut silence, t0) = started(Resubscribe);
        assert_eq!(silence.check(t0, t0 + s(10)), Some(Probe));
        silence.start(watch, t0 + s(11));
        assert_eq!(silence.deadline(), Some(t0 + s(21)), "spurious: no step is lost or repeated");
        assert_eq!(silence.check(t0, t0 + s(21)), Some(Resubscribe));
        for round in 1..5 {
            silence.start(watch, t0 + s(30 * round));
            assert_eq!((silence.deadline(), silence.told()), (None, Some(Resubscribe)));
        }
        // Told to go further from now on, it does.
        silence.start(watch.up_to(Reconnect), t0 + s(200));
        assert_eq!(silence.check(t0, t0 + s(210)), Some(Reconnect));
        // Data came, and no look was taken yet: the next start is from the first step, and nothing is told any more.
        let (mut silence, t0) = started(Resubscribe);
        assert_eq!(silence.check(t0, t0 + s(10)), Some(Probe));
        silence.heard(t0 + s(11));
        assert_eq!(silence.told(), None);
        silence.start(watch, t0 + s(12));
        assert_eq!(silence.check(t0, t0 + s(22)), Some(Probe));
        // Another connection, for another reason, while it rests.
        assert_eq!(silence.check(t0, t0 + s(32)), Some(Resubscribe));
        silence.stop();
        silence.start(watch, t0 + s(40));
        assert_eq!(silence.check(t0, t0 + s(50)), Some(Probe));
    }

    #[test]
    fn times_that_make_no_sense_are_harmless() {
        let (mut silence, t0) = started(Reconnect);
        let t0 = t0 + s(1000);
        silence.start(Watch::after(AFTER), t0);
        silence.heard(t0 - s(500));
        assert_eq!(silence.check(t0 - s(800), t0 - s(900)), None);
        assert_eq!(silence.check(t0 + s(1_000_000), t0 + s(11)), None, "from the future counts as now");
        assert_eq!(silence.deadline(), Some(t0 + s(21)));
        assert_eq!(silence.check(t0, t0 + s(21)), Some(Probe));
        assert_eq!(Watch::after(Duration::ZERO).after, Duration::from_millis(1));
        assert_eq!(Watch::after(Duration::MAX).after, MAX_TIME);
        let mut raw = Silence::default();
        raw.start(Watch { after: Duration::MAX, up_to: Probe }, t0);
        assert_eq!((raw.deadline(), raw.heard(t0), raw.check(t0, t0 + s(9))), (None, false, None));
        assert_eq!(Silence::default().check(t0, t0), None);
    }

    /// Against a history of all that happened: silence is measured from the newest of start, data and steps, and the
    /// step follows from those told since the newest data.
    #[test]
    fn agrees_with_a_naive_history() {
        for seed in 0..400 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let up_to = [Probe, Resubscribe, Reconnect][seed as usize % 3];
            let (mut silence, t0) = started(up_to);
            let by_argument = seed % 5 == 0;
            let (mut now, mut last_data) = (t0, t0);
            let mut told: Vec<(Instant, Step)> = Vec::new();
            let mut steps = 0;
            for _ in 0..300 {
                now += Duration::from_millis(u64::from(1 + rng.next_u32() % 6000));
                if rng.next_u32().is_multiple_of(16) {
                    now += s(u64::from(rng.next_u32() % 100));
                }
                if rng.next_u32().is_multiple_of(7) {
                    last_data = now;
                    if told.len() == 1 + up_to as usize || !by_argument {
                        assert_eq!(silence.heard(now), told.len() == 1 + up_to as usize);
                    }
                    told.clear();
                }
                let silent_since = told.last().map_or(last_data, |(at, _)| *at);
                let due = now.duration_since(silent_since) >= AFTER;
                let expected = [Probe, Resubscribe, Reconnect]
                    .get(told.len())
                    .copied()
                    .filter(|step| due && *step <= up_to);
                // Who keeps to deadlines finds the same as who looks always.
                let looks = silence.deadline().is_some_and(|at| at <= now);
                let found = if looks || rng.next_u32().is_multiple_of(2) {
                    silence.check(if by_argument { last_data } else { t0 }, now)
                } else {
                    None
                };
                assert_eq!(found, expected, "seed {seed} at {:?}", now - t0);
                assert!(silence.deadline().is_none_or(|at| at > now), "no spin");
                told.extend(found.map(|step| (now, step)));
                steps += usize::from(found.is_some());
            }
            assert!(steps > 10, "seed {seed}: {steps} steps");
        }
    }
}
