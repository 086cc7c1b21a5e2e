//! What the venue does wrong when it is told to, and what happens to it.

use super::{Path, Task, Venue};
use crate::script::{Replies, Reply};
use serde_json::{Value, json};
use std::time::Duration;

impl Venue {
    /// An event of a stream is lost.
    pub fn skip(&mut self, stream: &str) {
        self.ticker.skip(stream);
    }

    /// Subscriptions from now on are confirmed, and no data come of them; or they do, those of before too.
    pub fn silent(&mut self, silent: bool) {
        self.silent = silent;
        if !silent {
            self.wake();
        }
    }

    /// Answers to subscriptions come so much later.
    pub fn late(&mut self, late: Duration) {
        self.late = late;
    }

    /// The next request, of a subscription or of the WebSocket API, is refused with this, and not carried
    /// out.
    pub fn refuse_next(&mut self, code: i64, message: &str) {
        self.refuses.push_back((code, message.to_owned()));
    }

    /// The next order is carried out, and its answer is that this is not known.
    pub fn time_out_next(&mut self) {
        self.keys.time_out = true;
    }

    /// The keys that were logged on with are not valid any more.
    pub fn revoke_keys(&mut self) {
        self.keys.revoked = true;
    }

    /// The streams of user data that the WebSocket API serves end.
    pub fn end_user_data(&mut self, now: Duration, out: &mut Replies) {
        let event = json!({"e": "eventStreamTerminated", "E": self.wall.millis(now)});
        for (conn, open) in &mut self.conns {
            if std::mem::take(&mut open.session.user_data) {
                out.json(*conn, &json!({"subscriptionId": 0, "event": event}));
            }
        }
    }

    /// The servers behind all connections say that they shut down, and do so in this time.
    pub fn shut_down(&mut self, within: Duration, now: Duration, out: &mut Replies) {
        let event = json!({"e": "serverShutdown", "E": self.wall.millis(now)});
        for (conn, open) in &self.conns {
            let said = match open.path {
                Path::Streams { combined: true, .. } => json!({"stream": "!serverShutdown", "data": event}),
                Path::Streams { .. } => event.clone(),
                Path::Api => json!({"event": event}),
            };
            out.json(*conn, &said);
            self.agenda.plan(now.saturating_add(within), Task::End(*conn));
        }
    }

    /// All connections are as old as they may become.
    pub fn grow_old(&mut self, out: &mut Replies) {
        let all: Vec<u64> = self.conns.keys().copied().collect();
        for conn in all {
            self.end(conn, Reply::Close(1001, String::new()), out);
        }
    }

    /// Something happened to the account: whoever has user data is told.
    pub fn user_event(&mut self, event: &Value, out: &mut Replies) {
        for (conn, open) in &self.conns {
            let said = match open.path {
                Path::Streams { combined: true, .. } if open.listen_key.is_some() => {
                    json!({"stream": open.listen_key, "data": event})
                }
                Path::Streams { .. } if open.listen_key.is_some() => event.clone(),
                Path::Api if open.session.user_data && !open.session.muted => {
                    json!({"subscriptionId": 0, "event": event})
                }
                _ => continue,
            };
            out.json(*conn, &said);
        }
    }
}
