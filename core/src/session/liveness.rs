//! Whether a connection still lives: pings of our own and pongs that match them (RFC 6455 section 5.5.2), and heartbeats of the
//! protocol.
//!
//! ```text
//!        due                   a sign of life
//! Idle -------> send: Awaited ----------------> Idle
//!                 |      ^
//!                 |      +-- send again: the process itself slept (once)
//!                 +-- nothing for `timeout` --> Dead
//! ```
//!
//! A check that comes late by more than `timeout` says that the process slept (a suspended laptop, a stopped container), and nothing of
//! the peer: what it sent may be on its way still. So it is asked once more before it is given up.

use std::time::{Duration, Instant};

/// The pings of one connection.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    pulse: Pulse,
    payload: [u8; 8],
    sent: u64,
}

/// What is to be done when a deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Wait,
    /// Send a ping with this payload.
    Ping([u8; 8]),
    /// Nothing arrived for all the time that a pong was given.
    Dead,
}

impl Liveness {
    pub(crate) fn start(&mut self, interval: Option<Duration>, now: Instant) {
        self.pulse.start(interval, now);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.pulse.due
    }

    /// To be called once all that arrived is taken: a pong may be among it.
    pub(crate) fn check(&mut self, timeout: Duration, last_received: Instant, now: Instant) -> Verdict {
        match self.pulse.turn(timeout, last_received, now) {
            Turn::Wait => Verdict::Wait,
            Turn::Dead => Verdict::Dead,
            // A probe out of turn was not answered, but other things came: that is all it was to find out.
            Turn::Lives(_) if self.pulse.interval.is_none() => Verdict::Wait,
            // The peer owes the pong but sends other things: it lives, and is asked again.
            Turn::Send | Turn::Lives(_) => Verdict::Ping(self.ping(timeout, now)),
        }
    }

    /// A ping out of turn, for [`Silence`](super::watch::Silence), also where there are none by the clock. `None` if one is out already.
    pub(crate) fn probe(&mut self, timeout: Duration, now: Instant) -> Option<[u8; 8]> {
        self.pulse.awaited.is_none().then(|| self.ping(timeout, now))
    }

    /// The last ping waits for the rate limiter still, or was let go only now: its time begins here.
    pub(crate) fn held(&mut self, timeout: Duration, now: Instant) {
        self.pulse.sent(timeout, now);
    }

    /// The round-trip time, if the pong answers the last ping. Others mean nothing (RFC 6455 section 5.5.3).
    pub(crate) fn pong(
        &mut self,
        payload: &[u8],
        interval: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        if payload != self.payload {
            return None;
        }
        self.pulse.interval = interval;
        self.pulse.answered(now)
    }

    fn ping(&mut self, timeout: Duration, now: Instant) -> [u8; 8] {
        self.sent += 1;
        self.payload = self.sent.to_be_bytes();
        self.pulse.sent(timeout, now);
        self.payload
    }
}

/// Heartbeats of the protocol ([`Protocol::heartbeat`](crate::Protocol::heartbeat)) on one connection. They find a server whose WebSocket answers
/// pings while what is behind it is dead, so only data counts as life here, not bytes.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    pulse: Pulse,
    id: u64,
}

/// What is to be done about heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing yet.
    Wait,
    /// Send one, and tell so with [`Heartbeat::sent`] if an answer is to be awaited.
    Send,
    /// Neither an answer nor data for all the time that an answer was given.
    Dead,
}

impl Heartbeat {
    /// One each `interval`; `None`: none.
    pub(crate) fn start(&mut self, interval: Option<Duration>, now: Instant) {
        self.pulse.start(interval, now);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.pulse.due
    }

    /// To be called once all that arrived is taken. `last_data` is when the last message came, of those that prove that the server does its
    /// work; `None` if only the answer proves it. After [`Beat::Send`] the next is due an interval later.
    pub(crate) fn check(&mut self, timeout: Duration, last_data: Option<Instant>, now: Instant) -> Beat {
        // A moment that is never after the heartbeat was sent.
        let last_data = last_data.or(self.pulse.awaited).unwrap_or(now);
        match self.pulse.turn(timeout, last_data, now) {
            Turn::Wait => Beat::Wait,
            Turn::Dead => Beat::Dead,
            Turn::Lives(sent) => {
                self.pulse.rest(sent, now);
                Beat::Wait
            }
            Turn::Send => {
                self.pulse.rest(now, now);
                Beat::Send
            }
        }
    }

    /// Heartbeat `id` is on its way, and answered within `timeout` if the server does its work.
    pub(crate) fn sent(&mut self, id: u64, timeout: Duration, now: Instant) {
        self.id = id;
        self.pulse.sent(timeout, now);
    }

    /// Heartbeat `id` waits for the rate limiter still, or was let go only now: its time begins here, if it is the last one.
    pub(crate) fn held(&mut self, id: u64, timeout: Duration, now: Instant) {
        if id == self.id {
            self.pulse.sent(timeout, now);
        }
    }

    /// The last heartbeat.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether its answer is awaited.
    pub(crate) fn is_awaited(&self) -> bool {
        self.pulse.awaited.is_some()
    }

    /// An answer came, to heartbeat `id` if it tells. The round-trip time, if it is the one that is awaited.
    pub(crate) fn answered(&mut self, id: Option<u64>, now: Instant) -> Option<Duration> {
        if id.is_some_and(|id| id != self.id) {
            return None;
        }
        self.pulse.answered(now)
    }
}

/// Something goes out every so often and has to lead to something.
#[derive(Debug, Default)]
struct Pulse {
    interval: Option<Duration>,
    /// When the next is to go out, or by when there must be a sign.
    due: Option<Instant>,
    /// When the one went out that is not answered.
    awaited: Option<Instant>,
    /// That the process slept has been allowed for since the last sign of life.
    slept: bool,
}

enum Turn {
    Wait,
    Send,
    /// Not answered, but there was a sign of life since it went out at this time.
    Lives(Instant),
    Dead,
}

impl Pulse {
    fn start(&mut self, interval: Option<Duration>, now: Instant) {
        let due = interval.and_then(|interval| now.checked_add(interval));
        *self = Self { interval, due, awaited: None, slept: false };
    }

    /// What is due is disarmed: who gets anything but `Wait` arms what is next.
    fn turn(&mut self, timeout: Duration, last_sign: Instant, now: Instant) -> Turn {
        let Some(due) = self.due.take_if(|due| now >= *due) else { return Turn::Wait };
        let Some(sent) = self.awaited.take() else { return Turn::Send };
        if last_sign > sent {
            self.slept = false;
            return Turn::Lives(sent);
        }
        if now.saturating_duration_since(due) > timeout && !std::mem::replace(&mut self.slept, true) {
            return Turn::Send;
        }
        Turn::Dead
    }

    fn sent(&mut self, timeout: Duration, now: Instant) {
        self.awaited = Some(now);
        self.due = now.checked_add(timeout.max(TICK));
    }

    fn answered(&mut self, now: Instant) -> Option<Duration> {
        let sent = self.awaited.take()?;
        self.slept = false;
        self.rest(sent, now);
        Some(now.saturating_duration_since(sent))
    }

    /// The next is an interval after the last, but not before anything else can happen.
    fn rest(&mut self, sent: Instant, now: Instant) {
        let next = self.interval.and_then(|interval| sent.checked_add(interval));
        self.due = next.and_then(|next| Some(next.max(now.checked_add(TICK)?)));
    }
}

/// How far ahead a new deadline is at least, so that nothing spins.
pub(crate) const TICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(20);
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn second(start: Instant, n: u64) -> Instant {
        start + Duration::from_secs(n)
    }

    #[test]
    fn silence_after_a_ping_is_death() {
        let t0 = Instant::now();
        let mut live = Liveness::default();
        live.start(Some(INTERVAL), t0);
        assert_eq!(live.check(TIMEOUT, t0, second(t0, 19)), Verdict::Wait);
        assert!(matches!(live.check(TIMEOUT, t0, second(t0, 20)), Verdict::Ping(_)));
        assert_eq!(live.check(TIMEOUT, t0, second(t0, 29)), Verdict::Wait);
        assert_eq!(live.check(TIMEOUT, t0, second(t0, 30)), Verdict::Dead);
        assert_eq!(live.deadline(), None);
    }

    #[test]
    fn only_the_matching_pong_counts_and_any_bytes_are_life() {
        let t0 = Instant::now();
        let mut live = Liveness::default();
        live.start(Some(INTERVAL), t0);
        let Verdict::Ping(payload) = live.check(TIMEOUT, t0, second(t0, 20)) else { panic!("due") };
        assert_eq!(live.pong(b"other", Some(INTERVAL), second(t0, 21)), None);
        assert_eq!(live.pong(&payload, Some(INTERVAL), second(t0, 21)), Some(Duration::from_secs(1)));
        assert_eq!(live.pong(&payload, Some(INTERVAL), second(t0, 22)), None, "a pong counts once");
        assert_eq!(live.deadline(), Some(second(t0, 40)));
        assert!(matches!(live.check(TIMEOUT, t0, second(t0, 40)), Verdict::Ping(_)));
        // Data, but no pong: pinged again, not dead.
        assert!(matches!(live.check(TIMEOUT, second(t0, 45), second(t0, 50)), Verdict::Ping(_)));
    }

    fn ping(verdict: Verdict) -> [u8; 8] {
        let Verdict::Ping(payload) = verdict else { panic!("{verdict:?}") };
        payload
    }

    #[test]
    fn a_process_that_slept_asks_once_more() {
        let t0 = Instant::now();
        let mut live = Liveness::default();
        live.start(Some(INTERVAL), t0);
        let first = ping(live.check(TIMEOUT, t0, second(t0, 20)));
        // Due at 30. Late by no more than the timeout is the usual lateness of a loop.
        let woken = second(t0, 41);
        let again = ping(live.check(TIMEOUT, t0, woken));
        assert_ne!(first, again);
        assert_eq!(live.deadline(), Some(second(t0, 51)), "a fresh deadline");
        assert_eq!(live.pong(&first, Some(INTERVAL), second(t0, 42)), None);
        assert_eq!(live.check(TIMEOUT, t0, second(t0, 50)), Verdict::Wait);
        assert_eq!(live.check(TIMEOUT, t0, second(t0, 1000)), Verdict::Dead, "once, however late again");

        let mut punctual = Liveness::default();
        punctual.start(Some(INTERVAL), t0);
        ping(punctual.check(TIMEOUT, t0, second(t0, 20)));
        assert_eq!(punctual.check(TIMEOUT, t0, second(t0, 40)), Verdict::Dead);

        // A sign of life between two sleeps: each is allowed for.
        let mut lucky = Liveness::default();
        lucky.start(Some(INTERVAL), t0);
        ping(lucky.check(TIMEOUT, t0, second(t0, 20)));
        let payload = ping(lucky.check(TIMEOUT, t0, second(t0, 1000)));
        assert!(lucky.pong(&payload, Some(INTERVAL), second(t0, 1001)).is_some());
        ping(lucky.check(TIMEOUT, t0, second(t0, 1020)));
        ping(lucky.check(TIMEOUT, t0, second(t0, 5000)));
        assert_eq!(lucky.check(TIMEOUT, t0, second(t0, 5010)), Verdict::Dead);
    }

    #[test]
    fn time_that_goes_back_is_harmless() {
        let t0 = Instant::now() + Duration::from_secs(1000);
        let earlier = t0 - Duration::from_secs(900);
        let mut live = Liveness::default();
        live.start(Some(INTERVAL), t0);
        assert_eq!(live.check(TIMEOUT, earlier, earlier), Verdict::Wait);
        let payload = ping(live.check(TIMEOUT, t0, second(t0, 20)));
        assert_eq!(live.check(TIMEOUT, earlier, earlier), Verdict::Wait);
        assert_eq!(live.pong(&payload, Some(INTERVAL), earlier), Some(Duration::ZERO));
        assert_eq!(live.deadline(), Some(second(t0, 40)));
        live.start(Some(Duration::MAX), t0);
        assert_eq!(live.deadline(), None, "beyond the end of time");
    }

    #[test]
    fn a_probe_goes_out_of_turn_and_leaves_the_turns_as_they_are() {
        let t0 = Instant::now();
        let mut live = Liveness::default();
        live.start(Some(INTERVAL), t0);
        let payload = live.probe(TIMEOUT, second(t0, 5)).unwrap();
        assert_eq!(live.probe(TIMEOUT, second(t0, 6)), None, "one is out");
        assert_eq!(live.pong(&payload, Some(INTERVAL), second(t0, 7)), Some(Duration::from_secs(2)));
        assert_eq!(live.deadline(), Some(second(t0, 25)));
        // Without pings by the clock: it ends with any sign of life, or in death.
        for (heard, verdict) in [(6, Verdict::Wait), (5, Verdict::Dead)] {
            let mut live = Liveness::default();
            live.start(None, t0);
            assert!(live.probe(TIMEOUT, second(t0, 5)).is_some());
            assert_eq!(live.check(TIMEOUT, second(t0, heard), second(t0, 15)), verdict);
            assert_eq!(live.deadline(), None);
        }
        let mut live = Liveness::default();
        live.start(None, t0);
        let payload = live.probe(TIMEOUT, second(t0, 5)).unwrap();
        assert!(live.pong(&payload, None, second(t0, 6)).is_some());
        assert_eq!(live.deadline(), None);
    }

    #[test]
    fn heartbeats_are_answered_or_made_up_for_by_data() {
        let t0 = Instant::now();
        let mut beat = Heartbeat::default();
        assert_eq!((beat.deadline(), beat.check(TIMEOUT, None, second(t0, 99))), (None, Beat::Wait));
        beat.start(Some(INTERVAL), t0);
        assert_eq!(beat.check(TIMEOUT, None, second(t0, 19)), Beat::Wait);
        assert_eq!(beat.check(TIMEOUT, None, second(t0, 20)), Beat::Send);
        assert_eq!(beat.check(TIMEOUT, None, second(t0, 20)), Beat::Wait, "no spin, whatever became of it");
        beat.sent(7, TIMEOUT, second(t0, 20));
        assert_eq!(beat.deadline(), Some(second(t0, 30)));
        assert_eq!(beat.answered(Some(6), second(t0, 22)), None);
        assert_eq!(beat.answered(Some(7), second(t0, 22)), Some(Duration::from_secs(2)));
        assert_eq!(beat.answered(None, second(t0, 23)), None, "an answer counts once");
        assert_eq!(beat.check(TIMEOUT, None, second(t0, 40)), Beat::Send);
        beat.sent(8, TIMEOUT, second(t0, 40));
        // Data instead of the answer: alive, and not asked more often for it.
        assert_eq!(beat.check(TIMEOUT, Some(second(t0, 41)), second(t0, 50)), Beat::Wait);
        assert_eq!(beat.deadline(), Some(second(t0, 60)));
        assert_eq!(beat.check(TIMEOUT, Some(second(t0, 41)), second(t0, 60)), Beat::Send);
        beat.sent(9, TIMEOUT, second(t0, 60));
        assert_eq!(beat.answered(None, second(t0, 61)), Some(Duration::from_secs(1)), "an answer without id");
        assert_eq!(beat.check(TIMEOUT, None, second(t0, 80)), Beat::Send);
        beat.sent(10, TIMEOUT, second(t0, 80));
        assert_eq!(beat.check(TIMEOUT, Some(second(t0, 80)), second(t0, 90)), Beat::Dead);
        assert_eq!(beat.deadline(), None);
    }

    #[test]
    fn heartbeats_without_an_answer_just_go_out() {
        let t0 = Instant::now();
        let mut beat = Heartbeat::default();
        beat.start(Some(INTERVAL), t0);
        for n in 1..50 {
            let due = beat.deadline().unwrap();
            assert_eq!(due, second(t0, 20 * n));
            assert_eq!(beat.check(TIMEOUT, None, due), Beat::Send);
        }
        // Strict: data does not make up for an answer. And slept is allowed for once.
        let now = beat.deadline().unwrap();
        assert_eq!(beat.check(TIMEOUT, None, now), Beat::Send);
        beat.sent(1, TIMEOUT, now);
        assert_eq!(beat.check(TIMEOUT, None, now + TIMEOUT * 3), Beat::Send);
        beat.sent(2, TIMEOUT, now + TIMEOUT * 3);
        assert_eq!(beat.check(TIMEOUT, None, now + TIMEOUT * 4), Beat::Dead);
    }

    /// Against a list of all that happened: dead exactly if a whole timeout after a ping went by in silence, seen in time, or seen late
    /// for the second time. The rest of the time pings go out, at the moment that the deadline said.
    #[test]
    fn agrees_with_a_naive_history() {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let (mut deaths, mut sleeps, mut pongs) = (0, 0, 0);
        for seed in 0..600 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let t0 = Instant::now();
            let mut live = Liveness::default();
            live.start(Some(INTERVAL), t0);
            let (mut now, mut heard) = (t0, t0);
            // The last ping that nothing answered, and pings sent since the last sign of life.
            let mut out: Option<(Instant, [u8; 8])> = None;
            let mut forgiven = false;
            let mut due = second(t0, 20);
            for _ in 0..200 {
                now += Duration::from_millis(u64::from(1 + rng.next_u32() % 4000));
                if rng.next_u32().is_multiple_of(20) {
                    now += Duration::from_secs(60);
                }
                match rng.next_u32() % if seed % 3 == 0 { 40 } else { 8 } {
                    0 => heard = now,
                    1 => {
                        heard = now;
                        if let Some((at, payload)) = out.take() {
                            assert_eq!(live.pong(&payload, Some(INTERVAL), now), Some(now - at));
                            due = (at + INTERVAL).max(now + Duration::from_millis(1));
                            forgiven = false;
                            pongs += 1;
                        }
                    }
                    _ => {}
                }
                let silent = out.is_some_and(|(at, _)| heard <= at);
                let late = now > due + TIMEOUT;
                let verdict = live.check(TIMEOUT, heard, now);
                if now < due {
                    assert_eq!(verdict, Verdict::Wait);
                    assert_eq!(live.deadline(), Some(due));
                    continue;
                }
                if silent && (forgiven || !late) {
                    assert_eq!(verdict, Verdict::Dead, "seed {seed}");
                    deaths += 1;
                    break;
                }
                sleeps += u32::from(silent);
                forgiven = silent;
                out = Some((now, ping(verdict)));
                due = now + TIMEOUT;
                assert_eq!(live.deadline(), Some(due));
            }
        }
        assert!(
            deaths > 100 && sleeps > 50 && pongs > 1000,
            "{deaths} deaths, {sleeps} sleeps, {pongs} pongs"
        );
    }
}
