//! Records that are decoded one by one into rows: the loop that is the same for every format.

use riverrun_dataflow::source::{Chunk, DecodeContext, Decoded, Decoder, Payload, Records};

use super::rows::{Fault, RECORD_BYTES_MAX, Rows, bad_record};

/// Fills the row in hand from one record.
pub(crate) trait FillRow: Send {
    /// Gives the slots of `rows` what the record has for them. After a fault the row is rolled back by who called.
    fn fill(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), Fault>;
}

/// Decodes records by what fills rows from them.
pub(crate) struct RecordDecoder<F> {
    rows: Rows,
    fill: F,
}

impl<F: FillRow> RecordDecoder<F> {
    /// Returns a decoder of `rows`.
    pub fn new(rows: Rows, fill: F) -> RecordDecoder<F> {
        RecordDecoder { rows, fill }
    }

    fn decode_records(&mut self, chunk: &Chunk, records: &Records, context: &DecodeContext, out: &mut Decoded) {
        for (index, (start, end)) in records.ranges.iter().enumerate() {
            if self.rows.leaves_out(records, index) {
                out.filtered += 1;
                continue;
            }
            let raw = &records.bytes[*start as usize..*end as usize];
            let filled = match raw.len() > RECORD_BYTES_MAX {
                true => Err(Fault::new("too_long", "the record is longer than 64 MiB")),
                false => self.fill.fill(raw, &mut self.rows),
            };
            let filled = filled.and_then(|()| self.rows.surround(chunk, records, index, context));
            let ended = filled.and_then(|()| self.rows.end_row(chunk.position(index), context));
            if let Err(fault) = ended {
                self.rows.roll_back();
                out.bad.push(bad_record(chunk, records, index, context.split, fault));
            }
            if self.rows.is_full() {
                self.rows.flush(context.split, out);
            }
        }
        self.rows.flush(context.split, out);
    }
}

impl<F: FillRow> Decoder for RecordDecoder<F> {
    fn decode(&mut self, chunk: &Chunk, context: &DecodeContext, out: &mut Decoded) {
        match &chunk.payload {
            Payload::Records(records) => self.decode_records(chunk, records, context, out),
            Payload::Columns(_) => unreachable!("a source of records gives records"),
        }
    }
}
