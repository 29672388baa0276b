//! `riverrun preview`: the first rows a job would write, in the terminal, with its sinks off and nothing kept.

use std::sync::Arc;
use std::time::Duration;

use riverrun_dataflow::engine::Control;
use riverrun_jobs::run;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::{Global, PreviewArgs};
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::job;
use crate::output::{Format, Stdout};
use crate::run::failed;
use crate::signals;

#[derive(Serialize)]
struct Shown<'a> {
    sink: &'a str,
    row: &'a RawValue,
}

/// Runs the job until enough rows were shown, its input ends, or a signal stops it.
pub fn preview(args: &PreviewArgs, global: &Global) -> Done {
    let plan = job::plan(&args.job.job, &args.job.set, global)?;
    let sinks: Vec<String> = plan.sink_names().into_iter().map(str::to_owned).collect();
    if let Some(sink) = args.sink.as_ref().filter(|sink| !sinks.contains(sink)) {
        let message = format!("the job has no sink `{sink}`\n  hint: its sinks are {}", sinks.join(", "));
        return Err(Failure::new(Exit::NotFound, message));
    }
    let environment = job::environment(&args.job, false);
    let control = Control::new();
    let stop = control.clone();
    signals::listen(move || stop.stop())?;
    if let Some(time) = args.within {
        end_after(time, control.clone())?;
    }
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut stdout = Stdout::lock();
    let mut left = limit;
    let mut broken = None;
    // Rows of other sinks do not count, so the limit is kept here.
    let show = |row: run::PreviewRow| {
        if args.sink.as_ref().is_some_and(|sink| *sink != row.sink) {
            return true;
        }
        left -= 1;
        let shown = show(&row, global.output, sinks.len() > 1 && args.sink.is_none(), &mut stdout);
        broken = shown.err();
        broken.is_none() && left > 0
    };
    run::preview(&plan, &environment, 1, usize::MAX, control, show).map_err(|error| failed(error, global))?;
    match broken {
        Some(failure) => Err(failure),
        None => stdout.flush(),
    }
}

/// Stops the job after so long. The thread ends with the process, which ends when the job has.
fn end_after(time: Duration, control: Arc<Control>) -> Done {
    let wait = move || {
        std::thread::sleep(time);
        control.stop();
    };
    let started = std::thread::Builder::new().name("time".to_owned()).spawn(wait);
    started.map(drop).or_exit(Exit::Internal, || "cannot start the thread that ends the preview".to_owned())
}

fn show(row: &run::PreviewRow, format: Format, several: bool, stdout: &mut Stdout) -> Done {
    let raw: Option<&RawValue> = serde_json::from_slice(&row.bytes).ok();
    match (format, raw) {
        (Format::Json, Some(raw)) => stdout.json_line(&Shown { sink: &row.sink, row: raw })?,
        (Format::Json, None) => {
            let text = String::from_utf8_lossy(&row.bytes);
            stdout.json_line(&serde_json::json!({ "sink": row.sink, "text": text }))?;
        }
        (Format::Table, _) => {
            if several {
                stdout.bytes(format!("{}: ", row.sink).as_bytes())?;
            }
            stdout.bytes(&row.bytes)?;
            if !row.bytes.ends_with(b"\n") {
                stdout.bytes(b"\n")?;
            }
        }
    }
    // Live rows are shown as they come.
    stdout.flush()
}
