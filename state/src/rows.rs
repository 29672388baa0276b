//! Frozen rows of a table: checked, and put into the order in which they are written, (shard, key columns).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt16Array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Int8Type, Schema, UInt16Type};
use arrow::row::{RowConverter, Rows, SortField};
use riverrun_dataflow::operator::{STATE_COLUMNS, TableSpec};

/// Rows in a row group at most, and in a batch that is written at once.
pub const GROUP_ROWS: usize = 131_072;

/// A row group that has so many rows ends with the shard: a restart that needs one of two shards decodes few rows of the other.
const GROUP_ROWS_ENOUGH: usize = 16_384;

/// Rows of one file, in order.
pub struct Sorted<'a> {
    batches: Vec<&'a RecordBatch>,
    order: Vec<(usize, usize)>,
    /// Rows of each shard that has any.
    pub shards: BTreeMap<u16, u64>,
}

/// Returns whether `schema` begins with the columns of all state rows.
pub fn is_state_schema(schema: &Schema) -> bool {
    let column = |at: usize, data_type: DataType| {
        schema.fields().get(at).is_some_and(|f| f.name() == STATE_COLUMNS[at] && *f.data_type() == data_type)
    };
    column(0, DataType::UInt16) && column(1, DataType::Int8)
}

/// Returns the shard of each row.
pub fn shards_of(batch: &RecordBatch) -> &UInt16Array {
    batch.column(0).as_primitive::<UInt16Type>()
}

impl<'a> Sorted<'a> {
    /// Sorts the rows of `batches`, which belong to the table `spec`. The order of rows with equal keys is kept.
    pub fn of(batches: &'a [RecordBatch], spec: &TableSpec) -> Result<Sorted<'a>, String> {
        let batches: Vec<&RecordBatch> = batches.iter().filter(|batch| batch.num_rows() > 0).collect();
        check_columns(&batches, spec)?;
        let keys = Keys::of(&batches, spec.key_columns)?;
        let mut shards = BTreeMap::new();
        let mut places = Vec::with_capacity(batches.iter().map(|batch| batch.num_rows()).sum());
        for (b, batch) in batches.iter().enumerate() {
            for (r, shard) in shards_of(batch).values().iter().enumerate() {
                let prefix = keys.prefix(places.len());
                places.push(Place { shard: *shard, prefix, at: places.len(), batch: b, row: r });
            }
        }
        for place in &places {
            *shards.entry(place.shard).or_insert(0) += 1;
        }
        places.sort_unstable_by(|a, b| a.cmp(b, &keys));
        let order = places.into_iter().map(|place| (place.batch, place.row)).collect();
        Ok(Sorted { batches, order, shards })
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.order.len() as u64
    }

    /// Returns whether the rows were in this order already.
    pub fn was_in_order(&self) -> bool {
        self.order.is_sorted()
    }

    /// Returns the rows, in order, in pieces of [`GROUP_ROWS`] at most, each to be a row group.
    pub fn pieces(&self) -> impl Iterator<Item = Result<RecordBatch, String>> + '_ {
        let mut rest = self.order.as_slice();
        self.piece_lengths().into_iter().map(move |rows| {
            let (piece, after) = rest.split_at(rows);
            rest = after;
            interleave_record_batch(&self.batches, piece).map_err(|e| e.to_string())
        })
    }

    fn piece_lengths(&self) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut piece = 0;
        for rows in self.shards.values() {
            piece += usize::try_from(*rows).expect("they are in memory");
            while piece > GROUP_ROWS {
                lengths.push(GROUP_ROWS);
                piece -= GROUP_ROWS;
            }
            if piece >= GROUP_ROWS_ENOUGH {
                lengths.push(std::mem::take(&mut piece));
            }
        }
        lengths.extend(Some(piece).filter(|rows| *rows > 0));
        lengths
    }
}

fn check_columns(batches: &[&RecordBatch], spec: &TableSpec) -> Result<(), String> {
    if !is_state_schema(&spec.schema) {
        return Err("its first columns are not `shard` and `op`".into());
    }
    for batch in batches {
        if batch.schema().fields() != spec.schema.fields() {
            return Err(format!("rows have the columns {:?}, the table {:?}", batch.schema(), spec.schema));
        }
        let ops = batch.column(1).as_primitive::<Int8Type>();
        if batch.column(0).null_count() + ops.null_count() > 0 || ops.values().iter().any(|op| !matches!(op, 0 | 1)) {
            return Err("a row has no shard, or an `op` other than 0 and 1".into());
        }
    }
    Ok(())
}

struct Place {
    shard: u16,
    prefix: u64,
    at: usize,
    batch: usize,
    row: usize,
}

impl Place {
    fn cmp(&self, other: &Place, keys: &Keys) -> Ordering {
        (self.shard, self.prefix)
            .cmp(&(other.shard, other.prefix))
            .then_with(|| keys.cmp(self.at, other.at))
            .then_with(|| self.at.cmp(&other.at))
    }
}

/// The key columns of all rows, in a form that compares as bytes.
struct Keys(Option<Rows>);

impl Keys {
    fn of(batches: &[&RecordBatch], key_columns: usize) -> Result<Keys, String> {
        let Some(first) = batches.first().filter(|_| key_columns > 0) else { return Ok(Keys(None)) };
        let columns = |batch: &RecordBatch| -> Result<Vec<ArrayRef>, String> {
            let keys = batch.columns().get(2..2 + key_columns);
            keys.map(<[ArrayRef]>::to_vec).ok_or_else(|| format!("it has no {key_columns} key columns"))
        };
        let fields = columns(first)?.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(|e| e.to_string())?;
        let mut rows = converter.empty_rows(batches.iter().map(|batch| batch.num_rows()).sum(), 0);
        for batch in batches {
            converter.append(&mut rows, &columns(batch)?).map_err(|e| e.to_string())?;
        }
        Ok(Keys(Some(rows)))
    }

    /// Returns the first bytes of key `at` as a number that orders as they do.
    fn prefix(&self, at: usize) -> u64 {
        let Some(rows) = &self.0 else { return 0 };
        let row = rows.row(at);
        let bytes = row.data();
        let mut prefix = [0; 8];
        let length = bytes.len().min(8);
        prefix[..length].copy_from_slice(&bytes[..length]);
        u64::from_be_bytes(prefix)
    }

    fn cmp(&self, a: usize, b: usize) -> Ordering {
        self.0.as_ref().map_or(Ordering::Equal, |rows| rows.row(a).cmp(&rows.row(b)))
    }
}
