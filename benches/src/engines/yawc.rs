//! yawc: its public frame codec, fed by hand.
//!
//! The codec leaves text unchecked, so the adapter does what yawc's `WebSocket` does with its feature `simd`,
//! which is one pass of simdutf8. Payloads to send are `Bytes::from_static`; the encoder copies and masks in
//! one pass. Masks: `rand`'s thread generator.
//!
//! The receive buffer is the adapter's: it copies a read into the room there is, or makes room for all of it.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder as _, Encoder as _};
use yawc::codec::{Decoder as FrameDecoder, Encoder as FrameEncoder};
use yawc::{Frame, OpCode, Role as Side};

use super::{MAX_MESSAGE, ReceiveBuffer, unexpected};
use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input, Kind, Payload};

pub(super) const ENGINE: Engine = Engine {
    name: "yawc",
    role: Role::Peer,
    decoders: &[
        Setting { name: "codec, 16K at a time", make: |input| decoder(input, Some(16 * 1024)) },
        Setting { name: "codec, 64K at a time", make: |input| decoder(input, Some(64 * 1024)) },
        Setting { name: "codec, whole reads", make: |input| decoder(input, None) },
    ],
    encoders: &[Setting { name: "codec", make: encoder }],
};

fn decoder(input: &Rc<Input>, room: Option<usize>) -> Box<dyn Decoder> {
    Box::new(Reading {
        input: Rc::clone(input),
        codec: FrameDecoder::new(Side::Client, MAX_MESSAGE),
        buffer: ReceiveBuffer::new(room),
    })
}

struct Reading {
    input: Rc<Input>,
    codec: FrameDecoder,
    buffer: ReceiveBuffer,
}

impl Decoder for Reading {
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
        for mut read in self.input.reads() {
            while !read.is_empty() {
                read = self.buffer.receive(read);
                while let Some(frame) =
                    self.codec.decode(&mut self.buffer.bytes).map_err(|error| error.to_string())?
                {
                    match frame.opcode() {
                        OpCode::Text if frame.is_fin() => {
                            if simdutf8::basic::from_utf8(frame.payload()).is_err() {
                                return Err("invalid UTF-8".to_owned());
                            }
                            sink.message(Kind::Text, frame.payload());
                        }
                        OpCode::Binary if frame.is_fin() => sink.message(Kind::Binary, frame.payload()),
                        _ => return Err(unexpected("another frame")),
                    }
                }
            }
        }
        Ok(())
    }
}

fn encoder(out: &Out) -> Box<dyn Encoder> {
    Box::new(Writing { codec: FrameEncoder::new(Side::Client), buffer: BytesMut::new(), out: out.clone() })
}

struct Writing {
    codec: FrameEncoder,
    buffer: BytesMut,
    out: Out,
}

impl Encoder for Writing {
    fn run(&mut self, batch: &Batch) -> Outcome {
        self.buffer.clear();
        for message in batch.messages() {
            let frame = match *message {
                Payload::Text(text) => Frame::text(Bytes::from_static(text.as_bytes())),
                Payload::Binary(bytes) => Frame::binary(Bytes::from_static(bytes)),
            };
            self.codec.encode(frame, &mut self.buffer).map_err(|error| error.to_string())?;
        }
        self.out.accept(&self.buffer);
        Ok(())
    }
}
