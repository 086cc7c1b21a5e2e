//! nexus-web: `FrameReader` and `FrameWriter`.
//!
//! Messages borrow from the reader's buffer, so its size matters: a larger one avoids the second copy of
//! messages that do not fit, a smaller one stays in the cache.
//!
//! Text that lies in that buffer is checked with simdutf8. Text of a single frame that was cut by the end of
//! a read is put together elsewhere, and there 0.8.0 does not check it at all. Since every engine must, the
//! adapter does it for those messages, in the same way.
//!
//! The writer encodes from a slice into a slice. Masks: ChaCha8, its default.

use std::ops::Range;
use std::rc::Rc;

use nexus_web::ws::{FrameReader, FrameWriter, Message, Role as Side};

use super::{MAX_MESSAGE, unexpected};
use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input, Kind, Payload};

const KIB: usize = 1024;

pub(super) const ENGINE: Engine = Engine {
    name: "nexus-web",
    role: Role::Peer,
    decoders: &[
        Setting { name: "buffer of 128K", make: |input| decoder(input, 128 * KIB) },
        Setting { name: "buffer of 1M, the default", make: |input| decoder(input, 1024 * KIB) },
        Setting { name: "buffer of 2M", make: |input| decoder(input, 2048 * KIB) },
    ],
    encoders: &[Setting { name: "encode into a slice", make: encoder }],
};

fn decoder(input: &Rc<Input>, capacity: usize) -> Box<dyn Decoder> {
    let mut reader = FrameReader::builder()
        .role(Side::Client)
        .buffer_capacity(capacity)
        .max_frame_size(MAX_MESSAGE as u64)
        .max_message_size(MAX_MESSAGE)
        .build();
    // All of the buffer is spare yet, and it never moves.
    let buffer = reader.spare().as_ptr_range();
    Box::new(Reading { input: Rc::clone(input), reader, buffer: buffer.start as usize..buffer.end as usize })
}

struct Reading {
    input: Rc<Input>,
    reader: FrameReader,
    /// Where the reader's buffer lies in memory.
    buffer: Range<usize>,
}

impl Decoder for Reading {
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
        let input = Rc::clone(&self.input);
        for mut read in input.reads() {
            while !read.is_empty() {
                // As its own `read` does.
                if self.reader.remaining() < read.len() {
                    self.reader.compact();
                }
                let spare = self.reader.spare();
                let taken = spare.len().min(read.len());
                spare[..taken].copy_from_slice(&read[..taken]);
                self.reader.filled(taken);
                read = &read[taken..];
                self.show_messages(sink)?;
            }
        }
        Ok(())
    }
}

impl Reading {
    #[inline]
    fn show_messages(&mut self, sink: &mut Sink<'_>) -> Outcome {
        let buffer = self.buffer.clone();
        while let Some(message) = self.reader.next().map_err(|error| error.to_string())? {
            match message {
                Message::Text(text) => {
                    if !buffer.contains(&(text.as_ptr() as usize))
                        && simdutf8::basic::from_utf8(text.as_bytes()).is_err()
                    {
                        return Err("invalid UTF-8".to_owned());
                    }
                    sink.message(Kind::Text, text.as_bytes());
                }
                Message::Binary(bytes) => sink.message(Kind::Binary, bytes),
                _ => return Err(unexpected("another message")),
            }
        }
        Ok(())
    }
}

fn encoder(out: &Out) -> Box<dyn Encoder> {
    Box::new(Writing { writer: FrameWriter::new(Side::Client), buffer: Vec::new(), out: out.clone() })
}

struct Writing {
    writer: FrameWriter,
    buffer: Vec<u8>,
    out: Out,
}

impl Encoder for Writing {
    fn run(&mut self, batch: &Batch) -> Outcome {
        // Grows once, for the first batch: later ones have the same size.
        if self.buffer.len() < batch.encoded() {
            self.buffer.resize(batch.encoded(), 0);
        }
        let mut end = 0;
        for message in batch.messages() {
            let room = &mut self.buffer[end..];
            end += match message {
                Payload::Text(text) => self.writer.encode_text(text.as_bytes(), room),
                Payload::Binary(bytes) => self.writer.encode_binary(bytes, room),
            };
        }
        self.out.accept(&self.buffer[..end]);
        Ok(())
    }
}
