//! The last minutes of a job in figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use riverrun_jobs::spec::values;

use super::call::{Answer, Call};
use super::shapes::{JobMetrics, MetricSeries};
use crate::manager::Manager;
use crate::manager::moment::Moment;
use crate::manager::problem::{Kind, Problem};
use crate::manager::series::{EVERY, KEPT, Key, NAMES};

/// Answers with figures of a job.
pub fn metrics(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let names = call.query("names").map(names).transpose()?;
    let from = call.query("from").map(moment).transpose()?.unwrap_or_default();
    let step = call.number("step", EVERY.as_secs()..=KEPT.as_secs())?.unwrap_or(EVERY.as_secs());
    let known = manager.series.of(&job.name, from, Duration::from_secs(step));
    let wanted = |key: &&Key| names.as_ref().is_none_or(|names| names.contains(&key.name));
    let mut series: BTreeMap<&Key, Vec<Option<f64>>> = BTreeMap::new();
    for (index, (_, sample)) in known.iter().enumerate() {
        for (key, figure) in sample.iter().filter(|(key, _)| wanted(key)) {
            let values = series.entry(key).or_insert_with(|| vec![None; known.len()]);
            // JSON has no figure for what is none.
            values[index] = Some(*figure).filter(|figure| figure.is_finite());
        }
    }
    let shown = |(key, values): (&Key, Vec<Option<f64>>)| MetricSeries {
        name: key.name.to_owned(),
        operator: key.operator.clone(),
        outcome: key.outcome.map(str::to_owned),
        values,
    };
    let at = known.iter().map(|(at, _)| *at).collect();
    Ok(Answer::json(&JobMetrics { step_seconds: step, at, series: series.into_iter().map(shown).collect() }))
}

/// Reads names of metrics, with commas between.
fn names(text: &str) -> Result<Vec<&'static str>, Problem> {
    let known = |name: &str| {
        NAMES.iter().copied().find(|known| *known == name).ok_or_else(|| {
            let known = NAMES.join(", ");
            let detail = format!("there is no series `{}`\n  hint: there are {known}", name.escape_debug());
            Problem::new(Kind::BadRequest, detail)
        })
    };
    text.split(',').map(known).collect()
}

fn moment(text: &str) -> Result<Moment, Problem> {
    let time = values::time(text).map_err(|rule| {
        Problem::new(Kind::BadRequest, format!("`from` is a time with its zone, not `{}`: {rule}", text.escape_debug()))
    })?;
    Ok(Moment(time.0.div_euclid(1000)))
}
