//! From what was read key by key to the parts of a job, and whether the keys of one part go together.

use std::time::Duration;

use riverrun_connectors::format::{Column, OpAs};
use riverrun_connectors::kafka::{Delivery, Manners, OnLost, OnMissing};
use riverrun_connectors::start::Start;
use riverrun_dataflow::graph::{OnBadRow, TickSettings};
use riverrun_dataflow::partitioner::Partitioner;

use super::attribution::attribute_of;
use super::behaviour::{frustration_of, incidents_of, problems_of, scroll_baseline_of};
use super::fields::{CONNECTOR, OPERATOR, SINK, SOURCE, STEP};
use super::formats::{sink_format, source_format};
use super::funnel::funnel_of;
use super::lake::lake_of;
use super::reader::Form;
use super::reusable::Reusable;
use super::{
    ClocksSpec, DeduplicateSpec, JobSpec, JoinSpec, Keep, OperatorSpec, SelectSpec, SessionizeSpec, Settings,
    SinkPlace, SinkSpec, SourcePlace, SourceSpec, StepSpec, WindowSpec, values,
};
use crate::fault::{Fault, codes};
use crate::yaml::Spanned;

/// Returns the job that `form` describes; a part that cannot be made is named as broken.
pub fn job(form: &Form, faults: &mut Vec<Fault>) -> Option<JobSpec> {
    let mut broken = Vec::new();
    let mut sources = Vec::new();
    for (name, source) in parts(form, "sources") {
        match source_of(&name, &source, faults) {
            Some(source) => sources.push(source),
            None => broken.push(name.value),
        }
    }
    let mut steps = Vec::new();
    for (name, step) in parts(form, "steps") {
        match operator_of(&step, faults) {
            Some(operator) => {
                let was = step.text("was").map(|text| text.value);
                steps.push(StepSpec { name, was, operator });
            }
            None => broken.push(name.value),
        }
    }
    let sinks: Vec<SinkSpec> =
        parts(form, "sinks").iter().filter_map(|(name, sink)| sink_of(name, sink, faults)).collect();
    for key in ["sources", "sinks"] {
        if form.forms(key).is_some_and(|forms| forms.value.is_empty()) {
            let span = form.forms(key).map_or(form.span, |forms| forms.span);
            faults.push(Fault::error(codes::NOTHING_TO_DO, span, format!("the job has no {key}")));
        }
    }
    Some(JobSpec {
        name: form.text("job").unwrap_or(Spanned { value: String::new(), span: form.span }),
        description: form.text("description").map(|text| text.value),
        sources,
        steps,
        sinks,
        broken,
        settings: settings(form)?,
    })
}

fn parts(form: &Form, key: &str) -> Vec<(Spanned<String>, Form)> {
    form.forms(key).map(|forms| forms.value).unwrap_or_default()
}

fn settings(form: &Form) -> Option<Settings> {
    let inner = |key: &str| form.form(key).map(|form| form.value);
    let tick = inner("tick")?;
    let millis = Duration::from_millis;
    let duration = |form: &Form, key: &str| form.duration(key).map_or(millis(1), |value| value.value);
    let number = |key: &str| tick.number(key).map_or(1, |value| value.value);
    Some(Settings {
        ticks: TickSettings {
            interval: duration(&tick, "interval"),
            max_rows: number("max_rows"),
            max_bytes: number("max_bytes"),
            in_flight: number("in_flight"),
            align: duration(form, "align"),
        },
        shards: form.number("shards").and_then(|value| u16::try_from(value.value).ok()).unwrap_or(1),
        checkpoint_every: duration(&inner("checkpoint")?, "every"),
        commit_every: duration(&inner("commit")?, "every"),
        journal_keep: match word(&inner("journal")?, "keep").as_str() {
            "all" => Keep::All,
            _ => Keep::Needed,
        },
    })
}

pub(super) fn word(form: &Form, key: &str) -> String {
    form.text(key).map(|text| text.value).unwrap_or_default()
}

pub(super) fn span_of(form: &Form, key: &str) -> Duration {
    form.duration(key).map(|span| span.value).unwrap_or_default()
}

/// Adds a fault for each of `keys` that was written although it does not go with `with`.
pub(super) fn refuse(form: &Form, keys: &[&str], who: &str, with: &str, faults: &mut Vec<Fault>) {
    for key in keys.iter().filter(|key| form.wrote(key)) {
        if let Some(value) = form.get(key) {
            let message = format!("`{key}` of {who} does not go with {with}");
            faults.push(Fault::error(codes::DOES_NOT_FIT, value.span, message).hint("leave it out"));
        }
    }
}

fn source_of(name: &Spanned<String>, form: &Form, faults: &mut Vec<Fault>) -> Option<SourceSpec> {
    let who = format!("source `{}`", name.value);
    let chosen = form.chosen(&SOURCE, CONNECTOR);
    let place = source_place(form, chosen, &who, faults);
    let format = source_format(form, chosen, &who, faults);
    let times = form.form("event_time_range").map(|times| times.value)?;
    let (from, to) = (times.time("from"), times.time("to"));
    if let (Some(from), Some(to)) = (&from, &to)
        && from.value > to.value
    {
        faults.push(Fault::error(
            codes::BAD_QUANTITY,
            to.span,
            format!("`event_time_range` of {who} ends before it begins"),
        ));
    }
    let schema = form.schema("schema")?;
    let implied = |key: &str, column: fn(&Reusable) -> &'static str| {
        let of = schema.value.reusable.map(|reusable| column(reusable).to_owned());
        form.text(key).or(of.map(|value| Spanned { value, span: schema.span }))
    };
    let event_time = implied("event_time", |schema| schema.event_time);
    // A schema by name knows the clocks of its own event time.
    let knows_clocks = schema.value.reusable.zip(event_time.as_ref()).is_some_and(|(of, is)| of.event_time == is.value);
    let clocks = match form.wrote("clocks") || knows_clocks {
        true => Some(clocks_of(form, &schema.value.columns)?),
        false => None,
    };
    Some(SourceSpec {
        name: name.clone(),
        place,
        format,
        event_time,
        clocks,
        id: implied("id", |schema| schema.id),
        columns: schema.value.columns,
        max_disorder: span_of(form, "max_disorder"),
        max_future: span_of(form, "max_future"),
        idle_after: span_of(form, "idle_after"),
        event_times: from.map_or(riverrun_dataflow::EventTime::MIN, |time| time.value)
            ..=to.map_or(riverrun_dataflow::EventTime::MAX, |time| time.value),
        drop_tombstones: word(form, "tombstones") == "drop",
        framed: word(form, "framing") == "registry",
        on_bad_row: match word(form, "on_bad_row").as_str() {
            "drop" => OnBadRow::Drop,
            "stop" => OnBadRow::Stop,
            _ => OnBadRow::Divert,
        },
    })
}

fn clocks_of(source: &Form, columns: &[Spanned<Column>]) -> Option<Spanned<ClocksSpec>> {
    let Spanned { value: form, span } = source.form("clocks")?;
    // A column that need not be there is meant only if it was written, or is there.
    let there = |name: &Spanned<String>| columns.iter().any(|column| column.value.name == name.value);
    let optional = |key: &str| form.text(key).filter(|name| form.wrote(key) || there(name));
    let clocks = ClocksSpec {
        client: form.text("client")?,
        sent: optional("sent"),
        received: form.text("received")?,
        flag: optional("flag"),
        max_ahead: span_of(&form, "max_ahead"),
        max_past: span_of(&form, "max_past"),
    };
    Some(Spanned { value: clocks, span })
}

/// Keys of a source that say how a topic is read.
const TOPIC_ONLY: &[&str] =
    &["start", "on_lost", "on_missing", "allow_compacted", "mirror_offsets", "tombstones", "discover_every", "framing"];

fn source_place(form: &Form, chosen: Option<&str>, who: &str, faults: &mut Vec<Fault>) -> Option<SourcePlace> {
    if let Some(other) = chosen.filter(|chosen| *chosen != "topic") {
        refuse(form, TOPIC_ONLY, who, &format!("`{other}`"), faults);
    }
    match chosen {
        Some("topic") => topic_source(form, who, faults),
        Some("file") => form.form("file").and_then(|file| file.value.text("path")).map(SourcePlace::File),
        _ => None,
    }
}

fn topic_source(form: &Form, who: &str, faults: &mut Vec<Fault>) -> Option<SourcePlace> {
    let millis = |text: &str| values::time(text).ok().map(|time| time.0.div_euclid(1000));
    let written = form.text("start")?;
    let start = Start::parse(&written.value, millis).unwrap_or_else(|error| {
        let message = format!("`start` of {who} is `{}`", written.value);
        faults.push(Fault::error(codes::BAD_QUANTITY, written.span, message).hint(error.to_string()));
        Start::default()
    });
    let is_yes = |key: &str| form.flag(key).is_some_and(|flag| flag.value);
    let manners = Manners {
        on_lost: if word(form, "on_lost") == "skip" { OnLost::Skip } else { OnLost::Stop },
        on_missing: if word(form, "on_missing") == "end" { OnMissing::End } else { OnMissing::Stop },
        allow_compacted: is_yes("allow_compacted"),
        mirror_offsets: is_yes("mirror_offsets"),
        discover_every: span_of(form, "discover_every"),
    };
    Some(SourcePlace::Topic { name: form.text("topic")?, start, manners })
}

fn operator_of(step: &Form, faults: &mut Vec<Fault>) -> Option<OperatorSpec> {
    let operator = step.chosen(&STEP, OPERATOR)?;
    let form = step.form(operator)?.value;
    Some(match operator {
        "select" => {
            // A list that is at fault is not "all columns".
            if !form.whole {
                return None;
            }
            let columns = form.list("columns").map(|list| list.value);
            OperatorSpec::Select(SelectSpec { from: form.text("from")?, condition: form.text("where"), columns })
        }
        "union" => OperatorSpec::Union(form.list("from")?.value),
        "window" => OperatorSpec::Window(window_of(&form)?),
        "attribute" => OperatorSpec::Attribute(attribute_of(&form, faults)?),
        "deduplicate" => OperatorSpec::Deduplicate(deduplicate_of(&form)?),
        "join" => OperatorSpec::Join(join_of(&form)?),
        "sessionize" => OperatorSpec::Sessionize(Box::new(sessionize_of(&form)?)),
        "frustration" => OperatorSpec::Frustration(frustration_of(&form)?),
        "incidents" => OperatorSpec::Incidents(incidents_of(&form)?),
        "problems" => OperatorSpec::Problems(problems_of(&form)?),
        "scroll_baseline" => OperatorSpec::ScrollBaseline(scroll_baseline_of(&form)?),
        "funnel" => OperatorSpec::Funnel(Box::new(funnel_of(&form)?)),
        _ => return None,
    })
}

/// Returns a list that need not be given; none if it is at fault.
fn list_of(form: &Form, key: &str) -> Option<Vec<Spanned<String>>> {
    match (form.wrote(key), form.list(key)) {
        (true, None) => None,
        (_, list) => Some(list.map(|list| list.value).unwrap_or_default()),
    }
}

pub(super) fn count_of(form: &Form, key: &str) -> usize {
    form.number(key).and_then(|number| usize::try_from(number.value).ok()).unwrap_or(1)
}

fn deduplicate_of(form: &Form) -> Option<DeduplicateSpec> {
    if !form.whole {
        return None;
    }
    Some(DeduplicateSpec {
        from: form.text("from")?,
        by: list_of(form, "by")?,
        within: span_of(form, "within"),
        compare: list_of(form, "compare")?,
        lateness: span_of(form, "lateness"),
        max_keys: count_of(form, "max_keys"),
    })
}

fn join_of(form: &Form) -> Option<JoinSpec> {
    if !form.whole {
        return None;
    }
    let within = form.form("within")?.value;
    let pair = |written: Spanned<String>| {
        let side = |name: &str| Spanned { value: name.trim().to_owned(), span: written.span };
        match written.value.split_once('=') {
            Some((left, right)) => (side(left), side(right)),
            None => (side(&written.value), side(&written.value)),
        }
    };
    Some(JoinSpec {
        left: form.text("left")?,
        right: form.text("right")?,
        on: form.list("on")?.value.into_iter().map(pair).collect(),
        before: span_of(&within, "before"),
        after: span_of(&within, "after"),
        is_left: word(form, "kind") == "left",
        prefix: form.text("prefix")?,
        max_per_key: count_of(form, "max_per_key"),
        max_rows: count_of(form, "max_rows"),
    })
}

fn sessionize_of(form: &Form) -> Option<SessionizeSpec> {
    // A condition or a list that is at fault is not one that was left out.
    if !form.whole {
        return None;
    }
    let split = form.form("split")?.value;
    Some(SessionizeSpec {
        from: form.text("from")?,
        by: form.list("by")?.value,
        tenant: form.text("tenant"),
        gap: span_of(form, "gap"),
        max_duration: span_of(form, "max_duration"),
        behaviour: form.flag("behaviour").filter(|flag| flag.value).map(|flag| flag.span),
        extend_when: form.text("extend_when"),
        leave_when: form.text("leave_when"),
        user_switch: split.text("user_switch"),
        campaign: split.text("campaign"),
        referrer: split.text("referrer"),
        midnight: split.text("midnight"),
        lateness: span_of(form, "lateness"),
        live: word(form, "mode") == "live",
        aggregates: form.named("aggregates").map(|named| named.value).unwrap_or_default(),
    })
}

fn window_of(form: &Form) -> Option<WindowSpec> {
    let (size, every) = match (form.duration("tumble"), form.form("hop")) {
        (Some(size), _) => (size.clone(), size),
        (None, Some(hop)) => (hop.value.duration("size")?, hop.value.duration("every")?),
        (None, None) => return None,
    };
    let by = list_of(form, "by")?;
    let aggregates = form.named("aggregates")?.value;
    Some(WindowSpec { from: form.text("from")?, size, every, by, aggregates, lateness: span_of(form, "lateness") })
}

fn sink_of(name: &Spanned<String>, form: &Form, faults: &mut Vec<Fault>) -> Option<SinkSpec> {
    let who = format!("sink `{}`", name.value);
    let chosen = form.chosen(&SINK, CONNECTOR);
    let place = match chosen {
        Some("topic") => {
            let partitions = form.number("partitions").and_then(|number| u32::try_from(number.value).ok());
            let delivery = match word(form, "delivery").as_str() {
                "at_least_once" => Delivery::AtLeastOnce,
                _ => Delivery::ExactlyOnce,
            };
            let dead_letters = form.text("dead_letters");
            form.text("topic").map(|name| SinkPlace::Topic { name, partitions, delivery, dead_letters })
        }
        Some("file") => form.form("file").and_then(|file| file.value.text("path")).map(SinkPlace::File),
        Some("lake") => form.form("lake").and_then(|lake| lake_of(&lake.value)).map(SinkPlace::Lake),
        Some("console") => Some(SinkPlace::Console),
        _ => None,
    };
    if let Some(other) = chosen.filter(|chosen| *chosen != "topic") {
        refuse(
            form,
            &["key", "partitioner", "headers", "op", "partitions", "delivery", "dead_letters"],
            &who,
            &format!("`{other}`"),
            faults,
        );
    }
    let format = sink_format(form, chosen, &who, faults);
    let key = form.list("key").map(|list| list.value);
    let headers = form.named("headers").map(|named| named.value).unwrap_or_default();
    let op = form.text("op")?;
    let op = Spanned {
        value: match op.value.as_str() {
            "header" => OpAs::Header,
            "tombstone" => OpAs::Tombstone,
            _ => OpAs::Field,
        },
        span: op.span,
    };
    if op.value == OpAs::Tombstone && key.as_ref().is_none_or(Vec::is_empty) {
        let message = format!("{who} writes tombstones, and names no `key`");
        let fault = Fault::error(codes::DOES_NOT_FIT, op.span, message);
        faults.push(fault.hint("name the columns by which a row of the table is known: `key: [session_id]`"));
    }
    let partitioner = form.text("partitioner")?;
    if partitioner.value == "murmur2" && key.as_ref().is_none_or(Vec::is_empty) {
        let message = format!("{who} is partitioned by its keys, and names no `key`");
        let fault = Fault::error(codes::DOES_NOT_FIT, partitioner.span, message);
        faults.push(fault.hint("name the columns that are the record's key: `key: [user_id]`"));
    }
    let partitioner = match partitioner.value.as_str() {
        "murmur2" => Partitioner::Murmur2,
        _ => Partitioner::Shard,
    };
    Some(SinkSpec { name: name.clone(), from: form.text("from")?, place, format, key, partitioner, headers, op })
}
