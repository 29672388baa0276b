//! The last minutes of every job in figures, kept in memory so that whoever looks at a job needs no Prometheus. Lost when the manager
//! ends.
//!
//! Names and labels are those of the metrics of jobs; a figure is that of the whole job: counted or added up over its processes, and of
//! ages and watermarks the worst.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::engine::Readings;
use serde::Deserialize;
use serde_json::Value;

use super::moment::Moment;

/// How often a figure is noted.
pub const EVERY: Duration = Duration::from_secs(2);
/// For how long it is kept.
pub const KEPT: Duration = Duration::from_secs(300);
/// So many series of a job are kept; a job of more parts than that shows only some of them.
const SERIES_MAX: usize = 500;

/// The metrics of which there are series.
pub const NAMES: &[&str] = &[
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "riverrun_checkpoint_last_duration_seconds",
    "riverrun_checkpoint_last_size_bytes",
    "riverrun_job_balance_records",
    "riverrun_job_generation",
    "riverrun_job_tick",
    "riverrun_operator_busy_seconds_total",
    "riverrun_operator_input_watermark_timestamp_seconds",
    "riverrun_operator_records_out_total",
    "riverrun_operator_state_rows",
    "riverrun_sink_commit_age_seconds",
    "riverrun_sink_committed_bytes_total",
    "riverrun_sink_pending_bytes",
    "riverrun_source_lag_records",
    "riverrun_source_lag_seconds",
    "riverrun_source_read_lag_seconds",
    "riverrun_worker_backpressured_seconds_total",
    "riverrun_worker_busy_seconds_total",
    "riverrun_worker_idle_seconds_total",
];

/// Names a series: a metric, and which part of the job it is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The metric.
    pub name: &'static str,
    /// The source, step or sink; none: the whole job.
    pub operator: Option<String>,
    /// Of a balance: what became of the rows.
    pub outcome: Option<&'static str>,
}

/// The figures of a job at one moment.
pub type Sample = BTreeMap<Key, f64>;

/// The figures of all jobs.
#[derive(Default)]
pub struct Series {
    jobs: Mutex<BTreeMap<String, VecDeque<(Moment, Sample)>>>,
}

impl Series {
    /// Returns whether it is time to note figures of a job.
    pub fn is_due(&self, job: &str, now: Moment) -> bool {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let last = jobs.get(job).and_then(VecDeque::back);
        // A clock that was put back makes them due, too.
        last.is_none_or(|(at, _)| now < *at || now.since(*at) >= EVERY)
    }

    /// Notes figures of a job.
    pub fn note(&self, job: &str, now: Moment, mut sample: Sample) {
        while sample.len() > SERIES_MAX {
            sample.pop_last();
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let all = jobs.entry(job.to_owned()).or_default();
        all.push_back((now, sample));
        while all.len() as u64 > KEPT.as_secs() / EVERY.as_secs()
            || all.front().is_some_and(|(at, _)| now.since(*at) > KEPT)
        {
            all.pop_front();
        }
    }

    /// Returns what is known of a job, the newest last: of each span of `step` the last figures.
    pub fn of(&self, job: &str, from: Moment, step: Duration) -> Vec<(Moment, Sample)> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
        let mut found: Vec<(Moment, Sample)> = Vec::new();
        for (at, sample) in jobs.get(job).into_iter().flatten().filter(|(at, _)| *at >= from) {
            let same = |last: &(Moment, Sample)| last.0.0.div_euclid(step) == at.0.div_euclid(step);
            if found.last().is_some_and(same) {
                found.pop();
            }
            found.push((*at, sample.clone()));
        }
        found
    }

    /// Forgets a job.
    pub fn forget(&self, job: &str) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
    }
}

/// What the process says that leads a job, as far as it is of interest here. It knows of the whole job.
#[derive(Deserialize)]
struct Said {
    snapshot: Snapshot,
    sources: Vec<Split>,
    steps: Vec<Step>,
    meter: Option<Readings>,
}

#[derive(Deserialize)]
struct Snapshot {
    tick: u64,
    now: i64,
    balance: BTreeMap<String, Counts>,
}

#[derive(Deserialize)]
struct Split {
    source: String,
    position: u64,
    end: Option<u64>,
    watermark: Option<i64>,
    live: bool,
    behind_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    watermark: Option<i64>,
}

/// Puts figures together.
#[derive(Default)]
struct Gathering(Sample);

impl Gathering {
    fn put(&mut self, name: &'static str, operator: Option<&str>, figure: f64) {
        self.0.insert(Key { name, operator: operator.map(str::to_owned), outcome: None }, figure);
    }

    /// Takes a figure together with the one that is there.
    fn join(&mut self, name: &'static str, operator: Option<&str>, figure: f64, how: fn(f64, f64) -> f64) {
        let key = Key { name, operator: operator.map(str::to_owned), outcome: None };
        self.0.entry(key).and_modify(|known| *known = how(*known, figure)).or_insert(figure);
    }

    fn add(&mut self, name: &'static str, operator: Option<&str>, figure: f64) {
        self.join(name, operator, figure, |a, b| a + b);
    }
}

/// Returns the figures of a job: as the process that leads it says, with what all its processes take of the machine.
pub fn sample(status: &Value, generation: u64, processes: &[(f64, u64)]) -> Sample {
    let mut all = Gathering::default();
    all.put("riverrun_job_generation", None, generation as f64);
    all.put("process_cpu_seconds_total", None, processes.iter().map(|(seconds, _)| seconds).sum());
    all.put("process_resident_memory_bytes", None, processes.iter().map(|(_, bytes)| *bytes as f64).sum());
    let Ok(said) = serde_json::from_value::<Said>(status.clone()) else { return all.0 };
    all.put("riverrun_job_tick", None, said.snapshot.tick as f64);
    for (name, counts) in &said.snapshot.balance {
        let outcomes = [("in", counts.input), ("out", counts.out), ("late", counts.late), ("bad", counts.bad)];
        for (outcome, rows) in outcomes {
            let (name, operator) = ("riverrun_job_balance_records", Some(name.clone()));
            all.0.insert(Key { name, operator, outcome: Some(outcome) }, rows as f64);
        }
    }
    let seconds = |micros: i64| micros as f64 / 1e6;
    for split in said.sources.iter().filter(|split| split.live) {
        let source = Some(split.source.as_str());
        if let Some(end) = split.end {
            all.add("riverrun_source_lag_records", source, end.saturating_sub(split.position) as f64);
        }
        if let Some(behind) = split.behind_seconds {
            all.join("riverrun_source_read_lag_seconds", source, behind, f64::max);
        }
        if let Some(watermark) = split.watermark {
            let lag = seconds(said.snapshot.now.saturating_sub(watermark).max(0));
            all.join("riverrun_source_lag_seconds", source, lag, f64::max);
        }
    }
    for step in &said.steps {
        if let Some(watermark) = step.watermark {
            all.put("riverrun_operator_input_watermark_timestamp_seconds", Some(&step.name), seconds(watermark));
        }
    }
    if let Some(meter) = &said.meter {
        put_meter(&mut all, meter);
    }
    all.0
}

fn put_meter(all: &mut Gathering, meter: &Readings) {
    for worker in &meter.workers {
        all.add("riverrun_worker_busy_seconds_total", None, worker.busy_seconds);
        all.add("riverrun_worker_backpressured_seconds_total", None, worker.backpressured_seconds);
        all.add("riverrun_worker_idle_seconds_total", None, worker.idle_seconds);
    }
    for part in meter.parts.iter().filter(|part| !["clock", "ledger"].contains(&part.name.as_str())) {
        all.add("riverrun_operator_busy_seconds_total", Some(&part.name), part.busy_seconds);
    }
    for table in &meter.tables {
        all.add("riverrun_operator_state_rows", Some(&table.step), table.rows as f64);
    }
    for sink in &meter.sinks {
        let name = Some(sink.name.as_str());
        all.put("riverrun_operator_records_out_total", name, sink.rows as f64);
        all.put("riverrun_sink_committed_bytes_total", name, sink.bytes as f64);
        all.put("riverrun_sink_pending_bytes", name, sink.pending_bytes as f64);
        all.put("riverrun_sink_commit_age_seconds", name, sink.pending_seconds);
    }
    if meter.checkpoints.tick > 0 {
        all.put("riverrun_checkpoint_last_duration_seconds", None, meter.checkpoints.seconds);
        all.put("riverrun_checkpoint_last_size_bytes", None, meter.checkpoints.bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admin::catalogue;

    fn figures(tick: u64) -> Sample {
        let split = |name: &str, position: u64, behind: f64| {
            json!({ "source": "clicks", "split": name, "position": position, "end": 100, "watermark": 1_000_000,
                "live": true, "behind_seconds": behind })
        };
        let counts = json!({ "in": 7, "taken": 5, "filtered": 0, "late": 1, "bad": 1, "duplicate": 0, "out": 5 });
        let status = json!({
            "snapshot": { "tick": tick, "now": 4_000_000, "balance": { "clicks": counts } },
            "sources": [split("0", 40, 1.0), split("1", 90, 3.0)],
            "steps": [{ "name": "paid", "watermark": 2_500_000 }],
            "meter": Readings::default(),
        });
        sample(&status, 3, &[(1.5, 100), (0.5, 20)])
    }

    fn figure(sample: &Sample, name: &str, operator: Option<&str>, outcome: Option<&str>) -> Option<f64> {
        let found = sample
            .iter()
            .find(|(key, _)| (key.name, key.operator.as_deref(), key.outcome) == (name, operator, outcome));
        found.map(|(_, figure)| *figure)
    }

    #[test]
    fn figures_are_those_of_the_whole_job() {
        let sample = figures(9);
        for (name, operator, outcome, expected) in [
            ("riverrun_job_tick", None, None, 9.0),
            ("riverrun_job_generation", None, None, 3.0),
            ("process_cpu_seconds_total", None, None, 2.0),
            ("process_resident_memory_bytes", None, None, 120.0),
            ("riverrun_source_lag_records", Some("clicks"), None, 70.0),
            ("riverrun_source_read_lag_seconds", Some("clicks"), None, 3.0),
            ("riverrun_source_lag_seconds", Some("clicks"), None, 3.0),
            ("riverrun_job_balance_records", Some("clicks"), Some("late"), 1.0),
            ("riverrun_operator_input_watermark_timestamp_seconds", Some("paid"), None, 2.5),
        ] {
            assert_eq!(figure(&sample, name, operator, outcome), Some(expected), "{name}");
        }
        // A process that says nothing yet leaves what the system knows.
        assert_eq!(super::sample(&json!({}), 1, &[(1.0, 2)]).len(), 3);
    }

    #[test]
    fn names_are_those_of_the_metrics_of_jobs() {
        let known: Vec<&str> = catalogue::ALL.iter().map(|metric| metric.name).collect();
        let sample = figures(1);
        assert!(sample.keys().all(|key| NAMES.contains(&key.name)), "{sample:?}");
        assert!(NAMES.iter().all(|name| known.contains(name)) && NAMES.is_sorted());
    }

    #[test]
    fn five_minutes_are_kept_and_thinned_out_as_is_asked() {
        let series = Series::default();
        let at = |seconds: i64| Moment(seconds * 1000);
        for second in 0..1000 {
            if series.is_due("j", at(second)) {
                series.note("j", at(second), figures(second as u64));
            }
        }
        let all = series.of("j", Moment(0), EVERY);
        assert_eq!((all.len(), all.first().unwrap().0, all.last().unwrap().0), (150, at(700), at(998)));
        let thin = series.of("j", at(900), Duration::from_secs(20));
        let ticks: Vec<f64> = thin.iter().map(|(_, it)| figure(it, "riverrun_job_tick", None, None).unwrap()).collect();
        assert_eq!(ticks, [918.0, 938.0, 958.0, 978.0, 998.0]);
        assert!(series.is_due("j", at(1)), "the clock was put back");
        series.forget("j");
        assert!(series.of("j", Moment(0), EVERY).is_empty());
    }

    #[test]
    fn a_job_of_many_parts_takes_so_much_memory_and_no_more() {
        let key = |number: usize| Key { name: "x", operator: Some(number.to_string()), outcome: None };
        let series = Series::default();
        series.note("j", Moment(0), (0..2000).map(|number| (key(number), 0.0)).collect());
        assert_eq!(series.of("j", Moment(0), EVERY)[0].1.len(), SERIES_MAX);
    }
}
