//! A trading venue that speaks JSON-RPC 2.0 with subscriptions, in the shape of Deribit's API.
//!
//! ```
//! use std::time::Duration;
//! use everwire_testing::venue::JsonRpcVenue;
//! use everwire_testing::{MockServer, tungstenite};
//! use serde_json::{Value, json};
//!
//! let venue = JsonRpcVenue::builder()
//!     .reject("no.such.channel")
//!     .method("public/get_time", |_params| Ok(json!(1_700_000_000_000_u64)))
//!     .build();
//! let server = MockServer::builder().venue(&venue).start();
//!
//! let (mut client, _) = tungstenite::connect(server.url())?;
//! let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "public/subscribe",
//!                        "params": {"channels": ["trades.X", "no.such.channel"]}});
//! client.send(subscribe.to_string().into())?;
//! let response: Value = serde_json::from_str(client.read()?.to_text()?)?;
//! assert_eq!(response["result"], json!(["trades.X"]));
//!
//! assert_eq!(venue.publish("trades.X", json!({"price": 42})), 1);
//! let notification: Value = serde_json::from_str(client.read()?.to_text()?)?;
//! assert_eq!(notification["method"], "subscription");
//! assert_eq!(notification["params"], json!({"channel": "trades.X", "data": {"price": 42}}));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Methods
//!
//! | method | answer |
//! | --- | --- |
//! | `public/subscribe`, `private/subscribe` | the list of channels that are subscribed now, without the rejected ones |
//! | `public/unsubscribe`, `private/unsubscribe` | the list of channels that were unsubscribed |
//! | `public/unsubscribe_all`, `private/unsubscribe_all` | `"ok"` |
//! | `public/auth` | tokens, for grant types `client_credentials` and `refresh_token` |
//! | `public/test` | `{"version": "1.2.26"}` |
//! | those added with [`method`](JsonRpcVenueBuilder::method), which come before all others | what they give |
//! | any other | error -32601 |
//!
//! Requests that are no JSON get error -32700, no JSON-RPC requests -32600, wrong parameters -32602. Requests without an
//! `id` are carried out and not answered (JSON-RPC 2.0 section 4.1). A batch is answered by a batch (section 6), except for those
//! of its requests that change subscriptions: these are answered by themselves. Where authentication is required, `private/`
//! methods without it get error 13009 and wrong credentials 13004.

mod builder;
mod rpc;
mod state;
mod ticker;

use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

pub use builder::JsonRpcVenueBuilder;

use crate::conn_state::wait_until;
use crate::{ConnHandle, WaitError};
use builder::Config;
use state::State;

/// A JSON-RPC 2.0 venue; a handler for one or several [`MockServer`](crate::MockServer)s, by
/// [`MockServerBuilder::venue`](crate::MockServerBuilder::venue).
///
/// Clones are the same venue. It knows at most 10,000 channels (more are rejected) and keeps the newest 100,000 requests.
/// Its waits belong into the test, not into a handler, which would keep the server from going on.
#[derive(Clone)]
pub struct JsonRpcVenue {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    state: Mutex<State>,
    changed: Condvar,
    /// Its end ends the ticking.
    _ticking: Option<Sender<()>>,
}

impl JsonRpcVenue {
    /// A venue that accepts every channel, needs no authentication and publishes nothing by itself.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets up another kind of venue.
    pub fn builder() -> JsonRpcVenueBuilder {
        JsonRpcVenueBuilder::default()
    }

    /// Answers one message. For a server's own handler that wants to look at messages before the venue does.
    pub fn handle(&self, conn: &ConnHandle, message: &Message) {
        rpc::handle(self, conn, message);
    }

    /// Sends a notification with `data` to every connection subscribed to `channel`, and gives their number.
    pub fn publish(&self, channel: &str, data: Value) -> usize {
        self.state().publish(channel, data)
    }

    /// Sends a notification of another method, such as `heartbeat`, to every connection that has sent a request, and
    /// gives their number.
    pub fn notify_all(&self, method: &str, params: Value) -> usize {
        self.state().notify_all(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string())
    }

    /// From now on rejects a channel, or accepts it again. Subscriptions that exist stay.
    pub fn set_rejected(&self, channel: &str, rejected: bool) {
        set(&mut self.state().rejected, channel, rejected);
    }

    /// From now on leaves requests that subscribe to this channel unanswered and does not subscribe, or does again.
    pub fn set_never_ack(&self, channel: &str, never: bool) {
        set(&mut self.state().never_ack, channel, never);
    }

    /// From now on leaves a channel out of the ticking, as if its source had died, or takes it in again. Its sequence
    /// number stands still meanwhile.
    pub fn set_muted(&self, channel: &str, muted: bool) {
        set(&mut self.state().muted, channel, muted);
    }

    /// The sequence number of the channel's last tick; 0 before the first.
    pub fn sequence(&self, channel: &str) -> u64 {
        self.state().channels.get(channel).copied().unwrap_or(0)
    }

    /// Number of open connections subscribed to the channel.
    pub fn subscribers(&self, channel: &str) -> usize {
        self.state().subscribers(channel)
    }

    /// The channels this connection is subscribed to, sorted; none after its end.
    pub fn subscriptions(&self, conn: &ConnHandle) -> Vec<String> {
        self.state().subscriptions(conn)
    }

    /// Waits until `count` open connections or more are subscribed to the channel. They have been sent the
    /// acknowledgement by then.
    ///
    /// # Errors
    /// Not within `timeout`.
    pub fn wait_subscribers(&self, channel: &str, count: usize, timeout: Duration) -> Result<(), WaitError> {
        self.wait(
            || format!("{count} subscribers of {channel:?}"),
            timeout,
            |state| (state.subscribers(channel) >= count).then_some(()),
        )
    }

    /// Waits until the channel has ticked up to this sequence number.
    ///
    /// # Errors
    /// Not within `timeout`.
    pub fn wait_sequence(&self, channel: &str, sequence: u64, timeout: Duration) -> Result<(), WaitError> {
        self.wait(
            || format!("tick number {sequence} of {channel:?}"),
            timeout,
            |state| (state.channels.get(channel) >= Some(&sequence)).then_some(()),
        )
    }

    /// All valid requests of one connection, oldest first, whole.
    pub fn requests(&self, conn: &ConnHandle) -> Vec<Value> {
        self.state()
            .requests
            .iter()
            .filter(|(id, _)| *id == conn.id())
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// All valid requests of all connections, oldest first, whole, each with its [`ConnHandle::id`].
    pub fn all_requests(&self) -> Vec<(u64, Value)> {
        self.state().requests.iter().cloned().collect()
    }

    /// The methods of [`requests`](Self::requests) alone.
    pub fn methods(&self, conn: &ConnHandle) -> Vec<String> {
        let method = |request: &Value| request["method"].as_str().map(str::to_owned);
        self.requests(conn).iter().filter_map(method).collect()
    }

    fn wait(
        &self,
        waited_for: impl Fn() -> String,
        timeout: Duration,
        ready: impl FnMut(&mut State) -> Option<()>,
    ) -> Result<(), WaitError> {
        let deadline = Instant::now().checked_add(timeout);
        wait_until(&self.inner.state, &self.inner.changed, deadline, ready).ok_or_else(|| {
            let methods: Vec<String> =
                self.state().requests.iter().map(|(_, request)| summary(request)).collect();
            let shown = methods.len().saturating_sub(10);
            let arrived = format!("the last requests were [{}]", methods[shown..].join(", "));
            WaitError::TimedOut { waited_for: waited_for(), timeout, arrived }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.inner.changed.notify_all();
        result
    }
}

impl Default for JsonRpcVenue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for JsonRpcVenue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonRpcVenue").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

fn set(channels: &mut std::collections::BTreeSet<String>, channel: &str, present: bool) {
    if present {
        channels.insert(channel.to_owned());
    } else {
        channels.remove(channel);
    }
}

/// A request's method, and its channels if it has any. Not its other parameters, which may be credentials.
fn summary(request: &Value) -> String {
    let method = request["method"].as_str().unwrap_or_default();
    match request["params"].get("channels") {
        Some(channels) => format!("{method} {channels}"),
        None => method.to_owned(),
    }
}
