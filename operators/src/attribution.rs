//! Attribution: keeps a ledger of what conversions are credited to, by several models side by side, in signed rows.
//!
//! In:       0 conversions, 1 touches, and 2 corrections if there are any; all routed by their key columns, with event time and id.
//!           The rules are [`riverrun_behaviour::attribution`]'s: which touches an order finds, how each model divides it to the
//!           last unit, what refunds, cancellations and new totals book.
//! Out:      rows with `op`: `+` adds a row to the table, `-` takes back one that was given, as it was. A row says what one
//!           booking of an order gives to one touch by one model, or to nobody. Its event time is that of its booking. An order is
//!           given when the watermark has passed it, or with `eager` in the tick in which it comes; what a touch or a telling that
//!           comes later, but within the lateness, changes is taken back and given anew. So the table is a function of the events
//!           alone; how often it was corrected on the way follows from the ticks.
//! Sides:    0 `notices`: what was noticed, said once when nothing can change it any more: duplicates, conflicts, corrections without
//!           an order, what was forgotten for want of room. 1 `paths`: the path of each order, with `op`.
//! Late:     a row of any input whose time the watermark less `lateness` had passed before the tick. Late conversions go to the
//!           `late` output, and so do rows of another input that has the same columns; the others are counted only.
//! Bad:      a row without what it needs: an id, an order's id, an amount that makes sense; and what is too much for its key.
//! Retract:  see Out; its watermark is `lateness` behind that of its inputs.
//! Keeps:    a ledger per key: touches for as long as a conversion can find them, orders for as long as they can be corrected, 90
//!           days. [`riverrun_behaviour::attribution::ledger`] has the bounds of a key; more than `max_kept` touches and orders of
//!           all keys on one worker stop the job. A key with a null matches nothing: its touches are counted and not kept.
//! Restart:  a checkpoint has the ledgers that changed, as JSON.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use riverrun_behaviour::attribution::{Ledger, Output, Settings, Taken};
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::Keys;
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, Pulse, StepError, TableSize, TableSpec};
use riverrun_dataflow::schema::{Hidden, visible_of, with_hidden};
use riverrun_dataflow::{EventTime, StepTick};

use self::read::{Event, Refusal};
use crate::bad_row::refused_row;
use crate::keyed::{KeyedState, Left, Slot};
use crate::late::on_time;
use crate::order::{KeyOrder, all_rows, sort};

mod give;
mod read;

pub use give::model_name;
/// What a plan says of the rules.
pub mod rules {
    pub use riverrun_behaviour::attribution::ledger::{
        CORRECTED_FOR_MS, CountMode, Emission, ItemScope, ORDERS_MAX, Settings, TOUCHES_MAX,
    };
    pub use riverrun_behaviour::attribution::path::Transform;
    pub use riverrun_behaviour::attribution::{Model, Windows};
}
pub use read::{ConversionColumns, CorrectionColumns, LineColumns, MatchColumns, TouchColumns};

/// The number of the side output of notices.
pub const NOTICES: usize = 0;
/// The number of the side output of paths.
pub const PATHS: usize = 1;

/// The version of what an attribution keeps. State of another version has another meaning, whatever its columns: raise it with
/// every change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct AttributionSettings {
    /// The rules.
    pub rules: Settings,
    /// The key columns of each input, of the same types.
    pub keys: Vec<Vec<usize>>,
    /// What the columns of conversions say.
    pub conversion: ConversionColumns,
    /// What the columns of touches say.
    pub touch: TouchColumns,
    /// What the columns of corrections say.
    pub correction: Option<CorrectionColumns>,
    /// The type of amounts: that of the value, or whole minor units.
    pub amount: DataType,
    /// How many touches and orders one worker may keep.
    pub max_kept: usize,
    /// Which side outputs are read: the others are not made.
    pub sides: [bool; 2],
}

/// An attribution of inputs with known columns.
#[derive(Clone)]
pub struct Attribution {
    settings: AttributionSettings,
    keys: Vec<Field>,
    schema: SchemaRef,
    notices: SchemaRef,
    paths: SchemaRef,
    late: SchemaRef,
    /// Of each input: whether its late rows are given.
    gives_late: Vec<bool>,
    orders: Vec<KeyOrder>,
}

/// What travels hidden with all rows that are given.
const HIDDEN: [Hidden; 2] = [Hidden::Time, Hidden::Hash];

impl Attribution {
    /// The touches and orders that one worker may keep, unless the job says otherwise.
    pub const MAX_KEPT: usize = 10_000_000;

    /// Fits the settings to the schemas of the inputs, hidden columns included.
    pub fn new(settings: AttributionSettings, inputs: &[SchemaRef]) -> Result<Attribution, StepError> {
        let types = |input: usize| -> Vec<DataType> {
            settings.keys[input].iter().map(|key| inputs[input].field(*key).data_type().clone()).collect()
        };
        if (1..inputs.len()).any(|input| types(input) != types(0)) {
            return Err(StepError::Internal("the key columns of the inputs differ in type".into()));
        }
        let keys: Vec<Field> =
            settings.keys[0].iter().map(|key| inputs[0].field(*key).clone().with_nullable(true)).collect();
        let amount = settings.amount.clone();
        Ok(Attribution {
            schema: with_hidden(&Attribution::columns(&keys, amount), &HIDDEN),
            notices: with_hidden(&Attribution::notice_columns(&keys), &HIDDEN),
            paths: with_hidden(&Attribution::path_columns(&keys), &HIDDEN),
            late: inputs[0].clone(),
            gives_late: inputs.iter().map(|input| input.fields() == inputs[0].fields()).collect(),
            orders: inputs.iter().map(|input| KeyOrder::of(input)).collect::<Result<_, _>>()?,
            keys,
            settings,
        })
    }

    /// Returns the user's columns of the rows that an attribution gives; names may clash.
    pub fn columns(keys: &[Field], amount: DataType) -> Vec<Field> {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let number = |name: &str| Field::new(name, DataType::Int64, false);
        let time = |name: &str, nullable| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), nullable);
        let mut columns = vec![text("op", false)];
        columns.extend(keys.iter().cloned());
        columns.extend([
            text("order_id", false),
            text("model", false),
            text("touch_id", true),
            time("touch_time", true),
            text("channel", false),
            text("campaign", true),
            text("product", true),
            text("through", true),
            number("weight_ppm"),
            number("conversions_ppm"),
            Field::new("amount", amount, false),
            text("currency", false),
            text("reason", false),
            text("event_id", false),
            time("order_time", false),
            time("booked_time", false),
        ]);
        columns
    }

    /// Returns the user's columns of the side output of notices.
    pub fn notice_columns(keys: &[Field]) -> Vec<Field> {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let mut columns = keys.to_vec();
        columns.extend([text("notice", false), text("order_id", true), text("event_id", true), text("detail", true)]);
        columns
    }

    /// Returns the user's columns of the side output of paths.
    pub fn path_columns(keys: &[Field]) -> Vec<Field> {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let path =
            |name: &str| Field::new(name, DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), false);
        let mut columns = vec![text("op")];
        columns.extend(keys.iter().cloned());
        columns.extend([text("order_id"), path("raw"), path("exposure"), path("first")]);
        columns
    }

    /// Returns the schema of its rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the schemas of its side outputs, by number.
    pub fn sides(&self) -> [&SchemaRef; 2] {
        [&self.notices, &self.paths]
    }

    /// Returns the schema of its late rows: the conversions'.
    pub fn late_schema(&self) -> &SchemaRef {
        &self.late
    }

    /// Returns how far its output watermark is behind its input watermark: what is given may be corrected for so long.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.settings.rules.lateness_ms.max(0).unsigned_abs())
    }

    /// Makes the step of one worker.
    pub fn on(&self, shards: ShardRange) -> AttributionState {
        AttributionState { ledgers: KeyedState::new("ledgers", self.keys.clone(), shards), plan: self.clone() }
    }
}

/// Ledgers that are fed between two signs of life.
const LEDGERS_A_BEAT: usize = 256;

/// What must outlive a restart.
pub struct AttributionState {
    plan: Attribution,
    ledgers: KeyedState<Ledger>,
}

/// A row that was read.
struct Arrived {
    slot: Slot,
    event: Event,
    input: usize,
    /// Its place among the rows of its input in per-key order.
    place: usize,
    /// Its batch among those of its input, and its row there.
    at: (usize, usize),
}

/// What the ledgers said in a tick.
type Said = Vec<(Slot, Output)>;

impl Operator for AttributionState {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        if inputs.len() != self.plan.orders.len() {
            return Err(StepError::Internal("an attribution has conversions, touches and perhaps corrections".into()));
        }
        let watermark = if tick.last { EventTime::MAX } else { tick.watermark };
        let mut arrived = Vec::new();
        let mut rows = Vec::new();
        for (input, batches) in inputs.iter().enumerate() {
            rows.push(self.read(input, batches, tick.before, &mut arrived, out)?);
        }
        arrived.sort_by(|a, b| {
            let place = |of: &Arrived| (of.input, of.place);
            a.slot
                .cmp(&b.slot)
                .then_with(|| a.event.order().cmp(&b.event.order()))
                .then_with(|| place(a).cmp(&place(b)))
        });
        let mut said = Said::new();
        self.feed(arrived, &rows, watermark, &mut said, out)?;
        self.wake(watermark, &out.pulse, &mut said)?;
        self.give(&said, tick.now, out)?;
        self.ledgers.tidy()?;
        match self.ledgers.size() > self.plan.settings.max_kept {
            false => Ok(()),
            true => Err(StepError::Bound(format!(
                "more than {} touches and orders are kept on one worker (`max_kept`): shorten `window`, leave out keys with \
                 very many touches in a select before the step, run more workers, or raise the bound",
                self.plan.settings.max_kept
            ))),
        }
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![self.ledgers.spec()]
    }

    fn sizes(&self) -> Vec<TableSize> {
        vec![self.ledgers.table_size()]
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        Ok(vec![self.ledgers.freeze(rebase.first().map_or(&[], Vec::as_slice))?.into()])
    }

    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        match table {
            0 => self.ledgers.restore(rows),
            _ => Err(StepError::State(format!("an attribution has no table {table}"))),
        }
    }
}

/// Returns the milliseconds of a watermark. What it has passed, they have passed.
fn millis(watermark: EventTime) -> i64 {
    if watermark == EventTime::MAX { i64::MAX } else { watermark.0.div_euclid(1000) }
}

impl AttributionState {
    /// Returns how many keys, and how many touches and orders, are kept.
    pub fn kept(&self) -> [usize; 2] {
        [self.ledgers.len(), self.ledgers.size()]
    }

    /// Reads the rows of one input that are on time; returns them.
    fn read(
        &mut self,
        input: usize,
        batches: &[RecordBatch],
        before: EventTime,
        arrived: &mut Vec<Arrived>,
        out: &mut Outputs,
    ) -> Result<Vec<RecordBatch>, StepError> {
        let limit = before.minus(self.plan.delay());
        let mut rows = Vec::new();
        for batch in batches {
            out.counts.input += batch.num_rows() as u64;
            let late = Some(&mut out.late).filter(|_| self.plan.gives_late[input]);
            let batch = on_time(batch, limit, &mut out.counts.late, late)?;
            rows.extend(Some(batch).filter(|batch| batch.num_rows() > 0));
        }
        let columns = self.plan.orders[input].columns_of(&rows);
        let mut sorted = all_rows(&columns);
        sort(&columns, &mut sorted);
        let mut places: Vec<Vec<usize>> = rows.iter().map(|batch| vec![0; batch.num_rows()]).collect();
        sorted.iter().enumerate().for_each(|(place, row)| places[row.batch as usize][row.row as usize] = place);
        for (number, batch) in rows.iter().enumerate() {
            out.pulse.beat();
            let by = &self.plan.settings.keys[input];
            let slots = self.ledgers.slots(batch, by)?;
            let keys = Keys::of(batch, by)?;
            let events = read::events(&self.plan.settings, input, batch, |row| keys.has_null(row))?;
            for (row, event) in events.into_iter().enumerate() {
                match event {
                    // A touch that can match nothing.
                    Ok(None) => out.counts.taken += 1,
                    Ok(Some(event)) => {
                        let place = places[number][row];
                        arrived.push(Arrived { slot: slots[row], event, input, place, at: (number, row) });
                    }
                    Err(Refusal { code, reason }) => {
                        out.counts.bad += 1;
                        out.bad.push(refused_row(batch, row, code, &reason));
                    }
                }
            }
        }
        Ok(rows)
    }

    /// Feeds the ledgers with the rows of a tick, and tells them the time.
    fn feed(
        &mut self,
        arrived: Vec<Arrived>,
        rows: &[Vec<RecordBatch>],
        watermark: EventTime,
        said: &mut Said,
        out: &mut Outputs,
    ) -> Result<(), StepError> {
        let rules = &self.plan.settings.rules;
        let mut arrived = arrived.into_iter().peekable();
        while let Some(slot) = arrived.peek().map(|first| first.slot) {
            if said.len().is_multiple_of(LEDGERS_A_BEAT) {
                out.pulse.beat();
            }
            let mut output = Output::default();
            self.ledgers.update(slot, |ledger| {
                while let Some(Arrived { event, input, at: (batch, row), .. }) = arrived.next_if(|row| row.slot == slot)
                {
                    let taken = match event {
                        Event::Touch(touch) => ledger.push_touch(*touch, &mut output),
                        Event::Order(order) => ledger.push_order(*order, &mut output),
                    };
                    count(taken, &rows[input][batch], row, self.plan.gives_late[input], out)?;
                }
                ledger.advance(rules, millis(watermark), &mut output);
                Ok::<Left, StepError>(left(ledger, rules))
            })?;
            said.push((slot, output));
        }
        Ok(())
    }

    /// Tells the time to the ledgers that are due.
    fn wake(&mut self, watermark: EventTime, pulse: &Pulse, said: &mut Said) -> Result<(), StepError> {
        let rules = &self.plan.settings.rules;
        let to = millis(watermark);
        let passed = if watermark == EventTime::MAX { watermark } else { EventTime(to) };
        self.ledgers.fire(passed, pulse, |slot, ledger| {
            let mut output = Output::default();
            ledger.advance(rules, to, &mut output);
            said.push((slot, output));
            Ok(left(ledger, rules))
        })
    }
}

fn left(ledger: &Ledger, rules: &Settings) -> Left {
    Left { size: ledger.size(), due: ledger.due(rules) }
}

/// Counts what became of a row that was pushed.
fn count(taken: Taken, batch: &RecordBatch, row: usize, gives_late: bool, out: &mut Outputs) -> Result<(), StepError> {
    let (code, reason) = match taken {
        Taken::Taken => {
            out.counts.taken += 1;
            return Ok(());
        }
        Taken::Late => {
            out.counts.late += 1;
            out.late.extend(gives_late.then(|| batch.slice(row, 1)));
            return Ok(());
        }
        Taken::NoOrderId => ("missing", "it names no order"),
        Taken::Malformed => ("malformed", "its amounts are less than zero, a refund of nothing, or of too many lines"),
        Taken::Full => ("crowded", "its key has as many orders, or its order as many events that wait, as may be"),
    };
    out.counts.bad += 1;
    out.bad.push(refused_row(batch, row, code, reason));
    Ok(())
}

/// Returns the user's columns of `schema` that are the key, as they stand in all rows that are given.
pub fn key_fields(schema: &Schema, by: &[String]) -> Vec<Field> {
    let visible = visible_of(schema);
    let find = |name: &String| visible.iter().find(|field| field.name() == name).cloned();
    by.iter().filter_map(find).map(|field| field.with_nullable(true)).collect()
}

#[cfg(test)]
mod tests;
