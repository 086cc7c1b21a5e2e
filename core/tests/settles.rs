//! Whatever is awaited ends, whatever state the session is in, and however it comes to its end: with the result that is true, and everybody
//! who waits is woken. No runtime: futures are polled by hand, and wakers count.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "threads that wait are what is tested")]

mod common;
mod desk;
mod venue;

use common::*;
use desk::*;
use everwire_core::{
    CloseOptions, Drain, OwnedEvent, Request, RequestError, RequestOptions, SendError, State, TimedOut,
};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

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

/// The last event but `None`.
fn last_in_words(last: Option<OwnedEvent>) -> String {
    match last {
        Some(OwnedEvent::Closed { error, .. }) => told_in_words(error.as_ref()),
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
