//! A run from its start to its end: stopped, resumed, finished, started twice, begun anew, and what it refuses to touch.

use crate::oracle::Model;
use crate::support::jobs::{self, BUSY, Over};
use crate::support::process::{Invocation, Stop};
use crate::support::{Place, Shop, topics};

/// Ticks so small that a run takes its time.
const SLOW: &[&str] = &["--set", "tick.max_rows=2", "--set", "commit.every=10ms", "--set", "checkpoint.every=50ms"];

fn filled(seed: u64) -> Place {
    let place = Place::new();
    Shop { seed, ..Shop::default() }.open().write(&place);
    place.write("job.yaml", jobs::attribution(Over::Files, Model::Last));
    place
}

fn slow(place: &Place) -> Invocation {
    place.run("job.yaml").args(SLOW)
}

#[test]
fn a_stopped_run_ends_well_and_goes_on_to_the_same_bytes() {
    let calm = filled(80);
    assert_eq!(slow(&calm).succeed().ended(), "finished");
    for stop in [Stop::Terminate, Stop::Interrupt] {
        let place = filled(80);
        let mut running = slow(&place).start();
        running.catch_once_written(&place.path("out.jsonl"));
        running.signal(stop);
        let finished = running.finish();
        assert_eq!(finished.code, Some(0), "{finished}");
        assert_eq!(finished.ended(), "stopped", "{finished}");
        assert!(place.read("out.jsonl").len() < calm.read("out.jsonl").len(), "it was stopped on its way");
        assert!(calm.read("out.jsonl").starts_with(&place.read("out.jsonl")), "what is there is the beginning");
        assert_eq!(slow(&place).succeed().ended(), "finished");
        assert!(place.read("out.jsonl") == calm.read("out.jsonl"));
        assert!(place.read("bad.jsonl") == calm.read("bad.jsonl"));
    }
}

#[test]
fn a_finished_job_says_so_when_it_is_run_again() {
    let place = filled(81);
    let first = place.run("job.yaml").args(BUSY).succeed();
    let bytes = place.read("out.jsonl");
    let again = place.run("job.yaml").args(BUSY).succeed();
    assert_eq!((first.ended().as_str(), again.ended().as_str()), ("finished", "already_finished"));
    assert_eq!(again.counts("attributed"), first.counts("attributed"), "the balance is that of the whole job");
    assert!(place.read("out.jsonl") == bytes, "a finished job writes nothing");
    let said = place.riverrun(&["run", "job.yaml"]).args(BUSY).succeed();
    assert!(said.stderr.contains("finished") || String::from_utf8_lossy(&said.stdout).contains("finished"), "{said}");
}

#[test]
fn a_second_process_on_the_same_state_is_refused_with_the_name_of_the_first() {
    let place = filled(82);
    let mut first = slow(&place).start();
    first.catch_once_written(&place.path("out.jsonl"));
    let id = first.id().to_string();
    slow(&place).fail(75, &["already running", &id, "attribution"]);
    let finished = first.finish();
    assert_eq!(finished.code, Some(0), "the first goes on: {finished}");
}

#[test]
fn fresh_starts_over_and_replaces_what_the_job_wrote() {
    let place = filled(83);
    place.run("job.yaml").args(BUSY).succeed();
    let bytes = place.read("out.jsonl");
    let again = place.run("job.yaml").args(BUSY).arg("--fresh").succeed();
    assert_eq!(again.ended(), "finished");
    assert!(place.read("out.jsonl") == bytes, "the same input gives the same bytes, once");
    // A run that is in the middle of it is given up as well.
    let mut running = slow(&place).arg("--fresh").start();
    running.catch_once_written(&place.path("out.jsonl"));
    running.kill();
    place.run("job.yaml").args(BUSY).arg("--fresh").succeed();
    assert!(place.read("out.jsonl") == bytes);
}

#[test]
fn a_file_that_is_not_the_jobs_is_refused_unless_it_may_append() {
    let place = filled(84);
    place.write("out.jsonl", "{\"precious\":true}\n");
    place.run("job.yaml").fail(78, &["out.jsonl", "--append"]);
    assert_eq!(place.read("out.jsonl"), b"{\"precious\":true}\n", "it is as it was");
    place.run("job.yaml").arg("--fresh").fail(78, &["out.jsonl", "--append"]);
    assert_eq!(place.read("out.jsonl"), b"{\"precious\":true}\n", "it is as it was");
    place.run("job.yaml").arg("--append").succeed();
    let whole = place.read("out.jsonl");
    let other = filled(84);
    other.run("job.yaml").succeed();
    let expected = [b"{\"precious\":true}\n".to_vec(), other.read("out.jsonl")].concat();
    assert!(whole == expected, "rows were added to what was there");
}

#[test]
fn a_topic_that_is_not_the_jobs_is_refused_unless_it_may_append() {
    let place = filled(87);
    let precious: &[u8] = b"{\"precious\":true}";
    let job = jobs::attribution(Over::Files, Model::Last);
    place.write(
        "job.yaml",
        job.replace("out: { from: attributed, file: { path: out.jsonl }", "out: { from: attributed, topic: out"),
    );
    topics::append(&mut topics::producer(&place.path("topics"), "out", 1), [precious]);
    let run = || place.run("job.yaml").args(&["--topics", "topics"]);
    run().fail(78, &["`out`", "--append"]);
    assert_eq!(topics::count(&place.path("topics"), "out"), 1, "it is as it was");
    run().arg("--append").succeed();
    let records = topics::records(&place.path("topics"), "out");
    let calm = filled(87);
    calm.run("job.yaml").succeed();
    let added: Vec<&[u8]> = records[1..].iter().map(|record| &record.value[..]).collect();
    let rows = calm.read("out.jsonl");
    let expected: Vec<&[u8]> = rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).collect();
    assert!(records[0].value == precious && added == expected, "rows were added to what was there");
}

#[test]
fn a_job_that_goes_on_until_it_is_stopped_is_not_asked_to_end_by_itself() {
    let place = Place::new();
    place.write("job.yaml", jobs::minutes(Over::Topics));
    drop(topics::producer(&place.path("topics"), "clicks", 1));
    let run = || place.run("job.yaml").args(&["--topics", "topics"]);
    let mut running = run().start();
    running.until("its state", || place.path(".riverrun/state/jobs/item-minutes/log").is_dir());
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
    run().arg("--until-end").fail(78, &["`clicks`", "until it is stopped", "SIGTERM", "--fresh"]);
    let ended = run().args(&["--until-end", "--fresh"]).succeed();
    assert_eq!(ended.ended(), "finished", "{ended}");
    // The other way round it ends, and says so.
    let again = run().succeed();
    assert!(again.stderr.contains("was begun with --until-end"), "{again}");
}

#[test]
fn a_changed_job_file_is_refused_with_the_ways_out() {
    let place = filled(85);
    let mut running = slow(&place).start();
    running.catch_once_written(&place.path("out.jsonl"));
    running.signal(Stop::Terminate);
    running.finish();
    let bytes = place.read("out.jsonl");
    let changed = jobs::attribution(Over::Files, Model::Last).replace("window: 30m", "window: 31m");
    place.write("job.yaml", changed);
    slow(&place).fail(78, &["attribution", "changed", "--fresh", "drain"]);
    assert!(place.read("out.jsonl") == bytes, "nothing was touched");
    // A change that changes no meaning is none.
    let reworded =
        jobs::attribution(Over::Files, Model::Last).replace("job: attribution", "# better\njob: attribution");
    place.write("job.yaml", reworded);
    slow(&place).succeed();
}

#[test]
fn a_faulty_job_file_is_refused_with_all_its_faults_before_anything_is_touched() {
    let place = filled(86);
    let faulty = jobs::attribution(Over::Files, Model::Last)
        .replace("sources:", "checkpoint: { every: 10 parsecs }\nsources:")
        .replace("out: { from: attributed,", "out: { from: atributed,")
        .replace("event_type = 'click'", "event_typ = 'click'");
    place.write("job.yaml", faulty);
    let told =
        place.riverrun(&["run", "job.yaml"]).fail(78, &["job.yaml:", "parsecs", "`atributed`", "`event_typ`", "hint"]);
    assert_eq!(told.stderr.matches("error[J").count(), 3, "{told}");
    assert!(!place.path("out.jsonl").exists() && !place.path(".riverrun").exists());
    place.run("no-such-job.yaml").fail(3, &["no-such-job.yaml"]);
}
