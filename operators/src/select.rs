//! Select: drops the rows that a `where` refuses and computes columns.
//!
//! In:       any batch.
//! Out:      a batch of the computed columns, hidden columns as they came; rows keep their order. Plain columns are not copied
//!           while nothing is dropped.
//! Late:     none.
//! Bad:      a row on which `where` or a column fails goes to the bad output; so does no row that `where` refuses.
//! Keeps:    nothing; no bound.
//! Restart:  nothing to restore.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use riverrun_dataflow::operator::{Outputs, StepError, Transform};
use riverrun_dataflow::schema::is_hidden;

use crate::bad_row::bad_row;
use crate::expression::{Expression, FailedRow};

/// The step, checked.
#[derive(Clone, Debug)]
pub struct Select {
    filter: Option<Expression>,
    /// Columns of the input that are still needed after `filter`: those that `columns` read, then the hidden ones.
    needed: Vec<usize>,
    /// Bound to the needed columns.
    columns: Vec<Expression>,
    /// How many of the needed columns are hidden; they stand last.
    hidden: usize,
    schema: SchemaRef,
}

impl Select {
    /// Returns the step: `filter` is a predicate, both it and `columns` are compiled over `input`. `None`: all columns.
    pub fn new(input: &Schema, filter: Option<Expression>, columns: Option<Vec<(String, Expression)>>) -> Select {
        let is_visible = |index: &usize| !is_hidden(input.field(*index).name());
        let (visible, hidden): (Vec<_>, Vec<_>) = (0..input.fields().len()).partition(is_visible);
        let hidden_fields = hidden.iter().map(|index| Arc::new(input.field(*index).clone()));
        let Some(columns) = columns else {
            let plain = visible.iter().map(|index| Expression::column(input, *index)).collect();
            let schema = Arc::new(Schema::new(input.fields().clone()));
            return Select {
                filter,
                needed: [visible, hidden.clone()].concat(),
                columns: plain,
                hidden: hidden.len(),
                schema,
            };
        };
        let read = |index: &usize| columns.iter().any(|(_, e)| e.columns().contains(input.field(*index).name()));
        let needed: Vec<usize> = visible.into_iter().filter(read).chain(hidden.iter().copied()).collect();
        // A column as it stands keeps all that its field says of it: that it holds JSON, for one.
        let field = |(name, e): &(String, Expression)| match e.as_column() {
            Some(index) => Arc::new(input.field(index).clone().with_name(name)),
            None => Arc::new(Field::new(name, e.data_type().clone(), true)),
        };
        let fields: Vec<_> = columns.iter().map(field).chain(hidden_fields).collect();
        let columns = columns.into_iter().map(|(_, e)| e.on_columns(&needed)).collect();
        Select { filter, needed, columns, hidden: hidden.len(), schema: Arc::new(Schema::new(fields)) }
    }

    /// Returns the schema of its rows, hidden columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Drops what `where` refuses; returns the needed columns of the rest, and the row in `batch` of each of its rows.
    fn filtered(
        &self,
        batch: &RecordBatch,
        out: &mut Outputs,
    ) -> Result<(RecordBatch, Option<BooleanBuffer>), StepError> {
        let needed = batch.project(&self.needed)?;
        let Some(condition) = &self.filter else { return Ok((needed, None)) };
        let filtered = condition.filter(batch);
        out.bad.extend(filtered.failed.iter().map(|failed| bad_row(batch, failed)));
        let kept = filtered.kept.count_set_bits();
        out.counts.bad += filtered.failed.len() as u64;
        out.counts.filtered += (batch.num_rows() - kept - filtered.failed.len()) as u64;
        if kept == batch.num_rows() {
            return Ok((needed, None));
        }
        let mask = BooleanArray::new(filtered.kept, None);
        Ok((filter_record_batch(&needed, &mask)?, Some(mask.values().clone())))
    }

    /// Gives rows on which a column failed to the bad output; `kept` says which rows of `batch` the values are of.
    fn set_aside(
        batch: &RecordBatch,
        kept: Option<&BooleanBuffer>,
        failed: BTreeMap<usize, String>,
        out: &mut Outputs,
    ) {
        out.counts.bad += failed.len() as u64;
        let original: Option<Vec<usize>> = kept.map(|kept| kept.set_indices().collect());
        out.bad.extend(failed.into_iter().map(|(row, reason)| {
            let row = original.as_ref().map_or(row, |original| original[row]);
            bad_row(batch, &FailedRow { row, reason })
        }));
    }
}

impl Transform for Select {
    fn apply(&mut self, _: usize, batch: RecordBatch, out: &mut Outputs) -> Result<(), StepError> {
        out.counts.input += batch.num_rows() as u64;
        let (needed, kept) = self.filtered(&batch, out)?;
        if needed.num_rows() == 0 {
            return Ok(());
        }
        let mut failed = BTreeMap::new();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for column in &self.columns {
            let evaluated = column.evaluate(&needed);
            arrays.push(evaluated.values);
            for failure in evaluated.failed {
                failed.entry(failure.row).or_insert(failure.reason);
            }
        }
        arrays.extend_from_slice(&needed.columns()[needed.num_columns() - self.hidden..]);
        let mut rows = needed.num_rows();
        if !failed.is_empty() {
            let good: BooleanArray = (0..rows).map(|row| Some(!failed.contains_key(&row))).collect();
            arrays = arrays.iter().map(|array| filter(array, &good)).collect::<Result<_, _>>()?;
            rows -= failed.len();
            Select::set_aside(&batch, kept.as_ref(), failed, out);
        }
        out.counts.taken += rows as u64;
        if rows > 0 {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            out.rows.push(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray, UInt32Array, UInt64Array};
    use arrow::datatypes::{DataType, Int64Type};
    use arrow::util::display::array_value_to_string;
    use proptest::prelude::*;
    use riverrun_dataflow::schema::{Hidden, with_hidden};

    use super::*;
    use crate::expression::Expressions;

    fn batch(n: &[Option<i64>]) -> RecordBatch {
        let columns = [Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, false)];
        let schema = with_hidden(&columns, &[Hidden::Time, Hidden::Split, Hidden::Position]);
        let rows = n.len();
        RecordBatch::try_new(
            schema,
            vec![
                Arc::new(Int64Array::from(n.to_vec())),
                Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("s{row}")))),
                Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row as i64))),
                Arc::new(UInt32Array::from(vec![3; rows])),
                Arc::new(UInt64Array::from_iter_values((0..rows).map(|row| 100 + row as u64))),
            ],
        )
        .unwrap()
    }

    fn select(filter: Option<&str>, columns: Option<&[(&str, &str)]>) -> Select {
        let (e, schema) = (Expressions::new(), batch(&[]).schema());
        let columns = columns
            .map(|all| all.iter().map(|(name, sql)| (name.to_string(), e.compile(sql, &schema).unwrap())).collect());
        Select::new(&schema, filter.map(|sql| e.compile_predicate(sql, &schema).unwrap()), columns)
    }

    fn apply(select: &mut Select, batch: RecordBatch) -> (Vec<String>, Outputs) {
        let mut out = Outputs::default();
        select.apply(0, batch, &mut out).unwrap();
        assert!(out.counts.balances(), "{:?}", out.counts);
        assert_eq!(out.counts.bad, out.bad.len() as u64);
        let mut rows = Vec::new();
        for batch in &out.rows {
            assert_eq!(&batch.schema(), select.schema());
            assert!(batch.num_rows() > 0);
            rows.extend((0..batch.num_rows()).map(|row| {
                batch.columns().iter().map(|c| array_value_to_string(c, row).unwrap()).collect::<Vec<_>>().join(" ")
            }));
        }
        (rows, out)
    }

    #[test]
    fn where_drops_and_columns_are_computed() {
        let mut s = select(Some("n > 1"), Some(&[("m", "n * 2"), ("s", "s")]));
        let (rows, out) = apply(&mut s, batch(&[Some(1), Some(2), None, Some(3)]));
        assert_eq!(rows, ["4 s1 1 3 101", "6 s3 3 3 103"]);
        assert_eq!((out.counts.input, out.counts.taken, out.counts.filtered), (4, 2, 2));
        assert_eq!(s.schema().field(0).name(), "m");
    }

    #[test]
    fn without_columns_all_travel_on() {
        let (rows, _) = apply(&mut select(Some("n = 2"), None), batch(&[Some(1), Some(2)]));
        assert_eq!(rows, ["2 s1 1 3 101"]);
        let input = batch(&[Some(1), None]);
        let (_, out) = apply(&mut select(None, None), input.clone());
        assert_eq!(out.rows, [input]);
    }

    #[test]
    fn nothing_is_copied_while_nothing_is_dropped() {
        let input = batch(&[Some(5), Some(6)]);
        let (_, out) = apply(&mut select(Some("n > 1"), Some(&[("t", "s"), ("n", "n")])), input.clone());
        assert!(Arc::ptr_eq(out.rows[0].column(0), input.column(1)));
        assert!(Arc::ptr_eq(out.rows[0].column(1), input.column(0)));
        assert!(Arc::ptr_eq(out.rows[0].column(2), input.column(2)));
        assert!(!out.rows[0].schema().field(0).is_nullable());
    }

    #[test]
    fn failing_rows_are_bad_and_named() {
        let mut s = select(Some("10 / n >= 1"), Some(&[("m", "100 / (n - 2)"), ("k", "1 / (n - 3)")]));
        let (rows, out) = apply(&mut s, batch(&[Some(0), Some(1), Some(50), Some(2), None, Some(3), Some(4)]));
        assert_eq!(rows, ["-100 0 1 3 101", "50 1 6 3 106"]);
        let bad: Vec<_> = out.bad.iter().map(|bad| (bad.split, bad.position)).collect();
        assert_eq!(bad, [(3, 100), (3, 103), (3, 105)]);
        assert_eq!(out.bad[1].raw, br#"{"n":2,"s":"s3"}"#);
        assert_eq!((out.counts.filtered, out.counts.bad, out.counts.taken), (2, 3, 2));
    }

    #[test]
    fn a_batch_may_be_empty_or_lose_all_its_rows() {
        assert!(apply(&mut select(Some("n > 1"), None), batch(&[])).1.rows.is_empty());
        assert!(apply(&mut select(Some("n > 1"), None), batch(&[Some(0); 3])).1.rows.is_empty());
        assert!(apply(&mut select(None, Some(&[("x", "1 / n")])), batch(&[Some(0); 3])).1.rows.is_empty());
        let (rows, _) = apply(&mut select(None, Some(&[("one", "1")])), batch(&[None, None]));
        assert_eq!(rows, ["1 0 3 100", "1 1 3 101"]);
    }

    proptest! {
        /// However rows are cut into batches, the same rows come out.
        #[test]
        fn batches_do_not_matter(n in prop::collection::vec(prop::option::of(-4i64..5), 0..60), size in 1usize..20) {
            let mut s = select(Some("12 / n > -5"), Some(&[("q", "6 / (n - 1)"), ("n", "n")]));
            let whole = batch(&n);
            let (expected, all) = apply(&mut s, whole.clone());
            let (mut rows, mut bad) = (Vec::new(), Vec::new());
            for from in (0..n.len()).step_by(size) {
                let (part, out) = apply(&mut s, whole.slice(from, size.min(n.len() - from)));
                rows.extend(part);
                bad.extend(out.bad);
            }
            let naive: Vec<i64> = n.iter().flatten().copied().filter(|n| *n != 0 && 12 / n > -5 && *n != 1).collect();
            let found: Vec<i64> = all.rows.iter().flat_map(|b| b.column(1).as_primitive::<Int64Type>().values().to_vec()).collect();
            prop_assert_eq!(found, naive);
            prop_assert_eq!(rows, expected);
            bad.sort_by_key(|bad| bad.position);
            let mut all_bad = all.bad;
            all_bad.sort_by_key(|bad| bad.position);
            prop_assert_eq!(bad, all_bad);
        }
    }
}
