//! What the admin port shows of a job: asked when somebody looks, put together from what the observer knows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::engine::{ActKind, Control, Durations, Observer, PartReading, Readings, Snapshot, SplitReading};
use riverrun_dataflow::tick::Tick;
use serde_json::json;

use super::catalogue as metrics;
use super::freeze::{self, NoCheckpoint};
use super::page::Page;
use super::process::{self, Process};

/// The files of the state folder are counted again after this.
const FILES_EVERY: Duration = Duration::from_secs(10);
/// A source with more live partitions than this is shown as a whole.
const PARTITIONS_MAX: usize = 200;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Recovering,
    Running,
    Stopping,
    Finished,
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Starting, Phase::Recovering, Phase::Running, Phase::Stopping, Phase::Finished];

    fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Recovering => "recovering",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Finished => "finished",
        }
    }
}

/// Shows one job.
pub struct Board {
    job: String,
    checkpoint_every: Duration,
    /// The job's state folder, if it is a folder.
    state: Option<PathBuf>,
    control: Arc<Control>,
    observer: Arc<Observer>,
    /// When the files were counted, how many there were, and their bytes.
    files: Mutex<Option<(Instant, (u64, u64))>>,
}

impl Board {
    /// Returns the board of a job that is about to run.
    pub fn new(
        job: &str,
        checkpoint_every: Duration,
        state: Option<PathBuf>,
        control: Arc<Control>,
        observer: Arc<Observer>,
    ) -> Board {
        Board { job: job.to_owned(), checkpoint_every, state, control, observer, files: Mutex::default() }
    }

    /// Returns the job's name.
    pub fn job(&self) -> &str {
        &self.job
    }

    fn phase(&self, snapshot: &Snapshot, runs: bool) -> Phase {
        match () {
            () if !runs => Phase::Starting,
            () if snapshot.last => Phase::Finished,
            () if self.control.stopping() => Phase::Stopping,
            () if snapshot.tick < snapshot.repeated_to => Phase::Recovering,
            () => Phase::Running,
        }
    }

    /// Returns why the process should be started again, if it should.
    pub fn lives(&self) -> Result<(), String> {
        match self.observer.readings() {
            Some(readings) if readings.stalled => {
                Err(format!("the job has stood still for {:.1} s", readings.still_seconds))
            }
            _ => Ok(()),
        }
    }

    /// Returns what is still to come before the job is at its work.
    pub fn ready(&self) -> Result<(), String> {
        let snapshot = self.observer.snapshot();
        let runs = self.observer.readings().is_some();
        match self.phase(&snapshot, runs) {
            Phase::Starting => Err("starting: the job's state is being opened".to_owned()),
            Phase::Recovering => {
                Err(format!("recovering: tick {} of {} is derived again", snapshot.tick, snapshot.repeated_to))
            }
            Phase::Running if !self.observer.caught_up() => {
                Err("running: no tick was through within two tick intervals yet".to_owned())
            }
            Phase::Stopping => Err("stopping: what was read is being finished".to_owned()),
            Phase::Running | Phase::Finished => Ok(()),
        }
    }

    /// Has a checkpoint taken now, and returns its tick when it is published.
    pub fn take_checkpoint(&self, patience: Duration) -> Result<Tick, NoCheckpoint> {
        freeze::take(&self.control, &self.observer, patience)
    }

    /// Returns how the job is doing, as JSON.
    pub fn status(&self) -> String {
        let snapshot = self.observer.snapshot();
        let readings = self.observer.readings();
        let phase = self.phase(&snapshot, readings.is_some()).name();
        let status = json!({
            "job": self.job,
            "state": phase,
            "ready": self.ready().is_ok(),
            "run": self.observer.identity(),
            "snapshot": snapshot,
            "sources": self.observer.splits().unwrap_or_default(),
            "steps": self.observer.steps(),
            "meter": readings,
            "mesh": self.observer.meshed().map(|(mesh, process)| json!({
                "process": process,
                "peers": mesh.peers(),
                "rejected": mesh.rejected(),
            })),
        });
        format!("{status:#}\n")
    }

    /// Returns all metrics in the text format of Prometheus.
    pub fn metrics(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut page = Page::new(&self.job);
        let snapshot = self.observer.snapshot();
        let readings = self.observer.readings();
        self.put_job(&mut page, &snapshot, readings.as_ref());
        if let Some(readings) = &readings {
            let kinds = self.kinds(&snapshot);
            self.put_balance(&mut page, &snapshot, readings, &kinds);
            put_parts(&mut page, readings, &kinds);
            self.put_time(&mut page, &snapshot);
            put_tables(&mut page, readings);
            put_sinks(&mut page, readings);
            put_log(&mut page, readings);
            put_checkpoints(&mut page, readings);
            put_workers(&mut page, readings);
        }
        page.put(&metrics::CHECKPOINT_INTERVAL, &[], self.checkpoint_every.as_secs_f64());
        self.put_mesh(&mut page);
        self.put_process(&mut page);
        page.text()
    }

    fn put_job(&self, page: &mut Page, snapshot: &Snapshot, readings: Option<&Readings>) {
        let run = self.observer.identity();
        page.put(&metrics::BUILD, &[env!("CARGO_PKG_VERSION"), riverrun_jobs::BUILD_ID], 1.0);
        let now = self.phase(snapshot, readings.is_some());
        for phase in Phase::ALL {
            page.put(&metrics::JOB_STATE, &[phase.name()], f64::from(u8::from(phase == now)));
        }
        page.put(&metrics::JOB_READY, &[], f64::from(u8::from(self.ready().is_ok())));
        let Some(readings) = readings else { return };
        page.put(&metrics::JOB, &[&run.incarnation, &run.plan], 1.0);
        page.put(&metrics::JOB_STARTED, &[], epoch_seconds() - readings.seconds);
        page.put(&metrics::JOB_GENERATION, &[], run.generation as f64);
        page.put(&metrics::JOB_RESTARTS, &[], run.generation.saturating_sub(1) as f64);
        page.put(&metrics::JOB_TICK, &[], snapshot.tick as f64);
        page.put(&metrics::JOB_TO_REPEAT, &[], snapshot.repeated_to.saturating_sub(snapshot.tick) as f64);
        let repeated = snapshot.tick.min(snapshot.repeated_to).saturating_sub(self.observer.first_tick() - 1);
        page.put(&metrics::JOB_REPEATED, &[], repeated as f64);
        if snapshot.now > i64::MIN {
            page.put(&metrics::JOB_NOW, &[], seconds(snapshot.now));
        }
        page.put(&metrics::JOB_STILL, &[], readings.still_seconds);
        if let Some(share) = snapshot.share {
            page.put(&metrics::READ_RATIO, &[], share);
        }
    }

    /// Returns what kind each name is: those of steps are known, and whoever else has a balance is a source.
    fn kinds(&self, snapshot: &Snapshot) -> BTreeMap<String, &'static str> {
        let mut kinds: BTreeMap<String, &'static str> =
            snapshot.balance.keys().map(|name| (name.clone(), "source")).collect();
        kinds.extend(self.observer.steps().into_iter().map(|step| (step.name, "step")));
        kinds
    }

    fn put_balance(
        &self,
        page: &mut Page,
        snapshot: &Snapshot,
        readings: &Readings,
        kinds: &BTreeMap<String, &'static str>,
    ) {
        for (name, counts) in &snapshot.balance {
            for (outcome, rows) in outcomes(counts) {
                page.put(&metrics::JOB_BALANCE, &[name, kinds[name], outcome], rows as f64);
            }
        }
        let steps = self.observer.steps();
        let late_read = |name: &str| steps.iter().any(|step| step.name == name && step.late_read);
        for (name, counts) in self.observer.own_balance() {
            let (name, kind) = (name.as_str(), kinds.get(&name).copied().unwrap_or("source"));
            page.put(&metrics::IN, &[name, kind], counts.input as f64);
            page.put(&metrics::OUT, &[name, kind], counts.out as f64);
            page.put(&metrics::TAKEN, &[name, kind], counts.taken as f64);
            let reason = if kind == "source" { "undecodable" } else { "expression" };
            page.put(&metrics::BAD, &[name, kind, reason], counts.bad as f64);
            if kind == "step" {
                let action = if late_read(name) { "side_output" } else { "dropped" };
                page.put(&metrics::LATE, &[name, kind, action], counts.late as f64);
                page.put(&metrics::DISCARDED, &[name, kind, "true", "filtered"], counts.filtered as f64);
                page.put(&metrics::DISCARDED, &[name, kind, "true", "duplicate"], counts.duplicate as f64);
            }
        }
        for sink in &readings.sinks {
            page.put(&metrics::OUT, &[&sink.name, "sink"], sink.rows as f64);
        }
    }

    fn put_time(&self, page: &mut Page, snapshot: &Snapshot) {
        for step in self.observer.steps() {
            if let Some(watermark) = step.watermark {
                page.put(&metrics::INPUT_WATERMARK, &[&step.name, "step"], seconds(watermark));
            }
            if let Some(skew) = step.skew_seconds {
                page.put(&metrics::WATERMARK_SKEW, &[&step.name, "step"], skew);
            }
        }
        // A source whose end cannot be asked for at the moment shows no lag; the job itself reads it, or says why not.
        let splits = self.observer.splits().unwrap_or_default();
        let mut sources: BTreeMap<&str, Vec<&SplitReading>> = BTreeMap::new();
        for split in &splits {
            sources.entry(&split.source).or_default().push(split);
        }
        for (name, splits) in sources {
            put_source(page, snapshot, name, &splits);
        }
    }

    fn put_mesh(&self, page: &mut Page) {
        let Some((mesh, _)) = self.observer.meshed() else { return };
        let peers = mesh.peers();
        page.put(&metrics::MESH_PEERS, &[], peers.iter().filter(|peer| peer.here).count() as f64);
        page.put(&metrics::MESH_EXPECTED, &[], mesh.expected() as f64);
        for peer in peers {
            let name = peer.process.to_string();
            page.put(&metrics::MESH_BYTES, &["received", &name], peer.received_bytes as f64);
            page.put(&metrics::MESH_BYTES, &["sent", &name], peer.sent_bytes as f64);
            page.put(&metrics::MESH_MESSAGES, &["received", &name], peer.control_received as f64);
            page.put(&metrics::MESH_MESSAGES, &["sent", &name], peer.control_sent as f64);
            page.put(&metrics::MESH_AGE, &[&name], peer.heard_seconds);
        }
        for (reason, count) in mesh.rejected() {
            page.put(&metrics::MESH_REJECTED, &[reason], count as f64);
        }
    }

    fn put_process(&self, page: &mut Page) {
        for (method, count) in riverrun_state::failed_requests() {
            page.put(&metrics::STORE_ERRORS, &[method], count as f64);
        }
        if let Some((files, bytes)) = self.files() {
            page.put(&metrics::STATE_FILES, &[], files as f64);
            page.put(&metrics::STATE_DISK, &[], bytes as f64);
        }
        let Some(process) = Process::now() else { return };
        page.put(&metrics::PROCESS_CPU, &[], process.cpu_seconds);
        page.put(&metrics::PROCESS_RESIDENT, &[], process.resident_bytes as f64);
        page.put(&metrics::PROCESS_VIRTUAL, &[], process.virtual_bytes as f64);
        page.put(&metrics::PROCESS_FDS, &[], process.open_fds as f64);
        page.put(&metrics::PROCESS_FDS_MAX, &[], process.max_fds as f64);
        page.put(&metrics::PROCESS_THREADS, &[], process.threads as f64);
        page.put(&metrics::PROCESS_STARTED, &[], process.started);
    }

    #[expect(clippy::disallowed_methods, reason = "for people; reaches no output")]
    fn files(&self) -> Option<(u64, u64)> {
        let folder = self.state.as_ref()?;
        let mut known = self.files.lock().expect("only copied and replaced");
        match *known {
            Some((at, files)) if at.elapsed() < FILES_EVERY => Some(files),
            _ => {
                let files = process::files_below(folder);
                *known = Some((Instant::now(), files));
                Some(files)
            }
        }
    }
}

fn put_source(page: &mut Page, snapshot: &Snapshot, name: &str, splits: &[&SplitReading]) {
    if let Some(greatest) = splits.iter().filter_map(|split| split.greatest).max() {
        page.put(&metrics::LAST_RECORD, &[name], seconds(greatest));
    }
    let Some(first) = splits.first() else { return };
    if let Some(watermark) = first.watermark {
        page.put(&metrics::OUTPUT_WATERMARK, &[name, "source"], seconds(watermark));
        if first.live {
            let behind = snapshot.now.saturating_sub(watermark).max(0);
            page.put(&metrics::LAG_SECONDS, &[name], seconds(behind));
        }
    }
    let live = || splits.iter().filter(|split| split.live);
    let lag = |split: &SplitReading| split.end.map(|end| end.saturating_sub(split.position));
    if live().count() > PARTITIONS_MAX {
        let whole: u64 = live().filter_map(|split| lag(split)).sum();
        page.put(&metrics::LAG_RECORDS, &[name, "all"], whole as f64);
        let worst = |of: fn(&SplitReading) -> Option<f64>| live().filter_map(|split| of(split)).collect::<Vec<f64>>();
        if let Some(behind) = worst(|split| split.behind_seconds).into_iter().reduce(f64::max) {
            page.put(&metrics::READ_LAG, &[name, "all"], behind);
            page.put(&metrics::SKIPPED, &[name, "all"], live().map(|split| split.skipped).sum::<u64>() as f64);
        }
        if let Some(headroom) = worst(|split| split.headroom_seconds).into_iter().reduce(f64::min) {
            page.put(&metrics::HEADROOM, &[name, "all"], headroom);
        }
        return;
    }
    for split in live() {
        page.put(&metrics::OFFSET, &[name, &split.split], split.position as f64);
        if let (Some(end), Some(lag)) = (split.end, lag(split)) {
            page.put(&metrics::END_OFFSET, &[name, &split.split], end as f64);
            page.put(&metrics::LAG_RECORDS, &[name, &split.split], lag as f64);
        }
        if let Some(behind) = split.behind_seconds {
            page.put(&metrics::READ_LAG, &[name, &split.split], behind);
            page.put(&metrics::SKIPPED, &[name, &split.split], split.skipped as f64);
        }
        if let Some(headroom) = split.headroom_seconds {
            page.put(&metrics::HEADROOM, &[name, &split.split], headroom);
        }
    }
}

fn put_parts(page: &mut Page, readings: &Readings, kinds: &BTreeMap<String, &'static str>) {
    for PartReading { stage, name, worker, busy_seconds, .. } in &readings.parts {
        let kind = match stage.as_str() {
            "clock" | "ledger" => "engine",
            "encode" | "order" => "sink",
            "read" | "decode" => "source",
            _ => kinds.get(name).copied().unwrap_or("step"),
        };
        page.put(&metrics::OPERATOR_BUSY, &[name, kind, stage, &worker.to_string()], *busy_seconds);
    }
}

fn put_tables(page: &mut Page, readings: &Readings) {
    let mut tables: BTreeMap<(&str, &str), (u64, Option<u64>)> = BTreeMap::new();
    for table in &readings.tables {
        let (rows, bytes) = tables.entry((&table.step, &table.table)).or_default();
        *rows += table.rows;
        *bytes = table.bytes.map(|more| bytes.unwrap_or(0) + more);
    }
    for ((step, table), (rows, bytes)) in tables {
        page.put(&metrics::STATE_ROWS, &[step, table], rows as f64);
        if let Some(bytes) = bytes {
            page.put(&metrics::STATE_BYTES, &[step, table], bytes as f64);
        }
    }
}

fn put_sinks(page: &mut Page, readings: &Readings) {
    for sink in &readings.sinks {
        let mut commits = Durations::default();
        let own = readings.acts.iter().filter(|act| act.kind == ActKind::Commit && act.name == sink.name);
        own.for_each(|act| commits.add(&act.durations));
        page.durations(&metrics::COMMIT_DURATION, &[&sink.name], &commits);
        page.durations(&metrics::LATENCY, &[&sink.name], &sink.latency);
        page.put(&metrics::COMMIT_AGE, &[&sink.name], sink.pending_seconds);
        page.put(&metrics::SINK_PENDING, &[&sink.name], sink.pending_bytes as f64);
        page.put(&metrics::SINK_BYTES, &[&sink.name], sink.bytes as f64);
        if let Some(committed) = sink.committed {
            page.put(&metrics::COMMITTED, &[&sink.name], committed);
        }
    }
}

fn put_log(page: &mut Page, readings: &Readings) {
    page.put(&metrics::APPENDED, &[], readings.ticks_appended as f64);
    for act in &readings.acts {
        if act.kind == ActKind::Append {
            page.durations(&metrics::APPEND_DURATION, &[], &act.durations);
        }
        let age = act.under_way_seconds.unwrap_or(0.0);
        page.put(&metrics::OUTSIDE_AGE, &[act.kind.name(), &act.name, &act.worker.to_string()], age);
    }
}

fn put_checkpoints(page: &mut Page, readings: &Readings) {
    let checkpoints = &readings.checkpoints;
    page.put(&metrics::CHECKPOINTS, &[], checkpoints.total.count as f64);
    page.put(&metrics::CHECKPOINTS_OPEN, &[], checkpoints.in_progress as f64);
    page.put(&metrics::CHECKPOINT_WRITTEN, &[], checkpoints.bytes_written as f64);
    page.durations(&metrics::CHECKPOINT_DURATION, &[], &checkpoints.total);
    page.durations(&metrics::CHECKPOINT_PHASE, &["freeze"], &checkpoints.freeze);
    for (phase, kind) in [("write", ActKind::Write), ("publish", ActKind::Publish)] {
        let mut all = Durations::default();
        readings.acts.iter().filter(|act| act.kind == kind).for_each(|act| all.add(&act.durations));
        page.durations(&metrics::CHECKPOINT_PHASE, &[phase], &all);
    }
    if checkpoints.tick > 0 {
        page.put(&metrics::CHECKPOINT_LAST, &[], checkpoints.seconds);
        page.put(&metrics::CHECKPOINT_SIZE, &[], checkpoints.bytes as f64);
        page.put(&metrics::CHECKPOINT_TIME, &[], checkpoints.timestamp);
        page.put(&metrics::CHECKPOINT_TICK, &[], checkpoints.tick as f64);
    }
}

fn put_workers(page: &mut Page, readings: &Readings) {
    for worker in &readings.workers {
        let number = worker.worker.to_string();
        page.put(&metrics::WORKER_BUSY, &[&number], worker.busy_seconds);
        page.put(&metrics::WORKER_BACKPRESSURED, &[&number], worker.backpressured_seconds);
        page.put(&metrics::WORKER_IDLE, &[&number], worker.idle_seconds);
        page.put(&metrics::WORKER_TURNS, &[&number], worker.turns as f64);
    }
}

fn outcomes(counts: &Counts) -> [(&'static str, u64); 7] {
    [
        ("in", counts.input),
        ("taken", counts.taken),
        ("filtered", counts.filtered),
        ("late", counts.late),
        ("bad", counts.bad),
        ("duplicate", counts.duplicate),
        ("out", counts.out),
    ]
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

#[expect(clippy::disallowed_methods, reason = "for people; reaches no output")]
fn epoch_seconds() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64()
}
