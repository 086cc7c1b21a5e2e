//! The user of a trial: does by dice what users do, and has all that he is told checked.

use super::check::Check;
use super::{Asks, Reads};
use crate::sim::{Dice, User, instant};
use everwire_core::tungstenite::Message;
use everwire_core::{
    OnDisconnect, OwnedEvent, OwnedOutcome, Request, RequestOptions, Session, State, Step, SubscribeOptions,
    SubscriptionId, SubscriptionState, Topic,
};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Events that are kept.
const KEPT: usize = 100;
/// The longest time for which the user takes no events.
const PAUSE: Duration = Duration::from_secs(3);

pub(super) struct Trader {
    pub(super) dice: Dice,
    pub(super) topics: Vec<(Topic, SubscribeOptions)>,
    pub(super) most: usize,
    pub(super) reads: Reads,
    pub(super) asks: Option<Asks>,
    pub(super) pace: Duration,
    /// After this nothing is changed any more.
    pub(super) busy: Duration,
    /// When a request is made that must be answered.
    pub(super) last_request: Option<Duration>,
    pub(super) next: Option<Duration>,
    /// Whether he takes no events now and then, and until when he does not.
    pub(super) pauses: bool,
    pub(super) paused: Option<Duration>,
    pub(super) reconnects: bool,
    /// What is wanted: the topics by their places in the list.
    pub(super) held: Vec<(usize, SubscriptionId)>,
    pub(super) check: Check,
    /// What was told last, messages excepted.
    pub(super) told: VecDeque<String>,
}

impl Trader {
    /// Looks at the session at the end of the calm.
    pub(super) fn look(&self, session: &Session, now: Duration) -> Result<(), String> {
        if session.state() != State::Online {
            return Err(format!("not online after the calm: {:?}", session.status(instant(now))));
        }
        for info in session.subscriptions() {
            let wanted = self.held.iter().any(|(_, id)| *id == info.id);
            if wanted && info.state != SubscriptionState::Confirmed {
                return Err(format!("not in force after the calm: {info:?}"));
            }
        }
        self.check.calm()
    }

    fn subscribe(&mut self, session: &mut Session, now: Duration) {
        let at = self.dice.index(self.topics.len());
        let Some((topic, options)) = self.topics.get(at) else { return };
        if self.held.len() >= self.most || self.held.iter().any(|(held, _)| *held == at) {
            return;
        }
        let id = session.subscribe(topic.clone(), options.clone(), instant(now));
        self.held.push((at, id));
        self.check.subscribed(id.as_u64(), topic.name());
    }

    fn unsubscribe(&mut self, session: &mut Session, now: Duration) {
        // One stays, so that there is something to be seen.
        if self.held.len() < 2 {
            return;
        }
        let at = self.dice.index(self.held.len());
        let (_, id) = self.held.swap_remove(at);
        let found = session.unsubscribe(id, instant(now));
        self.check.unsubscribed(id.as_u64(), found);
    }

    fn request(&mut self, session: &mut Session, now: Duration) {
        let Some(asks) = &mut self.asks else { return };
        let (method, params) = asks(&mut self.dice);
        let on_disconnect = match self.dice.below(2) {
            0 => OnDisconnect::Fail,
            _ => OnDisconnect::Hold,
        };
        let mut request = Request::new(&method);
        request.params = params.as_deref();
        let options = RequestOptions::default().on_disconnect(on_disconnect);
        let last = now >= self.busy;
        match session.request(request, options, instant(now)) {
            Ok(id) => self.check.asked(id.as_u64(), last),
            Err(error) if last => self.check.fail(format!("a request in the calm was refused: {error}")),
            Err(_) => {}
        }
    }

    fn begin(&mut self, session: &mut Session, now: Duration) {
        for _ in 0..self.topics.len().div_ceil(2) {
            self.subscribe(session, now);
        }
        if self.held.is_empty() {
            self.subscribe(session, now);
        }
    }

    fn operate(&mut self, session: &mut Session, now: Duration) {
        match self.dice.below(100) {
            0..35 => self.subscribe(session, now),
            35..65 => self.unsubscribe(session, now),
            65..90 => self.request(session, now),
            90..93 if self.reconnects => session.reconnect(instant(now)),
            93..96 if self.pauses => {
                self.paused = Some(now + self.dice.time(Duration::from_millis(1), PAUSE));
            }
            // Many at the same moment.
            96.. => (0..self.dice.below(8)).for_each(|_| match self.dice.below(3) {
                0 => self.subscribe(session, now),
                1 => self.unsubscribe(session, now),
                _ => self.request(session, now),
            }),
            _ => {}
        }
    }
}

impl User for Trader {
    fn event(&mut self, event: &OwnedEvent, _: &mut Session, now: Duration) {
        if !matches!(event, OwnedEvent::Message { .. } | OwnedEvent::Pong { .. }) {
            if self.told.len() == KEPT {
                self.told.pop_front();
            }
            self.told.push_back(format!("{:>14.6} {}", now.as_secs_f64(), brief(event)));
        }
        let check = &mut self.check;
        match event {
            OwnedEvent::Message { message: Message::Text(text), epoch, subscription } => {
                if let Some(read) = (self.reads)(text) {
                    check.message(read, epoch.as_u64(), subscription.map(SubscriptionId::as_u64), now);
                }
            }
            OwnedEvent::Subscribed { id, .. } => check.confirmed(id.as_u64()),
            OwnedEvent::Rejected { id, .. } => {
                check.total.rejected += 1;
                check.ceased(Some(id.as_u64()));
            }
            OwnedEvent::Stale { subscription, step: Step::Resubscribe, .. } => {
                check.ceased(subscription.as_ref().map(|(id, _)| id.as_u64()));
            }
            OwnedEvent::Lost { .. } => check.lost(),
            OwnedEvent::Gap(gap) => {
                let topics: Vec<u64> = gap.topics.iter().map(|(id, _)| id.as_u64()).collect();
                check.gap(&topics, gap.before.as_u64(), gap.after.as_u64(), &gap.cause);
            }
            OwnedEvent::Response { id, outcome } => {
                check.settled(id.as_u64(), matches!(outcome, OwnedOutcome::Answered(_)));
            }
            OwnedEvent::Closed { error, .. } => check.ended(error.as_ref().map(ToString::to_string)),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        [self.next, self.paused, self.last_request].into_iter().flatten().min()
    }

    fn act(&mut self, session: &mut Session, now: Duration) {
        self.paused = self.paused.filter(|until| *until > now);
        if self.last_request.take_if(|at| *at <= now).is_some() {
            self.request(session, now);
        }
        if self.next.is_some_and(|next| next <= now) {
            match now {
                Duration::ZERO => self.begin(session, now),
                _ if now < self.busy => self.operate(session, now),
                _ => {}
            }
            let next = now + self.dice.about(self.pace).max(Duration::from_millis(1));
            self.next = Some(next).filter(|next| *next < self.busy);
        }
    }

    fn takes(&mut self, now: Duration) -> bool {
        self.paused.is_none_or(|until| until <= now)
    }

    fn violation(&self) -> Option<String> {
        self.check.wrong.clone()
    }
}

/// An event as the log of the simulation has it, without moments of the machine's clock.
fn brief(event: &OwnedEvent) -> String {
    match event {
        OwnedEvent::Online { epoch, resumed, .. } => format!("Online {epoch:?}, resumed: {resumed}"),
        OwnedEvent::Lost { epoch, error, .. } => format!("Lost {epoch:?} ({error})"),
        OwnedEvent::AttemptFailed { failures, error, .. } => format!("AttemptFailed {failures} ({error})"),
        OwnedEvent::Gap(gap) => {
            format!("Gap {:?} to {:?} {:?}: {:?}", gap.before, gap.after, gap.topics, gap.cause)
        }
        event => format!("{event:?}"),
    }
}

impl fmt::Debug for Trader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trader").field("held", &self.held).field("check", &self.check).finish_non_exhaustive()
    }
}
