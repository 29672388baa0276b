//! What is simulated: a job and its input, both drawn from the seed.
//!
//! There are several [`Script`]s: jobs with other steps, each with input that gives its steps something to do. A seed means the
//! same run of a script for good.

use std::sync::Arc;

use riverrun_jobs::{Plan, check};

use crate::world::Dice;

mod ledger;
mod windows;

/// Event time of the first rows, in milliseconds.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

/// Which job is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Script {
    /// A select, a plain attribution and windows.
    #[default]
    Windows,
    /// A deduplication, and on it sessions, windows of sessions, a join, and a ledger with corrections. Splits are behind others,
    /// and fall silent.
    Ledger,
}

impl Script {
    /// All of them.
    pub const ALL: [Script; 2] = [Script::Windows, Script::Ledger];

    /// Returns the word by which the command line knows it.
    pub fn word(self) -> &'static str {
        match self {
            Script::Windows => "windows",
            Script::Ledger => "ledger",
        }
    }

    /// Returns the script of a word.
    pub fn named(word: &str) -> Option<Script> {
        Script::ALL.into_iter().find(|script| script.word() == word)
    }
}

/// A record of a split.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it can be read, in microseconds since the world began.
    pub arrives: u64,
    /// The record.
    pub text: String,
}

/// What a source of the job reads.
pub struct Input {
    /// The source's name.
    pub name: &'static str,
    /// The field that is the id of its rows.
    pub id: Option<&'static str>,
    /// Its splits.
    pub splits: Arc<Vec<Vec<Line>>>,
}

/// What is played.
pub struct Scene {
    /// Which job it is.
    pub script: Script,
    /// The job.
    pub plan: Plan,
    /// Whether its input is bounded.
    pub bounded: bool,
    /// Whoever stops it drains it: it is finished before it has read everything.
    pub drains: bool,
    /// Lanes of each sink.
    pub lanes: Vec<u32>,
    /// Ticks that may be incomplete.
    pub in_flight: u64,
    /// What its sources read, in the order of their names.
    pub inputs: Vec<Input>,
}

impl Scene {
    /// Draws a scene.
    pub fn of(script: Script, seed: u64) -> Scene {
        let mut dice = Dice::new(seed ^ 0x5ce0e);
        let bounded = !dice.once_in(3);
        let in_flight = 1 + dice.roll(4);
        let (rows, shards) = (2 + dice.roll(40), [1, 7, 16][dice.roll(3) as usize]);
        let commit = 10 + dice.roll(60);
        let checkpoint = 10 + dice.roll(80);
        let sinks = match script {
            Script::Windows => windows::SINKS,
            Script::Ledger => ledger::SINKS,
        };
        let lanes = (0..sinks).map(|_| 1 + dice.roll(5) as u32).collect();
        let body = match script {
            Script::Windows => windows::JOB.to_owned(),
            Script::Ledger => ledger::job(&mut dice),
        };
        let text = format!(
            "job: simulated
shards: {shards}
tick: {{ interval: 10ms, max_rows: {rows}, in_flight: {in_flight} }}
commit: {{ every: {commit}ms }}
checkpoint: {{ every: {checkpoint}ms }}
{body}"
        );
        let (plan, _) = check("simulated.yaml", &text, &[]).unwrap_or_else(|report| {
            let messages: Vec<_> = report.faults().iter().map(|fault| fault.message.clone()).collect();
            panic!("the simulated job is at fault: {messages:?}\n{text}")
        });
        let inputs = match script {
            Script::Windows => windows::inputs(&mut dice, bounded),
            Script::Ledger => ledger::inputs(&mut dice, bounded),
        };
        let drains = !bounded && seed.is_multiple_of(2);
        Scene { script, plan, bounded, drains, lanes, in_flight, inputs }
    }
}

/// Event time and arrival of row `row`: in disorder, some of it beyond what the source allows.
fn moment(dice: &mut Dice, row: u64, step: u64, bounded: bool) -> (i64, u64) {
    let back = if dice.once_in(12) { dice.roll(15_000) } else { dice.roll(2_500) } as i64;
    let arrives = if bounded { 0 } else { row * 1500 + dice.roll(6_000) };
    (EPOCH_MS + (row * step) as i64 - back, arrives)
}
