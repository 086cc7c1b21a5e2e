//! Typed calls over real sockets: what `rpc!` makes of a table, against a venue.

use everwire_core::protocol::OwnedRpcError;
use everwire_core::rpc::{Call, CallError, ServerError};
use everwire_core::{
    Client, Config, JsonRpc, OnDisconnect, OwnedEvent, RequestOptions, SendError, Unanswered,
};
use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{ConnHandle, HandshakeFault, MockServer, unblock};
use everwire_tests::{
    Inline, Runtime, SOON, Scene, Tape, bounded, config_for, describe, lost, next_inline, online, scenarios,
    until,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

scenarios! {
    calls_batches_and_notifications,
    threads_wait_for_their_calls,
    a_connection_that_is_cut_says_what_became_of_each_call,
    the_server_says_and_asks,
    answers_go_out_while_an_event_is_borrowed,
}

everwire_core::rpc! {
    client Desk {
        type Error = Refusal;
        call add(Terms<'_>) -> i64 = "add";
        call time() -> u64 = "public/get_time";
        call hang() = "hang";
        call missing() = "no/such";
        notify note([&str]) = "note";
    }

    #[derive(Debug)]
    server FromVenue {
        notification Tick(Tick) = "tick";
        request Double(Vec<i64>) -> Vec<i64> = "double";
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Terms<'a> {
    terms: &'a [i64],
}

#[derive(Debug, PartialEq, Deserialize)]
struct Tick {
    price: f64,
}

#[derive(Debug, PartialEq)]
enum Refusal {
    NoSuchMethod,
    Other(OwnedRpcError),
}

impl From<OwnedRpcError> for Refusal {
    fn from(error: OwnedRpcError) -> Self {
        if error.code == OwnedRpcError::METHOD_NOT_FOUND { Self::NoSuchMethod } else { Self::Other(error) }
    }
}

/// A venue that adds, and leaves "hang" unanswered.
fn server() -> (MockServer, JsonRpcVenue) {
    let sum = |params: &Value| -> Option<i64> {
        params["terms"].as_array()?.iter().map(Value::as_i64).sum::<Option<i64>>()
    };
    let venue = JsonRpcVenue::builder()
        .method("add", move |params| match sum(params) {
            Some(sum) => Ok(json!(sum)),
            None => Err((7, "no numbers".to_owned())),
        })
        .method("public/get_time", |_| Ok(json!("noon")))
        .method("note", |_| Ok(json!(null)))
        .build();
    let answers = venue.clone();
    let server = MockServer::builder()
        .handler(move |conn, message| {
            if !message.to_text().is_ok_and(|text| text.contains("hang")) {
                answers.handle(conn, &message);
            }
        })
        .start();
    (server, venue)
}

fn rpc(server: &MockServer) -> Config {
    config_for(server).protocol(JsonRpc::new())
}

async fn start(scene: &Scene<impl Runtime>, server: &MockServer) -> (Desk, Client, Tape) {
    let (client, mut events) = scene.connect(rpc(server));
    online(&mut events).await;
    (Desk::new(client.clone()), client, events)
}

async fn answer<T>(call: Call<T, Refusal>) -> Result<T, CallError<Refusal>> {
    bounded("the end of a call", call).await
}

/// Waits until the server has a message with this in it.
fn arrived(conn: &ConnHandle, text: &str) {
    conn.wait_for(text, SOON, |message| message.to_text().is_ok_and(|got| got.contains(text))).unwrap();
}

async fn calls_batches_and_notifications(scene: &Scene<impl Runtime>) {
    let (server, venue) = server();
    let (desk, _client, _events) = start(scene, &server).await;
    let calls: Vec<_> = (0..100).map(|n| desk.add(&Terms { terms: &[n, 1] })).collect();
    for (n, call) in (0..).zip(calls) {
        assert_eq!(answer(call).await, Ok(n + 1));
    }
    desk.note(&["from", "me"]).unwrap();
    let (sums, missing, time) = desk.batch(|batch| {
        let sums: Vec<_> = (0..20).map(|n| batch.add(&Terms { terms: &[n, n] })).collect();
        (sums, batch.missing(), batch.time())
    });
    for (n, call) in (0..).zip(sums) {
        assert_eq!(answer(call).await, Ok(2 * n));
    }
    let refused = CallError::Refused { method: "no/such", error: Refusal::NoSuchMethod };
    assert_eq!(answer(missing).await, Err(refused));
    let error = answer(time).await.unwrap_err();
    assert!(matches!(error, CallError::Result { .. }) && !format!("{error:?}").contains("noon"), "{error:?}");

    let conn = server.last().unwrap();
    let batches = conn.received().into_iter().filter(|message| message.to_text().unwrap().starts_with('['));
    assert_eq!(batches.count(), 1, "one message");
    let requests = venue.requests(&conn);
    assert_eq!(requests.len(), 100 + 1 + 22);
    assert_eq!(requests[100], json!({"jsonrpc": "2.0", "method": "note", "params": ["from", "me"]}));
}

async fn threads_wait_for_their_calls(scene: &Scene<impl Runtime>) {
    let (server, _venue) = server();
    let (desk, _client, _events) = start(scene, &server).await;
    let waiting = desk.with(RequestOptions::default().timeout(Duration::from_millis(200))).blocking();
    let thread = unblock(move || {
        assert_eq!(waiting.add(&Terms { terms: &[1, 2] }), Ok(3));
        waiting.note(&["x"]).unwrap();
        let (one, two) = waiting.batch(|batch| (batch.add(&Terms { terms: &[1] }), batch.missing()));
        assert_eq!(one.wait(), Ok(1));
        assert_eq!(two.wait(), Err(CallError::Refused { method: "no/such", error: Refusal::NoSuchMethod }));
        assert_eq!(desk.add(&Terms { terms: &[] }).wait(), Ok(0));
        let late = CallError::SentUnknown { method: "hang", why: Unanswered::Timeout };
        assert_eq!(waiting.hang(), Err(late));
    });
    bounded("the thread", thread).await;
}

async fn a_connection_that_is_cut_says_what_became_of_each_call(scene: &Scene<impl Runtime>) {
    // How many attempts are turned away is up to chance.
    scene.log_nothing();
    let (server, _venue) = server();
    let (desk, client, mut events) = start(scene, &server).await;
    let conn = server.last().unwrap();
    let patient = desk.with(RequestOptions::default().on_disconnect(OnDisconnect::Hold).timeout(SOON));
    let (first, second) = patient.batch(|batch| (batch.hang(), batch.hang()));
    let cut = conn.clone();
    bounded("the batch", unblock(move || arrived(&cut, "hang"))).await;
    server.set_handshake(Some(HandshakeFault::Reset));
    conn.kill();
    lost(&mut events).await;
    for call in [first, second] {
        let unknown = CallError::SentUnknown { method: "hang", why: Unanswered::ConnectionLost };
        assert_eq!(answer(call).await, Err(unknown));
    }
    assert_eq!(desk.note(&["x"]), Err(CallError::NotTaken { method: "note", error: SendError::Offline }));
    let held = patient.add(&Terms { terms: &[40, 2] });
    server.set_handshake(None);
    assert_eq!(answer(held).await, Ok(42));
    drop(client);
}

async fn the_server_says_and_asks(scene: &Scene<impl Runtime>) {
    let (server, _venue) = server();
    let (_desk, client, mut events) = start(scene, &server).await;
    let conn = server.last().unwrap();
    for text in [
        r#"{"jsonrpc":"2.0","method":"tick","params":{"price":1.5}}"#,
        r#"{"jsonrpc":"2.0","id":"a","method":"double","params":[1,2]}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"double","params":{"no":"list"}}"#,
        r#"{"jsonrpc":"2.0","id":8,"method":"halve","params":[1,2]}"#,
        r#"{"jsonrpc":"2.0","id":9,"method":"double","params":[]}"#,
    ] {
        conn.send_text(text);
    }
    let mut heard = async || {
        let parse = |event: &OwnedEvent| FromVenue::parse(&client, event);
        until(&mut events, "something of the table", parse).await.0
    };
    assert!(matches!(heard().await, Ok(FromVenue::Tick(Tick { price: 1.5 }))));
    let Ok(FromVenue::Double(numbers, reply)) = heard().await else { panic!() };
    reply.ok(&numbers.iter().map(|n| n * 2).collect()).unwrap();
    assert!(matches!(heard().await, Err(ServerError::Params { answered: Some(Ok(_)), .. })));
    assert!(matches!(heard().await, Err(ServerError::UnknownMethod { answered: Ok(_), .. })));
    drop(heard().await);
    let answers = unblock(move || -> Vec<String> {
        (0..4).map(|_| conn.next_message(SOON).unwrap().to_text().unwrap().to_owned()).collect()
    });
    let want = [
        r#"{"jsonrpc":"2.0","id":"a","result":[2,4]}"#,
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"Invalid params: expected a sequence (line 1, column 0)"}}"#,
        r#"{"jsonrpc":"2.0","id":8,"error":{"code":-32601,"message":"Method not found"}}"#,
        r#"{"jsonrpc":"2.0","id":9,"error":{"code":-32603,"message":"Internal error"}}"#,
    ];
    assert_eq!(bounded("the answers", answers).await, want);
}

async fn answers_go_out_while_an_event_is_borrowed(scene: &Scene<impl Runtime>) {
    let server = MockServer::builder()
        .on_connect(|conn, _| conn.send_text(r#"{"id":1,"method":"double","params":[4]}"#))
        .handler(|conn, message| conn.send(message))
        .start();
    let mut driver = scene.driver(rpc(&server));
    assert!(matches!(next_inline(&mut driver).await, OwnedEvent::Online { .. }));
    let client = driver.client();
    let answered = driver.wait(|event| match FromVenue::parse(&client, &event) {
        Some(Ok(FromVenue::Double(numbers, reply))) => reply.ok(&numbers).is_ok(),
        other => panic!("{other:?}: {:?}", describe(&event.to_owned())),
    });
    assert_eq!(bounded("the request", answered).await, Some(true));
    let OwnedEvent::Message { message, .. } = next_inline(&mut driver).await else { panic!() };
    assert_eq!(message.to_text().unwrap(), r#"{"jsonrpc":"2.0","id":1,"result":[4]}"#);
}
