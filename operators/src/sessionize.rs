//! Sessionize: the visits of a key, told apart by silence, by length and by who is there.
//!
//! In:       one input, routed by exactly the key columns `by` in their order ([`Hidden::Hash`]), with event time. Null keys
//!           are keys. Rows are interactions, which start and prolong a session, or passive: those attach to the session that is
//!           open and do not keep it alive. They are folded in the total order: time, rank of the type (behaviour events), id,
//!           source, split, position.
//! Out:      one row per session, once it has ended and no row on time can change it: `session_id, session_start, session_end,
//!           closed_by`, the keys, the aggregates, for behaviour events `is_bot, bot_reason`; its time is its end. A gap of
//!           exactly `gap` stays inside a session, and so does an interaction exactly `max_duration` after its start.
//! Splits:   an interaction also ends the session before it if it names another account, comes on another local day, or names
//!           another campaign or referrer, where the job asks for that. Of several reasons the first in that order counts, with
//!           silence before and the greatest length after the account.
//! Late:     a row with `time < W(t-1) - lateness` goes to the `late` output as it came.
//! Alone:    a passive row for which no session is open goes to the side output `sessionless`.
//! Bad:      a row on which a condition or an aggregate fails goes to the bad output.
//! Keeps:    `waiting` rows, until the watermark has passed them by `lateness`; one of `sessions` per key that has one open, until
//!           the watermark has passed its last interaction by `lateness` and `gap`. More than `sessions_max` of these, values of
//!           `count(distinct ...)` among them, or more than `waiting_max` of those stop the job.
//! Restart:  sessions are checkpointed as typed rows, those that changed and those that are gone; waiting rows as they came.

pub mod checkpoint;
mod fold;
mod live;
mod marks;
mod names;
mod open;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
    UInt32Array, UInt64Array,
};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use riverrun_behaviour::session::Reason;
use riverrun_behaviour::session::bots::BotSettings;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::is_key_type;
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, StepError, TableSize, TableSpec};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::tick::StepTick;
use riverrun_dataflow::time::micros_of;

use crate::aggregate::{Aggregate, Aggregates};
use crate::bad_row::bad_row;
use crate::changes::Changes;
use crate::events::EventReader;
use crate::expression::{Expression, FailedRow, is_stream_type, type_name};
use crate::kept::Layout;
use crate::key_table::KeyTable;
use crate::order::KeyOrder;
use crate::reorder::Reorder;
use fold::{Placed, fold};
use marks::{Marks, failures};
use names::Names;
use open::{Ended, OpenSessions};

#[cfg(test)]
mod tests;

pub use riverrun_behaviour::session::Zone;

/// Rows in a batch that the step gives.
const BATCH_ROWS: usize = 8192;

/// The version of what sessions keep. State of another version has another meaning, whatever its columns: raise it with every
/// change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// The side output of passive rows for which no session was open.
pub const SESSIONLESS: usize = 0;

/// The columns of a session before its keys.
pub const SESSION_COLUMNS: [&str; 4] = ["session_id", "session_start", "session_end", "closed_by"];
/// The columns of behaviour events that sessions look at beside those that the job names.
pub const EVENT_COLUMNS: [&str; 10] = [
    "type",
    "tab_id",
    "page_load_id",
    "mono_ms",
    "client_time",
    "nav_type",
    "by_user",
    "user_agent",
    "webdriver",
    "is_bot",
];
/// The columns of a session after its aggregates, where rows are behaviour events.
pub const BOT_COLUMNS: [&str; 2] = ["is_bot", "bot_reason"];

/// When a session is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Once, when no row on time can change it.
    #[default]
    Final,
    /// As soon as it is there, and again whenever it changes. Without aggregates.
    Live,
}

/// Which rows are interactions.
#[derive(Clone, Debug)]
pub enum Interactions {
    /// All.
    All,
    /// Those for which this is true.
    Where(Expression),
    /// Those of which the type of the behaviour event says so.
    ByType,
}

impl Interactions {
    fn condition(&self) -> Option<&Expression> {
        match self {
            Interactions::Where(condition) => Some(condition),
            Interactions::All | Interactions::ByType => None,
        }
    }
}

/// What else ends a session; columns of text, as indices into the input's schema.
#[derive(Clone, Debug, Default)]
pub struct Splits {
    /// Another account than the session's in this column.
    pub user_switch: Option<usize>,
    /// Another campaign in this one.
    pub campaign: Option<usize>,
    /// Another outside referrer in this one.
    pub referrer: Option<usize>,
    /// The midnight of this place.
    pub midnight: Option<Zone>,
}

/// Returns the place of a job's `midnight`: `UTC`, or how far its clocks are ahead, such as `+02:00`.
pub fn zone_of(text: &str) -> Option<Zone> {
    if text.eq_ignore_ascii_case("utc") || text == "Z" {
        return Some(Zone::utc());
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, below: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().filter(|number: &i64| *number < below)
    };
    Some(Zone::fixed(sign * (number(hours, 15)? * 60 + number(minutes, 60)?) * 60_000))
}

/// What the job's author chooses.
#[derive(Clone, Debug)]
pub struct SessionizeSettings {
    /// When a session is given.
    pub mode: Mode,
    /// The key columns, as indices into the input's schema.
    pub by: Vec<usize>,
    /// Which of them is the tenant, if any: it stands first in a session's id.
    pub tenant: Option<usize>,
    /// The longest silence inside a session.
    pub gap: Duration,
    /// The longest time from the first to the last interaction.
    pub max_duration: Duration,
    /// How long rows are waited for.
    pub lateness: Duration,
    /// Which rows start and prolong sessions.
    pub interactions: Interactions,
    /// Which passive rows move the end of a session; `None`: page leaves of behaviour events.
    pub leaves: Option<Expression>,
    /// What else ends a session.
    pub splits: Splits,
    /// Rows are behaviour events.
    pub events: Option<EventReader>,
    /// The aggregates with their names, compiled over the input's schema.
    pub aggregates: Vec<(String, Aggregate)>,
    /// The unit of `session_start` and `session_end`.
    pub unit: TimeUnit,
    /// How many open sessions, and values kept by `count(distinct ...)`, one worker may keep.
    pub sessions_max: usize,
    /// How many rows may wait on one worker.
    pub waiting_max: usize,
}

impl SessionizeSettings {
    /// The default of `sessions_max`.
    pub const SESSIONS_MAX: usize = 50_000_000;
    /// The default of `waiting_max`.
    pub const WAITING_MAX: usize = 10_000_000;
}

/// What the fold goes by, in microseconds.
#[derive(Clone, Debug)]
struct Rules {
    gap: i64,
    max_duration: i64,
    midnight: Option<Zone>,
    bots: BotSettings,
}

/// The step, checked.
#[derive(Clone)]
pub struct Sessionize {
    settings: SessionizeSettings,
    keys: Vec<Field>,
    input: SchemaRef,
    schema: SchemaRef,
    order: KeyOrder,
    waiting: Layout,
}

impl Sessionize {
    /// Returns the step on rows of `input`, or what does not fit.
    pub fn new(settings: SessionizeSettings, input: &SchemaRef) -> Result<Sessionize, String> {
        let keys: Vec<Field> = settings.by.iter().map(|column| input.field(*column).clone()).collect();
        if let Some(key) = keys.iter().find(|key| !is_key_type(key.data_type()) || !is_stream_type(key.data_type())) {
            return Err(format!("`{}` cannot be a key: it is a {}", key.name(), type_name(key.data_type())));
        }
        if settings.tenant.is_some_and(|tenant| !settings.by.contains(&tenant)) {
            return Err("the tenant is part of the key".into());
        }
        let splits = &settings.splits;
        for column in [splits.user_switch, splits.campaign, splits.referrer].into_iter().flatten() {
            let field = input.field(column);
            if *field.data_type() != DataType::Utf8 {
                return Err(format!("`{}` ends sessions, and is no string", field.name()));
            }
        }
        if settings.sessions_max >= u32::MAX as usize {
            return Err("the bound on sessions is 2^32".into());
        }
        if settings.mode == Mode::Live && !settings.aggregates.is_empty() {
            return Err("live sessions have no aggregates".into());
        }
        let aggregates = settings.aggregates.iter().map(|(name, aggregate)| aggregate.field(name)).collect();
        let columns = columns(settings.mode, settings.unit, keys.clone(), aggregates, settings.events.is_some());
        let schema = with_hidden(&columns, &[Hidden::Time, Hidden::Hash]);
        let internal = |error: StepError| error.to_string();
        let order = KeyOrder::of(input).map_err(internal)?;
        let waiting = Reorder::layout(input, &settings.by).map_err(internal)?;
        Ok(Sessionize { settings, keys, input: input.clone(), schema, order, waiting })
    }

    /// Returns the schema of its rows, hidden columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the step of one worker.
    pub fn make(&self, shards: ShardRange) -> Box<dyn Operator> {
        match self.settings.mode {
            Mode::Final => Box::new(self.on(shards)),
            Mode::Live => Box::new(live::LiveState::new(self.clone(), shards)),
        }
    }

    /// Returns microseconds as a column of the bounds' unit, rounded down.
    fn times(&self, micros: impl Iterator<Item = i64>) -> Result<ArrayRef, StepError> {
        let unit = match self.settings.unit {
            TimeUnit::Second => 1_000_000,
            TimeUnit::Millisecond => 1_000,
            TimeUnit::Microsecond | TimeUnit::Nanosecond => 1,
        };
        let whole = micros.map(|micros| micros.div_euclid(unit));
        let numbers: ArrayRef = match self.settings.unit {
            TimeUnit::Microsecond => Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(whole)),
            _ => Arc::new(Int64Array::from_iter_values(whole)),
        };
        Ok(cast(&numbers, &DataType::Timestamp(self.settings.unit, None))?)
    }

    /// Returns the empty state of the mode `final` on the shards of one worker.
    fn on(&self, shards: ShardRange) -> SessionizeState {
        let settings = &self.settings;
        let aggregates = Aggregates::new(settings.aggregates.clone());
        let types: Vec<DataType> = self.keys.iter().map(|key| key.data_type().clone()).collect();
        let splits = &settings.splits;
        let texts = [splits.user_switch, splits.campaign, splits.referrer].map(|column| column.is_some());
        SessionizeState {
            rules: Rules {
                gap: micros_of(settings.gap),
                max_duration: micros_of(settings.max_duration),
                midnight: splits.midnight.clone(),
                bots: BotSettings::default(),
            },
            shards,
            state_schema: checkpoint::state_schema(&self.keys, aggregates.state_fields()),
            open: OpenSessions::new(KeyTable::new(&types), texts, settings.events.is_some()),
            waiting: Reorder::new(self.input.clone(), self.waiting.clone(), shards, settings.lateness),
            aggregates,
            changes: Changes::default(),
            placed: Placed::default(),
            plan: self.clone(),
        }
    }
}

/// Returns the user's columns of a session: of a live one without aggregates, but with signs of its change. A name may stand twice.
pub fn columns(mode: Mode, unit: TimeUnit, keys: Vec<Field>, aggregates: Vec<Field>, behaviour: bool) -> Vec<Field> {
    let time = DataType::Timestamp(unit, None);
    let is_live = mode == Mode::Live;
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let mut fields = Vec::new();
    if is_live {
        fields.extend([Field::new("op", DataType::Utf8, false), number("rev")]);
    }
    let types = [(DataType::Utf8, false), (time.clone(), false), (time, false), (DataType::Utf8, is_live)];
    fields.extend(
        SESSION_COLUMNS.iter().zip(types).map(|(name, (data_type, nullable))| Field::new(*name, data_type, nullable)),
    );
    fields.extend(keys);
    fields.extend(aggregates);
    if is_live {
        fields.extend([number("events"), number("interactions"), Field::new("merged_into", DataType::Utf8, true)]);
    }
    if behaviour {
        fields.push(Field::new(BOT_COLUMNS[0], DataType::Boolean, false));
        fields.push(Field::new(BOT_COLUMNS[1], DataType::Utf8, true));
    }
    fields
}

/// What the step keeps between ticks, for the shards of one worker.
pub struct SessionizeState {
    plan: Sessionize,
    rules: Rules,
    shards: ShardRange,
    state_schema: SchemaRef,
    waiting: Reorder,
    open: OpenSessions,
    /// Invariant: slots that are not in use are empty.
    aggregates: Aggregates,
    changes: Changes,
    /// Kept for its memory.
    placed: Placed,
}

impl Operator for SessionizeState {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let limit = self.waiting.limit(if tick.last { EventTime::MAX } else { tick.watermark });
        self.waiting.begin(tick.before);
        let mut settled = Vec::new();
        for batch in inputs.into_iter().flatten().filter(|batch| batch.num_rows() > 0) {
            out.counts.input += batch.num_rows() as u64;
            let on_time = without_late(batch, self.waiting.limit(tick.before), out)?;
            let (now, later) = Reorder::divide(on_time, limit)?;
            settled.extend(Some(now).filter(|rows| rows.num_rows() > 0));
            self.hold(later, out)?;
        }
        let came: usize = settled.iter().map(RecordBatch::num_rows).sum();
        settled.extend(self.waiting.release(limit)?);
        let mut placed = std::mem::take(&mut self.placed);
        if !settled.is_empty() {
            let batch = match settled.len() {
                1 => settled.remove(0),
                _ => concat_batches(&self.plan.input, &settled)?,
            };
            self.absorb(batch, came, &mut placed, out)?;
        }
        self.open.take_idle(self.rules.gap, limit, &mut placed.ended);
        self.emit(&placed.ended, out)?;
        placed.ended.clear();
        self.placed = placed;
        self.check_bounds()
    }

    fn tables(&self) -> Vec<TableSpec> {
        let keys = self.plan.keys.len();
        let sessions = TableSpec { name: "sessions", schema: self.state_schema.clone(), key_columns: keys };
        vec![sessions, self.waiting.spec("waiting")]
    }

    fn kept_for(&self) -> Vec<Option<Duration>> {
        vec![None, Some(self.waiting.kept_for())]
    }

    fn sizes(&self) -> Vec<TableSize> {
        vec![TableSize { rows: self.open.len() as u64, bytes: None }, self.waiting.table_size()]
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        let shards = |table: usize| rebase.get(table).map_or(&[][..], Vec::as_slice);
        Ok(vec![self.freeze_sessions(shards(0))?.into(), self.waiting.freeze(shards(1))])
    }

    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        match table {
            0 => self.restore_sessions(rows),
            1 => self.waiting.restore(rows),
            _ => Err(StepError::State(format!("sessionize has no table {table}"))),
        }
    }
}

impl SessionizeState {
    /// Returns how many sessions are open, and how many rows wait.
    pub fn kept(&self) -> [usize; 2] {
        [self.open.len(), self.waiting.len()]
    }

    /// Lets rows wait, all but those on which something fails.
    fn hold(&mut self, batch: RecordBatch, out: &mut Outputs) -> Result<(), StepError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let failed = self.failed(&batch, self.aggregates.evaluate(&batch).failed);
        let whole = without(&batch, &failed)?;
        out.counts.taken += whole.num_rows() as u64;
        out.counts.bad += failed.len() as u64;
        out.bad.extend(failed.iter().map(|failed| bad_row(&batch, failed)));
        self.waiting.hold(&whole)
    }

    /// Returns the rows on which an aggregate or a condition fails, ascending, each once.
    fn failed(&self, batch: &RecordBatch, mut failed: Vec<FailedRow>) -> Vec<FailedRow> {
        failed.extend(failures(&self.plan.settings, batch));
        failed.sort_by_key(|failed| failed.row);
        failed.dedup_by_key(|failed| failed.row);
        failed
    }

    /// Takes settled rows into their sessions. The first `came` of them came in this tick, the others have waited.
    fn absorb(
        &mut self,
        batch: RecordBatch,
        came: usize,
        placed: &mut Placed,
        out: &mut Outputs,
    ) -> Result<(), StepError> {
        let mut batch = batch;
        let mut inputs = self.aggregates.evaluate(&batch);
        out.pulse.beat();
        let failed = self.failed(&batch, std::mem::take(&mut inputs.failed));
        let new = failed.iter().filter(|failed| failed.row < came).count();
        out.counts.taken += (came - new) as u64;
        out.counts.bad += new as u64;
        if !failed.is_empty() {
            out.bad.extend(failed.iter().map(|failed| bad_row(&batch, failed)));
            batch = without(&batch, &failed)?;
            inputs = self.aggregates.evaluate(&batch);
        }
        let settings = &self.plan.settings;
        let keys: Vec<ArrayRef> = settings.by.iter().map(|column| batch.column(*column).clone()).collect();
        self.open.keys.read(&keys);
        let marks = Marks::of(settings, &self.plan.order, &batch)?;
        out.pulse.beat();
        placed.rows.clear();
        placed.slots.clear();
        placed.sessionless.clear();
        fold(&self.rules, &marks, &Names::of(settings, &batch), &mut self.open, placed);
        let slots = self.open.slots();
        if slots > self.aggregates.slots() || slots > self.changes.slots() {
            self.aggregates.grow(slots);
            self.changes.grow(slots);
        }
        if !placed.sessionless.is_empty() {
            let alone = UInt32Array::from(std::mem::take(&mut placed.sessionless));
            out.side(SESSIONLESS).push(take_record_batch(&batch, &alone)?);
        }
        out.pulse.beat();
        self.changes.touch(&placed.slots);
        self.aggregates.fold(&inputs, &placed.rows, &placed.slots);
        Ok(())
    }

    /// Gives the rows of sessions that have ended, and forgets them.
    fn emit(&mut self, ended: &[Ended], out: &mut Outputs) -> Result<(), StepError> {
        if ended.is_empty() {
            return Ok(());
        }
        for part in ended.chunks(BATCH_ROWS) {
            out.rows.push(self.results(part)?);
            out.pulse.beat();
        }
        let slots: Vec<u32> = ended.iter().map(|ended| ended.slot).collect();
        self.note_deleted(&slots)?;
        self.aggregates.clear(&slots);
        self.open.release(&slots);
        Ok(())
    }

    fn results(&self, ended: &[Ended]) -> Result<RecordBatch, StepError> {
        let slots: Vec<u32> = ended.iter().map(|ended| ended.slot).collect();
        let open = &self.open;
        let ids = slots.iter().map(|slot| open.ids[*slot as usize].to_string());
        let reasons = ended.iter().map(|ended| reason_word(ended.reason));
        let ends: Vec<i64> = slots.iter().map(|slot| open.end(*slot)).collect();
        let hashes = slots.iter().map(|slot| open.keys.hash(*slot));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            self.plan.times(slots.iter().map(|slot| open.starts[*slot as usize]))?,
            self.plan.times(ends.iter().copied())?,
            Arc::new(StringArray::from_iter_values(reasons)),
        ];
        columns.extend(open.keys.columns(&slots));
        columns.extend(self.aggregates.finish(&slots));
        if let Some(bots) = &open.bots {
            let reasons = slots.iter().map(|slot| bots[*slot as usize].reason.map(checkpoint::bot_word).transpose());
            let reasons: StringArray = reasons.collect::<Result<Vec<_>, _>>()?.into();
            let is_bot = slots.iter().map(|slot| Some(bots[*slot as usize].reason.is_some()));
            columns.push(Arc::new(is_bot.collect::<BooleanArray>()));
            columns.push(Arc::new(reasons));
        }
        columns.push(Arc::new(Int64Array::from(ends)));
        columns.push(Arc::new(UInt64Array::from_iter_values(hashes)));
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(RecordBatch::try_new_with_options(self.plan.schema.clone(), columns, &options)?)
    }

    fn check_bounds(&self) -> Result<(), StepError> {
        let (open, values, waiting) = (self.open.len(), self.aggregates.extra(), self.waiting.len());
        let settings = &self.plan.settings;
        if open + values > settings.sessions_max {
            let values = if values > 0 { format!(" and {values} distinct values") } else { String::new() };
            return Err(StepError::Bound(format!(
                "it keeps {open} open sessions{values}, and {} are allowed on one worker: fewer keys, a shorter gap, less \
                 lateness or more workers need less",
                settings.sessions_max
            )));
        }
        if waiting > settings.waiting_max {
            return Err(StepError::Bound(format!(
                "{waiting} rows wait for the watermark, and {} are allowed on one worker: look for a source that holds it back, \
                 allow less lateness, or run more workers",
                settings.waiting_max
            )));
        }
        Ok(())
    }
}

/// Returns a reason as `closed_by` says it.
pub(crate) fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Idle => "idle",
        Reason::UserSwitch => "user_switch",
        Reason::MaxDuration => "max_duration",
        Reason::Midnight => "midnight",
        Reason::Campaign => "campaign",
        Reason::Referrer => "referrer",
    }
}

/// Gives the rows before `limit` to the late output, and returns the others.
fn without_late(batch: RecordBatch, limit: EventTime, out: &mut Outputs) -> Result<RecordBatch, StepError> {
    let column = batch.column_by_name(Hidden::Time.name());
    let column = column.ok_or_else(|| StepError::Internal("sessions need event time".into()))?;
    let times = column.as_primitive::<Int64Type>().values();
    if times.iter().all(|time| *time >= limit.0) {
        return Ok(batch);
    }
    let late: BooleanArray = times.iter().map(|time| Some(*time < limit.0)).collect();
    let on_time: BooleanArray = times.iter().map(|time| Some(*time >= limit.0)).collect();
    out.counts.late += late.true_count() as u64;
    out.late.push(filter_record_batch(&batch, &late)?);
    Ok(filter_record_batch(&batch, &on_time)?)
}

/// Gives the rows on which a condition fails to the bad output, and returns the others.
fn without_failing(
    settings: &SessionizeSettings,
    batch: RecordBatch,
    out: &mut Outputs,
) -> Result<RecordBatch, StepError> {
    let mut failed = failures(settings, &batch);
    failed.sort_by_key(|failed| failed.row);
    failed.dedup_by_key(|failed| failed.row);
    out.counts.bad += failed.len() as u64;
    out.bad.extend(failed.iter().map(|failed| bad_row(&batch, failed)));
    without(&batch, &failed)
}

/// Returns the rows that are not among the failed ones.
fn without(batch: &RecordBatch, failed: &[FailedRow]) -> Result<RecordBatch, StepError> {
    if failed.is_empty() {
        return Ok(batch.clone());
    }
    let mut failed = failed.iter().map(|failed| failed.row).peekable();
    let whole: BooleanArray = (0..batch.num_rows()).map(|row| Some(failed.next_if_eq(&row).is_none())).collect();
    Ok(filter_record_batch(batch, &whole)?)
}
