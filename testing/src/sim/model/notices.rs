//! Notices of the venue: a session does what they ask for, and nothing for those that ask for nothing.

use super::super::venue::wish;
use super::{Cause, Common, Did, Fact, Told, Verdict};
use everwire_core::{Recovery, State};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Notices {
    /// The connection that is to be left, for what was told last of that, and when that was.
    leaves: Option<(u64, Recovery, Duration)>,
}

impl Notices {
    pub(super) fn see(&mut self, fact: &Fact, common: &Common) -> Verdict {
        match fact {
            Fact::Told(Told::Notice { epoch, text, recovery }) => {
                let asks = wish(text);
                if !common.terms.heeds || *recovery != asks {
                    return Err(format!("told {recovery:?}, but the notice asks for {asks:?}: {text}"));
                }
                if let Some(asks) = asks.filter(|_| !common.closing) {
                    self.leaves = Some((*epoch, asks, common.now));
                }
                Ok(())
            }
            Fact::Did(Did::Close) => {
                self.leaves = None;
                Ok(())
            }
            Fact::Told(Told::Lost { epoch, cause, .. }) => self.lost(*epoch, *cause),
            Fact::Look(look) => {
                let open = matches!(
                    look.state,
                    State::Authenticating | State::Preparing | State::Restoring | State::Online
                );
                match self.leaves.filter(|(_, _, since)| open && common.is_late(*since)) {
                    Some(leaves) => Err(format!("a notice asked for it, and it is not done: {leaves:?}")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// A notice is why a connection ended, whatever came behind it, unless the user wanted another.
    fn lost(&mut self, epoch: u64, cause: Cause) -> Verdict {
        let asked = self.leaves.take().filter(|(of, _, _)| *of == epoch).map(|(_, asked, _)| asked);
        match (asked, cause) {
            (Some(asked), Cause::Notice(done)) if asked == done => Ok(()),
            (_, Cause::Reconnect) | (None, _) if !matches!(cause, Cause::Notice(_)) => Ok(()),
            _ => Err(format!("epoch {epoch} ended for {cause:?}, but what a notice asked for was {asked:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Terms;
    use super::super::tests::{broken_with, fine_with, told, venue};
    use super::super::{Look, Saw};
    use super::*;

    fn terms() -> Terms {
        Terms { heeds: true, ..Terms::default() }
    }

    /// A notice is sent, and told.
    fn notice(then: &str, recovery: Option<Recovery>) -> Vec<Fact> {
        let params = format!(r#"{{"then":"{then}","n":1,"conn":1}}"#);
        let text = format!(r#"{{"jsonrpc":"2.0","method":"maintenance","params":{params}}}"#);
        let sent = venue(1, Saw::Sent { text, must: true });
        vec![sent, told(Told::Notice { epoch: 1, text: params, recovery })]
    }

    fn lost(cause: Cause) -> Vec<Fact> {
        let (retry_at, not_sent) = (None, (1, 1));
        vec![told(Told::Lost { epoch: 1, cause, retry_at, not_sent, waiting: vec![], cut: None })]
    }

    fn waits(count: usize) -> Vec<Fact> {
        let look = Look { state: State::Online, transitions: vec![], received: 0, subscriptions: vec![] };
        vec![Fact::Look(look); count]
    }

    const AGAIN: Option<Recovery> = Some(Recovery::Reconnect);

    #[test]
    fn what_they_ask_for_is_done() {
        fine_with(terms(), [notice("reconnect", AGAIN), lost(Cause::Notice(Recovery::Reconnect))].concat());
        broken_with(terms(), "asks for", notice("reconnect", None));
        broken_with(terms(), "asks for", notice("nothing", AGAIN));
        broken_with(Terms::default(), "asks for", notice("nothing", None));
        fine_with(terms(), [notice("reconnect", AGAIN), waits(2)].concat());
        broken_with(terms(), "is not done", [notice("reconnect", AGAIN), waits(3)].concat());
        fine_with(terms(), [notice("nothing", None), waits(9)].concat());
    }

    #[test]
    fn they_are_told_once_and_are_why_it_ended() {
        let again = notice("nothing", None)[1..].to_vec();
        broken_with(terms(), "never sent", [notice("nothing", None), again].concat());
        let closed = || lost(Cause::Closed(1001));
        let closing = vec![venue(1, Saw::Closing { code: 1001, blame: super::super::Blame::Venue })];
        fine_with(terms(), [notice("nothing", None), closing.clone(), closed()].concat());
        broken_with(terms(), "ended for", [notice("reconnect", AGAIN), closing, closed()].concat());
        broken_with(
            terms(),
            "ended for",
            [notice("nothing", None), lost(Cause::Notice(Recovery::Reconnect))].concat(),
        );
    }
}
