//! What names a row of a stream, and how its rows make a table: followed back from the sink to the step that makes them.

use riverrun_dataflow::graph::{Edge, bad_columns};
use riverrun_dataflow::schema::visible_of;

use crate::plan::{Plan, PlannedStep};

/// How the rows of a stream make the table that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Each row stands.
    Rows,
    /// A row with `op` `-` takes back one that equals it otherwise.
    Signed,
    /// A row replaces the one of its key with a lower `rev`.
    Revised,
}

/// What the rows of a stream are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Orders, credited to touches.
    Credits,
    /// Sessions of people who do not get on.
    Incidents,
    /// Signs that somebody does not get on.
    Signals,
    /// Anything else.
    Rows,
}

/// What is known of the rows of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The columns that name a row; none where nothing does.
    pub key: Vec<String>,
    pub form: Form,
    pub subject: Subject,
}

impl Identity {
    fn rows(key: Vec<String>) -> Identity {
        Identity { key, form: Form::Rows, subject: Subject::Rows }
    }

    fn named(key: &str, form: Form, subject: Subject) -> Identity {
        Identity { key: vec![key.to_owned()], form, subject }
    }

    /// Returns what is known of the rows on `edge`.
    pub fn of(plan: &Plan, edge: Edge) -> Identity {
        match edge {
            Edge::Source(index) => Identity::rows(plan.sources[index].schema.id.iter().cloned().collect()),
            Edge::SourceBad(_) | Edge::StepBad(_) => {
                let place = ["source", "split", "position"];
                let columns = bad_columns();
                let known = |name: &&str| columns.iter().any(|field| field.name() == name);
                Identity::rows(place.into_iter().filter(known).map(str::to_owned).collect())
            }
            Edge::StepLate(index) => Identity::rows(Identity::of(plan, plan.steps[index].inputs[0].from).key),
            Edge::StepSide(index, side) => Identity::of_side(plan, &plan.steps[index], side),
            Edge::Step(index) => Identity::of_step(plan, &plan.steps[index]),
        }
    }

    fn of_side(plan: &Plan, step: &PlannedStep, side: usize) -> Identity {
        match step.sides[side].name {
            "paths" => Identity { key: ledger_key(step, &["order_id"]), form: Form::Signed, subject: Subject::Rows },
            _ => Identity::rows(Identity::of(plan, step.inputs[0].from).key),
        }
    }

    fn of_step(plan: &Plan, step: &PlannedStep) -> Identity {
        let input = || Identity::of(plan, step.inputs[0].from);
        let is_signed = visible_of(&step.schema).iter().any(|field| field.name() == "op");
        match step.operator {
            "select" => input(),
            "union" => {
                let first = input();
                let mut others = step.inputs[1..].iter().map(|other| Identity::of(plan, other.from));
                if others.all(|other| other == first) { first } else { Identity::rows(Vec::new()) }
            }
            "window" => {
                let start = "window_start".to_owned();
                Identity::rows([vec![start], step.inputs[0].keys.clone()].concat())
            }
            "deduplicate" | "funnel" => Identity::rows(step.inputs[0].keys.clone()),
            "attribute" if is_signed => {
                let key = ledger_key(step, &["order_id", "model"]);
                Identity { key, form: Form::Signed, subject: Subject::Credits }
            }
            "attribute" => Identity { subject: Subject::Credits, form: Form::Rows, key: input().key },
            "sessionize" => {
                let form = if is_signed { Form::Signed } else { Form::Rows };
                Identity::named("session_id", form, Subject::Rows)
            }
            "frustration" | "scroll_baseline" => Identity::named("signal_id", Form::Revised, Subject::Signals),
            "incidents" => Identity::named("incident_id", Form::Revised, Subject::Incidents),
            "problems" => Identity::named("fingerprint", Form::Revised, Subject::Rows),
            // A pair is named by its left row, of which there may be several.
            _ => Identity::rows(input().key),
        }
    }
}

fn ledger_key(step: &PlannedStep, own: &[&str]) -> Vec<String> {
    let keys = step.inputs[0].keys.iter().cloned();
    keys.chain(own.iter().map(|name| (*name).to_owned())).collect()
}
