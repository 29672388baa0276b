//! The fault matrix on the real binary: processes are killed, frozen, doubled and starved while they work, and everything
//! that they wrote is held against an oracle and against a run without faults.
//!
//! This program drives the binary from outside and shares no code with it. [`traffic`] makes input from a seed, [`oracle`]
//! says what must come out, [`check`] compares. [`live`] and [`bounded`] are the two ways to run a job under fault; the rows
//! of the matrix are in [`matrix`].

mod arguments;
mod bounded;
mod bucket;
mod buckets;
mod check;
mod clocks;
mod clustered;
mod delay;
mod dice;
mod ends;
mod job;
mod kafka;
mod kills;
mod live;
mod managed;
mod matrix;
mod memory;
mod mesh;
mod network;
mod older;
mod oracle;
mod parted;
mod place;
mod points;
mod process;
mod producer;
mod proxy;
mod replayed;
mod report;
mod traffic;
mod volumes;
mod weather;
mod wrong_rows;
mod zombies;

use std::path::PathBuf;
use std::process::ExitCode;

/// What a step of the harness returns; a failure is told in words.
pub type Tried<T> = Result<T, String>;

/// What all rows need.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The binary under fault.
    pub binary: PathBuf,
    /// A debug build of it, which has the named points.
    pub debug: Option<PathBuf>,
    /// Everything random follows from this, as far as processes allow.
    pub seed: u64,
    /// Rows a second of live traffic.
    pub rate: u64,
    /// How long a live run that is replayed lasts after its kills, in minutes; 0: a few seconds.
    pub minutes: u64,
    /// How the names of the points begin at which P4 ends runs; `None`: all.
    pub points: Option<String>,
    /// Which of the matrix's numbers of runs.
    pub counts: matrix::Counts,
}

impl Setup {
    /// Returns how many rows a bounded job reads: enough for several kills, whatever the machine.
    pub fn bounded_rows(&self) -> usize {
        usize::try_from(self.rate * 35).unwrap_or(usize::MAX)
    }
}

fn main() -> ExitCode {
    match arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => matrix::run(&arguments),
        Err(reason) => {
            eprintln!("riverrun-faults: {reason}\n\n{}", arguments::usage());
            ExitCode::from(2)
        }
    }
}
