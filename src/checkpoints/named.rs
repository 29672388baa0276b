//! Which job is meant, by its name or by its file; and what is said to who names one that has no state here.

use std::path::Path;

use riverrun_jobs::fault::closest;
use riverrun_state::{StateError, Store, inspect};

use super::failed;
use crate::args::{CheckpointsArgs, Global};
use crate::exit::{Exit, Failure};
use crate::job;
use crate::run::existing_state;

/// So many names are enough to see that the folder is another one.
const NAMES_MAX: usize = 12;

/// Opens the state folder, and returns it with the job's name: as given, or as the given job file says.
pub fn open(args: &CheckpointsArgs, global: &Global) -> Result<(Store, String), Failure> {
    if args.remote.server.is_some() {
        let message = "this is done where the state is, not by a manager\n  hint: `riverrun savepoint` names checkpoints of its jobs";
        return Err(Failure::new(Exit::Usage, message));
    }
    let is_file = Path::new(&args.job).is_file();
    if !is_file && is_called_like_a_file(&args.job) {
        let message = format!(
            "there is no file `{}`\n  hint: name the job file that was run, or the job by its name",
            args.job.escape_debug()
        );
        return Err(Failure::new(Exit::NotFound, message));
    }
    let store = existing_state(&args.state)?;
    let name = if is_file { job::plan(&args.job, &[], global)?.name().to_owned() } else { args.job.clone() };
    match inspect::there(&store, &name) {
        Ok(()) => Ok((store, name)),
        Err(error @ StateError::OtherJob { .. }) => {
            let message = format!("{error}\n  hint: {}", way_on(&store, &name).map_err(failed)?);
            Err(Failure::new(Exit::NotFound, message))
        }
        Err(error) => Err(failed(error)),
    }
}

/// No job has such a name.
fn is_called_like_a_file(job: &str) -> bool {
    let extension = Path::new(job).extension().and_then(|extension| extension.to_str());
    job.contains(std::path::MAIN_SEPARATOR) || matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Says where the state of `job` may be, which is not in `store`.
fn way_on(store: &Store, job: &str) -> Result<String, StateError> {
    if inspect::is_too_deep(store)? {
        let above = store.local().and_then(|folder| folder.ancestors().find(|it| it.ends_with("jobs"))?.parent());
        let above = above.map_or(String::new(), |folder| format!(": {}", folder.display()));
        return Ok(format!("--state names the folder that has `jobs/` in it{above}"));
    }
    let jobs = inspect::jobs(store)?;
    if jobs.is_empty() {
        return Ok("no job has state there; --state names another folder".to_owned());
    }
    let near = closest(job, jobs.iter().map(String::as_str)).filter(|near| *near != job);
    let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
    let more = if jobs.len() > NAMES_MAX { ", ..." } else { "" };
    let names = jobs[..jobs.len().min(NAMES_MAX)].join(", ");
    Ok(format!("{near}jobs with state there: {names}{more}"))
}
