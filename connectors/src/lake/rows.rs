//! Rows on their way to a lake: as bytes in Arrow's row format, which lanes can order and journals can hash, and back to columns.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::row::{RowConverter, SortField};
use riverrun_dataflow::schema::{is_hidden, visible_of};
use riverrun_dataflow::sink::{EncodedRows, Encoder, SinkError};

use crate::format::FormatError;

/// Encodes rows so that [`LakeRows`] can make columns of them again.
pub struct LakeEncoder {
    converter: RowConverter,
    schema: SchemaRef,
    columns: Vec<usize>,
}

impl LakeEncoder {
    /// Returns an encoder of the visible columns of `schema`, or why one of them cannot be written.
    pub fn new(schema: &SchemaRef) -> Result<LakeEncoder, FormatError> {
        let visible = schema.fields().iter().enumerate().filter(|(_, field)| !is_hidden(field.name()));
        let columns = visible.map(|(index, _)| index).collect();
        let schema = lake_schema(schema);
        Ok(LakeEncoder { converter: converter(&schema)?, schema, columns })
    }
}

impl Encoder for LakeEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError> {
        let refused = |error| SinkError::Refused(format!("cannot encode rows for a lake: {error}"));
        let typed = |(index, field): (&usize, &FieldRef)| cast(rows.column(*index), field.data_type());
        let columns = self.columns.iter().zip(self.schema.fields()).map(typed).collect::<Result<Vec<_>, _>>();
        let encoded = columns.and_then(|columns| self.converter.convert_columns(&columns)).map_err(refused)?;
        for row in &encoded {
            out.bytes.extend_from_slice(row.as_ref());
            out.end_row(None);
        }
        Ok(())
    }
}

/// Makes columns of what [`LakeEncoder`] encoded.
#[derive(Debug)]
pub struct LakeRows {
    converter: RowConverter,
    schema: SchemaRef,
}

impl LakeRows {
    /// Returns what decodes the rows of the visible columns of `schema`.
    pub fn new(schema: &SchemaRef) -> Result<LakeRows, FormatError> {
        let schema = lake_schema(schema);
        Ok(LakeRows { converter: converter(&schema)?, schema })
    }

    /// Returns the schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns those of `rows` whose numbers `picked` gives, as columns.
    pub fn decode(
        &self,
        rows: &EncodedRows,
        picked: impl IntoIterator<Item = usize>,
    ) -> Result<RecordBatch, SinkError> {
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(picked.into_iter().map(|row| parser.parse(rows.key_value(row).1)));
        let batch = columns.and_then(|columns| RecordBatch::try_new(self.schema.clone(), columns));
        batch.map_err(|error| SinkError::Refused(format!("rows for a lake are not those that were encoded: {error}")))
    }
}

/// Returns the schema of rows in a lake: the visible columns in their types. Times say that they are in UTC, and whole seconds, which
/// Parquet does not know as times, are milliseconds.
pub(super) fn lake_schema(schema: &Schema) -> SchemaRef {
    let fields = visible_of(schema).into_iter().map(|field| {
        let data_type = lake_type(field.data_type());
        field.with_data_type(data_type)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn lake_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(lake_type(field.data_type())));
    match data_type {
        DataType::Timestamp(unit, _) => {
            let unit = if *unit == TimeUnit::Second { TimeUnit::Millisecond } else { *unit };
            DataType::Timestamp(unit, Some("UTC".into()))
        }
        DataType::List(item) => DataType::List(inner(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        other => other.clone(),
    }
}

/// Returns what the records of a lake call a type.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "string".into(),
        DataType::Boolean => "bool".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Timestamp(TimeUnit::Second, _) => "timestamp_s".into(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => "timestamp_ms".into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => "timestamp_us".into(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => "timestamp_ns".into(),
        DataType::Date32 => "date".into(),
        DataType::List(item) => format!("list<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let inner: Vec<_> = fields.iter().map(|f| format!("{}: {}", f.name(), type_name(f.data_type()))).collect();
            format!("struct{{{}}}", inner.join(", "))
        }
        // Numbers.
        other => other.to_string().to_lowercase(),
    }
}

fn converter(schema: &SchemaRef) -> Result<RowConverter, FormatError> {
    if schema.fields().is_empty() {
        return Err(FormatError("there are no columns".to_owned()));
    }
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    RowConverter::new(fields).map_err(|error| FormatError(error.to_string()))
}
