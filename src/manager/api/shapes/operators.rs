//! Documents about one source, step or sink of a job.

use std::collections::BTreeMap;

use riverrun_dataflow::balance::Counts;
use riverrun_state::record::TableFiles;
use serde::{Deserialize, Serialize};

/// A source, step or sink.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorDetail {
    /// Its name.
    pub name: String,
    /// `source`, `step` or `sink`.
    pub kind: String,
    /// Its process says so; else it is what its newest checkpoint says.
    pub running: bool,
    /// After this tick.
    pub tick: u64,
    /// The rows that came in since the job began, by what became of them, and those that went out; none of a sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Counts>,
    /// The watermark of what it reads, in microseconds since the epoch, if it is a step that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
    /// Time that workers spent on it since its processes started, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_seconds: Option<f64>,
    /// How many times as busy with it as the average the busiest worker is: 1 is even.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<f64>,
    /// What it has written since its processes started, if it is a sink that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<SinkView>,
    /// What it keeps, as of its last checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableView>,
}

/// What a sink has written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkView {
    /// Rows committed.
    pub rows: u64,
    /// Bytes committed.
    pub bytes: u64,
    /// Bytes that wait for their commit.
    pub pending_bytes: u64,
    /// For how long the oldest of them has waited.
    pub pending_seconds: f64,
}

/// A table of a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableView {
    /// Its name.
    pub table: String,
    /// Its rows; in files a key that changed since its base counts once per file.
    pub rows: u64,
    /// Memory that they take, about, if the job runs and its step knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Bytes of its files, if the job does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
}

impl TableView {
    /// Returns a table as its files hold it.
    pub fn stored(table: &TableFiles) -> TableView {
        TableView {
            table: table.table.clone(),
            rows: table.files.iter().map(|file| file.rows).sum(),
            memory_bytes: None,
            stored_bytes: Some(table.files.iter().map(|file| file.bytes).sum()),
        }
    }
}

/// How the work of a source, step or sink is spread.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorWorkers {
    /// Its name.
    pub name: String,
    /// `source`, `step` or `sink`.
    pub kind: String,
    /// After this tick.
    pub tick: u64,
    /// How many times as busy with it as the average the busiest worker is: 1 is even.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<f64>,
    /// By number.
    pub workers: Vec<OperatorWorker>,
}

/// What a worker does for a source, step or sink.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorWorker {
    /// Its number among all workers of the job.
    pub worker: usize,
    /// The process that it is in.
    pub process: usize,
    /// Time spent on it since the process started.
    pub busy_seconds: f64,
    /// The same by what is done: `restore`, `read`, `decode`, `step`, `encode`, `order`.
    pub stages: BTreeMap<String, f64>,
    /// Rows that it keeps there, as of its last checkpoint.
    pub state_rows: u64,
    /// Time that the worker spent at work of any kind.
    pub worker_busy_seconds: f64,
    /// Time that it slept because it may not read.
    pub worker_backpressured_seconds: f64,
    /// Time that it slept because there was nothing to read.
    pub worker_idle_seconds: f64,
}
