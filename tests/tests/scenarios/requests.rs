//! Requests through a handle: each ends, whatever happens, and says truly how.

use everwire_core::{
    Client, CloseCode, Config, JsonRpc, OnDisconnect, OwnedEvent, Request, RequestError, RequestOptions,
    ResponseFuture, SendError, State, Unanswered,
};
use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{ConnHandle, HandshakeFault, MockServer};
use everwire_tests::{
    Runtime, SOON, Scene, Tape, bounded, closed, config_for, describe, drive_until, driving, lost,
    next_inline, noise, online, scenarios, until,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

scenarios! {
    answers_and_errors,
    no_answer_in_time,
    dropping_the_future_cancels,
    a_connection_lost_after_sending,
    a_connection_lost_before_sending,
    without_a_connection_only_what_may_wait_is_taken,
    closing_settles,
    events_that_nobody_takes_do_not_keep_a_request_from_ending,
    a_session_that_gives_up_ends_what_waited_for_a_connection,
    who_waits_for_room_gets_it_even_for_what_is_longer_than_half,
}

/// A server that answers as a venue, but never a request with "hang" in it.
fn server() -> MockServer {
    let venue = JsonRpcVenue::builder().method("echo", |params| Ok(params.clone())).build();
    MockServer::builder()
        .handler(move |conn, message| {
            if !message.to_text().is_ok_and(|text| text.contains("hang")) {
                venue.handle(conn, &message);
            }
        })
        .start()
}

fn rpc(server: &MockServer) -> Config {
    config_for(server).protocol(JsonRpc::new().methods("public/subscribe", "public/unsubscribe"))
}

async fn start(scene: &Scene<impl Runtime>, server: &MockServer) -> (Client, Tape) {
    let (client, mut events) = scene.connect(rpc(server));
    online(&mut events).await;
    (client, events)
}

fn with(on_disconnect: OnDisconnect) -> RequestOptions {
    RequestOptions { on_disconnect, ..RequestOptions::default() }
}

async fn outcome(answer: ResponseFuture) -> Result<String, RequestError> {
    bounded("the end of a request", answer).await
}

/// Waits until the server has the request with this in it.
fn arrived(conn: &ConnHandle, text: &str) {
    conn.wait_for(text, SOON, |message| message.to_text().is_ok_and(|got| got.contains(text))).unwrap();
}

async fn answers_and_errors(scene: &Scene<impl Runtime>) {
    let server = server();
    let (client, _events) = start(scene, &server).await;
    let requests: Vec<_> = (0..500)
        .map(|n| client.request(Request::new("echo").params(&json!({ "n": n }).to_string())))
        .collect();
    for (n, request) in requests.into_iter().enumerate() {
        let answer: Value = serde_json::from_str(&outcome(request).await.unwrap()).unwrap();
        assert_eq!(answer, json!({ "n": n }));
    }
    let Err(RequestError::Rpc(error)) = outcome(client.request(Request::new("no/such"))).await else {
        panic!()
    };
    assert_eq!((error.code, &*error.message), (-32601, "Method not found"));
    let refused = outcome(client.request(Request::new("echo").params("no json"))).await;
    assert!(matches!(refused, Err(RequestError::NotTaken(SendError::Unsupported(_)))), "{refused:?}");
}

async fn no_answer_in_time(scene: &Scene<impl Runtime>) {
    let server = server();
    let (client, _events) = start(scene, &server).await;
    let begin = Instant::now();
    let options = RequestOptions { timeout: Some(Duration::from_millis(200)), ..RequestOptions::default() };
    let answer = client.request_with(Request::new("hang"), options);
    assert_eq!(outcome(answer).await, Err(RequestError::SentUnknown(Unanswered::Timeout)));
    let took = begin.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert!(outcome(client.request(Request::new("public/test"))).await.is_ok(), "the session goes on");
}

async fn dropping_the_future_cancels(scene: &Scene<impl Runtime>) {
    let server = server();
    let (client, mut events) = start(scene, &server).await;
    let conn = server.last().unwrap();
    let answer = client.request(Request::new("hang"));
    let id = answer.id().unwrap();
    arrived(&conn, "hang");
    drop(answer);
    // An answer that comes in spite of it belongs to nobody, so that it is a message like any other.
    let late = json!({"jsonrpc": "2.0", "id": id.as_u64(), "result": "late"}).to_string();
    conn.send_text(late.clone());
    let message = |event: &OwnedEvent| match event {
        OwnedEvent::Message { message, .. } => Some(message.clone()),
        _ => None,
    };
    let (got, before) = until(&mut events, "the late answer", message).await;
    assert_eq!(got.to_text().unwrap(), late);
    let told = before.iter().any(|event| matches!(event, OwnedEvent::Response { .. }));
    assert!(!told, "nobody awaits it any more: {before:?}");
}

async fn a_connection_lost_after_sending(scene: &Scene<impl Runtime>) {
    let server = server();
    let (client, mut events) = start(scene, &server).await;
    let conn = server.last().unwrap();
    let fail = client.request(Request::new("hang"));
    let hold = client.request_with(Request::new("hang/held"), with(OnDisconnect::Hold));
    let resend = client.request_with(Request::new("hang/again"), with(OnDisconnect::Resend));
    arrived(&conn, "hang/again");
    conn.kill();
    let unknown = Err(RequestError::SentUnknown(Unanswered::ConnectionLost));
    assert_eq!(outcome(fail).await, unknown);
    assert_eq!(outcome(hold).await, unknown, "it was sent, so that it cannot wait for another connection");
    lost(&mut events).await;
    let again = server.wait_connection(1, SOON).unwrap();
    let request = again.expect_json_subset(&json!({"method": "hang/again"}), SOON).unwrap();
    again.send_text(json!({"jsonrpc": "2.0", "id": request["id"], "result": "second"}).to_string());
    assert_eq!(outcome(resend).await.unwrap(), "\"second\"");
}

async fn a_connection_lost_before_sending(scene: &Scene<impl Runtime>) {
    // How much the operating system takes is up to chance.
    scene.log_as(|event| match event {
        OwnedEvent::Lost { error, .. } => Some(format!("Lost {error:?}")),
        event => describe(event),
    });
    let server = server();
    // More than the operating system's buffers of both sides take.
    const COUNT: u64 = 24;
    let (client, mut events) = scene.connect(rpc(&server).send_buffer(64 << 20).ping_interval(None));
    online(&mut events).await;
    let conn = server.last().unwrap();
    conn.stall(true);
    let block = noise(1, 1 << 20);
    let mut sent = Vec::new();
    for _ in 0..COUNT {
        sent.push(client.send(&block[..]).unwrap());
    }
    let fail = client.request(Request::new("echo"));
    let hold = client.request_with(Request::new("public/test"), with(OnDisconnect::Hold));
    conn.kill();
    assert_eq!(outcome(fail).await, Err(RequestError::NotSent(Unanswered::ConnectionLost)));
    let unsent = |event: &OwnedEvent| match event {
        OwnedEvent::Lost { unsent, .. } => Some(unsent.clone()),
        _ => None,
    };
    let (unsent, _) = until(&mut events, "Lost", unsent).await;
    let last = sent.last().unwrap();
    assert_eq!(unsent.not_sent.end.as_u64(), last.as_u64() + 1, "{unsent:?}");
    assert!(unsent.count() > 0 && unsent.count() <= COUNT, "{unsent:?}");
    if let Some(cut) = unsent.cut {
        assert_eq!(cut.as_u64() + 1, unsent.not_sent.start.as_u64(), "{unsent:?}");
    }
    assert!(outcome(hold).await.unwrap().contains("1.2.26"), "it waited for the next connection");
}

async fn without_a_connection_only_what_may_wait_is_taken(scene: &Scene<impl Runtime>) {
    let server = server();
    let (client, mut events) = start(scene, &server).await;
    server.refuse_connections(true).unwrap();
    server.last().unwrap().kill();
    lost(&mut events).await;
    let refused = outcome(client.request(Request::new("echo"))).await;
    assert_eq!(refused, Err(RequestError::NotTaken(SendError::Offline)));
    let expires = RequestOptions {
        timeout: Some(Duration::from_millis(50)),
        on_disconnect: OnDisconnect::Hold,
        ..RequestOptions::default()
    };
    let expired = outcome(client.request_with(Request::new("echo"), expires)).await;
    assert_eq!(expired, Err(RequestError::NotSent(Unanswered::Timeout)));
    let hold = client.request_with(Request::new("echo").params("{\"held\":1}"), with(OnDisconnect::Hold));
    let resend = client.request_with(Request::new("echo").params("{\"held\":2}"), with(OnDisconnect::Resend));
    let dropped = client.request_with(Request::new("echo").params("{\"held\":3}"), with(OnDisconnect::Hold));
    drop(dropped);
    server.refuse_connections(false).unwrap();
    assert_eq!(outcome(hold).await.unwrap(), "{\"held\":1}");
    assert_eq!(outcome(resend).await.unwrap(), "{\"held\":2}");
    let texts: Vec<_> = server.last().unwrap().received().iter().map(|m| m.to_string()).collect();
    assert!(!texts.iter().any(|text| text.contains("\"held\":3")), "it was cancelled: {texts:?}");
}

async fn closing_settles(scene: &Scene<impl Runtime>) {
    let server = server();
    let (client, mut events) = start(scene, &server).await;
    let hang = client.request(Request::new("hang"));
    arrived(&server.last().unwrap(), "hang");
    client.close(CloseCode::Normal, "");
    assert_eq!(outcome(hang).await, Err(RequestError::SentUnknown(Unanswered::Closed)));
    let late = outcome(client.request_with(Request::new("echo"), with(OnDisconnect::Hold))).await;
    assert_eq!(late, Err(RequestError::NotTaken(SendError::Closed)));
    assert_eq!(closed(&mut events).await, None);
}

/// The timeout of a request is kept even if nobody takes the events, which stand before its answer.
async fn events_that_nobody_takes_do_not_keep_a_request_from_ending(scene: &Scene<impl Runtime>) {
    let server = MockServer::builder()
        .handler(|conn, _| {
            for n in 0..10_000 {
                conn.send_text(format!("flood {n}"));
            }
        })
        .start();
    let (client, mut events) = scene.connect(rpc(&server));
    online(&mut events).await;
    let options = RequestOptions { timeout: Some(Duration::from_millis(300)), ..RequestOptions::default() };
    let answer = client.request_with(Request::new("flood"), options.clone());
    assert_eq!(outcome(answer).await, Err(RequestError::SentUnknown(Unanswered::Timeout)));
    let late = client.request_with(Request::new("flood"), options);
    client.close(CloseCode::Normal, "");
    assert_eq!(outcome(late).await, Err(RequestError::SentUnknown(Unanswered::Closed)));
}

/// Makes a request in each state that a session can be in, then drops its driver.
mod the_driver_is_dropped {
    use super::*;
    use everwire_tests::Driver;

    scenarios! {
        before_it_ran,
        while_connecting,
        while_restoring,
        while_waiting_for_the_next_attempt,
        online_before_a_byte_was_written,
        online_and_sent,
    }

    async fn settles(driver: Driver<impl Runtime>, state: State) {
        let client = driver.client();
        assert_eq!(client.state(), state);
        let answer = client.request_with(Request::new("hang"), with(OnDisconnect::Resend));
        drop(driver);
        assert_eq!(outcome(answer).await, Err(NOT_SENT), "{state:?}");
        let after = outcome(client.request_with(Request::new("echo"), with(OnDisconnect::Hold))).await;
        assert_eq!(after, Err(RequestError::NotTaken(SendError::Closed)), "{state:?}");
        assert_eq!(client.send("x"), Err(SendError::Closed), "{state:?}");
        assert_eq!(client.state(), State::Closed);
    }

    /// Runs the driver until the session is in this state.
    async fn drive_to(driver: &mut Driver<impl Runtime>, state: State) {
        let client = driver.client();
        drive_until(driver, "a state", || client.state() == state).await;
    }

    const NOT_SENT: RequestError = RequestError::NotSent(Unanswered::Closed);

    async fn before_it_ran(scene: &Scene<impl Runtime>) {
        let server = server();
        settles(scene.driver(rpc(&server)), State::Idle).await;
    }

    async fn while_connecting(scene: &Scene<impl Runtime>) {
        let server = MockServer::builder().handshake(HandshakeFault::Silent).start();
        let mut driver = scene.driver(rpc(&server));
        drive_to(&mut driver, State::Connecting).await;
        settles(driver, State::Connecting).await;
    }

    async fn while_restoring(scene: &Scene<impl Runtime>) {
        let venue = JsonRpcVenue::builder().never_ack("x").build();
        let server = MockServer::builder().venue(&venue).start();
        let mut driver = scene.driver(rpc(&server));
        driver.client().subscribe("x");
        drive_to(&mut driver, State::Restoring).await;
        settles(driver, State::Restoring).await;
    }

    async fn while_waiting_for_the_next_attempt(scene: &Scene<impl Runtime>) {
        let refusal = HandshakeFault::status_with(503, &[("Retry-After", "60")], "");
        let server = MockServer::builder().handshake(refusal).start();
        let mut driver = scene.driver(rpc(&server));
        drive_to(&mut driver, State::Backoff).await;
        settles(driver, State::Backoff).await;
    }

    async fn online_before_a_byte_was_written(scene: &Scene<impl Runtime>) {
        let server = server();
        let mut driver = scene.driver(rpc(&server));
        drive_to(&mut driver, State::Online).await;
        settles(driver, State::Online).await;
    }

    async fn online_and_sent(scene: &Scene<impl Runtime>) {
        let server = server();
        let mut driver = scene.driver(rpc(&server));
        assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
        let client = driver.client();
        let answer = client.request(Request::new("hang"));
        let conn = server.last().unwrap();
        driving(&mut driver, "the request", everwire_testing::unblock(move || arrived(&conn, "hang"))).await;
        drop(driver);
        assert_eq!(outcome(answer).await, Err(RequestError::SentUnknown(Unanswered::Closed)));
    }

    /// Only tokio's tasks end with something that a test can drop: the executors of smol and async-std live as long as the process, and
    /// so do threads.
    #[test]
    fn with_its_runtime() {
        let server = server();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, answer, _events) = runtime.block_on(async {
            let (client, mut events) = everwire_tokio::connect(rpc(&server)).unwrap();
            online(&mut events).await;
            let answer = client.request(Request::new("hang"));
            (client, answer, events)
        });
        drop(runtime);
        let ended = smol::future::block_on(outcome(answer));
        assert!(matches!(ended, Err(RequestError::SentUnknown(Unanswered::Closed) | NOT_SENT)), "{ended:?}");
        assert_eq!(client.state(), State::Closed);
    }
}

async fn a_session_that_gives_up_ends_what_waited_for_a_connection(scene: &Scene<impl Runtime>) {
    // Nobody listens where somebody just did.
    let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config::new(&format!("ws://{addr}/")).unwrap().protocol(JsonRpc::new()).max_attempts(1);
    let mut driver = scene.driver(config);
    let options = RequestOptions { on_disconnect: OnDisconnect::Hold, ..RequestOptions::default() };
    let response = driver.client().request_with(Request::new("late"), options);
    while bounded("the end", driver.next()).await.is_some() {}
    // The driver is still there: it must have told already.
    let error = bounded("the response", response).await.unwrap_err();
    assert_eq!(error, RequestError::NotSent(Unanswered::Closed));
}

async fn who_waits_for_room_gets_it_even_for_what_is_longer_than_half(scene: &Scene<impl Runtime>) {
    let server = MockServer::start();
    let (client, mut events) = scene.connect(config_for(&server).send_buffer(100_000));
    online(&mut events).await;
    let long = "x".repeat(90_000);
    let mut sent = 0;
    bounded("room", async {
        while sent < 50 {
            match client.send(&long) {
                Ok(_) => sent += 1,
                Err(SendError::Full) => client.writable().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    let received = everwire_testing::unblock(move || {
        let conn = server.last().unwrap();
        (0..50).all(|_| conn.next_message(SOON).is_ok_and(|message| message.len() == 90_000))
    });
    assert!(bounded("all of it", received).await);
}
