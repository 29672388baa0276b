//! Problems: incidents of many sessions with one fingerprint, over a sliding day, and what deserves a ticket.
//!
//! In:       one input of the rows that [`crate::incidents`] gives, routed by `tenant_id` (where the input has one) and
//!           `fingerprint`, with event time. A row waits until the watermark has passed it; then those of a fingerprint are taken
//!           in in the order of event time. Counted as filtered: rows without a fingerprint or an incident.
//! Out:      the row of a problem, see [`columns`], at every multiple of `hop` at which it is another than before, or at which
//!           somebody is to be notified. A row replaces the one of the same key with a lower `rev`. Its event time is the hop.
//!           At the end of bounded input the last hop is the first one at or after everything that was heard.
//! Late:     a row with `time < W(t-1)` goes to the `late` output as it came.
//! Retract:  an incident that is `moved` or merged leaves its problem.
//! Keeps:    one problem per fingerprint, for as long as it has an incident in the window, with at most 10,000 of them: beyond
//!           that the one that ended first is forgotten. More than `problems_max` problems, or `waiting_max` rows that wait,
//!           stop the job.
//! Restart:  a checkpoint has the problems that changed, whole; the rest is the same rows.

mod gathered;
mod rows;

use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Operator, Outputs, StepError};
use riverrun_dataflow::schema::{Hidden, with_hidden};

use self::gathered::{Gathered, Heard, Said, Until};
use self::rows::Builder;
use crate::keyed::{KeyedState, Left, Slot};
use crate::named::{self, Cells, Holds, Wanted, may, must};
use crate::waiting::{only, times_of};
use crate::watch::{Moment, Watch, Watching};

pub use riverrun_behaviour::incident::problem::{Gate, MEMBERS_MAX};
pub use rows::columns;

/// The version of what the step keeps. State of another version has another meaning, whatever its columns: raise it with every
/// change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// Columns of the key, as far as a stream has them. The last one must be there.
pub const KEYS: [&str; 2] = ["tenant_id", "fingerprint"];

/// What the step reads of an incident.
const WANTED: [Wanted; 17] = [
    may("tenant_id", Holds::Text),
    must("fingerprint", Holds::Text),
    must("incident_id", Holds::Text),
    must("event", Holds::Text),
    must("rev", Holds::Whole),
    must("state", Holds::Text),
    must("session_id", Holds::Text),
    may("person", Holds::Text),
    must("severity", Holds::Text),
    must("peak", Holds::Whole),
    may("page_key", Holds::Text),
    must("about", Holds::Text),
    may("subject", Holds::Text),
    may("releases", Holds::Texts),
    must("first_time", Holds::Time),
    must("last_time", Holds::Time),
    may("outcome", Holds::Text),
];

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct ProblemsSettings {
    /// The key columns, as indices into the input's schema.
    pub by: Vec<usize>,
    /// How far back incidents count, how often is looked, and what deserves a ticket.
    pub gate: Gate,
    /// How much may be kept.
    pub bounds: ProblemsBounds,
}

/// How much one worker may keep of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProblemsBounds {
    /// Problems.
    pub problems_max: usize,
    /// Rows that wait for the watermark.
    pub waiting_max: usize,
}

impl Default for ProblemsBounds {
    fn default() -> Self {
        ProblemsBounds { problems_max: 500_000, waiting_max: 2_000_000 }
    }
}

/// Returns the gate with these spans and numbers.
pub fn gate(window: Duration, hop: Duration, repeat: Duration, [sessions, persons, critical]: [u64; 3]) -> Gate {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Gate {
        window_ms: millis(window),
        hop_ms: millis(hop),
        sessions: count(sessions),
        persons: count(persons),
        critical_sessions: count(critical),
        repeat_ms: millis(repeat),
    }
}

/// Returns the key columns that a stream has.
pub fn keys_in(schema: &Schema) -> Vec<String> {
    KEYS.iter().filter(|name| schema.column_with_name(name).is_some()).map(|name| (*name).to_owned()).collect()
}

/// Returns the columns of a stream that the step reads.
pub fn columns_used(schema: &Schema) -> Vec<&'static str> {
    named::names_in(schema, &WANTED)
}

/// Says what is wrong with a stream as input of the step, if anything is.
pub fn misfit(schema: &Schema) -> Option<String> {
    named::misfit(schema, &WANTED)
}

/// The step, checked.
#[derive(Clone, Debug)]
pub struct Problems {
    settings: ProblemsSettings,
    keys: Vec<Field>,
    schema: SchemaRef,
}

impl Problems {
    /// Returns the step on rows of `input`, or what does not fit.
    pub fn new(settings: ProblemsSettings, input: &Schema) -> Result<Problems, String> {
        if let Some(reason) = misfit(input) {
            return Err(reason);
        }
        if input.column_with_name(Hidden::Time.name()).is_none() {
            return Err("it has no event time".into());
        }
        let keys: Vec<Field> = settings.by.iter().map(|column| input.field(*column).clone()).collect();
        let schema = with_hidden(&columns(&keys), &[Hidden::Time, Hidden::Hash]);
        Ok(Problems { settings, keys, schema })
    }

    /// Returns the schema of its rows, hidden columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the step on the shards of one worker; it keeps nothing yet.
    pub fn on(&self, shards: ShardRange) -> impl Operator + use<> {
        Watch::new(self.clone(), shards)
    }
}

impl Watching for Problems {
    type Machine = Gathered;
    type Said = Said;
    const TABLE: &'static str = "problems";

    fn keys(&self) -> &[Field] {
        &self.keys
    }

    fn take(&self, batch: RecordBatch, state: &mut KeyedState<Gathered>, out: &mut Outputs) -> Result<(), StepError> {
        let cells = Cells::of(&batch, &WANTED)?;
        let times = times_of(&batch)?;
        let mut heard: Vec<Option<Heard>> =
            (0..).zip(times).map(|(row, time)| Heard::read(&cells, row, *time)).collect();
        let taken = only(batch.clone(), |row| heard[row].is_some(), out)?;
        heard.retain(Option::is_some);
        let slots = state.slots(&taken, &self.settings.by)?;
        let gate = &self.settings.gate;
        for (slot, heard) in slots.into_iter().zip(heard.into_iter().flatten()) {
            state.update(slot, |gathered| Ok::<_, StepError>(gathered.take(heard, gate)))?;
        }
        Ok(())
    }

    fn advance(&self, gathered: &mut Gathered, moment: Moment, say: &mut dyn FnMut(Said)) -> Left {
        // Time does not go on after the end: a problem does not end because the input did.
        let until = match moment.limit {
            EventTime::MAX => Until::End { now_us: moment.now_us },
            watermark => Until::Watermark(watermark),
        };
        gathered.advance(until, &self.settings.gate, say)
    }

    fn rows(&self, said: &[(Slot, Said)], keys: Vec<ArrayRef>, hashes: Vec<u64>) -> Result<RecordBatch, StepError> {
        let mut builder = Builder::default();
        said.iter().for_each(|(_, row)| builder.push(row));
        builder.finish(&self.schema, keys, hashes)
    }

    fn check(&self, problems: usize, waiting: usize) -> Result<(), StepError> {
        let ProblemsBounds { problems_max, waiting_max } = self.settings.bounds;
        if problems > problems_max {
            return Err(StepError::Bound(format!(
                "it keeps {problems} problems, and {problems_max} are allowed on one worker: a shorter `window` or more workers \
                 need fewer; look for names of targets that are never the same twice"
            )));
        }
        if waiting > waiting_max {
            return Err(StepError::Bound(format!(
                "{waiting} incidents wait for the watermark, and {waiting_max} may on one worker: look for a source that holds \
                 it back"
            )));
        }
        Ok(())
    }
}
