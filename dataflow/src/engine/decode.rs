//! Decoding: raw chunks to rows, on whichever worker they reached.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringBuilder, UInt32Array};
use base64::Engine as _;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::build::{BatchStream, Build, RawStream, ReportStream, bad_schema};
use super::events::{BadRowSeen, Sampler};
use super::message::{Mark, Report};
use super::meter::Part;
use super::{EngineError, Observer};
use crate::balance::Counts;
use crate::batch::{Batch, register_schema};
use crate::graph::{Graph, OnBadRow};
use crate::source::{BadRow, DecodeContext, Decoded};
use crate::tick::Tick;
use crate::wire::WireError;

/// The two streams of a source.
pub struct SourceStreams<'s> {
    pub rows: BatchStream<'s>,
    pub bad: BatchStream<'s>,
}

/// What decoding gives.
pub struct DecodedStreams<'s> {
    pub sources: Vec<SourceStreams<'s>>,
    pub marks: Stream<'s, Tick, Vec<Mark>>,
    pub reports: ReportStream<'s>,
}

/// Decodes the chunks of all sources.
pub fn decode<'s>(build: &Build<'s>, chunks: RawStream<'s>) -> DecodedStreams<'s> {
    let graph = build.graph.clone();
    let mut builder = OperatorBuilder::new("decode".to_owned(), build.scope);
    let mut input = builder.new_input(chunks, Pipeline);
    let mut outputs = Vec::new();
    let mut sources = Vec::new();
    for (index, node) in graph.sources.iter().enumerate() {
        let (rows, rows_stream) = builder.new_output::<Batch>();
        let (bad, bad_stream) = builder.new_output::<Batch>();
        let rows = OutputBuilder::<Tick, NoopBuilder<Batch>>::from(rows);
        let bad = OutputBuilder::<Tick, NoopBuilder<Batch>>::from(bad);
        let meter = build.meter.part(build.worker, Part::Decode(index));
        outputs.push((rows, bad, (node.decoder)(), register_schema(&node.schema), Sampler::default(), meter));
        sources.push(SourceStreams { rows: rows_stream, bad: bad_stream });
    }
    let (marks, marks_stream) = builder.new_output::<Vec<Mark>>();
    let mut marks = OutputBuilder::<Tick, CapacityContainerBuilder<Vec<Mark>>>::from(marks);
    let (reports, reports_stream) = builder.new_output::<Vec<Report>>();
    let mut reports = OutputBuilder::<Tick, CapacityContainerBuilder<Vec<Report>>>::from(reports);
    let bad_id = register_schema(&bad_schema());
    let (control, observer) = (build.control.clone(), build.observer.clone());
    builder.build(move |_| {
        let mut decoded = Decoded::default();
        move |_| {
            input.for_each(|time, raw| {
                let Some(raw) = control.received(raw.take()) else { return };
                let Some((rows, bad, decoder, schema, sampler, meter)) = outputs.get_mut(raw.source) else {
                    control.fail(WireError(format!("it is of source {}, which there is not", raw.source)).into());
                    return;
                };
                let node = &graph.sources[raw.source];
                let _decoding = meter.enter();
                let name = split_name(&graph, raw.split).unwrap_or_default();
                let context = DecodeContext { split: raw.split, name, accept: raw.accept };
                decoder.decode(&raw.chunk, &context, &mut decoded);
                meter.got_on();
                let counts = count(&raw.chunk, &mut decoded, &observer);
                if let Some(greatest) = decoded.greatest.take() {
                    marks.activate().session(&time).give(Mark::Decoded { split: raw.split, greatest });
                }
                reports.activate().session(&time).give(Report::Counts(raw.source as u32, counts));
                for batch in decoded.batches.drain(..).filter(|batch| batch.num_rows() > 0) {
                    rows.activate().session_with_builder(&time).give_container(&mut Batch::new(batch, *schema));
                }
                if decoded.bad.is_empty() {
                    return;
                }
                let found = std::mem::take(&mut decoded.bad);
                sampler.see(found.len() as u64, || BadRowSeen::of(&graph, &found[0], &node.name));
                match node.on_bad_row {
                    OnBadRow::Drop => {}
                    OnBadRow::Stop => control.fail(stopped_by(&graph, &node.name, &found[0])),
                    OnBadRow::Divert => match bad_batch(&graph, &node.name, &found) {
                        Ok(batch) => {
                            bad.activate().session_with_builder(&time).give_container(&mut Batch::new(batch, bad_id))
                        }
                        Err(error) => control.fail(EngineError::Internal(format!("cannot keep bad rows: {error}"))),
                    },
                }
            });
        }
    });
    DecodedStreams { sources, marks: marks_stream, reports: reports_stream }
}

fn count(chunk: &crate::source::Chunk, decoded: &mut Decoded, observer: &Observer) -> Counts {
    let taken: u64 = decoded.batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let (input, bad) = (chunk.rows() as u64, decoded.bad.len() as u64);
    let filtered = std::mem::take(&mut decoded.filtered);
    let counts = Counts { input, taken, filtered, bad, out: taken, ..Counts::default() };
    debug_assert!(counts.balances(), "a decoder accounts for every record: {counts:?}");
    observer.decoded(counts.input);
    counts
}

fn stopped_by(graph: &Graph, source: &str, row: &BadRow) -> EngineError {
    EngineError::BadRow {
        source: source.to_owned(),
        split: split_name(graph, row.split).unwrap_or_default(),
        position: row.position,
        reason: row.reason.clone(),
    }
}

/// Returns the name of a split.
pub fn split_name(graph: &Graph, split: u32) -> Option<String> {
    let splits = graph.sources.iter().flat_map(|source| &source.splits);
    splits.into_iter().find(|node| node.id == split).map(|node| node.spec.name.clone())
}

/// Returns bad rows as rows of `<name>.bad`.
pub fn bad_batch(graph: &Graph, name: &str, bad: &[BadRow]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut text: [StringBuilder; 6] = Default::default();
    let [source, split, code, reason, raw, raw_base64] = &mut text;
    for row in bad {
        source.append_value(name);
        split.append_value(split_name(graph, row.split).unwrap_or_default());
        code.append_value(&row.code);
        reason.append_value(&row.reason);
        match readable_text(row) {
            Some(valid) => {
                raw.append_value(valid);
                raw_base64.append_null();
            }
            None => {
                raw.append_null();
                raw_base64.append_value(base64::engine::general_purpose::STANDARD.encode(&row.raw));
            }
        }
    }
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let positions = Int64Array::from_iter_values(bad.iter().map(|row| number(row.position)));
    let lengths = Int64Array::from_iter_values(bad.iter().map(|row| number(row.raw_length)));
    let splits = UInt32Array::from_iter_values(bad.iter().map(|row| row.split));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(source.finish()),
        Arc::new(split.finish()),
        Arc::new(positions),
        Arc::new(code.finish()),
        Arc::new(reason.finish()),
        Arc::new(raw.finish()),
        Arc::new(raw_base64.finish()),
        Arc::new(lengths),
        Arc::new(splits),
    ];
    RecordBatch::try_new(bad_schema(), columns)
}

/// Returns the raw record as text, if it is UTF-8. A record that was cut within a character is text too.
fn readable_text(row: &BadRow) -> Option<&str> {
    match std::str::from_utf8(&row.raw) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() && row.raw_length > row.raw.len() as u64 => {
            std::str::from_utf8(&row.raw[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}
