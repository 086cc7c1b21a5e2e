//! Sessions by way of a proxy, without TLS: what is said to it, what becomes of its answers, and whom it is asked for.

#![allow(clippy::unwrap_used, reason = "in tests, a panic is the report")]

mod common;

use common::*;
use everwire_core::transport::proxy::ProxyFault;
use everwire_core::{
    Category, Config, Cooldown, Disconnect, Endpoint, Error, Message, Output, OwnedEvent, Proxy, ProxyError,
    ProxyRules, ResolveError, SendOptions,
};
use std::io;
use std::net::SocketAddr;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const AGENT: &str = concat!("User-Agent: everwire/", env!("CARGO_PKG_VERSION"), "\r\n");

fn proxied(proxy: &str) -> Config {
    config_to("ws://server.example/feed", proxy)
}

fn config_to(url: &str, proxy: &str) -> Config {
    let config = Config::new(url).unwrap().ping_interval(None).handshake_limits(1024, 50).recv_buffer(8192);
    config.proxy(Proxy::new(proxy).unwrap())
}

/// The first connection, its CONNECT or greeting written.
fn begun(config: Config) -> Harness {
    let mut h = Harness::new(config);
    h.run();
    h.connect(0);
    h
}

/// The request of the WebSocket, which is what follows on the first so many bytes.
fn request(h: &Harness, conn: usize, skip: usize) -> Vec<u8> {
    h.conns[conn].written[skip..].to_vec()
}

/// Why the newest attempt failed, and whether there is another.
fn failure(h: &Harness) -> (Error, bool) {
    let failed = h.events.iter().rev().find_map(|event| match event {
        OwnedEvent::AttemptFailed { error, retry_at, .. } => Some((error.clone(), retry_at.is_some())),
        _ => None,
    });
    failed.unwrap_or_else(|| panic!("no attempt failed: {:?}", h.events))
}

fn fault(h: &Harness) -> (ProxyFault, bool) {
    match failure(h) {
        (Error::Proxy(ProxyError { proxy, fault }), again) => {
            assert!(proxy.ends_with(":3128"), "{proxy}");
            (fault, again)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn http_connect_then_the_plain_connection() {
    let mut h = begun(proxied("http://alice:sesame@127.0.0.9:3128"));
    assert_eq!(h.conns[0].addr, SocketAddr::from(([127, 0, 0, 9], 3128)));
    assert_eq!(h.asked, [], "the name of the server is the proxy's to resolve");
    let connect = format!(
        "CONNECT server.example:80 HTTP/1.1\r\nHost: server.example:80\r\n\
         Proxy-Authorization: Basic YWxpY2U6c2VzYW1l\r\n{AGENT}\r\n"
    );
    assert_eq!(String::from_utf8(h.conns[0].written.clone()).unwrap(), connect);
    h.feed(0, ESTABLISHED);
    let upgrade = request(&h, 0, connect.len());
    assert_eq!(header(&upgrade, "Host").as_deref(), Some("server.example"));
    assert_eq!(header(&upgrade, "Proxy-Authorization"), None, "that was for the proxy alone");
    h.feed(0, &accept(&upgrade, ""));
    assert_eq!(brief(&mut h), ["online false"]);
    h.feed(0, &text("hello"));
    assert_eq!(brief(&mut h), ["message hello"]);
    h.s.send(Message::Text("back"), SendOptions::default(), h.now).unwrap();
    h.run();
    h.flush(0);
    let sent = request(&h, 0, connect.len());
    assert_eq!(frames(after_head(&sent)).0, [(FIN | TEXT, b"back".to_vec())]);
    // The next connection goes the same way.
    h.eof(0);
    let next = h.next_conn();
    assert_eq!(h.conns[next].addr, h.conns[0].addr);
    h.connect(next);
    assert!(h.conns[next].written.starts_with(b"CONNECT server.example:80 "));
}

#[test]
fn socks_step_by_step() {
    let mut h = begun(proxied("socks5h://alice:sesame@127.0.0.9:3128"));
    assert_eq!(h.conns[0].written, [5, 2, 0, 2]);
    h.feed(0, &[5, 2]);
    assert_eq!(h.conns[0].written[4..], *b"\x01\x05alice\x06sesame");
    h.feed(0, &[1, 0]);
    assert_eq!(h.conns[0].written[18..], *b"\x05\x01\x00\x03\x0eserver.example\x00\x50");
    let before = h.conns[0].written.len();
    h.feed(0, &[5, 0, 0, 1, 127, 0, 0, 1, 0]);
    assert_eq!(h.conns[0].written.len(), before, "one byte is missing");
    h.feed(0, &[0]);
    let upgrade = request(&h, 0, before);
    h.feed(0, &accept(&upgrade, ""));
    h.feed(0, &text("hello"));
    assert_eq!(brief(&mut h), ["online false", "message hello"]);
}

#[test]
fn the_name_of_the_proxy_is_resolved_and_what_fails_is_its_fault() {
    let mut h = Harness::new(proxied("http://proxy.example:3128"));
    h.run();
    let [Output::Resolve(id)] = h.asked[..] else { panic!("{:?}", h.asked) };
    assert_eq!(h.s.host(id), Some(("proxy.example", 3128)));
    let addrs = [SocketAddr::from(([10, 0, 0, 1], 3128))];
    h.s.handle_resolved(id, Ok(&addrs), h.now);
    h.run();
    assert_eq!(h.conns[0].addr, addrs[0]);
    let cause = Disconnect::Io { kind: io::ErrorKind::ConnectionRefused, message: "refused".into() };
    h.s.handle_disconnected(h.conns[0].id, cause.clone(), h.now);
    h.run();
    assert_eq!(fault(&h), (ProxyFault::Connect { addr: addrs[0], cause }, true));
    assert_eq!(
        failure(&h).0.to_string(),
        "proxy http://proxy.example:3128: could not connect to 10.0.0.1:3128: refused"
    );
    while h.asked.len() < 2 {
        h.advance(secs(1));
    }
    let Output::Resolve(id) = h.asked[1] else { panic!("{:?}", h.asked) };
    let error = ResolveError { message: "no such name".into() };
    h.s.handle_resolved(id, Err(error.clone()), h.now);
    h.run();
    assert_eq!(fault(&h), (ProxyFault::Resolve(error), true));
}

#[test]
fn credentials_that_are_refused_stop_a_session_that_never_was_online() {
    let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    let mut h = begun(proxied("http://127.0.0.9:3128"));
    h.feed_silently(0, refusal);
    let (error, again) = failure(&h);
    assert!(!again && error.category() == Category::Authentication, "{error}");
    let text = error.explain().to_string();
    assert!(
        text.contains("http://127.0.0.9:3128") && text.contains("407") && text.contains("credentials"),
        "{text}"
    );
    assert!(matches!(h.events.last(), Some(OwnedEvent::Closed { error: Some(last), .. }) if *last == error));

    for (answers, expected) in [
        (&[&[5_u8, 2][..], &[1, 1]][..], ProxyFault::CredentialsRefused { status: 1 }),
        (&[&[5, 0xff]], ProxyFault::NoMethod { credentials: true }),
    ] {
        let mut h = begun(proxied("socks5://u:p@127.0.0.9:3128"));
        answers.iter().for_each(|answer| {
            h.feed_silently(0, answer);
        });
        assert_eq!(fault(&h), (expected, false));
    }

    // The password may have been changed while we were online: the proxy that served before will serve again.
    let mut h = begun(proxied("http://127.0.0.9:3128"));
    let skip = h.conns[0].written.len();
    h.feed(0, ESTABLISHED);
    let answer = accept(&request(&h, 0, skip), "");
    h.feed(0, &answer);
    h.eof(0);
    let next = h.next_conn();
    h.connect(next);
    h.feed_silently(next, refusal);
    assert!(failure(&h).1, "it tries again");
}

#[test]
fn other_refusals_try_again() {
    let mut h = begun(proxied("http://127.0.0.9:3128"));
    h.feed_silently(0, b"HTTP/1.1 403 Filtered\r\nContent-Length: 2\r\n\r\nno");
    let (refused, again) = fault(&h);
    assert!(
        again && matches!(&refused, ProxyFault::Refused(refused) if refused.body == b"no"),
        "{refused:?}"
    );
    let mut h = begun(proxied("http://127.0.0.9:3128"));
    h.feed_silently(0, b"HTTP/1.1 503 Busy\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n");
    assert!(retry_in(&h).unwrap() >= secs(77));
    let mut h = begun(proxied("socks5://127.0.0.9:3128"));
    h.feed_silently(0, &[5, 0]);
    h.feed_silently(0, &[5, 5]);
    assert_eq!(fault(&h), (ProxyFault::Reply(5), true));
}

#[test]
fn ends_and_silence_before_the_proxy_has_connected_us() {
    let cause = Disconnect::Io { kind: io::ErrorKind::ConnectionReset, message: "reset".into() };
    for (url, part) in
        [("http://127.0.0.9:3128", &b"HTTP/1.1 200 OK\r\n"[..]), ("socks5://127.0.0.9:3128", &[5, 0, 5])]
    {
        for received in 0..=part.len() {
            for cause in [Disconnect::Eof, cause.clone()] {
                let mut h = begun(proxied(url));
                h.feed_silently(0, &part[..received]);
                h.s.handle_disconnected(h.conns[0].id, cause.clone(), h.now);
                h.run();
                let expected = ProxyFault::Ended { received, cause };
                match fault(&h) {
                    // What begins like another protocol is told as such.
                    (ProxyFault::NotHttp { .. }, true) if received < 7 => {}
                    other => assert_eq!(other, (expected, true)),
                }
            }
            let mut h = begun(proxied(url));
            h.feed_silently(0, &part[..received]);
            h.advance(millis(9_999));
            assert!(h.events.is_empty(), "{:?}", h.events);
            h.advance(millis(1));
            assert!(
                matches!(fault(&h), (ProxyFault::Timeout | ProxyFault::NotHttp { .. }, true)),
                "{:?}",
                h.events
            );
            assert!(h.conns[0].dropped);
        }
    }
    // A refusal that only lacks its end is one.
    let mut h = begun(proxied("http://127.0.0.9:3128"));
    h.feed_silently(0, b"HTTP/1.1 407 No\r\nContent-Length: 9\r\n\r\nhal");
    h.advance(secs(10));
    assert!(matches!(fault(&h), (ProxyFault::Refused(refused), false) if refused.body == b"hal"));
}

#[test]
fn one_deadline_for_the_proxy_and_the_handshake() {
    let mut h = begun(proxied("http://127.0.0.9:3128"));
    h.advance(secs(6));
    h.feed(0, ESTABLISHED);
    h.advance(millis(3_999));
    assert!(h.events.is_empty(), "{:?}", h.events);
    h.advance(millis(1));
    assert_eq!(failure(&h).0.category(), Category::Timeout);
    assert!(matches!(failure(&h).0, Error::Timeout(_)), "it was not the proxy's fault");
}

#[test]
fn each_target_is_judged_by_itself() {
    let rules = || {
        ProxyRules::from(Proxy::new("http://10.9.9.9:3128").unwrap()).bypass("10.0.0.0/16, direct").unwrap()
    };
    let config = Config::new("ws://10.1.0.1/a").unwrap().endpoints(["ws://10.0.0.2:81/b"]).unwrap();
    let mut h = Harness::new(config.proxy(rules()));
    h.run();
    h.connect(0);
    h.eof(0);
    let next = h.next_conn();
    h.connect(next);
    assert_eq!(h.conns[0].addr, SocketAddr::from(([10, 9, 9, 9], 3128)));
    assert_eq!(
        h.conns[next].addr,
        SocketAddr::from(([10, 0, 0, 2], 81)),
        "that endpoint is reached directly"
    );
    assert!(h.conns[next].written.starts_with(b"GET /b "));
    // A redirect leads out of the proxy and back.
    let redirect = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n").into_bytes();
    h.feed_silently(next, &redirect("http://10.1.0.3:82/c"));
    h.run();
    assert_eq!(h.conns[2].addr, SocketAddr::from(([10, 9, 9, 9], 3128)));
    h.connect(2);
    assert!(h.conns[2].written.starts_with(b"CONNECT 10.1.0.3:82 "));
    h.feed(2, ESTABLISHED);
    h.feed_silently(2, &redirect("ws://direct/d"));
    h.run();
    let Some(Output::Resolve(id)) = h.asked.pop() else { panic!("{:?}", h.asked) };
    assert_eq!(h.s.host(id), Some(("direct", 80)));

    // And so is what a provider gives.
    let mut h = Harness::new(Config::provided().proxy(rules()));
    h.run();
    let Some(Output::Provide(id)) = h.asked.pop() else { panic!("{:?}", h.asked) };
    h.s.handle_endpoint(id, Ok(Endpoint::new("ws://far.example/").unwrap()), h.now);
    h.run();
    assert_eq!(h.conns[0].addr, SocketAddr::from(([10, 9, 9, 9], 3128)));
}

#[test]
fn a_cool_down_is_for_the_server_and_not_for_the_proxy() {
    let cooldown = Cooldown::default();
    let mut h = begun(proxied("http://127.0.0.9:3128").cooldown(cooldown.clone()));
    h.feed(0, ESTABLISHED);
    h.feed_silently(0, b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n");
    assert!(retry_in(&h).unwrap() >= secs(10));
    let other = config_to("ws://other.example/", "http://127.0.0.9:3128").cooldown(cooldown.clone());
    let mut other = Harness::new(other);
    other.run();
    assert_eq!(other.conns.len(), 1, "another server by way of the same proxy");
    let mut same = Harness::new(proxied("http://127.0.0.8:3128").cooldown(cooldown));
    same.run();
    assert_eq!(same.conns.len(), 0, "the same server by way of another proxy");
    // What the proxy itself complains about holds nobody else back.
    let cooldown = Cooldown::default();
    let mut h = begun(proxied("http://127.0.0.9:3128").cooldown(cooldown.clone()));
    h.feed_silently(0, b"HTTP/1.1 429 Slow down\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n");
    assert!(retry_in(&h).unwrap() >= secs(60));
    let mut same = Harness::new(proxied("http://127.0.0.9:3128").cooldown(cooldown));
    same.run();
    assert_eq!(same.conns.len(), 1);
}

/// All that arrives: the proxy's answers, the upgrade, messages.
fn stream(url: &str, answers: &[u8]) -> Vec<u8> {
    let mut h = begun(proxied(url));
    h.feed(0, answers);
    let written = &h.conns[0].written;
    let at = written.windows(4).rposition(|part| part == b"GET ").unwrap();
    let more: Vec<u8> = (0..20).flat_map(|n| text(&format!("message {n}"))).collect();
    [answers, &accept(&written[at..], ""), &frame(FIN | BINARY, &[7; 9000]), &more, &close(1000, "bye")]
        .concat()
}

/// Events and bytes, if this arrives cut at `cuts`, and what is to be written goes out at the end or all the time.
fn run(url: &str, stream: &[u8], cuts: &[usize], writes: bool) -> (Vec<String>, Vec<u8>) {
    let mut h = Harness::new(proxied(url));
    h.run();
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    let mut from = 0;
    for &to in cuts.iter().chain([&stream.len()]) {
        assert_eq!(h.feed_silently(0, &stream[from..to]), to - from);
        if writes {
            h.flush(0);
        }
        from = to;
    }
    h.flush(0);
    (h.events.iter().map(in_short).collect(), h.conns[0].written.clone())
}

#[test]
fn cuts_do_not_matter_wherever_the_proxy_ends() {
    let granted = [&[5, 2, 1, 0, 5, 0, 0, 3, 4][..], b"name", &[0, 80]].concat();
    for (url, answers) in
        [("http://127.0.0.9:3128", ESTABLISHED.to_vec()), ("socks5://u:p@127.0.0.9:3128", granted)]
    {
        let stream = stream(url, &answers);
        let whole = run(url, &stream, &[], false);
        assert_eq!(whole.0.len(), 23, "online, 21 messages, lost");
        for cut in 0..answers.len() + 400 {
            for writes in [false, true] {
                assert!(run(url, &stream, &[cut], writes) == whole, "{url}: cut at {cut}, writes: {writes}");
            }
        }
        let all: Vec<usize> = (0..stream.len()).collect();
        assert!(run(url, &stream, &all, false) == whole, "byte by byte");
        assert!(run(url, &stream, &all, true) == whole, "byte by byte, writing");
    }
}

#[test]
fn what_is_left_of_our_request_goes_out_before_the_websocket() {
    // The answer is there before the request is written.
    let mut h = Harness::new(proxied("http://127.0.0.9:3128"));
    h.run();
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    assert_eq!(h.flush_up_to(0, 10), 10);
    h.feed_silently(0, ESTABLISHED);
    h.flush(0);
    let written = &h.conns[0].written;
    let at = written.windows(4).position(|part| part == b"GET ").unwrap();
    let connect = format!("CONNECT server.example:80 HTTP/1.1\r\nHost: server.example:80\r\n{AGENT}\r\n");
    assert_eq!(std::str::from_utf8(&written[..at]).unwrap(), connect);
    let answer = accept(&written[at..], "");
    h.feed(0, &answer);
    assert_eq!(brief(&mut h), ["online false"]);
}

#[test]
fn closing_while_the_proxy_is_silent_ends_at_once() {
    let mut h = begun(proxied("http://127.0.0.9:3128"));
    h.s.close(everwire_core::CloseCode::Normal, "", h.now);
    assert_eq!(h.run(), Stop::Closed);
    // And when the socket does not even take the request.
    let mut h = Harness::new(proxied("http://127.0.0.9:3128"));
    h.run();
    h.s.handle_connected(h.conns[0].id, h.now);
    h.run();
    h.s.close(everwire_core::CloseCode::Normal, "", h.now);
    h.run();
    assert_eq!(h.advance(secs(5)), Stop::Closed);
}

/// Whatever a proxy sends: no panic, no spin, and an end.
#[test]
fn noise_ends() {
    let mut state = 7_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let parts: [&[u8]; 12] = [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 407 No\r\nContent-Length: 99\r\n\r\n",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"\r\n",
        b"X: y\r\n",
        &[5, 0],
        &[5, 2],
        &[1, 0],
        &[5, 0, 0, 3, 200],
        &[0; 70],
        &[0x81, 5],
    ];
    for round in 0..2000 {
        let url = ["http://127.0.0.9:3128", "socks5://u:p@127.0.0.9:3128"][round % 2];
        let mut h = begun(proxied(url).max_attempts(1));
        for _ in 0..random() % 12 {
            let part = parts[random() as usize % parts.len()];
            let cut = random() as usize % (part.len() + 1);
            h.feed_silently(0, &part[..cut]);
            h.feed_silently(0, &part[cut..]);
            h.flush(0);
        }
        if round % 3 == 0 {
            h.eof(0)
        } else {
            h.advance(secs(30))
        };
        assert_eq!(h.advance(secs(30)), Stop::Closed, "{:?}", h.events);
        assert!(matches!(failure(&h), (Error::Proxy(_) | Error::Handshake(_) | Error::Timeout(_), false)));
    }
}
