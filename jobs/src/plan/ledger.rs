//! Ledgers: an `attribute` with several models. Whether its inputs have what it needs, and what it is made of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_dataflow::graph::{Edge, StepWork};
use riverrun_dataflow::schema::Hidden;
use riverrun_operators::attribution::rules::{
    CORRECTED_FOR_MS, CountMode, Emission, ItemScope, ORDERS_MAX, Settings, TOUCHES_MAX, Windows,
};
use riverrun_operators::attribution::{
    Attribution, AttributionSettings, ConversionColumns, CorrectionColumns, LineColumns, MatchColumns, NOTICES,
    STATE_VERSION, TouchColumns, key_fields, model_name,
};
use riverrun_state::shape::Role;

use super::assemble::{Made, behind};
use super::forward::Forward;
use super::need::{Back, ORDER};
use super::shape::{Origin, short};
use super::stream::{Stream, indices, type_name, with_article};
use crate::fault::{Fault, codes, list};
use crate::spec::AttributeSpec;
use crate::spec::attribution::{LedgerSpec, LinesSpec};
use crate::spec::values::write_duration;
use crate::yaml::Spanned;

/// The names of the side outputs, by their number.
pub(super) const SIDES: [&str; 2] = ["notices", "paths"];

/// A column with what it says, for messages.
type Named<'a> = (&'static str, &'a Spanned<String>);

impl LedgerSpec {
    fn matches(&self) -> Vec<Named<'_>> {
        named(&["click_id", "person", "device"], self.matches.each_ref().map(Option::as_ref))
    }

    fn touch(&self) -> Vec<Named<'_>> {
        let touch = &self.touch;
        let columns = [&touch.kind, &touch.channel, &touch.campaign, &touch.creative, &touch.product, &touch.placement];
        let names = ["kind", "channel", "campaign", "creative", "product", "placement"];
        named(&names, columns.map(Option::as_ref))
    }

    /// Returns the columns that hold text, and those that hold money, of each input.
    fn columns(&self, input: usize) -> (Vec<Named<'_>>, Vec<Named<'_>>) {
        let order = &self.order;
        match input {
            0 => {
                let texts = named(&["id", "currency"], [order.id.as_ref(), order.currency.as_ref()]);
                (self.matches().into_iter().chain(texts).collect(), named(&["value"], [order.value.as_ref()]))
            }
            1 => (self.matches().into_iter().chain(self.touch()).collect(), Vec::new()),
            _ => {
                let of = &self.correction;
                let texts = named(
                    &["order_id", "kind", "currency"],
                    [Some(&of.order_id), Some(&of.kind), of.currency.as_ref()],
                );
                (texts, vec![("amount", &of.amount)])
            }
        }
    }

    /// Returns the names of all columns of an input that are read, without the keys.
    fn read(&self, input: usize) -> Vec<String> {
        let (texts, money) = self.columns(input);
        let mut names: Vec<String> = texts.into_iter().chain(money).map(|(_, name)| name.value.clone()).collect();
        match input {
            0 => names.extend(self.order.lines.as_ref().map(|lines| lines.list.value.clone())),
            1 => names.extend(self.touch.viewable.as_ref().map(|name| name.value.clone())),
            _ => {}
        }
        names
    }

    /// Returns whether a touch says anything by which a repetition of it is known.
    fn tells_clicks_apart(&self) -> bool {
        let touch = &self.touch;
        [&touch.campaign, &touch.creative, &touch.product, &touch.placement].into_iter().any(Option::is_some)
    }

    fn text_of(&self, input: usize) -> String {
        let (texts, money) = self.columns(input);
        let mut all: Vec<String> =
            texts.into_iter().chain(money).map(|(what, name)| format!("{what} {}", name.value)).collect();
        if let (0, Some(lines)) = (input, &self.order.lines) {
            let LinesSpec { list, product, price, quantity, discount } = lines;
            all.push(format!("lines {}: product {}, price {}", list.value, product.value, price.value));
            let others = named(&["quantity", "discount"], [quantity.as_ref(), discount.as_ref()]);
            all.extend(others.into_iter().map(|(what, name)| format!("{what} {}", name.value)));
        }
        if let (1, Some(viewable)) = (input, &self.touch.viewable) {
            all.push(format!("viewable {}", viewable.value));
        }
        if all.is_empty() { "nothing more".to_owned() } else { all.join(", ") }
    }
}

fn named<'a, const N: usize>(names: &[&'static str; N], columns: [Option<&'a Spanned<String>>; N]) -> Vec<Named<'a>> {
    names.iter().zip(columns).filter_map(|(name, column)| Some((*name, column?))).collect()
}

impl Forward<'_> {
    /// Returns the columns that a ledger gives.
    pub(super) fn ledger(
        &mut self,
        name: &str,
        spec: &AttributeSpec,
        ledger: &LedgerSpec,
        inputs: &[Stream],
    ) -> Option<Vec<Field>> {
        let froms = [Some(&spec.conversions), Some(&spec.touches), ledger.corrections.as_ref()];
        let mut keys: Vec<Vec<Field>> = Vec::new();
        for (input, from) in inputs.iter().zip(froms.into_iter().flatten()) {
            self.needs_event_time(name, from, input);
            if !input.has(Hidden::Id) {
                let message = format!("step `{name}` keeps a ledger, and `{}` has no id", input.name);
                self.faults.push(Fault::error(codes::NO_ID, from.span, message).hint("name an `id` in its source"));
            }
            keys.extend(self.keys(name, &spec.by, input, "credits by"));
        }
        if spec.by.is_empty() {
            let message = format!("step `{name}` credits by no column");
            let fault = Fault::error(codes::BAD_KEY, spec.conversions.span, message);
            self.faults
                .push(fault.hint("name what all that may match has in common, such as `by: [user_id]` or a tenant"));
        }
        if keys.len() < inputs.len() {
            return None;
        }
        for (theirs, input) in keys.iter().zip(inputs).skip(1) {
            self.same_types(name, &spec.by, (&keys[0], &inputs[0]), (theirs, input));
        }
        let before = self.faults.len();
        for (number, input) in inputs.iter().enumerate() {
            let (texts, money) = ledger.columns(number);
            texts.iter().for_each(|column| self.fits(name, column, input, is_text, "a string or an int64"));
            money
                .iter()
                .for_each(|column| self.fits(name, column, input, is_money, "a decimal, or an int64 of minor units"));
        }
        if let Some(viewable) = &ledger.touch.viewable {
            self.fits(name, &("viewable", viewable), &inputs[1], |of| *of == DataType::Boolean, "a bool");
        }
        if let Some(lines) = &ledger.order.lines {
            self.lines(name, lines, &inputs[0]);
        }
        if self.faults.len() > before {
            return None;
        }
        let amount = amount_type(ledger, &inputs[0].schema());
        self.same_amounts(name, ledger, inputs, &amount);
        let columns = Attribution::columns(&key_fields(&inputs[0].schema(), &by(spec)), amount);
        for (index, field) in columns.iter().enumerate() {
            if columns[..index].iter().any(|other| other.name() == field.name()) {
                let message = format!("step `{name}` would have the column `{}` twice", field.name());
                let fault = Fault::error(codes::NAME_CLASH, spec.conversions.span, message);
                let note = "a ledger gives `op`, its keys, and columns of its own";
                self.faults.push(fault.note(note).hint("rename it in a `select` before this step"));
            }
        }
        Some(columns)
    }

    fn same_types(
        &mut self,
        name: &str,
        by: &[Spanned<String>],
        ours: (&[Field], &Stream),
        theirs: (&[Field], &Stream),
    ) {
        for ((one, two), written) in ours.0.iter().zip(theirs.0).zip(by) {
            if one.data_type() != two.data_type() {
                let [one, two] = [one, two].map(|field| with_article(&type_name(field.data_type())));
                let message = format!("step `{name}` credits by `{}`, which has two types", written.value);
                let note = format!("it is {one} in `{}` and {two} in `{}`", ours.1.name, theirs.1.name);
                let fault = Fault::error(codes::BAD_KEY, written.span, message).note(note);
                self.faults.push(fault.hint("cast one of them in a `select`"));
            }
        }
    }

    /// Reports a column that is not there or of a type that does not fit.
    fn fits(&mut self, step: &str, (what, name): &Named<'_>, input: &Stream, fits: fn(&DataType) -> bool, rule: &str) {
        match input.find(name, &format!("step `{step}` reads `{what}` from")) {
            Err(fault) => self.faults.push(fault),
            Ok(field) if fits(field.data_type()) => {}
            Ok(field) => {
                let found = with_article(&type_name(field.data_type()));
                let message = format!("step `{step}` reads `{what}` from `{}`, which is {found}", name.value);
                let fault = Fault::error(codes::BAD_COLUMN_TYPE, name.span, message);
                self.faults.push(fault.note(format!("it is {rule}")));
            }
        }
    }

    fn lines(&mut self, step: &str, lines: &LinesSpec, input: &Stream) {
        let found = match input.find(&lines.list, &format!("step `{step}` reads `lines` from")) {
            Err(fault) => return self.faults.push(fault),
            Ok(field) => field.data_type().clone(),
        };
        let Some(fields) = struct_fields(&found) else {
            let found = with_article(&type_name(&found));
            let message = format!("step `{step}` reads `lines` from `{}`, which is {found}", lines.list.value);
            let fault = Fault::error(codes::BAD_COLUMN_TYPE, lines.list.span, message);
            return self.faults.push(
                fault.note("it is a list of structs, such as `list<struct{product: string, price: decimal(12,2)}>`"),
            );
        };
        let mut field = |what: &str, name: &Spanned<String>, fits: fn(&DataType) -> bool, rule: &str| {
            let there = fields.iter().find(|field| *field.name() == name.value);
            let fault = match there {
                None => format!("step `{step}` reads `{what}` of lines from `{}`, which they do not have", name.value),
                Some(field) if fits(field.data_type()) => return,
                Some(field) => {
                    let found = with_article(&type_name(field.data_type()));
                    format!("step `{step}` reads `{what}` of lines from `{}`, which is {found}", name.value)
                }
            };
            let code = if there.is_some() { codes::BAD_COLUMN_TYPE } else { codes::UNKNOWN_COLUMN };
            let note = format!("it is {rule}; lines have {}", list(fields.iter().map(|field| field.name())));
            self.faults.push(Fault::error(code, name.span, fault).note(note));
        };
        field("product", &lines.product, is_text, "a string or an int64");
        field("price", &lines.price, is_money, "a decimal, or an int64 of minor units");
        if let Some(quantity) = &lines.quantity {
            field("quantity", quantity, |of| *of == DataType::Int64, "an int64");
        }
        if let Some(discount) = &lines.discount {
            field("discount", discount, is_money, "a decimal, or an int64 of minor units");
        }
    }

    /// Reports amounts of other types than the value's: they could not be added up exactly.
    fn same_amounts(&mut self, step: &str, ledger: &LedgerSpec, inputs: &[Stream], amount: &DataType) {
        let mut all: Vec<(&Spanned<String>, DataType)> = Vec::new();
        if let Some(input) = inputs.get(2) {
            let name = &ledger.correction.amount;
            all.extend(input.column(&name.value).map(|field| (name, field.data_type().clone())));
        }
        if let Some(lines) = &ledger.order.lines {
            let list = inputs[0].column(&lines.list.value).map(|field| field.data_type().clone());
            let of = |name: &Spanned<String>| {
                let fields = struct_fields(list.as_ref()?)?;
                Some(fields.iter().find(|field| *field.name() == name.value)?.data_type().clone())
            };
            let names = [Some(&lines.price), lines.discount.as_ref()];
            all.extend(names.into_iter().flatten().filter_map(|name| Some((name, of(name)?))));
        }
        for (name, found) in all.into_iter().filter(|(_, found)| found != amount) {
            let [found, wanted] = [&found, amount].map(|of| with_article(&type_name(of)));
            let message = format!("step `{step}` reads amounts from `{}`, which is {found}", name.value);
            let fault = Fault::error(codes::BAD_COLUMN_TYPE, name.span, message);
            self.faults
                .push(fault.note(format!("the value of an order is {wanted}")).hint("cast one of them in a `select`"));
        }
    }
}

/// Returns the stream of a side output; `late` is what it would be if it had the columns of the conversions.
pub(super) fn side(spec: &AttributeSpec, number: usize, late: Stream) -> Stream {
    let keys = key_fields(&late.schema(), &by(spec));
    let columns = if number == NOTICES { Attribution::notice_columns(&keys) } else { Attribution::path_columns(&keys) };
    Stream { columns, hidden: vec![Hidden::Time, Hidden::Hash], ..late }
}

fn by(spec: &AttributeSpec) -> Vec<String> {
    spec.by.iter().map(|name| name.value.clone()).collect()
}

fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8 | DataType::Int64)
}

fn is_money(of: &DataType) -> bool {
    matches!(of, DataType::Int64 | DataType::Decimal128(..))
}

fn struct_fields(of: &DataType) -> Option<arrow::datatypes::Fields> {
    let DataType::List(item) = of else { return None };
    let DataType::Struct(fields) = item.data_type() else { return None };
    Some(fields.clone())
}

/// Returns the type of amounts: that of the value, else that of the prices of lines, else whole numbers.
fn amount_type(ledger: &LedgerSpec, conversions: &Schema) -> DataType {
    let column =
        |name: &Spanned<String>| conversions.field_with_name(&name.value).ok().map(|field| field.data_type().clone());
    let value = ledger.order.value.as_ref().and_then(column);
    let price = || {
        let lines = ledger.order.lines.as_ref()?;
        let fields = struct_fields(&column(&lines.list)?)?;
        Some(fields.iter().find(|field| *field.name() == lines.price.value)?.data_type().clone())
    };
    value.or_else(price).unwrap_or(DataType::Int64)
}

/// Adds what a ledger needs of its inputs.
pub(super) fn need(back: &mut Back<'_>, step: usize, spec: &AttributeSpec, ledger: &LedgerSpec, inputs: &[Edge]) {
    let late = back.need(Edge::StepLate(step));
    for (number, input) in inputs.iter().enumerate() {
        let theirs: BTreeSet<String> = back.streams[input].columns.iter().map(|field| field.name().clone()).collect();
        let asked = late.columns.iter().filter(|name| theirs.contains(*name)).cloned();
        let columns: Vec<String> = asked.chain(ledger.read(number)).chain(by(spec)).collect();
        back.columns(*input, columns);
        back.hidden(*input, ORDER.into_iter().chain(late.hidden.iter().copied()));
    }
}

/// Returns the work of a ledger of whose side outputs those in `read` are in use.
pub(super) fn make(
    spec: &AttributeSpec,
    ledger: &LedgerSpec,
    schemas: &[SchemaRef],
    read: [bool; 2],
    slack: Duration,
) -> Made {
    let settings = AttributionSettings {
        rules: rules(spec, ledger),
        keys: schemas.iter().map(|schema| indices(schema, &by(spec))).collect(),
        conversion: conversion_columns(ledger, &schemas[0]),
        touch: touch_columns(ledger, &schemas[1]),
        correction: schemas.get(2).map(|schema| correction_columns(ledger, schema)),
        amount: amount_type(ledger, &schemas[0]),
        max_kept: ledger.max_kept,
        sides: read,
    };
    let step = Attribution::new(settings, schemas).expect("keys, columns and event times were checked");
    let [notices, paths] = step.sides();
    Made {
        schema: step.schema().clone(),
        late: Some(step.late_schema().clone()),
        sides: vec![notices.clone(), paths.clone()],
        delay: step.delay(),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        does: does(spec, ledger),
        keeps: keeps(spec, ledger, slack),
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn rules(spec: &AttributeSpec, ledger: &LedgerSpec) -> Settings {
    Settings {
        windows: Windows {
            click_ms: millis(spec.window),
            view_ms: ledger.view_window.map(millis),
            half_life_ms: ledger.half_life.map(millis),
        },
        models: ledger.models.clone(),
        strict_click_id: ledger.is_strict,
        item_scope: if ledger.by_product { ItemScope::Product } else { ItemScope::Order },
        count_mode: if ledger.is_once { CountMode::One } else { CountMode::Every },
        // Clicks that say nothing are all alike: none of them is told to be a repetition.
        dup_click_ms: if ledger.tells_clicks_apart() { millis(ledger.dedupe_clicks) } else { -1 },
        transform: ledger.path.clone(),
        emission: if ledger.is_eager { Emission::Eager } else { Emission::Final },
        lateness_ms: millis(ledger.lateness),
    }
}

/// Returns the place of a column, which was found before.
fn place(schema: &Schema, name: &Spanned<String>) -> usize {
    schema.index_of(&name.value).expect("the column was found before")
}

fn match_columns(ledger: &LedgerSpec, schema: &Schema) -> MatchColumns {
    let [click_id, person, device] =
        ledger.matches.each_ref().map(|name| name.as_ref().map(|name| place(schema, name)));
    MatchColumns { click_id, person, device }
}

fn conversion_columns(ledger: &LedgerSpec, schema: &Schema) -> ConversionColumns {
    let at = |name: &Option<Spanned<String>>| name.as_ref().map(|name| place(schema, name));
    let text = |name: &Option<Spanned<String>>| name.as_ref().map(|name| name.value.clone());
    let lines = ledger.order.lines.as_ref().map(|lines| LineColumns {
        list: place(schema, &lines.list),
        product: lines.product.value.clone(),
        price: lines.price.value.clone(),
        quantity: text(&lines.quantity),
        discount: text(&lines.discount),
    });
    ConversionColumns {
        order_id: at(&ledger.order.id),
        value: at(&ledger.order.value),
        currency: at(&ledger.order.currency),
        lines,
        matches: match_columns(ledger, schema),
    }
}

fn touch_columns(ledger: &LedgerSpec, schema: &Schema) -> TouchColumns {
    let at = |name: &Option<Spanned<String>>| name.as_ref().map(|name| place(schema, name));
    let touch = &ledger.touch;
    TouchColumns {
        kind: at(&touch.kind),
        viewable: at(&touch.viewable),
        channel: at(&touch.channel),
        campaign: at(&touch.campaign),
        creative: at(&touch.creative),
        product: at(&touch.product),
        placement: at(&touch.placement),
        matches: match_columns(ledger, schema),
    }
}

fn correction_columns(ledger: &LedgerSpec, schema: &Schema) -> CorrectionColumns {
    let of = &ledger.correction;
    CorrectionColumns {
        order_id: place(schema, &of.order_id),
        kind: place(schema, &of.kind),
        amount: Some(place(schema, &of.amount)),
        currency: of.currency.as_ref().map(|name| place(schema, name)),
    }
}

fn models_text(ledger: &LedgerSpec) -> String {
    ledger.models.iter().map(|model| model_name(*model)).collect::<Vec<_>>().join(", ")
}

fn match_text(ledger: &LedgerSpec) -> String {
    let matches = ledger.matches();
    match matches.is_empty() {
        true => "all of a key".to_owned(),
        false => matches.iter().map(|(what, name)| format!("{what} {}", name.value)).collect::<Vec<_>>().join(", "),
    }
}

fn does(spec: &AttributeSpec, ledger: &LedgerSpec) -> Vec<(&'static str, String)> {
    let span = |span: Option<Duration>, none: &str| span.map_or_else(|| none.to_owned(), write_duration);
    let mut does = vec![
        ("by", by(spec).join(", ")),
        ("models", models_text(ledger)),
        ("window", write_duration(spec.window)),
        ("view_window", span(ledger.view_window, "none: views are not credited")),
        ("half_life", span(ledger.half_life, "a quarter of the window")),
        ("lateness", write_duration(ledger.lateness)),
        ("emit", if ledger.is_eager { "eager" } else { "final" }.to_owned()),
        ("credit", if ledger.by_product { "product" } else { "order" }.to_owned()),
        ("count", if ledger.is_once { "one" } else { "every" }.to_owned()),
        ("strict_click_id", ledger.is_strict.to_string()),
        ("dedupe_clicks", write_duration(ledger.dedupe_clicks)),
        ("path", format!("{:?}", ledger.path).to_lowercase()),
        ("match", match_text(ledger)),
        ("order", ledger.text_of(0)),
        ("touch", ledger.text_of(1)),
    ];
    if ledger.corrections.is_some() {
        does.push(("correction", ledger.text_of(2)));
    }
    does
}

fn keeps(spec: &AttributeSpec, ledger: &LedgerSpec, slack: Duration) -> Vec<String> {
    let touches = spec.window.max(ledger.view_window.unwrap_or_default()) + ledger.lateness;
    let orders = Duration::from_millis(CORRECTED_FOR_MS.unsigned_abs());
    vec![
        format!(
            "touches: {} of event time{}; at most {TOUCHES_MAX} a key, then the oldest is forgotten",
            write_duration(touches),
            behind(slack)
        ),
        format!(
            "orders: {} of event time and the lateness; at most {ORDERS_MAX} a key, then the oldest is forgotten",
            write_duration(orders)
        ),
        format!("both: at most {} a worker, more stop the job", ledger.max_kept),
    ]
}

/// Returns where its rows come from.
pub(super) fn origin(name: &str, spec: &AttributeSpec, from: &[Origin]) -> Origin {
    let own = |what: &str| format!("{name}.{what}");
    let own_columns = Attribution::columns(&[], DataType::Int64);
    let mut columns: std::collections::BTreeMap<String, String> =
        own_columns.iter().map(|field| (field.name().clone(), own(field.name()))).collect();
    columns.extend(by(spec).into_iter().map(|key| (key.clone(), from[0].of(&key))));
    columns.insert(Hidden::Time.name().to_owned(), own("time"));
    Origin { rows: own("rows"), columns }
}

/// Returns what its state means: each of these with another value is another state.
pub(super) fn meaning(spec: &AttributeSpec, ledger: &LedgerSpec) -> Vec<(&'static str, String)> {
    vec![
        // The plain form has versions of its own.
        ("state version", format!("ledger {STATE_VERSION}")),
        ("by", by(spec).join(", ")),
        ("match", match_text(ledger)),
        ("order", ledger.text_of(0)),
    ]
}

/// Returns what its state outlives.
pub(super) fn settings(spec: &AttributeSpec, ledger: &LedgerSpec) -> Vec<(&'static str, String)> {
    let names = ["models", "window", "view_window", "half_life", "lateness", "emit", "credit", "count", "path"];
    does(spec, ledger).into_iter().filter(|(name, _)| names.contains(name)).collect()
}

/// Returns what a column of its table is, and what to the step.
pub(super) fn column(spec: &AttributeSpec, ledger: &LedgerSpec, from: &[Origin], column: &str) -> (String, Role) {
    if let Some(key) = column.strip_prefix("by.") {
        return (from[0].of(key), Role::Key);
    }
    let all = from.iter().enumerate().flat_map(|(input, origin)| {
        ledger.read(input).into_iter().map(|name| format!("{name} {}", origin.of(&name))).collect::<Vec<_>>()
    });
    match column {
        "state" => (short(&all.chain(by(spec)).collect::<Vec<_>>().join("\n")), Role::Carried),
        _ => (String::new(), Role::Carried),
    }
}
