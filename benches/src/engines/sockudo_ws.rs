//! sockudo-ws: its I/O-free `Protocol`.
//!
//! `process_into` collects all messages of a read before the first one can be shown; it checks text with
//! simdutf8. Sending, there is `Protocol::encode_message`, which wants a `Message` made of
//! `Bytes::from_static`, and below it `frame::encode_frame`, which takes a slice; both copy and mask in one
//! pass. Masks: `fastrand`, its default.
//!
//! The receive buffer is the adapter's: it copies a read into the room there is, or makes room for all of it.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use sockudo_ws::frame::{OpCode, encode_frame};
use sockudo_ws::mask::generate_mask;
use sockudo_ws::protocol::{Message, Protocol, Role as Side};

use super::{MAX_MESSAGE, ReceiveBuffer, unexpected};
use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input, Kind, Payload};

pub(super) const ENGINE: Engine = Engine {
    name: "sockudo-ws",
    role: Role::Peer,
    decoders: &[
        Setting { name: "process_into, 16K at a time", make: |input| decoder(input, Some(16 * 1024)) },
        Setting { name: "process_into, 64K at a time", make: |input| decoder(input, Some(64 * 1024)) },
        Setting { name: "process_into, whole reads", make: |input| decoder(input, None) },
    ],
    encoders: &[
        Setting { name: "encode_message", make: message_encoder },
        Setting { name: "encode_frame", make: frame_encoder },
    ],
};

fn decoder(input: &Rc<Input>, room: Option<usize>) -> Box<dyn Decoder> {
    Box::new(Reading {
        input: Rc::clone(input),
        protocol: Protocol::new(Side::Client, MAX_MESSAGE, MAX_MESSAGE),
        buffer: ReceiveBuffer::new(room),
        messages: Vec::new(),
    })
}

struct Reading {
    input: Rc<Input>,
    protocol: Protocol,
    buffer: ReceiveBuffer,
    messages: Vec<Message>,
}

impl Decoder for Reading {
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
        for mut read in self.input.reads() {
            while !read.is_empty() {
                read = self.buffer.receive(read);
                self.protocol
                    .process_into(&mut self.buffer.bytes, &mut self.messages)
                    .map_err(|error| error.to_string())?;
                // Dropped one by one, before the next read: only then can the buffer be used again.
                for message in self.messages.drain(..) {
                    match message {
                        Message::Text(text) => sink.message(Kind::Text, &text),
                        Message::Binary(bytes) => sink.message(Kind::Binary, &bytes),
                        _ => return Err(unexpected("another message")),
                    }
                }
            }
        }
        Ok(())
    }
}

fn message_encoder(out: &Out) -> Box<dyn Encoder> {
    let protocol = Protocol::new(Side::Client, MAX_MESSAGE, MAX_MESSAGE);
    Box::new(Messages { protocol, buffer: BytesMut::new(), out: out.clone() })
}

struct Messages {
    protocol: Protocol,
    buffer: BytesMut,
    out: Out,
}

impl Encoder for Messages {
    fn run(&mut self, batch: &Batch) -> Outcome {
        self.buffer.clear();
        for message in batch.messages() {
            let message = match *message {
                Payload::Text(text) => Message::Text(Bytes::from_static(text.as_bytes())),
                Payload::Binary(bytes) => Message::Binary(Bytes::from_static(bytes)),
            };
            self.protocol.encode_message(&message, &mut self.buffer).map_err(|error| error.to_string())?;
        }
        self.out.accept(&self.buffer);
        Ok(())
    }
}

fn frame_encoder(out: &Out) -> Box<dyn Encoder> {
    Box::new(Frames { buffer: BytesMut::new(), out: out.clone() })
}

struct Frames {
    buffer: BytesMut,
    out: Out,
}

impl Encoder for Frames {
    fn run(&mut self, batch: &Batch) -> Outcome {
        self.buffer.clear();
        for message in batch.messages() {
            let opcode = match message {
                Payload::Text(_) => OpCode::Text,
                Payload::Binary(_) => OpCode::Binary,
            };
            encode_frame(&mut self.buffer, opcode, message.bytes(), true, Some(generate_mask()));
        }
        self.out.accept(&self.buffer);
        Ok(())
    }
}
