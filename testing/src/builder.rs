//! Setting up a server.

use std::fmt;
use std::io;

use tungstenite::Message;
use tungstenite::handshake::server::Request;

use crate::shared::{AdmitHandler, Config, ConnectHandler, MessageHandler, Schedule};
use crate::venue::JsonRpcVenue;
use crate::{ConnHandle, HandshakeFault, MockServer, TlsFault};

/// What a [`MockServer`] is to be; from [`MockServer::builder`].
#[must_use = "nothing happens before `start`"]
pub struct MockServerBuilder {
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) tls_faults: Schedule<TlsFault>,
    pub(crate) handshake: Schedule<HandshakeFault>,
    pub(crate) config: Config,
    pub(crate) on_message: Option<MessageHandler>,
    pub(crate) on_connect: Option<ConnectHandler>,
    pub(crate) admit: Option<AdmitHandler>,
}

impl MockServerBuilder {
    pub(crate) fn new() -> Self {
        Self {
            port: 0,
            tls: false,
            tls_faults: Schedule::default(),
            handshake: Schedule::default(),
            config: Config::default(),
            on_message: None,
            on_connect: None,
            admit: None,
        }
    }

    /// Listens on this port of 127.0.0.1; 0, the default, is a free one that the system chooses.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Speaks TLS, with a certificate for `localhost`, `127.0.0.1` and `::1` made at start; a client must trust
    /// [`ca_pem`](MockServer::ca_pem).
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Speaks TLS with something wrong in it, on every connection (after those of [`tls_for`](Self::tls_for)).
    pub fn tls_with(mut self, fault: TlsFault) -> Self {
        self.tls_faults.set_rest(Some(fault));
        self.tls()
    }

    /// Speaks TLS with something wrong in it on the next `count` TCP connections.
    ///
    /// Called again it sets what comes after those. Further connections have what [`tls_with`](Self::tls_with) says,
    /// else nothing wrong.
    pub fn tls_for(mut self, count: usize, fault: TlsFault) -> Self {
        self.tls_faults.push(count, fault);
        self.tls()
    }

    /// Fails the opening handshake of every connection (after those of [`handshake_for`](Self::handshake_for)).
    pub fn handshake(mut self, fault: HandshakeFault) -> Self {
        self.handshake.set_rest(Some(fault));
        self
    }

    /// Fails the opening handshake of the next `count` TCP connections.
    ///
    /// Called again it sets what comes after those. Further connections have what [`handshake`](Self::handshake) says,
    /// else succeed.
    pub fn handshake_for(mut self, count: usize, fault: HandshakeFault) -> Self {
        self.handshake.push(count, fault);
        self
    }

    /// Judges each upgrade request that no other fault fails: a fault that is returned fails it, such as a 401 for a token that is not good.
    /// Called on the server thread. [`Silent`](HandshakeFault::Silent) cuts the connection here, as the request was read already.
    ///
    /// A panic in it is a failed handshake, and in [`failures`](MockServer::failures).
    pub fn admit(mut self, judge: impl FnMut(&Request) -> Option<HandshakeFault> + Send + 'static) -> Self {
        self.admit = Some(Box::new(judge));
        self
    }

    /// Supports this subprotocol. The first one added that the client asks for is negotiated, none if it asks for none.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.config.subprotocols.push(name.into());
        self
    }

    /// Adds a header to the 101 response, written as it is, valid or not.
    pub fn response_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.response_headers.push((name.into(), value.into()));
        self
    }

    /// Sends these messages together with the 101 response, in one write: in one TCP segment, as far as they fit in it.
    pub fn first_frames_with_response(mut self, messages: Vec<Message>) -> Self {
        self.config.first_frames = messages;
        self
    }

    /// Leaves the bytes that come after the handshake alone: no frames are read, no ping is answered, no handler called.
    /// The bytes are in [`received_raw`](ConnHandle::received_raw). For extensions, which the server does not
    /// understand, and for clients that ought to notice an unanswered ping.
    pub fn raw_frames(mut self) -> Self {
        self.config.raw_frames = true;
        self
    }

    /// Calls `handler` for each accepted connection, on the server thread. What it sends comes right after the response.
    ///
    /// A panic in it ends the connection with [`HandlerPanicked`](crate::ConnectionEnd::HandlerPanicked).
    pub fn on_connect(mut self, handler: impl FnMut(&ConnHandle, &Request) + Send + 'static) -> Self {
        self.on_connect = Some(Box::new(handler));
        self
    }

    /// Calls `handler` for each text and binary message, on the server thread, which serves nothing else meanwhile.
    ///
    /// A panic in it ends the connection with [`HandlerPanicked`](crate::ConnectionEnd::HandlerPanicked).
    pub fn handler(mut self, handler: impl FnMut(&ConnHandle, Message) + Send + 'static) -> Self {
        self.on_message = Some(Box::new(handler));
        self
    }

    /// Answers all messages as this venue, in place of a [`handler`](Self::handler).
    pub fn venue(self, venue: &JsonRpcVenue) -> Self {
        let venue = venue.clone();
        self.handler(move |conn, message| venue.handle(conn, &message))
    }

    /// Starts the server.
    ///
    /// # Panics
    /// Where [`try_start`](Self::try_start) has an error.
    pub fn start(self) -> MockServer {
        match self.try_start() {
            Ok(server) => server,
            Err(error) => panic!("the mock server could not be started on 127.0.0.1: {error}"),
        }
    }

    /// Starts the server.
    ///
    /// # Errors
    /// The port is taken, or the operating system gives no socket, thread or randomness.
    pub fn try_start(self) -> io::Result<MockServer> {
        MockServer::launch(self)
    }
}

impl fmt::Debug for MockServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockServerBuilder")
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("tls_faults", &self.tls_faults)
            .field("handshake", &self.handshake)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
