//! What is asked of a job that is there: stop, suspend, resume, restart, cancel, rescale, delete. Each writes down what is wanted and
//! answers at once; the job's keeper does the rest.

use std::sync::Arc;

use axum::http::{StatusCode, header};

use super::PREFIX;
use super::call::{Answer, Call};
use super::shapes::{Rescale, Stop};
use crate::manager::Manager;
use crate::manager::keys;
use crate::manager::moment::Moment;
use crate::manager::phase::Phase;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::{Change, ChangeKind, Job, Operation, OperationState, Underway, Wanted};

/// Stops a job cleanly.
pub fn stop(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let stop: Stop = call.body_or_default()?;
    if let Some(name) = &stop.savepoint {
        riverrun_state::savepoint::check_name(name).map_err(|rule| Problem::new(Kind::BadRequest, rule))?;
        if manager.has_savepoint(call.job()?, name)? {
            let detail = format!(
                "job `{}` has a savepoint `{name}` already
  hint: choose another name, or delete that one",
                call.job()?
            );
            return Err(Problem::new(Kind::Conflict, detail));
        }
    }
    suspend_with(manager, call, "stop", stop)
}

/// Stops a job cleanly.
pub fn suspend(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    suspend_with(manager, call, "suspend", Stop::default())
}

fn suspend_with(manager: &Arc<Manager>, call: &Call, kind: &str, stop: Stop) -> Result<Answer, Problem> {
    let goal = if stop.drain { Phase::Finished } else { Phase::Suspended };
    act(manager, call, kind, goal, |job| {
        let runs = !job.phase.is_at_rest() || job.wanted == Wanted::Running && job.phase == Phase::Suspended;
        let does_run = matches!(job.phase, Phase::Running | Phase::Restoring);
        if stop.savepoint.is_some() && !does_run {
            return Err(conflict(job, "it leaves a savepoint only when it is stopped while it runs"));
        }
        if stop.drain && !does_run {
            return Err(conflict(job, "it can be drained only while it runs"));
        }
        match runs || job.phase == Phase::Suspended {
            true => {
                job.wanted = Wanted::Suspended;
                (job.savepoint, job.drain) = (stop.savepoint, stop.drain);
                Ok(())
            }
            false => Err(conflict(job, "there is nothing to stop")),
        }
    })
}

/// Lets a job go on.
pub fn resume(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    act(manager, call, "resume", Phase::Running, |job| {
        job.restart = job.restart || matches!(job.phase, Phase::Failed | Phase::Finished);
        job.wanted = Wanted::Running;
        waits_no_longer(job);
        Ok(())
    })
}

/// Stops a job cleanly and starts it again.
pub fn restart(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    act(manager, call, "restart", Phase::Running, |job| {
        job.wanted = Wanted::Running;
        job.restart = !matches!(job.phase, Phase::Suspended | Phase::Cancelled);
        waits_no_longer(job);
        Ok(())
    })
}

/// Somebody says that it is time: what was waited for is over.
pub fn waits_no_longer(job: &mut Job) {
    job.restarts.in_a_row = 0;
    job.restarts.not_before = Moment::now();
}

/// Ends a job at once.
pub fn cancel(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    act(manager, call, "cancel", Phase::Cancelled, |job| {
        job.wanted = Wanted::Cancelled;
        job.restart = false;
        Ok(())
    })
}

/// Ends a job at once and forgets it.
pub fn delete(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let purge = call.switch("purge")?;
    act(manager, call, "delete", Phase::Cancelled, |job| {
        job.wanted = Wanted::Deleted;
        job.purge = purge;
        Ok(())
    })
}

/// Lets a job go on with other processes and workers.
pub fn rescale(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let asked: Rescale = call.body()?;
    act(manager, call, "rescale", Phase::Running, |job| {
        let from = job.spec.clone();
        let mut spec = from.clone();
        spec.processes = asked.processes.unwrap_or(from.processes);
        spec.workers = asked.workers_per_process.unwrap_or(from.workers);
        manager.check_scale(&spec)?;
        if let Some(change) = &job.change {
            let detail = format!("a change is under way: {:?}", change.kind).to_lowercase();
            return Err(conflict(job, &detail));
        }
        if job.wanted != Wanted::Running || job.phase.is_at_rest() {
            return Err(conflict(job, "it is not to run: resume it first"));
        }
        if spec != from {
            job.change = Some(Change::new(ChangeKind::Rescale, from));
            job.revision += 1;
            job.spec = spec;
        }
        Ok(())
    })
}

/// Shows an operation.
pub fn operation(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let id = call.id_param("operation")?;
    let found = manager.store.operation(id)?.filter(|operation| call.caller.knows(&operation.job));
    let operation = found.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no operation `{id}`")))?;
    Ok(Answer::json(&operation))
}

/// Returns the problem that a job is not where something could be done with it.
pub fn conflict(job: &Job, why: &str) -> Problem {
    Problem::new(Kind::Conflict, format!("job `{}` is {}: {why}", job.name, job.phase))
}

/// Changes what is wanted of a job, and begins the operation that follows.
fn act(
    manager: &Arc<Manager>,
    call: &Call,
    kind: &str,
    goal: Phase,
    change: impl FnOnce(&mut Job) -> Result<(), Problem>,
) -> Result<Answer, Problem> {
    let name = call.job()?;
    let id = new_id()?;
    let repeat = call.repeat()?;
    let (_, operation) = manager.store.change(name, repeat.as_deref(), |job| {
        let mut job = job.ok_or_else(|| Problem::no_job(name))?;
        if job.wanted == Wanted::Deleted && kind != "delete" {
            return Err(conflict(&job, "it is being deleted"));
        }
        change(&mut job)?;
        let operation = begin(&mut job, id, kind, goal);
        Ok::<_, Problem>((job, Some(operation)))
    })?;
    manager.wake(name);
    let operation = operation.ok_or_else(|| Problem::new(Kind::Internal, "the operation is gone"))?;
    Ok(accepted(&operation))
}

/// Returns the answer that an operation has begun.
pub fn accepted(operation: &Operation) -> Answer {
    let place = format!("{PREFIX}/operations/{}", operation.id);
    Answer::with(StatusCode::ACCEPTED, operation).header(header::LOCATION, place)
}

/// Begins an operation of a job.
pub fn begin(job: &mut Job, id: String, kind: &str, goal: Phase) -> Operation {
    job.operation = Some(Underway { id: id.clone(), goal });
    Operation {
        id,
        job: job.name.clone(),
        kind: kind.to_owned(),
        state: OperationState::Running,
        created: Moment::now(),
        ended: None,
        message: None,
    }
}

/// Returns an id that nobody had before.
pub fn new_id() -> Result<String, Problem> {
    keys::random(12).map_err(|error| Problem::new(Kind::Internal, format!("there is no randomness: {error}")))
}
