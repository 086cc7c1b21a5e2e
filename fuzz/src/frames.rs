//! A server's bytes after the handshake, through a real session.
//!
//! Input: flags, limits, a list of cuts, then the bytes.

use crate::{Cuts, Input, epoch, hash, memory, wall};
use everwire_core::ws::Limits;
use everwire_core::ws::deflate::DeflateConfig;
use everwire_core::{Clock, Config, ConnId, Disconnect, Error, Event, JsonRpc, Message, Output, Session};
use std::io::{self, Read, Write};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

const MAX_INPUT: usize = 128 << 10;
/// Room for pongs that the session allows itself, and then what one full receive buffer of pings makes.
const MAX_TRANSMIT: usize = (64 << 10) + 4 * RECV_BUFFER;
const RECV_BUFFER: usize = 8 << 10;

#[derive(Debug)]
struct Setup {
    deflate: bool,
    no_takeover: bool,
    json: bool,
    limits: Limits,
}

/// What was told, without the contents.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Message { text: bool, len: usize, hash: u64 },
    Chunk { text: bool, len: usize, hash: u64, last: bool },
    Lost(Error),
    Other(String),
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (flags, limits) = (input.u8(), input.u8());
    let setup = Setup {
        deflate: flags & 1 != 0,
        no_takeover: flags & 2 != 0,
        json: flags & 8 != 0,
        limits: Limits {
            max_frame: [125, 1000, 20_000, 1 << 20][usize::from(limits & 3)],
            max_message: [125, 2000, 5000, 1 << 20][usize::from(limits >> 2 & 3)],
            max_fragments: [1, 3, 100, 65_536][usize::from(limits >> 4 & 3)],
            chunk: (flags & 4 != 0).then_some(1024),
        },
    };
    let cuts = input.list();
    let stream = input.rest();
    let stream = &stream[..stream.len().min(MAX_INPUT)];

    let (whole, peak) = memory::peak(|| feed(&setup, stream, &[]));
    let cut = feed(&setup, stream, cuts);
    assert_eq!(whole, cut, "cuts matter");
    let held =
        4 * (setup.limits.max_message.min(4 * stream.len() + (1 << 18)) + RECV_BUFFER + 4 * stream.len());
    assert!(peak < (2 << 20) + held, "{peak} bytes for an input of {}, with {setup:?}", stream.len());
    if !setup.deflate && setup.limits.chunk.is_none() && !setup.json {
        compare(&setup, stream, &whole);
    }
}

/// Plays the server; what the session told, up to and with the end of the connection.
fn feed(setup: &Setup, stream: &[u8], cuts: &[u8]) -> Vec<Told> {
    let now = epoch();
    let deflate = setup
        .deflate
        .then(|| DeflateConfig { server_no_context_takeover: setup.no_takeover, ..DeflateConfig::default() });
    let mut config = Config::new("ws://127.0.0.1:9/feed")
        .expect("a fixed URL")
        .handshake_limits(1024, 20)
        .recv_buffer(RECV_BUFFER)
        .limits(setup.limits.clone())
        .ping_interval(None)
        .deflate(deflate);
    if setup.json {
        config = config.protocol(JsonRpc::new());
    }
    let mut session = Session::new(config, Clock { instant: now, system: wall() }, [7; 32]).expect("valid");
    let Output::Connect(conn, _) = session.poll_output(now) else { panic!("a new session connects") };
    session.handle_connected(conn, now);
    let Output::Wait(Some(_)) = session.poll_output(now) else { panic!("an answer is awaited") };
    let request = String::from_utf8(session.transmit(conn).to_vec()).expect("a request is ASCII");
    session.handle_transmitted(conn, request.len(), now);
    let extension = match (setup.deflate, setup.no_takeover) {
        (false, _) => "",
        (true, false) => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        (true, true) => "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
    };
    let response = crate::session::accept(&request, extension).expect("a request has a key");
    let mut bytes = response;
    bytes.extend_from_slice(stream);

    let mut pump = Pump { session, conn, told: Vec::new(), outputs: 0, gone: false };
    let (mut at, mut pieces, mut writes) = (0, Cuts::new(cuts), Cuts::new(cuts));
    loop {
        let moved = pump.poll() | pump.write(writes.piece());
        let most = 64 + 4 * bytes.len();
        assert!(pump.outputs <= most, "{} outputs for {} bytes", pump.outputs, bytes.len());
        if pump.gone {
            break;
        }
        let room = pump.session.recv_buffer(conn);
        let len = room.len().min(pieces.piece()).min(bytes.len() - at);
        room[..len].copy_from_slice(&bytes[at..at + len]);
        assert!(
            room.len() <= 2 * setup.limits.max_frame.max(RECV_BUFFER) + 2 * RECV_BUFFER,
            "room {}",
            room.len()
        );
        at += len;
        if len > 0 {
            pump.session.handle_received(conn, len, now);
        } else if !moved {
            assert_eq!(at, bytes.len(), "nothing moves, and {} bytes are not taken", bytes.len() - at);
            break;
        }
    }
    if !pump.gone {
        pump.session.handle_disconnected(conn, Disconnect::Eof, now);
        pump.poll();
    }
    assert!(matches!(pump.told.last(), Some(Told::Lost(_))), "the end was not told");
    assert!(matches!(pump.session.poll_output(now), Output::Wait(Some(_))), "there is a next attempt");
    pump.told
}

struct Pump {
    session: Session,
    conn: ConnId,
    told: Vec<Told>,
    outputs: usize,
    gone: bool,
}

impl Pump {
    /// Polls until the session waits; whether anything came of it.
    fn poll(&mut self) -> bool {
        let mut progress = false;
        loop {
            self.outputs += 1;
            match self.session.poll_output(epoch()) {
                Output::Event => {
                    let event = self.session.event().expect("it was announced");
                    self.told.push(Told::new(&event));
                }
                Output::Disconnect(conn) => {
                    assert_eq!(conn, self.conn);
                    self.gone = true;
                }
                Output::Wait(until) => {
                    assert!(until.is_none_or(|until| until > epoch()));
                    return progress;
                }
                other => panic!("unexpected {other:?}"),
            }
            progress = true;
        }
    }

    fn write(&mut self, most: usize) -> bool {
        let len = self.session.transmit(self.conn).len();
        assert!(len <= MAX_TRANSMIT, "{len} bytes wait to be written");
        self.session.handle_transmitted(self.conn, len.min(most), epoch());
        len > 0
    }
}

impl Told {
    fn new(event: &Event<'_>) -> Self {
        let content =
            |message: &Message<'_>| (message.as_text().is_some(), message.len(), hash(message.as_bytes()));
        match event {
            Event::Message { message, .. } => {
                let (text, len, hash) = content(message);
                Self::Message { text, len, hash }
            }
            Event::Chunk { part, last, .. } => {
                let (text, len, hash) = content(part);
                Self::Chunk { text, len, hash, last: *last }
            }
            Event::Lost { error, retry_at, unsent, .. } => {
                assert!(retry_at.is_some() && unsent.count() == 0);
                Self::Lost((*error).clone())
            }
            other => Self::Other(format!("{other:?}")),
        }
    }
}

/// Bytes to read, and then nothing for now; what is written is gone.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tungstenite, as a client, reads the same messages. It is laxer (it takes lengths that are not in their shortest form, close codes
/// that must not be sent and any number of fragments) and later (it checks text and lengths of control frames when frames are
/// complete), so that our errors may come where it has none; where it has one, we have one too.
fn compare(setup: &Setup, stream: &[u8], told: &[Told]) {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(setup.limits.max_frame))
        .max_message_size(Some(setup.limits.max_message));
    let mut context = WebSocketContext::new(Role::Client, Some(config));
    let mut wire = Wire(stream);
    let mut theirs = Vec::new();
    let their_error = loop {
        match context.read(&mut wire) {
            Ok(tungstenite::Message::Text(text)) => {
                theirs.push(Told::Message { text: true, len: text.len(), hash: hash(text.as_bytes()) });
            }
            Ok(tungstenite::Message::Binary(bytes)) => {
                theirs.push(Told::Message { text: false, len: bytes.len(), hash: hash(&bytes) });
            }
            Ok(tungstenite::Message::Close(_)) => break None,
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break None,
            Err(error) => break Some(error),
        }
    };
    let ours: Vec<Told> = told.iter().filter(|told| matches!(told, Told::Message { .. })).cloned().collect();
    let our_error = match told.last() {
        Some(Told::Lost(Error::Protocol(error))) => Some(error),
        _ => None,
    };
    match (our_error, their_error) {
        (None, None) => assert_eq!(ours, theirs, "without an error"),
        (None, Some(error)) => panic!("tungstenite found {error}, we nothing; ours {ours:?}"),
        (Some(error), None) => assert!(theirs.starts_with(&ours), "before {error}: {ours:?}, {theirs:?}"),
        (Some(error), Some(their)) => {
            let len = ours.len().min(theirs.len());
            assert_eq!(ours[..len], theirs[..len], "before {error} or {their}");
        }
    }
}
