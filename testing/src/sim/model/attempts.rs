//! Attempts: when the next one begins, and that a dying server is left in peace.

use super::{Blame, Cause, Common, Did, Fact, Saw, Told, Verdict};
use everwire_core::State;
use std::collections::VecDeque;
use std::time::Duration;

/// Of so many delays in a row, as fractions of what each may be at most, the sum is at least this, unless chance is against us in one of a
/// hundred million cases. (The sum of n such is less than s with a probability of s^n / n!.)
const STORMS: [(usize, f64); 2] = [(8, 0.35), (16, 2.0)];

/// The default of `Config::flap_budget`, in attempts and time: one attempt less may be there to be seen.
const FLAPS: (usize, Duration) = (59, Duration::from_secs(600));

#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The last change to `Backoff` and to `Online`.
    backoff_at: Option<Duration>,
    online_at: Option<Duration>,
    /// Failures since the backoff was reset for certain, and since it may have been.
    most: u32,
    least: u32,
    fractions: VecDeque<f64>,
    /// When the last attempts began.
    begun: VecDeque<Duration>,
    /// When the next attempt may begin at the earliest.
    not_before: Option<Duration>,
    /// The venue's last refusal.
    refused: Option<(u16, Option<Duration>)>,
    reconnects: bool,
}

impl Attempts {
    pub(super) fn see(&mut self, fact: &Fact, common: &Common) -> Verdict {
        match fact {
            Fact::Look(_) => self.look(common),
            Fact::Did(Did::Reconnect) => {
                // He does not want to wait.
                (self.not_before, self.reconnects) = (None, true);
                Ok(())
            }
            Fact::Venue(_, Saw::Refused { status, retry_after }) => {
                self.refused = Some((*status, *retry_after));
                Ok(())
            }
            // A network that holds things back for a while makes a crowd of what was well spaced: nobody can know.
            Fact::Venue(conn, Saw::Closing { blame: Blame::Limit, .. })
                if common.terms.limited.is_some() && common.terms.reliable.is_some() =>
            {
                Err(format!("connection {conn} sent more than the venue's limit"))
            }
            Fact::Told(Told::Lost { cause, retry_at, .. }) => {
                let stable = self.was_stable(common);
                self.next(*cause, *retry_at, stable, common)
            }
            Fact::Told(Told::AttemptFailed { cause, retry_at, .. }) => {
                if let Cause::Refused(status, wait) = cause
                    && self.refused != Some((*status, *wait))
                {
                    return Err(format!("told {cause:?}, but the venue said {:?}", self.refused));
                }
                self.next(*cause, *retry_at, Some(false), common)
            }
            _ => Ok(()),
        }
    }

    /// A session that used up its budget of attempts waits until there is one again.
    pub(super) fn is_spent(&self, common: &Common) -> bool {
        let recent = self.begun.iter().filter(|at| **at + FLAPS.1 >= self.backoff_at.unwrap_or(common.now));
        recent.count() >= FLAPS.0
    }

    fn look(&mut self, common: &Common) -> Verdict {
        for &(at, _, to) in &common.fresh {
            match to {
                State::Backoff => self.backoff_at = Some(at),
                State::Online => self.online_at = Some(at),
                State::Connecting => {
                    self.begun.push_back(at);
                    if self.begun.len() > FLAPS.0 {
                        self.begun.pop_front();
                    }
                    if let Some(not_before) = self.not_before.filter(|not_before| at < *not_before)
                        && self.backoff_at.is_some_and(|backoff| at >= backoff)
                    {
                        return Err(format!(
                            "an attempt began at {at:?}, but it was to wait until {not_before:?}"
                        ));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the connection that is lost lived long enough; `None` if that is hard to say.
    fn was_stable(&mut self, common: &Common) -> Option<bool> {
        // Without it, the connection did not come so far.
        let Some(online) = self.online_at.take() else { return Some(false) };
        let lost = self.backoff_at.unwrap_or(common.now);
        let lived = lost.saturating_sub(online);
        let slack = common.terms.slack;
        if lived + slack < common.terms.stable_after || lived.is_zero() {
            return Some(false);
        }
        // While he does not listen, nothing is known of what is due.
        (lived > common.terms.stable_after + slack && common.awake_from(online)).then_some(true)
    }

    /// The next attempt is announced.
    fn next(
        &mut self,
        cause: Cause,
        retry_at: Option<Duration>,
        stable: Option<bool>,
        common: &Common,
    ) -> Verdict {
        match stable {
            Some(true) => {
                (self.most, self.least) = (0, 0);
                self.fractions.clear();
            }
            Some(false) => {}
            None => {
                self.least = 0;
                self.fractions.clear();
            }
        }
        let Some(retry_at) = retry_at else { return Ok(()) };
        let begun = self.backoff_at.unwrap_or_default();
        let delay = retry_at.saturating_sub(begun);
        let spent = self.is_spent(common);
        if cause == Cause::Reconnect {
            self.not_before = None;
            return if delay.is_zero() || spent {
                Ok(())
            } else {
                Err(format!("a reconnect that was asked for waits for {delay:?}"))
            };
        }
        self.not_before = (!std::mem::take(&mut self.reconnects)).then_some(retry_at);
        let wait = match cause {
            Cause::Refused(_, Some(wait)) => wait,
            Cause::Refused(429, None) | Cause::Closed(1008 | 1013) => Duration::from_secs(10),
            _ => Duration::ZERO,
        };
        // Where there are others to turn to, only that host is left alone. What 1013 complains about is not the rate.
        let turns = common.terms.endpoints.len() > 1 && cause != Cause::Closed(1013);
        let wait = if turns { Duration::ZERO } else { wait };
        let (initial, max) = common.terms.backoff;
        let bound = |failures: u32| {
            let doubled = 1u32.checked_shl(failures).map(|factor| initial.saturating_mul(factor));
            doubled.unwrap_or(max).min(max)
        };
        if delay < wait {
            return Err(format!("the next attempt comes after {delay:?}, but {cause:?} wants {wait:?}"));
        }
        // Those who were told to wait need not all come back at the same moment.
        let most = bound(self.most) + wait + Duration::from_millis(1);
        if delay > (if spent { most.max(FLAPS.1) } else { most }) {
            return Err(format!(
                "the next attempt waits for {delay:?}, more than {most:?}, after {} failures",
                self.most
            ));
        }
        if wait.is_zero() {
            self.fractions
                .push_front((delay.as_secs_f64() / bound(self.least).as_secs_f64().max(1e-9)).min(1.0));
            self.fractions.truncate(16);
            for (count, least) in STORMS {
                let sum: f64 = self.fractions.iter().take(count).sum();
                if self.fractions.len() >= count && sum < least {
                    return Err(format!("a storm: {count} delays in a row are {sum:.3} of what they may be"));
                }
            }
        }
        self.most += 1;
        self.least += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, broken, broken_with, fine, fine_with, told, venue};
    use super::super::{Look, Terms};
    use super::*;

    /// An attempt began and failed at the moment of fact number `since`.
    fn look(since: u32) -> Fact {
        let begun = (at(since), State::Backoff, State::Connecting);
        let transitions = vec![begun, (at(since), State::Connecting, State::Backoff)];
        Fact::Look(Look { state: State::Backoff, transitions, received: 0, subscriptions: vec![] })
    }

    fn connecting(since: u32) -> Fact {
        let transitions = vec![(at(since), State::Backoff, State::Connecting)];
        Fact::Look(Look { state: State::Connecting, transitions, received: 0, subscriptions: vec![] })
    }

    fn failed(cause: Cause, retry_at: Duration) -> Fact {
        told(Told::AttemptFailed { failures: 1, cause, retry_at: Some(retry_at) })
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn delays_are_within_bounds() {
        let other = Cause::Other;
        fine([look(0), failed(other, at(0) + millis(500))]);
        broken("more than", [look(0), failed(other, at(0) + millis(502))]);
        let second = |delay| [look(0), failed(other, at(0)), look(2), failed(other, at(2) + delay)];
        fine(second(millis(1000)));
        broken("more than", second(millis(1002)));
    }

    #[test]
    fn servers_that_want_to_be_left_alone_are() {
        let refused =
            |seconds| venue(1, Saw::Refused { status: 503, retry_after: Some(Duration::from_secs(seconds)) });
        let cause = Cause::Refused(503, Some(Duration::from_secs(7)));
        fine([refused(7), look(1), failed(cause, at(1) + Duration::from_secs(7))]);
        broken("wants 7s", [refused(7), look(1), failed(cause, at(1) + millis(6999))]);
        broken("but the venue said", [refused(8), look(1), failed(cause, at(1) + Duration::from_secs(7))]);
        let closed = |code, wait| {
            let (cause, retry_at) = (Cause::Closed(code), Some(at(0) + wait));
            [
                look(0),
                told(Told::Lost { epoch: 1, cause, retry_at, not_sent: (1, 1), waiting: vec![], cut: None }),
            ]
        };
        broken("wants 10s", closed(1008, millis(400)));
        fine(closed(1008, Duration::from_secs(10)));
        fine(closed(1001, millis(400)));
    }

    #[test]
    fn attempts_wait_for_their_time() {
        // Fact 0 is at one second, and each later one a second later.
        let refused = venue(1, Saw::Refused { status: 503, retry_after: Some(Duration::from_secs(7)) });
        let cause = Cause::Refused(503, Some(Duration::from_secs(7)));
        let history = [refused, look(1), failed(cause, at(8))];
        broken("was to wait until", history.clone().into_iter().chain([connecting(7)]));
        fine(history.clone().into_iter().chain([connecting(8)]));
        fine(history.into_iter().chain([Fact::Did(Did::Reconnect), connecting(4)]));
    }

    #[test]
    fn reconnects_on_demand_do_not_wait() {
        let lost = |retry_at| {
            let cause = Cause::Reconnect;
            told(Told::Lost {
                epoch: 1,
                cause,
                retry_at: Some(retry_at),
                not_sent: (1, 1),
                waiting: vec![],
                cut: None,
            })
        };
        let asked = || Fact::Did(Did::Reconnect);
        fine([look(0), asked(), lost(at(0))]);
        broken("that was asked for", [look(0), asked(), lost(at(1))]);
    }

    #[test]
    fn a_flapping_server_is_not_stormed() {
        // Always a tenth of the first bound, as if the backoff were reset by each connection.
        let storm = (0..40).flat_map(|i| [look(2 * i), failed(Cause::Other, at(2 * i) + millis(50))]);
        broken("a storm", storm);
        let fair = (0..40).flat_map(|i: u32| {
            let bound = (millis(500) * 2u32.saturating_pow(i.min(10))).min(Duration::from_secs(30));
            [look(40 * i), failed(Cause::Other, at(40 * i) + bound / 3)]
        });
        fine(fair);
    }

    #[test]
    fn punished_for_too_much() {
        let punished = venue(1, Saw::Closing { code: 1008, blame: Blame::Limit });
        fine([punished.clone()]);
        let limited = || Terms { limited: Some(Duration::from_secs(1)), ..Terms::default() };
        fine_with(limited(), [punished.clone()]);
        broken_with(Terms { reliable: Some(Duration::ZERO), ..limited() }, "venue's limit", [punished]);
    }
}
