//! A source and a sink in memory, behind the contracts of production. They outlive a stop of the job within a play.

use std::sync::{Arc, Mutex};

use riverrun_dataflow::engine::Control;
use riverrun_dataflow::sink::{Claim, Lane, Promise, Sink, SinkError, TickRows, Token};
use riverrun_dataflow::source::{
    Chunk, Numbering, Payload, ReadLimits, Records, Source, SourceError, SplitReader, SplitSpec,
};
use riverrun_dataflow::tick::Tick;

/// The records of a source, in the order in which they arrive: one split, which has the source's name.
pub struct MemorySource {
    /// The source's name.
    pub name: String,
    /// The records.
    pub records: Arc<Vec<String>>,
    /// Asks the job to stop once this position is read.
    pub stop: Option<(u64, Arc<Control>)>,
}

impl Source for MemorySource {
    fn splits(&self, _: bool) -> Result<Vec<SplitSpec>, SourceError> {
        let end = Some(self.records.len() as u64);
        Ok(vec![SplitSpec { name: self.name.clone(), start: 0, end, identity: String::new() }])
    }

    fn open(&self, _: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        Ok(Box::new(MemoryReader { records: self.records.clone(), position, stop: self.stop.clone() }))
    }
}

struct MemoryReader {
    records: Arc<Vec<String>>,
    position: u64,
    stop: Option<(u64, Arc<Control>)>,
}

impl SplitReader for MemoryReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        let from = self.position;
        let end = limits.until.unwrap_or(u64::MAX).min(self.records.len() as u64);
        let to = end.min(from + limits.rows as u64);
        if to <= from {
            return Ok(None);
        }
        if let Some((_, control)) = self.stop.as_ref().filter(|(position, _)| *position < to) {
            // Only this tick is open: the one after it will be the last.
            control.stop();
        }
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        let length = |bytes: &Vec<u8>| u32::try_from(bytes.len()).expect("a test's rows stay below 4 GiB");
        let index = |position: u64| usize::try_from(position).expect("the records are in memory");
        for record in &self.records[index(from)..index(to)] {
            let start = length(&bytes);
            bytes.extend_from_slice(record.as_bytes());
            ranges.push((start, length(&bytes)));
            bytes.push(b'\n');
        }
        self.position = to;
        let records = Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Ordinal };
        Ok(Some(Chunk { from, to, payload: Payload::Records(records) }))
    }

    fn ended(&self) -> bool {
        self.position >= self.records.len() as u64
    }
}

/// What was written to a sink.
#[derive(Debug, Default)]
pub struct Sunk {
    /// The rows by tick.
    pub ticks: Vec<TickRows>,
    token: Option<Token>,
}

/// A sink that keeps its rows, with one lane.
#[derive(Clone, Default)]
pub struct MemorySink(pub Arc<Mutex<Sunk>>);

impl Sink for MemorySink {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(1)
    }

    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn open(&self, _: u32, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        let token = self.0.lock().expect("rows are only ever added").token.clone();
        Ok((Box::new(MemoryLane { sunk: self.0.clone(), claim: claim.clone() }), token))
    }
}

struct MemoryLane {
    sunk: Arc<Mutex<Sunk>>,
    claim: Claim,
}

impl Lane for MemoryLane {
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        let (incarnation, generation) = (self.claim.incarnation.clone(), self.claim.generation);
        let mut sunk = self.sunk.lock().expect("rows are only ever added");
        sunk.ticks.extend_from_slice(ticks);
        sunk.token = Some(Token { incarnation, generation, tick: upto });
        Ok(())
    }
}
