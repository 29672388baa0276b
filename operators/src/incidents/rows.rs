//! The rows of incidents, put together column by column.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringBuilder, TimestampMillisecondBuilder,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use riverrun_dataflow::operator::StepError;

use super::watched::Said;
use crate::frustration::texts;

/// The mark of a column whose texts are JSON, as sinks know it.
const JSON: (&str, &str) = ("ARROW:extension:name", "arrow.json");

/// What happened when an incident gets another fingerprint: it leaves this one.
pub(crate) const MOVED: &str = "moved";

/// Returns the user's columns of the rows of a step with these keys.
pub fn columns(keys: &[Field]) -> Vec<Field> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let name = |name: &str| Field::new(name, DataType::Utf8, false);
    let whole = |name: &str| Field::new(name, DataType::Int64, false);
    let list = |name: &str| Field::new(name, texts(), false);
    let time = |name: &str, nullable| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), nullable);
    let json = HashMap::from([(JSON.0.to_owned(), JSON.1.to_owned())]);
    let mut columns = vec![name("incident_id"), name("event"), whole("rev"), name("state")];
    columns.extend(keys.iter().cloned());
    columns.extend([text("person"), name("severity"), whole("peak"), whole("total")]);
    columns.push(name("kinds").with_metadata(json));
    columns.extend([list("signals"), name("primary_kind"), name("primary_signal")]);
    columns.extend(["page_key", "about", "subject"].map(text));
    columns.extend([name("fingerprint"), list("releases")]);
    columns.extend(["first_time", "last_time", "opened_at"].map(|name| time(name, false)));
    columns.extend([name("outcome"), time("recovered_at", true), text("merged_into")]);
    columns.extend([list("evidence"), list("evidence_at")]);
    columns
}

/// Rows to be: the columns before the keys, then those after, in their order.
#[derive(Default)]
pub(super) struct Builder {
    names: [StringBuilder; 3],
    rev: Int64Builder,
    texts: [StringBuilder; 11],
    numbers: [Int64Builder; 2],
    times: [TimestampMillisecondBuilder; 4],
    lists: [ListBuilder<StringBuilder>; 4],
    at: Vec<i64>,
}

fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Builder {
    /// Adds a row.
    pub(super) fn push(&mut self, said_row: &Said) {
        let Said { time_us, event, row, subject, evidence } = said_row;
        let has_left = *event == MOVED;
        let incident_id = row.incident_id.to_string();
        for (column, text) in self.names.iter_mut().zip([&incident_id, *event, row.state.name()]) {
            column.append_value(text);
        }
        self.rev.append_value(i64::from(row.rev));
        let kinds: Vec<String> = row.kinds.iter().map(|(kind, count)| format!("\"{}\":{count}", kind.name())).collect();
        let kinds = format!("{{{}}}", kinds.join(","));
        let id = |id: &Option<riverrun_behaviour::identity::Id>| id.map(|id| id.to_string());
        let (person, merged) = (id(&row.person), id(&row.merged_into));
        let (primary, fingerprint) = (row.primary_signal.to_string(), row.fingerprint.to_string());
        let texts: [Option<&str>; 11] = [
            person.as_deref(),
            Some(row.severity.name()),
            Some(&kinds),
            Some(row.primary.name()),
            Some(&primary),
            // What it is about now says nothing of the fingerprint that it leaves.
            said(&row.page_key).filter(|_| !has_left),
            Some(row.group.name()).filter(|_| !has_left),
            said(subject).filter(|_| !has_left),
            Some(&fingerprint),
            Some(row.outcome.name()),
            merged.as_deref(),
        ];
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.append_option(text);
        }
        for (column, number) in self.numbers.iter_mut().zip([row.peak, row.total]) {
            column.append_value(i64::from(number));
        }
        let times = [Some(row.first), Some(row.last), Some(row.opened_at), row.recovered_at];
        for (column, time) in self.times.iter_mut().zip(times) {
            column.append_option(time);
        }
        let signals = row.signals.iter().map(|id| id.to_string()).collect();
        let ids = evidence.iter().map(|event| event.id.clone()).collect();
        let places =
            evidence.iter().map(|event| format!("{}:{}", event.position.split, event.position.offset)).collect();
        let lists: [Vec<String>; 4] = [signals, row.releases.iter().cloned().collect(), ids, places];
        for (column, list) in self.lists.iter_mut().zip(lists) {
            list.into_iter().for_each(|text| column.values().append_value(text));
            column.append(true);
        }
        self.at.push(*time_us);
    }

    /// Returns the rows, whose keys and their hashes are given, as a batch of the step's schema.
    pub(super) fn finish(
        self,
        schema: &SchemaRef,
        keys: Vec<ArrayRef>,
        hashes: Vec<u64>,
    ) -> Result<RecordBatch, StepError> {
        let text = |mut builder: StringBuilder| -> ArrayRef { Arc::new(builder.finish()) };
        let number = |mut builder: Int64Builder| -> ArrayRef { Arc::new(builder.finish()) };
        let time = |mut builder: TimestampMillisecondBuilder| -> ArrayRef { Arc::new(builder.finish()) };
        let list = |mut builder: ListBuilder<StringBuilder>| -> ArrayRef { Arc::new(builder.finish()) };
        let [incident_id, event, state] = self.names.map(text);
        let [person, severity, kinds, primary_kind, primary, page, about, subject, fingerprint, outcome, merged] =
            self.texts.map(text);
        let [peak, total] = self.numbers.map(number);
        let [first, last, opened, recovered] = self.times.map(time);
        let [signals, releases, evidence, places] = self.lists.map(list);
        let mut columns = vec![incident_id, event, number(self.rev), state];
        columns.extend(keys);
        columns.extend([person, severity, peak, total, kinds, signals, primary_kind, primary, page, about, subject]);
        columns.extend([fingerprint, releases, first, last, opened, outcome, recovered, merged, evidence, places]);
        columns.push(Arc::new(Int64Array::from(self.at)));
        columns.push(Arc::new(UInt64Array::from(hashes)));
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}
