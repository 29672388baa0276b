//! `riverrun why`: the evidence of a row, read again from the input.

use riverrun_jobs::why::{self, Found, Piece, ROWS_MAX};
use riverrun_state::inspect;
use serde::Serialize;

use crate::args::{Global, WhyArgs};
use crate::exit::{Done, Exit, Failure};
use crate::job;
use crate::output::{Format, Stdout};
use crate::run::{existing_state, failed};

/// What is said of an id.
#[derive(Serialize)]
struct Said<'a> {
    job: &'a str,
    id: &'a str,
    #[serde(flatten)]
    why: &'a why::Why,
}

/// Shows the rows that have an id, and what they rest on.
pub fn why(args: &WhyArgs, global: &Global) -> Done {
    let plan = job::plan(&args.job.job, &args.job.set, global)?;
    let inputs = inspect::inputs(existing_state(&args.state)?, plan.name());
    let inputs = inputs.map_err(|error| failed(error.into(), global))?;
    let environment = job::environment(&args.job, true);
    let why = why::why(&plan, &environment, inputs.as_ref(), &args.row);
    let why = why.map_err(|error| failed(error, global))?;
    if !global.quiet {
        why.notes.iter().for_each(|note| eprintln!("note: {note}"));
    }
    if why.rows.is_empty() {
        let message = format!(
            "job `{}` wrote no row that `{}` names\n  hint: give what stands in a column such as `order_id`, `signal_id` or `incident_id` of its output",
            plan.name(),
            args.row
        );
        return Err(Failure::new(Exit::NotFound, message));
    }
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&Said { job: plan.name(), id: &args.row, why: &why })?,
        Format::Table => {
            for (number, found) in why.rows.iter().enumerate() {
                if number > 0 {
                    stdout.line("")?;
                }
                tell(found, &mut stdout)?;
            }
        }
    }
    stdout.flush()?;
    if why.rows.len() == ROWS_MAX && !global.quiet {
        eprintln!("these are the last {ROWS_MAX} rows");
    }
    Ok(())
}

fn tell(found: &Found, stdout: &mut Stdout) -> Done {
    stdout.line(&format!("{} ({})", found.sink, found.at))?;
    stdout.line(&format!("  {}", found.text))?;
    match found.evidence.as_slice() {
        [] => stdout.line("rests on nothing that it names")?,
        _ => stdout.line("rests on")?,
    }
    for Piece { named_by, id, source, split, position, record, text } in &found.evidence {
        let place = match (source, split, position) {
            (Some(source), Some(split), Some(position)) => format!("{source}, split {split}, position {position}"),
            (Some(source), ..) => format!("nowhere in {source}"),
            _ => "an unknown place".to_owned(),
        };
        stdout.line(&format!("  {named_by} {id}: {place}"))?;
        if record.is_some() {
            stdout.line(&format!("    {text}"))?;
        }
    }
    Ok(())
}
