//! One source, step or sink of a job: what it has done, what it keeps, and how its work is spread over workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_dataflow::engine::{PartReading, Readings};

use super::call::{Answer, Call};
use super::progress::{Known, known};
use super::shapes::{OperatorDetail, OperatorWorker, OperatorWorkers, SinkView, TableView};
use crate::manager::Manager;
use crate::manager::problem::{Kind, Problem};
use crate::manager::record::Job;

/// Finds out what a name in a job is: `source`, `step` or `sink`.
fn kind(manager: &Manager, job: &Job, name: &str) -> Result<&'static str, Problem> {
    let (plan, _) = manager.plan(&job.name, &job.spec)?;
    let all = [("source", plan.source_names()), ("step", plan.step_names()), ("sink", plan.sink_names())];
    if let Some((kind, _)) = all.iter().find(|(_, names)| names.contains(&name)) {
        return Ok(*kind);
    }
    let known: Vec<&str> = all.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let detail = format!(
        "job `{}` has no source, step or sink `{}`\n  hint: there are {}",
        job.name,
        name.escape_debug(),
        known.join(", ")
    );
    Err(Problem::new(Kind::NotFound, detail))
}

/// Shows a source, step or sink.
pub fn operator(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let name = call.text_param("operator").to_owned();
    let kind = kind(manager, &job, &name)?.to_owned();
    Ok(Answer::json(&match known(manager, &job)? {
        Known::Running(said) => {
            let meter = said.meter.unwrap_or_default();
            OperatorDetail {
                running: true,
                tick: said.snapshot.tick,
                rows: said.snapshot.balance.get(&name).copied(),
                watermark: said.steps.iter().find(|step| step.name == name).and_then(|step| step.watermark),
                busy_seconds: Some(own_parts(&meter, &name).map(|part| part.busy_seconds).sum()),
                skew: skew(&meter, &name),
                committed: sink(&meter, &name),
                tables: tables(&meter, &name),
                kind,
                name,
            }
        }
        Known::AtRest(detail) => OperatorDetail {
            running: false,
            tick: detail.summary.tick,
            rows: detail.balance.get(&name).copied(),
            watermark: None,
            busy_seconds: None,
            skew: None,
            committed: None,
            tables: detail.tables.iter().filter(|table| table.step == name).map(TableView::stored).collect(),
            kind,
            name,
        },
    }))
}

/// Shows how the work of a source, step or sink is spread.
pub fn workers(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let name = call.text_param("operator").to_owned();
    let kind = kind(manager, &job, &name)?.to_owned();
    let Known::Running(said) = known(manager, &job)? else {
        let detail = format!("job `{}` is {}: only one that runs has workers", job.name, job.phase);
        return Err(Problem::new(Kind::Conflict, detail));
    };
    let meter = said.meter.unwrap_or_default();
    let per_process = usize::from(job.launch.as_ref().map_or(1, |launch| launch.workers)).max(1);
    let view = |it: &riverrun_dataflow::engine::WorkerReading| {
        let mut stages: BTreeMap<String, f64> = BTreeMap::new();
        for part in own_parts(&meter, &name).filter(|part| part.worker == it.worker) {
            *stages.entry(part.stage.clone()).or_default() += part.busy_seconds;
        }
        let own = meter.tables.iter().filter(|table| table.step == name && table.worker == it.worker);
        OperatorWorker {
            worker: it.worker,
            process: it.worker / per_process,
            busy_seconds: stages.values().sum(),
            stages,
            state_rows: own.map(|table| table.rows).sum(),
            worker_busy_seconds: it.busy_seconds,
            worker_backpressured_seconds: it.backpressured_seconds,
            worker_idle_seconds: it.idle_seconds,
        }
    };
    let (tick, workers) = (said.snapshot.tick, meter.workers.iter().map(view).collect());
    Ok(Answer::json(&OperatorWorkers { name, kind, tick, skew: skew_of(&meter, call), workers }))
}

fn skew_of(meter: &Readings, call: &Call) -> Option<f64> {
    skew(meter, call.text_param("operator"))
}

/// The parts of all workers in which something is done for a name.
fn own_parts<'a>(meter: &'a Readings, name: &'a str) -> impl Iterator<Item = &'a PartReading> {
    let engine = |part: &&PartReading| !matches!(part.stage.as_str(), "clock" | "ledger");
    meter.parts.iter().filter(move |part| part.name == name).filter(engine)
}

/// Returns how many times as busy as the average the busiest worker is; nothing as long as none was busy.
fn skew(meter: &Readings, name: &str) -> Option<f64> {
    let mut busy: BTreeMap<usize, f64> = meter.workers.iter().map(|worker| (worker.worker, 0.0)).collect();
    own_parts(meter, name).for_each(|part| *busy.entry(part.worker).or_default() += part.busy_seconds);
    let sum: f64 = busy.values().sum();
    let most = busy.values().copied().fold(0.0, f64::max);
    (sum > 0.0).then(|| most * busy.len() as f64 / sum)
}

fn sink(meter: &Readings, name: &str) -> Option<SinkView> {
    meter.sinks.iter().find(|sink| sink.name == name).map(|sink| SinkView {
        rows: sink.rows,
        bytes: sink.bytes,
        pending_bytes: sink.pending_bytes,
        pending_seconds: sink.pending_seconds,
    })
}

fn tables(meter: &Readings, name: &str) -> Vec<TableView> {
    let mut all: BTreeMap<&str, TableView> = BTreeMap::new();
    for table in meter.tables.iter().filter(|table| table.step == name) {
        let known = all.entry(&table.table).or_insert_with(|| TableView {
            table: table.table.clone(),
            rows: 0,
            memory_bytes: table.bytes.map(|_| 0),
            stored_bytes: None,
        });
        known.rows += table.rows;
        known.memory_bytes = known.memory_bytes.zip(table.bytes).map(|(sum, more)| sum + more);
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use riverrun_dataflow::engine::{TableReading, WorkerReading};

    use super::*;

    fn meter(busy: &[f64]) -> Readings {
        let worker = |(worker, _)| WorkerReading {
            worker,
            turns: 0,
            done: 0,
            begun: 0,
            at: None,
            at_name: None,
            busy_seconds: 1.0,
            backpressured_seconds: 0.0,
            idle_seconds: 0.0,
        };
        let part = |(worker, seconds): (usize, &f64)| PartReading {
            stage: "step".to_owned(),
            named: "step `a`".to_owned(),
            name: "a".to_owned(),
            worker,
            busy_seconds: *seconds,
            next: None,
        };
        let table = |worker: usize, bytes: Option<u64>| TableReading {
            step: "a".to_owned(),
            table: "seen".to_owned(),
            worker,
            rows: 5,
            bytes,
        };
        Readings {
            workers: busy.iter().enumerate().map(worker).collect(),
            parts: busy.iter().enumerate().map(part).collect(),
            tables: vec![table(0, Some(7)), table(1, None)],
            ..Readings::default()
        }
    }

    #[test]
    fn skew_is_the_busiest_beside_the_average() {
        for (busy, expected) in
            [(vec![1.0, 1.0], Some(1.0)), (vec![4.0, 0.0, 0.0, 0.0], Some(4.0)), (vec![0.0, 0.0], None), (vec![], None)]
        {
            assert_eq!(skew(&meter(&busy), "a"), expected, "{busy:?}");
        }
        assert_eq!(skew(&meter(&[1.0]), "b"), None);
    }

    #[test]
    fn what_a_step_keeps_is_that_of_all_workers() {
        let tables = tables(&meter(&[1.0, 1.0]), "a");
        assert_eq!((tables.len(), tables[0].rows, tables[0].memory_bytes), (1, 10, None), "one does not know");
    }
}
