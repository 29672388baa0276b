//! The manifests: as they lie there, for who applies them file by file, and as kustomize renders them, where that is at hand.

use std::process::Command;

use serde_json::Value;

use super::{documents, files, root, text};

/// What is rendered of the example, or nothing where there is no `kubectl`.
fn rendered() -> Option<String> {
    let out = Command::new("kubectl").args(["kustomize", "k8s/overlays/example"]).current_dir(root()).output();
    let Ok(out) = out else {
        eprintln!("LEFT OUT: there is no kubectl, so nothing is rendered; the files are looked at as they are");
        return None;
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

/// Returns the objects that are checked: rendered ones, or those in the files.
pub fn objects() -> Vec<Value> {
    match rendered() {
        Some(text) => documents(&text),
        None => {
            let own = |path: &std::path::PathBuf| {
                let path = path.to_string_lossy();
                !path.ends_with("kustomization.yaml")
                    && !path.contains("/monitoring/alerts")
                    && !path.contains("prometheus.yaml")
            };
            let all = files("k8s", ".yaml").into_iter().filter(own);
            all.flat_map(|path| documents(&std::fs::read_to_string(path).unwrap()))
                .filter(|it| it.get("kind").is_some())
                .collect()
        }
    }
}

#[test]
fn every_object_is_what_the_schema_of_kubernetes_says() {
    let Some(rendered) = rendered() else { return };
    let Some(python) = std::env::var_os("RIVERRUN_TEST_PYTHON").filter(|python| !python.is_empty()) else {
        eprintln!("LEFT OUT: RIVERRUN_TEST_PYTHON is not set: manifests are not held against schemas");
        return;
    };
    let known = Command::new(&python).args(["-c", "import kubernetes_validate"]).output().unwrap();
    if !known.status.success() {
        eprintln!("LEFT OUT: that Python has no kubernetes-validate: manifests are not held against schemas");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rendered.yaml");
    std::fs::write(&file, rendered).unwrap();
    // The oldest version that is looked after, and the newest one that the validator knows.
    for version in ["1.33.0", "1.37.0"] {
        let checked = Command::new(&python)
            .args(["-m", "kubernetes_validate", "--strict", "-k", version])
            .arg(&file)
            .output()
            .unwrap();
        let said = [checked.stdout, checked.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(checked.status.success(), "{version}: {said}");
        // A kind that it does not know is only warned of: those of the Prometheus operator are the only ones.
        let unknown = said.lines().filter(|line| line.contains("WARN"));
        for line in unknown {
            assert!(line.contains("monitoring.coreos.com/v1"), "{version}: {line}");
        }
    }
}

#[test]
fn the_job_in_the_config_map_is_the_bundled_one() {
    assert_eq!(text("k8s/job/attribution.yaml"), text("jobs/attribution.yaml"));
}

#[test]
fn the_number_of_processes_is_the_same_wherever_it_stands() {
    let set = objects().into_iter().find(|it| it["kind"] == "StatefulSet").expect("there is one");
    let replicas = set["spec"]["replicas"].as_u64().unwrap();
    let env = set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| env.iter().find(|it| it["name"] == name).unwrap()["value"].as_str().unwrap().to_owned();
    assert_eq!(value("RIVERRUN_PROCESSES"), replicas.to_string());
    let (name, service) = (set["metadata"]["name"].as_str().unwrap(), set["spec"]["serviceName"].as_str().unwrap());
    let peers: Vec<String> = (0..replicas).map(|index| format!("{name}-{index}.{service}:7171")).collect();
    assert_eq!(value("RIVERRUN_PEERS"), peers.join(","));
}

#[test]
fn the_image_has_no_shell_and_runs_as_a_number() {
    let dockerfile = text("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch"), "the last stage begins with nothing: {last}");
    assert!(last.contains("USER 65532:65532") && last.contains("ENTRYPOINT [\"/usr/bin/riverrun\"]"));
    assert!(!last.lines().any(|line| line.starts_with("RUN")));
    for line in dockerfile.lines() {
        assert!(!line.starts_with("ADD"), "{line}");
        // The shell form would need a shell, and hide what failed.
        for word in ["RUN ", "ENTRYPOINT ", "CMD "] {
            assert!(!line.starts_with(word) || line[word.len()..].starts_with('['), "{line}");
        }
    }
    let ignored = text(".dockerignore");
    assert_eq!(
        ignored.lines().find(|line| !line.starts_with('#')),
        Some("*"),
        "only what is named goes to the builder"
    );
}
