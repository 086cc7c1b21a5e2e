//! What an engine must get right before it is timed.

use std::collections::HashSet;
use std::io::{self, Cursor, Read, Write};
use std::rc::Rc;

use tungstenite::protocol::{Role as Side, WebSocketContext};
use tungstenite::{Error, Message};

use crate::engine::{Engine, MakeDecoder, MakeEncoder, Out, Outcome, Sink};
use crate::input::{Batch, Chunking, Input, Kind, server_header};

/// Whether a decoder shows exactly the messages of `input`, twice in a row.
///
/// # Errors
/// Says what it did instead.
pub fn decoding(make: MakeDecoder, input: &Rc<Input>) -> Outcome {
    let mut decoder = make(input);
    for _ in 0..2 {
        let mut sink = Sink::comparing(input);
        decoder.run(&mut sink)?;
        sink.finish(input)?;
    }
    Ok(())
}

/// Whether an encoder's output is what tungstenite, as the server, reads as the messages of `batch`, masked
/// with different keys, twice in a row.
///
/// # Errors Says what came out instead.
pub fn encoding(make: MakeEncoder, batch: &Batch) -> Outcome {
    let out = Out::keeping();
    let mut encoder = make(&out);
    for _ in 0..2 {
        encoder.run(batch)?;
    }
    let bytes = out.take_kept();
    if bytes.len() != 2 * batch.encoded() {
        return Err(format!("encoded {} bytes instead of {}", bytes.len(), 2 * batch.encoded()));
    }
    masks_differ(batch, &bytes)?;

    let mut server = WebSocketContext::new(Side::Server, None);
    let mut stream = Received(Cursor::new(bytes));
    for (index, sent) in batch.messages().iter().chain(batch.messages()).enumerate() {
        let received = server.read(&mut stream).map_err(|error| format!("message {index}: {error}"))?;
        let same = match &received {
            Message::Text(text) => sent.kind() == Kind::Text && text.as_bytes() == sent.bytes(),
            Message::Binary(bytes) => sent.kind() == Kind::Binary && bytes == sent.bytes(),
            _ => false,
        };
        if !same {
            return Err(format!("message {index} was encoded as something else"));
        }
    }
    match server.read(&mut stream) {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => Err(format!("after the last message came {other:?}")),
    }
}

/// Whether all decoders of `engine` refuse text that is not UTF-8 (RFC 6455 section 8.1) and accept text that
/// is, also when a read ends within it.
///
/// # Errors Names the setting and the case.
pub fn utf8(engine: &Engine) -> Outcome {
    const LONG: usize = 100_000;
    let long_with = |position: usize, bytes: &[u8]| {
        let mut text = vec![b'x'; LONG];
        text[position..position + bytes.len()].copy_from_slice(bytes);
        text
    };
    let header = server_header(Kind::Text, LONG).len();
    let end_of_read = 64 * 1024 - header;
    let invalid = [
        ("in a short message", b"0123456789 \xff".to_vec()),
        ("cut off at the end", b"0123456789 \xe2\x82".to_vec()),
        ("an encoded surrogate", b"0123456789 \xed\xa0\x80".to_vec()),
        ("before the end of a read", long_with(10, b"\xff")),
        ("at the end of a read", long_with(end_of_read - 1, b"\xe2\x82")),
        ("after the end of a read", long_with(LONG - 10, b"\xff")),
    ];
    let valid = [
        ("in a short message", "caf\u{e9} \u{20ac} \u{1f600}".as_bytes().to_vec()),
        ("across the end of a read", long_with(end_of_read - 2, "\u{1f600}".as_bytes())),
    ];

    for setting in engine.decoders {
        for chunking in [Chunking::Full, Chunking::PerMessage] {
            let shown = |text: &[u8]| {
                let input = Rc::new(Input::from_payloads(Kind::Text, [text.to_vec()], chunking));
                let mut sink = Sink::comparing(&input);
                let outcome = (setting.make)(&input).run(&mut sink);
                (outcome.is_ok() && sink.messages() == 1, outcome.and_then(|()| sink.finish(&input)))
            };
            let name = setting.name;
            for (case, text) in &invalid {
                if shown(text).0 {
                    return Err(format!("({name}) takes invalid UTF-8 {case} for text"));
                }
            }
            for (case, text) in &valid {
                shown(text).1.map_err(|error| format!("({name}) refuses valid UTF-8 {case}: {error}"))?;
            }
        }
    }
    Ok(())
}

/// Masks must be unpredictable (RFC 6455 section 10.3), which cannot be tested, but a constant can be
/// recognised.
fn masks_differ(batch: &Batch, bytes: &[u8]) -> Outcome {
    let mut masks = HashSet::new();
    let mut frame = 0;
    for message in batch.messages().iter().chain(batch.messages()) {
        let header = server_header(message.kind(), message.bytes().len()).len();
        masks.insert(&bytes[frame + header..frame + header + 4]);
        frame += header + 4 + message.bytes().len();
    }
    // Two equal ones among thousands are chance; half of them are not.
    if masks.len() > batch.messages().len() {
        Ok(())
    } else {
        Err(format!("used only {} masks for {} frames", masks.len(), 2 * batch.messages().len()))
    }
}

struct Received(Cursor<Vec<u8>>);

impl Read for Received {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 if !buf.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Received {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Decoder, Encoder, Role, Setting};
    use crate::engines;

    #[test]
    fn all_engines_pass() {
        for engine in engines::all().iter().filter(|engine| engine.role != Role::Floor) {
            utf8(engine).unwrap_or_else(|error| panic!("{}: {error}", engine.name));
            for size in [0, 1, 125, 126, 65_535, 65_536] {
                let batch = Batch::new(Kind::Text, size);
                for encoder in engine.encoders {
                    encoding(encoder.make, &batch)
                        .unwrap_or_else(|error| panic!("{} {size}: {error}", engine.name));
                }
                for chunking in [Chunking::Full, Chunking::PerMessage] {
                    let input = Rc::new(Input::new(Kind::Binary, size, chunking));
                    for decoder in engine.decoders {
                        decoding(decoder.make, &input)
                            .unwrap_or_else(|error| panic!("{} {size} {chunking:?}: {error}", engine.name));
                    }
                }
            }
        }
    }

    /// Finds messages like a decoder, with whatever fault the test wants.
    struct Faulty(Rc<Input>, fn(usize, &[u8]) -> Option<Vec<u8>>);

    impl Decoder for Faulty {
        fn run(&mut self, sink: &mut Sink<'_>) -> Outcome {
            for index in 0..self.0.messages() {
                if let Some(payload) = (self.1)(index, self.0.payload(index).unwrap()) {
                    sink.message(self.0.kind(), &payload);
                }
            }
            Ok(())
        }
    }

    #[test]
    fn faults_of_a_decoder_are_noticed() {
        let input = Rc::new(Input::new(Kind::Text, 125, Chunking::Full));
        let correct: MakeDecoder =
            |input| Box::new(Faulty(Rc::clone(input), |_, payload| Some(payload.to_vec())));
        let loses: MakeDecoder = |input| {
            Box::new(Faulty(Rc::clone(input), |index, payload| (index != 7).then(|| payload.to_vec())))
        };
        let alters: MakeDecoder =
            |input| Box::new(Faulty(Rc::clone(input), |_, payload| Some(vec![0; payload.len()])));
        decoding(correct, &input).unwrap();
        decoding(loses, &input).unwrap_err();
        decoding(alters, &input).unwrap_err();

        let careless = Engine {
            name: "careless",
            role: Role::Peer,
            decoders: &[Setting {
                name: "",
                make: |input| Box::new(Faulty(Rc::clone(input), |_, payload| Some(payload.to_vec()))),
            }],
            encoders: &[],
        };
        utf8(&careless).unwrap_err();
    }

    /// Counts frames, says in each which mask it used, and uses maybe another one.
    struct Masking(Out, u32, fn(u32) -> ([u8; 4], [u8; 4]));

    impl Encoder for Masking {
        fn run(&mut self, batch: &Batch) -> Outcome {
            for message in batch.messages() {
                self.1 += 1;
                let (said, used) = (self.2)(self.1);
                let mut frame = server_header(message.kind(), message.bytes().len());
                frame[1] |= 0x80;
                frame.extend(said);
                frame.extend(message.bytes().iter().zip(used.iter().cycle()).map(|(byte, key)| byte ^ key));
                self.0.accept(&frame);
            }
            Ok(())
        }
    }

    #[test]
    fn faults_of_an_encoder_are_noticed() {
        let batch = Batch::new(Kind::Text, 125);
        let correct: MakeEncoder =
            |out| Box::new(Masking(out.clone(), 0, |frame| (frame.to_ne_bytes(), frame.to_ne_bytes())));
        let constant: MakeEncoder = |out| Box::new(Masking(out.clone(), 0, |_| ([1, 2, 3, 4], [1, 2, 3, 4])));
        // The wrong bit keeps text ASCII, so that only the comparison can notice.
        let mismatched: MakeEncoder = |out| {
            Box::new(Masking(out.clone(), 0, |frame| {
                (frame.to_ne_bytes(), (frame ^ u32::from_ne_bytes([1, 0, 0, 0])).to_ne_bytes())
            }))
        };
        encoding(correct, &batch).unwrap();
        assert!(encoding(constant, &batch).unwrap_err().contains("only 1 masks"));
        assert!(encoding(mismatched, &batch).unwrap_err().contains("something else"));
    }
}
