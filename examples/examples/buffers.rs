//! The session without any I/O: two byte buffers, and a clock that is a variable. This is how to simulate it, to test with it, or to
//! begin a driver of one's own.
//!
//! ```text
//! cargo run -p everwire-examples --example buffers
//! ```

use everwire_core::*;
use everwire_examples::Peer;
use std::io::{Read, Write};
use std::time::{Instant, SystemTime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("buffers: ok, {}", run()?);
    Ok(())
}

pub(crate) fn run() -> Result<String, Box<dyn std::error::Error>> {
    let mut now = Instant::now();
    let start = Clock { instant: now, system: SystemTime::now() };
    let mut session = Session::new(Config::new("ws://192.0.2.1/")?, start, [7; 32])?;
    let mut connection: Option<(ConnId, Peer)> = None;
    let (mut connections, mut messages) = (0, 0);
    loop {
        match session.poll_output(now) {
            Output::Connect(conn, _) => {
                connections += 1;
                connection = Some((conn, Peer::default()));
                session.handle_connected(conn, now);
            }
            Output::Disconnect(_) => connection = None,
            Output::Event => match session.event().ok_or("an event was announced")? {
                Event::Online { .. } => {
                    for _ in 0..10 {
                        session.send(Message::Text("hello"), SendOptions::default(), now)?;
                    }
                }
                Event::Message { message: Message::Text("hello"), .. } => messages += 1,
                Event::Lost { .. } | Event::Gap(_) | Event::Closed { error: None, .. } => {}
                event => return Err(format!("{event:?} is not as it must be").into()),
            },
            Output::Wait(deadline) => match &mut connection {
                // Once the peer dies in the middle, and at the end it has answered our close frame.
                Some((conn, peer)) if (connections, messages) == (1, 10) || peer.is_closed() => {
                    session.handle_disconnected(*conn, Disconnect::Eof, now);
                    connection = None;
                }
                Some((conn, peer)) => {
                    let sent = peer.input.write(session.transmit(*conn))?;
                    session.handle_transmitted(*conn, sent, now);
                    peer.answer();
                    let received = peer.output.read(session.recv_buffer(*conn))?;
                    session.handle_received(*conn, received, now);
                    if messages == 20 {
                        session.close(CloseCode::Normal, "", now);
                    }
                }
                // Nothing to do but to wait for time to pass, and here it has passed already.
                None => now = deadline.ok_or("the session waits for nothing")?,
            },
            Output::Closed => return Ok(format!("{connections} connections, {messages} messages")),
            Output::Provide(_) | Output::Resolve(_) | Output::Open(_) => {
                unreachable!("the URL has an address")
            }
        }
    }
}
