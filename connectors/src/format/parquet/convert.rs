//! One array into a declared type, value by value where it must be.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::super::Timestamps;
use super::super::cell::{CellWriter, check_type};
use super::super::column::GrowingColumn;
use super::super::json::push_json_text;
use super::super::schema::ColumnType;

/// An array in its declared type.
pub(super) struct Converted {
    /// The values; null where one does not fit.
    pub(super) array: ArrayRef,
    /// The rows with a value that does not fit, ascending.
    pub(super) misfits: Vec<usize>,
}

/// Returns whether values of type `found` can become `wanted`.
pub(super) fn can_become(found: &DataType, wanted: &ColumnType) -> bool {
    if let DataType::Dictionary(_, values) = found {
        return can_become(values, wanted);
    }
    match wanted {
        ColumnType::String => is_text(found),
        ColumnType::Bool => *found == DataType::Boolean,
        ColumnType::Int64 => found.is_integer(),
        ColumnType::Float64 => found.is_integer() || found.is_floating(),
        ColumnType::Decimal { .. } => found.is_integer() || found.is_decimal(),
        ColumnType::Timestamp => is_text(found) || matches!(found, DataType::Timestamp(_, _)),
        ColumnType::TimestampSeconds | ColumnType::TimestampMillis | ColumnType::TimestampMicros => {
            found.is_integer() || matches!(found, DataType::Timestamp(_, _))
        }
        ColumnType::Date => matches!(found, DataType::Date32 | DataType::Date64),
        ColumnType::Json => check_type(&Field::new("", found.clone(), true)).is_ok(),
        ColumnType::List(item) => match found {
            DataType::List(field) | DataType::LargeList(field) => can_become(field.data_type(), item),
            _ => false,
        },
        ColumnType::Struct(fields) => match found {
            DataType::Struct(has) => fields
                .iter()
                .all(|(name, wanted)| has.find(name).is_none_or(|(_, field)| can_become(field.data_type(), wanted))),
            _ => false,
        },
    }
}

fn is_text(found: &DataType) -> bool {
    matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Returns `array`, whose type was checked, as `wanted`.
pub(super) fn convert(array: &ArrayRef, wanted: &ColumnType) -> Converted {
    const CHECKED: &str = "the file's types were checked when it was opened";
    if let DataType::Dictionary(_, values) = array.data_type() {
        return convert(&cast(array, values).expect(CHECKED), wanted);
    }
    match wanted {
        ColumnType::List(item) => convert_list(array, item, wanted),
        ColumnType::Struct(fields) => convert_struct(array.as_struct(), fields, wanted),
        ColumnType::Json if is_text(array.data_type()) => by_text(array, wanted),
        ColumnType::Json => Converted { array: json_texts(array), misfits: Vec::new() },
        ColumnType::Timestamp if is_text(array.data_type()) => by_text(array, wanted),
        ColumnType::TimestampSeconds | ColumnType::TimestampMillis | ColumnType::TimestampMicros
            if array.data_type().is_integer() =>
        {
            let numbers = convert(array, &ColumnType::Int64);
            Converted { array: cast(&numbers.array, &wanted.arrow()).expect(CHECKED), misfits: numbers.misfits }
        }
        _ => {
            let plain = without_zone(array);
            let done = cast(&plain, &wanted.arrow()).expect(CHECKED);
            let misfits = lost(array, &done);
            Converted { array: done, misfits }
        }
    }
}

/// Returns a timestamp array without its time zone: the same points in time, in UTC.
fn without_zone(array: &ArrayRef) -> ArrayRef {
    let DataType::Timestamp(unit, Some(_)) = array.data_type() else { return array.clone() };
    let plain = |unit: &TimeUnit| DataType::Timestamp(*unit, None);
    // The values are UTC already; going through numbers keeps them as they are.
    let numbers = cast(array, &DataType::Int64).expect("a timestamp is a number");
    cast(&numbers, &plain(unit)).expect("a number is a timestamp")
}

/// Returns the rows that had a value before and have none now.
fn lost(before: &ArrayRef, after: &ArrayRef) -> Vec<usize> {
    if before.logical_null_count() == after.logical_null_count() {
        return Vec::new();
    }
    (0..before.len()).filter(|index| before.is_valid(*index) && after.is_null(*index)).collect()
}

fn by_text(array: &ArrayRef, wanted: &ColumnType) -> Converted {
    let texts = cast(array, &DataType::Utf8).expect("text is text");
    let mut cells = GrowingColumn::new(wanted, texts.len());
    let (mut scratch, mut misfits) = (String::new(), Vec::new());
    for (index, text) in texts.as_string::<i32>().iter().enumerate() {
        let pushed = match (text, wanted) {
            (None, _) => {
                cells.push_null();
                Ok(())
            }
            (Some(text), ColumnType::Json) => push_json_text(&mut cells, text, &mut scratch),
            (Some(text), _) => cells.push_text(text),
        };
        if pushed.is_err() {
            cells.truncate(index);
            cells.push_null();
            misfits.push(index);
        }
    }
    Converted { array: cells.finish(), misfits }
}

fn json_texts(array: &ArrayRef) -> ArrayRef {
    let field = Field::new("", array.data_type().clone(), true);
    let writer = CellWriter::new(array, &field, Timestamps::Rfc3339).expect("the type was checked");
    let mut text = Vec::new();
    let texts = (0..array.len()).map(|row| {
        text.clear();
        writer.push(&mut text, row);
        (!writer.is_null(row)).then(|| String::from_utf8_lossy(&text).into_owned())
    });
    Arc::new(StringArray::from_iter(texts))
}

fn convert_list(array: &ArrayRef, item: &ColumnType, wanted: &ColumnType) -> Converted {
    const SMALL: &str = "a batch of a file stays below 2 GiB";
    let list = match array.data_type() {
        DataType::LargeList(field) => cast(array, &DataType::List(field.clone())).expect(SMALL),
        _ => array.clone(),
    };
    let list = list.as_list::<i32>();
    let inner = convert(list.values(), item);
    let DataType::List(field) = wanted.arrow() else { unreachable!("a list is a list") };
    let offsets = list.offsets();
    let misfits = (0..list.len())
        .filter(|row| {
            let span = offsets[*row] as usize..offsets[*row + 1] as usize;
            list.is_valid(*row) && inner.misfits.iter().any(|index| span.contains(index))
        })
        .collect();
    let done = ListArray::try_new(field, offsets.clone(), inner.array, list.nulls().cloned());
    Converted { array: Arc::new(done.expect("only the items' type changed")), misfits }
}

fn convert_struct(array: &StructArray, fields: &[(String, ColumnType)], wanted: &ColumnType) -> Converted {
    let mut misfits = Vec::new();
    let columns = fields.iter().map(|(name, field)| match array.column_by_name(name) {
        Some(column) => {
            let inner = convert(column, field);
            misfits.extend(inner.misfits.into_iter().filter(|row| array.is_valid(*row)));
            inner.array
        }
        None => new_null_array(&field.arrow(), array.len()),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    misfits.sort_unstable();
    misfits.dedup();
    let DataType::Struct(types) = wanted.arrow() else { unreachable!("a struct is a struct") };
    let done = StructArray::try_new(types, columns, array.nulls().cloned());
    Converted { array: Arc::new(done.expect("only the fields' types changed")), misfits }
}
