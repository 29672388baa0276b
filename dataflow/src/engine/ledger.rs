//! The ledger on worker 0: gathers what a tick amounts to, makes it durable, and publishes checkpoints.
//!
//! One thread writes to the log. Two operators ask it: the ledger for ticks, which lets the sinks commit, and the publisher
//! of checkpoints, which waits for those commits. They are two because commits follow ticks and checkpoints follow commits.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;
use timely::scheduling::Activator;

use super::background::Background;
use super::build::{Build, PartStream, RecordStream, ReportStream};
use super::events::{Checkpointed, Repeated};
use super::message::{Covered, Part, Report};
use super::meter::act::ActKind;
use super::meter::{self, Meter};
use super::sinks::{CoveredStream, DurableStream};
use super::{EngineError, Setup, Then};
use crate::balance::Counts;
use crate::journal::{CheckpointParts, Journal, JournalEntry, JournalError, LaneDigest, LaneToken, StateFile};
use crate::sink::Promise;
use crate::tick::{Tick, TickRecord, Timeline};
use crate::wire::WireError;

/// Output that waits for its commit is committed early once it takes this much.
const COMMIT_BYTES: u64 = 4 * 1024 * 1024;
/// An append is due once so many ticks wait for it. While one is under way no more than these, and those that are being read, are
/// taken up: with a log that does not answer, reading stops.
pub const APPEND_TICKS: usize = if cfg!(test) { 256 } else { 4096 };
/// A checkpoint starts no sooner than this many times the CPU time of the last one's pause after it.
const CHECKPOINT_SHARE: u32 = 20;
/// And no sooner than this as long as nothing has come and no watermark has moved since: it would say the same again.
const QUIET_CHECKPOINT: Duration = Duration::from_secs(30);

enum Request {
    Ticks(Vec<JournalEntry>),
    Checkpoint(Box<CheckpointParts>),
}

enum Reply {
    Ticks(Result<(), JournalError>),
    Checkpoint(Result<(), JournalError>),
}

/// What clock, ledger and publisher on worker 0 share.
pub struct Ledger {
    log: Option<Background<Request, Reply>>,
    ticks_done: VecDeque<Result<(), JournalError>>,
    checkpoints_done: VecDeque<Result<(), JournalError>>,
    /// The journal covers this tick.
    durable: Tick,
    /// The last tick of which all is known, and found to be what the journal says if it was in there before.
    complete: Tick,
    schedule: Schedule,
    /// Where the job stood after each tick that may yet become a checkpoint, and what its balance was.
    history: History,
}

/// When the next checkpoint is due.
struct Schedule {
    every: Duration,
    open: usize,
    ended: Instant,
    cost: Duration,
}

/// The last tick records, as far as a checkpoint needs them.
struct History {
    in_flight: usize,
    before: Timeline,
    recent: VecDeque<TickRecord>,
    balance: BTreeMap<String, Counts>,
    /// What a checkpoint at a tick will say.
    kept: BTreeMap<Tick, Kept>,
}

/// Where the job stood after a tick.
#[derive(Clone)]
struct Kept {
    before: Timeline,
    recent: Vec<TickRecord>,
    balance: BTreeMap<String, Counts>,
}

/// What was reported of a tick: the balance by place, and the lanes' digests.
#[derive(Default)]
struct Reported {
    counts: BTreeMap<u32, Counts>,
    lanes: BTreeMap<(u32, u32), LaneDigest>,
}

/// Why the state may be frozen after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Time has passed.
    Time,
    /// Time has passed, and nothing else since the last checkpoint.
    Quiet,
    /// Somebody asked for a checkpoint.
    Asked,
    /// One is taken here whatever else is under way.
    Milestone,
}

/// A handle to the ledger for the operators of one worker.
#[derive(Clone)]
pub struct LedgerShared(Rc<RefCell<Ledger>>);

impl LedgerShared {
    /// Returns whether the state should be frozen after a tick: at milestones always, else when no other checkpoint is under way and it
    /// is time, or somebody asked for it.
    pub fn wants_checkpoint(&self, occasion: Occasion, now: Instant) -> bool {
        let schedule = &mut self.0.borrow_mut().schedule;
        let pause = schedule.every.max(schedule.cost * CHECKPOINT_SHARE);
        let passed = now.saturating_duration_since(schedule.ended);
        let due = match occasion {
            Occasion::Milestone => true,
            Occasion::Asked => schedule.open == 0,
            Occasion::Time => schedule.open == 0 && passed >= pause,
            Occasion::Quiet => schedule.open == 0 && passed >= pause.max(QUIET_CHECKPOINT),
        };
        schedule.open += usize::from(due);
        due
    }
}

/// Starts the ledger: with the log's thread on worker 0, empty elsewhere.
pub fn shared(build: &Build<'_>, setup: &Setup) -> Result<LedgerShared, EngineError> {
    let mut log = None;
    if build.worker == 0 {
        let journal = setup.journal.lock().expect("the journal is only taken out").take();
        log = Some(start_log(build, journal.expect("worker 0 is built once"))?);
    }
    let recovery = &setup.recovery;
    let ledger = Ledger {
        log,
        ticks_done: VecDeque::new(),
        checkpoints_done: VecDeque::new(),
        durable: recovery.entries.last().map_or(build.start.tick, |entry| entry.record.tick),
        complete: build.start.tick,
        schedule: Schedule {
            every: setup.checkpoint_every,
            open: 0,
            ended: build.control.pace().now(),
            cost: Duration::ZERO,
        },
        history: History {
            in_flight: usize::try_from(build.graph.ticks.in_flight).unwrap_or(usize::MAX),
            before: recovery.before.clone(),
            recent: recovery.recent.iter().cloned().collect(),
            balance: recovery.balance.clone(),
            kept: BTreeMap::new(),
        },
    };
    Ok(LedgerShared(Rc::new(RefCell::new(ledger))))
}

fn start_log(build: &Build<'_>, mut journal: Box<dyn Journal>) -> Result<Background<Request, Reply>, EngineError> {
    let threads = build.control.clone();
    let (append, publish) = (build.meter.act(ActKind::Append, 0, 0), build.meter.act(ActKind::Publish, 0, 0));
    let meter = build.meter.clone();
    let work = move |request| match request {
        Request::Ticks(entries) => {
            let _appending = append.begin();
            let appended = journal.append_ticks(&entries);
            if appended.is_ok() {
                meter.appended(entries.len());
            }
            Reply::Ticks(appended)
        }
        Request::Checkpoint(parts) => {
            let _publishing = publish.begin();
            Reply::Checkpoint(journal.append_checkpoint(*parts))
        }
    };
    let pace = build.control.pace().as_ref();
    Background::start(pace, "log", work, move || threads.answered()).map_err(EngineError::thread)
}

impl Ledger {
    /// Sorts the answers of the log by who waits for them.
    fn poll(&mut self) -> Result<(), EngineError> {
        let Some(log) = &self.log else { return Ok(()) };
        while let Some(reply) = log.reply().map_err(|_| EngineError::Panic("log".into()))? {
            match reply {
                Reply::Ticks(result) => self.ticks_done.push_back(result),
                Reply::Checkpoint(result) => self.checkpoints_done.push_back(result),
            }
        }
        Ok(())
    }

    /// Returns the last tick of a job that has come to the end of its input.
    fn last(&self) -> Option<Tick> {
        self.history.recent.back().filter(|record| record.last).map(|record| record.tick)
    }

    /// Returns whether all up to `end`, after which nothing follows, is known, and no checkpoint of it is under way.
    fn has_ended(&self, end: Tick) -> bool {
        self.complete >= end && self.schedule.open == 0
    }

    fn request(&self, request: Request) {
        self.log.as_ref().expect("only worker 0 writes to the log").request(request);
    }
}

impl History {
    /// Goes on by a tick; remembers where the job stands if that tick is to be a checkpoint.
    fn push(&mut self, entry: &JournalEntry, checkpoint: bool) {
        self.recent.push_back(entry.record.clone());
        if self.recent.len() > self.in_flight {
            let oldest = self.recent.pop_front().expect("just pushed");
            self.before.apply(&oldest);
        }
        for (name, counts) in &entry.balance {
            *self.balance.entry(name.clone()).or_default() += *counts;
        }
        if checkpoint {
            let recent = self.recent.iter().cloned().collect();
            let (before, balance) = (self.before.clone(), self.balance.clone());
            self.kept.insert(entry.record.tick, Kept { before, recent, balance });
        }
    }
}

/// The ticks that the ledger is gathering.
struct Gathering {
    names: Vec<String>,
    sinks: Vec<String>,
    reports: BTreeMap<Tick, Reported>,
    records: BTreeMap<Tick, TickRecord>,
    bytes: u64,
    recorded: VecDeque<JournalEntry>,
    next: Tick,
    /// Complete and not yet durable.
    waiting: Vec<JournalEntry>,
}

impl Gathering {
    fn report(&mut self, tick: Tick, report: Report) {
        let Reported { counts, lanes } = self.reports.entry(tick).or_default();
        match report {
            Report::Counts(place, more) => *counts.entry(place).or_default() += more,
            Report::Lane(digest, bytes) => {
                self.bytes += bytes;
                lanes.insert((digest.sink, digest.lane), digest);
            }
        }
    }

    /// Returns the entry of the next tick; all its reports are in.
    fn complete(&mut self, record: TickRecord) -> Result<(JournalEntry, Repetition), EngineError> {
        let Reported { counts, lanes } = self.reports.remove(&record.tick).unwrap_or_default();
        let balance = counts.into_iter().map(|(place, counts)| (self.names[place as usize].clone(), counts)).collect();
        let entry = JournalEntry { record, lanes: lanes.into_values().collect(), balance };
        self.next += 1;
        let Some(recorded) = self.recorded.pop_front() else { return Ok((entry, Repetition::New)) };
        if recorded.lanes == entry.lanes {
            return Ok((entry, Repetition::Same));
        }
        let differs =
            |a: &[LaneDigest], b: &[LaneDigest]| a.iter().find(|lane| !b.contains(lane)).map(|lane| lane.sink as usize);
        let sink = differs(&recorded.lanes, &entry.lanes).or_else(|| differs(&entry.lanes, &recorded.lanes));
        let what = format!("sink `{}`", sink.map_or("?", |sink| &self.sinks[sink]));
        Err(EngineError::NotDeterministic { what, tick: entry.record.tick })
    }
}

/// Whether a tick was in the journal before.
#[derive(PartialEq, Eq)]
enum Repetition {
    New,
    Same,
}

/// Gathers ticks on worker 0, appends them to the journal, and tells all workers what is durable.
pub fn ledger<'s>(
    build: &Build<'s>,
    setup: &Setup,
    records: RecordStream<'s>,
    reports: ReportStream<'s>,
    shared: LedgerShared,
) -> DurableStream<'s> {
    let mut builder = OperatorBuilder::new("ledger".to_owned(), build.scope);
    let mut records = builder.new_input(records, Pipeline);
    let mut reports = builder.new_input(reports, Exchange::new(|_: &Report| 0));
    let (durable, durable_stream) = builder.new_output::<Vec<Tick>>();
    let mut durable = OutputBuilder::<Tick, CapacityContainerBuilder<Vec<Tick>>>::from(durable);
    let address = builder.operator_info().address;
    let timer = build.scope.activator_for(address.clone());
    if build.worker == 0 {
        build.control.on_answer(build.scope.worker().sync_activator_for(address.to_vec()));
    }
    let (own, control, observer) = (build.worker == 0, build.control.clone(), build.observer.clone());
    let mut gathering = gathering(build, setup);
    let (meter, at) = (build.meter.clone(), build.meter.part(build.worker, meter::Part::Ledger));
    let mut appends = Appends { every: build.commit_every, last: None, under_way: None, announced: build.start.tick };
    builder.build(move |capabilities| {
        // What is durable is told outside of time: nothing waits for this stream's frontier.
        let always = own.then(|| capabilities[0].clone());
        drop(capabilities);
        move |frontiers| {
            records.for_each(|_, records| {
                gathering.records.extend(records.drain(..).map(|record| (record.tick, record)));
            });
            reports.for_each(|time, reports| reports.drain(..).for_each(|r| gathering.report(*time.time(), r)));
            let (Some(always), false) = (&always, control.failed()) else { return };
            let mut ledger = shared.0.borrow_mut();
            let turn = (|| {
                while gathering.records.contains_key(&gathering.next)
                    && !frontiers.iter().any(|frontier| frontier.less_equal(&gathering.next))
                {
                    let record = gathering.records.remove(&gathering.next).expect("just seen");
                    let checkpoint = record.checkpoint;
                    let (entry, repetition) = gathering.complete(record)?;
                    observer.complete(&entry);
                    control.complete(entry.record.tick);
                    ledger.complete = entry.record.tick;
                    at.reached(gathering.next);
                    if checkpoint {
                        meter.checkpoint_begun(entry.record.tick);
                    }
                    ledger.history.push(&entry, checkpoint);
                    if repetition == Repetition::New {
                        gathering.waiting.push(entry);
                    }
                }
                ledger.poll()?;
                let upto = appends.turn(&mut ledger, &mut gathering, &control, &timer)?;
                control.log_is_behind(gathering.waiting.len() >= APPEND_TICKS);
                Ok(upto)
            })();
            match turn {
                Err(error) => control.fail(error),
                Ok(upto) if upto > appends.announced => {
                    appends.announced = upto;
                    durable.activate().session(always).give(upto);
                }
                Ok(_) => {}
            }
        }
    });
    if build.workers == 1 { durable_stream } else { durable_stream.broadcast() }
}

fn gathering(build: &Build<'_>, setup: &Setup) -> Gathering {
    let graph = &build.graph;
    let sources = graph.sources.iter().map(|source| source.name.clone());
    if build.worker == 0
        && let (Some(first), Some(last)) = (setup.recovery.entries.first(), setup.recovery.entries.last())
    {
        Repeated { from: first.record.tick, to: last.record.tick }.log();
    }
    Gathering {
        names: sources.chain(graph.steps.iter().map(|step| step.name.clone())).collect(),
        sinks: graph.sinks.iter().map(|sink| sink.name.clone()).collect(),
        reports: BTreeMap::new(),
        records: BTreeMap::new(),
        bytes: 0,
        recorded: setup.recovery.entries.iter().filter(|_| build.worker == 0).cloned().collect(),
        next: build.start.tick + 1,
        waiting: Vec::new(),
    }
}

/// Groups appends: one durable write per commit.
struct Appends {
    every: Duration,
    last: Option<Instant>,
    under_way: Option<Tick>,
    announced: Tick,
}

impl Appends {
    /// Starts an append if one is due, and returns the tick up to which sinks may commit.
    fn turn(
        &mut self,
        ledger: &mut Ledger,
        gathering: &mut Gathering,
        control: &super::Control,
        timer: &Activator,
    ) -> Result<Tick, EngineError> {
        let now = control.pace().now();
        if let Some(upto) = self.under_way
            && let Some(result) = ledger.ticks_done.pop_front()
        {
            result.map_err(EngineError::Journal)?;
            self.under_way = None;
            ledger.durable = upto;
        }
        // Repeated ticks are durable already; they may be committed as soon as they are found to be the same.
        let complete = gathering.next - 1;
        let Some(last) = gathering.waiting.last() else { return Ok(ledger.durable.min(complete)) };
        let age = self.last.map(|last| now.saturating_duration_since(last));
        let due = last.record.last
            || control.stopping()
            || gathering.bytes >= COMMIT_BYTES
            || gathering.waiting.len() >= APPEND_TICKS
            || age.is_none_or(|age| age >= self.every);
        if self.under_way.is_none() {
            if due {
                self.under_way = Some(last.record.tick);
                self.last = Some(now);
                gathering.bytes = 0;
                ledger.request(Request::Ticks(std::mem::take(&mut gathering.waiting)));
            } else if let Some(age) = age {
                timer.activate_after(control.pace().sleep(self.every.saturating_sub(age)));
            }
        }
        Ok(ledger.durable.min(complete))
    }
}

/// Checkpoints whose parts are being gathered.
struct Publishing {
    parts: BTreeMap<Tick, Written>,
    /// By (sink, lane): how far it has come, its token, and whether the sink has tokens.
    lanes: BTreeMap<(u32, u32), (Tick, Option<Tick>, bool)>,
    under_way: Option<UnderWay>,
    meter: Arc<Meter>,
}

/// What all workers wrote for a checkpoint, and what it cost them.
#[derive(Default)]
struct Written {
    files: Vec<StateFile>,
    pause_micros: u64,
    cpu_micros: u64,
}

/// A checkpoint whose record is being appended.
struct UnderWay {
    tick: Tick,
    finished: bool,
    pause: Duration,
    files: Vec<StateFile>,
}

impl UnderWay {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Publishing {
    fn covered(&self, tick: Tick) -> bool {
        self.lanes.values().all(|(covered, _, _)| *covered >= tick)
    }

    fn tokens(&self) -> Vec<LaneToken> {
        let held = self.lanes.iter().filter(|(_, (_, _, promised))| *promised);
        held.filter_map(|((sink, lane), (_, token, _))| Some(LaneToken { sink: *sink, lane: *lane, tick: (*token)? }))
            .collect()
    }
}

/// Publishes checkpoints on worker 0: when all parts are written, the journal covers them, and every lane does.
pub fn checkpoints<'s>(
    build: &Build<'s>,
    setup: &Setup,
    parts: PartStream<'s>,
    covered: CoveredStream<'s>,
    shared: LedgerShared,
) {
    let mut builder = OperatorBuilder::new("checkpoints".to_owned(), build.scope);
    let mut parts = builder.new_input(parts, Exchange::new(|_: &Part| 0));
    let mut covered = builder.new_input(covered, Exchange::new(|_: &Covered| 0));
    let address = builder.operator_info().address;
    if build.worker == 0 {
        build.control.on_answer(build.scope.worker().sync_activator_for(address.to_vec()));
    }
    let mut publishing = publishing(build, setup);
    let (own, control, workers) = (build.worker == 0, build.control.clone(), build.own.len());
    let recovery = &setup.recovery;
    let newest = recovery.entries.last().map_or(build.start.tick, |entry| entry.record.tick);
    let end = (recovery.then != Then::GoOn).then_some(newest);
    builder.build(move |_| {
        move |frontiers| {
            parts.for_each(|time, parts| {
                let written = publishing.parts.entry(*time.time()).or_default();
                for part in parts.drain(..) {
                    written.files.extend(part.files);
                    written.pause_micros += part.pause_micros;
                    written.cpu_micros += part.cpu_micros;
                }
            });
            covered.for_each(|_, news| {
                for Covered { sink, lane, tick, token } in news.drain(..) {
                    match publishing.lanes.get_mut(&(sink, lane)) {
                        Some(known) => (known.0, known.1) = (tick, token),
                        None => control
                            .fail(WireError(format!("it is of lane {lane} of sink {sink}, which nobody holds")).into()),
                    }
                }
            });
            if !own || control.ended() {
                return;
            }
            let written = frontiers[0].frontier().first().copied().unwrap_or(Tick::MAX);
            let mut ledger = shared.0.borrow_mut();
            match publishing.turn(&mut ledger, written, &control) {
                Ok(true) => control.finish(),
                Ok(false) if end.is_some_and(|end| ledger.has_ended(end) && publishing.covered(end)) => {
                    control.finish()
                }
                Ok(false) => {
                    let stopped = (control.stopping() && control.all_quiet(workers)).then(|| control.ahead());
                    let last = stopped.or(end).or_else(|| ledger.last());
                    let Some(last) = last.filter(|last| ledger.durable >= *last) else { return };
                    if !publishing.covered(last) {
                        control.want(last);
                    } else if stopped.is_some() && ledger.schedule.open == 0 {
                        control.finish();
                    }
                }
                Err(error) => control.fail(error),
            }
        }
    });
}

fn publishing(build: &Build<'_>, setup: &Setup) -> Publishing {
    let tokens = setup.lanes_known.iter();
    let sinks = &build.graph.sinks;
    let lane = |(place, token): (&(u32, u32), &Option<Tick>)| {
        let promised = sinks[place.0 as usize].sink.promise() == Promise::ExactlyOnce;
        (*place, (build.start.tick, *token, promised))
    };
    Publishing {
        parts: BTreeMap::new(),
        lanes: tokens.map(lane).collect(),
        under_way: None,
        meter: build.meter.clone(),
    }
}

impl Publishing {
    /// Goes on with the oldest open checkpoint. Returns true once the last one of a finished job is published.
    fn turn(&mut self, ledger: &mut Ledger, written: Tick, control: &super::Control) -> Result<bool, EngineError> {
        ledger.poll()?;
        if self.under_way.is_some()
            && let Some(result) = ledger.checkpoints_done.pop_front()
            && let Some(done) = self.under_way.take()
        {
            result.map_err(EngineError::Journal)?;
            let kept = ledger.history.kept.remove(&done.tick);
            let rows = kept.map_or(0, |kept| kept.balance.values().map(|counts| counts.input).sum());
            self.meter.checkpoint_published(done.tick, done.files.len(), done.bytes(), rows);
            control.published(done.tick, &done.files);
            ledger.schedule.open -= 1;
            ledger.schedule.ended = control.pace().now();
            ledger.schedule.cost = done.pause;
            if done.finished {
                return Ok(true);
            }
        }
        let Some(tick) = ledger.history.kept.keys().next().copied() else { return Ok(false) };
        if self.under_way.is_some() || tick >= written || ledger.durable < tick || !self.covered(tick) {
            return Ok(false);
        }
        let Kept { before, recent, balance } = ledger.history.kept[&tick].clone();
        let Written { files, pause_micros, cpu_micros } = self.parts.remove(&tick).unwrap_or_default();
        let finished = recent.last().is_some_and(|record| record.last);
        let pause = Duration::from_micros(pause_micros);
        let under_way = UnderWay { tick, finished, pause, files: files.clone() };
        Checkpointed { tick, files: files.len(), bytes: under_way.bytes() }.log();
        self.under_way = Some(under_way);
        let tokens = self.tokens();
        let parts =
            CheckpointParts { tick, before, recent, files, tokens, balance, finished, pause_micros, cpu_micros };
        ledger.request(Request::Checkpoint(Box::new(parts)));
        Ok(false)
    }
}
