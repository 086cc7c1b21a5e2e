//! Setting up a server.

use std::fmt;
use std::io;

use tungstenite::Message;
use tungstenite::handshake::server::Request;

use crate::http::{HttpRequest, HttpResponse};
use crate::matchers::Matcher;
use crate::shared::{Config, Handlers, Schedule, rule};
use crate::throttle::Throttle;
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
    pub(crate) handlers: Handlers,
}

impl MockServerBuilder {
    pub(crate) fn new() -> Self {
        Self {
            port: 0,
            tls: false,
            tls_faults: Schedule::default(),
            handshake: Schedule::default(),
            config: Config::default(),
            handlers: Handlers::default(),
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

    /// Judges each upgrade request that no other fault fails: a fault that is returned fails it, such as a 401 for a
    /// token that is not good. Called on the server thread. [`Silent`](HandshakeFault::Silent) comes after the request
    /// here.
    ///
    /// A panic in it is a failed handshake, and in [`failures`](MockServer::failures).
    pub fn admit(mut self, judge: impl FnMut(&Request) -> Option<HandshakeFault> + Send + 'static) -> Self {
        self.handlers.admit = Some(Box::new(judge));
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
        self.handlers.on_connect = Some(Box::new(handler));
        self
    }

    /// Calls `handler` for each text and binary message, on the server thread, which serves nothing else meanwhile.
    ///
    /// A panic in it ends the connection with [`HandlerPanicked`](crate::ConnectionEnd::HandlerPanicked).
    pub fn handler(mut self, handler: impl FnMut(&ConnHandle, Message) + Send + 'static) -> Self {
        self.handlers.on_message = Some(Box::new(handler));
        self
    }

    /// Calls `handler` for each text and binary message that `expected` matches, with what it found; a
    /// [`handler`](Self::handler) or [`venue`](Self::venue) gets the rest. Of several, the one that was added first gets
    /// it. Runs and panics as a handler does.
    ///
    /// ```
    /// use everwire_testing::matchers::regex;
    /// use everwire_testing::{MockServer, tungstenite};
    /// use serde_json::json;
    ///
    /// let server = MockServer::builder()
    ///     .on(json!({"op": "ping"}), |conn, _| conn.send_text(r#"{"op": "pong"}"#))
    ///     .on(regex("^hello (.+)$"), |conn, found| conn.send_text(format!("hello {}, too", found[1])))
    ///     .handler(|conn, other| conn.send(other))
    ///     .start();
    /// let (mut client, _) = tungstenite::connect(server.url())?;
    /// let ping = r#"{"op": "ping", "id": 1}"#;
    /// for (said, answer) in [(ping, r#"{"op": "pong"}"#), ("hello you", "hello you, too"), ("x", "x")] {
    ///     client.send(said.into())?;
    ///     assert_eq!(client.read()?.to_text()?, answer);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on<M: Matcher + Send + 'static>(
        mut self,
        expected: M,
        handler: impl FnMut(&ConnHandle, M::Found) + Send + 'static,
    ) -> Self {
        self.handlers.rules.push(rule(expected, handler));
        self
    }

    /// Answers ordinary HTTP requests with this method and path (`*` for any; the query does not count), on the same
    /// port: a token endpoint, say. Called on the server thread, with the whole body of up to 16 MiB. Of several, the one
    /// that was added last gets it. Each response ends its TCP connection.
    ///
    /// Requests are in [`http_requests`](MockServer::http_requests). Those without a handler are answered with 404 or
    /// 405. A panic ends the TCP connection, and is in [`failures`](MockServer::failures).
    ///
    /// ```
    /// use everwire_testing::{HandshakeFault, HttpResponse, MockServer};
    /// use serde_json::json;
    ///
    /// // A venue that sells tokens, each good for one connection.
    /// let (mut sold, mut used) = (0, 0);
    /// let server = MockServer::builder()
    ///     .http("POST", "/api/v1/bullet-public", move |request| {
    ///         sold += 1;
    ///         let endpoint = request.url_of("/endpoint");
    ///         HttpResponse::json(&json!({"data": {"token": format!("t-{sold}"), "endpoint": endpoint}}))
    ///     })
    ///     .admit(move |upgrade| {
    ///         used += 1;
    ///         let good = upgrade.uri().query() == Some(&format!("token=t-{used}"));
    ///         (!good).then(|| HandshakeFault::status(401))
    ///     })
    ///     .start();
    /// assert!(server.http_url("/api/v1/bullet-public").starts_with("http://127.0.0.1:"));
    /// ```
    pub fn http(
        mut self,
        method: impl Into<String>,
        path: impl Into<String>,
        handler: impl FnMut(&HttpRequest) -> HttpResponse + Send + 'static,
    ) -> Self {
        self.handlers.routes.add(method.into(), path.into(), Box::new(handler));
        self
    }

    /// Limits the speed of every TCP connection, from its first byte on; [`ConnHandle::throttle`] changes it for one.
    pub fn throttle(mut self, throttle: Throttle) -> Self {
        self.config.throttle = throttle;
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
