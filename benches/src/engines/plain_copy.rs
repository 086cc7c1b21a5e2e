//! The floor: the copies nobody can avoid, and nothing else.
//!
//! Decode copies each read into one buffer, encode copies each payload behind the one before. Neither looks
//! at a byte.

use std::hint::black_box;
use std::rc::Rc;

use crate::engine::{Decoder, Encoder, Engine, Out, Outcome, Role, Setting, Sink};
use crate::input::{Batch, Input};

pub(super) const ENGINE: Engine = Engine {
    name: "plain copy",
    role: Role::Floor,
    decoders: &[Setting { name: "", make: decoder }],
    encoders: &[Setting { name: "", make: encoder }],
};

fn decoder(input: &Rc<Input>) -> Box<dyn Decoder> {
    Box::new(Copies { buffer: vec![0; input.longest_read()], input: Rc::clone(input) })
}

struct Copies {
    input: Rc<Input>,
    buffer: Vec<u8>,
}

impl Decoder for Copies {
    fn run(&mut self, _: &mut Sink<'_>) -> Outcome {
        for read in self.input.reads() {
            self.buffer[..read.len()].copy_from_slice(read);
            black_box(&mut self.buffer);
        }
        Ok(())
    }
}

fn encoder(out: &Out) -> Box<dyn Encoder> {
    Box::new(Joined { buffer: Vec::new(), out: out.clone() })
}

struct Joined {
    buffer: Vec<u8>,
    out: Out,
}

impl Encoder for Joined {
    fn run(&mut self, batch: &Batch) -> Outcome {
        self.buffer.clear();
        for message in batch.messages() {
            self.buffer.extend_from_slice(message.bytes());
        }
        self.out.accept(&self.buffer);
        Ok(())
    }
}
