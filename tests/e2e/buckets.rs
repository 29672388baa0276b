//! State in a bucket of an S3-compatible store: everything is as it is with a folder, and a network that fails changes no byte.

use std::time::Duration;

use serde_json::Value;

use crate::oracle::Model;
use crate::support::cloud::Cloud;
use crate::support::jobs::{self, Over};
use crate::support::process::{Finished, Invocation};
use crate::support::proxy::{FAULTS, Fault, Weather};
use crate::support::server::CREDENTIALS;
use crate::support::{Dice, Place, Running, Shop, Shopping};

/// How often a run is killed if nobody says otherwise; RIVERRUN_KILLS says otherwise.
const KILLS: u64 = 6;

/// A store far away: a run takes its time.
const FAR: Weather = Weather { fault_one_in: 0, delay_ms_max: 150, delay_ms_min: 100, slow_one_in: 0, away: false };
/// A store that cannot be reached.
const AWAY: Weather = Weather { fault_one_in: 0, delay_ms_max: 0, delay_ms_min: 0, slow_one_in: 0, away: true };

fn shopping(seed: u64) -> Shopping {
    Shop { seed, rows: 3000, ..Shop::default() }.open()
}

/// So many rows that a job with a store far away is in the middle of them when it is met.
fn long(seed: u64) -> Shopping {
    Shop { seed, rows: 15_000, ..Shop::default() }.open()
}

fn filled(shopping: &Shopping) -> Place {
    let place = Place::new();
    shopping.write(&place);
    // What `BUSY` sets, where every command sees it.
    let pace = "tick: { max_rows: 200 }\ncommit: { every: 10ms }\ncheckpoint: { every: 50ms }\n";
    place.write("job.yaml", jobs::attribution(Over::Files, Model::Last) + pace);
    place
}

fn files(place: &Place) -> [Vec<u8>; 3] {
    ["out.jsonl", "bad.jsonl", "late.jsonl"].map(|file| place.read(file))
}

/// What a run with its state in a folder gives.
fn calm(shopping: &Shopping) -> [Vec<u8>; 3] {
    let place = filled(shopping);
    place.run("job.yaml").workers(1).succeed();
    files(&place)
}

fn document(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

/// Waits until the run has written something to `file`.
fn until_written(running: &mut Running, place: &Place, file: &str) {
    let path = place.path(file);
    running.until("a row", || std::fs::metadata(&path).is_ok_and(|file| file.len() > 0));
}

#[test]
fn a_bucket_gives_the_same_bytes_as_a_folder_and_answers_every_command() {
    let Some(cloud) = Cloud::open(1) else { return };
    let shopping = shopping(900);
    let place = filled(&shopping);
    let duckdb = crate::tables::duckdb();
    let finished = cloud.keep(place.run("job.yaml").workers(2), "a/b").succeed();
    assert_eq!(finished.ended(), "finished");
    assert!(files(&place) == calm(&shopping), "the bytes differ from those with a folder");
    assert!(!place.path(".riverrun").exists(), "nothing is kept here");
    let objects = cloud.objects("");
    assert!(objects.iter().all(|object| object.starts_with("a/b/jobs/attribution/")), "{objects:?}");

    let command = |arguments: &[&str]| cloud.keep(place.riverrun(arguments).args(&["-o", "json"]), "a/b");
    let again = command(&["run", "job.yaml"]).succeed();
    assert_eq!(again.ended(), "already_finished");
    let listed = document(&command(&["checkpoints", "ls", "attribution"]).succeed());
    assert_eq!(listed["running"], Value::Null, "a bucket has no locks: nobody knows");
    let tick = listed["checkpoints"][0]["tick"].as_u64().expect("there is a checkpoint");
    let shown = document(&command(&["checkpoints", "show", "attribution"]).succeed());
    assert_eq!(shown["tick"].as_u64(), Some(tick));
    let verified = document(&command(&["checkpoints", "verify", "job.yaml"]).succeed());
    assert!(verified["findings"].as_array().is_some_and(Vec::is_empty), "{verified}");
    command(&["checkpoints", "pin", "job.yaml", "end"]).succeed();
    assert!(cloud.objects("a/b/jobs/attribution/savepoints/").len() == 1, "the savepoint is in the bucket");
    command(&["checkpoints", "pin", "job.yaml", "end", "--tick", &(tick + 1).to_string()]).fail(3, &["no checkpoint"]);
    command(&["checkpoints", "diff", "job.yaml", "latest", "latest"]).succeed();
    command(&["checkpoints", "unpin", "job.yaml", "end"]).succeed();
    let script = command(&["checkpoints", "query", "job.yaml", "--print-script"]).succeed();
    let script = String::from_utf8_lossy(&script.stdout).into_owned();
    assert!(script.contains("read_parquet('s3://riverrun-tests/a/b/jobs/attribution/state/"), "{script}");
    if let Some(duckdb) = duckdb {
        // The last checkpoint of a finished job holds nothing any more.
        let oldest = listed["checkpoints"].as_array().and_then(|all| all.last()).expect("there are checkpoints");
        let oldest = oldest["tick"].to_string();
        let tables = document(&command(&["checkpoints", "query", "job.yaml", "--checkpoint", &oldest]).succeed());
        let seen = tables.as_array().and_then(|all| all.iter().find(|table| table["view"] == "attributed_seen"));
        let rows = seen.map_or(&Value::Null, |table| &table["rows"]);
        let path = format!("{duckdb}:{}", std::env::var("PATH").unwrap_or_default());
        let sql = "select count(*) as n from attributed_seen";
        let counted = command(&["checkpoints", "query", "job.yaml", sql, "--checkpoint", &oldest]).env("PATH", path);
        assert_eq!(&document(&counted.succeed())[0]["n"], rows, "DuckDB sees what is stored");
        assert!(rows.as_u64().is_some_and(|rows| rows > 0), "{tables}");
    }
    let replayed = command(&["replay", "job.yaml", "--recorded", "--out", "again", "-w", "3"]).finish();
    assert_eq!(replayed.code, Some(0), "{replayed}");
    let upgrade = document(&command(&["upgrade", "job.yaml", "--dry-run"]).succeed());
    assert_eq!(upgrade["status"], "up_to_date");
    let fresh = command(&["run", "job.yaml", "--fresh"]).succeed();
    assert_eq!(fresh.ended(), "finished");
    assert!(files(&place) == calm(&shopping), "begun anew, it gives the same");
    command(&["checkpoints", "verify", "job.yaml"]).succeed();
}

#[test]
fn kills_and_a_network_that_fails_change_no_byte() {
    let Some(cloud) = Cloud::open(2) else { return };
    let shopping = shopping(901);
    let promised = calm(&shopping);
    let kills = std::env::var("RIVERRUN_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let mut dice = Dice::new(901);
    cloud.becomes(Weather { fault_one_in: 4, delay_ms_max: 10, ..Weather::default() });
    let (mut killed, mut round) = (0, 0);
    while killed < kills {
        let (place, prefix) = (filled(&shopping), format!("round-{round}"));
        round += 1;
        loop {
            let run = cloud.keep(place.run("job.yaml").workers(1 + killed as usize % 3), &prefix);
            let mut running = run.start();
            if killed < kills && !running.ends_within(dice.moment(Duration::from_millis(3000))) {
                running.kill();
                killed += 1;
                continue;
            }
            let finished = running.finish();
            assert_eq!(finished.code, Some(0), "after {killed} kills: {finished}");
            break;
        }
        assert!(files(&place) == promised, "after {killed} kills the bytes differ");
        cloud.keep(place.riverrun(&["checkpoints", "verify", "job.yaml"]), &prefix).succeed();
    }
    let met: Vec<(Fault, u64)> = FAULTS.iter().map(|fault| (*fault, cloud.network.met(*fault))).collect();
    assert!(met.iter().all(|(_, times)| *times > 0), "some fault never happened: {met:?}");
    eprintln!("{} requests, up to {} at once, {met:?}", cloud.network.requests(), cloud.network.at_once());
}

#[test]
fn of_two_starts_the_later_one_runs_the_job_and_the_earlier_one_ends() {
    let Some(cloud) = Cloud::open(3) else { return };
    let shopping = long(902);
    let promised = calm(&shopping);
    let place = filled(&shopping);
    cloud.becomes(FAR);
    let mut first = cloud.keep(place.run("job.yaml"), "two").start();
    until_written(&mut first, &place, "out.jsonl");
    // The first is cut off from the store, and does not know why. Elsewhere, with all that the first has written, a second starts.
    cloud.becomes(AWAY);
    let before = cloud.network.turned_away();
    first.until("requests that fail", || cloud.network.turned_away() > before + 3);
    let elsewhere = Place::new();
    let copied = std::process::Command::new("cp").arg("-a").arg(place.path(".")).arg(elsewhere.folder()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let other_way = cloud.another_way(6);
    let finished = cloud.keep_by(&other_way, elsewhere.run("job.yaml"), "two").succeed();
    assert_eq!(finished.ended(), "finished");
    assert!(files(&elsewhere) == promised, "the second goes on where the first was");
    cloud.becomes(Weather::default());
    let fenced = first.finish();
    assert_eq!(fenced.code, Some(75), "{fenced}");
    assert!(fenced.stderr.contains("generation 2"), "{fenced}");
    assert!(promised[0].starts_with(&place.read("out.jsonl")), "nothing that it wrote is wrong");
    cloud.keep(elsewhere.riverrun(&["checkpoints", "verify", "job.yaml"]), "two").succeed();
    let again = cloud.keep(elsewhere.run("job.yaml"), "two").succeed();
    assert_eq!(again.ended(), "already_finished", "nothing that it did counts");
}

#[test]
fn a_store_that_goes_away_delays_the_job_or_ends_it_and_loses_nothing() {
    let Some(cloud) = Cloud::open(4) else { return };
    let shopping = long(903);
    let promised = calm(&shopping);
    // It comes back in time.
    let place = filled(&shopping);
    cloud.becomes(FAR);
    let (mut running, admin) = crate::admin::start(cloud.keep(place.run("job.yaml"), "delayed"));
    let counted = || {
        let page = crate::admin::series(&crate::admin::get(&admin, "/metrics").body);
        let ours = |name: &String| name.starts_with("riverrun_checkpoint_storage_errors_total");
        page.iter().filter(|(name, _)| ours(name)).map(|(_, count)| *count as u64).sum::<u64>()
    };
    until_written(&mut running, &place, "out.jsonl");
    let (before, counted_before) = (cloud.network.turned_away(), counted());
    cloud.becomes(AWAY);
    // Each is counted; some of them may be under way when it is looked.
    running.until("requests that fail", || counted() > counted_before + 5);
    assert!(counted() - counted_before <= cloud.network.turned_away() - before, "more failed than were turned away");
    cloud.becomes(Weather::default());
    let finished = running.finish();
    assert_eq!((finished.code, finished.ended().as_str()), (Some(0), "finished"), "{finished}");
    assert!(finished.stderr.contains("the store of the state fails"), "it is said: {finished}");
    assert!(files(&place) == promised, "the bytes differ");
    // It does not.
    let place = filled(&shopping);
    cloud.becomes(FAR);
    let run = |patience: &str| cloud.keep(place.run("job.yaml").args(&["--state-patience", patience]), "ended");
    let mut running = run("10s").start();
    until_written(&mut running, &place, "out.jsonl");
    cloud.becomes(AWAY);
    let failed = running.finish();
    assert_eq!(failed.code, Some(74), "{failed}");
    for part in ["s3://riverrun-tests/ended/jobs/attribution/", "the store failed", "--state-patience"] {
        assert!(failed.stderr.contains(part), "`{part}` is not said: {failed}");
    }
    assert!(place.read("out.jsonl").len() < promised[0].len(), "it was in the middle");
    cloud.becomes(Weather::default());
    assert_eq!(run("2m").succeed().ended(), "finished");
    assert!(files(&place) == promised, "a restart goes on where it stopped");
}

#[test]
fn what_is_wrong_is_said_and_no_secret_is() {
    let Some(cloud) = Cloud::open(5) else { return };
    let shopping = Shop { seed: 904, rows: 300, ..Shop::default() }.open();
    let place = filled(&shopping);
    let check = |command: Invocation, code: i32, says: &[&str]| {
        let finished = command.env("RIVERRUN_LOG", "trace").fail(code, says);
        let said = finished.stderr.clone() + &String::from_utf8_lossy(&finished.stdout);
        for (_, secret) in &CREDENTIALS[1..3] {
            assert!(!said.contains(secret), "a secret was said");
        }
    };
    let run = |patience: &str| place.run("job.yaml").args(&["--state-patience", patience, "--state"]);
    check(
        cloud.reach(run("1m").arg("s3://no-such-bucket/x")),
        74,
        &["s3://no-such-bucket/x", "NoSuchBucket", "create the bucket"],
    );
    check(cloud.reach(run("1s").arg("s3://id:canary-secret-key@bucket/x")), 2, &["AWS_ACCESS_KEY_ID"]);
    check(cloud.reach(run("1s").arg("gs://bucket/x")), 2, &["`gs` is not known"]);
    let plain = cloud.reach(run("1s").arg("s3://riverrun-tests/x")).env("AWS_ALLOW_HTTP", "false");
    check(plain, 74, &["AWS_ALLOW_HTTP", "unencrypted"]);
    // Nobody listens at a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = cloud.reach(run("1s").arg("s3://riverrun-tests/x")).env("AWS_ENDPOINT_URL", format!("http://{free}"));
    check(nobody, 74, &["s3://riverrun-tests/x", "the store failed", "AWS_ENDPOINT_URL"]);
    let nameless = run("1s").arg("s3://riverrun-tests/x").env("AWS_METADATA_ENDPOINT", format!("http://{free}"));
    let endpoint = format!("http://{}", cloud.network.address());
    check(
        nameless.env("AWS_ENDPOINT_URL", endpoint).env("AWS_ALLOW_HTTP", "true"),
        74,
        &["no credentials", "AWS_SECRET_ACCESS_KEY"],
    );
    // With everything in its place the log at its most talkative shows no secret either.
    let well = cloud.keep(place.run("job.yaml"), "x").env("RIVERRUN_LOG", "trace").succeed();
    assert!(!CREDENTIALS[1..3].iter().any(|(_, secret)| well.stderr.contains(secret)), "a secret was logged");
}
