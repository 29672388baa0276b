//! Replays that a manager keeps: jobs of their own beside the job, with the rows of a run from there, whoever is killed.

use super::{Managed, SLOW, fill, kill};
use crate::support::{Place, topics};

/// What the sinks wrote to topics that begin so, by partition.
fn rows(place: &Place, prefix: &str) -> Vec<(u32, Vec<u8>)> {
    let records = |sink: &str| topics::records(&place.path("topics"), &format!("{prefix}{sink}"));
    ["out", "bad", "late"].iter().flat_map(|sink| records(sink)).map(|it| (it.partition, it.value)).collect()
}

#[test]
fn a_replay_beside_a_job_gives_the_rows_of_a_run_from_there_and_the_job_does_not_notice() {
    let managed = Managed::with_traffic(720);
    let calm = Place::new();
    fill(&calm, 720);
    calm.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(SLOW).succeed();
    managed.submit("job.yaml", &[]);
    let before = managed.until_phase("attribution", "running");
    let live = managed.one_alive();

    let replay = |name: &str| managed.cli(&["replay", "attribution", "--from", "earliest", "--as", name]);
    let done = replay("again").succeed().document();
    assert_eq!((done["job"].as_str(), done["state"].as_str()), (Some("attribution@again"), Some("succeeded")));
    assert!(rows(&managed.place, "again.") == rows(&calm, ""), "it differs from a run over the same past");
    let status = managed.status("attribution@again");
    assert_eq!((&status["job"]["phase"], &status["job"]["replay"]["of"]), (&"finished".into(), &"attribution".into()));

    // Its name is that of its job, whatever is set.
    replay("other").args(&["--set", "job=bank"]).fail(2, &["attribution@other", "bank@other"]);

    // A process of a replay that is killed is started again; one that is stopped goes on.
    replay("hurt").args(&["--rate", "150/s", "--detach"]).succeed();
    managed.until("attribution@hurt", "rows", |_| topics::count(&managed.place.path("topics"), "hurt.out") > 0);
    let hurt = managed.alive().into_iter().find(|pid| *pid != live).unwrap();
    kill(hurt);
    managed.until("attribution@hurt", "another generation", |status| status["job"]["generation"] == 2);
    managed.until_phase("attribution@hurt", "running");
    managed.cli(&["stop", "attribution@hurt"]).succeed();
    managed.cli(&["rescale", "attribution@hurt", "--processes", "2"]).fail(2, &["one process"]);
    managed.cli(&["resume", "attribution@hurt"]).succeed();
    managed.until_phase("attribution@hurt", "finished");
    assert!(rows(&managed.place, "hurt.") == rows(&calm, ""), "it differs from an undisturbed one");

    let listed = managed.cli(&["list"]).succeed().document();
    let names: Vec<&str> = listed["jobs"].as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["attribution", "attribution@again", "attribution@hurt"]);
    let after = managed.status("attribution");
    assert_eq!((&after["job"]["generation"], managed.one_alive()), (&before["job"]["generation"], live), "{after:#}");

    managed.cli(&["delete", "attribution@hurt", "--yes", "--purge"]).succeed();
    assert!(!managed.place.path("manager/state/jobs/attribution@hurt").exists(), "its state was to go");
    assert!(managed.place.path("manager/state/jobs/attribution").exists(), "the job has its own");
}

#[test]
fn a_replay_that_cannot_be_is_refused_and_leaves_nothing() {
    let managed = Managed::with_traffic(721);
    managed.submit("job.yaml", &[]);
    let replay = |range: &[&str]| managed.cli(&["replay", "attribution"]).args(range);
    replay(&[]).fail(2, &["--from"]);
    replay(&["--from", "yesterday"]).fail(2, &["yesterday"]);
    replay(&["--from", "nothing:0=1"]).fail(2, &["`nothing`"]);
    replay(&["--from", "earliest", "--to", "2h", "--then-live"]).fail(2, &["--then-live"]);
    replay(&["--from", "earliest", "--set", "sources.clicks.topic=7,"]).fail(78, &["clicks"]);
    replay(&["--from", "earliest", "--set", "job=x${env:NOT_GIVEN}"]).fail(78, &["NOT_GIVEN"]);
    replay(&["--from", "earliest", "--fresh"]).fail(2, &["--fresh"]);
    managed.cli(&["replay", "nobody", "--from", "earliest"]).fail(3, &["nobody"]);
    managed.cli(&["replay", "../x", "--from", "earliest"]).fail(2, &["name"]);
    assert_eq!(managed.cli(&["list"]).succeed().document()["jobs"].as_array().unwrap().len(), 1);

    replay(&["--from", "earliest", "--as", "one"]).succeed();
    replay(&["--from", "earliest", "--as", "one"]).fail(5, &["another name"]);
    managed.cli(&["replay", "attribution@one", "--from", "earliest"]).fail(5, &["itself a replay"]);
    // A range that is not there fails when it is read, and says so.
    let gone = replay(&["--from", "clicks:0=900000", "--as", "gone"]).finish();
    assert_ne!(gone.code, Some(0), "{gone}");
    assert_eq!(managed.status("attribution@gone")["job"]["phase"], "failed");
    // No job file can have the name of a replay.
    managed.cli(&["submit", "job.yaml", "--set", "job=attribution@two"]).fail(78, &[]);
}
