//! Kept rows: rows that a step keeps between ticks, as the Arrow columns in which they came.
//!
//! A row has a [`Slot`], a number that stays while the row is kept, however the columns below are rearranged. Batches are
//! kept as *segments*. Many small segments are merged, so that ticks of a few rows do not leave thousands of tiny batches;
//! a segment of which less than half is still kept is written anew, and so is a batch that would hold on to memory of rows
//! it does not have. What is kept in memory is therefore at most about twice the rows themselves.
//!
//! Rows leave by rule, so a checkpoint writes what is new and no tombstones, and after a restore the owner frees by the same
//! rule what had left before it. A kept row never changes: [`KeptRows::freeze`] only notes which rows a checkpoint is about, and
//! whoever writes it copies them (see `picked`).

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Capacities, MutableArrayData, RecordBatch, RecordBatchOptions, StringArray,
    make_array, new_null_array,
};
use arrow::compute::{and, filter_record_batch, interleave, is_not_null};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef, UInt16Type};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::{Keys, shard_of, worker_of};
use riverrun_dataflow::operator::{Frozen, STATE_COLUMNS, StepError};
use riverrun_dataflow::schema::Hidden;

use self::ages::Ages;
use crate::order::{KeyOrder, OrderColumns};

pub(crate) mod ages;
pub(crate) mod by_key;
mod picked;

use picked::{Picked, Rows};

/// The number of a kept row, stable while it is kept; used again later.
pub type Slot = u32;

/// Stands for no row in [`KeptRows::gather`], which gives nulls for it.
pub const NO_ROW: Slot = Slot::MAX;

/// Rows in a batch that a step or a freeze gives.
pub const BATCH_ROWS: usize = 8192;

/// Bytes after which such a batch is full, too: text of a column must stay below 2 GiB in one batch.
pub const BATCH_BYTES: usize = 32 << 20;

/// Which columns of a batch are kept, and which of them are the key.
#[derive(Clone)]
pub struct Layout {
    schema: SchemaRef,
    columns: Vec<usize>,
    keys: Vec<usize>,
    id: Option<usize>,
    order: KeyOrder,
}

impl Layout {
    /// Keeps `columns` of `schema`, event time among them, with the key made of `keys`, which are kept too; both are
    /// indices into `schema`.
    pub fn new(schema: &Schema, columns: Vec<usize>, keys: &[usize]) -> Result<Layout, StepError> {
        let kept = Arc::new(schema.project(&columns)?);
        let place = |key: &usize| columns.iter().position(|c| c == key);
        let keys = keys.iter().map(place).collect::<Option<Vec<_>>>();
        let keys = keys.ok_or_else(|| StepError::Internal("a key column is not kept".into()))?;
        let id = kept.column_with_name(Hidden::Id.name()).map(|(index, _)| index);
        let order = KeyOrder::of(&kept)?;
        Ok(Layout { schema: kept, columns, keys, id, order })
    }

    /// Returns the schema of the kept columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns which of the kept columns are the key.
    pub fn keys(&self) -> &[usize] {
        &self.keys
    }

    /// Returns the schema of the rows in a checkpoint: shard, op, then the kept columns.
    pub fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![
            Field::new(STATE_COLUMNS[0], DataType::UInt16, false),
            Field::new(STATE_COLUMNS[1], DataType::Int8, false),
        ];
        fields.extend(self.schema.fields().iter().map(|f| f.as_ref().clone().with_name(state_name(f.name()))));
        Arc::new(Schema::new(fields))
    }
}

/// Returns the name of a kept column in a checkpoint: a user's `shard` or `op` must not be taken for the state's own.
fn state_name(name: &str) -> String {
    if STATE_COLUMNS.contains(&name.trim_end_matches('_')) { format!("{name}_") } else { name.to_string() }
}

/// Rows kept between ticks.
pub struct KeptRows {
    layout: Layout,
    shards: ShardRange,
    segments: Vec<Option<Segment>>,
    /// Where the row of each slot is.
    places: Vec<Place>,
    /// Slots that may be given to new rows.
    free: Vec<Slot>,
    /// Slots whose row is gone, but which `fresh` may still name.
    freed: Vec<Slot>,
    /// Slots of rows that no checkpoint has, and of some that are gone.
    fresh: Vec<Slot>,
    live: usize,
    ages: Ages,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u32,
    row: u32,
}

const NOWHERE: Place = Place { segment: u32::MAX, row: u32::MAX };

struct Segment {
    rows: RecordBatch,
    /// Whoever writes a checkpoint holds on to them, too.
    keys: Arc<Keys>,
    ids: Option<StringArray>,
    order: OrderColumns,
    /// No row takes more bytes than this, nested columns counted by their average.
    row_bytes: usize,
    /// The slot of each row; `NO_ROW` where the row is gone.
    slots: Vec<Slot>,
    /// Which rows are not gone.
    kept: Rows,
    live: usize,
}

impl Segment {
    fn of(rows: RecordBatch, layout: &Layout, slots: Vec<Slot>) -> Result<Segment, StepError> {
        let keys = Arc::new(Keys::of(&rows, &layout.keys)?);
        let ids = layout.id.map(|i| rows.column(i).as_string::<i32>().clone());
        let order = layout.order.columns(&rows);
        let row_bytes = rows.columns().iter().map(widest).sum();
        let live = slots.len();
        Ok(Segment { rows, keys, ids, order, row_bytes, slots, kept: Rows::all(live), live })
    }
}

impl KeptRows {
    /// Keeps nothing yet. Rows are counted by age in steps of a small part of `span`, the time they are kept.
    pub fn new(layout: Layout, shards: ShardRange, span: Duration) -> KeptRows {
        KeptRows {
            layout,
            shards,
            segments: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            freed: Vec::new(),
            fresh: Vec::new(),
            live: 0,
            ages: Ages::new(span),
        }
    }

    /// Returns how the rows are kept.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Returns whether no row is kept.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Returns the bytes of all columns and numbers in memory, about.
    pub fn bytes(&self) -> usize {
        let numbers = (self.places.capacity() * 2 + self.free.capacity() + self.fresh.capacity()) * size_of::<Slot>();
        let segments = self.segments.iter().flatten();
        numbers + segments.map(|s| s.rows.get_array_memory_size() + s.slots.capacity() * 40).sum::<usize>()
    }

    /// Keeps all rows of a batch of the input's schema; returns their slots, in the batch's order.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<Vec<Slot>, StepError> {
        let slots = self.put(compact(batch.project(&self.layout.columns)?, 1)?)?;
        self.fresh.extend_from_slice(&slots);
        Ok(slots)
    }

    /// Returns the event time of a row.
    pub fn time(&self, slot: Slot) -> i64 {
        let (segment, row) = self.at(slot);
        segment.order.time(row)
    }

    /// Returns the hash of a row's key.
    pub fn hash(&self, slot: Slot) -> u64 {
        let (segment, row) = self.at(slot);
        segment.keys.hashes[row]
    }

    /// Returns the encoded key of a row.
    pub fn key(&self, slot: Slot) -> &[u8] {
        let (segment, row) = self.at(slot);
        segment.keys.key(row)
    }

    /// Returns whether a row's key has a null column.
    pub fn has_null_key(&self, slot: Slot) -> bool {
        let (segment, row) = self.at(slot);
        segment.keys.has_null(row)
    }

    /// Returns how many bytes a row takes, at most.
    pub fn row_bytes(&self, slot: Slot) -> usize {
        let (segment, _) = self.at(slot);
        segment.row_bytes
    }

    /// Returns the id of a row, if it has one.
    pub fn id(&self, slot: Slot) -> Option<&str> {
        let (segment, row) = self.at(slot);
        segment.ids.as_ref().and_then(|ids| ids.is_valid(row).then(|| ids.value(row)))
    }

    /// Returns the per-key order of two rows.
    pub fn compare(&self, a: Slot, b: Slot) -> Ordering {
        let (a, a_row) = self.at(a);
        let (b, b_row) = self.at(b);
        a.order.compare(a_row, &b.order, b_row)
    }

    /// Lets go of a row. Its slot is not used again before [`KeptRows::tidy`].
    pub fn remove(&mut self, slot: Slot) {
        let place = std::mem::replace(&mut self.places[slot as usize], NOWHERE);
        let segment = self.segments[place.segment as usize].as_mut().expect("a place names a segment that is there");
        segment.slots[place.row as usize] = NO_ROW;
        segment.kept.remove(place.row);
        segment.live -= 1;
        self.live -= 1;
        self.ages.remove(segment.order.time(place.row as usize));
        self.freed.push(slot);
    }

    /// Returns whether at least an eighth of the rows, and at least one, is older than `limit`: removing what is older by
    /// looking at every row then costs a constant per row removed. To be called with limits that never go back.
    pub fn is_due(&mut self, limit: EventTime) -> bool {
        let old = self.ages.older_than(limit);
        old > 0 && old * 8 >= self.live
    }

    /// Merges and rewrites segments where that is due. Slots of removed rows may be used again afterwards.
    pub fn tidy(&mut self) -> Result<(), StepError> {
        if self.live == 0 {
            *self = KeptRows::new(self.layout.clone(), self.shards, self.ages.span);
            return Ok(());
        }
        if self.freed.len() * 4 >= self.fresh.len() {
            let places = &self.places;
            self.fresh.retain(|slot| places[*slot as usize] != NOWHERE);
            self.free.append(&mut self.freed);
        }
        for segment in 0..self.segments.len() {
            let Some((live, rows)) = self.segments[segment].as_ref().map(|s| (s.live, s.slots.len())) else { continue };
            if live * 2 < rows {
                self.rewrite(&[segment])?;
            }
        }
        self.merge_small()
    }

    /// Returns `columns` (indices into the kept ones) of the given rows, null where a slot is [`NO_ROW`].
    pub fn gather(&self, slots: &[Slot], columns: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>, StepError> {
        let mut number = vec![usize::MAX; self.segments.len()];
        let mut used: Vec<&RecordBatch> = Vec::new();
        let picks: Vec<(usize, usize)> = slots
            .iter()
            .map(|slot| {
                if *slot == NO_ROW {
                    return (usize::MAX, 0);
                }
                let place = self.places[*slot as usize];
                let known = &mut number[place.segment as usize];
                if *known == usize::MAX {
                    *known = used.len();
                    used.push(&self.segments[place.segment as usize].as_ref().expect("a kept row is somewhere").rows);
                }
                (*known, place.row as usize)
            })
            .collect();
        gather_from(&used, picks, &self.layout.schema, columns)
    }

    /// Returns what a checkpoint must write: new rows, and all rows of the shards in `rebase`.
    pub fn freeze(&mut self, rebase: &[u16]) -> Frozen {
        let mut fresh: Vec<Option<Rows>> = vec![None; self.segments.len()];
        for place in std::mem::take(&mut self.fresh).into_iter().map(|slot| self.places[slot as usize]) {
            if let Some(Some(segment)) = self.segments.get(place.segment as usize) {
                fresh[place.segment as usize].get_or_insert_with(|| Rows::none(segment.slots.len())).add(place.row);
            }
        }
        let pick = |segment: &Segment, rows| Picked::of(segment.rows.clone(), segment.keys.clone(), rows);
        let segments = || self.segments.iter().zip(&fresh);
        let delta = segments().filter_map(|(segment, rows)| Some(pick(segment.as_ref()?, rows.clone()?))).collect();
        let all = self.segments.iter().flatten().filter(|_| !rebase.is_empty());
        let base = all.map(|segment| pick(segment, segment.kept.clone())).collect();
        picked::frozen(self.layout.state_schema(), self.shards.shards, rebase, delta, base)
    }

    /// Puts rows of a checkpoint back; returns their slots.
    pub fn restore(&mut self, rows: &RecordBatch) -> Result<Vec<Slot>, StepError> {
        let fields = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        let wanted = self.layout.state_schema();
        if fields(&rows.schema()) != fields(&wanted) {
            return Err(StepError::State(format!("stored columns are {:?}, wanted are {wanted:?}", rows.schema())));
        }
        if rows.column(1).as_primitive::<Int8Type>().values().iter().any(|op| *op != 1) {
            return Err(StepError::State("a row is deleted that can only leave by rule".into()));
        }
        let stored = rows.column(0).as_primitive::<UInt16Type>().values().clone();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let columns = rows.columns()[STATE_COLUMNS.len()..].to_vec();
        let rows = RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)
            .map_err(|error| StepError::State(error.to_string()))?;
        // Whoever decoded them took memory ahead, and here is all of the state at once.
        let slots = self.put(compact(rows, 8)?)?;
        let ShardRange { worker, workers, shards } = self.shards;
        for (slot, stored) in slots.iter().zip(&stored) {
            let shard = self.shard(*slot);
            if shard != *stored || worker_of(shard, shards, workers) != worker {
                return Err(StepError::State(format!(
                    "a row of shard {shard}, stored as one of shard {stored}, was given to worker {worker} of {workers}"
                )));
            }
        }
        Ok(slots)
    }

    fn at(&self, slot: Slot) -> (&Segment, usize) {
        let place = self.places[slot as usize];
        let segment = self.segments[place.segment as usize].as_ref().expect("a place names a segment that is there");
        (segment, place.row as usize)
    }

    fn shard(&self, slot: Slot) -> u16 {
        shard_of(self.hash(slot), self.shards.shards)
    }

    /// Adds a segment of rows that are new in memory.
    fn put(&mut self, rows: RecordBatch) -> Result<Vec<Slot>, StepError> {
        let slots: Vec<Slot> = (0..rows.num_rows()).map(|_| self.new_slot()).collect();
        let segment = Segment::of(rows, &self.layout, slots.clone())?;
        self.ages.add_all(segment.order.times());
        self.live += slots.len();
        self.place(segment);
        Ok(slots)
    }

    fn new_slot(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(NOWHERE);
            Slot::try_from(self.places.len() - 1).expect("fewer rows are kept than u32")
        })
    }

    fn place(&mut self, segment: Segment) {
        let vacant = self.segments.iter().position(Option::is_none).unwrap_or_else(|| {
            self.segments.push(None);
            self.segments.len() - 1
        });
        let number = u32::try_from(vacant).expect("fewer segments than rows");
        for (row, slot) in (0..).zip(&segment.slots) {
            self.places[*slot as usize] = Place { segment: number, row };
        }
        self.segments[vacant] = Some(segment);
    }

    /// Replaces segments by one with the rows that are left of them.
    fn rewrite(&mut self, numbers: &[usize]) -> Result<(), StepError> {
        let old: Vec<Segment> = numbers.iter().filter_map(|number| self.segments[*number].take()).collect();
        let mut picks = Vec::new();
        let mut slots = Vec::new();
        for (index, segment) in old.iter().enumerate() {
            let live = segment.slots.iter().enumerate().filter(|(_, slot)| **slot != NO_ROW);
            for (row, slot) in live {
                picks.push((index, row));
                slots.push(*slot);
            }
        }
        if slots.is_empty() {
            return Ok(());
        }
        let batches: Vec<&RecordBatch> = old.iter().map(|segment| &segment.rows).collect();
        let width = self.layout.schema.fields().len();
        let columns = gather_from(&batches, picks, &self.layout.schema, 0..width)?;
        let rows = RecordBatch::try_new(self.layout.schema.clone(), columns)?;
        self.place(Segment::of(rows, &self.layout, slots)?);
        Ok(())
    }

    /// Merges segments of about one size when there are eight of them: a row is copied once per size, not once per merge.
    fn merge_small(&mut self) -> Result<(), StepError> {
        const SIZES: [usize; 4] = [8, 64, 512, 4096];
        for size in SIZES {
            let of_size = |rows: usize| rows < size && rows >= size / 8;
            let small =
                self.segments.iter().enumerate().filter_map(|(number, segment)| {
                    segment.as_ref().is_some_and(|s| of_size(s.live)).then_some(number)
                });
            let small: Vec<usize> = small.collect();
            if small.len() >= 8 {
                self.rewrite(&small)?;
            }
        }
        Ok(())
    }
}

/// Returns columns of rows of several batches; a pick of batch `usize::MAX` is null.
fn gather_from(
    batches: &[&RecordBatch],
    mut picks: Vec<(usize, usize)>,
    schema: &Schema,
    columns: impl Iterator<Item = usize>,
) -> Result<Vec<ArrayRef>, StepError> {
    let nulls = picks.iter().any(|(batch, _)| *batch == usize::MAX);
    if nulls {
        picks.iter_mut().filter(|(batch, _)| *batch == usize::MAX).for_each(|pick| *pick = (batches.len(), 0));
    }
    columns
        .map(|column| {
            let null = nulls.then(|| new_null_array(schema.field(column).data_type(), 1));
            let mut arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            arrays.extend(null.as_deref());
            Ok(interleave(&arrays, &picks)?)
        })
        .collect()
}

/// Returns the rows that have no null in their key.
pub(crate) fn with_whole_key(batch: RecordBatch, keys: &[usize]) -> Result<RecordBatch, StepError> {
    let mut whole: Option<BooleanArray> = None;
    for key in keys {
        let column = batch.column(*key);
        if column.null_count() > 0 {
            let valid = is_not_null(column)?;
            whole = Some(match whole {
                Some(whole) => and(&whole, &valid)?,
                None => valid,
            });
        }
    }
    match whole {
        Some(whole) => Ok(filter_record_batch(&batch, &whole)?),
        None => Ok(batch),
    }
}

/// Returns how many bytes a value of a column takes, at most.
fn widest(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8 => {
            let ends = column.as_string::<i32>().value_offsets();
            let text = ends.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
            usize::try_from(text).expect("offsets only grow") + size_of::<i32>()
        }
        data_type => {
            data_type.primitive_width().unwrap_or_else(|| column.get_array_memory_size().div_ceil(column.len().max(1)))
        }
    }
}

/// Returns the same rows in memory of their own, if they hold on to much more than they need: to more by `1 / part` of it.
fn compact(rows: RecordBatch, part: usize) -> Result<RecordBatch, StepError> {
    let needed =
        rows.columns().iter().map(|column| column.to_data().get_slice_memory_size()).sum::<Result<usize, _>>()?;
    // A few hundred bytes per column are headers and padding, which copying does not save.
    if rows.get_array_memory_size() <= needed + needed / part + 512 * rows.num_columns() {
        return Ok(rows);
    }
    let columns = rows.columns().iter().map(copy_of).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

/// Returns the same values in memory of just their size.
fn copy_of(column: &ArrayRef) -> Result<ArrayRef, StepError> {
    let data = column.to_data();
    let capacities = match column.data_type() {
        DataType::Utf8 => {
            let ends = column.as_string::<i32>().value_offsets();
            let text = ends.last().zip(ends.first()).map_or(0, |(last, first)| last - first);
            Capacities::Binary(column.len(), usize::try_from(text).ok())
        }
        _ => Capacities::Array(column.len()),
    };
    let mut copy = MutableArrayData::with_capacities(vec![&data], false, capacities);
    copy.try_extend(0, 0, column.len())?;
    Ok(make_array(copy.freeze()))
}

#[cfg(test)]
mod tests;
