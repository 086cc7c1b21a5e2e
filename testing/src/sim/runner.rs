//! The driver of a simulated session.

use super::{Net, Server, User};
use everwire_core::{Config, ConfigError, Endpoint, ProviderError, Session};
use std::fmt;
use std::time::Duration;

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
    /// Faults that came.
    pub faults: u64,
}

/// The last 200 steps of a run.
#[derive(Debug, Default)]
pub struct Log {}

impl fmt::Display for Log {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// A session, its server and its user, in virtual time.
#[derive(Debug)]
pub struct Simulation<S: Server, U: User> {
    server: S,
    user: U,
    net: Net,
    log: Log,
}

impl<S: Server, U: User> Simulation<S, U> {
    /// A simulation at time zero.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that cannot work.
    pub fn new(config: Config, seed: u64, net: Net, server: S, user: U) -> Result<Self, ConfigError> {
        let _ = (config, seed);
        Ok(Self { server, user, net, log: Log::default() })
    }

    /// Answers `Output::Provide` for a config made by [`Config::provided`]. Without one every such attempt fails. Virtual time is its argument.
    pub fn provider(
        self,
        provider: impl FnMut(Duration) -> Result<Endpoint, ProviderError> + 'static,
    ) -> Self {
        let _ = provider;
        self
    }

    /// Runs until the session is closed, something is wrong, or virtual time is `limit`; may be called again with a later limit.
    pub fn run_until(&mut self, limit: Duration) -> Outcome {
        let _ = (limit, &self.net);
        unimplemented!("the interface comes first")
    }

    /// The session.
    pub fn session(&self) -> &Session {
        unimplemented!("the interface comes first")
    }

    /// The session, for calls between two runs.
    pub fn session_mut(&mut self) -> &mut Session {
        unimplemented!("the interface comes first")
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
        Duration::ZERO
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// What happened last: print it when a run fails.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A hash of all that happened: the same for the same seed.
    pub fn digest(&self) -> u64 {
        0
    }
}
