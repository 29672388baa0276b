//! Incidents: makes of the signals of each session one case with a severity, from its opening to its close.
//!
//! In:       one input of the rows that [`crate::frustration`] gives, routed by `tenant_id` (where the input has one) and
//!           `session_id`, with event time. A row waits until the watermark has passed it; then those of a session are taken in
//!           in the order of event time. Counted as filtered: rows without a session, and those that are neither a signal nor tell
//!           what became of a session.
//! Out:      the rows of incidents, see [`columns`]: `opened`, `updated` (at most one in `coalesce` of event time), `closed`. A row
//!           replaces the one of the same `incident_id` with a lower `rev`. Its event time is that at which it was so. When an
//!           incident gets another fingerprint, a row `moved` takes it away from the former one, with the former `rev`.
//! Late:     a row with `time < W(t-1)` goes to the `late` output as it came.
//! Retract:  none, but for the rows `moved`.
//! Keeps:    one case per session with signals, of at most 400 signals, until `keep` after it was closed; one that nothing closed
//!           closes when nothing was heard of it for `forget_after`. A case without an incident goes when its session ends. More
//!           than `cases_max` cases, or `waiting_max` rows that wait, stop the job.
//! Restart:  a checkpoint has the cases that changed, whole; the rest is the same rows.

mod rows;
mod watched;

use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use riverrun_behaviour::incident::case;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Operator, Outputs, StepError};
use riverrun_dataflow::schema::{Hidden, with_hidden};

use self::rows::Builder;
use self::watched::{Heard, Said, Watched};
use crate::keyed::{KeyedState, Left, Slot};
use crate::named::{self, Cells, Holds, Wanted, may, must};
use crate::waiting::{only, times_of};
use crate::watch::{Moment, Watch, Watching};

pub use riverrun_behaviour::incident::case::{Scope, Settings};
pub use riverrun_behaviour::incident::points::Scoring;
pub(crate) use rows::MOVED;
pub use rows::columns;
pub(crate) use watched::signal;

/// The version of what the step keeps. State of another version has another meaning, whatever its columns: raise it with every
/// change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// What the step reads of a signal.
pub(crate) const WANTED: [Wanted; 17] = [
    may("tenant_id", Holds::Text),
    must("session_id", Holds::Text),
    must("signal_id", Holds::Text),
    must("rev", Holds::Whole),
    must("kind", Holds::Text),
    must("page_key", Holds::Text),
    must("target_fp", Holds::Text),
    must("cause_fp", Holds::Text),
    must("start_time", Holds::Time),
    must("end_time", Holds::Time),
    may("count", Holds::Whole),
    must("points", Holds::Whole),
    must("hard", Holds::Flag),
    may("person", Holds::Text),
    may("release", Holds::Text),
    may("evidence", Holds::Texts),
    may("evidence_at", Holds::Texts),
];

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct IncidentsSettings {
    /// The key columns, as indices into the input's schema.
    pub by: Vec<usize>,
    /// What signals are worth, and how they make incidents.
    pub case: Settings,
    /// How long after its close a case takes corrections.
    pub keep: Duration,
    /// A case of which nothing was heard for so long is closed.
    pub forget_after: Duration,
    /// How much may be kept.
    pub bounds: IncidentsBounds,
}

/// How much one worker may keep of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncidentsBounds {
    /// Cases.
    pub cases_max: usize,
    /// Rows that wait for the watermark.
    pub waiting_max: usize,
}

impl Default for IncidentsBounds {
    fn default() -> Self {
        IncidentsBounds { cases_max: 1_000_000, waiting_max: 2_000_000 }
    }
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
pub struct Incidents {
    settings: IncidentsSettings,
    keys: Vec<Field>,
    schema: SchemaRef,
}

impl Incidents {
    /// Returns the step on rows of `input`, or what does not fit.
    pub fn new(settings: IncidentsSettings, input: &Schema) -> Result<Incidents, String> {
        if let Some(reason) = misfit(input) {
            return Err(reason);
        }
        if input.column_with_name(Hidden::Time.name()).is_none() {
            return Err("it has no event time".into());
        }
        let keys: Vec<Field> = settings.by.iter().map(|column| input.field(*column).clone()).collect();
        let schema = with_hidden(&columns(&keys), &[Hidden::Time, Hidden::Hash]);
        Ok(Incidents { settings, keys, schema })
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

impl Watching for Incidents {
    type Machine = Watched;
    type Said = Said;
    const TABLE: &'static str = "cases";

    fn keys(&self) -> &[Field] {
        &self.keys
    }

    fn take(&self, batch: RecordBatch, state: &mut KeyedState<Watched>, out: &mut Outputs) -> Result<(), StepError> {
        let cells = Cells::of(&batch, &WANTED)?;
        let times = times_of(&batch)?;
        let mut heard: Vec<Option<Heard>> =
            (0..).zip(times).map(|(row, time)| Heard::read(&cells, row, *time)).collect();
        let taken = only(batch.clone(), |row| heard[row].is_some(), out)?;
        heard.retain(Option::is_some);
        let cells = Cells::of(&taken, &WANTED)?;
        let slots = state.slots(&taken, &self.settings.by)?;
        for (row, (slot, heard)) in slots.into_iter().zip(heard.into_iter().flatten()).enumerate() {
            let text = |name: &str| cells.text(name, row).unwrap_or_default();
            let (tenant, session) = (text("tenant_id"), text("session_id"));
            let settings = &self.settings;
            state.update(slot, |watched| Ok::<_, StepError>(watched.take(tenant, session, heard, settings)))?;
        }
        Ok(())
    }

    fn advance(&self, watched: &mut Watched, moment: Moment, say: &mut dyn FnMut(Said)) -> Left {
        watched.advance(moment.limit, &self.settings, say)
    }

    fn rows(&self, said: &[(Slot, Said)], keys: Vec<ArrayRef>, hashes: Vec<u64>) -> Result<RecordBatch, StepError> {
        let mut builder = Builder::default();
        said.iter().for_each(|(_, row)| builder.push(row));
        builder.finish(&self.schema, keys, hashes)
    }

    fn check(&self, cases: usize, waiting: usize) -> Result<(), StepError> {
        let IncidentsBounds { cases_max, waiting_max } = self.settings.bounds;
        if cases > cases_max {
            return Err(StepError::Bound(format!(
                "it keeps {cases} cases, and {cases_max} are allowed on one worker: less `keep`, less `forget_after` or more \
                 workers need fewer"
            )));
        }
        if waiting > waiting_max {
            return Err(StepError::Bound(format!(
                "{waiting} signals wait for the watermark, and {waiting_max} may on one worker: look for a source that holds it back"
            )));
        }
        Ok(())
    }
}

/// Whose session it is.
fn owner<'a>(tenant: &'a str, session: &'a str) -> case::Owner<'a> {
    case::Owner { tenant, session }
}
