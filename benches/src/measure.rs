//! Timing in interleaved rounds.
//!
//! What counts is the processor time of this thread, where the system knows it: nothing here ever waits, so
//! that is what a clock on the wall would show on an idle machine, and other processes do not spoil it as
//! much.

use std::time::Duration;

use crate::engine::{Engine, Outcome};
use crate::random::Random;

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds in which every engine takes its turn, at least 1.
    pub rounds: usize,
    /// What one turn lasts at least.
    pub turn: Duration,
}

impl Default for Plan {
    /// 15 rounds of 3 ms.
    fn default() -> Self {
        Self { rounds: 15, turn: Duration::from_millis(3) }
    }
}

impl Plan {
    /// Just enough to see that it runs: 3 rounds of 1 ms.
    #[must_use]
    pub fn quick() -> Self {
        Self { rounds: 3, turn: Duration::from_millis(1) }
    }
}

/// Does all messages of a line once, and says if the result was wrong.
pub type Work = Box<dyn FnMut() -> Outcome>;

/// An engine with its work in each setting.
#[expect(missing_debug_implementations, reason = "closures have nothing to show")]
pub struct Contestant {
    /// Who it is.
    pub engine: Engine,
    /// The name of each setting and the work in it; at least one.
    pub settings: Vec<(&'static str, Work)>,
}

/// What an engine needed.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Who it is.
    pub engine: Engine,
    /// The setting that was fastest.
    pub setting: &'static str,
    /// Nanoseconds per message, the median over all rounds.
    pub ns: f64,
}

/// Settles on the fastest setting of each contestant, then measures them in turns.
///
/// `messages` is how many messages one call of a [`Work`] does; `random` shuffles the turns.
///
/// # Errors
/// The first wrong result, with the engine's name.
pub fn race(
    contestants: Vec<Contestant>,
    messages: usize,
    plan: Plan,
    random: &mut Random,
) -> Result<Vec<Timing>, String> {
    let mut runners = Vec::new();
    for contestant in contestants {
        runners.push(Runner::choose(contestant, plan)?);
    }
    for _ in 0..plan.rounds.max(1) {
        random.shuffle(&mut runners);
        for runner in &mut runners {
            let turn = runner.turn(runner.calls)?;
            runner.turns.push(turn);
        }
    }
    let timing = |runner: Runner| Timing {
        engine: runner.engine,
        setting: runner.setting,
        ns: median(runner.turns) * 1e9 / messages.max(1) as f64,
    };
    Ok(runners.into_iter().map(timing).collect())
}

/// The middle value, or the mean of the two in the middle; 0 for none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let (lower, upper) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(lower), values.get(upper)) {
        (Some(lower), Some(upper)) => (lower + upper) / 2.0,
        _ => 0.0,
    }
}

struct Runner {
    engine: Engine,
    setting: &'static str,
    work: Work,
    /// How many calls of `work` make a turn long enough.
    calls: u32,
    /// Seconds per call, turn by turn.
    turns: Vec<f64>,
}

impl Runner {
    fn choose(contestant: Contestant, plan: Plan) -> Result<Self, String> {
        let engine = contestant.engine;
        let mut candidates: Vec<Self> = contestant
            .settings
            .into_iter()
            .map(|(setting, work)| Self { engine, setting, work, calls: 1, turns: Vec::new() })
            .collect();
        for candidate in &mut candidates {
            candidate.calibrate(plan.turn)?;
        }
        // Alternating, so that a disturbance does not decide.
        let heats = if candidates.len() > 1 { 5 } else { 0 };
        for _ in 0..heats {
            for candidate in &mut candidates {
                let turn = candidate.turn(candidate.calls.div_ceil(2))?;
                candidate.turns.push(turn);
            }
        }
        let fastest = |runner: &Self| runner.turns.iter().copied().fold(f64::INFINITY, f64::min);
        let mut chosen = candidates
            .into_iter()
            .min_by(|one, other| fastest(one).total_cmp(&fastest(other)))
            .ok_or_else(|| format!("{} has no setting", engine.name))?;
        chosen.turns.clear();
        Ok(chosen)
    }

    fn calibrate(&mut self, turn: Duration) -> Outcome {
        // The first call fills caches and grows buffers.
        self.turn(1)?;
        loop {
            let call = self.turn(self.calls)?;
            let needed = turn.as_secs_f64() / call.max(1e-9);
            if needed <= f64::from(self.calls) {
                return Ok(());
            }
            // A little more than needed, so that a turn is not too short by a hair.
            self.calls = ((needed * 1.1) as u32).max(self.calls + 1);
        }
    }

    /// Seconds per call.
    fn turn(&mut self, calls: u32) -> Result<f64, String> {
        let start = processor_time();
        for _ in 0..calls {
            (self.work)().map_err(|error| format!("{} ({}): {error}", self.engine.name, self.setting))?;
        }
        Ok(processor_time().saturating_sub(start).as_secs_f64() / f64::from(calls))
    }
}

/// Since some fixed moment.
#[cfg(unix)]
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Since some fixed moment.
#[cfg(not(unix))]
fn processor_time() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::plain_copy;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![1.0, 2.0, 4.0, 100.0]), 3.0);
    }

    fn spin(microseconds: u64) -> Work {
        Box::new(move || {
            let start = processor_time();
            while processor_time() - start < Duration::from_micros(microseconds) {}
            Ok(())
        })
    }

    #[test]
    fn the_fastest_setting_counts() {
        let contestant =
            Contestant { engine: plain_copy(), settings: vec![("slow", spin(400)), ("fast", spin(20))] };
        let timings = race(vec![contestant], 10, Plan::quick(), &mut Random::new(1)).unwrap();
        assert_eq!(timings[0].setting, "fast");
        // 20 us for 10 messages, and whatever a busy machine adds.
        assert!((2000.0..20_000.0).contains(&timings[0].ns), "{}", timings[0].ns);
    }

    #[test]
    fn a_wrong_result_ends_the_race() {
        let wrong: Work = Box::new(|| Err("wrong".to_owned()));
        let contestant = Contestant { engine: plain_copy(), settings: vec![("", wrong)] };
        assert!(race(vec![contestant], 1, Plan::quick(), &mut Random::new(1)).is_err());
    }
}
