//! From sources to sinks: which columns every stream has, and whether every step can work on them.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, TimeUnit};
use riverrun_connectors::format::{
    Column, EncodeSpec, Envelope, FormatSpec, OP, OpAs, RowSchema, SurroundSpec, encoder_with,
};
use riverrun_dataflow::graph::Edge;
use riverrun_dataflow::key::is_key_type;
use riverrun_dataflow::schema::Hidden;
use riverrun_operators::attribute::Attribute;
use riverrun_operators::deduplicate::Deduplicate;
use riverrun_operators::expression::{ExpressionError, Expressions};

use super::clocks;
use super::names::Names;
use super::stream::{Stream, type_name, with_article};
use crate::fault::{Code, Fault, Severity, codes};
use crate::spec::{
    AttributeSpec, JobSpec, OperatorSpec, SinkPlace, SinkSpec, SourcePlace, SourceSpec, WindowSpec, values,
};
use crate::yaml::{Span, Spanned, place_in};

/// A window may be one of at most so many that hold the same row.
const HOPS_MAX: u128 = 1000;

/// The streams of a job, by where they begin. Absent: at fault, and said already.
pub(super) type Streams = BTreeMap<Edge, Stream>;

/// A column that a select gives.
#[derive(Clone, Debug)]
pub(super) struct SelectColumn {
    /// Its name.
    pub name: String,
    /// What it is computed from.
    pub sql: String,
    /// It is a column of the input as it stands.
    pub plain: bool,
    /// The columns it is computed from.
    pub uses: Vec<String>,
}

/// What an expression or aggregate uses.
#[derive(Clone, Debug, Default)]
pub(super) struct StepUses {
    /// The columns of a select; `None`: all of its input.
    pub columns: Option<Vec<SelectColumn>>,
    /// The columns of the input used by conditions, keys and aggregates.
    pub uses: Vec<String>,
    /// The result depends on the order of rows.
    pub ordered: bool,
}

/// Follows the rows of a job forward.
pub(super) struct Forward<'a> {
    pub spec: &'a JobSpec,
    pub texts: &'a [crate::fault::Text],
    pub expressions: Expressions,
    pub streams: Streams,
    pub uses: BTreeMap<usize, StepUses>,
    pub faults: Vec<Fault>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(spec: &'a JobSpec, texts: &'a [crate::fault::Text]) -> Forward<'a> {
        Forward {
            spec,
            texts,
            expressions: Expressions::new(),
            streams: Streams::new(),
            uses: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Finds all streams, in the order of `names`, and checks what reads them.
    pub(super) fn run(&mut self, names: &Names) {
        for (index, source) in self.spec.sources.iter().enumerate() {
            if let Some(stream) = self.source(source) {
                self.streams.insert(Edge::Source(index), stream);
            }
            let bad = Stream::bad(&format!("{}.bad", source.name.value));
            self.streams.insert(Edge::SourceBad(index), bad);
        }
        for step in &names.order {
            let inputs = &names.inputs[*step];
            let streams: Option<Vec<Stream>> =
                inputs.iter().map(|edge| edge.and_then(|edge| self.streams.get(&edge).cloned())).collect();
            if let Some(streams) = streams {
                self.step(*step, &streams);
            }
        }
        for (sink, from) in self.spec.sinks.iter().zip(&names.sinks) {
            if let Some(stream) = from.and_then(|edge| self.streams.get(&edge).cloned()) {
                self.sink(sink, &stream);
            }
        }
    }

    fn source(&mut self, source: &SourceSpec) -> Option<Stream> {
        let columns: Vec<Column> = source.columns.iter().map(|column| column.value.clone()).collect();
        let fields: Vec<Field> =
            columns.iter().map(|column| column.column_type.field(&column.name, !column.required)).collect();
        let stream = Stream { name: source.name.value.clone(), columns: fields, hidden: Vec::new() };
        let who = format!("source `{}`", source.name.value);
        let before = self.faults.len();
        if let Some(name) = &source.event_time {
            self.named_column(
                &stream,
                name,
                &format!("{who} has the event time"),
                |column| columns.iter().any(|c| c.name == column && c.column_type.is_timestamp()),
                "event time is a timestamp: timestamp (RFC 3339), timestamp_s, timestamp_ms or timestamp_us",
            );
        }
        if let Some(clocks) = &source.clocks {
            self.clocks(&who, source, clocks, &stream);
        }
        if let Some(name) = &source.id {
            self.named_column(
                &stream,
                name,
                &format!("{who} has the id"),
                |column| {
                    let field = stream.column(column);
                    field.is_some_and(|field| matches!(field.data_type(), DataType::Utf8 | DataType::Int64))
                },
                "an id is a string or an int64",
            );
        }
        let hidden = [
            source.event_time.is_some().then_some(Hidden::Time),
            source.id.is_some().then_some(Hidden::Id),
            Some(Hidden::Split),
            Some(Hidden::Position),
        ];
        if matches!(source.place, Some(SourcePlace::File(_))) {
            for column in &source.columns {
                let Some(meta) = &column.value.meta else { continue };
                let message =
                    format!("column `{}` of {who} is the {meta} of a record, and files have none", column.value.name);
                let hint = "only records of a `topic` have something around their value";
                self.faults.push(Fault::error(codes::DOES_NOT_FIT, column.span, message).hint(hint));
            }
        }
        if self.faults.len() == before {
            let schema = row_schema(source, Vec::new(), None);
            let checked = match (&source.format, source.place.is_some()) {
                (FormatSpec::Parquet, false) => Ok(()),
                _ => schema.check(),
            };
            if let Err(error) = checked {
                let message = format!("{who} cannot be decoded: {error}");
                self.faults.push(Fault::error(codes::BAD_COLUMN_TYPE, source.name.span, message));
            }
        }
        // A wrong event time is no reason to doubt the columns.
        Some(Stream { hidden: hidden.into_iter().flatten().collect(), ..stream })
    }

    pub(super) fn named_column(
        &mut self,
        stream: &Stream,
        name: &Spanned<String>,
        attempt: &str,
        fits: impl Fn(&str) -> bool,
        rule: &str,
    ) {
        match stream.find(name, attempt) {
            Err(mut fault) => {
                fault.message = format!("{attempt} `{}`, which is not in its schema", name.value);
                self.faults.push(fault);
            }
            Ok(_) if fits(&name.value) => {}
            Ok(field) => {
                let message =
                    format!("{attempt} `{}`, which is {}", name.value, with_article(&type_name(field.data_type())));
                self.faults.push(Fault::error(codes::BAD_EVENT_TIME, name.span, message).note(rule));
            }
        }
    }

    fn step(&mut self, index: usize, inputs: &[Stream]) {
        let step = &self.spec.steps[index];
        let name = &step.name.value;
        let before = self.errors();
        let (columns, hidden) = match &step.operator {
            OperatorSpec::Select(select) => (self.select(index, select, &inputs[0]), inputs[0].hidden.clone()),
            OperatorSpec::Union(from) => (self.union(name, from, inputs), united_hidden(inputs)),
            OperatorSpec::Window(window) => (self.window(index, window, &inputs[0]), vec![Hidden::Time, Hidden::Hash]),
            OperatorSpec::Attribute(attribute) => match &attribute.ledger {
                Some(ledger) => (self.ledger(name, attribute, ledger, inputs), vec![Hidden::Time, Hidden::Hash]),
                None => (self.attribute(name, attribute, inputs), with_hash(&inputs[0].hidden)),
            },
            OperatorSpec::Deduplicate(spec) => (self.deduplicate(name, spec, &inputs[0]), with_hash(&inputs[0].hidden)),
            OperatorSpec::Join(join) => (self.join(name, join, inputs), with_hash(&inputs[0].hidden)),
            OperatorSpec::Sessionize(step) => {
                (self.sessionize(index, step, &inputs[0]), vec![Hidden::Time, Hidden::Hash])
            }
            OperatorSpec::Frustration(spec) => {
                (self.frustration(name, spec, &inputs[0]), vec![Hidden::Time, Hidden::Hash])
            }
            OperatorSpec::Incidents(spec) => (self.incidents(name, spec, &inputs[0]), vec![Hidden::Time, Hidden::Hash]),
            OperatorSpec::Problems(spec) => (self.problems(name, spec, &inputs[0]), vec![Hidden::Time, Hidden::Hash]),
            OperatorSpec::ScrollBaseline(spec) => {
                (self.scroll_baseline(name, spec, &inputs[0]), vec![Hidden::Time, Hidden::Hash])
            }
            OperatorSpec::Funnel(spec) => (self.funnel(index, spec, &inputs[0]), spec.hidden(&inputs[0])),
        };
        let side = |side: &str, stream: &Stream| Stream {
            name: format!("{name}.{side}"),
            columns: stream.columns.clone(),
            hidden: with_hash(&stream.hidden),
        };
        self.streams.insert(Edge::StepLate(index), side("late", &inputs[0]));
        self.streams.insert(Edge::StepBad(index), Stream::bad(&format!("{name}.bad")));
        for (number, own) in step.operator.sides().into_iter().enumerate() {
            let stream = match &step.operator {
                OperatorSpec::Attribute(attribute) => super::ledger::side(attribute, number, side(own, &inputs[0])),
                OperatorSpec::Deduplicate(_) if own == "conflicts" => {
                    Stream { columns: Deduplicate::conflict_columns(&inputs[0].schema()), ..side(own, &inputs[0]) }
                }
                _ => side(own, &inputs[0]),
            };
            self.streams.insert(Edge::StepSide(index, number), stream);
        }
        if let Some(columns) = columns.filter(|_| self.errors() == before) {
            self.streams.insert(Edge::Step(index), Stream { name: name.clone(), columns, hidden });
        }
    }

    fn errors(&self) -> usize {
        self.faults.iter().filter(|fault| fault.severity == Severity::Error).count()
    }

    /// Reports an expression that begins at byte `lead` of `text`.
    pub(super) fn expression_fault(
        &mut self,
        code: Code,
        text: &Spanned<String>,
        lead: usize,
        what: &str,
        input: &Stream,
        error: ExpressionError,
    ) {
        let span = match (error.offset, self.texts.get(text.span.text)) {
            (Some(offset), Some(source)) => {
                let at = place_in(&source.text, text, lead + offset);
                let word = text.value.get(lead + offset..).unwrap_or("");
                let length = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len()).max(1);
                Span { start: at, end: (at + length).min(text.span.end).max(at), ..text.span }
            }
            _ => text.span,
        };
        let mut fault = Fault::error(code, span, format!("{what}: {}", error.message));
        if error.hint.is_none() {
            fault = fault.note(input.columns_note());
        }
        fault.hint = error.hint.map(String::into_boxed_str);
        self.faults.push(fault);
    }

    fn union(&mut self, name: &str, from: &[Spanned<String>], inputs: &[Stream]) -> Option<Vec<Field>> {
        let first = &inputs[0];
        for (stream, written) in inputs.iter().zip(from).skip(1) {
            let Some(difference) = difference(first, stream) else { continue };
            let message = format!("step `{name}` unites `{}` and `{}`, which differ", first.name, stream.name);
            let fault = Fault::error(codes::UNEQUAL_INPUTS, written.span, message).note(difference);
            self.faults.push(fault.hint("bring them to the same columns with `select`"));
        }
        let time = |stream: &Stream| stream.has(Hidden::Time);
        if inputs.iter().any(|stream| time(stream) != time(first)) {
            let message = format!("step `{name}` unites streams with and without event time");
            self.faults.push(Fault::error(codes::UNEQUAL_INPUTS, from[0].span, message));
        }
        // A column may be null if it may be in any of them.
        let nullable = |at: usize| inputs.iter().any(|stream| stream.columns.get(at).is_none_or(Field::is_nullable));
        let widened = first.columns.iter().enumerate().map(|(at, field)| field.clone().with_nullable(nullable(at)));
        Some(widened.collect())
    }

    fn window(&mut self, index: usize, window: &WindowSpec, input: &Stream) -> Option<Vec<Field>> {
        let name = &self.spec.steps[index].name.value.clone();
        self.needs_event_time(name, &window.from, input);
        self.check_spans(name, window);
        let mut uses = StepUses::default();
        let bound = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false);
        let mut fields = vec![bound("window_start"), bound("window_end")];
        for key in self.keys(name, &window.by, input, "groups by")? {
            uses.uses.push(key.name().clone());
            fields.push(key);
        }
        let note = "a window gives `window_start`, `window_end`, its keys and its aggregates";
        self.aggregates(name, &window.aggregates, input, note, &mut uses, &mut fields);
        self.uses.insert(index, uses);
        Some(fields)
    }

    /// Adds the columns of aggregates; `note` says which columns the step gives.
    pub(super) fn aggregates(
        &mut self,
        name: &str,
        aggregates: &[(Spanned<String>, Spanned<String>)],
        input: &Stream,
        note: &str,
        uses: &mut StepUses,
        fields: &mut Vec<Field>,
    ) {
        for (column, sql) in aggregates {
            let schema = input.schema();
            match self.expressions.compile_aggregate(&sql.value, &schema) {
                Ok(aggregate) => {
                    uses.ordered |= aggregate.needs_order();
                    uses.uses.extend(aggregate.columns().map(str::to_owned));
                    fields.push(aggregate.field(&column.value));
                }
                Err(error) => {
                    let what = format!("aggregate `{}` of step `{name}`", column.value);
                    self.expression_fault(codes::BAD_AGGREGATE, sql, 0, &what, input, error);
                }
            }
            if fields.iter().filter(|field| *field.name() == column.value).count() > 1 {
                let message = format!("step `{name}` has the column `{}` twice", column.value);
                self.faults.push(Fault::error(codes::NAME_CLASH, column.span, message).note(note));
            }
        }
    }

    fn check_spans(&mut self, name: &str, window: &WindowSpec) {
        let (size, every) = (window.size.value.as_micros(), window.every.value.as_micros());
        let millisecond = Duration::from_millis(1).as_micros();
        let rule = match () {
            () if size % millisecond != 0 || every % millisecond != 0 => "windows are whole milliseconds".to_owned(),
            () if size % every != 0 => {
                format!("`size` is a multiple of `every`, which is {}", values::write_duration(window.every.value))
            }
            () if size / every > HOPS_MAX => format!("a row may be in at most {HOPS_MAX} windows"),
            () => return,
        };
        let message = format!("step `{name}` has windows of {}", values::write_duration(window.size.value));
        self.faults.push(Fault::error(codes::BAD_QUANTITY, window.size.span, message).note(rule));
    }

    pub(super) fn needs_event_time(&mut self, name: &str, from: &Spanned<String>, input: &Stream) {
        if !input.has(Hidden::Time) {
            let message = format!("step `{name}` needs event time, which `{}` does not have", input.name);
            let hint = "name a timestamp column as `event_time` of the source";
            self.faults.push(Fault::error(codes::NO_EVENT_TIME, from.span, message).hint(hint));
        }
    }

    pub(super) fn keys(
        &mut self,
        step: &str,
        by: &[Spanned<String>],
        input: &Stream,
        verb: &str,
    ) -> Option<Vec<Field>> {
        let mut keys: Vec<Field> = Vec::new();
        let before = self.faults.len();
        for name in by {
            match input.find(name, &format!("step `{step}` {verb}")) {
                Err(fault) => self.faults.push(fault),
                Ok(field) if keys.iter().any(|key| key.name() == field.name()) => {
                    let message = format!("step `{step}` {verb} `{}` twice", name.value);
                    self.faults.push(Fault::error(codes::NAME_CLASH, name.span, message).hint("keep one of them"));
                }
                Ok(field) if !is_key_type(field.data_type()) => {
                    let found = with_article(&type_name(field.data_type()));
                    let message = format!("step `{step}` {verb} `{}`, which is {found}", name.value);
                    let note = "a key is made of strings, numbers, times and truth values";
                    self.faults.push(Fault::error(codes::BAD_KEY, name.span, message).note(note));
                }
                Ok(field) => keys.push(field.clone()),
            }
        }
        (self.faults.len() == before).then_some(keys)
    }

    fn attribute(&mut self, name: &str, attribute: &AttributeSpec, inputs: &[Stream]) -> Option<Vec<Field>> {
        let (conversions, touches) = (&inputs[0], &inputs[1]);
        self.needs_event_time(name, &attribute.conversions, conversions);
        self.needs_event_time(name, &attribute.touches, touches);
        if attribute.by.is_empty() {
            let message = format!("step `{name}` credits by no column");
            let fault = Fault::error(codes::BAD_KEY, attribute.conversions.span, message);
            self.faults.push(fault.hint("name what a conversion and its touches share, such as `by: [user_id]`"));
        }
        let ours = self.keys(name, &attribute.by, conversions, "credits by");
        let theirs = self.keys(name, &attribute.by, touches, "credits by");
        for ((one, two), written) in ours?.iter().zip(theirs?).zip(&attribute.by) {
            if one.data_type() != two.data_type() {
                let types = [one, &two].map(|field| with_article(&type_name(field.data_type())));
                let [ours, theirs] = types;
                let message = format!("step `{name}` credits by `{}`, which has two types", written.value);
                let fault = Fault::error(codes::BAD_KEY, written.span, message);
                let note = format!("it is {ours} in `{}` and {theirs} in `{}`", conversions.name, touches.name);
                self.faults.push(fault.note(note).hint("cast one of them in a `select`"));
            }
        }
        if let Some(span) = attribute.dedupe_written.filter(|_| !conversions.has(Hidden::Id)) {
            let message = format!("step `{name}` has `dedupe_for`, and its conversions have no id");
            let fault = Fault::warning(codes::NO_ID, span, message);
            self.faults
                .push(fault.note("without an id no conversion is a duplicate").hint("name an `id` in their source"));
        }
        let columns = Attribute::columns(&conversions.schema(), &touches.schema());
        for (index, field) in columns.iter().enumerate() {
            if columns[..index].iter().any(|other| other.name() == field.name()) {
                let message = format!("step `{name}` would have the column `{}` twice", field.name());
                let note = "it gives the conversion's columns, the touch's as `touch_...`, `attributed`, `model`, `weight_ppm` and `time_to_convert_ms`";
                let fault = Fault::error(codes::NAME_CLASH, attribute.conversions.span, message).note(note);
                self.faults.push(fault.hint("rename it in a `select` before this step"));
            }
        }
        Some(columns)
    }

    /// Returns what a sink writes around its rows; what is at fault is left out.
    fn surround(&mut self, sink: &SinkSpec, input: &Stream) -> SurroundSpec {
        let who = format!("sink `{}`", sink.name.value);
        let mut headers = Vec::new();
        for (name, column) in &sink.headers {
            match input.find(column, &format!("{who} writes a header of")) {
                Err(fault) => self.faults.push(fault),
                Ok(field) => {
                    let at = input.columns.iter().position(|column| column.name() == field.name());
                    headers.extend(at.map(|at| (name.value.clone(), at)));
                }
            }
        }
        let has_op = input.column(OP).is_some();
        if sink.op.value != OpAs::Field && !has_op {
            let message =
                format!("{who} is to write `{OP}` otherwise than as a field, but `{}` has no such column", input.name);
            let hint = "leave it out: the rows of this stream are never taken back";
            self.faults.push(Fault::error(codes::UNKNOWN_COLUMN, sink.op.span, message).hint(hint));
        }
        SurroundSpec { headers, op: if has_op { sink.op.value } else { OpAs::Field } }
    }

    fn sink(&mut self, sink: &SinkSpec, input: &Stream) {
        let name = &sink.name.value;
        let mut indices = None;
        if let Some(key) = &sink.key {
            let fields = self.keys(name, key, input, "is keyed by");
            let at = |field: &Field| input.columns.iter().position(|column| column.name() == field.name());
            indices = fields.map(|fields| fields.iter().filter_map(at).collect::<Vec<usize>>());
        }
        let surround = self.surround(sink, input);
        if let Err(error) = encoder_with(&sink.format, input.schema(), indices, &surround) {
            let format = match &sink.format {
                EncodeSpec::Json { .. } => "json",
                EncodeSpec::Csv(_) => "csv",
                EncodeSpec::Parquet => "parquet",
                EncodeSpec::Avro(_) => "avro",
            };
            let message = format!("sink `{name}` cannot write `{}` as {format}: {error}", input.name);
            let fault = Fault::error(codes::NOT_ENCODABLE, sink.from.span, message);
            self.faults.push(fault.hint("leave the column out or cast it in a `select`"));
        }
        if let Some(SinkPlace::Lake(lake)) = &sink.place {
            let folders = lake.partition_by.columns();
            // Readers of SQL do not tell `Hour` from `hour`.
            let is_folder = |name: &str| folders.iter().any(|folder| folder.eq_ignore_ascii_case(name));
            for column in input.columns.iter().filter(|column| is_folder(column.name())) {
                let column = column.name();
                let message =
                    format!("sink `{name}` writes a column `{column}`, and its folders are called `{column}=...`");
                let fault = Fault::error(codes::DOES_NOT_FIT, sink.from.span, message);
                let note = "a reader that goes by the folders would not know which of the two is meant";
                self.faults.push(
                    fault
                        .note(note)
                        .hint("give the column another name in a `select`, or the lake another `partition_by`"),
                );
            }
        }
    }
}

/// Returns the schema of a source's rows with only the columns `projected`, and these hidden ones.
pub(super) fn row_schema(source: &SourceSpec, hidden: Vec<Hidden>, projected: Option<Vec<String>>) -> RowSchema {
    RowSchema {
        columns: source.columns.iter().map(|column| column.value.clone()).collect(),
        event_time: source.event_time.as_ref().map(|name| name.value.clone()),
        clocks: source.clocks.as_ref().map(|clocks| clocks::of(&clocks.value)),
        id: source.id.as_ref().map(|name| name.value.clone()),
        hidden,
        projected,
        envelope: Envelope::None,
        drop_tombstones: source.drop_tombstones,
        framed: source.framed,
    }
}

fn with_hash(hidden: &[Hidden]) -> Vec<Hidden> {
    let mut hidden: Vec<Hidden> = hidden.iter().copied().filter(|column| *column != Hidden::Hash).collect();
    hidden.push(Hidden::Hash);
    hidden
}

/// Returns what travels with the rows of a union: what an input does not have is filled in as none, but for time and key.
fn united_hidden(inputs: &[Stream]) -> Vec<Hidden> {
    let in_all = |hidden: &Hidden| inputs.iter().all(|stream| stream.has(*hidden));
    let in_any = |hidden: &Hidden| inputs.iter().any(|stream| stream.has(*hidden));
    let fillable = |hidden: &Hidden| !matches!(hidden, Hidden::Time | Hidden::Hash);
    Hidden::ALL.into_iter().filter(|hidden| in_all(hidden) || (fillable(hidden) && in_any(hidden))).collect()
}

/// Returns how the columns of two streams differ, if they do.
fn difference(one: &Stream, two: &Stream) -> Option<String> {
    let lacks = |of: &Stream, other: &Stream| {
        let missing = of.columns.iter().find(|field| other.column(field.name()).is_none())?;
        Some(format!("`{}` has no column `{}`", other.name, missing.name()))
    };
    let types = |field: &Field| {
        let other = two.column(field.name())?;
        let [one_type, two_type] = [field, other].map(|field| with_article(&type_name(field.data_type())));
        (field.data_type() != other.data_type())
            .then(|| format!("`{}` is {one_type} in `{}` and {two_type} in `{}`", field.name(), one.name, two.name))
    };
    let order = || {
        let names = |stream: &Stream| stream.columns.iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        (names(one) != names(two)).then(|| "their columns stand in different order".to_owned())
    };
    lacks(one, two).or_else(|| lacks(two, one)).or_else(|| one.columns.iter().find_map(types)).or_else(order)
}

/// Returns a column's name as SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}
