//! The rows of the matrix, and the program that runs them.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::arguments::Arguments;
use crate::process::now;
use crate::report::{self, Report};
use crate::{
    Setup, Tried, buckets, clocks, clustered, ends, kills, memory, mesh, older, parted, points, replayed, volumes,
    wrong_rows, zombies,
};

/// A row of the matrix.
pub struct Row {
    /// Its name there.
    pub name: &'static str,
    /// What happens.
    pub says: &'static str,
    /// How many runs in the gate.
    pub gate: u64,
    /// How many at night.
    pub nightly: u64,
    run: fn(&Setup, u64) -> Tried<Report>,
}

/// Which of a row's numbers of runs.
#[derive(Clone, Copy, Debug)]
pub enum Counts {
    /// Those of the gate.
    Gate,
    /// Those of the night.
    Nightly,
    /// So many of each.
    Each(u64),
}

/// Rows a second of live traffic, where nothing else is said: a machine that does other things besides keeps up with them.
pub const RATE: u64 = 4_000;
/// Where every commit is a transaction of real brokers, in a short run: what is tested is not how much they bear, and a job that has fallen
/// behind on a slow machine has to catch up.
pub const KAFKA_RATE: u64 = 1_000;
/// The full load, for long runs of the rows in [`FULL`].
pub const FULL_RATE: u64 = 20_000;
/// Rows whose long runs are under full load.
const FULL: [&str; 4] = ["P1", "P7", "M1", "Z1"];
/// Rows on brokers.
const KAFKA: [&str; 2] = ["K1", "K2"];

/// All rows, in the order of the matrix.
pub const ROWS: &[Row] = &[
    Row { name: "P1", says: "kill -9 at random times", gate: 25, nightly: 1000, run: kills::at_random },
    Row {
        name: "P4",
        says: "ended at each named point between two outside acts",
        gate: 2,
        nightly: 20,
        run: points::at_each_point,
    },
    Row {
        name: "P5",
        says: "ten kills in a row, each within 500 ms of the start",
        gate: 2,
        nightly: 50,
        run: kills::in_a_row,
    },
    Row { name: "P6", says: "job and producers killed at once", gate: 3, nightly: 100, run: kills::all_at_once },
    Row {
        name: "P7",
        says: "another number of workers after each kill",
        gate: 5,
        nightly: 200,
        run: kills::with_other_workers,
    },
    Row {
        name: "M1",
        says: "processes and manager of a job killed and frozen",
        gate: 5,
        nightly: 200,
        run: mesh::disturbed,
    },
    Row { name: "N1", says: "hosts of processes cut off and lost", gate: 0, nightly: 50, run: parted::hosts },
    Row { name: "Z1", says: "frozen, others start meanwhile, woken again", gate: 1, nightly: 50, run: zombies::frozen },
    Row { name: "Z2", says: "two deployments of one job", gate: 1, nightly: 10, run: zombies::two_deployments },
    Row {
        name: "S3",
        says: "state in a bucket, behind a network that fails",
        gate: 3,
        nightly: 300,
        run: buckets::failing,
    },
    Row {
        name: "K1",
        says: "job and brokers of Kafka killed, frozen, leaders moved",
        gate: 1,
        nightly: 100,
        run: clustered::under_fault,
    },
    Row {
        name: "K2",
        says: "ends of transactions late, lost, cut off, answered twice",
        gate: 5,
        nightly: 300,
        run: ends::unanswered,
    },
    Row { name: "D1", says: "disk full under state, topics and files", gate: 1, nightly: 20, run: volumes::full },
    Row { name: "D5", says: "restored from every kept checkpoint", gate: 3, nightly: 60, run: older::restored },
    Row { name: "I2", says: "bad, late and huge rows", gate: 1, nightly: 3, run: wrong_rows::exact },
    Row { name: "T1", says: "the wall clock jumps by an hour", gate: 2, nightly: 20, run: clocks::jump },
    Row { name: "O1", says: "killed because memory runs out", gate: 0, nightly: 10, run: memory::runs_out },
    Row {
        name: "Y1",
        says: "recorded ticks replayed with 1, 2 and 5 workers",
        gate: 1,
        nightly: 1,
        run: replayed::again,
    },
    Row {
        name: "Y2",
        says: "DuckDB's opinion of what must come out",
        gate: 1,
        nightly: 10,
        run: replayed::judged_by_duckdb,
    },
];

/// Runs what was asked for, and says how it went.
pub fn run(arguments: &Arguments) -> ExitCode {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.min(arguments.rows.len()) {
            scope.spawn(|| {
                while let Some(row) = arguments.rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = run_row(row, &setup_of(row, arguments));
                    // A night that is cut short leaves what it came to.
                    if arguments.json {
                        println!("{}", report.json());
                    }
                    match &report.failed {
                        Some(reason) => eprintln!("{} FAILED: {reason}", report.row),
                        None => eprintln!("{} is done", report.row),
                    }
                    done.lock().expect("no one panics with it").push(report);
                }
            });
        }
    });
    let mut reports = done.into_inner().expect("all threads are done");
    let place = |report: &Report| arguments.rows.iter().position(|row| row.name == report.row);
    reports.sort_by_key(place);
    let table = report::table(&reports);
    match arguments.json {
        true => eprint!("{table}"),
        false => print!("{table}"),
    }
    ExitCode::from(u8::from(reports.iter().any(|report| report.failed.is_some())))
}

fn setup_of(row: &Row, arguments: &Arguments) -> Setup {
    let usual = match arguments.setup.counts {
        Counts::Nightly if FULL.contains(&row.name) => FULL_RATE,
        Counts::Gate if KAFKA.contains(&row.name) => KAFKA_RATE,
        _ => RATE,
    };
    let rate = arguments.rate.unwrap_or(usual);
    Setup { rate, ..arguments.setup.clone() }
}

fn run_row(row: &Row, setup: &Setup) -> Report {
    let runs = match setup.counts {
        Counts::Gate => row.gate,
        Counts::Nightly => row.nightly,
        Counts::Each(runs) => runs,
    };
    let from = now();
    let mut report = (row.run)(setup, runs).unwrap_or_else(|reason| {
        let failed = Some(format!("{reason}\n  seed {}", setup.seed));
        Report { failed, ..Report::of(row.name) }
    });
    report.took = from.elapsed();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number in a cell of the page; a dash is none.
    fn number(cell: &str) -> u64 {
        let digits: String = cell.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    }

    #[test]
    fn the_page_says_how_often_each_row_runs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fault-matrix.md");
        let page = std::fs::read_to_string(path).unwrap();
        for row in ROWS {
            let line = page.lines().find(|line| line.starts_with(&format!("| {} | ", row.name)));
            let line = line.unwrap_or_else(|| panic!("{} is not on the page", row.name));
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            assert_eq!(
                (number(cells[cells.len() - 2]), number(cells[cells.len() - 1])),
                (row.gate, row.nightly),
                "{}: gate and night",
                row.name
            );
        }
    }
}
