//! How a running job is doing: counts and positions, for progress lines, the final balance, and metrics.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use serde::Serialize;

use super::crossing::Doing;
use super::meter::{Meter, Readings};
use crate::balance::Counts;
use crate::graph::{Graph, SourceNode};
use crate::journal::JournalEntry;
use crate::mesh::MeshMeter;
use crate::source::SourceError;
use crate::tick::{Tick, TickRecord, Timeline};
use crate::time::EventTime;

/// What is under way outside for less long is not told to other processes, in seconds.
const WORTH_TELLING: f64 = 1.0;

/// Is told by the engine; asked by whoever shows it. Never blocks the engine for longer than a copy.
#[derive(Debug, Default)]
pub struct Observer {
    /// Records decoded since this process started.
    decoded: AtomicU64,
    state: Mutex<State>,
    identity: Mutex<Identity>,
    /// There if the job runs in several processes.
    elsewhere: OnceLock<Elsewhere>,
}

/// What is known of the other processes of the job.
#[derive(Debug)]
struct Elsewhere {
    mesh: Arc<MeshMeter>,
    /// The number of this process.
    process: usize,
    decoded: AtomicU64,
    doing: Mutex<Doing>,
    /// What their meters showed last, by process.
    readings: Mutex<BTreeMap<usize, Readings>>,
    /// The newest complete tick, as process 0 says.
    complete: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    timeline: Timeline,
    repeated_to: Tick,
    balance: BTreeMap<String, Counts>,
    sinks: Vec<String>,
    written: BTreeMap<String, u64>,
    ends: BTreeMap<u32, (u64, Option<u64>)>,
    /// The balance after the last repeated tick.
    repeated: BTreeMap<String, Counts>,
    /// A tick of this process's own was through soon after it was read.
    caught_up: bool,
    /// The tick before this process's first.
    before: Tick,
    /// What "soon" is.
    soon: Duration,
    meter: Option<Arc<Meter>>,
    shape: Shape,
}

/// What is asked of the graph after the job has begun.
#[derive(Default)]
struct Shape {
    sources: Vec<SourceNode>,
    steps: Vec<StepShape>,
    sinks: Vec<String>,
}

struct StepShape {
    name: String,
    late_read: bool,
    watermark: Vec<crate::graph::WatermarkPath>,
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shape")
    }
}

/// A job at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Records decoded since this process started, those of the job's other processes included.
    pub decoded: u64,
    /// The newest complete tick.
    pub tick: Tick,
    /// Up to this tick the job derives what a former process had journalled.
    pub repeated_to: Tick,
    /// The recorded clock, in microseconds since the epoch.
    pub now: i64,
    /// The least watermark of all sources, in microseconds since the epoch.
    pub watermark: i64,
    /// The part of bounded input that is read, 0 to 1, if all ends are known.
    pub share: Option<f64>,
    /// The balance since the job began, by name of source or step.
    pub balance: BTreeMap<String, Counts>,
    /// Rows given to each sink by this process, rows derived again included.
    pub sinks: BTreeMap<String, u64>,
    /// The last tick is complete.
    pub last: bool,
}

/// Which run of which job this is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The job's incarnation.
    pub incarnation: String,
    /// Which start of the job this is.
    pub generation: u64,
    /// Names what the job writes.
    pub plan: String,
    /// Names what this build writes.
    pub build: String,
    /// Worker threads.
    pub workers: usize,
}

/// How far a split is read.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReading {
    /// The source.
    pub source: String,
    /// The split.
    pub split: String,
    /// The position up to which it is read.
    pub position: u64,
    /// Where it ends now, if the source can say.
    pub end: Option<u64>,
    /// The greatest event time read, in microseconds since the epoch.
    pub greatest: Option<i64>,
    /// The watermark of its source, in microseconds since the epoch.
    pub watermark: Option<i64>,
    /// It was empty for long and holds back no watermark.
    pub idle: bool,
    /// It may still grow.
    pub live: bool,
    /// The age of the oldest record that is not read yet, in seconds, if the source can say.
    pub behind_seconds: Option<f64>,
    /// For how long the records will still be there that a restart may need, in seconds, if the source can say.
    pub headroom_seconds: Option<f64>,
    /// Positions that were skipped because their records were gone.
    pub skipped: u64,
}

/// How far all splits of a job were read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// The newest complete tick.
    pub tick: Tick,
    /// The position of each split, by source and name.
    pub splits: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A step's place in time.
#[derive(Clone, Debug, Serialize)]
pub struct StepReading {
    /// Its name.
    pub name: String,
    /// Something reads its late rows.
    pub late_read: bool,
    /// Its input watermark, in microseconds since the epoch.
    pub watermark: Option<i64>,
    /// How far the source that is ahead most has come before the one that holds it back, as the step sees them; `None` where one
    /// source alone counts, has no row yet or has ended.
    pub skew_seconds: Option<f64>,
}

impl Observer {
    pub(crate) fn start(
        &self,
        graph: &Graph,
        workers: Range<usize>,
        timeline: &Timeline,
        balance: &BTreeMap<String, Counts>,
        repeated_to: Tick,
    ) {
        let splits = graph.sources.iter().flat_map(|source| &source.splits);
        let step = |step: &crate::graph::StepNode| StepShape {
            name: step.name.clone(),
            late_read: step.late.is_some(),
            watermark: step.watermark.clone(),
        };
        let mut state = self.state();
        *state = State {
            timeline: timeline.clone(),
            repeated_to,
            balance: balance.clone(),
            sinks: graph.sinks.iter().map(|sink| sink.name.clone()).collect(),
            written: graph.sinks.iter().map(|sink| (sink.name.clone(), 0)).collect(),
            ends: splits.map(|split| (split.id, (split.spec.start, split.spec.end))).collect(),
            repeated: balance.clone(),
            caught_up: false,
            before: timeline.tick,
            soon: graph.ticks.interval * 2,
            meter: Some(Arc::new(Meter::new(graph, workers))),
            shape: Shape {
                sources: graph.sources.clone(),
                steps: graph.steps.iter().map(step).collect(),
                sinks: graph.sinks.iter().map(|sink| sink.name.clone()).collect(),
            },
        };
    }

    /// Says which run this is.
    pub fn identify(&self, identity: Identity) {
        *self.identity.lock().expect("the identity is only replaced") = identity;
    }

    /// Returns which run this is, once the job's state is open.
    pub fn identity(&self) -> Identity {
        self.identity.lock().expect("the identity is only replaced").clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the state is only copied and replaced")
    }

    /// Returns what measures the job, once it runs.
    pub(crate) fn meter(&self) -> Option<Arc<Meter>> {
        self.state().meter.clone()
    }

    /// Returns what the job's meter shows; nothing before it runs. In a process that leads that of the others is added, as they told
    /// it last.
    pub fn readings(&self) -> Option<Readings> {
        let mut readings = self.readings_here()?;
        if let Some(elsewhere) = self.elsewhere.get() {
            let others = elsewhere.readings.lock().expect("readings are only copied and replaced");
            others.values().for_each(|other| readings.add(other));
        }
        Some(readings)
    }

    /// Returns what the meter of this process shows.
    pub(crate) fn readings_here(&self) -> Option<Readings> {
        self.meter().map(|meter| meter.read_all())
    }

    /// Takes in what the meter of another process shows.
    pub(crate) fn hear_readings(&self, from: usize, readings: Readings) {
        let Some(elsewhere) = self.elsewhere.get() else { return };
        elsewhere.readings.lock().expect("readings are only copied and replaced").insert(from, readings);
    }

    /// Returns the newest complete tick.
    pub fn complete_tick(&self) -> Tick {
        match self.following() {
            Some(elsewhere) => elsewhere.complete.load(Ordering::SeqCst),
            None => self.state().timeline.tick,
        }
    }

    /// The job runs in several processes, of which this is the one numbered `process`.
    pub fn in_mesh(&self, mesh: Arc<MeshMeter>, process: usize) {
        let (decoded, complete) = (AtomicU64::new(0), AtomicU64::new(0));
        let (doing, readings) = Default::default();
        self.elsewhere.get_or_init(|| Elsewhere { mesh, process, decoded, doing, readings, complete });
    }

    /// Returns what is counted of the mesh, and the number of this process, if the job runs in several.
    pub fn meshed(&self) -> Option<(Arc<MeshMeter>, usize)> {
        self.elsewhere.get().map(|elsewhere| (elsewhere.mesh.clone(), elsewhere.process))
    }

    /// Returns what is known of the others, if this process does not lead.
    fn following(&self) -> Option<&Elsewhere> {
        self.elsewhere.get().filter(|elsewhere| elsewhere.process > 0)
    }

    /// Takes in a record that process 0 has made; its own ledger tells that process more.
    pub(crate) fn follow(&self, record: &TickRecord) {
        if self.following().is_none() {
            return;
        }
        let mut state = self.state();
        if state.timeline.tick + 1 == record.tick {
            state.timeline.apply(record);
        }
    }

    /// Process 0 says that all ticks up to this one are complete.
    pub(crate) fn hear_of_complete(&self, tick: Tick) {
        let Some(elsewhere) = self.following() else { return };
        elsewhere.complete.fetch_max(tick, Ordering::SeqCst);
        let mut state = self.state();
        state.caught_up |= tick > state.repeated_to;
    }

    /// Takes in what the other processes have decoded together, and what each is doing.
    pub(crate) fn hear_of_others<'a>(&self, decoded: u64, doing: impl Iterator<Item = &'a Doing>) {
        let Some(elsewhere) = self.elsewhere.get() else { return };
        elsewhere.decoded.store(decoded, Ordering::Relaxed);
        let mut all = Doing::default();
        for one in doing {
            all.done += one.done;
            all.outside.extend(one.outside.iter().cloned());
        }
        *elsewhere.doing.lock().expect("it is only copied and replaced") = all;
    }

    /// Returns what gets on in the other processes.
    pub(crate) fn doing_elsewhere(&self) -> Doing {
        let elsewhere = self.elsewhere.get();
        elsewhere.map(|it| it.doing.lock().expect("it is only copied and replaced").clone()).unwrap_or_default()
    }

    /// Returns what gets on in this process.
    pub(crate) fn doing(&self) -> Doing {
        let Some(meter) = self.meter() else { return Doing::default() };
        let process = self.elsewhere.get().map_or(0, |elsewhere| elsewhere.process);
        let acts = meter.read_acts();
        let under_way = |act: &super::ActReading| {
            let seconds = act.under_way_seconds.filter(|seconds| *seconds >= WORTH_TELLING)?;
            Some((format!("{}, process {process}", act.kind.named(&act.name)), seconds))
        };
        let worked: u64 = meter.read_workers().iter().map(|worker| worker.done).sum();
        let ended: u64 = acts.iter().map(|act| act.durations.count).sum();
        Doing { done: worked + ended, outside: acts.iter().filter_map(under_way).collect() }
    }

    /// Returns the records that this process has decoded.
    pub(crate) fn decoded_here(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Returns how far the job has read in event time, in microseconds since the epoch: the least of what its splits have reached
    /// that have more to give.
    pub fn reached(&self) -> Option<i64> {
        let state = self.state();
        let open = state.timeline.splits.values().filter(|mark| !mark.ended && !mark.at_end);
        open.filter_map(|mark| finite(mark.greatest)).min()
    }

    pub(crate) fn decoded(&self, rows: u64) {
        self.decoded.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn complete(&self, entry: &JournalEntry) {
        let mut state = self.state();
        let State { timeline, balance, sinks, written, repeated, repeated_to, caught_up, soon, meter, .. } =
            &mut *state;
        timeline.apply(&entry.record);
        for (name, counts) in &entry.balance {
            *balance.entry(name.clone()).or_default() += *counts;
        }
        for lane in &entry.lanes {
            *written.entry(sinks[lane.sink as usize].clone()).or_default() += lane.rows;
        }
        let tick = entry.record.tick;
        if tick == *repeated_to {
            repeated.clone_from(balance);
        }
        if !*caught_up && tick > *repeated_to {
            let age = meter.as_ref().and_then(|meter| meter.since_read(tick));
            *caught_up = age.is_none_or(|age| age < *soon);
        }
    }

    /// Returns whether the journal is repeated and a tick after it was through within two tick intervals of being read: the job
    /// has caught up with its input. It stays so.
    pub fn caught_up(&self) -> bool {
        let state = self.state();
        state.caught_up || state.timeline.last
    }

    /// Returns whether a tick is complete that no process before had journalled.
    pub fn goes_on(&self) -> bool {
        let state = self.state();
        state.timeline.tick > state.repeated_to.max(state.before)
    }

    /// Returns how many rows that went into sources and steps are saved by the newest checkpoint of this process, since the job began;
    /// `None` before its first.
    pub fn rows_saved(&self) -> Option<u64> {
        self.meter()?.rows_saved()
    }

    /// Returns when this process committed rows first and last, in microseconds since the epoch, since the job began to run in it.
    pub fn rows_out(&self) -> Option<(u64, u64)> {
        self.meter()?.rows_out()
    }

    /// Returns the first tick that this process derives, or derives again.
    pub fn first_tick(&self) -> Tick {
        self.state().before + 1
    }

    /// Returns the balance of the ticks that this process was the first to complete.
    pub fn own_balance(&self) -> BTreeMap<String, Counts> {
        let state = self.state();
        let own = |(name, counts): (&String, &Counts)| {
            let before = state.repeated.get(name).copied().unwrap_or_default();
            (name.clone(), counts.since(&before))
        };
        match state.timeline.tick < state.repeated_to {
            true => BTreeMap::new(),
            false => state.balance.iter().map(own).collect(),
        }
    }

    /// Returns how far every split is read, without asking anybody.
    pub fn positions(&self) -> Positions {
        let state = self.state();
        let of = |source: &SourceNode| {
            let read = |split: &crate::graph::SplitNode| {
                let mark = state.timeline.splits.get(&split.id);
                (split.spec.name.clone(), mark.map_or(split.spec.start, |mark| mark.to))
            };
            (source.name.clone(), source.splits.iter().map(read).collect())
        };
        Positions { tick: state.timeline.tick, splits: state.shape.sources.iter().map(of).collect() }
    }

    /// Returns how far every split is read. Asks live sources where they end now, which opens their files.
    pub fn splits(&self) -> Result<Vec<SplitReading>, SourceError> {
        let (timeline, sources) = {
            let state = self.state();
            (state.timeline.clone(), state.shape.sources.clone())
        };
        let mut readings = Vec::new();
        for (source, watermark) in sources.iter().zip(&timeline.watermarks) {
            let position = |split: &crate::graph::SplitNode| {
                timeline.splits.get(&split.id).map_or(split.spec.start, |mark| mark.to)
            };
            let read = source.splits.iter().map(|split| (split.spec.name.clone(), position(split)));
            let (now, outlook) = match source.bounded {
                true => Default::default(),
                false => (source.source.ends()?, source.source.outlook(&read.collect())),
            };
            for split in &source.splits {
                let mark = timeline.splits.get(&split.id);
                let end = now.get(&split.spec.name).copied();
                let outlook = outlook.get(&split.spec.name).copied().unwrap_or_default();
                readings.push(SplitReading {
                    source: source.name.clone(),
                    split: split.spec.name.clone(),
                    position: position(split),
                    end: split.spec.end.or(end),
                    greatest: mark.and_then(|mark| finite(mark.greatest)),
                    watermark: finite(*watermark),
                    idle: mark.is_some_and(|mark| mark.idle),
                    live: !source.bounded,
                    behind_seconds: outlook.behind.map(|behind| behind.as_secs_f64()),
                    headroom_seconds: outlook.headroom.map(|headroom| headroom.as_secs_f64()),
                    skipped: outlook.skipped,
                });
            }
        }
        Ok(readings)
    }

    /// Returns every step's place in time.
    pub fn steps(&self) -> Vec<StepReading> {
        let state = self.state();
        let watermarks = &state.timeline.watermarks;
        let read = |step: &StepShape| {
            let ways = step.watermark.iter().map(|way| watermarks[way.source].minus(way.delay));
            let watermark = ways.clone().min().and_then(finite);
            let ahead = ways.max().and_then(finite).filter(|_| step.watermark.len() > 1);
            let skew_seconds = ahead.zip(watermark).map(|(ahead, behind)| (ahead - behind) as f64 / 1e6);
            StepReading { name: step.name.clone(), late_read: step.late_read, watermark, skew_seconds }
        };
        state.shape.steps.iter().map(read).collect()
    }

    /// Returns the names of the sinks.
    pub fn sinks(&self) -> Vec<String> {
        self.state().shape.sinks.clone()
    }

    /// Returns how the job is doing.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let read = |(split, (start, end)): (&u32, &(u64, Option<u64>))| {
            let to = state.timeline.splits.get(split).map_or(*start, |mark| mark.to);
            end.map(|end| (to - start, end - start))
        };
        let shares: Option<Vec<(u64, u64)>> = state.ends.iter().map(read).collect();
        let share = shares.filter(|all| !all.is_empty()).map(|all| {
            let (read, whole) = all.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
            if whole == 0 { 1.0 } else { read as f64 / whole as f64 }
        });
        Snapshot {
            decoded: self.decoded_here() + self.elsewhere.get().map_or(0, |it| it.decoded.load(Ordering::Relaxed)),
            tick: state.timeline.tick,
            repeated_to: state.repeated_to,
            now: state.timeline.now,
            watermark: state.timeline.watermarks.iter().min().map_or(i64::MIN, |time| time.0),
            share,
            balance: state.balance.clone(),
            sinks: state.written.clone(),
            last: state.timeline.last,
        }
    }
}

/// Returns a time unless it stands for the beginning or the end of all time.
fn finite(time: EventTime) -> Option<i64> {
    (time != EventTime::MIN && time != EventTime::MAX).then_some(time.0)
}
