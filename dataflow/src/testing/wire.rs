//! What travels between processes, as the bytes that arrive.

use arrow::array::RecordBatch;
use timely::bytes::arc::BytesMut;
use timely::dataflow::channels::ContainerBytes;

use crate::batch::{Batch, register_schema};
use crate::engine::message::{Raw, RawChunk};
use crate::source::Chunk;
use crate::time::EventTime;
use crate::wire::WireError;

/// Returns the bytes as which `rows` travel.
pub fn batch_bytes(rows: &RecordBatch) -> Vec<u8> {
    bytes_of(&Batch::new(rows.clone(), register_schema(&rows.schema())))
}

/// Reads rows that have arrived.
pub fn read_batch(bytes: &[u8]) -> Result<Option<RecordBatch>, WireError> {
    Batch::from_bytes(BytesMut::from(bytes.to_vec()).freeze()).take()
}

/// Returns the bytes as which `chunk` travels.
pub fn chunk_bytes(chunk: Chunk) -> Vec<u8> {
    let accept = EventTime::MIN..=EventTime::MAX;
    bytes_of(&Raw::of(RawChunk { source: 0, split: 0, accept, chunk }))
}

/// Reads a chunk that has arrived.
pub fn read_chunk(bytes: &[u8]) -> Result<Option<Chunk>, WireError> {
    let mut raw = Raw::from_bytes(BytesMut::from(bytes.to_vec()).freeze());
    Ok(raw.take()?.map(|raw| raw.chunk))
}

fn bytes_of(container: &impl ContainerBytes) -> Vec<u8> {
    let mut bytes = Vec::new();
    container.into_bytes(&mut bytes);
    bytes
}
