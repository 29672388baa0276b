//! Puts the plan together: every step on exactly the columns it will be given. Nothing can be at fault any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use riverrun_dataflow::engine::routed_schema;
use riverrun_dataflow::graph::{Edge, StepWork, WatermarkPath, bad_columns};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_operators::attribute::{Attribute, AttributeSettings, Model};

use super::forward::{Forward, StepUses, row_schema};
use super::names::{Names, base};
use super::need::Needs;
use super::stream::indices;
use super::{Plan, PlannedInput, PlannedSink, PlannedSource, PlannedStep, operators};
use crate::spec::values::write_duration;
use crate::spec::{AttributeSpec, JobSpec, OperatorSpec};

/// Returns the plan of a job without faults.
pub(super) fn assemble(
    spec: &JobSpec,
    names: &Names,
    forward: &Forward<'_>,
    used: &BTreeSet<Edge>,
    needs: &Needs,
) -> Plan {
    let mut assembly = Assembly { spec, names, forward, needs, schemas: BTreeMap::new(), numbers: BTreeMap::new() };
    let mut order: Vec<usize> = (0..spec.sources.len()).filter(|index| used.contains(&Edge::Source(*index))).collect();
    order.sort_by_key(|index| &spec.sources[*index].name.value);
    let sources: Vec<PlannedSource> =
        order.iter().enumerate().map(|(number, index)| assembly.source(*index, number)).collect();
    let mut steps: Vec<PlannedStep> = Vec::new();
    for index in names.order.iter().filter(|index| used.contains(&Edge::Step(**index))) {
        let step = assembly.step(*index, &steps);
        assembly.numbers.insert(Edge::Step(*index), steps.len());
        steps.push(step);
    }
    let sinks = (0..spec.sinks.len()).map(|index| assembly.sink(index)).collect();
    let mut plan = Plan {
        name: spec.name.value.clone(),
        description: spec.description.clone(),
        settings: spec.settings.clone(),
        sources,
        steps,
        sinks,
        hash: String::new(),
        texts: forward.texts.to_vec(),
    };
    plan.hash = super::hash::hash(&plan);
    plan
}

struct Assembly<'a> {
    spec: &'a JobSpec,
    names: &'a Names,
    forward: &'a Forward<'a>,
    needs: &'a Needs,
    /// Schemas of what was put together so far, hidden columns included; edges as the job file numbers them.
    schemas: BTreeMap<Edge, SchemaRef>,
    /// From the numbers of the job file to those of the plan.
    numbers: BTreeMap<Edge, usize>,
}

/// What the parts of a step are, whatever its operator.
pub(super) struct Made {
    pub work: StepWork,
    pub schema: SchemaRef,
    pub late: Option<SchemaRef>,
    pub delay: Duration,
    pub does: Vec<(&'static str, String)>,
    pub keeps: Vec<String>,
}

impl Assembly<'_> {
    fn source(&mut self, index: usize, number: usize) -> PlannedSource {
        let source = &self.spec.sources[index];
        let need = self.needs.get(&Edge::Source(index)).cloned().unwrap_or_default();
        let projected: Vec<String> = source
            .columns
            .iter()
            .map(|column| column.value.name.clone())
            .filter(|name| need.columns.contains(name))
            .collect();
        let all = projected.len() == source.columns.len();
        let schema = row_schema(source, need.hidden.into_iter().collect(), (!all).then_some(projected));
        self.schemas.insert(Edge::Source(index), schema.arrow());
        self.schemas.insert(Edge::SourceBad(index), with_hidden(&bad_columns(), &[Hidden::Split]));
        self.numbers.insert(Edge::Source(index), number);
        PlannedSource {
            name: source.name.value.clone(),
            place: source.place.clone().expect("a source without a place is at fault"),
            format: source.format.clone(),
            schema: Arc::new(schema),
            max_disorder: source.max_disorder,
            max_future: source.max_future,
            idle_after: source.idle_after,
            event_times: source.event_times.clone(),
            on_bad_row: source.on_bad_row,
        }
    }

    fn renumbered(&self, edge: Edge) -> Edge {
        let number = self.numbers[&base(edge)];
        match edge {
            Edge::Source(_) => Edge::Source(number),
            Edge::SourceBad(_) => Edge::SourceBad(number),
            Edge::Step(_) => Edge::Step(number),
            Edge::StepLate(_) => Edge::StepLate(number),
            Edge::StepBad(_) => Edge::StepBad(number),
        }
    }

    fn edges(&self, step: usize) -> Vec<Edge> {
        self.names.inputs[step].iter().map(|edge| edge.expect("a step without faults has its inputs")).collect()
    }

    fn step(&mut self, index: usize, before: &[PlannedStep]) -> PlannedStep {
        let step = &self.spec.steps[index];
        let edges = self.edges(index);
        let keys: Option<Vec<String>> = match &step.operator {
            OperatorSpec::Select(_) | OperatorSpec::Union(_) => None,
            OperatorSpec::Window(window) => Some(window.by.iter().map(|key| key.value.clone()).collect()),
            OperatorSpec::Attribute(attribute) => Some(attribute.by.iter().map(|key| key.value.clone()).collect()),
        };
        let given: Vec<SchemaRef> = edges.iter().map(|edge| self.schemas[edge].clone()).collect();
        let schemas: Vec<SchemaRef> = match keys {
            None => given.clone(),
            Some(_) => given.iter().map(routed_schema).collect(),
        };
        let uses = self.forward.uses.get(&index).cloned().unwrap_or_default();
        let made = self.make(index, &step.operator, &uses, &schemas);
        let inputs = edges.iter().zip(&given).map(|(edge, schema)| PlannedInput {
            from: self.renumbered(*edge),
            route: keys.as_ref().map(|keys| indices(schema, keys)),
            keys: keys.clone().unwrap_or_default(),
        });
        let inputs: Vec<PlannedInput> = inputs.collect();
        let late = made.late.filter(|_| self.needs.contains_key(&Edge::StepLate(index)));
        self.schemas.insert(Edge::Step(index), made.schema.clone());
        self.schemas.insert(Edge::StepBad(index), with_hidden(&bad_columns(), &[Hidden::Split]));
        if let Some(late) = &late {
            self.schemas.insert(Edge::StepLate(index), late.clone());
        }
        PlannedStep {
            name: step.name.value.clone(),
            operator: step.operator.name(),
            watermark: paths(&inputs, before),
            inputs,
            work: made.work,
            schema: made.schema,
            late,
            bad: self.needs.contains_key(&Edge::StepBad(index)),
            delay: made.delay,
            does: made.does,
            keeps: made.keeps,
        }
    }

    fn make(&self, index: usize, operator: &OperatorSpec, uses: &StepUses, schemas: &[SchemaRef]) -> Made {
        let expressions = &self.forward.expressions;
        match operator {
            OperatorSpec::Select(select) => {
                let need = self.needs.get(&Edge::Step(index)).cloned().unwrap_or_default();
                operators::select(expressions, select, uses, &need.columns, &schemas[0])
            }
            OperatorSpec::Union(_) => operators::union(schemas),
            OperatorSpec::Window(window) => operators::window(expressions, window, &schemas[0]),
            OperatorSpec::Attribute(attribute) => {
                let edges = self.edges(index);
                let disorder = |edge: Edge| match edge {
                    Edge::Source(source) => self.spec.sources[source].max_disorder,
                    _ => Duration::ZERO,
                };
                let slack = edges.iter().map(|edge| disorder(*edge)).max().unwrap_or_default();
                make_attribute(attribute, schemas, slack)
            }
        }
    }

    fn sink(&self, index: usize) -> PlannedSink {
        let sink = &self.spec.sinks[index];
        let edge = self.names.sinks[index].expect("a sink without faults has its input");
        let schema = self.schemas[&edge].clone();
        let key = sink.key.as_ref().map(|key| {
            let names: Vec<String> = key.iter().map(|name| name.value.clone()).collect();
            indices(&schema, &names)
        });
        PlannedSink {
            name: sink.name.value.clone(),
            from: self.renumbered(edge),
            place: sink.place.clone().expect("a sink without a place is at fault"),
            format: sink.format.clone(),
            schema,
            key,
        }
    }
}

fn make_attribute(attribute: &AttributeSpec, schemas: &[SchemaRef], slack: Duration) -> Made {
    let keys: Vec<String> = attribute.by.iter().map(|key| key.value.clone()).collect();
    let has_id = schemas[0].column_with_name(Hidden::Id.name()).is_some();
    let dedupe_for = Some(attribute.dedupe_for).filter(|span| has_id && *span > Duration::ZERO);
    let settings = AttributeSettings {
        conversion_keys: indices(&schemas[0], &keys),
        touch_keys: indices(&schemas[1], &keys),
        window: attribute.window,
        model: match attribute.model.as_str() {
            "first_touch" => Model::FirstTouch,
            _ => Model::LastTouch,
        },
        dedupe_for,
        bounds: Default::default(),
    };
    let bounds = settings.bounds;
    let step = Attribute::new(settings, &schemas[0], &schemas[1]).expect("keys and schemas were checked");
    let held = write_duration(attribute.window + slack);
    let mut keeps = vec![
        format!(
            "touches: {held} of event time behind the watermark and ahead of it, at most {} a worker",
            bounds.max_touches
        ),
        format!("pending conversions: until the watermark passes them, at most {} a worker", bounds.max_pending),
    ];
    if let Some(span) = dedupe_for {
        let span = write_duration(span);
        keeps.push(format!("ids of conversions: {span} of event time, at most {} a worker", bounds.max_seen));
    }
    let does = vec![
        ("by", keys.join(", ")),
        ("window", write_duration(attribute.window)),
        ("model", attribute.model.clone()),
        ("dedupe_for", dedupe_for.map_or("off: the conversions have no id".to_owned(), write_duration)),
    ];
    Made {
        schema: step.schema().clone(),
        late: Some(step.late_schema().clone()),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        delay: Duration::ZERO,
        does,
        keeps,
    }
}

/// Returns from which sources the watermark of these inputs follows, with the delays on the way; the slowest way counts.
fn paths(inputs: &[PlannedInput], before: &[PlannedStep]) -> Vec<WatermarkPath> {
    let mut slowest: BTreeMap<usize, Duration> = BTreeMap::new();
    let mut add = |source: usize, delay: Duration| {
        let known = slowest.entry(source).or_default();
        *known = (*known).max(delay);
    };
    for input in inputs {
        match base(input.from) {
            Edge::Source(source) => add(source, Duration::ZERO),
            Edge::Step(step) => {
                let step = &before[step];
                step.watermark.iter().for_each(|path| add(path.source, path.delay + step.delay));
            }
            _ => {}
        }
    }
    slowest.into_iter().map(|(source, delay)| WatermarkPath { source, delay }).collect()
}
