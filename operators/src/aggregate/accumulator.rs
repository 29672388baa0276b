//! What all accumulators have in common: columns of numbered slots, one slot per group, folded batch by batch.

use arrow::array::AsArray;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, UInt32Type, UInt64Type};
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::Hidden;

use super::count::Count;
use super::distinct::Distinct;
use super::edge::Edge;
use super::extreme::Extreme;
use super::quantile::Quantile;
use super::sum::{ExactSum, FloatSum};
use super::{Aggregate, AggregateKind};

/// One aggregate's part of the state of many groups.
pub(super) trait Accumulator {
    /// Makes room for `slots` slots; new ones are empty.
    fn grow(&mut self, slots: usize);
    /// Empties slots.
    fn clear(&mut self, slots: &[u32]);
    /// Takes rows in.
    fn fold(&mut self, rows: &Fold<'_>);
    /// Returns the results of slots.
    fn finish(&self, slots: &[u32]) -> ArrayRef;
    /// Returns the columns in which a checkpoint keeps it; `name` is the aggregate's.
    fn state_fields(&self, name: &str) -> Vec<Field>;
    /// Returns the state of slots, in the columns of [`Accumulator::state_fields`].
    fn save(&self, slots: &[u32]) -> Vec<ArrayRef>;
    /// Puts saved rows into slots: row `rows[i]` into slot `slots[i]`. A later one wins.
    fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]);
    /// Returns how many values it keeps beyond a fixed number per slot.
    fn extra(&self) -> usize {
        0
    }
}

/// Rows of a batch to be folded: row `rows[i]` into slot `slots[i]`.
pub(super) struct Fold<'a> {
    pub(super) rows: &'a [u32],
    pub(super) slots: &'a [u32],
    pub(super) argument: Option<&'a ArrayRef>,
    pub(super) order: &'a OrderKeys,
}

impl Fold<'_> {
    /// Returns the argument, which all aggregates but `count(*)` have.
    pub(super) fn values(&self) -> &ArrayRef {
        self.argument.expect("only `count(*)` has no argument")
    }

    /// Calls `each` with slot and row, but not for rows whose argument is null.
    pub(super) fn for_each_valid(&self, mut each: impl FnMut(usize, usize)) {
        let pairs = self.slots.iter().zip(self.rows).map(|(slot, row)| (*slot as usize, *row as usize));
        match self.argument.and_then(|values| values.logical_nulls()).filter(|nulls| nulls.null_count() > 0) {
            None => pairs.for_each(|(slot, row)| each(slot, row)),
            Some(nulls) => pairs.filter(|(_, row)| nulls.is_valid(*row)).for_each(|(slot, row)| each(slot, row)),
        }
    }
}

/// The hidden columns of a batch that make per-key order; those that it does not carry are equal for all rows.
pub(super) struct OrderKeys {
    pub(super) times: Option<ScalarBuffer<i64>>,
    pub(super) ids: Option<StringArray>,
    pub(super) splits: Option<ScalarBuffer<u32>>,
    pub(super) positions: Option<ScalarBuffer<u64>>,
}

impl OrderKeys {
    pub(super) fn of(batch: &RecordBatch) -> OrderKeys {
        let column = |hidden: Hidden| batch.column_by_name(hidden.name());
        OrderKeys {
            times: column(Hidden::Time).map(|c| c.as_primitive::<Int64Type>().values().clone()),
            ids: column(Hidden::Id).map(|c| c.as_string::<i32>().clone()),
            splits: column(Hidden::Split).map(|c| c.as_primitive::<UInt32Type>().values().clone()),
            positions: column(Hidden::Position).map(|c| c.as_primitive::<UInt64Type>().values().clone()),
        }
    }

    pub(super) fn time(&self, row: usize) -> i64 {
        self.times.as_ref().map_or(0, |times| times[row])
    }
    pub(super) fn id(&self, row: usize) -> Option<&str> {
        self.ids.as_ref().filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row))
    }
    pub(super) fn split(&self, row: usize) -> u32 {
        self.splits.as_ref().map_or(0, |splits| splits[row])
    }
    pub(super) fn position(&self, row: usize) -> u64 {
        self.positions.as_ref().map_or(0, |positions| positions[row])
    }
}

/// Returns an empty accumulator for `aggregate`.
pub(super) fn accumulator_of(aggregate: &Aggregate) -> Box<dyn Accumulator> {
    let of = aggregate.argument.as_ref().map_or(DataType::Null, |argument| argument.data_type().clone());
    match (aggregate.kind, &of) {
        (AggregateKind::Count, _) => Box::new(Count::default()),
        (AggregateKind::Sum | AggregateKind::Avg, DataType::Float64) => {
            Box::new(FloatSum::new(aggregate.kind == AggregateKind::Avg))
        }
        (AggregateKind::Sum | AggregateKind::Avg, _) => {
            Box::new(ExactSum::new(of, aggregate.data_type.clone(), aggregate.kind == AggregateKind::Avg))
        }
        (_, DataType::Utf8) => of_scalars::<Box<str>>(aggregate.kind, of),
        (_, DataType::Float64) => of_scalars::<f64>(aggregate.kind, of),
        (_, DataType::Decimal128(..)) => of_scalars::<i128>(aggregate.kind, of),
        _ => of_scalars::<i64>(aggregate.kind, of),
    }
}

fn of_scalars<T: super::scalar::Scalar>(kind: AggregateKind, of: DataType) -> Box<dyn Accumulator> {
    use std::cmp::Ordering;
    match kind {
        AggregateKind::CountDistinct => Box::new(Distinct::<T>::new(of)),
        AggregateKind::Min => Box::new(Extreme::<T>::new(of, Ordering::Less)),
        AggregateKind::Max => Box::new(Extreme::<T>::new(of, Ordering::Greater)),
        AggregateKind::Quantile(share) => Box::new(Quantile::<T>::new(of, share)),
        AggregateKind::First => Box::new(Edge::<T>::new(of, Ordering::Less)),
        _ => Box::new(Edge::<T>::new(of, Ordering::Greater)),
    }
}

/// Gathers fixed-size values of slots.
pub(super) fn gather<T: Copy>(values: &[T], slots: &[u32]) -> Vec<T> {
    slots.iter().map(|slot| values[*slot as usize]).collect()
}

/// Checks that restored rows have the columns they were saved with.
pub(super) fn check_columns(found: &[ArrayRef], fields: &[Field]) -> Result<(), StepError> {
    let wrong = found.len() != fields.len()
        || found.iter().zip(fields).any(|(column, field)| {
            column.data_type() != field.data_type() || (!field.is_nullable() && column.null_count() > 0)
        });
    match wrong {
        false => Ok(()),
        true => {
            let names: Vec<_> = fields.iter().map(|field| field.to_string()).collect();
            Err(StepError::State(format!("expected the columns {}", names.join(", "))))
        }
    }
}

/// Returns `values` where `valid`, as the iterator that arrays are made of.
pub(super) fn optional<'a, T: super::scalar::Scalar>(
    values: &'a [T],
    valid: &'a [bool],
    slots: &'a [u32],
) -> impl Iterator<Item = Option<T::Ref<'a>>> {
    slots.iter().map(|slot| valid[*slot as usize].then(|| values[*slot as usize].get()))
}
