//! Handles without a runtime: nobody waits for a reader, events move between tasks and threads, threads have their deadlines, and the last
//! handle that goes lets out what was accepted.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "threads that wait are what is tested, by a clock that goes on"
)]

mod common;
mod desk;
mod venue;

use common::*;
use desk::*;
use everwire_core::handle::Offered;
use everwire_core::{
    Client, CloseCode, CloseOptions, Message, OwnedEvent, Pressure, Request, RequestError, SendError,
    SendOptions, State, Unanswered,
};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use venue::Venue;

type Call = (&'static str, fn(&Client));

#[test]
fn no_call_waits_for_a_reader() {
    ends(|| {
        let mut desk = Desk::at(State::Online);
        let mut events = desk.events.take().unwrap();
        while events.try_next().is_some() {}
        let (client, bell) = (desk.guest(), desk.bell.clone());
        let calls: [Call; 9] = [
            ("send", |client| _ = client.send("x").unwrap()),
            ("request", |client| _ = client.request(Request::new("m")).id().unwrap()),
            ("batch", |client| drop(client.request_batch(&[Request::new("m")], hold()))),
            ("notify", |client| assert!(client.notify(Request::new("m"), SendOptions::default()).is_err())),
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
            for (name, call) in &calls[..if parked { 9 } else { 6 }] {
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

#[test]
fn events_move_between_tasks_and_threads() {
    ends(|| {
        for round in 0..50 {
            let mut desk = Desk::new(terms().event_buffer(1 + round % 5), virtual_now);
            let mut events = desk.events.take().unwrap();
            let mut sender = desk.sender.take().unwrap();
            let driver = std::thread::spawn(move || {
                for n in 0..300 {
                    let mut event = Some(numbered(n));
                    block_on(std::future::poll_fn(|cx| match sender.offer(cx, &mut event, true) {
                        Offered::Taken => Poll::Ready(()),
                        Offered::Full | Offered::Loses => Poll::Pending,
                    }));
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
    assert_eq!((error, unsent), (report.error, report.unsent));
}
