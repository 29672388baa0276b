//! The first rows that a job would write, as server-sent events.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::stream;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use super::call::{Answer, Call};
use super::jobs::own_name;
use super::shapes::{NewPreview, Submit};
use crate::manager::Manager;
use crate::manager::previews::{Preparing, Shown};
use crate::manager::problem::{Kind, Problem};

/// Runs a job with its sinks off.
pub fn preview(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let asked: NewPreview = call.body()?;
    for (what, number, most) in [("limit", asked.limit, 1000), ("seconds", asked.seconds, 120)] {
        if let Some(number) = number.filter(|number| !(1..=most).contains(number)) {
            let detail = format!("`{what}` is a number, 1 to {most}, not {number}");
            return Err(Problem::new(Kind::BadRequest, detail));
        }
    }
    let submit = Submit { spec: asked.spec.clone(), secrets: asked.secrets.clone(), allow_reset: Vec::new() };
    let name = own_name(call, &submit);
    let (plan, _) = manager.vetted(&name, &submit)?;
    if let Some(sink) = asked.sink.as_ref().filter(|sink| !plan.sink_names().contains(&sink.as_str())) {
        let known = plan.sink_names().join(", ");
        let detail = format!("the job has no sink `{}`\n  hint: its sinks are {known}", sink.escape_debug());
        return Err(Problem::new(Kind::NotFound, detail));
    }
    let reach = manager.policy.reach(&asked.spec);
    let (program, places) = (manager.program.as_path(), manager.processes.places());
    let started = manager.previews.start(&Preparing { program, places, asked: &asked, of: &name, reach });
    let started =
        started.map_err(|error| Problem::new(Kind::Storage, format!("the preview cannot be started: {error}")))?;
    let rows = started.ok_or_else(|| {
        Problem::new(Kind::Busy, "so many previews are shown that this one is not begun\n  hint: try again soon")
    })?;
    Ok(Answer::Stream(told(rows)))
}

/// Returns what comes of a preview as server-sent events.
fn told(rows: Receiver<Shown>) -> Body {
    let next = |(mut rows, number): (Receiver<Shown>, usize)| async move {
        let text = match rows.recv().await? {
            Shown::Row(row) => event("row", number, &row),
            Shown::End(end) => event("end", number, &end),
        };
        Some((Ok::<_, std::io::Error>(Bytes::from(text)), (rows, number + 1)))
    };
    Body::from_stream(stream::unfold((rows, 1), next))
}

fn event(name: &str, number: usize, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).expect("our own types are representable");
    format!("id: {number}\nevent: {name}\ndata: {data}\n\n")
}
