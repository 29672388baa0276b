//! Sinks on the dataflow: rows are encoded where they are, merged into canonical order by their lane, and committed by a
//! thread of their own once the journal covers them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator as _;
use timely::progress::frontier::Antichain;
use xxhash_rust::xxh3::xxh3_64;

use super::background::Background;
use super::build::{BatchStream, Build, ReportStream};
use super::message::{Covered, Encoded, Merged, Report};
use super::meter::Part;
use super::meter::act::ActKind;
use super::{EngineError, Setup};
use crate::graph::{Graph, SinkNode};
use crate::journal::LaneDigest;
use crate::key::{Keys, hash_of_split, lane_of, shard_of};
use crate::partitioner::{Partitioner, murmur2_lane};
use crate::schema::Hidden;
use crate::sink::{EncodedRows, Encoder, Lane, Reached, SinkError, TickRows, Urgency};
use crate::tick::Tick;

/// Bytes that the lanes of a worker may hold uncommitted before its sources wait. Less in the tests of this crate, which would
/// take long to write so much.
pub const PENDING_BYTES_MAX: usize = if cfg!(test) { 1024 * 1024 } else { 64 * 1024 * 1024 };

/// Lanes of a worker that are committed at the same time.
const COMMITS_TOGETHER: usize = 16;

type EncodedStream<'s> = Stream<'s, Tick, Vec<Encoded>>;
type MergedStream<'s> = Stream<'s, Tick, Vec<Merged>>;
pub type CoveredStream<'s> = Stream<'s, Tick, Vec<Covered>>;
pub type DurableStream<'s> = Stream<'s, Tick, Vec<Tick>>;

/// Encodes the rows of a sink.
pub fn encode<'s>(build: &Build<'s>, index: usize, rows: BatchStream<'s>) -> EncodedStream<'s> {
    let node = &build.graph.sinks[index];
    let mut encoder = (node.encoder)();
    let mut placing = Placing::new(&build.graph, node);
    let (control, name) = (build.control.clone(), node.name.clone());
    let meter = build.meter.part(build.worker, Part::Encode(index));
    type Encodeds = CapacityContainerBuilder<Vec<Encoded>>;
    rows.unary::<Encodeds, _, _, _>(Pipeline, &format!("encode {name}"), move |_, _| {
        move |input, output| {
            input.for_each(|time, batch| {
                let Some(rows) = control.received(batch.take()) else { return };
                let _encoding = meter.enter();
                meter.got_on();
                match placing.encode(encoder.as_mut(), &rows) {
                    Ok(encoded) => output.session(&time).give_iterator(encoded.into_iter()),
                    Err(error) => control.fail(EngineError::Sink { sink: name.clone(), error }),
                }
            });
        }
    })
}

/// Finds the lanes of rows.
struct Placing {
    lanes: u32,
    partitioner: Partitioner,
    shards: u16,
    key: Option<Vec<usize>>,
    keys: Keys,
    splits: BTreeMap<u32, u64>,
}

/// The rows of each lane of a batch; `None`: all rows are of lane 0.
type LaneRows = Option<BTreeMap<u32, Vec<u32>>>;

impl Placing {
    fn new(graph: &Graph, node: &SinkNode) -> Placing {
        let splits = graph.sources.iter().flat_map(|source| {
            source.splits.iter().map(|split| (split.id, hash_of_split(&source.name, &split.spec.name)))
        });
        let (lanes, key) = (node.lanes, node.key.clone());
        let (partitioner, shards) = (node.partitioner, graph.shards);
        Placing { lanes, partitioner, shards, key, keys: Keys::default(), splits: splits.collect() }
    }

    /// Encodes rows, each for its lane.
    fn encode(&mut self, encoder: &mut dyn Encoder, rows: &RecordBatch) -> Result<Vec<Encoded>, SinkError> {
        match self.partitioner {
            Partitioner::Murmur2 if self.lanes > 1 => Ok(by_key_bytes(encode_lane(encoder, 0, rows)?, self.lanes)),
            _ => encode_lanes(encoder, rows, self.place(rows)?),
        }
    }

    fn place(&mut self, rows: &RecordBatch) -> Result<LaneRows, SinkError> {
        if self.lanes == 1 {
            return Ok(None);
        }
        let lane = |hash: u64| lane_of(shard_of(hash, self.shards), self.shards, self.lanes);
        let mut lanes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut add = |row: usize, hash: u64| lanes.entry(lane(hash)).or_default().push(row as u32);
        if let Some(key) = &self.key {
            let failed = |error| SinkError::Refused(format!("cannot encode keys: {error}"));
            self.keys.refill(rows, key).map_err(failed)?;
            self.keys.hashes.iter().enumerate().for_each(|(row, hash)| add(row, *hash));
        } else if let Some(hashes) = rows.column_by_name(Hidden::Hash.name()) {
            let hashes = hashes.as_primitive::<UInt64Type>();
            hashes.values().iter().enumerate().for_each(|(row, hash)| add(row, *hash));
        } else if let Some(splits) = rows.column_by_name(Hidden::Split.name()) {
            let splits = splits.as_primitive::<UInt32Type>();
            let hash = |split: &u32| self.splits.get(split).copied().unwrap_or_default();
            splits.values().iter().enumerate().for_each(|(row, split)| add(row, hash(split)));
        } else {
            (0..rows.num_rows()).for_each(|row| add(row, 0));
        }
        Ok(Some(lanes))
    }
}

fn encode_lanes(encoder: &mut dyn Encoder, rows: &RecordBatch, lanes: LaneRows) -> Result<Vec<Encoded>, SinkError> {
    let Some(lanes) = lanes else { return Ok(vec![encode_lane(encoder, 0, rows)?]) };
    let mut encoded = Vec::with_capacity(lanes.len());
    for (lane, picked) in lanes {
        let picked = take_record_batch(rows, &UInt32Array::from(picked))
            .map_err(|error| SinkError::Refused(format!("cannot pick the rows of a lane: {error}")))?;
        encoded.push(encode_lane(encoder, lane, &picked)?);
    }
    Ok(encoded)
}

/// Deals encoded rows out to the lanes that the bytes of their keys choose; a row without a key is of lane 0.
fn by_key_bytes(whole: Encoded, lanes: u32) -> Vec<Encoded> {
    let mut parts: BTreeMap<u32, Encoded> = BTreeMap::new();
    for row in 0..whole.rows.len() {
        let lane = whole.rows.key_value(row).0.map_or(0, |key| murmur2_lane(key, lanes));
        let empty = || Encoded { lane, rows: EncodedRows::default(), times: Vec::new(), hashes: Vec::new() };
        let part = parts.entry(lane).or_insert_with(empty);
        part.rows.push_row(&whole.rows, row);
        part.times.push(whole.times[row]);
        part.hashes.push(whole.hashes[row]);
    }
    parts.into_values().collect()
}

fn encode_lane(encoder: &mut dyn Encoder, lane: u32, batch: &RecordBatch) -> Result<Encoded, SinkError> {
    let mut rows = EncodedRows::default();
    encoder.encode(batch, &mut rows)?;
    assert_eq!(rows.len(), batch.num_rows(), "an encoder gives one row per row");
    let times = match batch.column_by_name(Hidden::Time.name()) {
        Some(times) => times.as_primitive::<Int64Type>().values().to_vec(),
        None => vec![i64::MIN; rows.len()],
    };
    let hashes = (0..rows.len()).map(|row| xxh3_64(rows.row(row))).collect();
    Ok(Encoded { lane, rows, times, hashes })
}

/// Returns the worker that holds a lane.
pub fn holder(lane: u32, lanes: u32, workers: usize) -> usize {
    (u64::from(lane) * workers as u64 / u64::from(lanes)) as usize
}

/// Brings the rows of each lane and tick into canonical order, on the worker that holds the lane.
pub fn merge<'s>(build: &Build<'s>, index: usize, encoded: EncodedStream<'s>) -> (MergedStream<'s>, ReportStream<'s>) {
    let node = &build.graph.sinks[index];
    let (lanes, workers) = (node.lanes, build.workers);
    let mut builder = OperatorBuilder::new(format!("merge {}", node.name), build.scope);
    let to_holder = Exchange::new(move |rows: &Encoded| holder(rows.lane, lanes, workers) as u64);
    let mut input = builder.new_input(encoded, to_holder);
    let (merged, merged_stream) = builder.new_output::<Vec<Merged>>();
    let (reports, reports_stream) = builder.new_output::<Vec<Report>>();
    let mut merged = OutputBuilder::<Tick, CapacityContainerBuilder<Vec<Merged>>>::from(merged);
    let mut reports = OutputBuilder::<Tick, CapacityContainerBuilder<Vec<Report>>>::from(reports);
    let first = build.start.tick + 1;
    let meter = build.meter.part(build.worker, Part::Merge(index));
    meter.reached(first);
    builder.build(move |capabilities| {
        let mut held: Vec<_> = capabilities.iter().map(|c| c.delayed(&first)).collect();
        drop(capabilities);
        let mut waiting: BTreeMap<Tick, BTreeMap<u32, Vec<Encoded>>> = BTreeMap::new();
        move |frontiers| {
            input.for_each(|time, rows| {
                let lanes = waiting.entry(*time.time()).or_default();
                rows.drain(..).for_each(|rows| lanes.entry(rows.lane).or_default().push(rows));
            });
            let Some(reached) = frontiers[0].frontier().first().copied() else { return };
            while let Some(entry) = waiting.first_entry().filter(|entry| *entry.key() < reached) {
                let (tick, lanes) = entry.remove_entry();
                let _merging = meter.enter();
                held.iter_mut().for_each(|capability| capability.downgrade(&tick));
                for (lane, parts) in lanes {
                    let rows = in_order(tick, parts);
                    meter.got_on();
                    let digest = xxh3_64(&rows.rows.bytes);
                    let count = rows.rows.len() as u64;
                    let digest = LaneDigest { sink: index as u32, lane, rows: count, xxh3: digest };
                    reports.activate().session(&held[1]).give(Report::Lane(digest, rows.rows.bytes.len() as u64));
                    merged.activate().session(&held[0]).give(Merged { lane, rows });
                }
            }
            held.iter_mut().for_each(|capability| capability.downgrade(&reached.max(*capability.time())));
            meter.reached(reached);
        }
    });
    (merged_stream, reports_stream)
}

/// Sorts rows by (event time, xxh3 of the bytes, bytes), those that say that their key is gone before all others: what has a
/// value in this tick has one after it.
fn in_order(tick: Tick, parts: Vec<Encoded>) -> TickRows {
    let mut order: Vec<(i64, u64, u32, u32)> = Vec::with_capacity(parts.iter().map(|part| part.rows.len()).sum());
    for (number, part) in parts.iter().enumerate() {
        let keys = part.times.iter().zip(&part.hashes).enumerate();
        order.extend(keys.map(|(row, (time, hash))| (*time, *hash, number as u32, row as u32)));
    }
    let bytes = |entry: &(i64, u64, u32, u32)| parts[entry.2 as usize].rows.row(entry.3 as usize);
    order.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| bytes(a).cmp(bytes(b))));
    if parts.iter().any(|part| !part.rows.surround_lengths.is_empty()) {
        order.sort_by_key(|entry| !parts[entry.2 as usize].rows.surround(entry.3 as usize).is_tombstone());
    }
    let mut rows = EncodedRows::default();
    rows.bytes.reserve_exact(parts.iter().map(|part| part.rows.bytes.len()).sum());
    rows.ends.reserve_exact(order.len());
    for entry in &order {
        rows.push_row(&parts[entry.2 as usize].rows, entry.3 as usize);
    }
    TickRows { tick, rows, times: order.iter().map(|entry| entry.0).collect() }
}

/// Rows to be committed, by lane.
struct CommitRequest {
    upto: Tick,
    lanes: BTreeMap<u32, Vec<TickRows>>,
    bytes: usize,
    urgency: Urgency,
}

/// A finished commit.
struct CommitReply {
    upto: Tick,
    reached: Vec<(u32, Reached)>,
    bytes: usize,
    failed: Option<SinkError>,
}

type Committer = Background<CommitRequest, CommitReply>;

/// The lanes of a sink that a worker holds.
struct Holding {
    sink: String,
    tokens: BTreeMap<u32, Option<Tick>>,
    pending: BTreeMap<Tick, Vec<Merged>>,
    pending_bytes: usize,
    durable: Tick,
    requested: Tick,
    /// The first tick with rows in the commit that is under way.
    committing: Option<Tick>,
    busy: bool,
    committer: Committer,
    gathering: Option<Gathering>,
    /// By lane that gathers rows: up to where it has none that are not committed.
    behind: BTreeMap<u32, Tick>,
}

/// When lanes that gather rows must commit them.
struct Gathering {
    every: Duration,
    /// On bounded input no clock decides, so that equal runs commit at equal ticks.
    by_clock: bool,
    last: Instant,
}

impl Gathering {
    /// Returns whether a commit up to `upto` may leave rows in its lanes; the end of the job waits for all up to `wanted`.
    fn urgency(&mut self, upto: Tick, wanted: Option<Tick>, now: Instant) -> Urgency {
        let is_due = self.by_clock && now.saturating_duration_since(self.last) >= self.every;
        if is_due || wanted.is_some_and(|wanted| upto >= wanted) { Urgency::Now } else { Urgency::Later }
    }
}

impl Holding {
    /// Takes in merged rows; rows that the outside system has are dropped: the ledger compares their digest.
    fn take(&mut self, merged: Merged) {
        if self.tokens[&merged.lane].is_none_or(|token| merged.rows.tick > token) {
            self.pending_bytes += merged.rows.rows.bytes.len();
            self.pending.entry(merged.rows.tick).or_default().push(merged);
        }
    }

    /// Asks for a commit of all that is durable and complete, if none is under way.
    fn request(&mut self, complete: Tick, wanted: Option<Tick>, now: Instant) {
        let upto = self.durable.min(complete);
        let urgency = self.gathering.as_mut().map_or(Urgency::Now, |gathering| gathering.urgency(upto, wanted, now));
        let is_owed = urgency == Urgency::Now && !self.behind.is_empty();
        if self.busy || upto < self.requested || (upto == self.requested && !is_owed) {
            return;
        }
        if let (Some(gathering), Urgency::Now) = (&mut self.gathering, urgency) {
            gathering.last = now;
        }
        self.committing = self.pending.keys().next().copied().filter(|tick| *tick <= upto);
        let later = self.pending.split_off(&(upto + 1));
        let mut lanes: BTreeMap<u32, Vec<TickRows>> = BTreeMap::new();
        for merged in std::mem::replace(&mut self.pending, later).into_values().flatten() {
            lanes.entry(merged.lane).or_default().push(merged.rows);
        }
        let bytes = lanes.values().flatten().map(|rows| rows.rows.bytes.len()).sum();
        self.requested = upto;
        self.busy = true;
        self.committer.request(CommitRequest { upto, lanes, bytes, urgency });
    }

    /// Returns the first tick whose rows are not committed.
    fn oldest(&self) -> Option<Tick> {
        let gathered = self.behind.values().min().map(|covers| covers + 1);
        gathered.or(self.committing).or_else(|| self.pending.keys().next().copied())
    }

    /// Returns the commit that has finished, if one has.
    fn poll(&mut self) -> Result<Option<Tick>, EngineError> {
        let Some(reply) = self.committer.reply().map_err(|_| EngineError::Panic(format!("of sink `{}`", self.sink)))?
        else {
            return Ok(None);
        };
        self.busy = false;
        self.committing = None;
        self.pending_bytes -= reply.bytes;
        for (lane, Reached { token, covers }) in reply.reached {
            self.tokens.insert(lane, token);
            match covers < reply.upto {
                true => self.behind.insert(lane, covers),
                false => self.behind.remove(&lane),
            };
        }
        match reply.failed {
            Some(error) => Err(EngineError::Sink { sink: self.sink.clone(), error }),
            None => Ok(Some(reply.upto)),
        }
    }
}

/// Commits the lanes of a sink that this worker holds, up to what the journal covers.
pub fn commit<'s>(
    build: &Build<'s>,
    setup: &Setup,
    index: usize,
    merged: MergedStream<'s>,
    durable: DurableStream<'s>,
) -> Result<CoveredStream<'s>, EngineError> {
    let node = &build.graph.sinks[index];
    let mut builder = OperatorBuilder::new(format!("commit {}", node.name), build.scope);
    let mut merged = builder.new_input(merged, Pipeline);
    let mut durable = builder.new_input(durable, Pipeline);
    // What is complete depends on merged rows alone: the other input lags by a commit, and its time says nothing.
    let (taken, taken_stream) =
        builder.new_output_connection::<Vec<()>, _>([(0, Antichain::from_elem(Default::default()))]);
    let (covered, covered_stream) = builder.new_output::<Vec<Covered>>();
    taken_stream.probe_with(&build.probe);
    drop(taken);
    let mut covered = OutputBuilder::<Tick, CapacityContainerBuilder<Vec<Covered>>>::from(covered);
    let address = builder.operator_info().address.to_vec();
    if node.sink.gathers().is_some() {
        build.control.on_answer(build.scope.worker().sync_activator_for(address.clone()));
    }
    let mut holding = hold(build, setup, index, address)?;
    let (control, sink) = (build.control.clone(), index as u32);
    let (meter, worker) = (build.meter.clone(), build.worker);
    let first = build.start.tick + 1;
    builder.build(move |capabilities| {
        let mut taken = capabilities[0].delayed(&first);
        let always = capabilities[1].clone();
        drop(capabilities);
        move |frontiers| {
            merged.for_each(|_, rows| rows.drain(..).for_each(|rows| holding.take(rows)));
            durable.for_each(|_, ticks| holding.durable = ticks.drain(..).fold(holding.durable, Tick::max));
            let Some(reached) = frontiers[0].frontier().first().copied() else { return };
            loop {
                holding.request(reached.saturating_sub(1), control.wanted(), control.pace().now());
                match holding.poll() {
                    Ok(Some(tick)) => {
                        let (lanes, behind) = (holding.tokens.iter(), &holding.behind);
                        let news = lanes.map(|(lane, token)| {
                            let tick = behind.get(lane).copied().unwrap_or(tick);
                            Covered { sink, lane: *lane, tick, token: *token }
                        });
                        covered.activate().session(&always).give_iterator(news);
                    }
                    Ok(None) => break,
                    Err(error) => return control.fail(error),
                }
            }
            meter.pending(index, worker, holding.pending_bytes, holding.oldest());
            if holding.pending_bytes <= PENDING_BYTES_MAX {
                taken.downgrade(&reached.max(*taken.time()));
            }
        }
    });
    Ok(covered_stream)
}

/// Takes the lanes of this worker and starts the thread that writes to them.
fn hold(build: &Build<'_>, setup: &Setup, index: usize, address: Vec<usize>) -> Result<Holding, EngineError> {
    let node = &build.graph.sinks[index];
    let mut lanes: BTreeMap<u32, HeldLane> = BTreeMap::new();
    let mut tokens = BTreeMap::new();
    for lane in (0..node.lanes).filter(|lane| holder(*lane, node.lanes, build.workers) == build.worker) {
        let opened = setup.lanes.lock().expect("lanes are only taken out").remove(&(index as u32, lane));
        let (opened, token) =
            opened.expect("every lane is opened, by the process whose worker holds it, before the job runs");
        lanes.insert(lane, HeldLane { lane: opened, owed: Vec::new() });
        tokens.insert(lane, token);
    }
    let activator = build.scope.worker().sync_activator_for(address);
    let (meter, act) = (build.meter.clone(), build.meter.act(ActKind::Commit, index, build.worker));
    let work = move |request: CommitRequest| {
        let _committing = act.begin();
        commit_lanes(&mut lanes, request, |rows| meter.committed(index, rows))
    };
    // The dataflow may be gone by then, which is no news to anybody.
    let wake = move || {
        activator.activate().ok();
    };
    let (pace, name) = (build.control.pace().as_ref(), format!("sink {}", node.name));
    let committer = Background::start(pace, &name, work, wake).map_err(EngineError::thread)?;
    let start = build.start.tick;
    let by_clock = build.graph.sources.iter().any(|source| !source.bounded);
    let gathering = node.sink.gathers().map(|every| Gathering { every, by_clock, last: pace.now() });
    Ok(Holding {
        sink: node.name.clone(),
        tokens,
        pending: BTreeMap::new(),
        pending_bytes: 0,
        durable: start,
        requested: start,
        committing: None,
        busy: false,
        committer,
        gathering,
        behind: BTreeMap::new(),
    })
}

/// A lane, and what it was given and has not committed yet.
struct HeldLane {
    lane: Box<dyn Lane>,
    /// Tick, rows and bytes.
    owed: Vec<(Tick, usize, usize)>,
}

/// Hands rows to their lanes, and tells `committed` of those that are in the outside system.
fn commit_lanes(
    lanes: &mut BTreeMap<u32, HeldLane>,
    mut request: CommitRequest,
    committed: impl Fn(std::vec::Drain<'_, (Tick, usize, usize)>),
) -> CommitReply {
    if request.urgency == Urgency::Now {
        for (lane, _) in lanes.iter().filter(|(_, held)| !held.owed.is_empty()) {
            request.lanes.entry(*lane).or_default();
        }
    }
    for (number, ticks) in &request.lanes {
        // Rows reach the worker that holds their lane.
        let held = lanes.get_mut(number).expect("the lane is held here");
        held.owed.extend(ticks.iter().map(|tick| (tick.tick, tick.rows.len(), tick.rows.bytes.len())));
    }
    let mut reply = CommitReply { upto: request.upto, reached: Vec::new(), bytes: request.bytes, failed: None };
    for (number, reached) in take_all(lanes, request) {
        match reached {
            Ok(reached) => {
                let held = lanes.get_mut(&number).expect("the lane is held here");
                let done = held.owed.partition_point(|(tick, ..)| *tick <= reached.covers);
                committed(held.owed.drain(..done));
                reply.reached.push((number, reached));
            }
            Err(error) => reply.failed = reply.failed.or(Some(error)),
        }
    }
    reply
}

/// Lets lanes take what is theirs: those that mostly wait for answers side by side, others one after the other up to the first that
/// fails.
fn take_all(lanes: &mut BTreeMap<u32, HeldLane>, request: CommitRequest) -> Vec<(u32, Result<Reached, SinkError>)> {
    let CommitRequest { upto, urgency, lanes: mut given, .. } = request;
    let together = given.len() > 1 && lanes.values().any(|held| held.lane.waits_outside());
    let acts = lanes.iter_mut().filter_map(|(number, held)| Some((*number, &mut held.lane, given.remove(number)?)));
    let mut done = Vec::new();
    if !together {
        for (number, lane, ticks) in acts {
            let reached = lane.take(upto, &ticks, urgency);
            let failed = reached.is_err();
            done.push((number, reached));
            if failed {
                break;
            }
        }
        return done;
    }
    let mut acts: Vec<_> = acts.collect();
    while !acts.is_empty() {
        let some = acts.drain(..acts.len().min(COMMITS_TOGETHER));
        let some = some.map(|(number, lane, ticks)| move || (number, lane.take(upto, &ticks, urgency)));
        std::thread::scope(|scope| {
            let threads: Vec<_> = some.map(|act| scope.spawn(act)).collect();
            // A panic there has been reported by the panic hook; it goes on here.
            done.extend(threads.into_iter().map(|thread| thread.join().expect("a lane does not panic")));
        });
    }
    done
}

/// What the lanes of a job are taken from, by sink and lane.
pub type Lanes = BTreeMap<(u32, u32), (Box<dyn Lane>, Option<Tick>)>;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    fn part(rows: &[(&str, i64)]) -> Encoded {
        let mut encoded = Encoded { lane: 0, rows: EncodedRows::default(), times: vec![], hashes: vec![] };
        for (text, time) in rows {
            encoded.rows.bytes.extend_from_slice(text.as_bytes());
            encoded.rows.end_row(None);
            encoded.times.push(*time);
            encoded.hashes.push(xxh3_64(text.as_bytes()));
        }
        encoded
    }

    #[test]
    fn the_order_of_a_tick_does_not_depend_on_who_encoded_what() {
        let one = in_order(1, vec![part(&[("b", 2), ("a", 2), ("z", 1), ("a", 2)])]);
        let two = in_order(1, vec![part(&[("a", 2), ("z", 1)]), part(&[("a", 2)]), part(&[("b", 2)])]);
        assert_eq!(one, two);
        assert_eq!(one.rows.row(0), b"z");
        assert_eq!(one.times, [1, 2, 2, 2]);
    }

    #[test]
    fn every_lane_has_one_holder() {
        for workers in 1..6 {
            for lanes in 1..9 {
                let holders: Vec<usize> = (0..lanes).map(|lane| holder(lane, lanes, workers)).collect();
                assert!(holders.is_sorted() && holders.iter().all(|holder| *holder < workers));
            }
        }
    }

    /// Says that it commits, and waits until the other one does too, if that is how it is made.
    struct Meeting {
        tells: Sender<u32>,
        hears: Option<Receiver<u32>>,
        fails: bool,
    }

    impl Lane for Meeting {
        fn commit(&mut self, _: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
            self.tells.send(ticks.len() as u32).expect("somebody listens");
            let met = self.hears.as_ref().is_none_or(|other| other.recv_timeout(Duration::from_secs(20)).is_ok());
            match met && !self.fails {
                true => Ok(()),
                false => Err(SinkError::Refused("alone".to_owned())),
            }
        }

        fn waits_outside(&self) -> bool {
            self.hears.is_some()
        }
    }

    fn commit(lanes: Vec<Meeting>) -> Vec<(u32, bool)> {
        let held = (0..).zip(lanes).map(|(lane, meeting)| {
            let lane_of: Box<dyn Lane> = Box::new(meeting);
            (lane, HeldLane { lane: lane_of, owed: Vec::new() })
        });
        let mut held: BTreeMap<u32, HeldLane> = held.collect();
        let lanes = held.keys().map(|lane| (*lane, Vec::new())).collect();
        let done = take_all(&mut held, CommitRequest { upto: 7, lanes, bytes: 0, urgency: Urgency::Later });
        done.into_iter().map(|(lane, reached)| (lane, reached.is_ok())).collect()
    }

    #[test]
    fn lanes_that_wait_for_answers_are_committed_side_by_side() {
        let ((one, from_one), (two, from_two)) = (channel(), channel());
        let meeting = |tells, hears| Meeting { tells, hears: Some(hears), fails: false };
        assert_eq!(commit(vec![meeting(one, from_two), meeting(two, from_one)]), [(0, true), (1, true)]);
    }

    #[test]
    fn other_lanes_are_committed_in_turn_up_to_the_first_that_fails() {
        let (tells, heard) = channel();
        let lane = |fails| Meeting { tells: tells.clone(), hears: None, fails };
        assert_eq!(commit(vec![lane(false), lane(true), lane(false)]), [(0, true), (1, false)]);
        assert_eq!(heard.try_iter().count(), 2, "the third was not asked");
    }
}
