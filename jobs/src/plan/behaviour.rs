//! The behaviour steps: whether their inputs have what they read, and their work.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, SchemaRef};
use riverrun_dataflow::graph::StepWork;
use riverrun_dataflow::schema::Hidden;
use riverrun_operators::frustration::{self, Frustration, FrustrationBounds, FrustrationSettings, Sessions, settings};
use riverrun_operators::incidents::{self, Incidents, IncidentsBounds, IncidentsSettings};
use riverrun_operators::problems::{self, Problems, ProblemsBounds, ProblemsSettings};
use riverrun_operators::scroll_baseline::{
    self, ScrollBaseline, ScrollBaselineBounds, ScrollBaselineSettings, UsualSettings,
};

use super::assemble::Made;
use super::forward::Forward;
use super::stream::{Stream, indices};
use crate::fault::{Fault, codes};
use crate::spec::OperatorSpec;
use crate::spec::behaviour::{FrustrationSpec, IncidentsSpec, ProblemsSpec, ScrollBaselineSpec};
use crate::spec::values::write_duration;
use crate::yaml::Spanned;

/// Hidden columns that a behaviour step asks for: when its rows were, and where they were read.
pub(super) const HIDDEN: [Hidden; 3] = [Hidden::Time, Hidden::Split, Hidden::Position];

/// Returns the key of a behaviour step on rows of `input`; none of another step.
pub(super) fn keys(operator: &OperatorSpec, input: &SchemaRef) -> Option<Vec<String>> {
    match operator {
        OperatorSpec::Frustration(spec) => Some(frustration::keys_in(input, &sessions_of(spec))),
        OperatorSpec::Incidents(_) => Some(frustration::signal_keys_in(input)),
        OperatorSpec::Problems(_) => Some(problems::keys_in(input)),
        OperatorSpec::ScrollBaseline(_) => Some(scroll_baseline::keys_in(input)),
        _ => None,
    }
}

/// Returns the columns of `input` that a behaviour step reads.
pub(super) fn columns_used(operator: &OperatorSpec, input: &SchemaRef) -> Vec<String> {
    let used = match operator {
        OperatorSpec::Frustration(_) => frustration::columns_used(input),
        OperatorSpec::Incidents(_) => incidents::columns_used(input),
        OperatorSpec::Problems(_) => problems::columns_used(input),
        OperatorSpec::ScrollBaseline(_) => scroll_baseline::columns_used(input),
        _ => Vec::new(),
    };
    used.into_iter().map(str::to_owned).collect()
}

/// Returns the version of what a behaviour step keeps; none of another step.
pub(super) fn state_version(operator: &OperatorSpec) -> Option<u32> {
    match operator {
        OperatorSpec::Frustration(_) => Some(frustration::STATE_VERSION),
        OperatorSpec::Incidents(_) => Some(incidents::STATE_VERSION),
        OperatorSpec::Problems(_) => Some(problems::STATE_VERSION),
        OperatorSpec::ScrollBaseline(_) => Some(scroll_baseline::STATE_VERSION),
        _ => None,
    }
}

/// Returns what decides what a behaviour step gives, in the words of its job, for plans that are compared.
pub(super) fn settings_of(operator: &OperatorSpec) -> Vec<(&'static str, String)> {
    match operator {
        OperatorSpec::Frustration(spec) => frustration_words(spec),
        OperatorSpec::Incidents(spec) => incidents_words(spec),
        OperatorSpec::Problems(spec) => problems_words(spec),
        OperatorSpec::ScrollBaseline(spec) => scroll_baseline_words(spec),
        _ => Vec::new(),
    }
}

/// Returns how long after the watermark a behaviour step takes rows.
pub(super) fn lateness_of(operator: &OperatorSpec) -> Duration {
    match operator {
        OperatorSpec::Frustration(spec) => spec.lateness,
        _ => Duration::ZERO,
    }
}

impl Forward<'_> {
    /// Returns the columns of a `frustration` of `input`.
    pub(super) fn frustration(&mut self, name: &str, spec: &FrustrationSpec, input: &Stream) -> Option<Vec<Field>> {
        let schema = input.schema();
        let read = "behaviour events: what happened, in which session, with an id";
        let hint = "read a source with `schema: \"@behaviour-event\"`, or give the columns these names in a `select`";
        self.reads(name, &spec.from, input, frustration::misfit(&schema, &sessions_of(spec)), (read, hint))?;
        if let Some(span) = spec.misplaced {
            let message = format!("`max_duration` of step `{name}` does not go with `sessions: named`");
            let fault = Fault::error(codes::DOES_NOT_FIT, span, message);
            self.faults.push(fault.hint("leave it out, or say `sessions: device`"));
        }
        let mut rules = frustration::preset(&spec.preset, None)?;
        for setting in &spec.settings {
            let written: Vec<&str> = setting.written.iter().map(String::as_str).collect();
            if let Err(reason) = rules.set(setting.group, setting.name, &written) {
                let message = format!("`{}.{}` of step `{name}` cannot be set", setting.group, setting.name);
                self.faults.push(Fault::error(codes::BAD_QUANTITY, setting.span, message).note(reason));
            }
        }
        Some(frustration::columns(&schema))
    }

    /// Returns the columns of an `incidents` of `input`.
    pub(super) fn incidents(&mut self, name: &str, spec: &IncidentsSpec, input: &Stream) -> Option<Vec<Field>> {
        for (key, span) in &spec.misplaced {
            let message = format!("`{key}` of step `{name}` does not go with `scope: session`");
            self.faults
                .push(Fault::error(codes::DOES_NOT_FIT, *span, message).hint("leave it out, or say `scope: gap`"));
        }
        let schema = input.schema();
        let read = ("signals", "let it read a step of `frustration`, with all of its columns");
        self.reads(name, &spec.from, input, incidents::misfit(&schema), read)?;
        let keys = frustration::signal_keys_in(&schema);
        let keys: Vec<Field> = keys.iter().filter_map(|key| input.column(key).cloned()).collect();
        Some(incidents::columns(&keys))
    }

    /// Returns the columns of a `problems` of `input`.
    pub(super) fn problems(&mut self, name: &str, spec: &ProblemsSpec, input: &Stream) -> Option<Vec<Field>> {
        if spec.window.value < spec.hop {
            let message = format!("step `{name}` has a window of {}", write_duration(spec.window.value));
            let rule = format!("it is at least one `hop`, which is {}", write_duration(spec.hop));
            self.faults.push(Fault::error(codes::BAD_QUANTITY, spec.window.span, message).note(rule));
        }
        let schema = input.schema();
        let read = ("incidents", "let it read a step of `incidents`, with all of its columns");
        self.reads(name, &spec.from, input, problems::misfit(&schema), read)?;
        let keys = problems::keys_in(&schema);
        let keys: Vec<Field> = keys.iter().filter_map(|key| input.column(key).cloned()).collect();
        Some(problems::columns(&keys))
    }

    /// Returns the columns of a `scroll_baseline` of `input`.
    pub(super) fn scroll_baseline(
        &mut self,
        name: &str,
        spec: &ScrollBaselineSpec,
        input: &Stream,
    ) -> Option<Vec<Field>> {
        let schema = input.schema();
        let read = (
            "signals",
            "let it read a step of `frustration` with `scroll: { page_ends: true }`, with all of its columns",
        );
        self.reads(name, &spec.from, input, scroll_baseline::misfit(&schema), read)?;
        Some(frustration::columns(&schema))
    }

    /// Reports an input that is not made of the rows that a step reads: what they are, and how to come by them.
    fn reads(
        &mut self,
        name: &str,
        from: &Spanned<String>,
        input: &Stream,
        misfit: Option<String>,
        (read, hint): (&str, &str),
    ) -> Option<()> {
        self.needs_event_time(name, from, input);
        let Some(reason) = misfit else { return Some(()) };
        let message = format!("step `{name}` cannot read `{}`: {reason}", input.name);
        let fault = Fault::error(codes::NOT_ITS_ROWS, from.span, message);
        self.faults.push(fault.note(format!("it reads {read}")).note(input.columns_note()).hint(hint));
        None
    }
}

fn sessions_of(spec: &FrustrationSpec) -> Sessions {
    match spec.is_device {
        true => Sessions::of_device(spec.gap, spec.max_duration),
        false => Sessions::Named,
    }
}

/// Returns the settings of the rules that a job's author chose.
fn rules_of(spec: &FrustrationSpec) -> settings::Settings {
    let mut rules = frustration::preset(&spec.preset, spec.signals.as_deref()).expect("presets go by name");
    for setting in &spec.settings {
        let written: Vec<&str> = setting.written.iter().map(String::as_str).collect();
        rules.set(setting.group, setting.name, &written).expect("settings were checked");
    }
    rules
}

fn frustration_words(spec: &FrustrationSpec) -> Vec<(&'static str, String)> {
    let sessions = match spec.is_device {
        true => format!("device, at most {}", write_duration(spec.max_duration)),
        false => "named".to_owned(),
    };
    let mut words = vec![
        ("sessions", sessions),
        ("preset", spec.preset.clone()),
        ("signals", spec.signals.as_ref().map_or("all".to_owned(), |signals| signals.join(", "))),
        ("gap", write_duration(spec.gap)),
        ("lateness", write_duration(spec.lateness)),
        ("goals", spec.goals.join(", ")),
    ];
    // What is written as the preset has it anyway changes nothing.
    let (rules, preset) = (rules_of(spec), frustration::preset(&spec.preset, None).expect("presets go by name"));
    let mut set = Vec::new();
    for group in settings::Settings::GROUPS {
        for field in settings::Settings::fields(group) {
            let value = rules.get(group, field.name);
            if value != preset.get(group, field.name) {
                set.push(format!("{group}.{} = {}", field.name, value.unwrap_or_default()));
            }
        }
    }
    if !set.is_empty() {
        words.push(("settings", set.join("; ")));
    }
    words
}

/// Returns the work of a `frustration`.
pub(super) fn make_frustration(spec: &FrustrationSpec, input: &SchemaRef, slack: Duration) -> Made {
    let sessions = sessions_of(spec);
    let keys = frustration::keys_in(input, &sessions);
    let rules = rules_of(spec);
    let recover = Duration::from_micros(rules.checkout.recover.us.max(0).unsigned_abs());
    let bounds = FrustrationBounds::default();
    let settings = FrustrationSettings {
        sessions,
        by: indices(input, &keys),
        rules,
        gap: spec.gap,
        lateness: spec.lateness,
        goals: frustration::kinds(&spec.goals),
        bounds,
    };
    let step = Frustration::new(settings, input).expect("the columns were checked");
    let (gap, recover) = (write_duration(spec.gap), write_duration(recover));
    let waiting = slack + spec.lateness;
    let keeps = vec![
        format!(
            "sessions: until {gap} after the last thing done in them, {recover} longer where there were signals; at most {} a \
             worker, each with at most 32 tabs, 50 signals of a kind and 200 of all",
            bounds.sessions_max
        ),
        format!(
            "events that wait for the watermark: {} of event time; at most {} a worker",
            write_duration(waiting),
            bounds.waiting_max
        ),
    ];
    let mut does = vec![("by", keys.join(", "))];
    does.extend(frustration_words(spec));
    Made {
        sides: Vec::new(),
        schema: step.schema().clone(),
        late: Some(input.clone()),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        delay: spec.lateness,
        does,
        keeps,
    }
}

/// Returns what signals are worth, and how they make incidents.
fn case_of(spec: &IncidentsSpec) -> incidents::Settings {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let [open, medium, high, critical] = spec.points.map(|points| u32::try_from(points).unwrap_or(u32::MAX));
    let ours = incidents::Scoring::default();
    let scoring = incidents::Scoring {
        funnel: spec.funnel.clone().unwrap_or(ours.funnel),
        span_ms: millis(spec.span),
        open,
        medium,
        high,
        critical,
    };
    let scope = match spec.is_gap {
        true => incidents::Scope::Gap { quiet_ms: millis(spec.quiet), age_ms: millis(spec.age) },
        false => incidents::Scope::Session,
    };
    let named_max = usize::try_from(spec.named).unwrap_or(usize::MAX);
    incidents::Settings { scoring, scope, coalesce_ms: millis(spec.coalesce), named_max }
}

fn incidents_words(spec: &IncidentsSpec) -> Vec<(&'static str, String)> {
    let [open, medium, high, critical] = spec.points;
    let scope = match spec.is_gap {
        true => format!("gap: {} quiet, {} of age", write_duration(spec.quiet), write_duration(spec.age)),
        false => "session".to_owned(),
    };
    vec![
        ("scope", scope),
        ("opens", format!("at {open} points in {}", write_duration(spec.span))),
        ("severity", format!("medium {medium}, high {high}, critical {critical}")),
        ("funnel", case_of(spec).scoring.funnel.join(", ")),
        ("coalesce", write_duration(spec.coalesce)),
        ("named", spec.named.to_string()),
        ("keep", write_duration(spec.keep)),
        ("forget", format!("after {}", write_duration(spec.forget_after))),
    ]
}

/// Returns the work of an `incidents`.
pub(super) fn make_incidents(spec: &IncidentsSpec, input: &SchemaRef, slack: Duration) -> Made {
    let keys = frustration::signal_keys_in(input);
    let bounds = IncidentsBounds::default();
    let settings = IncidentsSettings {
        by: indices(input, &keys),
        case: case_of(spec),
        keep: spec.keep,
        forget_after: spec.forget_after,
        bounds,
    };
    let step = Incidents::new(settings, input).expect("the columns were checked");
    let (keep, forget) = (write_duration(spec.keep), write_duration(spec.forget_after));
    let keeps = vec![
        format!(
            "cases: of sessions with signals, until {keep} after they close, and {forget} without a signal at most; at most {} a worker, each of at most 400 signals",
            bounds.cases_max
        ),
        format!(
            "signals that wait for the watermark: {} of event time; at most {} a worker",
            write_duration(slack),
            bounds.waiting_max
        ),
    ];
    let mut does = vec![("by", keys.join(", "))];
    does.extend(incidents_words(spec));
    Made {
        sides: Vec::new(),
        schema: step.schema().clone(),
        late: Some(input.clone()),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        delay: Duration::ZERO,
        does,
        keeps,
    }
}

fn scroll_baseline_words(spec: &ScrollBaselineSpec) -> Vec<(&'static str, String)> {
    vec![
        ("usual", format!("from {} page views on, up to the mean and {} deviations", spec.views, spec.sigma)),
        ("forget", format!("after {}", write_duration(spec.forget_after))),
    ]
}

/// Returns the work of a `scroll_baseline`.
pub(super) fn make_scroll_baseline(spec: &ScrollBaselineSpec, input: &SchemaRef, slack: Duration) -> Made {
    let keys = scroll_baseline::keys_in(input);
    let bounds = ScrollBaselineBounds::default();
    let settings = ScrollBaselineSettings {
        by: indices(input, &keys),
        usual: UsualSettings { views: spec.views, sigma: spec.sigma },
        forget_after: spec.forget_after,
        bounds,
    };
    let step = ScrollBaseline::new(settings, input).expect("the columns were checked");
    let keeps = vec![
        format!(
            "pages: three numbers each, until no view has ended for {}; at most {} a worker",
            write_duration(spec.forget_after),
            bounds.pages_max
        ),
        format!(
            "rows that wait for the watermark: {} of event time; at most {} a worker",
            write_duration(slack),
            bounds.waiting_max
        ),
    ];
    let mut does = vec![("by", keys.join(", "))];
    does.extend(scroll_baseline_words(spec));
    Made {
        sides: Vec::new(),
        schema: step.schema().clone(),
        late: Some(input.clone()),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        delay: Duration::ZERO,
        does,
        keeps,
    }
}

fn problems_words(spec: &ProblemsSpec) -> Vec<(&'static str, String)> {
    let [sessions, persons, critical] = spec.gate;
    vec![
        ("window", format!("{} every {}", write_duration(spec.window.value), write_duration(spec.hop))),
        ("gate", format!("{sessions} sessions of {persons} persons, or {critical} sessions if one is critical")),
        ("repeat", write_duration(spec.repeat)),
    ]
}

/// Returns the work of a `problems`.
pub(super) fn make_problems(spec: &ProblemsSpec, input: &SchemaRef, slack: Duration) -> Made {
    let keys = problems::keys_in(input);
    let bounds = ProblemsBounds::default();
    let gate = problems::gate(spec.window.value, spec.hop, spec.repeat, spec.gate);
    let step = Problems::new(ProblemsSettings { by: indices(input, &keys), gate, bounds }, input);
    let step = step.expect("the columns were checked");
    let window = write_duration(spec.window.value);
    let keeps = vec![
        format!(
            "problems: of fingerprints with an incident in the last {window}; at most {} a worker, each of at most {} incidents",
            bounds.problems_max,
            problems::MEMBERS_MAX
        ),
        format!(
            "incidents that wait for the watermark: {} of event time; at most {} a worker",
            write_duration(slack),
            bounds.waiting_max
        ),
    ];
    let mut does = vec![("by", keys.join(", "))];
    does.extend(problems_words(spec));
    Made {
        sides: Vec::new(),
        schema: step.schema().clone(),
        late: Some(input.clone()),
        work: StepWork::Operator(Arc::new(move |shards| Box::new(step.on(shards)))),
        delay: Duration::ZERO,
        does,
        keeps,
    }
}

#[cfg(test)]
mod tests;
