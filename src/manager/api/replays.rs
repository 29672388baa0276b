//! A replay: the file of a job that is there, over a past, as a job of its own beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_jobs::rewind::{Throttle, check_name};

use super::acts::{accepted, begin, new_id};
use super::call::{Answer, Call};
use super::shapes::NewReplay;
use crate::manager::Manager;
use crate::manager::moment::Moment;
use crate::manager::phase::Phase;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::{Job, Replay, Spec};
use crate::manager::secrets;
use crate::replay::rewind;

/// Begins a replay. The job is not touched.
pub fn replay(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let live = manager.job(call.job()?)?;
    let asked: NewReplay = call.body()?;
    if let Some(past) = &live.spec.replay {
        let detail = format!("`{}` is itself a replay\n  hint: replay its job, `{}`", live.name, past.of);
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let spec = spec(&live, &asked)?;
    manager.check_scale(&spec)?;
    manager.check_secrets(&live.name, &spec, &BTreeMap::new())?;
    manager.policy.check(&spec)?;
    let (plan, _) = manager.plan(&live.name, &spec)?;
    let name = format!("{}@{}", live.name, spec.replay.as_ref().map_or("", |past| &past.name));
    if plan.name() != name {
        let detail = format!(
            "a replay of `{}` is called `{name}`, not `{}`\n  hint: do not `set` the name of the job",
            live.name,
            plan.name()
        );
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let repeat = call.repeat()?;
    let is_known = manager.store.job(&name)?.is_some();
    if is_known && repeat.is_none() {
        return Err(is_there(&name));
    }
    // Those of a replay that is there are its own, whatever is asked for once more.
    if !is_known {
        let data = &manager.processes.places().data;
        secrets::copy(data, &live.name, &name)
            .map_err(|error| Problem::new(Kind::Storage, format!("the secrets cannot be kept: {error}")))?;
    }
    // One that ends is done when it has ended; one that goes on, when it is at its work.
    let goal = if asked.then_live { Phase::Running } else { Phase::Finished };
    let id = new_id()?;
    let (_, operation) = manager.store.change(&name, repeat.as_deref(), |job| match job {
        Some(_) => Err(is_there(&name)),
        None => {
            let mut job = Job::new(&name, spec, Moment::now());
            job.append = asked.append;
            let operation = begin(&mut job, id, "replay", goal);
            Ok((job, Some(operation)))
        }
    })?;
    manager.wake(&name);
    let operation = operation.ok_or_else(|| Problem::new(Kind::Internal, "the operation is gone"))?;
    Ok(accepted(&operation))
}

fn is_there(name: &str) -> Problem {
    let detail = format!("there is a replay `{name}` already\n  hint: give this one another name, or delete that one");
    Problem::new(Kind::Conflict, detail)
}

/// Returns what is to be run, once its range and its pace can be read.
fn spec(live: &Job, asked: &NewReplay) -> Result<Spec, Problem> {
    let unfit = |what: &str, reason: String| Problem::new(Kind::BadRequest, format!("`{what}` {reason}"));
    if let Some(name) = &asked.name {
        check_name(name).map_err(|rule| unfit("name", rule))?;
    }
    asked.rate.as_deref().map(Throttle::rate).transpose().map_err(|rule| unfit("rate", rule))?;
    asked.speed.as_deref().map(Throttle::times).transpose().map_err(|rule| unfit("speed", rule))?;
    let mut past = Replay {
        of: live.name.clone(),
        name: asked.name.clone().unwrap_or_default(),
        from: asked.from.clone(),
        to: asked.to.clone(),
        then_live: asked.then_live,
        rate: asked.rate.clone(),
        speed: asked.speed.clone(),
    };
    let range = crate::replay::Asked { name: asked.name.as_deref(), ..past.asked() };
    let named =
        rewind(&range, &live.name).map_err(|failure| Problem::new(Kind::BadRequest, failure.error.to_string()))?;
    past.name = named.name;
    let mut set = live.spec.set.clone();
    set.extend(asked.set.iter().cloned());
    Ok(Spec {
        set,
        processes: 1,
        workers: asked.workers.unwrap_or(1),
        until_end: false,
        replay: Some(past),
        ..live.spec.clone()
    })
}
