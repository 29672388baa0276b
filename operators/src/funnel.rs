//! Funnel: follows each key through steps that are to be taken one after the other within a time, and says how far it came.
//!
//! In:       one input, routed by the key columns `by` ([`Hidden::Hash`]), with event time. A row is of each step whose condition is
//!           true for it. Rows wait until the watermark less the lateness has passed them; then those of a key are taken in in the
//!           order of time, those of one time by the earliest step that they are of, then by id, source, split, position. Counted as
//!           filtered: rows that are of no step, and rows with a null in their key, which are nobody's.
//! Out:      by [`Give`], one row per journey once it is over, at the time of its first step, or one row per step, at its own
//!           time and with the id and origin of its row, once it is taken. The rules of journeys are those of [`riverrun_behaviour::funnel`].
//! Late:     a row with `time < W(t-1) - lateness` goes to the `late` output as it came.
//! Bad:      a row on which a condition fails goes to the bad output, whatever other conditions say.
//! Retract:  none.
//! Keeps:    of each key one journey, with the rows that took its steps, until it is over and `again_after` has passed since it
//!           began; more than `keys_max` on one worker stop the job, since to forget one would let its key enter twice. Rows that
//!           wait; more than `waiting_max` stop the job.
//! Restart:  a checkpoint has the journeys that changed, whole, and the rows that came to wait.

mod carried;
mod rows;

use std::time::Duration;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, SchemaRef};
use riverrun_behaviour::event::{EventRef, Position};
use riverrun_behaviour::funnel::{Journey, Row, Rules, Told};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::is_key_type;
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, Pulse, StepError, TableSize, TableSpec};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::tick::StepTick;
use riverrun_dataflow::time::micros_of;

use self::carried::Carried;
use self::rows::Builder;
use crate::bad_row::bad_row;
use crate::expression::{Expression, FailedRow, type_name};
use crate::kept::{BATCH_ROWS, Layout};
use crate::keyed::{KeyedState, Left, Slot};
use crate::late::on_time;
use crate::order::{KeyOrder, OrderColumns};
use crate::reorder::Reorder;

#[cfg(test)]
mod tests;

pub use rows::{columns, step_columns};

/// The version of what the step keeps. State of another version has another meaning, whatever its columns: raise it with every
/// change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// The split of rows that were read nowhere, but that a step made.
const NO_SPLIT: u64 = u32::MAX as u64;

/// Which rows are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Give {
    /// One of each journey, once it is over.
    #[default]
    Journeys,
    /// One of each step that is taken.
    Steps,
}

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct FunnelSettings {
    /// The key columns, as indices into the input's schema.
    pub by: Vec<usize>,
    /// The steps in their order: their names, and the conditions for rows to be of them.
    pub steps: Vec<(String, Expression)>,
    /// The longest time from the first step to the last.
    pub within: Duration,
    /// A key begins anew only after more than this since it began.
    pub again_after: Duration,
    /// How long rows are waited for.
    pub lateness: Duration,
    /// The columns of a journey's first row that it carries along, as indices into the input's schema.
    pub carried: Vec<usize>,
    /// Which rows are given.
    pub give: Give,
    /// How much may be kept.
    pub bounds: FunnelBounds,
}

/// How much one worker may keep of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunnelBounds {
    /// Keys with a journey.
    pub keys_max: usize,
    /// Rows that wait for the watermark.
    pub waiting_max: usize,
}

impl Default for FunnelBounds {
    fn default() -> Self {
        FunnelBounds { keys_max: 10_000_000, waiting_max: 10_000_000 }
    }
}

/// The step, checked.
#[derive(Clone)]
pub struct Funnel {
    settings: FunnelSettings,
    rules: Rules,
    keys: Vec<Field>,
    input: SchemaRef,
    schema: SchemaRef,
    order: KeyOrder,
    waiting: Layout,
}

impl Funnel {
    /// Returns the step on rows of `input`, or what does not fit.
    pub fn new(settings: FunnelSettings, input: &SchemaRef) -> Result<Funnel, String> {
        let fields = |columns: &[usize]| columns.iter().map(|column| input.field(*column).clone()).collect::<Vec<_>>();
        let (keys, carried) = (fields(&settings.by), fields(&settings.carried));
        if let Some(field) = keys.iter().chain(&carried).find(|field| !is_key_type(field.data_type())) {
            return Err(format!("`{}` cannot be kept: it is a {}", field.name(), type_name(field.data_type())));
        }
        if settings.steps.is_empty() {
            return Err("it has no steps".into());
        }
        let names: Vec<&str> = settings.steps.iter().map(|(name, _)| name.as_str()).collect();
        let has_origin = has_origin(|hidden| input.column_with_name(hidden.name()).is_some());
        let columns = match settings.give {
            Give::Journeys => columns(&keys, &carried, &names, has_origin),
            Give::Steps => step_columns(&keys, &carried, has_origin),
        };
        let internal = |error: StepError| error.to_string();
        Ok(Funnel {
            rules: Rules {
                steps: settings.steps.len(),
                within_us: micros_of(settings.within),
                again_after_us: micros_of(settings.again_after),
            },
            schema: with_hidden(
                &columns,
                &hidden(settings.give, |hidden| input.column_with_name(hidden.name()).is_some()),
            ),
            order: KeyOrder::of(input).map_err(internal)?,
            waiting: Reorder::layout(input, &settings.by).map_err(internal)?,
            input: input.clone(),
            keys,
            settings,
        })
    }

    /// Returns the schema of its rows, hidden columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns how far its output watermark is behind its input watermark.
    pub fn delay(&self) -> Duration {
        match self.settings.give {
            Give::Journeys => self.settings.within + self.settings.lateness,
            Give::Steps => self.settings.lateness,
        }
    }

    /// Returns the step's empty state on the shards of one worker.
    pub fn on(&self, shards: ShardRange) -> FunnelState {
        FunnelState {
            state: KeyedState::new("journeys", self.keys.clone(), shards),
            waiting: Reorder::new(self.input.clone(), self.waiting.clone(), shards, self.settings.lateness),
            told: Vec::new(),
            plan: self.clone(),
        }
    }

    /// Returns of which steps the rows of a batch are.
    fn judge(&self, batch: &RecordBatch) -> Judged {
        let mut judged = Judged { of: Vec::with_capacity(self.settings.steps.len()), failed: Vec::new() };
        for (_, condition) in &self.settings.steps {
            let filtered = condition.filter(batch);
            judged.of.push(filtered.kept);
            judged.failed.extend(filtered.failed);
        }
        judged.failed.sort_by_key(|failed| failed.row);
        judged.failed.dedup_by_key(|failed| failed.row);
        judged
    }
}

/// Returns whether rows with these hidden columns say where they were read, so that a funnel's rows can name them.
pub fn has_origin(has: impl Fn(Hidden) -> bool) -> bool {
    has(Hidden::Split) && has(Hidden::Position)
}

/// Returns the hidden columns of a funnel's rows, where its input has these: the row of a step has the id and the origin of the row
/// that took it.
pub fn hidden(give: Give, has: impl Fn(Hidden) -> bool) -> Vec<Hidden> {
    let of_row = [Hidden::Id, Hidden::Split, Hidden::Position].into_iter().filter(|_| give == Give::Steps);
    let mut hidden = vec![Hidden::Time];
    hidden.extend(of_row.filter(|hidden| has(*hidden)));
    hidden.push(Hidden::Hash);
    hidden
}

/// Of which steps the rows of a batch are.
struct Judged {
    /// By step, one bit per row.
    of: Vec<BooleanBuffer>,
    /// The rows on which a condition failed, ascending.
    failed: Vec<FailedRow>,
}

impl Judged {
    /// Returns the earliest step that a row is of.
    fn first(&self, row: usize) -> Option<usize> {
        self.of.iter().position(|of| of.value(row))
    }
}

/// What must outlive a restart.
pub struct FunnelState {
    plan: Funnel,
    state: KeyedState<Journey>,
    waiting: Reorder,
    /// The journeys that rows are to be made of in this tick, as they were.
    told: Vec<(Slot, Journey)>,
}

impl Operator for FunnelState {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let limit = self.waiting.limit(if tick.last { EventTime::MAX } else { tick.watermark });
        self.waiting.begin(tick.before);
        let mut settled = Vec::new();
        for batch in inputs.into_iter().flatten().filter(|batch| batch.num_rows() > 0) {
            out.counts.input += batch.num_rows() as u64;
            let before = self.waiting.limit(tick.before);
            let batch = on_time(&batch, before, &mut out.counts.late, Some(&mut out.late))?;
            let (now, later) = Reorder::divide(self.of_steps(&batch, out)?, limit)?;
            settled.push(now);
            self.waiting.hold(&later)?;
        }
        settled.extend(self.waiting.release(limit)?);
        settled.retain(|batch| batch.num_rows() > 0);
        if !settled.is_empty() {
            self.absorb(&concat_batches(&self.plan.input, &settled)?)?;
        }
        self.wake(limit, &out.pulse)?;
        self.emit(out)?;
        self.state.tidy()?;
        self.check_bounds()
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![self.state.spec(), self.waiting.spec("waiting")]
    }

    fn kept_for(&self) -> Vec<Option<Duration>> {
        vec![None, Some(self.waiting.kept_for())]
    }

    fn sizes(&self) -> Vec<TableSize> {
        vec![self.state.table_size(), self.waiting.table_size()]
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        let shards = |table: usize| rebase.get(table).map_or(&[][..], Vec::as_slice);
        Ok(vec![self.state.freeze(shards(0))?.into(), self.waiting.freeze(shards(1))])
    }

    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        match table {
            0 => self.state.restore(rows),
            1 => self.waiting.restore(rows),
            _ => Err(StepError::State(format!("funnel has no table {table}"))),
        }
    }
}

impl FunnelState {
    /// Returns the rows that are somebody's and of some step; the others are counted.
    fn of_steps(&self, batch: &RecordBatch, out: &mut Outputs) -> Result<RecordBatch, StepError> {
        let judged = self.plan.judge(batch);
        out.counts.bad += judged.failed.len() as u64;
        out.bad.extend(judged.failed.iter().map(|failed| bad_row(batch, failed)));
        let is_nobody = |row: usize| self.plan.settings.by.iter().any(|key| batch.column(*key).is_null(row));
        let mut failed = judged.failed.iter().map(|failed| failed.row).peekable();
        let is_taken = |row: usize| {
            let is_whole = failed.next_if_eq(&row).is_none();
            Some(is_whole && judged.first(row).is_some() && !is_nobody(row))
        };
        let taken: BooleanArray = (0..batch.num_rows()).map(is_taken).collect();
        let count = taken.true_count();
        out.counts.taken += count as u64;
        out.counts.filtered += (batch.num_rows() - judged.failed.len() - count) as u64;
        Ok(filter_record_batch(batch, &taken)?)
    }

    /// Takes settled rows into the journeys of their keys.
    fn absorb(&mut self, batch: &RecordBatch) -> Result<(), StepError> {
        let slots = self.state.slots(batch, &self.plan.settings.by)?;
        let (plan, state, told) = (&self.plan, &mut self.state, &mut self.told);
        let (judged, order) = (plan.judge(batch), plan.order.columns(batch));
        let carried = Carried::read(batch, &plan.settings.carried)?;
        let ids = batch.column_by_name(Hidden::Id.name());
        let this = |row: usize| named(ids, &order, row);
        for (time_us, _, row) in in_order(&order, &judged) {
            let slot = slots[row];
            let row = Row {
                time_us,
                is_of: &|step| judged.of[step].value(row),
                this: &|| this(row),
                carried: &|| carried.of(row),
            };
            state.update(slot, |journey| {
                journey.take(&plan.rules, &row, &mut |what, journey| note(plan, told, slot, what, journey));
                Ok::<_, StepError>(left(&plan.rules, journey))
            })?;
        }
        Ok(())
    }

    /// Ends the journeys whose time has passed, and forgets those that no longer matter.
    fn wake(&mut self, limit: EventTime, pulse: &Pulse) -> Result<(), StepError> {
        let (plan, told) = (&self.plan, &mut self.told);
        self.state.fire(limit, pulse, |slot, journey| {
            journey.wake(&plan.rules, limit.0, &mut |what, journey| note(plan, told, slot, what, journey));
            Ok(left(&plan.rules, journey))
        })
    }

    fn emit(&mut self, out: &mut Outputs) -> Result<(), StepError> {
        for told in self.told.chunks(BATCH_ROWS) {
            let slots: Vec<Slot> = told.iter().map(|(slot, _)| *slot).collect();
            let hashes: Vec<u64> = slots.iter().map(|slot| self.state.hash(*slot)).collect();
            let mut builder = Builder::new(&self.plan);
            told.iter().for_each(|(_, journey)| builder.push(journey));
            out.rows.push(builder.finish(&self.plan, self.state.keys(&slots), hashes)?);
            out.pulse.beat();
        }
        self.told.clear();
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), StepError> {
        let FunnelBounds { keys_max, waiting_max } = self.plan.settings.bounds;
        let (keys, waiting) = (self.state.len(), self.waiting.len());
        if keys > keys_max {
            return Err(StepError::Bound(format!(
                "it keeps the journeys of {keys} keys, and {keys_max} are allowed on one worker (`max_keys`): a shorter `within` \
                 or `again_after`, or more workers need fewer"
            )));
        }
        if waiting > waiting_max {
            return Err(StepError::Bound(format!(
                "{waiting} rows wait for the watermark, and {waiting_max} are allowed on one worker: look for a source that holds it \
                 back, allow less lateness, or run more workers"
            )));
        }
        Ok(())
    }
}

/// Returns the rows of a batch in the order in which they are taken in: their times, the earliest steps that they are of, their
/// places.
fn in_order(order: &OrderColumns, judged: &Judged) -> Vec<(i64, Option<usize>, usize)> {
    let rows = order.times().iter().enumerate();
    let mut rows: Vec<_> = rows.map(|(row, time)| (*time, judged.first(row), row)).collect();
    rows.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| order.break_tie(a.2, order, b.2)));
    rows
}

/// Returns what names a row: its id, or else the place where it was read; nothing if a step made it.
fn named(ids: Option<&arrow::array::ArrayRef>, order: &OrderColumns, row: usize) -> EventRef {
    use arrow::array::AsArray;
    let [split, offset] = order.origin(row);
    let id = ids.map(|ids| ids.as_string::<i32>()).filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
    let id = id.filter(|id| !id.is_empty()).map(str::to_owned);
    EventRef {
        id: id.unwrap_or_else(|| if split == NO_SPLIT { String::new() } else { format!("{split}:{offset}") }),
        position: Position { split: u32::try_from(split).unwrap_or(u32::MAX), offset },
    }
}

/// Notes a journey of which a row is to be made.
fn note(plan: &Funnel, told: &mut Vec<(Slot, Journey)>, slot: Slot, what: Told, journey: &Journey) {
    let wanted = match plan.settings.give {
        Give::Journeys => Told::Over,
        Give::Steps => Told::Step,
    };
    if what == wanted {
        told.push((slot, journey.clone()));
    }
}

fn left(rules: &Rules, journey: &Journey) -> Left {
    if journey.is_none() { Left::NOTHING } else { Left { size: 1, due: journey.due_us(rules) } }
}
