//! The driver of a simulated session: what a real one does, and a watch on what the session promises.

use super::driver::{Lookup, Waits};
use super::link::{Conn, Stage};
use super::log::{Fault, Log, Step};
use super::pipe::stream;
use super::{Action, Net, Server, User, since_start, start};
use everwire_core::{Config, ConfigError, Endpoint, Epoch, ProviderError, Session};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::fmt;
use std::time::Duration;

/// Events, calls of a user, or rounds between client and server at one moment, after which it is taken to go on forever.
pub(super) const MANY: u32 = 1_000_000;
/// Virtual time ends there, so that no sum overflows: a hundred years.
const MAX_TIME: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Streams of the generator: connections have the ones between.
const SESSION_STREAM: u64 = 0;
const LOOKUP_STREAM: u64 = u64::MAX;

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The session is closed.
    Closed,
    /// The time was over.
    Limit,
    /// The session broke a promise of its interface, or the server or user found something wrong. The text says what.
    Violation(String),
}

/// What happened in a run, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// TCP connections that opened.
    pub connections: u64,
    /// Times that the session came online, the first excepted.
    pub reconnects: u64,
    /// Bytes that reached either side.
    pub bytes: u64,
    /// Moments of virtual time at which something happened.
    pub steps: u64,
}

/// A session, its server and its user, in virtual time.
///
/// ```
/// use everwire_core::{Config, OwnedEvent, Session};
/// use everwire_testing::sim::{Accept, Action, Ended, Net, Outcome, Server, Simulation, User};
/// use std::net::SocketAddr;
/// use std::time::Duration;
///
/// /// Nobody at home.
/// #[derive(Debug)]
/// struct Nobody;
///
/// impl Server for Nobody {
///     fn accept(&mut self, _: u64, _: SocketAddr, _: Duration) -> Accept {
///         Accept::Refuse
///     }
///     fn received(&mut self, _: u64, _: &[u8], _: Duration) {}
///     fn closed(&mut self, _: u64, _: Ended, _: Duration) {}
///     fn deadline(&self) -> Option<Duration> {
///         None
///     }
///     fn run(&mut self, _: Duration) {}
///     fn output(&mut self) -> Option<(u64, Action)> {
///         None
///     }
/// }
///
/// #[derive(Debug, Default)]
/// struct Counts(u32);
///
/// impl User for Counts {
///     fn event(&mut self, event: &OwnedEvent, _: &mut Session, _: Duration) {
///         self.0 += u32::from(matches!(event, OwnedEvent::AttemptFailed { .. }));
///     }
///     fn deadline(&self) -> Option<Duration> {
///         None
///     }
///     fn act(&mut self, _: &mut Session, _: Duration) {}
/// }
///
/// let config = Config::new("ws://192.0.2.1/feed")?.max_attempts(10);
/// let mut simulation = Simulation::new(config, 1, Net::lossy(), Nobody, Counts::default())?;
/// let outcome = simulation.run_until(Duration::from_secs(3600));
/// assert_eq!(outcome, Outcome::Closed, "{}", simulation.log());
/// assert_eq!(simulation.user().0, 10);
/// # Ok::<(), everwire_core::ConfigError>(())
/// ```
pub struct Simulation<S: Server, U: User> {
    pub(super) session: Session,
    pub(super) server: S,
    pub(super) user: U,
    pub(super) net: Net,
    pub(super) seed: u64,
    pub(super) now: Duration,
    /// Those that anybody still has, by their ids.
    pub(super) conns: Vec<Conn>,
    pub(super) lookups: Vec<(Duration, Lookup)>,
    pub(super) lookup_rng: ChaCha8Rng,
    pub(super) provider: Option<Provider>,
    /// When the client's process falls asleep, and for how long.
    pub(super) sleeps: Vec<(Duration, Duration)>,
    /// It sleeps until then.
    asleep: Option<Duration>,
    /// What the session waits for; `None` before it is polled.
    pub(super) waits: Option<Waits>,
    pub(super) last_conn: Option<u64>,
    pub(super) last_epoch: Epoch,
    pub(super) end: Option<Outcome>,
    pub(super) stats: Stats,
    pub(super) log: Log,
}

type Provider = Box<dyn FnMut(Duration) -> Result<Endpoint, ProviderError>>;

impl<S: Server, U: User> Simulation<S, U> {
    /// A simulation at time zero. TLS is not simulated: over a `wss://` URL the server is given what the client encrypted, and may answer what
    /// makes the attempt fail.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that cannot work.
    pub fn new(config: Config, seed: u64, net: Net, server: S, user: U) -> Result<Self, ConfigError> {
        let mut bytes = [0; 32];
        stream(seed, SESSION_STREAM).fill_bytes(&mut bytes);
        Ok(Self {
            session: Session::new(config, start(), bytes)?,
            server,
            user,
            net,
            seed,
            now: Duration::ZERO,
            conns: Vec::new(),
            lookups: Vec::new(),
            lookup_rng: stream(seed, LOOKUP_STREAM),
            provider: None,
            sleeps: Vec::new(),
            asleep: None,
            waits: None,
            last_conn: None,
            last_epoch: Epoch::default(),
            end: None,
            stats: Stats::default(),
            log: Log::new(seed),
        })
    }

    /// Answers `Output::Provide`, for a config made by [`Config::provided`]; its argument is virtual time. Without one every such
    /// attempt fails.
    pub fn provider(
        self,
        provider: impl FnMut(Duration) -> Result<Endpoint, ProviderError> + 'static,
    ) -> Self {
        Self { provider: Some(Box::new(provider)), ..self }
    }

    /// Runs until the session is closed, something is wrong, or virtual time is `limit` (of at most a hundred years). It may be called
    /// again, with a later limit.
    pub fn run_until(&mut self, limit: Duration) -> Outcome {
        let limit = limit.min(MAX_TIME);
        let mut standing = 0;
        while self.end.is_none() {
            self.stats.steps += 1;
            if let Err(wrong) = self.moment() {
                self.end = Some(Outcome::Violation(format!("at {:.6} s: {wrong}", self.now.as_secs_f64())));
                break;
            }
            let next = self.next().filter(|next| *next <= limit);
            match next {
                _ if self.end.is_some() => {}
                Some(next) => {
                    standing = if next > self.now { 0 } else { standing + 1 };
                    if standing > MANY {
                        let wrong = format!("at {:.6} s: time stands still", self.now.as_secs_f64());
                        self.end = Some(Outcome::Violation(wrong));
                    }
                    self.now = next.max(self.now);
                }
                None => {
                    self.now = limit.max(self.now);
                    return Outcome::Limit;
                }
            }
        }
        self.end.clone().unwrap_or(Outcome::Limit)
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, for calls between two runs.
    pub fn session_mut(&mut self) -> &mut Session {
        // It may have something new to say.
        self.waits = None;
        &mut self.session
    }

    /// The server.
    pub fn server(&self) -> &S {
        &self.server
    }

    /// The server, to change it between two runs.
    pub fn server_mut(&mut self) -> &mut S {
        &mut self.server
    }

    /// The user.
    pub fn user(&self) -> &U {
        &self.user
    }

    /// The user, to change it between two runs.
    pub fn user_mut(&mut self) -> &mut U {
        &mut self.user
    }

    /// Virtual time: since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What happened last: print it when a run fails.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Everything that happens now.
    fn moment(&mut self) -> Result<(), String> {
        self.fall_asleep();
        for _ in 0..MANY {
            let mut moved = self.serve();
            if self.asleep.is_none() && self.end.is_none() {
                moved |= self.drive()?;
            }
            if let Some(wrong) = self.server.violation().or_else(|| self.user.violation()) {
                return Err(wrong);
            }
            self.conns.retain(Conn::is_alive);
            if !moved {
                return Ok(());
            }
        }
        Err("client and server go on forever without any time passing: is a deadline not moved on?".into())
    }

    /// The next moment at which anything happens.
    fn next(&self) -> Option<Duration> {
        let (server, now) = (&self.server, self.now);
        let read = |conn: &Conn| conn.server_next().filter(|_| server.reads(conn.number(), now));
        let ends = self.conns.iter().filter_map(Conn::expires);
        let mut next = self.conns.iter().filter_map(read).chain(ends).chain(server.deadline()).min();
        let mut at = |time: Option<Duration>| next = next.into_iter().chain(time).min();
        if self.asleep.is_some() || self.end.is_some() {
            at(self.asleep);
            return next;
        }
        at(match self.waits {
            None => Some(now),
            Some(Waits::Until(until)) => until,
            Some(Waits::Event) => self.session.timeout().map(since_start),
        });
        at(self.user.deadline());
        at(self.lookups.iter().map(|(due, _)| *due).min());
        at(self.sleeps.iter().map(|(start, _)| *start).min());
        for conn in &self.conns {
            at(conn.client_next());
            // Whether there is anything to be written is not looked at: the pause is over soon enough.
            at(conn.paused(now));
        }
        next
    }

    fn fall_asleep(&mut self) {
        let now = self.now;
        if self.asleep.take_if(|end| *end <= now).is_some() {
            self.log.note(now, Step::Awake);
        }
        while let Some(due) = self.sleeps.iter().position(|(start, _)| *start <= now) {
            let end = self.net.faults.end(now, self.sleeps.swap_remove(due).1);
            self.log.fault(now, None, Fault::Suspend, Some(end));
            self.asleep = self.asleep.max(Some(end));
        }
    }

    // ---- The server's side.

    /// Lets the server deal with what is there; whether anything was.
    fn serve(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for conn in &mut self.conns {
            let id = conn.number();
            moved |= conn.expire(&self.net, now, &mut self.log);
            if let Stage::Asked(at) = conn.stage
                && at <= now
                && conn.client
            {
                let answer = conn.intercept(now, &mut self.log);
                let answer = answer.unwrap_or_else(|| self.server.accept(id, conn.addr, now));
                self.log.note(now, Step::Accept(id, answer));
                conn.answer(answer, &self.net, now, &mut self.log);
                moved = true;
            }
            while conn.server && self.server.reads(id, now) {
                match conn.arrived(&self.net, now) {
                    Ok([]) => break,
                    Ok(bytes) => {
                        let len = bytes.len();
                        self.stats.bytes += len as u64;
                        self.log.note(now, Step::Arrived(id, len));
                        self.server.received(id, bytes, now);
                        conn.delivered(len);
                    }
                    Err(how) => {
                        conn.server = false;
                        self.log.note(now, Step::ServerTold(id, how));
                        self.server.closed(id, how, now);
                    }
                }
                moved = true;
            }
        }
        if self.server.deadline().is_some_and(|due| due <= now) {
            self.log.note(now, Step::Run);
            self.server.run(now);
            moved = true;
        }
        while let Some((id, action)) = self.server.output() {
            moved = true;
            let Some(conn) = self.conns.iter_mut().find(|conn| conn.number() == id && conn.server) else {
                continue;
            };
            match action {
                Action::Send(bytes) => {
                    self.log.note(now, Step::Sent(id, bytes.len()));
                    conn.send(&bytes, &self.net, now, &mut self.log);
                }
                Action::Fin => {
                    self.log.note(now, Step::ServerFin(id));
                    conn.finish(&self.net, now, &mut self.log);
                }
                Action::Reset => {
                    self.log.note(now, Step::ServerReset(id));
                    conn.reset(&self.net, now, &mut self.log);
                }
            }
        }
        moved
    }
}

impl<S: Server, U: User> fmt::Debug for Simulation<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .field("now", &self.now)
            .field("session", &self.session)
            .field("server", &self.server)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
