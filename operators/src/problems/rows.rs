//! The rows of problems, put together column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder, UInt64Array,
};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use riverrun_behaviour::incident::points::Severity;
use riverrun_dataflow::operator::StepError;

use super::gathered::Said;
use crate::frustration::texts;

/// Returns the user's columns of the rows of a step with these keys.
pub fn columns(keys: &[Field]) -> Vec<Field> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let whole = |name: &str| Field::new(name, DataType::Int64, false);
    let list = |name: &str| Field::new(name, texts(), false);
    let time = |name: &str, nullable| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), nullable);
    let mut columns = keys.to_vec();
    columns.extend([whole("rev"), Field::new("about", DataType::Utf8, false), text("page_key"), text("subject")]);
    columns.extend([time("window_end", false), whole("sessions"), whole("persons"), text("severity")]);
    columns.extend(["first_seen", "last_seen"].map(|name| time(name, true)));
    columns.extend([list("releases"), list("worst"), Field::new("passes", DataType::Boolean, false), text("notify")]);
    columns
}

/// Rows to be.
#[derive(Default)]
pub(super) struct Builder {
    rev: Int64Builder,
    about: StringBuilder,
    page_key: StringBuilder,
    subject: StringBuilder,
    window_end: TimestampMillisecondBuilder,
    sessions: Int64Builder,
    persons: Int64Builder,
    severity: StringBuilder,
    first_seen: TimestampMillisecondBuilder,
    last_seen: TimestampMillisecondBuilder,
    releases: ListBuilder<StringBuilder>,
    worst: ListBuilder<StringBuilder>,
    passes: BooleanBuilder,
    notify: StringBuilder,
    times: Vec<i64>,
}

impl Builder {
    /// Adds a row.
    pub(super) fn push(&mut self, said: &Said) {
        let Said { time_us, row, rev, notify, about } = said;
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.rev.append_value(i64::from(*rev));
        self.about.append_value(about.group.name());
        self.page_key.append_option(Some(&about.page_key).filter(|page| !page.is_empty()));
        self.subject.append_option(about.subject.as_deref());
        self.window_end.append_value(row.window_end);
        self.sessions.append_value(whole(row.sessions));
        self.persons.append_value(whole(row.persons));
        self.severity.append_option(row.severity.map(Severity::name));
        self.first_seen.append_option(row.first_seen);
        self.last_seen.append_option(row.last_seen);
        row.releases.iter().for_each(|release| self.releases.values().append_value(release));
        self.releases.append(true);
        row.worst.iter().for_each(|id| self.worst.values().append_value(id.to_string()));
        self.worst.append(true);
        self.passes.append_value(row.passes);
        self.notify.append_option(*notify);
        self.times.push(*time_us);
    }

    /// Returns the rows, whose keys and their hashes are given, as a batch of the step's schema.
    pub(super) fn finish(
        mut self,
        schema: &SchemaRef,
        keys: Vec<ArrayRef>,
        hashes: Vec<u64>,
    ) -> Result<RecordBatch, StepError> {
        let mut columns = keys;
        let own: [ArrayRef; 14] = [
            Arc::new(self.rev.finish()),
            Arc::new(self.about.finish()),
            Arc::new(self.page_key.finish()),
            Arc::new(self.subject.finish()),
            Arc::new(self.window_end.finish()),
            Arc::new(self.sessions.finish()),
            Arc::new(self.persons.finish()),
            Arc::new(self.severity.finish()),
            Arc::new(self.first_seen.finish()),
            Arc::new(self.last_seen.finish()),
            Arc::new(self.releases.finish()),
            Arc::new(self.worst.finish()),
            Arc::new(self.passes.finish()),
            Arc::new(self.notify.finish()),
        ];
        columns.extend(own);
        columns.push(Arc::new(Int64Array::from(self.times)));
        columns.push(Arc::new(UInt64Array::from(hashes)));
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}
