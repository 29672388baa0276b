//! D5: restored from every checkpoint that is kept, not only from the newest.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::bounded::{Calm, Going, Round, wait_to_end};
use crate::dice::Dice;
use crate::job::{BUSY, Input, NAME};
use crate::live::GAVE;
use crate::place::Place;
use crate::process::{Process, nap};
use crate::report::Report;
use crate::{Setup, Tried};

/// D5: a job is killed in the middle; a copy of it for each checkpoint loses the state files of all newer ones, and must
/// still give the same bytes.
pub fn restored(setup: &Setup, runs: u64) -> Tried<Report> {
    let mut report = Report::of("D5");
    let mut dice = Dice::new(setup.seed ^ 0xD5);
    let calm = Calm::long(setup, Input::Files, BUSY, dice.roll())?;
    let mut rounds = 0;
    while report.runs < runs {
        rounds += 1;
        if rounds > 20 + runs {
            return Err("no round could be killed after some checkpoints: the input is too short".to_owned());
        }
        Place::with(&setup.binary, |place| {
            let mut round = Round::begin(&calm, place)?;
            round.start(&mut report, 2)?;
            round.until(SOME, || Ok(frozen(place)? >= 3))?;
            nap(dice.moment(Duration::from_millis(100)));
            // A job that was done by then, or had not published them yet: another round.
            if round.kill(&mut report)? == Going::Ended {
                return Ok(());
            }
            let ticks = checkpoints(place)?;
            for (at, tick) in ticks.iter().enumerate().rev() {
                if report.runs < runs {
                    restore(setup, &calm, place, *tick, at + 1 == ticks.len(), &mut report)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(report)
}

/// What is waited for.
const SOME: &str = "some checkpoints";

/// Returns how many checkpoints have state files, published or not.
fn frozen(place: &Place) -> Tried<usize> {
    let folder = place.path("state").join("jobs").join(NAME).join("state");
    let generations = std::fs::read_dir(folder).into_iter().flatten().flatten();
    Ok(generations.flat_map(|generation| std::fs::read_dir(generation.path()).into_iter().flatten()).count())
}

/// Returns the ticks of all checkpoints in the log, ascending.
fn checkpoints(place: &Place) -> Tried<Vec<u64>> {
    let listed = place.run(&["-o", "json", "checkpoints", "ls", NAME, "--state", "state"])?;
    let listed: Value = serde_json::from_slice(&listed).map_err(|error| format!("checkpoints ls: {error}"))?;
    let mut ticks = BTreeSet::new();
    collect(&listed, &mut ticks);
    Ok(ticks.into_iter().collect())
}

fn collect(value: &Value, ticks: &mut BTreeSet<u64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, ticks)),
        Value::Object(members) => match members.get("tick").and_then(Value::as_u64) {
            Some(tick) => drop(ticks.insert(tick)),
            None => members.values().for_each(|member| collect(member, ticks)),
        },
        _ => {}
    }
}

fn restore(setup: &Setup, calm: &Calm, from: &Place, tick: u64, newest: bool, report: &mut Report) -> Tried<()> {
    Place::with(&setup.binary, |place| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from.path(".")).arg(place.path(".")).status();
        if !copied.is_ok_and(|status| status.success()) {
            return Err("cannot copy the job".to_owned());
        }
        lose_newer(place, tick)?;
        let mut job = Process::start(place, calm.command(place, 1 + report.runs % 3, &[]), GAVE)?;
        report.restarts += 1;
        wait_to_end(place, &mut job)?;
        let outcome: Value =
            serde_json::from_slice(&place.read(GAVE)?).map_err(|error| format!("no outcome: {error}"))?;
        // What was passed over is said, and nothing is said where nothing was.
        let warned = outcome["warnings"].as_array().is_some_and(|warnings| !warnings.is_empty());
        if warned == newest {
            return Err(format!(
                "checkpoint {tick}: newer ones were lost, which was not said: {}",
                outcome["warnings"]
            ));
        }
        report.rows += calm.check_bytes(place)?;
        report.runs += 1;
        report.faults += 1;
        Ok(())
    })
}

/// Removes the state files of checkpoints after `tick`: `state/g000001/c000000000123/...`.
fn lose_newer(place: &Place, tick: u64) -> Tried<()> {
    let folder = place.path("state").join("jobs").join(NAME).join("state");
    let list = |path: &std::path::Path| {
        let entries = std::fs::read_dir(path).map_err(|error| format!("cannot list {}: {error}", path.display()))?;
        Ok::<_, String>(entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
    };
    for generation in list(&folder)? {
        for checkpoint in list(&generation)? {
            let name = checkpoint.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.strip_prefix('c').and_then(|digits| digits.parse::<u64>().ok()).is_some_and(|at| at > tick) {
                std::fs::remove_dir_all(&checkpoint).map_err(|error| format!("cannot remove {name}: {error}"))?;
            }
        }
    }
    Ok(())
}
