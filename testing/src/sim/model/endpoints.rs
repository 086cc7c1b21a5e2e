//! Several endpoints: each in its turn, none that wants to be left alone, and what one refuses for good is asked of the others.

use super::super::venue::Snub;
use super::{Cause, Common, Fact, Saw, TlsCause, Told, Verdict};
use everwire_core::{State, Timeout};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Endpoints {
    /// Whose turn it is, counted on and on.
    turn: usize,
    /// An attempt is under way, or has led to the connection that there is.
    trying: bool,
    /// The last connection that was begun, and when.
    dialed: Option<(u64, Duration)>,
    /// Until when each wants to be left alone.
    held: BTreeMap<usize, Duration>,
    snubs: BTreeMap<u64, Snub>,
    /// Connections that the venue ended.
    left: BTreeSet<u64>,
    /// When the last attempt or connection ended, and when the next is due.
    ended: Duration,
    due: Option<Duration>,
    online: bool,
    was_online: bool,
    /// Whether the last that each said was a refusal for good.
    refused: BTreeMap<usize, bool>,
    /// Endpoints whose TLS failed for good, one after the other.
    hopeless: BTreeSet<usize>,
}

impl Endpoints {
    pub(super) fn see(&mut self, fact: &Fact, spent: bool, common: &Common) -> Verdict {
        match fact {
            Fact::Venue(conn, Saw::Snubbed { how }) => _ = self.snubs.insert(*conn, *how),
            Fact::Venue(conn, Saw::Left) => _ = self.left.insert(*conn),
            _ => {}
        }
        let count = common.terms.endpoints.len();
        if count == 0 {
            return Ok(());
        }
        match fact {
            Fact::Look(look) => {
                self.follow(count, common)?;
                self.in_time(look.state, count, spent, common)
            }
            Fact::Dialed { conn, port } => self.dialed(*conn, *port, common),
            Fact::Told(Told::Online { epoch, .. }) => {
                (self.online, self.was_online) = (true, true);
                self.hopeless.clear();
                self.refused.insert(self.turn % count, false);
                let conn = common.conn_of.get(epoch);
                match conn.and_then(|conn| self.snubs.get(conn)) {
                    Some(how) => Err(format!("epoch {epoch} is online, but its TLS failed by {how:?}")),
                    None => Ok(()),
                }
            }
            Fact::Told(Told::AttemptFailed { cause, retry_at, .. }) => {
                self.explained(*cause, common)?;
                self.over(*cause, *retry_at, count, common)
            }
            Fact::Told(Told::Lost { cause, retry_at, .. }) => self.over(*cause, *retry_at, count, common),
            _ => Ok(()),
        }
    }

    /// Follows the changes of state: an attempt that begins is to the first that is not to be left alone.
    fn follow(&mut self, count: usize, common: &Common) -> Verdict {
        for &(at, _, to) in &common.fresh {
            match to {
                State::Connecting => {
                    let held = |turn: &usize| self.held.get(&(turn % count)).is_some_and(|until| *until > at);
                    let Some(turn) = (self.turn..self.turn + count).find(|turn| !held(turn)) else {
                        return Err(format!(
                            "an attempt began at {at:?}, but all are to be left alone: {:?}",
                            self.held
                        ));
                    };
                    (self.turn, self.trying, self.due, self.dialed) = (turn, true, None, None);
                }
                State::Backoff => self.ended = at,
                _ => {}
            }
        }
        Ok(())
    }

    fn dialed(&mut self, conn: u64, port: u16, common: &Common) -> Verdict {
        self.dialed = Some((conn, common.now));
        let ports = &common.terms.endpoints;
        let index = self.turn % ports.len();
        if ports[index] == port && self.trying {
            return Ok(());
        }
        Err(format!(
            "connection {conn} goes to port {port}, but it is the turn of {}; to be left alone are {:?}",
            ports[index], self.held
        ))
    }

    /// The next attempt comes when it was announced, or as soon as one may be asked again.
    fn in_time(&self, state: State, count: usize, spent: bool, common: &Common) -> Verdict {
        let Some(due) = self.due.filter(|_| state == State::Backoff && !spent) else { return Ok(()) };
        let free = (0..count).map(|index| self.held.get(&index).copied().unwrap_or_default()).min();
        // Many wait for the same moment, and need not all come at it.
        let free = free.filter(|free| *free > due).map_or(due, |free| free + common.terms.backoff.0);
        if common.is_late(free) {
            return Err(format!("the next attempt was to begin at {free:?}, and did not"));
        }
        Ok(())
    }

    /// An attempt failed, or a connection is lost.
    fn over(&mut self, cause: Cause, retry_at: Option<Duration>, count: usize, common: &Common) -> Verdict {
        let index = self.turn % count;
        if let Some(wait) = alone(cause) {
            let held = self.held.entry(index).or_default();
            *held = self.ended.saturating_add(wait).max(*held);
        }
        let for_good = self.is_for_good(cause);
        self.refused.insert(index, for_good);
        if matches!(cause, Cause::Tls(why) if why.is_for_good()) {
            self.hopeless.insert(index);
        } else {
            self.hopeless.clear();
        }
        // One that works is kept.
        if !std::mem::take(&mut self.online) && cause != Cause::Reconnect {
            self.turn += 1;
        }
        (self.trying, self.due) = (false, retry_at);
        match retry_at {
            None if common.closing => Ok(()),
            None if self.refused.len() == count && self.refused.values().all(|refused| *refused) => Ok(()),
            None => Err(format!("given up for {cause:?}, though not all have refused: {:?}", self.refused)),
            Some(_) if self.hopeless.len() == count => {
                Err(format!("{cause:?} is to be tried again, though no endpoint can be trusted"))
            }
            Some(_) => Ok(()),
        }
    }

    fn is_for_good(&self, cause: Cause) -> bool {
        match cause {
            Cause::Tls(why) => why.is_for_good(),
            // What served before will serve again.
            Cause::Refused(401 | 404, None) | Cause::Authentication => !self.was_online,
            _ => false,
        }
    }

    /// Whether the venue ended a connection whose client it would have let wait.
    fn waits(&self, conn: u64) -> bool {
        let waits = matches!(self.snubs.get(&conn), Some(Snub::Silence | Snub::Certificate));
        waits && self.left.contains(&conn)
    }

    /// An attempt failed for what was done to it.
    fn explained(&self, cause: Cause, common: &Common) -> Verdict {
        let Some((conn, at)) = self.dialed.filter(|_| self.trying) else { return Ok(()) };
        let how = self.snubs.get(&conn);
        let want = match how {
            None if matches!(cause, Cause::Tls(TlsCause::Ended)) && common.terms.reliable.is_none() => {
                return Ok(());
            }
            None if matches!(cause, Cause::Tls(_)) => {
                return Err(format!("told {cause:?}, but nothing was done to connection {conn}"));
            }
            None => return Ok(()),
            Some(Snub::Http | Snub::Garbage) => Cause::Tls(TlsCause::NotTls),
            Some(Snub::Damage) => Cause::Tls(TlsCause::Broken),
            Some(Snub::Alert(number)) => Cause::Tls(TlsCause::Alert(*number)),
            Some(Snub::Certificate) => Cause::Tls(TlsCause::Certificate),
            Some(Snub::Fin) => Cause::Tls(TlsCause::Ended),
            Some(Snub::Reset) => Cause::Disconnected,
            Some(Snub::Silence) => Cause::Timeout(Timeout::Handshake),
        };
        // The network, or a venue that goes down, may have ended it before, and who does not listen may not hear in time.
        let other = matches!(cause, Cause::Disconnected | Cause::Timeout(_) | Cause::Tls(TlsCause::Ended))
            && (common.terms.reliable.is_none() || !common.awake_from(at) || self.waits(conn));
        if cause == want || other {
            Ok(())
        } else {
            Err(format!("told {cause:?}, but connection {conn} was made to fail by {how:?}"))
        }
    }
}

impl TlsCause {
    /// Trying again cannot help: somebody has to change something.
    fn is_for_good(self) -> bool {
        match self {
            Self::Certificate | Self::NotTls => true,
            // Certificates, versions and names; not what may have been an accident.
            Self::Alert(number) => matches!(number, 42..=46 | 48 | 49 | 70 | 71 | 112 | 116 | 120),
            Self::Ended | Self::Broken => false,
        }
    }
}

/// How long a host is to be left alone for this.
fn alone(cause: Cause) -> Option<Duration> {
    match cause {
        Cause::Refused(_, Some(wait)) => Some(wait),
        Cause::Refused(429, None) | Cause::Closed(1008) => Some(Duration::from_secs(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, broken_with, fine_with, told, venue};
    use super::super::{Look, Terms};
    use super::*;

    fn terms(ports: &[u16]) -> Terms {
        Terms { endpoints: ports.to_vec(), reliable: Some(Duration::ZERO), ..Terms::default() }
    }

    /// It went to this state from another at the moment of fact number `n`.
    fn went(n: u32, from: State, to: State) -> Fact {
        let transitions = vec![(at(n), from, to)];
        Fact::Look(Look { state: to, transitions, received: 0, subscriptions: vec![] })
    }

    /// Three facts, from number `n` on: an attempt begins, goes to this port, and ends.
    fn attempt(n: u32, conn: u64, port: u16) -> [Fact; 3] {
        let begins = went(n, if n == 0 { State::Idle } else { State::Backoff }, State::Connecting);
        [begins, Fact::Dialed { conn, port }, went(n + 2, State::Connecting, State::Backoff)]
    }

    fn failed(cause: Cause, retry_at: Option<Duration>) -> Fact {
        told(Told::AttemptFailed { failures: 1, cause, retry_at })
    }

    fn tls(why: TlsCause) -> Cause {
        Cause::Tls(why)
    }

    /// An attempt that failed so, as facts `n` to `n + 3`, and the next is to be at once.
    fn lost(n: u32, conn: u64, port: u16, cause: Cause) -> Vec<Fact> {
        attempt(n, conn, port).into_iter().chain([failed(cause, Some(at(n + 2)))]).collect()
    }

    fn all(parts: impl IntoIterator<Item = Vec<Fact>>) -> Vec<Fact> {
        parts.into_iter().flatten().collect()
    }

    #[test]
    fn each_has_its_turn() {
        let two = || terms(&[9, 10]);
        let first = || lost(0, 1, 9, Cause::Other);
        let second = |port| attempt(4, 2, port)[..2].to_vec();
        fine_with(two(), all([first(), second(10)]));
        broken_with(two(), "the turn of 10", all([first(), second(9)]));
        let third = |port| attempt(8, 3, port)[..2].to_vec();
        let second = || lost(4, 2, 10, Cause::Other);
        fine_with(two(), all([first(), second(), third(9)]));
        broken_with(two(), "the turn of 9", all([first(), second(), third(10)]));
    }

    #[test]
    fn who_wants_to_be_left_alone_is() {
        // Facts 0 to 3; the host of port 9 is to be left alone until 13 s.
        let refused = |retry_at| {
            let mut facts = vec![venue(1, Saw::Refused { status: 429, retry_after: None })];
            facts.extend(attempt(1, 1, 9));
            facts.push(failed(Cause::Refused(429, None), Some(at(retry_at))));
            facts
        };
        let other = || lost(5, 2, 10, Cause::Other);
        let next = |port| attempt(9, 3, port)[..2].to_vec();
        fine_with(terms(&[9, 10]), all([refused(3), other(), next(10)]));
        broken_with(terms(&[9, 10]), "the turn of 10", all([refused(3), other(), next(9)]));
        let asked = || vec![Fact::Did(super::super::Did::Reconnect)];
        let alone = || attempt(6, 2, 9)[..1].to_vec();
        broken_with(terms(&[9]), "all are to be left alone", all([refused(13), asked(), alone()]));
    }

    #[test]
    fn the_next_attempt_is_not_forgotten() {
        let look = Look { state: State::Backoff, transitions: vec![], received: 0, subscriptions: vec![] };
        let waits = |n| vec![Fact::Look(look.clone()); n];
        let first = || lost(0, 1, 9, Cause::Other);
        fine_with(terms(&[9, 10]), all([first(), waits(1)]));
        broken_with(terms(&[9, 10]), "was to begin at", all([first(), waits(4)]));
    }

    #[test]
    fn what_tls_fails_for() {
        let snubbed = |how| vec![venue(1, Saw::Snubbed { how })];
        let attempt = |cause, retry_at| {
            let mut facts = attempt(1, 1, 9).to_vec();
            facts.push(failed(cause, retry_at));
            facts
        };
        let history = |how, cause, retry| all([snubbed(how), attempt(cause, retry)]);
        let (again, never) = (Some(at(3)), None);
        let stranger = tls(TlsCause::Certificate);
        fine_with(terms(&[9]), history(Snub::Certificate, stranger, never));
        broken_with(terms(&[9]), "can be trusted", history(Snub::Certificate, stranger, again));
        fine_with(terms(&[9, 10]), history(Snub::Certificate, stranger, again));
        broken_with(terms(&[9, 10]), "not all have refused", history(Snub::Certificate, stranger, never));
        fine_with(terms(&[9]), history(Snub::Alert(80), tls(TlsCause::Alert(80)), again));
        broken_with(
            terms(&[9]),
            "not all have refused",
            history(Snub::Alert(80), tls(TlsCause::Alert(80)), never),
        );
        broken_with(terms(&[9]), "was made to fail by", history(Snub::Http, Cause::Disconnected, again));
        broken_with(
            terms(&[9]),
            "nothing was done",
            all([vec![venue(1, Saw::Upgraded)], attempt(tls(TlsCause::NotTls), again)]),
        );
        fine_with(Terms { reliable: None, ..terms(&[9]) }, history(Snub::Http, Cause::Disconnected, again));
    }
}
