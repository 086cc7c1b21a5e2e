//! `everwire connect` by way of a proxy.

use everwire_testing::MockServer;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// A proxy that knows no more than CONNECT, for one connection. Its address, and what it is asked for.
fn proxy() -> (String, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let (sender, asked) = mpsc::channel();
    thread::spawn(move || {
        let (client, _) = listener.accept().expect("a connection");
        let mut reader = BufReader::new(client.try_clone().expect("a second handle"));
        let head = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let head: Vec<String> = head.collect();
        let target = head[0].split(' ').nth(1).expect("a target").to_owned();
        sender.send(head).expect("the test waits");
        let server = TcpStream::connect(target).expect("the server");
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("it reads");
        let (mut from, mut to) = (server.try_clone().expect("a second handle"), client);
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut reader, &mut &server);
    });
    (address, asked)
}

fn connect(args: &[&str], vars: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everwire"));
    for name in ["WS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let child = command.arg("connect").args(args).envs(vars.iter().copied());
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary was built for this test");
    child.stdin.take().expect("it is piped").write_all(b"hello\n").expect("less than a pipe holds");
    child.wait_with_output().expect("it ends by itself")
}

/// Answers each text, so that a message shows which way it went.
fn server() -> MockServer {
    MockServer::builder().on_connect(|conn, _| conn.send_text("welcome")).start()
}

#[test]
fn a_proxy_that_is_named_and_one_of_the_environment() {
    for named in [true, false] {
        let server = server();
        let (address, asked) = proxy();
        let url = format!("http://alice:sesame@{address}");
        let output = if named {
            connect(&[&server.url(), "--proxy", &url], &[])
        } else {
            connect(
                &[&server.url(), "--proxy-from-env"],
                &[("HTTP_PROXY", &url), ("no_proxy", "example.com")],
            )
        };
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        let head = asked.recv().expect("the proxy was asked");
        assert_eq!(head[0], format!("CONNECT {} HTTP/1.1", server.addr()));
        assert!(head.contains(&"Proxy-Authorization: Basic YWxpY2U6c2VzYW1l".to_owned()), "{head:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "welcome", "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }
}

#[test]
fn the_environment_may_say_not_by_a_proxy() {
    let server = server();
    let nobody = "http://127.0.0.1:1";
    let output = connect(
        &[&server.url(), "--proxy-from-env"],
        &[("ALL_PROXY", nobody), ("NO_PROXY", "localhost,127.0.0.0/8")],
    );
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // And without the option the environment says nothing.
    let output = connect(&[&server.url()], &[("ALL_PROXY", nobody)]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_proxy_that_cannot_be_is_told() {
    for (args, vars, expected) in [
        (&["ws://h", "--proxy", "ftp://hunter2@p"][..], &[][..], "proxy: there are no ftp:// proxies here"),
        (
            &["ws://h", "--proxy-from-env"],
            &[("WS_PROXY", "ftp://hunter2@p")],
            "WS_PROXY: there are no ftp:// proxies here",
        ),
    ] {
        let output = connect(args, vars);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
    }
}
