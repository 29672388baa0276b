//! Diff: two versions of a job over the same past, and what would be otherwise.
//!
//! ```text
//! resolve topics once -> run A into sorters -> run B into sorters -> compare stream by stream, key by key
//! ```
//! Nothing outside is written and no state is kept. Rows are sorted by key on disk, so memory does not depend on how many there are: each
//! stream sorts in its share of [`MEMORY_BYTES`] on either side, and of a comparison only the rows of one key that differ are held.

mod compare;
mod evidence;
mod identity;
mod side;
mod sorter;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::engine::{Control, Observer};

pub use compare::{Change, Credits, Tally};
pub use evidence::Evidence;
pub use identity::{Form, Subject};
pub use stream::Stream;

use crate::connect::Environment;
use crate::plan::Plan;
use crate::run::RunError;
use side::{Given, Running, Topics};

/// Bytes in which the rows of one version are sorted, all streams together. What is more goes to disk.
pub const MEMORY_BYTES: usize = 128 << 20;
/// Bytes that a stream gets at least, however many there are.
const STREAM_BYTES_MIN: usize = 1 << 20;

/// How versions are compared.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// Worker threads; at least 1.
    pub workers: usize,
    /// The folder for what does not fit into memory.
    pub scratch: PathBuf,
    /// The columns that name a row, by stream; otherwise they follow from the steps.
    pub keys: BTreeMap<String, Vec<String>>,
}

/// Two versions on their way to be compared.
pub struct Versions<'a> {
    plans: [&'a Plan; 2],
    environment: &'a Environment,
    options: &'a DiffOptions,
    streams: Vec<Stream>,
    topics: Topics,
    given: Vec<Given>,
}

/// How two versions differ.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The streams, by name.
    pub streams: Vec<StreamDiff>,
}

/// How a stream differs.
#[derive(Clone, Debug)]
pub struct StreamDiff {
    /// The stream.
    pub stream: Stream,
    /// Rows that each version gave, corrections counted.
    pub rows: [u64; 2],
    /// What came of comparing; none where only one version has the stream.
    pub tally: Option<Tally>,
}

impl Diff {
    /// Returns whether anything differs.
    pub fn differs(&self) -> bool {
        self.streams.iter().any(StreamDiff::differs)
    }
}

impl StreamDiff {
    /// Returns whether its rows differ, or have columns in one version that they have not in the other.
    fn differs(&self) -> bool {
        let is_shown = self.rows.iter().any(|rows| *rows > 0);
        self.tally.as_ref().is_none_or(Tally::differs) || (self.stream.is_wider_in_one && is_shown)
    }
}

impl<'a> Versions<'a> {
    /// Returns both versions, to be run over what `plans` say. An error says which stream or column there is not.
    pub fn new(
        plans: [&'a Plan; 2],
        environment: &'a Environment,
        options: &'a DiffOptions,
    ) -> Result<Versions<'a>, String> {
        let streams = stream::streams(plans, &options.keys)?;
        Ok(Versions { plans, environment, options, streams, topics: Topics::new(), given: Vec::new() })
    }

    /// Returns the streams, by name.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Runs the next version, A first. Returns false if `control` stopped it.
    pub fn run(&mut self, control: Arc<Control>, observer: Arc<Observer>) -> Result<bool, RunError> {
        let side = self.given.len();
        let running = Running {
            environment: self.environment,
            workers: self.options.workers,
            folder: &self.options.scratch,
            memory: (MEMORY_BYTES / self.streams.len().max(1)).max(STREAM_BYTES_MIN),
        };
        let given = side::run(self.plans[side], side, &self.streams, &mut self.topics, &running, (control, observer))?;
        let is_whole = !given.is_stopped;
        self.given.push(given);
        Ok(is_whole)
    }

    /// Returns the balance of a version that was run.
    pub fn balance(&self, side: usize) -> &BTreeMap<String, Counts> {
        &self.given[side].balance
    }

    /// Compares what both gave, once both were run. What differs is handed to `take`, stream by stream, in the order of keys.
    pub fn compare(&mut self, mut take: impl FnMut(&Stream, &Change) -> io::Result<()>) -> Result<Diff, RunError> {
        let [a, b] = self.given.as_mut_slice() else { panic!("both versions are run before they are compared") };
        let mut streams = Vec::new();
        for (index, stream) in self.streams.iter().enumerate() {
            let rows = [a.rows[index], b.rows[index]];
            let tally = match (a.sorted[index].take(), b.sorted[index].take()) {
                (Some(one), Some(two)) => {
                    let compared = compare::compare(stream, [one, two], &mut |change| take(stream, &change));
                    Some(compared.map_err(|error| side::scratch_failed(&stream.name, &error))?)
                }
                _ => None,
            };
            streams.push(StreamDiff { stream: stream.clone(), rows, tally });
        }
        Ok(Diff { streams })
    }

    /// Looks in the input for what `rows`, each of A or of B (0 or 1), rest on. Reads all of it once.
    pub fn evidence(&self, rows: &[(usize, &str)]) -> Result<Evidence, RunError> {
        let splits: Vec<_> = self.given.iter().map(|given| given.splits.as_slice()).collect();
        let [a, b] = splits.as_slice() else { panic!("evidence is looked for when both versions were run") };
        Evidence::find(self.plans, self.environment, [a, b], rows)
    }
}
