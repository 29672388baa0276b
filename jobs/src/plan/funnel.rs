//! Funnels: whether their steps and columns fit, and what they are made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use riverrun_dataflow::graph::{Edge, StepWork};
use riverrun_dataflow::schema::Hidden;
use riverrun_operators::expression::Expressions;
use riverrun_operators::funnel::{self, Funnel, FunnelBounds, FunnelSettings, Give};
use riverrun_state::shape::Role;

use super::assemble::Made;
use super::forward::{Forward, StepUses};
use super::need::{Back, ORDER};
use super::shape::{Origin, kept_column};
use super::stream::{Stream, indices};
use crate::fault::{Fault, codes};
use crate::spec::funnel::FunnelSpec;
use crate::spec::values::write_duration;
use crate::yaml::Spanned;

/// How many steps there may be.
const STEPS_MAX: usize = 32;

/// Which columns a funnel has, for messages.
const GIVES: &str = "a funnel gives its keys, its `columns`, `reached`, `last_step`, `completed`, for each step `<name>_at` and \
    `<name>_after_ms`, and `completed_after_ms`; with `give: steps` in their place `step`, `number`, `entered_at`, `taken_at`, \
    `after_ms` and `after_entry_ms`; then `evidence` and `evidence_at`";

impl FunnelSpec {
    fn keys(&self) -> Vec<String> {
        values(&self.by)
    }

    /// Returns what travels with its rows.
    pub(super) fn hidden(&self, input: &Stream) -> Vec<Hidden> {
        funnel::hidden(self.give(), |hidden| input.has(hidden))
    }

    fn give(&self) -> Give {
        if self.is_by_step { Give::Steps } else { Give::Journeys }
    }
}

fn values(names: &[Spanned<String>]) -> Vec<String> {
    names.iter().map(|name| name.value.clone()).collect()
}

impl Forward<'_> {
    /// Returns the columns that a funnel over `input` gives.
    pub(super) fn funnel(&mut self, index: usize, spec: &FunnelSpec, input: &Stream) -> Option<Vec<Field>> {
        let name = &self.spec.steps[index].name.value.clone();
        self.needs_event_time(name, &spec.from, input);
        if spec.by.is_empty() {
            let fault = Fault::error(codes::BAD_KEY, spec.from.span, format!("step `{name}` follows nobody"));
            self.faults.push(fault.hint("name the columns that say who goes through it, such as `by: [user_id]`"));
        }
        let count = spec.steps.value.len();
        if !(1..=STEPS_MAX).contains(&count) {
            let message = format!("step `{name}` is a funnel of {count} steps");
            let rule = format!("there are 1 to {STEPS_MAX}: `name: condition`, one after the other");
            self.faults.push(Fault::error(codes::BAD_QUANTITY, spec.steps.span, message).note(rule));
        }
        let mut uses = StepUses { ordered: true, ..StepUses::default() };
        for (step, condition) in &spec.steps.value {
            let what = format!("`{}` of the `steps` of step `{name}`", step.value);
            uses.uses.extend(self.condition(condition, &what, input));
        }
        let keys = self.keys(name, &spec.by, input, "follows");
        let carried = self.keys(name, &spec.columns, input, "gives along");
        let (keys, carried) = (keys?, carried?);
        uses.uses.extend(keys.iter().chain(&carried).map(|field| field.name().clone()));
        self.uses.insert(index, uses);
        let steps: Vec<&str> = spec.steps.value.iter().map(|(step, _)| step.value.as_str()).collect();
        let has_origin = funnel::has_origin(|hidden| input.has(hidden));
        let columns = match spec.give() {
            Give::Journeys => funnel::columns(&keys, &carried, &steps, has_origin),
            Give::Steps => funnel::step_columns(&keys, &carried, has_origin),
        };
        self.funnel_clashes(name, spec, &columns);
        Some(columns)
    }

    /// Reports the first column that would be there twice, at what the job's author can give another name.
    fn funnel_clashes(&mut self, name: &str, spec: &FunnelSpec, columns: &[Field]) {
        let is_twice = |field: &&Field| columns.iter().filter(|other| other.name() == field.name()).count() > 1;
        let Some(twice) = columns.iter().find(is_twice) else { return };
        let named = spec.by.iter().chain(&spec.columns).find(|column| column.value == *twice.name());
        let step = spec.steps.value.iter().map(|(step, _)| step).find(|step| twice.name().starts_with(&step.value));
        let span = named.or(step).map_or(spec.from.span, |written| written.span);
        let message = format!("step `{name}` would have the column `{}` twice", twice.name());
        let fault = Fault::error(codes::NAME_CLASH, span, message).note(GIVES);
        self.faults.push(fault.hint("rename the column in a `select` before this step, or the step of the funnel"));
    }
}

/// Adds what a funnel needs of its input.
pub(super) fn need(back: &mut Back<'_>, step: usize, uses: &StepUses, input: Edge) {
    let late = back.need(Edge::StepLate(step));
    back.columns(input, uses.uses.iter().cloned().chain(late.columns));
    back.hidden(input, ORDER.into_iter().chain(late.hidden));
}

/// Returns the work of a funnel on exactly the columns that it will be given.
pub(super) fn make(expressions: &Expressions, spec: &FunnelSpec, input: &SchemaRef) -> Made {
    let condition = |(step, sql): &(Spanned<String>, Spanned<String>)| {
        let condition = expressions.compile_predicate(&sql.value, input);
        (step.value.clone(), condition.expect("the condition was checked on the same columns"))
    };
    let bounds = FunnelBounds { keys_max: spec.max_keys, ..FunnelBounds::default() };
    let settings = FunnelSettings {
        by: indices(input, &spec.keys()),
        steps: spec.steps.value.iter().map(condition).collect(),
        within: spec.within,
        again_after: spec.again_after,
        lateness: spec.lateness,
        carried: indices(input, &values(&spec.columns)),
        give: spec.give(),
        bounds,
    };
    let step = Funnel::new(settings, input).expect("keys, columns and event time were checked");
    let longest = write_duration(spec.within.max(spec.again_after) + spec.lateness);
    let keeps = vec![
        format!(
            "journeys: one per key, of at most {} rows, until the watermark is {longest} past its first; at most {} a worker, more \
             stop the job",
            spec.steps.value.len(),
            spec.max_keys
        ),
        format!(
            "waiting rows: until the watermark is {} past them; at most {} a worker, more stop the job",
            write_duration(spec.lateness),
            bounds.waiting_max
        ),
    ];
    Made {
        schema: step.schema().clone(),
        late: Some(input.clone()),
        sides: Vec::new(),
        delay: step.delay(),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        does: does(spec),
        keeps,
    }
}

fn does(spec: &FunnelSpec) -> Vec<(&'static str, String)> {
    let mut does = vec![("by", spec.keys().join(", "))];
    let steps = spec.steps.value.iter();
    does.extend(steps.map(|(step, sql)| ("step", format!("{} = {}", step.value, sql.value.trim()))));
    does.push(("within", write_duration(spec.within)));
    does.push(("again_after", write_duration(spec.again_after)));
    if !spec.columns.is_empty() {
        does.push(("columns", values(&spec.columns).join(", ")));
    }
    does.push(("give", if spec.is_by_step { "steps" } else { "journeys" }.to_owned()));
    does.push(("lateness", write_duration(spec.lateness)));
    does
}

/// Returns where its rows come from.
pub(super) fn origin(name: &str, spec: &FunnelSpec, from: &Origin, given: &[Field]) -> Origin {
    let own = |what: &str| format!("{name}.{what}");
    let mut columns: BTreeMap<String, String> =
        given.iter().map(|field| (field.name().clone(), own(field.name()))).collect();
    columns.extend(spec.by.iter().map(|key| (key.value.clone(), from.of(&key.value))));
    columns.extend(spec.columns.iter().map(|column| {
        let of = format!("{} of {}", own("first"), from.of(&column.value));
        (column.value.clone(), of)
    }));
    columns.insert(Hidden::Time.name().to_owned(), own("time"));
    Origin { rows: own("rows"), columns }
}

/// Returns what decides what its state means: journeys by other rules are other journeys.
pub(super) fn meaning(
    spec: &FunnelSpec,
    from: &Origin,
    condition: impl Fn(&Spanned<String>) -> String,
) -> BTreeMap<String, String> {
    let mut meaning = vec![
        ("state version".to_owned(), funnel::STATE_VERSION.to_string()),
        ("by".to_owned(), spec.keys().join(", ")),
        ("within".to_owned(), write_duration(spec.within)),
        ("again_after".to_owned(), write_duration(spec.again_after)),
        // Rows that had left by the former lateness would come back by a longer one.
        ("lateness".to_owned(), write_duration(spec.lateness)),
    ];
    let carried = spec.columns.iter().map(|column| format!("{} {}", column.value, from.of(&column.value)));
    meaning.push(("columns".to_owned(), carried.collect::<Vec<_>>().join(", ")));
    let steps = spec.steps.value.iter().enumerate();
    // A step may get another name, but not another place or meaning.
    meaning.extend(steps.map(|(number, (_, sql))| (format!("step {}", number + 1), condition(sql))));
    meaning.into_iter().collect()
}

/// Returns what a column of one of its tables is, and what to the step.
pub(super) fn column(spec: &FunnelSpec, from: &Origin, table: &str, column: &str) -> (String, Role) {
    if table == "waiting" {
        return kept_column(from, column, |name| spec.by.iter().any(|key| key.value == name));
    }
    match column.strip_prefix("by.") {
        Some(key) => (from.of(key), Role::Key),
        // What a journey is follows from the rules, which are part of the step's meaning.
        None => (String::new(), Role::Carried),
    }
}

#[cfg(test)]
mod tests;
