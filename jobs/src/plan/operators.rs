//! The step of each operator, on exactly the columns it will be given.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef, TimeUnit};
use riverrun_dataflow::graph::StepWork;
use riverrun_dataflow::schema::visible_of;
use riverrun_operators::aggregate::Aggregate;
use riverrun_operators::expression::{Expression, Expressions};
use riverrun_operators::select::Select;
use riverrun_operators::union::Union;
use riverrun_operators::window::{Window, WindowSettings};

use super::assemble::Made;
use super::forward::{StepUses, quoted};
use super::stream::indices;
use crate::spec::values::write_duration;
use crate::spec::{SelectSpec, WindowSpec};
use crate::yaml::Spanned;

/// Compiles what compiled before, on a schema that has at least the columns it uses.
fn again(expressions: &Expressions, sql: &str, schema: &Schema) -> Expression {
    expressions.compile(sql, schema).expect("the expression was checked on the same columns")
}

/// Returns the work of a select of which only the columns `needed`, and those that are computed, are in use.
pub(super) fn select(
    expressions: &Expressions,
    select: &SelectSpec,
    uses: &StepUses,
    needed: &BTreeSet<String>,
    input: &SchemaRef,
) -> Made {
    let filter = select.condition.as_ref().map(|condition| again(expressions, &condition.value, input));
    let columns: Vec<(String, String)> = match &uses.columns {
        // A computed column stays even if nothing reads it: a row on which it fails is bad.
        Some(columns) => columns
            .iter()
            .filter(|column| !column.plain || needed.contains(&column.name))
            .map(|column| (column.name.clone(), column.sql.clone()))
            .collect(),
        None => visible_of(input)
            .iter()
            .filter(|field| needed.contains(field.name()))
            .map(|field| (field.name().clone(), quoted(field.name())))
            .collect(),
    };
    let compiled = columns.iter().map(|(name, sql)| (name.clone(), again(expressions, sql, input)));
    let step = Select::new(input, filter.clone(), Some(compiled.collect()));
    let written = |sql: &str| again(expressions, sql, input).sql().to_owned();
    let mut does = Vec::new();
    if let Some(filter) = &filter {
        does.push(("where", filter.sql().to_owned()));
    }
    // All columns as written, whatever is in use: two plans differ only if what they were written to do differs.
    match &uses.columns {
        None => does.push(("columns", "all".to_owned())),
        Some(all) => {
            let one = |column: &super::forward::SelectColumn| match column.sql == quoted(&column.name) {
                true => column.name.clone(),
                false if columns.iter().any(|(name, _)| *name == column.name) => {
                    format!("{} as {}", written(&column.sql), column.name)
                }
                false => format!("{} as {}", column.sql, column.name),
            };
            does.push(("columns", all.iter().map(one).collect::<Vec<_>>().join(", ")));
        }
    }
    let schema = step.schema().clone();
    Made {
        work: StepWork::Transform(Arc::new(move || Box::new(step.clone()))),
        schema,
        late: None,
        sides: Vec::new(),
        delay: Duration::ZERO,
        does,
        keeps: Vec::new(),
    }
}

/// Returns the work of a union.
pub(super) fn union(inputs: &[SchemaRef]) -> Made {
    let step = Union::new(inputs).expect("the inputs were compared");
    let schema = step.schema().clone();
    Made {
        work: StepWork::Transform(Arc::new(move || Box::new(step.clone()))),
        schema,
        late: None,
        sides: Vec::new(),
        delay: Duration::ZERO,
        does: Vec::new(),
        keeps: Vec::new(),
    }
}

/// Says what counts towards the bound of a step besides its groups, if its aggregates keep values.
pub(super) fn kept_values(aggregates: &[(String, Aggregate)]) -> &'static str {
    match aggregates.iter().any(|(_, aggregate)| aggregate.keeps_values()) {
        true => ", the values of count(distinct ...) and quantile(...) among them",
        false => "",
    }
}

/// Returns the work of a window.
pub(super) fn window(expressions: &Expressions, window: &WindowSpec, input: &SchemaRef) -> Made {
    let by: Vec<String> = window.by.iter().map(|key| key.value.clone()).collect();
    let compile = |(name, sql): &(Spanned<String>, Spanned<String>)| {
        let aggregate = expressions.compile_aggregate(&sql.value, input);
        (name.value.clone(), aggregate.expect("the aggregate was checked on the same columns"))
    };
    let settings = WindowSettings {
        by: indices(input, &by),
        aggregates: window.aggregates.iter().map(compile).collect(),
        size: window.size.value,
        every: window.every.value,
        lateness: window.lateness,
        unit: TimeUnit::Millisecond,
        groups_max: WindowSettings::GROUPS_MAX,
    };
    let values = kept_values(&settings.aggregates);
    let step = Window::new(settings, input).expect("keys, spans and event time were checked");
    let (size, every) = (write_duration(window.size.value), write_duration(window.every.value));
    let mut does = vec![("by", by.join(", "))];
    match size == every {
        true => does.push(("tumble", size.clone())),
        false => does.push(("hop", format!("{size} every {every}"))),
    }
    does.push(("lateness", write_duration(window.lateness)));
    does.extend(
        window.aggregates.iter().map(|(name, sql)| ("aggregate", format!("{} = {}", name.value, sql.value.trim()))),
    );
    let open = write_duration(window.size.value + window.lateness);
    let keeps = format!(
        "groups: one per key and window, until the watermark is {open} past its beginning; at most {} a worker{values}",
        WindowSettings::GROUPS_MAX
    );
    let schema = step.schema().clone();
    Made {
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        schema,
        late: Some(input.clone()),
        sides: Vec::new(),
        delay: window.lateness,
        does,
        keeps: vec![keeps],
    }
}
