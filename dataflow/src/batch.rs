//! Arrow batches as timely containers, and how they travel between workers and processes.
//!
//! Within a process a batch travels by reference. Between processes it travels as an Arrow IPC message without its schema:
//! every process registers the schemas of the graph's edges in the same order, and a message names its schema by number.

use std::cell::OnceCell;
use std::io::Write;
use std::sync::RwLock;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

use crate::wire::{WireError, push_rows, read_rows, word};

/// Rows on an edge of the dataflow.
pub struct Batch {
    rows: Result<Option<RecordBatch>, WireError>,
    schema: SchemaId,
    encoded: OnceCell<Vec<u8>>,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { rows: Ok(None), schema: 0, encoded: OnceCell::new() }
    }
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
        Batch { rows: Ok(Some(rows)), schema, encoded: OnceCell::new() }
    }

    /// Takes the rows out; an error if they came from another process in a form that is none.
    pub fn take(&mut self) -> Result<Option<RecordBatch>, WireError> {
        self.encoded = OnceCell::new();
        std::mem::replace(&mut self.rows, Ok(None))
    }

    /// Returns the number under which the schema travels.
    pub fn schema(&self) -> SchemaId {
        self.schema
    }

    fn encoded(&self) -> &Vec<u8> {
        self.encoded.get_or_init(|| match &self.rows {
            // What could not be read is not passed on.
            Ok(None) | Err(_) => Vec::new(),
            Ok(Some(rows)) => encode(rows, self.schema),
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
        match &self.rows {
            Ok(Some(rows)) => i64::try_from(rows.num_rows()).expect("a batch fits memory"),
            Ok(None) => 0,
            // Timely does not deliver what is empty.
            Err(_) => 1,
        }
    }
}

/// `[schema u64][rows]`, as [`crate::wire`] has it, and zeros up to what timely wants.
fn encode(rows: &RecordBatch, schema: SchemaId) -> Vec<u8> {
    let mut out = u64::from(schema).to_le_bytes().to_vec();
    push_rows(rows, &mut out);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn decode(mut bytes: &[u8]) -> Result<Batch, WireError> {
    let (schema, registered) = registered(word(&mut bytes)?)?;
    Ok(Batch::new(read_rows(bytes, registered)?, schema))
}

/// Returns the schema that travels under a number.
fn registered(number: u64) -> Result<(SchemaId, SchemaRef), WireError> {
    let schemas = SCHEMAS.read().expect("the registry is never left half-written");
    let id = SchemaId::try_from(number).ok();
    let known = id.and_then(|id| Some((id, schemas.get(id as usize)?.clone())));
    known.ok_or_else(|| WireError(format!("it names schema {number}, there are {}", schemas.len())))
}

impl ContainerBytes for Batch {
    fn from_bytes(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Batch::default();
        }
        decode(&bytes).unwrap_or_else(|error| Batch { rows: Err(error), ..Batch::default() })
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
        assert_eq!(Batch::from_bytes(wire).take().unwrap().unwrap(), rows);
    }
}
