//! tungstenite: `WebSocketContext` over a blocking stream.
//!
//! It zeroes `read_buffer_size` bytes for every read it makes, so the best size depends on how much a read
//! returns; it checks text with `std::str::from_utf8`. Writing, `write_buffer_size` decides when frames go to
//! the stream. Messages to send are made with `from_static`: it copies them into its buffer and masks them
//! there. Masks: `rand`'s thread generator.

use std::io;
use std::rc::Rc;

use tungstenite::protocol::{Role as Side, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::{MAX_MESSAGE, unexpected};
use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input, Kind, Payload};
use crate::memory::{Reads, Writes};

const KIB: usize = 1024;

pub(super) const ENGINE: Engine = Engine {
    name: "tungstenite",
    role: Role::Peer,
    decoders: &[
        Setting { name: "reads of 1K", make: |input| decoder(input, KIB) },
        Setting { name: "reads of 4K", make: |input| decoder(input, 4 * KIB) },
        Setting { name: "reads of 16K", make: |input| decoder(input, 16 * KIB) },
        Setting { name: "reads of 64K", make: |input| decoder(input, 64 * KIB) },
        Setting { name: "reads of 128K, the default", make: |input| decoder(input, 128 * KIB) },
    ],
    encoders: &[
        Setting { name: "writes of 16K", make: |out| encoder(out, 16 * KIB) },
        Setting { name: "writes of 128K, the default", make: |out| encoder(out, 128 * KIB) },
        Setting { name: "writes of 1M", make: |out| encoder(out, 1024 * KIB) },
    ],
};

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE))
}

fn decoder(input: &Rc<Input>, read_buffer: usize) -> Box<dyn Decoder> {
    let config = config().read_buffer_size(read_buffer);
    Box::new(Reading { context: WebSocketContext::new(Side::Client, Some(config)), reads: Reads::new(input) })
}

struct Reading {
    context: WebSocketContext,
    reads: Reads,
}

impl Decoder for Reading {
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
        self.reads.rewind();
        loop {
            match self.context.read(&mut self.reads) {
                Ok(Message::Text(text)) => sink.message(Kind::Text, text.as_bytes()),
                Ok(Message::Binary(bytes)) => sink.message(Kind::Binary, &bytes),
                Ok(_) => return Err(unexpected("another message")),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

fn encoder(out: &Out, write_buffer: usize) -> Box<dyn Encoder> {
    let config = config().write_buffer_size(write_buffer);
    Box::new(Writing {
        context: WebSocketContext::new(Side::Client, Some(config)),
        writes: Writes(out.clone()),
    })
}

struct Writing {
    context: WebSocketContext,
    writes: Writes,
}

impl Encoder for Writing {
    fn run(&mut self, batch: &Batch) -> Outcome {
        for message in batch.messages() {
            let message = match *message {
                Payload::Text(text) => Message::Text(Utf8Bytes::from_static(text)),
                Payload::Binary(bytes) => Message::Binary(Bytes::from_static(bytes)),
            };
            self.context.write(&mut self.writes, message).map_err(|error| error.to_string())?;
        }
        self.context.flush(&mut self.writes).map_err(|error| error.to_string())
    }
}
