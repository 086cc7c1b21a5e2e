//! The inline driver: its futures may be dropped at any time, and handles work while an event is borrowed.

use everwire_core::{
    Client, CloseCode, Event, JsonRpc, Message, OnDisconnect, OwnedEvent, Request, RequestOptions, State,
};
use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{MockServer, unblock};
use everwire_tests::{
    Driver, Runtime, SOON, Scene, bounded, config_for, driving, next_inline, no_messages, noise, scenarios,
    timeout,
};
use smol::future::{or, yield_now};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

scenarios! {
    a_future_that_is_polled_once_and_dropped_loses_nothing,
    select_loses_nothing,
    timeout_loses_nothing,
    handles_work_while_an_event_is_borrowed,
    closing_while_an_event_is_borrowed,
}

const COUNT: usize = 2_000;

/// Message number `n`: mostly short, some longer than the receive buffer.
fn numbered(n: usize) -> Vec<u8> {
    let len = if n % 100 == 99 { 150_000 } else { n % 300 };
    [&n.to_be_bytes()[..], &noise(n as u64, len)].concat()
}

/// Echoes messages one by one through a driver whose future is dropped by `turn` again and again, from the TCP connect to
/// the close.
async fn nothing_is_lost<R: Runtime>(
    scene: &Scene<R>,
    server: MockServer,
    mut turn: impl AsyncFnMut(&mut Driver<R>) -> Option<Option<OwnedEvent>>,
) {
    let mut driver = scene.driver(config_for(&server).recv_buffer(64 << 10));
    let client = driver.client();
    let (mut sent, mut received, mut online, mut turns) = (0, 0, 0, 0_u64);
    let run = async {
        loop {
            while client.state() == State::Online && sent < COUNT && client.send(&numbered(sent)[..]).is_ok()
            {
                sent += 1;
            }
            turns += 1;
            match turn(&mut driver).await {
                None => {}
                Some(None) => break,
                Some(Some(OwnedEvent::Message { message, .. })) => {
                    assert!(message.into_data() == numbered(received), "echo {received} differs");
                    received += 1;
                    if received == COUNT {
                        client.close(CloseCode::Normal, "");
                    }
                }
                Some(Some(OwnedEvent::Online { .. })) => online += 1,
                Some(Some(OwnedEvent::Closed { error, .. })) => assert_eq!(error, None),
                Some(Some(event)) => panic!("{event:?}"),
            }
        }
    };
    bounded("all the echoes", run).await;
    assert_eq!((sent, received, online), (COUNT, COUNT, 1));
    assert!(turns > COUNT as u64);
    assert_eq!(server.last().unwrap().received_total(), COUNT as u64 + 1, "and a close frame");
}

/// Polls once, and drops the future that is not ready.
async fn one_poll<R: Runtime>(driver: &mut Driver<R>) -> Option<Option<OwnedEvent>> {
    yield_now().await;
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(driver.next()).poll(&mut cx) {
        Poll::Ready(event) => Some(event),
        Poll::Pending => None,
    }
}

fn echo() -> everwire_testing::MockServerBuilder {
    MockServer::builder().handler(|conn, message| conn.send(message))
}

async fn a_future_that_is_polled_once_and_dropped_loses_nothing(scene: &Scene<impl Runtime>) {
    nothing_is_lost(scene, echo().start(), one_poll).await;
    nothing_is_lost(scene, echo().tls().start(), one_poll).await;
}

async fn select_loses_nothing<R: Runtime>(scene: &Scene<R>) {
    for server in [echo().start(), echo().tls().start()] {
        let mut n = 0_u32;
        let select = async |driver: &mut Driver<R>| {
            n += 1;
            let others = async {
                for _ in 0..n % 4 {
                    yield_now().await;
                }
                None
            };
            or(async { Some(driver.next().await) }, others).await
        };
        nothing_is_lost(scene, server, select).await;
    }
}

async fn timeout_loses_nothing<R: Runtime>(scene: &Scene<R>) {
    let mut n = 0_u64;
    let timeout = async |driver: &mut Driver<R>| {
        n += 1;
        let time = Duration::from_micros(n * 37 % 1_500);
        timeout(time, driver.next()).await.ok()
    };
    nothing_is_lost(scene, echo().start(), timeout).await;
}

/// All that a handle can do, except to end the session.
fn use_handle(client: &Client, n: usize) {
    client.send(&format!(r#"{{"note":{n}}}"#)).unwrap();
    assert_eq!(client.state(), State::Online);
    assert_eq!(client.status().epoch.as_u64(), 1);
    assert_eq!(client.stats().connections, 1);
    let topic = client.subscribe("other");
    assert!(client.unsubscribe(topic));
    let options = RequestOptions { on_disconnect: OnDisconnect::Hold, ..RequestOptions::default() };
    drop(client.request_with(Request::new("cancelled"), options));
}

async fn handles_work_while_an_event_is_borrowed(scene: &Scene<impl Runtime>) {
    // The venue answers to what is no request, and it is up to chance how much of that comes in time.
    scene.log_as(no_messages);
    let venue = JsonRpcVenue::new();
    let server = MockServer::builder().venue(&venue).start();
    let protocol = JsonRpc::new().methods("public/subscribe", "public/unsubscribe");
    let mut driver = scene.driver(config_for(&server).protocol(protocol));
    let client = driver.client();
    client.subscribe("a");

    // An event of the queue.
    let subscribed = |event: Event<'_>| {
        assert!(matches!(event, Event::Subscribed { topic: "a", .. }), "{event:?}");
    };
    bounded("Subscribed", driver.look(subscribed)).await.unwrap();
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    venue.publish("a", serde_json::json!({"price": 42}));

    // A message, which lies in the buffer.
    let message = |event: Event<'_>| {
        let Event::Message { message: Message::Text(text), .. } = &event else { panic!("{event:?}") };
        let before = (*text).to_owned();
        use_handle(&client, 1);
        // From another thread too: nobody holds the lock.
        let other = client.clone();
        std::thread::spawn(move || use_handle(&other, 2)).join().unwrap();
        assert_eq!(*text, before, "what is borrowed stays as it is");
        assert!(before.contains("42"));
    };
    bounded("a message", driver.look(message)).await.unwrap();

    let conn = server.last().unwrap();
    let arrival = unblock(move || {
        conn.expect_text(r#"{"note":1}"#, SOON)?;
        conn.expect_text(r#"{"note":2}"#, SOON)
    });
    driving(&mut driver, "what was sent", arrival).await.0.unwrap();
}

/// The whole session may be dropped with an event of it in use by nobody, and closed while one is in use.
async fn closing_while_an_event_is_borrowed(scene: &Scene<impl Runtime>) {
    let server = MockServer::builder().on_connect(|conn, _| conn.send_text("hello")).start();
    let mut driver = scene.driver(config_for(&server));
    let client = driver.client();
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let message = |event: Event<'_>| {
        client.close(CloseCode::Normal, "");
        assert!(matches!(event, Event::Message { message: Message::Text("hello"), .. }));
    };
    bounded("a message", driver.look(message)).await.unwrap();
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Closed { error: None, .. }));
    assert!(bounded("the end", driver.next()).await.is_none());
    assert!(bounded("the end again", driver.next()).await.is_none(), "it stays over");
}
