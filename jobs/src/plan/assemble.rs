//! Puts the plan together: every step on exactly the columns it will be given. Nothing can be at fault any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use riverrun_connectors::format::SurroundSpec;
use riverrun_connectors::start::Start;
use riverrun_dataflow::engine::routed_schema;
use riverrun_dataflow::graph::{Edge, StepWork, WatermarkPath, bad_columns};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_operators::attribute::{Attribute, AttributeSettings, Model};

use super::forward::{Forward, StepUses, row_schema};
use super::names::{Names, base};
use super::need::Needs;
use super::stream::indices;
use super::{Plan, PlannedInput, PlannedSide, PlannedSink, PlannedSource, PlannedStep, behaviour, operators, sessions};
use crate::spec::values::write_duration;
use crate::spec::{AttributeSpec, JobSpec, OperatorSpec};
use crate::yaml::Spanned;

/// Returns the plan of a job without faults.
pub(super) fn assemble(
    spec: &JobSpec,
    names: &Names,
    forward: &Forward<'_>,
    used: &BTreeSet<Edge>,
    needs: &Needs,
) -> Plan {
    let (schemas, keyed, disorders, numbers) = Default::default();
    let mut assembly = Assembly { spec, names, forward, needs, schemas, keyed, disorders, numbers };
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
        shape: Default::default(),
        texts: forward.texts.to_vec(),
        past: None,
    };
    plan.hash = super::hash::hash(&plan);
    plan.shape = super::shape::shape(&plan, names, forward, used);
    plan
}

struct Assembly<'a> {
    spec: &'a JobSpec,
    names: &'a Names,
    forward: &'a Forward<'a>,
    needs: &'a Needs,
    /// Schemas of what was put together so far, hidden columns included; edges as the job file numbers them.
    schemas: BTreeMap<Edge, SchemaRef>,
    /// The key by which the rows of a stream are on the worker of their shard, in the stream's own names.
    keyed: BTreeMap<Edge, Vec<String>>,
    /// The `max_disorder` of the plan's sources.
    disorders: Vec<Duration>,
    /// From the numbers of the job file to those of the plan.
    numbers: BTreeMap<Edge, usize>,
}

/// What the parts of a step are, whatever its operator.
pub(super) struct Made {
    pub work: StepWork,
    pub schema: SchemaRef,
    pub late: Option<SchemaRef>,
    /// Of each side output of its own.
    pub sides: Vec<SchemaRef>,
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
        self.disorders.push(source.max_disorder);
        PlannedSource {
            name: source.name.value.clone(),
            place: source.place.clone().expect("a source without a place is at fault"),
            format: source.format.clone(),
            schema: Arc::new(schema),
            max_disorder: source.max_disorder,
            max_future: source.max_future,
            idle_after: source.idle_after,
            event_times: source.event_times.clone(),
            end: Start::Latest,
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
            Edge::StepSide(_, side) => Edge::StepSide(number, side),
        }
    }

    fn edges(&self, step: usize) -> Vec<Edge> {
        self.names.inputs[step].iter().map(|edge| edge.expect("a step without faults has its inputs")).collect()
    }

    fn step(&mut self, index: usize, before: &[PlannedStep]) -> PlannedStep {
        let step = &self.spec.steps[index];
        let edges = self.edges(index);
        let given: Vec<SchemaRef> = edges.iter().map(|edge| self.schemas[edge].clone()).collect();
        let own = || behaviour::keys(&step.operator, &given[0]).map(|keys| vec![keys]);
        let keys = step.operator.keys().or_else(own);
        let key = |input: usize| keys.as_ref().map(|keys| &keys[input]);
        // Steps whose keys agree are chained: their rows are on the right worker already, with the right hash.
        let there: Vec<bool> =
            edges.iter().enumerate().map(|(at, edge)| keys.is_some() && self.keyed.get(edge) == key(at)).collect();
        let arriving = |(schema, there): (&SchemaRef, &bool)| match keys.is_some() && !there {
            true => routed_schema(schema),
            false => schema.clone(),
        };
        let schemas: Vec<SchemaRef> = given.iter().zip(&there).map(arriving).collect();
        let uses = self.forward.uses.get(&index).cloned().unwrap_or_default();
        let inputs = (0..edges.len()).map(|at| PlannedInput {
            from: self.renumbered(edges[at]),
            route: key(at).filter(|_| !there[at]).map(|keys| indices(&given[at], keys)),
            keys: key(at).into_iter().flatten().map(|key| key.trim_start_matches("__").to_owned()).collect(),
        });
        let inputs: Vec<PlannedInput> = inputs.collect();
        let watermark = paths(&inputs, before);
        // How far the watermark of these inputs is behind the newest row.
        let slack = watermark.iter().map(|path| path.delay + self.disorders[path.source]).max().unwrap_or_default();
        let made = self.make(index, &uses, &schemas, slack);
        let key = key(0).cloned().or_else(|| self.carried_key(&step.operator, &uses, edges[0]));
        if let Some(key) = key {
            self.keyed.insert(Edge::Step(index), key);
        }
        let late = made.late.filter(|_| self.needs.contains_key(&Edge::StepLate(index)));
        self.schemas.insert(Edge::Step(index), made.schema.clone());
        self.schemas.insert(Edge::StepBad(index), with_hidden(&bad_columns(), &[Hidden::Split]));
        if let Some(late) = &late {
            self.schemas.insert(Edge::StepLate(index), late.clone());
        }
        let mut sides = Vec::new();
        for (number, (name, schema)) in step.operator.sides().into_iter().zip(made.sides).enumerate() {
            let edge = Edge::StepSide(index, number);
            self.schemas.insert(edge, schema.clone());
            sides.push(PlannedSide { name, schema: Some(schema).filter(|_| self.needs.contains_key(&edge)) });
        }
        PlannedStep {
            name: step.name.value.clone(),
            was: step.was.clone(),
            operator: step.operator.name(),
            watermark,
            inputs,
            work: made.work,
            schema: made.schema,
            late,
            bad: self.needs.contains_key(&Edge::StepBad(index)),
            sides,
            delay: made.delay,
            does: made.does,
            keeps: made.keeps,
        }
    }

    /// Returns the key of a select's rows: that of its input, if all of its columns are still there.
    fn carried_key(&self, operator: &OperatorSpec, uses: &StepUses, input: Edge) -> Option<Vec<String>> {
        let key = self.keyed.get(&input).filter(|_| matches!(operator, OperatorSpec::Select(_)))?;
        let Some(columns) = &uses.columns else { return Some(key.clone()) };
        let renamed = |name: &String| {
            let column = columns.iter().find(|column| column.plain && column.uses.first() == Some(name))?;
            Some(column.name.clone())
        };
        key.iter().map(renamed).collect()
    }

    fn make(&self, index: usize, uses: &StepUses, schemas: &[SchemaRef], slack: Duration) -> Made {
        let expressions = &self.forward.expressions;
        let read = [0, 1].map(|side| self.needs.contains_key(&Edge::StepSide(index, side)));
        match &self.spec.steps[index].operator {
            OperatorSpec::Select(select) => {
                let need = self.needs.get(&Edge::Step(index)).cloned().unwrap_or_default();
                operators::select(expressions, select, uses, &need.columns, &schemas[0])
            }
            OperatorSpec::Union(_) => operators::union(schemas),
            OperatorSpec::Window(window) => operators::window(expressions, window, &schemas[0]),
            OperatorSpec::Attribute(attribute) => match &attribute.ledger {
                Some(ledger) => super::ledger::make(attribute, ledger, schemas, read, slack),
                None => make_attribute(attribute, schemas, slack),
            },
            OperatorSpec::Deduplicate(spec) => super::deduplicate::make(spec, &schemas[0], read, slack),
            OperatorSpec::Join(join) => super::join::make(join, schemas, slack),
            OperatorSpec::Sessionize(step) => sessions::made(expressions, step, &schemas[0]),
            OperatorSpec::Frustration(spec) => behaviour::make_frustration(spec, &schemas[0], slack),
            OperatorSpec::Incidents(spec) => behaviour::make_incidents(spec, &schemas[0], slack),
            OperatorSpec::Problems(spec) => behaviour::make_problems(spec, &schemas[0], slack),
            OperatorSpec::ScrollBaseline(spec) => behaviour::make_scroll_baseline(spec, &schemas[0], slack),
            OperatorSpec::Funnel(spec) => super::funnel::make(expressions, spec, &schemas[0]),
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
        let header = |(name, column): &(Spanned<String>, Spanned<String>)| {
            let at = indices(&schema, std::slice::from_ref(&column.value));
            (name.value.clone(), at[0])
        };
        let surround = SurroundSpec { headers: sink.headers.iter().map(header).collect(), op: sink.op.value };
        PlannedSink {
            name: sink.name.value.clone(),
            from: self.renumbered(edge),
            place: sink.place.clone().expect("a sink without a place is at fault"),
            format: sink.format.clone(),
            schema,
            key,
            partitioner: sink.partitioner,
            surround,
            like: None,
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
        bounds: attribute.bounds,
    };
    let bounds = settings.bounds;
    let step = Attribute::new(settings, &schemas[0], &schemas[1]).expect("keys and schemas were checked");
    let behind = behind(slack);
    let window = write_duration(attribute.window);
    let mut keeps = vec![
        format!(
            "touches: {window} of event time{behind}; at most {} a worker, {} of one key",
            bounds.max_touches, bounds.max_touches_per_key
        ),
        format!("waiting conversions: until the watermark passes them; at most {} a worker", bounds.max_pending),
    ];
    if let Some(span) = dedupe_for {
        let span = write_duration(span);
        keeps.push(format!("ids of conversions: {span} of event time; at most {} a worker", bounds.max_seen));
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
        sides: Vec::new(),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        delay: Duration::ZERO,
        does,
        keeps,
    }
}

/// Says from where a span of event time that is kept is counted.
pub(super) fn behind(slack: Duration) -> String {
    match slack.is_zero() {
        true => String::new(),
        false => format!(" behind the watermark, itself {} behind the newest row", write_duration(slack)),
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
