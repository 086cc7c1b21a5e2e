//! Whatever is awaited ends, whatever state the session is in, and however it comes to its end: with the result that is true, and everybody
//! who waits is woken. No runtime: futures are polled by hand, and wakers count.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "threads that wait are what is tested, by a clock that goes on"
)]

mod common;
mod venue;

use common::*;
use everwire_core::handle::{EventSender, Shared};
use everwire_core::{
    Client, Clock, CloseCode, CloseOptions, Config, ConnId, Disconnect, Drain, Error, Events, Message,
    OnDisconnect, Output, OwnedEvent, Policy, Pressure, Recovery, Request, RequestError, RequestOptions,
    SendError, Session, SessionEnd, State, TimedOut, Unanswered,
};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use venue::Venue;

/// The clock of all desks: one desk at a time.
static PASSED: AtomicU64 = AtomicU64::new(0);
static DESK: Mutex<()> = Mutex::new(());

fn virtual_now() -> Instant {
    start().instant + Duration::from_nanos(PASSED.load(Ordering::SeqCst))
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

struct Conn {
    id: ConnId,
    written: Vec<u8>,
    alive: bool,
}

/// A driver that has a session, and what it is connected to.
struct Desk {
    shared: Arc<Shared>,
    client: Option<Client>,
    events: Option<Events>,
    sender: Option<EventSender>,
    conns: Vec<Conn>,
    bell: Arc<Bell>,
    over: bool,
    _one: MutexGuard<'static, ()>,
}

fn terms() -> Config {
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
    fn new(config: Config, clock: fn() -> Instant) -> Self {
        let one = DESK.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Session::new(config, Clock { instant: clock(), ..start() }, [7; 32]).unwrap();
        let shared = Shared::new(session, clock);
        let (client, events, sender) = Client::spawned(shared.clone());
        let bell = Arc::default();
        let (client, events, sender) = (Some(client), Some(events), Some(sender));
        Self { shared, client, events, sender, conns: vec![], bell, over: false, _one: one }
    }

    /// One whose session is in this state.
    fn at(state: State) -> Self {
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

    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    /// A handle that keeps nothing alive.
    fn guest(&self) -> Client {
        Client::of_driver(self.shared.clone())
    }

    /// Does all that there is to do; what waits to be written is written.
    fn run(&mut self) -> Option<Instant> {
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

    fn tell(&mut self, event: OwnedEvent) {
        let sending =
            self.sender.as_mut().expect("nothing follows the end").send(event, || std::future::ready(()));
        assert!(pin!(sending).poll(&mut Context::from_waker(Waker::noop())).is_ready(), "there is room");
    }

    /// Not before it is connected, and not while the test fills the buffer.
    fn flush(&mut self) -> bool {
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

    fn conn(&mut self) -> Option<&mut Conn> {
        self.conns.last_mut().filter(|conn| conn.alive)
    }

    fn feed(&mut self, bytes: &[u8]) {
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
    fn upgrade(&mut self) {
        let now = self.shared.now();
        let id = self.conn().expect("a connection is asked for").id;
        self.shared.lock().session.handle_connected(id, now);
        self.run();
        let response = accept(&self.conn().unwrap().written, "");
        self.feed(&response);
    }

    fn texts(&mut self) -> Vec<String> {
        let Some(conn) = self.conn() else { return vec![] };
        frames(after_head(&conn.written)).0.into_iter().map(venue::name).collect()
    }

    /// Says yes to what was said last.
    fn grant(&mut self) {
        let id = self.texts().last().and_then(|text| text.split(' ').nth(1).map(str::to_owned)).unwrap();
        self.feed(&text(&format!("ok {id}")));
    }

    fn eof(&mut self) {
        let now = self.shared.now();
        let Some(conn) = self.conn() else { return };
        conn.alive = false;
        let id = conn.id;
        self.shared.lock().session.handle_disconnected(id, Disconnect::Eof, now);
        self.run();
    }

    fn hang_up(&mut self, code: u16) {
        self.run();
        self.feed(&close(code, ""));
        self.eof();
    }

    /// Time passes, with every deadline on the way kept.
    fn pass(&mut self, by: Duration) {
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
    fn end(&mut self, end: End) {
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
enum End {
    Close,
    Drain,
    GiveUp,
    Stop,
    Abort,
    DriverDropped,
    LastHandle,
    EventsDropped,
}

const ENDS: [End; 8] = [
    End::Close,
    End::Drain,
    End::GiveUp,
    End::Stop,
    End::Abort,
    End::DriverDropped,
    End::LastHandle,
    End::EventsDropped,
];

const STATES: [State; 8] = [
    State::Idle,
    State::Connecting,
    State::Authenticating,
    State::Restoring,
    State::Online,
    State::Backoff,
    State::Closing,
    State::Closed,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// May wait for a connection.
    Held,
    /// May not.
    Request,
    Batch,
    Writable,
    Closed,
    Next,
}

const KINDS: [Kind; 6] = [Kind::Held, Kind::Request, Kind::Batch, Kind::Writable, Kind::Closed, Kind::Next];

fn hold() -> RequestOptions {
    RequestOptions::default().on_disconnect(OnDisconnect::Hold)
}

fn in_words(result: Result<String, RequestError>) -> String {
    match result {
        Ok(result) => result,
        Err(RequestError::NotTaken(SendError::Offline)) => "offline".to_owned(),
        Err(RequestError::NotTaken(SendError::Closed)) => "refused".to_owned(),
        Err(RequestError::NotSent(why)) => format!("not sent: {why:?}"),
        Err(RequestError::SentUnknown(why)) => format!("unknown: {why:?}"),
        other => panic!("{other:?}"),
    }
}

fn end_in_words(end: &SessionEnd) -> String {
    match &end.error {
        None => "closed".to_owned(),
        Some(Error::Closed(closed)) => format!("closed by {}", u16::from(closed.code)),
        Some(Error::Disconnected(_) | Error::Connect { .. }) => "given up".to_owned(),
        Some(other) => panic!("{other}"),
    }
}

/// The last event but `None`.
fn last_in_words(last: Option<OwnedEvent>) -> String {
    match last {
        Some(OwnedEvent::Closed { error, unsent }) => end_in_words(&SessionEnd { error, unsent }),
        _ => "ended".to_owned(),
    }
}

type Awaited = Pin<Box<dyn Future<Output = String> + Send>>;

/// What waits for the session, begun now: `None` if that cannot be with this end.
fn awaits(desk: &mut Desk, kind: Kind, end: End) -> Option<Awaited> {
    let client = desk.guest();
    let request = Request::new("m");
    Some(match kind {
        Kind::Held => {
            let answer = client.request_with(request, hold());
            Box::pin(async move { in_words(answer.await) })
        }
        Kind::Request => {
            let answer = client.request(request);
            Box::pin(async move { in_words(answer.await) })
        }
        Kind::Batch => {
            let answers = client.request_batch(&[request, request], hold());
            Box::pin(async move {
                let mut all = vec![];
                for answer in answers {
                    all.push(in_words(answer.await));
                }
                all.dedup();
                assert_eq!(all.len(), 1, "{all:?}");
                all.remove(0)
            })
        }
        Kind::Writable => {
            desk.run();
            if client.state() == State::Online {
                while client.send("x".repeat(100).as_str()).is_ok() {}
            }
            Box::pin(async move {
                client.writable().await;
                "writable".to_owned()
            })
        }
        Kind::Closed => Box::pin(async move { end_in_words(&client.closed().await) }),
        Kind::Next => {
            if matches!(end, End::LastHandle | End::EventsDropped) {
                return None;
            }
            let mut events = desk.events.take()?;
            Box::pin(async move {
                let mut last = None;
                while let Some(event) = events.next().await {
                    last = Some(event);
                }
                assert!(events.next().await.is_none(), "for ever");
                last_in_words(last)
            })
        }
    })
}

/// What must come of it.
fn wanted(kind: Kind, state: State, end: End) -> &'static str {
    let by_user = matches!(state, State::Closing | State::Closed);
    let ended = match end {
        End::Close | End::Drain | End::Abort | End::DriverDropped | End::LastHandle => "closed",
        _ if by_user => "closed",
        End::GiveUp => "given up",
        End::Stop => "closed by 4000",
        // Only its events are.
        End::EventsDropped => "pending",
    };
    match kind {
        Kind::Writable => "writable",
        Kind::Closed => ended,
        Kind::Next if end == End::DriverDropped && state != State::Closed => "ended",
        Kind::Next => ended,
        _ if by_user => "refused",
        Kind::Request if state != State::Online => "offline",
        _ => match (state == State::Online, end) {
            (true, End::GiveUp | End::Stop) => "unknown: ConnectionLost",
            (true, End::EventsDropped) => "unknown: Timeout",
            (true, _) => "unknown: Closed",
            (false, End::EventsDropped) => "not sent: Timeout",
            (false, _) => "not sent: Closed",
        },
    }
}

#[test]
fn everything_that_is_awaited_ends_as_it_must() {
    for (kind, state, end) in all() {
        let mut desk = Desk::at(state);
        let Some(mut future) = awaits(&mut desk, kind, end) else { continue };
        if state == State::Online && kind != Kind::Writable {
            // The peer has it, and does not answer.
            desk.run();
        }
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        let mut poll = || future.as_mut().poll(&mut Context::from_waker(&waker));
        let early = poll();
        bell.rung();
        desk.end(end);
        let want = wanted(kind, state, end);
        let context = format!("{kind:?} at {state:?} through {end:?}");
        let got = match early {
            Poll::Ready(got) => got,
            Poll::Pending if want == "pending" => {
                assert!(poll().is_pending(), "{context}");
                desk.end(End::DriverDropped);
                assert!(bell.rung() > 0, "{context}: nobody is woken");
                assert_eq!(poll(), Poll::Ready("closed".to_owned()), "{context}");
                continue;
            }
            Poll::Pending => {
                assert!(bell.rung() > 0, "{context}: nobody is woken");
                let Poll::Ready(got) = poll() else { panic!("{context}: it hangs") };
                got
            }
        };
        assert_eq!(got, want, "{context}");
        if end != End::EventsDropped {
            assert!(desk.over || end == End::Drain, "{context}: the driver's end");
        }
    }
}

#[test]
fn threads_that_wait_are_let_go() {
    ends(|| {
        for (kind, state, end) in all() {
            if end == End::EventsDropped && kind == Kind::Closed {
                continue;
            }
            let mut desk = Desk::at(state);
            let (client, request) = (desk.guest(), Request::new("m"));
            let thread: std::thread::JoinHandle<String> = match kind {
                Kind::Held | Kind::Request | Kind::Batch => {
                    let options = if kind == Kind::Request { RequestOptions::default() } else { hold() };
                    let mut answers = client.request_batch(&[request, request], options.clone());
                    answers.push(client.request_with(request, options));
                    std::thread::spawn(move || {
                        let mut all: Vec<String> =
                            answers.into_iter().map(|answer| in_words(answer.wait())).collect();
                        all.dedup();
                        all.join(", ")
                    })
                }
                Kind::Writable => {
                    desk.run();
                    if state == State::Online {
                        while client.send("x".repeat(100).as_str()).is_ok() {}
                    }
                    std::thread::spawn(move || {
                        client.writable_blocking(None).map(|()| "writable".to_owned()).unwrap()
                    })
                }
                Kind::Closed => {
                    std::thread::spawn(move || end_in_words(&client.closed_blocking(None).unwrap()))
                }
                Kind::Next if matches!(end, End::LastHandle | End::EventsDropped) => continue,
                Kind::Next => {
                    let events = desk.events.take().unwrap();
                    std::thread::spawn(move || last_in_words(events.into_iter().last()))
                }
            };
            if state == State::Online && kind != Kind::Writable {
                desk.run();
            }
            desk.end(end);
            let got = thread.join().unwrap();
            assert_eq!(got, wanted(kind, state, end), "{kind:?} at {state:?} through {end:?}");
        }
    });
}

fn all() -> impl Iterator<Item = (Kind, State, End)> {
    KINDS.into_iter().flat_map(|kind| {
        STATES.into_iter().flat_map(move |state| ENDS.into_iter().map(move |end| (kind, state, end)))
    })
}

#[test]
fn shutdown_has_begun_when_it_returns_and_ends_in_its_time() {
    for state in STATES {
        let mut desk = Desk::at(state);
        let answer = desk.guest().request(Request::new("m"));
        desk.run();
        let client = desk.guest();
        let bells: [Arc<Bell>; 3] = Default::default();
        let mut waits: [Awaited; 3] = [
            Box::pin({
                let client = client.clone();
                async move { end_in_words(&client.closed().await) }
            }),
            Box::pin({
                let client = client.clone();
                async move { end_in_words(&client.closed().await) }
            }),
            Box::pin(async move {
                let options = CloseOptions::new().within(secs(2)).drain(Drain::Answers);
                end_in_words(&client.shutdown(options).await)
            }),
        ];
        let mut got: [Option<String>; 3] = Default::default();
        let mut polls = || {
            for (n, wait) in waits.iter_mut().enumerate() {
                if got[n].is_some() {
                    continue;
                }
                let waker = Waker::from(bells[n].clone());
                if let Poll::Ready(end) = wait.as_mut().poll(&mut Context::from_waker(&waker)) {
                    got[n] = Some(end);
                }
            }
            got.clone()
        };
        // The last of them is what begins it.
        polls();
        desk.pass(secs(1));
        let at_once =
            !matches!(state, State::Authenticating | State::Restoring | State::Online | State::Closing);
        // What there may be an answer to, or a close frame..
        assert_eq!(desk.shared.lock().session.end().is_some(), at_once, "{state:?}");
        desk.pass(secs(1));
        assert!(at_once || bells.iter().all(|bell| bell.rung() > 0), "{state:?}: all are woken");
        let want = [(); 3].map(|()| Some("closed".to_owned()));
        assert_eq!(polls(), want, "{state:?}");
        drop(answer);
    }
}

#[test]
fn who_gives_up_waiting_leaves_nothing_behind() {
    let desk = Desk::at(State::Online);
    let client = desk.guest();
    while client.send("x".repeat(100).as_str()).is_ok() {}
    let before = Arc::strong_count(&desk.bell);
    let bell = Arc::new(Bell::default());
    for _ in 0..100 {
        let waker = Waker::from(bell.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(pin!(client.closed()).poll(&mut cx).is_pending());
        assert!(pin!(client.writable()).poll(&mut cx).is_pending());
    }
    assert_eq!((Arc::strong_count(&bell), Arc::strong_count(&desk.bell)), (1, before));
    assert_eq!(client.closed_blocking(Some(Duration::ZERO)).unwrap_err(), TimedOut);
    assert_eq!(client.writable_blocking(Some(Duration::ZERO)), Err(TimedOut));
}

#[test]
fn no_call_waits_for_a_reader() {
    ends(|| {
        let mut desk = Desk::at(State::Online);
        let mut events = desk.events.take().unwrap();
        while events.try_next().is_some() {}
        let (client, bell) = (desk.guest(), desk.bell.clone());
        let calls: [(&str, fn(&Client)); 8] = [
            ("send", |client| _ = client.send("x").unwrap()),
            ("request", |client| _ = client.request(Request::new("m")).id().unwrap()),
            ("batch", |client| drop(client.request_batch(&[Request::new("m")], hold()))),
            ("subscribe", |client| _ = client.subscribe("another")),
            ("unsubscribe", |client| _ = client.unsubscribe(client.subscribe("another"))),
            ("reconnect", Client::reconnect),
            ("close", |client| client.close(CloseCode::Normal, "")),
            ("shutdown", |client| drop(client.shutdown(CloseOptions::new()))),
        ];
        for parked in [false, true] {
            let reader = if parked {
                let thread = std::thread::spawn(move || {
                    let event = events.next_blocking(None).unwrap();
                    (events, event)
                });
                Err(thread)
            } else {
                let mut next = Box::pin(async move {
                    let event = events.next().await;
                    (events, event)
                });
                assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                Ok(next)
            };
            bell.rung();
            for (name, call) in &calls[..if parked { 8 } else { 5 }] {
                desk.shared.lock().register(&Waker::from(bell.clone()));
                call(&client);
                assert!(bell.rung() >= 1, "{name}: the driver is not woken");
            }
            desk.tell(OwnedEvent::Writable);
            let (back, event) = match reader {
                Err(thread) => thread.join().unwrap(),
                Ok(mut next) => match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(read) => read,
                    Poll::Pending => panic!("there is an event"),
                },
            };
            assert!(matches!(event, Some(OwnedEvent::Writable)), "{event:?}");
            events = back;
        }
    });
}

/// A number that is told.
fn numbered(n: usize) -> OwnedEvent {
    OwnedEvent::Pressure { level: Pressure::None, waiting: n, delay: Duration::ZERO }
}

fn number(event: Option<OwnedEvent>) -> usize {
    match event {
        Some(OwnedEvent::Pressure { waiting, .. }) => waiting,
        other => panic!("{other:?}"),
    }
}

/// Wakes a thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

#[test]
fn events_move_between_tasks_and_threads() {
    ends(|| {
        for round in 0..50 {
            let mut desk = Desk::new(terms().event_buffer(1 + round % 5), virtual_now);
            let mut events = desk.events.take().unwrap();
            let mut sender = desk.sender.take().unwrap();
            let driver = std::thread::spawn(move || {
                for n in 0..300 {
                    block_on(sender.send(numbered(n), || std::future::ready(())));
                }
            });
            let mut told = vec![];
            // In a task, whose future is dropped now and then, and by others than it was polled by before.
            for _ in 0..50 {
                let mut polled = false;
                let glance = std::future::poll_fn(|cx| {
                    if std::mem::replace(&mut polled, true) {
                        return Poll::Ready(None);
                    }
                    match events.poll_next(cx) {
                        Poll::Ready(event) => Poll::Ready(event),
                        Poll::Pending => {
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                    }
                });
                told.extend(block_on(glance).map(|event| number(Some(event))));
                told.push(number(block_on(events.next())));
            }
            // In a thread that blocks.
            let reader = std::thread::spawn(move || {
                let some: Vec<usize> = events.blocking().take(100).map(|event| number(Some(event))).collect();
                (events, some)
            });
            let (events, some) = reader.join().unwrap();
            told.extend(some);
            // And in a task again, as a stream.
            let mut stream: Pin<Box<dyn futures_core::stream::FusedStream<Item = OwnedEvent>>> =
                Box::pin(events);
            while let Some(event) = block_on(std::future::poll_fn(|cx| stream.as_mut().poll_next(cx))) {
                assert!(!stream.is_terminated() || told.len() == 299);
                told.push(number(Some(event)));
            }
            assert!(stream.is_terminated());
            assert!(block_on(std::future::poll_fn(|cx| stream.as_mut().poll_next(cx))).is_none());
            driver.join().unwrap();
            assert_eq!(told, (0..300).collect::<Vec<_>>(), "round {round}");
        }
    });
}

#[test]
fn a_waiting_thread_has_its_deadline_though_the_driver_does_nothing() {
    ends(|| {
        let desk = Desk::new(terms(), Instant::now);
        let client = desk.guest();
        let began = Instant::now();
        let answer = client.request_with(Request::new("m"), hold().timeout(millis(20)));
        assert_eq!(answer.wait(), Err(RequestError::NotSent(Unanswered::Timeout)));
        assert!(began.elapsed() >= millis(20));
        assert_eq!(
            client.request_blocking(Request::new("m")),
            Err(RequestError::NotTaken(SendError::Offline))
        );

        // Online, and then nobody comes back to it.
        drop(desk);
        let mut desk = Desk::new(terms(), Instant::now);
        desk.run();
        desk.upgrade();
        desk.grant();
        let client = desk.guest();
        let sent = client.send("stuck").unwrap();
        let end = client.shutdown_blocking(CloseOptions::new().within(millis(20)));
        assert!(end.error.is_none() && end.unsent.contains(sent) && end.unsent.count() == 1, "{end:?}");
    });
}

#[test]
fn the_last_handle_that_goes_lets_out_what_was_accepted() {
    let limits = [venue::exact("all", 1, secs(1))];
    let mut desk = Desk::new(
        terms().protocol(Venue::new(limits)).close_timeout(secs(10)).request_timeout(secs(30)),
        virtual_now,
    );
    desk.run();
    desk.upgrade();
    let client = desk.client.take().unwrap();
    (1..=3).for_each(|n| _ = client.send(format!("m{n}").as_str()).unwrap());
    let answer = client.request(Request::new("r"));
    let bell = desk.bell.clone();
    desk.run();
    bell.rung();
    drop(client);
    drop(desk.events.take());
    assert_eq!(bell.rung(), 1, "the driver is woken for it");
    desk.pass(secs(4));
    assert_eq!(desk.texts(), ["m1", "m2", "m3", "req 2 r"]);
    // Somebody still waits for that.
    desk.feed(&text("ok 2"));
    assert_eq!(block_on(answer), Ok("2".to_owned()));
    assert_eq!(desk.texts().last().map(|text| &**text), Some("CLOSE"));
    desk.hang_up(1000);
    assert_eq!(end_in_words(desk.shared.lock().session.end().unwrap()), "closed");
    assert!(desk.over);
}

#[test]
fn the_report_is_the_events() {
    let mut desk = Desk::at(State::Online);
    let client = desk.guest();
    let sent = client.send(Message::Text("stuck")).unwrap();
    let now = desk.shared.now();
    desk.shared.lock().session.abort(now);
    desk.run();
    let report = block_on(client.closed());
    assert!(report.unsent.contains(sent));
    let last = desk.events.take().unwrap().into_iter().last();
    let Some(OwnedEvent::Closed { error, unsent }) = last else { panic!("{last:?}") };
    assert_eq!(SessionEnd { error, unsent }, report);
}
