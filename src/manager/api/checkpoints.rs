//! The state of jobs: checkpoints, looked at and taken, and savepoints.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use riverrun_jobs::kept::kept;
use riverrun_state::inspect::script::script;
use riverrun_state::inspect::tables::{Kept, Tables, tables};
use riverrun_state::inspect::{self, Named};
use riverrun_state::{StateError, Store, savepoint};
use serde_json::json;

use super::call::{Answer, Call};
use super::shapes::{NewSavepoint, Savepoint, Savepoints, StateScript, Taken};
use crate::checkpoints::View;
use crate::manager::Manager;
use crate::manager::keeper::Refusal;
use crate::manager::phase::Phase;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::Job;

/// A process waits a while for its checkpoint to be published, and then says so: its answer is waited for a little longer.
const TAKEN_WITHIN: Duration = Duration::from_secs(55);

/// The state of a job, as whoever asks may see it.
pub fn state_of(manager: &Arc<Manager>, call: &Call) -> Result<(Job, Store), Problem> {
    let job = manager.job(call.job()?)?;
    match manager.state_store()? {
        Some(store) => Ok((job, store)),
        None => Err(never_ran(&job.name)),
    }
}

fn never_ran(job: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("job `{job}` has no state yet: it never ran"))
}

/// Says of state that is not there what that means for a job that is.
fn looked<T>(job: &str, result: Result<T, StateError>) -> Result<T, Problem> {
    result.map_err(|error| match error {
        StateError::OtherJob { .. } => never_ran(job),
        error => error.into(),
    })
}

/// Lists the checkpoints of a job.
pub fn list(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let (job, store) = state_of(manager, call)?;
    Ok(Answer::json(&looked(&job.name, inspect::list(store, &job.name))?))
}

/// Shows a checkpoint.
pub fn show(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let (job, store) = state_of(manager, call)?;
    let tick = call.checkpoint()?;
    let found = looked(&job.name, inspect::show(store, &job.name, tick))?;
    Ok(Answer::json(&found.ok_or_else(|| no_checkpoint(&job.name, tick))?))
}

fn no_checkpoint(job: &str, tick: Option<u64>) -> Problem {
    let which = tick.map_or(String::new(), |tick| format!(" at tick {tick}, or none any more"));
    Problem::new(Kind::NotFound, format!("job `{job}` has no checkpoint{which}"))
}

/// Reads everything back that a job has written, and says what is wrong with it.
pub fn verify(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let (job, store) = state_of(manager, call)?;
    Ok(Answer::json(&looked(&job.name, inspect::verify(store, &job.name))?))
}

/// Returns the tables of a checkpoint, and what is kept of them by the rules of the job.
fn tables_of(manager: &Arc<Manager>, call: &Call) -> Result<(Tables, Kept), Problem> {
    let (job, store) = state_of(manager, call)?;
    let tick = call.checkpoint()?;
    let found = looked(&job.name, tables(store, &job.name, tick))?;
    let tables = found.ok_or_else(|| no_checkpoint(&job.name, tick))?;
    // A checkpoint of another version is shown as it is.
    let plan = manager.plan(&job.name, &job.spec).ok().filter(|(plan, _)| plan.hash() == tables.plan);
    let kept = plan.map(|(plan, _)| kept(&plan, &tables)).unwrap_or_default();
    Ok((tables, kept))
}

/// Lists the tables of a checkpoint.
pub fn views(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let (tables, kept) = tables_of(manager, call)?;
    Ok(Answer::json(&View::all(&tables, &kept)?))
}

/// Returns the script with which DuckDB sees a checkpoint whose files somebody puts into a folder of theirs. SQL is not run here: it
/// reads whatever files it likes.
pub fn script_of(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let (mut tables, kept) = tables_of(manager, call)?;
    let files = tables.needed().map(|(place, _)| place).collect();
    tables.in_folder(Path::new(call.query("folder").unwrap_or(".")));
    Ok(Answer::json(&StateScript { tick: tables.tick, script: script(&tables, &kept)?, files }))
}

/// Returns a file of a checkpoint.
pub fn file(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let (tables, _) = tables_of(manager, call)?;
    let path = call.query("path").unwrap_or_default();
    // Only what the checkpoint itself names is read, whatever is asked for.
    let found = tables.needed().find(|(place, _)| place == path);
    let (_, file) = found
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("the checkpoint has no file `{}`", path.escape_debug())))?;
    Ok(Answer::Bytes(tables.read(file)?.to_vec()))
}

/// Has a job take a checkpoint now.
pub fn take(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let tick = manager.take_checkpoint(&job, None)?;
    Ok(Answer::with(StatusCode::CREATED, &Taken { tick }))
}

impl Manager {
    /// Has a job that is at its work take a checkpoint, under a name if there is one, and returns its tick.
    fn take_checkpoint(&self, job: &Job, savepoint: Option<&str>) -> Result<u64, Problem> {
        let Some(launch) = job.launch.as_ref().filter(|_| job.phase == Phase::Running) else {
            let detail = format!(
                "job `{}` is {}: a checkpoint is taken of one that is running\n  hint: wait until it is",
                job.name, job.phase
            );
            return Err(Problem::new(Kind::Conflict, detail));
        };
        // The first process leads.
        let wish = json!({ "savepoint": savepoint });
        let told = self.tell(&job.name, launch.generation, 0, ("checkpoint", &wish), TAKEN_WITHIN);
        let answer = told.map_err(|refusal| match refusal {
            Refusal::Said(status, why) => {
                let kind = match status.as_u16() {
                    400 => Kind::BadRequest,
                    409 => Kind::Conflict,
                    503 => Kind::Busy,
                    _ => Kind::Storage,
                };
                Problem::new(kind, why)
            }
            Refusal::Silent => {
                let detail = format!("the process that leads job `{}` does not answer\n  hint: try again", job.name);
                Problem::new(Kind::Busy, detail)
            }
        })?;
        let taken: Result<Taken, _> = serde_json::from_str(&answer);
        let taken =
            taken.map_err(|error| Problem::new(Kind::Internal, format!("its answer cannot be read: {error}")))?;
        Ok(taken.tick)
    }
}

/// Lists the savepoints of a job.
pub fn savepoints(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let all = match manager.state_store()?.map(|store| savepoint::list(store, &job.name)) {
        Some(Ok(all)) => all,
        None | Some(Err(StateError::OtherJob { .. })) => Vec::new(),
        Some(Err(error)) => return Err(error.into()),
    };
    Ok(Answer::json(&Savepoints { savepoints: all.iter().map(savepoint_view).collect() }))
}

/// Returns a savepoint as it is shown.
pub fn savepoint_view(savepoint: &savepoint::Savepoint) -> Savepoint {
    let Named { name, summary } = Named::of(savepoint);
    Savepoint { name, tick: summary.tick, at: summary.at, size_bytes: summary.bytes }
}

/// Gives a job's state a name: that of a checkpoint which is taken now, or, if it is at rest, its last one.
pub fn new_savepoint(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let NewSavepoint { name } = call.body()?;
    riverrun_state::savepoint::check_name(&name).map_err(|rule| Problem::new(Kind::BadRequest, rule))?;
    if !job.phase.is_at_rest() {
        manager.take_checkpoint(&job, Some(&name))?;
        let store = manager.state_store()?.ok_or_else(|| never_ran(&job.name))?;
        let made = looked(&job.name, savepoint::read(store, &job.name, &name))?;
        return Ok(Answer::with(StatusCode::CREATED, &savepoint_view(&made)));
    }
    let none = || Problem::new(Kind::Conflict, format!("job `{}` has no checkpoint: it never came to one", job.name));
    let store = manager.state_store()?.ok_or_else(none)?;
    match savepoint::create(store, &job.name, &name, None) {
        Ok(Some(made)) => Ok(Answer::with(StatusCode::CREATED, &savepoint_view(&made))),
        Ok(None) | Err(StateError::OtherJob { .. }) => Err(none()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes a savepoint.
pub fn delete_savepoint(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let name = call.savepoint()?;
    let job: Job = manager.job(call.job()?)?;
    let in_use = job.change.as_ref().is_some_and(|change| change.savepoint.as_deref() == Some(name));
    if in_use {
        let detail = format!("a change of job `{}` that is under way may go back to savepoint `{name}`", job.name);
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let missing = || Problem::from(StateError::NoSavepoint { job: job.name.clone(), name: name.to_owned() });
    savepoint::delete(manager.state_store()?.ok_or_else(missing)?, &job.name, name)?;
    Ok(Answer::nothing())
}
