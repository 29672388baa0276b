//! What is read, and where its faults stand.

use super::*;
use crate::fault::Style;

/// The job of STYLE.md.
const ORDERS: &str = r#"job: orders-per-minute
sources:
  orders:
    topic: raw.orders.v1
    format: json
    schema: { order_id: string, shop_id: string, status: string, ts: timestamp_ms }
    event_time: ts
    max_disorder: 5s
steps:
  paid:       { select: { from: orders, where: "status = 'paid'" } }
  per_minute: { window: { from: paid, tumble: 1m, by: [shop_id], aggregates: { orders: "count(*)" } } }
sinks:
  totals: { from: per_minute, topic: orders.per-minute.v1, format: json }
checkpoint: { every: 10s }
"#;

fn read_clean(text: &str, overrides: &[&str]) -> JobSpec {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let (spec, report) = read("job.yaml", text, &overrides);
    assert!(report.is_empty(), "{}", report.render(Style::Plain));
    spec.unwrap()
}

fn faults(text: &str, overrides: &[&str]) -> Vec<String> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let (_, report) = read("job.yaml", text, &overrides);
    let shown = |fault: &&Fault| {
        let place = report.place(fault).unwrap();
        format!("{} {}:{}:{}", fault.code.name(), place.file, place.line, place.col)
    };
    report.faults().iter().map(shown).collect()
}

#[test]
fn a_map_has_so_many_keys_at_most_and_each_once() {
    let many = |count: usize| (0..count).map(|number| format!("c{number}: int64, ")).collect::<String>();
    let codes = |columns: String, steps: usize| {
        let steps: String = (0..steps)
            .map(|number| format!("  s{number}: {{ select: {{ from: clicks, columns: [c0] }} }}\n"))
            .collect();
        let text = format!(
            "job: a\nsources:\n  clicks: {{ topic: raw.clicks.v1, schema: {{ {columns} }} }}\nsteps:\n{steps}sinks:\n  out: {{ from: s0, topic: out.v1 }}\n"
        );
        let report = match crate::check("a.yaml", &text, &[]) {
            Ok((_, report)) | Err(report) => report,
        };
        let errors = report.errors();
        let faults = report.faults();
        let first = faults.iter().find(|fault| fault.severity == crate::fault::Severity::Error);
        (errors, first.map(|fault| (fault.code.name(), fault.message.clone())))
    };
    assert_eq!(codes(many(4000), 1), (0, None));
    assert_eq!(codes(many(1), 1000), (0, None));
    let (errors, first) = codes(format!("c0: int64, # {}\n", "x".repeat(1 << 20)), 1);
    assert_eq!((errors, first.unwrap().0), (1, "J038"));
    let (errors, first) = codes(many(4001), 1);
    assert_eq!((errors, first.unwrap().0), (1, "J038"));
    let (errors, first) = codes(many(1), 1001);
    assert_eq!((errors, first.unwrap()), (1, ("J038", "`steps` has 1001 keys, and may have 1000".to_owned())));
    let (errors, first) = codes(format!("{}c1: int64", many(3)), 1);
    assert_eq!(
        (errors, first.unwrap()),
        (1, ("J005", "`schema` of source `clicks` has the key `c1` twice".to_owned()))
    );
}

#[test]
fn the_jobs_of_the_design_are_read() {
    let spec = read_clean(include_str!("../../attribution.yaml"), &[]);
    assert_eq!(spec.name.value, "attribution");
    let OperatorSpec::Attribute(attribute) = &spec.steps[1].operator else { panic!() };
    assert_eq!(attribute.dedupe_for, Duration::from_secs(90 * 86400));
    assert_eq!(attribute.window, Duration::from_secs(1800));
    assert_eq!(spec.sources[0].max_future, Duration::from_secs(3600));
    assert_eq!(spec.sources[1].columns[3].value.column_type.to_string(), "decimal(12,2)");
    read_clean(include_str!("../../item-minutes.yaml"), &[]);
    read_clean(ORDERS, &[]);
}

#[test]
fn defaults_are_those_of_the_design() {
    let settings = read_clean(ORDERS, &[]).settings;
    let ticks = TickSettings {
        interval: Duration::from_millis(20),
        max_rows: 64 * 1024,
        max_bytes: 64 << 20,
        in_flight: 4,
        align: Duration::from_secs(60),
    };
    assert_eq!(settings.ticks, ticks);
    assert_eq!(settings.shards, 128);
    assert_eq!(settings.commit_every, Duration::from_secs(1));
    assert_eq!(settings.journal_keep, Keep::Needed);
    let source = &read_clean(ORDERS, &[]).sources[0];
    assert_eq!(source.idle_after, Duration::from_secs(30));
    assert_eq!(source.event_times, EventTime(0)..=EventTime(4_102_444_800_000_000));
}

#[test]
fn an_override_replaces_the_connector_and_any_value() {
    let spec = read_clean(
        ORDERS,
        &["sources.orders.file.path=in/*.jsonl", "sinks.totals.console={}", "tick.max_rows=7", "shards=16"],
    );
    assert!(matches!(&spec.sources[0].place, Some(SourcePlace::File(path)) if path.value == "in/*.jsonl"));
    assert!(matches!(spec.sinks[0].place, Some(SinkPlace::Console)));
    assert_eq!((spec.settings.ticks.max_rows, spec.settings.shards), (7, 16));
    let starred = read_clean(ORDERS, &["sources.orders.file.path=*.jsonl", "steps.paid.select.columns=[ts, shop_id]"]);
    assert!(matches!(&starred.sources[0].place, Some(SourcePlace::File(path)) if path.value == "*.jsonl"));
}

#[test]
fn an_override_with_null_takes_a_key_away() {
    let orders = include_str!("../../attribution.yaml");
    let spec = read_clean(orders, &["sources.orders.id=null", "steps.attributed.attribute.dedupe_for=~"]);
    assert!(spec.sources[1].id.is_none());
    let OperatorSpec::Attribute(attribute) = &spec.steps[1].operator else { panic!() };
    assert_eq!((attribute.dedupe_for, attribute.dedupe_written), (Duration::from_secs(86400), None));
}

#[test]
fn faults_of_an_override_stand_in_the_override() {
    assert_eq!(faults(ORDERS, &["tick.max_rows=many"]), ["J008 --set tick.max_rows:1:15"]);
    assert_eq!(faults(ORDERS, &["tick.max_row=1"]), ["J003 --set tick.max_row:1:6"]);
    assert_eq!(faults(ORDERS, &["tick"]), ["J025 --set tick:1:1"]);
    assert_eq!(faults(ORDERS, &["tick..x=1"]), ["J025 --set tick..x:1:6"]);
    assert_eq!(faults(ORDERS, &["job.name=x"]), ["J025 --set job.name:1:5"]);
    assert_eq!(faults(ORDERS, &["tick=[1, "]), ["J025 --set tick:1:10"]);
}

#[test]
fn all_faults_are_found_at_once() {
    let text = r#"job: Orders
sources:
  orders:
    topic: raw.orders.v1
    kafka: {}
    formt: json
    schema: { a: strng, ts: timestamp_ms }
    max_disorder: 5sec
    max_disorder: 6s
    header: false
    on_bad_row: dump
steps:
  sessions: { match: { by: [a] } }
  both: { select: { from: orders }, union: { from: [orders] } }
  none: {}
  listed: { select: { from: orders, columns: a } }
sinks:
  out: { topic: out.v1, key: a }
  "in.": { from: orders, file: { path: "${vault:x}" } }
tick: 5
"#;
    let found = faults(text, &[]);
    assert_eq!(
        found,
        [
            "J007 job.yaml:1:6",
            "J011 job.yaml:5:5",
            "J003 job.yaml:6:5",
            "J012 job.yaml:7:18",
            "J008 job.yaml:8:19",
            "J005 job.yaml:9:5",
            "J028 job.yaml:10:13",
            "J009 job.yaml:11:17",
            "J011 job.yaml:13:15",
            "J010 job.yaml:14:37",
            "J010 job.yaml:15:3",
            "J006 job.yaml:16:46",
            "J004 job.yaml:18:3",
            "J006 job.yaml:18:30",
            "J007 job.yaml:19:3",
            "J026 job.yaml:19:40",
            "J006 job.yaml:20:7",
        ]
    );
}

#[test]
fn nothing_at_all_is_a_job_without_keys() {
    for text in ["", "# nothing\n", "{}"] {
        assert_eq!(faults(text, &[]).len(), 3, "{text}");
    }
    assert_eq!(faults("just words", &[]), ["J006 job.yaml:1:1"]);
}
