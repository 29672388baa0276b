//! Sessions in a plan: whether a `sessionize` can work on its input, and the step that is made of it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use riverrun_dataflow::graph::StepWork;
use riverrun_dataflow::schema::visible_of;
use riverrun_operators::events::EventReader;
use riverrun_operators::expression::Expressions;
use riverrun_operators::sessionize::{
    EVENT_COLUMNS, Interactions, Mode, Sessionize, SessionizeSettings, Splits, columns, zone_of,
};

use super::assemble::Made;
use super::forward::{Forward, StepUses};
use super::operators::kept_values;
use super::stream::{Stream, indices, type_name, with_article};
use crate::fault::{Fault, codes, list};
use crate::spec::SessionizeSpec;
use crate::spec::values::write_duration;
use crate::yaml::Spanned;

/// The columns of behaviour events that tell a browser from a server.
const ORIGIN: [&str; 4] = ["tab_id", "page_load_id", "mono_ms", "client_time"];

/// Which columns a session has, for messages.
const GIVES: &str = "a session gives `session_id`, `session_start`, `session_end`, `closed_by`, its keys and its aggregates, \
    and where `behaviour` is true `is_bot` and `bot_reason`; a live one also `op`, `rev`, `events`, `interactions` and \
    `merged_into`";

impl Forward<'_> {
    /// Returns the columns of sessions over `input`.
    pub(super) fn sessionize(&mut self, index: usize, step: &SessionizeSpec, input: &Stream) -> Option<Vec<Field>> {
        let name = &self.spec.steps[index].name.value.clone();
        self.needs_event_time(name, &step.from, input);
        if step.by.is_empty() {
            let fault = Fault::error(codes::BAD_KEY, step.from.span, format!("step `{name}` has sessions of nobody"));
            self.faults.push(fault.hint("name the columns that say whose they are, such as `by: [user_id]`"));
        }
        let mut uses = StepUses { ordered: true, ..StepUses::default() };
        self.session_columns(name, step, input, &mut uses);
        for (word, condition) in [("extend_when", &step.extend_when), ("leave_when", &step.leave_when)] {
            if let Some(condition) = condition {
                let what = format!("the `{word}` of step `{name}`");
                uses.uses.extend(self.condition(condition, &what, input));
            }
        }
        let keys = self.keys(name, &step.by, input, "groups by")?;
        uses.uses.extend(keys.iter().map(|key| key.name().clone()));
        let mut aggregates = Vec::new();
        match (step.live, step.aggregates.first()) {
            (true, Some((first, _))) => {
                let message = format!("`aggregates` of step `{name}` does not go with `mode: live`");
                let fault = Fault::error(codes::DOES_NOT_FIT, first.span, message);
                self.faults.push(fault.note(GIVES).hint("leave it out, or take `mode: final`"));
            }
            _ => self.aggregates(name, &step.aggregates, input, GIVES, &mut uses, &mut aggregates),
        }
        let mode = if step.live { Mode::Live } else { Mode::Final };
        let fields = columns(mode, TimeUnit::Millisecond, keys, aggregates, step.behaviour.is_some());
        self.clashes(name, step, &fields);
        self.uses.insert(index, uses);
        Some(fields)
    }

    /// Checks the columns and places that a step names beside its key.
    fn session_columns(&mut self, name: &str, step: &SessionizeSpec, input: &Stream, uses: &mut StepUses) {
        if let Some(tenant) = step.tenant.as_ref().filter(|tenant| !step.by.iter().any(|key| key.value == tenant.value))
        {
            let message = format!("the tenant of step `{name}` is `{}`, which is not in its `by`", tenant.value);
            let fault = Fault::error(codes::BAD_KEY, tenant.span, message);
            self.faults.push(fault.note("sessions of two tenants are never one").hint("add it to `by`"));
        }
        let splits = step.splits(|column| input.column(column).is_some());
        for (word, column) in splits.into_iter().filter_map(|(word, column)| Some((word, column?))) {
            match input.find(&column, &format!("step `{name}` splits by {word}")) {
                Err(fault) => self.faults.push(fault),
                Ok(field) if *field.data_type() == DataType::Utf8 => uses.uses.push(field.name().clone()),
                Ok(field) => {
                    let found = with_article(&type_name(field.data_type()));
                    let message = format!("step `{name}` splits by {word} `{}`, which is {found}", column.value);
                    let fault = Fault::error(codes::BAD_KEY, column.span, message);
                    self.faults.push(fault.note("it is a column of type string").hint("cast it in a `select`"));
                }
            }
        }
        if let Some(midnight) = step.midnight.as_ref().filter(|place| zone_of(&place.value).is_none()) {
            let message = format!("the `midnight` of step `{name}` is `{}`", crate::fault::shorten(&midnight.value));
            let note = "it is `UTC`, or how far the clocks of a place are ahead of it, such as `+02:00`";
            self.faults.push(Fault::error(codes::BAD_QUANTITY, midnight.span, message).note(note));
        }
        if let Some(written) = step.behaviour {
            match EventReader::of(&input.schema()) {
                Ok(_) => {
                    let tells = ORIGIN.iter().any(|column| input.column(column).is_some());
                    if !tells && step.extend_when.is_none() {
                        let message =
                            format!("step `{name}` cannot tell what a browser sent: then no row would start a session");
                        let note = format!("`{}` has none of the columns {}", input.name, list(ORIGIN));
                        let fault = Fault::error(codes::UNKNOWN_COLUMN, written, message).note(note);
                        self.faults.push(
                            fault.hint("keep one of them, or say with `extend_when` which rows are interactions"),
                        );
                    }
                    let there = EVENT_COLUMNS.iter().filter(|column| input.column(column).is_some());
                    uses.uses.extend(there.map(|column| (*column).to_owned()));
                }
                Err(reason) => {
                    let message =
                        format!("step `{name}` takes behaviour events, and those of `{}` are none", input.name);
                    let fault = Fault::error(codes::UNKNOWN_COLUMN, written, message).note(reason);
                    self.faults.push(fault.hint("give their source the schema `@behaviour-event`"));
                }
            }
        }
    }

    /// Reports keys and aggregates that have the name of another column.
    fn clashes(&mut self, name: &str, step: &SessionizeSpec, fields: &[Field]) {
        let count = |column: &str| fields.iter().filter(|field| field.name() == column).count();
        let named = step.by.iter().chain(step.aggregates.iter().map(|(column, _)| column));
        let taken: Vec<&Spanned<String>> = named.filter(|column| count(&column.value) > 1).collect();
        for column in taken {
            // An aggregate with the name of one before it was reported already.
            let message = format!("step `{name}` has the column `{}` twice", column.value);
            if !self.faults.iter().any(|fault| fault.message == message) {
                self.faults.push(Fault::error(codes::NAME_CLASH, column.span, message).note(GIVES));
            }
        }
    }
}

/// Returns the work of a step on exactly the columns that it will be given.
pub(super) fn made(expressions: &Expressions, step: &SessionizeSpec, input: &SchemaRef) -> Made {
    let settings = settings(expressions, step, input);
    let values = kept_values(&settings.aggregates);
    let work = Sessionize::new(settings, input).expect("keys, splits and event time were checked");
    let schema = work.schema().clone();
    Made {
        work: StepWork::Operator(Arc::new(move |shards| work.make(shards))),
        schema,
        late: Some(input.clone()),
        sides: if step.live { Vec::new() } else { vec![input.clone()] },
        delay: step.gap + step.lateness,
        does: does(step, input),
        keeps: keeps(step, values),
    }
}

fn settings(expressions: &Expressions, step: &SessionizeSpec, input: &SchemaRef) -> SessionizeSettings {
    let by: Vec<String> = step.by.iter().map(|key| key.value.clone()).collect();
    let place = |column: &Option<Spanned<String>>| {
        column.as_ref().map(|column| indices(input, std::slice::from_ref(&column.value))[0])
    };
    let condition = |condition: &Option<Spanned<String>>| {
        let compiled = condition.as_ref().map(|sql| expressions.compile_predicate(&sql.value, input));
        compiled.map(|compiled| compiled.expect("the condition was checked on the same columns"))
    };
    let aggregates = step.aggregates.iter().map(|(name, sql)| {
        let aggregate = expressions.compile_aggregate(&sql.value, input);
        (name.value.clone(), aggregate.expect("the aggregate was checked on the same columns"))
    });
    let events = step.behaviour.map(|_| {
        let visible = arrow::datatypes::Schema::new(visible_of(input));
        EventReader::of(&visible).expect("the columns of events were checked")
    });
    SessionizeSettings {
        mode: if step.live { Mode::Live } else { Mode::Final },
        by: indices(input, &by),
        tenant: place(&step.tenant),
        gap: step.gap,
        max_duration: step.max_duration,
        lateness: step.lateness,
        interactions: match (condition(&step.extend_when), step.behaviour) {
            (Some(condition), _) => Interactions::Where(condition),
            (None, Some(_)) => Interactions::ByType,
            (None, None) => Interactions::All,
        },
        leaves: condition(&step.leave_when),
        splits: Splits {
            user_switch: place(&step.user_switch(|column| input.column_with_name(column).is_some())),
            campaign: place(&step.campaign),
            referrer: place(&step.referrer),
            midnight: step.midnight.as_ref().and_then(|place| zone_of(&place.value)),
        },
        events,
        aggregates: aggregates.collect(),
        unit: TimeUnit::Millisecond,
        sessions_max: SessionizeSettings::SESSIONS_MAX,
        waiting_max: SessionizeSettings::WAITING_MAX,
    }
}

fn does(step: &SessionizeSpec, input: &SchemaRef) -> Vec<(&'static str, String)> {
    let by: Vec<&str> = step.by.iter().map(|key| key.value.as_str()).collect();
    let mut does = vec![("by", by.join(", "))];
    does.extend(step.tenant.as_ref().map(|tenant| ("tenant", tenant.value.clone())));
    does.push(("gap", write_duration(step.gap)));
    does.push(("max_duration", write_duration(step.max_duration)));
    let interactions = match (&step.extend_when, step.behaviour) {
        (Some(condition), _) => condition.value.trim().to_owned(),
        (None, Some(_)) => "by the type of the event".to_owned(),
        (None, None) => "all rows".to_owned(),
    };
    does.push(("extend_when", interactions));
    does.extend(step.leave_when.as_ref().map(|condition| ("leave_when", condition.value.trim().to_owned())));
    let splits = step.splits(|column| input.column_with_name(column).is_some());
    does.extend(splits.into_iter().filter_map(|(word, column)| Some((word, column?.value))));
    does.extend(step.midnight.as_ref().map(|place| ("midnight", place.value.clone())));
    does.push(("lateness", write_duration(step.lateness)));
    if step.live {
        does.push(("mode", "live".to_owned()));
    }
    if step.behaviour.is_some() {
        does.push(("behaviour", "true".to_owned()));
    }
    does.extend(
        step.aggregates.iter().map(|(name, sql)| ("aggregate", format!("{} = {}", name.value, sql.value.trim()))),
    );
    does
}

fn keeps(step: &SessionizeSpec, values: &str) -> Vec<String> {
    let (lateness, quiet) = (write_duration(step.lateness), write_duration(step.gap + step.lateness));
    if step.live {
        return vec![format!(
            "machines: one per key, with its rows until the watermark is {lateness} past them, at most 10000 of a key and {} a \
             worker, and its session until the watermark is {quiet} past its last interaction; at most {} keys a worker",
            SessionizeSettings::WAITING_MAX,
            SessionizeSettings::SESSIONS_MAX
        )];
    }
    vec![
        format!(
            "open sessions: at most one per key, until the watermark is {quiet} past its last interaction; at most {} a worker{values}",
            SessionizeSettings::SESSIONS_MAX
        ),
        format!(
            "waiting rows: until the watermark is {lateness} past them; at most {} a worker",
            SessionizeSettings::WAITING_MAX
        ),
    ]
}
