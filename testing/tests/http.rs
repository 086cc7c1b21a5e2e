//! Ordinary HTTP on the port of the server.

// clippy.toml allows it in test functions, but not in the functions they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::*;
use everwire_testing::{HandshakeFault, HttpResponse, MockServer, tungstenite};
use serde_json::{Value, json};

/// Sends a request and reads to the end of the connection.
fn ask(server: &MockServer, request: &str) -> String {
    let mut stream = tcp(server.addr());
    stream.write_all(request.as_bytes()).unwrap();
    String::from_utf8(read_all(&mut stream).0).unwrap()
}

fn echo() -> MockServer {
    MockServer::builder()
        .http("POST", "/echo", |request| {
            let about = json!({
                "json": request.json(),
                "query": request.uri().query(),
                "type": request.headers().get("content-type").map(|value| value.to_str().unwrap()),
                "body": String::from_utf8(request.body().to_vec()).unwrap(),
            });
            HttpResponse::json(&about)
        })
        .http("*", "/any", |request| HttpResponse::new(204).header("X-Method", request.method().as_str()))
        .http("GET", "/panic", |_| panic!("out of tokens"))
        .start()
}

#[test]
fn a_request_is_answered_with_all_that_was_asked() {
    let server = echo();
    assert_eq!(server.http_url("/echo"), format!("http://{}/echo", server.addr()));
    let answer = ask(
        &server,
        "POST /echo?a=b HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close",
            body.len()
        )
    );
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({"json": null, "query": "a=b", "type": "text/plain", "body": "hello"}));

    for method in ["GET", "DELETE"] {
        let answer = ask(&server, &format!("{method} /any HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n"), "{answer}");
        assert!(answer.contains(&format!("\r\nX-Method: {method}\r\n")), "{answer}");
    }
    let requests = server.wait_http_requests(3, SOON).unwrap();
    let asked: Vec<String> =
        requests.iter().map(|request| format!("{} {}", request.method(), request.uri())).collect();
    assert_eq!(asked, ["POST /echo?a=b", "GET /any", "DELETE /any"]);
    assert_eq!(&requests[0].body()[..], b"hello");
    assert_eq!(requests[0].url_of("/ws"), server.url_of("/ws"));
    let answer = ask(&server, "POST /echo HTTP/1.1\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
    assert!(answer.contains(r#""json":{"a":1}"#), "{answer}");
    assert_eq!((server.attempts(), server.connections(), server.requests().len()), (4, 0, 0));
    assert!(server.failures().is_empty(), "{:?}", server.failures());
    server.wait_http_requests(5, SHORT).unwrap_err();
}

#[test]
fn a_body_comes_in_pieces_and_in_chunks() {
    let server = echo();
    let mut stream = tcp(server.addr());
    let request = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    let answer = String::from_utf8(read_all(&mut stream).0).unwrap();
    assert!(answer.contains(r#""body":"hello world""#), "{answer}");

    let mut stream = tcp(server.addr());
    stream.write_all(b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    let answer = String::from_utf8(read_all(&mut stream).0).unwrap();
    assert!(answer.contains(r#""body":"ok""#), "{answer}");
}

#[test]
fn what_nobody_answers() {
    let server = echo();
    for (request, answer) in [
        ("GET /nowhere HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n"),
        ("GET /echo HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n"),
        ("GET /panic HTTP/1.1\r\n\r\n", ""),
        ("POST /echo HTTP/1.1\r\nContent-Length: many\r\n\r\n", ""),
        ("POST /echo HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", ""),
        ("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", ""),
        ("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFE\r\n", ""),
    ] {
        let got = ask(&server, request);
        assert!(got.starts_with(answer) && got.is_empty() == answer.is_empty(), "{request}: {got}");
    }
    let failures = server.wait_failures(5, SOON).unwrap();
    assert_eq!(failures, server.failures());
    assert_eq!(failures[0], "GET /panic: its handler panicked: out of tokens");
    assert_eq!(failures[1], "POST /echo: its Content-Length is no number up to 16 MiB");
    // The server has survived all of it.
    connect(&server);
}

#[test]
fn without_handlers_there_is_no_http() {
    let server = MockServer::start();
    let answer = ask(&server, "POST /token HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(server.http_requests().is_empty());
}

#[test]
fn the_last_handler_of_a_path_counts_and_may_take_its_time() {
    let delay = Duration::from_millis(50);
    let server = MockServer::builder()
        .http("GET", "/a", |_| HttpResponse::new(200).body("old"))
        .http("GET", "/a", move |_| HttpResponse::new(200).body("new").delay(delay))
        .start();
    let started = Instant::now();
    assert!(ask(&server, "GET /a HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nnew"));
    assert!(started.elapsed() >= delay);
}

#[test]
fn faults_of_the_handshake_are_not_used_up_by_http() {
    let server = MockServer::builder()
        .http("GET", "/token", |_| HttpResponse::new(200).body("t"))
        .handshake_for(1, HandshakeFault::status(503))
        .handshake_for(1, HandshakeFault::Silent)
        .start();
    let token = || assert!(ask(&server, "GET /token HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nt"));
    token();
    assert!(ask(&server, &String::from_utf8(upgrade_request("/", "")).unwrap()).starts_with("HTTP/1.1 503 "));
    token();
    let mut stream = tcp(server.addr());
    stream.write_all(&upgrade_request("/", "")).unwrap();
    stream.set_read_timeout(Some(SHORT)).unwrap();
    assert_eq!(read_all(&mut stream).0, b"", "silent");
    token();
    connect(&server);
    assert_eq!((server.attempts(), server.connections(), server.requests().len()), (6, 1, 3));
}

#[test]
fn over_tls_too() {
    let server = MockServer::builder()
        .tls()
        .http("GET", "/token", |_| HttpResponse::json(&json!({"token": 1})))
        .start();
    assert!(server.http_url("token").starts_with("https://localhost:"));
    let mut stream = tls(&server, None);
    stream.write_all(b"GET /token HTTP/1.1\r\n\r\n").unwrap();
    let (answer, end) = read_all(&mut stream);
    end.unwrap();
    assert!(answer.ends_with(b"\r\n\r\n{\"token\":1}"));
}

#[test]
fn the_story_of_a_server() {
    let server = MockServer::builder()
        .http("POST", "/token", |_| HttpResponse::new(200))
        .handshake_for(1, HandshakeFault::status(503))
        .handler(|conn, message| conn.send(message))
        .start();
    ask(&server, "POST /token?secret=s HTTP/1.1\r\n\r\n");
    assert!(try_connect(&server).is_err());
    server.wait_failures(1, SOON).unwrap();
    let (mut client, _) = handshake(server.url_of("/ws?token=secret"), tcp(server.addr())).unwrap();
    client.send("hi".into()).unwrap();
    assert_eq!(read_text(&mut client), "hi");
    drop(client);
    server.wait_live(0, SOON).unwrap();
    let story = without_times(&server.transcript());
    let lines: Vec<&str> = story.lines().collect();
    // When the failed attempt is over for the server is its own business.
    let (failed, others): (Vec<&str>, Vec<&str>) =
        lines.iter().partition(|line| line.contains("no connection"));
    assert!(failed[0].starts_with("-- no connection: fault: Status { code: 503"), "{failed:?}");
    assert_eq!(
        others,
        [
            "-- POST /token?..., answered with 200",
            "#0 -- GET /ws?..., answered with 101",
            "#0 <- text \"hi\"",
            "#0 -> text \"hi\"",
            "#0 -- the client ended the stream without a closing handshake",
        ]
    );
}

/// Queries, headers and bodies hold tokens and keys, and a test that fails prints what it has.
#[test]
fn what_may_be_secret_is_not_shown() {
    let server = echo();
    let key = "KC-API-KEY: hunter2\r\nContent-Length: 7\r\n\r\nhunter2";
    ask(&server, &format!("POST /echo?token=hunter2 HTTP/1.1\r\nHost: x\r\n{key}"));
    let asked = format!("{:?}", server.wait_http_requests(1, SOON).unwrap());
    assert!(!asked.contains("hunter2"), "{asked}");
    assert!(asked.contains("POST") && asked.contains("/echo") && asked.contains("kc-api-key"), "{asked}");

    let token = json!({"token": "hunter2"});
    let answered = [
        format!("{:?}", HttpResponse::json(&token).header("Set-Cookie", "hunter2")),
        format!("{:?}", everwire_testing::script::HttpResponse::json(&token).header("Set-Cookie", "hunter2")),
    ];
    for shown in answered {
        assert!(
            !shown.contains("hunter2") && shown.contains("200") && shown.contains("Set-Cookie"),
            "{shown}"
        );
    }

    let _client = tungstenite::connect(server.url_of("/ws?token=hunter2")).unwrap();
    let conn = format!("{:?}", server.wait_connection(0, SOON).unwrap());
    assert!(!conn.contains("hunter2") && conn.contains("/ws?..."), "{conn}");
}
