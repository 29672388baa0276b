//! Where a job goes on: moved while it is suspended. A process of its own does it, as it does everything that is done to state.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::acts::{accepted, begin, conflict, new_id};
use super::call::{Answer, Call};
use super::progress::{Known, known};
use super::shapes::{NewOffset, PatchOffsets};
use crate::manager::Manager;
use crate::manager::phase::Phase;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::{Job, Task, Wanted};

/// So many splits are moved at once, at most.
const OFFSETS_MAX: usize = 1000;

/// Has a suspended job go on from other positions.
pub fn patch(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let name = call.job()?;
    let asked: PatchOffsets = call.body()?;
    if !(1..=OFFSETS_MAX).contains(&asked.offsets.len()) {
        let detail = format!("so many offsets are moved at once: 1 to {OFFSETS_MAX}, not {}", asked.offsets.len());
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let job = manager.job(name)?;
    rests(&job)?;
    are_there(manager, &job, &asked)?;
    let offsets: Vec<String> =
        asked.offsets.iter().map(|it| format!("{}:{}={}", it.source, it.split, it.position)).collect();
    let (id, repeat) = (new_id()?, call.repeat()?);
    let (_, operation) = manager.store.change(name, repeat.as_deref(), |job| {
        let mut job = job.ok_or_else(|| Problem::no_job(name))?;
        rests(&job)?;
        job.pending = Some(Task::Move { offsets, repeat: asked.repeat });
        let operation = begin(&mut job, id, "offsets", Phase::Suspended);
        Ok::<_, Problem>((job, Some(operation)))
    })?;
    manager.wake(name);
    let operation = operation.ok_or_else(|| Problem::new(Kind::Internal, "the operation is gone"))?;
    Ok(accepted(&operation))
}

/// Checks that the job was stopped cleanly, and that nothing else is to be done to it.
fn rests(job: &Job) -> Result<(), Problem> {
    if job.phase != Phase::Suspended || job.wanted != Wanted::Suspended {
        let why = "its offsets are moved while it is suspended: what it has read is then finished and saved\n  hint: stop it first; to read records again beside it, replay them";
        return Err(conflict(job, why));
    }
    match job.pending.is_some() || job.change.is_some() {
        true => Err(conflict(job, "something else is to be done to it first\n  hint: resume it, and stop it again")),
        false => Ok(()),
    }
}

/// Checks that the splits are there, and that nothing is read again unless that is meant.
fn are_there(manager: &Arc<Manager>, job: &Job, asked: &PatchOffsets) -> Result<(), Problem> {
    let Known::AtRest(detail) = known(manager, job)? else {
        return Err(conflict(job, "it runs still\n  hint: wait until it has stopped"));
    };
    let mut seen = BTreeSet::new();
    for NewOffset { source, split, position } in &asked.offsets {
        let Some(at) = detail.splits.iter().find(|at| (&at.source, &at.split) == (source, split)) else {
            let known: Vec<String> = detail.splits.iter().map(|at| format!("{}:{}", at.source, at.split)).collect();
            let detail = format!(
                "job `{}` has read no split `{}:{}`\n  hint: there are {}",
                job.name,
                source.escape_debug(),
                split.escape_debug(),
                known.join(", ")
            );
            return Err(Problem::new(Kind::NotFound, detail));
        };
        if !seen.insert((source, split)) {
            let detail = format!("split `{source}:{split}` cannot go on at two places");
            return Err(Problem::new(Kind::BadRequest, detail));
        }
        if *position < at.position && !asked.repeat {
            let detail = format!(
                "split `{source}:{split}` is read up to {}, and records from {position} on would be read again: the state has seen them, so they would count twice or be late\n  hint: a replay reads them beside the job; to have them read again all the same, say so: --repeat, or `repeat`",
                at.position
            );
            return Err(Problem::new(Kind::Conflict, detail));
        }
    }
    Ok(())
}
