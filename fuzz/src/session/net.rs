//! What the driver and the network do.

use super::peer::Read;
use super::setup::SECRET;
use super::world::World;
use everwire_core::{Disconnect, Endpoint, ProviderError, Refresh, ResolveError};
use std::net::SocketAddr;
use std::time::Duration;

impl World {
    pub(super) fn with_newest(&mut self, then: impl FnOnce(&mut Self, usize)) {
        if let Some(index) = self.sockets.len().checked_sub(1) {
            then(self, index);
        }
    }

    /// Any socket that there ever was, the newest first.
    pub(super) fn with_socket(&mut self, arg: u8, then: impl FnOnce(&mut Self, usize)) {
        if !self.sockets.is_empty() {
            let back = usize::from(arg & 7) % self.sockets.len();
            then(self, self.sockets.len() - 1 - back);
        }
    }

    pub(super) fn connected(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        // News of what the session has dropped already come late, not twice.
        if socket.alive {
            socket.connected = true;
        }
        self.session.handle_connected(socket.id, self.now);
    }

    pub(super) fn disconnected(&mut self, index: usize, how: u8) {
        let socket = &mut self.sockets[index];
        let cause = if how & 8 != 0 {
            Disconnect::Eof
        } else {
            Disconnect::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
        };
        self.session.handle_disconnected(socket.id, cause, self.now);
        socket.alive = false;
    }

    pub(super) fn resolved(&mut self, arg: u8) {
        let Some(&id) = self.resolves.iter().nth_back(usize::from(arg >> 5)) else { return };
        let addr = |n: u8| match n % 3 {
            2 => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, u16::from(n)], 80)),
            _ => SocketAddr::from(([127, 0, 0, n], 80)),
        };
        let addrs: Vec<SocketAddr> = (0..arg % 8).map(addr).collect();
        let result = match arg & 16 {
            0 => Ok(&*addrs),
            _ => Err(ResolveError { message: "no such name".into() }),
        };
        self.session.handle_resolved(id, result, self.now);
    }

    /// The provider answers as it should.
    pub(super) fn provided_well(&mut self, short: bool) {
        if let Some(&id) = self.provides.last() {
            self.session.handle_endpoint(id, Ok(self.setup.manner.endpoint(short)), self.now);
        }
    }

    pub(super) fn provided(&mut self, arg: u8) {
        let Some(&id) = self.provides.iter().nth_back(usize::from(arg >> 5)) else { return };
        let url = ["ws://127.0.0.1:9/a", "ws://example.test/b", "wss://127.0.0.1/c"][usize::from(arg % 3)];
        let endpoint = Endpoint::new(url).expect("a fixed URL");
        let token = format!("Bearer {SECRET}");
        let result = match arg >> 2 & 3 {
            0 => Ok(endpoint),
            1 => {
                let endpoint = endpoint.header("Authorization", &token).expect("a fixed header");
                let refresh =
                    [Refresh::Auto, Refresh::Reauthenticate, Refresh::Parameters][usize::from(arg % 3)];
                Ok(endpoint.param("token", SECRET).expires_in(Duration::from_secs(2)).refresh(refresh))
            }
            // One that only the session can see to be wrong.
            2 => Ok(endpoint.header("Upgrade", "h2c").expect("a fixed header")),
            _ => Err(ProviderError::new("no token")),
        };
        self.session.handle_endpoint(id, result, self.now);
    }

    /// The socket takes up to `most` bytes; how many it took.
    pub(super) fn transmit(&mut self, index: usize, most: usize) -> usize {
        let socket = &mut self.sockets[index];
        let bytes = self.session.transmit(socket.id);
        if !socket.alive || !socket.connected {
            assert!(bytes.is_empty(), "something to write to a socket that is not there");
            return 0;
        }
        let bytes = bytes[..bytes.len().min(most)].to_vec();
        self.session.handle_transmitted(socket.id, bytes.len(), self.now);
        let read = socket.peer.read(&bytes);
        self.note(&bytes);
        self.check_limits(index);
        for read in read {
            let (new, unsent) = match read {
                Read::Message(id) => (self.messages_read.insert(id), self.messages_unsent.contains(&id)),
                Read::Request(id) => {
                    let new = self.requests_read.insert(id) || self.resend.contains(&id);
                    (new, self.requests_unsent.contains(&id))
                }
                Read::Own => (true, false),
            };
            assert!(new, "{read:?} was sent twice");
            assert!(!unsent, "{read:?} was sent although it was said not to be");
        }
        bytes.len()
    }

    /// The socket gives up to `most` bytes; how many it gave.
    pub(super) fn deliver(&mut self, index: usize, most: usize) -> usize {
        let socket = &mut self.sockets[index];
        let room = self.session.recv_buffer(socket.id);
        if !socket.alive || !socket.connected {
            assert!(room.is_empty(), "room for bytes of a socket that is not there");
            return 0;
        }
        let len = room.len().min(most).min(socket.peer.wire.len());
        for (to, from) in room.iter_mut().zip(socket.peer.wire.drain(..len)) {
            *to = from;
        }
        if len > 0 {
            self.session.handle_received(socket.id, len, self.now);
        }
        len
    }

    /// What a driver should not do, and a session survives.
    pub(super) fn misuse(&mut self, arg: u8) {
        let now = self.now;
        if let Some(socket) = self.sockets.get_mut(usize::from(arg >> 3)) {
            let id = socket.id;
            match arg & 7 {
                // Counts of what was neither offered nor there. Of a socket that is there they would be lies about its bytes.
                0 if !socket.alive => self.session.handle_received(id, 100_000, now),
                1 if !socket.alive => self.session.handle_transmitted(id, 100_000, now),
                2 => self.session.handle_received(id, 0, now),
                3 => self.session.handle_transmitted(id, 0, now),
                4 => self.session.handle_connected(id, now),
                _ if !socket.alive => self.session.handle_disconnected(id, Disconnect::Eof, now),
                _ => {}
            }
            if arg & 7 == 4 && socket.alive {
                socket.connected = true;
            }
        }
    }
}
