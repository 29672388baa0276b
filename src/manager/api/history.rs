//! What happened to a job: its starts, and what its processes ended with.

use std::sync::Arc;

use super::call::{Answer, Call};
use super::shapes::{ExceptionView, Exceptions, RescaleView, Rescales};
use crate::manager::Manager;
use crate::manager::history::{EXCEPTIONS_MAX, STARTS_MAX};
use crate::manager::problem::Problem;

/// Shows the starts of a job, the newest first.
pub fn rescales(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let limit = call.number("limit", 1..=STARTS_MAX)?.unwrap_or(STARTS_MAX);
    let reason = call.query("reason");
    let past = manager.store.history(&job.name)?.starts;
    let all = past.iter().chain(&job.start).rev().filter(|start| reason.is_none_or(|reason| start.reason == reason));
    Ok(Answer::json(&Rescales { rescales: all.take(limit).map(RescaleView::of).collect() }))
}

/// Shows what processes of a job ended with, the cause of the last end before all.
pub fn exceptions(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let limit = call.number("limit", 1..=EXCEPTIONS_MAX)?.unwrap_or(EXCEPTIONS_MAX);
    let past = manager.store.history(&job.name)?.exceptions;
    let root = past.iter().rev().find(|exception| exception.root).map(ExceptionView::of);
    Ok(Answer::json(&Exceptions { root, exceptions: past.iter().rev().take(limit).map(ExceptionView::of).collect() }))
}
