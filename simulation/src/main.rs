//! Plays seeds, or one again with all its events.
//!
//! ```text
//! riverrun-simulation [--seeds N] [--from SEED] [--seed S] [--mutant NAME] [--workers W] [--faulty-store]
//! riverrun-simulation --mutants
//! ```
//! `--mutants` asserts that every broken rule is found out, and that no broken world gives wrong output.

use std::process::ExitCode;

use riverrun_simulation::mutant::Mutant;
use riverrun_simulation::play::{Judged, Options, judge, play};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("riverrun-simulation: {reason}");
            ExitCode::from(2)
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let (mut seeds, mut from, mut options) = (100, 0, Options::default());
    while let Some(name) = arguments.next() {
        if name == "--faulty-store" {
            options.faulty_store = true;
            continue;
        }
        if name == "--mutants" {
            return Ok(mutants());
        }
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} needs a number, not `{value}`"));
        match name.as_str() {
            "--seeds" => seeds = number()?,
            "--from" => from = number()?,
            "--seed" => (from, seeds, options.telling) = (number()?, 1, true),
            "--workers" => options.workers = number()? as usize,
            "--mutant" => {
                let known =
                    || format!("there is no mutant `{value}`; there are {:?}", Mutant::all().collect::<Vec<_>>());
                options.mutant = Some(Mutant::named(&value).ok_or_else(known)?);
            }
            _ => return Err(format!("there is no option {name}")),
        }
    }
    let (mut crashes, mut lives, mut ticks, mut repeated, mut failed) = (0, 0, 0, 0, 0);
    for seed in from..from + seeds {
        let played = play(seed, options);
        played.events.iter().for_each(|event| println!("{event}"));
        (crashes, lives, ticks) = (crashes + played.crashes, lives + played.lives, ticks + played.ticks);
        repeated += played.repeated;
        if let Some(failure) = played.failure {
            failed += 1;
            println!("seed {seed}: {failure}\n  again, with its events: riverrun-simulation --seed {seed}");
        }
    }
    println!("{seeds} seeds, {failed} failed; {crashes} crashes in {lives} lives, {ticks} ticks, {repeated} repeated");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays every mutant until it is found out.
fn mutants() -> ExitCode {
    let mut missed = 0;
    for mutant in Mutant::all() {
        match judge(mutant, 300) {
            Judged::Found { seed, failure } => {
                println!("{mutant:?}: found out by seed {seed}: {}", failure.lines().next().unwrap_or_default());
            }
            Judged::Missed => {
                missed += 1;
                println!("{mutant:?}: NOT found out in 300 seeds");
            }
            Judged::WentWrong { seed, failure } => {
                missed += 1;
                println!("{mutant:?}: seed {seed} went WRONG without a word: {failure}");
            }
        }
    }
    println!("{missed} mutants are not as they should be");
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
