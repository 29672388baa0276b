//! What a checkpoint keeps of open sessions, and how they come back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int8Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt16Array,
    new_null_array,
};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt16Type};
use riverrun_behaviour::identity::Id;
use riverrun_behaviour::session::bots::{BotReason, BotWatch};
use riverrun_dataflow::key::{Keys, shard_of};
use riverrun_dataflow::operator::{FrozenTable, STATE_COLUMNS, StepError};

use super::SessionizeState;
use super::open::{Bot, NEVER, OpenSessions};
use crate::changes::{DELETE, Rebase, UPSERT};
use crate::keyed::check_place;

/// The columns after the keys and before the parts of the aggregates.
pub const STATE_OF_SESSION: [&str; 9] =
    ["session_id", "session_start", "last_interaction", "last_leave", "user", "campaign", "referrer", "bot", "watch"];

/// Returns the columns of the table: `shard, op`, the keys, what a session is, the parts of the aggregates.
pub(super) fn state_schema(keys: &[Field], aggregates: Vec<Field>) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut fields = vec![
        Field::new(STATE_COLUMNS[0], DataType::UInt16, false),
        Field::new(STATE_COLUMNS[1], DataType::Int8, false),
    ];
    // A key may have any name, these columns have theirs.
    fields.extend(keys.iter().map(|key| Field::new(format!("by.{}", key.name()), key.data_type().clone(), true)));
    fields.extend(STATE_OF_SESSION.iter().enumerate().map(|(at, name)| {
        let data_type = if (1..4).contains(&at) { time.clone() } else { DataType::Utf8 };
        Field::new(*name, data_type, true)
    }));
    fields.extend(aggregates);
    Arc::new(Schema::new(fields))
}

/// Returns the sign of a bot as a word.
pub(super) fn bot_word(reason: BotReason) -> Result<String, StepError> {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(StepError::Internal("the sign of a bot is a word".into())),
    }
}

impl SessionizeState {
    /// Notes that sessions are gone; called before their slots are released.
    pub(super) fn note_deleted(&mut self, slots: &[u32]) -> Result<(), StepError> {
        let mut changes = std::mem::take(&mut self.changes);
        let noted = changes.delete(slots, |slots| self.deletions(slots));
        self.changes = changes;
        noted
    }

    fn shard(&self, slot: u32) -> u16 {
        shard_of(self.open.keys.hash(slot), self.shards.shards)
    }

    /// Returns the columns up to the last of the key.
    fn first_columns(&self, slots: &[u32], op: i8) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt16Array::from_iter_values(slots.iter().map(|slot| self.shard(*slot)))),
            Arc::new(Int8Array::from(vec![op; slots.len()])),
        ];
        columns.extend(self.open.keys.columns(slots));
        columns
    }

    fn deletions(&self, slots: &[u32]) -> Result<RecordBatch, StepError> {
        let mut columns = self.first_columns(slots, DELETE);
        let rest = &self.state_schema.fields()[columns.len()..];
        columns.extend(rest.iter().map(|field| new_null_array(field.data_type(), slots.len())));
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    fn state_rows(&self, slots: &[u32]) -> Result<RecordBatch, StepError> {
        let open = &self.open;
        let time = |of: &[i64]| -> ArrayRef {
            let times = slots.iter().map(|slot| Some(of[*slot as usize]).filter(|time| *time != NEVER));
            Arc::new(times.collect::<TimestampMicrosecondArray>())
        };
        let ids = slots.iter().map(|slot| open.ids[*slot as usize].to_string());
        let mut columns = self.first_columns(slots, UPSERT);
        columns.push(Arc::new(StringArray::from_iter_values(ids)));
        columns.extend([time(&open.starts), time(&open.lasts), time(&open.leaves)]);
        for which in 0..3 {
            columns.push(Arc::new(slots.iter().map(|slot| open.text(which, *slot)).collect::<StringArray>()));
        }
        let bots = slots.iter().map(|slot| bot_of(open, *slot)).collect::<Result<Vec<_>, StepError>>()?;
        columns.push(Arc::new(bots.iter().map(|(reason, _)| reason.clone()).collect::<StringArray>()));
        columns.push(Arc::new(bots.into_iter().map(|(_, watch)| watch).collect::<StringArray>()));
        columns.extend(self.aggregates.save(slots));
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    pub(super) fn freeze_sessions(&mut self, rebase: &[u16]) -> Result<FrozenTable, StepError> {
        let mut changes = std::mem::take(&mut self.changes);
        let frozen = changes.freeze(
            Rebase { shards: self.shards.shards, rebase },
            |slot| self.open.keys.hash(slot),
            |rebased| self.open.keys.all(|hash| rebased.has(hash)),
            |slots| Ok(vec![self.state_rows(slots)?]),
        );
        self.changes = changes;
        frozen
    }

    pub(super) fn restore_sessions(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        let types = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        if types(rows.schema_ref()) != types(&self.state_schema) {
            return Err(StepError::State(format!("expected {}, found {}", self.state_schema, rows.schema_ref())));
        }
        let width = self.plan.keys.len();
        let by: Vec<usize> = (STATE_COLUMNS.len()..STATE_COLUMNS.len() + width).collect();
        let hashes = Keys::of(rows, &by)?.hashes;
        check_place(self.shards, &hashes, rows.column(0).as_primitive::<UInt16Type>().values())?;
        let ops = rows.column(1).as_primitive::<Int8Type>().values();
        let columns = &rows.columns()[STATE_COLUMNS.len()..];
        self.open.keys.read(&columns[..width]);
        let (of_session, parts) = columns[width..].split_at(STATE_OF_SESSION.len());
        let (mut slots, mut numbers) = (Vec::new(), Vec::new());
        for (row, hash) in (0..).zip(&hashes) {
            let known = self.open.keys.find(row, *hash);
            if ops[row as usize] == DELETE {
                self.load(&mut slots, &mut numbers, parts)?;
                known.into_iter().for_each(|slot| self.drop_session(slot));
                continue;
            }
            let slot = known.unwrap_or_else(|| self.open.open(row, *hash, Id([0; 16]), 0));
            self.put(slot, row as usize, of_session)?;
            slots.push(slot);
            numbers.push(row);
        }
        self.load(&mut slots, &mut numbers, parts)
    }

    /// Puts the parts of aggregates of some rows into their slots.
    fn load(&mut self, slots: &mut Vec<u32>, rows: &mut Vec<u32>, parts: &[ArrayRef]) -> Result<(), StepError> {
        self.aggregates.grow(self.open.slots());
        self.changes.grow(self.open.slots());
        self.aggregates.load(slots, rows, parts)?;
        self.changes.store(slots);
        slots.clear();
        rows.clear();
        Ok(())
    }

    fn drop_session(&mut self, slot: u32) {
        self.open.close(slot, riverrun_behaviour::session::Reason::Idle, &mut Vec::new());
        self.changes.forget(&[slot]);
        self.aggregates.clear(&[slot]);
        self.open.release(&[slot]);
    }

    /// Puts what a session is into its slot.
    fn put(&mut self, slot: u32, row: usize, columns: &[ArrayRef]) -> Result<(), StepError> {
        let at = slot as usize;
        let text = |which: usize| {
            let column = columns[which].as_string::<i32>();
            column.is_valid(row).then(|| column.value(row))
        };
        let time = |which: usize| {
            let column = columns[which].as_primitive::<TimestampMicrosecondType>();
            if column.is_valid(row) { column.value(row) } else { NEVER }
        };
        let broken = |what: &str| StepError::State(format!("what was kept of a session is none: {what}"));
        let id = text(0).and_then(|id| id.parse().ok()).ok_or_else(|| broken("its id"))?;
        let open = &mut self.open;
        (open.ids[at], open.starts[at], open.lasts[at], open.leaves[at]) = (id, time(1), time(2), time(3));
        (0..3).for_each(|which| open.set_text(which, slot, text(4 + which)));
        if let Some(bots) = &mut open.bots {
            let reason = text(7).map(|word| serde_json::from_value::<BotReason>(word.into()));
            let reason = reason.transpose().map_err(|error| broken(&error.to_string()))?;
            let watch = text(8).map(serde_json::from_str::<BotWatch>).transpose();
            let watch = watch.map_err(|error| broken(&error.to_string()))?.unwrap_or_default();
            bots[at] = Bot { reason, watch };
        }
        open.set_timer(slot, self.rules.gap);
        Ok(())
    }
}

/// Returns the sign of a bot, and what is remembered to know one.
fn bot_of(open: &OpenSessions, slot: u32) -> Result<(Option<String>, Option<String>), StepError> {
    let Some(bot) = open.bots.as_ref().map(|bots| &bots[slot as usize]) else { return Ok((None, None)) };
    let reason = bot.reason.map(bot_word).transpose()?;
    let watch = (bot.watch != BotWatch::default()).then(|| serde_json::to_string(&bot.watch)).transpose();
    Ok((reason, watch.map_err(|error| StepError::Internal(error.to_string()))?))
}
