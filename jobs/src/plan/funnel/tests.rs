//! What the plan of a funnel must have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::bundled;
use crate::plan::{Plan, PlannedStep, check};
use crate::upgrade::{Fate, fates};

fn plan_with(overrides: &[&str]) -> Plan {
    let overrides: Vec<String> = overrides.iter().map(|change| format!("steps.people.funnel.{change}")).collect();
    match check("job.yaml", bundled("telemetry-funnel").unwrap(), &overrides) {
        Ok((plan, _)) => plan,
        Err(report) => panic!("{report}"),
    }
}

fn people(plan: &Plan) -> &PlannedStep {
    plan.steps.iter().find(|step| step.name == "people").unwrap()
}

#[test]
fn what_changes_a_row_changes_the_hash() {
    let changes = [
        "within=7d",
        "again_after=1d",
        "lateness=1s",
        "columns=[channel]",
        "steps.ran=event = 'workflow_run' and plan = 'free'",
        "steps.created=event in ('workflow_created', 'workflow_imported')",
    ];
    let hashes: BTreeSet<String> = ["lateness=0s"]
        .iter()
        .chain(&changes[..3])
        .chain(&changes[4..])
        .map(|it| plan_with(&[it]).hash().to_owned())
        .collect();
    assert_eq!(hashes.len(), changes.len());
    assert!(hashes.contains(plan_with(&[]).hash()), "what is written as it is anyway changes nothing");
    assert_ne!(plan_with(&["columns=[channel]"]).hash(), plan_with(&[]).hash());
}

#[test]
fn a_journey_is_told_behind_the_watermark_and_its_bound_is_said() {
    let plan = plan_with(&["lateness=1h"]);
    assert_eq!(people(&plan).delay, Duration::from_secs(14 * 24 * 3600 + 3600));
    assert_eq!(people(&plan).inputs[0].keys, ["user_id"]);
    let keeps = people(&plan).keeps.join("; ");
    assert!(keeps.contains("at most 4 rows") && keeps.contains("8761h past its first"), "{keeps}");
    assert!(keeps.contains("10000000 a worker"), "{keeps}");
    let progress = plan.steps.iter().find(|step| step.name == "progress").unwrap();
    assert_eq!(progress.delay, Duration::ZERO);
}

/// What becomes of the state of the step when its job is changed so.
fn fate_of(changes: &[&str]) -> (Fate, String) {
    let fates = fates(plan_with(&[]).shape(), plan_with(changes).shape(), &BTreeMap::new(), &|_| 1);
    let part = fates.parts.iter().find(|part| part.name == "people").unwrap();
    (part.fate, part.notes.join("; "))
}

#[test]
fn state_goes_on_unless_its_journeys_are_others() {
    assert_eq!(fate_of(&["max_keys=5"]).0, Fate::Kept);
    for change in ["within=7d", "again_after=1d", "columns=[plan, channel]", "steps.ran=event = 'other'"] {
        let (fate, note) = fate_of(&[change]);
        assert_eq!(fate, Fate::Reset, "{change}: {note}");
    }
    let (_, note) = fate_of(&["within=7d"]);
    assert!(note.contains("its within was `14d` and is `7d`"), "{note}");
}
