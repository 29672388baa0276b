//! Floors: what may depend on what, and where outside libraries have their home. Read from the manifests, so that an edge is
//! seen on the day it is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Our crates, by folder, with those they may use. Never upward, never sideways.
const FLOORS: &[(&str, &[&str])] = &[
    ("dataflow", &[]),
    ("state", &["dataflow"]),
    // Rules as pure logic: it knows neither rows nor ticks, and so uses nothing of ours.
    ("behaviour", &[]),
    ("operators", &["dataflow", "state", "behaviour"]),
    // A decoder corrects the clocks of clients by the rule of behaviour data.
    ("connectors", &["dataflow", "behaviour"]),
    ("jobs", &["dataflow", "state", "operators", "connectors"]),
    (".", &["dataflow", "state", "operators", "connectors", "jobs"]),
    ("benches", &["dataflow", "state", "operators", "connectors", "jobs"]),
    // Drives the binary from outside: what it proves, it proves with code of its own.
    ("faults", &[]),
    ("fuzz", &["dataflow", "state", "connectors", "jobs"]),
    ("simulation", &["dataflow", "state", "jobs"]),
];

/// Outside libraries that only some crates may name. A name ending in `*` stands for all that begin so.
const HOMES: &[(&str, &[&str])] = &[
    ("timely*", &["dataflow"]),
    ("differential-dataflow", &["dataflow"]),
    ("sha2", &["behaviour", "."]),
    ("datafusion*", &["operators"]),
    ("object_store", &["state", "connectors", "simulation"]),
    ("rdkafka*", &["connectors"]),
    ("prost*", &["connectors"]),
    ("protox*", &["connectors"]),
    ("tokio*", &["state", "connectors", "."]),
    ("reqwest", &["state", "connectors", "."]),
    ("hyper*", &["connectors", "."]),
    ("saphyr*", &["jobs"]),
    ("clap*", &[".", "benches"]),
    ("anyhow", &[".", "benches"]),
    ("tracing-subscriber", &["."]),
    ("signal-hook*", &["."]),
    ("mimalloc", &[".", "benches", "simulation"]),
    ("redb", &["."]),
    ("rlimit", &["."]),
    ("sysinfo", &["."]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The dependencies of a manifest: table, name, and what is written for it.
fn dependencies(folder: &str) -> Vec<(String, String, String)> {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let mut table = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
        } else if let Some((name, value)) = line.split_once('=').filter(|_| table.ends_with("dependencies")) {
            let (name, rest) = name.trim().split_once('.').unwrap_or((name.trim(), ""));
            found.push((table.clone(), name.to_owned(), format!("{rest} = {}", value.trim())));
        }
    }
    found
}

#[test]
fn every_crate_has_its_floor() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = text.lines().find_map(|line| line.strip_prefix("members = [")).expect("members are on one line");
    let members: BTreeSet<&str> =
        members.trim_end_matches(']').split(',').map(|member| member.trim().trim_matches('"')).collect();
    let known: BTreeSet<&str> = FLOORS.iter().map(|(folder, _)| *folder).filter(|folder| *folder != ".").collect();
    assert_eq!(members, known, "a crate joins the workspace together with its floor");
}

#[test]
fn edges_go_down_only() {
    for (folder, may_use) in FLOORS {
        for (table, name, _) in dependencies(folder) {
            // The workspace table is a list of versions, not of edges.
            let Some(used) = name.strip_prefix("riverrun-").filter(|_| table != "workspace.dependencies") else {
                continue;
            };
            assert!(may_use.contains(&used), "{folder}: [{table}] names {name}, which is not below it");
        }
    }
}

#[test]
fn outside_libraries_stay_at_home() {
    for (folder, _) in FLOORS {
        for (table, name, _) in dependencies(folder) {
            if table != "dependencies" {
                continue;
            }
            for (library, homes) in HOMES {
                let is_it = library.strip_suffix('*').map_or(name == *library, |start| name.starts_with(start));
                assert!(!is_it || homes.contains(folder), "{folder} names {name}, whose home is {homes:?}");
            }
        }
    }
}

#[test]
fn versions_stand_in_the_workspace_table() {
    for (folder, _) in FLOORS {
        for (table, name, value) in
            dependencies(folder).into_iter().filter(|(table, ..)| table != "workspace.dependencies")
        {
            let inherits = value == "workspace = true" || value.contains("workspace = true");
            assert!(inherits, "{folder}: [{table}] {name} {value}: write `{name}.workspace = true`");
        }
    }
}

/// The licences that deny.toml allows.
fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    let (_, list) = text.split_once("allow = [").expect("deny.toml lists licences");
    let (list, _) = list.split_once(']').expect("the list ends");
    list.lines()
        .filter_map(|line| line.trim().trim_end_matches(',').strip_prefix('"')?.strip_suffix('"').map(str::to_owned))
        .collect()
}

/// Whether one alternative of an SPDX expression consists of allowed licences alone. Nested brackets do not occur in practice;
/// an expression that has them is refused, and then looked at by a person.
fn passes(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    let one = |name: &str| allowed.contains(name.trim_matches(|c: char| c == '(' || c == ')' || c == ' '));
    let any = |part: &str| part.split(" OR ").any(one);
    // `(A OR B) AND C`: every part between ANDs must have an alternative; without brackets AND binds closer than OR.
    if expression.contains('(') {
        expression.split(" AND ").all(any)
    } else {
        expression.split(" OR ").any(|part| part.split(" AND ").all(one))
    }
}

#[test]
fn licences_are_permissive() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let allowed = allowed();
    let mut refused = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let licence = package["license"].as_str().unwrap_or("none");
        if !passes(licence, &allowed) {
            refused.insert(package["name"].as_str().unwrap_or_default().to_owned(), licence.to_owned());
        }
    }
    assert!(refused.is_empty(), "licences that deny.toml does not allow: {refused:#?}");
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0".to_owned()]);
    for good in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "MIT AND Apache-2.0", "(MIT OR GPL-3.0) AND Apache-2.0"] {
        assert!(passes(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "(MIT OR Apache-2.0) AND GPL-3.0"] {
        assert!(!passes(bad, &allowed), "{bad}");
    }
}
