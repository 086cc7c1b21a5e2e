//! By which way the bytes go: whose stream it is, and what is set on a socket.

use super::{Config, ConfigError};
use ::serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// What a session's bytes go over: [`Config::transport`]. In data `"tcp"`, `"connector"`, `"secured_connector"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP to the host of the URL: its name is resolved, its addresses are raced (RFC 8305). TLS if the URL is `wss://`.
    #[default]
    Tcp,
    /// A stream of bytes that the user's connector opens ([`Output::Open`](crate::Output::Open)): a unix socket, a pipe in memory, a
    /// tunnel. Nothing is resolved; the URL says what is asked for in the handshake, and TLS goes over the stream if it is `wss://`.
    Connector,
    /// The same, with a stream that is secured already, as by native-tls: no TLS goes over it even if the URL is `wss://`. Its
    /// connector has checked that the peer is the URL's host.
    SecuredConnector,
}

/// What a driver sets on each TCP socket before it connects: [`Config::sockets`]. A driver that cannot set one of these fails the
/// connection and says which, instead of going on without it.
///
/// ```
/// use everwire_core::{Config, Keepalive, SocketOptions};
/// use std::time::Duration;
///
/// let sockets = SocketOptions::default()
///     .local_address([192, 0, 2, 7])
///     .keepalive(Keepalive { time: Duration::from_secs(30), ..Keepalive::default() });
/// let config = Config::new("wss://example.com/ws")?.sockets(sockets);
/// # Ok::<(), everwire_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// TCP_NODELAY: what is written goes out at once, instead of waiting for the answer to what went before (RFC 896). Default
    /// `true`.
    pub nodelay: bool,
    /// TCP keepalive (RFC 9293 section 3.8.4). Default `None`: pings of WebSocket see what it sees, and dead processes too.
    pub keepalive: Option<Keepalive>,
    /// The address that connections to IPv4 addresses come from. Default `None`: the operating system's choice.
    pub local_v4: Option<Ipv4Addr>,
    /// The address that connections to IPv6 addresses come from. Default `None`: the operating system's choice.
    pub local_v6: Option<Ipv6Addr>,
    /// The network interface that all goes over, by its name: 1 to 15 bytes without white space or `/`. Default `None`: as the
    /// routes say. Linux alone has it (SO_BINDTODEVICE).
    pub interface: Option<String>,
    /// SO_SNDBUF, in bytes: 1 KiB to 1 GiB, default `None`: the operating system's choice, which mostly adapts itself.
    pub send_buffer: Option<usize>,
    /// SO_RCVBUF, in bytes: 1 KiB to 1 GiB, default `None`: the operating system's choice, which mostly adapts itself.
    pub recv_buffer: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
            local_v4: None,
            local_v6: None,
            interface: None,
            send_buffer: None,
            recv_buffer: None,
        }
    }
}

impl SocketOptions {
    /// Whether what is written goes out at once: [`nodelay`](Self#structfield.nodelay).
    pub fn nodelay(self, nodelay: bool) -> Self {
        Self { nodelay, ..self }
    }

    /// Probes of TCP's own: [`keepalive`](Self#structfield.keepalive).
    pub fn keepalive(self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        Self { keepalive: keepalive.into(), ..self }
    }

    /// The address that connections come from, one for each family. If one is set, only addresses of families that have one are
    /// connected to.
    pub fn local_address(self, address: impl Into<IpAddr>) -> Self {
        match address.into() {
            IpAddr::V4(address) => Self { local_v4: Some(address), ..self },
            IpAddr::V6(address) => Self { local_v6: Some(address), ..self },
        }
    }

    /// The network interface that all goes over: [`interface`](Self#structfield.interface).
    pub fn interface(self, name: impl Into<String>) -> Self {
        Self { interface: Some(name.into()), ..self }
    }

    /// SO_SNDBUF: [`send_buffer`](Self#structfield.send_buffer).
    pub fn send_buffer(self, bytes: impl Into<Option<usize>>) -> Self {
        Self { send_buffer: bytes.into(), ..self }
    }

    /// SO_RCVBUF: [`recv_buffer`](Self#structfield.recv_buffer).
    pub fn recv_buffer(self, bytes: impl Into<Option<usize>>) -> Self {
        Self { recv_buffer: bytes.into(), ..self }
    }

    /// What a driver binds a socket to before it connects to `peer`, with a port of the operating system's choice; `None`: nothing.
    pub fn local_for(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let local = match peer {
            SocketAddr::V4(_) => self.local_v4.map(IpAddr::V4),
            SocketAddr::V6(_) => self.local_v6.map(IpAddr::V6),
        };
        local.map(|address| SocketAddr::new(address, 0))
    }

    /// Whether `peer` may be connected to: it is of a family that has a local address, or none has.
    pub(crate) fn reaches(&self, peer: SocketAddr) -> bool {
        (self.local_v4.is_none() && self.local_v6.is_none()) || self.local_for(peer).is_some()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let Some(name) = &self.interface else { return Ok(()) };
        // IFNAMSIZ is 16, the end included. What else a name may not have: dev_valid_name() of Linux.
        let named = (1..=15).contains(&name.len()) && !matches!(name.as_str(), "." | "..");
        if named && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':')) {
            return Ok(());
        }
        let value = format!("{:?}", super::serde::shorten(name));
        let allowed = "the name of a network interface, 1 to 15 bytes, as in \"eth0\"".to_owned();
        Err(ConfigError::Range { field: "sockets.interface", value, allowed })
    }
}

/// TCP keepalive (RFC 9293 section 3.8.4): when nothing was heard for `time`, a probe every `interval`, and after `retries`
/// without an answer the connection is dead. Fractions of a second are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe: 1 s to 32,767 s (the range of Linux), default 60 s.
    pub time: Duration,
    /// Time between probes: 1 s to 32,767 s, default 10 s.
    pub interval: Duration,
    /// Probes without an answer: 1 to 127, default 6.
    pub retries: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(60), interval: Duration::from_secs(10), retries: 6 }
    }
}

impl Config {
    /// What the bytes go over. Default [`Transport::Tcp`].
    pub fn transport(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// What is set on each TCP socket. Default [`SocketOptions::default`].
    pub fn sockets(self, sockets: SocketOptions) -> Self {
        Self { sockets, ..self }
    }

    /// How long the first address of a name is waited for before the next is tried beside it (the connection attempt delay of RFC
    /// 8305 section 5), and so on: 10 ms to 2 s, default 250 ms; `None`: one after the other, each with its share of
    /// [`connect_timeout`](Self::connect_timeout).
    pub fn race_delay(self, delay: impl Into<Option<Duration>>) -> Self {
        Self { race_delay: delay.into(), ..self }
    }
}
