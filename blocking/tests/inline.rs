//! The inline driver of a plain thread, over real sockets.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

use everwire_blocking::{
    CloseCode, CloseOptions, Config, Driver, Endpoint, Error, Event, JsonRpc, Message, OnDisconnect,
    OwnedEvent, ProviderError, Request, RequestError, RequestOptions, State, TimedOut, Transport, connect,
};
use everwire_testing::MockServer;
use everwire_testing::venue::JsonRpcVenue;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

fn echo() -> MockServer {
    MockServer::builder().handler(|conn, message| conn.send(message)).start()
}

fn online(driver: &mut Driver) {
    while !matches!(driver.next(SOON), Ok(Some(Event::Online { .. }))) {}
}

#[test]
fn a_message_goes_there_and_back_and_the_session_ends() {
    let server = echo();
    let mut driver = Driver::new(Config::new(&server.url()).unwrap()).unwrap();
    let client = driver.client();
    let mut messages = Vec::new();
    for event in &mut driver {
        match event {
            OwnedEvent::Online { .. } => drop(client.send("hello").unwrap()),
            OwnedEvent::Message { message, .. } => {
                messages.push(message);
                client.close(CloseCode::Normal, "");
            }
            _ => {}
        }
    }
    assert_eq!(messages, ["hello".into()]);
    assert_eq!(client.state(), State::Closed);
    assert!(matches!(driver.next(None), Ok(None)), "it stays closed");
}

#[test]
fn a_timeout_loses_nothing_and_is_kept() {
    let server = echo();
    let mut driver = Driver::new(Config::new(&server.url()).unwrap()).unwrap();
    online(&mut driver);
    let begun = Instant::now();
    assert_eq!(driver.next(Duration::from_millis(30)).unwrap_err(), TimedOut);
    assert!(begun.elapsed() >= Duration::from_millis(30));
    driver.client().send("late").unwrap();
    // However little time each call has.
    loop {
        match driver.next(Duration::ZERO) {
            Err(TimedOut) => assert!(begun.elapsed() < SOON, "it never came"),
            Ok(Some(Event::Message { message, .. })) => break assert_eq!(message, Message::Text("late")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_thread_wakes_the_one_that_waits() {
    let server = echo();
    let mut driver = Driver::new(Config::new(&server.url()).unwrap()).unwrap();
    online(&mut driver);
    let client = driver.client();
    let (asleep, wakes) = mpsc::channel();
    let sender = thread::spawn(move || {
        wakes.recv().unwrap();
        client.send("from another thread").unwrap();
    });
    asleep.send(()).unwrap();
    let Ok(Some(Event::Message { message, .. })) = driver.next(SOON) else { panic!("it is echoed") };
    assert_eq!(message, Message::Text("from another thread"));
    sender.join().unwrap();
}

#[test]
fn an_idle_thread_sleeps() {
    let server = echo();
    let mut driver = Driver::new(Config::new(&server.url()).unwrap()).unwrap();
    online(&mut driver);
    let before = cpu_time();
    assert_eq!(driver.next(Duration::from_millis(300)).unwrap_err(), TimedOut);
    let used = cpu_time() - before;
    assert!(used < Duration::from_millis(60), "an idle thread used {used:?} of 300 ms");
}

/// Processor time of this thread.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

#[test]
fn a_provider_may_block() {
    let server = echo();
    let url = server.url();
    let mut calls = 0;
    let config = Config::provided().backoff(Duration::from_millis(1), Duration::from_millis(5));
    let mut driver = Driver::new(config).unwrap().provider(move || {
        calls += 1;
        if calls == 1 {
            return Err(ProviderError::new("the token service is down"));
        }
        thread::sleep(Duration::from_millis(20));
        Ok(Endpoint::new(&url).unwrap())
    });
    let Ok(Some(Event::AttemptFailed { error: Error::Provider(error), .. })) = driver.next(SOON) else {
        panic!("the first answer was an error")
    };
    assert_eq!(error.message, "the token service is down");
    online(&mut driver);
}

#[test]
fn a_provider_that_hangs_is_not_called_again_meanwhile() {
    let server = echo();
    let (url, calls) = (server.url(), Arc::new(AtomicUsize::new(0)));
    let (release, released) = mpsc::channel::<()>();
    let counted = calls.clone();
    let soon = Duration::from_millis(1);
    let config = Config::provided().connect_timeout(Duration::from_millis(200)).backoff(soon, soon);
    let mut driver = Driver::new(config).unwrap().provider(move || {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = released.recv();
        }
        Ok(Endpoint::new(&url).unwrap())
    });
    for _ in 0..4 {
        let Ok(Some(Event::AttemptFailed { .. })) = driver.next(SOON) else { panic!("it does not answer") };
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    release.send(()).unwrap();
    online(&mut driver);
    // That of the last attempt may still wait when the first returns; those before it do not.
    assert!((2..=3).contains(&calls.load(Ordering::SeqCst)), "those that nobody waits for are not made");
}

#[test]
fn a_provider_that_panics_fails_the_attempt() {
    let mut driver =
        Driver::new(Config::provided().max_attempts(1)).unwrap().provider(|| panic!("a bug of the user's"));
    let Ok(Some(Event::AttemptFailed { error, .. })) = driver.next(SOON) else { panic!("it cannot connect") };
    assert_eq!(error.to_string(), "the endpoint provider failed: it panicked");
}

#[cfg(unix)]
#[test]
fn websocket_over_a_unix_socket() {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixStream;

    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = thread::spawn(move || {
        let mut peer = tungstenite::accept(theirs).unwrap();
        let message = peer.read().unwrap();
        peer.send(message).unwrap();
        // Until the other side is gone.
        while peer.read().is_ok() {}
    });
    ours.set_nonblocking(true).unwrap();
    let mut stream = Some(ours);
    let config =
        Config::new("ws://localhost/over/unix").unwrap().transport(Transport::Connector).no_reconnect();
    let mut driver = Driver::new(config).unwrap().connector(move |target| {
        assert_eq!(target.host(), "localhost");
        stream.take().ok_or_else(|| ErrorKind::NotFound.into())
    });
    online(&mut driver);
    driver.client().send("over unix").unwrap();
    let Ok(Some(Event::Message { message, .. })) = driver.next(SOON) else { panic!("it is echoed") };
    assert_eq!(message, Message::Text("over unix"));
    driver.client().close(CloseCode::Normal, "");
    while driver.next(SOON).unwrap().is_some() {}
    peer.join().unwrap();
}

#[test]
fn a_missing_connector_is_named() {
    let config = Config::new("ws://localhost/").unwrap().transport(Transport::Connector).max_attempts(1);
    let mut driver = Driver::new(config).unwrap();
    let Ok(Some(Event::AttemptFailed { error, .. })) = driver.next(SOON) else { panic!("it cannot connect") };
    assert!(error.to_string().contains("Driver::connector"), "{error}");
}

#[test]
fn a_background_thread_keeps_it_alive_and_ends_with_the_handles() {
    let server = echo();
    let (client, mut events) = connect(Config::new(&server.url()).unwrap()).unwrap();
    loop {
        match events.next_blocking(Some(SOON)).unwrap() {
            Some(OwnedEvent::Online { .. }) => drop(client.send("hello").unwrap()),
            Some(OwnedEvent::Message { message, .. }) => break assert_eq!(message, "hello".into()),
            _ => {}
        }
    }
    drop(client);
    drop(events);
    // It is closed when nobody is left.
    server.last().unwrap().wait_end(SOON).unwrap();
}

#[test]
fn a_script_asks_and_waits_for_the_answer() {
    let venue = JsonRpcVenue::builder().method("public/get_time", |_| Ok(1_700_000.into())).build();
    let server = MockServer::builder().handler(move |conn, message| venue.handle(conn, &message)).start();
    let (client, _events) = connect(Config::new(&server.url()).unwrap().protocol(JsonRpc::new())).unwrap();
    // It waits for the connection, which nobody has looked for.
    let held = RequestOptions { on_disconnect: OnDisconnect::Resend, ..RequestOptions::default() };
    assert_eq!(client.request_with(Request::new("public/get_time"), held).wait().unwrap(), "1700000");
    assert_eq!(client.request_blocking(Request::new("public/get_time")).unwrap(), "1700000");
    let Err(RequestError::Rpc(error)) = client.request_blocking(Request::new("public/nothing")) else {
        panic!("there is no such method")
    };
    assert_eq!(error.code, -32601);
    let end = client.shutdown_blocking(CloseOptions::new().within(SOON));
    assert_eq!((end.error, end.unsent.count()), (None, 0));
}
