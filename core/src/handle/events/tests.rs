//! Two ends without a runtime: who is woken, who waits, and what is told at the end.
#![expect(clippy::disallowed_methods, reason = "a test needs some moment to count from, and another thread")]

use super::*;
use crate::session::{Epoch, Overflow, Session, State as Standing, SubscribeOptions};
use crate::{Client, Clock, Config, JsonRpc};
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;
use std::time::{Instant, SystemTime};

fn clock() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
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

struct Ends {
    client: Client,
    events: Events,
    sender: EventSender,
    reader: Arc<Bell>,
    driver: Arc<Bell>,
}

fn ends(capacity: usize) -> Ends {
    let config = Config::new("ws://127.0.0.1:1").unwrap().protocol(JsonRpc::new()).event_buffer(capacity);
    let start = Clock { instant: clock(), system: SystemTime::UNIX_EPOCH };
    let shared = Shared::new(Session::new(config, start, [7; 32]).unwrap(), clock);
    let (client, events, sender) = Client::spawned(shared);
    Ends { client, events, sender, reader: Arc::default(), driver: Arc::default() }
}

/// Pending once, as a runtime's way to let others run.
fn pause() -> impl Future<Output = ()> {
    let mut paused = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

fn message(subscription: Option<SubscriptionId>, text: &str) -> OwnedEvent {
    OwnedEvent::Message { message: tungstenite::Message::text(text), epoch: Epoch(1), subscription }
}

fn brief(event: Option<OwnedEvent>) -> String {
    match event {
        Some(OwnedEvent::Message { message, .. }) => message.to_text().unwrap().to_owned(),
        Some(OwnedEvent::Overflowed { dropped, ended, .. }) => format!("lost {dropped} {ended}"),
        None => "none".to_owned(),
        Some(event) => panic!("{event:?}"),
    }
}

/// Offers an event until it is taken, as a driver does whose timer is `pause`.
impl EventSender {
    async fn send<F: Future<Output = ()>>(&mut self, event: OwnedEvent, pause: impl FnOnce() -> F) {
        let mut event = Some(event);
        let mut pause = std::pin::pin!(async { pause().await });
        let mut over = false;
        poll_fn(|cx| {
            loop {
                match self.offer(cx, &mut event, over) {
                    Offered::Taken => return Poll::Ready(()),
                    Offered::Loses if pause.as_mut().poll(cx).is_ready() => over = true,
                    Offered::Loses | Offered::Full => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

impl Ends {
    fn subscribe(&self, overflow: Overflow) -> SubscriptionId {
        self.client.subscribe_with("topic", SubscribeOptions::default().overflow(overflow))
    }

    /// Sends, polled once; whether it is done.
    fn send(&mut self, event: OwnedEvent) -> bool {
        let waker = Waker::from(self.driver.clone());
        let mut future = std::pin::pin!(self.sender.send(event, pause));
        Future::poll(future.as_mut(), &mut Context::from_waker(&waker)).is_ready()
    }

    /// Sends, polled as long as it is woken.
    fn push(&mut self, event: OwnedEvent) {
        let waker = Waker::from(self.driver.clone());
        let mut future = std::pin::pin!(self.sender.send(event, pause));
        while Future::poll(future.as_mut(), &mut Context::from_waker(&waker)).is_pending() {
            assert_eq!(self.driver.rung(), 1, "who is not woken would wait forever");
        }
    }

    fn poll(&mut self) -> Poll<String> {
        self.events.poll_next(&mut Context::from_waker(&Waker::from(self.reader.clone()))).map(brief)
    }
}

#[test]
fn the_reader_is_woken_once_for_what_he_waits_for() {
    let mut ends = ends(8);
    assert!(ends.poll().is_pending());
    assert!(ends.send(message(None, "a")) && ends.send(message(None, "b")));
    assert_eq!(ends.reader.rung(), 1);
    assert_eq!([ends.poll(), ends.poll()], ["a", "b"].map(|text| Poll::Ready(text.to_owned())));
    assert!(ends.poll().is_pending());
    drop(ends.sender);
    assert_eq!(ends.reader.rung(), 1, "the end is told too");
    assert!((0..3).all(|_| brief(ends.events.try_next()) == "none"));
    let waker = Waker::from(ends.reader);
    assert!(matches!(ends.events.poll_next(&mut Context::from_waker(&waker)), Poll::Ready(None)));
}

#[test]
fn what_must_not_be_lost_waits_for_room() {
    let mut ends = ends(2);
    let id = ends.subscribe(Overflow::Block);
    assert!(ends.send(message(None, "a")) && ends.send(message(Some(id), "b")));
    let (waker, reader) = (Waker::from(ends.driver.clone()), Waker::from(ends.reader.clone()));
    let mut cx = Context::from_waker(&waker);
    let mut sending = std::pin::pin!(ends.sender.send(message(None, "c"), pause));
    assert!(sending.as_mut().poll(&mut cx).is_pending() && sending.as_mut().poll(&mut cx).is_pending());
    assert_eq!(ends.driver.rung(), 0, "nothing to do");
    let first = ends.events.poll_next(&mut Context::from_waker(&reader)).map(brief);
    assert_eq!((first, ends.driver.rung()), (Poll::Ready("a".to_owned()), 1));
    assert!(sending.as_mut().poll(&mut cx).is_ready());
    let rest = [ends.events.try_next(), ends.events.try_next()].map(brief);
    assert_eq!((rest, ends.events.dropped()), (["b".to_owned(), "c".to_owned()], 0));
}

#[test]
fn the_reader_has_one_turn_before_something_is_lost() {
    let mut ends = ends(2);
    let id = ends.subscribe(Overflow::DropOldest);
    assert!(ends.send(message(Some(id), "a")) && ends.send(message(Some(id), "b")));
    let waker = Waker::from(ends.driver.clone());
    let mut sending = Box::pin(ends.sender.send(message(Some(id), "c"), pause));
    assert!(sending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!((ends.driver.rung(), ends.events.dropped()), (1, 0));
    assert_eq!(brief(ends.events.try_next()), "a");
    assert!(sending.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    assert_eq!(ends.events.dropped(), 0);
    drop(sending);
    // He does not use it: then no more time is lost with him.
    ends.push(message(Some(id), "d"));
    assert!(ends.send(message(Some(id), "e")) && ends.send(message(Some(id), "f")));
    assert_eq!(ends.events.dropped(), 3);
    let told: Vec<_> = (0..4).map(|_| brief(ends.events.try_next())).collect();
    assert_eq!(told, ["lost 3 false", "e", "f", "none"]);
}

#[test]
fn close_ends_the_subscription_for_all() {
    let mut ends = ends(1);
    let id = ends.subscribe(Overflow::Close);
    assert_eq!(ends.subscribe(Overflow::Close), id, "two references");
    ends.push(message(Some(id), "a"));
    assert!(ends.client.unsubscribe(id), "it is there");
    ends.push(message(Some(id), "b"));
    assert!(!ends.client.unsubscribe(id), "it is gone");
    let told: Vec<_> = (0..3).map(|_| brief(ends.events.try_next())).collect();
    assert_eq!(told, ["a", "lost 1 true", "none"]);
    assert_ne!(ends.subscribe(Overflow::Close), id, "it can be made anew");
}

#[test]
fn who_drops_the_events_frees_a_driver_that_waits() {
    let Ends { client, events, mut sender, driver, .. } = ends(1);
    let waker = Waker::from(driver.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(std::pin::pin!(sender.send(message(None, "a"), pause)).poll(&mut cx).is_ready());
    let mut sending = Box::pin(sender.send(message(None, "b"), pause));
    assert!(sending.as_mut().poll(&mut cx).is_pending());
    drop(events);
    assert_eq!(driver.rung(), 1);
    assert!(sending.as_mut().poll(&mut cx).is_ready());
    drop(sending);
    assert!(sender.is_closed());
    assert_ne!(client.state(), Standing::Closed, "a client keeps the session");
    let shared = sender.shared.clone();
    drop(client);
    assert_eq!(shared.lock().session.state(), Standing::Closed, "the last handle does not");
}

#[test]
fn a_reader_that_never_waits_lets_others_have_their_turn() {
    let mut ends = ends(1000);
    (0..1000).for_each(|n| assert!(ends.send(message(None, &n.to_string()))));
    let (mut told, mut pauses) = (0, 0);
    while told < 1000 {
        match ends.poll() {
            Poll::Ready(text) => {
                assert_eq!(text, told.to_string());
                told += 1;
            }
            Poll::Pending => {
                assert_eq!(ends.reader.rung(), 1, "it asks to be polled again");
                pauses += 1;
            }
        }
    }
    assert_eq!(pauses, 1000 / TURN);
}

#[test]
fn a_thread_may_wait_for_events() {
    let Ends { client, mut events, mut sender, .. } = ends(1);
    assert_eq!(events.next_blocking(Some(Duration::ZERO)).unwrap_err(), TimedOut);
    let reader = std::thread::spawn(move || events.blocking().map(|event| brief(Some(event))).collect());
    // A driver without a runtime parks its thread.
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    for n in 0..500 {
        let mut sending = std::pin::pin!(sender.send(message(None, &n.to_string()), pause));
        while sending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            std::thread::park();
        }
    }
    drop(sender);
    let told: Vec<String> = reader.join().unwrap();
    assert_eq!(told, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    drop(client);
}
