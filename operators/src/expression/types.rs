//! The types that streams carry, their names in job files, and how other types become one of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::error::ArrowError;

/// Returns the name of a type as a job file writes it.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "string".into(),
        DataType::Boolean => "bool".into(),
        DataType::Int64 => "int64".into(),
        DataType::Float64 => "float64".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Timestamp(TimeUnit::Second, None) => "timestamp_s".into(),
        DataType::Timestamp(TimeUnit::Millisecond, None) => "timestamp_ms".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_us".into(),
        DataType::Date32 => "date".into(),
        DataType::List(item) => format!("list<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let inner: Vec<_> = fields.iter().map(|f| format!("{}: {}", f.name(), type_name(f.data_type()))).collect();
            format!("struct{{{}}}", inner.join(", "))
        }
        DataType::Duration(_) | DataType::Interval(_) => "interval".into(),
        DataType::Null => "null".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// Returns the stream type nearest to `data_type`: the type itself, or one that holds its values.
pub(crate) fn stream_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Utf8 | DataType::Boolean | DataType::Int64 | DataType::Float64 | DataType::Date32 => {
            data_type.clone()
        }
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => DataType::Int64,
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::Date64 => DataType::Date32,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
            DataType::Decimal128(*p, *s)
        }
        DataType::Decimal256(p, s) => DataType::Decimal128((*p).min(38), *s),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, None),
        DataType::Dictionary(_, values) => stream_type(values)?,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item) => DataType::List(stream_field(item)?),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(stream_field).collect::<Option<Vec<_>>>()?.into())
        }
        _ => return None,
    })
}

/// Returns whether streams carry this type as it is.
pub(crate) fn is_stream_type(data_type: &DataType) -> bool {
    stream_type(data_type).as_ref() == Some(data_type)
}

fn stream_field(field: &Arc<Field>) -> Option<Arc<Field>> {
    Some(Arc::new(field.as_ref().clone().with_data_type(stream_type(field.data_type())?)))
}

/// Casts to a stream type; a value that does not fit is an error, never a null.
pub(crate) fn to_stream(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    match array.data_type() {
        same if same == to => Ok(array.clone()),
        // Arrow would keep the local clock time; streams keep the instant.
        DataType::Timestamp(unit, Some(_)) => {
            let utc = DataType::Timestamp(*unit, Some("+00:00".into()));
            cast_with_options(&cast_with_options(array, &utc, &strict)?, to, &strict)
        }
        _ => cast_with_options(array, to, &strict),
    }
}
