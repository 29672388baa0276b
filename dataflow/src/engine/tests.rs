//! The engine against doubles of everything outside it: the same bytes with any number of workers, through crashes anywhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, StringArray, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef, UInt64Type};

mod among;
mod gather;
mod live;
mod stall;

use super::*;
use crate::graph::*;
use crate::journal::*;
use crate::key::{shard_of, worker_of};
use crate::operator::*;
use crate::partitioner::Partitioner;
use crate::schema::{Hidden, with_hidden};
use crate::sink::*;
use crate::source::*;
use crate::tick::StepTick;
use crate::time::EventTime;

/// Everything that outlives a crash.
#[derive(Default)]
struct World {
    log: Mutex<Vec<JournalEntry>>,
    checkpoints: Mutex<Vec<CheckpointParts>>,
    files: Mutex<BTreeMap<String, Vec<RecordBatch>>>,
    written: Mutex<BTreeMap<u32, Committed>>,
    /// Outside effects left before the next crash; negative: none is planned.
    fuse: AtomicI64,
    lines: Vec<Vec<String>>,
    /// The source answers every third time it is asked.
    halting: bool,
    /// Lanes gather rows, and commit them now and then.
    gathers: bool,
}

/// The token of a lane, and what was written to it.
type Committed = (Option<Tick>, Vec<u8>);

/// When an outside effect fails: before it happened, or after.
enum Crash {
    Before,
    After,
}

impl World {
    fn new(seed: u64, rows: usize) -> World {
        let mut random = Random(seed);
        let mut lines = vec![Vec::new(), Vec::new(), Vec::new()];
        for row in 0..rows {
            let split = random.below(3) as usize;
            let key = random.below(7);
            let time = (row as i64) * 10 - random.below(200) as i64;
            lines[split].push(if random.below(20) == 0 { "rubbish".to_owned() } else { format!("k{key},{time}") });
        }
        World { lines, fuse: AtomicI64::new(-1), ..World::default() }
    }

    fn crash(&self) -> Option<Crash> {
        match self.fuse.fetch_sub(1, Ordering::SeqCst) {
            0 => Some(Crash::Before),
            1 => {
                self.fuse.store(i64::MIN / 2, Ordering::SeqCst);
                Some(Crash::After)
            }
            _ => None,
        }
    }

    fn output(&self) -> BTreeMap<u32, String> {
        let written = self.written.lock().unwrap();
        written.iter().map(|(lane, (_, bytes))| (*lane, String::from_utf8(bytes.clone()).unwrap())).collect()
    }
}

struct Random(u64);
impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct Lines(Arc<World>);
impl Source for Lines {
    fn splits(&self, _: bool) -> Result<Vec<SplitSpec>, SourceError> {
        let spec = |i: usize| SplitSpec {
            name: i.to_string(),
            start: 0,
            end: Some(self.0.lines[i].len() as u64),
            identity: String::new(),
        };
        Ok((0..self.0.lines.len()).map(spec).collect())
    }
    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        Ok(Box::new(LineReader { world: self.0.clone(), split: split.name.parse().unwrap(), position, asked: 0 }))
    }
}
struct LineReader {
    world: Arc<World>,
    split: usize,
    position: u64,
    asked: usize,
}
impl SplitReader for LineReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        self.asked += 1;
        if self.waits() {
            return Ok(None);
        }
        let lines = &self.world.lines[self.split];
        let until = limits.until.unwrap_or(u64::MAX).min(lines.len() as u64);
        let to = until.min(self.position + limits.rows.min(3) as u64);
        if to == self.position {
            return Ok(None);
        }
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for line in &lines[self.position as usize..to as usize] {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(line.as_bytes());
            ranges.push((start, bytes.len() as u32));
            bytes.push(b'\n');
        }
        let from = std::mem::replace(&mut self.position, to);
        let records = Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Ordinal };
        Ok(Some(Chunk { from, to, payload: Payload::Records(records) }))
    }
    fn waits(&self) -> bool {
        self.world.halting && !self.asked.is_multiple_of(3)
    }
    fn ended(&self) -> bool {
        self.position == self.world.lines[self.split].len() as u64
    }
}

struct LineDecoder;
impl Decoder for LineDecoder {
    fn decode(&mut self, chunk: &Chunk, context: &DecodeContext, out: &mut Decoded) {
        let Payload::Records(records) = &chunk.payload else { panic!("lines are records") };
        let (mut keys, mut times, mut positions) = (vec![], vec![], vec![]);
        for (i, (start, end)) in records.ranges.iter().enumerate() {
            let text = std::str::from_utf8(&records.bytes[*start as usize..*end as usize]).unwrap();
            let (split, position) = (context.split, chunk.position(i));
            let row = text.split_once(',').map(|(key, time)| (key, time.parse::<i64>().unwrap()));
            match row.filter(|(_, time)| context.accept.contains(&EventTime(*time))) {
                Some((key, time)) => {
                    keys.push(key.to_owned());
                    times.push(time);
                    positions.push(position);
                }
                None => out.bad.push(BadRow {
                    split,
                    position,
                    code: "malformed".into(),
                    reason: "no comma, or a time that is not accepted".into(),
                    raw: text.as_bytes().to_vec(),
                    raw_length: text.len() as u64,
                }),
            }
        }
        out.greatest = times.iter().max().map(|time| EventTime(*time));
        let rows = keys.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(keys)),
            Arc::new(Int64Array::from(times)),
            Arc::new(UInt32Array::from(vec![context.split; rows])),
            Arc::new(UInt64Array::from(positions)),
        ];
        out.batches.push(RecordBatch::try_new(source_schema(), columns).unwrap());
    }
}

fn source_schema() -> SchemaRef {
    with_hidden(&[Field::new("key", DataType::Utf8, true)], &[Hidden::Time, Hidden::Split, Hidden::Position])
}
fn counted_schema() -> SchemaRef {
    let columns = [Field::new("key", DataType::Utf8, true), Field::new("count", DataType::Int64, false)];
    with_hidden(&columns, &[Hidden::Time, Hidden::Hash])
}
fn table_schema() -> SchemaRef {
    Arc::new(arrow::datatypes::Schema::new(vec![
        Field::new("shard", DataType::UInt16, false),
        Field::new("op", DataType::Int8, false),
        Field::new("key", DataType::Utf8, false),
        Field::new("count", DataType::Int64, false),
    ]))
}

/// Numbers the rows of each key, in per-key order within the tick.
struct Number {
    shards: u16,
    counts: BTreeMap<String, (u64, i64)>,
    dirty: std::collections::BTreeSet<String>,
}
impl Operator for Number {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, _: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let mut rows = vec![];
        for batch in inputs.iter().flatten() {
            let number = |c: usize, i: usize| batch.column(c).as_primitive::<UInt64Type>().value(i);
            for i in 0..batch.num_rows() {
                let split = batch.column(2).as_primitive::<arrow::datatypes::UInt32Type>().value(i);
                let time = batch.column(1).as_primitive::<Int64Type>().value(i);
                let key = batch.column(0).as_string::<i32>().value(i).to_owned();
                rows.push((time, split, number(3, i), key, number(4, i)));
            }
        }
        rows.sort();
        out.counts.input = rows.len() as u64;
        out.counts.taken = rows.len() as u64;
        let (mut keys, mut counts, mut times, mut hashes) = (vec![], vec![], vec![], vec![]);
        for (time, _, _, key, hash) in rows {
            let entry = self.counts.entry(key.clone()).or_insert((hash, 0));
            entry.1 += 1;
            self.dirty.insert(key.clone());
            keys.push(key);
            counts.push(entry.1);
            times.push(time);
            hashes.push(hash);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(keys)),
            Arc::new(Int64Array::from(counts)),
            Arc::new(Int64Array::from(times)),
            Arc::new(UInt64Array::from(hashes)),
        ];
        out.rows.push(RecordBatch::try_new(counted_schema(), columns).unwrap());
        Ok(())
    }
    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec { name: "counts", schema: table_schema(), key_columns: 1 }]
    }
    fn freeze(&mut self, _: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        let dirty = std::mem::take(&mut self.dirty);
        let counts = |key: &String| self.counts[key];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt16Array::from_iter_values(dirty.iter().map(|key| shard_of(counts(key).0, self.shards)))),
            Arc::new(Int8Array::from(vec![1; dirty.len()])),
            Arc::new(StringArray::from_iter_values(dirty.iter())),
            Arc::new(Int64Array::from_iter_values(dirty.iter().map(|key| counts(key).1))),
        ];
        let delta = vec![RecordBatch::try_new(table_schema(), columns).unwrap()];
        Ok(vec![FrozenTable { delta, base: vec![] }.into()])
    }
    fn restore(&mut self, _: usize, rows: &RecordBatch) -> Result<(), StepError> {
        for i in 0..rows.num_rows() {
            let key = rows.column(2).as_string::<i32>().value(i).to_owned();
            let hash = crate::key::Keys::of(rows, &[2])?.hashes[i];
            self.counts.insert(key, (hash, rows.column(3).as_primitive::<Int64Type>().value(i)));
        }
        Ok(())
    }
}

struct TextEncoder;
impl Encoder for TextEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError> {
        for i in 0..rows.num_rows() {
            let key = rows.column(0).as_string::<i32>().value(i);
            let count = rows.column(1).as_primitive::<Int64Type>().value(i);
            out.bytes.extend_from_slice(format!("{key} {count}\n").as_bytes());
            out.end_row(None);
        }
        Ok(())
    }
}

struct Written(Arc<World>);
impl Sink for Written {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(3)
    }
    fn open(&self, lane: u32, _: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        Ok((Box::new(WrittenLane(self.0.clone(), lane)), None))
    }
    fn gathers(&self) -> Option<Duration> {
        self.0.gathers.then_some(Duration::from_secs(3600))
    }
}
struct WrittenLane(Arc<World>, u32);
impl Lane for WrittenLane {
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        let crash = self.0.crash();
        if !matches!(crash, Some(Crash::Before)) {
            let mut written = self.0.written.lock().unwrap();
            let lane = written.entry(self.1).or_default();
            assert!(lane.0.is_none_or(|token| token < ticks[0].tick), "committed twice");
            lane.0 = Some(upto);
            ticks.iter().for_each(|tick| lane.1.extend_from_slice(&tick.rows.bytes));
        }
        let failed = || SinkError::Write { what: "the test's sink".into(), reason: "crash".into() };
        crash.map_or(Ok(()), |_| Err(failed()))
    }
}

struct Log(Arc<World>);
impl Log {
    fn act(&self, act: impl FnOnce()) -> Result<(), JournalError> {
        let crash = self.0.crash();
        if !matches!(crash, Some(Crash::Before)) {
            act();
        }
        let failed = || JournalError::Storage { what: "the test's log".into(), reason: "crash".into() };
        crash.map_or(Ok(()), |_| Err(failed()))
    }
}
impl Journal for Log {
    fn append_ticks(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        self.act(|| self.0.log.lock().unwrap().extend_from_slice(entries))
    }
    fn append_checkpoint(&mut self, parts: CheckpointParts) -> Result<(), JournalError> {
        self.act(|| self.0.checkpoints.lock().unwrap().push(parts))
    }
}

struct Files(Arc<World>);
impl StateStore for Files {
    fn rebase(&self, _: &str, tables: &[&'static str], _: usize, _: usize) -> Vec<Vec<u16>> {
        vec![Vec::new(); tables.len()]
    }
    fn write(&self, part: FrozenPart) -> Result<Vec<StateFile>, JournalError> {
        let path = format!("{:06}-{}-{}", part.tick, part.worker, self.0.files.lock().unwrap().len());
        self.0.files.lock().unwrap().insert(path.clone(), part.frozen[0].delta.clone());
        let (step, table) = (part.step, "counts".to_owned());
        let kind = FileKind::Delta;
        Ok(vec![StateFile { path, step, table, kind, tick: part.tick, shards: vec![], rows: 0, bytes: 0, xxh3: 0 }])
    }
    fn read(
        &self,
        _: &str,
        _: &str,
        worker: usize,
        workers: usize,
        take: &mut TakeRows<'_>,
    ) -> Result<(), JournalError> {
        let published = self.0.checkpoints.lock().unwrap();
        let files = self.0.files.lock().unwrap();
        for batch in published.iter().flat_map(|c| &c.files).flat_map(|file| &files[&file.path]) {
            let own = |i: &u32| {
                let shard = batch.column(0).as_primitive::<arrow::datatypes::UInt16Type>().value(*i as usize);
                worker_of(shard, 16, workers) == worker
            };
            let own: Vec<u32> = (0..batch.num_rows() as u32).filter(own).collect();
            if take(arrow::compute::take_record_batch(batch, &UInt32Array::from(own)).unwrap()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn graph(world: &Arc<World>) -> Graph {
    let splits = Lines(world.clone()).splits(true).unwrap();
    let sink: Arc<dyn Sink> = Arc::new(Written(world.clone()));
    Graph {
        job: "test".into(),
        shards: 16,
        sources: vec![SourceNode {
            name: "lines".into(),
            source: Arc::new(Lines(world.clone())),
            decoder: Arc::new(|| Box::new(LineDecoder)),
            schema: source_schema(),
            bounded: true,
            max_disorder: Duration::from_micros(100),
            idle_after: Duration::from_secs(30),
            max_future: Duration::from_secs(3600),
            event_times: EventTime::MIN..=EventTime::MAX,
            on_bad_row: OnBadRow::Divert,
            splits: splits.into_iter().enumerate().map(|(id, spec)| SplitNode { id: id as u32, spec }).collect(),
        }],
        steps: vec![StepNode {
            name: "numbered".into(),
            inputs: vec![InputNode { from: Edge::Source(0), route: Some(vec![0]) }],
            work: StepWork::Operator(Arc::new(|range| {
                Box::new(Number { shards: range.shards, counts: BTreeMap::new(), dirty: Default::default() })
            })),
            schema: counted_schema(),
            late: None,
            bad: false,
            sides: Vec::new(),
            watermark: vec![WatermarkPath { source: 0, delay: Duration::ZERO }],
        }],
        sinks: vec![SinkNode {
            partitioner: Partitioner::Shard,
            name: "out".into(),
            from: Edge::Step(0),
            encoder: Arc::new(|| Box::new(TextEncoder)),
            lanes: 3,
            key: None,
            sink,
        }],
        ticks: TickSettings {
            interval: Duration::from_millis(20),
            max_rows: 24,
            max_bytes: 1 << 20,
            in_flight: 4,
            align: Duration::from_micros(400),
        },
        cut: None,
    }
}

fn incarnation(world: &Arc<World>, workers: usize) -> Result<Snapshot, EngineError> {
    run_on(world, graph(world), workers, Control::new())
}

fn run_on(world: &Arc<World>, graph: Graph, workers: usize, control: Arc<Control>) -> Result<Snapshot, EngineError> {
    let observer = Arc::new(Observer::default());
    run(job_on(world, graph, (0..workers, workers), recovery(world), control, observer.clone()))?;
    Ok(observer.snapshot())
}

/// Where the job goes on.
fn recovery(world: &World) -> Recovery {
    let checkpoint = world.checkpoints.lock().unwrap().last().cloned();
    let mut recovery = Recovery { before: Timeline::start(1, 0), ..Recovery::default() };
    if let Some(parts) = checkpoint {
        recovery.before = parts.before;
        recovery.recent = parts.recent;
        recovery.balance = parts.balance;
    }
    let c = recovery.after().tick;
    recovery.entries = world.log.lock().unwrap().iter().filter(|entry| entry.record.tick > c).cloned().collect();
    recovery
}

/// The token of every lane.
fn tokens(world: &World) -> BTreeMap<(u32, u32), Option<Tick>> {
    let written = world.written.lock().unwrap();
    (0..3).map(|lane| ((0, lane), written.get(&lane).and_then(|lane| lane.0))).collect()
}

/// The part of a job that the workers `own` do, of so many.
fn job_on(
    world: &Arc<World>,
    graph: Graph,
    (own, all): (Range<usize>, usize),
    recovery: Recovery,
    control: Arc<Control>,
    observer: Arc<Observer>,
) -> Job {
    let tokens = tokens(world);
    let lanes = (0..3).filter(|lane| own.contains(&holder(*lane, 3, all))).map(|lane| {
        let written = WrittenLane(world.clone(), lane);
        let opened: Box<dyn Lane> = match world.gathers {
            true => Box::new(gather::GatheringLane::new(written)),
            false => Box::new(written),
        };
        ((0, lane), (opened, tokens[&(0, lane)]))
    });
    Job {
        graph,
        workers: own.len(),
        recovery,
        lanes: lanes.collect(),
        journal: Box::new(Log(world.clone())),
        state: Arc::new(Files(world.clone())),
        commit_every: Duration::from_millis(1),
        checkpoint_every: Duration::from_millis(3),
        control,
        observer,
    }
}

fn calm(seed: u64, rows: usize, workers: usize) -> (BTreeMap<u32, String>, Snapshot) {
    let world = Arc::new(World::new(seed, rows));
    let snapshot = incarnation(&world, workers).unwrap();
    (world.output(), snapshot)
}

#[test]
fn any_number_of_workers_gives_the_same_bytes() {
    let (one, snapshot) = calm(1, 2000, 1);
    let rows: usize = one.values().map(|text| text.lines().count()).sum();
    let counts = snapshot.balance["lines"];
    assert_eq!(counts.input, 2000);
    assert!(counts.bad > 0 && counts.balances());
    assert_eq!(rows as u64, counts.taken);
    assert_eq!(snapshot.balance["numbered"].out, counts.taken);
    assert!(one.len() > 1, "several lanes have rows");
    for workers in [2, 3, 4] {
        let (other, again) = calm(1, 2000, workers);
        assert_eq!(other, one, "{workers} workers");
        assert_eq!(again.balance, snapshot.balance);
    }
}

/// Whoever gives the cut gets it, record by record, and as many rows as with any other.
#[test]
fn a_given_cut_is_the_cut() {
    let (want, _) = calm(11, 300, 1);
    let mut random = Random(11);
    for workers in [1, 3] {
        let world = Arc::new(World::new(11, 300));
        let mut graph = graph(&world);
        let ends: Vec<u64> = graph.sources[0].splits.iter().filter_map(|split| split.spec.end).collect();
        assert_eq!(ends.len(), graph.sources[0].splits.len(), "bounded splits have ends");
        let mut left: BTreeMap<u32, u64> = (0..).zip(ends).collect();
        let mut cut: Vec<BTreeMap<u32, u64>> = Vec::new();
        while left.values().any(|rows| *rows > 0) {
            let mut give = |(split, left): (&u32, &mut u64)| {
                let rows = random.below(7).min(*left);
                *left -= rows;
                (rows > 0).then_some((*split, rows))
            };
            let tick: BTreeMap<u32, u64> = left.iter_mut().filter_map(&mut give).collect();
            cut.push(tick);
        }
        graph.cut = Some(Arc::new(cut.clone()));
        run_on(&world, graph, workers, Control::new()).unwrap();
        let read = |entry: &JournalEntry| {
            let moved = entry.record.splits.iter().filter(|mark| mark.rows > 0);
            moved.map(|mark| (mark.split, mark.rows)).collect::<BTreeMap<u32, u64>>()
        };
        let ticks: Vec<BTreeMap<u32, u64>> = world.log.lock().unwrap().iter().map(read).collect();
        assert_eq!(ticks, cut, "{workers} workers");
        let sorted = |output: &BTreeMap<u32, String>| {
            let mut lines: Vec<String> = output.values().flat_map(|text| text.lines().map(str::to_owned)).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&world.output()).len(), sorted(&want).len());
    }
}

#[test]
fn crashes_anywhere_and_other_numbers_of_workers_change_no_byte() {
    for seed in 0..25 {
        let (want, _) = calm(seed, 600, 1);
        let world = Arc::new(World::new(seed, 600));
        let mut random = Random(seed + 1000);
        let mut crashes = 0;
        loop {
            let fuse = if crashes < 12 { random.below(9) as i64 } else { -1 };
            world.fuse.store(fuse, Ordering::SeqCst);
            match incarnation(&world, 1 + random.below(4) as usize) {
                Ok(_) => break,
                Err(EngineError::Sink { .. } | EngineError::Journal(_)) => crashes += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(world.output(), want, "seed {seed}, {crashes} crashes");
    }
}

/// A source that does not answer at once is waited for, by new ticks and by those that are derived again.
#[test]
fn a_source_that_halts_changes_no_byte() {
    let (want, _) = calm(17, 300, 1);
    let world = Arc::new(World { halting: true, ..World::new(17, 300) });
    world.fuse.store(6, Ordering::SeqCst);
    assert!(incarnation(&world, 2).is_err());
    assert!(!world.log.lock().unwrap().is_empty(), "there are ticks to be derived again");
    world.fuse.store(-1, Ordering::SeqCst);
    incarnation(&world, 3).unwrap();
    assert_eq!(world.output(), want);
}

#[test]
fn changed_input_stops_the_job() {
    let mut world = World::new(3, 600);
    world.fuse.store(4, Ordering::SeqCst);
    let world_one = Arc::new(world);
    assert!(incarnation(&world_one, 2).is_err());
    world = Arc::try_unwrap(world_one).ok().expect("the job is over and has let go of everything");
    assert!(!world.log.lock().unwrap().is_empty(), "the crash came after something was journalled");
    world.checkpoints.lock().unwrap().clear();
    world.lines[0][0] = "k9,1".into();
    world.fuse.store(-1, Ordering::SeqCst);
    let error = incarnation(&Arc::new(world), 1).unwrap_err();
    assert!(error.to_string().contains("its bytes differ"), "{error}");
}

#[test]
fn a_panic_in_one_worker_ends_the_job() {
    let world = Arc::new(World::new(5, 600));
    let mut graph = graph(&world);
    graph.steps[0].work = StepWork::Operator(Arc::new(|range| {
        assert_ne!(range.worker, 1, "a bug in one worker");
        Box::new(Number { shards: range.shards, counts: BTreeMap::new(), dirty: Default::default() })
    }));
    let lanes = (0..3).map(|lane| ((0, lane), (Box::new(WrittenLane(world.clone(), lane)) as Box<dyn Lane>, None)));
    let job = Job {
        graph,
        workers: 2,
        recovery: Recovery { before: Timeline::start(1, 0), ..Recovery::default() },
        lanes: lanes.collect(),
        journal: Box::new(Log(world.clone())),
        state: Arc::new(Files(world.clone())),
        commit_every: Duration::from_millis(1),
        checkpoint_every: Duration::from_millis(3),
        control: Control::new(),
        observer: Arc::default(),
    };
    assert!(matches!(run(job), Err(EngineError::Panic(_))));
}
