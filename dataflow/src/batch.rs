//! Arrow batches as timely containers, and how they travel between workers and processes.
//!
//! Within a process a batch travels by reference. Between processes it travels as an Arrow IPC message without its schema:
//! every process registers the schemas of the graph's edges in the same order, and a message names its schema by number.

use std::cell::OnceCell;
use std::io::Write;
use std::sync::RwLock;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

/// Rows on an edge of the dataflow.
#[derive(Default)]
pub struct Batch {
    rows: Option<RecordBatch>,
    schema: SchemaId,
    encoded: OnceCell<Vec<u8>>,
}

/// The number of a registered schema.
pub type SchemaId = u32;

static SCHEMAS: RwLock<Vec<SchemaRef>> = RwLock::new(Vec::new());

/// Registers a schema for the wire and returns its number. All processes of a job must register the same schemas in the same
/// order; registering an equal schema again returns the number it has.
pub fn register_schema(schema: &SchemaRef) -> SchemaId {
    let mut schemas = SCHEMAS.write().expect("the registry is never left half-written");
    let known = schemas.iter().position(|s| s == schema);
    let id = known.unwrap_or_else(|| {
        schemas.push(schema.clone());
        schemas.len() - 1
    });
    SchemaId::try_from(id).expect("fewer schemas than u32")
}

impl Batch {
    /// Returns a batch that stays on its worker or names its schema for the wire.
    pub fn new(rows: RecordBatch, schema: SchemaId) -> Batch {
        Batch { rows: Some(rows), schema, encoded: OnceCell::new() }
    }

    /// Takes the rows out.
    pub fn take(&mut self) -> Option<RecordBatch> {
        self.encoded = OnceCell::new();
        self.rows.take()
    }

    /// Returns the number under which the schema travels.
    pub fn schema(&self) -> SchemaId {
        self.schema
    }

    fn encoded(&self) -> &Vec<u8> {
        self.encoded.get_or_init(|| match &self.rows {
            None => Vec::new(),
            Some(rows) => encode(rows, self.schema),
        })
    }
}

impl Clone for Batch {
    fn clone(&self) -> Self {
        Batch { rows: self.rows.clone(), schema: self.schema, encoded: OnceCell::new() }
    }
}

impl Accountable for Batch {
    fn record_count(&self) -> i64 {
        self.rows.as_ref().map_or(0, |rows| i64::try_from(rows.num_rows()).expect("a batch fits memory"))
    }
}

/// Length of the header: schema number and message length, both `u64`.
const HEADER: usize = 16;
/// Arrow buffers start at a multiple of this.
const ALIGN: usize = 64;

fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// `[schema u64][message length u64][message][padding][body]`
fn encode(rows: &RecordBatch, schema: SchemaId) -> Vec<u8> {
    let mut dictionaries = DictionaryTracker::new(false);
    let (_, data) = IpcDataGenerator::default()
        .encode(rows, &mut dictionaries, &IpcWriteOptions::default(), &mut Default::default())
        .expect("a batch without dictionaries is always encodable");
    let body_at = padded(HEADER + data.ipc_message.len());
    let mut out = Vec::with_capacity(body_at + data.arrow_data.len());
    out.extend_from_slice(&u64::from(schema).to_le_bytes());
    out.extend_from_slice(&(data.ipc_message.len() as u64).to_le_bytes());
    out.extend_from_slice(&data.ipc_message);
    out.resize(body_at, 0);
    out.extend_from_slice(&data.arrow_data);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn decode(bytes: &[u8]) -> Batch {
    // One aligned copy: a slice of timely's receive buffer is not aligned and would keep the whole buffer alive.
    let buffer = Buffer::from(bytes);
    let word = |at: usize| u64::from_le_bytes(buffer[at..at + 8].try_into().expect("8 bytes"));
    let schema = SchemaId::try_from(word(0)).expect("peers of one plan agree on schemas");
    let length = usize::try_from(word(8)).expect("a message fits memory");
    let message =
        arrow::ipc::root_as_message(&buffer[HEADER..HEADER + length]).expect("peers of one build agree on the wire");
    let body = buffer.slice(padded(HEADER + length));
    let registered = SCHEMAS.read().expect("the registry is never left half-written")[schema as usize].clone();
    let header = message.header_as_record_batch().expect("only record batches travel");
    let rows =
        arrow::ipc::reader::read_record_batch(&body, header, registered, &Default::default(), None, &message.version())
            .expect("peers of one plan agree on schemas");
    Batch::new(rows, schema)
}

impl ContainerBytes for Batch {
    fn from_bytes(bytes: Bytes) -> Self {
        if bytes.is_empty() { Batch::default() } else { decode(&bytes) }
    }

    // Timely asks for the length first: the encoding is made here and kept for `into_bytes`.
    fn length_in_bytes(&self) -> usize {
        self.encoded().len()
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        writer.write_all(self.encoded()).expect("timely's buffers do not fail");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use timely::bytes::arc::BytesMut;

    use super::*;

    #[test]
    fn a_batch_survives_the_wire() {
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("a", Arc::new(StringArray::from(vec![Some("x"), None, Some("käse")])) as _, true),
            ("b", Arc::new(Int64Array::from(vec![Some(1), Some(2), None])) as _, true),
        ])
        .unwrap();
        // A slice must not drag its parent along, nor lose its offset.
        let rows = rows.slice(1, 2);
        let id = register_schema(&rows.schema());
        assert_eq!(id, register_schema(&rows.schema()));
        let batch = Batch::new(rows.clone(), id);
        assert_eq!(batch.record_count(), 2);
        let mut bytes = Vec::new();
        batch.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), batch.length_in_bytes());
        let wire = BytesMut::from(bytes).freeze();
        assert_eq!(Batch::from_bytes(wire).take().unwrap(), rows);
    }
}
