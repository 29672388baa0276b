//! What the plan of a behaviour job must have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::bundled;
use crate::plan::{Plan, PlannedStep, check};
use crate::upgrade::{Fate, fates};

fn plan_with(overrides: &[&str]) -> Plan {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    match check("job.yaml", bundled("frustration").unwrap(), &overrides) {
        Ok((plan, _)) => plan,
        Err(report) => panic!("{report}"),
    }
}

fn step<'p>(plan: &'p Plan, name: &str) -> &'p PlannedStep {
    plan.steps.iter().find(|step| step.name == name).unwrap()
}

#[test]
fn what_changes_a_row_changes_the_hash() {
    let changes = [
        "watched.frustration.preset=posthog",
        "watched.frustration.signals=[rage_click]",
        "watched.frustration.sessions=device",
        "watched.frustration.gap=31m",
        "watched.frustration.lateness=1s",
        "watched.frustration.goals=[cart_add]",
        "watched.frustration.rage.clicks=4",
        "watched.frustration.words.whole=[x]",
        "watched.frustration.dead.timeout=<7000",
        "watched.frustration.search.points=3",
        "incidents.incidents.scope=gap",
        "incidents.incidents.open=7",
        "incidents.incidents.span=6m",
        "incidents.incidents.medium=7",
        "incidents.incidents.high=16",
        "incidents.incidents.critical=26",
        "incidents.incidents.funnel=[cart]",
        "incidents.incidents.coalesce=1m",
        "incidents.incidents.named=10",
        "incidents.incidents.keep=2h",
        "incidents.incidents.forget_after=2d",
        "usual.scroll_baseline.views=400",
        "usual.scroll_baseline.sigma=2",
        "usual.scroll_baseline.forget_after=10d",
        "problems.problems.window=2d",
        "problems.problems.hop=1m",
        "problems.problems.sessions=6",
        "problems.problems.persons=4",
        "problems.problems.critical_sessions=3",
        "problems.problems.repeat=5h",
    ];
    let hash = |change: &str| plan_with(&[&format!("steps.{change}")]).hash().to_owned();
    let hashes: BTreeSet<String> = changes.iter().map(|change| hash(change)).collect();
    assert_eq!(hashes.len(), changes.len());
    assert!(!hashes.contains(plan_with(&[]).hash()));
    // What is written as the preset has it anyway changes nothing.
    for same in
        ["watched.frustration.rage.clicks=3", "watched.frustration.dead.liveness=<1000", "problems.problems.hop=300s"]
    {
        assert_eq!(hash(same), plan_with(&[]).hash(), "{same}");
    }
}

#[test]
fn signals_stay_on_the_worker_of_their_session() {
    let plan = plan_with(&[]);
    assert_eq!(step(&plan, "watched").inputs[0].keys, ["tenant_id", "session_id"]);
    assert_eq!(step(&plan, "usual").inputs[0].keys, ["tenant_id", "page_key"]);
    assert!(step(&plan, "incidents").inputs[0].route.is_some(), "some come from the worker of their page");
    assert_eq!(step(&plan, "problems").inputs[0].keys, ["tenant_id", "fingerprint"]);
    let direct = "steps.incidents.incidents.from=watched";
    let plan = plan_with(&[direct]);
    assert!(step(&plan, "incidents").inputs[0].route.is_none(), "they are there already");
    let plan = plan_with(&[direct, "steps.watched.frustration.sessions=device"]);
    assert_eq!(step(&plan, "watched").inputs[0].keys, ["tenant_id", "anonymous_id"]);
    assert!(step(&plan, "incidents").inputs[0].route.is_some(), "they come from the worker of their device");
}

#[test]
fn what_waits_for_late_events_holds_back_the_watermark() {
    let plan = plan_with(&["steps.watched.frustration.lateness=7s"]);
    let problems = step(&plan, "problems");
    assert_eq!(problems.watermark[0].delay, Duration::from_secs(7));
    assert!(step(&plan, "incidents").keeps[1].contains("17s of event time"), "{:?}", step(&plan, "incidents").keeps);
}

/// Rules read a part of the event model: no more than that is decoded.
#[test]
fn only_columns_that_rules_read_are_decoded() {
    let plan = plan_with(&[]);
    let projected = plan.sources[0].schema.projected.clone().unwrap();
    for (name, is_read) in
        [("type", true), ("target_fp", true), ("mono_ms", true), ("campaign_source", false), ("amount_minor", false)]
    {
        assert_eq!(projected.iter().any(|column| column == name), is_read, "{name}");
    }
}

/// What becomes of the state of a step when its job is changed so.
fn fate_of(step: &str, changes: &[&str]) -> (Fate, String) {
    let changes: Vec<String> = changes.iter().map(|change| format!("steps.{change}")).collect();
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    let fates = fates(plan_with(&[]).shape(), plan_with(&changes).shape(), &BTreeMap::new(), &|_| 1);
    let part = fates.parts.iter().find(|part| part.name == step).unwrap();
    (part.fate, part.notes.join("; "))
}

#[test]
fn state_goes_on_under_other_numbers_and_not_by_another_key() {
    let (fate, note) = fate_of("watched", &["watched.frustration.rage.clicks=4"]);
    assert_eq!(
        (fate, note.as_str()),
        (
            Fate::Migrated,
            "its settings was `scroll.page_ends = true` and is `rage.clicks = 4; scroll.page_ends = true`"
        )
    );
    assert_eq!(fate_of("watched", &["watched.frustration.gap=1h"]).0, Fate::Migrated);
    assert_eq!(fate_of("incidents", &["incidents.incidents.open=7"]).0, Fate::Migrated);
    assert_eq!(fate_of("problems", &["problems.problems.hop=1m"]).0, Fate::Migrated);
    assert_eq!(fate_of("usual", &["usual.scroll_baseline.sigma=2"]).0, Fate::Migrated);
    let (fate, note) = fate_of("watched", &["watched.frustration.sessions=device"]);
    assert_eq!(fate, Fate::Reset);
    assert!(note.contains("its by was `tenant_id, session_id` and is `tenant_id, anonymous_id`"), "{note}");
    assert_eq!(fate_of("problems", &["watched.frustration.rage.clicks=4"]).0, Fate::Kept);
}

#[test]
fn a_shape_names_keys_versions_and_settings() {
    let plan = plan_with(&["steps.watched.frustration.rage.clicks=4"]);
    let shape = plan.shape().step("watched").unwrap();
    assert_eq!(shape.meaning["state version"], "1");
    assert_eq!(shape.meaning["by"], "tenant_id, session_id");
    assert_eq!(shape.settings["settings"], "rage.clicks = 4; scroll.page_ends = true");
    let columns: Vec<&str> = shape.tables[0].columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["by.tenant_id", "by.session_id", "due", "size", "state"]);
    assert_eq!(shape.tables[0].columns[1].of, "events.session_id");
    let problems = plan.shape().step("problems").unwrap();
    assert_eq!(problems.tables[0].columns[1].of, "incidents.fingerprint");
}
