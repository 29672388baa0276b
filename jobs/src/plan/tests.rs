//! What a plan must have and what it must not.

use std::collections::BTreeSet;

use riverrun_dataflow::schema::Hidden;

use super::*;
use crate::bundled;

fn plan_of(text: &str, overrides: &[&str]) -> Plan {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    match check("job.yaml", text, &overrides) {
        Ok((plan, _)) => plan,
        Err(report) => panic!("{report}"),
    }
}

fn hash_with(overrides: &[&str]) -> String {
    plan_of(bundled("attribution").unwrap(), overrides).hash().to_owned()
}

/// Stored state names these: if one changes, so did what the job means.
#[test]
fn hashes_of_the_bundled_jobs_never_change_by_accident() {
    assert_eq!(plan_of(bundled("attribution").unwrap(), &[]).hash(), "2b34d28ff4454172c6a3238fab8afa78");
    assert_eq!(plan_of(bundled("item-minutes").unwrap(), &[]).hash(), "0da09829fa7c740a00dbb3f3a1723c8f");
}

#[test]
fn what_does_not_change_the_output_does_not_change_the_hash() {
    let written = bundled("attribution").unwrap();
    let other_words = written.replace("window: 30m", "window: 1800s").replace("- event_id", "-  event_id");
    for same in [
        hash_with(&["checkpoint.every=1s"]),
        hash_with(&["commit.every=10ms"]),
        hash_with(&["description=another"]),
        hash_with(&["journal.keep=all"]),
        hash_with(&["steps.item_clicks.select.where=event_type   =   'click'"]),
        plan_of(&other_words, &[]).hash().to_owned(),
        plan_of(&format!("# a comment\n{written}"), &[]).hash().to_owned(),
    ] {
        assert_eq!(same, hash_with(&[]));
    }
}

#[test]
fn what_changes_the_output_changes_the_hash() {
    let changes = [
        "steps.attributed.attribute.window=31m",
        "steps.attributed.attribute.model=first_touch",
        "steps.attributed.attribute.dedupe_for=1d",
        "steps.attributed.attribute.by=[user_id]",
        "steps.item_clicks.select.where=event_type = 'buy'",
        "steps.item_clicks.select.columns=[user_id, item_id, ts]",
        "sources.clicks.max_disorder=6s",
        "sources.clicks.max_future=2h",
        "sources.clicks.idle_after=1s",
        "sources.clicks.on_bad_row=drop",
        "sources.clicks.schema.event_id=string!",
        "sources.clicks.schema.item_id={ path: item.id, type: string }",
        "sources.clicks.event_time_range={ from: 2000-01-01 }",
        "sources.clicks.format=csv",
        "sources.clicks.topic=other",
        "sources.clicks.file.path=in/*.jsonl",
        "sinks.attributed_events.timestamps=epoch_ms",
        "sinks.attributed_events.key=[order_id]",
        "sinks.attributed_events.console={}",
        "tick.max_rows=100",
        "tick.max_bytes=1MiB",
        "tick.in_flight=2",
        "align=2m",
        "shards=64",
    ];
    let hashes: BTreeSet<String> = changes.iter().map(|change| hash_with(&[change])).collect();
    assert_eq!(hashes.len(), changes.len());
    assert!(!hashes.contains(&hash_with(&[])));
}

const SMALL: &str = r#"
job: small
sources:
  b: { topic: b, schema: { k: string, v: int64, w: float64, x: string, ts: timestamp_ms }, event_time: ts, id: x, max_disorder: 2s }
  a: { topic: a, schema: { k: string, v: int64, y: string, ts: timestamp_ms }, event_time: ts }
steps:
  last: { select: { from: sums, columns: [k, total, "total * 2 as twice"] } }
  sums: { window: { from: both, tumble: 1m, lateness: 5s, by: [k], aggregates: { total: "sum(v)" } } }
  both: { union: { from: [one, two] } }
  one: { select: { from: a, where: "y <> ''", columns: [k, v] } }
  two: { select: { from: b, columns: [k, v] } }
  credited: { attribute: { conversions: sums, touches: b, by: [k], window: 1h } }
sinks:
  out: { from: last, file: { path: out.jsonl } }
  again: { from: credited, topic: again }
"#;

fn step<'p>(plan: &'p Plan, name: &str) -> &'p PlannedStep {
    plan.steps.iter().find(|step| step.name == name).unwrap()
}

fn columns(schema: &SchemaRef) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

#[test]
fn steps_stand_after_what_they_read_whatever_their_order_in_the_file() {
    let plan = plan_of(SMALL, &[]);
    assert_eq!(plan.source_names(), ["a", "b"]);
    for (at, step) in plan.steps.iter().enumerate() {
        for input in &step.inputs {
            if let Edge::Step(before) = input.from {
                assert!(before < at, "{}", step.name);
            }
        }
    }
}

#[test]
fn only_columns_in_use_are_decoded_and_only_where_order_counts_there_are_positions() {
    let plan = plan_of(SMALL, &["sinks.again.from=sums"]);
    assert_eq!(columns(&plan.sources[0].schema.arrow()), ["k", "v", "y", "__time"]);
    // `id` is decoded for nobody: an integer sum does not depend on order.
    assert_eq!(columns(&plan.sources[1].schema.arrow()), ["k", "v", "__time"]);
    let plan = plan_of(SMALL, &[]);
    let everything = ["k", "v", "w", "x", "ts", "__time", "__id", "__split", "__position"];
    assert_eq!(columns(&plan.sources[1].schema.arrow()), everything);
    let plan = plan_of(SMALL, &["sinks.again.from=sums", "steps.sums.window.aggregates.total=last(v)"]);
    assert_eq!(columns(&plan.sources[1].schema.arrow()), ["k", "v", "__time", "__id", "__split", "__position"]);
}

#[test]
fn watermarks_carry_the_delays_on_their_way() {
    let plan = plan_of(SMALL, &[]);
    let path = |source, seconds| WatermarkPath { source, delay: Duration::from_secs(seconds) };
    assert_eq!(step(&plan, "sums").watermark, [path(0, 0), path(1, 0)]);
    assert_eq!(step(&plan, "last").watermark, [path(0, 5), path(1, 5)]);
    // Two ways lead from `b` to here; the slower one counts.
    assert_eq!(step(&plan, "credited").watermark, [path(0, 5), path(1, 5)]);
}

#[test]
fn rows_of_a_keyed_step_go_to_the_lane_of_their_key() {
    let plan = plan_of(SMALL, &[]);
    assert!(columns(plan.sink_schema(1)).contains(&Hidden::Hash.name()));
    let keyless = plan_of(SMALL, &["sinks.again.from=one"]);
    let names = columns(keyless.sink_schema(1));
    assert!(names.contains(&Hidden::Split.name()) && !names.contains(&Hidden::Hash.name()), "{names:?}");
}

#[test]
fn side_outputs_feed_sinks_and_selects() {
    let plan = plan_of(
        SMALL,
        &[
            "steps.reasons={ select: { from: a.bad, columns: [source, reason] } }",
            "sinks.reasons={ from: reasons, console: {} }",
            "sinks.late={ from: sums.late, file: { path: late.jsonl } }",
            "sinks.failed={ from: last.bad, file: { path: failed.jsonl } }",
        ],
    );
    assert!(step(&plan, "last").bad && !step(&plan, "one").bad);
    assert_eq!(columns(step(&plan, "sums").late.as_ref().unwrap())[..2], ["k", "v"]);
    assert_eq!(columns(&step(&plan, "reasons").schema), ["source", "reason", "__split"]);
}

#[test]
fn what_feeds_no_sink_is_left_out_with_a_warning() {
    let text = bundled("attribution").unwrap();
    let (plan, report) = check("job.yaml", text, &["sinks.attributed_events.from=item_clicks".to_owned()]).unwrap();
    assert_eq!(plan.source_names(), ["clicks"]);
    assert_eq!(plan.step_names(), ["item_clicks"]);
    let codes: Vec<&str> = report.faults().iter().map(|fault| fault.code.name()).collect();
    assert_eq!(codes, ["J027", "J027"]);
    assert_eq!((report.errors(), report.warnings()), (0, 2));
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.yaml");
    assert_eq!(read_file(&path).unwrap_err().faults()[0].code, codes::UNREADABLE);
    std::fs::write(&path, b"job: \xff").unwrap();
    let report = read_file(&path).unwrap_err();
    assert_eq!(report.faults()[0].notes, ["byte 5 is no UTF-8"]);
    std::fs::write(&path, "job: x").unwrap();
    assert_eq!(read_file(&path).unwrap(), "job: x");
}

#[test]
fn steps_whose_keys_agree_are_chained_without_an_exchange() {
    let routes = |plan: &Plan, name: &str| -> Vec<bool> {
        step(plan, name).inputs.iter().map(|input| input.route.is_some()).collect()
    };
    let plan = plan_of(SMALL, &[]);
    assert_eq!(routes(&plan, "sums"), [true]);
    // Sums are on the worker of their key; what touches them is not.
    assert_eq!(routes(&plan, "credited"), [false, true]);
    let hour = "{ window: { from: renamed, tumble: 1h, by: [key], aggregates: { n: count(*) } } }";
    let over = |columns: &str| {
        let select = format!("steps.renamed={{ select: {{ from: sums, columns: {columns} }} }}");
        let plan =
            plan_of(SMALL, &[&select, &format!("steps.hours={hour}"), "sinks.hours={ from: hours, console: {} }"]);
        routes(&plan, "hours")
    };
    assert_eq!(over("['k as key', total]"), [false]);
    assert_eq!(over("['upper(k) as key', total]"), [true]);
    assert_eq!(over("['upper(k) as key', k]"), [true]);
}

#[test]
fn json_stays_json_through_every_step() {
    let text = r#"
job: nested
sources: { a: { topic: a, schema: { k: string, j: json, ts: timestamp_ms }, event_time: ts } }
steps:
  one: { select: { from: a, columns: [k, "j as doc", ts] } }
  two: { select: { from: one, where: "k <> ''" } }
  three: { attribute: { conversions: two, touches: one, by: [k], window: 1m } }
sinks: { out: { from: three, topic: b } }
"#;
    let plan = plan_of(text, &[]);
    for name in ["doc", "touch_doc"] {
        let field = plan.sink_schema(0).field_with_name(name).unwrap().clone();
        assert!(riverrun_connectors::format::schema::is_json(&field), "{name}");
    }
}

const STREAMS: &str = r#"
job: streams
sources:
  orders: { topic: orders, schema: { order_id: string, user_id: string, price: int64, note: string, ts: timestamp_ms }, event_time: ts, id: order_id }
  clicks: { topic: clicks, schema: { click_id: string, buyer: string, page: string, ts: timestamp_ms }, event_time: ts, id: click_id }
steps:
  once: { deduplicate: { from: orders, lateness: 1m } }
  near: { join: { left: once, right: clicks, on: ["user_id = buyer"], within: { before: 30m, after: 5m }, kind: left } }
  named: { select: { from: near, columns: [user_id, price, right_click_id] } }
  counted: { window: { from: named, tumble: 1h, by: [user_id], aggregates: { pairs: "count(*)" } } }
sinks:
  counted: { from: counted, topic: counted }
"#;

#[test]
fn the_sides_of_a_join_are_routed_by_keys_of_their_own_and_its_rows_have_the_left_one() {
    let plan = plan_of(STREAMS, &[]);
    let keys = |name: &str| step(&plan, name).inputs.iter().map(|input| input.keys.join(",")).collect::<Vec<_>>();
    assert_eq!(keys("once"), ["id"]);
    assert_eq!(keys("near"), ["user_id", "buyer"]);
    assert!(step(&plan, "near").inputs.iter().all(|input| input.route.is_some()));
    // Pairs are where their key is: the window needs no exchange.
    assert_eq!(step(&plan, "counted").inputs[0].route, None);
    // A left row without a pair is given `after` its time.
    let path = |source, seconds| WatermarkPath { source, delay: Duration::from_secs(seconds) };
    assert_eq!(step(&plan, "counted").watermark, [path(0, 300), path(1, 300)]);
    let inner = plan_of(STREAMS, &["steps.near.join.kind=inner"]);
    assert_eq!(step(&inner, "counted").watermark, [path(0, 0), path(1, 0)]);
    assert_ne!(inner.hash(), plan.hash());
}

#[test]
fn of_keys_and_pairs_only_columns_in_use_are_decoded() {
    let plan = plan_of(STREAMS, &["steps.named.select.columns=[user_id]"]);
    let of = |source: usize| plan.sources[source].schema.arrow();
    assert_eq!(columns(&of(0)), ["buyer", "__time", "__id", "__split", "__position"]);
    assert_eq!(columns(&of(1)), ["user_id", "__time", "__id", "__split", "__position"]);
    let compared =
        plan_of(STREAMS, &["steps.once.deduplicate.compare=[price]", "steps.named.select.columns=[user_id]"]);
    assert_eq!(columns(&compared.sources[1].schema.arrow())[..2], ["user_id", "price"]);
}

#[test]
fn side_outputs_of_a_step_s_own_feed_sinks_and_are_made_only_if_they_do() {
    let side = |plan: &Plan, at: usize| step(plan, "once").sides[at].schema.clone();
    let plan = plan_of(STREAMS, &[]);
    assert!(side(&plan, 0).is_none());
    let plan = plan_of(
        STREAMS,
        &[
            "steps.once.deduplicate.compare=[price]",
            "sinks.other={ from: once.conflicts, topic: other }",
            "sinks.crowded={ from: near.bad, topic: crowded }",
        ],
    );
    assert!(side(&plan, 0).is_none() && step(&plan, "near").bad);
    let conflicts = side(&plan, 1).unwrap();
    assert!(columns(&conflicts).contains(&"kept_hash") && columns(&conflicts).contains(&"note"));
    assert_eq!(plan.edge_name(plan.sinks[1].from), "once.conflicts");
}
