//! Explanations are compared with those that were reviewed.

use super::*;

fn plan(name: &str) -> Plan {
    crate::check(name, crate::bundled(name).unwrap(), &[]).unwrap().0
}

/// Compares with the file that was reviewed; `UPDATE=1` writes what is made now.
fn assert_reviewed(file: &str, made: &str) {
    let path = format!("{}/tests/cases/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(reviewed == made, "{file} is not what is explained now:\n{made}");
}

#[test]
fn bundled_jobs_are_explained_as_reviewed() {
    assert_reviewed("attribution.explained", &explain(&plan("attribution"), Form::Text));
    assert_reviewed("item-minutes.explained", &explain(&plan("item-minutes"), Form::Text));
    assert_reviewed("sessions.explained", &explain(&plan("sessions"), Form::Text));
    assert_reviewed("frustration.explained", &explain(&plan("frustration"), Form::Text));
    assert_reviewed("bronze.explained", &explain(&plan("bronze"), Form::Text));
    assert_reviewed("telemetry-funnel.explained", &explain(&plan("telemetry-funnel"), Form::Text));
    assert_reviewed("attribution.dot", &explain(&plan("attribution"), Form::Dot));
    assert_reviewed("attribution.mmd", &explain(&plan("attribution"), Form::Mermaid));
}

#[test]
fn the_program_form_names_keys_state_and_delays() {
    let explained: Value = serde_json::from_str(&explain(&plan("attribution"), Form::Json)).unwrap();
    let step = &explained["steps"][1];
    assert_eq!(step["keys"], json!(["user_id", "item_id"]));
    assert_eq!(step["state"].as_array().unwrap().len(), 3);
    assert_eq!(step["delays"], json!([{"source": "clicks", "delay_ms": 0}, {"source": "orders", "delay_ms": 0}]));
    assert_eq!(explained["sinks"][0]["promise"], "exactly once");
}

/// The account of behaviour events ends sessions by itself; elsewhere, and where it is part of the key, nothing does.
#[test]
fn another_account_ends_sessions_of_behaviour_events_unless_told_otherwise() {
    let split_by = |step: &str| {
        let job = format!(
            "job: visits\nsources: {{ events: {{ topic: raw, schema: \"@behaviour-event\" }} }}\n\
             steps: {{ visits: {{ sessionize: {{ from: events, {step} }} }} }}\nsinks: {{ out: {{ from: visits, topic: out }} }}\n"
        );
        let (plan, _) = crate::check("visits.yaml", &job, &[]).unwrap_or_else(|report| panic!("{report}"));
        let explained = explain(&plan, Form::Text);
        explained.lines().find_map(|line| line.trim().strip_prefix("user_switch")).map(|by| by.trim().to_owned())
    };
    assert_eq!(split_by("by: [anonymous_id], behaviour: true").as_deref(), Some("user_id"));
    assert_eq!(
        split_by("by: [anonymous_id], behaviour: true, split: { user_switch: tab_id }").as_deref(),
        Some("tab_id")
    );
    assert_eq!(split_by("by: [anonymous_id], behaviour: true, split: { user_switch: off }"), None);
    assert_eq!(split_by("by: [user_id], behaviour: true"), None);
    assert_eq!(split_by("by: [anonymous_id]"), None);
}
