//! What is known of jobs and of the manager, and the savepoints of jobs.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use riverrun_connectors::kafka::{self, KafkaFault, KafkaRecord, KafkaTail, TailFrom};
use riverrun_connectors::topic::{Begin, Tail, Topic, TopicError};
use riverrun_jobs::Topics;
use riverrun_jobs::explain::{self, Form};
use riverrun_state::{StateError, Store, savepoint};

use super::call::{Answer, Call};
use super::shapes::{Cluster, Events, JobView, ProcessView, Status, Tapped, Version};
use crate::manager::Manager;
use crate::manager::decide::Process;
use crate::manager::moment::Moment;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::{Cause, Wanted};

/// Records of a tap, unless somebody says otherwise.
const TAPPED: u64 = 10;
/// Of so many partitions the newest records are sure to be found.
const PARTITIONS_TAPPED: u64 = 256;

/// Says which version this is, and who asks.
pub fn version(_: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    Ok(Answer::json(&Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: riverrun_jobs::BUILD_ID.to_owned(),
        caller: call.caller.id.clone(),
        role: call.caller.role,
        now: Moment::now(),
    }))
}

/// Counts jobs, processes and workers.
pub fn cluster(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let mut jobs: BTreeMap<String, usize> = BTreeMap::new();
    let (mut processes, mut workers) = (0, 0);
    for job in manager.store.jobs()?.iter().filter(|job| call.caller.knows(&job.name)) {
        *jobs.entry(job.phase.name().to_owned()).or_default() += 1;
        if job.wanted == Wanted::Running && !job.phase.is_at_rest() {
            processes += usize::from(job.spec.processes);
            workers += usize::from(job.spec.processes) * usize::from(job.spec.workers);
        }
    }
    Ok(Answer::json(&Cluster { jobs, processes, workers }))
}

/// Says how a job is doing.
pub fn status(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let seen = manager.processes.observe(&job.name, job.launch.as_ref());
    let generation = job.launch.as_ref().map_or(0, |launch| launch.generation);
    let mut processes = Vec::new();
    let mut run = None;
    for (index, process) in (0..).zip(&seen.processes) {
        let (state, end) = match process {
            Process::Absent => ("absent", None),
            Process::Alive => ("alive", None),
            Process::Ended(end) => ("ended", Some(end)),
        };
        let asked = (*process == Process::Alive).then(|| manager.ask(&job.name, generation, index)).flatten();
        let usage = manager.processes.usage(&job.name, generation, index).or(end.and_then(|end| end.usage));
        processes.push(ProcessView {
            index,
            state: state.to_owned(),
            code: end.and_then(|end| end.code),
            signal: end.and_then(|end| end.signal),
            cause: end.map(|end| Cause::of(end.code)),
            reason: end.and_then(|end| end.message.clone()),
            admin: asked.as_ref().map(|(address, _)| address.to_string()),
            cpu_seconds: usage.map(|usage| usage.cpu_millis as f64 / 1000.0),
            resident_bytes: usage.map(|usage| usage.resident_bytes),
            memory_limit_bytes: manager.processes.memory_limit(&job.name, generation, index),
        });
        run = run.or(asked.map(|(_, status)| status));
    }
    Ok(Answer::json(&Status { job: JobView { change: job.change.clone(), ..JobView::brief(&job) }, processes, run }))
}

/// Shows what happened to a job.
pub fn events(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    Ok(Answer::json(&Events { events: manager.job(call.job()?)?.events }))
}

/// Shows the steps of a job.
pub fn graph(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let (plan, _) = manager.plan(&job.name, &job.spec)?;
    let body = explain::explain(&plan, Form::Json).into_bytes();
    Ok(Answer::Document { status: StatusCode::OK, body, headers: Vec::new() })
}

impl Manager {
    /// Opens the state of jobs; `None` if there is none yet.
    pub fn state_store(&self) -> Result<Option<Store>, Problem> {
        Ok(self.state()?.open_existing()?)
    }

    /// Returns whether a job has a savepoint of this name.
    pub fn has_savepoint(&self, job: &str, name: &str) -> Result<bool, Problem> {
        let Some(store) = self.state_store()? else { return Ok(false) };
        match savepoint::read(store, job, name) {
            Ok(_) => Ok(true),
            Err(StateError::OtherJob { .. } | StateError::NoSavepoint { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes savepoints that were made before changes of a job, but for the newest ones. Those that somebody named stay.
    pub fn sweep_savepoints(&self, job: &str) -> Result<(), Problem> {
        let Some(store) = self.state_store()? else { return Ok(()) };
        let all = match savepoint::list(store.clone(), job) {
            Ok(all) => all,
            Err(StateError::OtherJob { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut made: Vec<(u64, &str)> = all
            .iter()
            .filter_map(|savepoint| Some((revision_before(&savepoint.name)?, savepoint.name.as_str())))
            .collect();
        made.sort_unstable();
        made.truncate(made.len().saturating_sub(KEPT_BEFORE_CHANGES));
        for (_, name) in made {
            savepoint::delete(store.clone(), job, name)?;
        }
        Ok(())
    }
}

/// So many savepoints that were made before changes of a job are kept.
const KEPT_BEFORE_CHANGES: usize = 5;

/// Returns the name of the savepoint that is made before a job becomes `revision`.
pub fn before_change(revision: u64) -> String {
    format!("before-{revision}-{}", Moment::now().0 / 1000)
}

/// Returns the revision before which a savepoint was made; `None` if somebody else named it.
fn revision_before(name: &str) -> Option<u64> {
    let (revision, seconds) = name.strip_prefix("before-")?.split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    revision.parse().ok().filter(|_| is_number(revision) && seconds.len() >= 10 && is_number(seconds))
}

/// Shows the newest records of a sink.
pub fn tap(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let limit = call.number("limit", 1..=1000)?.unwrap_or(TAPPED);
    // Names may lead elsewhere than when it was submitted.
    manager.policy.check(&job.spec)?;
    let (plan, _) = manager.plan(&job.name, &job.spec)?;
    let topics: Vec<(String, String)> = plan
        .outputs()
        .into_iter()
        .filter_map(|(sink, place)| {
            let topic = place.strip_prefix("topic `")?.strip_suffix('`')?.to_owned();
            Some((sink.to_owned(), topic))
        })
        .collect();
    let known = topics.iter().map(|(sink, _)| sink.as_str()).collect::<Vec<_>>().join(", ");
    let chosen = match call.query("sink") {
        Some(sink) => topics.iter().find(|(name, _)| name == sink),
        None if topics.len() == 1 => topics.first(),
        None => None,
    };
    let (sink, topic) = chosen.cloned().ok_or_else(|| {
        let detail = format!("which sink of job `{}` is meant?\n  hint: those that write topics are {known}", job.name);
        Problem::new(Kind::NotFound, detail)
    })?;
    let records = match manager.environment(&job.name, &job.spec).topics {
        Topics::Embedded(folder) => tap_folder(&folder, &topic, limit)?,
        Topics::Kafka(cluster) => tap_cluster(&cluster, &topic, limit)?,
        Topics::Elsewhere { place, reason } => {
            return Err(Problem::new(Kind::InvalidJob, format!("topics cannot be at `{place}`: {reason}")));
        }
    };
    let records = records.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    Ok(Answer::json(&Tapped { sink, topic, records }))
}

/// Returns the newest of the records that `next` gives. A topic that is written to faster than it is read would go on for ever.
fn newest<E>(limit: u64, mut next: impl FnMut() -> Result<Option<Vec<u8>>, E>) -> Result<VecDeque<Vec<u8>>, E> {
    let mut records = VecDeque::new();
    for _ in 0..limit.saturating_mul(PARTITIONS_TAPPED) {
        let Some(record) = next()? else { break };
        records.push_back(record);
        if records.len() as u64 > limit {
            records.pop_front();
        }
    }
    Ok(records)
}

/// Returns the newest records of a topic in a folder. One that nothing was written to yet is not there.
fn tap_folder(folder: &Path, topic: &str, limit: u64) -> Result<VecDeque<Vec<u8>>, Problem> {
    let failed = |error: TopicError| Problem::new(Kind::Storage, error.to_string());
    let Ok(topic) = Topic::open(folder, topic) else { return Ok(VecDeque::new()) };
    let mut tail = Tail::open(&topic, None, Begin::Last(limit)).map_err(failed)?;
    newest(limit, || Ok(tail.read()?.map(|record| record.value))).map_err(failed)
}

/// Returns the newest committed records of a topic of a cluster. A tombstone is shown as `null`.
fn tap_cluster(cluster: &kafka::Cluster, topic: &str, limit: u64) -> Result<VecDeque<Vec<u8>>, Problem> {
    let failed = |fault: KafkaFault| Problem::new(Kind::Storage, fault.to_string());
    let mut tail = match KafkaTail::open(cluster, topic, None, TailFrom::Last(limit)) {
        Err(KafkaFault::Missing { .. }) => return Ok(VecDeque::new()),
        opened => opened.map_err(failed)?,
    };
    let value = |record: KafkaRecord| record.value.unwrap_or_else(|| b"null".to_vec());
    newest(limit, || Ok(tail.read()?.map(value))).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_records_come_of_a_topic_that_never_ends_too() {
        let mut left = 7_u8;
        let ending = newest(3, || {
            left -= 1;
            Ok::<_, ()>((left > 0).then(|| vec![left]))
        });
        assert_eq!(ending.unwrap(), [[3], [2], [1]]);
        let mut read = 0;
        let endless = newest(2, || {
            read += 1;
            Ok::<_, ()>(Some(Vec::new()))
        });
        assert_eq!((endless.unwrap().len(), read), (2, 2 * PARTITIONS_TAPPED));
    }
}
