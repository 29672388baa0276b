//! Plays seeds, or one again with all its events.
//!
//! ```text
//! riverrun-simulation [--script windows|ledger] [--seeds N] [--from SEED] [--seed S] [--mutant NAME] [--workers W] [--calm] [--faulty-store]
//! riverrun-simulation --past
//! riverrun-simulation --mutants
//! ```
//! `--past` plays what stands in `simulation/seeds`, each seed as it failed. A seed that fails is told with the command that plays it again.
//! `--mutants` asserts that every broken rule is found out, and that no broken world ends otherwise than well or with its own error.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use riverrun_simulation::command::{self, Command};
use riverrun_simulation::mutant::Mutant;
use riverrun_simulation::play::{Judged, Options, judge, play};
use riverrun_simulation::scene::Script;

// As in the binary that is simulated.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("riverrun-simulation: {reason}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let failed = match command::parse(arguments.iter().map(String::as_str))? {
        Command::Mutants => return Ok(mutants()),
        Command::Past => played(command::past()?.into_iter()),
        Command::Play { from, seeds, options } => {
            played((from..from.saturating_add(seeds)).map(|seed| (seed, options)))
        }
    };
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays seeds, each in its way. Returns how many failed.
fn played(all: impl Iterator<Item = (u64, Options)>) -> u64 {
    let (mut seeds, mut crashes, mut lives, mut ticks, mut repeated, mut failed) = (0, 0, 0, 0, 0, 0);
    for (seed, options) in all {
        let played = play(seed, options);
        played.events.iter().for_each(|event| println!("{event}"));
        (crashes, lives, ticks) = (crashes + played.crashes, lives + played.lives, ticks + played.ticks);
        (seeds, repeated) = (seeds + 1, repeated + played.repeated);
        if let Some(failure) = played.failure {
            failed += 1;
            let again = command::again(seed, options);
            println!("seed {seed}: {failure}\n  again, with its events: riverrun-simulation {again}");
        }
    }
    println!("{seeds} seeds, {failed} failed; {crashes} crashes in {lives} lives, {ticks} ticks, {repeated} repeated");
    failed
}

/// Seeds within which a broken rule is to be found out.
const RULE_SEEDS: u64 = 300;
/// Seeds of a broken world: all are played.
const WORLD_SEEDS: u64 = 20;

/// Plays every mutant in every script: a broken rule until it is found out, a broken world with all its seeds.
fn mutants() -> ExitCode {
    let mut missed = 0;
    for (script, mutant) in Script::ALL.into_iter().flat_map(|script| Mutant::all().map(move |mutant| (script, mutant)))
    {
        let name = format!("{mutant:?} in {}", script.word());
        let most = if mutant.words().is_some() { WORLD_SEEDS } else { RULE_SEEDS };
        match judge(script, mutant, most) {
            Judged::Found { seed, failure, seeds } => {
                let how = failure.lines().next().unwrap_or_default();
                let stopped = match mutant.words() {
                    Some(_) => format!("; {seeds} of {most} seeds stopped, none went wrong"),
                    None => String::new(),
                };
                println!("{name}: found out by seed {seed}: {how}{stopped}");
            }
            Judged::Missed => {
                missed += 1;
                println!("{name}: NOT found out in {most} seeds");
            }
            Judged::WentWrong { seed, failure } => {
                missed += 1;
                println!("{name}: seed {seed} went WRONG: {failure}");
            }
        }
    }
    println!("{missed} mutants are not as they should be");
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
