//! fastwebsockets: `WebSocket` over an asynchronous stream.
//!
//! One future receives the whole input, because this crate's reads must not be cancelled within a frame. Its
//! frames are taken as they are, without `FragmentCollector`; text is checked with simdutf8. It cannot
//! collect frames to send: each goes to the stream on its own. It masks a payload in place, so it is given
//! either the borrowed slice, of which it makes an owned copy, or a copy in a buffer the adapter reuses.
//! Masks: `rand`'s thread generator.

use std::rc::Rc;

use fastwebsockets::{Frame, OpCode, Payload as Carrier, Role as Side, WebSocket, WebSocketError};

use super::{MAX_MESSAGE, unexpected};
use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input, Kind, Payload};
use crate::memory::{Reads, Writes, poll_once};

pub(super) const ENGINE: Engine = Engine {
    name: "fastwebsockets",
    role: Role::Peer,
    decoders: &[Setting { name: "frames", make: decoder }],
    encoders: &[
        Setting { name: "borrowed payload", make: |out| encoder(out, false) },
        Setting { name: "payload in a reused buffer", make: |out| encoder(out, true) },
    ],
};

fn decoder(input: &Rc<Input>) -> Box<dyn Decoder> {
    let reads = Reads::new(input);
    let mut socket = WebSocket::after_handshake(reads.clone(), Side::Client);
    socket.set_max_message_size(MAX_MESSAGE);
    Box::new(Reading { socket, reads })
}

struct Reading {
    socket: WebSocket<Reads>,
    reads: Reads,
}

impl Decoder for Reading {
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
        self.reads.rewind();
        let ended = poll_once(async {
            loop {
                let frame = match self.socket.read_frame().await {
                    Ok(frame) => frame,
                    Err(error) => return error.to_string(),
                };
                match frame.opcode {
                    OpCode::Text if frame.fin => sink.message(Kind::Text, &frame.payload),
                    OpCode::Binary if frame.fin => sink.message(Kind::Binary, &frame.payload),
                    _ => return unexpected("another frame"),
                }
            }
        });
        ended.map_or(Ok(()), Err)
    }
}

fn encoder(out: &Out, reuse: bool) -> Box<dyn Encoder> {
    let socket = WebSocket::after_handshake(Writes(out.clone()), Side::Client);
    Box::new(Writing { socket, reuse, buffer: Vec::new() })
}

struct Writing {
    socket: WebSocket<Writes>,
    reuse: bool,
    buffer: Vec<u8>,
}

impl Encoder for Writing {
    fn run(&mut self, batch: &Batch) -> Outcome {
        let sent = poll_once(async {
            for message in batch.messages() {
                let carrier = if self.reuse {
                    self.buffer.clear();
                    self.buffer.extend_from_slice(message.bytes());
                    Carrier::BorrowedMut(&mut self.buffer)
                } else {
                    Carrier::Borrowed(message.bytes())
                };
                let frame = match message {
                    Payload::Text(_) => Frame::text(carrier),
                    Payload::Binary(_) => Frame::binary(carrier),
                };
                self.socket.write_frame(frame).await?;
            }
            Ok::<(), WebSocketError>(())
        });
        sent.ok_or("the stream is always ready, yet a write waited")?.map_err(|error| error.to_string())
    }
}
