//! Many options at once, for what a session is for.

use super::Config;
use crate::ws::deflate::DeflateConfig;
use ::serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a session is for: [`Config::profile`]. In data, `"profile": "financial"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Profile {
    /// [`Config::financial`].
    Financial,
    /// [`Config::standard`].
    Standard,
    /// [`Config::lightweight`].
    Lightweight,
    /// [`Config::chat`].
    Chat,
}

impl Config {
    /// Sets every option to what this profile has, except where to connect, by which way, and what to say there: URLs, headers,
    /// subprotocols, transport, sockets, protocol and TLS stay. So it comes before the options that differ from it.
    pub fn profile(self, profile: Profile) -> Self {
        match profile {
            Profile::Financial => self.financial(),
            Profile::Standard => self.standard(),
            Profile::Lightweight => self.lightweight(),
            Profile::Chat => self.chat(),
        }
    }

    /// For market data and orders: a dead connection is noticed within ten seconds, and replaced at once. It costs a ping in five
    /// seconds. It comes before the options that differ from it, see [`profile`](Self::profile).
    ///
    /// | option | value | why |
    /// | --- | --- | --- |
    /// | `connect_timeout` | `5s` | another address, or the next attempt, is the better bet |
    /// | `handshake_timeout` | `5s` | the same |
    /// | `request_timeout` | `5s` | an order without an answer must be looked into, not waited for |
    /// | `write_timeout` | `5s` | a peer that takes nothing for so long will not execute in time |
    /// | `close_timeout` | `2s` | nothing is gained by a polite end |
    /// | `ping_interval` | `5s` | silence is told from a quiet market within ten seconds |
    /// | `pong_timeout` | `5s` | the same |
    /// | `heartbeat_timeout` | `5s` | the same |
    /// | `backoff.initial` | `100ms` | most losses are over at once |
    /// | `backoff.max` | `10s` | an outage's end is noticed soon; the flap budget spares the venue |
    /// | `resubscribe_backoff.initial` | `500ms` | a topic that is missing is a blind spot |
    /// | `resubscribe_backoff.max` | `10s` | the same |
    /// | `fragment_size` | `16KiB` | an answer to a heartbeat never waits behind a long message |
    /// | `deflate` | `null` | for small messages it costs more time than it saves |
    /// | `queue_timeout` | `5s` | an order that is late is worse than none |
    /// | `latency_buffer` | `4096` | percentiles over some hours of pings |
    pub fn financial(self) -> Self {
        self.standard()
            .connect_timeout(Duration::from_secs(5))
            .handshake_timeout(Duration::from_secs(5))
            .request_timeout(Duration::from_secs(5))
            .write_timeout(Duration::from_secs(5))
            .close_timeout(Duration::from_secs(2))
            .ping_interval(Duration::from_secs(5))
            .pong_timeout(Duration::from_secs(5))
            .heartbeat_timeout(Duration::from_secs(5))
            .backoff(Duration::from_millis(100), Duration::from_secs(10))
            .resubscribe_backoff(Duration::from_millis(500), Duration::from_secs(10))
            .fragment_size(16 << 10)
            .deflate(None)
            .queue_timeout(Duration::from_secs(5))
            .latency_buffer(4096)
    }

    /// The defaults, for a client that lives for months and of which nothing more is known. What the other profiles change is, here:
    ///
    /// | option | value | why |
    /// | --- | --- | --- |
    /// | `connect_timeout` | `10s` | two lost packets on a slow way are no failure |
    /// | `handshake_timeout` | `10s` | the same |
    /// | `request_timeout` | `30s` | what other clients have |
    /// | `write_timeout` | `30s` | a peer may be busy, but not for so long |
    /// | `close_timeout` | `5s` | time for what is under way |
    /// | `ping_interval` | `20s` | shorter than the patience of proxies and home routers |
    /// | `pong_timeout` | `10s` | a lost connection is noticed in half a minute |
    /// | `heartbeat_timeout` | `10s` | the same |
    /// | `backoff.initial` | `500ms` | soon, and yet spread out over the clients of a server |
    /// | `backoff.max` | `30s` | a server that comes back is not stormed |
    /// | `resubscribe_backoff.initial` | `1s` | as a person would try again |
    /// | `resubscribe_backoff.max` | `1m` | the same |
    /// | `recv_buffer` | `16KiB` | fits a processor's first cache |
    /// | `send_buffer` | `4MiB` | seconds of a busy sender |
    /// | `fragment_size` | `1MiB` | few messages are cut |
    /// | `limits.max_frame` | `16MiB` | large snapshots fit |
    /// | `limits.max_message` | `64MiB` | the same |
    /// | `deflate` | `null` | for small messages it costs more time than it saves |
    /// | `max_requests` | `1000000` | no bound in practice |
    /// | `queue.messages` | `1024` | a burst |
    /// | `queue.bytes` | `1MiB` | the same |
    /// | `queue_timeout` | `30s` | as long as a request may take |
    /// | `latency_buffer` | `1024` | a stable 99th percentile |
    /// | `event_buffer` | `1024` | a user that is busy for a moment delays nothing |
    pub fn standard(self) -> Self {
        let mut config = Self {
            endpoint: self.endpoint,
            fallbacks: self.fallbacks,
            transport: self.transport,
            sockets: self.sockets,
            protocol: self.protocol,
            #[cfg(feature = "tls")]
            tls: self.tls,
            ..Self::provided()
        };
        config.handshake.headers = self.handshake.headers;
        config.handshake.subprotocols = self.handshake.subprotocols;
        config
    }

    /// For thousands of mostly idle connections in one process: little memory for each, few packets, slow to come back so that they do
    /// not come all at once. It comes before the options that differ from it, see [`profile`](Self::profile).
    ///
    /// | option | value | why |
    /// | --- | --- | --- |
    /// | `ping_interval` | `1m` | a third of the packets; still within the patience of most proxies |
    /// | `pong_timeout` | `20s` | a radio that sleeps needs a while to answer |
    /// | `backoff.initial` | `1s` | many clients come back spread out |
    /// | `backoff.max` | `1m` | the same |
    /// | `recv_buffer` | `4KiB` | the least there is; it grows for a long frame and shrinks again |
    /// | `send_buffer` | `64KiB` | what waits is memory, times the number of connections |
    /// | `fragment_size` | `16KiB` | a pong gets between on a slow line |
    /// | `limits.max_frame` | `1MiB` | what a peer can make us hold |
    /// | `limits.max_message` | `4MiB` | the same |
    /// | `max_requests` | `1024` | the same |
    /// | `queue.messages` | `64` | the same |
    /// | `queue.bytes` | `64KiB` | the same |
    /// | `latency_buffer` | `64` | enough for a median |
    /// | `event_buffer` | `64` | what waits is memory |
    pub fn lightweight(self) -> Self {
        let mut config = self
            .standard()
            .ping_interval(Duration::from_secs(60))
            .pong_timeout(Duration::from_secs(20))
            .backoff(Duration::from_secs(1), Duration::from_secs(60))
            .recv_buffer(4 << 10)
            .send_buffer(64 << 10)
            .fragment_size(16 << 10)
            .max_requests(1024)
            .queue(64, 64 << 10)
            .latency_buffer(64)
            .event_buffer(64);
        (config.limits.max_frame, config.limits.max_message) = (1 << 20, 4 << 20);
        config
    }

    /// For chat and collaboration, between people: text that compresses well, attachments, phones on bad networks, servers with many
    /// clients. It comes before the options that differ from it, see [`profile`](Self::profile).
    ///
    /// | option | value | why |
    /// | --- | --- | --- |
    /// | `request_timeout` | `30s` | a phone may be in a tunnel |
    /// | `ping_interval` | `30s` | spares batteries; still within the patience of proxies |
    /// | `pong_timeout` | `15s` | a bad network is slow before it is gone |
    /// | `backoff.max` | `1m` | all clients of a server that restarts come back, spread out |
    /// | `limits.max_frame` | `64MiB` | attachments |
    /// | `limits.max_message` | `256MiB` | the same |
    /// | `deflate` | `{}` | text shrinks to a fraction; the settings are `DeflateConfig::default()` |
    pub fn chat(self) -> Self {
        let mut config = self
            .standard()
            .request_timeout(Duration::from_secs(30))
            .ping_interval(Duration::from_secs(30))
            .pong_timeout(Duration::from_secs(15))
            .backoff(Duration::from_millis(500), Duration::from_secs(60))
            .deflate(DeflateConfig::default());
        (config.limits.max_frame, config.limits.max_message) = (64 << 20, 256 << 20);
        config
    }
}
