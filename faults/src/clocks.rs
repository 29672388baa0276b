//! T1: the wall clock jumps by an hour, while the job runs and between runs. The clock of the process is moved by libfaketime.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dice::Dice;
use crate::job::STEADY;
use crate::live::{Live, Producers};
use crate::place::Place;
use crate::process::nap;
use crate::report::Report;
use crate::traffic::USUAL;
use crate::{Setup, Tried};

/// Returns where libfaketime is, if it is installed.
pub fn library() -> Option<PathBuf> {
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders =
        [format!("/usr/lib/{architecture}/faketime"), "/usr/lib/faketime".into(), "/usr/local/lib/faketime".into()];
    folders.iter().map(|folder| Path::new(folder).join("libfaketimeMT.so.1")).find(|path| path.exists())
}

/// Returns the environment of a process whose wall clock is off by `offset`, for good. The clock that measures spans is left
/// alone.
pub fn behind(offset: &str) -> Vec<(String, String)> {
    moved(&[("FAKETIME", offset)])
}

fn moved(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let library = library().map(|path| path.display().to_string()).unwrap_or_default();
    let common =
        [("LD_PRELOAD", library.as_str()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("DONT_FAKE_MONOTONIC", "1")];
    common.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The file from which a running process learns of a jump.
const JUMPS: &str = "clock";

/// T1: jumps of the wall clock by an hour to either side, in a running job and between runs.
pub fn jump(setup: &Setup, jumps: u64) -> Tried<Report> {
    let mut report = Report::of("T1");
    if library().is_none() {
        report.left_out = Some("libfaketime is not installed (Debian: faketime)".to_owned());
        return Ok(report);
    }
    let mut dice = Dice::new(setup.seed ^ 0x71);
    Place::with(&setup.binary, |place| {
        let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
        place.write(JUMPS, "+0\n")?;
        let file = place.path(JUMPS).display().to_string();
        live.environment = moved(&[("FAKETIME_TIMESTAMP_FILE", &file), ("FAKETIME_NO_CACHE", "1")]);
        live.start(&mut report, 2)?;
        live.recovered(&mut report)?;
        for jump in 0..jumps {
            let offset = *dice.one_of(&["-1h", "+1h", "+0"]);
            let between = jump % 2 == 1;
            if between {
                live.kill(&mut report)?;
            } else {
                live.strike()?;
                report.faults += 1;
            }
            // In one act: a half-written offset would be another jump.
            place.write("clock.next", format!("{offset}\n"))?;
            std::fs::rename(place.path("clock.next"), place.path(JUMPS)).map_err(|error| error.to_string())?;
            if between {
                live.start(&mut report, 1 + dice.below(3))?;
            }
            live.recovered(&mut report)?;
            nap(dice.moment(Duration::from_millis(600)));
            report.runs += 1;
        }
        live.finish(&mut report, Producers::Lived)?;
        never_backwards(place)
    })?;
    Ok(report)
}

/// Fails unless the recorded clock only ever went forward.
fn never_backwards(place: &Place) -> Tried<()> {
    let folder = place.path("state").join("jobs").join(crate::job::NAME).join("log");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    let mut records: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    records.sort();
    let (mut before, mut ticks) = (i64::MIN, 0);
    for path in records.iter().filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let text = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let mut times = Vec::new();
        if record["type"] == "ticks" {
            find(&record, "now", &mut times);
        }
        for time in times {
            if time < before {
                return Err(format!("the recorded clock goes back from {before} to {time} in {}", path.display()));
            }
            before = time;
            ticks += 1;
        }
    }
    if ticks == 0 { Err("the log holds no ticks".to_owned()) } else { Ok(()) }
}

fn find(value: &serde_json::Value, name: &str, found: &mut Vec<i64>) {
    match value {
        serde_json::Value::Object(members) => {
            found.extend(members.get(name).and_then(serde_json::Value::as_i64));
            members.values().for_each(|member| find(member, name, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| find(item, name, found)),
        _ => {}
    }
}
