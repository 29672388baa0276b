//! A column that grows cell by cell and can be cut back: a row that turns out bad halfway leaves nothing behind.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray,
    NullBufferBuilder, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowTimestampType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType,
};

use super::calendar::{parse_date, parse_time};
use super::decimal::{parse_decimal, rescaled};
use super::schema::ColumnType;

/// Cells of one column.
#[derive(Debug)]
pub(crate) struct GrowingColumn {
    column_type: ColumnType,
    pub(super) values: Values,
    valid: NullBufferBuilder,
}

/// The values behind the cells; a null has a value too, of no meaning.
#[derive(Debug)]
pub(super) enum Values {
    Text { bytes: Vec<u8>, ends: Vec<i32> },
    Bool(BooleanBufferBuilder),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Date(Vec<i32>),
    List { ends: Vec<i32>, item: Box<GrowingColumn> },
    Struct(Vec<(String, GrowingColumn)>),
}

/// A value does not fit its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It is of another kind: what was found.
    Kind(&'static str),
    /// It is of the right kind, but cannot be held: why.
    Value(&'static str),
    /// It is not even well-formed: what the parser said.
    Malformed(String),
}

impl GrowingColumn {
    /// Returns an empty column with room for `rows`.
    pub(crate) fn new(column_type: &ColumnType, rows: usize) -> GrowingColumn {
        let values = match column_type {
            ColumnType::String | ColumnType::Json => Values::Text { bytes: Vec::new(), ends: starts(rows) },
            ColumnType::Bool => Values::Bool(BooleanBufferBuilder::new(rows)),
            ColumnType::Float64 => Values::Float64(Vec::with_capacity(rows)),
            ColumnType::Decimal { .. } => Values::Decimal(Vec::with_capacity(rows)),
            ColumnType::Date => Values::Date(Vec::with_capacity(rows)),
            ColumnType::List(item) => {
                Values::List { ends: starts(rows), item: Box::new(GrowingColumn::new(item, rows)) }
            }
            ColumnType::Struct(fields) => {
                let grown = fields.iter().map(|(name, field)| (name.clone(), GrowingColumn::new(field, rows)));
                Values::Struct(grown.collect())
            }
            _ => Values::Int64(Vec::with_capacity(rows)),
        };
        GrowingColumn { column_type: column_type.clone(), values, valid: NullBufferBuilder::new(rows) }
    }

    /// Returns the number of cells.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Returns the column's type.
    pub(crate) fn column_type(&self) -> &ColumnType {
        &self.column_type
    }

    /// Returns the bytes of text it holds.
    pub(crate) fn text_bytes(&self) -> usize {
        match &self.values {
            Values::Text { bytes, .. } => bytes.len(),
            Values::List { item, .. } => item.text_bytes(),
            Values::Struct(fields) => fields.iter().map(|(_, field)| field.text_bytes()).sum(),
            _ => 0,
        }
    }

    /// Returns whether cell `index` has a value.
    pub(crate) fn is_valid(&self, index: usize) -> bool {
        self.valid.is_valid(index)
    }

    /// Returns the integer in cell `index`, or `None` if it is null or the column holds no integers.
    pub(crate) fn integer(&self, index: usize) -> Option<i64> {
        match &self.values {
            Values::Int64(values) if self.valid.is_valid(index) => values.get(index).copied(),
            _ => None,
        }
    }

    /// Cuts the column back to `length` cells; a shorter one stays as it is.
    pub(crate) fn truncate(&mut self, length: usize) {
        match &mut self.values {
            Values::Text { bytes, ends } => {
                ends.truncate(length + 1);
                bytes.truncate(last(ends));
            }
            Values::Bool(values) => values.truncate(length),
            Values::Int64(values) => values.truncate(length),
            Values::Float64(values) => values.truncate(length),
            Values::Decimal(values) => values.truncate(length),
            Values::Date(values) => values.truncate(length),
            Values::List { ends, item } => {
                ends.truncate(length + 1);
                item.truncate(last(ends));
            }
            Values::Struct(fields) => fields.iter_mut().for_each(|(_, field)| field.truncate(length)),
        }
        self.valid.truncate(length);
    }

    /// Appends a null.
    pub(crate) fn push_null(&mut self) {
        match &mut self.values {
            Values::Text { ends, .. } | Values::List { ends, .. } => ends.push(*ends.last().expect("starts with 0")),
            Values::Bool(values) => values.append(false),
            Values::Int64(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Date(values) => values.push(0),
            Values::Struct(fields) => fields.iter_mut().for_each(|(_, field)| field.push_null()),
        }
        self.valid.append_null();
    }

    /// Puts an integer in the place of the last cell: of a time its count of units, of a truth value 0 or 1.
    pub(crate) fn replace_last(&mut self, value: i64) {
        let before = self.len() - 1;
        self.truncate(before);
        match &mut self.values {
            Values::Int64(values) => values.push(value),
            Values::Bool(values) => values.append(value != 0),
            other => unreachable!("{other:?} are neither times nor truth values"),
        }
        self.valid.append_non_null();
    }

    /// Appends text: a string's own, or the text form of a decimal, time or date.
    #[inline]
    pub(crate) fn push_text(&mut self, text: &str) -> Result<(), Misfit> {
        match (&mut self.values, &self.column_type) {
            (Values::Text { bytes, ends }, ColumnType::String) => {
                bytes.extend_from_slice(text.as_bytes());
                ends.push(end(bytes.len())?);
            }
            (Values::Decimal(values), ColumnType::Decimal { precision, scale }) => {
                values.push(parse_decimal(text, *precision, *scale).map_err(Misfit::Value)?);
            }
            (Values::Int64(values), ColumnType::Timestamp) => {
                values.push(parse_time(text).ok_or(Misfit::Value("not an RFC 3339 time"))?);
            }
            (Values::Date(values), ColumnType::Date) => {
                values.push(parse_date(text).ok_or(Misfit::Value("not a date such as 2026-01-31"))?);
            }
            _ => return Err(Misfit::Kind("a string")),
        }
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends compact JSON text to a `json` column.
    pub(crate) fn push_json(&mut self, text: &str) -> Result<(), Misfit> {
        let Values::Text { bytes, ends } = &mut self.values else { return Err(Misfit::Kind("a JSON text")) };
        bytes.extend_from_slice(text.as_bytes());
        ends.push(end(bytes.len())?);
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends a truth value.
    pub(crate) fn push_bool(&mut self, value: bool) -> Result<(), Misfit> {
        let Values::Bool(values) = &mut self.values else { return Err(Misfit::Kind("a bool")) };
        values.append(value);
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends an integer to a column of integers or of times that are counted in units.
    #[inline]
    pub(crate) fn push_integer(&mut self, value: i64) -> Result<(), Misfit> {
        match (&mut self.values, &self.column_type) {
            (Values::Int64(_), ColumnType::Timestamp) => return Err(Misfit::Kind("a number")),
            (Values::Int64(values), _) => values.push(value),
            _ => return Err(Misfit::Kind("a number")),
        }
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends a floating number.
    pub(crate) fn push_float(&mut self, value: f64) -> Result<(), Misfit> {
        let Values::Float64(values) = &mut self.values else { return Err(Misfit::Kind("a number")) };
        values.push(value);
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends a decimal: a whole number of which the last `scale` digits stand after the point.
    pub(crate) fn push_unscaled(&mut self, value: i128, scale: u32) -> Result<(), Misfit> {
        let (Values::Decimal(values), ColumnType::Decimal { precision, scale: wanted }) =
            (&mut self.values, &self.column_type)
        else {
            return Err(Misfit::Kind("a decimal"));
        };
        values.push(rescaled(value, scale, *precision, *wanted).map_err(Misfit::Value)?);
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends a date: days since 1970-01-01.
    pub(crate) fn push_days(&mut self, days: i64) -> Result<(), Misfit> {
        let Values::Date(values) = &mut self.values else { return Err(Misfit::Kind("a date")) };
        values.push(i32::try_from(days).map_err(|_| Misfit::Value("outside the range of dates"))?);
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends a point in time: a count of units since the epoch, of which `10^decimals` make a second. What is finer than the
    /// column's own unit is cut off.
    pub(crate) fn push_time(&mut self, value: i64, decimals: u32) -> Result<(), Misfit> {
        let own = match self.column_type {
            ColumnType::Timestamp | ColumnType::TimestampMicros => 6,
            ColumnType::TimestampMillis => 3,
            ColumnType::TimestampSeconds => 0,
            _ => return Err(Misfit::Kind("a timestamp")),
        };
        let Values::Int64(values) = &mut self.values else { return Err(Misfit::Kind("a timestamp")) };
        let value = match own >= decimals {
            true => value.checked_mul(10_i64.pow(own - decimals)),
            false => Some(value.div_euclid(10_i64.pow(decimals - own))),
        };
        values.push(value.ok_or(Misfit::Value("outside the range of timestamps"))?);
        self.valid.append_non_null();
        Ok(())
    }

    /// Appends a number, given as a well-formed JSON number.
    pub(crate) fn push_number(&mut self, text: &str) -> Result<(), Misfit> {
        match (&mut self.values, &self.column_type) {
            (Values::Float64(values), _) => values.push(finite(text)?),
            (Values::Decimal(values), ColumnType::Decimal { precision, scale }) => {
                values.push(parse_decimal(text, *precision, *scale).map_err(Misfit::Value)?);
            }
            (Values::Int64(_), ColumnType::Timestamp) => return Err(Misfit::Kind("a number")),
            (Values::Int64(values), _) => {
                if text.contains(['.', 'e', 'E']) {
                    return Err(Misfit::Kind("a number with a fraction or exponent"));
                }
                values.push(text.parse().map_err(|_| Misfit::Value("outside the range of int64"))?);
            }
            _ => return Err(Misfit::Kind("a number")),
        }
        self.valid.append_non_null();
        Ok(())
    }

    /// Ends a list whose items were appended to the inner column.
    pub(crate) fn end_list(&mut self) -> Result<(), Misfit> {
        let Values::List { ends, item } = &mut self.values else { return Err(Misfit::Kind("a list")) };
        ends.push(end(item.len())?);
        self.valid.append_non_null();
        Ok(())
    }

    /// Ends a struct; fields that were not appended are null.
    pub(crate) fn end_struct(&mut self) -> Result<(), Misfit> {
        let row = self.valid.len();
        let Values::Struct(fields) = &mut self.values else { return Err(Misfit::Kind("an object")) };
        for (_, field) in fields {
            if field.len() == row {
                field.push_null();
            }
        }
        self.valid.append_non_null();
        Ok(())
    }

    /// Returns the cells as an array and begins anew.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        let length = self.len();
        let fresh = GrowingColumn::new(&self.column_type, length);
        let done = std::mem::replace(self, fresh);
        if let (Values::Text { bytes: new, .. }, Values::Text { bytes: old, .. }) = (&mut self.values, &done.values) {
            new.reserve(old.len() + old.len() / 8);
        }
        done.into_array()
    }

    fn into_array(self) -> ArrayRef {
        const SOUND: &str = "cells are appended whole";
        let nulls = self.valid.build();
        match self.values {
            Values::Text { bytes, ends } => {
                Arc::new(StringArray::try_new(offsets(ends), Buffer::from_vec(bytes), nulls).expect(SOUND))
            }
            Values::Bool(values) => Arc::new(BooleanArray::new(values.build(), nulls)),
            Values::Int64(values) => integers(&self.column_type, values, nulls),
            Values::Float64(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Decimal(values) => {
                let array = Decimal128Array::new(values.into(), nulls);
                Arc::new(array.with_data_type(self.column_type.arrow()))
            }
            Values::Date(values) => Arc::new(Date32Array::new(values.into(), nulls)),
            Values::List { ends, item } => {
                let DataType::List(field) = self.column_type.arrow() else { unreachable!("{SOUND}") };
                Arc::new(ListArray::try_new(field, offsets(ends), item.into_array(), nulls).expect(SOUND))
            }
            Values::Struct(fields) => {
                let DataType::Struct(types) = self.column_type.arrow() else { unreachable!("{SOUND}") };
                let arrays = fields.into_iter().map(|(_, field)| field.into_array()).collect();
                Arc::new(StructArray::try_new(types, arrays, nulls).expect(SOUND))
            }
        }
    }
}

fn integers(column_type: &ColumnType, values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    fn times<T: ArrowTimestampType>(values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(values.into(), nulls))
    }
    match column_type.arrow() {
        DataType::Timestamp(TimeUnit::Second, _) => times::<TimestampSecondType>(values, nulls),
        DataType::Timestamp(TimeUnit::Millisecond, _) => times::<TimestampMillisecondType>(values, nulls),
        DataType::Timestamp(_, _) => times::<TimestampMicrosecondType>(values, nulls),
        _ => Arc::new(Int64Array::new(values.into(), nulls)),
    }
}

/// Returns the number in `text`, which must fit a float64; infinities do not.
pub(super) fn finite(text: &str) -> Result<f64, Misfit> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(Misfit::Value("outside the range of float64")),
        Err(_) => Err(Misfit::Kind("not a number")),
    }
}

fn starts(rows: usize) -> Vec<i32> {
    let mut ends = Vec::with_capacity(rows + 1);
    ends.push(0);
    ends
}

#[inline]
fn end(length: usize) -> Result<i32, Misfit> {
    i32::try_from(length).map_err(|_| Misfit::Value("too long"))
}

fn last(ends: &[i32]) -> usize {
    usize::try_from(*ends.last().expect("starts with 0")).expect("never negative")
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(ends))
}
