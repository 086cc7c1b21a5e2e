//! A user who does everything that a session's interface allows, in an order that a seed decides.

use super::dice::Dice;
use super::model::{Did, Fact, Look, Told, Witness};
use super::venue::NO_SUCH;
use super::{User, instant};
use everwire_core::{
    CloseOptions, Drain, Epoch, Message, OnDisconnect, OwnedEvent, Request, RequestId, RequestOptions,
    SendOptions, Session, State, SubscribeOptions, SubscriptionId, Watch,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// How often the session is looked at when nothing else happens.
const LOOKS: Duration = Duration::from_secs(1);
/// The longest time for which the user takes no events.
const LONGEST_PAUSE: Duration = Duration::from_secs(40);

/// What a [`Script`] does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Time between two operations, about.
    pub pace: Duration,
    /// How many topics there are to subscribe to.
    pub topics: u64,
    /// Whether it takes breaks in which it takes no events.
    pub pauses: bool,
    /// Whether it asks for new connections.
    pub reconnects: bool,
    /// Bytes of the longest message.
    pub longest: usize,
    /// `Config::queue_timeout`: how long a message may wait for a limit.
    pub queue_timeout: Duration,
    /// The watch that about half of the topics have.
    pub watch: Option<Watch>,
    /// After this nothing is done any more but look, and close.
    pub busy_until: Duration,
    /// When the session is closed, if it is.
    pub close_at: Option<Duration>,
}

/// A [`User`] who follows a seed. All that it does and is told goes to a [`Witness`].
#[derive(Debug)]
pub struct Script {
    plan: Plan,
    dice: Dice,
    witness: Witness,
    next: Option<Duration>,
    next_look: Duration,
    paused_until: Option<Duration>,
    /// When it was to be called next.
    due: Duration,
    count: u64,
    requests: VecDeque<RequestId>,
    /// One for each reference.
    subscriptions: Vec<SubscriptionId>,
    closed: bool,
    events: u64,
}

impl Script {
    /// A user who begins by subscribing to some topics.
    pub fn new(seed: u64, plan: Plan, witness: Witness) -> Self {
        Self {
            plan,
            dice: Dice::new(seed, 3),
            witness,
            next: Some(Duration::ZERO),
            next_look: Duration::ZERO,
            paused_until: None,
            due: Duration::ZERO,
            count: 0,
            requests: VecDeque::new(),
            subscriptions: Vec::new(),
            closed: false,
            events: 0,
        }
    }

    /// How many events it was told.
    pub fn events(&self) -> u64 {
        self.events
    }

    fn see(&self, now: Duration, fact: Fact) {
        self.witness.see(now, fact);
    }

    /// Whoever is called late has slept.
    fn wake(&self, now: Duration) {
        if now > self.due + Duration::from_millis(10) {
            self.see(now, Fact::Did(Did::Slept { since: self.due }));
        }
    }

    fn look(&mut self, session: &Session, now: Duration) {
        self.see(now, Fact::Look(Look::at(session, instant(now))));
        self.next_look = now + LOOKS;
    }

    fn called_at(&self) -> Duration {
        let close = self.plan.close_at.filter(|_| !self.closed);
        let first = [self.next, self.paused_until, close].into_iter().flatten().min();
        first.map_or(self.next_look, |first| first.min(self.next_look))
    }

    /// Does one thing that chance decides.
    fn operate(&mut self, session: &mut Session, now: Duration) {
        self.count += 1;
        match self.dice.below(100) {
            0..35 => self.send(session, now),
            35..65 => self.request(session, now),
            65..70 => self.cancel(session, now),
            70..84 => self.subscribe(session, now),
            84..93 => self.unsubscribe(session, now),
            93..95 if self.plan.reconnects => {
                self.see(now, Fact::Did(Did::Reconnect));
                session.reconnect(instant(now));
            }
            95..98 if self.plan.pauses && self.paused_until.is_none() => {
                let most = if self.dice.chance(300) { LONGEST_PAUSE } else { Duration::from_secs(2) };
                self.paused_until = Some(now + self.dice.time(Duration::from_millis(1), most));
                self.see(now, Fact::Did(Did::Pause { paused: true }));
            }
            // Several at the same moment.
            98.. => (0..self.dice.below(30)).for_each(|_| {
                self.count += 1;
                self.send(session, now);
            }),
            _ => {}
        }
    }

    /// The epoch that what is sent now goes out on.
    fn epoch(session: &Session, now: Duration) -> Option<u64> {
        (session.state() == State::Online).then(|| session.status(instant(now)).epoch.as_u64())
    }

    fn send(&mut self, session: &mut Session, now: Duration) {
        let Some(epoch) = Self::epoch(session, now) else { return };
        let longest = if self.dice.chance(100) { self.plan.longest } else { 100 };
        let padding = "y".repeat(self.dice.index(longest + 1));
        let count = self.count;
        let text = match self.dice.below(4) {
            0 => format!(r#"{{"jsonrpc":"2.0","method":"note","params":{{"n":{count},"pad":"{padding}"}}}}"#),
            _ => format!("note {count} {padding}"),
        };
        let message =
            if self.dice.chance(200) { Message::Binary(text.as_bytes()) } else { Message::Text(&text) };
        let urgent = self.dice.chance(150);
        let timeout =
            self.dice.chance(300).then(|| self.dice.time(Duration::from_millis(1), Duration::from_secs(20)));
        let mut options = SendOptions::default().priority(urgent);
        options.timeout = timeout;
        if let Ok(id) = session.send(message, options, instant(now)) {
            let expires = now + timeout.unwrap_or(self.plan.queue_timeout);
            self.see(now, Fact::Did(Did::Send { id: id.as_u64(), text, epoch, urgent, expires }));
        }
    }

    /// Makes a request, or several in one message.
    fn request(&mut self, session: &mut Session, now: Duration) {
        let count = if self.dice.chance(200) { 1 + self.dice.index(4) } else { 0 };
        let calls: Vec<(&str, String)> = (0..count.max(1)).map(|_| self.call()).collect();
        let on_disconnect = match self.dice.below(3) {
            0 => OnDisconnect::Fail,
            1 => OnDisconnect::Hold,
            _ => OnDisconnect::Resend,
        };
        let timeout = self.dice.time(Duration::from_millis(100), Duration::from_secs(30));
        let urgent = self.dice.chance(150);
        let options = RequestOptions {
            timeout: Some(timeout),
            on_disconnect,
            priority: urgent,
            ..RequestOptions::default()
        };
        let epoch = Self::epoch(session, now);
        let requests: Vec<Request<'_>> =
            calls.iter().map(|(method, params)| Request::new(method).params(params)).collect();
        let made = match count {
            0 => session.request(requests[0], options, instant(now)).map(|id| vec![id]),
            _ => session.request_batch(&requests, options, instant(now)),
        };
        for (id, (method, params)) in made.unwrap_or_default().into_iter().zip(calls) {
            self.requests.push_back(id);
            if self.requests.len() > 20 {
                self.requests.pop_front();
            }
            let (id, method, deadline) = (id.as_u64(), method.to_owned(), now + timeout);
            let made = Did::Request { id, method, params, on_disconnect, deadline, epoch, urgent };
            self.see(now, Fact::Did(made));
        }
    }

    /// Answers a request of the venue.
    fn respond(&self, session: &mut Session, epoch: Epoch, id: &str, now: Duration) {
        let result = format!("[{}]", self.count);
        let Ok(sent) = session.respond(epoch, id, Ok(&result), instant(now)) else { return };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let (epoch, expires) = (epoch.as_u64(), now + self.plan.queue_timeout);
        self.see(now, Fact::Did(Did::Send { id: sent.as_u64(), text, epoch, urgent: false, expires }));
    }

    /// A method and its parameters.
    fn call(&mut self) -> (&'static str, String) {
        let (a, b) = (self.dice.below(1000), self.dice.below(1000));
        match self.dice.below(10) {
            0..4 => ("echo", format!(r#"{{"count":{},"list":[{a},"{b}"]}}"#, self.count)),
            4..7 => ("add", format!("[{a},{b}]")),
            7..9 => ("fail", "[]".to_owned()),
            _ => ("never", "[]".to_owned()),
        }
    }

    fn cancel(&mut self, session: &mut Session, now: Duration) {
        let at = self.dice.index(self.requests.len());
        if let Some(id) = self.requests.remove(at) {
            let found = session.cancel(id, instant(now));
            self.see(now, Fact::Did(Did::Cancel { id: id.as_u64(), found }));
        }
    }

    fn subscribe(&mut self, session: &mut Session, now: Duration) {
        let name = match self.dice.chance(50) {
            true => format!("{NO_SUCH}{}", self.dice.below(2)),
            false => format!("t{}", self.dice.below(self.plan.topics)),
        };
        let mut options = SubscribeOptions::default().priority(u8::try_from(self.dice.below(3)).unwrap_or(0));
        options.watch = self.plan.watch.filter(|_| self.dice.chance(500));
        let id = session.subscribe(name.as_str(), options, instant(now));
        self.subscriptions.push(id);
        self.see(now, Fact::Did(Did::Subscribe { id: id.as_u64(), topic: name }));
    }

    fn unsubscribe(&mut self, session: &mut Session, now: Duration) {
        if self.subscriptions.is_empty() {
            return;
        }
        let at = self.dice.index(self.subscriptions.len());
        let id = self.subscriptions.swap_remove(at);
        let found = session.unsubscribe(id, instant(now));
        self.see(now, Fact::Did(Did::Unsubscribe { id: id.as_u64(), found }));
    }
}

impl User for Script {
    fn connects(&mut self, conn: u64, to: SocketAddr, session: &Session, now: Duration) {
        self.wake(now);
        self.look(session, now);
        self.see(now, Fact::Dialed { conn, port: to.port() });
        self.due = self.called_at();
    }

    fn event(&mut self, event: &OwnedEvent, session: &mut Session, now: Duration) {
        self.wake(now);
        self.events += 1;
        if !matches!(event, OwnedEvent::Message { .. }) {
            self.look(session, now);
        }
        self.see(now, Fact::Told(Told::from(event)));
        if let OwnedEvent::Request { id, epoch, .. } = event
            && self.dice.chance(700)
        {
            self.respond(session, *epoch, id, now);
        }
        // Many a user acts on what he is told.
        if matches!(event, OwnedEvent::Online { .. }) && self.dice.chance(300) && now < self.plan.busy_until {
            self.count += 1;
            self.send(session, now);
        }
        self.due = self.called_at();
    }

    fn deadline(&self) -> Option<Duration> {
        Some(self.called_at())
    }

    fn act(&mut self, session: &mut Session, now: Duration) {
        self.wake(now);
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.see(now, Fact::Did(Did::Pause { paused: false }));
        }
        if self.next_look <= now {
            self.look(session, now);
        }
        if self.next.is_some_and(|next| next <= now) {
            let begins = self.count == 0;
            if begins {
                for _ in 0..self.dice.below(6) {
                    self.subscribe(session, now);
                }
            }
            self.operate(session, now);
            let next = now + self.dice.about(self.plan.pace);
            self.next = (next < self.plan.busy_until).then_some(next);
        }
        if !self.closed && self.plan.close_at.is_some_and(|at| at <= now) {
            self.closed = true;
            self.next = None;
            self.see(now, Fact::Did(Did::Close));
            let drains = [Drain::Nothing, Drain::Accepted, Drain::Answers];
            let drain = drains[self.dice.index(drains.len())];
            session.close_with(CloseOptions::new().reason("enough").drain(drain), instant(now));
        }
        self.due = self.called_at();
    }

    fn takes(&mut self, _now: Duration) -> bool {
        self.paused_until.is_none()
    }

    fn violation(&self) -> Option<String> {
        self.witness.violation()
    }
}
