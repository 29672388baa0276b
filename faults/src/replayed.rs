//! Y1 and Y2: the recorded ticks once more, with other numbers of workers; and another program's opinion of what must come
//! out.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::check::Written;
use crate::dice::Dice;
use crate::job::{STEADY, TOPICS};
use crate::live::{Live, Producers};
use crate::place::Place;
use crate::process::nap;
use crate::report::Report;
use crate::traffic::USUAL;
use crate::{Setup, Tried};

/// Kills of the live run that is replayed.
const KILLS: u64 = 3;

/// Y1: a live run with kills, replayed with 1, 2 and 5 workers: the same bytes in every lane.
pub fn again(setup: &Setup, runs: u64) -> Tried<Report> {
    let mut report = Report::of("Y1");
    let mut dice = Dice::new(setup.seed ^ 0x91);
    for _ in 0..runs {
        Place::with(&setup.binary, |place| {
            live(setup, place, &mut report, &mut dice, (setup.minutes, &["--set", "journal.keep=all"]))?;
            for workers in ["1", "2", "5"] {
                replay(place, workers, &mut report)?;
            }
            Ok(())
        })?;
        report.runs += 1;
    }
    Ok(report)
}

/// A live run with kills, which lasts for so many minutes after them.
fn live(
    setup: &Setup,
    place: &Place,
    report: &mut Report,
    dice: &mut Dice,
    (minutes, extra): (u64, &[&str]),
) -> Tried<()> {
    let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
    live.extra = extra.iter().map(|argument| (*argument).to_owned()).collect();
    for _ in 0..KILLS {
        live.start(report, 1 + dice.below(3))?;
        live.recovered(report)?;
        nap(dice.moment(Duration::from_millis(1500)));
        live.kill(report)?;
    }
    live.start(report, 2)?;
    live.recovered(report)?;
    nap(Duration::from_secs(60 * minutes));
    live.finish(report, Producers::Lived)
}

fn replay(place: &Place, workers: &str, report: &mut Report) -> Tried<()> {
    let out = format!("replayed-{workers}");
    let run = ["-q", "-o", "json", "replay", "job.yaml", "--recorded", "--topics", TOPICS, "--state", "state"];
    let more = ["--set", "journal.keep=all", "--out", &out, "-w", workers];
    let said = place.run(&[&run[..], &more[..]].concat())?;
    let said: Value = serde_json::from_slice(&said).map_err(|error| format!("replay: {error}"))?;
    let written = Written::read(place)?;
    for file in said["files"].as_array().ok_or("replay lists no files")? {
        let lane = usize::try_from(file["lane"].as_u64().unwrap_or_default()).unwrap_or_default();
        let live = match file["sink"].as_str().unwrap_or_default() {
            "out" => &written.out[lane],
            "late_clicks" => &written.late_clicks,
            "late_orders" => &written.late_orders,
            "bad" => &written.bad,
            "counted" => &written.counts[lane],
            "visits" => &written.visits[lane],
            other => return Err(format!("replay writes a sink `{other}`")),
        };
        let name = file["file"].as_str().unwrap_or_default();
        let path = if place.path(&out).join(name).exists() { format!("{out}/{name}") } else { name.to_owned() };
        if place.read(&path)? != *live {
            return Err(format!("{path} is not what the live run wrote"));
        }
        report.rows += file["rows"].as_u64().unwrap_or_default();
    }
    Ok(())
}

/// The program that asks DuckDB.
const SCRIPT: &str = include_str!("../duckdb_oracle.py");

/// Y2: DuckDB computes from the same input what must come out of a live run with kills.
pub fn judged_by_duckdb(setup: &Setup, runs: u64) -> Tried<Report> {
    let mut report = Report::of("Y2");
    let python = std::env::var("RIVERRUN_FAULTS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !Command::new(&python).args(["-c", "import duckdb"]).output().is_ok_and(|done| done.status.success()) {
        report.left_out = Some(format!("`{python}` has no duckdb; name one that has by RIVERRUN_FAULTS_PYTHON"));
        return Ok(report);
    }
    let mut dice = Dice::new(setup.seed ^ 0x92);
    for _ in 0..runs {
        Place::with(&setup.binary, |place| {
            live(setup, place, &mut report, &mut dice, (0, &[]))?;
            for topic in ["clicks", "orders", "counts", "visits"] {
                let text = place.run(&["topic", "tail", topic, "--topics", TOPICS, "--from-start"])?;
                place.write(&format!("{topic}.lines"), text)?;
            }
            place.write("oracle.py", SCRIPT)?;
            let asked = Command::new(&python).arg("oracle.py").current_dir(place.path("")).output();
            let asked = asked.map_err(|error| format!("cannot start {python}: {error}"))?;
            let said = String::from_utf8_lossy(&asked.stdout).into_owned();
            match asked.status.success() {
                true => report.notes.push(format!("DuckDB {}", said.trim())),
                false => return Err(format!("DuckDB disagrees: {said}{}", String::from_utf8_lossy(&asked.stderr))),
            }
            Ok(())
        })?;
        report.runs += 1;
    }
    Ok(report)
}
