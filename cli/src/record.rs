//! Records: shown and counted.

use crate::screen::{note, printable};
use everwire_record::{Body, Direction, FrameLine, Kind, Line, Metadata, Reader, Speed};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayOptions {
    /// The record: of `everwire connect --record`, of everwire-record, or of ZenWebsocket.
    file: PathBuf,
    /// How many times as fast as it was: a number above 0, or `max` for without waiting.
    #[arg(long, default_value = "1", value_parser = speed)]
    speed: Speed,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MetadataOptions {
    /// The record.
    file: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::AsFast);
    }
    match text.parse::<f64>() {
        Ok(times) if times > 0.0 && times.is_finite() => Ok(Speed::Times(times)),
        _ => Err("it is a number above 0, or max".to_owned()),
    }
}

/// Tells a record again.
pub(crate) fn replay(options: &ReplayOptions) -> ExitCode {
    let mut wrong = None;
    let told = Reader::open(&options.file).and_then(|reader| {
        everwire_record::replay(reader, options.speed, |line| match show(line) {
            Ok(()) => true,
            Err(error) => {
                wrong = Some(error);
                false
            }
        })
    });
    match (told, wrong) {
        // Whoever closed the pipe wants no more of it.
        (Ok(_), Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        (Ok(_), Some(error)) => fail(&error),
        (Ok(_), None) => ExitCode::SUCCESS,
        (Err(error), _) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    note(&format!("error: {error}"));
    ExitCode::from(2)
}

fn show(line: &Line) -> io::Result<()> {
    let at = &line.ts;
    match &line.what {
        Body::Frame(FrameLine { dir: Direction::In, kind: Kind::Text, payload, .. }) => {
            let mut out = io::stdout().lock();
            let text = payload.as_str();
            if out.is_terminal() { writeln!(out, "{}", printable(text)) } else { writeln!(out, "{text}") }?;
            return out.flush();
        }
        Body::Frame(frame) => {
            let dir = if frame.dir == Direction::In { "<" } else { ">" };
            let kind = format!("{:?}", frame.kind).to_lowercase();
            note(&format!("{at} {dir} {kind} {}", printable(frame.payload.as_str())));
        }
        Body::State { from, to, why } => note(&format!("{at} {from} -> {to}: {}", printable(why))),
        Body::Dropped { count } => note(&format!("{at} {count} entries are missing here")),
        _ => {}
    }
    Ok(())
}

/// Counts a record.
pub(crate) fn metadata(options: &MetadataOptions) -> ExitCode {
    let counted = Metadata::of(&options.file);
    let text = match counted {
        Ok(metadata) if options.json => serde_json::to_string_pretty(&metadata).unwrap_or_default(),
        Ok(metadata) => table(&metadata),
        Err(error) => return fail(&error),
    };
    // As above.
    let _closed = writeln!(io::stdout().lock(), "{text}");
    ExitCode::SUCCESS
}

fn table(metadata: &Metadata) -> String {
    let way = |traffic: &everwire_record::Traffic| {
        format!(
            "{} messages, {} bytes (each {} to {}, {} on average)",
            traffic.count,
            traffic.bytes,
            traffic.min,
            traffic.max,
            traffic.mean()
        )
    };
    let shown = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".to_owned());
    let end = match (metadata.complete, metadata.torn) {
        (true, _) => "it was finished",
        (false, true) => "it was cut inside its last line",
        (false, false) => "it was not finished, or made by something else",
    };
    let mut lines = vec![
        format!("messages     {}", metadata.count),
        format!("inbound      {}", way(&metadata.inbound)),
        format!("outbound     {}", way(&metadata.outbound)),
        format!("controls     {}", metadata.controls),
        format!("duration     {:?}", metadata.duration),
        format!("first        {}", shown(&metadata.first)),
        format!("last         {}", shown(&metadata.last)),
        format!("connections  {}, {} lost, {} gaps", metadata.connections, metadata.losses, metadata.gaps),
        format!("lines        {}, {} entries missing; {end}", metadata.lines, metadata.dropped),
    ];
    for (topic, count) in &metadata.topics {
        lines.push(format!("topic        {count:>8}  {}", printable(topic)));
    }
    lines.join("\n")
}
