//! The four kinds of values that accumulators keep: integers (and what is stored as one), decimals, floats and text.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampSecondType,
};
use riverrun_dataflow::key::normal_bits;
use xxhash_rust::xxh3::xxh3_64;

/// A value that an accumulator owns, and the column it comes from and goes to.
pub(crate) trait Scalar: Clone + Default + 'static {
    /// A value in a column.
    type Ref<'a>: Copy;
    /// A column, read.
    type Column;

    /// Reads a column; its nulls are the caller's affair.
    fn column(array: &ArrayRef) -> Self::Column;
    /// Returns a value of a column.
    fn at(column: &Self::Column, row: usize) -> Self::Ref<'_>;
    /// Returns this value as if it stood in a column.
    fn get(&self) -> Self::Ref<'_>;
    /// Makes this value equal to one in a column.
    fn set(&mut self, value: Self::Ref<'_>);
    /// Returns the order of two values: total, also for floats.
    fn compare(a: Self::Ref<'_>, b: Self::Ref<'_>) -> Ordering;
    /// Returns a hash: equal for equal values.
    fn hash(value: Self::Ref<'_>) -> u64;
    /// Writes a column of `data_type`.
    fn array<'a>(values: impl Iterator<Item = Option<Self::Ref<'a>>>, data_type: &DataType) -> ArrayRef;
}

/// Spreads the bits of an integer over a hash.
fn mix(value: u64) -> u64 {
    let spread = (value ^ (value >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    spread ^ (spread >> 29)
}

impl Scalar for i64 {
    type Ref<'a> = i64;
    type Column = ScalarBuffer<i64>;

    fn column(array: &ArrayRef) -> ScalarBuffer<i64> {
        match array.data_type() {
            DataType::Boolean => array.as_boolean().values().iter().map(i64::from).collect(),
            DataType::Date32 => array.as_primitive::<Date32Type>().values().iter().map(|v| i64::from(*v)).collect(),
            DataType::Timestamp(TimeUnit::Second, _) => array.as_primitive::<TimestampSecondType>().values().clone(),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                array.as_primitive::<TimestampMillisecondType>().values().clone()
            }
            DataType::Timestamp(_, _) => array.as_primitive::<TimestampMicrosecondType>().values().clone(),
            _ => array.as_primitive::<Int64Type>().values().clone(),
        }
    }
    fn at(column: &ScalarBuffer<i64>, row: usize) -> i64 {
        column[row]
    }
    fn get(&self) -> i64 {
        *self
    }
    fn set(&mut self, value: i64) {
        *self = value;
    }
    fn compare(a: i64, b: i64) -> Ordering {
        a.cmp(&b)
    }
    fn hash(value: i64) -> u64 {
        mix(value as u64)
    }
    fn array<'a>(values: impl Iterator<Item = Option<Self::Ref<'a>>>, data_type: &DataType) -> ArrayRef {
        match data_type {
            DataType::Boolean => Arc::new(BooleanArray::from_iter(values.map(|value| value.map(|v| v != 0)))),
            DataType::Date32 => {
                let days = values.map(|value| value.map(|v| i32::try_from(v).expect("it came from a date")));
                Arc::new(days.collect::<arrow::array::PrimitiveArray<Int32Type>>().reinterpret_cast::<Date32Type>())
            }
            DataType::Timestamp(unit, _) => {
                let numbers: Int64Array = values.collect();
                match unit {
                    TimeUnit::Second => Arc::new(numbers.reinterpret_cast::<TimestampSecondType>()),
                    TimeUnit::Millisecond => Arc::new(numbers.reinterpret_cast::<TimestampMillisecondType>()),
                    _ => Arc::new(numbers.reinterpret_cast::<TimestampMicrosecondType>()),
                }
            }
            _ => Arc::new(values.collect::<Int64Array>()),
        }
    }
}

impl Scalar for i128 {
    type Ref<'a> = i128;
    type Column = ScalarBuffer<i128>;

    fn column(array: &ArrayRef) -> ScalarBuffer<i128> {
        array.as_primitive::<Decimal128Type>().values().clone()
    }
    fn at(column: &ScalarBuffer<i128>, row: usize) -> i128 {
        column[row]
    }
    fn get(&self) -> i128 {
        *self
    }
    fn set(&mut self, value: i128) {
        *self = value;
    }
    fn compare(a: i128, b: i128) -> Ordering {
        a.cmp(&b)
    }
    fn hash(value: i128) -> u64 {
        mix(value as u64 ^ mix((value >> 64) as u64))
    }
    fn array<'a>(values: impl Iterator<Item = Option<Self::Ref<'a>>>, data_type: &DataType) -> ArrayRef {
        Arc::new(values.collect::<Decimal128Array>().with_data_type(data_type.clone()))
    }
}

impl Scalar for f64 {
    type Ref<'a> = f64;
    type Column = ScalarBuffer<f64>;

    fn column(array: &ArrayRef) -> ScalarBuffer<f64> {
        array.as_primitive::<Float64Type>().values().clone()
    }
    fn at(column: &ScalarBuffer<f64>, row: usize) -> f64 {
        f64::from_bits(normal_bits(column[row]))
    }
    fn get(&self) -> f64 {
        *self
    }
    fn set(&mut self, value: f64) {
        *self = value;
    }
    fn compare(a: f64, b: f64) -> Ordering {
        a.total_cmp(&b)
    }
    fn hash(value: f64) -> u64 {
        mix(value.to_bits())
    }
    fn array<'a>(values: impl Iterator<Item = Option<Self::Ref<'a>>>, _: &DataType) -> ArrayRef {
        Arc::new(values.collect::<Float64Array>())
    }
}

impl Scalar for Box<str> {
    type Ref<'a> = &'a str;
    type Column = StringArray;

    fn column(array: &ArrayRef) -> StringArray {
        array.as_string::<i32>().clone()
    }
    fn at(column: &StringArray, row: usize) -> &str {
        column.value(row)
    }
    fn get(&self) -> &str {
        self
    }
    fn set(&mut self, value: &str) {
        *self = value.into();
    }
    fn compare(a: &str, b: &str) -> Ordering {
        a.cmp(b)
    }
    fn hash(value: &str) -> u64 {
        xxh3_64(value.as_bytes())
    }
    fn array<'a>(values: impl Iterator<Item = Option<&'a str>>, _: &DataType) -> ArrayRef {
        Arc::new(values.collect::<StringArray>())
    }
}
