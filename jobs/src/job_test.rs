//! Job tests: given rows in, expected rows out, in virtual time, on the real engine with the real steps and decoders.
//!
//! ```text
//! test file -> checked (job planned with a sink on every expected stream) -> cases
//! case -> arrivals (as given, shuffled within the disorder bound) -> plays (workers, restarts) -> rows -> differences
//! ```
//! Only sources and sinks are in memory, and who cuts the ticks is the test: one row a tick where rows arrive as given. A test
//! looks at no clock; what is left to chance follows from a seed. This module may know the job file, the plan and how a run is
//! put together; it knows no operator and nothing of the command line.

mod arrival;
mod cells;
mod compare;
mod expect;
mod fails;
pub(crate) mod fields;
mod file;
mod given;
mod memory;
mod moment;
mod play;
mod rewrite;
mod rows;
mod show;
mod value;

use serde::Serialize;

use crate::fault::{Place, Report};

pub use file::TestFile;
pub use play::Chances;
pub use rewrite::Rewritten;

/// What became of a case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// How often it was played.
    pub plays: usize,
    /// What was not as expected; empty: it passed.
    pub failures: Vec<Failure>,
    /// What came out in the play as given, for whoever rewrites expectations.
    #[serde(skip)]
    pub(crate) came: Vec<rewrite::Came>,
}

impl CaseResult {
    /// Returns whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Something that was not as expected.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The play in which it was seen: `as given`, `with 3 workers`, `shuffled (--seed 2)`.
    pub play: String,
    /// The stream or counts it is about; none where the play itself failed.
    pub about: Option<String>,
    /// Where what was expected stands.
    pub place: Option<Place>,
    /// What is the matter, in a line.
    pub message: String,
    /// Rows that differ.
    pub rows: Vec<RowDifference>,
    /// The same as a table for people.
    #[serde(skip)]
    pub table: String,
}

/// A row that is not as expected.
#[derive(Clone, Debug, Serialize)]
pub struct RowDifference {
    /// In which way.
    pub kind: DifferenceKind,
    /// The line in the test file where the expected row stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Its columns with what was expected and what came; the same text where they agree.
    pub cells: Vec<CellDifference>,
}

/// A cell of such a row.
#[derive(Clone, Debug, Serialize)]
pub struct CellDifference {
    /// The column.
    pub column: String,
    /// What was expected, if a row was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What came, if a row did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub came: Option<String>,
}

/// In which way a row is not as expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// It was expected and did not come.
    Missing,
    /// It came and was not expected.
    Unexpected,
    /// A row much like it came.
    Changed,
}

/// Reads the test file `text`, called `name` in faults. `job` gives the name and the text of the job file that it names: the path
/// as written, or nothing where the file names none.
///
/// All faults of the file are in the report, or those of its job if that is the one at fault.
pub fn read(
    name: &str,
    text: &str,
    job: impl FnOnce(Option<&str>) -> Result<JobText, String>,
) -> Result<TestFile, Vec<Report>> {
    file::read(name, text, job)
}

/// Returns the names of the numbers that `counts` can expect.
pub(crate) fn count_names() -> impl Iterator<Item = &'static str> {
    expect::CountOf::names()
}

/// A job file as text.
#[derive(Clone, Debug)]
pub struct JobText {
    /// What faults call it.
    pub name: String,
    /// What it says.
    pub text: String,
}

#[cfg(test)]
mod tests;
