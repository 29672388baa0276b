//! What the checkpoints of some workers wrote, as a recovery reads it.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt16Type;
use riverrun_dataflow::key::worker_of;
use riverrun_dataflow::operator::Operator;

/// The rows by table, oldest first.
#[derive(Default)]
pub(crate) struct Stored(BTreeMap<usize, Vec<RecordBatch>>);

/// Returns which rows are of shards of which `is_meant` is true.
fn of_shards(rows: &RecordBatch, is_meant: impl Fn(u16) -> bool) -> BooleanArray {
    rows.column(0).as_primitive::<UInt16Type>().values().iter().map(|shard| Some(is_meant(*shard))).collect()
}

impl Stored {
    /// Writes a checkpoint: all of the shards in `rebase`, changes of the others. What was stored of the former is replaced.
    pub(crate) fn freeze<S: Operator>(&mut self, workers: &mut [S], rebase: &[u16]) {
        let others = |rows: &RecordBatch| of_shards(rows, |shard| !rebase.contains(&shard));
        for rows in self.0.values_mut().flatten() {
            *rows = filter_record_batch(rows, &others(rows)).unwrap();
        }
        for state in workers {
            let tables = state.tables();
            for (table, frozen) in state.freeze(&vec![rebase.to_vec(); tables.len()]).unwrap().into_iter().enumerate() {
                let frozen = frozen.gather().unwrap();
                for rows in frozen.base.iter().chain(&frozen.delta) {
                    assert_eq!(rows.schema(), tables[table].schema);
                    assert!(rows.num_rows() > 0);
                }
                assert!(frozen.delta.iter().all(|rows| others(rows).false_count() == 0));
                assert!(frozen.base.iter().all(|rows| others(rows).true_count() == 0));
                self.0.entry(table).or_default().extend(frozen.base.into_iter().chain(frozen.delta));
            }
            let again = state.freeze(&vec![Vec::new(); tables.len()]).unwrap();
            let again: Vec<_> = again.into_iter().map(|frozen| frozen.gather().unwrap()).collect();
            let is_nothing = again.iter().all(|frozen| frozen.delta.is_empty() && frozen.base.is_empty());
            assert!(is_nothing, "nothing changed since");
        }
    }

    /// Puts back into fresh workers what each of them owns, of so many shards.
    pub(crate) fn restore<S: Operator>(&self, workers: &mut [S], shards: u16) {
        let count = workers.len();
        for (worker, state) in workers.iter_mut().enumerate() {
            for (table, rows) in self.0.iter().flat_map(|(table, all)| all.iter().map(move |rows| (*table, rows))) {
                let own = of_shards(rows, |shard| worker_of(shard, shards, count) == worker);
                state.restore(table, &filter_record_batch(rows, &own).unwrap()).unwrap();
            }
        }
    }

    /// Returns how many rows of a table are stored.
    pub(crate) fn rows(&self, table: usize) -> usize {
        self.0.get(&table).map_or(0, |all| all.iter().map(RecordBatch::num_rows).sum())
    }
}
