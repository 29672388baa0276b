//! Sources and sinks of the simulated world, behind the contracts of production.

use std::sync::Arc;

use arrow::array::RecordBatch;
use riverrun_dataflow::sink::{Claim, EncodedRows, Encoder, Lane, Sink, SinkError, TickRows, Token};
use riverrun_dataflow::source::{
    Chunk, Numbering, Payload, ReadLimits, Records, Source, SourceError, SplitReader, SplitSpec,
};
use riverrun_dataflow::tick::Tick;

use crate::mutant::Mutant;
use crate::scene::Line;
use crate::world::{Killed, LaneTick, World};

/// The splits of a source.
pub struct FakeSource {
    /// The world.
    pub world: Arc<World>,
    /// The source's name.
    pub name: String,
    /// Its splits.
    pub splits: Arc<Vec<Vec<Line>>>,
    /// A broken rule.
    pub mutant: Option<Mutant>,
}

impl Source for FakeSource {
    fn splits(&self, bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        let spec = |(number, lines): (usize, &Vec<Line>)| SplitSpec {
            name: number.to_string(),
            start: 0,
            end: bounded.then_some(lines.len() as u64),
            identity: String::new(),
        };
        Ok(self.splits.iter().enumerate().map(spec).collect())
    }

    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        let number: usize = split.name.parse().expect("splits are numbered");
        let key = (self.name.clone(), split.name.clone());
        let (world, splits) = (self.world.clone(), self.splits.clone());
        Ok(Box::new(FakeReader { world, splits, number, key, position, mutant: self.mutant }))
    }
}

struct FakeReader {
    world: Arc<World>,
    splits: Arc<Vec<Vec<Line>>>,
    number: usize,
    key: (String, String),
    position: u64,
    mutant: Option<Mutant>,
}

impl SplitReader for FakeReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        let gone = |_: Killed| SourceError::Read { what: "a split".into(), reason: "killed by the simulator".into() };
        let lines = &self.splits[self.number];
        let (now, want, known) = {
            let mut inner = self.world.lock();
            if inner.dead {
                return Err(gone(Killed));
            }
            let want = 1 + inner.dice.roll(6);
            (inner.time, want, inner.read.get(&self.key).copied().unwrap_or(0))
        };
        let from = self.position;
        let there = lines.iter().skip(from as usize).take_while(|line| line.arrives <= now).count() as u64;
        let until = limits.until.unwrap_or(u64::MAX).saturating_sub(from);
        let rows = there.min(until).min(want).min(limits.rows as u64);
        if rows == 0 {
            return Ok(None);
        }
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for (position, line) in (from..).zip(&lines[from as usize..(from + rows) as usize]) {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(line.text.as_bytes());
            if self.mutant == Some(Mutant::ChangedInput) && position < known {
                let last = bytes.len() - 2;
                bytes[last] = b'7';
            }
            ranges.push((start, bytes.len() as u32));
            bytes.push(b'\n');
        }
        self.position += rows;
        let mut inner = self.world.lock();
        inner.event(&self.key.0, self.position);
        let records = Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Ordinal };
        Ok(Some(Chunk { from, to: self.position, payload: Payload::Records(records) }))
    }

    fn ended(&self) -> bool {
        self.position == self.splits[self.number].len() as u64
    }
}

/// A sink whose lanes take rows and token in one act.
pub struct FakeSink {
    /// The world.
    pub world: Arc<World>,
    /// Its lanes.
    pub lanes: u32,
    /// A broken rule.
    pub mutant: Option<Mutant>,
}

fn gone(_: Killed) -> SinkError {
    SinkError::Write { what: "a lane".into(), reason: "killed by the simulator".into() }
}

impl Sink for FakeSink {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(self.lanes)
    }

    fn open(&self, lane: u32, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        let place = (claim.sink.clone(), lane);
        self.world.begin("open a lane", u64::from(lane)).map_err(gone)?;
        let token = {
            let mut inner = self.world.lock();
            let state = inner.lanes.entry(place.clone()).or_default();
            if state.fence > claim.generation {
                return Err(SinkError::Fenced("a later generation opened the lane".into()));
            }
            state.fence = claim.generation;
            state.token.clone()
        };
        self.world.end().map_err(gone)?;
        let token_of = token.clone();
        let lane = FakeLane { world: self.world.clone(), place, claim: claim.clone(), mutant: self.mutant };
        Ok((Box::new(lane), token_of))
    }
}

struct FakeLane {
    world: Arc<World>,
    place: (String, u32),
    claim: Claim,
    mutant: Option<Mutant>,
}

impl FakeLane {
    /// Looks at what is to be committed; a sink sees more than its contract asks for.
    fn check(&self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        let mut inner = self.world.lock();
        let state = &inner.lanes[&self.place];
        if state.fence > self.claim.generation {
            return Err(SinkError::Fenced("a later generation opened the lane".into()));
        }
        let before = state.token.as_ref().map_or(0, |token| token.tick);
        let known = inner.journal.keys().next_back().copied().unwrap_or(0);
        let place = &self.place;
        if upto <= before {
            inner.wrong(format!("the token of {place:?} went from {before} to {upto}"));
        } else if ticks.iter().any(|rows| rows.tick <= before || rows.tick > upto) {
            inner.wrong(format!("{place:?} was given rows outside of ticks {before} to {upto}"));
        } else if upto > known {
            inner.wrong(format!("{place:?} was to commit tick {upto}, the log ends at {known}"));
        }
        Ok(())
    }
}

impl Lane for FakeLane {
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        let (incarnation, generation) = (self.claim.incarnation.clone(), self.claim.generation);
        let token = Token { incarnation, generation, tick: upto };
        let rows: Vec<LaneTick> = ticks.iter().map(rows_of).collect();
        self.world.begin(&format!("commit {}.{}", self.place.0, self.place.1), upto).map_err(gone)?;
        self.check(upto, ticks)?;
        let lane = |act: &mut dyn FnMut(&mut crate::world::LaneState)| {
            let mut inner = self.world.lock();
            act(inner.lanes.get_mut(&self.place).expect("a lane is opened first"));
        };
        match self.mutant {
            Some(Mutant::EarlySink) => lane(&mut |state| {
                if let Some((token, rows)) = state.held.replace((token.clone(), rows.clone())) {
                    state.token = Some(token);
                    state.ticks.extend(rows);
                }
            }),
            Some(Mutant::TokenFirst) => {
                lane(&mut |state| state.token = Some(token.clone()));
                self.world.end().map_err(gone)?;
                self.world.begin("write the rows", upto).map_err(gone)?;
                lane(&mut |state| state.ticks.extend(rows.clone()));
            }
            Some(Mutant::RowsFirst) => {
                lane(&mut |state| state.ticks.extend(rows.clone()));
                self.world.end().map_err(gone)?;
                self.world.begin("write the token", upto).map_err(gone)?;
                lane(&mut |state| state.token = Some(token.clone()));
            }
            _ => lane(&mut |state| {
                state.token = Some(token.clone());
                state.ticks.extend(rows.clone());
            }),
        }
        self.world.end().map_err(gone)
    }
}

/// A lane that lies makes good on it at the end, if it comes so far.
impl Drop for FakeLane {
    fn drop(&mut self) {
        let mut inner = self.world.lock();
        if inner.dead {
            return;
        }
        let Some(state) = inner.lanes.get_mut(&self.place) else { return };
        if let Some((token, rows)) = state.held.take() {
            state.token = Some(token);
            state.ticks.extend(rows);
        }
    }
}

fn rows_of(rows: &TickRows) -> LaneTick {
    let row = |index: usize| (rows.times[index], rows.rows.key_value(index).1.to_vec());
    (rows.tick, (0..rows.rows.len()).map(row).collect())
}

/// An encoder that lets the order of arrival reach the output.
pub struct ArrivalEncoder(pub Box<dyn Encoder>, pub u64);

impl Encoder for ArrivalEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError> {
        let mut plain = EncodedRows::default();
        self.0.encode(rows, &mut plain)?;
        for index in 0..plain.len() {
            self.1 += 1;
            let row = plain.row(index);
            out.bytes.extend_from_slice(&row[..row.len() - 1]);
            out.bytes.extend_from_slice(format!(",\"arrived\":{}}}", self.1).as_bytes());
            out.end_row(plain.key_lengths.get(index).copied());
        }
        Ok(())
    }
}
