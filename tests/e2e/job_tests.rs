//! `riverrun test`: what passes, what fails and how that is said, what is rewritten, and what a build server is told.

use quick_xml::events::Event;
use serde_json::json;

use crate::support::Place;

const JOB: &str = r#"
job: counts
sources:
  events: { file: { path: "in/*.jsonl" }, schema: { id: string, k: string, ts: timestamp_ms }, event_time: ts, id: id, max_disorder: 5s }
steps:
  per_minute: { window: { from: events, tumble: 1m, by: [k], aggregates: { rows: "count(*)" } } }
sinks:
  out: { from: per_minute, file: { path: out.jsonl } }
"#;

const TEST: &str = r#"start: 2026-01-01T10:00:00Z
tests:
  counted by minute:
    given:
      events: |
        id | k | ts
        a  | x | +0s
        b  | x | +59s
        c  | y | +55s
        d  | x | +1m
    expect:
      # The first minute, then the second.
      per_minute: |
        window_start | k | rows
        +0s          | x | 2
        +0s          | y | 1
        +1m          | x | 1
  "a <late> & \"bad\" one":
    given:
      events: |
        id | k | ts
        a  | x | +1m
        b  | x | +54s
        c  | x | never
    expect: { out: [] }
    counts: { per_minute: { late: 1 }, events: { bad: 1 } }
"#;

/// The test file with its second test put right.
fn right() -> String {
    TEST.replace("expect: { out: [] }", "expect:\n      out: |\n        k | rows\n        x | 1")
}

fn place(test: &str) -> Place {
    let place = Place::new();
    place.write("jobs/counts.yaml", JOB).write("jobs/counts.test.yaml", test);
    place
}

#[test]
fn tests_that_pass_are_counted_and_need_no_input_of_the_job() {
    let place = place(&right());
    let finished = place.riverrun(&["test", "jobs"]).succeed();
    let said = String::from_utf8(finished.stdout.clone()).unwrap();
    assert!(said.contains("jobs/counts.test.yaml\n  ok    counted by minute  (6 plays)\n"), "{said}");
    assert!(finished.stderr.contains("2 passed, 0 failed in 1 file; 12 plays in "), "{finished}");
    assert!(!place.path("out.jsonl").exists() && !place.path(".riverrun").exists(), "a test leaves nothing behind");
    // The job file stands for the tests beside it, and so does the folder above.
    for path in ["jobs/counts.yaml", "jobs/counts.test.yaml", "."] {
        place.riverrun(&["test", path]).succeed();
    }
    place.riverrun(&["test", "jobs", "--filter", "minute"]).succeed();
    place.riverrun(&["test", "jobs", "--filter", "nothing"]).fail(3, &["no test's name has `nothing` in it"]);
    place.write("empty/readme.md", "").riverrun(&["test", "empty"]).fail(3, &["there are no tests in `empty`"]);
    place.riverrun(&["test", "elsewhere"]).fail(3, &["there is no file or folder `elsewhere`"]);
}

#[test]
fn a_test_that_fails_shows_its_rows_and_their_places() {
    let place = place(&right().replace("+0s          | x | 2", "+0s          | x | 3").replace("| never", "| +2m"));
    let finished = place.riverrun(&["test", "jobs"]).fail(1, &["0 passed, 2 failed in 1 file; 2 plays"]);
    let said = String::from_utf8(finished.stdout).unwrap();
    for part in [
        "FAIL  counted by minute  (1 play)\n",
        "as given: `per_minute`: 1 changed of 3 rows\n          at jobs/counts.test.yaml:13:7\n",
        "| line | window_start | k | rows\n",
        "~ changed | 15   | +0s          | x | 3 => 2\n",
        "`bad` of `events` is 0, expected 1\n",
        "+ unexpected |",
    ] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    let finished = place.riverrun(&["test", "jobs", "-o", "json"]).fail(1, &[]);
    let said: serde_json::Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert_eq!((&said["passed"], &said["failed"]), (&json!(0), &json!(2)));
    let failure = &said["files"][0]["tests"][0]["failures"][0];
    assert_eq!(failure["place"]["line"], 13);
    assert_eq!(failure["rows"][0]["kind"], "changed");
    assert_eq!(failure["rows"][0]["cells"][2], json!({ "column": "rows", "expected": "3", "came": "2" }));
}

#[test]
fn an_update_rewrites_what_came_and_leaves_the_rest() {
    let wrong = right().replace("+0s          | x | 2", "+0s          | x | 3").replace("late: 1", "late: 7");
    let place = place(&wrong);
    place.riverrun(&["test", "jobs", "--update"]).succeed();
    assert_eq!(String::from_utf8(place.read("jobs/counts.test.yaml")).unwrap(), right());
    // What stands in one line with others is left, and said.
    place.write("jobs/counts.test.yaml", TEST);
    place
        .riverrun(&["test", "jobs", "--update"])
        .fail(1, &["jobs/counts.test.yaml:25:15: left as it is", "1 passed, 1 failed"]);
    assert_eq!(place.read("jobs/counts.test.yaml"), TEST.as_bytes());
}

#[test]
fn a_build_server_is_told_in_xml() {
    let place = place(&TEST.replace("+0s          | x | 2", "+0s          | x | 3"));
    place.riverrun(&["test", "jobs", "--junit", "results.xml"]).fail(1, &[]);
    let xml = String::from_utf8(place.read("results.xml")).unwrap();
    let mut reader = quick_xml::Reader::from_str(&xml);
    let (mut cases, mut failures, mut depth, mut said) = (Vec::new(), 0, 0, String::new());
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("{error} in\n{xml}")) {
            Event::Start(element) | Event::Empty(element) if element.name().as_ref() == b"testcase" => {
                let name = element.try_get_attribute("name").unwrap().expect("a case has a name");
                cases
                    .push(quick_xml::escape::unescape(std::str::from_utf8(&name.value).unwrap()).unwrap().into_owned());
                for attribute in element.attributes() {
                    attribute.unwrap();
                }
            }
            Event::Start(element) if element.name().as_ref() == b"failure" => failures += 1,
            Event::Start(element) => {
                depth += usize::from(element.name().as_ref().starts_with(b"testsuite"));
            }
            Event::Text(text) => said.push_str(std::str::from_utf8(&text).unwrap()),
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(cases, ["counted by minute", "a <late> & \"bad\" one"]);
    assert_eq!((failures, depth), (2, 2), "{xml}");
    assert!(said.contains("per_minute"), "{said}");
}

#[test]
fn a_test_file_with_faults_is_not_played_and_all_of_them_are_shown() {
    let test = right()
        .replace("        id | k | ts\n        a  | x | +0s", "        id | kk | ts\n        a  | x | +0s")
        .replace("      per_minute: |", "      per_minut: |")
        .replace("counts:", "count:")
        .replace("start: 2026-01-01T10:00:00Z\n", "");
    let place = place(&test);
    let says = [
        "error[J014]: the rows of `events` have the column `kk`, which it does not have\n  at jobs/counts.test.yaml:5:14\n",
        "hint: did you mean `k`?",
        "error[J013]: rows are expected of `per_minut`, which is no stream of the job\n  at jobs/counts.test.yaml:12:7\n",
        "hint: did you mean `per_minute`?",
        "error[J003]: test `a <late> & \"bad\" one` has no key `count`",
        "error[J061]: `+0s` counts from `start`, which the test does not have\n  at jobs/counts.test.yaml:6:18\n",
    ];
    let finished = place.riverrun(&["test", "jobs"]).fail(78, &says);
    assert!(finished.stdout.is_empty());
    let finished = place.riverrun(&["test", "jobs", "-o", "json"]).fail(78, &[]);
    let findings: serde_json::Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert!(findings.as_array().unwrap().len() >= 4, "{findings}");
    // Of a job at fault its own faults are shown.
    place.write("jobs/counts.test.yaml", right()).write("jobs/counts.yaml", JOB.replace("count(*)", "count(nothing)"));
    place.riverrun(&["test", "jobs"]).fail(78, &["at jobs/counts.yaml:6:"]);
    place.write("jobs/counts.test.yaml", "job: other.yaml\ntests: {}\n");
    place
        .riverrun(&["test", "jobs"])
        .fail(78, &["error[J001]: the job of the tests cannot be read\n  at jobs/counts.test.yaml:1:6\n"]);
}

#[test]
fn a_job_may_be_named_and_changed_by_its_test_file() {
    let place = place(&right());
    let test = format!(
        "job: ../counts.yaml\nset: [steps.per_minute.window.tumble=1h]\n{}",
        right().replace(
            "        +0s          | x | 2\n        +0s          | y | 1\n        +1m          | x | 1\n",
            "        +0s          | x | 3\n        +0s          | y | 1\n",
        )
    );
    place.write("jobs/more/other.test.yaml", test);
    place.riverrun(&["test", "jobs/more"]).succeed();
    let bundled = "job: item-minutes\ntests:\n  nothing gives nothing:\n    given: {}\n    expect: { rated: [] }\n";
    place.write("jobs/more/bundled.test.yaml", bundled);
    place.riverrun(&["test", "jobs"]).succeed();
}
