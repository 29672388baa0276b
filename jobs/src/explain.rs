//! Explains a plan: the graph, what every step keeps and its bound, how watermarks travel, where rows change workers.

use std::fmt::Write;

use riverrun_connectors::format::EncodeSpec;
use riverrun_connectors::format::clocks::Clocks;
use riverrun_connectors::kafka::Delivery;
use riverrun_dataflow::graph::{Edge, WatermarkPath};
use riverrun_dataflow::schema::{Hidden, visible_of};
use serde_json::{Value, json};

use crate::fault::list;
use crate::plan::{Plan, PlannedInput, PlannedSink, PlannedSource, PlannedStep, type_name};
use crate::spec::values::{write_bytes, write_duration};
use crate::spec::{SinkPlace, SourcePlace};

/// How a plan is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For a person.
    Text,
    /// For a program.
    Json,
    /// For Graphviz.
    Dot,
    /// For Markdown pages that draw Mermaid.
    Mermaid,
}

/// Explains `plan`.
pub fn explain(plan: &Plan, form: Form) -> String {
    match form {
        Form::Text => text(plan),
        Form::Json => format!("{:#}\n", as_json(plan)),
        Form::Dot => dot(plan),
        Form::Mermaid => mermaid(plan),
    }
}

/// Facts of one part of a plan, by name.
type Facts = Vec<(&'static str, String)>;

fn source_facts(source: &PlannedSource) -> Facts {
    let place = match &source.place {
        SourcePlace::Topic { name, .. } => format!("topic {}", name.value),
        SourcePlace::File(path) => format!("file {}", path.value),
    };
    let used: Vec<String> =
        source.schema.used().map(|column| format!("{} {}", column.name, column.column_type)).collect();
    let total = source.schema.columns.len();
    let mut facts = vec![
        ("reads", place),
        ("decodes", format!("{} of {total} columns: {}", used.len(), list(used))),
        (
            "watermark",
            match &source.schema.event_time {
                Some(name) => format!("greatest `{name}` - {}", write_duration(source.max_disorder)),
                None => "none: there is no event time".to_owned(),
            },
        ),
    ];
    if let (Some(clocks), Some(name)) = (&source.schema.clocks, &source.schema.event_time) {
        facts.push(("clocks", told(clocks, name)));
    }
    if let Some(id) = &source.schema.id {
        facts.push(("id", id.clone()));
    }
    facts.push(("hidden", hidden_names(&source.schema.hidden)));
    facts
}

/// Says how event time is found where a record has none.
fn told(clocks: &Clocks, event_time: &str) -> String {
    let Clocks { client, sent, received, flag, max_ahead, max_past } = clocks;
    let time = match sent {
        Some(sent) => format!("`{received}` - (`{sent}` - `{client}`)"),
        None => format!("`{client}`"),
    };
    let flagged = flag.as_ref().map_or(String::new(), |flag| format!(", and `{flag}` true"));
    format!(
        "without `{event_time}`: {time}; if over {} ahead of `{received}`, that time{flagged}; if over {} before it, bad",
        write_duration(*max_ahead),
        write_duration(*max_past)
    )
}

fn hidden_names(hidden: &[Hidden]) -> String {
    match hidden.is_empty() {
        true => "none".to_owned(),
        false => list(hidden.iter().map(|hidden| hidden.name().trim_start_matches('_'))),
    }
}

fn watermark(plan: &Plan, paths: &[WatermarkPath]) -> String {
    if paths.is_empty() {
        return "none".to_owned();
    }
    let one = |path: &WatermarkPath| {
        let source = &plan.sources[path.source].name;
        match path.delay.is_zero() {
            true => format!("W({source})"),
            false => format!("W({source}) - {}", write_duration(path.delay)),
        }
    };
    let all: Vec<String> = paths.iter().map(one).collect();
    if let [one] = all.as_slice() { one.clone() } else { format!("the least of {}", list(all)) }
}

fn step_facts(plan: &Plan, step: &PlannedStep) -> Facts {
    let mut facts = vec![("from", list(step.inputs.iter().map(|input| plan.edge_name(input.from))))];
    facts.extend(step.does.iter().cloned());
    let columns = visible_of(&step.schema);
    facts.push(("gives", list(columns.iter().map(|f| format!("{} {}", f.name(), type_name(f.data_type()))))));
    facts.push(("exchange", exchange(plan, step)));
    let after = match step.delay.is_zero() {
        true => watermark(plan, &step.watermark),
        false => format!("{}; after it {} later", watermark(plan, &step.watermark), write_duration(step.delay)),
    };
    facts.push(("watermark", after));
    match step.keeps.is_empty() {
        true => facts.push(("keeps", "nothing".to_owned())),
        false => facts.extend(step.keeps.iter().map(|kept| ("keeps", kept.clone()))),
    }
    facts
}

/// Says where the rows of a step are stepped.
fn exchange(plan: &Plan, step: &PlannedStep) -> String {
    let Some(first) = step.inputs.first().filter(|input| input.route.is_some() || !input.keys.is_empty()) else {
        return "none: each worker its own rows".to_owned();
    };
    let there = |input: &&PlannedInput| input.route.is_none();
    let mut text = match first.keys.is_empty() {
        true => "all rows to one shard: there is no key".to_owned(),
        false => format!("by ({}) to {} shards", list(&first.keys), plan.settings.shards),
    };
    let chained: Vec<String> = step.inputs.iter().filter(there).map(|input| plan.edge_name(input.from)).collect();
    if chained.len() == step.inputs.len() {
        text = format!("none: rows are already placed by ({})", list(&first.keys));
    } else if !chained.is_empty() {
        write!(text, "; those of {} are there already", list(chained)).expect("a string can be written to");
    }
    text
}

fn sink_facts(plan: &Plan, sink: &PlannedSink) -> Facts {
    let (place, lanes, promise) = match &sink.place {
        SinkPlace::Topic { name, partitions, delivery, .. } => (
            format!("topic {}", name.value),
            match partitions {
                Some(count) => format!("{count}, one per partition"),
                None => "one per partition of the topic".to_owned(),
            },
            match delivery {
                Delivery::ExactlyOnce => "exactly once",
                Delivery::AtLeastOnce => "at least once in Kafka: gates no checkpoint there",
            },
        ),
        SinkPlace::File(path) => (format!("file {}", path.value), "1".to_owned(), "exactly once"),
        SinkPlace::Lake(lake) => (format!("lake {}", lake.path.value), lake.lanes.to_string(), "exactly once"),
        SinkPlace::Console => ("console".to_owned(), "1".to_owned(), "at least once: gates no checkpoint"),
    };
    let format = match &sink.format {
        EncodeSpec::Json { .. } => "json",
        EncodeSpec::Csv(_) => "csv",
        EncodeSpec::Parquet => "parquet",
        EncodeSpec::Avro(_) => "avro",
    };
    let placed = match &sink.key {
        Some(key) => list(key.iter().map(|column| sink.schema.field(*column).name())),
        None if sink.schema.column_with_name(Hidden::Hash.name()).is_some() => "the key of its step".to_owned(),
        None if sink.schema.column_with_name(Hidden::Split.name()).is_some() => "the split of each row".to_owned(),
        None => "none".to_owned(),
    };
    let mut facts =
        vec![("from", plan.edge_name(sink.from)), ("writes", format!("{place} as {format}")), ("lanes", lanes)];
    if matches!(&sink.place, SinkPlace::Topic { .. }) || matches!(&sink.place, SinkPlace::Lake(lake) if lake.lanes > 1)
    {
        facts.push(("placed by", placed));
    }
    if let SinkPlace::Lake(lake) = &sink.place {
        let folders = lake.partition_by.columns();
        let folders = if folders.is_empty() { "none".to_owned() } else { folders.join(", ") };
        facts.push(("folders", format!("{folders}; {}", lake.layout.word())));
        let (size, every) = (write_bytes(lake.file_size), write_duration(lake.every));
        facts.push((
            "commits",
            format!(
                "at {size} of a lane, or after {every} on live input; a lane holds about that and a tick in memory"
            ),
        ));
    }
    facts.push(("promise", promise.to_owned()));
    facts
}

fn job_facts(plan: &Plan) -> Facts {
    let settings = &plan.settings;
    let ticks = &settings.ticks;
    vec![
        ("plan", plan.hash().to_owned()),
        ("shards", settings.shards.to_string()),
        (
            "tick",
            format!(
                "at most {} rows, {}, {}; {} in flight",
                ticks.max_rows,
                write_bytes(ticks.max_bytes),
                write_duration(ticks.interval),
                ticks.in_flight
            ),
        ),
        ("align", write_duration(ticks.align)),
        ("commit", format!("every {}", write_duration(settings.commit_every))),
        ("checkpoint", format!("every {} at most", write_duration(settings.checkpoint_every))),
    ]
}

fn text(plan: &Plan) -> String {
    let mut out = String::new();
    part(&mut out, "job", &plan.name, &job_facts(plan));
    plan.sources.iter().for_each(|source| part(&mut out, "source", &source.name, &source_facts(source)));
    for step in &plan.steps {
        part(&mut out, &format!("step ({})", step.operator), &step.name, &step_facts(plan, step));
    }
    plan.sinks.iter().for_each(|sink| part(&mut out, "sink", &sink.name, &sink_facts(plan, sink)));
    out
}

fn part(out: &mut String, kind: &str, name: &str, facts: &Facts) {
    if !out.is_empty() {
        out.push('\n');
    }
    let mut line = |text: String| writeln!(out, "{}", text.trim_end()).expect("a string can be written to");
    line(format!("{kind} {name}"));
    facts.iter().for_each(|(name, value)| line(format!("  {name:<11} {value}")));
}

fn as_json(plan: &Plan) -> Value {
    let object = |name: &str, facts: Facts| {
        let mut map = serde_json::Map::new();
        map.insert("name".to_owned(), json!(name));
        for (fact, value) in facts {
            let key = fact.replace(' ', "_");
            match map.get_mut(&key) {
                None => {
                    let value = if fact == "keeps" { json!([value]) } else { json!(value) };
                    map.insert(key, value);
                }
                Some(Value::Array(values)) => values.push(json!(value)),
                Some(_) => {}
            }
        }
        Value::Object(map)
    };
    let step = |step: &PlannedStep| {
        let mut value = object(&step.name, step_facts(plan, step));
        value["operator"] = json!(step.operator);
        value["from"] = json!(step.inputs.iter().map(|input| plan.edge_name(input.from)).collect::<Vec<_>>());
        value["keys"] = json!(step.inputs.first().map(|input| input.keys.clone()).unwrap_or_default());
        value["state"] = json!(step.keeps);
        value.as_object_mut().map(|map| map.remove("keeps"));
        value["delays"] = json!(
            step.watermark
                .iter()
                .map(|path| json!({
                    "source": plan.sources[path.source].name,
                    "delay_ms": u64::try_from(path.delay.as_millis()).unwrap_or(u64::MAX),
                }))
                .collect::<Vec<_>>()
        );
        value
    };
    json!({
        "job": object(&plan.name, job_facts(plan)),
        "sources": plan.sources.iter().map(|source| object(&source.name, source_facts(source))).collect::<Vec<_>>(),
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "sinks": plan.sinks.iter().map(|sink| object(&sink.name, sink_facts(plan, sink))).collect::<Vec<_>>(),
    })
}

/// A part of the graph as it is drawn.
struct Drawn {
    id: String,
    label: Vec<String>,
    shape: Shape,
}

#[derive(Clone, Copy)]
enum Shape {
    Source,
    Step,
    Sink,
}

/// Returns the parts of the graph, and the arrows between them with what stands on each.
fn drawing(plan: &Plan) -> (Vec<Drawn>, Vec<(String, String, String)>) {
    let id = |edge: Edge| match edge {
        Edge::Source(index) | Edge::SourceBad(index) => format!("source_{index}"),
        Edge::Step(index) | Edge::StepLate(index) | Edge::StepBad(index) | Edge::StepSide(index, _) => {
            format!("step_{index}")
        }
    };
    let side = |edge: Edge| match edge {
        Edge::Source(_) | Edge::Step(_) => "",
        Edge::SourceBad(_) | Edge::StepBad(_) => "bad",
        Edge::StepLate(_) => "late",
        Edge::StepSide(index, side) => plan.steps[index].sides[side].name,
    };
    let mut parts = Vec::new();
    let mut arrows = Vec::new();
    for (index, source) in plan.sources.iter().enumerate() {
        let label = vec![source.name.clone(), source_facts(source)[0].1.clone()];
        parts.push(Drawn { id: format!("source_{index}"), label, shape: Shape::Source });
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let label = vec![step.name.clone(), step.operator.to_owned()];
        parts.push(Drawn { id: format!("step_{index}"), label, shape: Shape::Step });
        for input in &step.inputs {
            let key = if input.route.is_some() { format!("by {}", list(&input.keys)) } else { String::new() };
            let words = [side(input.from), key.as_str()];
            let on = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ");
            arrows.push((id(input.from), format!("step_{index}"), on));
        }
    }
    for (index, sink) in plan.sinks.iter().enumerate() {
        let label = vec![sink.name.clone(), sink_facts(plan, sink)[1].1.clone()];
        parts.push(Drawn { id: format!("sink_{index}"), label, shape: Shape::Sink });
        arrows.push((id(sink.from), format!("sink_{index}"), side(sink.from).to_owned()));
    }
    (parts, arrows)
}

fn dot(plan: &Plan) -> String {
    let (parts, arrows) = drawing(plan);
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = format!("digraph \"{}\" {{\n  rankdir=LR;\n", quoted(&plan.name));
    for part in parts {
        let shape = match part.shape {
            Shape::Source => "cylinder",
            Shape::Step => "box",
            Shape::Sink => "note",
        };
        let label = part.label.iter().map(|line| quoted(line)).collect::<Vec<_>>().join("\\n");
        writeln!(out, "  {} [shape={shape}, label=\"{label}\"];", part.id).expect("a string can be written to");
    }
    for (from, to, on) in arrows {
        let label = if on.is_empty() { String::new() } else { format!(" [label=\"{}\"]", quoted(&on)) };
        writeln!(out, "  {from} -> {to}{label};").expect("a string can be written to");
    }
    out.push_str("}\n");
    out
}

fn mermaid(plan: &Plan) -> String {
    let (parts, arrows) = drawing(plan);
    let quoted = |text: &str| text.replace('"', "#quot;");
    let mut out = "flowchart LR\n".to_owned();
    for part in parts {
        let (open, close) = match part.shape {
            Shape::Source => ("[(", ")]"),
            Shape::Step => ("[", "]"),
            Shape::Sink => ("[/", "/]"),
        };
        let label = part.label.iter().map(|line| quoted(line)).collect::<Vec<_>>().join("<br/>");
        writeln!(out, "  {}{open}\"{label}\"{close}", part.id).expect("a string can be written to");
    }
    for (from, to, on) in arrows {
        let label = if on.is_empty() { String::new() } else { format!("|\"{}\"|", quoted(&on)) };
        writeln!(out, "  {from} -->{label} {to}").expect("a string can be written to");
    }
    out
}

#[cfg(test)]
mod tests;
