//! Documents about what there is beside jobs, and about jobs in figures.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Savepoint;
use crate::config::Shown;
use crate::manager::moment::Moment;
use crate::manager::problem::Finding;

/// How the manager is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Its settings, passwords left out.
    pub settings: Vec<Shown>,
}

/// Savepoints of all jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavepointCatalogue {
    /// By job and name.
    pub savepoints: Vec<JobSavepoint>,
    /// There are more: ask for those after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A savepoint of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobSavepoint {
    /// The job.
    pub job: String,
    /// The savepoint.
    pub savepoint: Savepoint,
}

/// What a job will do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// The job's name.
    pub job: String,
    /// For people: steps, keys, state and its bound, watermarks.
    pub text: String,
    /// The same for programs.
    pub graph: Value,
    /// Warnings; errors are a problem.
    pub findings: Vec<Finding>,
}

/// The last minutes of a job in figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobMetrics {
    /// Of each span of so many seconds the last figures are shown.
    pub step_seconds: u64,
    /// When they were noted, the newest last.
    pub at: Vec<Moment>,
    /// By metric and part.
    pub series: Vec<MetricSeries>,
}

/// The figures of a metric.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricSeries {
    /// The metric.
    pub name: String,
    /// The source, step or sink; none: it is of the whole job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Of a balance, what became of the rows: `in`, `out`, `late`, `bad`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// As many as there are moments; null where there was none.
    pub values: Vec<Option<f64>>,
}
