//! What is given to Kubernetes, Prometheus and Grafana, held to the rules: policy as code over the manifests as they are rendered, schemas
//! where the validator is at hand, and no metric that nobody serves.

#[path = "k8s/manifests.rs"]
mod manifests;
#[path = "k8s/monitoring.rs"]
mod monitoring;
#[path = "k8s/policy.rs"]
mod policy;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder of this package.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the documents of a YAML text.
fn documents(text: &str) -> Vec<Value> {
    use serde::Deserialize;
    let all = serde_yaml_ng::Deserializer::from_str(text);
    all.map(|one| Value::deserialize(one).expect("it is YAML")).filter(|one| !one.is_null()).collect()
}

/// Returns all files with that ending in a folder, and below it.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root().join(folder)];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found.sort();
    assert!(!found.is_empty(), "{folder} has files that end in {ending}");
    found
}
