//! tokio-websockets: `WebSocketStream` over an asynchronous stream, polled as `Stream` and `Sink`.
//!
//! Its buffers cannot be configured; text is checked with simdutf8 as it arrives. Sending, it queues frames
//! up to `flush_threshold` and hands over many at once. It masks a payload in place if it owns it alone and
//! copies it otherwise, so a static payload costs the one copy that a borrowed one needs. Masks: `fastrand`,
//! the fastest of the sources it can be built with.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use futures_sink::Sink as _;
use tokio_websockets::{ClientBuilder, Config, Limits, Message, WebSocketStream};

use super::{MAX_MESSAGE, unexpected};
use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input, Kind, Payload};
use crate::memory::{Reads, Writes};

const KIB: usize = 1024;

pub(super) const ENGINE: Engine = Engine {
    name: "tokio-websockets",
    role: Role::Peer,
    decoders: &[Setting { name: "stream", make: decoder }],
    encoders: &[
        Setting { name: "flush at 8K, the default", make: |out| encoder(out, 8 * KIB) },
        Setting { name: "flush at 64K", make: |out| encoder(out, 64 * KIB) },
        Setting { name: "flush at 1M", make: |out| encoder(out, 1024 * KIB) },
    ],
};

fn decoder(input: &Rc<Input>) -> Box<dyn Decoder> {
    let reads = Reads::new(input);
    let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE));
    let socket = ClientBuilder::new().limits(limits).take_over(reads.clone());
    Box::new(Reading { socket, reads })
}

struct Reading {
    socket: WebSocketStream<Reads>,
    reads: Reads,
}

impl Decoder for Reading {
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
        self.reads.rewind();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut self.socket).poll_next(&mut context) {
                Poll::Ready(Some(Ok(message))) if message.is_text() => {
                    sink.message(Kind::Text, message.as_payload());
                }
                Poll::Ready(Some(Ok(message))) if message.is_binary() => {
                    sink.message(Kind::Binary, message.as_payload());
                }
                Poll::Ready(Some(Ok(_))) => return Err(unexpected("another message")),
                Poll::Ready(Some(Err(error))) => return Err(error.to_string()),
                Poll::Ready(None) => return Err(unexpected("the end")),
                Poll::Pending => return Ok(()),
            }
        }
    }
}

fn encoder(out: &Out, threshold: usize) -> Box<dyn Encoder> {
    let config = Config::default().flush_threshold(threshold);
    Box::new(Writing { socket: ClientBuilder::new().config(config).take_over(Writes(out.clone())) })
}

struct Writing {
    socket: WebSocketStream<Writes>,
}

impl Encoder for Writing {
    fn run(&mut self, batch: &Batch) -> Outcome {
        let mut context = Context::from_waker(Waker::noop());
        let mut socket = Pin::new(&mut self.socket);
        for message in batch.messages() {
            ready(socket.as_mut().poll_ready(&mut context))?;
            let message = match *message {
                Payload::Text(text) => Message::text(text),
                Payload::Binary(bytes) => Message::binary(bytes),
            };
            socket.as_mut().start_send(message).map_err(|error| error.to_string())?;
        }
        ready(socket.as_mut().poll_flush(&mut context))
    }
}

fn ready(poll: Poll<Result<(), tokio_websockets::Error>>) -> Outcome {
    match poll {
        Poll::Ready(result) => result.map_err(|error| error.to_string()),
        Poll::Pending => Err("the stream is always ready, yet a write waited".to_owned()),
    }
}
