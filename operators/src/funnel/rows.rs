//! The rows of a funnel, put together column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use riverrun_behaviour::funnel::{Journey, Taken};
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::Hidden;

use super::{Funnel, Give, carried};
use crate::frustration::texts;

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// Returns the user's columns of the rows of journeys: the keys, what is carried along, how far it came, then of each step when it
/// was taken and how long after the one before. A name may stand twice.
pub fn columns(keys: &[Field], carried: &[Field], steps: &[&str], has_origin: bool) -> Vec<Field> {
    let mut columns = whose(keys, carried);
    columns.push(Field::new("reached", DataType::Int64, false));
    columns.push(Field::new("last_step", DataType::Utf8, false));
    columns.push(Field::new("completed", DataType::Boolean, false));
    for (number, step) in steps.iter().enumerate() {
        columns.push(Field::new(format!("{step}_at"), TIME, number > 0));
        if number > 0 {
            columns.push(Field::new(format!("{step}_after_ms"), DataType::Int64, true));
        }
    }
    columns.push(Field::new("completed_after_ms", DataType::Int64, true));
    columns.extend(evidence(has_origin));
    columns
}

/// Returns the user's columns of the rows of steps. A name may stand twice.
pub fn step_columns(keys: &[Field], carried: &[Field], has_origin: bool) -> Vec<Field> {
    let mut columns = whose(keys, carried);
    columns.push(Field::new("step", DataType::Utf8, false));
    columns.push(Field::new("number", DataType::Int64, false));
    columns.push(Field::new("entered_at", TIME, false));
    columns.push(Field::new("taken_at", TIME, false));
    columns.push(Field::new("after_ms", DataType::Int64, true));
    columns.push(Field::new("after_entry_ms", DataType::Int64, false));
    columns.extend(evidence(has_origin));
    columns
}

fn whose(keys: &[Field], carried: &[Field]) -> Vec<Field> {
    keys.iter().cloned().chain(carried.iter().map(|field| field.clone().with_nullable(true))).collect()
}

fn evidence(has_origin: bool) -> Vec<Field> {
    let names = ["evidence", "evidence_at"].into_iter().filter(|_| has_origin);
    names.map(|name| Field::new(name, texts(), false)).collect()
}

/// Rows to be.
pub(super) struct Builder<'a> {
    plan: &'a Funnel,
    journeys: Vec<&'a Journey>,
}

impl<'a> Builder<'a> {
    /// Begins with no row.
    pub(super) fn new(plan: &'a Funnel) -> Builder<'a> {
        Builder { plan, journeys: Vec::new() }
    }

    /// Adds the row of a journey, or of the last step that it took.
    pub(super) fn push(&mut self, journey: &'a Journey) {
        assert!(!journey.is_none(), "of a journey that did not begin nothing is told");
        self.journeys.push(journey);
    }

    /// Returns the rows, whose keys and the hashes of which are given, as a batch of the step's schema.
    pub(super) fn finish(self, plan: &Funnel, keys: Vec<ArrayRef>, hashes: Vec<u64>) -> Result<RecordBatch, StepError> {
        let mut columns = keys;
        for (at, column) in plan.settings.carried.iter().enumerate() {
            let values = self.journeys.iter().map(|journey| journey.carried().get(at).and_then(Option::as_deref));
            columns.push(carried::column(values, plan.input.field(*column).data_type())?);
        }
        let give = plan.settings.give;
        columns.extend(match give {
            Give::Journeys => self.of_journeys(),
            Give::Steps => self.of_steps(),
        });
        if super::has_origin(|hidden| plan.input.column_with_name(hidden.name()).is_some()) {
            columns.extend(self.evidence());
        }
        for hidden in Hidden::ALL.into_iter().filter(|hidden| plan.schema.column_with_name(hidden.name()).is_some()) {
            columns.push(match hidden {
                Hidden::Hash => Arc::new(UInt64Array::from_iter_values(hashes.iter().copied())),
                other => self.hidden(other, give),
            });
        }
        Ok(RecordBatch::try_new(plan.schema.clone(), columns)?)
    }

    /// Returns a hidden column: that of the row that counts, the first of a journey and the last one taken.
    fn hidden(&self, hidden: Hidden, give: Give) -> ArrayRef {
        let rows = self.journeys.iter().map(|journey| match give {
            Give::Journeys => first(journey),
            Give::Steps => last(journey),
        });
        match hidden {
            Hidden::Id => {
                Arc::new(StringArray::from_iter(rows.map(|row| Some(row.by.id.as_str()).filter(|id| !id.is_empty()))))
            }
            Hidden::Split => Arc::new(UInt32Array::from_iter_values(rows.map(|row| row.by.position.split))),
            Hidden::Position => Arc::new(UInt64Array::from_iter_values(rows.map(|row| row.by.position.offset))),
            Hidden::Time | Hidden::Hash => Arc::new(Int64Array::from_iter_values(rows.map(|row| row.time_us))),
        }
    }

    fn of_journeys(&self) -> Vec<ArrayRef> {
        let (journeys, steps) = (&self.journeys, &self.plan.settings.steps);
        let reached = |journey: &&Journey| journey.taken().len();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(journeys.iter().map(|it| reached(it) as i64))),
            Arc::new(StringArray::from_iter_values(journeys.iter().map(|it| &steps[reached(it) - 1].0))),
            Arc::new(journeys.iter().map(|it| Some(reached(it) == steps.len())).collect::<BooleanArray>()),
        ];
        for number in 0..steps.len() {
            let taken = journeys.iter().map(|journey| journey.taken().get(number));
            let times = taken.map(|taken| Some(taken?.time_us.div_euclid(1000)));
            columns.push(Arc::new(times.collect::<TimestampMillisecondArray>()));
            if number > 0 {
                columns.push(self.numbers(|taken| Some(millis(taken.get(number - 1)?, taken.get(number)?))));
            }
        }
        columns.push(self.numbers(|taken| Some(millis(taken.first()?, taken.get(steps.len() - 1)?))));
        columns
    }

    fn of_steps(&self) -> Vec<ArrayRef> {
        let (journeys, steps) = (&self.journeys, &self.plan.settings.steps);
        let names = journeys.iter().map(|journey| &steps[journey.taken().len() - 1].0);
        let time = |taken: &Taken| Some(taken.time_us.div_euclid(1000));
        vec![
            Arc::new(StringArray::from_iter_values(names)),
            self.numbers(|taken| Some(taken.len() as i64)),
            Arc::new(journeys.iter().map(|it| time(first(it))).collect::<TimestampMillisecondArray>()),
            Arc::new(journeys.iter().map(|it| time(last(it))).collect::<TimestampMillisecondArray>()),
            self.numbers(|taken| Some(millis(taken.get(taken.len().checked_sub(2)?)?, taken.last()?))),
            self.numbers(|taken| Some(millis(taken.first()?, taken.last()?))),
        ]
    }

    fn numbers(&self, of: impl Fn(&[Taken]) -> Option<i64>) -> ArrayRef {
        let mut numbers = Int64Builder::new();
        self.journeys.iter().for_each(|journey| numbers.append_option(of(journey.taken())));
        Arc::new(numbers.finish())
    }

    /// Returns the ids of the rows that took the steps, and where they were read.
    fn evidence(&self) -> [ArrayRef; 2] {
        let [mut ids, mut places] = [(); 2].map(|()| ListBuilder::new(StringBuilder::new()));
        for journey in &self.journeys {
            let taken = match self.plan.settings.give {
                Give::Journeys => journey.taken(),
                Give::Steps => std::slice::from_ref(last(journey)),
            };
            for taken in taken.iter().filter(|taken| !taken.by.id.is_empty()) {
                ids.values().append_value(&taken.by.id);
                let at = &taken.by.position;
                places.values().append_value(format!("{}:{}", at.split, at.offset));
            }
            ids.append(true);
            places.append(true);
        }
        [Arc::new(ids.finish()), Arc::new(places.finish())]
    }
}

fn first(journey: &Journey) -> &Taken {
    journey.taken().first().expect("it was pushed, so it began")
}

fn last(journey: &Journey) -> &Taken {
    journey.taken().last().expect("it was pushed, so it began")
}

/// Returns the whole milliseconds from one step to another.
fn millis(from: &Taken, to: &Taken) -> i64 {
    to.time_us.saturating_sub(from.time_us).div_euclid(1000)
}
