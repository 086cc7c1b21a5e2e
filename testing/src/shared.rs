//! What the server's handle and its thread share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use tungstenite::Message;
use tungstenite::handshake::server::Request;

use crate::conn_state::{ConnState, wait_until};
use crate::handshake::HandshakeFault;
use crate::http::{HttpRequest, Routes};
use crate::matchers::Matcher;
use crate::signal::Signal;
use crate::throttle::Throttle;
use crate::tls::Tls;
use crate::transcript::{FrameLog, STORY, Transcript};
use crate::{ConnHandle, ConnectionEnd, WaitError};

/// Connections, requests and failures that a server remembers, each.
pub(crate) const KEPT: usize = 1024;

pub(crate) type MessageHandler = Box<dyn FnMut(&ConnHandle, Message) + Send>;
/// `false` if the message is not for it.
pub(crate) type Rule = Box<dyn FnMut(&ConnHandle, &Message) -> bool + Send>;
pub(crate) type AdmitHandler = Box<dyn FnMut(&Request) -> Option<HandshakeFault> + Send>;
pub(crate) type ConnectHandler = Box<dyn FnMut(&ConnHandle, &Request) + Send>;

/// What the builder has set and never changes.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) raw_frames: bool,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) response_headers: Vec<(String, String)>,
    pub(crate) first_frames: Vec<Message>,
    pub(crate) throttle: Throttle,
}

/// What the builder has set to be called.
#[derive(Default)]
pub(crate) struct Handlers {
    pub(crate) on_message: Option<MessageHandler>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) on_connect: Option<ConnectHandler>,
    pub(crate) admit: Option<AdmitHandler>,
    pub(crate) routes: Routes,
}

pub(crate) struct Shared {
    /// Every URL of the server without its path.
    pub(crate) base: Arc<str>,
    pub(crate) started: Instant,
    /// What happened apart from the connections that were accepted.
    pub(crate) log: FrameLog,
    /// Raised when a message comes on any connection, or one ends.
    pub(crate) signal: Arc<Signal>,
    pub(crate) config: Config,
    pub(crate) handshake: Mutex<Schedule<HandshakeFault>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) thread: OnceLock<ThreadId>,
    on_message: Mutex<(Vec<Rule>, Option<MessageHandler>)>,
    routes: Mutex<Routes>,
    on_connect: Mutex<Option<ConnectHandler>>,
    admit: Mutex<Option<AdmitHandler>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) attempts: usize,
    pub(crate) accepted: usize,
    pub(crate) live: usize,
    /// The newest accepted connections; the last one has the index `accepted - 1`.
    pub(crate) connections: VecDeque<ConnHandle>,
    pub(crate) requests: VecDeque<Arc<Request>>,
    pub(crate) http_requests: VecDeque<Arc<HttpRequest>>,
    /// Number of HTTP requests so far.
    pub(crate) http_total: usize,
    pub(crate) failures: VecDeque<String>,
    /// Number of failures so far.
    pub(crate) failed: usize,
    pub(crate) stopped: bool,
}

impl State {
    pub(crate) fn connection(&self, index: usize) -> Option<ConnHandle> {
        let first = self.accepted - self.connections.len();
        self.connections.get(index.checked_sub(first)?).cloned()
    }

    fn summary(&self) -> String {
        let Self { attempts, accepted, live, .. } = self;
        let mut text = format!("{attempts} TCP connections, {accepted} accepted, {live} of them live");
        if let Some(failure) = self.failures.back() {
            text.push_str(&format!("; the last failure: {failure}"));
        }
        text
    }
}

impl Shared {
    pub(crate) fn new(
        port: u16,
        config: Config,
        handshake: Schedule<HandshakeFault>,
        tls: Option<Tls>,
        handlers: Handlers,
    ) -> Self {
        let started = Instant::now();
        let base = match tls {
            None => format!("ws://127.0.0.1:{port}"),
            Some(_) => format!("wss://localhost:{port}"),
        };
        Self {
            base: base.into(),
            started,
            log: FrameLog::new(started),
            signal: Arc::default(),
            config,
            handshake: Mutex::new(handshake),
            tls,
            thread: OnceLock::new(),
            on_message: Mutex::new((handlers.rules, handlers.on_message)),
            routes: Mutex::new(handlers.routes),
            on_connect: Mutex::new(handlers.on_connect),
            admit: Mutex::new(handlers.admit),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn on_server_thread(&self) -> bool {
        self.thread.get() == Some(&thread::current().id())
    }

    pub(crate) fn handshake(&self) -> MutexGuard<'_, Schedule<HandshakeFault>> {
        self.handshake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    pub(crate) fn wait<T>(
        &self,
        waited_for: impl FnOnce() -> String,
        timeout: Duration,
        ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, WaitError> {
        if self.on_server_thread() {
            return Err(WaitError::OnServerThread { waited_for: waited_for() });
        }
        let deadline = Instant::now().checked_add(timeout);
        wait_until(&self.state, &self.changed, deadline, ready).ok_or_else(|| WaitError::TimedOut {
            waited_for: waited_for(),
            timeout,
            arrived: self.story(),
        })
    }

    /// Connections so far, and the end of the transcript, for the end of an error.
    fn story(&self) -> String {
        // Its own statement: the transcript takes the same lock.
        let summary = self.state().summary();
        let transcript = self.transcript().last(STORY);
        if transcript.entries.is_empty() {
            return format!("there were {summary}");
        }
        format!("there were {summary}\nthe server's transcript:\n{transcript}")
    }

    pub(crate) fn transcript(&self) -> Transcript {
        let connections = self.remembered();
        let parts = connections.iter().map(|conn| (Some(conn.index()), conn.transcript()));
        Transcript::merge(parts.chain([(None, self.log.transcript())]))
    }

    /// All connections that are remembered, oldest first.
    pub(crate) fn remembered(&self) -> Vec<ConnHandle> {
        self.state().connections.iter().cloned().collect()
    }

    pub(crate) fn request(&self, request: Arc<Request>) {
        self.change(|state| push_bounded(&mut state.requests, request));
    }

    pub(crate) fn http_request(&self, request: Arc<HttpRequest>) {
        self.change(|state| {
            state.http_total += 1;
            push_bounded(&mut state.http_requests, request);
        });
    }

    pub(crate) fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failure(&self, text: String) {
        self.log.note(format!("no connection: {text}"));
        self.change(|state| {
            state.failed += 1;
            push_bounded(&mut state.failures, text);
        });
    }

    pub(crate) fn accepted(&self, conn: ConnHandle) {
        self.change(|state| {
            state.accepted += 1;
            state.live += 1;
            push_bounded(&mut state.connections, conn);
        });
    }

    /// Notes the end of an accepted connection; only its first end counts. Under one lock, so that whoever sees the end
    /// of the connection sees one live connection less, and the other way round.
    pub(crate) fn connection_ended(&self, conn: &ConnState, end: ConnectionEnd) {
        self.change(|state| {
            if conn.set_end(end) {
                state.live -= 1;
            }
        });
    }

    /// How this upgrade is to fail, if it is. On the server thread only, as the next ones.
    pub(crate) fn judge(&self, request: &Request) -> Option<HandshakeFault> {
        let mut admit = self.admit.lock().unwrap_or_else(PoisonError::into_inner);
        admit.as_mut().and_then(|admit| admit(request))
    }

    /// On the server thread only, as the next.
    pub(crate) fn connected(&self, conn: &ConnHandle) {
        if let Some(handler) = &mut *self.on_connect.lock().unwrap_or_else(PoisonError::into_inner) {
            handler(conn, conn.request());
        }
    }

    pub(crate) fn message(&self, conn: &ConnHandle, message: Message) {
        let (rules, handler) = &mut *self.on_message.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.iter_mut().any(|rule| rule(conn, &message)) {
            return;
        }
        if let Some(handler) = handler {
            handler(conn, message);
        }
    }
}

/// Calls `handler` for what `expected` matches.
pub(crate) fn rule<M: Matcher + Send + 'static>(
    mut expected: M,
    mut handler: impl FnMut(&ConnHandle, M::Found) + Send + 'static,
) -> Rule {
    Box::new(move |conn, message| match expected.check(message) {
        Ok(found) => {
            handler(conn, found);
            true
        }
        Err(_) => false,
    })
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Which fault the next connection gets.
#[derive(Debug, Clone)]
pub(crate) struct Schedule<T> {
    /// For so many connections, in this order.
    counted: VecDeque<(usize, T)>,
    /// For all after those.
    rest: Option<T>,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { counted: VecDeque::new(), rest: None }
    }
}

impl<T: Clone> Schedule<T> {
    pub(crate) fn set_rest(&mut self, item: Option<T>) {
        self.rest = item;
    }

    pub(crate) fn clear(&mut self) {
        self.counted.clear();
        self.rest = None;
    }

    pub(crate) fn push(&mut self, count: usize, item: T) {
        if count > 0 {
            self.counted.push_back((count, item));
        }
    }

    pub(crate) fn next(&mut self) -> Option<T> {
        let Some((count, item)) = self.counted.front_mut() else { return self.rest.clone() };
        *count -= 1;
        let (last, item) = (*count == 0, item.clone());
        if last {
            self.counted.pop_front();
        }
        Some(item)
    }

    /// The same schedule of other things.
    pub(crate) fn try_map<U, E>(self, mut map: impl FnMut(T) -> Result<U, E>) -> Result<Schedule<U>, E> {
        let mut counted = VecDeque::with_capacity(self.counted.len());
        for (count, item) in self.counted {
            counted.push_back((count, map(item)?));
        }
        Ok(Schedule { counted, rest: self.rest.map(map).transpose()? })
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == KEPT {
        queue.pop_front();
    }
    queue.push_back(item);
}
