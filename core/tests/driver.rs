//! The driver of all runtimes, on one that is nothing but memory: what it leaves behind, whom it lets have a turn, what time it takes it to be.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::driver::{BoxFuture, Carries, Driver, Runtime};
use everwire_core::protocol::{self, Ack, Inbound, Unsupported};
use everwire_core::{
    Client, Clock, Config, Events, JsonRpc, Overflow, OwnedEvent, Protocol, Request, SocketOptions, State,
    SubscribeOptions, Topic, Transport,
};
use std::cell::RefCell;
use std::future::{Future, pending, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// All that there is outside of a driver, for one test's thread.
#[derive(Default)]
struct World {
    elapsed: Duration,
    /// What the timer was set to last.
    timer: Option<Option<Instant>>,
    /// What the client wrote.
    written: Vec<u8>,
    /// What the peer has to say.
    arriving: Vec<u8>,
    /// The peer pings as fast as it is read.
    pings: bool,
    /// Nobody listens.
    refuses: bool,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn world<T>(look: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(look)
}

fn now() -> Instant {
    start().instant + world(|world| world.elapsed)
}

struct Memory;

/// The one connection that there is.
struct Pipe;

impl Runtime for Memory {
    type Stream = Pipe;

    fn start() -> io::Result<(Self, Clock, [u8; 32])> {
        Ok((Self, start(), [7; 32]))
    }

    fn now() -> Instant {
        now()
    }

    fn resolve(&mut self, _: String, _: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(pending())
    }

    fn connect(&mut self, _: SocketAddr, _: &SocketOptions) -> BoxFuture<io::Result<Pipe>> {
        let refused = || Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        Box::pin(ready(if world(|world| world.refuses) { refused() } else { Ok(Pipe) }))
    }

    fn poll_read(_: &mut Pipe, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        world(|world| {
            if world.pings {
                world.arriving.resize(world.arriving.len().max(buffer.len()), 0);
                let pings = frame(FIN | PING, b"").repeat(buffer.len() / 2);
                world.arriving[..pings.len()].copy_from_slice(&pings);
            }
            let len = buffer.len().min(world.arriving.len()) & if world.pings { !1 } else { !0 };
            if len == 0 {
                return Poll::Pending;
            }
            buffer[..len].copy_from_slice(&world.arriving[..len]);
            world.arriving.drain(..len);
            Poll::Ready(Ok(len))
        })
    }

    fn poll_write(_: &mut Pipe, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        world(|world| world.written.extend_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_timer(&mut self, _: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        world(|world| world.timer = Some(deadline));
        if deadline.is_some_and(|at| at <= now()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Carries<Pipe> for Memory {
    fn carrier(&self) -> impl Fn(Pipe) -> io::Result<Pipe> + Clone + Send + Sync + 'static {
        Ok
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs something when the last waker of a task is dropped, as when a task is.
struct Task<F: Fn() + Send + Sync + 'static>(F);

impl<F: Fn() + Send + Sync> Wake for Task<F> {
    fn wake(self: Arc<Self>) {}
}

impl<F: Fn() + Send + Sync> Drop for Task<F> {
    fn drop(&mut self) {
        self.0();
    }
}

fn poll(driver: &mut Driver<Memory>) -> Poll<()> {
    driver.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// The events until there is nothing left to do.
fn told(driver: &mut Driver<Memory>) -> Vec<OwnedEvent> {
    let mut told = vec![];
    while poll(driver).is_ready() {
        let Some(event) = driver.event() else { break };
        told.push(event.to_owned());
        driver.release();
    }
    told
}

fn accepted() {
    world(|world| {
        let accepts = accept(&world.written, "");
        world.arriving.extend(accepts);
    });
}

fn online(config: Config) -> Driver<Memory> {
    let mut driver = Driver::new(config).unwrap();
    assert!(poll(&mut driver).is_pending());
    accepted();
    assert!(matches!(told(&mut driver)[..], [OwnedEvent::Online { .. }]));
    driver
}

#[test]
fn who_is_slow_to_give_a_stream_does_not_use_up_the_time_of_the_handshake() {
    let config =
        config().transport(Transport::Connector).connect_timeout(secs(10)).handshake_timeout(secs(5));
    let there = Arc::new(AtomicBool::new(false));
    let is_there = there.clone();
    let mut driver = Driver::<Memory>::new(config).unwrap().connector(move |_| {
        let is_there = is_there.clone();
        poll_fn(move |_| if is_there.load(Ordering::SeqCst) { Poll::Ready(Ok(Pipe)) } else { Poll::Pending })
    });
    assert!(poll(&mut driver).is_pending());
    world(|world| world.elapsed = secs(8));
    there.store(true, Ordering::SeqCst);
    assert!(poll(&mut driver).is_pending(), "it has just been connected");
    assert_eq!(world(|world| world.timer), Some(Some(now() + secs(5))));
    accepted();
    assert!(matches!(told(&mut driver)[..], [OwnedEvent::Online { .. }]));
}

#[test]
fn a_closed_session_leaves_no_timer_that_wakes_for_ever() {
    world(|world| world.refuses = true);
    let mut driver = Driver::<Memory>::new(config().max_attempts(1)).unwrap();
    assert!(matches!(told(&mut driver).last(), Some(OwnedEvent::Closed { .. })));
    assert!(poll(&mut driver).is_ready() && driver.event().is_none());
    assert_eq!(world(|world| world.timer), Some(None));
}

#[test]
fn a_peer_that_only_pings_keeps_nobody_waiting() {
    ends(|| {
        let mut driver = online(config());
        world(|world| world.pings = true);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        for turn in 1..=3 {
            assert!(driver.poll_ready(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(bell.0.load(Ordering::SeqCst), turn, "it asks to be polled again");
        }
    });
}

#[test]
fn wakers_are_dropped_without_the_lock() {
    ends(|| {
        let mut driver = online(config());
        let client = driver.client();
        let first = Waker::from(Arc::new(Task(move || assert_eq!(client.state(), State::Online))));
        assert!(driver.poll_ready(&mut Context::from_waker(&first)).is_pending());
        drop(first);
        assert!(poll(&mut driver).is_pending());
    });
}

#[test]
fn the_task_that_a_driver_was_in_is_not_kept_by_handles() {
    let mut driver = online(config());
    let client = driver.client();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    assert!(driver.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    drop((driver, waker));
    assert_eq!(Arc::strong_count(&bell), 1);
    assert_eq!(client.state(), State::Closed);
}

#[test]
fn what_nobody_waits_for_any_more_is_dropped_at_once() {
    struct Opening(Arc<Mutex<Option<Client>>>);
    impl Drop for Opening {
        fn drop(&mut self) {
            // Not under the lock either.
            let _ = self.0.lock().unwrap().take().map(|client| client.state());
        }
    }
    impl Future for Opening {
        type Output = io::Result<Pipe>;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Pipe>> {
            Poll::Pending
        }
    }
    ends(|| {
        let kept = Arc::new(Mutex::new(None));
        let opening = kept.clone();
        let config = config().transport(Transport::Connector).connect_timeout(secs(10)).max_attempts(1);
        let mut driver = Driver::<Memory>::new(config).unwrap().connector(move |_| Opening(opening.clone()));
        *kept.lock().unwrap() = Some(driver.client());
        assert!(poll(&mut driver).is_pending());
        world(|world| world.elapsed = secs(10));
        assert!(poll(&mut driver).is_ready(), "the attempt has failed");
        assert!(kept.lock().unwrap().is_none(), "it is not waited for until something else happens");
    });
}

#[test]
fn who_sees_the_events_end_finds_the_session_ended() {
    let (client, mut events, running) = online(config()).background();
    let mut running = Box::pin(running);
    assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let state = Arc::new(Mutex::new(None));
    struct Look(Client, Arc<Mutex<Option<State>>>);
    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            *self.1.lock().unwrap() = Some(self.0.state());
        }
    }
    let waker = Waker::from(Arc::new(Look(client, state.clone())));
    let mut cx = Context::from_waker(&waker);
    assert!(events.poll_next(&mut cx).is_pending());
    drop(running);
    assert_eq!(*state.lock().unwrap(), Some(State::Closed));
    assert!(matches!(events.poll_next(&mut cx), Poll::Ready(None)));
}

#[test]
fn what_a_user_converts_is_converted_without_the_lock() {
    struct Nosy(Client);
    impl From<Nosy> for everwire_core::Message<'static> {
        fn from(nosy: Nosy) -> Self {
            assert_eq!(nosy.0.state(), State::Online);
            Self::Text("nosy")
        }
    }
    impl From<Nosy> for Topic {
        fn from(nosy: Nosy) -> Self {
            assert_eq!(nosy.0.state(), State::Online);
            "nosy".into()
        }
    }
    ends(|| {
        let driver = online(config().protocol(JsonRpc::new()));
        let client = driver.client();
        assert!(client.send(Nosy(client.clone())).is_ok());
        let id = client.subscribe(Nosy(client.clone()));
        assert!(client.unsubscribe(id));
    });
}

/// All that comes is of one topic, which is there as soon as it is asked for.
#[derive(Debug)]
struct Feed;

impl Protocol for Feed {
    fn classify<'m>(&self, _: &'m str) -> Inbound<'m> {
        Inbound::data(Some("topic"))
    }

    fn request(
        &self,
        _: u64,
        _: &Request<'_>,
        _: &protocol::Context<'_>,
        _: &mut String,
    ) -> Result<(), Unsupported> {
        Err(Unsupported { reason: "there are none".to_owned() })
    }

    fn topics_per_message(&self) -> usize {
        1
    }

    fn subscribe(
        &self,
        _: u64,
        _: &[&Topic],
        _: &protocol::Context<'_>,
        _: &mut String,
    ) -> Result<Ack, Unsupported> {
        Ok(Ack::None)
    }

    fn unsubscribe(
        &self,
        _: u64,
        _: &[&Topic],
        _: &protocol::Context<'_>,
        _: &mut String,
    ) -> Result<Ack, Unsupported> {
        Ok(Ack::None)
    }

    fn confirms(&self, _: &str, _: &Topic) -> bool {
        true
    }
}

/// A session, and a topic with so many messages that arrive in one read, for a line that holds fewer.
fn flooded(room: usize, count: usize) -> (Client, Events, impl Future<Output = ()>) {
    let driver = online(config().recv_buffer(1 << 20).protocol(Feed).event_buffer(room));
    let (client, mut events, running) = driver.background();
    let mut running = Box::pin(running);
    client.subscribe_with("topic", SubscribeOptions::default().overflow(Overflow::DropOldest));
    assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    while events.try_next().is_some() {}
    world(|world| world.arriving = (0..count).flat_map(|n| text(&n.to_string())).collect());
    (client, events, running)
}

#[test]
fn a_user_who_only_had_no_turn_loses_nothing() {
    let (_client, mut events, running) = flooded(100, 1000);
    let mut running = pin!(running);
    let mut cx = Context::from_waker(Waker::noop());
    let mut told = 0;
    while told < 1000 {
        // However often the driver has its turn, and the user none, if that takes no time.
        (0..10).for_each(|_| assert!(running.as_mut().poll(&mut cx).is_pending()));
        let before = told;
        while let Some(event) = events.try_next() {
            assert!(matches!(event, OwnedEvent::Message { .. }), "{event:?}");
            told += 1;
        }
        assert!(told > before, "nothing more comes after {told}");
    }
    assert_eq!(events.dropped(), 0);
}

#[test]
fn a_user_who_is_slow_has_a_millisecond_and_then_loses() {
    let (_client, mut events, running) = flooded(100, 1000);
    let mut running = pin!(running);
    let mut cx = Context::from_waker(Waker::noop());
    (0..10).for_each(|_| assert!(running.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(events.dropped(), 0);
    assert_eq!(world(|world| world.timer), Some(Some(now() + millis(1))), "it is woken then");
    assert!(events.try_next().is_some());
    (0..10).for_each(|_| assert!(running.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(events.dropped(), 0, "he takes what waits");
    world(|world| world.elapsed += millis(1));
    (0..10).for_each(|_| assert!(running.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(events.dropped(), 899, "he is not waited for again");
    world(|world| world.arriving = (0..200).flat_map(|n| text(&n.to_string())).collect());
    (0..10).for_each(|_| assert!(running.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(events.dropped(), 1099, "nor when more comes");
    while events.try_next().is_some() {}
    world(|world| world.arriving = (0..200).flat_map(|n| text(&n.to_string())).collect());
    (0..10).for_each(|_| assert!(running.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(events.dropped(), 1099, "now that he has caught up he is");
}
