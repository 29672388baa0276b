//! Bad rows of steps: rows on which an expression failed or that a step refused, with the row itself as text for a person.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, UInt32Type, UInt64Type};
use arrow::util::display::array_value_to_string;
use riverrun_dataflow::schema::{Hidden, is_hidden};
use riverrun_dataflow::source::BadRow;

use crate::expression::FailedRow;

/// The split of rows that carry none.
const NO_SPLIT: u32 = u32::MAX;

/// Returns what goes to `<step>.bad` for a row of `batch`.
pub(crate) fn bad_row(batch: &RecordBatch, failed: &FailedRow) -> BadRow {
    refused_row(batch, failed.row, "expression", &failed.reason)
}

/// Returns what goes to `<step>.bad` for a row of `batch` that the step refused.
pub(crate) fn refused_row(batch: &RecordBatch, row: usize, code: &'static str, reason: &str) -> BadRow {
    let split = batch.column_by_name(Hidden::Split.name()).map(|c| c.as_primitive::<UInt32Type>().value(row));
    let position = batch.column_by_name(Hidden::Position.name()).map(|c| c.as_primitive::<UInt64Type>().value(row));
    let text = row_text(batch, row);
    let raw_length = text.len() as u64;
    let mut raw = text.into_bytes();
    raw.truncate(BadRow::RAW_MAX);
    BadRow {
        split: split.unwrap_or(NO_SPLIT),
        position: position.unwrap_or(0),
        code: code.into(),
        reason: reason.to_owned(),
        raw,
        raw_length,
    }
}

/// Returns the visible columns of a row as one JSON object.
fn row_text(batch: &RecordBatch, row: usize) -> String {
    let schema = batch.schema_ref();
    let visible = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| !is_hidden(field.name()));
    let mut out = String::from("{");
    for (index, (field, column)) in visible.enumerate() {
        member(&mut out, index, field.name(), column, row);
    }
    out.push('}');
    out
}

fn member(out: &mut String, index: usize, name: &str, column: &ArrayRef, row: usize) {
    if index > 0 {
        out.push(',');
    }
    push_text(out, name);
    out.push(':');
    push_value(out, column, row);
}

fn push_value(out: &mut String, column: &ArrayRef, row: usize) {
    if column.is_null(row) {
        out.push_str("null");
        return;
    }
    match column.data_type() {
        DataType::Struct(fields) => {
            out.push('{');
            for (index, (field, inner)) in fields.iter().zip(column.as_struct().columns()).enumerate() {
                member(out, index, field.name(), inner, row);
            }
            out.push('}');
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            out.push('[');
            for item in 0..items.len() {
                if item > 0 {
                    out.push(',');
                }
                push_value(out, &items, item);
            }
            out.push(']');
        }
        DataType::Boolean | DataType::Int64 | DataType::Decimal128(..) => out.push_str(&plain(column, row)),
        DataType::Float64 if column.as_primitive::<arrow::datatypes::Float64Type>().value(row).is_finite() => {
            out.push_str(&plain(column, row));
        }
        _ => push_text(out, &plain(column, row)),
    }
}

fn plain(column: &ArrayRef, row: usize) -> String {
    array_value_to_string(column, row).unwrap_or_else(|error| error.to_string())
}

fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray, StructArray, UInt32Array, UInt64Array};
    use arrow::datatypes::{Field, Int64Type};

    use super::*;

    #[test]
    fn a_bad_row_names_its_place_and_shows_itself() {
        let inner = StructArray::from(vec![(
            Arc::new(Field::new("n", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("é"), None])) as ArrayRef,
        )]);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("a", Arc::new(StringArray::from(vec!["x\"\\\n\u{1}", "y"])) as ArrayRef, true),
            ("f", Arc::new(Float64Array::from(vec![1.5, f64::INFINITY])), true),
            ("s", Arc::new(inner), true),
            ("l", Arc::new(list), true),
            ("__time", Arc::new(Int64Array::from(vec![1, 2])), false),
            ("__split", Arc::new(UInt32Array::from(vec![7, 8])), false),
            ("__position", Arc::new(UInt64Array::from(vec![70, 80])), false),
        ])
        .unwrap();
        let bad = bad_row(&batch, &FailedRow { row: 0, reason: "why".into() });
        let text = r#"{"a":"x\"\\\n\u0001","f":1.5,"s":{"n":"é"},"l":[1,null]}"#;
        assert_eq!((bad.split, bad.position, bad.code.as_str(), bad.reason.as_str()), (7, 70, "expression", "why"));
        assert_eq!((String::from_utf8(bad.raw).unwrap().as_str(), bad.raw_length), (text, text.len() as u64));
        let bad = bad_row(&batch.project(&[0, 1, 3]).unwrap(), &FailedRow { row: 1, reason: String::new() });
        assert_eq!((bad.split, bad.position), (u32::MAX, 0));
        assert_eq!(bad.raw, br#"{"a":"y","f":"inf","l":null}"#);
    }

    #[test]
    fn a_huge_row_is_cut() {
        let batch =
            RecordBatch::try_from_iter([("a", Arc::new(StringArray::from(vec!["x".repeat(100_000)])) as ArrayRef)]);
        let bad = bad_row(&batch.unwrap(), &FailedRow { row: 0, reason: String::new() });
        assert_eq!((bad.raw.len(), bad.raw_length), (BadRow::RAW_MAX, 100_008));
    }
}
