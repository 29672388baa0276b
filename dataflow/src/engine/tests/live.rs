//! Live jobs, stopped and crashed, and recorded ticks that are derived again by themselves.

use super::*;

/// A graph over input that never ends.
pub(super) fn live_graph(world: &Arc<World>) -> Graph {
    let mut graph = graph(world);
    graph.sources[0].bounded = false;
    graph.sources[0].source = Arc::new(EndlessLines(Lines(world.clone())));
    graph.sources[0].splits.iter_mut().for_each(|split| split.spec.end = None);
    graph.ticks.interval = Duration::from_millis(1);
    graph
}

pub(super) struct EndlessLines(pub(super) Lines);
impl Source for EndlessLines {
    fn splits(&self, bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        self.0.splits(bounded)
    }
    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        Ok(Box::new(Endless(self.0.open(split, position)?)))
    }
}
struct Endless(Box<dyn SplitReader>);
impl SplitReader for Endless {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        self.0.read(limits)
    }
    fn ended(&self) -> bool {
        false
    }
}

/// Returns every key's numbers, which must be 1, 2, 3, ... without a gap or a repetition.
pub(super) fn numbers(world: &World) -> BTreeMap<String, Vec<i64>> {
    let mut numbers: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in world.output().values().flat_map(|text| text.lines()) {
        let (key, number) = line.split_once(' ').unwrap();
        numbers.entry(key.to_owned()).or_default().push(number.parse().unwrap());
    }
    numbers
}

#[test]
fn a_live_job_that_is_stopped_and_crashed_loses_and_doubles_nothing() {
    for seed in 0..12 {
        let world = Arc::new(World::new(seed, 900));
        let good = world.lines.iter().flatten().filter(|line| line.contains(',')).count();
        let mut random = Random(seed + 77);
        let mut lives = 0;
        while numbers(&world).values().map(Vec::len).sum::<usize>() < good {
            lives += 1;
            assert!(lives < 500, "seed {seed}: no progress");
            let fuse = if random.below(3) == 0 { -1 } else { random.below(12) as i64 };
            world.fuse.store(fuse, Ordering::SeqCst);
            let control = Control::new();
            let (stopper, done, pause) = (control.clone(), world.clone(), random.below(25));
            let stopping = std::thread::spawn(move || {
                // Stops now and then in the middle, and always when everything is out.
                for _ in 0..pause * 10 {
                    std::thread::yield_now();
                    if numbers(&done).values().map(Vec::len).sum::<usize>() == good {
                        break;
                    }
                }
                stopper.stop();
            });
            match run_on(&world, live_graph(&world), 1 + random.below(4) as usize, control) {
                Ok(snapshot) => {
                    assert!(!snapshot.last);
                    let last = |ticks: Option<Tick>| ticks.unwrap_or(0);
                    let recorded = last(world.log.lock().unwrap().last().map(|entry| entry.record.tick));
                    let kept = last(world.checkpoints.lock().unwrap().last().map(|parts| parts.tick));
                    assert_eq!(kept, recorded, "seed {seed}: whoever comes next has nothing to repeat");
                }
                Err(EngineError::Sink { .. } | EngineError::Journal(_)) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
            stopping.join().unwrap();
        }
        for (key, mut found) in numbers(&world) {
            found.sort_unstable();
            assert!(found.iter().copied().eq(1..=found.len() as i64), "seed {seed}, {key}: {found:?}");
        }
    }
}

#[test]
fn it_is_known_when_rows_came_out_and_whether_there_were_any() {
    let world = Arc::new(World::new(3, 300));
    world.fuse.store(-1, Ordering::SeqCst);
    let watched = || {
        let observer = Arc::new(Observer::default());
        let job = job_on(&world, graph(&world), (0..2, 2), recovery(&world), Control::new(), observer.clone());
        run(job).unwrap();
        observer
    };
    let observer = watched();
    let (first, last) = observer.rows_out().expect("it wrote rows");
    assert!(0 < first && first <= last && observer.goes_on());
    let observer = watched();
    assert_eq!((observer.rows_out(), observer.goes_on()), (None, false), "all was there");
}

/// Asserts that a job is finished for good: its last record ends all splits, and whoever runs it again finds nothing to do.
pub(super) fn is_finished(world: &Arc<World>, seed: u64) {
    let last = world.log.lock().unwrap().last().unwrap().record.clone();
    assert!(last.last && last.watermarks.iter().all(|time| *time == EventTime::MAX), "seed {seed}: {last:?}");
    let output = world.output();
    world.fuse.store(-1, Ordering::SeqCst);
    assert!(run_on(world, live_graph(world), 2, Control::new()).unwrap().last);
    assert_eq!(world.output(), output, "seed {seed}: a finished job has nothing to do");
    for (key, mut found) in numbers(world) {
        found.sort_unstable();
        assert!(found.iter().copied().eq(1..=found.len() as i64), "seed {seed}, {key}: {found:?}");
    }
}

#[test]
fn a_drained_job_is_finished_for_good_wherever_it_crashes() {
    for seed in 0..12 {
        let world = Arc::new(World::new(seed, 900));
        let mut random = Random(seed + 177);
        for life in 0.. {
            assert!(life < 100, "seed {seed}: it is never finished");
            let fuse = if life > 5 { -1 } else { random.below(12) as i64 };
            world.fuse.store(fuse, Ordering::SeqCst);
            let control = Control::new();
            let (drainer, pause) = (control.clone(), random.below(60));
            let draining = std::thread::spawn(move || {
                (0..pause * 10).for_each(|_| std::thread::yield_now());
                drainer.drain();
            });
            let ran = run_on(&world, live_graph(&world), 1 + random.below(4) as usize, control);
            draining.join().unwrap();
            match ran {
                Ok(snapshot) => {
                    assert!(snapshot.last, "seed {seed}: no row will ever follow");
                    break;
                }
                Err(EngineError::Sink { .. } | EngineError::Journal(_)) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        is_finished(&world, seed);
    }
}

#[test]
fn rows_that_came_while_a_live_job_was_away_are_not_from_the_future() {
    // The job was last seen in 1970, and all its rows are from a little later.
    let world = Arc::new(World::new(3, 300));
    let good = world.lines.iter().flatten().filter(|line| line.contains(',')).count();
    let mut graph = live_graph(&world);
    graph.sources[0].max_future = Duration::ZERO;
    let control = Control::new();
    let (stopper, done) = (control.clone(), world.clone());
    let written = |world: &World| numbers(world).values().map(Vec::len).sum::<usize>();
    let stopping = std::thread::spawn(move || {
        for _ in 0..60_000 {
            std::thread::park_timeout(Duration::from_millis(1));
            if written(&done) == good {
                break;
            }
        }
        stopper.stop();
    });
    world.fuse.store(-1, Ordering::SeqCst);
    run_on(&world, graph, 2, control).unwrap();
    stopping.join().unwrap();
    assert_eq!(written(&world), good);
}

/// The journal of a job that makes no tick final.
struct Closed;
impl Journal for Closed {
    fn append_ticks(&mut self, _: &[JournalEntry]) -> Result<(), JournalError> {
        panic!("no tick is new")
    }
    fn append_checkpoint(&mut self, _: CheckpointParts) -> Result<(), JournalError> {
        panic!("no checkpoint is taken")
    }
}

/// Derives the ticks of `world`'s journal again, into a world of its own.
fn derived_again(world: &World, entries: Vec<JournalEntry>, workers: usize) -> Result<Arc<World>, EngineError> {
    let again = World { lines: world.lines.clone(), fuse: AtomicI64::new(-1), ..World::default() };
    let again = Arc::new(again);
    let lanes = (0..3).map(|lane| ((0, lane), (Box::new(WrittenLane(again.clone(), lane)) as Box<dyn Lane>, None)));
    let job = Job {
        graph: live_graph(&again),
        workers,
        recovery: Recovery { before: Timeline::start(1, 0), entries, then: Then::End, ..Recovery::default() },
        lanes: lanes.collect(),
        journal: Box::new(Closed),
        state: Arc::new(Files(again.clone())),
        commit_every: Duration::ZERO,
        checkpoint_every: Duration::ZERO,
        control: Control::new(),
        observer: Arc::default(),
    };
    run(job)?;
    Ok(again)
}

/// A live job that was stopped when all its rows were out.
fn stopped_live_job(seed: u64) -> Arc<World> {
    let world = Arc::new(World::new(seed, 600));
    let good = world.lines.iter().flatten().filter(|line| line.contains(',')).count();
    let control = Control::new();
    let (stopper, done) = (control.clone(), world.clone());
    let stopping = std::thread::spawn(move || {
        while numbers(&done).values().map(Vec::len).sum::<usize>() < good {
            std::thread::yield_now();
        }
        stopper.stop();
    });
    run_on(&world, live_graph(&world), 2, control).unwrap();
    stopping.join().unwrap();
    world
}

#[test]
fn recorded_ticks_are_derived_to_their_end_by_lives_that_crash_and_are_stopped() {
    for seed in 0..6 {
        let world = stopped_live_job(seed);
        let entries = world.log.lock().unwrap().clone();
        let last = entries.last().unwrap().record.tick;
        let again = Arc::new(World { lines: world.lines.clone(), fuse: AtomicI64::new(-1), ..World::default() });
        again.log.lock().unwrap().clone_from(&entries);
        let reached = || again.checkpoints.lock().unwrap().last().map_or(0, |parts| parts.tick);
        let mut random = Random(seed + 5);
        let (mut crashes, mut stops) = (0, 0);
        while reached() < last {
            assert!(crashes + stops < 500, "seed {seed}: no progress");
            let fuse = if random.below(3) == 0 { -1 } else { random.below(12) as i64 };
            again.fuse.store(fuse, Ordering::SeqCst);
            let control = Control::new();
            let is_stopped = random.below(2) == 0 && stops < 3;
            if is_stopped {
                control.stop();
            }
            let (workers, before) = (1 + random.below(4) as usize, reached());
            let recovery = Recovery { then: Then::Finish, ..recovery(&again) };
            let job = job_on(&again, live_graph(&again), (0..workers, workers), recovery, control, Arc::default());
            match run(job) {
                Ok(()) if is_stopped => {
                    stops += 1;
                    assert!(reached() > before, "seed {seed}: whoever is stopped keeps how far it has come");
                }
                Ok(()) => assert_eq!(reached(), last, "seed {seed}: it ends at the end"),
                Err(EngineError::Sink { .. } | EngineError::Journal(_)) => crashes += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(again.output(), world.output(), "seed {seed}: after {crashes} crashes and {stops} stops");
        assert!(*again.log.lock().unwrap() == entries, "seed {seed}: nothing is appended");
        again.fuse.store(0, Ordering::SeqCst);
        let recovery = Recovery { then: Then::Finish, ..recovery(&again) };
        let job = job_on(&again, live_graph(&again), (0..2, 2), recovery, Control::new(), Arc::default());
        run(job).expect("there is nothing left to do");
    }
}

#[test]
fn recorded_ticks_alone_are_derived_again_and_the_job_ends() {
    let world = stopped_live_job(8);
    let entries = world.log.lock().unwrap().clone();
    for workers in [1, 2, 5] {
        assert_eq!(derived_again(&world, entries.clone(), workers).unwrap().output(), world.output());
    }
    assert_eq!(derived_again(&world, Vec::new(), 2).unwrap().output(), BTreeMap::new(), "nothing is recorded");
    let mut changed = entries;
    let lane = changed.iter_mut().rev().find_map(|entry| entry.lanes.first_mut()).unwrap();
    lane.xxh3 ^= 1;
    let error = derived_again(&world, changed, 2).err().unwrap();
    assert!(matches!(error, EngineError::NotDeterministic { .. }), "{error}");
}

#[test]
fn a_job_that_gets_nothing_does_not_take_the_same_checkpoint_again_and_again() {
    let world = Arc::new(World::new(10, 300));
    let good = world.lines.iter().flatten().filter(|line| line.contains(',')).count();
    let control = Control::new();
    let (stopper, done) = (control.clone(), world.clone());
    let last = |world: &World| world.log.lock().unwrap().last().map_or(0, |entry| entry.record.tick);
    let waiting = std::thread::spawn(move || {
        while numbers(&done).values().map(Vec::len).sum::<usize>() < good {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // The tick that is open by then may have rows, and the next one may be the checkpoint of them.
        let quiet = last(&done) + 2;
        while last(&done) < quiet + 3 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let taken = done.checkpoints.lock().unwrap().iter().map(|parts| parts.tick).collect::<Vec<_>>();
        stopper.stop();
        (quiet, taken)
    });
    world.fuse.store(-1, Ordering::SeqCst);
    run_on(&world, live_graph(&world), 2, control).unwrap();
    let (quiet, taken) = waiting.join().unwrap();
    assert!(taken.iter().any(|tick| *tick <= quiet), "those of its rows were taken");
    assert!(taken.iter().all(|tick| *tick <= quiet), "nothing came after tick {quiet}: {taken:?}");
}

#[test]
fn a_checkpoint_that_is_asked_for_is_taken_long_before_it_is_time() {
    let world = Arc::new(World::new(9, 300));
    let (control, observer) = (Control::new(), Arc::new(Observer::default()));
    let mut job = job_on(&world, live_graph(&world), (0..2, 2), recovery(&world), control.clone(), observer);
    job.checkpoint_every = Duration::from_secs(3600);
    let (asker, published) = (control, world.clone());
    let asking = std::thread::spawn(move || {
        let newest = || published.checkpoints.lock().unwrap().last().map_or(0, |parts| parts.tick);
        for _ in 0..3 {
            let first = asker.take_checkpoint();
            let came = (0..60_000).any(|_| {
                std::thread::park_timeout(Duration::from_millis(1));
                newest() >= first
            });
            if !came {
                return asker.abort("the checkpoint never came");
            }
        }
        asker.stop();
    });
    run(job).unwrap();
    asking.join().unwrap();
}
