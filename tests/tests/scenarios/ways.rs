//! Ways that lead nowhere, or take long: refused ports, names that nobody has, providers that take their time, peers that are silent.

use everwire_core::{CloseCode, Config, Disconnect, Endpoint, Error, OwnedEvent, State, Timeout};
use everwire_testing::{HandshakeFault, Message, MockServer, MockServerBuilder};
use everwire_tests::{
    Driver, Runtime, SOON, Scene, bounded, closed, config, config_for, drive_until, lost, message, next,
    next_inline, no_messages, online, scenarios, sleep,
};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

scenarios! {
    a_refused_port,
    a_name_that_nobody_has,
    a_name_is_looked_up,
    a_slow_provider_holds_up_nothing,
    a_slow_provider_is_left,
    a_half_open_connection_is_noticed,
    a_half_open_connection_is_noticed_while_nobody_takes_events,
    a_silent_handshake_ends_in_time,
    polled_once_and_dropped_from_name_to_reconnect,
}

fn echo() -> MockServerBuilder {
    MockServer::builder().handler(|conn, message| conn.send(message))
}

async fn a_refused_port(scene: &Scene<impl Runtime>) {
    // Nobody listens where somebody just did.
    let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (client, mut events) = scene.connect(config(&format!("ws://{addr}/")).max_attempts(3));
    for n in 1..=3 {
        let event = next(&mut events).await;
        let OwnedEvent::AttemptFailed { failures, error, retry_at } = event else { panic!("{event:?}") };
        assert_eq!((failures, retry_at.is_some()), (n, n < 3));
        let Error::Connect { addr: at, cause: Disconnect::Io { kind: ErrorKind::ConnectionRefused, .. } } =
            error
        else {
            panic!("{error:?}")
        };
        assert_eq!(at, addr);
    }
    assert!(closed(&mut events).await.is_some());
    assert_eq!(client.state(), State::Closed);
}

async fn a_name_that_nobody_has(scene: &Scene<impl Runtime>) {
    // RFC 6761 section 6.4. What the system says about it is its own.
    scene.log_as(|event| match event {
        OwnedEvent::AttemptFailed { failures, error: Error::Resolve(_), .. } => {
            Some(format!("AttemptFailed {failures}"))
        }
        OwnedEvent::Closed { error: Some(_), .. } => Some("Closed".to_owned()),
        event => Some(format!("{event:?}")),
    });
    let (_client, mut events) = scene.connect(config("ws://nobody.invalid/").max_attempts(2));
    for n in 1..=2 {
        let event = next(&mut events).await;
        let OwnedEvent::AttemptFailed { failures, error: Error::Resolve(_), .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(failures, n);
    }
    assert!(closed(&mut events).await.is_some());
}

async fn a_name_is_looked_up(scene: &Scene<impl Runtime>) {
    // A system may have ::1 for it too, where the server is not.
    scene.log_as(|event| match event {
        OwnedEvent::AttemptFailed { .. } => None,
        event => everwire_tests::describe(event),
    });
    let server = echo().start();
    let url = format!("ws://localhost:{}/", server.addr().port());
    let (client, mut events) = scene.connect(config(&url));
    online(&mut events).await;
    client.send("by name").unwrap();
    assert_eq!(message(&mut events).await, Message::text("by name"));
    assert_eq!(server.last().unwrap().header("host"), Some(&*format!("localhost:{}", server.addr().port())));
}

/// How long a slow provider takes.
const SLOW: Duration = Duration::from_millis(300);

/// A driver whose provider takes its time, and how often that was asked.
fn slow<R: Runtime>(scene: &Scene<R>, server: &MockServer, time: Duration) -> (Driver<R>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, url) = (asked.clone(), server.url());
    let config = Config::provided().backoff(Duration::from_millis(1), Duration::from_millis(5));
    let driver = scene.provided(config, move || {
        count.fetch_add(1, Ordering::Relaxed);
        let url = url.clone();
        async move {
            sleep(time).await;
            Ok(Endpoint::new(&url)?)
        }
    });
    (driver, asked)
}

async fn a_slow_provider_holds_up_nothing(scene: &Scene<impl Runtime>) {
    let server = echo().start();
    let (driver, asked) = slow(scene, &server, SLOW);
    let begun = Instant::now();
    let (client, mut events) = scene.spawn(driver);
    // Handles answer meanwhile.
    let mut calls = 0;
    while client.state() != State::Online {
        let call = Instant::now();
        client.status();
        assert!(call.elapsed() < SLOW / 2, "a handle waited for the provider");
        calls += 1;
        sleep(Duration::from_millis(1)).await;
        assert!(begun.elapsed() < SOON);
    }
    assert!(begun.elapsed() >= SLOW && calls > 10, "{calls} calls in {:?}", begun.elapsed());
    online(&mut events).await;
    client.send("hello").unwrap();
    assert_eq!(message(&mut events).await, Message::text("hello"));
    server.last().unwrap().kill();
    lost(&mut events).await;
    online(&mut events).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// Closing does not wait for it, nor does dropping.
async fn a_slow_provider_is_left(scene: &Scene<impl Runtime>) {
    const FOREVER: Duration = Duration::from_secs(10);
    let server = echo().start();
    let begun = Instant::now();

    let (driver, asked) = slow(scene, &server, FOREVER);
    let (client, mut events) = scene.spawn(driver);
    everwire_tests::holds("a question", || asked.load(Ordering::Relaxed) == 1).await;
    client.close(CloseCode::Normal, "");
    assert_eq!(closed(&mut events).await, None);

    let (mut driver, asked) = slow(scene, &server, FOREVER);
    drive_until(&mut driver, "a question", || asked.load(Ordering::Relaxed) == 1).await;
    let client = driver.client();
    drop(driver);
    assert_eq!(client.state(), State::Closed);
    assert!(begun.elapsed() < FOREVER / 2, "{:?}", begun.elapsed());
    assert_eq!(server.attempts(), 0);
}

fn pinging(config: Config) -> Config {
    config.ping_interval(Duration::from_millis(100)).pong_timeout(Duration::from_millis(200))
}

async fn a_half_open_connection_is_noticed(scene: &Scene<impl Runtime>) {
    let server = echo().start();
    let mut driver = scene.driver(pinging(config_for(&server)));
    for epoch in 1..=2 {
        loop {
            match next_inline(&mut driver).await {
                OwnedEvent::Online { epoch: of, .. } => break assert_eq!(of.as_u64(), epoch),
                event => assert!(!matches!(event, OwnedEvent::AttemptFailed { .. }), "{event:?}"),
            }
        }
        // It works, and then it does not.
        loop {
            match next_inline(&mut driver).await {
                OwnedEvent::Pong { .. } => break,
                event => assert!(matches!(event, OwnedEvent::Gap(_)), "{event:?}"),
            }
        }
        server.last().unwrap().stall(true);
        let begun = Instant::now();
        let error = loop {
            match next_inline(&mut driver).await {
                OwnedEvent::Lost { error, .. } => break error,
                event => assert!(matches!(event, OwnedEvent::Pong { .. } | OwnedEvent::Gap(_)), "{event:?}"),
            }
        };
        assert_eq!(error, Error::Timeout(Timeout::Pong));
        let took = begun.elapsed();
        assert!((Duration::from_millis(150)..Duration::from_secs(5)).contains(&took), "{took:?}");
    }
}

async fn a_half_open_connection_is_noticed_while_nobody_takes_events(scene: &Scene<impl Runtime>) {
    // How many messages come is up to chance.
    scene.log_as(no_messages);
    let server =
        MockServer::builder().on_connect(|conn, _| (0..200).for_each(|_| conn.send_text("flood"))).start();
    let (client, mut events) = scene.connect(pinging(config_for(&server)).event_buffer(4));
    everwire_tests::holds("the first connection", || client.state() == State::Online).await;
    let conn = server.last().unwrap();
    conn.flush(SOON).unwrap();
    conn.stall(true);
    // What has arrived is the user's; that nothing else does is noticed when he has taken it.
    for _ in 0..200 {
        message(&mut events).await;
    }
    assert_eq!(lost(&mut events).await, Error::Timeout(Timeout::Pong));
    assert_eq!(online(&mut events).await.as_u64(), 2);
}

async fn a_silent_handshake_ends_in_time(scene: &Scene<impl Runtime>) {
    let server = echo().handshake_for(2, HandshakeFault::Silent).start();
    let mut driver = scene.driver(config_for(&server).handshake_timeout(Duration::from_millis(150)));
    for _ in 0..2 {
        let begun = Instant::now();
        let event = next_inline(&mut driver).await;
        let OwnedEvent::AttemptFailed { error: Error::Timeout(Timeout::Handshake), .. } = event else {
            panic!("{event:?}")
        };
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
}

/// The future is dropped at each step: while a provider is asked, a name is looked up, TCP connects, hands shake, a connection is lost.
async fn polled_once_and_dropped_from_name_to_reconnect(scene: &Scene<impl Runtime>) {
    const CONNECTIONS: u64 = 5;
    let server = echo().tls().start();
    let url = format!("wss://localhost:{}/", server.addr().port());
    let tls = everwire_tests::trusting(&server);
    let config = Config::provided().tls(tls).backoff(Duration::from_millis(1), Duration::from_millis(5));
    let mut driver = scene.provided(config, move || {
        let url = url.clone();
        async move {
            sleep(Duration::from_millis(5)).await;
            Ok(Endpoint::new(&url)?)
        }
    });
    let client = driver.client();
    let (mut epoch, mut polls) = (0, 0_u64);
    let run = async {
        loop {
            polls += 1;
            smol::future::yield_now().await;
            // Dropped if it is not ready.
            match smol::future::poll_once(driver.next()).await {
                None => {}
                Some(Some(OwnedEvent::Online { epoch: of, .. })) => {
                    epoch += 1;
                    assert_eq!(of.as_u64(), epoch);
                    client.send("again").unwrap();
                }
                Some(Some(OwnedEvent::Message { message, .. })) => {
                    assert_eq!(message, Message::text("again"));
                    if epoch == CONNECTIONS {
                        client.close(CloseCode::Normal, "");
                    } else {
                        server.last().unwrap().hang_up();
                    }
                }
                Some(Some(OwnedEvent::Lost { error, .. })) => {
                    assert_eq!(error, Error::Disconnected(Disconnect::Eof));
                }
                Some(Some(OwnedEvent::Gap(_))) => {}
                Some(Some(OwnedEvent::Closed { error, .. })) => assert_eq!(error, None),
                Some(Some(event)) => panic!("{event:?}"),
                Some(None) => break,
            }
        }
    };
    bounded("five connections", run).await;
    assert_eq!(epoch, CONNECTIONS);
    assert!(polls > CONNECTIONS * 5, "{polls} polls");
}
