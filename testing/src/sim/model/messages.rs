//! Messages of the user: each arrives once, in order, or is told not to have been sent, or was under way when its connection died.

use super::{Common, Did, Fact, Saw, Told, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Ids by text, of those that have not arrived.
    by_text: BTreeMap<String, u64>,
    epochs: BTreeMap<u64, Epoch>,
    sent: BTreeMap<u64, Sent>,
    last: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    epoch: u64,
    /// It may overtake those that are not.
    urgent: bool,
    /// Until when it may wait for a limit, if there is one.
    expires: Option<Duration>,
    expired: bool,
    /// One that was sent later, and may not overtake it, is there already: it can only have expired.
    overtaken: bool,
}

/// What was sent in one epoch.
#[derive(Debug, Default)]
struct Epoch {
    /// Ids of what was sent and has not arrived, in order: of those that are not urgent, and of those that are.
    open: [BTreeSet<u64>; 2],
    arrived: u64,
    /// The loss was told, and which were not sent, the one that was cut included.
    unsent: Option<BTreeSet<u64>>,
    /// The client's close frame has arrived.
    closed: bool,
}

impl Messages {
    pub(super) fn see(&mut self, fact: &Fact, common: &mut Common) -> Verdict {
        match fact {
            Fact::Did(Did::Send { id, text, epoch, urgent, expires }) => {
                if *id <= self.last {
                    return Err(format!("message {id} comes after {}", self.last));
                }
                self.last = *id;
                self.by_text.insert(text.clone(), *id);
                let limited = common.terms.limited.is_some();
                let (urgent, expires) = (*urgent && limited, limited.then_some(*expires));
                self.sent
                    .insert(*id, Sent { epoch: *epoch, urgent, expires, expired: false, overtaken: false });
                let sent = self.epochs.entry(*epoch).or_default();
                sent.open[usize::from(urgent)].insert(*id);
                if sent.unsent.is_some() {
                    return Err(format!("message {id} was taken in epoch {epoch}, after its loss was told"));
                }
            }
            Fact::Venue(conn, Saw::Message { text }) => return self.arrived(*conn, text, common),
            Fact::Venue(conn, Saw::Closed { .. }) => {
                let Some(epoch) = common.epoch_of.get(conn) else { return Ok(()) };
                if let Some(sent) = self.epochs.get_mut(epoch) {
                    sent.closed = true;
                    return sent.settle(*epoch, common.closed);
                }
            }
            Fact::Told(Told::Expired { id }) => return self.expired(*id, common),
            Fact::Told(Told::Pressure { waiting }) if common.terms.limited.is_none() => {
                return Err(format!("{waiting} messages were told to wait, but there is no limit"));
            }
            Fact::Told(Told::Lost { epoch, not_sent: (start, end), waiting, cut, .. }) => {
                return self.lost(*epoch, &(*start..*end), waiting, *cut, common);
            }
            Fact::Told(Told::Closed { not_sent: (start, end), waiting, cut, .. }) => {
                // What was taken on the last connection, unless that is lost already.
                let last = self.epochs.last_key_value().filter(|(_, sent)| sent.unsent.is_none());
                let last = last.map_or(0, |(epoch, _)| *epoch);
                self.lost(last, &(*start..*end), waiting, *cut, common)?;
                for (epoch, sent) in &self.epochs {
                    sent.settle(*epoch, true)?;
                }
                if let Some((id, _)) = self.sent.iter().find(|(_, sent)| sent.overtaken && !sent.expired) {
                    return Err(format!("message {id} was overtaken, and never told to have expired"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn arrived(&mut self, conn: u64, text: &str, common: &mut Common) -> Verdict {
        let Some(id) = self.by_text.remove(text) else {
            return Err(format!("a message arrived that was never sent, or arrived before: {text}"));
        };
        let Some(message) = self.sent.get(&id).copied() else { return Ok(()) };
        common.bind(message.epoch, conn)?;
        let Some(sent) = self.epochs.get_mut(&message.epoch) else { return Ok(()) };
        if sent.unsent.as_ref().is_some_and(|unsent| unsent.contains(&id)) {
            return Err(format!("message {id} was told not sent, but it arrived"));
        }
        if message.expired || message.overtaken {
            return Err(format!("message {id} arrived, but had expired: {message:?}"));
        }
        // In order: what was sent before it is there already, or waited for too long.
        let open = &mut sent.open[usize::from(message.urgent)];
        while let Some(missing) = open.first().copied().filter(|first| *first < id) {
            let Some(before) = self.sent.get_mut(&missing) else { break };
            if before.expires.is_none_or(|expires| common.now < expires) {
                return Err(format!("message {id} arrived, but {missing} before it did not"));
            }
            before.overtaken = true;
            open.remove(&missing);
        }
        open.remove(&id);
        sent.arrived = sent.arrived.max(id);
        Ok(())
    }

    /// A message waited for too long.
    fn expired(&mut self, id: u64, common: &Common) -> Verdict {
        let Some(message) = self.sent.get_mut(&id) else {
            return Err(format!("message {id} was told to have expired, but never sent"));
        };
        let due = message.expires.is_some_and(|expires| common.now >= expires);
        let Some(sent) = self.epochs.get_mut(&message.epoch) else { return Ok(()) };
        let open = sent.open[usize::from(message.urgent)].remove(&id);
        if !due || (!open && !message.overtaken) || std::mem::replace(&mut message.expired, true) {
            return Err(format!("message {id} was told to have expired: {message:?}"));
        }
        Ok(())
    }

    fn lost(
        &mut self,
        epoch: u64,
        not_sent: &Range<u64>,
        waiting: &[u64],
        cut: Option<u64>,
        common: &Common,
    ) -> Verdict {
        let whole: BTreeSet<u64> = not_sent.clone().chain(waiting.iter().copied()).collect();
        for id in whole.iter().copied().chain(cut) {
            let message = self.sent.get(&id);
            if message.is_none_or(|message| message.epoch != epoch || message.expired || message.overtaken) {
                return Err(format!(
                    "message {id} was told not sent in epoch {epoch}, but it is {message:?}"
                ));
            }
        }
        if common.terms.limited.is_none() {
            if !waiting.is_empty() {
                return Err(format!("messages {waiting:?} were told to have waited, but there is no limit"));
            }
            if cut.is_some_and(|cut| not_sent.start != cut + 1) {
                return Err(format!("message {cut:?} was told cut, and {not_sent:?} not sent"));
            }
        }
        let Some(sent) = self.epochs.get_mut(&epoch) else { return Ok(()) };
        let open = |id: &u64| sent.open.iter().any(|lane| lane.contains(id));
        if let Some(arrived) = whole.iter().find(|id| !open(id)) {
            return Err(format!("message {arrived} was told not sent, but it arrived"));
        }
        let mut told = whole;
        told.extend(cut);
        // What is not sent holds back all that was to come behind it.
        for lane in &sent.open {
            let first = lane.iter().position(|id| told.contains(id)).unwrap_or(lane.len());
            if let Some(last) = lane.iter().skip(first).find(|id| !told.contains(id)) {
                return Err(format!("of those before {last} some were told not sent, but not it"));
            }
        }
        sent.unsent = Some(told);
        // The rest of the one that was cut may have followed ahead of a close frame; it will not be told to have expired.
        if let (Some(cut), Some(unsent)) = (cut, &mut sent.unsent) {
            unsent.remove(&cut);
            sent.open.iter_mut().for_each(|lane| _ = lane.remove(&cut));
            if let Some(message) = self.sent.get_mut(&cut) {
                message.expires = None;
            }
        }
        sent.settle(epoch, common.closed)
    }
}

impl Epoch {
    /// The client's close frame came behind all that it sent: what is not there was told not to have been sent.
    fn settle(&self, epoch: u64, over: bool) -> Verdict {
        if !self.closed || (self.unsent.is_none() && !over) {
            return Ok(());
        }
        let told = |id: &u64| self.unsent.as_ref().is_some_and(|unsent| unsent.contains(id));
        match self.open.iter().flatten().find(|id| !told(id)) {
            Some(id) => Err(format!("message {id} of epoch {epoch} neither arrived nor was told not sent")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cause;
    use super::super::Terms;
    use super::super::tests::{at, broken, broken_with, fine, fine_with, told, venue};
    use super::*;

    fn send(id: u64, epoch: u64) -> Fact {
        Fact::Did(Did::Send { id, text: format!("m{id}"), epoch, urgent: false, expires: at(5) })
    }

    fn arrived(conn: u64, id: u64) -> Fact {
        venue(conn, Saw::Message { text: format!("m{id}") })
    }

    fn lost(not_sent: (u64, u64), cut: Option<u64>) -> Fact {
        told(Told::Lost {
            epoch: 1,
            cause: Cause::Disconnected,
            retry_at: None,
            not_sent,
            waiting: vec![],
            cut,
        })
    }

    fn over(not_sent: (u64, u64), waiting: &[u64], cut: Option<u64>) -> Fact {
        told(Told::Closed { cause: None, not_sent, waiting: waiting.to_vec(), cut })
    }

    fn close(conn: u64) -> Fact {
        venue(conn, Saw::Closed { code: 1000 })
    }

    #[test]
    fn once_and_in_order() {
        fine([send(1, 1), send(2, 1), arrived(1, 1), arrived(1, 2)]);
        broken("before it did not", [send(1, 1), send(2, 1), arrived(1, 2)]);
        broken("arrived before", [send(1, 1), arrived(1, 1), arrived(1, 1)]);
        broken("never sent", [arrived(1, 1)]);
        broken("which is another", [send(1, 1), send(2, 2), arrived(1, 1), arrived(1, 2)]);
        broken("comes after", [send(2, 1), send(1, 1)]);
    }

    #[test]
    fn unsent_is_unsent() {
        let three = [send(1, 1), send(2, 1), send(3, 1)];
        let with = |more: &[Fact]| three.iter().chain(more).cloned().collect::<Vec<_>>();
        fine(with(&[arrived(1, 1), lost((3, 4), Some(2)), arrived(1, 2)]));
        broken("told not sent, but it arrived", with(&[lost((1, 4), None), arrived(1, 1)]));
        broken(
            "2 was told not sent, but it arrived",
            with(&[arrived(1, 1), arrived(1, 2), lost((2, 4), None)]),
        );
        broken("before 3 some were told", with(&[lost((2, 3), None)]));
        broken("but it is None", with(&[lost((3, 5), None)]));
        broken("told cut", with(&[lost((3, 4), Some(1))]));
        broken("after its loss", with(&[lost((4, 4), None), send(4, 1)]));
    }

    /// At most ten seconds' wait for a limit.
    fn limited() -> Terms {
        Terms { limited: Some(Duration::from_secs(10)), ..Terms::default() }
    }

    fn urgent(id: u64) -> Fact {
        Fact::Did(Did::Send { id, text: format!("m{id}"), epoch: 1, urgent: true, expires: at(5) })
    }

    fn expired(id: u64) -> Fact {
        told(Told::Expired { id })
    }

    #[test]
    fn what_waits_for_a_limit_keeps_its_order_or_expires() {
        let wait = || (0..4).map(|_| told(Told::Writable));
        let sent = || [send(1, 1), send(2, 1)].into_iter();
        fine_with(limited(), sent().chain(wait()).chain([expired(1), arrived(1, 2)]));
        // It is told only when the user listens.
        fine_with(limited(), sent().chain(wait()).chain([arrived(1, 2), expired(1)]));
        broken_with(limited(), "before it did not", sent().chain([arrived(1, 2)]));
        broken_with(limited(), "told to have expired", sent().chain([expired(1)]));
        broken("told to have expired", sent().chain(wait()).chain([expired(1)]));
        let twice = sent().chain(wait()).chain([expired(1), expired(1)]);
        broken_with(limited(), "told to have expired", twice);
        broken_with(limited(), "but had expired", sent().chain(wait()).chain([expired(1), arrived(1, 1)]));
        let overtaken = || sent().chain(wait()).chain([arrived(1, 2)]);
        broken_with(limited(), "but had expired", overtaken().chain([arrived(1, 1)]));
        broken_with(limited(), "never told", overtaken().chain([over((3, 3), &[], None)]));
        fine_with(limited(), sent().chain([urgent(3), arrived(1, 3), arrived(1, 1)]));
        broken("before it did not", sent().chain([urgent(3), arrived(1, 3)]));
        broken("no limit", [told(Told::Pressure { waiting: 1 })]);
    }

    #[test]
    fn what_waited_in_vain_is_told() {
        let lost = |waiting: &[u64]| {
            let waiting = waiting.to_vec();
            let cause = Cause::Disconnected;
            told(Told::Lost { epoch: 1, cause, retry_at: None, not_sent: (4, 4), waiting, cut: None })
        };
        let sent = || [send(1, 1), send(2, 1), urgent(3)].into_iter();
        fine_with(limited(), sent().chain([lost(&[1, 2])]));
        fine_with(limited(), sent().chain([lost(&[3])]));
        broken_with(limited(), "but not it", sent().chain([lost(&[1])]));
        broken_with(limited(), "but it arrived", sent().chain([arrived(1, 1), lost(&[1, 2])]));
        broken_with(limited(), "but it arrived", sent().chain([lost(&[1, 2]), arrived(1, 1)]));
        broken("no limit", sent().chain([lost(&[1, 2, 3])]));
    }

    #[test]
    fn nothing_vanishes_on_a_connection_that_was_closed() {
        let history = [send(1, 1), send(2, 1), arrived(1, 1), close(1)];
        let with = |more: Fact| history.iter().cloned().chain([more]).collect::<Vec<_>>();
        broken("neither arrived nor", with(lost((3, 3), None)));
        broken("neither arrived nor", with(over((3, 3), &[], None)));
        fine(with(over((2, 3), &[], None)));
        fine(with(over((3, 3), &[], Some(2))));
        broken("told not sent, but it arrived", with(over((1, 3), &[], None)));
        broken("there is no limit", with(over((3, 3), &[2], None)));
        let limits = || with(over((3, 3), &[2], None));
        fine_with(limited(), limits());
        broken_with(limited(), "but it arrived", limits().into_iter().chain([arrived(1, 2)]));
        // What the loss told is not told again.
        let twice = [lost((2, 3), None), over((2, 3), &[], None)];
        broken("it is Some", history.iter().cloned().chain(twice));
        fine(with(lost((2, 3), None)));
        fine(with(lost((3, 3), Some(2))));
        // It died without a close frame: what was under way is not known.
        fine([send(1, 1), send(2, 1), arrived(1, 1), lost((3, 3), None)]);
    }
}
