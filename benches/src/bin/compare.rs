//! Decodes and encodes the same bytes with all engines and prints how they compare. The library says how it
//! is done.

use std::process::ExitCode;

use everwire_benches::engine::{Engine, Role};
use everwire_benches::engines;
use everwire_benches::line::{Line, Operation, verify_utf8};
use everwire_benches::measure::{Plan, Timing};
use everwire_benches::random::Random;

const USAGE: &str = "usage: compare [--rounds N] [--quick] [--only PATTERN] [--verbose]

  --rounds N      measure every engine N times per line (default 15, quick 3)
  --quick         short and few measurements: shows that the results are right, not how fast they are
  --only PATTERN  only lines whose name contains PATTERN, as in \"decode text\" or \"125B\"
  --verbose       all engines' times under each line, and the setting that was best for each

Times are nanoseconds per message, medians. Exits with 1 if a result was wrong, never because it was slow.";

/// What a ratio to the best peer may be; more is named in the summary.
const DECODE_GOAL: f64 = 1.0;
const ENCODE_GOAL: f64 = 1.3;
/// How many lines beyond the goal the summary names.
const WORST: usize = 8;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match compare(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wrong result: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    plan: Plan,
    only: String,
    verbose: bool,
}

impl Options {
    /// `None` if help was asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut rounds, mut plan, mut only, mut verbose) = (None, Plan::default(), String::new(), false);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => {
                    let value = arguments.next().ok_or("--rounds needs a number")?;
                    let parsed = value.parse().ok().filter(|rounds| *rounds > 0);
                    rounds = Some(
                        parsed.ok_or_else(|| format!("--rounds needs a number above 0, not {value:?}"))?,
                    );
                }
                "--quick" => plan = Plan::quick(),
                "--only" => only = arguments.next().ok_or("--only needs a pattern")?,
                "--verbose" => verbose = true,
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown option {other:?}")),
            }
        }
        plan.rounds = rounds.unwrap_or(plan.rounds);
        Ok(Some(Self { plan, only, verbose }))
    }
}

fn compare(options: &Options) -> Result<(), String> {
    let engines = engines::all();
    print_header(&engines, options.plan);
    verify_utf8(&engines)?;

    let lines: Vec<Line> =
        Line::all().into_iter().filter(|line| line.name().contains(&options.only)).collect();
    if lines.is_empty() {
        println!("no line's name contains {:?}", options.only);
    }
    let mut random = Random::new(1);
    let mut results = Vec::new();
    for line in lines {
        let mut timings = line
            .race(&engines, options.plan, &mut random)
            .map_err(|error| format!("{}: {error}", line.name()))?;
        timings.sort_by(|one, other| one.ns.total_cmp(&other.ns));
        let result = LineResult { line, timings };
        println!("{}", result.summary());
        if options.verbose || result.ratio().is_none() {
            result.print_all();
        }
        results.push(result);
    }
    print_goals(&results);
    Ok(())
}

struct LineResult {
    line: Line,
    /// Fastest first.
    timings: Vec<Timing>,
}

impl LineResult {
    fn fastest(&self, role: Role) -> Option<&Timing> {
        self.timings.iter().find(|timing| timing.engine.role == role)
    }

    /// Our time relative to the best peer's; `None` if we did not take part.
    fn ratio(&self) -> Option<f64> {
        Some(self.fastest(Role::Ours)?.ns / self.fastest(Role::Peer)?.ns)
    }

    fn summary(&self) -> String {
        let [operation, kind, size, chunking] = self.line.columns();
        let ns =
            |role| self.fastest(role).map_or_else(|| "-".to_owned(), |timing| format!("{:.1}", timing.ns));
        let best = self.fastest(Role::Peer).map_or("-", |timing| timing.engine.name);
        let ratio = self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        format!(
            "{operation:<6} {kind:<6} {size:>4} {chunking:<8}   ours {:>8} ns  best {:>8} ns {best:<16}   copy {:>8} ns   ratio {ratio:>4}",
            ns(Role::Ours),
            ns(Role::Peer),
            ns(Role::Floor),
        )
    }

    fn print_all(&self) {
        for timing in &self.timings {
            let Timing { engine, setting, ns } = timing;
            println!("{:>30} {:<16} {ns:>9.1} ns   {setting}", "", engine.name);
        }
    }
}

fn print_header(engines: &[Engine], plan: Plan) {
    let versions: Vec<String> = engines
        .iter()
        .map(|engine| format!("{} {}", engine.name, engine.version()).trim_end().to_owned())
        .collect();
    println!("{}", versions.join(", "));
    println!(
        "{} rounds, turns of {} ms or more; ns per message, medians",
        plan.rounds,
        plan.turn.as_millis()
    );
}

fn print_goals(results: &[LineResult]) {
    let decodes = |result: &&LineResult| result.line.operation != Operation::Encode;
    let (decode, encode): (Vec<&LineResult>, Vec<&LineResult>) = results.iter().partition(decodes);
    for (name, results, goal) in [("decode", decode, DECODE_GOAL), ("encode", encode, ENCODE_GOAL)] {
        let mut ratios: Vec<(f64, String)> =
            results.iter().filter_map(|result| Some((result.ratio()?, result.line.name()))).collect();
        if ratios.is_empty() {
            continue;
        }
        ratios.sort_by(|one, other| other.0.total_cmp(&one.0));
        let beyond = ratios.iter().take_while(|(ratio, _)| *ratio > goal).count();
        println!("{name}: {} of {} lines with ratio <= {goal:.1}", ratios.len() - beyond, ratios.len());
        for (ratio, line) in ratios.iter().take(beyond.min(WORST)) {
            println!("  {ratio:.2} {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Option<Options>, String> {
        Options::parse(arguments.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options() {
        let options = parse("--quick --rounds 5 --only text --verbose").unwrap().unwrap();
        assert_eq!((options.plan.rounds, options.plan.turn), (5, Plan::quick().turn));
        assert_eq!((options.only.as_str(), options.verbose), ("text", true));
        assert_eq!(parse("").unwrap().unwrap().plan.rounds, 15);
        assert!(parse("--help").unwrap().is_none());
        for wrong in ["--rounds", "--rounds 0", "--rounds x", "--only", "--fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_ratio_is_ours_to_the_fastest_peer() {
        let timing = |role, ns| Timing { engine: Engine { role, ..engines::plain_copy() }, setting: "", ns };
        let mut result = LineResult {
            line: Line::all()[1],
            timings: vec![timing(Role::Floor, 7.0), timing(Role::Peer, 20.0), timing(Role::Peer, 30.0)],
        };
        assert_eq!(result.ratio(), None);
        result.timings.push(timing(Role::Ours, 40.0));
        assert_eq!(result.ratio(), Some(2.0));
        assert_eq!(
            result.summary(),
            "decode text   125B 64K/read   ours     40.0 ns  best     20.0 ns plain copy         copy      7.0 ns   ratio 2.00"
        );
    }
}
