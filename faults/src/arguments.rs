//! The command line of the harness.

use std::path::PathBuf;

use crate::matrix::{Counts, FULL_RATE, KAFKA_RATE, RATE, ROWS, Row};
use crate::{Setup, Tried};

/// What was asked for.
pub struct Arguments {
    /// The rows to run.
    pub rows: Vec<&'static Row>,
    /// What they need.
    pub setup: Setup,
    /// The rate of live traffic, if one was asked for; otherwise it is the row's own.
    pub rate: Option<u64>,
    /// Rows that run at the same time.
    pub jobs: usize,
    /// Write a line of JSON for each row.
    pub json: bool,
}

/// Returns how the harness is called.
pub fn usage() -> String {
    let rows = ROWS.iter().map(|row| {
        let counts = format!("{} / {}", row.gate, row.nightly);
        format!("  {:<3} {:<58} {counts:>12}\n", row.name, row.says)
    });
    format!(
        "Usage: riverrun-faults ROW... [OPTIONS]      ROW: one of those below, or `all`

      --counts gate|nightly|N   how many runs of each row [default: gate]
      --binary PATH             the binary under fault [default: the one beside this program]
      --debug-binary PATH       a debug build of it, for the rows that need named points [default: --binary, if it is one]
      --seed S                  everything random follows from this [default: 7]
      --rate ROWS               rows a second of live traffic [default: {RATE}; {FULL_RATE} at night in P1, P7, M1, Z1; {KAFKA_RATE} in the gate in K1, K2]
      --minutes N               how long the live run of Y1 lasts after its kills [default: 0, which is a few seconds]
      --points START            P4: only named points whose names begin with this, for example `collect.` [default: all]
      --jobs N                  rows that run at the same time [default: 1]
      --json                    a line of JSON for each row, on stdout; the table goes to stderr

Rows, with their runs in the gate and at night:
{}",
        rows.collect::<String>()
    )
}

/// Reads the command line.
pub fn read(mut given: impl Iterator<Item = String>) -> Tried<Arguments> {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("riverrun")));
    let (binary, counts) = (beside.unwrap_or_default(), Counts::Gate);
    let setup = Setup { binary, debug: None, seed: 7, rate: RATE, minutes: 0, points: None, counts };
    let mut read = Arguments { rows: Vec::new(), setup, rate: None, jobs: 1, json: false };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--counts" => {
                read.setup.counts = match value()?.as_str() {
                    "gate" => Counts::Gate,
                    "nightly" => Counts::Nightly,
                    number => Counts::Each(number_of(&argument, number)?),
                }
            }
            "--binary" => read.setup.binary = PathBuf::from(value()?),
            "--debug-binary" => read.setup.debug = Some(absolute(PathBuf::from(value()?))?),
            "--seed" => read.setup.seed = number_of(&argument, &value()?)?,
            "--rate" => read.rate = Some(number_of(&argument, &value()?)?),
            "--minutes" => read.setup.minutes = number_of(&argument, &value()?)?,
            "--points" => read.setup.points = Some(value()?),
            "--jobs" => read.jobs = usize::try_from(number_of(&argument, &value()?)?).unwrap_or(1).max(1),
            "--json" => read.json = true,
            "all" => read.rows.extend(ROWS),
            name => match ROWS.iter().find(|row| row.name.eq_ignore_ascii_case(name)) {
                Some(row) => read.rows.push(row),
                None => return Err(format!("there is no row or option `{name}`")),
            },
        }
    }
    if read.rows.is_empty() {
        return Err("no row was named".to_owned());
    }
    read.setup.binary = absolute(read.setup.binary)?;
    Ok(read)
}

fn number_of(option: &str, text: &str) -> Tried<u64> {
    text.parse().map_err(|_| format!("`{option}` takes a number, not `{text}`"))
}

fn absolute(path: PathBuf) -> Tried<PathBuf> {
    std::fs::canonicalize(&path).map_err(|error| format!("there is no binary at {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(given: &[&str]) -> String {
        read(given.iter().map(|text| text.to_string())).map(|_| ()).unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused(&[]).contains("no row"));
        assert!(refused(&["P99"]).contains("`P99`"));
        assert!(refused(&["P1", "--counts", "many"]).contains("`many`"));
        assert!(refused(&["P1", "--seed"]).contains("needs a value"));
        assert!(refused(&["P1", "--binary", "/nowhere/riverrun"]).contains("/nowhere/riverrun"));
    }

    #[test]
    fn every_row_is_in_the_usage() {
        assert!(ROWS.iter().all(|row| usage().contains(row.says)));
    }
}
