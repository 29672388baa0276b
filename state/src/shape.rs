//! The shape of a job: what an upgrade must know of a plan to say what becomes of its state.
//!
//! A plan's hash tells that something changed, not what. The shape is written down when a job begins, and again with every
//! upgrade. It names what state is bound to: steps by name, columns by name with what they hold, and of everything that
//! decides what state means a text that is the same as long as the meaning is. What is not here reaches no state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The shape of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Its sources.
    pub sources: Vec<SourceShape>,
    /// Its steps, each after those it reads.
    pub steps: Vec<StepShape>,
    /// Its sinks, in the order of the graph.
    pub sinks: Vec<SinkShape>,
}

/// The shape of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceShape {
    /// Its name.
    pub name: String,
    /// What is read: positions are positions in it.
    pub place: String,
}

/// The shape of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepShape {
    /// Its name, to which its state is bound.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// What its state would be worthless without: another value of any of these is another state.
    pub meaning: BTreeMap<String, String>,
    /// What its state outlives.
    pub settings: BTreeMap<String, String>,
    /// Which rows each of its inputs brings, as opaque texts.
    pub rows: Vec<String>,
    /// How long after the watermark rows are still taken, in microseconds.
    pub lateness: i64,
    /// The sources that its input watermark follows from, each with the delay on the way, in microseconds.
    pub watermark: Vec<(String, i64)>,
    /// Its tables; none for a stateless step.
    pub tables: Vec<TableShape>,
}

/// The shape of a table of a step's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape {
    /// Its name.
    pub name: String,
    /// Its columns, without those that every table has.
    pub columns: Vec<ColumnShape>,
}

/// The shape of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnShape {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow writes it.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// What stands in it, as an opaque text: how it came about, from the source on.
    pub of: String,
    /// What it is to its step.
    pub role: Role,
}

/// What a column is to its step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Places the row, or puts it in order: without it there is no row.
    Key,
    /// Carried along as it came.
    Carried,
    /// Part of a value that is put together from many rows, such as an aggregate: of the part with this name.
    Part(String),
}

/// The shape of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkShape {
    /// Its name.
    pub name: String,
    /// What is written.
    pub place: String,
    /// In which form.
    pub format: String,
}

impl Shape {
    /// Returns the step `name`.
    pub fn step(&self, name: &str) -> Option<&StepShape> {
        self.steps.iter().find(|step| step.name == name)
    }
}
