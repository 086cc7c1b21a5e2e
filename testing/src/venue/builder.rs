//! Setting up a venue.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;

use super::state::State;
use super::{Inner, JsonRpcVenue, ticker};

/// A method: from the request's parameters (`null` if it has none) to the result or the error's code and message.
pub(super) type Method = Box<dyn Fn(&Value) -> Result<Value, (i64, String)> + Send + Sync>;
/// From a channel and a sequence number to the notification's data.
pub(super) type TickData = Box<dyn Fn(&str, u64) -> Value + Send + Sync>;

/// What never changes after the start.
#[derive(Default)]
pub(super) struct Config {
    pub(super) tick_every: Option<Duration>,
    pub(super) tick_data: Option<TickData>,
    pub(super) ack_delay: Option<Duration>,
    pub(super) credentials: Option<(String, String)>,
    pub(super) methods: BTreeMap<String, Method>,
}

/// What a [`JsonRpcVenue`] is to be; from [`JsonRpcVenue::builder`].
#[derive(Default)]
#[must_use = "nothing happens before `build`"]
pub struct JsonRpcVenueBuilder {
    config: Config,
    rejected: BTreeSet<String>,
    never_ack: BTreeSet<String>,
}

impl JsonRpcVenueBuilder {
    /// Publishes on every channel at this interval (at least 1 ms): `{"seq": n, "timestamp": ms}`.
    ///
    /// The sequence number of a channel starts with 1 at the first tick after its first subscription and goes on counting
    /// from then on, over all connections and also while nobody is subscribed: a client that was away misses ticks, and
    /// can see that it did.
    pub fn tick_every(mut self, interval: Duration) -> Self {
        self.config.tick_every = Some(interval.max(Duration::from_millis(1)));
        self
    }

    /// Makes the data of a tick out of channel and sequence number. Must not call the venue.
    pub fn tick_data(mut self, data: impl Fn(&str, u64) -> Value + Send + Sync + 'static) -> Self {
        self.config.tick_data = Some(Box::new(data));
        self
    }

    /// Rejects a channel: it is missing in the result of a subscribe request.
    pub fn reject(mut self, channel: impl Into<String>) -> Self {
        self.rejected.insert(channel.into());
        self
    }

    /// Leaves subscribe requests with this channel unanswered and does not subscribe to any of their channels.
    pub fn never_ack(mut self, channel: impl Into<String>) -> Self {
        self.never_ack.insert(channel.into());
        self
    }

    /// Takes this long to carry out and answer subscribe and unsubscribe requests.
    pub fn ack_delay(mut self, delay: Duration) -> Self {
        self.config.ack_delay = Some(delay);
        self
    }

    /// Demands `public/auth` with these credentials before `private/` methods. Without it any credentials will do, and
    /// none.
    pub fn require_auth(mut self, client_id: impl Into<String>, client_secret: impl Into<String>) -> Self {
        self.config.credentials = Some((client_id.into(), client_secret.into()));
        self
    }

    /// Adds a method, or replaces one that is there. It gives the result, or the error's code and message.
    pub fn method(
        mut self,
        name: impl Into<String>,
        method: impl Fn(&Value) -> Result<Value, (i64, String)> + Send + Sync + 'static,
    ) -> Self {
        self.config.methods.insert(name.into(), Box::new(method));
        self
    }

    /// The venue.
    ///
    /// # Panics
    /// If it is to tick and the operating system cannot start a thread for that.
    pub fn build(self) -> JsonRpcVenue {
        let state = State::new(self.rejected, self.never_ack);
        let tick_every = self.config.tick_every;
        let (ticking, alive) = mpsc::channel();
        let inner = Arc::new(Inner {
            config: self.config,
            state: Mutex::new(state),
            changed: Condvar::new(),
            _ticking: tick_every.is_some().then_some(ticking),
        });
        if let Some(interval) = tick_every {
            ticker::start(&inner, interval, alive);
        }
        JsonRpcVenue { inner }
    }
}

impl fmt::Debug for JsonRpcVenueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonRpcVenueBuilder")
            .field("config", &self.config)
            .field("rejected", &self.rejected)
            .field("never_ack", &self.never_ack)
            .finish()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the credentials.
        f.debug_struct("Config")
            .field("tick_every", &self.tick_every)
            .field("ack_delay", &self.ack_delay)
            .field("require_auth", &self.credentials.is_some())
            .field("methods", &self.methods.keys())
            .finish_non_exhaustive()
    }
}
