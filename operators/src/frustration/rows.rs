//! The rows of signals, put together column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use riverrun_behaviour::event::EventRef;
use riverrun_behaviour::identity::Id;
use riverrun_behaviour::signals::{Flags, PageEnd, Signal};
use riverrun_dataflow::operator::StepError;

use super::sitting::{Told, What};

/// The `kind` of the row that tells that a person got where they wanted.
pub const GOAL: &str = "goal";
/// The `kind` of the row that tells that a session turned out to be a program's: what was told of it counts for nothing.
pub const BOT: &str = "bot";
/// The `kind` of the row that tells that a session has ended.
pub const SESSION_END: &str = "session_end";

/// The `kind` of the row that tells that a page was left, where such rows are asked for; its `count` is that of the reversals of its
/// scrolling.
pub const PAGE_END: &str = "page_end";

/// The flags that are columns of their own.
const FLAGS: [(&str, Flags); 6] = [
    ("dead", Flags::DEAD),
    ("slow", Flags::SLOW),
    ("error", Flags::ERROR),
    ("responsive", Flags::RESPONSIVE),
    ("metronomic", Flags::METRONOMIC),
    ("recovered", Flags::RECOVERED),
];
/// The flags that say whereto.
const DIRECTIONS: [(&str, Flags); 4] =
    [("left", Flags::LEFT), ("right", Flags::RIGHT), ("up", Flags::UP), ("down", Flags::DOWN)];

/// Returns the type of lists of texts.
pub(crate) fn texts() -> DataType {
    DataType::new_list(DataType::Utf8, true)
}

/// Returns the user's columns of the rows of a step on `input`.
pub fn columns(input: &Schema) -> Vec<Field> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let whole = |name: &str| Field::new(name, DataType::Int64, true);
    let flag = |name: &str| Field::new(name, DataType::Boolean, true);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false);
    let mut columns = vec![text("signal_id"), Field::new("rev", DataType::Int64, false)];
    columns.extend(input.column_with_name("tenant_id").map(|(_, field)| field.clone()));
    columns.push(Field::new("session_id", DataType::Utf8, false));
    columns.push(Field::new("kind", DataType::Utf8, false));
    columns.extend(["page_key", "target_fp", "cause_fp"].map(text));
    columns.extend(["start_time", "end_time"].map(time));
    columns.push(whole("count"));
    columns.extend(FLAGS.map(|(name, _)| flag(name)));
    columns.extend([text("direction"), whole("points"), flag("hard"), text("person"), text("release")]);
    columns.extend(["evidence", "evidence_at"].map(|name| Field::new(name, texts(), false)));
    columns
}

/// Rows to be.
#[derive(Default)]
pub(crate) struct Builder {
    signal_id: StringBuilder,
    rev: Int64Builder,
    session: StringBuilder,
    kind: StringBuilder,
    page_key: StringBuilder,
    target_fp: StringBuilder,
    cause_fp: StringBuilder,
    start: TimestampMillisecondBuilder,
    end: TimestampMillisecondBuilder,
    count: Int64Builder,
    flags: [BooleanBuilder; FLAGS.len()],
    direction: StringBuilder,
    points: Int64Builder,
    hard: BooleanBuilder,
    person: StringBuilder,
    release: StringBuilder,
    evidence: ListBuilder<StringBuilder>,
    evidence_at: ListBuilder<StringBuilder>,
    times: Vec<i64>,
}

/// Returns a text unless it is empty.
fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Builder {
    /// Adds a row.
    pub(crate) fn push(&mut self, told: &Told) {
        self.times.push(told.time_us);
        self.session.append_value(&told.session);
        self.person.append_option(told.person.map(|id| id.to_string()));
        self.release.append_option(told.release.as_deref());
        match &told.what {
            What::Signal(signal) => self.signal(signal),
            What::Goal { time_ms, event } => self.mark(GOAL, *time_ms, *time_ms, std::slice::from_ref(event)),
            What::Bot { time_ms, event } => self.mark(BOT, *time_ms, *time_ms, std::slice::from_ref(event)),
            What::End { first_ms, last_ms } => self.mark(SESSION_END, *first_ms, *last_ms, &[]),
            What::PageEnd(end) => self.page_end(end),
        }
    }

    fn signal(&mut self, signal: &Signal) {
        self.place(Some(signal.signal_id), signal.kind.name(), signal.start, signal.end, &signal.evidence);
        self.rev.append_value(i64::from(signal.rev));
        self.page_key.append_option(said(&signal.page_key));
        self.target_fp.append_option(said(&signal.target_fp));
        self.cause_fp.append_option(said(&signal.cause_fp));
        self.count.append_value(i64::from(signal.count));
        for (column, (_, flag)) in self.flags.iter_mut().zip(FLAGS) {
            column.append_value(signal.flags.has(flag));
        }
        let direction = DIRECTIONS.iter().find(|(_, flag)| signal.flags.has(*flag)).map(|(name, _)| *name);
        self.direction.append_option(direction);
        self.points.append_value(i64::from(signal.points));
        self.hard.append_value(signal.hard);
    }

    /// A row that is no signal.
    fn mark(&mut self, kind: &str, start_ms: i64, end_ms: i64, evidence: &[EventRef]) {
        self.place(None, kind, start_ms, end_ms, evidence);
        self.page_key.append_null();
        self.count.append_null();
        self.nothing_else();
    }

    fn page_end(&mut self, end: &PageEnd) {
        self.place(None, PAGE_END, end.time, end.time, &[]);
        self.page_key.append_value(&end.page_key);
        self.count.append_value(i64::try_from(end.reversals).unwrap_or(i64::MAX));
        self.nothing_else();
    }

    /// What only a signal has.
    fn nothing_else(&mut self) {
        self.rev.append_value(0);
        for column in [&mut self.target_fp, &mut self.cause_fp, &mut self.direction] {
            column.append_null();
        }
        self.points.append_null();
        self.flags.iter_mut().chain([&mut self.hard]).for_each(BooleanBuilder::append_null);
    }

    fn place(&mut self, id: Option<Id>, kind: &str, start_ms: i64, end_ms: i64, evidence: &[EventRef]) {
        self.signal_id.append_option(id.map(|id| id.to_string()));
        self.kind.append_value(kind);
        self.start.append_value(start_ms);
        self.end.append_value(end_ms);
        for event in evidence {
            self.evidence.values().append_value(&event.id);
            let at = &event.position;
            self.evidence_at.values().append_value(format!("{}:{}", at.split, at.offset));
        }
        self.evidence.append(true);
        self.evidence_at.append(true);
    }

    /// Returns the rows, whose tenants and the hashes of their keys are given, as a batch of the step's schema.
    pub(crate) fn finish(
        mut self,
        schema: &SchemaRef,
        keys: Vec<ArrayRef>,
        hashes: Vec<u64>,
    ) -> Result<RecordBatch, StepError> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.signal_id.finish()), Arc::new(self.rev.finish())];
        columns.extend(keys);
        for mut text in [self.session, self.kind, self.page_key, self.target_fp, self.cause_fp] {
            columns.push(Arc::new(text.finish()));
        }
        columns.push(Arc::new(self.start.finish()));
        columns.push(Arc::new(self.end.finish()));
        columns.push(Arc::new(self.count.finish()));
        for mut flag in self.flags {
            columns.push(Arc::new(flag.finish()));
        }
        columns.push(Arc::new(self.direction.finish()));
        columns.push(Arc::new(self.points.finish()));
        columns.push(Arc::new(self.hard.finish()));
        columns.push(Arc::new(self.person.finish()));
        columns.push(Arc::new(self.release.finish()));
        columns.push(Arc::new(self.evidence.finish()));
        columns.push(Arc::new(self.evidence_at.finish()));
        columns.push(Arc::new(Int64Array::from(self.times)));
        columns.push(Arc::new(UInt64Array::from(hashes)));
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}
