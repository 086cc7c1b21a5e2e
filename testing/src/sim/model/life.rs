//! Life and death: dead peers are noticed, living ones are not given up, states follow on each other, the end is told once.

use super::{Blame, Cause, Common, Did, Fact, Look, Saw, Told, Verdict};
use everwire_core::{State, Step, Timeout};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Life {
    state: Option<State>,
    /// Bytes received in all, at the last look.
    received: u64,
    /// The look before which they last changed, and the one before that.
    changed: Duration,
    looked: Duration,
    open: bool,
    /// What the venue did to each connection.
    ends: BTreeMap<u64, End>,
    reconnects: bool,
    closed_at: Option<Duration>,
}

/// How the venue ended a connection, or did not.
#[derive(Debug, Default)]
struct End {
    closing: Option<u16>,
    left: bool,
    frozen: bool,
    /// When the client authenticated, and when it was told so; whether that was wrong.
    asked: Option<Duration>,
    admitted: Option<Duration>,
    refused: bool,
}

impl End {
    /// The answer to the authentication was not there in time, as far as can be told from where it was given.
    fn is_slow(&self, common: &Common) -> bool {
        let due = self.asked.map(|asked| asked + common.terms.request_timeout);
        let under_way = common.terms.reliable.unwrap_or_default() * 2;
        due.is_some_and(|due| self.admitted.is_none_or(|admitted| admitted + under_way >= due))
    }
}

impl Life {
    pub(super) fn see(&mut self, fact: &Fact, common: &Common) -> Verdict {
        match fact {
            Fact::Look(look) => return self.look(look, common),
            Fact::Venue(conn, saw) => return self.venue(*conn, saw, common),
            Fact::Told(Told::Stale { step, .. }) if common.terms.watch.is_none_or(|most| *step > most) => {
                return Err(format!("{step:?} was told, but watches go to {:?}", common.terms.watch));
            }
            Fact::Did(Did::Reconnect) => self.reconnects = true,
            Fact::Did(Did::Close) => _ = self.closed_at.get_or_insert(common.now),
            Fact::Told(Told::Lost { epoch, cause, .. }) => {
                self.lost(*epoch, *cause, common)?;
                if *cause == Cause::Reconnect && !std::mem::take(&mut self.reconnects) {
                    return Err("a connection was ended for a reconnect that nobody asked for".to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish(&self, common: &Common) -> Verdict {
        if common.over && !common.closed && !common.paused {
            return Err("the session is closed, but that was not told".to_owned());
        }
        self.end_in_time(common)
    }

    fn end_in_time(&self, common: &Common) -> Verdict {
        // Our close frame, and then the end of TCP.
        let bound = self.closed_at.map(|at| at + common.terms.close_timeout * 2);
        match bound.filter(|bound| !common.closed && common.is_late(*bound)) {
            Some(bound) => Err(format!("it was closed, and was to be over at {bound:?}")),
            None => Ok(()),
        }
    }

    fn venue(&mut self, conn: u64, saw: &Saw, common: &Common) -> Verdict {
        let end = self.ends.entry(conn).or_default();
        match saw {
            Saw::Closing { code, blame } => {
                end.closing = Some(*code);
                match blame {
                    Blame::Heartbeat
                        if common.terms.reliable.is_some()
                            && common.terms.heartbeats.is_some_and(|within| {
                                // What waits behind an event that the user does not take is not read.
                                common.awake_from(common.now.saturating_sub(within))
                            }) =>
                    {
                        return Err(format!("connection {conn} did not answer a heartbeat in time"));
                    }
                    Blame::Authentication if common.terms.authenticates.is_some() && !end.refused => {
                        return Err(format!("connection {conn} did not authenticate as it had to"));
                    }
                    _ => {}
                }
            }
            Saw::Authenticated { rightly } => (end.asked, end.refused) = (Some(common.now), !rightly),
            Saw::Admitted => end.admitted = Some(common.now),
            Saw::Left => end.left = true,
            Saw::Froze => end.frozen = true,
            Saw::Fault { what } => {
                return Err(format!("connection {conn}: the client broke the protocol: {what}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// A connection is lost: for a reason.
    fn lost(&self, epoch: u64, cause: Cause, common: &Common) -> Verdict {
        if cause == Cause::Protocol {
            return Err(format!("epoch {epoch} ended for a fault of the venue, which made none"));
        }
        let Some((conn, end)) =
            common.conn_of.get(&epoch).and_then(|conn| Some((conn, self.ends.get(conn)?)))
        else {
            return Ok(());
        };
        let reliable = common.terms.reliable.is_some();
        match cause {
            Cause::Closed(code) if end.closing != Some(code) => Err(format!(
                "epoch {epoch} was told closed with {code}, but on connection {conn} the venue said {:?}",
                end.closing
            )),
            Cause::Disconnected if reliable && !end.left => {
                Err(format!("epoch {epoch} was told to have broken, but nobody broke connection {conn}"))
            }
            // Its answer came too late, or not at all.
            Cause::Timeout(Timeout::Authentication) if end.is_slow(common) => Ok(()),
            Cause::Timeout(Timeout::Data) => match common.terms.watch {
                Some(Step::Reconnect) => Ok(()),
                step => {
                    Err(format!("epoch {epoch} was given up for a lack of data, but watches go to {step:?}"))
                }
            },
            Cause::Timeout(_) if reliable && !end.frozen && !end.left && end.closing.is_none() => {
                Err(format!("epoch {epoch} was given up, but connection {conn} lives"))
            }
            Cause::Timeout(Timeout::Pong)
                if self.changed + common.terms.pong_timeout > common.now + common.terms.slack
                    && common.awake_from(self.changed) =>
            {
                Err(format!(
                    "epoch {epoch} was given up for silence, but it received something after {:?}",
                    self.changed
                ))
            }
            _ => Ok(()),
        }
    }

    fn look(&mut self, look: &Look, common: &Common) -> Verdict {
        self.follow(common)?;
        let open = matches!(look.state, State::Online | State::Restoring);
        if look.received != self.received || (open && !self.open) {
            // Some time after the look before this one.
            self.changed = self.looked;
        }
        (self.received, self.open, self.looked) = (look.received, open, common.now);
        self.end_in_time(common)?;
        let Some(interval) = common.terms.ping_interval else { return Ok(()) };
        // Nobody is pinged, or judged, while the user does not listen.
        let held = common.terms.limited.unwrap_or_default();
        // A ping may have to wait for a limit, and so may what went before it.
        // Whoever owes a pong and says something else is asked again when the time for the pong is over.
        let asked = self.changed.saturating_add(interval.max(common.terms.pong_timeout));
        let pinged = asked.max(common.awake_since).saturating_add(held * 2);
        let bound = pinged.saturating_add(common.terms.pong_timeout);
        if open && common.is_late(bound + common.terms.slack) {
            return Err(format!("nothing has arrived since {:?}, and that is not noticed", self.changed));
        }
        Ok(())
    }

    /// Follows the changes of state that are new.
    fn follow(&mut self, common: &Common) -> Verdict {
        for &(at, from, to) in &common.fresh {
            if self.state.is_some_and(|state| state != from) {
                return Err(format!(
                    "at {at:?} it went from {from:?} to {to:?}, but it was {:?}",
                    self.state
                ));
            }
            if !is_legal(from, to) {
                return Err(format!("at {at:?} it went from {from:?} to {to:?}"));
            }
            self.state = Some(to);
        }
        Ok(())
    }
}

fn is_legal(from: State, to: State) -> bool {
    use State::{Authenticating, Backoff, Closed, Closing, Connecting, Idle, Online, Restoring};
    match from {
        Idle => matches!(to, Connecting | Closed),
        Connecting => matches!(to, Authenticating | Restoring | Backoff | Closed),
        Authenticating => matches!(to, Restoring | Backoff | Closing | Closed),
        Restoring => matches!(to, Online | Backoff | Closing | Closed),
        Online => matches!(to, Backoff | Closing | Closed),
        Backoff => matches!(to, Connecting | Closed),
        Closing => to == Closed,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Terms;
    use super::super::tests::{at, broken, broken_with, fine, fine_with, told, venue};
    use super::*;

    fn look(state: State, received: u64) -> Fact {
        Fact::Look(Look { state, transitions: vec![], received, subscriptions: vec![] })
    }

    fn went(transitions: &[(State, State)]) -> Fact {
        let transitions = transitions.iter().map(|(from, to)| (at(0), *from, *to)).collect();
        Fact::Look(Look { state: State::Idle, transitions, received: 0, subscriptions: vec![] })
    }

    fn online() -> Fact {
        told(Told::Online { epoch: 1, resumed: false, conn: Some(1) })
    }

    fn lost(cause: Cause) -> Fact {
        told(Told::Lost { epoch: 1, cause, retry_at: None, not_sent: (1, 1), waiting: vec![], cut: None })
    }

    fn begun() -> Vec<Fact> {
        vec![venue(1, Saw::Upgraded), online()]
    }

    fn with(more: impl IntoIterator<Item = Fact>) -> Vec<Fact> {
        begun().into_iter().chain(more).collect()
    }

    #[test]
    fn silence_is_noticed() {
        // 20 s until a ping, 10 s for its answer, 4 s for the looks between.
        let silent = |seconds| with((0..seconds).map(|_| look(State::Online, 5)));
        fine(silent(30));
        broken("is not noticed", silent(40));
        fine(with((0..60).map(|i| look(State::Online, i / 10))));
        let never = Terms { ping_interval: None, ..Terms::default() };
        fine_with(never, silent(60));
    }

    #[test]
    fn the_living_are_not_given_up() {
        let dead = || lost(Cause::Timeout(Timeout::Pong));
        broken("received something after", with([look(State::Online, 1), look(State::Online, 2), dead()]));
        let silent = (0..15).map(|_| look(State::Online, 2));
        fine(with([look(State::Online, 1)].into_iter().chain(silent.clone()).chain([dead()])));
        let reliable = || Terms { reliable: Some(Duration::ZERO), ..Terms::default() };
        broken_with(reliable(), "connection 1 lives", with(silent.clone().chain([dead()])));
        fine_with(reliable(), with([venue(1, Saw::Froze)].into_iter().chain(silent).chain([dead()])));
    }

    #[test]
    fn connections_end_for_a_reason() {
        let closing = venue(1, Saw::Closing { code: 1001, blame: Blame::Venue });
        fine(with([closing.clone(), lost(Cause::Closed(1001))]));
        broken("was told closed with 1012", with([closing, lost(Cause::Closed(1012))]));
        broken("was told closed with 1012", with([lost(Cause::Closed(1012))]));
        broken("nobody asked for", with([lost(Cause::Reconnect)]));
        fine(with([Fact::Did(Did::Reconnect), lost(Cause::Reconnect)]));
        broken("which made none", with([lost(Cause::Protocol)]));
        fine(with([lost(Cause::Disconnected)]));
        let reliable = Terms { reliable: Some(Duration::ZERO), ..Terms::default() };
        broken_with(reliable.clone(), "nobody broke", with([lost(Cause::Disconnected)]));
        fine_with(reliable, with([venue(1, Saw::Left), lost(Cause::Disconnected)]));
        broken(
            "after the end",
            [told(Told::Closed { cause: None, not_sent: (1, 1), waiting: vec![], cut: None }), online()],
        );
        broken("after Some", with([lost(Cause::Disconnected), lost(Cause::Disconnected)]));
    }

    #[test]
    fn faults_of_the_client() {
        broken("broke the protocol", [venue(1, Saw::Fault { what: "no mask".to_owned() })]);
        let terms = || Terms {
            authenticates: Some(Duration::ZERO),
            heartbeats: Some(Duration::from_secs(1)),
            reliable: Some(Duration::ZERO),
            ..Terms::default()
        };
        let closing = |blame| venue(1, Saw::Closing { code: 4001, blame });
        broken_with(terms(), "heartbeat", [closing(Blame::Heartbeat)]);
        broken_with(terms(), "authenticate", [closing(Blame::Authentication)]);
        fine([closing(Blame::Heartbeat), closing(Blame::Authentication)]);
    }

    #[test]
    fn states_follow_on_each_other() {
        use State::{Backoff, Connecting, Idle, Online, Restoring};
        let steps = [(Idle, Connecting), (Connecting, Restoring), (Restoring, Online), (Online, Backoff)];
        fine([went(&steps[..2]), went(&steps), went(&steps)]);
        broken("it went from Connecting to Online", [went(&[(Connecting, Online)])]);
        broken("but it was", [went(&steps[..1]), went(&[steps[0], steps[2]])]);
    }

    #[test]
    fn closing_comes_to_an_end() {
        let closed = || [Fact::Did(Did::Close)].into_iter();
        fine(closed().chain((0..11).map(|_| look(State::Closing, 0))));
        broken("was to be over", closed().chain((0..20).map(|_| look(State::Closing, 0))));
    }
}
