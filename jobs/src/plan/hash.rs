//! The plan's hash: over a text that spells out all that decides what the job writes, and nothing else.

use std::fmt::{Display, Write};

use riverrun_connectors::format::{CsvOptions, EncodeSpec, FormatSpec, OpAs, Timestamps, WrittenBy};
use riverrun_connectors::start::Start;
use riverrun_dataflow::graph::OnBadRow;
use riverrun_dataflow::partitioner::Partitioner;
use riverrun_dataflow::schema::visible_of;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::stream::type_name;
use super::{Plan, PlannedSink, PlannedSource, PlannedStep};
use crate::spec::{SinkPlace, SourcePlace};

/// Returns the hash of `plan` in 32 hex digits.
pub(super) fn hash(plan: &Plan) -> String {
    format!("{:032x}", xxh3_128(spell(plan).as_bytes()))
}

/// Spells out what decides the output. Every value stands in quotes, so that no two plans are spelled alike.
fn spell(plan: &Plan) -> String {
    let mut words = Words(String::new());
    let ticks = &plan.settings.ticks;
    words.add("tick.interval", ticks.interval.as_micros());
    words.add("tick.max_rows", ticks.max_rows);
    words.add("tick.max_bytes", ticks.max_bytes);
    words.add("tick.in_flight", ticks.in_flight);
    words.add("align", ticks.align.as_micros());
    words.add("shards", plan.settings.shards);
    plan.sources.iter().for_each(|source| spell_source(source, &mut words));
    plan.steps.iter().for_each(|step| spell_step(plan, step, &mut words));
    plan.sinks.iter().for_each(|sink| spell_sink(plan, sink, &mut words));
    words.0
}

struct Words(String);

impl Words {
    fn add(&mut self, name: &str, value: impl Display) {
        writeln!(self.0, "{name} {:?}", value.to_string()).expect("a string can be written to");
    }
}

fn spell_source(source: &PlannedSource, words: &mut Words) {
    words.add("source", &source.name);
    match &source.place {
        SourcePlace::Topic { name, start, .. } => {
            words.add("topic", &name.value);
            // Plans that were made before a start could be chosen are spelled as they were.
            if *start != Start::Earliest {
                words.add("start", start);
            }
        }
        SourcePlace::File(path) => words.add("file", &path.value),
    }
    match &source.format {
        FormatSpec::Json => words.add("format", "json"),
        FormatSpec::Csv(options) => spell_csv(options, words),
        FormatSpec::Parquet => words.add("format", "parquet"),
        FormatSpec::Avro(written) => {
            words.add("format", "avro");
            spell_written(written, words);
        }
        FormatSpec::Protobuf(written, message) => {
            words.add("format", "protobuf");
            spell_written(written, words);
            words.add("message", message.as_deref().unwrap_or_default());
        }
    }
    for column in &source.schema.columns {
        words.add("column", &column.name);
        words.add("path", column.path.join("."));
        words.add("type", &column.column_type);
        words.add("required", column.required);
        if let Some(meta) = &column.meta {
            words.add("meta", meta);
        }
    }
    if source.schema.framed {
        words.add("framing", "registry");
    }
    if source.schema.drop_tombstones {
        words.add("tombstones", "drop");
    }
    words.add("event_time", source.schema.event_time.as_deref().unwrap_or_default());
    if let Some(clocks) = &source.schema.clocks {
        for (word, name) in clocks.named() {
            words.add(word, name);
        }
        words.add("max_ahead", clocks.max_ahead.as_micros());
        words.add("max_past", clocks.max_past.as_micros());
    }
    words.add("id", source.schema.id.as_deref().unwrap_or_default());
    words.add("max_disorder", source.max_disorder.as_micros());
    words.add("max_future", source.max_future.as_micros());
    words.add("idle_after", source.idle_after.as_micros());
    words.add("event_time_range", format!("{} {}", source.event_times.start().0, source.event_times.end().0));
    words.add(
        "on_bad_row",
        match source.on_bad_row {
            OnBadRow::Divert => "divert",
            OnBadRow::Drop => "drop",
            OnBadRow::Stop => "stop",
        },
    );
}

/// What a file says is part of what a job does; what a number stands for never changes.
fn spell_written(written: &WrittenBy, words: &mut Words) {
    if let WrittenBy::File(file) = written {
        words.add("schema_file", format!("{:016x}", xxh3_64(&file.bytes)));
    }
}

fn spell_csv(options: &CsvOptions, words: &mut Words) {
    words.add("format", "csv");
    words.add("header", options.header);
    words.add("delimiter", options.delimiter);
    words.add("null", &options.null);
}

fn spell_step(plan: &Plan, step: &PlannedStep, words: &mut Words) {
    words.add("step", &step.name);
    words.add("operator", step.operator);
    step.inputs.iter().for_each(|input| words.add("from", plan.edge_name(input.from)));
    step.does.iter().for_each(|(name, value)| words.add(name, value));
    // State has the shape of these columns.
    for field in visible_of(&step.schema) {
        words.add("gives", format!("{} {}", field.name(), type_name(field.data_type())));
    }
}

fn spell_sink(plan: &Plan, sink: &PlannedSink, words: &mut Words) {
    words.add("sink", &sink.name);
    words.add("from", plan.edge_name(sink.from));
    match &sink.place {
        SinkPlace::Topic { name, .. } => words.add("topic", &name.value),
        SinkPlace::File(path) => words.add("file", &path.value),
        SinkPlace::Lake(lake) => {
            words.add("lake", &lake.path.value);
            words.add("layout", lake.layout.word());
            words.add("partition_by", lake.partition_by.word());
        }
        SinkPlace::Console => words.add("console", ""),
    }
    match &sink.format {
        EncodeSpec::Json { timestamps: Timestamps::Rfc3339 } => words.add("format", "json"),
        EncodeSpec::Json { timestamps: Timestamps::EpochMillis } => words.add("format", "json epoch_ms"),
        EncodeSpec::Csv(options) => spell_csv(options, words),
        EncodeSpec::Parquet => words.add("format", "parquet"),
        EncodeSpec::Avro(_) => words.add("format", "avro"),
    }
    let schema = &sink.schema;
    sink.key.iter().flatten().for_each(|column| words.add("key", schema.field(*column).name()));
    // Plans that were made before these could be chosen are spelled as they were.
    for (name, column) in &sink.surround.headers {
        words.add("header", format!("{name} {}", schema.field(*column).name()));
    }
    if sink.partitioner == Partitioner::Murmur2 {
        words.add("partitioner", "murmur2");
    }
    match sink.surround.op {
        OpAs::Field => {}
        OpAs::Header => words.add("op", "header"),
        OpAs::Tombstone => words.add("op", "tombstone"),
    }
}
