//! Keys: how the values of a row's key columns become bytes, a hash, a shard, a worker and a lane.
//!
//! The encoding is part of the stored format: state and lanes are placed by it, so it may never change for an existing job.
//! Per column one byte, 0 for null or 1 followed by the value:
//!
//! | type | value |
//! |---|---|
//! | bool | one byte, 0 or 1 |
//! | integers, date, timestamps | `i64`, little endian, in the column's own unit |
//! | float64 | the bits, little endian; -0.0 as 0.0, every NaN as one |
//! | decimal | `i128`, little endian, unscaled |
//! | string, json | length as `u32`, little endian, then the UTF-8 bytes |
//!
//! hash = xxh3_64 of these bytes with seed 0; shard = hash mod shards; worker = shard * workers / shards.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64;

/// Returns the shard of a key hash.
pub fn shard_of(hash: u64, shards: u16) -> u16 {
    // Mostly a power of two, for which no division is needed.
    let rest = if shards.is_power_of_two() { hash & u64::from(shards - 1) } else { hash % u64::from(shards) };
    u16::try_from(rest).expect("a remainder of u16 fits")
}

/// Returns the worker that owns `shard`.
pub fn worker_of(shard: u16, shards: u16, workers: usize) -> usize {
    usize::from(shard) * workers / usize::from(shards)
}

/// Returns the lane of `shard`.
pub fn lane_of(shard: u16, shards: u16, lanes: u32) -> u32 {
    u32::from(shard) * lanes / u32::from(shards)
}

/// Returns the hash that stands for a split where rows have no key: their shard follows from (source, split).
pub fn hash_of_split(source: &str, split: &str) -> u64 {
    let mut bytes = Vec::with_capacity(source.len() + split.len() + 10);
    push_text(&mut bytes, source);
    push_text(&mut bytes, split);
    xxh3_64(&bytes)
}

/// Returns whether a column of this type can be part of a key.
pub fn is_key_type(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Float64
            | DataType::Utf8
            | DataType::Date32
            | DataType::Decimal128(_, _)
            | DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond, _)
    )
}

/// Returns the hash of a key that is one text.
pub fn hash_of_text(text: &[u8]) -> u64 {
    let mut bytes = Vec::with_capacity(text.len() + 5);
    bytes.push(1);
    bytes.extend_from_slice(&u32::try_from(text.len()).expect("a key is below 4 GiB").to_le_bytes());
    bytes.extend_from_slice(text);
    xxh3_64(&bytes)
}

/// The encoded keys of a batch.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// xxh3_64 of each key.
    pub hashes: Vec<u64>,
    /// Whether a key has a null column; empty if none has.
    nulls: Vec<bool>,
}

impl Keys {
    /// Encodes the keys of all rows of `batch`, made of `columns`.
    pub fn of(batch: &RecordBatch, columns: &[usize]) -> Result<Keys, ArrowError> {
        let mut keys = Keys::default();
        keys.refill(batch, columns)?;
        Ok(keys)
    }

    /// Like [`Keys::of`], reusing the buffers.
    pub fn refill(&mut self, batch: &RecordBatch, columns: &[usize]) -> Result<(), ArrowError> {
        self.bytes.clear();
        self.ends.clear();
        self.hashes.clear();
        self.nulls.clear();
        let rows = batch.num_rows();
        let typed = columns.iter().map(|c| KeyColumn::of(batch.column(*c).as_ref())).collect::<Result<Vec<_>, _>>()?;
        let nullable = typed.iter().any(|column| column.array().null_count() > 0);
        self.ends.reserve(rows);
        self.hashes.reserve(rows);
        let mut start = 0;
        for row in 0..rows {
            let mut null = false;
            for column in &typed {
                null |= !column.push(row, &mut self.bytes);
            }
            self.hashes.push(xxh3_64(&self.bytes[start..]));
            start = self.bytes.len();
            self.ends.push(
                u32::try_from(start).map_err(|_| ArrowError::ComputeError("keys of a batch exceed 4 GiB".into()))?,
            );
            if nullable {
                self.nulls.push(null);
            }
        }
        Ok(())
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the bytes of key `row`.
    pub fn key(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.bytes[start..self.ends[row] as usize]
    }

    /// Returns whether key `row` has a null column.
    pub fn has_null(&self, row: usize) -> bool {
        self.nulls.get(row).copied().unwrap_or(false)
    }
}

/// A key column with its type resolved once per batch.
enum KeyColumn<'a> {
    Bool(&'a arrow::array::BooleanArray),
    Text(&'a arrow::array::StringArray),
    Float(&'a arrow::array::Float64Array),
    Decimal(&'a arrow::array::Decimal128Array),
    Int64(&'a dyn Array, &'a [i64]),
    Other(&'a dyn Array, Box<dyn Fn(usize) -> i64 + 'a>),
}

impl<'a> KeyColumn<'a> {
    fn of(array: &'a dyn Array) -> Result<KeyColumn<'a>, ArrowError> {
        macro_rules! widened {
            ($type:ty) => {{
                let values = array.as_primitive::<$type>().values();
                KeyColumn::Other(array, Box::new(move |row| values[row] as i64))
            }};
        }
        Ok(match array.data_type() {
            DataType::Boolean => KeyColumn::Bool(array.as_boolean()),
            DataType::Utf8 => KeyColumn::Text(array.as_string::<i32>()),
            DataType::Float64 => KeyColumn::Float(array.as_primitive::<Float64Type>()),
            DataType::Decimal128(_, _) => KeyColumn::Decimal(array.as_primitive::<Decimal128Type>()),
            DataType::Int64 => KeyColumn::Int64(array, array.as_primitive::<Int64Type>().values()),
            DataType::Timestamp(TimeUnit::Second, _) => {
                KeyColumn::Int64(array, array.as_primitive::<TimestampSecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                KeyColumn::Int64(array, array.as_primitive::<TimestampMillisecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                KeyColumn::Int64(array, array.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::Int8 => widened!(Int8Type),
            DataType::Int16 => widened!(Int16Type),
            DataType::Int32 => widened!(Int32Type),
            DataType::UInt16 => widened!(UInt16Type),
            DataType::UInt32 => widened!(UInt32Type),
            DataType::UInt64 => widened!(UInt64Type),
            DataType::Date32 => widened!(Date32Type),
            other => {
                return Err(ArrowError::NotYetImplemented(format!("a column of type {other} cannot be part of a key")));
            }
        })
    }

    fn array(&self) -> &'a dyn Array {
        match self {
            KeyColumn::Bool(a) => *a,
            KeyColumn::Text(a) => *a,
            KeyColumn::Float(a) => *a,
            KeyColumn::Decimal(a) => *a,
            KeyColumn::Int64(a, _) | KeyColumn::Other(a, _) => *a,
        }
    }

    /// Appends the value of `row`; returns false if it is null.
    fn push(&self, row: usize, out: &mut Vec<u8>) -> bool {
        if self.array().is_null(row) {
            out.push(0);
            return false;
        }
        out.push(1);
        match self {
            KeyColumn::Bool(a) => out.push(u8::from(a.value(row))),
            KeyColumn::Text(a) => push_text(out, a.value(row)),
            KeyColumn::Float(a) => out.extend_from_slice(&normal_bits(a.value(row)).to_le_bytes()),
            KeyColumn::Decimal(a) => out.extend_from_slice(&a.value(row).to_le_bytes()),
            KeyColumn::Int64(_, values) => out.extend_from_slice(&values[row].to_le_bytes()),
            KeyColumn::Other(_, value) => out.extend_from_slice(&value(row).to_le_bytes()),
        }
        true
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("an Arrow string is below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Returns the bits of `value` with one zero and one NaN.
pub fn normal_bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    fn keys(columns: Vec<(&str, arrow::array::ArrayRef)>) -> Keys {
        let width = columns.len();
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        Keys::of(&batch, &(0..width).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_encoding_is_the_documented_one() {
        let k = keys(vec![
            ("a", Arc::new(StringArray::from(vec![Some("ab"), None]))),
            ("b", Arc::new(Int64Array::from(vec![Some(258), Some(-1)]))),
        ]);
        assert_eq!(k.key(0), [1, 2, 0, 0, 0, b'a', b'b', 1, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(k.key(1), [0, 1, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(k.hashes[0], xxh3_64(k.key(0)));
        assert!(!k.has_null(0) && k.has_null(1));
    }

    #[test]
    fn stored_placement_never_changes() {
        let k = keys(vec![("user", Arc::new(StringArray::from(vec!["u-1", "u-2", "käse"])))]);
        let shards: Vec<u16> = k.hashes.iter().map(|h| shard_of(*h, 128)).collect();
        assert_eq!(
            shards,
            [xxh3_64(k.key(0)) % 128, xxh3_64(k.key(1)) % 128, xxh3_64(k.key(2)) % 128].map(|s| s as u16)
        );
    }

    #[test]
    fn a_text_alone_hashes_as_a_key_of_one_column() {
        let k = keys(vec![("user", Arc::new(StringArray::from(vec!["u-1", ""])))]);
        assert_eq!(k.hashes, [hash_of_text(b"u-1"), hash_of_text(b"")]);
    }

    #[test]
    fn zeros_and_nans_are_one_key_each() {
        let k = keys(vec![("f", Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN])))]);
        assert_eq!(k.key(0), k.key(1));
        assert_eq!(k.key(2), k.key(3));
    }

    #[test]
    fn every_shard_has_one_worker_and_ranges_are_contiguous() {
        for workers in 1..9 {
            let owners: Vec<usize> = (0..128).map(|s| worker_of(s, 128, workers)).collect();
            assert!(owners.is_sorted());
            assert_eq!(owners.iter().max(), Some(&(workers - 1)));
        }
    }
}
