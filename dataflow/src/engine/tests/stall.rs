//! Jobs that stand still, and jobs that only look like it.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use super::live::{EndlessLines, live_graph};
use super::*;
use crate::engine::ledger::APPEND_TICKS;
use crate::engine::sinks::PENDING_BYTES_MAX;
use crate::engine::{Stall, StallCause, Watchdog, WatchdogLimits};

/// The watchdog's patience in these tests: longer than a busy machine lets a thread wait for its turn.
const LIMIT: Duration = Duration::from_secs(3);
/// What comes later than this never comes.
const NEVER: Duration = Duration::from_secs(60);

/// A gate in the world: whoever comes to it waits until it is opened for good.
#[derive(Clone)]
struct Gate(Arc<Mutex<Receiver<()>>>);
impl Gate {
    fn new() -> (Sender<()>, Gate) {
        let (opener, gate) = channel();
        (opener, Gate(Arc::new(Mutex::new(gate))))
    }
    fn is_shut(&self) -> bool {
        self.0.lock().unwrap().try_recv() == Err(TryRecvError::Empty)
    }
    fn pass(&self) {
        // Nothing is ever sent: the gate opens when the sender is dropped.
        self.0.lock().unwrap().recv().ok();
    }
}

/// Never returns from the third tick on, until the gate opens.
struct Stuck(Number, Gate);
impl Operator for Stuck {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        if tick.tick >= 3 {
            self.1.pass();
        }
        self.0.step(inputs, tick, out)
    }
    fn tables(&self) -> Vec<TableSpec> {
        self.0.tables()
    }
    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        self.0.freeze(rebase)
    }
    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        self.0.restore(table, rows)
    }
}

/// Works on the third tick until the gate opens, and says so.
struct Busy(Number, Gate);
impl Operator for Busy {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        while tick.tick == 3 && self.1.is_shut() {
            out.pulse.beat();
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.0.step(inputs, tick, out)
    }
    fn tables(&self) -> Vec<TableSpec> {
        self.0.tables()
    }
    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        self.0.freeze(rebase)
    }
    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        self.0.restore(table, rows)
    }
}

/// Commits only while the gate is open.
struct GatedLane(WrittenLane, Gate);
impl Lane for GatedLane {
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        self.1.pass();
        self.0.commit(upto, ticks)
    }
}

/// Appends ticks only while the gate is open.
struct GatedLog(Log, Option<Gate>);
impl Journal for GatedLog {
    fn append_ticks(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        self.1.iter().for_each(Gate::pass);
        self.0.append_ticks(entries)
    }
    fn append_checkpoint(&mut self, parts: CheckpointParts) -> Result<(), JournalError> {
        self.0.append_checkpoint(parts)
    }
}

/// A job under a watchdog.
struct Watched {
    world: Arc<World>,
    graph: Graph,
    workers: usize,
    gate: Option<Gate>,
    log: Option<Gate>,
    outside: Option<Duration>,
}

/// What is seen of it from the test's thread.
struct Seen {
    observer: Arc<Observer>,
    control: Arc<Control>,
    stalls: Receiver<Stall>,
}

impl Seen {
    /// Waits until the job shows something.
    fn until(&self, what: &str, shown: impl Fn(&Readings) -> bool) {
        let pause = Duration::from_millis(5);
        for _ in 0..NEVER.as_millis() / pause.as_millis() {
            if self.observer.readings().is_some_and(|readings| shown(&readings)) {
                return;
            }
            std::thread::park_timeout(pause);
        }
        panic!("never: {what}: {:#?}", self.observer.readings());
    }
}

impl Seen {
    /// Waits until all workers are held back and no tick becomes complete any more; returns the last one that did.
    fn until_held_back(&self) -> Tick {
        self.until("the workers", |readings| !readings.workers.is_empty());
        loop {
            let tick = self.observer.snapshot().tick;
            let held = |readings: &Readings| -> Vec<f64> {
                readings.workers.iter().map(|worker| worker.backpressured_seconds).collect()
            };
            let before = self.observer.readings().map(|readings| held(&readings)).unwrap_or_default();
            self.until("the workers held back for long", |readings| {
                let now = held(readings);
                now.len() == before.len() && now.iter().zip(&before).all(|(now, before)| *now > before + 1.0)
            });
            if tick > 0 && self.observer.snapshot().tick == tick {
                return tick;
            }
        }
    }
}

impl Watched {
    /// Runs the job; `meanwhile` looks at it.
    fn run(self, meanwhile: impl FnOnce(&Seen)) -> Result<(), EngineError> {
        self.world.fuse.store(-1, Ordering::SeqCst);
        let (control, observer) = (Control::new(), Arc::new(Observer::default()));
        let lane = |lane| {
            let written = WrittenLane(self.world.clone(), lane);
            let lane_box: Box<dyn Lane> = match &self.gate {
                Some(gate) => Box::new(GatedLane(written, gate.clone())),
                None => Box::new(written),
            };
            ((0, lane), (lane_box, None))
        };
        let job = Job {
            graph: self.graph,
            workers: self.workers,
            recovery: Recovery { before: Timeline::start(1, 0), ..Recovery::default() },
            lanes: (0..3).map(lane).collect(),
            journal: Box::new(GatedLog(Log(self.world.clone()), self.log)),
            state: Arc::new(Files(self.world.clone())),
            commit_every: Duration::from_millis(1),
            checkpoint_every: Duration::from_millis(3),
            control: control.clone(),
            observer: observer.clone(),
        };
        let (stalled, stalls) = channel();
        let limits = WatchdogLimits { inside: LIMIT, outside: self.outside };
        let watchdog = Watchdog::start(limits, control.clone(), observer.clone(), move |stall| {
            stalled.send(stall.clone()).unwrap();
        });
        let watchdog = watchdog.unwrap();
        let running = std::thread::spawn(move || run(job));
        meanwhile(&Seen { observer, control, stalls });
        let result = running.join().unwrap();
        drop(watchdog);
        result
    }
}

fn stuck_graph(world: &Arc<World>, gate: &Gate, stuck_worker: usize) -> Graph {
    let mut graph = graph(world);
    let gate = gate.clone();
    graph.steps[0].work = StepWork::Operator(Arc::new(move |range| {
        let number = Number { shards: range.shards, counts: BTreeMap::new(), dirty: Default::default() };
        match range.worker == stuck_worker {
            true => Box::new(Stuck(number, gate.clone())),
            false => Box::new(number),
        }
    }));
    graph
}

#[test]
fn a_step_that_never_returns_is_named_and_ends_the_job() {
    for (workers, stuck) in [(1, 0), (3, 1)] {
        let world = Arc::new(World::new(1, 600));
        let (opener, gate) = Gate::new();
        let graph = stuck_graph(&world, &gate, stuck);
        let watched = Watched { world, graph, workers, gate: None, log: None, outside: None };
        let result = watched.run(|seen| {
            let stall = seen.stalls.recv_timeout(NEVER).expect("it is noticed");
            // Steps of two ticks may come in one turn: then what the second tick gave is still held by the worker that is stuck.
            assert_eq!(stall.cause, StallCause::Inside);
            assert!(stall.complete <= 2, "{}", stall.complete);
            let text = stall.to_string();
            let want = format!("worker {stuck} has been at this for");
            let line = text.lines().find(|line| line.contains(&want)).unwrap_or_else(|| panic!("{text}"));
            assert!(line.ends_with("step `numbered`"), "{text}");
            assert!(text.contains(&format!("tick {} is not complete", stall.complete + 1)), "{text}");
            // Who is behind that worker has nothing to go on with either, and is listed too.
            assert!(text.lines().last().is_some_and(|line| line.contains("step `numbered` ")), "{text}");
            drop(opener);
        });
        assert!(matches!(result, Err(EngineError::Stalled(_))), "{result:?}");
    }
}

#[test]
fn a_step_that_works_long_in_one_tick_and_says_so_is_not_ended() {
    let world = Arc::new(World::new(1, 600));
    let (opener, gate) = Gate::new();
    let mut graph = graph(&world);
    graph.steps[0].work = StepWork::Operator(Arc::new(move |range| {
        let number = Number { shards: range.shards, counts: BTreeMap::new(), dirty: Default::default() };
        Box::new(Busy(number, gate.clone()))
    }));
    let watched = Watched { world: world.clone(), graph, workers: 1, gate: None, log: None, outside: None };
    let result = watched.run(|seen| {
        let long = 1.5 * LIMIT.as_secs_f64();
        seen.until("a tick that takes long", |readings| readings.still_seconds > long);
        assert!(seen.stalls.try_recv().is_err(), "a step at work was ended");
        drop(opener);
    });
    result.unwrap();
    assert_eq!(world.output(), calm(1, 600, 1).0);
}

#[test]
fn a_sink_that_hangs_is_no_hang_of_the_job() {
    let world = Arc::new(World::new(2, 600));
    let (opener, gate) = Gate::new();
    let (graph, gate) = (graph(&world), Some(gate));
    let watched = Watched { world: world.clone(), graph, workers: 2, gate, log: None, outside: None };
    let result = watched.run(|seen| {
        let committing = |act: &ActReading| {
            act.kind == ActKind::Commit && act.under_way_seconds.is_some_and(|age| age > 1.5 * LIMIT.as_secs_f64())
        };
        seen.until("a commit under way for long", |readings| readings.acts.iter().any(committing));
        assert!(seen.stalls.try_recv().is_err(), "a slow sink ended the job");
        drop(opener);
    });
    result.unwrap();
    assert_eq!(world.output(), calm(2, 600, 1).0);
}

#[test]
fn a_sink_that_hangs_for_ever_ends_the_job_if_that_was_asked_for() {
    let world = Arc::new(World::new(2, 600));
    let (opener, gate) = Gate::new();
    let (graph, gate) = (graph(&world), Some(gate));
    let watched = Watched { world, graph, workers: 1, gate, log: None, outside: Some(LIMIT * 2) };
    let result = watched.run(|seen| {
        let stall = seen.stalls.recv_timeout(NEVER).expect("it is noticed");
        assert_eq!(stall.cause, StallCause::Outside);
        assert!(stall.still >= LIMIT * 2, "{stall}");
        assert!(stall.to_string().contains("committing to sink `out`, worker 0"), "{stall}");
        drop(opener);
    });
    assert!(matches!(result, Err(EngineError::Stalled(_))), "{result:?}");
}

/// A source that gives nothing while it is shut, and says why.
struct Shut {
    lines: Lines,
    shut: Arc<AtomicBool>,
    paced: bool,
}
impl Source for Shut {
    fn splits(&self, bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        self.lines.splits(bounded)
    }
    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        let reader = self.lines.open(split, position)?;
        Ok(Box::new(ShutReader { reader, shut: self.shut.clone(), paced: self.paced }))
    }
}
struct ShutReader {
    reader: Box<dyn SplitReader>,
    shut: Arc<AtomicBool>,
    paced: bool,
}
impl ShutReader {
    fn is_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }
}
impl SplitReader for ShutReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        if self.is_shut() { Ok(None) } else { self.reader.read(limits) }
    }
    fn waits(&self) -> bool {
        self.is_shut()
    }
    fn is_paced(&self) -> bool {
        self.is_shut() && self.paced
    }
    fn ended(&self) -> bool {
        self.reader.ended()
    }
}

#[test]
fn a_source_that_is_paced_is_not_one_that_does_not_answer() {
    for paced in [true, false] {
        let world = Arc::new(World::new(4, 300));
        let shut = Arc::new(AtomicBool::new(true));
        let mut graph = graph(&world);
        graph.sources[0].source = Arc::new(Shut { lines: Lines(world.clone()), shut: shut.clone(), paced });
        let watched =
            Watched { world: world.clone(), graph, workers: 2, gate: None, log: None, outside: Some(LIMIT * 2) };
        let result = watched.run(|seen| match paced {
            true => {
                let stalled = seen.stalls.recv_timeout(LIMIT * 5);
                assert!(stalled.is_err(), "a job that is paced was ended: {stalled:?}");
                shut.store(false, Ordering::SeqCst);
            }
            false => {
                let stall = seen.stalls.recv_timeout(NEVER).expect("it is noticed");
                assert_eq!(stall.cause, StallCause::Outside, "{stall}");
                shut.store(false, Ordering::SeqCst);
            }
        });
        assert_eq!(result.is_ok(), paced, "{result:?}");
        if paced {
            assert_eq!(world.output(), calm(4, 300, 1).0);
        }
    }
}

#[test]
fn an_idle_live_job_is_never_ended() {
    let world = Arc::new(World::new(3, 0));
    let graph = live_graph(&world);
    let watched = Watched { world, graph, workers: 2, gate: None, log: None, outside: Some(LIMIT) };
    let result = watched.run(|seen| {
        let idle = 1.5 * LIMIT.as_secs_f64();
        seen.until("both workers idle for long", |readings| {
            readings.workers.len() == 2 && readings.workers.iter().all(|worker| worker.idle_seconds > idle)
        });
        assert!(seen.stalls.try_recv().is_err(), "an idle job was ended");
        let busy: f64 = seen.observer.readings().unwrap().workers.iter().map(|worker| worker.busy_seconds).sum();
        assert!(busy < idle, "an idle job is busy for {busy} s");
        seen.control.stop();
    });
    result.unwrap();
}

/// Writes rows of 8 KiB.
struct HugeEncoder;
impl Encoder for HugeEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError> {
        for _ in 0..rows.num_rows() {
            out.bytes.resize(out.bytes.len() + 8 * 1024, b'x');
            out.end_row(None);
        }
        Ok(())
    }
}

#[test]
fn a_job_that_may_not_read_because_its_sink_is_behind_is_never_ended() {
    let world = Arc::new(World::new(4, 500));
    let (opener, gate) = Gate::new();
    let mut graph = live_graph(&world);
    graph.sources[0].source = Arc::new(EndlessLines(Lines(world.clone())));
    graph.sinks[0].encoder = Arc::new(|| Box::new(HugeEncoder));
    let watched = Watched { world: world.clone(), graph, workers: 1, gate: Some(gate), log: None, outside: None };
    let result = watched.run(|seen| {
        let long = 1.5 * LIMIT.as_secs_f64();
        seen.until("the worker held back for long", |readings| {
            readings.workers.iter().all(|worker| worker.backpressured_seconds > long)
        });
        assert!(seen.stalls.try_recv().is_err(), "a job that was held back was ended");
        let readings = seen.observer.readings().unwrap();
        assert!(readings.sinks[0].pending_bytes as usize > PENDING_BYTES_MAX, "{:?}", readings.sinks);
        assert!(readings.sinks[0].pending_seconds > long, "{:?}", readings.sinks);
        drop(opener);
        seen.until("the rest is committed", |readings| {
            readings.sinks[0].rows >= 300 && readings.sinks[0].pending_bytes == 0
        });
        seen.control.stop();
    });
    result.unwrap();
}

/// While the log does not answer, ticks go on only so far: what waits for it has a bound.
#[test]
fn a_log_that_hangs_stops_the_reading_and_loses_nothing() {
    for workers in [1, 2] {
        let small = |world: &Arc<World>| {
            let mut graph = graph(world);
            graph.ticks.max_rows = 3;
            graph
        };
        let [calm, world] = [(); 2].map(|()| Arc::new(World::new(9, 2400)));
        calm.fuse.store(-1, Ordering::SeqCst);
        run_on(&calm, small(&calm), 1, Control::new()).unwrap();
        let graph = small(&world);
        let (opener, gate) = Gate::new();
        let bound = 2 * APPEND_TICKS as Tick + graph.ticks.in_flight;
        let watched = Watched { world: world.clone(), graph, workers, gate: None, log: Some(gate), outside: None };
        let result = watched.run(|seen| {
            let tick = seen.until_held_back();
            assert!(tick >= APPEND_TICKS as Tick && tick <= bound, "{tick} ticks, at most {bound} may wait");
            assert!(seen.stalls.try_recv().is_err(), "a slow log ended the job");
            drop(opener);
        });
        result.unwrap();
        assert_eq!(world.output(), calm.output(), "{workers} workers");
    }
}
