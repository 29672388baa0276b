//! What shells and scripts rely on: completion scripts that load and know the jobs, documents as they are described, exit codes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::Managed;
use crate::support::Place;

/// The program, where a shell finds it.
fn path() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_riverrun")).parent().unwrap().display();
    format!("{program}:{}", std::env::var("PATH").unwrap_or_default())
}

/// Types words in a bash that has loaded the script, and returns what it offers for the last.
fn offered(place: &Place, server: &str, words: &[&str]) -> Vec<String> {
    let typed = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let script = format!(
        "source <(riverrun completion bash) || exit 9\nCOMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         _riverrun_with_jobs riverrun \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-c", &script]).current_dir(place.folder());
    let output = bash.env("PATH", path()).env("RIVERRUN_SERVER", server).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{words:?}: {out}{err}");
    out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn completion_scripts_load_and_bash_knows_the_jobs_or_says_nothing() {
    let managed = Managed::with_traffic(740);
    managed.submit("job.yaml", &[]);
    let server = managed.server();
    let at = |words: &[&str]| offered(&managed.place, &server, words);
    // Whoever presses a key waits half a second at most: a busy manager is asked again.
    let names = |words: &[&str]| (0..100).map(|_| at(words)).find(|offered| !offered.is_empty()).unwrap_or_default();
    assert_eq!(names(&["riverrun", "status", ""]), ["attribution"]);
    assert_eq!(names(&["riverrun", "logs", "--tail", "5", "att"]), ["attribution"]);
    assert_eq!(names(&["riverrun", "savepoint", "create", ""]), ["attribution"]);
    assert_eq!(names(&["riverrun", "stop", "--drain", ""]), ["attribution"]);
    assert!(!at(&["riverrun", "stop", "attribution", ""]).contains(&"attribution".to_owned()), "there is one");
    assert!(at(&["riverrun", "status", "--wa"]).contains(&"--watch".to_owned()));
    assert!(at(&["riverrun", "sta"]).contains(&"status".to_owned()));
    assert_eq!(at(&["riverrun", "status", "zz"]), Vec::<String>::new());
    // Nobody is there, or takes the call and says nothing: it is over soon, without a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for nobody in ["http://127.0.0.1:1".to_owned(), format!("http://{}", silent.local_addr().unwrap())] {
        let mut asking = managed.place.riverrun(&["complete-jobs", "--server", &nobody]).start();
        assert!(asking.ends_within(Duration::from_secs(90)), "it waits for an answer");
        let names = asking.finish();
        assert!(names.code == Some(0) && names.stdout.is_empty() && names.stderr.is_empty(), "{names}");
    }
    for (shell, load) in [
        (
            "zsh",
            "autoload -Uz compinit && compinit -u && source <(riverrun completion zsh) && (( $+functions[_riverrun_jobs] ))",
        ),
        ("fish", "riverrun completion fish | source; and complete -C 'riverrun sta' | string match -q 'status*'"),
    ] {
        match Command::new(shell).args(["-c", load]).env("PATH", path()).env("HOME", managed.place.folder()).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => eprintln!("LEFT OUT: there is no {shell}, so nobody has loaded its completion script"),
        }
    }
}

/// Holds a document against its schema: types, texts of a choice, and no field that the schema does not know.
fn check(document: &Value, schema: &Value, all: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return check(document, &all[name], all, at);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        // One of ours, or nothing.
        let ours = choices.iter().find(|choice| choice["type"] != "null").unwrap();
        if !document.is_null() {
            check(document, ours, all, at);
        }
        return;
    }
    // What may be left out may be null.
    let kind = schema["type"].as_array().map_or(&schema["type"], |kinds| &kinds[0]);
    if document.is_null() {
        assert!(schema["type"].is_array() || schema["type"].is_null(), "{at} is null");
        return;
    }
    let fits = match kind.as_str() {
        None => true,
        Some("object") => document.is_object(),
        Some("array") => document.is_array(),
        Some("string") => document.is_string(),
        Some("integer") => document.is_i64() || document.is_u64(),
        Some("number") => document.is_number(),
        Some("boolean") => document.is_boolean(),
        Some(other) => panic!("{at}: the schema has the type {other}"),
    };
    assert!(fits, "{at}: {document} is no {kind}");
    if let Some(choice) = schema["enum"].as_array() {
        assert!(choice.contains(document), "{at}: {document} is none of {choice:?}");
    }
    for (name, value) in document.as_object().into_iter().flatten().filter(|_| kind == "object") {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        check(value, known.unwrap_or_else(|| panic!("{at} has a field `{name}`")), all, &format!("{at}.{name}"));
    }
    for (index, value) in document.as_array().into_iter().flatten().enumerate() {
        check(value, &schema["items"], all, &format!("{at}[{index}]"));
    }
}

#[test]
fn every_command_that_asks_a_manager_prints_the_document_that_is_described() {
    let described = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/documents.json");
    let described: Value = serde_json::from_slice(&std::fs::read(described).unwrap()).unwrap();
    let managed = Managed::with_traffic(741);
    let job = "attribution";
    let mut left: Vec<&String> = described["commands"].as_object().unwrap().keys().collect();
    let mut run = |command: &str, arguments: &[&str]| {
        let schema = &described["commands"][command];
        assert!(!schema.is_null(), "`{command}` is not described");
        left.retain(|known| *known != command);
        let words: Vec<&str> = command.split(' ').chain(arguments.iter().copied()).collect();
        let finished = managed.cli(&words).succeed();
        let documents = serde_json::Deserializer::from_slice(&finished.stdout).into_iter::<Value>();
        let documents: Vec<Value> =
            documents.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {finished}"));
        assert!(!documents.is_empty(), "{finished}");
        documents.iter().for_each(|document| check(document, schema, &described["schemas"], command));
        documents.into_iter().next().unwrap()
    };
    run("submit --dry-run", &["job.yaml"]);
    run("submit", &["job.yaml", "--set", "checkpoint.every=1h", "--set", "commit.every=20ms"]);
    managed.until_phase(job, "running");
    run("list", &[]);
    run("status", &[job]);
    run("logs", &[job]);
    run("checkpoints trigger", &[job]);
    run("savepoint create", &[job, "one"]);
    run("savepoint ls", &[job]);
    run("savepoint rm", &[job, "one"]);
    run("replay", &[job, "--from", "earliest", "--as", "r"]);
    managed.until(job, "rows", |_| crate::support::topics::count(&managed.place.path("topics"), "out") > 0);
    run("tap", &[job, "out"]);
    run("rescale", &[job, "-w", "2"]);
    run("rescales", &[job]);
    run("exceptions", &[job]);
    run("restart", &[job]);
    run("suspend", &[job]);
    let offsets = run("offsets show", &[job]);
    let first = &offsets["splits"][0];
    let same = format!("{}:{}={}", first["source"], first["split"], first["position"]).replace('"', "");
    run("offsets set", &[job, &same]);
    run("resume", &[job]);
    run("stop", &[job]);
    run("cancel", &[job]);
    run("checkpoints verify", &[job]);
    run("checkpoints query", &[job]);
    run("doctor", &[]);
    run("delete", &[job, "--yes"]);
    let made = run("key create", &["ci", "--role", "viewer"]);
    run("key ls", &[]);
    run("key rm", &[made["key"]["id"].as_str().unwrap()]);
    // Those that have no manager, or another name than what is typed.
    let listed = managed.cli(&["savepoint", "ls"]).succeed().document();
    check(&listed, &described["commands"]["savepoint ls (all jobs)"], &described["schemas"], "savepoint ls");
    for (name, typed) in [
        ("config show", vec!["config", "show"]),
        ("connectors", vec!["connectors"]),
        ("connectors KIND", vec!["connectors", "file"]),
    ] {
        let shown = managed.place.riverrun(&typed).args(&["-o", "json"]).succeed().document();
        check(&shown, &described["commands"][name], &described["schemas"], name);
        left.retain(|known| *known != name);
    }
    left.retain(|known| *known != "savepoint ls (all jobs)");
    assert!(left.is_empty(), "nobody has tried {left:?}");
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let managed = Managed::with_traffic(742);
    let job = "attribution";
    managed.place.write("faulty.yaml", "job: x\n");
    let dead = ["list", "--server", "http://127.0.0.1:1"];
    managed.submit("job.yaml", &[]);
    let table: [(i32, &[&str]); 9] = [
        (0, &["list"]),
        (1, &["replay", job, "--from", "clicks:0=900000"]),
        (2, &["list", "--nothing"]),
        (2, &["delete", job]),
        (3, &["status", "nobody"]),
        (3, &["checkpoints", "trigger", "attribution@none"]),
        (5, &["submit", "job.yaml", "--if-revision", "9"]),
        (6, &["replay", job, "--from", "earliest", "--rate", "1/s", "--timeout", "1ms"]),
        (78, &["submit", "faulty.yaml"]),
    ];
    for (code, arguments) in table {
        assert_eq!(managed.cli(arguments).finish().code, Some(code), "{arguments:?}");
    }
    assert_eq!(managed.place.riverrun(&dead).finish().code, Some(7));
    // Who is not known is not let in.
    let place = Place::new();
    place.write("key", format!("riverrun_a_{}", "b1".repeat(32)));
    let guarded = Managed::at(place, &["--admin-key-file", "key"]);
    assert_eq!(guarded.cli(&["list"]).finish().code, Some(4));
}
