//! The shortest life of a session: connect, receive, send, close.
use everwire_core::*;
use std::time::{Duration, Instant, SystemTime};

#[test]
fn life() {
    let now = Instant::now();
    let mut s = Session::new(Config::new("ws://127.0.0.1:9/x").unwrap(), Clock { instant: now, system: SystemTime::now() }, [1; 32]).unwrap();
    let Output::Connect(conn, addr) = s.poll_output(now) else { panic!() };
    assert_eq!(addr.port(), 9);
    s.handle_connected(conn, now);
    assert!(matches!(s.poll_output(now), Output::Wait(Some(_))));
    let request = String::from_utf8(s.transmit(conn).to_vec()).unwrap();
    println!("{request}");
    let key = request.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    s.handle_transmitted(conn, request.len(), now);
    let mut bytes = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").into_bytes();
    bytes.extend(b"\x81\x05hello");
    s.recv_buffer(conn)[..bytes.len()].copy_from_slice(&bytes);
    s.handle_received(conn, bytes.len(), now);
    assert_eq!(s.poll_output(now), Output::Event);
    println!("{:?}", s.event());
    assert_eq!(s.poll_output(now), Output::Event);
    println!("{:?}", s.event());
    println!("{:?}", s.poll_output(now));
    s.send(Message::Text("hi"), SendOptions::default(), now).unwrap();
    println!("{:?}", s.transmit(conn));
    s.handle_disconnected(conn, Disconnect::Eof, now);
    println!("{:?}", s.poll_output(now));
    println!("{:?}", s.event());
    println!("{:?}", s.poll_output(now));
    let _ = Duration::ZERO;
}
