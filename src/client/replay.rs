//! `replay --server`: a manager runs the file of a job that it keeps over a past.

use reqwest::Method;

use super::asks::path;
use super::http::Client;
use super::wait::wait;
use crate::args::{Global, RangeArgs, ReplayArgs, ServerArgs};
use crate::exit::{Done, Exit, Failure};
use crate::manager::{NewReplay, OperationView};
use crate::replay::nothing_asked;

/// Begins a replay, and waits until it has ended; one that goes on live, until it is at its work.
pub fn replay(args: &ReplayArgs, server: &ServerArgs, global: &Global) -> Done {
    if let Some(option) = only_here(args) {
        let message = format!(
            "{option} is for a replay that is run here\n  hint: a manager knows where its jobs have their topics and their state, and keeps what they record; leave it out"
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let RangeArgs { from, to } = &args.range;
    let asked = NewReplay {
        name: args.name.clone(),
        from: from.clone().ok_or_else(nothing_asked)?,
        to: to.clone(),
        then_live: args.then_live,
        rate: args.rate.map(|rows| rows.to_string()),
        speed: args.speed.map(|times| times.to_string()),
        set: args.job.set.clone(),
        workers: args.workers,
        append: args.append,
    };
    let client = Client::of(server, global)?;
    let operation: OperationView = client.send(Method::POST, &path(&args.job.job, "replay")?, Some(&asked))?;
    if !global.quiet {
        let job = &operation.job;
        eprintln!("job `{job}`: `riverrun status {job}`, `logs`, `stop`, `delete --purge` are for it, too");
    }
    wait(&client, operation, &args.wait, global)
}

/// Returns an option that was given and means nothing to a manager.
fn only_here(args: &ReplayArgs) -> Option<&'static str> {
    let given = [
        ("--recorded", args.recorded),
        ("--out", args.out.is_some()),
        ("--from-tick", args.from_tick.is_some()),
        ("--to-tick", args.to_tick.is_some()),
        ("--state", args.state.state.is_some()),
        ("--topics", args.job.topics.is_some()),
        ("--schema-registry", args.job.schema_registry.is_some()),
        ("--fresh", args.fresh),
        ("--admin", args.watch.admin.is_some()),
    ];
    given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
}
