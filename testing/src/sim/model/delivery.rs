//! Messages of the venue: each is told once, in order, and what is missing is told as a gap.

use super::super::venue::MAINTENANCE;
use super::{Cause, Common, Data, Did, Fact, Saw, Told, Verdict};
use everwire_core::{GapCause, Step};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// What the venue sent on a connection and the user was not told yet.
    under_way: BTreeMap<u64, VecDeque<Sent>>,
    /// The newest number that a topic had when it was last granted.
    granted: BTreeMap<String, u64>,
    /// Subscriptions that the user holds.
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Sent {
    text: String,
    /// The user has to be told.
    must: bool,
}

#[derive(Debug, Default)]
struct Held {
    topic: String,
    references: u32,
    /// The epoch and number that it has been told of without a break.
    reached: Option<(u64, u64)>,
    /// A gap was told since.
    gap: bool,
    /// What a gap in the numbers said of them: which should have come, and which did.
    hole: Option<(u64, u64)>,
    /// Numbers are watched: the topic is in force, and has had a message since.
    watched: Watched,
    /// It was told what was missed while it was made anew.
    renewed: bool,
}

/// How far a topic's numbers are watched on a connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// It is not in force, or is made anew.
    #[default]
    No,
    /// It is in force. Its first message may have any number.
    Begins,
    /// Each message follows on the one before.
    Yes,
    /// A hole or silence was told, and it is to be made anew. Until it is ended its numbers are watched on, and from then on they are not: which of both a
    /// message meets only the session knows. Once it is in force again, what was missed must have been told.
    Stale,
}

impl Delivery {
    pub(super) fn see(&mut self, fact: &Fact, common: &Common) -> Verdict {
        if let Fact::Told(Told::Lost { .. }) = fact {
            self.held.values_mut().for_each(|held| (held.watched, held.hole) = (Watched::No, None));
        }
        match fact {
            Fact::Venue(conn, Saw::Sent { text, must }) => {
                self.under_way.entry(*conn).or_default().push_back(Sent { text: text.clone(), must: *must });
            }
            Fact::Venue(conn, Saw::Answered { text, .. }) => {
                let sent = Sent { text: text.clone(), must: false };
                self.under_way.entry(*conn).or_default().push_back(sent);
            }
            Fact::Venue(_, Saw::Granted { topic, after }) => {
                self.granted.insert(topic.clone(), *after);
            }
            Fact::Did(Did::Subscribe { id, topic }) => {
                let held = self.held.entry(*id).or_default();
                held.topic.clone_from(topic);
                held.references += 1;
            }
            Fact::Did(Did::Unsubscribe { id, found: true }) => {
                if let Some(held) = self.held.get_mut(id) {
                    held.references -= 1;
                    if held.references == 0 {
                        self.held.remove(id);
                    }
                }
            }
            Fact::Told(Told::Subscribed { id, epoch, .. }) => {
                if let Some(held) = self.held.get_mut(id) {
                    if held.watched == Watched::Stale && !held.renewed {
                        return Err(format!("{} was made anew, and what it missed was not told", held.topic));
                    }
                    (held.watched, held.renewed) = (Watched::Begins, false);
                    let after = self.granted.get(&held.topic).copied().unwrap_or(u64::MAX);
                    held.reached.get_or_insert((*epoch, after));
                }
            }
            Fact::Told(Told::Gap { topics, before, after, since, until, cause }) => {
                let same = *cause != GapCause::Reconnect;
                if (before == after) != same || before > after || since > until {
                    return Err(format!("a gap from epoch {before} to {after}, from {since:?} to {until:?}"));
                }
                for (id, _) in topics {
                    if let Some(held) = self.held.get_mut(id) {
                        held.gap = true;
                        held.renewed |=
                            !matches!(cause, GapCause::Sequence { .. } | GapCause::Corrupt { .. });
                        if let GapCause::Sequence { expected, got } = cause {
                            held.found(*after, (*expected, *got), common)?;
                        }
                    }
                }
            }
            Fact::Told(Told::Stale { id, step: Step::Resubscribe }) => {
                let silent = |(held, _): &(&u64, &mut Held)| id.is_none_or(|id| id == **held);
                for (_, held) in self.held.iter_mut().filter(silent) {
                    if held.watched != Watched::No {
                        held.watched = Watched::Stale;
                    }
                }
            }
            Fact::Told(Told::Notice { epoch, text, .. }) => {
                let text = format!(r#"{{"jsonrpc":"2.0","method":"{MAINTENANCE}","params":{text}}}"#);
                return self.message(*epoch, &text, None, common);
            }
            Fact::Told(Told::Message { epoch, text, subscription }) => {
                return self.message(*epoch, text, *subscription, common);
            }
            Fact::Told(Told::Lost { epoch, cause: Cause::Closed(_), .. }) => {
                // The close frame came behind all of it.
                if let Some(conn) = common.conn_of.get(epoch)
                    && let Some(sent) =
                        self.under_way.get(conn).and_then(|queue| queue.iter().find(|sent| sent.must))
                {
                    return Err(format!(
                        "epoch {epoch} ended with a close frame, but what came before it was not told: {}",
                        sent.text
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self, epoch: u64, text: &str, subscription: Option<u64>, common: &Common) -> Verdict {
        if common.lost.is_some_and(|(lost, _)| lost >= epoch) {
            return Err(format!("a message of epoch {epoch} after its loss was told: {text}"));
        }
        if let Some(conn) = common.conn_of.get(&epoch) {
            self.take(*conn, text)?;
        }
        let Some(data) = Data::parse(text) else { return Ok(()) };
        if let Some(id) = subscription {
            // One that was given up while its message waited to be taken is not there any more.
            if self.held.get(&id).is_some_and(|held| held.topic != data.topic) {
                return Err(format!("subscription {id} was told a message of {}", data.topic));
            }
        } else if common.awake_from(common.now.saturating_sub(common.terms.slack))
            && let Some((id, _)) = self.held.iter().find(|(_, held)| held.topic == data.topic)
        {
            return Err(format!("a message of {} was not told as of subscription {id}", data.topic));
        }
        let Some(held) = subscription.and_then(|id| self.held.get_mut(&id)) else { return Ok(()) };
        if let Some((reached, number)) = held.reached {
            let missing = data.number > number.saturating_add(1);
            // Within a connection the queue above misses nothing; what the venue skipped only a tracker can tell.
            if missing && !held.gap && (reached != epoch || held.watched == Watched::Yes) {
                return Err(format!(
                    "silent loss: {} went from number {number} (epoch {reached}) to {} (epoch {epoch}) without a gap",
                    data.topic, data.number
                ));
            }
        }
        held.follow(epoch, data, common)?;
        (held.reached, held.gap) = (Some((epoch, data.number)), false);
        Ok(())
    }

    /// Takes a message off what is under way: it must be the next that the user has to be told.
    fn take(&mut self, conn: u64, text: &str) -> Verdict {
        let queue = self.under_way.entry(conn).or_default();
        while let Some(sent) = queue.pop_front() {
            if sent.text == text {
                return Ok(());
            }
            if sent.must {
                return Err(format!("told {text}, but the venue sent {} before it", sent.text));
            }
        }
        Err(format!("the venue never sent this on connection {conn}, or it was told before: {text}"))
    }
}

impl Held {
    /// A hole in the numbers was told: it must be where the messages so far ended. The topic is made anew, and until it is in force again its
    /// numbers are not watched.
    fn found(&mut self, epoch: u64, hole: (u64, u64), common: &Common) -> Verdict {
        let follows = self.reached.is_some_and(|(reached, number)| reached == epoch && number + 1 == hole.0);
        let watched = matches!(self.watched, Watched::Yes | Watched::Stale);
        if !common.terms.tracked || !watched || !follows || hole.1 <= hole.0 {
            return Err(format!(
                "a hole {hole:?} in the numbers of {} was told, but it is {self:?}",
                self.topic
            ));
        }
        (self.hole, self.watched) = (Some(hole), Watched::Stale);
        Ok(())
    }

    /// A message comes: its number is that which the hole before it named, if there was one, and none that was told before.
    fn follow(&mut self, epoch: u64, data: Data<'_>, common: &Common) -> Verdict {
        if let Some((expected, got)) = self.hole.take()
            && got != data.number
        {
            return Err(format!(
                "the message behind the hole from {expected} to {got} of {} is {}",
                self.topic, data.number
            ));
        }
        if !common.terms.tracked || matches!(self.watched, Watched::No | Watched::Stale) {
            return Ok(());
        }
        if self.watched == Watched::Yes
            && self.reached.is_some_and(|(reached, number)| reached == epoch && data.number <= number)
        {
            return Err(format!("{} of {} was told twice", data.number, self.topic));
        }
        self.watched = Watched::Yes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Blame;
    use super::super::tests::{broken, data, fine, told, venue};
    use super::*;
    use std::time::Duration;

    fn sent(conn: u64, topic: &str, number: u64) -> Fact {
        venue(conn, Saw::Sent { text: data(topic, number, conn), must: true })
    }

    fn message(epoch: u64, conn: u64, topic: &str, number: u64, subscription: Option<u64>) -> Fact {
        told(Told::Message { epoch, text: data(topic, number, conn), subscription })
    }

    fn subscribe(id: u64, topic: &str) -> Fact {
        Fact::Did(Did::Subscribe { id, topic: topic.to_owned() })
    }

    fn gap(id: u64) -> Fact {
        let (since, until) = (Duration::from_secs(1), Duration::from_secs(2));
        let cause = GapCause::Reconnect;
        told(Told::Gap { topics: vec![(id, "a".to_owned())], before: 1, after: 2, since, until, cause })
    }

    fn lost(epoch: u64, cause: Cause) -> Fact {
        told(Told::Lost { epoch, cause, retry_at: None, not_sent: (1, 1), waiting: vec![], cut: None })
    }

    #[test]
    fn in_order_and_once() {
        let (one, two) = (sent(1, "a", 1), sent(1, "a", 2));
        fine([one.clone(), two.clone(), message(1, 1, "a", 1, None), message(1, 1, "a", 2, None)]);
        broken("before it", [one.clone(), two, message(1, 1, "a", 2, None)]);
        broken("never sent", [one.clone(), message(1, 1, "a", 1, None), message(1, 1, "a", 1, None)]);
        broken("before it", [one, message(1, 1, "b", 1, None)]);
        broken("never sent", [message(1, 1, "b", 1, None)]);
    }

    #[test]
    fn of_that_connection() {
        broken(
            "which is another",
            [sent(1, "a", 1), sent(2, "a", 2), message(1, 1, "a", 1, None), message(1, 2, "a", 2, None)],
        );
        broken(
            "after its loss",
            [sent(1, "a", 1), lost(1, Cause::Disconnected), message(1, 1, "a", 1, None)],
        );
    }

    #[test]
    fn answers_that_nobody_waits_for_may_be_told_or_not() {
        let answer = venue(1, Saw::Answered { id: 1, text: "late".to_owned() });
        let late = told(Told::Message { epoch: 1, text: "late".to_owned(), subscription: None });
        let (first, second) = (sent(1, "a", 1), sent(1, "a", 2));
        let (told_first, told_second) = (message(1, 1, "a", 1, None), message(1, 1, "a", 2, None));
        let history = [first, answer, second, told_first];
        fine(history.clone().into_iter().chain([told_second.clone()]));
        fine(history.clone().into_iter().chain([late.clone(), told_second.clone()]));
        broken("never sent", history.into_iter().chain([told_second, late]));
    }

    #[test]
    fn a_close_frame_comes_behind_everything() {
        let closing = venue(1, Saw::Closing { code: 1001, blame: Blame::Venue });
        let history = [sent(1, "a", 1), sent(1, "a", 2), message(1, 1, "a", 1, None), closing];
        fine(history.clone().into_iter().chain([lost(1, Cause::Disconnected)]));
        broken("was not told", history.into_iter().chain([lost(1, Cause::Closed(1001))]));
    }

    #[test]
    fn no_silent_loss() {
        let history = [
            subscribe(5, "a"),
            sent(1, "a", 1),
            message(1, 1, "a", 1, Some(5)),
            lost(1, Cause::Disconnected),
            sent(2, "a", 4),
        ];
        let late = message(2, 2, "a", 4, Some(5));
        broken("silent loss", history.clone().into_iter().chain([late.clone()]));
        broken("silent loss", history.clone().into_iter().chain([late.clone(), gap(5)]));
        broken("silent loss", history.clone().into_iter().chain([gap(6), late.clone()]));
        fine(history.into_iter().chain([gap(5), late]));
    }

    #[test]
    fn silent_loss_before_the_first_message() {
        let granted = venue(1, Saw::Granted { topic: "a".to_owned(), after: 3 });
        let subscribed = told(Told::Subscribed { id: 5, topic: "a".to_owned(), epoch: 1 });
        let history = [subscribe(5, "a"), granted, subscribed, lost(1, Cause::Disconnected), sent(2, "a", 9)];
        broken("silent loss", history.clone().into_iter().chain([message(2, 2, "a", 9, Some(5))]));
        fine(history.into_iter().chain([gap(5), message(2, 2, "a", 9, Some(5))]));
    }

    #[test]
    fn messages_belong_to_their_subscriptions() {
        let history = [subscribe(5, "a"), subscribe(6, "b"), sent(1, "a", 1)];
        broken(
            "was told a message of a",
            history.clone().into_iter().chain([message(1, 1, "a", 1, Some(6))]),
        );
        let late = Fact::Did(Did::Slept { since: Duration::ZERO });
        broken("not told as of", history.clone().into_iter().chain([message(1, 1, "a", 1, None)]));
        fine(history.into_iter().chain([late, message(1, 1, "a", 1, None)]));
    }

    #[test]
    fn gaps_are_sound() {
        let (since, until, cause) = (Duration::from_secs(2), Duration::from_secs(1), GapCause::Reconnect);
        broken(
            "a gap from",
            [told(Told::Gap { topics: vec![], before: 1, after: 2, since, until, cause: cause.clone() })],
        );
        let (since, until) = (until, since);
        broken("a gap from", [told(Told::Gap { topics: vec![], before: 2, after: 2, since, until, cause })]);
    }
}
