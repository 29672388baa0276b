//! Bytes that come from another process.
//!
//! Timely asks a container to make itself of such bytes and takes no for no answer. So a container that was made of bytes
//! that are no message holds the error in the place of its rows, and whoever opens it fails the job.
//!
//! ```text
//! schema  [length u64][message]
//! rows    [length u64][message][padding][body]
//! ```
//! Messages and body are Arrow's; the padding brings the body to where Arrow wants it, counted from the length.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_schema_from_flatbuffer_bytes;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};

use crate::ipc::{check_rows, check_schema};

/// Bytes from another process that are no message of this job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message from another process cannot be read: {0}")]
pub struct WireError(pub String);

/// Arrow buffers start at a multiple of this.
const ALIGN: usize = 64;
/// Length of the length of a message.
const LENGTH: usize = 8;

/// Takes the first `length` bytes of `bytes`.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], WireError> {
    let split = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (taken, rest) =
        split.ok_or_else(|| WireError(format!("{length} bytes are wanted, {} are left", bytes.len())))?;
    *bytes = rest;
    Ok(taken)
}

/// Takes a number from the beginning of `bytes`.
pub(crate) fn word(bytes: &mut &[u8]) -> Result<u64, WireError> {
    Ok(u64::from_le_bytes(take(bytes, LENGTH as u64)?.try_into().expect("eight bytes")))
}

/// Appends rows, none of them in a dictionary: their schema travels apart, or is known.
pub(crate) fn push_rows(rows: &RecordBatch, out: &mut Vec<u8>) {
    let mut dictionaries = DictionaryTracker::new(false);
    let (_, data) = IpcDataGenerator::default()
        .encode(rows, &mut dictionaries, &IpcWriteOptions::default(), &mut Default::default())
        .expect("a batch without dictionaries is always encodable");
    let body_at = out.len() + (LENGTH + data.ipc_message.len()).next_multiple_of(ALIGN);
    out.reserve(body_at - out.len() + data.arrow_data.len());
    out.extend_from_slice(&(data.ipc_message.len() as u64).to_le_bytes());
    out.extend_from_slice(&data.ipc_message);
    out.resize(body_at, 0);
    out.extend_from_slice(&data.arrow_data);
}

/// Reads rows of `schema`.
pub(crate) fn read_rows(bytes: &[u8], schema: SchemaRef) -> Result<RecordBatch, WireError> {
    let failed = |error: &dyn std::fmt::Display| WireError(error.to_string());
    let mut rest = bytes;
    let length = word(&mut rest)?;
    let message = take(&mut rest, length)?;
    let body_at = (LENGTH + message.len()).next_multiple_of(ALIGN).min(bytes.len());
    // One aligned copy: a slice of timely's receive buffer is not aligned and would keep the whole buffer alive.
    let body = Buffer::from(&bytes[body_at..]);
    let message = root_as_message(message).map_err(|error| failed(&error))?;
    let head = message.header_as_record_batch().ok_or_else(|| failed(&"it holds no rows"))?;
    check_rows(head, &schema, body.len()).map_err(|reason| failed(&reason))?;
    read_record_batch(&body, head, schema, &Default::default(), None, &message.version())
        .map_err(|error| failed(&error))
}

/// Appends a schema.
pub(crate) fn push_schema(schema: &Schema, out: &mut Vec<u8>) {
    let mut dictionaries = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    let data = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut dictionaries, &options);
    out.extend_from_slice(&(data.ipc_message.len() as u64).to_le_bytes());
    out.extend_from_slice(&data.ipc_message);
}

/// Takes a schema from the beginning of `bytes`.
pub(crate) fn take_schema(bytes: &mut &[u8]) -> Result<SchemaRef, WireError> {
    let length = word(bytes)?;
    let message = take(bytes, length)?;
    check_schema(message).map_err(WireError)?;
    try_schema_from_flatbuffer_bytes(message).map(Arc::new).map_err(|error| WireError(error.to_string()))
}

/// Returns `rows` with the values themselves where they are numbers of a dictionary.
pub(crate) fn without_dictionaries(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<FieldRef> = rows.schema().fields().iter().map(plain_field).collect();
    let columns = rows.columns().iter().zip(&fields);
    let columns: Vec<ArrayRef> = columns
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(column.clone()),
            false => cast(column, field.data_type()),
        })
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let plain = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        _ => return field.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(plain))
}
