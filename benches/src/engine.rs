//! What an engine is to this crate, and where its messages and frames go.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;

use crate::input::{Batch, Input, Kind};

/// `Err` says what went wrong; it fails the whole run.
pub type Outcome = Result<(), String>;

/// A connected client's receiving side, made for one [`Input`].
pub trait Decoder {
    /// Receives all reads of the input and shows every message to `sink`.
    ///
    /// The bytes of a read must be copied once into a buffer of the engine, in pieces if the engine offers
    /// less room than the read needs, and every message complete by then must be shown before the next read
    /// is looked at. This is called again and again: to the engine the input is one connection that never
    /// ends.
    ///
    /// # Errors Whatever the engine complains about. Losses are for the caller to notice.
    fn run(&mut self, sink: &mut Sink<'_>) -> Outcome;
}

/// A connected client's sending side, made with the [`Out`] it sends to.
pub trait Encoder {
    /// Encodes the messages of `batch` as masked frames and hands all of them to the [`Out`], reusing
    /// whatever buffer the engine has for the next batch.
    ///
    /// # Errors Whatever the engine complains about.
    fn run(&mut self, batch: &Batch) -> Outcome;
}

/// Makes a decoder for an input.
pub type MakeDecoder = fn(&Rc<Input>) -> Box<dyn Decoder>;
/// Makes an encoder that sends to an [`Out`].
pub type MakeEncoder = fn(&Out) -> Box<dyn Encoder>;

/// One way to set up an engine.
///
/// Settings of one engine should differ in values at run time and share one piece of code: if that is
/// compiled twice, what the compiler inlines once it may not inline twice.
#[derive(Clone, Copy, Debug)]
pub struct Setting<Make> {
    /// What is special about it, for the verbose output.
    pub name: &'static str,
    /// How to get it.
    pub make: Make,
}

/// Whom an engine's results are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Our engine: one setting for all lines.
    Ours,
    /// Another crate: the best of its settings counts, line by line.
    Peer,
    /// Only copies. It shows no messages and is not verified.
    Floor,
}

/// A way to decode and encode.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// The crate's name.
    pub name: &'static str,
    /// Whom it is compared with.
    pub role: Role,
    /// How it receives.
    pub decoders: &'static [Setting<MakeDecoder>],
    /// How it sends.
    pub encoders: &'static [Setting<MakeEncoder>],
}

impl Engine {
    /// The version in this crate's lock file; empty for an engine that is not a crate from a registry.
    #[must_use]
    pub fn version(&self) -> &'static str {
        let lock = include_str!("../Cargo.lock");
        lock.split("[[package]]")
            .find(|package| package.lines().any(|line| line == format!("name = \"{}\"", self.name)))
            .and_then(|package| package.lines().find_map(|line| line.strip_prefix("version = ")))
            .map_or("", |version| version.trim_matches('"'))
    }
}

/// Takes the messages that were decoded: counts them, and compares them with the truth if asked to.
#[derive(Debug, Default)]
pub struct Sink<'a> {
    messages: usize,
    bytes: usize,
    truth: Option<&'a Input>,
    wrong: Option<String>,
}

impl<'a> Sink<'a> {
    /// Only counts.
    #[must_use]
    pub fn counting() -> Self {
        Self::default()
    }

    /// Compares each message with those of `truth`, in order.
    #[must_use]
    pub fn comparing(truth: &'a Input) -> Self {
        Self { truth: Some(truth), ..Self::default() }
    }

    /// Takes one message.
    #[inline(always)]
    pub fn message(&mut self, kind: Kind, payload: &[u8]) {
        black_box((kind, payload.as_ptr(), payload.len()));
        if self.truth.is_some() {
            self.compare(kind, payload);
        }
        self.messages += 1;
        self.bytes += payload.len();
    }

    /// How many messages came.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Whether exactly the messages of `input` came, as far as this sink looked.
    ///
    /// # Errors
    /// Says how they differ.
    pub fn finish(self, input: &Input) -> Outcome {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let (messages, bytes) = (input.messages(), input.payload_bytes());
        if (self.messages, self.bytes) == (messages, bytes) {
            Ok(())
        } else {
            Err(format!(
                "decoded {} messages of {} bytes in all, out of {messages} of {bytes}",
                self.messages, self.bytes
            ))
        }
    }

    #[cold]
    fn compare(&mut self, kind: Kind, payload: &[u8]) {
        let truth = self.truth.map(|truth| (truth.kind(), truth.payload(self.messages)));
        if truth != Some((kind, Some(payload))) && self.wrong.is_none() {
            self.wrong = Some(format!("message {} came out as something else", self.messages));
        }
    }
}

/// The transport: takes frames that were encoded, counts them, and keeps them if asked to. Clones share one
/// count.
#[derive(Clone, Debug, Default)]
pub struct Out(Rc<OutState>);

#[derive(Debug, Default)]
struct OutState {
    bytes: Cell<usize>,
    keep: Cell<bool>,
    kept: RefCell<Vec<u8>>,
}

impl Out {
    /// Only counts.
    #[must_use]
    pub fn counting() -> Self {
        Self::default()
    }

    /// Keeps all bytes as well.
    #[must_use]
    pub fn keeping() -> Self {
        let out = Self::default();
        out.0.keep.set(true);
        out
    }

    /// Takes the next bytes of the stream.
    #[inline(always)]
    pub fn accept(&self, bytes: &[u8]) {
        black_box((bytes.as_ptr(), bytes.len()));
        if self.0.keep.get() {
            self.0.kept.borrow_mut().extend_from_slice(bytes);
        }
        self.0.bytes.set(self.0.bytes.get() + bytes.len());
    }

    /// How many bytes came since the last call.
    #[must_use]
    pub fn take_count(&self) -> usize {
        self.0.bytes.take()
    }

    /// All bytes kept so far.
    #[must_use]
    pub fn take_kept(&self) -> Vec<u8> {
        self.0.kept.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Chunking;

    #[test]
    fn a_sink_notices_loss_change_and_kind() {
        let input = Input::new(Kind::Binary, 64 * 1024, Chunking::Full);
        let all = |skip: usize, kind: Kind| {
            let mut sink = Sink::comparing(&input);
            for index in skip..input.messages() {
                sink.message(kind, input.payload(index).unwrap());
            }
            sink.finish(&input)
        };
        all(0, Kind::Binary).unwrap();
        all(1, Kind::Binary).unwrap_err();
        all(0, Kind::Text).unwrap_err();

        let mut counting = Sink::counting();
        counting.message(Kind::Binary, input.payload(0).unwrap());
        counting.finish(&input).unwrap_err();
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        for engine in crate::engines::all() {
            assert_eq!(engine.version().is_empty(), engine.role != Role::Peer, "{}", engine.name);
        }
    }
}
