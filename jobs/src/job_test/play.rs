//! Plays a case: the job on the rows given, once as given and then as it may as well happen, each time on the real engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use riverrun_connectors::format::{Column, CsvOptions, FormatSpec, RowSchema, decoder};
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::engine::{Control, Observer};
use riverrun_dataflow::graph::Make;
use riverrun_dataflow::schema::Hidden;
use riverrun_dataflow::sink::{Promise, TickRows};
use riverrun_dataflow::source::{Chunk, DecodeContext, Decoded, Decoder, Numbering, Payload, Records};
use riverrun_dataflow::tick::Tick;
use riverrun_state::{Location, Retention, Store};

use super::arrival::{Arrival, Dice, Facts, SourceRows, as_given, shuffled};
use super::compare;
use super::file::{Case, TestFile};
use super::memory::{MemorySink, MemorySource};
use super::{CaseResult, Failure, rewrite};
use crate::connect::{Connected, OpenSink, OpenSource};
use crate::plan::{Plan, PlannedSource};
use crate::run::{Ended, Ground, RunError, RunOptions, run_on};

/// What is left to chance.
#[derive(Clone, Copy, Debug)]
pub struct Chances {
    /// The seed of the first shuffled play.
    pub first_seed: u64,
    /// How many shuffled plays there are, each with the seed after the last one's.
    pub shuffles: u64,
}

impl Default for Chances {
    fn default() -> Self {
        Chances { first_seed: 1, shuffles: 3 }
    }
}

/// A job with many ticks is not stopped after each, but after so many of them.
const STOPS_MAX: usize = 6;

/// How a play is staged.
struct Stage<'a> {
    arrival: &'a Arrival,
    /// Workers of the first life, of the second, and so on in a circle.
    workers: Vec<usize>,
    /// The ticks after which the job is stopped and started again, ascending.
    stops: Vec<Tick>,
}

impl<'a> Stage<'a> {
    /// Returns the stage of the play as given.
    fn plain(arrival: &'a Arrival) -> Stage<'a> {
        Stage { arrival, workers: vec![1], stops: Vec::new() }
    }
}

/// The name of the first play.
const AS_GIVEN: &str = "as given";

/// What came of a play.
#[derive(Debug, Default)]
pub struct Played {
    /// The rows of each tap.
    pub taps: Vec<Vec<TickRows>>,
    /// The balance at the end.
    pub balance: BTreeMap<String, Counts>,
    /// For each source by name, the number as given of the rows in the order in which they arrived.
    pub orders: BTreeMap<String, Vec<usize>>,
}

/// Why a play did not come to its end.
#[derive(Debug)]
pub struct Broken {
    /// What was said.
    pub reason: String,
    /// The exit code that the job would have; none: it is the play that went wrong.
    pub exit: Option<u8>,
}

impl From<String> for Broken {
    fn from(reason: String) -> Broken {
        Broken { reason, exit: None }
    }
}

/// Plays a case in every way that it asks for.
pub fn case(file: &TestFile, case: &Case, chances: &Chances) -> CaseResult {
    let place = file.place(case.name.span);
    let mut result =
        CaseResult { name: case.name.value.clone(), place, plays: 0, failures: Vec::new(), came: Vec::new() };
    let theatre = Theatre::new(file, case);
    let given = as_given(&theatre.rows);
    if let Some(wanted) = &case.fails {
        theatre.fail(&given, chances, |play, played| {
            result.plays += 1;
            result.failures.extend(wanted.held_against(file, play, played));
            result.failures.is_empty()
        });
        return result;
    }
    let stage = Stage::plain(&given);
    result.plays += 1;
    let first = match theatre.play(&stage) {
        Ok(played) => played,
        Err(stopped) => {
            result.failures.push(broken(AS_GIVEN, stopped));
            return result;
        }
    };
    let seen = compare::seen(file, case, &first);
    result.failures = compare::expected(file, case, &first, &seen);
    if !result.failures.is_empty() {
        result.came = rewrite::came(case, &first, &seen);
        return result;
    }
    for (name, stage) in theatre.same(&given) {
        result.plays += 1;
        match theatre.play(&stage) {
            Ok(played) => result.failures.extend(compare::same(file, case, &name, (&first, &seen), &played)),
            Err(stopped) => result.failures.push(broken(&name, stopped)),
        }
    }
    for (name, seed) in theatre.seeds(chances) {
        result.plays += 1;
        let arrival = shuffled(&theatre.rows, seed);
        match theatre.play(&theatre.shuffled(&arrival, seed)) {
            Ok(played) => result.failures.extend(compare::settled(file, case, &name, (&first, &seen), &played)),
            Err(stopped) => result.failures.push(broken(&name, stopped)),
        }
    }
    result
}

fn broken(play: &str, stopped: Broken) -> Failure {
    let message = stopped.reason;
    Failure { play: play.to_owned(), about: None, place: None, message, rows: Vec::new(), table: String::new() }
}

/// A job with the rows of a case, ready to be played.
struct Theatre<'a> {
    plan: Plan,
    own_sinks: usize,
    case: &'a Case,
    /// The rows of each source of the plan.
    rows: Vec<SourceRows>,
    /// Their records, as given.
    records: Vec<Vec<String>>,
    decoders: Vec<Make<dyn Decoder>>,
}

impl<'a> Theatre<'a> {
    fn new(file: &TestFile, case: &'a Case) -> Theatre<'a> {
        let mut plan = file.plan.clone();
        let settings = &mut plan.settings;
        // One tick at a time: who stops the job in one knows which is the last.
        settings.ticks.in_flight = 1;
        settings.commit_every = Duration::ZERO;
        settings.checkpoint_every = Duration::MAX;
        let (mut rows, mut records, mut decoders) = (Vec::new(), Vec::new(), Vec::new());
        for source in &plan.sources {
            let rank = case.given.iter().position(|given| given.source == source.name);
            let given = rank.map(|rank| case.given[rank].records.clone()).unwrap_or_default();
            let max_disorder = i64::try_from(source.max_disorder.as_micros()).unwrap_or(i64::MAX);
            rows.push(SourceRows { rank: rank.unwrap_or(usize::MAX), max_disorder, rows: facts(source, &given) });
            records.push(given);
            decoders.push(decoder_of(source, (*source.schema).clone()));
        }
        Theatre { plan, own_sinks: file.own_sinks, case, rows, records, decoders }
    }

    /// Returns the plays in the order given that must give the same bytes: with more workers, and with restarts.
    fn same<'s>(&self, given: &'s Arrival) -> Vec<(String, Stage<'s>)> {
        let switches = self.case.switches;
        let mut all = Vec::new();
        if switches.workers > 1 {
            let stage = Stage { arrival: given, workers: vec![switches.workers], stops: Vec::new() };
            all.push((format!("with {} workers", switches.workers), stage));
        }
        let last = given.ticks.len();
        let stops: Vec<Tick> = match last.saturating_sub(1) {
            few if few <= STOPS_MAX => (1..last as Tick).collect(),
            many => (1..=STOPS_MAX).map(|stop| (stop * many / STOPS_MAX) as Tick).collect(),
        };
        if switches.restart && !stops.is_empty() {
            let shown: Vec<String> = stops.iter().map(Tick::to_string).collect();
            let name = format!("restarted after ticks {}", shown.join(", "));
            let workers = if switches.workers > 1 { vec![1, switches.workers] } else { vec![1] };
            all.push((name, Stage { arrival: given, workers, stops }));
        }
        all
    }

    /// Returns the names of the shuffled plays, with their seeds.
    fn seeds(&self, chances: &Chances) -> impl Iterator<Item = (String, u64)> + use<> {
        let count = if self.case.switches.shuffle { chances.shuffles } else { 0 };
        let seeds = chances.first_seed..chances.first_seed.saturating_add(count);
        seeds.map(|seed| (format!("shuffled (--seed {seed})"), seed))
    }

    /// Plays a job that should fail in every way, until `is_right` says that one went wrong.
    fn fail(&self, given: &Arrival, chances: &Chances, mut is_right: impl FnMut(&str, Result<Played, Broken>) -> bool) {
        if !is_right(AS_GIVEN, self.play(&Stage::plain(given))) {
            return;
        }
        for (name, stage) in self.same(given) {
            if !is_right(&name, self.play(&stage)) {
                return;
            }
        }
        for (name, seed) in self.seeds(chances) {
            let arrival = shuffled(&self.rows, seed);
            if !is_right(&name, self.play(&self.shuffled(&arrival, seed))) {
                return;
            }
        }
    }

    /// Returns the stage of a shuffled play: with one restart somewhere, and with another number of workers after it.
    fn shuffled<'s>(&self, arrival: &'s Arrival, seed: u64) -> Stage<'s> {
        let mut dice = Dice::new(!seed);
        let between = arrival.ticks.len() as u64 - 1;
        let restart = self.case.switches.restart && between > 0;
        let stops = if restart { vec![1 + dice.below(between)] } else { Vec::new() };
        let mut workers = vec![1, self.case.switches.workers];
        workers.rotate_left(usize::from(seed.is_multiple_of(2)));
        Stage { arrival, workers, stops }
    }

    /// Plays the job once.
    fn play(&self, stage: &Stage<'_>) -> Result<Played, Broken> {
        let store = Store::memory();
        let sinks: Vec<MemorySink> = self.plan.sinks.iter().map(|_| MemorySink::default()).collect();
        let records: Vec<Arc<Vec<String>>> = self
            .records
            .iter()
            .zip(&stage.arrival.orders)
            .map(|(records, order)| Arc::new(order.iter().map(|index| records[*index].clone()).collect()))
            .collect();
        let mut balance = BTreeMap::new();
        let mut from: Tick = 0;
        for life in 0..=stage.stops.len() {
            let control = Control::new();
            let stop = stage.stops.get(life).copied();
            if stop == Some(from + 1) {
                control.stop();
            }
            let connected = self.connect(&records, &sinks, stage.arrival, stop.map(|tick| (tick, control.clone())))?;
            let ground = Ground { connected, store: store.clone(), retention: Retention::default() };
            let workers = stage.workers[life % stage.workers.len()];
            // The store is given; the location is only where a store would be opened.
            let state = Location::Folder(std::path::PathBuf::new());
            let options = RunOptions { state, workers, fresh: false, append: false };
            let outcome = run_on(&self.plan, ground, &options, control, Arc::new(Observer::default()));
            let failed = |error: RunError| Broken { reason: error.to_string(), exit: Some(error.exit_code()) };
            let outcome = outcome.map_err(failed)?;
            balance = outcome.snapshot.balance;
            match (outcome.ended, stop) {
                (Ended::Finished, None) => break,
                (Ended::Stopped, Some(stop)) if outcome.snapshot.tick == stop => from = stop,
                (ended, _) => {
                    return Err(format!("the job ended as {ended:?} after tick {}", outcome.snapshot.tick).into());
                }
            }
        }
        let taken = |sink: &MemorySink| std::mem::take(&mut sink.0.lock().expect("the job is over").ticks);
        let orders = self.plan.sources.iter().zip(&stage.arrival.orders);
        Ok(Played {
            taps: sinks[self.own_sinks..].iter().map(taken).collect(),
            balance,
            orders: orders.map(|(source, order)| (source.name.clone(), order.clone())).collect(),
        })
    }

    /// Opens all places in memory. `stop`: the job stops after that tick.
    fn connect(
        &self,
        records: &[Arc<Vec<String>>],
        sinks: &[MemorySink],
        arrival: &Arrival,
        stop: Option<(Tick, Arc<Control>)>,
    ) -> Result<Connected, String> {
        // Whoever reads in the tick before the last one says that it is.
        let before_last = stop.as_ref().and_then(|(tick, _)| usize::try_from(tick.saturating_sub(1)).ok());
        let positions = arrival.positions_before(before_last.unwrap_or(0));
        let source = |(index, planned): (usize, &PlannedSource)| {
            let stop = positions[index].zip(stop.as_ref().map(|(_, control)| control.clone()));
            let source = MemorySource { name: planned.name.clone(), records: records[index].clone(), stop };
            OpenSource {
                name: planned.name.clone(),
                source: Arc::new(source),
                decoder: self.decoders[index].clone(),
                bounded: true,
                fixed: true,
            }
        };
        let mut opened = Vec::new();
        for (planned, sink) in self.plan.sinks.iter().zip(sinks) {
            let encoder = planned.encoder().map_err(|fault| fault.message)?;
            let (name, sink) = (planned.name.clone(), Arc::new(sink.clone()));
            opened.push(OpenSink { name, sink, encoder, lanes: 1, promise: Promise::ExactlyOnce });
        }
        let sources = self.plan.sources.iter().enumerate().map(source).collect();
        Ok(Connected { sources, sinks: opened, cut: Some(arrival.cut()) })
    }
}

/// Returns the decoder of a source's records; each of them stands alone, in a file or not.
fn decoder_of(source: &PlannedSource, schema: RowSchema) -> Make<dyn Decoder> {
    let format = match &source.format {
        FormatSpec::Csv(options) => FormatSpec::Csv(CsvOptions { header: false, ..options.clone() }),
        // What no person can write is given as what it would be in JSON.
        _ => FormatSpec::Json,
    };
    // What is around a record stands in the rows of a test beside all else.
    let columns = schema.columns.into_iter().map(|column| Column { meta: None, ..column }).collect();
    let schema = RowSchema { columns, drop_tombstones: false, ..schema };
    decoder(&format, Arc::new(schema)).expect("the schema was checked with the job")
}

/// Returns event time and id of each record, as the source's own decoder sees them.
fn facts(source: &PlannedSource, records: &[String]) -> Vec<Facts> {
    let declared = &source.schema;
    let mut hidden = vec![Hidden::Position];
    hidden.extend(declared.event_time.is_some().then_some(Hidden::Time));
    hidden.extend(declared.id.is_some().then_some(Hidden::Id));
    // The columns in use stay in use: a row that is bad for one of them moves no watermark.
    let schema = RowSchema { hidden, ..(**declared).clone() };
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    for record in records {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(record.as_bytes());
        ranges.push((start, bytes.len() as u32));
    }
    let payload = Payload::Records(Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Ordinal });
    let chunk = Chunk { from: 0, to: records.len() as u64, payload };
    let mut decoded = Decoded::default();
    let context = DecodeContext { split: 0, name: String::new(), accept: source.event_times.clone() };
    decoder_of(source, schema)().decode(&chunk, &context, &mut decoded);
    let mut facts = vec![Facts::default(); records.len()];
    for batch in &decoded.batches {
        compare::facts_of(batch, &mut facts);
    }
    facts
}
