//! The inline driver: its futures may be dropped at any time, and handles work while an event is borrowed.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{MockServer, unblock};
use everwire_tests::{SOON, bounded, config_for, driving, noise};
use everwire_tokio::{
    Client, CloseCode, Driver, Event, JsonRpc, Message, OnDisconnect, OwnedEvent, Request, RequestOptions,
    State,
};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const COUNT: usize = 2_000;

/// Message number `n`: mostly short, some longer than the receive buffer.
fn numbered(n: usize) -> Vec<u8> {
    let len = if n % 100 == 99 { 150_000 } else { n % 300 };
    [&n.to_be_bytes()[..], &noise(n as u64, len)].concat()
}

/// Echoes messages one by one through a driver whose future is dropped by `turn` again and again, from the TCP connect to
/// the close.
async fn nothing_is_lost(
    server: MockServer,
    mut turn: impl AsyncFnMut(&mut Driver) -> Option<Option<OwnedEvent>>,
) {
    let mut driver = Driver::new(config_for(&server).recv_buffer(64 << 10)).unwrap();
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
async fn one_poll(driver: &mut Driver) -> Option<Option<OwnedEvent>> {
    tokio::task::yield_now().await;
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(driver.next()).poll(&mut cx) {
        Poll::Ready(event) => Some(event.map(|event| event.to_owned())),
        Poll::Pending => None,
    }
}

fn echo() -> everwire_testing::MockServerBuilder {
    MockServer::builder().handler(|conn, message| conn.send(message))
}

#[tokio::test]
async fn a_future_that_is_polled_once_and_dropped_loses_nothing() {
    nothing_is_lost(echo().start(), one_poll).await;
    nothing_is_lost(echo().tls().start(), one_poll).await;
}

#[tokio::test]
async fn select_loses_nothing() {
    for server in [echo().start(), echo().tls().start()] {
        let mut n = 0_u32;
        let select = async |driver: &mut Driver| {
            n += 1;
            let others = async {
                for _ in 0..n % 4 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                event = driver.next() => Some(event.map(|event| event.to_owned())),
                () = others => None,
            }
        };
        nothing_is_lost(server, select).await;
    }
}

#[tokio::test]
async fn timeout_loses_nothing() {
    let mut n = 0_u64;
    let timeout = async |driver: &mut Driver| {
        n += 1;
        let time = Duration::from_micros(n * 37 % 1_500);
        let event = tokio::time::timeout(time, driver.next()).await;
        event.ok().map(|event| event.map(|event| event.to_owned()))
    };
    nothing_is_lost(echo().start(), timeout).await;
}

fn rpc(server: &MockServer) -> Driver {
    let protocol = JsonRpc::new().methods("public/subscribe", "public/unsubscribe");
    Driver::new(config_for(server).protocol(protocol)).unwrap()
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

#[tokio::test]
async fn handles_work_while_an_event_is_borrowed() {
    let venue = JsonRpcVenue::new();
    let server = MockServer::builder().venue(&venue).start();
    let mut driver = rpc(&server);
    let client = driver.client();
    client.subscribe("a");

    // An event of the queue.
    let online = bounded("Online", async {
        loop {
            match driver.next().await {
                Some(event @ Event::Online { .. }) => break event.to_owned(),
                Some(Event::Subscribed { topic, .. }) => assert_eq!(topic, "a"),
                event => panic!("{event:?}"),
            }
        }
    });
    assert!(matches!(online.await, OwnedEvent::Online { .. }));
    venue.publish("a", serde_json::json!({"price": 42}));

    // A message, which lies in the buffer.
    let event = bounded("a message", driver.next()).await.unwrap();
    let Event::Message { message: Message::Text(text), .. } = &event else { panic!("{event:?}") };
    let before = (*text).to_owned();
    use_handle(&client, 1);
    // From another thread too: nobody holds the lock.
    let other = client.clone();
    std::thread::spawn(move || use_handle(&other, 2)).join().unwrap();
    assert_eq!(*text, before, "what is borrowed stays as it is");
    assert!(before.contains("42"));

    let conn = server.last().unwrap();
    let arrival = unblock(move || {
        conn.expect_text(r#"{"note":1}"#, SOON)?;
        conn.expect_text(r#"{"note":2}"#, SOON)
    });
    driving(&mut driver, "what was sent", arrival).await.0.unwrap();
}

/// The whole session may be dropped with an event of it in use by nobody, and closed while one is in use.
#[tokio::test]
async fn closing_while_an_event_is_borrowed() {
    let server = MockServer::builder().on_connect(|conn, _| conn.send_text("hello")).start();
    let mut driver = Driver::new(config_for(&server)).unwrap();
    let client = driver.client();
    assert!(matches!(bounded("Online", driver.next()).await, Some(Event::Online { .. })));
    let event = bounded("a message", driver.next()).await.unwrap();
    client.close(CloseCode::Normal, "");
    assert!(matches!(event, Event::Message { message: Message::Text("hello"), .. }));
    let last = bounded("Closed", driver.next()).await.map(|event| event.to_owned());
    assert!(matches!(last, Some(OwnedEvent::Closed { error: None, .. })), "{last:?}");
    assert!(bounded("the end", driver.next()).await.is_none());
    assert!(bounded("the end again", driver.next()).await.is_none(), "it stays over");
}
