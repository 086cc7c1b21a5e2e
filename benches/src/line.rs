//! The lines of the result: what is done, to which messages, in which reads.

use std::rc::Rc;

use crate::engine::{Engine, Out, Outcome, Role, Sink};
use crate::input::{Batch, Chunking, Input, Kind};
use crate::measure::{Contestant, Plan, Timing, Work, race};
use crate::random::Random;
use crate::verify;

/// The sizes of messages, in bytes.
pub const SIZES: [usize; 6] = [16, 125, 512, 4096, 64 * 1024, 1024 * 1024];

/// What engines do in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Receive, with the bytes cut like this.
    Decode(Chunking),
    /// Send.
    Encode,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is done.
    pub operation: Operation,
    /// To which kind of messages.
    pub kind: Kind,
    /// And how long they are, in bytes.
    pub size: usize,
}

impl Line {
    /// All of them, in the order of the result.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let operations =
            [Operation::Decode(Chunking::Full), Operation::Decode(Chunking::PerMessage), Operation::Encode];
        let mut lines = Vec::new();
        for operation in operations {
            for kind in [Kind::Text, Kind::Binary] {
                lines.extend(SIZES.map(|size| Self { operation, kind, size }));
            }
        }
        lines
    }

    /// For example `decode text 125B 64K/read`.
    #[must_use]
    pub fn name(&self) -> String {
        self.columns().join(" ").trim_end().to_owned()
    }

    /// The parts of the name; the last is empty for encoding.
    #[must_use]
    pub fn columns(&self) -> [String; 4] {
        let (operation, chunking) = match self.operation {
            Operation::Decode(Chunking::Full) => ("decode", "64K/read"),
            Operation::Decode(Chunking::PerMessage) => ("decode", "1/read"),
            Operation::Encode => ("encode", ""),
        };
        let kind = match self.kind {
            Kind::Text => "text",
            Kind::Binary => "binary",
        };
        let size = match self.size {
            size if size < 1024 => format!("{size}B"),
            size if size < 1024 * 1024 => format!("{}K", size / 1024),
            size => format!("{}M", size / (1024 * 1024)),
        };
        [operation.to_owned(), kind.to_owned(), size, chunking.to_owned()]
    }

    /// Verifies all settings of all `engines` on this line, then races them.
    ///
    /// # Errors
    /// The first wrong result, with the engine's name.
    pub fn race(&self, engines: &[Engine], plan: Plan, random: &mut Random) -> Result<Vec<Timing>, String> {
        match self.operation {
            Operation::Decode(chunking) => {
                let input = Rc::new(Input::new(self.kind, self.size, chunking));
                let contestants = contestants(engines, |engine| decode_works(engine, &input))?;
                race(contestants, input.messages(), plan, random)
            }
            Operation::Encode => {
                let batch = Rc::new(Batch::new(self.kind, self.size));
                let contestants = contestants(engines, |engine| encode_works(engine, &batch))?;
                race(contestants, batch.messages().len(), plan, random)
            }
        }
    }
}

/// The verified work of each of an engine's decoders on `input`.
///
/// # Errors
/// The first wrong result.
pub fn decode_works(engine: &Engine, input: &Rc<Input>) -> Result<Vec<(&'static str, Work)>, String> {
    let mut works = Vec::new();
    for setting in engine.decoders {
        let counts = engine.role != Role::Floor;
        if counts {
            verify::decoding(setting.make, input).map_err(|error| format!("({}) {error}", setting.name))?;
        }
        let (mut decoder, input) = ((setting.make)(input), Rc::clone(input));
        let work: Work = Box::new(move || {
            let mut sink = Sink::counting();
            decoder.run(&mut sink)?;
            if counts { sink.finish(&input) } else { Ok(()) }
        });
        works.push((setting.name, work));
    }
    Ok(works)
}

/// The verified work of each of an engine's encoders on `batch`.
///
/// # Errors
/// The first wrong result.
pub fn encode_works(engine: &Engine, batch: &Rc<Batch>) -> Result<Vec<(&'static str, Work)>, String> {
    let mut works = Vec::new();
    for setting in engine.encoders {
        let counts = engine.role != Role::Floor;
        if counts {
            verify::encoding(setting.make, batch).map_err(|error| format!("({}) {error}", setting.name))?;
        }
        let out = Out::counting();
        let (mut encoder, batch) = ((setting.make)(&out), Rc::clone(batch));
        let work: Work = Box::new(move || {
            encoder.run(&batch)?;
            let (sent, expected) = (out.take_count(), batch.encoded());
            if counts && sent != expected {
                Err(format!("encoded {sent} bytes instead of {expected}"))
            } else {
                Ok(())
            }
        });
        works.push((setting.name, work));
    }
    Ok(works)
}

fn contestants(
    engines: &[Engine],
    works: impl Fn(&Engine) -> Result<Vec<(&'static str, Work)>, String>,
) -> Result<Vec<Contestant>, String> {
    engines
        .iter()
        .map(|engine| {
            let settings = works(engine).map_err(|error| format!("{} {error}", engine.name))?;
            Ok(Contestant { engine: *engine, settings })
        })
        .collect()
}

/// Whether every engine that shows messages passes [`verify::utf8`].
///
/// # Errors
/// The first that does not, with its name.
pub fn verify_utf8(engines: &[Engine]) -> Outcome {
    for engine in engines.iter().filter(|engine| engine.role != Role::Floor) {
        verify::utf8(engine).map_err(|error| format!("{} {error}", engine.name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_as_documented() {
        let mut names: Vec<String> = Line::all().iter().map(Line::name).collect();
        assert_eq!(names.len(), 36);
        assert!(names.contains(&"decode text 125B 64K/read".to_owned()));
        assert!(names.contains(&"encode binary 1M".to_owned()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 36);
    }
}
