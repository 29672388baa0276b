//! Rows picked for a checkpoint: noted while the job stands still, copied by whoever writes them.
//!
//! Kept rows never change, and their columns are shared. Noting them costs one bit per row of a segment, and the segments are few;
//! their shards are looked up, and the rows of the shards in question copied, beside the job.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, RecordBatch, UInt16Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use riverrun_dataflow::key::{Keys, shard_of};
use riverrun_dataflow::operator::{Frozen, FrozenTable, StepError};

/// A set of rows of a segment.
#[derive(Clone)]
pub(super) struct Rows(Vec<u64>);

impl Rows {
    /// No row of `rows`.
    pub(super) fn none(rows: usize) -> Rows {
        Rows(vec![0; rows.div_ceil(64)])
    }

    /// All of `rows`.
    pub(super) fn all(rows: usize) -> Rows {
        let mut all = vec![u64::MAX; rows.div_ceil(64)];
        if let Some(last) = all.last_mut().filter(|_| !rows.is_multiple_of(64)) {
            *last = (1 << (rows % 64)) - 1;
        }
        Rows(all)
    }

    pub(super) fn add(&mut self, row: u32) {
        self.0[row as usize / 64] |= 1 << (row % 64);
    }

    pub(super) fn remove(&mut self, row: u32) {
        self.0[row as usize / 64] &= !(1 << (row % 64));
    }

    /// Returns the rows, ascending.
    fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.0).flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let lowest = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(word * 64 + lowest)
            })
        })
    }
}

/// Rows of one segment.
pub(super) struct Picked {
    segment: RecordBatch,
    keys: Arc<Keys>,
    rows: Rows,
}

impl Picked {
    /// Picks `rows` of a segment, of which `keys` are the keys.
    pub(super) fn of(segment: RecordBatch, keys: Arc<Keys>, rows: Rows) -> Picked {
        Picked { segment, keys, rows }
    }

    /// Returns those of the rows of which `wanted` wants the shard as rows of a checkpoint.
    fn gather(
        self,
        schema: &SchemaRef,
        shards: u16,
        wanted: impl Fn(u16) -> bool,
    ) -> Result<Option<RecordBatch>, StepError> {
        let with_shards = self.rows.iter().map(|row| (row, shard_of(self.keys.hashes[row as usize], shards)));
        let (rows, shards): (Vec<u32>, Vec<u16>) = with_shards.filter(|(_, shard)| wanted(*shard)).unzip();
        if rows.is_empty() {
            return Ok(None);
        }
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(UInt16Array::from(shards)), Arc::new(Int8Array::from(vec![1; rows.len()]))];
        if rows.len() == self.segment.num_rows() {
            columns.extend_from_slice(self.segment.columns());
        } else {
            columns.extend_from_slice(take_record_batch(&self.segment, &UInt32Array::from(rows))?.columns());
        }
        Ok(Some(RecordBatch::try_new(schema.clone(), columns)?))
    }
}

/// Returns a table of which `delta` are new rows and `base` all rows, to be written for the shards in `rebase`.
pub(super) fn frozen(schema: SchemaRef, shards: u16, rebase: &[u16], delta: Vec<Picked>, base: Vec<Picked>) -> Frozen {
    let mut rebased = vec![false; usize::from(shards)];
    rebase.iter().for_each(|shard| rebased[usize::from(*shard)] = true);
    Frozen::later(move || {
        let gather = |picked: Vec<Picked>, wanted: bool| -> Result<Vec<RecordBatch>, StepError> {
            let picked = picked.into_iter();
            picked
                .filter_map(|it| it.gather(&schema, shards, |shard| rebased[usize::from(shard)] == wanted).transpose())
                .collect()
        };
        Ok(FrozenTable { delta: gather(delta, false)?, base: gather(base, true)? })
    })
}
