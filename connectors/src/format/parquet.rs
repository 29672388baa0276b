//! Parquet: columns of a file to rows of the declared schema.
//!
//! Whether a file's types can become the declared ones is known when it is opened ([`check_schema`]); a single value that cannot
//! (an unsigned integer beyond int64, a decimal with more digits) makes its row bad. Columns are found by name and path. A bad row's
//! raw text is its columns as JSON.

mod clocks;
mod convert;

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::sink::{EncodedRows, Encoder};
use riverrun_dataflow::source::{Chunk, DecodeContext, Decoded, Decoder, Payload};

use super::Timestamps;
use super::json::JsonEncoder;
use super::rows::{self, BATCH_ROWS, Fault, HiddenCells, bad_row, id_text, micros_per_unit, out_of_range, push_hidden};
use super::schema::{Column, RowSchema};
use convert::{Converted, can_become, convert};

/// Checks that a file's columns can become the declared ones.
pub(crate) fn check_schema(file: &Schema, schema: &RowSchema) -> Result<(), String> {
    for column in &schema.columns {
        let found = type_at(file, &column.path).filter(|found| !can_become(found, &column.column_type));
        if let Some(found) = found {
            let Column { name, column_type, .. } = column;
            return Err(format!("column `{name}` is {column_type}, which {found} in the file cannot become"));
        }
    }
    let Some(column) = schema.lacking(|column| type_at(file, &column.path).is_some()) else { return Ok(()) };
    let names: Vec<&str> = file.fields().iter().map(|field| field.name().as_str()).collect();
    Err(format!("it has no column `{}`; it has {}", column.path.join("."), names.join(", ")))
}

fn type_at(file: &Schema, path: &[String]) -> Option<DataType> {
    let (first, rest) = path.split_first()?;
    let found = file.field_with_name(first).ok()?.data_type().clone();
    rest.iter().try_fold(found, |found, name| match found {
        DataType::Struct(fields) => fields.find(name).map(|(_, field)| field.data_type().clone()),
        _ => None,
    })
}

/// Returns the names of the top-level columns of a file that rows of `schema` need.
pub(crate) fn needed_roots(schema: &RowSchema) -> Vec<&str> {
    let needed = |column: &&Column| schema.is_decoded(column) || column.required;
    schema.columns.iter().filter(needed).map(|column| column.path[0].as_str()).collect()
}

/// Decodes columns.
pub(crate) struct ColumnsDecoder {
    schema: RowSchema,
    arrow: SchemaRef,
}

/// Rows found bad, by index: the first fault of each.
type Faults = BTreeMap<usize, Fault>;

impl ColumnsDecoder {
    /// Returns a decoder for rows of `schema`, which was checked.
    pub(crate) fn new(schema: &RowSchema) -> ColumnsDecoder {
        ColumnsDecoder { schema: schema.clone(), arrow: schema.arrow() }
    }

    fn decode_columns(&self, rows: &RecordBatch, from: u64, context: &DecodeContext, out: &mut Decoded) {
        let mut faults = Faults::new();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.arrow.fields().len());
        let (mut times, mut ids) = (vec![0; rows.num_rows()], None);
        let told = clocks::told(&self.schema, rows);
        for column in &self.schema.columns {
            let decoded = self.schema.is_decoded(column);
            if !decoded && !column.required {
                continue;
            }
            let found = array_at(rows, &column.path);
            let array = match decoded {
                true => told.completed(column, typed(column, found, rows.num_rows(), &mut faults), &mut faults),
                false => found.unwrap_or_else(|| new_null_array(&column.column_type.arrow(), rows.num_rows())),
            };
            if column.required {
                require(column, &array, &mut faults);
            }
            if self.schema.event_time.as_ref() == Some(&column.name) {
                times = event_times(column, &array, context, &mut faults);
            }
            if self.schema.id.as_ref() == Some(&column.name) && decoded {
                ids = Some(id_text(&array));
            }
            if self.schema.is_used(&column.name) {
                arrays.push(array);
            }
        }
        let positions: Vec<u64> = (from..from + rows.num_rows() as u64).collect();
        self.set_apart(rows, from, &faults, context, out);
        let kept_times = times.iter().enumerate().filter(|(i, _)| !faults.contains_key(i)).map(|(_, time)| *time);
        if self.schema.event_time.is_some() {
            out.greatest = out.greatest.max(kept_times.max().map(EventTime));
        }
        let hidden = HiddenCells { rows: rows.num_rows(), times, ids, split: context.split, positions };
        push_hidden(&mut arrays, &self.schema.hidden, hidden);
        self.emit(arrays, rows.num_rows(), &faults, out);
    }

    fn set_apart(&self, rows: &RecordBatch, from: u64, faults: &Faults, context: &DecodeContext, out: &mut Decoded) {
        for (index, fault) in faults {
            let raw = as_json(&rows.slice(*index, 1));
            out.bad.push(bad_row(context.split, from + *index as u64, fault.clone(), &raw));
        }
    }

    fn emit(&self, arrays: Vec<ArrayRef>, rows: usize, faults: &Faults, out: &mut Decoded) {
        if faults.len() == rows {
            return;
        }
        if faults.is_empty() {
            out.batches.push(rows::batch(&self.arrow, arrays, rows));
            return;
        }
        // Cells of bad rows may be null where the schema allows none: first they go, then the schema is put on.
        let keep = BooleanArray::from_iter((0..rows).map(|index| Some(!faults.contains_key(&index))));
        let fields: Vec<_> =
            self.arrow.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let all = rows::batch(&std::sync::Arc::new(Schema::new(fields)), arrays, rows);
        let kept = filter_record_batch(&all, &keep).expect("the mask has the length of the batch");
        out.batches.push(rows::batch(&self.arrow, kept.columns().to_vec(), kept.num_rows()));
    }
}

impl Decoder for ColumnsDecoder {
    fn decode(&mut self, chunk: &Chunk, context: &DecodeContext, out: &mut Decoded) {
        let Payload::Columns(rows) = &chunk.payload else { unreachable!("a Parquet source gives columns") };
        for start in (0..rows.num_rows()).step_by(BATCH_ROWS) {
            let part = rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start));
            self.decode_columns(&part, chunk.from + start as u64, context, out);
        }
    }
}

/// Returns `column` in its declared type; a value that does not fit is null and a fault.
fn typed(column: &Column, found: Option<ArrayRef>, rows: usize, faults: &mut Faults) -> ArrayRef {
    let Some(found) = found else { return new_null_array(&column.column_type.arrow(), rows) };
    let Converted { array, misfits } = convert(&found, &column.column_type);
    let Column { name, column_type, .. } = column;
    for index in misfits {
        let reason = || format!("column `{name}` is {column_type}: the value in the file does not fit");
        faults.entry(index).or_insert_with(|| Fault::new("type", reason()));
    }
    array
}

/// Returns the array at `path`; a row whose outer struct is null is null within it too.
fn array_at(rows: &RecordBatch, path: &[String]) -> Option<ArrayRef> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(rows.column_by_name(first)?.clone(), |outer, name| {
        let outer = outer.as_struct_opt()?;
        let inner = outer.column_by_name(name)?;
        let Some(nulls) = outer.nulls() else { return Some(inner.clone()) };
        let gone = BooleanArray::new(!nulls.inner(), None);
        Some(arrow::compute::nullif(inner, &gone).expect("the mask has the length of the array"))
    })
}

fn require(column: &Column, array: &ArrayRef, faults: &mut Faults) {
    let Some(nulls) = array.logical_nulls() else { return };
    let name = &column.name;
    for index in (0..array.len()).filter(|index| nulls.is_null(*index)) {
        let reason = || format!("column `{name}` is required, but missing or null");
        faults.entry(index).or_insert_with(|| Fault::new("missing", reason()));
    }
}

/// Returns the event time of each row in microseconds; 0 where a row has none, which is a fault.
fn event_times(column: &Column, array: &ArrayRef, context: &DecodeContext, faults: &mut Faults) -> Vec<i64> {
    let unit = micros_per_unit(&column.column_type);
    let numbers = arrow::compute::cast(array, &DataType::Int64).expect("a timestamp is a number");
    let name = &column.name;
    let mut times = Vec::with_capacity(numbers.len());
    for (index, value) in numbers.as_primitive::<Int64Type>().iter().enumerate() {
        let micros = value.map(|value| value.saturating_mul(unit));
        times.push(micros.unwrap_or(0));
        let exact = micros.and_then(|micros| micros.checked_div(unit)) == value;
        let accepted = micros.is_some_and(|micros| exact && context.accept.contains(&EventTime(micros)));
        if !accepted {
            faults.entry(index).or_insert_with(|| match micros {
                Some(micros) => out_of_range(name, micros, context),
                None => Fault::new("missing", format!("event time `{name}` is missing or null")),
            });
        }
    }
    times
}

fn as_json(row: &RecordBatch) -> Vec<u8> {
    let mut out = EncodedRows::default();
    let encoded = JsonEncoder::new(&row.schema(), Timestamps::Rfc3339, None)
        .map_err(|error| error.to_string())
        .and_then(|mut encoder| encoder.encode(row, &mut out).map_err(|error| error.to_string()));
    match encoded {
        Ok(()) => out.bytes,
        Err(reason) => reason.into_bytes(),
    }
}
