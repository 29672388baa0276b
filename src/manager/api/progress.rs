//! How far a job is: what it has read, and what its steps have done. Of a job that runs as its process says; of one at rest as its newest
//! checkpoint does, which is where it goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::engine::Readings;
use riverrun_state::inspect::{self, Detail};
use serde::Deserialize;
use serde_json::Value;

use super::call::{Answer, Call};
use super::shapes::{OffsetView, Offsets, OperatorView, Operators};
use crate::manager::Manager;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::{Job, Task};

/// What a process says of itself, as far as it is of interest here.
#[derive(Deserialize)]
pub struct Said {
    /// The job at one moment.
    pub snapshot: Snapshot,
    sources: Vec<Split>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// What is counted.
    pub meter: Option<Readings>,
}

/// The job at one moment.
#[derive(Deserialize)]
pub struct Snapshot {
    /// The newest complete tick.
    pub tick: u64,
    /// The balance since the job began.
    pub balance: BTreeMap<String, Counts>,
}

#[derive(Deserialize)]
struct Split {
    source: String,
    split: String,
    position: u64,
    end: Option<u64>,
}

/// A step.
#[derive(Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its input watermark.
    pub watermark: Option<i64>,
}

/// Where a job is known from.
pub enum Known {
    /// The process that leads says so.
    Running(Box<Said>),
    /// Its newest checkpoint does.
    AtRest(Box<Detail>),
}

/// Finds out how far a job is.
pub fn known(manager: &Arc<Manager>, job: &Job) -> Result<Known, Problem> {
    let asked = job.launch.as_ref().filter(|launch| launch.task == Task::Run);
    // The first process leads, and knows of the whole job.
    let status: Option<Value> = asked.and_then(|launch| manager.ask(&job.name, launch.generation, 0)).map(|(_, it)| it);
    if let Some(said) = status.and_then(|status| serde_json::from_value(status).ok()) {
        return Ok(Known::Running(Box::new(said)));
    }
    let detail = match manager.state_store()? {
        Some(store) => inspect::show(store, &job.name, None).or_else(|error| match error {
            riverrun_state::StateError::OtherJob { .. } => Ok(None),
            error => Err(error),
        })?,
        None => None,
    };
    detail.map(|detail| Known::AtRest(Box::new(detail))).ok_or_else(|| {
        Problem::new(Kind::Conflict, format!("job `{}` does not run, and has no checkpoint yet", job.name))
    })
}

/// Says how far each split of a job is read.
pub fn offsets(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let answer = match known(manager, &job)? {
        Known::Running(said) => {
            let view =
                |it: Split| OffsetView { source: it.source, split: it.split, position: it.position, end: it.end };
            Offsets { running: true, tick: said.snapshot.tick, splits: said.sources.into_iter().map(view).collect() }
        }
        Known::AtRest(detail) => {
            let splits = detail.splits.into_iter();
            let splits =
                splits.map(|it| OffsetView { source: it.source, split: it.split, position: it.position, end: it.end });
            Offsets { running: false, tick: detail.summary.tick, splits: splits.collect() }
        }
    };
    Ok(Answer::json(&answer))
}

/// Says what each source and step of a job has done.
pub fn operators(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let (running, tick, balance, steps) = match known(manager, &job)? {
        Known::Running(said) => (true, said.snapshot.tick, said.snapshot.balance, said.steps),
        Known::AtRest(detail) => (false, detail.summary.tick, detail.balance, Vec::new()),
    };
    let watermark = |name: &str| steps.iter().find(|step| step.name == name).and_then(|step| step.watermark);
    let view = |(name, rows): (String, Counts)| OperatorView { watermark: watermark(&name), name, rows };
    Ok(Answer::json(&Operators { running, tick, operators: balance.into_iter().map(view).collect() }))
}
