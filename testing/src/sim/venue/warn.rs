//! What a venue says about itself before it goes down, or does not.

use super::{Action, Blame, Task, Venue};
use everwire_core::Recovery;
use std::time::Duration;

/// The method of such a notice.
pub(in crate::sim) const MAINTENANCE: &str = "maintenance";

/// What clients are asked to do, as the notice has it, and what that is.
const WISHES: [(&str, Option<Recovery>); 4] = [
    ("nothing", None),
    ("reconnect", Some(Recovery::Reconnect)),
    ("wait", Some(Recovery::Backoff(Duration::from_secs(15)))),
    ("stop", Some(Recovery::Stop)),
];

/// What a notice with these parameters asks of a client.
pub(in crate::sim) fn wish(params: &str) -> Option<Recovery> {
    let (_, rest) = params.split_once(r#""then":""#)?;
    let (then, _) = rest.split_once('"')?;
    WISHES.iter().find(|(name, _)| *name == then)?.1
}

impl Venue {
    /// Gives notice of going down about this often, with and without a word on what to do; and goes, says something more, or stays.
    pub fn warns(mut self, every: Duration) -> Self {
        self.habits.warns = Some(every);
        self
    }

    pub(super) fn warn(&mut self, conn: u64) {
        let n = self.count(conn);
        let wish = match self.dice.below(100) {
            0..40 => 0,
            40..75 => 1,
            75..98 => 2,
            _ => 3,
        };
        let then = WISHES[wish].0;
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"{MAINTENANCE}","params":{{"then":"{then}","n":{n},"conn":{conn}}}}}"#
        );
        self.tell(conn, text, true);
        match self.dice.below(5) {
            0 => self.close(conn, 1001, "as announced", Blame::Venue),
            1 => self.leave(conn, Action::Fin),
            2 => self.leave(conn, Action::Reset),
            3 => self.due(Task::Notice(conn)),
            _ => {}
        }
        self.again(conn, self.habits.warns, Task::Warn(conn));
    }
}
