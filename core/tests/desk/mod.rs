//! A driver whose clock is virtual and whose peer is functions of bytes, over handles: no runtime, and wakers that count.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

use crate::common::*;
use crate::venue::{self, Venue};
use everwire_core::handle::{EventSender, Offered, Shared};
use everwire_core::{
    Client, Clock, CloseCode, CloseOptions, Config, ConnId, Disconnect, Drain, Error, Events, OnDisconnect,
    Output, OwnedEvent, Policy, Recovery, RequestOptions, Session, SessionEnd, State,
};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// The clock of all desks: one desk at a time.
static PASSED: AtomicU64 = AtomicU64::new(0);
static DESK: Mutex<()> = Mutex::new(());

pub fn virtual_now() -> Instant {
    start().instant + Duration::from_nanos(PASSED.load(Ordering::SeqCst))
}

/// Counts how often it is woken.
#[derive(Default)]
pub struct Bell(pub AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    pub fn rung(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

pub struct Conn {
    pub id: ConnId,
    pub written: Vec<u8>,
    pub alive: bool,
}

/// A driver that has a session, and what it is connected to.
pub struct Desk {
    pub shared: Arc<Shared>,
    pub client: Option<Client>,
    pub events: Option<Events>,
    pub sender: Option<EventSender>,
    pub conns: Vec<Conn>,
    pub bell: Arc<Bell>,
    pub over: bool,
    _one: MutexGuard<'static, ()>,
}

pub fn terms() -> Config {
    let policy = Policy::default().on_close(4000..=4000, Recovery::Stop).unwrap();
    config()
        .protocol(Venue::new([]).authenticated())
        .policy(policy)
        .send_buffer(1024)
        .request_timeout(secs(4))
        .close_timeout(secs(2))
        .max_attempts(2)
        .backoff(secs(1), secs(1))
}

impl Desk {
    pub fn new(config: Config, clock: fn() -> Instant) -> Self {
        let one = DESK.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Session::new(config, Clock { instant: clock(), ..start() }, [7; 32]).unwrap();
        let shared = Shared::new(session, clock);
        let (client, events, sender) = Client::spawned(shared.clone());
        let bell = Arc::default();
        let (client, events, sender) = (Some(client), Some(events), Some(sender));
        Self { shared, client, events, sender, conns: vec![], bell, over: false, _one: one }
    }

    /// One whose session is in this state.
    pub fn at(state: State) -> Self {
        let mut desk = Self::new(terms(), virtual_now);
        desk.client().subscribe("topic");
        if state != State::Idle {
            desk.run();
        }
        if !matches!(state, State::Idle | State::Connecting) {
            desk.upgrade();
        }
        if !matches!(state, State::Idle | State::Connecting | State::Authenticating) {
            desk.grant();
        }
        if matches!(state, State::Online | State::Backoff | State::Closing | State::Closed) {
            desk.grant();
        }
        match state {
            State::Backoff => desk.eof(),
            State::Closing => desk.client().close(CloseCode::Normal, ""),
            State::Closed => {
                desk.client().close(CloseCode::Normal, "");
                desk.hang_up(1000);
            }
            _ => {}
        }
        if state != State::Idle {
            desk.run();
        }
        assert_eq!(desk.shared.lock().session.state(), state);
        desk
    }

    pub fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    /// A handle that keeps nothing alive.
    pub fn guest(&self) -> Client {
        Client::of_driver(self.shared.clone())
    }

    /// Does all that there is to do; what waits to be written is written.
    pub fn run(&mut self) -> Option<Instant> {
        for _ in 0..10_000 {
            let mut inner = self.shared.lock();
            inner.register(&Waker::from(self.bell.clone()));
            let output = inner.session.poll_output(self.shared.now());
            let mut event = None;
            if output == Output::Event
                && let Some(lease) = inner.take_event()
            {
                event = Some(lease.event().to_owned());
                inner.session.give_back(lease);
            }
            inner.settle();
            drop(inner);
            match output {
                Output::Event => event.into_iter().for_each(|event| self.tell(event)),
                Output::Connect(id, _) => self.conns.push(Conn { id, written: vec![], alive: true }),
                Output::Disconnect(id) => {
                    self.conns.iter_mut().filter(|conn| conn.id == id).for_each(|conn| conn.alive = false);
                }
                Output::Wait(due) => {
                    if !self.flush() {
                        return due;
                    }
                }
                Output::Closed => {
                    self.sender = None;
                    self.over = true;
                    return None;
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("livelock");
    }

    pub fn tell(&mut self, event: OwnedEvent) {
        let sender = self.sender.as_mut().expect("nothing follows the end");
        let offered = sender.offer(&Context::from_waker(Waker::noop()), &mut Some(event), true);
        assert_eq!(offered, Offered::Taken, "there is room");
    }

    /// Not before it is connected, and not while the test fills the buffer.
    pub fn flush(&mut self) -> bool {
        let now = self.shared.now();
        let mut any = false;
        for conn in self.conns.iter_mut().filter(|conn| conn.alive) {
            let mut inner = self.shared.lock();
            let bytes = inner.session.transmit(conn.id).to_vec();
            inner.session.handle_transmitted(conn.id, bytes.len(), now);
            any |= !bytes.is_empty();
            conn.written.extend(bytes);
        }
        any
    }

    pub fn conn(&mut self) -> Option<&mut Conn> {
        self.conns.last_mut().filter(|conn| conn.alive)
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        let now = self.shared.now();
        let Some(id) = self.conn().map(|conn| conn.id) else { return };
        let mut inner = self.shared.lock();
        let room = inner.session.recv_buffer(id);
        if room.is_empty() {
            return;
        }
        room[..bytes.len()].copy_from_slice(bytes);
        inner.session.handle_received(id, bytes.len(), now);
        drop(inner);
        self.run();
    }

    /// TCP and the handshake.
    pub fn upgrade(&mut self) {
        let now = self.shared.now();
        let id = self.conn().expect("a connection is asked for").id;
        self.shared.lock().session.handle_connected(id, now);
        self.run();
        let response = accept(&self.conn().unwrap().written, "");
        self.feed(&response);
    }

    pub fn texts(&mut self) -> Vec<String> {
        let Some(conn) = self.conn() else { return vec![] };
        frames(after_head(&conn.written)).0.into_iter().map(venue::name).collect()
    }

    /// Says yes to what was said last.
    pub fn grant(&mut self) {
        let id = self.texts().last().and_then(|text| text.split(' ').nth(1).map(str::to_owned)).unwrap();
        self.feed(&text(&format!("ok {id}")));
    }

    pub fn eof(&mut self) {
        let now = self.shared.now();
        let Some(conn) = self.conn() else { return };
        conn.alive = false;
        let id = conn.id;
        self.shared.lock().session.handle_disconnected(id, Disconnect::Eof, now);
        self.run();
    }

    pub fn hang_up(&mut self, code: u16) {
        self.run();
        self.feed(&close(code, ""));
        self.eof();
    }

    /// Time passes, with every deadline on the way kept.
    pub fn pass(&mut self, by: Duration) {
        let end = self.shared.now() + by;
        loop {
            let due = self.run().filter(|due| *due <= end);
            let to = due.unwrap_or(end).saturating_duration_since(self.shared.now());
            PASSED.fetch_add(to.as_nanos() as u64, Ordering::SeqCst);
            if due.is_none() {
                self.run();
                return;
            }
        }
    }

    /// Comes to this end.
    pub fn end(&mut self, end: End) {
        match end {
            End::Close => {
                self.client().close(CloseCode::Normal, "");
                self.hang_up(1000);
            }
            End::Drain => {
                self.client().close_with(CloseOptions::new().within(secs(3)).drain(Drain::Answers));
                self.pass(secs(3));
            }
            End::GiveUp | End::Stop => {
                self.run();
                for _ in 0..10 {
                    if end == End::Stop && self.conn().is_some_and(|conn| conn.written.is_empty()) {
                        self.upgrade();
                    }
                    if end == End::Stop {
                        self.hang_up(4000);
                    }
                    self.eof();
                    self.pass(secs(1));
                }
            }
            End::Abort => {
                let now = self.shared.now();
                let mut inner = self.shared.lock();
                inner.session.abort(now);
                inner.settle();
                drop(inner);
                self.run();
            }
            End::DriverDropped => {
                let now = self.shared.now();
                self.shared.lock().abandon(now);
                self.sender = None;
                self.over = true;
            }
            End::LastHandle => {
                (self.client, self.events) = (None, None);
                self.pass(secs(5));
                self.hang_up(1000);
            }
            End::EventsDropped => {
                self.events = None;
                self.pass(secs(5));
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Close,
    Drain,
    GiveUp,
    Stop,
    Abort,
    DriverDropped,
    LastHandle,
    EventsDropped,
}

pub const ENDS: [End; 8] = [
    End::Close,
    End::Drain,
    End::GiveUp,
    End::Stop,
    End::Abort,
    End::DriverDropped,
    End::LastHandle,
    End::EventsDropped,
];

pub fn hold() -> RequestOptions {
    RequestOptions::default().on_disconnect(OnDisconnect::Hold)
}

pub fn end_in_words(end: &SessionEnd) -> String {
    told_in_words(end.error.as_ref())
}

/// Why it ended, as `Closed` tells it.
pub fn told_in_words(error: Option<&Error>) -> String {
    match error {
        None => "closed".to_owned(),
        Some(Error::Closed(closed)) => format!("closed by {}", u16::from(closed.code)),
        Some(Error::Disconnected(_) | Error::Connect { .. }) => "given up".to_owned(),
        Some(other) => panic!("{other}"),
    }
}

/// Wakes a thread.
pub struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}
