//! Rows to Avro: one datum per row, framed with the number that its schema has in a registry.
//!
//! The schema follows from the columns: a record of the sink's name with a field per visible column, in order. What may be null is a
//! union with null, and null is its default, so that a column more is a change that readers of both versions take.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use riverrun_dataflow::schema::is_hidden;
use riverrun_dataflow::sink::{EncodedRows, Encoder, SinkError};
use serde_json::{Value, json};

use super::super::json::RowKey;
use super::super::{FormatError, Timestamps};

/// Returns the schema, as JSON text, of rows of `schema`; `name` is that of the record.
pub(crate) fn schema_of(schema: &SchemaRef, name: &str) -> Result<String, FormatError> {
    let visible = schema.fields().iter().filter(|field| !is_hidden(field.name()));
    let fields = visible.map(|field| field_of(field, name)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "type": "record", "name": name, "fields": fields }).to_string())
}

/// Returns a topic's name as that of a record may be.
pub(crate) fn record_name(topic: &str) -> String {
    let name: String = topic.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name,
    }
}

fn field_of(field: &Field, within: &str) -> Result<Value, FormatError> {
    let name = field.name();
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_name) {
        return Err(FormatError(format!("`{name}` cannot be the name of a field of Avro")));
    }
    let of = type_of(field, &format!("{within}_{name}"))?;
    Ok(match field.is_nullable() {
        true => json!({ "name": name, "type": of, "default": null }),
        false => json!({ "name": name, "type": of }),
    })
}

fn type_of(field: &Field, name: &str) -> Result<Value, FormatError> {
    let of = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => json!("long"),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => json!("long"),
        DataType::UInt64 => json!({ "type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 0 }),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Decimal128(precision, scale) if *scale >= 0 => {
            json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
        }
        DataType::Date32 => json!({ "type": "int", "logicalType": "date" }),
        DataType::Timestamp(unit, _) => {
            let logical = match unit {
                TimeUnit::Second | TimeUnit::Millisecond => "timestamp-millis",
                TimeUnit::Microsecond => "timestamp-micros",
                TimeUnit::Nanosecond => "timestamp-nanos",
            };
            json!({ "type": "long", "logicalType": logical })
        }
        DataType::List(item) => json!({ "type": "array", "items": type_of(item, name)? }),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| field_of(field, name)).collect::<Result<Vec<_>, _>>()?;
            json!({ "type": "record", "name": name, "fields": fields })
        }
        other => {
            return Err(FormatError(format!("column `{}` has type {other}, which Avro does not have", field.name())));
        }
    };
    Ok(if field.is_nullable() { json!(["null", of]) } else { of })
}

/// Encodes rows as Avro.
#[derive(Clone)]
pub(crate) struct AvroEncoder {
    /// What stands before each datum.
    frame: Vec<u8>,
    columns: Vec<usize>,
    key: Option<RowKey>,
}

impl AvroEncoder {
    /// Returns an encoder of rows of `schema`, which has this number. Without one, nothing stands before a datum.
    pub fn new(
        schema: &SchemaRef,
        name: &str,
        id: Option<u32>,
        key: Option<Vec<usize>>,
    ) -> Result<AvroEncoder, FormatError> {
        schema_of(schema, name)?;
        let frame = id.map(|id| [&[0], &id.to_be_bytes()[..]].concat()).unwrap_or_default();
        let visible = schema.fields().iter().enumerate().filter(|(_, field)| !is_hidden(field.name()));
        let columns = visible.map(|(index, _)| index).collect();
        let key = key.map(|columns| RowKey::new(schema, columns, Timestamps::Rfc3339)).transpose()?;
        Ok(AvroEncoder { frame, columns, key })
    }
}

impl Encoder for AvroEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError> {
        let schema = rows.schema();
        let cells = self.columns.iter().map(|index| Cells::new(rows.column(*index), schema.field(*index)));
        let cells = cells.collect::<Result<Vec<_>, SinkError>>()?;
        let keys = self.key.as_ref().map(|key| key.writers(rows)).transpose()?;
        for row in 0..rows.num_rows() {
            let key_length = keys.as_ref().map(|keys| keys.push(&mut out.bytes, row));
            out.bytes.extend_from_slice(&self.frame);
            cells.iter().for_each(|cells| cells.push(&mut out.bytes, row));
            out.end_row(key_length);
        }
        Ok(())
    }
}

/// The cells of one column.
struct Cells {
    is_nullable: bool,
    values: Values,
}

enum Values {
    Text(StringArray),
    Bool(BooleanArray),
    Long(Int64Array),
    /// Of times whose unit is not one of Avro's.
    Scaled(Int64Array, i64),
    Float(Float32Array),
    Double(Float64Array),
    Decimal(Decimal128Array),
    Date(Date32Array),
    List(ListArray, Box<Cells>),
    Record(StructArray, Vec<Cells>),
}

impl Cells {
    fn new(array: &ArrayRef, field: &Field) -> Result<Cells, SinkError> {
        let unwritable = |reason: String| SinkError::Write { what: format!("column `{}`", field.name()), reason };
        let to = |of: &DataType| cast(array, of).map_err(|error| unwritable(error.to_string()));
        let values = match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Values::Text(to(&DataType::Utf8)?.as_string().clone())
            }
            DataType::Boolean => Values::Bool(array.as_boolean().clone()),
            DataType::UInt64 => Values::Decimal(to(&DataType::Decimal128(20, 0))?.as_primitive().clone()),
            of if of.is_integer() => Values::Long(to(&DataType::Int64)?.as_primitive().clone()),
            DataType::Float32 => Values::Float(array.as_primitive().clone()),
            DataType::Float64 => Values::Double(array.as_primitive().clone()),
            DataType::Decimal128(..) => Values::Decimal(array.as_primitive().clone()),
            DataType::Date32 => Values::Date(array.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Second, _) => {
                Values::Scaled(to(&DataType::Int64)?.as_primitive().clone(), 1000)
            }
            DataType::Timestamp(..) => Values::Long(to(&DataType::Int64)?.as_primitive().clone()),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                Values::List(list.clone(), Box::new(Cells::new(list.values(), item)?))
            }
            DataType::Struct(fields) => {
                let of = array.as_struct();
                let inner = fields.iter().zip(of.columns()).map(|(field, column)| Cells::new(column, field));
                Values::Record(of.clone(), inner.collect::<Result<_, _>>()?)
            }
            other => return Err(unwritable(format!("Avro has no type {other}"))),
        };
        Ok(Cells { is_nullable: field.is_nullable(), values })
    }

    fn is_null(&self, row: usize) -> bool {
        match &self.values {
            Values::Text(array) => array.is_null(row),
            Values::Bool(array) => array.is_null(row),
            Values::Long(array) | Values::Scaled(array, _) => array.is_null(row),
            Values::Float(array) => array.is_null(row),
            Values::Double(array) => array.is_null(row),
            Values::Decimal(array) => array.is_null(row),
            Values::Date(array) => array.is_null(row),
            Values::List(array, _) => array.is_null(row),
            Values::Record(array, _) => array.is_null(row),
        }
    }

    fn push(&self, out: &mut Vec<u8>, row: usize) {
        if self.is_nullable {
            let is_null = self.is_null(row);
            push_long(out, i64::from(!is_null));
            if is_null {
                return;
            }
        }
        match &self.values {
            Values::Text(array) => push_bytes(out, array.value(row).as_bytes()),
            Values::Bool(array) => out.push(u8::from(array.value(row))),
            Values::Long(array) => push_long(out, array.value(row)),
            Values::Scaled(array, times) => push_long(out, array.value(row).saturating_mul(*times)),
            Values::Float(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Values::Double(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Values::Decimal(array) => push_bytes(out, shortest(&array.value(row).to_be_bytes())),
            Values::Date(array) => push_long(out, i64::from(array.value(row))),
            Values::List(array, items) => {
                let (start, end) = (array.value_offsets()[row], array.value_offsets()[row + 1]);
                if end > start {
                    push_long(out, i64::from(end - start));
                }
                for item in start..end {
                    items.push(out, usize::try_from(item).expect("offsets are not negative"));
                }
                out.push(0);
            }
            Values::Record(_, fields) => fields.iter().for_each(|field| field.push(out, row)),
        }
    }
}

fn push_long(out: &mut Vec<u8>, value: i64) {
    let mut left = (value << 1 ^ value >> 63).cast_unsigned();
    while left >= 0x80 {
        out.push(u8::try_from(left & 0x7f).expect("seven bits") | 0x80);
        left >>= 7;
    }
    out.push(u8::try_from(left).expect("seven bits"));
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_long(out, i64::try_from(bytes.len()).expect("a row is below 8 EiB"));
    out.extend_from_slice(bytes);
}

/// Returns a number in two's complement without the bytes at its head that say nothing.
fn shortest(bytes: &[u8]) -> &[u8] {
    let is_spare = |pair: &[u8]| matches!((pair[0], pair[1] >= 0x80), (0, false) | (0xff, true));
    let spare = bytes.windows(2).take_while(|pair| is_spare(pair)).count();
    &bytes[spare..]
}
