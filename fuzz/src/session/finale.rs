//! The end of a run: with a server that does what it should, everything comes to rest, and the session ends when it is told to.

use super::setup::{CLOSE_TIMEOUT, SECRET};
use super::world::{CATCH_UP, Socket, Takes, World};
use everwire_core::{
    Drain, Message, Pressure, SendError, SendOptions, State, SubscribeOptions, SubscriptionInfo,
    SubscriptionState,
};
use std::time::Duration;

/// By when all must be at rest: longer than any delay in a configuration or a server's answer, many times over.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);
const MAX_ROUNDS: usize = 50_000;

impl World {
    /// The end: whatever came before, the session gets there by itself.
    pub(super) fn end(mut self) -> u64 {
        self.takes = Takes::All;
        self.give_back();
        self.now = self.latest;
        self.settle();
        self.converge();
        let shown = format!("{:?} {:?}", self.session, self.session.status(self.now));
        let any = [SECRET, "let-me-in"].iter().any(|secret| shown.contains(secret));
        assert!(!any, "a secret is shown: {shown}");
        if self.setup.by_abort {
            self.session.abort(self.now);
            self.settle();
            assert!(self.closed, "it does not end at once");
        } else {
            self.close();
        }
        let refused = self.session.send(Message::Text("late"), SendOptions::default(), self.now);
        assert_eq!(refused, Err(SendError::Closed));
        self.session.subscribe("late", SubscribeOptions::default(), self.now);
        self.session.reconnect(self.now);
        self.session.handle_timeout(self.now);
        self.settle();
        self.digest.unwrap_or_default()
    }

    /// The user closes the session, and that is over in time.
    fn close(&mut self) {
        let manner = self.setup.manner;
        if manner.busy_end() {
            for n in 0..4 {
                self.send(n, SendOptions::default());
                self.request(n & 1, None);
            }
        }
        let options = manner.close();
        let by = self.now + options.within.unwrap_or(CLOSE_TIMEOUT);
        let drains = !self.closed
            && options.drain != Drain::Nothing
            && options.within.is_some_and(|within| within > PATIENCE / 10);
        self.session.close_with(options, self.now);
        self.settle();
        for _ in 0..MAX_ROUNDS {
            let any = !self.closed && manner.good_end() && self.behave();
            self.settle();
            if self.closed {
                break;
            }
            if !any {
                self.set_now(self.until.expect("nobody else ends it"));
                self.settle();
            }
            assert!(self.over || self.now < by + CATCH_UP, "the time for closing is over");
            assert!(self.closed || self.now < by + CLOSE_TIMEOUT + CATCH_UP, "it lingers");
        }
        assert!(self.closed, "it does not end");
        if drains && manner.good_end() {
            let unsent = self.session.end().map(|end| end.unsent.count());
            assert_eq!(unsent, Some(0), "there was time enough for all of it");
        }
    }

    /// Everything that was wanted comes to be.
    fn converge(&mut self) {
        for socket in 0..self.sockets.len() {
            // Servers that do what they should not have had their time.
            let bad = self.sockets[socket].peer.spoilt && self.sockets[socket].alive;
            if bad && self.sockets[socket].connected {
                self.disconnected(socket, 0);
            }
        }
        self.settle();
        let limit = self.now + PATIENCE;
        for _ in 0..MAX_ROUNDS {
            if self.closed {
                return;
            }
            let any = self.behave();
            self.settle();
            if any {
                continue;
            }
            if self.is_at_rest() {
                return;
            }
            match self.until.filter(|until| *until <= limit) {
                Some(until) => self.set_now(until),
                None if self.closed => return,
                None => break,
            }
            self.settle();
        }
        panic!(
            "it does not come to rest, {:?} left, wakes in {:?}: {:?} {:?} {:?} {:?} {:?}",
            limit.saturating_duration_since(self.now),
            self.until.map(|until| until.saturating_duration_since(self.now)),
            self.session,
            self.session.pressure(),
            self.requests.iter().filter(|(_, made)| !made.is_empty()).collect::<Vec<_>>(),
            self.session.status(self.now),
            self.session.subscriptions().collect::<Vec<_>>(),
        );
    }

    /// Driver, network and servers do all that there is to do; false if that was nothing.
    pub(super) fn behave(&mut self) -> bool {
        let mut any = !self.provides.is_empty() || !self.resolves.is_empty();
        self.provided_well(false);
        self.settle();
        self.resolved(1);
        (self.provides, self.resolves) = (Vec::new(), Vec::new());
        self.settle();
        for index in 0..self.sockets.len() {
            if !self.sockets[index].alive {
                continue;
            }
            if !self.sockets[index].connected {
                self.connected(index);
                any = true;
                self.settle();
            }
            any |= self.transmit(index, usize::MAX) > 0;
            self.settle();
            any |= self.sockets[index].peer.behave();
            any |= self.deliver(index, usize::MAX) > 0;
            self.settle();
            let Socket { peer, alive, .. } = &self.sockets[index];
            if *alive && peer.wire.is_empty() && (peer.client_closed || peer.refused || peer.spoilt) {
                self.disconnected(index, 8);
                any = true;
                self.settle();
            }
        }
        any
    }

    /// Nothing is left to do but to keep the connection alive.
    fn is_at_rest(&self) -> bool {
        let most = self.setup.manner.topics_per_connection().filter(|_| self.setup.json);
        let confirmed = |s: &SubscriptionInfo| s.state == SubscriptionState::Confirmed;
        let full = most.is_some_and(|most| self.session.subscriptions().filter(confirmed).count() >= most);
        let settled = |s: SubscriptionInfo| match s.state {
            SubscriptionState::Confirmed => true,
            SubscriptionState::Rejected => self.setup.stops_topics && s.retry_at.is_none(),
            SubscriptionState::Waiting => full && s.reason.is_some_and(|why| why.contains("allows no more")),
            _ => false,
        };
        self.session.state() == State::Online
            && self.session.queued() == 0
            && self.session.pressure() == Pressure::None
            && self.requests.values().all(|made| made.is_empty())
            && self.session.subscriptions().all(settled)
    }
}
