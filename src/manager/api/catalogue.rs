//! What there is beside jobs: connectors, savepoints of all jobs, and how the manager is set up.

use std::sync::Arc;

use riverrun_state::{StateError, inspect, savepoint};

use super::call::{Answer, Call};
use super::checkpoints::{savepoint_view, state_of};
use super::shapes::{Config, JobSavepoint, SavepointCatalogue};
use crate::connectors;
use crate::manager::Manager;
use crate::manager::problem::{Kind, Problem};

/// Savepoints of a list, unless somebody says otherwise.
const LISTED: usize = 100;

/// Shows how the manager is set up.
pub fn config(manager: &Arc<Manager>, _: &Call) -> Result<Answer, Problem> {
    Ok(Answer::json(&Config { settings: manager.config.clone() }))
}

/// Lists the connectors.
pub fn connectors(_: &Arc<Manager>, _: &Call) -> Result<Answer, Problem> {
    Ok(Answer::json(&connectors::all()))
}

/// Shows the schema of a connector.
pub fn connector_schema(_: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let kind = call.text_param("kind");
    let schema = connectors::schema_of(kind).ok_or_else(|| {
        let known: Vec<String> = connectors::all().connectors.into_iter().map(|connector| connector.kind).collect();
        let detail = format!("there is no connector `{}`\n  hint: there are {}", kind.escape_debug(), known.join(", "));
        Problem::new(Kind::NotFound, detail)
    })?;
    Ok(Answer::json(&schema))
}

/// Lists the savepoints of all jobs, by job and name.
pub fn savepoints(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let limit = call.number("limit", 1..=1000)?.unwrap_or(LISTED);
    let (after_job, after) = call.query("cursor").map_or(("", ""), |text| text.split_once('/').unwrap_or((text, "")));
    let (mut found, mut next) = (Vec::new(), None);
    let jobs = manager.store.jobs()?;
    let known = jobs.iter().filter(|job| job.name.as_str() >= after_job && call.caller.knows(&job.name));
    'jobs: for job in known {
        let Some(store) = manager.state_store()? else { break };
        let all = match savepoint::list(store, &job.name) {
            Err(StateError::OtherJob { .. }) => continue,
            all => all?,
        };
        for savepoint in all.iter().filter(|it| job.name != after_job || it.name.as_str() > after) {
            if found.len() == limit {
                next = found.last().map(|last: &JobSavepoint| format!("{}/{}", last.job, last.savepoint.name));
                break 'jobs;
            }
            found.push(JobSavepoint { job: job.name.clone(), savepoint: savepoint_view(savepoint) });
        }
    }
    Ok(Answer::json(&SavepointCatalogue { savepoints: found, next }))
}

/// Shows a savepoint.
pub fn savepoint(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let name = call.savepoint()?;
    let (job, store) = state_of(manager, call)?;
    Ok(Answer::json(&savepoint_view(
        &savepoint::read(store, &job.name, name).map_err(|error| gone(&job.name, name, error))?,
    )))
}

/// Shows what a savepoint holds.
pub fn inspect(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let name = call.savepoint()?;
    let (job, store) = state_of(manager, call)?;
    Ok(Answer::json(&inspect::show_savepoint(store, &job.name, name).map_err(|error| gone(&job.name, name, error))?))
}

/// A job that never ran has no savepoint of any name.
fn gone(job: &str, name: &str, error: StateError) -> Problem {
    match error {
        StateError::OtherJob { .. } => StateError::NoSavepoint { job: job.to_owned(), name: name.to_owned() }.into(),
        error => error.into(),
    }
}
