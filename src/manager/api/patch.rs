//! A job is changed by what it is to be: whether it runs, and over what it is spread.

use std::sync::Arc;

use axum::http::{StatusCode, header};

use super::PREFIX;
use super::acts::{begin, conflict, new_id, waits_no_longer};
use super::call::{Answer, Call};
use super::jobs::{etag, expected, matches_revision};
use super::shapes::{JobView, PatchJob, WantedState};
use crate::manager::Manager;
use crate::manager::phase::Phase;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::{Change, ChangeKind, Job, Wanted};

/// Changes a job. One that is not to run takes another spread up when it is resumed.
pub fn patch(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let name = call.job()?;
    let asked: PatchJob = call.body()?;
    let expected = expected(call)?;
    if asked.state.is_none() && asked.processes.is_none() && asked.workers_per_process.is_none() {
        let detail = "nothing is to be changed\n  hint: there are `state`, `processes` and `workersPerProcess`";
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let (id, repeat) = (new_id()?, call.repeat()?);
    let (job, operation) = manager.store.change(name, repeat.as_deref(), |job| {
        let mut job = job.ok_or_else(|| Problem::no_job(name))?;
        matches_revision(Some(&job), expected)?;
        if job.wanted == Wanted::Deleted {
            return Err(conflict(&job, "it is being deleted"));
        }
        let goal = asked.state.map(|state| set_state(&mut job, state)).transpose()?;
        let spread = spread(manager, &mut job, &asked)?;
        let runs = job.wanted == Wanted::Running && !job.phase.is_at_rest();
        let goal = goal.or_else(|| (spread && runs).then_some(Phase::Running));
        let operation = goal.map(|goal| begin(&mut job, id, "patch", goal));
        Ok::<_, Problem>((job, operation))
    })?;
    manager.wake(name);
    let answer = Answer::with(StatusCode::ACCEPTED, &JobView::whole(&job)).header(header::ETAG, etag(&job));
    Ok(match operation {
        Some(operation) => answer.header(header::LOCATION, format!("{PREFIX}/operations/{}", operation.id)),
        None => answer,
    })
}

/// Says whether the job is to run. Returns the phase in which that is reached.
fn set_state(job: &mut Job, state: WantedState) -> Result<Phase, Problem> {
    match state {
        WantedState::Running => {
            job.restart = job.restart || matches!(job.phase, Phase::Failed | Phase::Finished);
            job.wanted = Wanted::Running;
            waits_no_longer(job);
            Ok(Phase::Running)
        }
        WantedState::Suspended if job.phase.is_at_rest() && job.phase != Phase::Suspended => {
            Err(conflict(job, "there is nothing to stop"))
        }
        WantedState::Suspended => {
            job.wanted = Wanted::Suspended;
            (job.savepoint, job.drain) = (None, false);
            Ok(Phase::Suspended)
        }
    }
}

/// Says over what the job is to be spread. Returns whether that is news.
fn spread(manager: &Manager, job: &mut Job, asked: &PatchJob) -> Result<bool, Problem> {
    let from = job.spec.clone();
    let mut spec = from.clone();
    spec.processes = asked.processes.unwrap_or(from.processes);
    spec.workers = asked.workers_per_process.unwrap_or(from.workers);
    if spec == from {
        return Ok(false);
    }
    manager.check_scale(&spec)?;
    if let Some(change) = &job.change {
        let detail = format!("a change is under way: {:?}", change.kind).to_lowercase();
        return Err(conflict(job, &detail));
    }
    job.change = Some(Change::new(ChangeKind::Rescale, from));
    job.revision += 1;
    job.spec = spec;
    Ok(true)
}
