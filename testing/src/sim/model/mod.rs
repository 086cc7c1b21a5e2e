//! The reference model: what a session owes its user, checked against all that happened in a run.
//!
//! It is told each [`Fact`] in the order of the run, from both ends: what the venue saw and did, what the user did and was told. Between
//! them is the session, and the model says which of its promises it broke. It knows nothing of how a session works inside.
//!
//! Each file holds the rules of one concern, and for each rule a history that breaks it.

mod attempts;
mod delivery;
mod endpoints;
mod fact;
mod life;
mod messages;
mod requests;
mod topics;

pub(crate) use fact::CONNECTION;
pub use fact::{Answer, Blame, Cause, Did, Fact, Look, Saw, TlsCause, Told};

use attempts::Attempts;
use delivery::Delivery;
use endpoints::Endpoints;
use everwire_core::{State, Step};
use life::Life;
use messages::Messages;
use requests::Requests;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use topics::Topics;

/// What was agreed on beforehand: the session's options that its promises depend on, and what the network is known not to do.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The ports of the endpoints in their order, each of a host of its own. Empty: a provider decides, and nothing is known of turns.
    pub endpoints: Vec<u16>,
    /// `Config::backoff`: the first bound and the last.
    pub backoff: (Duration, Duration),
    /// `Config::stable_after`.
    pub stable_after: Duration,
    /// `Config::ping_interval`.
    pub ping_interval: Option<Duration>,
    /// `Config::pong_timeout`.
    pub pong_timeout: Duration,
    /// `Config::request_timeout`.
    pub request_timeout: Duration,
    /// `Config::close_timeout`.
    pub close_timeout: Duration,
    /// `Config::queue_timeout`.
    pub queue_timeout: Duration,
    /// The protocol authenticates; until then with what is wrong.
    pub authenticates: Option<Duration>,
    /// The protocol watches sequence numbers: skips are gaps, duplicates are kept from the user.
    pub tracked: bool,
    /// The session was told the venue's limits: what it sends may have to wait. All of a limit comes back in this time, or less.
    pub limited: Option<Duration>,
    /// The protocol answers heartbeats, which is to be done within this time.
    pub heartbeats: Option<Duration>,
    /// How far watches go, of which there are some; `None` if there are none.
    pub watch: Option<Step>,
    /// The network only delays: it loses nothing, and stalls nothing for longer than this. Whatever ends a connection is the venue's doing or
    /// the client's. `None`: it may do anything.
    pub reliable: Option<Duration>,
    /// The longest time that a moment's work may take: how late something may be that is due.
    pub slack: Duration,
}

impl Default for Terms {
    /// Those of `Config::new`, over a network that may do anything.
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            stable_after: Duration::from_secs(10),
            ping_interval: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            queue_timeout: Duration::from_secs(30),
            authenticates: None,
            tracked: false,
            limited: None,
            heartbeats: None,
            watch: None,
            reliable: None,
            slack: Duration::from_secs(2),
        }
    }
}

/// The reference model. It keeps the first broken promise that it finds.
#[derive(Debug)]
pub struct Model {
    common: Common,
    delivery: Delivery,
    topics: Topics,
    requests: Requests,
    messages: Messages,
    attempts: Attempts,
    endpoints: Endpoints,
    life: Life,
    violation: Option<String>,
    facts: u64,
    recent: VecDeque<(Duration, Fact)>,
    kept: usize,
}

/// What all rules look at.
#[derive(Debug)]
struct Common {
    terms: Terms,
    now: Duration,
    /// Which connection each epoch is, as far as it is known, and the reverse.
    conn_of: BTreeMap<u64, u64>,
    epoch_of: BTreeMap<u64, u64>,
    /// When the venue accepted the handshake of a connection.
    upgraded: BTreeMap<u64, Duration>,
    /// The user takes no events.
    paused: bool,
    /// When the session was last looked at.
    looked: Duration,
    /// Since when the user has been awake and taking events.
    awake_since: Duration,
    /// The last epoch whose loss was told, and when.
    lost: Option<(u64, Duration)>,
    /// The user asked for the end.
    closing: bool,
    /// The session is over, told or not.
    over: bool,
    /// The session told its end.
    closed: bool,
    /// Changes of state that the last look showed for the first time, and the last change that any did.
    fresh: Vec<(Duration, State, State)>,
    last: Option<(Duration, State, State)>,
}

/// What a rule says of a fact: nothing, or how it was broken.
type Verdict = Result<(), String>;

impl Model {
    /// A model that saw nothing yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            common: Common {
                terms,
                now: Duration::ZERO,
                conn_of: BTreeMap::new(),
                epoch_of: BTreeMap::new(),
                upgraded: BTreeMap::new(),
                paused: false,
                looked: Duration::ZERO,
                awake_since: Duration::ZERO,
                lost: None,
                closing: false,
                over: false,
                closed: false,
                fresh: Vec::new(),
                last: None,
            },
            delivery: Delivery::default(),
            topics: Topics::default(),
            requests: Requests::default(),
            messages: Messages::default(),
            attempts: Attempts::default(),
            endpoints: Endpoints::default(),
            life: Life::default(),
            violation: None,
            facts: 0,
            recent: VecDeque::new(),
            kept: 0,
        }
    }

    /// Keeps the last facts for a report; default 0.
    pub fn keep(mut self, facts: usize) -> Self {
        self.kept = facts;
        self
    }

    /// Something happened. After a violation nothing is looked at any more.
    pub fn see(&mut self, now: Duration, fact: &Fact) {
        self.facts += 1;
        if self.kept > 0 {
            if self.recent.len() >= self.kept {
                self.recent.pop_front();
            }
            self.recent.push_back((now, fact.clone()));
        }
        if self.violation.is_some() {
            return;
        }
        self.common.now = now;
        let verdict = self.judge(fact);
        self.found(verdict);
    }

    /// The run is over: what was still owed is missing.
    pub fn finish(&mut self, now: Duration) {
        self.common.now = now;
        if self.violation.is_none() {
            // If he sleeps, nothing can be asked of him.
            self.common.paused |= now > self.common.looked + Duration::from_secs(2);
            let verdict = self.requests.finish(&self.common).and_then(|()| self.life.finish(&self.common));
            self.found(verdict);
        }
    }

    /// The first promise that was broken, and when.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// How many facts it saw.
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// The last facts, oldest first, and when they happened.
    pub fn recent(&self) -> impl Iterator<Item = &(Duration, Fact)> {
        self.recent.iter()
    }

    fn found(&mut self, verdict: Verdict) {
        if let Err(text) = verdict {
            self.violation = Some(format!("at {:?}: {text}", self.common.now));
        }
    }

    fn judge(&mut self, fact: &Fact) -> Verdict {
        let Self { common, delivery, topics, requests, messages, attempts, endpoints, life, .. } = self;
        common.see(fact)?;
        life.see(fact, common)?;
        messages.see(fact, common)?;
        delivery.see(fact, common)?;
        topics.see(fact, common)?;
        requests.see(fact, common)?;
        attempts.see(fact, common)?;
        endpoints.see(fact, attempts.is_spent(common), common)
    }
}

impl Common {
    fn see(&mut self, fact: &Fact) -> Verdict {
        match fact {
            Fact::Venue(conn, Saw::Upgraded) => _ = self.upgraded.insert(*conn, self.now),
            Fact::Did(Did::Pause { paused }) => {
                self.paused = *paused;
                self.awake_since = self.now;
            }
            Fact::Did(Did::Slept { .. }) => self.awake_since = self.now,
            Fact::Did(Did::Close) => self.closing = true,
            Fact::Look(look) => {
                self.looked = self.now;
                self.over |= look.state == State::Closed;
                let seen =
                    self.last.and_then(|last| look.transitions.iter().rposition(|change| *change == last));
                self.fresh = look.transitions.get(seen.map_or(0, |at| at + 1)..).unwrap_or_default().to_vec();
                self.last = self.fresh.last().copied().or(self.last);
            }
            Fact::Told(told) => {
                if self.closed {
                    return Err(format!("told after the end: {told:?}"));
                }
                match told {
                    Told::Online { epoch, conn: Some(conn), .. } => self.bind(*epoch, *conn)?,
                    Told::Message { epoch, text, .. } => {
                        if let Some(conn) = connection_in(text) {
                            self.bind(*epoch, conn)?;
                        }
                    }
                    Told::Request { epoch, id } => {
                        // The venue names the connection in the id.
                        let conn =
                            id.trim_start_matches('"').split('-').next().and_then(|conn| conn.parse().ok());
                        conn.map_or(Ok(()), |conn| self.bind(*epoch, conn))?;
                    }
                    Told::Lost { epoch, .. } => {
                        if self.lost.is_some_and(|(last, _)| last >= *epoch) {
                            return Err(format!("connection {epoch} is lost, after {:?} was", self.lost));
                        }
                        self.lost = Some((*epoch, self.now));
                    }
                    Told::Closed { .. } => self.closed = true,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Learns which connection an epoch is.
    fn bind(&mut self, epoch: u64, conn: u64) -> Verdict {
        match (self.conn_of.insert(epoch, conn), self.epoch_of.insert(conn, epoch)) {
            (None, None) => {
                let last = self.conn_of.range(..epoch).next_back();
                match last {
                    Some((before, other)) if *other > conn => {
                        Err(format!("epoch {epoch} is connection {conn}, but epoch {before} was {other}"))
                    }
                    _ => Ok(()),
                }
            }
            (Some(old), Some(of)) if old == conn && of == epoch => Ok(()),
            _ => Err(format!(
                "what came over connection {conn} was told as of epoch {epoch}, which is another"
            )),
        }
    }

    /// Whether the user has been awake and taking events all the time from then on.
    fn awake_from(&self, moment: Duration) -> bool {
        !self.paused && self.awake_since <= moment
    }

    /// Whether something that was due then is too late by now. Whoever does not listen is not told in time.
    fn is_late(&self, due: Duration) -> bool {
        !self.paused && self.now > due.max(self.awake_since).saturating_add(self.terms.slack)
    }
}

/// A venue's message of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Data<'a> {
    topic: &'a str,
    number: u64,
}

/// The connection that a message of the venue names as its own.
fn connection_in(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(r#""conn":"#)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

impl<'a> Data<'a> {
    /// Reads what [`Venue`](super::venue::Venue) writes; `None` for anything else.
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix(r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":""#)?;
        let (topic, rest) = rest.split_once(r#"","data":{"seq":"#)?;
        let (number, _) = rest.split_once(',')?;
        Some(Self { topic, number: number.parse().ok()? })
    }
}

/// A model that the venue and the user of a simulation tell what they see.
#[derive(Debug, Clone)]
pub struct Witness(Rc<RefCell<Model>>);

impl Witness {
    /// Makes a model one that can be shared within a simulation.
    pub fn new(model: Model) -> Self {
        Self(Rc::new(RefCell::new(model)))
    }

    /// Tells the model.
    pub fn see(&self, now: Duration, fact: Fact) {
        self.0.borrow_mut().see(now, &fact);
    }

    /// Tells the model that the run is over.
    pub fn finish(&self, now: Duration) {
        self.0.borrow_mut().finish(now);
    }

    /// The first promise that was broken.
    pub fn violation(&self) -> Option<String> {
        self.0.borrow().violation().map(str::to_owned)
    }

    /// Looks at the model.
    pub fn with<R>(&self, look: impl FnOnce(&Model) -> R) -> R {
        look(&self.0.borrow())
    }
}

#[cfg(test)]
mod tests;
