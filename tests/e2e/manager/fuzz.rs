//! Schemathesis asks a manager for what its own OpenAPI document says can be asked for, and for what it says cannot: no answer is a fault of the
//! manager's own, and each is one that the document describes.

use std::process::Command;

use serde_json::{Value, json};

use super::Managed;

/// So many requests of each operation.
const EACH: &str = "4";
/// What is said of answers: none is a fault of the manager's own, each has a status, a type and a form that the document knows.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// The Python that has schemathesis, if there is one.
fn python() -> Option<String> {
    let python = std::env::var("RIVERRUN_TEST_PYTHON").ok().filter(|python| !python.is_empty())?;
    let has = Command::new(&python).args(["-c", "import schemathesis"]).output();
    has.is_ok_and(|output| output.status.success()).then_some(python)
}

/// Returns the document with names in it of what is there, so that not all that is asked for is missing.
fn document(managed: &Managed) -> Value {
    let mut document = managed.get("/openapi.json");
    for (_, methods) in document["paths"].as_object_mut().unwrap() {
        for (method, operation) in methods.as_object_mut().unwrap() {
            // The manager of this test asks for no key: requests with one that is made up would come no further than its door.
            operation.as_object_mut().unwrap().remove("security");
            // What is deleted is not there to be asked for more; nor is a job that runs over and over.
            let job = if method == "get" {
                json!(["attribution", "attribution@r", "nobody"])
            } else {
                json!(["nobody", "attribution"])
            };
            for parameter in operation["parameters"].as_array_mut().unwrap() {
                let known = match parameter["name"].as_str().unwrap() {
                    "job" if method == "delete" => json!(["nobody"]),
                    "job" => job.clone(),
                    "operator" => json!(["attributed", "clicks", "out", "nothing"]),
                    "savepoint" => json!(["one", "none"]),
                    "checkpoint" => json!(["latest", "1", "0"]),
                    "kind" => json!(["file", "topic", "fax"]),
                    // A stream goes on until its job ends, and none runs here for long.
                    "follow" => json!(["false"]),
                    _ => continue,
                };
                parameter["schema"]["enum"] = known;
            }
        }
    }
    document
}

#[test]
fn whatever_is_asked_for_the_answer_is_one_that_the_document_describes() {
    let Some(python) = python() else {
        eprintln!(
            "LEFT OUT: there is no Python with schemathesis (RIVERRUN_TEST_PYTHON): nobody fuzzes the manager by its document"
        );
        return;
    };
    let managed = Managed::with_traffic(798);
    managed.submit("job.yaml", &["--until-end"]);
    managed.until_phase("attribution", "finished");
    managed.cli(&["savepoint", "create", "attribution", "one"]).succeed();
    managed.cli(&["replay", "attribution", "--from", "earliest", "--as", "r"]).succeed();
    managed.place.write("openapi.json", document(&managed).to_string());
    let mut fuzz = Command::new(python);
    fuzz.args(["-m", "schemathesis.cli", "run", "openapi.json", "--url", &managed.server(), "--checks", CHECKS]);
    fuzz.args([
        "--phases",
        "fuzzing",
        "--max-examples",
        EACH,
        "--seed",
        "798",
        "--workers",
        "1",
        "--continue-on-failure",
    ]);
    fuzz.args(["--no-shrink", "--request-timeout", "60", "--rate-limit", "90/s", "--max-failures", "20"]);
    fuzz.current_dir(managed.place.folder()).env("NO_COLOR", "1").env("HOME", managed.place.folder());
    let output = fuzz.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    println!("{told}");
    assert_eq!(managed.cli(&["list"]).finish().code, Some(0), "it still answers");
}
