//! The way in and the way out: handshakes as they go well and badly, closing from both sides.

use everwire_core::ws::handshake::HandshakeError;
use everwire_core::{CloseCode, Closed, Config, Error, Event, OwnedEvent, SendError, State};
use everwire_testing::{ConnectionEnd, HandshakeFault, Message, MockServer, unblock};
use everwire_tests::{
    Runtime, SOON, Scene, bounded, closed, config_for, drive_until, driving, message, next, next_inline,
    online, scenarios, until,
};
use std::time::{Duration, Instant};

scenarios! {
    inline_from_connect_to_close,
    spawned_from_connect_to_close,
    frames_in_the_segment_of_the_response_are_not_lost,
    a_redirect_is_followed,
    redirects_in_a_circle_end,
    retry_after_is_obeyed,
    handshakes_that_break_are_tried_again,
    a_path_that_is_not_there_ends_the_session,
    the_servers_close_is_answered_and_told,
    a_close_without_a_code,
    a_server_that_does_not_answer_the_close_is_left,
    small_messages_are_not_held_back,
    pings_of_the_server_are_answered,
}

fn echo() -> everwire_testing::MockServerBuilder {
    MockServer::builder().handler(|conn, message| conn.send(message))
}

fn config_with_everything(server: &MockServer) -> Config {
    let config = Config::new(&server.url_of("/feed/v2?depth=5&raw=%20")).unwrap();
    config.header("X-Client", "recorder").unwrap().subprotocols(["none", "two", "one"]).unwrap()
}

/// What the server saw of [`config_with_everything`].
fn check_request(server: &MockServer) {
    let conn = server.wait_connection(0, SOON).unwrap();
    assert_eq!(conn.path(), "/feed/v2?depth=5&raw=%20");
    assert_eq!(conn.header("x-client"), Some("recorder"));
    assert_eq!(conn.header("host"), Some(&*server.addr().to_string()));
    assert_eq!(conn.header("sec-websocket-version"), Some("13"));
    assert_eq!(
        conn.header("sec-websocket-protocol").map(|p| p.replace(' ', "")),
        Some("none,two,one".to_owned())
    );
    assert_eq!(conn.header("sec-websocket-extensions"), None, "compression is off by default");
}

fn client_closed(server: &MockServer) -> (u16, String) {
    match server.wait_connection(0, SOON).unwrap().wait_end(SOON).unwrap() {
        ConnectionEnd::Closed { by_server: false, frame: Some(frame) } => {
            (frame.code.into(), frame.reason.to_string())
        }
        end => panic!("{end}"),
    }
}

async fn inline_from_connect_to_close(scene: &Scene<impl Runtime>) {
    let server = echo().subprotocol("one").subprotocol("two").response_header("X-Server", "here").start();
    let mut driver = scene.driver(config_with_everything(&server));
    let client = driver.client();
    assert_eq!((client.state(), client.send("too early")), (State::Idle, Err(SendError::Offline)));
    let online = |event: Event<'_>| match event {
        Event::Online { epoch, resumed: false, headers } => {
            assert_eq!((epoch.as_u64(), headers.subprotocol()), (1, Some("one")));
            assert_eq!(headers.first("x-server"), Some("here"));
        }
        event => panic!("{event:?}"),
    };
    bounded("Online", driver.look(online)).await.unwrap();
    check_request(&server);
    let binary: &[u8] = &[0, 255, 1];
    assert_eq!(client.send("hello").unwrap().as_u64(), 1);
    assert_eq!(client.send(binary).unwrap().as_u64(), 2);
    client.send("").unwrap();
    for expected in [everwire_core::Message::Text("hello"), binary.into(), "".into()] {
        let echo = |event: Event<'_>| match event {
            Event::Message { message, epoch, subscription: None } => {
                assert_eq!((message, epoch.as_u64()), (expected, 1));
            }
            event => panic!("{event:?}"),
        };
        bounded("an echo", driver.look(echo)).await.unwrap();
    }
    client.close(CloseCode::from(4001), "enough");
    assert_eq!(client.send("too late"), Err(SendError::Closed));
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Closed { error: None, .. }));
    assert!(bounded("the end", driver.next()).await.is_none());
    assert_eq!(client_closed(&server), (4001, "enough".to_owned()));
    let stats = client.stats();
    assert_eq!((stats.messages_sent, stats.messages_received, stats.connections), (3, 3, 1));
}

async fn spawned_from_connect_to_close(scene: &Scene<impl Runtime>) {
    let server = echo().subprotocol("two").start();
    let (client, mut events) = scene.connect(config_with_everything(&server));
    match next(&mut events).await {
        OwnedEvent::Online { epoch, resumed: false, headers } => {
            assert_eq!((epoch.as_u64(), headers.subprotocol()), (1, Some("two")));
        }
        event => panic!("{event:?}"),
    }
    check_request(&server);
    for n in 0..100 {
        client.send(&format!("message {n}")).unwrap();
    }
    for n in 0..100 {
        assert_eq!(message(&mut events).await, Message::text(format!("message {n}")));
    }
    client.close(CloseCode::Normal, "");
    assert_eq!(closed(&mut events).await, None);
    assert_eq!(client_closed(&server), (1000, String::new()));
    assert_eq!(client.state(), State::Closed);
}

async fn frames_in_the_segment_of_the_response_are_not_lost(scene: &Scene<impl Runtime>) {
    for builder in [MockServer::builder(), MockServer::builder().tls()] {
        let first: Vec<_> = (0..50).map(|n| Message::text(format!("first {n}"))).collect();
        let server = builder.first_frames_with_response(first.clone()).start();
        let (_client, mut events) = scene.connect(config_for(&server));
        assert!(matches!(next(&mut events).await, OwnedEvent::Online { .. }), "Online comes before messages");
        for expected in first {
            assert_eq!(message(&mut events).await, expected);
        }
    }
}

async fn a_redirect_is_followed(scene: &Scene<impl Runtime>) {
    let goal = echo().start();
    let redirect = HandshakeFault::Redirect { status: 307, location: goal.url_of("/there?x=1") };
    let first = MockServer::builder().handshake(redirect).start();
    let (client, mut events) = scene.connect(config_for(&first));
    online(&mut events).await;
    assert_eq!(goal.last().unwrap().path(), "/there?x=1");
    assert_eq!((first.attempts(), goal.attempts()), (1, 1));
    client.send("arrived").unwrap();
    assert_eq!(message(&mut events).await, Message::text("arrived"));
}

async fn redirects_in_a_circle_end(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    server.set_handshake(Some(HandshakeFault::Redirect { status: 302, location: "/again".to_owned() }));
    let (_client, mut events) = scene.connect(config_for(&server).max_redirects(3));
    assert_eq!(closed(&mut events).await, Some(Error::TooManyRedirects { max: 3 }));
    assert_eq!(server.attempts(), 4);
}

async fn retry_after_is_obeyed(scene: &Scene<impl Runtime>) {
    let busy = HandshakeFault::status_with(503, &[("Retry-After", "1")], "busy");
    let server = echo().handshake_for(1, busy).start();
    let begin = Instant::now();
    let (client, mut events) = scene.connect(config_for(&server));
    match next(&mut events).await {
        OwnedEvent::AttemptFailed {
            failures: 1,
            error: Error::Handshake(HandshakeError::Refused(refused)),
            retry_at,
        } => {
            assert_eq!((refused.status, &*refused.body), (503, &b"busy"[..]));
            assert!(retry_at.unwrap() >= begin + Duration::from_secs(1));
        }
        event => panic!("{event:?}"),
    }
    assert_eq!(client.state(), State::Backoff);
    assert_eq!(online(&mut events).await.as_u64(), 1);
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(server.attempts(), 2);
}

async fn handshakes_that_break_are_tried_again(scene: &Scene<impl Runtime>) {
    let server = echo()
        .handshake_for(1, HandshakeFault::Reset)
        .handshake_for(1, HandshakeFault::WrongAccept)
        .handshake_for(1, HandshakeFault::status(502))
        .handshake_for(1, HandshakeFault::Raw(b"HTTP/1.1 101 Switch".to_vec()))
        .handshake_for(1, HandshakeFault::Silent)
        .start();
    let (_client, mut events) =
        scene.connect(config_for(&server).handshake_timeout(Duration::from_millis(300)));
    for n in 1..=5 {
        let event = next(&mut events).await;
        let failed =
            matches!(&event, OwnedEvent::AttemptFailed { failures, retry_at: Some(_), .. } if *failures == n);
        assert!(failed, "{event:?}");
    }
    online(&mut events).await;
}

async fn a_path_that_is_not_there_ends_the_session(scene: &Scene<impl Runtime>) {
    let server = MockServer::builder().handshake(HandshakeFault::status(404)).start();
    let (_client, mut events) = scene.connect(config_for(&server));
    let error = closed(&mut events).await.unwrap();
    assert!(
        matches!(&error, Error::Handshake(HandshakeError::Refused(refused)) if refused.status == 404),
        "{error:?}"
    );
    assert_eq!(server.attempts(), 1);
}

async fn the_servers_close_is_answered_and_told(scene: &Scene<impl Runtime>) {
    for (code, reason) in
        [(1000, "bye"), (1001, "going away"), (1008, "policy"), (1011, "trouble"), (4000, "\u{e9}t\u{e9}")]
    {
        let server = MockServer::start();
        let (_client, mut events) = scene.connect(config_for(&server));
        online(&mut events).await;
        let conn = server.last().unwrap();
        conn.send_text("the last word");
        conn.close(code, reason);
        assert_eq!(message(&mut events).await, Message::text("the last word"));
        let begin = Instant::now();
        let lost = |event: &OwnedEvent| match event {
            OwnedEvent::Lost { error, retry_at, unsent, .. } => {
                Some((error.clone(), *retry_at, unsent.count()))
            }
            _ => None,
        };
        let ((error, retry_at, unsent), _) = until(&mut events, "Lost", lost).await;
        assert_eq!(error, Error::Closed(Closed { code: code.into(), reason: reason.to_owned() }));
        assert_eq!(unsent, 0);
        let ConnectionEnd::Closed { by_server: true, frame: Some(frame) } = conn.wait_end(SOON).unwrap()
        else {
            panic!()
        };
        assert_eq!(u16::from(frame.code), code, "the code is sent back");
        if code == 1008 {
            assert!(retry_at.unwrap() > begin + Duration::from_secs(9), "who broke a policy had better wait");
        } else {
            assert_eq!(online(&mut events).await.as_u64(), 2);
        }
    }
}

async fn a_close_without_a_code(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (_client, mut events) = scene.connect(config_for(&server));
    online(&mut events).await;
    let conn = server.last().unwrap();
    conn.close_without_code();
    assert_eq!(
        everwire_tests::lost(&mut events).await,
        Error::Closed(Closed { code: CloseCode::Status, reason: String::new() })
    );
    assert_eq!(conn.wait_end(SOON).unwrap(), ConnectionEnd::Closed { by_server: true, frame: None });
}

async fn a_server_that_does_not_answer_the_close_is_left(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (client, mut events) = scene.connect(config_for(&server).close_timeout(Duration::from_millis(200)));
    online(&mut events).await;
    server.last().unwrap().stall(true);
    let begin = Instant::now();
    client.close(CloseCode::Normal, "");
    closed(&mut events).await;
    let took = begin.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

/// With Nagle's algorithm the second of two small messages waits until the first is acknowledged, which a peer that has nothing to
/// say delays by 40 ms or more.
async fn small_messages_are_not_held_back(scene: &Scene<impl Runtime>) {
    const ROUNDS: u32 = 50;
    let server = MockServer::builder()
        .handler(|conn, message| {
            if message.to_text().is_ok_and(|text| text == "second") {
                conn.send(message);
            }
        })
        .start();
    let mut driver = scene.driver(config_for(&server));
    let client = driver.client();
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        let mut came = Vec::new();
        // Each in a write of its own.
        for text in ["first", "second"] {
            let before = client.stats().bytes_sent;
            client.send(text).unwrap();
            came.extend(drive_until(&mut driver, "a write", || client.stats().bytes_sent > before).await);
        }
        // The echo may be as fast as the write.
        if came.is_empty() {
            came.push(next_inline(&mut driver).await);
        }
        assert!(matches!(came[..], [OwnedEvent::Message { .. }]), "{came:?}");
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(20) * ROUNDS, "{ROUNDS} rounds took {took:?}");
}

async fn pings_of_the_server_are_answered(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let mut driver = scene.driver(config_for(&server));
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let conn = server.last().unwrap();
    conn.ping(b"are you there?".to_vec());
    let pong = Message::Pong(b"are you there?".to_vec().into());
    let answered = unblock(move || conn.wait_for("the pong", SOON, |message| *message == pong));
    let (answer, events) = driving(&mut driver, "the pong", answered).await;
    answer.unwrap();
    assert!(events.is_empty(), "{events:?}");
}
