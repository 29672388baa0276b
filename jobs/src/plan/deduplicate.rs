//! Deduplications: what their keys are, and what they are made of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, SchemaRef};
use riverrun_dataflow::graph::{Edge, StepWork};
use riverrun_dataflow::schema::{Hidden, is_hidden};
use riverrun_operators::deduplicate::{Deduplicate, DeduplicateSettings};
use riverrun_state::shape::Role;

use super::assemble::{Made, behind};
use super::forward::Forward;
use super::need::{Back, ORDER};
use super::shape::{Origin, short};
use super::stream::{Stream, indices};
use crate::fault::{Fault, codes};
use crate::spec::DeduplicateSpec;
use crate::spec::values::write_duration;

impl DeduplicateSpec {
    /// Returns the columns of the key: those that are named, or the hidden id.
    pub(super) fn key(&self) -> Vec<String> {
        match self.by.is_empty() {
            true => vec![Hidden::Id.name().to_owned()],
            false => self.by.iter().map(|name| name.value.clone()).collect(),
        }
    }

    fn compared(&self) -> Vec<String> {
        self.compare.iter().map(|name| name.value.clone()).collect()
    }

    fn key_text(&self) -> String {
        if self.by.is_empty() { "the id of its source".to_owned() } else { self.key().join(", ") }
    }
}

impl Forward<'_> {
    /// Returns the columns that a deduplication gives: those of its input.
    pub(super) fn deduplicate(&mut self, name: &str, spec: &DeduplicateSpec, input: &Stream) -> Option<Vec<Field>> {
        self.needs_event_time(name, &spec.from, input);
        if spec.by.is_empty() && !input.has(Hidden::Id) {
            let message = format!("step `{name}` has no `by`, and its input has no id");
            let fault = Fault::error(codes::NO_ID, spec.from.span, message);
            self.faults.push(fault.hint("name the columns of the key, or an `id` in the source"));
        }
        self.keys(name, &spec.by, input, "deduplicates by")?;
        self.keys(name, &spec.compare, input, "compares")?;
        let own = ["kept_hash", "refused_hash"];
        if let Some(clash) = own.into_iter().find(|own| !spec.compare.is_empty() && input.column(own).is_some()) {
            let message = format!("step `{name}` would have the column `{clash}` twice in `{name}.conflicts`");
            let fault = Fault::error(codes::NAME_CLASH, spec.from.span, message);
            self.faults.push(fault.hint("rename it in a `select` before this step"));
        }
        Some(input.columns.clone())
    }
}

/// Adds what a deduplication needs of its input.
pub(super) fn need(back: &mut Back<'_>, step: usize, spec: &DeduplicateSpec, input: Edge) {
    let outputs = [Edge::Step(step), Edge::StepLate(step), Edge::StepSide(step, 0), Edge::StepSide(step, 1)];
    let needs = outputs.map(|edge| back.need(edge));
    let theirs: BTreeSet<String> = back.streams[&input].columns.iter().map(|field| field.name().clone()).collect();
    let asked = needs.iter().flat_map(|need| need.columns.iter().cloned()).filter(|name| theirs.contains(name));
    let key = spec.key().into_iter().filter(|name| !is_hidden(name));
    let columns: Vec<String> = asked.chain(key).chain(spec.compared()).collect();
    back.columns(input, columns);
    back.hidden(input, needs.into_iter().flat_map(|need| need.hidden).chain(ORDER));
}

/// Returns the work of a deduplication of whose side outputs those in `read` are in use.
pub(super) fn make(spec: &DeduplicateSpec, input: &SchemaRef, read: [bool; 2], slack: Duration) -> Made {
    let settings = DeduplicateSettings {
        keys: indices(input, &spec.key()),
        within: spec.within,
        lateness: spec.lateness,
        compare: indices(input, &spec.compared()),
        max_keys: spec.max_keys,
        sides: read,
    };
    let step = Deduplicate::new(settings, input).expect("keys and event time were checked");
    let mut does = vec![
        ("by", spec.key_text()),
        ("within", write_duration(spec.within)),
        ("lateness", write_duration(spec.lateness)),
    ];
    if !spec.compare.is_empty() {
        does.push(("compare", spec.compared().join(", ")));
    }
    let span = write_duration(spec.within + spec.lateness);
    let keeps = format!(
        "keys: some 40 bytes of each that was accepted in {span} of event time{}; at most {} a worker, more stop the job",
        behind(slack),
        spec.max_keys
    );
    Made {
        schema: step.schema().clone(),
        late: Some(step.schema().clone()),
        sides: vec![step.schema().clone(), step.conflicts_schema().clone()],
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        delay: Duration::ZERO,
        does,
        keeps: vec![keeps],
    }
}

/// Returns where its rows come from.
pub(super) fn origin(name: &str, spec: &DeduplicateSpec, from: &Origin) -> Origin {
    let key: Vec<String> = spec.key().iter().map(|column| from.of(column)).collect();
    let rows = short(&format!("{} first in {name} of {}", from.rows, key.join("\n")));
    Origin { rows, columns: from.columns.clone() }
}

/// Returns what a column of its table is, and what to the step.
pub(super) fn column(spec: &DeduplicateSpec, from: &Origin, column: &str) -> (String, Role) {
    let all = |columns: Vec<String>| {
        short(&columns.iter().map(|column| format!("{column} {}", from.of(column))).collect::<Vec<_>>().join("\n"))
    };
    match column {
        "body_hash" if spec.compare.is_empty() => (String::new(), Role::Carried),
        "body_hash" => (all(spec.compared()), Role::Carried),
        hidden if is_hidden(hidden) => (from.of(hidden), Role::Key),
        _ => (all(spec.key()), Role::Key),
    }
}
