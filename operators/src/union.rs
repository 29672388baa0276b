//! Union: several inputs with the same columns become one stream.
//!
//! In:       batches with the same visible columns: names and types, in the same order.
//! Out:      all rows. A hidden id, split or position that an input does not carry is filled in as none; the key hash stays
//!           only if all inputs have it.
//! Late:     none.
//! Keeps:    nothing; no bound.
//! Restart:  nothing to restore.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_dataflow::operator::{Outputs, StepError, Transform};
use riverrun_dataflow::schema::{Hidden, hidden_of, visible_of, with_hidden};

use crate::expression::type_name;

/// The step, checked.
#[derive(Clone, Debug)]
pub struct Union {
    schema: SchemaRef,
}

impl Union {
    /// Returns the step, or what is different between an input and the first one.
    pub fn new(inputs: &[SchemaRef]) -> Result<Union, String> {
        let (first, others) = inputs.split_first().ok_or("it has no input")?;
        let mut columns = visible_of(first);
        for (index, other) in others.iter().enumerate() {
            merge(&mut columns, other, index + 2)?;
        }
        let hidden: Vec<Vec<Hidden>> = inputs.iter().map(|schema| hidden_of(schema)).collect();
        let in_all = |h: &Hidden| hidden.iter().all(|of_input| of_input.contains(h));
        let in_any = |h: &Hidden| hidden.iter().any(|of_input| of_input.contains(h));
        let kept: Vec<Hidden> = Hidden::ALL
            .into_iter()
            .filter(|h| in_all(h) || (!matches!(h, Hidden::Time | Hidden::Hash) && in_any(h)))
            .collect();
        Ok(Union { schema: with_hidden(&columns, &kept) })
    }

    /// Returns the schema of its rows, hidden columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// Widens the nullability of `columns` to that of another input, whose columns have to be the same otherwise.
fn merge(columns: &mut [Field], other: &Schema, number: usize) -> Result<(), String> {
    let theirs = visible_of(other);
    if theirs.len() != columns.len() {
        return Err(format!("input 1 has {} columns, input {number} has {}", columns.len(), theirs.len()));
    }
    for (ours, theirs) in columns.iter_mut().zip(theirs) {
        if ours.name() != theirs.name() {
            return Err(format!("input 1 has `{}` where input {number} has `{}`", ours.name(), theirs.name()));
        }
        if ours.data_type() != theirs.data_type() {
            return Err(format!(
                "`{}` is a {} in input 1 and a {} in input {number}",
                ours.name(),
                type_name(ours.data_type()),
                type_name(theirs.data_type())
            ));
        }
        ours.set_nullable(ours.is_nullable() || theirs.is_nullable());
    }
    Ok(())
}

impl Transform for Union {
    fn apply(&mut self, _: usize, batch: RecordBatch, out: &mut Outputs) -> Result<(), StepError> {
        let rows = batch.num_rows();
        out.counts.input += rows as u64;
        out.counts.taken += rows as u64;
        if rows == 0 {
            return Ok(());
        }
        if batch.schema_ref() == &self.schema {
            out.rows.push(batch);
            return Ok(());
        }
        let column =
            |field: &Arc<Field>| batch.column_by_name(field.name()).cloned().unwrap_or_else(|| none(field, rows));
        let arrays = self.schema.fields().iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        out.rows.push(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?);
        Ok(())
    }
}

/// Returns a hidden column of rows that have none.
fn none(field: &Field, rows: usize) -> ArrayRef {
    match field.data_type() {
        DataType::UInt32 => Arc::new(UInt32Array::from(vec![u32::MAX; rows])),
        DataType::UInt64 => Arc::new(UInt64Array::from(vec![0; rows])),
        other => new_null_array(other, rows),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Int64Array, StringArray};

    use super::*;

    fn schema(columns: &[(&str, DataType, bool)], hidden: &[Hidden]) -> SchemaRef {
        with_hidden(&columns.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>(), hidden)
    }

    #[test]
    fn a_difference_is_named() {
        let a = schema(&[("a", DataType::Int64, false)], &[]);
        let fault = |other: &[(&str, DataType, bool)]| Union::new(&[a.clone(), schema(other, &[])]).unwrap_err();
        assert_eq!(fault(&[("b", DataType::Int64, false)]), "input 1 has `a` where input 2 has `b`");
        assert_eq!(fault(&[("a", DataType::Utf8, false)]), "`a` is a int64 in input 1 and a string in input 2");
        assert_eq!(fault(&[]), "input 1 has 1 columns, input 2 has 0");
        assert!(Union::new(&[]).is_err());
    }

    #[test]
    fn rows_of_all_inputs_come_out_in_one_schema() {
        let a = schema(&[("a", DataType::Int64, false)], &[Hidden::Time, Hidden::Split, Hidden::Hash]);
        let b = schema(&[("a", DataType::Int64, true)], &[Hidden::Time, Hidden::Id]);
        let mut union = Union::new(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(hidden_of(union.schema()), [Hidden::Time, Hidden::Id, Hidden::Split]);
        let time = || Arc::new(Int64Array::from(vec![9]));
        let of_a = RecordBatch::try_new(
            a,
            vec![
                Arc::new(Int64Array::from(vec![1])),
                time(),
                Arc::new(UInt32Array::from(vec![4])),
                Arc::new(UInt64Array::from(vec![5])),
            ],
        );
        let of_b = RecordBatch::try_new(
            b,
            vec![Arc::new(Int64Array::from(vec![None])), time(), Arc::new(StringArray::from(vec!["id"]))],
        );
        let mut out = Outputs::default();
        union.apply(0, of_a.unwrap(), &mut out).unwrap();
        union.apply(1, of_b.unwrap(), &mut out).unwrap();
        assert!(out.counts.balances() && out.counts.taken == 2);
        assert!(out.rows.iter().all(|rows| rows.schema_ref() == union.schema()));
        assert!(out.rows[0].column(2).is_null(0) && out.rows[1].column(0).is_null(0));
        // A batch that fits passes as it is.
        let fitting = out.rows[0].clone();
        union.apply(0, fitting.clone(), &mut out).unwrap();
        assert!(Arc::ptr_eq(out.rows[2].column(0), fitting.column(0)));
    }
}
