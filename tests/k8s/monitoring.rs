//! Alerts and dashboards: promtool's opinion, and no metric in them that Riverrun does not serve.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{documents, files, root, text};

const ALERTS: &str = "k8s/monitoring/alerts.yaml";
const RULE: &str = "k8s/monitoring/prometheus-rule.yaml";

/// Returns `promtool`: of the system, or where the test command puts it.
fn promtool() -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tools/promtool");
    let found =
        [own, PathBuf::from("promtool")].into_iter().find(|it| Command::new(it).arg("--version").output().is_ok());
    if found.is_none() {
        eprintln!("LEFT OUT: there is no promtool, so alerts are not tested");
    }
    found
}

/// Returns the names of all metrics, histograms with the names of their parts, as the pages list them.
fn served() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for page in ["docs/guide/metrics.md", "docs/guide/manager.md"] {
        let Ok(page) = std::fs::read_to_string(root().join(page)) else { continue };
        for line in page.lines().filter(|line| line.starts_with("| `")) {
            let first = line[2..].split(" | ").next().unwrap_or_default();
            for name in first.split('`').filter(|name| name.starts_with("riverrun_") || name.starts_with("process_")) {
                names.insert(name.to_owned());
                if line.contains("| histogram |") {
                    names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
                }
            }
        }
    }
    assert!(names.contains("riverrun_job_ready"), "{names:?}");
    names
}

/// Returns the metrics that an expression names.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("riverrun_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn alerts() -> Vec<Value> {
    let groups = documents(&text(ALERTS)).remove(0);
    let rules =
        groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
    rules.collect()
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let Some(promtool) = promtool() else { return };
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let out = Command::new(&promtool).args(arguments).current_dir(root().join("k8s/monitoring")).output().unwrap();
        let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(out.status.success(), "{said}");
    }
}

#[test]
fn every_alert_is_tested_and_has_its_page() {
    let (tests, pages) = (text("k8s/monitoring/alerts.test.yaml"), text("docs/guide/alerts.md"));
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(tests.contains(&format!("alertname: {name}")), "{name} is not tested");
        assert!(
            pages.lines().any(|line| line == format!("## {}", name.trim_start_matches("Riverrun"))),
            "{name} has no page"
        );
        let runbook = name.trim_start_matches("Riverrun").to_lowercase();
        assert_eq!(alert["annotations"]["runbook"], runbook, "{name}");
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
    }
}

#[test]
fn alerts_and_dashboards_name_metrics_that_are_served() {
    let served = served();
    let mut expressions: Vec<(String, String)> =
        alerts().iter().map(|alert| (alert["alert"].to_string(), alert["expr"].as_str().unwrap().to_owned())).collect();
    for path in files("k8s/monitoring/dashboards", ".json") {
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        for panel in board["panels"].as_array().unwrap() {
            let title = format!("{file}: {}", panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                expressions.push((title.clone(), target["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    assert!(expressions.len() > 50);
    for (place, expression) in expressions {
        let named = named(&expression);
        assert!(!named.is_empty(), "{place}: {expression}");
        for name in named {
            assert!(served.contains(&name), "{place}: nobody serves {name}");
        }
    }
}

#[test]
fn the_rule_for_the_operator_is_made_of_the_alerts() {
    let alerts = text(ALERTS);
    let known = text(RULE);
    let head = &known[..known.find("spec:\n").unwrap()];
    let mut made = format!("{head}spec:\n");
    for line in alerts[alerts.find("groups:").unwrap()..].lines() {
        made.push_str(&if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") });
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join(RULE), &made).unwrap();
    }
    assert!(made == text(RULE), "{RULE} is stale: run this test with UPDATE=1");
}
