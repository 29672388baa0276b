//! The plan's shape: what an upgrade must know of it, beside its hash. See [`riverrun_state::shape`].
//!
//! A column is followed from the source on: what stands in it is told by the names of what it was made of and by the
//! expressions on the way, never by types, which stand beside it.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_connectors::format::{CsvOptions, EncodeSpec, FormatSpec, OpAs, Timestamps};
use riverrun_dataflow::graph::{Edge, ShardRange, StepWork};
use riverrun_dataflow::operator::{STATE_COLUMNS, TableSpec};
use riverrun_dataflow::partitioner::Partitioner;
use riverrun_dataflow::schema::{Hidden, visible_of};
use riverrun_dataflow::time::micros_of;
use riverrun_operators::{attribute, deduplicate, join, sessionize, window};
use riverrun_state::shape::{ColumnShape, Role, Shape, SinkShape, SourceShape, StepShape, TableShape};
use xxhash_rust::xxh3::xxh3_64;

use super::forward::Forward;
use super::names::Names;
use super::{Plan, PlannedSink, PlannedSource, PlannedStep, behaviour};
use crate::spec::values::write_duration;
use crate::spec::{
    AttributeSpec, ClocksSpec, OperatorSpec, SelectSpec, SessionizeSpec, SinkPlace, SourcePlace, SourceSpec, WindowSpec,
};
use crate::yaml::Spanned;

/// Where the rows of a stream come from.
#[derive(Clone, Default)]
pub(super) struct Origin {
    /// Which rows they are.
    pub rows: String,
    /// What stands in each column, hidden ones among them.
    pub columns: BTreeMap<String, String>,
}

impl Origin {
    pub(super) fn of(&self, column: &str) -> String {
        self.columns.get(column).cloned().unwrap_or_default()
    }
}

/// Returns the shape of `plan`, which was made of the job that `forward` followed.
pub(super) fn shape(plan: &Plan, names: &Names, forward: &Forward<'_>, used: &BTreeSet<Edge>) -> Shape {
    let mut origins: BTreeMap<Edge, Origin> = BTreeMap::new();
    for (index, source) in forward.spec.sources.iter().enumerate() {
        origins.insert(Edge::Source(index), source_origin(source));
        origins.insert(Edge::SourceBad(index), Origin::default());
    }
    let mut steps = Vec::new();
    for index in &names.order {
        let inputs: Vec<Edge> = names.inputs[*index].iter().flatten().copied().collect();
        let from: Vec<Origin> = inputs.iter().map(|edge| origins.get(edge).cloned().unwrap_or_default()).collect();
        let step = Step { index: *index, name: &forward.spec.steps[*index].name.value, inputs: &inputs, from: &from };
        let origin = step.origin(forward);
        if used.contains(&Edge::Step(*index)) {
            let planned = plan.steps.iter().find(|planned| planned.name == *step.name);
            steps.extend(planned.map(|planned| step.shape(plan, planned, forward)));
        }
        let late = Origin { rows: format!("{}.late", step.name), columns: from[0].columns.clone() };
        origins.insert(Edge::Step(*index), origin);
        for (number, side) in forward.spec.steps[*index].operator.sides().iter().enumerate() {
            let rows = format!("{}.{side}", step.name);
            origins.insert(Edge::StepSide(*index, number), Origin { rows, columns: from[0].columns.clone() });
        }
        origins.insert(Edge::StepLate(*index), late);
        origins.insert(Edge::StepBad(*index), Origin::default());
        for (number, side) in forward.spec.steps[*index].operator.sides().into_iter().enumerate() {
            let origin = Origin { rows: format!("{}.{side}", step.name), columns: from[0].columns.clone() };
            origins.insert(Edge::StepSide(*index, number), origin);
        }
    }
    let sources = plan.sources.iter().map(|source| SourceShape { name: source.name.clone(), place: place_of(source) });
    Shape { sources: sources.collect(), steps, sinks: plan.sinks.iter().map(sink_shape).collect() }
}

/// Returns a short text that stands for a long one.
pub(super) fn short(text: &str) -> String {
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

fn place_of(source: &PlannedSource) -> String {
    match (&source.place, &source.format) {
        (SourcePlace::Topic { name: topic, .. }, _) => format!("topic {}", topic.value),
        // Positions in a columnar file are rows, in others bytes.
        (SourcePlace::File(path), FormatSpec::Parquet) => format!("parquet file {}", path.value),
        (SourcePlace::File(path), _) => format!("file {}", path.value),
    }
}

fn sink_shape(sink: &PlannedSink) -> SinkShape {
    let place = match &sink.place {
        SinkPlace::Topic { name, .. } => format!("topic {}", name.value),
        SinkPlace::File(path) => format!("file {}", path.value),
        SinkPlace::Lake(lake) => {
            format!("lake {}, by {}, {}", lake.path.value, lake.partition_by.word(), lake.layout.word())
        }
        SinkPlace::Console => "console".to_owned(),
    };
    let format = match &sink.format {
        EncodeSpec::Json { timestamps: Timestamps::Rfc3339 } => "json".to_owned(),
        EncodeSpec::Json { timestamps: Timestamps::EpochMillis } => "json, timestamps: epoch_ms".to_owned(),
        EncodeSpec::Avro(_) => "avro".to_owned(),
        EncodeSpec::Csv(CsvOptions { header, delimiter, null }) => {
            // A reader of CSV knows columns by their place.
            let columns: Vec<String> = visible_of(&sink.schema).iter().map(|field| field.name().clone()).collect();
            let head = if *header { "with" } else { "without" };
            let delimiter = char::from(*delimiter);
            format!("csv of {}, {head} header, delimiter {delimiter:?}, null {null:?}", columns.join(", "))
        }
        EncodeSpec::Parquet => "parquet".to_owned(),
    };
    let format = match sink.surround.op {
        OpAs::Field => format,
        OpAs::Header => format!("{format}, op: header"),
        OpAs::Tombstone => format!("{format}, op: tombstone"),
    };
    // Rows of one key would lie in two partitions, and no reader could tell which is the later one.
    let format = match sink.partitioner {
        Partitioner::Shard => format,
        Partitioner::Murmur2 => format!("{format}, partitioner: murmur2"),
    };
    SinkShape { name: sink.name.clone(), place, format }
}

fn source_origin(source: &SourceSpec) -> Origin {
    let name = &source.name.value;
    let of = |column: &str| format!("{name}.{column}");
    let mut columns: BTreeMap<String, String> = BTreeMap::new();
    for column in &source.columns {
        let place = column.value.meta.as_ref().map_or_else(|| column.value.path.join("."), |meta| format!("({meta})"));
        columns.insert(column.value.name.clone(), of(&place));
    }
    let hidden = [(Hidden::Time, &source.event_time), (Hidden::Id, &source.id)];
    for (hidden, named) in hidden {
        let what = named.as_ref().and_then(|named| columns.get(&named.value)).cloned();
        columns.insert(hidden.name().to_owned(), what.unwrap_or_default());
    }
    if let (Some(clocks), Some(time)) = (&source.clocks, columns.get_mut(Hidden::Time.name())) {
        let ClocksSpec { client, sent, received, .. } = &clocks.value;
        for clock in [Some(client), sent.as_ref(), Some(received)].into_iter().flatten() {
            time.push_str(&format!(" or {}", of(&clock.value)));
        }
    }
    Origin { rows: name.clone(), columns }
}

/// A step and what it reads.
struct Step<'a> {
    index: usize,
    name: &'a str,
    inputs: &'a [Edge],
    from: &'a [Origin],
}

/// What the job file says of a step.
#[derive(Default)]
struct Said {
    /// What its state means; another meaning is another state.
    meaning: BTreeMap<String, String>,
    /// What may change under its state.
    settings: BTreeMap<String, String>,
    lateness: i64,
}

impl Step<'_> {
    fn origin(&self, forward: &Forward<'_>) -> Origin {
        match &forward.spec.steps[self.index].operator {
            OperatorSpec::Select(select) => self.selected(select, forward),
            OperatorSpec::Union(_) => self.united(),
            OperatorSpec::Window(window) => self.windowed(window, forward),
            OperatorSpec::Attribute(attribute) if attribute.ledger.is_some() => {
                super::ledger::origin(self.name, attribute, self.from)
            }
            OperatorSpec::Attribute(attribute) => self.attributed(attribute),
            OperatorSpec::Deduplicate(spec) => super::deduplicate::origin(self.name, spec, &self.from[0]),
            OperatorSpec::Join(join) => super::join::origin(self.name, join, self.from),
            OperatorSpec::Sessionize(step) => self.sessionized(step, forward),
            OperatorSpec::Frustration(_)
            | OperatorSpec::Incidents(_)
            | OperatorSpec::Problems(_)
            | OperatorSpec::ScrollBaseline(_) => self.watched(forward),
            OperatorSpec::Funnel(spec) => {
                let given = forward.streams.get(&Edge::Step(self.index)).map_or(&[][..], |stream| &stream.columns);
                super::funnel::origin(self.name, spec, &self.from[0], given)
            }
        }
    }

    /// Returns an expression and what its columns are, as one text.
    fn computed<'c>(&self, sql: &str, columns: impl IntoIterator<Item = &'c str>) -> String {
        let columns: BTreeSet<&str> = columns.into_iter().collect();
        let parts: Vec<String> = columns.into_iter().map(|column| self.from[0].of(column)).collect();
        format!("{sql} of {}", short(&parts.join("\n")))
    }

    fn selected(&self, select: &SelectSpec, forward: &Forward<'_>) -> Origin {
        let input = &self.from[0];
        let schema = forward.streams.get(&self.inputs[0]).map(|stream| stream.schema());
        let compile = |sql: &str| forward.expressions.compile(sql, schema.as_ref()?).ok();
        let mut origin = Origin { rows: input.rows.clone(), columns: input.columns.clone() };
        if let Some(condition) = select.condition.as_ref().and_then(|condition| compile(&condition.value)) {
            let columns = condition.columns().iter().map(String::as_str);
            origin.rows = short(&format!("{} where {}", input.rows, self.computed(condition.sql(), columns)));
        }
        let uses = forward.uses.get(&self.index).and_then(|uses| uses.columns.as_ref());
        if let Some(columns) = uses {
            origin.columns.retain(|name, _| riverrun_dataflow::schema::is_hidden(name));
            for column in columns {
                let of = match (column.plain, column.uses.first()) {
                    (true, Some(plain)) => input.of(plain),
                    _ => {
                        let sql = compile(&column.sql).map_or_else(|| column.sql.clone(), |it| it.sql().to_owned());
                        self.computed(&sql, column.uses.iter().map(String::as_str))
                    }
                };
                origin.columns.insert(column.name.clone(), of);
            }
        }
        origin
    }

    fn united(&self) -> Origin {
        let several = |texts: BTreeSet<String>| match texts.len() {
            1 => texts.into_iter().next().unwrap_or_default(),
            _ => short(&texts.into_iter().collect::<Vec<_>>().join("\n")),
        };
        let names: BTreeSet<&String> = self.from.iter().flat_map(|origin| origin.columns.keys()).collect();
        let columns = names.into_iter().map(|name| {
            let what = several(self.from.iter().map(|origin| origin.of(name)).collect());
            (name.clone(), what)
        });
        Origin {
            rows: several(self.from.iter().map(|origin| origin.rows.clone()).collect()),
            columns: columns.collect(),
        }
    }

    fn windowed(&self, window: &WindowSpec, forward: &Forward<'_>) -> Origin {
        let own = |what: &str| format!("{}.{what}", self.name);
        let mut columns: BTreeMap<String, String> =
            ["window_start", "window_end"].map(|name| (name.to_owned(), own(name))).into();
        columns.extend(window.by.iter().map(|key| (key.value.clone(), self.from[0].of(&key.value))));
        columns.extend(self.aggregates(&window.aggregates, forward));
        columns.insert(Hidden::Time.name().to_owned(), own("window_end"));
        Origin { rows: own("rows"), columns }
    }

    /// Returns what each aggregate is.
    fn aggregates(
        &self,
        aggregates: &[(Spanned<String>, Spanned<String>)],
        forward: &Forward<'_>,
    ) -> BTreeMap<String, String> {
        let schema = forward.streams.get(&self.inputs[0]).map(|stream| stream.schema());
        let of = |sql: &str| match schema.as_ref().map(|schema| forward.expressions.compile_aggregate(sql, schema)) {
            // Where order matters, ids are part of what is kept.
            Some(Ok(aggregate)) if aggregate.needs_order() => {
                self.computed(&aggregate.sql(), aggregate.columns().chain([Hidden::Id.name()]))
            }
            Some(Ok(aggregate)) => self.computed(&aggregate.sql(), aggregate.columns()),
            _ => sql.to_owned(),
        };
        aggregates.iter().map(|(name, sql)| (name.value.clone(), of(&sql.value))).collect()
    }

    fn sessionized(&self, step: &SessionizeSpec, forward: &Forward<'_>) -> Origin {
        let own = |what: &str| format!("{}.{what}", self.name);
        let fixed = sessionize::SESSION_COLUMNS.iter().chain(&sessionize::BOT_COLUMNS);
        let mut columns: BTreeMap<String, String> = fixed.map(|name| ((*name).to_owned(), own(name))).collect();
        columns.extend(step.by.iter().map(|key| (key.value.clone(), self.from[0].of(&key.value))));
        columns.extend(self.aggregates(&step.aggregates, forward));
        columns.insert(Hidden::Time.name().to_owned(), own("session_end"));
        Origin { rows: own("rows"), columns }
    }

    /// Returns a condition on the rows of the input, and what its columns are.
    fn condition(&self, sql: &Spanned<String>, forward: &Forward<'_>) -> String {
        let schema = forward.streams.get(&self.inputs[0]).map(|stream| stream.schema());
        match schema.map(|schema| forward.expressions.compile(&sql.value, &schema)) {
            Some(Ok(compiled)) => self.computed(compiled.sql(), compiled.columns().iter().map(String::as_str)),
            Some(Err(_)) => sql.value.clone(),
            None => String::new(),
        }
    }

    /// Returns what decides where a session begins and ends: state of another rule is of other sessions.
    fn session_meaning(&self, step: &SessionizeSpec, forward: &Forward<'_>) -> Vec<(&'static str, String)> {
        let condition =
            |sql: &Option<Spanned<String>>| sql.as_ref().map_or_else(String::new, |sql| self.condition(sql, forward));
        let mut meaning = vec![
            ("state version", sessionize::STATE_VERSION.to_string()),
            ("tenant", step.tenant.as_ref().map_or_else(String::new, |tenant| tenant.value.clone())),
            ("gap", write_duration(step.gap)),
            ("max_duration", write_duration(step.max_duration)),
            // Rows that had left by the former lateness would come back by a longer one.
            ("lateness", write_duration(step.lateness)),
            ("behaviour", step.behaviour.is_some().to_string()),
            ("mode", if step.live { "live" } else { "final" }.to_owned()),
            ("extend_when", condition(&step.extend_when)),
            ("leave_when", condition(&step.leave_when)),
            ("midnight", step.midnight.as_ref().map_or_else(String::new, |place| place.value.clone())),
        ];
        meaning.extend(
            step.splits(|column| self.from[0].columns.contains_key(column))
                .into_iter()
                .map(|(word, column)| (word, column.map_or_else(String::new, |column| self.from[0].of(&column.value)))),
        );
        meaning
    }

    fn attributed(&self, attribute: &AttributeSpec) -> Origin {
        let own = |what: &str| format!("{}.{what}", self.name);
        let mut columns = self.from[0].columns.clone();
        columns.extend(self.from[1].columns.iter().map(|(name, of)| (format!("touch_{name}"), own(of))));
        for name in ["attributed", "model", "weight_ppm", "time_to_convert_ms"] {
            columns.insert(name.to_owned(), format!("{} by {}", own(name), attribute.model));
        }
        Origin { rows: self.from[0].rows.clone(), columns }
    }

    /// Returns the rows of a behaviour step: the keys are those of its input, all else is its own.
    fn watched(&self, forward: &Forward<'_>) -> Origin {
        let own = |what: &str| format!("{}.{what}", self.name);
        let columns = forward.streams.get(&Edge::Step(self.index)).map(|stream| stream.columns.clone());
        let mut origin = Origin { rows: own("rows"), columns: BTreeMap::new() };
        let hidden = Hidden::Time.name().to_owned();
        let names = columns.unwrap_or_default().into_iter().map(|field| field.name().clone()).chain([hidden]);
        origin.columns.extend(names.map(|name| {
            let of = own(&name);
            (name, of)
        }));
        origin.columns.extend(self.behaviour_keys(forward).into_iter().map(|key| {
            let of = self.from[0].of(&key);
            (key, of)
        }));
        origin
    }

    fn behaviour_keys(&self, forward: &Forward<'_>) -> Vec<String> {
        let input = forward.streams.get(&self.inputs[0]).map(|stream| stream.schema());
        input.and_then(|input| behaviour::keys(&forward.spec.steps[self.index].operator, &input)).unwrap_or_default()
    }

    /// Returns what the job file says of the step.
    fn said(&self, forward: &Forward<'_>) -> Said {
        let keys =
            |by: &[crate::yaml::Spanned<String>]| by.iter().map(|key| key.value.clone()).collect::<Vec<_>>().join(", ");
        let named = |pairs: &[(&str, String)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let Said { mut meaning, mut settings, mut lateness } = Said::default();
        match &forward.spec.steps[self.index].operator {
            OperatorSpec::Window(window) => {
                let (size, every) = (write_duration(window.size.value), write_duration(window.every.value));
                let state = window::STATE_VERSION.to_string();
                meaning =
                    named(&[("state version", state), ("by", keys(&window.by)), ("size", size), ("every", every)]);
                settings = named(&[("lateness", write_duration(window.lateness))]);
                lateness = micros_of(window.lateness);
            }
            OperatorSpec::Attribute(spec @ AttributeSpec { ledger: Some(ledger), .. }) => {
                meaning = named(&super::ledger::meaning(spec, ledger));
                settings = named(&super::ledger::settings(spec, ledger));
                lateness = micros_of(ledger.lateness);
            }
            OperatorSpec::Sessionize(step) => {
                meaning = named(&self.session_meaning(step, forward));
                meaning.insert("by".to_owned(), keys(&step.by));
                lateness = micros_of(step.lateness);
            }
            OperatorSpec::Attribute(spec) => {
                meaning = named(&[("state version", attribute::STATE_VERSION.to_string()), ("by", keys(&spec.by))]);
                settings = named(&[
                    ("window", write_duration(spec.window)),
                    ("model", spec.model.clone()),
                    ("dedupe_for", write_duration(spec.dedupe_for)),
                ]);
            }
            OperatorSpec::Deduplicate(spec) => {
                let state = deduplicate::STATE_VERSION.to_string();
                meaning = named(&[("state version", state), ("by", spec.key().join(", "))]);
                let (within, late) = (write_duration(spec.within), write_duration(spec.lateness));
                settings = named(&[("within", within), ("lateness", late)]);
                lateness = micros_of(spec.lateness);
            }
            OperatorSpec::Join(spec) => {
                let kind = if spec.is_left { "left" } else { "inner" };
                let state = join::STATE_VERSION.to_string();
                meaning = named(&[("state version", state), ("on", spec.on_text()), ("kind", kind.to_owned())]);
                settings = named(&[
                    ("within", spec.within_text()),
                    ("prefix", spec.prefix.value.clone()),
                    ("max_per_key", spec.max_per_key.to_string()),
                ]);
            }
            OperatorSpec::Funnel(spec) => {
                meaning = super::funnel::meaning(spec, &self.from[0], |sql| self.condition(sql, forward));
                settings = named(&[("give", if spec.is_by_step { "steps" } else { "journeys" }.to_owned())]);
                lateness = micros_of(spec.lateness);
            }
            operator => {
                if let Some(version) = behaviour::state_version(operator) {
                    let by = self.behaviour_keys(forward).join(", ");
                    meaning = named(&[("state version", version.to_string()), ("by", by)]);
                    settings = named(&behaviour::settings_of(operator));
                    lateness = micros_of(behaviour::lateness_of(operator));
                }
            }
        }
        Said { meaning, settings, lateness }
    }

    fn shape(&self, plan: &Plan, planned: &PlannedStep, forward: &Forward<'_>) -> StepShape {
        let Said { meaning, settings, lateness } = self.said(forward);
        let tables = match &planned.work {
            StepWork::Transform(_) => Vec::new(),
            StepWork::Operator(make) => {
                let all = ShardRange { worker: 0, workers: 1, shards: plan.settings.shards };
                make(all).tables().iter().map(|table| self.table(table, forward)).collect()
            }
        };
        let watermark =
            planned.watermark.iter().map(|way| (plan.sources[way.source].name.clone(), micros_of(way.delay)));
        StepShape {
            name: self.name.to_owned(),
            operator: planned.operator.to_owned(),
            meaning,
            settings,
            rows: self.from.iter().map(|origin| origin.rows.clone()).collect(),
            lateness,
            watermark: watermark.collect(),
            tables,
        }
    }

    fn table(&self, table: &TableSpec, forward: &Forward<'_>) -> TableShape {
        let columns = table.schema.fields().iter().skip(STATE_COLUMNS.len()).map(|field| {
            let (of, role) = match &forward.spec.steps[self.index].operator {
                OperatorSpec::Window(window) => self.window_column(field.name(), window, forward),
                OperatorSpec::Attribute(spec @ AttributeSpec { ledger: Some(ledger), .. }) => {
                    super::ledger::column(spec, ledger, self.from, field.name())
                }
                OperatorSpec::Attribute(spec) => {
                    let from = if table.name == "touches" { &self.from[1] } else { &self.from[0] };
                    kept_column(from, field.name(), |name| spec.by.iter().any(|key| key.value == name))
                }
                OperatorSpec::Deduplicate(spec) => super::deduplicate::column(spec, &self.from[0], field.name()),
                OperatorSpec::Sessionize(step) => self.session_column(field.name(), table.name, step, forward),
                OperatorSpec::Join(spec) => super::join::column(spec, self.from, table.name, field.name()),
                OperatorSpec::Funnel(spec) => super::funnel::column(spec, &self.from[0], table.name, field.name()),
                OperatorSpec::Frustration(_)
                | OperatorSpec::Incidents(_)
                | OperatorSpec::Problems(_)
                | OperatorSpec::ScrollBaseline(_) => {
                    match field.name().strip_prefix("by.") {
                        Some(key) => (self.from[0].of(key), Role::Key),
                        // What a machine keeps is told by the version of the state.
                        None => (String::new(), Role::Carried),
                    }
                }
                _ => (String::new(), Role::Carried),
            };
            let (name, data_type) = (field.name().clone(), field.data_type().to_string());
            ColumnShape { name, data_type, nullable: field.is_nullable(), of, role }
        });
        TableShape { name: table.name.to_owned(), columns: columns.collect() }
    }

    fn window_column(&self, column: &str, window: &WindowSpec, forward: &Forward<'_>) -> (String, Role) {
        if let Some(key) = column.strip_prefix("by.") {
            return (self.from[0].of(key), Role::Key);
        }
        // The parts of an aggregate are called `{aggregate}.{part}`.
        match column.rsplit_once('.') {
            Some((name, _)) => {
                let of = self.aggregates(&window.aggregates, forward).remove(name).unwrap_or_default();
                (of, Role::Part(name.to_owned()))
            }
            // The start of the window, which follows from the event time of its rows.
            None => (self.from[0].of(Hidden::Time.name()), Role::Key),
        }
    }

    fn session_column(
        &self,
        column: &str,
        table: &str,
        step: &SessionizeSpec,
        forward: &Forward<'_>,
    ) -> (String, Role) {
        if table == "waiting" {
            return kept_column(&self.from[0], column, |name| step.by.iter().any(|key| key.value == name));
        }
        if let Some(key) = column.strip_prefix("by.") {
            return (self.from[0].of(key), Role::Key);
        }
        match column.rsplit_once('.') {
            Some((name, _)) => {
                let of = self.aggregates(&step.aggregates, forward).remove(name).unwrap_or_default();
                (of, Role::Part(name.to_owned()))
            }
            // What a session is follows from the rules, which are part of the step's meaning.
            None => (format!("session {column}"), Role::Carried),
        }
    }
}

/// Returns what a column of kept rows is, and what to the step, where `is_key` says which of the user's columns are the key.
pub(super) fn kept_column(from: &Origin, column: &str, is_key: impl Fn(&str) -> bool) -> (String, Role) {
    // A user's `shard` is kept as `shard_`.
    let known = |name: &str| from.columns.contains_key(name).then(|| name.to_owned());
    let name = known(column).or_else(|| known(column.strip_suffix('_')?)).unwrap_or_else(|| column.to_owned());
    let is_key = riverrun_dataflow::schema::is_hidden(&name) || is_key(&name);
    (from.of(&name), if is_key { Role::Key } else { Role::Carried })
}
