//! The JSON-RPC venue.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{ConnHandle, Message, MockServer};
use serde_json::{Value, json};

fn serve(venue: &JsonRpcVenue) -> MockServer {
    MockServer::builder().venue(venue).start()
}

fn start(venue: &JsonRpcVenue) -> (MockServer, ConnHandle, Client) {
    let server = serve(venue);
    let client = connect(&server);
    let conn = server.wait_connection(0, SOON).unwrap();
    (server, conn, client)
}

fn send(client: &mut Client, id: i64, method: &str, params: Value) {
    let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    client.send(Message::text(request.to_string())).unwrap();
}

fn read(client: &mut Client) -> Value {
    serde_json::from_str(&read_text(client)).unwrap()
}

fn call(client: &mut Client, method: &str, params: Value) -> Value {
    send(client, 7, method, params);
    let response = read(client);
    assert_eq!(response["id"], 7, "{response}");
    assert_eq!(response["jsonrpc"], "2.0");
    response
}

fn error_of(response: &Value) -> (i64, &str) {
    assert!(response.get("result").is_none(), "{response}");
    (response["error"]["code"].as_i64().unwrap(), response["error"]["message"].as_str().unwrap())
}

#[test]
fn subscriptions_are_acknowledged_and_served() {
    let venue = JsonRpcVenue::builder().reject("bad").build();
    let (server, conn, mut client) = start(&venue);
    let mut other = connect(&server);

    let response = call(&mut client, "public/subscribe", json!({"channels": ["a", "bad", "b"]}));
    assert_eq!(response["result"], json!(["a", "b"]));
    assert_eq!((response["testnet"].as_bool(), response["usIn"].is_u64()), (Some(true), true));
    let response = call(&mut other, "private/subscribe", json!({"channels": ["b"]}));
    assert_eq!(response["result"], json!(["b"]));

    assert_eq!(venue.subscriptions(&conn), ["a", "b"]);
    assert_eq!(["a", "b", "bad"].map(|c| venue.subscribers(c)), [1, 2, 0]);
    venue.wait_subscribers("b", 2, SOON).unwrap();

    assert_eq!(venue.publish("a", json!({"x": 1})), 1);
    assert_eq!(venue.publish("b", json!([2])), 2);
    assert_eq!(venue.publish("bad", json!(3)), 0);
    let notification = |channel: &str, data: Value| json!({"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}});
    assert_eq!(read(&mut client), notification("a", json!({"x": 1})));
    assert_eq!(read(&mut client), notification("b", json!([2])));
    assert_eq!(read(&mut other), notification("b", json!([2])));

    let response = call(&mut client, "public/unsubscribe", json!({"channels": ["a", "never subscribed"]}));
    assert_eq!(response["result"], json!(["a"]));
    assert_eq!(venue.publish("a", json!(4)), 0);
    let response = call(&mut client, "public/unsubscribe_all", json!({}));
    assert_eq!(response["result"], "ok");
    assert_eq!(venue.publish("b", json!(5)), 1);

    drop(other);
    server.wait_live(1, SOON).unwrap();
    assert_eq!(venue.publish("b", json!(6)), 0);
    assert_eq!(venue.subscribers("b"), 0);
}

#[test]
fn rejection_can_change() {
    let venue = JsonRpcVenue::new();
    let (_server, _conn, mut client) = start(&venue);
    venue.set_rejected("a", true);
    assert_eq!(call(&mut client, "public/subscribe", json!({"channels": ["a"]}))["result"], json!([]));
    venue.set_rejected("a", false);
    assert_eq!(call(&mut client, "public/subscribe", json!({"channels": ["a"]}))["result"], json!(["a"]));
}

#[test]
fn methods_of_ones_own_and_unknown_ones() {
    let venue = JsonRpcVenue::builder()
        .method("public/add", |params| {
            let numbers = params.as_array().ok_or_else(|| (-32602, "an array, please".to_owned()))?;
            Ok(json!(numbers.iter().filter_map(Value::as_i64).sum::<i64>()))
        })
        .method("public/test", |_| Ok(json!("replaced")))
        .build();
    let (_server, conn, mut client) = start(&venue);
    assert_eq!(call(&mut client, "public/add", json!([1, 2, 3]))["result"], 6);
    let response = call(&mut client, "public/add", json!(null));
    assert_eq!(error_of(&response), (-32602, "an array, please"));
    assert_eq!(call(&mut client, "public/test", json!({}))["result"], "replaced");
    let response = call(&mut client, "public/none", json!({}));
    assert_eq!(error_of(&response), (-32601, "Method not found"));
    assert_eq!(venue.methods(&conn), ["public/add", "public/add", "public/test", "public/none"]);
    assert_eq!(venue.requests(&conn)[0]["params"], json!([1, 2, 3]));
    assert_eq!(venue.all_requests().len(), 4);
    assert_eq!(venue.all_requests()[0].0, conn.id());

    let (_server, _conn, mut client) = start(&JsonRpcVenue::new());
    assert_eq!(call(&mut client, "public/test", json!({}))["result"], json!({"version": "1.2.26"}));
}

#[test]
fn bad_requests_are_told_so() {
    let venue = JsonRpcVenue::new();
    let (_server, conn, mut client) = start(&venue);
    for (request, code) in [
        ("{", -32700),
        ("[]", -32600),
        ("1", -32600),
        (r#"{"jsonrpc": "2.0", "id": 1}"#, -32600),
        (r#"{"jsonrpc": "1.0", "id": 1, "method": "public/test"}"#, -32600),
        (r#"{"id": 1, "method": "public/test"}"#, -32600),
        (r#"{"jsonrpc": "2.0", "id": {}, "method": "public/test"}"#, -32600),
    ] {
        client.send(Message::text(request)).unwrap();
        let response = read(&mut client);
        assert_eq!(error_of(&response).0, code, "{request}");
        assert_eq!(response["id"], json!(null));
    }
    for params in [json!({}), json!({"channels": "a"}), json!({"channels": [1]}), json!(null)] {
        for method in ["public/subscribe", "public/unsubscribe"] {
            let response = call(&mut client, method, params.clone());
            assert_eq!(error_of(&response).0, -32602, "{params}");
        }
    }
    let valid = venue.requests(&conn).len();
    assert_eq!(valid, 8, "only valid requests are kept");
}

#[test]
fn ids_are_echoed_and_without_one_there_is_no_answer() {
    let venue = JsonRpcVenue::new();
    let (_server, _conn, mut client) = start(&venue);
    client
        .send(Message::text(
            r#"{"jsonrpc": "2.0", "method": "public/subscribe", "params": {"channels": ["a"]}}"#,
        ))
        .unwrap();
    // Binary will do.
    client
        .send(Message::binary(br#"{"jsonrpc": "2.0", "id": "x-1", "method": "public/test"}"#.to_vec()))
        .unwrap();
    let response = read(&mut client);
    assert_eq!(response["id"], "x-1");
    assert_eq!(response["result"]["version"], "1.2.26");
    assert_eq!(venue.subscribers("a"), 1, "but it was carried out");
}

#[test]
fn batches_are_answered_by_batches() {
    let venue = JsonRpcVenue::builder().method("sum", |params| Ok(json!(params[0].as_i64()))).build();
    let (_server, conn, mut client) = start(&venue);
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "sum", "params": [4]},
        {"jsonrpc": "2.0", "method": "sum", "params": [5]},
        17,
        {"jsonrpc": "2.0", "id": 2, "method": "public/subscribe", "params": {"channels": ["a"]}},
        {"jsonrpc": "2.0", "id": 3, "method": "no/such"},
    ]);
    client.send(Message::text(batch.to_string())).unwrap();
    // The subscription goes before its notifications.
    assert_eq!(read(&mut client)["id"], 2);
    let answers = read(&mut client);
    let ids: Vec<&Value> = answers.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [&json!(1), &Value::Null, &json!(3)]);
    assert_eq!(answers[0]["result"], 4);
    assert_eq!((error_of(&answers[1]).0, error_of(&answers[2]).0), (-32600, -32601));
    assert_eq!(venue.methods(&conn), ["sum", "sum", "public/subscribe", "no/such"]);

    // To a batch of notifications alone nothing is said, and one of nothing is no request.
    client.send(Message::text(r#"[{"jsonrpc":"2.0","method":"sum","params":[5]}]"#)).unwrap();
    client.send(Message::text("[]")).unwrap();
    assert_eq!(error_of(&read(&mut client)).0, -32600);
}

#[test]
fn authentication() {
    let venue = JsonRpcVenue::builder().require_auth("id", "hush").build();
    assert!(!format!("{venue:?}").contains("hush"));
    let (server, _conn, mut client) = start(&venue);
    let response = call(&mut client, "private/subscribe", json!({"channels": ["user.orders"]}));
    assert_eq!(error_of(&response), (13009, "unauthorized"));
    let response = call(&mut client, "private/no_such", json!({}));
    assert_eq!(error_of(&response).0, 13009);

    let credentials = |secret: &str| json!({"grant_type": "client_credentials", "client_id": "id", "client_secret": secret});
    let response = call(&mut client, "public/auth", credentials("wrong"));
    assert_eq!(error_of(&response), (13004, "invalid_credentials"));
    let response = call(&mut client, "public/auth", json!({"grant_type": "magic"}));
    assert_eq!(error_of(&response).0, -32602);
    let refused = json!({"grant_type": "refresh_token", "refresh_token": "made up"});
    assert_eq!(error_of(&call(&mut client, "public/auth", refused)).0, 13004);

    let tokens = call(&mut client, "public/auth", credentials("hush"))["result"].clone();
    assert_eq!((&tokens["token_type"], tokens["access_token"].is_string()), (&json!("bearer"), true));
    let response = call(&mut client, "private/subscribe", json!({"channels": ["user.orders"]}));
    assert_eq!(response["result"], json!(["user.orders"]));

    // It belongs to the connection; its token to whoever has it.
    let mut other = connect(&server);
    assert_eq!(error_of(&call(&mut other, "private/no_such", json!({}))).0, 13009);
    let refresh = json!({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]});
    assert!(call(&mut other, "public/auth", refresh)["result"]["access_token"].is_string());
    assert_eq!(error_of(&call(&mut other, "private/no_such", json!({}))).0, -32601);
}

#[test]
fn no_authentication_is_needed_by_default() {
    let (_server, _conn, mut client) = start(&JsonRpcVenue::new());
    let any = json!({"grant_type": "client_credentials", "client_id": "a", "client_secret": "b"});
    assert!(call(&mut client, "public/auth", any)["result"]["refresh_token"].is_string());
    assert_eq!(call(&mut client, "private/unsubscribe_all", json!({}))["result"], "ok");
}

#[test]
fn acknowledgements_can_be_late_or_never_come() {
    let delay = Duration::from_millis(50);
    let venue = JsonRpcVenue::builder().ack_delay(delay).never_ack("void").build();
    let (_server, conn, mut client) = start(&venue);
    let started = Instant::now();
    send(&mut client, 1, "public/subscribe", json!({"channels": ["b", "void"]}));
    send(&mut client, 2, "public/subscribe", json!({"channels": ["a"]}));
    send(&mut client, 3, "public/test", json!({}));
    let fast = read(&mut client);
    assert_eq!(fast["id"], 3, "only subscriptions are late");
    let late = read(&mut client);
    assert_eq!((&late["id"], &late["result"]), (&json!(2), &json!(["a"])));
    assert!(started.elapsed() >= delay);
    assert_eq!(venue.subscriptions(&conn), ["a"], "and those of the unanswered request not made");

    venue.set_never_ack("void", false);
    assert_eq!(
        call(&mut client, "public/subscribe", json!({"channels": ["void"]}))["result"],
        json!(["void"])
    );
    venue.set_never_ack("a", true);
    send(&mut client, 4, "public/subscribe", json!({"channels": ["a"]}));
    assert_eq!(call(&mut client, "public/test", json!({}))["id"], 7);
}

#[test]
fn ticks_count_on_over_connections() {
    let venue = JsonRpcVenue::builder().tick_every(Duration::from_millis(2)).build();
    let server = serve(&venue);
    assert_eq!(venue.sequence("a"), 0);
    let mut client = connect(&server);
    call(&mut client, "public/subscribe", json!({"channels": ["a"]}));
    for expected in 1..=5 {
        let tick = read(&mut client);
        assert_eq!((&tick["method"], &tick["params"]["channel"]), (&json!("subscription"), &json!("a")));
        assert_eq!(tick["params"]["data"]["seq"], expected);
        assert!(tick["params"]["data"]["timestamp"].is_u64());
    }
    drop(client);
    server.wait_live(0, SOON).unwrap();
    let left_at = venue.sequence("a");
    venue.wait_sequence("a", left_at + 3, SOON).unwrap();

    // Another server of the same venue goes on where the first is.
    let server_b = serve(&venue);
    drop(server);
    let mut client = connect(&server_b);
    send(&mut client, 1, "public/subscribe", json!({"channels": ["a"]}));
    assert_eq!(read(&mut client)["id"], 1, "the acknowledgement comes first");
    let first = read(&mut client)["params"]["data"]["seq"].as_u64().unwrap();
    assert!(first > left_at + 3, "{first} after {left_at}");
    assert_eq!(read(&mut client)["params"]["data"]["seq"], first + 1);
}

#[test]
fn a_muted_channel_does_not_tick() {
    let venue = JsonRpcVenue::builder()
        .tick_every(Duration::from_millis(2))
        .tick_data(|channel, sequence| json!(format!("{channel} {sequence}")))
        .build();
    let (_server, _conn, mut client) = start(&venue);
    venue.set_muted("a", true);
    call(&mut client, "public/subscribe", json!({"channels": ["a", "b"]}));
    assert_eq!(read(&mut client)["params"]["data"], "b 1");
    assert_eq!(read(&mut client)["params"]["data"], "b 2");
    assert_eq!(venue.sequence("a"), 0);
    venue.set_muted("a", false);
    venue.wait_sequence("a", 1, SOON).unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&json!("a 1")) {
        assert!(seen.len() < 10_000, "no tick of a");
        seen.push(read(&mut client)["params"]["data"].clone());
    }
}

#[test]
fn other_notifications_go_to_all() {
    let venue = JsonRpcVenue::new();
    let (_server, _conn, mut client) = start(&venue);
    assert_eq!(venue.notify_all("heartbeat", json!({})), 0, "nobody has said anything");
    call(&mut client, "public/test", json!({}));
    assert_eq!(venue.notify_all("heartbeat", json!({"type": "test_request"})), 1);
    let expected = json!({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}});
    assert_eq!(read(&mut client), expected);
}

#[test]
fn waits_fail_with_the_last_requests() {
    let venue = JsonRpcVenue::builder().reject("x").build();
    let (_server, _conn, mut client) = start(&venue);
    call(&mut client, "public/test", json!({"secret": "hush"}));
    call(&mut client, "public/subscribe", json!({"channels": ["x"]}));
    let error = venue.wait_subscribers("x", 1, SHORT).unwrap_err().to_string();
    assert_eq!(
        error,
        "waited 100ms in vain for 1 subscribers of \"x\"; \
         the last requests were [public/test, public/subscribe [\"x\"]]"
    );
    let error = venue.wait_sequence("x", 1, SHORT).unwrap_err().to_string();
    assert!(error.contains("tick number 1 of \"x\""), "{error}");
}

#[test]
fn a_handler_may_look_first() {
    let venue = JsonRpcVenue::new();
    let server = MockServer::builder()
        .handler(move |conn, message| {
            if message == Message::text("hello") {
                conn.send_text("hello yourself");
            } else {
                venue.handle(conn, &message);
            }
        })
        .start();
    let mut client = connect(&server);
    client.send(Message::text("hello")).unwrap();
    assert_eq!(read_text(&mut client), "hello yourself");
    assert_eq!(call(&mut client, "public/test", json!({}))["result"]["version"], "1.2.26");
}
