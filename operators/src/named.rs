//! Columns by name: whether a stream has those that a step reads, and their values row by row. For steps whose rows are few; what
//! reads every event has readers of its own.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use riverrun_dataflow::operator::StepError;

use crate::expression::type_name;

/// What stands in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Text,
    Whole,
    Flag,
    /// A timestamp of any unit.
    Time,
    /// A list of texts.
    Texts,
}

/// A column that a step reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub name: &'static str,
    pub holds: Holds,
    /// Without it the step cannot work.
    pub required: bool,
}

/// A column without which a step cannot work.
pub(crate) const fn must(name: &'static str, holds: Holds) -> Wanted {
    Wanted { name, holds, required: true }
}

/// A column that a step uses if it is there.
pub(crate) const fn may(name: &'static str, holds: Holds) -> Wanted {
    Wanted { name, holds, required: false }
}

/// Says what is wrong with a stream from which these columns are to be read, if anything is.
pub(crate) fn misfit(schema: &Schema, wanted: &[Wanted]) -> Option<String> {
    wanted.iter().find_map(|column| {
        let Some((_, field)) = schema.column_with_name(column.name) else {
            return column.required.then(|| format!("it has no `{}`", column.name));
        };
        let fits = match (column.holds, field.data_type()) {
            (Holds::Text, DataType::Utf8) | (Holds::Whole, DataType::Int64) | (Holds::Flag, DataType::Boolean) => true,
            (Holds::Time, DataType::Timestamp(..)) => true,
            (Holds::Texts, DataType::List(item)) => item.data_type() == &DataType::Utf8,
            _ => false,
        };
        (!fits).then(|| format!("its `{}` is of the type {}", column.name, type_name(field.data_type())))
    })
}

/// Returns the names of these columns that a stream has.
pub(crate) fn names_in(schema: &Schema, wanted: &[Wanted]) -> Vec<&'static str> {
    wanted.iter().map(|column| column.name).filter(|name| schema.column_with_name(name).is_some()).collect()
}

/// The cells of a batch.
pub(crate) struct Cells {
    columns: Vec<(&'static str, ArrayRef)>,
}

impl Cells {
    /// Finds the columns, whose stream was checked; times are brought to milliseconds.
    pub(crate) fn of(batch: &RecordBatch, wanted: &[Wanted]) -> Result<Cells, StepError> {
        let mut columns = Vec::new();
        for column in wanted {
            let Some(array) = batch.column_by_name(column.name) else { continue };
            let array = match column.holds {
                Holds::Time => cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None))?,
                _ => array.clone(),
            };
            columns.push((column.name, array));
        }
        Ok(Cells { columns })
    }

    fn at(&self, name: &str, row: usize) -> Option<&ArrayRef> {
        let column = self.columns.iter().find(|(other, _)| *other == name).map(|(_, column)| column);
        column.filter(|column| column.is_valid(row))
    }

    /// Returns a text; none if it is null or empty.
    pub(crate) fn text(&self, name: &str, row: usize) -> Option<&str> {
        self.at(name, row).map(|column| column.as_string::<i32>().value(row)).filter(|text| !text.is_empty())
    }

    /// Returns a whole number.
    pub(crate) fn whole(&self, name: &str, row: usize) -> Option<i64> {
        self.at(name, row).map(|column| column.as_primitive::<Int64Type>().value(row))
    }

    /// Returns a number that is small and not below 0: what is outside is brought to the edge.
    pub(crate) fn count(&self, name: &str, row: usize) -> u32 {
        let number = self.whole(name, row).unwrap_or(0);
        u32::try_from(number).unwrap_or(if number < 0 { 0 } else { u32::MAX })
    }

    /// Returns a yes or no.
    pub(crate) fn flag(&self, name: &str, row: usize) -> Option<bool> {
        self.at(name, row).map(|column| column.as_boolean().value(row))
    }

    /// Returns a time, in milliseconds.
    pub(crate) fn millis(&self, name: &str, row: usize) -> Option<i64> {
        self.at(name, row).map(|column| column.as_primitive::<TimestampMillisecondType>().value(row))
    }

    /// Returns a list of texts; nulls are left out.
    pub(crate) fn texts(&self, name: &str, row: usize) -> Vec<String> {
        let Some(column) = self.at(name, row) else { return Vec::new() };
        let items = column.as_list::<i32>().value(row);
        items.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
    }
}
