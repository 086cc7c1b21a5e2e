//! Who is subscribed to what, and what has been said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};
use tungstenite::Utf8Bytes;

use crate::ConnHandle;

/// The most channels a venue knows.
const CHANNELS: usize = 10_000;
/// The newest requests that are kept.
const REQUESTS: usize = 100_000;
/// The newest refresh tokens that are valid.
const TOKENS: usize = 1_000;

#[derive(Default)]
pub(super) struct State {
    pub(super) rejected: BTreeSet<String>,
    pub(super) never_ack: BTreeSet<String>,
    pub(super) muted: BTreeSet<String>,
    /// Every channel that was ever subscribed, with its last sequence number.
    pub(super) channels: BTreeMap<String, u64>,
    pub(super) requests: VecDeque<(u64, Value)>,
    /// Open connections by id. Those that have ended leave at the next opportunity.
    clients: BTreeMap<u64, Client>,
    refresh_tokens: VecDeque<String>,
    issued: u64,
}

struct Client {
    conn: ConnHandle,
    channels: BTreeSet<String>,
    authenticated: bool,
}

impl State {
    pub(super) fn new(rejected: BTreeSet<String>, never_ack: BTreeSet<String>) -> Self {
        Self { rejected, never_ack, ..Self::default() }
    }

    pub(super) fn log(&mut self, conn: &ConnHandle, request: Value) {
        if self.requests.len() == REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back((conn.id(), request));
        if !self.clients.contains_key(&conn.id()) {
            self.forget_ended();
            self.client(conn);
        }
    }

    /// Subscribes to the channels that are not rejected, and gives them.
    pub(super) fn subscribe(&mut self, conn: &ConnHandle, channels: Vec<String>) -> Vec<String> {
        let mut accepted = Vec::new();
        for channel in channels {
            let known = self.channels.contains_key(&channel);
            if self.rejected.contains(&channel) || (!known && self.channels.len() == CHANNELS) {
                continue;
            }
            self.channels.entry(channel.clone()).or_insert(0);
            self.client(conn).channels.insert(channel.clone());
            accepted.push(channel);
        }
        accepted
    }

    /// Unsubscribes from those of the channels that are subscribed, and gives them.
    pub(super) fn unsubscribe(&mut self, conn: &ConnHandle, channels: Vec<String>) -> Vec<String> {
        let client = self.client(conn);
        channels.into_iter().filter(|channel| client.channels.remove(channel)).collect()
    }

    pub(super) fn unsubscribe_all(&mut self, conn: &ConnHandle) {
        self.client(conn).channels.clear();
    }

    pub(super) fn leaves_unanswered(&self, channels: &[String]) -> bool {
        channels.iter().any(|channel| self.never_ack.contains(channel))
    }

    pub(super) fn authenticate(&mut self, conn: &ConnHandle) {
        self.client(conn).authenticated = true;
    }

    pub(super) fn is_authenticated(&self, conn: &ConnHandle) -> bool {
        self.clients.get(&conn.id()).is_some_and(|client| client.authenticated)
    }

    pub(super) fn issue_tokens(&mut self) -> (String, String) {
        self.issued += 1;
        let refresh = format!("mock-refresh-{}", self.issued);
        if self.refresh_tokens.len() == TOKENS {
            self.refresh_tokens.pop_front();
        }
        self.refresh_tokens.push_back(refresh.clone());
        (format!("mock-access-{}", self.issued), refresh)
    }

    pub(super) fn is_refresh_token(&self, token: &str) -> bool {
        self.refresh_tokens.iter().any(|issued| issued == token)
    }

    pub(super) fn publish(&mut self, channel: &str, data: Value) -> usize {
        self.forget_ended();
        let params = json!({"channel": channel, "data": data});
        let text = json!({"jsonrpc": "2.0", "method": "subscription", "params": params}).to_string();
        send(self.clients.values().filter(|client| client.channels.contains(channel)), &text)
    }

    pub(super) fn notify_all(&mut self, text: &str) -> usize {
        self.forget_ended();
        send(self.clients.values(), text)
    }

    /// One tick of every channel that is not muted.
    pub(super) fn tick(&mut self, data: impl Fn(&str, u64) -> Value) {
        let mut channels = std::mem::take(&mut self.channels);
        for (channel, sequence) in &mut channels {
            if !self.muted.contains(channel) {
                *sequence += 1;
                self.publish(channel, data(channel, *sequence));
            }
        }
        self.channels = channels;
    }

    pub(super) fn subscribers(&self, channel: &str) -> usize {
        self.clients
            .values()
            .filter(|client| client.conn.is_open() && client.channels.contains(channel))
            .count()
    }

    pub(super) fn subscriptions(&self, conn: &ConnHandle) -> Vec<String> {
        match self.clients.get(&conn.id()) {
            Some(client) if conn.is_open() => client.channels.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    fn client(&mut self, conn: &ConnHandle) -> &mut Client {
        self.clients.entry(conn.id()).or_insert_with(|| Client {
            conn: conn.clone(),
            channels: BTreeSet::new(),
            authenticated: false,
        })
    }

    fn forget_ended(&mut self) {
        self.clients.retain(|_, client| client.conn.is_open());
    }
}

fn send<'a>(clients: impl Iterator<Item = &'a Client>, text: &str) -> usize {
    // Made once, shared by all.
    let text = Utf8Bytes::from(text);
    clients.map(|client| client.conn.send_text(text.clone())).count()
}
