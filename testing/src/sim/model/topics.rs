//! Subscriptions: each is asked for once on each connection, settled before `Online`, and ended when nobody holds it.

use super::{Answer, Common, Did, Fact, Saw, Told, Verdict};
use everwire_core::{GapCause, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Topics {
    held: BTreeMap<u64, Held>,
    last_id: u64,
    /// When the user last subscribed or unsubscribed.
    changed: Duration,
    /// What the venue was asked on each connection.
    asked: BTreeMap<u64, BTreeMap<String, Asked>>,
    /// Connections that authenticated, and those that did rightly.
    tried: BTreeSet<u64>,
    authenticated: BTreeSet<u64>,
    /// Epochs of which it was told.
    admitted: BTreeSet<u64>,
    /// Confirmed or rejected: which, in which epoch.
    settled: BTreeMap<u64, BTreeMap<u64, bool>>,
    /// Subscriptions that are being made anew, for a hole in their numbers or for their silence: between their end and their new beginning they are not in force.
    anew: BTreeSet<u64>,
    /// How often each topic was told rejected, and how often it was asked for again without having been refused.
    rejected: BTreeMap<String, u32>,
    again: BTreeMap<String, u32>,
    /// Requests: when they were made and on which epoch.
    requests: BTreeMap<u64, (Duration, u64)>,
}

#[derive(Debug)]
struct Held {
    topic: String,
    references: u32,
    made: Duration,
}

#[derive(Debug)]
struct Asked {
    at: Duration,
    standing: Standing,
    /// When the request that was confirmed last had arrived.
    acked: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    Granted,
    Denied,
    /// Ended at the client's wish.
    Ended,
    /// Ended by the venue, which did not say so.
    Forgotten,
}

impl Topics {
    pub(super) fn see(&mut self, fact: &Fact, common: &Common) -> Verdict {
        match fact {
            Fact::Did(did) => self.did(did, common),
            Fact::Venue(conn, saw) => self.venue(*conn, saw, common),
            Fact::Told(Told::Authenticated { epoch }) => {
                let once = self.admitted.insert(*epoch);
                if !once
                    || common.terms.authenticates.is_none()
                    || common.lost.is_some_and(|(lost, _)| lost >= *epoch)
                {
                    return Err(format!("epoch {epoch} was told authenticated, out of place"));
                }
                Ok(())
            }
            Fact::Told(Told::Subscribed { id, topic, epoch }) => {
                self.after_authentication(*epoch, common)?;
                self.settled.entry(*epoch).or_default().insert(*id, true);
                self.anew.remove(id);
                self.answers_the_last(topic, *epoch, common)?;
                self.confirmed(*id, topic, *epoch, common)
            }
            Fact::Told(Told::Rejected { id, topic, epoch }) => {
                self.after_authentication(*epoch, common)?;
                *self.rejected.entry(topic.clone()).or_default() += 1;
                self.settled.entry(*epoch).or_default().insert(*id, false);
                Ok(())
            }
            Fact::Told(Told::Gap { topics, cause: GapCause::Sequence { .. }, .. }) => {
                self.anew.extend(topics.iter().map(|(id, _)| *id));
                Ok(())
            }
            Fact::Told(Told::Stale { id, step: Step::Resubscribe }) => {
                let silent = self.held.keys().filter(|held| id.is_none_or(|id| id == **held));
                self.anew.extend(silent);
                Ok(())
            }
            Fact::Told(Told::Online { epoch, .. }) => self.online(*epoch, common),
            Fact::Told(Told::Response { id, answer: Answer::Result(_) | Answer::Error(_) }) => {
                let Some((made, epoch)) = self.requests.remove(id) else { return Ok(()) };
                self.agree(made, epoch, common)
            }
            Fact::Told(Told::Lost { epoch, .. }) => {
                self.settled.retain(|settled, _| settled > epoch);
                self.anew.clear();
                self.requests.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn after_authentication(&self, epoch: u64, common: &Common) -> Verdict {
        let told = common.terms.authenticates.is_none() || self.admitted.contains(&epoch);
        let of_it = || format!("epoch {epoch} came that far without being told authenticated");
        if told { Ok(()) } else { Err(of_it()) }
    }

    fn did(&mut self, did: &Did, common: &Common) -> Verdict {
        match did {
            Did::Subscribe { id, topic } => {
                self.changed = common.now;
                if let Some(held) = self.held.get_mut(id) {
                    held.references += 1;
                    if held.topic != *topic {
                        return Err(format!("subscription {id} is of {} and of {topic}", held.topic));
                    }
                    return Ok(());
                }
                if let Some((other, _)) = self.held.iter().find(|(_, held)| held.topic == *topic) {
                    return Err(format!("{topic} is subscription {other} already, and now {id} too"));
                }
                if *id <= self.last_id {
                    return Err(format!("the id of subscription {id} was used before"));
                }
                self.last_id = *id;
                self.held.insert(*id, Held { topic: topic.clone(), references: 1, made: common.now });
            }
            Did::Unsubscribe { id, found } => {
                self.changed = common.now;
                if *found != self.held.contains_key(id) {
                    return Err(format!(
                        "unsubscribing {id} found it: {found}; the user holds {:?}",
                        self.held
                    ));
                }
                if let Some(held) = self.held.get_mut(id) {
                    held.references -= 1;
                    if held.references == 0 {
                        self.held.remove(id);
                    }
                }
            }
            // One that is urgent goes before subscriptions that wait for a limit.
            Did::Request { id, epoch: Some(epoch), urgent, .. }
                if !urgent || common.terms.limited.is_none() =>
            {
                self.requests.insert(*id, (common.now, *epoch));
            }
            _ => {}
        }
        Ok(())
    }

    fn venue(&mut self, conn: u64, saw: &Saw, common: &Common) -> Verdict {
        match saw {
            Saw::Authenticated { rightly } => {
                // The client knows of the connection no earlier than the venue.
                let wrong_until = common.terms.authenticates.unwrap_or_default();
                let may_be_wrong = common.upgraded.get(&conn).is_some_and(|at| *at < wrong_until);
                if !self.tried.insert(conn) || (!rightly && !may_be_wrong) {
                    return Err(format!("connection {conn} authenticated twice or wrongly"));
                }
                if *rightly {
                    self.authenticated.insert(conn);
                }
                if self.asked.contains_key(&conn) {
                    return Err(format!("connection {conn} authenticated after it had subscribed"));
                }
            }
            Saw::Asked { topics } => {
                if common.terms.authenticates.is_some() && !self.authenticated.contains(&conn) {
                    return Err(format!("connection {conn} subscribed before it authenticated"));
                }
                for topic in topics {
                    self.ask(conn, topic, common)?;
                }
            }
            Saw::Granted { topic, .. } => self.stands(conn, topic, Standing::Granted),
            Saw::Denied { topic } => self.stands(conn, topic, Standing::Denied),
            Saw::Dropped { topic, by } => {
                self.stands(conn, topic, if by.is_some() { Standing::Ended } else { Standing::Forgotten });
            }
            Saw::Acked { topic, asked } => {
                if let Some(entry) = self.asked.get_mut(&conn).and_then(|asks| asks.get_mut(topic)) {
                    entry.acked = entry.acked.max(Some(*asked));
                }
            }
            Saw::Message { .. } | Saw::Request { .. } => return self.traffic(conn, common),
            Saw::Left | Saw::Ended => {
                // What is told later may still be about it; what is long over is not.
                while self.asked.len() > 16 {
                    self.asked.pop_first();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ask(&mut self, conn: u64, topic: &str, common: &Common) -> Verdict {
        let asks = self.asked.entry(conn).or_default();
        let now = common.now;
        if let Some(before) = asks.get_mut(topic) {
            let stands = matches!(before.standing, Standing::Open | Standing::Granted);
            // Where the answer came too late, the topic was told rejected, and is asked for again. Whoever does not listen is told later.
            let rejected = self.rejected.get(topic).copied().unwrap_or_default();
            let again = self.again.entry(topic.to_owned()).or_default();
            if stands && common.awake_from(before.at) {
                *again += 1;
                if *again > rejected {
                    return Err(format!(
                        "{topic} was asked for twice on connection {conn}, first at {:?}",
                        before.at
                    ));
                }
            }
            (before.at, before.standing) = (now, Standing::Open);
        } else {
            asks.insert(topic.to_owned(), Asked { at: now, standing: Standing::Open, acked: None });
        }
        Ok(())
    }

    fn stands(&mut self, conn: u64, topic: &str, standing: Standing) {
        if let Some(asked) = self.asked.get_mut(&conn).and_then(|asks| asks.get_mut(topic)) {
            asked.standing = standing;
        }
    }

    /// The user's traffic reached the venue: whatever had to go before it must have been there.
    fn traffic(&self, conn: u64, common: &Common) -> Verdict {
        if common.terms.authenticates.is_some() && !self.authenticated.contains(&conn) {
            return Err(format!("the user's traffic came on connection {conn} before it authenticated"));
        }
        let Some(upgraded) = common.upgraded.get(&conn) else { return Ok(()) };
        let asks = self.asked.get(&conn);
        let missing = self
            .held
            .values()
            .find(|held| held.made < *upgraded && asks.is_none_or(|asks| !asks.contains_key(&held.topic)));
        match missing {
            Some(held) => Err(format!(
                "the user's traffic came on connection {conn} before {} was restored",
                held.topic
            )),
            None => Ok(()),
        }
    }

    fn online(&self, epoch: u64, common: &Common) -> Verdict {
        let Some(conn) = common.conn_of.get(&epoch) else {
            return Err(format!("epoch {epoch} came online over a connection that the venue did not accept"));
        };
        let Some(upgraded) = common.upgraded.get(conn) else {
            return Err(format!("epoch {epoch} came online over connection {conn} without a handshake"));
        };
        self.after_authentication(epoch, common)?;
        if common.terms.authenticates.is_some() && !self.authenticated.contains(conn) {
            return Err(format!(
                "epoch {epoch} came online, but on connection {conn} it did not authenticate"
            ));
        }
        let settled = self.settled.get(&epoch);
        for (id, held) in &self.held {
            if held.made < *upgraded && settled.is_none_or(|settled| !settled.contains_key(id)) {
                return Err(format!(
                    "epoch {epoch} is online, but {} is neither confirmed nor rejected",
                    held.topic
                ));
            }
        }
        for (id, good) in settled.into_iter().flatten() {
            if let Some(held) = self.held.get(id).filter(|_| *good) {
                self.confirmed(*id, &held.topic, epoch, common)?;
            }
        }
        Ok(())
    }

    /// A confirmation must come from the venue, on that connection, and answer what was asked for this subscription.
    fn confirmed(&self, id: u64, topic: &str, epoch: u64, common: &Common) -> Verdict {
        // Before the epoch's connection is known this waits for `online`.
        let (Some(conn), Some(held)) = (common.conn_of.get(&epoch), self.held.get(&id)) else {
            return Ok(());
        };
        if held.topic != topic {
            return Err(format!("subscription {id} is of {}, but {topic} was told", held.topic));
        }
        let acked = self.asked.get(conn).and_then(|asks| asks.get(topic)).and_then(|asked| asked.acked);
        match acked {
            Some(asked) if asked >= held.made => Ok(()),
            Some(asked) => Err(format!(
                "{topic} was confirmed by an answer to what arrived at {asked:?}, but subscription {id} was made at {:?}",
                held.made
            )),
            None => Err(format!("{topic} was told confirmed in epoch {epoch}, but the venue did not say so")),
        }
    }

    /// A confirmation answers what was asked last, not something before that was given up since.
    fn answers_the_last(&self, topic: &str, epoch: u64, common: &Common) -> Verdict {
        // Whoever is told at once is told of the newest connection; who is not may be told when it has been asked for anew.
        if !common.awake_from(common.now.saturating_sub(common.terms.slack)) {
            return Ok(());
        }
        let newest = common.upgraded.last_key_value().map(|(conn, _)| conn);
        let conn = common.conn_of.get(&epoch).or(newest);
        match conn.and_then(|conn| self.asked.get(conn)).and_then(|asks| asks.get(topic)) {
            Some(Asked { at, acked, .. }) if acked.is_none_or(|acked| acked < *at) => Err(format!(
                "{topic} was told confirmed, but what was asked at {at:?} is not answered; the last answer was to {acked:?}"
            )),
            _ => Ok(()),
        }
    }

    /// An answer came to what was asked `made` then: all that was subscribed or unsubscribed before is known to the venue.
    fn agree(&self, made: Duration, epoch: u64, common: &Common) -> Verdict {
        let Some(conn) = common.conn_of.get(&epoch).filter(|_| self.changed < made) else {
            return Ok(());
        };
        let none = BTreeMap::new();
        let asks = self.asked.get(conn).unwrap_or(&none);
        for (id, held) in &self.held {
            let confirmed = self.settled.get(&epoch).and_then(|settled| settled.get(id)) == Some(&true);
            let standing = asks.get(&held.topic).map(|asked| asked.standing);
            if confirmed
                && !self.anew.contains(id)
                && !matches!(standing, Some(Standing::Granted | Standing::Forgotten))
            {
                return Err(format!(
                    "{} is confirmed in epoch {epoch}, but at the venue it is {standing:?}",
                    held.topic
                ));
            }
        }
        for (topic, asked) in asks {
            if asked.standing == Standing::Granted && !self.held.values().any(|held| held.topic == *topic) {
                return Err(format!("{topic} is still in force on connection {conn}, but nobody holds it"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
