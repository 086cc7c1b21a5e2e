//! Requests: each is settled once, in time, with the truth.

use super::super::venue;
use super::{Answer, Common, Did, Fact, Saw, Told, Verdict};
use everwire_core::{OnDisconnect, Unanswered};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Requests {
    all: BTreeMap<u64, Made>,
    /// Those that are not settled.
    open: BTreeSet<u64>,
    /// The last of an epoch that arrived in it, of each lane.
    last: BTreeMap<(u64, bool), u64>,
}

#[derive(Debug)]
struct Made {
    method: String,
    params: String,
    on_disconnect: OnDisconnect,
    deadline: Duration,
    /// The connection that it went out on at once.
    epoch: Option<u64>,
    /// It goes before those that are not.
    urgent: bool,
    cancelled: Option<Duration>,
    /// The connections that it arrived on.
    arrived: Vec<u64>,
    answered: bool,
    settled: Option<Answer>,
}

impl Requests {
    pub(super) fn see(&mut self, fact: &Fact, common: &Common) -> Verdict {
        match fact {
            Fact::Did(Did::Request { id, method, params, on_disconnect, deadline, epoch, urgent }) => {
                let made = Made {
                    method: method.clone(),
                    params: params.clone(),
                    on_disconnect: *on_disconnect,
                    deadline: *deadline,
                    epoch: *epoch,
                    urgent: *urgent && common.terms.limited.is_some(),
                    cancelled: None,
                    arrived: Vec::new(),
                    answered: false,
                    settled: None,
                };
                self.open.insert(*id);
                if self.all.insert(*id, made).is_some() {
                    return Err(format!("the id of request {id} was used before"));
                }
            }
            Fact::Did(Did::Cancel { id, found }) => {
                let Some(made) = self.all.get_mut(id) else { return Ok(()) };
                if *found && (made.settled.is_some() || made.cancelled.is_some()) {
                    return Err(format!("request {id} was cancelled after it was settled"));
                }
                if *found {
                    made.cancelled = Some(common.now);
                }
            }
            Fact::Venue(conn, Saw::Request { id, method, params }) => {
                return self.arrived(*conn, *id, method, params, common);
            }
            Fact::Venue(_, Saw::Answered { id, .. }) => {
                if let Some(made) = self.all.get_mut(id) {
                    made.answered = true;
                }
            }
            Fact::Told(Told::Response { id, answer }) => return self.settled(*id, answer, common),
            Fact::Told(Told::Closed { .. }) => {
                if let Some(id) = self.open.first() {
                    return Err(format!("the session is closed, but request {id} is not settled"));
                }
            }
            Fact::Look(_) => return self.hangs(common),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish(&self, common: &Common) -> Verdict {
        self.hangs(common)
    }

    fn arrived(&mut self, conn: u64, id: u64, method: &str, params: &str, common: &Common) -> Verdict {
        let Some(made) = self.all.get_mut(&id) else {
            return Err(format!("request {id} ({method}) arrived, but the user never made it"));
        };
        if made.method != method || !same_json(&made.params, params) {
            return Err(format!(
                "request {id} arrived as {method} {params}, not as {} {}",
                made.method, made.params
            ));
        }
        if let Some(Answer::NotSent(why)) = made.settled {
            return Err(format!("request {id} was told not sent ({why:?}), but it arrived"));
        }
        let again = match made.on_disconnect {
            OnDisconnect::Resend => made.arrived.contains(&conn),
            OnDisconnect::Fail | OnDisconnect::Hold => !made.arrived.is_empty(),
        };
        if again {
            return Err(format!(
                "request {id} ({:?}) arrived again on connection {conn}, after {:?}",
                made.on_disconnect, made.arrived
            ));
        }
        made.arrived.push(conn);
        // Those of one lane go out in the order in which they were made, unless they had to wait for the connection.
        if let Some(epoch) = made.epoch.filter(|epoch| common.epoch_of.get(&conn) == Some(epoch)) {
            let last = self.last.insert((epoch, made.urgent), id);
            if let Some(last) = last.filter(|last| *last > id) {
                return Err(format!("request {id} arrived after the later {last}"));
            }
        }
        if let (OnDisconnect::Fail, Some(epoch), Some(of)) =
            (made.on_disconnect, made.epoch, common.epoch_of.get(&conn))
            && epoch != *of
        {
            return Err(format!("request {id} was made in epoch {epoch} and sent in {of}"));
        }
        Ok(())
    }

    fn settled(&mut self, id: u64, answer: &Answer, common: &Common) -> Verdict {
        let Some(made) = self.all.get_mut(&id) else {
            return Err(format!("request {id} was told settled, but never made"));
        };
        if let Some(before) = &made.settled {
            return Err(format!("request {id} was settled twice: {before:?}, {answer:?}"));
        }
        made.settled = Some(answer.clone());
        self.open.remove(&id);
        let wrong = match answer {
            Answer::Result(result) => {
                let right = venue::answer(&made.method, &json(&made.params));
                !made.answered || right.as_ref() != Ok(&json(result))
            }
            Answer::Error(code) => {
                // Where the network makes a crowd of what was well spaced, the venue may find that there are too many.
                let refused = *code == venue::NO_CREDITS
                    && common.terms.limited.is_some()
                    && common.terms.reliable.is_none();
                !made.answered || (venue::answer(&made.method, &json(&made.params)) != Err(*code) && !refused)
            }
            Answer::NotSent(_) => !made.arrived.is_empty(),
            // Where there never was a connection, nothing can have been sent.
            Answer::SentUnknown(_) => made.epoch.is_none() && common.upgraded.is_empty(),
        };
        if wrong {
            return Err(format!("request {id} was told {answer:?}, but it is {made:?}"));
        }
        match answer {
            Answer::NotSent(why) | Answer::SentUnknown(why) => {
                let justified = match why {
                    Unanswered::Timeout => common.now >= made.deadline,
                    Unanswered::Cancelled => made.cancelled.is_some(),
                    // One that is lost while it is being closed is told by the end alone.
                    Unanswered::ConnectionLost => {
                        let lost =
                            common.lost.filter(|(lost, _)| made.epoch.is_none_or(|epoch| epoch <= *lost));
                        common.closing || lost.is_some()
                    }
                    Unanswered::Closed => common.closing || common.over,
                    _ => true,
                };
                if !justified {
                    return Err(format!("request {id} was told {answer:?} for no reason: {made:?}"));
                }
            }
            _ if made.cancelled.is_some() => return Err(format!("request {id} was cancelled, and answered")),
            _ => {}
        }
        if common.is_late(made.deadline) {
            return Err(format!("request {id} was settled after its deadline, {:?}", made.deadline));
        }
        Ok(())
    }

    /// Whether one is still open that must not be.
    fn hangs(&self, common: &Common) -> Verdict {
        for id in &self.open {
            let Some(made) = self.all.get(id) else { continue };
            if common.is_late(made.deadline) {
                return Err(format!("request {id} hangs: its deadline was {:?}", made.deadline));
            }
            let lost = common.lost.filter(|(lost, _)| made.epoch.is_some_and(|epoch| epoch <= *lost));
            if let Some((_, at)) = lost.filter(|_| made.on_disconnect == OnDisconnect::Fail)
                && common.is_late(at)
            {
                return Err(format!("request {id} was to fail with its connection, at {at:?}"));
            }
            if made.cancelled.is_some_and(|at| common.is_late(at)) {
                return Err(format!("request {id} was cancelled, and that was not told"));
            }
        }
        Ok(())
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn same_json(one: &str, other: &str) -> bool {
    one == other || json(one) == json(other)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, broken, fine, told, venue};
    use super::super::{Cause, Look};
    use super::*;
    use everwire_core::State;

    fn made(id: u64, method: &str, params: &str, on_disconnect: OnDisconnect) -> Fact {
        Fact::Did(Did::Request {
            id,
            method: method.to_owned(),
            params: params.to_owned(),
            on_disconnect,
            deadline: at(20),
            epoch: Some(1),
            urgent: false,
        })
    }

    fn echo(id: u64) -> Fact {
        made(id, "echo", "[1]", OnDisconnect::Fail)
    }

    fn arrived(conn: u64, id: u64) -> Fact {
        venue(conn, Saw::Request { id, method: "echo".to_owned(), params: "[1]".to_owned() })
    }

    fn answered(id: u64) -> Fact {
        venue(1, Saw::Answered { id, text: "x".to_owned() })
    }

    fn response(id: u64, answer: Answer) -> Fact {
        told(Told::Response { id, answer })
    }

    fn result(id: u64, text: &str) -> Fact {
        response(id, Answer::Result(text.to_owned()))
    }

    fn lost() -> Fact {
        told(Told::Lost {
            epoch: 1,
            cause: Cause::Disconnected,
            retry_at: None,
            not_sent: (1, 1),
            waiting: vec![],
            cut: None,
        })
    }

    fn look() -> Fact {
        Fact::Look(Look { state: State::Idle, transitions: vec![], received: 0, subscriptions: vec![] })
    }

    /// Looks without anything happening, so that time passes.
    fn wait(facts: usize) -> impl Iterator<Item = Fact> {
        std::iter::repeat_n(look(), facts)
    }

    #[test]
    fn answered_once_and_rightly() {
        let asked = || [echo(1), arrived(1, 1), answered(1)];
        fine(asked().into_iter().chain([result(1, "[ 1 ]")]));
        broken("settled twice", asked().into_iter().chain([result(1, "[1]"), result(1, "[1]")]));
        broken("but it is", asked().into_iter().chain([result(1, "[2]")]));
        broken("but it is", [echo(1), arrived(1, 1), result(1, "[1]")]);
        broken("never made", [result(1, "[1]")]);
        let held = Fact::Did(Did::Request {
            id: 2,
            method: "echo".to_owned(),
            params: "[]".to_owned(),
            on_disconnect: OnDisconnect::Hold,
            deadline: at(20),
            epoch: None,
            urgent: false,
        });
        let closed = response(2, Answer::SentUnknown(Unanswered::Closed));
        broken("but it is", [held.clone(), Fact::Did(Did::Close), closed.clone()]);
        fine([held.clone(), venue(1, Saw::Upgraded), Fact::Did(Did::Close), closed.clone()]);
        broken("for no reason", [held, venue(1, Saw::Upgraded), closed]);
        broken("used before", [echo(1), echo(1)]);
        let add = [made(1, "add", "[1,2]", OnDisconnect::Fail), answered(1)];
        fine(add.clone().into_iter().chain([result(1, "3")]));
        broken("but it is", add.into_iter().chain([result(1, "4")]));
        let fail = [made(1, "fail", "[]", OnDisconnect::Fail), answered(1)];
        fine(fail.clone().into_iter().chain([response(1, Answer::Error(7))]));
        broken("but it is", fail.into_iter().chain([response(1, Answer::Error(8))]));
    }

    #[test]
    fn not_sent_is_never_received() {
        let not_sent = response(1, Answer::NotSent(Unanswered::ConnectionLost));
        fine([echo(1), lost(), not_sent.clone()]);
        broken("but it is", [echo(1), arrived(1, 1), lost(), not_sent.clone()]);
        broken("but it arrived", [echo(1), lost(), not_sent, arrived(1, 1)]);
    }

    #[test]
    fn sent_as_often_as_promised() {
        broken("arrived again", [echo(1), arrived(1, 1), arrived(2, 1)]);
        broken("arrived again", [made(1, "echo", "[1]", OnDisconnect::Hold), arrived(1, 1), arrived(2, 1)]);
        let resent = made(1, "echo", "[1]", OnDisconnect::Resend);
        fine([resent.clone(), arrived(1, 1), arrived(2, 1)]);
        broken("arrived again", [resent, arrived(1, 1), arrived(1, 1)]);
        broken("never made it", [arrived(1, 1)]);
        broken("arrived as", [made(1, "echo", "[2]", OnDisconnect::Fail), arrived(1, 1)]);
    }

    #[test]
    fn reasons_are_true() {
        broken("for no reason", [echo(1), response(1, Answer::SentUnknown(Unanswered::Timeout))]);
        broken("for no reason", [echo(1), response(1, Answer::SentUnknown(Unanswered::Cancelled))]);
        broken("for no reason", [echo(1), response(1, Answer::SentUnknown(Unanswered::ConnectionLost))]);
        let cancel = |found| Fact::Did(Did::Cancel { id: 1, found });
        fine([echo(1), cancel(true), response(1, Answer::SentUnknown(Unanswered::Cancelled))]);
        broken("and answered", [echo(1), answered(1), cancel(true), result(1, "[1]")]);
        broken("after it was settled", [echo(1), answered(1), result(1, "[1]"), cancel(true)]);
        broken("was not told", [echo(1), cancel(true)].into_iter().chain(wait(4)));
    }

    #[test]
    fn nothing_hangs() {
        fine([echo(1)].into_iter().chain(wait(18)));
        broken("hangs", [echo(1)].into_iter().chain(wait(25)));
        let late = response(1, Answer::SentUnknown(Unanswered::Timeout));
        let paused = |paused| Fact::Did(Did::Pause { paused });
        fine([echo(1), paused(true)].into_iter().chain(wait(25)).chain([paused(false), late.clone()]));
        let idle = std::iter::repeat_n(told(Told::Writable), 25);
        broken("after its deadline", [echo(1)].into_iter().chain(idle).chain([late]));
        broken("was to fail", [echo(1), lost()].into_iter().chain(wait(6)));
        broken(
            "is not settled",
            [echo(1), told(Told::Closed { cause: None, not_sent: (1, 1), waiting: vec![], cut: None })],
        );
    }
}
