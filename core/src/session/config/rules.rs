//! Options that are rules of their own, and what several sessions share.

use super::{Config, Endpoint};
use crate::session::{Cooldown, Limit, Policy, SharedLimits, Watch};

impl Config {
    /// What to do after each close code and each HTTP status. Default: [`Policy::default`].
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Watches for data on the whole connection, of any topic: see [`Watch`]. Default `None`, for there are quiet markets; a topic has a watch of
    /// its own in [`SubscribeOptions`](crate::SubscribeOptions).
    pub fn data_watch(self, watch: impl Into<Option<Watch>>) -> Self {
        Self { data_watch: watch.into(), ..self }
    }

    /// A limit on what is sent, besides those of the protocol. Names must be unique.
    pub fn send_limit(mut self, limit: Limit) -> Self {
        self.send_limits.push(limit);
        self
    }

    /// Where budgets lie that belong to several sessions ([`Limit::shared`]). Give the same one to each of them; clones of a
    /// configuration have the same one anyway.
    pub fn shared_limits(self, shared: SharedLimits) -> Self {
        Self { shared_limits: shared, ..self }
    }

    /// Where sessions tell each other that a host wants to be left alone. Give the same one to each of them; clones of a configuration have the same one
    /// anyway.
    pub fn cooldown(self, cooldown: Cooldown) -> Self {
        Self { cooldown, ..self }
    }

    /// The endpoint that has its turn.
    pub(crate) fn endpoint_at(&self, turn: usize) -> Option<&Endpoint> {
        match turn % (self.fallbacks.len() + 1) {
            0 => self.endpoint.as_ref(),
            n => self.fallbacks.get(n - 1),
        }
    }
}
