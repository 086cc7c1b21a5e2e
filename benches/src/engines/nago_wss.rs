//! nago-wss: its protocol core, `Header` and `Assembler`, over a buffer of the adapter's.
//!
//! Text is checked with simdutf8 (its feature `simd-utf8`). Sending, header, copy and mask are separate
//! calls, as in its own `Connection`. The core leaves the choice of masks to its caller; they come from a
//! SplitMix64 here, which is what its `Connection` uses.
//!
//! The receive buffer is the adapter's: it copies a read into the room there is, or makes room for all of it.

use std::rc::Rc;

use bytes::Buf;
use nago_wss::proto::{Assembler, Header, Limits, Message, OpCode, mask};

use super::{MAX_MESSAGE, ReceiveBuffer, unexpected};
use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input, Kind, Payload};
use crate::random::Random;

pub(super) const ENGINE: Engine = Engine {
    name: "nago-wss",
    role: Role::Peer,
    decoders: &[
        Setting { name: "proto, 16K at a time", make: |input| decoder(input, Some(16 * 1024)) },
        Setting { name: "proto, 64K at a time", make: |input| decoder(input, Some(64 * 1024)) },
        Setting { name: "proto, whole reads", make: |input| decoder(input, None) },
    ],
    encoders: &[Setting { name: "proto", make: encoder }],
};

fn decoder(input: &Rc<Input>, room: Option<usize>) -> Box<dyn Decoder> {
    Box::new(Reading {
        input: Rc::clone(input),
        assembler: Assembler::new(Limits { max_frame: MAX_MESSAGE as u64, max_message: MAX_MESSAGE }),
        buffer: ReceiveBuffer::new(room),
    })
}

struct Reading {
    input: Rc<Input>,
    assembler: Assembler,
    buffer: ReceiveBuffer,
}

impl Decoder for Reading {
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
        for mut read in self.input.reads() {
            while !read.is_empty() {
                read = self.buffer.receive(read);
                while let Ok((header, header_len)) = Header::decode(&self.buffer.bytes, MAX_MESSAGE as u64)
                    .map_err(|error| format!("{error:?}"))?
                {
                    let payload_len = header.payload_len as usize;
                    if self.buffer.bytes.len() < header_len + payload_len {
                        self.buffer.bytes.reserve(header_len + payload_len - self.buffer.bytes.len());
                        break;
                    }
                    if header.mask.is_some() {
                        return Err(unexpected("a masked frame"));
                    }
                    self.buffer.bytes.advance(header_len);
                    let payload = self.buffer.bytes.split_to(payload_len).freeze();
                    match self.assembler.accept(header.opcode, header.fin, payload) {
                        Ok(Some(Message::Text(text))) => sink.message(Kind::Text, &text),
                        Ok(Some(Message::Binary(bytes))) => sink.message(Kind::Binary, &bytes),
                        Ok(_) => return Err(unexpected("another frame")),
                        Err(error) => return Err(format!("{error:?}")),
                    }
                }
            }
        }
        Ok(())
    }
}

fn encoder(out: &Out) -> Box<dyn Encoder> {
    Box::new(Writing { masks: Random::new(0), buffer: Vec::new(), out: out.clone() })
}

struct Writing {
    masks: Random,
    buffer: Vec<u8>,
    out: Out,
}

impl Encoder for Writing {
    fn run(&mut self, batch: &Batch) -> Outcome {
        self.buffer.clear();
        for message in batch.messages() {
            let (opcode, payload) = match *message {
                Payload::Text(text) => (OpCode::Text, text.as_bytes()),
                Payload::Binary(bytes) => (OpCode::Binary, bytes),
            };
            let key = (self.masks.next_u64() as u32).to_ne_bytes();
            let header = Header { fin: true, opcode, mask: Some(key), payload_len: payload.len() as u64 };
            let mut head = [0; Header::MAX_ENCODED_LEN];
            let head_len = header.encode(&mut head).ok_or("a header did not fit")?;
            self.buffer.extend_from_slice(&head[..head_len]);
            let start = self.buffer.len();
            self.buffer.extend_from_slice(payload);
            mask::apply(&mut self.buffer[start..], key, 0);
        }
        self.out.accept(&self.buffer);
        Ok(())
    }
}
