//! Watch: the frame of the steps that keep a machine per key, let its rows wait for their time, and say what they make of them.
//!
//! ```text
//! rows of a tick -> late ones out -> each waits with the machine of its key -> machines whose time has come -> rows
//! ```
//! A step brings its [`Watching`]; what is the same in all of them is here once. What is kept is counted in keys and rows that wait.

use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Field;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, StepError, TableSize, TableSpec};
use riverrun_dataflow::tick::StepTick;

use crate::kept::BATCH_ROWS;
use crate::keyed::{KeyedState, Left, Machine, Slot};
use crate::waiting::on_time;

/// How far time has come with a tick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// What lies before it is to be done; [`EventTime::MAX`]: all, for nothing will follow.
    pub(crate) limit: EventTime,
    /// The job's clock, in microseconds.
    pub(crate) now_us: i64,
}

/// What a step is, but for the frame.
pub(crate) trait Watching: Clone {
    /// What is kept of a key.
    type Machine: Machine;
    /// A row to be.
    type Said;
    /// The name of its table.
    const TABLE: &'static str;

    /// Returns the key columns.
    fn keys(&self) -> &[Field];

    /// Returns how long after the watermark a row is still taken.
    fn lateness(&self) -> Duration {
        Duration::ZERO
    }

    /// Lets the rows of a batch, none of which is late, wait with the machines of their keys.
    fn take(
        &self,
        batch: RecordBatch,
        state: &mut KeyedState<Self::Machine>,
        out: &mut Outputs,
    ) -> Result<(), StepError>;

    /// Does what a machine has to do by now, and returns what is left of it.
    fn advance(&self, machine: &mut Self::Machine, moment: Moment, say: &mut dyn FnMut(Self::Said)) -> Left;

    /// Returns rows as a batch of the step's schema. Their keys and the hashes of these are given.
    fn rows(
        &self,
        said: &[(Slot, Self::Said)],
        keys: Vec<ArrayRef>,
        hashes: Vec<u64>,
    ) -> Result<RecordBatch, StepError>;

    /// Holds what is kept against the bounds: keys, and rows that wait.
    fn check(&self, keys: usize, waiting: usize) -> Result<(), StepError>;
}

/// A step at work: what must outlive a restart, for the shards of one worker.
pub(crate) struct Watch<R: Watching> {
    rules: R,
    state: KeyedState<R::Machine>,
    /// What is said in this tick.
    said: Vec<(Slot, R::Said)>,
}

impl<R: Watching> Watch<R> {
    /// Keeps nothing yet.
    pub(crate) fn new(rules: R, shards: ShardRange) -> Watch<R> {
        Watch { state: KeyedState::new(R::TABLE, rules.keys().to_vec(), shards), rules, said: Vec::new() }
    }

    fn emit(&mut self, out: &mut Outputs) -> Result<(), StepError> {
        for said in self.said.chunks(BATCH_ROWS) {
            let slots: Vec<Slot> = said.iter().map(|(slot, _)| *slot).collect();
            let hashes = slots.iter().map(|slot| self.state.hash(*slot)).collect();
            out.rows.push(self.rules.rows(said, self.state.keys(&slots), hashes)?);
            out.pulse.beat();
        }
        self.said.clear();
        Ok(())
    }
}

impl<R: Watching> Operator for Watch<R> {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let lateness = self.rules.lateness();
        for batch in inputs.into_iter().flatten() {
            let batch = on_time(batch, tick.before.minus(lateness), out)?;
            self.rules.take(batch, &mut self.state, out)?;
            out.pulse.beat();
        }
        let limit = if tick.last { EventTime::MAX } else { tick.watermark.minus(lateness) };
        let (rules, said) = (&self.rules, &mut self.said);
        let moment = Moment { limit, now_us: tick.now };
        self.state.fire(limit, &out.pulse, |slot, machine| {
            Ok::<_, StepError>(rules.advance(machine, moment, &mut |row| said.push((slot, row))))
        })?;
        self.emit(out)?;
        self.state.tidy()?;
        self.rules.check(self.state.len(), self.state.size() - self.state.len())
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![self.state.spec()]
    }

    fn sizes(&self) -> Vec<TableSize> {
        vec![self.state.table_size()]
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        Ok(vec![self.state.freeze(rebase.first().map_or(&[], Vec::as_slice))?.into()])
    }

    fn restore(&mut self, _: usize, rows: &RecordBatch) -> Result<(), StepError> {
        self.state.restore(rows)
    }
}
