//! Messages of the user: each arrives once, in order, or is told not to have been sent, or was under way when its connection died.

use super::{Common, Did, Fact, Saw, Told, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Ids by text, of those that have not arrived.
    by_text: BTreeMap<String, u64>,
    epochs: BTreeMap<u64, Epoch>,
    /// Which epoch a message was sent in.
    epoch_of: BTreeMap<u64, u64>,
    last: u64,
}

/// What was sent in one epoch.
#[derive(Debug, Default)]
struct Epoch {
    /// Ids of what was sent and has not arrived, in order.
    open: BTreeSet<u64>,
    arrived: u64,
    /// The loss was told: what was not sent, and what was cut.
    unsent: Option<(Range<u64>, Option<u64>)>,
    /// The client's close frame has arrived.
    closed: bool,
}

impl Messages {
    pub(super) fn see(&mut self, fact: &Fact, common: &mut Common) -> Verdict {
        match fact {
            Fact::Did(Did::Send { id, text, epoch }) => {
                if *id <= self.last {
                    return Err(format!("message {id} comes after {}", self.last));
                }
                self.last = *id;
                self.by_text.insert(text.clone(), *id);
                self.epoch_of.insert(*id, *epoch);
                let sent = self.epochs.entry(*epoch).or_default();
                sent.open.insert(*id);
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
            Fact::Told(Told::Lost { epoch, not_sent: (start, end), cut, .. }) => {
                return self.lost(*epoch, *start..*end, *cut, common.closed);
            }
            Fact::Told(Told::Closed { .. }) => {
                for (epoch, sent) in &self.epochs {
                    sent.settle(*epoch, true)?;
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
        let epoch = self.epoch_of.get(&id).copied().unwrap_or_default();
        common.bind(epoch, conn)?;
        let Some(sent) = self.epochs.get_mut(&epoch) else { return Ok(()) };
        if let Some((unsent, _)) = &sent.unsent
            && unsent.contains(&id)
        {
            return Err(format!("message {id} was told not sent, but it arrived"));
        }
        // In order: what was sent before it is there already.
        if let Some(missing) = sent.open.first().filter(|first| **first < id) {
            return Err(format!("message {id} arrived, but {missing} before it did not"));
        }
        sent.open.remove(&id);
        sent.arrived = id;
        Ok(())
    }

    fn lost(&mut self, epoch: u64, unsent: Range<u64>, cut: Option<u64>, closed: bool) -> Verdict {
        for id in unsent.clone().chain(cut) {
            if self.epoch_of.get(&id) != Some(&epoch) {
                return Err(format!(
                    "message {id} was told not sent in epoch {epoch}, but it is not of that epoch"
                ));
            }
        }
        let Some(sent) = self.epochs.get_mut(&epoch) else { return Ok(()) };
        if !unsent.is_empty() && unsent.start <= sent.arrived {
            return Err(format!(
                "messages from {} on were told not sent, but {} arrived",
                unsent.start, sent.arrived
            ));
        }
        if let Some(last) = sent.open.last().filter(|last| !unsent.is_empty() && **last >= unsent.end) {
            return Err(format!(
                "messages up to {} were told not sent, but not the later {last}",
                unsent.end
            ));
        }
        if cut.is_some_and(|cut| unsent.start != cut + 1) {
            return Err(format!("message {cut:?} was told cut, and {unsent:?} not sent"));
        }
        sent.unsent = Some((unsent, cut));
        sent.settle(epoch, closed)
    }
}

impl Epoch {
    /// The client's close frame came behind all that it sent: what is not there was told not to have been sent.
    fn settle(&self, epoch: u64, over: bool) -> Verdict {
        if !self.closed || (self.unsent.is_none() && !over) {
            return Ok(());
        }
        let told = |id: &u64| {
            self.unsent.as_ref().is_some_and(|(unsent, cut)| unsent.contains(id) || cut.as_ref() == Some(id))
        };
        match self.open.iter().find(|id| !told(id)) {
            Some(id) => Err(format!("message {id} of epoch {epoch} neither arrived nor was told not sent")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cause;
    use super::super::tests::{broken, fine, told, venue};
    use super::*;

    fn send(id: u64, epoch: u64) -> Fact {
        Fact::Did(Did::Send { id, text: format!("m{id}"), epoch })
    }

    fn arrived(conn: u64, id: u64) -> Fact {
        venue(conn, Saw::Message { text: format!("m{id}") })
    }

    fn lost(not_sent: (u64, u64), cut: Option<u64>) -> Fact {
        told(Told::Lost { epoch: 1, cause: Cause::Disconnected, retry_at: None, not_sent, cut })
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
        broken("but 2 arrived", with(&[arrived(1, 1), arrived(1, 2), lost((2, 4), None)]));
        broken("not the later 3", with(&[lost((2, 3), None)]));
        broken("not of that epoch", with(&[lost((3, 5), None)]));
        broken("told cut", with(&[lost((3, 4), Some(1))]));
        broken("after its loss", with(&[lost((4, 4), None), send(4, 1)]));
    }

    #[test]
    fn nothing_vanishes_on_a_connection_that_was_closed() {
        let history = [send(1, 1), send(2, 1), arrived(1, 1), close(1)];
        let with = |more: Fact| history.iter().cloned().chain([more]).collect::<Vec<_>>();
        broken("neither arrived nor", with(lost((3, 3), None)));
        broken("neither arrived nor", with(told(Told::Closed { cause: None })));
        fine(with(lost((2, 3), None)));
        fine(with(lost((3, 3), Some(2))));
        // It died without a close frame: what was under way is not known.
        fine([send(1, 1), send(2, 1), arrived(1, 1), lost((3, 3), None)]);
    }
}
