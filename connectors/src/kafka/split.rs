//! One partition, read for a job.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use riverrun_dataflow::source::{Chunk, Numbering, Payload, ReadLimits, Records, SourceError, SplitReader};

use super::address::Cluster;
use super::client::{CALL, Reader, Watcher, offset_of, partition_name, raw_offset};
use super::error::{KafkaFault, Verdict, is_missing, verdict};
use super::events::{Gone, Skipped};
use super::source::{OnLost, OnMissing};
use super::wire;

/// Reads a partition. What librdkafka fetched ahead waits in its queue, which is bounded.
pub(crate) struct PartitionReader {
    pub cluster: Cluster,
    pub topic: String,
    pub partition: i32,
    pub client: Arc<Reader>,
    pub queue: PartitionQueue<Watcher>,
    /// The next offset that is given.
    pub position: u64,
    /// The offset after the last record of a bounded split.
    pub end: Option<u64>,
    pub on_lost: OnLost,
    /// What the partition held when it was opened, if the first records that are to be read were gone by then.
    pub gap: Option<(u64, u64)>,
    /// Up to where records that are gone were counted as skipped: retention may go on before the next one is read.
    pub skipped_to: u64,
    pub on_missing: OnMissing,
    /// The partition is no more, and the source says that it ends then.
    pub gone: bool,
    /// The time of the last record that was given, in milliseconds.
    pub time_ms: Option<i64>,
    /// A record that was taken from the queue and did not fit the read.
    pub held: Option<Held>,
    /// The broker said that there is no further record.
    pub at_end: bool,
}

/// A record in the form of [`wire`].
pub(crate) struct Held {
    offset: u64,
    time_ms: Option<i64>,
    bytes: Vec<u8>,
    value: (usize, usize),
}

/// Records on their way into a chunk.
struct Run {
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
    positions: Vec<u64>,
}

impl Run {
    fn push(&mut self, held: Held) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&held.bytes);
        self.end(held.offset, (at + held.value.0, at + held.value.1));
    }

    /// Ends a record whose bytes were just appended, with its value at this place.
    fn end(&mut self, offset: u64, value: (usize, usize)) {
        let place = |at: usize| u32::try_from(at).expect("a read is below 4 GiB");
        self.ranges.push((place(value.0), place(value.1)));
        self.positions.push(offset);
    }

    /// Returns the chunk that begins at `from`, if there is a record.
    fn chunk(self, from: u64) -> Option<Chunk> {
        let to = self.positions.last()? + 1;
        let has_gaps = to - from != self.positions.len() as u64;
        let numbering = if has_gaps { Numbering::Listed(self.positions) } else { Numbering::Ordinal };
        let records = Records { bytes: Arc::new(self.bytes), ranges: self.ranges, numbering };
        Some(Chunk { from, to, payload: Payload::Records(records) })
    }
}

impl PartitionReader {
    fn name(&self) -> String {
        partition_name(&self.topic, self.partition)
    }

    /// Takes records from the queue for as long as there are some and the limits allow.
    fn fill(&mut self, run: &mut Run, limits: &ReadLimits) -> Result<(), SourceError> {
        let until = limits.until.unwrap_or(u64::MAX).min(self.end.unwrap_or(u64::MAX));
        if let Some(held) = self.held.take_if(|held| held.offset < until) {
            self.time_ms = held.time_ms;
            run.push(held);
        }
        while self.held.is_none() && run.positions.len() < limits.rows {
            match self.take(run, until, limits.bytes) {
                None => return Ok(()),
                Some(Ok(())) => {}
                Some(Err(error)) => self.failed(&error, limits)?,
            }
        }
        Ok(())
    }

    /// Takes what comes next in the queue, if something is there. A record that does not fit is held.
    fn take(&mut self, run: &mut Run, until: u64, bytes: usize) -> Option<Result<(), KafkaError>> {
        let message = match self.queue.poll(Duration::ZERO)? {
            Ok(message) => message,
            Err(error) => return Some(Err(error)),
        };
        self.at_end = false;
        let (offset, time_ms) = (offset_of(message.offset()), message.timestamp().to_millis());
        if offset < self.position {
            return Some(Ok(()));
        }
        let at = run.bytes.len();
        let value = wire::push(&message, &mut run.bytes);
        if offset >= until || (run.bytes.len() > bytes && !run.positions.is_empty()) {
            let bytes = run.bytes.split_off(at);
            self.held = Some(Held { offset, time_ms, bytes, value: (value.0 - at, value.1 - at) });
        } else {
            self.time_ms = time_ms;
            run.end(offset, value);
        }
        Some(Ok(()))
    }

    /// Looks at what the partition's queue says besides records.
    fn failed(&mut self, error: &KafkaError, limits: &ReadLimits) -> Result<(), SourceError> {
        use RDKafkaErrorCode as Code;
        match (error, error.rdkafka_error_code()) {
            (KafkaError::PartitionEOF(_), _) => {
                self.at_end = true;
                self.client.context().answered();
                Ok(())
            }
            (_, Some(Code::AutoOffsetReset | Code::OffsetOutOfRange)) => self.lost(limits),
            _ if is_missing(error) => match self.on_missing {
                OnMissing::End => {
                    Gone(&self.name()).log();
                    self.gone = true;
                    Ok(())
                }
                OnMissing::Stop => {
                    let reason =
                        "it was deleted while the job was reading it (`on_missing: end` takes that for its end)";
                    Err(KafkaFault::Changed { what: self.name(), reason: reason.to_owned() }.into())
                }
            },
            // Connections come and go; librdkafka makes new ones for as long as it takes.
            _ if verdict(error) == Verdict::Retry => Ok(()),
            _ => Err(self.cluster.fault(&self.name(), self.client.context(), error).into()),
        }
    }

    /// Counts the records before `begin` that are not read, each once.
    fn skipped(&mut self, begin: u64) {
        let from = self.position.max(self.skipped_to);
        self.client.context().skipped(self.partition, begin.saturating_sub(from));
        self.skipped_to = self.skipped_to.max(begin);
    }

    /// The record at the position is not there: decides between stopping and going on behind the gap.
    fn lost(&mut self, limits: &ReadLimits) -> Result<(), SourceError> {
        let bounds = self.cluster.bounds(&self.client, &self.topic, self.partition)?;
        let begin = self.on_lost.within(limits).begin(&self.name(), self.position, bounds)?;
        if begin == self.position {
            // It was not there when it was asked for, and is there now: what was cut off was written anew since.
            let reason = format!("records up to {begin} were read, and then cut off: other ones are there now");
            return Err(KafkaFault::Changed { what: self.name(), reason }.into());
        }
        self.skipped(begin);
        let offset = Offset::Offset(raw_offset(begin));
        self.client
            .seek(&self.topic, self.partition, offset, CALL)
            .map_err(|error| self.cluster.fault(&self.name(), self.client.context(), &error).into())
    }
}

/// Another reader may open the partition again.
impl Drop for PartitionReader {
    fn drop(&mut self) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, self.partition);
        // A client that is at its end has nothing assigned.
        let _ = self.client.incremental_unassign(&list);
    }
}

impl OnLost {
    /// Returns what happens when records of a read are gone: those of a recorded tick were read before, and none can be skipped.
    fn within(self, limits: &ReadLimits) -> OnLost {
        if limits.recorded { OnLost::Stop } else { self }
    }

    /// Returns where reading begins that should begin at `wanted` in a partition that holds `bounds`.
    pub(crate) fn begin(self, what: &str, wanted: u64, bounds: (u64, u64)) -> Result<u64, KafkaFault> {
        let (first, next) = bounds;
        if wanted > next {
            let reason =
                format!("position {wanted} was read before, but now it ends at {next}: it was cut or made anew");
            return Err(KafkaFault::Changed { what: what.to_owned(), reason });
        }
        match self {
            _ if wanted >= first => Ok(wanted),
            OnLost::Stop => Err(KafkaFault::Lost { what: what.to_owned(), wanted, first, next }),
            OnLost::Skip => {
                Skipped { what, from: wanted, to: first }.log();
                Ok(first)
            }
        }
    }
}

impl SplitReader for PartitionReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        if let Some(bounds) = self.gap.take() {
            let begin = self.on_lost.within(limits).begin(&self.name(), self.position, bounds)?;
            self.skipped(begin);
        }
        let mut run = Run { bytes: Vec::new(), ranges: Vec::new(), positions: Vec::new() };
        self.fill(&mut run, limits)?;
        let chunk = run.chunk(self.position);
        if let Some(chunk) = &chunk {
            self.position = chunk.to;
        }
        // What the client itself has to say waits in its own queue, where no record comes.
        drop(self.client.poll(Duration::ZERO));
        let at_end = self.held.is_none() && self.at_end;
        let time_ms = self.held.as_ref().map_or(self.time_ms, |held| held.time_ms);
        self.client.context().stands(self.partition, self.position, at_end, time_ms);
        Ok(chunk)
    }

    fn ended(&self) -> bool {
        self.gone && self.held.is_none() || self.end.is_some_and(|end| self.position >= end)
    }

    fn waits(&self) -> bool {
        // A partition whose leader is out of reach may have grown, whatever it said last.
        !self.gone && self.held.is_none() && (!self.at_end || !self.client.context().leads(self.partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offsets: &[u64]) -> Run {
        let mut run = Run { bytes: Vec::new(), ranges: Vec::new(), positions: Vec::new() };
        for offset in offsets {
            run.push(Held { offset: *offset, time_ms: None, bytes: vec![b'h', b'v'], value: (1, 2) });
        }
        run
    }

    #[test]
    fn a_chunk_goes_from_the_position_to_the_last_record_whatever_the_gaps() {
        assert!(run(&[]).chunk(7).is_none());
        let whole = run(&[7, 8, 9]).chunk(7).unwrap();
        assert_eq!((whole.from, whole.to, whole.position(2)), (7, 10, 9));
        for (offsets, from) in [(vec![9, 10, 14], 7), (vec![7, 8, 14], 7), (vec![9], 7)] {
            let chunk = run(&offsets).chunk(from).unwrap();
            assert_eq!((chunk.from, chunk.to), (7, offsets.last().unwrap() + 1));
            let positions: Vec<u64> = (0..chunk.rows()).map(|row| chunk.position(row)).collect();
            assert_eq!(positions, offsets);
        }
    }

    #[test]
    fn what_is_gone_stops_the_job_or_is_skipped_if_so_chosen() {
        assert_eq!(OnLost::Stop.begin("p", 5, (5, 9)).unwrap(), 5);
        assert_eq!(OnLost::Stop.begin("p", 9, (5, 9)).unwrap(), 9);
        let lost = OnLost::Stop.begin("p", 4, (5, 9)).unwrap_err();
        assert!(matches!(lost, KafkaFault::Lost { wanted: 4, first: 5, next: 9, .. }), "{lost}");
        assert_eq!(OnLost::Skip.begin("p", 4, (5, 9)).unwrap(), 5);
        // A partition that is shorter than before is another one: nothing to be skipped.
        assert!(matches!(OnLost::Skip.begin("p", 10, (5, 9)), Err(KafkaFault::Changed { .. })));
        // Of a recorded tick nothing is, not even of one that ends where a bounded split does.
        for (recorded, what) in [(false, OnLost::Skip), (true, OnLost::Stop)] {
            let limits = ReadLimits { rows: 1, bytes: 1, until: Some(9), recorded };
            assert_eq!(OnLost::Skip.within(&limits), what);
        }
    }
}
