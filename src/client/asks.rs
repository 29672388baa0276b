//! `stop`, `suspend`, `resume`, `restart`, `cancel`, `rescale`, `delete`: asked for, then waited for.

use std::io::{IsTerminal, Write};

use reqwest::Method;

use super::http::Client;
use super::wait::wait;
use crate::args::{DeleteArgs, Global, NamedArgs, RescaleArgs, StopArgs};
use crate::exit::{Done, Exit, Failure};
use crate::manager::{Rescale, Stop};

/// Asks for something that needs nothing but the job.
pub fn plain(verb: &str, args: &NamedArgs, global: &Global) -> Done {
    let client = Client::of(&args.server, global)?;
    let operation = client.send(Method::POST, &path(&args.job, verb)?, None::<&()>)?;
    wait(&client, operation, &args.wait, global)
}

/// Stops a job.
pub fn stop(args: &StopArgs, global: &Global) -> Done {
    let client = Client::of(&args.named.server, global)?;
    let stop = Stop { savepoint: args.savepoint.clone(), drain: args.drain };
    let operation = client.send(Method::POST, &path(&args.named.job, "stop")?, Some(&stop))?;
    wait(&client, operation, &args.named.wait, global)
}

/// Rescales a job.
pub fn rescale(args: &RescaleArgs, global: &Global) -> Done {
    let client = Client::of(&args.named.server, global)?;
    let rescale = Rescale { processes: args.processes, workers_per_process: args.workers };
    let operation = client.send(Method::POST, &path(&args.named.job, "rescale")?, Some(&rescale))?;
    wait(&client, operation, &args.named.wait, global)
}

/// Deletes a job, once somebody has said that this is meant.
pub fn delete(args: &DeleteArgs, global: &Global) -> Done {
    let job = &args.named.job;
    let path = format!("/jobs/{}{}", named(job)?, if args.purge { "?purge=true" } else { "" });
    if !args.yes {
        confirm(job, args.purge)?;
    }
    let client = Client::of(&args.named.server, global)?;
    let operation = client.send(Method::DELETE, &path, None::<&()>)?;
    wait(&client, operation, &args.named.wait, global)
}

fn confirm(job: &str, purge: bool) -> Done {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let message = format!("job `{job}` is deleted only by who says so\n  hint: --yes");
        return Err(Failure::new(Exit::Usage, message));
    }
    let what = if purge { "job, its state and its savepoints" } else { "job; its state stays" };
    eprint!("This deletes the {what}. Type its name to go on: ");
    let mut typed = String::new();
    let read = std::io::stderr().flush().and_then(|()| stdin.read_line(&mut typed));
    match read.is_ok() && typed.trim() == job {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, "nothing was deleted")),
    }
}

/// Returns the path of something that a job can be asked for.
pub fn path(job: &str, verb: &str) -> Result<String, Failure> {
    Ok(format!("/jobs/{}/{verb}", named(job)?))
}

/// Returns the name of a job, which is one.
pub fn named(job: &str) -> Result<&str, Failure> {
    riverrun_jobs::rewind::split_job(job)
        .map_err(|rule| Failure::new(Exit::Usage, format!("`{job}` cannot be the name of a job: {rule}")))?;
    Ok(job)
}
