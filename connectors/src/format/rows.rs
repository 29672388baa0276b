//! Rows in the making: the columns in use, the hidden ones, and the rules that every row must meet whatever its format.
//!
//! A decoder fills the slots of a row, in any order and not necessarily all, then calls [`Rows::end_row`], which fills what is missing,
//! checks what is required and either keeps the row or removes every trace of it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int64Type, SchemaRef};
use riverrun_behaviour::time::Stamps;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::schema::Hidden;
use riverrun_dataflow::source::{BadRow, Chunk, DecodeContext, Decoded, Numbering, Records, SplitId};

use super::clocks::{Clocks, Told};
use super::column::{GrowingColumn, Misfit};
use super::envelope::{Envelope, Meta, NoText};
use super::schema::{Column, ColumnType, RowSchema};

/// Rows in a batch.
pub(crate) const BATCH_ROWS: usize = 8192;
/// A batch is closed when its texts reach this, so that offsets stay far from their limit.
const BATCH_TEXT_BYTES: usize = 256 << 20;
/// A record longer than this is bad (`too_long`).
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;

/// Why a row is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The stable word of [`BadRow::code`].
    pub(crate) code: &'static str,
    /// What is wrong, for a person.
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(code: &'static str, reason: impl Into<String>) -> Fault {
        Fault { code, reason: reason.into() }
    }

    /// Returns the fault of a value that does not fit `column`.
    pub(crate) fn misfit(column: &Column, misfit: &Misfit) -> Fault {
        let Column { name, column_type, .. } = column;
        match misfit {
            Misfit::Kind(found) => Fault::new("type", format!("column `{name}` is {column_type}, found {found}")),
            Misfit::Value(why) => Fault::new("type", format!("column `{name}` is {column_type}: {why}")),
            Misfit::Malformed(why) => Fault::new("malformed", format!("column `{name}`: {why}")),
        }
    }
}

/// Returns the bad row of record `index` of `chunk`.
pub(crate) fn bad_record(chunk: &Chunk, records: &Records, index: usize, split: SplitId, fault: Fault) -> BadRow {
    let (start, end) = records.ranges[index];
    let raw = &records.bytes[start as usize..end as usize];
    let position = chunk.position(index);
    let mut bad = bad_row(split, position, fault, raw);
    // Of a record that is too long a reader may give only the beginning; then it ends its chunk.
    if raw.len() > RECORD_BYTES_MAX && records.numbering == Numbering::Offset && index + 1 == records.ranges.len() {
        bad.raw_length = bad.raw_length.max(chunk.to.saturating_sub(position));
    }
    bad
}

/// Returns the bad row of a record.
pub(crate) fn bad_row(split: SplitId, position: u64, fault: Fault, raw: &[u8]) -> BadRow {
    BadRow {
        split,
        position,
        code: fault.code.to_owned(),
        reason: fault.reason,
        raw: raw[..raw.len().min(BadRow::RAW_MAX)].to_vec(),
        raw_length: raw.len() as u64,
    }
}

/// A declared column that is decoded.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The column.
    pub(crate) column: Column,
    /// Its cells.
    pub(crate) cells: Cells,
    /// It appears in batches.
    used: bool,
}

/// What is kept of a column.
#[derive(Debug)]
pub(crate) enum Cells {
    /// Its values.
    Kept(GrowingColumn),
    /// Only whether the row in hand has one: the column is required, but not in use.
    Presence(bool),
}

/// The rows of one decoder.
#[derive(Debug)]
pub(crate) struct Rows {
    schema: SchemaRef,
    hidden: Vec<Hidden>,
    /// What is decoded, in declared order.
    pub(crate) slots: Vec<Slot>,
    /// Complete rows.
    pub(crate) row: usize,
    event_time: Option<TimeSlot>,
    clocks: Option<ClockSlots>,
    id: Option<usize>,
    times: Vec<i64>,
    positions: Vec<u64>,
    envelope: Envelope,
    drop_tombstones: bool,
    /// The slots of what is around a record, and what becomes there of what is no text.
    around: Vec<(usize, Meta, NoText)>,
    scratch: String,
}

/// A column of times.
#[derive(Clone, Copy, Debug)]
struct TimeSlot {
    slot: usize,
    micros_per_unit: i64,
}

/// Where the columns of clocks are.
#[derive(Debug)]
struct ClockSlots {
    clocks: Clocks,
    client: TimeSlot,
    sent: Option<TimeSlot>,
    received: TimeSlot,
    /// The flag, if it is in use.
    flag: Option<usize>,
}

impl ClockSlots {
    /// Finds the columns of `clocks` in `slots`, all of which are decoded.
    fn of(clocks: &Clocks, slots: &[Slot]) -> ClockSlots {
        let at = |name: &String| slots.iter().position(|slot| slot.column.name == *name);
        let time = |name: &String| {
            let slot = at(name).expect("clocks are decoded");
            TimeSlot { slot, micros_per_unit: micros_per_unit(&slots[slot].column.column_type) }
        };
        ClockSlots {
            client: time(&clocks.client),
            sent: clocks.sent.as_ref().map(time),
            received: time(&clocks.received),
            flag: clocks.flag.as_ref().and_then(at).filter(|slot| matches!(slots[*slot].cells, Cells::Kept(_))),
            clocks: clocks.clone(),
        }
    }
}

impl Rows {
    /// Returns a builder for rows of `schema`, which was checked.
    pub(crate) fn new(schema: &RowSchema) -> Rows {
        let named = |name: &Option<String>, column: &Column| name.as_ref() == Some(&column.name);
        let id_wanted = schema.hidden.contains(&Hidden::Id);
        let mut slots: Vec<Slot> = Vec::new();
        let (mut event_time, mut id) = (None, None);
        for column in &schema.columns {
            let used = schema.is_used(&column.name);
            let is_time = named(&schema.event_time, column);
            let is_id = id_wanted && named(&schema.id, column);
            let cells = match schema.is_decoded(column) {
                true => Cells::Kept(GrowingColumn::new(&column.column_type, BATCH_ROWS)),
                false if column.required => Cells::Presence(false),
                false => continue,
            };
            if is_time {
                event_time =
                    Some(TimeSlot { slot: slots.len(), micros_per_unit: micros_per_unit(&column.column_type) });
            }
            if is_id {
                id = Some(slots.len());
            }
            // What is found by clocks is not missing where a record does not have it.
            let required = column.required && !schema.is_found_by_clocks(column);
            slots.push(Slot { column: Column { required, ..column.clone() }, cells, used });
        }
        let clocks = schema.clocks.as_ref().map(|clocks| ClockSlots::of(clocks, &slots));
        let metas = slots.iter().enumerate().filter_map(|(slot, of)| {
            let meta = of.column.meta.clone()?;
            // In use or not: which rows are bad must not depend on which columns somebody reads.
            let other =
                meta.in_base64().filter(|other| schema.columns.iter().any(|it| it.meta.as_ref() == Some(other)));
            Some((slot, meta, other.map_or(NoText::Misfit, |_| NoText::Null)))
        });
        Rows {
            around: metas.collect(),
            envelope: schema.envelope,
            drop_tombstones: schema.drop_tombstones,
            hidden: schema.hidden.clone(),
            schema: schema.arrow(),
            slots,
            row: 0,
            event_time,
            clocks,
            id,
            times: Vec::new(),
            positions: Vec::new(),
            scratch: String::new(),
        }
    }

    /// Returns whether a record says that its key is gone, and such records are to be left out.
    pub(crate) fn leaves_out(&self, records: &Records, index: usize) -> bool {
        self.drop_tombstones && !self.envelope.around(records, index).has_value
    }

    /// Fills what comes from around record `index`.
    pub(crate) fn surround(
        &mut self,
        chunk: &Chunk,
        records: &Records,
        index: usize,
        context: &DecodeContext,
    ) -> Result<(), Fault> {
        if self.around.is_empty() {
            return Ok(());
        }
        let surrounding = self.envelope.around(records, index);
        for (slot, meta, no_text) in &self.around {
            let wanted = (meta, *no_text);
            let slot = &mut self.slots[*slot];
            let cells = match &mut slot.cells {
                Cells::Kept(cells) => cells,
                Cells::Presence(present) => {
                    let mut cell = GrowingColumn::new(&slot.column.column_type, 1);
                    let pushed = surrounding.push(wanted, &mut cell, (chunk, index, context), &mut self.scratch);
                    *present = pushed.is_err() || cell.is_valid(0);
                    continue;
                }
            };
            let pushed = surrounding.push(wanted, cells, (chunk, index, context), &mut self.scratch);
            pushed.map_err(|misfit| Fault::misfit(&slot.column, &misfit))?;
        }
        Ok(())
    }

    /// Returns whether a batch should be closed before the next row.
    pub(crate) fn is_full(&self) -> bool {
        self.row >= BATCH_ROWS || (self.row.is_multiple_of(64) && self.text_bytes() >= BATCH_TEXT_BYTES)
    }

    fn text_bytes(&self) -> usize {
        let text_of = |slot: &Slot| match &slot.cells {
            Cells::Kept(cells) => cells.text_bytes(),
            Cells::Presence(_) => 0,
        };
        self.slots.iter().map(text_of).sum()
    }

    /// Takes back what the row in hand gave to `slot`: a field that is given twice counts with its last value.
    pub(crate) fn reset(&mut self, slot: usize) {
        let row = self.row;
        match &mut self.slots[slot].cells {
            Cells::Kept(cells) if cells.len() > row => cells.truncate(row),
            Cells::Kept(_) => {}
            Cells::Presence(present) => *present = false,
        }
    }

    /// Ends the row in hand: keeps it, or removes every trace of it and says why it is bad.
    pub(crate) fn end_row(&mut self, position: u64, context: &DecodeContext) -> Result<(), Fault> {
        match self.complete().and_then(|()| self.event_time(context)) {
            Ok(time) => {
                self.times.extend(time);
                self.positions.push(position);
                self.row += 1;
                Ok(())
            }
            Err(fault) => {
                self.roll_back();
                Err(fault)
            }
        }
    }

    /// Removes every trace of the row in hand.
    pub(crate) fn roll_back(&mut self) {
        for slot in &mut self.slots {
            match &mut slot.cells {
                Cells::Kept(cells) => cells.truncate(self.row),
                Cells::Presence(present) => *present = false,
            }
        }
    }

    /// Fills what the record did not have with nulls and checks what is required.
    fn complete(&mut self) -> Result<(), Fault> {
        let row = self.row;
        for slot in &mut self.slots {
            let present = match &mut slot.cells {
                Cells::Kept(cells) => {
                    if cells.len() == row {
                        cells.push_null();
                    }
                    !slot.column.required || cells.is_valid(row)
                }
                Cells::Presence(present) => std::mem::take(present),
            };
            if !present {
                let name = &slot.column.name;
                return Err(Fault::new("missing", format!("column `{name}` is required, but missing or null")));
            }
        }
        Ok(())
    }

    fn event_time(&mut self, context: &DecodeContext) -> Result<Option<i64>, Fault> {
        let Some(event_time) = self.event_time else { return Ok(None) };
        let value = match self.integer(event_time.slot) {
            Some(value) => value,
            None => self.told_time(event_time)?,
        };
        let name = &self.slots[event_time.slot].column.name;
        let micros = value.saturating_mul(event_time.micros_per_unit);
        let overflown = micros.checked_div(event_time.micros_per_unit) != Some(value);
        if overflown || !context.accept.contains(&EventTime(micros)) {
            return Err(out_of_range(name, micros, context));
        }
        Ok(Some(micros))
    }

    /// Puts the event time that clocks tell into the row in hand, which has none, and returns it.
    fn told_time(&mut self, event_time: TimeSlot) -> Result<i64, Fault> {
        let name = &self.slots[event_time.slot].column.name;
        let Some(known) = &self.clocks else {
            return Err(Fault::new("missing", format!("event time `{name}` is missing or null")));
        };
        let micros = |time: TimeSlot| Some(self.integer(time.slot)?.saturating_mul(time.micros_per_unit));
        let stamps = Stamps {
            client_time: micros(known.client),
            sent_at: known.sent.and_then(micros),
            received_at: micros(known.received),
        };
        let Told { micros, ahead } = known.clocks.tell(name, stamps)?;
        let (value, flag) = (micros.div_euclid(event_time.micros_per_unit), known.flag.filter(|_| ahead));
        for (slot, value) in [(Some(event_time.slot), value), (flag, 1)] {
            if let Some(Cells::Kept(cells)) = slot.map(|slot| &mut self.slots[slot].cells) {
                cells.replace_last(value);
            }
        }
        Ok(value)
    }

    /// Returns the integer that the row in hand has in `slot`.
    fn integer(&self, slot: usize) -> Option<i64> {
        match &self.slots[slot].cells {
            Cells::Kept(cells) => cells.integer(self.row),
            Cells::Presence(_) => None,
        }
    }

    /// Closes the batch, if it has rows.
    pub(crate) fn flush(&mut self, split: SplitId, out: &mut Decoded) {
        if self.row == 0 {
            return;
        }
        let rows = std::mem::take(&mut self.row);
        let greatest = self.times.iter().copied().max().map(EventTime);
        out.greatest = out.greatest.max(greatest);
        let id = self.id;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let mut ids: Option<ArrayRef> = None;
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let Cells::Kept(cells) = &mut slot.cells else { continue };
            let array = cells.finish();
            if id == Some(i) {
                ids = Some(id_text(&array));
            }
            if slot.used {
                arrays.push(array);
            }
        }
        let times = std::mem::replace(&mut self.times, Vec::with_capacity(BATCH_ROWS));
        let positions = std::mem::replace(&mut self.positions, Vec::with_capacity(BATCH_ROWS));
        push_hidden(&mut arrays, &self.hidden, HiddenCells { rows, times, ids, split, positions });
        out.batches.push(batch(&self.schema, arrays, rows));
    }
}

/// What the hidden columns of a batch are made of.
pub(crate) struct HiddenCells {
    pub(crate) rows: usize,
    pub(crate) times: Vec<i64>,
    pub(crate) ids: Option<ArrayRef>,
    pub(crate) split: SplitId,
    pub(crate) positions: Vec<u64>,
}

/// Appends the hidden columns that are wanted, in their fixed order.
pub(crate) fn push_hidden(arrays: &mut Vec<ArrayRef>, wanted: &[Hidden], cells: HiddenCells) {
    let wants = |hidden| wanted.contains(&hidden);
    if wants(Hidden::Time) {
        arrays.push(Arc::new(Int64Array::from(cells.times)));
    }
    if wants(Hidden::Id) {
        arrays.push(cells.ids.unwrap_or_else(|| Arc::new(StringArray::new_null(cells.rows))));
    }
    if wants(Hidden::Split) {
        arrays.push(Arc::new(UInt32Array::from(vec![cells.split; cells.rows])));
    }
    if wants(Hidden::Position) {
        arrays.push(Arc::new(UInt64Array::from(cells.positions)));
    }
}

/// Returns the batch of `arrays`, which may be none at all.
pub(crate) fn batch(schema: &SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), arrays, &options).expect("columns are made as the schema says")
}

/// Returns an id column as text.
pub(crate) fn id_text(ids: &ArrayRef) -> ArrayRef {
    let Some(numbers) = ids.as_primitive_opt::<Int64Type>() else { return ids.clone() };
    let mut buffer = itoa::Buffer::new();
    let mut builder = arrow::array::StringBuilder::with_capacity(numbers.len(), numbers.len() * 8);
    for number in numbers {
        builder.append_option(number.map(|number| buffer.format(number)));
    }
    Arc::new(builder.finish())
}

/// Returns the microseconds in a unit of a timestamp type.
pub(crate) fn micros_per_unit(column_type: &ColumnType) -> i64 {
    match column_type {
        ColumnType::TimestampSeconds => 1_000_000,
        ColumnType::TimestampMillis => 1000,
        _ => 1,
    }
}

/// Returns the fault of an event time that is not accepted.
pub(crate) fn out_of_range(name: &str, micros: i64, context: &DecodeContext) -> Fault {
    let [time, first, last] = [micros, context.accept.start().0, context.accept.end().0].map(readable_time);
    Fault::new("event_time", format!("event time `{name}` is {time}, accepted are {first} to {last}"))
}

/// Returns a time in microseconds as text.
pub(crate) fn readable_time(micros: i64) -> String {
    let mut text = Vec::new();
    super::calendar::push_time(&mut text, micros, 6);
    String::from_utf8_lossy(&text).into_owned()
}
