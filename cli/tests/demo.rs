//! The binary, run as a user runs it.

use everwire_testing::venue::JsonRpcVenue;
use everwire_testing::{ConnectionEnd, MockServer};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn everwire(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_everwire"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("less than a pipe holds");
    drop(stdin);
    child.wait_with_output().expect("it ends by itself")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the output is text")
}

fn demo_succeeds(args: &[&str]) -> String {
    let start = Instant::now();
    let output = everwire(args, "");
    let text = stdout(&output);
    let last = text.lines().last().unwrap_or_default();
    assert_eq!(last, "demo: ok, 1 reconnect, 2/2 subscriptions restored, 1 gap reported", "{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(start.elapsed() < Duration::from_secs(20), "bounded: {:?}", start.elapsed());
    assert!(!text.contains('\x1b'), "no colours in a pipe: {text:?}");
    text
}

#[test]
fn demo() {
    let text = demo_succeeds(&["demo"]);
    assert!(text.contains("ws://127.0.0.1:"), "{text}");
}

#[test]
fn demo_over_tls() {
    let text = demo_succeeds(&["demo", "--tls"]);
    assert!(text.contains("wss://localhost:"), "{text}");
}

#[test]
fn demo_that_is_not_done_in_time_fails() {
    let output = everwire(&["demo", "--limit", "0"], "");
    let text = stdout(&output);
    let last = text.lines().last().unwrap_or_default();
    // How far it came is a matter of luck.
    assert!(last.starts_with("demo: failed, ") && last.ends_with(" within 0 s"), "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
}

#[test]
fn connect_sends_lines_prints_messages_and_closes() {
    let server = MockServer::builder().handler(|conn, message| conn.send(message)).start();
    let args = ["connect", &server.url(), "--header", "X-Test: yes", "--subscribe", "hello"];
    let output = everwire(&args, "one\ntwo\n");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), "hello\none\ntwo\n", "{output:?}");
    let conn = server.wait_connection(0, SOON).unwrap();
    assert_eq!(conn.header("X-Test"), Some("yes"));
    let end = conn.wait_end(SOON).unwrap();
    assert!(matches!(end, ConnectionEnd::Closed { by_server: false, .. }), "{end}");
}

#[test]
fn connect_speaks_json_rpc() {
    let venue = JsonRpcVenue::builder().reject("b").build();
    let server = MockServer::builder().venue(&venue).start();
    let args = [
        "connect",
        &server.url(),
        "--jsonrpc",
        "--prefix",
        "public/",
        "--subscribe",
        "a",
        "--subscribe",
        "b",
    ];
    let output = everwire(&args, "{\"jsonrpc\":\"2.0\",\"id\":\"mine\",\"method\":\"public/test\"}\n");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).contains("\"id\":\"mine\""), "{output:?}");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("subscribed to a\n") && notes.contains("b was rejected"), "{notes}");
}

#[test]
fn connect_says_why_it_cannot() {
    let output = everwire(&["connect", "http://example.invalid"], "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let secret = everwire(&["connect", "ws://127.0.0.1:9", "--header", "hunter2"], "");
    assert_eq!(secret.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&secret.stderr).contains("hunter2"));
}
