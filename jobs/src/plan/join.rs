//! Joins: whether both sides fit, and what they are made of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, SchemaRef};
use riverrun_dataflow::graph::{Edge, StepWork};
use riverrun_dataflow::schema::Hidden;
use riverrun_operators::join::{Join, JoinKind, JoinSettings};
use riverrun_state::shape::Role;

use super::assemble::{Made, behind};
use super::forward::Forward;
use super::need::{Back, ORDER};
use super::shape::{Origin, kept_column};
use super::stream::{Stream, indices, type_name, with_article};
use crate::fault::{Fault, codes};
use crate::spec::JoinSpec;
use crate::spec::values::{column_name, write_duration};

impl JoinSpec {
    fn kind(&self) -> JoinKind {
        if self.is_left { JoinKind::Left } else { JoinKind::Inner }
    }

    /// Returns the columns of the key on the left and on the right.
    fn sides(&self) -> [Vec<String>; 2] {
        let of = |side: fn(&(crate::yaml::Spanned<String>, crate::yaml::Spanned<String>)) -> &String| {
            self.on.iter().map(|pair| side(pair).clone()).collect()
        };
        [of(|pair| &pair.0.value), of(|pair| &pair.1.value)]
    }

    /// Returns the key as a person writes it.
    pub(super) fn on_text(&self) -> String {
        let one = |(left, right): &(crate::yaml::Spanned<String>, crate::yaml::Spanned<String>)| {
            if left.value == right.value { left.value.clone() } else { format!("{} = {}", left.value, right.value) }
        };
        self.on.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Returns the window as a person reads it.
    pub(super) fn within_text(&self) -> String {
        format!("{} before to {} after", write_duration(self.before), write_duration(self.after))
    }
}

impl Forward<'_> {
    /// Returns the columns that a join gives.
    pub(super) fn join(&mut self, name: &str, join: &JoinSpec, inputs: &[Stream]) -> Option<Vec<Field>> {
        let (left, right) = (&inputs[0], &inputs[1]);
        self.needs_event_time(name, &join.left, left);
        self.needs_event_time(name, &join.right, right);
        let (ours, theirs): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
        let ours = self.keys(name, &ours, left, "joins on");
        let theirs = self.keys(name, &theirs, right, "joins on");
        for ((one, two), (written, _)) in ours?.iter().zip(theirs?).zip(&join.on) {
            if one.data_type() != two.data_type() {
                let [ours, theirs] = [one, &two].map(|field| with_article(&type_name(field.data_type())));
                let message = format!("step `{name}` joins on columns of two types");
                let note = format!(
                    "`{}` is {ours} in `{}` and `{}` is {theirs} in `{}`",
                    one.name(),
                    left.name,
                    two.name(),
                    right.name
                );
                let fault = Fault::error(codes::BAD_KEY, written.span, message).note(note);
                self.faults.push(fault.hint("cast one of them in a `select`"));
            }
        }
        // Whatever follows the prefix is a name already.
        if let Err(rule) = column_name(&format!("{}x", join.prefix.value)) {
            let message = format!("step `{name}` has the prefix `{}`", join.prefix.value);
            self.faults.push(Fault::error(codes::BAD_NAME, join.prefix.span, message).note(rule));
            return None;
        }
        let columns = Join::columns(&left.schema(), &right.schema(), &join.prefix.value, join.kind());
        for (index, field) in columns.iter().enumerate() {
            if columns[..index].iter().any(|other| other.name() == field.name()) {
                let message = format!("step `{name}` would have the column `{}` twice", field.name());
                let note = format!(
                    "it gives the columns of `{}`, then those of `{}` as `{}...`",
                    left.name, right.name, join.prefix.value
                );
                let fault = Fault::error(codes::NAME_CLASH, join.left.span, message).note(note);
                self.faults.push(fault.hint("choose another `prefix`, or rename the column in a `select` before"));
            }
        }
        Some(columns)
    }
}

/// Adds what a join needs of its inputs.
pub(super) fn need(back: &mut Back<'_>, step: usize, join: &JoinSpec, inputs: &[Edge]) {
    let (rows, late) = (back.need(Edge::Step(step)), back.need(Edge::StepLate(step)));
    let [ours, theirs] = join.sides();
    let names = |back: &Back<'_>, edge: &Edge| -> BTreeSet<String> {
        back.streams[edge].columns.iter().map(|field| field.name().clone()).collect()
    };
    let (left, right) = (names(back, &inputs[0]), names(back, &inputs[1]));
    let asked = rows.columns.iter().chain(&late.columns).filter(|name| left.contains(*name)).cloned();
    let of_left: Vec<String> = asked.chain(ours).collect();
    // A late right row is given where both sides have the same columns.
    let prefixed = rows.columns.iter().filter_map(|name| name.strip_prefix(join.prefix.value.as_str()));
    let asked = prefixed.chain(late.columns.iter().map(String::as_str)).filter(|name| right.contains(*name));
    let of_right: Vec<String> = asked.map(str::to_owned).chain(theirs).collect();
    back.columns(inputs[0], of_left);
    back.columns(inputs[1], of_right);
    for edge in inputs {
        back.hidden(*edge, ORDER.into_iter().chain(late.hidden.iter().copied()));
    }
    // Pairs have the id and the origin of their left row.
    back.hidden(inputs[0], rows.hidden);
}

/// Returns the work of a join.
pub(super) fn make(join: &JoinSpec, schemas: &[SchemaRef], slack: Duration) -> Made {
    let [ours, theirs] = join.sides();
    let settings = JoinSettings {
        left_keys: indices(&schemas[0], &ours),
        right_keys: indices(&schemas[1], &theirs),
        before: join.before,
        after: join.after,
        kind: join.kind(),
        prefix: join.prefix.value.clone(),
        max_per_key: join.max_per_key,
        max_rows: join.max_rows,
    };
    let step = Join::new(settings, &schemas[0], &schemas[1]).expect("keys and schemas were checked");
    let spans = step.spans().map(write_duration);
    let behind = behind(slack);
    let most = format!("at most {} of a key, more are bad rows", join.max_per_key);
    let keeps = vec![
        format!("left rows: {} of event time{behind}; {most}", spans[0]),
        format!("right rows: {} of event time{behind}; {most}", spans[1]),
        format!("both: at most {} rows a worker, more stop the job", join.max_rows),
    ];
    let does = vec![
        ("on", join.on_text()),
        ("within", join.within_text()),
        ("kind", if join.is_left { "left" } else { "inner" }.to_owned()),
        ("max_per_key", join.max_per_key.to_string()),
    ];
    Made {
        schema: step.schema().clone(),
        late: Some(step.late_schema().clone()),
        sides: Vec::new(),
        delay: step.delay(),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        does,
        keeps,
    }
}

/// Returns where its rows come from.
pub(super) fn origin(name: &str, join: &JoinSpec, from: &[Origin]) -> Origin {
    let own = |what: &str| format!("{name}.{what}");
    let mut columns = from[0].columns.clone();
    let prefixed = |column: &String| format!("{}{column}", join.prefix.value);
    let right = from[1].columns.iter().filter(|(column, _)| !riverrun_dataflow::schema::is_hidden(column));
    columns.extend(right.map(|(column, of)| (prefixed(column), own(of))));
    columns.insert(Hidden::Time.name().to_owned(), own("time"));
    Origin { rows: own("rows"), columns }
}

/// Returns what a column of one of its tables is, and what to the step.
pub(super) fn column(join: &JoinSpec, from: &[Origin], table: &str, column: &str) -> (String, Role) {
    let side = usize::from(table == "right");
    let keys = &join.sides()[side];
    kept_column(&from[side], column, |name| keys.iter().any(|key| key == name))
}
