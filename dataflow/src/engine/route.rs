//! Routing: rows to the worker that owns their shard, chunks to the worker whose turn it is to decode.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use timely::communication::Push;
use timely::container::NoopBuilder;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::operators::generic::operator::Operator as _;

use super::build::{BatchStream, Build, RawStream};
use super::message::Raw;
use crate::batch::{Batch, SchemaId, register_schema};
use crate::key::{Keys, shard_of, worker_of};
use crate::schema::{Hidden, hidden_of, visible_of, with_hidden};

/// Rows that a routed batch should have: pieces of a split batch are put together again up to this size.
const COALESCED_ROWS: usize = 4096;

/// Returns the schema of `schema`'s rows once they are routed by key.
pub fn routed_schema(schema: &SchemaRef) -> SchemaRef {
    let mut hidden = hidden_of(schema);
    hidden.push(Hidden::Hash);
    with_hidden(&visible_of(schema), &hidden)
}

/// Gives every row the hash of its key and brings it to the worker of its shard.
pub fn route<'s>(
    build: &Build<'s>,
    name: &str,
    rows: BatchStream<'s>,
    schema: &SchemaRef,
    key: &[usize],
) -> BatchStream<'s> {
    let target = routed_schema(schema);
    let id = register_schema(&target);
    let control = build.control.clone();
    let (key, mut keys) = (key.to_vec(), Keys::default());
    let hashed = rows.unary::<NoopBuilder<Batch>, _, _, _>(Pipeline, &format!("key {name}"), move |_, _| {
        move |input, output| {
            input.for_each(|time, batch| {
                let Some(rows) = control.received(batch.take()) else { return };
                match with_hash(&rows, &key, &mut keys, &target) {
                    Ok(rows) => output.session_with_builder(&time).give_container(&mut Batch::new(rows, id)),
                    Err(error) => control.fail(super::EngineError::Internal(format!("cannot encode keys: {error}"))),
                }
            });
        }
    });
    if build.workers == 1 {
        return hashed;
    }
    let shards = build.graph.shards;
    let pact = DistributorPact(move |peers| ByShard::new(shards, peers, id));
    hashed.unary::<NoopBuilder<Batch>, _, _, _>(pact, &format!("exchange {name}"), |_, _| {
        |input, output| {
            input.for_each(|time, batch| output.session_with_builder(&time).give_container(batch));
        }
    })
}

/// Spreads chunks over all workers of the process, so that one file or partition does not bind a job to one core. To another
/// process they would have to be carried, which costs about as much as decoding them.
pub fn spread<'s>(build: &Build<'s>, name: &str, chunks: RawStream<'s>) -> RawStream<'s> {
    if build.own.len() == 1 {
        return chunks;
    }
    let in_turn = InTurn { own: build.own.clone(), next: build.worker - build.own.start };
    chunks.unary::<NoopBuilder<Raw>, _, _, _>(DistributorPact(move |_| in_turn), name, |_, _| {
        |input, output| {
            input.for_each(|time, raw| output.session_with_builder(&time).give_container(raw));
        }
    })
}

fn with_hash(
    rows: &RecordBatch,
    key: &[usize],
    keys: &mut Keys,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    keys.refill(rows, key)?;
    let hashes: ArrayRef = Arc::new(UInt64Array::from(std::mem::take(&mut keys.hashes)));
    let keep = rows.schema();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (index, field) in keep.fields().iter().enumerate() {
        if field.name() != Hidden::Hash.name() {
            columns.push(rows.column(index).clone());
        }
    }
    // The hash is the last hidden column.
    columns.push(hashes);
    RecordBatch::try_new(schema.clone(), columns)
}

/// Sends each row to the worker of its shard.
struct ByShard {
    shards: u16,
    schema: SchemaId,
    owner: Vec<usize>,
    rows: Vec<Vec<u32>>,
    waiting: Vec<Option<BatchCoalescer>>,
}

impl ByShard {
    fn new(shards: u16, peers: usize, schema: SchemaId) -> ByShard {
        ByShard {
            shards,
            schema,
            owner: (0..shards).map(|shard| worker_of(shard, shards, peers)).collect(),
            rows: vec![Vec::new(); peers],
            waiting: (0..peers).map(|_| None).collect(),
        }
    }
}

impl Distributor<Batch> for ByShard {
    fn partition<T: Clone, P: Push<Message<T, Batch>>>(&mut self, batch: &mut Batch, time: &T, to: &mut [P]) {
        let rows = batch.take().expect("rows on their way out were never on a wire");
        let Some(rows) = rows else { return };
        let hashes = rows.column(rows.num_columns() - 1).as_primitive::<UInt64Type>();
        for (row, hash) in hashes.values().iter().enumerate() {
            let worker = self.owner[usize::from(shard_of(*hash, self.shards))];
            self.rows[worker].push(u32::try_from(row).expect("a batch has fewer rows than u32"));
        }
        for (worker, pusher) in to.iter_mut().enumerate() {
            if self.rows[worker].is_empty() {
                continue;
            }
            let picked = UInt32Array::from(std::mem::take(&mut self.rows[worker]));
            let waiting =
                self.waiting[worker].get_or_insert_with(|| BatchCoalescer::new(rows.schema(), COALESCED_ROWS));
            waiting.push_batch_with_indices(rows.clone(), &picked).expect("rows of one edge have one schema");
            while let Some(full) = waiting.next_completed_batch() {
                Message::push_at(&mut Batch::new(full, self.schema), time.clone(), pusher);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Batch>>>(&mut self, time: &T, to: &mut [P]) {
        for (waiting, pusher) in self.waiting.iter_mut().zip(to) {
            let Some(waiting) = waiting else { continue };
            waiting.finish_buffered_batch().expect("rows of one edge have one schema");
            while let Some(rest) = waiting.next_completed_batch() {
                Message::push_at(&mut Batch::new(rest, self.schema), time.clone(), pusher);
            }
        }
    }
}

/// Sends each chunk to the next worker of the process.
struct InTurn {
    own: Range<usize>,
    next: usize,
}

impl Distributor<Raw> for InTurn {
    fn partition<T: Clone, P: Push<Message<T, Raw>>>(&mut self, raw: &mut Raw, time: &T, to: &mut [P]) {
        let worker = self.own.start + self.next % self.own.len();
        self.next += 1;
        Message::push_at(raw, time.clone(), &mut to[worker]);
    }

    fn flush<T: Clone, P: Push<Message<T, Raw>>>(&mut self, _: &T, _: &mut [P]) {}
}
