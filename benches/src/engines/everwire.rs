//! Everwire itself: a whole `Session` that is past its handshake, driven as a driver does.
//!
//! Everything is at its defaults, but for the pings of our own, which no peer sends.

use std::rc::Rc;
use std::time::{Instant, SystemTime};

use everwire_core::{Clock, Config, ConnId, Event, Message, Output, SendError, SendOptions, Session};

use super::unexpected;
use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input, Kind, Payload};

/// Ours.
pub(super) const ENGINE: Option<Engine> = Some(Engine {
    name: "everwire",
    role: Role::Ours,
    decoders: &[Setting { name: "Session", make: decoder }],
    encoders: &[Setting { name: "Session", make: encoder }],
});

fn decoder(input: &Rc<Input>) -> Box<dyn Decoder> {
    let (session, conn, now) = online();
    Box::new(Reading { input: Rc::clone(input), session, conn, now })
}

fn encoder(out: &Out) -> Box<dyn Encoder> {
    let (session, conn, now) = online();
    Box::new(Writing { out: out.clone(), session, conn, now })
}

/// A session after its handshake.
fn online() -> (Session, ConnId, Instant) {
    let now = Instant::now();
    let config = Config::new("ws://127.0.0.1:1/").expect("a valid URL").ping_interval(None);
    let start = Clock { instant: now, system: SystemTime::UNIX_EPOCH };
    let mut session = Session::new(config, start, [7; 32]).expect("a valid configuration");
    let Output::Connect(conn, _) = session.poll_output(now) else { panic!("it connects first") };
    session.handle_connected(conn, now);
    let _wait = session.poll_output(now);
    let request = String::from_utf8(session.transmit(conn).to_vec()).expect("HTTP is text");
    session.handle_transmitted(conn, request.len(), now);
    let key =
        request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("it has a key");
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        ::tungstenite::handshake::derive_accept_key(key.as_bytes())
    );
    session.recv_buffer(conn)[..response.len()].copy_from_slice(response.as_bytes());
    session.handle_received(conn, response.len(), now);
    assert_eq!(session.poll_output(now), Output::Event);
    assert!(matches!(session.event(), Some(Event::Online { .. })));
    (session, conn, now)
}

struct Reading {
    input: Rc<Input>,
    session: Session,
    conn: ConnId,
    now: Instant,
}

impl Decoder for Reading {
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
        let input = Rc::clone(&self.input);
        let Self { session, conn, now, .. } = self;
        for mut read in input.reads() {
            while !read.is_empty() {
                let room = session.recv_buffer(*conn);
                let taken = room.len().min(read.len());
                room[..taken].copy_from_slice(&read[..taken]);
                session.handle_received(*conn, taken, *now);
                read = &read[taken..];
                loop {
                    match session.poll_output(*now) {
                        Output::Event => match session.event() {
                            Some(Event::Message { message: Message::Text(text), .. }) => {
                                sink.message(Kind::Text, text.as_bytes());
                            }
                            Some(Event::Message { message: Message::Binary(bytes), .. }) => {
                                sink.message(Kind::Binary, bytes);
                            }
                            other => return Err(unexpected(&format!("{other:?}"))),
                        },
                        Output::Wait(_) => break,
                        other => return Err(unexpected(&format!("{other:?}"))),
                    }
                }
            }
        }
        Ok(())
    }
}

struct Writing {
    out: Out,
    session: Session,
    conn: ConnId,
    now: Instant,
}

impl Encoder for Writing {
    fn run(&mut self, batch: &Batch) -> Outcome {
        for payload in batch.messages() {
            let message = match payload {
                Payload::Text(text) => Message::Text(text),
                Payload::Binary(bytes) => Message::Binary(bytes),
            };
            while let Err(error) = self.session.send(message, SendOptions::default(), self.now) {
                if error != SendError::Full {
                    return Err(error.to_string());
                }
                self.flush();
            }
        }
        self.flush();
        Ok(())
    }
}

impl Writing {
    fn flush(&mut self) {
        let len = self.session.transmit(self.conn).len();
        self.out.accept(self.session.transmit(self.conn));
        self.session.handle_transmitted(self.conn, len, self.now);
    }
}
