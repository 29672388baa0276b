//! The command line as a person or a script meets it: the real binary, real files, exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn riverrun(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_riverrun"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RIVERRUN_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).args(args).stdin(Stdio::null()).output().unwrap()
}

fn well(folder: &Path, args: &[&str]) -> String {
    let output = riverrun(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn code(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = riverrun(folder, args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_main_job_writes_the_same_bytes_with_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    well(here, &["demo", "--generate-only", "--rows", "30000", "--out", "data"]);
    let mut outputs = Vec::new();
    for workers in ["1", "2", "4"] {
        let out = format!("sinks.attributed_events.file.path=out-{workers}.jsonl");
        let state = format!("state-{workers}");
        let report = well(
            here,
            &[
                "run",
                "attribution",
                "-w",
                workers,
                "--state",
                &state,
                "-o",
                "json",
                "--set",
                "sources.clicks.file.path=data/clicks.jsonl",
                "--set",
                "sources.orders.file.path=data/orders.jsonl",
                "--set",
                "tick.max_rows=2000",
                "--set",
                &out,
            ],
        );
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["ended"], "finished");
        for (step, counts) in report["snapshot"]["balance"].as_object().unwrap() {
            let sum: u64 = ["taken", "filtered", "late", "bad", "duplicate"]
                .iter()
                .map(|name| counts[name].as_u64().unwrap())
                .sum();
            assert_eq!(counts["in"].as_u64().unwrap(), sum, "{step}");
        }
        outputs.push(fs::read(here.join(format!("out-{workers}.jsonl"))).unwrap());
    }
    assert!(!outputs[0].is_empty() && outputs.iter().all(|output| *output == outputs[0]));
}

#[test]
fn topics_are_made_filled_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("in.jsonl"), "{\"k\":1}\n{\"k\":2}\nnot json\n").unwrap();
    well(here, &["topic", "create", "t", "-p", "1"]);
    assert_eq!(code(here, &["topic", "create", "t"]).0, 5);
    well(here, &["topic", "import", "in.jsonl", "--topic", "t", "--key", "k"]);
    assert_eq!(well(here, &["topic", "tail", "t", "--from-start"]), "{\"k\":1}\n{\"k\":2}\nnot json\n");
    assert_eq!(well(here, &["topic", "tail", "t", "-n", "1"]), "not json\n");
    let listed: serde_json::Value = serde_json::from_str(&well(here, &["topic", "ls", "-o", "json"])).unwrap();
    assert_eq!((&listed[0]["topic"], &listed[0]["records"]), (&"t".into(), &3.into()));
    assert_eq!(code(here, &["topic", "tail", "nothing"]).0, 3);
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("bad.yaml"), "job: X\nnonsense: 1\n").unwrap();
    let (exit, said) = code(here, &["check", "bad.yaml"]);
    assert_eq!(exit, 78, "{said}");
    assert!(said.contains("bad.yaml:2"), "{said}");
    assert_eq!(code(here, &["run", "bad.yaml"]).0, 78);
    assert_eq!(code(here, &["run", "nothing.yaml"]).0, 3);
    assert_eq!(code(here, &["run"]).0, 2);
    assert_eq!(code(here, &["run", "attribution", "--topics", "kafka://localhost"]).0, 78);
    assert_eq!(code(here, &["checkpoints", "ls", "attribution"]).0, 3);
}

#[test]
fn a_new_job_is_valid_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    well(here, &["new", "window", "--to", "mine.yaml"]);
    assert!(well(here, &["check", "mine.yaml"]).contains("job `mine` is valid"));
    assert_eq!(code(here, &["new", "window", "--to", "mine.yaml"]).0, 5);
}

#[test]
fn editors_are_told_what_a_test_file_may_say() {
    let folder = tempfile::tempdir().unwrap();
    let schema: serde_json::Value = serde_json::from_str(&well(folder.path(), &["schema", "--tests"])).unwrap();
    let case = &schema["properties"]["tests"]["additionalProperties"]["properties"];
    assert!(case["fails"]["properties"]["says"].is_object() && case["given"].is_object(), "{case}");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .current_dir(folder.path())
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
