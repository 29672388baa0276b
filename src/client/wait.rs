//! Waiting for an operation of a manager: until it is done, or not; until the time is over; until somebody has enough.

use std::time::{Duration, Instant};

use crate::args::{Global, WaitArgs};
use crate::exit::{Done, Exit, Failure};
use crate::manager::{JobView, OperationState, OperationView, Phase};
use crate::output::{Format, Stdout};
use crate::signals;

use super::http::Client;

/// How often it is asked; seldom after a while.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(500);

/// Waits until an operation ends, unless nobody wants to, and shows it.
#[expect(clippy::disallowed_methods, reason = "how long a person waits; reaches no output of a job")]
pub fn wait(client: &Client, operation: OperationView, args: &WaitArgs, global: &Global) -> Done {
    if args.detach {
        return show(&operation, global);
    }
    let asked = signals::notice()?;
    let begun = Instant::now();
    let mut pause = FIRST;
    let mut seen: Option<Phase> = None;
    let path = format!("/operations/{}", operation.id);
    loop {
        let now: OperationView = client.get(&path)?;
        match now.state {
            OperationState::Succeeded => return show(&now, global),
            OperationState::Failed => return Err(failed(&now, global)),
            OperationState::Running => {}
        }
        if !global.quiet && global.output == Format::Table {
            seen = tell(client, &now, seen);
        }
        if signals::asked(&asked) {
            return Err(Failure::new(Exit::Interrupted, goes_on(&now, client)));
        }
        if begun.elapsed() >= args.timeout {
            return Err(Failure::new(Exit::TimedOut, format!("it is not done yet: {}", goes_on(&now, client))));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

/// Says in which phase the job is, when it is another one.
fn tell(client: &Client, operation: &OperationView, seen: Option<Phase>) -> Option<Phase> {
    // Only talk: what cannot be found out just now is not said.
    let job: Option<JobView> = client.get(&format!("/jobs/{}", operation.job)).ok();
    let phase = job.map(|job| job.phase);
    if let Some(phase) = phase.filter(|phase| Some(*phase) != seen) {
        eprintln!("job `{}` is {phase}", operation.job);
    }
    phase.or(seen)
}

fn goes_on(operation: &OperationView, client: &Client) -> String {
    format!(
        "`{}` of job `{}` goes on as operation {}\n  hint: `riverrun status {} --watch --server {}` follows it",
        operation.kind,
        operation.job,
        operation.id,
        operation.job,
        client.server()
    )
}

fn failed(operation: &OperationView, global: &Global) -> Failure {
    if global.output == Format::Json {
        // It stands on stdout whole, so the failure to write it is what is said.
        if let Err(failure) = show(operation, global) {
            return failure;
        }
    }
    let why = operation.message.as_deref().unwrap_or("nobody said why");
    Failure::new(
        Exit::Failed,
        format!("`{}` of job `{}` failed: {}", operation.kind, operation.job, why.trim_start_matches("error: ")),
    )
}

fn show(operation: &OperationView, global: &Global) -> Done {
    if global.output == Format::Json {
        let mut stdout = Stdout::lock();
        stdout.document(operation)?;
        return stdout.flush();
    }
    if !global.quiet {
        let (kind, job, id) = (&operation.kind, &operation.job, &operation.id);
        match (operation.state, &operation.message) {
            (OperationState::Running, _) => eprintln!("`{kind}` of job `{job}` has begun: operation {id}"),
            (_, Some(message)) => eprintln!("`{kind}` of job `{job}` is done: {message}"),
            (_, None) => eprintln!("`{kind}` of job `{job}` is done"),
        }
    }
    Ok(())
}
