//! Several aggregates over the same groups: each distinct filter and argument is evaluated once per batch.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Float64Type};
use riverrun_dataflow::operator::StepError;

use super::Aggregate;
use super::accumulator::{Accumulator, Fold, OrderKeys, accumulator_of, check_columns};
use crate::expression::{Expression, FailedRow, Filtered};

/// The aggregates of a step, and what they keep of all groups: columns of numbered slots.
pub struct Aggregates {
    named: Vec<(String, Aggregate)>,
    filters: Vec<Expression>,
    arguments: Vec<Expression>,
    /// Filter and argument of each aggregate.
    parts: Vec<(Option<usize>, Option<usize>)>,
    accumulators: Vec<Box<dyn Accumulator>>,
    slots: usize,
    /// Rows and slots that a filter lets through; kept for their memory.
    kept_rows: Vec<u32>,
    kept_slots: Vec<u32>,
}

/// What the aggregates need of a batch.
pub struct AggregateInputs {
    filters: Vec<BooleanBuffer>,
    arguments: Vec<ArrayRef>,
    order: OrderKeys,
    /// The rows on which a filter failed, or an argument where its filter is true; ascending. They must not be folded.
    pub failed: Vec<FailedRow>,
}

fn place(list: &mut Vec<Expression>, expression: &Option<Expression>) -> Option<usize> {
    let expression = expression.as_ref()?;
    Some(list.iter().position(|known| known == expression).unwrap_or_else(|| {
        list.push(expression.clone());
        list.len() - 1
    }))
}

impl Aggregates {
    /// Returns accumulators without slots.
    pub fn new(named: Vec<(String, Aggregate)>) -> Aggregates {
        let (mut filters, mut arguments) = (Vec::new(), Vec::new());
        let parts = named.iter().map(|(_, a)| (place(&mut filters, &a.filter), place(&mut arguments, &a.argument)));
        let parts = parts.collect();
        let accumulators = named.iter().map(|(_, aggregate)| accumulator_of(aggregate)).collect();
        let (kept_rows, kept_slots) = (Vec::new(), Vec::new());
        Aggregates { named, filters, arguments, parts, accumulators, slots: 0, kept_rows, kept_slots }
    }

    /// Returns the columns of the results.
    pub fn fields(&self) -> Vec<Field> {
        self.named.iter().map(|(name, aggregate)| aggregate.field(name)).collect()
    }

    /// Returns the columns in which a checkpoint keeps a slot.
    pub fn state_fields(&self) -> Vec<Field> {
        let parts = self.named.iter().zip(&self.accumulators);
        parts.flat_map(|((name, _), accumulator)| accumulator.state_fields(name)).collect()
    }

    /// Returns whether rows have to be folded in per-key order, as [`AggregateInputs::in_order`] puts them.
    pub fn folds_in_order(&self) -> bool {
        self.named.iter().any(|(_, aggregate)| aggregate.folds_in_order())
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Returns how many values are kept beyond a fixed number per slot.
    pub fn extra(&self) -> usize {
        self.accumulators.iter().map(|accumulator| accumulator.extra()).sum()
    }

    /// Makes room for `slots` slots; new ones are empty.
    pub fn grow(&mut self, slots: usize) {
        self.slots = self.slots.max(slots);
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.grow(self.slots));
    }

    /// Empties slots.
    pub fn clear(&mut self, slots: &[u32]) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(slots));
    }

    /// Evaluates filters and arguments on a batch.
    pub fn evaluate(&self, batch: &RecordBatch) -> AggregateInputs {
        let filters: Vec<Filtered> = self.filters.iter().map(|filter| filter.filter(batch)).collect();
        let arguments: Vec<_> = self.arguments.iter().map(|argument| argument.evaluate(batch)).collect();
        let mut failed = BTreeMap::new();
        for failure in filters.iter().flat_map(|filter| &filter.failed) {
            failed.entry(failure.row).or_insert_with(|| failure.reason.clone());
        }
        for (filter, argument) in &self.parts {
            let counts = |row: usize| filter.is_none_or(|filter| filters[filter].kept.value(row));
            let failures = argument.iter().flat_map(|argument| &arguments[*argument].failed);
            for failure in failures.filter(|failure| counts(failure.row)) {
                failed.entry(failure.row).or_insert_with(|| failure.reason.clone());
            }
        }
        AggregateInputs {
            filters: filters.into_iter().map(|filter| filter.kept).collect(),
            arguments: arguments.into_iter().map(|argument| argument.values).collect(),
            order: OrderKeys::of(batch),
            failed: failed.into_iter().map(|(row, reason)| FailedRow { row, reason }).collect(),
        }
    }

    /// Folds row `rows[i]` of an evaluated batch into slot `slots[i]`, for all i.
    pub fn fold(&mut self, inputs: &AggregateInputs, rows: &[u32], slots: &[u32]) {
        assert_eq!(rows.len(), slots.len(), "each row has its slot");
        self.fold_filtered(inputs, None, rows, slots);
        let (mut kept_rows, mut kept_slots) =
            (std::mem::take(&mut self.kept_rows), std::mem::take(&mut self.kept_slots));
        for filter in 0..self.filters.len() {
            let kept = &inputs.filters[filter];
            kept_rows.clear();
            kept_slots.clear();
            for (row, slot) in rows.iter().zip(slots) {
                if kept.value(*row as usize) {
                    kept_rows.push(*row);
                    kept_slots.push(*slot);
                }
            }
            self.fold_filtered(inputs, Some(filter), &kept_rows, &kept_slots);
        }
        (self.kept_rows, self.kept_slots) = (kept_rows, kept_slots);
    }

    fn fold_filtered(&mut self, inputs: &AggregateInputs, filter: Option<usize>, rows: &[u32], slots: &[u32]) {
        for ((_, argument), accumulator) in
            self.parts.iter().zip(&mut self.accumulators).filter(|((f, _), _)| *f == filter)
        {
            let argument = argument.map(|argument| &inputs.arguments[argument]);
            accumulator.fold(&Fold { rows, slots, argument, order: &inputs.order });
        }
    }

    /// Returns the results of slots, in the columns of [`Aggregates::fields`].
    pub fn finish(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.accumulators.iter().map(|accumulator| accumulator.finish(slots)).collect()
    }

    /// Returns the state of slots, in the columns of [`Aggregates::state_fields`].
    pub fn save(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.accumulators.iter().flat_map(|accumulator| accumulator.save(slots)).collect()
    }

    /// Puts saved rows back: row `rows[i]` of `columns` into slot `slots[i]`. A later one wins.
    pub fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]) -> Result<(), StepError> {
        let mut from = 0;
        for ((name, _), accumulator) in self.named.iter().zip(&mut self.accumulators) {
            let fields = accumulator.state_fields(name);
            let own = columns.get(from..from + fields.len()).unwrap_or_default();
            check_columns(own, &fields)?;
            accumulator.load(slots, rows, own);
            from += fields.len();
        }
        Ok(())
    }
}

impl AggregateInputs {
    /// Puts `rows` in per-key order. Rows that are equal in it go by the values of the float arguments: what is still equal then
    /// adds up to the same in any order.
    pub fn in_order(&self, rows: &mut [u32]) {
        let floats: Vec<_> = self.arguments.iter().filter_map(|a| a.as_primitive_opt::<Float64Type>()).collect();
        let order = &self.order;
        rows.sort_unstable_by(|a, b| {
            let (a, b) = (*a as usize, *b as usize);
            let hidden = order.time(a).cmp(&order.time(b)).then_with(|| {
                let ids = order.id(a).cmp(&order.id(b));
                ids.then_with(|| order.split(a).cmp(&order.split(b)))
                    .then_with(|| order.position(a).cmp(&order.position(b)))
            });
            hidden.then_with(|| {
                let values = floats.iter().map(|f| {
                    let nulls = f.is_valid(a).cmp(&f.is_valid(b));
                    nulls.then_with(|| f.value(a).total_cmp(&f.value(b)))
                });
                values.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            })
        });
    }
}
