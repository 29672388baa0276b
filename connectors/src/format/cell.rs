//! Cells as JSON text: one writer per column, resolved once per batch.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array,
    ListArray, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use riverrun_dataflow::sink::SinkError;

use super::calendar::{push_date, push_time};
use super::decimal::push_decimal;
use super::json::scan::plain_end;
use super::schema::is_json;
use super::{FormatError, Timestamps};

/// Writes the cells of one column.
pub(crate) enum CellWriter {
    Null,
    Text(StringArray),
    Json(StringArray),
    Bool(BooleanArray),
    Int64(Int64Array),
    UInt64(UInt64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array, i8),
    Date(Date32Array),
    /// Digits after the point of a second.
    Time(ScalarBuffer<i64>, Option<NullBuffer>, u32),
    EpochMillis(ScalarBuffer<i64>, Option<NullBuffer>, TimeUnit),
    List(ListArray, Box<CellWriter>),
    Struct(StructArray, Vec<(Vec<u8>, CellWriter)>),
}

/// The types that are cast to one that has a writer.
fn cast_to(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some(DataType::Int64),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some(DataType::Int64),
        DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Dictionary(_, value) => Some(cast_to(value).unwrap_or_else(|| value.as_ref().clone())),
        _ => None,
    }
}

/// Checks that a column of this type can be written.
pub(crate) fn check_type(field: &Field) -> Result<(), FormatError> {
    let data_type = cast_to(field.data_type()).unwrap_or_else(|| field.data_type().clone());
    match &data_type {
        DataType::List(item) => check_type(item),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_type(field)),
        DataType::Null
        | DataType::Utf8
        | DataType::Boolean
        | DataType::Int64
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::Date32
        | DataType::Timestamp(_, _) => Ok(()),
        other => Err(FormatError(format!("column `{}` has type {other}, which has no text form", field.name()))),
    }
}

impl CellWriter {
    /// Returns the writer of `array`, whose type was checked.
    pub(crate) fn new(array: &ArrayRef, field: &Field, timestamps: Timestamps) -> Result<CellWriter, SinkError> {
        let unwritable = |reason: String| SinkError::Write { what: format!("column `{}`", field.name()), reason };
        let array = match cast_to(array.data_type()) {
            Some(data_type) => cast(array, &data_type).map_err(|error| unwritable(error.to_string()))?,
            None => array.clone(),
        };
        let writer = match array.data_type() {
            DataType::Null => CellWriter::Null,
            DataType::Utf8 if is_json(field) => CellWriter::Json(array.as_string().clone()),
            DataType::Utf8 => CellWriter::Text(array.as_string().clone()),
            DataType::Boolean => CellWriter::Bool(array.as_boolean().clone()),
            DataType::Int64 => CellWriter::Int64(array.as_primitive().clone()),
            DataType::UInt64 => CellWriter::UInt64(array.as_primitive().clone()),
            DataType::Float32 => CellWriter::Float32(array.as_primitive().clone()),
            DataType::Float64 => CellWriter::Float64(array.as_primitive().clone()),
            DataType::Decimal128(_, scale) => CellWriter::Decimal(array.as_primitive().clone(), *scale),
            DataType::Date32 => CellWriter::Date(array.as_primitive().clone()),
            DataType::Timestamp(unit, _) => CellWriter::time(&array, *unit, timestamps),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                CellWriter::List(list.clone(), Box::new(CellWriter::new(list.values(), item, timestamps)?))
            }
            DataType::Struct(fields) => {
                let array = array.as_struct();
                let mut writers: Vec<(Vec<u8>, CellWriter)> = Vec::with_capacity(fields.len());
                for (field, column) in fields.iter().zip(array.columns()) {
                    let mut before = vec![if writers.is_empty() { b'{' } else { b',' }];
                    push_escaped(&mut before, field.name());
                    before.push(b':');
                    writers.push((before, CellWriter::new(column, field, timestamps)?));
                }
                CellWriter::Struct(array.clone(), writers)
            }
            other => return Err(unwritable(format!("type {other} has no text form"))),
        };
        Ok(writer)
    }

    fn time(array: &ArrayRef, unit: TimeUnit, timestamps: Timestamps) -> CellWriter {
        let (values, decimals) = match unit {
            TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values().clone(), 0),
            TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().values().clone(), 3),
            TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().values().clone(), 6),
            TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().values().clone(), 9),
        };
        let nulls = array.nulls().cloned();
        match timestamps {
            Timestamps::Rfc3339 => CellWriter::Time(values, nulls, decimals),
            Timestamps::EpochMillis => CellWriter::EpochMillis(values, nulls, unit),
        }
    }

    /// Returns whether the cell of `row` is written as null.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        let null = |nulls: &Option<NullBuffer>| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        match self {
            CellWriter::Null => true,
            CellWriter::Text(array) | CellWriter::Json(array) => array.is_null(row),
            CellWriter::Bool(array) => array.is_null(row),
            CellWriter::Int64(array) => array.is_null(row),
            CellWriter::UInt64(array) => array.is_null(row),
            CellWriter::Float32(array) => array.is_null(row) || !array.value(row).is_finite(),
            CellWriter::Float64(array) => array.is_null(row) || !array.value(row).is_finite(),
            CellWriter::Decimal(array, _) => array.is_null(row),
            CellWriter::Date(array) => array.is_null(row),
            CellWriter::Time(_, nulls, _) | CellWriter::EpochMillis(_, nulls, _) => null(nulls),
            CellWriter::List(array, _) => array.is_null(row),
            CellWriter::Struct(array, _) => array.is_null(row),
        }
    }

    /// Returns the plain text of a cell, if the column holds text.
    pub(crate) fn text(&self, row: usize) -> Option<&str> {
        match self {
            CellWriter::Text(array) | CellWriter::Json(array) => Some(array.value(row)),
            _ => None,
        }
    }

    /// Appends the JSON value of the cell of `row`.
    #[inline]
    pub(crate) fn push(&self, out: &mut Vec<u8>, row: usize) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match self {
            CellWriter::Null => {}
            CellWriter::Text(array) => push_escaped(out, array.value(row)),
            CellWriter::Json(array) => out.extend_from_slice(array.value(row).as_bytes()),
            CellWriter::Bool(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
            CellWriter::Int64(array) => push_integer(out, array.value(row)),
            CellWriter::UInt64(array) => push_integer(out, array.value(row)),
            CellWriter::Float32(array) => {
                out.extend_from_slice(ryu::Buffer::new().format_finite(array.value(row)).as_bytes());
            }
            CellWriter::Float64(array) => {
                out.extend_from_slice(ryu::Buffer::new().format_finite(array.value(row)).as_bytes());
            }
            CellWriter::Decimal(array, scale) => push_decimal(out, array.value(row), *scale),
            CellWriter::Date(array) => {
                out.push(b'"');
                push_date(out, i64::from(array.value(row)));
                out.push(b'"');
            }
            CellWriter::Time(values, _, decimals) => {
                out.push(b'"');
                push_time(out, values[row], *decimals);
                out.push(b'"');
            }
            CellWriter::EpochMillis(values, _, unit) => push_integer(out, millis(values[row], *unit)),
            CellWriter::List(array, items) => {
                let (start, end) = (array.value_offsets()[row], array.value_offsets()[row + 1]);
                out.push(b'[');
                for item in start..end {
                    if item > start {
                        out.push(b',');
                    }
                    items.push(out, usize::try_from(item).expect("offsets are not negative"));
                }
                out.push(b']');
            }
            CellWriter::Struct(_, fields) => {
                for (before, field) in fields {
                    out.extend_from_slice(before);
                    field.push(out, row);
                }
                out.extend_from_slice(if fields.is_empty() { b"{}" } else { b"}" });
            }
        }
    }
}

fn millis(value: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => value.saturating_mul(1000),
        TimeUnit::Millisecond => value,
        TimeUnit::Microsecond => value.div_euclid(1000),
        TimeUnit::Nanosecond => value.div_euclid(1_000_000),
    }
}

#[inline]
fn push_integer<I: itoa::Integer>(out: &mut Vec<u8>, value: I) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `text` as a JSON string, quotes included.
#[inline]
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut start = 0;
    loop {
        let end = plain_end(bytes, start);
        out.extend_from_slice(&bytes[start..end]);
        let Some(special) = bytes.get(end) else { break };
        push_escape(out, *special);
        start = end + 1;
    }
    out.push(b'"');
}

#[cold]
fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend([b'\\', short]);
}
