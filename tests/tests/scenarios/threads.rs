//! Handles in other threads and tasks, while the session's waits: whatever they do wakes it at once.

use everwire_core::{
    CloseCode, JsonRpc, OwnedEvent, Request, RequestError, RequestOptions, SendError, State, Unanswered,
};
use everwire_testing::{ConnectionEnd, HandshakeFault, Message, MockServer, MockServerBuilder, unblock};
use everwire_tests::{
    Runtime, SOON, Scene, bounded, closed, config_for, driving, lost, message, next, next_inline, noise,
    online, scenarios,
};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

scenarios! {
    a_send_wakes_a_parked_driver,
    a_send_wakes_a_parked_session,
    a_deadline_that_comes_before_the_one_that_is_waited_for,
    reconnect_cuts_the_wait,
    close_wakes_a_parked_driver,
    close_wakes_a_parked_session,
    many_threads_send,
    events_move_between_tasks_and_threads,
    whoever_waits_for_room_is_told_of_the_end,
    what_was_sent_goes_out_before_the_close,
}

/// So much earlier than anything that a waiting session wakes up for by itself.
const AT_ONCE: Duration = Duration::from_secs(5);

const ROUNDS: u64 = 40;

fn echo() -> MockServerBuilder {
    MockServer::builder().handler(|conn, message| conn.send(message))
}

/// Calls `act` for each number that is sent to it, a little later: sometimes before the session's thread sleeps, mostly after.
fn later(mut act: impl FnMut(u64) + Send + 'static) -> mpsc::Sender<u64> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for n in receiver {
            thread::sleep(Duration::from_micros(n % 8 * 400));
            act(n);
        }
    });
    sender
}

async fn a_send_wakes_a_parked_driver(scene: &Scene<impl Runtime>) {
    let server = echo().start();
    let mut driver = scene.driver(config_for(&server).ping_interval(None));
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let client = driver.client();
    let send = later(move |n| _ = client.send(&n.to_string()).unwrap());
    let begun = Instant::now();
    for n in 0..ROUNDS {
        send.send(n).unwrap();
        let event = next_inline(&mut driver).await;
        let OwnedEvent::Message { message, .. } = event else { panic!("{event:?}") };
        assert_eq!(message, Message::text(n.to_string()));
    }
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

async fn a_send_wakes_a_parked_session(scene: &Scene<impl Runtime>) {
    let server = echo().start();
    let (client, mut events) = scene.connect(config_for(&server).ping_interval(None));
    online(&mut events).await;
    let send = later(move |n| _ = client.send(&n.to_string()).unwrap());
    let begun = Instant::now();
    for n in 0..ROUNDS {
        send.send(n).unwrap();
        assert_eq!(message(&mut events).await, Message::text(n.to_string()));
    }
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

/// The session sleeps until its next ping, in half a minute, when a thread makes a request that has less time.
async fn a_deadline_that_comes_before_the_one_that_is_waited_for(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let config = config_for(&server).protocol(JsonRpc::new()).ping_interval(Duration::from_secs(30));
    let mut driver = scene.driver(config);
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let client = driver.client();
    for time in [150, 100, 50].map(Duration::from_millis) {
        let client = client.clone();
        let (sender, receiver) = mpsc::channel();
        let request = later(move |_| {
            let options = RequestOptions { timeout: Some(time), ..RequestOptions::default() };
            let _ = sender.send((Instant::now(), client.request_with(Request::new("hang"), options)));
        });
        request.send(5).unwrap();
        let answer = unblock(move || receiver.recv().unwrap());
        let answer = async {
            let (begun, answer) = answer.await;
            (answer.await, begun.elapsed())
        };
        let ((outcome, took), events) = driving(&mut driver, "the end of a request", answer).await;
        assert_eq!(outcome, Err(RequestError::SentUnknown(Unanswered::Timeout)));
        assert!((time..AT_ONCE).contains(&took), "{took:?} for {time:?}");
        assert!(events.is_empty(), "{events:?}");
    }
}

async fn reconnect_cuts_the_wait(scene: &Scene<impl Runtime>) {
    let busy = HandshakeFault::status_with(503, &[("Retry-After", "0")], "");
    let server = echo().handshake_for(1, busy).start();
    let config = config_for(&server).backoff(Duration::from_secs(60), Duration::from_secs(60));
    let (client, mut events) = scene.connect(config);
    let begun = Instant::now();
    let event = next(&mut events).await;
    assert!(matches!(event, OwnedEvent::AttemptFailed { retry_at: Some(_), .. }), "{event:?}");
    later(move |_| client.reconnect()).send(5).unwrap();
    online(&mut events).await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

fn client_closed(server: &MockServer) -> CloseCode {
    match server.last().unwrap().wait_end(SOON).unwrap() {
        ConnectionEnd::Closed { by_server: false, frame: Some(frame) } => frame.code,
        end => panic!("{end}"),
    }
}

async fn close_wakes_a_parked_driver(scene: &Scene<impl Runtime>) {
    let server = echo().start();
    let mut driver = scene.driver(config_for(&server).ping_interval(None));
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let client = driver.client();
    let begun = Instant::now();
    later(move |_| client.close(CloseCode::Away, "")).send(7).unwrap();
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Closed { error: None, .. }));
    assert!(bounded("the end", driver.next()).await.is_none());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(client_closed(&server), CloseCode::Away);
}

async fn close_wakes_a_parked_session(scene: &Scene<impl Runtime>) {
    let server = echo().start();
    let (client, mut events) = scene.connect(config_for(&server).ping_interval(None));
    online(&mut events).await;
    let begun = Instant::now();
    later(move |_| client.close(CloseCode::Away, "")).send(7).unwrap();
    assert_eq!(closed(&mut events).await, None);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(client_closed(&server), CloseCode::Away);
}

/// Each thread's messages arrive, and in its order.
async fn many_threads_send(scene: &Scene<impl Runtime>) {
    const THREADS: usize = 8;
    const EACH: usize = 200;
    scene.log_as(everwire_tests::no_messages);
    let server = echo().start();
    let (client, mut events) = scene.connect(config_for(&server));
    online(&mut events).await;
    for thread in 0..THREADS {
        let client = client.clone();
        thread::spawn(move || {
            for n in 0..EACH {
                client.send(&format!("{thread} {n}")).unwrap();
            }
        });
    }
    let mut arrived = [0; THREADS];
    for _ in 0..THREADS * EACH {
        let message = message(&mut events).await;
        let (thread, n) = message.to_text().unwrap().split_once(' ').unwrap();
        let arrived = &mut arrived[thread.parse::<usize>().unwrap()];
        assert_eq!(n.parse::<usize>().unwrap(), *arrived, "of thread {thread}");
        *arrived += 1;
    }
    assert_eq!(arrived, [EACH; THREADS]);
    assert_eq!(client.stats().messages_sent, (THREADS * EACH) as u64);
}

/// Another one reads on after each few messages: this task, one in the background, a thread that blocks.
async fn events_move_between_tasks_and_threads(scene: &Scene<impl Runtime>) {
    const COUNT: usize = 900;
    const EACH: usize = 30;
    let server = MockServer::builder()
        .on_connect(|conn, _| (0..COUNT).for_each(|n| conn.send_text(n.to_string())))
        .start();
    let (_client, mut events) = scene.connect(config_for(&server).event_buffer(50));
    online(&mut events).await;
    for turn in 0..COUNT / EACH {
        let want = turn * EACH..(turn + 1) * EACH;
        let (sender, back) = mpsc::channel();
        match turn % 3 {
            0 => {
                for n in want {
                    assert_eq!(message(&mut events).await, Message::text(n.to_string()));
                }
                continue;
            }
            1 => scene.background(async move {
                for n in want {
                    assert_eq!(message(&mut events).await, Message::text(n.to_string()));
                }
                let _ = sender.send(events);
            }),
            _ => {
                let _ = thread::spawn(move || {
                    for n in want {
                        let Some(OwnedEvent::Message { message, .. }) = events.next_blocking() else {
                            panic!()
                        };
                        assert_eq!(message, Message::text(n.to_string()));
                    }
                    let _ = sender.send(events);
                });
            }
        }
        events = bounded("the events", unblock(move || back.recv())).await.unwrap();
    }
}

/// Of the end of the connection, of the session, and of the driver.
async fn whoever_waits_for_room_is_told_of_the_end(scene: &Scene<impl Runtime>) {
    // What waits is up to chance.
    scene.log_nothing();
    let server = MockServer::start();
    let config = || config_for(&server).send_buffer(64 << 10).ping_interval(None);
    let block = noise(7, 60_000);
    let fill = |client: &everwire_core::Client| {
        server.last().unwrap().stall(true);
        let begun = Instant::now();
        // Until the operating system takes nothing either.
        let mut full = 0;
        while full < 100 {
            match client.send(&block[..]) {
                Ok(_) => full = 0,
                Err(SendError::Full) => {
                    full += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
            assert!(begun.elapsed() < SOON, "it is never full");
        }
    };

    let (client, mut events) = scene.connect(config());
    online(&mut events).await;
    fill(&client);
    let waiting = client.clone();
    let writable = async move { waiting.writable().await };
    server.last().unwrap().kill();
    bounded("the end of a connection", writable).await;
    lost(&mut events).await;
    online(&mut events).await;

    fill(&client);
    let (waiting, closing) = (client.clone(), client.clone());
    later(move |_| closing.close(CloseCode::Normal, "")).send(3).unwrap();
    bounded("the end of a session", waiting.writable()).await;
    assert_eq!(client.send("late"), Err(SendError::Closed));
}

/// As much as sockets do not hold, so that the close waits for the server to read.
async fn what_was_sent_goes_out_before_the_close(scene: &Scene<impl Runtime>) {
    const COUNT: u64 = 12;
    let server = MockServer::start();
    let (client, mut events) = scene.connect(config_for(&server).send_buffer(32 << 20));
    online(&mut events).await;
    let conn = server.last().unwrap();
    conn.stall(true);
    for n in 0..COUNT {
        client.send(&noise(n, 1 << 20)[..]).unwrap();
    }
    client.close(CloseCode::Normal, "");
    assert_eq!(client.state(), State::Closing);
    conn.stall(false);
    assert_eq!(closed(&mut events).await, None);
    for n in 0..COUNT {
        let got = conn.next_message(SOON).unwrap().into_data();
        assert!(got == noise(n, 1 << 20), "message {n}");
    }
    assert_eq!(client_closed(&server), CloseCode::Normal);
}
